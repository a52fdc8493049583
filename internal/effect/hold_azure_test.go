package effect

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/forge"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const checkedRules = `
{kind: User, name: eve, ids: [{provider: azure, id: a1111111-2222-3333-4444-555555555555}]}
---
{kind: User, name: system, automation: true, ids: [{provider: azure, id: 00000002-0000-8888-8000-000000000000}]}
---
{kind: Assignment, name: releases, role: release-manager, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: starts, role: deployer, principal: user:eve, scope: /projects/p}
---
{kind: Assignment, name: system, role: deployer, principal: user:system, scope: /projects/p}
---
{kind: Role, name: deployer, actions: [deployments/start]}
---
{kind: Group, name: approvers, users: [bob]}
---
{kind: Provider, name: azure, platform: azure, issuer: "https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555", api: %q, app: {}}
---
kind: Pipeline
name: release
project: p
provider: azure
organisation: 11111111-2222-3333-4444-555555555555
teamProject: 21111111-2222-3333-4444-555555555555
repository: 71111111-2222-3333-4444-555555555555
definition: "42"
stages:
  - name: build
    trust: {stage: Build, events: [individualCI], refs: [refs/heads/main]}
  - name: deploy
    trust: {stage: Deploy, events: [individualCI], refs: [refs/heads/main]}
  - name: smoke
    trust: {stage: Smoke, events: [individualCI], refs: [refs/heads/main]}
