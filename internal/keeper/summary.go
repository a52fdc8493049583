package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// A verification summary (SLSA VSA v1) says of artifacts that they were let into an
// environment: what an admission controller needs, in the form that its tools know. It
// is made from the moment of the release on, and is about that moment; how the
// deployment ended stands in its receipt.

// summaryType is the predicate of a verification summary.
const summaryType = "https://slsa.dev/verification_summary/v1"

// A SummaryStatement is the in-toto statement of a verification summary.
type SummaryStatement struct {
	Type          string             `json:"_type"`
	Subject       []StatementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     Summary            `json:"predicate"`
}

// A Summary is the predicate of SLSA's verification summary, version 1, with one
// member more: what proves it.
type Summary struct {
	Verifier           Verifier          `json:"verifier"`
	TimeVerified       lockkeeper.Moment `json:"timeVerified"` // when the lease was granted
	ResourceURI        string            `json:"resourceUri"`  // the environment: the verifier's id and its scope
	Policy             SummaryPolicy     `json:"policy"`
	InputAttestations  []SummaryInput    `json:"inputAttestations,omitempty"`
	VerificationResult string            `json:"verificationResult"` // always PASSED
	VerifiedLevels     []string          `json:"verifiedLevels"`
	Proof              SummaryProof      `json:"lockkeeper_proof"`
}

// A Verifier is the server that made a summary, by its URL.
type Verifier struct {
	ID string `json:"id"`
}

// A SummaryPolicy is the catalog revision that the artifacts were let in under.
type SummaryPolicy struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"` // sha256 → hex; absent where the release was before receipts told it
}

// A SummaryInput is a piece of evidence that the gate's checks rested on.
type SummaryInput struct {
	URI    string            `json:"uri"`    // where the server tells what it says
	Digest map[string]string `json:"digest"` // sha256 → hex, of the document that was brought
}

// RestedOn is a piece of evidence that let a deployment through.
type RestedOn struct {
	ID      string            `json:"id"`
	Content lockkeeper.Digest `json:"content"` // of the document
}

// maxRestedOn bounds the evidence that one lease names.
const maxRestedOn = 100

// restedOn lists the evidence that a gate's verdict rests on, in its order.
func restedOn(f gate.Facts, d lockkeeper.Decision) []RestedOn {
	var out []RestedOn
	var walk func(lockkeeper.Decision)
	walk = func(d lockkeeper.Decision) {
		if id, is := strings.CutPrefix(d.Subject, "evidence "); is && d.Verdict == lockkeeper.Pass {
			i := slices.IndexFunc(f.Evidence, func(e gate.Evidence) bool { return e.ID == id })
			known := slices.ContainsFunc(out, func(o RestedOn) bool { return o.ID == id })
			if i >= 0 && !known && len(out) < maxRestedOn {
				out = append(out, RestedOn{id, f.Evidence[i].Content})
			}
		}
		if id, is := strings.CutPrefix(d.Subject, "record "); is && d.Verdict == lockkeeper.Pass {
			i := slices.IndexFunc(f.Designs, func(r gate.DesignRecord) bool { return r.ID == id })
			known := slices.ContainsFunc(out, func(o RestedOn) bool { return o.ID == id })
			if i >= 0 && !known && len(out) < maxRestedOn {
				out = append(out, RestedOn{id, f.Designs[i].Content})
			}
		}
		for _, b := range d.Because {
			walk(b)
		}
	}
	walk(d)
	return out
}

// A SummaryProof is what a summary follows from: the two entries that say what was
// asked and that it was let through, each with its place in the journal.
type SummaryProof struct {
	Deployment string            `json:"deployment"`
	AskDigest  lockkeeper.Digest `json:"ask_digest"`
	Origin     string            `json:"log"` // the journal's name
	Proofs     []journal.Proof   `json:"proofs"`
}

// String is the summary in one line.
func (s Summary) String() string {
	return fmt.Sprintf("%s: let into %s at %s, %s", s.Proof.Deployment, s.ResourceURI, s.TimeVerified, s.VerifiedLevels)
}

// Summary is the signed verification summary of a deployment that was let through,
// whether it still runs or how it ended.
func (k *Keeper) Summary(ctx context.Context, by Caller, id string) ([]byte, error) {
	v, err := k.Deployment(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return k.summary(ctx, v)
}

func (k *Keeper) summary(ctx context.Context, v View) ([]byte, error) {
	if v.Lease == nil {
		return nil, lockkeeper.Conflict.Errorf("not_let_through", "The deployment %s is %s, and was never let through.", v.ID, v.Status).
			WithNext("Look at what is missing: lockkeeper deployments show %s", v.ID)
	}
	var proofs []journal.Proof
	for _, seq := range []int64{v.OpenedSeq, v.Lease.Seq} {
		p, err := k.journal.Prove(ctx, seq)
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, p)
	}
	statement, err := summaryOf(k.options.Issuer, k.options.Origin, proofs)
	if err != nil {
		return nil, err
	}
	payload, err := marshal(statement)
	if err != nil {
		return nil, err
	}
	return token.SignEnvelope(envelopePayload, payload, k.keys.receipt)
}

