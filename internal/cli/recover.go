package cli

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

func (a *app) recoverCommand() *cobra.Command {
	var data, outside, keys string
	var lostKeys bool
	var r keeper.Recovery
	c := &cobra.Command{Use: "recover", Short: "Let the journal go on from an older copy, ending all that was active", Args: cobra.NoArgs,
		Long: `After an older copy of the data folder was put back, the server refuses to start: its
last checkpoint says that more had happened, and what was revoked since would come
back. If nothing newer can be found, recover lets the journal go on from the copy.

It begins an epoch: the log goes on under another name, every deployment, lease,
session, invitation and signing key of the copy ends, and until the administrator
whom you name has looked at the catalog and confirmed it, nobody else enters and
nothing is deployed. All of it is an entry, with your reason.

If the sealed store (sealed.db, sealed.key) is lost, --lost-keys does the same under new
signing keys: nobody has a password any more, and the administrator gets an invitation.`,
		Example: "  lockkeeper recover --data ./data --administrator dora --reason 'disk failed; back-up of Monday'\n  lockkeeper recover confirm --revision 12"}
	c.Flags().StringVar(&data, "data", "lockkeeper-data", "data folder; no server may use it")
	c.Flags().StringVar(&outside, "checkpoint", "", "file that the server keeps its last checkpoint in; default: checkpoint in the data folder")
	c.Flags().StringVar(&r.Administrator, "administrator", "", "the user who alone may sign in until he has confirmed")
	c.Flags().StringVar(&r.Reason, "reason", "", "why; it stands in the journal")
	c.Flags().BoolVar(&r.Restored, "restored", false, "the checkpoint was put back too, so that nothing seems to be lost")
	c.Flags().BoolVar(&lostKeys, "lost-keys", false, "the sealed store is lost: go on under new keys; everybody enrols anew")
	c.Flags().StringVar(&keys, "keys", "", "with --lost-keys: what `lockkeeper keys` printed; default: keys.json in the data folder")
	c.MarkFlagRequired("administrator")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if lostKeys {
			t, err := trust(cmp.Or(keys, filepath.Join(data, "keys.json")))
			if err != nil {
				return err
			}
			r.LostKeys = &t
		}
		done, err := keeper.Recover(c.Context(), keeper.Options{Dir: data, Outside: outside}, r)
		if err != nil {
			return brokenError(err)
		}
		return a.print(done, func(w io.Writer) {
			fmt.Fprintf(w, "The log goes on as %s: %d entries are kept, %s.\n", done.Log, done.Kept, lostText(done.Lost))
			fmt.Fprintf(w, "Ended: %d deployments, every session, invitation and signing key.\n", done.Ended)
			if done.Code != "" {
				fmt.Fprintf(w, "Every password is lost, too. Start the server; then %s chooses a new one:\n  lockkeeper accounts enrol --user %s --code %s\n", r.Administrator, r.Administrator, done.Code)
			}
			fmt.Fprintf(w, "Start the server; then %s looks at catalog revision %d, takes away what was revoked since, and runs\n  lockkeeper recover confirm --revision N\n", r.Administrator, done.Revision)
		})
	}
	c.AddCommand(a.confirmRecoveryCommand(), a.recoverIncidentCommand())
	return c
}

func lostText(n int64) string {
	if n < 0 {
		return "and nobody knows how many are lost"
	}
	return fmt.Sprintf("%d that were signed are lost", n)
}

func (a *app) confirmRecoveryCommand() *cobra.Command {
	var in api.ConfirmRecovery
	c := &cobra.Command{Use: "confirm", Short: "Confirm, as the named administrator, what the catalog allows", Args: cobra.NoArgs,
		Example: "  lockkeeper recover confirm --revision 12 --comment 'bob taken out of release-managers again'"}
	c.Flags().IntVar(&in.Revision, "revision", 0, "revision of the catalog that you looked at")
	c.Flags().StringVar(&in.Comment, "comment", "", "what you found")
	c.MarkFlagRequired("revision")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/recovery/confirm", in, nil); err != nil {
			return err
		}
		return a.print(in, func(w io.Writer) {
			fmt.Fprintf(w, "Confirmed at revision %d. Everybody may sign in again.\n", in.Revision)
		})
	}
	return c
}
