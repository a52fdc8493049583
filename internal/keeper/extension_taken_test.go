package keeper

import (
	"testing"
	"time"
)

// TestTakenApprovalOfAnExtension lets fay activate the right to approve, approve with it
// what makes ann's activation longer, and somebody take fay's activation away: what stands
// on that approval falls with it, while fay's is alive and after it is over.
func TestTakenApprovalOfAnExtension(t *testing.T) {
	const approver = `
---
{kind: User, name: fay}
---
{kind: Group, name: fays, users: [fay]}
---
{kind: Assignment, name: fays, role: access-approver, principal: user:fay, scope: /projects/p, eligible: true}
---
{kind: Role, name: revoker, actions: [activations/revoke]}
---
{kind: Assignment, name: revokers, role: revoker, principal: user:bob, scope: /}
---
{kind: ActivationRule, name: approving, role: access-approver, scope: /projects/p, longest: 1h}
`
	for name, over := range map[string]bool{"alive": false, "over": true} {
		c, do := accessCore(t, "longest: <longest>", "longest: 4h", "groups: [leads]", "groups: [leads, fays]", "<deny>", approver)
		must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
		must(t, do("bob", c.approval("r-1"), 0))
		must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
		must(t, do("fay", openRequest{ID: "r-f", Role: "access-approver", Scope: "/projects/p", For: 30 * time.Minute, Reason: "why"}, time.Minute))
		must(t, do("fay", beginActivation{"r-f", "a-f"}, time.Minute))
		must(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: time.Hour, Reason: "more"}, 2*time.Minute))
		must(t, do("fay", c.approval("r-2"), 3*time.Minute))
		must(t, do("ann", beginActivation{"r-2", "a-x"}, 4*time.Minute))
		at := 5 * time.Minute
		if over {
			must(t, do("fay", endActivation{"a-f", "done"}, at))
			at += time.Minute
		}
		must(t, do("bob", endActivation{"a-f", "not she"}, at))
		if c.Activations["a-1"] != nil {
			t.Errorf("%s: what she approved lasts on until %s", name, c.Activations["a-1"].Ends)
		}
	}
}
