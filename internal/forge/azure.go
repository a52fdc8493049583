package forge

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// An Azure is Lockkeeper as an "Invoke REST API" check of one organisation of Azure
// DevOps. It has no access of its own: each evaluation brings the job access token of
// its run, which reads that run and answers for it, and nothing else.
type Azure struct {
	Provider string // name in the catalog
	Issuer   string // of the provider's tokens
	API      string // https://dev.azure.com/ORGANISATION
	// Access is what the asking that was noted under an id has brought.
	Access func(ctx context.Context, hold string) (string, error)
	Client *http.Client // default: one that follows no redirect
}

// AccessOver is the code of the problem that the access of an asking counts no more.
const AccessOver = "access_over"

// Look reads the run and the one stage of it that waits at its checks. Where several
// wait, nothing says which of them asks: the stage is then not known.
func (z *Azure) Look(ctx context.Context, a Asking) (Look, error) {
	var b azureBuild
	if err := z.get(ctx, a, azureRun(a)+"?api-version=7.1", &b); err != nil {
		return Look{}, err
	}
	var t azureTimeline
	if err := z.get(ctx, a, azureRun(a)+"/timeline?api-version=7.1", &t); err != nil {
		return Look{}, err
	}
	if strconv.FormatInt(b.ID, 10) != a.Run || !commit(b.Commit) || !guid(strings.ToLower(b.RequestedFor.ID)) || !wordFit(b.Reason) || !wordFit(b.Repository.ID) || b.Definition.ID < 1 {
		return Look{}, &Problem{"answer_malformed", "The platform's answer about the run lacks its commit, definition, repository, reason, or who it is for.", false}
	}
	waiting := t.waiting()
	out := Look{Job: z.workload(a, b), Over: b.Status == "completed", Outcome: outcomeOf(b.Result)}
	out.Held = !out.Over && len(waiting) > 0
	if out.Held && len(waiting) == 1 && wordFit(waiting[0].Identifier) && waiting[0].Attempt > 0 {
		at := waiting[0]
		out.Job.Stage, out.Job.Job, out.Job.Attempt = looked(at.Identifier), looked("stage/"+at.Identifier), at.Attempt
	}
	return out, nil
}

// Follow is Look: the platform says no less for less.
func (z *Azure) Follow(ctx context.Context, a Asking) (Look, error) { return z.Look(ctx, a) }

func looked(s string) lockkeeper.Fact {
	return lockkeeper.Fact{Value: s, Mark: lockkeeper.LookedUp}
}

// azureRun is where the API has the run.
func azureRun(a Asking) string {
	return "/" + a.Check.Project + "/_apis/build/builds/" + url.PathEscape(a.Run)
}

// azureBuild is what is read of a run (learn.microsoft.com, "Builds - Get").
type azureBuild struct {
	ID         int64  `json:"id"`
	Status     string `json:"status"`
	Result     string `json:"result"`
	Reason     string `json:"reason"`
	Branch     string `json:"sourceBranch"`
	Commit     string `json:"sourceVersion"`
	Definition struct {
		ID int64 `json:"id"`
	} `json:"definition"`
	Project struct {
		ID string `json:"id"`
	} `json:"project"`
	Repository struct {
		ID string `json:"id"`
	} `json:"repository"`
	RequestedFor struct {
		ID         string `json:"id"`
		UniqueName string `json:"uniqueName"`
	} `json:"requestedFor"`
	RequestedBy struct {
		ID string `json:"id"`
	} `json:"requestedBy"`
}

// azureTimeline is what is read of a run's timeline (learn.microsoft.com, "Timeline - Get").
type azureTimeline struct {
	Records []azureRecord `json:"records"`
}

type azureRecord struct {
	ID         string `json:"id"`
	Parent     string `json:"parentId"`
	Type       string `json:"type"` // Stage, Checkpoint, Phase, Job, Task
	Identifier string `json:"identifier"`
	State      string `json:"state"` // pending, inProgress, completed
	Attempt    int    `json:"attempt"`
}

