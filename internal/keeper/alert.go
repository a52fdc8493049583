package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An Alert is something about who may do what that somebody should look at.
type Alert struct {
	Kind     string
	Severity string // high, medium or low
	Subject  string // what it is about: a user, an assignment, a group, an environment
	Sentence string
	Next     string   // the mend
	Evidence []string // what it rests on
}

// The kinds of alert, and how severe each is.
var alertKinds = map[string]string{
	"assigned_outside": "high", "changed_outside": "high", "left_over": "high",
	"administrators_many": "high", "quorum_missing": "high", "persons_many": "high", "runs_other": "high", "evidence_outdated": "high",
	"unused": "medium", "stale_account": "medium", "standing_privileged": "medium",
	"activated_often": "low", "duplicate": "low", "empty_group": "low",

	"channel_failing": "high",

	"struck_runs": "high", "record_over": "high", "record_ends": "medium",
}

// AlertKinds lists the kinds of alert, sorted.
func AlertKinds() []string { return slices.Sorted(maps.Keys(alertKinds)) }

// Thresholds are where alerts begin. Zero values are the defaults.
type Thresholds struct {
	Administrators int // persons who always administer the organisation; more, and more than Share, are too many; default 3
	Share          int // percent of all persons; default 10
	Unused         int // days without use; default 90
	Stale          int // days without a sign-in; default 90
	Often          int // activations of one role by one user within Window; default 20
	Window         int // days; default 30
}

func (t Thresholds) filled() (Thresholds, error) {
	t = Thresholds{cmp.Or(t.Administrators, 3), cmp.Or(t.Share, 10), cmp.Or(t.Unused, 90), cmp.Or(t.Stale, 90), cmp.Or(t.Often, 20), cmp.Or(t.Window, 30)}
	for _, n := range []int{t.Administrators, t.Share, t.Unused, t.Stale, t.Often, t.Window} {
		if n < 0 {
			return t, lockkeeper.Invalid.Errorf("threshold_unfit", "A threshold is no negative number.")
		}
	}
	if t.Share > 100 || max(t.Unused, t.Stale, t.Window) > maxDays {
		return t, lockkeeper.Invalid.Errorf("threshold_unfit", "A share is up to 100 percent, and a time up to %d days.", maxDays)
	}
	return t, nil
}

// maxAlerts bounds the alerts of one kind that are told one by one.
const maxAlerts = 100

// Alerts lists what somebody should look at, the most severe first. It takes
// access/read at /.
func (k *Keeper) Alerts(ctx context.Context, by Caller, t Thresholds) ([]Alert, error) {
	t, err := t.filled()
	if err != nil {
		return nil, err
	}
	if err := k.mayReadAccess(by); err != nil {
		return nil, err
	}
	return k.alerts(ctx, t)
}

// CountAlerts counts the alerts of each kind, with the default thresholds, for
// metrics: a number tells nobody's name.
func (k *Keeper) CountAlerts(ctx context.Context) (map[string]int, error) {
	t, _ := Thresholds{}.filled()
	list, err := k.alerts(ctx, t)
	out := map[string]int{}
	for kind := range alertKinds {
		out[kind] = 0
	}
	for _, a := range list {
		out[a.Kind]++
	}
	return out, err
}

func (k *Keeper) alerts(ctx context.Context, t Thresholds) ([]Alert, error) {
	s, err := k.survey(ctx, max(t.Unused, t.Stale))
	if err != nil {
		return nil, err
	}
	w := &watch{survey: s, c: s.rules.Catalog, x: s.rules.Access, now: s.habits.Now, from: s.habits.Now.Add(-time.Duration(t.Unused) * 24 * time.Hour), counts: map[string]int{}}
	w.administrators(t)
	w.accounts(t)
	w.assignments(t)
	w.structure()
	w.outside()
	k.strangers(w)
	k.outdated(w)
	k.struckStanding(w)
	k.designsEnding(w)
	w.channels()
	if err := k.activatedOften(ctx, w, t); err != nil {
		return nil, err
	}
	rank := map[string]int{"high": 0, "medium": 1, "low": 2}
	slices.SortFunc(w.found, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Sentence, b.Sentence))
	})
	return w.found, nil
}

// A watch looks for alerts.
type watch struct {
	survey
	c      *catalog.Catalog
	x      *access.Index
	now    lockkeeper.Moment
	from   lockkeeper.Moment // since when what was not used is unused
	found  []Alert
	counts map[string]int
}

