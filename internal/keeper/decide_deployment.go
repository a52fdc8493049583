package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// openDeployment asks to put artifacts into an environment.
type openDeployment struct {
	ID          string                `json:"-"`
	Job         lockkeeper.Workload   `json:"-"`
	Action      string                `json:"action,omitempty"` // default: deploy
	Project     string                `json:"project"`
	Environment string                `json:"environment"`
	Artifacts   []lockkeeper.Artifact `json:"artifacts"`
	Parameters  map[string]string     `json:"parameters,omitempty"`
	Handle      lockkeeper.Digest     `json:"handle"`
	Detached    bool                  `json:"detached,omitempty"`
	Plans       []lockkeeper.Plan     `json:"plans,omitempty"`
}

func (c openDeployment) name() string { return "deployment.open" }
func (c openDeployment) about() string {
	return "deployments/" + c.Project + "/" + c.Environment
}

// decide opens the deployment, or refuses what can never pass: an unknown
// environment, a stage that the identity does not name, a run that nobody can
// be named for, artifacts that nobody vouches for.
func (c openDeployment) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	if events, answer, held, err := c.join(w, now); held {
		return events, answer, err
	}
	return c.opens(w, now)
}

// opens opens what the job asks for, if its token may.
func (c openDeployment) opens(w *world, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.useToken(c.Job, deploymentSubject(c.ID), c.Handle, now); err != nil {
		return nil, nil, err
	}
	return w.openAsk(c, now)
}

// openAsk opens what a job asks for, or the run that its platform holds.
func (w *world) openAsk(c openDeployment, now lockkeeper.Moment) ([]event, any, error) {
	ask, err := w.askOf(c)
	if err != nil {
		return nil, nil, err
	}
	digest, err := ask.Digest()
	if err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("ask_malformed", "The ask has no digest: %v.", err)
	}
	scope := lockkeeper.EnvironmentScope(ask.Project, ask.Environment)
	env, ok := w.rules.Catalog.Environments[scope]
	if !ok {
		return nil, nil, lockkeeper.Forbidden.Errorf("environment_unknown", "The project %s has no environment %q.", ask.Project, ask.Environment).
			WithNext("Name an environment of the catalog: %s.", environmentsOf(w.rules.Catalog, ask.Project))
	}
	env, _ = w.rules.Catalog.Facing(env, ask)
	origins, err := w.origins(c.Job)
	if err != nil {
		return nil, nil, err
	}
	if n := w.waitingAt(ask); n >= maxWaiting {
		return nil, nil, lockkeeper.Limited.Errorf("gate_crowded", "%d deployments to %s have not ended.", n, ask.Environment).
			WithNext("End or cancel some of them first: lockkeeper deployments list")
	}
	d := &Deployment{ID: c.ID, Status: Waiting, Ask: ask, Digest: digest, Opened: now, Deadline: now.Add(env.PatienceLimit()),
		Requester: c.Job.JobKey(), Handle: c.Handle, Initiators: origins, Terms: gate.Terms(env), Apart: w.separations(scope), RecordAge: env.RecordLimit(), Production: env.Tier == catalog.Production, Activation: env.Activation, Observed: env.Observes(), Override: env.Override}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	verdict := w.judge(d, facts, now)
	if verdict.Verdict == lockkeeper.Fail || verdict.Verdict == lockkeeper.Error {
		return nil, nil, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	for _, i := range facts.Initiators {
		w.on(deploymentSubject(c.ID)).rest(i.User, lockkeeper.StartDeployments, "", scope, i.Right)
	}
	return append([]event{&deploymentOpened{ID: c.ID, Ask: ask, Digest: digest, Deadline: d.Deadline, Handle: c.Handle, Job: c.Job.JobKey(),
		Token: c.Job.TokenID, TokenExpires: c.Job.Expires, Initiators: origins, Gate: verdict, Terms: d.Terms, Apart: d.Apart, RecordAge: d.RecordAge, Production: d.Production, Activation: d.Activation, Observed: d.Observed, Override: d.Override, Revision: w.Revision.Number}}, w.unsampled(d, env, now)...), opened{c.ID}, nil
}

// protectionOf is whether a job's ref is protected, as an ask says it.
func protectionOf(j lockkeeper.Workload) string {
	return map[string]string{"true": lockkeeper.RefIsProtected, "false": lockkeeper.RefNotProtected}[j.RefProtected.Value]
}

// opened is the answer to openDeployment.
type opened struct {
	ID string `json:"id"`
}

