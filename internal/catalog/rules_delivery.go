package catalog

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of the resources that deliver.
const (
	maxStages    = 64
	maxEvents    = 32
	maxRefs      = 64
	maxChecks    = 16
	maxApprovals = 20
	maxAudiences = 10
	maxAudience  = 255
	maxLease     = 12 * time.Hour
	maxPatience  = 30 * 24 * time.Hour
	maxLifetime  = time.Hour
	maxRecordAge = 365 * 24 * time.Hour
)

// issuerUnfit says what is wrong with the URL of an issuer, or "". Tokens name
// their issuer by this very text, so there must be one spelling of it.
func issuerUnfit(s string) string {
	if s == "" {
		return "is missing"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || len(s) > 255 || strings.ContainsAny(s, " \\") || u.String() != s:
		return "is not an absolute URL in its plain spelling"
	case u.User != nil:
		return "has user information in it"
	case strings.ContainsAny(s, "?#"):
		return "has a query or a fragment"
	case strings.HasSuffix(s, "/"):
		return "ends with a slash"
	case u.Host != strings.ToLower(u.Host):
		return "has upper-case letters in its host"
	case strings.ContainsFunc(u.Hostname(), func(c rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-._:", c) }):
		return "has characters in its host that no host's name has; one IP address or one name is meant, no pattern"
	case u.Scheme == "https":
		return ""
	case u.Scheme != "http":
		return "must begin with https://"
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return ""
	}
	return "must begin with https://; http is for loopback addresses only"
}

func (v *rules) audience(r *resource, path, s string) {
	if s == "" || len(s) > maxAudience || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		v.add(r, path, "audience_unfit", fmt.Sprintf("The audience %s must be 1 to %d printable ASCII characters without blanks.", name(s), maxAudience), "Write it as the target expects it in a token.")
	}
}

func (v *rules) bounded(r *resource, path string, n, most int) {
	switch {
	case n == 0:
		v.add(r, path, "field_missing", fmt.Sprintf("The field %s is missing or empty: %s needs at least one entry.", path, r.key), "Add one.")
	case n > most:
		v.add(r, path, "too_many_entries", fmt.Sprintf("The field %s has %d entries, more than %d.", path, n, most), "Keep fewer.")
	}
}

// pathUnfit says what is wrong with a path in a repository, or "".
func pathUnfit(s string) string {
	switch {
	case s == "":
		return "is missing"
	case len(s) > 255 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' || c == '@' }):
		return "is too long or has an unfit character"
	case strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/"):
		return "begins or ends with a slash"
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part == "." || part == ".." {
			return "has an empty part, . or .. in it"
		}
	}
	return ""
}

func (v *rules) ref(r *resource, path, ref string) {
	short, heads := strings.CutPrefix(ref, "refs/heads/")
	if !heads {
		var tags bool
		if short, tags = strings.CutPrefix(ref, "refs/tags/"); !tags {
			short = ""
		}
	}
	switch {
	case strings.ContainsAny(ref, "*?["):
		v.add(r, path, "ref_wildcard", "The ref "+name(ref)+" has a wildcard; refs are exact.", "List each ref: a pattern admits branches that nobody has made yet.")
	case short == "":
		mend := "Write refs/heads/BRANCH or refs/tags/TAG."
		if ref != "" && !strings.HasPrefix(ref, "refs/") {
			mend = "Write refs/heads/" + clip(ref, 80) + " or refs/tags/" + clip(ref, 80) + "."
		}
		if secret(ref, false) {
			mend = "Write refs/heads/BRANCH or refs/tags/TAG."
		}
		v.add(r, path, "ref_not_full", "The ref "+name(ref)+" is not full.", mend)
	case len(ref) > 255 || strings.ContainsFunc(ref, func(c rune) bool { return c <= ' ' || c == 0x7f }) || strings.ContainsAny(ref, "~^:\\") ||
		strings.Contains(ref, "..") || strings.Contains(ref, "//") || strings.Contains(ref, "@{") || strings.HasSuffix(ref, "/") || strings.HasSuffix(ref, ".") || strings.HasSuffix(ref, ".lock"):
		v.add(r, path, "ref_unfit", "The ref "+name(ref)+" cannot exist in git.", "Write it as git for-each-ref shows it.")
	}
}

func (v *rules) identity(r *resource, id *Identity) {
	env, foundEnv := v.ownEnvironment(r, id)
	switch {
	case len(id.Audiences) == 0 || len(id.Audiences) > maxAudiences:
		v.bounded(r, "audiences", len(id.Audiences), maxAudiences)
	default:
		for i, a := range id.Audiences {
			v.audience(r, fmt.Sprintf("audiences[%d]", i), a)
		}
	}
	v.within(r, "lifetime", id.Lifetime, time.Second, maxLifetime)
	if foundEnv {
		v.lifetime(r, id, env)
	}
	v.bounded(r, "stages", len(id.Stages), maxStages)
	var pipeline *resource
	for i, s := range id.Stages {
		at := fmt.Sprintf("stages[%d]", i)
		p, stage, ok := v.ownStage(r, at, id.Project, s)
		if !ok {
			continue
		}
		if pipeline != nil && pipeline != p {
			v.add(r, at, "identity_shared", fmt.Sprintf("The identity %s belongs to pipeline %s already, and one identity serves one pipeline.", id.Name, pipeline.key.Name), "Make an identity and an environment for each pipeline.")
		}
		if pipeline == nil && foundEnv {
			v.factsKnown(id, p, env)
		}
		if pipeline == nil {
			pipeline = p
		}
		if foundEnv && env.Tier != Development {
			v.outsiderEvents(p, stage, env)
			v.toldApart(p, stage, env)
		}
	}
}

// lifetime refuses what no token can live: a token ends with its lease, whose end
// lies a heartbeat ahead at most.
func (v *rules) lifetime(r *resource, id *Identity, env Environment) {
	life, lease, beat := time.Duration(id.Lifetime), env.LeaseLimit(), env.Beat()
	switch {
	case lease >= time.Second && life > lease:
		v.add(r, "lifetime", "lifetime_beyond_lease", fmt.Sprintf("A token would live %s, longer than a lease on %s (%s).", life, id.Environment, lease), "Shorten the lifetime; no token outlives its lease.")
	case v.written && beat >= leastBeat && life > beat:
		v.add(r, "lifetime", "lifetime_beyond_heartbeat", fmt.Sprintf("A token would live %s; it ends with its lease, and a holder of a lease on %s that is silent for %s loses it, so no token lives longer than that.", life, id.Environment, beat),
			"Shorten the lifetime to the environment's heartbeat, or leave it out; or lengthen the heartbeat.")
	}
}

// ownEnvironment is the identity's environment, which lies in its own project.
func (v *rules) ownEnvironment(r *resource, id *Identity) (Environment, bool) {
	if v.elsewhere(r, "environment", EnvironmentKind, id.Project, id.Environment) {
		return Environment{}, false
	}
	if !v.reference(r, "environment", Key{EnvironmentKind, id.Project, id.Environment}) {
		return Environment{}, false
	}
	env, ok := v.c.Environments[lockkeeper.EnvironmentScope(id.Project, id.Environment)]
	return env, ok
}

// elsewhere reports a name that only another project has.
func (v *rules) elsewhere(r *resource, path string, kind Kind, project, named string) bool {
	_, last, slash := strings.Cut(named, "/")
	foreign := slash
	if !slash && named != "" && !v.exists(Key{kind, project, named}) {
		v.problems.compared += len(v.known)
		for k := range v.known {
			if v.problems.compared > maxComparisons {
				break
			}
			foreign = foreign || k.Kind == kind && k.Name == named
		}
		last = named
	}
	if foreign {
		v.add(r, path, "identity_of_other_project", fmt.Sprintf("The %s %s is not of project %s, and an identity stays in its project.", strings.ToLower(string(kind)), name(last), name(project)), "Name one of the identity's own project.")
	}
	return foreign
}

// ownStage resolves PIPELINE/STAGE in the identity's own project.
func (v *rules) ownStage(r *resource, at, project, s string) (*resource, Stage, bool) {
	pipeline, stage, ok := strings.Cut(s, "/")
	if !ok || pipeline == "" || stage == "" {
		v.add(r, at, "stage_unfit", name(s)+" must be PIPELINE/STAGE.", "Write for instance release/deploy.")
		return nil, Stage{}, false
	}
	if strings.Contains(stage, "/") {
		v.add(r, at, "identity_of_other_project", name(s)+" must be PIPELINE/STAGE of the identity's own project.", "Leave the project out; an identity stays in its project.")
		return nil, Stage{}, false
	}
	if v.elsewhere(r, at, PipelineKind, project, pipeline) || !v.reference(r, at, Key{PipelineKind, project, pipeline}) {
		return nil, Stage{}, false
	}
	p := v.known[Key{PipelineKind, project, pipeline}]
	if !v.stage(r, at, p, stage) {
		return nil, Stage{}, false
	}
	if value, isPipeline := p.value.(*Pipeline); isPipeline && p.good {
		for _, st := range value.Stages {
			if st.Name == stage {
				return p, st, true
			}
		}
	}
	return p, Stage{}, true
}

// outsiderEvents are events whose run somebody outside can cause, or fill with
// content of his own.
var outsiderEvents = []string{"pull_request", "pull_request_target", "workflow_run", "issue_comment",
	"pull_request_review", "pull_request_review_comment", "issues", "discussion", "discussion_comment", "fork", "watch",
	"merge_request_event", "external_pull_request_event", // GitLab
	"pullRequest", "buildCompletion", "resourceTrigger"} // Azure DevOps

func (v *rules) outsiderEvents(p *resource, s Stage, env Environment) {
	pipeline, ok := p.value.(*Pipeline)
	if !ok {
		return
	}
	i := slices.IndexFunc(pipeline.Stages, func(o Stage) bool { return o.Name == s.Name })
	for j, e := range s.Trust.Events {
		if slices.Contains(outsiderEvents, e) {
			v.add(p, fmt.Sprintf("stages[%d].trust.events[%d]", i, j), "event_unsafe",
				fmt.Sprintf("Anybody outside can cause the event %s, and the stage %s may hold the identity of %s (%s).", e, s.Name, env.Name, env.Tier),
				"Take the event out, or move what it needs into a stage without that identity.")
		}
	}
}
