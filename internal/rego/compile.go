package rego

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/version"

	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Version names what evaluates, as a verdict records it.
var Version = "opa/" + version.Version

// The rules of a policy that make its verdict.
const (
	denyRule  = "deny"
	waitRule  = "wait"
	allowRule = "allow"
)

// Bounds of a text.
const (
	maxNesting  = 300 // of the parser's own recursion
	maxProblems = 20  // of one policy that are told
)

// The names of the two texts of a policy, as OPA's positions have them.
const (
	policyFile = "rego"
	testsFile  = "tests"
)

// builtins are the functions that a policy may call: pure ones, whose cost follows the
// size of what they are given. Nothing that asks the network, the clock, chance or the
// process, and none that a release of OPA adds is among them by itself.
var builtins = strings.Fields(`abs all and any array.concat array.flatten array.reverse array.slice assign
	base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad
	cast_array cast_boolean cast_null cast_object cast_set cast_string ceil concat contains count crypto.md5 crypto.sha1 crypto.sha256
	div endswith eq equal floor format_int graph.reachable gt gte hex.decode hex.encode indexof indexof_n internal.member_2 internal.member_3 internal.template_string internal.test_case
	intersection is_array is_boolean is_null is_number is_object is_set is_string json.filter json.is_valid json.marshal json.patch json.remove json.unmarshal
	lower lt lte max min minus mul neq numbers.range numbers.range_step object.filter object.get object.keys object.remove object.subset object.union object.union_n
	or plus product regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split rem replace round
	semver.compare semver.is_valid set_diff sort split sprintf startswith strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n
	substring sum time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns time.weekday
	to_number trim trim_left trim_prefix trim_right trim_space trim_suffix type_name union units.parse units.parse_bytes upper uri.is_valid uri.parse
	urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object uuid.parse walk`)

var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := *ast.CapabilitiesForThisVersion()
	var few []*ast.Builtin
	for _, b := range c.Builtins {
		if slices.Contains(builtins, b.Name) {
			few = append(few, b)
		}
	}
	c.Builtins, c.AllowNet = few, []string{}
	return &c
})

// A Problem is what is wrong with a text, where it stands in it.
type Problem struct {
	Tests        bool // of the tests, and not of the policy
	Line, Column int  // from 1
	Code         string
	Sentence     string
	Mend         string
}

// A module is a policy that compiles.
type module struct {
	compiler *ast.Compiler
	path     string // data.PACKAGE
	rules    []string
	modules  map[string]*ast.Module
}

