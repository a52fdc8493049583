package keeper

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const dutyMore = `---
{kind: User, name: fay}
---
{kind: Group, name: on-duty, users: [fay]}
---
{kind: Group, name: deciders, users: [bob, cat]}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:deciders, scope: /projects/payments}
---
{kind: Assignment, name: on-duty, role: release-manager, principal: group:on-duty, scope: /projects/payments, eligible: true}
---
{kind: ActivationRule, name: duty, role: release-manager, scope: /projects/payments, approvals: [{name: d, approval: {count: 1, groups: [deciders]}}]}
`

const dutyApart = "---\n{kind: Separation, name: four-eyes, scope: /projects/payments, mode: use, actions: [[activations/approve], [deployments/approve]]}\n"

func dutyRules(t *testing.T, more string, pairs ...string) *Rules {
	checks := "checks: [{name: two, approval: {count: 2, groups: [managers, on-duty]}}]\n"
	return mustRules(t, rulesWith(append(pairs, "<latest>", checks, "<more>", dutyMore+more)...))
}

// TestDutiesOfOneDeployment lets bob approve what fay activates, and both vote on one
// deployment: with the separation of use the later vote does not count, at the vote
// and at the release.
func TestDutiesOfOneDeployment(t *testing.T) {
	apart, free := dutyRules(t, dutyApart), dutyRules(t, "")
	for _, test := range []struct {
		name    string
		rules   *Rules
		voters  [2]string
		second  string // what the second vote says
		release *Rules // in force then
		opened  *Rules // in force when it was opened, if others
		claim   string // what the release says
	}{
		{"nothing keeps them apart", free, [2]string{"fay", "bob"}, "", free, nil, ""},
		{"bob votes second", apart, [2]string{"fay", "bob"}, "duties_not_separated", apart, nil, "approvals_missing"},
		{"bob votes first", apart, [2]string{"bob", "fay"}, "duties_not_separated", apart, nil, "approvals_missing"},
		{"another votes", apart, [2]string{"fay", "cat"}, "", apart, nil, ""},
		{"kept apart from the release on", free, [2]string{"fay", "bob"}, "", apart, nil, "approvals_missing"},
		{"kept apart when it was opened", free, [2]string{"fay", "bob"}, "duties_not_separated", free, apart, "approvals_missing"},
		{"the second turns out to be the same person", apart, [2]string{"fay", "cat"}, "", dutyRules(t, dutyApart, "name: cat\n", "name: cat\nperson: bob\n"), nil, "approvals_missing"},
	} {
		c := &core{world: world{State: newState(), rules: test.rules}}
		if test.opened != nil {
			c.rules = test.opened
		}
		do := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, began)
			if err != nil {
				t.Fatal(test.name, err)
			}
			return s.err
		}
		job := workload(1, "1", "10", "test", "1004", "push", 1, began)
		must(t, do(Caller{Workload: &job}, openDeployment{ID: "d-1", Job: job, Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}))
		c.rules = test.rules
		must(t, do(Caller{User: "fay"}, openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why"}))
		must(t, do(Caller{User: "bob"}, decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}))
		must(t, do(Caller{User: "fay"}, beginActivation{"r-1", "a-1"}))
		must(t, do(Caller{User: test.voters[0]}, vote{Deployment: "d-1", Approve: true, Digest: c.Deployments["d-1"].Digest}))
		if err := do(Caller{User: test.voters[1]}, vote{Deployment: "d-1", Approve: true, Digest: c.Deployments["d-1"].Digest}); codeOf(err) != test.second && (test.second != "" || err != nil) {
			t.Errorf("%s: the second vote: %v, want %q", test.name, err, test.second)
		}
		c.rules = test.release
		if err := do(Caller{Workload: &job}, claimLease{Deployment: "d-1", Lease: "l-1", Job: job, Handle: HandleDigest("h")}); codeOf(err) != test.claim && (test.claim != "" || err != nil) {
			t.Errorf("%s: the release: %v, want %q", test.name, err, test.claim)
		}
	}
}
