package keeper

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// A deploying core takes what people and jobs do, at instants after it began.
type deploying struct {
	*core
	t    *testing.T
	n    int
	past []journal.Record // what was recorded by way of it
}

// apart are rules in which nobody of security is a manager too, and all may approve.
func apart() string {
	return rulesWith("users: [ann, ann-admin, bob, cat, eve", "users: [ann, ann-admin, bob", "<more>", "---\nkind: Assignment\nname: more\nrole: release-manager\nprincipal: group:security\nscope: /projects/payments\n")
}

func deployCore(t *testing.T, text string) *deploying {
	c := &deploying{core: &core{world: world{State: newState(), rules: mustRules(t, text)}}, t: t}
	must(t, c.as(Caller{Keeper: true}, firstEntry{}, 0))
	return c
}

func (c *deploying) as(by Caller, cmd command, at time.Duration) error {
	c.t.Helper()
	s, err := c.step(by, "", cmd, began.Add(at))
	if err != nil {
		c.t.Fatal(err)
	}
	c.past = append(c.past, s.records...)
	return s.err
}
func (c *deploying) user(by string, cmd command, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{User: by}, cmd, at)
}
func (c *deploying) job(run, job, env, actor string, at time.Duration) lockkeeper.Workload {
	c.n++
	return workload(c.n, run, job, env, actor, "push", 1, began.Add(at))
}
func (c *deploying) record(j lockkeeper.Workload, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{app}}, at)
}
func (c *deploying) open(id string, j lockkeeper.Workload, env string, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Environment: env, Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, at)
}
func (c *deploying) claim(id string, j lockkeeper.Workload, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{Workload: &j}, claimLease{Deployment: id, Lease: "l-" + id, Job: j, Handle: HandleDigest("h")}, at)
}

// waiting is d-a, for what ann's run 1 recorded, asked for by a run of hers.
func (c *deploying) waiting(run string) {
	c.t.Helper()
	must(c.t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(c.t, c.open("d-a", c.job(run, "11", "production", "1001", 0), "production", 0))
}

// approved gives d-a all that it takes, after a second.
func (c *deploying) approved() {
	c.t.Helper()
	for _, by := range []string{"bob", "cat"} {
		must(c.t, c.approve(by, "d-a", time.Second))
	}
}
func (c *deploying) approve(by, id string, at time.Duration) error {
	c.t.Helper()
	return c.user(by, vote{Deployment: id, Approve: true, Digest: c.Deployments[id].Digest}, at)
}

// Two accounts that turn out to be a third name's fill one place (invariant 3).
func TestDeploymentTwoAccountsThirdPerson(t *testing.T) {
	// security asks two; zed is the human behind cat and eve.
	two := func(p ...string) string {
		return rulesWith(append([]string{"approval: {count: 1, groups: [security], review: security}", "approval: {count: 2, groups: [security], review: security}"}, p...)...)
	}
	c := deployCore(t, two())
	c.waiting("1")
	must(t, c.approve("bob", "d-a", time.Second))
	must(t, c.approve("cat", "d-a", 2*time.Second))
	must(t, c.approve("eve", "d-a", 3*time.Second))
	c.rules = mustRules(t, two("name: cat\n", "name: cat\nperson: zed\n", "name: eve\n", "name: eve\nperson: zed\n"))
	if err := c.claim("d-a", c.job("1", "11", "production", "1001", 4*time.Second), 4*time.Second); err == nil {
		t.Error("released: cat and eve are both zed, and filled two places")
	}
}

// A delegation that the vote took back does not come alive again with the withdrawal.
func TestDeploymentWithdrawRevivesDelegation(t *testing.T) {
	c := deployCore(t, apart())
	c.waiting("1")
	must(t, c.user("bob", delegate{"d-a", "eve", "plane"}, time.Second))
	must(t, c.approve("eve", "d-a", 2*time.Second))
	must(t, c.approve("cat", "d-a", 2*time.Second))
	must(t, c.approve("bob", "d-a", 3*time.Second))
	must(t, c.user("bob", withdrawApproval{"d-a", "the migration is wrong"}, 4*time.Second))
	if err := c.claim("d-a", c.job("1", "11", "production", "1001", 4*time.Second), 4*time.Second); err == nil {
		t.Error("released in bob's place, after bob voted himself and withdrew")
	}
}

// A record by a run that was started again, nobody knows by whom, is refused.
func TestDeploymentRecordOfSecondAttempt(t *testing.T) {
	c := deployCore(t, rulesWith())
	j := c.job("1", "10", "", "1001", 0)
	j.Attempt = 2 // bob ran ann's run again; the platform does not say so
	if err := c.record(j, 0); err == nil {
		t.Error("a record of attempt 2, of which nobody knows who started it, is taken as ann's")
	}
}

// Azure: bob, who queued the recording run for eve, does not approve what it built.
func TestDeploymentRecordQueuedForAnother(t *testing.T) {
	c := deployCore(t, rulesWith())
	j := c.job("1", "10", "", "1004", 0)
	j.QueuedBy = lockkeeper.SignedFact("1002")
	must(t, c.record(j, 0))
	must(t, c.open("d-a", c.job("2", "11", "production", "1001", 0), "production", 0))
	if err := c.approve("bob", "d-a", time.Second); err == nil {
		t.Error("bob approved what the run that he queued built")
	}
}

// Whoever has become a builder has no place to hand over.
func TestDeploymentDelegationOfBuilder(t *testing.T) {
	c := deployCore(t, apart())
	c.waiting("2")
	must(t, c.user("bob", delegate{"d-a", "eve", "plane"}, time.Second))
	must(t, c.record(c.job("3", "10", "", "1002", 2*time.Second), 2*time.Second)) // bob builds it
	want(t, c.approve("bob", "d-a", 3*time.Second), "own_change")
	if err := c.approve("eve", "d-a", 3*time.Second); err == nil {
		d := c.Deployments["d-a"]
		f, _ := c.facts(d, began.Add(3*time.Second))
		for _, v := range f.Votes {
			if v.For == "bob" {
				t.Error("eve's vote stands in the place of bob, who could not fill it himself")
			}
		}
	}
	must(t, c.approve("cat", "d-a", 3*time.Second))
	if err := c.claim("d-a", c.job("2", "11", "production", "1001", 4*time.Second), 4*time.Second); err == nil {
		t.Error("released in the place of bob, who built it")
	}
}

// Automation that becomes a person while an ask waits still takes one approver more.
func TestDeploymentAutomationLoosened(t *testing.T) {
	c := deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.open("d-a", c.job("1", "11", "production", "1099", 0), "production", 0))
	c.approved()
	want(t, c.claim("d-a", c.job("1", "11", "production", "1099", 2*time.Second), 2*time.Second), "approvals_missing")
	c.rules = mustRules(t, rulesWith("automation: true\nids", "ids", "users: [ann, ann-admin, bob, cat, eve", "users: [robot, ann, ann-admin, bob, cat, eve"))
	if err := c.claim("d-a", c.job("1", "11", "production", "1099", 3*time.Second), 3*time.Second); err == nil {
		t.Error("released with one approver less than was demanded when it was opened")
	}
}

