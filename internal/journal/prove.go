package journal

import (
	"context"
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Proof shows, without the journal, that an entry stands in the log that a
// checkpoint was signed over.
type Proof struct {
	Seq        int64    `json:"seq"`
	Entry      []byte   `json:"entry"`      // the entry's stored bytes
	Hashes     [][]byte `json:"hashes"`     // RFC 6962 audit path, leaf to root
	Checkpoint []byte   `json:"checkpoint"` // signed note
}

// Prove is the proof that the entry seq stands under the current head.
func (r *Reader) Prove(ctx context.Context, seq int64) (Proof, error) {
	head := r.Head()
	e, err := r.Entry(ctx, seq)
	if err != nil {
		return Proof{}, err
	}
	path, err := tlog.ProveRecord(head.Size, seq, r.hashes(ctx))
	if err != nil {
		return Proof{}, fmt.Errorf("prove entry %d: %w", seq, err)
	}
	p := Proof{Seq: seq, Entry: e.Data, Checkpoint: head.Checkpoint, Hashes: [][]byte{}}
	for _, h := range path {
		p.Hashes = append(p.Hashes, h[:])
	}
	return p, nil
}

// Verify checks the checkpoint's signature and that the entry stands under it.
func (p Proof) Verify(verifier note.Verifier) error {
	bad := func(format string, args ...any) error {
		return lockkeeper.Invalid.Errorf("proof_invalid", format, args...).WithNext("Do not believe this entry; fetch the proof again from the journal's own server.")
	}
	_, size, root, err := openCheckpoint(p.Checkpoint, verifier)
	if err != nil {
		return bad("The proof's checkpoint does not hold: %v.", err)
	}
	var path tlog.RecordProof
	for _, h := range p.Hashes {
		if len(h) != tlog.HashSize {
			return bad("The proof has a hash of %d bytes.", len(h))
		}
		path = append(path, tlog.Hash(h))
	}
	if p.Seq < 0 || p.Seq >= size {
		return bad("The entry %d does not lie under a checkpoint of %d.", p.Seq, size)
	}
	if err := tlog.CheckRecord(path, size, root, p.Seq, tlog.RecordHash(p.Entry)); err != nil {
		return bad("The entry does not stand under the checkpoint.")
	}
	return nil
}

// ProveConsistency is the RFC 6962 proof that the tree of the first size
// entries is a beginning of the current one.
func (r *Reader) ProveConsistency(ctx context.Context, size int64) ([]tlog.Hash, error) {
	head := r.Head()
	if size < 1 || size > head.Size {
		return nil, lockkeeper.Invalid.Errorf("size_unknown", "There is no tree of %d entries; the journal has %d.", size, head.Size)
	}
	path, err := tlog.ProveTree(head.Size, size, r.hashes(ctx))
	if err != nil {
		return nil, fmt.Errorf("prove %d: %w", size, err)
	}
	return path, nil
}
