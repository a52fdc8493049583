package catalog

import (
	"fmt"
	"slices"
)

// The modes of an environment.
const (
	EnforceMode = "enforce" // what it demands holds up a deployment
	ObserveMode = "observe" // what it demands is judged and recorded, and holds up nothing
)

// Observes reports whether what the environment demands by itself is only observed.
func (e Environment) Observes() bool { return e.Mode == ObserveMode }

func (v *rules) mode(r *resource, e *Environment) {
	if e.Mode != "" && e.Mode != EnforceMode && e.Mode != ObserveMode {
		v.add(r, "mode", "mode_unknown", "The mode is "+name(e.Mode)+".", v.problems.suggest(e.Mode, []string{EnforceMode, ObserveMode}, "Write "+EnforceMode+", or "+ObserveMode+" to see what the checks would stop before they do."))
	}
}

// shadow refuses a lock in shadow, which would protect nobody and show nothing, and an
// approval that is asked for only after one that nobody need give.
func (v *rules) shadow(r *resource, at string, e *Environment, c Check) {
	if c.Shadow && c.Lock != nil {
		v.add(r, at+".shadow", "shadow_unfit", "A lock keeps deployments from each other; in shadow it would keep nothing.", "Leave shadow out, or take the lock out.")
	}
	if c.Shadow || c.Approval == nil {
		return
	}
	for i, before := range c.Approval.After {
		if slices.ContainsFunc(e.Checks, func(o Check) bool { return o.Name == before && o.Shadow }) {
			v.add(r, fmt.Sprintf("%s.approval.after[%d]", at, i), "after_shadow", "The approval "+name(c.Name)+" comes after "+name(before)+", which is in shadow: nobody need give that.", "Put this one in shadow, too, or take the entry out.")
		}
	}
}
