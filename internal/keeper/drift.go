package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A target may hold what nobody asked for, or have lost what somebody activated:
// people change it by hand. Workers read targets now and then and report what they
// saw; what differs from what the journal says is a drift. An activation whose account
// was changed there is marked for good: what was done with it in between, nobody can
// say (Google PAM marks such grants externally modified, and so do we).
//
// Lockkeeper takes away by itself only what its own journal says that it granted and
// that should be gone. Access that others gave is never taken: somebody may depend on
// it, and who is locked out cannot mend it.

// A Drift is one difference between a target and what activations give.
type Drift struct {
	Kind       string            `json:"kind"`
	Account    string            `json:"account"`              // at the target
	Detail     string            `json:"detail,omitempty"`     // what differs
	Duty       string            `json:"duty,omitempty"`       // that answers, or answered, for it
	Activation string            `json:"activation,omitempty"` //
	User       string            `json:"user,omitempty"`       //
	Since      lockkeeper.Moment `json:"since"`                // when it was first seen
}

// The kinds of drift.
const (
	Vanished        = "vanished"         // an activation gives it, and it is not there
	Changed         = "changed"          // an activation gives it, and it is not as it was granted
	LeftOver        = "left_over"        // Lockkeeper granted it, it is over, and it is there
	AssignedOutside = "assigned_outside" // nobody asked Lockkeeper for it
)

// DriftKinds lists the kinds of drift.
func DriftKinds() []string { return []string{Vanished, Changed, LeftOver, AssignedOutside} }

// Bounds of drift.
const (
	maxDrifts   = 200             // of one provisioner that are told
	maxRepairs  = 5               // of one duty: who goes on taking it away is not outlasted
	driftMargin = 5 * time.Second // what ended so shortly before a scan may have been there when it was read
)

// A Scan is what a worker is to read: one provisioner's target.
type Scan struct {
	Provisioner string
	Terms       Terms             // of now; no kind: it is not in the catalog any more, and there is nothing to read
	Began       lockkeeper.Moment // before anything is read
	Duties      []Duty            // whose accounts the target should have, with nothing under way about them
	// Targets are the accounts that the terms name, and what a duty for each is about:
	// they are Lockkeeper's to give.
	Targets map[string]lockkeeper.Digest
}

// A Seen is one thing that a worker saw at a target and that is not as a Scan says.
type Seen struct {
	Kind    string // Vanished and Changed: of Duty; LeftOver: it bears Lockkeeper's mark; AssignedOutside
	Account string
	Detail  string
	Duty    string            // that is expected, or that the mark names
	Target  lockkeeper.Digest // of what bears the mark by its name
	Idle    bool              // it gives nothing of what the provisioner gives
}

// driftReport is what a worker saw at one target. Past are the ended duties, by the
// index of what was seen, that the journal has about what bears our mark.
type driftReport struct {
	Provisioner string
	Began       lockkeeper.Moment
	Attempts    map[string]int // of the duties then: the fence of what was seen of them
	Seen        []Seen
	Past        map[int]pastDuty
}

// A pastDuty is a duty that is over, as the journal has it.
type pastDuty struct {
	Duty  Duty
	Ended lockkeeper.Moment
}

func (driftReport) name() string    { return "drift.report" }
func (c driftReport) about() string { return driftSubject(c.Provisioner) }
func (c driftReport) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		return nil, nil, lockkeeper.Forbidden.Errorf("machine_only", "Only a worker reports what it saw.")
	}
	p, there := w.rules.Catalog.Provisioners[c.Provisioner]
	before := w.Drifted[c.Provisioner]
	ev := &driftFound{Provisioner: c.Provisioner, Action: p.OnDrift(), Revision: w.Revision.Number}
	var out []event
	if there {
		var again []event
		ev.Found = w.drifts(c, p, before, now)
		if ev.Again, again = w.mends(c, p, ev.Found, now); len(again) > 0 {
			out = again
		}
	}
	if len(ev.Again) == 0 && len(out) == 0 && slices.Equal(before, ev.Found) {
		return nil, nil, nil
	}
	return append([]event{ev}, out...), nil, nil
}

// drifts are the differences that stand up to what the journal says by now.
func (w *world) drifts(c driftReport, p catalog.Provisioner, before []Drift, now lockkeeper.Moment) []Drift {
	var out []Drift
	for i, s := range c.Seen {
		d, is := Drift{Kind: s.Kind, Account: clipped(s.Account), Detail: clipped(s.Detail), Since: now}, false
		switch s.Kind {
		case Vanished, Changed:
			is = w.lost(c, s, &d, now)
		case LeftOver:
			past, own := c.Past[i]
			is = !w.answeredFor(s) && w.leftOver(c, s, past, own, &d)
		case AssignedOutside:
			is = true
		}
		if !is || d.Kind == AssignedOutside && slices.Contains(p.Known, s.Account) {
			continue
		}
		for _, was := range before {
			if since := was.Since; was.same(d) {
				d.Since = since
			}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Drift) int {
		return cmp.Or(cmp.Compare(slices.Index(DriftKinds(), a.Kind), slices.Index(DriftKinds(), b.Kind)), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Duty, b.Duty))
	})
	out = slices.CompactFunc(out, Drift.same)
	return out[:min(len(out), maxDrifts)]
}

