package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// A decision may wait for what a service outside says. It never asks: that it is asked
// is an entry, a worker asks beside the keeper, and comes back with a command that
// carries the outcome. An outcome counts once, for the very question that it is about,
// and before its deadline; every other one changes nothing and is a refusal in the
// journal. What has no answer by its deadline is away, by arithmetic, whatever became
// of the worker: then the decision fails, or persons decide (docs/design/0012).

// A RuleCall is a service that a rule asks.
type RuleCall struct {
	Rule     string            `json:"rule"`
	Call     catalog.Call      `json:"call"`
	WhenAway *catalog.Approval `json:"when_away,omitempty"` // who decides when it is away; nil: nobody
}

// A Question is one call about one ask.
type Question struct {
	ID       string            `json:"id"`     // of what it is about, the rule, and the call
	Rule     string            `json:"rule"`   // that asks
	Digest   lockkeeper.Digest `json:"digest"` // of the ask as it was then
	Call     catalog.Call      `json:"call"`
	Asked    lockkeeper.Moment `json:"asked"`
	Deadline lockkeeper.Moment `json:"deadline"` // no outcome counts from then on
	Missed   *Missed           `json:"missed,omitempty"`
	Answer   *Reply            `json:"answer,omitempty"`
	Series   *gate.Series      `json:"series,omitempty"` // of a check of an environment: what was answered, again and again
}

// Missed is why an attempt brought no answer. Only the newest one is kept.
type Missed struct {
	At     lockkeeper.Moment `json:"at"`
	Code   string            `json:"code"`
	Reason string            `json:"reason"` // a sentence without secrets, and without anything the service wrote
}

// A Reply is what the service said, by its digest, and whether it met the criteria.
type Reply struct {
	At     lockkeeper.Moment `json:"at"`
	Met    bool              `json:"met"`
	Status int               `json:"status"`
	Body   lockkeeper.Digest `json:"body,omitempty"` // of its bytes
	Reason string            `json:"reason,omitempty"`
}

// Away reports whether the last attempt, as far as it is written down, brought no answer.
func (q Question) Away() bool {
	if s := q.Series; s != nil {
		return s.Good == 0 && s.Bad != nil && s.Bad.Status == 0
	}
	return q.Missed != nil
}

// same reports whether two answers say the same.
func (a Reply) same(o Reply) bool {
	a.At, o.At = lockkeeper.Moment{}, lockkeeper.Moment{}
	return a == o
}

// maxCalls bounds the services that are asked about one ask.
const maxCalls = 20

// questionID names the question of a rule about an ask. Another call is another
// question: the answer of one service is none of another.
func questionID(about string, c RuleCall) (string, error) {
	b, err := json.Marshal(c.Call)
	if err != nil {
		return "", err
	}
	return "q-" + lockkeeper.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s", about, c.Rule, b)).Hex()[:20], nil
}

// questionAsked begins a question. It stands in the journal before anything leaves us.
type questionAsked struct {
	one
	About    string   `json:"about"` // "request/ID" or "deployment/ID"
	Question Question `json:"question"`
	Revision int      `json:"revision"`
}

func (*questionAsked) kind() string          { return "question.asked" }
func (ev *questionAsked) subjects() []string { return []string{ev.About} }
func (ev *questionAsked) apply(s *State, e Entry) error {
	list := s.questionsOf(ev.About)
	if list == nil || slices.ContainsFunc(*list, func(q Question) bool { return q.ID == ev.Question.ID }) {
		return fmt.Errorf("%s is not open, or %s was asked already", ev.About, ev.Question.ID)
	}
	ev.on(list, e)
	return nil
}

func (ev *questionAsked) on(list *[]Question, e Entry) {
	q := ev.Question
	q.Asked = e.Time
	if q.Series == nil {
		q.Deadline = e.Time.Add(q.Call.WithinLimit())
	}
	*list = append(slices.Clone(*list), q)
}

// questionMissed says why there is no answer yet. There is one for each new cause, not
// for each attempt.
type questionMissed struct {
	one
	About  string `json:"about"`
	ID     string `json:"id"`
	Missed Missed `json:"missed"`
}

func (*questionMissed) kind() string          { return "question.missed" }
func (ev *questionMissed) subjects() []string { return []string{ev.About} }
func (ev *questionMissed) apply(s *State, e Entry) error {
	missed := ev.Missed
	missed.At = e.Time
	return s.onQuestion(ev.About, ev.ID, func(q *Question) { q.Missed = &missed })
}

