package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Together is a person who holds two duties that a separation keeps apart.
type Together struct {
	Separation string            `json:"separation"`
	Person     lockkeeper.Person `json:"person"`
	Scope      lockkeeper.Scope  `json:"scope"` // where he holds both
	Holds      [2]Held           `json:"holds"`
}

// A Held is an action of one duty, and the way to it.
type Held struct {
	Action     lockkeeper.Action `json:"action"`
	Assignment string            `json:"assignment"`
	Way        string            `json:"way"`
}

// String says it in one sentence.
func (t Together) String() string {
	return fmt.Sprintf("The separation %s keeps %s and %s apart, and %s holds both at %s: by %s (%s) and by %s (%s).", t.Separation,
		t.Holds[0].Action, t.Holds[1].Action, t.Person, t.Scope, t.Holds[0].Way, t.Holds[0].Assignment, t.Holds[1].Way, t.Holds[1].Assignment)
}

// HeldTogether lists the persons who hold actions of two duties at one place that a
// separation of the mode hold is about, one entry for each person, separation and
// pair of duties, sorted. What is eligible, to come, or hangs on a condition counts
// as held; what is over does not. A deny takes an action away only if it always
// holds, and whole: without time, condition, or being here alone. Whomever a
// directory puts into a group counts as somebody who is in that group alone.
func (x *Index) HeldTogether(now lockkeeper.Moment) []Together {
	var out []Together
	var s *side
	accounts := map[lockkeeper.Person][]string{}
	for _, name := range slices.Sorted(maps.Keys(x.c.Separations)) {
		sep := x.c.Separations[name]
		if sep.Mode != catalog.SeparateHolding {
			continue
		}
		if s == nil { // few catalogs have one
			s = newSide(x)
			for _, user := range slices.Sorted(maps.Keys(x.c.Users)) {
				p := x.c.PersonOf(user)
				accounts[p] = append(accounts[p], user)
			}
			for members := range s.members {
				accounts[lockkeeper.Person(members)] = []string{members}
			}
		}
		for _, p := range slices.Sorted(maps.Keys(accounts)) {
			out = append(out, s.together(sep, p, accounts[p], now)...)
		}
	}
	return out
}

// duty is one action of a duty that an account was given.
type duty struct {
	user   string
	action lockkeeper.Action
	given  catalog.Assignment
}

func (s *side) together(sep catalog.Separation, p lockkeeper.Person, accounts []string, now lockkeeper.Moment) []Together {
	duties := make([][]duty, len(sep.Actions))
	denies := map[string][]catalog.Assignment{}
	for _, user := range accounts {
		for _, a := range s.concern(user) {
			switch {
			case a.Deny && a.Condition == "" && !a.Here && a.Start.IsZero() && a.End.IsZero():
				denies[user] = append(denies[user], a)
			case !a.Deny && (a.End.IsZero() || now.Before(a.End)):
				for i, action := range lockkeeper.Actions() { // actionKinds begins with them
					if d := sep.Duty(action); d >= 0 && s.kinds[a.Role][i] {
						duties[d] = append(duties[d], duty{user, action, a})
					}
				}
			}
		}
	}
	denied := func(d duty, at lockkeeper.Scope) bool {
		kind := slices.Index(actionKinds, d.action)
		return slices.ContainsFunc(denies[d.user], func(a catalog.Assignment) bool { return a.Scope.Contains(at) && s.kinds[a.Role][kind] })
	}
	var out []Together
	for i := range duties {
		for j := i + 1; j < len(duties); j++ {
			if t, found := s.pair(sep, duties[i], duties[j], denied); found {
				t.Person = p
				out = append(out, t)
			}
		}
	}
	return out
}

// pair looks for one of each of two duties at one place, the first by name.
func (s *side) pair(sep catalog.Separation, one, other []duty, denied func(duty, lockkeeper.Scope) bool) (t Together, found bool) {
	byName := func(a, b duty) int {
		return cmp.Or(cmp.Compare(a.given.Name, b.given.Name), cmp.Compare(a.action, b.action), cmp.Compare(a.user, b.user))
	}
	slices.SortFunc(one, byName)
	slices.SortFunc(other, byName)
	for _, a := range one {
		for _, b := range other {
			at, overlap := deepest(sep.Scope, a.given.Scope, b.given.Scope)
			if overlap && !denied(a, at) && !denied(b, at) {
				return Together{Separation: sep.Name, Scope: at, Holds: [2]Held{s.held(a), s.held(b)}}, true
			}
		}
	}
	return t, false
}

// deepest is the scope that lies in all of the others; not found where two lie
// beside each other.
func deepest(list ...lockkeeper.Scope) (lockkeeper.Scope, bool) {
	at := lockkeeper.Root
	for _, s := range list {
		switch {
		case at.Contains(s):
			at = s
		case !s.Contains(at):
			return at, false
		}
	}
	return at, true
}

func (s *side) held(d duty) Held {
	f := found{Assignment: &d.given, group: -1}
	if d.given.Principal.Kind == lockkeeper.GroupPrincipal {
		f.group = s.x.numbers[d.given.Principal.Name]
	}
	who := lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: d.user}
	if group := s.members[d.user]; group != "" {
		who = lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: group}
	}
	way := s.x.path(s.x.reach(s.x.asker(who).direct), f, d.given.Start).sentence(who)
	if d.given.Eligible {
		way += ", eligible"
	}
	return Held{d.action, d.given.Name, way}
}
