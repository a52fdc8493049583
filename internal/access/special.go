package access

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A special is what an assignment says beside role, principal, scope and time.
type special struct {
	condition *catalog.Condition // nil: none
	here      lockkeeper.Scope   // a deny: the one scope that it holds at; "": there and below
	users     []int32            // whom a deny leaves out
	groups    []int32
}

// compiled is the condition of an assignment, nil if it has none. Only New adds to
// what was compiled.
func (x *Index) compiled(a catalog.Assignment) *catalog.Condition {
	if a.Condition == "" {
		return nil
	}
	c := x.conditions[a.Condition]
	if c == nil {
		c = x.c.ConditionOf(a)
		x.conditions[a.Condition] = c
	}
	return c
}

func (x *Index) specialOf(a catalog.Assignment) *special {
	if a.Condition == "" && !a.Here && len(a.Except) == 0 {
		return nil
	}
	s := &special{condition: x.compiled(a)}
	if a.Deny && a.Here {
		s.here = a.Scope
	}
	for _, p := range a.Except {
		if !a.Deny {
			break // which no catalog that was read has
		}
		if n, known := x.users[p.Name]; known && p.Kind == lockkeeper.UserPrincipal {
			s.users = append(s.users, n)
		}
		if n, known := x.numbers[p.Name]; known && p.Kind == lockkeeper.GroupPrincipal {
			s.groups = append(s.groups, n)
		}
	}
	return s
}

// leavesOut reports whether a deny is not about a user, by number, or about a
// place, whatever its condition.
func (s *special) leavesOut(user int32, groups set, scope lockkeeper.Scope) bool {
	if s.here != "" && s.here != scope {
		return true
	}
	for _, u := range s.users {
		if u == user {
			return true
		}
	}
	for _, g := range s.groups {
		if groups.has(g) {
			return true
		}
	}
	return false
}

// spares is leavesOut for a question that is asked in words, with until when it is
// so: what only a directory said ends. zero: for good.
func (x *Index) spares(s *special, asks asker, scope lockkeeper.Scope, now lockkeeper.Moment) (bool, lockkeeper.Moment) {
	var last lockkeeper.Moment
	if (&special{here: s.here, users: s.users}).leavesOut(asks.user, nil, scope) {
		return true, last
	}
	for _, g := range s.groups {
		if !asks.groups.has(g) {
			continue
		}
		until := x.saidUntil(asks.user, g)
		if until.IsZero() {
			return true, until
		}
		if now.Before(until) {
			last = until // of all that is said of one user, the same
		}
	}
	return !last.IsZero(), last
}

// tierOf is the tier of the environment that a scope is; "" where it is none.
func (x *Index) tierOf(scope lockkeeper.Scope) catalog.Tier {
	return x.c.Environments[x.placeOf(scope)].Tier
}

// placeOf is a scope, or that of the environment in which an identity is.
func (x *Index) placeOf(scope lockkeeper.Scope) lockkeeper.Scope {
	if id, is := x.c.Identities[scope]; is {
		return lockkeeper.EnvironmentScope(id.Project, id.Environment)
	}
	return scope
}

// conditional goes over the assignments with a condition that concern a question,
// once those without one have not settled it: granted says whether they grant. A
// grant whose condition errs does not hold, and a deny does.
func (x *Index) conditional(user int32, about catalog.Circumstance, granted, denies bool) bool {
	groups, _ := x.row(user)
	bit, now := x.actions[about.Action], millis(about.Now)
	believed := x.believed(user, now)
	about.Tier, about.Environment = x.tierOf(about.Scope), x.placeOf(about.Scope).Environment()
	each := func(deny bool) bool {
		for at := x.nearest(about.Scope); at >= 0; at = x.nodes[at].above {
			if x.nodes[at].mask&bit == 0 {
				continue
			}
			for _, i := range x.of(&x.nodes[at], asker{user: user, groups: groups}) {
				g := x.grants[i]
				if g.role&peculiar == 0 || x.denies(i) != deny || !x.about(i, bit) || !x.holdsAt(i, now) {
					continue
				}
				s := x.specials[i]
				if s.condition == nil || s.leavesOut(user, believed, about.Scope) || !deny && i >= x.nodes[at].groups && !believed.has(g.to) {
					continue
				}
				if holds, err := s.condition.Holds(about); holds || err != nil && deny {
					return true
				}
			}
		}
		return false
	}
	return (granted || each(false)) && !(denies && each(true))
}

// circumstance is what conditions are judged about.
func (x *Index) circumstance(asks asker, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) catalog.Circumstance {
	return catalog.Circumstance{Action: action, Scope: scope, User: asks.name, Tier: x.tierOf(scope), Environment: x.placeOf(scope).Environment(), Now: now}
}

// lookAhead is how far ahead a verdict is looked at that hangs on the time of a
// condition: past it, one has to ask again. It ends on a half hour, so that the
// end of a verdict does not move with every question.
const lookAhead = time.Hour

// horizon is the last moment that a verdict which hangs on the time of a condition
// is known for: half an hour to an hour ahead.
func horizon(now lockkeeper.Moment) lockkeeper.Moment {
	return lockkeeper.MomentOf(now.Time().Truncate(lookAhead / 2).Add(lookAhead))
}

// ticks are the moments after now, up to the horizon, at which a condition may
// come to another verdict by time alone.
func ticks(now lockkeeper.Moment) []lockkeeper.Moment {
	var out []lockkeeper.Moment
	last := horizon(now)
	for m := now.Time().Truncate(catalog.ConditionStep).Add(catalog.ConditionStep); !last.Time().Before(m); m = m.Add(catalog.ConditionStep) {
		out = append(out, lockkeeper.MomentOf(m))
	}
	return out
}

// A standing is whether an assignment that concerns a question holds, and if not,
// why.
type standing struct {
	holds bool
	unmet bool  // its condition is not true
	err   error // of its condition
}

// stands judges an assignment at a moment: by its time, and then by its condition.
func (f found) stands(about catalog.Circumstance, at lockkeeper.Moment) standing {
	if !f.holdsAt(at) {
		return standing{}
	}
	if f.condition == nil {
		return standing{holds: true}
	}
	about.Now = at
	holds, err := f.condition.Holds(about)
	if err != nil {
		return standing{holds: f.Deny, unmet: !f.Deny, err: err}
	}
	return standing{holds: holds, unmet: !holds}
}

// say adds the condition to what is said of a path.
func (p Path) say() string {
	switch {
	case p.Condition == "":
		return ""
	case p.Fault != "":
		return fmt.Sprintf(", on the condition %s, which could not be judged: %s", p.Condition, p.Fault)
	case p.Effect == "condition_unmet":
		return fmt.Sprintf(", on the condition %s, which is not so", p.Condition)
	}
	return fmt.Sprintf(", on the condition %s", p.Condition)
}
