package keeper

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A person keeps no standing right to what matters. He is eligible for a role,
// asks to activate it for a reason and a time, others approve where the rules say
// so, and the activation ends by arithmetic, whatever happens to the server
// (Entra PIM and Google PAM keep the same three things apart: what one may have,
// the ask, and what one has).

// A Request asks to activate a role.
type Request struct {
	ID       string              `json:"id"`
	User     string              `json:"user"`
	Persons  []lockkeeper.Person `json:"persons"` // whom the account counted as when he asked
	Role     string              `json:"role"`
	Actions  []lockkeeper.Action `json:"actions"` // that the role allowed when he asked; it never gives more
	Scope    lockkeeper.Scope    `json:"scope"`
	For      time.Duration       `json:"for"` // nanoseconds, from when it is begun
	Reason   string              `json:"reason,omitempty"`
	Ticket   string              `json:"ticket,omitempty"`
	Digest   lockkeeper.Digest   `json:"digest"` // of all of the above: what an approval is for
	Opened   lockkeeper.Moment   `json:"opened"`
	Opens    []Opening           `json:"opens,omitempty"` // provisioners that it opens, beside the actions
	Deadline lockkeeper.Moment   `json:"deadline"`        // until when it may be approved and begun
	Terms    []catalog.Check     `json:"terms,omitempty"` // approvals and hours that the rules asked for when it was made
	Votes    []Vote              `json:"votes,omitempty"`

	At         lockkeeper.Moment `json:"at,omitzero"`           // from when it may be begun; zero: at once
	Extends    string            `json:"extends,omitempty"`     // the activation that it makes longer
	From       lockkeeper.Moment `json:"from,omitzero"`         // when that ends without it
	Deployment string            `json:"deployment,omitempty"`  // that the activation ends with
	CoolingOff time.Duration     `json:"cooling_off,omitempty"` // that the rules asked for when it was made, in nanoseconds
	Run        *Run              `json:"run,omitempty"`         // the job that asks, in the place of a user
	Trims      []Trim            `json:"trims,omitempty"`       // what it was before approvers made it smaller; at most maxTrims

	// What the rules asked then of the sign-in with which it is begun.
	StepUp time.Duration `json:"step_up,omitempty"` // nanoseconds; 0: nothing
	Strong bool          `json:"strong,omitempty"`

	Uses  int  `json:"uses,omitempty"`  // how often it may be used at most; 0: nothing was asked for
	Bound bool `json:"bound,omitempty"` // the rules asked then that it is bound to a session
	// Calls are the services that the rules asked about the ticket when it was made, and
	// Questions what is being asked; each at most maxCalls.
	Calls     []RuleCall `json:"calls,omitempty"`
	Questions []Question `json:"questions,omitempty"`
}

// An Activation is a role that somebody holds for a time.
type Activation struct {
	ID      string              `json:"id"`
	Request string              `json:"request"`
	User    string              `json:"user"`
	Role    string              `json:"role"`
	Actions []lockkeeper.Action `json:"actions"`
	Scope   lockkeeper.Scope    `json:"scope"`
	Reason  string              `json:"reason,omitempty"`
	Ticket  string              `json:"ticket,omitempty"`
	Opens   []Opening           `json:"opens,omitempty"`
	Started lockkeeper.Moment   `json:"started"`
	Ends    lockkeeper.Moment   `json:"ends"`
	Seq     int64               `json:"seq"`
	// Approvers are the persons who had approved it when it was begun.
	Approvers []lockkeeper.Person `json:"approvers,omitempty"`

	Deployment string      `json:"deployment,omitempty"` // that it ends with
	Extended   []Extension `json:"extended,omitempty"`   // how often it was made longer; bounded by the rules

	Run      *Run              `json:"run,omitempty"`     // the job that holds it, in the place of a user
	Finished lockkeeper.Moment `json:"finished,omitzero"` // when a deployment of that job ended
	// BreakGlass is the review that is owed for it, if nobody approved it.
	BreakGlass string `json:"break_glass,omitempty"`
	// Modified is when it was first seen that what it opened was changed at the target,
	// past Lockkeeper. It stays, also when that was mended.
	Modified lockkeeper.Moment `json:"externally_modified,omitzero"`
	// Under are the activations that the approvals of it were given under.
	Under []string `json:"under,omitempty"`

	Uses    int      `json:"uses,omitempty"`    // how many decisions may rest on it; 0: any number
	Used    int      `json:"used,omitempty"`    // how many did
	Gave    []string `json:"gave,omitempty"`    // what goes on by virtue of these; at most Uses
	Session string   `json:"session,omitempty"` // that it is bound to; "": none
}

