package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// TestStepUp lets an asker and an approver sign in with more or less, votes and time
// and the rules change at random, and compares with a small model which votes are
// taken and whether the activation begins: stricter rules hold at once, easier ones
// help no request that is open.
func TestStepUp(t *testing.T) {
	type asks struct {
		age    time.Duration
		strong bool
	}
	spell := func(field string, a asks) string {
		out := ""
		if a.age > 0 {
			out += fmt.Sprintf(", %s: %s", field, a.age)
		}
		if a.strong {
			out += ", strong: true"
		}
		return out
	}
	type law struct{ begin, vote asks }
	kinds := []asks{{}, {age: 5 * time.Minute}, {age: 10 * time.Minute}, {strong: true}, {age: 5 * time.Minute, strong: true}}
	var laws []law
	var rules []*Rules
	for _, b := range kinds {
		for _, v := range kinds {
			laws = append(laws, law{b, v})
			rules = append(rules, accessLawOf(t, "count: 1, groups: [leads]", "count: 1, groups: [leads]"+spell("signedIn", v), "patience: 2h", "patience: 2h"+spell("stepUp", b)))
		}
	}
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		type signIn struct {
			at     lockkeeper.Moment
			strong bool
		}
		takes := func(a asks, s signIn, at lockkeeper.Moment) bool {
			return (a.age == 0 || at.Sub(s.at) <= a.age) && (!a.strong || s.strong)
		}
		now, in := began, 0
		c := &core{world: world{State: newState(), rules: rules[0]}}
		var story []string
		tell := func(format string, args ...any) {
			story = append(story, fmt.Sprintf("%s %s", now, fmt.Sprintf(format, args...)))
		}
		send := func(user string, cmd command) error {
			s, err := c.step(Caller{User: user, Session: "s-" + user}, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			seen[fmt.Sprint(cmd.name(), " ", codeOf(s.err))]++
			return s.err
		}
		people := map[string]signIn{}
		signsIn := func(user string, strong bool) {
			tell("%s signs in, strong %v", user, strong)
			people[user] = signIn{now, strong}
			var s step
			ev := &sessionStarted{Session: Session{ID: "s-" + user, User: user, Started: now, Expires: now.Add(12 * time.Hour), Authenticated: now, Strong: strong}}
			if err := c.record(&s, Caller{}, "", "", []event{ev}, now); err != nil {
				t.Fatal(err)
			}
		}
		signsIn("ann", false)
		signsIn("bob", false)
		in = rapid.IntRange(0, len(laws)-1).Draw(t, "first law")
		c.rules = rules[in]
		opened := laws[in]
		tell("ann asks under %+v", opened)
		if err := send("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}); err != nil {
			t.Fatal(err)
		}
		type ballot struct {
			signIn
			voted lockkeeper.Moment
		}
		var votes []ballot
		counts := func(a asks) bool {
			for _, v := range votes {
				if takes(a, v.signIn, v.voted) {
					return true
				}
			}
			return false
		}
		for range rapid.IntRange(3, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(1, 240).Draw(t, "seconds")) * time.Second)
			case 1:
				signsIn(rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "who"), rapid.Bool().Draw(t, "strong"))
			case 2:
				in = rapid.IntRange(0, len(laws)-1).Draw(t, "law")
				c.rules = rules[in]
				tell("the rules are %+v", laws[in])
			case 3:
				may := func(a asks) bool { return takes(a, people["bob"], now) && !counts(a) }
				right := may(laws[in].vote) || laws[in].vote != opened.vote && may(opened.vote)
				err := send("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest})
				tell("bob approves: %v", err)
				if (err == nil) != right {
					t.Fatalf("bob's vote: %v, want taken %v; %q", err, right, story)
				}
				if err == nil {
					votes = append(votes, ballot{people["bob"], now})
				} else if code := codeOf(err); code != "step_up_needed" && code != "already_approved" {
					t.Fatalf("bob's vote: %v; %q", err, story)
				}
			case 4:
				approved := counts(laws[in].vote) && counts(opened.vote)
				right := approved && takes(laws[in].begin, people["ann"], now) && takes(opened.begin, people["ann"], now)
				err := send("ann", beginActivation{"r-1", "a-1"})
				tell("ann begins: %v", err)
				if (err == nil) != right {
					t.Fatalf("ann begins: %v, want %v; %q", err, right, story)
				}
				if approved && err != nil {
					if codeOf(err) != "step_up_needed" || !strings.Contains(lockkeeper.RefusalOf(err).Next, "lockkeeper step-up") {
						t.Fatalf("ann begins: %v; %q", err, story)
					}
				}
				if err == nil {
					return
				}
			}
		}
	})
	for _, what := range []string{"activation.begin <nil>", "activation.begin step_up_needed", "request.approve step_up_needed", "request.approve <nil>", "request.approve already_approved"} {
		if seen[what] == 0 {
			t.Errorf("it never came to %q: %v", what, seen)
		}
	}
}

