package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// azure reads the pipeline token of Azure DevOps. It names the organisation, the
// team project, the definition, the repository, the commit and the run by their
// ids, and neither stage, job nor person: those come from a look-up of the run
// (azureRun). The key set is shared by all organisations, so the issuer, which
// holds the organisation's id, must say the same as org_id.
//
// A token of a service connection names no run at all; it is refused.
func azure(w *lockkeeper.Workload, c token.Claims, i Issuer) error {
	if !c.Has("run_id") {
		return lockkeeper.Unauthenticated.Errorf("azure_connection_token", "This is the token of a service connection: it names no run, so nobody can be asked who started it.").
			WithNext("Send the pipeline's own token: ask SYSTEM_OIDCREQUESTURI without serviceConnectionId.")
	}
	err := fill(c, numeric,
		claim{"org_id", &w.Organisation, uid, true}, claim{"prj_id", &w.Project, uid, true}, claim{"def_id", &w.Pipeline, digits, true},
		claim{"rpo_id", &w.Repository, word, true}, claim{"rpo_uri", &w.RepositoryName, word, false}, claim{"rpo_ver", &w.Commit, commit, true},
		claim{"rpo_ref", &w.Ref, fullRef, true}, claim{"run_id", &w.Run, digits, true})
	if err != nil {
		return err
	}
	u, err := url.Parse(i.URL)
	if err != nil || !strings.HasSuffix(strings.ToLower(u.Path), "/"+w.Organisation.Value) {
		return lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's org_id is not the organisation of its issuer.").WithNext("Use Azure DevOps' own tokens.")
	}
	return nil
}

// A build and a timeline are what Azure DevOps' REST API says of a run (Build -
// Get and Timeline - Get, api-version 7.1).
type azureBuild struct {
	ID            int64  `json:"id"`
	Status        string `json:"status"`
	Reason        string `json:"reason"`
	SourceBranch  string `json:"sourceBranch"`
	SourceVersion string `json:"sourceVersion"`
	Definition    struct {
		ID int64 `json:"id"`
	} `json:"definition"`
	Project struct {
		ID string `json:"id"`
	} `json:"project"`
	RequestedFor struct {
		ID         string `json:"id"`
		UniqueName string `json:"uniqueName"`
	} `json:"requestedFor"`
	RequestedBy struct {
		ID string `json:"id"`
	} `json:"requestedBy"`
}

type azureTimeline struct {
	Records []azureRecord `json:"records"`
}

type azureRecord struct {
	ID         string     `json:"id"`
	Parent     string     `json:"parentId"`
	Type       string     `json:"type"` // Stage, Phase, Job, Task, Checkpoint
	Name       string     `json:"name"`
	Identifier string     `json:"identifier"`
	State      string     `json:"state"` // pending, inProgress, completed
	Attempt    int        `json:"attempt"`
	Start      *time.Time `json:"startTime"`
	Finish     *time.Time `json:"finishTime"`
}

// ranSince reports whether the record was at work at any time from since on.
func (r azureRecord) ranSince(since time.Time) bool {
	if r.State == "inProgress" {
		return true
	}
	return r.Start != nil && (r.Finish == nil || !r.Finish.Before(since))
}

// azureRun looks the run up with the job's own access token and fills in who
// started it, by what, and which stage and job the token is of. It believes that
// a token is of a stage only if no other stage, and of a job only if no other
// job of it, was at work at any time since the token was made: whoever holds a
// token of another stage then holds it from before, and is refused.
func (v *Verifier) azureRun(ctx context.Context, w *lockkeeper.Workload, i Issuer, access string) error {
	base := strings.TrimSuffix(i.API, "/") + "/" + url.PathEscape(w.Project.Value) + "/_apis/build/builds/" + url.PathEscape(w.Run.Value)
	var build azureBuild
	if err := v.azureGet(ctx, base+"?api-version=7.1", access, &build); err != nil {
		return err
	}
	if strconv.FormatInt(build.ID, 10) != w.Run.Value || strconv.FormatInt(build.Definition.ID, 10) != w.Pipeline.Value || !strings.EqualFold(build.Project.ID, w.Project.Value) ||
		build.SourceVersion != w.Commit.Value || build.SourceBranch != w.Ref.Value {
		return azureRefused("azure_run_differs", "The run that Azure DevOps knows by the number %s is not the one that the token is of.", w.Run.Value)
	}
	if build.Status != "inProgress" {
		return azureRefused("azure_run_over", "The run %s is not in progress any more.", w.Run.Value)
	}
	if !uid(strings.ToLower(build.RequestedFor.ID)) || build.Reason == "" || unfit(build.Reason) {
		return azureRefused("azure_run_unknown", "Azure DevOps does not say who or what started the run %s.", w.Run.Value)
	}
	var timeline azureTimeline
	if err := v.azureGet(ctx, base+"/timeline?api-version=7.1", access, &timeline); err != nil {
		return err
	}
	stage, job, err := timeline.at(w.Issued.Time())
	if err != nil {
		return err
	}
	if unfit(stage.Identifier) || unfit(job.ID) {
		return azureRefused("azure_run_unknown", "Azure DevOps names a stage or a job of the run %s with characters that no name has.", w.Run.Value)
	}
	looked := func(s string) lockkeeper.Fact { return lockkeeper.Fact{Value: s, Mark: lockkeeper.LookedUp} }
	w.Stage, w.Job, w.Attempt = looked(stage.Identifier), looked(strings.ToLower(job.ID)), stage.Attempt
	w.Event, w.Actor = looked(build.Reason), looked(strings.ToLower(build.RequestedFor.ID))
	if by := strings.ToLower(build.RequestedBy.ID); uid(by) {
		w.QueuedBy = looked(by)
	}
	if name := build.RequestedFor.UniqueName; !unfit(name) {
		w.ActorName = looked(name)
	}
	return nil
}

