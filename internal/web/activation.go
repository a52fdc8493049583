package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerActivations is the table of what people activate.
func (s *Server) registerActivations() {
	people(s, http.MethodGet, "/eligibilities", "eligibilities", "What one may activate, and what that takes", s.eligibilities)
	people(s, http.MethodPost, "/requests", "open-request", "Ask to activate a role", s.openRequest)
	route(s, http.MethodPost, "/requests/run", "open-run-request", "Ask to activate a role for the job that asks, as a pipeline stage", s.openRunRequest)
	people(s, http.MethodGet, "/requests", "list-requests", "The requests that wait: one's own, and those that one may see", s.requests)
	route(s, http.MethodGet, "/requests/{id}", "request", "One request, or what next differs in how it stands", s.request)
	people(s, http.MethodPost, "/requests/{id}/approve", "approve-request", "Approve somebody else's request", s.decideRequest(true))
	people(s, http.MethodPost, "/requests/{id}/deny", "deny-request", "Deny somebody else's request", s.decideRequest(false))
	people(s, http.MethodPost, "/requests/{id}/withdraw", "withdraw-request", "Take one's request back", s.withdrawRequest)
	route(s, http.MethodPost, "/requests/{id}/begin", "begin-activation", "Begin what was asked for: its time starts", s.begin)
	route(s, http.MethodPost, "/requests/{id}/end", "end-run-activation", "End what one's job has activated, with the request's handle", s.endRun)
	people(s, http.MethodGet, "/activations", "list-activations", "What is active now: one's own, and what one may see", s.activations)
	people(s, http.MethodPost, "/identities/{project}/{name}/token", "issue-token", "A token of an identity for a person who may use it", s.issueToken)
	people(s, http.MethodPost, "/activations/{id}/extend", "extend-activation", "Ask to make one's activation last longer", s.extendActivation)
	people(s, http.MethodPost, "/activations/{id}/end", "end-activation", "End one's activation, or somebody else's", s.endActivation)
}

func (s *Server) eligibilities(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Eligibilities], error) {
	list, err := s.Keeper.Eligibilities(by)
	out := api.Eligibilities{Eligibilities: []api.Eligibility{}}
	for _, e := range list {
		one := api.Eligibility{Assignment: e.Assignment.Name, Role: e.Assignment.Role, Scope: e.Assignment.Scope, End: e.Assignment.End, Condition: e.Assignment.Condition,
			Seconds: int64(e.Longest / time.Second), Reason: e.Reason, Tickets: e.Tickets, Approvals: []api.AskedApproval{},
			Extensions: e.Extensions, CoolingOff: int64(e.CoolingOff / time.Second), Hours: e.Hours}
		one.Uses, one.Bound, one.Asked = e.Uses, e.Bound, e.Asked
		one.StepUp, one.Strong = int64(e.StepUp/time.Second), e.Strong
		for _, c := range e.Approvals {
			asked := api.AskedApproval{Name: c.Name, Count: c.Approval.Count, Groups: c.Approval.Groups, After: c.Approval.After, Instructions: c.Approval.Instructions}
			if e := c.Approval.Escalate; e != nil {
				asked.EscalateSeconds, asked.EscalateGroups = int64(time.Duration(e.After)/time.Second), e.Groups
			}
			one.Approvals = append(one.Approvals, asked)
		}
		out.Eligibilities = append(out.Eligibilities, one)
	}
	return &reply[api.Eligibilities]{out}, err
}

func (s *Server) openRequest(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.OpenRequest
}) (*reply[api.Request], error) {
	b := in.Body
	id, err := s.Keeper.RequestActivation(ctx, by, in.Key, keeper.OpenRequest{Role: b.Role, Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second, Reason: b.Reason, Ticket: b.Ticket,
		At: b.At, Deployment: b.Deployment, Uses: b.Uses})
	if err != nil {
		return nil, err
	}
	return s.showRequest(ctx, by, id)
}

