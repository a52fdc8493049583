package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// openIncident declares an incident. Nothing stands before it but the right to: no
// second person, no rule, no budget.
type openIncident struct {
	ID         string             `json:"-"`
	Title      string             `json:"title"`
	Mode       IncidentMode       `json:"mode"`
	Freeze     []lockkeeper.Scope `json:"freeze,omitempty"`
	Quarantine []Quarantine       `json:"quarantine,omitempty"`
}

func (openIncident) name() string    { return "incident.open" }
func (c openIncident) about() string { return incidentsSubject }

func (c openIncident) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	i := Incident{ID: c.ID, Title: strings.TrimSpace(c.Title), Mode: cmp.Or(c.Mode, Strict), Opened: now, By: by.User}
	switch {
	case by.User == "":
		return nil, nil, errPersonNeeded()
	case i.Title == "" || len(i.Title) > maxTitle:
		return nil, nil, lockkeeper.Invalid.Errorf("title_missing", "Say what happened, in 1 to %d bytes.", maxTitle).WithNext("Add --title.")
	case i.Mode != Strict && i.Mode != BestEffort:
		return nil, nil, lockkeeper.Invalid.Errorf("mode_unknown", "There is no mode %.20q.", i.Mode).WithNext("Name strict or best-effort.")
	case len(c.Freeze)+len(c.Quarantine) == 0:
		return nil, nil, lockkeeper.Invalid.Errorf("incident_empty", "The incident stops nothing.").WithNext("Name what it stops with --freeze and --quarantine.")
	case len(w.Incidents) >= maxIncidents:
		return nil, nil, lockkeeper.Limited.Errorf("incidents_many", "%d incidents are open.", len(w.Incidents)).WithNext("Add to one of them: lockkeeper incident extend")
	}
	right, err := w.stopping(&i, by, c.Freeze, c.Quarantine, now)
	if err != nil {
		return nil, nil, err
	}
	i.Persons = append(w.persons(by.User), w.behind(by)...)
	if err := w.leavesCloser(i, now); err != nil {
		return nil, nil, err
	}
	cut, answer := w.cut(&i, by, now)
	closers, others := w.supposing(i).closers(&i, now)
	told := slices.DeleteFunc(append(closers, others...), func(u string) bool { return u == by.User })
	events := append([]event{&incidentOpened{Incident: i, Right: right, Revision: w.Revision.Number}}, cut...)
	return append(events, notice(i.ID, aboutIncident, incidentSubject(i.ID), fmt.Sprintf("%s opened the incident %s: %s", by.User, i.ID, i.Title), told)...), answer, nil
}

// stopping adds scopes and principals to an incident, for a caller who may.
func (w *world) stopping(i *Incident, by Caller, freeze []lockkeeper.Scope, quarantine []Quarantine, now lockkeeper.Moment) (lockkeeper.Decision, error) {
	if len(i.Freeze)+len(freeze) > maxTargets || len(i.Quarantine)+len(quarantine) > maxTargets {
		return lockkeeper.Decision{}, lockkeeper.Invalid.Errorf("incident_large", "An incident names %d scopes and %d principals at most.", maxTargets, maxTargets).
			WithNext("Freeze a scope further up, or open another incident.")
	}
	var places []lockkeeper.Scope
	for _, s := range freeze {
		if err := w.freezable(s); err != nil {
			return lockkeeper.Decision{}, err
		}
		places = append(places, s)
		if !slices.Contains(i.Freeze, s) {
			i.Freeze = append(slices.Clip(i.Freeze), s)
		}
	}
	for _, q := range quarantine {
		if err := w.known(q); err != nil {
			return lockkeeper.Decision{}, err
		}
		places = append(places, q.scope())
		if q.Persons = nil; q.Kind == userTarget {
			q.Persons, q.By = []lockkeeper.Person{w.rules.Catalog.PersonOf(q.Name)}, by.User
		}
		if !slices.ContainsFunc(i.Quarantine, func(o Quarantine) bool { return o.String() == q.String() }) {
			i.Quarantine = append(slices.Clip(i.Quarantine), q)
		}
	}
	return w.mayRespond(by, places, now)
}

// mayRespond refuses unless the caller may declare incidents at all the places.
func (w *world) mayRespond(by Caller, places []lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, error) {
	var because []lockkeeper.Decision
	slices.Sort(places)
	for _, s := range slices.Compact(places) {
		d, err := w.may(by, lockkeeper.DeclareIncidents, s, now)
		if err != nil {
			return d, err
		}
		because = append(because, d)
	}
	return lockkeeper.All("responding to an incident", "The right is there at every scope.", because...), nil
}

