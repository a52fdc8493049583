package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// lookedBack says in what a past differs under other rules; none given: those of then.
func (c *deploying) lookedBack(then string, given ...string) (WhatIf, []string) {
	c.t.Helper()
	var rules *Rules
	if len(given) > 0 {
		rules = mustRules(c.t, given[0])
	}
	out := lookBackAt(c.t, c.past, []*law{{rules: mustRules(c.t, then)}}, rules)
	got := []string{}
	for _, d := range out.Differs {
		said := d.Kind + " " + d.Answer + " " + d.Code
		if d.Was != "" {
			said += " (" + d.Was + ")"
		}
		got = append(got, said)
	}
	return out, got
}

// TestWhatIfLooser tells what was refused and other rules would have let in, and what
// they would not.
func TestWhatIfLooser(t *testing.T) {
	then := rulesWith("allowed: [refs/heads/main]}\n", "allowed: [refs/heads/other]}\n", "users: [ann, ann-admin, bob, cat, eve<managers>]", "users: [ann, ann-admin, cat, eve]")
	c := deployCore(t, then)
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	want(t, c.open("d-a", c.job("1", "11", "production", "1001", 0), "production", 0), "branch_not_allowed")
	must(t, c.open("d-t", c.job("2", "21", "test", "1001", 0), "test", 0))
	j := c.job("3", "31", "test", "1001", time.Second)
	want(t, c.claim("d-t", j, time.Second), "ask_differs")
	stray := c.job("4", "41", "staging", "1001", time.Second)
	want(t, c.open("d-s", stray, "staging", time.Second), "environment_differs")
	if _, got := c.lookedBack(then); len(got) > 0 {
		t.Errorf("under the same rules it differs in %q", got)
	}
	out, got := c.lookedBack(then, rulesWith())
	if want := []string{"refusal.made allowed allowed (branch_not_allowed)"}; !slices.Equal(got, want) || out.Allowed != 1 {
		t.Errorf("it differs in %q, want %q: %s", got, want, out)
	}
}

// TestQuarantinedIsNotTried refuses a quarantined person before any rule does: no other
// rules would have let him in.
func TestQuarantinedIsNotTried(t *testing.T) {
	then := rulesWith()
	c := deployCore(t, then)
	must(t, c.open("d-t", c.job("2", "21", "test", "1001", 0), "test", 0))
	must(t, c.user("dora", openIncident{ID: "i-1", Title: "stolen", Mode: BestEffort, Quarantine: quarantines(t, "user:bob")}, time.Second))
	want(t, c.user("bob", cancelDeployment{"d-t", "no"}, 2*time.Second), "quarantined")
	if out, got := c.lookedBack(then, then); len(got) > 0 || out.Unknowable["refused_then"] != 1 {
		t.Errorf("it differs in %q: %s", got, out)
	}
}

// TestTried holds what is kept of refused commands to a bound, and to what
// makes the same command again.
func TestTried(t *testing.T) {
	for name, blank := range triable {
		cmd := blank()
		if v, is := cmd.(*vote); is {
			v.Approve = name == "deployment.approve"
		}
		if v, is := cmd.(*decideOverride); is {
			v.Approve = name == "override.approve"
		}
		if v, is := cmd.(*decideRequest); is {
			v.Approve = name == "request.approve"
		}
		if cmd.name() != name {
			t.Errorf("%s is kept as %s", cmd.name(), name)
		}
	}
	long := openDeployment{Project: "p", Environment: "e", Parameters: map[string]string{"a": strings.Repeat("x", maxTried)}}
	if data := tried(long); data != nil {
		t.Errorf("%d bytes are kept", len(data))
	}
	long.Parameters = nil
	if data := tried(long); len(data) == 0 || len(data) > maxTried {
		t.Errorf("%d bytes are kept", len(data))
	}
	if data := tried(endDeployment{"d", 0}); data != nil {
		t.Errorf("what no rule decides is kept: %s", data)
	}
}

