package keeper

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// What makes an approver one is looked at when he votes, when the lease is granted, and at
// every token: whoever has lost it meanwhile has approved nothing.
func TestGates05ApproversAreLive(t *testing.T) {
	for name, c := range map[string]struct {
		rules string
		code  string
	}{
		"nothing":                {rulesWith(), ""},
		"he left the group":      {rulesWith("users: [ann, ann-admin, bob, cat", "users: [ann, ann-admin, cat"), "approvals_missing"},
		"he is off":              {rulesWith("<bob>", "\noff: true"), "approvals_missing"},
		"the role is taken away": {rulesWith("principal: group:managers\nscope: /projects/payments", "principal: user:cat\nscope: /projects/payments\n---\nkind: Assignment\nname: starts\nrole: release-manager\nprincipal: user:ann\nscope: /projects/payments"), "approvals_missing"},
		"he is denied it":        {rulesWith("<more>", "---\n{kind: Assignment, name: no-bob, role: release-manager, principal: user:bob, scope: /projects/payments, deny: true}\n"), "approvals_missing"},
		"it wants a sign-in now": {rulesWith("approval: {count: 1, groups: [managers]}", "approval: {count: 1, groups: [managers], signedIn: 5m, strong: true}"), "approvals_missing"},
	} {
		k := deployCore(t, rulesWith())
		k.waiting("1")
		k.approved()
		k.rules = mustRules(t, c.rules)
		if got := saying(k.claimA(2 * time.Second)); got != c.code {
			t.Errorf("%s: the claim: %q, want %q", name, got, c.code)
		}
		k = deployCore(t, rulesWith())
		k.running()
		k.rules = mustRules(t, c.rules)
		if got := saying(k.tokenA(3 * time.Second)); got != c.code {
			t.Errorf("%s: a token: %q, want %q", name, got, c.code)
		}
		if got := saying(k.renew(3 * time.Second)); got != c.code {
			t.Errorf("%s: a heartbeat: %q, want %q", name, got, c.code)
		}
	}
	k := respondingCore(t, incidentRules())
	k.waiting("1")
	k.approved()
	must(t, k.user("dora", openIncident{ID: "i-a", Title: "his laptop is gone", Quarantine: quarantines(t, "user:bob")}, 2*time.Second))
	want(t, k.claimA(3*time.Second), "approvals_missing")
	// He cannot vote either, once he has lost it.
	k = deployCore(t, rulesWith("<bob>", "\noff: true"))
	k.waiting("1")
	if err := k.approve("bob", "d-a", time.Second); err == nil {
		t.Error("who is off votes")
	}
}

// One person fills one place, by whichever accounts; and whoever stands behind a run fills
// none: who started it, who started it again, for whom it was queued, and who built it.
func TestGates06NobodyTwiceNobodysOwn(t *testing.T) {
	c := deployCore(t, rulesWith("approval: {count: 1, groups: [security], review: security}", "approval: {count: 2, groups: [security], review: security}", "<more>", "---\n{kind: User, name: eve-2, person: eve}\n", "users: [cat, eve, ann-admin]", "users: [cat, eve, eve-2]", "cat, eve<managers>", "cat, eve, eve-2"))
	must(t, c.record(c.job("1", "10", "", "1003", 0), 0)) // cat builds
	must(t, c.open("d-a", c.job("1", "11", "production", "1001", 0), "production", 0))
	must(t, c.approve("eve", "d-a", time.Second))
	want(t, c.approve("eve-2", "d-a", time.Second), "already_approved")
	want(t, c.approve("cat", "d-a", time.Second), "own_change")
	want(t, c.approve("ann", "d-a", time.Second), "own_deployment")
	want(t, c.approve("ann-admin", "d-a", time.Second), "own_deployment")
	must(t, c.approve("bob", "d-a", time.Second))
	want(t, c.claimA(2*time.Second), "approvals_missing") // of two for security there is one

	// Bob runs ann's run again: neither of them approves it.
	c = deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	j := c.job("1", "11", "production", "1001", 0)
	j.Attempt, j.RerunActor = 2, lockkeeper.SignedFact("1002")
	must(t, c.open("d-a", j, "production", 0))
	for _, user := range []string{"ann", "ann-admin", "bob"} {
		want(t, c.approve(user, "d-a", time.Second), "own_deployment")
	}
	unknown := c.job("1", "11", "production", "1001", 2*time.Second)
	unknown.Attempt = 2
	want(t, c.open("d-b", unknown, "production", 2*time.Second), "rerun_unknown")
	// Nobody knows who stands behind a schedule: it takes one person more for each.
	scheduled := c.job("3", "31", "production", "1001", 2*time.Second)
	scheduled.Event.Value = "schedule"
	must(t, c.open("d-c", scheduled, "production", 2*time.Second))
	must(t, c.approve("bob", "d-c", 3*time.Second))
	must(t, c.approve("cat", "d-c", 3*time.Second))
	scheduled = c.job("3", "31", "production", "1001", 4*time.Second)
	scheduled.Event.Value = "schedule"
	want(t, c.claim("d-c", scheduled, 4*time.Second), "approvals_missing")
}

