package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A Rehearsal is what an ask to deploy would get now. Nothing is recorded of it, and
// the CI platform's token that came with it may still open one deployment.
type Rehearsal struct {
	At          lockkeeper.Moment
	Revision    int
	Project     string
	Environment string
	Pipeline    string // "": nobody could say
	Stage       string
	Mode        string              // enforce or observe
	Opens       bool                // the ask would be taken; else it would be refused
	Gate        lockkeeper.Decision // how its gate would stand, or why it would be refused
	Waits       []Awaited           // what it would wait for, or be refused for
	// Earliest is when it could go, by what time alone decides; zero: not before its
	// patience ends, or never. It is the instant only if Sure: else it goes no sooner,
	// for it waits for somebody or something besides.
	Earliest lockkeeper.Moment
	Sure     bool
	Deadline lockkeeper.Moment // when the ask's patience would end
	Assumed  []string          // of a person's question: what no token vouches for
}

// What an ask waits for.
const (
	OnPeople  = "people"  // approvals
	OnTime    = "time"    // delays, hours, freezes
	OnTurn    = "turn"    // the lock
	OnService = "service" // what a service outside says
	OnOther   = "other"   // what somebody else must bring or lift
	OnNever   = "never"   // it would be refused
)

// An Awaited is one thing that stands between an ask and its lease.
type Awaited struct {
	On       string
	Decision lockkeeper.Decision
	Groups   []string // of an approval: who is asked
	Later    []string // who is asked besides after a time
	Users    []string // who could vote now, at most maxNamed of them
	More     int      // how many more could
}

// maxNamed bounds the users that are named for one approval.
const maxNamed = 50

// Rehearse says what the job would get if it asked now: the same decision, on the same
// facts, and nothing of it is recorded. The job learns of approvers what it would learn
// by asking, and who they are, if the environment's identity names its stage.
func (k *Keeper) Rehearse(job lockkeeper.Workload, o OpenDeployment) (Rehearsal, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	return w.rehearse(openDeployment{ID: rehearsed, Job: job, Action: o.Action, Project: o.Project, Environment: o.Environment,
		Artifacts: o.Artifacts, Parameters: o.Parameters, Detached: o.Detached, Plans: o.Plans}, now)
}

// rehearsed is the id of what is not opened. No deployment gets it: ids are random.
const rehearsed = "d-rehearsal"

func (w *world) rehearse(c openDeployment, now lockkeeper.Moment) (Rehearsal, error) {
	out := Rehearsal{At: now, Revision: w.Revision.Number, Project: c.Project, Environment: c.Environment}
	if p, s, err := w.stageOf(c.Job); err == nil {
		out.Project, out.Pipeline, out.Stage = p.Project, p.Name, s.Name
	}
	events, _, err := c.opens(w, now)
	if err != nil {
		return out, out.refuse(err)
	}
	for _, ev := range events {
		if o, is := ev.(*deploymentOpened); is {
			return w.foresee(out, o.deployment(Entry{Seq: w.Size, Time: now}), o.Gate, now)
		}
	}
	return out, fmt.Errorf("the ask opened nothing")
}

// refuse makes a refusal of the ask the answer, and leaves what is wrong with the
// question as an error.
func (r *Rehearsal) refuse(err error) error {
	refusal := lockkeeper.RefusalOf(err)
	if refusal == nil || refusal.Kind != lockkeeper.Forbidden && refusal.Kind != lockkeeper.Limited && refusal.Kind != lockkeeper.Conflict {
		return err
	}
	r.Gate = lockkeeper.Decision{Subject: "ask", Verdict: lockkeeper.Fail, Code: refusal.Code, Sentence: refusal.Sentence, Next: refusal.Next}
	r.Waits = []Awaited{{On: OnNever, Decision: r.Gate}}
	if refusal.Decision != nil {
		r.Gate, r.Waits = *refusal.Decision, nil
		for _, d := range r.Gate.Because {
			if d.Verdict != lockkeeper.Pass {
				r.Waits = append(r.Waits, Awaited{On: onWhat(d, nil), Decision: d})
			}
		}
	}
	return nil
}

