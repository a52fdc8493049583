package access

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Gain is something that a user could do under one catalog and cannot under
// another, or that may amount to it.
type Gain struct {
	User   string            // who gains; "": whoever it may be
	Action lockkeeper.Action // "": not an action of its own
	Scope  lockkeeper.Scope
	Why    string // a sentence without its end
}

func (g Gain) String() string {
	if g.Action == "" {
		return g.Why
	}
	return fmt.Sprintf("%s gains %s at %s: %s", g.User, g.Action, g.Scope, g.Why)
}

// MaxGains bounds the gains that are listed; with so many there may be more.
const MaxGains = 200

// Gains lists what users gain from the catalog of old to that of x, from now on and
// whatever the way: by a role, what it leaves out, an assignment, a member of a
// group, a group in a group, a deny that is gone, narrower or that they escape, a
// condition, a place moved, an approval's group, what it takes to activate, or an
// account that comes to stand for somebody. Eligibility counts as a right. What the
// granter holds himself under the old catalog, there, for as long and on no more
// conditions, without any deny there, is no gain; "" holds nothing. Of what he has
// activated nothing counts: it is his for a time, and what is granted stays.
//
// It errs to one side only: what it cannot compare, such as two conditions that
// read differently, it lists.
func (x *Index) Gains(old *Index, granter string, now lockkeeper.Moment) []Gain {
	return x.gains(old, granter, nil, now)
}

// GainsOf is Gains of some users, whoever grants. What may amount to more for
// anybody counts where it touches one of them.
func (x *Index) GainsOf(old *Index, users []string, now lockkeeper.Moment) []Gain {
	only := map[string]bool{}
	for _, u := range users {
		only[u] = true
	}
	return x.gains(old, "", only, now)
}

