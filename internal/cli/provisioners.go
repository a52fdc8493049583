package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) provisionersCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "provisioners", Short: "What stands on systems that know no federation: drift, krl"}, a.driftCommand(), a.krlCommand())
}

func (a *app) driftCommand() *cobra.Command {
	return &cobra.Command{Use: "drift", Short: "Show what differs at provisioners' targets from what activations give", Args: cobra.NoArgs, Example: "  lockkeeper provisioners drift",
		Long: "Workers read each target every few minutes. What differs is an alert, too (lockkeeper access alerts), and a metric (lockkeeper_drift).",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.DriftTargets
			if err := client.Call(c.Context(), "GET", "/provisioners/drift", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, t := range out.Targets {
					printDriftTarget(w, t)
				}
				if len(out.Targets) == 0 {
					fmt.Fprintln(w, "There is no provisioner that you may see.")
				}
			})
		}}
}

func printDriftTarget(w io.Writer, t api.DriftTarget) {
	fmt.Fprintf(w, "%s (%s) at %s, on drift: %s\n", t.Provisioner, t.Kind, t.Scope, t.Action)
	switch {
	case !t.Visible:
		fmt.Fprintln(w, "  cannot be seen: nothing is done at a host")
		return
	case t.Code != "":
		fmt.Fprintf(w, "  not read    %s: %s [%s]\n", t.Failed, printable(t.Reason), t.Code)
	case t.Scanned.IsZero():
		fmt.Fprintln(w, "  not read yet by this server")
	}
	if !t.Scanned.IsZero() {
		fmt.Fprintf(w, "  read        %s\n", t.Scanned)
	}
	for _, d := range t.Found {
		fmt.Fprintf(w, "  %-16s  %s", d.Kind, printable(d.Account))
		if d.Activation != "" {
			fmt.Fprintf(w, "  of %s (%s)", d.User, d.Activation)
		}
		fmt.Fprintf(w, "  since %s  %s\n", d.Since, printable(d.Detail))
	}
	if len(t.Found) == 0 && !t.Scanned.IsZero() {
		fmt.Fprintln(w, "  nothing differs")
	}
}

// krlMagic is how a Key Revocation List begins.
var krlMagic = []byte("SSHKRL\n\x00")

func (a *app) krlCommand() *cobra.Command {
	var out string
	c := &cobra.Command{Use: "krl PROVISIONER", Short: "Fetch the list of the SSH certificates that hosts must take no more, for sshd's RevokedKeys", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper provisioners krl ledger-hosts --out /etc/ssh/lockkeeper.krl   # each minute, as root, on each host",
		Long: "It needs no sign-in. The file is replaced in one step, and only by a list: sshd lets nobody in by key while RevokedKeys\n" +
			"names a file that it cannot read. A list that is older than a certificate's lifetime is missed by nobody."}
	c.Flags().StringVar(&out, "out", "", "the file")
	_ = c.MarkFlagRequired("out") // it exists
	c.RunE = func(c *cobra.Command, args []string) error {
		var list []byte
		if err := a.client().Call(c.Context(), "GET", "/provisioners/"+pathEscape(args[0])+"/krl", nil, &list); err != nil {
			return err
		}
		if !bytes.HasPrefix(list, krlMagic) {
			return lockkeeper.Unavailable.Errorf("reply_malformed", "The server's answer is no Key Revocation List.").WithNext("Check the server's address; %s is as it was.", out)
		}
		if err := writePublic(out, list); err != nil {
			return lockkeeper.Invalid.Errorf("list_unwritable", "The list cannot be written: %v.", err).WithNext("Name another file with --out.").WithField(out)
		}
		return a.print(map[string]any{"file": out, "bytes": len(list)}, func(w io.Writer) { fmt.Fprintf(w, "%s: %d bytes\n", out, len(list)) })
	}
	return c
}

// writePublic writes a file that everybody may read, in one step: a reader sees the old
// or the new bytes, never half.
func writePublic(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".lockkeeper-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// modifiedMark says that what an activation opened was changed at the target.
func modifiedMark(x api.Activation) string {
	if x.Modified.IsZero() {
		return ""
	}
	return fmt.Sprintf("  changed outside, seen at %s", x.Modified)
}
