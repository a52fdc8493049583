package keeper

import (
	"context"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// read is a shallow copy of the committed state, for its plain fields.
func (k *Keeper) read() State {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return *k.state
}

// Rules are the rules in force.
func (k *Keeper) Rules() *Rules {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.rules
}

// Revision is the catalog in force and its rules.
func (k *Keeper) Revision() (Revision, *Rules) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.state.Revision, k.rules
}

// now is the instant of a question: never before the last entry.
func (k *Keeper) now() lockkeeper.Moment {
	now := lockkeeper.MomentOf(k.options.Clock())
	if last := k.read().Now; now.Before(last) {
		return last
	}
	return now
}

// Can answers whether a user may do an action at a scope now, and by which
// path. Everybody may ask about himself; about others it takes access/read.
func (k *Keeper) Can(by Caller, user string, action lockkeeper.Action, scope lockkeeper.Scope) (lockkeeper.Decision, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User != user || by.Token != "" {
		if _, err := w.may(by, lockkeeper.ReadAccess, scope, now); err != nil {
			return lockkeeper.Decision{}, err
		}
		w = *w.everywhere()
	} else {
		w = *w.in(by)
	}
	return w.check(user, action, scope, now), nil
}

// MayReadCatalog refuses callers who may not read the catalog.
func (k *Keeper) MayReadCatalog(by Caller) error {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	_, err := w.may(by, lockkeeper.ReadCatalog, lockkeeper.Root, now)
	return err
}

// A View is a deployment and, while it waits, how its gate stands.
type View struct {
	Deployment
	Gate    *lockkeeper.Decision // nil once it has ended
	Version int64                // entries of the journal that it was seen at
	Queue   *QueuePlace          // nil: it has no place in the queue of the lock
}

// Holder is the caller who shows the handle of a deployment: he may read and
// end it.
func (k *Keeper) Holder(ctx context.Context, id, handle string) (Caller, error) {
	d, err := k.find(ctx, id)
	if err == nil {
		digest := []byte(HandleDigest(handle))
		if subtle.ConstantTimeCompare(digest, []byte(d.Handle)) == 1 || d.Lease != nil && subtle.ConstantTimeCompare(digest, []byte(d.Lease.Handle)) == 1 {
			return Caller{Holder: id}, nil
		}
	} else if lockkeeper.KindOf(err) != lockkeeper.NotFound {
		return Caller{}, err
	}
	return Caller{}, lockkeeper.Unauthenticated.Errorf("handle_unknown", "This handle opens no deployment %s.", id).
		WithNext("Use the handle that the ask was made with.")
}

// Deployment is one deployment, alive or ended, for whoever may read it.
func (k *Keeper) Deployment(ctx context.Context, by Caller, id string) (View, error) {
	d, err := k.find(ctx, id)
	if err != nil {
		return View{}, err
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if err := w.mayRead(by, d, now); err != nil {
		return View{}, err
	}
	return w.view(d, now), nil
}

func (w *world) mayRead(by Caller, d *Deployment, now lockkeeper.Moment) error {
	if by.Holder == d.ID {
		return nil
	}
	_, err := w.may(by, lockkeeper.ReadDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now)
	return err
}

func (w *world) view(d *Deployment, now lockkeeper.Moment) View {
	v := View{Deployment: *d, Version: w.Size}
	if d.End != nil {
		return v
	}
	facts, err := w.facts(d, now)
	if err != nil {
		r := lockkeeper.RefusalOf(err)
		v.Gate = &lockkeeper.Decision{Subject: "gate", Verdict: lockkeeper.Fail, Code: r.Code, Sentence: r.Sentence, Next: r.Next}
		return v
	}
	v.Votes = w.carrying(d, now).Votes
	judge := w.judge
	if d.Status == Running {
		judge = w.standing
	}
	verdict := judge(d, facts, now)
	if none := w.hopeless(d, facts, verdict, now); none != nil {
		verdict = gate.Also(verdict, *none)
	}
	v.Gate = &verdict
	v.Queue = w.queue(d, facts, v.Phase(), now)
	return v
}

// find reads a deployment from the state or, if it has ended, from the journal.
func (k *Keeper) find(ctx context.Context, id string) (*Deployment, error) {
	missing := lockkeeper.NotFound.Errorf("deployment_missing", "There is no deployment %.80q.", id).WithNext("List them: lockkeeper deployments list")
	if !strings.HasPrefix(id, "d-") || lockkeeper.CheckName(id) != nil {
		return nil, missing
	}
	k.mu.RLock()
	alive := k.state.Deployments[id]
	if alive != nil {
		alive = alive.clone()
	}
	k.mu.RUnlock()
	if alive != nil {
		return alive, nil
	}
	stored, err := k.journal.SubjectAll(ctx, deploymentSubject(id))
	if err != nil {
		return nil, err
	}
	d, _, err := foldStored(stored)
	if err != nil {
		return nil, missing.WithCause(err)
	}
	return d, nil
}

func foldStored(stored []journal.Entry) (*Deployment, []Entry, error) {
	entries, bodies := make([]Entry, len(stored)), make([]event, len(stored))
	for i, s := range stored {
		var err error
		if entries[i], bodies[i], err = readEntry(s.Data); err != nil {
			return nil, nil, err
		}
	}
	d, err := foldDeployment(entries, bodies)
	return d, entries, err
}

// WaitDeployment returns the deployment as soon as its status or its gate
// differs from what the caller saw, given by Seen of that view, or when ctx
// ends.
func (k *Keeper) WaitDeployment(ctx context.Context, by Caller, id, seen string) (View, error) {
	return waitFor(ctx, k, func(ctx context.Context) (View, bool, error) {
		v, err := k.Deployment(ctx, by, id)
		return v, v.Seen() != seen || seen == "", err
	})
}

// waitFor looks until look says that it is done, fails, or ctx ends, and returns
// what was seen last. It looks again after changes, and once a second, for a
// verdict may change by time alone.
func waitFor[V any](ctx context.Context, k *Keeper, look func(context.Context) (v V, done bool, err error)) (V, error) {
	for {
		k.mu.RLock()
		changed := k.changed
		k.mu.RUnlock()
		v, done, err := look(context.WithoutCancel(ctx))
		if err != nil || done {
			return v, err
		}
		wait := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			wait.Stop()
			return v, nil
		case <-changed:
			// Under load there are hundreds of commits a second, and each may have
			// many waiters: they look a few times a second, not at each.
			select {
			case <-ctx.Done():
			case <-time.After(lookPause):
			}
		case <-wait.C:
		case <-k.done:
			wait.Stop()
			return v, k.Fault()
		}
		wait.Stop()
	}
}