// waiting are the stages whose checkpoint is at work: the run waits there. What the
// timeline does not show yet it shows at the next look, and no run is let through by one
// look alone.
func (t azureTimeline) waiting() []azureRecord {
	var out []azureRecord
	for _, r := range t.Records {
		if r.Type == "Stage" && r.State != "completed" && slices.ContainsFunc(t.Records, func(c azureRecord) bool {
			return c.Type == "Checkpoint" && c.Parent == r.ID && c.State == "inProgress"
		}) {
			out = append(out, r)
		}
	}
	return out
}

// workload is what the API proves of the run. A job's own token says the same of it, in
// the same words, so that the job is known as the one that was let through. The check's
// message names an environment; of that the API says nothing.
func (z *Azure) workload(a Asking, b azureBuild) lockkeeper.Workload {
	w := lockkeeper.Workload{Provider: z.Provider, Platform: "azure", Issuer: z.Issuer, Organisation: looked(a.Organisation), Project: looked(strings.ToLower(b.Project.ID)),
		Pipeline: looked(strconv.FormatInt(b.Definition.ID, 10)), Repository: looked(b.Repository.ID), Run: looked(a.Run), Event: looked(b.Reason), Commit: looked(b.Commit),
		Actor: looked(strings.ToLower(b.RequestedFor.ID))}
	if strings.HasPrefix(b.Branch, "refs/") && branchFit(b.Branch) {
		w.Ref = looked(b.Branch)
	}
	if by := strings.ToLower(b.RequestedBy.ID); guid(by) {
		w.QueuedBy = looked(by)
	}
	if wordFit(b.RequestedFor.UniqueName) {
		w.ActorName = looked(b.RequestedFor.UniqueName)
	}
	return w
}

// outcomeOf says in the words of Look how a run went.
func outcomeOf(result string) string {
	switch result {
	case "succeeded":
		return "success"
	case "failed":
		return "failure"
	case "canceled":
		return "cancelled"
	}
	return result
}

// Tell answers the check: a line for those who look at the run, then the event that the
// check waits for. A line that is not taken is no reason to keep the answer back.
func (z *Azure) Tell(ctx context.Context, a Asking, approve bool, comment string) error {
	_ = z.Status(ctx, a, comment)
	result := "failed"
	if approve {
		result = "succeeded"
	}
	return z.post(ctx, a, "/events?api-version=2.0-preview.1", map[string]any{"name": "TaskCompleted", "taskId": a.Check.Task, "jobId": a.Check.Job, "result": result})
}

// Status writes a line into the check's log.
func (z *Azure) Status(ctx context.Context, a Asking, line string) error {
	return z.post(ctx, a, "/timelines/"+a.Check.Timeline+"/records/"+a.Check.Job+"/feed?api-version=4.1", map[string]any{"value": []string{clip(line)}, "count": 1})
}

func (z *Azure) post(ctx context.Context, a Asking, path string, body any) error {
	c := a.Check
	return z.call(ctx, a, call{method: http.MethodPost, address: "/" + c.Project + "/_apis/distributedtask/hubs/" + url.PathEscape(c.Hub) + "/plans/" + c.Plan + path, body: body})
}

func (z *Azure) get(ctx context.Context, a Asking, path string, into any) error {
	return z.call(ctx, a, call{method: http.MethodGet, address: path, into: into})
}

// call makes one call with the access that the asking has brought.
func (z *Azure) call(ctx context.Context, a Asking, c call) error {
	access, err := z.Access(ctx, a.Hold)
	if err != nil {
		return err
	}
	c.address, c.head = strings.TrimSuffix(z.API, "/")+c.address, map[string]string{"Authorization": "Bearer " + access, "Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
	status, err := send(ctx, z.Client, c)
	switch status {
	case http.StatusUnauthorized, http.StatusNonAuthoritativeInfo, http.StatusFound:
		// The page to sign in at, or the way there: the token has ended.
		return &Problem{AccessOver, "The platform takes the access that the check has brought no more.", true}
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
		if p := new(Problem); errors.As(err, &p) {
			p.Final = c.method == http.MethodPost // the plan is over, or knows no such task
		}
	}
	return err
}