// questionAnswered is the one answer to a question.
type questionAnswered struct {
	one
	About  string `json:"about"`
	ID     string `json:"id"`
	Answer Reply  `json:"answer"`
}

func (*questionAnswered) kind() string          { return "question.answered" }
func (ev *questionAnswered) subjects() []string { return []string{ev.About} }
func (ev *questionAnswered) apply(s *State, e Entry) error {
	answer := ev.Answer
	answer.At = e.Time
	return s.onQuestion(ev.About, ev.ID, func(q *Question) { q.Answer = &answer })
}

// onQuestion changes one question of what is open.
func (s *State) onQuestion(about, id string, change func(*Question)) error {
	list := s.questionsOf(about)
	if list == nil {
		return fmt.Errorf("%s is not open", about)
	}
	i := slices.IndexFunc(*list, func(q Question) bool { return q.ID == id })
	if i < 0 {
		return fmt.Errorf("%s has no question %s", about, id)
	}
	*list = slices.Clone(*list) // readers may hold the old ones
	change(&(*list)[i])
	return nil
}

// requestID is the id in the subject of a request.
func requestID(about string) string {
	if prefix := requestSubject(""); len(about) > len(prefix) && about[:len(prefix)] == prefix {
		return about[len(prefix):]
	}
	return ""
}

// callsOf are the services that are asked about a request: those of the rules of now,
// and those of when it was made, which go on being asked.
func (d demands) callsOf(r *Request) []RuleCall {
	out := slices.Clone(d.calls)
	for _, c := range r.Calls {
		if !slices.ContainsFunc(out, func(o RuleCall) bool { return o.Rule == c.Rule && o.Call.Equal(c.Call) }) {
			out = append(out, c)
		}
	}
	return out
}

// unasked begins the questions that a waiting request needs and that were not asked:
// when it is made, when it may begin at last, and when the rules become stricter.
func (w *world) unasked(r *Request, now lockkeeper.Moment) []event {
	calls := w.demandsOn(r.Role, r.Scope).callsOf(r)
	if len(calls) > maxCalls || now.Before(r.patienceFrom()) {
		return nil
	}
	var out []event
	for _, c := range calls {
		if q := r.question(c); q.ID != "" && q.Asked.IsZero() {
			q.Digest = r.Digest
			out = append(out, &questionAsked{About: requestSubject(r.ID), Question: q, Revision: w.Revision.Number})
		}
	}
	return out
}

// question is the request's question to a service; one without Asked was not asked
// yet, and one without an id cannot be.
func (r *Request) question(c RuleCall) Question {
	id, err := questionID(requestSubject(r.ID), c)
	if err != nil {
		return Question{}
	}
	for _, q := range r.Questions {
		if q.ID == id {
			return q
		}
	}
	return Question{ID: id, Rule: c.Rule, Call: c.Call}
}

// answers judges what the services said about the request's ticket.
func (w *world) answers(r *Request, d demands, now lockkeeper.Moment) []lockkeeper.Decision {
	calls := d.callsOf(r)
	if len(calls) > maxCalls {
		return []lockkeeper.Decision{{Subject: "ticket", Verdict: lockkeeper.Fail, Code: "calls_many", Sentence: fmt.Sprintf("The rules ask %d services about the ticket, more than %d.", len(calls), maxCalls),
			Next: "Ask for a narrower scope."}}
	}
	var out []lockkeeper.Decision
	for _, c := range calls {
		out = append(out, w.answered(r, d, c, now))
	}
	return out
}

