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
	return x.allowed(m, user, x.actions[action], action, scope, now)
}

// A verdict is what assignments say to a question, as bits. Those with a
// condition only may grant or deny.
type verdict uint8

const (
	grants verdict = 1 << iota
	forbids
	mayGrant
	mayForbid
)

// allowed looks at the assignments without a condition first. Conditions are
// judged only if they can still change the verdict.
func (x *Index) allowed(user int32, name string, bit uint64, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	groups, holds := x.row(user)
	if !holds {
		return false
	}
	var v verdict
	t := millis(now)
	in := membership{groups, x.believed(user, t)}
	for at := x.nearest(scope); at >= 0; {
		n := &x.nodes[at]
		if at = n.above; n.mask&bit == 0 {
			continue
		}
		if v |= x.judge(n, user, in, bit, t, scope); v&forbids != 0 {
			return false
		}
	}
	if v&(grants|mayGrant) == 0 || v&(grants|mayForbid) == grants {
		return v&grants != 0
	}
	return x.conditional(user, catalog.Circumstance{Action: action, Scope: scope, User: name, Now: now}, v&grants != 0, v&mayForbid != 0)
}

// A membership is the groups that a user is in: all, which denies are about, and
// those of them that grant.
type membership struct{ all, believed set }

// judge looks at what of gives to Check: whether any of it grants, and whether
// any of it denies.
func (x *Index) judge(n *node, user int32, in membership, bit uint64, now int64, scope lockkeeper.Scope) (v verdict) {
	for i := x.first(n, user); i < n.groups && x.grants[i].to == user; i++ {
		if x.about(i, bit) && x.holdsAt(i, now) {
			v |= x.says(i, user, in, scope)
		}
	}
	if n.marks < 0 {
		for i := n.groups; i < n.end; i++ {
			if in.all.has(x.grants[i].to) && x.about(i, bit) && x.holdsAt(i, now) {
				v |= x.tells(i, user, in, scope)
			}
		}
		return v
	}
	m, before := &x.marks[n.marks], 0
	for w, held := range m.held {
		for both := held & in.all[w]; both != 0; both &= both - 1 {
			k := before + bits.OnesCount64(held&(both&-both-1))
			for i := m.starts[k]; i < m.starts[k+1]; i++ {
				if x.about(i, bit) && x.holdsAt(i, now) {
					v |= x.tells(i, user, in, scope)
				}
			}
		}
		before += bits.OnesCount64(held)
	}
	return v
}

// says is what the i-th grant, whose time it is, says to a question about its
// role's actions.
func (x *Index) says(i int32, user int32, in membership, scope lockkeeper.Scope) verdict {
	switch x.grants[i].role & (denies | peculiar) {
	case 0:
		return grants
	case denies:
		return forbids
	}
	return x.speaks(i, user, in, scope)
}

// tells is says of a grant to a group: it grants to those only of whom it is
// believed still that they are in it.
func (x *Index) tells(i int32, user int32, in membership, scope lockkeeper.Scope) verdict {
	v := x.says(i, user, in, scope)
	if v&(grants|mayGrant) != 0 && !in.believed.has(x.grants[i].to) {
		return 0
	}
	return v
}

func (x *Index) speaks(i int32, user int32, in membership, scope lockkeeper.Scope) verdict {
	s := x.specials[i]
	switch {
	case s.leavesOut(user, in.believed, scope):
		return 0
	case s.condition == nil:
		return forbids // a grant with neither condition nor exceptions is not special
	case x.denies(i):
		return mayForbid
	}
	return mayGrant
}

