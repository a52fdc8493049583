package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// noteHold notes that a platform asked. Its message was signed with the application's
// secret.
type noteHold struct {
	ID    string    `json:"-"`
	Asked HoldAsked `json:"asked"`
}

func (noteHold) name() string  { return "hold.note" }
func (noteHold) about() string { return "holds" }

// decide takes a message once, whatever its order and however often it comes, and of
// repositories that the catalog knows only: the application may be installed anywhere.
func (c noteHold) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := onlyKeeper(by); err != nil {
		return nil, nil, err
	}
	a := c.Asked
	if !w.rules.Catalog.Providers[a.Provider].Holds() {
		return nil, nil, lockkeeper.NotFound.Errorf("provider_unknown", "No provider %.40q has an application on its platform.", a.Provider)
	}
	a.Organisation = w.organisationOf(a)
	if a.Organisation == "" {
		return nil, nil, lockkeeper.NotFound.Errorf("repository_unknown", "No pipeline of the catalog is of the repository %.40q of the provider %s.", a.Repository, a.Provider).
			WithNext("Add a Pipeline with its ids to the catalog, or take the application out of the repository.")
	}
	open, kept := 0, 0
	for _, id := range slices.Sorted(maps.Keys(w.Holds)) {
		h := w.Holds[id]
		if h.Asked.same(a) {
			return nil, opened{h.ID}, nil
		}
		if h.settled() && now.Sub(h.Told) >= holdMemory {
			continue
		}
		kept++
		if h.Asked.Provider == a.Provider && h.Asked.Repository == a.Repository && !h.settled() {
			open++
		}
	}
	if kept >= maxHolds || open >= maxHoldsOf {
		return nil, nil, lockkeeper.Limited.Errorf("holds_many", "%d runs of this repository are held, of %d in all.", open, kept).WithNext("End some of them, and let the platform deliver the message again.")
	}
	return []event{&holdNoted{ID: c.ID, Asked: a, Deadline: now.Add(holdPatience), Revision: w.Revision.Number}}, opened{c.ID}, nil
}

// same reports whether two messages are about the same asking.
func (a HoldAsked) same(o HoldAsked) bool {
	return a.Provider == o.Provider && a.Repository == o.Repository && a.Run == o.Run && a.Environment == o.Environment && a.Mark == o.Mark
}

// organisationOf is the organisation of the message, or where it names none the one that
// the catalog's pipelines of the repository have; "": there is no such pipeline. What is
// read of the run later must be of it.
func (w *world) organisationOf(a HoldAsked) string {
	found := ""
	for _, p := range w.rules.Catalog.Pipelines {
		if p.Provider == a.Provider && p.Repository == a.Repository && p.TeamProject == a.Check.Project && (a.Organisation == "" || p.Organisation == a.Organisation) && (found == "" || p.Organisation < found) {
			found = p.Organisation
		}
	}
	return found
}

func onlyKeeper(by Caller) error {
	if !by.Keeper {
		return lockkeeper.Forbidden.Errorf("hold_not_yours", "Only the server's own worker says what a platform holds.")
	}
	return nil
}

// openHold opens the deployment of a hold by what its platform's API says of the run.
type openHold struct {
	Hold       string
	Deployment string
	Handle     lockkeeper.Digest // of a secret that nobody keeps: until a job joins, nobody shows it
	Job        lockkeeper.Workload
}

func (openHold) name() string    { return "hold.open" }
func (c openHold) about() string { return holdSubject(c.Hold) }

