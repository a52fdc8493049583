package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"github.com/lockkeeper/lockkeeper"
)

// The variables of a condition.
const (
	actionVariable      = "action"      // deployments/approve
	scopeVariable       = "scope"       // the asked one, whole
	projectVariable     = "project"     // that the scope lies in, or ""
	environmentVariable = "environment" // that the scope is, or ""
	tierVariable        = "tier"        // of that environment, or ""
	userVariable        = "user"        // who would do it; absent where a group is asked about
	nowVariable         = "now"         // the beginning of the minute, in UTC
)

// ConditionVariables are the names that a condition may use.
func ConditionVariables() []string {
	return []string{actionVariable, scopeVariable, projectVariable, environmentVariable, tierVariable, userVariable, nowVariable}
}

// Bounds of a condition. It is judged at every question that it could decide, so
// its dearest evaluation is estimated when the catalog is read, and no clock or
// counter runs while it is judged.
const (
	maxConditionBytes = 1000
	maxConditionCost  = 2000 // units of CEL's cost model; tens of microseconds
)

// ConditionStep is how long a condition sees the same now: it is judged by the
// minute, so that its verdict can only change where a minute begins.
const ConditionStep = time.Minute

// A Condition is a compiled condition of an assignment.
type Condition struct {
	Text    string
	Timed   bool // it hangs on now
	ByTier  bool // it hangs on an environment's tier
	program cel.Program
}

// A Circumstance is what a condition is judged about.
type Circumstance struct {
	Action      lockkeeper.Action
	Scope       lockkeeper.Scope
	User        string // "": unknown, as where a group is asked about
	Environment string // that Scope is, or is an identity of
	Tier        Tier   // of the environment that Scope is; "": it is none
	Now         lockkeeper.Moment
}

var conditionEnvironment = sync.OnceValues(func() (*cel.Env, error) {
	var options []cel.EnvOption
	for _, name := range ConditionVariables() {
		t := cel.StringType
		if name == nowVariable {
			t = cel.TimestampType
		}
		options = append(options, cel.Variable(name, t))
	}
	return cel.NewEnv(append(options, cel.ParserRecursionLimit(maxRuleDepth), cel.ParserExpressionSizeLimit(maxConditionBytes), cel.DefaultUTCTimeZone(true))...)
})

// CompileCondition compiles a condition. The error is a sentence for whoever
// wrote it.
func CompileCondition(text string) (*Condition, error) {
	if len(text) > maxConditionBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), maxConditionBytes)
	}
	env, err := conditionEnvironment()
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("at column %d: %s", first.Location.Column()+1, clip(first.Message, 160))
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it is of the type %s, and must be true or false", checked.OutputType())
	}
	used := variablesOf(checked.NativeRep().Expr())
	if len(used) == 0 {
		return nil, fmt.Errorf("it says nothing about %s, so it would be the same for every question", strings.Join(ConditionVariables(), ", "))
	}
	estimate, err := env.EstimateCost(checked, conditionSizes{})
	if err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error(), 160))
	}
	if estimate.Max > maxConditionCost {
		return nil, fmt.Errorf("it may cost %d units, more than %d", estimate.Max, maxConditionCost)
	}
	p, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("%s", clip(err.Error(), 160))
	}
	return &Condition{Text: text, Timed: slices.Contains(used, nowVariable), ByTier: slices.Contains(used, tierVariable), program: p}, nil
}

func variablesOf(root ast.Expr) []string {
	var used []string
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind && slices.Contains(ConditionVariables(), e.AsIdent()) {
			used = append(used, e.AsIdent())
		}
	}))
	return used
}

// conditionSizes tells the estimate how long the variables can be.
type conditionSizes struct{}

func (conditionSizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if path := n.Path(); len(path) == 1 && slices.Contains(ConditionVariables(), path[0]) {
		longest := uint64(64)
		if path[0] == scopeVariable {
			longest = 512 // a branch of 255 bytes, some of them escaped
		}
		return &cost.SizeEstimate{Min: 0, Max: longest}
	}
	return nil
}

func (conditionSizes) EstimateCallCost(_, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	return nil
}

var errConditionUnknown = errors.New("the catalog has no such condition")

