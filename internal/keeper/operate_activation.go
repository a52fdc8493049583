package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// OpenRequest is what a person asks for.
type OpenRequest struct {
	Role   string
	Scope  lockkeeper.Scope
	For    time.Duration // whole seconds
	Reason string
	Ticket string

	At         lockkeeper.Moment // from when it may be begun; zero: at once
	Deployment string            // that the activation ends with; "": none
	Uses       int               // how often it may be used at most; 0: as often as the rules say
}

// RequestActivation asks to activate a role for the caller, and returns the
// request's id. key, if not "", makes a retry give the same request.
func (k *Keeper) RequestActivation(ctx context.Context, by Caller, key string, o OpenRequest) (string, error) {
	answer, err := do[opened](ctx, k, by, key, openRequest{newID("r"), o.Role, o.Scope, o.For, o.Reason, o.Ticket, o.At, o.Deployment, o.Uses})
	return answer.ID, err
}

// ExtendActivation asks to make the caller's activation last longer, and returns
// the request's id.
func (k *Keeper) ExtendActivation(ctx context.Context, by Caller, key, activation string, longer time.Duration, reason, ticket string) (string, error) {
	answer, err := do[opened](ctx, k, by, key, extendActivation{newID("r"), activation, longer, reason, ticket})
	return answer.ID, err
}

// A RequestVerdict is what somebody says to a request: to that with the digest that
// he saw. An approval may make it shorter or narrower first; 0 and "" leave it.
type RequestVerdict struct {
	Approve bool
	Digest  lockkeeper.Digest
	Comment string
	For     time.Duration
	Scope   lockkeeper.Scope
}

// DecideRequest approves or denies a request.
func (k *Keeper) DecideRequest(ctx context.Context, by Caller, id string, v RequestVerdict) error {
	_, err := do[opened](ctx, k, by, "", decideRequest{id, v.Approve, v.Digest, v.Comment, v.For, v.Scope})
	return err
}

