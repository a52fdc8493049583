package measure

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// A deed is one thing that happened, for the fold and for the model.
type deed struct {
	at     lockkeeper.Moment
	what   string // record, open, move, vote, release, end, glass
	id     string
	scope  lockkeeper.Scope
	commit string
	arts   string
	back   bool
	held   []string
	later  []string
	person string
	yes    bool
	status string
}

var approvals = []string{"managers"}

func play(f *Fold, deeds []deed) {
	for _, d := range deeds {
		switch d.what {
		case "record":
			f.Recorded(d.at, d.commit)
		case "open":
			f.Opened(Ask{ID: d.id, Scope: d.scope, Rollback: d.back, Commit: d.commit, Artifacts: d.arts, Approvals: approvals, Held: d.held, Later: d.later, OpenedAt: d.at})
		case "move":
			f.Held(d.at, d.id, d.held, d.later)
		case "vote":
			f.Voted(d.at, d.id, d.person, d.yes)
		case "release":
			f.Released(d.at, d.id)
		case "end":
			f.Ended(d.at, d.id, d.status)
		case "glass":
			f.BrokeGlass(d.at, d.scope)
		}
	}
}

var environments = []lockkeeper.Scope{"/projects/p/environments/prod", "/projects/p/environments/test", "/projects/q/environments/prod"}

// history draws what happens in something more than a year: asks that end in time,
// as the keeper ends them, and everything else as it comes.
func history(t *rapid.T) []deed {
	now := lockkeeper.MomentOf(time.Date(2025, 12, 29, 22, 0, 0, 0, time.UTC))
	var out []deed
	alive := map[string]*deed{}
	running := map[string]bool{}
	do := func(d deed) { d.at = now; out = append(out, d) }
	for i := range rapid.IntRange(0, 100).Draw(t, "deeds") {
		next := now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 7, 60, 3600, 5 * 3600, 24 * 3600, 24 * 3600, 5 * 86400, 20 * 86400, 40 * 86400}).Draw(t, "pause")) * time.Second)
		for _, id := range slices.SortedFunc(maps.Keys(alive), func(a, b string) int { return alive[a].at.Time().Compare(alive[b].at.Time()) }) {
			if end := alive[id].at.Add(30 * 24 * time.Hour); end.Before(next) {
				now = end
				do(deed{what: "end", id: id, status: map[bool]string{true: "indeterminate", false: "timed_out"}[running[id]]})
				delete(alive, id)
			}
		}
		now = next
		commit := rapid.SampledFrom([]string{"p a", "p b", "p c", ""}).Draw(t, "commit")
		set := func(name string) []string {
			var s []string
			for _, c := range []string{"(freeze)", "hours", "lock", "managers"} {
				if rapid.Bool().Draw(t, name) {
					s = append(s, c)
				}
			}
			return s
		}
		what := rapid.SampledFrom([]string{"record", "record", "ship", "ship", "ship", "open", "open", "move", "vote", "release", "release", "end", "end", "end", "glass"}).Draw(t, "what")
		d := deed{what: what, commit: commit, scope: rapid.SampledFrom(environments).Draw(t, "scope"), yes: rapid.IntRange(0, 3).Draw(t, "yes") > 0,
			person: rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "person")}
		if what == "open" {
			d.id, d.arts, d.back = fmt.Sprint("d", i), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "arts"), rapid.IntRange(0, 2).Draw(t, "back") == 0
			d.held, d.later = set("held"), set("later")
			do(d)
			own := out[len(out)-1]
			alive[d.id] = &own
			continue
		}
		if what == "ship" { // opened, let through and ended at one instant
			d.id, d.arts, d.back = fmt.Sprint("s", i), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "arts"), rapid.IntRange(0, 2).Draw(t, "back") == 0
			status := rapid.SampledFrom([]string{Succeeded, Succeeded, Succeeded, "failed"}).Draw(t, "status")
			for _, what := range []string{"open", "release", "end"} {
				d.what, d.status = what, status
				do(d)
			}
			continue
		}
		if what == "record" || what == "glass" {
			if what == "glass" || commit != "" {
				do(d)
			}
			continue
		}
		if len(alive) == 0 {
			continue
		}
		d.id = rapid.SampledFrom(sortedKeys(alive)).Draw(t, "id")
		switch {
		case what == "move" && !running[d.id]:
			d.held, d.later = set("held"), set("later")
			do(d)
		case what == "vote" && !running[d.id]:
			do(d)
		case what == "release" && !running[d.id]:
			running[d.id] = true
			do(d)
		case what == "end":
			d.status = rapid.SampledFrom([]string{Succeeded, Succeeded, Succeeded, "failed", "indeterminate", "cancelled"}).Draw(t, "status")
			if !running[d.id] {
				d.status = "cancelled"
			}
			delete(alive, d.id)
			do(d)
		}
	}
	return out
}