func (x *Index) gains(old *Index, granter string, only map[string]bool, now lockkeeper.Moment) []Gain {
	g := &gains{only: only, was: newSide(old), is: newSide(x), granter: granter, now: now, joined: map[lockkeeper.Principal][]string{}, left: map[lockkeeper.Principal][]string{}}
	g.accounts()
	g.rules()
	g.tiers()
	for _, name := range slices.Sorted(maps.Keys(x.c.Assignments)) {
		if a := x.c.Assignments[name]; !a.Deny {
			g.grant(a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.c.Assignments)) {
		if a := old.c.Assignments[name]; a.Deny {
			g.deny(a)
		}
	}
	g.places()
	return g.found
}

type gains struct {
	was, is *side
	granter string
	now     lockkeeper.Moment
	only    map[string]bool // whose gains count; nil: everybody's
	found   []Gain
	joined  map[lockkeeper.Principal][]string // of each principal, who is in it only now
	left    map[lockkeeper.Principal][]string // who was in it only before
}

// without lists the users of one set that are not in another, sorted.
func without(a, b map[string]bool) []string {
	var out []string
	for user := range a {
		if !b[user] {
			out = append(out, user)
		}
	}
	slices.Sort(out)
	return out
}

// moved is without for a principal, remembered.
func moved(known map[lockkeeper.Principal][]string, p lockkeeper.Principal, a, b *side) []string {
	list, done := known[p]
	if !done {
		list = without(a.holders(p), b.holders(p))
		known[p] = list
	}
	return list
}

func (g *gains) add(one Gain) {
	if len(g.found) < MaxGains && (g.only == nil || one.User == "" || g.only[one.User]) {
		g.found = append(g.found, one)
	}
}

// A side is one of the two catalogs, prepared for comparing.
type side struct {
	x     *Index
	to    map[lockkeeper.Principal][]catalog.Assignment
	kinds map[string]kinds           // of actions that each role allows
	users map[string]map[string]bool // of each group, those who hold rights

	mapped  map[string]bool   // the groups that directories put somebody into
	members map[string]string // who stands for those, and the group
}

func newSide(x *Index) *side {
	s := &side{x: x, to: map[lockkeeper.Principal][]catalog.Assignment{}, kinds: map[string]kinds{}, users: map[string]map[string]bool{}}
	for _, a := range x.c.Assignments {
		s.to[a.Principal] = append(s.to[a.Principal], a)
	}
	for name, r := range x.c.Roles {
		s.kinds[name] = kindsOf(r)
	}
	s.mapped, s.members = mappedGroups(x.c), map[string]string{}
	for group := range s.mapped {
		s.members[MembersAt(group)] = group
	}
	return s
}

// kinds are actions, and beside them what a pattern will match that no release has
// yet: a verb more of a collection, a collection more with a verb, and both. So a
// role with a wildcard is more than the list of what it matches today.
type kinds []bool

var actionKinds = func() []lockkeeper.Action {
	out := lockkeeper.Actions()
	for _, a := range lockkeeper.Actions() {
		collection, verb, _ := strings.Cut(string(a), "/")
		for _, future := range []lockkeeper.Action{lockkeeper.Action(collection + "/~"), lockkeeper.Action("~/" + verb), "~/~"} {
			if !slices.Contains(out, future) {
				out = append(out, future)
			}
		}
	}
	return out
}()

func kindsOf(r catalog.Role) kinds {
	out := make(kinds, len(actionKinds))
	for i, a := range actionKinds {
		matches := func(p lockkeeper.ActionPattern) bool { return p.Matches(a) }
		out[i] = slices.ContainsFunc(r.Actions, matches) && !slices.ContainsFunc(r.NotActions, matches)
	}
	return out
}

func (k kinds) within(o kinds) bool {
	for i := range k {
		if k[i] && !(i < len(o) && o[i]) {
			return false
		}
	}
	return true
}

// holders are the users who hold rights and are the principal, or in it.
func (s *side) holders(p lockkeeper.Principal) map[string]bool {
	if p.Kind == lockkeeper.UserPrincipal {
		if s.live(p.Name) {
			return map[string]bool{p.Name: true}
		}
		return nil
	}
	if p.Kind != lockkeeper.GroupPrincipal { // a pipeline's stage: somebody of its own
		return map[string]bool{p.String(): true}
	}
	if known, done := s.users[p.Name]; done {
		return known
	}
	out, seen := map[string]bool{}, map[string]bool{}
	s.gather(p.Name, out, seen)
	s.users[p.Name] = out
	return out
}

// gather adds who is in a group, from it downwards.
func (s *side) gather(group string, into, seen map[string]bool) {
	if seen[group] {
		return
	}
	seen[group] = true
	for _, user := range s.x.c.Groups[group].Users {
		if s.live(user) {
			into[user] = true
		}
	}
	if s.mapped[group] {
		into[MembersAt(group)] = true
	}
	for _, inner := range s.x.c.Groups[group].Groups {
		s.gather(inner, into, seen)
	}
}

// MembersAt stands for whomever directories put into a group, as a user of its own:
// nobody knows who that will be, and whoever it is is in no other group by it.
func MembersAt(group string) string { return "members of " + group + " at a directory" }

func mappedGroups(c *catalog.Catalog) map[string]bool {
	out := map[string]bool{}
	for _, d := range c.Directories {
		for _, g := range d.Groups {
			out[g.Group] = true
		}
	}
	return out
}

func (s *side) live(user string) bool {
	if s.members[user] != "" {
		return true
	}
	m, known := s.x.users[user]
	if !known {
		return false
	}
	_, holds := s.x.row(m)
	return holds
}

// concern are the assignments that concern a user: himself, and by his groups. A
// deny that leaves him out does not.
func (s *side) concern(user string) []catalog.Assignment {
	if stage, err := lockkeeper.ParsePrincipal(user); err == nil && stage.Kind != lockkeeper.GroupPrincipal {
		return s.to[stage]
	}
	if !s.live(user) {
		return nil
	}
	list := slices.Clone(s.to[lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}])
	groups := s.groupsOf(user)
	for n, name := range s.x.groups {
		if groups.has(int32(n)) {
			list = append(list, s.to[lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: name}]...)
		}
	}
	return slices.DeleteFunc(list, func(a catalog.Assignment) bool { return a.Deny && s.leavesOut(a, user) })
}

