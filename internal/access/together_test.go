package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// TestHeldTogether: whoever is listed holds both, by the reference's reading of the
// catalog, if everything eligible is active and all conditions are so; and whoever
// is not, does not, at any place.
func TestHeldTogether(t *testing.T) {
	some, none := 0, 0
	lively(t, func() bool { return !(some < 30 || none < 30) }, func(t *rapid.T) {
		w := drawWorld(t)
		for name, u := range w.c.Users {
			if rapid.Bool().Draw(t, "same person") {
				u.Person = "u0"
				w.c.Users[name] = u
			}
		}
		for name, a := range w.c.Assignments {
			a.Eligible = !a.Deny && rapid.IntRange(0, 3).Draw(t, "eligible") == 0
			if a.Start.IsZero() || a.Deny {
				a.Start = lockkeeper.Moment{}
			}
			w.c.Assignments[name] = a
		}
		sep := catalog.Separation{Name: "s", Mode: catalog.SeparateHolding, Scope: rapid.SampledFrom(w.scopes).Draw(t, "scope"),
			Actions: [][]lockkeeper.ActionPattern{{"deployments/start", "journal/*"}, {"deployments/approve"}}}
		w.c.Separations = map[string]catalog.Separation{"s": sep}
		now := at(rapid.IntRange(0, 25).Draw(t, "now"))
		got := map[lockkeeper.Person]bool{}
		for _, h := range New(w.c).HeldTogether(now) {
			got[h.Person] = true
			if h.Holds[0].Way == "" || h.Holds[1].Way == "" || !sep.Scope.Contains(h.Scope) {
				t.Fatalf("%+v", h)
			}
		}
		for _, who := range w.users {
			p := w.c.PersonOf(who)
			if want := holdsBoth(w, p, sep.Scope, now); want != got[p] {
				t.Fatalf("%s holds both: %v, want %v", p, got[p], want)
			}
			some, none = some+count(got[p]), none+count(!got[p])
		}
	})
	if !t.Failed() && (some < 30 || none < 30) {
		t.Errorf("%d hold both, %d do not: too dull", some, none)
	}
}

// holdsBoth looks at every place: what the person's accounts are given there by
// grants that are not over, less what denies always take.
func holdsBoth(w world, p lockkeeper.Person, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	for _, place := range w.scopes {
		if !words(string(place), string(scope)) {
			continue
		}
		holds := func(actions ...lockkeeper.Action) bool {
			return slices.ContainsFunc(w.users, func(user string) bool {
				u := w.c.Users[user]
				return w.c.PersonOf(user) == p && !u.Off && !u.Automation && slices.ContainsFunc(actions, func(a lockkeeper.Action) bool { return given(w.c, user, a, place, now) })
			})
		}
		if holds("deployments/start", "journal/read", "journal/export") && holds("deployments/approve") {
			return true
		}
	}
	return false
}

func given(c *catalog.Catalog, user string, action lockkeeper.Action, place lockkeeper.Scope, now lockkeeper.Moment) bool {
	is := func(p lockkeeper.Principal) bool {
		return p.Kind == lockkeeper.UserPrincipal && p.Name == user || p.Kind == lockkeeper.GroupPrincipal && contains(c, p.Name, user, 0)
	}
	granted := false
	for _, a := range c.Assignments {
		if !is(a.Principal) || !words(string(place), string(a.Scope)) || !allows(c.Roles[a.Role], action) {
			continue
		}
		if a.Deny && a.Condition == "" && !a.Here && a.Start.IsZero() && a.End.IsZero() && !slices.ContainsFunc(a.Except, is) {
			return false
		}
		granted = granted || !a.Deny && (a.End.IsZero() || now.Time().UnixMilli() < a.End.Time().UnixMilli())
	}
	return granted
}

func TestTogetherIsNamed(t *testing.T) {
	x := New(read(t, company+`
---
{kind: Separation, name: four-eyes, scope: /projects/p, mode: hold, actions: [[deployments/start], [deployments/approve]]}
`))
	list := x.HeldTogether(epoch)
	if len(list) == 0 || list[0].String() != fmt.Sprintf("The separation four-eyes keeps deployments/start and deployments/approve apart, and %s holds both at /projects/p: by %s (%s) and by %s (%s).", list[0].Person,
		list[0].Holds[0].Way, list[0].Holds[0].Assignment, list[0].Holds[1].Way, list[0].Holds[1].Assignment) || !strings.Contains(list[0].Holds[0].Way, "→ role release-manager → at /projects/p") {
		t.Errorf("%+v", list)
	}
	if x.c.Separations = maps.Clone(x.c.Separations); len(x.c.Separations) != 1 {
		t.Fatal(x.c.Separations)
	}
	s := x.c.Separations["four-eyes"]
	s.Mode = catalog.SeparateUse
	x.c.Separations["four-eyes"] = s
	if list := x.HeldTogether(epoch); len(list) > 0 {
		t.Errorf("what may not be used together may be held: %v", list)
	}
}
