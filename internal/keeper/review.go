package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A review is a debt: somebody used what nobody approved, and persons who took no
// part say afterwards what they found. It opens in the same decision, and until it
// is closed the same role is not to be had that way again.

// A Review that is open.
type Review struct {
	ID         string              `json:"id"`
	About      string              `json:"about"` // break-glass, recovery or override
	User       string              `json:"user"`
	Persons    []lockkeeper.Person `json:"persons"`        // who the user was, and whose codes let him in
	Took       []lockkeeper.Person `json:"took,omitempty"` // who else had a part in what was done under it
	Role       string              `json:"role,omitempty"`
	Scope      lockkeeper.Scope    `json:"scope"`
	Activation string              `json:"activation,omitempty"`
	Override   string              `json:"override,omitempty"`
	Deployment string              `json:"deployment,omitempty"` // of the override
	Reason     string              `json:"reason"`
	Rules      []string            `json:"rules,omitempty"`   // of the activation
	Budgets    []string            `json:"budgets,omitempty"` // that it took one of
	Opened     lockkeeper.Moment   `json:"opened"`
	Due        lockkeeper.Moment   `json:"due"`
	Demands    []ReviewDemand      `json:"demands"` // all of them must be met
	Findings   []Finding           `json:"findings,omitempty"`
}

// What a review is about.
const (
	aboutBreakGlass = "break-glass"
	aboutRecovery   = "recovery"
	aboutIncident   = "incident" // of notices only
)

// A ReviewDemand asks for a number of persons.
type ReviewDemand struct {
	Rule   string   `json:"rule,omitempty"`
	Count  int      `json:"count"`
	Groups []string `json:"groups,omitempty"` // out of which they are; none: who reads the journal
}

// A Finding is what one person found.
type Finding struct {
	User        string              `json:"user"`
	Persons     []lockkeeper.Person `json:"persons"`
	At          lockkeeper.Moment   `json:"at"`
	Text        string              `json:"text"`
	Unjustified bool                `json:"unjustified,omitempty"`
}

// Bounds of reviews.
const (
	maxReviews  = 1000 // open at once
	maxFindings = 50   // of one review
	maxTook     = 1000 // persons of one review
)

// Overdue reports whether a review should have been closed.
func (r *Review) Overdue(now lockkeeper.Moment) bool { return !now.Before(r.Due) }

func reviewSubject(id string) string { return "review/" + id }

// reviewOpened is the debt. For a break-glass activation it takes one of the budget.
type reviewOpened struct {
	one
	Review   Review `json:"review"`
	Revision int    `json:"revision"`
}

func (*reviewOpened) kind() string { return "review.opened" }
func (ev *reviewOpened) subjects() []string {
	return []string{reviewSubject(ev.Review.ID), "reviews", "user/" + ev.Review.User}
}
func (ev *reviewOpened) apply(s *State, e Entry) error {
	if s.Reviews[ev.Review.ID] != nil {
		return fmt.Errorf("the review %s is open already", ev.Review.ID)
	}
	r := ev.Review
	r.Opened = e.Time
	s.Reviews[r.ID] = &r
	now := quarterOf(e.Time)
	for b, used := range s.Broken {
		if used.Quarter != now {
			delete(s.Broken, b)
		}
	}
	for _, b := range r.Budgets {
		s.Broken[b] = Spent{Quarter: now, Count: s.Broken[b].Count + 1}
	}
	return nil
}

// Spent is how much of a budget was taken in a quarter.
type Spent struct {
	Quarter string `json:"quarter"` // 2026-Q4, in UTC
	Count   int    `json:"count"`
}

func quarterOf(m lockkeeper.Moment) string {
	t := m.Time().UTC()
	return fmt.Sprintf("%d-Q%d", t.Year(), (int(t.Month())+2)/3)
}

// reviewJudged is what one person found.
type reviewJudged struct {
	one
	ID       string  `json:"id"`
	Finding  Finding `json:"finding"`
	Revision int     `json:"revision"`
}

