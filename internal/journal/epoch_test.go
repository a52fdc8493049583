package journal

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// older grows a journal in dir and puts back the database of half-way.
func older(t *testing.T, k keyring, dir string) {
	t.Helper()
	j := k.mustOpen(t, dir)
	grow(t, j, 3, 4)
	must(t, j.Close())
	copied, err := os.ReadFile(path(dir))
	must(t, err)
	j = k.mustOpen(t, dir)
	grow(t, j, 5)
	must(t, j.Close())
	must(t, os.WriteFile(path(dir), copied, 0o600))
}

func (k keyring) recover(dir string, restored bool) (Head, Lost, error) {
	var was Lost
	h, err := Recover(context.Background(), Options{Dir: dir, Origin: "test", Signer: k.signer, Verifier: k.verifier}, nil, restored, func(j *Journal, lost Lost) (Batch, error) {
		was = lost
		return batch(j.Head().Size, 1), nil
	})
	return h, was, err
}

func TestRecoverOlderCopy(t *testing.T) {
	k, dir := newKeyring(t), t.TempDir()
	older(t, k, dir)
	var broken *Broken
	if _, err := k.open(t, dir); !errors.As(err, &broken) || broken.Seq != 7 {
		t.Fatalf("an older copy: %v", err)
	}
	h, lost, err := k.recover(dir, false)
	if err != nil || h.Size != 8 || !lost.Known || lost.Size != 12 {
		t.Fatalf("recovered to %+v from %+v: %v", h, lost, err)
	}
	origin, size, _, err := openCheckpoint(h.Checkpoint, k.verifier)
	if err != nil || origin != "test/epoch-2" || size != 8 {
		t.Errorf("the checkpoint is of %q with %d: %v", origin, size, err)
	}
	j := k.mustOpen(t, dir)
	if j.Epoch() != 2 {
		t.Errorf("it is epoch %d", j.Epoch())
	}
	grow(t, j, 2)
	must(t, j.Close())
	if _, _, err := k.recover(dir, false); code(err) != "nothing_lost" {
		t.Errorf("again: %v", err)
	}
	if h, _, err = k.recover(dir, true); err != nil || h.Size != 11 {
		t.Errorf("at somebody's word: %v %v", h, err)
	}
	if j = k.mustOpen(t, dir); j.Epoch() != 3 {
		t.Errorf("it is epoch %d", j.Epoch())
	}
}

// A recovery whose commit fails leaves all as it was; one whose commit happened
// and whose checkpoint was not written is refused at the start and recovered
// again.
func TestRecoverCutOff(t *testing.T) {
	k, dir := newKeyring(t), t.TempDir()
	older(t, k, dir)
	outside, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)
	if _, err := Recover(context.Background(), Options{Dir: dir, Origin: "test", Signer: k.signer, Verifier: k.verifier}, nil, false, func(j *Journal, _ Lost) (Batch, error) {
		j.commit = func(context.Context, *sql.Conn) error { return errors.New("no commit") }
		return batch(j.Head().Size, 1), nil
	}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("a failed commit: %v", err)
	}
	if h, _, err := k.recover(dir, false); err != nil || h.Size != 8 {
		t.Fatalf("after a failed commit: %v %v", h, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "checkpoint"), outside, 0o600)) // as if it had not been written
	var broken *Broken
	if _, err := k.open(t, dir); !errors.As(err, &broken) {
		t.Fatalf("a checkpoint of the epoch before: %v", err)
	}
	if h, _, err := k.recover(dir, false); err != nil || h.Size != 9 {
		t.Fatalf("recovered again: %v %v", h, err)
	}
	if j := k.mustOpen(t, dir); j.Epoch() != 3 {
		t.Errorf("it is epoch %d", j.Epoch())
	}
}

// A journal that was tampered with is not recovered, and one without its
// checkpoint outside neither starts by itself nor passes for whole.
func TestRecoverRefuses(t *testing.T) {
	k, dir := newKeyring(t), t.TempDir()
	older(t, k, dir)
	outside := filepath.Join(dir, "checkpoint")
	must(t, os.Remove(outside))
	if _, err := k.open(t, dir); code(err) != "checkpoint_missing" {
		t.Errorf("without its checkpoint: %v", err)
	}
	if _, err := os.Stat(outside); err == nil {
		t.Error("the refused start made a checkpoint")
	}
	must(t, os.WriteFile(outside, nil, 0o600))
	if _, err := k.open(t, dir); code(err) != "checkpoint_missing" {
		t.Errorf("with an empty one: %v", err)
	}
	db, err := sql.Open("sqlite", path(dir))
	must(t, err)
	for _, q := range []string{`DROP TRIGGER entry_stays`, `UPDATE entry SET data = CAST(replace(CAST(data AS TEXT), 'entry 2', 'entry 9') AS BLOB) WHERE seq = 2`} {
		_, err = db.Exec(q)
		must(t, err)
	}
	must(t, db.Close())
	var broken *Broken
	if _, _, err := k.recover(dir, true); !errors.As(err, &broken) || broken.Seq != 2 {
		t.Errorf("a tampered log: %v", err)
	}
}

// The checkpoint outside may lie on another disk, and moving it there is said.
func TestOutsideElsewhere(t *testing.T) {
	k, dir, elsewhere := newKeyring(t), t.TempDir(), filepath.Join(t.TempDir(), "checkpoint")
	j := k.mustOpen(t, dir)
	grow(t, j, 3)
	must(t, j.Close())
	options := Options{Dir: dir, Outside: elsewhere, Origin: "test", Signer: k.signer, Verifier: k.verifier}
	if _, err := Open(context.Background(), options); code(err) != "checkpoint_missing" || !strings.Contains(err.Error(), "mv "+filepath.Join(dir, "checkpoint")) {
		t.Errorf("not moved: %v", err)
	}
	must(t, os.Rename(filepath.Join(dir, "checkpoint"), elsewhere))
	j, err := Open(context.Background(), options)
	must(t, err)
	grow(t, j, 2)
	must(t, j.Close())
	kept, err := os.ReadFile(elsewhere)
	must(t, err)
	if _, size, _, err := openCheckpoint(CheckpointIn(kept), k.verifier); err != nil || size != 5 {
		t.Errorf("it is over %d entries: %v", size, err)
	}
	r, err := OpenReader(context.Background(), dir, elsewhere, k.verifier)
	must(t, err)
	defer r.Close()
	if _, err := Verify(context.Background(), r, nil); err != nil {
		t.Error(err)
	}
}

// The name of an epoch is read in one spelling only.
func TestEpochOf(t *testing.T) {
	for line, want := range map[string]int{"test": 1, "test/epoch-2": 2, "test/epoch-10": 10, "test/epoch-1": 0, "test/epoch-02": 0, "test/epoch-": 0, "test/epoch--2": 0, "other": 0, "test2": 0} {
		got, ok := epochOf("test", line)
		if ok != (want > 0) || ok && got != want {
			t.Errorf("%q is %d, %v", line, got, ok)
		}
	}
}
