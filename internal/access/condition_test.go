package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// TestConditionsInTime asks at any minute, and holds the end of each pass against
// the reference at every moment of the world up to it.
func TestConditionsInTime(t *testing.T) {
	ends, horizons := 0, 0
	lively(t, func() bool { return ends >= 20 }, func(t *rapid.T) {
		w := drawWorld(t)
		for name, a := range w.c.Assignments { // times of minutes and not of milliseconds
			stretch := func(m lockkeeper.Moment) lockkeeper.Moment {
				if m.IsZero() {
					return m
				}
				return epoch.Add(m.Sub(epoch) * 170_007)
			}
			a.Start, a.End = stretch(a.Start), stretch(a.End)
			w.c.Assignments[name] = a
		}
		x := New(w.c)
		now := at(rapid.IntRange(0, 80*60_000).Draw(t, "now"))
		action := lockkeeper.Action(rapid.SampledFrom([]string{"deployments/approve", "changes/read", "journal/read"}).Draw(t, "action"))
		for _, user := range w.users {
			for _, scope := range w.scopes {
				switch checkEnd(t, w.c, x, question{user, action, scope, now}) {
				case "ends":
					ends++
				case "horizon":
					horizons++
				}
			}
		}
	})
	if !t.Failed() && ends < 20 {
		t.Errorf("%d passes ended and %d went to the horizon: too dull", ends, horizons)
	}
}

// checkEnd says how a pass ends; "" where there is none, or it does not.
func checkEnd(t *rapid.T, c *catalog.Catalog, x *Index, q question) string {
	d := x.Check(q.user, q.action, q.scope, q.now)
	if want := reference(c, q.user, q.action, q.scope, q.now); (d.Verdict == lockkeeper.Pass) != want || x.Allowed(q.user, q.action, q.scope, q.now) != want {
		t.Fatalf("%+v: want %v, Check says %+v", q, want, d)
	}
	if d.Verdict != lockkeeper.Pass {
		return ""
	}
	last := q.now.Add(3 * time.Hour)
	if d.Until != nil {
		last = *d.Until
	}
	for _, m := range changes(c, q.now, last) {
		if m.Before(last) && !reference(c, q.user, q.action, q.scope, m) {
			t.Fatalf("%+v passes until %v, and not at %s", q, d.Until, m)
		}
	}
	switch {
	case d.Until == nil:
		return ""
	case !reference(c, q.user, q.action, q.scope, last):
		return "ends"
	case last != horizon(q.now):
		t.Fatalf("%+v passes until %s, and then too", q, last)
	}
	return "horizon"
}

// changes are the moments between two at which anything can change.
func changes(c *catalog.Catalog, from, to lockkeeper.Moment) []lockkeeper.Moment {
	out := []lockkeeper.Moment{from}
	for n := 0; n < 6*60; n++ {
		out = append(out, epoch.Add(time.Duration(n)*time.Minute))
	}
	for _, a := range c.Assignments {
		out = append(out, a.Start, a.End)
	}
	return slices.DeleteFunc(out, func(m lockkeeper.Moment) bool { return m.Before(from) || to.Before(m) })
}

const conditionalRules = `
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: Group, name: rescuers, users: [bob]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Environment, name: f, project: p, tier: preproduction}
---
{kind: ActivationRule, name: rule, role: auditor, scope: /}
---
{kind: Assignment, name: low, role: release-manager, principal: user:ann, scope: /projects/p, condition: 'tier in ["development"]'}
---
{kind: Assignment, name: odd, role: security-reviewer, principal: user:ann, scope: /projects/p, condition: '{"f": true}[environment]'}
---
{kind: Assignment, name: bob, role: release-manager, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: shut, role: release-manager, principal: group:rescuers, scope: /projects/p, deny: true, here: true}
---
{kind: Assignment, name: stuck, role: release-manager, principal: user:bob, scope: /projects/p/environments/f, deny: true, except: [group:rescuers]}
---
{kind: Assignment, name: maybe, role: auditor, principal: user:ann, scope: /, eligible: true, condition: 'project == "p"'}
`

