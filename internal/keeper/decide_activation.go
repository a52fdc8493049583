package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// requestFacts are what the approvals of a request are judged on, given the checks
// that are asked for. The requester is whom the gate excludes.
func (w *world) requestFacts(r *Request, checks []catalog.Check, now lockkeeper.Moment) gate.Facts {
	f := gate.Facts{Environment: catalog.Environment{Name: r.Role, Checks: checks}, Opened: r.Opened, Deadline: r.Deadline,
		About:      fmt.Sprintf("activations of %s at %s", r.Role, r.Scope),
		Initiators: []gate.Initiator{{User: r.User, Account: r.User, Persons: w.everybody(r.User, r.Persons), Right: lockkeeper.Decision{Verdict: lockkeeper.Pass}}}}
	if r.Run != nil {
		f.Initiators = w.runInitiators(r.Run)
	}
	for _, v := range r.Votes {
		if r.approvedBy(v) {
			f.Votes = append(f.Votes, w.requestBallot(r, checks, v, now))
		}
	}
	return f
}

// everybody are the persons that a user is now, and those that he was before.
func (w *world) everybody(user string, before []lockkeeper.Person) []lockkeeper.Person {
	out := slices.Clone(before)
	for _, p := range w.persons(user) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func (w *world) requestBallot(r *Request, checks []catalog.Check, v Vote, now lockkeeper.Moment) gate.Vote {
	return gate.Vote{User: v.User, Counts: countsAs(v.Persons), Persons: w.everybody(v.User, v.Persons), At: v.At,
		Groups: w.askedGroups(catalog.Environment{Checks: checks}, v.User, now), Right: w.stillMay(v, lockkeeper.ApproveActivations, r.Scope, now),
		SignedIn: v.SignedIn, Strong: v.Strong}
}

// stillMay decides whether a voter's right holds now. A right that he had
// activated at the vote holds as long as he is eligible for it: nobody has to stay
// activated until others have voted, and whoever loses the eligibility, or the
// activation to somebody who revokes it, loses the vote.
func (w *world) stillMay(v Vote, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d := w.check(v.User, action, scope, now)
	if d.Passed(now) || v.Activation == "" || d.Code != "not_granted" || !w.rules.Access.RoleAllows(v.Role, action) {
		return d
	}
	if e := w.rules.Access.EligibleTo(v.Role, scope, catalog.Circumstance{Action: action, Scope: scope, User: v.User, Now: now}); e.Passed(now) {
		return lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "activated_then", Until: e.Until, Because: []lockkeeper.Decision{e},
			Sentence: fmt.Sprintf("%s had activated %s when he voted (%s), and is eligible for it still.", v.User, v.Role, v.Activation)}
	}
	return d
}

// judgeRequest decides whether a request may be begun now. Everything is live: the
// requester's eligibility, the rules, the approvers' rights. What the rules asked
// for when the request was made goes on being asked for beside what they ask now.
func (w *world) judgeRequest(r *Request, now lockkeeper.Moment) lockkeeper.Decision {
	d := w.demandsOn(r.Role, r.Scope)
	because := []lockkeeper.Decision{w.eligible(r.User, r.Run, r.Role, r.Scope, now), d.fits(r), w.unwidened(r)}
	if r.Run != nil {
		because = append(because, w.runKnown(r.Run))
	}
	if d.coolingOff > 0 || r.CoolingOff > 0 {
		because = append(because, w.coolsOff(r, d, now))
	}
	if r.Extends != "" {
		because = append(because, w.extensible(r, d, now))
	}
	if r.Deployment != "" {
		because = append(because, w.purpose(r, now))
	}
	because = append(because, gate.Approvals(w.requestFacts(r, d.approvals, now), now)...)
	if !r.At.IsZero() {
		because = append(because, r.starts(now))
	}
	because = append(because, w.windows(r, d, now)...)
	because = append(because, w.answers(r, d, now)...)
	if then, differs := gate.Under(gate.Facts{Environment: catalog.Environment{Checks: d.terms()}}, r.Terms); differs {
		because = append(because, gate.AsOpened(w.requestFacts(r, then.Environment.Checks, now), now))
	}
	if deadline := d.deadline(r); now.Before(deadline) {
		because = append(because, lockkeeper.Decision{Subject: "patience", Verdict: lockkeeper.Pass, Code: "in_time", Until: &deadline, Sentence: fmt.Sprintf("It may be begun until %s.", deadline)})
	} else {
		because = append(because, lockkeeper.Decision{Subject: "patience", Verdict: lockkeeper.Fail, Code: "timed_out", Sentence: fmt.Sprintf("It waited until %s.", deadline), Next: "Ask again."})
	}
	return lockkeeper.All("activating "+r.Role+" at "+string(r.Scope), "Everything that activating it takes is there.", because...)
}

