package access

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Eligible decides whether user may activate the role at scope at the moment now:
// whether an eligible assignment of that role, to him or to a group that he is in,
// holds there. Pass has the code eligible and, in Because, each of them with the
// way that leads from the user to it; Until is when the last of them ends. Fail
// has one of the codes of Check about the user and the scope, role_unknown, or
// not_eligible.
func (x *Index) Eligible(user, role string, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "activating " + role + " at " + string(scope), Verdict: lockkeeper.Fail}
	var levels [maxLevels]lockkeeper.Scope
	who := lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}
	if x.barred(&d, who, lockkeeper.ReadAccess, lineage(scope, &levels)) {
		return d
	}
	if _, known := x.c.Roles[role]; !known {
		d.Code, d.Sentence = "role_unknown", fmt.Sprintf("The catalog has no role %.63q.", role)
		d.Next = "Name one of: lockkeeper catalog roles"
		return d
	}
	list := x.eligibleFor(user, scope)
	for i := range list {
		list[i].condition = nil // judged when what was activated is used
	}
	return x.eligibility(d, role, list, catalog.Circumstance{Scope: scope, User: user, Now: now})
}

// EligibleTo is Eligible for a role that is held at a scope and used there or
// below, at the place and for the action of about: the conditions of the eligible
// assignments are judged.
func (x *Index) EligibleTo(role string, held lockkeeper.Scope, about catalog.Circumstance) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "activating " + role + " at " + string(held), Verdict: lockkeeper.Fail}
	var levels [maxLevels]lockkeeper.Scope
	who := lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: about.User}
	if x.barred(&d, who, about.Action, lineage(about.Scope, &levels)) {
		return d
	}
	about.Tier, about.Environment = x.tierOf(about.Scope), x.placeOf(about.Scope).Environment()
	return x.eligibility(d, role, x.eligibleFor(about.User, held), about)
}

// eligibility decides by those of the assignments that are of the role.
func (x *Index) eligibility(d lockkeeper.Decision, role string, list []found, about catalog.Circumstance) lockkeeper.Decision {
	who, now := lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: about.User}, about.Now
	var grants, others []found
	for _, f := range list {
		f.standing = f.stands(about, now)
		switch {
		case f.Role != role:
		case f.holds:
			grants = append(grants, f)
		default:
			others = append(others, f)
		}
	}
	if len(grants) == 0 {
		d.Code = "not_eligible"
		d.Because = spell(who, x.paths(x.asker(who), others, now))
		d.Sentence = fmt.Sprintf("%s may not activate %s at %s.", about.User, role, about.Scope)
		d.Next = "Ask an access administrator for an eligible assignment."
		return d
	}
	d.Verdict, d.Code = lockkeeper.Pass, "eligible"
	d.Because = spell(who, x.paths(x.asker(who), grants, now))
	d.Sentence = d.Because[0].Sentence + ", eligible."
	d.Until = until(about, grants, nil, others)
	return d
}

// EligibleStage is Eligible about a pipeline's stage, a workload principal. It knows
// no groups; a stage that nobody names is not_eligible.
func (x *Index) EligibleStage(stage lockkeeper.Principal, role string, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "activating " + role + " at " + string(scope), Verdict: lockkeeper.Fail, Code: "not_eligible",
		Sentence: fmt.Sprintf("%s may not activate %s at %s.", stage, role, scope), Next: "Ask an access administrator for an eligible assignment."}
	var levels [maxLevels]lockkeeper.Scope
	if lineage(scope, &levels) == 0 {
		d.Code, d.Sentence, d.Next = "scope_malformed", "That is no scope.", "Name / or a path such as /projects/NAME/environments/NAME."
		return d
	}
	var grants, all []found
	for i := range x.eligible {
		f := found{Assignment: &x.eligible[i], group: -1}
		if f.Principal != stage || f.Role != role || !f.Scope.Contains(scope) {
			continue
		}
		if all = append(all, f); f.holdsAt(now) {
			grants = append(grants, f)
		}
	}
	if len(grants) == 0 {
		return d
	}
	d.Verdict, d.Code, d.Next = lockkeeper.Pass, "eligible", ""
	d.Sentence = fmt.Sprintf("%s is eligible for %s at %s, by %s.", stage, role, grants[0].Scope, grants[0].Name)
	d.Until = until(catalog.Circumstance{Scope: scope, Now: now}, all)
	return d
}

