package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A strike says that artifacts must not be put into an environment, or into any of a
// project, any more: what was good there turned out to be malicious, or broken in a way
// that no going back may bring back. One person strikes, as whoever takes a lease away
// does, since it only takes away; another one lifts it.

// A Strike keeps artifacts out of a scope.
type Strike struct {
	ID         string                `json:"id"`
	Scope      lockkeeper.Scope      `json:"scope"` // an environment or a project
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	Reason     string                `json:"reason"`
	By         string                `json:"struck_by"`
	Persons    []lockkeeper.Person   `json:"persons"` // that he counted as
	At         lockkeeper.Moment     `json:"at"`
	Deployment string                `json:"deployment,omitempty"` // that they were found in, as he says
}

// Bounds of strikes.
const (
	maxStrikes     = 2000 // that hold
	maxStrikesEach = 500  // of them, those that one user made
	maxStruck      = 64   // artifacts of one
)

func strikeSubject(id string) string { return "strike/" + id }

// strikesSubject is under which all entries about strikes are found.
const strikesSubject = "strikes"

// strikeMade is where a strike begins to hold. Leases that it takes are taken in the
// entries behind it, of the same decision.
type strikeMade struct {
	one
	Strike   Strike              `json:"strike"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*strikeMade) kind() string { return "strike.made" }
func (ev *strikeMade) subjects() []string {
	out := []string{strikeSubject(ev.Strike.ID), strikesSubject, "user/" + ev.Strike.By}
	for _, a := range ev.Strike.Artifacts {
		out = append(out, "artifact/"+string(a.Digest))
	}
	return out
}
func (ev *strikeMade) apply(s *State, e Entry) error {
	if s.Strikes[ev.Strike.ID] != nil {
		return fmt.Errorf("the strike %s is there already", ev.Strike.ID)
	}
	x := ev.Strike
	x.At = e.Time
	if s.Strikes == nil {
		s.Strikes = map[string]*Strike{}
	}
	s.Strikes[x.ID] = &x
	return nil
}

// strikeLifted lets artifacts in again.
type strikeLifted struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user"`
	Reason   string              `json:"reason"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*strikeLifted) kind() string { return "strike.lifted" }
func (ev *strikeLifted) subjects() []string {
	return []string{strikeSubject(ev.ID), strikesSubject, "user/" + ev.User}
}
func (ev *strikeLifted) apply(s *State, _ Entry) error {
	if s.Strikes[ev.ID] == nil {
		return fmt.Errorf("the strike %s is not there", ev.ID)
	}
	delete(s.Strikes, ev.ID)
	return nil
}

// struckAt is what of some artifacts is struck from an environment, the oldest first.
func (w *world) struckAt(env lockkeeper.Scope, of []lockkeeper.Artifact) []gate.Strike {
	var out []gate.Strike
	for _, s := range w.Strikes {
		if s.Scope.Contains(env) && s.strikes(of) {
			for _, a := range s.Artifacts {
				out = append(out, gate.Strike{ID: s.ID, Digest: a.Digest, By: s.By, At: s.At, Reason: s.Reason})
			}
		}
	}
	slices.SortFunc(out, func(a, b gate.Strike) int {
		return cmp.Or(a.At.Time().Compare(b.At.Time()), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

// strikes reports whether any of the artifacts is among those that a strike is about.
func (x *Strike) strikes(list []lockkeeper.Artifact) bool {
	return slices.ContainsFunc(list, func(a lockkeeper.Artifact) bool {
		return slices.ContainsFunc(x.Artifacts, func(o lockkeeper.Artifact) bool { return o.Digest == a.Digest })
	})
}

// unstruck leaves out of what stood in an environment what was struck from it since: it
// is no proof of anything.
func (w *world) unstruck(env lockkeeper.Scope, list []gate.Stretch) []gate.Stretch {
	for _, x := range w.Strikes {
		if x.Scope.Contains(env) {
			list = slices.DeleteFunc(slices.Clone(list), func(s gate.Stretch) bool { return x.strikes(s.Artifacts) })
		}
	}
	return list
}

// makeStrike strikes artifacts.
type makeStrike struct {
	ID         string                `json:"-"`
	Scope      lockkeeper.Scope      `json:"scope"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	Reason     string                `json:"reason"`
	Deployment string                `json:"deployment,omitempty"`
}

func (makeStrike) name() string  { return "strike.make" }
func (makeStrike) about() string { return strikesSubject }

// struck is the answer to makeStrike.
type struck struct {
	ID      string             `json:"id"`
	Stands  []lockkeeper.Scope `json:"stands"`  // environments in which some of it was deployed with success last
	Revoked []string           `json:"revoked"` // deployments that ran and lost their lease
}

