package web

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
)

// TestAttacksOnContext are A12 to A16: the right repository at the wrong moment,
// by the wrong event, in the wrong job.
func TestAttacksOnContext(t *testing.T) {
	a := newArena(t)
	t.Run("A12_forks_and_events_of_outsiders", func(t *testing.T) { outsiders(t, a) })
	t.Run("A13_build_asks_for_the_deploy_identity", func(t *testing.T) {
		otherJobs(t, a)
		otherStages(t, a)
	})
	t.Run("A14_reusable_workflows", func(t *testing.T) { reusable(t, a) })
	t.Run("A15_after_the_approval", func(t *testing.T) {
		secondAttempt(t, a)
		withdrawn(t, a)
		endedRuns(t, a)
	})
	t.Run("A16_deleted_and_unprotected", func(t *testing.T) { unprotected(t, a) })
	t.Run("A15_lease_ended_by_the_clock", func(t *testing.T) { // the last: the clock never goes back
		j := a.job("push", "production")
		long := map[string]any{"exp": time.Now().Unix() + 7200}
		d := a.running(j, handle)
		a.takes(t, "an exchange under the lease", a.exchanges(a.token(j, long), d.ID, nil))
		a.ahead.Add(int64(6 * time.Minute)) // past the heartbeat
		// By arithmetic, or as it was written down already.
		a.refused(t, inJournal, "an exchange after the lease", "lease_ended|deployment_ended", a.exchanges(a.token(j, long), d.ID, nil))
	})
}

// outsiders are runs that somebody outside can cause, or fill with content.
func outsiders(t *testing.T, a *arena) {
	event := func(name, ref string, more map[string]any) string {
		c := map[string]any{"event_name": name, "ref": ref, "base_ref": "main", "head_ref": "main", "actor": "mallory", "actor_id": "6666"}
		maps.Copy(c, more)
		return a.github("production", c)
	}
	a.refused(t, inJournal, "a pull request of a fork", "event_not_admitted", a.opens(event("pull_request", "refs/pull/7/merge", nil), "production"))
	a.refused(t, inJournal, "a pull request that says it is of the branch", "event_not_admitted", a.opens(event("pull_request", "refs/heads/main", nil), "production"))
	for _, name := range []string{"pull_request_target", "workflow_run", "issue_comment", "pull_request_review", "schedule", "workflow_call"} {
		a.refused(t, inJournal, name, "event_not_admitted", a.opens(event(name, "refs/heads/main", nil), "production"))
	}
	a.refused(t, inJournal, "a push in the fork", "repository_unknown", a.opens(event("push", "refs/heads/main", map[string]any{"repository_id": "8666", "repository_owner_id": "6666"}), "production"))
	a.refused(t, inJournal, "an event in another case", "event_not_admitted", a.opens(event("Push", "refs/heads/main", nil), "production"))
	a.refused(t, inJournal, "a runner of their own", "runner_not_admitted", a.opens(a.github("production", map[string]any{"runner_environment": "self-hosted"}), "production"))
	a.refused(t, inLog, "an unknown kind of runner", "claim_malformed", a.opens(a.github("production", map[string]any{"runner_environment": "GitHub-hosted"}), "production"))

	merge := map[string]any{"pipeline_source": "merge_request_event", "ref_path": "refs/merge-requests/1/head"}
	a.refused(t, inJournal, "GitLab, a merge request of a branch", "event_not_admitted", a.opens(a.gitlab(merge), "lab"))
	fork := map[string]any{"project_id": "99", "namespace_id": "98", "project_path": "mallory/payments", "namespace_path": "mallory"}
	maps.Copy(fork, merge)
	a.refused(t, inJournal, "GitLab, a merge request of a fork, run in the parent", "repository_unknown", a.opens(a.gitlab(fork), "lab"))
	a.refused(t, inJournal, "GitLab, a runner of their own", "runner_not_admitted", a.opens(a.gitlab(map[string]any{"runner_environment": "self-hosted"}), "lab"))
	for _, source := range []string{"external_pull_request_event", "trigger", "pipeline", "schedule", "web"} {
		a.refused(t, inJournal, "GitLab, "+source, "event_not_admitted", a.opens(a.gitlab(map[string]any{"pipeline_source": source}), "lab"))
	}
	a.refused(t, inJournal, "CircleCI, a fork that gets secrets", "rule_false", a.opens(a.circle(map[string]any{"oidc.circleci.com/vcs-origin": "https://github.com/mallory/payments"}), "circle"))
	a.refused(t, inJournal, "CircleCI, no origin", "rule_error", a.opens(a.circle(map[string]any{"oidc.circleci.com/vcs-origin": nil}), "circle"))

	// Nor does a catalog let them in where there is an identity to be had.
	for _, name := range []string{"pull_request", "pull_request_target", "workflow_run", "issue_comment"} {
		a.refused(t, inLog, "a catalog that admits "+name, "catalog_invalid", func() error {
			return a.apply("trust: {environment: production, events: [push], refs: [refs/heads/main]}\n", "trust: {environment: production, events: [push, "+name+"], refs: [refs/heads/main]}\n")
		})
	}
}

