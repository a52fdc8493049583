package keeper

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A pipeline's stage can be eligible, too. What it activates is for one job of one
// run: an environment that demands it lets a deployment through only while the very
// job that asks for it has the role, so that a seldom, powerful pipeline holds
// nothing between its runs. Whoever stands behind the run approves none of it.

// A Run is the job that a request or an activation is for.
type Run struct {
	Project    string            `json:"project"`
	Pipeline   string            `json:"pipeline"`
	Stage      string            `json:"stage"`
	Provider   string            `json:"provider"`
	Repository string            `json:"repository"`
	Run        string            `json:"run"`
	Attempt    int               `json:"attempt"`
	Job        lockkeeper.Digest `json:"job"`    // key of the job
	Handle     lockkeeper.Digest `json:"handle"` // digest of the handle that the job must show to begin
	Initiators []Origin          `json:"initiators"`
}

// principal is the stage as an assignment names it. As the user of a request it is
// equal to no user's name, which has no colon.
func (r *Run) principal() lockkeeper.Principal {
	return lockkeeper.Principal{Kind: lockkeeper.WorkloadPrincipal, Name: r.Project + "/" + r.Pipeline + "/" + r.Stage}
}

// eligible decides whether the requester, a user or a run's stage, may activate the
// role at the scope now.
func (w *world) eligible(user string, run *Run, role string, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	if run != nil {
		return w.rules.Access.EligibleStage(run.principal(), role, scope, now)
	}
	return w.rules.Access.Eligible(user, role, scope, now)
}

// runInitiators are whom the gate of a run's request excludes: everybody behind the
// run. Automation asks for one approver more, as it does at an environment.
func (w *world) runInitiators(run *Run) []gate.Initiator {
	var out []gate.Initiator
	for _, o := range run.Initiators {
		i := gate.Initiator{Account: o.label(), Automation: o.Automation, Persons: w.personsOf(o.Provider, o.Account, o.Persons), Right: lockkeeper.Decision{Verdict: lockkeeper.Pass}}
		if u, ok := w.rules.Catalog.UserOf(o.Provider, o.Account); ok {
			i.User, i.Automation = u.Name, i.Automation || u.Automation
		}
		out = append(out, i)
	}
	return out
}

// runKnown refuses a run behind which nobody can be named, or somebody who is
// switched off.
func (w *world) runKnown(run *Run) lockkeeper.Decision {
	if err := w.admits(catalog.Pipeline{Project: run.Project, Name: run.Pipeline}, run.Provider, run.Initiators); err != nil {
		return *lockkeeper.RefusalOf(err).Decision
	}
	out := lockkeeper.Decision{Subject: "initiator", Verdict: lockkeeper.Pass, Code: "initiator_known", Sentence: "It is known who stands behind the run."}
	for _, i := range w.runInitiators(run) {
		u := w.rules.Catalog.Users[i.User]
		if i.User == "" && !i.Automation || u.Off {
			out.Verdict, out.Code = lockkeeper.Fail, "initiator_unknown"
			out.Sentence = fmt.Sprintf("The account %s that started this run belongs to no user who may do anything.", i.Account)
			out.Next = "List the account's id under ids of its user, or start the run from a listed account."
		}
	}
	if len(run.Initiators) == 0 {
		out.Verdict, out.Code, out.Sentence = lockkeeper.Fail, "initiator_unknown", "Nobody can say who started this run."
		out.Next = "Start the run from an account that a user of the catalog lists under ids."
	}
	return out
}

// of reports whether a deployment is the run's: asked for by the very job.
func (r *Run) of(d *Deployment) bool {
	a := d.Ask
	return d.Requester == r.Job && a.Project == r.Project && a.Pipeline == r.Pipeline && a.Stage == r.Stage && a.Provider == r.Provider &&
		a.Repository == r.Repository && a.Run == r.Run && a.Attempt == r.Attempt
}

