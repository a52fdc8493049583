package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"golang.org/x/mod/sumdb/note"
)

// The types of a receipt: an in-toto Statement v1 in a DSSE envelope.
const (
	statementType   = "https://in-toto.io/Statement/v1"
	receiptType     = "https://lockkeeper.dev/receipt/v1"
	envelopePayload = "application/vnd.in-toto+json"
)

// A Statement is the in-toto statement of a receipt. Its subjects are the
// artifacts that were deployed.
type Statement struct {
	Type          string             `json:"_type"`
	Subject       []StatementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     Receipt            `json:"predicate"`
}

// A StatementSubject is one artifact, as in-toto names it.
type StatementSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // sha256 → hex
}

// A Receipt says what was checked, by whom, under which catalog, and how the
// deployment ended. It is derived from the entries that Proofs carries, so that
// whoever verifies it derives it again and compares.
type Receipt struct {
	Deployment string              `json:"deployment"`
	Status     Status              `json:"status"`
	Ask        lockkeeper.Ask      `json:"ask"`
	AskDigest  lockkeeper.Digest   `json:"ask_digest"`
	Opened     lockkeeper.Moment   `json:"opened"`
	Initiators []Origin            `json:"initiators"`
	Approvals  []Vote              `json:"approvals"`
	Overrides  []Override          `json:"overrides,omitempty"` // asked for; what they waived stands in the gate
	Gate       lockkeeper.Decision `json:"gate,omitzero"`       // the checks with their verdicts, at the release
	Identity   string              `json:"identity,omitempty"`
	Revision   int                 `json:"catalog_revision"` // that it was released under; else opened under
	Lease      *Lease              `json:"lease,omitempty"`
	End        *End                `json:"end"`
	Origin     string              `json:"log"`    // the journal's name
	Proofs     []journal.Proof     `json:"proofs"` // the entries about the deployment, each with its place in the journal
	// Omitted counts the entries that Proofs leaves out: of tokens, heartbeats and
	// refusals, what came between the first fifty and the last fifty of each.
	Omitted int `json:"omitted,omitempty"`
}

// repeats are the kinds of entry of which a deployment may have thousands, and
// everyOther how many of each a receipt keeps from either end.
var repeats = []string{"token.granted", "lease.renewed", "refusal.made"}

const everyOther = 50

// abridge leaves out of the entries about a deployment what only repeats, so that
// a receipt stays small. It returns how many it left out.
func abridge(stored []journal.Entry) (kept []journal.Entry, omitted int, err error) {
	kinds, total, seen := make([]string, len(stored)), map[string]int{}, map[string]int{}
	for i, s := range stored {
		e, _, err := readEntry(s.Data)
		if err != nil {
			return nil, 0, err
		}
		kinds[i] = e.Kind
		total[e.Kind]++
	}
	for i, s := range stored {
		n := seen[kinds[i]]
		seen[kinds[i]]++
		if slices.Contains(repeats, kinds[i]) && n >= everyOther && n < total[kinds[i]]-everyOther {
			omitted++
			continue
		}
		kept = append(kept, s)
	}
	return kept, omitted, nil
}

// Receipt is the signed receipt of a deployment that has ended.
func (k *Keeper) Receipt(ctx context.Context, by Caller, id string) ([]byte, error) {
	v, err := k.Deployment(ctx, by, id)
	if err != nil {
		return nil, err
	}
	if v.End == nil {
		return nil, lockkeeper.Conflict.Errorf("not_ended", "The deployment %s is %s; a receipt is for one that has ended.", id, v.Status).
			WithNext("Wait for its end: lockkeeper deployments watch %s", id)
	}
	stored, err := k.journal.SubjectAll(ctx, deploymentSubject(id))
	if err != nil {
		return nil, err
	}
	stored, omitted, err := abridge(stored)
	if err != nil {
		return nil, err
	}
	var proofs []journal.Proof
	for _, s := range stored {
		p, err := k.journal.Prove(ctx, s.Seq)
		if err != nil {
			return nil, err
		}
		proofs = append(proofs, p)
	}
	statement, err := statementOf(k.options.Origin, proofs, omitted)
	if err != nil {
		return nil, err
	}
	payload, err := marshal(statement)
	if err != nil {
		return nil, err
	}
	return token.SignEnvelope(envelopePayload, payload, k.keys.receipt)
}

