package keeper

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// proposeRecord asks for approval of a version of a design record.
type proposeRecord struct {
	ID       string            `json:"-"`
	Kind     string            `json:"kind"`
	Scope    lockkeeper.Scope  `json:"scope"`
	Summary  string            `json:"summary"`
	Document string            `json:"document"`
	Content  lockkeeper.Digest `json:"content"`
	Size     int64             `json:"size"`
	Link     string            `json:"link,omitempty"`
	Until    lockkeeper.Moment `json:"until"`
}

func (proposeRecord) name() string  { return "record.propose" }
func (proposeRecord) about() string { return designsSubject }

func (c proposeRecord) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if err := c.fits(w); err != nil {
		return nil, nil, err
	}
	right, err := w.may(by, lockkeeper.ProposeChanges, c.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	if err := c.ends(w.designDemands(c.Kind, c.Scope), now); err != nil {
		return nil, nil, err
	}
	of := 0
	for _, r := range w.Designs {
		if r.Scope.Project() == c.Scope.Project() {
			of++
		}
	}
	if of >= maxDesignsOf || len(w.Designs) >= maxDesigns {
		return nil, nil, lockkeeper.Limited.Errorf("records_many", "%d design records wait or count, %d of them of %s.", len(w.Designs), of, c.Scope.Project()).WithNext("End some: lockkeeper record list")
	}
	r := DesignRecord{ID: c.ID, Kind: c.Kind, Scope: c.Scope, Summary: strings.TrimSpace(c.Summary), Document: c.Document, Content: c.Content, Size: c.Size, Link: c.Link, Until: c.Until,
		User: by.User, Persons: append(w.persons(by.User), w.behind(by)...), Opened: now, Deadline: now.Add(designPatience)}
	if c.Until.Before(r.Deadline) {
		r.Deadline = c.Until
	}
	if _, id := w.checkBy(by.User, lockkeeper.ProposeChanges, c.Scope, now); id != "" {
		r.Through = w.Activations[id].Approvers
	}
	if r.Digest, err = r.digest(); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("record_malformed", "The record has no digest: %v.", err)
	}
	return []event{&recordProposed{Record: r, Right: right, Revision: w.Revision.Number}}, opened{r.ID}, nil
}

// fits refuses what is no record.
func (c proposeRecord) fits(w *world) error {
	if c.Scope != lockkeeper.ProjectScope(c.Scope.Project()) && c.Scope != lockkeeper.EnvironmentScope(c.Scope.Project(), c.Scope.Environment()) {
		return lockkeeper.Invalid.Errorf("scope_unfit", "A record is of a project or an environment, and %.200s is neither.", c.Scope).WithNext("Name the project, and the environment: --project P --environment E")
	}
	if missing := w.rules.Catalog.Missing(c.Scope); missing != "" {
		return lockkeeper.NotFound.Errorf("scope_missing", "%s", missing).WithNext("Name one of the catalog.")
	}
	if s := strings.TrimSpace(c.Summary); s == "" || len(s) > maxDesignText {
		return lockkeeper.Invalid.Errorf("summary_missing", "A record says in 1 to %d bytes what was found and decided.", maxDesignText).WithNext("Add --summary TEXT.")
	}
	if _, err := lockkeeper.ParseDigest(string(c.Content)); err != nil || c.Size < 1 || c.Document == "" || len(c.Document) > maxDesignName || strings.ContainsAny(c.Document, "/\\\n") {
		return lockkeeper.Invalid.Errorf("document_missing", "Nothing says which document was written: its name, size and SHA-256 digest.").WithNext("Add --file FILE.")
	}
	if u, err := url.Parse(c.Link); c.Link != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(c.Link) > maxDesignLink) {
		return lockkeeper.Invalid.Errorf("link_unfit", "The link is no https address of at most %d bytes without a user in it.", maxDesignLink).WithNext("Write https://…, or leave it out.")
	}
	return nil
}

