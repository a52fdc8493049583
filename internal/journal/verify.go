package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/tlog"
)

// A Report says what Verify went over.
type Report struct {
	Origin    string `json:"origin"`
	Entries   int64  `json:"entries"`
	Documents int64  `json:"documents"`
	Root      string `json:"root"` // base64
	edge      map[int64]tlog.Hash
}

// header is what every entry has.
type header struct {
	Seq  *int64             `json:"seq"`
	Time *lockkeeper.Moment `json:"time"`
	Kind string             `json:"kind"`
}

// Verify recomputes the whole log from the stored entries, in constant memory:
// each leaf and node, the root, the signed checkpoint, each entry's own
// position and time, and the digest of each document. What does not fit is a
// *Broken with the first position that cannot be believed. progress, if not
// nil, is called now and then with how many of how many entries are done.
func Verify(ctx context.Context, r *Reader, progress func(done, total int64)) (Report, error) {
	head := r.Head()
	w := walk{head: head, edge: map[int64]tlog.Hash{}}
	rows, err := r.db.QueryContext(ctx, `SELECT seq, data, hashes FROM entry WHERE seq < $1 ORDER BY seq`, head.Size)
	if err != nil {
		return Report{}, unavailable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var data, hashes []byte
		if err := rows.Scan(&seq, &data, &hashes); err != nil {
			return Report{}, brokenAt(w.next, err)
		}
		if err := w.step(seq, data, hashes); err != nil {
			return Report{}, err
		}
		if progress != nil && w.next%4096 == 0 {
			progress(w.next, head.Size)
		}
	}
	if err := rows.Err(); err != nil {
		return Report{}, brokenAt(w.next, err)
	}
	rows.Close()
	if err := w.finish(r); err != nil {
		return Report{}, err
	}
	if err := r.verifyOutside(ctx, head); err != nil {
		return Report{}, err
	}
	report := Report{Origin: r.origin, Entries: head.Size, Root: head.Root.String(), edge: w.edge}
	if report.Documents, err = verifyRest(ctx, r); err != nil {
		return Report{}, err
	}
	if progress != nil {
		progress(head.Size, head.Size)
	}
	return report, nil
}

func brokenAt(seq int64, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Broken{seq, fmt.Sprintf("it cannot be read: %v", err)}
}

// A walk recomputes the tree leaf by leaf.
type walk struct {
	head Head
	next int64
	last lockkeeper.Moment
	edge map[int64]tlog.Hash
}

func (w *walk) step(seq int64, data, hashes []byte) error {
	if seq != w.next {
		return &Broken{w.next, fmt.Sprintf("entry %d is missing", w.next)}
	}
	var h header
	if err := json.Unmarshal(data, &h); err != nil || h.Seq == nil || h.Time == nil || h.Kind == "" {
		return &Broken{seq, "it is no entry"}
	}
	if *h.Seq != seq {
		return &Broken{seq, fmt.Sprintf("it says that it is entry %d", *h.Seq)}
	}
	if h.Time.Before(w.last) {
		return &Broken{seq, "it is older than the entry before it"}
	}
	flat, err := extend(w.edge, seq, data)
	if err != nil {
		return err
	}
	if !bytes.Equal(flat, hashes) {
		return &Broken{seq, "its bytes do not give the hashes that were stored with it"}
	}
	w.last, w.next = *h.Time, seq+1
	if w.next%1024 == 0 {
		w.edge = trim(w.edge, w.next)
	}
	return nil
}

// finish compares the tree with the head and the head with its signature.
func (w *walk) finish(r *Reader) error {
	if w.next != w.head.Size {
		return &Broken{w.next, fmt.Sprintf("the head covers %d entries, and %d are there", w.head.Size, w.next)}
	}
	w.edge = trim(w.edge, w.next)
	if w.head.Size == 0 {
		return nil
	}
	root, err := tlog.TreeHash(w.next, edgeReader(w.edge))
	if err != nil {
		return err
	}
	if root != w.head.Root {
		return &Broken{0, "the entries do not give the root that the head names"}
	}
	origin, size, signed, err := openCheckpoint(w.head.Checkpoint, r.verifier)
	if err != nil {
		return &Broken{w.head.Size - 1, err.Error()}
	}
	if origin != r.origin || size != w.head.Size || signed != root {
		return &Broken{w.head.Size - 1, fmt.Sprintf("the signed checkpoint is of %q with %d entries and another root", origin, size)}
	}
	return nil
}

// verifyRest checks the documents' digests.
func verifyRest(ctx context.Context, r *Reader) (int64, error) {
	rows, err := r.db.QueryContext(ctx, `SELECT digest, data FROM document`)
	if err != nil {
		return 0, unavailable(err)
	}
	defer rows.Close()
	var n int64
	for rows.Next() {
		var digest string
		var data []byte
		if err := rows.Scan(&digest, &data); err != nil {
			return 0, brokenAt(0, err)
		}
		if string(lockkeeper.DigestOf(data)) != digest {
			return 0, &Broken{0, fmt.Sprintf("the document %s has other bytes", digest)}
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return 0, brokenAt(0, err)
	}
	return n, nil
}
