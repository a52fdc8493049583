package web

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const gitlabRules = `
---
{kind: Provider, name: lab, platform: gitlab, issuer: "https://gitlab.example.com", api: "API", app: {id: "77"}}
---
kind: Pipeline
name: web
project: payments
provider: lab
organisation: "72"
repository: "20"
definition: .gitlab-ci.yml
stages:
  - {name: deploy, trust: {environment: production, selfHosted: true, events: [push], refs: [refs/heads/main]}}
`

// labHooked is a world whose GitLab has a webhook of ours, and posts messages to it.
func labHooked(t *testing.T) (*world, *lktest.GitLabAPI, func(path string, head http.Header, body []byte) int) {
	t.Helper()
	g := lktest.NewGitLabAPI(t)
	w := &world{t: t, issuer: lktest.NewIssuer(t)}
	w.options.Dir = t.TempDir()
	w.begin(rules + strings.Replace(gitlabRules, "API", g.URL, 1))
	w.serving.Store(New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.options.Issuer, Version: "test", AppSecret: func(string) (string, error) { return g.Secret, nil }}))
	return w, g, func(path string, head http.Header, body []byte) int {
		req, err := http.NewRequest("POST", w.server.URL+path, bytes.NewReader(body))
		w.must(err)
		req.Header = head
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		resp.Body.Close()
		return resp.StatusCode
	}
}

// A proven message about a project of the catalog leaves one hold, in whichever of its
// two kinds and however often it comes; everything else leaves nothing.
func TestHookGitLab(t *testing.T) {
	w, g, post := labHooked(t)
	const deployments, jobs = "Deployment Hook", "Job Hook"
	body, job := g.DeploymentMessage(nil), g.JobMessage(nil)
	now := time.Now()
	forged := g.Head(deployments, body, now)
	forged.Set("X-Gitlab-Token", g.Secret+"x")
	hub := g.Head(deployments, body, now)
	hub.Set("X-Hub-Signature-256", "sha256=00")
	for name, c := range map[string]struct {
		path   string
		head   http.Header
		body   []byte
		status int
	}{
		"unproven":             {"/hooks/gitlab/lab", http.Header{"X-Gitlab-Event": {deployments}}, body, 401},
		"another token":        {"/hooks/gitlab/lab", forged, body, 401},
		"unknown provider":     {"/hooks/gitlab/other", g.Head(deployments, body, now), body, 404},
		"of another platform":  {"/hooks/github/lab", hub, body, 404},
		"github's":             {"/hooks/gitlab/github", g.Head(deployments, body, now), body, 404},
		"another event":        {"/hooks/gitlab/lab", g.Head("Push Hook", body, now), body, 204},
		"another state":        {"/hooks/gitlab/lab", g.Head(deployments, body, now), g.DeploymentMessage(map[string]any{"status": "running"}), 204},
		"no deployment":        {"/hooks/gitlab/lab", g.Head(jobs, body, now), g.JobMessage(map[string]any{"environment": nil}), 204},
		"malformed":            {"/hooks/gitlab/lab", g.Head(deployments, body, now), g.DeploymentMessage(map[string]any{"environment": ""}), 422},
		"no JSON":              {"/hooks/gitlab/lab", g.Head(deployments, body, now), []byte("{"), 422},
		"too long":             {"/hooks/gitlab/lab", g.Head(deployments, body, now), append(bytes.Repeat([]byte(" "), maxBody), body...), 429},
		"project of nobody":    {"/hooks/gitlab/lab", g.Head(deployments, body, now), g.DeploymentMessage(map[string]any{"project": map[string]any{"id": 21, "path_with_namespace": "acme/pay/ments"}}), 404},
		"two projects":         {"/hooks/gitlab/lab", g.Head(jobs, job, now), g.JobMessage(map[string]any{"project_id": 21}), 422},
		"github's id of later": {"/hooks/gitlab/lab", g.Head(deployments, body, now), g.DeploymentMessage(map[string]any{"project": map[string]any{"id": 8001, "path_with_namespace": "acme/payments"}}), 404},
	} {
		if got := post(c.path, c.head, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	if list := w.keeper.Holds(); len(list) != 0 {
		t.Fatalf("held: %+v", list)
	}
	renamed := g.DeploymentMessage(map[string]any{"project": map[string]any{"id": 20, "path_with_namespace": "acme/renamed"}})
	for _, one := range []struct {
		event string
		body  []byte
	}{{jobs, job}, {deployments, body}, {jobs, job}, {deployments, renamed}, {deployments, body}} {
		if got := post("/hooks/gitlab/lab", g.Head(one.event, one.body, now), one.body); got != 202 {
			t.Errorf("%s: %d", one.event, got)
		}
	}
	if list := w.keeper.Holds(); len(list) != 1 || list[0].Asked.Mark != "302" || list[0].Asked.Repository != "20" || list[0].Asked.Organisation != "72" {
		t.Errorf("held: %+v", list)
	}
	// With a signing token only a fresh signature counts.
	plain := g.Secret
	g.Secret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))
	second := g.DeploymentMessage(map[string]any{"deployable_id": 303})
	if got := post("/hooks/gitlab/lab", http.Header{"X-Gitlab-Event": {deployments}, "X-Gitlab-Token": {plain}}, second); got != 401 {
		t.Errorf("the secret token of before: %d", got)
	}
	if got := post("/hooks/gitlab/lab", g.Head(deployments, second, now.Add(-10*time.Minute)), second); got != 401 {
		t.Errorf("an old message: %d", got)
	}
	if got := post("/hooks/gitlab/lab", g.Head(deployments, second, now), second); got != 202 {
		t.Errorf("a signed message: %d", got)
	}
}
