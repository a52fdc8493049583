package cli

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

func (a *app) runningCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "running", Short: "What runs in environments, and whether it was let in"}, a.reportRunningCommand(), a.showRunningCommand())
}

func (a *app) reportRunningCommand() *cobra.Command {
	var tokenFile, environment string
	var artifacts []string
	c := &cobra.Command{Use: "report --environment E --artifact NAME=sha256:HEX", Short: "Say what runs in an environment, from a stage that may", Args: cobra.NoArgs,
		Long: `The stage that runs this must have the environment under running: in the catalog. What
it sees and nothing that was let in brought there is an alert (lockkeeper alerts), until
it is reported to run no more. A report that says nothing new is written down once an hour.`,
		Example: "  lockkeeper running report --environment production --artifact app=sha256:2c26…"}
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the CI platform's token, where it cannot be asked for one")
	c.Flags().StringVar(&environment, "environment", "", "environment that was looked at")
	c.Flags().StringArrayVar(&artifacts, "artifact", nil, "NAME=sha256:HEX of what runs there; may be given several times")
	c.MarkFlagRequired("environment")
	c.MarkFlagRequired("artifact")
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, err := artifactsOf(artifacts)
		if err != nil {
			return err
		}
		ci, key := ciPlatform{app: a, file: tokenFile}, randomText()
		var r api.Sighted
		err = retry(c.Context(), func() error {
			client, err := ci.client(c.Context())
			if err != nil {
				return err
			}
			return client.Call(c.Context(), "POST", "/running", api.ReportRunning{Environment: environment, Artifacts: list.Artifacts}, &r, "Idempotency-Key", key)
		})
		if err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) {
			if len(r.Strange) == 0 {
				fmt.Fprintf(w, "Everything that runs in %s of %s was let in.\n", r.Environment, r.Project)
			}
			for _, x := range r.Strange {
				fmt.Fprintf(w, "%s=%s runs in %s of %s and was not let in since the last success.\n", x.Name, x.Digest, r.Environment, r.Project)
			}
		})
	}
	return c
}

func (a *app) showRunningCommand() *cobra.Command {
	var project, environment string
	c := &cobra.Command{Use: "show", Short: "What may run in environments, what does, and since when what stood there", Args: cobra.NoArgs,
		Example: "  lockkeeper running show --project payments --environment production"}
	c.Flags().StringVar(&project, "project", "", "only of this project")
	c.Flags().StringVar(&environment, "environment", "", "only this environment")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var r api.Running
		q := url.Values{"project": {project}, "environment": {environment}}
		if err := client.Call(c.Context(), "GET", "/running?"+q.Encode(), nil, &r); err != nil {
			return err
		}
		return a.print(r, func(w io.Writer) {
			for _, e := range r.Environments {
				printRunning(w, e)
			}
		})
	}
	return c
}

func printRunning(w io.Writer, e api.RunningEnvironment) {
	fmt.Fprintf(w, "%s of %s\n", e.Environment, e.Project)
	for _, l := range e.Let {
		fmt.Fprintf(w, "  let in by %s at %s: %s\n", l.Deployment, l.At, artifactsText(l.Artifacts))
	}
	if s := e.Seen; s != nil {
		fmt.Fprintf(w, "  seen by %s/%s since %s, last at %s: %s\n", s.Pipeline, s.Stage, s.Since, s.At, artifactsText(s.Artifacts))
	} else {
		fmt.Fprintln(w, "  nobody says what runs there")
	}
	for _, x := range e.Strange {
		fmt.Fprintf(w, "  ✗ %s=%s runs there and was not let in since the last success\n", x.Name, x.Digest)
	}
	for _, s := range e.Stood {
		until := "now"
		if !s.Until.IsZero() {
			until = s.Until.String()
		}
		fmt.Fprintf(w, "  stood from %s to %s, last by %s: %s\n", s.Since, until, s.Deployment, artifactsText(s.Artifacts))
	}
}

func artifactsText(list []lockkeeper.Artifact) string {
	text := ""
	for i, x := range list {
		if i > 0 {
			text += ", "
		}
		text += x.Name + "=" + string(x.Digest)
	}
	return text
}

// findReceiptsCommand asks what an admission check asks.
func (a *app) findReceiptsCommand() *cobra.Command {
	var digest, project, environment string
	var current bool
	c := &cobra.Command{Use: "find --digest sha256:HEX", Short: "Find the deployments that let an artifact in", Args: cobra.NoArgs,
		Long:    "Lists, newest first, the deployments with this artifact that run or have succeeded. It ends with 5 if there is none,\nso that a script can ask whether something may run.",
		Example: "  lockkeeper receipt find --digest sha256:2c26… --environment production --current"}
	c.Flags().StringVar(&digest, "digest", "", "digest of the artifact")
	c.Flags().StringVar(&project, "project", "", "only of this project")
	c.Flags().StringVar(&environment, "environment", "", "only to this environment")
	c.Flags().BoolVar(&current, "current", false, "only what may run there now: the last success, and what got a lease since")
	c.MarkFlagRequired("digest")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		q := url.Values{"digest": {digest}, "project": {project}, "environment": {environment}, "current": {fmt.Sprint(current)}}
		var r api.Receipts
		if err := client.Call(c.Context(), "GET", "/receipts?"+q.Encode(), nil, &r); err != nil {
			return err
		}
		if len(r.Receipts) == 0 {
			return lockkeeper.NotFound.Errorf("not_let_in", "No deployment that runs or has succeeded let %s in there.", digest).
				WithNext("Deploy it: lockkeeper deploy --environment %s --artifact NAME=%s", environment, digest)
		}
		return a.print(r, func(w io.Writer) {
			for _, x := range r.Receipts {
				now := ""
				if x.Current {
					now = ", may run there now"
				}
				fmt.Fprintf(w, "%s let it into %s of %s at %s: %s%s\n", x.Deployment, x.Environment, x.Project, x.At, x.Status, now)
			}
		})
	}
	return c
}

// receiptKeyCommand prints the receipt key as other tools want it.
func (a *app) receiptKeyCommand() *cobra.Command {
	var keys string
	c := &cobra.Command{Use: "key", Short: "Print the key of receipts and summaries as PEM, for other tools; needs no server", Args: cobra.NoArgs,
		Example: "  lockkeeper receipt key --keys keys.json > receipt.pem"}
	c.Flags().StringVar(&keys, "keys", "keys.json", "what `lockkeeper keys` printed")
	c.RunE = func(*cobra.Command, []string) error {
		t, err := trust(keys)
		if err != nil {
			return err
		}
		raw, err := base64.StdEncoding.DecodeString(t.ReceiptKey)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return lockkeeper.Invalid.Errorf("keys_malformed", "The receipt key in the file is no Ed25519 key.").WithField(keys)
		}
		der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(raw))
		if err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		return a.print(map[string]string{"key": string(text)}, func(w io.Writer) { w.Write(text) })
	}
	return c
}

// verifySummary verifies a verification summary and prints it.
func (a *app) verifySummary(data []byte, t keeper.Trust) error {
	s, err := keeper.VerifySummary(data, t)
	if err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "The summary holds: signed, and both of its entries stand in the journal %q.\n", s.Predicate.Proof.Proofs[0].Log())
		fmt.Fprintln(w, s.Predicate)
		for _, x := range s.Subject {
			fmt.Fprintf(w, "  %s=sha256:%s\n", x.Name, x.Digest["sha256"])
		}
	})
}