// decide opens the deployment, or owes the platform a no with the reason. Without
// artifacts that the run has recorded it waits, until the hold's deadline.
func (c openHold) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	h, err := w.unopened(c.Hold, by)
	if err != nil {
		return nil, nil, err
	}
	if err := w.held(""); err != nil {
		return nil, nil, err
	}
	refuse := func(err error) ([]event, any, error) {
		r := lockkeeper.RefusalOf(err)
		if r == nil || r.Kind != lockkeeper.Forbidden && r.Kind != lockkeeper.Invalid && r.Kind != lockkeeper.Limited {
			return nil, nil, err
		}
		return []event{&holdRefused{ID: h.ID, Code: r.Code, Reason: clipped(r.Sentence), Decision: r.Decision, Job: c.Job, Revision: w.Revision.Number}}, opened{h.ID}, nil
	}
	if err := h.Asked.fits(c.Job); err != nil {
		return refuse(err)
	}
	if err := w.heldTwice(h, c.Job); err != nil {
		return refuse(err)
	}
	ask, err := w.askOfHold(c)
	if named := ask.Project + "/" + ask.Environment; err == nil && h.Asked.ofCheck() && named != h.Asked.Environment {
		// Else the gate of one environment would answer the check of another.
		err = lockkeeper.Forbidden.Errorf("hold_differs", "The check is of %s, and the stage that waits deploys to %s.", h.Asked.Environment, named).
			WithNext("Write Environment: %s into the headers of that environment's check.", named)
	}
	if err != nil {
		late := !now.Before(h.Deadline)
		if r := lockkeeper.RefusalOf(err); r != nil && late && r.Kind == lockkeeper.Conflict {
			err = lockkeeper.Forbidden.Errorf(r.Code, "%s", r.Sentence)
		}
		return refuse(err)
	}
	events, answer, err := w.openAsk(ask, now)
	if err != nil {
		return refuse(err)
	}
	return append(events, &holdOpened{ID: h.ID, Deployment: c.Deployment, Attempt: c.Job.Attempt, Job: c.Job}), answer, nil
}

// unopened is a hold that has opened nothing and owes nothing yet.
func (w *world) unopened(id string, by Caller) (*Hold, error) {
	if err := onlyKeeper(by); err != nil {
		return nil, err
	}
	h := w.Holds[id]
	if h == nil || h.Deployment != "" || h.Owed != nil {
		return nil, lockkeeper.Conflict.Errorf("hold_over", "The hold %.40s is opened or answered already.", id)
	}
	return h, nil
}

// fits refuses what was read of another run than the one that was asked for.
func (a HoldAsked) fits(j lockkeeper.Workload) error {
	if j.Provider != a.Provider || j.Repository.Value != a.Repository || j.Organisation.Value != a.Organisation || j.Project.Value != a.Check.Project ||
		!a.ofCheck() && j.Environment.Value != a.Environment || !a.ofJob() && j.Run.Value != a.Run || a.ofJob() && (j.Job.Value != a.Mark || j.Run.Value == "") {
		return lockkeeper.Forbidden.Errorf("hold_differs", "The run that the platform knows is not the one that it asked for.")
	}
	return nil
}

// heldTwice refuses a second ask of the same run, attempt and environment: the platform
// is answered for a run and an environment, so one answer would count for both. Where it
// is answered for a job, that job asks once: its message again is the same hold.
func (w *world) heldTwice(h *Hold, j lockkeeper.Workload) error {
	for _, o := range w.Holds {
		if h.Asked.ofJob() && o.Asked.Mark != h.Asked.Mark {
			continue
		}
		if o.ID != h.ID && o.Deployment != "" && o.Attempt == j.Attempt && o.Asked.Provider == h.Asked.Provider && o.Asked.Repository == h.Asked.Repository &&
			o.Asked.Run == h.Asked.Run && o.Asked.Environment == h.Asked.Environment {
			return lockkeeper.Forbidden.Errorf("hold_twice", "Attempt %d of run %s has asked for %s before, as %s.", j.Attempt, j.Run.Value, h.Asked.Environment, o.Deployment).
				WithNext("Let one job of a run name the environment.")
		}
	}
	return nil
}

// askOfHold completes what the platform asks with what the catalog and the records say:
// which stage it is, which environment of ours that stage deploys to, and the artifacts
// that the very run has recorded.
func (w *world) askOfHold(c openHold) (openDeployment, error) {
	o := openDeployment{ID: c.Deployment, Job: c.Job, Handle: c.Handle}
	pipeline, stage, err := w.stageOf(c.Job)
	if err != nil {
		return o, err
	}
	var found []string
	for scope, e := range w.rules.Catalog.Environments {
		id, known := w.rules.Catalog.IdentityOf(scope)
		if e.Project == pipeline.Project && e.HeldBy == c.Job.Provider && known && slices.Contains(id.Stages, pipeline.Name+"/"+stage.Name) {
			found = append(found, e.Name)
		}
	}
	if len(found) != 1 {
		return o, lockkeeper.Forbidden.Errorf("hold_unplaced", "The stage %s/%s deploys to %d environments of the project %s that are heldBy %s, and must to one.", pipeline.Name, stage.Name, len(found), pipeline.Project, c.Job.Provider).
			WithNext("Write heldBy: %s in the environment, and name the stage in its identity.", c.Job.Provider)
	}
	o.Project, o.Environment = pipeline.Project, found[0]
	o.Artifacts, err = w.recordedBy(pipeline, c.Job)
	return o, err
}

