package keeper

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/measure"
)

// What others see of package measure.
type (
	Measures       = measure.Report
	MeasuredCount  = measure.Count
	MeasuredSpread = measure.Spread
	MeasuredVotes  = measure.Votes
	MeasuredWeek   = measure.Week
	MeasuredKind   = measure.Kind
)

// The kinds of exception in Measures, and of the samples that are counted.
const (
	MeasuredEnds     = measure.Ended
	MeasuredLead     = measure.Lead
	MeasuredTaken    = measure.TakenAway
	MeasuredRestore  = measure.Restored
	MeasuredWait     = measure.Waited
	MeasuredGaveUp   = measure.GaveUp
	MeasuredHeld     = measure.Held
	MeasuredFlaps    = measure.Flapped
	MeasuredPrompts  = measure.Prompted
	MeasuredVote     = measure.Voted
	MeasuredGlass    = measure.BrokeGlass
	MeasuredOverride = measure.Overrode
)

// MeasuredBuckets are the bounds, in seconds, of the buckets of a MeasuredCount.
var MeasuredBuckets = measure.Buckets

// maxWindow is the longest that can be measured in one answer.
const maxWindow = 400 * 24 * time.Hour

// A MeasureQuery says what is measured.
type MeasureQuery struct {
	Since, Until         lockkeeper.Moment // half-open; zero Until: now, zero Since: 30 days before Until
	Project, Environment string            // "": all that the caller may read
	Hasty                time.Duration     // a vote given sooner after the opening is a hasty one; 0: 10 s
	Persons              bool              // what single persons did, too; it takes journal/export at /
}

// measuredKinds are the entries that measures are made of.
var measuredKinds = map[string]bool{"artifact.recorded": true, "deployment.opened": true, "gate.moved": true, "deployment.approved": true,
	"lease.granted": true, "deployment.ended": true, "request.opened": true, "request.approved": true, "request.closed": true,
	"activation.begun": true, "epoch.opened": true, "override.granted": true}

// measured tells a fold what an entry says. person is whose account a user is.
func measured(f *measure.Fold, e Entry, ev event, person func(user string) string) {
	switch ev := ev.(type) {
	case *artifactRecorded:
		f.Recorded(e.Time, commitKey(ev.Project, ev.Commit))
	case *deploymentOpened:
		f.Opened(ev.measured(e))
	case *gateMoved:
		f.Held(e.Time, ev.ID, ev.Held, ev.Later)
	case *deploymentApproved:
		f.Voted(e.Time, ev.ID, person(ev.User), true)
	case *leaseGranted:
		f.Released(e.Time, ev.Deployment)
	case *deploymentEnded:
		if ev.End.Status == Rejected {
			f.Voted(e.Time, ev.ID, person(ev.End.By), false)
		}
		f.Ended(e.Time, ev.ID, string(ev.End.Status))
	case *requestOpened:
		f.Requested(e.Time, ev.Request.ID, ev.Request.Scope)
	case *requestApproved:
		f.Voted(e.Time, ev.ID, person(ev.User), true)
	case *requestClosed:
		if ev.Status == requestDenied {
			f.Voted(e.Time, ev.ID, person(ev.User), false)
		}
		f.Closed(ev.ID)
	case *activationBegun:
		f.Closed(ev.Activation.Request)
		if ev.Activation.BreakGlass != "" {
			f.BrokeGlass(e.Time, ev.Activation.Scope)
		}
	case *overrideGranted:
		f.Overrode(e.Time, ev.Deployment)
	case *epochOpened:
		f.Restart()
	}
}

func (ev *deploymentOpened) measured(e Entry) measure.Ask {
	a := askMeasured(ev.ID, ev.Ask, ev.Terms)
	a.OpenedAt = e.Time
	a.Held, a.Later = holdUps(ev.Gate)
	return a
}

