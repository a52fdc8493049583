package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/spf13/cobra"
)

func (a *app) accessCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "access", Short: "What of who may do what is used: recommend, alerts"}, a.recommendCommand(), a.alertsCommand())
}

func (a *app) recommendCommand() *cobra.Command {
	var days, seldom int
	var dir string
	c := &cobra.Command{Use: "recommend", Short: "What could be made smaller without taking anything that was used, with the evidence", Args: cobra.NoArgs,
		Example: "  lockkeeper access recommend\n  lockkeeper access recommend --days 180 --write governance/ && lockkeeper plan governance/",
		Long: `It tells assignments that give nothing more than others, eligible ones that nobody
activated, standing ones that are used seldom and should be eligible, and actions of
your own roles that nobody used. Following all of it, or any part, takes no right that
was used in the window, weakens nothing, and leaves whoever must approve.

What is younger than the window, or than what is recorded about use, is told nothing
about its use. Reading leaves no entry: no action that only reads is ever called unused.

With --write the documents in the folder are changed in place, if they read as those in
force do; comments and all other lines stay. Nothing is applied.`}
	c.Flags().IntVar(&days, "days", 90, "how many days back use is looked at, 1 to 365")
	c.Flags().IntVar(&seldom, "seldom", 4, "up to how many days of use are seldom, 0 to 7")
	c.Flags().StringVar(&dir, "write", "", "make the changes in the governance documents of this folder")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Recommendations
		q := url.Values{"days": {strconv.Itoa(days)}, "seldom": {strconv.Itoa(seldom)}}
		if err := client.Call(c.Context(), "GET", "/access/recommendations?"+q.Encode(), nil, &out); err != nil {
			return err
		}
		var edits []api.Edit
		for _, r := range out.Recommendations {
			if r.Edit != nil {
				edits = append(edits, *r.Edit)
			}
		}
		var done rewritten
		if dir != "" {
			if done, err = a.rewrite(dir, edits); err != nil {
				return err
			}
		}
		return a.print(map[string]any{"advice": out, "written": done.Files, "left": done.Left}, func(w io.Writer) {
			printAdvice(w, out)
			if dir != "" {
				done.print(w, dir)
			}
		})
	}
	return c
}

// rewritten is what became of edits in a folder.
type rewritten struct {
	Files []string   `json:"files"`
	Left  []api.Edit `json:"left"` // whose documents read differently there
}

func (r rewritten) print(w io.Writer, dir string) {
	for _, f := range r.Files {
		fmt.Fprintf(w, "wrote %s\n", printable(f))
	}
	for _, e := range r.Left {
		fmt.Fprintf(w, "left %s %s as it is: it reads differently there than in force\n", e.Kind, e.Name)
	}
	if len(r.Files) > 0 {
		fmt.Fprintf(w, "Nothing is applied yet. Look at it: lockkeeper plan %s\n", dir)
	}
}

// rewrite makes edits in the documents of a folder. A crash in between leaves some
// files written: what is applied is only ever what plan shows.
func (a *app) rewrite(dir string, edits []api.Edit) (rewritten, error) {
	out := rewritten{Files: []string{}, Left: []api.Edit{}}
	here, files, err := a.readCatalog([]string{dir})
	if err != nil {
		return out, err
	}
	var fit []catalog.Edit
	for _, e := range edits {
		k := catalog.Key{Kind: catalog.Kind(e.Kind), Name: e.Name}
		if here.DigestOf(k) != e.Was {
			out.Left = append(out.Left, e)
			continue
		}
		fit = append(fit, catalog.Edit{Key: k, Was: e.Was, Remove: e.Remove, Eligible: e.Eligible, Actions: e.Actions})
	}
	changed, err := catalog.Rewrite(files, fit)
	if err != nil {
		return out, err
	}
	for _, f := range changed {
		if err := replaceFile(f); err != nil {
			return out, lockkeeper.Invalid.Errorf("file_unwritable", "%v.", err).WithField(f.Name)
		}
		out.Files = append(out.Files, f.Name)
	}
	return out, nil
}

// replaceFile puts a file in its place whole, or takes it away if nothing is left
// of it.
func replaceFile(f catalog.File) error {
	if f.Data == nil {
		return os.Remove(f.Name)
	}
	info, err := os.Stat(f.Name)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(f.Name), ".lockkeeper-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(f.Data)
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(temporary.Name(), info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), f.Name)
}

