package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Cut is what opening or extending an incident ended, and what it could not end.
type Cut struct {
	ID          string            `json:"id"`
	Revoked     []string          `json:"revoked"`     // deployments that ran
	Ended       []string          `json:"ended"`       // deployments that waited
	Sessions    int               `json:"sessions"`    // that ended
	Activations []string          `json:"activations"` // that ended
	Requests    []string          `json:"requests"`    // to activate a role, that were closed
	Voided      []string          `json:"voided"`      // deployments and requests that lost approvals
	Outside     []Residue         `json:"outside"`     // tokens that live on, and leases that an incident of the mode best-effort lets end
	OutsideTill lockkeeper.Moment `json:"outside_till,omitzero"`
}

// cut ends what an incident stops, and says what it cannot end. It is decided on the
// world in which the incident is open.
func (w *world) cut(i *Incident, by Caller, now lockkeeper.Moment) ([]event, Cut) {
	then := w.supposing(*i)
	out := Cut{ID: i.ID, Revoked: []string{}, Ended: []string{}, Activations: []string{}, Requests: []string{}, Voided: []string{}, Outside: []Residue{}}
	reason := fmt.Sprintf("The incident %s: %s", i.ID, i.Title)
	events := then.cutAccess(i, by, reason, now, &out)
	events = append(events, then.cutDeployments(w, i, by, reason, now, &out)...)
	for _, r := range w.Outside {
		if now.Before(r.Till) && then.stopsOutside(i, r) {
			out.Outside = append(out.Outside, r)
		}
	}
	out.Outside = append(out.Outside, then.tokensOutside(now)...)
	for _, id := range slices.Sorted(maps.Keys(w.PersonTokens)) { // closing brings nothing back
		if t := w.PersonTokens[id]; then.tokenStopped(t, now) {
			events = append(events, &tokenRecalled{Token: *t, By: by.User, Revision: w.Revision.Number})
		}
	}
	for _, r := range i.Outside { // told before, when it was extended
		same := func(o Residue) bool {
			return o.Deployment == r.Deployment && o.User == r.User && (r.User == "" || o.Project == r.Project && o.Identity == r.Identity && o.Provisioner == r.Provisioner)
		}
		if now.Before(r.Till) && !r.Running && !slices.ContainsFunc(out.Outside, same) {
			out.Outside = append(out.Outside, r)
		}
	}
	slices.SortFunc(out.Outside, func(a, b Residue) int {
		return cmp.Or(b.Till.Time().Compare(a.Till.Time()), cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.User, b.User), cmp.Compare(a.Identity, b.Identity))
	})
	if len(out.Outside) > 0 {
		out.OutsideTill = out.Outside[0].Till
	}
	i.Outside, i.OutsideTill = out.Outside[:min(len(out.Outside), maxOutside)], out.OutsideTill
	return events, out
}

// stopsOutside reports whether a residue is of what the incident stops.
func (w *world) stopsOutside(i *Incident, r Residue) bool {
	at := place{project: r.Project, pipeline: r.Pipeline, identity: r.Identity, provider: r.Provider, persons: r.Persons,
		scopes: []lockkeeper.Scope{lockkeeper.EnvironmentScope(r.Project, r.Environment), lockkeeper.PipelineScope(r.Project, r.Pipeline), lockkeeper.IdentityScope(r.Project, r.Identity)}}
	return slices.ContainsFunc(i.Freeze, func(s lockkeeper.Scope) bool { return slices.ContainsFunc(at.scopes, s.Contains) }) ||
		slices.ContainsFunc(i.Quarantine, func(q Quarantine) bool { return w.stops(q, at) })
}

