package catalog

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"github.com/lockkeeper/lockkeeper"
)

// The variables of expressions. An expression sees one of them.
const (
	askVariable = "ask" // the whole ask, by the names of its JSON
	jobVariable = "job" // the record of a job: only the facts that are known

	predicateVariable = "predicate" // of an attestation; its fields are its own
)

// fieldsOf lists what each variable has, so that a misspelt field is an error
// when the catalog is read and not at a gate.
var fieldsOf = map[string][]string{
	askVariable: {"action", "project", "environment", "pipeline", "stage", "provider", "repository", "run", "attempt", "ref", "commit",
		"definition", "artifacts", "parameters", "event", "protected", "template"},
	jobVariable: jobFields(),

	predicateVariable: nil,
}

func jobFields() []string {
	var w lockkeeper.Workload
	names := []string{"platform", "attempt"}
	for _, f := range w.Facts() {
		names = append(names, f.Name)
	}
	return names
}

// Bounds of an expression.
const (
	maxRuleBytes = 2000
	maxRuleDepth = 40
	maxRuleCost  = 20_000 // units of CEL's own cost model; about a millisecond
)

// A program is a compiled expression, with its syntax tree.
type program struct {
	program cel.Program
	root    ast.Expr
}

// environments are the two CEL environments: the standard library without a
// clock, and one variable.
var environments = sync.OnceValues(func() (map[string]*cel.Env, error) {
	out := map[string]*cel.Env{}
	for variable := range fieldsOf {
		env, err := cel.NewEnv(cel.Variable(variable, cel.MapType(cel.StringType, cel.DynType)),
			cel.ParserRecursionLimit(maxRuleDepth), cel.ParserExpressionSizeLimit(maxRuleBytes), cel.DefaultUTCTimeZone(true))
		if err != nil {
			return nil, err
		}
		out[variable] = env
	}
	return out, nil
})

// compileRule compiles an expression over one variable. The error is a sentence
// for whoever wrote it.
func compileRule(variable, text string) (*program, error) {
	if strings.TrimSpace(text) == "" {
		return nil, fmt.Errorf("the expression is empty")
	}
	if len(text) > maxRuleBytes {
		return nil, fmt.Errorf("the expression has %d bytes, more than %d", len(text), maxRuleBytes)
	}
	envs, err := environments()
	if err != nil {
		return nil, err
	}
	env := envs[variable]
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at column %d: %s", first.Location.Column()+1, clip(first.Message, 160))
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it is of the type %s, and must be true or false", checked.OutputType())
	}
	root := checked.NativeRep().Expr()
	if err := checkFields(variable, root); err != nil {
		return nil, err
	}
	p, err := env.Program(checked, cel.CostLimit(maxRuleCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error(), 160))
	}
	return &program{p, root}, nil
}

// checkFields refuses a variable that is used other than by a known field.
func checkFields(variable string, root ast.Expr) error {
	named, selected := 0, 0
	var err error
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			if e.AsIdent() == variable {
				named++
			}
		case ast.SelectKind:
			sel := e.AsSelect()
			if o := sel.Operand(); o.Kind() != ast.IdentKind || o.AsIdent() != variable {
				return
			}
			selected++
			if known := fieldsOf[variable]; known != nil && !slices.Contains(known, sel.FieldName()) && err == nil {
				err = fmt.Errorf("%s has no field %q; it has %s", variable, clip(sel.FieldName(), 60), strings.Join(fieldsOf[variable], ", "))
			}
		}
	}))
	if err != nil {
		return err
	}
	if named == 0 {
		return fmt.Errorf("it says nothing about %s, so it would be the same for everybody", variable)
	}
	if named != selected && fieldsOf[variable] != nil {
		return fmt.Errorf("%s may only be used by its fields, as in %s.%s", variable, variable, fieldsOf[variable][0])
	}
	return nil
}

// evaluate gives the expression's value. A field that is absent, a wrong type
// and an expression that costs too much are errors, never true.
func (p *program) evaluate(variable string, value map[string]any) (bool, error) {
	out, _, err := p.program.Eval(map[string]any{variable: value})
	if err != nil {
		return false, fmt.Errorf("%s", clip(err.Error(), 200))
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("its value is neither true nor false")
	}
	return b, nil
}

func programKey(variable, text string) string { return variable + "\n" + text }

// AskHolds evaluates an Expression of this catalog over an ask. An expression
// that the catalog does not have is an error.
func (c *Catalog) AskHolds(rule string, ask lockkeeper.Ask) (bool, error) {
	p := c.programs[programKey(askVariable, rule)]
	if p == nil {
		return false, fmt.Errorf("the catalog has no such expression")
	}
	return p.evaluate(askVariable, askValues(ask))
}

// jobHolds evaluates a trust rule of this catalog over a job's record.
func (c *Catalog) jobHolds(rule string, w lockkeeper.Workload) (bool, error) {
	p := c.programs[programKey(jobVariable, rule)]
	if p == nil {
		return false, fmt.Errorf("the catalog has no such expression")
	}
	return p.evaluate(jobVariable, jobValues(w))
}

// PredicateHolds evaluates an attestation's rule of this catalog over a predicate,
// as JSON gives it.
func (c *Catalog) PredicateHolds(rule string, predicate map[string]any) (bool, error) {
	p := c.programs[programKey(predicateVariable, rule)]
	if p == nil {
		return false, fmt.Errorf("the catalog has no such expression")
	}
	return p.evaluate(predicateVariable, predicate)
}

// askValues is an ask as expressions see it.
func askValues(a lockkeeper.Ask) map[string]any {
	artifacts := make([]any, len(a.Artifacts))
	for i, x := range a.Artifacts {
		artifacts[i] = map[string]string{"name": x.Name, "digest": string(x.Digest)}
	}
	parameters := a.Parameters
	if parameters == nil {
		parameters = map[string]string{}
	}
	out := map[string]any{"action": a.Action, "project": a.Project, "environment": a.Environment, "pipeline": a.Pipeline, "stage": a.Stage,
		"provider": a.Provider, "repository": a.Repository, "run": a.Run, "attempt": int64(a.Attempt), "ref": a.Ref, "commit": a.Commit,
		"definition": definitionValues(a.Definition), "artifacts": artifacts, "parameters": parameters}
	// What the platform does not say is absent, not "".
	if a.Event != "" {
		out["event"] = a.Event
	}
	if a.Protected != "" {
		out["protected"] = a.Protected == lockkeeper.RefIsProtected
	}
	if a.Template.Path != "" {
		out["template"] = definitionValues(a.Template)
	}
	return out
}

func definitionValues(d lockkeeper.Definition) map[string]string {
	return map[string]string{"path": d.Path, "ref": d.Ref, "commit": d.Commit}
}

// jobValues is a job's record as trust rules see it: known facts only.
func jobValues(w lockkeeper.Workload) map[string]any {
	out := map[string]any{"platform": w.Platform}
	if w.Attempt > 0 {
		out["attempt"] = int64(w.Attempt)
	}
	for _, f := range w.Facts() {
		if f.Fact.Known() {
			out[f.Name] = f.Fact.Value
		}
	}
	return out
}
