package access

import (
	"math"

	"github.com/lockkeeper/lockkeeper"
)

// Lasting reports whether a user holds an action at a scope for good: by a grant
// that is active, has begun, and has neither an end nor a condition, and without
// any deny there, now or later.
func (x *Index) Lasting(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	m, known := x.users[user]
	if !known {
		return false
	}
	groups, holds := x.row(m)
	if !holds {
		return false
	}
	own := x.believed(m, math.MaxInt64) // of what directories say nothing lasts
	granted, bit, t := false, x.actions[action], millis(now)
	for at := x.nearest(scope); at >= 0; at = x.nodes[at].above {
		for _, i := range x.of(&x.nodes[at], asker{user: m, groups: groups}) {
			a, s := x.c.Assignments[x.names[i]], x.specials[i]
			switch {
			case !x.about(i, bit) || s != nil && s.leavesOut(m, own, scope):
			case x.denies(i):
				if t < x.spans[i].end {
					return false
				}
			case a.End.IsZero() && x.holdsAt(i, t) && s == nil && (i < x.nodes[at].groups || own.has(x.grants[i].to)):
				granted = true
			}
		}
	}
	return granted
}
