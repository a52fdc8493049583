package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"pgregory.net/rapid"
)

// shorter is a catalog in which going back takes one lead and a deployment two managers,
// a wait and what ran in one; and in which two persons strike.
func shorter(checks string) string {
	if checks == "" {
		checks = `[{name: managers, approval: {count: 2, groups: [managers]}, actions: [deploy, redeploy]},
  {name: lead, approval: {count: 1, groups: [managers]}, actions: [rollback]}, {name: wait, delay: {for: 10m}, actions: [deploy]}]`
	}
	text := ""
	for _, e := range [][2]string{{"one", "[]"}, {"live", checks}, {"next", "[{name: ran, promotion: {environments: [one]}}]"}} {
		text += fmt.Sprintf("---\nkind: Environment\nname: %s\nproject: payments\ntier: development\nlease: 3h\npatience: 5h\nchecks: %s\n---\n", e[0], e[1]) +
			fmt.Sprintf("{kind: Identity, name: to-%s, project: payments, environment: %s, audiences: ['https://t.example'], stages: [release/deploy-test]}\n", e[0], e[0])
	}
	return rulesWith("<more>", text+"---\n{kind: Group, name: responders, users: [bob, cat, ann-admin]}\n---\n{kind: Assignment, name: responding, role: incident-responder, principal: group:responders, scope: /projects/payments}\n")
}

const oneScope = lockkeeper.Scope("/projects/payments/environments/one")

// What is struck is put nowhere there any more, stops what runs, and is lifted by
// another person only.
func TestStrike(t *testing.T) {
	c := deployCore(t, shorter(""))
	x, y := artifacts("a", "b"), artifacts("c")
	c.through("d-1", "one", "", x, 0)
	c.through("d-2", "one", "", y, 2*time.Minute)
	must(t, c.into("d-3", "next", "", x, 3*time.Minute)) // runs
	strike := makeStrike{ID: "x-1", Scope: oneScope, Artifacts: x[:1], Reason: "a back door"}
	for name, bad := range map[string]struct {
		by   string
		cmd  makeStrike
		code string
	}{
		"nobody":      {"", strike, "person_needed"},
		"no right":    {"ann", strike, "not_granted"},
		"no reason":   {"bob", makeStrike{ID: "x-0", Scope: oneScope, Artifacts: x, Reason: " "}, "reason_missing"},
		"nothing":     {"bob", makeStrike{ID: "x-0", Scope: oneScope, Reason: "r"}, "artifacts_malformed"},
		"no digest":   {"bob", makeStrike{ID: "x-0", Scope: oneScope, Artifacts: []lockkeeper.Artifact{{Name: "a", Digest: "latest"}}, Reason: "r"}, "artifacts_malformed"},
		"too many":    {"bob", makeStrike{ID: "x-0", Scope: oneScope, Artifacts: slices.Repeat(x, 33), Reason: "r"}, "artifacts_malformed"},
		"everything":  {"dora", makeStrike{ID: "x-0", Scope: "/", Artifacts: x, Reason: "r"}, "scope_unfit"},
		"a stage":     {"dora", makeStrike{ID: "x-0", Scope: "/projects/payments/pipelines/release", Artifacts: x, Reason: "r"}, "scope_unfit"},
		"elsewhere":   {"bob", makeStrike{ID: "x-0", Scope: "/projects/payments/environments/nowhere", Artifacts: x, Reason: "r"}, "scope_missing"},
		"long reason": {"bob", makeStrike{ID: "x-0", Scope: oneScope, Artifacts: x, Reason: strings.Repeat("r", 10_000)}, "reason_missing"},
	} {
		t.Run(name, func(t *testing.T) { want(t, c.user(bad.by, bad.cmd, 4*time.Minute), bad.code) })
	}
	must(t, c.user("bob", strike, 4*time.Minute))
	for _, at := range []struct {
		env, action string
		list        []lockkeeper.Artifact
		want        string
	}{
		{"one", "rollback", x, "artifact_struck"}, {"one", "", x, "artifact_struck"}, {"one", "", x[:1], "artifact_struck"}, {"one", "", x[1:], "passed"},
		{"one", "redeploy", y, "passed"},
		{"next", "", x, "promotion_missing"}, // what stood in one is no proof any more
	} {
		if got := c.asked(at.env, at.action, at.list, 5*time.Minute); got != at.want {
			t.Errorf("%s into %s of %v: %s, want %s", at.action, at.env, at.list, got, at.want)
		}
	}
	if c.Deployments["d-3"].Status != Running {
		t.Error("the strike of one environment took a lease of another")
	}
	must(t, c.user("bob", makeStrike{ID: "x-2", Scope: "/projects/payments", Artifacts: x[1:], Reason: "and this"}, 6*time.Minute))
	if c.Deployments["d-3"] != nil {
		t.Error("what deploys something struck runs on")
	}
	want(t, c.user("bob", liftStrike{"x-1", "was a mistake"}, 7*time.Minute), "second_person_needed")
	want(t, c.user("ann", liftStrike{"x-1", "was a mistake"}, 7*time.Minute), "not_granted")
	want(t, c.user("cat", liftStrike{"x-1", ""}, 7*time.Minute), "reason_missing")
	must(t, c.user("cat", liftStrike{"x-1", "was a mistake"}, 7*time.Minute))
	want(t, c.user("cat", liftStrike{"x-1", "once more"}, 8*time.Minute), "strike_over")
	if got := c.asked("one", "rollback", x, 9*time.Minute); got != "artifact_struck" {
		t.Errorf("the other strike: %s", got)
	}
	must(t, c.user("cat", liftStrike{"x-2", "was a mistake"}, 10*time.Minute))
	if got := c.asked("one", "rollback", x, 11*time.Minute); got != "passed" {
		t.Errorf("lifted: %s", got)
	}
}

