package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"pgregory.net/rapid"
)

const quorumScope lockkeeper.Scope = "/projects/p/environments/e"

// drawQuorum is a world of one environment, of people who may start and approve
// there by themselves or by activating, and of a role that they may activate.
func drawQuorum(t *rapid.T) *catalog.Catalog {
	c := &catalog.Catalog{Users: map[string]catalog.User{}, Groups: map[string]catalog.Group{}, Assignments: map[string]catalog.Assignment{},
		Environments: map[lockkeeper.Scope]catalog.Environment{}, ActivationRules: map[string]catalog.ActivationRule{}, Roles: map[string]catalog.Role{
			"starter":  {Name: "starter", Actions: []lockkeeper.ActionPattern{"deployments/start"}},
			"approver": {Name: "approver", Actions: []lockkeeper.ActionPattern{"deployments/approve", "activations/approve"}},
			"both":     {Name: "both", Actions: []lockkeeper.ActionPattern{"*"}}}}
	var users, groups []string
	for i := range rapid.IntRange(1, 6).Draw(t, "users") {
		u := catalog.User{Name: fmt.Sprint("u", i), Off: rapid.IntRange(0, 9).Draw(t, "off") == 0}
		if rapid.IntRange(0, 3).Draw(t, "second account") == 0 {
			u.Person = "u0"
		}
		users, c.Users[u.Name] = append(users, u.Name), u
	}
	for i := range 3 {
		g := catalog.Group{Name: fmt.Sprint("g", i), Users: slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.SampledFrom(users), 0, 5).Draw(t, "members"))))}
		groups, c.Groups[g.Name] = append(groups, g.Name), g
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "assignments") {
		a := catalog.Assignment{Name: fmt.Sprint("a", i), Role: rapid.SampledFrom([]string{"starter", "approver", "both"}).Draw(t, "role"), Scope: rapid.SampledFrom([]lockkeeper.Scope{"/", quorumScope}).Draw(t, "scope")}
		switch rapid.IntRange(0, 5).Draw(t, "effect") {
		case 0:
			a.Deny = true
		case 1, 2:
			a.Eligible = true
		}
		a.Principal = lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: rapid.SampledFrom(users).Draw(t, "user")}
		if rapid.Bool().Draw(t, "to group") {
			a.Principal = lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: rapid.SampledFrom(groups).Draw(t, "group")}
		}
		c.Assignments[a.Name] = a
	}
	checks := func() (out []catalog.Check) {
		for i := range rapid.IntRange(0, 3).Draw(t, "checks") {
			check := catalog.Check{Name: fmt.Sprint("c", i), Approval: &catalog.Approval{Count: rapid.IntRange(1, 2).Draw(t, "count"),
				Groups: slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.SampledFrom(groups), 1, 2).Draw(t, "groups"))))}}
			if rapid.IntRange(0, 3).Draw(t, "escalates") == 0 {
				check.Approval.Escalate = &catalog.Escalation{After: catalog.Duration(time.Second), Groups: []string{rapid.SampledFrom(groups).Draw(t, "escalation")}}
			}
			if i > 0 && rapid.Bool().Draw(t, "after") {
				check.Approval.After = []string{fmt.Sprint("c", i-1)}
			}
			out = append(out, check)
		}
		return out
	}
	c.Environments[quorumScope] = catalog.Environment{Name: "e", Project: "p", Checks: checks(), Automation: rapid.Bool().Draw(t, "automation")}
	for i, role := range []string{"starter", "approver", "both"} {
		c.ActivationRules[fmt.Sprint("r", i)] = catalog.ActivationRule{Name: fmt.Sprint("r", i), Role: role, Scope: rapid.SampledFrom([]lockkeeper.Scope{"/", quorumScope}).Draw(t, "rule's scope"), Approvals: checks()}
	}
	return c
}

