package web

import (
	"context"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Everybody may ask about himself; about others and about groups it takes
// access/read. Each reason comes as a path.
func TestCan(t *testing.T) {
	w := newWorld(t)
	const env = "/projects/payments/environments/production"
	ask := func(who string, q url.Values) (api.Can, error) {
		q.Set("action", "deployments/approve")
		q.Set("scope", env)
		var can api.Can
		err := w.people[who].Call(context.Background(), "GET", "/can?"+q.Encode(), nil, &can)
		return can, err
	}
	path := api.Path{Assignment: "releases", Effect: "grants", Groups: []string{"managers"}, Role: "release-manager", Scope: "/projects/payments"}
	for _, test := range []struct {
		who       string
		q         url.Values
		code      string
		principal string
		paths     []api.Path
	}{
		{"ann", url.Values{"user": {"ann"}}, "granted", "user:ann", []api.Path{path}},
		{"ann", url.Values{"principal": {"user:ann"}}, "granted", "user:ann", []api.Path{path}},
		{"ann", url.Values{"principal": {"user:bob"}}, "not_granted", "", nil},
		{"ann", url.Values{"principal": {"group:managers"}}, "not_granted", "", nil},
		{"dora", url.Values{"principal": {"group:managers"}}, "granted", "group:managers", []api.Path{path}},
		{"dora", url.Values{"principal": {"group:nobody"}}, "group_unknown", "group:nobody", []api.Path{}},
		{"dora", url.Values{"user": {"dora"}}, "not_granted", "user:dora", []api.Path{}},
		{"dora", url.Values{}, "principal_missing", "", nil},
		{"dora", url.Values{"user": {"ann"}, "principal": {"group:managers"}}, "principal_missing", "", nil},
		{"dora", url.Values{"principal": {"managers"}}, "principal_malformed", "", nil},
	} {
		can, err := ask(test.who, test.q)
		got := can.Code
		if err != nil {
			got = code(err)
		}
		if got != test.code || can.Principal != test.principal || len(can.Because) != len(test.paths) {
			t.Errorf("%s asks %v: %s, %+v, %v", test.who, test.q, got, can, err)
		}
		if !reflect.DeepEqual(test.paths, can.Paths) {
			t.Errorf("%s asks %v: the paths are %+v, not %+v", test.who, test.q, can.Paths, test.paths)
		}
	}
}

// The roles can be listed and read, the built-in ones and the catalog's own.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	documents := strings.ReplaceAll(rules, "ISSUER", w.issuer.URL) + "---\nkind: Role\nname: starter\nactions: [deployments/*]\nnotActions: [deployments/approve]\n"
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 2, Files: []api.File{{Name: "rules.yaml", Data: documents}}}, nil))
	var list api.Roles
	w.must(w.people["dora"].Call(ctx, "GET", "/roles", nil, &list))
	builtIn, own := 0, 0
	for _, r := range list.Roles {
		var one api.Role
		w.must(w.people["dora"].Call(ctx, "GET", "/roles/"+r.Name, nil, &one))
		if !reflect.DeepEqual(one, r) || len(r.Actions) == 0 || r.NotActions == nil {
			t.Errorf("the role %+v is listed as %+v", one, r)
		}
		if r.BuiltIn {
			builtIn++
		} else {
			own++
		}
		if want := []lockkeeper.ActionPattern{"deployments/start", "deployments/approve", "activations/approve", "identities/use"}; r.Name == "organisation-administrator" && !reflect.DeepEqual(r.NotActions, want) {
			t.Errorf("%s does not allow %v", r.Name, r.NotActions)
		}
	}
	if builtIn != len(catalog.BuiltInRoles()) || own != 1 {
		t.Errorf("%d built-in roles and %d others", builtIn, own)
	}
	if err := w.people["dora"].Call(ctx, "GET", "/roles/nobody", nil, nil); code(err) != "role_unknown" {
		t.Errorf("an unknown role: %v", err)
	}
	for _, path := range []string{"/roles", "/roles/reader"} {
		if err := (api.Client{Server: w.server.URL}).Call(ctx, "GET", path, nil, nil); code(err) != "credential_missing" {
			t.Errorf("%s without a sign-in: %v", path, err)
		}
		if err := w.people["ann"].Call(ctx, "GET", path, nil, nil); code(err) != "not_granted" {
			t.Errorf("%s by somebody who may not read the catalog: %v", path, err)
		}
	}
}

// TestChallenges: each platform of the user has an audience of its own that
// proves him, and a pod proves nobody.
func TestChallenges(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	text := strings.NewReplacer("ISSUER", w.issuer.URL, `ids: [{provider: github, id: "1002"}]`,
		`ids: [{provider: cluster, id: 61111111-2222-3333-4444-555555555555}, {provider: other, id: "1002"}, {provider: github, id: "1002"}, {provider: github, id: "1012"}, {provider: azure, id: 61111111-2222-3333-4444-555555555555}]`).Replace(rules) +
		"---\n{kind: Provider, name: other, platform: github, issuer: ISSUER, audience: https://other.example}\n---\n{kind: Provider, name: cluster, platform: kubernetes, issuer: ISSUER, audience: https://cluster.example}\n" +
		"---\n{kind: Provider, name: azure, platform: azure, issuer: https://az.example/1}\n"
	w.must(w.people["dora"].Call(ctx, "PUT", "/catalog", api.Apply{Base: 2, Files: []api.File{{Name: "rules.yaml", Data: strings.ReplaceAll(text, "ISSUER", w.issuer.URL)}}}, nil))
	w.must(w.people["bob"].Call(ctx, "POST", "/accounts/confirm", nil, nil))
	ask := func() (c api.Challenge) {
		w.must(w.people["bob"].Call(ctx, "POST", "/accounts/challenge", nil, &c))
		return c
	}
	prove := func(token, challenge string) (p api.Proven, err error) {
		err = api.Client{Server: w.server.URL, Bearer: token}.Call(ctx, "POST", "/accounts/proof", api.Proof{Challenge: challenge}, &p)
		return p, err
	}
	c := ask()
	suffix := "/prove/" + c.Challenge
	want := []api.ProofAudience{{Provider: "other", Platform: "github", Audience: "https://other.example" + suffix}, {Provider: "github", Platform: "github", Audience: w.server.URL + suffix}}
	if !reflect.DeepEqual(c.Audiences, want) || c.Audience != want[0].Audience || len(c.NoProof) != 2 || c.NoProof[0].Provider != "cluster" || c.NoProof[1].Platform != "azure" || c.NoProof[0].Reason == "" {
		t.Errorf("%+v", c)
	}
	pod := w.issuer.Token(w.issuer.KubernetesClaims("https://cluster.example"+suffix, time.Now(), nil))
	if _, err := prove(pod, c.Challenge); code(err) != "proof_impossible" {
		t.Errorf("a pod: %v", err)
	}
	for i := range c.Audiences {
		c := ask()
		job := w.job("workflow_dispatch", "")
		job.ActorID, job.Audience = "1002", c.Audiences[i].Audience
		if p, err := prove(w.issuer.JobToken(job), c.Challenge); err != nil || p.User != "bob" {
			t.Errorf("on %s: %v %+v", c.Audiences[i].Provider, err, p)
		}
	}
}
