// Package forge speaks with the platforms that keep repositories and run pipelines, as
// their documentation says: what they tell Lockkeeper, what it reads from them, and what
// it tells them.
//
// A platform's message proves with its signature that it came from the platform's
// application, and nothing else. It is a hint where to look: what is so is read from the
// platform's API, in the moment in which it is needed, and comes out as a Workload whose
// facts are marked as looked up. Where the API does not prove a fact, it is absent, and a
// rule that needs it refuses.
//
// Where a platform has no application that could read for itself, its message brings the
// access of the run that it is about. That is a secret of the run: it goes to the address
// that the catalog names and nowhere else, least of all to one that the message names.
//
// The package decides nothing and keeps nothing but the access that a platform grants to
// the application for an hour. No error holds a secret or anything that a platform wrote.
package forge

import "github.com/lockkeeper/lockkeeper"

// An Asking is what a platform's message says: it holds a run before an environment.
type Asking struct {
	Organisation string // immutable id of the repository's owner
	Repository   string // immutable id
	Place        string // what the API calls the repository: owner/name
	Run          string
	Environment  string // the platform's name of it
	Installation string // of the application
	Mark         string // tells this asking from the next one of the same run

	Check Check  // Azure DevOps: where the answer goes
	Hold  string // ours: the id under which the asking was noted
}

// A Look is what the API says of a run that is, or was, held.
type Look struct {
	Job  lockkeeper.Workload
	Held bool // before the environment, now
	Over bool // the run has ended
	// Outcome of a run that has ended: success, failure, cancelled, or what else the
	// platform calls it.
	Outcome string
}

// A Problem is why a platform was not asked or told. Reason is a sentence without secrets.
type Problem struct {
	Code   string
	Reason string
	Final  bool // asking again would bring the same
}

func (p *Problem) Error() string { return p.Reason + " [" + p.Code + "]" }
