package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// mayApply decides whether a user may make the changes that lead to other rules: he
// holds the right to write each of them, by assignment or activated, and, unless he
// holds access/escalate, nobody gains by them what he does not hold himself.
func (w *world) mayApply(user string, next *Rules, changes []catalog.Change, now lockkeeper.Moment) lockkeeper.Decision {
	var because []lockkeeper.Decision
	for _, ch := range changes {
		because = append(because, w.mayWrite(user, ch, next.Catalog, now)...)
	}
	because = append(because, w.mayImpersonate(user, next.Catalog, now)...)
	because = append(because, w.grantsOnlyHeld(user, next, now)...)
	if slices.ContainsFunc(changes, func(ch catalog.Change) bool { return writeAction[ch.Key.Kind] == lockkeeper.WriteAccess }) {
		w.rest(user, lockkeeper.EscalateAccess, "", lockkeeper.Root, w.check(user, lockkeeper.EscalateAccess, lockkeeper.Root, now))
	}
	return lockkeeper.All("apply the catalog", "Every change is permitted.", because...)
}

// mayWrite judges one change. A resource that moves is a change at its old scope and
// at its new one.
func (w *world) mayWrite(user string, ch catalog.Change, new *catalog.Catalog, now lockkeeper.Moment) []lockkeeper.Decision {
	var scopes []lockkeeper.Scope
	if ch.Verb != "added" {
		scopes = append(scopes, w.rules.Catalog.ScopeOf(ch.Key))
	}
	if s := new.ScopeOf(ch.Key); ch.Verb != "removed" && !slices.Contains(scopes, s) {
		scopes = append(scopes, s)
	}
	var out []lockkeeper.Decision
	for _, s := range scopes {
		d := w.check(user, writeAction[ch.Key.Kind], s, now)
		w.rest(user, writeAction[ch.Key.Kind], "", s, d)
		out = append(out, d)
	}
	return out
}

// mayImpersonate asks for the right to write an identity from whoever makes other
// jobs count as the stages that may hold it: he could let his own be one of them.
func (w *world) mayImpersonate(user string, new *catalog.Catalog, now lockkeeper.Moment) []lockkeeper.Decision {
	loose := map[catalog.Key]bool{}
	for _, d := range catalog.Weaker(w.rules.ofCatalog(), new) {
		loose[d.Key] = d.Key.Kind == catalog.PipelineKind || d.Key.Kind == catalog.ProviderKind
	}
	var out []lockkeeper.Decision
	for _, scope := range slices.Sorted(maps.Keys(new.Identities)) {
		id := new.Identities[scope]
		for _, p := range id.Pipelines() {
			provider := new.Pipelines[lockkeeper.PipelineScope(id.Project, p)].Provider
			if loose[catalog.Key{Kind: catalog.PipelineKind, Project: id.Project, Name: p}] || loose[catalog.Key{Kind: catalog.ProviderKind, Name: provider}] {
				out = append(out, w.check(user, lockkeeper.WriteIdentities, scope, now))
				break
			}
		}
	}
	return out
}

// maxGainsShown bounds the gains that a refusal spells out.
const maxGainsShown = 10

// grantsOnlyHeld compares, by effect, what everybody could do before and after. What
// the user has activated lets him write, and escalate; what he passes on must be
// assigned to him, for an activation ends and a grant stays.
func (w *world) grantsOnlyHeld(user string, next *Rules, now lockkeeper.Moment) []lockkeeper.Decision {
	if w.allowed(user, lockkeeper.EscalateAccess, lockkeeper.Root, now) {
		return nil
	}
	var out []lockkeeper.Decision
	for _, g := range next.ofAccess().Gains(w.rules.ofAccess(), user, now) {
		if len(out) == maxGainsShown {
			break
		}
		out = append(out, lockkeeper.Decision{Subject: cmp.Or(g.User, "anybody"), Verdict: lockkeeper.Fail, Code: "escalation",
			Sentence: fmt.Sprintf("This gives more than you hold: %s.", g), Next: "Ask an organisation administrator to apply it."})
	}
	return out
}
