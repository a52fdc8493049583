package web

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// post sends a form with a bearer.
func (w *world) post(path, bearer string, form url.Values) (int, map[string]any) {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodPost, w.server.URL+path, strings.NewReader(form.Encode()))
	w.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	out := map[string]any{}
	if len(body) > 0 {
		w.must(json.Unmarshal(body, &out))
	}
	return resp.StatusCode, out
}

// TestIntrospection: a token stands while its lease does and nobody revoked it,
// and nobody but its holder and the deployment's readers learns even that.
func TestIntrospection(t *testing.T) {
	w := newWorld(t)
	j := w.job("push", "production")
	d := w.running(j, handle)
	one := w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example")).Token
	two := w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example")).Token
	active := func(bearer, token string) bool {
		t.Helper()
		status, out := w.post("/oauth/introspect", bearer, url.Values{"token": {token}})
		if status != http.StatusOK {
			return false
		}
		is, ok := out["active"].(bool)
		if !ok || !is && len(out) != 1 {
			t.Errorf("an inactive token is told more about: %v", out)
		}
		return is
	}
	session := w.people["bob"].Bearer
	if !active(handle, one) || !active(session, one) {
		t.Error("a token under a live lease is not active")
	}
	_, out := w.post("/oauth/introspect", session, url.Values{"token": {one}, "token_type_hint": {"access_token"}})
	if out["sub"] != "lk:payments:production:payments-production" || out["deployment"] != d.ID || out["iss"] != w.server.URL || out["aud"] != "https://target.example" {
		t.Errorf("it says %v", out)
	}
	foreign := w.issuer.JobToken(j)
	for name, c := range map[string][2]string{"nobody asks": {"", one}, "another handle asks": {"lkh_another", one}, "a platform's token": {session, foreign},
		"a changed token": {session, one[:len(one)-4] + "AAAA"}, "rubbish": {session, "rubbish"}, "nothing": {session, ""}} {
		if active(c[0], c[1]) {
			t.Errorf("%s: active", name)
		}
	}
	// Who shows no credential that holds is told so, as OAuth's clients are.
	for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
		for _, bearer := range []string{"", "lkh_another", "lkp_x_y", foreign, one} {
			if status, out := w.post(path, bearer, url.Values{"token": {one}}); status != http.StatusUnauthorized || out["error"] != "invalid_client" || out["code"] == "" {
				t.Errorf("%s with the bearer %.12q: %d %v", path, bearer, status, out)
			}
		}
	}
	if !active(handle, one) {
		t.Error("who shows no credential revoked the token")
	}
	if status, _ := w.post("/oauth/introspect", session, url.Values{"token": {one, two}}); status != http.StatusBadRequest {
		t.Errorf("two tokens at once: %d", status)
	}
	// Revoking is for the holder and for whoever may cancel; an unknown token is no error (RFC 7009).
	if status, _ := w.post("/oauth/revoke", w.people["dora"].Bearer, url.Values{"token": {"rubbish"}}); status != http.StatusOK {
		t.Errorf("revoking rubbish: %d", status)
	}
	w.post("/oauth/revoke", "lkh_another", url.Values{"token": {one}})
	if !active(handle, one) {
		t.Error("another handle revoked the token")
	}
	for range 2 {
		if status, out := w.post("/oauth/revoke", handle, url.Values{"token": {one}}); status != http.StatusOK {
			t.Errorf("revoking: %d %v", status, out)
		}
	}
	if active(handle, one) || !active(handle, two) {
		t.Error("after revoking one of two tokens the wrong ones stand")
	}
	w.must(api.Client{Server: w.server.URL, Bearer: handle}.Call(context.Background(), "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil))
	if active(session, two) {
		t.Error("a token stands after its deployment")
	}
}

// TestKeyRotation: the next key is known before it signs, what the old one
// signed goes on being verified, and in an emergency it does not (D5).
func TestKeyRotation(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	j := w.job("push", "production")
	d := w.running(j, handle)
	mint := func() string {
		return w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example")).Token
	}
	verifies := func(token string) bool {
		t.Helper()
		p, err := oidc.NewProvider(ctx, w.server.URL) // fetches the key set anew
		w.must(err)
		_, err = p.Verifier(&oidc.Config{ClientID: "https://target.example", SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, token)
		return err == nil
	}
	keys := func() []string {
		t.Helper()
		resp, err := http.Get(w.server.URL + "/.well-known/jwks.json")
		w.must(err)
		defer resp.Body.Close()
		var set struct {
			Keys []struct{ Kid, Alg, Use, D string }
		}
		w.must(json.NewDecoder(resp.Body).Decode(&set))
		var out []string
		for _, k := range set.Keys {
			if k.D != "" || k.Use != "sig" || k.Alg != "ES256" && k.Alg != "RS256" {
				t.Errorf("a published key says %+v", k)
			}
			out = append(out, k.Kid)
		}
		return out
	}
	before := mint()
	if n := len(keys()); n != 4 || !verifies(before) {
		t.Fatalf("%d keys are published, and the token verifies: %v", n, verifies(before))
	}
	dora := w.people["dora"]
	if err := dora.Call(ctx, "POST", "/keys/rotate", api.Rotate{Algorithm: "ES256"}, nil); code(err) != "key_too_fresh" {
		t.Errorf("a key that was published just now: %v", err)
	}
	if err := w.people["bob"].Call(ctx, "POST", "/keys/rotate", api.Rotate{Algorithm: "ES256", Emergency: true}, nil); code(err) != "not_granted" {
		t.Errorf("a rotation by anybody: %v", err)
	}
	published := keys()
	var r api.Rotated
	w.must(dora.Call(ctx, "POST", "/keys/rotate", api.Rotate{Algorithm: "ES256", Emergency: true, Reason: "stolen"}, &r))
	if !strings.Contains(strings.Join(published, " "), r.Active) {
		t.Error("the key that signs now was not published before")
	}
	after := mint()
	if verifies(before) || !verifies(after) || len(keys()) != 4 {
		t.Errorf("after an emergency: the old token verifies %v, the new one %v, %d keys", verifies(before), verifies(after), len(keys()))
	}
}

// TestRS256 for the one audience that takes nothing else.
func TestRS256(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 2, Files: []api.File{{Name: "rules.yaml", Data: strings.NewReplacer("ISSUER", w.issuer.URL,
		`["https://target.example"]`, `["https://target.example", "api://AzureADTokenExchange"]`).Replace(rules)}}}, nil))
	j := w.job("push", "production")
	d := w.running(j, handle)
	for audience, algorithm := range map[string]string{"api://AzureADTokenExchange": "RS256", "https://target.example": "ES256"} {
		raw := w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, audience)).Token
		p, err := oidc.NewProvider(ctx, w.server.URL)
		w.must(err)
		if _, err := p.Verifier(&oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{algorithm}}).Verify(ctx, raw); err != nil {
			t.Errorf("%s: %v", audience, err)
		}
	}
}

