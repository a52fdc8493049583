package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Lint is something of a catalog that is no mistake in any one document and still
// cannot be meant.
type Lint struct {
	Scope    lockkeeper.Scope `json:"scope"` // of the environment
	Code     string           `json:"code"`
	Sentence string           `json:"sentence"`
	Mend     string           `json:"mend"`
	// Never: nobody can ever pass the environment, or not for as long as the sentence
	// says; else somebody may, and will seldom.
	Never bool `json:"never"`
}

// String says a lint in one line.
func (l Lint) String() string {
	return fmt.Sprintf("%s: %s %s [%s]", l.Scope, l.Sentence, l.Mend, l.Code)
}

// Look lists, by scope, the environments that nobody can ever pass, those whose checks
// contradict each other, and those that asks mostly fail to pass in time, as of now.
// What an environment only observes, and checks in shadow, hold nobody up and are not
// looked at. Whether there are persons enough for the approvals is access.Shortages.
//
// It proves what it says from the catalog alone and finds no more than that: what an
// expression, evidence, or somebody outside will say is not known beforehand.
func Look(c *catalog.Catalog, now lockkeeper.Moment) []Lint {
	var out []Lint
	for _, scope := range slices.Sorted(maps.Keys(c.Environments)) {
		env := c.Environments[scope]
		l := linter{c: c, scope: scope, now: now}
		for _, action := range env.Paths() {
			l.env, l.action = env.For(action), action
			l.identity()
			if !l.env.Observes() {
				l.demands()
				l.times()
				l.soft()
				l.parameters()
			}
		}
		l.frozen()
		l.lock()
		out = append(out, l.found...)
	}
	return out
}

type linter struct {
	c      *catalog.Catalog
	scope  lockkeeper.Scope
	env    catalog.Environment // with the checks of one action
	action string
	now    lockkeeper.Moment
	found  []Lint
}

// add notes what is found. What a deployment meets, too, is told of that alone.
func (l *linter) add(never bool, code, mend, format string, args ...any) {
	found := Lint{Scope: l.scope, Code: code, Sentence: fmt.Sprintf(format, args...), Mend: mend, Never: never}
	if slices.Contains(l.found, found) {
		return
	}
	if l.action != lockkeeper.DeployAction {
		found.Sentence = "Of a " + l.action + ": " + found.Sentence
	}
	l.found = append(l.found, found)
}

// enforced are the checks that hold everybody up.
func (l *linter) enforced() []catalog.Check {
	if l.env.Observes() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(l.env.Checks), func(c catalog.Check) bool { return c.Shadow || c.When != "" })
}

// identity looks at the stages that may hold the environment's identity: somebody must
// be able to come from one of them.
func (l *linter) identity() {
	id, has := l.c.IdentityOf(l.scope)
	if !has {
		l.add(true, "environment_without_identity", "Add an Identity for it, or take it out.", "The environment has no identity, so nothing can be deployed to it.")
		return
	}
	var stages []catalog.Stage
	for _, s := range id.Stages {
		pipeline, name, _ := strings.Cut(s, "/")
		p := l.c.Pipelines[lockkeeper.PipelineScope(l.env.Project, pipeline)]
		for _, one := range p.Stages {
			if one.Name == name {
				stages = append(stages, one)
			}
		}
		if l.env.Tier == catalog.Production && len(p.Stages) == 1 {
			l.add(true, "artifact_unrecordable", "Give the pipeline a build stage that records what it builds: lockkeeper artifact record.",
				"The pipeline %s has the one stage %s, and production takes only artifacts that another stage of it has recorded.", pipeline, name)
		}
	}
	l.refs(stages)
	l.started(stages)
}

// refs looks whether any ref of the stages' trust passes all branch checks.
func (l *linter) refs(stages []catalog.Stage) {
	var checks []catalog.Check
	for _, c := range l.enforced() {
		if c.Branches != nil {
			checks = append(checks, c)
		}
	}
	var refs []string
	for _, s := range stages {
		if len(s.Trust.Refs) == 0 {
			return // told by other facts: any ref may come
		}
		refs = append(refs, s.Trust.Refs...)
	}
	if len(refs) == 0 || len(checks) == 0 {
		return
	}
	admits := func(c catalog.Check, ref string) bool {
		return slices.ContainsFunc(c.Branches.Allowed, func(p string) bool { return refMatches(p, ref) })
	}
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		if !slices.ContainsFunc(refs, func(ref string) bool { return admits(c, ref) }) {
			l.add(true, "refs_never_match", "Admit one of these refs in the check, or let the stage run on a ref that it admits.",
				"The check %s admits no ref that the identity's stages may run on: %s.", c.Name, shortly(refs))
			return
		}
	}
	if !slices.ContainsFunc(refs, func(ref string) bool {
		return !slices.ContainsFunc(checks, func(c catalog.Check) bool { return !admits(c, ref) })
	}) {
		l.add(true, "checks_contradict", "Let them admit a ref in common.", "No ref of the identity's stages passes all of the checks %s together: %s.", strings.Join(names, ", "), shortly(refs))
	}
}

// nobodysEvents start runs of which no platform names a person as the starter.
var nobodysEvents = []string{"schedule", "workflow_run", "trigger", "pipeline", "buildCompletion", "resourceTrigger", "triggered"}

// started looks whether a person may start a run of the stages, where automation may
// not.
func (l *linter) started(stages []catalog.Stage) {
	if l.env.Automation || len(stages) == 0 {
		return
	}
	for _, s := range stages {
		if len(s.Trust.Events) == 0 || slices.ContainsFunc(s.Trust.Events, func(e string) bool { return !slices.Contains(nobodysEvents, e) }) {
			return
		}
	}
	l.add(true, "automation_only", "Set automation: true on it, or admit an event that a person starts.", "Its stages run only on events that nobody starts, and it admits no automation.")
}