func askMeasured(id string, ask lockkeeper.Ask, terms []catalog.Check) measure.Ask {
	a := measure.Ask{ID: id, Scope: lockkeeper.EnvironmentScope(ask.Project, ask.Environment), Rollback: ask.Action == lockkeeper.RollbackAction,
		Commit: commitKey(ask.Project, ask.Commit), Artifacts: artifactsKey(ask.Artifacts)}
	for _, c := range terms {
		if c.Approval != nil {
			a.Approvals = append(a.Approvals, c.Name)
		}
	}
	return a
}

func commitKey(project, commit string) string {
	if commit == "" {
		return ""
	}
	return project + " " + commit
}

func artifactsKey(list []lockkeeper.Artifact) string {
	var b strings.Builder
	for _, a := range list {
		b.WriteString(a.Name + "=" + string(a.Digest) + "\n")
	}
	return b.String()
}

// Measures measures how deployments went in a window, by what the journal says. It
// takes deployments/read at what is asked about; where nothing is named, or a project,
// it answers for those environments that the caller may read.
func (k *Keeper) Measures(ctx context.Context, by Caller, in MeasureQuery) (Measures, error) {
	now := k.now()
	q, err := in.query(now)
	if err != nil {
		return Measures{}, err
	}
	known, err := k.mayMeasure(by, in, q.Scope, now)
	if err != nil {
		return Measures{}, err
	}
	select { // one after another: each reads much of the journal
	case k.measuring <- struct{}{}:
		defer func() { <-k.measuring }()
	case <-ctx.Done():
		return Measures{}, errGaveUp(ctx)
	}
	report, err := k.measure(ctx, q, known, now)
	if err != nil {
		return Measures{}, err
	}
	return k.shown(by, in, report, now)
}

// query is the question with what was left out, or a refusal.
func (in MeasureQuery) query(now lockkeeper.Moment) (measure.Query, error) {
	q := measure.Query{Since: in.Since, Until: in.Until, Scope: lockkeeper.Root, Hasty: in.Hasty}
	if q.Until.IsZero() {
		q.Until = now
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-30 * 24 * time.Hour)
	}
	if q.Hasty == 0 {
		q.Hasty = 10 * time.Second
	}
	switch {
	case now.Before(q.Until):
		return q, lockkeeper.Invalid.Errorf("moment_ahead", "%s is not over yet.", q.Until).WithNext("Measure up to now, %s, at most.", now).WithField("until")
	case !q.Since.Before(q.Until):
		return q, lockkeeper.Invalid.Errorf("window_empty", "The window from %s to %s holds nothing.", q.Since, q.Until).WithNext("Begin it before it ends.").WithField("since")
	case q.Until.Sub(q.Since) > maxWindow:
		return q, lockkeeper.Invalid.Errorf("window_long", "The window has %d days, more than %d.", q.Until.Sub(q.Since)/(24*time.Hour), maxWindow/(24*time.Hour)).WithNext("Ask for less at once.").WithField("since")
	case in.Hasty < 0 || in.Hasty > time.Hour:
		return q, lockkeeper.Invalid.Errorf("duration_malformed", "A vote counts as hasty within an hour at most.").WithField("hasty")
	case in.Environment != "" && in.Project == "":
		return q, lockkeeper.Invalid.Errorf("project_missing", "The environment %.63q is of some project.", in.Environment).WithNext("Name the project, too.").WithField("project")
	case in.Project != "" && lockkeeper.CheckName(in.Project) != nil || in.Environment != "" && lockkeeper.CheckName(in.Environment) != nil:
		return q, lockkeeper.Invalid.Errorf("name_malformed", "No project and no environment is called so.")
	case in.Environment != "":
		q.Scope = lockkeeper.EnvironmentScope(in.Project, in.Environment)
	case in.Project != "":
		q.Scope = lockkeeper.ProjectScope(in.Project)
	}
	return q, nil
}

