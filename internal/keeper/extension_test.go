package keeper

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// An approval of more counts for what is left of it; an approval of less is for
// that alone, and the record says which each was for.
func TestTrimmedRequest(t *testing.T) {
	c, do := accessCore(t, "count: 1, groups: [leads]", "count: 2, groups: [leads, fays]", "<deny>", below)
	must(t, do("ann", asks("r-1"), 0))
	larger := c.approval("r-1")
	must(t, do("bob", larger, 0))
	less := larger
	less.For, less.Scope = 10*time.Minute, "/projects/p/environments/e"
	for code, bad := range map[string]decideRequest{
		"ask_differs": {Request: "r-1", Approve: true, Digest: "sha256:other", For: time.Minute},
		"trim_unfit":  {Request: "r-1", Digest: larger.Digest, For: time.Minute}, // a denial makes nothing of it
	} {
		want(t, do("cat", bad, 0), code)
	}
	for _, bad := range []decideRequest{{For: 2 * time.Hour}, {For: time.Millisecond}, {For: 90*time.Second + 1}, {For: -time.Minute}, {Scope: "/"}, {Scope: "/projects/q"}, {Scope: "/projects/p/nonsense"}, {Scope: "/projects/p/"}} {
		bad.Request, bad.Approve, bad.Digest = "r-1", true, larger.Digest
		want(t, do("cat", bad, 0), "trim_unfit")
	}
	// Who may decide at the narrower scope only takes nothing from the larger request.
	want(t, do("fay", less, 0), "approver_not_permitted")
	must(t, do("cat", less, 0))
	r := c.Requests["r-1"]
	if r.For != less.For || r.Scope != less.Scope || r.Digest == larger.Digest || len(r.Trims) != 1 || r.Trims[0].Digest != larger.Digest || r.Trims[0].For != time.Hour {
		t.Errorf("%+v", r)
	}
	if r.Votes[0].Digest != larger.Digest || r.Votes[1].Digest != r.Digest {
		t.Error("the votes do not say what they were for")
	}
	want(t, do("dora", larger, 0), "ask_differs")
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	if a := c.Activations["a-1"]; a.Scope != less.Scope || a.Ends.Sub(a.Started) != less.For {
		t.Errorf("%+v", a)
	}

	// A vote for less never counts for more: not for the same request asked again.
	must(t, do("ann", asks("r-2"), 0))
	must(t, do("ann", asks("r-3"), 0))
	small := c.approval("r-2")
	small.For = 5 * time.Minute
	must(t, do("bob", small, 0))
	must(t, do("bob", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest, For: 4 * time.Minute}, 0)) // his own vote stands in no way
	must(t, do("cat", c.approval("r-3"), 0))
	c.Requests["r-3"].Votes = append(c.Requests["r-3"].Votes, c.Requests["r-2"].Votes...) // as if it could be carried over
	want(t, do("ann", beginActivation{"r-3", "a-3"}, 0), "approvals_missing")
	want(t, do("ann", beginActivation{"r-2", "a-2"}, 0), "approvals_missing") // two votes of one person fill one place
}

// below makes fay an approver whose right is at one environment.
const below = `
---
{kind: User, name: fay}
---
{kind: Group, name: fays, users: [fay]}
---
{kind: Assignment, name: fays, role: access-approver, principal: user:fay, scope: /projects/p/environments/e}
`

// An activation is begun in the hours of its rule and lasts on past them; it is made
// longer in them only.
func TestHoursOfActivations(t *testing.T) {
	hours := "patience: 2h, hours: {zone: UTC, windows: [{days: [monday], from: '09:10', to: '09:30'}]}" // began is monday, 09:00
	c, do := accessCore(t, "patience: 2h", hours, "<longest>", "4h")
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	err := do("ann", beginActivation{"r-1", "a-1"}, 10*time.Minute-time.Millisecond)
	want(t, err, "outside_hours")
	if lockkeeper.KindOf(err) != lockkeeper.Conflict {
		t.Errorf("the next window is no wait: %v", err)
	}
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 29*time.Minute))
	if !c.starts("ann", 80*time.Minute) {
		t.Error("it ended with the window")
	}
	must(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: time.Hour, Reason: "why"}, 30*time.Minute))
	must(t, do("bob", c.approval("r-2"), 30*time.Minute))
	want(t, do("ann", beginActivation{"r-2", "-"}, 31*time.Minute), "outside_hours")
}

// A start ahead is bounded, and the request cannot be asked for in the past.
func TestStartsAhead(t *testing.T) {
	_, do := accessCore(t)
	for _, at := range []time.Duration{-time.Minute, 0, maxAhead + time.Second} {
		o := asks("r-1")
		o.At = began.Add(at)
		want(t, do("ann", o, 0), "start_unfit")
	}
	o := asks("r-1")
	o.At = began.Add(maxAhead)
	must(t, do("ann", o, 0))
}

