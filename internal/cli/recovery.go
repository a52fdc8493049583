package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) recoveryCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "recovery", Short: "Sealed codes for when nobody can sign in: make, collect, show, use"},
		a.makeRecoveryCommand(), a.collectRecoveryCommand(), a.showRecoveryCommand(), a.useRecoveryCommand())
}

func (a *app) makeRecoveryCommand() *cobra.Command {
	var in api.MakeRecovery
	c := &cobra.Command{Use: "make --user USER --needed M --holder USER…", Short: "Name who holds new recovery codes; those before are void", Args: cobra.NoArgs,
		Example: "  lockkeeper recovery make --user dora --needed 3 --holder ann --holder bob --holder cat --holder eve --holder rob",
		Long: `Each holder collects his own code with "recovery collect" while he can sign in, and keeps
it sealed, outside of what signs him in. So many of them together start a session of the
user, for an hour, which everybody is told about and which is reviewed. You never see a
code but your own.`}
	c.Flags().StringVar(&in.User, "user", "", "the administrator whose session the codes start")
	c.Flags().IntVar(&in.Needed, "needed", 2, "how many codes are needed, of as many persons; 2 at least")
	c.Flags().StringArrayVar(&in.Holders, "holder", nil, "a user who holds a code; as often as needed")
	c.MarkFlagRequired("user")
	c.MarkFlagRequired("holder")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/recovery/codes", in, nil); err != nil {
			return err
		}
		return a.print(in, func(w io.Writer) {
			fmt.Fprintf(w, "Made. Each of %s runs: lockkeeper recovery collect\n", strings.Join(in.Holders, ", "))
		})
	}
	return c
}

func (a *app) collectRecoveryCommand() *cobra.Command {
	return &cobra.Command{Use: "collect", Short: "Collect the recovery code that you hold; it is shown once", Args: cobra.NoArgs, Example: "  lockkeeper recovery collect",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.RecoveryCode
			if err := client.Call(c.Context(), "POST", "/recovery/codes/collect", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s\nWrite it down and seal it. It is not shown again, and it works once.\n", out.Code)
			})
		}}
}

func (a *app) showRecoveryCommand() *cobra.Command {
	return &cobra.Command{Use: "show", Short: "Show who holds recovery codes, and which were collected and used", Args: cobra.NoArgs, Example: "  lockkeeper recovery show",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var set api.RecoveryCodes
			if err := client.Call(c.Context(), "GET", "/recovery/codes", nil, &set); err != nil {
				return err
			}
			return a.print(set, func(w io.Writer) {
				if set.ID == "" {
					fmt.Fprintln(w, "There are no recovery codes.")
					return
				}
				fmt.Fprintf(w, "%d codes start a session of %s (made by %s at %s)\n", set.Needed, set.User, set.By, set.Made)
				for _, h := range set.Holders {
					state := "not collected"
					if !h.Collected.IsZero() {
						state = "collected at " + h.Collected.String()
					}
					if !h.Used.IsZero() {
						state = "used at " + h.Used.String()
					}
					fmt.Fprintf(w, "  %-16s %s\n", h.User, state)
				}
			})
		}}
}

func (a *app) useRecoveryCommand() *cobra.Command {
	var file string
	c := &cobra.Command{Use: "use", Short: "Start a session with enough recovery codes, one a line", Args: cobra.NoArgs,
		Example: "  lockkeeper recovery use <codes\n  lockkeeper recovery use --codes-file codes",
		Long: `The codes are read from the standard input or a file, never from the command line, where
others could see them. The session lasts an hour. It may apply a catalog, invite people,
stop and revoke, and nothing else.`}
	c.Flags().StringVar(&file, "codes-file", "", "read the codes from a file; default: the standard input")
	c.RunE = func(c *cobra.Command, _ []string) error {
		in := a.in
		if file != "" {
			f, err := os.Open(file)
			if err != nil {
				return lockkeeper.Invalid.Errorf("codes_file", "The file with the codes cannot be read: %v.", err)
			}
			defer f.Close()
			in = f
		}
		text, err := io.ReadAll(io.LimitReader(in, 4096))
		if err != nil {
			return err
		}
		var s api.Session
		if err := a.client().Call(c.Context(), "POST", "/recovery/sessions", api.UseRecovery{Codes: strings.Fields(string(text))}, &s); err != nil {
			return err
		}
		if err := a.saveSession(savedSession{a.server, s.User, s.Secret}); err != nil {
			return err
		}
		return a.print(map[string]any{"user": s.User, "expires": s.Expires}, func(w io.Writer) {
			fmt.Fprintf(w, "Signed in as %s until %s, by recovery codes. Everybody was told, and it will be reviewed.\n", s.User, s.Expires)
		})
	}
	return c
}
