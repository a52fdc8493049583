package keeper

import (
	"strings"
	"testing"
	"time"
)

// A time-out is terminal though nobody has swept yet: other rules, which would have given
// more time, or whose freeze would not have taken the lease, do not bring back what the
// rules before had ended (gates.md, invariants 16 and 29).
func TestGates16StaysTimedOut(t *testing.T) {
	two := []string{"principal: user:dora\nscope: /\n", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: administration-2\nrole: organisation-administrator\nprincipal: user:eve\nscope: /\n"}
	freeze := "---\n{kind: Freeze, name: stop, scope: /projects/payments, from: 2026-11-02T08:00:00Z, until: 2026-11-02T12:00:00Z, reason: quiet, inFlight: abort}\n"
	for name, c := range map[string]struct {
		plain   string
		then    string
		running bool
		second  bool
	}{
		"patience":                    {plain: rulesWith(), then: strings.Replace(rulesWith(), "patience: 2h", "patience: 10m", 1)},
		"an approval's time-out":      {plain: rulesWith(), then: rulesWith("approval: {count: 1, groups: [managers]}", "approval: {count: 1, groups: [managers], timeout: 10m}")},
		"a freeze that takes leases":  {plain: rulesWith("lease: 10m", "lease: 1h", "heartbeat: 4m", "heartbeat: 30m"), then: rulesWith("lease: 10m", "lease: 1h", "heartbeat: 4m", "heartbeat: 30m", "<more>", freeze), running: true},
		"patience, by another person": {plain: incidentRules(two...), then: strings.Replace(incidentRules(two...), "patience: 2h", "patience: 10m", 1), second: true},
		"nothing has timed out":       {plain: rulesWith(), then: strings.Replace(rulesWith(), "patience: 2h", "patience: 1h", 1)},
	} {
		k := respondingCore(t, c.plain)
		k.waiting("1")
		if c.running {
			k.approved()
			must(t, k.claimA(2*time.Second))
		}
		apply := func(text string, at time.Duration) {
			t.Helper()
			rules := mustRules(t, text)
			id := "p-" + at.String()
			must(t, k.user("dora", applyCatalog{Base: k.Revision.Number, Rules: rules, ID: id}, at))
			if p := k.Proposals[id]; (p != nil) != (c.second && at > time.Minute) {
				t.Fatalf("%s: the proposal %+v", name, p)
			} else if p != nil {
				must(t, k.user("eve", approveProposal{Proposal: id, Digest: p.Digest, Rules: rules}, at))
			}
		}
		apply(c.then, time.Minute)
		apply(c.plain, 11*time.Minute)
		alive := k.Deployments["d-a"] != nil
		if alive != (name == "nothing has timed out") {
			t.Errorf("%s: it lives on: %v", name, alive)
		}
		if alive {
			for _, by := range []string{"bob", "cat"} {
				must(t, k.approve(by, "d-a", 12*time.Minute))
			}
			must(t, k.claimA(12*time.Minute))
		}
	}
}

// So do requests for activations.
func TestRequestStaysTimedOut(t *testing.T) {
	rule := "kind: ActivationRule\nname: operators\nrole: operator\nscope: /projects/payments\n"
	hasty := strings.Replace(incidentRules(), rule, rule+"patience: 10m\n", 1)
	for name, back := range map[string]time.Duration{"in time": 9 * time.Minute, "too late": 11 * time.Minute} {
		k := respondingCore(t, incidentRules())
		must(t, k.user("bob", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
		must(t, k.user("dora", applyCatalog{Base: k.Revision.Number, Rules: mustRules(t, hasty), ID: "p-1"}, time.Minute))
		must(t, k.user("dora", applyCatalog{Base: k.Revision.Number, Rules: mustRules(t, incidentRules()), ID: "p-2"}, back))
		err := k.user("bob", beginActivation{"r-1", "a-1"}, 12*time.Minute)
		if (err == nil) != (name == "in time") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
