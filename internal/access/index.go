package access

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An Index answers questions of access about one catalog. Users, groups, roles
// and scopes have numbers, and what a question needs lies close together: the
// groups that a user is in as a row of bits, the grants at a scope as a run of
// eight bytes each. Its size is that of the catalog plus one bit for each user
// and group.
type Index struct {
	c       *catalog.Catalog
	actions map[lockkeeper.Action]uint64 // action → its bit
	roles   []allowance                  // by number, sorted by name

	users  map[string]int32 // user → his number
	rows   []uint64         // of each user: 1 if he holds rights, and his groups
	wide   int              // words of a row
	direct [][]int32        // of each user: the groups that name him, sorted

	groups  []string         // by number, sorted
	numbers map[string]int32 // group → its number
	outer   [][]int32        // group → the groups that list it, sorted

	scopes map[lockkeeper.Scope]int32 // scope → its node
	nodes  []node
	grants []grant  // node by node: to users, then to groups, each sorted by principal
	masks  []uint64 // of the actions that each role allows
	names  []string // of each grant's assignment
	// specials are of those grants, by number, that are peculiar.
	specials map[int32]*special
	spans    []span // of each grant's assignment
	marks    []marks

	known []uint64 // rows, by the catalog alone; nil: no directory said anything
	tiers [][]tier // of each user: what directories said, that which is believed longest first

	eligible []catalog.Assignment // those that give nothing until they are activated, sorted by name

	conditions map[string]*catalog.Condition // compiled, by text
}

// An allowance is what one role allows.
type allowance struct {
	role string
	mask uint64
}

// A set is a set of groups, a bit for each.
type set []uint64

func (s set) has(n int32) bool { return s[n>>6]>>(n&63)&1 == 1 }
func (s set) add(n int32)      { s[n>>6] |= 1 << (n & 63) }

// A node is what was assigned at one scope.
type node struct {
	mask               uint64 // what any of its grants is about
	above              int32  // the nearest node above; -1: none
	users, groups, end int32  // where its grants to users and to groups begin, and where they end
	marks              int32  // in marks; -1: none
}

// marks are kept for a node with many grants to groups.
type marks struct {
	held   set     // the groups that hold something there
	starts []int32 // where the grants of each of them begin, and the end
}

// fewGrants is up to how many grants to groups are looked at one after another
// instead of by the bits that a user and the scope have in common.
const fewGrants = 12

// A grant is an assignment in the form that is quick to judge.
type grant struct {
	to   int32  // number of the user or the group
	role uint32 // number of the role, and flags
}

const (
	denies = 1 << 31 // the assignment is a deny
	timed  = 1 << 30 // it has a start or an end

	peculiar = 1 << 29 // it has a condition or, a deny, exceptions

	placedGroup = 1 << 31 // in a place: to a group
)

// A span is the time of an assignment in milliseconds since 1970, the end left
// out.
type span struct{ start, end int64 }

func spanOf(a catalog.Assignment) span {
	s := span{math.MinInt64, math.MaxInt64}
	if !a.Start.IsZero() {
		s.start = millis(a.Start)
	}
	if !a.End.IsZero() {
		s.end = millis(a.End)
	}
	return s
}

func millis(m lockkeeper.Moment) int64 { return m.Time().UnixMilli() }

// about reports whether the i-th grant is about an action: its role allows it,
// whether to grant or to deny it.
func (x *Index) about(i int32, bit uint64) bool {
	return x.masks[x.grants[i].role&^(denies|timed|peculiar)]&bit != 0
}

// holdsAt reports whether the i-th grant's time has come and is not over.
func (x *Index) holdsAt(i int32, now int64) bool {
	return x.grants[i].role&timed == 0 || x.spans[i].start <= now && now < x.spans[i].end
}

func (x *Index) denies(i int32) bool { return x.grants[i].role&denies != 0 }

// row is the groups of a user, and whether he holds any rights.
func (x *Index) row(user int32) (groups set, holds bool) {
	r := x.rows[int(user)*x.wide : (int(user)+1)*x.wide]
	return r[1:], r[0] != 0
}