// lookPause is the least time between two looks of one waiter.
const lookPause = 100 * time.Millisecond

// Seen stands for what a view shows: equal for views that show the same.
func (v View) Seen() string {
	b, err := marshal(struct {
		Status Status
		Gate   *lockkeeper.Decision
		Lease  *Lease
		Place  int
	}{v.Status, v.Gate, v.Lease, v.place()})
	if err != nil {
		return ""
	}
	return lockkeeper.DigestOf(b).Hex()[:24]
}

func (v View) place() int {
	if v.Queue == nil {
		return 0
	}
	return v.Queue.Place
}

// A Filter chooses deployments.
type Filter struct {
	Project, Environment string
	Alive                bool  // only those that have not ended
	Before               int64 // only those opened before this entry; 0: all
	Limit                int   // 1 to 200; 0: 50
}

// Deployments lists deployments that the caller may read, newest first.
func (k *Keeper) Deployments(ctx context.Context, by Caller, f Filter) ([]View, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 200)
	ids, err := k.ids(ctx, f)
	if err != nil {
		return nil, err
	}
	out := []View{}
	for _, id := range ids {
		v, err := k.Deployment(ctx, by, id)
		if lockkeeper.KindOf(err) == lockkeeper.Forbidden {
			continue
		}
		if err != nil {
			return nil, err
		}
		if out = append(out, v); len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

func (k *Keeper) ids(ctx context.Context, f Filter) ([]string, error) {
	if f.Alive {
		return k.aliveIDs(f), nil
	}
	subject := "deployments"
	if f.Project != "" {
		subject += "/" + f.Project
		if f.Environment != "" {
			subject += "/" + f.Environment
		}
	}
	stored, err := k.journal.Subject(ctx, subject, f.Before, 4*f.Limit)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range stored {
		if _, body, err := readEntry(s.Data); err != nil {
			return nil, err
		} else if ev, is := body.(*deploymentOpened); is && (f.Environment == "" || ev.Ask.Environment == f.Environment) {
			ids = append(ids, ev.ID)
		}
	}
	return ids, nil
}

func (k *Keeper) aliveIDs(f Filter) []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var list []*Deployment
	for _, d := range k.state.Deployments {
		if (f.Project == "" || d.Ask.Project == f.Project) && (f.Environment == "" || d.Ask.Environment == f.Environment) && (f.Before <= 0 || d.OpenedSeq < f.Before) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b *Deployment) int { return int(b.OpenedSeq - a.OpenedSeq) })
	var ids []string
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

// Health is nil while the keeper decides.
func (k *Keeper) Health() error { return k.Fault() }

// Size is how many entries the journal has.
func (k *Keeper) Size() int64 { return k.read().Size }
