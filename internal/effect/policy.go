package effect

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/rego"
)

// A PolicyEvaluator gives the verdict of a policy's text over an input.
type PolicyEvaluator interface {
	Evaluate(ctx context.Context, text string, input []byte) rego.Outcome
}

// A Referee evaluates the policies that waiting asks hang on, one after the other, and
// reports what came of them. It keeps nothing that matters: what it did not report is
// due again. A report about what has changed meanwhile is refused, and the policy
// evaluated anew.
type Referee struct {
	keeper    *keeper.Keeper
	evaluator PolicyEvaluator
	log       *slog.Logger

	mu    sync.Mutex
	again map[string]time.Time // when what failed is tried again
}

// refereePause is after which time a policy that gave no verdict is tried again.
const refereePause = time.Minute

// NewReferee makes a referee. It does nothing before Run.
func NewReferee(k *keeper.Keeper, e PolicyEvaluator, log *slog.Logger) *Referee {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Referee{keeper: k, evaluator: e, log: log, again: map[string]time.Time{}}
}

// Run evaluates until ctx ends or the keeper stops.
func (r *Referee) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := r.keeper.Changed()
		r.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-r.keeper.Done():
			return
		case <-tick.C:
		case <-changed:
			if !pause(ctx, lookPause) { // many commits, one look
				return
			}
		}
	}
}

func (r *Referee) look(ctx context.Context) {
	due := r.keeper.Rulings()
	now := time.Now()
	r.mu.Lock()
	for key, at := range r.again {
		if !now.Before(at) {
			delete(r.again, key)
		}
	}
	r.mu.Unlock()
	for _, o := range due {
		r.mu.Lock()
		_, later := r.again[o.Key()]
		r.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if !later {
			r.rule(ctx, o)
		}
	}
}

// rule evaluates one policy and reports it.
func (r *Referee) rule(ctx context.Context, o keeper.OpenRuling) {
	log := r.log.With("deployment", o.Deployment, "check", o.Ruling.Check, "policy", o.Policy)
	out := r.outcome(ctx, o)
	if ctx.Err() != nil {
		return // we are stopping, and it says nothing about the policy
	}
	if out.Verdict == lockkeeper.Error {
		log.Warn("a policy gave no verdict", "code", out.Code, "reason", out.Sentence)
		r.mu.Lock()
		r.again[o.Key()] = time.Now().Add(refereePause)
		r.mu.Unlock()
	}
	if out.Nothing() {
		return
	}
	o.Ruling.Evaluator = rego.Version
	o.Ruling.Verdict, o.Ruling.Code, o.Ruling.Sentence = out.Verdict, out.Code, out.Sentence
	o.Ruling.Sentences, o.Ruling.More = out.Sentences, out.More
	reporting, done := context.WithTimeout(context.WithoutCancel(ctx), reportPatience)
	defer done()
	if err := r.keeper.ReportRuling(reporting, o); err != nil && ctx.Err() == nil {
		log.Info("what came of a policy does not count", "error", err)
	}
}

func (r *Referee) outcome(ctx context.Context, o keeper.OpenRuling) rego.Outcome {
	if o.Input == nil {
		return rego.Outcome{Verdict: lockkeeper.Error, Code: "policy_input_large", Sentence: "What the policy would see is too large."}
	}
	text, err := r.keeper.PolicyText(ctx, o.Ruling.Policy)
	if err != nil {
		return rego.Outcome{Verdict: lockkeeper.Error, Code: "policy_unknown", Sentence: "The text of the policy is not to be had."}
	}
	return r.evaluator.Evaluate(ctx, text, o.Input)
}
