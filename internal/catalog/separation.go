package catalog

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of a separation.
const (
	maxDuties       = 8
	maxDutyPatterns = 50
)

// deploymentActions are what somebody can use on one deployment.
var deploymentActions = []lockkeeper.Action{lockkeeper.StartDeployments, lockkeeper.ApproveDeployments, lockkeeper.CancelDeployments,
	lockkeeper.ApproveActivations, lockkeeper.RevokeActivations, lockkeeper.RecordArtifacts, lockkeeper.AddEvidence, lockkeeper.RevokeLeases}

// separation checks the duties: that they are two or more, that no action is in two
// of them, and that what is to be used on a deployment can be.
func (v *rules) separation(r *resource, s *Separation) {
	v.scope(r, s.Scope)
	v.oneOf(r, "mode", []string{s.Mode}, SeparateHolding, SeparateUse)
	v.bounded(r, "actions", len(s.Actions), maxDuties)
	if len(s.Actions) == 1 {
		v.add(r, "actions", "duties_missing", "The separation "+s.Name+" has one duty, and keeps it apart from nothing.", "List two or more: actions: [[deployments/start], [deployments/approve]].")
	}
	for i, list := range s.Actions {
		at := fmt.Sprintf("actions[%d]", i)
		v.bounded(r, at, len(list), maxDutyPatterns)
		v.patterns(r, at, list)
	}
	for _, a := range lockkeeper.Actions() {
		duties, usable := 0, false
		for _, list := range s.Actions {
			if (Separation{Actions: [][]lockkeeper.ActionPattern{list}}).Duty(a) == 0 {
				duties++
			}
		}
		for _, d := range deploymentActions {
			usable = usable || a == d
		}
		if duties > 1 {
			v.add(r, "actions", "duties_overlap", fmt.Sprintf("The action %s is in two duties of %s, so nobody could hold it.", a, s.Name), "Leave it in one of them.")
			return
		}
		if s.Mode == SeparateUse && duties > 0 && !usable {
			v.add(r, "actions", "duty_unused", fmt.Sprintf("Nobody uses %s on a deployment.", a), fmt.Sprintf("Separate %s, or write mode: hold.", joinActions(deploymentActions)))
			return
		}
	}
}

func joinActions(list []lockkeeper.Action) string {
	out := ""
	for i, a := range list {
		if i > 0 {
			out += ", "
		}
		out += string(a)
	}
	return out
}

// separation reports what is kept apart no longer.
func (w *weakening) separation(a, b Separation, is bool) {
	if !is {
		w.when(true, "duties are kept apart no more at %s", a.Scope)
		return
	}
	w.when(a.Mode != b.Mode, "duties are kept apart in another way")
	w.when(!b.Scope.Contains(a.Scope), "duties are kept apart at another scope")
	for _, one := range lockkeeper.Actions() {
		for _, other := range lockkeeper.Actions() {
			apart := func(s Separation) bool { return s.Duty(one) >= 0 && s.Duty(other) >= 0 && s.Duty(one) != s.Duty(other) }
			w.when(one < other && apart(a) && !apart(b), "%s and %s are kept apart no more", one, other)
		}
	}
}