// groupsOf are the groups that the catalog puts a user in. What a directory said is
// left out: it holds for a time, and MembersAt stands for it.
func (s *side) groupsOf(user string) set {
	if group := s.members[user]; group != "" {
		groups := make(set, s.x.wide-1)
		if n, known := s.x.numbers[group]; known {
			s.x.spread(groups, n)
		}
		return groups
	}
	return s.x.believed(s.x.users[user], math.MaxInt64)
}

func (s *side) leavesOut(a catalog.Assignment, user string) bool {
	return slices.ContainsFunc(a.Except, func(p lockkeeper.Principal) bool { return s.holders(p)[user] })
}

// lasts reports whether a holds from now on for as long as b does.
func (g *gains) lasts(a, b catalog.Assignment) bool {
	start := func(m lockkeeper.Moment) lockkeeper.Moment {
		if m.Before(g.now) {
			return g.now
		}
		return m
	}
	return !start(b.Start).Before(start(a.Start)) && (a.End.IsZero() || !b.End.IsZero() && !a.End.Before(b.End))
}

// within reports whether all that one assignment gives, or takes, another does too,
// but for the actions of its role: at its scope, for as long, on its condition.
func (g *gains) within(a, outer catalog.Assignment) bool {
	return outer.Scope.Contains(a.Scope) && g.lasts(outer, a) && (outer.Condition == "" || outer.Condition == a.Condition) &&
		(!outer.Here || a.Here && a.Scope == outer.Scope)
}

// grant reports what a grant of the new catalog gives to those who had less.
func (g *gains) grant(a catalog.Assignment) {
	before, was := g.was.x.c.Assignments[a.Name]
	gives := g.is.kinds[a.Role]
	unchanged := was && equalAssignments(a, before) && gives.within(g.was.kinds[a.Role])
	var users []string
	if unchanged {
		users = moved(g.joined, a.Principal, g.is, g.was)
	} else {
		users = without(g.is.holders(a.Principal), nil)
	}
	for _, user := range users {
		if len(g.found) >= MaxGains {
			return
		}
		if g.only != nil && !g.only[user] {
			continue
		}
		have := g.was.concern(user)
		for i, action := range actionKinds {
			if gives[i] && !g.had(have, a, i) && !g.granted(a, i) {
				g.add(Gain{user, action, a.Scope, "by the assignment " + a.Name})
			}
		}
	}
}

func equalAssignments(a, b catalog.Assignment) bool {
	return a.Name == b.Name && a.Role == b.Role && a.Principal == b.Principal && a.Scope == b.Scope && a.Deny == b.Deny && a.Eligible == b.Eligible &&
		a.Start == b.Start && a.End == b.End && a.Condition == b.Condition && a.Here == b.Here && slices.Equal(a.Except, b.Except)
}

// had reports whether one of somebody's grants gave a kind of action as a does.
func (g *gains) had(have []catalog.Assignment, a catalog.Assignment, kind int) bool {
	return slices.ContainsFunc(have, func(o catalog.Assignment) bool {
		return !o.Deny && g.was.kinds[o.Role][kind] && (!o.Eligible || a.Eligible) && g.within(a, o)
	})
}

// granted reports whether the granter holds a kind of action himself, now and as a
// would give it, and no deny of it to him touches the place.
func (g *gains) granted(a catalog.Assignment, kind int) bool {
	holds := false
	for _, o := range g.was.concern(g.granter) {
		switch {
		case !g.was.kinds[o.Role][kind]:
		case o.Deny && (o.Scope.Contains(a.Scope) || a.Scope.Contains(o.Scope)):
			return false
		case !o.Deny && !o.Eligible && !g.now.Before(o.Start) && g.within(a, o):
			holds = true
		}
	}
	return holds
}