func (w *world) answered(r *Request, d demands, c RuleCall, now lockkeeper.Moment) lockkeeper.Decision {
	q := r.question(c)
	out := lockkeeper.Decision{Subject: "ticket " + r.Ticket, Verdict: lockkeeper.Wait, Code: "ticket_asked", Next: "Wait for it: lockkeeper requests begin " + r.ID}
	switch {
	case q.Asked.IsZero():
		out.Sentence = fmt.Sprintf("The service of the rule %s is asked about the ticket once the activation may begin.", c.Rule)
	case q.Answer != nil && q.Answer.Met:
		out.Verdict, out.Code, out.Next = lockkeeper.Pass, "ticket_good", ""
		out.Sentence = fmt.Sprintf("At %s the service of the rule %s said so of the ticket.", q.Answer.At, c.Rule)
	case q.Answer != nil:
		out.Verdict, out.Code = lockkeeper.Fail, "ticket_refused"
		out.Sentence = fmt.Sprintf("At %s the service of the rule %s answered with the status %d, which does not meet the criteria. %s", q.Answer.At, c.Rule, q.Answer.Status, q.Answer.Reason)
		out.Next = "See that the ticket is a good one, and ask again."
	case now.Before(q.Deadline):
		out.Sentence = fmt.Sprintf("The service of the rule %s is asked about the ticket until %s.%s", c.Rule, q.Deadline, q.Missed.sentence())
	default:
		return w.away(r, d, c, q, now)
	}
	return out
}

func (m *Missed) sentence() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" At %s: %s [%s]", m.At, m.Reason, m.Code)
}

// away judges a question that nobody answered in time: nothing passes by itself.
// Persons decide where the rule says so, now and when the request was made; what they
// said before they could know of it does not count.
func (w *world) away(r *Request, d demands, c RuleCall, q Question, now lockkeeper.Moment) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: "ticket " + r.Ticket, Verdict: lockkeeper.Fail, Code: "ticket_service_away",
		Sentence: fmt.Sprintf("The service of the rule %s did not answer about the ticket by %s.%s", c.Rule, q.Deadline, q.Missed.sentence()), Next: "Ask again once it answers."}
	checks := d.standIns(r, c)
	if len(checks) == 0 {
		return out
	}
	judged := lockkeeper.All(out.Subject, out.Sentence+" Persons have decided in its place.", gate.Approvals(w.standInFacts(r, q, checks, now), now)...)
	if judged.Verdict != lockkeeper.Pass {
		judged.Sentence = out.Sentence + " " + judged.Sentence
	}
	return judged
}

// standIns are the approvals that take the place of a service's answer; none: nothing
// does.
func (d demands) standIns(r *Request, c RuleCall) []catalog.Check {
	var asked []*catalog.Approval
	for _, list := range [][]RuleCall{d.calls, r.Calls} {
		for _, o := range list {
			if o.Rule != c.Rule || !o.Call.Equal(c.Call) {
				continue
			}
			if o.WhenAway == nil {
				return nil
			}
			asked = append(asked, o.WhenAway)
		}
	}
	var out []catalog.Check
	for i, a := range asked {
		if i == 0 || !sameApproval(*a, *asked[0]) {
			out = append(out, catalog.Check{Name: c.Rule + ".ticket." + strconv.Itoa(i+1), Approval: a})
		}
	}
	return out
}

func sameApproval(a, b catalog.Approval) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// standInFacts are what the approvals in a service's place are judged on.
func (w *world) standInFacts(r *Request, q Question, checks []catalog.Check, now lockkeeper.Moment) gate.Facts {
	since := r.clone()
	since.Votes = slices.DeleteFunc(since.Votes, func(v Vote) bool { return v.At.Before(q.Deadline) })
	return w.requestFacts(since, checks, now)
}

// takesInstead says, as a ballot, how the approvals in the place of a service that is
// away take a vote; false: none waits for it.
func (w *world) takesInstead(r *Request, mine Vote, now lockkeeper.Moment) (gate.Vote, bool) {
	d := w.demandsOn(r.Role, r.Scope)
	for _, c := range d.callsOf(r) {
		q := r.question(c)
		checks := d.standIns(r, c)
		if q.Asked.IsZero() || q.Answer != nil || now.Before(q.Deadline) || len(checks) == 0 {
			continue
		}
		f := w.standInFacts(r, q, checks, now)
		if b, err := taken(f, w.requestBallot(r, checks, mine, now), mine.Approve, false, now); err == nil {
			return b, true
		}
	}
	return gate.Vote{}, false
}

// A QuestionOutcome is an answer, or why there is none.
type QuestionOutcome struct {
	Answer    *Reply
	Missed    *Missed
	Delivered bool // a service that answers later took the question
}

// reportQuestion brings what became of a question.
type reportQuestion struct {
	About   string
	ID      string
	Outcome QuestionOutcome
	Called  bool // the service itself brings it, at the address that it was told
}

func (reportQuestion) name() string    { return "question.report" }
func (c reportQuestion) about() string { return c.About }

