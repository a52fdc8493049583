package keeper

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"golang.org/x/time/rate"
)

// Options say where a keeper keeps its journal. Zero values are the safe,
// working defaults.
type Options struct {
	Dir string // data folder; made if there is none
	// Outside is the file with the last checkpoint, best on another disk than Dir;
	// default: checkpoint in Dir.
	Outside string
	Origin  string           // names the log in every checkpoint; default "lockkeeper"
	Issuer  string           // URL under which tokens are verified; their iss
	Log     *slog.Logger     // default: discard
	Clock   func() time.Time // default: time.Now

	// Every RecordEvery entries the state is recorded for the next start; default
	// 10,000.
	RecordEvery int64
	// Up to VerifyWhole entries a start verifies the whole journal before it
	// serves; past it, it verifies from the recorded state on, and the rest while
	// it serves. Default 100,000.
	VerifyWhole int64
	// Roots are trusted roots of Sigstore (JSON), by their digest: what keyless signers
	// of the catalog name.
	Roots map[lockkeeper.Digest][]byte
}

// A Keeper is an open Lockkeeper. It is safe for use by many goroutines.
type Keeper struct {
	options Options
	log     *slog.Logger
	lock    *journal.Lock
	sealed  *journal.Sealed
	journal *journal.Journal
	keys    keys
	ring    ring

	queue  chan *request
	urgent chan *request // ends and revocations: nothing may stand before them
	stop   chan struct{}
	done   chan struct{}

	tending sync.WaitGroup     // what runs beside the writer
	cancel  context.CancelFunc // ends it

	work    *core // owned by the writer
	started time.Time
	trail   trail

	mu      sync.RWMutex
	state   *State // committed; changed only under mu
	rules   *Rules
	changed chan struct{} // closed and replaced at each commit
	fault   error         // why the keeper takes nothing more

	readings chan struct{} // how many asks with evidence are read at once
	signIns  chan struct{} // how many passwords are hashed at once
	limiters sync.Mutex
	limits   map[string]*rate.Limiter

	factors factorsUnderway
	scanned sync.Map // how each provisioner's target was last read (Scanned), by its name; volatile

	measuring chan struct{} // how many measure at once
	looked    string        // the ask that lookAtGates saw last; of tend alone
	counter   counter       // under mu
}

// A request is a command on its way to the writer.
type request struct {
	by    Caller
	key   string
	cmd   command
	reply chan step
}

const (
	queueLength = 4096
	maxBatch    = 256
	sweepEvery  = time.Second
	clockSlack  = 2 * time.Minute
)