// recordedBy are the artifacts that a run has recorded.
func (w *world) recordedBy(p catalog.Pipeline, j lockkeeper.Workload) ([]lockkeeper.Artifact, error) {
	var out []lockkeeper.Artifact
	for _, r := range w.Records[p.Project] {
		if r.Pipeline != p.Name || r.Provider != j.Provider || r.Repository != j.Repository.Value || r.Run != j.Run.Value || r.Commit != j.Commit.Value || slices.Contains(out, r.Artifact) {
			continue
		}
		if slices.ContainsFunc(out, func(a lockkeeper.Artifact) bool { return a.Name == r.Artifact.Name }) {
			return nil, lockkeeper.Forbidden.Errorf("artifacts_ambiguous", "The run %s has recorded two artifacts called %s.", j.Run.Value, r.Artifact.Name).WithNext("Record each artifact once in a run.")
		}
		out = append(out, r.Artifact)
	}
	if len(out) == 0 {
		return nil, lockkeeper.Conflict.Errorf("artifacts_missing", "The run %s has recorded no artifact, so nothing says what it would deploy.", j.Run.Value).
			WithNext("Record it in a stage before: lockkeeper artifact record").
			WithDecision(lockkeeper.Decision{Subject: "artifacts", Verdict: lockkeeper.Wait, Code: "artifacts_missing", Sentence: "The run has recorded no artifact."})
	}
	return out, nil
}

// releaseHold is the release: the run was read again just now, everything is verified
// again, and the lease starts.
type releaseHold struct {
	Hold  string
	Lease string
	Job   lockkeeper.Workload
}

func (releaseHold) name() string    { return "hold.release" }
func (c releaseHold) about() string { return holdSubject(c.Hold) }

