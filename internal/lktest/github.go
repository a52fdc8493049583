package lktest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A GitHubAPI stands for what a GitHub App sees of GitHub's REST API: the installation's
// access, a workflow run, its pending deployments, refs, a comparison, and the review of
// custom deployment protection rules, in their documented shapes. It has one repository,
// acme/payments (8001, of 7001), and one run, 30433642, that waits for production.
type GitHubAPI struct {
	URL, App, Secret, Commit string
	Key                      []byte // the App's private key, in PEM

	key     *rsa.PrivateKey
	server  *http.Server
	mu      sync.Mutex
	tokens  map[string]bool
	run     map[string]any
	waits   []string // environments that the run waits for
	refs    map[string]string
	status  string // of the comparison
	failing map[string]int
	reviews []GitHubReview
	calls   int
}

// A GitHubReview is what was posted about a held run.
type GitHubReview struct {
	Environment string `json:"environment_name"`
	State       string `json:"state"`
	Comment     string `json:"comment"`
}

// NewGitHubAPI starts one that ends with the test.
func NewGitHubAPI(t testing.TB) *GitHubAPI {
	t.Helper()
	g, err := StartGitHubAPI()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// Close stops it.
func (g *GitHubAPI) Close() { g.server.Close() }

// StartGitHubAPI starts one that Close stops.
func StartGitHubAPI() (*GitHubAPI, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &GitHubAPI{URL: "http://" + l.Addr().String(), App: "77", Secret: "hook-" + randomHex(), Commit: "1111111111111111111111111111111111111111", key: key,
		Key:    pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		tokens: map[string]bool{}, waits: []string{"production"}, status: "identical", failing: map[string]int{}}
	owner := map[string]any{"id": 7001, "login": "acme", "type": "Organization"}
	repository := map[string]any{"id": 8001, "name": "payments", "full_name": "acme/payments", "owner": owner, "private": true}
	ann := map[string]any{"id": 1001, "login": "ann", "type": "User"}
	g.run = map[string]any{"id": 30433642, "name": "release", "node_id": "MDEyOldvcmtmbG93IFJ1bjI2OTI4OQ==", "check_suite_id": 42, "head_branch": "main", "head_sha": g.Commit,
		"path": ".github/workflows/release.yml@main", "run_number": 562, "event": "push", "status": "waiting", "conclusion": nil, "workflow_id": 159038, "pull_requests": []any{},
		"run_attempt": 1, "actor": ann, "triggering_actor": ann, "referenced_workflows": []any{}, "repository": repository, "head_repository": repository}
	g.refs = map[string]string{"heads/main": g.Commit}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /app/installations/{installation}/access_tokens", g.grant)
	const run = "/repos/acme/payments/actions/runs/30433642"
	mux.HandleFunc("GET "+run, g.answer(func(*http.Request) any { return g.run }))
	mux.HandleFunc("GET "+run+"/pending_deployments", g.answer(func(*http.Request) any {
		out := []any{}
		for i, e := range g.waits {
			out = append(out, map[string]any{"environment": map[string]any{"id": 161088068 + i, "name": e}, "wait_timer": 0, "current_user_can_approve": false, "reviewers": []any{}})
		}
		return out
	}))
	mux.HandleFunc("GET /repos/acme/payments/git/ref/{ref...}", g.answer(func(r *http.Request) any {
		sha, known := g.refs[r.PathValue("ref")]
		if !known {
			return nil
		}
		return map[string]any{"ref": "refs/" + r.PathValue("ref"), "object": map[string]any{"type": "commit", "sha": sha}}
	}))
	mux.HandleFunc("GET /repos/acme/payments/compare/{basehead}", g.answer(func(r *http.Request) any {
		if base, head, _ := strings.Cut(r.PathValue("basehead"), "..."); base != g.run["head_sha"] || head != g.refs["heads/"+fmt.Sprint(g.run["head_branch"])] {
			return nil
		}
		return map[string]any{"status": g.status, "ahead_by": 0, "behind_by": 0}
	}))
	mux.HandleFunc("POST "+run+"/deployment_protection_rule", g.review)
	g.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go g.server.Serve(l)
	return g, nil
}

// Message is a deployment_protection_rule message of the run, and its signature, as the
// documentation shows them. more replaces single fields.
func (g *GitHubAPI) Message(more map[string]any) (body []byte, signature string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := map[string]any{"action": "requested", "environment": "production", "event": "push", "ref": "main", "sha": g.Commit,
		"deployment_callback_url": "https://api.github.com/repos/acme/payments/actions/runs/30433642/deployment_protection_rule",
		"deployment":              map[string]any{"id": 501, "sha": g.Commit, "ref": "main", "task": "deploy", "environment": "production", "creator": map[string]any{"id": 1001, "login": "ann"}},
		"pull_requests":           []any{}, "repository": g.run["repository"], "organization": map[string]any{"id": 7001, "login": "acme"},
		"installation": map[string]any{"id": 9, "node_id": "x"}, "sender": map[string]any{"id": 1001, "login": "ann"}}
	body, err := json.Marshal(overlay(m, more))
	if err != nil {
		panic(err)
	}
	return body, g.Sign(body)
}

// Sign is X-Hub-Signature-256 of a body.
func (g *GitHubAPI) Sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(g.Secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Run changes one field of the run.
func (g *GitHubAPI) Run(field string, value any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.run[field] = value
}

// Waits says for which environments the run waits.
func (g *GitHubAPI) Waits(environments ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waits = environments
}

// Ref makes a ref, such as tags/main, or takes it away with "".
func (g *GitHubAPI) Ref(name, commit string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refs[name] = commit; commit == "" {
		delete(g.refs, name)
	}
}

// Compares says how the run's commit and its branch compare.
func (g *GitHubAPI) Compares(status string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// Fails makes calls of a method fail with a status; 0: none. A status below zero does
// what was asked, and fails with its positive.
func (g *GitHubAPI) Fails(method string, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing[method] = status
}

// Reviews are what was posted, the status lines or the answers.
func (g *GitHubAPI) Reviews(answers bool) []GitHubReview {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []GitHubReview
	for _, r := range g.reviews {
		if answers == (r.State != "") {
			out = append(out, r)
		}
	}
	return out
}

// Calls is how many calls came in.
func (g *GitHubAPI) Calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

// grant takes the App's proof, if it is one: RS256, issued before now, of ten minutes at
// most.
func (g *GitHubAPI) grant(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	if r.PathValue("installation") != "9" {
		http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
		return
	}
	if !g.proves(trimBearer(r.Header.Get("Authorization"))) {
		http.Error(w, `{"message":"A JSON web token could not be decoded"}`, http.StatusUnauthorized)
		return
	}
	token := "ghs_" + randomHex()
	g.tokens[token] = true
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "permissions": map[string]any{"actions": "read"}})
}

func (g *GitHubAPI) proves(jwt string) bool {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return false
	}
	var header struct{ Alg string }
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(&g.key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return false
	}
	for i, into := range []any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, into) != nil {
			return false
		}
	}
	now := time.Now().Unix()
	return header.Alg == "RS256" && claims.Iss == g.App && claims.Iat < now && claims.Exp > now && claims.Exp <= now+600
}

