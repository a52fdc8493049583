package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Shortage is a set of approvals for which there are not persons enough when
// somebody asks: the gate that they stand at could only wait.
type Shortage struct {
	Of        string           `json:"of"`                  // what is asked for
	Scope     lockkeeper.Scope `json:"scope"`               // where
	Asks      string           `json:"asks,omitempty"`      // the user who asks; "": whoever does, or automation
	Automated bool             `json:"automated,omitempty"` // a run asks that no person started
	Approvals []string         `json:"approvals"`           // that compete for the same persons
	Needs     int              `json:"needs"`               // distinct persons
	Persons   int              `json:"persons"`             // that there are
	Able      []string         `json:"able"`                // the users of those persons, sorted
}

// String says a shortage in one sentence.
func (s Shortage) String() string {
	who := "whoever asks"
	switch {
	case s.Asks != "":
		who = "when " + s.Asks + " asks"
	case s.Automated:
		who = "when a run asks that no person started"
	}
	able := "nobody could"
	if s.Persons > 0 {
		able = fmt.Sprintf("only %d could (%s)", s.Persons, shortList(s.Able))
	}
	takes := "1 person"
	if s.Needs > 1 {
		takes = fmt.Sprintf("%d different persons", s.Needs)
	}
	return fmt.Sprintf("%s: %s, approval by %s takes %s, and %s.", s.Of, who, strings.Join(s.Approvals, " and "), takes, able)
}

