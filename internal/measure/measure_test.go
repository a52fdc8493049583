package measure

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

const prod = lockkeeper.Scope("/projects/p/environments/prod")

func at(text string) lockkeeper.Moment {
	var m lockkeeper.Moment
	if err := m.UnmarshalText([]byte(text)); err != nil {
		panic(err)
	}
	return m
}

func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.Map(rapid.IntRange(0, 40), func(n int) time.Duration { return time.Duration(n) })).Draw(t, "list")
		want := slowSpread(list)
		if got := SpreadOf(list); got != want {
			t.Fatalf("%v: %v, want %v", list, got, want)
		}
	})
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	if got := SpreadOf(hundred); got != (Spread{100, 50, 90, 100}) {
		t.Errorf("1 to 100: %v", got)
	}
	if got := SpreadOf(nil); got != (Spread{}) {
		t.Errorf("none: %v", got)
	}
	if got := SpreadOf([]time.Duration{7}); got != (Spread{1, 7, 7, 7}) {
		t.Errorf("one: %v", got)
	}
}

// A window is half-open, at both its ends, to the millisecond.
func TestWindowIsHalfOpen(t *testing.T) {
	q := Query{Since: at("2026-11-02T00:00:00Z"), Until: at("2026-11-09T00:00:00Z"), Scope: "/"}
	q.From, q.To = q.Since, q.Until
	for instant, want := range map[string]int{"2026-11-01T23:59:59.999Z": 0, "2026-11-02T00:00:00Z": 1, "2026-11-08T23:59:59.999Z": 1, "2026-11-09T00:00:00Z": 0} {
		c := NewCollector(q, prod)
		c.Add(Sample{Kind: Ended, At: at(instant), Scope: prod, Status: Succeeded, Ran: true})
		e := c.Report().Environments[0]
		if e.Successes != want || e.Days != want {
			t.Errorf("%s: %d successes on %d days, want %d", instant, e.Successes, e.Days, want)
		}
		if len(e.Weeks) != 1 || !e.Weeks[0].Whole || e.Weeks[0].Successes != want {
			t.Errorf("%s: weeks %+v", instant, e.Weeks)
		}
	}
}

// Weeks begin on Monday in UTC, whatever zone an instant was written in.
func TestWeeksAreUTC(t *testing.T) {
	for instant, monday := range map[string]string{
		"2026-11-09T01:30:00+02:00": "2026-11-02T00:00:00Z", // Sunday, 23:30 UTC
		"2026-11-08T23:30:00-01:00": "2026-11-09T00:00:00Z", // Monday, 00:30 UTC
		"2026-01-01T12:00:00Z":      "2025-12-29T00:00:00Z",
		"2024-03-03T23:59:59.999Z":  "2024-02-26T00:00:00Z",
		"2027-01-03T00:00:00Z":      "2026-12-28T00:00:00Z",
	} {
		if got := weekOf(at(instant)); got != at(monday) {
			t.Errorf("%s is of the week of %s, not %s", instant, got, monday)
		}
	}
	list := weeks{}.list(at("2026-11-04T00:00:00Z"), at("2026-11-16T00:00:00Z"))
	if len(list) != 2 || list[0].Whole || !list[1].Whole || list[0].From != at("2026-11-02T00:00:00Z") {
		t.Errorf("%+v", list)
	}
}

// What did not happen is absent: no spread, no weeks of a window without time.
func TestNothingHappened(t *testing.T) {
	q := Query{Since: at("2026-11-02T00:00:00Z"), Until: at("2026-11-02T00:00:01Z"), Scope: "/"}
	q.From, q.To = q.Until, q.Until
	r := NewCollector(q, prod).Report()
	e := r.Environments[0]
	if e.Lead != (Spread{}) || e.Changes() != 0 || e.Failed() != 0 || !e.Broken.IsZero() || len(e.Weeks) != 0 || len(r.Persons) != 0 || len(e.Checks) != 0 {
		t.Errorf("%+v", r)
	}
}

// What was restored only after the window was broken at its end.
func TestBrokenAtTheEnd(t *testing.T) {
	q := Query{Since: at("2026-11-02T00:00:00Z"), Until: at("2026-11-09T00:00:00Z"), Scope: "/"}
	q.From, q.To = q.Since, q.Until
	for restored, broken := range map[string]bool{"2026-11-08T23:00:00Z": false, "2026-11-09T00:00:00Z": true, "2026-11-09T20:00:00Z": true, "": true} {
		c := NewCollector(q)
		f := New(c.Add)
		run := func(id, end, status string) {
			f.Opened(Ask{ID: id, Scope: prod, OpenedAt: at(end)})
			f.Released(at(end), id)
			f.Ended(at(end), id, status)
		}
		run("1", "2026-11-08T22:00:00Z", "failed")
		if restored != "" {
			run("2", restored, Succeeded)
		}
		for scope, since := range f.Broken(at("2026-11-10T00:00:00Z")) {
			c.StillBroken(scope, since)
		}
		e := c.Report().Environments[0]
		if got := !e.Broken.IsZero(); got != broken || broken && e.Broken != at("2026-11-08T22:00:00Z") {
			t.Errorf("restored at %q: broken since %s", restored, e.Broken)
		}
	}
}

