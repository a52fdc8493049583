package keeper

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// chain is a catalog with two environments before two others: last takes what ran in
// both, some what ran in one of them.
func chain() string {
	text := ""
	for _, e := range [][2]string{{"one", ""}, {"two", ""},
		{"last", "checks: [{name: ran, promotion: {environments: [one, two], soak: 2h, age: 9h}}]"},
		{"some", "checks: [{name: ran, promotion: {environments: [one, two], any: true, soak: 1h, age: 5h}}]"}} {
		text += fmt.Sprintf("---\nkind: Environment\nname: %s\nproject: payments\ntier: development\nheartbeat: 1h\nlease: 3h\n%s\n---\n", e[0], e[1]) +
			fmt.Sprintf("{kind: Identity, name: to-%s, project: payments, environment: %s, audiences: ['https://t.example'], stages: [release/deploy-test]}\n", e[0], e[0])
	}
	text += "---\n{kind: Pipeline, name: watch, project: payments, provider: github, organisation: '7001', repository: '8002', definition: watch.yml, stages: [{name: look, running: [one, last], trust: {events: [push], refs: [refs/heads/main]}}]}\n"
	return rulesWith("<more>", text)
}

func artifacts(names ...string) []lockkeeper.Artifact {
	var out []lockkeeper.Artifact
	for _, n := range names {
		out = append(out, lockkeeper.Artifact{Name: "x" + n, Digest: lockkeeper.DigestOf([]byte(n))})
	}
	return out
}

// into asks and claims in one go, and says how that went.
func (c *deploying) into(id, env, action string, list []lockkeeper.Artifact, at time.Duration) error {
	c.t.Helper()
	if err := c.ask(id, env, action, list, at); err != nil {
		return err
	}
	return c.claim(id, c.job(id, "1", "test", "1001", at), at)
}

func (c *deploying) ask(id, env, action string, list []lockkeeper.Artifact, at time.Duration) error {
	c.t.Helper()
	j := c.job(id, "1", "test", "1001", at)
	return c.as(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Action: action, Environment: env, Artifacts: list, Handle: HandleDigest("h")}, at)
}

func (c *deploying) done(id string, code int, at time.Duration) {
	c.t.Helper()
	must(c.t, c.as(Caller{Holder: id}, endDeployment{id, code}, at))
}

// through deploys with success in a minute.
func (c *deploying) through(id, env, action string, list []lockkeeper.Artifact, at time.Duration) {
	c.t.Helper()
	must(c.t, c.into(id, env, action, list, at))
	c.done(id, 0, at+time.Minute)
}

// asked is why an ask does not pass now; "passed" if it does. It leaves nothing behind.
func (c *deploying) asked(env, action string, list []lockkeeper.Artifact, at time.Duration) string {
	c.t.Helper()
	c.n++
	id := fmt.Sprintf("d-ask%d", c.n)
	if err := c.ask(id, env, action, list, at); err != nil {
		return codeOf(err)
	}
	d := c.Deployments[id]
	f, err := c.facts(d, began.Add(at))
	must(c.t, err)
	v := c.judge(d, f, began.Add(at))
	must(c.t, c.as(Caller{Holder: id}, cancelDeployment{Deployment: id}, at))
	return v.Code
}

// What a promotion asks for, step by step.
func TestPromotion(t *testing.T) {
	h, x, y := time.Hour, artifacts("a", "b"), artifacts("c")
	expect := func(c *deploying, env string, at time.Duration, want string) {
		t.Helper()
		if got := c.asked(env, "", x, at); got != want {
			t.Errorf("%s at %s: %s, want %s", env, at, got, want)
		}
	}
	c := deployCore(t, chain())
	expect(c, "last", 0, "promotion_missing")
	c.through("d-1", "one", "", x, 0)
	expect(c, "some", 30*time.Minute, "promotion_soaking")
	expect(c, "some", h+time.Minute, "passed")
	expect(c, "last", 3*h, "promotion_missing") // not in two
	c.through("d-2", "two", "", x[:1], 3*h)     // only one of them
	expect(c, "last", 6*h, "promotion_missing")
	c.through("d-3", "two", "", x, 6*h)
	expect(c, "last", 8*h+time.Minute, "passed")
	expect(c, "last", 9*h+time.Minute, "promotion_stale") // in one
	c.through("d-4", "one", "redeploy", x, 9*h+time.Minute)
	expect(c, "last", 9*h+3*time.Minute, "passed") // the soak went on, and the success is new
	must(t, c.into("d-5", "two", "", x, 9*h+4*time.Minute))
	expect(c, "last", 9*h+5*time.Minute, "promotion_disturbed")
	c.done("d-5", 1, 9*h+6*time.Minute)
	expect(c, "last", 9*h+7*time.Minute, "promotion_missing") // the last word there is a failure

	// What ran long enough counts although something newer is there.
	c = deployCore(t, chain())
	c.through("d-1", "one", "", x, 0)
	must(t, c.into("d-2", "one", "", y, 2*h))
	c.done("d-2", 1, 2*h+time.Minute)
	expect(c, "some", 2*h+2*time.Minute, "passed")
	// What ran too shortly does not, and whoever goes back takes back what stood.
	c = deployCore(t, chain())
	c.through("d-1", "one", "", x, 0)
	c.through("d-2", "one", "", y, 30*time.Minute)
	expect(c, "some", 2*h, "promotion_interrupted")
	c.through("d-3", "one", "", x, 2*h)
	c.through("d-4", "one", "rollback", y, 4*h)
	expect(c, "some", 4*h+2*time.Minute, "promotion_interrupted")
	// Of two that ran at once nobody knows which stands.
	c = deployCore(t, chain())
	must(t, c.into("d-1", "one", "", x, 0))
	must(t, c.into("d-2", "one", "", y, time.Minute))
	c.done("d-2", 0, 2*time.Minute)
	c.done("d-1", 0, 3*time.Minute)
	expect(c, "some", 2*h, "promotion_missing")
	if p := c.place("/projects/payments/environments/one"); len(p.Stretches) != 0 {
		t.Errorf("something stands: %v", p.Stretches)
	}
}

