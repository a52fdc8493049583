package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// personalVariable holds a personal token, which then stands in the place of the
// sign-in that is kept.
const personalVariable = "LOCKKEEPER_PERSONAL_TOKEN"

func (a *app) tokensCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "tokens", Short: "Personal tokens, for programs of yours"}, a.tokensMakeCommand(), a.tokensListCommand(), a.tokensRevokeCommand())
}

func (a *app) tokensMakeCommand() *cobra.Command {
	var in api.MakeToken
	var scope string
	var length time.Duration
	c := &cobra.Command{Use: "make --name NAME --actions ACTIONS", Short: "Make a token for a program of yours", Args: cobra.NoArgs,
		Example: "  lockkeeper tokens make --name reports --actions deployments/read,catalog/read --scope /projects/payments --for 720h",
		Long: `A token does what it names, and never more than you may at that moment. It cannot
approve, activate, invite, or make tokens. Its secret is shown once; give it to the
program as ` + personalVariable + `.`}
	c.Flags().StringVar(&in.Name, "name", "", "your own word for it")
	c.Flags().StringSliceVar(&in.Actions, "actions", nil, "what it may do: actions, or patterns such as */read")
	c.Flags().StringVar(&scope, "scope", "/", "where, and below")
	c.Flags().DurationVar(&length, "for", 30*24*time.Hour, "how long it holds; 366 days (8784h) at most")
	c.MarkFlagRequired("name")
	c.MarkFlagRequired("actions")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if length%time.Second != 0 || length < time.Minute {
			return lockkeeper.Invalid.Errorf("token_life", "A token lasts whole seconds, and a minute at least.").WithNext("Ask for --for 720h.")
		}
		in.Scope, in.Seconds = lockkeeper.Scope(scope), int64(length/time.Second)
		client, err := a.person()
		if err != nil {
			return err
		}
		var t api.MadeToken
		if err := client.Call(c.Context(), "POST", "/tokens", in, &t); err != nil {
			return err
		}
		return a.print(t, func(w io.Writer) {
			printToken(w, t.PersonalToken)
			fmt.Fprintf(w, "Its secret, which is shown this once:\n  %s=%s\n", personalVariable, t.Secret)
		})
	}
	return c
}

func (a *app) tokensListCommand() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the personal tokens that hold: your own, or those that you may see", Args: cobra.NoArgs, Example: "  lockkeeper tokens list\n  lockkeeper tokens list --all"}
	path := whose(c, "/tokens")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.PersonalTokens
		if err := client.Call(c.Context(), "GET", path(), nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, t := range out.Tokens {
				printToken(w, t)
			}
			if len(out.Tokens) == 0 {
				fmt.Fprintln(w, "No token holds.")
			}
		})
	}
	return c
}

func printToken(w io.Writer, t api.PersonalToken) {
	used := "never used"
	if !t.Used.IsZero() {
		used = fmt.Sprintf("used about %s", t.Used)
	}
	var actions []string
	for _, action := range t.Actions {
		actions = append(actions, string(action))
	}
	fmt.Fprintf(w, "%s  %-16s %-12s at %s until %s, %s\n    %s\n", t.ID, t.Name, t.User, t.Scope, t.Expires, used, strings.Join(actions, ", "))
}

func (a *app) tokensRevokeCommand() *cobra.Command {
	return &cobra.Command{Use: "revoke ID", Short: "Revoke a personal token, your own or somebody else's", Args: cobra.ExactArgs(1), Example: "  lockkeeper tokens revoke k-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "DELETE", "/tokens/"+pathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Revoked.") })
		}}
}
