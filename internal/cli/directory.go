package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) directoriesCommand() *cobra.Command {
	c := &cobra.Command{Use: "directories", Short: "What directories write about people and groups (SCIM), and the tokens they write with"}
	return withCommands(c, a.listDirectoriesCommand(), a.scimTokenCommand(), a.revokeTokenCommand())
}

func (a *app) listDirectoriesCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the directories, what they wrote, and their tokens", Args: cobra.NoArgs, Example: "  lockkeeper directories list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var list api.WritingDirectories
			if err := client.Call(c.Context(), "GET", "/directories/written", nil, &list); err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				if len(list.Directories) == 0 {
					fmt.Fprintln(w, "The catalog has no directory.")
				}
				for _, d := range list.Directories {
					printDirectory(w, d)
				}
			})
		}}
}

func printDirectory(w io.Writer, d api.WritingDirectory) {
	writes := "writes nothing"
	if d.Writes {
		writes = fmt.Sprintf("wrote %d users and %d groups; %d accounts are off", d.Users, d.Groups, d.Off)
	}
	fmt.Fprintf(w, "%-20s %-10s %s\n", d.Name, d.Platform, writes)
	if !d.Believed.IsZero() {
		fmt.Fprintf(w, "  its groups grant until %s, unless it gets another token\n", d.Believed)
	}
	for _, t := range d.Tokens {
		fmt.Fprintf(w, "  %s  by %-12s since %s until %s\n", t.ID, t.By, t.Since, t.Expires)
	}
}

func (a *app) scimTokenCommand() *cobra.Command {
	life := 180 * 24 * time.Hour
	c := &cobra.Command{Use: "scim-token DIRECTORY", Short: "Make a token with which a directory writes; it is shown once", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper directories scim-token entra\n  lockkeeper directories scim-token okta --for 8760h",
		Long:    "Several tokens hold at once: make the new one, enter it at the directory, and then take the old one away with\n`directories revoke-token`."}
	c.Flags().DurationVar(&life, "for", life, "how long it lasts, 1h to 8784h")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var t api.MadeDirectoryToken
		if err := client.Call(c.Context(), "POST", "/directories/"+pathEscape(args[0])+"/tokens", api.MakeDirectoryToken{Seconds: int64(life / time.Second)}, &t); err != nil {
			return err
		}
		return a.print(t, func(w io.Writer) {
			fmt.Fprintf(w, "Enter this at the directory %s. The token is shown this once, and holds until %s.\n", args[0], t.Expires)
			fmt.Fprintf(w, "  URL    %s\n  token  %s\n", t.URL, t.Secret)
			fmt.Fprintf(w, "Take it away: lockkeeper directories revoke-token %s %s\n", args[0], t.ID)
		})
	}
	return c
}

func (a *app) revokeTokenCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke-token DIRECTORY ID", Short: "Take a directory's token away", Args: cobra.ExactArgs(2), Example: "  lockkeeper directories revoke-token entra w-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "DELETE", "/directories/"+pathEscape(args[0])+"/tokens/"+pathEscape(args[1]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"directory": args[0], "id": args[1], "revoked": true}, func(w io.Writer) { fmt.Fprintln(w, "Revoked.") })
		}}
}
