package gate

import (
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// maxLooks bounds how many changes of windows and freezes Earliest looks past: an ask
// waits 30 days at most, and each window changes a few times a day.
const maxLooks = 10_000

// Earliest is the first instant from now on at which nothing that time alone decides
// holds the ask up: delays, hours and freezes are past, and no waiver or record has
// ended by then. found is false if there is none before the ask's patience ends. What
// people, the lock or anybody outside must do is not looked at: where the gate waits
// for that, the ask goes no sooner than this.
func Earliest(f Facts, now lockkeeper.Moment) (at lockkeeper.Moment, found bool) {
	for t, n := now, 0; n < maxLooks && t.Before(f.Deadline); n++ {
		if passes(unenforced(f, append(f.waiveAll(times(f, t)), Freeze(f, t)))) {
			return t, passes(unenforced(f, append(demands(f, t), artifacts(f, t))))
		}
		next, more := nextTurn(f, t)
		if !more {
			break
		}
		t = next
	}
	return lockkeeper.Moment{}, false
}

func passes(list []lockkeeper.Decision) bool {
	for _, d := range list {
		if d.Verdict != lockkeeper.Pass {
			return false
		}
	}
	return true
}

// nextTurn is the first instant after t at which a delay, a window or a freeze that
// concerns the ask may begin or end.
func nextTurn(f Facts, t lockkeeper.Moment) (next lockkeeper.Moment, found bool) {
	take := func(at lockkeeper.Moment) {
		if t.Before(at) && (!found || at.Before(next)) {
			next, found = at, true
		}
	}
	for _, c := range f.Environment.Checks {
		switch {
		case c.Delay != nil:
			take(f.Opened.Add(time.Duration(c.Delay.For)))
		case c.Hours != nil:
			if zone, err := time.LoadLocation(c.Hours.Zone); err == nil {
				if at, changes := NextChange(*c.Hours, zone, t); changes {
					take(at)
				}
			}
		}
	}
	for _, z := range f.Freezes {
		switch holds, span, err := FrozenAt(z, t, gateHorizon); {
		case err != nil: // it stops, whatever the time
		case holds:
			take(span.Until)
		default:
			take(span.From)
		}
	}
	return next, found
}
