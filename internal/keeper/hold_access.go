package keeper

import (
	"context"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A check of Azure DevOps brings the access of the run that it is about. With nothing
// else can the run be read, and the check be answered. It rests in the sealed store under
// the hold's id, from before the hold's entry until the check was answered, or answering
// was given up: in no entry, no state, no log line.

const accessKind = "hold-access"

// accessLife is for how long the platform takes such an access ("Invoke Azure Function /
// REST API checks": 48 hours).
const accessLife = 48 * time.Hour

// A HoldReply is what a platform is answered that asks again and again.
type HoldReply struct {
	Hold       string
	Deployment string            // "": none is open yet
	Digest     lockkeeper.Digest // of the whole ask
	Decided    bool
	Approve    bool
	Reason     string
}

// NoteCheck notes that a check asked, with the access that it brought, and gives the
// hold's id. A message that comes again changes nothing; a check that asks again for its
// answer brings an access that lasts longer.
func (k *Keeper) NoteCheck(ctx context.Context, a HoldAsked, access string) (string, error) {
	id, fresh := k.holdAsked(a), false
	if id == "" {
		id, fresh = newID("h"), true
	}
	if fresh || a.Polled && k.owesAccess(id) {
		// A crash before the entry leaves a sealed row that no entry names, of a token
		// that the platform takes for two days.
		if err := k.sealed.Put(ctx, accessKind, id, []byte(access)); err != nil {
			return "", err
		}
	}
	if !fresh {
		return id, nil
	}
	answer, err := do[opened](ctx, k, Caller{Keeper: true}, "", noteHold{id, a})
	if err != nil || answer.ID != id { // refused, or the same message was faster
		return answer.ID, cmpErr(err, k.sealed.Delete(context.WithoutCancel(ctx), accessKind, id))
	}
	return id, nil
}

// holdAsked is the hold of an asking, or "".
func (k *Keeper) holdAsked(a HoldAsked) string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, h := range k.state.Holds {
		if h.Asked.same(a) {
			return h.ID
		}
	}
	return ""
}

// owesAccess reports whether a hold's access is of use still.
func (k *Keeper) owesAccess(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	h := k.state.Holds[id]
	return h != nil && h.Asked.ofCheck() && h.Told.IsZero()
}

// HoldAccess is the access that a check has brought; NotFound hold_access_over when it
// was answered, or the platform takes it no more.
func (k *Keeper) HoldAccess(ctx context.Context, id string) (string, error) {
	over := lockkeeper.NotFound.Errorf("hold_access_over", "The access that the check has brought has ended.")
	k.mu.RLock()
	h := k.state.Holds[id]
	k.mu.RUnlock()
	if h == nil || !h.Asked.ofCheck() || !h.Told.IsZero() {
		return "", over
	}
	if !h.Asked.Polled && k.now().Sub(h.Noted) >= accessLife {
		return "", over
	}
	access, err := k.sealed.Get(ctx, accessKind, id)
	if r := lockkeeper.RefusalOf(err); r != nil && r.Kind == lockkeeper.NotFound {
		return "", over
	}
	return string(access), err
}

// dropAccess erases the access of a hold that needs it no more.
func (k *Keeper) dropAccess(ctx context.Context, id string) error {
	k.mu.RLock()
	h := k.state.Holds[id]
	over := h != nil && h.Asked.ofCheck() && !h.Told.IsZero()
	k.mu.RUnlock()
	if !over {
		return nil
	}
	return k.sealed.Delete(context.WithoutCancel(ctx), accessKind, id)
}

// DropAccess erases what a crash between an answer's entry and its erasure has left.
func (k *Keeper) DropAccess(ctx context.Context) error {
	k.mu.RLock()
	var ids []string
	for id, h := range k.state.Holds {
		if h.Asked.ofCheck() {
			ids = append(ids, id)
		}
	}
	k.mu.RUnlock()
	for _, id := range ids {
		if err := k.dropAccess(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// PollHold answers a platform that takes the answer when it asks. Nothing in a poll says
// which stage of the run it is of, so before each yes look reads the run: the stage that
// was let through must be the one that waits. A yes is given only while what let the run
// through stands, and its giving is an entry before it is given; asked again, the answer
// is the same while that is so.
func (k *Keeper) PollHold(ctx context.Context, id string, look func(context.Context) (job lockkeeper.Workload, held bool, err error)) (HoldReply, error) {
	r, told := k.holdReply(id)
	if r.Approve {
		job, held, err := look(ctx)
		if err != nil || !held {
			r.Decided, r.Approve, r.Reason = false, false, "The run was let through, and could not be read just now."
			return r, nil
		}
		if err := k.fitsHold(id, job); err != nil {
			r.Approve, r.Reason = false, clipped(err.Error())
			return r, nil
		}
	}
	if !r.Decided || told {
		return r, nil
	}
	if err := k.TellHold(ctx, id, r.Approve, "", nil); err != nil {
		return HoldReply{}, err
	}
	r, _ = k.holdReply(id)
	return r, nil
}

// fitsHold refuses what was read of a run if it is not what a hold let through.
func (k *Keeper) fitsHold(id string, job lockkeeper.Workload) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	h := k.state.Holds[id]
	if h == nil || w.Deployments[h.Deployment] == nil {
		return lockkeeper.Conflict.Errorf("hold_over", "The hold %.40s is over.", id)
	}
	return cmpErr(h.Asked.fits(job), w.sameAsk(w.Deployments[h.Deployment], job))
}

func (k *Keeper) holdReply(id string) (r HoldReply, told bool) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	h := k.state.Holds[id]
	if h == nil {
		return HoldReply{Hold: id}, false
	}
	d := k.state.Deployments[h.Deployment]
	r = HoldReply{Hold: id, Deployment: h.Deployment}
	if d != nil {
		r.Digest = d.Digest
	}
	switch {
	case h.Owed == nil:
		r.Reason = w.holdWork(h, now).Waits
		return r, false
	case !h.Owed.Approve:
		r.Decided, r.Reason = true, h.Owed.Reason
	case w.holdStands(d, now):
		r.Decided, r.Approve, r.Reason = true, true, h.Owed.Reason
	case !h.Told.IsZero(): // the yes was given, and what let the run through is over
		r.Decided, r.Reason = true, "What let the run through does not stand any more."
	}
	return r, !h.Told.IsZero()
}