// askOf is the whole ask: what the job asks for and what its platform vouches
// for, with the one stage that the catalog finds for it.
func (w *world) askOf(c openDeployment) (lockkeeper.Ask, error) {
	artifacts, err := lockkeeper.NewArtifacts(c.Artifacts)
	if err != nil {
		return lockkeeper.Ask{}, lockkeeper.Invalid.Errorf("artifacts_malformed", "%v.", err).WithNext("Name each artifact once as NAME=sha256:HEX.")
	}
	if err := lockkeeper.CheckParameters(c.Parameters); err != nil {
		return lockkeeper.Ask{}, lockkeeper.Invalid.Errorf("parameters_malformed", "%v.", err)
	}
	plans, err := lockkeeper.NewPlans(c.Plans)
	if err != nil {
		return lockkeeper.Ask{}, lockkeeper.Invalid.Errorf("plans_malformed", "%v.", err).WithNext("Name a plan of each kind once: --plan terraform=plan.json")
	}
	pipeline, stage, err := w.stageOf(c.Job)
	if err != nil {
		return lockkeeper.Ask{}, err
	}
	if c.Project != "" && c.Project != pipeline.Project {
		return lockkeeper.Ask{}, lockkeeper.Forbidden.Errorf("project_differs", "This job is of the project %s, not %s.", pipeline.Project, c.Project).
			WithNext("Leave the project out; the job's own is used.")
	}
	action := c.Action
	switch action {
	case "":
		action = lockkeeper.DeployAction
	case lockkeeper.DeployAction, lockkeeper.RollbackAction, lockkeeper.RedeployAction:
	default:
		return lockkeeper.Ask{}, lockkeeper.Invalid.Errorf("action_unknown", "There is no action %.40q.", action).WithNext("Ask for deploy, rollback or redeploy.")
	}
	j := c.Job
	return lockkeeper.Ask{Action: action, Event: j.Event.Value, Protected: protectionOf(j),
		Template: lockkeeper.Definition{Path: j.CalledPath.Value, Ref: j.CalledRef.Value, Commit: j.CalledCommit.Value},
		Project:  pipeline.Project, Environment: c.Environment,
		Pipeline: pipeline.Name, Stage: stage.Name, Provider: j.Provider, Repository: j.Repository.Value, Run: j.Run.Value,
		Attempt: j.Attempt, Ref: j.Ref.Value, Commit: j.Commit.Value,
		Definition: lockkeeper.Definition{Path: j.DefinitionPath.Value, Ref: j.DefinitionRef.Value, Commit: j.DefinitionCommit.Value},
		Artifacts:  artifacts, Parameters: c.Parameters, Detached: c.Detached, Plans: plans}, nil
}

