package keeper

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// 12: session × person token.
func TestSeam12SessionAndToken(t *testing.T) {
	ctx := context.Background()
	k, later, _ := withConsole(t)
	activateUser(t, k, "ann", 10*time.Minute)
	must(t, k.setPassword(t, "ann"))
	secret, s, err := k.SignIn(ctx, "ann", "a long password of ann", "x")
	must(t, err)
	_ = secret
	tok, err := k.IssueToken(ctx, Caller{User: "ann", Session: s.ID}, "p", "console", console)
	must(t, err)
	later(time.Second)
	must(t, k.EndSession(ctx, Caller{User: "dora"}, s.ID))
	seen, err := k.Introspect(ctx, Caller{User: "dora"}, tok.JWT)
	must(t, err)
	if seen.Active {
		t.Error("the stolen session was ended by dora, and its token stands")
	}
}

func (k *Keeper) setPassword(t *testing.T, user string) error {
	code, err := k.Invite(context.Background(), Caller{User: "dora"}, user)
	if err != nil {
		return err
	}
	return k.Enrol(context.Background(), user, code, "a long password of "+user)
}

// 10c: the approver's activation is revoked; what he let begin goes on.
func TestSeam10cRevokedApprover(t *testing.T) {
	c, do := accessCore(t, "role: access-approver, principal: group:leads, scope: /}", "role: access-approver, principal: group:leads, scope: /, eligible: true}\n---\n{kind: ActivationRule, name: approvers, role: access-approver, scope: /}")
	must(t, do("bob", openRequest{ID: "r-0", Role: "access-approver", Scope: "/", For: time.Hour, Reason: "x"}, 0))
	must(t, do("bob", beginActivation{"r-0", "a-0"}, 0))
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "x"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	must(t, do("dora", endActivation{"a-0", "stolen"}, time.Second))
	if at := began.Add(2 * time.Second); c.check("ann", lockkeeper.StartDeployments, "/projects/p/environments/e", at).Passed(at) {
		t.Error("bob's activation was revoked, and what it let begin goes on")
	}
	t.Log(do("dora", endActivation{"a-0", "its votes, too"}, 3*time.Second))
}

// 17: a proposal of a quarantined person outlives the incident.
func TestSeam17ProposalAndIncident(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat")
	c := respondingCore(t, text)
	weaker := mustRules(t, strings.Replace(text, "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
	must(t, c.user("cat", applyCatalog{Rules: weaker, ID: "p-1", Base: c.Revision.Number}, 0))
	must(t, c.user("rita", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, "user:cat")}, time.Minute))
	must(t, c.user("rob", closeIncident{"i-1", "mended"}, 2*time.Minute))
	if p := c.Proposals["p-1"]; p != nil {
		if err := c.user("dora", approveProposal{Proposal: "p-1", Digest: p.Digest, Rules: weaker}, 3*time.Minute); err == nil {
			t.Error("what cat, who was quarantined, had proposed before came in force after the incident")
		}
	}
}

// 7c: who stands behind a run whose activation broken glass approved.
func TestSeam07cReviewAndRun(t *testing.T) {
	text := strings.Replace(glassRules("patience: 2h\n", "patience: 2h\nactivation: migrator\n")+migration, "users: [rev, rex, ann-admin, bob, cat, eve]", "users: [rev, rex, ann-admin, bob, cat, eve]", 1)
	text = strings.Replace(text, "name: deciders, role: access-approver, principal: group:security", "name: deciders-m, role: access-approver, principal: group:security", 1)
	text = strings.Replace(text, "name: one, approval: {count: 1, groups: [security]}", "name: one, approval: {count: 1, groups: [managers]}", 1)
	c := deployCore(t, text)
	must(t, c.breaks("ann", "1", 0))
	j := c.job("1", "11", "production", "1004", 0) // eve's run
	must(t, c.as(Caller{Workload: &j}, openRunRequest{ID: "r-2", Job: j, Role: "migrator", Scope: "/projects/payments/environments/production", For: 20 * time.Minute, Reason: "m", Handle: HandleDigest("h")}, 0))
	must(t, c.user("ann", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest}, 0))
	must(t, c.as(Caller{Holder: "r-2"}, beginActivation{"r-2", "a-2"}, 0))
	if err := c.user("eve", judgeReview{Review: "v-1", Finding: "fine"}, time.Minute); codeOf(err) != "review_of_own" {
		t.Errorf("eve's run got its activation by ann's broken glass, and eve reviews it: %v", err)
	}
}
