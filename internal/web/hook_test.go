package web

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// hooked is a world whose GitHub has an App of ours, and posts messages to it.
func hooked(t *testing.T) (*world, *lktest.GitHubAPI, func(provider, event, signature string, body []byte) int) {
	t.Helper()
	g := lktest.NewGitHubAPI(t)
	w := &world{t: t, issuer: lktest.NewIssuer(t)}
	w.options.Dir = t.TempDir()
	w.begin(strings.NewReplacer("issuer: ISSUER", "issuer: ISSUER\napi: "+g.URL+"\napp: {id: \"77\"}", "tier: production\n", "tier: production\nheldBy: github\n").Replace(rules))
	w.serving.Store(New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.options.Issuer, Version: "test", AppSecret: func(string) (string, error) { return g.Secret, nil }}))
	return w, g, func(provider, event, signature string, body []byte) int {
		req, err := http.NewRequest("POST", w.server.URL+"/hooks/github/"+provider, bytes.NewReader(body))
		w.must(err)
		req.Header.Set("X-GitHub-Event", event)
		req.Header.Set("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
		req.Header.Set("X-Hub-Signature-256", signature)
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		resp.Body.Close()
		return resp.StatusCode
	}
}

const ruleEvent = "deployment_protection_rule"

// A signed message about a repository of the catalog leaves one hold, however often it
// comes; everything else leaves nothing.
func TestHook(t *testing.T) {
	w, g, post := hooked(t)
	body, signature := g.Message(nil)
	long := append(bytes.Repeat([]byte(" "), maxBody), body...)
	other, otherSigned := g.Message(map[string]any{"repository": map[string]any{"id": 8002, "full_name": "acme/payments", "owner": map[string]any{"id": 7001}}})
	malformed, malformedSigned := g.Message(map[string]any{"environment": ""})
	done, doneSigned := g.Message(map[string]any{"action": "completed"})
	for name, c := range map[string]struct {
		provider, event, signature string
		body                       []byte
		status                     int
	}{
		"unsigned":           {"github", ruleEvent, "", body, 401},
		"of another message": {"github", ruleEvent, otherSigned, body, 401},
		"unknown provider":   {"gitlab", ruleEvent, signature, body, 404},
		"ping":               {"github", "ping", signature, body, 204},
		"another event":      {"github", "push", signature, body, 204},
		"another action":     {"github", ruleEvent, doneSigned, done, 204},
		"other repository":   {"github", ruleEvent, otherSigned, other, 404},
		"malformed":          {"github", ruleEvent, malformedSigned, malformed, 422},
		"no JSON":            {"github", ruleEvent, g.Sign([]byte("{")), []byte("{"), 422},
		"too long":           {"github", ruleEvent, g.Sign(long), long, 429},
	} {
		if got := post(c.provider, c.event, c.signature, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	if list := w.keeper.Holds(); len(list) != 0 {
		t.Fatalf("held: %+v", list)
	}
	for range 3 {
		if got := post("github", ruleEvent, signature, body); got != 202 {
			t.Errorf("the message: %d", got)
		}
	}
	if list := w.keeper.Holds(); len(list) != 1 || list[0].Asked.Run != "30433642" || list[0].Asked.Repository != "8001" {
		t.Errorf("held: %+v", list)
	}
	s := New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.options.Issuer, Version: "test"})
	w.serving.Store(s)
	if got := post("github", ruleEvent, signature, body); got != 404 {
		t.Errorf("a server without secrets: %d", got)
	}
}
