package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A CI platform can hold a run before one of its environments and ask whether to let
// it through. Its message is a hint and nothing more: that it came is an entry, a worker
// reads from the platform what is really held, and comes back with a command that opens
// the deployment. When the gate passes, the run is read once more, the lease starts, and
// that the platform must be told is owed in the same entries; a worker tells it. An ask
// that ends otherwise owes a no. What is owed stays so until the platform was told, so
// a dead worker keeps a run waiting and lets none through (docs/design/0020).

// A Hold is one run that a platform holds before one environment.
type Hold struct {
	ID       string            `json:"id"`
	Asked    HoldAsked         `json:"asked"`
	Noted    lockkeeper.Moment `json:"noted"`
	Deadline lockkeeper.Moment `json:"deadline"` // when it owes a no if nothing was opened

	Deployment string            `json:"deployment,omitempty"` // that it opened
	Attempt    int               `json:"attempt,omitempty"`
	Released   bool              `json:"released,omitempty"`
	Joined     bool              `json:"joined,omitempty"` // a job has come with its own token since
	Over       bool              `json:"over,omitempty"`   // the deployment has ended
	Owed       *HoldAnswer       `json:"owed,omitempty"`   // what the platform must be told, or was; nil: nothing yet
	Told       lockkeeper.Moment `json:"told,omitzero"`    // when it was, or when that was given up
	Missed     *Missed           `json:"missed,omitempty"` // why it was not told yet
}

// HoldAsked is what a platform's message says. All of it is a hint: what it names is
// where the worker looks, and Mark tells one asking from the next.
type HoldAsked struct {
	Provider     string `json:"provider"`
	Organisation string `json:"organisation"`           // immutable id
	Repository   string `json:"repository"`             // immutable id
	Place        string `json:"place"`                  // what the platform's API calls the repository
	Run          string `json:"run"`                    // "": the platform holds a job, which Mark names, and does not say of which run
	Environment  string `json:"environment"`            // the platform's name of it
	Installation string `json:"installation,omitempty"` // of the application, where the platform has such
	Mark         string `json:"mark"`
	// Check is where the answer of a check of Azure DevOps goes. Its message brings the
	// access of the run as well, which rests in the sealed store until it was answered.
	Check HoldCheck `json:"check,omitzero"`
	// Polled says that the platform takes the answer when it asks again.
	Polled bool `json:"polled,omitempty"`
}

// ofJob reports whether the platform holds a job (GitLab does) rather than a run before an
// environment: then it is answered for that job alone.
func (a HoldAsked) ofJob() bool { return a.Run == "" }

// A HoldCheck is one evaluation of a check, by the platform's ids.
type HoldCheck struct {
	Project  string `json:"project"`
	Hub      string `json:"hub"`
	Plan     string `json:"plan"`
	Job      string `json:"job"`
	Task     string `json:"task"`
	Timeline string `json:"timeline"`
}

// ofCheck reports whether a check asked. Its environment is one of the catalog, which
// the check's configuration names, and no fact that the platform's API knows.
func (a HoldAsked) ofCheck() bool { return a.Check != HoldCheck{} }

// HoldAnswer is what a platform must be told.
type HoldAnswer struct {
	Approve bool              `json:"approve"`
	Reason  string            `json:"reason"`
	At      lockkeeper.Moment `json:"at"`
}

// Bounds of holds.
const (
	maxHolds       = 2000 // that are kept
	maxHoldsOf     = 100  // of one repository that are not settled
	holdMemory     = 24 * time.Hour
	holdPatience   = 24 * time.Hour      // within which a run must have recorded its artifacts
	holdTelling    = 30 * 24 * time.Hour // for how long one tries to tell
	maxHoldComment = 1000
)

// settled reports whether nothing more will come of a hold.
func (h *Hold) settled() bool { return !h.Told.IsZero() && (h.Deployment == "" || h.Over) }

