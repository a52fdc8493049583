// Package journal keeps the only truth: an append-only log of entries, each one
// a leaf of an RFC 6962 Merkle tree, with a signed checkpoint over the tree that
// is stored in the same transaction as the entries it covers.
//
// It guarantees that an entry is durable before Append returns (SQLite in WAL
// mode with synchronous=FULL), that a batch is stored whole or not at all, that
// a batch decided on another position is refused, and that a log which was torn
// or tampered with is refused at opening with the position where it breaks. It
// does not know what entries mean. It cannot notice that a whole older copy of
// the folder was put back: whoever keeps an outside checkpoint can.
//
// # Format
//
// The data folder holds lock (taken with flock while a server runs), journal.db
// and the sealed side store (see Sealed). In journal.db:
//
//	entry(seq, data, hashes)   data: the entry as it is hashed; hashes: the tree
//	                           nodes that this leaf completes, level 0 upward
//	subject(subject, seq)      index rows that the keeper hands over; derived
//	document(digest, data)     content-addressed documents
//	head(size, root, checkpoint)
//	meta(key, value)           format version and checkpoint origin
//
// Beside it the file checkpoint holds the last signed checkpoint once more. It
// is written after each commit, so a database that lost its end (a write-ahead
// log that was cut off, an older copy put back) is shorter than the file says,
// and is refused.
//
// The leaf of an entry is SHA-256(0x00 || data). A node of level l that covers
// leaves [n·2^l, (n+1)·2^l) stands in the hashes of the last of them, at byte
// 32·l. data is a JSON object with at least seq, time and kind. A checkpoint is
// a C2SP tlog-checkpoint: a signed note whose text is the origin, the decimal
// size and the root in base64, a line each.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Record is one entry to append.
type Record struct {
	Data     []byte   // the entry exactly as it is stored and hashed
	Subjects []string // what it is about, for the index
}

// A Document is stored once under its digest.
type Document struct {
	Digest lockkeeper.Digest
	Data   []byte
}

// A Batch is what one transaction appends.
type Batch struct {
	Size      int64 // size of the log that the batch was decided on
	Records   []Record
	Documents []Document
	Origin    string // of the epoch that the batch begins; "": the log goes on as it is
}

// A Head is the state of the tree.
type Head struct {
	Size       int64
	Root       tlog.Hash
	Checkpoint []byte // signed note; nil while the log is empty
}

// An Entry is one stored entry.
type Entry struct {
	Seq  int64
	Data []byte
}

// Options say where a journal lies and who signs its checkpoints.
type Options struct {
	Dir      string
	Outside  string // file that holds the last checkpoint outside the database; "": checkpoint in Dir
	Origin   string
	Signer   note.Signer
	Verifier note.Verifier
	Lock     *Lock // of Dir; nil: Open takes it

	// Behind, if not nil, gives the position from which on everything must be
	// verified before Open returns; what stands before it is left to
	// VerifyBehind. The reader that it gets has not been verified.
	Behind func(context.Context, *Reader) (int64, error)
}

// ErrUnknown says that a commit reported an error and may have happened all the
// same. Settle tells.
var ErrUnknown = errors.New("journal: the outcome of the commit is unknown")

// Broken says where a log is torn or was tampered with.
type Broken struct {
	Seq  int64 // first position that cannot be believed
	What string
}

// Error names the position and what does not fit there.
func (b *Broken) Error() string {
	return fmt.Sprintf("the journal breaks at entry %d: %s", b.Seq, b.What)
}

// A Journal is an open log. One goroutine may append; any number may read.
type Journal struct {
	*Reader
	options Options
	lock    *Lock
	ownLock bool
	writer  *sql.DB
	conn    *sql.Conn // the one connection that writes
	insert  statements
	edge    map[int64]tlog.Hash // stored hashes that the next leaf may need
	behind  int64               // entries before this were not verified by Open
	unknown bool                // a commit's outcome is unknown
	outside *os.File            // the last checkpoint, outside the database
	commit  func(context.Context, *sql.Conn) error
}