func (s *Server) openRunRequest(ctx context.Context, in *keyed[api.OpenRunRequest]) (*reply[api.Request], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	b := in.Body
	id, err := s.Keeper.RequestRunActivation(ctx, job, in.Key, keeper.RunRequest{Role: b.Role, Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second, Reason: b.Reason, Ticket: b.Ticket, Handle: b.Handle})
	if err != nil {
		return nil, err
	}
	return s.showRequest(ctx, keeper.Caller{Holder: id}, id)
}

// requester is who asks about one request: a person, or a job that shows the
// request's handle.
func (s *Server) requester(ctx context.Context, header, id string) (keeper.Caller, error) {
	token, err := bearer(header)
	if err != nil {
		return keeper.Caller{}, err
	}
	if strings.HasPrefix(token, api.HandlePrefix) {
		return s.Keeper.RequestHolder(ctx, id, token)
	}
	return s.person(header)
}

func renderRun(r *keeper.Run) *api.Run {
	if r == nil {
		return nil
	}
	return &api.Run{Project: r.Project, Pipeline: r.Pipeline, Stage: r.Stage, Provider: r.Provider, Run: r.Run, Attempt: r.Attempt}
}

func (s *Server) showRequest(ctx context.Context, by keeper.Caller, id string) (*reply[api.Request], error) {
	v, err := s.Keeper.Request(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return &reply[api.Request]{renderRequest(v)}, nil
}

func (s *Server) requests(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Requests], error) {
	list, err := s.Keeper.Requests(by)
	return &reply[api.Requests]{api.Requests{Requests: rendered(list, renderRequest)}}, err
}

func (s *Server) request(ctx context.Context, in *struct {
	Credential
	ID   string `path:"id" maxLength:"63"`
	Seen string `query:"seen" maxLength:"64" doc:"what the caller saw; the reply waits until something differs"`
	Wait int    `query:"wait" minimum:"0" maximum:"60" doc:"how many seconds to wait at most"`
}) (*reply[api.Request], error) {
	by, err := s.requester(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.patience(ctx, min(time.Duration(in.Wait)*time.Second, longestWait))
	defer cancel()
	v, err := s.Keeper.WaitRequest(ctx, by, in.ID, in.Seen)
	if err != nil {
		return nil, err
	}
	return &reply[api.Request]{renderRequest(v)}, nil
}

func (s *Server) extendActivation(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID   string `path:"id" maxLength:"63"`
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.ExtendActivation
}) (*reply[api.Request], error) {
	b := in.Body
	id, err := s.Keeper.ExtendActivation(ctx, by, in.Key, in.ID, time.Duration(b.Seconds)*time.Second, b.Reason, b.Ticket)
	if err != nil {
		return nil, err
	}
	return s.showRequest(ctx, by, id)
}

func (s *Server) issueToken(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	Project string `path:"project" maxLength:"63"`
	Name    string `path:"name" maxLength:"63"`
	Body    api.IssueToken
}) (*reply[api.IssuedToken], error) {
	t, err := s.Keeper.IssueToken(ctx, by, in.Project, in.Name, in.Body.Audience)
	if err != nil {
		return nil, err
	}
	s.metrics.exchanged()
	return &reply[api.IssuedToken]{api.IssuedToken{Token: t.JWT, Audience: in.Body.Audience, Expires: t.Expires, Seconds: int64(t.Life / time.Second)}}, nil
}

func (s *Server) decideRequest(approve bool) func(context.Context, keeper.Caller, *about[api.RequestVote]) (*struct{}, error) {
	return func(ctx context.Context, by keeper.Caller, in *about[api.RequestVote]) (*struct{}, error) {
		b := in.Body
		return nil, s.Keeper.DecideRequest(ctx, by, in.ID, keeper.RequestVerdict{Approve: approve, Digest: b.Digest, Comment: b.Comment, For: time.Duration(b.Seconds) * time.Second, Scope: b.Scope})
	}
}

func (s *Server) withdrawRequest(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.Keeper.WithdrawRequest(ctx, by, in.ID)
}