// unwidened refuses a role that allows more than when it was asked for: what was
// approved was the smaller one.
func (w *world) unwidened(r *Request) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "role", Verdict: lockkeeper.Pass, Code: "role_as_asked", Sentence: "The role allows nothing that it did not allow when it was asked for."}
	for _, a := range w.rules.Access.RoleActions(r.Role) {
		if !slices.Contains(r.Actions, a) {
			d.Verdict, d.Code = lockkeeper.Fail, "role_widened"
			d.Sentence = fmt.Sprintf("The role %s allows %s since, which was not asked for.", r.Role, a)
			d.Next = "Ask again."
			return d
		}
	}
	if p := w.opensMore(r); p != "" {
		d.Verdict, d.Code = lockkeeper.Fail, "role_widened"
		d.Sentence = fmt.Sprintf("It would open the provisioner %s since, which was not asked for in this form.", p)
		d.Next = "Ask again."
	}
	return d
}

// openRequest asks to activate a role.
type openRequest struct {
	ID     string           `json:"-"`
	Role   string           `json:"role"`
	Scope  lockkeeper.Scope `json:"scope"`
	For    time.Duration    `json:"for"`
	Reason string           `json:"reason,omitempty"`
	Ticket string           `json:"ticket,omitempty"`

	At         lockkeeper.Moment `json:"at,omitzero"`
	Deployment string            `json:"deployment,omitempty"`
	Uses       int               `json:"uses,omitempty"` // how often it may be used at most; 0: as often as the rules say
}

func (openRequest) name() string    { return "request.open" }
func (c openRequest) about() string { return "requests" }

func (c openRequest) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if !c.At.IsZero() && (!now.Before(c.At) || now.Add(maxAhead).Before(c.At)) {
		return nil, nil, lockkeeper.Invalid.Errorf("start_unfit", "An activation may begin later than now and within %d days, and %s is not.", maxAhead/(24*time.Hour), c.At).
			WithNext("Leave --at out to begin at once.")
	}
	if c.Deployment != "" && lockkeeper.CheckName(c.Deployment) != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("deployment_malformed", "No deployment can be called that.").WithNext("Name one such as d-…: lockkeeper deployments list")
	}
	if c.Uses < 0 || c.Uses > maxAskedUses {
		return nil, nil, lockkeeper.Invalid.Errorf("uses_malformed", "An activation is used from 1 to %d times.", maxAskedUses).WithNext("Ask for --uses 1, or leave it out.")
	}
	return w.ask(Request{ID: c.ID, User: by.User, Role: c.Role, Actions: w.rules.Access.RoleActions(c.Role), Scope: c.Scope, For: c.For,
		Reason: c.Reason, Ticket: c.Ticket, At: c.At, Deployment: c.Deployment, Uses: c.Uses}, now)
}

// maxAhead is how far ahead an activation may begin.
const maxAhead = 30 * 24 * time.Hour