// otherJobs are jobs of the same run, by all that a token says but the job.
func otherJobs(t *testing.T, a *arena) {
	build := a.job("push", "")
	a.refused(t, inJournal, "the build stage asks", "stage_not_named", a.opens(a.token(build, nil), "production"))
	j := a.job("push", "production")
	d := a.running(j, handle)
	a.refused(t, inJournal, "the build stage claims", "ask_differs", a.claims(a.client(a.token(build, nil)), d.ID, handle))
	a.refused(t, inJournal, "the build stage with the handle", "ask_differs", a.exchanges(a.token(build, nil), d.ID, nil))
	other := a.job("push", "production")
	a.refused(t, inJournal, "another job of the workflow with the handle", "lease_of_another", a.exchanges(a.token(other, nil), d.ID, nil))
	a.refused(t, inJournal, "another job of the workflow claims", "job_differs", a.claims(a.client(a.token(other, nil)), d.ID, handle))
	j2 := j
	j2.Run = "9002"
	a.refused(t, inJournal, "the same job's id in another run", "ask_differs", a.exchanges(a.token(j2, nil), d.ID, nil))
	a.takes(t, "the job itself", a.exchanges(a.token(j, nil), d.ID, nil))

	mine := a.gitlab(nil)
	lab := a.released(t, mine, "", "lab")
	a.takes(t, "GitLab, the job itself", a.exchanges(mine, lab.ID, nil))
	a.refused(t, inJournal, "GitLab, another job of the pipeline", "lease_of_another", a.exchanges(a.gitlab(nil), lab.ID, nil))
	a.refused(t, inJournal, "GitLab, the job without an environment", "environment_differs", a.exchanges(a.gitlab(map[string]any{"environment": nil, "environment_protected": nil}), lab.ID, nil))
	pod := a.pod("ci", robot)
	pods := a.released(t, pod, "", "pods")
	a.refused(t, inJournal, "Kubernetes, another pod", "ask_differs", a.exchanges(a.pod("ci", robot), pods.ID, nil))
	a.takes(t, "Kubernetes, the pod itself", a.exchanges(pod, pods.ID, nil))
}

// otherStages are the stages of one run on Azure DevOps, whose tokens look the
// same: the look-up of the run tells them apart.
func otherStages(t *testing.T, a *arena) {
	looking := func() api.Client {
		c := a.client(a.devops(nil))
		c.Access = a.azure.Access
		return c
	}
	d := a.released(t, a.devops(nil), a.azure.Access, "devops")
	work := func(stage, job, state string, started any) {
		a.azure.Record(stage, "state", state)
		a.azure.Record(stage, "startTime", started)
		a.azure.Record(job, "state", state)
		a.azure.Record(job, "startTime", started)
	}
	before := time.Now().Add(-5 * time.Minute).UTC().Format(time.RFC3339Nano)
	open := func(c api.Client) func() error { return func() error { _, err := a.ask(c, "devops"); return err } }

	a.azure.Record("s1", "state", "inProgress")
	a.refused(t, inLog, "Azure DevOps, both stages are at work", "azure_stage_ambiguous", open(looking()))
	a.azure.Record("s1", "state", "completed")
	work("s2", "j2", "pending", nil)
	work("s1", "j1", "inProgress", before)
	a.refused(t, inJournal, "Azure DevOps, the build stage asks", "stage_not_named", open(looking()))
	a.refused(t, inJournal, "Azure DevOps, the build stage claims with the handle", "ask_differs", a.claims(looking(), d.ID, handle))
	work("s1", "j1", "completed", before)
	work("s2", "j2", "inProgress", before)
	a.refused(t, inJournal, "Azure DevOps, without a look-up", "event_not_admitted", open(a.client(a.devops(nil))))
	stranger := looking()
	stranger.Access = "another"
	a.refused(t, inLog, "Azure DevOps, with the access token of another", "azure_lookup_refused", open(stranger))
	a.takes(t, "Azure DevOps, the deploying stage", open(looking()))
}

