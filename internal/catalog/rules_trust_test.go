package catalog

import (
	"strings"
	"testing"
)

// TestTrustRuleOverNames says of each rule what is wrong with it as the rule of
// a stage ("" for nothing).
func TestTrustRuleOverNames(t *testing.T) {
	nested := strings.Repeat("(", 30) + "job.attempt == 1" + strings.Repeat(" ? true : false)", 30)
	for rule, want := range map[string]string{
		// Judged in one pass: a rule of some hundred bytes must not cost 2^30 steps.
		nested + ` && job.actor == "1"`: "",
		// Compared whole, beside a fact that the platform decides.
		`job.subject == "repo:a/b:environment:e" && job.ref_protected == "true"`:  "",
		`job.environment_protected == "true" && job.actor_name in ["ann", "bob"]`: "",
		`job.ref_protected == "true" ? job.actor == "1" : job.runner == "hosted"`: "",
		`!(job.actor == "13" || job.attempt != 1)`:                                "",
		`has(job.subject) && job.attempt == 1`:                                    "",
		`["1", "2"].exists(a, job.actor == a) && job.called_path == "a/b/c"`:      "",
		`job.ref.matches("^(refs/heads/release/[0-9]+)$")`:                        "",
		`job.ref.startsWith("refs/tags/v")`:                                       "",
		`has(job.called_path)`:                                                    "",
		`job.platform == "github"`:                                                "",
		`job.run == "matches" && !job.environment.contains("subject")`:            "",
		`job.ref == "job.subject.matches"`:                                        "",
		// Taken apart.
		`job.attempt == 1 && job.subject.matches("^repo:acme/app$")`:                "rule_over_name",
		`job.attempt == 1 && matches(job.repository_name, "^a$")`:                   "rule_over_name",
		`job.attempt == 1 && "a".matches(job.subject)`:                              "rule_over_name",
		`job.attempt == 1 && job.organisation_name.endsWith("corp")`:                "rule_over_name",
		`job.attempt == 1 && job.actor_name.contains("a")`:                          "rule_over_name",
		`job.attempt == 1 && job.subject + "x" == "ax"`:                             "rule_over_name",
		`job.attempt == 1 && job.subject > "repo:acme/app"`:                         "rule_over_name",
		`job.attempt == 1 && size(job.service_account_name) == 3`:                   "rule_over_name",
		`job.attempt == 1 && [job.subject].exists(s, s.matches("a"))`:               "rule_over_name",
		`job.attempt == 1 && {"s": job.subject}.s.matches("a")`:                     "rule_over_name",
		`job.attempt == 1 && (job.attempt == 1 ? job.subject : "a").matches("a")`:   "rule_over_name",
		`job.attempt == 1 && ["a"].exists(s, job.pipeline_name.startsWith(s))`:      "rule_over_name",
		`job.attempt == 1 && job.subject != "a" && job.subject . matches ( "^a$" )`: "rule_over_name",
		// Patterns that a part of a value fits.
		`job.ref.matches("refs/heads/main")`:                  "rule_pattern_open",
		`job.ref.matches("^refs/heads/a|refs/heads/b$")`:      "rule_pattern_open",
		`job.ref.matches("(?m)^refs/heads/main$")`:            "rule_pattern_open",
		`job.ref.matches("^refs/heads/main")`:                 "rule_pattern_open",
		`job.ref.matches("^(refs" + "/heads/main)$")`:         "rule_pattern_open",
		`job.ref.matches(job.environment)`:                    "rule_pattern_open",
		`job.environment == "e" && matches(job.ref, "main$")`: "rule_pattern_open",
		// True by names, sub or the actor alone.
		`job.subject == "repo:acme/app:environment:production"`: "rule_over_names_only",
		`job.actor == "1001"`: "rule_over_names_only",
		`job.actor != "13"`:   "rule_over_names_only",
		`job.rerun_actor in ["1", "2"] && job.actor_name == "ann"`:          "rule_over_names_only",
		`["1", "2"].exists(a, job.actor == a)`:                              "rule_over_names_only",
		`job.attempt == 1 || job.subject == "a"`:                            "rule_over_names_only",
		`!(job.attempt == 1 && job.actor == "13")`:                          "rule_over_names_only",
		`job.ref_protected == "true" ? job.actor == "1" : job.actor == "2"`: "",
		`job.actor == "1" ? job.actor_name == "a" : job.attempt == 1`:       "rule_over_names_only",
		`job.actor == "1001" && has(job.run)`:                               "rule_over_names_only",
		`job.actor == "1001" && job.platform == "github"`:                   "rule_over_names_only",
		`job.actor == "1001" && true`:                                       "rule_over_names_only",
	} {
		text := "{kind: Pipeline, name: x, project: shop, provider: ci, organisation: 77, repository: 9, definition: a.yml, stages: [{name: s, trust: {events: [push], refs: [refs/heads/main], rule: '" + rule + "'}}]}"
		c, problems := Read([]File{base(t), {"x.yaml", []byte(text)}})
		got := ""
		for _, p := range problems {
			got += p.Code
			if p.Mend == "" || p.Path != "stages[0].trust.rule" {
				t.Errorf("%s: %+v", rule, p)
			}
		}
		if got != want || (c != nil) != (want == "") {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
}

// What an older release let into a journal stays readable.
func TestCompileKeepsTrustOverNames(t *testing.T) {
	var documents [][]byte
	for _, d := range []string{`{"kind":"Project","name":"p"}`,
		`{"claims":[{"claim":"sub","fact":"repository"},{"claim":"sub","fact":"run"},{"claim":"sub","fact":"job"},{"claim":"sub","fact":"actor"}],"issuer":"https://x.example.com","kind":"Provider","name":"any","platform":"oidc"}`,
		`{"definition":"a","kind":"Pipeline","name":"l","organisation":"1","project":"p","provider":"ci","repository":"2","stages":[{"name":"s","trust":{"events":["push"],"refs":["refs/heads/main"],"rule":"job.subject.matches(\"a\")"}}]}`,
		`{"issuer":"https://y.example.com","kind":"Provider","name":"ci","platform":"github"}`} {
		documents = append(documents, []byte(d))
	}
	if _, err := Compile(documents); err != nil {
		t.Error(err)
	}
	if _, problems := Read([]File{{"x.json", []byte(strings.Join([]string{string(documents[0]), string(documents[1]), string(documents[2]), string(documents[3])}, "\n"))}}); len(problems) != 5 {
		t.Errorf("%d problems, want 5: %v", len(problems), problems)
	}
}