// Open opens the keeper of a data folder. It takes the folder for this process,
// verifies the journal, folds it, and starts the writer. What Open cannot
// believe it refuses; nothing is mended silently. The old part of a large
// journal is verified while the keeper serves, from a state that the verified
// part vouches for; a keeper that finds it broken stops.
func Open(ctx context.Context, o Options) (*Keeper, error) {
	o = o.filled()
	k := &Keeper{options: o, log: o.Log, queue: make(chan *request, queueLength), urgent: make(chan *request, 64),
		stop: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		measuring: make(chan struct{}, 1),
		readings:  make(chan struct{}, readingAtOnce), signIns: make(chan struct{}, 2), limits: map[string]*rate.Limiter{}}
	if err := k.open(ctx); err != nil {
		k.release()
		return nil, err
	}
	go k.write()
	var tending context.Context
	tending, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	k.tending.Go(func() { k.tend(tending) })
	if err := k.beginRings(ctx); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// filled is o with the defaults in the place of what was left out.
func (o Options) filled() Options {
	o.Origin = cmp.Or(o.Origin, "lockkeeper")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.RecordEvery <= 0 {
		o.RecordEvery = recordEvery
	}
	if o.VerifyWhole <= 0 {
		o.VerifyWhole = verifyWhole
	}
	return o
}

func (k *Keeper) open(ctx context.Context) (err error) {
	if k.lock, err = journal.LockFolder(k.options.Dir); err != nil {
		return err
	}
	if k.sealed, err = journal.OpenSealed(ctx, k.options.Dir); err != nil {
		return err
	}
	begun, err := journal.Begun(ctx, k.options.Dir)
	if err != nil {
		return err
	}
	if k.keys, err = openKeys(ctx, k.sealed, k.options.Origin, !begun); err != nil {
		return err
	}
	k.ring.sealed = k.sealed
	options := k.journalOptions()
	options.Behind = k.behind
	k.journal, err = journal.Open(ctx, options)
	if err != nil {
		return err
	}
	if err := k.reload(ctx); err != nil {
		return err
	}
	k.started = k.options.Clock()
	if err := k.ring.load(ctx, k.work.Keys); err != nil {
		return err
	}
	if k.work.Size == 0 {
		return k.begin(ctx)
	}
	if k.work.Log != k.keys.log(k.options.Origin) {
		return lockkeeper.Conflict.Errorf("keys_differ", "The journal names other signing keys than the sealed store holds.").
			WithNext("Put sealed.db and sealed.key back from the back-up that belongs to this journal. If they are lost: lockkeeper recover --lost-keys")
	}
	return nil
}

func (k *Keeper) journalOptions() journal.Options {
	return journal.Options{Dir: k.options.Dir, Outside: k.options.Outside, Origin: k.options.Origin,
		Signer: k.keys.checkpoint, Verifier: k.keys.verifier, Lock: k.lock}
}

// begin writes entry 0.
func (k *Keeper) begin(ctx context.Context) error {
	now := lockkeeper.MomentOf(k.options.Clock())
	s := step{}
	if err := k.work.record(&s, Caller{Keeper: true}, "", "", []event{&journalStarted{Log: k.keys.log(k.options.Origin)}}, now); err != nil {
		return err
	}
	if _, err := k.journal.Append(ctx, journal.Batch{Records: s.records}); err != nil {
		return err
	}
	return k.publish([]step{s})
}

// reload folds the journal into three states: one that the writer decides on, one
// that readers see, and one that follows it to be written down.
func (k *Keeper) reload(ctx context.Context) error {
	states, err := k.states(ctx, 3, 0)
	if err != nil {
		return err
	}
	work, committed := states[0], states[1]
	if k.state != nil && work.Size < k.state.Size {
		return fmt.Errorf("the journal has %d entries, and %d were acknowledged", work.Size, k.state.Size)
	}
	rules, err := k.rulesOf(ctx, work.Revision)
	if err != nil {
		return err
	}
	rules = rules.joined(work)
	k.work = &core{world: world{State: work, rules: rules, spelled: map[string]spelling{}}}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.rules = committed, rules
	k.trail.state, k.trail.ahead = states[2], nil
	k.counter.begin(committed)
	return nil
}

// rulesOf compiles the catalog of a revision from the journal's documents.
func (k *Keeper) rulesOf(ctx context.Context, r Revision) (*Rules, error) {
	var documents [][]byte
	for _, d := range r.Documents {
		data, err := k.journal.Document(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("catalog revision %d: %w", r.Number, err)
		}
		documents = append(documents, data)
	}
	rules, err := compileRules(documents)
	if err != nil {
		return nil, fmt.Errorf("catalog revision %d: %w", r.Number, err)
	}
	if r.Number > 0 && rules.Catalog.Digest() != r.Digest {
		return nil, fmt.Errorf("catalog revision %d has another digest than its entry", r.Number)
	}
	return rules, nil
}

// Close stops the writer after what it has taken, and lets go of the folder.
func (k *Keeper) Close() error {
	k.mu.Lock()
	if k.fault == nil {
		k.fault = errStopped()
		close(k.stop)
	}
	k.mu.Unlock()
	<-k.done
	k.cancel()
	k.tending.Wait()
	return k.release()
}

func (k *Keeper) release() error {
	var errs []error
	if k.journal != nil {
		errs = append(errs, k.journal.Close())
	}
	if k.sealed != nil {
		errs = append(errs, k.sealed.Close())
	}
	if k.lock != nil {
		errs = append(errs, k.lock.Release())
	}
	return errors.Join(errs...)
}

// Done is closed when the keeper takes nothing more; Fault says why.
func (k *Keeper) Done() <-chan struct{} { return k.done }

// Fault is why the keeper takes nothing more, or nil while it does.
func (k *Keeper) Fault() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.fault
}