// deny reports what those can do who escape a deny of the old catalog.
func (g *gains) deny(o catalog.Assignment) {
	if !o.End.IsZero() && !g.now.Before(o.End) {
		return
	}
	forbids := g.was.kinds[o.Role]
	after, still := g.is.x.c.Assignments[o.Name]
	unchanged := still && equalAssignments(after, o) && forbids.within(g.is.kinds[o.Role])
	var users []string
	if unchanged && len(o.Except) == 0 {
		users = moved(g.left, o.Principal, g.was, g.is)
	} else {
		users = without(g.was.holders(o.Principal), nil)
	}
	for _, user := range users {
		if g.was.leavesOut(o, user) || !g.is.live(user) || len(g.found) >= MaxGains || g.only != nil && !g.only[user] {
			continue
		}
		have := g.is.concern(user)
		for i, action := range actionKinds {
			if forbids[i] && g.could(have, o, i) && !g.denied(have, o, i) && !g.granted(catalog.Assignment{Scope: o.Scope}, i) {
				g.add(Gain{user, action, o.Scope, "the deny " + o.Name + " stands no more before it"})
			}
		}
	}
}

// could reports whether somebody has a grant that touches where a deny was.
func (g *gains) could(have []catalog.Assignment, deny catalog.Assignment, kind int) bool {
	return slices.ContainsFunc(have, func(a catalog.Assignment) bool {
		return !a.Deny && g.is.kinds[a.Role][kind] && (a.Scope.Contains(deny.Scope) || deny.Scope.Contains(a.Scope))
	})
}

// denied reports whether another deny takes the place of one.
func (g *gains) denied(have []catalog.Assignment, o catalog.Assignment, kind int) bool {
	return slices.ContainsFunc(have, func(a catalog.Assignment) bool { return a.Deny && g.is.kinds[a.Role][kind] && g.within(o, a) })
}

// places reports who comes into a group that approvals name, or that a freeze spares:
// being in it is a part of the right to approve, or to deploy while others may not.
func (g *gains) places() {
	named := map[string]bool{}
	for _, s := range []*side{g.was, g.is} {
		for _, e := range s.x.c.Environments {
			approvers(e.Checks, named)
			if e.Override != nil {
				nameAll(named, e.Override.Groups)
				nameAll(named, e.Override.Reviewers.Groups)
			}
		}
		for _, f := range s.x.c.Freezes {
			nameAll(named, f.Exempt)
		}
		for _, r := range s.x.c.ActivationRules {
			approvers(r.Approvals, named)
			if b := r.BreakGlass; b != nil {
				nameAll(named, b.Reviewers.Groups)
			}
			if c := r.TicketCall; c != nil && c.WhenAway != nil {
				nameAll(named, c.WhenAway.Groups)
			}
		}
	}
	for _, group := range slices.Sorted(maps.Keys(named)) {
		p := lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: group}
		before := g.was.holders(p)
		if before[g.granter] {
			continue
		}
		for _, user := range slices.Sorted(maps.Keys(g.is.holders(p))) {
			if !before[user] {
				g.add(Gain{User: user, Scope: lockkeeper.Root, Why: fmt.Sprintf("%s comes into the group %s, whose word counts at a gate", user, group)})
			}
		}
	}
}

func nameAll(into map[string]bool, groups []string) {
	for _, group := range groups {
		into[group] = true
	}
}

func approvers(checks []catalog.Check, into map[string]bool) {
	for _, c := range checks {
		if c.Approval != nil {
			nameAll(into, c.Approval.Asks())
		}
		if c.Record != nil {
			for _, group := range c.Record.Groups {
				into[group] = true
			}
		}
	}
}

