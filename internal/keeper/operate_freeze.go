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

// A StartFreeze is what somebody starts by hand.
type StartFreeze struct {
	Scope    lockkeeper.Scope
	For      time.Duration
	Reason   string
	Actions  []string // none: deploy and rollback
	Callers  []string // none: both
	Exempt   []string // groups
	InFlight string   // "": finish
	Soft     bool
}

// A FreezeStart is the answer to it.
type FreezeStart = startedFreeze

// StartFreeze stops the line at a scope: it holds when it returns. key, if not "",
// makes a retry give the same freeze.
func (k *Keeper) StartFreeze(ctx context.Context, by Caller, key string, f StartFreeze) (FreezeStart, error) {
	return do[startedFreeze](ctx, k, by, key, startFreeze{ID: newID("f"), Scope: f.Scope, For: f.For, Reason: f.Reason, Actions: f.Actions, Callers: f.Callers,
		Exempt: f.Exempt, InFlight: f.InFlight, Soft: f.Soft})
}

// EndFreeze lifts a freeze that was started by hand, before its time.
func (k *Keeper) EndFreeze(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", endFreeze{id, reason})
	return err
}

// A FreezeView is a freeze and how it stands.
type FreezeView struct {
	catalog.Freeze
	StartedBy string            // "": it is of the catalog
	Holds     bool              // now
	Since     lockkeeper.Moment // of the time in which it holds
	NextOpen  lockkeeper.Moment // when that time ends; zero: no end is known
	NextClose lockkeeper.Moment // when it next begins to hold; zero: not within freezeHorizon
	Times     []gate.Span       // when it holds, in the days that were asked for
	Alone     bool              // whoever started it may end it alone
	Unjudged  string            // why its times are unknown; nothing passes then
}

// Bounds of what is looked ahead to.
const (
	freezeHorizon  = 400 * 24 * time.Hour
	mostFreezeDays = 400
	maxFreezeTimes = 1000 // of one view
)

