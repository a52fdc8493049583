package keeper

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"pgregory.net/rapid"
)

// provenRules are the rules with a test environment that demands tests and provenance.
func provenRules(key string) string {
	return strings.NewReplacer(
		"  - name: build\n    trust: {events: [push, schedule]", "  - name: build\n    evidence: [tests, attestation]\n    trust: {events: [push, schedule]",
		"patience: 30m\n", `patience: 30m
checks:
  - {name: tests, tests: {names: [unit], least: 2, age: 10m}}
  - {name: provenance, provenance: {signers: [ci], source: "https://git.example.com/payments", level: 2}}
`).Replace(rulesWith("<more>", "\n---\n{kind: Signer, name: ci, key: "+string(marshalText(key))+", builders: [{id: \"https://build.example.com/a\", level: 2}]}\n---\n{kind: Project, name: other}"))
}

func marshalText(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

// startedWith opens a keeper whose first catalog is the text.
func startedWith(t *testing.T, text string, o Options) (*Keeper, string) {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	o.Dir, o.Issuer = dir, "https://lockkeeper.example"
	k, err := Open(ctx, o)
	must(t, err)
	t.Cleanup(func() { k.Close() })
	code, err := k.MakeSetupCode(ctx)
	must(t, err)
	must(t, k.SetUp(ctx, code, "dora", "a password of dora"))
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 1, "first")
	must(t, err)
	return k, dir
}

// A signingKey signs statements, as a build platform does.
type signingKey struct {
	private ed25519.PrivateKey
	pem     string
}

