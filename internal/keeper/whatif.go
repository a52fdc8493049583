package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// What deciding a recorded decision again gave.
const (
	AgainSame       = "same"
	AgainRefused    = "refused"    // it would be refused
	AgainWaits      = "waits"      // it would wait for something
	AgainAllowed    = "allowed"    // it was refused, and would not be
	AgainUnknowable = "unknowable" // nothing recorded says
)

// A WhatIf is a recorded past decided again under other rules. Each decision is
// decided on the past as it was recorded up to it, and never on one that might have
// been: nobody's vote, evidence or later ask is invented. What hangs on a decision that
// differs is unknowable.
type WhatIf struct {
	Since      lockkeeper.Moment `json:"since"`
	Until      lockkeeper.Moment `json:"until"` // the journal's last entry
	Entries    int64             `json:"entries"`
	Decided    int               `json:"decided"` // decisions that were looked at
	Same       int               `json:"same"`
	Refused    int               `json:"refused"`
	Waits      int               `json:"waits"`
	Allowed    int               `json:"allowed"`
	Unknowable map[string]int    `json:"unknowable"` // how many, by why
	Differs    []Differing       `json:"differs"`
	Left       int               `json:"left"` // that differ and are not listed
}

// A Differing is one decision that would differ.
type Differing struct {
	Seq      int64               `json:"seq"` // the entry that recorded it
	At       lockkeeper.Moment   `json:"at"`
	Kind     string              `json:"kind"`
	By       string              `json:"by"`
	About    []string            `json:"about"`
	Answer   string              `json:"answer"` // refused, waits or allowed
	Code     string              `json:"code"`
	Sentence string              `json:"sentence"`
	Was      string              `json:"was,omitempty"` // the code that it was refused with
	On       []string            `json:"on,omitempty"`  // what it would wait for
	Decision lockkeeper.Decision `json:"decision,omitzero"`
}

// WhatIfOptions say what is decided again.
type WhatIfOptions struct {
	// Rules under which it is; nil: those that were in force each time. Then all must
	// come out the same, or this release decides otherwise than the one that recorded it.
	Rules    *catalog.Catalog
	Since    lockkeeper.Moment
	Most     int                     // how many that differ are listed
	Progress func(done, total int64) // nil: nobody looks
	// Evaluate gives the verdict of a policy's text over an input, in a ruling that says
	// nothing else; nil: what policies would say is unknowable where no ruling was
	// recorded over the same facts.
	Evaluate func(ctx context.Context, text string, input []byte) gate.Ruling
}

// whyUnknowable says the reasons for which nothing recorded gives an answer.
var whyUnknowable = map[string]string{
	"follows":      "it hangs on a decision that would differ",
	"refused_then": "it was refused, and what was refused is not recorded in full",
	"caller":       "the entry does not name its caller in full",
	"catalog":      "it changed the catalog, and here one catalog holds all the time",
	"outside":      "a service that nobody asked then would have to say",
	"error":        "it could not be decided again",
	"evaluator":    "another release evaluated a policy then, and this one says something else of it",
	"policy":       "a policy gave no verdict, or its text is not in this catalog",
}

// WhyUnknowable is a reason in words.
func WhyUnknowable(code string) string { return whyUnknowable[code] }

// DecideAgain folds a journal and decides the decisions since an instant again. It
// needs no more memory than the state takes, and the catalog.
func DecideAgain(ctx context.Context, r *journal.Reader, o WhatIfOptions) (WhatIf, error) {
	h := hindsight{state: newState(), out: WhatIf{Since: o.Since, Unknowable: map[string]int{}, Differs: []Differing{}}, gone: map[string]bool{}, most: o.Most, given: o.Rules != nil, evaluate: func(text string, input []byte) gate.Ruling { return o.Evaluate(ctx, text, input) }}
	if o.Evaluate == nil {
		h.evaluate = nil
	}
	var err error
	if h.given {
		h.rules, err = compileRules(documentsOf(o.Rules))
	} else {
		h.rules, err = compileRules(nil)
		h.law = func(rev Revision) (*Rules, error) { return rulesIn(ctx, r, rev) }
	}
	if err != nil {
		return h.out, err
	}
	const page = 1024
	total := r.Head().Size
	for from := int64(0); from < total; from += page {
		for d, err := range decoded(ctx, r.Entries(ctx, from, min(total, from+page))) {
			if err == nil {
				err = h.take(d.entry, d.event)
			}
			if err != nil {
				return h.out, &journal.Broken{Seq: h.state.Size, What: err.Error()}
			}
		}
		if o.Progress != nil {
			o.Progress(min(total, from+page), total)
		}
	}
	return h.done()
}

