package keeper

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"pgregory.net/rapid"
)

// Every lease of a random past is decided again from the journal's bytes alone, under the
// rules that its entry names: the verdict is the same, to the last sentence.
func TestGates30SameFromTheLog(t *testing.T) {
	all := laws(t)
	leases := 0
	for range 3 {
		rapid.Check(t, func(rt *rapid.T) {
			s := dressed(rt, all, func(*simulation, Caller, command) func(step) { return func(step) {} })
			again := newState()
			for _, r := range s.records {
				e, ev, err := readEntry(r.Data)
				if err != nil {
					rt.Fatal(err)
				}
				if lease, is := ev.(*leaseGranted); is {
					rules := all[0].rules
					for _, l := range all {
						if again.Revision.Number > 0 && l.rules.Catalog.Digest() == again.Revision.Digest {
							rules = l.rules
						}
					}
					if lease.Revision != again.Revision.Number || lease.Catalog != again.Revision.Digest {
						rt.Fatalf("entry %d names revision %d, and %d is in force", e.Seq, lease.Revision, again.Revision.Number)
					}
					w := world{State: again, rules: rules, spelled: map[string]spelling{}}
					d := again.Deployments[lease.Deployment]
					f, err := w.facts(d, e.Time)
					if err != nil {
						rt.Fatal(err)
					}
					if v := w.judge(d, f, e.Time); !v.Equal(lease.Gate) {
						rt.Fatalf("entry %d: recorded %+v\nand decided again %+v", e.Seq, lease.Gate, v)
					}
					leases++
				}
				if err := again.apply(e, ev); err != nil {
					rt.Fatal(err)
				}
			}
		})
		if t.Failed() || leases >= 50 {
			break
		}
	}
	if leases < 50 {
		t.Errorf("only %d leases were decided again", leases)
	}
}

// What is granted stands in the journal before anybody has it: with a journal that takes
// nothing, nothing is granted, and after a start nothing was.
func TestGates31LogFirst(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, k.now()), "", []lockkeeper.Artifact{app})
	must(t, err)
	open := func(n int, run string) (lockkeeper.Workload, string) {
		t.Helper()
		j := workload(n, run, "11", "production", "1001", "push", 1, k.now())
		id, err := k.OpenDeployment(ctx, j, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
		must(t, err)
		v, err := k.Deployment(ctx, Caller{Holder: id}, id)
		must(t, err)
		must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
		must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""))
		return j, id
	}
	// What was answered is on the disk.
	one, first := open(2, "1")
	must(t, k.Claim(ctx, one, first, "h"))
	token, err := k.Exchange(ctx, one, first, "h", "https://target.example")
	must(t, err)
	leases, tokens := map[string]bool{}, map[string]bool{}
	for stored, err := range k.journal.Entries(ctx, 0, 0) {
		must(t, err)
		_, body, err := readEntry(stored.Data)
		must(t, err)
		switch ev := body.(type) {
		case *leaseGranted:
			leases[ev.Deployment] = true
		case *tokenGranted:
			tokens[ev.ID] = true
		}
	}
	if !leases[first] || !tokens[jtiOf(t, token.JWT)] {
		t.Error("the lease or the token stands nowhere")
	}

	two, second := open(3, "2")
	must(t, k.journal.Close()) // it is away
	if err := k.Claim(ctx, two, second, "h"); lockkeeper.KindOf(err) != lockkeeper.Unavailable {
		t.Fatalf("a lease without a journal: %v", err)
	}
	if _, err := k.Exchange(ctx, one, first, "h", "https://target.example"); err == nil {
		t.Fatal("a token without a journal")
	}
	k.Close()
	again, err := Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"})
	must(t, err)
	defer again.Close()
	v, err := again.Deployment(ctx, Caller{Holder: second}, second)
	must(t, err)
	if v.Status != Waiting || v.Lease != nil {
		t.Errorf("after a start it is %s, with the lease %+v", v.Status, v.Lease)
	}
	if v, err := again.Deployment(ctx, Caller{Holder: first}, first); err != nil || v.Lease == nil || v.Lease.Tokens != 1 {
		t.Errorf("after a start: %v %+v", err, v.Lease)
	}
}

// What the catalog does not name is not there, and asking for it makes nothing: neither an
// ask, nor evidence, nor a run that a platform holds, nor what went from the catalog since.
func TestGates32NothingByAsking(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	before := len(c.rules.Catalog.Environments)
	for name, environment := range map[string]string{"another": "prod", "its name otherwise": "Production", "none": "", "a path": "../production", "a scope": "/projects/payments/environments/production"} {
		j := c.job("2", "21", "production", "1001", 2*time.Second)
		if err := c.open("d-x", j, environment, 2*time.Second); saying(err) != "environment_unknown" {
			t.Errorf("%s: %v", name, err)
		}
	}
	j := c.job("3", "31", "nowhere", "1001", 2*time.Second) // the platform made one by naming it
	if err := c.open("d-x", j, "nowhere", 2*time.Second); err == nil {
		t.Error("an environment that only the platform knows")
	}
	j = c.job("3", "31", "production", "1001", 2*time.Second)
	j.Repository = lockkeeper.SignedFact("9999")
	if err := c.open("d-x", j, "production", 2*time.Second); err == nil {
		t.Error("a repository that no pipeline is of")
	}
	if c.Deployments["d-x"] != nil || len(c.rules.Catalog.Environments) != before || len(c.Places) > 1 {
		t.Errorf("something was made: %v %v", c.Deployments["d-x"], c.Places)
	}
	gone := rulesWith()
	gone = gone[:strings.Index(gone, "kind: Environment\nname: production")] + gone[strings.Index(gone, "kind: Environment\nname: test"):strings.Index(gone, "kind: Identity\nname: payments-production")] + gone[strings.Index(gone, "kind: Identity\nname: payments-test"):]
	c.rules = mustRules(t, gone)
	want(t, c.claimA(3*time.Second), "environment_unknown")
	c.rules = mustRules(t, rulesWith())
	must(t, c.claimA(4*time.Second))
	c.rules = mustRules(t, gone)
	want(t, c.tokenA(5*time.Second), "environment_unknown")
	want(t, c.renew(5*time.Second), "environment_unknown")

	h := deployCore(t, heldRules())
	must(t, h.record(h.job("1", "10", "", "1001", 0), 0))
	asked := heldAsk("1", "501")
	asked.Environment = "nowhere"
	must(t, h.as(worker, noteHold{"h-a", asked}, 0))
	run := looked("1", "1001", 1)
	run.Environment.Value = "nowhere"
	must(t, h.openHeld("h-a", "d-a", run, 0))
	if hold := h.Holds["h-a"]; h.Deployments["d-a"] != nil || hold.Owed == nil || hold.Owed.Approve {
		t.Errorf("a held run of an unknown environment: %+v", h.Holds["h-a"])
	}
}

