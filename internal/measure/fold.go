package measure

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const (
	// Horizon is how far back a sample looks: to an artifact's record, to an earlier
	// success of the same commit, to the failure that something was restored from.
	Horizon = 90 * 24 * time.Hour
	// longestAsk is longer than an ask can be open: an environment's patience is 30
	// days at most, and a lease 12 hours.
	longestAsk = 31 * 24 * time.Hour
	// Lookback is how long before a window a fold has to begin.
	Lookback = Horizon + longestAsk
	// TakenBack is within how long a rollback says of the deployment before it that
	// it failed. So long after a window a fold has to go on.
	TakenBack = 24 * time.Hour

	maxRecords  = 200_000 // of artifacts that are remembered; the oldest give way
	maxFailures = 1_000   // of one environment without a success; later ones add nothing
)

// Succeeded is the status of a deployment that ended well. Whatever else one ends
// with after it was let through is a failure.
const Succeeded = "succeeded"

// A Kind says what a sample is of.
type Kind uint8

// The kinds of sample.
const (
	Ended      Kind = iota // an ask ended: Status, Ran, Rollback
	Lead                   // first success of a commit in an environment: For, since its first record
	TakenAway              // a success that a rollback took back: At is that of the success
	Restored               // a success after failures: For, since the first of them
	Waited                 // an ask was let through: For, since it was opened
	GaveUp                 // an ask ended without being let through: For, since it was opened
	Held                   // an ask stopped waiting that Check had held up: For, and Alone of it
	Flapped                // Check held up an ask that it, up to then, did not hold up
	Prompted               // an approval check began to ask people: Check
	Voted                  // Person voted: Approved, For since the ask was opened; Access on an activation
	BrokeGlass             // an activation that nobody approved began
	Overrode               // soft checks of an ask were waived
)

// A Sample is one number at one instant.
type Sample struct {
	Kind     Kind
	At       lockkeeper.Moment
	Scope    lockkeeper.Scope
	For      time.Duration
	Alone    time.Duration // of For, in which nothing else held the ask up
	Check    string
	Person   string
	Status   string
	Approved bool
	Access   bool
	Ran      bool // it was let through before it ended
	Rollback bool
}

// An Ask is a deployment that was opened.
type Ask struct {
	ID         string
	Scope      lockkeeper.Scope // of its environment
	Rollback   bool
	Commit     string   // what names the commit in its project; "": nothing does
	Artifacts  string   // what names the artifacts together
	Approvals  []string // checks that ask people
	Held       []string // checks that hold it up, sorted
	Later      []string // checks whose turn has not come
	OpenedAt   lockkeeper.Moment
	ReleasedAt lockkeeper.Moment // zero: it waits
}

// An open ask and how long each check has held it up so far.
type open struct {
	Ask
	at    lockkeeper.Moment // up to when held is counted
	held  []string
	sums  map[string]*sum
	asked map[string]bool
}

type sum struct{ all, alone time.Duration }

// A place is what is known of one environment.
type place struct {
	failures []lockkeeper.Moment // since the last success, oldest first
	good     success             // the last success of a deployment
}

type success struct {
	at        lockkeeper.Moment
	artifacts string
	rollback  bool
}

type record struct {
	at  lockkeeper.Moment
	key string
}

// A Fold follows what happens. Its methods are called in the order of the journal,
// with instants that never run back.
type Fold struct {
	give   func(Sample)
	asks   map[string]*open
	access map[string]Ask // requests to activate
	places map[lockkeeper.Scope]*place

	records  []record                       // of commits, oldest first; no older than Horizon, at most maxRecords
	recorded map[string][]lockkeeper.Moment // by commit, oldest first: those of records
	arrived  []record                       // first successes, by commit and scope, as records
	there    map[string]int                 // how many of arrived are of a commit and scope
}

// New is a fold that hands its samples to give.
func New(give func(Sample)) *Fold {
	return &Fold{give: give, asks: map[string]*open{}, access: map[string]Ask{}, places: map[lockkeeper.Scope]*place{},
		recorded: map[string][]lockkeeper.Moment{}, there: map[string]int{}}
}

// Recorded says that an artifact of a commit was recorded.
func (f *Fold) Recorded(at lockkeeper.Moment, commit string) {
	f.forget(at)
	f.records = append(f.records, record{at, commit})
	f.recorded[commit] = append(f.recorded[commit], at)
}

