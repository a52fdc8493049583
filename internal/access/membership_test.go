package access

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// What a directory said grants until it is believed no more, and forbids for as
// long as nobody said anything else: the reference asks for the grants with the
// members that are believed, and for the denies with all of them.
func TestSaidMembership(t *testing.T) {
	stale := 0 // questions that only an old membership in a denied group decides
	lively(t, func() bool { return !(stale < 3) }, func(t *rapid.T) {
		w := drawWorld(t)
		if len(w.groups) == 0 {
			return
		}
		w.c.Roles["all"] = catalog.Role{Name: "all", Actions: []lockkeeper.ActionPattern{"*"}}
		w.c.Assignments["never"] = catalog.Assignment{Name: "never", Role: "all", Deny: true, Scope: rapid.SampledFrom(w.scopes).Draw(t, "never at"), Principal: lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: rapid.SampledFrom(w.groups).Draw(t, "never to")}}
		if rapid.Bool().Draw(t, "but") {
			never := w.c.Assignments["never"]
			never.Except = []lockkeeper.Principal{{Kind: lockkeeper.GroupPrincipal, Name: rapid.SampledFrom(w.groups).Draw(t, "never but")}}
			if rapid.Bool().Draw(t, "but if") {
				never.Condition = `1 / (size(project) - 1) > 0`
			}
			w.c.Assignments["never"] = never
		}
		if rapid.Bool().Draw(t, "crowded") { // so many grants at the scope of the deny that groups are looked up by their bits
			for i := range fewGrants {
				name := fmt.Sprint("crowd-", i)
				w.c.Assignments[name] = catalog.Assignment{Name: name, Role: fmt.Sprint("r", i%4), Scope: w.c.Assignments["never"].Scope, Principal: lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: w.groups[i%len(w.groups)]}}
			}
		}
		var said []Membership
		for _, u := range w.users {
			if rapid.Bool().Draw(t, "everything to "+u) {
				w.c.Assignments["all-"+u] = catalog.Assignment{Name: "all-" + u, Role: "all", Scope: "/", Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: u}}
			}
			for range rapid.IntRange(0, 3).Draw(t, "said of "+u) {
				until := at(rapid.IntRange(0, 30).Draw(t, "until"))
				if rapid.IntRange(0, 4).Draw(t, "never") == 0 {
					until = lockkeeper.Moment{}
				}
				said = append(said, Membership{u, rapid.SliceOfN(rapid.SampledFrom(append(w.groups, "none")), 0, 3).Draw(t, "groups"), until})
			}
		}
		plain := New(w.c)
		x := plain.With(append(said, Membership{"nobody", w.groups, at(30)}))
		joined := func(now lockkeeper.Moment) *catalog.Catalog { // zero: whatever was said
			c := *w.c
			c.Groups = maps.Clone(w.c.Groups)
			for _, m := range said {
				for _, g := range m.Groups {
					if group, known := c.Groups[g]; known && (now.IsZero() || now.Before(m.Until)) {
						group.Users = append(slices.Clone(group.Users), m.User)
						c.Groups[g] = group
					}
				}
			}
			return &c
		}
		all := joined(lockkeeper.Moment{})
		allowed := func(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
			return granted(joined(now), user, action, scope, now) && !forbidden(all, joined(now), user, action, scope, now) && !w.c.Users[user].Off && !w.c.Users[user].Automation
		}
		type question struct {
			user   string
			scope  lockkeeper.Scope
			action lockkeeper.Action
		}
		var questions []question
		for _, user := range w.users {
			for _, scope := range w.scopes {
				for _, action := range []lockkeeper.Action{lockkeeper.ApproveDeployments, lockkeeper.ReadChanges, lockkeeper.WriteAccess} {
					questions = append(questions, question{user, scope, action})
				}
			}
		}
		n := rapid.IntRange(0, 30).Draw(t, "now")
		for _, q := range questions {
			user, action, scope := q.user, q.action, q.scope
			want, d := allowed(user, action, scope, at(n)), x.Check(user, action, scope, at(n))
			if got := x.Allowed(user, action, scope, at(n)); got != want || d.Passed(at(n)) != want || slices.Contains(x.WhoCan(action, scope, at(n)), user) != want {
				t.Fatalf("%s %s at %s, %d: Allowed %v, Check %+v, want %v, said %v", user, action, scope, n, got, d, want, said)
			}
			if !want && d.Code == "denied_by_assignment" && reference(joined(at(n)), user, action, scope, at(n)) {
				stale++
			}
			if !want {
				continue
			}
			for m := n; m <= 31; m++ {
				if !allowed(user, action, scope, at(m)) {
					if d.Until == nil || *d.Until != at(m) {
						t.Fatalf("%s %s at %s passes from %d before %d, but Until is %v", user, action, scope, n, m, d.Until)
					}
					break
				}
			}
		}
		for _, u := range w.users { // the index that it was made of is as it was
			for _, g := range w.groups {
				if _, in := plain.InGroup(u, g, at(0)); in != contains(w.c, g, u, 0) {
					t.Fatalf("%s in %s is %v", u, g, in)
				}
				if _, in := x.InGroup(u, g, at(15)); in != contains(joined(at(15)), g, u, 0) {
					t.Fatalf("%s in %s is said to be %v", u, g, in)
				}
			}
		}
	})
	if !t.Failed() && stale < 3 {
		t.Errorf("%d questions are decided by an old membership: the worlds are too dull", stale)
	}
}

// BenchmarkWith is what a change of one membership costs in a large organisation.
func BenchmarkWith(b *testing.B) {
	c, _ := large(full)
	x := New(c)
	var said []Membership
	groups := slices.Sorted(maps.Keys(c.Groups))
	for i, u := range slices.Sorted(maps.Keys(c.Users)) {
		said = append(said, Membership{u, groups[i%len(groups) : i%len(groups)+1], at(1000)})
	}
	for b.Loop() {
		x.With(said)
	}
}