// owe notes what the platform must be told. An earlier yes gives way to a no, and is not
// taken back: the other way round nothing changes.
func (h *Hold) owe(a HoldAnswer) {
	if h.Owed != nil && (!h.Owed.Approve || !h.Told.IsZero()) {
		return
	}
	h.Owed, h.Missed = &a, nil
}

func (s *State) holdOf(deployment string) *Hold {
	for _, h := range s.Holds {
		if deployment != "" && h.Deployment == deployment {
			return h
		}
	}
	return nil
}

// onHold changes one hold; readers may have the old one.
func (s *State) onHold(id string, change func(*Hold)) error {
	h := s.Holds[id]
	if h == nil {
		return fmt.Errorf("there is no hold %s", id)
	}
	c := *h
	change(&c)
	s.Holds[id] = &c
	return nil
}

func holdSubject(id string) string { return "hold/" + id }

// holdNoted says that a platform asked.
type holdNoted struct {
	one
	ID       string            `json:"id"`
	Asked    HoldAsked         `json:"asked"`
	Deadline lockkeeper.Moment `json:"deadline"`
	Revision int               `json:"revision"`
}

func (*holdNoted) kind() string          { return "hold.noted" }
func (ev *holdNoted) subjects() []string { return []string{holdSubject(ev.ID), "holds"} }
func (ev *holdNoted) apply(s *State, e Entry) error {
	if s.Holds[ev.ID] != nil {
		return fmt.Errorf("the hold %s is there already", ev.ID)
	}
	for id, h := range s.Holds {
		if h.settled() && e.Time.Sub(h.Told) >= holdMemory {
			delete(s.Holds, id)
		}
	}
	s.Holds[ev.ID] = &Hold{ID: ev.ID, Asked: ev.Asked, Noted: e.Time, Deadline: ev.Deadline}
	return nil
}

// holdOpened ties a hold to the deployment that it opened. It stands behind that
// deployment's own entry.
type holdOpened struct {
	one
	ID         string `json:"id"`
	Deployment string `json:"deployment"`
	Attempt    int    `json:"attempt"`
	// Job is what the platform's API said of the run then.
	Job lockkeeper.Workload `json:"job"`
}

func (*holdOpened) kind() string { return "hold.opened" }
func (ev *holdOpened) subjects() []string {
	return []string{holdSubject(ev.ID), deploymentSubject(ev.Deployment)}
}
func (ev *holdOpened) apply(s *State, _ Entry) error {
	return s.onHold(ev.ID, func(h *Hold) { h.Deployment, h.Attempt = ev.Deployment, ev.Attempt })
}

// holdRefused says that a hold opens nothing, and that the platform must be told no.
type holdRefused struct {
	one
	ID       string               `json:"id"`
	Code     string               `json:"code"`
	Reason   string               `json:"reason"`
	Decision *lockkeeper.Decision `json:"decision,omitempty"`
	Job      lockkeeper.Workload  `json:"job"`
	Revision int                  `json:"revision"`
}

func (*holdRefused) kind() string          { return "hold.refused" }
func (ev *holdRefused) subjects() []string { return []string{holdSubject(ev.ID), "holds"} }
func (ev *holdRefused) apply(s *State, e Entry) error {
	return s.onHold(ev.ID, func(h *Hold) { h.owe(HoldAnswer{Reason: ev.Reason, At: e.Time}) })
}

// holdReleased says that the platform must be told yes: the lease that stands before it
// has started.
type holdReleased struct {
	one
	ID         string `json:"id"`
	Deployment string `json:"deployment"`
	Reason     string `json:"reason"`
	// Job is what the platform's API said of the run just before.
	Job lockkeeper.Workload `json:"job"`
}

func (*holdReleased) kind() string { return "hold.released" }
func (ev *holdReleased) subjects() []string {
	return []string{holdSubject(ev.ID), deploymentSubject(ev.Deployment)}
}
func (ev *holdReleased) apply(s *State, e Entry) error {
	return s.onHold(ev.ID, func(h *Hold) {
		h.Released = true
		h.owe(HoldAnswer{Approve: true, Reason: ev.Reason, At: e.Time})
	})
}

