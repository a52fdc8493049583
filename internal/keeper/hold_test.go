package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// heldRules are rules under which GitHub holds runs before production.
func heldRules(pairs ...string) string {
	return rulesWith(append([]string{"platform: github\nissuer: https://ci.example", "platform: github\nissuer: https://ci.example\napp: {id: \"77\"}",
		"trust: {environment: production, events", "trust: {environment: production, selfHosted: true, events", "<lock>", "heldBy: github\n"}, pairs...)...)
}

func heldAsk(run, mark string) HoldAsked {
	return HoldAsked{Provider: "github", Organisation: "7001", Repository: "8001", Place: "acme/payments", Run: run, Environment: "production", Installation: "9", Mark: mark}
}

// looked is what the platform's API says of a run that is held.
func looked(run, actor string, attempt int) lockkeeper.Workload {
	w := workload(0, run, "environment/production", "production", actor, "push", attempt, began)
	w.TokenID, w.Issued, w.Expires = "", lockkeeper.Moment{}, lockkeeper.Moment{}
	w.Runner = lockkeeper.Fact{Value: "self_hosted", Mark: lockkeeper.LookedUp}
	if attempt > 1 {
		w.RerunActor = lockkeeper.Fact{Value: actor, Mark: lockkeeper.LookedUp}
	}
	return w
}

var worker = Caller{Keeper: true}

func (c *deploying) hold(id, run, mark string, at time.Duration) error {
	return c.as(worker, noteHold{id, heldAsk(run, mark)}, at)
}

func (c *deploying) openHeld(id, deployment string, j lockkeeper.Workload, at time.Duration) error {
	return c.as(worker, openHold{id, deployment, HandleDigest("nobody has it"), j}, at)
}

func (c *deploying) letThrough(id, run string, at time.Duration) error {
	return c.as(worker, releaseHold{id, "l-a", looked(run, "1001", 1)}, at)
}

// heldWaiting is a core in which run 1 of ann is held and waits as d-a.
func heldWaiting(t *testing.T, pairs ...string) *deploying {
	t.Helper()
	c := deployCore(t, heldRules(pairs...))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.hold("h-a", "1", "501", 0))
	must(t, c.openHeld("h-a", "d-a", looked("1", "1001", 1), 0))
	return c
}

// A run that its platform holds is opened by the platform's asking, waits at the same
// gate as every other ask, and is let through by the same decision.
func TestHoldReleased(t *testing.T) {
	c := heldWaiting(t)
	d := c.Deployments["d-a"]
	if d.Ask.Action != lockkeeper.DeployAction || d.Ask.Stage != "deploy" || !slices.Equal(d.Ask.Artifacts, []lockkeeper.Artifact{app}) || d.Initiators[0].Persons[0] != "ann" {
		t.Fatalf("opened %+v by %+v", d.Ask, d.Initiators)
	}
	want(t, c.letThrough("h-a", "1", time.Second), "hold_waits")
	want(t, c.approve("ann", "d-a", time.Second), "own_deployment")
	c.approved()
	must(t, c.letThrough("h-a", "1", 2*time.Second))
	h := c.Holds["h-a"]
	if d.Status != Running || d.Lease.Ends != began.Add(2*time.Second+10*time.Minute) || !h.Released || !h.Owed.Approve || !h.Told.IsZero() {
		t.Fatalf("released: %+v %+v %+v", d, d.Lease, h)
	}
	must(t, c.as(worker, tellHold{Hold: "h-a", Approve: true}, 3*time.Second))
	must(t, c.as(worker, loseHold{"h-a", Succeeded, "it ended"}, time.Minute))
	if c.Deployments["d-a"] != nil || len(c.Good[production]) != 1 || !c.Holds["h-a"].settled() || !c.Holds["h-a"].Owed.Approve {
		t.Errorf("ended: %+v", c.Holds["h-a"])
	}
}

// Whatever ends an ask without letting it through owes the platform a no, and a yes that
// was not given yet gives way to it.
func TestHoldRejected(t *testing.T) {
	for name, end := range map[string]func(c *deploying) error{
		"an approver": func(c *deploying) error {
			return c.user("bob", vote{Deployment: "d-a", Digest: c.Deployments["d-a"].Digest, Comment: "not today"}, time.Second)
		},
		"cancelled": func(c *deploying) error {
			return c.user("dora", cancelDeployment{"d-a", "why"}, time.Second)
		},
		"patience": func(c *deploying) error { return c.as(worker, sweep{}, 3*time.Hour) },
		"the lease is taken before anybody was told": func(c *deploying) error {
			c.approved()
			must(t, c.letThrough("h-a", "1", 2*time.Second))
			return c.user("dora", revokeLease{"d-a", "why"}, 3*time.Second)
		},
		"the lease ends before anybody was told": func(c *deploying) error {
			c.approved()
			must(t, c.letThrough("h-a", "1", 2*time.Second))
			return c.as(worker, sweep{}, time.Hour)
		},
		"the run is another at the release": func(c *deploying) error {
			c.approved()
			j := looked("1", "1001", 1)
			j.Commit.Value = strings.Repeat("2", 40)
			return c.as(worker, releaseHold{"h-a", "l-a", j}, 2*time.Second)
		},
	} {
		c := heldWaiting(t)
		must(t, end(c))
		h := c.Holds["h-a"]
		if h.Owed == nil || h.Owed.Approve || !h.Told.IsZero() || !h.Over || h.Owed.Reason == "" || c.Deployments["d-a"] != nil {
			t.Errorf("%s: %+v owes %+v", name, h, h.Owed)
		}
		want(t, c.as(worker, tellHold{Hold: "h-a", Approve: true}, 4*time.Hour), "hold_owes_other")
	}
}

