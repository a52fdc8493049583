package keeper

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A QueuePlace is where an ask to which only the lock is missing stands in the queue of
// its environment. No decision rests on it.
type QueuePlace struct {
	Place int // 1: it is next once nobody holds the lock
	// Start is about when its turn comes: if what runs, and all before it, take as long
	// as half of the last leases took at most. Zero: of none it is known how long.
	Start lockkeeper.Moment
	Took  time.Duration // that median
	Of    int           // of so many leases; 0: none are known
}

// maxLengths bounds the leases of an environment whose lengths are remembered.
const maxLengths = 16

// took adds how long a lease took that its job ended itself.
func (p Place) took(length time.Duration) []time.Duration {
	out := append(slices.Clone(p.Took), length)
	return out[max(0, len(out)-maxLengths):]
}

// queue is the place of a waiting ask whose gate stands so, as of now; nil if it has
// none: nobody holds a place while anything but the lock is missing.
func (w *world) queue(d *Deployment, f gate.Facts, phase Phase, now lockkeeper.Moment) *QueuePlace {
	i := slices.IndexFunc(f.Environment.Checks, func(c catalog.Check) bool { return c.Lock != nil && !c.Shadow })
	if phase != Queued && phase != Ready || i < 0 {
		return nil
	}
	q := &QueuePlace{Place: 1}
	took := slices.Sorted(slices.Values(w.place(lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)).Took))
	if q.Of = len(took); q.Of > 0 {
		q.Took = took[(q.Of-1)/2]
	}
	free := now
	latest := f.Environment.Checks[i].Lock.Mode == catalog.LockLatest
	for _, r := range w.rivals(d, now) {
		switch o := w.Deployments[r.ID]; {
		case r.Running:
			if until := o.Lease.Started.Add(q.Took); free.Before(until) {
				free = until
			}
		case r.Ready && r.Ticket < f.Ticket && !(latest && r.Line == gate.Line(d.Ask)):
			q.Place++
		}
	}
	if q.Of > 0 {
		q.Start = free.Add(time.Duration(q.Place-1) * q.Took)
	}
	return q
}
