package measure

import (
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Buckets are the upper bounds, in seconds, of what a Live counts durations in.
var Buckets = []float64{10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600}

// maxSeries bounds how many different labels a Live counts under.
const maxSeries = 5_000

// A Series is what a Live counts under. What does not fit a kind is "".
type Series struct {
	Kind   Kind
	Scope  lockkeeper.Scope
	Check  string
	Status string // of Ended; of Voted: approve or reject
}

// A Count is how many samples a series had, and how their durations spread.
type Count struct {
	Series
	N       uint64
	Seconds float64  // of all together
	Buckets []uint64 // cumulative, for each of Buckets
}

// A Live counts samples from when it is made. It is safe for use by many
// goroutines.
type Live struct {
	mu      sync.Mutex
	counts  map[Series]*Count
	dropped uint64
}

// NewLive counts nothing yet.
func NewLive() *Live { return &Live{counts: map[Series]*Count{}} }

// Add counts a sample. Nobody's name is counted under.
func (l *Live) Add(s Sample) {
	series := Series{Kind: s.Kind, Scope: s.Scope, Check: s.Check, Status: s.Status}
	switch {
	case s.Kind == Voted && s.Access:
		return
	case s.Kind == Voted && s.Approved:
		series.Status = "approve"
	case s.Kind == Voted:
		series.Status = "reject"
	case s.Kind == GaveUp:
		series.Status = ""
	case s.Kind == BrokeGlass: // at scopes of any kind
		series.Scope = placeOf(s.Scope)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[series]
	if c == nil {
		if len(l.counts) >= maxSeries {
			l.dropped++
			return
		}
		c = &Count{Series: series, Buckets: make([]uint64, len(Buckets))}
		l.counts[series] = c
	}
	c.add(s.For)
}

// placeOf is the environment or the project that a scope lies in, or the root.
func placeOf(s lockkeeper.Scope) lockkeeper.Scope {
	switch {
	case s.Project() == "":
		return lockkeeper.Root
	case s.Environment() != "":
		return lockkeeper.EnvironmentScope(s.Project(), s.Environment())
	}
	return lockkeeper.ProjectScope(s.Project())
}

func (c *Count) add(d time.Duration) {
	c.N++
	c.Seconds += d.Seconds()
	for i, bound := range Buckets {
		if d.Seconds() <= bound {
			c.Buckets[i]++
		}
	}
}

// Counts is a copy of all counts, and how many samples were left out because they
// would have had a series of their own past the bound.
func (l *Live) Counts() (counts []Count, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts {
		one := *c
		one.Buckets = slices.Clone(c.Buckets)
		counts = append(counts, one)
	}
	return counts, l.dropped
}
