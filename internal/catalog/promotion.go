package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Promotion demands that the artifacts of the ask, all of them together and nothing
// else, were deployed to other environments of the project with success before.
type Promotion struct {
	// Environments of the project, 1 to 16. Each of them counts, or with any one.
	Environments []string `json:"environments"`
	Any          bool     `json:"any,omitempty"` // one of them is enough
	// Soak is for how long without a break they must have stood in the environment; a
	// lease for anything else there is a break. Up to 720h; default: not asked.
	Soak Duration `json:"soak,omitempty"`
	// Age is how long before the release the newest success there may be. 1m to 8760h,
	// and longer than the soak; default 720h.
	Age Duration `json:"age,omitempty"`
	// Tests must have been made since the newest success there, and brought about the
	// artifacts. Evidence names no environment: names or from say which tests these are.
	Tests *Tests `json:"tests,omitempty"`
}

// DefaultPromotionAge is how old the success in another environment may be.
const DefaultPromotionAge = 30 * 24 * time.Hour

// Bounds of promotions.
const (
	maxPromotedFrom = 16
	longestSoak     = 30 * 24 * time.Hour
	maxRunning      = 64
)

// AgeLimit is how old the newest success may be at the release.
func (p Promotion) AgeLimit() time.Duration { return orDefault(p.Age, DefaultPromotionAge) }

func (v *rules) promotion(r *resource, at string, e *Environment, p Promotion) {
	if len(p.Environments) == 0 {
		v.add(r, at+".environments", "environments_missing", "The check names no environment in which the artifacts must have run.", "Name other environments of the project: environments: [staging].")
	}
	if len(p.Environments) > maxPromotedFrom {
		v.bounded(r, at+".environments", len(p.Environments), maxPromotedFrom)
	}
	for i, from := range p.Environments {
		path := fmt.Sprintf("%s.environments[%d]", at, i)
		switch {
		case from == e.Name:
			v.add(r, path, "promotion_from_itself", "Nothing can run in "+e.Name+" before it is let in there.", "Name an environment that comes before it.")
		default:
			v.reference(r, path, Key{EnvironmentKind, e.Project, from})
		}
	}
	v.within(r, at+".soak", p.Soak, time.Minute, longestSoak)
	v.within(r, at+".age", p.Age, time.Minute, maxRecordAge)
	if p.Tests != nil {
		v.evidenceCheck(r, at, e, Check{Tests: p.Tests})
		if len(p.Tests.Names)+len(p.Tests.From) == 0 {
			v.add(r, at+".tests", "names_missing", "Nothing says which tests these are, and any that are brought later would count.", "Name them, or the stage that brings them: tests: {names: [smoke]}.")
		}
	}
	if time.Duration(p.Soak) >= p.AgeLimit() {
		v.add(r, at+".age", "soak_outlasts_age", fmt.Sprintf("They must have stood for %s, and their deployment counts for %s.", time.Duration(p.Soak), p.AgeLimit()), "Choose an age that is longer than the soak.")
	}
}

// promotionCycles refuses environments that wait for each other: nothing could be
// deployed to any of them first. Where any of several is enough there is a way round
// unless all of them are in it.
func (v *rules) promotionCycles(admitted []*resource) {
	open := map[lockkeeper.Scope]bool{} // something can be deployed there
	for again := true; again; {
		again = false
		for _, scope := range slices.Sorted(maps.Keys(v.c.Environments)) {
			if !open[scope] && v.reachable(v.c.Environments[scope], open) {
				open[scope], again = true, true
			}
		}
	}
	for _, r := range admitted {
		e, ok := r.value.(*Environment)
		if !ok || open[lockkeeper.EnvironmentScope(e.Project, e.Name)] {
			continue
		}
		for i, c := range e.Checks {
			if c.Promotion != nil && !v.reachable(Environment{Project: e.Project, Checks: []Check{c}}, open) {
				v.add(r, fmt.Sprintf("checks[%d].promotion.environments", i), "promotion_cycle", "Nothing can ever be deployed to "+e.Name+": it must have run in "+strings.Join(c.Promotion.Environments, ", ")+" first, and there the same is asked in turn.", "Take one of the environments out.")
				break
			}
		}
	}
}

// reachable reports whether everything that an environment promotes from is open. What
// is no environment is another mistake.
func (v *rules) reachable(e Environment, open map[lockkeeper.Scope]bool) bool {
	is := func(name string) bool {
		scope := lockkeeper.EnvironmentScope(e.Project, name)
		_, known := v.c.Environments[scope]
		return open[scope] || !known
	}
	for _, c := range e.Checks {
		if c.Promotion == nil || !c.Asked(lockkeeper.DeployAction) { // something has to come first
			continue
		}
		shut := func(name string) bool { return !is(name) }
		if p := c.Promotion; !p.Any && slices.ContainsFunc(p.Environments, shut) || p.Any && len(p.Environments) > 0 && !slices.ContainsFunc(p.Environments, is) {
			return false
		}
	}
	return true
}

// stageRunning refuses a stage that may say what runs in an environment which is none.
func (v *rules) stageRunning(r *resource, at, project string, s Stage) {
	if len(s.Running) > maxRunning {
		v.bounded(r, at+".running", len(s.Running), maxRunning)
	}
	for i, env := range s.Running {
		v.reference(r, fmt.Sprintf("%s.running[%d]", at, i), Key{EnvironmentKind, project, env})
	}
}

// promotion reports what a promotion demands no more.
func (w *weakening) promotion(of string, a, b Promotion) {
	was, is := a.Any && len(a.Environments) > 1, b.Any && len(b.Environments) > 1
	switch {
	case is && !was:
		w.when(true, "for the check %s one environment of several is enough", of)
	case is:
		w.more("for the check "+of+" it is enough to have run in %s", a.Environments, b.Environments)
	case was: // each of some, instead of one of several: not less if one of them was enough
		w.when(!slices.ContainsFunc(b.Environments, func(e string) bool { return slices.Contains(a.Environments, e) }), "the check %s takes what ran elsewhere", of)
	default:
		w.more("for the check "+of+" it need not have run in %s", b.Environments, a.Environments)
	}
	switch {
	case a.Tests != nil && b.Tests != nil:
		w.evidenceCheck(Check{Name: of, Tests: a.Tests}, Check{Name: of, Tests: b.Tests})
	case a.Tests != nil:
		w.when(true, "the check %s asks for no tests there", of)
	}
	w.when(b.Soak < a.Soak, "the check %s asks for a soak of %s instead of %s", of, time.Duration(b.Soak), time.Duration(a.Soak))
	w.when(b.AgeLimit() > a.AgeLimit(), "the check %s takes what ran %s ago instead of %s", of, b.AgeLimit(), a.AgeLimit())
}
