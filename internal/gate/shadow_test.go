package gate

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// anyFacts are facts of an environment with some of every kind of check.
func anyFacts(t *rapid.T) Facts {
	f := facts()
	yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
	f.Environment.Checks = nil
	for i := range rapid.IntRange(0, 6).Draw(t, "checks") {
		c := catalog.Check{Name: fmt.Sprintf("c%d", i)}
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0, 1:
			c.Approval = &catalog.Approval{Count: rapid.IntRange(1, 2).Draw(t, "count"), Groups: []string{rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")}}
			if yes("review") {
				c.Approval.Review = catalog.SecurityReview
			}
		case 2:
			c.Branches = &catalog.Branches{Allowed: []string{rapid.SampledFrom([]string{"refs/heads/main", "refs/heads/other"}).Draw(t, "ref")}}
		case 3:
			c.Delay = &catalog.Delay{For: catalog.Duration(rapid.IntRange(1, 9).Draw(t, "delay")) * catalog.Duration(20*time.Second)}
		case 4:
			c.Hours = &catalog.Hours{Zone: rapid.SampledFrom([]string{"UTC", "UTC", "Nowhere/At-All"}).Draw(t, "zone"),
				Windows: []catalog.Window{{Days: catalog.Weekdays(), From: rapid.SampledFrom([]string{"08:00", "10:00"}).Draw(t, "from"), To: "17:00"}}}
		case 5:
			c.Expression = &catalog.Expression{Rule: "r"}
		}
		f.Environment.Checks = append(f.Environment.Checks, c)
	}
	if yes("lock") {
		f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: "lock", Lock: &catalog.Lock{Mode: catalog.LockSequential}})
	}
	f.Rivals = func() []Rival { return nil }
	if yes("held") {
		f.Rivals = func() []Rival { return []Rival{{ID: "d", Running: true}} }
	}
	f.Votes = nil
	for _, user := range []string{"ann", "bob", "cat", "dan"} {
		if yes(user) {
			f.Votes = append(f.Votes, vote(user, rapid.SampledFrom([]string{"g", "h", "k"}).Draw(t, "in")))
		}
	}
	if yes("frozen") {
		f.Freezes = []catalog.Freeze{{Name: "z", From: now.Add(-time.Hour), Until: now.Add(time.Hour)}}
	}
	if yes("unknown") {
		f.Initiators = nil
	}
	if yes("elsewhere") {
		f.Ask.Stage = "build"
	}
	if yes("claimed") {
		f.Records = nil
	}
	if yes("late") {
		f.Deadline = now
	}
	if yes("activation") {
		f.Activated = []lockkeeper.Decision{{Subject: "activation of r", Verdict: lockkeeper.Fail, Code: "activation_missing"}}
	}
	f.Environment.Tier = rapid.SampledFrom([]catalog.Tier{catalog.Production, catalog.Development}).Draw(t, "tier")
	return f
}

// TestObserveHoldsTheFloor compares a gate that observes with the same gate enforced:
// it passes if nothing but what the environment demands by itself is against it, and it
// says of everything what it would have done.
func TestObserveHoldsTheFloor(t *testing.T) {
	passed, stopped := 0, 0
	play := func(t *rapid.T) {
		f := anyFacts(t)
		enforced := Judge(f, now)
		f.Environment.Mode = catalog.ObserveMode
		seen := Judge(f, now)
		floor := lockkeeper.Pass
		for _, d := range enforced.Because {
			holds := slices.Contains([]string{"initiator", "stage", "artifacts", "freeze", "patience"}, d.Subject)
			if holds && d.Verdict != lockkeeper.Pass {
				floor = lockkeeper.Fail
			}
		}
		locked := len(f.Rivals()) > 0 && lockOf(f.Environment) != nil
		if want := floor == lockkeeper.Pass && !locked; seen.Passed(now) != want {
			t.Fatalf("observing, the gate passes: %v, and should: %v\n%+v", seen.Passed(now), want, seen)
		}
		if len(seen.Because) != len(enforced.Because) {
			t.Fatalf("observing, the gate says %d things, and enforced %d", len(seen.Because), len(enforced.Because))
		}
		for i, d := range seen.Because {
			if d.Subject == "check lock" {
				continue // its turn comes sooner
			}
			would := enforced.Because[i].Verdict
			is, stops := Observed(d)
			if d.Subject != enforced.Because[i].Subject || is && stops != (would != lockkeeper.Pass) || !is && d.Verdict != would {
				t.Fatalf("of %s the gate says %s, and enforced %s", d.Subject, d.Code, would)
			}
		}
		if seen.Passed(now) {
			passed++
		} else {
			stopped++
		}
	}
	for rounds := 0; rounds < 50 && !t.Failed() && (passed == 0 || stopped == 0); rounds++ { // to pass is rare
		rapid.Check(t, play)
	}
	if passed == 0 || stopped == 0 {
		t.Errorf("the gate passed %d times and stopped %d", passed, stopped)
	}
}

