package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

const whatIfHelp = `What-if takes the decisions that a journal recorded and decides each of them again under other
governance documents: openings, votes, claims, renewals, overrides and tokens of deployments, records
of artifacts and evidence, requests, activations and broken glass, tokens of people, and what of these
was refused. It lists those that would differ:

  refused      it would be refused
  waits        it would wait for something that nobody had given by then
  allowed      it was refused, and would be let through
  unknowable   nothing recorded says: it hangs on a decision that would differ, it was refused and
               is not recorded in full, it changed the catalog, it would wait only for what
               services say that nobody asked then, or a policy gave no verdict. A policy that
               nobody evaluated then is evaluated over what was known

Each decision is decided on the past as it was, up to it; no vote, evidence or later ask is
invented. Without --catalog each is decided under the rules that were in force then: all must come
out the same, or this release decides otherwise than the one that recorded it.

It reads a data folder, or a copy of it, also of a server that runs, and changes nothing. The
journal is verified first. The exit code is 0 whatever differs, and 4 with --fail-on-difference.`

func (a *app) whatIfCommand() *cobra.Command {
	var data, keys, outside, since string
	var documents []string
	var strict bool
	var most int
	c := &cobra.Command{Use: "what-if", Short: "Decide the recorded past again under other rules, and list what would differ; needs no server", Args: cobra.NoArgs, Long: whatIfHelp,
		Example: "  lockkeeper what-if --data ./data --catalog governance/ --since 90d\n  lockkeeper what-if --data ./copy --catalog governance/ --since 2026-09-01T00:00:00Z --output json"}
	c.Flags().StringVar(&data, "data", "lockkeeper-data", "data folder, or a copy of it")
	c.Flags().StringVar(&keys, "keys", "", "what `lockkeeper keys` printed; default: keys.json in the data folder")
	c.Flags().StringVar(&outside, "checkpoint", "", "file that the server keeps its last checkpoint in; default: checkpoint in the data folder")
	c.Flags().StringArrayVar(&documents, "catalog", nil, "governance documents, or a folder of them; may be given several times; default: the rules of each time")
	c.Flags().StringVar(&since, "since", "90d", "how far back: 90d, 12h, or an instant")
	c.Flags().BoolVar(&strict, "fail-on-difference", false, "exit with 4 if anything would differ")
	c.Flags().IntVar(&most, "list", 1000, "how many that differ are listed; the rest is counted")
	c.RunE = func(c *cobra.Command, _ []string) error {
		from, err := instantBefore(since, time.Now())
		if err != nil {
			return err
		}
		var rules *catalog.Catalog
		if len(documents) > 0 {
			if rules, _, err = a.readCatalog(documents); err != nil {
				return err
			}
		}
		t, err := trust(cmp.Or(keys, filepath.Join(data, "keys.json")))
		if err != nil {
			return err
		}
		verifier, err := t.Verifier()
		if err != nil {
			return err
		}
		r, err := journal.OpenReader(c.Context(), data, outside, verifier)
		if err != nil {
			return brokenError(err)
		}
		defer r.Close()
		progress := func(what string) func(done, total int64) {
			return func(done, total int64) {
				if total > 20_000 {
					fmt.Fprintf(a.err, "\r%s %d of %d entries", what, done, total)
					if done == total {
						fmt.Fprintln(a.err)
					}
				}
			}
		}
		if _, err := journal.Verify(c.Context(), r, progress("verified")); err != nil {
			return brokenError(err)
		}
		out, err := keeper.DecideAgain(c.Context(), r, keeper.WhatIfOptions{Rules: rules, Since: from, Most: max(0, most), Progress: progress("decided"), Evaluate: evaluatePolicy})
		if err != nil {
			return brokenError(err)
		}
		err = a.print(out, func(w io.Writer) { printWhatIf(w, out) })
		if err == nil && strict && out.Refused+out.Waits+out.Allowed > 0 {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

func printWhatIf(w io.Writer, r keeper.WhatIf) {
	for _, d := range r.Differs {
		on := ""
		if len(d.On) > 0 {
			on = " on " + printable(strings.Join(d.On, ", "))
		}
		code := d.Code
		if d.Was != "" {
			code = "then " + d.Was
		}
		fmt.Fprintf(w, "%s  entry %d  %s by %s: %s%s\n    %s [%s]\n", d.At, d.Seq, d.Kind, printable(d.By), d.Answer, on, printable(d.Sentence), code)
		if len(d.About) > 0 {
			fmt.Fprintf(w, "    about %s\n", printable(d.About[0]))
		}
	}
	if r.Left > 0 {
		fmt.Fprintf(w, "… and %d more that differ; --list lists more.\n", r.Left)
	}
	fmt.Fprintf(w, "Since %s: %s.\n", r.Since, r)
	for _, code := range slices.Sorted(maps.Keys(r.Unknowable)) {
		fmt.Fprintf(w, "  unknowable, %d: %s [%s]\n", r.Unknowable[code], keeper.WhyUnknowable(code), code)
	}
}

// instantBefore reads how far back something looks: 90d, 12h, or an instant.
func instantBefore(s string, now time.Time) (lockkeeper.Moment, error) {
	var m lockkeeper.Moment
	bad := lockkeeper.Invalid.Errorf("since_malformed", "%.40q is no length of time before now, and no instant.", s).WithNext("Write 90d, 12h, or 2026-09-01T00:00:00Z.")
	if err := m.UnmarshalText([]byte(s)); err == nil {
		return m, nil
	}
	var back time.Duration
	if days, is := strings.CutSuffix(s, "d"); is {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36_500 {
			return m, bad
		}
		back = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if back, err = time.ParseDuration(s); err != nil || back < 0 {
			return m, bad
		}
	}
	return lockkeeper.MomentOf(now.Add(-back)), nil
}