// Going back and deploying once more have their own, shorter path, and are bound all
// the same (gates, invariant 27).
func TestInvariant27RollbackAndRedeploy(t *testing.T) {
	c := deployCore(t, chain())
	x, y, h := artifacts("a"), artifacts("b"), time.Hour
	c.through("d-1", "one", "", x, 0)
	c.through("d-2", "two", "", x, 2*time.Minute)
	c.through("d-3", "last", "", x, 3*h)
	c.through("d-4", "one", "", y, 4*h)
	c.through("d-5", "two", "", y, 5*h)
	c.through("d-6", "last", "", y, 8*h)
	for _, at := range []struct {
		action string
		list   []lockkeeper.Artifact
		want   string
	}{
		{"", x, "promotion_stale"}, {"rollback", x, "passed"}, {"redeploy", x, "redeploy_unknown"}, {"redeploy", y, "passed"}, {"rollback", artifacts("c"), "rollback_unknown"},
		{"redeploy", artifacts("a", "b"), "redeploy_unknown"}, {"again", y, "action_unknown"},
	} {
		if got := c.asked("last", at.action, at.list, 48*h); got != at.want {
			t.Errorf("%s of %v: %s, want %s", at.action, at.list, got, at.want)
		}
	}
	c.through("d-7", "last", "rollback", x, 48*h)
	if got := c.asked("last", "redeploy", x, 49*h); got != "passed" {
		t.Errorf("after the rollback: %s", got)
	}
}

// A catalog that asks less helps no ask that is open.
func TestPromotionAsOpened(t *testing.T) {
	c := deployCore(t, chain())
	must(t, c.ask("d-1", "last", "", app1, 0))
	c.rules = mustRules(t, rulesWith("<more>", "---\n{kind: Environment, name: last, project: payments, tier: development}\n---\n{kind: Identity, name: to-last, project: payments, environment: last, audiences: ['https://t.example'], stages: [release/deploy-test]}\n"))
	want(t, c.claim("d-1", c.job("d-1", "1", "test", "1001", time.Minute), time.Minute), "promotion_missing")
}

var app1 = artifacts("a")

// An epoch forgets what stood.
func TestEpochForgetsStretches(t *testing.T) {
	c := deployCore(t, chain())
	c.through("d-1", "one", "", app1, 0)
	if got := c.asked("some", "", app1, 2*time.Hour); got != "passed" {
		t.Fatal(got)
	}
	c.forgetStretches()
	if got := c.asked("some", "", app1, 2*time.Hour); got != "promotion_missing" {
		t.Error(got)
	}
	if len(c.place("/projects/payments/environments/one").Let) != 1 {
		t.Error("what was let in is forgotten, too")
	}
}

// A happening is one thing that happened in an environment, as the journal tells it.
type happening struct {
	at        time.Duration
	id        string
	granted   bool // a lease; else its end
	good      bool
	action    string
	artifacts string
}

