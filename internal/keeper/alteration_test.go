package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowRules give no vote at test for twenty minutes to whoever changed its gate.
func slowRules(pairs ...string) string {
	return rulesWith(append(pairs, "<latest>", "coolingOff: 20m\nchecks: [{name: people, approval: {count: 1, groups: [managers]}}]\n", "<more>", "---\n{kind: User, name: cat-2, person: cat}\n---\n{kind: Assignment, name: admins, role: organisation-administrator, principal: user:cat, scope: /}\n---\n{kind: Assignment, name: admins-2, role: organisation-administrator, principal: user:bob, scope: /}\n")...)
}

func (c *deploying) applies(user, text string, at time.Duration) error {
	c.t.Helper()
	for _, u := range []string{"dora", "bob", "cat"} {
		c.Accounts[u] = &Account{User: u, Credential: "x", Proven: true}
	}
	rules, was := mustRules(c.t, text), c.Revision.Number
	err := c.user(user, applyCatalog{Base: c.Revision.Number, Rules: rules}, at)
	if err == nil && c.Revision.Number == was {
		c.t.Fatal("it waits for a second person")
	}
	if err == nil {
		c.rules = rules
	}
	return err
}

// TestGates08CoolingOff: who changed a gate or its groups has no vote there for a
// time (gates.md, invariant 8), also by his other account, and also who voted before. A change of something else, and one by
// somebody else, takes nobody's vote.
func TestGates08CoolingOff(t *testing.T) {
	then := slowRules()
	stricter := strings.Replace(then, "coolingOff: 20m\nchecks: [{name: people, approval: {count: 1,", "coolingOff: 40m\nchecks: [{name: people, approval: {count: 1,", 1)
	fewer := strings.Replace(then, "users: [ann, ann-admin, bob, cat, eve", "users: [ann, ann-admin, bob, cat", 1)
	elsewhere := strings.Replace(then, "<none>", "", 1) + "---\n{kind: Project, name: other}\n"
	for name, test := range map[string]struct {
		text, by, voter string
		at              time.Duration // of the vote
		code            string
	}{
		"who changed it":          {stricter, "cat", "cat", 20 * time.Minute, "gate_changed"},
		"who changed its groups":  {fewer, "cat", "cat", time.Minute, "gate_changed"},
		"once it has cooled":      {fewer, "cat", "cat", 20*time.Minute + time.Second, ""},
		"somebody else":           {stricter, "cat", "bob", time.Minute, ""},
		"a change of another":     {elsewhere, "cat", "cat", time.Minute, ""},
		"as somebody else's too":  {stricter, "bob", "cat", time.Minute, ""},
		"just before it's cooled": {fewer, "cat", "cat", 20 * time.Minute, "gate_changed"},
	} {
		c := deployCore(t, then)
		must(t, c.open("d-t", c.job("2", "21", "test", "1001", 0), "test", 0))
		must(t, c.applies(test.by, test.text, time.Second))
		if got := saying(c.approve(test.voter, "d-t", test.at)); got != test.code {
			t.Errorf("%s: %q, want %q", name, got, test.code)
		}
	}
	// A vote that was given before does not count either, and one that let a deployment
	// through before is not taken away.
	c := deployCore(t, then)
	j := c.job("2", "21", "test", "1001", 0)
	must(t, c.open("d-t", j, "test", 0))
	must(t, c.approve("cat", "d-t", 0))
	must(t, c.applies("cat", fewer, time.Second))
	want(t, c.claim("d-t", j, time.Minute), "approvals_missing")
	must(t, c.approve("bob", "d-t", time.Minute))
	must(t, c.claim("d-t", j, 2*time.Minute))
	must(t, c.applies("bob", strings.Replace(fewer, "coolingOff: 20m\n", "coolingOff: 20m\nrecordAge: 600h\n", 1), 3*time.Minute))
	must(t, c.as(Caller{Holder: "d-t"}, renewLease{Deployment: "d-t", Handle: HandleDigest("h")}, 4*time.Minute))
}

// A random history of changes and votes: nobody votes within twenty minutes of his own change,
// and everybody else does.
func TestGates08Model(t *testing.T) {
	then := slowRules()
	refused, allowed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		c := deployCore(t, then)
		last, at := map[string]time.Duration{}, time.Duration(0)
		for i := range rapid.IntRange(1, 10).Draw(rt, "acts") {
			at += rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Minute, 19 * time.Minute, time.Hour}).Draw(rt, "later")
			user := rapid.SampledFrom([]string{"bob", "cat"}).Draw(rt, "user")
			if rapid.Bool().Draw(rt, "change") {
				must(t, c.applies(user, strings.Replace(then, "coolingOff: 20m\n", fmt.Sprintf("coolingOff: 20m\nrecordAge: %dh\n", 600-i), 1), at))
				last[user] = at
				continue
			}
			c.n++
			id := "d-v" + time.Duration(c.n).String()
			must(t, c.open(id, c.job(id, "9", "test", "1001", at), "test", at))
			changed, ever := last[user]
			err := c.approve(user, id, at)
			if cools := ever && at-changed < 20*time.Minute; (codeOf(err) == "gate_changed") != cools || !cools && err != nil {
				rt.Fatalf("%s votes %s after his change: %v", user, at-changed, err)
			}
			if err != nil {
				refused++
			} else {
				allowed++
			}
			must(t, c.as(Caller{Holder: id}, cancelDeployment{Deployment: id}, at))
		}
	})
	if refused == 0 || allowed == 0 {
		t.Errorf("%d votes were refused, %d taken", refused, allowed)
	}
}
