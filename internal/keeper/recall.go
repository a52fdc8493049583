package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// What a service would say to a question that nobody has put to it is not known here.
// What it did say is: to the same question about the same ask, under whatever name a
// check had then, and, where the question says nothing of the ask, about another one to
// the same environment. Whoever asks what would be is told that, or that nothing says.

// recall is the question in the words of a check that was not put about d; nil: nothing
// is recorded.
func (s *State) recall(d *Deployment, c catalog.Check) *Question {
	call, is := c.Outside()
	if !is {
		return nil
	}
	asks, begun := call.Asks(), gate.SeriesOf(call, d.Deadline.Sub(d.Opened))
	equal := func(o *Deployment) *Question {
		i := slices.IndexFunc(o.Questions, func(q Question) bool { return q.Series != nil && q.Call.Equal(asks) && q.Series.SameTerms(begun) })
		if i < 0 {
			return nil
		}
		return &o.Questions[i]
	}
	if q := equal(d); q != nil {
		return q
	}
	if c.Metrics == nil || !call.OfAnyAsk() { // every call has the ask's digest in its headers; monitors do not look there
		return nil
	}
	var newest *Question
	for _, id := range slices.Sorted(maps.Keys(s.Deployments)) {
		o := s.Deployments[id]
		if o.Ask.Project != d.Ask.Project || o.Ask.Environment != d.Ask.Environment {
			continue
		}
		if q := equal(o); q != nil && (newest == nil || newest.heard().Before(q.heard())) {
			newest = q
		}
	}
	return newest
}

// heard is when a service last said anything that was written down; zero: never.
func (q Question) heard() lockkeeper.Moment {
	at := q.Series.Last
	if b := q.Series.Bad; b != nil && at.Before(b.At) {
		at = b.At
	}
	return at
}

// foretell says what is known of what a service will say to a check of an ask that is
// not opened.
func (w *world) foretell(d *Deployment, c catalog.Check, asked lockkeeper.Decision, now lockkeeper.Moment) lockkeeper.Decision {
	q := w.recall(d, c)
	if q == nil || q.heard().IsZero() {
		asked.Code, asked.Sentence = "call_unknowable", "Nobody knows what the service will say: it is asked once the ask is opened, and no answer to the same question is recorded."
		return asked
	}
	said := gate.Called(c, gate.Outside{Series: *q.Series, Asked: q.Asked, Deadline: q.Deadline}, now)
	asked.Code, asked.Sentence = "call_recalled", fmt.Sprintf("The service is asked once the ask is opened. To the same question about another ask it answered: %s [%s]", said.Sentence, said.Code)
	return asked
}

// recalled puts what was answered to the same questions in the place of answers that
// the given rules ask for and nobody gave, when a lease was granted or refused, and
// reports whether some are missing still. undo takes it out again: nothing of it is
// folded.
func (h *hindsight) recalled(ev event, r repetition) (missing bool, undo func()) {
	undo = func() {}
	was := h.claimed(ev, r)
	if was == nil || !h.given {
		return false, undo
	}
	d := *was
	d.Questions = slices.Clone(was.Questions)
	for _, c := range slices.Concat(h.world().environmentOf(was).Checks, was.Terms) {
		if _, asks := c.Outside(); !asks || c.Shadow || d.sampled(c) != nil {
			continue
		}
		q := h.state.recall(was, c)
		if q == nil {
			missing = true
			continue
		}
		same := *q
		same.Rule = c.Name
		d.Questions = append(d.Questions, same)
	}
	h.state.Deployments[d.ID] = &d
	return missing, func() { h.state.Deployments[d.ID] = was }
}
