package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/spf13/cobra"
)

// A plannedChange is one line of a plan, for scripts.
type plannedChange struct {
	Verb    string                `json:"verb"`
	Kind    catalog.Kind          `json:"kind"`
	Project string                `json:"project,omitempty"`
	Name    string                `json:"name"`
	Fields  []catalog.FieldChange `json:"fields,omitempty"`
	Weakens []string              `json:"weakens,omitempty"`
}

func (a *app) planCommand() *cobra.Command {
	var strict, reach bool
	c := &cobra.Command{Use: "plan PATH…", Short: "Show what applying these documents would change, and what it would weaken", Args: cobra.MinimumNArgs(1), Example: "  lockkeeper plan governance/\n  lockkeeper plan governance/ --fail-on-weaker --fail-on-unreachable",
		Long: "The plan names the revision that it was made against; give it to `apply --base` so that nothing else comes between."}
	c.Flags().BoolVar(&strict, "fail-on-weaker", false, "exit with 4 if anything would be weakened")
	c.Flags().BoolVar(&reach, "fail-on-unreachable", false, reachHelp)
	c.RunE = func(c *cobra.Command, args []string) error {
		next, _, err := a.readCatalog(args)
		if err != nil {
			return err
		}
		live, revision, err := a.liveCatalog(c)
		if err != nil {
			return err
		}
		plan, weaker := []plannedChange{}, 0
		for _, d := range catalog.Explain(live, next) {
			plan = append(plan, plannedChange{d.Verb, d.Key.Kind, d.Key.Project, d.Key.Name, d.Fields, d.Weakens})
			weaker += len(d.Weakens)
		}
		short, budgets, lint := shortages(next), budgetsOf(next), lintOf(next)
		err = a.print(map[string]any{"base": revision, "digest": next.Digest(), "changes": plan, "weaker": weaker, "unreachable": short, "persons": budgets, "lint": lint}, func(w io.Writer) {
			printShortages(w, short)
			printLint(w, lint)
			printBudgets(w, budgets)
			printPlan(w, plan, revision, weaker)
		})
		if err == nil && (exceeded(budgets) || strict && weaker > 0 || reach && (len(short) > 0 || impassable(lint))) {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

const reachHelp = "exit with 4 if there are approvals for which there are not persons enough, or environments that nobody can pass"

// shortages are the approvals of a catalog for which there are not persons enough
// today.
func shortages(c *catalog.Catalog) []access.Shortage {
	short := access.New(c).Shortages(lockkeeper.MomentOf(time.Now()))
	if short == nil {
		short = []access.Shortage{}
	}
	return short
}

func printShortages(w io.Writer, short []access.Shortage) {
	for _, s := range short {
		fmt.Fprintf(w, "! unreachable: %s\n", printable(s.String()))
	}
}

func printPlan(w io.Writer, plan []plannedChange, revision, weaker int) {
	sign := map[string]string{"added": "+", "changed": "~", "removed": "-"}
	for _, p := range plan {
		fmt.Fprintf(w, "%s %s %s\n", sign[p.Verb], p.Kind, strings.TrimPrefix(p.Project+"/"+p.Name, "/"))
		for _, f := range p.Fields {
			fmt.Fprintf(w, "    %s: %s → %s\n", printable(f.Path), orNothing(f.Old), orNothing(f.New))
		}
		for _, s := range p.Weakens {
			fmt.Fprintf(w, "    ! weaker: %s\n", printable(s))
		}
	}
	if len(plan) == 0 {
		fmt.Fprintf(w, "Nothing differs from revision %d.\n", revision)
		return
	}
	fmt.Fprintf(w, "%d changes against revision %d, %d of what they do weakens protection.\nApply them: lockkeeper apply --base %d …\n", len(plan), revision, weaker, revision)
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return printable(s)
}

// liveCatalog fetches and compiles the catalog in force.
func (a *app) liveCatalog(c *cobra.Command) (*catalog.Catalog, int, error) {
	client, err := a.person()
	if err != nil {
		return nil, 0, err
	}
	var live struct {
		Revision  int               `json:"revision"`
		Documents []json.RawMessage `json:"documents"`
	}
	if err := client.Call(c.Context(), "GET", "/catalog", nil, &live); err != nil {
		return nil, 0, err
	}
	var documents [][]byte
	for _, d := range live.Documents {
		canonical, err := lockkeeper.Canonical(d)
		if err != nil {
			return nil, 0, err
		}
		documents = append(documents, canonical)
	}
	compiled, err := catalog.Compile(documents)
	return compiled, live.Revision, err
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of governance documents, for editors", Args: cobra.NoArgs,
		Example: "  lockkeeper schema > lockkeeper.schema.json\n  # and in the first line of a YAML file:\n  # yaml-language-server: $schema=lockkeeper.schema.json",
		RunE:    func(*cobra.Command, []string) error { return a.json(catalog.Schema()) }}
}

func (a *app) rolesCommand() *cobra.Command {
	return &cobra.Command{Use: "roles [NAME]", Short: "List the built-in roles, or what one of them allows", Args: cobra.MaximumNArgs(1), Example: "  lockkeeper catalog roles\n  lockkeeper catalog roles release-manager",
		RunE: func(_ *cobra.Command, args []string) error {
			roles := catalog.BuiltInRoles()
			if len(args) == 1 {
				for _, r := range roles {
					if r.Name == args[0] {
						roles = []catalog.Role{r}
					}
				}
				if len(roles) != 1 {
					return lockkeeper.NotFound.Errorf("role_unknown", "There is no built-in role %.60q.", args[0]).WithNext("List them: lockkeeper catalog roles")
				}
			}
			return a.print(map[string]any{"roles": roles}, func(w io.Writer) {
				for _, r := range roles {
					fmt.Fprintf(w, "%s: %s\n", r.Name, r.Title)
					if len(args) == 1 {
						for _, x := range r.Actions {
							fmt.Fprintf(w, "  + %s\n", x)
						}
						for _, x := range r.NotActions {
							fmt.Fprintf(w, "  - %s\n", x)
						}
					}
				}
			})
		}}
}

func (a *app) whatCanCommand() *cobra.Command {
	var at string
	c := &cobra.Command{Use: "what-can PRINCIPAL", Short: "Everything that a user or a group holds, may activate, is denied, or has activated", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper what-can ann\n  lockkeeper what-can group:release-managers --output json\n  lockkeeper what-can ann --at 2026-11-24T03:00:00Z",
		Long:    "Everybody may ask about himself; about others it takes access/read at /. What a role allows: lockkeeper catalog roles ROLE.",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			who := args[0]
			if !strings.Contains(who, ":") {
				who = "user:" + who
			}
			var out api.WhatCan
			if err := client.Call(c.Context(), "GET", "/what-can?"+asOf(url.Values{"principal": {who}}, at).Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				printThen(w, out.Then)
				printHoldings(w, out)
			})
		}}
	c.Flags().StringVar(&at, "at", "", atHelp)
	return c
}

