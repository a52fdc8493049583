package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// breakGlass activates a role at once, without approval: everybody whom it concerns
// is told before it holds, and a review opens, all in one decision.
type breakGlass struct {
	Request    string           `json:"-"`
	Activation string           `json:"-"`
	Review     string           `json:"-"`
	Role       string           `json:"role"`
	Scope      lockkeeper.Scope `json:"scope"`
	For        time.Duration    `json:"for"`
	Reason     string           `json:"reason"`
}

func (breakGlass) name() string    { return "glass.break" }
func (c breakGlass) about() string { return "reviews" }

// glass is what all rules together say of breaking it.
type glass struct {
	longest, review time.Duration
	rules, budgets  []string
	demands         []ReviewDemand
}

// budgetOf is what a rule's budget is kept by: what it is about, and not its name, so
// that it is not whole again under another one.
func budgetOf(r catalog.ActivationRule) string { return r.Role + " " + string(r.Scope) }

// glassOf refuses unless every rule lets the glass be broken, and gives what they ask
// together.
func glassOf(d demands) (glass, error) {
	g := glass{longest: d.longest}
	for i, r := range d.rules {
		b := r.BreakGlass
		if b == nil {
			return g, lockkeeper.Forbidden.Errorf("break_glass_unavailable", "The rule %s for %s at %s does not let the glass be broken.", r.Name, r.Role, r.Scope).
				WithNext("Ask for it with approval: lockkeeper activate")
		}
		g.longest = min(g.longest, b.LongestActivation())
		if i == 0 || b.ReviewTime() < g.review {
			g.review = b.ReviewTime()
		}
		if g.rules = append(g.rules, r.Name); !slices.Contains(g.budgets, budgetOf(r)) {
			g.budgets = append(g.budgets, budgetOf(r))
		}
		g.demands = append(g.demands, ReviewDemand{Rule: r.Name, Count: b.Reviewers.Needed(), Groups: b.Reviewers.Groups})
	}
	return g, nil
}

func (c breakGlass) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d := w.demandsOn(c.Role, c.Scope)
	r := Request{ID: c.Request, User: by.User, Persons: w.persons(by.User), Role: c.Role, Actions: w.rules.Access.RoleActions(c.Role), Scope: c.Scope, For: c.For,
		Reason: strings.TrimSpace(c.Reason), Opened: now, Deadline: now.Add(d.patience), Opens: w.openings(by.User, nil, c.Role, c.Scope)}
	eligible, err := c.possible(w, by, &r, d, now)
	if err != nil {
		return nil, nil, err
	}
	g, err := glassOf(d)
	if err != nil {
		return nil, nil, err
	}
	if c.For > g.longest {
		return nil, nil, lockkeeper.Forbidden.Errorf("activation_long", "By breaking the glass %s may be activated for %s at most, and %s were asked for.", c.Role, g.longest, c.For).
			WithNext("Ask for --for %s or less.", g.longest)
	}
	if err := w.glassLeft(c, d, now); err != nil {
		return nil, nil, err
	}
	review := Review{ID: c.Review, About: aboutBreakGlass, User: by.User, Persons: r.Persons, Role: c.Role, Scope: c.Scope, Activation: c.Activation, Reason: r.Reason,
		Rules: g.rules, Budgets: g.budgets, Opened: now, Due: now.Add(g.review), Demands: g.demands}
	for _, demand := range g.demands {
		if users, persons := w.reviewers(demand, w.parties(&review), now); persons < demand.Count {
			return nil, nil, lockkeeper.Forbidden.Errorf("reviewers_missing", "The rule %s wants %d persons to review this who take no part, and there are %d: %v.", demand.Rule, demand.Count, persons, users).
				WithNext("Ask for it with approval: lockkeeper activate. Or have more persons put into %v.", demand.Groups)
		}
	}
	if r.Digest, err = r.digest(); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("request_malformed", "The request has no digest: %v.", err)
	}
	a := Activation{ID: c.Activation, Request: r.ID, User: r.User, Role: r.Role, Actions: r.Actions, Scope: r.Scope, Reason: r.Reason, Started: now, Ends: now.Add(r.For), Opens: r.Opens, BreakGlass: c.Review}
	if err := w.bind(&a, &r, by); err != nil {
		return nil, nil, err
	}
	duties, err := w.duties(a, now)
	if err != nil {
		return nil, nil, err
	}
	w.rest(by.User, access.Activating, c.Role, c.Scope, eligible)
	broken := lockkeeper.Decision{Subject: "glass", Verdict: lockkeeper.Pass, Code: "glass_broken",
		Sentence: fmt.Sprintf("Nobody approved it: the glass is broken, and the review %s is due at %s.", review.ID, review.Due)}
	verdict := lockkeeper.All("breaking the glass for "+r.Role+" at "+string(r.Scope), "The rules let the glass be broken.", eligible, broken)
	text := fmt.Sprintf("%s broke the glass and holds %s at %s until %s: %s", by.User, a.Role, a.Scope, a.Ends, a.Reason)
	events := notice(c.Review, aboutBreakGlass, activationSubject(a.ID), text, w.concerned(by.User, c.Scope, g.demands, now))
	events = append(events, &requestOpened{Request: r, Decision: verdict, Revision: w.Revision.Number}, &reviewOpened{Review: review, Revision: w.Revision.Number},
		&activationBegun{Activation: a, Digest: r.Digest, Decision: verdict, Revision: w.Revision.Number})
	return append(events, duties...), opened{a.ID}, nil
}

