package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// A MakeStrike is what somebody strikes.
type MakeStrike struct {
	Scope      lockkeeper.Scope // an environment or a project
	Artifacts  []lockkeeper.Artifact
	Reason     string
	Deployment string // that they were found in; "": none
}

// Struck is the answer to it.
type Struck = struck

// Strike keeps artifacts out of a scope: it holds when it returns. key, if not "", makes
// a retry give the same strike.
func (k *Keeper) Strike(ctx context.Context, by Caller, key string, m MakeStrike) (Struck, error) {
	return do[struck](ctx, k, by, key, makeStrike{ID: newID("x"), Scope: m.Scope, Artifacts: m.Artifacts, Reason: m.Reason, Deployment: m.Deployment})
}

// LiftStrike lets in again what somebody else struck.
func (k *Keeper) LiftStrike(ctx context.Context, by Caller, id, reason string) error {
	_, err := do[opened](ctx, k, by, "", liftStrike{id, reason})
	return err
}

// A StrikeView is a strike, and where some of it stands.
type StrikeView struct {
	Strike
	Stands []lockkeeper.Scope
}

// Strikes lists the strikes that hold where the caller may read deployments, oldest
// first.
func (k *Keeper) Strikes(by Caller) []StrikeView {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	out := []StrikeView{}
	for _, id := range slices.Sorted(maps.Keys(w.Strikes)) {
		if x := w.Strikes[id]; w.allowedFor(by, lockkeeper.ReadDeployments, x.Scope, now) {
			out = append(out, StrikeView{*x, w.standsIn(x)})
		}
	}
	slices.SortStableFunc(out, func(a, b StrikeView) int {
		return cmp.Or(a.At.Time().Compare(b.At.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// struckStanding are the environments in which something stands that was struck.
func (k *Keeper) struckStanding(w *watch) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	now := world{State: k.state, rules: k.rules}
	for _, id := range slices.Sorted(maps.Keys(now.Strikes)) {
		x := now.Strikes[id]
		for _, env := range now.standsIn(x) {
			w.add(Alert{Kind: "struck_runs", Subject: string(env), Sentence: fmt.Sprintf("In %s stands what %s struck at %s: %s", env.Environment(), x.By, x.At, x.Reason),
				Next: "Deploy something else there, or go back to what was good before it: lockkeeper deploy --rollback", Evidence: []string{"strike " + x.ID, spell(x.Artifacts)}})
		}
	}
}