func errStopped() error {
	return lockkeeper.Unavailable.Errorf("stopping", "The server is stopping.").WithNext("Ask again when it is back.")
}

// do sends a command to the writer and waits for what was decided, which is
// durable by then. If ctx ends first, the decision may still happen; asking
// again with the same key tells.
func do[T any](ctx context.Context, k *Keeper, by Caller, key string, cmd command) (T, error) {
	var answer T
	r := &request{by: by, key: key, cmd: cmd, reply: make(chan step, 1)}
	queue := k.queue
	switch cmd.(type) {
	case cancelDeployment, endDeployment, endSession, revokeToken, revokeLease, withdrawApproval, endActivation, withdrawRequest, beginEffect, endEffect, openIncident, extendIncident, denyProposal, recallToken,
		endPersonal:
		queue = k.urgent
	}
	if p, is := cmd.(pressing); is && p.pressing() {
		queue = k.urgent
	}
	select {
	case queue <- r:
	case <-k.done:
		return answer, k.Fault()
	case <-ctx.Done():
		return answer, errGaveUp(ctx)
	}
	select {
	case s := <-r.reply:
		return answerOf[T](s)
	case <-k.done:
		select { // the writer may have answered just before it ended
		case s := <-r.reply:
			return answerOf[T](s)
		default:
			return answer, k.Fault()
		}
	case <-ctx.Done():
		return answer, errGaveUp(ctx)
	}
}

func errGaveUp(ctx context.Context) error {
	return lockkeeper.Unavailable.Errorf("gave_up", "The caller gave up before the decision was durable; it may still happen.").
		WithNext("Ask again with the same idempotency key.").WithCause(context.Cause(ctx))
}

func answerOf[T any](s step) (T, error) {
	var answer T
	if s.err != nil {
		return answer, s.err
	}
	if s.replay != nil {
		return answer, json.Unmarshal(s.replay, &answer)
	}
	answer, _ = s.answer.(T)
	return answer, nil
}

// write is the writer: one goroutine that decides, appends, applies, answers.
func (k *Keeper) write() {
	defer close(k.done)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		var first *request
		select {
		case first = <-k.urgent:
		default:
			select {
			case first = <-k.urgent:
			case first = <-k.queue:
			case <-tick.C:
				first = &request{by: Caller{Keeper: true}, cmd: sweep{}, reply: make(chan step, 1)}
			case <-k.stop:
				k.drain()
				return
			}
		}
		if !k.batch(k.gather(first)) {
			return
		}
	}
}

