package catalog

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// The variables of a call's criteria.
const (
	statusVariable = "status" // of the answer, a number
	bodyVariable   = "body"   // its JSON; absent where it has none
)

// maxCriteriaCost bounds what it costs to hold one answer, of 64 KiB at most, against
// criteria, in units of CEL's cost model.
const maxCriteriaCost = 200_000

// CallFacts are the fields of ask in the criteria of a call.
func CallFacts() []string {
	return []string{"id", "digest", "user", "role", "scope", "reason", "ticket"}
}

// Criteria are the compiled criteria of a call.
type Criteria struct {
	program cel.Program
	status  bool // they look at the status themselves
}

var criteriaEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(append(criteriaFunctions(), cel.Variable(statusVariable, cel.IntType), cel.Variable(bodyVariable, cel.DynType), cel.Variable(askVariable, cel.MapType(cel.StringType, cel.StringType)),
		cel.ParserRecursionLimit(maxRuleDepth), cel.ParserExpressionSizeLimit(maxRuleBytes), cel.DefaultUTCTimeZone(true))...)
})

// CompileCriteria compiles the criteria of a call about a ticket. The error is a
// sentence for whoever wrote them.
func CompileCriteria(text string) (*Criteria, error) { return compileCriteria(text, CallFacts()) }

// CompileCheckCriteria compiles the criteria of a check's call.
func CompileCheckCriteria(text string) (*Criteria, error) {
	return compileCriteria(text, CheckFacts())
}

func compileCriteria(text string, facts []string) (*Criteria, error) {
	if strings.TrimSpace(text) == "" || len(text) > maxRuleBytes {
		return nil, fmt.Errorf("they must have 1 to %d bytes", maxRuleBytes)
	}
	env, err := criteriaEnvironment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at column %d: %s", first.Location.Column()+1, clip(first.Message, 160))
	}
	if t := checked.OutputType(); t != cel.BoolType {
		return nil, fmt.Errorf("they are of the type %s, and must be true or false: compare a field with something", t)
	}
	used, err := criteriaVariables(checked.NativeRep().Expr(), facts)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(used, statusVariable) && !slices.Contains(used, bodyVariable) {
		return nil, fmt.Errorf("they say nothing about status or body, so every answer would be the same")
	}
	p, err := env.Program(checked, cel.CostLimit(maxCriteriaCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error(), 160))
	}
	return &Criteria{p, slices.Contains(used, statusVariable)}, nil
}

// criteriaVariables are the variables that an expression names. It refuses a field
// that no ask has.
func criteriaVariables(root ast.Expr, facts []string) (used []string, err error) {
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			used = append(used, e.AsIdent())
		case ast.SelectKind:
			sel := e.AsSelect()
			if o := sel.Operand(); o.Kind() == ast.IdentKind && o.AsIdent() == askVariable && !slices.Contains(facts, sel.FieldName()) && err == nil {
				err = fmt.Errorf("ask has no field %q; it has %s", clip(sel.FieldName(), 60), strings.Join(facts, ", "))
			}
		}
	}))
	return used, err
}

// Hold evaluates the criteria over an answer: its status, its decoded JSON (nil: it
// has none), and the facts of the ask. A field that is absent, a wrong type and what
// costs too much are errors, never true.
func (c *Criteria) Hold(status int, body any, ask map[string]string) (bool, error) {
	if !c.status && (status < 200 || status > 299) {
		return false, nil
	}
	about := map[string]any{statusVariable: int64(status), askVariable: ask}
	if body != nil {
		about[bodyVariable] = body
	}
	out, _, err := c.program.Eval(about)
	if err != nil {
		return false, fmt.Errorf("%s", clip(err.Error(), 200))
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("their value is neither true nor false")
	}
	return b, nil
}