// finishRuns ends what was activated for the job of a deployment that has ended.
func (s *State) finishRuns(d *Deployment, at lockkeeper.Moment) {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	for id, a := range s.Activations {
		if a.Run != nil && a.Finished.IsZero() && a.Run.of(d) && a.Scope.Contains(scope) {
			over := *a // readers may hold the old one
			over.Finished = at
			s.Activations[id] = &over
		}
	}
}

// runOver reports whether a deployment of the activation's job has ended: it is
// written down so, or its time has ended it.
func (w *world) runOver(a *Activation, now lockkeeper.Moment) bool {
	if a.Run == nil {
		return false
	}
	if !a.Finished.IsZero() {
		return true
	}
	for _, d := range w.Deployments {
		if a.Run.of(d) && a.Scope.Contains(lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)) && w.overdue(d, now) {
			return true
		}
	}
	return false
}

// activated judges what an environment demands of the stage: that the job which
// asked holds each of these roles there now.
func (w *world) activated(d *Deployment, roles []string, now lockkeeper.Moment) []lockkeeper.Decision {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	var out []lockkeeper.Decision
	for _, role := range roles {
		v := lockkeeper.Decision{Subject: "activation of " + role, Verdict: lockkeeper.Fail, Code: "activation_missing",
			Sentence: fmt.Sprintf("Deployments to %s take a run that has activated %s, and this job has not.", d.Ask.Environment, role),
			Next:     fmt.Sprintf("Run in the same job, before it deploys: lockkeeper activate %s --run --scope %s --for 1h --reason WHY", role, scope)}
		for _, a := range w.Activations {
			if a.Run == nil || a.Role != role || !a.Run.of(d) || !a.Scope.Contains(scope) || !w.lives(a, now) {
				continue
			}
			e := w.eligible(a.User, a.Run, role, a.Scope, now)
			if !e.Passed(now) || v.Verdict == lockkeeper.Pass && a.Ends.Before(*v.Until) {
				continue
			}
			end := a.Ends
			if e.Until != nil && e.Until.Before(end) {
				end = *e.Until
			}
			v = lockkeeper.Decision{Subject: v.Subject, Verdict: lockkeeper.Pass, Code: "activated", Until: &end, Because: []lockkeeper.Decision{e},
				Sentence: fmt.Sprintf("The job has activated %s at %s until %s (%s).", role, a.Scope, a.Ends, a.ID)}
		}
		out = append(out, v)
	}
	return out
}

// untilActivated is an end, or the sooner one of what the job has activated: neither
// a lease nor a token outlives that.
func untilActivated(f gate.Facts, end lockkeeper.Moment) lockkeeper.Moment {
	for _, d := range f.Activated {
		if d.Until != nil && d.Until.Before(end) {
			end = *d.Until
		}
	}
	return end
}

// fallenRun ends the leases of what runs and does not stand without an activation
// of its job, except of what is gone, and adds them to that.
func (w *world) fallenRun(a *Activation, by Caller, reason string, now lockkeeper.Moment, gone map[string]bool) []event {
	if a.Run == nil {
		return nil
	}
	state := *w.State
	state.Activations = maps.Clone(w.Activations)
	delete(state.Activations, a.ID)
	without := world{State: &state, rules: w.rules}
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		d := w.Deployments[id]
		if d.Status != Running || w.overdue(d, now) || gone[id] || !a.Run.of(d) {
			continue
		}
		standing := lockkeeper.Decision{}
		facts, err := without.facts(d, now)
		if err == nil {
			standing = without.standing(d, facts, now)
		}
		if err != nil || !standing.Passed(now) {
			end := w.revoked(d, by, fmt.Sprintf("The job's activation of %s was taken. %s", a.Role, reason), now)
			end.Decision = standing
			out = append(out, end)
			if gone != nil {
				gone[id] = true
			}
		}
	}
	return out
}

