package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// saw reports as the watching stage, in a job of its own.
func (c *deploying) saw(job, env string, list []lockkeeper.Artifact, at time.Duration) (sighted, error) {
	c.t.Helper()
	j := c.job(job, "1", "", "1001", at)
	j.Repository = lockkeeper.SignedFact("8002")
	j.DefinitionPath = lockkeeper.SignedFact("watch.yml")
	s, err := c.step(Caller{Workload: &j}, "", reportRunning{Job: j, Environment: env, Artifacts: list}, began.Add(at))
	must(c.t, err)
	answer, _ := s.answer.(sighted)
	return answer, s.err
}

// What runs and was not let in is found, with since when; and it is found no more once
// it matches again, by itself.
func TestRunsSomethingElse(t *testing.T) {
	c := deployCore(t, chain())
	one := lockkeeper.Scope("/projects/payments/environments/one")
	strange := func(env string, list []lockkeeper.Artifact, at time.Duration, want ...lockkeeper.Artifact) {
		t.Helper()
		r, err := c.saw("w1", env, list, at)
		must(t, err)
		if !slices.Equal(r.Strange, want) || !slices.Equal(c.place(one).strange(), want) {
			t.Errorf("at %s strange are %v, want %v; the place says %v", at, r.Strange, want, c.place(one).strange())
		}
	}
	x, y := artifacts("a"), artifacts("b")
	strange("one", x, 0, x...) // nothing was let in
	c.through("d-1", "one", "", x, time.Minute)
	if s := c.place(one).strange(); len(s) != 0 {
		t.Errorf("what was let in is strange: %v", s)
	}
	strange("one", x, 2*time.Minute)
	strange("one", artifacts("a", "b"), 3*time.Minute, lockkeeper.Artifact{Name: "xb", Digest: y[0].Digest})
	strange("one", []lockkeeper.Artifact{{Name: "other-name", Digest: x[0].Digest}}, 4*time.Minute) // names are not compared
	must(t, c.into("d-2", "one", "", y, 5*time.Minute))
	strange("one", artifacts("a", "b"), 6*time.Minute) // both may run while it runs
	c.done("d-2", 1, 7*time.Minute)
	strange("one", y, 8*time.Minute) // it failed, and was let in
	c.through("d-3", "one", "", x, 9*time.Minute)
	if s := c.place(one).strange(); !slices.Equal(s, y) {
		t.Errorf("what was deployed over runs still, and is not found: %v", s)
	}
	if seen := c.place(one).Seen; seen.Since != began.Add(8*time.Minute) {
		t.Errorf("seen since %s", seen.Since)
	}
	for i := range 20 { // what is let in is remembered within bounds, the last success always
		id := "d-x" + string(rune('a'+i))
		must(t, c.into(id, "one", "", artifacts(id), 10*time.Minute))
		c.done(id, 1, 10*time.Minute)
	}
	strange("one", x, 11*time.Minute)
	if n := len(c.place(one).Let); n != maxLet {
		t.Errorf("%d releases are remembered", n)
	}
}

// Who says what runs, and how often it is written down.
func TestWhoReportsRunning(t *testing.T) {
	c := deployCore(t, chain())
	_, err := c.saw("w1", "two", app1, 0)
	want(t, err, "running_not_yours")
	_, err = c.saw("w1", "nowhere", app1, 0)
	want(t, err, "environment_unknown")
	_, err = c.saw("w1", "one", nil, 0)
	want(t, err, "artifacts_malformed")
	j := c.job("9", "1", "test", "1001", 0)
	want(t, c.as(Caller{Workload: &j}, reportRunning{Job: j, Environment: "one", Artifacts: app1}, 0), "running_not_yours") // a stage that deploys
	j.Repository = lockkeeper.SignedFact("666")
	if err := c.as(Caller{Workload: &j}, reportRunning{Job: j, Environment: "one", Artifacts: app1}, 0); err == nil {
		t.Error("a stranger reports")
	}

	size := c.Size
	for i := range 50 {
		_, err := c.saw("w1", "one", app1, time.Duration(i)*time.Minute)
		must(t, err)
	}
	if c.Size != size+1 {
		t.Errorf("50 equal reports are %d entries", c.Size-size)
	}
	_, err = c.saw("w1", "one", app1, time.Hour)
	must(t, err)
	if seen := c.place("/projects/payments/environments/one").Seen; c.Size != size+2 || seen.At != began.Add(time.Hour) || seen.Since != began {
		t.Errorf("%+v", seen)
	}
	// One token may say it again, and nothing else; a token of something else may not.
	j = c.job("w2", "1", "", "1001", time.Hour)
	j.Repository, j.DefinitionPath = lockkeeper.SignedFact("8002"), lockkeeper.SignedFact("watch.yml")
	report := reportRunning{Job: j, Environment: "last", Artifacts: app1}
	must(t, c.as(Caller{Workload: &j}, report, time.Hour))
	report.Artifacts = artifacts("b")
	must(t, c.as(Caller{Workload: &j}, report, time.Hour))
	want(t, c.as(Caller{Workload: &j}, recordArtifacts{j, app1}, time.Hour), "token_replayed")
	other := j
	other.Job = lockkeeper.SignedFact("2")
	report.Job, report.Artifacts = other, app1
	want(t, c.as(Caller{Workload: &other}, report, time.Hour), "token_replayed")
	// An incident that stops the pipeline stops its word.
	must(t, c.user("dora", openIncident{ID: "i-1", Title: "x", Freeze: []lockkeeper.Scope{"/projects/payments/pipelines/watch"}}, time.Hour))
	if _, err := c.saw("w3", "one", artifacts("c"), time.Hour); err == nil || !strings.Contains(err.Error(), "incident") {
		t.Errorf("it says what runs, although it is stopped: %v", err)
	}
}
