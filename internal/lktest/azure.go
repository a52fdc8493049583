package lktest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// azureCheck is what an AzureAPI knows of the check that holds its run: what was answered
// and said, and how it fails.
type azureCheck struct {
	answers []AzureAnswer
	lines   []string
	fails   int    // an answer fails with this status; negative: it fails and has happened
	over    bool   // the plan is over and takes no answer
	away    string // where every call is sent instead
}

// An AzureAnswer is a TaskCompleted event (learn.microsoft.com, "Events - Post Event").
type AzureAnswer struct {
	Name   string `json:"name"`
	Task   string `json:"taskId"`
	Job    string `json:"jobId"`
	Result string `json:"result"`
}

const (
	azurePlan     = "81111111-2222-3333-4444-555555555555"
	azureJob      = "82111111-2222-3333-4444-555555555555"
	azureTask     = "83111111-2222-3333-4444-555555555555"
	azureTimeline = "84111111-2222-3333-4444-555555555555"
)

// Check is the headers that an "Invoke REST API" check sends with the configuration of
// docs/integrations/azure.md. more replaces single ones; "" takes one out.
func (a *AzureAPI) Check(more map[string]string) http.Header {
	fields := map[string]string{"PlanUrl": a.URL + "/", "ProjectId": a.Project, "HubName": "Gates", "PlanId": azurePlan, "JobId": azureJob, "TimelineId": azureTimeline, "TaskInstanceId": azureTask,
		"AuthToken": a.Access, "BuildId": "1234", "RepositoryId": a.Repository, "Environment": "payments/production", "StageAttempt": "1"}
	maps.Copy(fields, more)
	h := http.Header{}
	for name, value := range fields {
		if value != "" {
			h.Set(name, value)
		}
	}
	r := http.Request{Header: h}
	r.SetBasicAuth("lockkeeper", a.Secret)
	return h
}

// Hold lets the run wait at the checks of the stages Deploy, which has not begun, and of
// whatever other ones are named by their records.
func (a *AzureAPI) Hold(others ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records = slices.DeleteFunc(a.records, func(r map[string]any) bool { return r["type"] == "Checkpoint" })
	for _, r := range a.records {
		if slices.Contains([]string{"s2", "p2", "j2", "t2"}, r["id"].(string)) {
			r["state"], r["startTime"], r["finishTime"], r["result"] = "pending", nil, nil, nil
		}
	}
	for _, stage := range append([]string{"s2"}, others...) {
		a.records = append(a.records, map[string]any{"id": "c" + stage, "parentId": stage, "type": "Checkpoint", "name": "Checkpoint", "identifier": "Checkpoint", "state": "inProgress", "attempt": 1,
			"startTime": time.Now().UTC().Format(time.RFC3339Nano), "finishTime": nil, "result": nil})
	}
}

// begin lets the stage Deploy begin, or skips it.
func (a *AzureAPI) begin(state string) {
	now := time.Now().Add(-2 * time.Second).UTC().Format(time.RFC3339Nano)
	for _, r := range a.records {
		switch {
		case r["type"] == "Checkpoint":
			r["state"], r["finishTime"] = "completed", now
		case slices.Contains([]string{"s2", "p2", "j2", "t2"}, r["id"].(string)):
			r["state"], r["startTime"] = state, now
		}
	}
}

// Skip ends the waiting without an answer, as a check's time-out does.
func (a *AzureAPI) Skip() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin("completed")
	a.check.over = true
}

// Begin lets the stage Deploy run, as the check's own success criteria do.
func (a *AzureAPI) Begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin("inProgress")
}

// Fails makes every answer of the check fail with a status; one below 0 happens and
// fails. 0: none fails.
func (a *AzureAPI) Fails(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.check.fails = status
}

// Ends makes the access that was given count no more.
func (a *AzureAPI) Ends() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Access = "access-" + randomHex()
}

// Away sends every call somewhere else.
func (a *AzureAPI) Away(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.check.away = address
}

// Answers are those that were posted.
func (a *AzureAPI) Answers() []AzureAnswer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.check.answers)
}

// Lines are what was written into the check's log.
func (a *AzureAPI) Lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.check.lines)
}

func (a *AzureAPI) serveChecks(mux *http.ServeMux) {
	const plan = "POST /{project}/_apis/distributedtask/hubs/{hub}/plans/{plan}"
	mux.HandleFunc(plan+"/events", func(w http.ResponseWriter, r *http.Request) {
		var event AzureAnswer
		if !a.plan(w, r, "2.0-preview.1", &event) {
			return
		}
		defer a.mu.Unlock()
		c := &a.check
		switch {
		case event.Name != "TaskCompleted" || event.Job != azureJob || event.Task != azureTask || event.Result != "succeeded" && event.Result != "failed":
			http.Error(w, `{"message":"no such task"}`, http.StatusBadRequest)
		case c.over:
			http.Error(w, `{"message":"the plan is over"}`, http.StatusNotFound)
		case c.fails > 0:
			http.Error(w, "as told", c.fails)
		default:
			c.answers, c.over = append(c.answers, event), true
			a.begin(map[string]string{"succeeded": "inProgress", "failed": "completed"}[event.Result])
			if c.fails < 0 {
				http.Error(w, "as told", -c.fails)
			}
		}
	})
	mux.HandleFunc(plan+"/timelines/{timeline}/records/{record}/feed", func(w http.ResponseWriter, r *http.Request) {
		var feed struct {
			Value []string `json:"value"`
			Count int      `json:"count"`
		}
		if !a.plan(w, r, "4.1", &feed) {
			return
		}
		defer a.mu.Unlock()
		if r.PathValue("timeline") != azureTimeline || r.PathValue("record") != azureJob || feed.Count != len(feed.Value) {
			http.Error(w, `{"message":"no such record"}`, http.StatusBadRequest)
			return
		}
		a.check.lines = append(a.check.lines, feed.Value...)
	})
}

// plan takes a call about the check's plan, and leaves the lock held if it is one.
func (a *AzureAPI) plan(w http.ResponseWriter, r *http.Request, version string, into any) bool {
	a.mu.Lock()
	switch {
	case a.check.away != "":
		http.Redirect(w, r, a.check.away, http.StatusTemporaryRedirect)
	case trimBearer(r.Header.Get("Authorization")) != a.Access:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Query().Get("api-version") != version || r.PathValue("project") != a.Project || !strings.EqualFold(r.PathValue("hub"), "gates") || r.PathValue("plan") != azurePlan:
		http.Error(w, "unknown", http.StatusNotFound)
	case r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(into) != nil:
		http.Error(w, "malformed", http.StatusBadRequest)
	default:
		return true
	}
	a.mu.Unlock()
	return false
}
