package identity

import (
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// A claim says which claim fills a fact, and what it must look like.
type claim struct {
	name string
	to   *lockkeeper.Fact
	fit  func(string) bool
	must bool // absent is malformed
}

// fill reads claims into facts; read is fact or numeric.
func fill(c token.Claims, read func(token.Claims, string) (lockkeeper.Fact, error), claims ...claim) error {
	for _, f := range claims {
		v, err := read(c, f.name)
		if err != nil {
			return err
		}
		if f.must && !v.Known() || v.Known() && f.fit != nil && !f.fit(v.Value) {
			return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's claim %s is missing or malformed.", f.name).
				WithNext("Use the platform's own tokens; a server of an older version may not send it.")
		}
		*f.to = v
	}
	return nil
}

// gitlab reads the claims of GitLab CI's ID tokens (docs.gitlab.com, "OpenID
// Connect (OIDC) Authentication Using ID Tokens"). Booleans are texts there. A
// job that is run again has an id of its own and names whoever ran it again, so
// every job counts as a first attempt.
//
// For merge requests from forks the project claims name the fork; no claim says
// where the job ran, and such a pipeline is of no stage unless its event is
// admitted.
func gitlab(w *lockkeeper.Workload, c token.Claims, _ Issuer) error {
	var ref, config lockkeeper.Fact
	err := fill(c, fact,
		claim{"namespace_id", &w.Organisation, digits, true}, claim{"namespace_path", &w.OrganisationName, word, true},
		claim{"project_id", &w.Repository, digits, true}, claim{"project_path", &w.RepositoryName, word, true},
		claim{"pipeline_id", &w.Run, digits, true}, claim{"job_id", &w.Job, digits, true}, claim{"pipeline_source", &w.Event, word, true},
		claim{"user_id", &w.Actor, digits, true}, claim{"user_login", &w.ActorName, word, false},
		claim{"ref", &ref, word, true}, claim{"ref_type", &w.RefType, word, true}, claim{"ref_path", &w.Ref, fullRef, false},
		claim{"ref_protected", &w.RefProtected, truth, true}, claim{"sha", &w.Commit, commit, true},
		claim{"environment", &w.Environment, word, false}, claim{"environment_protected", &w.EnvironmentProtected, truth, false},
		claim{"runner_environment", &w.Runner, word, true},
		claim{"ci_config_ref_uri", &config, word, true}, claim{"ci_config_sha", &w.DefinitionCommit, commit, false})
	if err != nil {
		return err
	}
	w.Attempt = 1
	if err := gitlabRef(w, ref.Value); err != nil {
		return err
	}
	switch w.Runner.Value {
	case "gitlab-hosted":
		w.Runner = lockkeeper.SignedFact("hosted")
	case "self-hosted":
		w.Runner = lockkeeper.SignedFact("self_hosted")
	default:
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's runner_environment is unknown.").WithNext("Use GitLab's own tokens.")
	}
	return gitlabDefinition(w, config.Value)
}

// gitlabRef makes the full ref where an older server sends none, and compares
// where it does.
func gitlabRef(w *lockkeeper.Workload, short string) error {
	kind := map[string]string{"branch": "refs/heads/", "tag": "refs/tags/"}[w.RefType.Value]
	full := kind + short
	if !w.Ref.Known() && kind != "" {
		w.Ref = lockkeeper.SignedFact(full)
	}
	if merge := strings.HasPrefix(w.Ref.Value, "refs/merge-requests/"); kind == "" || w.Ref.Value != full && !merge {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's ref, ref_type and ref_path do not fit together.").WithNext("Use GitLab's own tokens.")
	}
	return nil
}

// gitlabDefinition reads HOST/PROJECT//PATH@REF. A definition of another project
// is named with that project.
func gitlabDefinition(w *lockkeeper.Workload, uri string) error {
	before, at, ok := cutLast(uri, "@")
	place, path, ok2 := strings.Cut(before, "//")
	if !ok || !ok2 || path == "" || at == "" || place == "" {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's ci_config_ref_uri names no definition.").WithNext("Use GitLab's own tokens.")
	}
	if _, project, ok := strings.Cut(place, "/"); !ok || project != w.RepositoryName.Value {
		path = place + "//" + path
	}
	w.DefinitionPath, w.DefinitionRef = lockkeeper.SignedFact(path), lockkeeper.SignedFact(at)
	return nil
}

func truth(s string) bool { return s == "true" || s == "false" }