// forget drops what is older than a sample of now may look back to.
func (f *Fold) forget(now lockkeeper.Moment) {
	old := func(list []record) bool {
		return len(list) > 0 && (len(list) >= maxRecords || now.Sub(list[0].at) > Horizon)
	}
	for old(f.records) {
		key := f.records[0].key
		if f.recorded[key] = f.recorded[key][1:]; len(f.recorded[key]) == 0 {
			delete(f.recorded, key)
		}
		f.records = f.records[1:]
	}
	for old(f.arrived) {
		key := f.arrived[0].key
		if f.there[key]--; f.there[key] == 0 {
			delete(f.there, key)
		}
		f.arrived = f.arrived[1:]
	}
}

// Opened says that a deployment was asked for.
func (f *Fold) Opened(a Ask) { f.prompt(f.open(a, a.OpenedAt), a.OpenedAt) }

func (f *Fold) open(a Ask, now lockkeeper.Moment) *open {
	o := &open{Ask: a, at: now, held: a.Held, sums: map[string]*sum{}, asked: map[string]bool{}}
	f.asks[a.ID] = o
	return o
}

// Resumed says that an ask is open for which the fold came too late: what it waited
// for is known from now on only. It asks nobody anew.
func (f *Fold) Resumed(a Ask, now lockkeeper.Moment) {
	o := f.open(a, now)
	for _, c := range a.Held {
		o.asked[c] = true
	}
}

// Arrived says what was last deployed with success to an environment, to a fold that
// came too late to see it. It gives no sample.
func (f *Fold) Arrived(at lockkeeper.Moment, a Ask) {
	f.place(a.Scope).good = success{at, a.Artifacts, a.Rollback}
	key := string(a.Scope) + " " + a.Commit
	f.arrived = append(f.arrived, record{at, key})
	f.there[key]++
}

// prompt tells, once for each, of the approval checks that ask people now.
func (f *Fold) prompt(o *open, at lockkeeper.Moment) {
	for _, c := range o.held {
		if slices.Contains(o.Approvals, c) && !o.asked[c] {
			o.asked[c] = true
			f.give(Sample{Kind: Prompted, At: at, Scope: o.Scope, Check: c})
		}
	}
}

// count adds the time since it was counted last to the checks that hold the ask up.
func (o *open) count(at lockkeeper.Moment) {
	for _, c := range o.held {
		s := o.sums[c]
		if s == nil {
			s = &sum{}
			o.sums[c] = s
		}
		s.all += at.Sub(o.at)
		if len(o.held) == 1 {
			s.alone += at.Sub(o.at)
		}
	}
	o.at = at
}

// Held says that from now on these checks, sorted, hold an ask up, and the turn of
// those later has not come. A check that held nothing up before, and whose turn had
// come, flaps.
func (f *Fold) Held(at lockkeeper.Moment, id string, held, later []string) {
	o := f.asks[id]
	if o == nil || !o.ReleasedAt.IsZero() {
		return
	}
	o.count(at)
	for _, c := range held {
		if !slices.Contains(o.held, c) && !slices.Contains(o.Later, c) {
			f.give(Sample{Kind: Flapped, At: at, Scope: o.Scope, Check: c})
		}
	}
	o.held, o.Later = held, later
	f.prompt(o, at)
}

// settle tells how long each check held up an ask that waits no more.
func (f *Fold) settle(o *open, at lockkeeper.Moment) {
	o.count(at)
	for _, c := range sortedKeys(o.sums) {
		f.give(Sample{Kind: Held, At: at, Scope: o.Scope, Check: c, For: o.sums[c].all, Alone: o.sums[c].alone})
	}
	o.held, o.sums, o.asked = nil, nil, nil
}

// Voted says that a person voted on a deployment or a request.
func (f *Fold) Voted(at lockkeeper.Moment, id, person string, approved bool) {
	s := Sample{Kind: Voted, At: at, Person: person, Approved: approved}
	if o := f.asks[id]; o != nil {
		s.Scope, s.For = o.Scope, at.Sub(o.OpenedAt)
	} else if r, known := f.access[id]; known {
		s.Scope, s.For, s.Access = r.Scope, at.Sub(r.OpenedAt), true
	} else {
		return
	}
	f.give(s)
}

// Requested says that somebody asked to activate a role at a scope, and Closed that
// this waits no more.
func (f *Fold) Requested(at lockkeeper.Moment, id string, scope lockkeeper.Scope) {
	f.access[id] = Ask{ID: id, Scope: scope, OpenedAt: at}
}

