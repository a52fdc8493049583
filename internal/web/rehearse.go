package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerRehearsals is the table of what is asked and changes nothing.
func (s *Server) registerRehearsals() {
	route(s, http.MethodPost, "/rehearsals", "rehearse", "What an ask to deploy would get now; nothing of it is recorded", s.rehearse)
}

func (s *Server) rehearse(ctx context.Context, in *byJob[api.Rehearse]) (*reply[api.Rehearsal], error) {
	b := in.Body
	o := keeper.OpenDeployment{Action: b.Action, Project: b.Project, Environment: b.Environment, Artifacts: b.Artifacts, Parameters: b.Parameters, Detached: b.Detached}
	if b.AsStage == "" {
		job, err := s.job(ctx, in.JobCredential, "")
		if err != nil {
			return nil, err
		}
		r, err := s.Keeper.Rehearse(job, o)
		return &reply[api.Rehearsal]{renderRehearsal(r)}, err
	}
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	r, err := s.Keeper.Imagine(by, keeper.Imagined{OpenDeployment: o, Stage: b.AsStage, Ref: b.Ref, Commit: b.Commit, Event: b.Event})
	return &reply[api.Rehearsal]{renderRehearsal(r)}, err
}

func renderRehearsal(r keeper.Rehearsal) api.Rehearsal {
	out := api.Rehearsal{At: r.At, Revision: r.Revision, Project: r.Project, Environment: r.Environment, Pipeline: r.Pipeline, Stage: r.Stage, Mode: r.Mode,
		Opens: r.Opens, Gate: r.Gate, Waits: []api.Awaited{}, Earliest: r.Earliest, Sure: r.Sure, Deadline: r.Deadline, Assumed: r.Assumed}
	for _, a := range r.Waits {
		out.Waits = append(out.Waits, api.Awaited{On: a.On, Decision: a.Decision, Groups: a.Groups, Later: a.Later, Users: a.Users, More: a.More})
	}
	return out
}
