package measure

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Query says what a report is of.
type Query struct {
	Since, Until lockkeeper.Moment // the window: Since belongs to it, Until does not
	Scope        lockkeeper.Scope  // what lies in it is measured
	Hasty        time.Duration     // a vote given sooner after the opening counts as hasty
	// From and To are the part of the window that the journal knows of: it begins with
	// the journal at the earliest, and ends now at the latest.
	From, To lockkeeper.Moment
}

// A Report is what was measured in a window.
type Report struct {
	Query
	Environments []Environment
	Exceptions   []Exception
	Persons      []Person
}

// An Environment is what was measured of one.
type Environment struct {
	Scope lockkeeper.Scope

	// Successes and Failures are deployments that ended after they were let through,
	// without rollbacks. Failures do not hold TakenBack: successes that a rollback
	// took back.
	Successes, Failures, TakenBack    int
	Rollbacks, RollbacksFailed        int
	Statuses                          map[string]int // how asks ended, all of them
	Days                              int            // of UTC, on which at least one succeeded
	Lead, Restore, Waiting, Abandoned Spread         // Abandoned: asks that ended without being let through
	Broken                            lockkeeper.Moment
	Checks                            []Check
	Votes                             Votes
	Prompts                           int // times that an approval check began to ask
	Weeks                             []Week
}

// A Check is what was measured of one check.
type Check struct {
	Name    string
	Held    Spread        // for how long it held up those asks that it held up
	Alone   time.Duration // of all that, while nothing else did
	Flaps   int
	Prompts int
}

// Votes are people's verdicts.
type Votes struct {
	Approvals, Rejections int
	Voters                int
	Hasty                 int    // approvals given within Query.Hasty of the opening
	Decision              Spread // from the opening to the vote
}

// A Person is how one person voted. Access counts votes on activations.
type Person struct {
	Name   string
	Votes  Votes // of deployments and activations
	Access int
	Weeks  []Week
}

// An Exception is how often the glass was broken, or checks were waived, at a scope.
type Exception struct {
	Kind  Kind
	Scope lockkeeper.Scope
	Count int
}

// Changes are the deployments of the environment that ended after they were let
// through.
func (e Environment) Changes() int { return e.Successes + e.Failures }

// Failed are the changes that failed: at once, or because a rollback took them back.
func (e Environment) Failed() int { return e.Failures + e.TakenBack }

// maxSamples bounds the durations of one report.
const maxSamples = 2_000_000

// A Collector makes a report of samples.
type Collector struct {
	q            Query
	environments map[lockkeeper.Scope]*environment
	persons      map[string]*voter
	exceptions   map[Exception]int
	samples      int
}

type environment struct {
	Environment
	lead, restore, waiting, abandoned []time.Duration
	checks                            map[string]*check
	votes                             voter
	voters                            map[string]bool
	days                              map[int64]bool
	weeks                             weeks
}

type check struct {
	Check
	held []time.Duration
}

type voter struct {
	Votes
	access   int
	decision []time.Duration
	weeks    weeks
}

type weeks map[lockkeeper.Moment]*Week

func (w weeks) of(at lockkeeper.Moment) *Week {
	from := weekOf(at)
	if w[from] == nil {
		w[from] = &Week{From: from}
	}
	return w[from]
}

// list is every week that the observed window touches, with nothing in it or not.
func (w weeks) list(from, to lockkeeper.Moment) []Week {
	out := []Week{}
	if !from.Before(to) {
		return out
	}
	for at := weekOf(from); at.Before(to); at = at.Add(week) {
		k := Week{From: at}
		if known := w[at]; known != nil {
			k = *known
		}
		k.Whole = !at.Before(from) && !to.Before(at.Add(week))
		out = append(out, k)
	}
	return out
}

// NewCollector collects for a query. Environments that are named have a place in
// the report though nothing happened in them.
func NewCollector(q Query, environments ...lockkeeper.Scope) *Collector {
	c := &Collector{q: q, environments: map[lockkeeper.Scope]*environment{}, persons: map[string]*voter{}, exceptions: map[Exception]int{}}
	for _, s := range environments {
		c.of(s)
	}
	return c
}

func (c *Collector) of(s lockkeeper.Scope) *environment {
	e := c.environments[s]
	if e == nil {
		e = &environment{Environment: Environment{Scope: s, Statuses: map[string]int{}}, checks: map[string]*check{},
			voters: map[string]bool{}, days: map[int64]bool{}, weeks: weeks{}, votes: voter{weeks: weeks{}}}
		c.environments[s] = e
	}
	return e
}

// Full reports whether the collector takes no more samples: the window is too large.
func (c *Collector) Full() bool { return c.samples > maxSamples }