// A tier that is lowered while an ask waits does not let a stale record vouch.
func TestDeploymentTierLoosened(t *testing.T) {
	c := deployCore(t, rulesWith("<age>", "recordAge: 1h\n"))
	c.waiting("1")
	c.approved()
	at := 90 * time.Minute
	want(t, c.claim("d-a", c.job("1", "11", "production", "1001", at), at), "artifact_stale")
	c.rules = mustRules(t, rulesWith("<age>", "recordAge: 1h\n", "tier: production", "tier: preproduction"))
	if err := c.claim("d-a", c.job("1", "11", "production", "1001", at), at); err == nil {
		t.Error("released with a record older than might be when it was opened")
	}
}

// A lock that the clock let go is the oldest's first.
func TestDeploymentTurnAfterArithmeticEnd(t *testing.T) {
	c := deployCore(t, rulesWith("<latest>", "checks:\n  - name: one\n    lock: {mode: sequential}\n"))
	must(t, c.open("d-a", c.job("1", "11", "test", "1001", 0), "test", 0))
	must(t, c.claim("d-a", c.job("1", "11", "test", "1001", 0), 0))
	must(t, c.open("d-b", c.job("2", "11", "test", "1001", time.Second), "test", time.Second))
	must(t, c.open("d-c", c.job("3", "11", "test", "1001", 2*time.Second), "test", 2*time.Second))
	ends := c.Deployments["d-a"].Lease.Ends.Sub(began)
	want(t, c.claim("d-c", c.job("3", "11", "test", "1001", ends-time.Second), ends-time.Second), "locked")
	if err := c.claim("d-c", c.job("3", "11", "test", "1001", ends), ends); err == nil {
		t.Error("the newer ask went first, in the instant the lock became free")
	}
}

// A record that comes after the release changes nothing for what runs.
func TestDeploymentLaterRecordEndsRunning(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("2")
	c.approved()
	must(t, c.claim("d-a", c.job("2", "11", "production", "1001", 2*time.Second), 2*time.Second))
	must(t, c.record(c.job("3", "10", "", "1003", 3*time.Second), 3*time.Second)) // a nightly build of the same commit whose schedule cat touched last
	if err := c.as(Caller{Holder: "d-a"}, renewLease{"d-a", HandleDigest("h")}, 3*time.Minute); err != nil {
		t.Errorf("a running deployment lost its lease by a later record: %v", err)
	}
}

