package keeper

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// The tests whose names begin with TestGates show the invariants of release gates, each
// by its number. docs/gate-invariants.md lists them.

var otherApp = lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("another app"))}

func (c *deploying) askFor(id string, j lockkeeper.Workload, change func(*openDeployment), at time.Duration) error {
	c.t.Helper()
	o := openDeployment{ID: id, Job: j, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}
	if change != nil {
		change(&o)
	}
	return c.as(Caller{Workload: &j}, o, at)
}

// There is a lease only where every approval and every piece of evidence is about exactly
// what it is for.
func TestGates01AboutExactlyThis(t *testing.T) {
	ctx := context.Background()
	ci := newSigningKey(t)
	k, _ := startedWith(t, provenRules(ci.pem), Options{})
	n := 0
	job := func(environment string) lockkeeper.Workload {
		n++
		return workload(n, fmt.Sprint(n), "10", environment, "1001", "push", 1, k.now())
	}
	_, err := k.AddEvidence(ctx, job(""), "", AddEvidence{Artifacts: []lockkeeper.Artifact{app}, Pieces: []Piece{unit(goodTests), {Kind: "attestation", Content: ci.provenance(app, headOf)}}})
	must(t, err)
	second := lockkeeper.Artifact{Name: "web", Digest: otherApp.Digest}
	for name, c := range map[string]struct {
		artifacts []lockkeeper.Artifact
		code      string
	}{
		"what it is about":         {[]lockkeeper.Artifact{app}, ""},
		"another under its name":   {[]lockkeeper.Artifact{otherApp}, "evidence_missing"},
		"another one beside it":    {[]lockkeeper.Artifact{app, second}, "evidence_missing"},
		"it, under another's name": {[]lockkeeper.Artifact{{Name: "web", Digest: app.Digest}}, ""},
	} {
		w := job("test")
		id, err := k.OpenDeployment(ctx, w, "", OpenDeployment{Environment: "test", Artifacts: c.artifacts, Handle: HandleDigest("h")})
		must(t, err)
		if err = k.Claim(ctx, w, id, "h"); saying(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if err == nil {
			must(t, k.End(ctx, Caller{Holder: id}, id, 0))
		}
	}

	c := deployCore(t, rulesWith())
	c.waiting("1")
	must(t, c.open("d-b", c.job("2", "21", "production", "1001", 0), "production", 0))
	one, two := c.Deployments["d-a"].Digest, c.Deployments["d-b"].Digest
	for _, user := range []string{"bob", "cat"} {
		want(t, c.user(user, vote{Deployment: "d-a", Approve: true, Digest: two}, time.Second), "ask_differs")
		must(t, c.user(user, vote{Deployment: "d-a", Approve: true, Digest: one}, time.Second))
	}
	want(t, c.claim("d-b", c.job("2", "21", "production", "1001", 2*time.Second), 2*time.Second), "approvals_missing")
	// Neither does what stands in the state under another digest count.
	for i := range c.Deployments["d-a"].Votes {
		c.Deployments["d-a"].Votes[i].Digest = two
	}
	want(t, c.claimA(2*time.Second), "approvals_missing")
}

// Whatever changes in what is asked for makes it another ask, which no approval of before
// is for, and which the job of before cannot claim.
func TestGates02AnotherAskIsAnother(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	ask := c.Deployments["d-a"].Ask
	was, err := ask.Digest()
	must(t, err)
	fields := reflect.TypeFor[lockkeeper.Ask]()
	for i := range fields.NumField() {
		changed := ask
		f := reflect.ValueOf(&changed).Elem().Field(i)
		switch v := f.Addr().Interface().(type) {
		case *string:
			*v += "x"
		case *int:
			*v++
		case *bool:
			*v = !*v
		case *lockkeeper.Definition:
			*v = lockkeeper.Definition{Path: "x", Ref: v.Ref, Commit: v.Commit}
		case *[]lockkeeper.Artifact:
			*v = []lockkeeper.Artifact{otherApp}
		case *map[string]string:
			*v = map[string]string{"x": "y"}
		case *[]lockkeeper.Plan:
			*v = []lockkeeper.Plan{{Kind: "terraform", Digest: app.Digest}}
		default:
			t.Fatalf("nobody has said how %s may change", fields.Field(i).Name)
		}
		if now, err := changed.Digest(); err != nil || now == was {
			t.Errorf("another %s is the same ask: %v", fields.Field(i).Name, err)
		}
	}

	// The same job, of another commit, definition, event, attempt or run, claims nothing.
	for what, change := range map[string]func(*lockkeeper.Workload){
		"commit":            func(j *lockkeeper.Workload) { j.Commit.Value = strings.Repeat("2", 40) },
		"definition":        func(j *lockkeeper.Workload) { j.DefinitionCommit.Value = strings.Repeat("2", 40) },
		"definition's ref":  func(j *lockkeeper.Workload) { j.DefinitionRef.Value = "refs/heads/other" },
		"event":             func(j *lockkeeper.Workload) { j.Event.Value = "schedule" },
		"run":               func(j *lockkeeper.Workload) { j.Run.Value = "2" },
		"attempt":           func(j *lockkeeper.Workload) { j.Attempt = 2 },
		"reusable template": func(j *lockkeeper.Workload) { j.CalledCommit = lockkeeper.SignedFact(strings.Repeat("3", 40)) },
		"ref's protection":  func(j *lockkeeper.Workload) { j.RefProtected = lockkeeper.SignedFact("false") },
	} {
		j := c.job("1", "11", "production", "1001", 2*time.Second)
		change(&j)
		if err := c.claim("d-a", j, 2*time.Second); saying(err) != "ask_differs" {
			t.Errorf("a job of another %s: %v", what, err)
		}
	}
	// And asked for anew, each waits for approvals of its own.
	for what, change := range map[string]func(*openDeployment){
		"parameters": func(o *openDeployment) { o.Parameters = map[string]string{"region": "eu"} },
		"detached":   func(o *openDeployment) { o.Detached = true },
		"attempt":    func(o *openDeployment) { o.Job.Attempt, o.Job.RerunActor = 2, lockkeeper.SignedFact("1001") },
	} {
		id := "d-" + what
		j := c.job("1", "11", "production", "1001", 3*time.Second)
		must(t, c.askFor(id, j, change, 3*time.Second))
		o := openDeployment{Job: j}
		change(&o)
		if got := saying(c.claim(id, o.Job, 4*time.Second)); got != "approvals_missing" {
			t.Errorf("the same with other %s: %q", what, got)
		}
	}
	must(t, c.claimA(5*time.Second))
}

// Names are looked up when something is asked for, and never again: what moves under a
// name afterwards moves nothing of the ask, and what is claimed is what was approved.
func TestGates03NamesAreReadOnce(t *testing.T) {
	c := deployCore(t, rulesWith())
	c.waiting("1")
	c.approved()
	// The build stage records something else under the name, and the repository is renamed.
	j := c.job("9", "10", "", "1001", 2*time.Second)
	must(t, c.as(Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{otherApp}}, 2*time.Second))
	claimer := c.job("1", "11", "production", "1001", 3*time.Second)
	claimer.RepositoryName, claimer.ActorName = lockkeeper.SignedFact("acme/renamed"), lockkeeper.SignedFact("Ann the Second")
	// The branch has moved: the same ref is another commit's, and that job is another one.
	moved := claimer
	moved.TokenID, moved.Commit = lockkeeper.TokenIDOf("x", "moved"), lockkeeper.SignedFact(strings.Repeat("2", 40))
	want(t, c.claim("d-a", moved, 3*time.Second), "ask_differs")
	s, err := c.step(Caller{Workload: &claimer}, "", claimLease{Deployment: "d-a", Lease: "l-a", Job: claimer, Handle: HandleDigest("h")}, began.Add(3*time.Second))
	must(t, err)
	must(t, s.err)
	lease := s.events[len(s.events)-1].(*leaseGranted)
	if d := c.Deployments["d-a"]; d.Ask.Artifacts[0] != app || lease.Digest != d.Digest || len(lease.Artifacts) != 1 || lease.Artifacts[0] != app.Digest {
		t.Errorf("what was let through is %+v, and it was asked for %+v", lease.Artifacts, app)
	}

	// A run that its platform holds: what it records later is none of what it asked for.
	h := heldWaiting(t)
	j = h.job("1", "12", "", "1001", time.Second)
	must(t, h.as(Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{{Name: "late", Digest: otherApp.Digest}}}, time.Second))
	if got := h.Deployments["d-a"].Ask.Artifacts; len(got) != 1 || got[0] != app {
		t.Errorf("the held run's ask has become %v", got)
	}
}

