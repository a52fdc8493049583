package catalog

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// What criteria can call beside CEL's own: services write numbers as text, and
// instants in more ways than one.
//
//	number(x)   a finite number out of a number, or out of text that is one in decimal
//	instant(x)  a timestamp out of RFC 3339, the same with an offset without a colon,
//	            or seconds since 1970
//
// Everything else is an error, so that it is never a yes.
func criteriaFunctions() []cel.EnvOption {
	unary := func(name string, result *cel.Type, f func(any) (ref.Val, error)) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_dyn", []*cel.Type{cel.DynType}, result, cel.UnaryBinding(func(v ref.Val) ref.Val {
			out, err := f(v.Value())
			if err != nil {
				return types.NewErr("%s: %v", name, err)
			}
			return out
		})))
	}
	return []cel.EnvOption{
		unary("number", cel.DoubleType, func(v any) (ref.Val, error) {
			n, err := finiteNumber(v)
			return types.Double(n), err
		}),
		unary("instant", cel.TimestampType, func(v any) (ref.Val, error) {
			t, err := readInstant(v)
			return types.Timestamp{Time: t}, err
		}),
	}
}

// maxNumberText bounds a number or an instant that is written as text, in bytes.
const maxNumberText = 64

func finiteNumber(v any) (float64, error) {
	var n float64
	switch v := v.(type) {
	case float64:
		n = v
	case int64:
		n = float64(v)
	case uint64:
		n = float64(v)
	case string:
		if !decimal(v) {
			return 0, fmt.Errorf("the text is no number")
		}
		var err error
		if n, err = strconv.ParseFloat(v, 64); err != nil {
			return 0, fmt.Errorf("the text is no number that can be held")
		}
	default:
		return 0, fmt.Errorf("it is no number")
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("it is not finite")
	}
	return n, nil
}

// decimal reports whether text is a number in decimal, as JSON writes it or with a plus.
func decimal(s string) bool {
	if s == "" || len(s) > maxNumberText {
		return false
	}
	digits := false
	for i, c := range s {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c == '.', (c == '+' || c == '-') && (i == 0 || s[i-1] == 'e' || s[i-1] == 'E'), (c == 'e' || c == 'E') && digits:
		default:
			return false
		}
	}
	return digits
}

func readInstant(v any) (time.Time, error) {
	text, is := v.(string)
	if !is {
		n, err := finiteNumber(v)
		if err != nil || math.Abs(n) > 1e11 { // so many would be milliseconds
			return time.Time{}, fmt.Errorf("it is no instant, and no seconds since 1970")
		}
		whole, part := math.Modf(n)
		return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} {
		if t, err := time.Parse(layout, text); len(text) <= maxNumberText && err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("the text is no instant with an offset")
}

// OfAnyAsk reports whether the question says nothing of the ask but where it goes, so
// that an answer to it is one about another ask to the same environment, too.
func (c CallCheck) OfAnyAsk() bool {
	if c.Callback || c.Service.Verb() != "GET" {
		return false
	}
	anybodys := []string{"now", "utc", "project", "environment"}
	for _, p := range Places(c.Service.URL) {
		if _, past := PastPlace(p); !past && !slices.Contains(anybodys, p) {
			return false
		}
	}
	env, err := criteriaEnvironment()
	if err != nil {
		return false
	}
	checked, issues := env.Compile(c.Service.Criteria)
	if issues.Err() != nil {
		return false
	}
	named, plain := 0, 0 // times that ask is named, and of these for what is anybody's
	ast.PostOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case e.Kind() == ast.IdentKind && e.AsIdent() == askVariable:
			named++
		case e.Kind() == ast.SelectKind && e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == askVariable && slices.Contains(anybodys, e.AsSelect().FieldName()):
			plain++
		}
	}))
	return named == plain
}
