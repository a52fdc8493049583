package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// runningReported is what a job sees running in an environment.
type runningReported struct {
	one
	Project      string                `json:"project"`
	Environment  string                `json:"environment"`
	Artifacts    []lockkeeper.Artifact `json:"artifacts"`
	Strange      []lockkeeper.Artifact `json:"strange,omitempty"` // that nothing which was let in brought there, then
	Pipeline     string                `json:"pipeline"`
	Stage        string                `json:"stage"`
	Run          string                `json:"run"`
	Job          lockkeeper.Digest     `json:"job"`
	Token        lockkeeper.Digest     `json:"token"`
	TokenExpires lockkeeper.Moment     `json:"token_expires"`
	Revision     int                   `json:"revision"`
}

func (*runningReported) kind() string { return "running.reported" }
func (ev *runningReported) subjects() []string {
	return []string{"running/" + ev.Project + "/" + ev.Environment}
}
func (ev *runningReported) apply(s *State, e Entry) error {
	scope := lockkeeper.EnvironmentScope(ev.Project, ev.Environment)
	p := s.place(scope)
	seen := Sighting{Artifacts: ev.Artifacts, Since: e.Time, At: e.Time, Pipeline: ev.Pipeline, Stage: ev.Stage, Run: ev.Run}
	if p.Seen != nil && slices.Equal(p.Seen.Artifacts, ev.Artifacts) {
		seen.Since = p.Seen.Since
	}
	p.Seen = &seen
	s.Places[scope] = &p
	s.bindToken(ev.Token, TokenUse{For: runningUse, Job: ev.Job, Handle: ev.Job, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return nil
}

// runningUse is what a token is bound to that said what runs. The same job may say it
// again with the same token: a watcher has one for an hour.
const runningUse = "running"

// reportAgain is how long a report that says nothing new is not written down again.
const reportAgain = time.Hour

// reportRunning says what runs in an environment.
type reportRunning struct {
	Job         lockkeeper.Workload   `json:"-"`
	Environment string                `json:"environment"`
	Artifacts   []lockkeeper.Artifact `json:"artifacts"`
}

func (c reportRunning) name() string  { return "running.report" }
func (c reportRunning) about() string { return "running" }

// sighted is the answer to reportRunning.
type sighted struct {
	Project     string                `json:"project"`
	Environment string                `json:"environment"`
	Strange     []lockkeeper.Artifact `json:"strange"`
}

// decide takes the word of a stage that the catalog lets say it. Who started the run
// does not matter: nothing is let through by it.
func (c reportRunning) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.useToken(c.Job, runningUse, c.Job.JobKey(), now); err != nil {
		return nil, nil, err
	}
	artifacts, err := lockkeeper.NewArtifacts(c.Artifacts)
	if err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("artifacts_malformed", "%v.", err).WithNext("Name each artifact once as NAME=sha256:HEX.")
	}
	pipeline, stage, err := w.stageOf(c.Job)
	if err != nil {
		return nil, nil, err
	}
	scope := lockkeeper.EnvironmentScope(pipeline.Project, c.Environment)
	if _, known := w.rules.Catalog.Environments[scope]; !known {
		return nil, nil, lockkeeper.Forbidden.Errorf("environment_unknown", "The project %s has no environment %.63q.", pipeline.Project, c.Environment).
			WithNext("Name an environment of the catalog: %s.", environmentsOf(w.rules.Catalog, pipeline.Project))
	}
	if !slices.Contains(stage.Running, c.Environment) {
		return nil, nil, lockkeeper.Forbidden.Errorf("running_not_yours", "The stage %s/%s may not say what runs in %s.", pipeline.Name, stage.Name, c.Environment).
			WithNext("Report from a stage that has running: [%s] in the catalog, or give it to this one.", c.Environment)
	}
	origins, err := w.origins(c.Job)
	if err != nil {
		origins = nil // an agent that nobody started
	}
	if err := w.admits(pipeline, c.Job.Provider, origins); err != nil {
		return nil, nil, err
	}
	p := w.place(scope)
	before := p.Seen
	p.Seen = &Sighting{Artifacts: artifacts}
	answer := sighted{Project: pipeline.Project, Environment: c.Environment, Strange: p.strange()}
	if before != nil && slices.Equal(before.Artifacts, artifacts) && now.Sub(before.At) < reportAgain {
		return nil, answer, nil
	}
	return []event{&runningReported{Project: pipeline.Project, Environment: c.Environment, Artifacts: artifacts, Strange: p.strange(), Pipeline: pipeline.Name, Stage: stage.Name,
		Run: c.Job.Run.Value, Job: c.Job.JobKey(), Token: c.Job.TokenID, TokenExpires: c.Job.Expires, Revision: w.Revision.Number}}, answer, nil
}

