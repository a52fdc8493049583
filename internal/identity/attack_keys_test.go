package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

func TestAttacksOnKeyFetching(t *testing.T) {
	t.Run("C1_unknown_keys_make_one_fetch_in_30_s", unknownKeys)
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
	t.Run("C4_rotation_and_absence", rotationAndAbsence)
	t.Run("C4_a_key_that_was_taken_back_in_a_silence", takenBack)
	t.Run("C5_only_configured_issuers_are_asked", func(t *testing.T) {
		b, other := newBench(t), lktest.NewIssuer(t)
		b.refused("a stranger", other.Token(other.Claims(lktest.GitHubJob{Audience: audience, Now: clock})), "issuer_unknown")
		// A path below a configured issuer, and one above it, are strangers too.
		for _, iss := range []string{other.URL + "/x", other.URL} {
			v := NewVerifier(Options{})
			raw := other.Token(other.Claims(lktest.GitHubJob{Audience: audience, Now: clock, More: map[string]any{"iss": iss}}))
			if _, err := v.Workload(context.Background(), issuers(other.URL+"/y"), Credential{Token: raw}, lockkeeper.MomentOf(clock)); code(err) != "issuer_unknown" {
				t.Errorf("iss %s: %v", iss, err)
			}
		}
		if other.Discovered.Load()+other.Fetched.Load() != 0 {
			t.Error("a stranger was asked for its keys")
		}
	})
}

func unknownKeys(t *testing.T) {
	b, other := newBench(t), lktest.NewIssuer(t)
	both := issuers(b.i.URL, other.URL)
	good, others := b.i.Token(b.claims(nil)), func(now time.Time) string {
		return other.Token(other.Claims(lktest.GitHubJob{Audience: audience, Now: now}))
	}
	at := func(raw string, now time.Time) error {
		_, err := b.v.Workload(context.Background(), both, Credential{Token: raw}, lockkeeper.MomentOf(now))
		return err
	}
	if err := at(good, clock); err != nil {
		t.Fatal(err)
	}
	for n := range 10_000 {
		if err := at(b.forge(fmt.Sprintf(`{"alg":"RS256","kid":"k%d"}`, n), "x"), clock); code(err) != "token_key_unknown" {
			t.Fatal(err)
		}
	}
	if n := b.i.Fetched.Load(); n != 1 {
		t.Errorf("%d fetches within the pause", n)
	}
	// Another issuer is fetched as if nothing was.
	if err := at(others(clock), clock); err != nil || other.Fetched.Load() != 1 {
		t.Errorf("another issuer: %v, %d fetches", err, other.Fetched.Load())
	}
	at(b.forge(`{"alg":"RS256","kid":"late"}`, "x"), clock.Add(31*time.Second))
	at(b.forge(`{"alg":"RS256","kid":"later"}`, "x"), clock.Add(40*time.Second))
	if n := b.i.Fetched.Load(); n != 2 {
		t.Errorf("%d fetches after the pause", n)
	}
	if err := at(good, clock); err != nil {
		t.Errorf("the good token: %v", err)
	}
	if other.Fetched.Load() != 1 {
		t.Errorf("another issuer was fetched %d times", other.Fetched.Load())
	}
}

func rotationAndAbsence(t *testing.T) {
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
}

// takenBack: the issuer takes a key back while nobody calls. The first token that
// comes after an hour must not pass under what was known before; but an issuer
// that is away, or hangs, holds up whom it knows at most once.
func takenBack(t *testing.T) {
	b := newBench(t)
	later := clock.Add(2 * time.Hour)
	if err := b.at(b.i.Token(b.claims(nil)), clock); err != nil {
		t.Fatal(err)
	}
	stolen := b.i.Token(b.i.Claims(lktest.GitHubJob{Audience: audience, Now: later})) // made with the key that is taken back now
	if err := b.i.Rotate(jose.RS256); err != nil {
		t.Fatal(err)
	}
	if err := b.at(stolen, later); code(err) != "token_key_unknown" {
		t.Errorf("a key that was taken back two hours ago: %v", err)
	}
	token := func(now time.Time) string {
		return b.i.Token(b.i.Claims(lktest.GitHubJob{Audience: audience, Now: now}))
	}
	if err := b.at(token(later), later); err != nil {
		t.Errorf("the key in its place: %v", err)
	}
	b.i.SetDown(true)
	if now := later.Add(2 * time.Hour); b.at(token(now), now) != nil {
		t.Error("the issuer is away, and its key is not taken any more")
	}
	b.i.SetDown(false)
	release := b.i.Hang()
	defer release()
	done, now := make(chan error, 1), later.Add(3*time.Hour)
	go func() { done <- b.at(token(now), now) }()
	<-b.i.Hanging // the fetch has begun, and nobody waits for it
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the issuer hangs after it failed: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("an issuer that hangs after it failed holds up whom it knows")
	}
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