// rolesAsked are the roles that a deployment's job must have activated: what the
// environment demands now, and what it demanded when the ask was opened.
func rolesAsked(env catalog.Environment, d *Deployment) []string {
	var out []string
	for _, role := range []string{env.Activation, d.Activation} {
		if role != "" && !slices.Contains(out, role) {
			out = append(out, role)
		}
	}
	return out
}

// openRunRequest asks to activate a role for the job that asks.
type openRunRequest struct {
	ID     string              `json:"-"`
	Job    lockkeeper.Workload `json:"-"`
	Role   string              `json:"role"`
	Scope  lockkeeper.Scope    `json:"scope"`
	For    time.Duration       `json:"for"`
	Reason string              `json:"reason,omitempty"`
	Ticket string              `json:"ticket,omitempty"`
	Handle lockkeeper.Digest   `json:"handle"`
}

func (openRunRequest) name() string  { return "request.open_run" }
func (openRunRequest) about() string { return "requests" }

func (c openRunRequest) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.useToken(c.Job, requestSubject(c.ID), c.Handle, now); err != nil {
		return nil, nil, err
	}
	pipeline, stage, err := w.stageOf(c.Job)
	if err != nil {
		return nil, nil, err
	}
	origins, err := w.origins(c.Job)
	if err != nil {
		return nil, nil, err
	}
	if err := w.admits(pipeline, c.Job.Provider, origins); err != nil {
		return nil, nil, err
	}
	j := c.Job
	run := &Run{Project: pipeline.Project, Pipeline: pipeline.Name, Stage: stage.Name, Provider: j.Provider, Repository: j.Repository.Value, Run: j.Run.Value,
		Attempt: j.Attempt, Job: j.JobKey(), Handle: c.Handle, Initiators: origins}
	events, answer, err := w.ask(Request{ID: c.ID, User: run.principal().String(), Role: c.Role, Actions: w.rules.Access.RoleActions(c.Role), Scope: c.Scope, For: c.For,
		Reason: c.Reason, Ticket: c.Ticket, Run: run}, now)
	if err != nil {
		return nil, nil, err
	}
	opening := events[0].(*requestOpened)
	opening.Token, opening.TokenExpires = j.TokenID, j.Expires
	return events, answer, nil
}

// RunRequest is what a job asks for.
type RunRequest struct {
	Role   string
	Scope  lockkeeper.Scope
	For    time.Duration
	Reason string
	Ticket string
	Handle lockkeeper.Digest // HandleDigest of the secret that the job made
}

// RequestRunActivation asks to activate a role for the caller's job, and returns the
// request's id.
func (k *Keeper) RequestRunActivation(ctx context.Context, job lockkeeper.Workload, key string, o RunRequest) (string, error) {
	if _, err := lockkeeper.ParseDigest(string(o.Handle)); err != nil {
		return "", lockkeeper.Invalid.Errorf("handle_malformed", "The handle's digest is malformed: %v.", err).WithField("handle")
	}
	answer, err := do[opened](ctx, k, Caller{Workload: &job}, key, openRunRequest{newID("r"), job, o.Role, o.Scope, o.For, o.Reason, o.Ticket, o.Handle})
	return answer.ID, err
}

// RequestHolder is the caller who shows the handle of a run's request: he may read
// it and begin it.
func (k *Keeper) RequestHolder(ctx context.Context, id, handle string) (Caller, error) {
	missing := lockkeeper.Unauthenticated.Errorf("handle_unknown", "This handle opens no request %.40s.", id).WithNext("Use the handle that the request was made with.")
	if !strings.HasPrefix(id, "r-") || lockkeeper.CheckName(id) != nil {
		return Caller{}, missing
	}
	v, alive := k.waitingRequest(id, k.now())
	if !alive {
		var err error
		if v, err = k.endedRequest(ctx, id); err != nil {
			return Caller{}, err
		}
	}
	if v.Run == nil || subtle.ConstantTimeCompare([]byte(HandleDigest(handle)), []byte(v.Run.Handle)) != 1 {
		return Caller{}, missing
	}
	return Caller{Holder: id}, nil
}
