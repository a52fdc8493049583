package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// TestAttacksWithTokens are B7 and B8, and of the other numbers of B and C one
// or two attempts each: that what internal/identity refuses leaves a line in the
// log with the reason, and nothing in the journal.
func TestAttacksWithTokens(t *testing.T) {
	a := newArena(t)
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims := strings.Split(a.github("production", nil), ".")[1]
	forged := func(header string) func() error {
		return a.opens(part(header)+"."+claims+"."+part("no signature"), "production")
	}
	stranger := func(more map[string]any) func() error { return a.opens(a.github("production", more), "production") }
	at := time.Now().Unix()
	t.Run("B1_algorithms_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "none", "token_algorithm", forged(`{"alg":"none","kid":"key-1"}`))
		a.refused(t, inLog, "HS256", "token_algorithm", forged(`{"alg":"HS256","kid":"key-1"}`))
	})
	t.Run("B2_key_ids_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "no key id", "token_malformed", forged(`{"alg":"RS256"}`))
		a.refused(t, inLog, "a path", "token_key_unknown", forged(`{"alg":"RS256","kid":"../../x"}`))
	})
	t.Run("B3_key_addresses_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "jku", "token_malformed", forged(`{"alg":"RS256","kid":"key-1","jku":"`+a.server.URL+`"}`))
	})
	t.Run("B4_issuers_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "a slash more", "issuer_unknown", stranger(map[string]any{"iss": a.issuer.URL + "/"}))
	})
	t.Run("B5_audiences_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "another's", "audience_differs", stranger(map[string]any{"aud": "https://other.example"}))
		a.refused(t, inLog, "two", "audience_differs", stranger(map[string]any{"aud": []string{"https://other.example", a.server.URL}}))
		a.refused(t, inLog, "that of a proof", "audience_differs", stranger(map[string]any{"aud": a.server.URL + proofSuffix + "c-x"}))
	})
	t.Run("B6_times_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "over", "token_expired", stranger(map[string]any{"iat": at - 400, "exp": at - 100}))
		a.refused(t, inLog, "two years old", "token_lifetime", stranger(map[string]any{"iat": at - 2*365*86400}))
		a.refused(t, inLog, "not yet", "token_not_yet_valid", stranger(map[string]any{"nbf": at + 100}))
	})
	t.Run("B7_replay", func(t *testing.T) { replay(t, a) })
	t.Run("B8_own_tokens", func(t *testing.T) { ownTokens(t, a) })
	t.Run("B9_sizes_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "17 KiB", "token_malformed", stranger(map[string]any{"pad": strings.Repeat("x", 17<<10)}))
		a.refused(t, inLog, "an encrypted token", "token_malformed", a.opens(strings.Repeat("eyJ9.", 4)+"eyJ9", "production"))
		a.refused(t, inLog, "a form with two subject tokens", "parameter_twice", a.exchanges("x", "d-x", func(f url.Values) { f["subject_token"] = []string{"x", "y"} }))
		a.refused(t, inLog, "a form that is too long", "form_malformed", a.exchanges(strings.Repeat("x", maxHeader), "d-x", nil))
		a.refused(t, inLog, "a body that is nested", "request_malformed", func() error {
			return a.client(a.github("production", nil)).Call(context.Background(), "POST", "/deployments", map[string]any{"environment": strings.Split(strings.Repeat("[", 2000), "")}, nil)
		})
	})
	t.Run("B10_signatures_leave_a_line", func(t *testing.T) {
		a.refused(t, inLog, "a signature of nothing", "token_signature", forged(`{"alg":"RS256","kid":"key-1"}`))
	})
	t.Run("C3_an_issuer_that_is_away_leaves_a_line", func(t *testing.T) {
		// It is no fault of the caller's: 503, and nothing is said against the token.
		a.refused(t, inLog, "nobody answers", "issuer_unreachable", a.opens(a.gitlab(map[string]any{"iss": "http://127.0.0.1:1"}), "lab"))
		if !strings.Contains(a.log.String(), `"msg":"the key set of an issuer cannot be had","issuer":"http://127.0.0.1:1"`) {
			t.Error("the log does not tell of an issuer that is away")
		}
	})
	t.Run("C5_no_address_out_of_a_token_is_asked", func(t *testing.T) {
		asked := 0
		trap := newTrap(t, func(*http.Request) { asked++ })
		a.refused(t, inLog, "an issuer that the catalog does not have", "issuer_unknown", stranger(map[string]any{"iss": trap}))
		a.refused(t, inLog, "a key set that the token names", "token_malformed", forged(`{"alg":"RS256","kid":"key-1","jku":"`+trap+`"}`))
		if asked != 0 {
			t.Errorf("it was asked %d times", asked)
		}
	})
}

