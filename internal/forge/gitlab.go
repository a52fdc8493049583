package forge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A GitLab is one account of Lockkeeper's on a GitLab server: that of an access token of
// a project or group, with the role Developer and the scope api, which the environment's
// approval rule names. GitLab knows no application with a key of its own, so the token is
// a secret that lasts: it is read at each call, so that it can be changed at any time.
//
// GitLab holds a deployment, and each is of one job. An Asking's Mark is that job; which
// pipeline it is of is read.
type GitLab struct {
	Provider string // name in the catalog
	Issuer   string // of the provider's tokens
	API      string // https://gitlab.com/api/v4
	App      string // the account's number
	Key      func() ([]byte, error)
	Client   *http.Client // default: one that follows no redirect
}

// Bounds of what is asked for.
const (
	deploymentsAPage = 100
	maxPages         = 10
	maxApprovalText  = 255 // GitLab takes no longer comment
)

// gitlabJob is what is read of a job (docs.gitlab.com, "Jobs API").
type gitlabJob struct {
	ID       int64               `json:"id"`
	Status   string              `json:"status"`
	Ref      string              `json:"ref"`
	Tag      bool                `json:"tag"`
	User     gitlabUser          `json:"user"`
	Commit   struct{ ID string } `json:"commit"`
	Pipeline struct {
		ID      int64  `json:"id"`
		Project int64  `json:"project_id"`
		Commit  string `json:"sha"`
	} `json:"pipeline"`
}

type gitlabUser struct {
	ID   int64  `json:"id"`
	Name string `json:"username"`
}

// gitlabDeployment is what is read of a deployment (docs.gitlab.com, "Deployments API").
type gitlabDeployment struct {
	ID          int64                 `json:"id"`
	Status      string                `json:"status"`
	Ref         string                `json:"ref"`
	Commit      string                `json:"sha"`
	Environment struct{ Name string } `json:"environment"`
	Deployable  struct{ ID int64 }    `json:"deployable"`
	Pending     int                   `json:"pending_approval_count"`
	Approvals   []gitlabApproval      `json:"approvals"`
	Summary     struct {
		Rules []struct {
			Required  int              `json:"required_approvals"`
			Approvals []gitlabApproval `json:"deployment_approvals"`
		} `json:"rules"`
	} `json:"approval_summary"`
}

type gitlabApproval struct {
	User   gitlabUser `json:"user"`
	Status string     `json:"status"`
}

// held reports whether the deployment waits for an approval. A manual job's is blocked
// too, and waits for nobody's.
func (d gitlabDeployment) held() bool {
	pending := d.Pending > 0
	for _, r := range d.Summary.Rules {
		given := 0
		for _, a := range r.Approvals {
			if a.Status == "approved" {
				given++
			}
		}
		pending = pending || given < r.Required
	}
	return d.Status == "blocked" && pending
}

// gitlabPipeline is what is read of a pipeline (docs.gitlab.com, "Pipelines API").
type gitlabPipeline struct {
	ID      int64      `json:"id"`
	Project int64      `json:"project_id"`
	Commit  string     `json:"sha"`
	Ref     string     `json:"ref"`
	Tag     bool       `json:"tag"`
	Source  string     `json:"source"`
	User    gitlabUser `json:"user"`
}

type gitlabProject struct {
	ID        int64  `json:"id"`
	Path      string `json:"path_with_namespace"`
	Namespace struct {
		ID   int64  `json:"id"`
		Path string `json:"full_path"`
	} `json:"namespace"`
	Config json.RawMessage `json:"ci_config_path"` // absent: it is not told; null or "": the default
}

// Look reads all that the platform knows of the job: its deployment twice, so that what
// is between is of one state.
func (g *GitLab) Look(ctx context.Context, a Asking) (Look, error) {
	if err := g.self(ctx); err != nil {
		return Look{}, err
	}
	out, job, err := g.follow(ctx, a)
	if err != nil || !out.Held {
		return out, err
	}
	if out.Job, err = g.workload(ctx, a, job); err != nil {
		return Look{}, err
	}
	again, now, err := g.follow(ctx, a)
	if err != nil {
		return Look{}, err
	}
	if !again.Held || now.Commit != job.Commit || now.Pipeline != job.Pipeline || now.User != job.User {
		return Look{}, &Problem{"run_moved", "The job became another while it was read.", false}
	}
	return out, nil
}

