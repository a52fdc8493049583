package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

func (a *app) receiptCommand() *cobra.Command {
	var vsa bool
	show := &cobra.Command{Use: "show ID", Short: "Fetch the signed receipt of an ended deployment", Args: cobra.ExactArgs(1), Example: "  lockkeeper receipt show d-… > receipt.json\n  lockkeeper receipt show d-… --vsa > vsa.json",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var receipt []byte
			what := "/receipt"
			if vsa {
				what = "/summary"
			}
			if err := client.Call(c.Context(), "GET", "/deployments/"+pathEscape(args[0])+what, nil, &receipt); err != nil {
				return err
			}
			_, err = a.out.Write(append(receipt, '\n'))
			return err
		}}
	show.Flags().BoolVar(&vsa, "vsa", false, "the SLSA verification summary instead: from the moment it was let through")
	var keys string
	verify := &cobra.Command{Use: "verify FILE", Short: "Verify a receipt or a verification summary offline, with the server's public keys", Args: cobra.ExactArgs(1), Example: "  lockkeeper receipt verify receipt.json --keys keys.json",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := trust(keys)
			if err != nil {
				return err
			}
			data, err := readBounded(args[0], maxProof)
			if err != nil {
				return err
			}
			if keeper.IsSummary(data, t) {
				return a.verifySummary(data, t)
			}
			s, err := keeper.VerifyReceipt(data, t)
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printReceipt(w, s) })
		}}
	verify.Flags().StringVar(&keys, "keys", "keys.json", "what `lockkeeper keys` printed")
	return withCommands(&cobra.Command{Use: "receipt", Short: "Signed receipts of deployments"}, show, verify, a.findReceiptsCommand(), a.receiptKeyCommand())
}

// maxProof bounds a file with receipts or proofs.
const maxProof = 32 << 20

// readBounded reads a file of at most so many bytes.
func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(file)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(file)
	}
	if int64(len(b)) > most {
		return nil, lockkeeper.Invalid.Errorf("file_large", "The file has more than %d bytes.", most).WithField(file)
	}
	return b, nil
}

func printReceipt(w io.Writer, s keeper.Statement) {
	r, log := s.Predicate, s.Predicate.Origin
	if len(r.Proofs) > 0 {
		log = r.Proofs[0].Log()
	}
	fmt.Fprintf(w, "The receipt holds: signed, and each of its %d entries stands in the journal %q.\n", len(r.Proofs), log)
	fmt.Fprintln(w, r.String())
	for _, v := range r.Approvals {
		fmt.Fprintf(w, "  approved by %s at %s%s\n", v.User, v.At, glassMark(v.BreakGlass)+carriedMark(v.From))
	}
	for _, o := range r.Overrides {
		fmt.Fprintf(w, "  overridden %s by %s for %s: %s\n", o.ID, o.User, printable(o.Incident), printable(strings.Join(o.Waives, ", ")))
	}
	if r.Gate.Subject != "" {
		printDecision(w, r.Gate, 1)
	}
}

func (a *app) journalCommand() *cobra.Command {
	var data, keys, outside string
	c := &cobra.Command{Use: "journal", Short: "Verify, show and prove the journal of a data folder; needs no server"}
	c.PersistentFlags().StringVar(&data, "data", "lockkeeper-data", "data folder, or a copy of it")
	c.PersistentFlags().StringVar(&keys, "keys", "", "what `lockkeeper keys` printed; default: keys.json in the data folder")
	c.PersistentFlags().StringVar(&outside, "checkpoint", "", "file that the server keeps its last checkpoint in; default: checkpoint in the data folder")
	open := func(ctx context.Context) (*journal.Reader, error) {
		file := keys
		if file == "" {
			file = filepath.Join(data, "keys.json")
		}
		t, err := trust(file)
		if err != nil {
			return nil, err
		}
		v, err := t.Verifier()
		if err != nil {
			return nil, err
		}
		return journal.OpenReader(ctx, data, outside, v)
	}
	return withCommands(c, a.verifyJournal(open), a.showJournal(open), a.checkpointJournal(open), a.proveJournal(open), a.exportJournal(open))
}

type opener func(context.Context) (*journal.Reader, error)

