package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A design record is what people wrote about the design of what a project, or one of its
// environments, runs: a threat model, a security design review. Who wrote it asks for
// approval, other persons of the groups that the catalog's checks name give it, and a
// gate demands one that is live. The journal keeps what was approved: words, an end and
// the digest of the document, which nobody fetches. A new version takes the place of the
// one before it when it is approved, not before.

// A DesignRecord is one version of a record that waits or counts.
type DesignRecord struct {
	ID       string              `json:"id"`
	Kind     string              `json:"kind"`
	Scope    lockkeeper.Scope    `json:"scope"` // a project or an environment
	Summary  string              `json:"summary"`
	Document string              `json:"document"`       // the name of the file that was read
	Content  lockkeeper.Digest   `json:"content"`        // of the file
	Size     int64               `json:"size"`           // its bytes
	Link     string              `json:"link,omitempty"` // where it can be read; nobody fetches it
	Until    lockkeeper.Moment   `json:"until"`
	User     string              `json:"user"` // who wrote it
	Persons  []lockkeeper.Person `json:"persons"`
	Through  []lockkeeper.Person `json:"through,omitempty"` // who approved the activation that his right rested on
	Digest   lockkeeper.Digest   `json:"digest"`            // of what is approved
	Opened   lockkeeper.Moment   `json:"opened"`
	Deadline lockkeeper.Moment   `json:"deadline"` // of approvals
	Votes    []DesignVote        `json:"votes,omitempty"`
}

// A DesignVote is one person's approval, with the groups that checks of records name and
// that he was in then. A record lives for months: who approved it may have left since,
// and it counts as it was given.
type DesignVote struct {
	Vote
	Groups []string `json:"groups"`
}

// Bounds of design records.
const (
	maxDesigns      = 1000 // that wait or count
	maxDesignsOf    = 100  // of them, those of one project
	maxDesignVotes  = 20   // of one
	maxDesignText   = 4000 // bytes of the summary
	maxDesignLink   = 500
	maxDesignName   = 200
	designPatience  = 14 * 24 * time.Hour
	designMemory    = 30 * 24 * time.Hour // for which one is kept that has ended, so that an alert can name it
	leastDesignLife = 24 * time.Hour
)

// recordPrefix begins the id of a record, and of nothing else that a lease rests on.
const recordPrefix = "r"

func designSubject(id string) string { return "record/" + id }

// designsSubject is under which all entries about design records are found.
const designsSubject = "records"

// recordProposed asks for approval of a version.
type recordProposed struct {
	one
	Record   DesignRecord        `json:"record"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*recordProposed) kind() string { return "record.proposed" }
func (ev *recordProposed) subjects() []string {
	return []string{designSubject(ev.Record.ID), designsSubject, "project/" + ev.Record.Scope.Project(), "user/" + ev.Record.User}
}
func (ev *recordProposed) apply(s *State, e Entry) error {
	if s.Designs[ev.Record.ID] != nil {
		return fmt.Errorf("the record %s is there already", ev.Record.ID)
	}
	if s.Designs == nil {
		s.Designs = map[string]*DesignRecord{}
	}
	for id, r := range s.Designs {
		if !e.Time.Before(r.Until.Add(designMemory)) || len(r.Votes) == 0 && !e.Time.Before(r.Deadline) {
			delete(s.Designs, id)
		}
	}
	r := ev.Record
	r.Opened = e.Time
	s.Designs[r.ID] = &r
	return nil
}

// recordApproved is one person's approval. Superseded are the versions that count for no
// check any more once it is given.
type recordApproved struct {
	one
	ID         string     `json:"id"`
	Vote       DesignVote `json:"vote"`
	Superseded []string   `json:"superseded,omitempty"`
	Revision   int        `json:"revision"`
}

func (*recordApproved) kind() string { return "record.approved" }
func (ev *recordApproved) subjects() []string {
	out := []string{designSubject(ev.ID), designsSubject, "user/" + ev.Vote.User}
	for _, id := range ev.Superseded {
		out = append(out, designSubject(id))
	}
	return out
}
func (ev *recordApproved) apply(s *State, e Entry) error {
	old := s.Designs[ev.ID]
	if old == nil {
		return fmt.Errorf("there is no record %s", ev.ID)
	}
	r, v := *old, ev.Vote
	v.At, v.Seq = e.Time, e.Seq
	r.Votes = append(slices.Clone(r.Votes), v)
	s.Designs[r.ID] = &r
	for _, id := range ev.Superseded {
		delete(s.Designs, id)
	}
	return nil
}

// How a record is closed.
const (
	recordRejected = "rejected"
	recordEnded    = "ended"
)

// recordClosed takes a version out: it was rejected, or somebody ended it.
type recordClosed struct {
	one
	ID       string              `json:"id"`
	Status   string              `json:"status"`
	User     string              `json:"user"`
	Reason   string              `json:"reason,omitempty"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*recordClosed) kind() string { return "record.closed" }
