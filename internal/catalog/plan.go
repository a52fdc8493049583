package catalog

import (
	"fmt"
	"slices"
	"time"
)

// A PlanCheck demands that a stage recorded the plan that the ask carries, for this
// environment and the commit that is deployed.
type PlanCheck struct {
	Kind     string   `json:"kind"`               // terraform or helm
	Destroys *int     `json:"destroys,omitempty"` // resources at most that may be destroyed or replaced; default: any number. Of terraform only: a manifest does not say what goes
	From     []string `json:"from,omitempty"`     // PIPELINE/STAGE that record it; default: each stage of the project that may
	Age      Duration `json:"age,omitempty"`      // how old it may be at the release; default 24h, 1m to 720h
}

// DefaultPlanAge is how old a plan may be: what is there changes under it.
const DefaultPlanAge = 24 * time.Hour

const maxPlanAge = 30 * 24 * time.Hour

func (v *rules) plan(r *resource, at string, p PlanCheck) {
	if kinds := []string{"helm", "terraform"}; !slices.Contains(kinds, p.Kind) {
		v.add(r, at+".kind", "value_unknown", name(p.Kind)+" is none of helm, terraform.", v.problems.suggest(p.Kind, kinds, "Write one of them."))
	}
	if p.Destroys != nil {
		v.count(r, at+".destroys", *p.Destroys, maxCounted)
		if p.Kind == "helm" {
			v.add(r, at+".destroys", "plan_unknowable", "A rendered manifest does not say what would be destroyed.", "Leave destroys out.")
		}
	}
	v.within(r, at+".age", p.Age, time.Minute, maxPlanAge)
}

func (w *weakening) plan(check string, a, b PlanCheck) {
	w.when(a.Kind != b.Kind, "the check %s asks for another kind of plan", check)
	w.when(a.Destroys != nil && (b.Destroys == nil || *b.Destroys > *a.Destroys), "the check %s takes plans that destroy more", check)
}

// String says what a plan is asked for.
func (p PlanCheck) String() string {
	if p.Destroys == nil {
		return "a " + p.Kind + " plan"
	}
	return fmt.Sprintf("a %s plan that destroys at most %d", p.Kind, *p.Destroys)
}