// TestEvents: a deployment's progress arrives as it happens, and the stream ends
// with the deployment.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d := w.waiting(w.job("push", "production"), handle)
	open := func(bearer, last string) *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/api/v1/deployments/"+d.ID+"/events", nil)
		w.must(err)
		req.Header.Set("Authorization", "Bearer "+bearer)
		req.Header.Set("Last-Event-ID", last)
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	if r := open("lkh_nobody", ""); r.StatusCode != http.StatusUnauthorized || r.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a stranger gets %s %s", r.Status, r.Header.Get("Content-Type"))
	}
	stream := open(w.people["bob"].Bearer, "")
	if stream.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream is %s", stream.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(stream.Body)
	lines.Buffer(nil, 1<<20)
	next := func() (api.Deployment, string) {
		t.Helper()
		var at api.Deployment
		id := ""
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				id = s
			}
			if s, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				w.must(json.Unmarshal([]byte(s), &at))
				return at, id
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return at, id
	}
	if at, id := next(); at.Status != "waiting" || len(at.Approvals) != 0 || id != at.Seen {
		t.Fatalf("the first event: %+v", at)
	}
	w.must(w.people["bob"].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	at, seen := next()
	if len(at.Approvals) != 1 {
		t.Fatalf("after an approval: %+v", at)
	}
	again := open(w.people["bob"].Bearer, seen) // goes on behind what was seen
	w.must(w.people["cat"].Call(ctx, "POST", "/deployments/"+d.ID+"/reject", api.Vote{Digest: d.Digest, Comment: "no"}, nil))
	if at, _ := next(); at.Status != "rejected" {
		t.Fatalf("the last event: %s", at.Status)
	}
	for lines.Scan() {
		if lines.Text() != "" {
			t.Errorf("the stream goes on after the end: %q", lines.Text())
		}
	}
	body, err := io.ReadAll(again.Body)
	if err != nil || strings.Count(string(body), "event: deployment") != 1 || !strings.Contains(string(body), `"rejected"`) {
		t.Errorf("a stream that goes on shows %q %v", body, err)
	}
}

