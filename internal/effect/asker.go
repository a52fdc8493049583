package effect

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// An Asker puts the questions that wait in the journal to the services that they are
// for. It keeps nothing: one that dies between an answer and its report has asked in
// vain, and the next one asks again until the deadline. Two of them ask twice, and the
// first answer counts.
type Asker struct {
	Keeper *keeper.Keeper
	Log    *slog.Logger
	caller caller

	freed   chan struct{} // a service may be asked something else
	working sync.WaitGroup
	mu      sync.Mutex
	more    bool                 // something is due that could not be asked yet
	asking  map[string]string    // host by question that is being asked
	again   map[string]time.Time // when a question is asked again
}

// AskerOptions are what an Asker works with.
type AskerOptions struct {
	Keeper  *keeper.Keeper
	Secrets string       // folder with the files call@RULE.key and call@RULE.secret
	Reach   Reach        // where calls may go beyond the public internet
	Log     *slog.Logger // default: discard
}

// Bounds of an asker: a slow service keeps nobody from asking another one.
const (
	asksAtOnce     = 64
	asksOfHost     = 8
	reportPatience = 30 * time.Second
	freedPause     = 50 * time.Millisecond // many answers, one look
)

// NewAsker makes an asker. It does nothing before Run.
func NewAsker(o AskerOptions) *Asker {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Asker{Keeper: o.Keeper, Log: o.Log, caller: caller{o.Reach, secrets{o.Secrets}, o.Keeper.QuestionAssertion, o.Keeper.CallbackAddress, &bearers{}}, freed: make(chan struct{}, 1), asking: map[string]string{}, again: map[string]time.Time{}}
}

// Run asks until ctx ends or the keeper stops, and returns when nothing is being asked
// any more.
func (a *Asker) Run(ctx context.Context) {
	defer a.working.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := a.Keeper.Changed()
		a.look(ctx, a.Keeper.Questions())
		select {
		case <-ctx.Done():
			return
		case <-a.Keeper.Done():
			return
		case <-tick.C:
		case <-a.freed:
			if !pause(ctx, freedPause) {
				return
			}
		case <-changed:
			if !pause(ctx, lookPause) { // many commits, one look
				return
			}
		}
	}
}

// pause waits for a while; false: it is over before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// look sets about the questions that are due, and forgets those that are over.
func (a *Asker) look(ctx context.Context, open []keeper.OpenQuestion) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	waiting, more := map[string]bool{}, false
	hosts := map[string]int{}
	for _, host := range a.asking {
		hosts[host]++
	}
	for _, q := range open {
		waiting[q.ID] = true
		host := hostOf(q)
		if _, busy := a.asking[q.ID]; busy || now.Before(a.again[q.ID]) {
			continue
		}
		if len(a.asking) >= asksAtOnce || hosts[host] >= asksOfHost {
			more = true
			continue
		}
		hosts[host]++
		a.asking[q.ID], a.again[q.ID] = host, now.Add(q.Call.RetryEvery())
		a.working.Go(func() {
			a.put(ctx, q)
			a.mu.Lock()
			delete(a.asking, q.ID)
			waits := a.more
			a.mu.Unlock()
			if waits {
				select {
				case a.freed <- struct{}{}:
				default:
				}
			}
		})
	}
	a.more = more
	for id := range a.again {
		if _, busy := a.asking[id]; !busy && !waiting[id] {
			delete(a.again, id)
		}
	}
}

func hostOf(q keeper.OpenQuestion) string {
	u, err := url.Parse(q.Call.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// put makes one attempt and reports it. The report that the keeper refuses, because it
// is late, or another asker was first, changes nothing.
func (a *Asker) put(ctx context.Context, q keeper.OpenQuestion) {
	asking, cancel := context.WithTimeout(ctx, q.Call.TimeoutLimit())
	q = a.Keeper.WithFacts(q)
	outcome := a.caller.ask(asking, q)
	cancel()
	if ctx.Err() != nil && outcome.Missed != nil {
		return // we are stopping, and it says nothing about the service
	}
	log := a.Log.With("question", q.ID, "about", q.About, "rule", q.Rule)
	if m := outcome.Missed; m != nil {
		log.Warn("a service did not answer and is asked again", "code", m.Code, "reason", m.Reason)
	}
	reporting, done := context.WithTimeout(context.WithoutCancel(ctx), reportPatience)
	defer done()
	if err := a.Keeper.ReportQuestion(reporting, q, outcome); err != nil && ctx.Err() == nil {
		code := "error"
		if r := lockkeeper.RefusalOf(err); r != nil {
			code = r.Code
		}
		log.Warn("what a service said does not count", "code", code, "error", err)
	}
}
