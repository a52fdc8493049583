package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A RecordCheck demands a design record that covers the environment and has not ended: a
// threat model, say, that somebody wrote and others approved (lockkeeper record add).
type RecordCheck struct {
	Kind   string   `json:"kind"`            // threat-model, security-design-review, or a name of your own
	Groups []string `json:"groups"`          // whose members approve it
	Count  int      `json:"count,omitempty"` // persons of these groups who must have; default 1, at most 20
	// Longest is for how long after its approval a record counts at most, whichever end it
	// names; default 8760h, 24h to 17520h.
	Longest Duration `json:"longest,omitempty"`
	Warn    Duration `json:"warn,omitempty"` // how long before its end an alert tells of it; default 720h, 1h to less than longest
}

// Bounds and defaults of checks of records.
const (
	DefaultRecordLife = 365 * 24 * time.Hour
	DefaultRecordWarn = 30 * 24 * time.Hour
	leastRecordLife   = 24 * time.Hour
	mostRecordLife    = 2 * 365 * 24 * time.Hour
)

// Needed is how many persons must have approved a record.
func (c RecordCheck) Needed() int { return cmp.Or(c.Count, 1) }

// Life is for how long after its approval a record counts at most.
func (c RecordCheck) Life() time.Duration { return orDefault(c.Longest, DefaultRecordLife) }

// WarnTime is how long before a record's end an alert tells of it.
func (c RecordCheck) WarnTime() time.Duration {
	return min(orDefault(c.Warn, DefaultRecordWarn), c.Life()/2)
}

func (v *rules) record(r *resource, at string, c RecordCheck) {
	if err := lockkeeper.CheckName(c.Kind); err != nil {
		v.add(r, at+".kind", "name_unfit", "The kind of record is unfit: "+clip(err.Error(), 200)+".", "Write threat-model, security-design-review, or a name such as privacy-review.")
	}
	if r.root.find(at).field("count") != nil && (c.Count < 1 || c.Count > maxApprovals) {
		v.add(r, at+".count", "count_out_of_bounds", fmt.Sprintf("The count of persons is %d; it must be from 1 to %d.", c.Count, maxApprovals), "Say how many persons approve a record.")
	}
	v.bounded(r, at+".groups", len(c.Groups), maxRecordGroups)
	for i, g := range c.Groups {
		v.reference(r, fmt.Sprintf("%s.groups[%d]", at, i), Key{Kind: GroupKind, Name: g})
	}
	v.length(r, at, "longest", c.Longest, leastRecordLife, mostRecordLife)
	v.length(r, at, "warn", c.Warn, time.Hour, c.Life()-time.Second)
	v.recordApprovers(r, at, c)
}

// recordApprovers refuses a check whose groups have not enough persons in them.
func (v *rules) recordApprovers(r *resource, at string, c RecordCheck) {
	if len(c.Groups) == 0 || c.Needed() < 1 || c.Needed() > maxApprovals || slices.ContainsFunc(c.Groups, func(g string) bool { _, known := v.c.Groups[g]; return !known || v.c.Open(g) }) {
		return
	}
	if n := len(v.personsIn(c.Groups, c.Needed())); n < c.Needed() {
		v.add(r, at+".groups", "approvals_impossible", fmt.Sprintf("It takes %d to approve a record, and only %d in its groups could.", c.Needed(), n), "Lower the count or add people to the groups.")
	}
}

const maxRecordGroups = 32

func (w *weakening) record(of string, a, b RecordCheck) {
	w.when(a.Kind != b.Kind, "the check %s asks for another kind of record", of)
	w.more("the check "+of+" takes records that members of %s approve", a.Groups, b.Groups)
	w.when(b.Needed() < a.Needed(), "the check %s takes records that %d persons approved instead of %d", of, b.Needed(), a.Needed())
	w.when(b.Life() > a.Life(), "the check %s takes records for %s instead of %s", of, b.Life(), a.Life())
	w.when(b.WarnTime() < a.WarnTime(), "an alert tells of the end of a record of the check %s %s before it instead of %s", of, b.WarnTime(), a.WarnTime())
}

// RecordChecks are the checks of an environment that demand a design record of a kind;
// "": of any.
func (e Environment) RecordChecks(kind string) []Check {
	var out []Check
	for _, c := range e.Checks {
		if c.Record != nil && (kind == "" || c.Record.Kind == kind) {
			out = append(out, c)
		}
	}
	return out
}