// stageOf is the one stage that a workload is of, or a refusal with every
// reason.
func (w *world) stageOf(job lockkeeper.Workload) (catalog.Pipeline, catalog.Stage, error) {
	pipeline, stage, d := w.rules.Catalog.StageOf(job)
	if d.Verdict != lockkeeper.Pass {
		return pipeline, stage, lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	return pipeline, stage, nil
}

func (w *world) waitingAt(ask lockkeeper.Ask) int {
	n := 0
	for _, d := range w.Deployments {
		if d.Ask.Project == ask.Project && d.Ask.Environment == ask.Environment {
			n++
		}
	}
	return n
}

func environmentsOf(c *catalog.Catalog, project string) string {
	var names []string
	for _, e := range c.Environments {
		if e.Project == project {
			names = append(names, e.Name)
		}
	}
	if len(names) == 0 {
		return "it has none"
	}
	slices.Sort(names)
	return fmt.Sprint(names)
}

// alive finds a deployment that has not ended, for whoever may see it.
func (w *world) alive(id string) (*Deployment, error) {
	d := w.Deployments[id]
	if d == nil {
		return nil, lockkeeper.Conflict.Errorf("deployment_ended", "The deployment %s does not exist or has ended.", id).
			WithNext("Look at it: lockkeeper deployments show %s", id).WithField(id)
	}
	return d, nil
}

// vote approves or rejects an ask.
type vote struct {
	Deployment string            `json:"deployment"`
	Approve    bool              `json:"approve"`
	Digest     lockkeeper.Digest `json:"digest"` // of the ask that the voter saw
	Comment    string            `json:"comment,omitempty"`
	Answers    []ReviewAnswer    `json:"answers,omitempty"` // to the checklists that the voter saw
}

func (c vote) name() string {
	if c.Approve {
		return "deployment.approve"
	}
	return "deployment.reject"
}
func (c vote) about() string { return deploymentSubject(c.Deployment) }

func (c vote) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := c.fits(d, w.deadline(d), now); err != nil {
		return nil, nil, err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	if _, err := w.may(by, lockkeeper.ApproveDeployments, scope, now); err != nil {
		return nil, nil, err
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	mine := w.voteOf(by, c.Approve, d.Digest, lockkeeper.ApproveDeployments, scope, now)
	if mine.Answers, err = c.answers(d, facts.Environment); err != nil {
		return nil, nil, err
	}
	ballot, err := c.takes(w, d, facts, mine, now)
	if then, differs := gate.Under(facts, d.Terms); err != nil && differs {
		then.Votes = w.ballots(d, then, now)
		// Who is asked no more may be the one whom the ask still waits for.
		if older, olderErr := c.takes(w, d, then, mine, now); olderErr == nil {
			ballot, err = older, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if !c.Approve {
		end := End{Status: Rejected, At: now, Reason: c.Comment, By: by.User}
		return []event{&deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Decision: ballot.Right, Revision: w.Revision.Number}}, opened{d.ID}, nil
	}
	return []event{&deploymentApproved{ID: d.ID, User: by.User, Digest: d.Digest, Comment: c.Comment, Persons: mine.Persons,
		Right: ballot.Right, Activation: mine.Activation, Role: mine.Role, BreakGlass: mine.BreakGlass, Through: mine.Through, Revision: w.Revision.Number,
		SignedIn: mine.SignedIn, Strong: mine.Strong, Answers: mine.Answers}}, opened{d.ID}, nil
}

// takes says, as a ballot, how the gate of the facts takes the vote, or why it
// does not.
func (c vote) takes(w *world, d *Deployment, f gate.Facts, mine Vote, now lockkeeper.Moment) (gate.Vote, error) {
	return taken(f, w.ballot(d, f, mine, now), c.Approve, renews(d.Votes, mine), now)
}

// renews reports whether a vote rests on another activation than all that its
// voter has given already: it may take their place, whose rights may end sooner.
func renews(votes []Vote, mine Vote) bool {
	own := 0
	for _, v := range votes {
		if v.User == mine.User && v.Digest == mine.Digest {
			own++
			if v.Activation == mine.Activation {
				return false
			}
		}
	}
	return own > 0 && own < maxRenewals
}

// taken says how a gate takes a ballot, or why it does not.
func taken(f gate.Facts, ballot gate.Vote, approve, renews bool, now lockkeeper.Moment) (gate.Vote, error) {
	if verdict := gate.Admissible(f, ballot, now); verdict.Verdict != lockkeeper.Pass {
		return ballot, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	if !approve {
		return ballot, nil
	}
	if turn := gate.Turns(f, ballot, now); turn.Verdict != lockkeeper.Pass {
		kind := lockkeeper.Conflict
		if turn.Code == "step_up_needed" {
			kind = lockkeeper.Forbidden
		}
		return ballot, kind.Errorf(turn.Code, "%s", turn.Sentence).WithNext("%s", turn.Next).WithDecision(turn)
	}
	for _, other := range f.Votes {
		if ballot.SamePerson(other) && !(renews && other.User == ballot.User) && !gate.Adds(f, ballot, now) {
			return ballot, lockkeeper.Conflict.Errorf("already_approved", "%s has approved this already, as %s; one person fills one place.", ballot.Counts, other.User).
				WithNext("Ask another person.")
		}
	}
	return ballot, nil
}

// fits refuses a vote that is not for exactly this ask.
func (c vote) fits(d *Deployment, deadline, now lockkeeper.Moment) error {
	switch {
	case len(c.Comment) > maxComment:
		return lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	case c.Digest != d.Digest:
		return lockkeeper.Conflict.Errorf("ask_differs", "The vote is for the ask %.20s…, and this deployment's ask is %.20s….", c.Digest, d.Digest).
			WithNext("Look at the deployment again and vote for what you see.")
	case d.Status != Waiting:
		return lockkeeper.Conflict.Errorf("not_waiting", "The deployment is %s; it waits for nobody.", d.Status)
	case !now.Before(deadline):
		return lockkeeper.Conflict.Errorf("timed_out", "The ask waited until %s and nobody let it through in time.", deadline).WithNext("Start a new run and ask again.")
	}
	return nil
}

// cancelDeployment ends a deployment and its lease.
type cancelDeployment struct {
	Deployment string `json:"deployment"`
	Reason     string `json:"reason,omitempty"`
}

func (c cancelDeployment) name() string  { return "deployment.cancel" }
func (c cancelDeployment) about() string { return deploymentSubject(c.Deployment) }

// decide lets whoever started the run cancel it, whoever holds its handle, and
// whoever holds deployments/cancel there.
func (c cancelDeployment) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if len(c.Reason) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The reason has %d bytes, more than %d.", len(c.Reason), maxComment)
	}
	end := End{Status: Cancelled, At: now, Reason: c.Reason, By: by.String()}
	var right lockkeeper.Decision
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	if by.Holder != d.ID && !(w.startedBy(d, by.User) && w.within(by, lockkeeper.CancelDeployments, scope)) {
		if right, err = w.may(by, lockkeeper.CancelDeployments, scope, now); err != nil {
			return nil, nil, err
		}
		end.Crossed = w.crossed(d, by, lockkeeper.CancelDeployments, now)
	}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return []event{&deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Decision: right, Revision: w.Revision.Number}}, opened{d.ID}, nil
}

func (w *world) startedBy(d *Deployment, user string) bool {
	if user == "" {
		return false
	}
	person := w.rules.Catalog.PersonOf(user)
	return slices.ContainsFunc(d.Initiators, func(o Origin) bool { return slices.Contains(o.Persons, person) })
}

// endDeployment is the job's own word on how it went.
type endDeployment struct {
	Deployment string `json:"deployment"`
	ExitCode   int    `json:"exit_code"`
}

func (c endDeployment) name() string  { return "deployment.end" }
func (c endDeployment) about() string { return deploymentSubject(c.Deployment) }

func (c endDeployment) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if by.Holder != d.ID {
		return nil, nil, lockkeeper.Forbidden.Errorf("handle_needed", "Only the job that holds the deployment may say how it went.").
			WithNext("Cancel it instead: lockkeeper deployments cancel %s", d.ID)
	}
	if d.Status != Running {
		return nil, nil, lockkeeper.Conflict.Errorf("not_running", "The deployment is %s; nothing of it has run.", d.Status).
			WithNext("Cancel it: lockkeeper deployments cancel %s", d.ID)
	}
	end := End{Status: Succeeded, At: now, By: by.String(), ExitCode: c.ExitCode}
	switch {
	case !now.Before(d.Lease.Ends):
		end.Status, end.Reason = Indeterminate, fmt.Sprintf("The lease ended at %s, before the job said how it went.", d.Lease.Ends)
	case c.ExitCode != 0:
		end.Status = Failed
	}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return []event{&deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Revision: w.Revision.Number}}, opened{d.ID}, nil
}

