package keeper

import (
	"context"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// What a run activates opens, where a provisioner says so, the role of Azure for the
// service principal that trusts the tokens of the run's identity: a seldom, powerful
// pipeline then holds nothing outside between its runs, neither here nor there. The
// account is the identity's, not the run's: while one run has it, another that
// obtains the same identity has it, too.

// termsFor is a provisioner as it concerns a user, or a run, and whether it is for him
// at all. A run opens only what names exactly one account of what it may obtain: which
// of two it would be nobody can say.
func (w *world) termsFor(p catalog.Provisioner, user string, run *Run) (catalog.Provisioner, bool) {
	if run == nil {
		return p.For(user), true
	}
	terms := p.ForIdentities(w.identitiesOf(run, p.Scope))
	return terms, terms.Azure != nil && len(terms.Azure.Principals) == 1
}

// identitiesOf lists the identities that a run's stage may obtain and that have to do
// with a scope, as PROJECT/NAME.
func (w *world) identitiesOf(run *Run, scope lockkeeper.Scope) []string {
	var out []string
	for _, at := range slices.Sorted(maps.Keys(w.rules.Catalog.Identities)) {
		i := w.rules.Catalog.Identities[at]
		env := lockkeeper.EnvironmentScope(i.Project, i.Environment)
		if i.Project == run.Project && slices.Contains(i.Stages, run.Pipeline+"/"+run.Stage) && (env.Contains(scope) || scope.Contains(env)) {
			out = append(out, i.Project+"/"+i.Name)
		}
	}
	return out
}

// behind are the persons behind a run; none for a person's own activation.
func (r *Run) behind() (out []lockkeeper.Person) {
	if r == nil {
		return nil
	}
	for _, o := range r.Initiators {
		out = append(out, o.Persons...)
	}
	return out
}

// EndRunActivation ends what the job that shows a request's handle has activated with
// it. What is over already is no error.
func (k *Keeper) EndRunActivation(ctx context.Context, by Caller) error {
	k.mu.RLock()
	id := ""
	for _, a := range k.state.Activations {
		if a.Run != nil && by.Holder != "" && a.Request == by.Holder {
			id = a.ID
		}
	}
	k.mu.RUnlock()
	if id == "" {
		return nil
	}
	_, err := do[opened](ctx, k, by, "", endActivation{id, ""})
	if r := lockkeeper.RefusalOf(err); r != nil && r.Code == "activation_over" {
		return nil // it ended by itself just now
	}
	return err
}

// Openings says, by provisioner, how what an activation opened stands: the status of
// its duty, and why the last attempt failed.
func (k *Keeper) Openings(activation string) map[string]OpeningState {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]OpeningState{}
	for _, d := range k.state.Duties {
		if d.Activation == activation {
			out[d.Provisioner] = OpeningState{d.Status, d.Code, d.Reason}
		}
	}
	return out
}

// An OpeningState is how one thing that an activation opened stands.
type OpeningState struct {
	Status string // as a duty's
	Code   string
	Reason string
}
