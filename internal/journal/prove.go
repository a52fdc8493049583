package journal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

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

// Log is the name, with its epoch, of the log that the proof's checkpoint is of.
func (p Proof) Log() string {
	name, _, _ := strings.Cut(string(p.Checkpoint), "\n")
	return name
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
	path, err := treePath(p.Hashes)
	if err != nil {
		return bad("The proof is malformed: %v.", err)
	}
	if p.Seq < 0 || p.Seq >= size {
		return bad("The entry %d does not lie under a checkpoint of %d.", p.Seq, size)
	}
	if !stands(path, size, root, p.Seq, tlog.RecordHash(p.Entry)) {
		return bad("The entry does not stand under the checkpoint.")
	}
	return nil
}

// stands checks an inclusion proof (RFC 9162, section 2.1.3.2).
func stands(path []tlog.Hash, size int64, root tlog.Hash, seq int64, leaf tlog.Hash) bool {
	return seq >= 0 && seq < size && tlog.CheckRecord(path, size, root, seq, leaf) == nil
}

// A Continuation shows, without the journal, that the log which one checkpoint
// was signed over is a beginning of the log which another one was signed over:
// between them nothing was changed, taken out or put in.
type Continuation struct {
	Old    []byte   `json:"old"`    // signed note
	New    []byte   `json:"new"`    // signed note
	Hashes [][]byte `json:"hashes"` // RFC 6962 consistency proof; none for equal trees
}

// ProveContinuation is the proof that the log goes on from where a checkpoint
// was signed. It refuses a checkpoint that is not this log's (Invalid
// checkpoint_invalid), and one that the log does not continue (*Broken).
func (r *Reader) ProveContinuation(ctx context.Context, old []byte) (Continuation, error) {
	_, size, root, err := openCheckpoint(old, r.verifier)
	if err != nil {
		return Continuation{}, lockkeeper.Invalid.Errorf("checkpoint_invalid", "The checkpoint does not hold: %v.", err).
			WithNext("Give it as it was kept: the file checkpoint of a data folder, or what `lockkeeper journal checkpoint` printed.")
	}
	head := r.Head()
	if size > head.Size {
		return Continuation{}, &Broken{head.Size, fmt.Sprintf("the checkpoint was signed over %d entries, and only %d are there", size, head.Size)}
	}
	c := Continuation{Old: old, New: head.Checkpoint, Hashes: [][]byte{}}
	if size == 0 {
		return c, nil
	}
	path, err := tlog.ProveTree(head.Size, size, r.hashes(ctx))
	if err != nil {
		return Continuation{}, fmt.Errorf("prove %d: %w", size, err)
	}
	if !continues(path, head.Size, head.Root, size, root) {
		return Continuation{}, &Broken{0, fmt.Sprintf("the first %d entries are not those that the checkpoint was signed over", size)}
	}
	for _, h := range path {
		c.Hashes = append(c.Hashes, h[:])
	}
	return c, nil
}

// Verify checks both signatures and that the second log continues the first. It
// returns the sizes of both.
func (c Continuation) Verify(verifier note.Verifier) (from, to int64, err error) {
	bad := func(format string, args ...any) error {
		return lockkeeper.Invalid.Errorf("proof_invalid", format, args...).WithNext("Keep both checkpoints: two that do not fit show that the log was changed, or began anew from an older copy.")
	}
	_, from, old, err := openCheckpoint(c.Old, verifier)
	if err != nil {
		return 0, 0, bad("The older checkpoint does not hold: %v.", err)
	}
	_, to, now, err := openCheckpoint(c.New, verifier)
	if err != nil {
		return 0, 0, bad("The newer checkpoint does not hold: %v.", err)
	}
	path, err := treePath(c.Hashes)
	if err != nil {
		return 0, 0, bad("The proof is malformed: %v.", err)
	}
	if !continues(path, to, now, from, old) {
		return 0, 0, bad("The log of %d entries does not continue the one of %d.", to, from)
	}
	return from, to, nil
}

func treePath(hashes [][]byte) ([]tlog.Hash, error) {
	var path []tlog.Hash
	for _, h := range hashes {
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("it has a hash of %d bytes", len(h))
		}
		path = append(path, tlog.Hash(h))
	}
	return path, nil
}

// continues checks a consistency proof (RFC 9162, section 2.1.4.2). Every log
// continues the empty one, whose root is that of no leaves.
func continues(path []tlog.Hash, size int64, root tlog.Hash, old int64, was tlog.Hash) bool {
	if old == 0 {
		return len(path) == 0 && was == emptyRoot
	}
	return old <= size && tlog.CheckTree(path, size, root, old, was) == nil
}

// emptyRoot is the root of a tree without leaves: SHA-256 of nothing (RFC 6962,
// section 2.1).
var emptyRoot = tlog.Hash(sha256.Sum256(nil))
