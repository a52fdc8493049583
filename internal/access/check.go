package access

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// maxPaths bounds the assignments that one decision spells out.
const maxPaths = 16

// Allowed reports whether user may do action at scope at the moment now: the
// verdict of Check without its reasons.
func (x *Index) Allowed(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	m, known := x.users[user]
	if !known {
		return false
	}
	return x.allowed(m, x.actions[action], x.nearest(scope), millis(now))
}

func (x *Index) allowed(user int32, bit uint64, at int32, now int64) bool {
	groups, holds := x.row(user)
	if !holds {
		return false
	}
	granted := false
	for at >= 0 {
		n := &x.nodes[at]
		if at = n.above; n.mask&bit == 0 {
			continue
		}
		grants, denies := x.judge(n, user, groups, bit, now)
		if denies {
			return false
		}
		granted = granted || grants
	}
	return granted
}

// judge looks at what of gives to Check: whether any of it grants, and whether
// any of it denies.
func (x *Index) judge(n *node, user int32, groups set, bit uint64, now int64) (grants, denies bool) {
	for i := x.first(n, user); i < n.groups && x.grants[i].to == user; i++ {
		if x.about(i, bit) && x.holdsAt(i, now) {
			if x.denies(i) {
				return false, true
			}
			grants = true
		}
	}
	if n.marks < 0 {
		for i := n.groups; i < n.end; i++ {
			if groups.has(x.grants[i].to) && x.about(i, bit) && x.holdsAt(i, now) {
				if x.denies(i) {
					return false, true
				}
				grants = true
			}
		}
		return grants, false
	}
	m, before := &x.marks[n.marks], 0
	for w, held := range m.held {
		for both := held & groups[w]; both != 0; both &= both - 1 {
			k := before + bits.OnesCount64(held&(both&-both-1))
			for i := m.starts[k]; i < m.starts[k+1]; i++ {
				if x.about(i, bit) && x.holdsAt(i, now) {
					if x.denies(i) {
						return false, true
					}
					grants = true
				}
			}
		}
		before += bits.OnesCount64(held)
	}
	return grants, false
}

// WhoCan lists the users who may do action at scope at the moment now, sorted
// by name.
func (x *Index) WhoCan(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) []string {
	bit, node, t := x.actions[action], x.nearest(scope), millis(now)
	var out []string
	for name, user := range x.users {
		if x.allowed(user, bit, node, t) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Check decides whether user may do action at scope at the moment now.
//
// Pass has the code granted; Because has each assignment that grants it, with
// the way that leads from the user to it. Until is the first moment at which the
// verdict would not be Pass, by the assignments of this catalog; nil if there is
// none.
//
// Fail has one of the codes user_unknown, user_off, automation, action_unknown,
// scope_malformed, denied_by_assignment (Because has the denies first, then the
// grants they beat) and not_granted (Because has grants whose time is over or
// has not come; Next names the roles that would help). Until is nil.
func (x *Index) Check(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: string(action) + " at " + string(scope), Verdict: lockkeeper.Fail}
	var levels [maxLevels]lockkeeper.Scope
	n := lineage(scope, &levels)
	if x.barred(&d, user, action, n) {
		return d
	}
	m := x.users[user]
	grants, denies, others := x.sift(m, x.actions[action], scope, now)
	switch {
	case len(denies) > 0:
		d.Code = "denied_by_assignment"
		d.Because = x.spell(user, m, append(slices.Clone(denies), grants...), now)
		d.Sentence = fmt.Sprintf("A deny forbids %s to %s: %s.", user, d.Subject, d.Because[0].Sentence)
		d.Next = "A deny wins over every grant; ask an access administrator about the assignment " + denies[0].Name + "."
	case len(grants) > 0:
		d.Verdict, d.Code = lockkeeper.Pass, "granted"
		d.Because = x.spell(user, m, grants, now)
		d.Sentence = d.Because[0].Sentence + "."
		d.Until = until(now, grants, denies, others)
	default:
		d.Code = "not_granted"
		d.Because = x.spell(user, m, slices.DeleteFunc(others, func(g found) bool { return g.Deny }), now)
		d.Sentence = fmt.Sprintf("No role of %s allows %s.", user, d.Subject)
		d.Next = x.remedy(action, scope)
	}
	return d
}

// barred refuses a question that no assignment can answer.
func (x *Index) barred(d *lockkeeper.Decision, user string, action lockkeeper.Action, levels int) bool {
	u, known := x.c.Users[user]
	switch {
	case !known:
		d.Code, d.Sentence = "user_unknown", "The catalog has no user of that name."
		d.Next = "Add a User to the catalog."
	case u.Off:
		d.Code, d.Sentence = "user_off", fmt.Sprintf("The user %s is switched off.", user)
		d.Next = "Ask an access administrator to take off: true out of the user, if that is right."
	case u.Automation:
		d.Code, d.Sentence = "automation", fmt.Sprintf("The user %s is automation: no person stands behind it, and it holds no rights.", user)
		d.Next = "Let a person do it."
	case x.actions[action] == 0:
		d.Code, d.Sentence = "action_unknown", "There is no such action."
		d.Next = "Name an action such as deployments/approve."
	case levels == 0:
		d.Code, d.Sentence = "scope_malformed", "That is no scope."
		d.Next = "Name / or a path such as /projects/NAME/environments/NAME."
	default:
		return false
	}
	return true
}

// A found grant is one that concerns the question, as the catalog has it.
type found struct {
	*catalog.Assignment
	group int32 // that it is for; -1: the user himself
}

func (f found) holdsAt(now lockkeeper.Moment) bool {
	return !now.Before(f.Start) && (f.End.IsZero() || now.Before(f.End))
}

// sift collects the assignments that concern a question: those that grant and
// deny now, and those of another time. Each list is sorted by name.
func (x *Index) sift(user int32, bit uint64, scope lockkeeper.Scope, now lockkeeper.Moment) (grants, denies, others []found) {
	for at := x.nearest(scope); at >= 0; at = x.nodes[at].above {
		for _, i := range x.of(&x.nodes[at], user) {
			if !x.about(i, bit) {
				continue
			}
			a := x.c.Assignments[x.names[i]]
			f := found{&a, -1}
			if a.Principal.Kind == lockkeeper.GroupPrincipal {
				f.group = x.grants[i].to
			}
			switch {
			case !x.holdsAt(i, millis(now)):
				others = append(others, f)
			case a.Deny:
				denies = append(denies, f)
			default:
				grants = append(grants, f)
			}
		}
	}
	for _, list := range [][]found{grants, denies, others} {
		slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.Name, b.Name) })
	}
	return grants, denies, others
}