// What a fold and its counts remember is bounded, whatever happens.
func TestBounds(t *testing.T) {
	f := New(func(Sample) {})
	now := at("2026-11-02T00:00:00Z")
	for i := range maxRecords + 1000 {
		f.Recorded(now.Add(time.Duration(i)*time.Millisecond), fmt.Sprint("p ", i))
	}
	if len(f.records) > maxRecords || len(f.recorded) > maxRecords {
		t.Errorf("%d records of %d commits are kept", len(f.records), len(f.recorded))
	}
	f.Recorded(now.Add(Horizon+time.Hour), "p x")
	if len(f.records) != 1 || len(f.recorded) != 1 {
		t.Errorf("%d records of %d commits are kept beyond the horizon", len(f.records), len(f.recorded))
	}
	for i := range maxFailures + 10 {
		id := fmt.Sprint(i)
		f.Opened(Ask{ID: id, Scope: prod, OpenedAt: now})
		f.Released(now, id)
		f.Ended(now, id, "failed")
	}
	if n := len(f.place(prod).failures); n != maxFailures || len(f.asks) != 0 {
		t.Errorf("%d failures, %d asks", n, len(f.asks))
	}
	l := NewLive()
	for i := range maxSeries + 7 {
		l.Add(Sample{Kind: Held, Scope: prod, Check: fmt.Sprint(i), For: time.Minute})
	}
	l.Add(Sample{Kind: Held, Scope: prod, Check: "0", For: 2 * time.Minute})
	counts, dropped := l.Counts()
	if len(counts) != maxSeries || dropped != 7 {
		t.Errorf("%d series, %d dropped", len(counts), dropped)
	}
	for _, c := range counts {
		if c.Check == "0" && (c.N != 2 || c.Seconds != 180 || c.Buckets[0] != 0 || c.Buckets[1] != 1 || c.Buckets[2] != 2) {
			t.Errorf("%+v", c)
		}
	}
}

// Nobody's name is counted under, and one place has one series whatever scope the
// glass was broken at.
func TestLiveSeries(t *testing.T) {
	l := NewLive()
	for _, who := range []string{"ann", "bob"} {
		l.Add(Sample{Kind: Voted, Scope: prod, Person: who, Approved: true})
		l.Add(Sample{Kind: Voted, Scope: "/", Person: who, Approved: true, Access: true})
	}
	for _, s := range []lockkeeper.Scope{"/projects/p", "/projects/p/pipelines/x", "/projects/p/identities/i"} {
		l.Add(Sample{Kind: BrokeGlass, Scope: s})
	}
	counts, _ := l.Counts()
	if len(counts) != 2 || counts[0].N+counts[1].N != 5 {
		t.Errorf("%+v", counts)
	}
}

// The edges of what a sample looks back to belong to it.
func TestEdges(t *testing.T) {
	var got []Sample
	end := at("2026-11-02T00:00:00Z")
	run := func(f *Fold, id string, when lockkeeper.Moment, a Ask, status string) {
		a.ID, a.Scope, a.OpenedAt = id, prod, when
		f.Opened(a)
		f.Released(when, id)
		f.Ended(when, id, status)
	}
	for _, late := range []time.Duration{0, time.Millisecond} {
		for kind, play := range map[Kind]func(*Fold){
			Lead: func(f *Fold) {
				f.Recorded(end.Add(-Horizon), "p a")
				run(f, "1", end.Add(late), Ask{Commit: "p a"}, Succeeded)
			},
			Restored: func(f *Fold) {
				run(f, "1", end.Add(-Horizon), Ask{}, "failed")
				run(f, "2", end.Add(late), Ask{}, Succeeded)
			},
			TakenAway: func(f *Fold) {
				run(f, "1", end.Add(-TakenBack), Ask{Artifacts: "x"}, Succeeded)
				run(f, "2", end.Add(late), Ask{Artifacts: "y", Rollback: true}, Succeeded)
			},
		} {
			got = nil
			play(New(func(s Sample) {
				if s.Kind == kind {
					got = append(got, s)
				}
			}))
			if want := 1 - int(late/time.Millisecond); len(got) != want {
				t.Errorf("kind %d, %s too late: %d samples, want %d", kind, late, len(got), want)
			}
		}
	}
}