// mayMeasure refuses whoever may read nothing of what is asked about, and gives the
// environments of the catalog there.
func (k *Keeper) mayMeasure(by Caller, in MeasureQuery, scope lockkeeper.Scope, now lockkeeper.Moment) ([]lockkeeper.Scope, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if in.Persons {
		if _, err := w.may(by, lockkeeper.ExportJournal, lockkeeper.Root, now); err != nil {
			return nil, err
		}
	}
	_, refusal := w.may(by, lockkeeper.ReadDeployments, scope, now)
	var known []lockkeeper.Scope
	for at := range w.rules.Catalog.Environments {
		if scope.Contains(at) {
			known = append(known, at)
			if _, err := w.may(by, lockkeeper.ReadDeployments, at, now); err == nil {
				refusal = nil
			}
		}
	}
	return known, refusal
}

// shown leaves of a report what the caller may see now.
func (k *Keeper) shown(by Caller, in MeasureQuery, r Measures, now lockkeeper.Moment) (Measures, error) {
	if in.Environment != "" && len(r.Environments) == 0 || in.Project != "" && len(r.Environments) == 0 {
		return r, lockkeeper.NotFound.Errorf("environment_unknown", "There is no such environment at %s, and none was deployed to.", r.Scope).
			WithNext("Name one of the catalog: lockkeeper catalog show")
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	may := func(s lockkeeper.Scope) bool {
		_, err := w.may(by, lockkeeper.ReadDeployments, s, now)
		return err == nil
	}
	r.Environments = slices.DeleteFunc(r.Environments, func(e measure.Environment) bool { return !may(e.Scope) })
	r.Exceptions = slices.DeleteFunc(r.Exceptions, func(x measure.Exception) bool {
		return !may(x.Scope) && !(x.Scope.Contains(r.Scope) && may(r.Scope))
	})
	if !in.Persons {
		r.Persons = nil
	}
	return r, nil
}

// measure makes the report of a query, which says what the journal knows of.
func (k *Keeper) measure(ctx context.Context, q measure.Query, known []lockkeeper.Scope, now lockkeeper.Moment) (Measures, error) {
	size := k.read().Size
	began, err := k.leanInstant(ctx, 0)
	if err != nil {
		return Measures{}, err
	}
	q.From, q.To = q.Since, q.Until
	if q.From.Before(began) {
		q.From = began
	}
	from, err := k.position(ctx, q.Since.Add(-measure.Lookback), size)
	if err != nil {
		return Measures{}, err
	}
	to, err := k.position(ctx, q.Until.Add(measure.TakenBack+1), size)
	if err != nil {
		return Measures{}, err
	}
	c := measure.NewCollector(q, known...)
	f := measure.New(c.Add)
	person := k.personNames()
	for stored, err := range k.journal.Entries(ctx, from, max(to, 1)) {
		if err != nil {
			return Measures{}, err
		}
		e, ev, err := lean(stored.Data)
		if err != nil {
			return Measures{}, err
		}
		if measured(f, e, ev, person); c.Full() {
			return Measures{}, lockkeeper.Limited.Errorf("window_crowded", "Too much happened between %s and %s for one answer.", q.Since, q.Until).WithNext("Ask for a shorter window, or one project.")
		}
	}
	last := q.Until.Add(measure.TakenBack)
	if now.Before(last) {
		last = now
	}
	for scope, since := range f.Broken(last) {
		c.StillBroken(scope, since)
	}
	return c.Report(), nil
}

// personNames says whose account a user is by the catalog in force.
func (k *Keeper) personNames() func(string) string {
	rules := k.Rules()
	return func(user string) string { return string(rules.Catalog.PersonOf(user)) }
}

// position is that of the first of size entries that is not before an instant: their
// instants never run back.
func (k *Keeper) position(ctx context.Context, at lockkeeper.Moment, size int64) (int64, error) {
	lo, hi := int64(0), size
	for lo < hi {
		mid := lo + (hi-lo)/2
		t, err := k.leanInstant(ctx, mid)
		if err != nil {
			return 0, err
		}
		if t.Before(at) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// kindOf is the kind of a stored entry, told without decoding: seq and time stand
// before it, and hold nothing that looks like it.
func kindOf(data []byte) string {
	_, after, _ := bytes.Cut(data[:min(len(data), 200)], []byte(`"kind":"`))
	kind, _, _ := bytes.Cut(after, []byte(`"`))
	return string(kind)
}
