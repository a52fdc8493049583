// Package keeper holds every operation of Lockkeeper. It is the single writer:
// it takes a command, decides it against the state with a pure function, appends
// the entries to the journal, and only then applies them, answers, and signs.
//
// It guarantees that the record is the change (the state is the fold of the
// journal and nothing else), that a decision counts at the position it was
// decided on, that what was answered survives a crash, and that what was not
// recorded was never granted. Commands that wait together share one transaction.
//
// It knows no HTTP, no pages and no CI platform: callers come to it proven, as a
// session of a person or as the closed record of a workload.
//
// # The journal's entries
//
// An entry is one JSON object:
//
//	{"seq":12,"time":"2026-11-23T21:00:00.000Z","kind":"deployment.opened",
//	 "version":1,"by":{...},"key":"...","body":{...}}
//
// seq is its position from 0, time the instant of the decision, by who asked,
// key the idempotency key if one was given. Kind and version name the shape of
// the body; every version ever written stays readable, and an unknown one stops
// the fold. events.go lists the kinds.
package keeper
