package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// showing is how a person shows a second factor.
type showing struct {
	code      string // of an authenticator app; "": it is asked for
	passkey   bool   // in a browser
	device    bool   // in one elsewhere
	noBrowser bool
}

func (s *showing) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.code, "code", "", "the code that your authenticator app shows now")
	c.Flags().BoolVar(&s.passkey, "passkey", false, "show a passkey in the browser, though you have an authenticator app")
	c.MarkFlagsMutuallyExclusive("code", "passkey")
}

// browsers are the flags of what happens in a browser.
func (s *showing) browsers(c *cobra.Command) {
	c.Flags().BoolVar(&s.device, "device", false, "show the passkey in a browser elsewhere")
	c.Flags().BoolVar(&s.noBrowser, "no-browser", false, "print the address instead of opening a browser")
}

func (a *app) factorsCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "factors", Short: "Second factors: authenticator apps and passkeys"},
		a.factorsListCommand(), a.factorsTOTPCommand(), a.factorsConfirmCommand(), a.factorsPasskeyCommand(), a.factorsRemoveCommand(), a.factorsResetCommand())
}

func (a *app) factorsListCommand() *cobra.Command {
	var user string
	c := &cobra.Command{Use: "list", Short: "List your second factors, or those of a user that you may see", Args: cobra.NoArgs, Example: "  lockkeeper factors list"}
	c.Flags().StringVar(&user, "user", "", "whose")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Factors
		if err := client.Call(c.Context(), "GET", "/factors?"+url.Values{"user": {user}}.Encode(), nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, f := range out.Factors {
				printFactor(w, f)
			}
			if len(out.Factors) == 0 {
				fmt.Fprintf(w, "%s has no second factor.\n", out.User)
			}
		})
	}
	return c
}

func printFactor(w io.Writer, f api.Factor) {
	fmt.Fprintf(w, "%s  %-8s %-16s since %s\n", f.ID, f.Kind, f.Name, f.Since)
}

func (a *app) factorsTOTPCommand() *cobra.Command {
	var in api.BeginFactor
	c := &cobra.Command{Use: "totp", Short: "Register an authenticator app", Args: cobra.NoArgs, Example: "  lockkeeper factors totp --name phone",
		Long: `The secret is shown once. On a terminal the command asks for the app's first code; without
one, give it to lockkeeper factors confirm.`}
	c.Flags().StringVar(&in.Name, "name", "app", "your own word for it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var b api.BegunTOTP
		if err := client.Call(c.Context(), "POST", "/factors/totp", in, &b); err != nil {
			return err
		}
		f, is := a.in.(*os.File)
		if a.output == "json" || !is || !term.IsTerminal(int(f.Fd())) {
			return a.print(b, func(w io.Writer) {
				fmt.Fprintf(w, "Its secret, which is shown this once:\n  %s\n  %s\nRegister it with the code that the app shows: lockkeeper factors confirm %s --code …\n", b.Secret, b.URI, b.ID)
			})
		}
		fmt.Fprintf(a.err, "Enter this secret in the app, or make a QR code of the address. Both are shown this once:\n  %s\n  %s\n", b.Secret, b.URI)
		code, err := a.password("", "The code that it shows")
		if err != nil {
			return err
		}
		return a.confirmFactor(c.Context(), b.ID, code)
	}
	return c
}

func (a *app) factorsConfirmCommand() *cobra.Command {
	var code string
	c := &cobra.Command{Use: "confirm ID --code CODE", Short: "Register the authenticator app whose code you show", Args: cobra.ExactArgs(1), Example: "  lockkeeper factors confirm f-… --code 123456",
		RunE: func(c *cobra.Command, args []string) error { return a.confirmFactor(c.Context(), args[0], code) }}
	c.Flags().StringVar(&code, "code", "", "the code that the app shows now")
	c.MarkFlagRequired("code")
	return c
}

func (a *app) confirmFactor(ctx context.Context, id, code string) error {
	client, err := a.person()
	if err != nil {
		return err
	}
	var f api.Factor
	if err := client.Call(ctx, "POST", "/factors/totp/"+pathEscape(id)+"/confirm", api.Code{Code: code}, &f); err != nil {
		return err
	}
	return a.registered(f)
}

func (a *app) registered(f api.Factor) error {
	return a.print(f, func(w io.Writer) {
		printFactor(w, f)
		fmt.Fprintln(w, "Registered. Register a second one, so that losing one locks nobody out.")
	})
}

