package cli

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) measuresCommand() *cobra.Command {
	var since, until, project, environment string
	var hasty time.Duration
	var persons, weeks bool
	c := &cobra.Command{Use: "measures", Short: "How changes reach the environments: lead time, frequency, failures, time to restore, waiting, approving", Args: cobra.NoArgs,
		Example: "  lockkeeper measures\n  lockkeeper measures --since 90d --project payments --environment production --weeks\n  lockkeeper measures --since 2026-10-01 --until 2026-11-01 --persons --output json",
		Long: `Everything is taken from the journal, and docs/measures.md says what each word means. A
percentile is one of the durations, by nearest rank. Where nothing happened it says none,
not 0. With --persons it tells how each person voted; that takes journal/export at /.

--since and --until are an instant (2026-11-01T00:00:00Z), a day of UTC (2026-11-01), or
how long ago (12h, 30d, 4w). The window holds its beginning and not its end.`}
	c.Flags().StringVar(&since, "since", "30d", "where the window begins")
	c.Flags().StringVar(&until, "until", "", "where it ends; default: now")
	c.Flags().StringVar(&project, "project", "", "only of this project")
	c.Flags().StringVar(&environment, "environment", "", "only of this environment of the project")
	c.Flags().DurationVar(&hasty, "hasty", 10*time.Second, "an approval given sooner after the opening than this counts as hasty")
	c.Flags().BoolVar(&persons, "persons", false, "tell how each person voted, too")
	c.Flags().BoolVar(&weeks, "weeks", false, "tell it by the week, too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		now := time.Now()
		q := url.Values{"project": {project}, "environment": {environment}, "persons": {strconv.FormatBool(persons)}, "hasty": {strconv.Itoa(int(hasty / time.Second))}}
		if hasty%time.Second != 0 {
			return lockkeeper.Invalid.Errorf("duration_malformed", "--hasty is %s, which is no whole number of seconds.", hasty)
		}
		for name, text := range map[string]string{"since": since, "until": until} {
			at, err := instantOf(text, now)
			if err != nil {
				return err
			}
			if !at.IsZero() {
				q.Set(name, at.String())
			}
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		var m api.Measures
		if err := client.Call(c.Context(), "GET", "/measures?"+q.Encode(), nil, &m); err != nil {
			return err
		}
		return a.print(m, func(w io.Writer) { printMeasures(w, m, weeks) })
	}
	return c
}

// instantOf reads an instant, a day of UTC, or how long before now something was; ""
// is the zero moment.
func instantOf(s string, now time.Time) (lockkeeper.Moment, error) {
	if s == "" {
		return lockkeeper.Moment{}, nil
	}
	if m, is := dayOrInstant(s); is {
		return m, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return lockkeeper.MomentOf(now.Add(-ago)), nil
	}
	for unit, days := range map[string]int{"d": 1, "w": 7} {
		if n, err := strconv.Atoi(strings.TrimSuffix(s, unit)); err == nil && strings.HasSuffix(s, unit) && n >= 0 && n <= 10_000 {
			return lockkeeper.MomentOf(now.Add(-time.Duration(n*days) * 24 * time.Hour)), nil
		}
	}
	return lockkeeper.Moment{}, lockkeeper.Invalid.Errorf("moment_malformed", "%.40q is no instant, and not how long ago something was.", s).
		WithNext("Write 2026-11-01T00:00:00Z, 2026-11-01, 12h, 30d or 4w.")
}

// dayOrInstant reads an instant, or a day, whose beginning in UTC is meant.
func dayOrInstant(s string) (lockkeeper.Moment, bool) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return lockkeeper.MomentOf(t), true
		}
	}
	return lockkeeper.Moment{}, false
}

// span writes seconds for people: its two largest units.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.3gs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd %dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// cells are the three columns of a spread.
func cells(s api.Spread) string {
	if s.Count == 0 {
		return "none\t\t"
	}
	return span(*s.P50) + "\t" + span(*s.P90) + "\t" + span(*s.Max)
}

func orNone(n *float64, format string, factor float64) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprintf(format, *n*factor)
}