func (w *watch) add(a Alert) {
	a.Severity = alertKinds[a.Kind]
	if w.counts[a.Kind]++; w.counts[a.Kind] <= maxAlerts {
		w.found = append(w.found, a)
	}
}

// administrators are persons who always hold access/escalate at /: too many are
// those that are more than a number and more than a share of all, so that neither
// a small company nor a large one is told off for its size.
func (w *watch) administrators(t Thresholds) {
	persons, all := map[lockkeeper.Person]bool{}, map[lockkeeper.Person]bool{}
	users := w.x.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, w.now)
	for _, u := range users {
		persons[w.c.PersonOf(u)] = true
	}
	for name, u := range w.c.Users {
		if !u.Off && !u.Automation {
			all[w.c.PersonOf(name)] = true
		}
	}
	if n := len(persons); n > t.Administrators && n*100 > t.Share*len(all) {
		w.add(Alert{Kind: "administrators_many", Subject: "organisation", Evidence: users,
			Sentence: fmt.Sprintf("%d of %d persons administer the organisation always; %d, or %d percent, are thought enough.", n, len(all), t.Administrators, t.Share),
			Next:     "Make the assignments of most of them eligible: eligible: true, with an ActivationRule for organisation-administrator at /."})
	}
}

// accounts are those that hold something and were not there for long.
func (w *watch) accounts(t Thresholds) {
	from := w.now.Add(-time.Duration(t.Stale) * 24 * time.Hour)
	for _, name := range slices.Sorted(maps.Keys(w.c.Users)) {
		u := w.c.Users[name]
		if u.Off || u.Automation || w.habits.Young[catalog.Key{Kind: catalog.UserKind, Name: name}] {
			continue
		}
		last, known := w.signedIn[name]
		if known && !last.Before(from) || !known && !w.survey.accounts[name].Before(from) {
			continue
		}
		held, err := w.x.Holdings(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: name}, w.now)
		gives := slices.DeleteFunc(held, func(p access.Path) bool { return p.Effect != "grants" && p.Effect != "eligible" })
		if err != nil || len(gives) == 0 {
			continue
		}
		a := Alert{Kind: "stale_account", Subject: "user:" + name, Next: "Switch the user off (off: true), or take the assignments away.",
			Sentence: fmt.Sprintf("%s has not signed in for %d days, and holds %s at %s.", name, t.Stale, gives[0].Role, gives[0].Scope)}
		if known {
			a.Evidence = append(a.Evidence, "last there at "+last.String())
		} else {
			a.Evidence = append(a.Evidence, "never signed in, as far as is known")
		}
		for _, p := range gives[:min(len(gives), 16)] {
			a.Evidence = append(a.Evidence, "assignment "+p.Assignment)
		}
		w.add(a)
	}
}

// assignments are those that hold what is privileged without an end, and those that
// nobody uses.
func (w *watch) assignments(t Thresholds) {
	known := !w.habits.Observed.IsZero() && !w.from.Before(w.habits.Observed)
	for _, name := range slices.Sorted(maps.Keys(w.c.Assignments)) {
		a := w.c.Assignments[name]
		if a.Deny || a.Eligible || w.now.Before(a.Start) || !a.End.IsZero() && !w.now.Before(a.End) {
			continue
		}
		i := slices.IndexFunc(access.Observed(), func(action lockkeeper.Action) bool { return w.x.RoleAllows(a.Role, action) })
		if i < 0 {
			continue
		}
		if a.End.IsZero() && w.privileged(a) {
			next := "Make it eligible (eligible: true), or give it an end."
			if a.Scope == lockkeeper.Root && w.x.RoleAllows(a.Role, lockkeeper.EscalateAccess) {
				next += " One administrator who can sign in must keep his as it is: apply refuses to take the last one away."
			}
			w.add(Alert{Kind: "standing_privileged", Subject: "assignment " + name, Evidence: []string{"it has no end"},
				Sentence: fmt.Sprintf("%s holds %s at %s always and without an end.", a.Principal, a.Role, a.Scope), Next: next})
		}
		last, seq := w.lastUse(name)
		if known && last.Before(w.from) && !w.habits.Young[catalog.Key{Kind: catalog.AssignmentKind, Name: name}] {
			al := Alert{Kind: "unused", Subject: "assignment " + name, Sentence: fmt.Sprintf("Nothing that %s holds by %s (%s at %s) was used for %d days, reading aside.", a.Principal, name, a.Role, a.Scope, t.Unused),
				Next: "See what could be smaller: lockkeeper access recommend"}
			if !last.IsZero() {
				al.Evidence = append(al.Evidence, fmt.Sprintf("last used at %s (entry %d)", last, seq))
			}
			w.add(al)
		}
	}
}

