package keeper

import (
	"strings"
	"testing"
	"time"
)

// 34: conditions × second person: at night dora is alone.
func TestSeam34AloneAtNight(t *testing.T) {
	for name, cond := range map[string]string{"condition": `condition: now >= timestamp("2026-11-02T09:30:00Z")`, "start": "start: 2026-11-02T09:30:00Z"} {
		text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\n"+cond+"\nrole: organisation-administrator\nprincipal: user:cat")
		c := respondingCore(t, text)
		weaker := mustRules(t, strings.Replace(text, "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
		s, err := c.core.step(Caller{User: "dora"}, "", applyCatalog{Rules: weaker, ID: "p-1", Base: c.Revision.Number}, began)
		must(t, err)
		must(t, s.err)
		if s.answer.(applied).Proposal == "" {
			t.Errorf("%s: half an hour before cat could decide, dora weakens alone", name)
		}
	}
}

// 7d: delayed start × review: closed before what the broken glass let through begins.
func TestSeam07dReviewAndDelayed(t *testing.T) {
	text := glassRules() + "---\n{kind: Role, name: canceller, actions: [deployments/cancel]}\n---\n{kind: Assignment, name: cancellers, role: canceller, principal: user:rev, scope: /projects/payments, eligible: true}\n---\n{kind: ActivationRule, name: cancelling, role: canceller, scope: /projects/payments, approvals: [{name: m, approval: {count: 1, groups: [managers, security]}}]}\n"
	c := deployCore(t, text)
	must(t, c.breaks("ann", "1", 0))
	must(t, c.user("rev", openRequest{ID: "r-2", Role: "canceller", Scope: "/projects/payments", For: time.Hour, Reason: "x", At: began.Add(48 * time.Hour)}, 0))
	must(t, c.user("ann", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest}, 0))
	if err := c.user("rev", judgeReview{Review: "v-1", Finding: "fine"}, time.Minute); codeOf(err) != "review_of_own" {
		must(t, c.user("rex", judgeReview{Review: "v-1", Finding: "fine"}, time.Minute))
		if c.Reviews["v-1"] == nil {
			must(t, c.user("rev", beginActivation{"r-2", "a-2"}, 48*time.Hour))
			t.Errorf("rev closes the review of what approved his activation, and begins it: %v", c.Activations["a-2"].ID)
		}
	}
}

// 31b: the second person gains by people: true.
func TestSeam31bProposalAndPeople(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat")
	text = strings.Replace(text, "actions: [deployments/cancel, freezes/write]", "actions: [deployments/cancel, freezes/write, identities/use]", 1)
	c := respondingCore(t, text)
	next := mustRules(t, strings.Replace(text, "lifetime: 2m\n", "lifetime: 2m\npeople: true\n", 1))
	s, err := c.core.step(Caller{User: "dora"}, "", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, began)
	must(t, err)
	must(t, s.err)
	p := c.Proposals["p-1"]
	if err := c.user("cat", approveProposal{Proposal: "p-1", Digest: p.Digest, Rules: next}, time.Minute); codeOf(err) != "proposal_gains" {
		t.Errorf("cat is eligible to use the identity, and opens it to people: %v", err)
	}
}
