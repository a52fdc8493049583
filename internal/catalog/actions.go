package catalog

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// CheckActions are the actions of which a check can be asked.
func CheckActions() []string {
	return []string{lockkeeper.DeployAction, lockkeeper.RollbackAction, lockkeeper.RedeployAction}
}

// Asked reports whether the check is asked of an action.
func (c Check) Asked(action string) bool {
	return len(c.Actions) == 0 || slices.Contains(c.Actions, action)
}

// For is the environment as an ask of an action meets it: with the checks that are asked
// of that, in their order.
func (e Environment) For(action string) Environment {
	if !slices.ContainsFunc(e.Checks, func(c Check) bool { return !c.Asked(action) }) {
		return e
	}
	e.Checks = slices.DeleteFunc(slices.Clone(e.Checks), func(c Check) bool { return !c.Asked(action) })
	return e
}

// Under is the environment as asks meet it that no condition, or exactly one, is true of:
// checks under others need not hold together with it.
func (e Environment) Under(when string) Environment {
	e.Checks = slices.DeleteFunc(slices.Clone(e.Checks), func(c Check) bool { return c.When != "" && c.When != when })
	return e
}

// Conditions are those of the checks, each once, and "" before them, for none.
func (e Environment) Conditions() []string {
	out := []string{""}
	for _, c := range e.Checks {
		if !slices.Contains(out, c.When) {
			out = append(out, c.When)
		}
	}
	return out
}

// Facing is the environment as an ask meets it, with the checks that are asked of it, and
// those that are not because of what their when says. What cannot be judged is asked.
func (c *Catalog) Facing(e Environment, ask lockkeeper.Ask) (faced Environment, unasked []Check) {
	e = e.For(ask.Action)
	for _, check := range e.Checks {
		if check.When != "" {
			if holds, err := c.AskHolds(check.When, ask); err == nil && !holds {
				unasked = append(unasked, check)
			}
		}
	}
	if len(unasked) > 0 {
		e.Checks = slices.DeleteFunc(slices.Clone(e.Checks), func(o Check) bool {
			return slices.ContainsFunc(unasked, func(u Check) bool { return u.Name == o.Name })
		})
	}
	return e, unasked
}

// LongestCoolingOff is the longest that whoever changed a gate can be without a vote.
const LongestCoolingOff = 30 * 24 * time.Hour

// SameEnvironment reports whether two environments ask the same.
func SameEnvironment(a, b Environment) bool {
	a.Title, b.Title = "", ""
	return reflect.DeepEqual(a, b)
}

// Paths are the actions whose checks differ from those of a deployment, that one first.
func (e Environment) Paths() []string {
	out := []string{lockkeeper.DeployAction}
	for _, action := range CheckActions()[1:] {
		if slices.ContainsFunc(e.Checks, func(c Check) bool { return c.Asked(action) != c.Asked(lockkeeper.DeployAction) }) {
			out = append(out, action)
		}
	}
	return out
}

// DemandsOf lists what production must have for an action. What goes back was reviewed
// for security when it first came; that somebody approves, and from which branch it is
// started, is demanded of it all the same.
func DemandsOf(action string) []Demand {
	if action == lockkeeper.RollbackAction {
		return []Demand{DemandApproval, DemandBranchControl}
	}
	return Demands()
}

// actionsUnfit refuses a check that is asked of actions that do not exist, or that none
// may be without, and an approval that comes after one which some of its asks never see.
func (v *rules) actionsUnfit(r *resource, at string, e *Environment, c Check) {
	if c.Approval != nil {
		v.afterAsked(r, at, e, c)
	}
	v.whenUnfit(r, at, c)
	if r.root.find(at).field("actions") == nil {
		return
	}
	if len(c.Actions) == 0 || len(c.Actions) > len(CheckActions()) {
		v.bounded(r, at+".actions", len(c.Actions), len(CheckActions()))
		return
	}
	v.oneOf(r, at+".actions", c.Actions, CheckActions()...)
	switch {
	case c.Lock != nil:
		v.add(r, at+".actions", "actions_unfit", "A lock keeps all that runs there from each other, whatever it is.", "Take actions out.")
	case c.Provenance != nil || c.Attestation != nil:
		v.add(r, at+".actions", "actions_unfit", "What a signature proves is asked of whatever is put there, also of what was there before.", "Take actions out.")
	}
}

// whenUnfit refuses a condition that does not compile, and one of what every ask meets.
func (v *rules) whenUnfit(r *resource, at string, c Check) {
	if r.root.find(at).field("when") == nil {
		return
	}
	v.expression(r, at+".when", askVariable, c.When)
	switch {
	case c.Lock != nil:
		v.add(r, at+".when", "when_unfit", "A lock keeps all that runs there from each other, whatever it is.", "Take when out.")
	case c.Provenance != nil || c.Attestation != nil:
		v.add(r, at+".when", "when_unfit", "What a signature proves is asked of whatever is put there.", "Take when out.")
	}
}

func (v *rules) afterAsked(r *resource, at string, e *Environment, c Check) {
	for i, before := range c.Approval.After {
		j := slices.IndexFunc(e.Checks, func(o Check) bool { return o.Name == before && o.Approval != nil })
		if j < 0 {
			continue // said elsewhere
		}
		if o := e.Checks[j]; o.When != "" && o.When != c.When {
			v.add(r, fmt.Sprintf("%s.approval.after[%d]", at, i), "after_not_asked", fmt.Sprintf("The approval %s comes after %s, which is asked only under another condition, so it could never be given elsewhere.", name(c.Name), name(before)),
				"Give both the same when, or take the entry out.")
			continue
		}
		for _, action := range CheckActions() {
			if c.Asked(action) && !e.Checks[j].Asked(action) {
				v.add(r, fmt.Sprintf("%s.approval.after[%d]", at, i), "after_not_asked", fmt.Sprintf("The approval %s comes after %s, which is not asked of a %s, so it could never be given there.", name(c.Name), name(before), action),
					"Let both be asked of the same actions, or take the entry out.")
				break
			}
		}
	}
}

// actions reports a check that is asked of less.
func (w *weakening) actions(a, b Check) {
	for _, action := range CheckActions() {
		w.when(a.Asked(action) && !b.Asked(action), "the check %s is not asked of a %s any more", a.Name, action)
	}
	w.when(b.When != "" && a.When != b.When, "the check %s is asked only under the condition %s", a.Name, clip(b.When, 120))
}
