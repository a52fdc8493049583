package catalog

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func base(t testing.TB) File {
	t.Helper()
	data, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return File{"base.yaml", data}
}

func mustRead(t testing.TB, files ...File) *Catalog {
	t.Helper()
	c, problems := Read(files)
	if err := problems.Err(); err != nil {
		t.Fatalf("Read: %v", err)
	}
	return c
}

// TestProblems reads each case together with base.yaml, which is good alone,
// and compares every problem with the file "problems" of the case.
func TestProblems(t *testing.T) {
	cases, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, want := []File{base(t)}, ""
			rest := a.Files[:0]
			for _, f := range a.Files {
				if f.Name == "problems" {
					want = string(f.Data)
					continue
				}
				rest = append(rest, f)
				files = append(files, File{f.Name, f.Data})
			}
			c, problems := Read(files)
			if c != nil || len(problems) == 0 {
				t.Fatal("Read found nothing wrong")
			}
			got := problems.Error() + "\n"
			if *update {
				a.Files = append(rest, txtar.File{Name: "problems", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("problems (-want +got), go test -update rewrites them:\n%s", d)
			}
		})
	}
}

// TestGoodBesideBase reads what lies just inside a rule.
func TestGoodBesideBase(t *testing.T) {
	for name, text := range map[string]string{
		"two stages of one pipeline": "{kind: Identity, name: i, project: payments, environment: test, audiences: [a], stages: [release/build, release/deploy]}",
		"lifetime of the lease":      "{kind: Environment, name: e, project: shop, tier: development, lease: 1s}\n---\n{kind: Pipeline, name: l, project: shop, provider: ci, organisation: 1, repository: 2, definition: a, stages: [{name: s, trust: {events: [pull_request], refs: [refs/heads/x]}}]}\n---\n{kind: Identity, name: i, project: shop, environment: e, audiences: [a], lifetime: 1s, stages: [l/s]}",
		"lifetime of the heartbeat":  "{kind: Environment, name: e, project: shop, tier: development, heartbeat: 10s}\n---\n{kind: Pipeline, name: l, project: shop, provider: ci, organisation: 1, repository: 2, definition: a, stages: [{name: s, trust: {events: [push], refs: [refs/heads/x]}}]}\n---\n{kind: Identity, name: i, project: shop, environment: e, audiences: [a], lifetime: 10s, stages: [l/s]}",
		"every kind of check": `kind: Environment
name: all
project: shop
tier: production
heartbeat: 30s
patience: 100h
checks:
  - {name: first, approval: {count: 1, groups: [leads], review: security, timeout: 4h, validity: 2h, instructions: Look.}}
  - {name: then, approval: {count: 1, groups: [release-managers], after: [first]}}
  - {name: refs, branches: {allowed: [refs/heads/main, refs/heads/release/*, refs/tags/v*.*]}}
  - {name: delivery, template: {allowed: [{path: acme/d/.github/workflows/deploy.yml, refs: [refs/tags/v3], commits: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}]}}
  - {name: ticket, expression: {rule: 'ask.parameters["change"].startsWith("CHG") && ask.artifacts.all(a, a.name != "x")', message: Name a change.}}
  - {name: soak, delay: {for: 30m}}
  - {name: office, hours: {zone: Europe/Zurich, windows: [{days: [monday, friday], from: "09:00", to: "24:00"}, {days: [sunday], from: "22:00", to: "02:00"}], except: ["2026-12-25"]}}
  - {name: one, lock: {mode: runLatest}}`,
		"waived":           "{kind: Environment, name: waived, project: shop, tier: production, waivers: [{demand: approval, owner: ann, until: 2027-03-01T00:00:00Z, reason: new}, {demand: security-review, owner: ann, until: 2027-03-01T00:00:00Z, reason: new}, {demand: branch-control, owner: ann, until: 2027-03-01T00:00:00Z, reason: new}]}",
		"a freeze of some": "{kind: Freeze, name: quiet, scope: /, from: 2026-12-20T00:00:00Z, until: 2027-01-04T00:00:00Z, reason: r, actions: [deploy], callers: [automation]}",
		"gitlab": `kind: Provider
name: gl
platform: gitlab
issuer: https://gitlab.example.com
longest: 3h
---
{kind: Pipeline, name: gl, project: shop, provider: gl, organisation: 5, repository: 6, definition: .gitlab-ci.yml, stages: [{name: deploy, trust: {environment: production, events: [push, web], refs: [refs/heads/main], rule: 'job.ref_protected == "true"'}}]}`,
		"azure": `kind: Provider
name: az
platform: azure
issuer: https://vstoken.dev.azure.com/11111111-2222-3333-4444-555555555555
api: https://dev.azure.com/acme
---
{kind: User, name: zoe, ids: [{provider: az, id: 99999999-2222-3333-4444-555555555555}]}
---
{kind: Pipeline, name: az, project: shop, provider: az, organisation: 11111111-2222-3333-4444-555555555555, teamProject: 21111111-2222-3333-4444-555555555555, repository: 31111111-2222-3333-4444-555555555555, definition: "42", stages: [{name: build, trust: {stage: Build, events: [individualCI, manual], refs: [refs/heads/main]}}, {name: deploy, trust: {stage: Deploy, events: [individualCI, manual], refs: [refs/heads/main]}}]}`,
		"kubernetes": `kind: Provider
name: k8s
platform: kubernetes
issuer: https://oidc.cluster.example.com
---
{kind: Pipeline, name: k8s, project: shop, provider: k8s, repository: ci, stages: [{name: deploy, trust: {serviceAccount: 99999999-2222-3333-4444-555555555555}}]}`,
		"any issuer": `kind: Provider
name: buildkite
platform: oidc
issuer: https://agent.buildkite.example.com
algorithms: [RS256]
claims: [{fact: organisation, claim: organization_id}, {fact: repository, claim: pipeline_id}, {fact: run, claim: build_number}, {fact: job, claim: job_id}, {fact: actor, claim: build_creator_id}, {fact: ref, claim: build_branch_ref}]
---
{kind: Pipeline, name: bk, project: shop, provider: buildkite, organisation: o-1, repository: p-1, stages: [{name: deploy, trust: {refs: [refs/heads/main], rule: 'job.job == "deploy"'}}]}`,
		"checks of what its tokens say": `{kind: Provider, name: any, platform: oidc, issuer: 'https://any.example.com', claims: [{fact: repository, claim: r}, {fact: run, claim: n}, {fact: job, claim: j}, {fact: actor, claim: u}, {fact: stage, claim: s}, {fact: ref, claim: f}, {fact: ref_protected, claim: p}]}
---
{kind: Pipeline, name: any, project: shop, provider: any, repository: x, stages: [{name: s, trust: {stage: s, refs: [refs/heads/main]}}]}
---
{kind: Environment, name: any, project: shop, tier: preproduction, checks: [{name: r, branches: {allowed: [refs/heads/main], protected: true}}]}
---
{kind: Identity, name: any, project: shop, environment: any, audiences: [a], stages: [any/s]}
---
{kind: Provider, name: az, platform: azure, issuer: 'https://az.example.com/1'}
---
{kind: Pipeline, name: az, project: shop, provider: az, organisation: 11111111-2222-3333-4444-555555555555, teamProject: 21111111-2222-3333-4444-555555555555, repository: r, definition: 42, stages: [{name: s, trust: {stage: Deploy, events: [manual], refs: [refs/heads/main]}}]}
---
{kind: Environment, name: az, project: shop, tier: preproduction, checks: [{name: r, branches: {allowed: [refs/heads/main]}}]}
---
{kind: Identity, name: az, project: shop, environment: az, audiences: [a], stages: [az/s]}
---
{kind: Pipeline, name: hub, project: shop, provider: ci, organisation: 77, repository: 6, definition: x.yml, stages: [{name: s, trust: {called: a/b/c.yml, events: [push], refs: [refs/heads/main]}}]}
---
{kind: Environment, name: hub, project: shop, tier: preproduction, checks: [{name: t, template: {allowed: [{path: a/b/c.yml, refs: [refs/tags/v1]}]}}, {name: r, branches: {allowed: [refs/heads/main]}}]}
---
{kind: Identity, name: hub, project: shop, environment: hub, audiences: [a], stages: [hub/s]}`,
		"the same names elsewhere": "{kind: Environment, name: production, project: shop, tier: production, checks: [{name: two-people, approval: {count: 3, groups: [release-managers], review: security}}, {name: b, branches: {allowed: [refs/heads/*]}}]}",
		"words of YAML 1.1":        "{kind: Group, name: yes, title: on, users: [ann]}",
		"second account":           "{kind: User, name: ann-2, person: ann}",
		"touching times":           "{kind: Assignment, name: t, role: reader, principal: user:ann, scope: /, start: 2026-01-01T00:00:00Z, end: 2026-01-01T00:00:00.001Z}",
		"a group without members":  "{kind: Group, name: empty}",
		"nothing but comments":     "# nothing\n---\n# here\n",
	} {
		if c, problems := Read([]File{base(t), {"x.yaml", []byte(text)}}); c == nil || len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

// TestProblemsAreBounded makes far more problems than a report has.
func TestProblemsAreBounded(t *testing.T) {
	_, problems := Read([]File{{"x.yaml", []byte(strings.Repeat("---\nkind: Nothing\n", 5000))}})
	if len(problems) != maxProblems+1 || problems[maxProblems].Sentence != "There are 4800 problems more." {
		t.Errorf("%d problems, the last is %s", len(problems), problems[len(problems)-1])
	}
}

func TestBaseIsGood(t *testing.T) {
	c := mustRead(t, base(t))
	if len(c.Documents()) != 19 {
		t.Errorf("%d documents, want 19", len(c.Documents()))
	}
}

// TestManual reads what the pages show as documents: together they are one
// catalog, on the page about platforms beside a project.
func TestManual(t *testing.T) {
	for page, beside := range map[string]string{"catalog.md": "", "platforms.md": "kind: Project\nname: payments\n"} {
		data, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		text, n := beside, 0
		for i, block := range strings.Split(string(data), "\n```") {
			if yaml, is := strings.CutPrefix(block, "yaml\n"); is && i%2 == 1 {
				text, n = text+"---\n"+yaml+"\n", n+1
			}
		}
		if c, problems := Read([]File{{page, []byte(text)}}); c == nil || n < 5 {
			t.Errorf("%s, %d blocks: %v", page, n, problems)
		}
	}
}
