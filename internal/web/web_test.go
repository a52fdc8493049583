package web

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

var update = flag.Bool("update", false, "rewrite testdata")

const handle = "lkh_a-handle-of-this-job"

func TestStory(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	j := w.job("push", "production")
	d := w.waiting(j, handle)
	if d.Status != "waiting" || d.Gate == nil || d.Gate.Code != "approvals_missing" {
		t.Fatalf("a fresh ask stands at %s %+v", d.Status, d.Gate)
	}
	path := "/deployments/" + d.ID
	if err := w.people["ann"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: d.Digest}, nil); code(err) != "own_deployment" {
		t.Errorf("the initiator's approval: %v", err)
	}
	if err := w.people["dora"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: d.Digest}, nil); code(err) != "not_granted" {
		t.Errorf("an approval without the right: %v", err)
	}
	if err := w.people["bob"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: app.Digest}, nil); code(err) != "ask_differs" {
		t.Errorf("an approval of another ask: %v", err)
	}
	w.must(w.people["bob"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: d.Digest}, nil))
	if err := w.people["bob"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: d.Digest}, nil); code(err) != "already_approved" {
		t.Errorf("a second approval by the same person: %v", err)
	}
	if err := w.as(j).Call(ctx, "POST", path+"/claim", api.Claim{Handle: handle}, nil); code(err) != "approvals_missing" {
		t.Errorf("a claim with one approval: %v", err)
	}
	w.must(w.people["cat"].Call(ctx, "POST", path+"/approve", api.Vote{Digest: d.Digest}, nil))
	w.must(w.as(j).Call(ctx, "POST", path+"/claim", api.Claim{Handle: handle}, &d))
	if d.Status != "running" || d.Lease == nil {
		t.Fatalf("after the claim: %s", d.Status)
	}
	e := w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example"))
	if e.Token == "" || e.Type != tokenTypeJWT || e.TokenType != "N_A" || e.Expires < 290 || e.Expires > 300 {
		t.Fatalf("the exchange answers %+v", e)
	}
	verifyToken(t, w, e.Token)
	holder := api.Client{Server: w.server.URL, Bearer: handle}
	w.must(holder.Call(ctx, "POST", path+"/end", api.EndDeployment{}, &d))
	if d.Status != "succeeded" || d.End.TokensOutside != 1 || d.End.OutsideTill.IsZero() {
		t.Errorf("the end says %s %+v", d.Status, d.End)
	}
	if e := w.exchange(exchangeForm1(w.issuer.JobToken(j), d.ID, handle, "https://target.example")); e.Code != "deployment_ended" || e.Error != "invalid_request" {
		t.Errorf("an exchange after the end: %+v", e)
	}
	var receipt []byte
	w.must(w.people["bob"].Call(ctx, "GET", path+"/receipt", nil, &receipt))
	s, err := keeper.VerifyReceipt(receipt, w.keeper.Trust())
	if err != nil || s.Predicate.Deployment != d.ID || len(s.Predicate.Approvals) != 2 {
		t.Errorf("the receipt: %v %+v", err, s)
	}
}