// privileged reports whether an assignment gives what changes who may do what, or
// reaches an environment of production.
func (w *watch) privileged(a catalog.Assignment) bool {
	if w.x.RoleAllows(a.Role, lockkeeper.WriteAccess) || w.x.RoleAllows(a.Role, lockkeeper.EscalateAccess) {
		return true
	}
	if !w.x.RoleAllows(a.Role, lockkeeper.StartDeployments) && !w.x.RoleAllows(a.Role, lockkeeper.WriteEnvironments) && !w.x.RoleAllows(a.Role, lockkeeper.WriteIdentities) {
		return false
	}
	for scope, env := range w.c.Environments {
		if env.Tier == catalog.Production && a.Scope.Contains(scope) {
			return true
		}
	}
	return false
}

func (w *watch) lastUse(assignment string) (last lockkeeper.Moment, seq int64) {
	for _, u := range w.habits.Uses {
		if g, gave := u.By[assignment]; gave && last.Before(g.Last) {
			last, seq = g.Last, g.Seq
		}
	}
	return last, seq
}

// structure is what the catalog itself shows: duplicates, groups of nobody, places
// for which there are not persons enough, and budgets that are exceeded.
func (w *watch) structure() {
	for _, s := range w.x.Shortages(w.now) {
		w.add(Alert{Kind: "quorum_missing", Subject: s.Of, Sentence: s.String(), Evidence: s.Able, Next: "Put more persons in the groups that are asked, give them the right to approve, or ask for fewer."})
	}
	for _, b := range w.x.Exceeded(w.now) {
		w.add(Alert{Kind: "persons_many", Subject: string(b.Environment), Sentence: b.String(), Evidence: b.Users, Next: "Take an assignment or a member away, or raise the budget."})
	}
	h := w.habits
	h.Observed = lockkeeper.Moment{} // without what is about use
	double, _ := access.Recommend(w.rules.ofCatalog(), h)
	for _, m := range double {
		w.add(Alert{Kind: "duplicate", Subject: "assignment " + m.Edit.Key.Name, Sentence: m.Sentence, Evidence: m.Evidence.By, Next: "Remove it: lockkeeper access recommend --write DIR"})
	}
	for _, name := range slices.Sorted(maps.Keys(w.c.Groups)) {
		if len(w.x.Holders(name)) == 0 && !w.c.Open(name) {
			w.add(Alert{Kind: "empty_group", Subject: "group:" + name, Sentence: fmt.Sprintf("Nobody is in the group %s.", name), Next: "Put somebody in it, or take it and what names it away."})
		}
	}
}

// maxActivationsRead bounds the activations of one window that are counted.
const maxActivationsRead = 20_000

// activatedOften counts who activated which role in the window: what somebody needs
// every day is no exception, and an approval that is given every day is not read.
func (k *Keeper) activatedOften(ctx context.Context, w *watch, t Thresholds) error {
	from, n := w.now.Add(-time.Duration(t.Window)*24*time.Hour), 0
	type who struct{ user, role string }
	count, last := map[who]int{}, map[who]Entry{}
	err := k.backwards(ctx, "activations", w.now, func(e Entry, body event) bool {
		if ev, is := body.(*activationBegun); is && !e.Time.Before(from) {
			x := who{ev.Activation.User, ev.Activation.Role}
			if count[x]++; count[x] == 1 {
				last[x] = e
			}
		}
		n++
		return !e.Time.Before(from) && n < maxActivationsRead
	})
	for x, n := range count {
		if n >= t.Often {
			w.add(Alert{Kind: "activated_often", Subject: "user:" + x.user, Sentence: fmt.Sprintf("%s activated %s %d times in %d days.", x.user, x.role, n, t.Window),
				Evidence: []string{fmt.Sprintf("last at %s (entry %d)", last[x].Time, last[x].Seq)},
				Next:     "Ask what it is needed for: a smaller standing role, or a longer activation, may serve better."})
		}
	}
	return err
}
