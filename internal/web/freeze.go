package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/prometheus/client_golang/prometheus"
)

// registerFreezes is the table of freezes and of what waives checks.
func (s *Server) registerFreezes() {
	route(s, http.MethodGet, "/freezes", "list-freezes", "The freezes that touch a scope, how they stand and when they hold", s.freezes)
	route(s, http.MethodPost, "/freezes", "start-freeze", "Stop the line at a scope, for a time", s.startFreeze)
	route(s, http.MethodPost, "/freezes/{id}/end", "end-freeze", "End a freeze that was started by hand before its time", s.endFreeze)
	route(s, http.MethodPost, "/deployments/{id}/overrides", "request-override", "Ask to waive soft checks of a deployment that waits", s.requestOverride)
	route(s, http.MethodGet, "/overrides", "list-overrides", "Overrides of deployments that have not ended", s.overrides)
	route(s, http.MethodGet, "/overrides/{id}", "override", "One of them", s.override)
	route(s, http.MethodPost, "/overrides/{id}/approve", "approve-override", "Approve an override", s.approveOverride)
	route(s, http.MethodPost, "/overrides/{id}/deny", "deny-override", "Deny an override", s.denyOverride)
	route(s, http.MethodPost, "/overrides/{id}/end", "end-override", "Take an override back; what runs by it loses its lease", s.endOverride)
}

func (s *Server) freezes(_ context.Context, in *struct {
	Credential
	Scope string `query:"scope" maxLength:"1000" default:"/" doc:"what they touch"`
	Days  int    `query:"days" minimum:"0" maximum:"400" doc:"list the times in which they hold, so many days ahead"`
}) (*reply[api.Freezes], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Freezes(by, lockkeeper.Scope(in.Scope), in.Days)
	out := api.Freezes{Freezes: []api.Freeze{}}
	for _, f := range list {
		out.Freezes = append(out.Freezes, renderFreeze(f))
	}
	return &reply[api.Freezes]{out}, err
}

func renderFreeze(f keeper.FreezeView) api.Freeze {
	out := api.Freeze{Name: f.Name, Scope: f.Scope, Reason: f.Reason, StartedBy: f.StartedBy, From: f.From, Until: f.Until, Zone: f.Zone, Recurs: len(f.Windows) > 0,
		Actions: append([]string{}, f.Actions...), Callers: append([]string{}, f.Callers...), Exempt: append([]string{}, f.Exempt...), InFlight: f.Running(), Soft: f.Soft,
		Holds: f.Holds, Since: f.Since, NextOpen: f.NextOpen, NextClose: f.NextClose, Alone: f.Alone, Unjudged: f.Unjudged}
	if len(out.Actions) == 0 {
		out.Actions = []string{lockkeeper.DeployAction, lockkeeper.RollbackAction}
	}
	if len(out.Callers) == 0 {
		out.Callers = []string{"people", "automation"}
	}
	for _, t := range f.Times {
		out.Times = append(out.Times, api.FreezeTime{From: t.From, Until: t.Until})
	}
	return out
}

func (s *Server) startFreeze(ctx context.Context, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.StartFreeze
}) (*reply[api.FreezeStarted], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	f, err := s.Keeper.StartFreeze(ctx, by, in.Key, keeper.StartFreeze{Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second, Reason: b.Reason,
		Actions: b.Actions, Callers: b.Callers, Exempt: b.Exempt, InFlight: b.InFlight, Soft: b.Soft})
	return &reply[api.FreezeStarted]{api.FreezeStarted{ID: f.ID, Until: f.Until, Revoked: f.Revoked}}, err
}

func (s *Server) endFreeze(ctx context.Context, in *about[api.EndFreeze]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndFreeze(ctx, by, in.ID, in.Body.Reason)
}

func (s *Server) requestOverride(ctx context.Context, in *struct {
	Credential
	ID   string `path:"id" maxLength:"63"`
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.RequestOverride
}) (*reply[api.Override], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	id, err := s.Keeper.RequestOverride(ctx, by, in.Key, in.ID, keeper.OverrideRequest{Waives: b.Waives, Reason: b.Reason, Incident: b.Incident, Digest: b.Digest})
	if err != nil {
		return nil, err
	}
	return s.overrideReply(by, id)
}

func (s *Server) overrideReply(by keeper.Caller, id string) (*reply[api.Override], error) {
	v, err := s.Keeper.Override(by, id)
	return &reply[api.Override]{renderOverride(v)}, err
}

func (s *Server) overrides(_ context.Context, in *Credential) (*reply[api.Overrides], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Overrides(by)
	out := api.Overrides{Overrides: []api.Override{}}
	for _, o := range list {
		out.Overrides = append(out.Overrides, renderOverride(o))
	}
	return &reply[api.Overrides]{out}, err
}

func (s *Server) override(_ context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Override], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return s.overrideReply(by, in.ID)
}

func (s *Server) approveOverride(ctx context.Context, in *about[api.DecideOverride]) (*reply[api.Override], error) {
	return s.decideOverride(ctx, in, true)
}

func (s *Server) denyOverride(ctx context.Context, in *about[api.DecideOverride]) (*reply[api.Override], error) {
	return s.decideOverride(ctx, in, false)
}

func (s *Server) decideOverride(ctx context.Context, in *about[api.DecideOverride], approve bool) (*reply[api.Override], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.DecideOverride(ctx, by, in.ID, approve, in.Body.Digest, in.Body.Comment); err != nil {
		return nil, err
	}
	return s.overrideReply(by, in.ID)
}

func (s *Server) endOverride(ctx context.Context, in *about[api.EndOverride]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndOverride(ctx, by, in.ID, in.Body.Reason)
}

func renderOverride(v keeper.OverrideView) api.Override {
	out := api.Override{ID: v.ID, Deployment: v.Deployment, Environment: v.Environment, Status: v.Status, User: v.User, Waives: append([]string{}, v.Waives...), Reason: v.Reason,
		Incident: v.Incident, Digest: v.Digest, Revision: v.Revision, Opened: v.Opened, Deadline: v.Deadline, Approvals: []api.Approval{}, Needed: v.Needed,
		Approvers: append([]string{}, v.Approvers...), Ends: v.Ends, Counts: v.Counts, Review: v.Review, ClosedBy: v.ClosedBy}
	for _, a := range v.Votes {
		out.Approvals = append(out.Approvals, api.Approval{User: a.User, Comment: a.Comment, At: a.At, BreakGlass: a.BreakGlass, SignedIn: a.SignedIn, Strong: a.Strong})
	}
	return out
}

// freezeGauges count what stops the line, and what is let past checks: how often that
// was is in lockkeeper_reviews_open and in the journal.
func freezeGauges(k *keeper.Keeper) []prometheus.Collector {
	gauge := func(name, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f()) })
	}
	return []prometheus.Collector{
		gauge("lockkeeper_freezes_holding", "Freezes that hold now, of the catalog and started by hand.", k.FreezesHolding),
		gauge("lockkeeper_overrides_granted", "Overrides that waive checks now.", k.OverridesCounting),
	}
}
