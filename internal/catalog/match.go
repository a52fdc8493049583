package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

func (a candidate) compare(b candidate) int {
	return cmp.Or(cmp.Compare(a.pipeline, b.pipeline), cmp.Compare(a.stage, b.stage))
}

// maxReasons bounds the candidates that a decision of StageOf spells out.
const maxReasons = 16

// StageOf finds the one stage that a workload is of. Stages are found by the
// platform's immutable ids only (provider, organisation, repository), never by
// a name, and then every field of the trust rule must agree with the record; a
// fact that a rule needs and the record does not have disagrees.
//
// The decision's verdict is Pass (stage_found) or Fail, with the code of the
// first thing in which the nearest stage differs: repository_unknown,
// definition_differs, event_not_admitted, ref_not_admitted,
// environment_differs, called_differs, runner_not_admitted; or stage_ambiguous.
// Because has a decision for each stage that was weighed, with every mismatch.
// It says what the caller's own token claims and what the rules of the nearest
// stage's project expect, and nothing about other projects.
func (c *Catalog) StageOf(w lockkeeper.Workload) (Pipeline, Stage, lockkeeper.Decision) {
	d := lockkeeper.Decision{Subject: "stage of the workload", Verdict: lockkeeper.Fail}
	if w.Repository.Value == "" || platforms[w.Platform].organisation && w.Organisation.Value == "" {
		d.Code, d.Sentence = "repository_unknown", "The token does not say which repository, by id, the job belongs to."
		d.Next = "Use a platform whose tokens carry the ids of the organisation and the repository."
		return Pipeline{}, Stage{}, d
	}
	candidates := c.byRepo[repository{w.Provider, w.Organisation.Value, w.Repository.Value}]
	if len(candidates) == 0 {
		d.Code = "repository_unknown"
		d.Sentence = fmt.Sprintf("No pipeline of the catalog is defined over repository id %s of organisation id %s at provider %s.",
			show(w.Repository), show(w.Organisation), clip(w.Provider, 80))
		d.Next = "Add a Pipeline with these ids to the catalog, or run the job in the repository that the catalog names."
		return Pipeline{}, Stage{}, d
	}
	var matches []weighed
	all := make([]weighed, len(candidates))
	for i, one := range candidates {
		all[i] = c.weigh(one, w)
		if len(all[i].mismatches) == 0 {
			matches = append(matches, all[i])
		}
	}
	switch len(matches) {
	case 1:
		m := matches[0]
		return m.pipeline, m.stage, lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "stage_found",
			Sentence: fmt.Sprintf("The job is stage %s of pipeline %s in project %s.", m.stage.Name, m.pipeline.Name, m.pipeline.Project)}
	case 0:
		return Pipeline{}, Stage{}, nearestMiss(d, all)
	}
	d.Code = "stage_ambiguous"
	d.Sentence = fmt.Sprintf("The job matches %d stages, and no signed fact tells them apart.", len(matches))
	d.Next = "Give the stages different events, refs or platform environments in the catalog."
	d.Because = reasons(matches, matches[0].pipeline.Project)
	return Pipeline{}, Stage{}, d
}

// A weighed candidate is a stage with everything in which the workload differs
// from its trust rule.
type weighed struct {
	pipeline   Pipeline
	stage      Stage
	mismatches []lockkeeper.Decision
}

