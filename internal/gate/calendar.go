package gate

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A freeze that recurs is judged by the clock on the wall of its zone, and always to
// the side of more: a window begins when that clock first shows its beginning or
// later, and ends when it last shows less than its end. So a beginning that a change
// of the clocks skips is the instant of the change, one that it repeats is the first
// of the two, an end that it repeats is the second, and a window of which the zone
// skipped every minute never was.

// A Span is a time in which a freeze holds, half-open. A zero Until: it has no end
// that is looked ahead to.
type Span struct{ From, Until lockkeeper.Moment }

// Spans lists the times between from and to in which a freeze holds, in their order,
// each as long as it lasts; those that touch are one. A zone that this machine does
// not know is an error: whoever judges must not pass then.
func Spans(f catalog.Freeze, from, to lockkeeper.Moment) ([]Span, error) {
	if len(f.Windows) == 0 {
		if s := (Span{f.From, f.Until}); s.From.Before(to) && (s.Until.IsZero() || from.Before(s.Until)) {
			return []Span{s}, nil
		}
		return nil, nil
	}
	zone, err := time.LoadLocation(f.Zone)
	if err != nil {
		return nil, err
	}
	var all []Span
	for _, w := range f.Windows {
		all = append(all, windowSpans(f, w, zone, from, to)...)
	}
	slices.SortFunc(all, func(a, b Span) int { return a.From.Time().Compare(b.From.Time()) })
	var out []Span
	for _, s := range all {
		if n := len(out); n > 0 && !out[n-1].Until.Before(s.From) {
			if out[n-1].Until.Before(s.Until) {
				out[n-1].Until = s.Until
			}
			continue
		}
		out = append(out, s)
	}
	return slices.DeleteFunc(out, func(s Span) bool { return !from.Before(s.Until) || !s.From.Before(to) }), nil
}

// zoneReach is further from UTC than any clock on a wall ever was.
const zoneReach = 26 * time.Hour

// windowSpans are the spans of one window that may reach into from to to, cut to the
// freeze's own ends. It looks back as far as spans that touch may hang together: a
// month and the longest window.
func windowSpans(f catalog.Freeze, w catalog.FreezeWindow, zone *time.Location, from, to lockkeeper.Moment) []Span {
	begin, end, ok := w.Span()
	if !ok {
		begin, end = 0, 24*60 // no rule lets this in; more is frozen, not less
	}
	var out []Span
	last := to.Time().Add(zoneReach)
	first := from.Time().Add(-zoneReach).AddDate(0, 0, -lookBack)
	for day := time.Date(first.Year(), first.Month(), first.Day(), 0, 0, 0, 0, time.UTC); day.Before(last); day = day.AddDate(0, 0, 1) {
		if !w.BeginsOn(day) || slices.Contains(f.Except, day.Format(time.DateOnly)) {
			continue
		}
		s := Span{firstAt(zone, day.Add(time.Duration(begin)*time.Minute)), lastBefore(zone, day.Add(time.Duration(end)*time.Minute))}
		if s.From.Before(f.From) {
			s.From = f.From
		}
		if !f.Until.IsZero() && f.Until.Before(s.Until) {
			s.Until = f.Until
		}
		if s.From.Before(s.Until) {
			out = append(out, s)
		}
	}
	return out
}

// lookBack is how many days before an instant a span that holds at it is looked for.
const lookBack = 64

// firstAt is the first instant at which the clock of the zone shows wall, which is
// spelled in UTC, or later.
func firstAt(zone *time.Location, wall time.Time) lockkeeper.Moment {
	var found time.Time
	periods(zone, wall, func(start, end time.Time, offset time.Duration) bool {
		at := wall.Add(-offset)
		if at.Before(start) {
			at = start
		}
		if !end.IsZero() && !at.Before(end) {
			return true
		}
		found = at
		return false
	})
	return lockkeeper.MomentOf(found)
}

// lastBefore is the end of the last time in which the clock of the zone shows less
// than wall.
func lastBefore(zone *time.Location, wall time.Time) lockkeeper.Moment {
	var found time.Time
	periods(zone, wall, func(start, end time.Time, offset time.Duration) bool {
		at := wall.Add(-offset)
		if !end.IsZero() && end.Before(at) {
			at = end
		}
		if start.Before(at) {
			found = at
		}
		return true
	})
	return lockkeeper.MomentOf(found)
}

// periods visits, in their order, the times of constant offset that may hold an
// instant at which the clock shows wall, until visit says no more.
func periods(zone *time.Location, wall time.Time, visit func(start, end time.Time, offset time.Duration) bool) {
	until := wall.Add(zoneReach)
	for at := wall.Add(-zoneReach); at.Before(until); {
		local := at.In(zone)
		start, end := local.ZoneBounds()
		if start.Before(at) {
			start = at
		}
		_, offset := local.Zone()
		if !visit(start.UTC(), end.UTC(), time.Duration(offset)*time.Second) || end.IsZero() {
			return
		}
		at = end.UTC()
	}
}

// gateHorizon is how far ahead the gate looks for the beginning of a freeze: further
// than any ask has patience, and than any lease lasts.
const gateHorizon = 32 * 24 * time.Hour

// FrozenAt says whether a freeze holds at now: in which span, or else when it next
// begins within the horizon; a zero From there: it does not.
func FrozenAt(f catalog.Freeze, now lockkeeper.Moment, horizon time.Duration) (holds bool, s Span, err error) {
	spans, err := Spans(f, now, now.Add(horizon))
	if err != nil || len(spans) == 0 {
		return false, Span{}, err
	}
	s = spans[0]
	if far := now.Add(horizon); !s.Until.Before(far) && s.Until != f.Until {
		s.Until = lockkeeper.Moment{} // windows that touch go on behind the horizon
	}
	return !now.Before(s.From), s, nil
}

func (s Span) end() string {
	if s.Until.IsZero() {
		return "until further notice"
	}
	return "until " + s.Until.String()
}