// ask opens a request, for a new activation or for a longer one.
func (w *world) ask(r Request, now lockkeeper.Moment) ([]event, any, error) {
	if len(r.Reason) > maxReason || len(r.Ticket) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_long", "The reason and the ticket have at most %d bytes.", maxReason)
	}
	if r.For < time.Minute || r.For%time.Second != 0 {
		return nil, nil, lockkeeper.Invalid.Errorf("duration_malformed", "An activation lasts whole seconds, and a minute at least.").WithNext("Ask for --for 1h.")
	}
	waiting := 0
	for _, o := range w.Requests {
		if o.User == r.User {
			waiting++
		}
	}
	if waiting >= maxRequests {
		return nil, nil, lockkeeper.Limited.Errorf("requests_many", "%d requests of yours wait.", waiting).WithNext("Withdraw some: lockkeeper requests list")
	}
	d := w.demandsOn(r.Role, r.Scope)
	r.Persons, r.Opened, r.Terms, r.CoolingOff = w.persons(r.User), now, d.terms(), d.coolingOff
	r.Deadline = r.patienceFrom().Add(d.patience)
	if r.Extends != "" && r.From.Before(r.Deadline) {
		r.Deadline = r.From
	}
	if r.Extends == "" {
		r.Opens = w.openings(r.User, r.Run, r.Role, r.Scope)
	}
	r.StepUp, r.Strong = d.stepUp().age, d.stepUp().strong
	if r.Calls = d.calls; r.Run == nil {
		r.Bound = d.bound
		if r.Uses == 0 && r.Extends == "" { // to last longer gives no more uses
			r.Uses = d.uses
		}
	}
	var err error
	if r.Digest, err = r.digest(); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("request_malformed", "The request has no digest: %v.", err)
	}
	verdict := w.judgeRequest(&r, now)
	if verdict.Verdict == lockkeeper.Fail || verdict.Verdict == lockkeeper.Error {
		return nil, nil, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	return append([]event{&requestOpened{Request: r, Decision: verdict, Revision: w.Revision.Number}}, w.unasked(&r, now)...), opened{r.ID}, nil
}

// asked finds a request that waits.
func (w *world) asked(id string) (*Request, error) {
	r := w.Requests[id]
	if r == nil {
		return nil, lockkeeper.Conflict.Errorf("request_closed", "The request %.40s does not exist or waits no more.", id).WithNext("List them: lockkeeper requests list").WithField(id)
	}
	return r, nil
}

// decideRequest is a person's verdict on somebody else's request.
type decideRequest struct {
	Request string            `json:"request"`
	Approve bool              `json:"approve"`
	Digest  lockkeeper.Digest `json:"digest"`
	Comment string            `json:"comment,omitempty"`
	// What an approval makes of the request: shorter, narrower, or both.
	For   time.Duration    `json:"for,omitempty"`
	Scope lockkeeper.Scope `json:"scope,omitempty"`
}

func (c decideRequest) name() string {
	if c.Approve {
		return "request.approve"
	}
	return "request.deny"
}
func (c decideRequest) about() string { return requestSubject(c.Request) }

func (c decideRequest) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	r, err := w.asked(c.Request)
	if err != nil {
		return nil, nil, err
	}
	live := w.demandsOn(r.Role, r.Scope)
	switch deadline := live.deadline(r); {
	case len(c.Comment) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	case c.Digest != r.Digest:
		return nil, nil, lockkeeper.Conflict.Errorf("ask_differs", "The verdict is on another request than this one.").WithNext("Look at the request again and decide on what you see.")
	case !now.Before(deadline):
		return nil, nil, lockkeeper.Conflict.Errorf("timed_out", "The request waited until %s.", deadline)
	}
	less, err := c.trim(w, by, r, now)
	if err != nil {
		return nil, nil, err
	}
	mine, ballot, err := w.decides(less, by, c.Approve, now)
	if err != nil {
		return nil, nil, err
	}
	w.rest(by.User, lockkeeper.ApproveActivations, "", r.Scope, ballot.Right)
	if !c.Approve {
		return []event{&requestClosed{ID: r.ID, Status: requestDenied, User: by.User, Reason: c.Comment, Revision: w.Revision.Number}}, opened{r.ID}, nil
	}
	out := []event{&requestApproved{ID: r.ID, User: by.User, Digest: less.Digest, Comment: c.Comment, Persons: mine.Persons, Right: ballot.Right,
		Activation: mine.Activation, Role: mine.Role, BreakGlass: mine.BreakGlass, Revision: w.Revision.Number, SignedIn: mine.SignedIn, Strong: mine.Strong}}
	if less != r {
		out = append([]event{&requestTrimmed{ID: r.ID, User: by.User, For: less.For, Scope: less.Scope, From: r.Digest, Digest: less.Digest, Comment: c.Comment, Revision: w.Revision.Number}}, out...)
	}
	return out, opened{r.ID}, nil
}

