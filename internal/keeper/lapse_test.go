package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// lapsingRules are rules in which a directory's group makes somebody eligible.
const lapsingRules = `
{kind: User, name: dora}
---
{kind: User, name: ann, signIns: [{directory: corp, subject: ann-1}]}
---
{kind: User, name: bob}
---
{kind: Group, name: operators}
---
{kind: Group, name: managers, users: [bob]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Directory, name: corp, platform: oidc, issuer: 'https://id.example', client: lockkeeper, groupClaim: groups, groupAge: 1h, groups: [{id: g-operators, group: operators}]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: operators, role: release-manager, principal: group:operators, scope: /projects/p, eligible: true}<more>
---
{kind: ActivationRule, name: any, role: release-manager, scope: /projects/p, longest: 8h}
`

type lapsingCore struct {
	*core
	t *testing.T
	n int
}

func newLapsing(t *testing.T) *lapsingCore {
	c := &lapsingCore{core: &core{world: world{State: newState(), rules: mustRules(t, strings.Replace(lapsingRules, "<more>", "", 1))}}, t: t}
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, began))
	return c
}

func (c *lapsingCore) do(by string, cmd command, at time.Duration) step {
	c.t.Helper()
	s, err := c.step(Caller{User: by}, "", cmd, began.Add(at))
	must(c.t, err)
	must(c.t, s.err)
	return s
}

func (c *lapsingCore) signs(at time.Duration, groups ...string) step {
	c.t.Helper()
	c.n++
	now := began.Add(at)
	d := c.rules.Catalog.Directories["corp"]
	return c.do("", startDirectorySession{Session{ID: "s-" + string(rune('a'+c.n)), Secret: "x"},
		Said{Directory: "corp", Source: d.Source(), Subject: "ann-1", Name: "ann", Groups: groups, At: now, Authenticated: now}}, at)
}

func (c *lapsingCore) active(at time.Duration) {
	c.t.Helper()
	c.do("ann", openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/p", For: 2 * time.Hour, Reason: "why"}, at)
	c.do("ann", beginActivation{"r-1", "a-1"}, at)
	if !c.allowed("ann", lockkeeper.ApproveDeployments, "/projects/p", began.Add(at)) {
		c.t.Fatal("she has activated nothing")
	}
}

func (c *lapsingCore) stands(at time.Duration) bool {
	return c.Activations["a-1"] != nil || c.allowed("ann", lockkeeper.ApproveDeployments, "/projects/p", began.Add(at))
}

// TestLapsedBetweenTwoSweeps takes an eligibility away and gives it back before any
// sweep: nothing comes back with it.
func TestLapsedBetweenTwoSweeps(t *testing.T) {
	without := mustRules(t, strings.Replace(strings.Replace(lapsingRules, "<more>", "", 1), "principal: group:operators, scope: /projects/p, eligible: true", "principal: group:managers, scope: /projects/p, eligible: true", 1))
	with := mustRules(t, strings.Replace(lapsingRules, "<more>", "\n---\n{kind: Group, name: others}", 1))
	for name, play := range map[string]func(c *lapsingCore){
		"a sign-in without the group": func(c *lapsingCore) {
			c.signs(time.Minute)
			c.signs(time.Minute+10*time.Millisecond, "g-operators")
		},
		"the age of what was said": func(c *lapsingCore) { c.signs(time.Hour, "g-operators") },
		"another catalog": func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: without, ID: "p-1"}, time.Minute)
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: with, ID: "p-2"}, time.Minute+time.Millisecond)
		},
	} {
		c := newLapsing(t)
		c.signs(0, "g-operators")
		c.active(0)
		play(c)
		if at := time.Hour + time.Millisecond; c.stands(at) {
			t.Errorf("%s: what lapsed stands again: %+v", name, c.Activations)
		}
	}
}

