package identity

import (
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// anyIssuer reads the claims that the catalog names for an issuer that Lockkeeper
// has no adapter for. A claim that is not there leaves its fact absent, and a
// rule that needs it refuses; repository, run, job and actor must be there.
func anyIssuer(w *lockkeeper.Workload, c token.Claims, i Issuer) error {
	w.Attempt = 1
	for _, f := range []struct {
		name string
		to   *lockkeeper.Fact
		fit  func(string) bool
	}{
		{"organisation", &w.Organisation, word}, {"organisation_name", &w.OrganisationName, nil}, {"project", &w.Project, word}, {"project_name", &w.ProjectName, nil},
		{"repository", &w.Repository, word}, {"repository_name", &w.RepositoryName, nil}, {"pipeline", &w.Pipeline, word}, {"pipeline_name", &w.PipelineName, nil},
		{"run", &w.Run, word}, {"stage", &w.Stage, nil}, {"job", &w.Job, word}, {"event", &w.Event, nil}, {"ref", &w.Ref, fullRef}, {"ref_type", &w.RefType, nil},
		{"ref_protected", &w.RefProtected, truth}, {"commit", &w.Commit, commit}, {"environment", &w.Environment, nil}, {"environment_protected", &w.EnvironmentProtected, truth},
		{"definition_path", &w.DefinitionPath, word}, {"definition_ref", &w.DefinitionRef, nil}, {"definition_commit", &w.DefinitionCommit, nil},
		{"actor", &w.Actor, word}, {"actor_name", &w.ActorName, nil}, {"subject", &w.Subject, nil},
	} {
		name := i.Claims[f.name]
		if name == "" {
			continue
		}
		must := f.name == "repository" || f.name == "run" || f.name == "job" || f.name == "actor"
		if err := fill(c, numeric, claim{name, f.to, f.fit, must}); err != nil {
			return err
		}
	}
	return nil
}
