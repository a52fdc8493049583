package keeper

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// accessCore is a core under accessRules, its marks replaced by pairs first.
func accessCore(t *testing.T, pairs ...string) (*core, func(by string, cmd command, at time.Duration) error) {
	c := &core{world: world{State: newState(), rules: accessLawOf(t, pairs...)}}
	do := func(by string, cmd command, at time.Duration) error {
		t.Helper()
		s, err := c.step(Caller{User: by, Keeper: by == ""}, "", cmd, began.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		return s.err
	}
	must(t, do("", firstEntry{}, 0))
	return c, do
}

// unmarked is a text like accessRules with what its marks stand for.
func unmarked(text string) string {
	return strings.NewReplacer("<bob>", "bob, ", "<leads>", "", "<cat>", "", "<wider>", "", "<longest>", "1h", "<strict>", "", "<deny>", "").Replace(text)
}

func accessLawOf(t *testing.T, pairs ...string) *Rules {
	text := strings.NewReplacer(pairs...).Replace(accessRules)
	return mustRules(t, unmarked(text))
}

const strictBelow = "---\n{kind: ActivationRule, name: strict, role: operator, scope: /projects/p/environments/e, longest: 10m, ticket: 'INC-[0-9]+', approvals: [{name: another, approval: {count: 1, groups: [leads]}}]}\n"

// A rule further down holds for whoever asks further up.
func TestActivationRuleBelow(t *testing.T) {
	c, do := accessCore(t, "<strict>", strictBelow)
	want(t, do("ann", openRequest{ID: "r-e", Role: "operator", Scope: "/projects/p/environments/e", For: time.Hour, Reason: "why"}, 0), "activation_long")
	if err := do("ann", openRequest{ID: "r-p", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0); err != nil {
		return
	}
	must(t, do("bob", decideRequest{Request: "r-p", Approve: true, Digest: c.Requests["r-p"].Digest, Comment: ""}, 0))
	must(t, do("ann", beginActivation{"r-p", "a-p"}, 0))
	for _, after := range []time.Duration{0, 30 * time.Minute} {
		if d := c.check("ann", lockkeeper.StartDeployments, "/projects/p/environments/e", began.Add(after)); d.Passed(began.Add(after)) {
			t.Errorf("after %s, without a ticket, with one approval of two, past 10m: %s", after, d.Sentence)
		}
	}
}

// A shorter patience holds at once.
func TestActivationPatienceShortened(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	c.rules = accessLawOf(t, "patience: 2h", "patience: 5m")
	if err := do("ann", beginActivation{"r-1", "a-1"}, 110*time.Minute); err == nil {
		t.Errorf("begun 110 minutes after it was asked for, though the rule says 5m (since minute 0)")
	}
}

// A pass does not reach past a deny that begins sooner.
func TestActivationUntilPastADeny(t *testing.T) {
	deny := fmt.Sprintf("---\n{kind: Assignment, name: night, role: operator, principal: user:ann, scope: /projects/p, deny: true, start: '%s'}\n", began.Add(10*time.Minute))
	c, do := accessCore(t, "<deny>", deny)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	d := c.check("ann", lockkeeper.StartDeployments, "/projects/p", began)
	later := began.Add(30 * time.Minute)
	if d.Passed(later) && !c.check("ann", lockkeeper.StartDeployments, "/projects/p", later).Passed(later) {
		t.Errorf("the pass says until %s, and at %s it is denied", d.Until, later)
	}
}

// Two votes whose accounts turn out to be one person's fill one place (invariant 3).
func TestActivationTwoPlacesOnePerson(t *testing.T) {
	c, do := accessCore(t, "count: 1", "count: 2")
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	must(t, do("cat", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	c.rules = accessLawOf(t, "count: 1", "count: 2", "<cat>", ", person: bob")
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "approvals_missing")
}

// What went with the eligibility does not come back with it.
func TestActivationRevival(t *testing.T) {
	for name, without := range map[string][]string{"group": {"users: [ann, ", "users: ["}, "off": {"{kind: User, name: ann}", "{kind: User, name: ann, off: true}"}} {
		t.Run(name, func(t *testing.T) {
			c, do := accessCore(t)
			must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
			must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
			must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
			c.rules = accessLawOf(t, without...)
			must(t, do("", sweep{}, time.Minute))
			if now := began.Add(time.Minute); c.check("ann", lockkeeper.StartDeployments, "/projects/p", now).Passed(now) {
				t.Fatal("not even gone")
			}
			c.rules = accessLawOf(t)
			if now := began.Add(30 * time.Minute); c.check("ann", lockkeeper.StartDeployments, "/projects/p", now).Passed(now) {
				t.Error("the activation is alive again, and nobody approved that")
			}
		})
	}
}

const approvers = `{kind: Assignment, name: approvers, role: access-approver, principal: group:leads, scope: /, eligible: true}
---
{kind: ActivationRule, name: approving, role: access-approver, scope: /}
---
{kind: Assignment, name: administration,`

// eligibleApprovers make leads eligible to approve, by an activation that needs nobody.
var eligibleApprovers = []string{"{kind: Assignment, name: administration,", approvers, "{kind: Assignment, name: deciders, role: access-approver, principal: group:leads, scope: /}\n---\n", ""}

func activateApprover(t *testing.T, do func(string, command, time.Duration) error, user, n string, at, long time.Duration) {
	t.Helper()
	must(t, do(user, openRequest{ID: "r-" + n, Role: "access-approver", Scope: "/", For: long, Reason: "why"}, at))
	must(t, do(user, beginActivation{"r-" + n, "a-" + n}, at))
}

// Nobody keeps his votes from whoever would revoke them by ending his own activation
// in time.
func TestActivationVoteBeyondRevocation(t *testing.T) {
	for _, how := range []string{"deactivated", "expired"} {
		t.Run(how, func(t *testing.T) {
			c, do := accessCore(t, eligibleApprovers...)
			must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
			activateApprover(t, do, "bob", "b", 0, time.Minute)
			must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
			at := 2 * time.Minute
			if how == "deactivated" {
				at = time.Second
				must(t, do("bob", endActivation{"a-b", ""}, at))
			} else {
				must(t, do("", sweep{}, at))
			}
			want(t, do("ann", endActivation{"a-b", "no"}, at), "not_granted")
			must(t, do("dora", endActivation{"a-b", "the account is compromised"}, at))
			want(t, do("dora", endActivation{"a-b", "again"}, at), "activation_over")
			want(t, do("ann", beginActivation{"r-1", "a-1"}, at), "approvals_missing")
		})
	}
}

// Whoever voted by an assignment, and is only eligible since, votes again under an
// activation.
func TestActivationVoteStuck(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	c.rules = accessLawOf(t, eligibleApprovers...) // from standing to eligible
	activateApprover(t, do, "bob", "b", 0, time.Minute)
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: "again, under the activation"}, 0))
	want(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: "and again"}, 0), "already_approved")
	must(t, do("", sweep{}, 2*time.Minute))
	if err := do("ann", beginActivation{"r-1", "a-1"}, 2*time.Minute); err != nil {
		t.Errorf("bob said yes under his activation and is eligible still, but: %v", err)
	}
}

