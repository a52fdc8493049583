package access

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

const fewPeople = `
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development, persons: {write: 2, approve: 1}}
---
{kind: User, name: ann}
---
{kind: User, name: ann-too, person: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cid}
---
{kind: User, name: gone, off: true}
---
{kind: Group, name: team, users: [ann, ann-too, bob, gone]}
---
{kind: Role, name: starter, actions: [deployments/start]}
---
{kind: ActivationRule, name: starters, role: starter, scope: /}
---
{kind: Assignment, name: team-starts, role: starter, principal: group:team, scope: /projects/p}
`

func TestBudgets(t *testing.T) {
	for _, test := range []struct{ name, more, want string }{
		{"accounts of one person are one", "", ""},
		{"one more", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /}", "3 persons can deploy to /projects/p/environments/e, and its budget is 2: ann, ann-too, bob, cid."},
		{"one more who has to activate it", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /projects/p/environments/e, eligible: true}", "3 persons can deploy"},
		{"one more from tomorrow on", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /, start: 2026-03-02T00:00:00Z}", "3 persons can deploy"},
		{"one more elsewhere", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /projects/p/environments/f}\n---\n{kind: Environment, name: f, project: p, tier: development}", ""},
		{"one whose time is over", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /, end: 2026-02-28T00:00:00Z}", ""},
		{"one who is kept from it", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /}\n---\n{kind: Assignment, name: y, role: starter, principal: user:cid, scope: /projects/p, deny: true}", ""},
		{"one who is kept from it for a while", "---\n{kind: Assignment, name: x, role: starter, principal: user:cid, scope: /}\n---\n{kind: Assignment, name: y, role: starter, principal: user:cid, scope: /projects/p, deny: true, end: 2027-03-01T00:00:00Z}", "3 persons can deploy"},
		{"one who takes the identity's tokens", "---\n{kind: Role, name: tokens, actions: [identities/use]}\n---\n{kind: Assignment, name: x, role: tokens, principal: user:cid, scope: /projects/p/identities/i}\n---\n{kind: Identity, name: i, project: p, environment: e, people: true, audiences: [\"https://t.example\"], stages: [l/s]}\n---\n{kind: Provider, name: ci, platform: github, issuer: https://ci.example.com}\n---\n{kind: Pipeline, name: l, project: p, provider: ci, organisation: 1, repository: 2, definition: .github/workflows/r.yml, stages: [{name: s, trust: {environment: e, events: [push], refs: [refs/heads/main]}}]}", "3 persons can deploy"},
		{"approvers too", "---\n{kind: Assignment, name: x, role: release-manager, principal: group:team, scope: /projects/p}", "2 persons can approve deployments to /projects/p/environments/e, and its budget is 1: ann, ann-too, bob."},
	} {
		x := New(read(t, fewPeople+test.more))
		got := ""
		for _, b := range x.Exceeded(epoch) {
			got += b.String()
		}
		if (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// Whom a directory puts in the group counts, and the catalog alone says that it
// does not know.
func TestBudgetsOfDirectories(t *testing.T) {
	c := read(t, fewPeople+"---\n{kind: Directory, name: d, platform: okta, issuer: https://x.okta.com, client: c, groups: [{id: g1, group: team}]}")
	x := New(c)
	if b := x.Budgets(epoch)[0]; b.Exceeded() || !slices.Equal(b.Open, []string{"team"}) {
		t.Errorf("%+v", b)
	}
	for until, want := range map[lockkeeper.Moment]bool{epoch.Add(time.Hour): true, epoch.Add(-time.Hour): true} {
		if b := x.With([]Membership{{User: "cid", Groups: []string{"team"}, Until: until}}).Budgets(epoch)[0]; b.Exceeded() != want || b.Persons != 3 {
			t.Errorf("until %s: %+v", until, b)
		}
	}
}

// Nobody who can do it at any time from now on is left out of a budget.
func TestBudgetsMissNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawTeam(t)
		e := c.Environments["/projects/p/environments/e"]
		e.Persons = &catalog.Persons{Write: 1, Approve: 1}
		c.Environments["/projects/p/environments/e"] = e
		for i, b := range New(c).Budgets(today) {
			for _, days := range []int{0, 3, 6, 8, 10, 1000} {
				for user := range c.Users {
					now := today.Add(time.Duration(days) * 24 * time.Hour)
					if possible(c, user, budgeted[i].action, b.Environment, now) && !slices.Contains(b.Users, user) {
						t.Fatalf("%s can %s in %d days: %v", user, budgeted[i].action, days, b)
					}
				}
			}
		}
	})
}
