package catalog

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
)

func deployJob() lockkeeper.Workload {
	f := lockkeeper.SignedFact
	return lockkeeper.Workload{Provider: "ci", Platform: "github", Organisation: f("77"), OrganisationName: f("acme"), Repository: f("4711"), RepositoryName: f("acme/app"),
		Event: f("push"), Ref: f("refs/heads/main"), DefinitionPath: f(".github/workflows/release.yml"), Environment: f("production"), Runner: f("hosted")}
}

func TestStageOf(t *testing.T) {
	c := mustRead(t, base(t), File{"x.yaml", []byte(`
kind: Pipeline
name: deliver
project: shop
provider: ci
organisation: 77
repository: 4711
definition: .github/workflows/other.yml
stages:
  - name: deploy
    trust: {environment: production, called: acme/d/.github/workflows/deploy.yml, events: [schedule], refs: [refs/tags/v1], selfHosted: true}
`)})
	f := lockkeeper.SignedFact
	absent := lockkeeper.Fact{}
	for _, test := range []struct {
		name   string
		change func(*lockkeeper.Workload)
		code   string
		stage  string
		says   string
	}{
		{"deploy", func(w *lockkeeper.Workload) {}, "stage_found", "release/deploy", ""},
		{"build", func(w *lockkeeper.Workload) { w.Environment = absent }, "stage_found", "release/build", ""},
		{"build, environment stated as empty", func(w *lockkeeper.Workload) { w.Environment = f("") }, "stage_found", "release/build", ""},
		{"other", func(w *lockkeeper.Workload) {
			w.DefinitionPath, w.Event, w.Ref, w.Runner = f(".github/workflows/other.yml"), f("schedule"), f("refs/tags/v1"), f("self_hosted")
			w.CalledPath = f("acme/d/.github/workflows/deploy.yml")
		}, "stage_found", "deliver/deploy", ""},
		{"same names, other repository", func(w *lockkeeper.Workload) { w.Repository = f("4712") }, "repository_unknown", "", `repository id "4712"`},
		{"other organisation", func(w *lockkeeper.Workload) { w.Organisation = f("78") }, "repository_unknown", "", `organisation id "78"`},
		{"other provider", func(w *lockkeeper.Workload) { w.Provider = "cj" }, "repository_unknown", "", "provider cj"},
		{"no repository", func(w *lockkeeper.Workload) { w.Repository = absent }, "repository_unknown", "", "does not say"},
		{"no organisation", func(w *lockkeeper.Workload) { w.Organisation = absent }, "repository_unknown", "", "does not say"},
		{"definition", func(w *lockkeeper.Workload) { w.DefinitionPath = f(".github/workflows/evil.yml") }, "definition_differs", "", `the job's is \".github/workflows/evil.yml\"`},
		{"no definition", func(w *lockkeeper.Workload) { w.DefinitionPath = absent }, "definition_differs", "", "not stated"},
		{"event", func(w *lockkeeper.Workload) { w.Event = f("pull_request") }, "event_not_admitted", "", `must be \"push\" or \"workflow_dispatch\"; the job's is \"pull_request\"`},
		{"no event", func(w *lockkeeper.Workload) { w.Event = absent }, "event_not_admitted", "", ""},
		{"ref", func(w *lockkeeper.Workload) { w.Ref = f("refs/heads/main2") }, "ref_not_admitted", "", ""},
		{"no ref", func(w *lockkeeper.Workload) { w.Ref = absent }, "ref_not_admitted", "", ""},
		{"environment", func(w *lockkeeper.Workload) { w.Environment = f("staging") }, "environment_differs", "", "stage build of pipeline release"},
		{"no environment, dispatched", func(w *lockkeeper.Workload) { w.Environment, w.Event = absent, f("workflow_dispatch") }, "event_not_admitted", "", ""},
		{"called", func(w *lockkeeper.Workload) { w.CalledPath = f("evil/d/x.yml") }, "called_differs", "", "must be none"},
		{"self-hosted", func(w *lockkeeper.Workload) { w.Runner = f("self_hosted") }, "runner_not_admitted", "", ""},
		{"no runner", func(w *lockkeeper.Workload) { w.Runner = absent }, "runner_not_admitted", "", ""},
	} {
		w := deployJob()
		test.change(&w)
		p, s, d := c.StageOf(w)
		got := ""
		if p.Name != "" {
			got = p.Name + "/" + s.Name
		}
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if d.Code != test.code || got != test.stage || !strings.Contains(d.Sentence+string(raw), test.says) {
			t.Errorf("%s: stage %q, %s, want %q, %s with %q", test.name, got, raw, test.stage, test.code, test.says)
		}
		if (d.Verdict == lockkeeper.Pass) != (test.stage != "") || d.Verdict != lockkeeper.Pass && d.Next == "" {
			t.Errorf("%s: verdict %s, next %q", test.name, d.Verdict, d.Next)
		}
		if test.name != "other" && strings.Contains(string(raw), "shop") || strings.Contains(string(raw), "deliver") && test.name != "other" {
			t.Errorf("%s: shows another project's rule: %s", test.name, raw)
		}
	}
}

