package keeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// outdated are the environments in which something stands that evidence would not let
// in any more: a vulnerability became known, a report grew old, a key is believed no
// more. Each environment is judged under a lock of its own, beside the writer.
func (k *Keeper) outdated(w *watch) {
	k.mu.RLock()
	scopes := slices.Sorted(maps.Keys(k.state.Good))
	k.mu.RUnlock()
	for _, scope := range scopes {
		if a, is := k.outdatedAt(scope, w.now); is {
			w.add(a)
		}
	}
}

func (k *Keeper) outdatedAt(scope lockkeeper.Scope, now lockkeeper.Moment) (Alert, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	env, known := w.rules.Catalog.Environments[scope]
	good := w.Good[scope]
	if !known || len(good) == 0 {
		return Alert{}, false
	}
	last := good[len(good)-1]
	f := gate.Facts{Environment: env.For(lockkeeper.DeployAction), Ask: lockkeeper.Ask{Action: lockkeeper.DeployAction, Project: env.Project, Environment: env.Name, Artifacts: last.Artifacts, Commit: last.Commit}}
	w.weigh(&f, nil)
	bad := gate.Outdated(f, now)
	if len(bad) == 0 {
		return Alert{}, false
	}
	a := Alert{Kind: "evidence_outdated", Subject: string(scope),
		Sentence: fmt.Sprintf("What stands in %s since %s (%s, %s) would not be let in any more: %s", env.Name, last.At, last.Deployment, spell(last.Artifacts), bad[0].Sentence),
		Next:     "Deploy what is mended; or, where something is only old, bring it anew: lockkeeper evidence add."}
	for _, d := range bad {
		a.Evidence = append(a.Evidence, fmt.Sprintf("%s: %s [%s]", d.Subject, d.Sentence, d.Code))
	}
	return a, true
}
