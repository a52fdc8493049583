package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerReviews is the table of broken glass and of what is owed for it.
func (s *Server) registerReviews() {
	people(s, http.MethodPost, "/break-glass", "break-glass", "Activate a role at once, without approval, where the rules let one", s.breakGlass)
	people(s, http.MethodGet, "/notices", "list-notices", "What one was told and has not acknowledged", s.notices)
	people(s, http.MethodPost, "/notices/{id}/acknowledge", "acknowledge-notice", "Take a notice off one's list", s.acknowledge)
	people(s, http.MethodGet, "/reviews", "list-reviews", "The open reviews that concern one", s.reviews)
	people(s, http.MethodGet, "/reviews/{id}", "review", "One review, open or closed", s.review)
	people(s, http.MethodPost, "/reviews/{id}/close", "close-review", "Say what one found, as somebody who took no part", s.closeReview)
	people(s, http.MethodPost, "/recovery/codes", "make-recovery-codes", "Name the holders of new recovery codes; those before are void", s.makeRecovery)
	people(s, http.MethodGet, "/recovery/codes", "recovery-codes", "The recovery codes in force: who holds them, and which were used", s.recoveryCodes)
	people(s, http.MethodPost, "/recovery/codes/collect", "collect-recovery-code", "Collect the code that one holds; it is shown once", s.collectRecovery)
	route(s, http.MethodPost, "/recovery/sessions", "use-recovery-codes", "Start a session with enough codes of distinct holders", s.useRecovery)
}

func (s *Server) breakGlass(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.BreakGlass
}) (*reply[api.Activation], error) {
	b := in.Body
	a, err := s.Keeper.BreakGlass(ctx, by, in.Key, keeper.OpenRequest{Role: b.Role, Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second, Reason: b.Reason})
	return &reply[api.Activation]{renderActivation(a)}, err
}

func (s *Server) notices(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Notices], error) {
	list, err := s.Keeper.Notices(by)
	out := api.Notices{Notices: []api.Notice{}}
	for _, n := range list {
		out.Notices = append(out.Notices, api.Notice{ID: n.ID, About: n.About, Subject: n.Subject, Text: n.Text, At: n.At})
	}
	return &reply[api.Notices]{out}, err
}

func (s *Server) acknowledge(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.Keeper.Acknowledge(ctx, by, in.ID)
}

func (s *Server) reviews(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Reviews], error) {
	list, err := s.Keeper.Reviews(by)
	return &reply[api.Reviews]{api.Reviews{Reviews: rendered(list, renderReview)}}, err
}

func (s *Server) review(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Review], error) {
	v, err := s.Keeper.Review(ctx, by, in.ID)
	return &reply[api.Review]{renderReview(v)}, err
}

func (s *Server) closeReview(ctx context.Context, by keeper.Caller, in *about[api.CloseReview]) (*reply[api.ReviewOutcome], error) {
	closed, err := s.Keeper.CloseReview(ctx, by, in.ID, in.Body.Finding, in.Body.Unjustified)
	return &reply[api.ReviewOutcome]{api.ReviewOutcome{ID: in.ID, Closed: closed}}, err
}

func renderReview(v keeper.ReviewView) api.Review {
	out := api.Review{ID: v.ID, About: v.About, User: v.User, Role: v.Role, Scope: v.Scope, Activation: v.Activation, Override: v.Override, Deployment: v.Deployment, Reason: v.Reason, Opened: v.Opened, Due: v.Due,
		Overdue: v.IsOverdue, Demands: []api.ReviewDemand{}, Findings: []api.Finding{}, Reviewers: append([]string{}, v.Reviewers...), Closed: v.Closed}
	for _, d := range v.Demands {
		out.Demands = append(out.Demands, api.ReviewDemand{Rule: d.Rule, Count: d.Count, Groups: append([]string{}, d.Groups...)})
	}
	for _, f := range v.Findings {
		out.Findings = append(out.Findings, api.Finding{User: f.User, At: f.At, Text: f.Text, Unjustified: f.Unjustified})
	}
	return out
}

func (s *Server) makeRecovery(ctx context.Context, by keeper.Caller, in *ask[api.MakeRecovery]) (*struct{}, error) {
	return nil, s.Keeper.MakeRecovery(ctx, by, in.Body.User, in.Body.Needed, in.Body.Holders)
}

func (s *Server) recoveryCodes(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.RecoveryCodes], error) {
	set, err := s.Keeper.RecoveryCodes(by)
	out := api.RecoveryCodes{ID: set.ID, User: set.User, Needed: set.Needed, Made: set.Made, By: set.By, Holders: []api.RecoveryHolder{}}
	for _, h := range set.Holders {
		out.Holders = append(out.Holders, api.RecoveryHolder{User: h.User, Collected: h.Collected, Used: h.Used})
	}
	return &reply[api.RecoveryCodes]{out}, err
}

func (s *Server) collectRecovery(ctx context.Context, by keeper.Caller, _ *Credential) (*reply[api.RecoveryCode], error) {
	code, err := s.Keeper.CollectRecovery(ctx, by)
	return &reply[api.RecoveryCode]{api.RecoveryCode{Code: code}}, err
}

func (s *Server) useRecovery(ctx context.Context, in *stranger[api.UseRecovery]) (*reply[api.Session], error) {
	secret, session, err := s.Keeper.UseRecovery(ctx, in.Body.Codes, in.source)
	return &reply[api.Session]{api.Session{Secret: secret, User: session.User, Expires: session.Expires}}, err
}
