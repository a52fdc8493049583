package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// glassRules let managers break the glass for the role emergency, which approves and
// starts deployments.
func glassRules(pairs ...string) string {
	return rulesWith(append(pairs, "<more>", `---
kind: User
name: rev
---
kind: User
name: rex
---
kind: Group
name: auditors
users: [rev, rex, ann-admin, bob, cat, eve]
---
kind: Role
name: emergency
actions: [deployments/approve, deployments/cancel, activations/approve]
---
kind: Assignment
name: emergencies
role: emergency
principal: group:managers
scope: /projects/payments
eligible: true
---
kind: Assignment
name: deciders
role: access-approver
principal: user:dora
scope: /
---
kind: ActivationRule
name: emergency
role: emergency
scope: /projects/payments
longest: 2h
ticket: INC-[0-9]+
approvals: [{name: lead, approval: {count: 2, groups: [security]}}]
breakGlass: {budget: 2, review: 24h, reviewers: {count: 2, groups: [auditors]}}
`)...)
}

func (c *deploying) breaks(user, id string, at time.Duration) error {
	c.t.Helper()
	return c.user(user, breakGlass{"r-" + id, "a-" + id, "v-" + id, "emergency", "/projects/payments", time.Hour, "production is down"}, at)
}

// Whoever breaks the glass has the role at once, and everybody whom it concerns is
// told before that.
func TestBreakGlass(t *testing.T) {
	c := deployCore(t, glassRules("users: [ann, ann-admin, bob, cat, eve<managers>]", "users: [ann, ann-admin, bob, cat, eve]"))
	s, err := c.step(Caller{User: "ann"}, "", breakGlass{"r-1", "a-1", "v-1", "emergency", "/projects/payments/environments/production", time.Hour, " down "}, began)
	must(t, err)
	must(t, s.err)
	var kinds []string
	for _, e := range s.entries {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "notice.made request.opened review.opened activation.begun" {
		t.Errorf("the entries are %s", got)
	}
	// dora could have approved it; the auditors review it; managers and security approve deployments.
	if n := c.Notices["n-v-1"]; n == nil || !slices.Equal(n.For, []string{"ann-admin", "bob", "cat", "dora", "eve", "rev", "rex"}) || !strings.Contains(n.Text, "down") {
		t.Errorf("told: %+v", n)
	}
	if d := c.check("ann", lockkeeper.CancelDeployments, "/projects/payments/environments/production", began); d.Code != "granted" && d.Code != "activated" {
		t.Errorf("ann may not: %s", d.Sentence)
	}
	r := c.Reviews["v-1"]
	if r.Due != began.Add(24*time.Hour) || r.Overdue(began.Add(24*time.Hour-1)) || !r.Overdue(began.Add(24*time.Hour)) || c.Activations["a-1"].BreakGlass != "v-1" {
		t.Errorf("the review is %+v", r)
	}
	want(t, c.user("dora", acknowledge{"n-none"}, 1), "notice_missing")
	want(t, c.user("ann", acknowledge{"n-v-1"}, 1), "notice_missing")
	for _, u := range []string{"ann-admin", "bob", "cat", "dora", "eve", "rev"} {
		must(t, c.user(u, acknowledge{"n-v-1"}, 1))
		want(t, c.user(u, acknowledge{"n-v-1"}, 1), "notice_missing")
	}
	if must(t, c.user("rex", acknowledge{"n-v-1"}, 1)); len(c.Notices) > 0 {
		t.Error("a notice is left that everybody has acknowledged")
	}
	// It is revoked as any other; the review stays.
	must(t, c.user("dora", endActivation{"a-1", "enough"}, time.Minute))
	if len(c.Activations) > 0 || len(c.Reviews) != 1 {
		t.Error("the revocation went wrong")
	}
}

// Nobody breaks it without a reason, for longer, without being eligible, where a rule
// does not let him, or where nobody could review it.
func TestBreakGlassRefusals(t *testing.T) {
	ask := breakGlass{"r-1", "a-1", "v-1", "emergency", "/projects/payments", time.Hour, "down"}
	changed := func(f func(*breakGlass)) breakGlass { c := ask; f(&c); return c }
	below := glassRules() + "---\n{kind: ActivationRule, name: below, role: emergency, scope: /projects/payments/environments/production}\n"
	few := strings.Replace(glassRules(), "users: [rev, rex, ann-admin, bob, cat, eve]", "users: [rev, ann-admin]", 1)
	for name, c := range map[string]struct {
		rules, user, code string
		ask               breakGlass
	}{
		"no reason":       {glassRules(), "ann", "reason_missing", changed(func(c *breakGlass) { c.Reason = " \n" })},
		"a long reason":   {glassRules(), "ann", "reason_missing", changed(func(c *breakGlass) { c.Reason = strings.Repeat("x", maxReason+1) })},
		"too long":        {glassRules(), "ann", "activation_long", changed(func(c *breakGlass) { c.For = time.Hour + time.Second })},
		"no whole second": {glassRules(), "ann", "duration_malformed", changed(func(c *breakGlass) { c.For = time.Minute + 1 })},
		"not eligible":    {glassRules(), "dora", "not_eligible", ask},
		"further up":      {glassRules(), "ann", "not_eligible", changed(func(c *breakGlass) { c.Scope = "/" })},
		"a rule below":    {below, "ann", "break_glass_unavailable", ask},
		"few reviewers":   {few, "ann", "reviewers_missing", ask},
		"nobody":          {glassRules(), "", "person_needed", ask},
	} {
		k := deployCore(t, c.rules)
		err := k.as(Caller{User: c.user, Holder: map[bool]string{true: "d-x"}[c.user == ""]}, c.ask, 0)
		if codeOf(err) != c.code || len(k.Activations)+len(k.Reviews)+len(k.Notices)+len(k.Requests) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A review is closed by as many persons as the rule says who took no part; until then,
// and past the budget, the glass stays whole for everybody.
func TestBreakGlassReview(t *testing.T) {
	c := deployCore(t, glassRules())
	judge := func(user, id string, at time.Duration) error {
		c.t.Helper()
		return c.user(user, judgeReview{Review: id, Finding: "it was right"}, at)
	}
	must(t, c.breaks("ann", "1", 0))
	want(t, c.breaks("bob", "2", time.Hour), "review_open")
	want(t, judge("ann", "v-1", time.Hour), "review_of_own")
	want(t, judge("ann-admin", "v-1", time.Hour), "review_of_own")
	want(t, judge("dora", "v-1", time.Hour), "not_a_reviewer")
	want(t, c.user("rev", judgeReview{Review: "v-1", Finding: "  "}, time.Hour), "finding_missing")
	want(t, judge("rev", "v-none", time.Hour), "review_closed")
	must(t, judge("rev", "v-1", time.Hour))
	want(t, judge("rev", "v-1", time.Hour), "already_reviewed")
	want(t, c.breaks("bob", "2", time.Hour), "review_open")
	// A rule under another name is no way around.
	c.rules = mustRules(t, strings.Replace(glassRules(), "kind: ActivationRule\nname: emergency", "kind: ActivationRule\nname: again", 1))
	want(t, c.breaks("bob", "2", time.Hour), "review_open")
	// Who reviewed and is asked no more does not count.
	c.rules = mustRules(t, strings.Replace(glassRules(), "users: [rev, rex,", "users: [rex,", 1))
	must(t, judge("rex", "v-1", 2*time.Hour))
	if len(c.Reviews) != 1 {
		t.Error("closed by one who is a reviewer no more")
	}
	c.rules = mustRules(t, glassRules())
	must(t, judge("cat", "v-1", 2*time.Hour))
	if len(c.Reviews) != 0 {
		t.Error("not closed by three")
	}
	must(t, c.breaks("bob", "2", 3*time.Hour))
	for _, user := range []string{"rev", "rex"} {
		must(t, judge(user, "v-2", 4*time.Hour))
	}
	want(t, c.breaks("eve", "3", 5*time.Hour), "break_glass_spent")
	c.rules = mustRules(t, strings.Replace(glassRules(), "kind: ActivationRule\nname: emergency", "kind: ActivationRule\nname: again", 1))
	want(t, c.breaks("eve", "3", 5*time.Hour), "break_glass_spent")
	c.rules = mustRules(t, glassRules())
	next := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).Sub(began.Time())
	want(t, c.breaks("eve", "3", next-time.Millisecond), "break_glass_spent")
	must(t, c.breaks("eve", "3", next))
	if len(c.Broken) != 1 || c.Broken["emergency /projects/payments"] != (Spent{"2027-Q1", 1}) {
		t.Errorf("spent: %v", c.Broken)
	}
}

// Who approved beside a vote under broken glass, or stands behind what it let through,
// took part; the vote keeps its mark.
func TestBreakGlassTakingPart(t *testing.T) {
	// Nobody of managers may approve without the glass; security may.
	rules := strings.Replace(glassRules("<managers>", ""), "principal: group:managers\nscope: /projects/payments\n---\nkind: Project", "principal: group:security\nscope: /projects/payments\n---\nkind: Project", 1)
	rules = strings.Replace(rules, "users: [cat, eve, ann-admin]", "users: [cat, ann, ann-admin]", 1)
	c := deployCore(t, rules)
	c.waiting("1") // by ann
	must(t, c.breaks("bob", "1", time.Second))
	must(t, c.approve("bob", "d-a", 2*time.Second))
	must(t, c.approve("cat", "d-a", 2*time.Second))
	if v := c.Deployments["d-a"].Votes[0]; v.BreakGlass != "v-1" {
		t.Errorf("the vote has no mark: %+v", v)
	}
	if d := c.user("cat", judgeReview{Review: "v-1", Finding: "x"}, 3*time.Second); d != nil {
		t.Errorf("cat's approval has not mattered yet: %v", d)
	}
	must(t, c.claim("d-a", c.job("1", "11", "production", "1001", 4*time.Second), 4*time.Second))
	if got := c.Reviews["v-1"].Took; !slices.Equal(got, []lockkeeper.Person{"ann", "cat"}) {
		t.Errorf("took part: %v", got)
	}
	want(t, c.user("ann-admin", judgeReview{Review: "v-1", Finding: "x"}, 5*time.Second), "review_of_own")
	must(t, c.user("rev", judgeReview{Review: "v-1", Finding: "x"}, 6*time.Second))
	if len(c.Reviews) != 1 {
		t.Error("closed, though cat's finding counts no more: she took part since")
	}
	must(t, c.user("rex", judgeReview{Review: "v-1", Finding: "x", Unjustified: true}, 7*time.Second))
	if len(c.Reviews) != 0 {
		t.Error("not closed by two who took no part")
	}
}

// The requester of what was approved under broken glass took part, too.
func TestBreakGlassApprovedActivation(t *testing.T) {
	c := deployCore(t, glassRules()+"---\n{kind: Role, name: little, actions: [freezes/write]}\n---\n{kind: Assignment, name: little, role: little, principal: user:rex, scope: /projects/payments, eligible: true}\n---\n{kind: ActivationRule, name: little, role: little, scope: /projects/payments, approvals: [{name: a, approval: {count: 1, groups: [managers]}}]}\n")
	must(t, c.breaks("bob", "1", 0))
	must(t, c.user("rex", openRequest{ID: "r-x", Role: "little", Scope: "/projects/payments", For: time.Hour, Reason: "x"}, 1))
	must(t, c.user("bob", decideRequest{Request: "r-x", Approve: true, Digest: c.Requests["r-x"].Digest}, 2))
	must(t, c.user("rex", beginActivation{"r-x", "a-x"}, 3))
	want(t, c.user("rex", judgeReview{Review: "v-1", Finding: "x"}, 4), "review_of_own")
}

// TestGlass compares random breaking, reviewing and waiting with a model of budget and
// debt.
func TestGlass(t *testing.T) {
	rules := mustRules(t, glassRules()+"---\n{kind: ActivationRule, name: production, role: emergency, scope: /projects/payments/environments/production, breakGlass: {budget: 1, reviewers: {groups: [auditors]}}}\n")
	seen := map[string]int{}
	untilSeen(t, seen, []string{"glass.break <nil>", "glass.break review_open", "glass.break break_glass_spent", "review.judge <nil>", "review.judge review_of_own", "review.judge already_reviewed"}, func(rt *rapid.T) {
		c := &core{world: world{State: newState(), rules: rules}}
		now, mirror := began, newState()
		step := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				rt.Fatal(err)
			}
			for i := range s.entries {
				e, ev, err := readEntry(s.records[i].Data)
				if err != nil || mirror.apply(e, ev) != nil {
					rt.Fatal(e, err)
				}
			}
			seen[fmt.Sprint(cmd.name(), " ", codeOf(s.err))]++
			return s.err
		}
		if err := step(Caller{Keeper: true}, firstEntry{}); err != nil {
			rt.Fatal(err)
		}
		type debt struct {
			by    string
			test  bool
			found map[string]bool
		}
		debts, spent := map[string]*debt{}, map[string]int{} // spent by rule and quarter
		quarter := func() string { return fmt.Sprint(now.Time().Year(), (now.Time().Month()-1)/3) }
		for n := range rapid.IntRange(5, 40).Draw(rt, "steps") {
			user := rapid.SampledFrom([]string{"ann", "ann-admin", "bob", "rev", "rex", "cat", "dora"}).Draw(rt, "user")
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				test := rapid.Bool().Draw(rt, "test") // where the stricter rule does not reach
				scope, inForce := lockkeeper.Scope("/projects/payments/environments/production"), []string{"emergency", "production"}
				if test {
					scope, inForce = "/projects/payments/environments/test", []string{"emergency"}
				}
				id := fmt.Sprint("v-", n)
				err := step(Caller{User: user}, breakGlass{fmt.Sprint("r-", n), fmt.Sprint("a-", n), id, "emergency", scope, time.Hour, "x"})
				budget := map[string]int{"emergency": 2, "production": 1}
				free := !slices.Contains([]string{"rev", "rex", "dora"}, user) && len(debts) == 0
				for _, r := range inForce {
					free = free && spent[r+quarter()] < budget[r]
				}
				if (err == nil) != free {
					rt.Fatalf("%s breaks the glass at %s: %v; debts %v, spent %v", user, scope, err, debts, spent)
				}
				if err == nil {
					debts[id] = &debt{user, test, map[string]bool{}}
					for _, r := range inForce {
						spent[r+quarter()]++
					}
				}
			case 2:
				for id, d := range debts {
					err := step(Caller{User: user}, judgeReview{Review: id, Finding: "x"})
					may := user != "dora" && user != "ann" && incidentPerson(user) != incidentPerson(d.by) && !d.found[incidentPerson(user)]
					if (err == nil) != may {
						rt.Fatalf("%s reviews what %s did: %v", user, d.by, err)
					}
					if err == nil {
						d.found[incidentPerson(user)] = true
					}
					if len(d.found) >= 2 {
						delete(debts, id)
					}
				}
			case 3:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Minute, 2 * time.Hour, 40 * 24 * time.Hour, 100 * 24 * time.Hour}).Draw(rt, "later"))
				step(Caller{Keeper: true}, sweep{})
			}
			if len(c.Reviews) != len(debts) {
				rt.Fatalf("open are %v, the model says %v", slices.Collect(maps.Keys(c.Reviews)), debts)
			}
		}
		one, _ := c.Digest()
		if two, _ := mirror.Digest(); one != two {
			rt.Fatal("the state is not the fold of the journal (invariant 1)")
		}
	})
}