// freezable refuses a scope under which nothing lies that could be deployed.
func (w *world) freezable(s lockkeeper.Scope) error {
	if len(s) > maxScope {
		return lockkeeper.Invalid.Errorf("scope_malformed", "The scope %.100q… is longer than %d bytes.", s, maxScope)
	}
	if _, err := lockkeeper.ParseScope(string(s)); err != nil {
		return lockkeeper.Invalid.Errorf("scope_malformed", "%v.", err)
	}
	c := w.rules.Catalog
	_, project := c.Projects[s.Project()]
	_, env := c.Environments[s]
	_, pipeline := c.Pipelines[s]
	_, identity := c.Identities[s]
	if s == lockkeeper.Root || project && s == lockkeeper.ProjectScope(s.Project()) || env || pipeline || identity {
		return nil
	}
	return lockkeeper.Invalid.Errorf("scope_unknown", "The catalog has no project, environment, pipeline or identity at %.200s.", s).WithNext("Name one of the catalog's, or /.").WithField(string(s))
}

func (w *world) known(q Quarantine) error {
	c, is := w.rules.Catalog, false
	switch q.Kind {
	case userTarget:
		_, is = c.Users[q.Name]
	case providerTarget:
		_, is = c.Providers[q.Name]
	case pipelineTarget:
		_, is = c.Pipelines[lockkeeper.PipelineScope(q.Project, q.Name)]
	case identityTarget:
		_, is = c.Identities[lockkeeper.IdentityScope(q.Project, q.Name)]
	}
	if is {
		return nil
	}
	return lockkeeper.Invalid.Errorf("quarantine_unknown", "The catalog has no %s.", q).WithNext("Name it as the catalog does.").WithField(q.String())
}

// places are the scopes at which one must hold incidents/declare to close it.
func (i *Incident) places() []lockkeeper.Scope {
	out := slices.Clone(i.Freeze)
	for _, q := range i.Quarantine {
		out = append(out, q.scope())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// supposing is the world in which an incident is open as given.
func (w *world) supposing(i Incident) *world {
	s := *w.State
	s.Incidents = maps.Clone(w.Incidents)
	s.Incidents[i.ID] = &i
	return &world{State: &s, rules: w.rules}
}

// closers are the users who could close an incident, and others those who could but
// for having opened it. All can sign in, and none is quarantined.
func (w *world) closers(i *Incident, now lockkeeper.Moment) (closers, others []string) {
	places, r := i.places(), w.reach(now)
	for user, enters := range r.entering {
		if !enters || slices.ContainsFunc(places, func(s lockkeeper.Scope) bool { return !r.could(user, lockkeeper.DeclareIncidents, s) }) {
			continue
		}
		if w.isOpener(i, user) {
			others = append(others, user)
		} else {
			closers = append(closers, user)
		}
	}
	slices.Sort(closers)
	slices.Sort(others)
	return closers, others
}

// entering are the users who have a way in: a password, or an account of a directory
// that signs in as them.
func (w *world) entering() map[string]bool {
	out := map[string]bool{}
	for user, a := range w.Accounts {
		out[user] = a.Credential != ""
	}
	for name, u := range w.rules.Catalog.Users {
		out[name] = out[name] || len(u.SignIns) > 0
	}
	for _, m := range w.Members {
		if _, binds := bindsMember(w.rules.ofCatalog(), m); binds {
			out[m.User] = true
		}
	}
	return out
}

// isOpener reports whether a user is, by any of his persons, who opened an incident.
func (w *world) isOpener(i *Incident, user string) bool {
	mine := append(w.persons(i.By), i.Persons...)
	return slices.ContainsFunc(w.persons(user), func(p lockkeeper.Person) bool { return slices.Contains(mine, p) })
}

// leavesCloser refuses to quarantine the last person who could close the incident,
// or the last who could respond to it at all.
func (w *world) leavesCloser(i Incident, now lockkeeper.Moment) error {
	milder := i
	milder.Quarantine = nil
	if old := w.Incidents[i.ID]; old != nil {
		milder.Quarantine = old.Quarantine
	}
	if len(milder.Quarantine) == len(i.Quarantine) {
		return nil // nobody more is quarantined
	}
	before := w.supposing(milder)
	// By the places of the whole incident in both, so that only who is quarantined differs.
	could, couldOthers := before.closers(&i, now)
	can, canOthers := w.supposing(i).closers(&i, now)
	if len(can) == 0 && len(could) > 0 || len(can)+len(canOthers) == 0 && len(could)+len(couldOthers) > 0 {
		return lockkeeper.Conflict.Errorf("last_closer", "Nobody would be left who could close the incident: it takes incidents/declare at %v, another person than %s, and whoever approves it where it has to be activated.", i.places(), i.By).
			WithNext("Leave one of them out: %v. Or give another person the right first.", w.leftOut(i, len(milder.Quarantine), now))
	}
	return nil
}

// leftOut are those of what an incident is about to quarantine without whom there would
// be a closer, or all of them where no single one is enough.
func (w *world) leftOut(i Incident, from int, now lockkeeper.Moment) []Quarantine {
	var out []Quarantine
	for n := from; n < len(i.Quarantine); n++ {
		without := i
		without.Quarantine = slices.Delete(slices.Clone(i.Quarantine), n, n+1)
		if closers, _ := w.supposing(without).closers(&i, now); i.Quarantine[n].Kind == userTarget && len(closers) > 0 {
			out = append(out, i.Quarantine[n])
		}
	}
	if len(out) == 0 {
		return i.Quarantine[from:]
	}
	return out
}

// extendIncident adds to an open incident, and may make it strict. It never takes
// anything out of it.
type extendIncident struct {
	Incident   string             `json:"incident"`
	Strict     bool               `json:"strict,omitempty"`
	Freeze     []lockkeeper.Scope `json:"freeze,omitempty"`
	Quarantine []Quarantine       `json:"quarantine,omitempty"`
	Comment    string             `json:"comment,omitempty"`
}

func (extendIncident) name() string    { return "incident.extend" }
func (c extendIncident) about() string { return incidentSubject(c.Incident) }

func (c extendIncident) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	old, err := w.incident(c.Incident)
	if err != nil {
		return nil, nil, err
	}
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if len(c.Comment) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	}
	i := *old
	right, err := w.stopping(&i, by, c.Freeze, c.Quarantine, now)
	if err != nil {
		return nil, nil, err
	}
	if c.Strict && i.Mode != Strict {
		i.Mode = Strict
		if right, err = w.mayRespond(by, i.places(), now); err != nil {
			return nil, nil, err
		}
	}
	if i.Mode == old.Mode && len(i.Freeze) == len(old.Freeze) && len(i.Quarantine) == len(old.Quarantine) {
		return nil, nil, lockkeeper.Invalid.Errorf("incident_empty", "The incident stops all of that already.").WithNext("Name what it does not stop yet.")
	}
	if err := w.leavesCloser(i, now); err != nil {
		return nil, nil, err
	}
	cut, answer := w.cut(&i, by, now)
	ev := &incidentExtended{ID: i.ID, Mode: i.Mode, Freeze: i.Freeze[len(old.Freeze):], Quarantine: i.Quarantine[len(old.Quarantine):],
		Outside: i.Outside, OutsideTill: i.OutsideTill, Comment: c.Comment, Right: right, Revision: w.Revision.Number}
	return append([]event{ev}, cut...), answer, nil
}

