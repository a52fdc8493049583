package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) freezeCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "freeze", Short: "Freezes: list, show, when, start, end"},
		a.listFreezesCommand(), a.showFreezeCommand(), a.whenFrozenCommand(), a.startFreezeCommand(), a.endFreezeCommand())
}

// freezes fetches the freezes that touch a scope.
func (a *app) freezes(c *cobra.Command, scope string, days int) (api.Freezes, error) {
	var out api.Freezes
	client, err := a.person()
	if err == nil {
		err = client.Call(c.Context(), "GET", fmt.Sprintf("/freezes?scope=%s&days=%d", url.QueryEscape(scope), days), nil, &out)
	}
	return out, err
}

// standsText says in a few words how a freeze stands.
func standsText(f api.Freeze) string {
	switch {
	case f.Unjudged != "":
		return "nothing passes: " + f.Unjudged
	case f.Holds && f.NextOpen.IsZero():
		return "holds until further notice"
	case f.Holds:
		return "holds until " + f.NextOpen.String()
	case f.NextClose.IsZero():
		return "holds no more"
	}
	return "holds from " + f.NextClose.String()
}

func (a *app) listFreezesCommand() *cobra.Command {
	var scope string
	c := &cobra.Command{Use: "list", Short: "List the freezes that touch a scope, and how they stand", Args: cobra.NoArgs, Example: "  lockkeeper freeze list --scope /projects/payments"}
	c.Flags().StringVar(&scope, "scope", "/", "what they touch")
	c.RunE = func(c *cobra.Command, _ []string) error {
		out, err := a.freezes(c, scope, 0)
		if err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, f := range out.Freezes {
				fmt.Fprintf(w, "%-24s %s  %s: %s\n", f.Name, f.Scope, standsText(f), printable(f.Reason))
			}
			if len(out.Freezes) == 0 {
				fmt.Fprintf(w, "No freeze touches %s.\n", printable(scope))
			}
		})
	}
	return c
}

func (a *app) showFreezeCommand() *cobra.Command {
	var scope string
	var days int
	c := &cobra.Command{Use: "show NAME", Short: "Show a freeze: what it stops, since when, and when it holds next", Args: cobra.ExactArgs(1), Example: "  lockkeeper freeze show weekends --scope /projects/payments --days 90"}
	c.Flags().StringVar(&scope, "scope", "/", "a scope that it touches and that you may see")
	c.Flags().IntVar(&days, "days", 30, "list the times in which it holds, so many days ahead")
	c.RunE = func(c *cobra.Command, args []string) error {
		out, err := a.freezes(c, scope, days)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(out.Freezes, func(f api.Freeze) bool { return f.Name == args[0] })
		if i < 0 {
			return lockkeeper.NotFound.Errorf("freeze_missing", "No freeze %.63q touches %s.", args[0], scope).WithNext("List them: lockkeeper freeze list --scope SCOPE")
		}
		return a.print(out.Freezes[i], func(w io.Writer) { printFreeze(w, out.Freezes[i]) })
	}
	return c
}

func printFreeze(w io.Writer, f api.Freeze) {
	fmt.Fprintf(w, "%s at %s: %s\n  %s\n", f.Name, f.Scope, printable(f.Reason), standsText(f))
	if f.StartedBy != "" {
		fmt.Fprintf(w, "  started   by %s at %s, until %s\n", f.StartedBy, f.From, f.Until)
	}
	if f.Holds {
		fmt.Fprintf(w, "  since     %s\n", f.Since)
	}
	if !f.NextClose.IsZero() {
		fmt.Fprintf(w, "  next      from %s\n", f.NextClose)
	}
	fmt.Fprintf(w, "  stops     %s by %s; what runs: %s\n", strings.Join(f.Actions, ", "), strings.Join(f.Callers, ", "), f.InFlight)
	if len(f.Exempt) > 0 {
		fmt.Fprintf(w, "  spares    what members of %s start themselves\n", strings.Join(f.Exempt, ", "))
	}
	if f.Soft {
		fmt.Fprintf(w, "  soft      an override may waive freeze:%s\n", f.Name)
	}
	for _, t := range f.Times {
		fmt.Fprintf(w, "  holds     %s\n", timeText(t, f.Zone))
	}
}

// timeText shows a time in the freeze's own zone, as those who wrote it know it.
func timeText(t api.FreezeTime, zone string) string {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		loc = time.UTC
	}
	show := func(m lockkeeper.Moment) string {
		if m.IsZero() {
			return "further notice"
		}
		return m.Time().In(loc).Format("Mon 2006-01-02 15:04 MST")
	}
	return show(t.From) + " to " + show(t.Until)
}