// rulesIn compiles a revision out of a journal.
func rulesIn(ctx context.Context, r *journal.Reader, rev Revision) (*Rules, error) {
	var documents [][]byte
	for _, d := range rev.Documents {
		data, err := r.Document(ctx, d)
		if err != nil {
			return nil, err
		}
		documents = append(documents, data)
	}
	return compileRules(documents)
}

// hindsight is a fold that stops before each decision and decides it again.
type hindsight struct {
	state *State
	rules *Rules
	given bool                           // rules of the caller, not those of then
	law   func(Revision) (*Rules, error) // the rules of then
	held  []happened                     // ends that a claim began with, not applied yet
	gone  map[string]bool                // ids of what would not have come about; as many as differ
	most  int
	out   WhatIf

	evaluate func(text string, input []byte) gate.Ruling // nil: nobody does
}

type happened struct {
	entry Entry
	event event
}

// take looks at the next entry and folds it. A claim writes down first which holders'
// time has ended; it was decided before that, so these entries wait for it.
func (h *hindsight) take(e Entry, ev event) error {
	if _, ends := ev.(*deploymentEnded); ends && e.By.Workload != nil {
		h.held = append(h.held, happened{e, ev})
		return nil
	}
	if _, claims := ev.(*leaseGranted); !claims {
		if err := h.flush(); err != nil {
			return err
		}
	}
	if !e.Time.Before(h.out.Since) {
		h.again(e, ev)
	}
	if err := h.flush(); err != nil {
		return err
	}
	return h.fold(e, ev)
}

func (h *hindsight) flush() error {
	for _, x := range h.held {
		if err := h.fold(x.entry, x.event); err != nil {
			return err
		}
	}
	h.held = nil
	return nil
}

func (h *hindsight) done() (WhatIf, error) {
	err := h.flush()
	h.out.Until, h.out.Entries = h.state.Now, h.state.Size
	return h.out, err
}

func (h *hindsight) fold(e Entry, ev event) error {
	if err := h.state.apply(e, ev); err != nil {
		return err
	}
	rejoin := rejoining(ev)
	if applied, is := ev.(*catalogApplied); is {
		rejoin = true
		if !h.given {
			rules, err := h.law(Revision{Number: applied.Number, Digest: applied.Digest, Documents: applied.Documents})
			if err != nil {
				return err
			}
			h.rules = rules
		}
	}
	if rejoin {
		h.rules = h.rules.joined(h.state)
	}
	if h.given {
		h.underGiven(ev)
	}
	return nil
}

// underGiven makes what was opened be held to what the given rules would have demanded
// at its opening, in the place of what was demanded then.
func (h *hindsight) underGiven(ev event) {
	w := h.world()
	switch ev := ev.(type) {
	case *deploymentOpened:
		scope := lockkeeper.EnvironmentScope(ev.Ask.Project, ev.Ask.Environment)
		env, _ := h.rules.Catalog.Facing(h.rules.Catalog.Environments[scope], ev.Ask)
		d := h.state.Deployments[ev.ID]
		d.Terms, d.Apart, d.RecordAge, d.Production = gate.Terms(env), w.separations(scope), env.RecordLimit(), env.Tier == catalog.Production
		d.Activation, d.Observed, d.Override, d.Deadline = env.Activation, env.Observes(), env.Override, d.Opened.Add(env.PatienceLimit())
	case *overrideRequested:
		d := h.state.Deployments[ev.Deployment]
		for i := range d.Overrides {
			if o := &d.Overrides[i]; o.ID == ev.Override.ID {
				o.Terms = w.overrideTerms(d.Ask, o.Waives)
			}
		}
	case *requestOpened:
		r := h.state.Requests[ev.Request.ID]
		d := w.demandsOn(r.Role, r.Scope)
		r.Terms, r.CoolingOff, r.StepUp, r.Strong = d.terms(), d.coolingOff, d.stepUp().age, d.stepUp().strong
		r.Deadline = r.patienceFrom().Add(d.patience)
		if r.Extends != "" && r.From.Before(r.Deadline) {
			r.Deadline = r.From
		}
	}
}

