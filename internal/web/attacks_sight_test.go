package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// injection: what a token or a request says never breaks a line, steers a
// terminal or turns a text round.
func injection(t *testing.T, a *arena) {
	ctx := context.Background()
	from, replied := a.log.len(), a.replies.len()
	claims := map[string]string{"ref": "refs/heads/x", "environment": "production", "actor": "ann", "repository": "acme/payments", "event_name": "push", "head_ref": "",
		"workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/x", "job_workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/x", "repository_owner": "acme"}
	for what, evil := range map[string]string{"a line end": "\nlevel=ERROR msg=forged", "a carriage return": "\r::set-env name=X::y", "an escape": "\x1b[2Jforged", "a bell": "\a", "a null": "\x00", "C1": "\u009b2J",
		"a next line": "\u0085forged", "a line separator": "\u2028forged", "a paragraph separator": "\u2029", "a right-to-left override": "\u202egnp.exe", "an isolate": "\u2066x"} {
		for name, good := range claims {
			if name == "head_ref" { // it is not read
				a.takes(t, what+" in "+name, a.opens(a.github("production", map[string]any{name: evil}), "production"))
				continue
			}
			a.refused(t, inLog, what+" in "+name, "claim_malformed", a.opens(a.github("production", map[string]any{name: good + evil}), "production"))
		}
		for _, name := range []string{"ref", "ref_path", "user_login", "project_path", "ci_config_ref_uri"} {
			a.refused(t, inLog, what+" in GitLab's "+name, "claim_malformed", a.opens(a.gitlab(map[string]any{name: "refs/heads/main" + evil}), "lab"))
		}
		a.refused(t, inLog, what+" in iss", "issuer_unknown", a.opens(a.github("production", map[string]any{"iss": a.issuer.URL + evil}), "production"))
		a.refused(t, inLog, what+" in aud", "audience_differs", a.opens(a.github("production", map[string]any{"aud": a.server.URL + evil}), "production"))
		a.refused(t, inJournal, what+" in the environment that is asked for", "environment_unknown", a.opens(a.github("production", nil), "production"+evil))
		if what != "a null" {
			a.azure.Build("requestedFor", map[string]any{"id": "A1111111-2222-3333-4444-555555555555", "uniqueName": "ann" + evil})
			c := a.client(a.devops(nil))
			c.Access = a.azure.Access
			if d, err := a.ask(c, "devops"); err != nil || len(d.Initiators) != 1 || d.Initiators[0].Name != "" {
				t.Errorf("%s in the name that Azure DevOps gives: %+v %v", what, d.Initiators, err)
			}
			a.azure.Build("requestedFor", map[string]any{"id": "A1111111-2222-3333-4444-555555555555", "uniqueName": "ann@example.com"})
			a.azure.Record("s2", "identifier", "Deploy"+evil)
			a.refused(t, inLog, what+" in a stage's name", "azure_run_unknown", func() error { _, err := a.ask(c, "devops"); return err })
			a.azure.Record("s2", "identifier", "Deploy")
		}
		a.refused(t, inLog, what+" in a form", "parameter_unknown", a.exchanges("x", "d-x", func(f url.Values) { f.Set("x"+evil, "y") }))
		a.refused(t, inLog, what+" in the name of a field", "request_malformed", func() error {
			return a.client("").Call(ctx, "POST", "/sessions", map[string]any{"user": "dora", "password": "x", "x" + evil: "y"}, nil)
		})
		a.refused(t, inJournal, what+" in the project that is asked for", "project_differs", func() error {
			return a.client(a.github("production", nil)).Call(ctx, "POST", "/deployments", api.OpenDeployment{Project: "x" + evil, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}, nil)
		})
		a.refused(t, inLog, what+" in a deployment's id", "resource_missing", a.exchanges(a.github("production", nil), "d-x"+evil, nil))
		a.refused(t, inLog, what+" in a user's name", "sign_in_failed", func() error {
			return a.client("").Call(ctx, "POST", "/sessions", api.SignIn{User: "dora" + evil, Password: "x"}, nil)
		})
		a.refused(t, inLog, what+" in the path", "deployment_missing", func() error {
			return a.client("lkh_x").Call(ctx, "GET", "/deployments/"+url.PathEscape("d-x"+evil), nil, nil)
		})
		a.refused(t, inLog, what+" in an address", "route_unknown", func() error {
			return a.client("").Call(ctx, "GET", "/"+url.PathEscape("x"+evil), nil, nil)
		})
	}
	for _, out := range []string{a.log.String()[from:], a.replies.String()[replied:]} {
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) || steers(strings.TrimSuffix(line, "\n")) {
				t.Errorf("a line was forged: %q", line)
			}
		}
	}
	if strings.Contains(a.log.String(), "forged") {
		t.Error("the log repeats what a token says")
	}
	// What a caller prints of a reply holds nothing of it either.
	for line := range strings.Lines(a.replies.String()[replied:]) {
		var p api.Problem
		a.must(json.Unmarshal([]byte(line), &p))
		for _, text := range append(sentences(p.Decision), p.Detail, p.Next, p.Field) {
			if steers(text) {
				t.Errorf("the reply with the code %s says %q", p.Code, text)
			}
		}
	}
}

