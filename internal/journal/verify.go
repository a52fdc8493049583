package journal

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/tlog"
)

// A Report says what Verify went over.
type Report struct {
	Origin    string `json:"origin"`
	Entries   int64  `json:"entries"`
	Documents int64  `json:"documents"`
	Root      string `json:"root"`    // base64
	Outside   bool   `json:"outside"` // compared with a checkpoint outside the database
	peaks     peaks
}

// Verify recomputes the whole log from the stored entries, in constant memory:
// each leaf and node, the root, the signed checkpoint, each entry's own
// position and time, and the digest of each document. What does not fit is a
// *Broken with the first position that cannot be believed. progress, if not
// nil, is called now and then with how many of how many entries are done.
func Verify(ctx context.Context, r *Reader, progress func(done, total int64)) (Report, error) {
	report, err := verifyFrom(ctx, r, 0, progress)
	if err != nil {
		return Report{}, err
	}
	if report.Documents, err = verifyRest(ctx, r); err != nil {
		return Report{}, err
	}
	if progress != nil {
		progress(report.Entries, report.Entries)
	}
	return report, nil
}

// verifyFrom verifies the entries from a position to the signed head. What
// stands before from is taken at its word as far as the tree's nodes over it
// go, and those nodes are proven: with others, the signed root would not come
// out.
func verifyFrom(ctx context.Context, r *Reader, from int64, progress func(done, total int64)) (Report, error) {
	head := r.Head()
	w := walk{next: from}
	var err error
	if w.peaks, err = storedPeaks(ctx, r, from); err != nil {
		return Report{}, err
	}
	if err := w.over(ctx, r, head.Size, progress); err != nil {
		return Report{}, err
	}
	if err := w.finish(r, head); err != nil {
		return Report{}, err
	}
	if err := r.verifyOutside(ctx, head); err != nil {
		return Report{}, err
	}
	return Report{Origin: r.origin, Entries: head.Size, Root: head.Root.String(), Outside: r.outside != nil, peaks: w.peaks}, nil
}

// verifyBefore verifies the entries before a position against the nodes over
// them, which verifyFrom has proven.
func verifyBefore(ctx context.Context, r *Reader, to int64) error {
	w := walk{}
	if err := w.over(ctx, r, to, nil); err != nil {
		return err
	}
	if w.next != to {
		return &Broken{w.next, fmt.Sprintf("%d entries are there, and the signed tree covers %d", w.next, to)}
	}
	stored, err := storedPeaks(ctx, r, to)
	if err != nil {
		return err
	}
	if stored.root() != w.peaks.root() {
		return &Broken{0, fmt.Sprintf("the first %d entries do not give the nodes that the signed root stands on", to)}
	}
	_, err = verifyRest(ctx, r)
	return err
}

// over steps through the stored entries up to a position.
func (w *walk) over(ctx context.Context, r *Reader, to int64, progress func(done, total int64)) error {
	rows, err := r.db.QueryContext(ctx, `SELECT seq, data, hashes FROM entry WHERE seq >= $1 AND seq < $2 ORDER BY seq`, w.next, to)
	if err != nil {
		return unavailable(err)
	}
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var data, hashes sql.RawBytes
		if err := rows.Scan(&seq, &data, &hashes); err != nil {
			return brokenAt(w.next, err)
		}
		if err := w.step(seq, data, hashes); err != nil {
			return err
		}
		if progress != nil && w.next%4096 == 0 {
			progress(w.next, to)
		}
	}
	if err := rows.Err(); err != nil {
		return brokenAt(w.next, err)
	}
	return nil
}

func brokenAt(seq int64, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Broken{seq, fmt.Sprintf("it cannot be read: %v", err)}
}

// A walk recomputes the tree leaf by leaf.
type walk struct {
	next  int64
	last  lockkeeper.Moment
	peaks peaks
	flat  []byte // of the last leaf
}

func (w *walk) step(seq int64, data, hashes []byte) error {
	if seq != w.next {
		return &Broken{w.next, fmt.Sprintf("entry %d is missing", w.next)}
	}
	own, at, ok := header(data)
	switch {
	case !ok:
		return &Broken{seq, "it is no entry"}
	case own != seq:
		return &Broken{seq, fmt.Sprintf("it says that it is entry %d", own)}
	case at.Before(w.last):
		return &Broken{seq, "it is older than the entry before it"}
	}
	w.flat = w.peaks.add(data, w.flat[:0])
	if !bytes.Equal(w.flat, hashes) {
		return &Broken{seq, "its bytes do not give the hashes that were stored with it"}
	}
	w.last, w.next = at, seq+1
	return nil
}

