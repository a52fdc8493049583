package keeper

import (
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A Status says where a deployment stands.
type Status string

// The statuses. Waiting and Running are alive; the others are final.
const (
	Waiting       Status = "waiting"       // at the gate
	Running       Status = "running"       // a job holds the lease
	Succeeded     Status = "succeeded"     //
	Failed        Status = "failed"        // the job says so
	Rejected      Status = "rejected"      // an approver said no
	Cancelled     Status = "cancelled"     //
	TimedOut      Status = "timed_out"     // the ask's patience, or the time of an approval, ended
	Superseded    Status = "superseded"    // a newer one of the same stage and ref took its place
	Indeterminate Status = "indeterminate" // the lease ended before the job said how it went
	Revoked       Status = "revoked"       // somebody took the lease away while it ran
)

// Final reports whether the deployment has ended.
func (s Status) Final() bool { return s != Waiting && s != Running }

// A Phase says more closely where a waiting deployment stands. It is derived from
// its gate, at the moment of looking.
type Phase string

// The phases. A deployment that does not wait has its status as its phase.
const (
	Evaluating Phase = "evaluating" // checks are missing still
	Queued     Phase = "queued"     // everything has passed but the lock
	Ready      Phase = "ready"      // the job may claim it
)

// Phase is where the deployment stands.
func (v View) Phase() Phase {
	if v.Status != Waiting || v.Gate == nil {
		return Phase(v.Status)
	}
	if v.Gate.Verdict == lockkeeper.Pass {
		return Ready
	}
	for _, d := range v.Gate.Because {
		if d.Verdict != lockkeeper.Pass && d.Code != "locked" && d.Code != "not_its_turn" {
			return Evaluating
		}
	}
	return Queued
}

// A Deployment is the fold of the entries about one ask.
type Deployment struct {
	ID         string               `json:"id"`
	Status     Status               `json:"status"`
	Ask        lockkeeper.Ask       `json:"ask"`
	Digest     lockkeeper.Digest    `json:"digest"` // of the ask: what an approval is for
	Opened     lockkeeper.Moment    `json:"opened"`
	OpenedSeq  int64                `json:"opened_seq"`
	Deadline   lockkeeper.Moment    `json:"deadline"`  // when the ask's patience ends
	Requester  lockkeeper.Digest    `json:"requester"` // key of the job that asked
	Handle     lockkeeper.Digest    `json:"handle"`    // digest of the handle that came with the ask
	Initiators []Origin             `json:"initiators"`
	Terms      []catalog.Check      `json:"terms,omitempty"`      // gate.Terms of the environment when it was opened
	Apart      []catalog.Separation `json:"apart,omitempty"`      // the separations of use that held then
	RecordAge  time.Duration        `json:"record_age,omitempty"` // how old a record might be when it was opened, in nanoseconds
	Production bool                 `json:"production,omitempty"` // the environment was one of production when it was opened
	Activation string               `json:"activation,omitempty"` // role that the environment demanded of its job when it was opened
	Observed   bool                 `json:"observed,omitempty"`   // the environment only observed when it was opened
	Override   *catalog.Override    `json:"override,omitempty"`   // what it took to override the environment when it was opened
	Votes      []Vote               `json:"votes,omitempty"`
	Delegated  []Delegation         `json:"delegated,omitempty"` // at most one from each user
	Taken      []Taking             `json:"taken,omitempty"`     // approvals that somebody took away; at most maxTaken
	Overrides  []Override           `json:"overrides,omitempty"` // at most maxOverrides
	Questions  []Question           `json:"questions,omitempty"` // to the services that checks ask; at most two for each check and change of it, evicted with the ask
	Rulings    []gate.Ruling        `json:"rulings,omitempty"`   // of the policies that checks name; at most maxRulings, evicted with the ask
	Lease      *Lease               `json:"lease,omitempty"`
	End        *End                 `json:"end,omitempty"`
	EndedSeq   int64                `json:"ended_seq,omitempty"`

	Held  []string `json:"held,omitempty"`  // checks that held it up when its gate was written down last; no decision rests on it
	Moves int      `json:"moves,omitempty"` // how often that changed; at most maxMoves
}

// An Origin is one party behind a run, as the CI platform names it. Who that is
// among the catalog's users is looked up live.
type Origin struct {
	Provider   string `json:"provider"`
	Account    string `json:"account,omitempty"` // immutable id on the platform
	Name       string `json:"name,omitempty"`
	Automation bool   `json:"automation,omitempty"` // by a schedule, or an account that is automation
	// Persons that the account belonged to when the ask was opened. They stay
	// excluded whatever the catalog says later.
	Persons []lockkeeper.Person `json:"persons,omitempty"`
}

// A Vote is one person's verdict on an ask.
type Vote struct {
	User    string              `json:"user"`
	Approve bool                `json:"approve"`
	Digest  lockkeeper.Digest   `json:"digest"` // of the ask it is for
	Comment string              `json:"comment,omitempty"`
	Persons []lockkeeper.Person `json:"persons"` // whom the account counted as at the vote
	At      lockkeeper.Moment   `json:"at"`
	Seq     int64               `json:"seq"`
	Right   lockkeeper.Decision `json:"right"` // by which path, at the vote
	// Activation is what the right rested on, and Role what that is of; "": on what
	// is assigned to the voter.
	Activation string `json:"activation,omitempty"`
	Role       string `json:"role,omitempty"`
	BreakGlass string `json:"break_glass,omitempty"` // review of that activation, if nobody approved it
	// Through are the persons who had approved that activation.
	Through []lockkeeper.Person `json:"through,omitempty"`

	SignedIn lockkeeper.Moment `json:"signed_in,omitzero"` // when the voter last showed a credential
	Strong   bool              `json:"strong,omitempty"`   // with more than a password

	Answers []ReviewAnswer `json:"answers,omitempty"` // to the checklist of a security review

	From  string   `json:"from,omitempty"`  // the deployment that it was given for, if it is carried from there
	Fills []string `json:"fills,omitempty"` // checks whose places it filled there, if it is carried
}

// A Delegation lets one person stand in the place of another for this one ask.
type Delegation struct {
	From    string            `json:"from"`
	To      string            `json:"to"`
	Comment string            `json:"comment,omitempty"`
	At      lockkeeper.Moment `json:"at"`
}

// A Lease is the right of one job to obtain tokens for one identity.
type Lease struct {
	ID         string              `json:"id"`
	Job        lockkeeper.Digest   `json:"job"`    // key of the job that holds it
	Handle     lockkeeper.Digest   `json:"handle"` // digest of the handle that it must show
	Identity   string              `json:"identity"`
	Subject    string              `json:"subject"` // of its tokens
	Started    lockkeeper.Moment   `json:"started"`
	Ends       lockkeeper.Moment   `json:"ends"`           // unless it is renewed before
	Limit      lockkeeper.Moment   `json:"limit,omitzero"` // beyond which it is never renewed
	Beat       time.Duration       `json:"beat,omitempty"` // how far a renewal moves Ends, in nanoseconds
	Seq        int64               `json:"seq"`
	Gate       lockkeeper.Decision `json:"gate"`                 // what let it through
	Tokens     int                 `json:"tokens"`               // handed out so far
	TokensTill lockkeeper.Moment   `json:"tokens_till,omitzero"` // when the last of them ends
	Standing   lockkeeper.Digest   `json:"standing,omitempty"`   // of what stood at the last of them
	Revoked    []string            `json:"revoked,omitempty"`    // ids of tokens that were revoked; at most maxRevoked
}

// maxRevoked bounds the tokens of one lease that are told apart as revoked.
const maxRevoked = 1000

// Live reports whether tokens may be obtained under l at now, by arithmetic
// alone.
func (d *Deployment) leaseLive(now lockkeeper.Moment) bool {
	return d.Status == Running && d.Lease != nil && d.End == nil && now.Before(d.Lease.Ends)
}

// An End says how a deployment ended and what of it may live on outside.
type End struct {
	Status   Status            `json:"status"`
	At       lockkeeper.Moment `json:"at"`
	Reason   string            `json:"reason,omitempty"`
	By       string            `json:"by,omitempty"`
	ExitCode int               `json:"exit_code"`
	Crossed  string            `json:"crossed,omitempty"` // the separation of use that whoever ended it crossed
	// Tokens that were handed out and cannot be called back, and until when a
	// target that only looks at their expiry may still take them.
	TokensOutside int               `json:"tokens_outside"`
	OutsideTill   lockkeeper.Moment `json:"outside_till,omitzero"`
}

func (d *Deployment) clone() *Deployment {
	c := *d
	c.Votes = append([]Vote(nil), d.Votes...)
	c.Delegated = append([]Delegation(nil), d.Delegated...)
	c.Overrides = cloneOverrides(d.Overrides)
	c.Questions = append([]Question(nil), d.Questions...)
	c.Rulings = append([]gate.Ruling(nil), d.Rulings...)
	if d.Lease != nil {
		l := *d.Lease
		l.Revoked = append([]string(nil), d.Lease.Revoked...)
		c.Lease = &l
	}
	if d.End != nil {
		e := *d.End
		c.End = &e
	}
	return &c
}

// residue is what may live on outside if the deployment ended at now.
func (d *Deployment) residue(now lockkeeper.Moment) (tokens int, till lockkeeper.Moment) {
	if d.Lease == nil || !now.Before(d.Lease.TokensTill) {
		return 0, lockkeeper.Moment{}
	}
	return d.Lease.Tokens, d.Lease.TokensTill
}

// vote returns the user's approval, if there is one.
func (d *Deployment) approvals() []Vote {
	var out []Vote
	for _, v := range d.Votes {
		if v.Approve && (v.Digest == d.Digest || v.From != "") {
			out = append(out, v)
		}
	}
	return out
}

const (
	answerLife     = 24 * time.Hour
	tokenGrace     = 2 * time.Minute // past a token's end, for the clocks' difference
	maxComment     = 2000
	invitationLife = 72 * time.Hour
	challengeLife  = 30 * time.Minute
	sessionLife    = 12 * time.Hour
	sessionIdle    = 4 * time.Hour
)

// refusalWindow is the time in which equal refusals are recorded once.
const refusalWindow = time.Minute