// at finds the one stage, and the one job in it, that has been at work since the
// token was made.
func (t azureTimeline) at(issued time.Time) (stage, job azureRecord, err error) {
	parents := map[string]azureRecord{}
	var stages []azureRecord
	for _, r := range t.Records {
		parents[r.ID] = r
		if r.Type == "Stage" && r.ranSince(issued) {
			stages = append(stages, r)
		}
	}
	if len(stages) != 1 || stages[0].State != "inProgress" || stages[0].Start == nil || stages[0].Start.After(issued) || stages[0].Identifier == "" || stages[0].Attempt < 1 {
		return stage, job, azureRefused("azure_stage_ambiguous", "Nothing says which stage the token is of: since it was made, %s.", atWork("stage", stages))
	}
	stage = stages[0]
	var jobs []azureRecord
	for _, r := range t.Records {
		if r.Type == "Job" && r.ranSince(issued) && within(parents, r, stage.ID) {
			jobs = append(jobs, r)
		}
	}
	if len(jobs) != 1 || jobs[0].State != "inProgress" || jobs[0].Start == nil || jobs[0].Start.After(issued) || jobs[0].ID == "" {
		return stage, job, azureRefused("azure_job_ambiguous", "Nothing says which job of the stage %s the token is of: since it was made, %s.", stage.Identifier, atWork("job", jobs))
	}
	return stage, jobs[0], nil
}

// atWork says which of a kind of record were at work.
func atWork(kind string, records []azureRecord) string {
	var names []string
	for _, r := range records {
		names = append(names, fmt.Sprintf("%.40q (%s)", r.Name, r.State))
	}
	switch len(names) {
	case 0:
		return "no " + kind + " was at work"
	case 1:
		return "only the " + kind + " " + names[0] + " was at work, and it began after the token was made or is over"
	}
	return "several were at work: " + strings.Join(names[:min(len(names), 8)], ", ")
}

// within reports whether a record lies below another one.
func within(records map[string]azureRecord, r azureRecord, above string) bool {
	for range 16 { // a stage holds phases, a phase holds jobs
		if r.Parent == above {
			return true
		}
		parent, ok := records[r.Parent]
		if !ok {
			return false
		}
		r = parent
	}
	return false
}

func azureRefused(code, format string, args ...any) error {
	return lockkeeper.Unauthenticated.Errorf(code, format, args...).
		WithNext("Let the deploying stage depend on all others, with one job that deploys, and fetch a fresh token in that job.")
}

// maxLookup bounds one answer of the platform's API.
const maxLookup = 8 << 20

// azureGet asks the platform's API, at the address that the catalog names and
// nowhere else. The access token goes into this one request and is kept nowhere.
func (v *Verifier) azureGet(ctx context.Context, address, access string, into any) error {
	away := func(why string, cause error) error {
		return lockkeeper.Unavailable.Errorf("platform_unreachable", "Azure DevOps cannot be asked about the run: %s.", why).WithNext("Ask again; if it goes on, look at the platform's status.").WithCause(cause)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return away("its address is malformed", err)
	}
	if len(access) > 16<<10 || strings.ContainsFunc(access, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return lockkeeper.Unauthenticated.Errorf("access_token_malformed", "The job's access token is malformed.").WithNext("Send System.AccessToken as it is.")
	}
	req.Header.Set("Authorization", "Bearer "+access)
	req.Header.Set("Accept", "application/json")
	resp, err := v.client.Do(req)
	if err != nil {
		return away("it does not answer", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusNonAuthoritativeInfo:
		return lockkeeper.Unauthenticated.Errorf("azure_lookup_refused", "Azure DevOps does not let this job look at its own run (%d).", resp.StatusCode).
			WithNext("Map System.AccessToken to SYSTEM_ACCESSTOKEN in the job, and let the build service read builds.")
	case resp.StatusCode != http.StatusOK:
		return away(fmt.Sprintf("it answers %d", resp.StatusCode), nil)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxLookup+1))
	if err != nil || len(body) > maxLookup {
		return away("its answer is too long", err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return away("its answer is malformed", nil)
	}
	return nil
}
