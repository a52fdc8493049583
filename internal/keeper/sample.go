package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// A check of an environment may ask a service. Its question stands in the journal
// before anything leaves us, and is asked again and again while the ask waits; what is
// answered is folded into the question's series, and the gate judges the series. An
// answer is written down only if it tells something (gate.Series.Tells), so that a
// steady yes costs two entries in the time for which it counts.

// outside is what is known of a check that asks a service.
func (d *Deployment) outside(c catalog.Check) gate.Outside {
	if q := d.sampled(c); q != nil {
		call, _ := c.Outside()
		o := gate.Outside{Series: *q.Series, Asked: q.Asked, Deadline: d.until(call)}
		if q.Deadline.Before(o.Deadline) { // more time than it had when it was asked helps no ask that is open
			o.Deadline = q.Deadline
		}
		return o
	}
	return gate.Outside{}
}

// sampled is the question of a check in its very words; nil: nobody was asked it.
func (d *Deployment) sampled(c catalog.Check) *Question {
	call, is := c.Outside()
	if !is {
		return nil
	}
	asks, begun := call.Asks(), gate.SeriesOf(call, d.Deadline.Sub(d.Opened))
	for i, q := range d.Questions {
		if q.Rule == c.Name && q.Series != nil && q.Call.Equal(asks) && q.Series.SameTerms(begun) {
			return &d.Questions[i]
		}
	}
	return nil
}

// until is until when a service has time to say yes.
func (d *Deployment) until(c catalog.CallCheck) lockkeeper.Moment {
	if c.Within == 0 {
		return d.Deadline
	}
	if end := d.Opened.Add(time.Duration(c.Within)); end.Before(d.Deadline) {
		return end
	}
	return d.Deadline
}

// environmentOf is the environment of an ask, with the checks that are asked of it.
func (w *world) environmentOf(d *Deployment) catalog.Environment {
	env, _ := w.rules.Catalog.Facing(w.rules.Catalog.Environments[lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)], d.Ask)
	return env
}

// unsampled begins the questions of checks that were not asked about a waiting ask:
// when it is opened, and when the checks change. What a check asked before goes on
// being asked while the ask is held to it.
func (w *world) unsampled(d *Deployment, env catalog.Environment, now lockkeeper.Moment) []event {
	var out []event
	for _, c := range env.Checks {
		call, is := c.Outside()
		if !is || d.sampled(c) != nil || len(d.Questions)+len(out) >= maxSamples {
			continue
		}
		id, err := sampleID(d, c.Name, call)
		if err != nil || slices.ContainsFunc(d.Questions, func(q Question) bool { return q.ID == id }) {
			continue
		}
		series := gate.SeriesOf(call, d.Deadline.Sub(d.Opened))
		out = append(out, &questionAsked{About: deploymentSubject(d.ID), Revision: w.Revision.Number,
			Question: Question{ID: id, Rule: c.Name, Digest: d.Digest, Call: call.Asks(), Deadline: d.until(call), Series: &series}})
	}
	return out
}

// maxSamples bounds the questions about one ask, those of checks that changed included.
// A check that is past it is asked of nobody, and passes never.
const maxSamples = 200

// sampleID names the question of a check about an ask: what it asks, of whom, and what
// it takes for an answer. Changed terms are another question.
func sampleID(d *Deployment, check string, c catalog.CallCheck) (string, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return "q-" + lockkeeper.DigestOf(fmt.Appendf(nil, "check\n%s\n%s\n%s\n%s", d.ID, d.Digest, check, b)).Hex()[:20], nil
}

// calledOut reports whether a waiting ask has questions to begin, or one that is over.
func (w *world) calledOut(d *Deployment, now lockkeeper.Moment) bool {
	over := func(c catalog.Check) bool {
		if _, is := c.Outside(); !is {
			return false
		}
		o := d.outside(c)
		return o.Asked.IsZero() || o.Series.Over(o.Deadline, now)
	}
	return slices.ContainsFunc(w.environmentOf(d).Checks, over) || slices.ContainsFunc(d.Terms, over)
}

// questionSampled is what a service said to a check, or why it said nothing.
type questionSampled struct {
	one
	About     string    `json:"about"` // "deployment/ID"
	ID        string    `json:"id"`
	Said      gate.Said `json:"said"`
	Delivered bool      `json:"delivered,omitempty"` // it took the question, and answers later
	Called    bool      `json:"called,omitempty"`    // it brought the answer itself
}

func (*questionSampled) kind() string          { return "question.sampled" }
func (ev *questionSampled) subjects() []string { return []string{ev.About} }
func (ev *questionSampled) apply(s *State, e Entry) error {
	return s.onQuestion(ev.About, ev.ID, func(q *Question) { ev.on(q, e) })
}

