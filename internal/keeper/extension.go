package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// An activation is made longer by a request of its own, which is approved like any
// other. Its digest names the end that it starts from: what was approved is one
// new end, and no other one.

// An Extension is one time that an activation was made longer.
type Extension struct {
	Request string            `json:"request"`
	At      lockkeeper.Moment `json:"at"`
	From    lockkeeper.Moment `json:"from"` // when it would have ended
}

// activationExtended moves the end of an activation.
type activationExtended struct {
	one
	ID        string              `json:"id"`
	Request   string              `json:"request"`
	User      string              `json:"user"`
	From      lockkeeper.Moment   `json:"from"`
	Ends      lockkeeper.Moment   `json:"ends"`
	Digest    lockkeeper.Digest   `json:"digest"` // of the request
	Approvers []lockkeeper.Person `json:"approvers,omitempty"`
	Under     []string            `json:"under,omitempty"` // activations that the approvals of it were given under
	Decision  lockkeeper.Decision `json:"decision"`
	Revision  int                 `json:"revision"`
}

func (*activationExtended) kind() string { return "activation.extended" }
func (ev *activationExtended) subjects() []string {
	return []string{activationSubject(ev.ID), requestSubject(ev.Request), "user/" + ev.User, "activations"}
}
func (ev *activationExtended) apply(s *State, e Entry) error {
	a := s.Activations[ev.ID]
	if a == nil || s.Requests[ev.Request] == nil {
		return fmt.Errorf("the activation %s or the request %s is not there", ev.ID, ev.Request)
	}
	r := s.Requests[ev.Request]
	s.partTaken(r.Votes, r.Persons, lockkeeper.Moment{})
	delete(s.Requests, ev.Request)
	ev.on(a, e)
	return nil
}
func (ev *activationExtended) on(a *Activation, e Entry) {
	a.Extended = append(slices.Clone(a.Extended), Extension{Request: ev.Request, At: e.Time, From: ev.From})
	a.Ends = ev.Ends
	for _, id := range ev.Under {
		if !slices.Contains(a.Under, id) {
			a.Under = append(slices.Clone(a.Under), id)
		}
	}
	a.Approvers = slices.Clone(a.Approvers)
	for _, p := range ev.Approvers {
		if !slices.Contains(a.Approvers, p) {
			a.Approvers = append(a.Approvers, p)
		}
	}
}

// extensible judges, for a request that makes an activation longer, whether it
// still can: the activation lives, ends when the request says, and neither its
// whole time nor its extensions grow past what the rules of now allow.
func (w *world) extensible(r *Request, d demands, now lockkeeper.Moment) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: "activation " + r.Extends, Verdict: lockkeeper.Fail, Next: "Ask for a new activation."}
	a := w.Activations[r.Extends]
	switch {
	case a == nil || a.User != r.User || !w.lives(a, now):
		out.Code, out.Sentence = "activation_over", fmt.Sprintf("The activation %s is over.", r.Extends)
	case a.Ends != r.From:
		out.Code, out.Sentence = "activation_changed", fmt.Sprintf("The activation %s ends at %s now, and the request was about its end at %s.", a.ID, a.Ends, r.From)
		out.Next = "Ask again."
	case len(a.Extended) >= d.extensions:
		out.Code, out.Sentence = "extensions_many", fmt.Sprintf("The activation %s was made longer %d times, and the rules allow %d.", a.ID, len(a.Extended), d.extensions)
	case a.Ends.Add(r.For).Sub(a.Started) > d.longest:
		left := max(0, d.longest-a.Ends.Sub(a.Started))
		out.Code = "activation_long"
		out.Sentence = fmt.Sprintf("%s may be active for %s in all, and would be for %s.", r.Role, d.longest, a.Ends.Add(r.For).Sub(a.Started))
		if left >= time.Minute {
			out.Next = fmt.Sprintf("Ask for --for %s or less.", left.Truncate(time.Second))
		}
	default:
		until := a.Ends
		return lockkeeper.Decision{Subject: out.Subject, Verdict: lockkeeper.Pass, Code: "extensible", Until: &until,
			Sentence: fmt.Sprintf("It would last until %s instead of %s.", a.Ends.Add(r.For), a.Ends)}
	}
	return out
}

// extendActivation asks to make one's own activation longer.
type extendActivation struct {
	ID         string        `json:"-"`
	Activation string        `json:"activation"`
	For        time.Duration `json:"for"` // past its end
	Reason     string        `json:"reason,omitempty"`
	Ticket     string        `json:"ticket,omitempty"`
}