func TestConditionsAreNamed(t *testing.T) {
	x := New(read(t, conditionalRules))
	const e, f = "/projects/p/environments/e", "/projects/p/environments/f"
	for _, test := range []struct {
		user, scope, code, says string
	}{
		{"ann", e, "granted", `on the condition tier in [\"development\"].`},
		{"ann", f, "granted", `on the condition {\"f\": true}[environment].`},
		{"ann", "/projects/p", "not_granted", `on the condition tier in [\"development\"], which is not so`},
		{"ann", "/projects/p", "not_granted", `on the condition {\"f\": true}[environment], which could not be judged: no such key`},
		{"bob", "/projects/p", "denied_by_assignment", "denied role release-manager → at /projects/p"}, // here
		{"bob", e, "granted", "user bob → role release-manager"},                                       // and not below
		{"bob", f, "granted", "user bob → role release-manager"},                                       // the deny leaves rescuers out
	} {
		d, paths := x.Explain(user(test.user), lockkeeper.ApproveDeployments, lockkeeper.Scope(test.scope), epoch)
		if d.Code != test.code || !strings.Contains(text(t, d), test.says) {
			t.Errorf("%s at %s: %s, want %s with %s", test.user, test.scope, text(t, d), test.code, test.says)
		}
		if len(paths) != len(d.Because) {
			t.Errorf("%s at %s: %d paths of %d reasons", test.user, test.scope, len(paths), len(d.Because))
		}
	}
	if d := x.Eligible("ann", "auditor", "/", epoch); d.Code != "eligible" {
		t.Errorf("what an eligible assignment is used for is not known when the role is activated: %+v", d)
	}
	for scope, want := range map[lockkeeper.Scope]bool{"/projects/p": true, "/": false, e: true} {
		about := catalog.Circumstance{Action: lockkeeper.ReadJournal, Scope: scope, User: "ann", Now: epoch}
		if d := x.EligibleTo("auditor", "/", about); d.Passed(epoch) != want {
			t.Errorf("the auditor at %s: %+v", scope, d)
		}
		if n := len(x.Activatable("ann", lockkeeper.ReadJournal, scope, epoch)); (n == 1) != want {
			t.Errorf("%d roles would open %s", n, scope)
		}
	}
}

// What no minute up to the horizon changes is asked about again then.
func TestUntilHorizon(t *testing.T) {
	x := New(read(t, `
{kind: User, name: ann}
---
{kind: Assignment, name: a, role: reader, principal: user:ann, scope: /, condition: 'now < timestamp("2026-03-01T08:00:00Z")'}
`))
	for now, want := range map[lockkeeper.Moment]lockkeeper.Moment{epoch.Add(7): epoch.Add(time.Hour), epoch.Add(44*time.Minute + 7): epoch.Add(90 * time.Minute), epoch.Add(7*time.Hour + 31*time.Minute): epoch.Add(8 * time.Hour)} {
		if d := x.Check("ann", lockkeeper.ReadCatalog, "/", now); d.Until == nil || *d.Until != want {
			t.Errorf("at %s it passes until %v, want %s", now, d.Until, want)
		}
	}
}

// A deny that comes to hold by the time of its condition is seen coming.
func TestDeniedFromCondition(t *testing.T) {
	x := New(read(t, `
{kind: User, name: ann}
---
{kind: Assignment, name: a, role: reader, principal: user:ann, scope: /, deny: true, condition: 'now >= timestamp("2026-03-01T00:20:00Z")'}
`))
	for now, want := range map[lockkeeper.Moment]lockkeeper.Moment{epoch.Add(5*time.Minute + 7): epoch.Add(20 * time.Minute), epoch.Add(-3 * time.Hour): epoch.Add(-2 * time.Hour)} {
		if got := x.DeniedFrom("ann", lockkeeper.ReadCatalog, "/", now); got == nil || *got != want {
			t.Errorf("from %s it is denied at %v, want %s", now, got, want)
		}
	}
}

