package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) dutiesCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "duties", Short: "What activations opened outside and has to be undone: list, show, attest"},
		a.listDutiesCommand(), a.showDutyCommand(), a.attestDutyCommand())
}

func (a *app) listDutiesCommand() *cobra.Command {
	var forced bool
	c := &cobra.Command{Use: "list", Short: "List what is opened outside and has to be undone, what is owed first", Args: cobra.NoArgs, Example: "  lockkeeper duties list\n  lockkeeper duties list --forced"}
	c.Flags().BoolVar(&forced, "forced", false, "those that were closed on the word of two persons, newest first")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		path := "/duties"
		if forced {
			path += "?forced=true"
		}
		var out api.Duties
		if err := client.Call(c.Context(), "GET", path, nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, d := range out.Duties {
				fmt.Fprintf(w, "%s  %-15s  %s at %s (%s), of %s\n", d.ID, d.Status, printable(d.Account), d.Provisioner, d.Kind, d.User)
			}
			if len(out.Duties) == 0 {
				fmt.Fprintln(w, "Nothing is open.")
			}
		})
	}
	return c
}

func (a *app) showDutyCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a duty: what it is about, how it stands or ended, and why", Args: cobra.ExactArgs(1), Example: "  lockkeeper duties show o-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var d api.Duty
			if err := client.Call(c.Context(), "GET", "/duties/"+pathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return a.print(d, func(w io.Writer) { printDuty(w, d) })
		}}
}

func printDuty(w io.Writer, d api.Duty) {
	fmt.Fprintf(w, "%s: %s\n", d.ID, d.Status)
	fmt.Fprintf(w, "  account     %s at %s (%s)\n", printable(d.Account), d.Provisioner, d.Kind)
	fmt.Fprintf(w, "  activation  %s of %s at %s, until %s\n", d.Activation, d.User, d.Scope, d.Ends)
	if !d.Over.IsZero() {
		fmt.Fprintf(w, "  over        since %s\n", d.Over)
	}
	if d.Code != "" {
		fmt.Fprintf(w, "  failed      %d times, last: %s [%s]\n  next try    %s\n", d.Failures, printable(d.Reason), d.Code, d.Retry)
	}
	if d.Credentials > 0 {
		fmt.Fprintf(w, "  handed out  %d credentials\n", d.Credentials)
	}
	if !d.Outside.IsZero() {
		fmt.Fprintf(w, "  outside     a certificate of it lives until %s\n", d.Outside)
		if !d.Over.IsZero() || !d.Ended.IsZero() {
			fmt.Fprintf(w, "              hosts that fetch the list take it no more: lockkeeper provisioners krl %s\n", d.Provisioner)
		}
	}
	for _, by := range d.Attested {
		fmt.Fprintf(w, "  attested    by %s at %s: %s\n", by.User, by.At, printable(by.Comment))
	}
	if d.Covered != "" {
		fmt.Fprintf(w, "  handed to   %s, which answers for the account since\n", d.Covered)
	}
	if !d.Ended.IsZero() {
		fmt.Fprintf(w, "  ended       %s\n", d.Ended)
	}
}

func (a *app) attestDutyCommand() *cobra.Command {
	var in api.Attest
	c := &cobra.Command{Use: "attest ID --comment HOW", Short: "Give one's word that what is owed was removed by hand; the second person's ends it", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper duties attest o-… --comment 'dropped the role on the old server, looked with \\du'",
		Long:    "It takes activations/revoke at the provisioner's scope, two persons, and neither may be the one who had the access.\nBoth words stay in the journal, and the duty in `duties list --forced`."}
	c.Flags().StringVar(&in.Comment, "comment", "", "how it was removed, and how you know")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Attested
		if err := client.Call(c.Context(), "POST", "/duties/"+pathEscape(args[0])+"/attest", in, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			if out.Closed {
				fmt.Fprintln(w, "Closed: two persons have said so.")
			} else {
				fmt.Fprintf(w, "Noted. A second person ends it: lockkeeper duties attest %s --comment HOW\n", out.ID)
			}
		})
	}
	return c
}