// reusable are definitions that a job is called into.
func reusable(t *testing.T, a *arena) {
	const (
		path   = "acme/shared/.github/workflows/deploy.yml"
		pinned = "2222222222222222222222222222222222222222"
		moved  = "3333333333333333333333333333333333333333"
	)
	job := func(definition, environment, called, sha string, more map[string]any) string {
		j := a.job("push", environment)
		j.Workflow = ".github/workflows/" + definition
		c := map[string]any{"job_workflow_ref": called, "job_workflow_sha": sha}
		maps.Copy(c, more)
		return a.token(j, c)
	}
	a.takes(t, "the commit that is admitted", a.opens(job("shared.yml", "pinned", path+"@refs/tags/v1", pinned, nil), "pinned"))
	a.takes(t, "the tag that is admitted", a.opens(job("tagged.yml", "tagged", path+"@refs/tags/v1", moved, nil), "tagged"))
	a.refused(t, inJournal, "the right definition, called by a foreign repository", "repository_unknown",
		a.opens(job("shared.yml", "pinned", path+"@refs/tags/v1", pinned, map[string]any{"repository_id": "8666"}), "pinned"))
	for _, at := range []string{"refs/heads/main", "refs/heads/v1", "refs/heads/refs/tags/v1", "refs/tags/v1.0", "v1", moved} {
		a.refused(t, inJournal, "at "+at+" in the place of the tag", "template_not_pinned", a.opens(job("tagged.yml", "tagged", path+"@"+at, pinned, nil), "tagged"))
	}
	a.refused(t, inJournal, "a tag that was moved to another commit", "template_not_pinned", a.opens(job("shared.yml", "pinned", path+"@refs/tags/v1", moved, nil), "pinned"))
	a.refused(t, inJournal, "a ref that looks like the commit", "template_not_pinned", a.opens(job("shared.yml", "pinned", path+"@"+pinned, moved, nil), "pinned"))
	a.refused(t, inJournal, "no commit", "template_not_pinned", a.opens(job("shared.yml", "pinned", path+"@refs/tags/v1", "", map[string]any{"job_workflow_sha": nil}), "pinned"))
	for _, called := range []string{"evil/shared/.github/workflows/deploy.yml", "acme/shared/.github/workflows/evil.yml", "acme/payments/.github/workflows/deploy.yml", "acme/shared/.github/workflows/deploy.yml@refs/heads/x"} {
		a.refused(t, inJournal, "called into "+called, "called_differs", a.opens(job("shared.yml", "pinned", called+"@refs/tags/v1", pinned, nil), "pinned"))
	}
	a.refused(t, inJournal, "called into nothing", "called_differs", a.opens(a.at("shared.yml", "refs/heads/main", "pinned"), "pinned"))
	a.refused(t, inJournal, "called into something where nothing is admitted", "called_differs", a.opens(job("release.yml", "production", path+"@refs/tags/v1", pinned, nil), "production"))
	// Between the ask and the claim, the tag is moved.
	j := a.job("push", "tagged")
	j.Workflow = ".github/workflows/tagged.yml"
	token := func(sha string) string {
		return a.token(j, map[string]any{"job_workflow_ref": path + "@refs/tags/v1", "job_workflow_sha": sha})
	}
	d, err := a.ask(a.client(token(pinned)), "tagged")
	a.must(err)
	a.refused(t, inJournal, "the tag was moved after the ask", "ask_differs", a.claims(a.client(token(moved)), d.ID, handle))
	a.takes(t, "the commit of the ask", a.claims(a.client(token(pinned)), d.ID, handle))
}