// What cannot be placed is told no with the reason, and opens nothing.
func TestHoldRefused(t *testing.T) {
	change := func(f func(*lockkeeper.Workload)) lockkeeper.Workload {
		j := looked("1", "1001", 1)
		f(&j)
		return j
	}
	for code, c := range map[string]struct {
		job   lockkeeper.Workload
		rules []string
	}{
		"environment_differs": {job: change(func(j *lockkeeper.Workload) { j.Environment.Value = "prod" })},
		"hold_differs":        {job: change(func(j *lockkeeper.Workload) { j.Run.Value = "2" })},
		"ref_not_admitted":    {job: change(func(j *lockkeeper.Workload) { j.Ref = lockkeeper.Fact{} })},
		"called_differs":      {job: change(func(j *lockkeeper.Workload) { j.CalledPath = lockkeeper.Fact{Value: "x", Mark: lockkeeper.LookedUp} })},
		"rerun_unknown":       {job: change(func(j *lockkeeper.Workload) { j.Attempt = 2 })},
		"hold_unplaced":       {job: looked("1", "1001", 1), rules: []string{"heldBy: github\n", ""}},
		"initiator_unknown":   {job: change(func(j *lockkeeper.Workload) { j.Actor.Value = "4711" })},
		"runner_not_admitted": {job: looked("1", "1001", 1), rules: []string{"selfHosted: true, ", ""}},
	} {
		text := heldRules()
		for i := 0; i < len(c.rules); i += 2 {
			text = strings.Replace(text, c.rules[i], c.rules[i+1], 1)
		}
		k := deployCore(t, text)
		must(t, k.record(k.job("1", "10", "", "1001", 0), 0))
		must(t, k.hold("h-a", "1", "501", 0))
		if code == "environment_differs" { // the platform named it so
			k.Holds["h-a"].Asked.Environment = "prod"
		}
		s, err := k.step(worker, "", openHold{"h-a", "d-a", HandleDigest("n"), c.job}, began)
		must(t, err)
		must(t, s.err)
		refused, is := s.events[0].(*holdRefused)
		if h := k.Holds["h-a"]; !is || refused.Code != code || h.Owed == nil || h.Owed.Approve || len(k.Deployments) > 0 {
			t.Errorf("%s: %+v %+v", code, s.events[0], h)
		}
		want(t, k.openHeld("h-a", "d-b", looked("1", "1001", 1), time.Second), "hold_over")
	}
}

// Without artifacts that the very run recorded a hold waits, and is told no once it has
// waited long enough; two of one name are one too many.
func TestHoldArtifacts(t *testing.T) {
	c := deployCore(t, heldRules())
	must(t, c.record(c.job("2", "10", "", "1001", 0), 0)) // another run's
	must(t, c.hold("h-a", "1", "501", 0))
	want(t, c.openHeld("h-a", "d-a", looked("1", "1001", 1), 0), "artifacts_missing")
	if c.Holds["h-a"].Owed != nil {
		t.Error("a hold that waits for artifacts owes something")
	}
	must(t, c.openHeld("h-a", "d-a", looked("1", "1001", 1), holdPatience))
	if h := c.Holds["h-a"]; h.Owed == nil || h.Owed.Approve {
		t.Errorf("after a day: %+v", h)
	}
	at := holdPatience + time.Second
	must(t, c.hold("h-b", "3", "502", at))
	must(t, c.record(c.job("3", "10", "", "1001", at), at))
	j := c.job("3", "10", "", "1001", at)
	must(t, c.as(Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("other"))}}}, at))
	must(t, c.openHeld("h-b", "d-b", looked("3", "1001", 1), at))
	if h := c.Holds["h-b"]; h.Owed == nil || h.Owed.Approve || len(c.Deployments) > 0 {
		t.Errorf("two of one name: %+v", h)
	}
}

