package effect

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A scanner is a provisioner whose target can be read as a whole: what of the expected
// is not there, or not as it was granted, and what is there besides. It changes
// nothing, and tells nothing that it has not read: an error says that nothing is known.
type scanner interface {
	Scan(ctx context.Context, s keeper.Scan) ([]keeper.Seen, error)
}

// Bounds of scans.
const (
	defaultScanEvery = 5 * time.Minute
	firstScan        = 10      // of the time between two: a server that has just begun has other things to do
	maxSeen          = 2_000   // things of one target
	maxAsked         = 100     // asks of a service in one scan
	maxPages         = 20      // of a list
	maxPage          = 8 << 20 // bytes of one
)

// scanning reads each target now and then, one after another.
func (w *Worker) scanning(ctx context.Context) {
	timer := time.NewTimer(w.ScanEvery / firstScan)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.Keeper.Done():
			return
		case <-timer.C:
		}
		for _, s := range w.Keeper.Scans() {
			if ctx.Err() == nil {
				w.scan(ctx, s)
			}
		}
		timer.Reset(w.ScanEvery)
	}
}

// scan reads one target and reports what it saw. What cannot be read changes nothing.
func (w *Worker) scan(ctx context.Context, s keeper.Scan) {
	working, cancel := context.WithTimeout(ctx, w.Longest)
	defer cancel()
	var seen []keeper.Seen
	if kind := s.Terms.Kind(); kind != "" {
		p, is := w.Provisioners[kind].(scanner)
		if !is {
			return
		}
		var err error
		if seen, err = p.Scan(working, s); err != nil {
			if o := outcomeOf(err); ctx.Err() == nil && w.Keeper.ScanFailed(s, o) {
				w.Log.Warn("a target cannot be read, so that nobody knows what it holds", "provisioner", s.Provisioner, "code", o.Code, "reason", o.Reason)
			}
			return
		}
	}
	if err := w.Keeper.ReportScan(working, s, seen); err != nil && ctx.Err() == nil {
		w.Log.Warn("what a target holds was not recorded", "provisioner", s.Provisioner, "error", err)
	}
}

// Scan asks the service about each account that it should have. What else it gives it
// is not asked: it could not tell.
func (h *webhook) Scan(ctx context.Context, s keeper.Scan) ([]keeper.Seen, error) {
	var seen []keeper.Seen
	for _, d := range s.Duties[:min(len(s.Duties), maxAsked)] {
		if deadline, bounded := ctx.Deadline(); bounded {
			d.Until = momentOf(deadline)
		}
		there, err := h.Verify(ctx, Account{d})
		if err != nil {
			return nil, err
		}
		if !there {
			seen = append(seen, keeper.Seen{Kind: keeper.Vanished, Account: d.Account, Duty: d.ID, Detail: "The service says that it is not granted."})
		}
	}
	return seen, nil
}
