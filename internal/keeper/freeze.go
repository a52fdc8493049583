package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A StartedFreeze is one that somebody started by hand. It holds from its entry on,
// until its end by the clock, or until it is ended; no catalog lifts it.
type StartedFreeze struct {
	ID       string              `json:"id"`
	Scope    lockkeeper.Scope    `json:"scope"`
	From     lockkeeper.Moment   `json:"from"`
	Until    lockkeeper.Moment   `json:"until"`
	Reason   string              `json:"reason"`
	Actions  []string            `json:"actions,omitempty"`
	Callers  []string            `json:"callers,omitempty"`
	Exempt   []string            `json:"exempt,omitempty"`
	InFlight string              `json:"in_flight,omitempty"`
	Soft     bool                `json:"soft,omitempty"`
	By       string              `json:"started_by"`
	Persons  []lockkeeper.Person `json:"persons"` // that the starter counted as
}

// asRule is the freeze as the gate knows freezes.
func (f StartedFreeze) asRule() catalog.Freeze {
	return catalog.Freeze{Name: f.ID, Scope: f.Scope, From: f.From, Until: f.Until, Reason: f.Reason, Actions: f.Actions, Callers: f.Callers,
		Exempt: f.Exempt, InFlight: f.InFlight, Soft: f.Soft}
}

// Bounds of freezes that are started by hand.
const (
	maxFreezes     = 100 // that hold at once
	maxFreezesEach = 20  // of them, those that one user started
	maxFreezeLists = 32  // entries of each of its lists
)

func freezeSubject(id string) string { return "freeze/" + id }

// freezesSubject is under which all entries about freezes are found.
const freezesSubject = "freezes"

// freezeStarted is where a freeze begins to hold. Leases that it takes are taken in
// the entries behind it, of the same decision.
type freezeStarted struct {
	one
	Freeze   StartedFreeze       `json:"freeze"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*freezeStarted) kind() string { return "freeze.started" }
func (ev *freezeStarted) subjects() []string {
	return []string{freezeSubject(ev.Freeze.ID), freezesSubject, "user/" + ev.Freeze.By}
}
func (ev *freezeStarted) apply(s *State, e Entry) error {
	if s.Freezes[ev.Freeze.ID] != nil {
		return fmt.Errorf("the freeze %s has started already", ev.Freeze.ID)
	}
	f := ev.Freeze
	f.From = e.Time
	s.Freezes[f.ID] = &f
	return nil
}

// freezeEnded lifts a freeze before its time, or writes down that its time is over.
type freezeEnded struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user,omitempty"` // "": the clock
	Reason   string              `json:"reason,omitempty"`
	Right    lockkeeper.Decision `json:"right,omitzero"`
	Revision int                 `json:"revision"`
}

func (*freezeEnded) kind() string { return "freeze.ended" }
func (ev *freezeEnded) subjects() []string {
	out := []string{freezeSubject(ev.ID), freezesSubject}
	if ev.User != "" {
		out = append(out, "user/"+ev.User)
	}
	return out
}
func (ev *freezeEnded) apply(s *State, _ Entry) error {
	if s.Freezes[ev.ID] == nil {
		return fmt.Errorf("the freeze %s is not there", ev.ID)
	}
	delete(s.Freezes, ev.ID)
	return nil
}

// freezesOver are the freezes that cover any of the scopes, whatever their time: of
// the catalog, and started by hand.
func (w *world) freezesOver(scopes ...lockkeeper.Scope) []catalog.Freeze {
	out := w.rules.Catalog.FreezesOver(scopes...)
	for _, id := range slices.Sorted(maps.Keys(w.Freezes)) {
		if f := w.Freezes[id]; slices.ContainsFunc(scopes, f.Scope.Contains) {
			out = append(out, f.asRule())
		}
	}
	return out
}

// freezesOn are those that cover a deployment: by its environment, by the stage that
// asks, or by the identity that it would have.
func (w *world) freezesOn(a lockkeeper.Ask) []catalog.Freeze {
	env := lockkeeper.EnvironmentScope(a.Project, a.Environment)
	scopes := []lockkeeper.Scope{env, lockkeeper.PipelineScope(a.Project, a.Pipeline) + lockkeeper.Scope("/stages/"+a.Stage)}
	if id, known := w.rules.Catalog.IdentityOf(env); known {
		scopes = append(scopes, lockkeeper.IdentityScope(a.Project, id.Name))
	}
	return w.freezesOver(scopes...)
}

