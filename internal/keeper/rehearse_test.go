package keeper

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// dressed drives a simulation as TestSimulation does, and hands every command to look
// before it is decided, and what came of it after. The reader of the simulation stays
// out of it: it knows no environment that observes.
func dressed(rt *rapid.T, all []*law, look func(s *simulation, by Caller, cmd command) func(step)) *simulation {
	s := &simulation{t: rt, core: &core{world: world{State: newState(), rules: all[0].rules, spelled: map[string]spelling{}}}, mirror: newState(), laws: all, now: began, outcome: map[string]int{}}
	first := step{}
	events := []event{&journalStarted{Log: Log{Origin: "simulation"}}, &setupCompleted{User: "dora", Credential: "p"}}
	for _, user := range []string{"ann", "ann-admin", "bob", "cat", "eve"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p", Maker: "dora"}, &accountProven{User: user, Token: lockkeeper.TokenIDOf("proof", user), Expires: s.now})
	}
	build := workload(-1, "1", "1", "", "1001", "push", 1, s.now)
	events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: build.Commit.Value, Run: "1",
		Artifacts: []lockkeeper.Artifact{app}, Token: build.TokenID, TokenExpires: build.Expires})
	if err := s.core.record(&first, Caller{Keeper: true}, "", "", events, s.now); err != nil {
		rt.Fatal(err)
	}
	s.records = append(s.records, first.records...)
	for range rapid.IntRange(60, 160).Draw(rt, "steps") {
		s.now = s.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 5, 30, 61, 300, 1800}).Draw(rt, "seconds")) * time.Second)
		by, cmd := s.command()
		after := look(s, by, cmd)
		out, err := s.core.step(by, "", cmd, s.now)
		if err != nil {
			rt.Fatal(err)
		}
		s.outcome[cmd.name()+" "+fmt.Sprint(out.err == nil)]++
		s.records = append(s.records, out.records...)
		after(out)
	}
	return s
}

// watchful are laws under which production observes, or has checks in shadow and
// windows.
func watchful(t testing.TB) []*law {
	lock := "  - {name: one, lock: {mode: sequential}}\n"
	shadow := "  - {name: more, shadow: true, approval: {count: 2, groups: [managers]}}\n  - {name: quick, delay: {for: 1m}}\n  - {name: day, hours: {zone: UTC, windows: [{days: [monday], from: \"09:00\", to: \"12:00\"}]}}\n"
	all := laws(t)
	for _, text := range []string{rulesWith("<age>", "mode: observe\n", "<lock>", lock), rulesWith("<lock>", lock+shadow)} {
		all = append(all, &law{text: text, rules: mustRules(t, text)})
	}
	return all
}

// TestRehearsalIsTheAsk rehearses every ask of a simulation and then makes it, at the
// same instant: the answer is the same, to the last reason, and nothing has changed
// between.
func TestRehearsalIsTheAsk(t *testing.T) {
	all := watchful(t)
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		dressed(rt, all, func(s *simulation, by Caller, cmd command) func(step) {
			c, asks := cmd.(openDeployment)
			if !asks {
				return func(step) {}
			}
			before, err := s.core.State.Digest()
			if err != nil {
				rt.Fatal(err)
			}
			as := c
			as.ID, as.Handle = rehearsed, ""
			r, refused := s.core.rehearse(as, s.now)
			if after, err := s.core.State.Digest(); err != nil || after != before {
				rt.Fatalf("a rehearsal changed the state: %v", err)
			}
			return func(out step) {
				switch {
				case refused != nil:
					if lockkeeper.RefusalOf(out.err) == nil || lockkeeper.RefusalOf(out.err).Code != lockkeeper.RefusalOf(refused).Code {
						rt.Fatalf("rehearsed: %v, asked: %v", refused, out.err)
					}
				case !r.Opens:
					if code := lockkeeper.RefusalOf(out.err); code == nil || code.Code != r.Gate.Code {
						rt.Fatalf("rehearsed: %s, asked: %v", r.Gate.Code, out.err)
					}
				default:
					if out.err != nil {
						rt.Fatalf("rehearsed it opens, asked: %v", out.err)
					}
					got := out.events[0].(*deploymentOpened).Gate
					if !got.Equal(r.Gate) {
						rt.Fatalf("rehearsed: %+v\nasked: %+v", r.Gate, got)
					}
				}
				seen[fmt.Sprintf("%v %v %s %s", refused != nil, r.Opens, r.Gate.Verdict, r.Mode)]++
			}
		})
	})
	for _, must := range []string{"false true wait enforce", "false true pass enforce", "false true pass observe", "false false fail "} {
		if seen[must] == 0 {
			t.Errorf("never seen: %s (%v)", must, seen)
		}
	}
}

