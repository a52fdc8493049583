package measure

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Spread says how durations spread. With Count 0 there are none, and the others
// say nothing.
type Spread struct {
	Count         int
	P50, P90, Max time.Duration
}

// SpreadOf sorts the list and reads the spread off it. A percentile is the nearest
// rank: the least of the durations that so many in a hundred of them do not exceed.
// It is one of them, never something in between.
func SpreadOf(list []time.Duration) Spread {
	if len(list) == 0 {
		return Spread{}
	}
	slices.Sort(list)
	rank := func(p int) time.Duration { return list[(len(list)*p+99)/100-1] }
	return Spread{Count: len(list), P50: rank(50), P90: rank(90), Max: list[len(list)-1]}
}

// A Week is seven days from a Monday, 00:00 UTC: a week of ISO 8601.
type Week struct {
	From      lockkeeper.Moment
	Whole     bool // the observed window has all of it
	Successes int
	Failures  int
	Approvals int
}

// weekOf is when the week of an instant began.
func weekOf(m lockkeeper.Moment) lockkeeper.Moment {
	t := m.Time()
	days := (int(t.Weekday()) + 6) % 7
	return lockkeeper.MomentOf(time.Date(t.Year(), t.Month(), t.Day()-days, 0, 0, 0, 0, time.UTC))
}

const week = 7 * 24 * time.Hour

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