// steers reports whether a text would break a line or steer a terminal.
func steers(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	})
}

func sentences(d *lockkeeper.Decision) (out []string) {
	if d == nil {
		return nil
	}
	out = append(out, d.Subject, d.Sentence, d.Next)
	for i := range d.Because {
		out = append(out, sentences(&d.Because[i])...)
	}
	return out
}

// inSight plays a story with everything that goes wrong in one, and looks for
// every secret in it in every output: the logs, the metrics, the replies that
// refuse, the journal, the folder.
func inSight(t *testing.T, a *arena) {
	ctx := context.Background()
	wrong := "not the pass phrase of bob"
	a.hide(wrong, "lkh_a-wrong-handle", "lki_a-wrong-code", "access-of-nobody")
	a.client("").Call(ctx, "POST", "/sessions", api.SignIn{User: "bob", Password: wrong}, nil)
	a.client("").Call(ctx, "POST", "/sessions", map[string]any{"user": "bob", "password": []string{wrong}}, nil)
	a.client("").Call(ctx, "POST", "/enrolments", api.Enrol{User: "bob", Code: "lki_a-wrong-code", Password: wrong}, nil)
	j := a.job("push", "production")
	raw := a.token(j, nil)
	d := a.running(j, handle)
	for _, bearer := range []string{raw, raw + "x", strings.Replace(raw, ".", "..", 1), "lkp_" + raw, "lkh_a-wrong-handle", strings.ToUpper(raw)} {
		a.hide(bearer)
		c := a.client(bearer)
		c.Access = "access-of-nobody"
		a.ask(c, "production")
		a.claims(c, d.ID, "lkh_a-wrong-handle")()
		c.Call(ctx, "GET", "/deployments/"+d.ID, nil, nil)
		c.Call(ctx, "POST", "/deployments/"+bearer+"/renew", nil, nil)
		c.Call(ctx, "GET", "/nowhere/"+bearer+"?token="+bearer, nil, nil)
		a.exchanges(bearer, d.ID, nil)()
		a.exchanges(bearer, bearer, func(f url.Values) { f.Set(bearer, bearer) })()
		a.exchanges(raw, d.ID, func(f url.Values) { f.Set("actor_token", "lkh_a-wrong-handle") })()
		for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
			a.post(path, bearer, url.Values{"token": {bearer}})
		}
	}
	c := a.client(a.devops(nil))
	c.Access = "access-of-nobody"
	a.ask(c, "devops")
	exec := a.database(t)
	exec(`CREATE TRIGGER stumble BEFORE INSERT ON entry WHEN instr(CAST(new.data AS TEXT), '"kind":"token.granted"') > 0 BEGIN SELECT RAISE(ABORT, 'no'); END`)
	a.exchanges(a.token(j, nil), d.ID, nil)() // a fault, which the log explains
	exec(`DROP TRIGGER stumble`)
	good := a.token(j, nil)
	e := a.exchange(exchangeForm1(good, d.ID, handle, "https://target.example"))
	a.hide(e.Token)
	a.post("/oauth/introspect", handle, url.Values{"token": {e.Token}})
	a.post("/oauth/revoke", handle, url.Values{"token": {e.Token}})
	a.must(a.client(handle).Call(ctx, "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil))

	outputs := a.files()
	outputs["the log"], outputs["the metrics"], outputs["the replies"] = []byte(a.log.String()), []byte(a.metrics()), []byte(a.replies.String())
	over, cancel := context.WithCancel(ctx)
	cancel()
	for from := int64(0); from < a.keeper.Size(); from += 1000 {
		entries, err := a.keeper.Tail(over, keeper.Caller{User: "dora"}, from, 0)
		a.must(err)
		outputs["the journal"] = append(outputs["the journal"], bytes.Join(slices.Collect(func(yield func([]byte) bool) {
			for _, e := range entries {
				yield(e)
			}
		}), []byte("\n"))...)
	}
	if len(outputs["journal.db"]) == 0 || len(outputs["the log"]) == 0 || len(outputs["the replies"]) == 0 {
		t.Fatal("nothing is looked at")
	}
	for _, s := range a.secrets() {
		if len(s) < 12 {
			t.Fatalf("the secret %q is too short to be looked for", s)
		}
		for name, data := range outputs {
			if bytes.Contains(data, []byte(s)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(s)))) {
				i := bytes.Index(data, []byte(s))
				t.Errorf("%s: holds the secret %.24s… near %q", name, s, data[max(0, i-200):min(len(data), i+200)])
			}
		}
	}
	// What ties an entry to the token is the digest of its issuer and id alone.
	id, _ := claimsOf(t, good)["jti"].(string)
	if !bytes.Contains(outputs["the journal"], []byte(lockkeeper.TokenIDOf(a.issuer.URL, id))) {
		t.Error("no entry names the digest of the token that was shown")
	}
}
