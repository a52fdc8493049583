package identity

import (
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// github reads the claims of GitHub Actions (docs.github.com, "OpenID Connect
// reference"). sub is never used: it is made of names, and its format can be
// changed by the repository.
func github(w *lockkeeper.Workload, c token.Claims, _ Issuer) error {
	for _, f := range []struct {
		name string
		to   *lockkeeper.Fact
		fit  func(string) bool // nil: the claim may be absent
	}{
		{"repository_owner_id", &w.Organisation, digits}, {"repository_owner", &w.OrganisationName, word},
		{"repository_id", &w.Repository, digits}, {"repository", &w.RepositoryName, word},
		{"run_id", &w.Run, digits}, {"check_run_id", &w.Job, digits}, {"event_name", &w.Event, word},
		{"ref", &w.Ref, fullRef}, {"ref_type", &w.RefType, word}, {"sha", &w.Commit, commit},
		{"actor_id", &w.Actor, digits}, {"actor", &w.ActorName, word},
		{"workflow_sha", &w.DefinitionCommit, commit}, {"environment", &w.Environment, nil}, {"runner_environment", &w.Runner, word},
	} {
		v, err := fact(c, f.name)
		if err != nil {
			return err
		}
		if f.fit != nil && !f.fit(v.Value) {
			return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's claim %s is missing or malformed.", f.name).
				WithNext("Use GitHub's own tokens; a server of an older version may not send it.")
		}
		*f.to = v
	}
	attempt, err := needed(c, "run_attempt")
	if err != nil {
		return err
	}
	if w.Attempt, err = strconv.Atoi(attempt); err != nil || w.Attempt < 1 || strconv.Itoa(w.Attempt) != attempt {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's claim run_attempt is no number from 1.")
	}
	if kind := map[string]string{"branch": "refs/heads/", "tag": "refs/tags/"}[w.RefType.Value]; w.Event.Value != "pull_request" && (kind == "" || !strings.HasPrefix(w.Ref.Value, kind)) {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's ref_type does not fit its ref.")
	}
	switch w.Runner.Value {
	case "github-hosted":
		w.Runner = lockkeeper.SignedFact("hosted")
	case "self-hosted":
		w.Runner = lockkeeper.SignedFact("self_hosted")
	default:
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's runner_environment is unknown.")
	}
	return definition(w, c)
}

// definition reads workflow_ref and job_workflow_ref: owner/repo/path@ref.
func definition(w *lockkeeper.Workload, c token.Claims) error {
	ref, err := needed(c, "workflow_ref")
	if err != nil {
		return err
	}
	own, rest, ok := strings.Cut(ref, w.RepositoryName.Value+"/")
	path, at, ok2 := cutLast(rest, "@refs/")
	if !ok || own != "" || !ok2 || path == "" {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's workflow_ref is not of its own repository.")
	}
	w.DefinitionPath, w.DefinitionRef = lockkeeper.SignedFact(path), lockkeeper.SignedFact("refs/"+at)
	called, err := fact(c, "job_workflow_ref")
	if err != nil || !called.Known() || called.Value == ref {
		return err
	}
	path, at, ok = cutLast(called.Value, "@")
	if !ok || path == "" || at == "" {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's job_workflow_ref names no ref.")
	}
	w.CalledPath, w.CalledRef = lockkeeper.SignedFact(path), lockkeeper.SignedFact(at)
	w.CalledCommit, err = fact(c, "job_workflow_sha")
	return err
}

// cutLast cuts at the last separator: a path may hold one, a ref after the
// last cannot begin with one.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func digits(s string) bool {
	return s != "" && len(s) <= 20 && strings.Trim(s, "0123456789") == ""
}
func word(s string) bool    { return s != "" }
func fullRef(s string) bool { return strings.HasPrefix(s, "refs/") && len(s) > len("refs/") }
func commit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
