package gate

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// An answer of the model: all are kept, whether they told anything or not.
type given struct {
	good bool
	at   lockkeeper.Moment
}

// mayPass is what a series must not pass without, read backwards from everything that
// was ever said: good answers and nothing else, the newest within its validity, none
// missing for longer than is let pass, enough of them a while apart, and for long enough.
func mayPass(s Series, all []given, now lockkeeper.Moment) bool {
	n, first := 0, lockkeeper.Moment{}
	var newer lockkeeper.Moment
	for i := len(all) - 1; i >= 0 && all[i].good; i-- {
		a := all[i]
		if n == 0 && !now.Before(a.at.Add(s.Validity)) {
			return false
		}
		if n > 0 && newer.Sub(a.at) >= max(s.Gap, s.Validity) {
			break
		}
		n, first, newer = n+1, a.at, a.at
		if n >= s.Answers && all[len(all)-1].at.Sub(first) >= max(s.For, time.Duration(s.Answers-1)*s.Every/2) {
			return true
		}
	}
	return false
}

// TestSeriesAgainstModel drives a series with answers good and bad, regular, late and
// twice, of which only those that tell something are taken, as the keeper does.
func TestSeriesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := catalog.CallCheck{Service: catalog.Call{Retry: catalog.Duration(10 * time.Second), Timeout: catalog.Duration(5 * time.Second)}, Steady: &catalog.Steady{
			Answers: rapid.IntRange(1, 5).Draw(t, "answers"), For: catalog.Duration(rapid.SampledFrom([]time.Duration{0, 15 * time.Second, time.Minute}).Draw(t, "for"))},
			Validity: catalog.Duration(rapid.SampledFrom([]time.Duration{30 * time.Second, time.Minute, 5 * time.Minute}).Draw(t, "validity"))}
		s := SeriesOf(c, time.Hour)
		now := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
		var all []given
		regular := 0 // good answers in a row, one every retry
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			step := rapid.SampledFrom([]time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, time.Second, 29 * time.Second, 31 * time.Second, 70 * time.Second, 6 * time.Minute}).Draw(t, "step")
			now = now.Add(step)
			_, before := s.Passes(now)
			if before && !mayPass(s, all, now) {
				t.Fatalf("it passes by time alone: %+v", s)
			}
			kind := rapid.SampledFrom([]string{"good", "good", "good", "good", "bad", "missed", "nothing"}).Draw(t, "kind")
			if kind == "nothing" {
				regular = 0
				continue
			}
			a := Said{Good: kind == "good", Code: map[string]string{"bad": "criteria_unmet", "missed": "timed_out"}[kind]}
			all = append(all, given{a.Good, now})
			if s.Tells(a, now) {
				s = s.Take(a, now)
			}
			switch {
			case !a.Good || step < 10*time.Second:
				regular = 0
			case step == 10*time.Second:
				regular++
			default:
				regular = 1
			}
			_, passes := s.Passes(now)
			if passes && !mayPass(s, all, now) {
				t.Fatalf("it passes: %+v of %v", s, all)
			}
			if !a.Good && passes {
				t.Fatal("it passes after a bad answer")
			}
			if enough := max(s.Answers, int(s.For/(10*time.Second))+2); regular > enough+1 && !passes {
				t.Fatalf("%d good answers, one each 10s, do not pass: %+v", regular, s)
			}
		}
	})
}

// What a check says while it waits is what somebody at the gate needs.
func TestCallSentences(t *testing.T) {
	c := catalog.Check{Name: "errors", Call: &catalog.CallCheck{Service: catalog.Call{Retry: catalog.Duration(10 * time.Second)}, Steady: &catalog.Steady{Answers: 5}}}
	at := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	s := SeriesOf(*c.Call, time.Hour)
	s = s.Take(Said{Code: "criteria_unmet", Reason: "The answer does not meet the criteria."}, at)
	for i := range 3 {
		s = s.Take(Said{Good: true}, at.Add(time.Duration(i+1)*10*time.Second))
	}
	d := Called(c, Outside{s, at, at.Add(time.Hour)}, at.Add(31*time.Second))
	if want := "3 good answers of 5 in a row; the last bad answer was of 2026-11-02T09:00:00.000Z: The answer does not meet the criteria. [criteria_unmet]"; d.Verdict != lockkeeper.Wait || d.Sentence != want {
		t.Errorf("%s %q", d.Verdict, d.Sentence)
	}
	f := Facts{Environment: catalog.Environment{Checks: []catalog.Check{c}}}
	if list := calls(f, at); len(list) != 1 || list[0].Verdict != lockkeeper.Error {
		t.Errorf("nobody says what the service answered: %+v", list)
	}
	f.Outside = func(catalog.Check) Outside { return Outside{} }
	if list := calls(f, at); len(list) != 1 || list[0].Verdict != lockkeeper.Wait {
		t.Errorf("nobody was asked: %+v", list)
	}
}
