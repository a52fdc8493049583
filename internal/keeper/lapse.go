package keeper

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// What lapsed stays lapsed, by arithmetic: a decision that changes who is in which group,
// or the catalog, ends in its own entries every activation whose holder is not eligible
// under the rules that it leaves, and every one whose holder was not before it came. So
// no eligibility that goes and comes back between two sweeps brings anything back, and
// neither does one that ran out while no sweep was.

// A lapse is why an activation ends before its time.
type lapse struct {
	why      string
	decision lockkeeper.Decision
}

// lapsed says why the holder of an activation may hold it no more; false: he may.
func (w *world) lapsed(a *Activation, now lockkeeper.Moment) (lapse, bool) {
	if w.credentialChanged(a) {
		return lapse{why: "The credential of its holder was changed."}, true
	}
	if !w.lives(a, now) {
		return lapse{}, false // what it was for has ended: that is told otherwise
	}
	e := w.eligible(a.User, a.Run, a.Role, a.Scope, now)
	return lapse{e.Sentence, e}, !e.Passed(now)
}

// lapsing are the activations that have lapsed at now, of whom the test names.
func (w *world) lapsing(concerns func(user string) bool, now lockkeeper.Moment) map[string]lapse {
	out := map[string]lapse{}
	for id, a := range w.Activations {
		if l, is := w.lapsed(a, now); concerns(a.User) && is && now.Before(a.Ends) {
			out[id] = l
		}
	}
	return out
}

// orphans are the activations that are over and under which somebody voted who is not
// eligible for them any more, nor holds the right otherwise: his votes do not come back
// with the eligibility either. The conditions of it are judged when a vote counts.
func (w *world) orphans(concerns func(user string) bool, now lockkeeper.Moment) map[string]lapse {
	out := map[string]lapse{}
	look := func(v Vote, action lockkeeper.Action, scope lockkeeper.Scope) {
		if v.Activation == "" || w.Activations[v.Activation] != nil || !concerns(v.User) || w.check(v.User, action, scope, now).Passed(now) {
			return
		}
		if e := w.rules.Access.Eligible(v.User, v.Role, scope, now); !e.Passed(now) {
			out[v.Activation] = lapse{e.Sentence, e}
		}
	}
	for _, d := range w.Deployments {
		for _, v := range d.allVotes() {
			look(v, lockkeeper.ApproveDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment))
		}
	}
	for _, o := range w.Shared {
		for _, v := range o.Votes {
			look(v, lockkeeper.ApproveDeployments, o.Scope)
		}
	}
	for _, r := range w.Requests {
		for _, v := range r.Votes {
			look(v, lockkeeper.ApproveActivations, r.Scope)
		}
	}
	return out
}

// lapse ends an activation that has lapsed, and what stands on it.
func (w *world) lapse(a *Activation, l lapse, now lockkeeper.Moment, gone, over map[string]bool) []event {
	over[a.ID] = true
	out := []event{w.residue(&activationEnded{ID: a.ID, Holder: a.User, Status: activationLapsed, Reason: l.why, Decision: l.decision, Deployments: w.votedUnder(a.ID), Revision: w.Revision.Number}, now)}
	out = append(out, w.fallen(a.ID, Caller{Keeper: true}, l.why, now, gone)...)
	out = append(out, w.fallenRun(a, Caller{Keeper: true}, l.why, now, gone)...)
	return append(out, w.begunUnder(a.ID, Caller{Keeper: true}, l.why, now, gone, over)...)
}

// lapses ends those activations that had lapsed before a decision, or have under the
// rules of now.
func (w *world) lapses(before map[string]lapse, concerns func(user string) bool, now lockkeeper.Moment) []event {
	all, orphans := w.lapsing(concerns, now), w.orphans(concerns, now)
	for id, l := range before {
		if a := w.Activations[id]; a != nil {
			all[id] = l
		} else {
			orphans[id] = l
		}
	}
	var out []event
	gone, over := map[string]bool{}, map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(orphans)) {
		out = append(out, &votesVoided{Activation: id, Reason: orphans[id].why, Deployments: w.votedUnder(id), Revision: w.Revision.Number})
		out = append(out, w.fallen(id, Caller{Keeper: true}, orphans[id].why, now, gone)...)
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if !over[id] {
			out = append(out, w.lapse(w.Activations[id], all[id], now, gone, over)...)
		}
	}
	return out
}

// relaid reports whether events change the catalog or who is in which group, and whom
// that concerns.
func relaid(events []event) (concerns func(user string) bool, is bool) {
	users, all := map[string]bool{}, false
	for _, ev := range events {
		switch said := ev.(type) {
		case *memberSaid:
			users[said.Member.User] = true
		case *catalogApplied:
			all = true
		default:
			all = all || rejoining(ev)
		}
	}
	return func(user string) bool { return all || users[user] }, all || len(users) > 0
}