// Closed ends what Requested began.
func (f *Fold) Closed(id string) { delete(f.access, id) }

// BrokeGlass says that an activation which nobody approved began at a scope.
func (f *Fold) BrokeGlass(at lockkeeper.Moment, scope lockkeeper.Scope) {
	f.give(Sample{Kind: BrokeGlass, At: at, Scope: scope})
}

// Overrode says that checks of an ask were waived.
func (f *Fold) Overrode(at lockkeeper.Moment, id string) {
	if o := f.asks[id]; o != nil {
		f.give(Sample{Kind: Overrode, At: at, Scope: o.Scope})
	}
}

// Restart forgets the requests that are open: another epoch of the log ended them.
func (f *Fold) Restart() { clear(f.access) }

// Released says that an ask was let through.
func (f *Fold) Released(at lockkeeper.Moment, id string) {
	o := f.asks[id]
	if o == nil || !o.ReleasedAt.IsZero() {
		return
	}
	f.settle(o, at)
	o.ReleasedAt = at
	f.give(Sample{Kind: Waited, At: at, Scope: o.Scope, For: at.Sub(o.OpenedAt), Rollback: o.Rollback})
}

// Ended says how a deployment ended.
func (f *Fold) Ended(at lockkeeper.Moment, id, status string) {
	o := f.asks[id]
	if o == nil {
		return
	}
	delete(f.asks, id)
	ran := !o.ReleasedAt.IsZero()
	f.give(Sample{Kind: Ended, At: at, Scope: o.Scope, Status: status, Ran: ran, Rollback: o.Rollback})
	switch {
	case !ran:
		f.settle(o, at)
		f.give(Sample{Kind: GaveUp, At: at, Scope: o.Scope, For: at.Sub(o.OpenedAt), Status: status})
	case status == Succeeded:
		f.forget(at)
		f.succeeded(o, at)
	default:
		if p := f.place(o.Scope); len(p.failures) < maxFailures {
			p.failures = append(p.failures, at)
		}
	}
}

func (f *Fold) place(s lockkeeper.Scope) *place {
	if f.places[s] == nil {
		f.places[s] = &place{}
	}
	return f.places[s]
}

func (f *Fold) succeeded(o *open, at lockkeeper.Moment) {
	p := f.place(o.Scope)
	broke := p.brokenSince(at)
	if o.Rollback && broke.IsZero() && len(p.failures) == 0 && p.takenBackBy(o.Artifacts, at) {
		f.give(Sample{Kind: TakenAway, At: p.good.at, Scope: o.Scope})
		broke = p.good.at
	}
	if !broke.IsZero() {
		f.give(Sample{Kind: Restored, At: at, Scope: o.Scope, For: at.Sub(broke)})
	}
	p.failures = nil
	p.good = success{at, o.Artifacts, o.Rollback}
	if !o.Rollback && o.Commit != "" {
		f.arrive(o, at)
	}
}

// takenBackBy reports whether a rollback to these artifacts takes back what was
// deployed last.
func (p *place) takenBackBy(artifacts string, at lockkeeper.Moment) bool {
	return !p.good.at.IsZero() && !p.good.rollback && p.good.artifacts != artifacts && at.Sub(p.good.at) <= TakenBack
}

// brokenSince is the first failure since the last success, of those that are not
// older than Horizon; zero: there is none.
func (p *place) brokenSince(at lockkeeper.Moment) lockkeeper.Moment {
	for _, b := range p.failures {
		if at.Sub(b) <= Horizon {
			return b
		}
	}
	return lockkeeper.Moment{}
}

// arrive tells the lead time of a commit that is deployed to an environment for the
// first time.
func (f *Fold) arrive(o *open, at lockkeeper.Moment) {
	key := string(o.Scope) + " " + o.Commit
	first := f.there[key] == 0
	f.arrived = append(f.arrived, record{at, key})
	f.there[key]++
	if known := f.recorded[o.Commit]; first && len(known) > 0 {
		f.give(Sample{Kind: Lead, At: at, Scope: o.Scope, For: at.Sub(known[0])})
	}
}

// Broken lists, for each environment whose last deployment failed, since when, as
// of now.
func (f *Fold) Broken(now lockkeeper.Moment) map[lockkeeper.Scope]lockkeeper.Moment {
	out := map[lockkeeper.Scope]lockkeeper.Moment{}
	for scope, p := range f.places {
		if since := p.brokenSince(now); !since.IsZero() {
			out[scope] = since
		}
	}
	return out
}
