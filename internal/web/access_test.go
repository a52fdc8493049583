package web

import (
	"context"
	"net/url"
	"reflect"
	"strings"
	"testing"

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
		if want := []lockkeeper.ActionPattern{"deployments/start", "deployments/approve", "activations/approve"}; r.Name == "organisation-administrator" && !reflect.DeepEqual(r.NotActions, want) {
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
