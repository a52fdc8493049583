package keeper

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// What a permitted command rested on is in the state, with the assignment that gave
// it; what was refused rested on nothing.
func TestUses(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	want(t, do("ann2", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0), "own_deployment")
	want(t, do("ann", endActivation{Activation: "a-none"}, 0), "activation_over")
	if len(c.Uses) > 0 || !c.Observed.IsZero() {
		t.Fatalf("%+v since %s", c.Uses, c.Observed)
	}
	for day := range 3 {
		at := time.Duration(day) * 24 * time.Hour
		id := fmt.Sprint(day)
		if day > 0 {
			must(t, do("ann", openRequest{ID: "r-1" + id, Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, at))
		} else {
			id = ""
		}
		must(t, do("bob", decideRequest{Request: "r-1" + id, Approve: true, Digest: c.Requests["r-1"+id].Digest}, at))
		must(t, do("ann", beginActivation{"r-1" + id, "a-1" + id}, at+time.Minute))
		must(t, do("dora", endActivation{Activation: "a-1" + id, Reason: "enough"}, at+2*time.Minute))
	}
	digest := func(name string) lockkeeper.Digest {
		return c.rules.Catalog.DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: name})
	}
	for _, want := range []struct {
		user        string
		action      lockkeeper.Action
		role, given string
		scope       lockkeeper.Scope
	}{
		{"bob", lockkeeper.ApproveActivations, "", "deciders", "/projects/p"},
		{"ann", access.Activating, "operator", "operators", "/projects/p"},
		{"dora", lockkeeper.RevokeActivations, "", "administration", "/projects/p"},
	} {
		u := c.Uses[useKey(used{User: want.user, Action: want.action, Role: want.role, Scope: want.scope})]
		if u == nil || u.Count != 3 || len(u.Days) != 3 || u.By[want.given].Digest != digest(want.given) || digest(want.given) == "" || u.By[want.given].Count != 3 {
			t.Errorf("%s %s: %+v", want.user, want.action, u)
		}
	}
	if len(c.Uses) != 3 || c.Observed != began {
		t.Errorf("%d uses since %s", len(c.Uses), c.Observed)
	}
}

// An assignment that reads differently is another one, and is counted anew.
func TestUsesOfAnotherAssignment(t *testing.T) {
	s := newState()
	u := used{User: "ann", Action: lockkeeper.WriteFreezes, Scope: "/"}
	for i, digest := range []lockkeeper.Digest{"one", "one", "two"} {
		u.By = map[string]lockkeeper.Digest{"a": digest}
		s.noteUses(Entry{Seq: int64(i), Time: began.Add(time.Duration(i) * time.Second), Used: []used{u}})
	}
	if got := s.Uses[useKey(u)]; got.Count != 3 || got.By["a"].Count != 1 || len(got.Days) != 1 || got.First != began || got.Seq != 2 {
		t.Errorf("%+v", got)
	}
}

// The summary is bounded, and says since when it is complete.
func TestUsesAreBounded(t *testing.T) {
	s := newState()
	for i := range maxUses + 10 {
		s.noteUses(Entry{Seq: int64(i), Time: began.Add(time.Duration(i) * time.Second), Used: []used{{User: fmt.Sprint("u", i), Action: lockkeeper.WriteFreezes, Scope: "/"}}})
	}
	if len(s.Uses) > maxUses || len(s.Uses) < maxUses/2 {
		t.Errorf("%d uses", len(s.Uses))
	}
	for _, u := range s.Uses {
		if u.Last.Before(s.Observed) {
			t.Fatalf("%s of %s is known, and all are only since %s", u.User, u.Last, s.Observed)
		}
	}
	if gone := began.Add(time.Duration(maxUses/10-1) * time.Second); !gone.Before(s.Observed) {
		t.Errorf("what was used at %s is forgotten, and all are said to be known since %s", gone, s.Observed)
	}
	one := &access.Use{}
	for i := range 100 {
		one.Note(began.Add(time.Duration(i)*24*time.Hour), int64(i), map[string]lockkeeper.Digest{fmt.Sprint("a", i): "d"})
	}
	if len(one.Days) != access.MaxUseDays || !slices.IsSortedFunc(one.Days, func(a, b lockkeeper.Moment) int { return a.Time().Compare(b.Time()) }) || len(one.By) > 16 || one.By["a99"].Count != 1 {
		t.Errorf("%+v", one)
	}
}
