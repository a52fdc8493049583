package keeper

import (
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// jobAsk is what a platform says that holds a job rather than a run (GitLab): neither the
// run nor the owner of the repository.
func jobAsk(job string) HoldAsked {
	return HoldAsked{Provider: "github", Repository: "8001", Place: "acme/payments", Environment: "production", Mark: job}
}

// lookedJob is what the platform's API says of a job that is held.
func lookedJob(run, job, actor string) lockkeeper.Workload {
	w := looked(run, actor, 1)
	w.Job = lockkeeper.Fact{Value: job, Mark: lockkeeper.LookedUp}
	return w
}

// heldJob is a core in which job 11 of ann's run 1 is held and waits as d-a.
func heldJob(t *testing.T, pairs ...string) *deploying {
	t.Helper()
	c := deployCore(t, heldRules(pairs...))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.as(worker, noteHold{"h-a", jobAsk("11")}, 0))
	must(t, c.openHeld("h-a", "d-a", lookedJob("1", "11", "1001"), 0))
	return c
}

func (c *deploying) jobReleased() {
	c.t.Helper()
	c.approved()
	must(c.t, c.as(worker, releaseHold{"h-a", "l-a", lookedJob("1", "11", "1001")}, 2*time.Second))
}

// A job is held by its number: its message again is the same, another job of the same run
// is another ask, and what is read must be of it. The owner comes from the catalog.
func TestHoldOfJob(t *testing.T) {
	c := heldJob(t)
	if h := c.Holds["h-a"]; h.Asked.Organisation != "7001" || h.Deployment != "d-a" || c.Deployments["d-a"].Ask.Run != "1" {
		t.Fatalf("held %+v", h)
	}
	size := c.Size
	must(t, c.as(worker, noteHold{"h-b", jobAsk("11")}, time.Second))
	if c.Size != size || c.Holds["h-b"] != nil {
		t.Error("a message that came twice left an entry")
	}
	unknown := jobAsk("11")
	unknown.Repository = "8002"
	want(t, c.as(worker, noteHold{"h-x", unknown}, time.Second), "repository_unknown")
	unknown = jobAsk("11")
	unknown.Organisation = "7002"
	want(t, c.as(worker, noteHold{"h-x", unknown}, time.Second), "repository_unknown")
	for name, j := range map[string]lockkeeper.Workload{"another job": lookedJob("1", "13", "1001"), "no run": lookedJob("", "12", "1001"), "another owner": func() lockkeeper.Workload {
		j := lookedJob("1", "12", "1001")
		j.Organisation.Value = "7002"
		return j
	}()} {
		c := heldJob(t)
		must(t, c.as(worker, noteHold{"h-c", jobAsk("12")}, time.Second))
		must(t, c.openHeld("h-c", "d-c", j, time.Second))
		if h := c.Holds["h-c"]; h.Owed == nil || h.Owed.Approve || c.Deployments["d-c"] != nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
	must(t, c.as(worker, noteHold{"h-c", jobAsk("12")}, time.Second)) // the job was run again
	must(t, c.openHeld("h-c", "d-c", lookedJob("1", "12", "1001"), time.Second))
	if c.Deployments["d-c"] == nil || c.Holds["h-c"].Owed != nil {
		t.Errorf("a second job of the run: %+v", c.Holds["h-c"])
	}
}

// Only the job that was held joins, whichever else of its run has been let through.
func TestHoldOfJobJoined(t *testing.T) {
	c := heldJob(t)
	must(t, c.as(worker, noteHold{"h-c", jobAsk("12")}, time.Second))
	must(t, c.openHeld("h-c", "d-c", lookedJob("1", "12", "1001"), time.Second))
	c.jobReleased()
	want(t, c.open("d-x", c.job("1", "12", "production", "1001", 0), "production", 3*time.Second), "hold_missing")
	want(t, c.open("d-x", c.job("1", "13", "production", "1001", 0), "production", 3*time.Second), "hold_missing")
	must(t, c.open("d-x", c.job("1", "11", "production", "1001", 0), "production", 3*time.Second))
	if d := c.Deployments["d-a"]; !c.Holds["h-a"].Joined || c.Holds["h-c"].Joined || len(d.Initiators) != 1 {
		t.Errorf("joined: %+v %+v", c.Holds["h-a"], d.Initiators)
	}
}

// Whoever lets a held job begin stands behind it from then on: he must be somebody who may
// start deployments, and what he approved counts no more.
func TestHoldOfJobPressed(t *testing.T) {
	press := func(c *deploying, actor string) error {
		return c.open("d-x", c.job("1", "11", "production", actor, 0), "production", 3*time.Second)
	}
	c := heldJob(t)
	c.jobReleased()
	want(t, press(c, "4711"), "initiator_unknown")
	if err := press(c, "1002"); err == nil { // bob, without whom the managers' check has nobody
		t.Error("an approver began what he approved")
	}
	if c.Holds["h-a"].Joined || len(c.Deployments["d-a"].Initiators) != 1 {
		t.Fatalf("a refusal changed %+v", c.Deployments["d-a"].Initiators)
	}
	must(t, press(c, "1004")) // eve may start deployments and approved nothing
	d := c.Deployments["d-a"]
	if len(d.Initiators) != 2 || !slices.Equal(d.Initiators[1].Persons, []lockkeeper.Person{"eve"}) || d.Lease.Job != c.job("1", "11", "production", "1004", 0).JobKey() {
		t.Errorf("joined by %+v", d.Initiators)
	}
	must(t, c.token("d-a", c.job("1", "11", "production", "1004", 4*time.Second), 4*time.Second))
	c = heldJob(t)
	c.jobReleased()
	must(t, press(c, "1001"))
	if len(c.Deployments["d-a"].Initiators) != 1 {
		t.Error("whoever started the run stands behind it twice")
	}
	// Where the platform holds runs, its look-up said who is behind them.
	c = heldWaiting(t)
	c.approved()
	must(t, c.letThrough("h-a", "1", 2*time.Second))
	must(t, c.open("d-x", c.job("1", "11", "production", "1004", 0), "production", 3*time.Second))
	if len(c.Deployments["d-a"].Initiators) != 1 {
		t.Error("a held run's job added somebody")
	}
}

// However messages come, and whatever happens in between: each job opens one deployment,
// is joined by itself alone, and nobody who stands behind it is among those whose yes it
// rests on.
func TestHoldOfJobProperty(t *testing.T) {
	joined := 0
	rapid.Check(t, func(r *rapid.T) {
		c := deployCore(t, heldRules())
		must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
		at, opened := time.Duration(0), map[string]string{}
		for i := range rapid.IntRange(5, 40).Draw(r, "steps") {
			at += time.Duration(rapid.IntRange(1, 60).Draw(r, "seconds")) * time.Second
			job := rapid.SampledFrom([]string{"11", "12"}).Draw(r, "job")
			actor := rapid.SampledFrom([]string{"1001", "1002", "1003", "1004", "4711"}).Draw(r, "actor")
			id, d := "h-"+job, "d-"+job
			switch rapid.SampledFrom([]string{"note", "open", "vote", "vote", "release", "tell", "join", "join", "revoke", "sweep"}).Draw(r, "step") {
			case "note":
				_ = c.as(worker, noteHold{id, jobAsk(job)}, at)
			case "open":
				_ = c.openHeld(id, d, lookedJob("1", job, "1001"), at)
			case "vote":
				if c.Deployments[d] != nil {
					_ = c.approve("bob", d, at)
					_ = c.approve("cat", d, at)
				}
			case "release":
				_ = c.as(worker, releaseHold{id, "l-" + d, lookedJob("1", job, "1001")}, at)
			case "tell":
				if h := c.Holds[id]; h != nil && h.Owed != nil && h.Told.IsZero() {
					_ = c.as(worker, tellHold{Hold: id, Approve: h.Owed.Approve}, at)
				}
			case "join":
				_ = c.open("d-x", c.job("1", job, "production", actor, at), "production", at)
			case "revoke":
				_ = c.user("dora", revokeLease{d, "why"}, at)
			case "sweep":
				_ = c.as(worker, sweep{}, at)
			}
			for _, h := range c.Holds {
				if h.Deployment != "" && opened[h.Asked.Mark] != "" && opened[h.Asked.Mark] != h.Deployment {
					r.Fatalf("step %d: the job %s opened %s and %s", i, h.Asked.Mark, opened[h.Asked.Mark], h.Deployment)
				}
				opened[h.Asked.Mark] = h.Deployment
				d := c.Deployments[h.Deployment]
				if d == nil || !h.Joined {
					continue
				}
				joined++
				if d.Lease.Job != workload(0, "1", h.Asked.Mark, "production", "", "push", 1, began).JobKey() {
					r.Fatalf("step %d: another job than %s holds the lease", i, h.Asked.Mark)
				}
				for _, o := range d.Initiators {
					if len(o.Persons) == 0 || slices.Contains(o.Persons, "bob") || slices.Contains(o.Persons, "cat") {
						r.Fatalf("step %d: %+v stands behind what bob and cat approved", i, o)
					}
				}
			}
			if c.Deployments["d-x"] != nil {
				r.Fatalf("step %d: a job opened a second way in", i)
			}
		}
	})
	if joined == 0 {
		t.Error("no sequence let a job join")
	}
}