// A story is one deployment, as the model puts it together.
type story struct {
	deed
	released, ended lockkeeper.Moment
	status          string
	endedAt         int // place among the deeds
	moves           []deed
}

// model gives the samples by the definitions of docs/measures.md, looking at
// everything for each of them.
func model(deeds []deed) []Sample {
	stories := map[string]*story{}
	var order []*story
	var out []Sample
	for i, d := range deeds {
		s := stories[d.id]
		switch d.what {
		case "open":
			s = &story{deed: d, moves: []deed{d}}
			stories[d.id], order = s, append(order, s)
		case "move":
			s.moves = append(s.moves, d)
		case "release":
			s.released = d.at
		case "end":
			s.ended, s.status, s.endedAt = d.at, d.status, i
		case "vote":
			out = append(out, Sample{Kind: Voted, At: d.at, Scope: s.scope, Person: d.person, Approved: d.yes, For: d.at.Sub(s.at)})
		case "glass":
			out = append(out, Sample{Kind: BrokeGlass, At: d.at, Scope: d.scope})
		}
	}
	for _, s := range order {
		out = append(out, waits(s)...)
		if s.ended.IsZero() {
			continue
		}
		ran := !s.released.IsZero()
		out = append(out, Sample{Kind: Ended, At: s.ended, Scope: s.scope, Status: s.status, Ran: ran, Rollback: s.back})
		if ran && s.status == Succeeded {
			out = append(out, success2(s, order, deeds)...)
		}
	}
	return out
}

func waits(s *story) []Sample {
	var out []Sample
	until, over := s.released, !s.released.IsZero()
	if !over {
		until, over = s.ended, !s.ended.IsZero()
	}
	asked := map[string]bool{}
	all, alone := map[string]time.Duration{}, map[string]time.Duration{}
	for i, m := range s.moves {
		end := until
		if i+1 < len(s.moves) {
			end = s.moves[i+1].at
		}
		for _, c := range m.held {
			if c == "managers" && !asked[c] {
				asked[c] = true
				out = append(out, Sample{Kind: Prompted, At: m.at, Scope: s.scope, Check: c})
			}
			if i > 0 && !slices.Contains(s.moves[i-1].held, c) && !slices.Contains(s.moves[i-1].later, c) {
				out = append(out, Sample{Kind: Flapped, At: m.at, Scope: s.scope, Check: c})
			}
			all[c] += end.Sub(m.at)
			if len(m.held) == 1 {
				alone[c] += end.Sub(m.at)
			}
		}
	}
	if !over {
		return out
	}
	for c, d := range all {
		out = append(out, Sample{Kind: Held, At: until, Scope: s.scope, Check: c, For: d, Alone: alone[c]})
	}
	if s.released.IsZero() {
		return append(out, Sample{Kind: GaveUp, At: until, Scope: s.scope, For: until.Sub(s.at), Status: s.status})
	}
	return append(out, Sample{Kind: Waited, At: until, Scope: s.scope, For: until.Sub(s.at), Rollback: s.back})
}

