package lktest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A GitLabAPI stands for what an access token sees of GitLab's REST API: its own account,
// a project, a job, its pipeline, the blocked deployment with its approvals, refs, and
// the approval of a deployment, in their documented shapes. It has one project,
// acme/pay/ments (20, of 72), and one pipeline, 574, whose job 302 is held before
// production by deployment 41. The token's account is 77.
type GitLabAPI struct {
	URL, App, Secret, Commit string
	Key                      []byte // the access token

	server                       *http.Server
	mu                           sync.Mutex
	user, project, pipeline, job map[string]any
	deployment                   map[string]any
	refs                         map[string]any // branches/main: is it protected, or nil
	required                     int            // approvals
	failing                      map[string]int
	given                        []GitLabApproval
	calls                        int
	listed                       []map[string]any
}

// A GitLabApproval is what was posted about a blocked deployment.
type GitLabApproval struct {
	Status  string `json:"status"`
	Comment string `json:"comment"`
}

// NewGitLabAPI starts one that ends with the test.
func NewGitLabAPI(t testing.TB) *GitLabAPI {
	t.Helper()
	g, err := StartGitLabAPI()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// Close stops it.
func (g *GitLabAPI) Close() { g.server.Close() }

// StartGitLabAPI starts one that Close stops.
func StartGitLabAPI() (*GitLabAPI, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &GitLabAPI{URL: "http://" + l.Addr().String() + "/api/v4", App: "77", Secret: "hook-" + randomHex(), Commit: "714a629c0b401fdce83e847fc9589983fc6f46bc",
		Key: []byte("glpat-" + randomHex()), required: 1, failing: map[string]int{}, refs: map[string]any{"branches/main": true}}
	ann := map[string]any{"id": 1001, "username": "ann", "name": "Ann", "state": "active"}
	g.user = map[string]any{"id": 77, "username": "project_20_bot_1", "bot": true}
	g.project = map[string]any{"id": 20, "name": "ments", "path_with_namespace": "acme/pay/ments", "ci_config_path": "",
		"namespace": map[string]any{"id": 72, "name": "pay", "path": "pay", "kind": "group", "full_path": "acme/pay", "parent_id": 71}}
	g.pipeline = map[string]any{"id": 574, "iid": 11, "project_id": 20, "sha": g.Commit, "ref": "main", "status": "manual", "source": "push", "tag": false, "user": ann}
	g.job = map[string]any{"id": 302, "name": "deploy", "stage": "deploy", "status": "manual", "ref": "main", "tag": false, "user": ann, "commit": map[string]any{"id": g.Commit, "short_id": "714a629c"},
		"pipeline": map[string]any{"id": 574, "project_id": 20, "ref": "main", "sha": g.Commit, "status": "manual"}, "runner": nil}
	g.deployment = map[string]any{"id": 41, "iid": 1, "ref": "main", "sha": g.Commit, "status": "blocked", "user": ann, "environment": map[string]any{"id": 9, "name": "production"},
		"deployable": map[string]any{"id": 302, "status": "manual", "name": "deploy"}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v4/user", g.answer(func(*http.Request) any { return g.user }))
	mux.HandleFunc("GET /api/v4/projects/20", g.answer(func(*http.Request) any { return g.project }))
	mux.HandleFunc("GET /api/v4/projects/20/jobs/302", g.answer(func(*http.Request) any { return g.job }))
	mux.HandleFunc("GET /api/v4/projects/20/pipelines/574", g.answer(func(*http.Request) any { return g.pipeline }))
	mux.HandleFunc("GET /api/v4/projects/20/deployments", g.answer(g.list))
	mux.HandleFunc("GET /api/v4/projects/20/deployments/41", g.answer(func(*http.Request) any { return g.whole() }))
	mux.HandleFunc("GET /api/v4/projects/20/repository/{kind}/{name}", g.answer(func(r *http.Request) any {
		protected, known := g.refs[r.PathValue("kind")+"/"+r.PathValue("name")]
		if !known {
			return nil
		}
		return map[string]any{"name": r.PathValue("name"), "protected": protected, "commit": map[string]any{"id": g.Commit}}
	}))
	mux.HandleFunc("POST /api/v4/projects/20/deployments/41/approval", g.approve)
	g.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go g.server.Serve(l)
	return g, nil
}

// whole is the deployment as the call of one tells it, with its approvals.
func (g *GitLabAPI) whole() map[string]any {
	approvals := []any{}
	pending := g.required
	for _, a := range g.given {
		approvals = append(approvals, map[string]any{"user": g.user, "status": a.Status, "created_at": "2026-11-02T09:00:00.000Z", "comment": a.Comment})
		if a.Status == "approved" {
			pending--
		}
	}
	return overlay(map[string]any{"pending_approval_count": max(pending, 0), "approvals": approvals}, g.deployment)
}

// list is what the documented filters leave of the deployments.
func (g *GitLabAPI) list(r *http.Request) any {
	q := r.URL.Query()
	all := append(g.listed, g.deployment)
	if q.Get("sort") != "desc" || q.Get("order_by") != "id" {
		return nil
	}
	found := []any{}
	for _, d := range all {
		if d["status"] == q.Get("status") && fmt.Sprint(d["environment"].(map[string]any)["name"]) == q.Get("environment") {
			found = append(found, d)
		}
	}
	var page, size int
	fmt.Sscan(q.Get("page"), &page)
	fmt.Sscan(q.Get("per_page"), &size)
	from := min((page-1)*size, len(found))
	return found[from:min(from+size, len(found))]
}

// DeploymentMessage is a deployment message about the blocked deployment, as the
// documentation shows them. more replaces single fields.
func (g *GitLabAPI) DeploymentMessage(more map[string]any) []byte {
	return encoded(overlay(map[string]any{"object_kind": "deployment", "status": "blocked", "status_changed_at": "2026-11-02 09:00:00 +0000", "deployment_id": 41, "deployable_id": 302,
		"deployable_url": "https://gitlab.example.com/acme/pay/ments/-/jobs/302", "environment": "production", "environment_tier": "production", "environment_slug": "production",
		"project": g.projectSaid(), "short_sha": "714a629c", "user": map[string]any{"id": 1001, "username": "ann"}, "ref": "main"}, more))
}

// JobMessage is the message that the job has become manual.
func (g *GitLabAPI) JobMessage(more map[string]any) []byte {
	return encoded(overlay(map[string]any{"object_kind": "build", "ref": "main", "tag": false, "sha": g.Commit, "build_id": 302, "build_name": "deploy", "build_stage": "deploy", "build_status": "manual",
		"retries_count": 0, "pipeline_id": 574, "project_id": 20, "project_name": "acme / pay / ments", "user": map[string]any{"id": 1001, "username": "ann"},
		"commit": map[string]any{"id": 574, "sha": g.Commit}, "project": g.projectSaid(),
		"environment": map[string]any{"name": "production", "action": "start", "deployment_tier": "production"}}, more))
}

func (g *GitLabAPI) projectSaid() map[string]any {
	return map[string]any{"id": 20, "name": "ments", "namespace": "pay", "path_with_namespace": "acme/pay/ments", "default_branch": "main", "ci_config_path": ""}
}

func encoded(m map[string]any) []byte {
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return body
}

// Head is the head of a message: with the secret token, or where that is a signing token,
// signed at now.
func (g *GitLabAPI) Head(event string, body []byte, now time.Time) http.Header {
	id := "f1a4-" + randomHex()
	h := http.Header{"X-Gitlab-Event": {event}, "X-Gitlab-Instance": {"https://gitlab.example.com"}, "X-Gitlab-Event-Uuid": {id}, "Idempotency-Key": {id}}
	encoded, signs := strings.CutPrefix(g.Secret, "whsec_")
	if !signs {
		h.Set("X-Gitlab-Token", g.Secret)
		return h
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		panic(err)
	}
	stamp := fmt.Sprint(now.Unix())
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return h
}

// Set changes one field of the project, pipeline, job, deployment or user.
func (g *GitLabAPI) Set(what, field string, value any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	map[string]map[string]any{"project": g.project, "pipeline": g.pipeline, "job": g.job, "deployment": g.deployment, "user": g.user}[what][field] = value
}

// Omit takes a field out.
func (g *GitLabAPI) Omit(what, field string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(map[string]map[string]any{"project": g.project, "pipeline": g.pipeline, "job": g.job, "deployment": g.deployment, "user": g.user}[what], field)
}

// Ref makes a ref, such as tags/v1, protected or not, or takes it away with nil.
func (g *GitLabAPI) Ref(name string, protected any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refs[name] = protected; protected == nil {
		delete(g.refs, name)
	}
}

// Requires says how many approvals the environment demands.
func (g *GitLabAPI) Requires(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.required = n
}

// Crowd blocks so many other deployments of the environment, which are listed first.
func (g *GitLabAPI) Crowd(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listed = nil
	for i := range n {
		g.listed = append(g.listed, overlay(map[string]any{}, map[string]any{"id": 1000 + i, "status": "blocked", "environment": g.deployment["environment"], "deployable": map[string]any{"id": 5000 + i}}))
	}
}

// Plays lets somebody start the manual job, or what else becomes of it.
func (g *GitLabAPI) Plays(status, deployment string) {
	g.Set("job", "status", status)
	g.Set("deployment", "status", deployment)
}

// Fails makes calls of a method fail with a status; 0: none. A status below zero does
// what was asked, and fails with its positive.
func (g *GitLabAPI) Fails(method string, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing[method] = status
}

// Approvals are the answers that were posted.
func (g *GitLabAPI) Approvals() []GitLabApproval {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]GitLabApproval(nil), g.given...)
}