// trim is the request as the approver leaves it. To make it smaller takes what it
// takes to deny it: who may not decide on all that was asked takes nothing from it.
// His own earlier approval stands in the way of none of his.
func (c decideRequest) trim(w *world, by Caller, r *Request, now lockkeeper.Moment) (*Request, error) {
	if c.For == 0 && c.Scope == "" {
		return r, nil
	}
	if !c.Approve {
		return nil, lockkeeper.Invalid.Errorf("trim_unfit", "Whoever denies a request makes nothing of it.").WithNext("Approve it with --for or --scope.")
	}
	less, err := r.trimmed(c.For, c.Scope)
	if err != nil || less == r {
		return r, err
	}
	if _, _, err := w.decides(r, by, false, now); err != nil {
		return nil, err
	}
	if d := w.demandsOn(less.Role, less.Scope).fits(less); d.Verdict != lockkeeper.Pass {
		return nil, lockkeeper.Conflict.Errorf(d.Code, "%s", d.Sentence).WithNext("Leave it as it was asked for, or deny it.").WithDecision(d)
	}
	less.Votes = slices.DeleteFunc(less.Votes, func(v Vote) bool { return v.User == by.User })
	return less, nil
}

// decides says how a request takes the caller's verdict: by the rules of now, or by
// those of when it was made, for who is asked no more may be the one whom it waits
// for.
func (w *world) decides(r *Request, by Caller, approve bool, now lockkeeper.Moment) (Vote, gate.Vote, error) {
	live := w.demandsOn(r.Role, r.Scope)
	mine := w.voteOf(by, approve, r.Digest, lockkeeper.ApproveActivations, r.Scope, now)
	ballot, err := w.takesRequest(r, live.approvals, mine, now)
	if then, differs := gate.Under(gate.Facts{Environment: catalog.Environment{Checks: live.terms()}}, r.Terms); err != nil && differs {
		if b, e := w.takesRequest(r, then.Environment.Checks, mine, now); e == nil {
			ballot, err = b, nil
		}
	}
	if b, waits := w.takesInstead(r, mine, now); err != nil && waits {
		ballot, err = b, nil
	}
	return mine, ballot, err
}

// voteOf is a vote by the caller now, with the activation that his right rests on.
func (w *world) voteOf(by Caller, approve bool, digest lockkeeper.Digest, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) Vote {
	v := Vote{User: by.User, Approve: approve, Digest: digest, At: now, Persons: w.persons(by.User)}
	v.SignedIn, v.Strong = w.Sessions[by.Session].signedIn()
	if _, id := w.checkBy(by.User, action, scope, now); id != "" {
		a := w.Activations[id]
		v.Activation, v.Role, v.BreakGlass, v.Through = id, a.Role, a.BreakGlass, a.Approvers
	}
	return v
}

// takesRequest says, as a ballot, how the checks take a vote, or why they do not.
// A denial needs the right and a place among those who are asked, where anybody
// is.
func (w *world) takesRequest(r *Request, checks []catalog.Check, mine Vote, now lockkeeper.Moment) (gate.Vote, error) {
	f := w.requestFacts(r, checks, now)
	return taken(f, w.requestBallot(r, checks, mine, now), mine.Approve, renews(r.Votes, mine), now)
}