// possible judges the ask itself: who asks, for what, and why.
func (c breakGlass) possible(w *world, by Caller, r *Request, d demands, now lockkeeper.Moment) (lockkeeper.Decision, error) {
	var none lockkeeper.Decision
	switch {
	case by.User == "":
		return none, errPersonNeeded()
	case r.Reason == "" || len(r.Reason) > maxReason:
		return none, lockkeeper.Invalid.Errorf("reason_missing", "Whoever breaks the glass says why, in 1 to %d bytes.", maxReason).WithNext("Add --reason WHY.")
	case c.For < time.Minute || c.For%time.Second != 0:
		return none, lockkeeper.Invalid.Errorf("duration_malformed", "An activation lasts whole seconds, and a minute at least.").WithNext("Ask for --for 1h.")
	}
	eligible := w.rules.Access.Eligible(by.User, c.Role, c.Scope, now)
	if !eligible.Passed(now) {
		return none, lockkeeper.Forbidden.Errorf(eligible.Code, "%s", eligible.Sentence).WithNext("%s", eligible.Next).WithDecision(eligible)
	}
	if len(d.rules) == 0 {
		fits := d.fits(r)
		return none, lockkeeper.Forbidden.Errorf(fits.Code, "%s", fits.Sentence).WithNext("%s", fits.Next)
	}
	// Hours are passed over, as they are what glass is broken for; a credential that
	// has just changed is not.
	if cool := w.coolsOff(r, d, now); cool.Verdict != lockkeeper.Pass {
		return none, lockkeeper.Forbidden.Errorf(cool.Code, "%s", cool.Sentence).WithNext("%s", cool.Next).WithDecision(cool)
	}
	active := 0
	for _, a := range w.Activations {
		if a.User == by.User && w.lives(a, now) {
			active++
		}
	}
	if active >= maxActivations {
		return none, lockkeeper.Limited.Errorf("activations_many", "%d activations of yours are alive.", active).WithNext("End some: lockkeeper activations list")
	}
	return eligible, nil
}

// glassLeft refuses while a review of the same is open, and once the budget of the
// quarter is spent. The role and the scope count beside the rule's name, so that a
// rule under another name is no way around.
func (w *world) glassLeft(c breakGlass, d demands, now lockkeeper.Moment) error {
	if len(w.Reviews) >= maxReviews {
		return lockkeeper.Limited.Errorf("reviews_many", "%d reviews are open.", len(w.Reviews)).WithNext("Close some: lockkeeper reviews list")
	}
	for _, r := range w.Reviews {
		same := slices.ContainsFunc(d.rules, func(o catalog.ActivationRule) bool { return slices.Contains(r.Rules, o.Name) })
		if r.About == aboutBreakGlass && (same || r.Role == c.Role && (r.Scope.Contains(c.Scope) || c.Scope.Contains(r.Scope))) {
			return lockkeeper.Forbidden.Errorf("review_open", "The glass was broken for this before, and the review %s of that is open.", r.ID).
				WithNext("Have it closed: lockkeeper reviews show %s. Or ask with approval: lockkeeper activate", r.ID)
		}
	}
	for _, rule := range d.rules {
		if used := w.Broken[budgetOf(rule)]; used.Quarter == quarterOf(now) && used.Count >= rule.BreakGlass.BudgetLimit() {
			return lockkeeper.Forbidden.Errorf("break_glass_spent", "Under the rule %s the glass was broken %d times in %s, and it may be %d times.", rule.Name, used.Count, used.Quarter, rule.BreakGlass.BudgetLimit()).
				WithNext("Ask for it with approval: lockkeeper activate")
		}
	}
	return nil
}

// concerned are the users who are told that the glass was broken at a scope: who
// could have approved the activation, who reviews it, and who approves deployments to
// the environments in it.
func (w *world) concerned(user string, scope lockkeeper.Scope, demands []ReviewDemand, now lockkeeper.Moment) []string {
	out := w.rules.Access.Believing().WhoCan(lockkeeper.ApproveActivations, scope, now)
	for _, d := range demands {
		users, _ := w.reviewers(d, nil, now)
		out = append(out, users...)
	}
	var groups []string
	for at, env := range w.rules.Catalog.Environments {
		if !scope.Contains(at) && !at.Contains(scope) {
			continue
		}
		for _, check := range env.Checks {
			if check.Approval != nil {
				groups = append(groups, check.Approval.Groups...)
			}
		}
	}
	slices.Sort(groups)
	if groups = slices.Compact(groups); len(groups) > 0 {
		users, _ := w.reviewers(ReviewDemand{Groups: groups}, nil, now)
		out = append(out, users...)
	}
	return slices.DeleteFunc(out, func(u string) bool { return u == user })
}

// BreakGlass activates a role for the caller without approval, where the rules let
// him, and opens the review of that. key, if not "", makes a retry give the same.
func (k *Keeper) BreakGlass(ctx context.Context, by Caller, key string, o OpenRequest) (Activation, error) {
	answer, err := do[opened](ctx, k, by, key, breakGlass{Request: newID("r"), Activation: newID("a"), Review: newID("v"), Role: o.Role, Scope: o.Scope, For: o.For, Reason: o.Reason})
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