// What is no person who sits there approves nothing: neither a job, nor a deployment's
// handle, nor the server, nor an account of automation, nor a token that a person made.
func TestGates07OnlyPeopleApprove(t *testing.T) {
	c := deployCore(t, rulesWith("users: [cat, eve, ann-admin]", "users: [cat, eve, ann-admin, robot]", "cat, eve<managers>", "cat, eve, robot"))
	c.waiting("1")
	c.Accounts["bob"] = &Account{User: "bob", Proven: true}
	must(t, c.user("bob", makePersonal{ID: "k-bob", Name: "mine", Secret: "x", Patterns: []string{"*"}, Scope: "/", For: time.Hour}, 0))
	v := vote{Deployment: "d-a", Approve: true, Digest: c.Deployments["d-a"].Digest}
	other := c.job("5", "51", "production", "1002", 0)
	for name, by := range map[string]Caller{"nobody": {}, "a job of bob's": {Workload: &other}, "the handle": {Holder: "d-a"}, "the server": {Keeper: true}, "a robot in the group": {User: "robot"},
		"bob's own token": {User: "bob", Token: "k-bob"}} {
		if err := c.as(by, v, time.Second); err == nil {
			t.Errorf("%s approves", name)
		}
		if err := c.as(by, delegate{"d-a", "cat", ""}, time.Second); err == nil {
			t.Errorf("%s hands a place over", name)
		}
		if err := c.as(by, decideOverride{Override: "o-a", Approve: true}, time.Second); err == nil {
			t.Errorf("%s approves an override", name)
		}
	}
	if len(c.Deployments["d-a"].Votes) != 0 {
		t.Errorf("votes: %+v", c.Deployments["d-a"].Votes)
	}
	for _, cmd := range []command{v, delegate{}, withdrawApproval{}, decideOverride{}, approveProposal{}, decideRequest{}} {
		if tokenMay(cmd) {
			t.Errorf("a token may send %s", cmd.name())
		}
	}
}

// An approval is taken back up to its last use, by whoever gave it and whatever he may do
// now; what runs on it ends in the same decision.
func TestGates09Withdrawn(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	want(t, c.user("eve", withdrawApproval{"d-a", "no"}, 2*time.Second), "nothing_to_withdraw")
	must(t, c.user("bob", withdrawApproval{"d-a", "the migration is wrong"}, 2*time.Second))
	want(t, c.claimA(3*time.Second), "approvals_missing")
	must(t, c.approve("bob", "d-a", 4*time.Second))
	must(t, c.claimA(5*time.Second))
	must(t, c.tokenA(6*time.Second))
	c.rules = mustRules(t, rulesWith("cat, eve<managers>", "cat, eve", "users: [ann, ann-admin, bob, cat", "users: [ann, ann-admin, bob, cat"))
	s, err := c.step(Caller{User: "bob"}, "", withdrawApproval{"d-a", "it is wrong still"}, began.Add(7*time.Second))
	must(t, err)
	must(t, s.err)
	if len(s.events) != 2 {
		t.Fatalf("%d entries", len(s.events))
	}
	end := s.events[1].(*deploymentEnded).End
	if end.Status != Revoked || end.TokensOutside != 1 || end.OutsideTill != began.Add(2*time.Minute+6*time.Second) {
		t.Errorf("it ended %+v", end)
	}
	want(t, c.tokenA(8*time.Second), "deployment_ended")
	want(t, c.renew(8*time.Second), "deployment_ended")

	// Whoever may not approve any more takes back what he gave.
	c = deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	c.rules = mustRules(t, rulesWith("users: [ann, ann-admin, bob, cat", "users: [ann, ann-admin, cat"))
	must(t, c.user("bob", withdrawApproval{"d-a", "I left"}, 2*time.Second))
	c.rules = mustRules(t, rulesWith())
	want(t, c.claimA(3*time.Second), "approvals_missing")
}

// Who is in a group is told by immutable ids: neither a name on a platform nor one in a
// directory puts anybody into one.
func TestGates10IDsNotNames(t *testing.T) {
	c := deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	// The account 4444 calls itself as bob's does, by name and by id as a name.
	for _, name := range []string{"bob", "1002", "managers", "user:bob"} {
		j := c.job("1", "11", "production", "4444", 0)
		j.ActorName = lockkeeper.SignedFact(name)
		want(t, c.open("d-x", j, "production", 0), "initiator_unknown")
	}
	// And ann's own, renamed to bob, is ann's still.
	j := c.job("1", "11", "production", "1001", 0)
	j.ActorName = lockkeeper.SignedFact("bob")
	must(t, c.open("d-a", j, "production", 0))
	want(t, c.approve("ann", "d-a", time.Second), "own_deployment")
	must(t, c.approve("bob", "d-a", time.Second))

	// A directory's groups count by the ids that the catalog maps, not by what they are
	// called here: g1 is mapped to red, and a group that calls itself red is nothing.
	_, rules := directoryLaws(t)
	for said, may := range map[string]bool{"g1": true, "red": false, "group:red": false, "G1": false} {
		k := &core{world: world{State: newState(), rules: rules[0]}}
		s, err := k.step(Caller{}, "", startDirectorySession{Session{ID: "s", Secret: "x"}, Said{Directory: "corp", Subject: "s-ann", Name: "ann", Groups: []string{said}, At: began}}, began)
		must(t, err)
		must(t, s.err)
		if got := k.rules.Access.Allowed("ann", lockkeeper.ApproveDeployments, "/projects/p", began); got != may {
			t.Errorf("in the directory's group %q: may approve %v", said, got)
		}
	}
}
