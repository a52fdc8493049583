package keeper

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// samePlans refuses a claim with other plans than those that were approved.
func (c claimLease) samePlans(ask lockkeeper.Ask) error {
	plans, err := lockkeeper.NewPlans(c.Plans)
	if err != nil {
		return lockkeeper.Invalid.Errorf("plans_malformed", "%v.", err).WithNext("Name a plan of each kind once: --plan terraform=plan.json")
	}
	if slices.Equal(plans, ask.Plans) {
		return nil
	}
	if len(plans) < len(ask.Plans) {
		return lockkeeper.Forbidden.Errorf("plan_missing", "The ask carries %d plans, and the claim %d: nobody can see that what was approved is what will be done.", len(ask.Plans), len(plans)).
			WithNext("Claim with each plan that was asked with: --plan KIND=FILE")
	}
	return lockkeeper.Forbidden.Errorf("plan_differs", "The plan of the claim is not the one that was approved, so that no approval of it counts.").
		WithNext("Carry out the plan that was approved; or cancel this deployment, record the new plan (lockkeeper plan-for), and ask again with it.")
}

// planFor is the environment that a piece is for: of a plan the one that its bringer
// names, of others none.
func (c addEvidence) planFor(w *world, project string, p readPiece) (string, error) {
	if p.Summary.Plan == nil {
		return "", nil
	}
	if _, known := w.rules.Catalog.Environments[lockkeeper.EnvironmentScope(project, c.Environment)]; !known {
		return "", lockkeeper.Invalid.Errorf("plan_for_nothing", "A plan is for an environment of the project %s, and %.63q is none.", project, c.Environment).
			WithNext("Record it for one of %s: lockkeeper plan-for --environment E", environmentsOf(w.rules.Catalog, project))
	}
	if p.Name != p.Summary.Plan.Kind {
		return "", lockkeeper.Invalid.Errorf("plan_kind", "The plan that was brought as %.63q is a %s plan.", p.Name, p.Summary.Plan.Kind).
			WithNext("Bring it as %s=FILE.", p.Summary.Plan.Kind)
	}
	return c.Environment, nil
}

// A PlanView is a plan that an ask carries, with the newest piece that says what it is;
// nil: nobody recorded it for this environment and commit, or it is kept no more.
type PlanView struct {
	lockkeeper.Plan
	Piece *gate.Evidence
}

// Plans are the plans that a deployment carries, as stages that may record them did.
func (k *Keeper) Plans(v View) []PlanView {
	if len(v.Ask.Plans) == 0 {
		return nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	list := k.state.evidenceOf(v.Ask)
	var out []PlanView
	for _, p := range v.Ask.Plans {
		one := PlanView{Plan: p}
		for i := len(list) - 1; i >= 0 && one.Piece == nil; i-- {
			if e := list[i].Evidence; isPlan(e, v.Ask, p) && k.rules.Catalog.Brings(v.Ask.Project, e.Pipeline, e.Stage, string(evidence.Plan)) {
				one.Piece = &e
			}
		}
		out = append(out, one)
	}
	return out
}

func isPlan(e gate.Evidence, ask lockkeeper.Ask, p lockkeeper.Plan) bool {
	s := e.Summary.Plan
	return s != nil && s.Kind == p.Kind && s.Digest == p.Digest && e.Environment == ask.Environment && e.Repository == ask.Repository && e.Commit == ask.Commit
}
