package keeper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// An override waives named soft checks of one ask. It is a request of its own, which
// several persons approve of whom none stands behind the run; it is part of its
// deployment and ends with it. What it waives is looked at afterwards: the review
// opens in the decision that grants it, and everybody whom it concerns is told before.

// An Override of a deployment's soft checks.
type Override struct {
	ID       string              `json:"id"`
	User     string              `json:"user"` // who asked
	Persons  []lockkeeper.Person `json:"persons"`
	Waives   []string            `json:"waives"` // names of checks, and freeze:NAME
	Reason   string              `json:"reason"`
	Incident string              `json:"incident"` // what it is for, elsewhere: INC-4711
	// Digest binds what approvers approve: the ask, what is waived, why, for whom, and
	// the rules that were in force.
	Digest   lockkeeper.Digest `json:"digest"`
	Terms    lockkeeper.Digest `json:"terms"`            // of the environment and the waived freezes, as the catalog had them
	Revision int               `json:"catalog_revision"` // at the request
	Opened   lockkeeper.Moment `json:"opened"`
	Deadline lockkeeper.Moment `json:"deadline"`
	Votes    []Vote            `json:"votes,omitempty"`
	Granted  lockkeeper.Moment `json:"granted,omitzero"`
	Ends     lockkeeper.Moment `json:"ends,omitzero"`    // of what it waives
	Review   string            `json:"review,omitempty"` // that is owed for it
	Closed   string            `json:"closed,omitempty"` // denied, withdrawn or ended
	ClosedBy string            `json:"closed_by,omitempty"`
}

// How an override is closed.
const (
	overrideDenied    = "denied"
	overrideWithdrawn = "withdrawn"
	overrideOver      = "ended"
)

// OverrideStatus says where an override stands at now.
func (o Override) Status(now lockkeeper.Moment) string {
	switch {
	case o.Closed != "":
		return o.Closed
	case !o.Granted.IsZero() && now.Before(o.Ends):
		return "granted"
	case !o.Granted.IsZero():
		return overrideOver
	case !now.Before(o.Deadline):
		return "timed_out"
	}
	return "waiting"
}

// Bounds of overrides.
const (
	maxOverrides = 5   // of one deployment
	maxWaived    = 20  // checks of one of them
	maxIncident  = 200 // bytes of the reference
)

const aboutOverride = "override" // of reviews and notices

func overrideSubject(id string) string { return "override/" + id }

// overrideBudget is what the budget of an environment's overrides is kept by: no role
// of a rule has a colon.
func overrideBudget(scope lockkeeper.Scope) string { return "override: " + string(scope) }

// overrideRequested asks to waive checks.
type overrideRequested struct {
	one
	Deployment string              `json:"deployment"`
	Override   Override            `json:"override"`
	Right      lockkeeper.Decision `json:"right"`
	Revision   int                 `json:"revision"`
}

func (*overrideRequested) kind() string { return "override.requested" }
func (ev *overrideRequested) subjects() []string {
	return []string{overrideSubject(ev.Override.ID), "overrides", deploymentSubject(ev.Deployment), "user/" + ev.Override.User}
}
func (ev *overrideRequested) apply(s *State, e Entry) error {
	return s.onDeployment(ev.Deployment, func(d *Deployment) { ev.on(d, e) })
}
func (ev *overrideRequested) on(d *Deployment, e Entry) {
	o := ev.Override
	o.Opened = e.Time
	d.Overrides = append(d.Overrides, o)
}

// overrideApproved is one person's approval.
type overrideApproved struct {
	one
	Deployment string `json:"deployment"`
	ID         string `json:"id"`
	Vote       Vote   `json:"vote"`
	Revision   int    `json:"revision"`
}

func (*overrideApproved) kind() string { return "override.approved" }
func (ev *overrideApproved) subjects() []string {
	return []string{overrideSubject(ev.ID), "overrides", deploymentSubject(ev.Deployment), "user/" + ev.Vote.User}
}
func (ev *overrideApproved) apply(s *State, e Entry) error {
	return s.onDeployment(ev.Deployment, func(d *Deployment) { ev.on(d, e) })
}
func (ev *overrideApproved) on(d *Deployment, e Entry) {
	d.onOverride(ev.ID, func(o *Override) {
		v := ev.Vote
		v.At, v.Seq = e.Time, e.Seq
		o.Votes = append(o.Votes, v)
	})
}

