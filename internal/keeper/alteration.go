package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Whoever changes a gate and then lets something through it has decided alone, though the
// change took a second person. An environment with a coolingOff gives no vote, for that
// long, to whoever changed what it asks or who its approvers are.

// An Alteration is one change of a gate, with the persons who made it: who applied it,
// or proposed and approved it.
type Alteration struct {
	User    string              `json:"user"`
	Persons []lockkeeper.Person `json:"persons"`
	At      lockkeeper.Moment   `json:"at"`
}

// Altered are the gates that a revision changes, and by whom.
type Altered struct {
	Scopes []lockkeeper.Scope `json:"scopes"`
	By     []Alteration       `json:"by"` // their instant is that of the entry
}

// maxAlterations bounds the alterations of one gate that are remembered; the oldest give
// way, for nobody changes a gate so often to be forgotten without being seen.
const maxAlterations = 100

// alter says in a revision which gates it changes, and by whom.
func (w *world) alter(ev *catalogApplied, next *catalog.Catalog, by ...Alteration) {
	scopes := altered(w.rules.Catalog, next)
	by = slices.DeleteFunc(by, func(a Alteration) bool { return a.User == "" })
	if len(scopes) > 0 && len(by) > 0 {
		ev.Altered = &Altered{scopes, by}
	}
}

// altered are the environments of both catalogs that ask something else in the new one,
// or ask it of other people.
func altered(old, next *catalog.Catalog) []lockkeeper.Scope {
	var out []lockkeeper.Scope
	for _, scope := range slices.Sorted(maps.Keys(next.Environments)) {
		a, was := old.Environments[scope]
		b := next.Environments[scope]
		if was && (!catalog.SameEnvironment(a, b) || !maps.Equal(askedUsers(old, a), askedUsers(next, b))) {
			out = append(out, scope)
		}
	}
	return out
}

// askedUsers are the members of all groups whose word counts at an environment's gate.
func askedUsers(c *catalog.Catalog, e catalog.Environment) map[string]bool {
	users, seen := map[string]bool{}, map[string]bool{}
	var add func(groups []string)
	add = func(groups []string) {
		for _, name := range groups {
			if seen[name] {
				continue
			}
			seen[name] = true
			for _, u := range c.Groups[name].Users {
				users[u] = true
			}
			add(c.Groups[name].Groups)
		}
	}
	for _, check := range e.Checks {
		if check.Approval != nil {
			add(check.Approval.Asks())
		}
	}
	if e.Override != nil {
		add(e.Override.Groups)
	}
	return users
}

// rememberAltered keeps who changed which gate, for as long as any coolingOff may be.
func (s *State) rememberAltered(a *Altered, at lockkeeper.Moment) {
	if a == nil {
		return
	}
	if s.Altered == nil {
		s.Altered = map[lockkeeper.Scope][]Alteration{}
	}
	for scope, list := range s.Altered {
		list = slices.DeleteFunc(slices.Clone(list), func(o Alteration) bool { return at.Sub(o.At) >= catalog.LongestCoolingOff })
		if s.Altered[scope] = list; len(list) == 0 {
			delete(s.Altered, scope)
		}
	}
	for _, scope := range a.Scopes {
		list := slices.Clone(s.Altered[scope])
		for _, one := range a.By {
			one.At = at
			list = append(slices.DeleteFunc(list, func(o Alteration) bool { return o.User == one.User && slices.Equal(o.Persons, one.Persons) }), one)
		}
		s.Altered[scope] = list[max(0, len(list)-maxAlterations):]
	}
}

// cools says why a voter has no vote yet: he changed the gate; "": he did not. A change
// after the release takes no vote away.
func (w *world) cools(f gate.Facts, user string, persons []lockkeeper.Person, now lockkeeper.Moment) string {
	cooling := time.Duration(f.Environment.CoolingOff)
	if cooling == 0 {
		return ""
	}
	if !f.Released.IsZero() {
		now = f.Released
	}
	scope := lockkeeper.EnvironmentScope(f.Environment.Project, f.Environment.Name)
	for _, a := range slices.Backward(w.Altered[scope]) {
		if now.Before(a.At) || now.Sub(a.At) >= cooling || !shared(w.everybody(user, persons), w.everybody(a.User, a.Persons)) {
			continue
		}
		return fmt.Sprintf("%s changed what %s asks, or whom, at %s, and has no vote there until %s.", a.User, f.Environment.Name, a.At, a.At.Add(cooling))
	}
	return ""
}
