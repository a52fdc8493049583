package journal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lockkeeper/lockkeeper"
)

// Sealed is the side store for secrets and erasable facts: password hashes and
// signing keys. Entries name its rows by id and no fold reads it, so losing it
// forces people to enrol anew and never gives access.
//
// It is a SQLite file of its own, sealed.db; each value is AES-256-GCM
// (12-byte random nonce || ciphertext) under the 32 bytes of sealed.key (mode
// 0600), with the row's kind and id as associated data, so that no row can be
// put in another's place.
type Sealed struct {
	db   *sql.DB
	aead cipher.AEAD
}

// OpenSealed opens the sealed store of a folder and makes it and its key if
// there is none. It refuses a key file that others can read, one of the wrong
// length, and a store whose key is gone.
func OpenSealed(ctx context.Context, dir string) (*Sealed, error) {
	file := filepath.Join(dir, "sealed.db")
	key, err := sealingKey(filepath.Join(dir, "sealed.key"), file)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(ctx, file, writing)
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS sealed(kind TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(kind, id)) STRICT`); err != nil {
		db.Close()
		return nil, unavailable(err)
	}
	return &Sealed{db, aead}, nil
}

func sealingKey(keyFile, store string) ([]byte, error) {
	unfit := func(format string, args ...any) *lockkeeper.Refusal {
		return lockkeeper.Unavailable.Errorf("sealing_key_unfit", format, args...).WithField(keyFile)
	}
	info, err := os.Lstat(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if old, err := os.Stat(store); err == nil && old.Size() > 0 {
			return nil, unfit("The key of the sealed store is gone, so its passwords and signing keys cannot be read.").
				WithNext("Put %s back from a back-up. Without it, move %s away, and let the journal go on under new keys; everybody must then enrol anew: lockkeeper recover --lost-keys", keyFile, store)
		}
		return makeKey(keyFile)
	}
	if err != nil {
		return nil, unusable(keyFile, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, unfit("The key file has the mode %s; only its owner may read it.", info.Mode()).WithNext("Run: chmod 0600 %s", keyFile)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, unusable(keyFile, err)
	}
	if len(key) != 32 {
		return nil, unfit("The key file has %d bytes, not 32.", len(key)).WithNext("Put the file back from a back-up.")
	}
	return key, nil
}

// makeKey writes a new key and syncs it and its folder: a store whose key did
// not reach the disk could never be read again.
func makeKey(keyFile string) ([]byte, error) {
	key := make([]byte, 32)
	rand.Read(key)
	f, err := os.OpenFile(keyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, unusable(keyFile, err)
	}
	_, err = f.Write(key)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), syncFolder(filepath.Dir(keyFile))); err != nil {
		os.Remove(keyFile)
		return nil, unusable(keyFile, err)
	}
	return key, nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the store.
func (s *Sealed) Close() error { return s.db.Close() }

// associated binds a value to its row.
func associated(kind, id string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(kind)))
	return append(append(b, kind...), id...)
}

// Put stores a value, in the place of one that was there. It is durable when
// Put returns.
func (s *Sealed) Put(ctx context.Context, kind, id string, value []byte) error {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	sealed := s.aead.Seal(nonce, nonce, value, associated(kind, id))
	_, err := s.db.ExecContext(ctx, `INSERT INTO sealed(kind, id, value) VALUES ($1, $2, $3)
		ON CONFLICT(kind, id) DO UPDATE SET value = excluded.value`, kind, id, sealed)
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// Get is the value of a row; NotFound sealed_row_missing if there is none. A
// value that was changed or moved is an error.
func (s *Sealed) Get(ctx context.Context, kind, id string) ([]byte, error) {
	var sealed []byte
	err := s.db.QueryRowContext(ctx, `SELECT value FROM sealed WHERE kind = $1 AND id = $2`, kind, id).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, lockkeeper.NotFound.Errorf("sealed_row_missing", "The sealed store has no %s %s.", kind, id).
			WithNext("Enrol anew.")
	}
	if err != nil {
		return nil, unavailable(err)
	}
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, fmt.Errorf("the sealed %s %s is cut off", kind, id)
	}
	value, err := s.aead.Open(nil, sealed[:n], sealed[n:], associated(kind, id))
	if err != nil {
		return nil, fmt.Errorf("the sealed %s %s does not open with this key", kind, id)
	}
	return value, nil
}

// Delete erases a row; one that is not there is no error.
func (s *Sealed) Delete(ctx context.Context, kind, id string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM sealed WHERE kind = $1 AND id = $2`, kind, id); err != nil {
		return unavailable(err)
	}
	return nil
}
