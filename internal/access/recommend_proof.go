package access

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// holding are the recommendations that hold together: under all of them no right
// that was used is gone, nothing is weakened, somebody administers, and whatever had
// a quorum has one.
func (r *recommender) holding() []Recommendation {
	var fit, bare []Recommendation
	for _, m := range r.found {
		if m.Edit.Key.Name == "" {
			bare = append(bare, m)
		} else {
			fit = append(fit, m)
		}
	}
	return append(r.accept(nil, fit), bare...)
}

// accept takes those of more that hold beside the edits that are taken already.
func (r *recommender) accept(taken []catalog.Edit, more []Recommendation) []Recommendation {
	if len(more) == 0 {
		return nil
	}
	if r.trials++; r.trials > maxTrials {
		r.skipped += len(more)
		return nil
	}
	if r.holds(editsOf(taken, more)) {
		return more
	}
	if len(more) == 1 {
		return nil
	}
	first := r.accept(taken, more[:len(more)/2])
	return append(first, r.accept(editsOf(taken, first), more[len(more)/2:])...)
}

func editsOf(taken []catalog.Edit, more []Recommendation) []catalog.Edit {
	out := slices.Clone(taken)
	for _, m := range more {
		out = append(out, m.Edit)
	}
	return out
}

func (r *recommender) holds(edits []catalog.Edit) bool {
	c, err := r.c.Edited(edits)
	if err != nil {
		return false
	}
	for _, d := range catalog.Explain(r.c, c) {
		if len(d.Weakens) > 0 {
			return false
		}
	}
	x := r.Join(c)
	for _, u := range r.uses {
		if r.x.serves(u, r.Now) && !x.serves(u, r.Now) {
			return false
		}
	}
	if r.administers(r.x) && !r.administers(x) {
		return false
	}
	return !slices.ContainsFunc(x.Shortages(r.Now), func(s Shortage) bool { return !r.short[s.String()] })
}

// administers reports whether somebody who can sign in administers the organisation.
func (r *recommender) administers(x *Index) bool {
	return slices.ContainsFunc(x.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, r.Now), func(user string) bool {
		return r.SignsIn(user) && x.Allowed(user, lockkeeper.WriteAccess, lockkeeper.Root, r.Now)
	})
}

// serves reports whether what was used could be used now: the user holds it, or may
// activate a role that gives it.
func (x *Index) serves(u Use, now lockkeeper.Moment) bool {
	if stage, err := lockkeeper.ParsePrincipal(u.User); err == nil && u.Action == Activating && stage.Kind == lockkeeper.WorkloadPrincipal {
		return x.EligibleStage(stage, u.Role, u.Scope, now).Passed(now) && len(x.c.RulesOf(u.Role, u.Scope)) > 0
	}
	if u.Action == Activating {
		return x.Eligible(u.User, u.Role, u.Scope, now).Passed(now) && len(x.c.RulesOf(u.Role, u.Scope)) > 0
	}
	if x.Allowed(u.User, u.Action, u.Scope, now) {
		return true
	}
	return x.Check(u.User, u.Action, u.Scope, now).Code == "not_granted" && slices.ContainsFunc(x.Activatable(u.User, u.Action, u.Scope, now), func(a catalog.Assignment) bool {
		return len(x.c.RulesOf(a.Role, u.Scope)) > 0
	})
}
