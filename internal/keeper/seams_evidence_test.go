package keeper

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// What nobody lets a job bring is not read: a public platform gives tokens to everybody.
func TestUnwelcomeEvidenceIsNotRead(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	k, _ := startedWith(t, provenRules(newSigningKey(t).pem), Options{Clock: func() time.Time { return now }})
	add := func(w lockkeeper.Workload) error {
		_, err := k.AddEvidence(ctx, w, "key", AddEvidence{Artifacts: []lockkeeper.Artifact{app}, Pieces: []Piece{unit("<testsuite")}})
		return err
	}
	stranger := workload(1, "1", "10", "", "1001", "push", 1, lockkeeper.MomentOf(now))
	stranger.Repository = lockkeeper.SignedFact("9999")
	if err := add(stranger); lockkeeper.KindOf(err) != lockkeeper.Forbidden || codeOf(err) == "evidence_unreadable" {
		t.Errorf("a stranger: %v", err)
	}
	want(t, add(workload(2, "1", "10", "test", "1001", "push", 1, lockkeeper.MomentOf(now))), "evidence_not_admitted")
}

// What the documents said is kept once, and not again for whoever asks with the same key.
func TestEvidenceIsKeptOnce(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	k, _ := startedWith(t, provenRules(newSigningKey(t).pem), Options{Clock: func() time.Time { return now }})
	var many strings.Builder
	for i := range 20 {
		fmt.Fprintf(&many, `<testcase name="%s-%d"><failure/></testcase>`, strings.Repeat("long", 100), i)
	}
	w := workload(1, "1", "10", "", "1001", "push", 1, lockkeeper.MomentOf(now))
	var ids []string
	for range 2 {
		out, err := k.AddEvidence(ctx, w, "key", AddEvidence{Artifacts: []lockkeeper.Artifact{app}, Pieces: []Piece{unit("<testsuite>" + many.String() + "</testsuite>")}})
		must(t, err)
		if len(out.Evidence) != 1 || out.Evidence[0].Summary.Tests == nil || out.Evidence[0].Summary.Tests.Failed != 20 {
			t.Fatalf("the answer is %+v", out)
		}
		ids = append(ids, out.Evidence[0].ID)
	}
	if ids[0] != ids[1] {
		t.Errorf("a retry gave another piece: %v", ids)
	}
	for key, a := range k.state.Answers {
		if len(a.JSON) > 2000 {
			t.Errorf("of %s %d bytes are remembered", key, len(a.JSON))
		}
	}
}

// What a document says of an instant that lies ahead would never grow old.
func TestEvidenceFromTheFuture(t *testing.T) {
	ahead := began.Add(time.Hour)
	for name, s := range map[string]evidence.Summary{
		"the document":             {Kind: evidence.Tests, Made: ahead},
		"a statement":              {Kind: evidence.VEX, Statements: []evidence.Statement{{At: began}, {At: ahead}}},
		"the tool's knowledge":     {Kind: evidence.Vulnerabilities, Vulnerabilities: &evidence.Report{Database: ahead}},
		"a vulnerability":          {Kind: evidence.Vulnerabilities, Vulnerabilities: &evidence.Report{Findings: []evidence.Finding{{Published: ahead}}}},
		"the report's own verdict": {Kind: evidence.Vulnerabilities, Vulnerabilities: &evidence.Report{Findings: []evidence.Finding{{At: ahead}}}},
	} {
		p := readPiece{Name: "main", Summary: s}
		_, err := p.fits([]lockkeeper.Artifact{app}, began)
		if codeOf(err) != "evidence_from_future" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.fits([]lockkeeper.Artifact{app}, ahead); err != nil {
			t.Errorf("%s, an hour later: %v", name, err)
		}
	}
}