// BeginActivation starts the time of what was asked for, and returns the
// activation. It refuses with Conflict while approvals are missing, and the
// refusal's decision says which.
func (k *Keeper) BeginActivation(ctx context.Context, by Caller, request string) (Activation, error) {
	answer, err := do[opened](ctx, k, by, "", beginActivation{request, newID("a")})
	if err != nil {
		return Activation{}, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if a := k.state.Activations[answer.ID]; a != nil {
		return *a, nil
	}
	return Activation{}, lockkeeper.Conflict.Errorf("activation_over", "The activation %s is over already.", answer.ID)
}

// WithdrawRequest takes the caller's request back.
func (k *Keeper) WithdrawRequest(ctx context.Context, by Caller, id string) error {
	_, err := do[opened](ctx, k, by, "", withdrawRequest{id})
	return err
}

// EndActivation ends the caller's own activation, or somebody else's.
func (k *Keeper) EndActivation(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", endActivation{id, reason})
	return err
}

// A RequestView is a request and how it stands now, or how it ended.
type RequestView struct {
	Request
	Verdict lockkeeper.Decision
	End     *RequestEnd
}

// A RequestEnd is how a request ended.
type RequestEnd struct {
	At         lockkeeper.Moment
	Status     string // begun, denied, withdrawn, void or timed_out
	User       string // who ended it
	Reason     string
	Activation string // that was begun
}

// Requests lists the requests that wait and that the caller made, may decide, or
// may see, oldest first.
func (k *Keeper) Requests(by Caller) ([]RequestView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	out := []RequestView{}
	for _, r := range w.Requests {
		if w.mine(by, r.User, r.Scope) || w.maySee(by, r.Scope, now) {
			out = append(out, RequestView{Request: *r.clone(), Verdict: w.judgeRequest(r, now)})
		}
	}
	slices.SortFunc(out, func(a, b RequestView) int {
		return cmp.Or(a.Opened.Time().Compare(b.Opened.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Request is one request, waiting or ended, for whoever may see it.
func (k *Keeper) Request(ctx context.Context, by Caller, id string) (RequestView, error) {
	missing := lockkeeper.NotFound.Errorf("request_missing", "There is no request %.40q that you may see.", id).WithNext("List those that wait: lockkeeper requests list")
	if by.User == "" && by.Holder != id {
		return RequestView{}, errPersonNeeded()
	}
	if !strings.HasPrefix(id, "r-") || lockkeeper.CheckName(id) != nil {
		return RequestView{}, missing
	}
	now := k.now()
	v, alive := k.waitingRequest(id, now)
	if !alive {
		var err error
		if v, err = k.endedRequest(ctx, id); err != nil {
			return RequestView{}, err
		}
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if i := w.quarantined(by.User); i != nil { // who waited when it was opened
		return RequestView{}, errQuarantined(i)
	}
	if v.ID == "" || !w.mine(by, v.User, v.Scope) && by.Holder != v.ID && !w.maySee(by, v.Scope, now) {
		return RequestView{}, missing
	}
	return v, nil
}

func (k *Keeper) waitingRequest(id string, now lockkeeper.Moment) (RequestView, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if r := w.Requests[id]; r != nil {
		return RequestView{Request: *r.clone(), Verdict: w.judgeRequest(r, now)}, true
	}
	return RequestView{}, false
}

// endedRequest reads a request from the journal. It is empty if there is none.
func (k *Keeper) endedRequest(ctx context.Context, id string) (RequestView, error) {
	var v RequestView
	s, err := k.fold(ctx, requestSubject(id), func(_ *State, e Entry, body event) bool {
		switch ev := body.(type) {
		case *requestOpened, *requestApproved, *requestTrimmed, *votesTaken, *questionAsked, *questionMissed, *questionAnswered:
			return true
		case *requestClosed:
			v.End = &RequestEnd{At: e.Time, Status: ev.Status, User: ev.User, Reason: ev.Reason}
		case *activationExtended:
			v.End = &RequestEnd{At: e.Time, Status: requestBegun, User: ev.User, Activation: ev.ID}
		case *activationBegun:
			v.End = &RequestEnd{At: e.Time, Status: requestBegun, User: ev.Activation.User, Activation: ev.Activation.ID}
		}
		return false
	})
	if err != nil {
		return v, err
	}
	if r := s.Requests[id]; r != nil {
		v.Request = *r
		v.Verdict = v.End.decision(r)
	}
	return v, nil
}

// decision says how a request ended. None: the journal began anew since.
func (e *RequestEnd) decision(r *Request) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "activating " + r.Role + " at " + string(r.Scope), Verdict: lockkeeper.Fail, Code: "request_closed",
		Sentence: "The request " + r.ID + " fell with the copy of the journal that it stood in.", Next: "Ask again."}
	if e == nil {
		return d
	}
	d.Code = "request_" + e.Status
	switch e.Status {
	case requestBegun:
		d.Sentence, d.Next = fmt.Sprintf("%s began it at %s (%s).", e.User, e.At, e.Activation), "See what is active: lockkeeper activations list"
	case requestDenied:
		d.Sentence = fmt.Sprintf("%s denied it at %s.", e.User, e.At)
		if e.Reason != "" {
			d.Sentence = fmt.Sprintf("%s denied it at %s: %s", e.User, e.At, e.Reason)
		}
	case requestWithdrawn:
		d.Sentence = fmt.Sprintf("%s withdrew it at %s.", e.User, e.At)
	default:
		d.Sentence = e.Reason
	}
	return d
}

// WaitRequest returns the request as soon as its verdict differs from what the
// caller saw, given by Seen, or when ctx ends.
func (k *Keeper) WaitRequest(ctx context.Context, by Caller, id, seen string) (RequestView, error) {
	return waitFor(ctx, k, func(ctx context.Context) (RequestView, bool, error) {
		v, err := k.Request(ctx, by, id)
		return v, v.End != nil || seen == "" || v.Seen() != seen, err
	})
}

// Seen stands for what a view shows: equal for views that show the same.
func (v RequestView) Seen() string {
	b, err := marshal(v.Verdict)
	if err != nil {
		return ""
	}
	return lockkeeper.DigestOf(b).Hex()[:24]
}

// Activations lists the activations that are alive now and that the caller holds
// or may see, those that end first before the others.
func (k *Keeper) Activations(by Caller) ([]Activation, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	out := []Activation{}
	for _, a := range w.Activations {
		if w.lives(a, now) && (w.mine(by, a.User, a.Scope) || w.maySee(by, a.Scope, now)) {
			out = append(out, *a)
		}
	}
	sortActivations(out)
	return out, nil
}

// Privileged counts the requests that wait and the activations that are alive now.
func (k *Keeper) Privileged() (waiting, active int) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	for _, a := range w.Activations {
		if w.lives(a, now) {
			active++
		}
	}
	return len(w.Requests), active
}

func sortActivations(list []Activation) {
	slices.SortFunc(list, func(a, b Activation) int {
		return cmp.Or(a.Ends.Time().Compare(b.Ends.Time()), cmp.Compare(a.ID, b.ID))
	})
}

// An Eligibility is what somebody may activate, and what that takes.
type Eligibility struct {
	Assignment catalog.Assignment
	Longest    time.Duration
	Reason     bool // he has to say why
	Tickets    []string
	Approvals  []catalog.Check
	Extensions int           // how often one activation may be made longer
	CoolingOff time.Duration // after a change of the credential
	Hours      bool          // it may be begun in windows of time only
	StepUp     time.Duration // how old a sign-in it may be begun with; 0: any
	Strong     bool          // with more than a password
	Uses       int           // how often one activation may be used; 0: as often as one likes
	Bound      bool          // it counts in the session that begins it, and ends with that
	Asked      []string      // rules that ask a service about the ticket
}

// Eligibilities lists what the caller may activate now.
func (k *Keeper) Eligibilities(by Caller) ([]Eligibility, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	out := []Eligibility{}
	for _, a := range w.rules.Access.Eligibilities(by.User, now) {
		if !w.mine(by, by.User, a.Scope) {
			continue
		}
		d := w.demandsOn(a.Role, a.Scope)
		e := Eligibility{Assignment: a, Longest: d.longest, Reason: d.reason, Approvals: d.approvals, Extensions: d.extensions, CoolingOff: d.coolingOff, Hours: len(d.hours) > 0}
		e.StepUp, e.Strong = d.stepUp().age, d.stepUp().strong
		e.Uses, e.Bound = d.uses, d.bound
		for _, c := range d.calls {
			e.Asked = append(e.Asked, c.Rule)
		}
		for _, r := range d.rules {
			if r.Ticket != "" {
				e.Tickets = append(e.Tickets, r.Ticket)
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// maySee reports whether the caller may see requests and activations at a scope.
func (w *world) maySee(by Caller, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	return w.allowedFor(by, lockkeeper.ReadActivations, scope, now) || w.allowedFor(by, lockkeeper.ApproveActivations, scope, now)
}

// mine reports whether the caller may see what is of a user at a scope because he is
// that user. With a token he needs its word, too.
func (w *world) mine(by Caller, user string, scope lockkeeper.Scope) bool {
	return by.User == user && w.within(by, lockkeeper.ReadActivations, scope)
}

func errPersonNeeded() error {
	return lockkeeper.Forbidden.Errorf("person_needed", "Only a person who has signed in may do this.").WithNext("Run: lockkeeper login")
}
