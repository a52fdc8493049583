package keeper

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Rules are a compiled catalog, together with what directories said: what a
// revision means. Compiling happens beside the writer.
type Rules struct {
	Catalog *catalog.Catalog // with the users whom directories brought
	Access  *access.Index

	own     *Rules         // of the catalog alone; nil: these are
	brought []catalog.User // by directories
	off     []string       // users of the catalog alone whom directories switched off
	bare    *access.Index  // of Catalog, without what directories said
}

// ofCatalog is the catalog alone, without whom directories brought.
func (r *Rules) ofCatalog() *catalog.Catalog {
	if r.own != nil {
		return r.own.Catalog
	}
	return r.Catalog
}

// ofAccess is the index of the catalog alone.
func (r *Rules) ofAccess() *access.Index {
	if r.own != nil {
		return r.own.Access
	}
	return r.Access
}

// compileRules compiles canonical documents.
func compileRules(documents [][]byte) (*Rules, error) {
	c, err := catalog.Compile(documents)
	if err != nil {
		return nil, err
	}
	return &Rules{Catalog: c, Access: access.New(c)}, nil
}

// A world is what a decision sees: the state and the rules in force.
type world struct {
	*State
	rules *Rules
	// spelled remembers, by deployment, the digest of what stood at its last token:
	// to compare two decisions costs less than to spell one. nil remembers nothing.
	spelled map[string]spelling
	// uses collects the rights that the command being decided rests on; nil: it is
	// only asked about.
	uses *[]used
	ease bool // of incidents, only the strict ones count: for what runs already

	spends  *[]spend // collects the uses that the command being decided makes; nil: it is only asked about
	sitting string   // the session that decides: what is bound to another one gives nothing
	going   string   // what is decided about, which may go on by a use that was made for it
	atLarge bool     // it is asked who could at all: what is bound to any session that lives counts
	past    bool     // it is asked about the past, of which no session is known: what was not written down as ended was alive
}

// A spelling is a decision and the digest of its canonical bytes.
type spelling struct {
	decision lockkeeper.Decision
	digest   lockkeeper.Digest
}

// maxSpelled bounds the spellings that are remembered.
const maxSpelled = 1000

// digestOf is the digest of a decision about a deployment.
func (w *world) digestOf(deployment string, d lockkeeper.Decision) (lockkeeper.Digest, error) {
	if s, known := w.spelled[deployment]; known && s.decision.Equal(d) {
		return s.digest, nil
	}
	b, err := marshal(d)
	if err != nil {
		return "", err
	}
	digest := lockkeeper.DigestOf(b)
	if w.spelled != nil {
		if len(w.spelled) >= maxSpelled {
			clear(w.spelled)
		}
		w.spelled[deployment] = spelling{d, digest}
	}
	return digest, nil
}