func (extendActivation) name() string    { return "activation.extend" }
func (c extendActivation) about() string { return activationSubject(c.Activation) }

func (c extendActivation) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	a := w.Activations[c.Activation]
	if a == nil || a.User != by.User || !w.lives(a, now) {
		return nil, nil, lockkeeper.Conflict.Errorf("activation_over", "You have no activation %.40s that is alive.", c.Activation).
			WithNext("List yours: lockkeeper activations list").WithField(c.Activation)
	}
	for _, r := range w.Requests {
		if r.Extends == a.ID {
			return nil, nil, lockkeeper.Conflict.Errorf("extension_pending", "The request %s to make %s longer waits already.", r.ID, a.ID).
				WithNext("Withdraw it: lockkeeper requests withdraw %s", r.ID)
		}
	}
	r := Request{ID: c.ID, User: by.User, Role: a.Role, Actions: a.Actions, Opens: a.Opens, Scope: a.Scope, For: c.For, Reason: c.Reason, Ticket: c.Ticket, Deployment: a.Deployment,
		Extends: a.ID, From: a.Ends}
	return w.ask(r, now)
}

// requestTrimmed makes a request smaller. What an earlier approval was for holds
// all that is left, so it goes on counting; an approval of what is left says so by
// its digest.
type requestTrimmed struct {
	one
	ID       string            `json:"id"`
	User     string            `json:"user"` // who made it smaller
	For      time.Duration     `json:"for"`
	Scope    lockkeeper.Scope  `json:"scope"`
	From     lockkeeper.Digest `json:"from"` // of the request as it was
	Digest   lockkeeper.Digest `json:"digest"`
	Comment  string            `json:"comment,omitempty"`
	Revision int               `json:"revision"`
}

// A Trim is one time that an approver made a request smaller: what it was before.
type Trim struct {
	User    string            `json:"user"`
	At      lockkeeper.Moment `json:"at"`
	For     time.Duration     `json:"for"`
	Scope   lockkeeper.Scope  `json:"scope"`
	Digest  lockkeeper.Digest `json:"digest"`
	Comment string            `json:"comment,omitempty"`
}

func (*requestTrimmed) kind() string { return "request.trimmed" }
func (ev *requestTrimmed) subjects() []string {
	return []string{requestSubject(ev.ID), "user/" + ev.User}
}
func (ev *requestTrimmed) apply(s *State, e Entry) error {
	r := s.Requests[ev.ID]
	if r == nil || r.Digest != ev.From {
		return fmt.Errorf("the request %s is not open, or is another one", ev.ID)
	}
	r.Trims = append(slices.Clone(r.Trims), Trim{User: ev.User, At: e.Time, For: r.For, Scope: r.Scope, Digest: r.Digest, Comment: ev.Comment})
	r.For, r.Scope, r.Digest = ev.For, ev.Scope, ev.Digest
	return nil
}

// approvedBy reports whether a vote is for the request: for what it asks now, or for
// more that it asked before.
func (r *Request) approvedBy(v Vote) bool {
	return v.Digest == r.Digest || slices.ContainsFunc(r.Trims, func(t Trim) bool { return t.Digest == v.Digest })
}

// trimmed is the request as an approver leaves it, with its digest.
func (r *Request) trimmed(length time.Duration, scope lockkeeper.Scope) (*Request, error) {
	less := r.clone()
	if length != 0 {
		less.For = length
	}
	if scope != "" {
		less.Scope = scope
	}
	switch {
	case less.For == r.For && less.Scope == r.Scope:
		return r, nil
	case less.For > r.For || less.For < time.Minute || less.For%time.Second != 0:
		return nil, lockkeeper.Invalid.Errorf("trim_unfit", "Whoever approves may make the request shorter: whole seconds from a minute to %s.", r.For)
	case !r.Scope.Contains(less.Scope):
		return nil, lockkeeper.Invalid.Errorf("trim_unfit", "Whoever approves may make the request narrower: %s or a scope below it.", r.Scope)
	case less.Scope != r.Scope && r.Extends != "":
		return nil, lockkeeper.Invalid.Errorf("trim_unfit", "What makes an activation longer keeps its scope.").WithNext("Make it shorter only.")
	case len(r.Trims) >= maxTrims:
		return nil, lockkeeper.Limited.Errorf("trims_many", "The request was made smaller %d times.", maxTrims).WithNext("Deny it, so that he asks for what you would approve.")
	}
	if _, err := lockkeeper.ParseScope(string(less.Scope)); err != nil {
		return nil, lockkeeper.Invalid.Errorf("trim_unfit", "%v.", err)
	}
	digest, err := less.digest()
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("request_malformed", "The request has no digest: %v.", err)
	}
	less.Trims = append(less.Trims, Trim{For: r.For, Scope: r.Scope, Digest: r.Digest})
	less.Digest = digest
	return less, nil
}