// Nobody lifts his own strike by another account, and what stands is told.
func TestStrikeIsOfAPerson(t *testing.T) {
	c := deployCore(t, strings.Replace(shorter(""), "name: ann\nids", "name: ann\nids", 1)+"---\n{kind: Assignment, name: more, role: incident-responder, principal: user:ann, scope: /projects/payments}\n")
	x := artifacts("a")
	c.through("d-1", "one", "", x, 0)
	s, err := c.step(Caller{User: "ann"}, "", makeStrike{ID: "x-1", Scope: oneScope, Artifacts: x, Reason: "r"}, began.Add(2*time.Minute))
	must(t, err)
	if got := s.answer.(struck); !slices.Equal(got.Stands, []lockkeeper.Scope{oneScope}) {
		t.Errorf("it stands in %v", got.Stands)
	}
	want(t, c.user("ann-admin", liftStrike{"x-1", "it is fine"}, 3*time.Minute), "second_person_needed")
	must(t, c.user("bob", liftStrike{"x-1", "it is fine"}, 3*time.Minute))
}

// Going back has a path of its own, and its checks do not compete with those of a
// deployment.
func TestRollbackPath(t *testing.T) {
	c := deployCore(t, shorter(""))
	x, y := artifacts("a"), artifacts("b")
	deploy := func(id string, list []lockkeeper.Artifact, at time.Duration) {
		t.Helper()
		must(t, c.ask(id, "live", "", list, at))
		must(t, c.approve("bob", id, at))
		must(t, c.approve("cat", id, at+time.Second))
		j := c.job(id, "1", "test", "1001", at+11*time.Minute)
		must(t, c.claim(id, j, at+11*time.Minute))
		c.done(id, 0, at+12*time.Minute)
	}
	deploy("d-1", x, 0)
	deploy("d-2", y, time.Hour)
	must(t, c.ask("d-3", "live", "rollback", x, 2*time.Hour))
	back := c.job("d-3", "1", "test", "1001", 2*time.Hour)
	want(t, c.claim("d-3", back, 2*time.Hour), "approvals_missing")
	want(t, c.approve("ann-admin", "d-3", 2*time.Hour), "own_deployment")
	must(t, c.approve("eve", "d-3", 2*time.Hour))
	must(t, c.claim("d-3", back, 2*time.Hour+time.Second))

	// A catalog that takes the path away holds for an ask that is open, one that adds it does not help it.
	c.done("d-3", 0, 2*time.Hour+time.Minute)
	must(t, c.ask("d-4", "live", "rollback", y, 3*time.Hour))
	c.rules = mustRules(t, shorter("[{name: managers, approval: {count: 2, groups: [managers]}}]"))
	must(t, c.approve("eve", "d-4", 3*time.Hour))
	want(t, c.claim("d-4", c.job("d-4", "1", "test", "1001", 3*time.Hour), 3*time.Hour), "approvals_missing")
	must(t, c.ask("d-5", "live", "rollback", y, 4*time.Hour))
	c.rules = mustRules(t, shorter("[{name: managers, approval: {count: 2, groups: [managers]}, actions: [deploy]}]"))
	want(t, c.claim("d-5", c.job("d-5", "1", "test", "1001", 4*time.Hour), 4*time.Hour), "approvals_missing")
	if got := c.asked("live", "rollback", y, 4*time.Hour); got != "passed" {
		t.Errorf("a new ask: %s", got)
	}

	// A rehearsal and a person's question meet the same path.
	c.rules = mustRules(t, shorter(""))
	for action, waits := range map[string]int{"rollback": 1, "deploy": 2} {
		j := c.job("d-9", "1", "test", "1001", 5*time.Hour)
		r, err := c.rehearse(openDeployment{ID: rehearsed, Job: j, Action: action, Environment: "live", Artifacts: x, Handle: HandleDigest("h")}, began.Add(5*time.Hour))
		if must(t, err); len(r.Waits) != waits {
			t.Errorf("%s waits for %v", action, r.Waits)
		}
		r, err = c.imagine(Caller{User: "ann"}, Imagined{OpenDeployment: OpenDeployment{Action: action, Project: "payments", Environment: "live", Artifacts: x},
			Stage: "release/deploy-test", Ref: "refs/heads/main", Commit: "1111111111111111111111111111111111111111"}, began.Add(5*time.Hour))
		if must(t, err); len(r.Waits) != waits {
			t.Errorf("%s, imagined, waits for %v", action, r.Waits)
		}
	}
}

