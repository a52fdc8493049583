package effect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/forge"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A platform is where runs are held: what is read of them and what it is told.
type platform interface {
	Look(ctx context.Context, a forge.Asking) (forge.Look, error)   // everything
	Follow(ctx context.Context, a forge.Asking) (forge.Look, error) // whether it is held still, and its attempt
	Tell(ctx context.Context, a forge.Asking, approve bool, comment string) error
	Status(ctx context.Context, a forge.Asking, line string) error
}

// A HoldWorker reads the runs that platforms hold, and tells the platforms what the
// keeper decided. It keeps nothing that matters: what it does not do, the next one does.
// Telling twice says the same twice, which a platform takes or refuses.
type HoldWorker struct {
	Keeper *keeper.Keeper
	Log    *slog.Logger

	secrets secrets
	working sync.WaitGroup
	mu      sync.Mutex
	clients map[string]client    // by provider
	busy    map[string]bool      // by hold
	again   map[string]time.Time // by hold and verb
	said    map[string][]string  // status lines, by hold
}

// Bounds of a HoldWorker.
const (
	holdsAtOnce = 16
	holdSettles = 2 * time.Minute // within which a platform must show what it told us of
	followEvery = 2 * time.Minute
	retryHold   = 15 * time.Second
	holdEffort  = 2 * time.Minute // of one piece of work
)

// NewHoldWorker makes one. It does nothing before Run. secrets is the folder with the
// files app@PROVIDER.key and app@PROVIDER.secret.
func NewHoldWorker(k *keeper.Keeper, folder string, log *slog.Logger) *HoldWorker {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &HoldWorker{Keeper: k, Log: log, secrets: secrets{folder}, clients: map[string]client{}, busy: map[string]bool{}, again: map[string]time.Time{}, said: map[string][]string{}}
}

// Secret is what a provider's platform signs its messages with.
func (w *HoldWorker) Secret(provider string) (string, error) {
	s, err := w.secrets.of("app@" + provider + ".secret")
	if err != nil {
		return "", lockkeeper.Unavailable.Errorf("app_secret", "The server has no secret of the application of %s.", provider).WithNext("Put it into the file app@%s.secret of the folder that serve --provisioners names.", provider).WithCause(err)
	}
	return s, nil
}

