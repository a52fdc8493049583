package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) registerStrikes() {
	route(s, http.MethodGet, "/strikes", "list-strikes", "Artifacts that are kept out of environments, and where some of them stand", s.strikes)
	route(s, http.MethodPost, "/strikes", "strike-artifacts", "Keep artifacts out of an environment or a project, also where they were good before", s.strike)
	route(s, http.MethodPost, "/strikes/{id}/lift", "lift-strike", "Let in again what somebody else struck", s.liftStrike)
}

func (s *Server) strikes(_ context.Context, in *Credential) (*reply[api.Strikes], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	out := api.Strikes{Strikes: []api.Strike{}}
	for _, x := range s.Keeper.Strikes(by) {
		out.Strikes = append(out.Strikes, api.Strike{ID: x.ID, Scope: x.Scope, Artifacts: x.Artifacts, Reason: x.Reason, By: x.By, At: x.At, Deployment: x.Deployment, Stands: x.Stands})
	}
	return &reply[api.Strikes]{out}, nil
}

func (s *Server) strike(ctx context.Context, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.MakeStrike
}) (*reply[api.Struck], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	x, err := s.Keeper.Strike(ctx, by, in.Key, keeper.MakeStrike(in.Body))
	return &reply[api.Struck]{api.Struck(x)}, err
}

func (s *Server) liftStrike(ctx context.Context, in *about[api.LiftStrike]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.LiftStrike(ctx, by, in.ID, in.Body.Reason)
}
