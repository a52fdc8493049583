package keeper

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// A command is one ask of the keeper. decide is a pure function of the world,
// the caller and the instant: it gives the events to record and the answer, or
// a refusal. Ids and random values stand in the command already.
type command interface {
	name() string
	about() string // what it concerns, as the journal indexes it; "" for nothing
	decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error)
}

// A lawgiver is a command that puts other rules in force with its events.
type lawgiver interface{ next() *Rules }

// A core decides commands one after another on a state of its own.
type core struct {
	world
	refused   map[string]*repeated // refusals of this minute, by caller, command and reason; volatile
	refusedTo map[string]int       // how many of those each source has
	untold    int                  // refusals of this minute past the bounds
	minute    lockkeeper.Moment
}

// A step is the outcome of one command.
type step struct {
	entries   []Entry
	events    []event
	records   []journal.Record
	documents []journal.Document
	rules     *Rules // in force after the step, if it changed them
	uses      []used // rights that the command rested on
	spends    []spend
	answer    any
	replay    json.RawMessage // the answer given before, for a key that was seen
	err       error           // what the caller is told
}

// Bounds of the refusals that are told apart in one minute: of everybody, and of
// one person or repository, so that nobody's keep those of others out of the
// journal. What is past them is counted.
const (
	maxRefusals     = 10_000
	maxRefusalsEach = 100
)

// step decides one command at now and applies its events to the core's state.
// The second result is a fault of ours: the core must then be thrown away.
func (c *core) step(by Caller, key string, cmd command, now lockkeeper.Moment) (step, error) {
	var s step
	if key != "" {
		key = by.id() + " " + cmd.name() + " " + key
	}
	sum, err := c.sum(key, cmd)
	if err != nil {
		return s, err
	}
	if known, seen := c.Answers[key]; seen && key != "" {
		if known.Sum != sum {
			s.err = lockkeeper.Conflict.Errorf("key_reused", "This idempotency key came with another ask before.").WithNext("Use a new key for a new ask.")
			return s, nil
		}
		s.replay = known.JSON
		return s, nil
	}
	var events []event
	judged := false
	if by.Session != "" {
		err = c.session(by, now)
	}
	if by.Token != "" {
		if err = c.personal(by, now); err == nil && !tokenMay(cmd) {
			err = errTokenMayNot(cmd)
		}
	}
	if err == nil {
		err = c.recovered(by, cmd)
	}
	if err == nil && by.User != "" {
		if i := c.quarantined(by.User); i != nil {
			err = errQuarantined(i)
		}
	}
	if err == nil {
		c.uses, c.spends, c.sitting = &s.uses, &s.spends, by.Session
		events, s.answer, err = cmd.decide(&c.world, by, now)
		c.uses, c.spends, c.sitting = nil, nil, ""
		judged = true
	}
	if err != nil {
		s.err, s.uses, s.spends = err, nil, nil // what was refused rested on nothing
		refused := c.refusal(by, cmd, err, now)
		if refused == nil {
			return s, nil
		}
		if judged {
			refused.Tried = tried(cmd)
		}
		events, key = []event{refused}, ""
	}
	if _, tidying := cmd.(sweep); tidying {
		events = append(events, c.flush(now)...)
	}
	if l, ok := cmd.(lawgiver); ok && s.err == nil && len(events) > 0 {
		s.documents = journalDocuments(l.next().ofCatalog())
		if slices.ContainsFunc(events, func(ev event) bool { _, applied := ev.(*catalogApplied); return applied }) {
			s.rules = l.next() // what is proposed is kept, and not in force
		}
	}
	concerns, changes := relaid(events)
	if !changes {
		return s, c.record(&s, by, key, sum, events, now)
	}
	before := c.lapsing(concerns, now)
	maps.Copy(before, c.orphans(concerns, now))
	if err := c.record(&s, by, key, sum, events, now); err != nil {
		return s, err
	}
	return s, c.write(&s, by, "", "", c.lapses(before, concerns, now), now)
}