func (c reportQuestion) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		return nil, nil, lockkeeper.Forbidden.Errorf("question_not_yours", "Only the server's own worker says what a service answered.")
	}
	q := w.questionAbout(c.About, c.ID)
	if q == nil {
		return nil, nil, lockkeeper.Conflict.Errorf("question_over", "Nothing that waits has asked %.40s.", c.ID)
	}
	if q.Series != nil {
		return c.sampled(w, *q, now)
	}
	switch a, m := c.Outcome.Answer, c.Outcome.Missed; {
	case (a == nil) == (m == nil), c.Outcome.Delivered, c.Called:
		return nil, nil, lockkeeper.Invalid.Errorf("outcome_malformed", "An outcome is an answer, or why there is none.")
	case q.Answer != nil && a != nil && q.Answer.same(*a):
		return nil, nil, nil // reported again because our answer was lost
	case q.Answer != nil:
		return nil, nil, lockkeeper.Conflict.Errorf("question_answered", "The question %s was answered at %s.", q.ID, q.Answer.At)
	case !now.Before(q.Deadline):
		return nil, nil, lockkeeper.Conflict.Errorf("question_late", "The question %s was asked until %s.", q.ID, q.Deadline)
	case m != nil && q.Missed != nil && q.Missed.Code == m.Code:
		return nil, nil, nil // as before
	case m != nil:
		missed := Missed{Code: clipped(m.Code), Reason: clipped(m.Reason)}
		return []event{&questionMissed{About: c.About, ID: q.ID, Missed: missed}}, nil, nil
	default:
		answer := *a
		answer.Reason = clipped(a.Reason)
		return []event{&questionAnswered{About: c.About, ID: q.ID, Answer: answer}}, nil, nil
	}
}

// An OpenQuestion is one that waits for an answer, and what is told of the ask.
type OpenQuestion struct {
	Question
	About string            // "request/ID" or "deployment/ID"
	Ask   map[string]string // the facts that criteria see (catalog.CallFacts); of a check's: WithFacts
}

// Questions lists what services are to be asked now, what was asked first before the
// others.
func (k *Keeper) Questions() []OpenQuestion {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	var out []OpenQuestion
	for _, r := range k.state.Requests {
		for _, q := range r.Questions {
			if q.Answer == nil && now.Before(q.Deadline) {
				out = append(out, OpenQuestion{q, requestSubject(r.ID), map[string]string{"id": r.ID, "digest": string(q.Digest), "user": r.User, "role": r.Role, "scope": string(r.Scope), "reason": r.Reason, "ticket": r.Ticket}})
			}
		}
	}
	out = k.state.openSamples(out, now)
	slices.SortFunc(out, func(a, b OpenQuestion) int {
		return cmp.Or(a.Asked.Time().Compare(b.Asked.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// ReportQuestion brings what became of a question. One that was answered, is over, or
// whose deadline has passed is a Conflict and changes nothing.
func (k *Keeper) ReportQuestion(ctx context.Context, q OpenQuestion, o QuestionOutcome) error {
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", reportQuestion{About: q.About, ID: q.ID, Outcome: o})
	return err
}

// QuestionAssertion is a token that proves to a service that Lockkeeper asks, for a
// question that is open and for nothing else. Its subject is lk:call:RULE, and of a check
// lk:call:PROJECT:ENVIRONMENT:CHECK.
func (k *Keeper) QuestionAssertion(q OpenQuestion, audience string) (string, error) {
	now := k.now()
	k.mu.RLock()
	open, asker := k.state.isOpen(q.About, q.ID, now), q.Rule
	if d := k.state.Deployments[strings.TrimPrefix(q.About, deploymentSubject(""))]; q.Series != nil && d != nil {
		asker = d.Ask.Project + ":" + d.Ask.Environment + ":" + q.Rule
	}
	k.mu.RUnlock()
	if !open {
		return "", lockkeeper.Conflict.Errorf("question_over", "The question %s is not open any more.", q.ID)
	}
	end := now.Add(assertionLife)
	if q.Series == nil && q.Deadline.Before(end) {
		end = q.Deadline
	}
	return k.mint(audience, map[string]any{"iss": k.options.Issuer, "sub": "lk:call:" + asker, "aud": audience, "jti": newID("t"),
		"iat": now.Time().Unix(), "nbf": now.Time().Unix(), "exp": end.Time().Truncate(time.Second).Unix(), "question": q.ID})
}