func (s *Server) begin(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Activation], error) {
	by, err := s.requester(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	a, err := s.Keeper.BeginActivation(ctx, by, in.ID)
	out := renderActivation(a)
	if len(out.Opens) > 0 {
		states := s.Keeper.Openings(a.ID)
		for i, o := range out.Opens {
			stands := states[o.Provisioner]
			out.Opens[i].Status, out.Opens[i].Code, out.Opens[i].Reason = stands.Status, stands.Code, stands.Reason
		}
	}
	return &reply[api.Activation]{out}, err
}

// endRun ends what a job has activated, as the job that shows the request's handle.
func (s *Server) endRun(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.requester(ctx, in.Authorization, in.ID)
	if err == nil && by.Holder == "" {
		err = lockkeeper.Forbidden.Errorf("handle_needed", "Only the job that asked ends it so.").WithNext("Run: lockkeeper activations end ID")
	}
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndRunActivation(ctx, by)
}

func (s *Server) activations(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Activations], error) {
	list, err := s.Keeper.Activations(by)
	return &reply[api.Activations]{api.Activations{Activations: rendered(list, renderActivation)}}, err
}

func (s *Server) endActivation(ctx context.Context, by keeper.Caller, in *about[api.EndActivation]) (*struct{}, error) {
	return nil, s.Keeper.EndActivation(ctx, by, in.ID, in.Body.Reason)
}

func renderRequest(v keeper.RequestView) api.Request {
	r := api.Request{ID: v.ID, User: v.User, Role: v.Role, Actions: v.Actions, Scope: v.Scope, Seconds: int64(v.For / time.Second), Reason: v.Reason, Ticket: v.Ticket,
		Digest: v.Digest, Opened: v.Opened, Deadline: v.Deadline, Approvals: []api.RequestApproval{}, Verdict: v.Verdict, Seen: v.Seen(),
		At: v.At, Extends: v.Extends, From: v.From, Deployment: v.Deployment, Run: renderRun(v.Run)}
	for _, t := range v.Trims {
		r.Trims = append(r.Trims, api.Trim{User: t.User, At: t.At, Seconds: int64(t.For / time.Second), Scope: t.Scope, Digest: t.Digest, Comment: t.Comment})
	}
	if v.End != nil {
		r.End = &api.RequestEnd{At: v.End.At, Status: v.End.Status, User: v.End.User, Reason: v.End.Reason, Activation: v.End.Activation}
	}
	r.Opens = renderOpenings(v.Opens)
	r.Uses, r.Bound, r.Questions = v.Uses, v.Bound, renderQuestions(v.Questions)
	for _, a := range v.Votes {
		r.Approvals = append(r.Approvals, api.RequestApproval{Approval: api.Approval{User: a.User, Comment: a.Comment, At: a.At, BreakGlass: a.BreakGlass, SignedIn: a.SignedIn, Strong: a.Strong}, Digest: a.Digest})
	}
	return r
}

func renderActivation(a keeper.Activation) api.Activation {
	out := api.Activation{ID: a.ID, Request: a.Request, User: a.User, Role: a.Role, Actions: a.Actions, Scope: a.Scope, Reason: a.Reason, Ticket: a.Ticket, Started: a.Started, Ends: a.Ends, Opens: renderOpenings(a.Opens), Deployment: a.Deployment, Run: renderRun(a.Run), BreakGlass: a.BreakGlass, Modified: a.Modified}
	out.Uses, out.Used, out.Bound = a.Uses, a.Used, a.Session != ""
	for _, x := range a.Extended {
		out.Extended = append(out.Extended, api.Extension(x))
	}
	return out
}

func renderQuestions(list []keeper.Question) []api.Question {
	var out []api.Question
	for _, q := range list {
		one := api.Question{ID: q.ID, Rule: q.Rule, Asked: q.Asked, Deadline: q.Deadline}
		if q.Missed != nil {
			one.Reason = q.Missed.Reason
		}
		if a := q.Answer; a != nil {
			one.Answered, one.Met, one.Status, one.Reason = a.At, a.Met, a.Status, a.Reason
		}
		out = append(out, one)
	}
	return out
}
