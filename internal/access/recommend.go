package access

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Kinds of recommendation.
const (
	EndedAssignment     = "ended"           // its time is over: it gives nothing
	RedundantAssignment = "redundant"       // all that it gives, others give too
	NeverActivated      = "never_activated" // nobody activated it in the window
	StandingSeldomUsed  = "standing"        // it should be eligible
	UnusedActions       = "unused_actions"  // of a role of one's own
)

// A Recommendation makes rights smaller: none that was used in the window goes,
// whatever recommendations are followed, together or alone.
type Recommendation struct {
	Kind      string
	Edit      catalog.Edit // no Key: something must be there before, see Next
	Role      string
	Principal string // "": of a role
	Scope     lockkeeper.Scope
	Sentence  string
	Next      string              // what must be there before
	Actions   []lockkeeper.Action // that go; of a standing assignment, that take an activation then
	// Unobserved are actions among them whose use leaves no entry, so that nobody
	// knows whether they are used.
	Unobserved []lockkeeper.Action
	Evidence   Evidence
}

// Evidence is what a recommendation rests on.
type Evidence struct {
	Since lockkeeper.Moment // the window's start: all uses from then on are known
	Days  int               // on which it was used since, up to MaxUseDays a user, action and scope
	Count int               // how often it was used ever, as far as is known
	Last  lockkeeper.Moment // zero: never, as far as is known
	Seqs  []int64           // of entries about the last uses
	By    []string          // the assignments that give the same
}

// Habits are what was used, for Recommend.
type Habits struct {
	Now      lockkeeper.Moment
	From     lockkeeper.Moment // where the window starts
	Observed lockkeeper.Moment // since when all uses are known; zero: they are not
	Uses     []Use
	Young    map[catalog.Key]bool // documents that were added or changed in the window
	Seldom   int                  // days of use up to which a standing right is used seldom; below MaxUseDays
	SignsIn  func(user string) bool
	Join     func(*catalog.Catalog) *Index // the index of a catalog, with what directories said
}

// observed are the actions whose use is always recorded: no command that needs one
// is permitted without an entry. Of all others, reading above all, nothing is known.
var observed = []lockkeeper.Action{
	lockkeeper.WriteAccess, lockkeeper.EscalateAccess, lockkeeper.InviteAccounts, lockkeeper.RevokeAccounts,
	lockkeeper.ApproveActivations, lockkeeper.RevokeActivations,
	lockkeeper.StartDeployments, lockkeeper.ApproveDeployments, lockkeeper.CancelDeployments, lockkeeper.RevokeLeases,
	lockkeeper.WriteEnvironments, lockkeeper.WriteFreezes, lockkeeper.WriteIdentities, lockkeeper.UseIdentities, lockkeeper.WritePipelines, lockkeeper.WriteProjects,
	lockkeeper.RotateKeys,
}

// Observed lists the actions whose use is always recorded.
func Observed() []lockkeeper.Action { return slices.Clone(observed) }

// Bounds of Recommend.
const (
	maxRecommendations = 200
	maxTrials          = 64 // catalogs that are compiled to see whether a recommendation holds
)

// A recommender looks for recommendations about one catalog.
type recommender struct {
	Habits
	c       *catalog.Catalog
	x       *Index
	uses    []Use                             // of the window
	to      map[lockkeeper.Principal][]string // assignments of each principal, sorted
	gave    map[string][]int                  // the uses, by number, that each assignment gave
	gone    map[string]bool                   // assignments that others make redundant, or that have ended
	needed  map[string]bool                   // the others
	actions map[string][]lockkeeper.Action    // of each role, as they are asked for
	seen    uint64                            // the observed actions
	found   []Recommendation
	short   map[string]bool // what has no quorum already
	trials  int
	skipped int
}

