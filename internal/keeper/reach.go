package keeper

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A reach says who could do something in a world, once he has signed in and activated
// what he is eligible for: only where those are there who would have to approve that.
// An eligibility that nobody is left to approve is none.
type reach struct {
	w         *world
	now       lockkeeper.Moment
	entering  map[string]bool
	approvers map[lockkeeper.Scope]map[string]bool // who could approve activations, by scope; filled when asked
}

func (w *world) reach(now lockkeeper.Moment) *reach {
	return &reach{w: w, now: now, entering: w.entering(), approvers: map[lockkeeper.Scope]map[string]bool{}}
}

// could reports whether a user holds an action at a scope, also once he has signed in
// again, or could activate a role that gives it.
func (r *reach) could(user string, action lockkeeper.Action, scope lockkeeper.Scope) bool {
	return r.holds(user, action, scope) || r.activates(user, action, scope, func() map[string]bool { return r.approving(scope) })
}

func (r *reach) holds(user string, action lockkeeper.Action, scope lockkeeper.Scope) bool {
	return r.w.quarantined(user) == nil && (r.w.allowed(user, action, scope, r.now) || r.w.rules.Access.Believing().Allowed(user, action, scope, r.now))
}

// activates reports whether a user could activate a role that gives an action at a
// scope, given who could approve that. The smallest ask is the easiest: all rules that
// touch the scope hold together, and a wider ask only meets more.
func (r *reach) activates(user string, action lockkeeper.Action, scope lockkeeper.Scope, approving func() map[string]bool) bool {
	if r.w.quarantined(user) != nil {
		return false
	}
	return slices.ContainsFunc(r.w.rules.Access.Believing().Activatable(user, action, scope, r.now), func(a catalog.Assignment) bool {
		d := r.w.demandsOn(a.Role, scope)
		if len(d.rules) == 0 || len(d.approvals) == 0 {
			return len(d.rules) > 0
		}
		return r.breaks(user, a.Role, scope, d) || r.filled(user, d.approvals, approving())
	})
}

// breaks reports whether a user could activate a role without approval.
func (r *reach) breaks(user, role string, scope lockkeeper.Scope, d demands) bool {
	g, err := glassOf(d)
	if err != nil || r.w.glassLeft(breakGlass{Role: role, Scope: scope}, d, r.now) != nil {
		return false
	}
	mine := r.w.persons(user)
	return !slices.ContainsFunc(g.demands, func(demand ReviewDemand) bool {
		_, persons := r.w.reviewers(demand, mine, r.now)
		return persons < demand.Count
	})
}

// approving are the users who could approve activations at a scope: those who hold the
// right, those who could activate it with approvals of those, and so on. Two who would
// have to approve each other first could not.
func (r *reach) approving(scope lockkeeper.Scope) map[string]bool {
	if known := r.approvers[scope]; known != nil {
		return known
	}
	able := map[string]bool{}
	for user, enters := range r.entering {
		if enters && r.holds(user, lockkeeper.ApproveActivations, scope) {
			able[user] = true
		}
	}
	for more := true; more; {
		more = false
		for user, enters := range r.entering {
			if enters && !able[user] && r.activates(user, lockkeeper.ApproveActivations, scope, func() map[string]bool { return able }) {
				able[user], more = true, true
			}
		}
	}
	r.approvers[scope] = able
	return able
}

// filled reports whether some of those who are able could fill every place of the
// approvals, each person one, and none of them the one who asks.
func (r *reach) filled(user string, approvals []catalog.Check, able map[string]bool) bool {
	mine, believing := r.w.persons(user), r.w.rules.Access.Believing()
	var places [][]string // who could fill each
	for _, c := range approvals {
		var fit []string
		for other := range able {
			in := func(group string) bool { _, in := believing.InGroup(other, group, r.now); return in }
			if !shared(mine, r.w.persons(other)) && slices.ContainsFunc(c.Approval.Asks(), in) {
				fit = append(fit, other)
			}
		}
		slices.Sort(fit)
		for range c.Approval.Count {
			places = append(places, fit)
		}
	}
	taken := map[lockkeeper.Person]int{}
	for i := range places {
		if !r.place(i, places, taken, map[lockkeeper.Person]bool{}) {
			return false
		}
	}
	return true
}

// place finds somebody for one more place, moving others where need be.
func (r *reach) place(i int, places [][]string, taken map[lockkeeper.Person]int, tried map[lockkeeper.Person]bool) bool {
	for _, user := range places[i] {
		p := countsAs(r.w.persons(user))
		if tried[p] {
			continue
		}
		tried[p] = true
		if other, is := taken[p]; !is || r.place(other, places, taken, tried) {
			taken[p] = i
			return true
		}
	}
	return false
}