// summaryOf derives a summary from the entries that open a deployment and let it
// through, which are all that it may rest on.
func summaryOf(verifier, origin string, proofs []journal.Proof) (SummaryStatement, error) {
	if len(proofs) != 2 {
		return SummaryStatement{}, fmt.Errorf("a summary rests on two entries, not on %d", len(proofs))
	}
	opened, err := bodyOf[*deploymentOpened](proofs[0])
	if err != nil {
		return SummaryStatement{}, err
	}
	granted, err := bodyOf[*leaseGranted](proofs[1])
	if err != nil {
		return SummaryStatement{}, err
	}
	ask := opened.body.Ask
	switch digest, err := ask.Digest(); {
	case err != nil:
		return SummaryStatement{}, err
	case granted.body.Deployment != opened.body.ID || granted.body.Digest != digest || opened.body.Digest != digest:
		return SummaryStatement{}, fmt.Errorf("what was let through is not what was asked for")
	}
	s := SummaryStatement{Type: statementType, PredicateType: summaryType}
	for _, a := range ask.Artifacts {
		s.Subject = append(s.Subject, StatementSubject{a.Name, map[string]string{"sha256": a.Digest.Hex()}})
	}
	s.Predicate = Summary{Verifier: Verifier{verifier}, TimeVerified: granted.entry.Time,
		ResourceURI:        verifier + string(lockkeeper.EnvironmentScope(ask.Project, ask.Environment)),
		Policy:             SummaryPolicy{URI: fmt.Sprintf("%s/api/v1/catalog#revision-%d", verifier, granted.body.Revision)},
		VerificationResult: "PASSED", VerifiedLevels: levels(opened.body),
		Proof: SummaryProof{Deployment: opened.body.ID, AskDigest: granted.body.Digest, Origin: origin, Proofs: proofs}}
	for _, e := range granted.body.Evidence {
		uri := fmt.Sprintf("%s/api/v1/evidence?project=%s#%s", verifier, ask.Project, e.ID)
		if strings.HasPrefix(e.ID, recordPrefix+"-") {
			uri = verifier + "/api/v1/records/" + e.ID
		}
		s.Predicate.InputAttestations = append(s.Predicate.InputAttestations, SummaryInput{uri, map[string]string{"sha256": e.Content.Hex()}})
	}
	if c := granted.body.Catalog; c != "" {
		s.Predicate.Policy.Digest = map[string]string{"sha256": c.Hex()}
	}
	return s, nil
}

// levels is the SLSA build level that provenance was demanded of when the ask was
// opened: no catalog that came later can have let it through with less. Where none
// was, nothing is said of it.
func levels(ev *deploymentOpened) []string {
	level := 0
	for _, c := range ev.Terms {
		if c.Provenance != nil {
			level = max(level, c.Provenance.LeastLevel())
		}
	}
	if level == 0 {
		return []string{"SLSA_BUILD_LEVEL_UNEVALUATED"}
	}
	return []string{fmt.Sprintf("SLSA_BUILD_LEVEL_%d", level)}
}

type provenEntry[T event] struct {
	entry Entry
	body  T
}

func bodyOf[T event](p journal.Proof) (provenEntry[T], error) {
	e, ev, err := readEntry(p.Entry)
	if err != nil {
		return provenEntry[T]{}, err
	}
	body, is := ev.(T)
	if !is || e.Seq != p.Seq {
		return provenEntry[T]{}, fmt.Errorf("the entry %d is not what it should be", p.Seq)
	}
	return provenEntry[T]{e, body}, nil
}

// PredicateOf is the predicate type of the statement in an envelope, which is not
// believed: it says only how to verify it.
func PredicateOf(envelope []byte, t Trust) string {
	_, payload, err := token.OpenEnvelope(envelope, t.ReceiptKey)
	var s struct {
		PredicateType string `json:"predicateType"`
	}
	if err != nil || json.Unmarshal(payload, &s) != nil {
		return ""
	}
	return s.PredicateType
}

// IsSummary reports whether an envelope holds a verification summary, by what it says.
func IsSummary(envelope []byte, t Trust) bool { return PredicateOf(envelope, t) == summaryType }

// VerifySummary checks a verification summary without any server: the envelope's
// signature, the place of both entries in the journal under its signed checkpoint, and
// that everything it says follows from them. Who the verifier says to be stands under
// the signature alone.
func VerifySummary(envelope []byte, t Trust) (SummaryStatement, error) {
	bad := func(format string, args ...any) error {
		return lockkeeper.Invalid.Errorf("summary_invalid", format, args...).WithNext("Do not believe this summary; fetch it again from the server that made it.")
	}
	verifier, payload, err := t.open("summary", envelope, bad)
	if err != nil {
		return SummaryStatement{}, err
	}
	var s SummaryStatement
	if err := unmarshalStrict(payload, &s); err != nil || s.Type != statementType || s.PredicateType != summaryType {
		return SummaryStatement{}, bad("The statement is no verification summary.")
	}
	for _, p := range s.Predicate.Proof.Proofs {
		if err := p.Verify(verifier); err != nil {
			return SummaryStatement{}, bad("The entry %d is not in the journal: %v", p.Seq, err)
		}
	}
	derived, err := summaryOf(s.Predicate.Verifier.ID, t.Origin, s.Predicate.Proof.Proofs)
	if err != nil {
		return SummaryStatement{}, bad("The entries let nothing through: %v.", err)
	}
	again, err := marshal(derived)
	if err != nil {
		return SummaryStatement{}, err
	}
	if !bytes.Equal(again, payload) {
		return SummaryStatement{}, bad("The summary says something else than the entries that prove it.")
	}
	return s, nil
}

