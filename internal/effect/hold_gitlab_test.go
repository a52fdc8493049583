package effect

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const blockedRules = `
{kind: User, name: eve, ids: [{provider: gitlab, id: "1001"}]}
---
{kind: Assignment, name: releases, role: release-manager, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: starts, role: deployer, principal: user:eve, scope: /projects/p}
---
{kind: Role, name: deployer, actions: [deployments/start]}
---
{kind: Group, name: approvers, users: [bob]}
---
{kind: Provider, name: gitlab, platform: gitlab, issuer: "https://gitlab.example.com", api: %q, app: {id: "77"}}
---
kind: Pipeline
name: web
project: p
provider: gitlab
organisation: "72"
repository: "20"
definition: .gitlab-ci.yml
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
heldBy: gitlab
checks: [{name: one, approval: {count: 1, groups: [approvers]}}, {name: main, branches: {allowed: [refs/heads/main], protected: true}}]
---
{kind: Identity, name: live, project: p, environment: live, audiences: ["https://target.example"], stages: [web/deploy]}
`

// blocked is a stage on which GitLab blocks deployments.
func blocked(t *testing.T) (*stage, *lktest.GitLabAPI) {
	t.Helper()
	g := lktest.NewGitLabAPI(t)
	s := staged(t, fmt.Sprintf(blockedRules, g.URL))
	s.secret("app@gitlab.key", string(g.Key))
	s.secret("app@gitlab.secret", g.Secret)
	return s, g
}

// gitlabJob is a job of the pipeline with its own token.
func gitlabJob(g *lktest.GitLabAPI, job, environment string) lockkeeper.Workload {
	f := lockkeeper.SignedFact
	now := lockkeeper.MomentOf(time.Now())
	j := lockkeeper.Workload{Provider: "gitlab", Platform: "gitlab", Issuer: "https://gitlab.example.com", TokenID: lockkeeper.TokenIDOf("https://gitlab.example.com", job+now.String()),
		Issued: now, Expires: now.Add(5 * time.Minute), Organisation: f("72"), Repository: f("20"), RepositoryName: f("acme/pay/ments"), Run: f("574"), Attempt: 1, Job: f(job), Event: f("push"),
		Ref: f("refs/heads/main"), RefType: f("branch"), RefProtected: f("true"), Commit: f(g.Commit), Runner: f("hosted"), DefinitionPath: f(".gitlab-ci.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f(g.Commit), Actor: f("1001")}
	if environment != "" {
		j.Environment = f(environment)
	}
	return j
}

func (s *stage) builtOnGitLab(g *lktest.GitLabAPI) {
	s.Helper()
	_, err := s.k.RecordArtifacts(context.Background(), gitlabJob(g, "301", ""), "", []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}})
	s.must(err)
}

func (s *stage) blocks(job string) {
	s.Helper()
	_, err := s.k.NoteHold(context.Background(), keeper.HoldAsked{Provider: "gitlab", Repository: "20", Place: "acme/pay/ments", Environment: "production", Mark: job})
	s.must(err)
}

func (s *stage) ends(id string, as keeper.Status) {
	s.Helper()
	s.comes("the end", func() bool {
		now, err := s.k.Deployment(context.Background(), dora, id)
		s.must(err)
		return now.Status == as
	})
}

// GitLab blocks, a worker reads, people approve, another worker reads again and approves
// on GitLab, somebody lets the job begin, and it joins for what was let through.
func TestHoldThroughGitLab(t *testing.T) {
	s, g := blocked(t)
	s.builtOnGitLab(g)
	s.blocks("302")
	stop := s.holding()
	v := s.waiting()
	if v.Ask.Run != "574" || v.Ask.Ref != "refs/heads/main" || v.Ask.Protected != lockkeeper.RefIsProtected {
		t.Errorf("asked for %+v", v.Ask)
	}
	stop()
	stop = s.holding()
	s.approve(v)
	s.comes("the answer", func() bool { h := s.k.Holds(); return len(h) == 1 && !h[0].Told.IsZero() })
	if a := g.Approvals(); len(a) != 1 || a[0].Status != "approved" || !strings.Contains(a[0].Comment, v.ID) {
		t.Errorf("told %+v", a)
	}
	stop()
	g.Plays("running", "running")
	_, err := s.k.OpenDeployment(context.Background(), gitlabJob(g, "302", "production"), "", keeper.OpenDeployment{Environment: "live", Handle: keeper.HandleDigest("h"),
		Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}})
	s.must(err)
	if list := s.k.HeldRuns(dora); len(list) != 1 || !list[0].Joined {
		t.Errorf("held: %+v", list)
	}
	s.secretless(g.Secret, string(g.Key))
}

