package catalog

import (
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

func TestMissing(t *testing.T) {
	c, problems := Read([]File{{"x.yaml", []byte(`{kind: Project, name: p}
---
{kind: Provider, name: github, platform: github, issuer: 'https://ci.example'}
---
{kind: Pipeline, name: l, project: p, provider: github, organisation: "1", repository: "2", definition: l.yml, stages: [{name: s, trust: {events: [push], refs: [refs/heads/main]}}]}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Identity, name: i, project: p, environment: e, audiences: [a], stages: [l/s]}
`)}})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[lockkeeper.Scope]string{
		"/": "", "/projects/p": "", "/projects/p/environments/e": "", "/projects/p/pipelines/l": "", "/projects/p/pipelines/l/stages/s": "",
		"/projects/p/identities/i": "", "/projects/p/repositories/r": "", "/projects/p/repositories/r/branches/b": "",
		"/projects/q":                          "The catalog has no project q.",
		"/projects/q/environments/e":           "The catalog has no project q.",
		"/projects/q/repositories/r":           "The catalog has no project q.",
		"/projects/p/environments/f":           "The project p has no environment f.",
		"/projects/p/pipelines/m":              "The project p has no pipeline m.",
		"/projects/p/pipelines/m/stages/s":     "The project p has no pipeline m.",
		"/projects/p/pipelines/l/stages/other": "The pipeline l of the project p has no stage other.",
		"/projects/p/identities/j":             "The project p has no identity j.",
	} {
		if _, err := lockkeeper.ParseScope(string(scope)); err != nil {
			t.Fatal(err)
		}
		if got := c.Missing(scope); got != want {
			t.Errorf("%s: %q, want %q", scope, got, want)
		}
	}
}
