package keeper

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// grow appends whole lives of deployments to the journal of a folder until it
// has n entries: asks, leases, tokens and ends, as a keeper would have made them.
func grow(t testing.TB, dir string, n int) {
	t.Helper()
	ctx := context.Background()
	before := time.Now().Add(-100 * time.Hour)
	k, err := openKeeper(ctx, dir, Options{Clock: func() time.Time { return before }})
	if err != nil {
		t.Fatal(err)
	}
	must1 := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := lockkeeper.MomentOf(before)
	if last := k.read().Now; now.Before(last) {
		now = last
	}
	must1(k.Close())
	lock, err := journal.LockFolder(dir)
	must1(err)
	sealed, err := journal.OpenSealed(ctx, dir)
	must1(err)
	keys, err := openKeys(ctx, sealed, "lockkeeper", true)
	must1(err)
	j, err := journal.Open(ctx, journal.Options{Dir: dir, Origin: "lockkeeper", Signer: keys.checkpoint, Verifier: keys.verifier, Lock: lock})
	must1(err)
	size := j.Head().Size
	for size < int64(n) {
		b := journal.Batch{Size: size}
		for len(b.Records) < 4000 && size+int64(len(b.Records)) < int64(n) {
			now = now.Add(time.Millisecond)
			id := fmt.Sprintf("d-%d-%d", size, len(b.Records))
			job := workload(1_000_000_000+int(size)+len(b.Records), id, "10", "test", "1001", "push", 1, now)
			by := Caller{Workload: &job}
			for _, ev := range []event{
				&deploymentOpened{ID: id, Ask: lockkeeper.Ask{Project: "payments", Environment: "test", Artifacts: []lockkeeper.Artifact{app}}, Digest: app.Digest, Deadline: now.Add(time.Hour), Token: job.TokenID, TokenExpires: job.Expires},
				&leaseGranted{Deployment: id, Lease: "l", Ends: now.Add(time.Minute), Token: job.TokenID, TokenExpires: job.Expires},
				&tokenGranted{Deployment: id, Lease: "l", ID: "t", Audience: "a", Expires: now.Add(time.Minute), Token: job.TokenID, TokenExpires: job.Expires},
				&deploymentEnded{ID: id, End: End{Status: Succeeded, At: now}},
			} {
				data, _, err := record(Entry{Seq: size + int64(len(b.Records)), Time: now, By: by}, ev)
				must1(err)
				b.Records = append(b.Records, journal.Record{Data: data, Subjects: ev.subjects()})
			}
		}
		_, err := j.Append(ctx, b)
		must1(err)
		size += int64(len(b.Records))
	}
	must1(j.Close())
	must1(sealed.Close())
	must1(lock.Release())
}

// BenchmarkRestart opens a keeper on a journal of LOCKKEEPER_ENTRIES entries
// (default 30,000), the last recordEvery of them after the recorded state: the
// worst that a crash leaves. docs/performance.md has the figures for a million.
func BenchmarkRestart(b *testing.B) {
	n := 30_000
	if s := os.Getenv("LOCKKEEPER_ENTRIES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	ctx, dir := context.Background(), b.TempDir()
	grow(b, dir, n-recordEvery)
	k, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	if err := k.recordState(ctx); err != nil {
		b.Fatal(err)
	}
	k.Close()
	grow(b, dir, n)
	for _, way := range []struct {
		name    string
		options Options
	}{{"as it is", Options{Dir: dir}}, {"recorded", Options{Dir: dir, VerifyWhole: 1}}, {"whole", Options{Dir: dir, VerifyWhole: 1 << 40}}} {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				k, err := Open(ctx, way.options)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if k.Size() < int64(n) {
					b.Fatalf("%d entries", k.Size())
				}
				k.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