func (c *Catalog) weigh(one candidate, w lockkeeper.Workload) weighed {
	p := c.Pipelines[one.pipeline]
	s := p.Stages[one.stage]
	out := weighed{pipeline: p, stage: s}
	differ := func(ok bool, code, what, expected string, got lockkeeper.Fact, next string) {
		if ok {
			return
		}
		out.mismatches = append(out.mismatches, lockkeeper.Decision{Subject: what, Verdict: lockkeeper.Fail, Code: code, Next: next,
			Sentence: fmt.Sprintf("The %s must be %s; the job's is %s.", what, expected, show(got))})
	}
	t := s.Trust
	if w.Platform == Azure {
		differ(w.Pipeline.Is(p.Definition), "definition_differs", "definition's number", quoted(p.Definition), w.Pipeline,
			"Run the definition that the catalog names, or name this one in a Pipeline.")
		differ(w.Project.Is(p.TeamProject), "project_differs", "team project", quoted(p.TeamProject), w.Project,
			"Run the pipeline of the team project that the catalog names.")
	} else {
		differ(sameOrNone(w.DefinitionPath, p.Definition), "definition_differs", "definition path", quotedOrNone(p.Definition), w.DefinitionPath,
			"Run the definition that the catalog names, or name this one in a Pipeline.")
	}
	differ(len(t.Events) == 0 && !w.Event.Known() || w.Event.Known() && slices.Contains(t.Events, w.Event.Value), "event_not_admitted", "event", anyOf(t.Events), w.Event,
		"Start the run by an admitted event, or add the event to the stage's trust.events.")
	differ(len(t.Refs) == 0 && !w.Ref.Known() || w.Ref.Known() && slices.Contains(t.Refs, w.Ref.Value), "ref_not_admitted", "ref", anyOf(t.Refs), w.Ref,
		"Run from an admitted ref, or add the ref to the stage's trust.refs.")
	differ(sameOrNone(w.Environment, t.Environment), "environment_differs", "platform's environment", quotedOrNone(t.Environment), w.Environment,
		"Let the job name the environment of the stage's trust.environment, or none if the stage has none.")
	differ(sameOrNone(w.CalledPath, t.Called), "called_differs", "called definition", quotedOrNone(t.Called), w.CalledPath,
		"Let the job run in the definition of the stage's trust.called, or in none if the stage has none.")
	if t.Stage != "" || w.Platform == Azure {
		next, expected := "Run it from that stage.", quoted(t.Stage)
		switch {
		case t.Stage == "": // of a release that did not demand one; then every stage of a run would be this one
			next, expected = "Name the definition's stage under the stage's trust.stage.", "named by the trust rule"
		case !w.Stage.Known() && w.Platform == Azure:
			next = "Azure DevOps' token names no stage: let the job hand over its access token for a look-up (map System.AccessToken to SYSTEM_ACCESSTOKEN), and give the provider an api."
		}
		differ(t.Stage != "" && w.Stage.Is(t.Stage), "stage_differs", "platform's stage", expected, w.Stage, next)
	}
	if t.ServiceAccount != "" {
		differ(w.ServiceAccount.Is(t.ServiceAccount), "service_account_differs", "service account", quoted(t.ServiceAccount), w.ServiceAccount,
			"Run it under the service account that the catalog names by its UID; an account that was made again has another.")
	}
	if t.Rule != "" {
		holds, err := c.jobHolds(t.Rule, w)
		one := lockkeeper.Decision{Subject: "trust rule", Verdict: lockkeeper.Fail, Code: "rule_false", Sentence: fmt.Sprintf("The rule %s is not true of this job.", quoted(clip(t.Rule, 200))),
			Next: "Run a job of which it is true, or change the stage's trust.rule."}
		if err != nil {
			one.Verdict, one.Code, one.Sentence = lockkeeper.Error, "rule_error", fmt.Sprintf("The rule %s cannot be judged: %v.", quoted(clip(t.Rule, 200)), err)
		}
		if !holds || err != nil {
			out.mismatches = append(out.mismatches, one)
		}
	}
	if w.Platform != GitHub && w.Platform != GitLab {
		return out // no other platform tells whose runner it is
	}
	hosted, expected := w.Runner.Is("hosted"), quoted("hosted")
	if t.SelfHosted {
		hosted, expected = hosted || w.Runner.Is("self_hosted"), anyOf([]string{"hosted", "self_hosted"})
	}
	differ(hosted, "runner_not_admitted", "runner", expected, w.Runner,
		"Run the job on a runner of the platform, or set the stage's trust.selfHosted.")
	return out
}

// nearestMiss explains why no stage fits by the one that differs least.
func nearestMiss(d lockkeeper.Decision, all []weighed) lockkeeper.Decision {
	best := slices.MinFunc(all, func(a, b weighed) int {
		// A stage of another definition is further away than any of this one.
		other := func(w weighed) int {
			if w.mismatches[0].Code == "definition_differs" {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(other(a), other(b)), cmp.Compare(len(a.mismatches), len(b.mismatches)))
	})
	first := best.mismatches[0]
	d.Code, d.Next = first.Code, first.Next
	d.Sentence = fmt.Sprintf("The job is of no stage. Nearest is stage %s of pipeline %s: %s", best.stage.Name, best.pipeline.Name, first.Sentence)
	slices.SortStableFunc(all, func(a, b weighed) int { return cmp.Compare(len(a.mismatches), len(b.mismatches)) })
	d.Because = reasons(all, best.pipeline.Project)
	return d
}

// reasons spells out the candidates of one project, boundedly.
func reasons(all []weighed, project string) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, w := range all {
		if w.pipeline.Project != project || len(out) == maxReasons {
			continue
		}
		d := lockkeeper.Decision{Subject: "stage " + w.stage.Name + " of pipeline " + w.pipeline.Name, Verdict: lockkeeper.Pass, Code: "stage_matches",
			Sentence: "Every field of the trust rule agrees with the job."}
		if len(w.mismatches) > 0 {
			sentences := make([]string, len(w.mismatches))
			for i, m := range w.mismatches {
				sentences[i] = m.Sentence
			}
			d.Verdict, d.Code, d.Next = lockkeeper.Fail, w.mismatches[0].Code, w.mismatches[0].Next
			d.Sentence, d.Because = strings.Join(sentences, " "), w.mismatches
		}
		out = append(out, d)
	}
	return out
}

// sameOrNone reports whether f is want; no want means that f must name nothing.
func sameOrNone(f lockkeeper.Fact, want string) bool {
	if want == "" {
		return f.Value == ""
	}
	return f.Is(want)
}

func show(f lockkeeper.Fact) string {
	if !f.Known() {
		return "not stated"
	}
	return quoted(clip(f.Value, 120))
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func quotedOrNone(s string) string {
	if s == "" {
		return "none"
	}
	return quoted(s)
}

func anyOf(list []string) string {
	var q []string
	for _, s := range list[:min(len(list), 10)] {
		q = append(q, quoted(s))
	}
	if more := len(list) - len(q); more > 0 {
		q = append(q, fmt.Sprintf("%d more", more))
	}
	return strings.Join(q, " or ")
}