// A later record does not let whoever built first approve.
func TestDeploymentLaterRecordAdmitsBuilder(t *testing.T) {
	c := deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1002", 0), 0)) // bob built it
	must(t, c.open("d-a", c.job("2", "11", "production", "1001", 0), "production", 0))
	want(t, c.approve("bob", "d-a", time.Second), "own_change")
	must(t, c.record(c.job("3", "10", "", "1099", 2*time.Second), 2*time.Second))
	if err := c.approve("bob", "d-a", 3*time.Second); err == nil {
		t.Error("bob, whose run recorded it, approved it, since a robot recorded the same digest again")
	}
}

// The ref's protection is part of the ask.
func TestDeploymentProtectionDiffers(t *testing.T) {
	c := deployCore(t, rulesWith())
	j := c.job("1", "11", "test", "1001", 0)
	j.RefProtected = lockkeeper.SignedFact("true")
	must(t, c.open("d-a", j, "test", 0))
	j = c.job("1", "11", "test", "1001", time.Second)
	j.RefProtected = lockkeeper.SignedFact("false")
	if err := c.claim("d-a", j, time.Second); err == nil {
		t.Error("claimed by a job whose ref is not protected, for an ask that says it is")
	}
}

// An approval can be taken back when the environment is gone, and the lease with it.
func TestDeploymentWithdrawWithoutEnvironment(t *testing.T) {
	text := rulesWith()
	c := deployCore(t, text)
	c.waiting("1")
	c.approved()
	must(t, c.claim("d-a", c.job("1", "11", "production", "1001", 2*time.Second), 2*time.Second))
	delete(c.rules.Catalog.Environments, lockkeeper.EnvironmentScope("payments", "production"))
	if err := c.user("bob", withdrawApproval{"d-a", "wrong"}, 3*time.Second); err != nil {
		t.Errorf("an approval cannot be taken back: %v", err)
	}
}

// An approval that was voided is none in the record of the ended deployment.
func TestDeploymentVoidedVoteInRecord(t *testing.T) {
	text := rulesWith("users: [cat, eve, ann-admin]", "users: [cat, eve, ann-admin, fay]", "name: dora\n---", "name: dora\n---\nkind: User\nname: fay\n---",
		"<more>", "---\n{kind: Assignment, name: elig, role: release-manager, principal: user:fay, scope: /projects/payments, eligible: true}\n---\n{kind: ActivationRule, name: r, role: release-manager, scope: /}\n")
	c := deployCore(t, text)
	var entries []Entry
	var bodies []event
	step := func(by Caller, cmd command, at time.Duration) {
		t.Helper()
		s, err := c.step(by, "", cmd, began.Add(at))
		must(t, err)
		must(t, s.err)
		for i, ev := range s.events {
			for _, sub := range ev.subjects() {
				if sub == deploymentSubject("d-a") {
					entries, bodies = append(entries, s.entries[i]), append(bodies, ev)
				}
			}
		}
	}
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	j := c.job("1", "11", "production", "1001", 0)
	step(Caller{Workload: &j}, openDeployment{ID: "d-a", Job: j, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, 0)
	step(Caller{User: "fay"}, openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0)
	step(Caller{User: "fay"}, beginActivation{"r-1", "a-1"}, 0)
	for _, u := range []string{"bob", "fay"} {
		step(Caller{User: u}, vote{Deployment: "d-a", Approve: true, Digest: c.Deployments["d-a"].Digest}, time.Second)
	}
	step(Caller{User: "dora"}, endActivation{"a-1", "the account is compromised"}, 2*time.Second)
	alive := len(c.Deployments["d-a"].approvals())
	step(Caller{User: "cat"}, vote{Deployment: "d-a", Approve: true, Digest: c.Deployments["d-a"].Digest}, 3*time.Second)
	j = c.job("1", "11", "production", "1001", 4*time.Second)
	step(Caller{Workload: &j}, claimLease{Deployment: "d-a", Lease: "l-1", Job: j, Handle: HandleDigest("h")}, 4*time.Second)
	step(Caller{Holder: "d-a"}, endDeployment{"d-a", 0}, 5*time.Second)
	d, err := foldDeployment(entries, bodies)
	must(t, err)
	var who []string
	for _, v := range d.approvals() {
		who = append(who, v.User)
	}
	if alive != 1 || len(who) != 2 {
		t.Errorf("alive after the revocation: %d; the ended deployment, and its receipt, name as approvals %v", alive, who)
	}
}

// Automation that was switched off opens nothing.
func TestDeploymentAutomationOff(t *testing.T) {
	c := deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.open("d-a", c.job("1", "11", "production", "1099", 0), "production", 0))
	c.rules = mustRules(t, rulesWith("automation: true\nids", "automation: true\noff: true\nids", "groups: [managers]", "groups: [managers]"))
	f, err := c.facts(c.Deployments["d-a"], began.Add(time.Second))
	must(t, err)
	if f.Initiators[0].Right.Code != "user_off" {
		t.Errorf("his right: %+v", f.Initiators[0].Right)
	}
	if err := c.open("d-b", c.job("2", "11", "production", "1099", time.Second), "production", time.Second); err == nil {
		t.Error("a run that a user started who is switched off was opened")
	}
}