// success2 are the samples of a success: lead time, what it took back, what it
// restored.
func success2(s *story, order []*story, deeds []deed) []Sample {
	var out []Sample
	var before []*story // that ran and ended here before, in the order of their ends
	for _, o := range order {
		if o != s && o.scope == s.scope && !o.released.IsZero() && !o.ended.IsZero() && o.endedAt < s.endedAt {
			before = append(before, o)
		}
	}
	slices.SortFunc(before, func(a, b *story) int { return a.endedAt - b.endedAt })
	recent := func(m lockkeeper.Moment) bool { return s.ended.Sub(m) <= 90*24*time.Hour }
	if !s.back && s.commit != "" {
		first := true
		for _, o := range before {
			first = first && !(o.status == Succeeded && !o.back && o.commit == s.commit && recent(o.ended))
		}
		for i, d := range deeds {
			if first && d.what == "record" && d.commit == s.commit && recent(d.at) && i < s.endedAt {
				out = append(out, Sample{Kind: Lead, At: s.ended, Scope: s.scope, For: s.ended.Sub(d.at)})
				break
			}
		}
	}
	var failed []*story // since the last success
	var last *story
	for _, o := range before {
		if o.status == Succeeded {
			last, failed = o, nil
		} else {
			failed = append(failed, o)
		}
	}
	for _, o := range failed {
		if recent(o.ended) {
			return append(out, Sample{Kind: Restored, At: s.ended, Scope: s.scope, For: s.ended.Sub(o.ended)})
		}
	}
	if s.back && len(failed) == 0 && last != nil && !last.back && last.arts != s.arts && s.ended.Sub(last.ended) <= 24*time.Hour {
		out = append(out, Sample{Kind: TakenAway, At: last.ended, Scope: s.scope},
			Sample{Kind: Restored, At: s.ended, Scope: s.scope, For: s.ended.Sub(last.ended)})
	}
	return out
}

func sorted(list []Sample) []string {
	out := []string{}
	for _, s := range list {
		out = append(out, fmt.Sprintf("%+v", s))
	}
	slices.Sort(out)
	return out
}

func folded(deeds []deed) (list []Sample, f *Fold) {
	f = New(func(s Sample) { list = append(list, s) })
	play(f, deeds)
	return list, f
}

// TestFoldGivesWhatIsDefined compares the fold with the model, sample by sample.
func TestFoldGivesWhatIsDefined(t *testing.T) {
	seen := map[Kind]int{}
	rapid.Check(t, func(t *rapid.T) {
		deeds := history(t)
		got, _ := folded(deeds)
		if g, w := sorted(got), sorted(model(deeds)); !slices.Equal(g, w) {
			t.Fatalf("of %+v\nthe fold gives  %v\nthe model gives %v", deeds, g, w)
		}
		for _, s := range got {
			seen[s.Kind]++
		}
	})
	for _, k := range []Kind{Ended, Lead, TakenAway, Restored, Waited, GaveUp, Held, Flapped, Prompted, Voted, BrokeGlass} {
		if seen[k] == 0 {
			t.Errorf("no history had a sample of kind %d: %v", k, seen)
		}
	}
}

// TestLookback begins in the middle, as a question about a window does, and gets the
// same report as whoever read everything: for no window does it matter what happened
// longer ago than Lookback, or later than TakenBack.
func TestLookback(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		deeds := history(t)
		if len(deeds) == 0 {
			return
		}
		pick := func(name string) lockkeeper.Moment { return deeds[rapid.IntRange(0, len(deeds)-1).Draw(t, name)].at }
		q := Query{Since: pick("since"), Scope: rapid.SampledFrom([]lockkeeper.Scope{"/", "/projects/p", environments[0]}).Draw(t, "scope"), Hasty: 10 * time.Second}
		q.Until = q.Since.Add(time.Duration(rapid.SampledFrom([]int{1, 24, 24 * 30, 24 * 200}).Draw(t, "hours")) * time.Hour)
		q.From, q.To = q.Since, q.Until
		end := q.Until.Add(TakenBack)
		of := func(deeds []deed) Report {
			c := NewCollector(q)
			f := New(c.Add)
			play(f, deeds)
			for scope, since := range f.Broken(end) {
				c.StillBroken(scope, since)
			}
			return c.Report()
		}
		var upTo, between []deed
		for _, d := range deeds {
			if d.at.Sub(end) > 0 {
				break
			}
			if upTo = append(upTo, d); !d.at.Before(q.Since.Add(-Lookback)) {
				between = append(between, d)
			}
		}
		whole, part := of(upTo), of(between)
		if !reflect.DeepEqual(whole, part) {
			t.Fatalf("from the beginning\n%+v\nfrom %s on\n%+v", whole, q.Since.Add(-Lookback), part)
		}
		checkReport(t, whole, model(deeds), upTo)
	})
}

