package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// On a full disk the keeper refuses with the way out, grants nothing, and works
// again once there is room; after a restart everything acknowledged is there.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "small")
	must(t, os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (%v); the journal's own tests use a page limit instead", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	k, err := openKeeper(ctx, dir, Options{})
	must(t, err)
	defer func() { k.Close() }()
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, bytes.Repeat([]byte("x"), 1<<20), 0o600))
	var acknowledged []string
	refused := error(nil)
	open := func(n int) (string, error) {
		job := workload(n, fmt.Sprint(n), "10", "test", "1001", "push", 1, lockkeeper.MomentOf(time.Now()))
		return k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h"),
			Parameters: map[string]string{"pad": strings.Repeat("x", 1000)}})
	}
	for n := 0; n < 5000 && refused == nil; n++ {
		id, err := open(n)
		if lockkeeper.RefusalOf(err) != nil && lockkeeper.RefusalOf(err).Code == "gate_crowded" {
			for _, id := range acknowledged {
				if err := k.Cancel(ctx, Caller{Holder: id}, id, ""); err != nil && codeOf(err) != "deployment_ended" {
					refused = err
				}
			}
			continue
		}
		if err != nil {
			refused = err
			break
		}
		acknowledged = append(acknowledged, id)
	}
	if c := codeOf(refused); c != "disk_full" && c != "journal_unavailable" || lockkeeper.RefusalOf(refused).Next == "" {
		t.Fatalf("a full disk gives %v", refused)
	}
	must(t, os.Remove(ballast))
	id, err := open(1_000_001)
	if codeOf(err) == "gate_crowded" {
		must(t, k.Cancel(ctx, Caller{Holder: acknowledged[len(acknowledged)-1]}, acknowledged[len(acknowledged)-1], ""))
		id, err = open(1_000_002)
	}
	if err != nil {
		t.Fatalf("with room again: %v (fault %v)", err, k.Fault())
	}
	acknowledged = append(acknowledged, id)
	must(t, k.Close())
	k, err = Open(ctx, Options{Dir: dir})
	must(t, err)
	for _, id := range acknowledged {
		if _, err := k.find(ctx, id); err != nil {
			t.Fatalf("%s was acknowledged and is lost: %v", id, err)
		}
	}
}
