package keeper

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// recordedJournal is a folder whose journal has entries before and after a
// recorded state, and the digest of its state.
func recordedJournal(t *testing.T) (dir, digest string, at int64) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	grow(t, dir, 300)
	k, err := openKeeper(ctx, dir, Options{})
	must(t, err)
	at = k.Size()
	must(t, k.recordState(ctx))
	must(t, k.recordState(ctx)) // a second time changes nothing
	if k.Size() != at+1 {
		t.Fatalf("%d entries after the state was recorded at %d", k.Size(), at)
	}
	must(t, k.Close())
	grow(t, dir, 400)
	k, err = openKeeper(ctx, dir, Options{})
	must(t, err)
	defer k.Close()
	return dir, stateDigest(t, k), at
}

func stateDigest(t *testing.T, k *Keeper) string {
	t.Helper()
	s := k.read()
	d, err := s.Digest()
	must(t, err)
	w, err := k.work.Digest()
	must(t, err)
	if w != d {
		t.Fatal("the writer's state differs from the readers'")
	}
	return string(d)
}

// spoil changes a byte of the body of an entry, as somebody with the file would.
func spoil(t *testing.T, dir string, seq int64) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "journal.db"))
	must(t, err)
	defer db.Close()
	_, err = db.Exec("DROP TRIGGER entry_stays")
	must(t, err)
	r, err := db.Exec("UPDATE entry SET data = CAST(replace(CAST(data AS TEXT), 'deployment', 'deploxment') AS BLOB) WHERE seq = $1", seq)
	must(t, err)
	if n, _ := r.RowsAffected(); n != 1 {
		t.Fatalf("%d entries spoilt", n)
	}
}

// A start with a recorded state folds to what a start without one does, and
// uses it only if it is what the journal says it is.
func TestStartFromRecordedState(t *testing.T) {
	ctx := context.Background()
	fast := Options{VerifyWhole: 1}
	dir, digest, at := recordedJournal(t)
	snapshots, err := filepath.Glob(filepath.Join(dir, "snapshot-*"))
	must(t, err)
	if len(snapshots) != 1 {
		t.Fatalf("snapshots: %v", snapshots)
	}
	whole, err := os.ReadFile(snapshots[0])
	must(t, err)

	k, err := openKeeper(ctx, dir, fast)
	must(t, err)
	if got := stateDigest(t, k); got != digest {
		t.Error("the state from the recorded one is another")
	}
	data, from, err := recordedState(ctx, k.journal.Reader, dir)
	if err != nil || from != at || string(data) != string(whole) {
		t.Errorf("recorded after %d entries, not %d: %v", from, at, err)
	}
	must(t, k.Close())

	for name, spoilt := range map[string][]byte{
		"gone": nil, "empty": {}, "torn": whole[:len(whole)/2],
		"with a right more": []byte(strings.Replace(string(whole), `"proven":false`, `"proven":true`, 1)),
		"of another form":   []byte(`{"size":` + strings.Repeat("1", 10) + `}`),
	} {
		must(t, os.Remove(snapshots[0]))
		if spoilt != nil {
			must(t, os.WriteFile(snapshots[0], spoilt, 0o600))
		}
		k, err := openKeeper(ctx, dir, fast)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := stateDigest(t, k); got != digest {
			t.Errorf("%s: another state", name)
		}
		must(t, k.Close())
		must(t, os.WriteFile(snapshots[0], whole, 0o600))
	}
}

// What was tampered with behind the recorded state refuses the start; before it,
// the keeper stops as soon as it has seen it, and nothing of it is in the state.
func TestTamperedBeforeRecordedState(t *testing.T) {
	ctx := context.Background()
	dir, _, _ := recordedJournal(t)
	spoil(t, dir, 57)
	var broken *journal.Broken
	if _, err := openKeeper(ctx, dir, Options{}); !errors.As(err, &broken) || broken.Seq != 57 {
		t.Errorf("verified whole at the start: %v", err)
	}
	k, err := openKeeper(ctx, dir, Options{VerifyWhole: 1})
	if err == nil { // it may have been found before the keeper was asked first
		select {
		case <-k.Done():
		case <-time.After(time.Minute):
			t.Error("nobody noticed that entry 57 was tampered with")
		}
		err = k.Fault()
		must(t, k.Close())
	}
	if !errors.As(err, &broken) || broken.Seq != 57 {
		t.Errorf("found while serving: %v", err)
	}

	dir, _, at := recordedJournal(t)
	spoil(t, dir, at+20)
	if _, err := openKeeper(ctx, dir, Options{VerifyWhole: 1}); !errors.As(err, &broken) || broken.Seq != at+20 {
		t.Errorf("tampered with after the recorded state: %v", err)
	}
}

// Refold finds a recorded state that does not come out of the entries.
func TestRefold(t *testing.T) {
	ctx := context.Background()
	dir, _, at := recordedJournal(t)
	k, err := openKeeper(ctx, dir, Options{})
	must(t, err)
	defer func() { k.Close() }()
	steps := 0
	n, err := Refold(ctx, k.journal.Reader, func(done, total int64) { steps++ })
	if n != 1 || err != nil {
		t.Errorf("%d states compared: %v", n, err)
	}
	size := k.Size()
	_, err = do[any](ctx, k, Caller{Keeper: true}, "", recordState{size, app.Digest})
	must(t, err)
	var broken *journal.Broken
	if n, err := Refold(ctx, k.journal.Reader, nil); n != 1 || !errors.As(err, &broken) || broken.Seq != size {
		t.Errorf("%d states compared (the first after %d): %v", n, at, err)
	}
	// Nobody but the keeper records.
	_, err = do[any](ctx, k, Caller{User: "dora"}, "", recordState{k.Size(), app.Digest})
	must(t, err)
	if k.Size() != size+1 {
		t.Error("somebody else recorded a state")
	}
}