// Bounds of what is asked for and active.
const (
	maxRequests    = 5    // of one user that wait
	maxActivations = 20   // of one user at once
	maxRenewals    = 10   // votes of one user on one ask
	maxReason      = 1000 // bytes
)

// digest is what an approval of the request is for.
func (r Request) digest() (lockkeeper.Digest, error) {
	all := map[string]any{"request": r.ID, "user": r.User, "role": r.Role, "actions": r.Actions, "scope": r.Scope,
		"seconds": int64(r.For / time.Second), "reason": r.Reason, "ticket": r.Ticket}
	if !r.At.IsZero() {
		all["at"] = r.At.String()
	}
	if r.Extends != "" {
		all["extends"], all["from"] = r.Extends, r.From.String()
	}
	if r.Deployment != "" {
		all["deployment"] = r.Deployment
	}
	if len(r.Opens) > 0 {
		all["opens"] = r.Opens
	}
	if r.Uses > 0 {
		all["uses"] = r.Uses
	}
	if r.Bound {
		all["bound"] = catalog.BoundToSession
	}
	if r.Run != nil {
		all["run"] = map[string]any{"provider": r.Run.Provider, "repository": r.Run.Repository, "run": r.Run.Run, "attempt": r.Run.Attempt, "job": r.Run.Job}
	}
	b, err := lockkeeper.Canonical(all)
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(append([]byte("lockkeeper.request.v1\n"), b...)), nil
}

func (r *Request) clone() *Request {
	c := *r
	c.Votes, c.Trims, c.Questions = slices.Clone(r.Votes), slices.Clone(r.Trims), slices.Clone(r.Questions)
	return &c
}

func requestSubject(id string) string    { return "request/" + id }
func activationSubject(id string) string { return "activation/" + id }

// requestOpened is an ask to activate a role.
type requestOpened struct {
	one
	Request  Request             `json:"request"`
	Decision lockkeeper.Decision `json:"decision"` // how it stood then
	Revision int                 `json:"revision"`

	Token        lockkeeper.Digest `json:"token,omitempty"` // of the CI platform, of a run's request
	TokenExpires lockkeeper.Moment `json:"token_expires,omitzero"`
}

