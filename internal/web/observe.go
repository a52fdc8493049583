package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

func (s *Server) registerObservations() {
	route(s, http.MethodGet, "/observations", "observations", "What checks in shadow and environments that observe would have stopped", s.observations)
}

func (s *Server) observations(ctx context.Context, in *struct {
	Credential
	Since       string `query:"since" required:"true" maxLength:"40" doc:"an instant"`
	Project     string `query:"project" maxLength:"63"`
	Environment string `query:"environment" maxLength:"63"`
}) (*reply[api.Observations], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	var since lockkeeper.Moment
	if err := since.UnmarshalText([]byte(in.Since)); err != nil {
		return nil, lockkeeper.Invalid.Errorf("moment_malformed", "since is no instant.").WithNext("Write it as 2026-11-24T03:00:00Z.").WithField("since")
	}
	list, left, err := s.Keeper.Observations(ctx, by, since, in.Project, in.Environment)
	out := api.Observations{Since: since, Environments: []api.ObservedEnvironment{}, Left: left}
	for _, e := range list {
		x := api.ObservedEnvironment{Project: e.Project, Environment: e.Environment, Mode: e.Mode, Deployments: e.Deployments, Stopped: e.Stopped, By: []api.ObservedCheck{}}
		for _, c := range e.By {
			x.By = append(x.By, api.ObservedCheck(c))
		}
		out.Environments = append(out.Environments, x)
	}
	return &reply[api.Observations]{out}, err
}
