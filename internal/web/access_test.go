package web

import (
	"context"
	"net/url"
	"reflect"
	"testing"

	"github.com/lockkeeper/lockkeeper/api"
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
