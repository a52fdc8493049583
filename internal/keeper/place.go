package keeper

import (
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A Place is what is known of one environment besides its deployments that are alive:
// what stood there for how long, what was let in, and what somebody says runs there.
// It is replaced, never changed.
type Place struct {
	// Stretches of what stood there, oldest first; at most gate.MaxStretches.
	Stretches []gate.Stretch `json:"stretches,omitempty"`
	// Let is what may run there by what was let in: the last success, and what got a
	// lease since. At most maxLet: past it, what came second makes room, and what of it
	// runs there still is reported too much, never too little.
	Let []gate.Release `json:"let,omitempty"`
	// Took is how long the last leases took that their jobs ended themselves, oldest
	// first; at most maxLengths. Nothing is decided by it.
	Took []time.Duration `json:"took,omitempty"`
	// Seen is what runs there as somebody says; nil: nobody does.
	Seen *Sighting `json:"seen,omitempty"`
}

// maxLet bounds what is remembered as let in since the last success, that included.
const maxLet = 8

// A Sighting is what a job says that it sees running.
type Sighting struct {
	Artifacts []lockkeeper.Artifact `json:"artifacts"` // sorted by name
	Since     lockkeeper.Moment     `json:"since"`     // when they were first seen without others between
	At        lockkeeper.Moment     `json:"at"`        // when it was said last
	Pipeline  string                `json:"pipeline"`
	Stage     string                `json:"stage"`
	Run       string                `json:"run"`
}

// place is a copy of what is known of an environment, to be changed and put back.
func (s *State) place(scope lockkeeper.Scope) Place {
	if p := s.Places[scope]; p != nil {
		return *p
	}
	return Place{}
}

// letIn folds that a deployment got its lease.
func (s *State) letIn(d *Deployment, at lockkeeper.Moment) {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	p := s.place(scope)
	p.Stretches = gate.Stands(p.Stretches, d.ID, d.Ask.Action, d.Ask.Artifacts, at)
	p.Let = append(slices.Clone(p.Let), gate.Release{Deployment: d.ID, Artifacts: d.Ask.Artifacts, Commit: d.Ask.Commit, At: at})
	if len(p.Let) > maxLet {
		p.Let = slices.Delete(p.Let, 1, 2)
	}
	s.Places[scope] = &p
}

// letOut folds how a deployment that had a lease ended. It is asked before the end is
// noted anywhere else.
func (s *State) letOut(d *Deployment, end Status, at lockkeeper.Moment) {
	if d.Lease == nil {
		return
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	p := s.place(scope)
	if end == Succeeded || end == Failed {
		p.Took = p.took(at.Sub(d.Lease.Started))
	}
	if end != Succeeded {
		p.Stretches = gate.Fails(p.Stretches, d.Ask.Artifacts)
		s.Places[scope] = &p
		return
	}
	p.Stretches = gate.Succeeds(p.Stretches, d.ID, d.Ask.Artifacts, s.alone(d), at)
	let := []gate.Release{{Deployment: d.ID, Artifacts: d.Ask.Artifacts, Commit: d.Ask.Commit, At: at}}
	for _, o := range p.Let { // what runs beside it was let in, too
		if other := s.Deployments[o.Deployment]; o.Deployment != d.ID && other != nil {
			let = append(let, o)
		}
	}
	p.Let = let
	s.Places[scope] = &p
}

// alone reports whether no other deployment had a lease of the environment while this
// one had its own.
func (s *State) alone(d *Deployment) bool {
	if d.Lease.Started.Before(s.Freed[lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)]) {
		return false
	}
	for _, o := range s.Deployments {
		if o.ID != d.ID && o.Status == Running && o.Ask.Project == d.Ask.Project && o.Ask.Environment == d.Ask.Environment {
			return false
		}
	}
	return true
}

// stood gives a gate what stood in the other environments of a project.
func (w *world) stood(project string) func(environment string) []gate.Stretch {
	return func(environment string) []gate.Stretch {
		scope := lockkeeper.EnvironmentScope(project, environment)
		return w.unstruck(scope, w.place(scope).Stretches)
	}
}

// strange are the artifacts seen in a place that nothing which was let in brought
// there. Names are not compared: who looks at a place may call things otherwise.
func (p Place) strange() []lockkeeper.Artifact {
	if p.Seen == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(p.Seen.Artifacts), func(a lockkeeper.Artifact) bool {
		return slices.ContainsFunc(p.Let, func(r gate.Release) bool {
			return slices.ContainsFunc(r.Artifacts, func(o lockkeeper.Artifact) bool { return o.Digest == a.Digest })
		})
	})
}

// forgetStretches takes away what is known to have stood anywhere.
func (s *State) forgetStretches() {
	for scope := range s.Places {
		p := s.place(scope)
		p.Stretches = nil
		s.Places[scope] = &p
	}
}
