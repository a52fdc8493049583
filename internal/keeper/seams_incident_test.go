package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// 7: review × extension, × proposal.
func TestSeam07ReviewAndExtension(t *testing.T) {
	// ann breaks the glass for emergency, whose holder approves activations; bob's request and bob's extension.
	text := glassRules() + "---\n{kind: Role, name: canceller, actions: [deployments/cancel]}\n---\n{kind: Assignment, name: cancellers, role: canceller, principal: user:rev, scope: /projects/payments, eligible: true}\n---\n{kind: ActivationRule, name: cancelling, role: canceller, scope: /projects/payments, approvals: [{name: m, approval: {count: 1, groups: [managers, security]}}]}\n---\n{kind: Assignment, name: deciders-2, role: access-approver, principal: user:cat, scope: /}\n"
	for _, how := range []string{"begin", "extend"} {
		c := deployCore(t, text)
		must(t, c.breaks("ann", "1", 0))
		must(t, c.user("rev", openRequest{ID: "r-2", Role: "canceller", Scope: "/projects/payments", For: time.Hour, Reason: "x"}, 0))
		who := map[string]string{"begin": "ann", "extend": "cat"}[how]
		must(t, c.user(who, decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest}, 0))
		must(t, c.user("rev", beginActivation{"r-2", "a-2"}, 0))
		if how == "extend" {
			must(t, c.user("rev", extendActivation{ID: "r-3", Activation: "a-2", For: 7 * time.Hour, Reason: "x"}, 0))
			must(t, c.user("ann", decideRequest{Request: "r-3", Approve: true, Digest: c.Requests["r-3"].Digest}, 0))
			must(t, c.user("rev", beginActivation{"r-3", "a-3"}, 0))
		}
		if err := c.user("rev", judgeReview{Review: "v-1", Finding: "fine"}, time.Minute); codeOf(err) != "review_of_own" {
			t.Errorf("%s: rev got his activation by ann's broken glass, and reviews it: %v", how, err)
		}
	}
}