// WhoCan lists the users who may do action at scope at the moment now, sorted
// by name.
func (x *Index) WhoCan(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) []string {
	bit := x.actions[action]
	var out []string
	for name, user := range x.users {
		if x.allowed(user, name, bit, action, scope, now) {
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
// none. Where it hangs on the now of a condition, that is looked for up to an hour
// ahead, and Until is never later.
//
// Fail has one of the codes user_unknown, user_off, automation, action_unknown,
// scope_malformed, denied_by_assignment (Because has the denies first, then the
// grants they beat) and not_granted (Because has grants whose time is over or
// has not come, or whose condition is not so; Next names the roles that would
// help). Until is nil.
func (x *Index) Check(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d, _ := x.Explain(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}, action, scope, now)
	return d
}

// Explain is Check about a user or a group, together with the path of each of
// the decision's reasons, in their order.
//
// A group may do what somebody may who is in it, in no other group, and to whom
// nothing is assigned by name: what the assignments to the group, and to the
// groups that it lies in, grant and do not deny. A member may hold more by other
// ways, and less by a deny or by being switched off. Who he is, is unknown: a
// condition that hangs on user errs. An unknown group has the code group_unknown.
func (x *Index) Explain(who lockkeeper.Principal, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, []Path) {
	d := lockkeeper.Decision{Subject: string(action) + " at " + string(scope), Verdict: lockkeeper.Fail}
	var levels [maxLevels]lockkeeper.Scope
	n := lineage(scope, &levels)
	if x.barred(&d, who, action, n) {
		return d, nil
	}
	asks, name := x.asker(who), who.Name
	if who.Kind == lockkeeper.GroupPrincipal {
		name = "the group " + name
	}
	grants, denies, others := x.sift(asks, action, scope, now)
	var paths []Path
	switch {
	case len(denies) > 0:
		d.Code = "denied_by_assignment"
		paths = x.paths(asks, append(slices.Clone(denies), grants...), now)
		d.Because = spell(who, paths)
		d.Sentence = fmt.Sprintf("A deny forbids %s to %s: %s.", name, d.Subject, d.Because[0].Sentence)
		d.Next = "A deny wins over every grant; ask an access administrator about the assignment " + denies[0].Name + "."
	case len(grants) > 0:
		d.Verdict, d.Code = lockkeeper.Pass, "granted"
		paths = x.paths(asks, grants, now)
		d.Because = spell(who, paths)
		d.Sentence = d.Because[0].Sentence + "."
		d.Until = until(x.circumstance(asks, action, scope, now), grants, denies, others)
	default:
		d.Code = "not_granted"
		paths = x.paths(asks, slices.DeleteFunc(others, func(g found) bool { return g.Deny }), now)
		d.Because = spell(who, paths)
		d.Sentence = fmt.Sprintf("No role of %s allows %s.", name, d.Subject)
		d.Next = x.remedy(action, scope)
	}
	return d, paths
}

// An asker is whom a question is about, by numbers.
type asker struct {
	name   string  // "": a group
	user   int32   // -1: a group
	groups set     // that he is in; of a group: itself, and those that it lies in
	direct []int32 // the groups that a way can begin with, sorted
}

func (x *Index) asker(who lockkeeper.Principal) asker {
	if who.Kind == lockkeeper.GroupPrincipal {
		n := x.numbers[who.Name]
		groups := make(set, x.wide-1)
		x.spread(groups, n)
		return asker{"", -1, groups, []int32{n}}
	}
	user := x.users[who.Name]
	groups, _ := x.row(user)
	return asker{who.Name, user, groups, x.direct[user]}
}

// barred refuses a question that no assignment can answer.
func (x *Index) barred(d *lockkeeper.Decision, who lockkeeper.Principal, action lockkeeper.Action, levels int) bool {
	user, isGroup := who.Name, who.Kind == lockkeeper.GroupPrincipal
	u, known := x.c.Users[user]
	if isGroup { // it is neither off nor automation
		u = catalog.User{}
		_, known = x.numbers[who.Name]
	}
	switch {
	case !known && isGroup:
		d.Code, d.Sentence = "group_unknown", "The catalog has no group of that name."
		d.Next = "Add a Group to the catalog."
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
	group     int32 // that it is for; -1: the user himself
	condition *catalog.Condition
	standing  // when it was found
}

func (f found) holdsAt(now lockkeeper.Moment) bool {
	return !now.Before(f.Start) && (f.End.IsZero() || now.Before(f.End))
}

// believe lets a grant to a group end when it is believed no more that the user is
// in the group; zero: the catalog says so.
func (f *found) believe(until lockkeeper.Moment) {
	if !f.Deny && !until.IsZero() && (f.End.IsZero() || until.Before(f.End)) {
		f.End = until
	}
}

// sift collects the assignments that concern a question: those that grant and
// deny now, and those of another time or whose condition is not so. Each list is
// sorted by name.
func (x *Index) sift(asks asker, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) (grants, denies, others []found) {
	about, bit := x.circumstance(asks, action, scope, now), x.actions[action]
	for at := x.nearest(scope); at >= 0; at = x.nodes[at].above {
		for _, i := range x.of(&x.nodes[at], asks) {
			if !x.about(i, bit) {
				continue
			}
			a := x.c.Assignments[x.names[i]]
			f := found{Assignment: &a, group: -1}
			if a.Principal.Kind == lockkeeper.GroupPrincipal {
				f.group = x.grants[i].to
				f.believe(x.saidUntil(asks.user, f.group))
			}
			if s := x.specials[i]; s != nil {
				spared, until := x.spares(s, asks, scope, now)
				if spared && until.IsZero() {
					continue
				}
				if spared && f.Start.Before(until) {
					f.Start = until
				}
				f.condition = s.condition
			}
			f.standing = f.stands(about, now)
			switch {
			case !f.holds:
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

// until is the first moment after the question's at which a verdict that is Pass
// would not be, or nil. It can only change where an assignment starts or ends and,
// where a condition hangs on the time, where a minute begins.
func until(about catalog.Circumstance, lists ...[]found) *lockkeeper.Moment {
	all, now, timed := slices.Concat(lists...), about.Now, false
	var moments []lockkeeper.Moment
	for _, g := range all {
		timed = timed || g.condition != nil && g.condition.Timed
		for _, m := range []lockkeeper.Moment{g.Start, g.End} {
			if now.Before(m) {
				moments = append(moments, m)
			}
		}
	}
	last := horizon(now)
	if timed {
		moments = append(moments, ticks(now)...)
	}
	slices.SortFunc(moments, func(a, b lockkeeper.Moment) int { return a.Time().Compare(b.Time()) })
	moments = slices.Compact(moments)
	for _, m := range moments {
		granted, denied := false, false
		for i := range all {
			if all[i].stands(about, m).holds {
				denied = denied || all[i].Deny
				granted = granted || !all[i].Deny
			}
		}
		if denied || !granted || timed && !m.Before(last) {
			return &m
		}
	}
	return nil
}

// A Path is one assignment that concerns a question, and the way that leads to
// it.
type Path struct {
	Assignment string
	Effect     string   // grants or denies; or not_started, ended: its time is another; condition_unmet: its condition is not so; from Holdings, eligible too
	Groups     []string // from the one that lists the user, or the one that was asked about, to the one that it is to; none: it is to the user himself
	Role       string
	Scope      lockkeeper.Scope
	Start, End lockkeeper.Moment // zero: it has none
	Here       bool              // a deny that holds at the scope alone
	Condition  string            // that it has; from Holdings, it was not judged
	Fault      string            // why the condition could not be judged: then a grant does not hold, and a deny does
}

// paths is the way to each assignment, at most maxPaths of them.
func (x *Index) paths(asks asker, list []found, now lockkeeper.Moment) []Path {
	if len(list) == 0 {
		return nil
	}
	from := x.reach(asks.direct)
	out := make([]Path, 0, min(len(list), maxPaths))
	for _, g := range list[:min(len(list), maxPaths)] {
		out = append(out, x.path(from, g, now))
	}
	return out
}

func (x *Index) path(from map[int32]int32, g found, now lockkeeper.Moment) Path {
	p := Path{Assignment: g.Name, Effect: "grants", Role: g.Role, Scope: g.Scope, Start: g.Start, End: g.End, Condition: g.Condition, Here: g.Here}
	if g.err != nil {
		p.Fault = g.err.Error()
	}
	switch {
	case now.Before(g.Start):
		p.Effect = "not_started"
	case !g.holdsAt(now):
		p.Effect = "ended"
	case g.unmet:
		p.Effect = "condition_unmet"
	case g.Deny:
		p.Effect = "denies"
	}
	if g.group >= 0 {
		p.Groups = x.way(from, g.group)
		slices.Reverse(p.Groups)
	}
	return p
}

// spell makes a decision of each path.
func spell(who lockkeeper.Principal, paths []Path) (out []lockkeeper.Decision) {
	for _, p := range paths {
		d := lockkeeper.Decision{Subject: "assignment " + p.Assignment, Verdict: lockkeeper.Fail, Code: p.Effect, Sentence: p.sentence(who)}
		switch {
		case p.Effect == "not_started":
			d.Sentence += ", from " + p.Start.String()
		case p.Effect == "ended":
			d.Sentence += ", ended " + p.End.String()
		case !p.End.IsZero():
			d.Sentence += ", until " + p.End.String()
		}
		d.Sentence += p.say()
		if p.Effect == "grants" {
			d.Verdict = lockkeeper.Pass
			if end := p.End; !end.IsZero() {
				d.Until = &end
			}
		}
		out = append(out, d)
	}
	return out
}

// sentence is the way from the user or the group to what the assignment gives:
// user ann → group release-managers → group leads → role release-manager → at /projects/p.
func (p Path) sentence(who lockkeeper.Principal) string {
	var steps []string
	if who.Kind == lockkeeper.UserPrincipal {
		steps = append(steps, "user "+who.Name)
	}
	for _, group := range p.Groups {
		steps = append(steps, "group "+group)
	}
	role := "role " + p.Role
	if p.Effect == "denies" {
		role = "denied " + role
	}
	return strings.Join(append(steps, role, "at "+string(p.Scope)), " → ")
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
