package keeper

import (
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

const sequential = "  - {name: one, lock: {mode: sequential}}\n"

// asked is a deployment to production of a run of its own, approved or not.
func (c *deploying) asking(run string, approved bool, at time.Duration) {
	c.t.Helper()
	must(c.t, c.open("d-"+run, c.job(run, "1", "production", "1001", at), "production", at))
	for _, user := range []string{"bob", "cat"} {
		if approved {
			must(c.t, c.approve(user, "d-"+run, at))
		}
	}
}

func (c *deploying) takes(run string, at time.Duration) string {
	c.t.Helper()
	return saying(c.claim("d-"+run, c.job(run, "1", "production", "1001", at), at))
}

func (c *deploying) ends(run string, code int, at time.Duration) string {
	c.t.Helper()
	return saying(c.as(Caller{Holder: "d-" + run}, endDeployment{"d-" + run, code}, at))
}

func lockedCore(t *testing.T, mode string) *deploying {
	c := deployCore(t, rulesWith("<lock>", mode))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	return c
}

// One lease at most lives in an environment with a lock, and whoever held it before has no
// say any more: no token, no heartbeat, no word on how it went.
func TestGates20OneHolder(t *testing.T) {
	c := lockedCore(t, sequential)
	c.asking("1", true, 0)
	c.asking("2", true, 0)
	if got := c.takes("1", time.Second); got != "" {
		t.Fatal(got)
	}
	for _, at := range []time.Duration{2 * time.Second, 4*time.Minute + time.Second - time.Millisecond} {
		if got := c.takes("2", at); got != "locked" {
			t.Errorf("at %s: %q", at, got)
		}
	}
	at := 4*time.Minute + time.Second // the first has not been heard of
	if got := c.takes("2", at); got != "" {
		t.Fatalf("its holder is gone: %q", got)
	}
	for what, got := range map[string]string{"a token": saying(c.token("d-1", c.job("1", "1", "production", "1001", at), at)), "a heartbeat": saying(c.as(Caller{Holder: "d-1"}, renewLease{"d-1", HandleDigest("h")}, at)),
		"its word": c.ends("1", 0, at), "a claim": c.takes("1", at)} {
		if got != "deployment_ended" {
			t.Errorf("%s of the one before: %q", what, got)
		}
	}
	if len(c.Good[production]) != 0 {
		t.Errorf("its success counts: %+v", c.Good[production])
	}
	live := 0
	for _, d := range c.Deployments {
		if d.leaseLive(began.Add(at)) {
			live++
		}
	}
	if live != 1 {
		t.Errorf("%d live leases", live)
	}
}

// Whoever waits for people, for a window, or for a service holds no lock, and keeps nobody
// from it; and a holder whose approval is taken back lets it go at once.
func TestGates21NobodyWaitsWithTheLock(t *testing.T) {
	c := lockedCore(t, sequential)
	c.asking("1", false, 0) // older, and waits for people
	c.asking("2", true, 0)
	if got := c.takes("1", time.Second); got != "approvals_missing" {
		t.Fatal(got)
	}
	if got := c.takes("2", time.Second); got != "" {
		t.Errorf("who waits for people keeps others from the lock: %q", got)
	}
	c.asking("3", true, 2*time.Second)
	must(t, c.user("bob", withdrawApproval{"d-2", "no"}, 3*time.Second))
	if got := c.takes("3", 3*time.Second); got != "" {
		t.Errorf("the holder's approval was taken back, and the lock is %q", got)
	}
	if got := c.ends("3", 0, 4*time.Second); got != "" {
		t.Fatal(got)
	}
	// A freeze that stops only some holds the others up in nothing.
	must(t, c.user("dora", startFreeze{ID: "f-a", Scope: production, For: time.Hour, Reason: "why", Actions: []string{"deploy"}}, 5*time.Second))
	c.asking("4", true, 5*time.Second)
	j := c.job("5", "1", "production", "1001", 5*time.Second)
	must(t, c.askFor("d-5", j, func(o *openDeployment) { o.Action = lockkeeper.RollbackAction }, 5*time.Second))
	must(t, c.approve("bob", "d-5", 5*time.Second))
	must(t, c.approve("cat", "d-5", 5*time.Second))
	if got := c.takes("4", 6*time.Second); got != "frozen" {
		t.Errorf("%q", got)
	}
	if got := c.takes("5", 6*time.Second); got != "" {
		t.Errorf("who waits for the end of a freeze keeps a rollback from the lock: %q", got)
	}
}

// The lock goes in the order of the asks. Somebody who does not come when it is his turn
// is passed over, for this time, and has his turn again the next time.
func TestGates22InOrder(t *testing.T) {
	c := lockedCore(t, sequential)
	for _, run := range []string{"1", "2", "3", "4"} {
		c.asking(run, true, 0)
	}
	at := time.Second
	if got := c.takes("1", at); got != "" {
		t.Fatal(got)
	}
	at += time.Second
	if got := c.ends("1", 0, at); got != "" {
		t.Fatal(got)
	}
	for _, run := range []string{"3", "4"} {
		if got := c.takes(run, at+turnGraceForTest-time.Millisecond); got != "not_its_turn" {
			t.Errorf("%s goes before 2: %q", run, got)
		}
	}
	// 2 never comes: after a while 3 goes, and no newer one before it could.
	at += turnGraceForTest
	if got := c.takes("3", at); got != "" {
		t.Fatalf("nobody can ever go past 2: %q", got)
	}
	at += time.Second
	if got := c.ends("3", 1, at); got != "" {
		t.Fatal(got)
	}
	if got := c.takes("4", at); got != "not_its_turn" {
		t.Errorf("4 goes before 2, who has his turn again: %q", got)
	}
	if got := c.takes("2", at); got != "" {
		t.Errorf("2: %q", got)
	}
}

// turnGraceForTest is for how long an older ask has its turn.
const turnGraceForTest = 30 * time.Second

// With a lock that lets only the newest through, one that is ready takes the place of the
// older ones of its own line, and of nothing else: not of who runs, nor of another line;
// and one that cannot go itself takes nobody's place.
func TestGates23OnlyItsOwnLine(t *testing.T) {
	c := deployCore(t, rulesWith("<lock>", "  - {name: one, lock: {mode: runLatest}}\n", "trust: {environment: production, events: [push, schedule], refs: [refs/heads/main]}",
		"trust: {environment: production, events: [push, schedule], refs: [refs/heads/main, refs/heads/theirs]}", "allowed: [refs/heads/main]}", "allowed: [refs/heads/main, refs/heads/theirs]}"))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	theirs := func(at time.Duration) lockkeeper.Workload {
		j := c.job("77", "1", "production", "1001", at)
		j.Ref = lockkeeper.SignedFact("refs/heads/theirs")
		return j
	}
	c.asking("1", true, 0)
	must(t, c.open("d-o", theirs(0), "production", 0)) // another team's
	must(t, c.approve("bob", "d-o", 0))
	must(t, c.approve("cat", "d-o", 0))
	c.asking("2", false, time.Second) // newer, and nobody approves it
	must(t, c.as(Caller{Keeper: true}, sweep{}, 2*time.Second))
	if c.Deployments["d-1"] == nil {
		t.Fatal("a newer one that cannot go has taken the place of one that can")
	}
	if got := c.takes("1", 3*time.Second); got != "" {
		t.Fatalf("1: %q", got)
	}
	c.asking("3", true, 4*time.Second) // ready, while 1 runs
	must(t, c.as(Caller{Keeper: true}, sweep{}, 5*time.Second))
	if d := c.Deployments["d-1"]; d == nil || d.Status != Running {
		t.Fatal("the holder was cancelled")
	}
	if got := c.takes("3", 5*time.Second); got != "locked" {
		t.Errorf("3: %q", got)
	}
	if got := c.ends("1", 0, 6*time.Second); got != "" {
		t.Fatal(got)
	}
	c.asking("4", true, 7*time.Second)
	if got := c.takes("3", 7*time.Second); got != "superseded" {
		t.Errorf("3, and 4 is newer and ready: %q", got)
	}
	must(t, c.as(Caller{Keeper: true}, sweep{}, 8*time.Second))
	if c.Deployments["d-3"] != nil || c.Deployments["d-o"] == nil {
		t.Errorf("3 is %v, the other team's is %v", c.Deployments["d-3"], c.Deployments["d-o"])
	}
	if got := c.takes("4", 8*time.Second); got != "not_its_turn" { // the other line's is older
		t.Errorf("4: %q", got)
	}
	must(t, c.claim("d-o", theirs(8*time.Second), 8*time.Second))
}

// A holder that crashes loses the lock by its heartbeat; nobody says then how it went, and
// what it could still do outside has ended before the next one is let in.
func TestGates24CrashedHolder(t *testing.T) {
	c := lockedCore(t, sequential)
	c.asking("1", true, 0)
	c.asking("2", true, 0)
	if got := c.takes("1", time.Second); got != "" {
		t.Fatal(got)
	}
	must(t, c.as(Caller{Holder: "d-1"}, renewLease{"d-1", HandleDigest("h")}, 3*time.Minute)) // its last
	at := 7*time.Minute - time.Second
	must(t, c.token("d-1", c.job("1", "1", "production", "1001", at), at))
	l := c.Deployments["d-1"].Lease
	if l.Ends.Before(l.TokensTill) || l.Ends != began.Add(7*time.Minute) {
		t.Fatalf("a token until %s, of a lease until %s", l.TokensTill, l.Ends)
	}
	if got := c.takes("2", 7*time.Minute-time.Millisecond); got != "locked" {
		t.Errorf("before its end: %q", got)
	}
	j := c.job("2", "1", "production", "1001", 7*time.Minute)
	s, err := c.step(Caller{Workload: &j}, "", claimLease{Deployment: "d-2", Lease: "l-2", Job: j, Handle: HandleDigest("h")}, began.Add(7*time.Minute))
	must(t, err)
	must(t, s.err)
	ended, granted := -1, -1
	for i, ev := range s.events {
		switch ev := ev.(type) {
		case *deploymentEnded:
			if ended = i; ev.ID != "d-1" || ev.End.Status != Indeterminate || ev.End.TokensOutside != 0 {
				t.Errorf("it ended %+v", ev)
			}
		case *leaseGranted:
			granted = i
		}
	}
	if ended < 0 || granted < ended {
		t.Errorf("the end stands at %d, the next lease at %d", ended, granted)
	}
	// It is not known to be good: nothing goes back to it.
	if len(c.Good[production]) != 0 {
		t.Error("an outcome that nobody knows counts as a success")
	}
}

// An ask takes one lock, of its own environment, and takes it last: two asks, or two runs
// that ask in two places in opposite orders, never wait for each other for ever.
func TestGates25NoCircles(t *testing.T) {
	_, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(rulesWith("<lock>", sequential+"  - {name: two, lock: {mode: sequential}}\n"))}})
	if err := problems.Err(); err == nil || !slices.ContainsFunc(problems, func(p catalog.Problem) bool { return p.Code == "duplicate_lock" }) {
		t.Errorf("two locks in one environment: %v", problems)
	}
	both := func() *deploying {
		c := deployCore(t, rulesWith("<lock>", sequential, "<latest>", "checks:\n"+sequential))
		must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
		for _, run := range []string{"1", "2"} {
			c.asking(run, true, 0)
			must(t, c.open("t-"+run, c.job(run, "2", "test", "1001", 0), "test", 0))
		}
		return c
	}
	test := func(c *deploying, run string, at time.Duration) string {
		return saying(c.claim("t-"+run, c.job(run, "2", "test", "1001", at), at))
	}
	c := both()
	if a, b := c.takes("1", time.Second), test(c, "1", time.Second); a != "" || b != "" { // each of them its first
		t.Fatal(a, b)
	}
	must(t, c.as(Caller{Holder: "t-1"}, endDeployment{"t-1", 0}, 2*time.Second))
	if got := test(c, "2", 2*time.Second); got != "" { // 1 holds production, 2 test
		t.Fatal(got)
	}
	if got := c.takes("2", 3*time.Second); got != "locked" {
		t.Errorf("2 wants production, too: %q", got)
	}
	// Nobody ends anything. By the clock alone both can go on.
	for at := 10 * time.Second; ; at += 10 * time.Second {
		if at > 12*time.Minute {
			t.Fatal("they wait in a circle")
		}
		if c.takes("2", at) == "" {
			break
		}
	}
}
