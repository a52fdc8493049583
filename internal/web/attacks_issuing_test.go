package web

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// TestAttacksOnIssuing are D1 to D7: what is handed out, to whom, and what of it
// can be seen.
func TestAttacksOnIssuing(t *testing.T) {
	a := newArena(t)
	t.Run("D1_wider_than_the_binding", func(t *testing.T) { wider(t, a) })
	t.Run("D2_confused_deputy", func(t *testing.T) { deputy(t, a) })
	t.Run("D3_no_token_without_a_record", func(t *testing.T) { noRecord(t, a) })
	t.Run("D4_ended_lease", func(t *testing.T) { endedLease(t, a) })
	t.Run("D7_log_injection", func(t *testing.T) { injection(t, a) })
	t.Run("D6_no_secret_in_sight", func(t *testing.T) { inSight(t, a) })
	t.Run("D5_rotation_in_flight", func(t *testing.T) { rotation(t, a) }) // the last: it moves the clock and breaks the journal
}

func wider(t *testing.T, a *arena) {
	j := a.job("push", "production")
	d := a.running(j, handle)
	set := func(name, value string) func(url.Values) { return func(f url.Values) { f.Set(name, value) } }
	for _, audience := range []string{"https://elsewhere.example", "https://TARGET.example", "https://target.example/", "https://target.example https://elsewhere.example", a.server.URL, ""} {
		e := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, audience))
		if e.Error != "invalid_target" || e.status != http.StatusBadRequest {
			t.Errorf("the audience %q: %s", audience, e.body)
		}
		other := a.job("push", "production") // another lease, so that each refusal is recorded for itself
		lease := a.running(other, handle)
		a.refused(t, inJournal, "the audience "+audience, "audience_not_admitted", a.exchanges(a.token(other, nil), lease.ID, set("audience", audience)))
	}
	for _, scope := range []string{"all", "openid", "https://graph.microsoft.com/.default", " "} {
		form := exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example")
		form.Set("scope", scope)
		if e := a.exchange(form); e.Error != "invalid_scope" || e.status != http.StatusBadRequest {
			t.Errorf("the scope %q: %s", scope, e.body)
		}
		a.refused(t, inLog, "the scope "+scope, "scope_unknown", a.exchanges(a.token(j, nil), d.ID, set("scope", scope)))
	}
	a.takes(t, "a scope that is not said", a.exchanges(a.token(j, nil), d.ID, set("scope", ""))) // RFC 6749, section 3.2
	a.refused(t, inLog, "an unknown parameter", "parameter_unknown", a.exchanges(a.token(j, nil), d.ID, set("lifetime", "86400")))
	a.refused(t, inLog, "two audiences", "parameter_twice", a.exchanges(a.token(j, nil), d.ID, func(f url.Values) { f.Add("audience", "https://elsewhere.example") }))
	a.refused(t, inLog, "a parameter in the URL", "form_malformed", func() error {
		resp, err := http.PostForm(a.server.URL+"/oauth/token?audience=https://elsewhere.example", exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example"))
		a.must(err)
		defer resp.Body.Close()
		var e exchanged
		a.must(json.NewDecoder(resp.Body).Decode(&e))
		return lockkeeper.Invalid.Errorf(e.Code, "%s", e.Error)
	})
	a.refused(t, inLog, "an unknown field of an ask", "request_malformed", func() error {
		return a.client(a.token(j, nil)).Call(context.Background(), "POST", "/deployments", map[string]any{"environment": "production", "artifacts": []lockkeeper.Artifact{app},
			"handle": lockkeeper.HandleDigest(handle), "identity": "payments-production"}, nil)
	})
	e := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example"))
	a.hide(e.Token)
	if claims := claimsOf(t, e.Token); claims["aud"] != "https://target.example" || claims["sub"] != "lk:payments:production:payments-production" || claims["scope"] != nil {
		t.Errorf("the token says %v", claims)
	}
}