// TestAzureStages: the same pipeline, two stages, one shape of token. Only the
// look-up of the run tells them apart (A13).
func TestAzureStages(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	now := time.Now()
	a := lktest.NewAzureAPI(t, now)
	text := strings.NewReplacer("ISSUER", w.issuer.URL, "platform: github", "platform: azure\napi: "+a.URL, w.issuer.URL, w.issuer.URL+"/"+a.Organisation).Replace(strings.ReplaceAll(rules, "ISSUER", w.issuer.URL))
	text = strings.NewReplacer(`organisation: "7001"`, "organisation: "+a.Organisation+"\nteamProject: "+a.Project, `repository: "8001"`, "repository: 71111111-2222-3333-4444-555555555555",
		"definition: .github/workflows/release.yml", `definition: "42"`, `id: "1001"`, "id: a1111111-2222-3333-4444-555555555555", `id: "1002"`, "id: b1111111-2222-3333-4444-555555555555", `id: "1003"`, "id: c1111111-2222-3333-4444-555555555555").Replace(text)
	i, j := strings.Index(text, "stages:\n"), strings.Index(text, "---\nkind: Environment")
	text = text[:i] + "stages:\n  - {name: build, trust: {stage: Build, events: [individualCI], refs: [refs/heads/main]}}\n  - {name: deploy, trust: {stage: Deploy, events: [individualCI], refs: [refs/heads/main]}}\n" + text[j:]
	text = strings.ReplaceAll(text, "tier: production", "tier: preproduction")
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 2, Files: []api.File{{Name: "rules.yaml", Data: text}}}, nil))
	for _, user := range []string{"ann", "bob", "cat"} { // whose accounts are others now
		var c api.Confirmed
		if w.must(w.people[user].Call(ctx, "POST", "/accounts/confirm", nil, &c)); len(c.Links) != 1 {
			t.Errorf("%s confirms %v", user, c.Links)
		}
	}
	ask := api.OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}
	as := func(access string) api.Client {
		return api.Client{Server: w.server.URL, Bearer: w.issuer.Token(w.issuer.AzureClaims(a, now, nil)), Access: access}
	}
	err := as("").Call(ctx, "POST", "/deployments", ask, nil)
	if code(err) != "event_not_admitted" && code(err) != "stage_differs" {
		t.Errorf("without a look-up: %v", err)
	}
	if r := lockkeeper.RefusalOf(err); r == nil || !strings.Contains(mustJSON(t, r.Decision), "SYSTEM_ACCESSTOKEN") {
		t.Errorf("the refusal does not say how to let the run be looked up: %v", err)
	}
	var d api.Deployment
	w.must(as(a.Access).Call(ctx, "POST", "/deployments", ask, &d))
	if d.Ask.Stage != "deploy" || d.Initiators[0].Account != "a1111111-2222-3333-4444-555555555555" {
		t.Errorf("the deployment is of %s by %v", d.Ask.Stage, d.Initiators)
	}
	for _, user := range []string{"bob", "cat"} {
		w.must(w.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	// The run's build stage is at work again: nobody can say whose token it is.
	a.Record("s1", "state", "inProgress")
	if err := as(a.Access).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, nil); code(err) != "azure_stage_ambiguous" {
		t.Errorf("a claim while the build stage is at work: %v", err)
	}
	a.Record("s1", "state", "completed")
	// It is the build stage alone that is at work: its token is the build stage's.
	a.Record("s2", "state", "pending")
	a.Record("s2", "startTime", nil)
	a.Record("j2", "state", "pending")
	a.Record("j2", "startTime", nil)
	a.Record("s1", "state", "inProgress")
	a.Record("j1", "state", "inProgress")
	if err := as(a.Access).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, nil); code(err) != "ask_differs" {
		t.Errorf("the build stage claims: %v", err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestGitLabJob: one token a job, used from the ask to the exchange, and by no
// other job.
func TestGitLabJob(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	text := strings.NewReplacer("platform: github", "platform: gitlab", `organisation: "7001"`, `organisation: "72"`, `repository: "8001"`, `repository: "20"`,
		"definition: .github/workflows/release.yml", "definition: .gitlab-ci.yml", "tier: production", "tier: preproduction",
		"branches: {allowed: [refs/heads/main]}", "branches: {allowed: [refs/heads/main], protected: true}").Replace(strings.ReplaceAll(rules, "ISSUER", w.issuer.URL))
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 2, Files: []api.File{{Name: "rules.yaml", Data: text}}}, nil))
	ask := api.OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}
	token := func(more map[string]any) string {
		return w.issuer.Token(w.issuer.GitLabClaims(w.server.URL, time.Now(), more))
	}
	client := api.Client{Server: w.server.URL}
	if err := client.With(token(map[string]any{"ref_protected": "false"})).Call(ctx, "POST", "/deployments", ask, nil); code(err) != "branch_not_protected" {
		t.Errorf("from a ref that is not protected: %v", err)
	}
	if err := client.With(token(map[string]any{"pipeline_source": "merge_request_event", "ref_path": "refs/merge-requests/1/head"})).Call(ctx, "POST", "/deployments", ask, nil); code(err) != "event_not_admitted" {
		t.Errorf("from a merge request (A12): %v", err)
	}
	mine := token(nil)
	var d api.Deployment
	w.must(client.With(mine).Call(ctx, "POST", "/deployments", ask, &d))
	for _, user := range []string{"bob", "cat"} {
		w.must(w.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	w.must(client.With(mine).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, nil))
	if e := w.exchange(exchangeForm1(mine, d.ID, handle, "https://target.example")); e.Token == "" {
		t.Errorf("the job's one token is not taken again: %+v", e)
	}
	other := token(map[string]any{"job_id": "303"})
	if e := w.exchange(exchangeForm1(other, d.ID, handle, "https://target.example")); e.Code != "lease_of_another" {
		t.Errorf("another job of the pipeline: %+v", e)
	}
	if err := client.With(mine).Call(ctx, "POST", "/deployments", ask, nil); code(err) != "token_replayed" {
		t.Errorf("the token opens a second deployment: %v", err)
	}
}