func (ev *questionSampled) on(q *Question, e Entry) {
	if q.Series == nil {
		return
	}
	next := *q.Series // readers may hold the old one
	if ev.Delivered {
		next.Delivered = e.Time
	} else {
		next = next.Take(ev.Said, e.Time)
	}
	q.Series = &next
}

// questionsOf is the questions about what waits; nil: it is not open.
func (s *State) questionsOf(about string) *[]Question {
	if r := s.Requests[requestID(about)]; r != nil {
		return &r.Questions
	}
	if id, is := strings.CutPrefix(about, deploymentSubject("")); is {
		if d := s.Deployments[id]; d != nil {
			return &d.Questions
		}
	}
	return nil
}

// questionAbout is one question about what waits; nil: there is none.
func (s *State) questionAbout(about, id string) *Question {
	list := s.questionsOf(about)
	if list == nil {
		return nil
	}
	for i, q := range *list {
		if q.ID == id {
			return &(*list)[i]
		}
	}
	return nil
}

// isOpen reports whether an answer to a question counts still.
func (s *State) isOpen(about, id string, now lockkeeper.Moment) bool {
	q := s.questionAbout(about, id)
	switch {
	case q == nil:
		return false
	case q.Series == nil:
		return q.Answer == nil && now.Before(q.Deadline)
	}
	d := s.Deployments[strings.TrimPrefix(about, deploymentSubject(""))]
	return d != nil && d.Status == Waiting && now.Before(d.Deadline) && !q.Series.Over(q.Deadline, now)
}

// openSamples adds the questions of checks that are to be asked now.
func (s *State) openSamples(out []OpenQuestion, now lockkeeper.Moment) []OpenQuestion {
	for _, d := range s.Deployments {
		if len(d.Questions) == 0 || d.Status != Waiting || !now.Before(d.Deadline) {
			continue
		}
		for _, q := range d.Questions {
			if q.Series == nil || q.Series.Over(q.Deadline, now) || !q.Series.Delivered.IsZero() {
				continue
			}
			out = append(out, OpenQuestion{Question: q, About: deploymentSubject(d.ID)})
		}
	}
	return out
}

// WithFacts is a question with what is told of the ask, as of now. Thousands wait, and
// few of them are asked at a time.
func (k *Keeper) WithFacts(q OpenQuestion) OpenQuestion {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	if d := k.state.Deployments[strings.TrimPrefix(q.About, deploymentSubject(""))]; q.Series != nil && d != nil {
		q.Ask = d.facts(now)
	}
	return q
}

// facts are what criteria and addresses see of an ask (catalog.CheckFacts).
func (d *Deployment) facts(now lockkeeper.Moment) map[string]string {
	a := d.Ask
	out := map[string]string{"id": d.ID, "digest": string(d.Digest), "action": a.Action, "project": a.Project, "environment": a.Environment, "pipeline": a.Pipeline, "stage": a.Stage,
		"repository": a.Repository, "run": a.Run, "ref": a.Ref, "commit": a.Commit, "now": now.Time().Format(time.RFC3339), "utc": now.Time().Format(time.DateTime)}
	for name, value := range a.Parameters {
		out[catalog.ParameterFact(name)] = value
	}
	return out
}

// sampled decides what an outcome is to the question of a check: nothing once it is
// over, nothing if it tells nothing, and else one answer more.
func (c reportQuestion) sampled(w *world, q Question, now lockkeeper.Moment) ([]event, any, error) {
	o, ev := c.Outcome, &questionSampled{About: c.About, ID: q.ID, Called: c.Called}
	switch {
	case o.Delivered && o.Answer == nil && o.Missed == nil:
		ev.Delivered = true
	case o.Answer != nil && o.Missed == nil && !o.Delivered:
		ev.Said = gate.Said{Good: o.Answer.Met, Status: o.Answer.Status, Body: o.Answer.Body}
		if !o.Answer.Met {
			ev.Said.Code, ev.Said.Reason = "criteria_unmet", clipped(strings.TrimSpace(fmt.Sprintf("The answer, with the status %d, does not meet the criteria. %s", o.Answer.Status, o.Answer.Reason)))
		}
	case o.Missed != nil && o.Answer == nil && !o.Delivered:
		ev.Said = gate.Said{Code: clipped(o.Missed.Code), Reason: clipped(o.Missed.Reason)}
	default:
		return nil, nil, lockkeeper.Invalid.Errorf("outcome_malformed", "An outcome is an answer, or why there is none.")
	}
	later := q.Series.Callback
	if o.Answer != nil && later != c.Called || o.Delivered && !later || c.Called && o.Answer == nil {
		return nil, nil, lockkeeper.Invalid.Errorf("outcome_malformed", "The service of this check answers in another way.")
	}
	if was := q.Series.Answered(); was != nil {
		if o.Answer == nil || was.Good == ev.Said.Good && was.Status == ev.Said.Status && was.Body == ev.Said.Body {
			return nil, nil, nil // brought again
		}
		return nil, nil, lockkeeper.Conflict.Errorf("question_answered", "The question %s was answered at %s.", q.ID, was.At)
	}
	switch {
	case !w.isOpen(c.About, q.ID, now):
		return nil, nil, lockkeeper.Conflict.Errorf("question_late", "What is answered to the question %s does not count any more.", q.ID)
	case ev.Delivered && !q.Series.Delivered.IsZero(), !ev.Delivered && o.Answer == nil && !q.Series.Delivered.IsZero():
		return nil, nil, nil // another attempt of before was first
	case !ev.Delivered && !c.Called && !q.Series.Tells(ev.Said, now):
		return nil, nil, nil
	}
	return []event{ev}, nil, nil
}