// cutAccess ends what quarantined persons have: sessions, activations, requests.
func (w *world) cutAccess(i *Incident, by Caller, reason string, now lockkeeper.Moment, out *Cut) []event {
	var events []event
	for _, id := range slices.Sorted(maps.Keys(w.Sessions)) {
		if s := w.Sessions[id]; w.quarantined(s.User) != nil {
			events = append(events, &sessionEnded{ID: id, User: s.User, EndedBy: by.User})
			out.Sessions++
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Activations)) {
		if a := w.Activations[id]; w.quarantined(a.User) != nil || w.eased(true).runStopped(a.Run) || w.eased(a.Run != nil).lockedPersons(a.Approvers) != nil {
			events = append(events, w.residue(&activationEnded{ID: id, Holder: a.User, Status: activationQuarantined, By: by.User, Reason: reason, Revision: w.Revision.Number}, now))
			out.Activations = append(out.Activations, id)
			w.drop(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Requests)) {
		r := w.Requests[id]
		if w.quarantined(r.User) != nil || w.lockedPersons(r.Persons) != nil || w.runStopped(r.Run) {
			events = append(events, &requestClosed{ID: id, Status: requestQuarantined, User: by.User, Reason: reason, Revision: w.Revision.Number})
			out.Requests = append(out.Requests, id)
		} else if users := w.void(r.Votes, nil); len(users) > 0 {
			events = append(events, &approvalsVoided{Incident: i.ID, Request: id, Users: users, Revision: w.Revision.Number})
			out.Voided = append(out.Voided, id)
		}
	}
	for _, id := range w.proposalIDs() {
		if p := w.Proposals[id]; w.quarantined(p.User) != nil || w.lockedPersons(p.Persons) != nil {
			events = append(events, &proposalClosed{ID: id, Status: requestQuarantined, User: by.User, Reason: reason, Revision: w.Revision.Number})
		}
	}
	return events
}

// drop takes an activation out of a world that is supposed.
func (w *world) drop(id string) {
	w.Activations = maps.Clone(w.Activations)
	delete(w.Activations, id)
}

// runStopped reports whether an incident stops the run that a request or an
// activation is for.
func (w *world) runStopped(run *Run) bool {
	if run == nil {
		return false
	}
	return w.admits(catalog.Pipeline{Project: run.Project, Name: run.Pipeline}, run.Provider, run.Initiators) != nil
}

// tokensOutside are the tokens of persons that are stopped and that a target which
// does not ask may still take.
func (w *world) tokensOutside(now lockkeeper.Moment) []Residue {
	found := map[[2]string]*Residue{}
	for _, id := range slices.Sorted(maps.Keys(w.PersonTokens)) {
		t := w.PersonTokens[id]
		i := w.rules.Catalog.Identities[t.Identity]
		if !w.tokenStopped(t, now) {
			continue
		}
		key := [2]string{t.User, string(t.Identity)}
		r := found[key]
		if r == nil {
			r = &Residue{User: t.User, Project: i.Project, Environment: i.Environment, Identity: i.Name, Persons: w.persons(t.User)}
			found[key] = r
		}
		if r.Tokens++; r.Till.Before(t.Expires) {
			r.Till = t.Expires
		}
	}
	var out []Residue
	for _, id := range slices.Sorted(maps.Keys(w.Duties)) { // certificates
		if d := w.Duties[id]; now.Before(d.Outside) && w.quarantined(d.User) != nil {
			out = append(out, Residue{User: d.User, Project: d.Terms.Scope.Project(), Environment: d.Terms.Scope.Environment(), Provisioner: d.Provisioner, Tokens: d.Credentials, Till: d.Outside, Persons: w.persons(d.User)})
		}
	}
	for _, r := range found {
		out = append(out, *r)
	}
	return out
}

// tokenStopped reports whether a person's token that may be taken still is of what is
// stopped.
func (w *world) tokenStopped(t *PersonToken, now lockkeeper.Moment) bool {
	i := w.rules.Catalog.Identities[t.Identity]
	return now.Before(t.Expires) && !t.Revoked && (w.quarantined(t.User) != nil || len(w.locks(w.placeOfToken(t.User, t.Identity, i))) > 0)
}

// void are the users of votes and handed-over places who are quarantined.
func (w *world) void(votes []Vote, delegated []Delegation) []string {
	var users []string
	for _, v := range votes {
		if w.quarantined(v.User) != nil || w.lockedPersons(v.Persons) != nil {
			users = append(users, v.User)
		}
	}
	for _, d := range delegated {
		for _, u := range []string{d.From, d.To} {
			if w.quarantined(u) != nil {
				users = append(users, u)
			}
		}
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// cutDeployments ends what waits and, under a strict incident, takes the leases of
// what runs: of what is stopped itself, and of what does not stand without the votes
// of whoever is quarantined.
func (w *world) cutDeployments(before *world, i *Incident, by Caller, reason string, now lockkeeper.Moment, out *Cut) []event {
	var events []event
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		d := w.Deployments[id]
		runs := d.Status == Running
		seen := w.eased(runs)
		locks := seen.locks(seen.placeOf(d))
		if users := seen.void(d.allVotes(), d.Delegated); len(users) > 0 && len(locks) == 0 {
			ev := &approvalsVoided{Incident: i.ID, Deployment: id, Users: users, Revision: w.Revision.Number}
			events, out.Voided = append(events, ev), append(out.Voided, id)
			d = d.clone()
			ev.on(d)
			if runs && !w.overdue(d, now) && !seen.stands(d, now) {
				locks = []lockkeeper.Decision{locked(i, "quarantined", "It does not stand without the approvals of whoever is quarantined.")}
			}
		}
		if runs && len(locks) == 0 && !w.overdue(d, now) && slices.ContainsFunc(out.Activations, func(id string) bool { a := before.Activations[id]; return a.Run != nil && a.Run.of(d) }) && !seen.stands(d, now) {
			locks = []lockkeeper.Decision{locked(i, "quarantined", "It does not stand without what its job had activated.")}
		}
		switch {
		case len(locks) > 0 && runs:
			end := w.revoked(d, by, reason, now)
			end.Decision = lockkeeper.All("incident "+i.ID, "", locks...)
			events, out.Revoked = append(events, end), append(out.Revoked, id)
		case len(locks) > 0:
			end := &deploymentEnded{ID: id, End: End{Status: Cancelled, At: now, Reason: reason, By: by.String()}, Digest: d.Digest, Revision: w.Revision.Number}
			end.Decision = lockkeeper.All("incident "+i.ID, "", locks...)
			events, out.Ended = append(events, end), append(out.Ended, id)
		}
		if r, is := w.outsideOf(i, d, len(locks) == 0, now); is {
			out.Outside = append(out.Outside, r)
		}
	}
	return events
}

// stands reports whether what let a deployment through stands still.
func (w *world) stands(d *Deployment, now lockkeeper.Moment) bool {
	facts, err := w.facts(d, now)
	return err == nil && w.standing(d, facts, now).Passed(now)
}

// outsideOf is what of a deployment may live on though the incident is about it.
func (w *world) outsideOf(i *Incident, d *Deployment, goesOn bool, now lockkeeper.Moment) (Residue, bool) {
	r := residueOf(d)
	r.Tokens, r.Till = d.residue(now)
	if goesOn && d.leaseLive(now) && len(w.locks(w.placeOf(d))) > 0 { // the mode best-effort lets it end
		r.Running, r.Till = true, d.Lease.Ends
		if r.Till.Before(d.Lease.Limit) {
			r.Till = d.Lease.Limit
		}
	} else if goesOn {
		return r, false
	}
	return r, r.Running || r.Tokens > 0
}
