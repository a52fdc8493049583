package keeper

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// requestOverride asks to waive named soft checks of one ask.
type requestOverride struct {
	ID         string            `json:"-"`
	Deployment string            `json:"deployment"`
	Digest     lockkeeper.Digest `json:"digest,omitempty"` // of the ask that the caller saw; "": whatever it is
	Waives     []string          `json:"waives"`
	Reason     string            `json:"reason"`
	Incident   string            `json:"incident"`
}

func (requestOverride) name() string    { return "override.request" }
func (c requestOverride) about() string { return deploymentSubject(c.Deployment) }

func (c requestOverride) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := c.fits(d, w.deadline(d), now); err != nil {
		return nil, nil, err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	right, err := w.may(by, lockkeeper.StartDeployments, scope, now)
	if err != nil {
		return nil, nil, err
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	rule := facts.Environment.Override
	if rule == nil {
		return nil, nil, lockkeeper.Forbidden.Errorf("override_unavailable", "Nothing of %s can be waived: the environment has no override.", d.Ask.Environment).
			WithNext("Wait for the checks, or have an override added to the environment; that takes a second person.")
	}
	if !reflect.DeepEqual(rule, d.Override) { // to have it easier helps no ask that is open
		return nil, nil, lockkeeper.Conflict.Errorf("override_outdated", "What it takes to override %s has changed since %s was asked for.", d.Ask.Environment, d.ID).
			WithNext("Start a new run, and ask for the override of that.")
	}
	for _, name := range c.Waives {
		if err := waivable(d, facts, name); err != nil {
			return nil, nil, err
		}
	}
	if err := w.overrideLeft(d, *rule, now); err != nil {
		return nil, nil, err
	}
	o := Override{ID: c.ID, User: by.User, Persons: append(w.persons(by.User), w.behind(by)...), Waives: c.Waives, Reason: strings.TrimSpace(c.Reason),
		Incident: c.Incident, Terms: w.overrideTerms(d.Ask, c.Waives), Revision: w.Revision.Number, Opened: now, Deadline: now.Add(rule.PatienceLimit())}
	if o.Digest, err = o.overrideDigest(d.Digest); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("override_malformed", "The override has no digest: %v.", err)
	}
	users, persons := w.overriders(d, facts, o, now)
	g := w.overrideFacts(d, facts, o, now)
	if need := gate.Needed(g, g.Environment.Checks[0]); persons < need {
		return nil, nil, lockkeeper.Forbidden.Errorf("approvers_missing", "It takes %d persons of %s who do not stand behind the run, and there are %d.", need, strings.Join(rule.Groups, ", "), persons).
			WithNext("Wait for the checks, or have more persons put into %s.", strings.Join(rule.Groups, ", "))
	}
	text := fmt.Sprintf("%s asks to waive %s of %s to %s (%s): %s", by.User, strings.Join(o.Waives, ", "), d.ID, d.Ask.Environment, o.Incident, o.Reason)
	events := notice(o.ID+"-asked", aboutOverride, overrideSubject(o.ID), text, users)
	return append(events, &overrideRequested{Deployment: d.ID, Override: o, Right: right, Revision: w.Revision.Number}), opened{o.ID}, nil
}