// Recommend lists what could be made smaller, and how many candidates were not
// looked at for want of time. A document that is younger than the window gives no
// recommendation about its use, and a window that begins before uses were recorded
// none at all.
func Recommend(c *catalog.Catalog, h Habits) (list []Recommendation, skipped int) {
	r := &recommender{Habits: h, c: c, x: h.Join(c), to: map[lockkeeper.Principal][]string{}, gone: map[string]bool{}, needed: map[string]bool{}, short: map[string]bool{}, gave: map[string][]int{}, actions: map[string][]lockkeeper.Action{}}
	for _, u := range h.Uses {
		if !u.Last.Before(h.From) {
			r.uses = append(r.uses, u)
		}
	}
	for i, u := range h.Uses {
		for name := range u.By {
			r.gave[name] = append(r.gave[name], i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Assignments)) {
		p := c.Assignments[name].Principal
		r.to[p] = append(r.to[p], name)
	}
	for _, a := range observed {
		r.seen |= r.x.actions[a]
	}
	for _, s := range r.x.Shortages(h.Now) {
		r.short[s.String()] = true
	}
	r.redundant()
	if !h.Observed.IsZero() && !h.From.Before(h.Observed) {
		r.assignments()
		r.roles()
	}
	return r.holding(), r.skipped
}

func (r *recommender) add(m Recommendation) {
	if len(r.found) >= maxRecommendations {
		r.skipped++
		return
	}
	r.found = append(r.found, m)
}

func (r *recommender) edit(kind catalog.Kind, name string) catalog.Edit {
	k := catalog.Key{Kind: kind, Name: name}
	return catalog.Edit{Key: k, Was: r.c.DigestOf(k)}
}

func (r *recommender) about(kind string, a catalog.Assignment) Recommendation {
	return Recommendation{Kind: kind, Edit: r.edit(catalog.AssignmentKind, a.Name), Role: a.Role, Principal: a.Principal.String(), Scope: a.Scope,
		Actions: slices.Clone(r.actionsOf(a.Role)), Evidence: Evidence{Since: r.From}}
}

// actionsOf is RoleActions, once for each role.
func (r *recommender) actionsOf(role string) []lockkeeper.Action {
	if _, known := r.actions[role]; !known {
		r.actions[role] = r.x.RoleActions(role)
	}
	return r.actions[role]
}

// redundant looks for assignments that give nothing, or nothing that others do not
// give to the same principal at every scope and instant from now on. Those to a
// user and those further down go first.
func (r *recommender) redundant() {
	names := slices.SortedFunc(maps.Keys(r.c.Assignments), func(x, y string) int {
		a, b := r.c.Assignments[x], r.c.Assignments[y]
		return cmp.Or(cmp.Compare(b.Principal.Kind, a.Principal.Kind), cmp.Compare(len(b.Scope), len(a.Scope)), cmp.Compare(y, x))
	})
	for _, name := range names {
		a := r.c.Assignments[name]
		if a.Deny {
			continue
		}
		m := r.about(RedundantAssignment, a)
		m.Edit.Remove = true
		if !a.End.IsZero() && !r.Now.Before(a.End) {
			m.Kind, m.Sentence = EndedAssignment, fmt.Sprintf("The time of the assignment %s was over at %s; it gives nothing.", a.Name, a.End)
		} else if m.Evidence.By = r.covers(a); len(m.Evidence.By) > 0 {
			m.Sentence = fmt.Sprintf("All that the assignment %s gives %s at %s, others give too: %s.", a.Name, a.Principal, a.Scope, strings.Join(m.Evidence.By, ", "))
		} else {
			continue
		}
		m.Actions, r.gone[name] = nil, true
		for _, other := range m.Evidence.By {
			r.needed[other] = true
		}
		r.add(m)
	}
}

// covers are assignments that together give all that a gives, or none. It is about
// what the catalog itself says: what a directory says about groups ends.
func (r *recommender) covers(a catalog.Assignment) []string {
	if r.needed[a.Name] || !plain(a) {
		return nil
	}
	principals := []lockkeeper.Principal{a.Principal}
	for _, g := range r.groupsOf(a.Principal) {
		principals = append(principals, lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: g})
	}
	missing, by := r.x.mask(r.c.Roles[a.Role]), []string(nil)
	if missing == 0 {
		return nil
	}
	for _, p := range principals {
		for _, name := range r.to[p] {
			o := r.c.Assignments[name]
			if name == a.Name || r.gone[name] || o.Deny || o.Eligible != a.Eligible || !plain(o) || !o.Scope.Contains(a.Scope) || !r.outlives(o, a) {
				continue
			}
			mask := r.x.mask(r.c.Roles[o.Role])
			if a.Eligible && o.Role != a.Role || mask&missing == 0 {
				continue // what is activated is a role
			}
			missing, by = missing&^mask, append(by, name)
			if missing == 0 {
				return by
			}
		}
	}
	return nil
}