const atHelp = "an instant in the past, such as 2026-11-24T03:00:00Z; default: now"

// asOf adds to a question the instant that it is about.
func asOf(q url.Values, at string) url.Values {
	if at != "" {
		q.Set("at", at)
	}
	return q
}

func printThen(w io.Writer, then api.Then) {
	if then.Revision != nil {
		fmt.Fprintf(w, "As of %s, under revision %d:\n", then.At, *then.Revision)
	}
}

// printMissing says of a question that it is about a place that there is not.
func printMissing(w io.Writer, missing string) {
	if missing != "" {
		fmt.Fprintf(w, "%s This is what would hold there.\n", printable(missing))
	}
}

func printHoldings(w io.Writer, out api.WhatCan) {
	does := map[string]string{"grants": "holds", "eligible": "may activate", "denies": "is denied", "not_started": "will have", "ended": "had"}
	for _, p := range out.Holds {
		fmt.Fprintf(w, "%-12s %s at %s", does[p.Effect], p.Role, p.Scope)
		if p.Effect == "not_started" {
			fmt.Fprintf(w, " from %s", p.Start)
		}
		if !p.End.IsZero() {
			fmt.Fprintf(w, " until %s", p.End)
		}
		for i := len(p.Groups) - 1; i >= 0; i-- {
			fmt.Fprintf(w, ", as group %s", p.Groups[i])
		}
		if p.Here {
			fmt.Fprint(w, ", there alone")
		}
		if p.Condition != "" {
			fmt.Fprintf(w, ", on the condition %s", printable(p.Condition))
		}
		fmt.Fprintf(w, " (%s)\n", p.Assignment)
	}
	for _, x := range out.Activations {
		fmt.Fprintf(w, "%-12s %s at %s until %s (%s)\n", "has active", x.Role, x.Scope, x.Ends, x.ID)
	}
	if len(out.Holds)+len(out.Activations) == 0 {
		fmt.Fprintln(w, "Nothing.")
	}
}

func (a *app) whoCanCommand() *cobra.Command {
	var at string
	c := &cobra.Command{Use: "who-can ACTION SCOPE", Short: "Everybody who may do an action at a scope, and by which path", Args: cobra.ExactArgs(2),
		Example: "  lockkeeper who-can deployments/approve /projects/payments/environments/production\n  lockkeeper who-can deployments/approve /projects/payments --at 2026-11-24T03:00:00Z",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var list api.WhoCan
			if err := client.Call(c.Context(), "GET", "/who-can?"+asOf(url.Values{"action": {args[0]}, "scope": {args[1]}}, at).Encode(), nil, &list); err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) {
				printThen(w, list.Then)
				for _, p := range list.Users {
					name := p.User
					if string(p.Person) != p.User {
						name += " (" + string(p.Person) + ")"
					}
					fmt.Fprintf(w, "%s: %s\n", name, printable(p.Decision.Sentence))
				}
				if len(list.Users) == 0 {
					fmt.Fprintln(w, "Nobody.")
				}
				printMissing(w, list.Missing)
			})
		}}
	c.Flags().StringVar(&at, "at", "", atHelp)
	return c
}

func (a *app) delegateCommand() *cobra.Command {
	var to, comment string
	c := &cobra.Command{Use: "delegate ID --to USER", Short: "Hand your place at the gate of one deployment over to somebody else", Args: cobra.ExactArgs(1), Example: "  lockkeeper delegate d-… --to eve --comment 'I am on a plane'",
		Long: "It holds for this one deployment, and while you could approve it yourself. The other must hold the right to\napprove there too, and must not stand behind the run. If you vote after all, your place is yours again."}
	c.Flags().StringVar(&to, "to", "", "who stands in")
	c.Flags().StringVar(&comment, "comment", "", "why")
	c.MarkFlagRequired("to")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var at api.Deployment
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/delegate", api.Delegate{To: to, Comment: comment}, &at); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) { fmt.Fprintf(w, "%s may approve %s in your place.\n", to, at.ID) })
	}
	return c
}
