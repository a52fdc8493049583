package web

import (
	"cmp"
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// registerIncidents is the table of what one does when something went wrong.
func (s *Server) registerIncidents() {
	route(s, http.MethodPost, "/incidents", "open-incident", "Declare an incident: freeze scopes, quarantine principals", s.openIncident)
	route(s, http.MethodGet, "/incidents", "list-incidents", "The open incidents that one may see", s.incidents)
	route(s, http.MethodGet, "/incidents/{id}", "incident", "One incident, open or closed", s.incident)
	route(s, http.MethodPost, "/incidents/{id}/extend", "extend-incident", "Add to an open incident", s.extendIncident)
	route(s, http.MethodPost, "/incidents/{id}/close", "close-incident", "Close an incident that another person opened", s.closeIncident)
}

func (s *Server) openIncident(ctx context.Context, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.OpenIncident
}) (*reply[api.IncidentCut], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	cut, err := s.Keeper.DeclareIncident(ctx, by, in.Key, keeper.OpenIncident{Title: b.Title, Mode: keeper.IncidentMode(b.Mode), Freeze: b.Freeze, Quarantine: b.Quarantine})
	return &reply[api.IncidentCut]{renderCut(cut)}, err
}

func (s *Server) extendIncident(ctx context.Context, in *about[api.ExtendIncident]) (*reply[api.IncidentCut], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	cut, err := s.Keeper.ExtendIncident(ctx, by, in.ID, b.Strict, keeper.OpenIncident{Freeze: b.Freeze, Quarantine: b.Quarantine}, b.Comment)
	return &reply[api.IncidentCut]{renderCut(cut)}, err
}

func (s *Server) closeIncident(ctx context.Context, in *about[api.CloseIncident]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.CloseIncident(ctx, by, in.ID, in.Body.Finding)
}

func (s *Server) incidents(_ context.Context, in *Credential) (*reply[api.Incidents], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Incidents(by)
	out := api.Incidents{Incidents: []api.Incident{}}
	for _, i := range list {
		out.Incidents = append(out.Incidents, renderIncident(i))
	}
	return &reply[api.Incidents]{out}, err
}

func (s *Server) incident(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Incident], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	v, err := s.Keeper.Incident(ctx, by, in.ID)
	return &reply[api.Incident]{renderIncident(v)}, err
}

func renderCut(c keeper.Cut) api.IncidentCut {
	return api.IncidentCut{ID: c.ID, Revoked: c.Revoked, Ended: c.Ended, Sessions: c.Sessions, Activations: c.Activations, Requests: c.Requests, Voided: c.Voided,
		Outside: renderOutside(c.Outside), OutsideTill: c.OutsideTill}
}

func renderOutside(list []keeper.Residue) []api.IncidentOutside {
	out := []api.IncidentOutside{}
	for _, r := range list {
		out = append(out, api.IncidentOutside{Deployment: r.Deployment, User: r.User, Provisioner: r.Provisioner, Project: r.Project, Environment: r.Environment, Identity: r.Identity, Tokens: r.Tokens, Till: r.Till, Running: r.Running})
	}
	return out
}

func renderIncident(v keeper.IncidentView) api.Incident {
	out := api.Incident{ID: v.ID, Title: v.Title, Mode: cmp.Or(string(v.Mode), string(keeper.Strict)), Freeze: append([]lockkeeper.Scope{}, v.Freeze...), Quarantine: []string{},
		Opened: v.Opened, By: v.By, Outside: renderOutside(v.Outside), OutsideTill: v.OutsideTill, Closers: append([]string{}, v.Closers...)}
	for _, q := range v.Quarantine {
		out.Quarantine = append(out.Quarantine, q.String())
	}
	if v.End != nil {
		out.Closed = &api.IncidentEnd{At: v.End.At, User: v.End.User, Finding: v.End.Finding}
	}
	return out
}

// debts are the gauges of what waits for people: they are for alarms.
func debts(k *keeper.Keeper) []prometheus.Collector {
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	return []prometheus.Collector{
		gauge("lockkeeper_incidents_open", "Incidents that are open.", k.OpenIncidents),
		gauge("lockkeeper_reviews_open", "Reviews that are open.", k.OpenReviews),
		gauge("lockkeeper_reviews_overdue", "Open reviews that should have been closed.", k.OverdueReviews),
	}
}
