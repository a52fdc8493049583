package keeper

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Terms are what a provisioner of the catalog says.
type Terms = catalog.Provisioner

// dutyOf finds a duty that is not over.
func (w *world) dutyOf(id string) (*Duty, error) {
	d := w.Duties[id]
	if d == nil {
		return nil, lockkeeper.Conflict.Errorf("duty_over", "The duty %.40s does not exist or is over.", id).WithNext("List what is open: lockkeeper duties list").WithField(id)
	}
	return d, nil
}

// An Effect is what a worker may do now, and until when. It is recorded before the
// worker knows of it.
type Effect struct {
	Duty Duty // its Attempt is the fence of what the worker reports
	Verb string
}

// beginEffect takes the next attempt of a duty for a worker.
type beginEffect struct {
	Duty     string
	Attempt  int // that it will be
	Verb     string
	Deadline time.Duration
}

func (beginEffect) name() string    { return "duty.try" }
func (c beginEffect) about() string { return dutySubject(c.Duty) }
func (c beginEffect) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper || c.Deadline < shortestEffect || c.Deadline > longestEffect {
		return nil, nil, lockkeeper.Invalid.Errorf("effect_unfit", "Only a worker sets about an effect, for %s to %s.", shortestEffect, longestEffect)
	}
	d, err := w.dutyOf(c.Duty)
	if err != nil {
		return nil, nil, err
	}
	if c.Attempt != d.Attempt+1 || w.next(d, w.accounts().others(d), now) != c.Verb || c.Verb == "" {
		return nil, nil, lockkeeper.Conflict.Errorf("effect_stale", "There is nothing of this kind to do about %s now.", d.ID)
	}
	ev := &dutyTried{ID: d.ID, Attempt: c.Attempt, Verb: c.Verb, Until: now.Add(c.Deadline), Revision: w.Revision.Number}
	ev.Settled = c.Verb == RevokeVerb && !now.Before(d.Unsettled)
	if a := w.Activations[d.Activation]; c.Verb == GrantVerb && d.Ends.Before(a.Ends) {
		ev.Ends = a.Ends
	}
	then := d.clone()
	then.Ends = latest(then.Ends, ev.Ends)
	then.Attempt, then.Verb, then.Until = ev.Attempt, ev.Verb, ev.Until
	return []event{ev}, Effect{*then, c.Verb}, nil
}

// An Outcome is what became of an attempt. No code: it went well, and for a removal
// that means that the target was read afterwards and has nothing left.
type Outcome struct {
	Code      string
	Reason    string
	Untouched bool // nothing left the worker, so nothing can have happened
}

// endEffect reports what became of an attempt.
type endEffect struct {
	Duty    string
	Attempt int
	Outcome Outcome
	Jitter  float64 // 0 to 1, chosen by the worker
}

func (endEffect) name() string    { return "duty.report" }
func (c endEffect) about() string { return dutySubject(c.Duty) }
func (c endEffect) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.dutyOf(c.Duty)
	switch {
	case !by.Keeper:
		return nil, nil, lockkeeper.Forbidden.Errorf("machine_only", "Only a worker reports an effect.")
	case err != nil:
		return nil, nil, err
	case c.Attempt != d.Attempt:
		return nil, nil, lockkeeper.Conflict.Errorf("effect_stale", "The attempt %d of %s is not the last one.", c.Attempt, d.ID)
	case d.Verb == "":
		return nil, nil, nil // reported before
	}
	revision := w.Revision.Number
	switch {
	case c.Outcome.Code != "":
		retry := now.Add(pause(d.Failures, c.Jitter))
		return []event{&dutyFailed{ID: d.ID, Attempt: d.Attempt, Verb: d.Verb, Code: c.Outcome.Code, Reason: clipped(c.Outcome.Reason), Untouched: c.Outcome.Untouched && d.Verb == GrantVerb, Retry: retry, Revision: revision}}, nil, nil
	case d.Verb == GrantVerb:
		return []event{&dutyGranted{ID: d.ID, Attempt: d.Attempt, Revision: revision}}, nil, nil
	case !d.Settled:
		return []event{&dutyRevoked{ID: d.ID, Attempt: d.Attempt, Retry: d.Unsettled, Revision: revision}}, nil, nil
	}
	return []event{&dutyEnded{ID: d.ID, Holder: d.User, Activation: d.Activation, Provisioner: d.Provisioner, Attempt: d.Attempt, Status: dutyUndone, Outside: d.Outside, Revision: revision}}, nil, nil
}

// pause is how long to wait after a failure: twice as long at each, by half and half
// again, and in the end about every hour, for ever.
func pause(failures int, jitter float64) time.Duration {
	wait := slowRetry
	if failures < slowAfter {
		wait = min(firstRetry<<failures, lastRetry)
	}
	jitter = min(max(jitter, 0), 1)
	return time.Duration(float64(wait) * (0.5 + jitter)).Truncate(time.Millisecond)
}

// clipped bounds what a target says of itself, and takes out what steers a terminal.
func clipped(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxComment {
		s = strings.ToValidUTF8(s[:maxComment], "")
	}
	return s
}

// attestDuty is a person's word that what is owed was removed by hand. The second
// one ends the duty.
type attestDuty struct {
	Duty    string `json:"duty"`
	Comment string `json:"comment"`
}

