package web

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
)

// A server that others reach takes no provider that is asked in the clear.
func TestIssuerInTheClear(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const azure = "---\n{kind: Provider, name: azure, platform: azure, issuer: https://vstoken.example.com/x, api: http://127.0.0.1:1/x}\n"
	https := strings.ReplaceAll(rules, "ISSUER", "https://token.example.com")
	for _, test := range []struct {
		options  Options
		document string
		want     string
	}{
		{Options{URL: "https://lockkeeper.example.com"}, strings.ReplaceAll(rules, "ISSUER", w.issuer.URL), "issuer_in_the_clear"},
		{Options{URL: "https://lockkeeper.example.com"}, https + azure, "issuer_in_the_clear"},
		{Options{URL: "http://localhost:8420", Exposed: true}, https + azure, "issuer_in_the_clear"},
		{Options{URL: "http://localhost:8420"}, https + azure, "<nil>"},
		{Options{URL: "https://lockkeeper.example.com", Exposed: true}, https, "<nil>"},
	} {
		o := test.options
		o.Keeper, o.Verifier, o.Version = w.keeper, identity.NewVerifier(identity.Options{}), "test"
		server := httptest.NewServer(New(o))
		c := w.people["dora"]
		c.Server = server.URL
		before, _ := w.keeper.Revision()
		err := c.Call(ctx, "PUT", "/catalog", api.Apply{Base: before.Number, Files: []api.File{{Name: "rules.yaml", Data: test.document}}}, nil)
		after, _ := w.keeper.Revision()
		if code(err) != test.want || (after.Number != before.Number) != (err == nil) {
			t.Errorf("%+v: %v, revision %d after %d", test.options, err, after.Number, before.Number)
		}
		server.Close()
	}
}

// A server whose own URL is the issuer of a provider, however it came to that,
// takes none of that provider's tokens: they would be its own.
func TestOwnTokensProveNoJob(t *testing.T) {
	w := newWorld(t)
	for url, want := range map[string]string{w.issuer.URL: "issuer_unknown", w.issuer.URL + "/": "issuer_unknown", w.server.URL: "<nil>"} {
		server := httptest.NewServer(New(Options{Keeper: w.keeper, Verifier: identity.NewVerifier(identity.Options{}), URL: url, Version: "test"}))
		job := w.job("push", "")
		job.Audience = url
		c := w.as(job)
		c.Server = server.URL
		if err := c.Call(context.Background(), "POST", "/artifacts", api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}, nil); code(err) != want {
			t.Errorf("a server at %s: %v, want %s", url, err, want)
		}
		server.Close()
	}
}