// beginActivation starts the time of an activation, or gives the reasons why not.
type beginActivation struct {
	Request string `json:"request"`
	ID      string `json:"-"`
}

func (beginActivation) name() string    { return "activation.begin" }
func (c beginActivation) about() string { return requestSubject(c.Request) }

func (c beginActivation) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	for _, a := range w.Activations {
		made := a.Request == c.Request || slices.ContainsFunc(a.Extended, func(x Extension) bool { return x.Request == c.Request })
		if made && (a.User == by.User || a.Run != nil && by.Holder == c.Request) && now.Before(a.Ends) {
			return nil, opened{a.ID}, nil // asked again because the answer was lost
		}
	}
	r, err := w.asked(c.Request)
	if err != nil {
		return nil, nil, err
	}
	if by.User != r.User && (r.Run == nil || by.Holder != r.ID) {
		return nil, nil, lockkeeper.Forbidden.Errorf("request_of_another", "Only %s may begin what %s asked for.", r.User, r.User)
	}
	verdict := w.judgeRequest(r, now)
	if !verdict.Passed(now) {
		kind := lockkeeper.Forbidden
		if verdict.Verdict == lockkeeper.Wait {
			kind = lockkeeper.Conflict
		}
		return nil, nil, kind.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	w.rest(r.User, access.Activating, r.Role, r.Scope, verdict.Because[0])
	if up, asked := w.steppedUp(r, by, now); asked {
		if verdict = gate.Also(verdict, up); !up.Passed(now) {
			return nil, nil, lockkeeper.Forbidden.Errorf(up.Code, "%s", up.Sentence).WithNext("%s; then lockkeeper requests begin %s", up.Next, r.ID).WithDecision(verdict)
		}
	}
	if err := w.bindsAs(r, by); err != nil {
		return nil, nil, err
	}
	if r.Extends != "" {
		return []event{&activationExtended{ID: r.Extends, Request: r.ID, User: r.User, From: r.From, Ends: r.From.Add(r.For), Digest: r.Digest, Approvers: w.approvers(r), Under: under(r.Votes), Decision: verdict, Revision: w.Revision.Number}}, opened{r.Extends}, nil
	}
	active := 0
	for _, a := range w.Activations {
		if a.User == r.User && w.lives(a, now) {
			active++
		}
	}
	if active >= maxActivations {
		return nil, nil, lockkeeper.Limited.Errorf("activations_many", "%d activations of yours are alive.", active).WithNext("End some: lockkeeper activations list")
	}
	a := Activation{ID: c.ID, Request: r.ID, User: r.User, Role: r.Role, Actions: r.Actions, Scope: r.Scope, Reason: r.Reason, Ticket: r.Ticket, Started: now, Ends: now.Add(r.For),
		Deployment: r.Deployment, Run: r.Run, Approvers: w.approvers(r), Under: under(r.Votes)}
	if err := w.bind(&a, r, by); err != nil {
		return nil, nil, err
	}
	a.Opens = w.openings(r.User, r.Run, r.Role, r.Scope)
	duties, err := w.duties(a, now)
	if err != nil {
		return nil, nil, err
	}
	return append([]event{&activationBegun{Activation: a, Digest: r.Digest, Decision: verdict, Revision: w.Revision.Number}}, duties...), opened{a.ID}, nil
}

// withdrawRequest takes one's request back.
type withdrawRequest struct{ Request string }

func (withdrawRequest) name() string    { return "request.withdraw" }
func (c withdrawRequest) about() string { return requestSubject(c.Request) }
func (c withdrawRequest) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	r, err := w.asked(c.Request)
	if err != nil {
		return nil, nil, err
	}
	if by.User != r.User {
		return nil, nil, lockkeeper.Forbidden.Errorf("request_of_another", "Only %s may withdraw it.", r.User).WithNext("Deny it: lockkeeper requests deny %s", r.ID)
	}
	return []event{&requestClosed{ID: r.ID, Status: requestWithdrawn, User: by.User, Revision: w.Revision.Number}}, opened{r.ID}, nil
}

