package journal

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type statements struct {
	entry, subject, document, head *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, p := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&s.entry, `INSERT INTO entry(seq, data, hashes) VALUES ($1, $2, $3)`},
		{&s.subject, `INSERT INTO subject(subject, seq) VALUES ($1, $2) ON CONFLICT DO NOTHING`},
		{&s.document, `INSERT INTO document(digest, data) VALUES ($1, $2) ON CONFLICT DO NOTHING`},
		{&s.head, `INSERT INTO head(id, size, root, checkpoint) VALUES (1, $1, $2, $3)
			ON CONFLICT(id) DO UPDATE SET size = excluded.size, root = excluded.root, checkpoint = excluded.checkpoint WHERE head.size = $4`},
	} {
		stmt, err := conn.PrepareContext(ctx, p.text)
		if err != nil {
			return unavailable(err)
		}
		*p.to = stmt
	}
	return nil
}

func (s *statements) close() {
	for _, stmt := range []*sql.Stmt{s.entry, s.subject, s.document, s.head} {
		if stmt != nil {
			stmt.Close()
		}
	}
	*s = statements{}
}

// Append stores a batch, the tree nodes that it completes and a signed
// checkpoint over all of it, in one transaction, and returns the new head once
// that is durable. It refuses a batch that was decided on another size
// (Conflict journal_moved) and a full disk (Unavailable disk_full); then nothing
// was stored. ErrUnknown means that it may have been: no batch is taken until
// Settle has looked. An empty batch changes nothing.
func (j *Journal) Append(ctx context.Context, b Batch) (Head, error) {
	old := j.Head()
	switch {
	case j.unknown:
		return old, fmt.Errorf("append before settling: %w", ErrUnknown)
	case b.Size != old.Size:
		return old, lockkeeper.Conflict.Errorf("journal_moved", "The journal has %d entries, and the batch was decided on %d.", old.Size, b.Size).
			WithNext("Decide again.")
	case len(b.Records) == 0:
		return old, nil
	}
	origin := j.Reader.origin
	if b.Origin != "" {
		origin = b.Origin
	}
	next, edge, hashes, err := j.grow(old, origin, b.Records)
	if err != nil {
		return old, err
	}
	if err := j.store(ctx, old, next, b, hashes); err != nil {
		j.conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
		return old, unavailable(err)
	}
	// From here on the caller's patience counts no more: a commit that is cut
	// off has an unknown outcome. A crash before it leaves the old head.
	if err := j.commit(context.WithoutCancel(ctx), j.conn); err != nil {
		j.unknown = true
		return old, errors.Join(ErrUnknown, err)
	}
	j.edge, j.Reader.origin = edge, origin
	j.setHead(next)
	// A crash before this leaves an older checkpoint outside, which the longer
	// log still fits.
	if err := j.keepOutside(next); err != nil {
		j.unknown = true
		return old, errors.Join(ErrUnknown, err)
	}
	return next, nil
}

func commitTx(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `COMMIT`)
	return err
}

// grow computes the head after the records, the right edge of its tree, and the
// nodes that each record completes.
func (j *Journal) grow(old Head, origin string, records []Record) (Head, map[int64]tlog.Hash, [][]byte, error) {
	edge := make(map[int64]tlog.Hash, 64+2*len(records))
	for k, v := range j.edge {
		edge[k] = v
	}
	all := make([][]byte, len(records))
	size := old.Size
	for i, r := range records {
		var err error
		if all[i], err = extend(edge, size, r.Data); err != nil {
			return Head{}, nil, nil, err
		}
		size++
	}
	root, err := tlog.TreeHash(size, edgeReader(edge))
	if err != nil {
		return Head{}, nil, nil, fmt.Errorf("tree of %d entries: %w", size, err)
	}
	checkpoint, err := note.Sign(&note.Note{Text: checkpointText(origin, size, root)}, j.options.Signer)
	if err != nil {
		return Head{}, nil, nil, fmt.Errorf("sign the checkpoint: %w", err)
	}
	return Head{Size: size, Root: root, Checkpoint: checkpoint}, trim(edge, size), all, nil
}

// extend adds leaf n to the edge and returns the nodes that it completes, level
// 0 upward.
func extend(edge map[int64]tlog.Hash, n int64, data []byte) ([]byte, error) {
	hashes, err := tlog.StoredHashes(n, data, edgeReader(edge))
	if err != nil {
		return nil, fmt.Errorf("leaf %d: %w", n, err)
	}
	at := tlog.StoredHashIndex(0, n)
	flat := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i, h := range hashes {
		edge[at+int64(i)] = h
		flat = append(flat, h[:]...)
	}
	return flat, nil
}

// edgeReader serves stored hashes from memory.
func edgeReader(edge map[int64]tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			h, ok := edge[x]
			if !ok {
				return nil, fmt.Errorf("the node %d is not at the edge", x)
			}
			out[i] = h
		}
		return out, nil
	})
}

// trim keeps of an edge the roots of the complete subtrees of a tree of size n:
// all that the next leaf and the next root can ask for.
func trim(edge map[int64]tlog.Hash, n int64) map[int64]tlog.Hash {
	out := make(map[int64]tlog.Hash, 64)
	for level := range bits.Len64(uint64(n)) {
		if n>>level&1 == 1 {
			x := tlog.StoredHashIndex(level, n>>level-1)
			out[x] = edge[x]
		}
	}
	return out
}

func checkpointText(origin string, size int64, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
}

func (j *Journal) store(ctx context.Context, old, next Head, b Batch, hashes [][]byte) error {
	if _, err := j.conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	for i, r := range b.Records {
		seq := old.Size + int64(i)
		if _, err := j.insert.entry.ExecContext(ctx, seq, r.Data, hashes[i]); err != nil {
			return err
		}
		for _, s := range r.Subjects {
			if _, err := j.insert.subject.ExecContext(ctx, s, seq); err != nil {
				return err
			}
		}
	}
	for _, d := range b.Documents {
		if lockkeeper.DigestOf(d.Data) != d.Digest {
			return fmt.Errorf("the document %s has another digest", d.Digest)
		}
		if _, err := j.insert.document.ExecContext(ctx, string(d.Digest), d.Data); err != nil {
			return err
		}
	}
	if b.Origin != "" {
		if _, err := j.conn.ExecContext(ctx, `UPDATE meta SET value = $1 WHERE key = 'origin'`, b.Origin); err != nil {
			return err
		}
	}
	// The fence: the head moves only from the size that was decided on.
	result, err := j.insert.head.ExecContext(ctx, next.Size, next.Root[:], next.Checkpoint, old.Size)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(fmt.Errorf("the head is not at %d", old.Size), err)
	}
	return nil
}

// Settle finds out, on a new connection, whether a commit of unknown outcome
// happened, verifies what follows the head that is known, and returns the head
// that stands. A head that is neither the old one nor a continuation of it is
// Broken.
func (j *Journal) Settle(ctx context.Context) (Head, error) {
	j.conn.ExecContext(ctx, `ROLLBACK`) // ends what a failed COMMIT may have left open
	if err := j.connect(ctx); err != nil {
		return Head{}, err
	}
	if err := j.Reader.refresh(ctx); err != nil {
		return Head{}, err
	}
	report, err := Verify(ctx, j.Reader, nil)
	if err != nil {
		return Head{}, err
	}
	j.edge, j.unknown = report.peaks.edge(), false
	return j.Head(), j.keepOutside(j.Head())
}
