package catalog

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// role reports what its holders gain, and what a deny of the role forbids no
// longer.
func (w *weakening) role(a, b Role) {
	holds := func(r Role, action lockkeeper.Action) bool {
		covers := func(p lockkeeper.ActionPattern) bool { return p.Matches(action) }
		return slices.ContainsFunc(r.Actions, covers) && !slices.ContainsFunc(r.NotActions, covers)
	}
	for _, action := range lockkeeper.Actions() {
		w.when(holds(b, action) && !holds(a, action), "the role gives %s", action)
	}
	w.when(len(a.Scopes) > 0 && (len(b.Scopes) == 0 || slices.ContainsFunc(b.Scopes, func(s lockkeeper.Scope) bool { return !a.AssignableAt(s) })), "the role may be assigned at more scopes")
	for _, d := range w.facts().ofRole[b.Name] {
		for _, action := range lockkeeper.Actions() {
			w.when(holds(a, action) && !holds(b, action), "the deny %s no longer forbids %s to %s at %s", d.Name, action, d.Principal, d.Scope)
		}
	}
}

func (w *weakening) assignment(a Assignment, was bool, b Assignment, is bool) {
	switch {
	case !is:
		w.when(a.Deny, "a deny of %s to %s at %s is gone", a.Role, a.Principal, a.Scope)
	case b.Deny:
		w.when(was && a.Deny && (!b.Scope.Contains(a.Scope) || a.Principal != b.Principal || a.Role != b.Role || earlierEnd(a.End, b.End) || a.Start.Before(b.Start) ||
			b.Here && !a.Here || b.Condition != "" && b.Condition != a.Condition || slices.ContainsFunc(b.Except, func(p lockkeeper.Principal) bool { return !slices.Contains(a.Except, p) })), "a deny covers less")
	case !was || a.Deny:
		w.when(true, "%s %s %s at %s", b.Principal, gives(b), b.Role, b.Scope)
	default:
		w.when(a.Eligible && !b.Eligible || a.Principal != b.Principal || a.Role != b.Role || a.Scope != b.Scope, "%s %s %s at %s", b.Principal, gives(b), b.Role, b.Scope)
		w.when(earlierEnd(b.End, a.End), "it ends later")
		w.when(b.Start.Before(a.Start), "it starts earlier")
		w.when(a.Condition != "" && a.Condition != b.Condition, "it holds on another condition, or on none")
	}
}

// byTier reports whether the condition of an assignment hangs on the tier of an
// environment.
func (c *Catalog) byTier() bool {
	for _, compiled := range c.conditions {
		if compiled.ByTier {
			return true
		}
	}
	return false
}

func gives(a Assignment) string {
	if a.Eligible {
		return "may activate"
	}
	return "holds"
}

// earlierEnd reports whether b ends before a; zero is no end.
func earlierEnd(a, b lockkeeper.Moment) bool {
	return !b.IsZero() && (a.IsZero() || b.Before(a))
}

// group reports who joins, and who leaves a group that a deny is for.
func (w *weakening) group(a Group, was bool, b Group) {
	w.more("the group has the new member %s", a.Users, b.Users)
	w.more("the group has all members of %s", a.Groups, b.Groups)
	if !was {
		return
	}
	for _, u := range a.Users {
		if !slices.Contains(b.Users, u) {
			w.leaves(a.Name, lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: u})
		}
	}
	for _, g := range a.Groups {
		if !slices.Contains(b.Groups, g) {
			w.leaves(a.Name, lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: g})
		}
	}
}

// leaves reports each deny for the group, or for one that the group is in, which
// the member that left it escapes. A deny that changed itself is reported with
// its assignment.
func (w *weakening) leaves(group string, member lockkeeper.Principal) {
	d := w.facts()
	for _, g := range slices.Sorted(maps.Keys(d.were.groupsOf(lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: group}, true))) {
		for _, deny := range d.ofGroup[g] {
			w.when(w.escapes(member, deny.Principal), "%s escapes the deny %s of %s at %s", member, deny.Name, deny.Role, deny.Scope)
		}
	}
}

// escapes reports whether a user, or some user in a group, that there still is
// and that was under the principal is so no longer.
func (w *weakening) escapes(member, principal lockkeeper.Principal) bool {
	d := w.facts()
	for u := range d.were.usersIn(member) {
		if _, is := w.new.Users[u]; !is {
			continue
		}
		if _, under := d.are.groupsOf(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: u}, false)[principal.Name]; !under {
			return true
		}
	}
	return false
}