// Follow reads whether the job is held still and how it went. Every job is a first
// attempt: one that is run again has another number.
func (g *GitLab) Follow(ctx context.Context, a Asking) (Look, error) {
	out, _, err := g.follow(ctx, a)
	return out, err
}

// gitlabOutcomes are the states of a job that has ended.
var gitlabOutcomes = map[string]string{"success": "success", "failed": "failure", "canceled": "cancelled", "skipped": "cancelled"}

func (g *GitLab) follow(ctx context.Context, a Asking) (Look, gitlabJob, error) {
	job, err := g.job(ctx, a)
	if err != nil {
		return Look{}, job, err
	}
	out := Look{Job: lockkeeper.Workload{Attempt: 1}, Outcome: gitlabOutcomes[job.Status]}
	out.Over = out.Outcome != ""
	if job.Status != "manual" { // it runs, or has ended: nothing holds it
		return out, job, nil
	}
	d, found, err := g.deployment(ctx, a)
	if err != nil {
		return Look{}, job, err
	}
	if found && (d.Commit != job.Commit.ID || d.Ref != job.Ref) {
		return Look{}, job, differs("The deployment is of another commit or ref than its job.")
	}
	out.Held = found && d.held()
	return out, job, nil
}

func differs(reason string) *Problem { return &Problem{"run_differs", reason, true} }

// project is where the API has the project: by its id, which no renaming changes.
func (a Asking) project() string { return "/projects/" + url.PathEscape(a.Repository) }

// job reads the job and holds it against what the message said.
func (g *GitLab) job(ctx context.Context, a Asking) (gitlabJob, error) {
	var j gitlabJob
	if err := g.get(ctx, a.project()+"/jobs/"+url.PathEscape(a.Mark), &j); err != nil {
		return j, err
	}
	if id(j.ID) != a.Mark || id(j.Pipeline.Project) != a.Repository {
		return j, differs("The job that the platform knows by this number is not of the project that asked.")
	}
	if !commit(j.Commit.ID) || j.Commit.ID != j.Pipeline.Commit || id(j.Pipeline.ID) == "" || id(j.User.ID) == "" || j.Ref == "" {
		return j, &Problem{"answer_malformed", "The platform's answer about the job lacks its commit, pipeline, ref or user.", false}
	}
	return j, nil
}

// deployment finds the blocked deployment of the job, with its approvals.
func (g *GitLab) deployment(ctx context.Context, a Asking) (gitlabDeployment, bool, error) {
	query := url.Values{"status": {"blocked"}, "environment": {a.Environment}, "order_by": {"id"}, "sort": {"desc"}, "per_page": {fmt.Sprint(deploymentsAPage)}}
	for page := range maxPages {
		query.Set("page", fmt.Sprint(page+1))
		var list []gitlabDeployment
		if err := g.get(ctx, a.project()+"/deployments?"+query.Encode(), &list); err != nil {
			return gitlabDeployment{}, false, err
		}
		for _, d := range list {
			if id(d.Deployable.ID) == a.Mark && d.Environment.Name == a.Environment {
				return g.approvals(ctx, a, d.ID)
			}
		}
		if len(list) < deploymentsAPage {
			return gitlabDeployment{}, false, nil
		}
	}
	return gitlabDeployment{}, false, &Problem{"deployments_many", fmt.Sprintf("More than %d deployments of the environment are blocked.", maxPages*deploymentsAPage), false}
}

// approvals reads one deployment, of which a list does not tell the approvals.
func (g *GitLab) approvals(ctx context.Context, a Asking, number int64) (gitlabDeployment, bool, error) {
	var d gitlabDeployment
	if err := g.get(ctx, a.project()+"/deployments/"+id(number), &d); err != nil {
		return d, false, err
	}
	if d.ID != number || id(number) == "" || id(d.Deployable.ID) != a.Mark || d.Environment.Name != a.Environment {
		return d, false, differs("The deployment that the platform knows by this number is of another job or environment.")
	}
	return d, true, nil
}