// overrideGranted is where it begins to waive. The notice of it and the review that it
// opens stand in the same decision.
type overrideGranted struct {
	one
	Deployment string              `json:"deployment"`
	ID         string              `json:"id"`
	Ends       lockkeeper.Moment   `json:"ends"`
	Review     string              `json:"review"`
	Decision   lockkeeper.Decision `json:"decision"`
	Revision   int                 `json:"revision"`
}

func (*overrideGranted) kind() string { return "override.granted" }
func (ev *overrideGranted) subjects() []string {
	return []string{overrideSubject(ev.ID), "overrides", deploymentSubject(ev.Deployment), reviewSubject(ev.Review)}
}
func (ev *overrideGranted) apply(s *State, e Entry) error {
	return s.onDeployment(ev.Deployment, func(d *Deployment) { ev.on(d, e) })
}
func (ev *overrideGranted) on(d *Deployment, e Entry) {
	d.onOverride(ev.ID, func(o *Override) { o.Granted, o.Ends, o.Review = e.Time, ev.Ends, ev.Review })
}

// overrideClosed ends an override: denied, withdrawn, or before its time.
type overrideClosed struct {
	one
	Deployment string              `json:"deployment"`
	ID         string              `json:"id"`
	Status     string              `json:"status"`
	User       string              `json:"user"`
	Reason     string              `json:"reason,omitempty"`
	Right      lockkeeper.Decision `json:"right,omitzero"`
	Revision   int                 `json:"revision"`
}

func (*overrideClosed) kind() string { return "override.closed" }
func (ev *overrideClosed) subjects() []string {
	return []string{overrideSubject(ev.ID), "overrides", deploymentSubject(ev.Deployment), "user/" + ev.User}
}
func (ev *overrideClosed) apply(s *State, _ Entry) error { return s.onDeployment(ev.Deployment, ev.on) }
func (ev *overrideClosed) on(d *Deployment) {
	d.onOverride(ev.ID, func(o *Override) { o.Closed, o.ClosedBy = ev.Status, ev.User })
}

func (d *Deployment) onOverride(id string, change func(*Override)) {
	for i := range d.Overrides {
		if d.Overrides[i].ID == id {
			change(&d.Overrides[i])
		}
	}
}

// allVotes are the votes on a deployment and on its overrides.
func (d *Deployment) allVotes() []Vote {
	out := slices.Clip(d.Votes)
	for _, o := range d.Overrides {
		out = append(out, o.Votes...)
	}
	return out
}

// dropVotes takes the votes that are meant from every override.
func (d *Deployment) dropVotes(meant func(Vote) bool) {
	for i := range d.Overrides {
		o := &d.Overrides[i]
		o.Votes = slices.DeleteFunc(slices.Clone(o.Votes), meant)
	}
}

func cloneOverrides(list []Override) []Override {
	out := slices.Clone(list)
	for i := range out {
		out[i].Votes = slices.Clone(out[i].Votes)
	}
	return out
}

// overrideTerms is the digest of the rules that an override rests on: another
// environment or another freeze, and it counts no more.
func (w *world) overrideTerms(a lockkeeper.Ask, waives []string) lockkeeper.Digest {
	c := w.rules.ofCatalog()
	list := []lockkeeper.Digest{}
	add := func(k catalog.Key) {
		d, _ := c.Has(k)
		list = append(list, d.Digest)
	}
	add(catalog.Key{Kind: catalog.EnvironmentKind, Project: a.Project, Name: a.Environment})
	for _, name := range waives {
		for n := range c.Freezes {
			if gate.FreezeCheck(n) == name {
				add(catalog.Key{Kind: catalog.FreezeKind, Name: n})
			}
		}
	}
	return lockkeeper.DigestOf([]byte(fmt.Sprint(list)))
}

// overrideDigest is what an approval of an override is for.
func (o Override) overrideDigest(ask lockkeeper.Digest) (lockkeeper.Digest, error) {
	b, err := marshal(struct {
		Domain   string            `json:"domain"`
		ID       string            `json:"id"`
		Ask      lockkeeper.Digest `json:"ask"`
		User     string            `json:"user"`
		Waives   []string          `json:"waives"`
		Reason   string            `json:"reason"`
		Incident string            `json:"incident"`
		Terms    lockkeeper.Digest `json:"terms"`
	}{"lockkeeper.override.v1", o.ID, ask, o.User, o.Waives, o.Reason, o.Incident, o.Terms})
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(b), nil
}