func (w *weakening) user(a User, was bool, b User, is bool) {
	w.when(a.Off && is && !b.Off, "the user is switched on")
	w.when(a.Automation && is && !b.Automation, "the account counts as a person's")
	w.when(was && !a.Automation && b.Automation, "the account counts as automation: whoever uses it is no longer kept from approving what it starts")
	if was && is && a.Who() != b.Who() {
		w.split(a, b)
	}
	for _, id := range b.IDs {
		w.when(!slices.Contains(a.IDs, id), "runs of the account %s at %s are the user's", id.ID, id.Provider)
	}
	w.signIns(a, b)
	for _, id := range a.IDs {
		w.when(!slices.Contains(b.IDs, id), "runs of the account %s at %s are nobody's", id.ID, id.Provider)
	}
}

// split reports the accounts that were of one person with this one and are so
// no longer. Making one person of two takes rights away and is not reported:
// whatever one of them has a part in, both are kept from approving.
func (w *weakening) split(a, b User) {
	for _, other := range w.facts().persons[a.Who()] {
		if _, is := w.new.Users[other]; is && other != a.Name {
			w.when(w.new.PersonOf(other) != b.Who(), "the account counts as %s and no longer as one person with %s: what one of them starts, the other may approve", b.Who(), other)
		}
	}
}

// derived is what the comparison of two catalogs looks up again and again.
type derived struct {
	were, are memberships
	ofRole    map[string][]Assignment        // role → denies of it in both catalogs, as the new one has them
	ofGroup   map[string][]Assignment        // group → the same for the group
	persons   map[lockkeeper.Person][]string // person → users, in the old catalog
}

func (w *weakening) facts() *derived {
	if w.derived != nil {
		return w.derived
	}
	d := &derived{were: membershipsOf(w.old), are: membershipsOf(w.new), ofRole: map[string][]Assignment{}, ofGroup: map[string][]Assignment{}, persons: map[lockkeeper.Person][]string{}}
	for _, name := range slices.Sorted(maps.Keys(w.old.Assignments)) {
		a, b := w.old.Assignments[name], w.new.Assignments[name]
		if !a.Deny || !b.Deny {
			continue
		}
		if a.Role == b.Role {
			d.ofRole[b.Role] = append(d.ofRole[b.Role], b)
		}
		if a.Principal == b.Principal && a.Principal.Kind == lockkeeper.GroupPrincipal {
			d.ofGroup[b.Principal.Name] = append(d.ofGroup[b.Principal.Name], b)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.old.Users)) {
		p := w.old.PersonOf(name)
		d.persons[p] = append(d.persons[p], name)
	}
	w.derived = d
	return d
}

// memberships are the groups that list each principal directly.
type memberships struct {
	c     *Catalog
	above map[lockkeeper.Principal][]string
}

func membershipsOf(c *Catalog) memberships {
	m := memberships{c, map[lockkeeper.Principal][]string{}}
	for name, g := range c.Groups {
		for _, u := range g.Users {
			p := lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: u}
			m.above[p] = append(m.above[p], name)
		}
		for _, o := range g.Groups {
			p := lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: o}
			m.above[p] = append(m.above[p], name)
		}
	}
	return m
}

// groupsOf is every group that p is in, through however many; with itself, p's
// own name too.
func (m memberships) groupsOf(p lockkeeper.Principal, itself bool) map[string]bool {
	seen := map[string]bool{}
	queue := slices.Clone(m.above[p])
	if itself {
		queue = append(queue, p.Name)
	}
	for len(queue) > 0 {
		g := queue[0]
		queue = queue[1:]
		if !seen[g] {
			seen[g] = true
			queue = append(queue, m.above[lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: g}]...)
		}
	}
	return seen
}

// usersIn is every user in a group, through however many; of a user, himself.
func (m memberships) usersIn(p lockkeeper.Principal) map[string]bool {
	if p.Kind == lockkeeper.UserPrincipal {
		return map[string]bool{p.Name: true}
	}
	users, seen := map[string]bool{}, map[string]bool{}
	queue := []string{p.Name}
	for len(queue) > 0 {
		g := queue[0]
		queue = queue[1:]
		if seen[g] {
			continue
		}
		seen[g] = true
		for _, u := range m.c.Groups[g].Users {
			users[u] = true
		}
		queue = append(queue, m.c.Groups[g].Groups...)
	}
	return users
}