func (ev *recordClosed) subjects() []string {
	return []string{designSubject(ev.ID), designsSubject, "user/" + ev.User}
}
func (ev *recordClosed) apply(s *State, _ Entry) error {
	if s.Designs[ev.ID] == nil {
		return fmt.Errorf("there is no record %s", ev.ID)
	}
	delete(s.Designs, ev.ID)
	return nil
}

// digest is what an approval is for: everything that its author wrote.
func (r DesignRecord) digest() (lockkeeper.Digest, error) {
	b, err := lockkeeper.Canonical(map[string]any{"record": r.ID, "kind": r.Kind, "scope": r.Scope, "summary": r.Summary, "document": r.Document,
		"content": r.Content, "size": r.Size, "link": r.Link, "until": r.Until, "user": r.User})
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(append([]byte("lockkeeper.record.v1\n"), b...)), nil
}

// author are the persons behind a record: nobody of them approves it.
func (w *world) author(r *DesignRecord) []lockkeeper.Person {
	return append(w.everybody(r.User, r.Persons), r.Through...)
}

// asGate is a record as a gate judges it now. A vote of whom an incident stops is held,
// and one of somebody who turned out to be its author is none.
func (w *world) asGate(r *DesignRecord) gate.DesignRecord {
	out := gate.DesignRecord{ID: r.ID, Kind: r.Kind, Scope: r.Scope, Content: r.Content, Opened: r.Opened, Until: r.Until}
	for _, v := range r.Votes {
		if v.Digest != r.Digest || shared(append(w.everybody(v.User, v.Persons), v.Through...), w.author(r)) {
			continue
		}
		one := gate.RecordVote{User: v.User, Persons: w.everybody(v.User, v.Persons), Groups: v.Groups, At: v.At}
		if i := w.quarantined(v.User); i != nil {
			one.Held = fmt.Sprintf("%s is quarantined by the incident %s.", v.User, i.ID)
		}
		out.Votes = append(out.Votes, one)
	}
	return out
}

// designsAt are the records that cover an environment, oldest first, if any of its checks
// or of these terms asks for one.
func (w *world) designsAt(env catalog.Environment, terms []catalog.Check) []gate.DesignRecord {
	if !slices.ContainsFunc(slices.Concat(env.Checks, terms), func(c catalog.Check) bool { return c.Record != nil }) {
		return nil
	}
	scope := lockkeeper.EnvironmentScope(env.Project, env.Name)
	var out []gate.DesignRecord
	for _, id := range slices.Sorted(maps.Keys(w.Designs)) {
		if r := w.Designs[id]; r.Scope.Contains(scope) {
			out = append(out, w.asGate(r))
		}
	}
	slices.SortStableFunc(out, func(a, b gate.DesignRecord) int { return a.Opened.Time().Compare(b.Opened.Time()) })
	return out
}

// A designDemand is a check of an environment that a record can meet.
type designDemand struct {
	env   catalog.Environment
	check catalog.Check
}

// designDemands are the checks that demand a kind of record of a scope, by environment.
func (w *world) designDemands(kind string, scope lockkeeper.Scope) []designDemand {
	var out []designDemand
	for _, at := range slices.Sorted(maps.Keys(w.rules.Catalog.Environments)) {
		if scope.Contains(at) {
			env := w.rules.Catalog.Environments[at]
			for _, c := range env.RecordChecks(kind) {
				out = append(out, designDemand{env, c})
			}
		}
	}
	return out
}

// superseded are the versions at the same scope that count for nothing any more once a
// record stands so: each check that would take them takes the newer one.
func (w *world) superseded(r *DesignRecord) []string {
	newer := w.asGate(r)
	demands := w.designDemands(r.Kind, r.Scope)
	var out []string
	for _, id := range slices.Sorted(maps.Keys(w.Designs)) {
		o := w.Designs[id]
		if o.ID == r.ID || o.Kind != r.Kind || o.Scope != r.Scope || !o.Opened.Before(r.Opened) {
			continue
		}
		older, takes := w.asGate(o), false
		gone := !slices.ContainsFunc(demands, func(d designDemand) bool {
			_, was, _ := older.ApprovedFor(*d.check.Record)
			_, is, _ := newer.ApprovedFor(*d.check.Record)
			takes = takes || is
			return was && !is
		})
		if gone && takes {
			out = append(out, id)
		}
	}
	return out
}
