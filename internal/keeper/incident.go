package keeper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// An incident is a declared response: from one entry on, scopes are frozen and
// persons, pipelines, identities and CI platforms are quarantined, until a second
// person closes it. What it ended stays ended.

// An IncidentMode says what an incident does to what runs already.
type IncidentMode string

// The modes. In both, nothing starts: no ask is opened or let through, no artifact
// is recorded, and a quarantined person may do nothing.
const (
	Strict     IncidentMode = "strict"      // leases are revoked at once
	BestEffort IncidentMode = "best-effort" // what runs already goes on to its end, with its tokens
)

// An Incident that is open.
type Incident struct {
	ID         string             `json:"id"`
	Title      string             `json:"title"`
	Mode       IncidentMode       `json:"mode"`
	Freeze     []lockkeeper.Scope `json:"freeze,omitempty"`
	Quarantine []Quarantine       `json:"quarantine,omitempty"`

	Opened  lockkeeper.Moment   `json:"opened"`
	By      string              `json:"opened_by"`
	Persons []lockkeeper.Person `json:"persons"` // that the opener counted as; none of them closes it

	// What was handed out before and may be taken outside until it ends: at most
	// maxOutside of it, those that end last.
	Outside     []Residue         `json:"outside,omitempty"`
	OutsideTill lockkeeper.Moment `json:"outside_till,omitzero"` // the last end of all
}

// A Quarantine is one principal that an incident stops.
type Quarantine struct {
	Kind    string              `json:"kind"` // user, pipeline, identity, provider
	Project string              `json:"project,omitempty"`
	Name    string              `json:"name"`
	Persons []lockkeeper.Person `json:"persons,omitempty"` // whom a user was when it was declared
	By      string              `json:"by,omitempty"`      // who declared it
}

// What can be quarantined.
const (
	userTarget     = "user"
	pipelineTarget = "pipeline"
	identityTarget = "identity"
	providerTarget = "provider"
)

// String is the spelling that ParseQuarantine reads.
func (q Quarantine) String() string {
	if q.Project != "" {
		return q.Kind + ":" + q.Project + "/" + q.Name
	}
	return q.Kind + ":" + q.Name
}

// scope is where one must hold incidents/declare to quarantine it.
func (q Quarantine) scope() lockkeeper.Scope {
	switch q.Kind {
	case pipelineTarget:
		return lockkeeper.PipelineScope(q.Project, q.Name)
	case identityTarget:
		return lockkeeper.IdentityScope(q.Project, q.Name)
	}
	return lockkeeper.Root
}

// ParseQuarantine reads user:NAME, pipeline:PROJECT/NAME, identity:PROJECT/NAME or
// provider:NAME.
func ParseQuarantine(s string) (Quarantine, error) {
	malformed := lockkeeper.Invalid.Errorf("quarantine_malformed", "%.100q names nothing that can be quarantined.", s).
		WithNext("Write user:NAME, pipeline:PROJECT/NAME, identity:PROJECT/NAME or provider:NAME.")
	kind, name, ok := strings.Cut(s, ":")
	q := Quarantine{Kind: kind, Name: name}
	switch kind {
	case userTarget, providerTarget:
	case pipelineTarget, identityTarget:
		q.Project, q.Name, ok = strings.Cut(name, "/")
		if lockkeeper.CheckName(q.Project) != nil {
			return q, malformed
		}
	default:
		return q, malformed
	}
	if !ok || lockkeeper.CheckName(q.Name) != nil {
		return q, malformed
	}
	return q, nil
}

// A Residue is what tokens that were handed out under one lease may do outside,
// where a target looks at their expiry only.
type Residue struct {
	Deployment  string            `json:"deployment"`
	User        string            `json:"user,omitempty"` // whose tokens they are, where no deployment got them
	Project     string            `json:"project"`
	Environment string            `json:"environment"`
	Identity    string            `json:"identity"`
	Tokens      int               `json:"tokens"`
	Till        lockkeeper.Moment `json:"till"`
	Provisioner string            `json:"provisioner,omitempty"` // whose credentials they are, where they are no tokens
	Running     bool              `json:"running,omitempty"`     // the lease lives on and may get more
	// What an incident finds it by.
	Pipeline string              `json:"pipeline"`
	Provider string              `json:"provider"`
	Persons  []lockkeeper.Person `json:"persons,omitempty"`
}

// Bounds of incidents.
const (
	maxIncidents = 20    // open at once
	maxTargets   = 200   // scopes, and principals, of one incident
	maxTitle     = 200   // bytes
	maxScope     = 1000  // bytes of one scope
	maxOutside   = 200   // residues that an incident tells apart
	maxResidues  = 5_000 // ended leases whose tokens have not ended
)

func incidentSubject(id string) string { return "incident/" + id }

// incidentsSubject is under which all entries about incidents are found.
const incidentsSubject = "incidents"

