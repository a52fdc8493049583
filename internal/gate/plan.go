package gate

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// planned judges the plan that the ask carries, as a stage recorded it for an
// artifact, the environment and the commit. A plan that the ask does not carry was
// approved by nobody, so it is not looked at; and an ask does not change.
func (s search) planned(a lockkeeper.Artifact, want catalog.PlanCheck) lockkeeper.Decision {
	var asked lockkeeper.Digest
	for _, p := range s.f.Ask.Plans {
		if p.Kind == want.Kind {
			asked = p.Digest
		}
	}
	if asked == "" {
		return s.decide(a, lockkeeper.Fail, "plan_missing", fmt.Sprintf("The ask carries no %s plan, and one is demanded.", want.Kind),
			fmt.Sprintf("Ask with the plan that was recorded: lockkeeper deploy --plan %s=FILE", want.Kind))
	}
	d := s.any(a, evidence.Plan, func(e Evidence) (string, bool) {
		p := e.Summary.Plan
		if p == nil || e.Environment != s.f.Ask.Environment || p.Kind != want.Kind || p.Digest != asked {
			return "", false
		}
		if want.Destroys != nil && p.Gone() > *want.Destroys {
			return fmt.Sprintf("it destroys or replaces %d, and %d may be.", p.Gone(), *want.Destroys), true
		}
		return "", true
	})
	switch d.Code {
	case "evidence_missing", "evidence_stale":
		d.Next = fmt.Sprintf("Record it from a stage that may: lockkeeper plan-for --environment %s --artifact %s=%s %s=FILE", s.f.Ask.Environment, a.Name, a.Digest, want.Kind)
	case "plan_bad":
		d.Next = "Change what is to be done, record the new plan, and ask with it."
	}
	return d
}