// TestNothingLapsesThatStands lets the same person sign in again with the group, and
// somebody else change the catalog: her activation goes on.
func TestNothingLapsesThatStands(t *testing.T) {
	c := newLapsing(t)
	c.signs(0, "g-operators")
	c.active(0)
	c.signs(30*time.Minute, "g-operators", "g-other")
	c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, strings.Replace(lapsingRules, "<more>", "\n---\n{kind: Group, name: others}", 1)), ID: "p-1"}, 31*time.Minute)
	if !c.stands(32 * time.Minute) {
		t.Error("her activation is gone")
	}
	s := c.signs(33 * time.Minute)
	if kinds := kindsOf(s.events); !strings.Contains(kinds, "activation.ended") {
		t.Errorf("the entry that takes the group away does not end what stood on it: %s", kinds)
	}
	for i, e := range s.entries {
		if e.Seq != s.entries[0].Seq+int64(i) || i > 0 && (e.Key != "" || len(e.Used) > 0) {
			t.Errorf("entry %d of the step: %+v", i, e)
		}
	}
}

func kindsOf(events []event) string {
	var out []string
	for _, ev := range events {
		out = append(out, ev.kind())
	}
	return strings.Join(out, " ")
}

// TestVotesDoNotComeBack lets fay vote under an activation, end it, and lose and regain
// what she was eligible for: her vote is gone, and whoever kept it keeps his.
func TestVotesDoNotComeBack(t *testing.T) {
	approver := "\n---\n{kind: User, name: fay}\n---\n{kind: Group, name: fays, users: [fay]}\n---\n{kind: Assignment, name: fays, role: access-approver, principal: user:fay, scope: /projects/p, eligible: true}\n" +
		"---\n{kind: ActivationRule, name: approving, role: access-approver, scope: /projects/p, longest: 1h}\n"
	with := []string{"groups: [leads]", "groups: [leads, fays]", "<deny>", approver}
	ending := []string{"groups: [leads]", "groups: [leads, fays]", "<deny>", strings.Replace(approver, "eligible: true}", "eligible: true, end: 2026-11-02T09:00:01.500Z}", 1)}
	without := []string{"groups: [leads]", "groups: [leads, fays]", "<deny>", strings.Replace(approver, "user:fay, scope", "user:dora, scope", 1)}
	longer := append([]string{"longest: <longest>", "longest: 2h"}, with...)
	for _, test := range []struct {
		name       string
		first      []string
		then       []string
		gone, ends bool // her vote, at once; the request, afterwards
	}{
		{"lost by a catalog", with, without, true, false},
		{"kept", with, longer, false, true},
		{"lost by time", ending, longer, true, false},
	} {
		c, do := accessCore(t, test.first...)
		must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&setupCompleted{User: "dora", Credential: "p"}}, began))
		must(t, do("ann", asks("r-1"), 0))
		must(t, do("fay", openRequest{ID: "r-f", Role: "access-approver", Scope: "/projects/p", For: 30 * time.Minute, Reason: "why"}, 0))
		must(t, do("fay", beginActivation{"r-f", "a-f"}, 0))
		must(t, do("fay", c.approval("r-1"), 0))
		must(t, do("fay", endActivation{"a-f", "done"}, time.Second))
		must(t, do("dora", applyCatalog{Base: c.Revision.Number, Rules: accessLawOf(t, test.then...), ID: "p-1"}, 2*time.Second))
		if gone := len(c.Requests["r-1"].Votes) == 0; gone != test.gone {
			t.Errorf("%s: her vote is gone: %v", test.name, gone)
		}
		must(t, do("dora", applyCatalog{Base: c.Revision.Number, Rules: accessLawOf(t, append([]string{"longest: <longest>", "longest: 3h"}, with...)...), ID: "p-2"}, 3*time.Second))
		if err := do("ann", beginActivation{"r-1", "a-1"}, 5*time.Second); (err == nil) != test.ends {
			t.Errorf("%s: ann begins: %v", test.name, err)
		}
	}
}
