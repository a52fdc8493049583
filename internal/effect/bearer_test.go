package effect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest/provider"
)

// The service client of the real provider.
const (
	serviceClient = "sid1"
	serviceSecret = "verysecret"
)

// A guarded service takes the tokens that a real provider knows: it asks the provider
// itself about each. In front of the provider stands a gate that counts.
type guarded struct {
	*httptest.Server
	mu      sync.Mutex
	fetched int             // tokens that were asked for
	shown   []string        // tokens that came with questions
	refused map[string]bool // what is not taken any more, whatever the provider says
	all     bool            // nothing is taken
	token   string          // how the endpoint of tokens answers: "", "redirect", "forever", "text"
}

func guardedBy(t *testing.T) *guarded {
	t.Helper()
	p := provider.Start(t)
	p.Add(serviceClient, serviceClient, nil)
	to, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{refused: map[string]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(to)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth/token" {
			g.tokens(w, r, proxy)
			return
		}
		shown := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		g.mu.Lock()
		g.shown = append(g.shown, shown)
		no := g.all || g.refused[shown]
		g.mu.Unlock()
		if no || !known(t, p.URL, shown) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"ok": true}`)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *guarded) tokens(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
	g.mu.Lock()
	g.fetched++
	how := g.token
	g.mu.Unlock()
	switch how {
	case "redirect":
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
	case "text", "forever", "short":
		kept := httptest.NewRecorder()
		proxy.ServeHTTP(kept, r)
		var got map[string]any
		json.Unmarshal(kept.Body.Bytes(), &got)
		got["expires_in"] = map[string]any{"text": "300", "forever": nil, "short": 20}[how]
		json.NewEncoder(w).Encode(got)
	default:
		proxy.ServeHTTP(w, r)
	}
}

func (g *guarded) counts() (fetched, asked int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fetched, len(g.shown)
}

// known reports whether a provider knows a token as one of the service client's.
func known(t *testing.T, issuer, token string) bool {
	req, err := http.NewRequest("GET", issuer+"/userinfo", nil)
	if err != nil {
		t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return false
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode == 200 && strings.Contains(string(body), `"sub":"`+serviceClient+`"`)
}

// client is a caller with one secret, and a question for it.
func (g *guarded) client(t *testing.T, secret string) (*caller, keeper.OpenQuestion) {
	t.Helper()
	dir := t.TempDir()
	q := sample(g.URL+"/scan", ticketOK)
	q.Ask["project"], q.Ask["environment"] = "p", "e"
	q.Call.Token = &catalog.CallToken{TokenURL: g.URL + "/oauth/token", Client: serviceClient, Scope: "openid", Secret: true}
	if err := os.WriteFile(filepath.Join(dir, secretFile(q, "secret")), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return &caller{reach: reach(t, home...), secrets: secrets{dir}, bearers: &bearers{}}, q
}

func (c *caller) says(t *testing.T, q keeper.OpenQuestion) string {
	t.Helper()
	o := c.ask(context.Background(), q)
	switch {
	case o.Answer != nil:
		return fmt.Sprint(o.Answer.Met)
	case o.Missed != nil:
		return o.Missed.Code
	}
	return ""
}

// A real provider gives a token for a client's secret, and the real token is shown for
// as long as it lasts.
func TestBearerOfProvider(t *testing.T) {
	g := guardedBy(t)
	c, q := g.client(t, serviceSecret)
	for range 3 {
		if said := c.says(t, q); said != "true" {
			t.Fatal(said)
		}
	}
	if fetched, asked := g.counts(); fetched != 1 || asked != 3 {
		t.Errorf("%d tokens for %d questions", fetched, asked)
	}
	for k, b := range c.bearers.all { // as if its time were over
		c.bearers.all[k] = bearer{b.token, time.Now()}
	}
	if said := c.says(t, q); said != "true" {
		t.Error(said)
	}
	if fetched, _ := g.counts(); fetched != 2 {
		t.Errorf("a token whose time was over was shown again: %d", fetched)
	}
}

// A token that the service does not take any more is fetched anew, once for an attempt;
// a service that takes none is no reason to ask for ever.
func TestBearerRefreshed(t *testing.T) {
	g := guardedBy(t)
	c, q := g.client(t, serviceSecret)
	if said := c.says(t, q); said != "true" {
		t.Fatal(said)
	}
	g.mu.Lock()
	g.refused[g.shown[0]] = true
	g.mu.Unlock()
	if said := c.says(t, q); said != "true" {
		t.Error(said)
	}
	if fetched, asked := g.counts(); fetched != 2 || asked != 3 {
		t.Errorf("%d tokens for %d questions", fetched, asked)
	}
	g.mu.Lock()
	g.all = true
	g.mu.Unlock()
	if said := c.says(t, q); said != "service_refused" {
		t.Error(said)
	}
	if fetched, asked := g.counts(); fetched != 3 || asked != 5 {
		t.Errorf("%d tokens for %d questions where none is taken", fetched, asked)
	}
	fresh, q2 := g.client(t, serviceSecret)
	if said := fresh.says(t, q2); said != "service_refused" {
		t.Error(said)
	}
	if fetched, asked := g.counts(); fetched != 4 || asked != 6 {
		t.Errorf("a token that was just fetched was fetched again: %d tokens for %d questions", fetched, asked)
	}
}

// A token that was refused is not shown again, though none could be fetched in its place.
func TestBearerRefusedIsForgotten(t *testing.T) {
	g := guardedBy(t)
	c, q := g.client(t, serviceSecret)
	if said := c.says(t, q); said != "true" {
		t.Fatal(said)
	}
	g.mu.Lock()
	g.refused[g.shown[0]], g.token = true, "redirect"
	g.mu.Unlock()
	for range 2 {
		if said := c.says(t, q); said != "token_refused" {
			t.Error(said)
		}
	}
	if _, asked := g.counts(); asked != 2 {
		t.Errorf("the service was shown %d tokens", asked)
	}
}

// A wrong secret is told no by the provider, nothing is asked without a token, and a
// secret that is put right is shown at once.
func TestBearerSecret(t *testing.T) {
	g := guardedBy(t)
	c, q := g.client(t, "not the secret")
	if said := c.says(t, q); said != "token_refused" {
		t.Error(said)
	}
	if _, asked := g.counts(); asked != 0 {
		t.Error("the service was asked without a token")
	}
	file := filepath.Join(c.secrets.dir, secretFile(q, "secret"))
	for secret, want := range map[string]string{serviceSecret: "true", "rotated away": "token_refused"} {
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		if said := c.says(t, q); said != want { // in whatever order
			t.Errorf("%s: %s", secret, said)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if said := c.says(t, q); said != "secret_missing" {
		t.Errorf("without its file: %s", said)
	}
}

// What says nothing of its end, or ends soon, is not kept; text is read as a number.
func TestBearerLasts(t *testing.T) {
	for how, want := range map[string]int{"": 1, "text": 1, "forever": 2, "short": 2} {
		g := guardedBy(t)
		g.token = how
		c, q := g.client(t, serviceSecret)
		for range 2 {
			if said := c.says(t, q); said != "true" {
				t.Fatal(how, said)
			}
		}
		if fetched, _ := g.counts(); fetched != want {
			t.Errorf("%q: %d tokens for two questions", how, fetched)
		}
	}
	for raw, want := range map[string]time.Duration{"60": time.Minute, `"60"`: time.Minute, "-1": 0, "1e3": 0, "null": 0, "": 0, "{}": 0, "99999999999999999999": 0, "0": 0} {
		if got := seconds(json.RawMessage(raw)); got != want {
			t.Errorf("%s: %s", raw, got)
		}
	}
}

// The endpoint of tokens is gone to through the dialer that judges addresses, and
// nothing that it leads to is followed.
func TestBearerEndpointJudged(t *testing.T) {
	g := guardedBy(t)
	g.token = "redirect"
	c, q := g.client(t, serviceSecret)
	if said := c.says(t, q); said != "token_refused" {
		t.Error(said)
	}
	g.token = ""
	c.reach = Reach{}
	if said := c.says(t, q); said != "address_refused" {
		t.Error(said)
	}
	q.Call.Token.TokenURL = strings.Replace(q.Call.Token.TokenURL, "127.0.0.1", "169.254.169.254", 1)
	c.reach = reach(t, home...)
	if said := c.says(t, q); said != "address_refused" {
		t.Error(said)
	}
	if fetched, asked := g.counts(); fetched != 1 || asked != 0 {
		t.Errorf("%d, %d", fetched, asked)
	}
}

// A check has the tokens of its own environment, client, scope and secret alone.
func TestBearersAreItsOwn(t *testing.T) {
	g := guardedBy(t)
	c, q := g.client(t, serviceSecret)
	other := q
	other.Ask = map[string]string{"digest": "sha256:1", "project": "p", "environment": "other"}
	if err := os.WriteFile(filepath.Join(c.secrets.dir, secretFile(other, "secret")), []byte(serviceSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	scoped := q
	token := *q.Call.Token
	token.Scope = "openid profile"
	scoped.Call.Token = &token
	for i, question := range []keeper.OpenQuestion{q, other, scoped, q, other, scoped} {
		if said := c.says(t, question); said != "true" {
			t.Fatal(i, said)
		}
	}
	if fetched, _ := g.counts(); fetched != 3 {
		t.Errorf("%d tokens for three that must not share one", fetched)
	}
	for i := range 2 * maxBearers {
		c.bearers.put(fmt.Sprint(i), "x", time.Minute, time.Now())
	}
	if len(c.bearers.all) > maxBearers {
		t.Errorf("%d are kept", len(c.bearers.all))
	}
}