// Calls is how many calls came in.
func (g *GitLabAPI) Calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

func (g *GitLabAPI) admits(w http.ResponseWriter, r *http.Request) bool {
	g.calls++
	status := g.failing[r.Method]
	switch {
	case r.Header.Get("PRIVATE-TOKEN") != string(g.Key):
		http.Error(w, `{"message":"401 Unauthorized"}`, http.StatusUnauthorized)
	case status > 0:
		http.Error(w, `{"message":"as told"}`, status)
	default:
		return true
	}
	return false
}

func (g *GitLabAPI) answer(what func(*http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.admits(w, r) {
			return
		}
		found := what(r)
		if found == nil {
			http.Error(w, `{"message":"404 Not Found"}`, http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(found)
	}
}

// approve takes an answer. Enough yeses unblock the deployment, whose job is manual then;
// a no fails both.
func (g *GitLabAPI) approve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.admits(w, r) {
		return
	}
	var v GitLabApproval
	if json.NewDecoder(r.Body).Decode(&v) != nil || len(v.Comment) > 255 || v.Status != "approved" && v.Status != "rejected" {
		http.Error(w, `{"error":"status does not have a valid value"}`, http.StatusBadRequest)
		return
	}
	if g.deployment["status"] != "blocked" {
		http.Error(w, `{"message":"This deployment is not waiting for approvals."}`, http.StatusBadRequest)
		return
	}
	g.given = append(g.given, v)
	if v.Status == "rejected" {
		g.deployment["status"], g.job["status"] = "failed", "failed"
	} else if len(g.given) >= g.required {
		g.deployment["status"] = "created"
	}
	if status := g.failing[r.Method]; status < 0 {
		http.Error(w, `{"message":"as told"}`, -status)
		return
	}
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{"user": g.user, "status": v.Status, "comment": v.Comment, "created_at": "2026-11-02T09:00:00.000Z"})
}
