package rego

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// A Report is what a policy's tests say.
type Report struct {
	Tests     []Test   `json:"tests"`
	Passed    int      `json:"passed"`
	Failed    int      `json:"failed"`              // with those that could not be decided
	Coverage  float64  `json:"coverage"`            // percent of the policy's lines that a test ran
	Uncovered [][2]int `json:"uncovered,omitempty"` // lines of the policy, from and to, that none did
}

// A Test is one rule test_ and how it went.
type Test struct {
	Name   string `json:"name"`
	Line   int    `json:"line"` // in the tests
	Passed bool   `json:"passed"`
	Error  string `json:"error,omitempty"` // why it could not be decided
}

// testsDeadline is how long all tests of a policy may take.
const testsDeadline = 30 * time.Second

// RunTests runs the tests of a policy. What does not compile has problems and no report.
func RunTests(ctx context.Context, text, tests string) (Report, []Problem) {
	m, problems := compile(text, tests)
	if len(problems) > 0 {
		return Report{}, problems
	}
	out := Report{Tests: []Test{}}
	if tests == "" {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, testsDeadline)
	defer cancel()
	covered := cover.New()
	store := inmem.New()
	runner := tester.NewRunner().SetCompiler(m.compiler).SetStore(store).SetModules(m.modules).SetParallel(1).SetTimeout(Deadline).SetCoverageQueryTracer(covered).RaiseBuiltinErrors(true)
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return out, []Problem{{Tests: true, Line: 1, Column: 1, Code: "tests_broken", Sentence: "The tests cannot be run."}}
	}
	defer store.Abort(ctx, txn)
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return out, []Problem{{Tests: true, Line: 1, Column: 1, Code: "tests_broken", Sentence: "The tests cannot be run: " + clean(err.Error()) + "."}}
	}
	for r := range results {
		t := Test{Name: strings.Trim(r.Name, `"`), Passed: r.Pass()}
		if r.Location != nil {
			t.Line = r.Location.Row
		}
		if r.Error != nil {
			t.Error = reason(r.Error)
			if ctx.Err() != nil || strings.Contains(r.Error.Error(), "cancel") {
				t.Error = "It took too long."
			}
		}
		if r.Skip {
			t.Error = "It is skipped (todo_), which proves nothing."
		}
		if t.Passed = t.Passed && !r.Skip; t.Passed {
			out.Passed++
		} else {
			out.Failed++
		}
		out.Tests = append(out.Tests, t)
	}
	slices.SortFunc(out.Tests, func(a, b Test) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name)) })
	out.cover(covered.Report(m.modules))
	return out, nil
}

func (r *Report) cover(c cover.Report) {
	f := c.Files[policyFile]
	if f == nil {
		return
	}
	if n := f.CoveredLines + f.NotCoveredLines; n > 0 {
		r.Coverage = math.Round(1000*float64(f.CoveredLines)/float64(n)) / 10
	}
	for _, u := range f.NotCovered {
		r.Uncovered = append(r.Uncovered, [2]int{u.Start.Row, u.End.Row})
	}
}