func (*reviewJudged) kind() string { return "review.judged" }
func (ev *reviewJudged) subjects() []string {
	return []string{reviewSubject(ev.ID), "reviews", "user/" + ev.Finding.User}
}
func (ev *reviewJudged) apply(s *State, e Entry) error {
	old := s.Reviews[ev.ID]
	if old == nil {
		return fmt.Errorf("the review %s is not open", ev.ID)
	}
	r, f := *old, ev.Finding
	f.At = e.Time
	r.Findings = append(slices.Clip(r.Findings), f)
	s.Reviews[r.ID] = &r
	return nil
}

// reviewClosed pays the debt.
type reviewClosed struct {
	one
	ID       string `json:"id"`
	Revision int    `json:"revision"`
}

func (*reviewClosed) kind() string          { return "review.closed" }
func (ev *reviewClosed) subjects() []string { return []string{reviewSubject(ev.ID), "reviews"} }
func (ev *reviewClosed) apply(s *State, _ Entry) error {
	if s.Reviews[ev.ID] == nil {
		return fmt.Errorf("the review %s is not open", ev.ID)
	}
	delete(s.Reviews, ev.ID)
	return nil
}

// partTaken remembers who voted on something beside a vote that was given by broken
// glass, or on what such a user started, and who stands behind it: none of them
// reviews it.
func (s *State) partTaken(votes []Vote, behind []lockkeeper.Person, opened lockkeeper.Moment) {
	for id, old := range s.Reviews {
		mine := func(p lockkeeper.Person) bool { return slices.Contains(old.Persons, p) }
		under := slices.ContainsFunc(votes, func(v Vote) bool { return v.Activation != "" && v.Activation == old.Activation })
		if !under && (opened.Before(old.Opened) || !slices.ContainsFunc(behind, mine)) {
			continue
		}
		r := *old
		r.Took = slices.Clone(old.Took)
		for _, v := range votes {
			r.Took = append(r.Took, v.Persons...)
		}
		r.Took = append(r.Took, behind...)
		slices.Sort(r.Took)
		r.Took = slices.DeleteFunc(slices.Compact(r.Took), mine)
		r.Took = r.Took[:min(len(r.Took), maxTook)]
		s.Reviews[id] = &r
	}
}

// judgeReview is the finding of one person who took no part. The last one that is
// asked for closes the review.
type judgeReview struct {
	Review      string `json:"review"`
	Finding     string `json:"finding"`
	Unjustified bool   `json:"unjustified,omitempty"`
}

func (judgeReview) name() string    { return "review.judge" }
func (c judgeReview) about() string { return reviewSubject(c.Review) }

// judgedReview is the answer to judgeReview.
type judgedReview struct {
	ID     string `json:"id"`
	Closed bool   `json:"closed"`
}

func (c judgeReview) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	r := w.Reviews[c.Review]
	text := strings.TrimSpace(c.Finding)
	switch {
	case by.User == "":
		return nil, nil, errPersonNeeded()
	case r == nil:
		return nil, nil, lockkeeper.Conflict.Errorf("review_closed", "The review %.40s does not exist or is closed.", c.Review).WithNext("List them: lockkeeper reviews list").WithField(c.Review)
	case text == "" || len(text) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("finding_missing", "Say what you found, in 1 to %d bytes.", maxComment).WithNext("Add --finding.")
	case len(r.Findings) >= maxFindings:
		return nil, nil, lockkeeper.Limited.Errorf("findings_many", "The review has %d findings.", len(r.Findings)).WithNext("Ask somebody of a group that it waits for.")
	}
	f := Finding{User: by.User, Persons: w.persons(by.User), At: now, Text: text, Unjustified: c.Unjustified}
	if common(f.Persons, w.parties(r)) {
		return nil, nil, lockkeeper.Forbidden.Errorf("review_of_own", "You took part in what this review is about.").WithNext("Ask somebody who did not: lockkeeper reviews show %s", r.ID)
	}
	if slices.ContainsFunc(r.Findings, func(o Finding) bool { return common(o.Persons, f.Persons) }) {
		return nil, nil, lockkeeper.Conflict.Errorf("already_reviewed", "You have reviewed this, and one person fills one place.").WithNext("Ask another person.")
	}
	if !slices.ContainsFunc(r.Demands, func(d ReviewDemand) bool { return w.mayReview(by.User, d, now) }) {
		return nil, nil, lockkeeper.Forbidden.Errorf("not_a_reviewer", "You are none of those who review this.").WithNext("Ask one of them: lockkeeper reviews show %s", r.ID)
	}
	events := []event{&reviewJudged{ID: r.ID, Finding: f, Revision: w.Revision.Number}}
	done := w.reviewed(r, append(slices.Clip(r.Findings), f), now)
	if done {
		events = append(events, &reviewClosed{ID: r.ID, Revision: w.Revision.Number})
	}
	return events, judgedReview{r.ID, done}, nil
}

