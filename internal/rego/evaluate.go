package rego

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Bounds of an evaluation.
const (
	Deadline     = 5 * time.Second       // of one
	maxMemory    = 512 << 20             // bytes that the process may take more meanwhile
	grace        = 2 * time.Second       // for an evaluation that was told to end
	atOnce       = 2                     // evaluations
	maxKept      = 64                    // policies that are kept compiled
	maxSentences = 20                    // of a verdict that are told
	maxSentence  = 500                   // bytes of one of them
	maxOutput    = 64 << 10              // bytes of all of them together
	watchEvery   = 10 * time.Millisecond // the memory
)

// The codes of an Error that says nothing about the policy: it is evaluated later.
const (
	Busy = "policy_busy"
	Away = "policy_process_away"
)

// Nothing reports whether an outcome says nothing about the policy.
func (o Outcome) Nothing() bool { return o.Code == Busy || o.Code == Away }

// An Outcome is what came of an evaluation.
type Outcome struct {
	Verdict   lockkeeper.Verdict
	Code      string
	Sentence  string   // of an Error; without anything out of the input
	Sentences []string // of a Fail or a Wait: what the policy says, sorted
	More      int      // sentences that are not among them
}

// An Evaluator evaluates policies. It keeps those that it compiled.
type Evaluator struct {
	deadline time.Duration
	memory   uint64
	slots    chan struct{}
	over     func() // called when the memory is taken, beside the evaluation that takes it

	mu   sync.Mutex
	kept map[lockkeeper.Digest]*prepared
}

// prepared is a policy with the queries that make its verdict.
type prepared struct {
	queries map[string]opa.PreparedEvalQuery
	broken  string // why it does not compile; "": it does
}

// NewEvaluator makes an evaluator.
func NewEvaluator() *Evaluator {
	return &Evaluator{deadline: Deadline, memory: maxMemory, slots: make(chan struct{}, atOnce), kept: map[lockkeeper.Digest]*prepared{}}
}

func failed(code, format string, args ...any) Outcome {
	return Outcome{Verdict: lockkeeper.Error, Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// Evaluate gives the verdict of a policy's text over input, which is JSON. It returns
// within the deadline and a little, whatever the policy does.
func (e *Evaluator) Evaluate(ctx context.Context, text string, input []byte) Outcome {
	if len(input) > gate.MaxPolicyInput {
		return failed("policy_input_large", "The input has %d bytes, more than %d.", len(input), gate.MaxPolicyInput)
	}
	ctx, cancel := context.WithTimeout(ctx, e.deadline)
	defer cancel()
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return failed(Busy, "Other policies were being evaluated for all of %s.", e.deadline)
	}
	done := make(chan Outcome, 1)
	go func() {
		defer func() { <-e.slots }()
		done <- e.guarded(ctx, text, input)
	}()
	select {
	case out := <-done:
		return out
	case <-ctx.Done():
	}
	select {
	case out := <-done:
		return out
	case <-time.After(grace): // it keeps its place until it returns
		return failed("policy_timeout", "The policy took longer than %s, and could not be ended.", e.deadline)
	}
}

// guarded evaluates while something watches the memory of the process: OPA has no bound
// of its own for that. What else the process takes meanwhile counts too, on the safe side.
func (e *Evaluator) guarded(ctx context.Context, text string, input []byte) (out Outcome) {
	defer func() {
		if p := recover(); p != nil {
			out = failed("policy_broken", "The evaluation of the policy broke off.")
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	var large atomic.Bool
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		limit := heap() + e.memory
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if heap() > limit {
					if e.over != nil {
						e.over()
					}
					large.Store(true)
					cancel()
					return
				}
			}
		}
	}()
	defer func() { cancel(); <-watched }()
	out = e.evaluate(ctx, text, input)
	if large.Load() {
		return failed("policy_memory", "The policy took more than %d MiB of memory.", e.memory>>20)
	}
	if ctx.Err() != nil && out.Verdict == lockkeeper.Error {
		return failed("policy_timeout", "The policy took longer than %s.", e.deadline)
	}
	return out
}

func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func (e *Evaluator) evaluate(ctx context.Context, text string, input []byte) Outcome {
	p := e.prepare(ctx, text)
	if p.broken != "" {
		return failed("policy_broken", "The policy does not compile with %s: %s", Version, p.broken)
	}
	value, err := ast.ValueFromReader(strings.NewReader(string(input)))
	if err != nil {
		return failed("policy_input_broken", "The input is no JSON.")
	}
	says := map[string]any{}
	for rule, q := range p.queries {
		results, err := q.Eval(ctx, opa.EvalParsedInput(value), opa.EvalInterQueryBuiltinCache(nil))
		if err != nil {
			return failed("policy_error", "The rule %s of the policy cannot be decided: %s", rule, reason(err))
		}
		switch {
		case len(results) > 1 || len(results) == 1 && len(results[0].Expressions) != 1:
			return failed("policy_result", "The rule %s of the policy has more than one value.", rule)
		case len(results) == 1:
			says[rule] = results[0].Expressions[0].Value
		}
	}
	return verdict(p, says)
}