func (a *app) whenFrozenCommand() *cobra.Command {
	var scope, action, caller string
	var days int
	c := &cobra.Command{Use: "when", Short: "Say when a scope is frozen in the days ahead, and by which freezes", Args: cobra.NoArgs,
		Example: "  lockkeeper freeze when --scope /projects/payments/environments/production --days 90\n  lockkeeper freeze when --scope /projects/payments --action rollback --caller people"}
	c.Flags().StringVar(&scope, "scope", "/", "where")
	c.Flags().StringVar(&action, "action", "", "deploy, rollback or tokens; default: any of them")
	c.Flags().StringVar(&caller, "caller", "", "people or automation; default: any of them")
	c.Flags().IntVar(&days, "days", 90, "how far ahead, 1 to 400")
	c.RunE = func(c *cobra.Command, _ []string) error {
		list, err := a.freezes(c, scope, days)
		if err != nil {
			return err
		}
		out := frozenTimes(list, lockkeeper.Scope(scope), action, caller)
		return a.print(map[string]any{"times": out}, func(w io.Writer) {
			for _, t := range out {
				fmt.Fprintf(w, "%s  %s: %s\n", timeText(t.FreezeTime, t.Zone), t.Freeze, printable(t.Reason))
			}
			if len(out) == 0 {
				fmt.Fprintf(w, "Nothing of that is frozen at %s in the next %d days.\n", printable(scope), days)
			}
		})
	}
	return c
}

// A frozenTime is a time in which one freeze holds.
type frozenTime struct {
	api.FreezeTime
	Freeze string `json:"freeze"`
	Zone   string `json:"zone,omitempty"`
	Reason string `json:"reason"`
}

// frozenTimes are the times of the freezes that cover all of a scope, oldest first.
func frozenTimes(list api.Freezes, scope lockkeeper.Scope, action, caller string) []frozenTime {
	out := []frozenTime{}
	for _, f := range list.Freezes {
		if !f.Scope.Contains(scope) || action != "" && !slices.Contains(f.Actions, action) || caller != "" && !slices.Contains(f.Callers, caller) {
			continue
		}
		for _, t := range f.Times {
			out = append(out, frozenTime{FreezeTime: t, Freeze: f.Name, Zone: f.Zone, Reason: f.Reason})
		}
	}
	slices.SortFunc(out, func(a, b frozenTime) int {
		return cmp.Or(a.From.Time().Compare(b.From.Time()), cmp.Compare(a.Freeze, b.Freeze))
	})
	return out
}

func (a *app) startFreezeCommand() *cobra.Command {
	var in api.StartFreeze
	var scope string
	var length time.Duration
	c := &cobra.Command{Use: "start --scope SCOPE --for DURATION --reason WHY", Short: "Stop the line: freeze a scope at once, for a time", Args: cobra.NoArgs,
		Example: "  lockkeeper freeze start --scope /projects/payments --for 2h --reason 'orders are lost, we look for why'\n  lockkeeper freeze start --scope / --for 1h --in-flight abort --callers automation --reason 'a bot deploys in a loop'",
		Long: `It takes freezes/write at the scope, and changes no catalog. It ends by itself; before its
time another person ends it, unless a FreezeRule of the catalog lets one do that alone.`}
	c.Flags().StringVar(&scope, "scope", "", "where: /, a project, an environment, a pipeline or an identity")
	c.Flags().DurationVar(&length, "for", 0, "how long")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for those whom it stops")
	c.Flags().StringSliceVar(&in.Actions, "actions", nil, "deploy, rollback, tokens; default: deploy and rollback")
	c.Flags().StringSliceVar(&in.Callers, "callers", nil, "people, automation; default: both")
	c.Flags().StringSliceVar(&in.Exempt, "exempt", nil, "groups whose members it does not stop, in runs that they started themselves")
	c.Flags().StringVar(&in.InFlight, "in-flight", "", "what happens to what runs: finish, noTokens or abort; default: finish")
	c.Flags().BoolVar(&in.Soft, "soft", false, "let an override of the environment waive it")
	c.MarkFlagRequired("scope")
	c.MarkFlagRequired("for")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if length%time.Second != 0 || length < time.Minute {
			return lockkeeper.Invalid.Errorf("duration_malformed", "A freeze lasts whole seconds, and a minute at least; %s is not that.", length).WithNext("Ask for --for 2h.")
		}
		in.Scope, in.Seconds = lockkeeper.Scope(scope), int64(length/time.Second)
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.FreezeStarted
		if err := client.Call(c.Context(), "POST", "/freezes", in, &out, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			fmt.Fprintf(w, "%s is frozen until %s. Lift it sooner: lockkeeper freeze end %s --reason WHY\n", scope, out.Until, out.ID)
			if len(out.Revoked) > 0 {
				fmt.Fprintf(w, "  leases revoked  %s\n", strings.Join(out.Revoked, ", "))
			}
		})
	}
	return c
}

func (a *app) endFreezeCommand() *cobra.Command {
	var in api.EndFreeze
	c := &cobra.Command{Use: "end ID --reason WHY", Short: "End a freeze that was started by hand, before its time", Args: cobra.ExactArgs(1), Example: "  lockkeeper freeze end f-… --reason 'the queue is mended'"}
	c.Flags().StringVar(&in.Reason, "reason", "", "why it may go on")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/freezes/"+pathEscape(args[0])+"/end", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Ended.") })
	}
	return c
}