// spared are the groups that freezes spare and a user is in now.
func (w *world) spared(freezes []catalog.Freeze, user string, now lockkeeper.Moment) []string {
	var out []string
	for _, f := range freezes {
		for _, g := range f.Exempt {
			if _, in := w.rules.Access.InGroup(user, g, now); in && user != "" && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out
}

// personFrozen refuses a person an identity's tokens while a freeze of them holds, and
// says when the next one begins that does not let what runs end.
func (w *world) personFrozen(user string, id catalog.Identity, now lockkeeper.Moment) (*lockkeeper.Moment, error) {
	freezes := w.freezesOver(lockkeeper.IdentityScope(id.Project, id.Name), lockkeeper.EnvironmentScope(id.Project, id.Environment))
	f := gate.Facts{Ask: lockkeeper.Ask{Action: catalog.TokensAction}, Freezes: freezes,
		Initiators: []gate.Initiator{{User: user, Groups: w.spared(freezes, user, now), Automation: w.rules.Catalog.Users[user].Automation}}}
	if d := gate.Freeze(f, now); d.Verdict != lockkeeper.Pass {
		return nil, lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	next, _ := gate.InFlight(f, true, now)
	return next.Until, nil
}

// leaseEnd is an end, or the sooner one that a lease of the facts must not outlast:
// what its job activated, and the next freeze that takes leases.
func leaseEnd(f gate.Facts, end, now lockkeeper.Moment) lockkeeper.Moment {
	return untilFrozen(f, untilActivated(f, end), false, now)
}

// untilFrozen is an end, or the sooner one at which a freeze begins that reaches what
// runs: leases, or also tokens.
func untilFrozen(f gate.Facts, end lockkeeper.Moment, tokens bool, now lockkeeper.Moment) lockkeeper.Moment {
	if d, _ := gate.InFlight(f, tokens, now); d.Until != nil && d.Until.Before(end) {
		return *d.Until
	}
	return end
}

// thawed refuses a token while a freeze lets none be handed out to what runs.
func thawed(f gate.Facts, now lockkeeper.Moment) error {
	d, reaches := gate.InFlight(f, true, now)
	if !reaches || d.Verdict == lockkeeper.Pass {
		return nil
	}
	return lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
}

// takesLeases reports whether there is a freeze at all that takes leases, so that a
// sweep looks at what runs only then.
func (w *world) takesLeases() bool {
	for _, f := range w.Freezes {
		if f.InFlight == catalog.InFlightAbort {
			return true
		}
	}
	for _, f := range w.rules.Catalog.Freezes {
		if f.Running() == catalog.InFlightAbort {
			return true
		}
	}
	return false
}

// aborted is the end of a deployment whose lease a freeze takes; nil: none does. What
// it writes down holds by arithmetic already: no token and no heartbeat is granted.
func (w *world) aborted(d *Deployment, by Caller, now lockkeeper.Moment) event {
	if d.Status != Running || w.overdue(d, now) {
		return nil
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil
	}
	verdict, reaches := gate.InFlight(facts, false, now)
	if !reaches || verdict.Verdict == lockkeeper.Pass {
		return nil
	}
	end := w.revoked(d, by, verdict.Sentence, now)
	end.Decision = verdict
	return end
}

// overdueFreezes are the ends of freezes whose time is over.
func (w *world) overdueFreezes(now lockkeeper.Moment) []event {
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Freezes)) {
		if !now.Before(w.Freezes[id].Until) {
			out = append(out, &freezeEnded{ID: id, Revision: w.Revision.Number})
		}
	}
	return out
}

// startFreeze stops the line: one person's act, for a time.
type startFreeze struct {
	ID       string           `json:"-"`
	Scope    lockkeeper.Scope `json:"scope"`
	For      time.Duration    `json:"for"`
	Reason   string           `json:"reason"`
	Actions  []string         `json:"actions,omitempty"`
	Callers  []string         `json:"callers,omitempty"`
	Exempt   []string         `json:"exempt,omitempty"`
	InFlight string           `json:"in_flight,omitempty"`
	Soft     bool             `json:"soft,omitempty"`
}

func (startFreeze) name() string  { return "freeze.start" }
func (startFreeze) about() string { return freezesSubject }

// startedFreeze is the answer to startFreeze.
type startedFreeze struct {
	ID      string            `json:"id"`
	Until   lockkeeper.Moment `json:"until"`
	Revoked []string          `json:"revoked"` // deployments that ran and lost their lease
}

func (c startFreeze) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if err := c.fits(w); err != nil {
		return nil, nil, err
	}
	right, err := w.may(by, lockkeeper.WriteFreezes, c.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	if longest := w.rules.Catalog.FreezeRuleAt(c.Scope).LongestFreeze(); c.For > longest {
		return nil, nil, lockkeeper.Forbidden.Errorf("freeze_long", "A freeze at %s may last %s at most, and %s were asked for.", c.Scope, longest, c.For).
			WithNext("Start it --for %s or less; for longer, add a Freeze to the catalog.", longest)
	}
	mine := 0
	for _, f := range w.Freezes {
		if f.By == by.User {
			mine++
		}
	}
	if mine >= maxFreezesEach { // so that nobody keeps others from stopping the line
		return nil, nil, lockkeeper.Limited.Errorf("freezes_many", "%d freezes that you started hold.", mine).WithNext("Freeze a scope further up, or have some ended: lockkeeper freeze list")
	}
	if len(w.Freezes) >= maxFreezes {
		return nil, nil, lockkeeper.Limited.Errorf("freezes_many", "%d freezes that were started by hand hold.", len(w.Freezes)).WithNext("Freeze a scope further up, or end some: lockkeeper freeze list")
	}
	f := StartedFreeze{ID: c.ID, Scope: c.Scope, From: now, Until: now.Add(c.For), Reason: strings.TrimSpace(c.Reason), Actions: c.Actions, Callers: c.Callers,
		Exempt: c.Exempt, InFlight: c.InFlight, Soft: c.Soft, By: by.User, Persons: append(w.persons(by.User), w.behind(by)...)}
	events := []event{&freezeStarted{Freeze: f, Right: right, Revision: w.Revision.Number}}
	answer := startedFreeze{ID: f.ID, Until: f.Until, Revoked: []string{}}
	if f.InFlight == catalog.InFlightAbort {
		frozen := w.frozenBy(f)
		for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
			if end := frozen.aborted(w.Deployments[id], by, now); end != nil {
				events, answer.Revoked = append(events, end), append(answer.Revoked, id)
			}
		}
	}
	return events, answer, nil
}