func TestSeam07bReviewAndProposal(t *testing.T) {
	text := strings.NewReplacer("actions: [deployments/approve, deployments/cancel, activations/approve]", "actions: [environments/write, access/write]").Replace(glassRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: envs\nrole: environment-administrator\nprincipal: user:rev"))
	text = strings.Replace(text, "role: environment-administrator\nprincipal: user:rev\nscope: /\n", "role: environment-administrator\nprincipal: user:rev\nscope: /projects/payments\n", 1)
	c := deployCore(t, text)
	var events []event
	for _, user := range []string{"dora", "ann", "rev", "bob"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p-" + user, Maker: "dora"}, &accountProven{User: user, Token: lockkeeper.TokenIDOf("proof", user), Expires: began})
	}
	must(t, c.core.record(&step{}, Caller{Keeper: true}, "", "", events, began))
	weaker := mustRules(t, strings.Replace(text, "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
	s, err := c.core.step(Caller{User: "rev"}, "", applyCatalog{Rules: weaker, ID: "p-1", Base: c.Revision.Number}, began)
	must(t, err)
	must(t, s.err)
	if s.answer.(applied).Proposal == "" {
		t.Fatal("no proposal")
	}
	must(t, c.breaks("ann", "1", time.Minute))
	s, err = c.core.step(Caller{User: "ann"}, "", approveProposal{Proposal: "p-1", Digest: c.Proposals["p-1"].Digest, Rules: weaker}, began.Add(time.Minute))
	must(t, err)
	must(t, s.err)
	if err := c.user("rev", judgeReview{Review: "v-1", Finding: "fine"}, 2*time.Minute); codeOf(err) != "review_of_own" {
		t.Errorf("rev's proposal came in force by ann's broken glass, and rev reviews it: %v", err)
	}
}

// 8: best-effort × run-bound activation.
func TestSeam08BestEffortAndRun(t *testing.T) {
	for _, demanded := range []bool{false, true} {
		r := withRuns(t)
		pairs := []string{"kind: Role, name: migrator", "kind: User, name: rita}\n---\n{kind: User, name: rob}\n---\n{kind: Group, name: responders, users: [rita, rob]}\n---\n{kind: Assignment, name: responding, role: incident-responder, principal: 'group:responders', scope: /}\n---\n{kind: Role, name: migrator"}
		if !demanded {
			pairs = append(pairs, "activation: migrator\n", "")
		}
		r.apply(pairs...)
		if demanded {
			r.active("1", "11")
		}
		id := r.running("1", "11")
		cut, err := do[Cut](r.ctx, r.Keeper, Caller{User: "rita"}, "", openIncident{ID: "i-1", Title: "x", Mode: BestEffort, Quarantine: quarantines(t, "pipeline:payments/release")})
		must(t, err)
		if len(cut.Revoked) > 0 {
			t.Fatal("revoked")
		}
		r.clock.Add(int64(time.Minute))
		if _, err := r.Renew(r.ctx, id, "h"); err != nil {
			t.Errorf("demanded %v: best effort lets it end, and the heartbeat: %v (activations ended: %v)", demanded, err, cut.Activations)
		}
	}
}

// 9: incident × certificates outside.
func TestSeam09IncidentAndCertificates(t *testing.T) {
	c, do := accessCore(t, "<deny>", "\n---\n{kind: Provisioner, name: hosts, role: operator, scope: /projects/p/environments/e, ssh: {principals: [ops], lifetime: 15m}}\n"+responders)
	activated(t, c, do, "1", "/projects/p/environments/e", 0)
	for id := range c.Duties {
		must(t, do("", beginEffect{id, 1, GrantVerb, 30 * time.Second}, 0))
		must(t, do("", endEffect{Duty: id, Attempt: 1}, 0))
	}
	must(t, do("ann", handCredential{Activation: "a-1", Kind: "ssh", Key: "SHA256:x", Serial: 1}, 0))
	s, err := c.step(Caller{User: "rita"}, "", openIncident{ID: "i-1", Title: "stolen", Quarantine: quarantines(t, "user:ann")}, began.Add(time.Second))
	must(t, err)
	must(t, s.err)
	for _, d := range c.Duties {
		if cut := s.answer.(Cut); began.Add(time.Second).Before(d.Outside) && !slices.ContainsFunc(cut.Outside, func(r Residue) bool { return r.User == "ann" }) {
			t.Errorf("ann's certificate lives until %s, and the incident says nothing lives outside: %+v", d.Outside, cut)
		}
	}
}

// 10: incident × activation that stands on a quarantined person's approval.
func TestSeam10QuarantinedApprover(t *testing.T) {
	c, do := accessCore(t, "<deny>", provisioned+responders)
	activated(t, c, do, "1", "/projects/p/environments/f", 0) // by ann, approved by...
	a := c.Activations["a-1"]
	by := string(a.Approvers[0])
	must(t, do("rita", openIncident{ID: "i-1", Title: "stolen", Quarantine: quarantines(t, "user:"+by)}, time.Second))
	if at := began.Add(time.Minute); c.check("ann", lockkeeper.StartDeployments, "/projects/p/environments/f", at).Passed(at) {
		t.Errorf("%s, who alone approved it, is quarantined, his votes are void, and ann's activation goes on until %s, with %d duties", by, a.Ends, len(c.Duties))
	}
}

// 10b: run-bound activation approved by the quarantined; the deployment runs on.
func TestSeam10bQuarantinedApproverRun(t *testing.T) {
	r := withRuns(t)
	pairs := []string{"kind: Role, name: migrator", "kind: User, name: rita}\n---\n{kind: User, name: rob}\n---\n{kind: Group, name: responders, users: [rita, rob]}\n---\n{kind: Assignment, name: responding, role: incident-responder, principal: 'group:responders', scope: /}\n---\n{kind: Role, name: migrator"}
	r.apply(pairs...)
	id0, err := r.ask(r.job("1", "11", "1001"))
	must(t, err)
	must(t, r.approve("eve", id0)) // eve approves the activation, bob and cat the deployment
	_, err = r.BeginActivation(r.ctx, Caller{Holder: id0}, id0)
	must(t, err)
	id := r.running("1", "11")
	cut, err := do[Cut](r.ctx, r.Keeper, Caller{User: "rita"}, "", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, "user:eve")})
	must(t, err)
	r.clock.Add(int64(time.Minute))
	if _, err := r.Renew(r.ctx, id, "h"); err == nil {
		t.Errorf("eve's approval was needed for the migration, eve is quarantined (strict), and it runs on: %+v", cut)
	}
}

// 11: recovery × person tokens, × notices.
func TestSeam11RecoverySession(t *testing.T) {
	c := respondingCore(t, incidentRules())
	c.collected("rita", "rob", "bob")
	must(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"))
	as := Caller{User: "dora", Session: "s-1"}
	c.PersonTokens["t-1"] = &PersonToken{ID: "t-1", User: "ann", Identity: "/projects/payments/identities/payments-test", Expires: began.Add(time.Hour)}
	if err := c.as(as, recallToken{"t-1"}, 4*time.Second); err != nil {
		t.Errorf("a recovery session revokes no person's token: %v", err)
	}
	want(t, c.as(as, acknowledge{"n-v-1"}, 4*time.Second), "recovery_session")
	if n := c.Notices["n-v-1"]; !slices.Contains(n.For, "dora") {
		t.Errorf("dora was to be told that codes let somebody in as her, and that session took the notice off her list: %v", n.For)
	}
}

// 13: deny × provisioners.
func TestSeam13DenyAndProvisioner(t *testing.T) {
	deny := "---\n{kind: Assignment, name: not-ann, role: operator, principal: user:ann, scope: /, deny: true}\n"
	c, do := accessCore(t, "<deny>", provisioned+deny)
	if err := do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0); err != nil {
		return
	}
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	for _, d := range c.Duties {
		t.Errorf("ann is denied operator everywhere; %s opens %s: %q", d.ID, d.Provisioner, c.next(d, nil, began))
	}
}

// 14: extension × owed.
func TestSeam14ExtensionAndOwed(t *testing.T) {
	c, do := accessCore(t, "<longest>", "2h", "<deny>", "\n---\n{kind: Provisioner, name: hook, role: operator, scope: /projects/p/environments/f, webhook: {url: 'https://hook.example.com'}}\n")
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p/environments/f", For: 10 * time.Minute, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	must(t, do("", beginEffect{"o-1-1", 1, GrantVerb, 30 * time.Second}, 0))
	must(t, do("", endEffect{Duty: "o-1-1", Attempt: 1}, 0))
	must(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: time.Hour, Reason: "x"}, 9*time.Minute))
	must(t, do("bob", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest}, 9*time.Minute))
	must(t, do("ann", beginActivation{"r-2", "a-2"}, 9*time.Minute))
	// the worker is away
	at := 13 * time.Minute
	if d := c.Duties["o-1-1"]; c.owed(d, began.Add(at)) {
		t.Errorf("ann's activation lives until %s, and its removal is owed", c.Activations["a-1"].Ends)
	}
	if err := do("cat", openRequest{ID: "r-3", Role: "operator", Scope: "/projects/p/environments/f", For: 10 * time.Minute, Reason: "why"}, at); err == nil {
		must(t, do("bob", decideRequest{Request: "r-3", Approve: true, Digest: c.Requests["r-3"].Digest}, at))
		if err := do("cat", beginActivation{"r-3", "a-3"}, at); err != nil {
			t.Errorf("and nobody else gets in: %v", err)
		}
	}
	_ = do("bob", attestDuty{"o-1-1", "gone"}, at)
	_ = do("cat", attestDuty{"o-1-1", "gone"}, at)
	if c.Duties["o-1-1"] == nil && c.Activations["a-1"] != nil {
		t.Errorf("two persons closed the duty of an activation that lives: nothing takes it away at its end")
	}
}

// 15: cooling-off × what is alive.
func TestSeam15CoolingOff(t *testing.T) {
	c, do := accessCore(t, "longest: <longest>", "longest: 1h, coolingOff: 24h", "<deny>", "\n---\n{kind: Provisioner, name: hosts, role: operator, scope: /projects/p/environments/e, ssh: {principals: [ops], lifetime: 15m}}\n")
	activated(t, c, do, "1", "/projects/p/environments/e", 0)
	for id := range c.Duties {
		must(t, do("", beginEffect{id, 1, GrantVerb, 30 * time.Second}, 0))
		must(t, do("", endEffect{Duty: id, Attempt: 1}, 0))
	}
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "ann", Credential: "p", Maker: "dora"}}, began.Add(time.Minute)))
	if err := do("ann", handCredential{Activation: "a-1", Kind: "ssh", Key: "SHA256:x", Serial: 1}, 2*time.Minute); err == nil {
		t.Errorf("dora has reset ann's password, and gets what ann had activated")
	}
}
