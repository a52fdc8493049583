package gate

import (
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Facts are what a gate decides on, all of one instant.
type Facts struct {
	Ask         lockkeeper.Ask
	Environment catalog.Environment
	Identity    *catalog.Identity // the environment's identity; nil: it has none
	Freezes     []catalog.Freeze  // all that cover the environment, whatever their time
	Initiators  []Initiator       // everybody behind the run; none: nobody can name one
	Votes       []Vote            // every live vote on this ask's digest, oldest first
	Records     []Record          // every record of any of the ask's digests in its project
	Deadline    lockkeeper.Moment // when the ask's patience ends
}

// An Initiator is one party behind a run.
type Initiator struct {
	User       string              `json:"user,omitempty"` // "" if no user has this account
	Account    string              `json:"account"`        // the account on the CI platform, for people
	Persons    []lockkeeper.Person `json:"persons,omitempty"`
	Automation bool                `json:"automation,omitempty"` // a schedule or a declared automation account
	Right      lockkeeper.Decision `json:"right,omitzero"`       // may the user start deployments here, now
}

// A Vote is one person's approval of the ask.
type Vote struct {
	User    string              // who voted
	Title   string              // how to call the voter
	Counts  lockkeeper.Person   // the person whose place the vote fills
	Persons []lockkeeper.Person // every person this account may be; any of them excluded excludes the vote
	Groups  []string            // the groups, of those the checks name, that the voter is in now
	Right   lockkeeper.Decision // may the voter approve here, now
	At      lockkeeper.Moment
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
}