func targetSubjects(id string, list []Quarantine) []string {
	out := []string{incidentSubject(id), incidentsSubject}
	for _, q := range list {
		if s := q.Kind + "/" + q.Name; q.Kind == userTarget && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// incidentOpened is where an incident begins to hold. What it ends stands in the
// entries behind it, of the same decision.
type incidentOpened struct {
	one
	Incident Incident            `json:"incident"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*incidentOpened) kind() string { return "incident.opened" }
func (ev *incidentOpened) subjects() []string {
	return targetSubjects(ev.Incident.ID, ev.Incident.Quarantine)
}
func (ev *incidentOpened) apply(s *State, e Entry) error {
	if s.Incidents[ev.Incident.ID] != nil {
		return fmt.Errorf("the incident %s is open already", ev.Incident.ID)
	}
	i := ev.Incident
	i.Opened = e.Time
	s.Incidents[i.ID] = &i
	clear(s.Shared) // who votes now knows of it
	return nil
}

// incidentExtended adds to what an incident stops.
type incidentExtended struct {
	one
	ID          string              `json:"id"`
	Mode        IncidentMode        `json:"mode"` // from now on; never milder
	Freeze      []lockkeeper.Scope  `json:"freeze,omitempty"`
	Quarantine  []Quarantine        `json:"quarantine,omitempty"`
	Outside     []Residue           `json:"outside,omitempty"` // all of it, as of now
	OutsideTill lockkeeper.Moment   `json:"outside_till,omitzero"`
	Comment     string              `json:"comment,omitempty"`
	Right       lockkeeper.Decision `json:"right"`
	Revision    int                 `json:"revision"`
}

func (*incidentExtended) kind() string          { return "incident.extended" }
func (ev *incidentExtended) subjects() []string { return targetSubjects(ev.ID, ev.Quarantine) }
func (ev *incidentExtended) apply(s *State, _ Entry) error {
	old := s.Incidents[ev.ID]
	if old == nil {
		return fmt.Errorf("the incident %s is not open", ev.ID)
	}
	i := *old
	i.Mode, i.Outside, i.OutsideTill = ev.Mode, ev.Outside, ev.OutsideTill
	i.Freeze, i.Quarantine = slices.Concat(i.Freeze, ev.Freeze), slices.Concat(i.Quarantine, ev.Quarantine)
	s.Incidents[ev.ID] = &i
	clear(s.Shared)
	return nil
}

// incidentClosed lifts what an incident stops. Nothing that it ended comes back.
type incidentClosed struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user,omitempty"` // "": whoever runs the machine
	Finding  string              `json:"finding"`
	Right    lockkeeper.Decision `json:"right,omitzero"`
	Revision int                 `json:"revision"`
}

func (*incidentClosed) kind() string { return "incident.closed" }
func (ev *incidentClosed) subjects() []string {
	out := targetSubjects(ev.ID, nil)
	if ev.User != "" {
		out = append(out, "user/"+ev.User)
	}
	return out
}
func (ev *incidentClosed) apply(s *State, _ Entry) error {
	if s.Incidents[ev.ID] == nil {
		return fmt.Errorf("the incident %s is not open", ev.ID)
	}
	delete(s.Incidents, ev.ID)
	return nil
}

// approvalsVoided takes the votes of quarantined users, and the places that they
// handed over or got, for good.
type approvalsVoided struct {
	one
	Incident   string   `json:"incident"`
	Deployment string   `json:"deployment,omitempty"` // or
	Request    string   `json:"request,omitempty"`
	Users      []string `json:"users"`
	Revision   int      `json:"revision"`
}

func (*approvalsVoided) kind() string { return "approvals.voided" }
func (ev *approvalsVoided) subjects() []string {
	out := []string{incidentSubject(ev.Incident)}
	if ev.Deployment != "" {
		return append(out, deploymentSubject(ev.Deployment))
	}
	return append(out, requestSubject(ev.Request))
}
func (ev *approvalsVoided) apply(s *State, _ Entry) error {
	if ev.Deployment != "" {
		return s.onDeployment(ev.Deployment, ev.on)
	}
	r := s.Requests[ev.Request]
	if r == nil {
		return fmt.Errorf("the request %s is not open", ev.Request)
	}
	r.Votes = slices.DeleteFunc(r.Votes, func(v Vote) bool { return slices.Contains(ev.Users, v.User) })
	return nil
}
func (ev *approvalsVoided) on(d *Deployment) {
	d.Votes = slices.DeleteFunc(d.Votes, func(v Vote) bool { return slices.Contains(ev.Users, v.User) })
	d.dropVotes(func(v Vote) bool { return slices.Contains(ev.Users, v.User) })
	d.Delegated = slices.DeleteFunc(d.Delegated, func(o Delegation) bool {
		return slices.Contains(ev.Users, o.From) || slices.Contains(ev.Users, o.To)
	})
}

// leaves remembers, when a deployment ends, its tokens that have not.
func (s *State) leaves(d *Deployment, end End, now lockkeeper.Moment) {
	s.Outside = slices.DeleteFunc(s.Outside, func(r Residue) bool { return !now.Before(r.Till) })
	if end.TokensOutside == 0 || !now.Before(end.OutsideTill) {
		return
	}
	r := residueOf(d)
	r.Tokens, r.Till = end.TokensOutside, end.OutsideTill
	if s.Outside = append(s.Outside, r); len(s.Outside) > maxResidues {
		s.Outside = s.Outside[len(s.Outside)-maxResidues:]
	}
}

func residueOf(d *Deployment) Residue {
	r := Residue{Deployment: d.ID, Project: d.Ask.Project, Environment: d.Ask.Environment, Pipeline: d.Ask.Pipeline, Provider: d.Ask.Provider}
	if d.Lease != nil {
		r.Identity = d.Lease.Identity
	}
	for _, o := range d.Initiators {
		r.Persons = append(r.Persons, o.Persons...)
	}
	return r
}