// ReportRunning takes what the job sees running in an environment of its project. It
// returns what of it nothing that was let in brought there.
func (k *Keeper) ReportRunning(ctx context.Context, job lockkeeper.Workload, key, environment string, artifacts []lockkeeper.Artifact) (Sighted, error) {
	return do[sighted](ctx, k, Caller{Workload: &job}, key, reportRunning{Job: job, Environment: environment, Artifacts: artifacts})
}

// Sighted is the answer to ReportRunning.
type Sighted = sighted

// A RunningView is what is known of what runs in one environment.
type RunningView struct {
	Project, Environment string
	Let                  []gate.Release // what may run there: the last success, and what got a lease since
	Seen                 *Sighting      // what runs there as somebody says; nil: nobody does
	Strange              []lockkeeper.Artifact
	Stretches            []gate.Stretch
}

// Running lists what runs in the environments that the caller may read deployments of:
// of one project and environment, or of all (""), in the order of their names.
func (k *Keeper) Running(by Caller, project, environment string) ([]RunningView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []RunningView{}
	for _, scope := range slices.Sorted(maps.Keys(w.rules.Catalog.Environments)) {
		env := w.rules.Catalog.Environments[scope]
		if project != "" && env.Project != project || environment != "" && env.Name != environment {
			continue
		}
		if _, err := w.may(by, lockkeeper.ReadDeployments, scope, now); err != nil {
			if project != "" && environment != "" || by.User == "" {
				return nil, err
			}
			continue
		}
		p := w.place(scope)
		out = append(out, RunningView{Project: env.Project, Environment: env.Name, Let: p.Let, Seen: p.Seen, Strange: p.strange(), Stretches: p.Stretches})
	}
	return out, nil
}

// strangers are the environments in which something runs that nothing which was let in
// brought there.
func (k *Keeper) strangers(w *watch) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, scope := range slices.Sorted(maps.Keys(k.state.Places)) {
		p := k.state.place(scope)
		strange := p.strange()
		env, known := w.c.Environments[scope]
		if len(strange) == 0 || !known {
			continue
		}
		slices.SortFunc(strange, func(a, b lockkeeper.Artifact) int { return cmp.Compare(a.Digest, b.Digest) })
		a := Alert{Kind: "runs_other", Subject: string(scope),
			Sentence: fmt.Sprintf("In %s runs something that was not let in since the last success: %s.", env.Name, spell(strange)),
			Evidence: []string{fmt.Sprintf("%s/%s of run %s sees it since %s, last at %s", p.Seen.Pipeline, p.Seen.Stage, p.Seen.Run, p.Seen.Since, p.Seen.At)},
			Next:     fmt.Sprintf("Find out who put it there, and deploy what should run: lockkeeper deploy --environment %s --redeploy. Once it is reported to run again, this ends.", env.Name)}
		for _, r := range p.Let {
			a.Evidence = append(a.Evidence, fmt.Sprintf("%s was let in: %s", r.Deployment, spell(r.Artifacts)))
		}
		w.add(a)
	}
}

func spell(list []lockkeeper.Artifact) string {
	var out []string
	for _, a := range list[:min(len(list), 8)] {
		out = append(out, a.Name+"="+string(a.Digest))
	}
	if len(list) > 8 {
		out = append(out, fmt.Sprintf("and %d more", len(list)-8))
	}
	return strings.Join(out, ", ")
}