// TestStageOfAmbiguous makes by hand what no catalog that was read can hold: if
// it ever does, nobody is let in.
func TestStageOfAmbiguous(t *testing.T) {
	p := Pipeline{Name: "l", Project: "p", Provider: "ci", Organisation: "77", Repository: "4711", Definition: "x.yml",
		Stages: []Stage{{Name: "a", Trust: Trust{Events: []string{"push"}, Refs: []string{"refs/heads/main"}}}, {Name: "b", Trust: Trust{Events: []string{"push"}, Refs: []string{"refs/heads/main"}}}}}
	c := &Catalog{Pipelines: map[lockkeeper.Scope]Pipeline{"/projects/p/pipelines/l": p}}
	if err := c.index([]*resource{{key: Key{PipelineKind, "p", "l"}, value: &p}}); err != nil {
		t.Fatal(err)
	}
	w := deployJob()
	w.DefinitionPath, w.Environment = lockkeeper.SignedFact("x.yml"), lockkeeper.Fact{}
	if got, _, d := c.StageOf(w); d.Verdict != lockkeeper.Fail || d.Code != "stage_ambiguous" || got.Name != "" || len(d.Because) != 2 {
		t.Errorf("%s: %+v", got.Name, d)
	}
}

// TestReadLeavesNoAmbiguity draws pipelines with few distinct trust rules. What
// Read accepts never has two stages for one job, and what it refuses has a job
// for which it would.
func TestReadLeavesNoAmbiguity(t *testing.T) {
	events, refs, environments := []string{"push", "schedule"}, []string{"refs/heads/a", "refs/heads/b"}, []string{"", "e"}
	subset := func(t *rapid.T, all []string) []string {
		return rapid.SampledFrom([][]string{all[:1], all[1:], all}).Draw(t, "subset")
	}
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		var stages []Stage
		for _, name := range []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(t, "stages")] {
			stages = append(stages, Stage{Name: name, Trust: Trust{Environment: rapid.SampledFrom(environments).Draw(t, "environment"),
				Events: subset(t, events), Refs: subset(t, refs), SelfHosted: rapid.Bool().Draw(t, "selfHosted")}})
		}
		raw, err := json.Marshal(Pipeline{Name: "l", Project: "p", Provider: "ci", Organisation: "77", Repository: "4711", Definition: "x.yml", Stages: stages})
		if err != nil {
			t.Fatal(err)
		}
		_, problems := Read([]File{{"x.json", []byte(`{"kind":"Project","name":"p"}{"kind":"Provider","name":"ci","platform":"github","issuer":"https://x.example.com"}` +
			`{"kind":"Pipeline",` + string(raw[1:]))}})
		ambiguous := false
		for _, event := range events {
			for _, ref := range refs {
				for _, environment := range environments {
					n := 0
					for _, s := range stages {
						if slices.Contains(s.Trust.Events, event) && slices.Contains(s.Trust.Refs, ref) && s.Trust.Environment == environment {
							n++
						}
					}
					ambiguous = ambiguous || n > 1
				}
			}
		}
		if ambiguous != (len(problems) > 0) {
			t.Fatalf("ambiguous %v, problems %v", ambiguous, problems)
		}
		if !ambiguous {
			accepted++
		}
	})
	if accepted == 0 && !t.Failed() {
		t.Error("nothing was accepted")
	}
}

func TestLookups(t *testing.T) {
	c := mustRead(t, base(t), File{"y.yaml", []byte("{kind: Freeze, name: all, scope: /, from: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z', reason: r}\n---\n" +
		"{kind: Freeze, name: shop, scope: /projects/shop, from: '2026-01-01T00:00:00Z', until: '2026-01-02T00:00:00Z', reason: r}")})
	if u, ok := c.UserOf("ci", "1001"); !ok || u.Name != "ann" {
		t.Errorf("UserOf is %v, %v", u, ok)
	}
	for _, id := range [][2]string{{"ci", "1009"}, {"", "1001"}, {"ci", ""}} {
		if u, ok := c.UserOf(id[0], id[1]); ok {
			t.Errorf("UserOf(%v) is %v", id, u)
		}
	}
	if c.PersonOf("ann-admin") != "ann" || c.PersonOf("bob") != "bob" || c.PersonOf("nobody") != "nobody" {
		t.Error("PersonOf is wrong")
	}
	production := lockkeeper.EnvironmentScope("payments", "production")
	if id, ok := c.IdentityOf(production); !ok || id.Name != "payments-production" {
		t.Errorf("IdentityOf is %v, %v", id, ok)
	}
	if id, ok := c.IdentityOf(lockkeeper.EnvironmentScope("payments", "test")); ok {
		t.Errorf("IdentityOf test is %v", id)
	}
	var names []string
	for _, f := range c.FreezesAt(production) {
		names = append(names, f.Name)
	}
	if d := cmp.Diff([]string{"all", "year-end"}, names); d != "" {
		t.Errorf("FreezesAt (-want +got):\n%s", d)
	}
	for key, want := range map[Key]lockkeeper.Scope{
		{ProjectKind, "", "payments"}:             "/projects/payments",
		{UserKind, "", "ann"}:                     "/",
		{ProviderKind, "", "ci"}:                  "/",
		{PipelineKind, "payments", "release"}:     "/projects/payments/pipelines/release",
		{EnvironmentKind, "payments", "test"}:     "/projects/payments/environments/test",
		{IdentityKind, "payments", "x"}:           "/projects/payments/identities/x",
		{AssignmentKind, "", "managers-approve"}:  "/projects/payments",
		{FreezeKind, "", "year-end"}:              production,
		{AssignmentKind, "", "is-not-in-catalog"}: "/",
	} {
		if got := c.ScopeOf(key); got != want {
			t.Errorf("ScopeOf(%s) is %s, want %s", key, got, want)
		}
	}
	env := c.Environments[production]
	if env.LeaseLimit().String() != "30m0s" || (Environment{}).LeaseLimit() != DefaultLease || env.PatienceLimit().String() != "72h0m0s" || (Environment{}).PatienceLimit() != DefaultPatience || (Identity{}).TokenLifetime() != DefaultLifetime {
		t.Error("the limits are wrong")
	}
}