// An activation that was asked for a deployment ends with it at that moment, however
// it ends, and the past says so too.
func TestActivationEndsWithDeployment(t *testing.T) {
	ctx := context.Background()
	for _, how := range []string{"succeeded", "cancelled", "silent", "timed out"} {
		t.Run(how, func(t *testing.T) {
			var clock atomic.Int64
			start := time.Now()
			k, _ := started(t, Options{Clock: func() time.Time { return start.Add(time.Duration(clock.Load())) }})
			_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, rulesWith("<more>", `---
{kind: Role, name: operator, actions: [freezes/write]}
---
{kind: Assignment, name: operators, role: operator, principal: user:eve, scope: /projects/payments, eligible: true}
---
{kind: ActivationRule, name: operating, role: operator, scope: /projects/payments}
`)), 2, "x")
			must(t, err)
			now := lockkeeper.MomentOf(start)
			job := workload(2, "2", "11", "test", "1001", "push", 1, now)
			id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
			must(t, err)
			eve := Caller{User: "eve"}
			ask := func(deployment string) (string, error) {
				return k.RequestActivation(ctx, eve, "", OpenRequest{Role: "operator", Scope: "/projects/payments", For: 8 * time.Hour, Reason: "why", Deployment: deployment})
			}
			_, err = ask("d-nothere")
			want(t, err, "deployment_ended")
			_, err = ask("No Such")
			want(t, err, "deployment_malformed")
			r, err := ask(id)
			must(t, err)
			a, err := k.BeginActivation(ctx, eve, r)
			must(t, err)
			later, err := ask(id)
			must(t, err)
			may := func() bool {
				d, err := k.Can(eve, "eve", lockkeeper.WriteFreezes, "/projects/payments")
				must(t, err)
				return d.Verdict == lockkeeper.Pass
			}
			if !may() {
				t.Fatal("she never held it")
			}
			alive := k.now()
			clock.Add(int64(time.Second))
			if how != "timed out" {
				must(t, k.Claim(ctx, job, id, "h"))
			}
			switch how {
			case "succeeded":
				must(t, k.End(ctx, Caller{Holder: id}, id, 0))
			case "cancelled":
				must(t, k.Cancel(ctx, Caller{User: "bob"}, id, "no"))
			case "silent":
				clock.Store(int64(6 * time.Minute))
			case "timed out":
				clock.Store(int64(31 * time.Minute))
			}
			if may() {
				t.Error("she holds it past the deployment's end")
			}
			_, err = k.BeginActivation(ctx, eve, later)
			want(t, err, "deployment_ended")
			_, err = k.ExtendActivation(ctx, eve, "", a.ID, time.Minute, "why", "")
			want(t, err, "activation_over")
			over := k.now()
			_, err = do[any](ctx, k, Caller{Keeper: true}, "", sweep{})
			must(t, err)
			stored, err := k.journal.SubjectAll(ctx, activationSubject(a.ID))
			must(t, err)
			if !slices.ContainsFunc(stored, func(s journal.Entry) bool {
				_, body, err := readEntry(s.Data)
				ev, is := body.(*activationEnded)
				return err == nil && is && ev.Status == activationFinished
			}) {
				t.Error("the sweep did not write it down")
			}
			for at, want := range map[lockkeeper.Moment]bool{alive: true, over: false} {
				p, err := k.Past(ctx, Caller{User: "dora"}, at)
				must(t, err)
				if d := p.Can("eve", lockkeeper.WriteFreezes, "/projects/payments"); d.Passed(at) != want {
					t.Errorf("as of %s: %s", at, d.Sentence)
				}
			}
		})
	}
}

// What an extended activation opened outside is granted anew up to the new end, and
// is taken away after that, not after the old one.
func TestExtensionMovesDuties(t *testing.T) {
	c, do := accessCore(t, "<longest>", "2h", "<deny>", provisioned)
	activated(t, c, do, "1", "/projects/p/environments/f", 0)
	try := func(at time.Duration) string {
		t.Helper()
		d := c.Duties["o-1-1"]
		verb := c.next(d, c.accounts().others(d), began.Add(at))
		if verb != "" {
			must(t, do("", beginEffect{"o-1-1", d.Attempt + 1, verb, 30 * time.Second}, at))
			must(t, do("", endEffect{"o-1-1", d.Attempt, Outcome{}, 0.5}, at+time.Second))
		}
		return verb
	}
	if verb := try(0); verb != GrantVerb || try(time.Minute) != "" {
		t.Fatalf("at first %q", verb)
	}
	must(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: 30 * time.Minute, Reason: "why"}, 2*time.Minute))
	must(t, do("bob", c.approval("r-2"), 2*time.Minute))
	must(t, do("ann", beginActivation{"r-2", "-"}, 2*time.Minute))
	if verb := try(3 * time.Minute); verb != GrantVerb {
		t.Errorf("after the extension %q", verb)
	}
	if ends := c.Duties["o-1-1"].Ends; ends != began.Add(90*time.Minute) {
		t.Errorf("the duty ends at %s", ends)
	}
	if verb := try(61 * time.Minute); verb != "" {
		t.Errorf("at the old end %q", verb)
	}
	if verb := try(91 * time.Minute); verb != RevokeVerb {
		t.Errorf("at the new end %q", verb)
	}
}
