package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// What time has ended stays ended, whoever has written that down and when. Patience and
// the time-outs of checks are those of the rules in force, so whatever puts others in force
// writes down first, in its own entries, what the rules before have ended by then: else a
// longer patience brought back what had timed out since the last sweep, or while the server
// was down.

// outlasted are the ends of deployments and requests that are over under the rules in
// force, whether or not a sweep has come by.
func (w *world) outlasted(now lockkeeper.Moment) []event {
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Requests)) {
		r := w.Requests[id]
		if deadline := w.demandsOn(r.Role, r.Scope).deadline(r); !now.Before(deadline) {
			out = append(out, w.requestOver(id, deadline))
		}
	}
	aborts := w.takesLeases()
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		if ev := w.endOf(w.Deployments[id], aborts, now); ev != nil {
			out = append(out, ev)
		}
	}
	return out
}

func (w *world) requestOver(id string, deadline lockkeeper.Moment) event {
	return &requestClosed{ID: id, Status: requestTimedOut, Reason: fmt.Sprintf("It waited until %s.", deadline), Revision: w.Revision.Number}
}

// endOf is how the clock, a freeze that takes leases (if there are such), or a newer one
// has ended a deployment; nil: it goes on.
func (w *world) endOf(d *Deployment, aborts bool, now lockkeeper.Moment) event {
	switch {
	case w.overdue(d, now):
		return w.expire(d, now)
	case d.Status == Running && aborts:
		return w.aborted(d, Caller{Keeper: true}, now)
	case d.Status == Waiting && (w.mayEndAlone(d) || w.calledOut(d, now)):
		return w.overtaken(d, now)
	}
	return nil
}