// verifyToken checks a token as a cloud does: by another library, through
// discovery.
func verifyToken(t *testing.T, w *world, raw string) {
	t.Helper()
	ctx := context.Background()
	p, err := oidc.NewProvider(ctx, w.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.Verifier(&oidc.Config{ClientID: "https://target.example", SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, raw)
	if err != nil || token.Subject != "lk:payments:production:payments-production" {
		t.Fatalf("the token: %v %+v", err, token)
	}
	if _, err := p.Verifier(&oidc.Config{ClientID: "https://other.example", SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, raw); err == nil {
		t.Error("the token is for another audience too")
	}
}

// The build stage has no path to the production identity, whatever it sends
// (invariant 7, attack A13).
func TestBuildStage(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	build := w.job("push", "")
	w.must(w.as(build).Call(ctx, "POST", "/artifacts", api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}, nil))
	err := w.as(build).Call(ctx, "POST", "/deployments", api.OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}, nil)
	if code(err) != "stage_not_named" {
		t.Errorf("the build stage opens a deployment: %v", err)
	}
	deploy := w.job("push", "production")
	d := w.running(deploy, handle)
	if err := w.as(build).Call(ctx, "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, nil); code(err) != "ask_differs" {
		t.Errorf("the build stage claims: %v", err)
	}
	other := w.job("push", "production")
	for name, form := range map[string]struct {
		job  lktest.GitHubJob
		hand string
		want string
	}{
		"the build stage with the handle":   {build, handle, "ask_differs"},
		"another job of the same stage":     {other, handle, "lease_of_another"},
		"the right job, without the handle": {deploy, "lkh_guess", "lease_of_another"},
	} {
		if e := w.exchange(exchangeForm1(w.issuer.JobToken(form.job), d.ID, form.hand, "https://target.example")); e.Code != form.want || e.Token != "" {
			t.Errorf("%s: %s", name, e.body)
		}
	}
	if e := w.exchange(exchangeForm1(w.issuer.JobToken(deploy), d.ID, handle, "https://elsewhere.example")); e.Error != "invalid_target" {
		t.Errorf("another audience: %s", e.body)
	}
}

// A token opens one thing; only the job that opened a deployment may use it
// again, with its handle (attack B7).
func TestReplay(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	build := w.job("push", "")
	token := w.issuer.JobToken(build)
	c := api.Client{Server: w.server.URL, Bearer: token}
	body := api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}
	w.must(c.Call(ctx, "POST", "/artifacts", body, nil, "Idempotency-Key", "k1"))
	w.must(c.Call(ctx, "POST", "/artifacts", body, nil, "Idempotency-Key", "k1")) // a retry is not a replay
	if err := c.Call(ctx, "POST", "/artifacts", body, nil, "Idempotency-Key", "k2"); code(err) != "token_replayed" {
		t.Errorf("the same token again: %v", err)
	}
	changed := api.Artifacts{Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("other"))}}}
	if err := c.Call(ctx, "POST", "/artifacts", changed, nil, "Idempotency-Key", "k1"); code(err) != "key_reused" {
		t.Errorf("the same key with another ask: %v", err)
	}
	deploy := w.job("push", "production")
	one := api.Client{Server: w.server.URL, Bearer: w.issuer.JobToken(deploy)}
	ask := api.OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}
	var wg sync.WaitGroup
	codes := make([]string, 64)
	for i := range codes {
		wg.Go(func() { codes[i] = code(one.Call(ctx, "POST", "/deployments", ask, nil)) })
	}
	wg.Wait()
	won := 0
	for _, c := range codes {
		if c == "<nil>" {
			won++
		} else if c != "token_replayed" {
			t.Errorf("a concurrent use: %s", c)
		}
	}
	if won != 1 {
		t.Errorf("%d of 64 concurrent uses of one token opened a deployment", won)
	}
	list, err := w.keeper.Deployments(ctx, keeper.Caller{User: "bob"}, keeper.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d deployments, %v", len(list), err)
	}
	path := "/deployments/" + list[0].ID
	if err := one.Call(ctx, "POST", path+"/claim", api.Claim{Handle: handle}, nil); code(err) != "approvals_missing" {
		t.Errorf("the opening token with its handle: %v", err)
	}
	if err := one.Call(ctx, "POST", path+"/claim", api.Claim{Handle: "lkh_other"}, nil); code(err) != "token_replayed" {
		t.Errorf("the opening token without its handle: %v", err)
	}
}

// The form of the token endpoint is read strictly (RFC 8693, section 2.1).
func TestExchangeForm(t *testing.T) {
	w := newWorld(t)
	good := exchangeForm1("x", "d-x", handle, "https://target.example")
	for name, change := range map[string]struct {
		do   func(map[string][]string)
		want string
	}{
		"another grant":       {func(f map[string][]string) { f["grant_type"] = []string{"password"} }, "unsupported_grant_type"},
		"a parameter twice":   {func(f map[string][]string) { f["subject_token"] = []string{"a", "b"} }, "invalid_request"},
		"an unknown one":      {func(f map[string][]string) { f["lifetime"] = []string{"1h"} }, "invalid_request"},
		"a scope":             {func(f map[string][]string) { f["scope"] = []string{"all"} }, "invalid_scope"},
		"no subject token":    {func(f map[string][]string) { delete(f, "subject_token") }, "invalid_request"},
		"no handle":           {func(f map[string][]string) { delete(f, "actor_token") }, "invalid_request"},
		"no deployment":       {func(f map[string][]string) { f["resource"] = []string{"https://x"} }, "invalid_request"},
		"another token type":  {func(f map[string][]string) { f["requested_token_type"] = []string{"saml"} }, "invalid_request"},
		"a malformed subject": {func(map[string][]string) {}, "invalid_request"},
	} {
		form := map[string][]string{}
		for k, v := range good {
			form[k] = v
		}
		change.do(form)
		if e := w.exchange(form); e.Error != change.want || e.status != http.StatusBadRequest || e.Code == "" {
			t.Errorf("%s: %d %s", name, e.status, e.body)
		}
	}
}