// fits refuses what is no override of an ask that waits.
func (c requestOverride) fits(d *Deployment, deadline, now lockkeeper.Moment) error {
	reason := strings.TrimSpace(c.Reason)
	waiting := slices.ContainsFunc(d.Overrides, func(o Override) bool { s := o.Status(now); return s == "waiting" || s == "granted" })
	switch {
	case c.Digest != "" && c.Digest != d.Digest:
		return lockkeeper.Conflict.Errorf("ask_differs", "The override is for the ask %.20s…, and this deployment's ask is %.20s….", c.Digest, d.Digest).WithNext("Look at the deployment again.")
	case d.Status != Waiting || !now.Before(deadline):
		return lockkeeper.Conflict.Errorf("not_waiting", "The deployment %s does not wait at its gate.", d.ID).WithNext("Ask for an override of one that waits.")
	case reason == "" || len(reason) > maxReason:
		return lockkeeper.Invalid.Errorf("reason_missing", "Whoever asks for an override says why, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	case strings.TrimSpace(c.Incident) == "" || len(c.Incident) > maxIncident:
		return lockkeeper.Invalid.Errorf("incident_missing", "An override names what it is for, in 1 to %d bytes.", maxIncident).WithNext("Add --incident INC-4711.")
	case len(c.Waives) == 0 || len(c.Waives) > maxWaived:
		return lockkeeper.Invalid.Errorf("waives_missing", "An override names the checks that it waives, 1 to %d.", maxWaived).WithNext("Add --waive CHECK; lockkeeper deployments show %s lists them.", d.ID)
	case waiting:
		return lockkeeper.Conflict.Errorf("override_pending", "%s has an override that waits or counts already.", d.ID).WithNext("Look at it: lockkeeper override list")
	case len(d.Overrides) >= maxOverrides:
		return lockkeeper.Limited.Errorf("overrides_many", "%d overrides were asked for here.", len(d.Overrides)).WithNext("Start a new run and ask again.")
	}
	for i, name := range c.Waives {
		if slices.Contains(c.Waives[:i], name) {
			return lockkeeper.Invalid.Errorf("waives_twice", "%.80q is named twice.", name).WithNext("Name each check once.")
		}
	}
	return nil
}

// waivable refuses what is no soft check of the environment, and no soft freeze: what
// stands in no document (who started the run, the stage, the artifacts, what production
// demands, an activation, patience, an incident) no override can name.
func waivable(d *Deployment, f gate.Facts, name string) error {
	var known []string
	soft := func(list []catalog.Check) (found, is bool) {
		for _, c := range list {
			if c.Name == name {
				return true, c.Soft
			}
			if c.Soft {
				known = append(known, c.Name)
			}
		}
		return false, false
	}
	found, is := soft(f.Environment.Checks)
	for _, z := range f.Freezes {
		if gate.FreezeCheck(z.Name) == name {
			found, is = true, z.Soft
		} else if z.Soft {
			known = append(known, gate.FreezeCheck(z.Name))
		}
	}
	switch then, wasSoft := soft(d.Terms); {
	case then && !found: // it is asked for no more, and still of this ask
		found, is = true, wasSoft
	case then && !wasSoft: // it was hard when the ask was opened, and a change never helps that
		is = false
	}
	switch {
	case !found:
		return lockkeeper.Invalid.Errorf("check_unknown", "There is no check %.80q here that could be waived.", name).WithNext("What can be: %s.", orNone(known)).WithField(name)
	case !is:
		return lockkeeper.Forbidden.Errorf("check_hard", "The check %s is hard, and no override waives it.", name).WithNext("Wait for it. What can be waived: %s.", orNone(known)).WithField(name)
	}
	return nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// overrideLeft refuses while a review of an override there is overdue, and once the
// budget of the quarter is spent.
func (w *world) overrideLeft(d *Deployment, rule catalog.Override, now lockkeeper.Moment) error {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	for _, r := range w.Reviews {
		if r.About == aboutOverride && r.Scope == scope && r.Overdue(now) {
			return lockkeeper.Forbidden.Errorf("override_debt", "The review %s of an override there was due at %s and is open.", r.ID, r.Due).
				WithNext("Have it closed: lockkeeper reviews show %s", r.ID)
		}
	}
	if used := w.Broken[overrideBudget(scope)]; used.Quarter == quarterOf(now) && used.Count >= rule.BudgetLimit() {
		return lockkeeper.Forbidden.Errorf("override_spent", "There were %d overrides of %s in %s, and there may be %d.", used.Count, d.Ask.Environment, used.Quarter, rule.BudgetLimit()).
			WithNext("Wait for the checks.")
	}
	if len(w.Reviews) >= maxReviews {
		return lockkeeper.Limited.Errorf("reviews_many", "%d reviews are open.", len(w.Reviews)).WithNext("Close some: lockkeeper reviews list")
	}
	return nil
}

// overriders are the users whose approval of an override would count at now, and how
// many distinct persons they are.
func (w *world) overriders(d *Deployment, f gate.Facts, o Override, now lockkeeper.Moment) (users []string, persons int) {
	g := w.overrideFacts(d, f, o, now)
	seen := map[lockkeeper.Person]bool{}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	for name, u := range w.rules.Catalog.Users {
		if u.Off || u.Automation || len(g.Environment.Checks) == 0 {
			continue
		}
		v := gate.Vote{User: name, Persons: w.persons(name), At: now, Groups: w.askedGroups(g.Environment, name, now), Right: w.check(name, lockkeeper.ApproveDeployments, scope, now)}
		if len(v.Groups) > 0 && gate.Admissible(g, v, now).Verdict == lockkeeper.Pass {
			users = append(users, name)
			seen[countsAs(v.Persons)] = true
		}
	}
	slices.Sort(users)
	return users, len(seen)
}

// override finds an override by its id.
func (w *world) override(id string) (*Deployment, Override, error) {
	for _, d := range w.Deployments {
		for _, o := range d.Overrides {
			if o.ID == id {
				return d, o, nil
			}
		}
	}
	return nil, Override{}, lockkeeper.Conflict.Errorf("override_over", "The override %.63s does not exist, or its deployment has ended.", id).WithNext("List them: lockkeeper override list").WithField(id)
}

// decideOverride approves or denies one.
type decideOverride struct {
	Override string            `json:"override"`
	Review   string            `json:"-"`
	Approve  bool              `json:"approve"`
	Digest   lockkeeper.Digest `json:"digest"` // of the override that the caller saw
	Comment  string            `json:"comment,omitempty"`
}

func (c decideOverride) name() string {
	if c.Approve {
		return "override.approve"
	}
	return "override.deny"
}
func (c decideOverride) about() string { return overrideSubject(c.Override) }

func (c decideOverride) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, o, err := w.override(c.Override)
	if err != nil {
		return nil, nil, err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	if _, err := w.may(by, lockkeeper.ApproveDeployments, scope, now); err != nil {
		return nil, nil, err
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	if err := c.fits(w, d, o, facts, now); err != nil {
		return nil, nil, err
	}
	g := w.overrideFacts(d, facts, o, now)
	mine := w.voteOf(by, c.Approve, o.Digest, lockkeeper.ApproveDeployments, scope, now)
	own := *d
	own.Delegated = nil
	ballot, err := taken(g, w.ballot(&own, g, mine, now), c.Approve, renews(o.Votes, mine), now)
	if err != nil {
		return nil, nil, err
	}
	if mine.Right, mine.Comment = ballot.Right, c.Comment; !c.Approve {
		return []event{&overrideClosed{Deployment: d.ID, ID: o.ID, Status: overrideDenied, User: by.User, Reason: c.Comment, Right: ballot.Right, Revision: w.Revision.Number}}, opened{o.ID}, nil
	}
	o.Votes = append(slices.Clip(o.Votes), mine)
	approved := &overrideApproved{Deployment: d.ID, ID: o.ID, Vote: mine, Revision: w.Revision.Number}
	g = w.overrideFacts(d, facts, o, now)
	quorum := lockkeeper.All("override "+o.ID, "Enough persons approved it.", gate.Approvals(g, now)...)
	if !quorum.Passed(now) {
		return []event{approved}, opened{o.ID}, nil
	}
	granted, err := c.grant(w, d, o, facts, quorum, now)
	if err != nil {
		return nil, nil, err
	}
	// The alarm stands first, so that nothing is waived before whom it concerns is told.
	return slices.Concat(granted[:len(granted)-2], []event{approved}, granted[len(granted)-2:]), opened{o.ID}, nil
}

// fits refuses a verdict on what is not exactly this override, as it waits.
func (c decideOverride) fits(w *world, d *Deployment, o Override, f gate.Facts, now lockkeeper.Moment) error {
	switch {
	case len(c.Comment) > maxComment:
		return lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	case c.Digest != o.Digest:
		return lockkeeper.Conflict.Errorf("override_differs", "The verdict is on the override %.20s…, and this one is %.20s….", c.Digest, o.Digest).WithNext("Look at it again: lockkeeper override show %s", o.ID)
	case o.Status(now) != "waiting":
		return lockkeeper.Conflict.Errorf("override_"+o.Status(now), "The override is %s.", o.Status(now)).WithNext("Ask for another one: lockkeeper override request")
	case d.Status != Waiting:
		return lockkeeper.Conflict.Errorf("not_waiting", "The deployment is %s.", d.Status)
	case f.Environment.Override == nil || o.Terms != w.overrideTerms(d.Ask, o.Waives):
		return lockkeeper.Conflict.Errorf("override_outdated", "The rules of %s have changed since it was asked for, under revision %d.", d.Ask.Environment, o.Revision).
			WithNext("Ask for it under those of now: lockkeeper override request")
	}
	return nil
}

// grant is the notice of it, the grant and the review that is owed for it.
func (c decideOverride) grant(w *world, d *Deployment, o Override, f gate.Facts, quorum lockkeeper.Decision, now lockkeeper.Moment) ([]event, error) {
	rule := *f.Environment.Override
	if err := w.overrideLeft(d, rule, now); err != nil {
		return nil, err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	demand := ReviewDemand{Rule: d.Ask.Environment, Count: rule.Reviewers.Needed(), Groups: rule.Reviewers.Groups}
	review := Review{ID: c.Review, About: aboutOverride, User: o.User, Persons: slices.Clone(o.Persons), Scope: scope, Reason: fmt.Sprintf("%s: %s", o.Incident, o.Reason),
		Override: o.ID, Deployment: d.ID, Budgets: []string{overrideBudget(scope)}, Opened: now, Due: now.Add(rule.ReviewTime()), Demands: []ReviewDemand{demand}}
	review.Took = d.tookPart(o)
	if users, persons := w.reviewers(demand, w.parties(&review), now); persons < demand.Count {
		return nil, lockkeeper.Forbidden.Errorf("reviewers_missing", "%s wants %d persons to review this who take no part, and there are %d: %v.", d.Ask.Environment, demand.Count, persons, users).
			WithNext("Have more persons put into %v, or let others approve it.", demand.Groups)
	}
	ends := now.Add(rule.LongestOverride())
	var by []string
	for _, v := range o.Votes {
		by = append(by, v.User)
	}
	text := fmt.Sprintf("%s of %s to %s is waived until %s, by %s for %s (%s): %s", strings.Join(o.Waives, ", "), d.ID, d.Ask.Environment, ends, strings.Join(by, ", "), o.User, o.Incident, o.Reason)
	events := notice(o.ID, aboutOverride, overrideSubject(o.ID), text, w.alarmed(d, f, o, demand, now))
	return append(events, &overrideGranted{Deployment: d.ID, ID: o.ID, Ends: ends, Review: review.ID, Decision: quorum, Revision: w.Revision.Number},
		&reviewOpened{Review: review, Revision: w.Revision.Number}), nil
}

// tookPart are the persons who had a part in a deployment and its override: none of
// them reviews it.
func (d *Deployment) tookPart(o Override) []lockkeeper.Person {
	out := []lockkeeper.Person{}
	for _, v := range slices.Concat(d.Votes, o.Votes) {
		out = append(out, v.Persons...)
	}
	for _, i := range d.Initiators {
		out = append(out, i.Persons...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxTook)]
}

// alarmed are the users who are told that checks are waived: who reviews it, who could
// have approved it, and who approves deployments there.
func (w *world) alarmed(d *Deployment, f gate.Facts, o Override, demand ReviewDemand, now lockkeeper.Moment) []string {
	out, _ := w.reviewers(demand, nil, now)
	users, _ := w.overriders(d, f, o, now)
	out = append(out, users...)
	return append(out, w.concerned(o.User, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), nil, now)...)
}

// endOverride takes an override back: whoever asked for it, whoever approved it, or
// whoever may cancel the deployment. What runs by it loses its lease.
type endOverride struct {
	Override string `json:"override"`
	Reason   string `json:"reason,omitempty"`
}

func (endOverride) name() string    { return "override.end" }
func (c endOverride) about() string { return overrideSubject(c.Override) }

func (c endOverride) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, o, err := w.override(c.Override)
	if err != nil {
		return nil, nil, err
	}
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if s := o.Status(now); s != "waiting" && s != "granted" {
		return nil, nil, lockkeeper.Conflict.Errorf("override_"+s, "The override is %s.", s).WithNext("Nothing: it waives nothing.")
	}
	if len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_long", "The reason has %d bytes, more than %d.", len(c.Reason), maxReason)
	}
	var right lockkeeper.Decision
	approved := slices.ContainsFunc(o.Votes, func(v Vote) bool { return v.User == by.User })
	if o.User != by.User && !approved {
		if right, err = w.may(by, lockkeeper.CancelDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now); err != nil {
			return nil, nil, err
		}
	}
	ev := &overrideClosed{Deployment: d.ID, ID: o.ID, Status: overrideWithdrawn, User: by.User, Reason: c.Reason, Right: right, Revision: w.Revision.Number}
	if o.User != by.User || !o.Granted.IsZero() {
		ev.Status = overrideOver
	}
	events := []event{ev}
	without := d.clone()
	ev.on(without)
	if d.Status == Running && !w.overdue(d, now) && !w.stands(without, now) {
		events = append(events, w.revoked(d, by, fmt.Sprintf("%s ended the override %s that it ran by. %s", by.User, o.ID, c.Reason), now))
	}
	return events, opened{o.ID}, nil
}
