package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

const audience = "https://lockkeeper.example"

var clock = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func issuers(urls ...string) []Issuer {
	var out []Issuer
	for i, u := range urls {
		out = append(out, Issuer{Provider: fmt.Sprintf("github-%d", i), Platform: "github", URL: u, Audience: audience, Algorithms: []string{"RS256", "ES256"}, Longest: 15 * time.Minute})
	}
	return out
}

func code(err error) string {
	if r := lockkeeper.RefusalOf(err); r != nil {
		return r.Code
	}
	return fmt.Sprint(err)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// A bench is an issuer and a verifier that trusts it.
type bench struct {
	t *testing.T
	i *lktest.Issuer
	v *Verifier
}

func newBench(t *testing.T) *bench {
	return &bench{t, lktest.NewIssuer(t), NewVerifier(Options{})}
}

func (b *bench) claims(more map[string]any) map[string]any {
	return b.i.Claims(lktest.GitHubJob{Audience: audience, Now: clock, Environment: "production", More: more})
}

func (b *bench) at(raw string, now time.Time) error {
	_, err := b.v.Workload(context.Background(), issuers(b.i.URL), Credential{Token: raw}, lockkeeper.MomentOf(now))
	return err
}

// refused fails unless the token is refused with one of the codes, by words
// that hold no part of it.
func (b *bench) refused(name, raw string, codes ...string) {
	b.t.Helper()
	err := b.at(raw, clock)
	ok := false
	for _, c := range codes {
		ok = ok || code(err) == c
	}
	if !ok || lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
		b.t.Errorf("%s: %v, want %v", name, err, codes)
		return
	}
	for _, part := range strings.Split(raw, ".") {
		if len(part) > 30 && strings.Contains(err.Error(), part[:30]) {
			b.t.Errorf("%s: the refusal repeats the token (D6)", name)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		b.t.Errorf("%s: the refusal has a line end (D7)", name)
	}
}

func TestRecord(t *testing.T) {
	b := newBench(t)
	c := b.claims(nil)
	w, err := b.v.Workload(context.Background(), issuers(b.i.URL), Credential{Token: b.i.Token(c)}, lockkeeper.MomentOf(clock))
	if err != nil {
		t.Fatal(err)
	}
	f := lockkeeper.SignedFact
	commit := "1111111111111111111111111111111111111111"
	want := lockkeeper.Workload{Provider: "github-0", Platform: "github", Issuer: b.i.URL, TokenID: lockkeeper.TokenIDOf(b.i.URL, c["jti"].(string)), Audience: audience,
		Issued: lockkeeper.MomentOf(clock), Expires: lockkeeper.MomentOf(clock.Add(5 * time.Minute)), Organisation: f("7001"), OrganisationName: f("acme"),
		Repository: f("8001"), RepositoryName: f("acme/payments"), Run: f("9001"), Attempt: 1, Job: f("5001"), Event: f("push"), Ref: f("refs/heads/main"), RefType: f("branch"),
		Commit: f(commit), Environment: f("production"), Runner: f("hosted"), DefinitionPath: f(".github/workflows/release.yml"), DefinitionRef: f("refs/heads/main"),
		DefinitionCommit: f(commit), Actor: f("1001"), ActorName: f("ann")}
	if diff := cmp.Diff(want, w, cmp.Comparer(func(a, b lockkeeper.Moment) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	delete(c, "environment")
	c["job_workflow_ref"], c["job_workflow_sha"] = "acme/shared/.github/workflows/deploy.yml@refs/tags/v1", commit
	w, err = b.v.Workload(context.Background(), issuers(b.i.URL), Credential{Token: b.i.Token(c)}, lockkeeper.MomentOf(clock))
	if err != nil || w.Environment.Known() || w.CalledPath != f("acme/shared/.github/workflows/deploy.yml") || w.CalledRef != f("refs/tags/v1") {
		t.Errorf("a reusable workflow: %v %+v", err, w)
	}
}

func TestAttacks(t *testing.T) {
	t.Run("A7_A8_names_that_look_like_others", func(t *testing.T) {
		b := newBench(t)
		for name, more := range map[string]map[string]any{
			"a workflow of another repository": {"workflow_ref": "evil/payments/.github/workflows/release.yml@refs/heads/main"},
			"a repository that begins alike":   {"workflow_ref": "acme/payments-evil/.github/workflows/release.yml@refs/heads/main"},
			"a tag named as a branch":          {"ref": "refs/heads/main", "ref_type": "tag"},
			"a ref that is not full":           {"ref": "main"},
			"an unknown ref type":              {"ref_type": "note"},
			"no ref in the workflow":           {"workflow_ref": "acme/payments/.github/workflows/release.yml"},
		} {
			b.refused(name, b.i.Token(b.claims(more)), "claim_malformed")
		}
		c := b.claims(map[string]any{"ref": "refs/heads/x@refs/heads/main", "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/x@refs/heads/main"})
		w, err := b.v.Workload(context.Background(), issuers(b.i.URL), Credential{Token: b.i.Token(c)}, lockkeeper.MomentOf(clock))
		if err != nil || w.DefinitionPath.Value == ".github/workflows/release.yml" {
			t.Errorf("a branch with @refs/ in its name passes for the definition: %v %+v", err, w.DefinitionPath)
		}
	})
	t.Run("A10_claims_of_other_shapes", func(t *testing.T) {
		b := newBench(t)
		for _, claim := range []string{"repository_id", "repository_owner_id", "run_id", "check_run_id", "actor_id", "run_attempt", "event_name", "sha", "jti"} {
			for _, value := range []any{nil, "", []string{"8001"}, 8001, map[string]any{}, "*", "80 01", "8001\n"} {
				if claim == "event_name" && (value == "*" || value == "80 01") || claim == "jti" && (value == "*" || value == "80 01") {
					continue
				}
				b.refused(fmt.Sprintf("%s = %v", claim, value), b.i.Token(b.claims(map[string]any{claim: value})), "claim_malformed", "claim_type", "claim_missing")
			}
			c := b.claims(nil)
			delete(c, claim)
			b.refused("no "+claim, b.i.Token(c), "claim_malformed", "claim_missing")
			c[strings.ToUpper(claim)] = "8001"
			b.refused("only "+strings.ToUpper(claim), b.i.Token(c), "claim_malformed", "claim_missing")
		}
		b.refused("an environment that is a list", b.i.Token(b.claims(map[string]any{"environment": []string{"production"}})), "claim_type")
	})
	t.Run("A12_runner", func(t *testing.T) {
		b := newBench(t)
		b.refused("an unknown kind of runner", b.i.Token(b.claims(map[string]any{"runner_environment": "hosted"})), "claim_malformed")
	})
	t.Run("A15_attempt", func(t *testing.T) {
		b := newBench(t)
		for _, v := range []string{"0", "-1", "01", "1.0", "x", "99999999999999999999"} {
			b.refused("attempt "+v, b.i.Token(b.claims(map[string]any{"run_attempt": v})), "claim_malformed")
		}
	})
	t.Run("B1_algorithms", b1)
	t.Run("B2_B3_headers", b2)
	t.Run("B4_issuers", func(t *testing.T) {
		b := newBench(t)
		for _, iss := range []any{b.i.URL + "/", strings.ToUpper(b.i.URL), b.i.URL + "?x", b.i.URL + "#x", strings.Replace(b.i.URL, "//", "//user@", 1), b.i.URL + ".evil.example", "http://169.254.169.254", "", nil, []string{b.i.URL}} {
			b.refused(fmt.Sprint("iss ", iss), b.i.Token(b.claims(map[string]any{"iss": iss})), "issuer_unknown")
		}
		b.refused("a foreign issuer", lktest.NewIssuer(t).Token(b.claims(nil)), "token_signature", "token_key_unknown")
	})
	t.Run("B5_audiences", func(t *testing.T) {
		b := newBench(t)
		for _, aud := range []any{"https://LOCKKEEPER.example", audience + "/", "", nil, []string{"x", audience}, []string{audience, audience}, []string{}, []any{audience, nil}, 1, audience + "/prove/x"} {
			b.refused(fmt.Sprint("aud ", aud), b.i.Token(b.claims(map[string]any{"aud": aud})), "audience_differs", "claim_missing")
		}
		if err := b.at(b.i.Token(b.claims(map[string]any{"aud": []string{audience}})), clock); err != nil {
			t.Errorf("a list of our one audience: %v", err)
		}
	})
	t.Run("B6_times", func(t *testing.T) {
		b := newBench(t)
		at := clock.Unix()
		for name, c := range map[string]struct {
			more map[string]any
			code string
		}{
			"ended 31 s ago":         {map[string]any{"iat": at - 100, "exp": at - 31}, "token_expired"},
			"ended 300 s ago":        {map[string]any{"iat": at - 600, "exp": at - 300}, "token_expired"},
			"no end":                 {map[string]any{"exp": nil}, "claim_missing"},
			"no beginning":           {map[string]any{"iat": nil}, "claim_missing"},
			"ten years":              {map[string]any{"exp": at + 10*365*86400}, "token_lifetime"},
			"made in the future":     {map[string]any{"iat": at + 100, "exp": at + 200}, "token_not_yet_valid"},
			"not yet":                {map[string]any{"nbf": at + 100}, "token_not_yet_valid"},
			"two years old":          {map[string]any{"iat": at - 2*365*86400}, "token_lifetime"},
			"ends before it begins":  {map[string]any{"iat": at + 20, "exp": at + 10}, "token_lifetime"},
			"an end that is a text":  {map[string]any{"exp": fmt.Sprint(at + 100)}, "claim_missing"},
			"an end beyond all time": {map[string]any{"exp": 1e300}, "claim_missing"},
		} {
			b.refused(name, b.i.Token(b.claims(c.more)), c.code)
		}
		if err := b.at(b.i.Token(b.claims(map[string]any{"iat": at - 100, "exp": at - 29})), clock); err != nil {
			t.Errorf("ended 29 s ago, within the clocks' difference: %v", err)
		}
	})
	t.Run("B8_own_token", func(t *testing.T) {
		b := newBench(t)
		b.refused("a token of Lockkeeper's own", b.i.Token(b.claims(map[string]any{"iss": audience})), "issuer_unknown")
	})
	t.Run("B9_sizes", func(t *testing.T) {
		b := newBench(t)
		b.refused("16 KiB and more", b.i.Token(b.claims(map[string]any{"pad": strings.Repeat("x", 17<<10)})), "token_malformed")
		start := time.Now()
		b.refused("10 MB of dots", strings.Repeat(".", 10<<20), "token_malformed")
		if d := time.Since(start); d > time.Second {
			t.Errorf("dots took %s", d)
		}
		deep := b64(`{"alg":"RS256","kid":"key-1"}`) + "." + b64(`{"iss":`+strings.Repeat("[", 3000)+strings.Repeat("]", 3000)+"}") + "." + b64("x")
		b.refused("deep nesting", deep, "token_malformed")
	})
	t.Run("B10_every_byte_counts", func(t *testing.T) {
		b := newBench(t)
		for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
			if err := b.i.Rotate(alg); err != nil {
				t.Fatal(err)
			}
			b.v = NewVerifier(Options{})
			raw := b.i.Token(b.claims(nil))
			if err := b.at(raw, clock); err != nil {
				t.Fatal(err)
			}
			for i := range raw {
				for _, c := range []byte("A_.") {
					if raw[i] != c {
						if err := b.at(raw[:i]+string(c)+raw[i+1:], clock); err == nil {
							t.Fatalf("%s: byte %d can be %q", alg, i, c)
						}
					}
				}
				if i > len(raw)-5 && raw[i] != 'B' {
					if err := b.at(raw[:i]+"B"+raw[i+1:], clock); err == nil {
						t.Fatalf("%s: byte %d can be B", alg, i)
					}
				}
			}
			for _, s := range []string{raw + "=", raw + "\n", " " + raw, raw + ".", strings.Replace(raw, ".", ".\n", 1)} {
				b.refused("another spelling", s, "token_malformed")
			}
		}
	})
}

// forge signs nothing: it puts any header and signature round good claims.
func (b *bench) forge(header, signature string) string {
	claims, err := json.Marshal(b.claims(nil))
	if err != nil {
		b.t.Fatal(err)
	}
	return b64(header) + "." + b64(string(claims)) + "." + b64(signature)
}

func b1(t *testing.T) {
	b := newBench(t)
	for _, alg := range []string{"none", "None", "NONE", "", "HS256", "HS512", "EdDSA", "RS512", "ES384", "rs256", "PS256"} {
		b.refused("alg "+alg, b.forge(fmt.Sprintf(`{"alg":%q,"kid":"key-1"}`, alg), "x"), "token_algorithm")
	}
	// The public key as the secret of a MAC.
	header, claims, _ := strings.Cut(b.forge(`{"alg":"HS256","kid":"key-1"}`, "x"), ".")
	claims, _, _ = strings.Cut(claims, ".")
	mac := hmac.New(sha256.New, b.i.KeySet())
	mac.Write([]byte(header + "." + claims))
	b.refused("HS256 with the public key", header+"."+claims+"."+b64(string(mac.Sum(nil))), "token_algorithm")
	b.refused("ES256 under an RSA key's id", b.forge(`{"alg":"ES256","kid":"key-1"}`, strings.Repeat("x", 64)), "token_signature")
	b.refused("no signature", strings.TrimSuffix(b.forge(`{"alg":"RS256","kid":"key-1"}`, ""), "."), "token_malformed")
}

func b2(t *testing.T) {
	b := newBench(t)
	for name, header := range map[string]string{
		"no kid":      `{"alg":"RS256"}`,
		"an empty":    `{"alg":"RS256","kid":""}`,
		"a number":    `{"alg":"RS256","kid":1}`,
		"a huge one":  `{"alg":"RS256","kid":"` + strings.Repeat("k", 1000) + `"}`,
		"jku":         `{"alg":"RS256","kid":"key-1","jku":"http://127.0.0.1/x"}`,
		"x5u":         `{"alg":"RS256","kid":"key-1","x5u":"http://127.0.0.1/x"}`,
		"jwk":         `{"alg":"RS256","kid":"key-1","jwk":{}}`,
		"x5c":         `{"alg":"RS256","kid":"key-1","x5c":["x"]}`,
		"crit":        `{"alg":"RS256","kid":"key-1","crit":["exp"]}`,
		"b64":         `{"alg":"RS256","kid":"key-1","b64":false}`,
		"enc":         `{"alg":"RSA-OAEP","enc":"A128GCM","kid":"key-1"}`,
		"twice":       `{"alg":"none","alg":"RS256","kid":"key-1"}`,
		"ALG":         `{"ALG":"none","alg":"RS256","kid":"key-1"}`,
		"access":      `{"alg":"RS256","kid":"key-1","typ":"at+jwt"}`,
		"a list":      `[]`,
		"two objects": `{"alg":"RS256","kid":"key-1"}{}`,
	} {
		b.refused(name, b.forge(header, "x"), "token_malformed")
	}
	for _, kid := range []string{"../../etc/passwd", "' OR 1=1 --", "key-2"} {
		b.refused("kid "+kid, b.forge(fmt.Sprintf(`{"alg":"RS256","kid":%q}`, kid), "x"), "token_key_unknown")
	}
	for _, claims := range []string{`{"iss":"` + b.i.URL + `","iss":"x"}`, `{"iss":"` + b.i.URL + `","\ud800":1}`, `[]`, `{`, "\xff"} {
		b.refused("claims "+claims, b64(`{"alg":"RS256","kid":"key-1"}`)+"."+b64(claims)+"."+b64("x"), "token_malformed")
	}
}

func TestKeyFetching(t *testing.T) {
	t.Run("C1_unknown_keys_make_one_fetch_in_30_s", func(t *testing.T) {
		b := newBench(t)
		good := b.i.Token(b.claims(nil))
		if err := b.at(good, clock); err != nil {
			t.Fatal(err)
		}
		for n := range 1000 {
			b.refused("unknown kid", b.forge(fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, n), "x"), "token_key_unknown")
		}
		if n := b.i.Fetched.Load(); n != 1 {
			t.Errorf("%d fetches within the pause", n)
		}
		b.at(b.forge(`{"alg":"RS256","kid":"late"}`, "x"), clock.Add(31*time.Second))
		b.at(b.forge(`{"alg":"RS256","kid":"later"}`, "x"), clock.Add(40*time.Second))
		if n := b.i.Fetched.Load(); n != 2 {
			t.Errorf("%d fetches after the pause", n)
		}
		if err := b.at(good, clock); err != nil {
			t.Errorf("the good token: %v", err)
		}
	})
	t.Run("C2_bad_signature_fetches_nothing", func(t *testing.T) {
		b := newBench(t)
		b.at(b.i.Token(b.claims(nil)), clock)
		for range 200 {
			b.refused("bad signature", b.forge(`{"alg":"RS256","kid":"key-1"}`, strings.Repeat("x", 256)), "token_signature")
		}
		b.at(b.forge(`{"alg":"RS256","kid":"key-1"}`, "x"), clock.Add(time.Minute))
		if n := b.i.Fetched.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("C3_hostile_key_sets", hostileKeySets)
	t.Run("C3_slow_issuer_holds_up_nobody_it_knows", slowIssuer)
	t.Run("C4_rotation_and_absence", func(t *testing.T) {
		b := newBench(t)
		old := b.i.Token(b.claims(nil))
		if err := b.at(old, clock); err != nil {
			t.Fatal(err)
		}
		if err := b.i.Rotate(jose.ES256); err != nil {
			t.Fatal(err)
		}
		later := clock.Add(31 * time.Second)
		fresh := b.i.Token(b.i.Claims(lktest.GitHubJob{Audience: audience, Now: later}))
		if err := b.at(fresh, later); err != nil {
			t.Errorf("the new key after 31 s: %v", err)
		}
		if err := b.at(old, later); code(err) != "token_key_unknown" {
			t.Errorf("the removed key: %v", err)
		}
		b.i.SetDown(true)
		hours := later.Add(23 * time.Hour)
		if err := b.at(b.i.Token(b.i.Claims(lktest.GitHubJob{Audience: audience, Now: hours})), hours); err != nil {
			t.Errorf("the issuer is away for 23 hours: %v", err)
		}
		days := later.Add(25 * time.Hour)
		err := b.at(b.i.Token(b.i.Claims(lktest.GitHubJob{Audience: audience, Now: days})), days)
		if code(err) != "issuer_unreachable" || lockkeeper.KindOf(err) != lockkeeper.Unavailable {
			t.Errorf("the issuer is away for 25 hours: %v", err)
		}
	})
	t.Run("C5_only_configured_issuers_are_asked", func(t *testing.T) {
		b, other := newBench(t), lktest.NewIssuer(t)
		b.refused("a stranger", other.Token(other.Claims(lktest.GitHubJob{Audience: audience, Now: clock})), "issuer_unknown")
		if other.Discovered.Load()+other.Fetched.Load() != 0 {
			t.Error("a stranger was asked for its keys")
		}
	})
}

// slowIssuer lets the issuer hang while it is asked for an unknown key: tokens
// under a known key pass all the while, and those who wait share one fetch.
func slowIssuer(t *testing.T) {
	b := newBench(t)
	good := b.i.Token(b.claims(nil))
	if err := b.at(good, clock); err != nil {
		t.Fatal(err)
	}
	release := b.i.Hang()
	later := clock.Add(31 * time.Second)
	waiting := make(chan error, 8)
	for range cap(waiting) {
		go func() { waiting <- b.at(b.forge(`{"alg":"RS256","kid":"new"}`, "x"), later) }()
	}
	<-b.i.Hanging // one of them has begun the fetch
	if err := b.at(good, later); err != nil {
		t.Errorf("a known key while the issuer hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.v.Workload(ctx, issuers(b.i.URL), Credential{Token: b.forge(`{"alg":"RS256","kid":"new"}`, "x")}, lockkeeper.MomentOf(later))
	if code(err) != "issuer_unreachable" {
		t.Errorf("a caller who has gone: %v", err)
	}
	release()
	for range cap(waiting) {
		if err := <-waiting; code(err) != "token_key_unknown" {
			t.Errorf("who waited: %v", err)
		}
	}
	if n := b.i.Fetched.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

func hostileKeySets(t *testing.T) {
	key := lktest.NewIssuer(t)
	for name, serve := range map[string]func(w http.ResponseWriter, r *http.Request, self string){
		"errors": func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "no", 500) },
		"a page": func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write([]byte("<html>")) },
		"redirects": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, key.URL+r.URL.Path, http.StatusFound)
		},
		"100 MB": func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write(bytes.Repeat([]byte(" "), 100<<20)) },
		"another issuer": func(w http.ResponseWriter, _ *http.Request, _ string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, key.URL, key.URL)
		},
		"keys elsewhere in the clear": func(w http.ResponseWriter, _ *http.Request, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://169.254.169.254/jwks"}`, self)
		},
		"no keys": func(w http.ResponseWriter, r *http.Request, self string) {
			if r.URL.Path == "/jwks" {
				w.Write([]byte(`{"keys":[]}`))
				return
			}
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, self, self)
		},
	} {
		var self string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, self) }))
		self = s.URL
		c := key.Claims(lktest.GitHubJob{Audience: audience, Now: clock})
		c["iss"] = self
		_, err := NewVerifier(Options{}).Workload(context.Background(), issuers(self), Credential{Token: key.Token(c)}, lockkeeper.MomentOf(clock))
		if code(err) != "issuer_unreachable" {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}
