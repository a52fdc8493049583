package web

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
)

// The source of a request is what the proxy saw, and only behind one.
func TestSource(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		proxied bool
		header  []string
		want    string
	}{
		{true, []string{"203.0.113.9"}, "203.0.113.9"},
		{true, []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"}, // the client wrote the first
		{true, []string{"198.51.100.1", "198.51.100.2,203.0.113.9 "}, "203.0.113.9"},
		{true, []string{"203.0.113.9:51234"}, "203.0.113.9"},
		{true, []string{"2001:db8::1"}, "2001:db8::1"},
		{true, []string{"[2001:db8::1]"}, "2001:db8::1"},
		{true, []string{"[2001:db8::1]:51234"}, "2001:db8::1"},
		{true, []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{true, nil, "192.0.2.1"},
		{true, []string{"203.0.113.9, unknown"}, "192.0.2.1"},
		{true, []string{"203.0.113.9,"}, "192.0.2.1"},
		{false, []string{"203.0.113.9"}, "192.0.2.1"},
	} {
		s := New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.server.URL, Version: "test", Proxied: test.proxied})
		got := ""
		h := s.outer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = source(r.RemoteAddr) }))
		r := httptest.NewRequest("GET", "/", nil) // from 192.0.2.1:1234
		r.Header["X-Forwarded-For"] = test.header
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != test.want {
			t.Errorf("proxied %v, %q: the source is %q, not %q", test.proxied, test.header, got, test.want)
		}
	}
}

// Behind a proxy one client that guesses passwords locks out himself, and nobody
// else: whatever he writes before the address that the proxy adds.
func TestSignInLimitBehindProxy(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: w.server.URL, Version: "test", Proxied: true}))
	defer server.Close()
	c := api.Client{Server: server.URL}
	try := func(n int, from string) string {
		in := api.SignIn{User: fmt.Sprint("nobody-", n), Password: "a wrong password"}
		return code(c.Call(context.Background(), "POST", "/sessions", in, nil, "X-Forwarded-For", from))
	}
	limited := ""
	for n := 0; n < 200 && limited == ""; n++ {
		if got := try(n, fmt.Sprintf("198.51.100.%d, 203.0.113.9", n)); got != "sign_in_failed" {
			limited = got
		}
	}
	if !strings.Contains(limited, "too_many") {
		t.Errorf("the guesser is stopped by %q", limited)
	}
	if got := try(1000, "203.0.113.9, 203.0.113.10"); got != "sign_in_failed" {
		t.Errorf("somebody else is answered %q", got)
	}
}