// TestShadowIsAbsence compares a gate some of whose checks are in shadow with one that
// does not have them: verdict, code and end are the same.
func TestShadowIsAbsence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFacts(t)
		without := f
		without.Environment.Checks = nil
		for i := range f.Environment.Checks {
			c := &f.Environment.Checks[i]
			if c.Lock == nil && rapid.Bool().Draw(t, "shadow") {
				c.Shadow = true
				continue
			}
			without.Environment.Checks = append(without.Environment.Checks, *c)
		}
		a, b := Judge(f, now), Judge(without, now)
		if a.Verdict != b.Verdict || a.Code != b.Code || (a.Until == nil) != (b.Until == nil) || a.Until != nil && *a.Until != *b.Until {
			t.Fatalf("with shadows the gate says %s %s, and without these checks %s %s", a.Verdict, a.Code, b.Verdict, b.Code)
		}
		if a, b := Standing(f, now), Standing(without, now); a.Verdict != b.Verdict || a.Code != b.Code {
			t.Fatalf("with shadows %s stands, and without these checks %s", a.Code, b.Code)
		}
		if got, want := len(a.Because)-len(b.Because), len(f.Environment.Checks)-len(without.Environment.Checks); got != want {
			t.Fatalf("%d checks in shadow are told, of %d", got, want)
		}
	})
}

// A shadowed approval takes nobody from one that counts, and shows what it would do.
func TestShadowTakesNoPlace(t *testing.T) {
	f := facts()
	f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: "more", Shadow: true, Approval: &catalog.Approval{Count: 1, Groups: []string{"g"}}})
	d := Judge(f, now)
	if d.Verdict != lockkeeper.Pass {
		t.Fatalf("the gate says %s: %s", d.Code, d.Sentence)
	}
	for _, b := range d.Because {
		if b.Subject == "check more" && b.Code != ObservedWait {
			t.Errorf("with all places asked for there are too few persons, and the shadow says %s", b.Code)
		}
	}
}

// TestEarliest compares the instant found by arithmetic with the first minute at which
// a look at every minute finds nothing in the way.
func TestEarliest(t *testing.T) {
	found, none := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := facts()
		f.Environment.Checks = nil
		minutes := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
		for i := range rapid.IntRange(0, 4).Draw(t, "checks") {
			c := catalog.Check{Name: fmt.Sprintf("c%d", i), Shadow: rapid.IntRange(0, 4).Draw(t, "shadow") == 0}
			if rapid.Bool().Draw(t, "delay") {
				c.Delay = &catalog.Delay{For: catalog.Duration(1+minutes("for", 300)) * catalog.Duration(time.Minute)}
			} else {
				clock := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
				from := minutes("from", 22*60)
				c.Hours = &catalog.Hours{Zone: rapid.SampledFrom([]string{"UTC", "Europe/Zurich", "Asia/Kathmandu"}).Draw(t, "zone"),
					Windows: []catalog.Window{{Days: catalog.Weekdays()[:1+minutes("days", 6)], From: clock(from), To: clock(from + 1 + minutes("long", 100))}}}
			}
			f.Environment.Checks = append(f.Environment.Checks, c)
		}
		for range minutes("freezes", 2) {
			from := now.Add(time.Duration(minutes("begin", 600)-120) * time.Minute)
			f.Freezes = append(f.Freezes, catalog.Freeze{From: from, Until: from.Add(time.Duration(1+minutes("lasts", 600)) * time.Minute)})
		}
		f.Opened, f.Deadline = now, now.Add(time.Duration(1+minutes("patience", 3*24*60))*time.Minute)
		f.Environment.Tier = catalog.Development
		at, is := Earliest(f, now)
		for m := now; m.Before(f.Deadline); m = m.Add(time.Minute) {
			clear := Freeze(f, m).Verdict == lockkeeper.Pass
			for _, c := range f.Environment.Checks {
				if c.Shadow {
					continue
				}
				if c.Delay != nil && m.Sub(f.Opened) < time.Duration(c.Delay.For) {
					clear = false
				}
				if c.Hours != nil {
					zone, _ := time.LoadLocation(c.Hours.Zone)
					clear = clear && open(*c.Hours, m.Time().In(zone))
				}
			}
			if clear {
				if found++; !is || at != m {
					t.Fatalf("found %v %s, and a look at each minute finds %s", is, at, m)
				}
				return
			}
		}
		if none++; is {
			t.Fatalf("found %s, and no minute before %s is free", at, f.Deadline)
		}
	})
	if found == 0 || none == 0 {
		t.Errorf("found %d, none %d", found, none)
	}
}