func (attestDuty) name() string    { return "duty.attest" }
func (c attestDuty) about() string { return dutySubject(c.Duty) }
func (c attestDuty) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.dutyOf(c.Duty)
	if err != nil {
		return nil, nil, err
	}
	right, err := w.may(by, lockkeeper.RevokeActivations, d.Terms.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	mine := Attestation{User: by.User, Persons: w.persons(by.User), At: now, Comment: c.Comment}
	switch {
	case strings.TrimSpace(c.Comment) == "" || len(c.Comment) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("comment_missing", "Say how it was removed and how you know, in 1 to %d bytes.", maxComment).WithNext("Add --comment.")
	case !w.owed(d, now):
		return nil, nil, lockkeeper.Conflict.Errorf("duty_not_owed", "The removal of %s is not owed: it stands at %s.", d.ID, d.Status).WithNext("Wait for the worker; see: lockkeeper duties show %s", d.ID)
	case !d.settled(now):
		return nil, nil, lockkeeper.Conflict.Errorf("effect_unsettled", "Until %s something may still happen at the target.", latest(d.Until, d.Unsettled)).WithNext("Look at the target again then, and attest what you see.")
	case onePerson(mine.Persons, w.everybody(d.User, d.Behind)):
		return nil, nil, lockkeeper.Forbidden.Errorf("own_duty", "Nobody attests the removal of his own access.").WithNext("Ask two others with activations/revoke.")
	}
	said := &dutyAttested{ID: d.ID, User: by.User, Persons: mine.Persons, Comment: c.Comment, Right: right, Revision: w.Revision.Number}
	others := w.seconds(d, mine, now)
	if len(others) == 0 {
		return []event{said}, opened{d.ID}, nil
	}
	return []event{said, &dutyEnded{ID: d.ID, Holder: d.User, Activation: d.Activation, Provisioner: d.Provisioner, Attempt: d.Attempt, Status: dutyForced, Reason: d.Code, Outside: d.Outside,
		Attested: append(others, mine), Revision: w.Revision.Number}}, opened{d.ID}, nil
}

// seconds are the words of other persons that count beside mine: of those who still
// may give them.
func (w *world) seconds(d *Duty, mine Attestation, now lockkeeper.Moment) []Attestation {
	var out []Attestation
	for _, o := range d.Attested {
		if now.Sub(o.At) < attestedFor && w.allowed(o.User, lockkeeper.RevokeActivations, d.Terms.Scope, now) && !onePerson(mine.Persons, w.everybody(o.User, o.Persons)) {
			out = append(out, o)
		}
	}
	return out
}

func latest(a, b lockkeeper.Moment) lockkeeper.Moment {
	if a.Before(b) {
		return b
	}
	return a
}

// onePerson reports whether two accounts may be the same human being's.
func onePerson(a, b []lockkeeper.Person) bool {
	return slices.ContainsFunc(a, func(p lockkeeper.Person) bool { return slices.Contains(b, p) })
}

// handCredential allows the holder of an activation one credential for what it
// opened. What is made of it is worth nothing after the activation.
type handCredential struct {
	Activation  string
	Provisioner string // "": the only one of the kind
	Kind        string // of the provisioner
	Key         string // fingerprint of the public key that is to be certified
	Serial      uint64
}

func (handCredential) name() string    { return "credential.hand" }
func (c handCredential) about() string { return activationSubject(c.Activation) }
func (c handCredential) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.openedBy(by, c)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case w.finished(d, now):
		return nil, nil, lockkeeper.Conflict.Errorf("activation_over", "The activation %s gives this no more.", d.Activation).WithNext("Activate it anew: lockkeeper eligible")
	case d.Status != DutyGranted && d.Code != "":
		return nil, nil, lockkeeper.Conflict.Errorf("not_granted_yet", "The provisioner %s has not granted it: %s [%s]", d.Provisioner, cmp.Or(d.Reason, "it failed."), d.Code).WithNext("It is tried again; see: lockkeeper duties show %s", d.ID)
	case d.Status != DutyGranted:
		return nil, nil, lockkeeper.Conflict.Errorf("not_granted_yet", "The provisioner %s has not granted it yet.", d.Provisioner).WithNext("Ask again in a moment; see: lockkeeper duties show %s", d.ID)
	case d.Credentials >= maxCredentials:
		return nil, nil, lockkeeper.Limited.Errorf("credentials_many", "%d credentials were handed out for this activation.", d.Credentials).WithNext("Activate it anew.")
	}
	if err := w.credentialLeft(d, by); err != nil {
		return nil, nil, err
	}
	ev := &credentialHanded{ID: d.ID, User: by.User, Until: d.Ends, Revision: w.Revision.Number}
	if s := d.Terms.SSH; s != nil {
		if err := w.certificatesFull(now); err != nil {
			return nil, nil, err
		}
		ev.Serial, ev.Key, ev.Outlives = c.Serial, c.Key, true
		if end := now.Add(s.CertificateLifetime()); end.Before(ev.Until) {
			ev.Until = end
		}
	}
	return []event{ev}, Handover{Duty: *d.clone(), Until: ev.Until, Serial: ev.Serial}, nil
}

// openedBy is the one duty of the caller's activation that a credential is for.
func (w *world) openedBy(by Caller, c handCredential) (*Duty, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	var found []*Duty
	for _, d := range w.Duties {
		if d.Activation == c.Activation && d.User == by.User && d.Terms.Kind() == c.Kind && (c.Provisioner == "" || d.Provisioner == c.Provisioner) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return nil, lockkeeper.NotFound.Errorf("opening_missing", "No activation %.40q of yours has opened a provisioner of the kind %s.", c.Activation, c.Kind).WithNext("See what is active: lockkeeper activations list")
	case 1:
		return found[0], nil
	}
	return nil, lockkeeper.Invalid.Errorf("provisioner_ambiguous", "The activation %s opens %d provisioners of the kind %s.", c.Activation, len(found), c.Kind).WithNext("Name one with --provisioner; see: lockkeeper duties list")
}

// A Handover is one credential that may be made now.
type Handover struct {
	Duty   Duty
	Until  lockkeeper.Moment // it must be worth nothing later
	Serial uint64
}