// What a rehearsal says of people: who could vote now, nobody who stands behind the
// run, and no time at which it surely goes.
func TestRehearsalNamesPeople(t *testing.T) {
	rules := mustRules(t, rulesWith("<lock>", "  - {name: soak, delay: {for: 30m}}\n  - {name: day, hours: {zone: UTC, windows: [{days: [monday], from: \"10:00\", to: \"12:00\"}]}}\n"))
	s := newState()
	c := &core{world: world{State: s, rules: rules}}
	var first step
	events := []event{&journalStarted{}}
	for _, user := range []string{"dora", "ann", "ann-admin", "bob", "cat", "eve"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p"}, &accountProven{User: user})
	}
	job := workload(1, "7", "10", "production", "1001", "push", 1, began)
	events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: job.Commit.Value, Run: "7", Artifacts: []lockkeeper.Artifact{app}})
	if err := c.record(&first, Caller{Keeper: true}, "", "", events, began); err != nil {
		t.Fatal(err)
	}
	tokens := len(s.Tokens)
	ask := openDeployment{ID: rehearsed, Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}}
	r, err := c.rehearse(ask, began)
	if err != nil || !r.Opens {
		t.Fatal(err, r.Gate)
	}
	got := map[string][]string{}
	for _, a := range r.Waits {
		got[a.Decision.Subject+" "+a.On] = a.Users
	}
	if len(got) != 4 || !slices.Equal(got["check managers people"], []string{"bob", "cat", "eve"}) || !slices.Equal(got["check security people"], []string{"cat", "eve"}) {
		t.Errorf("it waits for %v", got)
	}
	if at := lockkeeper.MomentOf(time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)); r.Earliest != at || r.Sure {
		t.Errorf("the earliest is %s, sure: %v", r.Earliest, r.Sure)
	}
	// A person who asks about the same run gets the same, for it would be his own.
	im := Imagined{OpenDeployment: OpenDeployment{Project: "payments", Environment: "production", Artifacts: []lockkeeper.Artifact{app}}, Stage: "release/deploy", Ref: "refs/heads/main", Commit: job.Commit.Value}
	p, err := c.imagine(Caller{User: "ann"}, im, began)
	if err != nil || !p.Gate.Equal(r.Gate) || len(p.Assumed) == 0 || p.Earliest != r.Earliest {
		t.Errorf("imagined: %v %+v", err, p)
	}
	im.Action = lockkeeper.RedeployAction
	if p, err := c.imagine(Caller{User: "ann"}, im, began); err != nil || p.Gate.Code != "redeploy_unknown" {
		t.Errorf("of a redeployment: %v %+v", err, p.Gate)
	}
	im.Action, im.Ref = "", "refs/heads/other"
	if p, err := c.imagine(Caller{User: "ann"}, im, began); err != nil || p.Opens || p.Gate.Code != "stage_unmatched" {
		t.Errorf("of another ref: %v %+v", err, p.Gate)
	}
	for name, change := range map[string]func(*Imagined){"stage": func(i *Imagined) { i.Stage = "release/moon" }, "environment": func(i *Imagined) { i.Environment = "moon" }, "artifact": func(i *Imagined) { i.Artifacts = nil }} {
		bad := im
		change(&bad)
		if _, err := c.imagine(Caller{User: "ann"}, bad, began); lockkeeper.RefusalOf(err) == nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := c.imagine(Caller{User: "robot"}, im, began); lockkeeper.KindOf(err) != lockkeeper.Forbidden {
		t.Errorf("somebody without a right: %v", err)
	}
	if len(s.Deployments) != 0 || len(s.Tokens) != tokens {
		t.Errorf("something was recorded: %d deployments, %d tokens", len(s.Deployments), len(s.Tokens))
	}
}