// persons are all persons that an account may be: its own person, and, until
// its owner has proved himself, whoever made its credential or reset its factors.
func (w *world) persons(user string) []lockkeeper.Person {
	out := []lockkeeper.Person{w.rules.Catalog.PersonOf(user)}
	users := []string{user}
	for i := 0; i < len(users); i++ { // each account once
		a := w.Accounts[users[i]]
		if a == nil || a.Proven {
			continue
		}
		for _, p := range a.Behind {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
		for _, maker := range append([]string{a.Maker}, a.Makers...) {
			if maker == "" || slices.Contains(users, maker) {
				continue
			}
			users = append(users, maker)
			if p := w.rules.Catalog.PersonOf(maker); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// countsAs is the one person whose place an account's vote fills: the last of
// persons, that is whoever vouches for the account in the end.
func countsAs(persons []lockkeeper.Person) lockkeeper.Person { return persons[len(persons)-1] }

// origins says who stands behind the run of w, or refuses when nobody can.
func (w *world) origins(job lockkeeper.Workload) ([]Origin, error) {
	if job.Attempt < 1 {
		return nil, lockkeeper.Forbidden.Errorf("attempt_unknown", "The platform does not say which attempt of the run this is.").
			WithNext("Use a provider whose tokens name the attempt.")
	}
	first := w.origin(job, job.Actor, job.ActorName)
	first.Automation = first.Automation || scheduled(job.Event.Value)
	out := []Origin{first}
	if q := job.QueuedBy; q.Known() && q.Value != job.Actor.Value {
		// Azure DevOps lets somebody queue a run for somebody else. A service that
		// queues for whoever pushed is no user of the catalog, and says nothing.
		if by := w.origin(job, q, lockkeeper.Fact{}); len(by.Persons) > 0 {
			out = append(out, by)
		}
	}
	if job.Attempt == 1 {
		return out, nil
	}
	if !job.RerunActor.Known() {
		return nil, lockkeeper.Forbidden.Errorf("rerun_unknown", "This is attempt %d of run %s, and nobody vouches for who re-ran it.", job.Attempt, job.Run.Value).
			WithNext("Start a new run instead of running this one again.")
	}
	return append(out, w.origin(job, job.RerunActor, lockkeeper.Fact{})), nil
}

// scheduled events name as actor whoever last touched the schedule or owns the
// trigger, not a person who started the run.
func scheduled(event string) bool {
	switch event {
	case "schedule", "workflow_run", // GitHub
		"trigger", "pipeline", // GitLab: by a trigger's token, by another pipeline
		"buildCompletion", "resourceTrigger", "triggered": // Azure DevOps
		return true
	}
	return false
}

func (w *world) origin(job lockkeeper.Workload, id, name lockkeeper.Fact) Origin {
	o := Origin{Provider: job.Provider, Account: id.Value, Name: name.Value}
	if u, ok := w.rules.Catalog.UserOf(job.Provider, id.Value); ok && id.Known() {
		o.Persons, o.Automation = w.linkedBy(job.Provider, id.Value, w.persons(u.Name)), u.Automation
	}
	return o
}

// initiators turns the origins of a deployment into the gate's facts of now.
// The persons found at the opening stay excluded beside those of now.
func (w *world) initiators(d *Deployment, now lockkeeper.Moment) []gate.Initiator {
	w = w.sat("").on(deploymentSubject(d.ID)) // a run on a CI platform is in nobody's session
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	var out []gate.Initiator
	for _, o := range d.Initiators {
		i := gate.Initiator{Account: o.label(), Automation: o.Automation, Persons: w.personsOf(o.Provider, o.Account, o.Persons)}
		if u, ok := w.rules.Catalog.UserOf(o.Provider, o.Account); ok {
			i.User = u.Name
			i.Automation = i.Automation || u.Automation
			i.Right = w.check(u.Name, lockkeeper.StartDeployments, scope, now)
			if by := w.linker(o.Provider, o.Account); by != "" && i.Right.Passed(now) {
				i.Right = w.alsoMay(by, i.Right, o, scope, now) // what both may
			}
		}
		out = append(out, i)
	}
	return out
}

// personsOf are the persons that an account of a platform is now, and those that
// it was before.
func (w *world) personsOf(provider, account string, before []lockkeeper.Person) []lockkeeper.Person {
	out := slices.Clone(before)
	if u, ok := w.rules.Catalog.UserOf(provider, account); ok {
		for _, p := range w.linkedBy(provider, account, w.persons(u.Name)) {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func (o Origin) label() string {
	if o.Name == "" {
		return fmt.Sprintf("%s on %s", o.Account, o.Provider)
	}
	return fmt.Sprintf("%s (%s on %s)", o.Name, o.Account, o.Provider)
}

// facts gathers what the gate of d decides on at now. Every right is computed
// now, not read from when it was used.
func (w *world) facts(d *Deployment, now lockkeeper.Moment) (gate.Facts, error) {
	w = w.eased(d.Status == Running)
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	env, ok := w.rules.Catalog.Environments[scope]
	if !ok {
		return gate.Facts{}, lockkeeper.Forbidden.Errorf("environment_unknown", "The project %s has no environment %s.", d.Ask.Project, d.Ask.Environment).
			WithNext("Ask for an environment that the catalog names.")
	}
	env, unasked := w.rules.Catalog.Facing(d.heldTo(env), d.Ask)
	f := gate.Facts{Ask: d.Ask, Environment: env, Unasked: unasked, Freezes: w.freezesOn(d.Ask),
		Initiators: w.initiators(d, now), Good: w.Good[scope], Opened: d.Opened, Deadline: w.deadline(d), Production: d.Production,
		RecordAge: env.RecordLimit(), Ticket: w.ticket(d), Freed: w.Freed[scope], Holds: w.rules.Catalog.AskHolds, Stood: w.stood(d.Ask.Project),
		Designs: w.designsAt(env, d.Terms), Struck: w.struckAt(scope, d.Ask.Artifacts), Rivals: func() []gate.Rival { return w.rivals(d, now) }}
	if d.RecordAge > 0 {
		f.RecordAge = min(f.RecordAge, d.RecordAge) // a longer one helps no ask that is open
	}
	if d.Lease != nil {
		f.Released = d.Lease.Started
	}
	if id, ok := w.rules.Catalog.IdentityOf(scope); ok {
		f.Identity = &id
	}
	for _, r := range w.recordsOf(d.Ask) {
		if f.Released.IsZero() || !f.Released.Before(r.At) {
			r.Persons = w.personsOf(r.Provider, r.Account, r.Persons)
			for _, account := range r.Others {
				r.Persons = w.personsOf(r.Provider, account, r.Persons)
			}
			f.Records = append(f.Records, r)
		}
	}
	w.weigh(&f, d.Terms)
	f.Outside = func(c catalog.Check) gate.Outside { return d.outside(c) }
	f.Rulings = d.Rulings
	f.Activated = w.activated(d, rolesAsked(env, d), now)
	for i := range f.Initiators {
		f.Initiators[i].Groups = w.spared(f.Freezes, f.Initiators[i].User, now)
	}
	f.Overrides = w.overrides(d, f, now)
	f.Votes = w.ballots(d, f, now)
	return f, nil
}

// deadline is when the patience of an ask ends: as when it was opened, or sooner if
// the environment says so now.
func (w *world) deadline(d *Deployment) lockkeeper.Moment {
	env, known := w.rules.Catalog.Environments[lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)]
	if sooner := d.Opened.Add(env.PatienceLimit()); known && sooner.Before(d.Deadline) {
		return sooner
	}
	return d.Deadline
}

// overdue reports whether the clock has ended an ask or a lease.
func (w *world) overdue(d *Deployment, now lockkeeper.Moment) bool {
	return d.Status == Waiting && !now.Before(w.deadline(d)) || d.Status == Running && !now.Before(d.Lease.Ends)
}

// ballots are the approvals of d as the gate of the facts sees them now.
func (w *world) ballots(d *Deployment, f gate.Facts, now lockkeeper.Moment) []gate.Vote {
	var out []gate.Vote
	d = w.carrying(d, now)
	for _, v := range d.approvals() {
		out = append(out, w.ballot(d, f, v, now))
	}
	return out
}

// judge decides whether d may pass now: by what the environment demands, and by
// what it demanded when the ask was opened, if that was something else.
func (w *world) judge(d *Deployment, f gate.Facts, now lockkeeper.Moment) lockkeeper.Decision {
	w = w.eased(d.Status == Running)
	return w.unlocked(d, w.separated(d, f, w.with(d, f, gate.Judge(f, now), now)))
}

// standing decides whether what let d through stands still.
func (w *world) standing(d *Deployment, f gate.Facts, now lockkeeper.Moment) lockkeeper.Decision {
	w = w.eased(d.Status == Running)
	return w.unlocked(d, d.byOverride(f, w.separated(d, f, w.with(d, f, gate.Standing(f, now), now))))
}

func (w *world) with(d *Deployment, f gate.Facts, verdict lockkeeper.Decision, now lockkeeper.Moment) lockkeeper.Decision {
	if asOpened, differs := w.asOpened(d, f, now); differs {
		return gate.Also(verdict, asOpened)
	}
	return verdict
}

func (w *world) asOpened(d *Deployment, f gate.Facts, now lockkeeper.Moment) (verdict lockkeeper.Decision, differs bool) {
	f, differs = gate.Under(f, d.Terms)
	if !differs || d.Observed { // what only was observed then was demanded of nobody
		return verdict, false
	}
	f.Votes = w.ballots(d, f, now)
	return gate.AsOpened(f, now), true
}

// ticket is the place of a deployment in the queue of its environment.
func (w *world) ticket(d *Deployment) int64 {
	if w.Deployments[d.ID] == nil {
		return w.Size // being opened now: the newest
	}
	return d.OpenedSeq
}

// rivals are the other deployments of the same environment, as its lock sees
// them at now. A holder whose lease has ended by arithmetic holds nothing.
func (w *world) rivals(d *Deployment, now lockkeeper.Moment) []gate.Rival {
	var out []gate.Rival
	for _, o := range w.Deployments {
		if o.ID == d.ID || o.Ask.Project != d.Ask.Project || o.Ask.Environment != d.Ask.Environment {
			continue
		}
		r := gate.Rival{ID: o.ID, Ticket: o.OpenedSeq, Running: o.leaseLive(now), Line: gate.Line(o.Ask)}
		if o.Status == Running && !r.Running {
			r.Freed = o.Lease.Ends
		}
		if o.Status == Waiting {
			facts, err := w.facts(o, now)
			r.Ready = err == nil && gate.Ready(facts, now)
			if asOpened, differs := w.asOpened(o, facts, now); differs {
				r.Ready = r.Ready && asOpened.Passed(now)
			}
			r.Ready = r.Ready && w.together(o, facts) == "" && (len(w.Incidents) == 0 || len(w.locks(w.placeOf(o))) == 0)
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b gate.Rival) int { return cmp.Compare(a.Ticket, b.Ticket) })
	return out
}

// ballot is a vote as the gate sees it now. An account that counted as somebody
// at the vote goes on being excluded as him.
func (w *world) ballot(d *Deployment, f gate.Facts, v Vote, now lockkeeper.Moment) gate.Vote {
	env := f.Environment
	persons := w.persons(v.User)
	counts := countsAs(v.Persons)
	for _, p := range v.Persons {
		if !slices.Contains(persons, p) {
			persons = append(persons, p)
		}
	}
	b := gate.Vote{User: v.User, Counts: counts, Persons: persons, At: v.At, SignedIn: v.SignedIn, Strong: v.Strong, Answers: v.Answers, From: v.From, Fills: v.Fills,
		Right: w.stillMay(v, lockkeeper.ApproveDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now)}
	b.Groups, b.Apart, b.Cooling = w.askedGroups(env, v.User, now), w.apart(d, f, v), w.cools(f, v.User, v.Persons, now)
	for _, o := range d.Delegated {
		if o.To != v.User || v.At.Before(o.At) || !w.mayStandIn(d, f, o, now) {
			continue
		}
		for _, g := range w.askedGroups(env, o.From, now) {
			if !slices.Contains(b.Groups, g) {
				b.Groups, b.For = append(b.Groups, g), o.From
			}
		}
	}
	return b
}

// askedGroups are the groups, of those that the environment's approvals name,
// that the user is in now.
func (w *world) askedGroups(env catalog.Environment, user string, now lockkeeper.Moment) []string {
	var out []string
	for _, c := range env.Checks {
		if c.Approval == nil {
			continue
		}
		for _, g := range c.Approval.Asks() {
			if _, in := w.rules.Access.InGroup(user, g, now); in && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out
}

// mayStandIn reports whether a delegation holds now: whoever handed his place
// over could still fill it himself, and has not.
func (w *world) mayStandIn(d *Deployment, f gate.Facts, o Delegation, now lockkeeper.Moment) bool {
	persons := w.persons(o.From)
	for _, v := range d.approvals() {
		if v.User == o.From || slices.ContainsFunc(v.Persons, func(p lockkeeper.Person) bool { return slices.Contains(persons, p) }) {
			return false
		}
	}
	own := gate.Vote{User: o.From, Persons: persons, Groups: w.askedGroups(f.Environment, o.From, now), At: o.At,
		Right: w.check(o.From, lockkeeper.ApproveDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now)}
	own.Apart, own.Cooling = w.apart(d, f, Vote{User: o.From, Persons: persons}), w.cools(f, o.From, persons, now)
	return gate.Admissible(f, own, now).Passed(now)
}

// may refuses unless the user holds the action at the scope now.
func (w *world) may(by Caller, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, error) {
	if by.User == "" {
		return lockkeeper.Decision{}, lockkeeper.Forbidden.Errorf("person_needed", "Only a person who has signed in may do this.").
			WithNext("Run: lockkeeper login")
	}
	d := w.checkFor(by, action, scope, now)
	if !d.Passed(now) {
		return d, lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	w.rest(by.User, action, "", scope, d)
	return d, nil
}

// session refuses unless the caller's session is alive now.
func (w *world) session(by Caller, now lockkeeper.Moment) error {
	s, why := w.Sessions[by.Session], "The session has ended."
	if s != nil && s.User == by.User {
		why = w.sessionOver(s, now)
	}
	if why != "" {
		return lockkeeper.Unauthenticated.Errorf("session_ended", "%s", why).WithNext("Sign in again: lockkeeper login")
	}
	if err := w.held(by.User); err != nil {
		return err
	}
	if i := w.quarantined(by.User); i != nil {
		return errQuarantined(i)
	}
	u, known := w.rules.Catalog.Users[by.User]
	if !known || u.Off || u.Automation {
		return lockkeeper.Unauthenticated.Errorf("user_off", "The user %s may not sign in.", by.User).
			WithNext("Ask an access administrator to switch the user on in the catalog.")
	}
	return nil
}

// useToken decides whether a CI platform's token may be used for what. A fresh
// token may; one that was used before only for the same thing, from the same
// job, and with the handle that it came with first. A retry is not a replay.
func (w *world) useToken(job lockkeeper.Workload, what string, handle lockkeeper.Digest, now lockkeeper.Moment) error {
	if err := w.held(""); err != nil {
		return err
	}
	if w.Epoch.Number > 0 && !w.Epoch.Since.Before(job.Issued) {
		return lockkeeper.Unauthenticated.Errorf("token_before_recovery", "The CI platform's token was issued at %s, and this log began anew at %s: what was used before is not known any more.", job.Issued, w.Epoch.Since).
			WithNext("Fetch a fresh token and ask again.")
	}
	if !now.Before(job.Expires.Add(tokenGrace)) {
		return lockkeeper.Unauthenticated.Errorf("token_expired", "The CI platform's token ended at %s.", job.Expires).WithNext("Fetch a fresh token and ask again.")
	}
	use := w.Tokens[job.TokenID]
	if use == nil {
		return nil
	}
	if use.For == what && use.Job == job.JobKey() && use.Handle != "" && use.Handle == handle {
		return nil
	}
	return lockkeeper.Forbidden.Errorf("token_replayed", "This token of the CI platform was used before, for something else or without this handle.").
		WithNext("Fetch a fresh token for each thing; only the job that opened a deployment may use its token again, with that deployment's handle. On GitLab, which gives a job one token for each id_tokens entry, declare a second one.")
}
