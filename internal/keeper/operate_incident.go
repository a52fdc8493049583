package keeper

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// An OpenIncident is what is declared.
type OpenIncident struct {
	Title      string
	Mode       IncidentMode // "": strict
	Freeze     []lockkeeper.Scope
	Quarantine []string // as ParseQuarantine reads them
}

// DeclareIncident opens an incident: what it stops is stopped when it returns, and
// what may live on outside stands in the answer. key, if not "", makes a retry give
// the same incident.
func (k *Keeper) DeclareIncident(ctx context.Context, by Caller, key string, o OpenIncident) (Cut, error) {
	list, err := parseQuarantines(o.Quarantine)
	if err != nil {
		return Cut{}, err
	}
	return do[Cut](ctx, k, by, key, openIncident{ID: newID("i"), Title: o.Title, Mode: o.Mode, Freeze: o.Freeze, Quarantine: list})
}

// ExtendIncident adds to an open incident; strict makes it so.
func (k *Keeper) ExtendIncident(ctx context.Context, by Caller, id string, strict bool, o OpenIncident, comment string) (Cut, error) {
	list, err := parseQuarantines(o.Quarantine)
	if err != nil {
		return Cut{}, err
	}
	return do[Cut](ctx, k, by, "", extendIncident{Incident: id, Strict: strict, Freeze: o.Freeze, Quarantine: list, Comment: comment})
}

// CloseIncident lifts an incident that another person opened.
func (k *Keeper) CloseIncident(ctx context.Context, by Caller, id, finding string) error {
	_, err := do[opened](ctx, k, by, "", closeIncident{id, finding})
	return err
}

// CloseIncidentHere lifts an incident for whoever runs the server's machine, where
// no second person could: the folder must not be in use.
func CloseIncidentHere(ctx context.Context, o Options, id, finding string) error {
	if err := journal.Exists(o.Dir); err != nil {
		return err
	}
	k, err := Open(ctx, o)
	if err != nil {
		return err
	}
	err = k.CloseIncident(ctx, Caller{Keeper: true}, id, finding)
	return cmp.Or(err, k.Close())
}

func parseQuarantines(list []string) ([]Quarantine, error) {
	var out []Quarantine
	for _, s := range list {
		q, err := ParseQuarantine(s)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// An IncidentView is an incident that is open or, with an end, was.
type IncidentView struct {
	Incident
	Closers []string // who could close it now
	End     *IncidentEnd
}

// An IncidentEnd is how an incident was closed.
type IncidentEnd struct {
	At      lockkeeper.Moment
	User    string // "": whoever runs the machine
	Finding string
}

// Incidents lists the open incidents that the caller may see, oldest first.
func (k *Keeper) Incidents(by Caller) ([]IncidentView, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []IncidentView{}
	for _, i := range w.Incidents {
		if w.maySeeIncident(by, i, now) {
			out = append(out, w.incidentView(*i, now))
		}
	}
	slices.SortFunc(out, func(a, b IncidentView) int {
		return cmp.Or(a.Opened.Time().Compare(b.Opened.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (w *world) incidentView(i Incident, now lockkeeper.Moment) IncidentView {
	closers, _ := w.closers(&i, now)
	i.Outside = slices.DeleteFunc(slices.Clone(i.Outside), func(r Residue) bool { return !now.Before(r.Till) })
	return IncidentView{Incident: i, Closers: closers}
}

// maySeeIncident takes incidents/read wherever it stops something: it names persons.
func (w *world) maySeeIncident(by Caller, i *Incident, now lockkeeper.Moment) bool {
	return !slices.ContainsFunc(i.places(), func(s lockkeeper.Scope) bool {
		return !w.allowedFor(by, lockkeeper.ReadIncidents, s, now) && !w.allowedFor(by, lockkeeper.DeclareIncidents, s, now)
	})
}

// Incident is one incident, open or closed, for whoever may see it.
func (k *Keeper) Incident(ctx context.Context, by Caller, id string) (IncidentView, error) {
	if by.User == "" {
		return IncidentView{}, errPersonNeeded()
	}
	missing := lockkeeper.NotFound.Errorf("incident_missing", "There is no incident %.40q that you may see.", id).WithNext("List those that are open: lockkeeper incident list")
	if !strings.HasPrefix(id, "i-") || lockkeeper.CheckName(id) != nil {
		return IncidentView{}, missing
	}
	i, end, err := k.foldIncident(ctx, id)
	if err != nil {
		return IncidentView{}, err
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if i == nil || !w.maySeeIncident(by, i, now) {
		return IncidentView{}, missing
	}
	v := w.incidentView(*i, now)
	if v.End = end; end != nil {
		v.Closers = nil
	}
	return v, nil
}

// foldIncident reads an incident from the journal; nil: there is none.
func (k *Keeper) foldIncident(ctx context.Context, id string) (*Incident, *IncidentEnd, error) {
	var end *IncidentEnd
	s, err := k.fold(ctx, incidentSubject(id), func(_ *State, e Entry, body event) bool {
		switch ev := body.(type) {
		case *incidentOpened, *incidentExtended:
			return true
		case *incidentClosed:
			end = &IncidentEnd{At: e.Time, User: ev.User, Finding: ev.Finding}
		}
		return false
	})
	if err != nil {
		return nil, nil, err
	}
	return s.Incidents[id], end, nil
}

// incidentsAt collects the incidents that were open at an instant.
func (k *Keeper) incidentsAt(ctx context.Context, s *State, at lockkeeper.Moment) error {
	type change struct {
		e  Entry
		ev event
	}
	var changes []change
	err := k.backwards(ctx, incidentsSubject, at, func(e Entry, body event) bool {
		switch body.(type) {
		case *incidentOpened, *incidentExtended, *incidentClosed:
			changes = append(changes, change{e, body})
		}
		return true
	})
	for _, c := range slices.Backward(changes) {
		if err == nil {
			err = c.ev.apply(s, c.e)
		}
	}
	return err
}

// OpenIncidents counts the incidents that are open.
func (k *Keeper) OpenIncidents() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.state.Incidents)
}