// demands looks for what production must have and has a waiver for no more.
func (l *linter) demands() {
	f := Facts{Environment: l.env, Ask: lockkeeper.Ask{Action: l.action}}
	for _, d := range demands(f, l.now) {
		if d.Verdict != lockkeeper.Pass {
			l.add(true, d.Code, d.Next, "%s", d.Sentence)
		}
	}
}

// lookAhead is how far windows are looked at: past every week's and month's pattern.
const lookAhead = 35 * 24 * time.Hour

// times looks whether all hours of the checks are ever open together, and whether an
// ask that comes at a bad moment lives to see that.
func (l *linter) times() {
	var names []string
	f := Facts{Environment: l.env, Opened: l.now.Add(-lookAhead), Deadline: l.now.Add(lookAhead)}
	f.Environment.Checks = nil
	var delay time.Duration
	for _, c := range l.enforced() {
		if c.Hours != nil {
			f.Environment.Checks, names = append(f.Environment.Checks, c), append(names, c.Name)
		}
		if c.Delay != nil {
			delay = max(delay, time.Duration(c.Delay.For))
		}
	}
	if len(names) == 0 {
		return
	}
	var closed time.Duration // the longest time in which not all are open
	var since lockkeeper.Moment
	opened, t := false, l.now
	for n := 0; n < maxLooks && t.Before(f.Deadline); n++ {
		if passes(times(f, t)) {
			if opened {
				closed = max(closed, t.Sub(since))
			}
			opened = true
			next, more := nextTurn(f, t)
			if !more {
				return // open for good
			}
			t, since = next, next
			continue
		}
		next, more := nextTurn(f, t)
		if !more {
			break
		}
		t = next
	}
	what := "The hours of the check " + names[0] + " never open"
	if len(names) > 1 {
		what = "The hours of the checks " + strings.Join(names, ", ") + " are never open together"
	}
	switch patience := l.env.PatienceLimit(); {
	case !opened && len(names) > 1:
		l.add(true, "checks_contradict", "Let the windows have some time in common.", "%s in the next %d days.", what, int(lookAhead.Hours()/24))
	case !opened:
		l.add(true, "hours_never_open", "Add a window, or take exceptions out.", "%s in the next %d days.", what, int(lookAhead.Hours()/24))
	case closed > patience:
		l.add(false, "patience_too_short", fmt.Sprintf("Set patience to at least %s.", closed+delay),
			"Between two windows lie up to %s, and an ask waits %s at most: one that comes when a window has closed never sees the next.", closed, patience)
	}
}

// longFreeze is a freeze that is no exception any more.
const longFreeze = 90 * 24 * time.Hour

// soft looks for soft checks that nothing could ever waive: they read as if there were a
// way around them, and are as hard as all others.
func (l *linter) soft() {
	var names []string
	for _, c := range l.env.Checks {
		if c.Soft && !c.Shadow {
			names = append(names, c.Name)
		}
	}
	if len(names) > 0 && l.env.Override == nil {
		l.add(false, "soft_never_waived", "Say with override who may waive soft checks of the environment, or take soft out.",
			"The environment has no override, so nothing ever waives what it calls soft: %s.", shortly(names))
	}
}

// parameters looks for checks whose question needs a parameter where none ever comes:
// what a platform asks for a run that it holds has none.
func (l *linter) parameters() {
	if l.env.HeldBy == "" {
		return
	}
	for _, c := range l.enforced() {
		call, _ := c.Outside()
		for _, place := range catalog.Places(call.Service.URL) {
			if strings.HasPrefix(place, catalog.ParameterFact("")) {
				l.add(true, "parameter_never_comes", "Ask about {commit} or {run}, or let a job ask: take heldBy out.",
					"The check %s asks about %s, and a run that %s holds has no parameters.", c.Name, place, l.env.HeldBy)
			}
		}
	}
}

// frozen looks for freezes that stop everything, from now and for long.
func (l *linter) frozen() {
	l.action = lockkeeper.DeployAction // what is told here stops everything
	for _, z := range l.c.FreezesAt(l.scope) {
		all := true
		for _, action := range []string{lockkeeper.DeployAction, lockkeeper.RollbackAction} {
			for _, caller := range []string{catalog.PeopleCaller, catalog.AutomationCaller} {
				all = all && z.Stops(action, caller)
			}
		}
		if all && len(z.Windows)+len(z.Exempt) == 0 && !l.now.Before(z.From) && l.now.Add(longFreeze).Before(z.Until) {
			l.add(true, "frozen_for_long", "End the freeze sooner, or take the environment out.", "The freeze %s stops everything until %s.", z.Name, z.Until)
		}
	}
}

// lock looks for holders that outlast those who wait. One deployment takes one lock,
// and as the last thing, so that locks of Lockkeeper alone never wait in a circle.
func (l *linter) lock() {
	l.action = lockkeeper.DeployAction // it is asked of every action
	c := lockOf(l.env)
	if c != nil && c.Lock.Mode == catalog.LockSequential && l.env.LeaseLimit() >= l.env.PatienceLimit() {
		l.add(false, "lock_outlasts_patience", "Set patience well above lease, or lease below it.",
			"One deployment may hold the lock for %s, and whoever waits for it gives up after %s.", l.env.LeaseLimit(), l.env.PatienceLimit())
	}
}

func shortly(list []string) string {
	if len(list) > 8 {
		return strings.Join(list[:8], ", ") + ", …"
	}
	return strings.Join(list, ", ")
}
