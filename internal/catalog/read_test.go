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
		"the same names elsewhere":   "{kind: Environment, name: production, project: shop, tier: production, checks: [{name: two-people, approval: {count: 3, groups: [release-managers]}}]}",
		"words of YAML 1.1":          "{kind: Group, name: yes, title: on, users: [ann]}",
		"second account":             "{kind: User, name: ann-2, person: ann}",
		"touching times":             "{kind: Assignment, name: t, role: reader, principal: user:ann, scope: /, start: 2026-01-01T00:00:00Z, end: 2026-01-01T00:00:00.001Z}",
		"a group without members":    "{kind: Group, name: empty}",
		"nothing but comments":       "# nothing\n---\n# here\n",
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
