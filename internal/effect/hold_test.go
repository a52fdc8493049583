package effect

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const heldRules = `
{kind: User, name: eve, ids: [{provider: github, id: "1001"}]}
---
{kind: Assignment, name: releases, role: release-manager, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: starts, role: deployer, principal: user:eve, scope: /projects/p}
---
{kind: Role, name: deployer, actions: [deployments/start]}
---
{kind: Group, name: approvers, users: [bob]}
---
{kind: Provider, name: github, platform: github, issuer: "https://ci.example", api: %q, app: {id: "77"}}
---
kind: Pipeline
name: release
project: p
provider: github
organisation: "7001"
repository: "8001"
definition: .github/workflows/release.yml
stages:
  - name: build
    trust: {events: [push], refs: [refs/heads/main]}
  - name: deploy
    trust: {environment: production, selfHosted: true, events: [push], refs: [refs/heads/main]}
---
kind: Environment
name: live
project: p
tier: preproduction
heldBy: github
checks: [{name: one, approval: {count: 1, groups: [approvers]}}]
---
{kind: Identity, name: live, project: p, environment: live, audiences: ["https://target.example"], stages: [release/deploy]}
`

// held is a stage on which GitHub can hold runs.
func held(t *testing.T) (*stage, *lktest.GitHubAPI) {
	t.Helper()
	g := lktest.NewGitHubAPI(t)
	s := staged(t, fmt.Sprintf(heldRules, g.URL))
	s.secret("app@github.key", string(g.Key))
	s.secret("app@github.secret", g.Secret)
	return s, g
}

func (s *stage) recorded(g *lktest.GitHubAPI) {
	s.Helper()
	f := lockkeeper.SignedFact
	now := lockkeeper.MomentOf(time.Now())
	_, err := s.k.RecordArtifacts(context.Background(), lockkeeper.Workload{Provider: "github", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", now.String()),
		Issued: now, Expires: now.Add(5 * time.Minute), Organisation: f("7001"), Repository: f("8001"), Run: f("30433642"), Attempt: 1, Job: f("10"), Event: f("push"), Ref: f("refs/heads/main"),
		Commit: f(g.Commit), Runner: f("hosted"), DefinitionPath: f(".github/workflows/release.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f(g.Commit), Actor: f("1001")},
		"", []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}})
	s.must(err)
}

func (s *stage) note(mark string) {
	s.Helper()
	_, err := s.k.NoteHold(context.Background(), keeper.HoldAsked{Provider: "github", Organisation: "7001", Repository: "8001", Place: "acme/payments", Run: "30433642", Environment: "production", Installation: "9", Mark: mark})
	s.must(err)
}

// holding lets a worker run until stop is called, or the test ends.
func (s *stage) holding() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w := NewHoldWorker(s.k, s.secrets, slog.New(slog.NewTextHandler(&s.log, nil)))
	go func() {
		w.Run(ctx)
		close(done)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	s.Cleanup(stop)
	return stop
}

