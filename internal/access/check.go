package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxPaths bounds the assignments that one decision spells out.
const maxPaths = 16

// Allowed reports whether user may do action at scope at the moment now: the
// verdict of Check without its reasons.
func (x *Index) Allowed(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	m := x.users[user]
	bit := x.actions[action]
	if m == nil || !m.holds || bit == 0 {
		return false
	}
	var levels [maxLevels]lockkeeper.Scope
	n := lineage(scope, &levels)
	granted := false
	for _, level := range levels[:n] {
		node := x.nodes[level]
		if node == nil {
			continue
		}
		grants, denies := node.judge(m, bit, now)
		if denies {
			return false
		}
		granted = granted || grants
	}
	return granted
}

// judge looks at the assignments of one scope. It walks the shorter of the two
// lists: the user's principals or the scope's.
func (n *node) judge(m *member, bit uint64, now lockkeeper.Moment) (grants, denies bool) {
	if len(n.list) <= len(m.principals) {
		for i := range n.list {
			g := &n.list[i]
			if g.mask&bit == 0 || !g.holdsAt(now) {
				continue
			}
			if _, mine := slices.BinarySearch(m.principals, g.to); !mine {
				continue
			}
			if g.deny {
				return grants, true
			}
			grants = true
		}
		return grants, false
	}
	for _, p := range m.principals {
		part := n.by[p]
		for i := part[0]; i < part[1]; i++ {
			g := &n.list[i]
			if g.mask&bit == 0 || !g.holdsAt(now) {
				continue
			}
			if g.deny {
				return grants, true
			}
			grants = true
		}
	}
	return grants, false
}

// WhoCan lists the users who may do action at scope at the moment now, sorted
// by name.
func (x *Index) WhoCan(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) []string {
	var out []string
	for name := range x.users {
		if x.Allowed(name, action, scope, now) {
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
	grants, denies, others := x.sift(user, x.actions[action], levels[:n], now)
	switch {
	case len(denies) > 0:
		d.Code = "denied_by_assignment"
		d.Because = x.spell(user, append(slices.Clone(denies), grants...), now)
		d.Sentence = fmt.Sprintf("A deny forbids %s to %s: %s.", user, d.Subject, d.Because[0].Sentence)
		d.Next = "A deny wins over every grant; ask an access administrator about the assignment " + denies[0].name + "."
	case len(grants) > 0:
		d.Verdict, d.Code = lockkeeper.Pass, "granted"
		d.Because = x.spell(user, grants, now)
		d.Sentence = d.Because[0].Sentence + "."
		d.Until = until(now, grants, denies, others)
	default:
		d.Code = "not_granted"
		d.Because = x.spell(user, slices.DeleteFunc(others, func(g found) bool { return g.deny }), now)
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

// A found grant is one that concerns the question, with the scope it stands at.
type found struct {
	grant
	at lockkeeper.Scope
}

// sift collects the assignments that concern a question: those that grant and
// deny now, and those of another time. Each list is sorted by name.
func (x *Index) sift(user string, bit uint64, levels []lockkeeper.Scope, now lockkeeper.Moment) (grants, denies, others []found) {
	for _, level := range levels {
		n := x.nodes[level]
		if n == nil {
			continue
		}
		for _, p := range x.users[user].principals {
			part := n.by[p]
			for _, g := range n.list[part[0]:part[1]] {
				switch {
				case g.mask&bit == 0:
				case !g.holdsAt(now):
					others = append(others, found{g, level})
				case g.deny:
					denies = append(denies, found{g, level})
				default:
					grants = append(grants, found{g, level})
				}
			}
		}
	}
	for _, list := range [][]found{grants, denies, others} {
		slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.name, b.name) })
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
		for _, m := range []lockkeeper.Moment{g.start, g.end} {
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
				denied = denied || all[i].deny
				granted = granted || !all[i].deny
			}
		}
		if denied || !granted {
			return &m
		}
	}
	return nil
}

// spell makes a decision of each assignment, at most maxPaths of them.
func (x *Index) spell(user string, list []found, now lockkeeper.Moment) []lockkeeper.Decision {
	if len(list) == 0 {
		return nil
	}
	from := x.reach(x.users[user].direct)
	var out []lockkeeper.Decision
	for _, g := range list[:min(len(list), maxPaths)] {
		d := lockkeeper.Decision{Subject: "assignment " + g.name, Verdict: lockkeeper.Pass, Code: "grants", Sentence: x.path(user, from, g)}
		if g.deny {
			d.Verdict, d.Code = lockkeeper.Fail, "denies"
		}
		switch {
		case now.Before(g.start):
			d.Verdict, d.Code = lockkeeper.Fail, "not_started"
			d.Sentence += ", from " + g.start.String()
		case !g.holdsAt(now):
			d.Verdict, d.Code = lockkeeper.Fail, "ended"
			d.Sentence += ", ended " + g.end.String()
		case !g.end.IsZero():
			d.Sentence += ", until " + g.end.String()
			if !g.deny {
				end := g.end
				d.Until = &end
			}
		}
		out = append(out, d)
	}
	return out
}

// path is the way from the user to what the assignment gives him:
// user ann → group release-managers → group leads → role release-manager → at /projects/p.
func (x *Index) path(user string, from map[string]string, g found) string {
	a := x.c.Assignments[g.name]
	steps := []string{"at " + string(g.at), "role " + a.Role}
	if g.deny {
		steps[1] = "denied role " + a.Role
	}
	if a.Principal.Kind == lockkeeper.GroupPrincipal {
		for group := a.Principal.Name; group != ""; group = from[group] {
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