func common(a, b []lockkeeper.Person) bool {
	return slices.ContainsFunc(a, func(p lockkeeper.Person) bool { return slices.Contains(b, p) })
}

// parties are the persons who do not review: the user, as whoever he was and is, and
// whoever took part.
func (w *world) parties(r *Review) []lockkeeper.Person {
	out := append(w.everybody(r.User, r.Persons), r.Took...)
	for _, q := range w.Requests { // what waits was let through by it, too, once it begins
		if slices.ContainsFunc(q.Votes, func(v Vote) bool { return v.Activation != "" && v.Activation == r.Activation }) {
			out = append(out, q.Persons...)
			if q.Run != nil {
				for _, o := range q.Run.Initiators {
					out = append(out, o.Persons...)
				}
			}
			for _, v := range q.Votes {
				out = append(out, v.Persons...)
			}
		}
	}
	return out
}

// mayReview reports whether a user is one of those whom a demand asks, now.
func (w *world) mayReview(user string, d ReviewDemand, now lockkeeper.Moment) bool {
	if u, known := w.rules.Catalog.Users[user]; !known || u.Off || u.Automation || w.quarantined(user) != nil {
		return false
	}
	if len(d.Groups) == 0 {
		return w.allowed(user, lockkeeper.ReadJournal, lockkeeper.Root, now)
	}
	return slices.ContainsFunc(d.Groups, func(g string) bool {
		_, in := w.rules.Access.InGroup(user, g, now)
		return in
	})
}

// reviewed reports whether findings meet every demand. Those of whoever is asked no
// more, or has become one with another reviewer or with somebody who took part, do not
// count.
func (w *world) reviewed(r *Review, findings []Finding, now lockkeeper.Moment) bool {
	for _, d := range r.Demands {
		var counted [][]lockkeeper.Person
		for _, f := range findings {
			persons := w.everybody(f.User, f.Persons)
			twice := slices.ContainsFunc(counted, func(o []lockkeeper.Person) bool { return common(o, persons) })
			if !twice && w.mayReview(f.User, d, now) && !common(persons, w.parties(r)) {
				counted = append(counted, persons)
			}
		}
		if len(counted) < d.Count {
			return false
		}
	}
	return len(r.Demands) > 0
}

// reviewers are the users who could review for a demand, and how many distinct
// persons they are, without those who may not.
func (w *world) reviewers(d ReviewDemand, without []lockkeeper.Person, now lockkeeper.Moment) (users []string, persons int) {
	seen := map[lockkeeper.Person]bool{}
	for user := range w.rules.Catalog.Users {
		if !w.mayReview(user, d, now) || common(w.persons(user), without) {
			continue
		}
		users = append(users, user)
		seen[countsAs(w.persons(user))] = true
	}
	slices.Sort(users)
	return users, len(seen)
}

