package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lockkeeper/lockkeeper"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const formatVersion = 1

// schema is written to run on SQLite as it stands; hashes, digests and data are
// checked by Verify, the triggers only stop a slip.
var schema = []string{
	`CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT`,
	`CREATE TABLE entry(seq INTEGER PRIMARY KEY, data BLOB NOT NULL, hashes BLOB NOT NULL) STRICT`,
	`CREATE TABLE subject(subject TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(subject, seq)) STRICT, WITHOUT ROWID`,
	`CREATE TABLE document(digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT`,
	`CREATE TABLE head(id INTEGER PRIMARY KEY CHECK(id = 1), size INTEGER NOT NULL, root BLOB NOT NULL, checkpoint BLOB NOT NULL) STRICT`,
	`CREATE TRIGGER entry_stays BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never changed'); END`,
	`CREATE TRIGGER entry_remains BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'entries are never removed'); END`,
	`CREATE TRIGGER document_stays BEFORE UPDATE ON document BEGIN SELECT RAISE(ABORT, 'documents are never changed'); END`,
}

func path(dir string) string { return filepath.Join(dir, "journal.db") }

type openMode bool

const (
	writing openMode = true
	reading openMode = false
)

// openDatabase opens a SQLite file. Writing makes it (mode 0600), in WAL mode
// with synchronous=FULL: what a commit acknowledged survives a power cut.
func openDatabase(ctx context.Context, file string, mode openMode) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "trusted_schema(0)", "cell_size_check(1)", "foreign_keys(1)"}}
	if mode == writing {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, unusable(file, err)
		}
		f.Close()
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)", "synchronous(FULL)")
	} else {
		if err := exists(file); err != nil {
			return nil, err
		}
		q.Set("mode", "ro")
		q["_pragma"] = append(q["_pragma"], "query_only(1)")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: file}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, unusable(file, err)
	}
	if mode == writing {
		db.SetMaxOpenConns(1)
	} else {
		db.SetMaxOpenConns(4)
	}
	if err := db.PingContext(ctx); err != nil {
		db.Close()
		return nil, unusable(file, err)
	}
	return db, nil
}

// Exists refuses a folder that holds no journal (NotFound journal_missing).
func Exists(dir string) error { return exists(path(dir)) }

// Begun reports whether a folder holds a journal with at least one entry. What
// cannot be read counts as begun: whoever opens it says what is wrong.
func Begun(ctx context.Context, dir string) (bool, error) {
	if exists(path(dir)) != nil {
		return false, nil
	}
	db, err := openDatabase(ctx, path(dir), reading)
	if err != nil {
		return true, nil
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM entry LIMIT 1)`).Scan(&n); err != nil {
		var has int
		err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema`).Scan(&has)
		return err != nil || has > 0, nil
	}
	return n > 0, nil
}

func exists(file string) error {
	if _, err := os.Stat(file); err != nil {
		return lockkeeper.NotFound.Errorf("journal_missing", "There is no journal at %s.", file).
			WithNext("Name the data folder of a server.").WithField(file).WithCause(err)
	}
	return nil
}

func unusable(file string, err error) error {
	return lockkeeper.Unavailable.Errorf("folder_unusable", "The database %s cannot be opened: %v.", file, err).
		WithNext("Check that the folder can be read and written, and that the file is a journal.").WithField(file).WithCause(err)
}

func makeSchema(ctx context.Context, db *sql.DB, origin string) error {
	var n int
	if err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM sqlite_schema`).Scan(&n); err != nil {
		return unusable(origin, err)
	}
	if n > 0 {
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(err)
	}
	defer tx.Rollback()
	for _, s := range schema {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return unavailable(err)
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO meta(key, value) VALUES ('format', $1), ('origin', $2)`, strconv.Itoa(formatVersion), origin); err != nil {
		return unavailable(err)
	}
	if err := tx.Commit(); err != nil {
		return unavailable(err)
	}
	return nil
}

func checkFormat(ctx context.Context, db *sql.DB) (origin string, err error) {
	var format string
	if err := db.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'format'`).Scan(&format); err != nil {
		return "", &Broken{0, fmt.Sprintf("the file is no journal: %v", err)}
	}
	if format != strconv.Itoa(formatVersion) {
		return "", lockkeeper.Conflict.Errorf("journal_format", "The journal has the format %s, and this release reads %d.", format, formatVersion).
			WithNext("Use the release that wrote it, or a newer one.")
	}
	if err := db.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'origin'`).Scan(&origin); err != nil {
		return "", &Broken{0, "the journal does not say whose it is"}
	}
	return origin, nil
}

// unavailable turns a fault of the database into a refusal that a caller can
// act on. Nothing was changed when it is returned.
func unavailable(err error) error {
	if r := lockkeeper.RefusalOf(err); r != nil {
		return err
	}
	var s *sqlite.Error
	if errors.As(err, &s) {
		switch s.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return lockkeeper.Unavailable.Errorf("disk_full", "The disk with the data folder is full; nothing was changed.").
				WithNext("Free some space and ask again.").WithCause(err)
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return &Broken{0, fmt.Sprintf("the database file is damaged: %v", err)}
		}
	}
	return lockkeeper.Unavailable.Errorf("journal_unavailable", "The journal cannot be used right now; nothing was changed.").
		WithNext("Ask again in a moment; if it goes on, look at the server's log.").WithCause(err)
}

// Fatal reports whether err is an I/O error of the database. What the kernel
// then still holds in memory cannot be trusted, so the process must end and
// start again from the disk.
func Fatal(err error) bool {
	var s *sqlite.Error
	return errors.As(err, &s) && s.Code()&0xff == sqlite3.SQLITE_IOERR
}
