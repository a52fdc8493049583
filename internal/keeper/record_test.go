package keeper

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// TestInvariant10: a record speaks for an artifact up to its age at the release.
// It may grow too old while an ask waits; a longer age helps no ask that is open,
// a shorter one holds at once, and nothing grows older once it runs.
func TestInvariant10(t *testing.T) {
	aged := func(age string) *Rules { return mustRules(t, rulesWith("<age>", "recordAge: "+age+"\n")) }
	c := &core{world: world{State: newState(), rules: aged("1h")}}
	at, n := began, 0
	try := func(by Caller, cmd command, code string) {
		t.Helper()
		out, err := c.step(by, "", cmd, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := codeOf(out.err); code == "" && out.err != nil || code != "" && got != code {
			t.Fatalf("%s at %s: %v, want %q", cmd.name(), at, out.err, code)
		}
	}
	job := func(run, environment string) lockkeeper.Workload {
		n++
		return workload(n, run, "10", environment, "1001", "push", 1, at)
	}
	record := func() {
		t.Helper()
		j := job("1", "")
		try(Caller{Workload: &j}, recordArtifacts{j, []lockkeeper.Artifact{app}}, "")
	}
	open := func(id, run, code string) {
		t.Helper()
		j := job(run, "production")
		try(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, code)
		for _, user := range []string{"bob", "cat"} {
			if code == "" {
				try(Caller{User: user}, vote{Deployment: id, Approve: true, Digest: c.Deployments[id].Digest}, "")
			}
		}
	}
	claim := func(id, run, code string) {
		t.Helper()
		j := job(run, "production")
		try(Caller{Workload: &j}, claimLease{Deployment: id, Lease: "l", Job: j, Handle: HandleDigest("h")}, code)
	}
	token := func(id, run, code string) {
		t.Helper()
		j := job(run, "production")
		try(Caller{Workload: &j}, grantToken{Deployment: id, ID: "t", Job: j, Handle: HandleDigest("h"), Audience: "https://target.example"}, code)
	}
	if err := c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"},
		&accountEnrolled{User: "bob", Credential: "p"}, &accountEnrolled{User: "cat", Credential: "p"}}, at); err != nil {
		t.Fatal(err)
	}

	record()
	at = at.Add(50 * time.Minute)
	open("d-1", "1", "")
	at = at.Add(10 * time.Minute)
	claim("d-1", "1", "artifact_stale")
	open("d-2", "2", "artifact_stale")
	c.rules = aged("5h")
	claim("d-1", "1", "artifact_stale")
	open("d-3", "3", "")
	claim("d-3", "3", "")
	record() // built again
	at = at.Add(time.Minute)
	claim("d-1", "1", "")
	token("d-1", "1", "")
	c.rules = aged("1m")
	token("d-1", "1", "artifact_stale")
	c.rules = aged("2m")
	at = at.Add(2 * time.Minute)
	token("d-1", "1", "") // it was a minute old at the release
}
