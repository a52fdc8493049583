package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const azureRules = `---
{kind: Provider, name: azure, platform: azure, issuer: "https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555", api: "API", app: {}}
---
kind: Pipeline
name: ledger
project: payments
provider: azure
organisation: 11111111-2222-3333-4444-555555555555
teamProject: 21111111-2222-3333-4444-555555555555
repository: 71111111-2222-3333-4444-555555555555
definition: "42"
stages:
  - name: deploy
    trust: {stage: Deploy, events: [individualCI], refs: [refs/heads/main]}
`

// The documented headers of a check leave one hold, however often they come; everything
// else leaves nothing, and no answer and no log line holds the run's access.
func TestHookOfAzure(t *testing.T) {
	z := lktest.NewAzureAPI(t, time.Now())
	w := &world{t: t, issuer: lktest.NewIssuer(t)}
	w.options.Dir = t.TempDir()
	w.begin(rules + strings.ReplaceAll(azureRules, "API", z.URL))
	var log bytes.Buffer
	serve := func(read func(context.Context, keeper.HoldAsked, string) (lockkeeper.Workload, bool, error)) {
		w.serving.Store(New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.options.Issuer, Version: "test", AppSecret: func(string) (string, error) { return z.Secret, nil },
			ReadHeld: read, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}))
	}
	serve(nil)
	post := func(provider string, head http.Header, body string) (int, checkReply) {
		req, err := http.NewRequest("POST", w.server.URL+"/hooks/azure/"+provider, strings.NewReader(body))
		w.must(err)
		req.Header = head
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		w.must(err)
		if bytes.Contains(text, []byte(z.Access)) {
			t.Errorf("the answer holds the access: %s", text)
		}
		var r checkReply
		json.Unmarshal(text, &r)
		return resp.StatusCode, r
	}
	wrong := z.Check(nil)
	wrong.Set("Authorization", "Basic eDp5")
	none := z.Check(nil)
	none.Del("Authorization")
	for name, c := range map[string]struct {
		provider string
		head     http.Header
		body     string
		status   int
	}{
		"no password":             {"azure", none, "", 401},
		"another password":        {"azure", wrong, "", 401},
		"another provider":        {"github", z.Check(nil), "", 404},
		"unknown provider":        {"x", z.Check(nil), "", 404},
		"metadata as plan url":    {"azure", z.Check(map[string]string{"PlanUrl": "http://169.254.169.254/"}), "", 422},
		"another organisation":    {"azure", z.Check(map[string]string{"PlanUrl": "https://dev.azure.com/other/"}), "", 422},
		"another team project":    {"azure", z.Check(map[string]string{"ProjectId": "91111111-2222-3333-4444-555555555555"}), "", 404},
		"another repository":      {"azure", z.Check(map[string]string{"RepositoryId": "91111111-2222-3333-4444-555555555555"}), "", 404},
		"no run":                  {"azure", z.Check(map[string]string{"BuildId": "$(build.BuildId)"}), "", 422},
		"a long body":             {"azure", z.Check(nil), strings.Repeat("x", maxBody+1), 429},
		"a poll that nobody does": {"azure", z.Check(map[string]string{"Completion": "ApiResponse"}), "", 503},
	} {
		if got, _ := post(c.provider, c.head, c.body); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	if list := w.keeper.Holds(); len(list) != 0 {
		t.Fatalf("held: %+v", list)
	}
	_, first := post("azure", z.Check(nil), `{"any": "thing"}`)
	for range 2 {
		if status, again := post("azure", z.Check(nil), ""); status != 200 || again != first || again.Status != "pending" || again.Hold == "" {
			t.Errorf("the message: %d %+v, and was %+v", status, again, first)
		}
	}
	if list := w.keeper.Holds(); len(list) != 1 || list[0].Asked.Run != "1234" || list[0].Asked.Polled {
		t.Errorf("held: %+v", list)
	}
	serve(func(context.Context, keeper.HoldAsked, string) (lockkeeper.Workload, bool, error) {
		t.Error("a run was read though nothing was let through")
		return lockkeeper.Workload{}, false, nil
	})
	if status, r := post("azure", z.Check(map[string]string{"Completion": "ApiResponse"}), ""); status != 200 || r.Status != "pending" || r.Hold == first.Hold {
		t.Errorf("the first poll: %d %+v", status, r)
	}
	if strings.Contains(log.String(), z.Access) || strings.Contains(log.String(), z.Secret) {
		t.Error("the log holds a secret")
	}
}
