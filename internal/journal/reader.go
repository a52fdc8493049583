package journal

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Reader reads a journal without taking or changing it: a copy of a folder,
// or one that a server is writing to. It shows the log up to the head that was
// there when it was opened.
type Reader struct {
	db       *sql.DB
	verifier note.Verifier
	origin   string

	outside []byte // the checkpoint outside the database, read before the head; nil: there is none

	mu   sync.RWMutex
	head Head
}

// OpenReader opens the journal of a folder for reading. outside is the file with
// the checkpoint outside the database; "" is the one in the folder. It is checked
// by Verify, not here, so that a damaged log can still be looked at.
func OpenReader(ctx context.Context, dir, outside string, verifier note.Verifier) (*Reader, error) {
	db, err := openDatabase(ctx, path(dir), reading)
	if err != nil {
		return nil, err
	}
	r := &Reader{db: db, verifier: verifier}
	if r.outside, err = readOutside(outsidePath(dir, outside)); err != nil {
		db.Close()
		return nil, err
	}
	if r.origin, err = checkFormat(ctx, db); err == nil {
		err = r.refresh(ctx)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return r, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return r.db.Close() }

// Head is the head that the reader reads up to.
func (r *Reader) Head() Head {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.head
}

func (r *Reader) setHead(h Head) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head = h
}

func (r *Reader) refresh(ctx context.Context) error {
	var h Head
	var root []byte
	err := r.db.QueryRowContext(ctx, `SELECT size, root, checkpoint FROM head WHERE id = 1`).Scan(&h.Size, &root, &h.Checkpoint)
	if errors.Is(err, sql.ErrNoRows) {
		var n int64
		if err := r.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM entry`).Scan(&n); err != nil {
			return unavailable(err)
		}
		if n > 0 {
			return &Broken{0, fmt.Sprintf("%d entries and no head over them", n)}
		}
		r.setHead(Head{})
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if len(root) != tlog.HashSize || h.Size < 0 {
		return &Broken{0, "the head's root is not a hash"}
	}
	copy(h.Root[:], root)
	r.setHead(h)
	return nil
}

// Entry is the entry at seq.
func (r *Reader) Entry(ctx context.Context, seq int64) (Entry, error) {
	e := Entry{Seq: seq}
	err := r.db.QueryRowContext(ctx, `SELECT data FROM entry WHERE seq = $1`, seq).Scan(&e.Data)
	if errors.Is(err, sql.ErrNoRows) || err == nil && seq >= r.Head().Size {
		return Entry{}, lockkeeper.NotFound.Errorf("entry_missing", "There is no entry %d; the journal has %d.", seq, r.Head().Size).
			WithNext("Name one from 0 to %d.", r.Head().Size-1)
	}
	if err != nil {
		return Entry{}, unavailable(err)
	}
	return e, nil
}

// Subject is at most limit entries about the subject, newest first, of those
// before the position before (0: all).
func (r *Reader) Subject(ctx context.Context, subject string, before int64, limit int) ([]Entry, error) {
	if size := r.Head().Size; before <= 0 || before > size {
		before = size
	}
	return r.entries(ctx, `SELECT e.seq, e.data FROM subject s JOIN entry e ON e.seq = s.seq
		WHERE s.subject = $1 AND s.seq < $2 ORDER BY s.seq DESC LIMIT $3`, subject, before, limit)
}

// SubjectAll is every entry about the subject, oldest first.
func (r *Reader) SubjectAll(ctx context.Context, subject string) ([]Entry, error) {
	return r.entries(ctx, `SELECT e.seq, e.data FROM subject s JOIN entry e ON e.seq = s.seq
		WHERE s.subject = $1 AND s.seq < $2 ORDER BY s.seq`, subject, r.Head().Size)
}

func (r *Reader) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := r.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var out []Entry
	for rows.Next() {
		var e Entry
		if err := rows.Scan(&e.Seq, &e.Data); err != nil {
			return nil, unavailable(err)
		}
		out = append(out, e)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return out, nil
}

// Document is the document with the digest. One whose bytes have another
// digest is Broken.
func (r *Reader) Document(ctx context.Context, digest lockkeeper.Digest) ([]byte, error) {
	var data []byte
	err := r.db.QueryRowContext(ctx, `SELECT data FROM document WHERE digest = $1`, string(digest)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, lockkeeper.NotFound.Errorf("document_missing", "The journal has no document %s.", digest)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if lockkeeper.DigestOf(data) != digest {
		return nil, &Broken{0, fmt.Sprintf("the document %s has other bytes", digest)}
	}
	return data, nil
}

// hashes reads stored tree nodes: each stands in the row of the last leaf that
// it covers.
func (r *Reader) hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			level, n := tlog.SplitStoredHashIndex(x)
			last := (n+1)<<level - 1
			var flat []byte
			if err := r.db.QueryRowContext(ctx, `SELECT hashes FROM entry WHERE seq = $1`, last).Scan(&flat); err != nil {
				return nil, fmt.Errorf("node %d: %w", x, err)
			}
			if len(flat) < (level+1)*tlog.HashSize {
				return nil, &Broken{n << level, "a tree node is missing"}
			}
			copy(out[i][:], flat[level*tlog.HashSize:])
		}
		return out, nil
	})
}

// openCheckpoint checks a checkpoint's signature and reads it.
func openCheckpoint(msg []byte, verifier note.Verifier) (origin string, size int64, root tlog.Hash, err error) {
	signed, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return "", 0, root, fmt.Errorf("the checkpoint is not signed by %s: %w", verifier.Name(), err)
	}
	for _, s := range slices.Concat(signed.Sigs, signed.UnverifiedSigs) {
		// The note package takes base64 with stray bits: two spellings of one signature.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return "", 0, root, fmt.Errorf("a signature of the checkpoint is not canonical base64")
		}
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", 0, root, fmt.Errorf("the checkpoint does not have three lines")
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return "", 0, root, fmt.Errorf("the checkpoint's size is no number")
	}
	root, err = tlog.ParseHash(lines[2])
	if err != nil {
		return "", 0, root, fmt.Errorf("the checkpoint's root is no hash")
	}
	return lines[0], size, root, nil
}