// conditionally gives one assignment in so many a condition.
func conditionally(c *catalog.Catalog, one int) {
	texts := []string{`tier == "production" || project != "p1"`, `now < timestamp("2030-01-01T00:00:00Z")`, `user != "u1" && scope.startsWith("/projects/")`, `environment in ["e1", "e2", "e3"] && action.startsWith("deployments/")`}
	for i := 0; i < len(c.Assignments); i += one {
		a := c.Assignments[fmt.Sprint("a", i)]
		a.Condition = texts[i/one%len(texts)]
		c.Assignments[a.Name] = a
	}
}

// TestLargeConditions asks a larger catalog, half of whose assignments have a
// condition, about everybody: WhoCan, Allowed and Check say the same.
func TestLargeConditions(t *testing.T) {
	c, scopes := large(small)
	conditionally(c, 2)
	x := New(c)
	for _, scope := range scopes[:12] {
		can := x.WhoCan(lockkeeper.ReadDeployments, scope, at(20))
		for name := range c.Users {
			passes := x.Check(name, lockkeeper.ReadDeployments, scope, at(20)).Verdict == lockkeeper.Pass
			if passes != slices.Contains(can, name) || passes != x.Allowed(name, lockkeeper.ReadDeployments, scope, at(20)) {
				t.Fatalf("%s at %s: Check says %v", name, scope, passes)
			}
		}
	}
}

// BenchmarkAllowedConditionally asks what only a condition can settle.
func BenchmarkAllowedConditionally(b *testing.B) {
	c, scopes := large(full)
	conditionally(c, 1)
	x := New(c)
	var settled []question
	for _, q := range questions(c, scopes, 1<<18) {
		m, known := x.users[q.user]
		groups, holds := x.row(m)
		if !known || !holds {
			continue
		}
		var v verdict
		bit := x.actions[q.action]
		for at := x.nearest(q.scope); at >= 0; at = x.nodes[at].above {
			v |= x.judge(&x.nodes[at], m, membership{groups, groups}, bit, millis(q.now), q.scope)
		}
		if v&mayGrant != 0 && v&(grants|forbids) == 0 {
			settled = append(settled, q)
		}
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(settled)), "questions")
	for i := 0; b.Loop(); i++ {
		q := &settled[i%len(settled)]
		x.Allowed(q.user, q.action, q.scope, q.now)
	}
}

func BenchmarkWhoCanConditionally(b *testing.B) {
	c, scopes := large(full)
	conditionally(c, 1)
	x := New(c)
	for i := 0; b.Loop(); i++ {
		x.WhoCan(lockkeeper.ApproveDeployments, scopes[i%len(scopes)], at(i%80))
	}
}

func BenchmarkHoldings(b *testing.B) {
	c, _ := large(full)
	x := New(c)
	for i := 0; b.Loop(); i++ {
		if _, err := x.Holdings(user(fmt.Sprint("u", i%5)), epoch); err != nil {
			b.Fatal(err)
		}
	}
}

// A grant on a condition is nobody's of whom it is not believed any more that he is
// in its group, also where another condition has to be judged.
func TestConditionOfSaidGroup(t *testing.T) {
	x := New(read(t, `
{kind: User, name: ann}
---
{kind: Group, name: g}
---
{kind: Assignment, name: a, role: reader, principal: user:ann, scope: /, condition: 'user == "bob"'}
---
{kind: Assignment, name: b, role: reader, principal: group:g, scope: /, condition: 'user == "ann"'}
`)).With([]Membership{{"ann", []string{"g"}, at(10)}})
	for now, want := range map[int]bool{9: true, 10: false} {
		if d := x.Check("ann", lockkeeper.ReadCatalog, "/", at(now)); x.Allowed("ann", lockkeeper.ReadCatalog, "/", at(now)) != want || d.Passed(at(now)) != want {
			t.Errorf("at %d: want %v, Check says %+v", now, want, d)
		}
	}
}