// CloseReview says what the caller found. It reports whether that closed the review.
func (k *Keeper) CloseReview(ctx context.Context, by Caller, id, finding string, unjustified bool) (bool, error) {
	answer, err := do[judgedReview](ctx, k, by, "", judgeReview{id, finding, unjustified})
	return answer.Closed, err
}

// A ReviewView is a review that is open or, with a time of closing, was.
type ReviewView struct {
	Review
	Reviewers []string // who could review it now
	IsOverdue bool
	Closed    lockkeeper.Moment // zero: it is open
}

// Reviews lists the open reviews that concern the caller: of what he did, of what he
// may review, and of activations that he may see; those due first before the others.
func (k *Keeper) Reviews(by Caller) ([]ReviewView, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []ReviewView{}
	for _, r := range w.Reviews {
		if w.maySeeReview(by, r, now) {
			out = append(out, w.reviewView(*r, now))
		}
	}
	slices.SortFunc(out, func(a, b ReviewView) int {
		return cmp.Or(a.Due.Time().Compare(b.Due.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (w *world) reviewView(r Review, now lockkeeper.Moment) ReviewView {
	v := ReviewView{Review: r, IsOverdue: r.Overdue(now)}
	done := w.parties(&r)
	for _, f := range r.Findings {
		done = append(done, f.Persons...)
	}
	for _, d := range r.Demands {
		users, _ := w.reviewers(d, done, now)
		v.Reviewers = append(v.Reviewers, users...)
	}
	slices.Sort(v.Reviewers)
	v.Reviewers = slices.Compact(v.Reviewers)
	return v
}

func (w *world) maySeeReview(by Caller, r *Review, now lockkeeper.Moment) bool {
	return w.mine(by, r.User, r.Scope) || w.maySee(by, r.Scope, now) ||
		by.Token == "" && slices.ContainsFunc(r.Demands, func(d ReviewDemand) bool { return w.mayReview(by.User, d, now) })
}

// Review is one review, open or closed, for whoever may see it.
func (k *Keeper) Review(ctx context.Context, by Caller, id string) (ReviewView, error) {
	if by.User == "" {
		return ReviewView{}, errPersonNeeded()
	}
	missing := lockkeeper.NotFound.Errorf("review_missing", "There is no review %.40q that you may see.", id).WithNext("List those that are open: lockkeeper reviews list")
	if !strings.HasPrefix(id, "v-") || lockkeeper.CheckName(id) != nil {
		return ReviewView{}, missing
	}
	k.mu.RLock()
	alive := k.state.Reviews[id]
	k.mu.RUnlock()
	var closed lockkeeper.Moment
	if alive == nil {
		var err error
		if alive, closed, err = k.foldReview(ctx, id); err != nil {
			return ReviewView{}, err
		}
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if alive == nil || !w.maySeeReview(by, alive, now) {
		return ReviewView{}, missing
	}
	v := w.reviewView(*alive, now)
	if v.Closed = closed; !closed.IsZero() {
		v.Reviewers, v.IsOverdue = nil, false
	}
	return v, nil
}

// foldReview reads a closed review from the journal; nil: there is none.
func (k *Keeper) foldReview(ctx context.Context, id string) (*Review, lockkeeper.Moment, error) {
	var closed lockkeeper.Moment
	s, err := k.fold(ctx, reviewSubject(id), func(_ *State, e Entry, body event) bool {
		switch body.(type) {
		case *reviewOpened, *reviewJudged:
			return true
		case *reviewClosed:
			closed = e.Time
		}
		return false
	})
	if err != nil {
		return nil, closed, err
	}
	return s.Reviews[id], closed, nil
}

// OpenReviews counts the reviews that are open, and OverdueReviews those of them that
// should have been closed.
func (k *Keeper) OpenReviews() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.state.Reviews)
}

// OverdueReviews counts the open reviews that should have been closed.
func (k *Keeper) OverdueReviews() int {
	now, n := k.now(), 0
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, r := range k.state.Reviews {
		if r.Overdue(now) {
			n++
		}
	}
	return n
}
