package catalog

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// subjectClaim is the claim that every OIDC token has. Platforms make it of
// names, and their customers may choose of which.
const subjectClaim = "sub"

// claimOfSubject refuses sub as the source of a fact that something is decided
// by: whoever takes over a name, or leaves the repository out of a customised
// sub, would be somebody else's job. It may fill what is only shown or compared
// whole: subject and the names.
func (v *rules) claimOfSubject(r *resource, at string, c Claim) {
	if !v.written || c.Claim != subjectClaim || nameFact(c.Fact) || !slices.Contains(MappableFacts(), c.Fact) {
		return
	}
	v.add(r, at+".claim", "claim_is_sub", "The fact "+c.Fact+" is read from the claim sub, which is made of names that can change hands and that a customer of the platform may put together as he likes.",
		"Name the claim in which the issuer states "+c.Fact+" by itself, ids before names; sub may fill the fact subject.")
}

// nameFact reports whether a fact of a job is a name, or made of names.
func nameFact(fact string) bool { return fact == "subject" || strings.HasSuffix(fact, "_name") }

// weakFact reports whether a caller can choose a fact or come to own it: names,
// and who started the run, which is true of every run that he starts anywhere
// in the repository.
func weakFact(fact string) bool { return nameFact(fact) || fact == "actor" || fact == "rerun_actor" }

// trustRule holds the syntax tree of a trust rule against what makes rules over
// names unsafe. The rule compiles and says something about job.
func (v *rules) trustRule(r *resource, path string, root ast.Expr) {
	if fact := nameTakenApart(root); fact != "" {
		v.add(r, path, "rule_over_name", "The rule matches a part or a pattern of job."+fact+". A name can be made to fit one: somebody may call an organisation, a branch or an environment what it looks for.",
			"Compare the fact whole, with ==, != or in; or compare an id, since the pipeline is found by its ids and the other parts of sub are facts of their own (job.environment, job.ref, job.event).")
		return
	}
	if pattern, open := openPattern(root); open {
		v.add(r, path, "rule_pattern_open", "The pattern "+pattern+" of the rule is not one that whole values alone fit.",
			"Write it as a text that begins with ^( and ends with )$, without (?m), or list the values: job.ref in [\"refs/heads/main\"].")
		return
	}
	if whenTrue, _ := ways(root, strongest); whenTrue&onWeak != 0 {
		v.add(r, path, "rule_over_names_only", "The rule can be true by names, sub or the actor alone, which a caller chooses or can come to own ("+strings.Join(weakFactsIn(root), ", ")+").",
			"Ask for a fact besides that the platform decides, in every alternative: job.ref_protected, job.environment_protected, job.runner or job.called_path. Who may start, approve or deploy is said by roles and checks.")
	}
}

// fieldOf is the field of job that an expression is, or "".
func fieldOf(e ast.Expr) string {
	if e.Kind() == ast.SelectKind {
		if o := e.AsSelect().Operand(); o.Kind() == ast.IdentKind && o.AsIdent() == jobVariable {
			return e.AsSelect().FieldName()
		}
	}
	return ""
}

func visit(root ast.Expr, f func(ast.Expr)) { ast.PostOrderVisit(root, ast.NewExprVisitor(f)) }

// nameTakenApart is a name, or sub, that the rule uses other than by comparing
// it whole or asking whether it is there. "" if there is none. What a name is
// handed on to (a list, a map, a function) could take it apart, and is refused
// without looking further.
func nameTakenApart(root ast.Expr) string {
	whole := map[int64]bool{}
	visit(root, func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case operators.Equals, operators.NotEquals:
			whole[args[0].ID()], whole[args[1].ID()] = true, true
		case operators.In:
			whole[args[0].ID()] = true
		}
	})
	found := ""
	visit(root, func(e ast.Expr) {
		if f := fieldOf(e); found == "" && nameFact(f) && !whole[e.ID()] && !e.AsSelect().IsTestOnly() {
			found = f
		}
	})
	return found
}

// openPattern finds a regular expression that a part of a value fits too, or
// that is no literal, so that nobody can tell.
func openPattern(root ast.Expr) (shown string, open bool) {
	visit(root, func(e ast.Expr) {
		if open || e.Kind() != ast.CallKind || e.AsCall().FunctionName() != overloads.Matches {
			return
		}
		args := e.AsCall().Args()
		last := args[len(args)-1]
		if last.Kind() != ast.LiteralKind {
			shown, open = "(no literal text)", true
			return
		}
		if text, ok := last.AsLiteral().(types.String); !ok || !wholePattern(string(text)) {
			shown, open = name(fmt.Sprint(last.AsLiteral().Value())), true
		}
	})
	return shown, open
}

// wholePattern reports whether a regular expression is anchored at both ends,
// around all of its alternatives: ^a|b$ is not.
func wholePattern(s string) bool {
	re, err := syntax.Parse(s, syntax.Perl)
	return err == nil && re.Op == syntax.OpConcat && re.Sub[0].Op == syntax.OpBeginText && re.Sub[len(re.Sub)-1].Op == syntax.OpEndText
}

// rests is a set of what the ways in which an expression can be true rest on:
// each way counts as the strongest of its conditions.
type rests uint8

const (
	onNothing rests = 1 << iota // constants, the platform, or that a fact is there
	onWeak                      // facts of weakFact only
	onStrong                    // a fact that the platform decides
)

// ways follows &&, ||, ! and ?: down to the single conditions, and says for both
// values that e can have, in one pass, what its ways rest on. condition says the
// same of a single condition.
func ways(e ast.Expr, condition func(ast.Expr) (whenTrue, whenFalse rests)) (whenTrue, whenFalse rests) {
	if e.Kind() != ast.CallKind {
		return condition(e)
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.LogicalNot:
		t, f := ways(args[0], condition)
		return f, t
	case operators.LogicalAnd:
		t1, f1 := ways(args[0], condition)
		t2, f2 := ways(args[1], condition)
		return together(t1, t2), f1 | f2
	case operators.LogicalOr:
		t1, f1 := ways(args[0], condition)
		t2, f2 := ways(args[1], condition)
		return t1 | t2, together(f1, f2)
	case operators.Conditional:
		t, f := ways(args[0], condition)
		t1, f1 := ways(args[1], condition)
		t2, f2 := ways(args[2], condition)
		return together(t, t1) | together(f, t2), together(t, f1) | together(f, f2)
	}
	return condition(e)
}

// together is what holds when one way of each holds.
func together(a, b rests) rests {
	var out rests
	for _, x := range []rests{onNothing, onWeak, onStrong} {
		for _, y := range []rests{onNothing, onWeak, onStrong} {
			if a&x != 0 && b&y != 0 {
				out |= max(x, y)
			}
		}
	}
	return out
}

// strongest is what one condition rests on, whatever its value: the strongest
// fact in it.
func strongest(root ast.Expr) (whenTrue, whenFalse rests) {
	out := onNothing
	visit(root, func(e ast.Expr) {
		switch f := fieldOf(e); {
		case f == "" || f == "platform" || e.AsSelect().IsTestOnly():
		case weakFact(f):
			out = max(out, onWeak)
		default:
			out = onStrong
		}
	})
	return out, out
}

// weakFactsIn lists the weak facts of a rule as it writes them, sorted.
func weakFactsIn(root ast.Expr) []string {
	var out []string
	visit(root, func(e ast.Expr) {
		if f := fieldOf(e); f != "" && weakFact(f) {
			out = append(out, jobVariable+"."+f)
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}