func (h *hindsight) world() *world { return &world{State: h.state, rules: h.rules} }

// again decides one entry again, if it records a decision that rules take part in.
func (h *hindsight) again(e Entry, ev event) {
	if ruled, is := ev.(*policyJudged); is && !h.given {
		h.ruleAgain(e, ruled)
		return
	}
	r := repeat(h.state, e, ev)
	follows := slices.ContainsFunc(r.rests, func(id string) bool { return h.gone[id] })
	if r.decide == nil && r.unknowable == "" {
		if follows && r.makes != "" { // part of a decision that differs
			h.gone[r.makes] = true
		}
		return
	}
	h.out.Decided++
	if follows {
		r.unknowable = "follows"
	}
	if r.unknowable != "" {
		h.out.Unknowable[r.unknowable]++
		return
	}
	unruled := h.rule(h.claimed(ev, r), e.Time)
	missing, undo := h.recalled(ev, r)
	_, _, err := r.decide(h.world())
	undo()
	refusal := lockkeeper.RefusalOf(err)
	if why := unanswered(refusal, missing, unruled); why != "" {
		h.out.Unknowable[why]++
		if r.makes != "" {
			h.gone[r.makes] = true
		}
		return
	}
	switch {
	case err != nil && refusal == nil:
		h.out.Unknowable["error"]++
		return
	case r.was == "" && err == nil, r.was != "" && err != nil && (r.waited || !waits(refusal)):
		h.out.Same++
		return
	}
	h.differs(e, ev, r, refusal)
}

// differs keeps a decision that would differ; refusal is nil if it would be let through.
func (h *hindsight) differs(e Entry, ev event, r repetition, refusal *lockkeeper.Refusal) {
	d := Differing{Seq: e.Seq, At: e.Time, Kind: e.Kind, By: e.By.String(), About: ev.subjects(), Answer: AgainRefused, Was: r.was}
	if refusal == nil {
		d.Answer, d.Code, d.Sentence = AgainAllowed, "allowed", "It was refused, and would be let through."
	} else if d.Code, d.Sentence = refusal.Code, refusal.Sentence; refusal.Decision != nil {
		d.Decision = *refusal.Decision
	}
	switch {
	case refusal == nil:
		h.out.Allowed++
	case d.Decision.Verdict == lockkeeper.Wait:
		d.Answer = AgainWaits
		for _, b := range d.Decision.Because {
			if b.Verdict == lockkeeper.Wait && b.Code != "lock_later" {
				d.On = append(d.On, b.Subject)
			}
		}
		h.out.Waits++
	default:
		h.out.Refused++
	}
	if r.makes != "" {
		h.gone[r.makes] = true
	}
	if len(h.out.Differs) < h.most {
		h.out.Differs = append(h.out.Differs, d)
	} else {
		h.out.Left++
	}
}

// A repetition is how an entry's decision is made again.
type repetition struct {
	decide     func(*world) ([]event, any, error)
	unknowable string   // or why it cannot be
	was        string   // the code of what was refused
	waited     bool     // it was refused, such as a heartbeat, for it waited for something
	makes      string   // what would not be there if it differed
	rests      []string // on what it hangs
}

