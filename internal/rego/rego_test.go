package rego

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const sample = `package acme.release

deny contains sprintf("%s has no tests.", [a.name]) if {
	some a in input.artifacts
	not tested(a)
}

tested(a) if {
	some e in a.evidence
	e.fresh
	e.tests.failed == 0
}
`

// TestMain is the process of an Isolated, too.
func TestMain(m *testing.M) {
	if os.Getenv("LOCKKEEPER_POLICY_WORKER") != "" {
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func isolated(t *testing.T) *Isolated {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	i := NewIsolated(path, "policies")
	i.deadline = time.Second - grace
	t.Cleanup(i.Close)
	return i
}

// ask is an input with as much as the texts of these tests look at.
const ask = `{"ask":{"action":"deploy","ref":"refs/heads/main"},"artifacts":[{"name":"app","evidence":[]}]}`

func TestVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want lockkeeper.Verdict
		code string
		says string
	}{
		"nothing against it":     {"package a\ndeny contains \"no\" if input.ask.ref != \"refs/heads/main\"", lockkeeper.Pass, "policy_passed", ""},
		"something against it":   {sample, lockkeeper.Fail, "policy_denied", "app has no tests."},
		"an array":               {"package a\ndeny := [\"b\", \"a\"]", lockkeeper.Fail, "policy_denied", "a|b"},
		"something to wait for":  {"package a\nwait contains \"later\"\nallow := true", lockkeeper.Wait, "policy_waits", "later"},
		"both":                   {"package a\nwait contains \"later\"\ndeny contains \"no\"", lockkeeper.Fail, "policy_denied", "no"},
		"allowed":                {"package a\nallow if input.ask.action == \"deploy\"", lockkeeper.Pass, "policy_passed", ""},
		"not allowed":            {"package a\ndefault allow := false\nallow if input.ask.action == \"rollback\"", lockkeeper.Fail, "policy_denied", "Its rule allow is false."},
		"allow is undefined":     {"package a\nallow if input.ask.action == \"rollback\"", lockkeeper.Fail, "policy_denied", "Its rule allow is undefined."},
		"allow and denied":       {"package a\nallow := true\ndeny contains \"no\"", lockkeeper.Fail, "policy_denied", "no"},
		"allow is a text":        {"package a\nallow := \"true\"", lockkeeper.Error, "policy_result", ""},
		"allow is one":           {"package a\nallow := 1", lockkeeper.Error, "policy_result", ""},
		"deny is a text":         {"package a\ndeny := \"no\"", lockkeeper.Error, "policy_result", ""},
		"deny is false":          {"package a\ndeny := false", lockkeeper.Error, "policy_result", ""},
		"deny is an object":      {"package a\ndeny := {\"a\": \"no\"}", lockkeeper.Error, "policy_result", ""},
		"deny has numbers":       {"package a\ndeny contains 7", lockkeeper.Error, "policy_result", ""},
		"deny has nothing":       {"package a\ndeny contains \" \"", lockkeeper.Error, "policy_result", ""},
		"deny is undefined":      {"package a\ndeny := [\"no\"] if input.ask.action == \"rollback\"", lockkeeper.Error, "policy_result", ""},
		"two values":             {"package a\nallow := true\nallow := false if input.ask.action == \"deploy\"", lockkeeper.Error, "policy_error", ""},
		"an error of a function": {"package a\ndeny contains \"no\" if time.parse_rfc3339_ns(input.ask.ref) > 0", lockkeeper.Error, "policy_error", ""},
		"division by zero":       {"package a\ndeny contains \"no\" if 1 / count(input.artifacts[0].evidence) > 0", lockkeeper.Error, "policy_error", ""},
		"what a terminal obeys":  {"package a\ndeny contains \"\\u001b[2J a\\nb\"", lockkeeper.Fail, "policy_denied", "[2J a b"},
	} {
		t.Run(name, func(t *testing.T) {
			out := NewEvaluator().Evaluate(context.Background(), c.text, []byte(ask))
			if out.Verdict != c.want || out.Code != c.code {
				t.Fatalf("%+v", out)
			}
			if c.says != "" && strings.Join(out.Sentences, "|") != c.says {
				t.Errorf("it says %q", out.Sentences)
			}
			if out.Verdict == lockkeeper.Error && !strings.HasSuffix(out.Sentence, ".") {
				t.Errorf("the reason %q is no sentence", out.Sentence)
			}
		})
	}
}