func (d Drift) same(o Drift) bool {
	return d.Kind == o.Kind && d.Account == o.Account && d.Duty == o.Duty
}

// lost fills in what is known of an account that is not as it was granted, and reports
// whether it should be: nothing was done about its duty since the scan began.
func (w *world) lost(c driftReport, s Seen, d *Drift, now lockkeeper.Moment) bool {
	duty := w.Duties[s.Duty]
	attempt, listed := c.Attempts[s.Duty]
	if duty == nil || !listed || duty.Attempt != attempt || duty.Status != DutyGranted || duty.Provisioner != c.Provisioner || w.finished(duty, now) {
		return false
	}
	d.Account, d.Duty, d.Activation, d.User = duty.Account, duty.ID, duty.Activation, duty.User
	return true
}

// answeredFor reports whether a duty that is not over answers for what was seen.
func (w *world) answeredFor(s Seen) bool {
	if w.Duties[s.Duty] != nil {
		return true
	}
	for _, d := range w.Duties {
		if s.Target != "" && d.Target == s.Target {
			return true
		}
	}
	return false
}

// leftOver tells what Lockkeeper granted by its own journal from what only looks so:
// another Lockkeeper's, or of a time that this journal does not know. That is somebody
// else's for us.
func (w *world) leftOver(c driftReport, s Seen, past pastDuty, own bool, d *Drift) bool {
	if !own {
		d.Kind = AssignedOutside
		d.Detail = "It bears Lockkeeper's mark, and this journal knows nothing of it."
		return !s.Idle
	}
	d.Account, d.Duty, d.Activation, d.User = past.Duty.Account, past.Duty.ID, past.Duty.Activation, past.Duty.User
	return past.Ended.Add(driftMargin).Before(c.Began)
}

// mends are what the provisioner says is to be done about drifts: duties that are
// granted again, and events for what ends or is taken away.
func (w *world) mends(c driftReport, p catalog.Provisioner, found []Drift, now lockkeeper.Moment) (again []string, out []event) {
	targets, over, gone := map[lockkeeper.Digest]bool{}, map[string]bool{}, map[string]bool{}
	open := len(w.Duties)
	for _, d := range found {
		switch lost := d.Kind == Vanished || d.Kind == Changed; {
		case lost && p.OnDrift() == catalog.RepairDrift:
			if duty := w.Duties[d.Duty]; duty.Repaired < maxRepairs && !targets[duty.Target] {
				targets[duty.Target] = true // one account, one attempt
				again = append(again, d.Duty)
			}
		case lost && p.OnDrift() == catalog.RevokeDrift && !over[d.Activation]:
			out = append(out, w.endChanged(d, now, gone, over)...)
		case d.Kind == LeftOver && p.OnDrift() != catalog.AlertDrift && open < maxDuties:
			for _, past := range c.Past {
				if past.Duty.ID == d.Duty {
					open++
					out = append(out, w.reopen(past.Duty))
					break
				}
			}
		}
	}
	return again, out
}

// endChanged ends an activation whose account was changed at the target, as somebody
// who revokes it would.
func (w *world) endChanged(d Drift, now lockkeeper.Moment, gone, over map[string]bool) []event {
	a := w.Activations[d.Activation]
	over[d.Activation] = true
	by, why := Caller{Keeper: true}, fmt.Sprintf("The account %s at %s was changed there, past Lockkeeper.", d.Account, d.provisioner(w))
	out := []event{w.residue(&activationEnded{ID: a.ID, Holder: a.User, Status: activationRevoked, Reason: why, Deployments: w.votedUnder(a.ID), Revision: w.Revision.Number}, now)}
	out = append(out, w.fallen(a.ID, by, why, now, gone)...)
	out = append(out, w.fallenRun(a, by, why, now, gone)...)
	return append(out, w.begunUnder(a.ID, by, why, now, gone, over)...)
}

func (d Drift) provisioner(w *world) string { return w.Duties[d.Duty].Provisioner }

// reopen takes a duty anew that was over: what it is about is there again, or still.
func (w *world) reopen(d Duty) event {
	d.Status, d.Verb, d.Maybe, d.Settled, d.Failures, d.Code = DutyOwed, "", 1, false, 0, ""
	d.Until, d.Unsettled, d.Retry = lockkeeper.Moment{}, lockkeeper.Moment{}, lockkeeper.Moment{}
	d.Reason, d.Attested = "It was found at the target after it was over.", nil
	return &dutyReopened{Duty: d, Revision: w.Revision.Number}
}

// driftFound says what a target holds and nothing gives, and what it has lost. It is
// written when that differs from what was written before; an empty one says that
// nothing differs any more.
type driftFound struct {
	one
	Provisioner string   `json:"provisioner"`
	Action      string   `json:"action"`          // what the provisioner says is to be done
	Found       []Drift  `json:"found,omitempty"` // all of it
	Again       []string `json:"again,omitempty"` // duties that are granted again
	Revision    int      `json:"revision"`
}