// self holds the account of the access token against the catalog's.
func (g *GitLab) self(ctx context.Context) error {
	var u gitlabUser
	if err := g.get(ctx, "/user", &u); err != nil {
		return err
	}
	if id(u.ID) != g.App {
		return &Problem{"account_differs", "The access token is of another account than the catalog's app.", false}
	}
	return nil
}

// workload is what the API proves of the job that waits. It has no runner yet, so it is
// taken for one on anybody's. Whoever ran the job again stands behind it, and whoever
// started its pipeline, too.
func (g *GitLab) workload(ctx context.Context, a Asking, j gitlabJob) (lockkeeper.Workload, error) {
	looked := func(s string) lockkeeper.Fact { return lockkeeper.Fact{Value: s, Mark: lockkeeper.LookedUp} }
	var p gitlabPipeline
	var in gitlabProject
	if err := g.get(ctx, a.project()+"/pipelines/"+id(j.Pipeline.ID), &p); err != nil {
		return lockkeeper.Workload{}, err
	}
	if err := g.get(ctx, a.project(), &in); err != nil {
		return lockkeeper.Workload{}, err
	}
	switch {
	case p.ID != j.Pipeline.ID || id(p.Project) != a.Repository || p.Commit != j.Commit.ID || p.Ref != j.Ref || p.Tag != j.Tag || id(in.ID) != a.Repository:
		return lockkeeper.Workload{}, differs("Job, pipeline and project do not fit together.")
	case p.Source == "" || id(p.User.ID) == "" || id(in.Namespace.ID) == "" || !pathFit(in.Path):
		return lockkeeper.Workload{}, &Problem{"answer_malformed", "The platform's answer about the pipeline or project lacks source, user, namespace or path.", false}
	}
	w := lockkeeper.Workload{Provider: g.Provider, Platform: "gitlab", Issuer: g.Issuer, Attempt: 1,
		Organisation: looked(id(in.Namespace.ID)), OrganisationName: looked(in.Namespace.Path), Repository: looked(a.Repository), RepositoryName: looked(in.Path),
		Run: looked(id(p.ID)), Job: looked(a.Mark), Event: looked(p.Source), Commit: looked(p.Commit), Environment: looked(a.Environment), EnvironmentProtected: looked("true"),
		Runner: looked("self_hosted"), Actor: looked(id(j.User.ID)), ActorName: looked(j.User.Name)}
	if p.User.ID != j.User.ID {
		w.QueuedBy = looked(id(p.User.ID))
	}
	if !slices.Contains(gitlabSources, p.Source) {
		return w, nil
	}
	kind, ref, protected, err := g.ref(ctx, a, p)
	if err != nil || ref == "" {
		return w, err
	}
	w.Ref, w.RefType, w.RefProtected = looked(ref), looked(kind), looked(fmt.Sprint(protected))
	if path := definition(in.Config); path != "" {
		w.DefinitionPath, w.DefinitionRef, w.DefinitionCommit = looked(path), looked(ref), looked(p.Commit)
	}
	return w, nil
}

// gitlabSources are those of pipelines that run the project's own definition, at the
// commit of a branch or tag of its own. What another pipeline generates, a policy adds or
// a merge request brings is none.
var gitlabSources = []string{"push", "web", "schedule", "api", "trigger"}