func (a *app) verifyJournal(open opener) *cobra.Command {
	var fold bool
	c := &cobra.Command{Use: "verify", Short: "Recompute the whole journal and check its signature", Args: cobra.NoArgs,
		Long: `Recompute the whole journal: each entry's leaf and its place in the tree, the
signed head, the checkpoint outside the database and the digest of each catalog
document. With --fold also fold every entry with the rules of this release, and
compare the state with each one that was recorded on the way.`,
		Example: "  lockkeeper journal verify --data ./data --keys keys.json\n  lockkeeper journal verify --data ./data --fold --output json"}
	c.Flags().BoolVar(&fold, "fold", false, "fold the entries, too, and compare with the recorded states")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := open(c.Context())
		if err != nil {
			return brokenError(err)
		}
		defer r.Close()
		progress := func(done, total int64) {
			if total > 100_000 {
				fmt.Fprintf(a.err, "\r%d of %d entries", done, total)
			}
		}
		var verified verified
		if verified.Report, err = journal.Verify(c.Context(), r, progress); err != nil {
			return brokenError(err)
		}
		if fold {
			n, err := keeper.Refold(c.Context(), r, progress)
			if err != nil {
				return brokenError(err)
			}
			verified.States = &n
		}
		return a.print(verified, func(w io.Writer) {
			fmt.Fprintf(w, "The journal %q holds: %d entries, %d documents, root %s, signed.\n", verified.Origin, verified.Entries, verified.Documents, verified.Root)
			if !verified.Outside {
				fmt.Fprintln(w, "There was no checkpoint outside to compare it with, so an older copy would hold, too: name the file with --checkpoint.")
			}
			if fold {
				fmt.Fprintf(w, "It folds, and %d recorded states come out as they were recorded.\n", *verified.States)
			}
		})
	}
	return c
}

// verified is what journal verify answers.
type verified struct {
	journal.Report
	States *int `json:"states,omitempty"` // recorded states that were compared
}

// brokenError makes a broken journal a refusal that says where.
func brokenError(err error) error {
	var b *journal.Broken
	if errors.As(err, &b) {
		return lockkeeper.Conflict.Errorf("journal_broken", "The journal breaks at entry %d: %s.", b.Seq, b.What).
			WithNext("Believe nothing from entry %d on; compare with a back-up and with receipts that were handed out. If an older copy was put back and nothing newer is left: lockkeeper recover", b.Seq).WithField("entry " + strconv.FormatInt(b.Seq, 10))
	}
	return err
}

func (a *app) showJournal(open opener) *cobra.Command {
	var from, to int64
	var subject string
	c := &cobra.Command{Use: "show", Short: "Print entries, one JSON object a line", Args: cobra.NoArgs, Example: "  lockkeeper journal show --data ./data --subject deployment/d-…"}
	c.Flags().Int64Var(&from, "from", 0, "first entry")
	c.Flags().Int64Var(&to, "to", 0, "entry to stop before; 0: the end")
	c.Flags().StringVar(&subject, "subject", "", "only entries about this: deployment/ID, user/NAME, project/NAME, catalog")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := open(c.Context())
		if err != nil {
			return brokenError(err)
		}
		defer r.Close()
		if subject != "" {
			entries, err := r.SubjectAll(c.Context(), subject)
			for _, e := range entries {
				fmt.Fprintf(a.out, "%s\n", e.Data)
			}
			return err
		}
		for e, err := range r.Entries(c.Context(), from, to) {
			if err != nil {
				return brokenError(err)
			}
			if _, err := fmt.Fprintf(a.out, "%s\n", e.Data); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func (a *app) proveJournal(open opener) *cobra.Command {
	var check, since string
	c := &cobra.Command{Use: "prove [SEQ]", Short: "Make or check the proof that an entry stands in the journal, or that the journal goes on from a checkpoint", Args: cobra.MaximumNArgs(1),
		Long: `prove SEQ makes the proof that an entry stands under the journal's head. prove --since FILE
makes the proof that the journal goes on from a checkpoint which somebody kept: that
nothing was changed, taken out or put in before it. prove --check FILE checks either
one, with the server's public keys and nothing else.`,
		Example: "  lockkeeper journal prove 12 --data ./data > proof.json\n  lockkeeper journal prove --since kept.checkpoint --data ./data > proof.json\n  lockkeeper journal prove --check proof.json --keys keys.json"}
	c.Flags().StringVar(&check, "check", "", "check the proof in this file instead")
	c.Flags().StringVar(&since, "since", "", "file with a checkpoint that was kept")
	c.RunE = func(c *cobra.Command, args []string) error {
		if check != "" {
			keys, _ := c.Flags().GetString("keys")
			return a.checkProof(check, keys)
		}
		if (since == "") != (len(args) == 1) {
			return lockkeeper.Invalid.Errorf("usage", "Name the entry to prove, or --since FILE, or --check FILE.").WithNext("See: lockkeeper journal prove --help")
		}
		r, err := open(c.Context())
		if err != nil {
			return brokenError(err)
		}
		defer r.Close()
		if since != "" {
			old, err := readBounded(since, maxProof)
			if err != nil {
				return err
			}
			p, err := r.ProveContinuation(c.Context(), journal.CheckpointIn(old))
			if err != nil {
				return brokenError(err)
			}
			return a.json(p)
		}
		seq, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return lockkeeper.Invalid.Errorf("usage", "%q is no position of an entry.", args[0])
		}
		p, err := r.Prove(c.Context(), seq)
		if err != nil {
			return brokenError(err)
		}
		return a.json(p)
	}
	return c
}

func (a *app) checkProof(file, keys string) error {
	t, err := trust(keys)
	if err != nil {
		return err
	}
	v, err := t.Verifier()
	if err != nil {
		return err
	}
	data, err := readBounded(file, maxProof)
	if err != nil {
		return err
	}
	var p journal.Proof
	var on journal.Continuation
	bad := lockkeeper.Invalid.Errorf("proof_malformed", "The file holds no proof.").WithField(file).WithNext("Give it what `lockkeeper journal prove` printed.")
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) != nil {
		return bad
	}
	if raw["old"] != nil {
		if err := json.Unmarshal(data, &on); err != nil {
			return bad.WithCause(err)
		}
		from, to, err := on.Verify(v)
		if err != nil {
			return err
		}
		return a.print(map[string]int64{"from": from, "to": to}, func(w io.Writer) {
			fmt.Fprintf(w, "The journal %q of %d entries goes on from the %d that the checkpoint was signed over.\n", t.Origin, to, from)
		})
	}
	if err := json.Unmarshal(data, &p); err != nil || raw["entry"] == nil {
		return bad
	}
	if err := p.Verify(v); err != nil {
		return err
	}
	return a.print(map[string]any{"seq": p.Seq, "entry": json.RawMessage(p.Entry)}, func(w io.Writer) {
		fmt.Fprintf(w, "The entry %d stands in the journal %q:\n%s\n", p.Seq, p.Log(), p.Entry)
	})
}