// deployedSubject finds what was let in with an artifact of this digest.
func deployedSubject(d lockkeeper.Digest) string { return "deployed/" + string(d) }

func digests(list []lockkeeper.Artifact) []lockkeeper.Digest {
	var out []lockkeeper.Digest
	for _, a := range list {
		if !slices.Contains(out, a.Digest) {
			out = append(out, a.Digest)
		}
	}
	return out
}

// A DigestFilter chooses deployments that let an artifact in.
type DigestFilter struct {
	Digest               lockkeeper.Digest
	Project, Environment string // "": any
	Current              bool   // only what may run there now: the last success, and what got a lease since
	Limit                int    // 1 to 50; 0: 10
}

// maxAdmitted bounds the releases of one digest that are looked at.
const maxAdmitted = 200

// An Admitted is one deployment that let an artifact in and has not failed: it
// runs, or it succeeded.
type Admitted struct {
	View    View
	Current bool   // it may run there now
	Summary []byte // signed
}

// Admitted lists the deployments with an artifact of a digest that run under a live
// lease or have succeeded, of those that the caller may read, newest first. Of one
// that was let through by a release older than this index only the last twenty
// successes of an environment are found.
func (k *Keeper) Admitted(ctx context.Context, by Caller, f DigestFilter) ([]Admitted, error) {
	if _, err := lockkeeper.ParseDigest(string(f.Digest)); err != nil {
		return nil, lockkeeper.Invalid.Errorf("digest_malformed", "%v.", err).WithNext("Ask for sha256: and 64 hexadecimal digits.").WithField("digest")
	}
	if by.User == "" {
		return nil, lockkeeper.Forbidden.Errorf("person_needed", "Only a person, or a token of one, may ask what was let in.").WithNext("Make a token: lockkeeper tokens make")
	}
	if f.Limit <= 0 {
		f.Limit = 10
	}
	f.Limit = min(f.Limit, 50)
	ids, err := k.letInWith(ctx, f.Digest)
	if err != nil {
		return nil, err
	}
	out := []Admitted{}
	for _, id := range ids {
		v, err := k.Deployment(ctx, by, id)
		if lockkeeper.KindOf(err) == lockkeeper.Forbidden {
			continue
		}
		if err != nil {
			return nil, err
		}
		a := Admitted{View: v, Current: k.current(v)}
		if !f.takes(a, k.now()) {
			continue
		}
		if a.Summary, err = k.summary(ctx, v); err != nil {
			return nil, err
		}
		if out = append(out, a); len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

func (f DigestFilter) takes(a Admitted, now lockkeeper.Moment) bool {
	ask := a.View.Ask
	return (f.Project == "" || f.Project == ask.Project) && (f.Environment == "" || f.Environment == ask.Environment) &&
		(a.Current || !f.Current) && (a.View.Status == Succeeded || a.View.leaseLive(now))
}

// letInWith are the deployments that let a digest in, newest first.
func (k *Keeper) letInWith(ctx context.Context, digest lockkeeper.Digest) ([]string, error) {
	stored, err := k.journal.Subject(ctx, deployedSubject(digest), 0, maxAdmitted)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		if err != nil {
			return nil, err
		}
		if ev, is := body.(*leaseGranted); is {
			ids = append(ids, ev.Deployment)
		}
	}
	if len(stored) == maxAdmitted {
		return ids, nil
	}
	return append(ids, k.goodWith(digest, ids)...), nil
}

// goodWith are the successes with a digest that are remembered beside those known,
// newest first.
func (k *Keeper) goodWith(digest lockkeeper.Digest, known []string) []string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	var found []gate.Release
	for _, list := range k.state.Good {
		for _, r := range list {
			if !slices.Contains(known, r.Deployment) && slices.Contains(digests(r.Artifacts), digest) {
				found = append(found, r)
			}
		}
	}
	slices.SortFunc(found, func(a, b gate.Release) int { return b.At.Time().Compare(a.At.Time()) })
	var ids []string
	for _, r := range found[:min(len(found), maxAdmitted)] {
		ids = append(ids, r.Deployment)
	}
	return ids
}

// current reports whether what a deployment brought may run in its environment now.
func (k *Keeper) current(v View) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	p := k.state.place(lockkeeper.EnvironmentScope(v.Ask.Project, v.Ask.Environment))
	return slices.ContainsFunc(p.Let, func(r gate.Release) bool { return r.Deployment == v.ID })
}