// holdTellingMissed is why the platform was not told yet: one entry for each new cause.
type holdTellingMissed struct {
	one
	ID     string `json:"id"`
	Missed Missed `json:"missed"`
}

func (*holdTellingMissed) kind() string          { return "hold.missed" }
func (ev *holdTellingMissed) subjects() []string { return []string{holdSubject(ev.ID)} }
func (ev *holdTellingMissed) apply(s *State, e Entry) error {
	missed := ev.Missed
	missed.At = e.Time
	return s.onHold(ev.ID, func(h *Hold) { h.Missed = &missed })
}

// holdAnswered says that the platform was told, or that nobody is left to tell.
type holdAnswered struct {
	one
	ID         string `json:"id"`
	Deployment string `json:"deployment,omitempty"`
	Approve    bool   `json:"approve"`
	Moot       string `json:"moot,omitempty"` // why nobody was told; "": the platform took it
}

func (*holdAnswered) kind() string { return "hold.answered" }
func (ev *holdAnswered) subjects() []string {
	if ev.Deployment == "" {
		return []string{holdSubject(ev.ID)}
	}
	return []string{holdSubject(ev.ID), deploymentSubject(ev.Deployment)}
}
func (ev *holdAnswered) apply(s *State, e Entry) error {
	return s.onHold(ev.ID, func(h *Hold) {
		if h.Owed == nil {
			h.Owed = &HoldAnswer{Approve: ev.Approve, Reason: ev.Moot, At: e.Time}
		}
		h.Told, h.Missed = e.Time, nil
	})
}

// holdEnded notes that the deployment of a hold has ended: a platform that was not told
// yet is told no.
func (s *State) holdEnded(d *Deployment, end End, at lockkeeper.Moment) {
	h := s.holdOf(d.ID)
	if h == nil {
		return
	}
	c := *h
	c.Over = true
	reason := fmt.Sprintf("The deployment %s is %s.", d.ID, end.Status)
	if end.Reason != "" {
		reason += " " + end.Reason
	}
	c.owe(HoldAnswer{Reason: reason, At: at})
	s.Holds[h.ID] = &c
}

// leaseJoined says that the job of a held run has come with its own token. It holds the
// lease from now on, for the very ask that the platform's asking opened.
type leaseJoined struct {
	one
	Deployment   string            `json:"deployment"`
	Lease        string            `json:"lease"`
	Hold         string            `json:"hold"`
	Job          lockkeeper.Digest `json:"job"`
	Handle       lockkeeper.Digest `json:"handle"`
	Ends         lockkeeper.Moment `json:"ends"`
	Token        lockkeeper.Digest `json:"token"`
	TokenExpires lockkeeper.Moment `json:"token_expires"`
	// Others stand behind the job besides those who stand behind the run: whoever let a
	// job that the platform holds begin.
	Others   []Origin `json:"others,omitempty"`
	Revision int      `json:"revision"`
}

func (*leaseJoined) kind() string { return "lease.joined" }
func (ev *leaseJoined) subjects() []string {
	return []string{deploymentSubject(ev.Deployment), holdSubject(ev.Hold)}
}
func (ev *leaseJoined) apply(s *State, e Entry) error {
	s.bindToken(ev.Token, TokenUse{For: deploymentSubject(ev.Deployment), Job: ev.Job, Handle: ev.Handle, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	if err := s.onHold(ev.Hold, func(h *Hold) { h.Joined = true }); err != nil {
		return err
	}
	return s.onDeployment(ev.Deployment, ev.on)
}
func (ev *leaseJoined) on(d *Deployment) {
	d.Requester, d.Handle = ev.Job, ev.Handle
	d.Initiators = append(slices.Clip(d.Initiators), ev.Others...)
	if d.Lease != nil {
		d.Lease.Job, d.Lease.Handle, d.Lease.Ends = ev.Job, ev.Handle, ev.Ends
	}
}