func (a *app) credentialCommand() *cobra.Command {
	var in api.AskCredential
	var wait time.Duration
	var quiet bool
	c := &cobra.Command{Use: "credential ID", Short: "Get a login to the database that one's activation opened; the password is new at each asking", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper activations credential a-…\n  psql \"$(lockkeeper activations credential a-… --url)\""}
	c.Flags().StringVar(&in.Provisioner, "provisioner", "", "which, if the activation opened several")
	c.Flags().DurationVar(&wait, "timeout", 30*time.Second, "how long to wait until it is granted")
	c.Flags().BoolVar(&quiet, "url", false, "print only the URL, with the password in it")
	c.RunE = func(c *cobra.Command, args []string) error {
		var out api.Credential
		if err := a.onceGranted(c.Context(), wait, "/activations/"+pathEscape(args[0])+"/credential", in, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			if !quiet {
				fmt.Fprintf(w, "A login to %s, until %s; the one before is worth nothing any more:\n", out.Provisioner, out.Until)
			}
			fmt.Fprintln(w, databaseURL(out))
		})
	}
	return c
}

// databaseURL is how psql and the drivers take a login.
func databaseURL(c api.Credential) string {
	u := url.URL{Scheme: "postgresql", User: url.UserPassword(c.User, c.Password), Path: "/" + c.Database}
	if strings.HasPrefix(c.Host, "/") {
		u.RawQuery = url.Values{"host": {c.Host}, "port": {fmt.Sprint(c.Port)}}.Encode()
	} else {
		u.Host = fmt.Sprintf("%s:%d", c.Host, c.Port)
		if strings.Contains(c.Host, ":") {
			u.Host = fmt.Sprintf("[%s]:%d", c.Host, c.Port)
		}
	}
	return u.String()
}

// onceGranted asks for a credential, and again for as long as a worker has not
// granted yet what it is for.
func (a *app) onceGranted(ctx context.Context, wait time.Duration, path string, in, out any) error {
	client, err := a.person()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := client.Call(context.WithoutCancel(ctx), "POST", path, in, out)
		if r := lockkeeper.RefusalOf(err); r == nil || r.Code != "not_granted_yet" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *app) sshCommand() *cobra.Command {
	var in api.AskCertificate
	var keyFile, out string
	var wait time.Duration
	c := &cobra.Command{Use: "ssh ID --public-key FILE", Short: "Get a certificate for the hosts that one's activation opened", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper activations ssh a-… --public-key ~/.ssh/id_ed25519.pub\n  ssh -i ~/.ssh/id_ed25519 ops@host",
		Long:    "The certificate is written beside the public key, as FILE-cert.pub without the .pub of FILE, where ssh finds it by itself."}
	c.Flags().StringVar(&keyFile, "public-key", "", "your public key")
	c.Flags().StringVar(&out, "certificate", "", "where to write the certificate; default: beside the key; -: to standard output")
	c.Flags().StringVar(&in.Provisioner, "provisioner", "", "which, if the activation opened several")
	c.Flags().DurationVar(&wait, "timeout", 30*time.Second, "how long to wait until it is granted")
	_ = c.MarkFlagRequired("public-key") // it exists
	c.RunE = func(c *cobra.Command, args []string) error {
		key, err := os.ReadFile(keyFile)
		if err != nil {
			return lockkeeper.Invalid.Errorf("public_key_unreadable", "The public key cannot be read: %v.", err).WithNext("Name your public key; make one with: ssh-keygen -t ed25519").WithField(keyFile)
		}
		if strings.Contains(string(key), "PRIVATE KEY") {
			return lockkeeper.Invalid.Errorf("public_key_unfit", "%s is a private key, which nobody else ever needs.", keyFile).WithNext("Name the file that ends with .pub.")
		}
		in.PublicKey = string(key)
		var cert api.Certificate
		if err := a.onceGranted(c.Context(), wait, "/activations/"+pathEscape(args[0])+"/certificate", in, &cert); err != nil {
			return err
		}
		if out == "" {
			out = strings.TrimSuffix(keyFile, ".pub") + "-cert.pub"
		}
		if out != "-" {
			if err := os.WriteFile(out, []byte(cert.Certificate), 0o644); err != nil {
				return lockkeeper.Invalid.Errorf("certificate_unwritable", "The certificate cannot be written: %v.", err).WithNext("Name another file with --certificate.").WithField(out)
			}
		}
		return a.print(cert, func(w io.Writer) {
			if out == "-" {
				fmt.Fprint(w, cert.Certificate)
				return
			}
			fmt.Fprintf(w, "%s lets you in as %s until %s.\n", out, printable(strings.Join(cert.Principals, ", ")), cert.Until)
		})
	}
	return c
}