// New makes the index of c.
func New(c *catalog.Catalog) *Index {
	x := &Index{c: c, actions: map[lockkeeper.Action]uint64{}, specials: map[int32]*special{}, conditions: map[string]*catalog.Condition{}}
	for i, a := range lockkeeper.Actions() {
		x.actions[a] = 1 << i
	}
	roles := make(map[string]uint32, len(c.Roles))
	for i, name := range slices.Sorted(maps.Keys(c.Roles)) {
		mask := x.mask(c.Roles[name])
		roles[name] = uint32(i)
		x.roles, x.masks = append(x.roles, allowance{name, mask}), append(x.masks, mask)
	}
	x.members()
	x.assign(roles)
	for i := range x.nodes {
		x.mark(&x.nodes[i])
	}
	for _, e := range c.Environments { // asked about most: found at the first look
		at := lockkeeper.EnvironmentScope(e.Project, e.Name)
		if n := x.nearest(at); n >= 0 {
			x.scopes[at] = n
		}
	}
	return x
}

// A placed grant is one on its way to its place.
type placed struct {
	place uint64 // its node, then users before groups, then the number of either
	role  uint32
	name  string
	span  span

	special *special
}

// assign lays out the assignments scope by scope.
func (x *Index) assign(roles map[string]uint32) {
	all := make([]placed, 0, len(x.c.Assignments))
	var at []lockkeeper.Scope // of each node
	x.scopes = make(map[lockkeeper.Scope]int32, len(x.c.Environments)+len(x.c.Assignments)/8)
	for _, a := range x.c.Assignments {
		x.compiled(a)
		if a.Eligible {
			x.eligible = append(x.eligible, a)
			continue
		}
		role, known := roles[a.Role]
		var to int32
		toGroup := a.Principal.Kind == lockkeeper.GroupPrincipal
		switch {
		case known && toGroup:
			to, known = x.numbers[a.Principal.Name]
		case known:
			to, known = x.users[a.Principal.Name]
		}
		if !known {
			continue
		}
		n, known := x.scopes[a.Scope]
		if !known {
			if !wellFormed(a.Scope) {
				continue
			}
			n = int32(len(at))
			at, x.scopes[a.Scope] = append(at, a.Scope), n
		}
		p := placed{uint64(n)<<32 | uint64(to), role, a.Name, spanOf(a), x.specialOf(a)}
		if p.special != nil {
			p.role |= peculiar
		}
		if toGroup {
			p.place |= placedGroup
		}
		if a.Deny {
			p.role |= denies
		}
		if !a.Start.IsZero() || !a.End.IsZero() {
			p.role |= timed
		}
		all = append(all, p)
	}
	slices.SortFunc(x.eligible, func(a, b catalog.Assignment) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(all, func(a, b placed) int { return cmp.Compare(a.place, b.place) })
	x.grants, x.names, x.spans = make([]grant, len(all)), make([]string, len(all)), make([]span, len(all))
	x.nodes = make([]node, len(at))
	for i := range x.nodes {
		x.nodes[i] = node{above: x.nearest(at[i].Parent()), marks: -1}
		if at[i] == lockkeeper.Root {
			x.nodes[i].above = -1
		}
	}
	for i, p := range all {
		x.grants[i], x.names[i], x.spans[i] = grant{int32(p.place & (placedGroup - 1)), p.role}, p.name, p.span
		n := &x.nodes[p.place>>32]
		if n.end == 0 {
			n.users, n.groups = int32(i), int32(i)
		}
		if n.end = int32(i + 1); p.place&placedGroup == 0 {
			n.groups = n.end
		}
		if p.special != nil {
			x.specials[int32(i)] = p.special
		}
		n.mask |= x.masks[p.role&^(denies|timed|peculiar)]
	}
}

func wellFormed(s lockkeeper.Scope) bool {
	var levels [maxLevels]lockkeeper.Scope
	return lineage(s, &levels) > 0
}

// nearest is the node of a scope or of the nearest one above it that has one; -1
// if there is none or the scope is malformed.
func (x *Index) nearest(scope lockkeeper.Scope) int32 {
	if n, known := x.scopes[scope]; known {
		return n
	}
	var levels [maxLevels]lockkeeper.Scope
	for i := lineage(scope, &levels) - 2; i >= 0; i-- {
		if n, known := x.scopes[levels[i]]; known {
			return n
		}
	}
	return -1
}

// mark marks the groups at a node with many grants to groups.
func (x *Index) mark(n *node) {
	if n.end-n.groups <= fewGrants {
		return
	}
	m := marks{held: make(set, x.wide-1)}
	for i := n.groups; i < n.end; i++ {
		if to := x.grants[i].to; !m.held.has(to) {
			m.held.add(to)
			m.starts = append(m.starts, i)
		}
	}
	m.starts = append(m.starts, n.end)
	n.marks = int32(len(x.marks))
	x.marks = append(x.marks, m)
}

// first is where the grants at a node to a user begin.
func (x *Index) first(n *node, user int32) int32 {
	low, high := n.users, n.groups
	for low < high {
		if mid := int32(uint32(low+high) >> 1); x.grants[mid].to < user {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// of is the grants at a node that concern a user or a group.
func (x *Index) of(n *node, asks asker) (out []int32) {
	if asks.user >= 0 {
		for i := x.first(n, asks.user); i < n.groups && x.grants[i].to == asks.user; i++ {
			out = append(out, i)
		}
	}
	for i := n.groups; i < n.end; i++ {
		if asks.groups.has(x.grants[i].to) {
			out = append(out, i)
		}
	}
	return out
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

// members numbers the users and groups and finds the groups of each user.
func (x *Index) members() {
	x.groups = slices.Sorted(maps.Keys(x.c.Groups))
	x.numbers = make(map[string]int32, len(x.groups))
	for i, name := range x.groups {
		x.numbers[name] = int32(i)
	}
	x.wide = 1 + (len(x.groups)+63)/64
	x.rows, x.direct = make([]uint64, len(x.c.Users)*x.wide), make([][]int32, len(x.c.Users))
	x.users = make(map[string]int32, len(x.c.Users))
	for name, u := range x.c.Users {
		n := len(x.users)
		x.users[name] = int32(n)
		if !u.Off && !u.Automation {
			x.rows[n*x.wide] = 1
		}
	}
	x.outer = make([][]int32, len(x.groups))
	for i, name := range x.groups {
		g := x.c.Groups[name]
		for _, u := range g.Users {
			if n, known := x.users[u]; known && !slices.Contains(x.direct[n], int32(i)) {
				x.direct[n] = append(x.direct[n], int32(i))
			}
		}
		for _, inner := range g.Groups {
			if n, known := x.numbers[inner]; known {
				x.outer[n] = append(x.outer[n], int32(i))
			}
		}
	}
	for user, groups := range x.direct {
		row, _ := x.row(int32(user))
		for _, g := range groups {
			x.spread(row, g)
		}
	}
}

// spread adds a group and every group that contains it, however far up.
func (x *Index) spread(s set, group int32) {
	if s.has(group) {
		return
	}
	s.add(group)
	for _, outer := range x.outer[group] {
		x.spread(s, outer)
	}
}

// reach is groups and every group that contains one of them, however far up,
// each with the group through which it was reached first (-1 for the first
// ones). Breadth first and in order, so the way back is a shortest one and
// always the same.
func (x *Index) reach(groups []int32) map[int32]int32 {
	from := make(map[int32]int32, len(groups))
	queue := make([]int32, 0, len(groups))
	for _, g := range groups {
		if _, ok := from[g]; !ok {
			from[g] = -1
			queue = append(queue, g)
		}
	}
	for i := 0; i < len(queue); i++ {
		for _, outer := range x.outer[queue[i]] {
			if _, ok := from[outer]; !ok {
				from[outer] = queue[i]
				queue = append(queue, outer)
			}
		}
	}
	return from
}

// way is the groups on the way to a group, the group itself first.
func (x *Index) way(from map[int32]int32, group int32) (names []string) {
	for g := group; g >= 0; g = from[g] {
		names = append(names, x.groups[g])
	}
	return names
}

// InGroup reports whether the user is in the group at now, directly or through other
// groups, and the names of the groups on a shortest way, from the one that lists
// the user to group itself. It is about membership only: a user who is off is in
// his groups still.
func (x *Index) InGroup(user, group string, now lockkeeper.Moment) (path []string, ok bool) {
	n, known := x.numbers[group]
	if !known {
		return nil, false
	}
	m, known := x.users[user]
	if !known {
		return nil, false
	}
	if !x.believed(m, millis(now)).has(n) {
		return nil, false
	}
	path = x.way(x.reach(x.direct[m]), n)
	slices.Reverse(path)
	return path, true
}

// Holders lists the users who are in the group, directly or through other
// groups, each once, sorted by name: exactly those for whom InGroup holds, also
// users who are off.
func (x *Index) Holders(group string) []string {
	n, known := x.numbers[group]
	if !known {
		return nil
	}
	var out []string
	for name, m := range x.users {
		if in, _ := x.row(m); in.has(n) {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