// A path that nobody can pass is told of, by the path.
func TestRollbackPathWithoutPersons(t *testing.T) {
	c := readRules(t, shorter("[{name: lead, approval: {count: 1, groups: [only]}, actions: [rollback]}]")+"---\n{kind: Group, name: only, users: [ann]}\n")
	found := false
	for _, s := range access.New(c).Shortages(began) {
		found = found || s.Of == "a rollback in the environment payments/live" && s.Asks == "ann"
		if s.Of == "environment payments/live" {
			t.Errorf("a deployment asks nobody: %v", s)
		}
	}
	if !found {
		t.Error("nobody says that ann alone could approve what she starts")
	}
}

// Invariant 27, against a reading of its own: a rollback passes only for what was
// deployed there with success before, all of it together, and of which nothing is struck.
func TestInvariant27RollbackOnlyToGood(t *testing.T) {
	lively := 0
	rapid.Check(t, func(r *rapid.T) {
		c := deployCore(t, shorter(""))
		names := []string{"a", "b", "c"}
		sets := [][]string{{"a"}, {"b"}, {"a", "b"}, {"c"}, {"b", "c"}}
		good, held := map[string]bool{}, map[string][]string{} // sets; digests by strike
		isStruck := func(set []string) bool {
			for _, list := range held {
				if slices.ContainsFunc(set, func(n string) bool { return slices.Contains(list, n) }) {
					return true
				}
			}
			return false
		}
		at, n := time.Duration(0), 0
		for range rapid.IntRange(3, 25).Draw(r, "steps") {
			at += time.Minute
			n++
			set := rapid.SampledFrom(sets).Draw(r, "set")
			key := strings.Join(set, "+")
			switch rapid.IntRange(0, 5).Draw(r, "what") {
			case 0, 1: // deploy, with or without success
				id, code := fmt.Sprintf("d-n%d", n), rapid.IntRange(0, 1).Draw(r, "code")
				err := c.into(id, "one", "", artifacts(set...), at)
				if isStruck(set) != (codeOf(err) == "artifact_struck") || err != nil && !isStruck(set) {
					r.Fatalf("deploying %s: %v; struck %v", key, err, held)
				}
				if err == nil {
					c.done(id, code, at+time.Second)
					good[key] = good[key] || code == 0
				}
			case 2:
				id := fmt.Sprintf("x-n%d", n)
				one := rapid.SampledFrom(names).Draw(r, "struck")
				scope := rapid.SampledFrom([]lockkeeper.Scope{oneScope, "/projects/payments", "/projects/payments/environments/next"}).Draw(r, "scope")
				must(t, c.user("bob", makeStrike{ID: id, Scope: scope, Artifacts: artifacts(one), Reason: "r"}, at))
				if scope != "/projects/payments/environments/next" {
					held[id] = []string{one}
				}
			case 3:
				for id := range held {
					must(t, c.user("cat", liftStrike{id, "r"}, at))
					delete(held, id)
					break
				}
			default:
				got := c.asked("one", "rollback", artifacts(set...), at)
				want := "rollback_unknown"
				switch {
				case isStruck(set):
					want = "artifact_struck"
				case good[key]:
					want = "passed"
					lively++
				}
				if got != want && !(isStruck(set) && got == "rollback_unknown") {
					r.Fatalf("rollback to %s: %s, want %s (good %v, struck %v)", key, got, want, good, held)
				}
			}
		}
	})
	if lively == 0 {
		t.Error("no rollback ever passed")
	}
}
