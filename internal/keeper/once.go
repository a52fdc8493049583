package keeper

import (
	"cmp"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Several jobs of one run may ask for the same thing. Where an approval says once, the
// votes that let the first through count for the others: while each is valid, its voter
// permitted, and nobody took it back. They are looked up whenever a gate is judged, so
// that what takes a vote takes it everywhere; the release writes them down as the votes
// of the deployment that they let through, where they go on being judged as any other.

// Shared are the votes that let a deployment through and may count for later ones.
type Shared struct {
	Subject    lockkeeper.Digest            `json:"subject"` // of the ask: what those have to ask for
	Deployment string                       `json:"deployment"`
	Scope      lockkeeper.Scope             `json:"scope"`   // of the environment
	Behind     []string                     `json:"behind"`  // accounts behind the run, each with its platform, sorted
	Demands    map[string]lockkeeper.Digest `json:"demands"` // by name, the digest of each check that shares
	Votes      []Vote                       `json:"votes"`   // each with what it was for and whose places it filled
	Till       lockkeeper.Moment            `json:"till"`    // when the last vote is too old
}

// maxShared bounds what votes may count for later. Past it, what ends first makes room:
// people are asked again, and nothing passes that should not.
const maxShared = 4096

// demandOf is the digest of what a check demands.
func demandOf(c catalog.Check) lockkeeper.Digest {
	b, err := lockkeeper.Canonical(c)
	if err != nil {
		return ""
	}
	return lockkeeper.DigestOf(b)
}

// sharesOnce reports whether votes on one deployment may count for another there.
func sharesOnce(env catalog.Environment) bool {
	return slices.ContainsFunc(env.Checks, func(c catalog.Check) bool { return c.Approval != nil && c.Approval.Once })
}

// demands reports whether the check of a name demands what it did.
func (o *Shared) demands(name string, checks []catalog.Check) bool {
	i := slices.IndexFunc(checks, func(c catalog.Check) bool { return c.Name == name })
	return i >= 0 && o.Demands[name] != "" && demandOf(checks[i]) == o.Demands[name]
}

func accountsOf(origins []Origin) []string {
	var out []string
	for _, o := range origins {
		out = append(out, o.Provider+" "+o.Account)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// carrying is d with the votes on earlier deployments that may count for it, as far as
// what was asked, who stands behind it and what the checks demand are concerned: they
// demand now, and demanded when d was opened, what they did when the votes let another
// one through. Once d runs it has those that let it through as its own.
func (w *world) carrying(d *Deployment, now lockkeeper.Moment) *Deployment {
	env := w.environmentOf(d)
	if d.Status != Waiting || len(w.Shared) == 0 || !sharesOnce(env) {
		return d
	}
	subject, err := d.Ask.Subject()
	o := w.Shared[subject]
	if err != nil || o == nil || o.Deployment == d.ID || !now.Before(o.Till) {
		return d
	}
	for _, account := range accountsOf(d.Initiators) {
		if !slices.Contains(o.Behind, account) {
			return d
		}
	}
	with := d.clone()
	for _, v := range o.Votes {
		v.Fills = slices.DeleteFunc(slices.Clone(v.Fills), func(name string) bool {
			return !o.demands(name, env.Checks) || !o.demands(name, d.Terms)
		})
		if len(v.Fills) > 0 {
			with.Votes = append(with.Votes, v)
		}
	}
	return with
}

// carried are the votes on earlier deployments that d is let through with.
func (w *world) carried(d *Deployment, now lockkeeper.Moment) []Vote {
	return slices.DeleteFunc(slices.Clone(w.carrying(d, now).Votes), func(v Vote) bool { return v.From == "" })
}

// shares is what of the votes that let d through counts for later ones; nil: nothing.
func (w *world) shares(d *Deployment, f gate.Facts, now lockkeeper.Moment) *Shared {
	subject, err := d.Ask.Subject()
	if err != nil || !sharesOnce(f.Environment) || d.Observed || f.Environment.Observes() {
		return nil
	}
	o := &Shared{Subject: subject, Deployment: d.ID, Scope: lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment),
		Behind: accountsOf(d.Initiators), Demands: map[string]lockkeeper.Digest{}}
	filled := gate.FilledOnce(f, now)
	for _, v := range w.carrying(d, now).approvals() {
		v.Fills = nil
		for _, p := range filled {
			if p.User == v.User && p.At == v.At {
				v.Fills = append(v.Fills, p.Check)
			}
		}
		if len(v.Fills) == 0 {
			continue
		}
		v.From = cmp.Or(v.From, d.ID)
		o.Votes = append(o.Votes, v)
		if till := v.At.Add(f.Environment.PatienceLimit()); o.Till.Before(till) {
			o.Till = till
		}
	}
	for _, c := range f.Environment.Checks {
		if slices.ContainsFunc(filled, func(p gate.Filled) bool { return p.Check == c.Name }) {
			o.Demands[c.Name] = demandOf(c)
		}
	}
	if len(o.Votes) == 0 {
		return nil
	}
	return o
}

// share folds that votes may count for later deployments.
func (s *State) share(o *Shared, now lockkeeper.Moment) {
	if o == nil {
		return
	}
	maps.DeleteFunc(s.Shared, func(_ lockkeeper.Digest, other *Shared) bool { return !now.Before(other.Till) })
	if s.Shared[o.Subject] == nil && len(s.Shared) >= maxShared {
		first := lockkeeper.Digest("")
		for at, other := range s.Shared {
			if first == "" || cmp.Or(other.Till.Time().Compare(s.Shared[first].Till.Time()), cmp.Compare(at, first)) < 0 {
				first = at
			}
		}
		delete(s.Shared, first)
	}
	s.Shared[o.Subject] = o
}

// unshare takes votes that might have counted for later deployments.
func (s *State) unshare(takes func(Vote) bool) {
	for at, o := range s.Shared {
		if !slices.ContainsFunc(o.Votes, takes) {
			continue
		}
		less := *o
		if less.Votes = slices.DeleteFunc(slices.Clone(o.Votes), takes); len(less.Votes) == 0 {
			delete(s.Shared, at)
		} else {
			s.Shared[at] = &less
		}
	}
}

// shareEnded folds that a deployment ended. If not with success, people look again
// before another that asks for the same goes through.
func (s *State) shareEnded(d *Deployment, end Status) {
	if len(s.Shared) == 0 || end == Succeeded {
		return
	}
	if subject, err := d.Ask.Subject(); err == nil {
		delete(s.Shared, subject)
	}
}

// sharedWith are those that have a vote which the test names, in the order of their
// subjects.
func (w *world) sharedWith(test func(Vote) bool) []*Shared {
	var out []*Shared
	for _, at := range slices.Sorted(maps.Keys(w.Shared)) {
		if slices.ContainsFunc(w.Shared[at].Votes, test) {
			out = append(out, w.Shared[at])
		}
	}
	return out
}

// approvalRecalled says that a vote counts for no later deployment. What it was given
// for may have ended, and its receipt goes on saying that it had it.
type approvalRecalled struct {
	one
	ID       string            `json:"id"` // the deployment that it was withdrawn from
	User     string            `json:"user"`
	Subject  lockkeeper.Digest `json:"subject"`
	Comment  string            `json:"comment,omitempty"`
	Revision int               `json:"revision"`
}

func (*approvalRecalled) kind() string { return "approval.recalled" }
func (ev *approvalRecalled) subjects() []string {
	return []string{deploymentSubject(ev.ID), "user/" + ev.User}
}
func (ev *approvalRecalled) apply(s *State, _ Entry) error {
	if s.Shared[ev.Subject] == nil {
		return nil
	}
	only := s.Shared[ev.Subject]
	s.unshare(func(v Vote) bool {
		return v.User == ev.User && slices.ContainsFunc(only.Votes, func(o Vote) bool { return o.Seq == v.Seq })
	})
	return nil
}

// recall takes back, with a vote of the caller on one deployment, wherever the same vote
// counts: for others that wait, by what is shared; and of those that run, which is their
// own vote by now. d is nil if that deployment has ended.
func (c withdrawApproval) recall(w *world, d *Deployment, by Caller, now lockkeeper.Moment) []event {
	given := map[int64]bool{} // votes by their positions
	if d != nil {
		for _, v := range w.carrying(d, now).approvals() {
			if v.User == by.User {
				given[v.Seq] = true
			}
		}
	}
	mine := func(v Vote) bool {
		return by.User != "" && v.User == by.User && (given[v.Seq] || d == nil && v.From == c.Deployment)
	}
	var out []event
	for _, o := range w.sharedWith(mine) {
		for _, v := range o.Votes {
			given[v.Seq] = given[v.Seq] || mine(v)
		}
		out = append(out, &approvalRecalled{ID: c.Deployment, User: by.User, Subject: o.Subject, Comment: c.Comment, Revision: w.Revision.Number})
	}
	if len(out) == 0 && d == nil {
		for _, o := range w.Deployments { // nothing is shared any more, but what it let through may run
			for _, v := range o.Votes {
				given[v.Seq] = given[v.Seq] || mine(v)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		o := w.Deployments[id]
		if slices.ContainsFunc(o.approvals(), func(v Vote) bool { return v.User == by.User && given[v.Seq] }) {
			out = append(out, c.takes(w, o, by, now)...)
		}
	}
	return out
}
