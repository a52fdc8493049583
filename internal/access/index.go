package access

import (
	"cmp"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An Index answers questions of access about one catalog. Its size is that of
// the catalog plus, for each user, the groups he is in.
type Index struct {
	c       *catalog.Catalog
	actions map[lockkeeper.Action]uint64 // action → its bit
	users   map[string]*member
	parents map[string][]string // group → the groups that list it, sorted
	nodes   map[lockkeeper.Scope]*node
	roles   []allowance // sorted by name
}

// An allowance is what one role allows.
type allowance struct {
	role string
	mask uint64
}

// A principal is a number for a user or a group.
type principal int32

// A member is a user as the index sees him.
type member struct {
	holds      bool        // neither off nor automation
	direct     []string    // the groups that name the user themselves, sorted
	principals []principal // his own and his groups', sorted
}

// A node holds the assignments made at one scope.
type node struct {
	list []grant                // sorted by principal
	by   map[principal][2]int32 // principal → its part of list
}

// A grant is an assignment in the form that is quick to judge.
type grant struct {
	to         principal
	mask       uint64 // of the actions that the role allows
	start, end lockkeeper.Moment
	deny       bool
	name       string // of the assignment
}

// holdsAt reports whether the assignment's time has come and is not over.
func (g *grant) holdsAt(now lockkeeper.Moment) bool {
	return !now.Before(g.start) && (g.end.IsZero() || now.Before(g.end))
}

// New makes the index of c.
func New(c *catalog.Catalog) *Index {
	x := &Index{c: c, actions: map[lockkeeper.Action]uint64{}, users: make(map[string]*member, len(c.Users)),
		parents: map[string][]string{}, nodes: map[lockkeeper.Scope]*node{}}
	for i, a := range lockkeeper.Actions() {
		x.actions[a] = 1 << i
	}
	numbers := x.members()
	masks := make(map[string]uint64, len(c.Roles))
	for _, name := range slices.Sorted(maps.Keys(c.Roles)) {
		masks[name] = x.mask(c.Roles[name])
		x.roles = append(x.roles, allowance{name, masks[name]})
	}
	for _, a := range c.Assignments {
		to, ok := numbers[a.Principal]
		if !ok {
			continue
		}
		n := x.nodes[a.Scope]
		if n == nil {
			n = &node{}
			x.nodes[a.Scope] = n
		}
		n.list = append(n.list, grant{to, masks[a.Role], a.Start, a.End, a.Deny, a.Name})
	}
	for _, n := range x.nodes {
		n.sort()
	}
	return x
}

func (n *node) sort() {
	slices.SortFunc(n.list, func(a, b grant) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.name, b.name)) })
	n.by = map[principal][2]int32{}
	for i := 0; i < len(n.list); {
		j := i
		for j < len(n.list) && n.list[j].to == n.list[i].to {
			j++
		}
		n.by[n.list[i].to] = [2]int32{int32(i), int32(j)}
		i = j
	}
}

func (x *Index) mask(r catalog.Role) uint64 {
	var mask uint64
	for a, bit := range x.actions {
		matches := func(p lockkeeper.ActionPattern) bool { return p.Matches(a) }
		if slices.ContainsFunc(r.Actions, matches) && !slices.ContainsFunc(r.NotActions, matches) {
			mask |= bit
		}
	}
	return mask
}

// members numbers the principals and finds the groups of each user.
func (x *Index) members() map[lockkeeper.Principal]principal {
	numbers := make(map[lockkeeper.Principal]principal, len(x.c.Users)+len(x.c.Groups))
	for _, name := range slices.Sorted(maps.Keys(x.c.Users)) {
		numbers[lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: name}] = principal(len(numbers))
	}
	direct := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(x.c.Groups)) {
		numbers[lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: name}] = principal(len(numbers))
		g := x.c.Groups[name]
		for _, u := range g.Users {
			direct[u] = append(direct[u], name)
		}
		for _, inner := range g.Groups {
			x.parents[inner] = append(x.parents[inner], name)
		}
	}
	for name, u := range x.c.Users {
		m := &member{holds: !u.Off && !u.Automation, direct: direct[name],
			principals: []principal{numbers[lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: name}]}}
		for g := range x.reach(direct[name]) {
			m.principals = append(m.principals, numbers[lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: g}])
		}
		slices.Sort(m.principals)
		x.users[name] = m
	}
	return numbers
}

// reach is groups and every group that contains one of them, however far up,
// each with the group through which it was reached first ("" for the first
// ones). Breadth first and in order, so the way back is a shortest one and
// always the same.
func (x *Index) reach(groups []string) map[string]string {
	from := make(map[string]string, len(groups))
	queue := make([]string, 0, len(groups))
	for _, g := range groups {
		if _, ok := from[g]; !ok {
			from[g] = ""
			queue = append(queue, g)
		}
	}
	for i := 0; i < len(queue); i++ {
		for _, outer := range x.parents[queue[i]] {
			if _, ok := from[outer]; !ok {
				from[outer] = queue[i]
				queue = append(queue, outer)
			}
		}
	}
	return from
}

// InGroup reports whether the user is in the group, directly or through other
// groups, and the names of the groups on a shortest way, from the one that lists
// the user to group itself. It is about membership only: a user who is off is in
// his groups still.
func (x *Index) InGroup(user, group string) (path []string, ok bool) {
	m, known := x.users[user]
	if !known {
		return nil, false
	}
	from := x.reach(m.direct)
	if _, ok := from[group]; !ok {
		return nil, false
	}
	for g := group; g != ""; g = from[g] {
		path = append(path, g)
	}
	slices.Reverse(path)
	return path, true
}

// Holders lists the users who are in the group, directly or through other
// groups, each once, sorted by name: exactly those for whom InGroup holds, also
// users who are off.
func (x *Index) Holders(group string) []string {
	seen, found := map[string]bool{group: true}, map[string]bool{}
	queue := []string{group}
	for i := 0; i < len(queue); i++ {
		g := x.c.Groups[queue[i]]
		for _, u := range g.Users {
			if _, known := x.users[u]; known {
				found[u] = true
			}
		}
		for _, inner := range g.Groups {
			if !seen[inner] {
				seen[inner] = true
				queue = append(queue, inner)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
