package keeper

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// childFolder names the folder in which a child process of TestKill works.
const childFolder = "LOCKKEEPER_TEST_KILL_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := load(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// openKeeper opens a keeper with the rules of the tests in force.
func openKeeper(ctx context.Context, dir string, o Options) (*Keeper, error) {
	o.Dir, o.Issuer = dir, "https://lockkeeper.example"
	k, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	code, err := k.MakeSetupCode(ctx)
	if err != nil || code == "" {
		return k, err
	}
	if err := k.SetUp(ctx, code, "dora", "a password of dora"); err != nil {
		return k, err
	}
	c, err := firstRules()
	if err != nil {
		return k, err
	}
	_, err = k.Apply(ctx, Caller{User: "dora"}, c, 1, "test")
	return k, err
}

// load works on a keeper from many goroutines until it is killed. Each line of
// its output was printed after the answer that it repeats.
func load(dir string) error {
	ctx := context.Background()
	k, err := openKeeper(ctx, dir, Options{})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(line)
	}
	start := int(k.Size()) * 1000
	failed := make(chan error, 17)
	go func() { // it may be killed while it records its state, too
		for {
			if err := k.recordState(ctx); err != nil {
				failed <- err
				return
			}
		}
	}()
	for g := range 16 {
		go func() {
			for i := 0; ; i++ {
				if err := oneDeployment(ctx, k, start+g*1_000_000+i*10, say); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

func oneDeployment(ctx context.Context, k *Keeper, n int, say func(string)) error {
	now := lockkeeper.MomentOf(time.Now())
	job := workload(n, fmt.Sprint(n), "10", "test", "1001", "push", 1, now)
	handle := fmt.Sprint("handle ", n)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest(handle)})
	if err != nil {
		return err
	}
	say("opened " + id)
	if err := k.Claim(ctx, job, id, handle); err != nil {
		return err
	}
	say("leased " + id)
	token, err := k.Exchange(ctx, job, id, handle, "https://target.example")
	if err != nil {
		return err
	}
	say("token " + id + " " + token.JWT)
	if err := k.End(ctx, Caller{Holder: id}, id, 0); err != nil {
		return err
	}
	say("ended " + id)
	return nil
}

// TestKill kills a process that works under load, again and again on one
// folder, and finds every acknowledged decision in the journal and no token
// that it does not know.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var all []string
	for round := range 4 {
		all = append(all, killed(t, dir, 40+97*round)...)
		checkAcknowledged(t, dir, all)
	}
}

// killed runs a child until it has printed lines lines, and kills it.
func killed(t *testing.T, dir string, lines int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got []string
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		if got = append(got, scan.Text()); len(got) == lines {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() // it was killed
	if len(got) < lines {
		t.Fatalf("the child ended after %d lines: %s", len(got), stderr.String())
	}
	if last := got[len(got)-1]; len(strings.Fields(last)) < 2 {
		got = got[:len(got)-1] // cut off in the middle
	}
	return got
}

func checkAcknowledged(t *testing.T, dir string, lines []string) {
	t.Helper()
	ctx := context.Background()
	k, err := Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example", VerifyWhole: 1})
	if err != nil {
		t.Fatalf("after the kill: %v", err)
	}
	defer k.Close()
	checkLines(t, k, lines)
	if n, err := Refold(ctx, k.journal.Reader, nil); err != nil {
		t.Errorf("after %d recorded states: %v", n, err)
	}
	states, err := filepath.Glob(filepath.Join(dir, "snapshot-*"))
	if err != nil || len(states) == 0 {
		t.Fatalf("no state was recorded: %v", err)
	}
	k.cancel() // so that no state is recorded again
	k.tending.Wait()
	for _, s := range states {
		os.Remove(s)
	}
	k.mu.RLock()
	size := k.state.Size
	served, err := k.state.Digest()
	k.mu.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	folded, err := k.states(ctx, 1, size)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := folded[0].Digest(); again != served {
		t.Error("the state is not the fold of the journal")
	}
}

// checkLines looks for everything that the killed child had acknowledged.
func checkLines(t *testing.T, k *Keeper, lines []string) {
	t.Helper()
	ctx := context.Background()
	for _, line := range lines {
		f := strings.Fields(line)
		d, err := k.find(ctx, f[1])
		if err != nil {
			t.Fatalf("acknowledged %q and lost: %v", line, err)
		}
		switch f[0] {
		case "leased":
			if d.Lease == nil {
				t.Errorf("%s: the lease is lost", f[1])
			}
		case "token":
			if d.Lease == nil || d.Lease.Tokens < 1 {
				t.Errorf("%s: a token is out that the journal does not know", f[1])
			}
			entries, err := k.journal.SubjectAll(ctx, deploymentSubject(f[1]))
			if err != nil {
				t.Fatal(err)
			}
			if jti := jtiOf(t, f[2]); !bytes.Contains(bytes.Join(dataOf(entries), nil), []byte(`"jti":"`+jti+`"`)) {
				t.Errorf("%s: no entry grants the token %s", f[1], jti)
			}
		case "ended":
			if d.End == nil || d.End.Status != Succeeded {
				t.Errorf("%s: the end is lost", f[1])
			}
		}
	}
}