// Open opens the journal of a folder, makes it if there is none, and verifies
// it from the first entry to the signed head. It refuses a folder that another
// server uses (Conflict folder_in_use), one that cannot be written (Unavailable
// folder_unusable), another format or origin (Conflict), and a log that was torn
// or tampered with (*Broken).
func Open(ctx context.Context, o Options) (*Journal, error) {
	j := &Journal{options: o, lock: o.Lock, commit: commitTx}
	if j.lock == nil {
		lock, err := LockFolder(o.Dir)
		if err != nil {
			return nil, err
		}
		j.lock, j.ownLock = lock, true
	}
	if err := j.open(ctx); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) open(ctx context.Context) error {
	db, err := openDatabase(ctx, path(j.options.Dir), writing)
	if err != nil {
		return err
	}
	j.writer = db
	if err := makeSchema(ctx, db, j.options.Origin); err != nil {
		return err
	}
	if j.Reader, err = OpenReader(ctx, j.options.Dir, j.options.Outside, j.options.Verifier); err != nil {
		return err
	}
	if _, ok := epochOf(j.options.Origin, j.Reader.origin); !ok {
		return lockkeeper.Conflict.Errorf("journal_of_another", "The journal in %s is %q, not %q.", j.options.Dir, j.Reader.origin, j.options.Origin).
			WithNext("Start with the settings that the folder was made with, or with another folder.")
	}
	if err := j.checkOutside(); err != nil {
		return err
	}
	var report Report
	if j.options.Behind != nil {
		if j.behind, err = j.options.Behind(ctx, j.Reader); err != nil {
			return err
		}
	}
	if j.behind > 0 {
		report, err = verifyFrom(ctx, j.Reader, j.behind, nil)
	} else {
		report, err = Verify(ctx, j.Reader, nil)
	}
	if err != nil {
		return err
	}
	if err := nothingBehind(ctx, db, report.Entries); err != nil {
		return err
	}
	j.edge = report.peaks.edge()
	file := outsidePath(j.options.Dir, j.options.Outside)
	if j.outside, err = os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return unusable(file, err)
	}
	if j.Head().Size == 0 && j.Reader.outside == nil {
		if err := j.beginOutside(); err != nil {
			return err
		}
	}
	return j.connect(ctx)
}

// nothingBehind refuses entries that the signed head does not cover.
func nothingBehind(ctx context.Context, db *sql.DB, size int64) error {
	var behind int64
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM entry WHERE seq >= $1`, size).Scan(&behind); err != nil {
		return unavailable(err)
	}
	if behind > 0 {
		return &Broken{size, fmt.Sprintf("%d entries stand behind the signed head", behind)}
	}
	return nil
}

// VerifyBehind verifies what Open left out. It takes as long as reading all of
// it does, and may run while the journal is in use.
func (j *Journal) VerifyBehind(ctx context.Context) error {
	if j.behind == 0 {
		return nil
	}
	return verifyBefore(ctx, j.Reader, j.behind)
}

// connect takes a fresh writing connection and prepares its statements.
func (j *Journal) connect(ctx context.Context) error {
	if j.conn != nil {
		j.insert.close()
		j.conn.Close()
		j.conn = nil
	}
	conn, err := j.writer.Conn(ctx)
	if err != nil {
		return unavailable(err)
	}
	j.conn = conn
	return j.insert.prepare(ctx, conn)
}

// Close closes the journal and lets go of the folder.
func (j *Journal) Close() error {
	var errs []error
	j.insert.close()
	if j.conn != nil {
		errs = append(errs, j.conn.Close())
	}
	// The writer goes last: the last connection moves the write-ahead log into
	// the database, which a reading one may not.
	if j.Reader != nil {
		errs = append(errs, j.Reader.Close())
	}
	if j.writer != nil {
		errs = append(errs, j.writer.Close())
	}
	if j.outside != nil {
		errs = append(errs, j.outside.Close())
	}
	if j.ownLock && j.lock != nil {
		errs = append(errs, j.lock.Release())
	}
	return errors.Join(errs...)
}

// Entries yields the entries from (inclusive) to (exclusive), oldest first; to
// <= 0 means up to the head.
func (r *Reader) Entries(ctx context.Context, from, to int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if to <= 0 {
			to = r.Head().Size
		}
		rows, err := r.db.QueryContext(ctx, `SELECT seq, data FROM entry WHERE seq >= $1 AND seq < $2 ORDER BY seq`, from, to)
		if err != nil {
			yield(Entry{}, unavailable(err))
			return
		}
		defer rows.Close()
		for rows.Next() {
			var e Entry
			if err := rows.Scan(&e.Seq, &e.Data); err != nil {
				yield(Entry{}, unavailable(err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(Entry{}, unavailable(err))
		}
	}
}