// A begin whose reply was lost can be asked again.
func TestActivationBeginTwice(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-2"}, time.Second))
	if len(c.Activations) != 1 || c.Activations["a-1"] == nil {
		t.Errorf("%d activations", len(c.Activations))
	}
	want(t, do("bob", beginActivation{"r-1", "a-3"}, time.Second), "request_closed")
}

// Nobody's refusals fill the journal, or silence those of others.
func TestActivationRefusalFlood(t *testing.T) {
	c, do := accessCore(t, "<leads>", "") // dora et al. as they are
	before := c.Size
	for i := range maxRefusals {
		do("ann2", beginActivation{fmt.Sprint("r-", i), "a-x"}, 0)
	}
	if c.Size-before > maxRefusalsEach {
		t.Errorf("%d entries of one user in one minute", c.Size-before)
	}
	n := c.Size
	want(t, do("cat", openRequest{ID: "r-1", Role: "organisation-administrator", Scope: "/", For: time.Hour, Reason: "why"}, 0), "not_eligible")
	if c.Size == n {
		t.Error("cat's refused ask for organisation-administrator is not recorded")
	}
}

// What runs by a vote that was given under a revoked activation ends with it.
func TestActivationRevocationWhileRunning(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	text := strings.NewReplacer("principal: group:managers\nscope: /projects/payments\n", `principal: group:standing
scope: /projects/payments
---
kind: Group
name: standing
users: [ann, ann-admin, cat, eve]
---
kind: Assignment
name: bobs
role: release-manager
principal: user:bob
scope: /projects/payments
eligible: true
---
kind: ActivationRule
name: managing
role: release-manager
scope: /projects/payments
`).Replace(rulesWith())
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "eligible")
	must(t, err)
	now := lockkeeper.MomentOf(time.Now())
	for i, user := range []string{"bob", "cat", "eve"} {
		prove(t, k, user, fmt.Sprint(1002+i), 100+i, now)
	}
	_, err = k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, now), "", []lockkeeper.Artifact{app})
	must(t, err)
	job := workload(2, "2", "11", "production", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	want(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""), "not_granted")
	r, err := k.RequestActivation(ctx, Caller{User: "bob"}, "", OpenRequest{Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why", Ticket: ""})
	must(t, err)
	a, err := k.BeginActivation(ctx, Caller{User: "bob"}, r)
	must(t, err)
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
	must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""))
	must(t, k.Claim(ctx, job, id, "h"))
	_, err = k.Exchange(ctx, job, id, "h", "https://target.example")
	must(t, err)
	must(t, k.EndActivation(ctx, Caller{User: "dora"}, a.ID, "compromised"))
	v, err = k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	if v.Status != Revoked {
		t.Errorf("it is %s", v.Status)
	}
	if _, err = k.Exchange(ctx, job, id, "h", "https://target.example"); err == nil {
		t.Error("and gets another token")
	}
}