// Nobody builds, runs somebody else's build again, and approves.
func TestDeploymentBuilderLaundersHimself(t *testing.T) {
	c := deployCore(t, rulesWith())
	must(t, c.record(c.job("1", "10", "", "1002", 0), 0))
	must(t, c.open("d-a", c.job("2", "11", "production", "1001", 0), "production", 0))
	want(t, c.approve("bob", "d-a", time.Second), "own_change")
	j := c.job("3", "10", "", "1004", 2*time.Second) // eve's run, started again by bob: GitHub does not say so
	j.Attempt = 2
	want(t, c.record(j, 2*time.Second), "rerun_unknown")
	want(t, c.approve("bob", "d-a", 3*time.Second), "own_change")
	must(t, c.approve("cat", "d-a", 3*time.Second))
	if err := c.claim("d-a", c.job("2", "11", "production", "1001", 4*time.Second), 4*time.Second); err == nil {
		t.Error("released with bob's approval of what bob's run recorded")
	}
}

// An approval's time-out counts for an ask that was opened under it.
func TestDeploymentTermsTimeoutNotSwept(t *testing.T) {
	with := []string{"approval: {count: 1, groups: [managers]}", "approval: {count: 1, groups: [managers], timeout: 10m}"}
	c := deployCore(t, rulesWith(with...))
	c.waiting("1")
	c.rules = mustRules(t, rulesWith())
	at := 20 * time.Minute
	must(t, c.as(Caller{Keeper: true}, sweep{}, at))
	if d := c.Deployments["d-a"]; d != nil {
		w := c.world
		t.Errorf("still %s; its gate says %s", d.Status, w.view(d, began.Add(at)).Gate.Code)
	}
}

// A shorter patience holds at once.
func TestDeploymentPatienceShortened(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	c.rules = mustRules(t, rulesWith("patience: 2h", "patience: 5m"))
	at := 110 * time.Minute
	if err := c.claim("d-a", c.job("1", "11", "production", "1001", at), at); err == nil {
		t.Error("released 110 minutes after it was asked for, though patience is 5m")
	}
}

// A vote that was given before the place was handed over does not fill it.
func TestDeploymentVoteBeforeDelegation(t *testing.T) {
	c := deployCore(t, apart())
	c.waiting("1")
	must(t, c.approve("eve", "d-a", time.Second)) // for security
	must(t, c.approve("cat", "d-a", time.Second))
	must(t, c.user("bob", delegate{"d-a", "eve", "plane"}, 2*time.Second))
	if err := c.claim("d-a", c.job("1", "11", "production", "1001", 4*time.Second), 4*time.Second); err == nil {
		t.Error("released: the vote that eve gave before bob handed his place over fills it")
	}
}

// Automation that is switched off while it runs gets no token and no heartbeat.
func TestDeploymentAutomationOffRunning(t *testing.T) {
	const auto = "patience: 30m\nautomation: true\n"
	c := deployCore(t, rulesWith("patience: 30m\n", auto))
	must(t, c.open("d-a", c.job("1", "11", "test", "1099", 0), "test", 0))
	must(t, c.claim("d-a", c.job("1", "11", "test", "1099", 0), 0))
	c.rules = mustRules(t, rulesWith("patience: 30m\n", auto, "automation: true\nids", "automation: true\noff: true\nids"))
	j := c.job("1", "11", "test", "1099", time.Second)
	if err := c.as(Caller{Workload: &j}, grantToken{Deployment: "d-a", ID: "t-1", Job: j, Handle: HandleDigest("h"), Audience: "https://target.example"}, time.Second); err == nil {
		t.Error("a token for a run of a user who is switched off")
	}
	if err := c.as(Caller{Holder: "d-a"}, renewLease{"d-a", HandleDigest("h")}, 3*time.Minute); err == nil {
		t.Error("a heartbeat for a run of a user who is switched off")
	}
}