// repeat says how the decision that an entry records is made again: by the command
// that made it, as far as the entry and the state tell it. Entries that record no
// decision of rules, or one that rules do not touch, have none.
func repeat(s *State, e Entry, ev event) repetition {
	switch ev := ev.(type) {
	case *artifactRecorded, *evidenceAdded, *deploymentOpened, *leaseGranted, *tokenGranted:
		return repeatJob(s, e, ev)
	case *requestOpened, *requestApproved, *requestClosed, *activationBegun, *activationExtended, *tokenIssued:
		return repeatActivation(s, e, ev)
	case *recordProposed, *recordApproved, *recordClosed:
		return repeatDesign(s, e, ev)
	case *refusalMade:
		return repeatRefused(e, ev)
	case *catalogApplied:
		return repetition{unknowable: "catalog"}
	}
	return repeatDeployment(s, e, ev)
}

// asked makes a repetition of a command.
func asked(e Entry, cmd command, makes string, rests ...string) repetition {
	return repetition{decide: func(w *world) ([]event, any, error) { return cmd.decide(w, e.By, e.Time) }, makes: makes, rests: append(rests, makes)}
}

func repeatJob(s *State, e Entry, ev event) repetition {
	if e.By.Workload == nil {
		return repetition{unknowable: "caller"}
	}
	job := *e.By.Workload
	switch ev := ev.(type) {
	case *artifactRecorded:
		return asked(e, recordArtifacts{job, ev.Artifacts}, "")
	case *evidenceAdded:
		return asked(e, addEvidence{Job: job, Artifacts: ev.Artifacts, Environment: ev.Environment, Pieces: []readPiece{{ID: ev.ID, Name: ev.Name, Summary: ev.Summary, Content: ev.Content, Size: ev.Size}}}, "")
	case *deploymentOpened:
		return asked(e, openDeployment{ID: ev.ID, Job: job, Action: ev.Ask.Action, Project: ev.Ask.Project, Environment: ev.Ask.Environment,
			Artifacts: ev.Ask.Artifacts, Parameters: ev.Ask.Parameters, Handle: ev.Handle, Detached: ev.Ask.Detached, Plans: ev.Ask.Plans}, ev.ID)
	case *leaseGranted:
		claim := claimLease{Deployment: ev.Deployment, Lease: ev.Lease, Job: job, Handle: ev.Handle}
		if d := s.Deployments[ev.Deployment]; d != nil {
			claim.Plans = d.Ask.Plans
		}
		return asked(e, claim, ev.Deployment)
	case *tokenGranted:
		return asked(e, grantToken{Deployment: ev.Deployment, ID: ev.ID, Job: job, Handle: ev.Handle, Audience: ev.Audience}, "", ev.Deployment)
	}
	return repetition{}
}

func repeatDeployment(s *State, e Entry, ev event) repetition {
	switch ev := ev.(type) {
	case *deploymentApproved:
		return asked(e, vote{Deployment: ev.ID, Approve: true, Digest: ev.Digest, Comment: ev.Comment, Answers: ev.Answers}, "", ev.ID, ev.Activation)
	case *overrideRequested, *overrideApproved, *overrideClosed:
		return repeatOverride(s, e, ev)
	case *approvalDelegated:
		return asked(e, delegate{ev.ID, ev.To, ev.Comment}, "", ev.ID)
	case *leaseRenewed:
		if d := s.Deployments[ev.Deployment]; d != nil && d.Lease != nil {
			return asked(e, renewLease{ev.Deployment, d.Lease.Handle}, "", ev.Deployment)
		}
	case *deploymentEnded:
		switch {
		case e.By.User == "": // by the job that held it, or by the clock
		case ev.End.Status == Rejected:
			return asked(e, vote{Deployment: ev.ID, Approve: false, Digest: ev.Digest, Comment: ev.End.Reason}, "", ev.ID)
		case ev.End.Status == Cancelled:
			return asked(e, cancelDeployment{ev.ID, ev.End.Reason}, "", ev.ID)
		}
	}
	return repetition{}
}