// modes are the ways in which an issuer can answer badly. served counts what it
// got rid of.
func modes(key *lktest.Issuer, served *atomic.Int64) map[string]func(w http.ResponseWriter, r *http.Request, self string) {
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	keys := func(set string) func(w http.ResponseWriter, r *http.Request, self string) {
		return func(w http.ResponseWriter, r *http.Request, self string) { discover(w, r, self, []byte(set)) }
	}
	return map[string]func(w http.ResponseWriter, r *http.Request, self string){
		"errors":  func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "no", 500) },
		"a page":  func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write([]byte("<html>")) },
		"nothing": func(http.ResponseWriter, *http.Request, string) {},
		"redirects": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, key.URL+r.URL.Path, http.StatusFound)
		},
		"keys that are sent elsewhere": func(w http.ResponseWriter, r *http.Request, self string) {
			if r.URL.Path == "/jwks" {
				http.Redirect(w, r, key.URL+"/jwks", http.StatusFound)
				return
			}
			discover(w, r, self, nil)
		},
		"redirects inside": func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
		},
		"100 MB": func(w http.ResponseWriter, _ *http.Request, _ string) {
			for range 100 {
				n, _ := w.Write(blanks)
				served.Add(int64(n))
			}
		},
		"an answer without an end": func(w http.ResponseWriter, r *http.Request, _ string) {
			for r.Context().Err() == nil {
				n, _ := w.Write(blanks)
				served.Add(int64(n))
			}
		},
		"an answer that drips": func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Write([]byte("{"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"an answer that never begins": func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() },
		"an answer that breaks off": func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("{"))
		},
		"another issuer": func(w http.ResponseWriter, _ *http.Request, _ string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, key.URL, key.URL)
		},
		"keys elsewhere in the clear": func(w http.ResponseWriter, _ *http.Request, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://169.254.169.254/jwks"}`, self)
		},
		"keys in a file": func(w http.ResponseWriter, _ *http.Request, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, self)
		},
		"keys behind a password": func(w http.ResponseWriter, _ *http.Request, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, self, strings.Replace(self, "//", "//user:pw@", 1))
		},
		"no keys":         keys(`{"keys":[]}`),
		"no list":         keys(`{}`),
		"only a secret":   keys(`{"keys":[{"kty":"oct","kid":"key-1","k":"eA"}]}`),
		"keys with a BOM": keys("\ufeff" + string(key.KeySet())),
	}
}

// discover answers as an issuer with this key set does.
func discover(w http.ResponseWriter, r *http.Request, self string, set []byte) {
	if r.URL.Path == "/jwks" {
		w.Write(set)
		return
	}
	fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/jwks"}`, self, self)
}

// hostileKeySets: who answers badly from the beginning is unreachable, and who
// does after a good answer goes on with that one, for a day; the log tells of it.
func hostileKeySets(t *testing.T) {
	key := lktest.NewIssuer(t)
	var served atomic.Int64
	for name, answer := range modes(key, &served) {
		var well atomic.Bool
		var self string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if well.Load() {
				discover(w, r, self, key.KeySet())
				return
			}
			answer(w, r, self)
		}))
		self = s.URL
		var log bytes.Buffer
		options := Options{HTTP: &http.Client{Timeout: 150 * time.Millisecond}, Log: slog.New(slog.NewTextHandler(&log, nil))}
		at := func(v *Verifier, now time.Time) error {
			c := key.Claims(lktest.GitHubJob{Audience: audience, Now: now})
			c["iss"] = self
			_, err := v.Workload(context.Background(), issuers(self), Credential{Token: key.Token(c)}, lockkeeper.MomentOf(now))
			return err
		}
		if err := at(NewVerifier(options), clock); code(err) != "issuer_unreachable" || lockkeeper.KindOf(err) != lockkeeper.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), self) {
			t.Errorf("%s: the log says only %q", name, log.String())
		}
		v := NewVerifier(options)
		well.Store(true)
		if err := at(v, clock); err != nil {
			t.Errorf("%s: answered well at first: %v", name, err)
		}
		well.Store(false)
		if err := at(v, clock.Add(2*time.Hour)); err != nil {
			t.Errorf("%s: the last good set is gone: %v", name, err)
		}
		if err := at(v, clock.Add(25*time.Hour)); code(err) != "issuer_unreachable" {
			t.Errorf("%s: after a day: %v", name, err)
		}
		well.Store(true)
		if err := at(v, clock.Add(26*time.Hour)); err != nil {
			t.Errorf("%s: answered well again: %v", name, err)
		}
		s.Close()
	}
	if n := served.Load(); n > 128<<20 { // what the kernel buffers of a few answers
		t.Errorf("%d MiB of answers that are too long were taken", n>>20)
	}
}

