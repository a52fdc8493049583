package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// whenRules ask the second approval of test only of asks that a condition is true of.
func whenRules(when string) string {
	return rulesWith("<latest>", "checks: [{name: people, approval: {count: 1, groups: [managers]}}, {name: risky, when: '"+when+"', approval: {count: 1, groups: [security]}}]\n")
}

func (c *deploying) decided(id, subject string, at time.Duration) string {
	c.t.Helper()
	d := c.Deployments[id]
	f, err := c.facts(d, began.Add(at))
	must(c.t, err)
	for _, b := range c.judge(d, f, began.Add(at)).Because {
		if b.Subject == subject {
			return b.Code
		}
	}
	return ""
}

// TestWhen asks a check only where its condition is true of the ask or cannot be judged;
// the verdict says why not, and whoever is asked by no other check has no vote.
func TestWhen(t *testing.T) {
	for when, asked := range map[string]bool{
		`ask.ref != "refs/heads/main"`:                             false,
		`ask.ref == "refs/heads/main"`:                             true,
		`ask.parameters.risk != "low"`:                             true, // the ask says nothing of it
		`ask.artifacts.exists(a, a.name == "database")`:            false,
		`ask.attempt > 1 || ask.action != "deploy"`:                false,
		`ask.protected == true`:                                    true, // the platform does not say
		`has(ask.parameters.risk) && ask.parameters.risk == "low"`: false,
	} {
		c := deployCore(t, whenRules(when))
		j := c.job("2", "21", "test", "1001", 0)
		must(t, c.open("d-t", j, "test", 0))
		code := map[bool]string{true: "approvals_missing", false: "check_not_asked"}[asked]
		if got := c.decided("d-t", "check risky", 0); got != code {
			t.Errorf("%s: %s, want %s", when, got, code)
		}
		must(t, c.approve("bob", "d-t", time.Second))
		if got := saying(c.claim("d-t", j, 2*time.Second)); (got == "approvals_missing") != asked || !asked && got != "" {
			t.Errorf("%s: the claim says %q", when, got)
		}
	}
}

// A condition that changes while an ask waits helps it not: it is held to what was asked
// when it was opened, and to what is asked now.
func TestWhenChanges(t *testing.T) {
	asks, not := whenRules(`ask.ref == "refs/heads/main"`), whenRules(`ask.ref != "refs/heads/main"`)
	for _, test := range []struct{ before, after, claim string }{
		{asks, not, "approvals_missing"}, {not, asks, "approvals_missing"}, {not, not, ""},
		{asks, strings.Replace(asks, `, {name: risky, when: 'ask.ref == "refs/heads/main"', approval: {count: 1, groups: [security]}}`, "", 1), "approvals_missing"},
	} {
		c := deployCore(t, test.before)
		j := c.job("2", "21", "test", "1001", 0)
		must(t, c.open("d-t", j, "test", 0))
		must(t, c.approve("bob", "d-t", time.Second))
		c.rules = mustRules(t, test.after)
		if got := saying(c.claim("d-t", j, 2*time.Second)); got != test.claim {
			t.Errorf("%.200s…: %q, want %q", test.before[:10], got, test.claim)
		}
	}
}

// A look back under other conditions holds each ask to what they would have asked.
func TestWhatIfOfWhen(t *testing.T) {
	asks, not := whenRules(`ask.ref == "refs/heads/main"`), whenRules(`ask.ref != "refs/heads/main"`)
	c := deployCore(t, not)
	j := c.job("2", "21", "test", "1001", 0)
	must(t, c.open("d-t", j, "test", 0))
	must(t, c.approve("bob", "d-t", time.Second))
	must(t, c.claim("d-t", j, 2*time.Second))
	for given, want := range map[string]string{asks: "[lease.granted waits approvals_missing]", not: "[]"} {
		if out, got := c.lookedBack(not, given); fmt.Sprint(got) != want {
			t.Errorf("it differs in %v, want %s: %s", got, want, out)
		}
	}
}

// A rehearsal asks as the ask would be asked.
func TestWhenRehearsed(t *testing.T) {
	c := deployCore(t, whenRules(`ask.ref != "refs/heads/main"`))
	j := c.job("2", "21", "test", "1001", 0)
	r, err := c.core.rehearse(openDeployment{ID: rehearsed, Job: j, Environment: "test", Artifacts: []lockkeeper.Artifact{app}}, began)
	must(t, err)
	if text := fmt.Sprint(r.Gate); !strings.Contains(text, "check_not_asked") {
		t.Errorf("it does not say what is not asked: %s", text)
	}
}
