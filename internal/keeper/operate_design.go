package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A ProposeRecord is a version of a design record that somebody wrote.
type ProposeRecord struct {
	Kind     string
	Scope    lockkeeper.Scope
	Summary  string
	Document string            // the file's name
	Content  lockkeeper.Digest // of the file
	Size     int64
	Link     string // where it can be read; "": nowhere
	Until    lockkeeper.Moment
}

// ProposeRecord asks for approval of a design record. key, if not "", makes a retry give
// the same.
func (k *Keeper) ProposeRecord(ctx context.Context, by Caller, key string, p ProposeRecord) (string, error) {
	answer, err := do[opened](ctx, k, by, key, proposeRecord{ID: newID(recordPrefix), Kind: p.Kind, Scope: p.Scope, Summary: p.Summary, Document: p.Document, Content: p.Content, Size: p.Size, Link: p.Link, Until: p.Until})
	return answer.ID, err
}

// DecideRecord approves or rejects a record, with the digest that the caller saw.
func (k *Keeper) DecideRecord(ctx context.Context, by Caller, id string, approve bool, digest lockkeeper.Digest, comment string) error {
	_, err := do[opened](ctx, k, by, "", decideRecord{Record: id, Approve: approve, Digest: digest, Comment: comment})
	return err
}

// EndRecord takes a record out before its end.
func (k *Keeper) EndRecord(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", endRecord{id, reason})
	return err
}

// A RecordView is a record and how it stands with each check that asks for its kind.
type RecordView struct {
	DesignRecord
	Status string // waiting, approved, ended or timed_out
	Checks []RecordStand
}

// A RecordStand is how a record stands with one check.
type RecordStand struct {
	Environment string
	Check       string
	Groups      []string // of which persons approve it
	Needed      int
	Approved    bool
	Ends        lockkeeper.Moment // zero: it is not approved
}

// DesignRecords lists the records of a project that wait or count and that the caller may
// see, oldest first; of all projects if it is "".
func (k *Keeper) DesignRecords(by Caller, project string) []RecordView {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []RecordView{}
	for _, id := range slices.Sorted(maps.Keys(w.Designs)) {
		if r := w.Designs[id]; (project == "" || r.Scope.Project() == project) && w.allowedFor(by, lockkeeper.ReadDeployments, r.Scope, now) {
			out = append(out, w.viewDesign(r, now))
		}
	}
	slices.SortStableFunc(out, func(a, b RecordView) int {
		return cmp.Or(a.Opened.Time().Compare(b.Opened.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// DesignRecord is one record that waits or counts.
func (k *Keeper) DesignRecord(by Caller, id string) (RecordView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	r := w.Designs[id]
	if r == nil || !w.allowedFor(by, lockkeeper.ReadDeployments, r.Scope, now) {
		return RecordView{}, lockkeeper.NotFound.Errorf("record_missing", "There is no record %.63q that waits or counts.", id).WithNext("List them: lockkeeper record list")
	}
	return w.viewDesign(r, now), nil
}

func (w *world) viewDesign(r *DesignRecord, now lockkeeper.Moment) RecordView {
	v := RecordView{DesignRecord: *r, Status: "waiting", Checks: []RecordStand{}}
	g := w.asGate(r)
	ended := false
	for _, d := range w.designDemands(r.Kind, r.Scope) {
		one := RecordStand{Environment: d.env.Name, Check: d.check.Name, Groups: d.check.Record.Groups, Needed: d.check.Record.Needed()}
		var at lockkeeper.Moment
		if at, one.Approved, _ = g.ApprovedFor(*d.check.Record); one.Approved {
			one.Ends = g.Ends(*d.check.Record, at)
			if now.Before(one.Ends) {
				v.Status = "approved"
			}
			ended = true
		}
		v.Checks = append(v.Checks, one)
	}
	switch {
	case v.Status == "approved":
	case ended:
		v.Status = "ended"
	case !now.Before(r.Deadline):
		v.Status = "timed_out"
	}
	return v
}

// designsEnding are the environments whose design records end soon, or have ended while
// something stands there.
func (k *Keeper) designsEnding(w *watch) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	now := world{State: k.state, rules: k.rules}
	for _, scope := range slices.Sorted(maps.Keys(now.rules.Catalog.Environments)) {
		env := now.rules.Catalog.Environments[scope].For(lockkeeper.DeployAction)
		f := gate.Facts{Environment: env, Ask: lockkeeper.Ask{Action: lockkeeper.DeployAction, Project: env.Project, Environment: env.Name}, Designs: now.designsAt(env, nil)}
		for _, c := range env.RecordChecks("") {
			if a, is := endingDesign(f, c, len(now.Good[scope]) > 0, w.now); is {
				w.add(a)
			}
		}
	}
}

func endingDesign(f gate.Facts, c catalog.Check, stands bool, now lockkeeper.Moment) (Alert, bool) {
	if c.Shadow {
		return Alert{}, false
	}
	env := f.Environment
	a := Alert{Subject: string(lockkeeper.EnvironmentScope(env.Project, env.Name)), Next: fmt.Sprintf("Write a new version and have it approved: lockkeeper record add --kind %s --project %s --environment %s", c.Record.Kind, env.Project, env.Name)}
	switch d := gate.Design(f, c, now); {
	case d.Verdict == lockkeeper.Pass && now.Add(c.Record.WarnTime()).Before(*d.Until):
		return a, false
	case d.Verdict == lockkeeper.Pass:
		a.Kind, a.Sentence = "record_ends", fmt.Sprintf("The %s of %s ends at %s, and then nothing is let in there.", c.Record.Kind, env.Name, *d.Until)
		a.Evidence = []string{d.Because[0].Subject}
	case stands:
		a.Kind, a.Sentence = "record_over", fmt.Sprintf("Something stands in %s, and no %s of it counts: %s", env.Name, c.Record.Kind, d.Sentence)
		a.Evidence = []string{fmt.Sprintf("%s: %s [%s]", d.Subject, d.Sentence, d.Code)}
	default:
		return a, false
	}
	return a, true
}