// ends refuses an end that no check would believe, and a kind that none asks for.
func (c proposeRecord) ends(demands []designDemand, now lockkeeper.Moment) error {
	if len(demands) == 0 {
		return lockkeeper.Conflict.Errorf("record_unasked", "No check of %s asks for a record of the kind %.63q.", c.Scope, c.Kind).
			WithNext("Name a kind that one asks for, or add a check to the environment: record: {kind: …, groups: […]}.").WithField(c.Kind)
	}
	var longest time.Duration
	for _, d := range demands {
		longest = max(longest, d.check.Record.Life())
	}
	switch {
	case c.Until.Before(now.Add(leastDesignLife)):
		return lockkeeper.Invalid.Errorf("end_too_soon", "The record would end at %s; it must count for %s at least.", c.Until, leastDesignLife).WithNext("Name an end further ahead: --until 2027-06-01")
	case now.Add(longest).Before(c.Until):
		return lockkeeper.Invalid.Errorf("end_too_far", "The record would end at %s, and no check takes one for longer than %s.", c.Until, longest).WithNext("Name an end until %s; then it is looked at anew.", now.Add(longest))
	}
	return nil
}

// design finds a record that waits or counts.
func (w *world) design(id string) (*DesignRecord, error) {
	if r := w.Designs[id]; r != nil {
		return r, nil
	}
	return nil, lockkeeper.Conflict.Errorf("record_over", "The record %.63s does not exist, or was ended, rejected or superseded.", id).WithNext("List them: lockkeeper record list").WithField(id)
}

// designFacts are what an approval of a record is judged on: all groups that checks name
// for it are asked at once, and whoever wrote it is excluded.
func (w *world) designFacts(r *DesignRecord, now lockkeeper.Moment) gate.Facts {
	ask := catalog.Approval{Count: 1}
	for _, d := range w.designDemands(r.Kind, r.Scope) {
		ask.Count = max(ask.Count, d.check.Record.Needed())
		for _, g := range d.check.Record.Groups {
			if !slices.Contains(ask.Groups, g) {
				ask.Groups = append(ask.Groups, g)
			}
		}
	}
	f := gate.Facts{Environment: catalog.Environment{Name: string(r.Scope), Checks: []catalog.Check{{Name: r.Kind, Approval: &ask}}}, Opened: r.Opened, Deadline: r.Deadline,
		About:      fmt.Sprintf("a %s of %s", r.Kind, r.Scope),
		Initiators: []gate.Initiator{{User: r.User, Account: r.User, Persons: w.author(r), Right: lockkeeper.Decision{Verdict: lockkeeper.Pass}}}}
	for _, v := range r.Votes {
		f.Votes = append(f.Votes, w.designBallot(r, f, v.Vote, now))
	}
	return f
}

func (w *world) designBallot(r *DesignRecord, f gate.Facts, v Vote, now lockkeeper.Moment) gate.Vote {
	b := gate.Vote{User: v.User, Counts: countsAs(v.Persons), Persons: w.everybody(v.User, v.Persons), At: v.At,
		Groups: w.askedGroups(f.Environment, v.User, now), Right: w.stillMay(v, lockkeeper.SecureChanges, r.Scope, now), SignedIn: v.SignedIn, Strong: v.Strong}
	if shared(v.Through, w.author(r)) {
		b.Apart = fmt.Sprintf("%s approved the activation that %s would approve this under, and nobody approves what is theirs through another.", r.User, v.User)
	}
	return b
}

// decideRecord approves or rejects a version.
type decideRecord struct {
	Record  string            `json:"record"`
	Approve bool              `json:"approve"`
	Digest  lockkeeper.Digest `json:"digest"` // of the record that the caller saw
	Comment string            `json:"comment,omitempty"`
}

func (c decideRecord) name() string {
	if c.Approve {
		return "record.approve"
	}
	return "record.reject"
}
func (c decideRecord) about() string { return designSubject(c.Record) }

