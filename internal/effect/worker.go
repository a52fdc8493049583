package effect

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// An Account is what stands for an activation on a system: who, until when, and
// under which terms.
type Account struct {
	keeper.Duty
}

// A Provisioner changes one kind of system. Each method may be called again after
// any outcome, also after one that nobody learnt of. It must not act after its
// context has ended; what it cannot stop in time it must say in its documentation.
type Provisioner interface {
	// Grant gives the account what the terms say. An account that is there already is
	// brought to what they say.
	Grant(ctx context.Context, a Account) error
	// Revoke takes everything away that Grant may have given, sessions too. An
	// account that is not there is no error.
	Revoke(ctx context.Context, a Account) error
	// Verify reads the target, and reports whether anything of the account is there.
	Verify(ctx context.Context, a Account) (bool, error)
}

// A Failure is why an effect went wrong, for the journal and for people. Reason is
// a sentence without secrets.
type Failure struct {
	Code      string
	Reason    string
	Untouched bool // nothing left us, so nothing can have happened
}

func (f *Failure) Error() string { return f.Reason + " [" + f.Code + "]" }

// Options are what a worker works with.
type Options struct {
	Keeper  *keeper.Keeper
	Secrets string        // folder with one file for each provisioner, named as it
	Local   bool          // nobody but this machine reaches the server: webhooks may go to loopback addresses
	Log     *slog.Logger  // default: discard
	Longest time.Duration // of one effect, 1s to 2m; default 30s
	// ScanEvery is how often each target is read for what differs from what the journal
	// says; default 5m.
	ScanEvery time.Duration

	Azure AzureCloud // default: the public cloud

	// Provisioners by kind, in the place of the built-in ones; for tests.
	Provisioners map[string]Provisioner
}

// A Worker does what the keeper says is to be done outside.
type Worker struct {
	Options
	ssh      *sshAuthority
	database *database
	busy     chan struct{} // one place for each effect at work
	working  sync.WaitGroup

	mu     sync.Mutex
	flying map[string]bool // duties that this worker works on
}

// Bounds of a worker.
const (
	atOnce         = 8
	defaultLongest = 30 * time.Second
	lookEvery      = time.Second
	lookPause      = 100 * time.Millisecond
)

// New makes a worker. It does nothing before Run.
func New(o Options) *Worker {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Longest <= 0 {
		o.Longest = defaultLongest
	}
	if o.ScanEvery <= 0 {
		o.ScanEvery = defaultScanEvery
	}
	w := &Worker{Options: o, busy: make(chan struct{}, atOnce), flying: map[string]bool{}}
	secrets := secrets{o.Secrets}
	w.ssh, w.database = &sshAuthority{secrets}, &database{secrets}
	if w.Provisioners == nil {
		w.Provisioners = map[string]Provisioner{"postgresql": w.database, "ssh": w.ssh, "webhook": newWebhook(secrets, o.Local), "azure": newAzureRoles(o.Keeper, o.Azure)}
	}
	return w
}

// Run works until ctx ends or the keeper stops, and returns when nothing of it is
// at work any more. What it leaves undone is in the journal.
func (w *Worker) Run(ctx context.Context) {
	defer w.working.Wait()
	w.working.Go(func() { w.scanning(ctx) })
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := w.Keeper.Changed()
		for _, e := range w.Keeper.Effects() {
			if !w.start(ctx, e) {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.Keeper.Done():
			return
		case <-tick.C:
		case <-changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(lookPause): // many commits, one look
			}
		}
	}
}

// start sets about an effect beside the others. It reports whether there is room
// for more.
func (w *Worker) start(ctx context.Context, e keeper.Effect) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flying[e.Duty.ID] {
		return true
	}
	select {
	case w.busy <- struct{}{}:
	default:
		return false
	}
	w.flying[e.Duty.ID] = true
	w.working.Go(func() {
		w.do(ctx, e)
		w.mu.Lock()
		delete(w.flying, e.Duty.ID)
		w.mu.Unlock()
		<-w.busy
	})
	return true
}

// do records, does and reports one effect. A crash before the record leaves
// nothing; after it, the effect happens by its deadline or not at all, and the
// duty is undone whichever it was.
func (w *Worker) do(ctx context.Context, e keeper.Effect) {
	// A third of the deadline is for what is on its way to the target when it ends.
	working, cancel := context.WithTimeout(ctx, w.Longest*2/3)
	defer cancel()
	log := w.Log.With("duty", e.Duty.ID, "provisioner", e.Duty.Provisioner, "effect", e.Verb)
	begun, err := w.Keeper.BeginEffect(working, e, w.Longest)
	if err != nil {
		if r := lockkeeper.RefusalOf(err); ctx.Err() == nil && (r == nil || r.Code != "effect_stale" && r.Code != "duty_over") {
			log.Warn("an effect was not begun", "error", err)
		}
		return
	}
	failed := w.perform(working, begun)
	if ctx.Err() != nil && failed != nil {
		return // we are stopping, and do not know: the next worker finds out
	}
	var outcome keeper.Outcome
	if failed != nil {
		outcome = outcomeOf(failed)
		log.Log(ctx, level(e.Verb), "an effect failed and is tried again", "attempt", begun.Duty.Attempt, "code", outcome.Code, "reason", outcome.Reason)
	}
	reporting, done := context.WithTimeout(context.WithoutCancel(ctx), w.Longest)
	defer done()
	if err := w.Keeper.EndEffect(reporting, begun, outcome); err != nil && ctx.Err() == nil {
		log.Warn("the outcome of an effect was not recorded", "error", err)
	}
}

// level is how loudly a failure is told: what is not taken away wakes somebody.
func level(verb string) slog.Level {
	if verb == keeper.RevokeVerb {
		return slog.LevelError
	}
	return slog.LevelWarn
}

func (w *Worker) perform(ctx context.Context, e keeper.Effect) error {
	p := w.Provisioners[e.Duty.Terms.Kind()]
	if p == nil {
		return &Failure{"kind_unknown", "This release does not know the kind of the provisioner.", true}
	}
	a := Account{e.Duty}
	if e.Verb == keeper.GrantVerb {
		return p.Grant(ctx, a)
	}
	if err := p.Revoke(ctx, a); err != nil {
		return err
	}
	there, err := p.Verify(ctx, a)
	if err == nil && there {
		err = &Failure{"still_there", "The target was told to take the account away, and has it still.", false}
	}
	return err
}

// outcomeOf is what may be recorded of an error. The text of one that is no Failure
// may hold anything, so only its kind is told.
func outcomeOf(err error) keeper.Outcome {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return keeper.Outcome{Code: f.Code, Reason: f.Reason, Untouched: f.Untouched}
	case errors.Is(err, context.DeadlineExceeded):
		return keeper.Outcome{Code: "timed_out", Reason: "The target did not answer in time."}
	}
	return keeper.Outcome{Code: "target_failed", Reason: "The target could not be reached, or broke off."}
}
