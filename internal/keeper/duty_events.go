package keeper

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// dutyTaken records the duty to undo, before anything is done outside. It is part
// of the decision that begins the activation.
type dutyTaken struct {
	one
	Duty     Duty `json:"duty"`
	Revision int  `json:"revision"`
}

func (*dutyTaken) kind() string { return "duty.taken" }
func (ev *dutyTaken) subjects() []string {
	return []string{dutySubject(ev.Duty.ID), activationSubject(ev.Duty.Activation), "user/" + ev.Duty.User, dutiesAbout}
}
func (ev *dutyTaken) apply(s *State, e Entry) error {
	if s.Duties[ev.Duty.ID] != nil {
		return fmt.Errorf("the duty %s is there already", ev.Duty.ID)
	}
	d := ev.Duty
	d.Taken = e.Time
	s.Duties[d.ID] = &d
	return nil
}

// dutyTried records that a worker sets about something, before it does.
type dutyTried struct {
	one
	ID       string            `json:"id"`
	Attempt  int               `json:"attempt"`
	Verb     string            `json:"verb"`
	Until    lockkeeper.Moment `json:"until"`             // nothing happens later
	Settled  bool              `json:"settled,omitempty"` // of a removal: no grant could still happen
	Ends     lockkeeper.Moment `json:"ends,omitzero"`     // of a grant: of the activation since, if it was made longer
	Revision int               `json:"revision"`
}

func (*dutyTried) kind() string          { return "duty.tried" }
func (ev *dutyTried) subjects() []string { return []string{dutySubject(ev.ID)} }
func (ev *dutyTried) apply(s *State, e Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		if ev.Verb == RevokeVerb {
			s.overFor(d.Target, e.Time)
		}
		d.Attempt, d.Verb, d.Until, d.Settled = ev.Attempt, ev.Verb, ev.Until, ev.Settled
		if ev.Verb == GrantVerb {
			d.Maybe++
			d.Status, d.Unsettled = DutyTaken, ev.Until
			d.Ends = latest(d.Ends, ev.Ends)
		}
	})
}

// overFor makes all duties about an account over for good: a removal is set about
// only when none of them holds, and what the rules say afterwards brings nothing
// back.
func (s *State) overFor(target lockkeeper.Digest, at lockkeeper.Moment) {
	for _, d := range s.Duties {
		if d.Target == target && d.Over.IsZero() {
			d.Over = at
		}
	}
}

// dutyGranted says that the target has it.
type dutyGranted struct {
	one
	ID       string `json:"id"`
	Attempt  int    `json:"attempt"`
	Revision int    `json:"revision"`
}

func (*dutyGranted) kind() string          { return "duty.granted" }
func (ev *dutyGranted) subjects() []string { return []string{dutySubject(ev.ID)} }
func (ev *dutyGranted) apply(s *State, _ Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.well()
		d.Status, d.Unsettled = DutyGranted, lockkeeper.Moment{}
	})
}

// well forgets what went wrong before.
func (d *Duty) well() {
	d.Verb, d.Failures, d.Code, d.Reason, d.Retry = "", 0, "", "", lockkeeper.Moment{}
}

// dutyFailed says that an attempt failed; it may have happened all the same, unless
// the worker knows that nothing left it.
type dutyFailed struct {
	one
	ID        string            `json:"id"`
	Attempt   int               `json:"attempt"`
	Verb      string            `json:"verb"`
	Code      string            `json:"code"`
	Reason    string            `json:"reason,omitempty"`
	Untouched bool              `json:"untouched,omitempty"`
	Retry     lockkeeper.Moment `json:"retry"`
	Revision  int               `json:"revision"`
}

func (*dutyFailed) kind() string          { return "duty.failed" }
func (ev *dutyFailed) subjects() []string { return []string{dutySubject(ev.ID)} }
func (ev *dutyFailed) apply(s *State, _ Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.Verb, d.Code, d.Reason, d.Retry = "", ev.Code, ev.Reason, ev.Retry
		d.Failures++
		switch {
		case ev.Verb == RevokeVerb:
			d.Status = DutyOwed
		case ev.Untouched:
			d.Maybe--
			d.Unsettled = lockkeeper.Moment{}
		}
	})
}

// dutyRevoked says that it is away, and that a grant which nobody has reported may
// still happen: it is looked at again then.
type dutyRevoked struct {
	one
	ID       string            `json:"id"`
	Attempt  int               `json:"attempt"`
	Retry    lockkeeper.Moment `json:"retry"`
	Revision int               `json:"revision"`
}