// overrideFacts are the facts of a deployment's gate as the approvals of an override
// are judged on them: its own persons and groups, and whoever asked for it excluded
// beside whoever stands behind the run.
func (w *world) overrideFacts(d *Deployment, f gate.Facts, o Override, now lockkeeper.Moment) gate.Facts {
	f.About, f.Overrides, f.Opened = "overrides of "+f.Environment.Name, nil, o.Opened
	rule := f.Environment.Override
	f.Environment.Checks = nil
	if rule != nil {
		f.Environment.Checks = []catalog.Check{rule.Approval()}
	}
	f.Initiators = append(slices.Clip(f.Initiators), gate.Initiator{User: o.User, Persons: w.everybody(o.User, o.Persons)})
	own := *d
	own.Delegated = nil // a place in an override is handed over to nobody
	f.Votes = nil
	for _, v := range o.Votes {
		if v.Approve && v.Digest == o.Digest {
			f.Votes = append(f.Votes, w.ballot(&own, f, v, now))
		}
	}
	return f
}

// overrides are those of a deployment that count at now: granted, in their time, for
// this ask, under the rules that they were asked for under (up to the release), and
// by persons who could approve them still. It is judged anew at each token.
func (w *world) overrides(d *Deployment, f gate.Facts, now lockkeeper.Moment) []gate.Override {
	var out []gate.Override
	for _, o := range d.Overrides {
		if o.Status(now) != "granted" || f.Environment.Override == nil || d.Lease == nil && o.Terms != w.overrideTerms(d.Ask, o.Waives) {
			continue
		}
		if digest, err := o.overrideDigest(d.Digest); err != nil || digest != o.Digest {
			continue
		}
		g := w.overrideFacts(d, f, o, now)
		if quorum := lockkeeper.All("", "", gate.Approvals(g, now)...); !quorum.Passed(now) {
			continue
		}
		granted := gate.Override{ID: o.ID, Waives: o.Waives, Reason: o.Reason, Until: o.Ends}
		for _, v := range g.Votes {
			granted.By = append(granted.By, v.User)
		}
		out = append(out, granted)
	}
	return out
}

// waivedIn reports whether a gate was passed by an override.
func waivedIn(verdict lockkeeper.Decision) bool {
	return verdict.Code == "waived" || slices.ContainsFunc(verdict.Because, waivedIn)
}

// waivedChecks are the checks that overrides waived when a deployment was let through.
func waivedChecks(d *Deployment) []string {
	var out []string
	var walk func(lockkeeper.Decision)
	walk = func(v lockkeeper.Decision) {
		if name, is := strings.CutPrefix(v.Subject, "check "); is && v.Code == "waived" && !slices.Contains(out, name) {
			out = append(out, name)
		}
		for _, b := range v.Because {
			walk(b)
		}
	}
	if len(d.Overrides) > 0 && d.Lease != nil {
		walk(d.Lease.Gate)
	}
	return out
}

// byOverride joins a verdict on what runs with whether the override that let it
// through counts still.
func (d *Deployment) byOverride(f gate.Facts, verdict lockkeeper.Decision) lockkeeper.Decision {
	if len(d.Overrides) == 0 || d.Lease == nil || !waivedIn(d.Lease.Gate) {
		return verdict
	}
	one := lockkeeper.Decision{Subject: "override", Verdict: lockkeeper.Fail, Code: "override_over", Sentence: "The override that let this through counts no more.", Next: "Start a new run and ask again."}
	for _, o := range f.Overrides {
		until := o.Until
		one = lockkeeper.Decision{Subject: "override " + o.ID, Verdict: lockkeeper.Pass, Code: "override_stands", Sentence: "The override that let this through counts still.", Until: &until}
	}
	return gate.Also(verdict, one)
}

// overrideTook remembers who approved what an override let through: they do not
// review it.
func (s *State) overrideTook(d *Deployment) {
	for _, o := range d.Overrides {
		if old := s.Reviews[o.Review]; old != nil {
			r := *old
			for _, p := range d.tookPart(o) {
				if !slices.Contains(r.Took, p) && len(r.Took) < maxTook {
					r.Took = append(slices.Clip(r.Took), p)
				}
			}
			s.Reviews[r.ID] = &r
		}
	}
}

// untilWaived is an end, or the sooner one of an override that a gate passed by: no
// lease outlasts what let it through.
func untilWaived(verdict lockkeeper.Decision, end lockkeeper.Moment) lockkeeper.Moment {
	if verdict.Code == "waived" && verdict.Until != nil {
		if verdict.Until.Before(end) {
			return *verdict.Until
		}
		return end
	}
	for _, d := range verdict.Because {
		end = untilWaived(d, end)
	}
	return end
}
