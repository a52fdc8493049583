package keeper

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	vsa "github.com/in-toto/attestation/go/predicates/vsa/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"google.golang.org/protobuf/encoding/protojson"
)

// letThrough is a deployment to test that runs, of the artifact app.
func letThrough(t *testing.T, k *Keeper, n int) string {
	t.Helper()
	ctx, handle := context.Background(), fmt.Sprint("h", n)
	job := workload(n, fmt.Sprint(n), "11", "test", "1001", "push", 1, lockkeeper.MomentOf(time.Now()))
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest(handle)})
	must(t, err)
	must(t, k.Claim(ctx, job, id, handle))
	return id
}

// A verification summary is what the tools of the field take it for: it is read with
// their library, and its signature is checked by hand, as DSSE defines it.
func TestSummaryForOthers(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	id := letThrough(t, k, 2)
	data, err := k.Summary(ctx, Caller{Holder: id}, id)
	must(t, err)

	var envelope struct {
		PayloadType, Payload string
		Signatures           []struct{ Sig string }
	}
	must(t, json.Unmarshal(data, &envelope))
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	must(t, err)
	sig, err := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	must(t, err)
	key, err := base64.StdEncoding.DecodeString(k.Trust().ReceiptKey)
	must(t, err)
	pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(envelope.PayloadType), envelope.PayloadType, len(payload), payload)
	if !ed25519.Verify(key, []byte(pae), sig) {
		t.Fatal("the signature is not DSSE's")
	}
	var statement intoto.Statement
	must(t, protojson.Unmarshal(payload, &statement))
	must(t, statement.Validate())
	predicate, err := protojson.Marshal(statement.Predicate)
	must(t, err)
	var summary vsa.VerificationSummary
	must(t, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(predicate, &summary))
	if statement.PredicateType != "https://slsa.dev/verification_summary/v1" || statement.Subject[0].Digest["sha256"] != app.Digest.Hex() || summary.VerificationResult != "PASSED" ||
		summary.Verifier.Id != "https://lockkeeper.example" || summary.ResourceUri != "https://lockkeeper.example/projects/payments/environments/test" ||
		summary.Policy.Digest["sha256"] != k.read().Revision.Digest.Hex() || summary.VerifiedLevels[0] != "SLSA_BUILD_LEVEL_UNEVALUATED" || time.Since(summary.TimeVerified.AsTime()) > time.Hour {
		t.Errorf("it says %v", &summary)
	}
}

// signed is a statement under the server's own key: what is caught below is caught by
// what it says, not by its signature.
func signed(t *testing.T, k *Keeper, payloadType string, s any) []byte {
	t.Helper()
	payload, err := marshal(s)
	must(t, err)
	data, err := token.SignEnvelope(payloadType, payload, k.keys.receipt)
	must(t, err)
	return data
}