func (*dutyRevoked) kind() string          { return "duty.revoked" }
func (ev *dutyRevoked) subjects() []string { return []string{dutySubject(ev.ID)} }
func (ev *dutyRevoked) apply(s *State, _ Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.well()
		d.Status, d.Retry = DutyRevoked, ev.Retry
	})
}

// dutyDue says from when on something has to be undone.
type dutyDue struct {
	one
	ID       string `json:"id"`
	Holder   string `json:"holder"`
	Revision int    `json:"revision"`
}

func (*dutyDue) kind() string          { return "duty.due" }
func (ev *dutyDue) subjects() []string { return []string{dutySubject(ev.ID), "user/" + ev.Holder} }
func (ev *dutyDue) apply(s *State, e Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.Over = e.Time
		if d.Status != DutyOwed {
			d.Retry, d.Failures = lockkeeper.Moment{}, 0 // a removal waits for no grant's patience
		}
	})
}

// dutyEnded ends a duty: it is undone, or two persons say so.
type dutyEnded struct {
	one
	ID          string            `json:"id"`
	Holder      string            `json:"holder"`
	Activation  string            `json:"activation"`
	Provisioner string            `json:"provisioner"`
	Attempt     int               `json:"attempt,omitempty"`
	Status      string            `json:"status"`            // undone or force_closed
	Covered     string            `json:"covered,omitempty"` // the duty that answers for the account since
	Reason      string            `json:"reason,omitempty"`
	Outside     lockkeeper.Moment `json:"outside,omitzero"` // until when what was handed out lives
	Attested    []Attestation     `json:"attested,omitempty"`
	Revision    int               `json:"revision"`
}

func (*dutyEnded) kind() string { return "duty.ended" }
func (ev *dutyEnded) subjects() []string {
	out := []string{dutySubject(ev.ID), activationSubject(ev.Activation), "user/" + ev.Holder}
	if ev.Status == dutyForced {
		out = append(out, forcedAbout)
	}
	return out
}
func (ev *dutyEnded) apply(s *State, _ Entry) error {
	d := s.Duties[ev.ID]
	if d == nil {
		return fmt.Errorf("the duty %s is not there", ev.ID)
	}
	delete(s.Duties, ev.ID)
	if ev.Covered == "" {
		return nil
	}
	return s.onDuty(ev.Covered, func(heir *Duty) { heir.Maybe += d.Maybe }) // what may be there is his to take away
}

// dutyAttested is the first of two words that what is owed was removed by hand.
type dutyAttested struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user"`
	Persons  []lockkeeper.Person `json:"persons"`
	Comment  string              `json:"comment"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*dutyAttested) kind() string          { return "duty.attested" }
func (ev *dutyAttested) subjects() []string { return []string{dutySubject(ev.ID), "user/" + ev.User} }
func (ev *dutyAttested) apply(s *State, e Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.Attested = slices.DeleteFunc(slices.Clone(d.Attested), func(o Attestation) bool { return o.User == ev.User })
		d.Attested = append(d.Attested, Attestation{User: ev.User, Persons: ev.Persons, At: e.Time, Comment: ev.Comment})
		d.Attested = d.Attested[max(0, len(d.Attested)-maxAttested):]
	})
}

// maxAttested bounds the words that are kept; two end the duty.
const maxAttested = 5

// credentialHanded says that the holder was allowed a credential for what is granted.
// It is made and handed out after this entry is durable.
type credentialHanded struct {
	one
	ID       string            `json:"id"`
	User     string            `json:"user"`
	Serial   uint64            `json:"serial,omitempty"`
	Key      string            `json:"key,omitempty"`      // SHA-256 fingerprint of the public key that is certified
	Until    lockkeeper.Moment `json:"until"`              // it is worth nothing later
	Outlives bool              `json:"outlives,omitempty"` // it is worth something until then whatever is undone
	Revision int               `json:"revision"`
}

func (*credentialHanded) kind() string { return "credential.handed" }
func (ev *credentialHanded) subjects() []string {
	return []string{dutySubject(ev.ID), "user/" + ev.User}
}
func (ev *credentialHanded) apply(s *State, e Entry) error {
	return s.onDuty(ev.ID, func(d *Duty) {
		d.Credentials++
		if ev.Serial != 0 {
			s.handed(HandedCertificate{ev.Serial, d.ID, d.Provisioner, ev.Until}, e.Time)
		}
		if ev.Outlives && d.Outside.Before(ev.Until) {
			d.Outside = ev.Until
		}
	})
}

func (s *State) onDuty(id string, change func(*Duty)) error {
	d := s.Duties[id]
	if d == nil {
		return fmt.Errorf("the duty %s is not there", id)
	}
	change(d)
	return nil
}