// ref is the branch or tag that the pipeline is of, if it is still there, and whether
// GitLab protects it.
func (g *GitLab) ref(ctx context.Context, a Asking, p gitlabPipeline) (kind, full string, protected bool, err error) {
	kind, full, place := "branch", "refs/heads/"+p.Ref, "/repository/branches/"
	if p.Tag {
		kind, full, place = "tag", "refs/tags/"+p.Ref, "/repository/tags/"
	}
	if !branchFit(p.Ref) || strings.HasPrefix(p.Ref, "refs/") {
		return "", "", false, nil
	}
	var found struct {
		Name      string `json:"name"`
		Protected *bool  `json:"protected"`
	}
	status, err := g.call(ctx, call{method: http.MethodGet, address: a.project() + place + url.PathEscape(p.Ref), into: &found})
	switch {
	case status == http.StatusNotFound:
		return "", "", false, nil
	case err != nil:
		return "", "", false, err
	case found.Name != p.Ref || found.Protected == nil:
		return "", "", false, &Problem{"answer_malformed", "The platform answered about another ref than the one that it was asked for.", false}
	}
	return kind, full, *found.Protected, nil
}

// definition is where the project's setting says that its definition is. One that lies
// elsewhere has its own commits, of which nothing is read: then there is none.
func definition(setting json.RawMessage) string {
	var path *string
	if len(setting) == 0 || json.Unmarshal(setting, &path) != nil {
		return ""
	}
	switch {
	case path == nil || *path == "":
		return ".gitlab-ci.yml"
	case strings.ContainsAny(*path, "@:") || len(*path) > 255:
		return ""
	}
	return *path
}

// Tell answers for a job that is held. What GitLab has of this account already is not
// said again.
func (g *GitLab) Tell(ctx context.Context, a Asking, approve bool, comment string) error {
	state := "rejected"
	if approve {
		state = "approved"
	}
	if err := g.self(ctx); err != nil {
		return err
	}
	d, found, err := g.deployment(ctx, a)
	if err != nil {
		return err
	}
	if !found {
		return &Problem{"nothing_waits", "The platform has no blocked deployment of this job.", true}
	}
	if d.says(g.App, state) {
		return nil
	}
	var said gitlabApproval
	status, err := g.call(ctx, call{method: http.MethodPost, address: a.project() + "/deployments/" + id(d.ID) + "/approval",
		body: map[string]string{"status": state, "comment": gitlabComment(comment)}, into: &said})
	if p, is := err.(*Problem); is && (status == http.StatusBadRequest || status == http.StatusNotFound) {
		return &Problem{p.Code, p.Reason, true}
	}
	if err == nil && (said.Status != state || id(said.User.ID) != g.App) {
		return &Problem{"answer_malformed", "The platform took another answer than the one that it was given.", false}
	}
	return err
}

// gitlabComment is a comment that GitLab takes. What stands in brackets at its end names
// what the answer belongs to, and is kept.
func gitlabComment(s string) string {
	end := ""
	if i := strings.LastIndex(s, " ["); i >= 0 && len(s)-i <= maxApprovalText/2 && strings.HasSuffix(s, "]") {
		s, end = s[:i], s[i:]
	}
	return clipTo(s, maxApprovalText-len(end)) + end
}

// says reports whether an account has said so of the deployment.
func (d gitlabDeployment) says(account, state string) bool {
	all := slices.Clone(d.Approvals)
	for _, r := range d.Summary.Rules {
		all = append(all, r.Approvals...)
	}
	return slices.ContainsFunc(all, func(a gitlabApproval) bool { return id(a.User.ID) == account && a.Status == state })
}

// Status says nothing: GitLab has no place for it beside a blocked deployment.
func (g *GitLab) Status(context.Context, Asking, string) error { return nil }

func (g *GitLab) get(ctx context.Context, path string, into any) error {
	_, err := g.call(ctx, call{method: http.MethodGet, address: path, into: into})
	return err
}

// call makes one call of a path of the API with the access token.
func (g *GitLab) call(ctx context.Context, c call) (int, error) {
	file, err := g.Key()
	if err != nil {
		return 0, err
	}
	token := strings.TrimSpace(string(file))
	if token == "" || len(token) > 1024 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return 0, &Problem{"key_unfit", "The application's key file holds no access token.", true}
	}
	c.address, c.head = strings.TrimSuffix(g.API, "/")+c.address, map[string]string{"PRIVATE-TOKEN": token, "Accept": "application/json"}
	return send(ctx, g.Client, c)
}
