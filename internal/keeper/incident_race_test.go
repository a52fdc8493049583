package keeper

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// TestIncidentAgainstEverybody opens an incident while many ask for tokens, for
// deployments and for sessions. Nothing of what it stops is obtained by anybody who
// asks after it is declared, and none of it stands behind it in the journal.
func TestIncidentAgainstEverybody(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	now := lockkeeper.MomentOf(time.Now())
	artifacts := []lockkeeper.Artifact{app}
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, now), "", artifacts)
	must(t, err)
	job := workload(2, "1", "11", "production", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: artifacts, Handle: HandleDigest("h")})
	must(t, err)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
	must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""))
	must(t, k.Claim(ctx, job, id, "h"))
	_, err = k.Exchange(ctx, job, id, "h", "https://target.example")
	must(t, err)

	var declared atomic.Bool
	var before atomic.Int64
	var all sync.WaitGroup
	ask := func(what string, f func(n int) error) {
		all.Go(func() {
			for n, again := 0, 0; again < 20; n++ { // once it is declared, each asks twenty times more
				late := declared.Load()
				if late {
					again++
				}
				err := f(n)
				if err == nil && late {
					t.Errorf("%s was obtained after the incident was declared", what)
					return
				}
				if err == nil {
					before.Add(1)
				}
			}
		})
	}
	for i := range 4 {
		ask("a token", func(int) error {
			_, err := k.Exchange(ctx, job, id, "h", "https://target.example")
			return err
		})
		ask("a deployment", func(n int) error {
			j := workload(1000+1000*i+n, fmt.Sprint(100+i), "11", "test", "1001", "push", 1, now)
			d, err := k.OpenDeployment(ctx, j, "", OpenDeployment{Environment: "test", Artifacts: artifacts, Handle: HandleDigest("h")})
			if err == nil {
				k.Cancel(ctx, Caller{Holder: d}, d, "")
			}
			return err
		})
		ask("a heartbeat", func(int) error {
			_, err := k.Renew(ctx, id, "h")
			return err
		})
		ask("a question about one's rights", func(int) error {
			if d, err := k.Can(Caller{User: "ann"}, "ann", lockkeeper.ApproveDeployments, "/projects/payments"); err != nil || d.Verdict != lockkeeper.Pass {
				return fmt.Errorf("no right: %w", err)
			}
			return nil
		})
	}
	for before.Load() < 200 {
		runtime.Gosched()
	}
	cut, err := k.DeclareIncident(ctx, Caller{User: "dora"}, "", OpenIncident{Title: "ann's key is out", Quarantine: []string{"user:ann"}})
	must(t, err)
	declared.Store(true)
	all.Wait()
	if len(cut.Revoked) != 1 || len(cut.Outside) == 0 {
		t.Errorf("the incident cut %+v", cut)
	}
	open := false
	for stored, err := range k.journal.Entries(ctx, 0, 0) {
		must(t, err)
		e, body, err := readEntry(stored.Data)
		must(t, err)
		switch body.(type) {
		case *incidentOpened:
			open = true
		case *tokenGranted, *leaseGranted, *leaseRenewed, *deploymentOpened, *deploymentApproved:
			if open {
				t.Errorf("entry %d (%s) stands behind the incident", e.Seq, e.Kind)
			}
		}
	}
	if !open {
		t.Error("the journal has no incident")
	}
}

// TestIncidentStandsBeforeOthers puts thousands of asks before the writer and then
// declares an incident: it waits for the batch that is being written and for nobody
// else.
func TestIncidentStandsBeforeOthers(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	k.mu.RLock()
	credential := k.state.Accounts["dora"].Credential
	k.mu.RUnlock()
	const asks = 3000
	var last *request
	for n := range asks {
		last = &request{cmd: startSession{Session: Session{ID: fmt.Sprint("s-", n), User: "dora", Secret: "x"}, Credential: credential}, reply: make(chan step, 1)}
		k.queue <- last
	}
	_, err := k.DeclareIncident(ctx, Caller{User: "dora"}, "", OpenIncident{Title: "x", Quarantine: []string{"user:bob"}})
	must(t, err)
	if s := <-last.reply; s.err != nil {
		t.Fatal(s.err)
	}
	before, open := 0, false
	for stored, err := range k.journal.Entries(ctx, 0, 0) {
		must(t, err)
		_, body, err := readEntry(stored.Data)
		must(t, err)
		switch body.(type) {
		case *incidentOpened:
			open = true
		case *sessionStarted:
			if !open {
				before++
			}
		}
	}
	if !open || before > 2*maxBatch {
		t.Errorf("%d of %d asks stood before the incident (%v)", before, asks, open)
	}
}
