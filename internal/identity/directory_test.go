package identity

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest/provider"
)

// signInAt signs a user of the provider in, and finishes at now.
func signInAt(t *testing.T, p *provider.Provider, d Directory, now time.Time) (Person, error) {
	t.Helper()
	s, f := NewSignIn(http.DefaultClient), Flow{Redirect: redirect, State: "state", Nonce: "nonce", Verifier: "a verifier of forty-three characters or more"}
	at, err := s.Begin(context.Background(), d, f)
	if err != nil {
		t.Fatal(err)
	}
	b := provider.NewBrowser(t)
	b.On = func(to *url.URL) string {
		if to.Path == "/callback" {
			return ""
		}
		return to.String()
	}
	q := b.SignIn(at, "ann").URL.Query()
	return s.Finish(context.Background(), d, f, Answer{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss"), Error: q.Get("error")}, lockkeeper.MomentOf(now))
}

const redirect = "http://127.0.0.1:1/callback"

func TestDirectoryVouches(t *testing.T) {
	p := provider.Start(t, redirect)
	plain := Directory{Name: "corp", Issuer: p.URL, Client: provider.Client, Secret: p.Secret, Scopes: []string{"openid", "profile"}, SubjectClaim: "sub", GroupClaim: "groups"}
	now := time.Now()
	for _, test := range []struct {
		name   string
		claims map[string]any
		change func(*Directory)
		at     time.Duration // from now
		code   string
		check  func(Person) bool
	}{
		{"groups", map[string]any{"groups": []string{"a", "b"}}, nil, 0, "", func(p Person) bool { return slices.Equal(p.Groups, []string{"a", "b"}) && p.Subject == "id" }},
		{"one group, as a text", map[string]any{"groups": "a"}, nil, 0, "", func(p Person) bool { return slices.Equal(p.Groups, []string{"a"}) }},
		{"no groups", nil, nil, 0, "", func(p Person) bool { return len(p.Groups) == 0 }},
		{"another claim of groups", map[string]any{"teams": []string{"a"}, "groups": []string{"b"}}, func(d *Directory) { d.GroupClaim = "teams" }, 0, "", func(p Person) bool { return slices.Equal(p.Groups, []string{"a"}) }},
		{"nobody asks for groups", map[string]any{"groups": []string{"a"}, "hasgroups": true}, func(d *Directory) { d.GroupClaim = "" }, 0, "", func(p Person) bool { return p.Groups == nil }},
		{"groups elsewhere", elsewhere("groups"), nil, 0, "groups_overage", nil},
		{"other claims elsewhere", elsewhere("roles"), nil, 0, "", func(Person) bool { return true }},
		{"groups as a number", map[string]any{"groups": 7}, nil, 0, "groups_unfit", nil},
		{"groups as a mapping", map[string]any{"groups": map[string]any{"a": true}}, nil, 0, "groups_unfit", nil},
		{"the tenant", map[string]any{"tid": "t1"}, func(d *Directory) { d.Tenant = "t1" }, 0, "", func(Person) bool { return true }},
		{"another tenant", map[string]any{"tid": "t2"}, func(d *Directory) { d.Tenant = "t1" }, 0, "tenant_differs", nil},
		{"no tenant", nil, func(d *Directory) { d.Tenant = "t1" }, 0, "tenant_differs", nil},
		{"the domain", map[string]any{"hd": "example.com"}, func(d *Directory) { d.Domain = "example.com" }, 0, "", func(Person) bool { return true }},
		{"another domain", map[string]any{"hd": "example.org"}, func(d *Directory) { d.Domain = "example.com" }, 0, "domain_differs", nil},
		{"no domain", nil, func(d *Directory) { d.Domain = "example.com" }, 0, "domain_differs", nil},
		{"another claim of the subject", map[string]any{"oid": "o1"}, func(d *Directory) { d.SubjectClaim = "oid" }, 0, "", func(p Person) bool { return p.Subject == "o1" }},
		{"no subject", nil, func(d *Directory) { d.SubjectClaim = "oid" }, 0, "subject_missing", nil},
		{"a subject that is a number", map[string]any{"oid": 7}, func(d *Directory) { d.SubjectClaim = "oid" }, 0, "subject_missing", nil},
		{"a clock half a minute behind", nil, nil, -30 * time.Second, "", func(Person) bool { return true }},
		{"a clock half a minute ahead", nil, nil, 30 * time.Second, "", func(Person) bool { return true }},
		{"a clock three minutes behind", nil, nil, -3 * time.Minute, "clock_skew", nil},
		{"a clock a quarter of an hour ahead", nil, nil, 15 * time.Minute, "clock_skew", nil},
		{"a clock two hours ahead", nil, nil, 2 * time.Hour, "clock_skew", nil},
		{"algorithms that it does not sign with", nil, func(d *Directory) { d.Algorithms = []string{"ES256"} }, 0, "id_token_unfit", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.Add("id", "ann", test.claims)
			d := plain
			if test.change != nil {
				test.change(&d)
			}
			got, err := signInAt(t, p, d, now.Add(test.at))
			code := lockkeeper.RefusalOf(err)
			if test.code != "" && (code == nil || code.Code != test.code) || test.code == "" && (err != nil || !test.check(got)) {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
}

// elsewhere says, as Entra ID does, that a claim is to be fetched.
func elsewhere(claim string) map[string]any {
	return map[string]any{"_claim_names": map[string]string{claim: "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example/"}}}
}

// A directory whose discovery document is another issuer's, is endless, or names
// endpoints in the clear, is not used.
func TestDirectoryUnfit(t *testing.T) {
	for name, document := range map[string]string{
		"another issuer": `{"issuer": "https://other.example", "authorization_endpoint": "URL/a", "token_endpoint": "URL/t", "jwks_uri": "URL/k"}`,
		"in the clear":   `{"issuer": "URL", "authorization_endpoint": "ftp://x/a", "token_endpoint": "URL/t", "jwks_uri": "URL/k"}`,
		"no document":    `[]`,
		"endless":        "",
	} {
		t.Run(name, func(t *testing.T) {
			at := serveDocument(t, document)
			_, err := NewSignIn(nil).Begin(context.Background(), Directory{Name: "corp", Issuer: at, Client: "c"}, Flow{State: "s", Nonce: "n", Verifier: "v"})
			if r := lockkeeper.RefusalOf(err); r == nil || r.Code != "directory_away" {
				t.Errorf("%v", err)
			}
		})
	}
}

func serveDocument(t *testing.T, document string) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	at := "http://" + s.Listener.Addr().String()
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if document != "" {
			io.WriteString(w, strings.ReplaceAll(document, "URL", at))
			return
		}
		io.WriteString(w, `{"issuer": "`)
		for range 4 << 20 / 1024 {
			if _, err := io.WriteString(w, strings.Repeat("x", 1024)); err != nil {
				return
			}
		}
	})
	s.Start()
	t.Cleanup(s.Close)
	return at
}