// TestHostileSummary changes a summary in every way that would say more.
func TestHostileSummary(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	a, b := letThrough(t, k, 2), letThrough(t, k, 3)
	_, err := k.Summary(ctx, Caller{User: "eve"}, a)
	must(t, err) // a manager reads
	_, err = k.Summary(ctx, Caller{User: "nobody"}, a)
	want(t, err, "user_unknown")
	read := func(id string) ([]byte, SummaryStatement) {
		data, err := k.Summary(ctx, Caller{Holder: id}, id)
		must(t, err)
		s, err := VerifySummary(data, k.Trust())
		must(t, err)
		return data, s
	}
	good, plain := read(a)
	_, other := read(b)
	if got := signed(t, k, envelopePayload, plain); !bytes.Equal(got, good) {
		t.Fatal("what was read does not spell again as it was")
	}
	mallory, err := token.NewReceiptKey(strings.NewReader(strings.Repeat("m", 64)))
	must(t, err)
	payload, err := marshal(plain)
	must(t, err)
	foreign, err := token.SignEnvelope(envelopePayload, payload, mallory)
	must(t, err)
	for name, change := range map[string]func(s *SummaryStatement){
		"another digest": func(s *SummaryStatement) { s.Subject[0].Digest = map[string]string{"sha256": strings.Repeat("a", 64)} },
		"another name":   func(s *SummaryStatement) { s.Subject[0].Name = "else" },
		"one subject more": func(s *SummaryStatement) {
			s.Subject = append(s.Subject, StatementSubject{"more", map[string]string{"sha256": strings.Repeat("b", 64)}})
		},
		"no subject": func(s *SummaryStatement) { s.Subject = nil },
		"a level":    func(s *SummaryStatement) { s.Predicate.VerifiedLevels = []string{"SLSA_BUILD_LEVEL_3"} },
		"another place": func(s *SummaryStatement) {
			s.Predicate.ResourceURI = "https://lockkeeper.example/projects/payments/environments/production"
		},
		"another policy":     func(s *SummaryStatement) { s.Predicate.Policy.Digest = nil },
		"another time":       func(s *SummaryStatement) { s.Predicate.TimeVerified = s.Predicate.TimeVerified.Add(time.Hour) },
		"another result":     func(s *SummaryStatement) { s.Predicate.VerificationResult = "FAILED" },
		"inputs":             func(s *SummaryStatement) { s.Predicate.InputAttestations = []SummaryInput{{"https://x", nil}} },
		"another deployment": func(s *SummaryStatement) { s.Predicate.Proof.Deployment = b },
		"no proof":           func(s *SummaryStatement) { s.Predicate.Proof.Proofs = nil },
		"no lease":           func(s *SummaryStatement) { s.Predicate.Proof.Proofs = s.Predicate.Proof.Proofs[:1] },
		"the proofs swapped": func(s *SummaryStatement) { p := s.Predicate.Proof.Proofs; p[0], p[1] = p[1], p[0] },
		"another's lease":    func(s *SummaryStatement) { s.Predicate.Proof.Proofs[1] = other.Predicate.Proof.Proofs[1] },
		"another's ask":      func(s *SummaryStatement) { s.Predicate.Proof.Proofs[0] = other.Predicate.Proof.Proofs[0] },
		"another entry":      func(s *SummaryStatement) { s.Predicate.Proof.Proofs[1].Entry = other.Predicate.Proof.Proofs[1].Entry },
		"another log":        func(s *SummaryStatement) { s.Predicate.Proof.Origin = "elsewhere" },
		"another predicate":  func(s *SummaryStatement) { s.PredicateType = receiptType },
	} {
		_, s := read(a)
		change(&s)
		_, err := VerifySummary(signed(t, k, envelopePayload, s), k.Trust())
		if codeOf(err) != "summary_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	receipt := func() []byte {
		must(t, k.End(ctx, Caller{Holder: b}, b, 0))
		r, err := k.Receipt(ctx, Caller{Holder: b}, b)
		must(t, err)
		return r
	}()
	for name, data := range map[string][]byte{
		"another key": foreign, "another payload type": signed(t, k, "application/json", plain), "truncated": good[:len(good)-9], "empty": nil,
		"a receipt": receipt, "a list": []byte("[" + string(good) + "]"), "no statement": signed(t, k, envelopePayload, map[string]string{"predicateType": summaryType}),
	} {
		if _, err := VerifySummary(data, k.Trust()); codeOf(err) != "summary_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := VerifyReceipt(good, k.Trust()); codeOf(err) != "receipt_invalid" {
		t.Errorf("a summary passes for a receipt: %v", err)
	}
	for i := 0; i < len(good); i += 1 + len(good)/300 {
		flipped := bytes.Clone(good)
		flipped[i] ^= 4
		if s, err := VerifySummary(flipped, k.Trust()); err == nil && s.Predicate.String() != plain.Predicate.String() {
			t.Fatalf("with byte %d flipped it says something else and verifies", i)
		}
	}
}

