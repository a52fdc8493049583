package effect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/rego"
)

const judging = `
{kind: User, name: dev, ids: [{provider: ci, id: "1001"}]}
---
{kind: Assignment, name: dev, role: release-manager, principal: user:dev, scope: /projects/p}
---
{kind: Provider, name: ci, platform: github, issuer: "https://ci.example"}
---
{kind: Pipeline, name: ship, project: p, provider: ci, organisation: "7", repository: "8", definition: ship.yml, stages: [
  {name: build, evidence: [tests], trust: {events: [push], refs: [refs/heads/main]}},
  {name: deploy, trust: {environment: checked, events: [push], refs: [refs/heads/main]}}]}
---
{kind: Identity, name: checked, project: p, environment: checked, audiences: ["https://target.example"], stages: [ship/deploy]}
---
{kind: Environment, name: checked, project: p, tier: development, checks: [%s]}
---
kind: Policy
name: tested
rego: |
%s
`

const testedRego = `
  package release

  deny contains sprintf("%s has failed tests.", [a.name]) if {
    some a in input.artifacts
    some e in a.evidence
    e.newest
    e.tests.failed + e.tests.erred > 0
  }

  deny contains sprintf("%s has no tests.", [a.name]) if {
    some a in input.artifacts
    not tested(a)
  }

  tested(a) if {
    some e in a.evidence
    e.fresh
    e.tests.passed > 0
  }
`

const testedCheck = "{name: rules, policy: {name: tested}}"

func ruling(checks, text string) string { return fmt.Sprintf(judging, checks, text) }

// referees lets a referee run until stop is called, or the test ends.
func (s *stage) referees(e PolicyEvaluator) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		NewReferee(s.k, e, nil).Run(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		<-done
	}
	s.Cleanup(stop)
	return stop
}

// job is one of the pipeline ship; in an environment it is the deploying stage's.
func (s *stage) job(token, environment string) lockkeeper.Workload {
	f, now := lockkeeper.SignedFact, lockkeeper.MomentOf(time.Now().Add(time.Duration(s.ahead.Load())))
	j := lockkeeper.Workload{Provider: "ci", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", s.Name()+token), Issued: now, Expires: now.Add(5 * time.Minute),
		Organisation: f("7"), Repository: f("8"), RepositoryName: f("acme/p"), Run: f("1"), Attempt: 1, Job: f("2"), Event: f("push"), Ref: f("refs/heads/main"), RefType: f("branch"),
		Commit: f(strings.Repeat("1", 40)), Runner: f("hosted"), DefinitionPath: f("ship.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f(strings.Repeat("1", 40)), Actor: f("1001")}
	if environment != "" {
		j.Environment = f(environment)
	}
	return j
}

// tests brings results of tests about app.
func (s *stage) tests(token string, failed int) {
	s.Helper()
	bad := strings.Repeat(`<testcase name="bad"><failure/></testcase>`, failed)
	_, err := s.k.AddEvidence(context.Background(), s.job(token, ""), "", keeper.AddEvidence{Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}},
		Pieces: []keeper.Piece{{Kind: "tests", Content: []byte(`<testsuite name="s"><testcase name="good"/>` + bad + `</testsuite>`)}}})
	s.must(err)
}

// claims tries to claim a deployment that was asked for by the job of token.
func (s *stage) claims(id string) error {
	return s.k.Claim(context.Background(), s.job("", "checked"), id, "h")
}

func (s *stage) gate(id string) lockkeeper.Decision {
	s.Helper()
	v, err := s.k.Deployment(context.Background(), dora, id)
	s.must(err)
	for _, d := range v.Gate.Because {
		if d.Subject == "check rules" {
			return d
		}
	}
	s.Fatalf("%+v", v.Gate)
	return lockkeeper.Decision{}
}

// The whole way of a policy: no, then yes over new evidence, then the claim; and nothing
// in between but what is said of what is known.
func TestPolicyRules(t *testing.T) {
	s := staged(t, ruling(testedCheck, testedRego))
	stop := s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	if said := s.gated(id, "policy_denied"); !strings.Contains(said, "app has no tests.") {
		t.Error(said)
	}
	s.want(s.claims(id), "policy_denied")
	s.tests("good", 0)
	s.gated(id, "policy_passed")
	stop()

	// What was said holds only of what was known: it is enough that something comes.
	s.tests("bad", 1)
	if d := s.gate(id); d.Code != "policy_unjudged" || d.Verdict != lockkeeper.Wait {
		t.Errorf("%+v", d)
	}
	s.want(s.claims(id), "policy_unjudged")
	stop = s.referees(rego.NewEvaluator())
	if said := s.gated(id, "policy_denied"); !strings.Contains(said, "failed tests") {
		t.Error(said)
	}
	s.tests("better", 0)
	s.gated(id, "policy_passed")
	stop()

	// It holds for its time alone.
	s.ahead.Store(int64(16 * time.Minute))
	if d := s.gate(id); d.Code != "policy_stale" {
		t.Errorf("%+v", d)
	}
	s.ahead.Store(0)
	s.referees(rego.NewEvaluator())
	s.gated(id, "policy_passed")
	s.must(s.claims(id))
}

