package catalog

import (
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

func sampleAsk() lockkeeper.Ask {
	return lockkeeper.Ask{Action: "deploy", Project: "p", Environment: "e", Pipeline: "l", Stage: "s", Provider: "ci", Repository: "1", Run: "2", Attempt: 1,
		Ref: "refs/heads/main", Commit: "c", Definition: lockkeeper.Definition{Path: "x.yml"},
		Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf(nil)}}, Parameters: map[string]string{"change": "CHG1"}}
}

func TestExpressionOverAsk(t *testing.T) {
	for rule, want := range map[string]string{
		`ask.ref == "refs/heads/main"`:                                               "true",
		`ask.ref == "refs/heads/other"`:                                              "false",
		`ask.attempt == 1 && ask.action in ["deploy", "rollback"]`:                   "true",
		`ask.parameters["change"].startsWith("CHG")`:                                 "true",
		`ask.parameters["chnage"].startsWith("CHG")`:                                 "error",
		`ask.artifacts.exists(a, a.name == "app" && a.digest.startsWith("sha256:"))`: "true",
		`ask.definition.path == "x.yml"`:                                             "true",
		// What the platform did not say is absent: comparing it is an error, asking for it is not.
		`ask.protected == true`:                                 "error",
		`has(ask.protected) && ask.protected == true`:           "false",
		`ask.template.path == "a/b/c"`:                          "error",
		`ask.event != "pull_request"`:                           "error",
		`"a".matches("^(a+)+$") && ask.run.matches("^[0-9]+$")`: "true",
		// An expression that costs too much is an error and takes no time.
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a+b+c+d > ask.attempt))))`: "error",
	} {
		p, err := compileRule(askVariable, rule)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		got, err := p.evaluate(askVariable, askValues(sampleAsk()))
		switch {
		case err != nil && want != "error", err == nil && want != map[bool]string{true: "true", false: "false"}[got], got && err != nil:
			t.Errorf("%s: %v, %v; want %s", rule, got, err, want)
		}
	}
}

// An expression only narrows: a job that the rest of the rule refuses stays
// refused, and a fact that is absent makes it an error.
func TestTrustRule(t *testing.T) {
	c := mustRead(t, base(t), File{"x.yaml", []byte(`
kind: Pipeline
name: strict
project: shop
provider: ci
organisation: 77
repository: 99
definition: r.yml
stages:
  - {name: s, trust: {events: [push], refs: [refs/heads/main], rule: 'job.actor != "13" && job.called_path == "acme/d/x.yml"'}}
`)})
	job := func(change func(*lockkeeper.Workload)) lockkeeper.Workload {
		w := deployJob()
		w.Environment = lockkeeper.Fact{}
		w.Repository, w.DefinitionPath, w.Actor = lockkeeper.SignedFact("99"), lockkeeper.SignedFact("r.yml"), lockkeeper.SignedFact("12")
		change(&w)
		return w
	}
	for code, change := range map[string]func(*lockkeeper.Workload){
		"rule_error":       func(w *lockkeeper.Workload) {},
		"rule_false":       func(w *lockkeeper.Workload) { w.Actor = lockkeeper.SignedFact("13") },
		"called_differs":   func(w *lockkeeper.Workload) { w.CalledPath = lockkeeper.SignedFact("acme/d/x.yml") },
		"ref_not_admitted": func(w *lockkeeper.Workload) { w.Ref = lockkeeper.SignedFact("refs/heads/x") },
	} {
		if _, _, d := c.StageOf(job(change)); d.Verdict != lockkeeper.Fail || d.Code != code {
			t.Errorf("%s: %s %s %s", code, d.Verdict, d.Code, d.Sentence)
		}
	}
}

// TestRulesAreBounded gives expressions that would cost too much (invariant 14).
func TestRulesAreBounded(t *testing.T) {
	for _, rule := range []string{strings.Repeat("(", 5000), "ask.ref == " + strings.Repeat(`"a"+`, 900) + `"a"`} {
		if _, err := compileRule(askVariable, rule); err == nil {
			t.Errorf("%.40s… compiles", rule)
		}
	}
}

// TestIssuers tells addresses that can be an issuer's from those that cannot.
func TestIssuers(t *testing.T) {
	for _, good := range []string{"https://token.actions.githubusercontent.com", "https://vstoken.dev.azure.com/0a1b", "https://git.example:8443/x", "https://[::1]:1", "http://127.0.0.1:1", "http://localhost:1", "https://a_b.example"} {
		if reason := issuerUnfit(good); reason != "" {
			t.Errorf("%s %s", good, reason)
		}
	}
	for _, bad := range []string{"", "token.example", "https://*.example", "https://a.example/", "https://A.example", "https://u@a.example", "https://a.example?x", "https://a.example#x", "http://a.example",
		"ftp://a.example", "https://bücher.example", "https://a.example%2f", "https:///x", "https://a b"} {
		if issuerUnfit(bad) == "" {
			t.Errorf("%s is taken", bad)
		}
	}
}