// A callback's address is signed: it is a token of ours for one question about one ask,
// and nothing of it is kept.
const callbackSubject = "lk:callback:"

func (k *Keeper) callbackAudience() string { return k.options.Issuer + "/callbacks" }

// CallbackAddress is where the service of a question answers later: once, and only what
// this question asks.
func (k *Keeper) CallbackAddress(q OpenQuestion) (string, error) {
	now := k.now()
	k.mu.RLock()
	open := k.state.isOpen(q.About, q.ID, now)
	k.mu.RUnlock()
	if !open || q.Series == nil || !q.Series.Callback {
		return "", lockkeeper.Conflict.Errorf("question_over", "The question %s is not open any more.", q.ID)
	}
	signed, err := k.mint(k.callbackAudience(), map[string]any{"iss": k.options.Issuer, "sub": callbackSubject + q.ID, "aud": k.callbackAudience(), "jti": newID("t"), "about": q.About, "digest": string(q.Digest),
		"iat": now.Time().Unix(), "nbf": now.Time().Unix(), "exp": q.Deadline.Time().Add(time.Second).Truncate(time.Second).Unix()})
	if err != nil {
		return "", err
	}
	return k.callbackAudience() + "/" + signed, nil
}

// Callback takes what a service answers later at the address that it was told. An
// address that is not ours is Unauthenticated and leaves no trace in the journal; one
// of a question that is over, or was answered otherwise, is a Conflict. The same answer
// again is none.
func (k *Keeper) Callback(ctx context.Context, signed string, data []byte) error {
	about, id, digest, err := k.callback(signed)
	if err != nil {
		return err
	}
	now := k.now()
	k.mu.RLock()
	q := k.state.questionAbout(about, id)
	d := k.state.Deployments[strings.TrimPrefix(about, deploymentSubject(""))]
	if q == nil || d == nil || q.Series == nil || !q.Series.Callback || q.Digest != digest {
		k.mu.RUnlock()
		return lockkeeper.Conflict.Errorf("question_over", "Nothing that waits has asked this.").WithNext("Nothing: the ask has ended.")
	}
	asked, facts := *q, d.facts(now)
	k.mu.RUnlock()
	body, err := gate.Document(data)
	if err != nil || body == nil {
		return lockkeeper.Invalid.Errorf("answer_unfit", "The answer is no JSON that can be read.").WithNext("Post one JSON document of at most 64 KiB.")
	}
	reply := Reply{Status: 200, Body: lockkeeper.DigestOf(data)}
	if reply.Met, err = gate.Met(asked.Call, 200, body, facts); err != nil {
		reply.Met, reply.Reason = false, "The criteria cannot be decided over it."
	}
	_, err = do[any](ctx, k, Caller{Keeper: true}, "", reportQuestion{About: about, ID: id, Outcome: QuestionOutcome{Answer: &reply}, Called: true})
	return err
}

// callback reads an address of ours.
func (k *Keeper) callback(signed string) (about, id string, digest lockkeeper.Digest, err error) {
	forged := lockkeeper.Unauthenticated.Errorf("callback_unknown", "This is no address that the server gave out, or its time is over.").WithNext("Post to the address of the question.")
	u, err := token.Parse(signed, token.SigningAlgorithms())
	if err != nil {
		return "", "", "", forged
	}
	data, err := k.KeySet()
	if err != nil {
		return "", "", "", err
	}
	keys, err := token.ParseKeySet(data)
	if err != nil {
		return "", "", "", err
	}
	claims, err := u.Verify(keys)
	if err != nil {
		return "", "", "", forged
	}
	says := func(name string) string {
		text, _, err := claims.String(name)
		if err != nil {
			return ""
		}
		return text
	}
	id, ours := strings.CutPrefix(says("sub"), callbackSubject)
	ends, _, err := claims.Time("exp")
	if err != nil || !ours || says("iss") != k.options.Issuer || says("aud") != k.callbackAudience() || !k.now().Time().Before(ends) {
		return "", "", "", forged
	}
	return says("about"), id, lockkeeper.Digest(says("digest")), nil
}