func (w *world) incident(id string) (*Incident, error) {
	i := w.Incidents[id]
	if i == nil {
		return nil, lockkeeper.Conflict.Errorf("incident_closed", "The incident %.40s does not exist or is closed.", id).WithNext("List them: lockkeeper incident list").WithField(id)
	}
	return i, nil
}

// closeIncident lifts an incident. It takes another person than who opened it.
type closeIncident struct {
	Incident string `json:"incident"`
	Finding  string `json:"finding"`
}

func (closeIncident) name() string    { return "incident.close" }
func (c closeIncident) about() string { return incidentSubject(c.Incident) }

// decide lets whoever runs the server's machine close one, too: where there is no
// second person, nothing else could.
func (c closeIncident) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	i, err := w.incident(c.Incident)
	if err != nil {
		return nil, nil, err
	}
	if c.Finding == "" || len(c.Finding) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("finding_missing", "Say what was found and mended, in 1 to %d bytes.", maxComment).WithNext("Add --finding.")
	}
	ev := &incidentClosed{ID: i.ID, User: by.User, Finding: c.Finding, Revision: w.Revision.Number}
	if by.Keeper {
		return []event{ev}, opened{i.ID}, nil
	}
	if ev.Right, err = w.mayRespond(by, i.places(), now); err != nil {
		return nil, nil, err
	}
	if w.isOpener(i, by.User) {
		return nil, nil, lockkeeper.Forbidden.Errorf("second_person_needed", "%s opened the incident, and another person has to close it.", i.By).
			WithNext("Ask somebody else who holds incidents/declare at %v. If there is nobody, whoever runs the server's machine can: lockkeeper recover incident %s", i.places(), i.ID)
	}
	return []event{ev}, opened{i.ID}, nil
}
