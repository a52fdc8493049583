package web

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// activationRules are rules with somebody who is eligible, and an identity that
// people may use.
const activationRules = rules + `
---
{kind: Role, name: operator, actions: [freezes/write, identities/use]}
---
{kind: Group, name: deciders, users: [bob, cat]}
---
{kind: Assignment, name: on-call, role: operator, principal: user:ann, scope: /projects/payments, eligible: true}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:deciders, scope: /projects/payments}
---
{kind: ActivationRule, name: operators, role: operator, scope: /projects/payments, longest: 2h, approvals: [{name: one, approval: {count: 1, groups: [deciders], escalate: {after: 1h, groups: [managers]}}}]}
---
{kind: Environment, name: staff, project: payments, tier: development}
---
{kind: Identity, name: console, project: payments, environment: staff, audiences: ["https://console.example"], stages: [release/build], people: true}
`

func activationWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, options: keeper.Options{Dir: t.TempDir()}, issuer: lktest.NewIssuer(t)}
	w.begin(activationRules)
	return w
}

// Whatever fetches a link, a mail's scanner or a browser's preview, changes nothing:
// what changes something takes a POST, and only that (failure 20).
func TestFailure20PrefetchedLinks(t *testing.T) {
	w, ctx := activationWorld(t), context.Background()
	var r api.Request
	w.must(w.people["ann"].Call(ctx, "POST", "/requests", api.OpenRequest{Role: "operator", Scope: "/projects/payments", Seconds: 3600, Reason: "why"}, &r))
	size, tried := w.keeper.Size(), 0
	for path, item := range w.serving.Load().spec.OpenAPI().Paths {
		if item.Post == nil || item.Get != nil {
			continue
		}
		tried++
		path = strings.NewReplacer("{id}", r.ID, "{project}", "payments", "{name}", "console").Replace(path)
		for _, method := range []string{"GET", "HEAD"} {
			q, err := http.NewRequest(method, w.server.URL+path, nil)
			w.must(err)
			q.Header.Set("Authorization", "Bearer "+w.people["bob"].Bearer)
			answer, err := http.DefaultClient.Do(q)
			w.must(err)
			answer.Body.Close()
			if answer.StatusCode != http.StatusMethodNotAllowed && answer.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", method, path, answer.Status)
			}
		}
	}
	if now := w.keeper.Size(); now != size || tried < 10 {
		t.Errorf("%d entries came of fetching %d links", now-size, tried)
	}
	w.must(w.people["ann"].Call(ctx, "GET", "/requests/"+r.ID, nil, &r))
	if len(r.Approvals) > 0 || r.End != nil {
		t.Errorf("it stands as %+v", r)
	}
}

// The way of a request over HTTP: trimmed, begun, made longer, used for a token, and
// its end known to introspection.
func TestActivationOverHTTP(t *testing.T) {
	w, ctx := activationWorld(t), context.Background()
	ann, bob := w.people["ann"], w.people["bob"]
	var can api.Eligibilities
	w.must(ann.Call(ctx, "GET", "/eligibilities", nil, &can))
	if e := can.Eligibilities; len(e) != 1 || e[0].Extensions != 1 || e[0].Approvals[0].EscalateSeconds != 3600 || e[0].Approvals[0].EscalateGroups[0] != "managers" {
		t.Errorf("%+v", can)
	}
	var r api.Request
	w.must(ann.Call(ctx, "POST", "/requests", api.OpenRequest{Role: "operator", Scope: "/projects/payments", Seconds: 7200, Reason: "why"}, &r))
	before := r.Digest
	w.must(w.people["cat"].Call(ctx, "POST", "/requests/"+r.ID+"/approve", api.RequestVote{Digest: r.Digest, Comment: "fine"}, nil))
	w.must(bob.Call(ctx, "POST", "/requests/"+r.ID+"/approve", api.RequestVote{Digest: r.Digest, Comment: "half an hour", Seconds: 1800, Scope: "/projects/payments/identities/console"}, nil))
	if err := bob.Call(ctx, "POST", "/requests/"+r.ID+"/deny", api.RequestVote{Digest: before}, nil); code(err) != "ask_differs" {
		t.Errorf("a verdict on the larger one: %v", err)
	}
	w.must(ann.Call(ctx, "GET", "/requests/"+r.ID, nil, &r))
	if r.Seconds != 1800 || r.Scope != "/projects/payments/identities/console" || len(r.Trims) != 1 || r.Trims[0].User != "bob" || r.Trims[0].Seconds != 7200 || r.Trims[0].Digest != before ||
		len(r.Approvals) != 2 || r.Approvals[0].Digest != before || r.Approvals[1].Digest != r.Digest || r.Digest == before {
		t.Errorf("%+v", r)
	}
	var a api.Activation
	w.must(ann.Call(ctx, "POST", "/requests/"+r.ID+"/begin", nil, &a))
	if a.Ends.Sub(a.Started) != 30*time.Minute || a.Scope != r.Scope {
		t.Errorf("%+v", a)
	}
	w.must(ann.Call(ctx, "GET", "/requests/"+r.ID, nil, &r))
	if r.End == nil || r.End.Activation != a.ID || len(r.Trims) != 1 || r.Seconds != 1800 {
		t.Errorf("read back from the journal it is %+v", r)
	}
	if err := bob.Call(ctx, "POST", "/activations/"+a.ID+"/extend", api.ExtendActivation{Seconds: 600, Reason: "why"}, nil); code(err) != "activation_over" {
		t.Errorf("bob makes it longer: %v", err)
	}
	var longer api.Request
	w.must(ann.Call(ctx, "POST", "/activations/"+a.ID+"/extend", api.ExtendActivation{Seconds: 600, Reason: "why"}, &longer))
	w.must(bob.Call(ctx, "POST", "/requests/"+longer.ID+"/approve", api.RequestVote{Digest: longer.Digest}, nil))
	w.must(ann.Call(ctx, "POST", "/requests/"+longer.ID+"/begin", nil, &a))
	if a.Ends.Sub(a.Started) != 40*time.Minute || len(a.Extended) != 1 || a.Extended[0].Request != longer.ID {
		t.Errorf("%+v", a)
	}
	var token api.IssuedToken
	w.must(ann.Call(ctx, "POST", "/identities/payments/console/token", api.IssueToken{Audience: "https://console.example"}, &token))
	active := func() bool {
		t.Helper()
		q, err := http.NewRequest("POST", w.server.URL+"/oauth/introspect", strings.NewReader(url.Values{"token": {token.Token}}.Encode()))
		w.must(err)
		q.Header.Set("Authorization", "Bearer "+ann.Bearer)
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := http.DefaultClient.Do(q)
		w.must(err)
		defer answer.Body.Close()
		body := make([]byte, 4096)
		n, _ := answer.Body.Read(body)
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", answer.Status, body[:n])
		}
		return strings.Contains(string(body[:n]), `"active":true`) && strings.Contains(string(body[:n]), `"user":"ann"`)
	}
	if !active() {
		t.Error("it does not stand")
	}
	metrics, err := http.Get(w.server.URL + "/metrics")
	w.must(err)
	defer metrics.Body.Close()
	text, err := io.ReadAll(metrics.Body)
	w.must(err)
	for _, line := range []string{"lockkeeper_activations 1", "lockkeeper_requests_waiting 0", "lockkeeper_tokens_total 1"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the metrics do not say %s", line)
		}
	}
	w.must(ann.Call(ctx, "POST", "/activations/"+a.ID+"/end", api.EndActivation{}, nil))
	if active() {
		t.Error("it stands past the end")
	}
}