// ConditionOf is the compiled condition of an assignment of this catalog; nil if
// it has none. One that does not compile errs at every question.
func (c *Catalog) ConditionOf(a Assignment) *Condition {
	if a.Condition == "" {
		return nil
	}
	if compiled := c.conditions[a.Condition]; compiled != nil {
		return compiled
	}
	compiled, err := CompileCondition(a.Condition)
	if err != nil {
		return &Condition{Text: a.Condition, Timed: true, ByTier: true}
	}
	return compiled
}

// Holds judges the condition. An error is neither: a grant must not apply with
// it, and a deny must.
func (c *Condition) Holds(about Circumstance) (bool, error) {
	if c.program == nil {
		return false, errConditionUnknown
	}
	out, _, err := c.program.Eval(&about)
	if err != nil {
		return false, fmt.Errorf("%s", clip(err.Error(), 200))
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("its value is neither true nor false")
	}
	return bool(b), nil
}

// ResolveName gives a variable's value to CEL.
func (a *Circumstance) ResolveName(name string) (any, bool) {
	switch name {
	case actionVariable:
		return types.String(a.Action), true
	case scopeVariable:
		return types.String(a.Scope), true
	case projectVariable:
		return types.String(a.Scope.Project()), true
	case environmentVariable:
		return types.String(cmp.Or(a.Environment, a.Scope.Environment())), true
	case tierVariable:
		return types.String(a.Tier), true
	case userVariable:
		return types.String(a.User), a.User != ""
	case nowVariable:
		return types.Timestamp{Time: a.Now.Time().Truncate(ConditionStep)}, true
	}
	return nil, false
}

// Parent is nil: there is nothing else to see.
func (a *Circumstance) Parent() cel.Activation { return nil }

// condition compiles the condition of an assignment and keeps it for the catalog.
func (v *rules) condition(r *resource, text string) {
	if r.root.field("condition") == nil || v.c.conditions[text] != nil {
		return
	}
	compiled, err := CompileCondition(text)
	if err != nil {
		v.add(r, "condition", "condition_unfit", "The condition does not compile: "+clip(err.Error(), 300)+".", "Write a CEL expression over "+strings.Join(ConditionVariables(), ", ")+"; docs/catalog.md shows some.")
		return
	}
	v.c.conditions[text] = compiled
}

// exceptions checks what only a deny may say.
func (v *rules) exceptions(r *resource, a *Assignment) {
	if !a.Deny && a.Here {
		v.add(r, "here", "here_unfit", "The assignment "+a.Name+" grants, and what is granted holds below too.", "Assign a role at the scopes that are meant; only a deny may be here alone.")
	}
	if !a.Deny && len(a.Except) > 0 {
		v.add(r, "except", "except_unfit", "The assignment "+a.Name+" grants, and only a deny leaves somebody out.", "Make a group of those who are meant.")
	}
	for i, p := range a.Except {
		kind := GroupKind
		if p.Kind == lockkeeper.UserPrincipal {
			kind = UserKind
		}
		v.reference(r, fmt.Sprintf("except[%d]", i), Key{Kind: kind, Name: p.Name})
	}
	if len(a.Except) > 0 {
		v.bounded(r, "except", len(a.Except), maxLeftOut)
	}
}

// Bounds of lists about assignments.
const (
	maxLeftOut    = 20
	maxRoleScopes = 100
)

// assignable refuses an assignment of a role where the role may not be assigned.
func (v *rules) assignable(admitted []*resource) {
	for _, r := range admitted {
		a, is := r.value.(*Assignment)
		if !is || a.Deny {
			continue
		}
		role, known := v.c.Roles[a.Role]
		if known && !role.AssignableAt(a.Scope) {
			v.add(r, "scope", "scope_not_assignable", fmt.Sprintf("The role %s may be assigned at %s and below only.", a.Role, joinScopes(role.Scopes)), "Assign it there, or add the scope to the role's scopes.")
		}
	}
}

func joinScopes(list []lockkeeper.Scope) string {
	var out []string
	for _, s := range list[:min(len(list), 8)] {
		out = append(out, string(s))
	}
	if len(list) > 8 {
		out = append(out, "…")
	}
	return strings.Join(out, ", ")
}

// AssignableAt reports whether the role may be granted at a scope.
func (r Role) AssignableAt(s lockkeeper.Scope) bool {
	return len(r.Scopes) == 0 || slices.ContainsFunc(r.Scopes, func(outer lockkeeper.Scope) bool { return outer.Contains(s) })
}
