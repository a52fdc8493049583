package lktest

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// GitLabClaims are the claims of a GitLab CI ID token, as GitLab's documentation
// ("Token payload") shows them, with a fresh jti. more replaces single ones; a
// nil value takes a claim out.
func (i *Issuer) GitLabClaims(audience string, now time.Time, more map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL, "aud": audience, "jti": randomHex(), "iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Unix() + 3600,
		"sub": "project_path:acme/payments:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/payments",
		"user_id": "1001", "user_login": "ann", "user_email": "ann@example.com", "user_access_level": "developer", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302",
		"ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true", "environment": "production", "environment_protected": "true", "deployment_tier": "production",
		"runner_id": 1, "runner_environment": "gitlab-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "project_visibility": "private",
		"ci_config_ref_uri": "gitlab.example.com/acme/payments//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
	}
	return overlay(c, more)
}

// KubernetesClaims are the claims of a projected service account token that is
// bound to a pod, as the API server makes them.
func (i *Issuer) KubernetesClaims(audience string, now time.Time, more map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL, "aud": []string{audience}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 600, "jti": randomHex(),
		"sub": "system:serviceaccount:ci:deployer",
		"kubernetes.io": map[string]any{"namespace": "ci",
			"node":           map[string]any{"name": "n1", "uid": "41111111-2222-3333-4444-555555555555"},
			"pod":            map[string]any{"name": "deploy-x", "uid": "51111111-2222-3333-4444-555555555555"},
			"serviceaccount": map[string]any{"name": "deployer", "uid": "61111111-2222-3333-4444-555555555555"}},
	}
	return overlay(c, more)
}

// AzureClaims are the claims of a pipeline token of Azure DevOps for the run of
// an AzureAPI.
func (i *Issuer) AzureClaims(a *AzureAPI, now time.Time, more map[string]any) map[string]any {
	c := map[string]any{
		"iss": i.URL + "/" + a.Organisation, "aud": "api://AzureADTokenExchange", "jti": randomHex(), "iat": now.Unix(), "nbf": now.Unix() - 600, "exp": now.Unix() + 299,
		"sub": "p://acme/payments/release", "org_id": a.Organisation, "prj_id": a.Project, "def_id": "42", "rpo_id": "71111111-2222-3333-4444-555555555555",
		"rpo_uri": "https://dev.azure.com/acme/payments/_git/payments", "rpo_ver": a.Commit, "rpo_ref": "refs/heads/main", "run_id": "1234",
	}
	return overlay(c, more)
}

func overlay(c, more map[string]any) map[string]any {
	maps.Copy(c, more)
	for k, v := range more {
		if v == nil {
			delete(c, k)
		}
	}
	return c
}

// An AzureAPI stands for the two calls of Azure DevOps' REST API that tell of a
// run (Build - Get, Timeline - Get, api-version 7.1), in their documented shape.
type AzureAPI struct {
	URL, Organisation, Project, Commit, Access string
	Repository, Secret                         string

	mu      sync.Mutex
	build   map[string]any
	records []map[string]any
	status  int
	server  *http.Server
	check   azureCheck
}