// TestShortages lets everybody vote again and again at the gate itself, and asks
// whether it passes: the gate and the proof must agree on every requester.
func TestShortages(t *testing.T) {
	short, full := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := drawQuorum(t)
		x, now := New(c), at(0)
		got := map[string][]Shortage{}
		for _, s := range x.Shortages(now) {
			got[s.Of] = append(got[s.Of], s)
			if s.Needs <= s.Persons || len(s.Approvals) == 0 || s.String() == "" {
				t.Fatalf("%+v is no shortage", s)
			}
		}
		e := c.Environments[quorumScope]
		compare := func(of string, scope lockkeeper.Scope, env catalog.Environment, right lockkeeper.Action, asks func(user string) bool) {
			said := func(user string) bool {
				return slices.ContainsFunc(got[of], func(s Shortage) bool { return !s.Automated && (s.Asks == user || s.Asks == "") })
			}
			for user := range c.Users {
				if !asks(user) {
					if slices.ContainsFunc(got[of], func(s Shortage) bool { return s.Asks == user }) {
						t.Fatalf("%s: %s could not even ask", of, user)
					}
					continue
				}
				passes := passesGate(c, x, scope, env, right, gate.Initiator{User: user, Account: user, Persons: []lockkeeper.Person{c.PersonOf(user)}})
				if passes == said(user) {
					t.Fatalf("%s: for %s the gate passes: %v, and the shortages are %v", of, user, passes, got[of])
				}
				if passes {
					full++
				} else {
					short++
				}
			}
		}
		compare("environment p/e", quorumScope, e, lockkeeper.ApproveDeployments, func(user string) bool { return mightDo(c, user, "deployments/start", quorumScope) })
		if len(e.Checks) > 0 && e.Automation {
			passes := passesGate(c, x, quorumScope, e, lockkeeper.ApproveDeployments, gate.Initiator{Account: "bot", Automation: true})
			if passes == slices.ContainsFunc(got["environment p/e"], func(s Shortage) bool { return s.Automated || s.Asks == "" }) {
				t.Fatalf("for automation the gate passes: %v, and the shortages are %v", passes, got["environment p/e"])
			}
		}
		for _, a := range c.Assignments {
			for _, scope := range []lockkeeper.Scope{"/", quorumScope} {
				rules := c.RulesOf(a.Role, scope)
				if !a.Eligible || !a.Scope.Contains(scope) || scope != a.Scope && !slices.ContainsFunc(rules, func(r catalog.ActivationRule) bool { return r.Scope == scope }) {
					continue
				}
				compare(fmt.Sprintf("activating %s at %s", a.Role, scope), scope, gateOfRules(rules), lockkeeper.ApproveActivations, func(user string) bool {
					return !c.Users[user].Off && slices.ContainsFunc(assigned(c, user), func(b catalog.Assignment) bool { return b.Eligible && b.Role == a.Role && b.Scope.Contains(scope) })
				})
			}
		}
	})
	if short < 50 || full < 50 {
		t.Errorf("%d gates were short and %d full: too few to tell", short, full)
	}
}

// gateOfRules is the gate that several rules make together.
func gateOfRules(rules []catalog.ActivationRule) (env catalog.Environment) {
	for _, r := range rules {
		for _, check := range r.Approvals {
			approval := *check.Approval
			approval.After = slices.Clone(approval.After)
			for i := range approval.After {
				approval.After[i] = r.Name + "." + approval.After[i]
			}
			env.Checks = append(env.Checks, catalog.Check{Name: r.Name + "." + check.Name, Approval: &approval})
		}
	}
	return env
}

// assigned lists the assignments to a user, himself or by his groups.
func assigned(c *catalog.Catalog, user string) (out []catalog.Assignment) {
	for _, a := range c.Assignments {
		if a.Principal.Kind == lockkeeper.UserPrincipal && a.Principal.Name == user || a.Principal.Kind == lockkeeper.GroupPrincipal && slices.Contains(c.Groups[a.Principal.Name].Users, user) {
			out = append(out, a)
		}
	}
	return out
}

// mightDo says it the plain way: granted or eligible, and not denied.
func mightDo(c *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope) bool {
	may := false
	for _, a := range assigned(c, user) {
		if a.Scope.Contains(scope) && slices.ContainsFunc(c.Roles[a.Role].Actions, func(p lockkeeper.ActionPattern) bool { return p.Matches(action) }) {
			if a.Deny {
				return false
			}
			may = true
		}
	}
	return may && !c.Users[user].Off
}