func (*requestOpened) kind() string { return "request.opened" }
func (ev *requestOpened) subjects() []string {
	return []string{requestSubject(ev.Request.ID), "user/" + ev.Request.User, "requests"}
}
func (ev *requestOpened) apply(s *State, e Entry) error {
	r := ev.Request
	if s.Requests[r.ID] != nil {
		return fmt.Errorf("the request %s is open already", r.ID)
	}
	r.Opened = e.Time
	s.Requests[r.ID] = &r
	if ev.Token != "" {
		s.bindToken(ev.Token, TokenUse{For: requestSubject(r.ID), Job: r.Run.Job, Handle: r.Run.Handle, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	}
	return nil
}

// requestApproved is one person's approval of a request.
type requestApproved struct {
	one
	ID      string              `json:"id"`
	User    string              `json:"user"`
	Digest  lockkeeper.Digest   `json:"digest"`
	Comment string              `json:"comment,omitempty"`
	Persons []lockkeeper.Person `json:"persons"`
	Right   lockkeeper.Decision `json:"right"`
	// Activation is what the voter's right rested on, and Role what that is of; "":
	// on what is assigned to him.
	Activation string `json:"activation,omitempty"`
	Role       string `json:"role,omitempty"`
	BreakGlass string `json:"break_glass,omitempty"` // review of the activation, if nobody approved that
	Revision   int    `json:"revision"`

	SignedIn lockkeeper.Moment `json:"signed_in,omitzero"` // when the voter last showed a credential
	Strong   bool              `json:"strong,omitempty"`   // with more than a password
}

func (*requestApproved) kind() string { return "request.approved" }
func (ev *requestApproved) subjects() []string {
	return []string{requestSubject(ev.ID), "user/" + ev.User}
}
func (ev *requestApproved) apply(s *State, e Entry) error {
	r := s.Requests[ev.ID]
	if r == nil {
		return fmt.Errorf("the request %s is not open", ev.ID)
	}
	r.Votes = append(r.Votes, Vote{User: ev.User, Approve: true, Digest: ev.Digest, Comment: ev.Comment, Persons: ev.Persons, At: e.Time, Seq: e.Seq, Right: ev.Right,
		Activation: ev.Activation, Role: ev.Role, BreakGlass: ev.BreakGlass, SignedIn: ev.SignedIn, Strong: ev.Strong})
	return nil
}

// requestClosed ends a request that was not begun: denied, withdrawn, timed out,
// or void because what it stands on is gone.
type requestClosed struct {
	one
	ID       string `json:"id"`
	Status   string `json:"status"`
	User     string `json:"user,omitempty"` // who closed it
	Reason   string `json:"reason,omitempty"`
	Revision int    `json:"revision"`
}

// How a request ends.
const (
	requestBegun     = "begun"
	requestDenied    = "denied"
	requestWithdrawn = "withdrawn"
	requestTimedOut  = "timed_out"

	requestQuarantined = "quarantined" // whoever asked is, by an incident
)

func (*requestClosed) kind() string { return "request.closed" }
func (ev *requestClosed) subjects() []string {
	out := []string{requestSubject(ev.ID)}
	if ev.User != "" {
		out = append(out, "user/"+ev.User)
	}
	return out
}
func (ev *requestClosed) apply(s *State, _ Entry) error {
	if s.Requests[ev.ID] == nil {
		return fmt.Errorf("the request %s is not open", ev.ID)
	}
	delete(s.Requests, ev.ID)
	return nil
}

// activationBegun is where the time of an activation starts.
type activationBegun struct {
	one
	Activation Activation          `json:"activation"`
	Digest     lockkeeper.Digest   `json:"digest"` // of the request
	Decision   lockkeeper.Decision `json:"decision"`
	Revision   int                 `json:"revision"`
}

func (*activationBegun) kind() string { return "activation.begun" }
func (ev *activationBegun) subjects() []string {
	return []string{activationSubject(ev.Activation.ID), requestSubject(ev.Activation.Request), "user/" + ev.Activation.User, "activations"}
}
func (ev *activationBegun) apply(s *State, e Entry) error {
	r := s.Requests[ev.Activation.Request]
	if r == nil {
		return fmt.Errorf("the request %s is not open", ev.Activation.Request)
	}
	behind := slices.Clone(r.Persons)
	if r.Run != nil {
		for _, o := range r.Run.Initiators {
			behind = append(behind, o.Persons...)
		}
	}
	s.partTaken(r.Votes, behind, lockkeeper.Moment{})
	delete(s.Requests, ev.Activation.Request)
	a := ev.Activation
	a.Started, a.Seq = e.Time, e.Seq
	s.Activations[a.ID] = &a
	return nil
}

// activationEnded ends an activation. Its time may have ended it before.
type activationEnded struct {
	one
	ID          string              `json:"id"`
	Holder      string              `json:"holder"`
	Status      string              `json:"status"`
	By          string              `json:"ended_by,omitempty"`
	Reason      string              `json:"reason,omitempty"`
	Decision    lockkeeper.Decision `json:"decision,omitzero"`
	Deployments []string            `json:"deployments,omitempty"` // that lose votes
	Revision    int                 `json:"revision"`
	Persons     []lockkeeper.Person `json:"persons,omitempty"` // that whoever takes the votes was

	// Tokens that were handed out under it, and until when a target that only looks
	// at their expiry may still take them.
	TokensOutside int               `json:"tokens_outside,omitempty"`
	OutsideTill   lockkeeper.Moment `json:"outside_till,omitzero"`
}

// How an activation ends.
const (
	activationExpired     = "expired"
	activationDeactivated = "deactivated" // by its holder
	activationRevoked     = "revoked"     // by somebody else; what was approved under it counts no more
	activationLapsed      = "lapsed"      // its holder is not eligible any more; the same
	activationFinished    = "finished"    // the deployment that it was asked for has ended
	activationQuarantined = "quarantined" // its holder is, by an incident, which says itself whose votes are void
)

func (*activationEnded) kind() string { return "activation.ended" }
func (ev *activationEnded) subjects() []string {
	return append([]string{activationSubject(ev.ID), "user/" + ev.Holder}, deploymentSubjects(ev.Deployments)...)
}
func (ev *activationEnded) apply(s *State, _ Entry) error {
	if s.Activations[ev.ID] == nil {
		return fmt.Errorf("the activation %s is not there", ev.ID)
	}
	delete(s.Activations, ev.ID)
	if ev.voids() {
		s.voidVotes(ev.ID)
		s.taken(ev.By, ev.Persons, ev.Deployments)
	}
	return nil
}

// voids reports whether what was approved under the activation counts no more.
func (ev *activationEnded) voids() bool {
	return ev.Status == activationRevoked || ev.Status == activationLapsed
}

// votesVoided takes what was approved under an activation that is over already.
type votesVoided struct {
	one
	Activation  string   `json:"activation"`
	By          string   `json:"voided_by"` // "": nobody; whoever voted lost the eligibility
	Reason      string   `json:"reason,omitempty"`
	Deployments []string `json:"deployments,omitempty"` // that lose votes
	Revision    int      `json:"revision"`

	Persons []lockkeeper.Person `json:"persons,omitempty"` // that he was
}

func (*votesVoided) kind() string { return "votes.voided" }
func (ev *votesVoided) subjects() []string {
	out := append([]string{activationSubject(ev.Activation)}, deploymentSubjects(ev.Deployments)...)
	if ev.By != "" {
		out = append(out, "user/"+ev.By)
	}
	return out
}

func deploymentSubjects(ids []string) []string {
	var out []string
	for _, id := range ids {
		out = append(out, deploymentSubject(id))
	}
	return out
}

// votedUnder lists the deployments that have a vote that was given under an
// activation.
func (w *world) votedUnder(activation string) []string {
	var out []string
	for id, d := range w.Deployments {
		if slices.ContainsFunc(d.allVotes(), func(v Vote) bool { return v.Activation == activation }) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
func (ev *votesVoided) apply(s *State, _ Entry) error {
	s.voidVotes(ev.Activation)
	s.taken(ev.By, ev.Persons, ev.Deployments)
	return nil
}

func (s *State) voidVotes(activation string) {
	for _, d := range s.Deployments {
		d.void(activation)
	}
	for _, r := range s.Requests {
		r.Votes = withoutVotes(r.Votes, activation)
	}
	s.unshare(func(v Vote) bool { return v.Activation == activation })
}

func withoutVotes(votes []Vote, activation string) []Vote {
	return slices.DeleteFunc(votes, func(v Vote) bool { return v.Activation == activation })
}

// covers reports whether an activation gives an action at a scope at now, by its
// own bounds alone.
func (a *Activation) covers(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	return !now.Before(a.Started) && now.Before(a.Ends) && a.Scope.Contains(scope) && slices.Contains(a.Actions, action)
}

// check decides whether a user may do an action at a scope now: by what is
// assigned to him, or by what he has activated and is eligible for still. A deny
// wins over both. Whoever may not, but could activate a role that lets him, is
// told how.
func (w *world) check(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	d, _ := w.checkBy(user, action, scope, now)
	return d
}

// checkBy is check, and the activation that the verdict rests on, if it does.
func (w *world) checkBy(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, string) {
	if d, is := w.quarantineOf(user, action, scope); is {
		return d, ""
	}
	d := w.rules.Access.Check(user, action, scope, now)
	if d.Code != "not_granted" {
		return d, ""
	}
	var best *Activation
	var by lockkeeper.Decision
	for _, a := range w.Activations {
		if a.User != user || !a.covers(action, scope, now) || !w.gives(a) || !w.lives(a, now) || !w.rules.Access.RoleAllows(a.Role, action) || best != nil && !a.ratherThan(best) {
			continue
		}
		if e := w.rules.Access.EligibleTo(a.Role, a.Scope, catalog.Circumstance{Action: action, Scope: scope, User: user, Now: now}); e.Passed(now) {
			best, by = a, e
		}
	}
	if best == nil {
		return w.withWayOut(d, user, action, scope, now), ""
	}
	end := best.Ends
	for _, sooner := range []*lockkeeper.Moment{by.Until, w.rules.Access.DeniedFrom(user, action, scope, now)} {
		if sooner != nil && sooner.Before(end) {
			end = *sooner
		}
	}
	glass := ""
	if best.BreakGlass != "" {
		glass = " by breaking the glass"
	}
	if best.Session != "" {
		glass += ", in one session,"
	}
	return lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "activated", Until: &end, Because: []lockkeeper.Decision{by, spendable(best, best.Ends)},
		Sentence: fmt.Sprintf("%s has activated %s at %s%s until %s (%s).", user, best.Role, best.Scope, glass, best.Ends, best.ID)}, best.ID
}

// withWayOut adds to a refusal the line that would open it, where there is one.
func (w *world) withWayOut(d lockkeeper.Decision, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	list := w.rules.Access.Activatable(user, action, scope, now)
	if len(list) == 0 {
		return d
	}
	a := list[0]
	for _, o := range list[1:] { // the one that gives least
		if len(w.rules.Access.RoleActions(o.Role)) < len(w.rules.Access.RoleActions(a.Role)) {
			a = o
		}
	}
	reason := " --reason WHY"
	if rules := w.rules.Catalog.RulesOf(a.Role, scope); !slices.ContainsFunc(rules, func(r catalog.ActivationRule) bool { return !r.NoReason }) {
		reason = ""
	} else if slices.ContainsFunc(rules, func(r catalog.ActivationRule) bool { return r.Ticket != "" }) {
		reason += " --ticket NUMBER"
	}
	d.Next = fmt.Sprintf("You may activate a role that allows it: lockkeeper activate %s --scope %s --for 1h%s", a.Role, scope, reason)
	return d
}

// allowed is check without its reasons.
func (w *world) allowed(user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	return len(w.Incidents) == 0 && w.rules.Access.Allowed(user, action, scope, now) || w.check(user, action, scope, now).Passed(now)
}

// demands are what all rules for a role at a scope ask together: the shortest
// time, every ticket, and every approval, each under a name of its own.
type demands struct {
	rules     []catalog.ActivationRule
	longest   time.Duration
	patience  time.Duration
	reason    bool
	approvals []catalog.Check

	hours      []catalog.Check
	coolingOff time.Duration
	extensions int

	uses  int // of one activation; 0: any number
	bound bool
	calls []RuleCall
}

// terms are what goes on being asked for of whoever has asked, although the rules
// become easier.
func (d demands) terms() []catalog.Check {
	return append(d.approvals[:len(d.approvals):len(d.approvals)], d.hours...)
}

func (w *world) demandsOn(role string, scope lockkeeper.Scope) demands {
	d := demands{rules: w.rules.Catalog.RulesOf(role, scope), patience: catalog.DefaultRequestPatience} // which only a rule can shorten or lengthen
	for i, r := range d.rules {
		if i == 0 || r.LongestActivation() < d.longest {
			d.longest = r.LongestActivation()
		}
		if i == 0 || r.PatienceLimit() < d.patience {
			d.patience = r.PatienceLimit()
		}
		if i == 0 || r.ExtensionLimit() < d.extensions {
			d.extensions = r.ExtensionLimit()
		}
		d.reason = d.reason || !r.NoReason
		d.coolingOff = max(d.coolingOff, time.Duration(r.CoolingOff))
		d.hours = append(d.hours, hoursOf(r)...)
		d.boundsOf(r)
		for _, c := range r.Approvals {
			a := *c.Approval
			a.After = slices.Clone(a.After)
			for j, before := range a.After {
				a.After[j] = r.Name + "." + before
			}
			d.approvals = append(d.approvals, catalog.Check{Name: r.Name + "." + c.Name, Approval: &a})
		}
	}
	return d
}

// patienceFrom is from when a request's patience counts: from its start, if that
// was asked for later.
func (r *Request) patienceFrom() lockkeeper.Moment {
	if r.Opened.Before(r.At) {
		return r.At
	}
	return r.Opened
}

// deadline is until when a request may wait: as when it was made, or sooner if the
// rules of now say so.
func (d demands) deadline(r *Request) lockkeeper.Moment {
	if sooner := r.patienceFrom().Add(d.patience); len(d.rules) > 0 && sooner.Before(r.Deadline) {
		return sooner
	}
	return r.Deadline
}

// fits judges what the rules say of the ask itself.
func (d demands) fits(r *Request) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: "rules", Verdict: lockkeeper.Fail}
	switch {
	case len(d.rules) == 0:
		out.Code, out.Sentence = "activation_rule_missing", fmt.Sprintf("No rule says what it takes to activate %s at %s.", r.Role, r.Scope)
		out.Next = "Ask for an ActivationRule for this role."
		return out
	case r.For > d.longest && r.Extends == "": // its whole time is judged by extensible
		out.Code, out.Sentence = "activation_long", fmt.Sprintf("%s may be activated for %s at most, and %s were asked for.", r.Role, d.longest, r.For)
		out.Next = fmt.Sprintf("Ask for --for %s or less.", d.longest)
		return out
	case d.reason && strings.TrimSpace(r.Reason) == "":
		out.Code, out.Sentence, out.Next = "reason_missing", fmt.Sprintf("To activate %s one has to say why.", r.Role), "Add --reason WHY."
		return out
	}
	if many, fit := d.usesFit(r); !fit {
		return many
	}
	for _, rule := range d.rules {
		if rule.Ticket == "" {
			continue
		}
		if p, err := catalog.TicketPattern(rule.Ticket); err != nil || !p.MatchString(r.Ticket) {
			out.Code, out.Sentence = "ticket_unfit", fmt.Sprintf("The rule %s asks for a ticket of the form %s.", rule.Name, rule.Ticket)
			out.Next = "Add --ticket with its number."
			return out
		}
	}
	return lockkeeper.Decision{Subject: "rules", Verdict: lockkeeper.Pass, Code: "rules_fit", Sentence: "It is within what the rules allow."}
}
