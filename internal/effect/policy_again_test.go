package effect

import (
	"context"
	"testing"

	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/rego"
)

// under decides again what the journal has, under other rules and with policies.
func (s *stage) under(rules string) keeper.WhatIf {
	s.Helper()
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(governance + rules)}})
	s.must(problems.Err())
	k, err := s.k.Trust().Verifier()
	s.must(err)
	r, err := journal.OpenReader(context.Background(), s.dir, "", k)
	s.must(err)
	defer r.Close()
	out, err := keeper.DecideAgain(context.Background(), r, keeper.WhatIfOptions{Rules: c, Most: 10, Evaluate: func(ctx context.Context, text string, input []byte) gate.Ruling {
		out := rego.NewEvaluator().Evaluate(ctx, text, input)
		return gate.Ruling{Evaluator: rego.Version, Verdict: out.Verdict, Code: out.Code, Sentences: out.Sentences, More: out.More}
	}})
	s.must(err)
	return out
}

// A policy without a verdict makes unknowable what hangs on it, and nothing else: not
// what it only watches, and not what another check refuses.
func TestPolicyUnknowable(t *testing.T) {
	const allows, none = "\n  package release\n\n  allow := true\n", "\n  package other\n\n  deny := \"no\"\n"
	s := staged(t, ruling(testedCheck, allows))
	stop := s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	s.gated(id, "policy_passed")
	s.must(s.claims(id))
	stop()
	second := func(check, first string) string {
		return ruling(testedCheck+", "+check, first) + "\n---\nkind: Policy\nname: other\nrego: |\n" + none
	}
	if out := s.under(second("{name: second, policy: {name: other}}", allows)); out.Unknowable["policy"] != 1 || out.Refused+out.Waits > 0 {
		t.Errorf("hanging on it: %s %+v", out, out.Differs)
	}
	if out := s.under(second("{name: second, shadow: true, policy: {name: other}}", allows)); out.Unknowable["policy"] != 0 || out.Refused+out.Waits > 0 {
		t.Errorf("only watched: %s %+v", out, out.Differs)
	}
	never := "\n  package release\n\n  deny contains \"never\"\n"
	if out := s.under(second("{name: second, policy: {name: other}}", never)); out.Unknowable["policy"] != 0 || out.Refused != 1 || out.Differs[0].Code != "policy_denied" {
		t.Errorf("refused by another: %s %+v", out, out.Differs)
	}
}