// outlives reports whether o holds whenever a does from now on.
func (r *recommender) outlives(o, a catalog.Assignment) bool {
	from := a.Start
	if from.Before(r.Now) {
		from = r.Now
	}
	return !from.Before(o.Start) && (o.End.IsZero() || !a.End.IsZero() && !o.End.Before(a.End))
}

// plain reports whether an assignment holds whenever its time has come, for
// everybody whom it is to: nothing else that it says narrows it.
func plain(a catalog.Assignment) bool {
	a.Name, a.Role, a.Principal, a.Scope, a.Eligible, a.Start, a.End = "", "", lockkeeper.Principal{}, "", false, lockkeeper.Moment{}, lockkeeper.Moment{}
	return reflect.ValueOf(a).IsZero()
}

// groupsOf are the groups that a principal is in, by the catalog alone.
func (r *recommender) groupsOf(p lockkeeper.Principal) []string {
	var groups []int32
	if p.Kind == lockkeeper.UserPrincipal {
		for name, g := range r.c.Groups {
			if slices.Contains(g.Users, p.Name) {
				groups = append(groups, r.x.numbers[name])
			}
		}
	} else if n, known := r.x.numbers[p.Name]; known {
		groups = r.x.outer[n]
	}
	var out []string
	for g := range r.x.reach(groups) {
		out = append(out, r.x.groups[g])
	}
	slices.Sort(out)
	return out
}

// assignments looks for standing ones that are used seldom, and for eligible ones
// that nobody activated.
func (r *recommender) assignments() {
	for _, name := range slices.Sorted(maps.Keys(r.c.Assignments)) {
		a := r.c.Assignments[name]
		if a.Deny || r.gone[name] || r.needed[name] || r.young(a) || !a.Start.IsZero() && r.From.Before(a.Start) {
			continue
		}
		if a.Eligible {
			r.neverActivated(a)
		} else if r.x.mask(r.c.Roles[a.Role])&r.seen != 0 {
			r.standing(a)
		}
	}
}

// young reports whether an assignment was not there as it is in the whole window.
func (r *recommender) young(a catalog.Assignment) bool {
	kind := catalog.UserKind
	if a.Principal.Kind == lockkeeper.GroupPrincipal {
		kind = catalog.GroupKind
	}
	return r.Young[catalog.Key{Kind: catalog.AssignmentKind, Name: a.Name}] || r.Young[catalog.Key{Kind: catalog.RoleKind, Name: a.Role}] ||
		r.Young[catalog.Key{Kind: kind, Name: a.Principal.Name}]
}

// evidence sums up uses, each with what gave it.
func (r *recommender) evidence(uses map[int]Giving) Evidence {
	e, days := Evidence{Since: r.From}, map[int64]bool{}
	for i, g := range uses {
		u := r.Uses[i]
		e.Count += g.Count
		if e.Last.Before(g.Last) {
			e.Last = g.Last
		}
		if g.Last.Before(r.From) {
			continue
		}
		e.Seqs = append(e.Seqs, g.Seq)
		for _, m := range u.Days {
			if !m.Before(r.From) {
				days[day(m)] = true
			}
		}
	}
	slices.SortFunc(e.Seqs, func(a, b int64) int { return cmp.Compare(b, a) })
	e.Seqs, e.Days = slices.Compact(e.Seqs), len(days)
	e.Seqs = e.Seqs[:min(len(e.Seqs), maxPaths)]
	return e
}

func (r *recommender) of(a catalog.Assignment, activating bool) Evidence {
	uses := map[int]Giving{}
	for _, i := range r.gave[a.Name] {
		if !activating || r.Uses[i].Action == Activating {
			uses[i] = r.Uses[i].By[a.Name]
		}
	}
	return r.evidence(uses)
}