// Add takes a sample; one outside the window or the scope counts for nothing.
func (c *Collector) Add(s Sample) {
	if s.Kind == Restored {
		c.open(s)
	}
	if s.At.Before(c.q.Since) || !s.At.Before(c.q.Until) || c.Full() {
		return
	}
	if s.Kind == BrokeGlass || s.Kind == Overrode {
		if c.q.Scope.Contains(s.Scope) || s.Scope.Contains(c.q.Scope) {
			c.exceptions[Exception{Kind: s.Kind, Scope: s.Scope}]++
		}
		return
	}
	if !c.q.Scope.Contains(s.Scope) {
		return
	}
	c.samples++
	if s.Kind == Voted {
		c.person(s)
	}
	if s.Scope.Environment() != "" && !s.Access {
		c.of(s.Scope).add(s, c.q.Hasty)
	}
}

// open notes what was still broken at the end of the window, though it was restored
// after it.
func (c *Collector) open(s Sample) {
	since := s.At.Add(-s.For)
	if c.q.Scope.Contains(s.Scope) && since.Before(c.q.Until) && !s.At.Before(c.q.Until) {
		c.StillBroken(s.Scope, since)
	}
}

// StillBroken says that an environment was broken since an instant when the fold
// ended.
func (c *Collector) StillBroken(scope lockkeeper.Scope, since lockkeeper.Moment) {
	if !c.q.Scope.Contains(scope) || !since.Before(c.q.Until) {
		return
	}
	if e := c.of(scope); e.Broken.IsZero() || since.Before(e.Broken) {
		e.Broken = since
	}
}

func (c *Collector) person(s Sample) {
	p := c.persons[s.Person]
	if p == nil {
		p = &voter{weeks: weeks{}}
		c.persons[s.Person] = p
	}
	p.add(s, c.q.Hasty)
}

func (v *voter) add(s Sample, hasty time.Duration) {
	v.decision = append(v.decision, s.For)
	if s.Access {
		v.access++
	}
	if !s.Approved {
		v.Rejections++
		return
	}
	v.Approvals++
	v.weeks.of(s.At).Approvals++
	if s.For < hasty {
		v.Hasty++
	}
}

func (v *voter) votes() Votes {
	v.Decision = SpreadOf(v.decision)
	return v.Votes
}

func (e *environment) check(name string) *check {
	if e.checks[name] == nil {
		e.checks[name] = &check{Check: Check{Name: name}}
	}
	return e.checks[name]
}

func (e *environment) add(s Sample, hasty time.Duration) {
	switch s.Kind {
	case Ended:
		e.ended(s)
	case Lead:
		e.lead = append(e.lead, s.For)
	case TakenAway:
		e.TakenBack++
	case Restored:
		e.restore = append(e.restore, s.For)
	case Waited:
		e.waiting = append(e.waiting, s.For)
	case GaveUp:
		e.abandoned = append(e.abandoned, s.For)
	case Held:
		k := e.check(s.Check)
		k.held, k.Alone = append(k.held, s.For), k.Alone+s.Alone
	case Flapped:
		e.check(s.Check).Flaps++
	case Prompted:
		e.check(s.Check).Prompts++
		e.Prompts++
	case Voted:
		e.votes.add(s, hasty)
		e.voters[s.Person] = true
		if s.Approved {
			e.weeks.of(s.At).Approvals++
		}
	}
}

func (e *environment) ended(s Sample) {
	e.Statuses[s.Status]++
	switch {
	case !s.Ran:
	case s.Rollback:
		e.Rollbacks++
		if s.Status != Succeeded {
			e.RollbacksFailed++
		}
	case s.Status == Succeeded:
		e.Successes++
		e.weeks.of(s.At).Successes++
		e.days[s.At.Time().Unix()/int64(24*time.Hour/time.Second)] = true
	default:
		e.Failures++
		e.weeks.of(s.At).Failures++
	}
}

// Report is what was collected, in an order that does not depend on that of the
// samples.
func (c *Collector) Report() Report {
	r := Report{Query: c.q, Environments: []Environment{}, Exceptions: []Exception{}, Persons: []Person{}}
	for _, scope := range sortedKeys(c.environments) {
		r.Environments = append(r.Environments, c.environments[scope].report(c.q))
	}
	for x, n := range c.exceptions {
		r.Exceptions = append(r.Exceptions, Exception{x.Kind, x.Scope, n})
	}
	slices.SortFunc(r.Exceptions, func(a, b Exception) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Kind, b.Kind))
	})
	for _, name := range sortedKeys(c.persons) {
		p := c.persons[name]
		r.Persons = append(r.Persons, Person{Name: name, Votes: p.votes(), Access: p.access, Weeks: p.weeks.list(c.q.From, c.q.To)})
	}
	return r
}

func (e *environment) report(q Query) Environment {
	out := e.Environment
	out.Lead, out.Restore, out.Waiting, out.Abandoned = SpreadOf(e.lead), SpreadOf(e.restore), SpreadOf(e.waiting), SpreadOf(e.abandoned)
	out.Days, out.Weeks, out.Votes = len(e.days), e.weeks.list(q.From, q.To), e.votes.votes()
	out.Votes.Voters = len(e.voters)
	out.Checks = []Check{}
	for _, name := range sortedKeys(e.checks) {
		k := e.checks[name].Check
		k.Held = SpreadOf(e.checks[name].held)
		out.Checks = append(out.Checks, k)
	}
	return out
}
