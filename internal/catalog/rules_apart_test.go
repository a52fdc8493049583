package catalog

import (
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

// TestRulesThatTellApart: a rule must say in each of its ways which job it is,
// and not only which jobs it is not.
func TestRulesThatTellApart(t *testing.T) {
	nested := strings.Repeat("(", 30) + `job.stage == "d"` + strings.Repeat(" ? true : false)", 30)
	for rule, want := range map[string]bool{
		nested:                  false, // it would tell them apart; but what is judged in one pass takes every constant for possible
		`job.stage == "deploy"`: true,
		`"deploy" == job.job`:   true,
		`job.job in ["deploy", "roll-out"] && job.attempt == 1`:     true,
		`job.stage == "deploy" || job.job == "deploy"`:              true,
		`!(job.stage != "deploy" || job.attempt != 1)`:              true,
		`job.attempt == 1 ? job.stage == "deploy" : job.job == "d"`: true,
		`job.attempt == 1`:                                             false,
		`job.stage != "build"`:                                         false,
		`!(job.stage == "build")`:                                      false,
		`job.stage == "deploy" || job.attempt == 1`:                    false,
		`job.attempt == 1 ? job.stage == "deploy" : job.run == "1"`:    false,
		`job.stage == job.stage`:                                       false,
		`job.stage == job.run`:                                         false,
		`job.job in [job.job]`:                                         false,
		`job.stage.startsWith("")`:                                     false,
		`job.stage.matches("^(.*)$")`:                                  false,
		`has(job.stage)`:                                               false,
		`job.stage + "" == "deploy"`:                                   false,
		`job.repository == "x" && job.definition_commit == job.commit`: false,
	} {
		text := "{kind: Provider, name: any, platform: oidc, issuer: 'https://any.example.com', claims: [{fact: repository, claim: r}, {fact: run, claim: n}, {fact: job, claim: j}, {fact: actor, claim: u}, {fact: stage, claim: s}]}\n---\n" +
			"{kind: Pipeline, name: x, project: shop, provider: any, repository: x, stages: [{name: s, trust: {rule: '" + rule + "'}}]}\n---\n" +
			"{kind: Environment, name: e, project: shop, tier: preproduction}\n---\n{kind: Identity, name: i, project: shop, environment: e, audiences: [a], stages: [x/s]}"
		c, problems := Read([]File{base(t), {"x.yaml", []byte(text)}})
		if (c != nil) != want || !want && (len(problems) != 1 || problems[0].Code != "stage_indistinct" || problems[0].Path != "stages[0].trust") {
			t.Errorf("%s: %v, want it to tell jobs apart: %v", rule, problems, want)
		}
		// Nothing is at stake in development.
		if _, problems := Read([]File{base(t), {"x.yaml", []byte(strings.Replace(text, "tier: preproduction", "tier: development", 1))}}); len(problems) > 0 {
			t.Errorf("%s, in development: %v", rule, problems)
		}
	}
}

// TestAzureStageWithoutStage: what a journal may hold of a release that took it
// stays readable, and no job is of such a stage any more.
func TestAzureStageWithoutStage(t *testing.T) {
	var documents [][]byte
	for _, d := range []string{`{"kind":"Project","name":"p"}`,
		`{"definition":"42","kind":"Pipeline","name":"l","organisation":"11111111-2222-3333-4444-555555555555","project":"p","provider":"az","repository":"r","stages":[{"name":"deploy","trust":{"events":["manual"],"refs":["refs/heads/main"]}}],"teamProject":"21111111-2222-3333-4444-555555555555"}`,
		`{"issuer":"https://az.example.com/1","kind":"Provider","name":"az","platform":"azure"}`} {
		documents = append(documents, []byte(d))
	}
	c, err := Compile(documents)
	if err != nil {
		t.Fatal(err)
	}
	f := lockkeeper.SignedFact
	w := lockkeeper.Workload{Provider: "az", Platform: "azure", Organisation: f("11111111-2222-3333-4444-555555555555"), Project: f("21111111-2222-3333-4444-555555555555"),
		Pipeline: f("42"), Repository: f("r"), Event: f("manual"), Ref: f("refs/heads/main"), Stage: lockkeeper.Fact{Value: "Build", Mark: lockkeeper.LookedUp}}
	for _, stage := range []lockkeeper.Fact{w.Stage, {}, f("")} {
		w.Stage = stage
		if p, _, d := c.StageOf(w); d.Verdict != lockkeeper.Fail || d.Code != "stage_differs" || p.Name != "" || d.Next == "" {
			t.Errorf("stage %q: %+v", stage.Value, d)
		}
	}
}

// TestAnyRefIsSaid: where tokens name no ref, a plan says that a stage is of any
// branch, once it may hold an identity above development.
func TestAnyRefIsSaid(t *testing.T) {
	text := func(ref, tier, stages string) *Catalog {
		return mustRead(t, base(t), File{"x.yaml", []byte("{kind: Provider, name: any, platform: oidc, issuer: 'https://any.example.com', claims: [{fact: repository, claim: r}, {fact: run, claim: n}, {fact: job, claim: j}, {fact: actor, claim: u}, {fact: stage, claim: s}" + ref + "]}\n---\n" +
			"{kind: Pipeline, name: x, project: shop, provider: any, repository: x, stages: [{name: s, trust: {stage: s" + map[bool]string{true: ", refs: [refs/heads/main]"}[ref != ""] + "}}, {name: t, trust: {stage: t" + map[bool]string{true: ", refs: [refs/heads/main]"}[ref != ""] + "}}]}\n---\n" +
			"{kind: Environment, name: e, project: shop, tier: " + tier + "}\n---\n{kind: Identity, name: i, project: shop, environment: e, audiences: [a], stages: [" + stages + "]}")})
	}
	for _, c := range []struct {
		ref, tier string
		want      int
	}{{"", "preproduction", 1}, {"", "development", 0}, {", {fact: ref, claim: ref}", "preproduction", 0}} {
		got := 0
		for _, d := range Explain(text(c.ref, c.tier, "x/s"), text(c.ref, c.tier, "x/s, x/t")) {
			for _, s := range d.Weakens {
				if s == "the stage x/t may be of any branch: tokens of any name no ref" {
					got++
				}
			}
		}
		if got != c.want {
			t.Errorf("ref %q, %s: said %d times, want %d", c.ref, c.tier, got, c.want)
		}
	}
}
