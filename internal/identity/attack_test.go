package identity

import (
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
	t.Run("A7_names_that_look_like_others", func(t *testing.T) {
		b := newBench(t)
		for name, ref := range map[string]string{
			"a workflow of another repository": "evil/payments/.github/workflows/release.yml@refs/heads/main",
			"a repository that begins alike":   "acme/payments-evil/.github/workflows/release.yml@refs/heads/main",
			"a repository in front of it":      "evil/x/acme/payments/.github/workflows/release.yml@refs/heads/main",
			"no ref in the workflow":           "acme/payments/.github/workflows/release.yml",
		} {
			b.refused(name, b.i.Token(b.claims(map[string]any{"workflow_ref": ref})), "claim_malformed")
		}
		c := b.claims(map[string]any{"ref": "refs/heads/x@refs/heads/main", "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/x@refs/heads/main"})
		w, err := b.v.Workload(context.Background(), issuers(b.i.URL), Credential{Token: b.i.Token(c)}, lockkeeper.MomentOf(clock))
		if err != nil || w.DefinitionPath.Value == ".github/workflows/release.yml" {
			t.Errorf("a branch with @refs/ in its name passes for the definition: %v %+v", err, w.DefinitionPath)
		}
	})
	t.Run("A8_refs_and_their_types", func(t *testing.T) {
		b := newBench(t)
		for name, more := range map[string]map[string]any{
			"a tag named as a branch": {"ref": "refs/heads/main", "ref_type": "tag"},
			"a ref that is not full":  {"ref": "main"},
			"an unknown ref type":     {"ref_type": "note"},
		} {
			b.refused(name, b.i.Token(b.claims(more)), "claim_malformed")
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
	t.Run("B2_key_ids", b2)
	t.Run("B3_key_addresses", b3)
	t.Run("B4_issuers", func(t *testing.T) {
		b := newBench(t)
		oneIssuer(t)
		for _, iss := range []any{b.i.URL + "/", strings.ToUpper(b.i.URL), b.i.URL + "?x", b.i.URL + "#x", strings.Replace(b.i.URL, "//", "//user@", 1), b.i.URL + ".evil.example", "http://169.254.169.254", "", nil, []string{b.i.URL}} {
			b.refused(fmt.Sprint("iss ", iss), b.i.Token(b.claims(map[string]any{"iss": iss})), "issuer_unknown")
		}
	})
	t.Run("B5_audiences", func(t *testing.T) {
		b := newBench(t)
		for _, aud := range []any{"https://LOCKKEEPER.example", audience + "/", "", nil, []string{"x", audience}, []string{audience, audience}, []string{}, []any{audience, nil}, 1, audience + "/prove/x"} {
			b.refused(fmt.Sprint("aud ", aud), b.i.Token(b.claims(map[string]any{"aud": aud})), "audience_differs", "claim_missing")
		}
		if err := b.at(b.i.Token(b.claims(map[string]any{"aud": []string{audience}})), clock); err != nil {
			t.Errorf("a list of our one audience: %v", err)
		}
		// Two providers that one token fits: nobody says which, so neither.
		twice := issuers(b.i.URL, b.i.URL)
		if _, err := b.v.Workload(context.Background(), twice, Credential{Token: b.i.Token(b.claims(nil))}, lockkeeper.MomentOf(clock)); code(err) != "provider_ambiguous" {
			t.Errorf("two providers with one issuer and one audience: %v", err)
		}
	})
	t.Run("B6_times", func(t *testing.T) {
		b := newBench(t)
		at := clock.Unix()
		for name, c := range map[string]struct {
			more map[string]any
			code string
		}{
			"ended 30 s ago":         {map[string]any{"iat": at - 100, "exp": at - 30}, "token_expired"},
			"ended 31 s ago":         {map[string]any{"iat": at - 100, "exp": at - 31}, "token_expired"},
			"ended 140 s ago":        {map[string]any{"iat": at - 400, "exp": at - 140}, "token_expired"},
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
		payload, err := json.Marshal(b.claims(nil))
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range []any{"at+jwt", "AT+JWT", "application/at+jwt", "dpop+jwt", "JOSE", "", 1, nil} {
			if typ != "" { // an empty one says nothing
				b.refused(fmt.Sprint("typ ", typ), b.i.Sign(payload, map[string]any{"typ": typ}), "token_malformed")
			}
		}
		for _, typ := range []any{"JWT", "jwt"} {
			if err := b.at(b.i.Sign(payload, map[string]any{"typ": typ}), clock); err != nil {
				t.Errorf("typ %v: %v", typ, err)
			}
		}
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
		b.refused("an encrypted token", strings.Join([]string{b64(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"key-1"}`), b64("x"), b64("x"), b64("x"), b64("x")}, "."), "token_malformed")
		b.refused("a compressed token", b.forge(`{"alg":"RS256","kid":"key-1","zip":"DEF"}`, "x"), "token_malformed")
		for n := range 6 {
			if n != 2 {
				b.refused(fmt.Sprint(n, " dots"), strings.Repeat("e30.", n)+"e30", "token_malformed")
			}
		}
	})
	t.Run("B10_signatures_and_keys", b10)
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
	// What one provider over the issuer admits is nothing to the other.
	two := issuers(b.i.URL, b.i.URL)
	two[0].Algorithms, two[1].Audience = []string{"ES256"}, "https://other.example"
	for aud, want := range map[string]string{audience: "token_algorithm", "https://other.example": "<nil>"} {
		if _, err := b.v.Workload(context.Background(), two, Credential{Token: b.i.Token(b.claims(map[string]any{"aud": aud}))}, lockkeeper.MomentOf(clock)); code(err) != want {
			t.Errorf("RS256 for the provider with the audience %s: %v, want %s", aud, err, want)
		}
	}
	b.refused("no signature", strings.TrimSuffix(b.forge(`{"alg":"RS256","kid":"key-1"}`, ""), "."), "token_malformed")
}

func b2(t *testing.T) {
	b := newBench(t)
	for name, header := range map[string]string{
		"no kid":      `{"alg":"RS256"}`,
		"an empty":    `{"alg":"RS256","kid":""}`,
		"a number":    `{"alg":"RS256","kid":1}`,
		"a long one":  `{"alg":"RS256","kid":"` + strings.Repeat("k", 1000) + `"}`,
		"1 MB of it":  `{"alg":"RS256","kid":"` + strings.Repeat("k", 1<<20) + `"}`,
		"twice":       `{"alg":"RS256","kid":"key-2","kid":"key-1"}`,
		"KID":         `{"alg":"RS256","KID":"key-1"}`,
		"a list":      `[]`,
		"two objects": `{"alg":"RS256","kid":"key-1"}{}`,
	} {
		b.refused(name, b.forge(header, "x"), "token_malformed")
	}
	for _, kid := range []string{"../../etc/passwd", "' OR 1=1 --", "key-2", "KEY-1", "key-1 ", "key-1\x00", strings.Repeat("k", 256)} {
		quoted, err := json.Marshal(kid)
		if err != nil {
			t.Fatal(err)
		}
		b.refused("kid "+kid, b.forge(`{"alg":"RS256","kid":`+string(quoted)+`}`, "x"), "token_key_unknown")
	}
	for _, claims := range []string{`{"iss":"` + b.i.URL + `","iss":"x"}`, `{"iss":"` + b.i.URL + `","\ud800":1}`, `[]`, `{`, "\xff"} {
		b.refused("claims "+claims, b64(`{"alg":"RS256","kid":"key-1"}`)+"."+b64(claims)+"."+b64("x"), "token_malformed")
	}
	// Two issuers with one id for their keys: each one's opens only its own tokens.
	other := lktest.NewIssuer(t)
	both := issuers(b.i.URL, other.URL)
	for _, c := range []struct {
		iss, by *lktest.Issuer
		want    string
	}{{b.i, b.i, "<nil>"}, {other, other, "<nil>"}, {b.i, other, "token_signature"}, {other, b.i, "token_signature"}} {
		raw := c.by.Token(b.claims(map[string]any{"iss": c.iss.URL}))
		if _, err := b.v.Workload(context.Background(), both, Credential{Token: raw}, lockkeeper.MomentOf(clock)); code(err) != c.want {
			t.Errorf("a token of %s that was signed by %s: %v", c.iss.URL, c.by.URL, err)
		}
	}
}

func b3(t *testing.T) {
	b := newBench(t)
	asked := 0
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer trap.Close()
	for name, header := range map[string]string{
		"jku":    `{"alg":"RS256","kid":"key-1","jku":"` + trap.URL + `"}`,
		"x5u":    `{"alg":"RS256","kid":"key-1","x5u":"` + trap.URL + `"}`,
		"jwk":    `{"alg":"RS256","kid":"key-1","jwk":{}}`,
		"x5c":    `{"alg":"RS256","kid":"key-1","x5c":["x"]}`,
		"crit":   `{"alg":"RS256","kid":"key-1","crit":["exp"]}`,
		"b64":    `{"alg":"RS256","kid":"key-1","b64":false}`,
		"url":    `{"alg":"RS256","kid":"key-1","url":"` + trap.URL + `"}`,
		"enc":    `{"alg":"RSA-OAEP","enc":"A128GCM","kid":"key-1"}`,
		"twice":  `{"alg":"none","alg":"RS256","kid":"key-1"}`,
		"ALG":    `{"ALG":"none","alg":"RS256","kid":"key-1"}`,
		"access": `{"alg":"RS256","kid":"key-1","typ":"at+jwt"}`,
	} {
		b.refused(name, b.forge(header, "x"), "token_malformed")
	}
	// Signed well, with the key beside it that signed: it is refused all the same.
	payload, err := json.Marshal(b.claims(nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{"jku": trap.URL, "x5u": trap.URL, "jwk": json.RawMessage(b.i.KeySet())} {
		b.refused("a good token with "+name, b.i.Sign(payload, map[string]any{name: value}), "token_malformed")
	}
	if asked != 0 {
		t.Errorf("an address out of a header was asked %d times", asked)
	}
}

// oneIssuer: an issuer has one spelling, and no pattern is matched against it.
func oneIssuer(t *testing.T) {
	i, v := lktest.NewIssuer(t), NewVerifier(Options{})
	const own = "https://ci.example.com/path"
	for _, iss := range []string{"https://ci.example.com/path/", "https://ci.example.com", "https://ci.example.com/Path", "https://CI.example.com/path", "HTTPS://ci.example.com/path",
		"https://ci.example.com:443/path", "https://ci.example.com:8443/path", "https://user@ci.example.com/path", "https://user:pw@ci.example.com/path", "https://ci.example.com/path?x=1",
		"https://ci.example.com/path#x", "https://ci.example.com/./path", "https://ci.example.com//path", "https://ci.example.com/%70ath", "http://ci.example.com/path",
		"https://ci.example.com.evil.example/path", "https://evil.example/https://ci.example.com/path", "https://ci.example.com@evil.example/path", "https://ci-example.com/path", "https://xci.example.com/path",
		"https://c\u0456.example.com/path", "https://xn--c-m8a.example.com/path", "https://ci.example\u3002com/path", "https://ci.example.com./path", "https://127.0.0.1/path", "https://[::1]/path",
		"https://169.254.169.254/path", "https://2130706433/path", " https://ci.example.com/path", "https://ci.example.com/path ", "https://ci.example.com/path\n", "https://ci.example.com/path\x00", "//ci.example.com/path", "ci.example.com/path"} {
		raw := i.Token(i.Claims(lktest.GitHubJob{Audience: audience, Now: clock, More: map[string]any{"iss": iss}}))
		if _, err := v.Workload(context.Background(), issuers(own), Credential{Token: raw}, lockkeeper.MomentOf(clock)); code(err) != "issuer_unknown" {
			t.Errorf("iss %q: %v", iss, err)
		}
	}
	if n := i.Discovered.Load() + i.Fetched.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