// A stage that floods the evidence of its project makes the gate forget nothing that
// another one said.
func TestFloodOfEvidence(t *testing.T) {
	s := newState()
	put := func(id, stage string, weight int) {
		s.addEvidence("p", Kept{Evidence: gate.Evidence{ID: id, Pipeline: "release", Stage: stage, Artifacts: []lockkeeper.Artifact{app}}, Weight: weight})
	}
	put("bad", "scan", 1<<20)
	for i := range 3 * maxEvidenceWeight >> 20 {
		put(fmt.Sprint(i), "build", 1<<20)
	}
	list := s.evidenceOf(lockkeeper.Ask{Project: "p", Artifacts: []lockkeeper.Artifact{app}})
	if list[0].ID != "bad" || list[len(list)-1].ID != fmt.Sprint(3*maxEvidenceWeight>>20-1) || len(list) != maxEvidenceWeight>>20 || len(s.Evidence["p"]) != len(list) {
		t.Errorf("%d pieces are kept, from %s to %s", len(list), list[0].ID, list[len(list)-1].ID)
	}
}

// bring brings tests of the artifact in a run that somebody started.
func (c *deploying) bring(actor string, at time.Duration) error {
	c.t.Helper()
	j := c.job("7", fmt.Sprint("7", c.n), "", actor, at)
	s := evidence.Summary{Kind: evidence.Tests, Tests: &evidence.TestResults{Suites: 1, Total: 2, Passed: 2}}
	return c.as(Caller{Workload: &j}, addEvidence{Job: j, Artifacts: []lockkeeper.Artifact{app}, Pieces: []readPiece{{ID: fmt.Sprint("ev-", c.n), Name: "unit", Summary: s, Content: app.Digest}}}, at)
}

// Evidence that a quarantined person's run brought lets nothing through while the
// incident is open.
func TestQuarantinedEvidence(t *testing.T) {
	key := newSigningKey(t).pem
	text := strings.Replace(provenRules(key), "  - {name: provenance, provenance: {signers: [ci], source: \"https://git.example.com/payments\", level: 2}}\n", "", 1)
	text += "\n---\n{kind: Assignment, name: responding, role: organisation-administrator, principal: user:cat, scope: /}\n" // who closes it
	for who, code := range map[string]string{"user:bob": "evidence_held", "user:eve": ""} {
		c := deployCore(t, text)
		must(t, c.bring("1002", 0)) // bob
		must(t, c.ask("d-1", "test", "", []lockkeeper.Artifact{app}, time.Second))
		must(t, c.user("dora", openIncident{ID: "i-1", Title: "stolen", Mode: BestEffort, Quarantine: quarantines(t, who)}, 2*time.Second))
		if got := saying(c.claim("d-1", c.job("d-1", "1", "test", "1001", 3*time.Second), 3*time.Second)); got != code {
			t.Errorf("%s: %q, want %q", who, got, code)
		}
	}
}

// A signer that only the check of then names is known still: a catalog that no longer
// asks for a signature does not hold up an ask that has it.
func TestSignersOfTerms(t *testing.T) {
	key := newSigningKey(t).pem
	text := provenRules(key)
	c := deployCore(t, text)
	must(t, c.bring("1001", 0))
	j := c.job("7", "71", "", "1001", 0)
	trust := c.rules.Catalog.Signers["ci"].Trust()
	s := evidence.Summary{Kind: evidence.Attestation, Attestation: &evidence.Attested{PredicateType: "https://slsa.dev/provenance/v1", Predicate: []byte("{}"), Signers: []evidence.SignedBy{{Signer: "ci", Key: trust}},
		Provenance: &evidence.Provenance{Builder: "https://build.example.com/a", Sources: []evidence.Source{{Repository: "https://git.example.com/payments", Commit: headOf}}}}}
	must(t, c.as(Caller{Workload: &j}, addEvidence{Job: j, Artifacts: []lockkeeper.Artifact{app}, Pieces: []readPiece{{ID: "ev-a", Name: "main", Summary: s, Content: app.Digest}}}, 0))
	must(t, c.ask("d-1", "test", "", []lockkeeper.Artifact{app}, time.Second))
	c.rules = mustRules(t, strings.Replace(text, "  - {name: provenance, provenance: {signers: [ci], source: \"https://git.example.com/payments\", level: 2}}\n", "", 1))
	must(t, c.claim("d-1", c.job("d-1", "1", "test", "1001", 2*time.Second), 2*time.Second))
}