func (a *app) factorsPasskeyCommand() *cobra.Command {
	var name string
	var s showing
	c := &cobra.Command{Use: "passkey", Short: "Register a passkey, in a browser", Args: cobra.NoArgs, Example: "  lockkeeper factors passkey --name laptop\n  lockkeeper factors passkey --name key --device"}
	c.Flags().StringVar(&name, "name", "passkey", "your own word for it")
	s.browsers(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		out, err := a.inBrowser(c.Context(), client, api.BeginPasskey{Purpose: "register", Name: name}, s)
		if err != nil {
			return err
		}
		if out.Factor == nil {
			return fmt.Errorf("the server registered nothing")
		}
		return a.registered(*out.Factor)
	}
	return c
}

func (a *app) factorsRemoveCommand() *cobra.Command {
	return &cobra.Command{Use: "remove ID", Short: "Remove one of your second factors", Args: cobra.ExactArgs(1), Example: "  lockkeeper factors remove f-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "DELETE", "/factors/"+pathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Removed.") })
		}}
}

func (a *app) factorsResetCommand() *cobra.Command {
	var in api.ResetFactors
	c := &cobra.Command{Use: "reset USER --reason WHY", Short: "Take all second factors of somebody away, who has lost them", Args: cobra.ExactArgs(1), Example: "  lockkeeper factors reset bob --reason 'lost the phone; seen in person'",
		Long: `It ends his sign-ins and his tokens. Until he has proved himself by a run on a CI platform
(lockkeeper accounts challenge), the account counts as you, too.`}
	c.Flags().StringVar(&in.Reason, "reason", "", "why, and how you know that it is he who asks")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/accounts/"+pathEscape(args[0])+"/factors/reset", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"user": args[0]}, func(w io.Writer) {
			fmt.Fprintf(w, "%s has no second factor any more. Until he has proved himself, the account counts as you, too.\n", args[0])
		})
	}
	return c
}

func (a *app) stepUpCommand() *cobra.Command {
	var s showing
	c := &cobra.Command{Use: "step-up", Short: "Show a second factor again, on the sign-in that holds", Args: cobra.NoArgs,
		Example: "  lockkeeper step-up\n  lockkeeper step-up --code 123456\n  lockkeeper step-up --passkey",
		Long:    `Rules may ask that whoever activates a role or approves has shown a credential just now.`}
	s.flags(c)
	s.browsers(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var own api.Factors
		if err := client.Call(c.Context(), "GET", "/factors", nil, &own); err != nil {
			return err
		}
		var kinds []string
		for _, f := range own.Factors {
			kinds = append(kinds, f.Kind)
		}
		if len(kinds) == 0 {
			return lockkeeper.Forbidden.Errorf("factors_none", "You have no second factor.").WithNext("Register one (lockkeeper factors passkey, or lockkeeper factors totp), or sign in again: lockkeeper login --anew")
		}
		if s.byPasskey(kinds) {
			_, err = a.inBrowser(c.Context(), client, api.BeginPasskey{Purpose: "step-up"}, s)
		} else if s.code, err = a.codeOf(s); err == nil {
			err = client.Call(c.Context(), "POST", "/step-up", api.Code{Code: s.code}, nil)
		}
		if err != nil {
			return err
		}
		return a.print(map[string]bool{"stepped_up": true}, func(w io.Writer) { fmt.Fprintln(w, "Stepped up.") })
	}
	return c
}

// byPasskey reports whether a passkey is shown, given the kinds that the person has.
func (s showing) byPasskey(kinds []string) bool {
	return s.passkey || s.code == "" && !slices.Contains(kinds, "totp")
}

func (a *app) codeOf(s showing) (string, error) {
	if s.code != "" {
		return s.code, nil
	}
	return a.password("", "The code that your authenticator app shows")
}

// secondFactor finishes a sign-in whose password was right.
func (a *app) secondFactor(ctx context.Context, needed api.FactorNeeded, s showing) (api.Session, error) {
	var out api.Session
	if s.byPasskey(needed.Factors) {
		done, err := a.inBrowser(ctx, a.client(), api.BeginPasskey{Purpose: "sign-in", Ticket: needed.Ticket}, s)
		if err == nil && done.Session == nil {
			err = fmt.Errorf("the server opened no session")
		}
		if err != nil {
			return out, err
		}
		return *done.Session, nil
	}
	code, err := a.codeOf(s)
	if err != nil {
		return out, err
	}
	err = a.client().Call(ctx, "POST", "/sessions/factor", api.FinishSignIn{Ticket: needed.Ticket, Code: code}, &out)
	return out, err
}