// A gate that nobody can pass is found in the catalog, before anybody waits there; and an
// ask that nobody can approve is told so when it is made, not when its patience ends.
func TestGates33NobodyCan(t *testing.T) {
	few := strings.NewReplacer("users: [cat, eve, ann-admin]", "users: [ann, ann-admin]").Replace(rulesWith())
	at := began
	short := access.New(readRules(t, few)).Shortages(at)
	if len(short) == 0 || !strings.Contains(short[0].String(), "ann") {
		t.Errorf("nobody but ann is in security, and it says %v", short)
	}
	if short := access.New(readRules(t, rulesWith())).Shortages(at); len(short) != 0 {
		t.Errorf("there are enough: %v", short)
	}
	never := rulesWith("<lock>", "  - {name: one, hours: {zone: UTC, windows: [{days: [monday], from: \"09:00\", to: \"10:00\"}]}}\n  - {name: two, hours: {zone: UTC, windows: [{days: [tuesday], from: \"09:00\", to: \"10:00\"}]}}\n")
	found := false
	for _, l := range gate.Look(readRules(t, never), at) {
		found = found || l.Scope == production && l.Never && l.Code == "checks_contradict"
	}
	if !found {
		t.Errorf("windows that are never open together: %v", gate.Look(readRules(t, never), at))
	}

	says := func(c *deploying, id string) string {
		d := c.Deployments[id]
		v := c.view(d, began.Add(time.Second))
		for _, b := range v.Gate.Because {
			if b.Code == "approvers_missing" {
				return b.Sentence
			}
		}
		return ""
	}
	for name, test := range map[string]struct {
		rules string
		actor string
		short bool
	}{
		"there are enough":              {rulesWith(), "1001", false},
		"only who asks":                 {few, "1001", true},
		"only who asks, by his other":   {few, "1011", true},
		"somebody else asks":            {few, "1002", false},
		"nobody may":                    {rulesWith("role: release-manager\nprincipal: group:managers\nscope: /projects/payments", "role: release-manager\nprincipal: group:managers\nscope: /projects/payments/environments/test\n---\n{kind: Role, name: starter, actions: [deployments/start, deployments/read]}\n---\nkind: Assignment\nname: starts\nrole: starter\nprincipal: group:managers\nscope: /projects/payments"), "1001", true},
		"he could activate it":          {rulesWith("role: release-manager\nprincipal: group:managers\nscope: /projects/payments", "role: release-manager\nprincipal: group:managers\nscope: /projects/payments\neligible: true\n---\n{kind: Role, name: starter, actions: [deployments/start, deployments/read]}\n---\nkind: Assignment\nname: starts\nrole: starter\nprincipal: group:managers\nscope: /projects/payments\n---\n{kind: ActivationRule, name: r, role: release-manager, scope: /projects/payments}"), "1001", false},
		"one for two places":            {rulesWith("users: [ann, ann-admin, bob, cat, eve", "users: [ann, ann-admin, cat", "users: [cat, eve, ann-admin]", "users: [cat]"), "1001", true},
		"a robot, and one more needed":  {few, "1099", true},
		"a robot, and there are enough": {rulesWith(), "1099", false},
	} {
		c := deployCore(t, test.rules)
		must(t, c.record(c.job("1", "10", "", "1099", 0), 0))
		must(t, c.open("d-a", c.job("1", "11", "production", test.actor, 0), "production", 0))
		if got := says(c, "d-a"); (got != "") != test.short {
			t.Errorf("%s: %q", name, got)
		}
		job := c.job("1", "11", "production", test.actor, 0)
		r, err := c.rehearse(openDeployment{ID: rehearsed, Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}}, began)
		must(t, err)
		told := false
		for _, a := range r.Waits {
			told = told || a.Decision.Code == "approvers_missing"
		}
		if told != test.short {
			t.Errorf("%s: the rehearsal waits for %+v", name, r.Waits)
		}
	}
	// It is told of one that waits already, once they have gone.
	c := deployCore(t, rulesWith())
	c.waiting("1")
	must(t, c.approve("cat", "d-a", time.Second))
	c.rules = mustRules(t, few)
	if says(c, "d-a") == "" {
		t.Error("who could approve it has gone, and nothing says so")
	}
}