// Freezes lists the freezes that touch a scope, those that hold first, with the times
// of so many days ahead (0: none), for whoever may read deployments there.
func (k *Keeper) Freezes(by Caller, scope lockkeeper.Scope, days int) ([]FreezeView, error) {
	if days < 0 || days > mostFreezeDays {
		return nil, lockkeeper.Invalid.Errorf("days_unfit", "One looks %d days ahead at most, and %d were asked for.", mostFreezeDays, days)
	}
	if _, err := lockkeeper.ParseScope(string(scope)); err != nil || len(scope) > maxScope {
		return nil, lockkeeper.Invalid.Errorf("scope_malformed", "%.100q is no scope.", scope).WithNext("Write / or a path such as /projects/NAME.")
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if _, err := w.may(by, lockkeeper.ReadDeployments, scope, now); err != nil {
		return nil, err
	}
	out := []FreezeView{}
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Freezes)) {
		if f := w.rules.Catalog.Freezes[name]; f.Scope.Contains(scope) || scope.Contains(f.Scope) {
			out = append(out, w.freezeView(f, "", days, now))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.Freezes)) {
		if f := w.Freezes[id]; (f.Scope.Contains(scope) || scope.Contains(f.Scope)) && now.Before(f.Until) {
			out = append(out, w.freezeView(f.asRule(), f.By, days, now))
		}
	}
	slices.SortStableFunc(out, func(a, b FreezeView) int {
		if a.Holds != b.Holds {
			return map[bool]int{true: -1, false: 1}[a.Holds]
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return out, nil
}

func (w *world) freezeView(f catalog.Freeze, by string, days int, now lockkeeper.Moment) FreezeView {
	v := FreezeView{Freeze: f, StartedBy: by, Alone: w.rules.Catalog.FreezeRuleAt(f.Scope).Alone}
	holds, s, err := gate.FrozenAt(f, now, freezeHorizon)
	switch {
	case err != nil:
		v.Unjudged = "This server knows no time zone " + f.Zone + "."
		return v
	case holds:
		v.Holds, v.Since, v.NextOpen = true, s.From, s.Until
		if !s.Until.IsZero() {
			if _, next, err := gate.FrozenAt(f, s.Until, freezeHorizon); err == nil {
				v.NextClose = next.From
			}
		}
	default:
		v.NextClose = s.From
	}
	if days > 0 {
		v.Times, _ = gate.Spans(f, now, now.Add(time.Duration(days)*24*time.Hour)) // the zone is known
		v.Times = v.Times[:min(len(v.Times), maxFreezeTimes)]
	}
	return v
}

// FreezesHolding counts the freezes that hold now.
func (k *Keeper) FreezesHolding() int {
	now, n := k.now(), 0
	k.mu.RLock()
	defer k.mu.RUnlock()
	count := func(f catalog.Freeze) {
		if holds, _, err := gate.FrozenAt(f, now, time.Second); holds || err != nil {
			n++
		}
	}
	for _, f := range k.rules.Catalog.Freezes {
		count(f)
	}
	for _, f := range k.state.Freezes {
		count(f.asRule())
	}
	return n
}

// An OverrideRequest is what somebody asks to waive.
type OverrideRequest struct {
	Waives   []string
	Reason   string
	Incident string
	Digest   lockkeeper.Digest // of the ask that was seen; "": whatever it is
}

// RequestOverride asks to waive soft checks of a deployment that waits, and returns the
// override's id. key, if not "", makes a retry give the same.
func (k *Keeper) RequestOverride(ctx context.Context, by Caller, key, deployment string, o OverrideRequest) (string, error) {
	answer, err := do[opened](ctx, k, by, key, requestOverride{ID: newID("o"), Deployment: deployment, Digest: o.Digest, Waives: o.Waives, Reason: o.Reason, Incident: o.Incident})
	return answer.ID, err
}

// DecideOverride approves or denies the override with the digest that the caller saw.
func (k *Keeper) DecideOverride(ctx context.Context, by Caller, id string, approve bool, digest lockkeeper.Digest, comment string) error {
	_, err := do[opened](ctx, k, by, "", decideOverride{Override: id, Review: newID("v"), Approve: approve, Digest: digest, Comment: comment})
	return err
}

// EndOverride takes an override back.
func (k *Keeper) EndOverride(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", endOverride{id, reason})
	return err
}

// An OverrideView is an override of a deployment that has not ended, and how it stands.
type OverrideView struct {
	Override
	Deployment  string
	Environment lockkeeper.Scope
	Status      string
	Needed      int      // distinct persons
	Approvers   []string // users whose approval would count now
	Counts      bool     // it waives now
}

// Overrides lists the overrides of deployments that have not ended and that the caller
// may read, oldest first.
func (k *Keeper) Overrides(by Caller) ([]OverrideView, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []OverrideView{}
	for _, d := range w.Deployments {
		if len(d.Overrides) == 0 || w.mayRead(by, d, now) != nil {
			continue
		}
		for _, o := range d.Overrides {
			out = append(out, w.overrideView(d, o, now))
		}
	}
	slices.SortFunc(out, func(a, b OverrideView) int {
		return cmp.Or(a.Opened.Time().Compare(b.Opened.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Override is one of them.
func (k *Keeper) Override(by Caller, id string) (OverrideView, error) {
	list, err := k.Overrides(by)
	for _, o := range list {
		if o.ID == id {
			return o, nil
		}
	}
	if err == nil {
		err = lockkeeper.NotFound.Errorf("override_missing", "There is no override %.63q, of a deployment that has not ended, that you may see.", id).WithNext("List them: lockkeeper override list. Of one that has ended: lockkeeper deployments show ID")
	}
	return OverrideView{}, err
}

func (w *world) overrideView(d *Deployment, o Override, now lockkeeper.Moment) OverrideView {
	v := OverrideView{Override: o, Deployment: d.ID, Environment: lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), Status: o.Status(now)}
	facts, err := w.facts(d, now)
	if err != nil || facts.Environment.Override == nil {
		return v
	}
	g := w.overrideFacts(d, facts, o, now)
	v.Needed = gate.Needed(g, g.Environment.Checks[0])
	if v.Status == "waiting" {
		v.Approvers, _ = w.overriders(d, facts, o, now)
		v.Approvers = slices.DeleteFunc(v.Approvers, func(u string) bool {
			return slices.ContainsFunc(o.Votes, func(x Vote) bool { return x.User == u })
		})
	}
	v.Counts = slices.ContainsFunc(facts.Overrides, func(c gate.Override) bool { return c.ID == o.ID })
	return v
}

// OverridesCounting counts the overrides that waive something now.
func (k *Keeper) OverridesCounting() int {
	now, n := k.now(), 0
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, d := range k.state.Deployments {
		for _, o := range d.Overrides {
			if o.Status(now) == "granted" {
				n++
			}
		}
	}
	return n
}
