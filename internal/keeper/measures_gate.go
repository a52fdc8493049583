package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/measure"
)

// gateMoved says that other checks than before hold up an ask that waits. Nothing is
// decided by it: it is there so that one can tell later what an ask waited for. The
// gate is looked at from time to time, so what comes and goes in between leaves no
// entry, and an ask has maxMoves at most.
type gateMoved struct {
	one
	ID       string   `json:"id"`
	Held     []string `json:"held,omitempty"`  // checks that hold it up, sorted: a name, or what is no check in parentheses
	Later    []string `json:"later,omitempty"` // checks whose turn has not come
	Revision int      `json:"revision"`
}

const (
	maxMoves = 100 // entries of one ask
	maxNoted = 20  // asks of one command
	lookFor  = 25 * time.Millisecond
)

func (*gateMoved) kind() string          { return "gate.moved" }
func (ev *gateMoved) subjects() []string { return []string{deploymentSubject(ev.ID)} }
func (ev *gateMoved) apply(s *State, _ Entry) error {
	return s.onDeployment(ev.ID, ev.on)
}
func (ev *gateMoved) on(d *Deployment) { d.Held, d.Moves = ev.Held, d.Moves+1 }

// holdUps are the checks of a gate that hold an ask up, and those whose turn has not
// come, which hold up nothing yet.
func holdUps(verdict lockkeeper.Decision) (held, later []string) {
	for _, d := range verdict.Because {
		switch {
		case d.Verdict == lockkeeper.Pass:
		case d.Code == "lock_later" || d.Code == "approvals_later":
			later = append(later, holder(d))
		default:
			held = append(held, holder(d))
		}
	}
	slices.Sort(held)
	slices.Sort(later)
	return slices.Compact(held), slices.Compact(later)
}

func heldAt(verdict lockkeeper.Decision) []string {
	held, _ := holdUps(verdict)
	return held
}

// holder is how a decision of a gate is called in what is measured: by the check's
// name, or by its kind. There are no more of them than checks and kinds.
func holder(d lockkeeper.Decision) string {
	if name, is := strings.CutPrefix(d.Subject, "check "); is {
		return name
	}
	if d.Subject == "what was demanded when the ask was opened" {
		return "(earlier demands)"
	}
	kind, _, _ := strings.Cut(d.Subject, " ")
	return "(" + kind + ")"
}

// noteGates writes down of these asks what holds them up, if it is not what was
// written down last.
type noteGates struct {
	IDs []string
}

func (noteGates) name() string  { return "gates.note" }
func (noteGates) about() string { return "" }

func (c noteGates) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	var out []event
	if !by.Keeper {
		return nil, nil, nil
	}
	ids := slices.Clone(c.IDs)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if ev := w.moved(w.Deployments[id], now); ev != nil {
			out = append(out, ev)
		}
	}
	return out, nil, nil
}

// moved is what is to be written down of an ask; nil: nothing.
func (w *world) moved(d *Deployment, now lockkeeper.Moment) event {
	if d == nil || d.Status != Waiting || d.Moves >= maxMoves || w.overdue(d, now) {
		return nil
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil
	}
	held, later := holdUps(w.judge(d, facts, now))
	if slices.Equal(held, d.Held) {
		return nil
	}
	return &gateMoved{ID: d.ID, Held: held, Later: later, Revision: w.Revision.Number}
}

// lookAtGates looks at asks that wait, for lookFor, and has written down what moved.
// It goes on behind the ask at which it stopped the last time. Looking is done beside
// the writer, which looks again only at those that moved.
func (k *Keeper) lookAtGates(ctx context.Context) {
	now, began := k.now(), time.Now()
	k.mu.RLock()
	ids := slices.Sorted(maps.Keys(k.state.Deployments))
	k.mu.RUnlock()
	start, _ := slices.BinarySearch(ids, k.looked+"\x00")
	var moved []string
	for i := range ids {
		id := ids[(start+i)%len(ids)]
		k.mu.RLock()
		w := world{State: k.state, rules: k.rules}
		ev := w.moved(w.Deployments[id], now)
		k.mu.RUnlock()
		if k.looked = id; ev != nil {
			moved = append(moved, id)
		}
		if len(moved) == maxNoted || time.Since(began) > lookFor {
			break
		}
	}
	if len(moved) == 0 {
		return
	}
	if _, err := do[any](ctx, k, Caller{Keeper: true}, "", noteGates{moved}); err != nil && ctx.Err() == nil && k.Fault() == nil {
		k.log.Error("what holds up deployments was not noted", "error", err)
	}
}

// A counter counts what is measured for as long as the keeper runs. It is fed under
// the keeper's mu.
type counter struct {
	live *measure.Live
	fold *measure.Fold
}

// noName stands for a person where nobody's name is counted under.
func noName(string) string { return "" }

// MeasureCounts are counts of what happened since the keeper started, and how many
// samples were left out of them to bound their number.
func (k *Keeper) MeasureCounts() (counts []MeasuredCount, dropped uint64) {
	k.mu.RLock()
	live := k.counter.live
	k.mu.RUnlock()
	return live.Counts()
}

// begin makes the counter go on from a state that was read, with the counts so far.
func (c *counter) begin(s *State) {
	if c.live == nil {
		c.live = measure.NewLive()
	}
	c.fold = measure.New(c.live.Add)
	var records []gate.Record
	for _, project := range slices.Sorted(maps.Keys(s.Records)) {
		for _, r := range s.Records[project] {
			r.Commit = commitKey(project, r.Commit)
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(a, b gate.Record) int { return a.At.Time().Compare(b.At.Time()) })
	for _, r := range records {
		c.fold.Recorded(r.At, r.Commit)
	}
	c.resume(s)
}

// resume tells the fold what is open, and what was deployed last.
func (c *counter) resume(s *State) {
	type arrival struct {
		at  lockkeeper.Moment
		ask measure.Ask
	}
	var arrivals []arrival
	for scope, list := range s.Good {
		for _, g := range list {
			arrivals = append(arrivals, arrival{g.At, measure.Ask{Scope: scope, Commit: commitKey(scope.Project(), g.Commit), Artifacts: artifactsKey(g.Artifacts)}})
		}
	}
	slices.SortFunc(arrivals, func(a, b arrival) int {
		return cmp.Or(a.at.Time().Compare(b.at.Time()), cmp.Compare(a.ask.Scope, b.ask.Scope))
	})
	for _, a := range arrivals {
		c.fold.Arrived(a.at, a.ask)
	}
	for _, d := range s.Deployments {
		a := askMeasured(d.ID, d.Ask, d.Terms)
		a.OpenedAt, a.Held = d.Opened, d.Held
		if d.Lease != nil {
			a.ReleasedAt, a.Held = d.Lease.Started, nil
		}
		c.fold.Resumed(a, s.Now)
	}
	for _, r := range s.Requests {
		c.fold.Requested(r.Opened, r.ID, r.Scope)
	}
}