func passesGate(c *catalog.Catalog, x *Index, scope lockkeeper.Scope, env catalog.Environment, right lockkeeper.Action, by gate.Initiator) bool {
	env.Name = "e"
	f := gate.Facts{Environment: env, Initiators: []gate.Initiator{by}, Opened: at(0), Deadline: at(20)}
	now := f.Opened
	for range len(env.Checks) + 1 {
		now = now.Add(time.Second) // past every escalation of what has its turn
		for i := range len(c.Users) {
			user := fmt.Sprint("u", i)
			now = now.Add(time.Millisecond)
			v := gate.Vote{User: user, Counts: c.PersonOf(user), Persons: []lockkeeper.Person{c.PersonOf(user)}, At: now, Right: lockkeeper.Decision{Verdict: lockkeeper.Fail}}
			if mightDo(c, user, right, scope) {
				v.Right.Verdict = lockkeeper.Pass
			}
			for g := range c.Groups {
				if slices.Contains(c.Groups[g].Users, user) {
					v.Groups = append(v.Groups, g)
				}
			}
			f.Votes = append(f.Votes, v)
		}
	}
	for _, d := range gate.Approvals(f, now.Add(time.Millisecond)) {
		if !d.Passed(now.Add(time.Millisecond)) {
			return false
		}
	}
	return true
}

// TestShortagesSay spells out who is missing.
func TestShortagesSay(t *testing.T) {
	c := &catalog.Catalog{Users: map[string]catalog.User{"ann": {Name: "ann"}, "bob": {Name: "bob"}},
		Groups:      map[string]catalog.Group{"managers": {Name: "managers", Users: []string{"ann", "bob"}}},
		Roles:       map[string]catalog.Role{"all": {Name: "all", Actions: []lockkeeper.ActionPattern{"deployments/*"}}},
		Assignments: map[string]catalog.Assignment{"a": {Name: "a", Role: "all", Scope: "/", Principal: lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: "managers"}}},
		Environments: map[lockkeeper.Scope]catalog.Environment{quorumScope: {Name: "e", Project: "p", Checks: []catalog.Check{
			{Name: "two", Approval: &catalog.Approval{Count: 2, Groups: []string{"managers"}}}}}}}
	var got []string
	for _, s := range New(c).Shortages(at(0)) {
		got = append(got, s.String())
	}
	want := []string{"environment p/e: when ann asks, approval by two takes 2 different persons, and only 1 could (bob).",
		"environment p/e: when bob asks, approval by two takes 2 different persons, and only 1 could (ann)."}
	if !slices.Equal(got, want) {
		t.Error(strings.Join(got, "\n"))
	}
}

// Who stands in for a service that is away must be there, too.
func TestShortagesOfStandIns(t *testing.T) {
	rules := func(standIns ...string) *catalog.Catalog {
		c := &catalog.Catalog{Users: map[string]catalog.User{"ann": {Name: "ann"}, "bob": {Name: "bob"}},
			Groups: map[string]catalog.Group{"desk": {Name: "desk", Users: standIns}},
			Roles: map[string]catalog.Role{"approver": {Name: "approver", Actions: []lockkeeper.ActionPattern{"activations/approve"}},
				"migrator": {Name: "migrator", Actions: []lockkeeper.ActionPattern{"freezes/write"}}},
			Assignments: map[string]catalog.Assignment{"a": {Name: "a", Role: "approver", Scope: "/", Principal: lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: "desk"}},
				"m": {Name: "m", Role: "migrator", Scope: "/projects/p", Eligible: true, Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: "ann"}}},
			ActivationRules: map[string]catalog.ActivationRule{"r": {Name: "r", Role: "migrator", Scope: "/projects/p", Ticket: "CHG[0-9]+",
				TicketCall: &catalog.TicketCall{WhenAway: &catalog.Approval{Count: 1, Groups: []string{"desk"}}}}}}
		return c
	}
	if s := New(rules("bob")).Shortages(at(0)); len(s) != 0 {
		t.Errorf("bob could stand in: %v", s)
	}
	s := New(rules("ann")).Shortages(at(0))
	want := "activating migrator at /projects/p while the service that knows the tickets is away: when ann asks, approval by r.whenAway takes 1 person, and nobody could."
	if len(s) != 1 || s[0].String() != want {
		t.Errorf("got %v, want %s", s, want)
	}
}

