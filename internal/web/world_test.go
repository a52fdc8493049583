package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const rules = `
kind: User
name: dora
---
kind: User
name: ann
ids: [{provider: github, id: "1001"}]
---
kind: User
name: bob
ids: [{provider: github, id: "1002"}]
---
kind: User
name: cat
ids: [{provider: github, id: "1003"}]
---
kind: Group
name: managers
users: [ann, bob, cat]
---
kind: Assignment
name: administration
role: organisation-administrator
principal: user:dora
scope: /
---
kind: Assignment
name: releases
role: release-manager
principal: group:managers
scope: /projects/payments
---
kind: Project
name: payments
---
kind: Provider
name: github
platform: github
issuer: ISSUER
---
kind: Pipeline
name: release
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: .github/workflows/release.yml
stages:
  - name: build
    trust: {events: [push], refs: [refs/heads/main]}
  - name: deploy
    trust: {environment: production, events: [push], refs: [refs/heads/main]}
---
kind: Environment
name: production
project: payments
tier: production
checks:
  - name: two
    approval: {count: 2, groups: [managers], review: security}
  - name: main
    branches: {allowed: [refs/heads/main]}
---
kind: Identity
name: payments-production
project: payments
environment: production
audiences: ["https://target.example", "api://AzureADTokenExchange"]
stages: [release/deploy]
`

var app = lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}

// A world is a real server with people and a CI platform.
type world struct {
	t      testing.TB
	issuer *lktest.Issuer
	keeper *keeper.Keeper
	server *httptest.Server
	people map[string]api.Client
	jobs   int
	issued []string // secrets that were handed out

	options keeper.Options // that the keeper is opened with, each time
	serving atomic.Pointer[Server]
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, options: keeper.Options{Dir: t.TempDir()}, issuer: lktest.NewIssuer(t)}
	w.begin(rules)
	return w
}

// open opens the keeper of the world's folder and serves it.
func (w *world) open() {
	w.t.Helper()
	k, err := keeper.Open(context.Background(), w.options)
	w.must(err)
	w.keeper = k
	w.serving.Store(New(Options{Keeper: k, Verifier: identity.NewVerifier(identity.Options{Log: w.options.Log}), URL: w.options.Issuer, Version: "test", Log: w.options.Log}))
}

// begin starts the server, lets the people in and puts a catalog in force. ISSUER
// in it stands for the CI platform's URL.
func (w *world) begin(catalog string) {
	t, ctx := w.t, context.Background()
	t.Helper()
	w.people = map[string]api.Client{}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serving.Load().ServeHTTP(rw, r) }))
	at := "http://" + w.server.Listener.Addr().String()
	w.options.Issuer = at
	w.open()
	w.server.Start()
	t.Cleanup(func() { w.server.Close(); w.keeper.Close() })
	code, err := w.keeper.MakeSetupCode(ctx)
	w.must(err)
	w.issued = append(w.issued, code)
	anybody := api.Client{Server: at}
	w.must(anybody.Call(ctx, "POST", "/setup", api.SetUp{Code: code, User: "dora", Password: "a long password"}, nil))
	w.signIn("dora")
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 1, Files: []api.File{{Name: "rules.yaml", Data: strings.ReplaceAll(catalog, "ISSUER", w.issuer.URL)}}}, nil))
	for i, user := range []string{"ann", "bob", "cat"} {
		var invitation api.Invitation
		w.must(w.people["dora"].Call(ctx, "POST", "/accounts/"+user+"/invitation", nil, &invitation))
		w.issued = append(w.issued, invitation.Code)
		w.must(anybody.Call(ctx, "POST", "/enrolments", api.Enrol{User: user, Code: invitation.Code, Password: "a long password"}, nil))
		w.signIn(user)
		var c api.Challenge
		w.must(w.people[user].Call(ctx, "POST", "/accounts/challenge", nil, &c))
		job := w.job("workflow_dispatch", "")
		job.ActorID, job.Audience = fmt.Sprint(1001+i), c.Audience
		w.must(anybody.With(w.issuer.JobToken(job)).Call(ctx, "POST", "/accounts/proof", api.Proof{Challenge: c.Challenge}, nil))
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signIn(user string) {
	w.t.Helper()
	var s api.Session
	c := api.Client{Server: w.server.URL}
	w.must(c.Call(context.Background(), "POST", "/sessions", api.SignIn{User: user, Password: "a long password"}, &s))
	w.people[user] = c.With(s.Secret)
}

// job is a new job of run 9001, which ann started.
func (w *world) job(event, environment string) lktest.GitHubJob {
	w.jobs++
	return lktest.GitHubJob{Job: fmt.Sprint(5000 + w.jobs), Event: event, Environment: environment, Audience: w.server.URL}
}

// as is a client with a fresh token of the job.
func (w *world) as(j lktest.GitHubJob) api.Client {
	raw := w.issuer.JobToken(j)
	w.issued = append(w.issued, raw)
	return api.Client{Server: w.server.URL, Bearer: raw}
}

// waiting records the artifact and opens a deployment.
func (w *world) waiting(j lktest.GitHubJob, handle string) api.Deployment {
	w.t.Helper()
	ctx := context.Background()
	build := w.job("push", "")
	build.Run = j.Run
	w.must(w.as(build).Call(ctx, "POST", "/artifacts", api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}, nil))
	var d api.Deployment
	w.must(w.as(j).Call(ctx, "POST", "/deployments", api.OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}, &d))
	return d
}

// running takes a deployment to its lease.
func (w *world) running(j lktest.GitHubJob, handle string) api.Deployment {
	w.t.Helper()
	ctx := context.Background()
	d := w.waiting(j, handle)
	for _, user := range []string{"bob", "cat"} {
		w.must(w.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	w.must(w.as(j).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, &d))
	return d
}

func exchangeForm1(token, id, handle, audience string) url.Values {
	return url.Values{"grant_type": {grantTypeExchange}, "subject_token": {token}, "subject_token_type": {tokenTypeJWT}, "actor_token": {handle},
		"actor_token_type": {tokenTypeHandle}, "resource": {deploymentURN + id}, "audience": {audience}}
}

type exchanged struct {
	Token     string `json:"access_token"`
	Type      string `json:"issued_token_type"`
	TokenType string `json:"token_type"`
	Expires   int    `json:"expires_in"`
	Error     string `json:"error"`
	Code      string `json:"code"`
	status    int
	body      string
}

func (w *world) exchange(form url.Values) exchanged {
	w.t.Helper()
	resp, err := http.PostForm(w.server.URL+"/oauth/token", form)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	out := exchanged{status: resp.StatusCode, body: string(body)}
	w.must(json.Unmarshal(body, &out))
	return out
}

func code(err error) string {
	if r := lockkeeper.RefusalOf(err); r != nil {
		return r.Code
	}
	return fmt.Sprint(err)
}