// TestWhatIfOfGlass looks back at broken glass: the same rules let it be broken again,
// stricter ones do not, and what was done with it hangs on that.
func TestWhatIfOfGlass(t *testing.T) {
	then := glassRules("users: [ann, ann-admin, bob, cat, eve<managers>]", "users: [ann, ann-admin, bob, cat, eve]")
	c := deployCore(t, then)
	must(t, c.breaks("ann", "1", 0))
	must(t, c.user("ann", endActivation{"a-1", "over"}, time.Minute))
	for name, test := range map[string]struct {
		given, want string
	}{
		"the same":     {then, "[]"},
		"no glass":     {strings.Replace(then, "breakGlass: {budget: 2, review: 24h, reviewers: {count: 2, groups: [auditors]}}", "", 1), "[request.opened refused break_glass_unavailable]"},
		"shorter":      {strings.Replace(then, "breakGlass: {budget: 2,", "breakGlass: {longest: 30m, budget: 2,", 1), "[request.opened refused activation_long]"},
		"no reviewers": {strings.Replace(then, "users: [rev, rex, ann-admin, bob, cat, eve]", "users: [rev, ann-admin]", 1), "[request.opened refused reviewers_missing]"},
	} {
		if out, got := c.lookedBack(then, test.given); fmt.Sprint(got) != test.want {
			t.Errorf("%s: it differs in %v, want %s: %s", name, got, test.want, out)
		}
	}
}

// TestWhatIfOfOverrides looks back at an override that was asked for, approved and
// denied.
func TestWhatIfOfOverrides(t *testing.T) {
	c := overriding(t)
	must(t, c.asks("ann", "o-a", all, 2*time.Second))
	must(t, c.says("oz", "o-a", true, 3*time.Second))
	must(t, c.says("una", "o-a", true, 4*time.Second))
	must(t, c.approve("eve", "d-a", 5*time.Second))
	must(t, c.claimA(6*time.Second))
	then := overrideRules()
	swap := func(a, b string) string {
		if !strings.Contains(then, a) {
			t.Fatalf("%q is not in the rules", a)
		}
		return strings.Replace(then, a, b, 1)
	}
	for name, test := range map[string]struct {
		given, want string
	}{
		"the same":        {then, "[]"},
		"none":            {swap("override: {groups: [overriders], reviewers: {groups: [auditors]}}\n", ""), "[override.requested refused override_unavailable lease.granted waits approvals_missing]"},
		"una may not":     {swap("users: [oz, oz-2, ola, una, ann-admin]", "users: [oz, oz-2, ola, ann-admin]"), "[override.approved refused not_granted lease.granted waits approvals_missing]"},
		"a check is hard": {swap("groups: [desk], after: [managers]}\n    soft: true", "groups: [desk], after: [managers]}"), "[override.requested refused check_hard lease.granted waits approvals_missing]"},
		"more persons":    {swap("override: {groups", "override: {count: 3, groups"), "[lease.granted waits approvals_missing]"},
	} {
		if out, got := c.lookedBack(then, test.given); fmt.Sprint(got) != test.want {
			t.Errorf("%s: it differs in %v, want %s: %s", name, got, test.want, out)
		}
	}
	denied := overriding(t)
	must(t, denied.asks("ann", "o-a", all, 2*time.Second))
	must(t, denied.says("oz", "o-a", false, 3*time.Second))
	if out, got := denied.lookedBack(then, swap("users: [oz, oz-2, ola, una, ann-admin]", "users: [ola, una, ann-admin]")); fmt.Sprint(got) != "[override.closed refused not_granted]" {
		t.Errorf("it differs in %v: %s", got, out)
	}
}

// TestWhatIfOfEvidence looks back at evidence whose stage other rules do not let bring it.
func TestWhatIfOfEvidence(t *testing.T) {
	then := rulesWith("  - name: build\n", "  - name: build\n    evidence: [tests, scan]\n")
	c := deployCore(t, then)
	must(t, c.bring("1001", 0))
	j := c.job("8", "80", "", "1001", time.Second)
	scan := evidence.Summary{Kind: evidence.Vulnerabilities}
	want(t, c.as(Caller{Workload: &j}, addEvidence{Job: j, Artifacts: []lockkeeper.Artifact{app}, Pieces: []readPiece{{ID: "ev-x", Name: "x", Summary: scan, Content: app.Digest}}}, time.Second), "evidence_not_admitted")
	if out, got := c.lookedBack(then, then); len(got) > 0 || out.Unknowable["refused_then"] != 1 {
		t.Errorf("under the same rules it differs in %q: %s", got, out)
	}
	if out, got := c.lookedBack(then, rulesWith()); fmt.Sprint(got) != "[evidence.added refused evidence_not_admitted]" {
		t.Errorf("it differs in %q: %s", got, out)
	}
}