// maxTrims bounds how often one request is made smaller.
const maxTrims = 10

// lives reports whether an activation gives anything at now, by its own bounds and
// those of what it was asked for.
func (w *world) lives(a *Activation, now lockkeeper.Moment) bool {
	if status, _ := w.overBy(a, now); status != "" {
		return false
	}
	return !now.Before(a.Started) && now.Before(a.Ends) && !w.credentialChanged(a) && (a.Deployment == "" || w.goesOn(a.Deployment, now)) && !w.runOver(a, now)
}

// credentialChanged reports whether the credential of the holder was changed since an
// activation began for which the rules ask for a time of cooling off: whoever changed
// it must not have what its owner had activated.
func (w *world) credentialChanged(a *Activation) bool {
	if a.Run != nil {
		return false
	}
	changed := w.credentialSince(a.User)
	return a.Started.Before(changed) && w.demandsOn(a.Role, a.Scope).coolingOff > 0
}

// goesOn reports whether a deployment has not ended, by arithmetic too.
func (w *world) goesOn(id string, now lockkeeper.Moment) bool {
	d := w.Deployments[id]
	return d != nil && d.End == nil && !w.overdue(d, now)
}

// coolsOff judges the time after a change of the account's credential. Whoever
// resets a password must not be able to activate what its owner is eligible for.
func (w *world) coolsOff(r *Request, d demands, now lockkeeper.Moment) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: "credential", Verdict: lockkeeper.Pass, Code: "credential_settled", Sentence: "The credential has not changed of late."}
	wait := max(d.coolingOff, r.CoolingOff)
	changed := w.credentialSince(r.User)
	if factors := w.FactorSince[r.User]; changed.Before(factors) {
		changed = factors
	}
	if over := changed.Add(wait); wait > 0 && !changed.IsZero() && now.Before(over) {
		out.Verdict, out.Code = lockkeeper.Fail, "cooling_off"
		out.Sentence = fmt.Sprintf("The credential of %s was changed at %s, and nothing may be activated before %s.", r.User, changed, over)
		out.Next = "Ask again after that."
	}
	return out
}

// changed is when the credential of an account was changed last, or was put into
// somebody's hand to be changed; zero: never.
func (a *Account) changed() lockkeeper.Moment {
	if a == nil {
		return lockkeeper.Moment{}
	}
	at := a.Since
	if a.Invitation != nil {
		if invited := a.Invitation.Expires.Add(-invitationLife); at.Before(invited) {
			at = invited
		}
	}
	return at
}

// starts judges a start that was asked for later.
func (r *Request) starts(now lockkeeper.Moment) lockkeeper.Decision {
	if now.Before(r.At) {
		return lockkeeper.Decision{Subject: "start", Verdict: lockkeeper.Wait, Code: "starts_later", Sentence: fmt.Sprintf("It may be begun from %s on.", r.At), Next: "Begin it then: lockkeeper requests begin " + r.ID}
	}
	return lockkeeper.Decision{Subject: "start", Verdict: lockkeeper.Pass, Code: "started", Sentence: fmt.Sprintf("It may be begun since %s.", r.At)}
}

// purpose judges what the activation was asked for: it ends with the deployment.
func (w *world) purpose(r *Request, now lockkeeper.Moment) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: "deployment " + r.Deployment, Verdict: lockkeeper.Pass, Code: "deployment_alive", Sentence: "It ends with the deployment, which has not ended."}
	if !w.goesOn(r.Deployment, now) {
		out.Verdict, out.Code, out.Sentence, out.Next = lockkeeper.Fail, "deployment_ended", "The deployment does not exist or has ended.", "Leave --deployment out, or name one that is alive."
	}
	return out
}

// hoursOf are the rules' hours as checks, each under a name of its own.
func hoursOf(r catalog.ActivationRule) []catalog.Check {
	c := r.HoursCheck()
	if c == nil {
		return nil
	}
	c.Name = r.Name + "." + c.Name
	return []catalog.Check{*c}
}

// windows judges the hours in which an activation may begin.
func (w *world) windows(r *Request, d demands, now lockkeeper.Moment) []lockkeeper.Decision {
	return gate.Times(w.requestFacts(r, d.hours, now), now)
}