// replay: a token opens one thing, across a restart and under 64 hands.
func replay(t *testing.T, a *arena) {
	ctx := context.Background()
	raw := a.github("production", nil)
	a.takes(t, "the first use", a.opens(raw, "production"))
	a.refused(t, inJournal, "the same token again", "token_replayed", a.opens(raw, "production"))
	vouch := func(raw string) func() error {
		return func() error {
			return a.client(raw).Call(ctx, "POST", "/artifacts", api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}, nil)
		}
	}
	a.refused(t, inJournal, "the same token for something else", "token_replayed", vouch(raw))
	jti := map[string]any{"jti": "one id for many tokens"}
	a.takes(t, "an id's first token", a.opens(a.github("production", jti), "production"))
	a.refused(t, inJournal, "the id in another token, of another job", "token_replayed", a.opens(a.github("production", map[string]any{"jti": jti["jti"], "exp": time.Now().Unix() + 299}), "production"))
	a.takes(t, "the id under another issuer", a.opens(a.gitlab(jti), "lab"))
	bare := a.sign(a.issuer.KubernetesClaims(a.server.URL, time.Now(), map[string]any{"iss": a.issuer.URL + "/cluster", "jti": nil}))
	a.takes(t, "a token without an id", a.opens(bare, "pods"))
	a.refused(t, inJournal, "a token without an id again", "token_replayed", a.opens(bare, "pods"))

	// Of 64 uses at once, one wins; the refusals of the others are recorded once,
	// and counted.
	raw = a.github("production", nil)
	size, before := a.keeper.Size(), a.refusals()["token_replayed"]
	var wg sync.WaitGroup
	codes := make([]string, 64)
	for i := range codes {
		wg.Go(func() { codes[i] = codeOfAttempt(a.opens(raw, "production")()) })
	}
	wg.Wait()
	won := 0
	for _, c := range codes {
		if c == "taken" {
			won++
		} else if c != "token_replayed" {
			t.Errorf("a use at the same time: %s", c)
		}
	}
	kinds := map[string]int{}
	for _, e := range a.entries(size) {
		kinds[e.Kind]++
	}
	if counted := a.refusals()["token_replayed"] - before; won != 1 || kinds["deployment.opened"] != 1 || kinds["refusal.made"] != 1 || counted != 63 {
		t.Errorf("of 64 uses %d won; the journal has %v, the metric counts %v", won, kinds, counted)
	}

	// After a restart nothing is forgotten; and there is no second server on the folder.
	opened := a.github("production", nil)
	d, err := a.ask(a.client(opened), "production")
	a.must(err)
	vouched := a.github("", nil)
	a.takes(t, "a record", vouch(vouched))
	if _, err := keeper.Open(ctx, a.options); code(err) != "folder_in_use" {
		t.Errorf("a second server on the folder: %v", err)
	}
	a.restart()
	a.refused(t, inJournal, "a token that opened something before the restart", "token_replayed", a.opens(opened, "production"))
	a.refused(t, inJournal, "a token that vouched before the restart", "token_replayed", vouch(vouched))
	a.refused(t, inJournal, "the id of one before the restart", "token_replayed", a.opens(a.github("production", jti), "production"))
	a.refused(t, inJournal, "the opening token without its handle", "token_replayed", a.claims(a.client(opened), d.ID, "lkh_another"))
	a.refused(t, inLog, "the opening token with its handle only waits", "approvals_missing", a.claims(a.client(opened), d.ID, handle))

	// A token of Azure DevOps has one audience for everybody: whoever else was
	// shown it has the token, but not the job's access to its own run.
	seen := a.devops(nil)
	c := a.client(seen)
	c.Access = "access-of-another-job"
	a.refused(t, inLog, "Azure DevOps, shown to another first", "azure_lookup_refused", func() error { _, err := a.ask(c, "devops"); return err })
	a.refused(t, inJournal, "Azure DevOps, without any access", "event_not_admitted", a.opens(seen, "devops"))
}

