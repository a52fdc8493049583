package effect

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/forge"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A check of Azure DevOps brings the access of its run, and the platform takes that for
// two days. What follows is about holds whose access has ended, and about checks that
// take their answer when they ask.

// notInside is a client for the address that the catalog names, wherever that is, except
// where a machine's own credentials are told.
func notInside() *http.Client {
	c := outside(func(ip netip.Addr) bool { return !never(ip) })
	c.Timeout = 15 * time.Second
	return c
}

// access is what the check of a hold has brought.
func (w *HoldWorker) access(ctx context.Context, hold string) (string, error) {
	access, err := w.Keeper.HoldAccess(ctx, hold)
	if r := lockkeeper.RefusalOf(err); r != nil && r.Kind == lockkeeper.NotFound {
		return "", &forge.Problem{Code: forge.AccessOver, Reason: r.Sentence, Final: true}
	}
	return access, err
}

// accessPatience is for how long a check that asks again and again may bring an access
// that is taken; the platform lets no check last longer.
const accessPatience = 30 * 24 * time.Hour

// giveUp ends a hold whose platform takes the access no more that its check has brought:
// the run can be read no more, and nobody be told. There the check ends by its time-out,
// and a new run asks anew.
func (w *HoldWorker) giveUp(ctx context.Context, h keeper.HoldWork, reason string) error {
	if h.Asked.Polled && time.Since(h.Noted.Time()) < accessPatience {
		return nil // the next poll brings another one
	}
	reason += " The check ends by its time-out; start a new run."
	if h.Verb == keeper.TellHold {
		return w.Keeper.TellHold(ctx, h.ID, h.Owed.Approve, "Nobody was told. "+reason, nil)
	}
	return w.Keeper.LoseHold(ctx, h.ID, keeper.Cancelled, reason)
}

// untold sees whether a platform that takes the answer when it asks will ask again.
func (w *HoldWorker) untold(ctx context.Context, p platform, h keeper.HoldWork) error {
	look, err := p.Follow(ctx, asking(h))
	if err == nil && !look.Held {
		err = w.Keeper.TellHold(ctx, h.ID, h.Owed.Approve, "The platform does not hold the run any more, and has not asked again.", nil)
	}
	return err
}

// ReadHeld reads a run that a platform holds with the access of a message that waits for
// its answer.
func (w *HoldWorker) ReadHeld(ctx context.Context, a keeper.HoldAsked, access string) (job lockkeeper.Workload, held bool, err error) {
	p := w.Keeper.Rules().Catalog.Providers[a.Provider]
	c := &forge.Azure{Provider: p.Name, Issuer: p.Issuer, API: p.APIURL(), Client: notInside(), Access: func(context.Context, string) (string, error) { return access, nil }}
	look, err := c.Look(ctx, asking(keeper.HoldWork{Hold: keeper.Hold{Asked: a}}))
	return look.Job, look.Held, err
}