// header reads what every entry begins with: {"seq":N,"time":"…","kind":"…. That
// is how entries are written; any other spelling is read as JSON.
func header(data []byte) (seq int64, at lockkeeper.Moment, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(`{"seq":`))
	if i := bytes.IndexByte(rest, ','); ok && i > 0 && i < 20 {
		n, err := strconv.ParseInt(string(rest[:i]), 10, 64)
		text, isTime := bytes.CutPrefix(rest[i:], []byte(`,"time":"`))
		if err == nil && isTime && len(text) > 24 && bytes.HasPrefix(text[24:], []byte(`","kind":"`)) && text[34] != '"' {
			if t, err := time.Parse(momentLayout, string(text[:24])); err == nil {
				return n, lockkeeper.MomentOf(t), true
			}
		}
	}
	var h struct {
		Seq  *int64             `json:"seq"`
		Time *lockkeeper.Moment `json:"time"`
		Kind string             `json:"kind"`
	}
	if err := json.Unmarshal(data, &h); err != nil || h.Seq == nil || h.Time == nil || h.Kind == "" {
		return 0, at, false
	}
	return *h.Seq, *h.Time, true
}

const momentLayout = "2006-01-02T15:04:05.000Z"

// finish compares the tree with the head and the head with its signature.
func (w *walk) finish(r *Reader, head Head) error {
	if w.next != head.Size {
		return &Broken{w.next, fmt.Sprintf("the head covers %d entries, and %d are there", head.Size, w.next)}
	}
	if head.Size == 0 {
		return nil
	}
	root := w.peaks.root()
	if root != head.Root {
		return &Broken{0, "the entries do not give the root that the head names"}
	}
	origin, size, signed, err := openCheckpoint(head.Checkpoint, r.verifier)
	if err != nil {
		return &Broken{head.Size - 1, err.Error()}
	}
	if origin != r.origin || size != head.Size || signed != root {
		return &Broken{head.Size - 1, fmt.Sprintf("the signed checkpoint is of %q with %d entries and another root", origin, size)}
	}
	return nil
}

// peaks are the roots of the complete subtrees of a tree, the largest first:
// one for each bit of its size (RFC 6962, section 2.1).
type peaks struct {
	size   int64
	hashes []tlog.Hash
}

// add adds a leaf and appends to flat the nodes that it completes, level 0
// upward.
func (p *peaks) add(data, flat []byte) []byte {
	h := tlog.RecordHash(data)
	flat = append(flat, h[:]...)
	for n := p.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(p.hashes[len(p.hashes)-1], h)
		p.hashes = p.hashes[:len(p.hashes)-1]
		flat = append(flat, h[:]...)
	}
	p.hashes = append(p.hashes, h)
	p.size++
	return flat
}

// root is the tree's hash.
func (p *peaks) root() tlog.Hash {
	if len(p.hashes) == 0 {
		return tlog.Hash{}
	}
	h := p.hashes[len(p.hashes)-1]
	for i := len(p.hashes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(p.hashes[i], h)
	}
	return h
}

// edge is the peaks by the index under which tlog stores them.
func (p *peaks) edge() map[int64]tlog.Hash {
	out := make(map[int64]tlog.Hash, 64)
	i := 0
	for level := bits.Len64(uint64(p.size)) - 1; level >= 0; level-- {
		if p.size>>level&1 == 1 {
			out[tlog.StoredHashIndex(level, p.size>>level-1)] = p.hashes[i]
			i++
		}
	}
	return out
}

// storedPeaks reads the peaks over the first size entries.
func storedPeaks(ctx context.Context, r *Reader, size int64) (peaks, error) {
	p := peaks{size: size}
	var indexes []int64
	for level := bits.Len64(uint64(size)) - 1; level >= 0; level-- {
		if size>>level&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, size>>level-1))
		}
	}
	var err error
	if p.hashes, err = r.hashes(ctx).ReadHashes(indexes); err != nil {
		return p, &Broken{size, fmt.Sprintf("the nodes over the first %d entries cannot be read: %v", size, err)}
	}
	return p, nil
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