// compile compiles a policy, with its tests if there are any.
func compile(text, tests string) (*module, []Problem) {
	out := &module{modules: map[string]*ast.Module{}}
	var problems []Problem
	for _, file := range []string{policyFile, testsFile} {
		source := map[string]string{policyFile: text, testsFile: tests}[file]
		if file == testsFile && source == "" {
			continue
		}
		m, bad := parse(file, source)
		problems = append(problems, bad...)
		if m != nil {
			out.modules[file] = m
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	policy := out.modules[policyFile]
	out.path = policy.Package.Path.String()
	for name, m := range out.modules {
		problems = append(problems, alien(m, policy, name == testsFile)...)
	}
	for _, r := range policy.Rules {
		if name := r.Head.Ref()[0].Value.String(); !slices.Contains(out.rules, name) {
			out.rules = append(out.rules, name)
		}
		if strings.HasPrefix(strings.Trim(r.Head.Ref()[0].Value.String(), `"`), "test_") {
			problems = append(problems, at(policyFile, r.Location, "policy_test_misplaced", "A test stands in the policy itself.", "Move it to tests:, where it is run and never evaluated at a gate."))
		}
	}
	if !out.has(denyRule) && !out.has(allowRule) {
		problems = append(problems, at(policyFile, policy.Package.Location, "policy_says_nothing", fmt.Sprintf("The package %s has neither a rule deny nor a rule allow, so it says nothing.", strings.TrimPrefix(out.path, "data.")),
			`Write deny contains "sentence" if …, or default allow := false with allow if ….`))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	out.compiler = ast.NewCompiler().WithCapabilities(capabilities()).WithStrict(true).WithSchemas(schemas()).WithUseTypeCheckAnnotations(false).WithEnablePrintStatements(true)
	out.compiler.SetErrorLimit(maxProblems)
	out.compiler.Compile(out.modules)
	return out, told(out.compiler.Errors)
}

func (m *module) has(rule string) bool { return slices.Contains(m.rules, rule) }

// schemas is what the compiler holds references to input against.
func schemas() *ast.SchemaSet {
	s := ast.NewSchemaSet()
	s.Put(ast.SchemaRootRef, inputSchema())
	return s
}

var inputSchema = sync.OnceValue(func() any {
	b, err := json.Marshal(gate.PolicySchema())
	var out any
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		panic(err) // a value of our own
	}
	return out
})

// parse reads one text. What it nests too deep is refused before anything recurses
// over it.
func parse(file, text string) (*ast.Module, []Problem) {
	if len(text) > catalog.MaxRego {
		return nil, []Problem{{Tests: file == testsFile, Line: 1, Column: 1, Code: "rego_large", Sentence: fmt.Sprintf("The text has more than %d bytes.", catalog.MaxRego), Mend: "Write less."}}
	}
	_, _, errs := ast.NewParser().WithFilename(file).WithReader(strings.NewReader(text)).WithCapabilities(capabilities()).WithRegoVersion(ast.RegoV1).WithMaxRecursionDepth(maxNesting).Parse()
	if len(errs) > 0 {
		return nil, told(errs)
	}
	m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{Capabilities: capabilities(), RegoVersion: ast.RegoV1})
	if err != nil {
		if errors.As(err, &errs) {
			return nil, told(errs)
		}
		return nil, []Problem{{Tests: file == testsFile, Line: 1, Column: 1, Code: "rego_broken", Sentence: "The text cannot be read as Rego: " + err.Error() + "."}}
	}
	if m == nil {
		return nil, []Problem{{Tests: file == testsFile, Line: 1, Column: 1, Code: "rego_broken", Sentence: "There is no Rego here.", Mend: "Begin with package NAME."}}
	}
	return m, nil
}

// alien finds what refers to data that is not the policy's own: nobody fills it, so
// that a rule which rests on it would be silent.
func alien(m, policy *ast.Module, tests bool) []Problem {
	own := []ast.Ref{policy.Package.Path}
	if tests {
		own = append(own, m.Package.Path)
	}
	ours := func(r ast.Ref) bool {
		return slices.ContainsFunc(own, func(o ast.Ref) bool { return r.HasPrefix(o) })
	}
	var out []Problem
	file := policyFile
	if tests {
		file = testsFile
	}
	if !tests && (len(policy.Package.Path) < 2 || policy.Package.Path[1].Equal(ast.StringTerm("system"))) {
		out = append(out, at(file, policy.Package.Location, "policy_package", "This package is OPA's own.", "Choose another name."))
	}
	for _, i := range m.Imports {
		if path, is := i.Path.Value.(ast.Ref); is && path[0].Equal(ast.DefaultRootDocument) && !ours(path) {
			out = append(out, at(file, i.Location, "policy_data", fmt.Sprintf("There is nothing at %s: a policy sees input, and its own rules.", path), "Take the import out."))
		}
	}
	seen := func(r ast.Ref, l *ast.Location) {
		if r[0].Equal(ast.DefaultRootDocument) && !ours(r) && len(out) < maxProblems {
			out = append(out, at(file, l, "policy_data", fmt.Sprintf("There is nothing at %s: a policy sees input, and its own rules.", r), "Write what it would say into the policy."))
		}
	}
	for _, r := range m.Rules {
		ast.WalkTerms(r, func(t *ast.Term) bool {
			if ref, is := t.Value.(ast.Ref); is {
				seen(ref, cmp.Or(t.Location, r.Location))
			}
			if v, is := t.Value.(ast.Var); is && v == ast.DefaultRootDocument.Value {
				seen(ast.Ref{t}, cmp.Or(t.Location, r.Location))
			}
			return false
		})
	}
	return out
}

func at(file string, l *ast.Location, code, sentence, mend string) Problem {
	p := Problem{Tests: file == testsFile, Line: 1, Column: 1, Code: code, Sentence: sentence, Mend: mend}
	if l != nil {
		p.Line, p.Column = max(l.Row, 1), max(l.Col, 1)
	}
	return p
}

// told are OPA's errors in our words.
func told(errs ast.Errors) []Problem {
	var out []Problem
	for _, e := range errs {
		file := policyFile
		if e.Location != nil {
			file = e.Location.File
		}
		code, mend := strings.TrimSuffix(e.Code, "_error"), ""
		switch {
		case strings.HasPrefix(e.Message, "undefined function "):
			code, mend = "rego_function", "A policy may call pure functions only: nothing that asks the network, the clock, chance or the process."
		case strings.HasPrefix(e.Message, "undefined ref: input"):
			code, mend = "rego_input", "Input has no such field; see lockkeeper policy schema."
		case e.Code == ast.CompileErr && strings.Contains(e.Message, "error limit reached"):
			continue
		}
		sentence := strings.Join(strings.Fields(e.Message), " ")
		if r := []rune(sentence); len(r) > 300 {
			sentence = string(r[:300]) + "…"
		}
		out = append(out, at(file, e.Location, code, "Rego: "+strings.TrimSuffix(sentence, ".")+".", mend))
	}
	if len(errs) > 0 && len(out) == 0 {
		out = []Problem{{Line: 1, Column: 1, Code: "rego_broken", Sentence: "The text cannot be compiled."}}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	return out[:min(len(out), maxProblems)]
}

// Problems is what is wrong with the policies of a catalog, where it stands in its
// files.
func Problems(c *catalog.Catalog) catalog.Problems {
	return problems(c, func(text, tests string) []Problem {
		_, bad := compile(text, tests)
		return bad
	})
}

func problems(c *catalog.Catalog, of func(text, tests string) []Problem) catalog.Problems {
	var out catalog.Problems
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		p := c.Policies[name]
		for _, b := range of(string(p.Rego), string(p.Tests)) {
			field := policyFile
			if b.Tests {
				field = testsFile
			}
			out = append(out, c.InText(catalog.Key{Kind: catalog.PolicyKind, Name: name}, field, b.Line, b.Column, catalog.Problem{Code: b.Code, Sentence: b.Sentence, Mend: b.Mend}))
		}
	}
	slices.SortStableFunc(out, func(a, b catalog.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out[:min(len(out), maxProblems*10)]
}
