package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/spf13/cobra"
)

func pathEscape(s string) string { return url.PathEscape(s) }

// maxFile is what the catalog takes of one file.
const maxFile = 4 << 20

// governanceFiles reads the documents of files and folders: in a folder, every
// .yaml, .yml and .json below it.
func governanceFiles(paths []string) ([]catalog.File, error) {
	var names []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(p)
		}
		if !info.IsDir() {
			names = append(names, p)
			continue
		}
		err = filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(p)
		}
	}
	slices.Sort(names)
	var out []catalog.File
	for _, name := range slices.Compact(names) {
		f, err := os.Open(name)
		if err != nil {
			return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(name)
		}
		data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		f.Close()
		if len(data) > maxFile {
			return nil, lockkeeper.Invalid.Errorf("file_too_large", "The file has more than %d bytes, so it was not read.", maxFile).
				WithNext("Split it into several files.").WithField(name)
		}
		if err != nil {
			return nil, lockkeeper.Invalid.Errorf("file_unreadable", "%v.", err).WithField(name)
		}
		out = append(out, catalog.File{Name: name, Data: data})
	}
	return out, nil
}

// readCatalog reads and validates; every problem is printed.
func (a *app) readCatalog(paths []string) (*catalog.Catalog, []catalog.File, error) {
	files, err := governanceFiles(paths)
	if err != nil {
		return nil, nil, err
	}
	c, problems := catalog.Read(files)
	if len(problems) == 0 {
		problems = append(policyProblems(c), heldTogether(c)...)
	}
	if len(problems) == 0 {
		return c, files, nil
	}
	if a.output == "json" {
		a.json(map[string]any{"problems": problems})
	} else {
		for _, p := range problems {
			fmt.Fprintln(a.err, printable(p.String()))
		}
		fmt.Fprintf(a.err, "Problems: %d. Nothing was applied.\n", len(problems))
	}
	return nil, nil, &exitError{code: exitCodes[lockkeeper.Invalid]}
}

// heldTogether are the duties that somebody would hold in spite of a separation.
func heldTogether(c *catalog.Catalog) (out catalog.Problems) {
	for _, t := range access.New(c).HeldTogether(lockkeeper.MomentOf(time.Now())) {
		out = append(out, catalog.Problem{File: "(catalog)", Path: "Separation " + t.Separation, Code: "duties_not_separated", Sentence: t.String(), Mend: "Take one of the two assignments away from " + string(t.Person) + "."})
	}
	return out
}

func (a *app) validateCommand() *cobra.Command {
	var reach bool
	c := &cobra.Command{Use: "validate PATH…", Short: "Check governance documents; needs no server", Args: cobra.MinimumNArgs(1), Example: "  lockkeeper validate governance/\n  lockkeeper validate governance/ --fail-on-unreachable",
		Long: "Beside mistakes it names the approvals for which there are not persons enough today, and for whom that is so\nwhen he asks: nobody approves what is his own. And it names environments that nobody can ever pass, checks that\ncontradict each other, and waits that mostly end in vain."}
	c.Flags().BoolVar(&reach, "fail-on-unreachable", false, reachHelp)
	c.RunE = func(_ *cobra.Command, args []string) error {
		next, _, err := a.readCatalog(args)
		if err != nil {
			return err
		}
		short, budgets, lint := shortages(next), budgetsOf(next), lintOf(next)
		err = a.print(map[string]any{"documents": len(next.Documents()), "digest": next.Digest(), "unreachable": short, "persons": budgets, "lint": lint}, func(w io.Writer) {
			printShortages(w, short)
			printLint(w, lint)
			printBudgets(w, budgets)
			fmt.Fprintf(w, "%d documents are good. Digest %s\n", len(next.Documents()), next.Digest())
		})
		if err == nil && (exceeded(budgets) || reach && (len(short) > 0 || impassable(lint))) {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

func (a *app) applyCommand() *cobra.Command {
	var message string
	var base int
	c := &cobra.Command{Use: "apply PATH…", Short: "Put governance documents in force, whole", Args: cobra.MinimumNArgs(1), Example: "  lockkeeper apply governance/ --message 'two approvers for payments'",
		Long: "Apply replaces the catalog in force by the documents of the files and folders named. It changes nothing\nif another revision came in force since the one that was read, and nothing if any document is wrong."}
	c.Flags().StringVar(&message, "message", "", "why, for the journal")
	c.Flags().IntVar(&base, "base", -1, "the revision that this was planned against; default: the one in force now")
	c.RunE = func(c *cobra.Command, args []string) error {
		_, files, err := a.readCatalog(args)
		if err != nil {
			return err
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		if base < 0 {
			var about api.About
			if err := client.Call(c.Context(), "GET", "/about", nil, &about); err != nil {
				return err
			}
			base = about.Revision
		}
		body := api.Apply{Base: base, Message: message}
		for _, f := range files {
			body.Files = append(body.Files, api.File{Name: f.Name, Data: string(f.Data)})
		}
		var applied api.Applied
		if err := client.Call(c.Context(), "PUT", "/catalog", body, &applied); err != nil {
			return err
		}
		return a.print(applied, func(w io.Writer) { printApplied(w, applied) })
	}
	return c
}

func (a *app) catalogCommand() *cobra.Command {
	show := &cobra.Command{Use: "show", Short: "Print the catalog in force as JSON documents", Args: cobra.NoArgs, Example: "  lockkeeper catalog show",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var cat api.Catalog
			if err := client.Call(c.Context(), "GET", "/catalog", nil, &cat); err != nil {
				return err
			}
			return a.json(cat)
		}}
	return withCommands(&cobra.Command{Use: "catalog", Short: "The catalog in force, and the built-in roles"}, show, a.rolesCommand())
}

func (a *app) canCommand() *cobra.Command {
	var at string
	c := &cobra.Command{Use: "can PRINCIPAL ACTION SCOPE", Short: "May a user or a group do an action at a scope, and by which paths", Args: cobra.ExactArgs(3),
		Example: "  lockkeeper can bob deployments/approve /projects/payments/environments/production\n  lockkeeper can group:managers deployments/approve /projects/payments/environments/production --output json",
		Long: `PRINCIPAL is a user's name, user:NAME or group:NAME.

For a group the answer is what its members have by being in it: what is assigned to
the group, and to the groups that it lies in, grants and denies at the scope. One of
them may hold more, by his name or by another group, and less, by a deny or by being
switched off: ask about him by name, or with who-can about everybody.

The exit code is 0 for yes and 4 for no. With --output json each reason is there as a
path, too: its assignment, effect, groups, role and scope.`,
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			who := args[0]
			if !strings.Contains(who, ":") {
				who = "user:" + who
			}
			q := asOf(url.Values{"principal": {who}, "action": {args[1]}, "scope": {args[2]}}, at)
			var d api.Can
			if err := client.Call(c.Context(), "GET", "/can?"+q.Encode(), nil, &d); err != nil {
				return err
			}
			err = a.print(d, func(w io.Writer) {
				printThen(w, d.Then)
				printDecision(w, d.Decision, 0)
				if d.Next != "" {
					fmt.Fprintln(w, "  next:", printable(d.Next))
				}
				printMissing(w, d.Missing)
			})
			if d.Verdict != lockkeeper.Pass {
				return errors.Join(err, &exitError{code: exitCodes[lockkeeper.Forbidden]})
			}
			return err
		}}
	c.Flags().StringVar(&at, "at", "", atHelp)
	return c
}