// secondAttempt: an approval is for the attempt that asked.
func secondAttempt(t *testing.T, a *arena) {
	j := a.job("push", "production")
	d := a.waiting(j, handle)
	for _, user := range []string{"bob", "cat"} {
		a.must(a.people[user].Call(context.Background(), "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
	}
	again := j
	again.Attempt = 2
	a.refused(t, inJournal, "attempt 2 claims what was approved for attempt 1", "ask_differs", a.claims(a.client(a.token(again, nil)), d.ID, handle))
	again.Job = a.job("", "").Job
	a.refused(t, inJournal, "attempt 2 asks, and nobody vouches for who ran it again", "rerun_unknown", a.opens(a.token(again, nil), "production"))
	a.takes(t, "attempt 1 claims", a.claims(a.client(a.token(j, nil)), d.ID, handle))
	again.Job = j.Job
	a.refused(t, inJournal, "attempt 2 exchanges under the lease of attempt 1", "ask_differs", a.exchanges(a.token(again, nil), d.ID, nil))
}

// withdrawn: an approval counts while its giver may give it, and until it is
// taken back.
func withdrawn(t *testing.T, a *arena) {
	ctx := context.Background()
	approve := func(d api.Deployment) {
		for _, user := range []string{"bob", "cat"} {
			a.must(a.people[user].Call(ctx, "POST", "/deployments/"+d.ID+"/approve", api.Vote{Digest: d.Digest}, nil))
		}
	}
	withdraw := func(d api.Deployment) error {
		return a.people["cat"].Call(ctx, "POST", "/deployments/"+d.ID+"/withdraw", api.Withdraw{Comment: "not this one after all"}, nil)
	}
	j := a.job("push", "production")
	d := a.waiting(j, handle)
	approve(d)
	a.must(withdraw(d))
	a.refused(t, inLog, "a claim after an approval was withdrawn waits", "approvals_missing", a.claims(a.client(a.token(j, nil)), d.ID, handle))
	a.refused(t, inJournal, "an exchange without the lease", "lease_missing", a.exchanges(a.token(j, nil), d.ID, nil))
	d = a.running(j, handle)
	a.must(withdraw(d))
	a.refused(t, inJournal, "an exchange after an approval was withdrawn", "deployment_ended", a.exchanges(a.token(j, nil), d.ID, nil))
	d = a.waiting(j, handle)
	approve(d)
	a.must(a.people["cat"].Call(ctx, "POST", "/deployments/"+d.ID+"/reject", api.Vote{Digest: d.Digest, Comment: "not this one after all"}, nil))
	a.refused(t, inJournal, "a claim after an approver said no", "deployment_ended", a.claims(a.client(a.token(j, nil)), d.ID, handle))
	a.refused(t, inJournal, "an exchange after an approver said no", "deployment_ended", a.exchanges(a.token(j, nil), d.ID, nil))

	for what, c := range map[string]struct {
		from, to string
		claim    string // a claim that only waits is no refusal, so it is in the log alone
		recorded bool
	}{
		"an approver left the group":          {"users: [ann, bob, cat]", "users: [ann, bob]", "approvals_missing", inLog},
		"an approver was switched off":        {"name: cat\n", "name: cat\noff: true\n", "approvals_missing", inLog},
		"an approver turned out to be ann":    {"name: cat\n", "name: cat\nperson: ann\n", "approvals_missing", inLog},
		"more approvals are asked for":        {"count: 2", "count: 3", "approvals_missing", inLog},
		"the initiator lost his right":        {"users: [ann, bob, cat]", "users: [bob, cat]", "initiator_not_permitted", inJournal},
		"the group lost its right":            {"role: release-manager", "role: reader", "initiator_not_permitted", inJournal},
		"the identity names another stage":    {"stages: [release/deploy]", "stages: [tagged/deploy]", "stage_not_named", inJournal},
		"the branch is not admitted any more": {"branches: {allowed: [refs/heads/main]}", "branches: {allowed: [refs/heads/release]}", "branch_not_allowed", inJournal},
	} {
		waiting, running := a.job("push", "production"), a.job("push", "production")
		d := a.waiting(waiting, handle)
		approve(d)
		lease := a.running(running, handle)
		if err := a.apply(c.from, c.to); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		a.refused(t, c.recorded, what+": a claim", c.claim, a.claims(a.client(a.token(waiting, nil)), d.ID, handle))
		a.refused(t, inJournal, what+": an exchange", c.claim, a.exchanges(a.token(running, nil), lease.ID, nil))
		a.must(a.apply())
		for _, user := range []string{"ann", "bob", "cat"} { // whoever was switched off signs in again
			if a.people[user].Call(context.Background(), "GET", "/sessions", nil, nil) != nil {
				a.signIn(user)
			}
		}
		a.takes(t, what+": an exchange once all stands again", a.exchanges(a.token(running, nil), lease.ID, nil))
		a.takes(t, what+": a claim once all stands again", a.claims(a.client(a.token(waiting, nil)), d.ID, handle))
	}
}

// endedRuns: what has ended opens nothing any more.
func endedRuns(t *testing.T, a *arena) {
	ctx := context.Background()
	j := a.job("push", "production")
	d := a.running(j, handle)
	a.must(a.client(handle).Call(ctx, "POST", "/deployments/"+d.ID+"/end", api.EndDeployment{}, nil))
	a.refused(t, inJournal, "an exchange after the job's own word", "deployment_ended", a.exchanges(a.token(j, nil), d.ID, nil))
	a.refused(t, inJournal, "a claim after the job's own word", "deployment_ended", a.claims(a.client(a.token(j, nil)), d.ID, handle))
	d = a.running(j, handle)
	a.must(a.people["dora"].Call(ctx, "POST", "/deployments/"+d.ID+"/cancel", api.Cancel{Reason: "stop"}, nil))
	a.refused(t, inJournal, "an exchange after it was cancelled", "deployment_ended", a.exchanges(a.token(j, nil), d.ID, nil))

	azure := a.released(t, a.devops(nil), a.azure.Access, "devops")
	c := a.client(a.devops(nil))
	c.Access = a.azure.Access
	a.azure.Build("status", "completed")
	a.refused(t, inLog, "a run that Azure DevOps says is over", "azure_run_over", a.claims(c, azure.ID, handle))
	a.azure.Build("status", "cancelling")
	a.refused(t, inLog, "a run that is being cancelled", "azure_run_over", a.claims(c, azure.ID, handle))
	a.azure.Build("status", "inProgress")
}

// unprotected: what the platform says of protection is a text, and false is one.
func unprotected(t *testing.T, a *arena) {
	a.refused(t, inJournal, "a ref that is not protected", "branch_not_protected", a.opens(a.gitlab(map[string]any{"ref_protected": "false"}), "lab"))
	a.refused(t, inJournal, "an environment that is not protected", "rule_false", a.opens(a.gitlab(map[string]any{"environment_protected": "false"}), "lab"))
	a.refused(t, inJournal, "an environment that was deleted", "rule_error", a.opens(a.gitlab(map[string]any{"environment_protected": nil}), "lab"))
	a.refused(t, inJournal, "an environment of another name", "environment_differs", a.opens(a.gitlab(map[string]any{"environment": "production-2"}), "lab"))
	for _, claim := range []string{"ref_protected", "environment_protected"} {
		for value, code := range map[any]string{true: "claim_type", 1: "claim_type", "True": "claim_malformed", "1": "claim_malformed", "": "claim_malformed", "true ": "claim_malformed"} {
			a.refused(t, inLog, claim, code, a.opens(a.gitlab(map[string]any{claim: value}), "lab"))
		}
	}
	a.refused(t, inLog, "nothing said of the ref", "claim_malformed", a.opens(a.gitlab(map[string]any{"ref_protected": nil}), "lab"))
	// An environment of the catalog that is deleted while a lease lives.
	raw := a.gitlab(nil)
	d := a.released(t, raw, "", "lab")
	a.must(a.apply("{kind: Environment, name: lab, project: payments, tier: preproduction, checks: [{name: main, branches: {allowed: [refs/heads/main], protected: true}}]}\n---\n", "",
		"{kind: Identity, name: lab, project: payments, environment: lab, audiences: [\"https://target.example\"], stages: [lab/deploy]}\n---\n", ""))
	a.refused(t, inJournal, "an exchange for an environment that was deleted", "environment_unknown", a.exchanges(raw, d.ID, nil))
	a.refused(t, inJournal, "an ask for an environment that was deleted", "environment_unknown", a.opens(a.gitlab(nil), "lab"))
	a.must(a.apply())
	a.takes(t, "an exchange once it is there again", a.exchanges(raw, d.ID, nil))
}
