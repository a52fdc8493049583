package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) registerEvidence() {
	route(s, http.MethodPost, "/evidence", "add-evidence", "Bring what documents say about artifacts, as a pipeline stage", s.addEvidence)
	route(s, http.MethodGet, "/evidence", "list-evidence", "What was brought about artifacts of a project", s.listEvidence)
}

func (s *Server) addEvidence(ctx context.Context, in *keyed[api.AddEvidence]) (*reply[api.EvidenceAdded], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	ask := keeper.AddEvidence{Artifacts: in.Body.Artifacts, Record: in.Body.Record, Environment: in.Body.Environment}
	for _, d := range in.Body.Evidence {
		ask.Pieces = append(ask.Pieces, keeper.Piece{Kind: keeper.EvidenceKind(d.Kind), Name: d.Name, Content: d.Content})
	}
	r, err := s.Keeper.AddEvidence(ctx, job, in.Key, ask)
	if err != nil {
		return nil, err
	}
	return &reply[api.EvidenceAdded]{api.EvidenceAdded{Project: r.Project, Pipeline: r.Pipeline, Stage: r.Stage, Evidence: evidenceOf(r.Evidence)}}, nil
}

func (s *Server) listEvidence(ctx context.Context, in *struct {
	Credential
	Project string `query:"project" required:"true" maxLength:"63"`
	Digest  string `query:"digest" maxLength:"71" doc:"only about this artifact: sha256:…"`
	Kind    string `query:"kind" maxLength:"63"`
	Limit   int    `query:"limit" minimum:"0" maximum:"200"`
}) (*reply[api.EvidenceList], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Evidence(ctx, by, keeper.EvidenceFilter{Project: in.Project, Digest: lockkeeper.Digest(in.Digest), Kind: keeper.EvidenceKind(in.Kind), Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &reply[api.EvidenceList]{api.EvidenceList{Evidence: evidenceOf(list)}}, nil
}

func evidenceOf(list []keeper.BroughtEvidence) []api.BroughtEvidence {
	out := []api.BroughtEvidence{}
	for _, e := range list {
		out = append(out, api.BroughtEvidence{ID: e.ID, Kind: string(e.Summary.Kind), Name: e.Name, Line: e.Summary.Line(), Artifacts: e.Artifacts, Content: e.Content,
			Pipeline: e.Pipeline, Stage: e.Stage, Commit: e.Commit, Run: e.Run, At: e.At, Summary: e.Summary})
	}
	return out
}