// ownTokens: what Lockkeeper hands out is for targets, never for itself.
func ownTokens(t *testing.T, a *arena) {
	ctx := context.Background()
	j := a.job("push", "production")
	d := a.running(j, handle)
	own := map[string]string{}
	for _, audience := range []string{"https://target.example", "api://AzureADTokenExchange"} {
		own[audience] = a.exchange(exchangeForm1(a.token(j, nil), d.ID, handle, audience)).Token
		a.hide(own[audience])
	}
	everywhere := func(when string) {
		for audience, raw := range own {
			what := when + ", a token for " + audience + ": "
			a.refused(t, inLog, what+"as the subject of an exchange", "issuer_unknown", a.exchanges(raw, d.ID, nil))
			a.refused(t, inLog, what+"to open", "issuer_unknown", a.opens(raw, "production"))
			a.refused(t, inLog, what+"to claim", "issuer_unknown", a.claims(a.client(raw), d.ID, handle))
			a.refused(t, inLog, what+"as a session", "session_unknown", func() error { return a.client(raw).Call(ctx, "GET", "/deployments/"+d.ID, nil, nil) })
			a.refused(t, inLog, what+"as a handle", "credential_wrong|session_unknown", func() error {
				return a.client(raw).Call(ctx, "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil)
			})
		}
	}
	everywhere("as it is")
	// No catalog takes the server itself for a CI platform; a server that got such
	// a URL later takes none of its own tokens (TestOwnTokensProveNoJob).
	a.refused(t, inJournal, "a catalog with the server as a provider", "issuer_is_own", func() error {
		return a.apply("\n---\n{kind: Provider, name: dead,", fmt.Sprintf(`
---
{kind: Provider, name: self, platform: oidc, issuer: %q, audience: "https://target.example", claims: [{fact: repository, claim: project}, {fact: run, claim: deployment}, {fact: job, claim: jti}, {fact: actor, claim: stage}]}
---
{kind: Provider, name: dead,`, a.server.URL))
	})
	everywhere("after that")

	// A token of the platform that is of another type than an ID token.
	for _, typ := range []string{"at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt"} {
		payload, err := json.Marshal(a.issuer.Claims(a.job("push", "production")))
		a.must(err)
		raw := a.issuer.Sign(payload, map[string]any{"typ": typ})
		a.hide(raw)
		a.refused(t, inLog, "typ "+typ, "token_malformed", a.opens(raw, "production"))
	}
	a.refused(t, inLog, "an access token as the type of the subject", "subject_token_missing", a.exchanges(a.token(j, nil), d.ID, func(f url.Values) {
		f.Set("subject_token_type", "urn:ietf:params:oauth:token-type:access_token")
	}))
}

// newTrap is the address of a server that nothing must ask.
func newTrap(t *testing.T, asked func(*http.Request)) string {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked(r) }))
	t.Cleanup(s.Close)
	return s.URL
}