func (g *GitHubAPI) admits(w http.ResponseWriter, r *http.Request) bool {
	g.calls++
	status := g.failing[r.Method]
	switch {
	case !g.tokens[trimBearer(r.Header.Get("Authorization"))]:
		http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
	case status > 0:
		http.Error(w, `{"message":"as told"}`, status)
	default:
		return true
	}
	return false
}

func (g *GitHubAPI) answer(what func(*http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.admits(w, r) {
			return
		}
		found := what(r)
		if found == nil {
			http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(found)
	}
}

// review takes a status line or an answer. An answer ends the waiting.
func (g *GitHubAPI) review(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.admits(w, r) {
		return
	}
	var v GitHubReview
	if json.NewDecoder(r.Body).Decode(&v) != nil || len(v.Comment) > 1024 || v.State != "" && v.State != "approved" && v.State != "rejected" {
		http.Error(w, `{"message":"Validation Failed"}`, http.StatusUnprocessableEntity)
		return
	}
	i := -1
	for j, e := range g.waits {
		if e == v.Environment {
			i = j
		}
	}
	if i < 0 {
		http.Error(w, `{"message":"No pending deployment requests to approve or reject"}`, http.StatusUnprocessableEntity)
		return
	}
	g.reviews = append(g.reviews, v)
	if v.State != "" {
		g.waits = append(g.waits[:i:i], g.waits[i+1:]...)
	}
	if status := g.failing[r.Method]; status < 0 {
		http.Error(w, `{"message":"as told"}`, -status)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