// foresee says what d, which was never opened, would wait for.
func (w *world) foresee(out Rehearsal, d *Deployment, verdict lockkeeper.Decision, now lockkeeper.Moment) (Rehearsal, error) {
	facts, err := w.facts(d, now)
	if err != nil {
		return out, err
	}
	out.Opens, out.Gate, out.Deadline, out.Mode = true, verdict, d.Deadline, catalog.EnforceMode
	if facts.Environment.Observes() {
		out.Mode = catalog.ObserveMode
	}
	out.Sure = true
	for _, b := range verdict.Because {
		if b.Verdict == lockkeeper.Pass {
			continue
		}
		check := checkOf(facts.Environment, b.Subject)
		a := Awaited{On: onWhat(b, check), Decision: b}
		if a.On == OnService && b.Code == "call_not_asked" {
			a.Decision = w.foretell(d, *check, b, now)
		}
		if a.On == OnPeople {
			a.Groups = check.Approval.Groups
			if e := check.Approval.Escalate; e != nil {
				a.Later = e.Groups
			}
			a.Users, a.More = w.voters(d, facts, *check.Approval, now)
		}
		if b.Code != "lock_later" { // its turn comes by itself
			out.Waits = append(out.Waits, a)
			out.Sure = out.Sure && a.On == OnTime
		}
	}
	if none := w.hopeless(d, facts, verdict, now); none != nil {
		out.Waits, out.Sure = append(out.Waits, Awaited{On: OnOther, Decision: *none}), false
	}
	if at, found := gate.Earliest(facts, now); found {
		out.Earliest = at
	}
	return out, nil
}

func checkOf(env catalog.Environment, subject string) *catalog.Check {
	for i, c := range env.Checks {
		if subject == "check "+c.Name {
			return &env.Checks[i]
		}
	}
	return nil
}

func onWhat(d lockkeeper.Decision, c *catalog.Check) string {
	switch {
	case d.Verdict != lockkeeper.Wait:
		return OnNever
	case d.Subject == "freeze" || c != nil && (c.Delay != nil || c.Hours != nil):
		return OnTime
	case c != nil && c.Approval != nil:
		return OnPeople
	case c != nil && c.Lock != nil:
		return OnTurn
	}
	if c != nil {
		if _, outside := c.Outside(); outside {
			return OnService
		}
	}
	return OnOther
}

// voters are the users whose votes for an approval would count now, each for himself.
// Who can fill one place of several is the gate's to say.
func (w *world) voters(d *Deployment, f gate.Facts, a catalog.Approval, now lockkeeper.Moment) (users []string, more int) {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	for _, user := range slices.Sorted(maps.Keys(w.rules.Catalog.Users)) {
		u := w.rules.Catalog.Users[user]
		if u.Off || u.Automation || !slices.ContainsFunc(a.Groups, func(g string) bool { _, in := w.rules.Access.InGroup(user, g, now); return in }) {
			continue
		}
		v := w.ballot(d, f, w.voteOf(Caller{User: user}, true, d.Digest, lockkeeper.ApproveDeployments, scope, now), now)
		if gate.Admissible(f, v, now).Verdict != lockkeeper.Pass {
			continue
		}
		if len(users) < maxNamed {
			users = append(users, user)
		} else {
			more++
		}
	}
	return users, more
}

// An Imagined is an ask that a person asks about, as a run of a stage that he started
// himself.
type Imagined struct {
	OpenDeployment
	Stage       string // PIPELINE/STAGE of the project
	Ref, Commit string
	Event       string // default: the first that the stage's trust admits
}

// Imagine says what a run of a stage would get if the caller had started it and it
// asked now. It takes deployments/read at the environment.
func (k *Keeper) Imagine(by Caller, o Imagined) (Rehearsal, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	return w.imagine(by, o, now)
}

func (w *world) imagine(by Caller, o Imagined, now lockkeeper.Moment) (Rehearsal, error) {
	scope := lockkeeper.EnvironmentScope(o.Project, o.Environment)
	out := Rehearsal{At: now, Revision: w.Revision.Number, Project: o.Project, Environment: o.Environment}
	if lockkeeper.CheckName(o.Project) != nil || lockkeeper.CheckName(o.Environment) != nil {
		return out, lockkeeper.Invalid.Errorf("environment_unknown", "A person's question names the project and the environment.").WithNext("Name them: --project P --environment E")
	}
	if _, err := w.may(by, lockkeeper.ReadDeployments, scope, now); err != nil {
		return out, err
	}
	env, known := w.rules.Catalog.Environments[scope]
	if !known {
		return out, lockkeeper.NotFound.Errorf("environment_unknown", "The project %s has no environment %q.", o.Project, o.Environment).
			WithNext("Name an environment of the catalog: %s.", environmentsOf(w.rules.Catalog, o.Project))
	}
	pipeline, stage, err := w.stageNamed(o)
	if err != nil {
		return out, err
	}
	out.Pipeline, out.Stage = pipeline.Name, stage.Name
	ask, origin, err := w.imagined(by, o, pipeline, stage)
	if err != nil {
		return out, err
	}
	out.Assumed = assumed(by, ask, origin)
	if err := trusted(stage, ask); err != nil {
		return out, out.refuse(err)
	}
	digest, err := ask.Digest()
	if err != nil {
		return out, lockkeeper.Invalid.Errorf("ask_malformed", "The ask has no digest: %v.", err)
	}
	env, _ = w.rules.Catalog.Facing(env, ask)
	d := &Deployment{ID: rehearsed, Status: Waiting, Ask: ask, Digest: digest, Opened: now, OpenedSeq: w.Size, Deadline: now.Add(env.PatienceLimit()),
		Initiators: []Origin{origin}, Terms: gate.Terms(env), Apart: w.separations(scope), RecordAge: env.RecordLimit(),
		Production: env.Tier == catalog.Production, Activation: env.Activation, Observed: env.Observes(), Override: env.Override}
	facts, err := w.facts(d, now)
	if err != nil {
		return out, err
	}
	verdict := w.judge(d, facts, now)
	if verdict.Verdict == lockkeeper.Fail || verdict.Verdict == lockkeeper.Error {
		return out, out.refuse(lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict))
	}
	return w.foresee(out, d, verdict, now)
}