// DeniedFrom is when a deny of an action to a user at a scope next comes to hold
// that does not hold yet; nil if none will. Where that hangs on the time of a
// condition, it is the horizon at the latest.
func (x *Index) DeniedFrom(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) *lockkeeper.Moment {
	if _, known := x.users[user]; !known {
		return nil
	}
	asks := x.asker(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user})
	about := x.circumstance(asks, action, scope, now)
	_, _, others := x.sift(asks, action, scope, now)
	var moments []lockkeeper.Moment
	timed := false
	for _, f := range others {
		if f.Deny && now.Before(f.Start) {
			moments = append(moments, f.Start)
		}
		timed = timed || f.Deny && f.condition != nil && f.condition.Timed
	}
	last := horizon(now)
	if timed {
		moments = append(moments, ticks(now)...)
	}
	slices.SortFunc(moments, func(a, b lockkeeper.Moment) int { return a.Time().Compare(b.Time()) })
	for _, m := range moments {
		if timed && !m.Before(last) || slices.ContainsFunc(others, func(f found) bool { return f.Deny && f.stands(about, m).holds }) {
			return &m
		}
	}
	return nil
}

// Activatable lists the eligible assignments that, activated, would let user do
// action at scope, sorted by name.
func (x *Index) Activatable(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) []catalog.Assignment {
	about := x.circumstance(asker{name: user}, action, scope, now)
	var out []catalog.Assignment
	for _, f := range x.eligibleFor(user, scope) {
		if x.RoleAllows(f.Role, action) && f.stands(about, now).holds {
			out = append(out, *f.Assignment)
		}
	}
	return out
}

// Eligibilities lists what user may activate at the moment now, sorted by name.
func (x *Index) Eligibilities(user string, now lockkeeper.Moment) []catalog.Assignment {
	var out []catalog.Assignment
	for i := range x.eligible {
		if f, mine := x.concerns(i, user); mine && f.holdsAt(now) {
			out = append(out, *f.Assignment)
		}
	}
	return out
}

// Holdings lists every assignment that concerns a principal, himself or by the
// groups that he is in, whatever it gives and whatever its time, by scope and
// name. The refusal has one of the codes of Check about the principal: whoever is
// not known, off, or automation holds nothing.
func (x *Index) Holdings(who lockkeeper.Principal, now lockkeeper.Moment) ([]Path, error) {
	var d lockkeeper.Decision
	if x.barred(&d, who, lockkeeper.ReadAccess, 1) {
		return nil, lockkeeper.NotFound.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithField(who.Name)
	}
	asks := x.asker(who)
	from := x.reach(asks.direct)
	out := []Path{}
	for _, a := range x.c.Assignments {
		f := found{Assignment: &a, group: -1}
		if a.Principal.Kind == lockkeeper.GroupPrincipal {
			n, known := x.numbers[a.Principal.Name]
			if !known || !asks.groups.has(n) {
				continue
			}
			f.group = n
			f.believe(x.saidUntil(asks.user, n))
		} else if asks.user < 0 || a.Principal.Name != who.Name {
			continue
		}
		if a.Deny {
			if s := x.specialOf(a); s != nil {
				if spared, _ := x.spares(s, asks, cmp.Or(s.here, lockkeeper.Root), now); spared {
					continue
				}
			}
		}
		p := x.path(from, f, now)
		if a.Eligible && p.Effect == "grants" {
			p.Effect = "eligible"
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Path) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Assignment, b.Assignment))
	})
	return out, nil
}

// RoleAllows reports whether a role allows an action; an unknown role allows
// nothing.
func (x *Index) RoleAllows(role string, action lockkeeper.Action) bool {
	r, known := x.c.Roles[role]
	return known && x.mask(r)&x.actions[action] != 0
}

// RoleActions lists what a role allows, in the order of lockkeeper.Actions.
func (x *Index) RoleActions(role string) []lockkeeper.Action {
	var out []lockkeeper.Action
	for _, a := range lockkeeper.Actions() {
		if x.RoleAllows(role, a) {
			out = append(out, a)
		}
	}
	return out
}

// eligibleFor lists the eligible assignments to the user, himself or by a group,
// at scope or above it, whatever their time.
func (x *Index) eligibleFor(user string, scope lockkeeper.Scope) []found {
	var out []found
	for i := range x.eligible {
		if f, mine := x.concerns(i, user); mine && f.Scope.Contains(scope) {
			out = append(out, f)
		}
	}
	return out
}

func (x *Index) concerns(i int, user string) (found, bool) {
	a := &x.eligible[i]
	m, known := x.users[user]
	if !known {
		return found{}, false
	}
	if a.Principal.Kind == lockkeeper.UserPrincipal {
		return found{Assignment: a, group: -1, condition: x.conditions[a.Condition]}, a.Principal.Name == user
	}
	g, known := x.numbers[a.Principal.Name]
	groups, _ := x.row(m)
	if !known || !groups.has(g) {
		return found{}, false
	}
	own := *a
	f := found{Assignment: &own, group: g, condition: x.conditions[a.Condition]}
	f.believe(x.saidUntil(m, g))
	return f, true
}
