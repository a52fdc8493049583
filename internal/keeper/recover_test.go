package keeper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// copyJournal copies the database of a folder that nobody uses.
func copyJournal(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm", ""} {
		name := "journal.db" + suffix
		must(t, os.RemoveAll(filepath.Join(to, name)))
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, name), data, 0o600))
	}
}

// An older copy of the journal brings nothing back: no lease, no session, no
// invitation, no key, no unused CI token, and nobody but the one who must
// confirm (invariants 1, 6, 7 and 9).
func TestRecover(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	options := Options{Dir: dir, Issuer: "https://lockkeeper.example"}
	session, _, err := k.SignIn(ctx, "dora", "a password of dora", "here")
	must(t, err)
	dora, err := k.Authenticate(session)
	must(t, err)
	invitation, err := k.Invite(ctx, dora, "bob")
	must(t, err)
	must(t, k.Enrol(ctx, "bob", invitation, "a password of bob"))
	secret, _, err := k.SignIn(ctx, "bob", "a password of bob", "here")
	must(t, err)
	unused, err := k.Invite(ctx, dora, "cat")
	must(t, err)
	now := lockkeeper.MomentOf(time.Now())
	job := workload(2, "1", "11", "test", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("handle")})
	must(t, err)
	must(t, k.Claim(ctx, job, id, "handle"))
	waiting, err := k.OpenDeployment(ctx, workload(3, "2", "21", "test", "1001", "push", 1, now), "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("other")})
	must(t, err)
	before := k.keyRing(token.ES256)
	must(t, k.Close())
	older := t.TempDir()
	copyJournal(t, dir, older)

	// What comes after is what the copy does not know.
	k, err = Open(ctx, options)
	must(t, err)
	must(t, k.Cancel(ctx, dora, id, "compromised"))
	_, _, err = k.RotateKey(ctx, dora, token.ES256, true, "stolen")
	must(t, err)
	must(t, k.Close())
	kept, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	must(t, err)

	copyJournal(t, older, dir)
	var broken *journal.Broken
	if k, err := Open(ctx, options); !errors.As(err, &broken) {
		k.Close()
		t.Fatalf("the older copy is taken: %v", err)
	}
	for name, r := range map[string]Recovery{
		"administrator_unfit": {Administrator: "bob", Reason: "the disk failed"},
		"reason_missing":      {Administrator: "dora"},
	} {
		_, err := Recover(ctx, options, r)
		want(t, err, name)
		if outside, _ := os.ReadFile(filepath.Join(dir, "checkpoint")); string(outside) != string(kept) {
			t.Fatalf("%s: a refused recovery changed the checkpoint", name)
		}
	}
	done, err := Recover(ctx, options, Recovery{Administrator: "dora", Reason: "the disk failed"})
	must(t, err)
	if done.Epoch != 2 || done.Ended != 2 || done.Lost < 2 || done.Log != "lockkeeper/epoch-2" {
		t.Errorf("it says %+v", done)
	}
	if _, err := Recover(ctx, options, Recovery{Administrator: "dora", Reason: "again"}); codeOf(err) != "nothing_lost" {
		t.Errorf("again: %v", err)
	}

	k, err = Open(ctx, options)
	must(t, err)
	defer k.Close()
	for deployment, status := range map[string]Status{id: Indeterminate, waiting: Cancelled} {
		if d, err := k.find(ctx, deployment); err != nil || d.Status != status {
			t.Errorf("%s is %v %v, not %s", deployment, d, err, status)
		}
	}
	_, err = k.Exchange(ctx, job, id, "handle", "https://target.example")
	want(t, err, "deployment_ended")
	for _, s := range []string{session, secret} {
		_, err = k.Authenticate(s)
		want(t, err, "session_unknown")
	}
	want(t, k.Enrol(ctx, "cat", unused, "a password of cat"), "invitation_wrong")
	for _, algorithm := range token.SigningAlgorithms() {
		for _, old := range []string{before.Active, before.Next} {
			if slices.Contains(k.published(algorithm, k.now()), old) {
				t.Errorf("the key %s is published still", old)
			}
		}
	}
	_, _, err = k.SignIn(ctx, "bob", "a password of bob", "here")
	want(t, err, "recovery_unconfirmed")
	fresh := workload(9, "9", "91", "test", "1001", "push", 1, lockkeeper.MomentOf(time.Now().Add(time.Second)))
	ask := OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("handle")}
	_, err = k.OpenDeployment(ctx, fresh, "", ask)
	want(t, err, "recovery_unconfirmed")

	session, _, err = k.SignIn(ctx, "dora", "a password of dora", "here")
	must(t, err)
	dora, err = k.Authenticate(session)
	must(t, err)
	want(t, k.ConfirmEpoch(ctx, Caller{User: "bob"}, done.Revision, ""), "not_granted")
	must(t, k.ConfirmEpoch(ctx, dora, done.Revision, "looked"))
	_, _, err = k.SignIn(ctx, "bob", "a password of bob", "here")
	must(t, err)
	_, err = k.OpenDeployment(ctx, job, "", ask)
	want(t, err, "token_before_recovery")
	_, err = k.OpenDeployment(ctx, fresh, "", ask)
	must(t, err)
}

// An administrator whom somebody else confirmed for stays out, and a server that
// was restarted before the confirmation holds still.
func TestRecoveryHoldsOverRestarts(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	must(t, k.Close())
	options := Options{Dir: dir, Issuer: "https://lockkeeper.example"}
	_, err := Recover(ctx, options, Recovery{Administrator: "dora", Reason: "a snapshot", Restored: true})
	must(t, err)
	for range 2 {
		k, err = Open(ctx, options)
		must(t, err)
		job := workload(1, "1", "10", "", "1001", "push", 1, lockkeeper.MomentOf(time.Now().Add(time.Second)))
		_, err = k.RecordArtifacts(ctx, job, "", []lockkeeper.Artifact{app})
		want(t, err, "recovery_unconfirmed")
		must(t, k.Close())
	}
}
