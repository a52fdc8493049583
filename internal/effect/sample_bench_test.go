package effect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// BenchmarkWaitingAtChecks measures what deployments cost that wait at checks which ask
// a service: 1,000 of them at five checks each, asked 2,000 times a minute in all. The
// decisions beside that are deployments that are opened, one every 50 ms. What is asked
// first is asked as fast as it goes, so that the calls are more than those 2,000. The
// memory is that of the process, the service and the callers in it included.
func BenchmarkWaitingAtChecks(b *testing.B) {
	const deployments, environments, lasting = 1000, 10, 45 * time.Second
	var calls atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		io.WriteString(w, `{"ok": true}`)
	}))
	defer service.Close()
	ctx := context.Background()
	k, err := keeper.Open(ctx, keeper.Options{Dir: b.TempDir(), Issuer: "https://lockkeeper.example"})
	fatal(b, err)
	defer k.Close()
	code, err := k.MakeSetupCode(ctx)
	fatal(b, err)
	fatal(b, k.SetUp(ctx, code, "dora", "a long password of dora"))
	var text strings.Builder
	fmt.Fprintf(&text, deploying, "")
	for e := range environments {
		fmt.Fprintf(&text, "---\n{kind: Pipeline, name: ship-%d, project: p, provider: ci, organisation: \"7\", repository: \"8\", definition: ship-%d.yml, stages: [{name: deploy, trust: {environment: env-%d, events: [push], refs: [refs/heads/main]}}]}\n", e, e, e)
		fmt.Fprintf(&text, "---\n{kind: Identity, name: env-%d, project: p, environment: env-%d, audiences: [\"https://target.example\"], stages: [ship-%d/deploy]}\n", e, e, e)
		fmt.Fprintf(&text, "---\n{kind: Environment, name: env-%d, project: p, tier: development, checks: [", e)
		for c := range 5 {
			fmt.Fprintf(&text, "{name: c%d, call: {service: {url: %q, criteria: body.ok == true, retry: 150s}, steady: {answers: 3}}}, ", c, fmt.Sprintf("%s/%d", service.URL, c))
		}
		text.WriteString("]}\n")
	}
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(governance + text.String())}})
	fatal(b, problems.Err())
	reach, err := ParseReach([]string{"127.0.0.1/32"})
	fatal(b, err)
	r, _ := k.Revision()
	_, err = k.Apply(ctx, dora, c, r.Number, "")
	fatal(b, err)
	f := lockkeeper.SignedFact
	opens := func(i int) string {
		now, e := lockkeeper.MomentOf(time.Now()), i%environments
		job := lockkeeper.Workload{Provider: "ci", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", fmt.Sprint(i)), Issued: now, Expires: now.Add(5 * time.Minute),
			Organisation: f("7"), Repository: f("8"), RepositoryName: f("acme/p"), Run: f(fmt.Sprint(i)), Attempt: 1, Job: f(fmt.Sprint(i)), Event: f("push"), Ref: f("refs/heads/main"), RefType: f("branch"),
			Commit: f(strings.Repeat("1", 40)), Runner: f("hosted"), DefinitionPath: f(fmt.Sprintf("ship-%d.yml", e)), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f(strings.Repeat("1", 40)), Actor: f("1001"), Environment: f(fmt.Sprintf("env-%d", e))}
		id, err := k.OpenDeployment(ctx, job, "", keeper.OpenDeployment{Environment: fmt.Sprintf("env-%d", e), Handle: keeper.HandleDigest("h"), Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}})
		fatal(b, err)
		return id
	}
	for i := range deployments {
		opens(i)
	}
	asking, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		NewAsker(AskerOptions{Keeper: k, Reach: reach}).Run(asking)
		close(done)
	}()
	for b.Loop() {
		before := calls.Load()
		var took []time.Duration
		for begun := time.Now(); time.Since(begun) < lasting; {
			at := time.Now()
			id := opens(deployments + len(took))
			took = append(took, time.Since(at))
			fatal(b, k.Cancel(ctx, keeper.Caller{User: "dev"}, id, ""))
			time.Sleep(50 * time.Millisecond)
		}
		slices.Sort(took)
		b.ReportMetric(float64(calls.Load()-before)/lasting.Minutes(), "calls/min")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(resident(b), "MB")
	}
	stop()
	<-done
}

func fatal(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// resident is what of the process is in memory, in MB.
func resident(b *testing.B) float64 {
	runtime.GC()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("this system does not say how much memory a process has")
	}
	var size, pages int
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
