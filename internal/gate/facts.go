package gate

import (
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Facts are what a gate decides on, all of one instant.
type Facts struct {
	Ask         lockkeeper.Ask
	About       string                // what approvers approve, where it is not deployments to the environment
	Environment catalog.Environment   // with the checks that are asked of the ask's action
	Identity    *catalog.Identity     // the environment's identity; nil: it has none
	Freezes     []catalog.Freeze      // all that cover the environment, whatever their time
	Initiators  []Initiator           // everybody behind the run; none: nobody can name one
	Votes       []Vote                // every live vote on this ask's digest, oldest first
	Records     []Record              // every record of any of the ask's digests in its project
	Good        []Release             // what was deployed here with success, oldest first
	Opened      lockkeeper.Moment     // when the ask was opened
	Deadline    lockkeeper.Moment     // when the ask's patience ends
	Released    lockkeeper.Moment     // when it was let through; zero: not yet. Ages count up to then
	Ticket      int64                 // the ask's place in the queue: lower is older
	Production  bool                  // the environment was one of production when the ask was opened
	Freed       lockkeeper.Moment     // when the environment's lock was last let go; zero: never held
	Activated   []lockkeeper.Decision // what the job must have activated, and whether it has
	Overrides   []Override            // granted for this ask, that count now
	RecordAge   time.Duration         // how old a record may be that vouches for an artifact; 0: what the environment says

	// Evidence is every piece about any of the ask's digests in its project, oldest first.
	Evidence []Evidence
	// Signers are those that the catalog has now, by name.
	Signers map[string]Signer
	// Brings reports whether a stage of the ask's project may bring a kind of evidence now.
	Brings func(pipeline, stage, kind string) bool
	// Says evaluates one of the catalog's expressions over a predicate.
	Says func(rule string, predicate map[string]any) (bool, error)

	// Outside is what is known of a check of the environment that asks a service.
	Outside func(c catalog.Check) Outside
	// Rulings are what came of evaluating policies about the ask, oldest first.
	Rulings []Ruling

	// Holds evaluates one of the catalog's expressions over the ask.
	Holds func(rule string, ask lockkeeper.Ask) (bool, error)
	// Rivals are the environment's other deployments that have not ended. It is
	// asked only once everything but the lock has passed.
	Rivals func() []Rival
	// Stood is what stood in another environment of the project, oldest first.
	Stood func(environment string) []Stretch
	// Unasked are checks of it that are not asked of this ask, as their when says.
	Unasked []catalog.Check
	// Designs are the versions of design records that cover the environment, oldest first.
	Designs []DesignRecord
	// Struck are the artifacts that somebody has struck from the environment.
	Struck []Strike
}

// asOf is the instant up to which ages count: now, or the release.
func (f Facts) asOf(now lockkeeper.Moment) lockkeeper.Moment {
	if f.Released.IsZero() {
		return now
	}
	return f.Released
}

// fresh reports whether a record may still vouch for its artifact, and at which
// instant it begins to be too old (invariant 10). It has to last up to the release.
func (f Facts) fresh(r Record, now lockkeeper.Moment) (ends lockkeeper.Moment, yes bool) {
	ends = r.At.Add(f.recordAge())
	return ends, f.asOf(now).Before(ends)
}

func (f Facts) recordAge() time.Duration {
	if f.RecordAge > 0 {
		return f.RecordAge
	}
	return f.Environment.RecordLimit()
}

// A Release is what was deployed with success.
type Release struct {
	Deployment string                `json:"deployment"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts"` // sorted by name
	Commit     string                `json:"commit"`
	At         lockkeeper.Moment     `json:"at"`
	Waived     []string              `json:"waived,omitempty"` // checks that an override waived for it
}

// A Rival is another deployment of the same environment.
type Rival struct {
	ID      string
	Ticket  int64
	Running bool              // it holds the lock
	Line    string            // pipeline, stage and ref: what newer of the same line makes older ones outdated
	Ready   bool              // everything but the lock has passed
	Freed   lockkeeper.Moment // when the clock ended its lease, which is not written down yet; zero: it did not
}

// Line is the line of an ask: asks of one line replace each other.
func Line(a lockkeeper.Ask) string { return a.Pipeline + "/" + a.Stage + " " + a.Ref }

// An Initiator is one party behind a run.
type Initiator struct {
	User       string              `json:"user,omitempty"` // "" if no user has this account
	Account    string              `json:"account"`        // the account on the CI platform, for people
	Persons    []lockkeeper.Person `json:"persons,omitempty"`
	Automation bool                `json:"automation,omitempty"` // a schedule or a declared automation account
	Right      lockkeeper.Decision `json:"right,omitzero"`       // may the user start deployments here, now
	Groups     []string            `json:"groups,omitempty"`     // of those that freezes spare, which the user is in now
}

// A Vote is one person's approval of the ask.
type Vote struct {
	User    string              // who voted
	Title   string              // how to call the voter
	Counts  lockkeeper.Person   // the person whose place the vote fills
	Persons []lockkeeper.Person // every person this account may be; any of them excluded excludes the vote
	Groups  []string            // the groups, of those the checks name, that the voter is in now, or stands for
	For     string              // the user who handed his place over to the voter, if any
	Right   lockkeeper.Decision // may the voter approve here, now
	Apart   string              // why the vote cannot count beside what others did; "": it can
	Cooling string              // why the voter has no vote yet, as he changed the gate; "": he has
	At      lockkeeper.Moment

	SignedIn lockkeeper.Moment // when the voter had last shown a credential; zero: nobody says
	Strong   bool              // with more than a password

	Answers []Answer // to the checklists of the approvals

	From  string   // the deployment that it was given for and is carried from; "": this one
	Fills []string // checks whose places it filled there, if it is carried
}

// A Record says that a pipeline stage vouched for an artifact digest.
type Record struct {
	Artifact   lockkeeper.Artifact `json:"artifact"`
	Pipeline   string              `json:"pipeline"`
	Stage      string              `json:"stage"`
	Repository string              `json:"repository"`
	Commit     string              `json:"commit"`
	Run        string              `json:"run"`
	At         lockkeeper.Moment   `json:"at"`

	// Who started the recording run, as the platform names him, and the persons he
	// is: they made what is deployed, whoever deploys it.
	Provider string              `json:"provider,omitempty"`
	Account  string              `json:"account,omitempty"`
	Others   []string            `json:"others,omitempty"` // accounts that stand behind the run besides, such as whoever queued it for him
	Persons  []lockkeeper.Person `json:"persons,omitempty"`
}