// checkReport compares a report with what the model's samples say of its window.
func checkReport(t *rapid.T, r Report, samples []Sample, upTo []deed) {
	in := func(k Kind, scope lockkeeper.Scope, more func(Sample) bool) (list []time.Duration) {
		for _, s := range samples {
			if s.Kind == k && s.Scope == scope && !s.At.Before(r.Since) && s.At.Before(r.Until) && (more == nil || more(s)) {
				list = append(list, s.For)
			}
		}
		return list
	}
	for _, scope := range environments {
		if !r.Scope.Contains(scope) {
			continue
		}
		e := Environment{}
		for _, o := range r.Environments {
			if o.Scope == scope {
				e = o
			}
		}
		change := func(ok bool) func(Sample) bool {
			return func(s Sample) bool { return s.Ran && !s.Rollback && (s.Status == Succeeded) == ok }
		}
		for _, c := range []struct {
			what      string
			got, want int
		}{
			{"successes", e.Successes, len(in(Ended, scope, change(true)))},
			{"failures", e.Failures, len(in(Ended, scope, change(false)))},
			{"rollbacks", e.Rollbacks, len(in(Ended, scope, func(s Sample) bool { return s.Ran && s.Rollback }))},
			{"prompts", e.Prompts, len(in(Prompted, scope, nil))},
			{"approvals", e.Votes.Approvals, len(in(Voted, scope, func(s Sample) bool { return s.Approved }))},
			{"hasty", e.Votes.Hasty, len(in(Voted, scope, func(s Sample) bool { return s.Approved && s.For < 10*time.Second }))},
		} {
			if c.got != c.want {
				t.Fatalf("%s of %s: %d, want %d", c.what, scope, c.got, c.want)
			}
		}
		for what, s := range map[string][2]any{"lead": {e.Lead, in(Lead, scope, nil)}, "restore": {e.Restore, in(Restored, scope, nil)}, "waiting": {e.Waiting, in(Waited, scope, nil)}} {
			if got, want := s[0].(Spread), slowSpread(s[1].([]time.Duration)); got != want {
				t.Fatalf("%s of %s: %v, want %v", what, scope, got, want)
			}
		}
		weeks := 0
		for i, w := range e.Weeks {
			weeks += w.Successes
			if w.From.Time().Weekday() != time.Monday || i > 0 && w.From.Sub(e.Weeks[i-1].From) != week {
				t.Fatalf("the weeks are %v", e.Weeks)
			}
		}
		if e.Scope != "" && weeks != e.Successes {
			t.Fatalf("the weeks have %d successes, and the window %d", weeks, e.Successes)
		}
	}
}

// slowSpread finds percentiles by counting how many do not exceed a value.
func slowSpread(list []time.Duration) Spread {
	s := Spread{Count: len(list)}
	within := func(v time.Duration) (n int) {
		for _, d := range list {
			if d <= v {
				n++
			}
		}
		return n
	}
	least := func(percent int) time.Duration {
		best := time.Duration(-1)
		for _, d := range list {
			if within(d)*100 >= percent*len(list) && (best < 0 || d < best) {
				best = d
			}
		}
		return best
	}
	if len(list) > 0 {
		s.P50, s.P90, s.Max = least(50), least(90), least(100)
	}
	return s
}