func driftSubject(provisioner string) string { return "drift/" + provisioner }

const driftAbout = "drift"

func (*driftFound) kind() string { return "drift.found" }
func (ev *driftFound) subjects() []string {
	out := []string{driftSubject(ev.Provisioner), driftAbout}
	for _, d := range ev.Found {
		if d.Duty != "" {
			out = append(out, dutySubject(d.Duty))
		}
		if d.Activation != "" {
			out = append(out, activationSubject(d.Activation), "user/"+d.User)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
func (ev *driftFound) apply(s *State, e Entry) error {
	if delete(s.Drifted, ev.Provisioner); len(ev.Found) > 0 {
		s.Drifted[ev.Provisioner] = slices.Clone(ev.Found)
	}
	for _, d := range ev.Found {
		if a := s.Activations[d.Activation]; a != nil && (d.Kind == Vanished || d.Kind == Changed) && a.Modified.IsZero() {
			marked := *a // readers may hold the old one
			marked.Modified = e.Time
			s.Activations[a.ID] = &marked
		}
	}
	for _, id := range ev.Again {
		if err := s.onDuty(id, func(d *Duty) {
			d.well()
			d.Status = DutyTaken
			d.Repaired++
		}); err != nil {
			return err
		}
	}
	return nil
}

// dutyReopened takes a duty anew that was over, before anything is done about what was
// found.
type dutyReopened struct {
	one
	Duty     Duty `json:"duty"`
	Revision int  `json:"revision"`
}

func (*dutyReopened) kind() string { return "duty.reopened" }
func (ev *dutyReopened) subjects() []string {
	return []string{dutySubject(ev.Duty.ID), activationSubject(ev.Duty.Activation), "user/" + ev.Duty.User, dutiesAbout}
}
func (ev *dutyReopened) apply(s *State, e Entry) error {
	if s.Duties[ev.Duty.ID] != nil {
		return fmt.Errorf("the duty %s is there already", ev.Duty.ID)
	}
	d := ev.Duty
	d.Over = e.Time
	s.Duties[d.ID] = &d
	return nil
}

// scans lists what is to be read now, by name.
func (w *world) scans(now lockkeeper.Moment) []Scan {
	var out []Scan
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Provisioners)) {
		p := w.rules.Catalog.Provisioners[name]
		if p.SSH != nil {
			continue // nothing is done at a host, so that nothing can be seen there
		}
		s := Scan{Provisioner: name, Terms: p, Began: now, Targets: map[string]lockkeeper.Digest{}}
		if p.Azure != nil {
			for _, a := range p.Azure.Principals {
				d := Duty{Provisioner: name, Terms: p, Account: a.ID}
				s.Targets[a.ID] = d.target()
			}
		}
		out = append(out, s)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Drifted)) {
		if _, there := w.rules.Catalog.Provisioners[name]; !there {
			out = append(out, Scan{Provisioner: name, Began: now})
		}
	}
	for i := range out {
		out[i].Duties = w.settledAt(out[i].Provisioner, now)
	}
	return out
}

// settledAt are the duties whose accounts the target of a provisioner should have.
func (w *world) settledAt(provisioner string, now lockkeeper.Moment) []Duty {
	var out []Duty
	for _, d := range w.Duties {
		if d.Provisioner == provisioner && d.Status == DutyGranted && d.settled(now) && !w.finished(d, now) {
			out = append(out, *d.clone())
		}
	}
	slices.SortFunc(out, func(a, b Duty) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// outside are the alerts about what targets hold past Lockkeeper, and have lost.
func (w *watch) outside() {
	for _, name := range slices.Sorted(maps.Keys(w.drifted)) {
		p := w.c.Provisioners[name]
		for _, d := range w.drifted[name] {
			a := Alert{Subject: "provisioner " + name, Evidence: []string{fmt.Sprintf("seen since %s", d.Since)}}
			if d.Detail != "" {
				a.Evidence = append(a.Evidence, d.Detail)
			}
			switch d.Kind {
			case AssignedOutside:
				a.Kind, a.Sentence = "assigned_outside", fmt.Sprintf("%s holds at the target of %s what the provisioner gives, and no activation gives it.", d.Account, name)
				a.Next = "Take it away at the target, and let its holder be eligible for " + p.Role + "; or, if it is right, list it under known of the provisioner."
			case LeftOver:
				a.Kind, a.Sentence = "left_over", fmt.Sprintf("The account %s at %s is there, though the activation %s of %s is over.", d.Account, name, d.Activation, d.User)
				a.Next = "Take it away at the target, or let Lockkeeper do it: drift: repair or drift: revoke of the provisioner."
			default:
				a.Kind, a.Sentence = "changed_outside", fmt.Sprintf("The account %s at %s of the activation %s of %s was changed or taken away there, past Lockkeeper.", d.Account, name, d.Activation, d.User)
				a.Next = "Find out who did that and why; end the activation: lockkeeper activations end " + d.Activation
			}
			w.add(a)
		}
	}
}