// An epoch clears requests and activations.
func TestActivationEpochClears(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("ann", openRequest{ID: "r-2", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	c.Accounts["dora"] = &Account{User: "dora", Credential: "c"}
	must(t, do("", openEpoch{Number: 2, Confirmer: "dora", Reason: "restored"}, time.Second))
	if len(c.Requests)+len(c.Activations) > 0 {
		t.Error("something is left")
	}
}

// What gives nothing any more is not listed.
func TestActivationListsDeadActivations(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	c.rules = accessLawOf(t, "users: [ann, ", "users: [")
	must(t, do("", sweep{}, time.Minute))
	k := &Keeper{state: c.State, rules: c.rules, options: Options{Clock: func() time.Time { return began.Time().Add(time.Minute) }}}
	list, err := k.Activations(Caller{User: "dora"})
	must(t, err)
	if len(list) > 0 {
		t.Errorf("active by the list: %+v", list[0])
	}
}

// Begins at once give one activation, a restart keeps it, and who may not see it
// sees nothing.
func TestActivationKeeper(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	text := strings.NewReplacer("<bob>", "bob, ", "<leads>", "", "<cat>", "", "<wider>", "", "<longest>", "1h", "<strict>", "", "<deny>", "\n---\n{kind: User, name: eve}\n").Replace(accessRules)
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "x")
	must(t, err)
	ask := OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why", Ticket: ""}
	r, err := k.RequestActivation(ctx, Caller{User: "ann"}, "k", ask)
	must(t, err)
	again, err := k.RequestActivation(ctx, Caller{User: "ann"}, "k", ask)
	must(t, err)
	if r != again {
		t.Error("another request")
	}
	ask.Reason = "other"
	_, err = k.RequestActivation(ctx, Caller{User: "ann"}, "k", ask)
	want(t, err, "key_reused")
	_, err = k.Request(ctx, Caller{User: "eve"}, r)
	want(t, err, "request_missing")
	v, err := k.Request(ctx, Caller{User: "bob"}, r)
	must(t, err)
	want(t, k.DecideRequest(ctx, Caller{User: "ann"}, r, RequestVerdict{Approve: true, Digest: v.Digest, Comment: ""}), "own_deployment")
	want(t, k.DecideRequest(ctx, Caller{User: "ann"}, r, RequestVerdict{Approve: false, Digest: v.Digest, Comment: ""}), "own_deployment")
	want(t, k.DecideRequest(ctx, Caller{User: "eve"}, r, RequestVerdict{Approve: false, Digest: v.Digest, Comment: ""}), "approver_not_permitted")
	must(t, k.DecideRequest(ctx, Caller{User: "bob"}, r, RequestVerdict{Approve: true, Digest: v.Digest, Comment: ""}))
	won := make(chan error, 20)
	for range 20 {
		go func() { _, err := k.BeginActivation(ctx, Caller{User: "ann"}, r); won <- err }()
	}
	for range 20 {
		must(t, <-won)
	}
	list, err := k.Activations(Caller{User: "ann"})
	must(t, err)
	if len(list) != 1 {
		t.Errorf("%d activations", len(list))
	}
	hidden, err := k.Activations(Caller{User: "eve"})
	must(t, err)
	_, ended := k.Request(ctx, Caller{User: "eve"}, r)
	want(t, ended, "request_missing")
	if len(hidden) > 0 {
		t.Error("eve sees it")
	}
	must(t, k.Close())
	k, err = Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"})
	must(t, err)
	defer k.Close()
	if list, _ := k.Activations(Caller{User: "ann"}); len(list) != 1 {
		t.Error("lost at a restart")
	}
	if v, err = k.Request(ctx, Caller{User: "ann"}, r); err != nil || v.End == nil || v.End.Status != requestBegun || len(v.Votes) != 1 {
		t.Errorf("%v %+v", err, v.End)
	}
}

// Jobs of one repository count together, however many there are, and what is not
// told apart is counted.
func TestRefusalsOfOneRepository(t *testing.T) {
	c, do := accessCore(t)
	before := c.Size
	for i := range 3 * maxRefusalsEach {
		job := workload(i, fmt.Sprint(i), fmt.Sprint(i), "production", "1001", "push", 1, began)
		if _, err := c.step(Caller{Workload: &job}, "", openDeployment{ID: fmt.Sprint("d-", i), Job: job, Environment: "moon", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, began); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Size - before; n != maxRefusalsEach {
		t.Errorf("%d entries by jobs of one repository in one minute", n)
	}
	s, err := c.step(Caller{Keeper: true}, "", sweep{}, began.Add(2*refusalWindow))
	must(t, err)
	told := 0
	for _, ev := range s.events {
		if r, is := ev.(*refusalMade); is && r.Code == "refusals_many" {
			told = r.Count
		}
	}
	if told != 2*maxRefusalsEach {
		t.Errorf("%d refusals are told by their number", told)
	}
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 3*refusalWindow))
}

// A rotation that is refused before a key is made is recorded all the same.
func TestRefusedRotation(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	_, _, err := k.RotateKey(ctx, Caller{User: "ann"}, "ES256", true, "no")
	want(t, err, "not_granted")
	stored, err := k.journal.SubjectAll(ctx, "keys")
	must(t, err)
	last, body, err := readEntry(stored[len(stored)-1].Data)
	must(t, err)
	if r, is := body.(*refusalMade); !is || r.Code != "not_granted" || last.By.User != "ann" {
		t.Errorf("the last entry about keys is %s by %s", last.Kind, last.By)
	}
}