// verdict holds what the rules say against the contract.
func verdict(p *prepared, says map[string]any) Outcome {
	for _, rule := range []string{denyRule, waitRule} {
		if _, has := p.queries[rule]; !has {
			continue
		}
		list, bad := sentences(rule, says)
		if bad != nil {
			return *bad
		}
		if len(list) > 0 {
			out := Outcome{Verdict: lockkeeper.Fail, Code: "policy_denied", Sentences: list}
			if rule == waitRule {
				out.Verdict, out.Code = lockkeeper.Wait, "policy_waits"
			}
			out.More = max(len(list)-maxSentences, 0)
			out.Sentences = list[:len(list)-out.More]
			return out
		}
	}
	if _, has := p.queries[allowRule]; has {
		value, defined := says[allowRule]
		allowed, is := value.(bool)
		switch {
		case !defined:
			return Outcome{Verdict: lockkeeper.Fail, Code: "policy_denied", Sentences: []string{"Its rule allow is undefined."}}
		case !is:
			return failed("policy_result", "The rule allow of the policy is neither true nor false.")
		case !allowed:
			return Outcome{Verdict: lockkeeper.Fail, Code: "policy_denied", Sentences: []string{"Its rule allow is false."}}
		}
	}
	return Outcome{Verdict: lockkeeper.Pass, Code: "policy_passed"}
}

// sentences reads what deny or wait says, sorted and clipped.
func sentences(rule string, says map[string]any) ([]string, *Outcome) {
	value, defined := says[rule]
	list, is := value.([]any) // sets come as lists, too
	if !defined || !is {
		bad := failed("policy_result", "The rule %s of the policy is no set and no array.", rule)
		if !defined {
			bad.Sentence = fmt.Sprintf("The rule %s of the policy is undefined, which says neither yes nor no.", rule)
		}
		return nil, &bad
	}
	var out []string
	size := 0
	for _, v := range list {
		text, is := v.(string)
		if !is || strings.TrimSpace(text) == "" {
			bad := failed("policy_result", "The rule %s of the policy has something else than sentences in it.", rule)
			return nil, &bad
		}
		if size += len(text); size > maxOutput {
			bad := failed("policy_output", "The rule %s of the policy says more than %d bytes.", rule, maxOutput)
			return nil, &bad
		}
		out = append(out, clean(text))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// clean is a text on one line, without what a terminal would act on, and not too long.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if len(text) > maxSentence {
		text = strings.ToValidUTF8(text[:maxSentence], "") + "…"
	}
	return strings.TrimSpace(text)
}

// reason is OPA's reason with its code and place, and without values: these may be long.
func reason(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) {
		place := ""
		if e.Location != nil {
			place = fmt.Sprintf(" in line %d", e.Location.Row)
		}
		text := e.Message
		if i := strings.IndexAny(text, "\n{["); i >= 0 {
			text = text[:i]
		}
		return clean(strings.TrimSuffix(text, ".")) + place + "."
	}
	return "it breaks off."
}

// prepare compiles a text, or finds it compiled.
func (e *Evaluator) prepare(ctx context.Context, text string) *prepared {
	key := lockkeeper.DigestOf([]byte(text))
	e.mu.Lock()
	p := e.kept[key]
	e.mu.Unlock()
	if p != nil {
		return p
	}
	p = &prepared{queries: map[string]opa.PreparedEvalQuery{}}
	m, problems := compile(text, "")
	if len(problems) > 0 {
		p.broken = problems[0].Sentence
	} else {
		for _, rule := range []string{denyRule, waitRule, allowRule} {
			if !m.has(rule) {
				continue
			}
			q, err := opa.New(opa.Query(m.path+"."+rule), opa.Compiler(m.compiler), opa.StrictBuiltinErrors(true)).PrepareForEval(ctx)
			if err != nil {
				if ctx.Err() == nil {
					p.broken = "Its rule " + rule + " cannot be asked for."
					break
				}
				return &prepared{broken: "It was not compiled in time."}
			}
			p.queries[rule] = q
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.kept) >= maxKept {
		clear(e.kept)
	}
	e.kept[key] = p
	return p
}