// The broker gives credentials for a live, unspent lease to the job that holds it, with
// the handle it holds, and to nobody else: not before, not after, not to the next one.
// (The same over HTTP is TestGates04 in internal/web.)
func TestGates04OnlyTheHolder(t *testing.T) {
	c := deployCore(t, rulesWith("<lock>", "  - {name: one, lock: {mode: sequential}}\n"))
	c.waiting("1")
	want(t, c.tokenA(time.Second), "lease_missing")
	c.approved()
	thief := c.job("1", "11", "production", "1001", 2*time.Second)
	want(t, c.as(Caller{Workload: &thief}, claimLease{Deployment: "d-a", Lease: "l-x", Job: thief, Handle: HandleDigest("another")}, 2*time.Second), "handle_differs")
	must(t, c.claimA(2*time.Second))
	must(t, c.tokenA(3*time.Second))
	as := func(run, job, handle string, at time.Duration) error {
		j := c.job(run, job, "production", "1001", at)
		return c.as(Caller{Workload: &j}, grantToken{Deployment: "d-a", ID: "t-x", Job: j, Handle: HandleDigest(handle), Audience: "https://target.example"}, at)
	}
	want(t, as("1", "11", "another", 3*time.Second), "lease_of_another")
	want(t, as("1", "12", "h", 3*time.Second), "lease_of_another") // another job of the run
	want(t, as("2", "11", "h", 3*time.Second), "ask_differs")
	want(t, c.claim("d-a", c.job("1", "12", "production", "1001", 3*time.Second), 3*time.Second), "job_differs")
	want(t, as("1", "11", "h", 4*time.Minute+2*time.Second), "lease_ended")
	// The next one holds the environment: the first has no path back.
	at := 4*time.Minute + 3*time.Second
	must(t, c.open("d-b", c.job("2", "21", "production", "1001", at), "production", at))
	must(t, c.approve("bob", "d-b", at))
	must(t, c.approve("cat", "d-b", at))
	must(t, c.claim("d-b", c.job("2", "21", "production", "1001", at), at))
	want(t, as("1", "11", "h", at), "deployment_ended")
	must(t, c.token("d-b", c.job("2", "21", "production", "1001", at), at))
}