// sweep writes down what arithmetic has ended already: asks out of patience and
// leases out of time. It is bookkeeping; nothing waits for it.
type sweep struct{}

func (sweep) name() string  { return "sweep" }
func (sweep) about() string { return "" }

func (sweep) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	var ids []string
	aborts := w.takesLeases()
	for id, d := range w.Deployments {
		if w.overdue(d, now) || aborts && d.Status == Running || d.Status == Waiting && (w.mayEndAlone(d) || w.calledOut(d, now)) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	out, gone := w.overdueAccess(now)
	out = append(out, w.overdueDuties(now, maxSwept-len(out))...)
	out = append(out, w.overdueProposals(now)...)
	out = append(out, w.overdueFreezes(now)...)
	out = append(out, w.overduePersonal(now, maxSwept-len(out))...)
	out = append(out, w.overdueSessions(now, maxSwept-len(out))...)
	for _, id := range ids {
		d := w.Deployments[id]
		if gone[id] {
			continue
		}
		if ev := w.endOf(d, aborts, now); ev != nil {
			out = append(out, ev)
		} else if d.Status == Waiting {
			out = append(out, w.unsampled(d, w.environmentOf(d), now)...)
		}
		if len(out) >= maxSwept {
			break
		}
	}
	return out, nil, nil
}

// maxSwept bounds what one sweep writes down.
const maxSwept = 100

// mayEndAlone reports whether something in the environment's checks can end a
// waiting ask before its patience does: an approval's time-out or a lock that
// lets only the newest through.
func (w *world) mayEndAlone(d *Deployment) bool {
	return slices.ContainsFunc(slices.Concat(w.environmentOf(d).Checks, d.Terms), func(c catalog.Check) bool {
		return c.Approval != nil && c.Approval.Timeout > 0 || c.Lock != nil && c.Lock.Mode == catalog.LockLatest
	})
}

