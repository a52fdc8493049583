package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// Snapshots are files beside the database, snapshot-SIZE: the state after the
// first SIZE entries. They are a cache and nothing else. A snapshot is believed
// only if its digest stands in an entry; losing one costs time, never truth.

const snapshotPrefix = "snapshot-"

// maxSnapshot bounds what is read back of one.
const maxSnapshot = 2 << 30

// keptSnapshots is how many are kept: the newest, and one before it in case a
// crash tore the newest.
const keptSnapshots = 2

func snapshotPath(dir string, size int64) string {
	return filepath.Join(dir, snapshotPrefix+strconv.FormatInt(size, 10))
}

// SaveSnapshot keeps the state after size entries, and forgets all but the
// newest ones. A crash leaves either no file or a whole one, or one whose digest
// does not fit and which is then passed over.
func SaveSnapshot(dir string, size int64, data []byte) error {
	tmp, err := os.CreateTemp(dir, ".snapshot-*") // mode 0600
	if err != nil {
		return unusable(dir, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return unusable(tmp.Name(), err)
	}
	if err := os.Rename(tmp.Name(), snapshotPath(dir, size)); err != nil {
		return unusable(dir, err)
	}
	return forgetSnapshots(dir, size)
}

// forgetSnapshots removes all snapshots but the newest ones up to size.
func forgetSnapshots(dir string, newest int64) error {
	names, err := filepath.Glob(filepath.Join(dir, snapshotPrefix+"*"))
	if err != nil {
		return err
	}
	var sizes []int64
	for _, name := range names {
		if n, err := strconv.ParseInt(strings.TrimPrefix(filepath.Base(name), snapshotPrefix), 10, 64); err == nil {
			sizes = append(sizes, n)
		}
	}
	for _, n := range sizes {
		newer := 0
		for _, o := range sizes {
			if o > n && o <= newest {
				newer++
			}
		}
		if newer >= keptSnapshots || n > newest {
			if err := os.Remove(snapshotPath(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return unusable(snapshotPath(dir, n), err)
			}
		}
	}
	return nil
}

// Snapshot reads the state after size entries if it is there and has the
// digest; found is false if not.
func Snapshot(dir string, size int64, digest lockkeeper.Digest) (data []byte, found bool, err error) {
	name := snapshotPath(dir, size)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil && info.Size() > maxSnapshot {
		return nil, false, nil
	}
	if err == nil {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, false, fmt.Errorf("the snapshot %s: %w", name, unusable(name, err))
	}
	return data, lockkeeper.DigestOf(data) == digest, nil
}
