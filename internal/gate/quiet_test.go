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

// wallScan looks at the clock on the wall minute by minute: slow, and without any
// arithmetic of zones.
type wallScan struct {
	from  time.Time
	walls []time.Time // what the clock shows at each minute, spelled in UTC
}

func scanWall(zone string, at time.Time) wallScan {
	z, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	s := wallScan{from: at.Truncate(time.Minute).Add(-72 * time.Hour)}
	for m := range 6 * 24 * 60 {
		l := s.from.Add(time.Duration(m) * time.Minute).In(z)
		s.walls = append(s.walls, time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, time.UTC))
	}
	return s
}

// first is the first minute at which the clock shows wall or later, and last the end of
// the last at which it shows less; -1: not in what was looked at.
func (s wallScan) first(wall time.Time) int {
	return slices.IndexFunc(s.walls, func(w time.Time) bool { return !w.Before(wall) })
}
func (s wallScan) last(wall time.Time) int {
	for i := len(s.walls) - 1; i >= 0; i-- {
		if s.walls[i].Before(wall) {
			return i + 1
		}
	}
	return -1
}

func (s wallScan) days() []time.Time {
	var out []time.Time
	for _, w := range s.walls {
		day := time.Date(w.Year(), w.Month(), w.Day(), 0, 0, 0, 0, time.UTC)
		if !slices.Contains(out, day) {
			out = append(out, day)
		}
	}
	return out
}

// quiet marks the minutes in which one window from a clock to another, on all days,
// holds.
func (s wallScan) quiet(from, to int) []bool {
	out := make([]bool, len(s.walls))
	if to <= from {
		to += 24 * 60
	}
	for _, day := range s.days() {
		a, b := s.first(day.Add(time.Duration(from)*time.Minute)), s.last(day.Add(time.Duration(to)*time.Minute))
		for i := max(a, 0); a >= 0 && i < b; i++ {
			out[i] = true
		}
	}
	return out
}

// TestToldByTheMinute holds quiet hours and digests against a clock that is read minute
// by minute, around the days on which clocks are changed.
func TestToldByTheMinute(t *testing.T) {
	changes := []time.Time{time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC), time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), time.Date(2026, 10, 3, 15, 30, 0, 0, time.UTC), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)}
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom([]string{"Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "UTC"}).Draw(t, "zone")
		at := rapid.SampledFrom(changes).Draw(t, "change").Add(time.Duration(rapid.IntRange(-30*60, 30*60).Draw(t, "minutes")) * time.Minute)
		clock := func(name string) int { return rapid.IntRange(0, 24*4-1).Draw(t, name) * 15 }
		text := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
		scan := scanWall(zone, at)
		here := 72 * 60
		n := catalog.Notification{About: []string{catalog.AboutReviews, catalog.AboutAlerts}, Urgent: []string{catalog.AboutAlerts}}
		due := here
		if rapid.Bool().Draw(t, "digest") {
			n.Digest = &catalog.Digest{Zone: zone}
			best := -1
			for range rapid.IntRange(1, 3).Draw(t, "times") {
				m := clock("digest at")
				n.Digest.At = append(n.Digest.At, text(m))
				for _, day := range scan.days() {
					if i := scan.first(day.Add(time.Duration(m) * time.Minute)); i > here && (best < 0 || i < best) {
						best = i
					}
				}
			}
			due = best
		}
		if rapid.Bool().Draw(t, "quiet") {
			from, to := clock("quiet from"), clock("quiet to")
			if from == to {
				return
			}
			n.Quiet = &catalog.Quiet{Zone: zone, Windows: []catalog.FreezeWindow{{Days: catalog.Weekdays(), From: text(from), To: text(to)}}}
			if to == 0 {
				n.Quiet.Windows[0].To = "24:00"
			}
			for quiet := scan.quiet(from, to); quiet[due]; due++ {
			}
		}
		got, gathered := ToldAt(n, catalog.AboutReviews, lockkeeper.MomentOf(at))
		if want := lockkeeper.MomentOf(scan.from.Add(time.Duration(due) * time.Minute)); got != want || gathered != (due != here) {
			t.Fatalf("in %s, of what came at %s: told at %s (%v), want %s\n%+v %+v", zone, at, got, gathered, want, n.Digest, n.Quiet)
		}
		if now, later := ToldAt(n, catalog.AboutAlerts, lockkeeper.MomentOf(at)); now != lockkeeper.MomentOf(at) || later {
			t.Fatal("what is urgent is held up")
		}
	})
}

// Digests at intervals begin anew with each day, so that one and the same instant ends
// what everybody is told together.
func TestDigestEvery(t *testing.T) {
	at := func(s string) lockkeeper.Moment {
		m, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return lockkeeper.MomentOf(m)
	}
	for _, c := range []struct{ every, from, want string }{
		{"30m", "2026-11-02T09:00:00Z", "2026-11-02T09:30:00Z"}, {"30m", "2026-11-02T09:29:59Z", "2026-11-02T09:30:00Z"},
		{"7h", "2026-11-02T22:00:00Z", "2026-11-03T00:00:00Z"}, {"24h", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"},
	} {
		d, _ := time.ParseDuration(c.every)
		if got := nextDigest(catalog.Digest{Every: catalog.Duration(d)}, at(c.from)); got != at(c.want) {
			t.Errorf("every %s after %s: %s, want %s", c.every, c.from, got, c.want)
		}
	}
	if due, gathered := ToldAt(catalog.Notification{Quiet: &catalog.Quiet{Zone: "Nowhere", Windows: []catalog.FreezeWindow{{Days: catalog.Weekdays()}}}}, "x", at("2026-11-02T09:00:00Z")); gathered || due != at("2026-11-02T09:00:00Z") {
		t.Error("a zone that is not known holds something up")
	}
	always := catalog.Notification{Quiet: &catalog.Quiet{Zone: "UTC", Windows: []catalog.FreezeWindow{{Days: catalog.Weekdays()}}}}
	if due, _ := ToldAt(always, "x", at("2026-11-02T09:00:00Z")); due != at("2026-11-10T09:00:00Z") {
		t.Errorf("who is never told otherwise is told at %s", due)
	}
}