// repeatOverride makes the decisions on an override again. What its last approval grants
// is part of that.
func repeatOverride(s *State, e Entry, ev event) repetition {
	switch ev := ev.(type) {
	case *overrideRequested:
		o := ev.Override
		return asked(e, requestOverride{ID: o.ID, Deployment: ev.Deployment, Waives: o.Waives, Reason: o.Reason, Incident: o.Incident}, o.ID, ev.Deployment)
	case *overrideApproved:
		return asked(e, decideOverride{Override: ev.ID, Review: ev.ID + "-r", Approve: true, Digest: s.overrideDigestOf(ev.Deployment, ev.ID), Comment: ev.Vote.Comment}, "", ev.ID, ev.Deployment, ev.Vote.Activation)
	case *overrideClosed:
		if ev.Status == overrideDenied {
			return asked(e, decideOverride{Override: ev.ID, Digest: s.overrideDigestOf(ev.Deployment, ev.ID), Comment: ev.Reason}, "", ev.ID, ev.Deployment)
		}
	}
	return repetition{}
}

// overrideDigestOf is the digest of an override that a deployment has.
func (s *State) overrideDigestOf(deployment, id string) lockkeeper.Digest {
	if d := s.Deployments[deployment]; d != nil {
		for _, o := range d.Overrides {
			if o.ID == id {
				return o.Digest
			}
		}
	}
	return ""
}

func repeatActivation(s *State, e Entry, ev event) repetition {
	switch ev := ev.(type) {
	case *requestOpened:
		r := ev.Request
		if slices.ContainsFunc(ev.Decision.Because, func(d lockkeeper.Decision) bool { return d.Code == "glass_broken" }) {
			return asked(e, breakGlass{Request: r.ID, Activation: r.ID + "-a", Review: r.ID + "-r", Role: r.Role, Scope: r.Scope, For: r.For, Reason: r.Reason}, r.ID)
		}
		return repetition{makes: r.ID, rests: []string{r.ID, r.Extends, r.Deployment}, decide: func(w *world) ([]event, any, error) {
			return w.ask(Request{ID: r.ID, User: r.User, Role: r.Role, Actions: w.rules.Access.RoleActions(r.Role), Scope: r.Scope, For: r.For, Reason: r.Reason, Ticket: r.Ticket,
				At: r.At, Extends: r.Extends, From: r.From, Deployment: r.Deployment, Run: r.Run}, e.Time)
		}}
	case *requestApproved:
		if r := s.Requests[ev.ID]; r != nil {
			return asked(e, decideRequest{Request: ev.ID, Approve: true, Digest: r.Digest, Comment: ev.Comment}, "", ev.ID, ev.Activation)
		}
	case *requestClosed:
		if r := s.Requests[ev.ID]; r != nil && ev.Status == requestDenied {
			return asked(e, decideRequest{Request: ev.ID, Digest: r.Digest, Comment: ev.Reason}, "", ev.ID)
		}
	case *activationBegun:
		if ev.Activation.BreakGlass != "" { // decided with its request
			return repetition{makes: ev.Activation.ID, rests: []string{ev.Activation.Request}}
		}
		return asked(e, beginActivation{Request: ev.Activation.Request, ID: ev.Activation.ID}, ev.Activation.ID, ev.Activation.Request)
	case *activationExtended:
		return asked(e, beginActivation{Request: ev.Request, ID: ev.ID}, "", ev.ID, ev.Request)
	case *tokenIssued:
		identity := string(ev.Token.Identity[strings.LastIndex(string(ev.Token.Identity), "/")+1:])
		return asked(e, issueToken{ID: ev.Token.ID, Project: ev.Token.Identity.Project(), Identity: identity, Audience: ev.Token.Audience}, "", ev.Token.Activation)
	}
	return repetition{}
}

// String counts what came out.
func (r WhatIf) String() string {
	n := 0
	for _, k := range r.Unknowable {
		n += k
	}
	return fmt.Sprintf("%d decisions: %d the same, %d would be refused, %d would wait, %d would be let through, %d unknowable", r.Decided, r.Same, r.Refused, r.Waits, r.Allowed, n)
}