// frozenBy is the world in which a freeze holds.
func (w *world) frozenBy(f StartedFreeze) *world {
	s := *w.State
	s.Freezes = maps.Clone(w.Freezes)
	s.Freezes[f.ID] = &f
	return &world{State: &s, rules: w.rules}
}

// fits refuses what is no freeze.
func (c startFreeze) fits(w *world) error {
	if err := w.freezable(c.Scope); err != nil {
		return err
	}
	unknown := func(list []string, known ...string) string {
		i := slices.IndexFunc(list, func(s string) bool { return !slices.Contains(known, s) })
		if i < 0 {
			return ""
		}
		return list[i]
	}
	if reason := strings.TrimSpace(c.Reason); reason == "" || len(reason) > maxReason {
		return lockkeeper.Invalid.Errorf("reason_missing", "Whoever stops the line says why, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	}
	if c.For < time.Minute || c.For%time.Second != 0 {
		return lockkeeper.Invalid.Errorf("duration_malformed", "A freeze lasts whole seconds, and a minute at least.").WithNext("Ask for --for 2h.")
	}
	if max(len(c.Actions), len(c.Callers), len(c.Exempt)) > maxFreezeLists {
		return lockkeeper.Invalid.Errorf("freeze_large", "A list of the freeze has more than %d entries.", maxFreezeLists)
	}
	if s := unknown(c.Actions, lockkeeper.DeployAction, lockkeeper.RollbackAction, catalog.TokensAction); s != "" {
		return lockkeeper.Invalid.Errorf("action_unknown", "A freeze stops no %.40q.", s).WithNext("Name deploy, rollback or tokens.")
	}
	if s := unknown(c.Callers, catalog.PeopleCaller, catalog.AutomationCaller); s != "" {
		return lockkeeper.Invalid.Errorf("caller_unknown", "A freeze knows no callers %.40q.", s).WithNext("Name people or automation.")
	}
	if c.InFlight != "" && unknown([]string{c.InFlight}, catalog.InFlightFinish, catalog.InFlightNoTokens, catalog.InFlightAbort) != "" {
		return lockkeeper.Invalid.Errorf("in_flight_unknown", "What runs is treated in no way %.40q.", c.InFlight).WithNext("Name finish, noTokens or abort.")
	}
	for _, g := range c.Exempt {
		if _, known := w.rules.Catalog.Groups[g]; !known {
			return lockkeeper.Invalid.Errorf("group_unknown", "The catalog has no group %.63q.", g).WithNext("Name one of the catalog's.").WithField(g)
		}
	}
	return nil
}

// endFreeze lifts a freeze before its time.
type endFreeze struct {
	Freeze string `json:"freeze"`
	Reason string `json:"reason"`
}

func (endFreeze) name() string    { return "freeze.end" }
func (c endFreeze) about() string { return freezeSubject(c.Freeze) }

// decide takes another person than who started it, unless a rule lets him do it alone:
// to lift what somebody stopped weakens.
func (c endFreeze) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	f := w.Freezes[c.Freeze]
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if f == nil || !now.Before(f.Until) {
		return nil, nil, lockkeeper.Conflict.Errorf("freeze_over", "The freeze %.63s was not started by hand, or is over.", c.Freeze).
			WithNext("List them: lockkeeper freeze list. One of the catalog is changed there.").WithField(c.Freeze)
	}
	if c.Reason == "" || len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_missing", "Say why it may go on, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	}
	right, err := w.may(by, lockkeeper.WriteFreezes, f.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	mine := append(w.persons(by.User), w.behind(by)...)
	if common(mine, w.everybody(f.By, f.Persons)) && !w.rules.Catalog.FreezeRuleAt(f.Scope).Alone {
		return nil, nil, lockkeeper.Forbidden.Errorf("second_person_needed", "%s started the freeze, and before its time another person has to end it.", f.By).
			WithNext("Ask somebody else who holds freezes/write at %s, or wait until %s.", f.Scope, f.Until)
	}
	return []event{&freezeEnded{ID: f.ID, User: by.User, Reason: c.Reason, Right: right, Revision: w.Revision.Number}}, opened{f.ID}, nil
}
