package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // machines without a data base of zones must judge the same

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// times judges delays and hours.
func times(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		switch {
		case c.Delay != nil:
			out = append(out, delay(f, c, now))
		case c.Hours != nil:
			out = append(out, hours(c, now))
		}
	}
	return out
}

// Times judges delays and hours alone, for what is no deployment.
func Times(f Facts, now lockkeeper.Moment) []lockkeeper.Decision { return times(f, now) }

func delay(f Facts, c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	over := f.Opened.Add(time.Duration(c.Delay.For))
	if now.Before(over) {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: "delayed",
			Sentence: fmt.Sprintf("The ask goes through no sooner than %s after it was opened, at %s.", time.Duration(c.Delay.For), over), Next: "Wait until then."}
	}
	return passed(c, "delay_over", "%s have passed since the ask was opened.", time.Duration(c.Delay.For))
}

// hours passes inside a window, until it closes.
func hours(c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	zone, err := time.LoadLocation(c.Hours.Zone)
	if err != nil {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Error, Code: "zone_unknown",
			Sentence: fmt.Sprintf("This server knows no time zone %q.", c.Hours.Zone), Next: "Name a zone of the IANA data base in the environment."}
	}
	change, found := NextChange(*c.Hours, zone, now)
	if !open(*c.Hours, now.Time().In(zone)) {
		d := lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: "outside_hours",
			Sentence: fmt.Sprintf("It is %s in %s, outside the hours.", now.Time().In(zone).Format("Monday 15:04"), c.Hours.Zone), Next: "Wait for the next window."}
		if found {
			d.Sentence += fmt.Sprintf(" The next window opens at %s.", change)
		}
		return d
	}
	d := passed(c, "inside_hours", "It is %s in %s, inside the hours.", now.Time().In(zone).Format("Monday 15:04"), c.Hours.Zone)
	if found {
		d.Sentence += fmt.Sprintf(" The window closes at %s.", change)
		d.Until = &change
	}
	return d
}

// open reports whether a window is open at a local time. It asks only what the
// clock on the wall shows, so an hour that a change of the clocks skips is open
// for nobody, and one that it repeats counts twice.
func open(h catalog.Hours, local time.Time) bool {
	today := catalog.Weekdays()[(int(local.Weekday())+6)%7]
	yesterday := local.AddDate(0, 0, -1)
	before := catalog.Weekdays()[(int(local.Weekday())+5)%7]
	minute := local.Hour()*60 + local.Minute()
	for _, w := range h.Windows {
		from, ok1 := catalog.ClockMinutes(w.From)
		to, ok2 := catalog.ClockMinutes(w.To)
		if !ok1 || !ok2 {
			continue
		}
		late := to <= from // past midnight
		if slices.Contains(w.Days, today) && !except(h, local) && minute >= from && (late || minute < to) {
			return true
		}
		if late && slices.Contains(w.Days, before) && !except(h, yesterday) && minute < to {
			return true
		}
	}
	return false
}

func except(h catalog.Hours, local time.Time) bool {
	return slices.Contains(h.Except, local.Format(time.DateOnly))
}

// horizon is how far ahead NextChange looks: past a week, and past a month of
// exceptions.
const horizon = 40

// NextChange is the first instant after now at which the windows open or close,
// within the horizon.
func NextChange(h catalog.Hours, zone *time.Location, now lockkeeper.Moment) (lockkeeper.Moment, bool) {
	local := now.Time().In(zone)
	was := open(h, local)
	for first := -1; first <= horizon; first += 8 {
		var all []time.Time // of nine days: one more than the step, so that no two days' instants are out of order
		for day := first; day <= first+8; day++ {
			all = append(all, changesOn(h, zone, local.Year(), local.Month(), local.Day()+day)...)
		}
		slices.SortFunc(all, time.Time.Compare)
		for _, at := range all {
			if at.After(now.Time()) && open(h, at.In(zone)) != was {
				return lockkeeper.MomentOf(at), true
			}
		}
	}
	return lockkeeper.Moment{}, false
}

// changesOn lists every instant of a local day at which a window may
// open or close: midnight, the ends of the windows, and a change of the clocks.
// A local time that the change repeats stands for two instants.
func changesOn(h catalog.Hours, zone *time.Location, year int, month time.Month, day int) []time.Time {
	minutes := []int{0}
	for _, w := range h.Windows {
		for _, s := range []string{w.From, w.To} {
			if m, ok := catalog.ClockMinutes(s); ok {
				minutes = append(minutes, m)
			}
		}
	}
	noon := time.Date(year, month, day, 12, 0, 0, 0, zone)
	start, end := noon.ZoneBounds()
	_, offset := noon.Zone()
	offsets := []int{offset}
	var out []time.Time
	for change, other := range map[time.Time]time.Time{start: start.Add(-time.Second), end: end} {
		if !change.IsZero() && change.Sub(noon).Abs() < 36*time.Hour {
			_, o := other.In(zone).Zone()
			out, offsets = append(out, change), append(offsets, o)
		}
	}
	for _, m := range minutes {
		utc := time.Date(year, month, day, 0, m, 0, 0, time.UTC)
		for _, offset := range offsets {
			out = append(out, utc.Add(-time.Duration(offset)*time.Second))
		}
	}
	return out
}

func lockOf(e catalog.Environment) *catalog.Check {
	for i, c := range e.Checks {
		if c.Lock != nil {
			return &e.Checks[i]
		}
	}
	return nil
}

// turnGrace is how long, after the lock became free, an older ask that is ready
// goes before a newer one. Then anybody who is ready may take it: a job that
// never comes back holds up nobody for longer.
const turnGrace = 30 * time.Second

// lock passes when nobody holds the environment and it is the ask's turn. It is
// a verdict for this instant: what makes it true is the lease that the same
// decision grants.
func lock(f Facts, c catalog.Check, others lockkeeper.Decision, now lockkeeper.Moment) lockkeeper.Decision {
	wait := func(code, next, format string, args ...any) lockkeeper.Decision {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: code, Sentence: fmt.Sprintf(format, args...), Next: next}
	}
	if !others.Passed(now) {
		return wait("lock_later", "Wait for the other checks.", "The lock's turn comes once every other check has passed.")
	}
	if f.Rivals == nil {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Error, Code: "lock_unknown", Sentence: "Nothing says who holds the lock.", Next: "Ask again."}
	}
	var holder *Rival
	var older []string
	freed := f.Freed
	for _, r := range f.Rivals() {
		if freed.Before(r.Freed) {
			freed = r.Freed
		}
		switch {
		case r.Running:
			holder = &r
		case c.Lock.Mode == catalog.LockLatest && r.Ready && r.Ticket > f.Ticket && r.Line == Line(f.Ask):
			return failed(c, "superseded", fmt.Sprintf("The newer deployment %s of the same stage and ref is ready; the lock lets only the newest through.", r.ID), "Nothing: the newer one takes its place.")
		case r.Ready && r.Ticket < f.Ticket && !(c.Lock.Mode == catalog.LockLatest && r.Line == Line(f.Ask)):
			older = append(older, r.ID)
		}
	}
	switch {
	case holder != nil:
		return wait("locked", "Wait for its end, or ask whoever may cancel it.", "%s holds the lock of %s.", holder.ID, f.Environment.Name)
	case len(older) > 0 && now.Before(freed.Add(turnGrace)):
		return wait("not_its_turn", "Wait; the queue moves on by itself.", "The lock is free, and it is first the turn of %s.", strings.Join(older, ", "))
	}
	return passed(c, "lock_free", "Nobody holds the lock of %s.", f.Environment.Name)
}
