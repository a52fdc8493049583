package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// heldTo is the environment as a deployment is held to it. One that was opened while
// its environment enforced is held to that, though it only observes by now: a change
// never helps an ask that is open. One that was opened while it observed is held to
// what it enforces as soon as it does.
func (d *Deployment) heldTo(env catalog.Environment) catalog.Environment {
	if env.Observes() && !d.Observed {
		env.Mode = catalog.EnforceMode
	}
	return env
}

// An Observation is what happened at one environment while something of it was judged
// and not enforced.
type Observation struct {
	Project, Environment string
	Mode                 string // that it has now; gone: it is no more
	Deployments          int    // that were let through
	Stopped              int    // of them, those that something not enforced would have stopped
	By                   []ObservedBy
}

// An ObservedBy is one thing that would have stopped deployments.
type ObservedBy struct {
	Subject  string
	Waits    int // deployments that it would have held up
	Refuses  int // deployments that it would have refused
	Sentence string
	Examples []string // the last of them, at most maxExamples
}

// Bounds of what is looked at for one report.
const (
	maxObserved = 5000 // deployments
	maxExamples = 3
)

// Observations tell, for every environment at which the caller holds
// deployments/read, how many deployments were let through since an instant and which
// of them would have been stopped had everything been enforced, as their gates stood
// at the release. left: there were more than are looked at; the newest were.
func (k *Keeper) Observations(ctx context.Context, by Caller, since lockkeeper.Moment, project, environment string) (list []Observation, left bool, err error) {
	if project == "" && environment != "" || project != "" && lockkeeper.CheckName(project) != nil || environment != "" && lockkeeper.CheckName(environment) != nil {
		return nil, false, lockkeeper.Invalid.Errorf("environment_unknown", "An environment is named with its project.").WithNext("Name both, the project alone, or neither.")
	}
	subject := "deployments"
	for _, s := range []string{project, environment} {
		if s != "" {
			subject += "/" + s
		}
	}
	var ids []string
	now := k.now()
	// What was opened before may have been let through since: an ask waits no longer
	// than the longest patience.
	opened := since.Add(-longestPatience)
	err = k.backwards(ctx, subject, now, func(e Entry, body event) bool {
		if ev, is := body.(*deploymentOpened); is {
			if len(ids) == maxObserved {
				left = true
				return false
			}
			ids = append(ids, ev.ID)
		}
		return !e.Time.Before(opened)
	})
	t := observing{k: k, by: by, now: now, found: map[lockkeeper.Scope]*Observation{}, reads: map[lockkeeper.Scope]bool{}}
	for _, id := range ids {
		if err == nil {
			err = t.look(ctx, id, since)
		}
	}
	return t.list(), left, err
}

// longestPatience is the longest that the gate of any environment waits.
const longestPatience = 30 * 24 * time.Hour

type observing struct {
	k     *Keeper
	by    Caller
	now   lockkeeper.Moment
	found map[lockkeeper.Scope]*Observation
	reads map[lockkeeper.Scope]bool
}

func (t *observing) look(ctx context.Context, id string, since lockkeeper.Moment) error {
	d, err := t.k.find(ctx, id)
	if err != nil || d.Lease == nil || d.Lease.Started.Before(since) {
		return err
	}
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	may, asked := t.reads[scope]
	if !asked {
		may = t.k.mayReadAt(t.by, scope, t.now)
		t.reads[scope] = may
	}
	if !may {
		return nil
	}
	o := t.found[scope]
	if o == nil {
		o = &Observation{Project: d.Ask.Project, Environment: d.Ask.Environment}
		t.found[scope] = o
	}
	o.add(d)
	return nil
}

func (k *Keeper) mayReadAt(by Caller, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	_, err := w.may(by, lockkeeper.ReadDeployments, scope, now)
	return err == nil
}

// add counts one deployment, the newest first.
func (o *Observation) add(d *Deployment) {
	o.Deployments++
	stopped := false
	for _, b := range d.Lease.Gate.Because {
		if _, stops := gate.Observed(b); !stops {
			continue
		}
		stopped = true
		i := slices.IndexFunc(o.By, func(c ObservedBy) bool { return c.Subject == b.Subject })
		if i < 0 {
			o.By, i = append(o.By, ObservedBy{Subject: b.Subject, Sentence: b.Sentence}), len(o.By)
		}
		if c := &o.By[i]; b.Code == gate.ObservedWait {
			c.Waits++
		} else {
			c.Refuses++
		}
		if c := &o.By[i]; len(c.Examples) < maxExamples {
			c.Examples = append(c.Examples, d.ID)
		}
	}
	if stopped {
		o.Stopped++
	}
}

func (t *observing) list() []Observation {
	rules := t.k.Rules()
	out := []Observation{}
	for _, scope := range slices.Sorted(maps.Keys(t.found)) {
		o := *t.found[scope]
		switch env, known := rules.Catalog.Environments[scope]; {
		case !known:
			o.Mode = "gone"
		case env.Observes():
			o.Mode = catalog.ObserveMode
		default:
			o.Mode = catalog.EnforceMode
		}
		slices.SortStableFunc(o.By, func(a, b ObservedBy) int { return cmp.Compare(b.Waits+b.Refuses, a.Waits+a.Refuses) })
		out = append(out, o)
	}
	return out
}