func (c makeStrike) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	artifacts, err := c.fits(w)
	if err != nil {
		return nil, nil, err
	}
	right, err := w.may(by, lockkeeper.RevokeLeases, c.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	mine := 0
	for _, x := range w.Strikes {
		if x.By == by.User {
			mine++
		}
	}
	if mine >= maxStrikesEach || len(w.Strikes) >= maxStrikes {
		return nil, nil, lockkeeper.Limited.Errorf("strikes_many", "%d strikes hold, %d of them yours.", len(w.Strikes), mine).
			WithNext("Strike several artifacts at once, or have some lifted: lockkeeper strike list")
	}
	x := Strike{ID: c.ID, Scope: c.Scope, Artifacts: artifacts, Reason: strings.TrimSpace(c.Reason), By: by.User, Persons: append(w.persons(by.User), w.behind(by)...), At: now, Deployment: c.Deployment}
	events := []event{&strikeMade{Strike: x, Right: right, Revision: w.Revision.Number}}
	answer := struck{ID: x.ID, Stands: w.standsIn(&x), Revoked: []string{}}
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		d := w.Deployments[id]
		if d.Status == Running && !w.overdue(d, now) && x.Scope.Contains(lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)) && x.strikes(d.Ask.Artifacts) {
			end := w.revoked(d, by, fmt.Sprintf("What it deploys was struck by %s: %s", by.User, x.Reason), now)
			end.Decision = right
			events, answer.Revoked = append(events, end), append(answer.Revoked, id)
		}
	}
	return events, answer, nil
}

// fits refuses what is no strike, and gives its artifacts, each digest once.
func (c makeStrike) fits(w *world) ([]lockkeeper.Artifact, error) {
	if c.Scope != lockkeeper.ProjectScope(c.Scope.Project()) && c.Scope != lockkeeper.EnvironmentScope(c.Scope.Project(), c.Scope.Environment()) {
		return nil, lockkeeper.Invalid.Errorf("scope_unfit", "Artifacts are struck from an environment or a project, and %.200s is neither.", c.Scope).WithNext("Name the project, and the environment: --project P --environment E")
	}
	if missing := w.rules.Catalog.Missing(c.Scope); missing != "" {
		return nil, lockkeeper.NotFound.Errorf("scope_missing", "%s", missing).WithNext("Name one of the catalog.")
	}
	if len(c.Artifacts) == 0 || len(c.Artifacts) > maxStruck {
		return nil, lockkeeper.Invalid.Errorf("artifacts_malformed", "%d artifacts are to be struck; 1 to %d can be at once.", len(c.Artifacts), maxStruck).WithNext("Name them: --artifact app=sha256:…")
	}
	var out []lockkeeper.Artifact
	for _, a := range c.Artifacts {
		if _, err := lockkeeper.ParseDigest(string(a.Digest)); err != nil || lockkeeper.CheckName(a.Name) != nil {
			return nil, lockkeeper.Invalid.Errorf("artifacts_malformed", "The artifact %.63q has no digest that could be struck.", a.Name).WithNext("Name it as NAME=sha256:HEX.")
		}
		if !slices.ContainsFunc(out, func(o lockkeeper.Artifact) bool { return o.Digest == a.Digest }) {
			out = append(out, a)
		}
	}
	if reason := strings.TrimSpace(c.Reason); reason == "" || len(reason) > maxReason {
		return nil, lockkeeper.Invalid.Errorf("reason_missing", "Whoever strikes artifacts says why, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	}
	if c.Deployment != "" && lockkeeper.CheckName(c.Deployment) != nil {
		return nil, lockkeeper.Invalid.Errorf("deployment_missing", "There is no such deployment.")
	}
	return out, nil
}

// standsIn are the environments in which some of what is struck was deployed with
// success last, or is seen.
func (w *world) standsIn(x *Strike) []lockkeeper.Scope {
	out := []lockkeeper.Scope{}
	for _, env := range slices.Sorted(maps.Keys(w.rules.Catalog.Environments)) {
		if x.Scope.Contains(env) && x.strikes(w.lastIn(env)) {
			out = append(out, env)
		}
	}
	return out
}

// lastIn are the artifacts that stand in an environment, as the last success there or
// whoever looks at it says.
func (w *world) lastIn(env lockkeeper.Scope) []lockkeeper.Artifact {
	var out []lockkeeper.Artifact
	if good := w.Good[env]; len(good) > 0 {
		out = slices.Clone(good[len(good)-1].Artifacts)
	}
	if p := w.place(env); p.Seen != nil {
		out = append(out, p.Seen.Artifacts...)
	}
	return out
}

// liftStrike lets artifacts in again.
type liftStrike struct {
	Strike string `json:"strike"`
	Reason string `json:"reason"`
}

func (liftStrike) name() string    { return "strike.lift" }
func (c liftStrike) about() string { return strikeSubject(c.Strike) }

// decide takes another person than who struck them: to let in what somebody keeps out
// weakens.
func (c liftStrike) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	x := w.Strikes[c.Strike]
	if x == nil {
		return nil, nil, lockkeeper.Conflict.Errorf("strike_over", "There is no strike %.63s, or it is lifted.", c.Strike).WithNext("List them: lockkeeper strike list").WithField(c.Strike)
	}
	if strings.TrimSpace(c.Reason) == "" || len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_missing", "Say why it may be let in again, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	}
	right, err := w.may(by, lockkeeper.RevokeLeases, x.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	if common(append(w.persons(by.User), w.behind(by)...), w.everybody(x.By, x.Persons)) {
		return nil, nil, lockkeeper.Forbidden.Errorf("second_person_needed", "%s struck it, and another person has to lift that.", x.By).
			WithNext("Ask somebody else who holds leases/revoke at %s.", x.Scope)
	}
	return []event{&strikeLifted{ID: x.ID, User: by.User, Reason: c.Reason, Right: right, Revision: w.Revision.Number}}, opened{x.ID}, nil
}