// Of a ruling counts what the policy saw: one about what is not known any more, one of
// another time, and one brought twice change nothing.
func TestGates19Rulings(t *testing.T) {
	s := staged(t, ruling(testedCheck, testedRego))
	id := s.deploys(nil)
	due := s.k.Rulings()
	if len(due) != 1 || due[0].Deployment != id || due[0].Policy != "tested" {
		t.Fatalf("%+v", due)
	}
	o := due[0]
	pass := func(change func(*keeper.OpenRuling)) error {
		r := o
		r.Ruling.Verdict, r.Ruling.Code, r.Ruling.Evaluator = lockkeeper.Pass, "policy_passed", "forged"
		change(&r)
		return s.k.ReportRuling(context.Background(), r)
	}
	size := func() int64 { return s.k.Size() }
	begun := size()
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.Facts = "sha256:other" }), "ruling_late")
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.Policy = "sha256:other" }), "ruling_late")
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.Check = "other" }), "ruling_late")
	s.want(pass(func(r *keeper.OpenRuling) { r.Deployment = "d-other" }), "ruling_over")
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.At = r.Ruling.At.Add(-2 * time.Minute) }), "ruling_malformed")
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.At = r.Ruling.At.Add(time.Hour) }), "ruling_malformed")
	s.want(pass(func(r *keeper.OpenRuling) { r.Ruling.Verdict = "maybe" }), "ruling_malformed")
	s.tests("good", 0)
	s.want(pass(func(*keeper.OpenRuling) {}), "ruling_late")
	if d := s.gate(id); d.Code != "policy_unjudged" {
		t.Errorf("%+v", d)
	}
	o = s.k.Rulings()[0]
	s.must(pass(func(*keeper.OpenRuling) {}))
	after := size()
	s.must(pass(func(*keeper.OpenRuling) {}))
	if size() != after {
		t.Error("a ruling that was brought twice is written down twice")
	}
	if d := s.gate(id); d.Code != "policy_passed" || begun == after {
		t.Errorf("%+v", d)
	}
}

// A policy that is loosened while an ask waits helps it no more than any other change.
func TestPolicyLoosened(t *testing.T) {
	s := staged(t, ruling(testedCheck, testedRego))
	s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	s.gated(id, "policy_denied")
	s.apply(ruling(testedCheck, "\n  package release\n\n  allow := true\n"))
	s.gated(id, "policy_passed")
	s.want(s.claims(id), "policy_denied")
	s.tests("good", 0)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := s.claims(id)
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

// And one that is tightened holds at once.
func TestPolicyTightened(t *testing.T) {
	s := staged(t, ruling(testedCheck, "\n  package release\n\n  allow := true\n"))
	stop := s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	s.gated(id, "policy_passed")
	stop()
	s.apply(ruling(testedCheck, testedRego))
	s.want(s.claims(id), "policy_unjudged")
	s.referees(rego.NewEvaluator())
	s.gated(id, "policy_denied")
	s.want(s.claims(id), "policy_denied")
}

// A policy without a verdict passes nothing and says why; it is written down once.
func TestPolicyWithoutVerdict(t *testing.T) {
	s := staged(t, ruling(testedCheck, "\n  package release\n\n  deny := \"no\"\n"))
	s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	if said := s.gated(id, "policy_result"); !strings.Contains(said, "no set") {
		t.Error(said)
	}
	s.want(s.claims(id), "policy_result")
	if n := s.k.Ruled()[lockkeeper.Error]; n != 1 {
		t.Errorf("%d rulings without verdict", n)
	}
}

// In shadow a policy is judged and stops nothing; soft, an override would waive it.
func TestPolicyInShadow(t *testing.T) {
	s := staged(t, ruling("{name: rules, shadow: true, policy: {name: tested}}", testedRego))
	s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		d := s.gate(id)
		if d.Code == gate.ObservedFail && strings.Contains(d.Sentence, "app has no tests.") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%+v", d)
		}
	}
	s.must(s.claims(id))
}

