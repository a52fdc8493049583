// Package measure counts how changes reach the environments: the four measures
// that DORA made known (lead time, deployment frequency, share of failed changes,
// time to restore), how long asks wait and on which check, how often a check
// flaps, and how people approve. docs/measures.md defines each of them.
//
// A Fold takes what happened, in the order of the journal, in one pass, and gives
// Samples: one number at one instant and one scope. A Collector makes a Report of
// the samples of a window, a Live counts them for as long as a process runs. The
// same history gives the same samples, and so does any part of it that begins
// Lookback before the window: nothing that happened longer ago has a part in a
// sample.
//
// The package knows no journal, no clock and no rules. It believes what it is told
// and forgets what it does not need: what it holds is bounded by how many asks are
// open, by maxRecords and by maxFailures.
package measure