// A malformed body is refused without repeating what it held.
func TestMalformedBody(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{`{"user":["my secret"],"password":"my secret"}`, `{"user":"x","password":{"deep":"my secret"}}`, `{`, strings.Repeat("[", 10000), `"my secret"`} {
		resp, err := http.Post(w.server.URL+"/api/v1/sessions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 4096)
		n, _ := resp.Body.Read(text)
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || strings.Contains(string(text[:n]), "my secret") {
			t.Errorf("%.40s: %d %s", body, resp.StatusCode, text[:n])
		}
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%.40s: content type %q", body, got)
		}
	}
}

// What no route takes is a problem too, and so is a method that an address does
// not take.
func TestUnrouted(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/api/v1/nothing", http.StatusNotFound, "route_unknown", ""},
		{"GET", "/api/v1/", http.StatusNotFound, "route_unknown", ""},
		{"POST", "/api/v1/deployments/d-x/nothing", http.StatusNotFound, "route_unknown", ""},
		{"GET", "/nothing", http.StatusNotFound, "route_unknown", ""},
		{"POST", "/api/v1/about", http.StatusMethodNotAllowed, "method_not_allowed", "GET, HEAD"},
		{"DELETE", "/api/v1/catalog", http.StatusMethodNotAllowed, "method_not_allowed", "GET, HEAD, PUT"},
		{"GET", "/oauth/token", http.StatusMethodNotAllowed, "method_not_allowed", "POST"},
		{"POST", "/api/v1/deployments/d-x/renew", http.StatusUnauthorized, "credential_missing", ""},
	} {
		req, err := http.NewRequest(c.method, w.server.URL+c.path, nil)
		w.must(err)
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		var p api.Problem
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		w.must(err)
		if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %v %s %q", c.method, c.path, err, resp.Header.Get("Content-Type"), body)
		}
		if resp.StatusCode != c.status || p.Status != c.status || p.Code != c.code || resp.Header.Get("Allow") != c.allow || p.Next == "" {
			t.Errorf("%s %s: %s, Allow %q, %s", c.method, c.path, resp.Status, resp.Header.Get("Allow"), body)
		}
		if is := resp.Header.Get("WWW-Authenticate") != ""; is != (c.status == http.StatusUnauthorized) {
			t.Errorf("%s %s: a challenge: %v", c.method, c.path, is)
		}
	}
	err := (api.Client{Server: w.server.URL}).Call(context.Background(), "PATCH", "/about", nil, nil)
	if lockkeeper.KindOf(err) != lockkeeper.Invalid || code(err) != "method_not_allowed" {
		t.Errorf("the client takes it for %v: %v", lockkeeper.KindOf(err), err)
	}
}

// Waiting returns as soon as something differs.
func TestWait(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	d := w.waiting(w.job("push", "production"), handle)
	holder := api.Client{Server: w.server.URL, Bearer: handle}
	got := make(chan api.Deployment, 1)
	go func() {
		at, err := holder.Deployment(ctx, d.ID, d.Seen, 20*time.Second)
		if err != nil {
			t.Error(err)
		}
		got <- at
	}()
	w.must(w.people["bob"].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	if at := <-got; len(at.Approvals) != 1 {
		t.Errorf("the waiter sees %d approvals", len(at.Approvals))
	}
	for _, bearer := range []string{"lkh_other", "lkp_x_y", ""} {
		_, err := (api.Client{Server: w.server.URL, Bearer: bearer}).Deployment(ctx, d.ID, "", 0)
		if lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
			t.Errorf("%q may look: %v", bearer, err)
		}
	}
}

// A server that stops answers whoever only waits, and takes no minute for it.
func TestStopAnswersWaiters(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	d := w.waiting(w.job("push", "production"), handle)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	entered := make(chan struct{}, 2)
	server := New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.server.URL, Version: "test"}).HTTP()
	inner := server.Handler
	server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		inner.ServeHTTP(rw, r)
	})
	go server.Serve(l)
	at := "http://" + l.Addr().String()
	answered := make(chan error, 2)
	go func() {
		got, err := (api.Client{Server: at, Bearer: handle}).Deployment(ctx, d.ID, d.Seen, 60*time.Second)
		if err == nil && got.Seen != d.Seen {
			err = errors.New("it saw something else")
		}
		answered <- err
	}()
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/api/v1/deployments/"+d.ID+"/events", nil)
		if err == nil {
			req.Header.Set("Authorization", "Bearer "+handle)
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		answered <- err
	}()
	<-entered
	<-entered
	began := time.Now()
	w.must(server.Shutdown(ctx))
	for range 2 {
		w.must(<-answered)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A change of the API shows in testdata/openapi.json.
func TestOpenAPI(t *testing.T) {
	got, err := New(Options{Keeper: newWorld(t).keeper, URL: "http://x", Version: "test"}).Spec()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile("testdata/openapi.json", append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Errorf("the API has changed (accept with -update):\n%s", diff)
	}
}