// A message that comes again, late or from a repository that nobody knows opens nothing
// more; nobody but the server's own worker brings any.
func TestHoldMessages(t *testing.T) {
	c := heldWaiting(t)
	size := c.Size
	must(t, c.hold("h-b", "1", "501", time.Second))
	if c.Size != size || c.Holds["h-b"] != nil {
		t.Error("a message that came twice left an entry")
	}
	must(t, c.hold("h-c", "1", "502", time.Second)) // another job of the run
	must(t, c.openHeld("h-c", "d-c", looked("1", "1001", 1), time.Second))
	if h := c.Holds["h-c"]; h.Owed == nil || h.Owed.Approve || c.Deployments["d-c"] != nil {
		t.Errorf("two asks of one run and environment: %+v", h)
	}
	for code, a := range map[string]HoldAsked{"repository_unknown": {Provider: "github", Organisation: "7001", Repository: "8002"}, "provider_unknown": {Provider: "gitlab", Organisation: "7001", Repository: "8001"}} {
		size := c.Size
		want(t, c.as(worker, noteHold{"h-x", a}, time.Second), code)
		if c.Size != size {
			t.Errorf("%s left an entry", code)
		}
	}
	want(t, c.as(worker, noteHold{"h-x", HoldAsked{Provider: "github", Organisation: "7002", Repository: "8001"}}, time.Second), "repository_unknown")
	j := looked("1", "1001", 1)
	for _, cmd := range []command{noteHold{"h-x", heldAsk("2", "1")}, openHold{"h-a", "d-x", "", j}, releaseHold{"h-a", "l", j}, loseHold{"h-a", Succeeded, ""}, tellHold{Hold: "h-a"}} {
		want(t, c.user("dora", cmd, time.Second), "hold_not_yours")
	}
	for i := range maxHoldsOf + 1 {
		err := c.hold("h-"+strings.Repeat("y", i+1), "9", strings.Repeat("9", i+1), time.Second)
		if i >= maxHoldsOf-1 && saying(err) != "holds_many" {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// The job of a run that was let through joins with its own token, for the very same ask,
// once; no job opens a second way in.
func TestHoldJoined(t *testing.T) {
	c := heldWaiting(t)
	job := func(at time.Duration) lockkeeper.Workload { return c.job("1", "11", "production", "1001", at) }
	want(t, c.open("d-x", job(0), "production", time.Second), "hold_missing")
	c.approved()
	must(t, c.letThrough("h-a", "1", 2*time.Second))
	other := job(0)
	other.Commit.Value = strings.Repeat("3", 40)
	want(t, c.open("d-x", other, "production", 3*time.Second), "ask_differs")
	j := job(3 * time.Second)
	want(t, c.as(Caller{Workload: &j}, openDeployment{ID: "d-x", Job: j, Environment: "production", Handle: HandleDigest("h"), Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("evil"))}}}, 3*time.Second), "ask_differs")
	want(t, c.claim("d-a", job(0), 3*time.Second), "handle_differs")
	j = job(3 * time.Second)
	must(t, c.open("d-x", j, "production", 3*time.Second))
	must(t, c.open("d-y", j, "production", 3*time.Second)) // a retry with the same token
	d := c.Deployments["d-a"]
	if len(c.Deployments) != 1 || d.Lease.Job != j.JobKey() || d.Lease.Ends != began.Add(3*time.Second+4*time.Minute) || !c.Holds["h-a"].Joined {
		t.Fatalf("joined: %+v %+v", d, d.Lease)
	}
	must(t, c.claim("d-a", j, 4*time.Second))
	must(t, c.token("d-a", j, 5*time.Second))
	want(t, c.open("d-z", c.job("1", "12", "production", "1001", 0), "production", 5*time.Second), "lease_taken")
	must(t, c.as(worker, loseHold{"h-a", Succeeded, "it ended"}, time.Minute)) // the job's own word counts
	if c.Deployments["d-a"] == nil {
		t.Fatal("the platform's word ended what the job holds")
	}
	must(t, c.as(Caller{Holder: "d-a"}, endDeployment{"d-a", 3}, time.Minute))
	if !c.Holds["h-a"].Over || len(c.Good[production]) != 0 {
		t.Errorf("ended: %+v", c.Holds["h-a"])
	}
}

// Nobody joins a lease that has ended by the clock, or one that does not stand any more.
func TestHoldJoinedTooLate(t *testing.T) {
	c := heldWaiting(t)
	c.approved()
	must(t, c.letThrough("h-a", "1", 2*time.Second))
	want(t, c.open("d-x", c.job("1", "11", "production", "1001", 10*time.Minute), "production", 10*time.Minute+2*time.Second), "lease_ended")
	c = heldWaiting(t)
	c.approved()
	must(t, c.letThrough("h-a", "1", 2*time.Second))
	c.rules = mustRules(t, heldRules("<bob>", "\noff: true"))
	if err := c.open("d-x", c.job("1", "11", "production", "1001", 0), "production", 3*time.Minute); err == nil || c.Holds["h-a"].Joined {
		t.Errorf("joined after an approver had left: %v", err)
	}
}