func (a *app) checkpointJournal(open opener) *cobra.Command {
	return &cobra.Command{Use: "checkpoint", Short: "Print the journal's signed checkpoint, to be kept outside", Args: cobra.NoArgs,
		Long: `Whoever keeps a checkpoint can prove later that nothing before it was changed
(lockkeeper journal prove --since FILE). It is text: three lines and a signature.`,
		Example: "  lockkeeper journal checkpoint --data ./data > kept.checkpoint",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := open(c.Context())
			if err != nil {
				return brokenError(err)
			}
			defer r.Close()
			head := r.Head()
			return a.print(map[string]any{"checkpoint": string(head.Checkpoint), "size": head.Size}, func(w io.Writer) { w.Write(head.Checkpoint) })
		}}
}

func (a *app) exportJournal(open opener) *cobra.Command {
	var from int64
	var out string
	c := &cobra.Command{Use: "export", Short: "Write the journal as JSON lines, with its signed checkpoint", Args: cobra.NoArgs, Example: "  lockkeeper journal export --data ./data --file journal.jsonl\n  lockkeeper journal export --data ./data --from 1200 >> journal.jsonl",
		Long: "Each line is one entry, byte for byte as it is hashed: {\"seq\": N, …}. The last line is the checkpoint under which all of\nthem stand: {\"checkpoint\": TEXT, \"size\": N}. Going on later with --from N gives every entry once. The whole journal is\nverified before a line is written."}
	c.Flags().Int64Var(&from, "from", 0, "first entry")
	c.Flags().StringVar(&out, "file", "", "write to this new file; default: standard output")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		r, err := open(c.Context())
		if err != nil {
			return brokenError(err)
		}
		defer r.Close()
		if _, err := journal.Verify(c.Context(), r, func(int64, int64) {}); err != nil {
			return brokenError(err)
		}
		w := a.out
		if out != "" {
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return lockkeeper.Invalid.Errorf("file_unwritable", "%v.", err).WithField(out)
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			w = f
		}
		b := bufio.NewWriter(w)
		for e, err := range r.Entries(c.Context(), from, 0) {
			if err != nil {
				return brokenError(err)
			}
			if _, err := fmt.Fprintf(b, "%s\n", e.Data); err != nil {
				return err
			}
		}
		head := r.Head()
		last, err := json.Marshal(map[string]any{"checkpoint": string(head.Checkpoint), "size": head.Size})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(b, "%s\n", last); err != nil {
			return err
		}
		return b.Flush()
	}
	return c
}