func (r *recommender) neverActivated(a catalog.Assignment) {
	if slices.ContainsFunc(r.c.RulesOf(a.Role, a.Scope), func(rule catalog.ActivationRule) bool { return rule.BreakGlass != nil }) {
		return // it is good that nobody had to
	}
	e := r.of(a, true)
	if !e.Last.Before(r.From) {
		return
	}
	m := r.about(NeverActivated, a)
	m.Edit.Remove, m.Evidence = true, e
	m.Sentence = fmt.Sprintf("Nobody has activated %s at %s by the assignment %s since %s.", a.Role, a.Scope, a.Name, r.From)
	r.add(m)
}

func (r *recommender) standing(a catalog.Assignment) {
	e := r.of(a, false)
	if e.Days > r.Seldom {
		return
	}
	m := r.about(StandingSeldomUsed, a)
	m.Edit.Eligible, m.Evidence = true, e
	for _, action := range m.Actions {
		if r.x.actions[action]&r.seen == 0 {
			m.Unobserved = append(m.Unobserved, action)
		}
	}
	m.Sentence = fmt.Sprintf("%s holds %s at %s always, and it was used on %d days since %s.", a.Principal, a.Role, a.Scope, e.Days, r.From)
	if len(r.c.RulesOf(a.Role, a.Scope)) == 0 {
		m.Edit, m.Next = catalog.Edit{}, fmt.Sprintf("Add an ActivationRule for %s at %s first; without one nobody could activate it.", a.Role, a.Scope)
	}
	r.add(m)
}

// roles looks for actions that nobody used of the roles that the catalog defines.
func (r *recommender) roles() {
	for _, name := range slices.Sorted(maps.Keys(r.c.Roles)) {
		role := r.c.Roles[name]
		e := r.edit(catalog.RoleKind, name)
		if e.Was == "" || r.Young[e.Key] {
			continue // built in, or too young
		}
		var given []catalog.Assignment
		for _, a := range r.c.Assignments {
			if a.Role == name {
				given = append(given, a)
			}
		}
		if len(given) == 0 || slices.ContainsFunc(given, func(a catalog.Assignment) bool { return a.Deny || r.young(a) }) {
			continue
		}
		r.unused(role, given, e)
	}
}

func (r *recommender) unused(role catalog.Role, given []catalog.Assignment, edit catalog.Edit) {
	mask, used, uses := r.x.mask(role), uint64(0), map[int]Giving{}
	for _, a := range given {
		for _, i := range r.gave[a.Name] {
			u := r.Uses[i]
			if !u.Last.Before(r.From) {
				used |= r.x.actions[u.Action]
			}
			if g := u.By[a.Name]; uses[i].Count < g.Count { // several may have given it at once
				uses[i] = g
			}
		}
	}
	e := r.evidence(uses)
	goes := mask & r.seen &^ used
	if goes == 0 || mask&^goes == 0 {
		return // a role of which nothing was used is a question about its assignments
	}
	m := Recommendation{Kind: UnusedActions, Edit: edit, Role: role.Name, Scope: lockkeeper.Root, Evidence: e}
	m.Edit.Actions = r.shrunk(role, mask&^goes)
	for _, a := range lockkeeper.Actions() {
		if r.x.actions[a]&goes != 0 {
			m.Actions = append(m.Actions, a)
		}
	}
	m.Sentence = fmt.Sprintf("Nobody has used %s of the role %s since %s.", listOf(m.Actions), role.Name, r.From)
	r.add(m)
}

// shrunk are the patterns of a role that leave what is kept: each as it is where it
// can stay, and else the actions that are kept of it.
func (r *recommender) shrunk(role catalog.Role, keep uint64) []lockkeeper.ActionPattern {
	mask := r.x.mask(role)
	var out []lockkeeper.ActionPattern
	put := func(p lockkeeper.ActionPattern) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, p := range role.Actions {
		var stay []lockkeeper.Action
		matched := 0
		for _, a := range lockkeeper.Actions() {
			if bit := r.x.actions[a]; p.Matches(a) && mask&bit != 0 {
				matched++
				if keep&bit != 0 {
					stay = append(stay, a)
				}
			}
		}
		if len(stay) == matched {
			put(p)
			continue
		}
		for _, a := range stay {
			put(lockkeeper.ActionPattern(a))
		}
	}
	return out
}

func listOf(actions []lockkeeper.Action) string {
	var out []string
	for _, a := range actions {
		out = append(out, string(a))
	}
	return strings.Join(out, ", ")
}
