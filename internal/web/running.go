package web

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) registerRunning() {
	route(s, http.MethodPost, "/running", "report-running", "Say what runs in an environment, as a pipeline stage that may", s.reportRunning)
	route(s, http.MethodGet, "/running", "running", "What may run in environments, and what does as somebody says", s.running)
	route(s, http.MethodGet, "/receipts", "receipts", "The deployments that let an artifact in, with their verification summaries", s.receipts)
	route(s, http.MethodGet, "/deployments/{id}/summary", "verification-summary", "The signed verification summary (SLSA VSA) of a deployment that was let through", s.summary)
}

func (s *Server) reportRunning(ctx context.Context, in *keyed[api.ReportRunning]) (*reply[api.Sighted], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	r, err := s.Keeper.ReportRunning(ctx, job, in.Key, in.Body.Environment, in.Body.Artifacts)
	return &reply[api.Sighted]{api.Sighted(r)}, err
}

func (s *Server) running(_ context.Context, in *struct {
	Credential
	Project     string `query:"project" maxLength:"63"`
	Environment string `query:"environment" maxLength:"63"`
}) (*reply[api.Running], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Running(by, in.Project, in.Environment)
	out := api.Running{Environments: []api.RunningEnvironment{}}
	for _, v := range list {
		out.Environments = append(out.Environments, renderRunning(v))
	}
	return &reply[api.Running]{out}, err
}

func renderRunning(v keeper.RunningView) api.RunningEnvironment {
	e := api.RunningEnvironment{Project: v.Project, Environment: v.Environment, Let: []api.LetIn{}, Strange: []lockkeeper.Artifact{}, Stood: []api.Stood{}}
	for _, r := range v.Let {
		e.Let = append(e.Let, api.LetIn{Deployment: r.Deployment, Artifacts: r.Artifacts, At: r.At})
	}
	if v.Seen != nil {
		seen := api.Seen(*v.Seen)
		e.Seen = &seen
	}
	e.Strange = append(e.Strange, v.Strange...)
	for _, x := range v.Stretches {
		e.Stood = append(e.Stood, api.Stood(x))
	}
	return e
}

func (s *Server) receipts(ctx context.Context, in *struct {
	Credential
	Digest      string `query:"digest" required:"true" maxLength:"80" doc:"sha256: and 64 hexadecimal digits"`
	Project     string `query:"project" maxLength:"63"`
	Environment string `query:"environment" maxLength:"63"`
	Current     bool   `query:"current" doc:"only what may run there now"`
	Limit       int    `query:"limit" minimum:"1" maximum:"50" default:"10"`
}) (*reply[api.Receipts], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Admitted(ctx, by, keeper.DigestFilter{Digest: lockkeeper.Digest(in.Digest), Project: in.Project, Environment: in.Environment, Current: in.Current, Limit: in.Limit})
	out := api.Receipts{Receipts: []api.LetInReceipt{}}
	for _, a := range list {
		v := a.View
		out.Receipts = append(out.Receipts, api.LetInReceipt{Deployment: v.ID, Project: v.Ask.Project, Environment: v.Ask.Environment, Status: string(v.Status),
			At: v.Lease.Started, Current: a.Current, Summary: a.Summary})
	}
	return &reply[api.Receipts]{out}, err
}

func (s *Server) summary(ctx context.Context, in *struct {
	Credential
	Deployment
}) (*reply[json.RawMessage], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.Keeper.Summary(ctx, by, in.ID)
	return &reply[json.RawMessage]{r}, err
}
