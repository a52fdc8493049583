package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// tokenCommand hands the bare token to scripts that cannot run under `deploy`.
func (a *app) tokenCommand() *cobra.Command {
	var f deployFlags
	var audience, identity string
	c := &cobra.Command{Use: "token [ID --handle-file FILE | --identity PROJECT/NAME --audience AUDIENCE]", Short: "Print a token of a deployment's identity, claiming the lease first if need be, or of an identity that you may use", Args: cobra.MaximumNArgs(1),
		Example: "  id=$(lockkeeper deploy --environment test --artifact app=app.tar --detach --handle-file h --output json | jq -r .id)\n  TOKEN=$(lockkeeper token $id --handle-file h)\n  lockkeeper end $id --handle-file h --exit-code 0\n  lockkeeper token --identity payments/console --audience https://console.example",
		Long:    "It waits for the gate as `claim` does, beats the lease's heart, and prints nothing but the token. The lease ends when the\nheartbeats do, so ask again for a fresh token while the work goes on, and say how it went with `lockkeeper end`.\n\nWith --identity it is for you, signed in: a token of an identity that is for people, too, by a role that allows identities/use\nand that you hold or have activated. It ends with the activation at the latest."}
	f.shared(c)
	c.Flags().StringVar(&audience, "audience", "", "what the token is for; default: the identity's first audience")
	c.Flags().StringVar(&identity, "identity", "", "PROJECT/NAME of an identity: a token for yourself, in the place of a deployment's")
	c.RunE = func(c *cobra.Command, args []string) error {
		if identity != "" {
			return a.ownToken(c.Context(), identity, audience, args)
		}
		if len(args) == 0 || f.handleFile == "" {
			return lockkeeper.Invalid.Errorf("usage", "Name a deployment and its --handle-file, or an --identity.").WithNext("See: lockkeeper token --help")
		}
		d, err := a.oldDriver(f)
		if err != nil {
			return err
		}
		d.id = args[0]
		return deployError(a.token(c.Context(), d, audience))
	}
	return c
}

func (a *app) token(ctx context.Context, d *driver, audience string) error {
	client := a.client().With(d.handle)
	if at, err := client.Deployment(ctx, d.id, "", 0); err == nil && at.Lease != nil && at.End == nil {
		d.lease = *at.Lease
	} else if err := d.await(ctx); err != nil {
		return err
	}
	var renewed api.Renewed
	if err := client.Call(ctx, "POST", "/deployments/"+pathEscape(d.id)+"/renew", nil, &renewed); err != nil {
		return err
	}
	if audience == "" && len(d.lease.Audiences) > 0 {
		audience = d.lease.Audiences[0]
	}
	if !slices.Contains(d.lease.Audiences, audience) {
		return lockkeeper.Invalid.Errorf("audience_not_admitted", "The identity %s hands out no token for %.100q.", d.lease.Identity, audience).WithNext("Name one of: %v.", d.lease.Audiences)
	}
	token, life, err := d.exchange(ctx, audience)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"token": token, "audience": audience, "expires_in": int(life / time.Second), "lease_ends": renewed.Ends}, func(w io.Writer) { fmt.Fprintln(w, token) })
}

// ownToken prints a token of an identity for whoever is signed in.
func (a *app) ownToken(ctx context.Context, identity, audience string, args []string) error {
	project, name, ok := strings.Cut(identity, "/")
	if !ok || lockkeeper.CheckName(project) != nil || lockkeeper.CheckName(name) != nil || len(args) > 0 || audience == "" {
		return lockkeeper.Invalid.Errorf("usage", "A token for yourself takes --identity PROJECT/NAME, an --audience, and no deployment.").WithNext("See: lockkeeper token --help")
	}
	client, err := a.person()
	if err != nil {
		return err
	}
	var out api.IssuedToken
	if err := client.Call(ctx, "POST", "/identities/"+pathEscape(project)+"/"+pathEscape(name)+"/token", api.IssueToken{Audience: audience}, &out); err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) { fmt.Fprintln(w, out.Token) })
}

func (a *app) endCommand() *cobra.Command {
	var f deployFlags
	var code int
	c := &cobra.Command{Use: "end ID --handle-file FILE --exit-code N", Short: "Say how a deployment went that ran outside of `deploy` and `claim`", Args: cobra.ExactArgs(1), Example: "  lockkeeper end d-… --handle-file h --exit-code $?"}
	c.Flags().StringVar(&f.handleFile, "handle-file", "", "where the deployment's handle is kept")
	c.Flags().StringVar(&f.receipt, "receipt", "", "write the signed receipt to this file")
	c.Flags().IntVar(&code, "exit-code", 0, "0 for a success")
	c.MarkFlagRequired("handle-file")
	c.MarkFlagRequired("exit-code")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := a.oldDriver(f)
		if err != nil {
			return err
		}
		d.id = args[0]
		at, err := d.end(code)
		if err != nil {
			return err
		}
		if err := d.keepReceipt(); err != nil {
			return err
		}
		if err := endedOtherwise(at, code); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) { printEnd(w, at) })
	}
	return c
}
