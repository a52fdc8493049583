package keeper

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// Somebody whom his directory switched off loses, in the same decision, all that is
// open in his name: sign-ins, requests, activations, votes, and the leases that do
// not stand without them. None of it comes back with him.

// votesTaken takes the votes of somebody who is off, and the places that he handed
// over or was handed. None of it comes back with him.
type votesTaken struct {
	one
	User        string   `json:"user"`
	Reason      string   `json:"reason"`
	Deployments []string `json:"deployments,omitempty"`
	Requests    []string `json:"requests,omitempty"`
	Duties      []string `json:"duties,omitempty"` // on which he gave his word
	Revision    int      `json:"revision"`
}

func (*votesTaken) kind() string { return "votes.taken" }
func (ev *votesTaken) subjects() []string {
	out := append([]string{"user/" + ev.User}, deploymentSubjects(ev.Deployments)...)
	for _, id := range ev.Requests {
		out = append(out, requestSubject(id))
	}
	for _, id := range ev.Duties {
		out = append(out, dutySubject(id))
	}
	return out
}
func (ev *votesTaken) apply(s *State, _ Entry) error {
	for _, id := range ev.Deployments {
		if d := s.Deployments[id]; d != nil {
			d.without(ev.User)
		}
	}
	s.unshare(func(v Vote) bool { return v.User == ev.User })
	for _, id := range ev.Requests {
		if r := s.Requests[id]; r != nil {
			r.Votes = slices.DeleteFunc(r.Votes, func(v Vote) bool { return v.User == ev.User })
		}
	}
	for _, id := range ev.Duties {
		if d := s.Duties[id]; d != nil {
			d.Attested = slices.DeleteFunc(slices.Clone(d.Attested), func(a Attestation) bool { return a.User == ev.User })
		}
	}
	return nil
}

// without takes a user's votes and delegations from a deployment.
func (d *Deployment) without(user string) {
	d.Votes = slices.DeleteFunc(d.Votes, func(v Vote) bool { return v.User == user })
	d.dropVotes(func(v Vote) bool { return v.User == user })
	d.Delegated = slices.DeleteFunc(d.Delegated, func(o Delegation) bool { return o.From == user || o.To == user })
}

// uninvite takes back the invitations that a user made and what he was asked.
func (s *State) uninvite(user string) {
	for _, a := range s.Accounts {
		if a.Invitation != nil && (a.Invitation.By == user || a.User == user) {
			a.Invitation = nil
		}
	}
	if a := s.Accounts[user]; a != nil {
		a.Challenge = nil
	}
}

// open reports whether anything is open in a user's name. It may be, of one who is
// off, if the catalog did not let the directory write for a while.
func (w *world) open(user string) bool {
	for _, s := range w.Sessions {
		if s.User == user {
			return true
		}
	}
	return len(w.departs(Caller{}, user, "", w.rules, w.Now)) > 0
}

// departs takes from somebody who is off under the next rules all that is open in
// his name: what he asks for, what he has activated, his votes and the places that
// he handed over, and the leases that do not stand without them. It does not come
// back with him.
func (w *world) departs(by Caller, user, reason string, next *Rules, now lockkeeper.Moment) []event {
	var out []event
	taken, his := &votesTaken{User: user, Reason: reason, Revision: w.Revision.Number}, func(v Vote) bool { return v.User == user }
	for _, id := range slices.Sorted(maps.Keys(w.Requests)) {
		if r := w.Requests[id]; r.User == user {
			out = append(out, &requestClosed{ID: id, Status: requestVoid, Reason: reason, Revision: w.Revision.Number})
		} else if slices.ContainsFunc(r.Votes, his) {
			taken.Requests = append(taken.Requests, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Duties)) {
		if slices.ContainsFunc(w.Duties[id].Attested, func(a Attestation) bool { return a.User == user }) {
			taken.Duties = append(taken.Duties, id)
		}
	}
	after, fallen := world{State: w.State, rules: next}, []event{}
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		d := w.Deployments[id]
		voted := slices.ContainsFunc(d.allVotes(), his) || slices.ContainsFunc(d.Delegated, func(o Delegation) bool { return o.From == user || o.To == user })
		if voted {
			taken.Deployments = append(taken.Deployments, id)
		}
		if d.Status == Running && !w.overdue(d, now) && (voted || w.began(d, user)) {
			fallen = append(fallen, after.standsWithout(d, by, user, reason, now)...)
		}
	}
	if len(taken.Requests)+len(taken.Deployments)+len(taken.Duties) > 0 || len(w.sharedWith(his)) > 0 {
		out = append(out, taken)
	}
	for _, id := range slices.Sorted(maps.Keys(w.Activations)) {
		if a := w.Activations[id]; a.User == user {
			out = append(out, w.residue(&activationEnded{ID: id, Holder: user, Status: activationRevoked, By: by.String(), Reason: reason, Revision: w.Revision.Number}, now))
		}
	}
	return append(append(out, w.recalls(by, user, reason, now)...), fallen...)
}

// recalls takes a user's tokens away, and what he proposed.
func (w *world) recalls(by Caller, user, reason string, now lockkeeper.Moment) []event {
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.PersonTokens)) {
		if t := w.PersonTokens[id]; t.User == user && !t.Revoked && now.Before(t.Expires) {
			out = append(out, &tokenRecalled{Token: *t, By: by.String(), Revision: w.Revision.Number})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.PersonalTokens)) {
		if w.PersonalTokens[id].User == user {
			out = append(out, &personalEnded{ID: id, User: user, Status: personalLapsed, Reason: reason})
		}
	}
	for _, id := range w.proposalIDs() {
		if w.Proposals[id].User == user {
			out = append(out, &proposalClosed{ID: id, Status: requestVoid, Reason: reason, Revision: w.Revision.Number})
		}
	}
	return out
}

// requestVoid is how a request ends whose user is off.
const requestVoid = "void"

// began reports whether a user is behind the run of a deployment.
func (w *world) began(d *Deployment, user string) bool {
	return slices.ContainsFunc(d.Initiators, func(o Origin) bool {
		u, known := w.rules.Catalog.UserOf(o.Provider, o.Account)
		return known && u.Name == user
	})
}

// standsWithout revokes the lease of a deployment that does not stand without a user.
func (w *world) standsWithout(d *Deployment, by Caller, user, reason string, now lockkeeper.Moment) []event {
	without := d.clone()
	without.without(user)
	facts, err := w.facts(without, now)
	var standing lockkeeper.Decision // without an environment nothing stands
	if err == nil {
		if standing = w.standing(without, facts, now); standing.Passed(now) {
			return nil
		}
	}
	end := w.revoked(d, by, reason, now)
	end.Decision = standing
	return []event{end}
}