// accounts reports accounts that come to stand for somebody else. Whoever may make
// accounts could otherwise be two persons at a gate.
func (g *gains) accounts() {
	for _, name := range slices.Sorted(maps.Keys(g.is.x.c.Users)) {
		a, was := g.was.x.c.Users[name]
		b := g.is.x.c.Users[name]
		switch {
		case !was:
			g.add(Gain{User: name, Scope: lockkeeper.Root, Why: fmt.Sprintf("the user %s is new, and may be anybody", name)})
		case a.Who() != b.Who() || a.Automation != b.Automation || !slices.Equal(a.IDs, b.IDs) || !slices.Equal(a.SignIns, b.SignIns):
			g.add(Gain{User: name, Scope: lockkeeper.Root, Why: fmt.Sprintf("the user %s stands for another person, or is another account's", name)})
		}
	}
}

// rules reports what asks for less before an activation, duties that are kept apart
// no more, directories that let in more, and provisioners that open more.
func (g *gains) rules() {
	for _, d := range catalog.Weaker(g.was.x.c, g.is.x.c) {
		if d.Key.Kind == catalog.SeparationKind && g.only == nil {
			g.add(Gain{Scope: lockkeeper.Root, Why: fmt.Sprintf("the separation %s asks for less: %s", d.Key.Name, d.Weakens[0])})
		}
		if d.Key.Kind == catalog.DirectoryKind && g.only == nil {
			g.add(Gain{Scope: lockkeeper.Root, Why: fmt.Sprintf("the directory %s lets in more: %s", d.Key.Name, d.Weakens[0])})
		}
		if opened := g.is.x.c.Provisioners[d.Key.Name].Role; d.Key.Kind == catalog.ProvisionerKind && g.touches(func(a catalog.Assignment) bool { return g.only == nil || a.Eligible && a.Role == opened }) {
			g.add(Gain{Scope: lockkeeper.Root, Why: fmt.Sprintf("the provisioner %s opens more: %s", d.Key.Name, d.Weakens[0])})
		}
		if scope := g.is.x.c.ScopeOf(d.Key); d.Key.Kind == catalog.IdentityKind && g.only != nil && g.touches(func(a catalog.Assignment) bool {
			return !a.Deny && a.Scope.Contains(scope) && g.is.x.RoleAllows(a.Role, lockkeeper.UseIdentities)
		}) {
			g.add(Gain{Scope: scope, Why: fmt.Sprintf("the identity %s gives more: %s", d.Key.Name, d.Weakens[0])})
		}
		role := g.was.x.c.ActivationRules[d.Key.Name].Role
		if d.Key.Kind == catalog.ActivationRuleKind && g.touches(func(a catalog.Assignment) bool { return a.Eligible && a.Role == role }) {
			g.add(Gain{Scope: lockkeeper.Root, Why: fmt.Sprintf("the rule %s asks for less: %s", d.Key.Name, d.Weakens[0])})
		}
	}
}

// tiers reports environments of another tier where conditions hang on it.
func (g *gains) tiers() {
	for _, scope := range slices.Sorted(maps.Keys(g.is.x.c.Environments)) {
		a, was := g.was.x.c.Environments[scope]
		if b := g.is.x.c.Environments[scope]; was && a.Tier != b.Tier && g.touches(func(a catalog.Assignment) bool { return byTier(g.is, a) || byTier(g.was, a) }) {
			g.add(Gain{Scope: scope, Why: fmt.Sprintf("conditions of assignments hang on the tier, and %s is %s now", scope, cmp.Or(string(b.Tier), "none"))})
		}
	}
}

func byTier(s *side, a catalog.Assignment) bool {
	c := s.x.conditions[a.Condition]
	return c != nil && c.ByTier
}

// touches reports whether an assignment of the new catalog of some kind concerns
// one of those whose gains count, or there is one where everybody's do.
func (g *gains) touches(kind func(catalog.Assignment) bool) bool {
	if g.only == nil {
		return slices.ContainsFunc(slices.Collect(maps.Values(g.is.x.c.Assignments)), kind)
	}
	for user := range g.only {
		if slices.ContainsFunc(g.is.concern(user), kind) {
			return true
		}
	}
	return false
}