// Whoever starts a run that must activate a role approves none of it, and a run that
// nobody starts asks for one more.
func TestShortagesOfRuns(t *testing.T) {
	stage := lockkeeper.Principal{Kind: lockkeeper.WorkloadPrincipal, Name: "p/l/s"}
	c := &catalog.Catalog{Users: map[string]catalog.User{"ann": {Name: "ann"}, "bob": {Name: "bob"}, "cat": {Name: "cat"}},
		Groups: map[string]catalog.Group{"managers": {Name: "managers", Users: []string{"ann", "bob"}}},
		Roles: map[string]catalog.Role{"starter": {Name: "starter", Actions: []lockkeeper.ActionPattern{"deployments/start"}},
			"approver": {Name: "approver", Actions: []lockkeeper.ActionPattern{"activations/approve"}}, "migrator": {Name: "migrator"}},
		Assignments: map[string]catalog.Assignment{"a": {Name: "a", Role: "approver", Scope: "/", Principal: lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: "managers"}},
			"s": {Name: "s", Role: "starter", Scope: "/", Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: "ann"}},
			"m": {Name: "m", Role: "migrator", Scope: quorumScope, Principal: stage, Eligible: true}},
		ActivationRules: map[string]catalog.ActivationRule{"r": {Name: "r", Role: "migrator", Scope: "/", Approvals: []catalog.Check{{Name: "two", Approval: &catalog.Approval{Count: 2, Groups: []string{"managers"}}}}}},
		Environments:    map[lockkeeper.Scope]catalog.Environment{quorumScope: {Name: "e", Project: "p", Activation: "migrator", Automation: true}}}
	says := func() string {
		var got []string
		for _, s := range New(c).Shortages(at(0)) {
			got = append(got, s.String())
		}
		return strings.Join(got, "\n")
	}
	want := "activating migrator at /projects/p/environments/e: when ann asks, approval by r.two takes 2 different persons, and only 1 could (bob).\n" +
		"activating migrator at /projects/p/environments/e: when a run asks that no person started, approval by r.two takes 3 different persons, and only 2 could (ann, bob)."
	if got := says(); got != want {
		t.Error(got)
	}
	c.Groups["managers"] = catalog.Group{Name: "managers", Users: []string{"ann", "bob", "cat"}}
	if got := says(); got != "" {
		t.Error(got)
	}
}

// BenchmarkShortages proves the gates of 990 environments, with two approvals
// each, and the activations of 2,000 eligible assignments in the large catalog.
func BenchmarkShortages(b *testing.B) {
	c, scopes := large(full)
	c.Environments, c.ActivationRules = map[lockkeeper.Scope]catalog.Environment{}, map[string]catalog.ActivationRule{}
	for i, s := range scopes {
		if strings.Contains(string(s), "/environments/") {
			check := func(n int) catalog.Check {
				return catalog.Check{Name: fmt.Sprint("c", n), Approval: &catalog.Approval{Count: 2, Groups: []string{fmt.Sprint("g", (i+n)%full.groups)}}}
			}
			c.Environments[s] = catalog.Environment{Name: string(s), Project: "p", Checks: []catalog.Check{check(0), check(500)}}
		}
	}
	for i := range 2000 {
		a := c.Assignments[fmt.Sprint("a", 50*i)]
		a.Eligible, a.Deny = true, false
		c.Assignments[a.Name] = a
	}
	for i := range full.roles {
		role := fmt.Sprint("r", i)
		c.ActivationRules[role] = catalog.ActivationRule{Name: role, Role: role, Scope: "/", Approvals: []catalog.Check{{Name: "c", Approval: &catalog.Approval{Count: 1, Groups: []string{fmt.Sprint("g", i)}}}}}
	}
	x := New(c)
	found := 0
	for b.Loop() {
		found = len(x.Shortages(at(20)))
	}
	b.ReportMetric(float64(found), "shortages")
}
