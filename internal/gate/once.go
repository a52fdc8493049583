package gate

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An approval that says once takes, beside the votes on an ask, those that let an
// earlier one through which was about the same thing, in the same run and attempt. Such
// a vote is carried: it was given before this ask's turn came and may still fill a place,
// but only of a check whose place it filled there, and by all else that a vote must be:
// asked for, permitted now, of nobody behind this run, recent enough, in its order.

// mayFill reports whether a vote may fill a place of a check as far as it matters what
// the vote was given for.
func (v Vote) mayFill(c catalog.Check) bool {
	return v.From == "" || c.Approval.Once && slices.Contains(v.Fills, c.Name)
}

// validity is how long before the release a vote counts; 0: the ask's own patience
// bounds it. It does not bound a carried vote, which may be older than the ask.
func (t *tally) validity(v Vote, a catalog.Approval) time.Duration {
	if v.From != "" && a.Validity == 0 {
		return t.waits
	}
	return time.Duration(a.Validity)
}

func carriedFrom(v Vote) string {
	if v.From == "" {
		return ""
	}
	return " (carried from " + v.From + ")"
}

// A Filled place says whose vote fills a place of a check.
type Filled struct {
	User  string
	At    lockkeeper.Moment // of the vote
	Check string
}

// FilledOnce are the places, at now, of those checks that let their votes count for
// later asks, and have all of them. Checks that only are watched have none.
func FilledOnce(f Facts, now lockkeeper.Moment) []Filled {
	all := f.Environment.Checks
	f.Environment.Checks = slices.DeleteFunc(slices.Clone(all), func(c catalog.Check) bool { return c.Shadow })
	t := newTally(f, now)
	var out []Filled
	for i, c := range t.checks {
		if !c.Approval.Once || len(t.placed[i]) < t.need(i) {
			continue
		}
		for _, b := range t.placed[i] {
			out = append(out, Filled{t.ballots[b].vote.User, t.ballots[b].vote.At, c.Name})
		}
	}
	return out
}