// overtaken ends a waiting ask whose approval has timed out, or whose place a
// newer one takes; nil if neither is so.
func (w *world) overtaken(d *Deployment, now lockkeeper.Moment) event {
	facts, err := w.facts(d, now)
	if err != nil {
		return nil
	}
	verdict := w.judge(d, facts, now)
	status := map[string]Status{"approval_timed_out": TimedOut, "superseded": Superseded, "call_timed_out": TimedOut, "call_stale": TimedOut, "call_refused": Rejected}[verdict.Code]
	if verdict.Verdict != lockkeeper.Fail || status == "" {
		return nil
	}
	return w.ended(d, End{Status: status, At: now, Reason: verdict.Sentence})
}

func (w *world) ended(d *Deployment, end End) event {
	return &deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Revision: w.Revision.Number}
}

// makeRoom are the entries that stand before a lease: holders of the
// environment whose leases have ended by arithmetic are written down as ended,
// and where only the newest goes through, older asks of the same line give way.
func (w *world) makeRoom(d *Deployment, env catalog.Environment, now lockkeeper.Moment) []event {
	latest := slices.ContainsFunc(env.Checks, func(c catalog.Check) bool { return c.Lock != nil && c.Lock.Mode == catalog.LockLatest })
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		o := w.Deployments[id]
		switch {
		case o.ID == d.ID || o.Ask.Project != d.Ask.Project || o.Ask.Environment != d.Ask.Environment:
		case o.Status == Running && w.overdue(o, now):
			out = append(out, w.expire(o, now))
		case latest && o.Status == Waiting && o.OpenedSeq < d.OpenedSeq && gate.Line(o.Ask) == gate.Line(d.Ask):
			out = append(out, w.ended(o, End{Status: Superseded, At: now, Reason: fmt.Sprintf("%s, which is newer, was let through.", d.ID)}))
		}
	}
	return out
}

// delegate hands the caller's place over to another person, for one ask.
type delegate struct {
	Deployment string `json:"deployment"`
	To         string `json:"to"`
	Comment    string `json:"comment,omitempty"`
}

func (c delegate) name() string  { return "approval.delegate" }
func (c delegate) about() string { return deploymentSubject(c.Deployment) }

// decide lets somebody hand over a place that he could fill himself now, to
// somebody who may approve here himself and stands not behind the run. It is
// judged again whenever the vote counts.
func (c delegate) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := (vote{Digest: d.Digest, Comment: c.Comment}).fits(d, w.deadline(d), now); err != nil {
		return nil, nil, err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	right, err := w.may(by, lockkeeper.ApproveDeployments, scope, now)
	if err != nil {
		return nil, nil, err
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	if u, known := w.rules.Catalog.Users[c.To]; !known || u.Off || u.Automation || c.To == by.User {
		return nil, nil, lockkeeper.Invalid.Errorf("delegate_unfit", "%.63q is nobody who could approve in your place.", c.To).WithNext("Name another user of the catalog.")
	}
	for _, user := range []string{by.User, c.To} {
		v := gate.Vote{User: user, Persons: w.persons(user), Groups: w.askedGroups(facts.Environment, by.User, now), At: now, Right: w.check(user, lockkeeper.ApproveDeployments, scope, now)}
		v.Apart, v.Cooling = w.apart(d, facts, Vote{User: user, Persons: v.Persons}), w.cools(facts, user, v.Persons, now)
		if verdict := gate.Admissible(facts, v, now); verdict.Verdict != lockkeeper.Pass {
			return nil, nil, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
		}
	}
	if slices.ContainsFunc(d.approvals(), func(v Vote) bool { return v.User == by.User }) {
		return nil, nil, lockkeeper.Conflict.Errorf("already_approved", "You have approved this deployment yourself.").WithNext("Nothing: your vote counts.")
	}
	return []event{&approvalDelegated{ID: d.ID, From: by.User, To: c.To, Comment: c.Comment, Right: right, Revision: w.Revision.Number}}, opened{d.ID}, nil
}

func (w *world) expire(d *Deployment, now lockkeeper.Moment) event {
	end := End{Status: TimedOut, At: now, Reason: fmt.Sprintf("Nobody let it through until %s.", w.deadline(d))}
	if d.Status == Running {
		end.Status, end.Reason = Indeterminate, fmt.Sprintf("The lease ended at %s, before the job said how it went.", d.Lease.Ends)
	}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return &deploymentEnded{ID: d.ID, End: end, Digest: d.Digest, Revision: w.Revision.Number}
}