// until is the first moment after now at which a verdict that is Pass now would
// not be, or nil. The verdict can only change where an assignment starts or
// ends.
func until(now lockkeeper.Moment, lists ...[]found) *lockkeeper.Moment {
	all := slices.Concat(lists...)
	var moments []lockkeeper.Moment
	for _, g := range all {
		for _, m := range []lockkeeper.Moment{g.Start, g.End} {
			if now.Before(m) {
				moments = append(moments, m)
			}
		}
	}
	slices.SortFunc(moments, func(a, b lockkeeper.Moment) int { return a.Time().Compare(b.Time()) })
	moments = slices.Compact(moments)
	for _, m := range moments {
		granted, denied := false, false
		for i := range all {
			if all[i].holdsAt(m) {
				denied = denied || all[i].Deny
				granted = granted || !all[i].Deny
			}
		}
		if denied || !granted {
			return &m
		}
	}
	return nil
}

// spell makes a decision of each assignment, at most maxPaths of them.
func (x *Index) spell(user string, m int32, list []found, now lockkeeper.Moment) []lockkeeper.Decision {
	if len(list) == 0 {
		return nil
	}
	from := x.reach(x.direct[m])
	var out []lockkeeper.Decision
	for _, g := range list[:min(len(list), maxPaths)] {
		d := lockkeeper.Decision{Subject: "assignment " + g.Name, Verdict: lockkeeper.Pass, Code: "grants", Sentence: x.path(user, from, g)}
		if g.Deny {
			d.Verdict, d.Code = lockkeeper.Fail, "denies"
		}
		switch {
		case now.Before(g.Start):
			d.Verdict, d.Code = lockkeeper.Fail, "not_started"
			d.Sentence += ", from " + g.Start.String()
		case !g.holdsAt(now):
			d.Verdict, d.Code = lockkeeper.Fail, "ended"
			d.Sentence += ", ended " + g.End.String()
		case !g.End.IsZero():
			d.Sentence += ", until " + g.End.String()
			if !g.Deny {
				end := g.End
				d.Until = &end
			}
		}
		out = append(out, d)
	}
	return out
}

// path is the way from the user to what the assignment gives him:
// user ann → group release-managers → group leads → role release-manager → at /projects/p.
func (x *Index) path(user string, from map[int32]int32, g found) string {
	steps := []string{"at " + string(g.Scope), "role " + g.Role}
	if g.Deny {
		steps[1] = "denied role " + g.Role
	}
	if g.group >= 0 {
		for _, group := range x.way(from, g.group) {
			steps = append(steps, "group "+group)
		}
	}
	steps = append(steps, "user "+user)
	slices.Reverse(steps)
	return strings.Join(steps, " → ")
}

// remedy names the roles that would allow action at scope.
func (x *Index) remedy(action lockkeeper.Action, scope lockkeeper.Scope) string {
	bit := x.actions[action]
	var roles []string
	for _, r := range x.roles {
		if r.mask&bit != 0 {
			roles = append(roles, r.role)
		}
	}
	if more := len(roles) - maxPaths; more > 0 {
		roles = append(roles[:maxPaths], fmt.Sprintf("%d more", more))
	}
	if len(roles) == 0 {
		return "No role of the catalog allows this; ask an access administrator to define one."
	}
	return fmt.Sprintf("Ask an access administrator for one of these roles at %s: %s.", scope, strings.Join(roles, ", "))
}