// NewAzureAPI starts one that ends with the test. Its run 1234 has the stages
// Build, which ended before now, and Deploy, which is in progress.
func NewAzureAPI(t testing.TB, now time.Time) *AzureAPI {
	t.Helper()
	a, err := StartAzureAPI(now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// Close stops it.
func (a *AzureAPI) Close() { a.server.Close() }

// StartAzureAPI starts one that Close stops.
func StartAzureAPI(now time.Time) (*AzureAPI, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &AzureAPI{URL: "http://" + l.Addr().String(), Organisation: "11111111-2222-3333-4444-555555555555", Project: "21111111-2222-3333-4444-555555555555",
		Commit: "714a629c0b401fdce83e847fc9589983fc6f46bc", Access: "access-" + randomHex(),
		Repository: "71111111-2222-3333-4444-555555555555", Secret: "hook-" + randomHex()}
	at := func(minutes int) string {
		return now.Add(time.Duration(minutes) * time.Minute).UTC().Format(time.RFC3339Nano)
	}
	a.build = map[string]any{"id": 1234, "buildNumber": "20261102.1", "status": "inProgress", "reason": "individualCI", "sourceBranch": "refs/heads/main", "sourceVersion": a.Commit,
		"definition": map[string]any{"id": 42, "name": "release"}, "project": map[string]any{"id": a.Project, "name": "payments"},
		"repository":   map[string]any{"id": a.Repository, "name": "payments", "type": "TfsGit"},
		"requestedFor": map[string]any{"id": "A1111111-2222-3333-4444-555555555555", "displayName": "Ann", "uniqueName": "ann@example.com"},
		"requestedBy":  map[string]any{"id": "00000002-0000-8888-8000-000000000000", "displayName": "Microsoft.VisualStudio.Services.TFS"}}
	record := func(id, parent, kind, name, state string, start, finish int) map[string]any {
		r := map[string]any{"id": id, "parentId": parent, "type": kind, "name": name, "identifier": name, "state": state, "attempt": 1, "startTime": nil, "finishTime": nil, "result": nil}
		if state != "pending" {
			r["startTime"] = at(start)
		}
		if state == "completed" {
			r["finishTime"], r["result"] = at(finish), "succeeded"
		}
		return r
	}
	a.records = []map[string]any{
		record("s1", "", "Stage", "Build", "completed", -20, -10), record("p1", "s1", "Phase", "build", "completed", -20, -10), record("j1", "p1", "Job", "build", "completed", -20, -10),
		record("s2", "", "Stage", "Deploy", "inProgress", -5, 0), record("p2", "s2", "Phase", "deploy", "inProgress", -5, 0), record("j2", "p2", "Job", "deploy", "inProgress", -5, 0),
		record("t2", "j2", "Task", "lockkeeper", "inProgress", -1, 0), record("s3", "", "Stage", "Smoke", "pending", 0, 0), record("j3", "s3", "Job", "smoke", "pending", 0, 0),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{project}/_apis/build/builds/{id}", func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, func() any { return a.build }) })
	mux.HandleFunc("GET /{project}/_apis/build/builds/{id}/timeline", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, func() any {
			return map[string]any{"records": a.records, "lastChangedBy": "x", "id": "y", "changeId": 7}
		})
	})
	a.serveChecks(mux)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go a.server.Serve(l)
	return a, nil
}

func (a *AzureAPI) answer(w http.ResponseWriter, r *http.Request, what func() any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.check.away != "":
		http.Redirect(w, r, a.check.away, http.StatusTemporaryRedirect)
	case a.status != 0:
		http.Error(w, "as told", a.status)
	case trimBearer(r.Header.Get("Authorization")) != a.Access:
		// What Azure DevOps answers without a credential: its sign-in page.
		w.WriteHeader(http.StatusNonAuthoritativeInfo)
	case r.URL.Query().Get("api-version") != "7.1" || !strings.EqualFold(r.PathValue("project"), a.Project) || r.PathValue("id") != "1234":
		http.Error(w, "unknown", http.StatusNotFound)
	default:
		json.NewEncoder(w).Encode(what())
	}
}

// Build changes one field of the run.
func (a *AzureAPI) Build(field string, value any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.build[field] = value
}

// Move gives the run to another team project, as if one of the same name had been
// made anew.
func (a *AzureAPI) Move(project string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Project = project
	a.build["project"] = map[string]any{"id": project, "name": "payments"}
}

// Record changes one field of a record of the timeline.
func (a *AzureAPI) Record(id, field string, value any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.records {
		if r["id"] == id {
			r[field] = value
		}
	}
}

// SetStatus makes every answer this status; 0: the real ones.
func (a *AzureAPI) SetStatus(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = status
}