// statementOf derives the statement from entries and their proofs.
func statementOf(origin string, proofs []journal.Proof, omitted int) (Statement, error) {
	stored := make([]journal.Entry, len(proofs))
	for i, p := range proofs {
		stored[i] = journal.Entry{Seq: p.Seq, Data: p.Entry}
	}
	d, entries, err := foldStored(stored)
	if err != nil {
		return Statement{}, err
	}
	s := Statement{Type: statementType, PredicateType: receiptType}
	for _, a := range d.Ask.Artifacts {
		s.Subject = append(s.Subject, StatementSubject{a.Name, map[string]string{"sha256": a.Digest.Hex()}})
	}
	r := Receipt{Deployment: d.ID, Status: d.Status, Ask: d.Ask, AskDigest: d.Digest, Opened: d.Opened, Initiators: d.Initiators,
		Approvals: d.approvals(), Overrides: d.Overrides, Lease: d.Lease, End: d.End, Origin: origin, Proofs: proofs, Omitted: omitted}
	if d.Lease != nil {
		r.Gate, r.Identity = d.Lease.Gate, d.Lease.Identity
	}
	r.Revision = revisionAt(entries)
	s.Predicate = r
	return s, nil
}

// revisionAt is the catalog revision of the release, or of the opening.
func revisionAt(entries []Entry) int {
	revision := 0
	for _, e := range entries {
		var body struct {
			Revision int `json:"revision"`
		}
		if json.Unmarshal(e.Body, &body) == nil && (e.Kind == "deployment.opened" || e.Kind == "lease.granted") {
			revision = body.Revision
		}
	}
	return revision
}

// open opens an envelope that the receipt key signed, and gives the in-toto statement in
// it, with what the journal's checkpoints are verified with.
func (t Trust) open(what string, envelope []byte, bad func(format string, args ...any) error) (note.Verifier, []byte, error) {
	verifier, err := t.Verifier()
	if err != nil {
		return nil, nil, err
	}
	payloadType, payload, err := token.OpenEnvelope(envelope, t.ReceiptKey)
	if err != nil {
		return nil, nil, bad("The %s is not signed by this server's receipt key: %v.", what, err)
	}
	if payloadType != envelopePayload {
		return nil, nil, bad("The envelope holds %.60q, not an in-toto statement.", payloadType)
	}
	return verifier, payload, nil
}

// VerifyReceipt checks a receipt without any server: the envelope's signature,
// the place of every entry in the journal under its signed checkpoint, that the
// ask has the digest that was approved, and that everything the receipt says
// follows from those entries.
func VerifyReceipt(envelope []byte, t Trust) (Statement, error) {
	bad := func(format string, args ...any) error {
		return lockkeeper.Invalid.Errorf("receipt_invalid", format, args...).WithNext("Do not believe this receipt; fetch it again from the server that made it.")
	}
	verifier, payload, err := t.open("receipt", envelope, bad)
	if err != nil {
		return Statement{}, err
	}
	var s Statement
	if err := unmarshalStrict(payload, &s); err != nil || s.Type != statementType || s.PredicateType != receiptType {
		return Statement{}, bad("The statement is no receipt.")
	}
	for _, p := range s.Predicate.Proofs {
		if err := p.Verify(verifier); err != nil {
			return Statement{}, bad("The entry %d is not in the journal: %v", p.Seq, err)
		}
	}
	if digest, err := s.Predicate.Ask.Digest(); err != nil || digest != s.Predicate.AskDigest {
		return Statement{}, bad("The ask does not have the digest that was approved.")
	}
	derived, err := statementOf(t.Origin, s.Predicate.Proofs, s.Predicate.Omitted)
	if err != nil {
		return Statement{}, bad("The entries tell no deployment: %v.", err)
	}
	again, err := marshal(derived)
	if err != nil {
		return Statement{}, err
	}
	if !bytes.Equal(again, payload) {
		return Statement{}, bad("The receipt says something else than the entries that prove it.")
	}
	return s, nil
}

// approvers counts the persons who approved.
func (r Receipt) approvers() int {
	persons := map[lockkeeper.Person]bool{}
	for _, v := range r.Approvals {
		if len(v.Persons) > 0 {
			persons[countsAs(v.Persons)] = true
		}
	}
	return len(persons)
}

// String is the receipt in one line.
func (r Receipt) String() string {
	return fmt.Sprintf("%s: %s to %s of %s, approved by %d, catalog revision %d", r.Deployment, r.Status, r.Ask.Environment, r.Ask.Project, r.approvers(), r.Revision)
}