func claimsOf(t *testing.T, raw string) (c map[string]any) {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", raw)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// deputy: the lease says which identity, nothing that a caller sends does; and
// who is nobody learns nothing of what there is.
func deputy(t *testing.T, a *arena) {
	ctx := context.Background()
	j := a.job("push", "production")
	d := a.running(j, handle)
	lab := a.released(t, a.gitlab(nil), "", "lab")
	a.refused(t, inJournal, "a job with the lease of another pipeline", "ask_differs", a.exchanges(a.token(j, nil), lab.ID, nil))
	a.refused(t, inJournal, "a job of another pipeline with the lease", "ask_differs", a.exchanges(a.gitlab(nil), d.ID, nil))
	a.refused(t, inJournal, "an ask for another pipeline's environment", "stage_not_named", a.opens(a.gitlab(nil), "production"))
	a.refused(t, inJournal, "an ask in another project's name", "project_differs", func() error {
		return a.client(a.github("production", nil)).Call(ctx, "POST", "/deployments", api.OpenDeployment{Project: "shop", Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}, nil)
	})
	for _, name := range []string{"identity", "subject", "client_id", "role", "environment", "project"} {
		a.refused(t, inLog, "an exchange that names its "+name, "parameter_unknown", a.exchanges(a.token(j, nil), d.ID, func(f url.Values) { f.Set(name, "payments-production") }))
	}

	// The same answer, to the byte, for what is there and what is not.
	unknown := "d-aaaaaaaaaaaaaaaa"
	answer := func(method, path, bearer string, form url.Values) string {
		var body io.Reader
		if form != nil {
			body = strings.NewReader(form.Encode())
		}
		req, err := http.NewRequest(method, a.server.URL+path, body)
		a.must(err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(req)
		a.must(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		a.must(err)
		return fmt.Sprint(resp.StatusCode, " ", strings.NewReplacer(d.ID, "ID", unknown, "ID").Replace(string(b)))
	}
	bad := a.token(j, nil)
	bad = bad[:len(bad)-8] + "AAAAAAAA"
	own := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example")).Token
	a.hide(bad, own)
	for what, ask := range map[string]func(id string) string{
		"an exchange without a token that holds": func(id string) string {
			return answer("POST", "/oauth/token", "", exchangeForm1(bad, id, handle, "https://target.example"))
		},
		"an exchange for an audience unknown": func(id string) string {
			return answer("POST", "/oauth/token", "", exchangeForm1(bad, id, handle, "https://"+id+".example"))
		},
		"a look without a credential":       func(id string) string { return answer("GET", "/api/v1/deployments/"+id, "", nil) },
		"a look with a handle that is none": func(id string) string { return answer("GET", "/api/v1/deployments/"+id, "lkh_guess", nil) },
		"the stream":                        func(id string) string { return answer("GET", "/api/v1/deployments/"+id+"/events", "lkh_guess", nil) },
		"the receipt":                       func(id string) string { return answer("GET", "/api/v1/deployments/"+id+"/receipt", "lkh_guess", nil) },
	} {
		if there, not := ask(d.ID), ask(unknown); there != not || !strings.HasPrefix(there, "4") {
			t.Errorf("%s tells what there is:\n%s\n%s", what, there, not)
		}
	}
	if there, not := answer("POST", "/oauth/introspect", "", url.Values{"token": {own}}), answer("POST", "/oauth/introspect", "", url.Values{"token": {"rubbish"}}); there != not || !strings.HasPrefix(there, "401") {
		t.Errorf("introspection tells strangers of tokens:\n%s\n%s", there, not)
	}
	secret := "lkp_x_" + unknown
	a.refused(t, inLog, "a session that is none", "session_unknown", func() error { return a.client(secret).Call(ctx, "GET", "/deployments/"+d.ID, nil, nil) })
}

// database is the keeper's journal on a connection of the test's own.
func (a *arena) database(t *testing.T) (exec func(statements ...string)) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(a.options.Dir, "journal.db")+"?_pragma=busy_timeout(5000)")
	a.must(err)
	t.Cleanup(func() { db.Close() })
	return func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
}

// noRecord lets the storing of a decision fail before its commit, and the commit
// itself: what cannot be made durable was not decided. That a killed server
// forgets nothing that it handed out is tested in internal/keeper (kill_test.go).
func noRecord(t *testing.T, a *arena) {
	exec := a.database(t)
	j := a.job("push", "production")
	d := a.running(j, handle)
	exec(`CREATE TABLE never(id INTEGER PRIMARY KEY)`, `CREATE TABLE hurdle(id INTEGER REFERENCES never(id) DEFERRABLE INITIALLY DEFERRED)`)
	when := ` ON entry WHEN instr(CAST(new.data AS TEXT), '"kind":"KIND"') > 0 BEGIN `
	for what, trigger := range map[string]string{
		"the storing fails": `CREATE TRIGGER stumble BEFORE INSERT` + when + `SELECT RAISE(ABORT, 'no'); END`,
		"the commit fails":  `CREATE TRIGGER stumble AFTER INSERT` + when + `INSERT INTO hurdle VALUES (1); END`,
	} {
		before := a.granted()
		exec(strings.ReplaceAll(trigger, "KIND", "token.granted"))
		e := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example"))
		if e.status != http.StatusServiceUnavailable || e.Token != "" || strings.Contains(e.body, "eyJ") {
			t.Errorf("%s: the exchange answers %d %s", what, e.status, e.body)
		}
		a.refused(t, inLog, what+", an exchange", "journal_unavailable", a.exchanges(a.token(j, nil), d.ID, nil))
		if after := a.granted(); !slices.Equal(before, after) {
			t.Errorf("%s: the journal says that %v were handed out", what, after[len(before):])
		}
		exec(`DROP TRIGGER stumble`, strings.ReplaceAll(trigger, "KIND", "lease.granted"))
		other := a.gitlab(nil)
		lab, err := a.ask(a.client(other), "lab")
		a.must(err)
		a.refused(t, inLog, what+", a claim", "journal_unavailable", a.claims(a.client(other), lab.ID, handle))
		a.refused(t, inJournal, what+", an exchange without the lease", "lease_missing", a.exchanges(other, lab.ID, nil))
		exec(`DROP TRIGGER stumble`, strings.ReplaceAll(trigger, "KIND", "refusal.made"))
		stranger := a.github("production", map[string]any{"repository_id": "8002"})
		a.refused(t, inLog, what+", a refusal that cannot be recorded", "journal_unavailable", a.opens(stranger, "production"))
		exec(`DROP TRIGGER stumble`)
		a.takes(t, what+", once it works again", a.exchanges(a.token(j, nil), d.ID, nil))
	}
	exec(`DROP TABLE hurdle`, `DROP TABLE never`)
	e := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example"))
	a.hide(e.Token)
	a.restart()
	if id, ok := claimsOf(t, e.Token)["jti"].(string); !ok || !slices.Contains(a.granted(), id) {
		t.Errorf("the journal does not know the token %v", claimsOf(t, e.Token)["jti"])
	}
}

// endedLease: what lives on outside is told, and is no more than a token's life.
func endedLease(t *testing.T, a *arena) {
	ctx := context.Background()
	for what, end := range map[string]func(d api.Deployment) error{
		"ended by its job": func(d api.Deployment) error {
			return a.client(handle).Call(ctx, "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil)
		},
		"cancelled by its job": func(d api.Deployment) error {
			return a.client(handle).Call(ctx, "POST", "/deployments/"+d.ID+"/cancel", api.Cancel{}, nil)
		},
		"cancelled by somebody": func(d api.Deployment) error {
			return a.people["dora"].Call(ctx, "POST", "/deployments/"+d.ID+"/cancel", api.Cancel{}, nil)
		},
		"revoked by somebody": func(d api.Deployment) error {
			return a.people["dora"].Call(ctx, "POST", "/deployments/"+d.ID+"/revoke", api.Revoke{Reason: "stolen"}, nil)
		},
		"cancelled by ann, whose": func(d api.Deployment) error {
			return a.people["ann"].Call(ctx, "POST", "/deployments/"+d.ID+"/cancel", api.Cancel{}, nil)
		},
	} {
		j := a.job("push", "production")
		d := a.running(j, handle)
		raw := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example")).Token
		a.hide(raw)
		now := time.Now()
		a.must(end(d))
		a.refused(t, inJournal, what+", an exchange", "deployment_ended", a.exchanges(a.token(j, nil), d.ID, nil))
		a.refused(t, inJournal, what+", a heartbeat", "deployment_ended", func() error { return a.client(handle).Call(ctx, "POST", "/deployments/"+d.ID+"/renew", nil, nil) })
		if _, out := a.post("/oauth/introspect", a.people["bob"].Bearer, url.Values{"token": {raw}}); out["active"] != false {
			t.Errorf("%s: its token is %v", what, out)
		}
		a.must(a.people["bob"].Call(ctx, "GET", "/deployments/"+d.ID, nil, &d))
		if left := d.End.OutsideTill.Time().Sub(now); d.End.TokensOutside != 1 || left <= 0 || left > 5*time.Minute {
			t.Errorf("%s: %d tokens live on for %s", what, d.End.TokensOutside, left)
		}
	}
}

// rotation: what the retiring key signed goes on being verified, few keys are
// published, and the key set is served when nothing else is.
func rotation(t *testing.T, a *arena) {
	ctx := context.Background()
	keys := func() (ids []string) {
		t.Helper()
		resp, err := http.Get(a.server.URL + "/.well-known/jwks.json")
		a.must(err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		a.must(err)
		if _, err := token.ParseKeySet(data); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("the key set is served as %s %s: %v", resp.Status, data, err)
		}
		var set struct{ Keys []struct{ Kid, Alg string } }
		a.must(json.Unmarshal(data, &set))
		for _, k := range set.Keys {
			ids = append(ids, k.Kid)
		}
		return ids
	}
	verifies := func(raw string) error {
		p, err := oidc.NewProvider(ctx, a.server.URL) // fetches the key set anew
		if err != nil {
			return err
		}
		_, err = p.Verifier(&oidc.Config{ClientID: "https://target.example", SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, raw)
		return err
	}
	j := a.job("push", "production")
	d := a.running(j, handle)
	mint := func() string {
		raw := a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, "https://target.example")).Token
		a.hide(raw)
		return raw
	}
	before := mint()
	var r api.Rotated
	a.must(a.people["dora"].Call(ctx, "POST", "/keys/rotate", api.Rotate{Algorithm: "ES256"}, &r))
	after := mint()
	if err := verifies(before); err != nil {
		t.Errorf("a token of the retiring key: %v", err)
	}
	if err := verifies(after); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
	if _, out := a.post("/oauth/introspect", handle, url.Values{"token": {before}}); out["active"] != true {
		t.Errorf("a token of the retiring key is %v", out)
	}
	if err := a.people["dora"].Call(ctx, "POST", "/keys/rotate", api.Rotate{Algorithm: "ES256"}, nil); code(err) != "key_too_fresh" {
		t.Errorf("a second rotation at once: %v", err)
	}
	most := 0
	rotate := func() error {
		_, _, err := a.keeper.RotateKey(ctx, keeper.Caller{Keeper: true}, "ES256", false, "test")
		return err
	}
	for range 4 { // as fast as it goes
		most = max(most, len(keys()))
		a.ahead.Add(int64(24 * time.Hour))
		a.must(rotate())
	}
	if most = max(most, len(keys())); most > 6 {
		t.Errorf("%d keys were published at once", most)
	}

	// Somebody else writes to the folder, and then damages it: nothing is decided
	// any more, and what runs elsewhere can still be verified.
	a.ahead.Add(int64(24 * time.Hour))
	exec := a.database(t)
	exec(`UPDATE head SET size = size + 1`)
	if err := rotate(); code(err) != "journal_unavailable" {
		t.Errorf("a rotation while the journal cannot be written: %v", err)
	}
	published := keys()
	exec(`DROP TRIGGER entry_stays`, `UPDATE entry SET data = CAST('x' AS BLOB) WHERE seq = 3`)
	if err := rotate(); code(err) != "keeper_stopped" {
		t.Errorf("a rotation in a damaged journal: %v", err)
	}
	<-a.keeper.Done()
	a.refusedByTheDead(t)
	if now := keys(); !slices.Equal(now, published) || len(now) == 0 {
		t.Errorf("the key set of a broken server has %v, not %v", now, published)
	}
}

// refusedByTheDead: a keeper that stopped says so, and hands out nothing.
func (a *arena) refusedByTheDead(t *testing.T) {
	if err := a.opens(a.github("production", nil), "production")(); code(err) != "keeper_stopped" {
		t.Errorf("an ask of a keeper that stopped: %v", err)
	}
	ready, err := http.Get(a.server.URL + "/readyz")
	a.must(err)
	defer ready.Body.Close()
	if ready.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a broken server says that it is %s", ready.Status)
	}
}