func newSigningKey(t *testing.T) signingKey {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return signingKey{private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// provenance is a signed statement of SLSA provenance about an artifact.
func (s signingKey) provenance(a lockkeeper.Artifact, commit string) []byte {
	statement := map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
		"subject": []any{map[string]any{"name": a.Name, "digest": map[string]string{"sha256": a.Digest.Hex()}}},
		"predicate": map[string]any{"buildDefinition": map[string]any{"buildType": "https://build.example.com/type", "externalParameters": map[string]any{},
			"resolvedDependencies": []any{map[string]any{"uri": "git+https://git.example.com/payments@refs/heads/main", "digest": map[string]string{"gitCommit": commit}}}},
			"runDetails": map[string]any{"builder": map[string]string{"id": "https://build.example.com/a"}}}}
	payload, err := json.Marshal(statement)
	if err != nil {
		panic(err)
	}
	const kind = "application/vnd.in-toto+json"
	sig := ed25519.Sign(s.private, dsse.PAE(kind, payload))
	b, err := json.Marshal(map[string]any{"payloadType": kind, "payload": base64.StdEncoding.EncodeToString(payload), "signatures": []any{map[string]string{"sig": base64.StdEncoding.EncodeToString(sig)}}})
	if err != nil {
		panic(err)
	}
	return b
}

const (
	goodTests = `<testsuite name="s"><testcase name="a"/><testcase name="b"/></testsuite>`
	badTests  = `<testsuite name="s"><testcase name="a"/><testcase name="b"><failure message="no"/></testcase></testsuite>`
	headOf    = "1111111111111111111111111111111111111111"
)

func unit(text string) Piece {
	return Piece{Kind: evidence.Tests, Name: "unit", Content: []byte(text)}
}

// TestEvidence plays how evidence is demanded, missing, brought and accepted.
func TestEvidence(t *testing.T) {
	ctx := context.Background()
	ci := newSigningKey(t)
	var passed atomic.Int64
	start := time.Now()
	now := func() time.Time { return start.Add(time.Duration(passed.Load())) }
	k, dir := startedWith(t, provenRules(ci.pem), Options{Clock: now})
	n := 0
	job := func(environment string) lockkeeper.Workload {
		n++
		return workload(n, fmt.Sprint(n), "10", environment, "1001", "push", 1, lockkeeper.MomentOf(now()))
	}
	add := func(w lockkeeper.Workload, record bool, pieces ...Piece) error {
		_, err := k.AddEvidence(ctx, w, "", AddEvidence{Artifacts: []lockkeeper.Artifact{app}, Record: record, Pieces: pieces})
		return err
	}
	open := func() (lockkeeper.Workload, string, error) {
		w := job("test")
		id, err := k.OpenDeployment(ctx, w, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
		return w, id, err
	}
	claim := func(w lockkeeper.Workload, id string) string {
		err := k.Claim(ctx, w, id, "h")
		if err == nil {
			must(t, k.End(ctx, Caller{Holder: id}, id, 0))
		}
		return codeOf(err)
	}

	waiting, id, err := open()
	must(t, err)
	want(t, k.Claim(ctx, waiting, id, "h"), "evidence_missing")

	// Who may not, what cannot be read, what is about something else: nothing is kept.
	want(t, add(job("test"), false, unit(goodTests)), "evidence_not_admitted")
	want(t, add(job(""), false, Piece{Kind: evidence.SBOM, Content: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"a","version":"1","purl":"pkg:x/a@1"}]}`)}), "evidence_not_admitted")
	want(t, add(job(""), false, unit("<testsuite")), "evidence_unreadable")
	want(t, add(job(""), false, unit(goodTests), unit("<testsuite")), "evidence_unreadable")
	want(t, add(job(""), false), "evidence_count")
	want(t, add(job(""), false, Piece{Kind: evidence.Tests, Name: "No Name", Content: []byte(goodTests)}), "name_unfit")
	other := lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("other"))}
	want(t, add(job(""), false, Piece{Kind: evidence.Attestation, Content: ci.provenance(other, headOf)}), "evidence_about_another")
	want(t, add(job(""), false, Piece{Kind: evidence.Attestation, Content: newSigningKey(t).provenance(app, headOf)}), "evidence_unsigned")
	if list, err := k.Evidence(ctx, Caller{User: "bob"}, EvidenceFilter{Project: "payments"}); err != nil || len(list) != 0 {
		t.Fatalf("kept: %v %v", list, err)
	}
	_, err = k.Evidence(ctx, Caller{User: "bob"}, EvidenceFilter{Project: "other"})
	want(t, err, "not_granted")

	// One token for all of it, and never twice.
	w := job("")
	must(t, add(w, true, unit(goodTests), Piece{Kind: evidence.Attestation, Content: ci.provenance(app, headOf)}))
	want(t, add(w, false, unit(goodTests)), "token_replayed")
	if got := claim(waiting, id); got != "<nil>" {
		t.Fatalf("the claim: %s", got)
	}

	// What fails refuses at once, and what is newer counts.
	must(t, add(job(""), false, unit(badTests)))
	_, _, err = open()
	want(t, err, "tests_bad")
	must(t, add(job(""), false, unit(goodTests)))
	w, id, err = open()
	must(t, err)

	// Too old by the clock, and after a restart the same.
	passed.Add(int64(10 * time.Minute))
	want(t, k.Claim(ctx, w, id, "h"), "token_expired")
	w.Issued, w.Expires = lockkeeper.MomentOf(now()), lockkeeper.MomentOf(now().Add(5*time.Minute))
	want(t, k.Claim(ctx, w, id, "h"), "evidence_stale")
	before := k.state.evidenceOf(lockkeeper.Ask{Project: "payments", Artifacts: []lockkeeper.Artifact{app}})
	must(t, k.Close())
	k, err = Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example", Clock: now})
	must(t, err)
	t.Cleanup(func() { k.Close() })
	if after := k.state.evidenceOf(lockkeeper.Ask{Project: "payments", Artifacts: []lockkeeper.Artifact{app}}); fmt.Sprint(after) != fmt.Sprint(before) || len(after) != 4 {
		t.Errorf("after a restart %d pieces, before %d", len(after), len(before))
	}
	must(t, add(job(""), false, unit(goodTests)))

	// A key that is no longer believed takes its signatures along; the ask was opened under
	// rules that demanded it, and taking the check out does not help it.
	rotated := newSigningKey(t)
	revision, _ := k.Revision()
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, provenRules(rotated.pem)), revision.Number, "rotate")
	must(t, err)
	want(t, k.Claim(ctx, w, id, "h"), "provenance_bad")
	must(t, add(job(""), false, Piece{Kind: evidence.Attestation, Content: rotated.provenance(app, strings.Repeat("2", 40))}))
	want(t, k.Claim(ctx, w, id, "h"), "provenance_bad")
	must(t, add(job(""), false, Piece{Kind: evidence.Attestation, Content: rotated.provenance(app, headOf)}))
	if got := claim(w, id); got != "<nil>" {
		t.Errorf("the claim: %s", got)
	}
	// What stands there is judged on: a key that is taken out is an alert, until it is signed anew.
	outdated := func() []Alert {
		list, err := k.Alerts(ctx, Caller{User: "dora"}, Thresholds{})
		must(t, err)
		return slices.DeleteFunc(list, func(a Alert) bool { return a.Kind != "evidence_outdated" })
	}
	if a := outdated(); len(a) != 0 {
		t.Fatalf("nothing has changed: %+v", a)
	}
	last := newSigningKey(t)
	revision, _ = k.Revision()
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, provenRules(last.pem)), revision.Number, "rotate again")
	must(t, err)
	if a := outdated(); len(a) != 1 || a[0].Subject != "/projects/payments/environments/test" || !strings.Contains(a[0].Sentence, id) || !strings.Contains(a[0].Evidence[0], "provenance_bad") {
		t.Errorf("the key is believed no more: %+v", a)
	}
	must(t, add(job(""), false, Piece{Kind: evidence.Attestation, Content: last.provenance(app, headOf)}))
	if a := outdated(); len(a) != 0 {
		t.Errorf("it is signed anew: %+v", a)
	}
	passed.Add(int64(366 * 24 * time.Hour))
	if a := outdated(); len(a) != 1 || !strings.Contains(a[0].Evidence[0], "evidence_stale") {
		t.Errorf("it has grown old: %+v", a)
	}
}

// TestEvidenceIsBounded compares what is kept with a list: the newest pieces that fit
// in the bounds, each found by the digests that it is about.
func TestEvidenceIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		digests := []lockkeeper.Digest{lockkeeper.DigestOf([]byte("a")), lockkeeper.DigestOf([]byte("b")), lockkeeper.DigestOf([]byte("c"))}
		var model []Kept
		for i := range rapid.IntRange(1, 30).Draw(t, "n") {
			k := Kept{Evidence: gate.Evidence{ID: fmt.Sprint(i)}, Weight: rapid.IntRange(1, maxEvidenceWeight/4).Draw(t, "weight")}
			for _, d := range rapid.SliceOfN(rapid.SampledFrom(digests), 1, 3).Draw(t, "about") {
				k.Artifacts = append(k.Artifacts, lockkeeper.Artifact{Name: "x", Digest: d})
			}
			s.addEvidence("p", k)
			model = append(model, k)
			for weight := func() (n int) {
				for _, k := range model {
					n += k.Weight
				}
				return n
			}; weight() > maxEvidenceWeight; {
				model = model[1:]
			}
		}
		again := newState()
		b, err := json.Marshal(s.Evidence)
		if err == nil {
			err = json.Unmarshal(b, &again.Evidence)
		}
		if err != nil {
			t.Fatal(err)
		}
		again.indexEvidence()
		for _, d := range digests {
			var wantIDs []string
			for _, k := range model {
				if k.about(d) {
					wantIDs = append(wantIDs, k.ID)
				}
			}
			for _, s := range []*State{s, again} {
				var got []string
				for _, e := range s.evidenceOf(lockkeeper.Ask{Project: "p", Artifacts: []lockkeeper.Artifact{{Digest: d}}}) {
					got = append(got, e.ID)
				}
				if fmt.Sprint(got) != fmt.Sprint(wantIDs) {
					t.Fatalf("kept %v, want %v", got, wantIDs)
				}
			}
		}
	})
}

func (k Kept) about(d lockkeeper.Digest) bool {
	for _, a := range k.Artifacts {
		if a.Digest == d {
			return true
		}
	}
	return false
}