// endActivation ends one's own activation, or somebody else's. Nothing stands
// before it but the right to do so: no limit, no rule, no eligibility.
type endActivation struct {
	Activation string `json:"activation"`
	Reason     string `json:"reason,omitempty"`
}

func (endActivation) name() string    { return "activation.end" }
func (c endActivation) about() string { return activationSubject(c.Activation) }
func (c endActivation) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_long", "The reason has at most %d bytes.", maxReason)
	}
	a := w.Activations[c.Activation]
	if a == nil {
		return c.voids(w, by, now)
	}
	ev := w.residue(&activationEnded{ID: a.ID, Holder: a.User, Status: activationDeactivated, By: by.User, Reason: c.Reason, Revision: w.Revision.Number}, now)
	if a.Run != nil && by.Holder == a.Request { // neither lease nor token of its job outlives it
		ev.By = by.String()
		return append([]event{ev}, w.fallenRun(a, by, "The job ended it.", now, map[string]bool{})...), opened{a.ID}, nil
	}
	if by.User != a.User {
		right, err := w.may(by, lockkeeper.RevokeActivations, a.Scope, now)
		if err != nil {
			return nil, nil, err
		}
		ev.Status, ev.Decision, ev.Deployments, ev.Persons = activationRevoked, right, w.votedUnder(a.ID), w.persons(by.User)
		gone := map[string]bool{}
		out := append([]event{ev}, w.fallen(a.ID, by, c.Reason, now, gone)...)
		out = append(out, w.fallenRun(a, by, c.Reason, now, gone)...)
		return append(out, w.begunUnder(a.ID, by, c.Reason, now, gone, map[string]bool{a.ID: true})...), opened{a.ID}, nil
	}
	return []event{ev}, opened{a.ID}, nil
}

// voids takes what was approved under an activation that is over, for whoever may
// revoke activations wherever such a vote waits or stands.
func (c endActivation) voids(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	var scopes []lockkeeper.Scope
	under := func(v Vote) bool { return v.Activation == c.Activation }
	for _, d := range w.Deployments {
		if slices.ContainsFunc(d.allVotes(), under) {
			scopes = append(scopes, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment))
		}
	}
	for _, o := range w.sharedWith(under) {
		scopes = append(scopes, o.Scope)
	}
	for _, r := range w.Requests {
		if slices.ContainsFunc(r.Votes, under) {
			scopes = append(scopes, r.Scope)
		}
	}
	for _, a := range w.Activations {
		if slices.Contains(a.Under, c.Activation) {
			scopes = append(scopes, a.Scope)
		}
	}
	if len(scopes) == 0 || c.Activation == "" {
		return nil, nil, lockkeeper.Conflict.Errorf("activation_over", "The activation %.40s does not exist or is over, and nothing stands by it.", c.Activation).WithField(c.Activation)
	}
	slices.Sort(scopes)
	for _, scope := range slices.Compact(scopes) {
		if _, err := w.may(by, lockkeeper.RevokeActivations, scope, now); err != nil {
			return nil, nil, err
		}
	}
	ev := &votesVoided{Activation: c.Activation, By: by.User, Reason: c.Reason, Deployments: w.votedUnder(c.Activation), Revision: w.Revision.Number, Persons: w.persons(by.User)}
	gone := map[string]bool{}
	out := append([]event{ev}, w.fallen(c.Activation, by, c.Reason, now, gone)...)
	return append(out, w.begunUnder(c.Activation, by, c.Reason, now, gone, map[string]bool{})...), opened{c.Activation}, nil
}

// under lists the activations that votes were given under.
func under(votes []Vote) []string {
	var out []string
	for _, v := range votes {
		if v.Activation != "" && !slices.Contains(out, v.Activation) {
			out = append(out, v.Activation)
		}
	}
	return out
}