// Votes on overrides lapse with the eligibility that they were given under, like those
// on deployments.
func TestOverrideVotesLapse(t *testing.T) {
	c := overriding(t)
	must(t, c.asks("ann", "o-a", all, 2*time.Second))
	must(t, c.says("oz", "o-a", true, 3*time.Second))
	c.Deployments["d-a"].Overrides[0].Votes[0].Activation, c.Deployments["d-a"].Overrides[0].Votes[0].Role = "a-gone", "release-manager"
	c.rules = mustRules(t, strings.Replace(overrideRules(), "[oz, oz-2, ola, una, ann-admin]", "[oz-2, ola, una, ann-admin]", 1))
	if found := c.orphans(func(string) bool { return true }, began.Add(4*time.Second)); len(found) != 1 || found["a-gone"].why == "" {
		t.Errorf("votes that lapse: %v", found)
	}
}

// What an override let through is remembered with what it waived, and asked for it again
// when it is put back.
func TestWaivedIsRemembered(t *testing.T) {
	tests := "  - {name: tests, tests: {names: [unit]}, soft: true}\n"
	c := deployCore(t, strings.NewReplacer("  - name: office\n", tests+"  - name: office\n", "  - name: build\n    trust", "  - name: build\n    evidence: [tests]\n    trust").Replace(overrideRules()))
	c.waiting("1")
	for _, user := range []string{"ann", "oz", "una"} {
		c.shown(user, true, time.Second)
	}
	for _, user := range []string{"bob", "cat"} {
		must(t, c.approve(user, "d-a", time.Second))
	}
	must(t, c.asks("ann", "o-a", append([]string{"tests"}, all...), 2*time.Second))
	must(t, c.says("oz", "o-a", true, 3*time.Second))
	must(t, c.says("una", "o-a", true, 4*time.Second))
	must(t, c.approve("eve", "d-a", 5*time.Second))
	must(t, c.claimA(6*time.Second))
	c.done("d-a", 0, time.Minute)
	good := c.Good[production]
	if len(good) != 1 || fmt.Sprint(good[0].Waived) != "[tests desk office]" {
		t.Fatalf("good: %+v", good)
	}
	j := c.job("2", "21", "production", "1001", 2*time.Minute)
	must(t, c.as(Caller{Workload: &j}, openDeployment{ID: "d-b", Job: j, Action: lockkeeper.RedeployAction, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, 2*time.Minute))
	f, err := c.facts(c.Deployments["d-b"], began.Add(2*time.Minute))
	must(t, err)
	for _, b := range gate.Judge(f, began.Add(2*time.Minute)).Because {
		if b.Subject == "check tests" && b.Code != "evidence_missing" {
			t.Errorf("once more: %s %s", b.Code, b.Sentence)
		}
	}
}

// What it takes to override is not made easier for an ask that waits: not by asking fewer
// persons, and not by letting any do so at all.
func TestOverrideAsOpened(t *testing.T) {
	three := strings.Replace(overrideRules(), "override: {groups", "override: {count: 3, groups", 1)
	none := strings.Replace(overrideRules(), "override: {groups: [overriders], reviewers: {groups: [auditors]}}\n", "", 1)
	for name, text := range map[string]string{"fewer persons": three, "none before": none} {
		c := deployCore(t, text)
		c.waiting("1")
		c.shown("ann", true, time.Second)
		c.rules = mustRules(t, overrideRules())
		if got := saying(c.asks("ann", "o-a", []string{"office"}, 2*time.Second)); got != "override_outdated" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