// A deployment's vote records the sign-in that it was given with, and a directory
// that does not say when the person showed a credential vouches for no recent one.
func TestVoteOfOldSignIn(t *testing.T) {
	c := &core{world: world{State: newState(), rules: mustRules(t, rulesWith("{count: 1, groups: [managers]}", "{count: 1, groups: [managers], signedIn: 1h}"))}}
	send := func(by Caller, cmd command, at time.Duration) error {
		t.Helper()
		s, err := c.step(by, "", cmd, began.Add(at))
		must(t, err)
		return s.err
	}
	must(t, send(Caller{Keeper: true}, firstEntry{}, 0))
	session := func(id string, at time.Duration, s Session) Caller {
		s.ID, s.User, s.Started, s.Expires = id, "bob", began.Add(at), began.Add(at+12*time.Hour)
		must(t, c.record(&step{}, Caller{}, "", "", []event{&sessionStarted{Session: s}}, began.Add(at)))
		return Caller{User: "bob", Session: id}
	}
	must(t, send(Caller{}, recordArtifacts{workload(1, "1", "10", "", "1001", "push", 1, began), []lockkeeper.Artifact{app}}, 0))
	must(t, send(Caller{}, openDeployment{ID: "d-1", Job: workload(2, "1", "11", "production", "1001", "push", 1, began), Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, 0))
	vote := vote{Deployment: "d-1", Approve: true, Digest: c.Deployments["d-1"].Digest}
	old := session("s-old", 0, Session{Authenticated: began})
	silent := session("s-silent", time.Minute, Session{Directory: "corp", Subject: "s-bob"})
	want(t, send(old, vote, time.Hour+time.Second), "step_up_needed")
	c.State.Sessions["s-silent"].Directory = "" // the rules of this test have no directory: judge the sign-in alone
	p := proof{age: time.Hour}
	if d := p.judge(&c.world, silent, began.Add(2*time.Minute)); !d.Passed(began.Add(2 * time.Minute)) {
		t.Errorf("a local session of an older release: %+v", d)
	}
	c.State.Sessions["s-silent"].Directory = "corp"
	if d := p.judge(&c.world, silent, began.Add(2*time.Minute)); d.Code != "step_up_needed" {
		t.Errorf("a directory that says nothing: %+v", d)
	}
	if d := p.judge(&c.world, Caller{User: "bob", Token: "k-1"}, began); d.Code != "step_up_needed" {
		t.Errorf("a token: %+v", d)
	}
	anew := session("s-anew", 2*time.Hour-time.Minute, Session{Authenticated: began.Add(time.Hour - time.Minute), Strong: true})
	must(t, send(anew, vote, 2*time.Hour-time.Minute))
	if v := c.Deployments["d-1"].Votes[0]; v.SignedIn != began.Add(time.Hour-time.Minute) || !v.Strong {
		t.Errorf("the vote has %+v", v)
	}
}