// comes waits until something is so.
func (s *stage) comes(what string, so func() bool) {
	s.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !so() {
		changed := s.k.Changed()
		if time.Now().After(deadline) {
			s.Fatalf("%s does not come\n%s", what, s.log.String())
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// waiting is the one deployment that waits.
func (s *stage) waiting() (v keeper.View) {
	s.Helper()
	s.comes("a deployment", func() bool {
		list, err := s.k.Deployments(context.Background(), dora, keeper.Filter{})
		s.must(err)
		if len(list) > 0 {
			v = list[0]
		}
		return len(list) > 0
	})
	return v
}

func (s *stage) approve(v keeper.View) {
	s.Helper()
	s.must(s.k.Vote(context.Background(), bob, v.ID, true, v.Digest, ""))
}

// The platform asks, a worker reads the run, people approve, another worker reads it
// again and tells the platform, and the run's end ends the deployment.
func TestHoldThroughGitHub(t *testing.T) {
	s, g := held(t)
	s.recorded(g)
	s.note("501")
	stop := s.holding()
	v := s.waiting()
	s.comes("a status line", func() bool { return len(g.Reviews(false)) == 1 })
	stop()
	stop = s.holding()
	s.approve(v)
	s.comes("the answer", func() bool { h := s.k.Holds(); return len(h) == 1 && !h[0].Told.IsZero() })
	if a := g.Reviews(true)[0]; a.State != "approved" || a.Environment != "production" || !strings.Contains(a.Comment, v.ID) {
		t.Errorf("told %+v", a)
	}
	stop()
	g.Run("status", "completed")
	g.Run("conclusion", "failure")
	s.holding()
	s.comes("the end", func() bool {
		now, err := s.k.Deployment(context.Background(), dora, v.ID)
		s.must(err)
		return now.Status == keeper.Failed
	})
	s.secretless(g.Secret, string(g.Key), "ghs_")
}

// What is not let through is told no; so is what cannot be placed.
func TestHoldRejectedOnGitHub(t *testing.T) {
	s, g := held(t)
	s.recorded(g)
	s.holding()
	s.note("501")
	v := s.waiting()
	s.must(s.k.Vote(context.Background(), bob, v.ID, false, v.Digest, "not today"))
	s.comes("the answer", func() bool { return len(g.Reviews(true)) == 1 })
	if a := g.Reviews(true)[0]; a.State != "rejected" || !strings.Contains(a.Comment, "not today") {
		t.Errorf("told %+v", a)
	}
	// A message of before, and a new one about a run of a branch that nobody admits.
	s.note("501")
	g.Run("head_branch", "feature")
	g.Ref("heads/feature", g.Commit)
	g.Run("run_attempt", 2)
	g.Waits("production")
	s.note("502")
	s.comes("the second answer", func() bool { return len(g.Reviews(true)) == 2 })
	if a := g.Reviews(true)[1]; a.State != "rejected" || !strings.Contains(a.Comment, "refs/heads/feature") {
		t.Errorf("told %+v", a)
	}
}

// A run that was cancelled while it waited is told nothing, and its approvals let
// nothing through.
func TestHoldGone(t *testing.T) {
	s, g := held(t)
	s.recorded(g)
	s.note("501")
	stop := s.holding()
	v := s.waiting()
	stop()
	g.Waits()
	s.approve(v)
	s.holding()
	s.comes("the end", func() bool {
		now, err := s.k.Deployment(context.Background(), dora, v.ID)
		s.must(err)
		return now.Status == keeper.Cancelled
	})
	if len(g.Reviews(true)) != 0 || len(s.k.Holds()) != 0 {
		t.Errorf("told %+v, and to do %+v", g.Reviews(true), s.k.Holds())
	}
}

// An answer that failed, and one that failed but arrived, are given again until they are
// known to be there (at least once), by whichever worker.
func TestHoldAnswerFails(t *testing.T) {
	for name, status := range map[string]int{"failed": 502, "failed but happened": -502} {
		s, g := held(t)
		s.recorded(g)
		s.note("501")
		stop := s.holding()
		v := s.waiting()
		s.comes("a status line", func() bool { return len(g.Reviews(false)) == 1 })
		g.Fails("POST", status)
		s.approve(v)
		s.comes("the missed answer", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Missed != nil })
		if h := s.k.Holds()[0]; h.Missed.Code != "platform_refused" || h.Verb != keeper.TellHold {
			t.Errorf("%s: %+v", name, h)
		}
		stop()
		g.Fails("POST", 0)
		s.holding()
		s.comes("the answer", func() bool { h := s.k.Holds(); return len(h) == 1 && !h[0].Told.IsZero() })
		if a := g.Reviews(true); len(a) != 1 || a[0].State != "approved" {
			t.Errorf("%s: told %+v", name, a)
		}
	}
}

// A yes that was not given when its lease was taken is never given.
func TestHoldRevokedBeforeTold(t *testing.T) {
	s, g := held(t)
	s.recorded(g)
	s.note("501")
	stop := s.holding()
	v := s.waiting()
	s.comes("a status line", func() bool { return len(g.Reviews(false)) == 1 })
	g.Fails("POST", 502)
	s.approve(v)
	s.comes("the missed answer", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Missed != nil })
	stop()
	s.must(s.k.RevokeLease(context.Background(), dora, v.ID, "why"))
	g.Fails("POST", 0)
	s.holding()
	s.comes("the answer", func() bool { return len(g.Reviews(true)) > 0 })
	if a := g.Reviews(true); len(a) != 1 || a[0].State != "rejected" {
		t.Errorf("told %+v", a)
	}
}
