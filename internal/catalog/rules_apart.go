package catalog

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// toldApart refuses a stage that may hold the identity of an environment above
// development while nothing tells its jobs from the others of their runs.
// Repository, definition, event, ref and commit are the same for every job of a
// run: with these alone the build job, and whatever runs in it, is the deploying
// stage as well. What tells jobs apart, by platform:
//
//	github      environment (whose protection rules the platform keeps), or called
//	gitlab      environment
//	azure       stage, which is demanded of every stage
//	kubernetes  serviceAccount, which is demanded of every stage
//	oidc        environment, stage, or a rule
//
// A rule counts where every way in which it can be true compares the job's stage
// or the job, whole, with a text of the catalog. On github and gitlab none helps:
// a trust rule without an environment or a called definition admits only jobs
// that have none, a job is a number there that no rule can know, and the other
// facts are of the run.
//
// Where an issuer's tokens name no ref, whoever may push any branch can name any
// stage or environment there. That is not refused: such an issuer may vouch for
// service accounts, which nobody can choose, and only its administrator knows.
// Explain says it of every identity that comes to name such a stage.
func (v *rules) toldApart(p *resource, s Stage, env Environment) {
	pipeline, ok := p.value.(*Pipeline)
	if !ok || !v.written || v.namesJob(s.Trust) {
		return
	}
	i := slices.IndexFunc(pipeline.Stages, func(o Stage) bool { return o.Name == s.Name })
	mend := map[string]string{ // what is missing on the other platforms is told already
		GitHub: "Let the deploying job name an environment of its own on the platform, and write it under trust.environment; or let it run in a reusable definition, and write that under trust.called.",
		GitLab: "Let the deploying job name an environment of its own on the platform, and write it under trust.environment.",
		OIDC:   "Fill the fact stage or environment from the claim that tells the jobs apart, and write its value under trust.stage or trust.environment; or compare one in trust.rule: job.job == \"deploy\".",
	}[v.c.Providers[pipeline.Provider].Platform]
	if i < 0 || mend == "" {
		return
	}
	v.add(p, fmt.Sprintf("stages[%d].trust", i), "stage_indistinct",
		fmt.Sprintf("Nothing tells the stage %s from the other jobs of its runs, and it may hold the identity of %s (%s): a build job would be this stage, too.", s.Name, env.Name, env.Tier), mend)
}

// jobFacts are the facts of one job, and not of its whole run, that a rule can be
// about. The names among the facts are left out: see rules_trust.go.
var jobFacts = []string{"stage", "job"}

// namesJob reports whether a trust rule admits only jobs that it tells apart.
func (v *rules) namesJob(t Trust) bool {
	if t.Environment != "" || t.Called != "" || t.Stage != "" || t.ServiceAccount != "" {
		return true
	}
	rule := v.c.programs[programKey(jobVariable, t.Rule)]
	if rule == nil {
		return false
	}
	whenTrue, _ := ways(rule.root, comparesJob)
	return whenTrue == onStrong
}

// comparesJob is onStrong for the comparison of a fact of the job with a text of the
// rule, where it says that they are equal.
func comparesJob(e ast.Expr) (whenTrue, whenFalse rests) {
	if e.Kind() != ast.CallKind {
		return onNothing, onNothing
	}
	args := e.AsCall().Args()
	ofJob := func(i int) bool {
		return len(args) == 2 && slices.Contains(jobFacts, fieldOf(args[i])) && !args[i].AsSelect().IsTestOnly()
	}
	text := func(i int) bool { return args[i].Kind() == ast.LiteralKind }
	equal := ofJob(0) && text(1) || len(args) == 2 && ofJob(1) && text(0)
	switch e.AsCall().FunctionName() {
	case operators.Equals:
		if equal {
			return onStrong, onNothing
		}
	case operators.NotEquals:
		if equal {
			return onNothing, onStrong
		}
	case operators.In:
		if ofJob(0) && args[1].Kind() == ast.ListKind && !slices.ContainsFunc(args[1].AsList().Elements(), func(e ast.Expr) bool { return e.Kind() != ast.LiteralKind }) {
			return onStrong, onNothing
		}
	}
	return onNothing, onNothing
}