// Run works until ctx ends or the keeper stops, and returns when nothing is at work.
func (w *HoldWorker) Run(ctx context.Context) {
	defer w.working.Wait()
	if err := w.Keeper.DropAccess(ctx); err != nil {
		w.Log.Warn("what answered checks have brought was not erased", "error", err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := w.Keeper.Changed()
		w.look(ctx, w.Keeper.Holds())
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

// look sets about what is due, and forgets what is over.
func (w *HoldWorker) look(ctx context.Context, list []keeper.HoldWork) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	alive := map[string]bool{}
	for _, h := range list {
		due := h.ID + " " + string(h.Verb)
		alive[h.ID], alive[due] = true, true
		if w.busy[h.ID] || now.Before(w.again[due]) || len(w.busy) >= holdsAtOnce {
			continue
		}
		w.busy[h.ID], w.again[due] = true, now.Add(untilNext(h, now))
		w.working.Go(func() {
			w.do(ctx, h)
			w.mu.Lock()
			delete(w.busy, h.ID)
			w.mu.Unlock()
		})
	}
	for due := range w.again {
		if !alive[due] {
			delete(w.again, due)
		}
	}
	for id := range w.said {
		if !alive[id] {
			delete(w.said, id)
		}
	}
}

// untilNext is after which time a hold is looked at again.
func untilNext(h keeper.HoldWork, now time.Time) time.Duration {
	if h.Verb == keeper.FollowHold || h.Verb == keeper.TellHold && h.Asked.Polled || h.Verb == keeper.LookAtHold && now.Sub(h.Noted.Time()) > holdSettles {
		return followEvery
	}
	return retryHold
}

func (w *HoldWorker) do(ctx context.Context, h keeper.HoldWork) {
	working, cancel := context.WithTimeout(ctx, holdEffort)
	defer cancel()
	p := w.platform(h)
	if p == nil {
		w.Log.Warn("a held run is of a platform that holds none", "hold", h.ID, "platform", h.Provider.Platform)
		return
	}
	var err error
	switch h.Verb {
	case keeper.LookAtHold:
		err = w.open(working, p, h)
	case keeper.FollowHold:
		err = w.follow(working, p, h)
	case keeper.ReleaseHold:
		err = w.release(working, p, h)
	case keeper.TellHold:
		err = w.tell(working, p, h)
	}
	if codeOf(err) == forge.AccessOver && ctx.Err() == nil {
		err = w.giveUp(working, h, reasonOf(err))
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	if r := lockkeeper.RefusalOf(err); r != nil {
		w.Log.Info("a held run waits", "hold", h.ID, "work", h.Verb, "code", r.Code)
		return
	}
	w.Log.Warn("a held run was not dealt with and is tried again", "hold", h.ID, "work", h.Verb, "code", codeOf(err), "reason", reasonOf(err))
}

// open reads the run and opens its deployment. A run that the platform does not show as
// held is given up only after a while: its answers may lag behind its message.
func (w *HoldWorker) open(ctx context.Context, p platform, h keeper.HoldWork) error {
	look, err := p.Look(ctx, asking(h))
	if err != nil {
		return err
	}
	if !look.Held {
		if look.Over || time.Since(h.Noted.Time()) > holdSettles {
			return w.Keeper.LoseHold(ctx, h.ID, keeper.Cancelled, "The platform does not hold the run.")
		}
		return nil
	}
	return w.Keeper.OpenHold(ctx, h.ID, look.Job)
}

// release reads the run once more before it is let through.
func (w *HoldWorker) release(ctx context.Context, p platform, h keeper.HoldWork) error {
	look, err := p.Look(ctx, asking(h))
	if err != nil {
		return err
	}
	if !look.Held {
		return w.Keeper.LoseHold(ctx, h.ID, keeper.Cancelled, "The platform does not hold the run any more.")
	}
	return w.Keeper.ReleaseHold(ctx, h.ID, look.Job)
}

// follow sees whether a run is there still, and says on the platform what it waits for.
func (w *HoldWorker) follow(ctx context.Context, p platform, h keeper.HoldWork) error {
	look, err := p.Follow(ctx, asking(h))
	if err != nil {
		return err
	}
	switch {
	case look.Job.Attempt > 0 && look.Job.Attempt != h.Attempt:
		return w.Keeper.LoseHold(ctx, h.ID, keeper.Indeterminate, "The run has begun another attempt.")
	case look.Over:
		return w.Keeper.LoseHold(ctx, h.ID, outcome(look.Outcome), "The platform says that the run has ended: "+look.Outcome+".")
	case h.Released:
		return nil
	case !look.Held:
		return w.Keeper.LoseHold(ctx, h.ID, keeper.Cancelled, "The platform does not hold the run any more.")
	}
	return w.say(ctx, p, h)
}

func outcome(conclusion string) keeper.Status {
	switch conclusion {
	case "success":
		return keeper.Succeeded
	case "failure", "timed_out", "startup_failure":
		return keeper.Failed
	case "cancelled":
		return keeper.Cancelled
	}
	return keeper.Indeterminate
}

// say tells what the gate waits for, each thing once and the last place kept free. A
// platform that asks again and again reads it in the answer.
func (w *HoldWorker) say(ctx context.Context, p platform, h keeper.HoldWork) error {
	line := fmt.Sprintf("%s waits: %s", h.Deployment, h.Waits)
	w.mu.Lock()
	said := w.said[h.ID]
	known := h.Waits == "" || h.Asked.Polled || len(said) >= forge.MaxStatuses-1
	for _, one := range said {
		known = known || one == line
	}
	if !known {
		w.said[h.ID] = append(said, line)
	}
	w.mu.Unlock()
	if known {
		return nil
	}
	return p.Status(ctx, asking(h), line)
}

// tell gives the answer that is owed. Just before, the keeper says whether it stands; a
// yes that does not is not given. What the platform refuses because it waits for nothing
// is told as well as it ever will be.
func (w *HoldWorker) tell(ctx context.Context, p platform, h keeper.HoldWork) error {
	if !w.Keeper.HoldStands(h.ID) {
		return nil
	}
	if h.Asked.Polled {
		return w.untold(ctx, p, h)
	}
	err := p.Tell(ctx, asking(h), h.Owed.Approve, h.Owed.Reason+echo(h))
	if err == nil {
		return w.Keeper.TellHold(ctx, h.ID, h.Owed.Approve, "", nil)
	}
	if final := new(forge.Problem); errors.As(err, &final) && final.Final {
		if look, lookErr := p.Follow(ctx, asking(h)); lookErr == nil && (!look.Held || look.Job.Attempt != h.Attempt && h.Attempt > 0) {
			return w.Keeper.TellHold(ctx, h.ID, h.Owed.Approve, "The platform waits for no answer: "+final.Reason, nil)
		}
	}
	if told := w.Keeper.TellHold(ctx, h.ID, h.Owed.Approve, "", &keeper.Missed{Code: codeOf(err), Reason: reasonOf(err)}); told != nil {
		return told
	}
	return err
}

// echo says to what an answer belongs: to an ask by its digest, and to one asking by our
// own name of it, which is random and never comes again.
func echo(h keeper.HoldWork) string {
	if h.Digest == "" {
		return " [" + h.ID + "]"
	}
	return fmt.Sprintf(" [%s %s]", h.Digest, h.ID)
}

func asking(h keeper.HoldWork) forge.Asking {
	a := h.Asked
	return forge.Asking{Hold: h.ID, Check: forge.Check(a.Check), Organisation: a.Organisation, Repository: a.Repository, Place: a.Place, Run: a.Run, Environment: a.Environment, Installation: a.Installation, Mark: a.Mark}
}

// A client is a platform as the catalog says of it.
type client struct {
	platform
	said said
}

// said is what the catalog says of a provider that its client depends on.
type said struct{ platform, issuer, api, app string }

// platform is the one client of a provider, for as long as the catalog says the same of it.
func (w *HoldWorker) platform(h keeper.HoldWork) platform {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := h.Provider
	now := said{p.Platform, p.Issuer, p.APIURL(), p.App.ID}
	known := w.clients[p.Name]
	if known.platform == nil || known.said != now {
		known = client{w.client(p.Name, now), now}
		w.clients[p.Name] = known
	}
	return known.platform
}

// client makes the client of a provider, or nil for a platform that holds no runs. Its
// secrets are read at each use.
func (w *HoldWorker) client(provider string, s said) platform {
	file := func(name string) func() ([]byte, error) {
		return func() ([]byte, error) {
			text, err := w.secrets.of("app@" + provider + "." + name)
			return []byte(text), err
		}
	}
	switch s.platform {
	case "gitlab":
		return &forge.GitLab{Provider: provider, Issuer: s.issuer, API: s.api, App: s.app, Key: file("key")}
	case "azure":
		return &forge.Azure{Provider: provider, Issuer: s.issuer, API: s.api, Access: w.access, Client: notInside()}
	case "github":
		return &forge.GitHub{Provider: provider, Issuer: s.issuer, API: s.api, App: s.app, Key: file("key")}
	}
	return nil
}

// codeOf and reasonOf are what may be told of an error.
func codeOf(err error) string {
	if p := new(forge.Problem); errors.As(err, &p) {
		return p.Code
	}
	return outcomeOf(err).Code
}

func reasonOf(err error) string {
	if p := new(forge.Problem); errors.As(err, &p) {
		return p.Reason
	}
	return outcomeOf(err).Reason
}