func (c decideRecord) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	r, err := w.design(c.Record)
	if err != nil {
		return nil, nil, err
	}
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if err := c.fits(r, now); err != nil {
		return nil, nil, err
	}
	if _, err := w.may(by, lockkeeper.SecureChanges, r.Scope, now); err != nil {
		return nil, nil, err
	}
	f := w.designFacts(r, now)
	mine := w.voteOf(by, c.Approve, r.Digest, lockkeeper.SecureChanges, r.Scope, now)
	mine.Comment = c.Comment
	ballot, err := taken(f, w.designBallot(r, f, mine, now), c.Approve, false, now)
	if err != nil {
		return nil, nil, err
	}
	mine.Right = ballot.Right
	if !c.Approve {
		if w.approvedForAny(r) {
			return nil, nil, lockkeeper.Conflict.Errorf("record_approved", "The record %s counts already.", r.ID).WithNext("End it: lockkeeper record end %s", r.ID)
		}
		return []event{&recordClosed{ID: r.ID, Status: recordRejected, User: by.User, Reason: c.Comment, Right: ballot.Right, Revision: w.Revision.Number}}, opened{r.ID}, nil
	}
	vote := DesignVote{mine, ballot.Groups}
	after := *r
	after.Votes = append(slices.Clone(r.Votes), vote)
	return []event{&recordApproved{ID: r.ID, Vote: vote, Superseded: w.superseded(&after), Revision: w.Revision.Number}}, opened{r.ID}, nil
}

// fits refuses a verdict on what is not exactly this record, or comes too late.
func (c decideRecord) fits(r *DesignRecord, now lockkeeper.Moment) error {
	switch {
	case len(c.Comment) > maxComment:
		return lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	case c.Digest != r.Digest:
		return lockkeeper.Conflict.Errorf("record_differs", "The verdict is on the record %.20s…, and this one is %.20s….", c.Digest, r.Digest).WithNext("Look at it again: lockkeeper record show %s", r.ID)
	case !now.Before(r.Deadline):
		return lockkeeper.Conflict.Errorf("timed_out", "Approvals of the record were taken until %s.", r.Deadline).WithNext("Add it anew: lockkeeper record add")
	case len(r.Votes) >= maxDesignVotes:
		return lockkeeper.Limited.Errorf("votes_many", "%d persons have approved it.", len(r.Votes)).WithNext("Nothing: it needs no more.")
	}
	return nil
}

// approvedForAny reports whether any check takes a record.
func (w *world) approvedForAny(r *DesignRecord) bool {
	g := w.asGate(r)
	return slices.ContainsFunc(w.designDemands(r.Kind, r.Scope), func(d designDemand) bool {
		_, yes, held := g.ApprovedFor(*d.check.Record)
		return yes || held != ""
	})
}

// endRecord takes a version out before its end: who wrote it, or who may approve such.
type endRecord struct {
	Record string `json:"record"`
	Reason string `json:"reason"`
}

func (endRecord) name() string    { return "record.end" }
func (c endRecord) about() string { return designSubject(c.Record) }

func (c endRecord) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	r, err := w.design(c.Record)
	if err != nil {
		return nil, nil, err
	}
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if reason := strings.TrimSpace(c.Reason); reason == "" || len(reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_missing", "Say why it counts no more, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	}
	action := lockkeeper.SecureChanges
	if by.User == r.User {
		action = lockkeeper.ProposeChanges
	}
	right, err := w.may(by, action, r.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	return []event{&recordClosed{ID: r.ID, Status: recordEnded, User: by.User, Reason: strings.TrimSpace(c.Reason), Right: right, Revision: w.Revision.Number}}, opened{r.ID}, nil
}

// repeatDesign makes a decision about a design record again.
func repeatDesign(s *State, e Entry, ev event) repetition {
	switch ev := ev.(type) {
	case *recordProposed:
		r := ev.Record
		return asked(e, proposeRecord{ID: r.ID, Kind: r.Kind, Scope: r.Scope, Summary: r.Summary, Document: r.Document, Content: r.Content, Size: r.Size, Link: r.Link, Until: r.Until}, r.ID)
	case *recordApproved:
		return asked(e, decideRecord{Record: ev.ID, Approve: true, Digest: ev.Vote.Digest, Comment: ev.Vote.Comment}, "", ev.ID, ev.Vote.Activation)
	case *recordClosed:
		if r := s.Designs[ev.ID]; r != nil && ev.Status == recordRejected {
			return asked(e, decideRecord{Record: ev.ID, Digest: r.Digest, Comment: ev.Reason}, "", ev.ID)
		}
		return asked(e, endRecord{ev.ID, ev.Reason}, "", ev.ID)
	}
	return repetition{}
}
