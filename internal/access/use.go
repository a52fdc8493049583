package access

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// A Use is a right that somebody used, as the journal has it: what he did where,
// or which role he activated there.
type Use struct {
	User   string              `json:"user"`
	Action lockkeeper.Action   `json:"action"`         // Activating: he activated Role
	Role   string              `json:"role,omitempty"` // that he activated
	Scope  lockkeeper.Scope    `json:"scope"`
	First  lockkeeper.Moment   `json:"first"`
	Last   lockkeeper.Moment   `json:"last"`
	Seq    int64               `json:"seq"`   // of the entry about the last one
	Count  int                 `json:"count"` // ever
	Days   []lockkeeper.Moment `json:"days"`  // the last one of each day, the newest MaxUseDays
	// By are the assignments that gave it, by name; at most maxPaths, those that gave
	// it last.
	By map[string]Giving `json:"by,omitempty"`
}

// A Giving is how often an assignment gave a right.
type Giving struct {
	Digest lockkeeper.Digest `json:"digest"` // of the assignment's document
	Last   lockkeeper.Moment `json:"last"`
	Seq    int64             `json:"seq"`
	Count  int               `json:"count"` // since it has that digest
}

// Activating stands in a Use in the place of an action where somebody activated a
// role. No role holds it.
const Activating lockkeeper.Action = "activations/begin"

// MaxUseDays is how many days a Use names.
const MaxUseDays = 8

// Note counts a use at a moment, by an entry of the journal.
func (u *Use) Note(at lockkeeper.Moment, seq int64, by map[string]lockkeeper.Digest) {
	if u.Count == 0 {
		u.First = at
	}
	u.Count++
	u.Last, u.Seq = at, seq
	if n := len(u.Days); n > 0 && day(u.Days[n-1]) == day(at) {
		u.Days[n-1] = at
	} else {
		u.Days = append(u.Days, at)
		u.Days = slices.Clone(u.Days[max(0, len(u.Days)-MaxUseDays):])
	}
	if u.By == nil {
		u.By = map[string]Giving{}
	}
	for name, digest := range by {
		g := u.By[name]
		if g.Digest != digest {
			g = Giving{Digest: digest}
		}
		g.Last, g.Seq, g.Count = at, seq, g.Count+1
		u.By[name] = g
	}
	for len(u.By) > maxPaths {
		oldest := ""
		for name, g := range u.By {
			if o := u.By[oldest]; oldest == "" || g.Last.Before(o.Last) || g.Last == o.Last && name < oldest {
				oldest = name
			}
		}
		delete(u.By, oldest)
	}
}

// Clone is a copy that shares nothing.
func (u *Use) Clone() Use {
	c := *u
	c.Days = slices.Clone(u.Days)
	c.By = make(map[string]Giving, len(u.By))
	for name, g := range u.By {
		c.By[name] = g
	}
	return c
}

// day is the number of a moment's day in UTC.
func day(m lockkeeper.Moment) int64 { return m.Time().Unix() / (24 * 60 * 60) }