---
kind: Environment
name: live
project: p
tier: preproduction
heldBy: azure
checks: [{name: one, approval: {count: 1, groups: [approvers]}}]
---
{kind: Identity, name: live, project: p, environment: live, audiences: ["https://target.example"], stages: [release/deploy]}
---
{kind: Environment, name: trial, project: p, tier: preproduction, heldBy: azure}
---
{kind: Identity, name: trial, project: p, environment: trial, audiences: ["https://target.example"], stages: [release/smoke]}
`

// checked is a stage on which a check of Azure DevOps holds run 1234 before Deploy.
func checked(t *testing.T) (*stage, *lktest.AzureAPI) {
	t.Helper()
	z := lktest.NewAzureAPI(t, time.Now())
	z.Hold()
	z.Build("requestedBy", map[string]any{"id": "A1111111-2222-3333-4444-555555555555"})
	s := staged(t, fmt.Sprintf(checkedRules, z.URL))
	return s, z
}

func (s *stage) built(z *lktest.AzureAPI) {
	s.Helper()
	f := lockkeeper.SignedFact
	now := lockkeeper.MomentOf(time.Now())
	const issuer = "https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555"
	_, err := s.k.RecordArtifacts(context.Background(), lockkeeper.Workload{Provider: "azure", Platform: "azure", Issuer: issuer, TokenID: lockkeeper.TokenIDOf(issuer, now.String()),
		Issued: now, Expires: now.Add(5 * time.Minute), Organisation: f(z.Organisation), Project: f(z.Project), Pipeline: f("42"), Repository: f(z.Repository), Run: f("1234"), Attempt: 1, Job: f("j1"),
		Stage: f("Build"), Event: f("individualCI"), Ref: f("refs/heads/main"), Commit: f(z.Commit), Actor: f("a1111111-2222-3333-4444-555555555555"), QueuedBy: f("a1111111-2222-3333-4444-555555555555")},
		"", []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}})
	s.must(err)
}

// checks lets the check ask, and gives the id under which that is noted.
func (s *stage) checks(z *lktest.AzureAPI, more map[string]string) string {
	s.Helper()
	if more["Environment"] == "" {
		more = map[string]string{"Environment": "p/live", "Completion": more["Completion"], "PlanId": more["PlanId"]}
		if more["PlanId"] == "" {
			delete(more, "PlanId")
		}
	}
	m, err := forge.AzureAsking(z.URL, z.Organisation, z.Check(more))
	s.must(err)
	id, err := s.k.NoteCheck(context.Background(), keeper.HoldAsked{Provider: "azure", Organisation: m.Organisation, Repository: m.Repository, Place: m.Place, Run: m.Run,
		Environment: m.Environment, Mark: m.Mark, Check: keeper.HoldCheck(m.Check), Polled: m.Polled}, m.Access)
	s.must(err)
	return id
}

func (s *stage) answered(z *lktest.AzureAPI) lktest.AzureAnswer {
	s.Helper()
	s.comes("the answer", func() bool { return len(z.Answers()) > 0 && len(s.k.Holds()) == 0 })
	return z.Answers()[0]
}

// nowhere looks for what may stand nowhere: in no file but the sealed store, and there
// not as it is; in no log line, and nothing that the platform was told.
func (s *stage) nowhere(z *lktest.AzureAPI, secret string) {
	s.Helper()
	seen := strings.Contains(s.log.String(), secret) || strings.Contains(strings.Join(z.Lines(), "\n"), secret)
	s.must(filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		seen = seen || bytes.Contains(data, []byte(secret))
		return err
	}))
	if seen {
		s.Error("the access of the run stands in a file or in a log")
	}
}

// A check asks, a worker reads the run with what the check has brought, people approve,
// and another worker reads it again and answers.
func TestCheckOfAzure(t *testing.T) {
	s, z := checked(t)
	id := s.checks(z, nil)
	stop := s.holding()
	s.built(z)
	v := s.waiting()
	s.comes("a line", func() bool { return len(z.Lines()) == 1 })
	if again := s.checks(z, nil); again != id {
		t.Errorf("the message came again and is %s, not %s", again, id)
	}
	stop()
	s.nowhere(z, z.Access)
	s.holding()
	s.approve(v)
	if a := s.answered(z); a.Result != "succeeded" {
		t.Errorf("answered %+v", a)
	}
	last := z.Lines()[len(z.Lines())-1]
	for _, want := range []string{v.ID, id, string(v.Digest)} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line is %q, without %s", last, want)
		}
	}
	if _, err := s.k.HoldAccess(context.Background(), id); err == nil {
		t.Error("the access was not dropped with the answer")
	}
	if again := s.checks(z, nil); again != id || len(s.k.Holds()) != 0 {
		t.Error("the message came after the answer and asks anew")
	}
	if now, err := s.k.Deployment(context.Background(), dora, v.ID); err != nil || now.Status != keeper.Running || len(z.Answers()) != 1 {
		t.Errorf("the deployment is %v %v, and answered was %+v", now.Status, err, z.Answers())
	}
	s.nowhere(z, z.Access)
}

// The access outlives a restart, and what a crash after the answer has left is erased by
// the next start.
func TestCheckOfAzureRestart(t *testing.T) {
	s, z := checked(t)
	id := s.checks(z, nil)
	s.must(s.k.Close())
	s.open()
	s.built(z)
	stop := s.holding()
	v := s.waiting()
	s.approve(v)
	s.answered(z)
	stop()
	s.must(s.k.Close())
	sealed, err := journal.OpenSealed(context.Background(), s.dir)
	s.must(err)
	if _, err := sealed.Get(context.Background(), "hold-access", id); err == nil {
		t.Error("the access was not erased with the answer")
	}
	s.must(sealed.Put(context.Background(), "hold-access", id, []byte(z.Access)))
	s.must(sealed.Close())
	s.open()
	s.must(s.k.DropAccess(context.Background()))
	s.must(s.k.Close())
	sealed, err = journal.OpenSealed(context.Background(), s.dir)
	s.must(err)
	defer sealed.Close()
	if _, err := sealed.Get(context.Background(), "hold-access", id); err == nil {
		t.Error("what the crash has left was not erased")
	}
	s.open()
}

// What cannot be let through is answered with no, and says why.
func TestCheckOfAzureRefused(t *testing.T) {
	for name, c := range map[string]struct {
		ask    map[string]string
		change func(z *lktest.AzureAPI)
		says   string
	}{
		"the check of another environment": {ask: map[string]string{"Environment": "p/trial"}, says: "p/trial"},
		"two stages wait":                  {change: func(z *lktest.AzureAPI) { z.Hold("s3") }, says: "stage"},
		"another stage waits":              {change: func(z *lktest.AzureAPI) { z.Record("s2", "identifier", "Sneaky") }, says: "Sneaky"},
		"another branch":                   {change: func(z *lktest.AzureAPI) { z.Build("sourceBranch", "refs/heads/feature") }, says: "refs/heads/feature"},
		"another event":                    {change: func(z *lktest.AzureAPI) { z.Build("reason", "pullRequest") }, says: "pullRequest"},
		"another definition":               {change: func(z *lktest.AzureAPI) { z.Build("definition", map[string]any{"id": 43}) }, says: "definition"},
		"another repository":               {change: func(z *lktest.AzureAPI) { z.Build("repository", map[string]any{"id": "other"}) }, says: "not the one"},
		"another project":                  {change: func(z *lktest.AzureAPI) { z.Build("project", map[string]any{"id": "x"}) }, says: "not the one"},
		"a second attempt":                 {change: func(z *lktest.AzureAPI) { z.Record("s2", "attempt", 2) }, says: "re-ran"},
		"a service queued it": {change: func(z *lktest.AzureAPI) {
			z.Build("requestedBy", map[string]any{"id": "00000002-0000-8888-8000-000000000000"})
		}, says: "automation"},
		"somebody unknown started it": {change: func(z *lktest.AzureAPI) {
			z.Build("requestedFor", map[string]any{"id": "b1111111-2222-3333-4444-555555555555"})
		}, says: "b1111111"},
	} {
		s, z := checked(t)
		s.built(z)
		if c.change != nil {
			c.change(z)
		}
		s.checks(z, c.ask)
		stop := s.holding()
		if a := s.answered(z); a.Result != "failed" || !strings.Contains(strings.Join(z.Lines(), "\n"), c.says) {
			t.Errorf("%s: answered %+v: %q", name, a, z.Lines())
		}
		stop()
		s.k.Close()
	}
}

// An approver's no is the check's, and so is a release that finds another run than was
// asked for.
func TestCheckOfAzureRejected(t *testing.T) {
	for name, end := range map[string]func(s *stage, z *lktest.AzureAPI, v keeper.View){
		"an approver": func(s *stage, z *lktest.AzureAPI, v keeper.View) {
			s.must(s.k.Vote(context.Background(), bob, v.ID, false, v.Digest, "not today"))
		},
		"another stage waits at the release": func(s *stage, z *lktest.AzureAPI, v keeper.View) { z.Hold("s3"); s.approve(v) },
	} {
		s, z := checked(t)
		s.built(z)
		s.checks(z, nil)
		stop := s.holding()
		v := s.waiting()
		stop()
		end(s, z, v)
		stop = s.holding()
		if a := s.answered(z); a.Result != "failed" {
			t.Errorf("%s: answered %+v", name, a)
		}
		stop()
	}
}

// The platform skipped the stage, or takes the access no more: nothing is let through,
// and nobody is told for ever.
func TestCheckOfAzureGone(t *testing.T) {
	for name, gone := range map[string]func(s *stage, z *lktest.AzureAPI){
		"skipped": func(s *stage, z *lktest.AzureAPI) { z.Skip() },
		"ended":   func(s *stage, z *lktest.AzureAPI) { z.Ends() },
		"old":     func(s *stage, z *lktest.AzureAPI) { s.ahead.Store(int64(49 * time.Hour)) },
	} {
		s, z := checked(t)
		s.built(z)
		s.checks(z, nil)
		stop := s.holding()
		v := s.waiting()
		stop()
		gone(s, z)
		if name != "old" { // a day is over by then, and so is what was approved
			s.approve(v)
		}
		s.holding()
		s.comes("the end", func() bool {
			now, err := s.k.Deployment(context.Background(), dora, v.ID)
			s.must(err)
			return now.Status != keeper.Waiting && len(s.k.Holds()) == 0
		})
		if now, _ := s.k.Deployment(context.Background(), dora, v.ID); now.Status == keeper.Running || len(z.Answers()) != 0 {
			t.Errorf("%s: %v, answered %+v", name, now.Status, z.Answers())
		}
	}
}

// An answer that failed is given again, and one that failed and had happened is found to
// be there.
func TestCheckOfAzureAnswerFails(t *testing.T) {
	for name, status := range map[string]int{"failed": 502, "failed but happened": -502} {
		s, z := checked(t)
		s.built(z)
		s.checks(z, nil)
		stop := s.holding()
		v := s.waiting()
		s.comes("a line", func() bool { return len(z.Lines()) == 1 })
		z.Fails(status)
		s.approve(v)
		s.comes("the missed answer", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Missed != nil })
		stop()
		z.Fails(0)
		s.holding()
		if a := s.answered(z); len(z.Answers()) != 1 || a.Result != "succeeded" {
			t.Errorf("%s: answered %+v", name, z.Answers())
		}
	}
}

// The access goes to the catalog's address only: not after a redirect, and not to where
// machines are told their own credentials.
func TestCheckOfAzureElsewhere(t *testing.T) {
	var calls atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer other.Close()
	s, z := checked(t)
	s.built(z)
	z.Away(other.URL)
	s.checks(z, nil)
	s.holding()
	s.comes("a missed look", func() bool { return strings.Contains(s.log.String(), "platform_refused") })
	if calls.Load() != 0 {
		t.Error("a redirect was followed")
	}
	for _, api := range []string{"http://169.254.169.254/acme", "http://[fe80::1]/acme", "http://168.63.129.16/acme"} {
		client := &forge.Azure{API: api, Client: notInside(), Access: func(context.Context, string) (string, error) { return "x", nil }}
		start := time.Now()
		if _, err := client.Look(context.Background(), forge.Asking{Run: "1"}); codeOf(err) != "platform_unreachable" || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %v", api, err)
		}
	}
}

// A check that takes its answer when it asks gets the same decisions.
func TestCheckOfAzurePolled(t *testing.T) {
	s, z := checked(t)
	s.built(z)
	polled := map[string]string{"Completion": "ApiResponse"}
	w := NewHoldWorker(s.k, s.secrets, nil)
	poll := func(plan string) keeper.HoldReply {
		t.Helper()
		polled["PlanId"] = plan
		r, err := s.k.PollHold(context.Background(), s.checks(z, polled), func(ctx context.Context) (lockkeeper.Workload, bool, error) {
			return w.ReadHeld(ctx, s.k.HeldRuns(dora)[0].Asked, z.Access)
		})
		s.must(err)
		return r
	}
	const one, two, three = "91111111-2222-3333-4444-555555555555", "92111111-2222-3333-4444-555555555555", "93111111-2222-3333-4444-555555555555"
	first := poll(one)
	if first.Decided || first.Deployment != "" {
		t.Fatalf("answered %+v", first)
	}
	z.Ends() // the next evaluation brings another access, and the first one counts no more
	if r := poll(two); r.Hold != first.Hold {
		t.Errorf("asked again: %+v", r)
	}
	stop := s.holding()
	v := s.waiting()
	if r := poll(two); r.Decided || r.Deployment != v.ID || r.Digest != v.Digest || r.Hold != first.Hold || !strings.Contains(r.Reason, "0 of 1 approvals") {
		t.Errorf("answered %+v", r)
	}
	stop()
	s.approve(v)
	stop = s.holding()
	s.comes("the release", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Owed != nil })
	stop()
	// A yes is for the stage that was let through, and for no other one that asks by then.
	z.Hold("s3")
	if r := poll(one); r.Approve || !r.Decided {
		t.Errorf("two stages wait, and the answer is %+v", r)
	}
	z.Hold()
	z.Record("s2", "identifier", "Sneaky")
	if r := poll(one); r.Approve || !r.Decided {
		t.Errorf("another stage waits, and the answer is %+v", r)
	}
	z.Record("s2", "identifier", "Deploy")
	z.SetStatus(500)
	if r := poll(one); r.Decided {
		t.Errorf("the run cannot be read, and the answer is %+v", r)
	}
	z.SetStatus(0)
	s.holding()
	var r keeper.HoldReply
	s.comes("the yes", func() bool { r = poll(three); return r.Decided })
	if !r.Approve || r.Digest != v.Digest || len(z.Answers()) != 0 || len(s.k.Holds()) != 0 {
		t.Errorf("answered %+v, and by callback %+v", r, z.Answers())
	}
	if again := poll(three); again != r {
		t.Errorf("asked again: %+v", again)
	}
	if _, err := s.k.HoldAccess(context.Background(), r.Hold); err == nil {
		t.Error("the access was not dropped with the answer")
	}
	z.Record("s2", "identifier", "Sneaky")
	if after := poll(one); !after.Decided || after.Approve {
		t.Errorf("another stage asks afterwards: %+v", after)
	}
	z.Record("s2", "identifier", "Deploy")
	s.must(s.k.RevokeLease(context.Background(), dora, v.ID, "why"))
	if after := poll(one); !after.Decided || after.Approve {
		t.Errorf("after the lease was taken: %+v", after)
	}
	s.nowhere(z, z.Access)
}

// A yes that the platform never came for is not kept, once its run is over.
func TestCheckOfAzureNeverPolled(t *testing.T) {
	s, z := checked(t)
	s.built(z)
	s.checks(z, map[string]string{"Completion": "ApiResponse"})
	stop := s.holding()
	v := s.waiting()
	s.approve(v)
	s.comes("the yes", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Owed != nil })
	stop()
	z.Skip()
	s.holding()
	s.comes("the end", func() bool { return len(s.k.HeldRuns(dora)) == 1 && !s.k.HeldRuns(dora)[0].Told.IsZero() })
}