func shortList(names []string) string {
	if len(names) > 8 {
		return strings.Join(names[:8], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// Shortages proves for every environment and everybody who may ask to deploy
// there, and for every role and everybody who may activate it, that the persons
// are there whom the approvals ask for: members of the groups who hold the right
// at now, or could activate it, without the persons of the one who asks, each for
// one place only. It lists where that fails, by scope. Whoever built what is
// deployed approves neither; that is not known beforehand, and not counted.
func (x *Index) Shortages(now lockkeeper.Moment) []Shortage {
	q := newQuorum(x, now)
	for _, scope := range slices.Sorted(maps.Keys(x.c.Environments)) {
		e := x.c.Environments[scope]
		for _, action := range e.Paths() {
			of := "environment " + e.Project + "/" + e.Name
			if action != lockkeeper.DeployAction {
				of = "a " + action + " in the " + of
			}
			for _, when := range e.For(action).Conditions() {
				of := of
				if when != "" {
					of += ", where " + when
				}
				q.gate(gateOf{of: of, scope: scope, right: lockkeeper.ApproveDeployments, checks: e.For(action).Under(when).Checks, automation: e.Automation},
					func(user string) bool { return q.could(user, lockkeeper.StartDeployments, scope) })
			}
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(x.c.Environments)) {
		q.records(scope, x.c.Environments[scope])
	}
	for _, a := range q.activations() {
		q.gate(a, func(user string) bool {
			return x.Eligible(user, a.role, a.scope, now).Passed(now) ||
				slices.ContainsFunc(a.runs, func(s lockkeeper.Scope) bool { return q.could(user, lockkeeper.StartDeployments, s) })
		})
	}
	return q.found
}

type quorum struct {
	x        *Index
	now      lockkeeper.Moment
	members  map[string][]string              // users of each group
	accounts map[lockkeeper.Person][]string   // users of each person
	eligible map[string][]*catalog.Assignment // of each user, now
	allows   map[string]uint64                // what each role allows
	found    []Shortage
}

func newQuorum(x *Index, now lockkeeper.Moment) *quorum {
	q := &quorum{x: x, now: now, members: x.membership(), accounts: map[lockkeeper.Person][]string{}, eligible: map[string][]*catalog.Assignment{}, allows: map[string]uint64{}}
	for _, user := range slices.Sorted(maps.Keys(x.users)) {
		p := x.c.PersonOf(user)
		q.accounts[p] = append(q.accounts[p], user)
	}
	for i := range x.eligible {
		a := &x.eligible[i]
		if !(found{Assignment: a}).holdsAt(now) {
			continue
		}
		users := q.members[a.Principal.Name]
		if a.Principal.Kind == lockkeeper.UserPrincipal {
			users = []string{a.Principal.Name}
		}
		for _, user := range users {
			q.eligible[user] = append(q.eligible[user], a)
		}
	}
	for name, r := range x.c.Roles {
		q.allows[name] = x.mask(r)
	}
	return q
}

// gateOf is where approvals are asked for.
type gateOf struct {
	of         string
	scope      lockkeeper.Scope
	right      lockkeeper.Action
	checks     []catalog.Check
	automation bool
	role       string // that is activated

	runs []lockkeeper.Scope // environments that demand it of runs, which somebody starts
}

// activations are the roles that somebody may activate, at the scopes where one
// may or where more is asked for.
func (q *quorum) activations() []gateOf {
	type at struct {
		role  string
		scope lockkeeper.Scope
	}
	seen := map[at]bool{}
	for _, a := range q.x.eligible {
		seen[at{a.Role, a.Scope}] = true
		for _, r := range q.x.c.ActivationRules {
			if r.Role == a.Role && a.Scope.Contains(r.Scope) {
				seen[at{a.Role, r.Scope}] = true
			}
		}
	}
	var out []gateOf
	for s := range seen {
		g := gateOf{of: fmt.Sprintf("activating %s at %s", s.role, s.scope), scope: s.scope, right: lockkeeper.ApproveActivations, role: s.role}
		for _, r := range q.x.c.RulesOf(s.role, s.scope) {
			for _, c := range r.Approvals {
				c.Name = r.Name + "." + c.Name
				g.checks = append(g.checks, c)
			}
		}
		q.runs(&g)
		out = append(out, g)
		for _, r := range q.x.c.RulesOf(s.role, s.scope) { // who stands in for a service is judged beside the rest
			if r.TicketCall != nil && r.TicketCall.WhenAway != nil {
				away := g
				away.of, away.checks = g.of+" while the service that knows the tickets is away", []catalog.Check{{Name: r.Name + ".whenAway", Approval: r.TicketCall.WhenAway}}
				out = append(out, away)
			}
		}
	}
	slices.SortFunc(out, func(a, b gateOf) int {
		return cmp.Or(cmp.Compare(a.scope, b.scope), cmp.Compare(a.role, b.role), cmp.Compare(a.of, b.of))
	})
	return out
}

// runs adds to the activation of a role the environments whose runs must have
// activated it, where a stage is eligible: whoever starts such a run approves none
// of it, and a run that nobody starts asks for one person more.
func (q *quorum) runs(g *gateOf) {
	if !slices.ContainsFunc(q.x.eligible, func(a catalog.Assignment) bool {
		return a.Principal.Kind == lockkeeper.WorkloadPrincipal && a.Role == g.role && a.Scope.Contains(g.scope)
	}) {
		return
	}
	for _, scope := range slices.Sorted(maps.Keys(q.x.c.Environments)) {
		if e := q.x.c.Environments[scope]; e.Activation == g.role && g.scope.Contains(scope) {
			g.runs = append(g.runs, scope)
			g.automation = g.automation || e.Automation
		}
	}
}

// membership lists the users of each group.
func (x *Index) membership() map[string][]string {
	out := map[string][]string{}
	for name, g := range x.numbers {
		for user, m := range x.users {
			if in, _ := x.row(m); in.has(g) {
				out[name] = append(out[name], user)
			}
		}
		slices.Sort(out[name])
	}
	return out
}

// could reports whether a user holds an action at a scope, or could activate it.
func (q *quorum) could(user string, action lockkeeper.Action, scope lockkeeper.Scope) bool {
	if q.x.Allowed(user, action, scope, q.now) {
		return true
	}
	return slices.ContainsFunc(q.eligible[user], func(a *catalog.Assignment) bool {
		f := found{Assignment: a, condition: q.x.conditions[a.Condition]}
		return a.Scope.Contains(scope) && q.allows[a.Role]&q.x.actions[action] != 0 && f.stands(q.x.circumstance(asker{name: user}, action, scope, q.now), q.now).holds
	}) && q.x.Check(user, action, scope, q.now).Code == "not_granted"
}

// gate looks for the shortages of one gate. Whoever is in no place of a full
// matching takes nothing from it by asking, so only those who are asked for anew.
func (q *quorum) gate(g gateOf, asks func(user string) bool) {
	m := matching{owner: map[lockkeeper.Person]int{}}
	users := map[lockkeeper.Person][]string{}
	for _, c := range g.checks {
		if c.Approval == nil || c.Shadow {
			continue
		}
		var persons []lockkeeper.Person
		for _, group := range c.Approval.Asks() {
			for _, user := range q.members[group] {
				if p := q.x.c.PersonOf(user); q.could(user, g.right, g.scope) {
					persons = append(persons, p)
					if !slices.Contains(users[p], user) {
						users[p] = append(users[p], user)
					}
				}
			}
		}
		for n := len(persons); slices.ContainsFunc(c.Approval.Asks(), q.x.c.Open) && n < places(g.checks); n++ {
			persons = append(persons, lockkeeper.Person(fmt.Sprintf("directory/%d", n))) // whom a directory will name
		}
		slices.Sort(persons)
		m.names, m.needs, m.able = append(m.names, c.Name), append(m.needs, c.Approval.Count), append(m.able, slices.Compact(persons))
	}
	report := func(s Shortage, checks []int, persons []lockkeeper.Person) {
		s.Of, s.Scope, s.Persons, s.Able = g.of, g.scope, len(persons), []string{}
		for _, i := range checks {
			s.Approvals, s.Needs = append(s.Approvals, m.names[i]), s.Needs+m.needs[i]
		}
		for _, p := range persons {
			s.Able = append(s.Able, users[p]...)
		}
		slices.Sort(s.Able)
		q.found = append(q.found, s)
	}
	if checks, persons, full := m.fill(); !full {
		report(Shortage{}, checks, persons)
		return
	}
	for _, p := range slices.Sorted(maps.Keys(m.owner)) {
		for _, user := range q.accounts[p] {
			if !asks(user) {
				continue
			}
			without := m.clone()
			without.absent = p
			delete(without.owner, p)
			if checks, persons, full := without.place(m.owner[p]); !full {
				report(Shortage{Asks: user}, checks, persons)
			}
		}
	}
	if g.automation && len(m.needs) > 0 {
		for i := range m.needs {
			m.needs[i]++
		}
		m.owner = map[lockkeeper.Person]int{}
		if checks, persons, full := m.fill(); !full {
			report(Shortage{Automated: true}, checks, persons)
		}
	}
}

// places is how many persons all approvals of a gate take, and one more for whom
// automation asks.
func places(checks []catalog.Check) int {
	n := 1
	for _, c := range checks {
		if c.Approval != nil {
			n += c.Approval.Count + 1
		}
	}
	return n
}

// A matching gives persons to the places of approvals, one place a person.
type matching struct {
	names  []string
	needs  []int
	able   [][]lockkeeper.Person
	owner  map[lockkeeper.Person]int // the approval that a person fills a place of
	absent lockkeeper.Person         // fills none
}

func (m *matching) clone() *matching {
	c := *m
	c.owner = maps.Clone(m.owner)
	return &c
}

// fill fills every place, or returns the approvals and all the persons that there
// are for them, fewer than places (Hall's theorem).
func (m *matching) fill() ([]int, []lockkeeper.Person, bool) {
	for i, n := range m.needs {
		for range n {
			if checks, persons, full := m.place(i); !full {
				return checks, persons, false
			}
		}
	}
	return nil, nil, true
}

// place fills one more place of an approval, moving others where need be.
func (m *matching) place(i int) ([]int, []lockkeeper.Person, bool) {
	tried := map[lockkeeper.Person]bool{}
	if m.augment(i, tried) {
		return nil, nil, true
	}
	checks := []int{i}
	for p := range tried {
		if c := m.owner[p]; !slices.Contains(checks, c) {
			checks = append(checks, c)
		}
	}
	slices.Sort(checks)
	return checks, slices.Sorted(maps.Keys(tried)), false
}

func (m *matching) augment(i int, tried map[lockkeeper.Person]bool) bool {
	for _, p := range m.able[i] {
		if tried[p] || p == m.absent {
			continue
		}
		tried[p] = true
		other, placed := m.owner[p]
		if !placed || m.augment(other, tried) {
			m.owner[p] = i
			return true
		}
	}
	return false
}
