package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// overrideRules are rules in which production has soft checks that do not pass on a
// Monday at nine, and persons who override and review.
func overrideRules(pairs ...string) string {
	return rulesWith(append(pairs, "<lock>", `  - name: office
    hours: {zone: UTC, windows: [{days: [sunday], from: "09:00", to: "10:00"}]}
    soft: true
  - name: desk
    approval: {count: 1, groups: [desk], after: [managers]}
    soft: true
  - name: last
    approval: {count: 1, groups: [managers], after: [desk]}
override: {groups: [overriders], reviewers: {groups: [auditors]}}
`, "<more>", overrideMore)...)
}

const overrideMore = `---
{kind: User, name: oz}
---
{kind: User, name: ola}
---
{kind: User, name: una, ids: [{provider: github, id: "1005"}]}
---
{kind: User, name: oz-2, person: oz}
---
{kind: User, name: dee}
---
{kind: User, name: rev}
---
{kind: User, name: rex}
---
{kind: Group, name: overriders, users: [oz, oz-2, ola, una, ann-admin]}
---
{kind: Group, name: desk, users: [dee]}
---
{kind: Group, name: auditors, users: [rev, rex, bob, oz, ola]}
---
{kind: Assignment, name: overriding, role: release-manager, principal: group:overriders, scope: /projects/payments}
---
{kind: Assignment, name: desk, role: release-manager, principal: group:desk, scope: /projects/payments}
---
{kind: Assignment, name: stopping, role: environment-administrator, principal: user:rev, scope: /projects/payments}
---
{kind: Freeze, name: quiet, scope: /projects/payments, from: 2026-11-02T08:00:00Z, until: 2026-11-02T12:00:00Z, reason: the books, soft: true}
---
{kind: Freeze, name: closed, scope: /projects/payments/environments/test, from: 2026-11-02T08:00:00Z, until: 2026-11-02T12:00:00Z, reason: the books}
`

// shown lets a user show a credential: with a second factor, if strong.
func (c *deploying) shown(user string, strong bool, at time.Duration) {
	c.t.Helper()
	now := began.Add(at)
	ev := &sessionStarted{Session: Session{ID: "s-" + user, User: user, Started: now, Expires: now.Add(12 * time.Hour), Authenticated: now, Strong: strong}}
	var s step
	must(c.t, c.core.record(&s, Caller{}, "", "", []event{ev}, now))
	c.past = append(c.past, s.records...)
}

func (c *deploying) in(user string, cmd command, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{User: user, Session: "s-" + user}, cmd, at)
}

// overriding is a core in which d-a waits for its soft checks only, ann's own.
func overriding(t *testing.T, pairs ...string) *deploying {
	c := deployCore(t, overrideRules(pairs...))
	c.waiting("1")
	for _, user := range []string{"ann", "ann-admin", "bob", "cat", "eve", "oz", "oz-2", "ola", "una", "dee", "rev", "rex"} {
		c.shown(user, true, time.Second)
	}
	for _, user := range []string{"bob", "cat"} {
		must(t, c.approve(user, "d-a", time.Second))
	}
	return c
}

var all = []string{"office", "desk", "freeze:quiet"}

func (c *deploying) asks(user, id string, waives []string, at time.Duration) error {
	c.t.Helper()
	return c.in(user, requestOverride{ID: id, Deployment: "d-a", Waives: waives, Reason: "orders are lost", Incident: "INC-1"}, at)
}

func (c *deploying) says(user, id string, approve bool, at time.Duration) error {
	c.t.Helper()
	var digest lockkeeper.Digest
	for _, d := range c.Deployments {
		for _, o := range d.Overrides {
			if o.ID == id {
				digest = o.Digest
			}
		}
	}
	return c.in(user, decideOverride{Override: id, Review: "v-" + id, Approve: approve, Digest: digest}, at)
}