// begunUnder ends what began by approvals that were given under an activation which is
// taken, and what those let begin in turn. over are those that have ended already.
func (w *world) begunUnder(activation string, by Caller, reason string, now lockkeeper.Moment, gone, over map[string]bool) []event {
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Activations)) {
		a := w.Activations[id]
		if over[id] || !slices.Contains(a.Under, activation) || !now.Before(a.Ends) {
			continue
		}
		over[id] = true
		why := fmt.Sprintf("An approval of it was taken with the activation %s. %s", activation, reason)
		ev := &activationEnded{ID: id, Holder: a.User, Status: activationRevoked, By: by.User, Reason: why, Deployments: w.votedUnder(id), Revision: w.Revision.Number}
		if by.User != "" {
			ev.Persons = w.persons(by.User)
		}
		out = append(out, w.residue(ev, now))
		out = append(out, w.fallen(id, by, reason, now, gone)...)
		out = append(out, w.fallenRun(a, by, reason, now, gone)...)
		out = append(out, w.begunUnder(id, by, reason, now, gone, over)...)
	}
	return out
}

// fallen ends the leases of what runs and does not stand without the votes that
// were given under an activation, except of what is gone, and adds them to that.
func (w *world) fallen(activation string, by Caller, reason string, now lockkeeper.Moment, gone map[string]bool) []event {
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		d := w.Deployments[id]
		without := d.clone()
		if without.void(activation); d.Status != Running || w.overdue(d, now) || gone[id] || len(without.allVotes()) == len(d.allVotes()) {
			continue
		}
		facts, err := w.facts(without, now)
		standing := lockkeeper.Decision{}
		if err == nil {
			standing = w.standing(without, facts, now)
		}
		if err != nil || !standing.Passed(now) {
			end := w.revoked(d, by, fmt.Sprintf("An approval was taken with the activation that it was given under. %s", reason), now)
			end.Decision = standing
			out = append(out, end)
			if gone != nil {
				gone[id] = true
			}
		}
	}
	return out
}

// overdueAccess writes down what has ended already: requests out of patience, and
// activations out of time or whose holder is not eligible any more. Those do not
// come back with the eligibility: nobody approved that.
func (w *world) overdueAccess(now lockkeeper.Moment) (out []event, gone map[string]bool) {
	for _, id := range slices.Sorted(maps.Keys(w.Requests)) {
		r := w.Requests[id]
		if len(out) < maxSwept {
			out = append(out, w.unasked(r, now)...)
		}
		if deadline := w.demandsOn(r.Role, r.Scope).deadline(r); !now.Before(deadline) && len(out) < maxSwept {
			out = append(out, w.requestOver(id, deadline))
		}
	}
	gone = map[string]bool{}
	over := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(w.Activations)) {
		a := w.Activations[id]
		if len(out) >= maxSwept {
			break
		}
		if over[id] {
			continue
		}
		over[id] = true
		if !now.Before(a.Ends) {
			out = append(out, w.residue(&activationEnded{ID: id, Holder: a.User, Status: activationExpired, Reason: fmt.Sprintf("Its time ended at %s.", a.Ends), Revision: w.Revision.Number}, now))
		} else if l, lapsed := w.lapsed(a, now); lapsed {
			out = append(out, w.lapse(a, l, now, gone, over)...)
		} else if status, why := w.overBy(a, now); status != "" {
			out = append(out, w.residue(&activationEnded{ID: id, Holder: a.User, Status: status, Reason: why, Revision: w.Revision.Number}, now))
		} else if !w.lives(a, now) {
			out = append(out, w.residue(&activationEnded{ID: id, Holder: a.User, Status: activationFinished, Reason: "The deployment that it was for has ended.", Revision: w.Revision.Number}, now))
		} else {
			over[id] = false // it goes on
		}
	}
	return out, gone
}