// b10: signatures have one form, and weak keys are no keys.
func b10(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k any) string {
		b, err := jose.JSONWebKey{Key: k, KeyID: "weak", Use: "sig"}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	set := `{"keys":[` + public(&private.PublicKey) + `]}`
	var self string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { discover(w, r, self, []byte(set)) }))
	defer s.Close()
	self = s.URL
	claims := (&lktest.Issuer{URL: self}).Claims(lktest.GitHubJob{Audience: audience, Now: clock})
	record := func(v *Verifier, raw string) (lockkeeper.Workload, error) {
		return v.Workload(context.Background(), issuers(self), Credential{Token: raw}, lockkeeper.MomentOf(clock))
	}
	v := NewVerifier(Options{})
	good := sign(t, jose.JSONWebKey{Key: private, KeyID: "weak"}, claims)
	first, err := record(v, good)
	if err != nil {
		t.Fatal(err)
	}
	signed := good[:strings.LastIndex(good, ".")]
	digest := sha256.Sum256([]byte(signed))
	der, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		t.Fatal(err)
	}
	fixed := func(r, s *big.Int) string {
		return string(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	order := elliptic.P256().Params().N
	if _, err := record(v, signed+"."+b64(fixed(rs.R, rs.S))); err != nil {
		t.Errorf("the same signature as r and s: %v", err)
	}
	for name, signature := range map[string]string{
		"DER":                    string(der),
		"r and s of 33 bytes":    "\x00" + string(rs.R.FillBytes(make([]byte, 32))) + "\x00" + string(rs.S.FillBytes(make([]byte, 32))),
		"a byte behind them":     fixed(rs.R, rs.S) + "\x00",
		"r alone":                fixed(rs.R, rs.S)[:32],
		"zeros":                  strings.Repeat("\x00", 64),
		"s of the curve's order": fixed(rs.R, order),
		"r and s the other way":  fixed(rs.S, rs.R),
	} {
		if _, err := record(v, signed+"."+b64(signature)); code(err) != "token_signature" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The mirrored signature holds too (RFC 7518 does not forbid it): it is the same
	// token still, so it opens nothing that the first one did not.
	if w, err := record(v, signed+"."+b64(fixed(rs.R, new(big.Int).Sub(order, rs.S)))); err != nil && code(err) != "token_signature" || err == nil && w.TokenID != first.TokenID {
		t.Errorf("the mirrored signature: %v, and another token: %v", err, w.TokenID != first.TokenID)
	}

	one := public(&small.PublicKey)
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string]string{
		"RSA of 1024 bits":      one,
		"exponent 1":            public(&rsa.PublicKey{N: strong.N, E: 1}),
		"exponent 3":            public(&rsa.PublicKey{N: strong.N, E: 3}),
		"an even exponent":      public(&rsa.PublicKey{N: strong.N, E: 65538}),
		"an even modulus":       public(&rsa.PublicKey{N: new(big.Int).Lsh(strong.N, 1), E: 65537}),
		"a weak key of two":     public(&private.PublicKey) + "," + strings.Replace(one, `"weak"`, `"second"`, 1),
		"one id for two":        public(&private.PublicKey) + "," + public(&strong.PublicKey),
		"a private key":         string(mustJSON(t, jose.JSONWebKey{Key: private, KeyID: "weak"})),
		"a point off the curve": strings.Replace(public(&private.PublicKey), `"x":"`, `"x":"A`, 1),
	} {
		set = `{"keys":[` + keys + `]}`
		if _, err := record(NewVerifier(Options{}), good); code(err) != "issuer_unreachable" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign signs claims with any key.
func sign(t *testing.T, key jose.JSONWebKey, claims map[string]any) string {
	t.Helper()
	alg := jose.RS256
	if _, is := key.Key.(*ecdsa.PrivateKey); is {
		alg = jose.ES256
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(mustJSON(t, claims))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
