package effect

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A Notifier tells people outside what waits for them. It keeps nothing: one that dies
// between a message and its report has told it, and the next one tells it again, under
// the same id.
type Notifier struct {
	Keeper   *keeper.Keeper
	Log      *slog.Logger
	channels channels

	working sync.WaitGroup
	mu      sync.Mutex
	busy    map[string]bool // notifications that are being worked on
}

// NotifierOptions are what a Notifier works with.
type NotifierOptions struct {
	Keeper  *keeper.Keeper
	Secrets string       // folder with the files channel@NAME
	Reach   Reach        // where messages may go beyond the public internet
	Log     *slog.Logger // default: discard
}

// Bounds of a notifier: a channel that hangs holds up no other.
const (
	tellEvery    = 2 * time.Second
	tellPause    = 500 * time.Millisecond // between two looks: many commits, one look
	tellLongest  = 20 * time.Second       // one message
	tellTogether = 20                     // messages of a channel before what became of them is written down
)

// NewNotifier makes a notifier. It does nothing before Run.
func NewNotifier(o NotifierOptions) *Notifier {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Notifier{Keeper: o.Keeper, Log: o.Log, channels: channels{secrets: secrets{o.Secrets}, reach: o.Reach, address: o.Keeper.Address()}, busy: map[string]bool{}}
}

// Run tells until ctx ends or the keeper stops, and returns when nothing is being sent
// any more.
func (n *Notifier) Run(ctx context.Context) {
	defer n.working.Wait()
	teller := n.Keeper.Teller()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		changed := n.Keeper.Changed()
		more, err := teller.Look(ctx)
		if err != nil && ctx.Err() == nil {
			n.Log.Warn("what is to be told was not written down; it is looked for again", "error", err)
		}
		n.send(ctx)
		if more && err == nil {
			changed = closedChannel
		}
		select {
		case <-ctx.Done():
			return
		case <-n.Keeper.Done():
			return
		case <-tick.C:
			continue
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellPause):
		}
	}
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// send sets about what is due, each notification for itself.
func (n *Notifier) send(ctx context.Context) {
	due := map[string][]keeper.Delivery{}
	for _, d := range n.Keeper.Deliveries() {
		due[d.Rule] = append(due[d.Rule], d)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for rule, list := range due {
		if n.busy[rule] {
			continue
		}
		n.busy[rule] = true
		n.working.Go(func() {
			n.deliver(ctx, list[:min(len(list), tellTogether)])
			n.mu.Lock()
			delete(n.busy, rule)
			n.mu.Unlock()
		})
	}
}

// deliver sends messages of one notification, and writes down in one entry what became
// of them. A crash before that sends them again.
func (n *Notifier) deliver(ctx context.Context, list []keeper.Delivery) {
	var outcomes []keeper.DeliveryOutcome
	for _, d := range list {
		sending, cancel := context.WithTimeout(ctx, tellLongest)
		err := n.channels.send(sending, d)
		cancel()
		if ctx.Err() != nil && err != nil {
			break // we are stopping, and it says nothing about the channel
		}
		o := keeper.DeliveryOutcome{Rule: d.Rule, IDs: d.IDs(), Spread: rand.Float64()}
		if err != nil {
			what := outcomeOf(err)
			o.Code, o.Reason = what.Code, what.Reason
			n.Log.Warn("a message was not sent and is tried again", "notification", d.Rule, "message", d.ID, "code", o.Code, "reason", o.Reason)
		}
		if outcomes = append(outcomes, o); err != nil && o.Code != "address_unknown" {
			break // the others would fail as well, and would count as tried
		}
	}
	if len(outcomes) == 0 {
		return
	}
	reporting, done := context.WithTimeout(context.WithoutCancel(ctx), reportPatience)
	defer done()
	if err := n.Keeper.ReportDeliveries(reporting, outcomes); err != nil && ctx.Err() == nil {
		n.Log.Warn("what became of messages was not written down; they are sent again", "notification", list[0].Rule, "error", err)
	}
}