// A job that asks for nothing ends its deployment with its own end on GitLab.
func TestHoldFollowedOnGitLab(t *testing.T) {
	s, g := blocked(t)
	s.builtOnGitLab(g)
	s.blocks("302")
	stop := s.holding()
	v := s.waiting()
	s.approve(v)
	s.comes("the answer", func() bool { h := s.k.Holds(); return len(h) == 1 && !h[0].Told.IsZero() })
	stop()
	g.Plays("failed", "failed")
	s.holding()
	s.ends(v.ID, keeper.Failed)
}

// What is not let through is told no, which fails the job; so is what cannot be placed.
func TestHoldRejectedOnGitLab(t *testing.T) {
	s, g := blocked(t)
	s.builtOnGitLab(g)
	s.holding()
	s.blocks("302")
	v := s.waiting()
	s.must(s.k.Vote(context.Background(), bob, v.ID, false, v.Digest, "not today"))
	s.comes("the answer", func() bool { return len(g.Approvals()) == 1 })
	if a := g.Approvals()[0]; a.Status != "rejected" || !strings.Contains(a.Comment, "not today") {
		t.Errorf("told %+v", a)
	}
	for name, change := range map[string]func(g *lktest.GitLabAPI){
		"another branch": func(g *lktest.GitLabAPI) {
			g.Set("pipeline", "ref", "x")
			g.Set("job", "ref", "x")
			g.Set("deployment", "ref", "x")
			g.Ref("branches/x", true)
		},
		"another group": func(g *lktest.GitLabAPI) {
			g.Set("project", "namespace", map[string]any{"id": 73, "full_path": "evil"})
		},
		"an unknown actor": func(g *lktest.GitLabAPI) { g.Set("job", "user", map[string]any{"id": 4711, "username": "x"}) },
		"unprotected":      func(g *lktest.GitLabAPI) { g.Ref("branches/main", false) },
	} {
		s, g := blocked(t)
		s.builtOnGitLab(g)
		change(g)
		s.blocks("302")
		s.holding()
		s.comes("the answer for "+name, func() bool { return len(g.Approvals()) == 1 })
		if a := g.Approvals()[0]; a.Status != "rejected" || a.Comment == "" {
			t.Errorf("%s: told %+v", name, a)
		}
	}
}

// An answer that failed, and one that failed but arrived, are given again until they are
// known to be there, and count once on GitLab.
func TestHoldAnswerFailsOnGitLab(t *testing.T) {
	for name, status := range map[string]int{"failed": 502, "failed but happened": -502} {
		s, g := blocked(t)
		g.Requires(2)
		s.builtOnGitLab(g)
		s.blocks("302")
		stop := s.holding()
		v := s.waiting()
		g.Fails("POST", status)
		s.approve(v)
		s.comes("the missed answer", func() bool { h := s.k.Holds(); return len(h) == 1 && h[0].Missed != nil })
		stop()
		g.Fails("POST", 0)
		s.holding()
		s.comes("the answer", func() bool { h := s.k.Holds(); return len(h) == 1 && !h[0].Told.IsZero() })
		if a := g.Approvals(); len(a) != 1 || a[0].Status != "approved" {
			t.Errorf("%s: told %+v", name, a)
		}
	}
}

// A job that was cancelled, or that somebody else let through on GitLab, is told nothing.
func TestHoldGoneOnGitLab(t *testing.T) {
	for name, status := range map[string][2]string{"cancelled": {"canceled", "canceled"}, "let through by others": {"manual", "created"}} {
		s, g := blocked(t)
		s.builtOnGitLab(g)
		s.blocks("302")
		stop := s.holding()
		v := s.waiting()
		stop()
		g.Plays(status[0], status[1])
		s.approve(v)
		s.holding()
		s.ends(v.ID, keeper.Cancelled)
		if len(g.Approvals()) != 0 || len(s.k.Holds()) != 0 {
			t.Errorf("%s: told %+v, and to do %+v", name, g.Approvals(), s.k.Holds())
		}
	}
}

// A token that was changed in its file is used from the next call on.
func TestHoldTokenChangedOnGitLab(t *testing.T) {
	s, g := blocked(t)
	s.builtOnGitLab(g)
	s.secret("app@gitlab.key", "glpat-of-yesterday")
	s.blocks("302")
	stop := s.holding()
	s.comes("a refusal", func() bool { return strings.Contains(s.log.String(), "platform_refused") })
	stop()
	s.secret("app@gitlab.key", string(g.Key))
	s.holding()
	s.waiting()
	s.secretless("glpat-of-yesterday", string(g.Key))
}
