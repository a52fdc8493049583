package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerFactors is the table of second factors and of stepping up.
func (s *Server) registerFactors() {
	route(s, http.MethodGet, "/factors", "factors", "The second factors of a user", s.factors)
	route(s, http.MethodPost, "/factors/totp", "begin-totp", "Begin to register an authenticator app", s.beginTOTP)
	route(s, http.MethodPost, "/factors/totp/{id}/confirm", "confirm-totp", "Register the authenticator app whose code is shown", s.confirmTOTP)
	route(s, http.MethodDelete, "/factors/{id}", "remove-factor", "Remove one of one's factors", s.removeFactor)
	route(s, http.MethodPost, "/accounts/{id}/factors/reset", "reset-factors", "Take all factors of somebody away, who has lost them", s.resetFactors)
	route(s, http.MethodPost, "/step-up", "step-up", "Show a code of an authenticator app again", s.stepUp)
	route(s, http.MethodPost, "/sessions/factor", "finish-sign-in", "Show a code of an authenticator app after the password", s.finishFactor)
	route(s, http.MethodPost, "/passkeys", "begin-passkey", "Begin to register or to show a passkey in a browser", s.beginPasskey)
	route(s, http.MethodPost, "/passkeys/finish", "finish-passkey", "Finish what the browser has shown", s.finishPasskey)
}

func (s *Server) factors(_ context.Context, in *struct {
	Credential
	User string `query:"user" maxLength:"63" doc:"whose; default: one's own"`
}) (*reply[api.Factors], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	out := api.Factors{User: in.User, Factors: []api.Factor{}}
	if out.User == "" {
		out.User = by.User
	}
	list, since, err := s.Keeper.Factors(by, out.User)
	out.Since = since
	for _, f := range list {
		out.Factors = append(out.Factors, renderFactor(f))
	}
	return &reply[api.Factors]{out}, err
}

func (s *Server) beginTOTP(_ context.Context, in *ask[api.BeginFactor]) (*reply[api.BegunTOTP], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b, err := s.Keeper.BeginTOTP(by, in.Body.Name)
	return &reply[api.BegunTOTP]{api.BegunTOTP(b)}, err
}

func (s *Server) confirmTOTP(ctx context.Context, in *about[api.Code]) (*reply[api.Factor], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	f, err := s.Keeper.ConfirmTOTP(ctx, by, in.ID, in.Body.Code)
	return &reply[api.Factor]{renderFactor(f)}, err
}

func (s *Server) removeFactor(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.RemoveFactor(ctx, by, in.ID)
}

func (s *Server) resetFactors(ctx context.Context, in *about[api.ResetFactors]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.ResetFactors(ctx, by, in.ID, in.Body.Reason)
}

func (s *Server) stepUp(ctx context.Context, in *ask[api.Code]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.StepUp(ctx, by, in.Body.Code)
}

func (s *Server) finishFactor(ctx context.Context, in *stranger[api.FinishSignIn]) (*reply[api.Session], error) {
	if err := s.Keeper.Admit(in.source); err != nil {
		return nil, err
	}
	secret, session, err := s.Keeper.FinishSignIn(ctx, in.Body.Ticket, in.Body.Code)
	return &reply[api.Session]{api.Session{Secret: secret, User: session.User, Expires: session.Expires}}, err
}

func renderFactor(f keeper.Factor) api.Factor {
	return api.Factor{ID: f.ID, Kind: f.Kind, Name: f.Name, Since: f.Since}
}