// A rehearsal says what the gate would wait for, on whichever way the ask would come.
func TestHoldRehearsed(t *testing.T) {
	c := heldWaiting(t)
	for range 2 {
		r, err := c.rehearse(openDeployment{ID: rehearsed, Job: c.job("1", "11", "production", "1001", 0), Environment: "production", Artifacts: []lockkeeper.Artifact{app}}, began.Add(3*time.Second))
		if err != nil || r.Gate.Verdict != lockkeeper.Wait {
			t.Errorf("%+v %v", r.Gate, err)
		}
		if c.Deployments["d-a"].Status == Waiting {
			c.approved()
			must(t, c.letThrough("h-a", "1", 2*time.Second))
		}
	}
}

// Under other rules an ask is let through on the way of now or on none.
func TestHoldOtherWay(t *testing.T) {
	c := heldWaiting(t)
	c.approved()
	c.rules = mustRules(t, strings.Replace(heldRules(), "heldBy: github\n", "", 1))
	want(t, c.letThrough("h-a", "1", 2*time.Second), "hold_not_wanted")
	c = deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	c.rules = mustRules(t, heldRules())
	want(t, c.claim("d-a", c.job("1", "11", "production", "1001", 2*time.Second), 2*time.Second), "hold_missing")
}

// However messages come, again and in any order, and whatever happens in between: one
// run, attempt and environment opens one deployment, a yes is owed only while its lease
// is alive, and what has ended without one is owed a no.
func TestHoldProperty(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c := deployCore(t, heldRules())
		must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
		must(t, c.record(c.job("2", "10", "", "1001", 0), 0))
		at, opened := time.Duration(0), map[string]string{}
		told := map[string]bool{} // by hold: a yes was given
		for i := range rapid.IntRange(5, 40).Draw(r, "steps") {
			at += time.Duration(rapid.IntRange(1, 200).Draw(r, "seconds")) * time.Second
			run, mark := rapid.SampledFrom([]string{"1", "2"}).Draw(r, "run"), rapid.SampledFrom([]string{"1", "2"}).Draw(r, "mark")
			id := "h-" + run + "-" + mark
			d := "d-" + run + "-" + mark
			switch rapid.SampledFrom([]string{"note", "open", "vote", "release", "tell", "lose", "revoke", "reject", "sweep"}).Draw(r, "step") {
			case "note":
				_ = c.hold(id, run, mark, at)
			case "open":
				_ = c.openHeld(id, d, looked(run, "1001", 1), at)
			case "vote":
				if c.Deployments[d] != nil {
					_ = c.approve("bob", d, at)
					_ = c.approve("cat", d, at)
				}
			case "release":
				_ = c.as(worker, releaseHold{id, "l-" + d, looked(run, "1001", 1)}, at)
			case "tell":
				if h := c.Holds[id]; h != nil && h.Owed != nil && h.Told.IsZero() && (!h.Owed.Approve || c.holdStands(c.Deployments[h.Deployment], began.Add(at))) {
					told[id] = told[id] || h.Owed.Approve
					must(t, c.as(worker, tellHold{Hold: id, Approve: h.Owed.Approve}, at))
				}
			case "lose":
				_ = c.as(worker, loseHold{id, Succeeded, "it ended"}, at)
			case "revoke":
				_ = c.user("dora", revokeLease{d, "why"}, at)
			case "reject":
				if c.Deployments[d] != nil {
					_ = c.user("bob", vote{Deployment: d, Digest: c.Deployments[d].Digest, Comment: "no"}, at)
				}
			case "sweep":
				_ = c.as(worker, sweep{}, at)
			}
			for id, h := range c.Holds {
				if h.Deployment != "" {
					if other := opened[h.Asked.Run]; other != "" && other != h.Deployment {
						r.Fatalf("step %d: the run %s opened %s and %s", i, h.Asked.Run, other, h.Deployment)
					}
					opened[h.Asked.Run] = h.Deployment
				}
				d := c.Deployments[h.Deployment]
				if h.Over != (h.Deployment != "" && d == nil) {
					r.Fatalf("step %d: %+v with %v", i, h, d)
				}
				if h.Owed != nil && h.Owed.Approve && h.Told.IsZero() && (d == nil || d.Status != Running) {
					r.Fatalf("step %d: %s owes a yes for what is not running", i, id)
				}
				if h.Over && h.Owed == nil {
					r.Fatalf("step %d: %s has ended and owes nothing", i, id)
				}
				if h.Over && !told[id] && h.Owed.Approve {
					r.Fatalf("step %d: %s has ended untold and does not owe a no", i, id)
				}
			}
		}
	})
}
