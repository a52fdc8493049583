package gate

import (
	"cmp"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// toldHorizon is how far ahead the end of quiet hours is looked for: past it somebody
// is told whatever they say, so that no mistake keeps him from ever being told.
const toldHorizon = 8 * 24 * time.Hour

// ToldAt is when somebody is told by a notification of what came at an instant: at
// once, or with the next digest, and then not before quiet hours have ended. What comes
// at the instant of a digest goes with the next one. Gathered says that it is told
// together with what comes until then.
//
// A zone that this machine does not know holds nothing up.
func ToldAt(n catalog.Notification, topic string, at lockkeeper.Moment) (due lockkeeper.Moment, gathered bool) {
	for _, u := range n.Urgent {
		if u == topic {
			return at, false
		}
	}
	due = at
	if n.Digest != nil {
		due = nextDigest(*n.Digest, at)
	}
	if n.Quiet != nil {
		quiet := catalog.Freeze{Zone: n.Quiet.Zone, Windows: n.Quiet.Windows}
		if holds, span, err := FrozenAt(quiet, due, toldHorizon); err == nil && holds {
			due = span.Until
			if due.IsZero() {
				due = at.Add(toldHorizon)
			}
		}
	}
	return due, due != at
}

// nextDigest is the first instant of a digest after at.
func nextDigest(d catalog.Digest, at lockkeeper.Moment) lockkeeper.Moment {
	if every := time.Duration(d.Every); every > 0 {
		day := at.Time().UTC().Truncate(24 * time.Hour)
		next := day.Add((at.Time().Sub(day)/every + 1) * every)
		if tomorrow := day.Add(24 * time.Hour); next.After(tomorrow) {
			next = tomorrow
		}
		return lockkeeper.MomentOf(next)
	}
	zone, err := time.LoadLocation(d.Zone)
	if err != nil {
		return at
	}
	var found lockkeeper.Moment
	today := at.Time().In(zone)
	for day := range 3 {
		for _, clock := range d.At {
			m, _ := catalog.ClockMinutes(clock)
			wall := time.Date(today.Year(), today.Month(), today.Day()+day, m/60, m%60, 0, 0, time.UTC)
			next := firstAt(zone, wall)
			if at.Before(next) && (found.IsZero() || next.Before(found)) {
				found = next
			}
		}
	}
	return cmp.Or(found, at)
}