func (w *world) stageNamed(o Imagined) (catalog.Pipeline, catalog.Stage, error) {
	pipeline, stage, _ := strings.Cut(o.Stage, "/")
	p, known := w.rules.Catalog.Pipelines[lockkeeper.PipelineScope(o.Project, pipeline)]
	i := slices.IndexFunc(p.Stages, func(s catalog.Stage) bool { return s.Name == stage })
	if !known || i < 0 {
		return p, catalog.Stage{}, lockkeeper.NotFound.Errorf("stage_unknown", "The project %s has no stage %.130q.", o.Project, o.Stage).WithNext("Name it as PIPELINE/STAGE, as the identity of the environment does.")
	}
	return p, p.Stages[i], nil
}

// imagined is the ask of a run that the caller started, with what the catalog knows of
// the stage and without what only a token says.
func (w *world) imagined(by Caller, o Imagined, p catalog.Pipeline, s catalog.Stage) (lockkeeper.Ask, Origin, error) {
	artifacts, err := lockkeeper.NewArtifacts(o.Artifacts)
	if err == nil {
		err = lockkeeper.CheckParameters(o.Parameters)
	}
	if err != nil {
		return lockkeeper.Ask{}, Origin{}, lockkeeper.Invalid.Errorf("ask_malformed", "%v.", err).WithNext("Name each artifact once as NAME=sha256:HEX.")
	}
	action := o.Action
	if action == "" {
		action = lockkeeper.DeployAction
	}
	if action != lockkeeper.DeployAction && action != lockkeeper.RollbackAction && action != lockkeeper.RedeployAction {
		return lockkeeper.Ask{}, Origin{}, lockkeeper.Invalid.Errorf("action_unknown", "There is no action %.40q.", action).WithNext("Ask for deploy, rollback or redeploy.")
	}
	if o.Event == "" && len(s.Trust.Events) > 0 {
		o.Event = s.Trust.Events[0]
	}
	origin := Origin{Provider: p.Provider}
	for _, id := range w.rules.Catalog.Users[by.User].IDs {
		if id.Provider == p.Provider {
			origin = w.origin(lockkeeper.Workload{Provider: p.Provider}, lockkeeper.SignedFact(id.ID), lockkeeper.Fact{})
			break
		}
	}
	origin.Automation = origin.Automation || scheduled(o.Event)
	return lockkeeper.Ask{Action: action, Event: o.Event, Project: o.Project, Environment: o.Environment, Pipeline: p.Name, Stage: s.Name,
		Provider: p.Provider, Repository: p.Repository, Attempt: 1, Ref: o.Ref, Commit: o.Commit,
		Definition: lockkeeper.Definition{Path: p.Definition, Ref: o.Ref, Commit: o.Commit}, Template: lockkeeper.Definition{Path: s.Trust.Called},
		Artifacts: artifacts, Parameters: o.Parameters, Detached: o.Detached}, origin, nil
}

// trusted refuses what the stage's trust rule would not take for the stage, as far as
// it hangs on what the caller named.
func trusted(s catalog.Stage, ask lockkeeper.Ask) error {
	for _, f := range []struct {
		what, got string
		of        []string
	}{{"ref", ask.Ref, s.Trust.Refs}, {"event", ask.Event, s.Trust.Events}} {
		if len(f.of) > 0 && !slices.Contains(f.of, f.got) {
			return lockkeeper.Forbidden.Errorf("stage_unmatched", "A run whose %s is %.200q is not of the stage %s.", f.what, f.got, s.Name).
				WithNext("Its trust rule admits: %s.", strings.Join(f.of, ", "))
		}
	}
	return nil
}

func assumed(by Caller, ask lockkeeper.Ask, o Origin) []string {
	who := fmt.Sprintf("%s starts the run, as the account %s on %s.", by.User, o.Account, o.Provider)
	if o.Account == "" {
		who = fmt.Sprintf("%s starts the run, and no account of his on %s is in the catalog.", by.User, o.Provider)
	}
	return []string{who,
		fmt.Sprintf("The run is of the event %q, its first attempt, and everything else in the stage's trust rule agrees.", ask.Event),
		"Nobody vouches for the rest of what a job's token says, such as whether the ref is protected: checks of that are judged as if the platform said nothing."}
}