// Invariant 30: each ruling can be given again from the journal alone. The policy saw
// what the journal says was known, and says the same of it.
func TestGates30PoliciesReplay(t *testing.T) {
	s := staged(t, ruling(testedCheck, testedRego))
	stop := s.referees(rego.NewEvaluator())
	id := s.deploys(nil)
	s.gated(id, "policy_denied")
	s.tests("bad", 2)
	for s.gate(id).Code != "policy_denied" || !strings.Contains(s.gate(id).Sentence, "failed tests") {
		time.Sleep(10 * time.Millisecond)
	}
	s.tests("good", 0)
	s.gated(id, "policy_passed")
	s.must(s.claims(id))
	stop()
	again := func(o keeper.WhatIfOptions) keeper.WhatIf {
		t.Helper()
		k, err := s.k.Trust().Verifier()
		s.must(err)
		r, err := journal.OpenReader(context.Background(), s.dir, "", k)
		s.must(err)
		defer r.Close()
		o.Most = 10
		out, err := keeper.DecideAgain(context.Background(), r, o)
		s.must(err)
		return out
	}
	asked := 0
	evaluate := func(ctx context.Context, text string, input []byte) gate.Ruling {
		asked++
		out := rego.NewEvaluator().Evaluate(ctx, text, input)
		return gate.Ruling{Evaluator: rego.Version, Verdict: out.Verdict, Code: out.Code, Sentences: out.Sentences, More: out.More}
	}
	if out := again(keeper.WhatIfOptions{Evaluate: evaluate}); len(out.Differs) > 0 || asked < 3 || out.Unknowable["evaluator"] > 0 {
		t.Errorf("asked %d times: %s %+v", asked, out, out.Differs)
	}
	lies := func(ctx context.Context, text string, input []byte) gate.Ruling {
		r := evaluate(ctx, text, input)
		r.Sentences = append(r.Sentences, "and more")
		return r
	}
	if out := again(keeper.WhatIfOptions{Evaluate: lies}); out.Refused < 3 || out.Differs[0].Code != "policy_says_other" {
		t.Errorf("%s %+v", out, out.Differs)
	}
	older := func(ctx context.Context, text string, input []byte) gate.Ruling {
		r := lies(ctx, text, input)
		r.Evaluator = "opa/9.9.9"
		return r
	}
	if out := again(keeper.WhatIfOptions{Evaluate: older}); out.Refused > 0 || out.Unknowable["evaluator"] < 3 {
		t.Errorf("%s %+v", out, out.Differs)
	}

	// Under another policy the claim is decided over what was known then.
	other := func(text string) *catalog.Catalog {
		c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(governance + ruling(testedCheck, text))}})
		s.must(problems.Err())
		return c
	}
	strict := other("\n  package release\n\n  deny contains \"never\" if input.ask.ref == \"refs/heads/main\"\n")
	out := again(keeper.WhatIfOptions{Rules: strict, Evaluate: evaluate})
	if out.Refused != 1 || out.Differs[0].Code != "policy_denied" {
		t.Errorf("%s %+v", out, out.Differs)
	}
	if out := again(keeper.WhatIfOptions{Rules: strict}); out.Refused != 0 || out.Unknowable["policy"] != 1 {
		t.Errorf("%s %+v", out, out.Differs)
	}
}

// What a policy sees is told to whoever may look at the deployment.
func TestPolicyInputs(t *testing.T) {
	s := staged(t, ruling(testedCheck, testedRego))
	s.tests("good", 0)
	id := s.deploys(nil)
	list, err := s.k.PolicyInputs(dora, id, "")
	s.must(err)
	in := string(list[0].Input)
	for _, part := range []string{`"passed":1`, `"ref":"refs/heads/main"`, `"protected":""`, `"user":"dev"`, `"newest":true`, `"held":[]`, `"stage":"build"`} {
		if !strings.Contains(in, part) {
			t.Errorf("%s is not in %s", part, in)
		}
	}
	if out := rego.NewEvaluator().Evaluate(context.Background(), testedRego, list[0].Input); out.Verdict != lockkeeper.Pass {
		t.Errorf("%+v", out)
	}
	_, err = s.k.PolicyInputs(dora, id, "other")
	s.want(err, "policy_none")
	if _, err := s.k.PolicyInputs(keeper.Caller{User: "ann"}, id, ""); lockkeeper.RefusalOf(err) == nil {
		t.Errorf("ann sees it: %v", err)
	}
	if os.Getenv("WRITE_EXAMPLE") != "" {
		s.must(os.WriteFile(filepath.Join(os.TempDir(), "input.json"), list[0].Input, 0o600))
	}
}