// counts says by a reading of its own whether artifacts count as run in an environment
// at now: somewhere in the past there is a success from which, while only successes of
// the same that ran alone came, at least soak went by up to the first other thing; the
// newest of these successes is younger than age; and nothing that came later spoke
// against it.
func counts(all []happening, x string, soak, age, now time.Duration) bool {
	alone := func(i int) bool { // the end at i
		from := slices.IndexFunc(all, func(o happening) bool { return o.id == all[i].id && o.granted })
		for j, o := range all[:i] {
			if o.id == all[i].id {
				continue
			}
			ended := slices.IndexFunc(all, func(e happening) bool { return e.id == o.id && !e.granted })
			began := slices.IndexFunc(all, func(e happening) bool { return e.id == o.id && e.granted })
			// it had a lease at some time between: the instant of an end is not in it
			if began < i && (ended < 0 || ended > i || all[ended].at > all[from].at) && j >= 0 {
				return false
			}
		}
		return true
	}
	for i, start := range all {
		if start.granted || !start.good || start.artifacts != x || !alone(i) {
			continue
		}
		last, until, open, void := start.at, time.Duration(-1), "", false
		for j := i + 1; j < len(all) && !void; j++ {
			e := all[j]
			switch {
			case e.artifacts == x && !e.granted && !e.good:
				void = true // the last word is a failure
			case until >= 0:
			case e.granted && e.artifacts != x:
				if e.action == "rollback" {
					void = true
				}
				until, open = e.at, ""
			case e.granted:
				open = e.id
			case e.artifacts == x && alone(j):
				last, open = e.at, ""
			default: // a success of several at once
				void = true
			}
		}
		end := until
		if until < 0 {
			end = now
		}
		if !void && open == "" && end-start.at >= soak && now-last < age {
			return true
		}
	}
	return false
}

// TestModelPromotion plays random deployments in two environments and compares the
// gates behind them with a reading of the journal of its own.
func TestModelPromotion(t *testing.T) {
	passes := 0
	rapid.Check(t, func(rt *rapid.T) {
		c := deployCore(t, chain())
		at, n := time.Duration(0), 0
		alive := map[string]string{} // environment by deployment that runs
		log := map[string][]happening{}
		opened := map[string]lockkeeper.Ask{}
		follow := func(by Caller, cmd command) {
			s, err := c.step(by, "", cmd, began.Add(at))
			if err != nil {
				rt.Fatal(err)
			}
			for _, ev := range s.events {
				switch ev := ev.(type) {
				case *deploymentOpened:
					opened[ev.ID] = ev.Ask
				case *leaseGranted:
					a := opened[ev.Deployment]
					alive[ev.Deployment] = a.Environment
					log[a.Environment] = append(log[a.Environment], happening{at, ev.Deployment, true, false, a.Action, fmt.Sprint(a.Artifacts)})
				case *deploymentEnded:
					if env := alive[ev.ID]; env != "" {
						log[env] = append(log[env], happening{at, ev.ID, false, ev.End.Status == Succeeded, opened[ev.ID].Action, fmt.Sprint(opened[ev.ID].Artifacts)})
						delete(alive, ev.ID)
					}
				}
			}
		}
		sets := [][]lockkeeper.Artifact{artifacts("a"), artifacts("b"), artifacts("a", "b")}
		for range rapid.IntRange(4, 40).Draw(rt, "steps") {
			at += rapid.SampledFrom([]time.Duration{0, time.Minute, 20 * time.Minute, time.Hour, 2 * time.Hour}).Draw(rt, "later")
			set := sets[rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(rt, "set")]
			env := rapid.SampledFrom([]string{"one", "two"}).Draw(rt, "environment")
			running := slices.Sorted(maps.Keys(alive))
			switch op := rapid.SampledFrom([]string{"deploy", "deploy", "rollback", "redeploy", "end", "end", "end", "end", "fail", "cancel", "sweep"}).Draw(rt, "op"); op {
			case "deploy", "rollback", "redeploy":
				n++
				id := fmt.Sprintf("d-%d", n)
				j := c.job(id, "1", "test", "1001", at)
				follow(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Action: op, Environment: env, Artifacts: set, Handle: HandleDigest("h")})
				j = c.job(id, "1", "test", "1001", at)
				follow(Caller{Workload: &j}, claimLease{Deployment: id, Lease: "l-" + id, Job: j, Handle: HandleDigest("h")})
			case "sweep":
				follow(Caller{Keeper: true}, sweep{})
			default:
				if len(running) == 0 {
					continue
				}
				id := rapid.SampledFrom(running).Draw(rt, "which")
				switch op {
				case "cancel":
					follow(Caller{Holder: id}, cancelDeployment{Deployment: id})
				default:
					follow(Caller{Holder: id}, endDeployment{id, map[string]int{"end": 0, "fail": 1}[op]})
				}
			}
			for _, x := range sets {
				spelled := fmt.Sprint(x)
				each := counts(log["one"], spelled, 2*time.Hour, 9*time.Hour, at) && counts(log["two"], spelled, 2*time.Hour, 9*time.Hour, at)
				any := counts(log["one"], spelled, time.Hour, 5*time.Hour, at) || counts(log["two"], spelled, time.Hour, 5*time.Hour, at)
				for env, want := range map[string]bool{"last": each, "some": any} {
					if got := c.asked(env, "", x, at); (got == "passed") != want {
						rt.Fatalf("%s at %s with %s: %s, and by the journal it counts: %v\n%v\n%v", env, at, spelled, got, want, log, c.place("/projects/payments/environments/one"))
					}
					if want {
						passes++
					}
				}
			}
		}
	})
	if passes == 0 {
		t.Error("nothing ever passed: the sequences show nothing")
	}
}