func TestDiff(t *testing.T) {
	text := string(base(t).Data)
	old := mustRead(t, base(t))
	next := mustRead(t, File{"x.yaml", []byte(strings.NewReplacer("title: Payments", "title: Money", "name: cid-cancels", "name: cid-stops").Replace(text))})
	want := []Change{{Key{AssignmentKind, "", "cid-cancels"}, "removed"}, {Key{AssignmentKind, "", "cid-stops"}, "added"}, {Key{ProjectKind, "", "payments"}, "changed"}}
	if d := cmp.Diff(want, Diff(old, next)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if old.Digest() == next.Digest() {
		t.Error("two catalogs have one digest")
	}
	if n := len(Diff(nil, old)); n != len(old.Documents()) {
		t.Errorf("%d changes from nothing, want %d", n, len(old.Documents()))
	}
}

func TestBuiltInRoles(t *testing.T) {
	var names []string
	for _, r := range BuiltInRoles() {
		names = append(names, r.Name)
		for _, p := range slices.Concat(r.Actions, r.NotActions) {
			if _, err := lockkeeper.ParseActionPattern(string(p)); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
	}
	want := strings.Fields("reader developer reviewer team-lead release-manager security-reviewer environment-administrator pipeline-administrator access-administrator access-approver auditor incident-responder organisation-administrator")
	if d := cmp.Diff(want, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestDefinitionOfAnotherProject: GitLab may read a definition from another
// project. It is that one which has to be named, and no like-named file.
func TestDefinitionOfAnotherProject(t *testing.T) {
	c := mustRead(t, File{"x.yaml", []byte(`
{kind: Project, name: p}
---
{kind: Provider, name: gl, platform: gitlab, issuer: 'https://gitlab.example.com'}
---
{kind: Pipeline, name: far, project: p, provider: gl, organisation: 72, repository: 20, definition: 'gitlab.example.com:8443/acme/sub/delivery//ci/deploy.yml', stages: [{name: s, trust: {environment: e, events: [push], refs: [refs/heads/main]}}]}
`)})
	f := lockkeeper.SignedFact
	for path, want := range map[string]string{
		"gitlab.example.com:8443/acme/sub/delivery//ci/deploy.yml": "stage_found",
		"ci/deploy.yml": "definition_differs",
		"gitlab.example.com:8443/evil/delivery//ci/deploy.yml":     "definition_differs",
		"gitlab.example.com:8443/acme/sub/delivery/ci//deploy.yml": "definition_differs",
	} {
		w := lockkeeper.Workload{Provider: "gl", Platform: "gitlab", Organisation: f("72"), Repository: f("20"), Event: f("push"), Ref: f("refs/heads/main"),
			Environment: f("e"), Runner: f("hosted"), DefinitionPath: f(path)}
		if _, _, d := c.StageOf(w); d.Code != want {
			t.Errorf("%s: %s, want %s", path, d.Code, want)
		}
	}
	for path, fit := range map[string]bool{
		".gitlab-ci.yml": true, "h/g/p//x.yml": true, "h/g/s/p//a/x.yml": true,
		"h/p//x.yml": false, "p//x.yml": false, "//x.yml": false, "h/g/p//": false, "h/g/p//a//x.yml": false, "h/g/p///x.yml": false, "h/g/../p//x.yml": false,
		"h/g/p//../x.yml": false, "https://h/g/p//x.yml": false, "h/g/p//x.yml@main": false, "": false,
	} {
		if got := gitlabUnfit(path); (got == "") != fit {
			t.Errorf("%q: %q, fit should be %v", path, got, fit)
		}
		if path != ".gitlab-ci.yml" && pathUnfit(path) == "" {
			t.Errorf("%q is a path elsewhere, too", path)
		}
	}
}