// gather takes what waits, the urgent first, up to a batch. It lets everybody
// run first who can: under load more requests then share a commit, and without
// load nobody is there to wait for.
func (k *Keeper) gather(first *request) []*request {
	runtime.Gosched()
	batch := []*request{first}
	for len(batch) < maxBatch {
		select {
		case r := <-k.urgent:
			batch = append(batch, r)
			continue
		default:
		}
		select {
		case r := <-k.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// drain refuses what still waits when the keeper stops.
func (k *Keeper) drain() {
	for {
		select {
		case r := <-k.urgent:
			r.reply <- step{err: errStopped()}
		case r := <-k.queue:
			r.reply <- step{err: errStopped()}
		default:
			return
		}
	}
}

// batch decides the requests at one instant, makes all of it durable in one
// transaction, and only then answers. It reports whether the keeper goes on.
//
// A crash before the commit leaves nothing; after it, everything, and nobody
// was told: the callers ask again with their keys.
func (k *Keeper) batch(requests []*request) bool {
	ctx := context.Background()
	refuse := func(err error) {
		for _, r := range requests {
			r.reply <- step{err: err}
		}
	}
	now, err := k.instant()
	if err != nil {
		k.log.Error("the clock is wrong", "error", err)
		refuse(err)
		return true
	}
	b := journal.Batch{Size: k.work.Size}
	steps := make([]step, len(requests))
	for i, r := range requests {
		if steps[i], err = k.work.step(r.by, r.key, r.cmd, now); err != nil {
			return k.recover(ctx, requests, b.Size, 0, nil, fmt.Errorf("%s: %w", r.cmd.name(), err))
		}
		b.Records = append(b.Records, steps[i].records...)
		b.Documents = append(b.Documents, steps[i].documents...)
	}
	if _, err := k.journal.Append(ctx, b); err != nil {
		return k.recover(ctx, requests, b.Size, len(b.Records), steps, err)
	}
	return k.finish(requests, steps)
}

// finish makes the steps visible and answers.
func (k *Keeper) finish(requests []*request, steps []step) bool {
	if err := k.publish(steps); err != nil {
		k.fail(err)
		return false
	}
	for i, r := range requests {
		r.reply <- steps[i]
	}
	return true
}

// recover decides what became of a batch whose append went wrong, reloads from
// the journal as at a start, and answers accordingly.
func (k *Keeper) recover(ctx context.Context, requests []*request, size int64, n int, steps []step, cause error) bool {
	k.log.Error("a batch went wrong", "error", cause, "size", size, "records", n)
	refusal := error(lockkeeper.RefusalOf(cause))
	if lockkeeper.RefusalOf(cause) == nil {
		refusal = lockkeeper.Unavailable.Errorf("journal_unavailable", "The decision could not be made durable; nothing was granted.").
			WithNext("Ask again.").WithCause(cause)
	}
	if journal.Fatal(cause) {
		k.fail(cause)
		return false
	}
	happened := false
	if errors.Is(cause, journal.ErrUnknown) {
		head, err := k.journal.Settle(ctx)
		if err != nil {
			k.fail(err)
			return false
		}
		happened = head.Size == size+int64(n)
	}
	if err := k.reload(ctx); err != nil {
		k.fail(err)
		return false
	}
	k.wake()
	for i, r := range requests {
		if happened {
			r.reply <- steps[i]
		} else {
			r.reply <- step{err: refusal}
		}
	}
	return true
}

// fail ends the keeper: it no longer knows its state, so it answers nothing.
func (k *Keeper) fail(err error) {
	k.log.Error("the keeper stops: it no longer knows its state", "error", err)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault == nil {
		k.fault = lockkeeper.Unavailable.Errorf("keeper_stopped", "The server no longer knows its state and stops.").
			WithNext("Start it again; it reads its journal anew.").WithCause(err)
		close(k.stop)
	}
}

// publish applies committed entries to the state that readers see.
func (k *Keeper) publish(steps []step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	moved := false
	for _, s := range steps {
		for i, e := range s.entries {
			moved = true
			if err := k.state.apply(e, s.events[i]); err != nil {
				return err
			}
			k.trail.ahead = append(k.trail.ahead, committed{e, s.events[i]})
			measured(k.counter.fold, e, s.events[i], noName)
		}
		if s.rules != nil {
			k.rules = s.rules
		}
	}
	if moved {
		close(k.changed)
		k.changed = make(chan struct{})
	}
	return nil
}

func (k *Keeper) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.changed)
	k.changed = make(chan struct{})
}

// instant is the one reading of the clock for a batch: never before the last
// entry. A clock that jumped against the monotonic one, or that lies well
// before the last entry, refuses before anything is appended.
func (k *Keeper) instant() (lockkeeper.Moment, error) {
	clock := k.options.Clock()
	now := lockkeeper.MomentOf(clock)
	drift := clock.Round(0).Sub(k.started.Round(0)) - clock.Sub(k.started)
	if behind := k.work.Now.Sub(now); behind > clockSlack || drift.Abs() > clockSlack {
		return now, lockkeeper.Unavailable.Errorf("clock_wrong", "The server's clock (%s) does not fit its journal (%s); it decides nothing until that is mended.", now, k.work.Now).
			WithNext("Set the clock and start the server again.")
	}
	if now.Before(k.work.Now) {
		now = k.work.Now
	}
	return now, nil
}

// newID is a fresh id with 80 random bits: d-abcdefghijklmnop.
func newID(prefix string) string {
	b := make([]byte, 10)
	rand.Read(b)
	return prefix + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

// newSecret is 160 random bits for a person or a job to keep.
func newSecret(prefix string) string {
	b := make([]byte, 20)
	rand.Read(b)
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

func secretDigest(s string) lockkeeper.Digest {
	return lockkeeper.DigestOf([]byte("lockkeeper.secret.v1\n" + s))
}