func printMeasures(w io.Writer, m api.Measures, weeks bool) {
	fmt.Fprintf(w, "From %s up to %s, at %s\n", m.Since, m.Until, m.Scope)
	if m.Since.Before(m.From) {
		fmt.Fprintf(w, "The journal begins at %s; before that nothing is known.\n", m.From)
	}
	for _, e := range m.Environments {
		fmt.Fprintf(w, "\n%s/%s\n", e.Project, e.Name)
		printEnvironment(w, e)
		printChecks(w, e.Checks)
		if weeks {
			printWeeks(w, e.Weeks)
		}
	}
	if len(m.Environments) == 0 {
		fmt.Fprintln(w, "There is no environment here that you may read.")
	}
	fmt.Fprintln(w)
	for _, x := range m.Exceptions {
		fmt.Fprintf(w, "%s at %s: %d\n", map[string]string{"break_glass": "the glass was broken", "override": "checks were overridden"}[x.Kind], printable(string(x.Scope)), x.Count)
	}
	if len(m.Exceptions) == 0 {
		fmt.Fprintln(w, "Nobody broke the glass, and no check was overridden.")
	}
	printPersons(w, m)
}

func printEnvironment(w io.Writer, e api.MeasuredEnvironment) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  \tHALF WITHIN\t9 OF 10 WITHIN\tLONGEST\tOF")
	fmt.Fprintf(t, "  lead time\t%s\t%d\n", cells(e.Lead), e.Lead.Count)
	fmt.Fprintf(t, "  time to restore\t%s\t%d\n", cells(e.Restore), e.Restore.Count)
	fmt.Fprintf(t, "  waiting at the gate\t%s\t%d\n", cells(e.Waiting), e.Waiting.Count)
	fmt.Fprintf(t, "  waiting in vain\t%s\t%d\n", cells(e.Abandoned), e.Abandoned.Count)
	fmt.Fprintf(t, "  from asking to a vote\t%s\t%d\n", cells(e.Votes.Decision), e.Votes.Decision.Count)
	t.Flush()
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  deployment frequency\t%s\t%d succeeded; days on which one did: %d\n", orNone(e.PerWeek, "%.1f a week", 1), e.Successes, e.Days)
	fmt.Fprintf(t, "  change failure rate\t%s\t%d failed and %d were taken back, of %d\n", orNone(e.FailureShare, "%.0f %%", 100), e.Failures, e.TakenBack, e.Successes+e.Failures)
	if e.Rollbacks > 0 {
		fmt.Fprintf(t, "  rollbacks\t%d\t%d failed\n", e.Rollbacks, e.RollbacksFail)
	}
	fmt.Fprintf(t, "  votes\t%d\t%s\n", e.Votes.Approvals+e.Votes.Rejections, votesText(e.Votes))
	asked := "nobody voted"
	if e.PerVoter != nil {
		asked = fmt.Sprintf("%.1f times for each person who voted", *e.PerVoter)
	}
	fmt.Fprintf(t, "  approvers were asked\t%d\t%s\n", e.Prompts, asked)
	t.Flush()
	if !e.BrokenSince.IsZero() {
		fmt.Fprintf(w, "  ! its last deployment failed, and nothing has succeeded since %s\n", e.BrokenSince)
	}
}

func votesText(v api.MeasuredVotes) string {
	text := fmt.Sprintf("%d approvals (%d hasty), %d rejections", v.Approvals, v.Hasty, v.Rejections)
	if v.Voters > 0 {
		text += fmt.Sprintf(", by %d persons", v.Voters)
	}
	return text
}

func printChecks(w io.Writer, list []api.CheckTime) {
	if len(list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\n  CHECK\tHELD UP\tHALF WITHIN\t9 OF 10 WITHIN\tLONGEST\tALONE\tFLAPS\tASKED")
	for _, c := range list {
		fmt.Fprintf(t, "  %s\t%d\t%s\t%s\t%d\t%d\n", printable(c.Name), c.Held.Count, cells(c.Held), span(c.Alone), c.Flaps, c.Prompts)
	}
	t.Flush()
}

func printWeeks(w io.Writer, list []api.MeasuredWeek) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\n  WEEK\tSUCCEEDED\tFAILED\tAPPROVALS\t")
	for _, k := range list {
		fmt.Fprintf(t, "  %s\t%d\t%d\t%d\t%s\n", k.Week, k.Successes, k.Failures, k.Approvals, map[bool]string{false: "in part"}[k.Whole])
	}
	t.Flush()
}

func printPersons(w io.Writer, m api.Measures) {
	if len(m.Persons) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PERSON\tAPPROVALS\tA WEEK\tMOST IN ONE\tREJECTIONS\tON ACCESS\tHASTY\tHALF WITHIN\t9 OF 10 WITHIN\tLONGEST")
	for _, p := range m.Persons {
		most := 0
		for _, k := range p.Weeks {
			most = max(most, k.Approvals)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%d\t%d\t%d\t%s\n", printable(p.Person), p.Votes.Approvals, orNone(p.PerWeek, "%.1f", 1), most, p.Votes.Rejections, p.Access, p.Votes.Hasty, cells(p.Votes.Decision))
	}
	t.Flush()
}