// What a text may not say is refused when it is compiled, at its place.
func TestUnfitPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		text, code string
		line       int
	}{
		"http.send":          {"package a\n\ndeny contains \"no\" if http.send({\"method\": \"get\", \"url\": \"http://169.254.169.254\"}).status_code == 200", "rego_function", 3},
		"a look-up":          {"package a\ndeny contains \"no\" if net.lookup_ip_addr(\"example.com\")", "rego_function", 2},
		"the process":        {"package a\ndeny contains \"no\" if opa.runtime().env.PATH", "rego_function", 2},
		"the clock":          {"package a\ndeny contains \"no\" if time.now_ns() > 0", "rego_function", 2},
		"chance":             {"package a\ndeny contains \"no\" if rand.intn(\"x\", 2) == 1", "rego_function", 2},
		"a token":            {"package a\ndeny contains \"no\" if io.jwt.decode_verify(\"x\", {})", "rego_function", 2},
		"print":              {"package a\ndeny contains \"no\" if print(input)", "rego_function", 2},
		"a shift":            {"package a\ndeny contains \"no\" if bits.lsh(1, 100000000000) > 0", "rego_function", 2},
		"no package":         {"deny contains \"no\"", "rego_parse", 1},
		"nothing":            {"", "rego_broken", 1},
		"only a package":     {"package a", "policy_says_nothing", 1},
		"only another rule":  {"package a\nrefuse contains \"no\"", "policy_says_nothing", 1},
		"only wait":          {"package a\nwait contains \"no\"", "policy_says_nothing", 1},
		"a field mistyped":   {"package a\n\ndeny contains \"no\" if {\n\tsome a in input.artifacts\n\ta.evidnce[_].fresh\n}", "rego_type", 5},
		"a field not there":  {"package a\ndeny contains \"no\" if input.branch == \"x\"", "rego_input", 2},
		"a field of the ask": {"package a\ndeny contains \"no\" if input.ask.brnch == \"x\"", "rego_input", 2},
		"a type mistaken":    {"package a\ndeny contains \"no\" if startswith(input.ask.attempt, \"1\")", "rego_type", 2},
		"data of nobody":     {"package a\ndeny contains \"no\" if data.blocked[input.ask.ref]", "policy_data", 2},
		"data by an import":  {"package a\nimport data.blocked\ndeny contains \"no\" if blocked[input.ask.ref]", "policy_data", 2},
		"all data":           {"package a\ndeny contains \"no\" if data[input.ask.ref]", "policy_data", 2},
		"recursion":          {"package a\ndeny contains \"no\" if f(1)\nf(x) if f(x + 1)", "rego_recursion", 3},
		"an unused variable": {"package a\ndeny contains \"no\" if {\n\tx := 1\n\tinput.ask.ref == \"x\"\n}", "rego_compile", 3},
		"rego of v0":         {"package a\ndeny[msg] { msg := \"no\" }", "rego_parse", 2},
		"a test in the text": {"package a\nallow := true\ntest_a if allow", "policy_test_misplaced", 3},
		"OPA's own package":  {"package system.log\nallow := true", "policy_package", 1},
		"large":              {"package a\nallow := true\n#" + strings.Repeat("x", 64<<10), "rego_large", 1},
		"nested too deep":    {"package a\nallow := " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "rego_parse", 2},
		"braces without end": {"package a\nallow if " + strings.Repeat("{x|", 9000), "rego_parse", 2},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			_, problems := compile(c.text, "")
			if len(problems) == 0 {
				t.Fatal("it compiles")
			}
			p := problems[0]
			if p.Code != c.code || p.Line != c.line || p.Column < 1 || p.Tests {
				t.Errorf("%+v", p)
			}
			if out := NewEvaluator().Evaluate(context.Background(), c.text, []byte(ask)); out.Verdict != lockkeeper.Error || out.Code != "policy_broken" {
				t.Errorf("evaluated, it gives %+v", out)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// Policies that would run for minutes, or take all memory, end with a reason, and let go
// of their place.
func TestHostilePolicies(t *testing.T) {
	doubling := func(first, step string, n int) string {
		var b strings.Builder
		b.WriteString("package a\nx" + itoa(0) + " := " + first + "\n")
		for i := range n {
			b.WriteString(strings.NewReplacer("NEW", "x"+itoa(i+1), "OLD", "x"+itoa(i)).Replace("NEW := " + step + "\n"))
		}
		b.WriteString("deny contains \"no\" if json.marshal(x" + itoa(n) + ") == input.ask.ref\n")
		return b.String()
	}
	e := isolated(t)
	for name, c := range map[string]struct{ text, codes string }{
		"a loop":                       {"package a\nr := numbers.range(1, 3000)\ndeny contains \"no\" if { some a in r; some b in r; some c in r; some d in r; a + b + c + d == 1 }", "policy_timeout"},
		"an exponential comprehension": {"package a\nr := numbers.range(1, 100)\ndeny contains \"no\" if count([1 | some a in r; some b in r; some c in r; some d in r; some e in r; a < b; c < d; e > 0]) == 1", "policy_timeout policy_memory"},
		"a range without end":          {"package a\ndeny contains \"no\" if count(numbers.range(1, 100000000000)) == 1", "policy_timeout policy_memory policy_error"},
		"arrays that double":           {doubling("[1,2,3,4]", "array.concat(OLD, OLD)", 50), "policy_timeout policy_memory"},
		"texts that double":            {doubling(`"abcdefgh"`, `concat("", [OLD, OLD])`, 60), "policy_timeout policy_memory policy_error"},
		"texts that are replaced":      {doubling(`"aaaaaaaaaaaaaaaa"`, `replace(OLD, "a", OLD)`, 20), "policy_timeout policy_memory policy_error"},
		"numbers that are squared":     {doubling("99999999999999999999", "OLD * OLD", 60), "policy_timeout policy_memory policy_error policy_passed"},
		"a format that is wide":        {"package a\ndeny contains \"no\" if sprintf(\"%999999999d\", [1]) == input.ask.ref", "policy_timeout policy_memory policy_error policy_passed"},
		"objects that double":          {doubling(`{"a": [1]}`, `{"a": OLD, "b": OLD}`, 60), "policy_timeout policy_memory policy_error policy_passed"},
		"an output without end":        {"package a\ndeny contains sprintf(\"%d\", [x]) if some x in numbers.range(1, 10000000)", "policy_timeout policy_memory"},
		"a large output":               {"package a\ndeny contains sprintf(\"%064d\", [x]) if some x in numbers.range(1, 5000)", "policy_output"},
		"a walk of walks":              {"package a\nr := numbers.range(1, 2000)\ndeny contains \"no\" if { walk(r, [p, _]); walk(r, [q, _]); walk(r, [s, _]); p == q; q == s; count(p) > 5 }", "policy_timeout"},
		"an expression":                {"package a\ndeny contains \"no\" if { some x in numbers.range(1, 1000000); regex.match(sprintf(\"^(a+)+%d$\", [x]), \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\") }", "policy_timeout policy_memory policy_passed"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			out := e.Evaluate(context.Background(), c.text, []byte(ask))
			took := time.Since(begun)
			t.Logf("%s after %s: %s", out.Code, took.Round(time.Millisecond), out.Sentence)
			if !strings.Contains(" "+c.codes+" ", " "+out.Code+" ") || out.Verdict != lockkeeper.Error && out.Verdict != lockkeeper.Pass {
				t.Fatalf("%+v", out)
			}
			if took > e.deadline+2*grace+time.Second {
				t.Errorf("it took %s", took)
			}
			if out := e.Evaluate(context.Background(), "package a\nallow := true", []byte(ask)); out.Verdict != lockkeeper.Pass {
				t.Errorf("after it nothing is evaluated: %+v", out)
			}
		})
	}
}

func itoa(i int) string { return string(rune('a'+i/26)) + string(rune('a'+i%26)) }

func TestHugeInput(t *testing.T) {
	out := NewEvaluator().Evaluate(context.Background(), "package a\nallow := true", []byte(`"`+strings.Repeat("x", 5<<20)+`"`))
	if out.Code != "policy_input_large" || out.Verdict != lockkeeper.Error {
		t.Errorf("%+v", out)
	}
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	if out := NewEvaluator().Evaluate(context.Background(), "package a\nallow := true", []byte(deep)); out.Verdict != lockkeeper.Error {
		t.Errorf("%+v", out)
	}
}

func TestRunTests(t *testing.T) {
	tests := `package acme.release_test

import data.acme.release

app(evidence) := {"artifacts": [{"name": "app", "evidence": evidence}]}

test_tested if count(release.deny) == 0 with input as app([{"fresh": true, "tests": {"failed": 0}}])

test_untested if release.deny == {"app has no tests."} with input as app([])

test_wrong if count(release.deny) == 0 with input as app([])

todo_test_later if true
`
	report, problems := RunTests(context.Background(), sample, tests)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if report.Passed != 2 || report.Failed != 2 || report.Coverage != 100 {
		t.Errorf("%+v", report)
	}
	if n := report.Tests[2]; n.Name != "test_wrong" || n.Passed || n.Line != 11 {
		t.Errorf("%+v", n)
	}
	report, _ = RunTests(context.Background(), sample, strings.SplitAfter(tests, "test_tested")[0]+" if count(release.deny) == 0 with input as {\"artifacts\": []}\n")
	if report.Passed != 1 || report.Coverage >= 100 || len(report.Uncovered) == 0 {
		t.Errorf("%+v", report)
	}
	if _, problems := RunTests(context.Background(), sample, "package acme.release_test\ntest_a if {"); len(problems) == 0 || !problems[0].Tests {
		t.Errorf("%+v", problems)
	}
	begun := time.Now()
	report, problems = RunTests(context.Background(), sample, "package acme.release_test\ntest_long if { some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a + b == 0 }")
	if len(problems) > 0 || report.Failed != 1 || time.Since(begun) > testsDeadline {
		t.Errorf("%+v %v", report, problems)
	}
}