func (c *deploying) claimA(at time.Duration) error {
	c.t.Helper()
	return c.claim("d-a", c.job("1", "11", "production", "1001", at), at)
}

// An override waives what it names, of one ask, by two persons, after everybody whom it
// concerns was told, for a time, and for a review (gates.md, invariant 28).
func TestGates28(t *testing.T) {
	c := overriding(t)
	want(t, c.claimA(2*time.Second), "approvals_missing")
	must(t, c.asks("ann", "o-a", all, 2*time.Second))
	if n := c.Notices["n-o-a-asked"]; n == nil || !slices.Equal(n.For, []string{"ola", "oz", "oz-2", "una"}) { // ann-admin is ann
		t.Errorf("asked: %+v", n)
	}
	for user, code := range map[string]string{"ann-admin": "own_deployment", "bob": "not_asked", "rev": "not_granted"} {
		want(t, c.says(user, "o-a", true, 3*time.Second), code)
	}
	must(t, c.says("oz", "o-a", true, 3*time.Second))
	want(t, c.says("oz-2", "o-a", true, 4*time.Second), "already_approved") // the same person
	want(t, c.claimA(4*time.Second), "approvals_missing")
	s, err := c.step(Caller{User: "una", Session: "s-una"}, "", decideOverride{Override: "o-a", Review: "v-a", Approve: true, Digest: c.Deployments["d-a"].Overrides[0].Digest}, began.Add(5*time.Second))
	must(t, err)
	must(t, s.err)
	var kinds []string
	for _, e := range s.entries {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "notice.made override.approved override.granted review.opened" {
		t.Errorf("the entries are %s", got)
	}
	if n := c.Notices["n-o-a"]; n == nil || !slices.Equal(n.For, []string{"ann-admin", "bob", "cat", "dee", "eve", "ola", "oz", "oz-2", "rev", "rex", "una"}) {
		t.Errorf("told: %+v", n)
	}
	want(t, c.claimA(6*time.Second), "approvals_missing") // what is hard waits still: a third approval, which comes after the desk's
	must(t, c.approve("eve", "d-a", 6*time.Second))
	must(t, c.claimA(7*time.Second))
	d := c.Deployments["d-a"]
	var waived []string
	var walk func(lockkeeper.Decision)
	walk = func(d lockkeeper.Decision) {
		if d.Code == "waived" {
			waived = append(waived, d.Subject)
			if d.Sentence != "waived by override o-a (oz, una) until 2026-11-02T10:00:05.000Z: orders are lost" || len(d.Because) != 1 || d.Because[0].Verdict == lockkeeper.Pass {
				t.Errorf("%s: %s %v", d.Subject, d.Sentence, d.Because)
			}
			return
		}
		for _, b := range d.Because {
			walk(b)
		}
	}
	walk(d.Lease.Gate)
	if !slices.Equal(waived, []string{"check desk", "freeze quiet", "check office"}) {
		t.Errorf("waived: %v", waived)
	}
	if d.Lease.Limit != began.Add(10*time.Minute+7*time.Second) {
		t.Errorf("the lease ends at %s", d.Lease.Limit)
	}
	must(t, c.tokenA(8*time.Second))

	// Another ask has none of it.
	must(t, c.open("d-b", c.job("2", "21", "production", "1001", 9*time.Second), "production", 9*time.Second))
	must(t, c.approve("bob", "d-b", 10*time.Second))
	must(t, c.approve("cat", "d-b", 10*time.Second))
	want(t, c.claim("d-b", c.job("2", "21", "production", "1001", 11*time.Second), 11*time.Second), "approvals_missing")

	// Whoever took part does not review it, nor whoever approved the deployment.
	for _, user := range []string{"oz", "bob", "ola"} {
		if got, mine := saying(c.in(user, judgeReview{Review: "v-a", Finding: "well"}, time.Minute)), user != "ola"; (got == "review_of_own") != mine || !mine && got != "" {
			t.Errorf("%s reviews: %q", user, got)
		}
	}
}

// What may not be waived, and who may not ask, is refused.
func TestOverridesRefused(t *testing.T) {
	c := overriding(t)
	for waive, code := range map[string]string{"managers": "check_hard", "main": "check_hard", "freeze:closed": "check_unknown", "initiator": "check_unknown", "stage": "check_unknown",
		"artifacts": "check_unknown", "patience": "check_unknown", "demand approval": "check_unknown", "quiet": "check_unknown", "": "check_unknown"} {
		want(t, c.asks("ann", "o-x", []string{waive}, 2*time.Second), code)
	}
	ask := requestOverride{ID: "o-x", Deployment: "d-a", Waives: all, Reason: "why", Incident: "INC-1"}
	for code, change := range map[string]func(*requestOverride){
		"reason_missing":   func(r *requestOverride) { r.Reason = "  " },
		"incident_missing": func(r *requestOverride) { r.Incident = "" },
		"waives_missing":   func(r *requestOverride) { r.Waives = nil },
		"waives_twice":     func(r *requestOverride) { r.Waives = []string{"office", "office"} },
		"ask_differs":      func(r *requestOverride) { r.Digest = lockkeeper.DigestOf(nil) },
		"deployment_ended": func(r *requestOverride) { r.Deployment = "d-x" },
	} {
		r := ask
		change(&r)
		want(t, c.in("ann", r, 2*time.Second), code)
	}
	want(t, c.in("rev", ask, 2*time.Second), "not_granted")
	must(t, c.asks("ann", "o-a", all, 2*time.Second))
	want(t, c.asks("ann", "o-b", all, 2*time.Second), "override_pending")
	want(t, c.in("oz", decideOverride{Override: "o-a", Review: "v-a", Approve: true, Digest: lockkeeper.DigestOf(nil)}, 3*time.Second), "override_differs")
	want(t, c.says("oz", "o-x", true, 3*time.Second), "override_over")
	want(t, c.says("oz", "o-a", true, 2*time.Second+time.Hour), "override_timed_out")
	must(t, c.asks("ann", "o-c", all, 2*time.Second+time.Hour))

	// A sign-in that is old, or without a second factor, approves nothing.
	want(t, c.says("oz", "o-c", true, 80*time.Minute), "step_up_needed")
	c.shown("oz", false, 90*time.Minute)
	want(t, c.says("oz", "o-c", true, 90*time.Minute), "step_up_needed")
	c.shown("oz", true, 91*time.Minute)
	must(t, c.says("oz", "o-c", true, 91*time.Minute))
	c.shown("ola", true, 91*time.Minute)
	must(t, c.says("ola", "o-c", false, 92*time.Minute))
	want(t, c.says("una", "o-c", true, 92*time.Minute), "override_denied")

	// Without a rule, or without enough persons, there is none.
	c = overriding(t, "override: {groups: [overriders], reviewers: {groups: [auditors]}}\n", "")
	c.rules = mustRules(t, strings.Replace(overrideRules(), "override: {groups: [overriders], reviewers: {groups: [auditors]}}\n", "", 1))
	want(t, c.asks("ann", "o-a", []string{"office"}, 2*time.Second), "override_unavailable")
	c.rules = mustRules(t, strings.Replace(overrideRules(), "[oz, oz-2, ola, una, ann-admin]", "[oz, oz-2, ann-admin]", 1))
	want(t, c.asks("ann", "o-a", []string{"office"}, 2*time.Second), "approvers_missing")
	c.rules = mustRules(t, overrideRules())
	must(t, c.asks("ola", "o-a", []string{"office"}, 2*time.Second))
	want(t, c.says("ola", "o-a", true, 3*time.Second), "own_deployment") // who asks approves nothing
	c.rules = mustRules(t, strings.Replace(overrideRules(), "[rev, rex, bob, oz, ola]", "[bob, oz]", 1))
	must(t, c.says("oz", "o-a", true, 3*time.Second))
	want(t, c.says("una", "o-a", true, 3*time.Second), "reviewers_missing")
}

// An override counts only as long as what it rests on: its time, its approvers, its
// rules, and nobody's taking it back.
func TestOverridesAreLive(t *testing.T) {
	granted := func(waives ...string) *deploying {
		c := overriding(t)
		must(t, c.asks("ann", "o-a", append(waives, all...), 2*time.Second))
		must(t, c.says("oz", "o-a", true, 3*time.Second))
		must(t, c.says("una", "o-a", true, 4*time.Second))
		must(t, c.approve("eve", "d-a", 5*time.Second))
		return c
	}
	without := strings.Replace(overrideRules(), "[oz, oz-2, ola, una, ann-admin]", "[oz, oz-2, ola, ann-admin]", 1)
	harder := strings.Replace(overrideRules(), "heartbeat: 4m", "heartbeat: 3m", 1)
	for name, c := range map[string]struct {
		change func(c *deploying)
		claim  string
		token  string // of what runs already
	}{
		"nothing changes":             {func(*deploying) {}, "", ""},
		"an approver left the group":  {func(c *deploying) { c.rules = mustRules(t, without) }, "approvals_missing", "override_over"},
		"the environment has changed": {func(c *deploying) { c.rules = mustRules(t, harder) }, "approvals_missing", ""},
		"a check became hard": {func(c *deploying) {
			c.rules = mustRules(t, strings.Replace(overrideRules(), "[desk], after: [managers]}\n    soft: true", "[desk], after: [managers]}", 1))
		}, "approvals_missing", "approvals_missing"},
		"the override is gone":           {nil, "", ""},
		"who asked takes it back":        {func(c *deploying) { must(t, c.in("ann", endOverride{"o-a", "no"}, 7*time.Second)) }, "approvals_missing", "deployment_ended"},
		"who approved takes it back":     {func(c *deploying) { must(t, c.in("una", endOverride{"o-a", "no"}, 7*time.Second)) }, "approvals_missing", "deployment_ended"},
		"somebody else takes it back":    {func(c *deploying) { must(t, c.in("bob", endOverride{"o-a", "no"}, 7*time.Second)) }, "approvals_missing", "deployment_ended"},
		"who may not take it back tries": {func(c *deploying) { want(t, c.in("rev", endOverride{"o-a", "no"}, 7*time.Second), "not_granted") }, "", ""},
	} {
		if name == "the override is gone" {
			gone := strings.Replace(overrideRules(), "override: {groups: [overriders], reviewers: {groups: [auditors]}}\n", "", 1)
			c.change, c.claim, c.token = func(c *deploying) { c.rules = mustRules(t, gone) }, "approvals_missing", "override_over"
		}
		k := granted()
		c.change(k)
		if got := saying(k.claimA(8 * time.Second)); got != c.claim {
			t.Errorf("%s: the claim: %q", name, got)
		}
		k = granted()
		must(t, k.claimA(6*time.Second))
		c.change(k)
		if got := saying(k.tokenA(8 * time.Second)); got != c.token {
			t.Errorf("%s: a token: %q", name, got)
		}
	}
	// It ends by the clock, and no lease that it let through lasts longer.
	k := granted()
	want(t, k.claimA(time.Hour+4*time.Second), "approvals_missing")
	k = granted()
	must(t, k.claimA(time.Hour))
	if l := k.Deployments["d-a"].Lease; l.Limit != began.Add(time.Hour+4*time.Second) || l.Ends != l.Limit {
		t.Errorf("the lease ends at %s, at %s at most", l.Ends, l.Limit)
	}
	// Whoever is quarantined has approved nothing.
	k = granted()
	must(t, k.claimA(6*time.Second))
	must(t, k.user("dora", openIncident{ID: "i-a", Title: "una's laptop is gone", Quarantine: quarantines(t, "user:una")}, 7*time.Second))
	if k.Deployments["d-a"] != nil {
		t.Error("it runs on without una's approval")
	}
}

// Overrides are few, and those that nobody looked at in time block others.
func TestOverrideDebt(t *testing.T) {
	c := overriding(t)
	at := 2 * time.Second
	next := func(id string) error {
		for _, user := range []string{"ann", "oz", "una"} {
			c.shown(user, true, at)
		}
		if err := c.asks("ann", id, []string{"office"}, at); err != nil {
			return err
		}
		must(t, c.says("oz", id, true, at))
		err := c.says("una", id, true, at)
		if err == nil {
			must(t, c.in("ann", endOverride{id, "again"}, at+time.Second))
		}
		at += time.Minute
		return err
	}
	must(t, next("o-1"))
	must(t, next("o-2"))
	want(t, next("o-3"), "override_spent")
	if used := c.Broken[overrideBudget(production)]; used.Count != 2 || used.Quarter != "2026-Q4" {
		t.Errorf("spent: %+v", used)
	}
	// In the next quarter there are others, once the reviews of these are closed.
	at = 70 * 24 * time.Hour
	must(t, c.record(c.job("1", "10", "", "1001", at), at))
	must(t, c.as(Caller{Keeper: true}, sweep{}, at)) // d-a's patience is over
	must(t, c.open("d-a", c.job("7", "71", "production", "1001", at), "production", at))
	want(t, next("o-4"), "override_debt")
	c.shown("rev", true, at)
	must(t, c.in("rev", judgeReview{Review: "v-o-1", Finding: "well"}, at))
	want(t, next("o-4"), "override_debt")
	must(t, c.in("rev", judgeReview{Review: "v-o-2", Finding: "well"}, at))
	must(t, next("o-4"))
}

// Making a check soft, or an override easier, takes a second person and helps no ask
// that is open (gates.md, invariant 29).
func TestGates29(t *testing.T) {
	hard := strings.Replace(overrideRules(), "    soft: true\n  - name: desk", "  - name: desk", 1)
	c := deployCore(t, hard)
	c.waiting("1")
	c.shown("ann", true, 0)
	want(t, c.asks("ann", "o-a", []string{"office"}, time.Second), "check_hard")
	c.rules = mustRules(t, overrideRules()) // it is soft now
	want(t, c.asks("ann", "o-a", []string{"office"}, time.Second), "check_hard")
	must(t, c.open("d-b", c.job("2", "21", "production", "1001", 2*time.Second), "production", 2*time.Second))
	must(t, c.in("ann", requestOverride{ID: "o-b", Deployment: "d-b", Waives: []string{"office"}, Reason: "why", Incident: "INC-1"}, 2*time.Second))

	administrators := []string{"principal: user:dora\nscope: /\n", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: administration-2\nrole: organisation-administrator\nprincipal: user:eve\nscope: /\n"}
	k := respondingCore(t, incidentRules(administrators...))
	for name, change := range map[string][2]string{
		"a check becomes soft":     {"    branches: {allowed: [refs/heads/main]}\n", "    branches: {allowed: [refs/heads/main]}\n  - {name: pause, delay: {for: 1m}, soft: true}\noverride: {groups: [managers], reviewers: {groups: [security]}}\n"},
		"whoever froze ends alone": {"kind: Project\n", "kind: FreezeRule\nname: alone\nscope: /\nalone: true\n---\nkind: Project\n"},
	} {
		text := strings.Replace(incidentRules(administrators...), change[0], change[1], 1)
		s, err := k.step(Caller{User: "dora"}, "", applyCatalog{Base: k.Revision.Number, Rules: mustRules(t, text), ID: "p-" + fmt.Sprint(len(name))}, began.Add(time.Minute))
		must(t, err)
		must(t, s.err)
		if got := s.answer.(applied); got.Proposal == "" || len(got.Weakens) == 0 {
			t.Errorf("%s: in force at once: %+v", name, got)
		}
	}
}