func (c releaseHold) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := onlyKeeper(by); err != nil {
		return nil, nil, err
	}
	h := w.Holds[c.Hold]
	if h == nil || h.Deployment == "" || h.Owed != nil {
		return nil, nil, lockkeeper.Conflict.Errorf("hold_over", "The hold %.40s waits for nothing.", c.Hold)
	}
	d, err := w.alive(h.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := w.held(""); err != nil {
		return nil, nil, err
	}
	if err := cmpErr(h.Asked.fits(c.Job), w.sameAsk(d, c.Job)); err != nil {
		end := End{Status: Cancelled, At: now, Reason: clipped("The run is not any more what was asked for. " + err.Error()), By: by.String()}
		return []event{w.ended(d, end)}, opened{d.ID}, nil
	}
	if err := w.rightWay(d); err != nil {
		return nil, nil, err
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	verdict := w.judge(d, facts, now)
	if d.Status != Waiting || !verdict.Passed(now) {
		return nil, nil, lockkeeper.Conflict.Errorf("hold_waits", "The gate of %s does not pass: %s", d.ID, verdict.Sentence).WithDecision(verdict)
	}
	limit := untilWaived(verdict, leaseEnd(facts, now.Add(facts.Environment.LeaseLimit()), now))
	beat := min(facts.Environment.Beat(), limit.Sub(now))
	return append(w.makeRoom(d, facts.Environment, now),
		&leaseGranted{Deployment: d.ID, Lease: c.Lease, Digest: d.Digest, Job: d.Requester, Handle: d.Handle, Identity: facts.Identity.Name,
			Subject: SubjectOf(d.Ask.Project, d.Ask.Environment, facts.Identity.Name), Ends: limit, Limit: limit, Beat: beat, Gate: verdict, Revision: w.Revision.Number,
			Carried: w.carried(d, now), Once: w.shares(d, facts, now)},
		&holdReleased{ID: h.ID, Deployment: d.ID, Job: c.Job, Reason: fmt.Sprintf("Lockkeeper let %s through: %s", d.ID, verdict.Sentence)}), opened{d.ID}, nil
}

func cmpErr(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// rightWay refuses a release on another way than the environment's own: of a job where the
// platform holds, or of a hold where it does not any more.
func (w *world) rightWay(d *Deployment) error {
	env := w.rules.Catalog.Environments[lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)]
	h := w.holdOf(d.ID)
	switch {
	case h == nil && env.HeldBy != "":
		return lockkeeper.Forbidden.Errorf("hold_missing", "Runs are held before %s by %s, and this one was not: no ask of its platform opened it.", d.Ask.Environment, env.HeldBy).
			WithNext("Let the job name the platform's environment, with Lockkeeper as its protection rule, and start a new run.")
	case h != nil && env.HeldBy != h.Asked.Provider:
		return lockkeeper.Forbidden.Errorf("hold_not_wanted", "Runs are not held before %s by %s any more.", d.Ask.Environment, h.Asked.Provider).
			WithNext("Start a new run and ask again.")
	}
	return nil
}

// join lets the job of a held run that was let through hold its lease, when it comes
// with its own token and asks for the very same. held is false where the environment
// takes asks from jobs.
func (c openDeployment) join(w *world, now lockkeeper.Moment) (events []event, answer any, held bool, err error) {
	ask, err := w.askOf(c)
	if err != nil {
		return nil, nil, false, nil // the ordinary way says so
	}
	env := w.rules.Catalog.Environments[lockkeeper.EnvironmentScope(ask.Project, ask.Environment)]
	if env.HeldBy == "" {
		return nil, nil, false, nil
	}
	d, h := w.heldRun(ask, c.Job)
	if d == nil || d.Status != Running {
		return nil, nil, true, lockkeeper.Forbidden.Errorf("hold_missing", "Runs are held before %s by %s, and this one was not let through.", ask.Environment, env.HeldBy).
			WithNext("Let the job name the platform's environment, with Lockkeeper as its protection rule, and start a new run.")
	}
	if err := w.useToken(c.Job, deploymentSubject(d.ID), c.Handle, now); err != nil {
		return nil, nil, true, err
	}
	if h.Joined && d.Handle == c.Handle && d.Requester == c.Job.JobKey() {
		return nil, opened{d.ID}, true, nil // the same job asks again
	}
	if err := c.joins(w, d, h, ask, now); err != nil {
		return nil, nil, true, err
	}
	others, begun := w.begunBy(h, d, c.Job), *d
	begun.Initiators = append(slices.Clip(d.Initiators), others...)
	facts, err := w.facts(&begun, now)
	if err != nil {
		return nil, nil, true, err
	}
	if standing := w.standing(&begun, facts, now); !standing.Passed(now) {
		return nil, nil, true, lockkeeper.Forbidden.Errorf(standing.Code, "%s", standing.Sentence).WithNext("%s", standing.Next).WithDecision(standing)
	}
	for _, i := range facts.Initiators[len(d.Initiators):] {
		w.on(deploymentSubject(d.ID)).rest(i.User, lockkeeper.StartDeployments, "", lockkeeper.EnvironmentScope(ask.Project, ask.Environment), i.Right)
	}
	ends := now.Add(d.Lease.Beat)
	if d.Lease.Limit.Before(ends) {
		ends = d.Lease.Limit
	}
	return []event{&leaseJoined{Deployment: d.ID, Lease: d.Lease.ID, Hold: h.ID, Job: c.Job.JobKey(), Handle: c.Handle, Ends: untilFrozen(facts, ends, false, now),
		Token: c.Job.TokenID, TokenExpires: c.Job.Expires, Others: others, Revision: w.Revision.Number}}, opened{d.ID}, true, nil
}

// begunBy are those who let a held job begin and do not stand behind its run yet. GitLab
// leaves a job that was let through to whoever presses its button: he is behind it from
// then on like whoever started the run, so the yes of an approver who does counts no more.
func (w *world) begunBy(h *Hold, d *Deployment, j lockkeeper.Workload) []Origin {
	if !h.Asked.ofJob() {
		return nil
	}
	o := w.origin(j, j.Actor, j.ActorName)
	if slices.ContainsFunc(d.Initiators, func(i Origin) bool { return i.Provider == o.Provider && i.Account == o.Account }) {
		return nil
	}
	return []Origin{o}
}

// joins refuses a job that does not ask for the very thing that was let through. A second
// job of it finds the lease taken.
func (c openDeployment) joins(w *world, d *Deployment, h *Hold, ask lockkeeper.Ask, now lockkeeper.Moment) error {
	digest, err := ask.Digest()
	switch {
	case err != nil || digest != d.Digest:
		return lockkeeper.Forbidden.Errorf("ask_differs", "What this job asks for is not what %s let its run through for: its artifacts, for one, must be those that the run had recorded by then.", d.ID).
			WithNext("Compare: lockkeeper deployments show %s", d.ID)
	case h.Joined:
		return lockkeeper.Conflict.Errorf("lease_taken", "Another job holds this deployment's lease.").WithNext("Only one job of the stage may run it.")
	case !d.leaseLive(now):
		return lockkeeper.Forbidden.Errorf("lease_ended", "The lease ended at %s.", d.Lease.Ends).WithNext("Start a new run.")
	}
	return w.rightWay(d)
}

// heldRun is the deployment that a hold of the ask's run, attempt and environment opened,
// and where the platform held a job, of this very job.
func (w *world) heldRun(a lockkeeper.Ask, j lockkeeper.Workload) (*Deployment, *Hold) {
	for _, h := range w.Holds {
		d := w.Deployments[h.Deployment]
		if d == nil || h.Asked.ofJob() && h.Asked.Mark != j.Job.Value {
			continue
		}
		if o := d.Ask; o.Provider == a.Provider && o.Repository == a.Repository && o.Run == a.Run && o.Attempt == a.Attempt && o.Project == a.Project && o.Environment == a.Environment {
			return d, h
		}
	}
	return nil, nil
}

// loseHold says that the platform does not hold the run any more, or how the run went.
type loseHold struct {
	Hold   string
	Status Status // Cancelled, Succeeded, Failed or Indeterminate
	Reason string
}

func (loseHold) name() string    { return "hold.lose" }
func (c loseHold) about() string { return holdSubject(c.Hold) }

func (c loseHold) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := onlyKeeper(by); err != nil {
		return nil, nil, err
	}
	h := w.Holds[c.Hold]
	if h == nil || h.settled() {
		return nil, nil, lockkeeper.Conflict.Errorf("hold_over", "The hold %.40s is over.", c.Hold)
	}
	d := w.Deployments[h.Deployment]
	if d == nil && h.Owed != nil {
		return nil, nil, nil // it is told, or found moot, on its own
	}
	moot := &holdAnswered{ID: h.ID, Deployment: h.Deployment, Moot: clipped(c.Reason)}
	if d == nil {
		return []event{moot}, nil, nil
	}
	end := End{Status: c.Status, At: now, Reason: clipped(c.Reason), By: by.String()}
	switch {
	case d.Status == Waiting:
		end.Status = Cancelled
		return []event{w.ended(d, end), moot}, nil, nil
	case h.Joined: // the job's own word counts, or its silence
		return nil, nil, nil
	case !d.leaseLive(now):
		return nil, nil, nil
	}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return []event{w.ended(d, end)}, nil, nil
}