// A summary names the SLSA level that was demanded when the ask was opened, and the
// evidence that the gate rested on.
func TestSummaryOfEvidence(t *testing.T) {
	terms := []catalog.Check{{Name: "a", Provenance: &catalog.SLSAProvenance{}}, {Name: "b", Provenance: &catalog.SLSAProvenance{Level: 2}}}
	piece := gate.Evidence{ID: "e-1", Content: lockkeeper.DigestOf([]byte("document"))}
	verdict := lockkeeper.Decision{Because: []lockkeeper.Decision{{Subject: "check b", Because: []lockkeeper.Decision{
		{Subject: "evidence e-1", Verdict: lockkeeper.Pass}, {Subject: "evidence e-1", Verdict: lockkeeper.Pass},
		{Subject: "evidence e-2", Verdict: lockkeeper.Pass}, {Subject: "evidence e-3", Verdict: lockkeeper.Fail}, {Subject: "record r-1", Verdict: lockkeeper.Pass}}}}}
	rested := restedOn(gate.Facts{Evidence: []gate.Evidence{piece, {ID: "e-3"}}, Designs: []gate.DesignRecord{{ID: "r-1", Content: piece.Content}}}, verdict)
	ask := lockkeeper.Ask{Project: "payments", Environment: "test", Artifacts: []lockkeeper.Artifact{app}}
	digest, err := ask.Digest()
	must(t, err)
	var proofs []journal.Proof
	for i, ev := range []event{&deploymentOpened{ID: "d-1", Ask: ask, Digest: digest, Terms: terms}, &leaseGranted{Deployment: "d-1", Digest: digest, Evidence: rested}} {
		data, e, err := record(Entry{Seq: int64(i), Time: began}, ev)
		must(t, err)
		proofs = append(proofs, journal.Proof{Seq: e.Seq, Entry: data})
	}
	s, err := summaryOf("https://lk.example", "log", proofs)
	must(t, err)
	if l := s.Predicate.VerifiedLevels; len(l) != 1 || l[0] != "SLSA_BUILD_LEVEL_2" {
		t.Errorf("levels %v", l)
	}
	if in := s.Predicate.InputAttestations; len(in) != 2 || in[1].URI != "https://lk.example/api/v1/records/r-1" || in[0].URI != "https://lk.example/api/v1/evidence?project=payments#e-1" || in[0].Digest["sha256"] != piece.Content.Hex() {
		t.Errorf("inputs %v", in)
	}
}

// TestAdmitted asks what an admission check asks.
func TestAdmitted(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	ask := func(f DigestFilter, want ...string) {
		t.Helper()
		f.Digest = app.Digest
		list, err := k.Admitted(ctx, Caller{User: "bob"}, f)
		must(t, err)
		got := []string{}
		for _, a := range list {
			got = append(got, fmt.Sprint(a.View.ID, a.View.Status, a.Current))
			s, err := VerifySummary(a.Summary, k.Trust())
			must(t, err)
			if s.Predicate.Proof.Deployment != a.View.ID {
				t.Errorf("the summary is of %s", s.Predicate.Proof.Deployment)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v: %v, want %v", f, got, want)
		}
	}
	ask(DigestFilter{})
	a := letThrough(t, k, 2)
	ask(DigestFilter{}, a+"runningtrue")
	must(t, k.End(ctx, Caller{Holder: a}, a, 0))
	b := letThrough(t, k, 3)
	must(t, k.End(ctx, Caller{Holder: b}, b, 0))
	c := letThrough(t, k, 4)
	must(t, k.End(ctx, Caller{Holder: c}, c, 1)) // failed
	ask(DigestFilter{}, b+"succeededtrue", a+"succeededfalse")
	ask(DigestFilter{Limit: 1}, b+"succeededtrue")
	ask(DigestFilter{Current: true, Environment: "test", Project: "payments"}, b+"succeededtrue")
	ask(DigestFilter{Environment: "production"})
	if _, err := k.Admitted(ctx, Caller{User: "bob"}, DigestFilter{Digest: "sha256:x"}); codeOf(err) != "digest_malformed" {
		t.Error(err)
	}
	if _, err := k.Admitted(ctx, Caller{Holder: b}, DigestFilter{Digest: app.Digest}); codeOf(err) != "person_needed" {
		t.Error(err)
	}
	list, err := k.Admitted(ctx, Caller{User: "nobody"}, DigestFilter{Digest: app.Digest})
	if err != nil || len(list) != 0 {
		t.Error("a stranger is told what was let in", err)
	}
	must(t, k.Close())
	k, err = Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"})
	must(t, err)
	defer k.Close()
	ask(DigestFilter{Current: true}, b+"succeededtrue")
}