// record stamps the events as entries and applies them, and puts in force what follows
// from them.
func (c *core) record(s *step, by Caller, key string, sum lockkeeper.Digest, events []event, now lockkeeper.Moment) error {
	if err := c.write(s, by, key, sum, events, now); err != nil {
		return err
	}
	if s.rules != nil || slices.ContainsFunc(events, rejoining) {
		if s.rules == nil {
			s.rules = c.rules
		}
		s.rules = s.rules.joined(c.State)
		c.rules = s.rules
	}
	return nil
}

// write stamps the events as entries and applies them.
func (c *core) write(s *step, by Caller, key string, sum lockkeeper.Digest, events []event, now lockkeeper.Moment) error {
	for i, ev := range events {
		e := Entry{Seq: c.Size, Time: now, By: by}
		if i == 0 && len(s.entries) == 0 {
			e.Used, e.Spent = s.uses, s.spends
		}
		if i == 0 && key != "" {
			answer, err := marshal(s.answer)
			if err != nil {
				return err
			}
			e.Key, e.Sum, e.Answer = key, sum, answer
		}
		data, e, err := record(e, ev)
		if err != nil {
			return err
		}
		if err := c.apply(e, ev); err != nil {
			return err
		}
		s.entries, s.events = append(s.entries, e), append(s.events, ev)
		s.records = append(s.records, journal.Record{Data: data, Subjects: e.subjects(ev)})
	}
	return nil
}

func (c *core) sum(key string, cmd command) (lockkeeper.Digest, error) {
	if key == "" {
		return "", nil
	}
	b, err := marshal(cmd)
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(b), nil
}

// refusal is the event that records a refusal of an authenticated caller: the
// first of a kind in a minute, and then none until the minute is over.
// Unauthenticated attempts and malformed asks never reach the journal, so that
// nobody outside fills it.
func (c *core) refusal(by Caller, cmd command, err error, now lockkeeper.Moment) *refusalMade {
	r := lockkeeper.RefusalOf(err)
	if r == nil || by == (Caller{}) {
		return nil
	}
	if r.Kind != lockkeeper.Forbidden && (r.Kind != lockkeeper.Conflict || waits(r)) {
		return nil
	}
	id := fmt.Sprintf("%s\x00%s\x00%s\x00%s", by.id(), cmd.name(), cmd.about(), r.Code)
	if again := c.refused[id]; again != nil {
		again.count++
		return nil
	}
	if len(c.refused) >= maxRefusals || c.refusedTo[by.source()] >= maxRefusalsEach {
		c.untold++
		return nil
	}
	if c.refused == nil {
		c.refused, c.refusedTo, c.minute = map[string]*repeated{}, map[string]int{}, now
	}
	c.refusedTo[by.source()]++
	ev := refusalMade{Command: cmd.name(), Subject: cmd.about(), Code: r.Code, Sentence: r.Sentence, Decision: r.Decision, Count: 1, Revision: c.Revision.Number}
	c.refused[id] = &repeated{event: ev, caller: by.String()}
	return &ev
}

// repeated is a refusal that was recorded, and how often it came again.
type repeated struct {
	event  refusalMade
	caller string
	count  int
}

// flush gives, once the minute is over, one event for each refusal that came
// again, with how often.
func (c *core) flush(now lockkeeper.Moment) []event {
	if c.refused == nil || now.Sub(c.minute) < refusalWindow {
		return nil
	}
	var out []event
	for _, id := range slices.Sorted(maps.Keys(c.refused)) {
		if r := c.refused[id]; r.count > 0 {
			ev := r.event
			ev.Caller, ev.Count, ev.Decision = r.caller, r.count, nil
			out = append(out, &ev)
		}
	}
	if c.untold > 0 {
		out = append(out, &refusalMade{Command: "any", Code: "refusals_many", Sentence: fmt.Sprintf("%d more refusals of a minute are told by their number only.", c.untold),
			Count: c.untold, Revision: c.Revision.Number})
	}
	c.refused, c.untold = nil, 0
	return out
}

// waits says that a refusal only means "not yet".
func waits(r *lockkeeper.Refusal) bool {
	return r.Decision != nil && r.Decision.Verdict == lockkeeper.Wait
}