// tellHold brings what became of telling the platform.
type tellHold struct {
	Hold    string
	Approve bool
	Moot    string
	Missed  *Missed
}

func (tellHold) name() string    { return "hold.tell" }
func (c tellHold) about() string { return holdSubject(c.Hold) }

func (c tellHold) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := onlyKeeper(by); err != nil {
		return nil, nil, err
	}
	h := w.Holds[c.Hold]
	switch {
	case h == nil || h.Owed == nil || !h.Told.IsZero():
		return nil, nil, nil // told already
	case h.Owed.Approve != c.Approve:
		return nil, nil, lockkeeper.Conflict.Errorf("hold_owes_other", "The hold %s owes its platform something else by now.", h.ID)
	case c.Missed != nil && now.Before(h.Owed.At.Add(holdTelling)):
		if h.Missed != nil && h.Missed.Code == c.Missed.Code {
			return nil, nil, nil
		}
		return []event{&holdTellingMissed{ID: h.ID, Missed: Missed{Code: clipped(c.Missed.Code), Reason: clipped(c.Missed.Reason)}}}, nil, nil
	case c.Missed != nil:
		c.Moot = "The platform could not be told in 30 days."
	}
	return []event{&holdAnswered{ID: h.ID, Deployment: h.Deployment, Approve: c.Approve, Moot: clipped(c.Moot)}}, nil, nil
}
