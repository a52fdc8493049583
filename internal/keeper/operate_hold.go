package keeper

import (
	"cmp"
	"context"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A HoldVerb is what a worker has to do about a hold.
type HoldVerb string

// The verbs.
const (
	LookAtHold  HoldVerb = "look"    // read the run and open its deployment
	FollowHold  HoldVerb = "follow"  // it waits, or runs: see whether the run is there still
	ReleaseHold HoldVerb = "release" // its gate passes: read the run again and release it
	TellHold    HoldVerb = "tell"    // the platform is owed an answer
)

// HoldWork is what is to be done about a hold now.
type HoldWork struct {
	Hold
	Verb     HoldVerb
	Provider catalog.Provider
	Waits    string            // for what the gate waits
	Digest   lockkeeper.Digest // of the whole ask, while its deployment is alive
}

// Holds lists what is to be done about holds now, the oldest first. A yes stands in it
// only while what let the run through stands still.
func (k *Keeper) Holds() []HoldWork {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	var out []HoldWork
	for _, h := range k.state.Holds {
		p, known := k.rules.Catalog.Providers[h.Asked.Provider]
		if h.settled() || !known || !p.Holds() {
			continue
		}
		if one := w.holdWork(h, now); one.Verb != "" {
			one.Hold, one.Provider = *h, p
			if d := k.state.Deployments[h.Deployment]; d != nil {
				one.Digest = d.Digest
			}
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b HoldWork) int {
		return cmp.Or(a.Noted.Time().Compare(b.Noted.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (w *world) holdWork(h *Hold, now lockkeeper.Moment) HoldWork {
	d := w.Deployments[h.Deployment]
	switch {
	case h.Owed != nil && h.Told.IsZero() && (!h.Owed.Approve || w.holdStands(d, now)):
		return HoldWork{Verb: TellHold}
	case h.Owed == nil && h.Deployment == "":
		return HoldWork{Verb: LookAtHold}
	case d == nil || w.overdue(d, now):
		return HoldWork{}
	case d.Status == Waiting:
		facts, err := w.facts(d, now)
		if err != nil {
			return HoldWork{Verb: FollowHold}
		}
		verdict := w.judge(d, facts, now)
		if verdict.Passed(now) && w.rightWay(d) == nil {
			return HoldWork{Verb: ReleaseHold}
		}
		return HoldWork{Verb: FollowHold, Waits: verdict.Sentence}
	case !h.Told.IsZero() && !h.Joined && !h.Asked.ofCheck(): // a check's access is gone by then
		return HoldWork{Verb: FollowHold}
	}
	return HoldWork{}
}

// holdStands reports whether a run that was let through is so still.
func (w *world) holdStands(d *Deployment, now lockkeeper.Moment) bool {
	if d == nil || !d.leaseLive(now) {
		return false
	}
	facts, err := w.facts(d, now)
	return err == nil && w.standing(d, facts, now).Passed(now) && w.rightWay(d) == nil
}

// HoldStands reports whether the answer that the hold owes may be given at this moment.
func (k *Keeper) HoldStands(id string) bool {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	h := k.state.Holds[id]
	return h != nil && w.holdWork(h, now).Verb == TellHold
}

// NoteHold notes that a platform asked, in a message whose signature was verified. A
// message that comes again gives the same id and leaves no entry.
func (k *Keeper) NoteHold(ctx context.Context, a HoldAsked) (string, error) {
	answer, err := do[opened](ctx, k, Caller{Keeper: true}, "", noteHold{newID("h"), a})
	return answer.ID, err
}

// OpenHold opens the deployment of a hold by what its platform says of the run.
func (k *Keeper) OpenHold(ctx context.Context, hold string, job lockkeeper.Workload) error {
	_, err := do[opened](ctx, k, Caller{Keeper: true}, "", openHold{hold, newID("d"), HandleDigest(newSecret("lkh_")), job})
	return err
}

// ReleaseHold lets a run through if its gate passes, by what the platform says of it now.
func (k *Keeper) ReleaseHold(ctx context.Context, hold string, job lockkeeper.Workload) error {
	_, err := do[opened](ctx, k, Caller{Keeper: true}, "", releaseHold{hold, newID("l"), job})
	return err
}

// LoseHold says that the platform holds the run no more, or how it went.
func (k *Keeper) LoseHold(ctx context.Context, hold string, status Status, reason string) error {
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", loseHold{hold, status, reason})
	return cmpErr(err, k.dropAccess(ctx, hold))
}

// TellHold brings what became of telling the platform: nil, or why it was not told.
func (k *Keeper) TellHold(ctx context.Context, hold string, approve bool, moot string, missed *Missed) error {
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", tellHold{hold, approve, moot, missed})
	return cmpErr(err, k.dropAccess(ctx, hold))
}

// HeldRuns lists the runs that platforms hold or held lately, of projects whose
// deployments the caller may read, the newest first.
func (k *Keeper) HeldRuns(by Caller) []Hold {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	seen := map[[3]string]bool{}
	for _, p := range k.rules.Catalog.Pipelines {
		if w.allowedFor(by, lockkeeper.ReadDeployments, lockkeeper.ProjectScope(p.Project), now) {
			seen[[3]string{p.Provider, p.Organisation, p.Repository}] = true
		}
	}
	out := []Hold{}
	for _, h := range k.state.Holds {
		if seen[[3]string{h.Asked.Provider, h.Asked.Organisation, h.Asked.Repository}] {
			out = append(out, *h)
		}
	}
	slices.SortFunc(out, func(a, b Hold) int {
		return cmp.Or(b.Noted.Time().Compare(a.Noted.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Stands says in a word or two how a hold stands.
func (h *Hold) Stands() string {
	switch {
	case h.Owed != nil && h.Owed.Approve && h.Told.IsZero():
		return "let through, the platform is not told yet"
	case h.Owed != nil && h.Told.IsZero():
		return "refused, the platform is not told yet"
	case h.Owed != nil && h.Owed.Approve:
		return "let through"
	case h.Owed != nil:
		return "refused"
	case h.Deployment != "":
		return "waits at the gate"
	}
	return "is looked up"
}

// HoldCounts counts the runs that are held, and the answers that platforms were not told
// yet.
func (k *Keeper) HoldCounts() (open, untold int) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, h := range k.state.Holds {
		if h.Owed == nil {
			open++
		} else if h.Told.IsZero() {
			untold++
		}
	}
	return open, untold
}