func printAdvice(w io.Writer, out api.Recommendations) {
	for _, r := range out.Recommendations {
		fmt.Fprintf(w, "%s\n", printable(r.Sentence))
		if e := r.Edit; e != nil {
			switch {
			case e.Remove:
				fmt.Fprintf(w, "    - %s %s\n", e.Kind, e.Name)
			case e.Eligible:
				fmt.Fprintf(w, "    ~ %s %s: eligible: true\n", e.Kind, e.Name)
			default:
				fmt.Fprintf(w, "    ~ %s %s: actions: %v\n", e.Kind, e.Name, e.Actions)
			}
		}
		if !r.Evidence.Last.IsZero() {
			fmt.Fprintf(w, "    last used %s, %d times ever, entries %v\n", r.Evidence.Last, r.Evidence.Count, r.Evidence.Entries)
		}
		if len(r.Unobserved) > 0 {
			fmt.Fprintf(w, "    it gives %v too, whose use nobody records\n", r.Unobserved)
		}
		if r.Next != "" {
			fmt.Fprintf(w, "    next: %s\n", printable(r.Next))
		}
	}
	if len(out.Recommendations) == 0 {
		fmt.Fprintln(w, "There is nothing to make smaller.")
	}
	if out.Skipped > 0 {
		fmt.Fprintf(w, "%d more were not looked at; ask again once these are followed.\n", out.Skipped)
	}
	switch {
	case out.Observed.IsZero():
		fmt.Fprintln(w, "No use was recorded yet, so nothing is said about it.")
	case out.From.Before(out.Observed):
		fmt.Fprintf(w, "Use is known since %s only, which is less than the window: nothing is said about it.\n", out.Observed)
	}
}

func (a *app) alertsCommand() *cobra.Command {
	q := map[string]*int{}
	c := &cobra.Command{Use: "alerts", Short: "What somebody should look at: administrators, unused rights, stale accounts, missing approvers, …", Args: cobra.NoArgs,
		Example: "  lockkeeper access alerts\n  lockkeeper access alerts --unused 30 --fail-on high",
		Long:    "The same numbers are the metric lockkeeper_access_alerts, with the default thresholds."}
	flag := func(name string, value int, help string) { q[name] = c.Flags().Int(name, value, help) }
	flag("administrators", 3, "persons who always administer the organisation: more, and more than --share, are too many")
	flag("share", 10, "percent of all persons")
	flag("unused", 90, "days without use")
	flag("stale", 90, "days without a sign-in")
	flag("often", 20, "activations of one role by one user within --window")
	flag("window", 30, "days")
	var fail string
	c.Flags().StringVar(&fail, "fail-on", "", "exit with 4 if there is an alert this severe: high, medium or low")
	rank := map[string]int{"high": 3, "medium": 2, "low": 1}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if fail != "" && rank[fail] == 0 {
			return lockkeeper.Invalid.Errorf("severity_unknown", "There is no severity %.20q.", fail).WithNext("Write high, medium or low.")
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		values := url.Values{}
		for name, n := range q {
			values.Set(name, strconv.Itoa(*n))
		}
		var out api.Alerts
		if err := client.Call(c.Context(), "GET", "/access/alerts?"+values.Encode(), nil, &out); err != nil {
			return err
		}
		severe := false
		for _, al := range out.Alerts {
			severe = severe || fail != "" && rank[al.Severity] >= rank[fail]
		}
		err = a.print(out, func(w io.Writer) {
			for _, al := range out.Alerts {
				fmt.Fprintf(w, "%-6s %-19s %s\n", al.Severity, al.Kind, printable(al.Sentence))
				for _, e := range al.Evidence {
					fmt.Fprintf(w, "         %s\n", printable(e))
				}
				fmt.Fprintf(w, "       → %s\n", printable(al.Next))
			}
			if len(out.Alerts) == 0 {
				fmt.Fprintln(w, "Nothing.")
			}
		})
		if err == nil && severe {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

func (a *app) confirmLinksCommand() *cobra.Command {
	return &cobra.Command{Use: "confirm", Short: "Say that the accounts that somebody listed under your name are yours", Args: cobra.NoArgs, Example: "  lockkeeper accounts confirm",
		Long: "An account that somebody else lists under your name, without a second person, counts for little until you confirm it: its runs\nare his, too, it proves nothing, and nobody signs in with it. Look at what it prints: if one is not yours, say so to whoever\nkeeps the catalog at once.",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Confirmed
			if err := client.Call(c.Context(), "POST", "/accounts/confirm", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, l := range out.Links {
					fmt.Fprintf(w, "Yours: %s\n", printable(l))
				}
				if len(out.Links) == 0 {
					fmt.Fprintln(w, "There is nothing to confirm.")
				}
			})
		}}
}
