package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// active makes ann an operator from at on, for an hour at /projects/p.
func active(t *testing.T, c *core, do func(string, command, time.Duration) error, n string, at time.Duration) {
	t.Helper()
	must(t, do("ann", asks("r-"+n), at))
	must(t, do("bob", c.approval("r-"+n), at))
	must(t, do("ann", beginActivation{"r-" + n, "a-" + n}, at))
}

func (c *core) starts(user string, at time.Duration) bool {
	now := began.Add(at)
	return c.check(user, lockkeeper.StartDeployments, "/projects/p/environments/f", now).Passed(now)
}

// A clock that jumps back brings nothing back, and one that was wrong appends
// nothing; an hour is 3600 seconds, also where clocks change.
func TestFailure01ClockJumps(t *testing.T) {
	ctx := context.Background()
	start := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // Zurich repeats the hour from 00:00 to 01:00 UTC
	var clock atomic.Int64
	k, _ := started(t, Options{Clock: func() time.Time { return start.Add(time.Duration(clock.Load())).In(time.FixedZone("", 7200)) }})
	text := unmarked(accessRules)
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "x")
	must(t, err)
	id, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
	must(t, err)
	v, err := k.Request(ctx, Caller{User: "ann"}, id)
	must(t, err)
	must(t, k.DecideRequest(ctx, Caller{User: "bob"}, id, RequestVerdict{Approve: true, Digest: v.Digest}))
	a, err := k.BeginActivation(ctx, Caller{User: "ann"}, id)
	must(t, err)
	if a.Ends.Sub(a.Started) != time.Hour {
		t.Errorf("it lasts %s", a.Ends.Sub(a.Started))
	}
	may := func() bool {
		d, err := k.Can(Caller{User: "ann"}, "ann", lockkeeper.StartDeployments, "/projects/p")
		must(t, err)
		return d.Verdict == lockkeeper.Pass
	}
	clock.Store(int64(59 * time.Minute))
	if !may() {
		t.Error("it ended early")
	}
	clock.Store(int64(61 * time.Minute))
	if may() {
		t.Error("it lasts past its end")
	}
	_, err = k.Invite(ctx, Caller{User: "dora"}, "cat") // an entry of that instant
	must(t, err)
	clock.Store(int64(10 * time.Minute))
	if may() {
		t.Error("a clock that jumped back brings it back")
	}
	size := k.Size()
	_, err = k.Invite(ctx, Caller{User: "dora"}, "cat")
	want(t, err, "clock_wrong")
	if k.Size() != size {
		t.Error("something was appended under a wrong clock")
	}
}

// Whoever is not eligible any more holds nothing at that very moment, before any
// sweep, and gets nothing back.
func TestFailure04EligibilityLostWhileActive(t *testing.T) {
	c, do := accessCore(t)
	active(t, c, do, "1", 0)
	c.rules = accessLawOf(t, "users: [ann, <bob>cat]", "users: [<bob>cat]")
	if c.starts("ann", 0) {
		t.Error("she holds it still")
	}
	must(t, do("", sweep{}, time.Second))
	if c.Activations["a-1"] != nil {
		t.Error("it did not lapse")
	}
	c.rules = accessLawOf(t)
	if c.starts("ann", 2*time.Second) {
		t.Error("it came back")
	}
}

// What was handed out and cannot be called back is said in the end's record, and
// lives no longer than the activation might have.
func TestFailure10TokensOutliveTheActivation(t *testing.T) {
	ctx := context.Background()
	k, _, _ := withConsole(t)
	a := activateUser(t, k, "ann", 2*time.Minute)
	var last Token
	for range 3 {
		tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
		must(t, err)
		if a.Ends.Before(tok.Expires) {
			t.Errorf("a token ends at %s, the activation at %s", tok.Expires, a.Ends)
		}
		last = tok
	}
	must(t, k.EndActivation(ctx, Caller{User: "dora"}, a.ID, "no"))
	stored, err := k.journal.SubjectAll(ctx, activationSubject(a.ID))
	must(t, err)
	_, body, err := readEntry(stored[len(stored)-1].Data)
	must(t, err)
	if ev, is := body.(*activationEnded); !is || ev.TokensOutside != 3 || ev.OutsideTill != last.Expires {
		t.Errorf("the end says %+v", body)
	}
}

// A server that is away at the end lengthens nothing: what it finds at its start has
// ended, before it has written anything down.
func TestFailure11ServerDownAtExpiry(t *testing.T) {
	ctx := context.Background()
	var clock atomic.Int64
	options := Options{Clock: func() time.Time { return began.Time().Add(time.Duration(clock.Load())) }}
	k, dir := started(t, options)
	text := unmarked(accessRules + forPeople)
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "x")
	must(t, err)
	a := activateUser(t, k, "ann", 10*time.Minute)
	tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	must(t, k.Close())
	clock.Store(int64(11 * time.Minute))
	options.Dir, options.Issuer = dir, "https://lockkeeper.example"
	k, err = Open(ctx, options)
	must(t, err)
	defer k.Close()
	d, err := k.Can(Caller{User: "ann"}, "ann", lockkeeper.UseIdentities, "/projects/p/identities/console")
	must(t, err)
	c, err := k.Introspect(ctx, Caller{User: "ann"}, tok.JWT)
	must(t, err)
	if d.Verdict == lockkeeper.Pass || c.Active {
		t.Error("it lives past its end")
	}
	_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	want(t, err, "not_granted")
	_, err = k.ExtendActivation(ctx, Caller{User: "ann"}, "", a.ID, time.Minute, "why", "")
	want(t, err, "activation_over")
}

// The end of one activation takes nothing that another one gives, whichever ends
// first and however.
func TestFailure14OverlappingActivations(t *testing.T) {
	for _, first := range []string{"a-1", "a-2"} {
		for _, by := range []string{"ann", "dora"} {
			c, do := accessCore(t)
			active(t, c, do, "1", 0)
			active(t, c, do, "2", 30*time.Minute)
			must(t, do(by, endActivation{first, "enough"}, 40*time.Minute))
			if !c.starts("ann", 40*time.Minute) {
				t.Errorf("%s was ended by %s, and the other one gives nothing", first, by)
			}
			last := map[string]time.Duration{"a-1": 90 * time.Minute, "a-2": time.Hour}[first]
			if !c.starts("ann", last-time.Millisecond) || c.starts("ann", last) {
				t.Errorf("after the end of %s it does not end after %s", first, last)
			}
		}
	}
}

// Nothing keeps an activation from ending: not that its holder is the last one who
// may administer, or decide.
func TestFailure24LastAdministrator(t *testing.T) {
	alone := []string{"{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}",
		"{kind: Assignment, name: administration, role: organisation-administrator, principal: user:ann, scope: /, eligible: true}\n---\n{kind: ActivationRule, name: admin, role: organisation-administrator, scope: /}"}
	c, do := accessCore(t, alone...)
	for i, how := range []string{"ended", "expired"} {
		at, id := time.Duration(i)*time.Hour, fmt.Sprint(i)
		must(t, do("ann", openRequest{ID: "r-" + id, Role: "organisation-administrator", Scope: "/", For: 10 * time.Minute, Reason: "why"}, at))
		must(t, do("ann", beginActivation{"r-" + id, "a-" + id}, at))
		holds := func(at time.Duration) bool { return c.allowed("ann", lockkeeper.WriteAccess, "/", began.Add(at)) }
		if !holds(at) {
			t.Fatal("she never held it")
		}
		if how == "ended" {
			must(t, do("ann", endActivation{"a-" + id, ""}, at))
		} else if at += 10 * time.Minute; holds(at) {
			t.Error("it did not end by the clock")
		}
		must(t, do("", sweep{}, at))
		if holds(at) || c.Activations["a-"+id] != nil {
			t.Errorf("%s, and she holds it", how)
		}
	}
}

// Waiting for approvals takes nothing from the time.
func TestFailure28DurationEatenByWaiting(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 50*time.Minute))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 110*time.Minute))
	if !c.starts("ann", 169*time.Minute) || c.starts("ann", 170*time.Minute) {
		t.Errorf("it ends at %s", c.Activations["a-1"].Ends)
	}
	// Nor does asking for a start ahead, which moves the patience, too.
	later := asks("r-2")
	later.At = began.Add(300 * time.Minute)
	must(t, do("ann", later, 120*time.Minute))
	must(t, do("bob", c.approval("r-2"), 121*time.Minute))
	want(t, do("ann", beginActivation{"r-2", "a-2"}, 300*time.Minute-time.Millisecond), "starts_later")
	must(t, do("ann", beginActivation{"r-2", "a-2"}, 419*time.Minute))
	if !c.starts("ann", 478*time.Minute) || c.starts("ann", 479*time.Minute) {
		t.Errorf("it ends at %s", c.Activations["a-2"].Ends)
	}
	later.ID, later.At = "r-3", began.Add(600*time.Minute)
	must(t, do("ann", later, 480*time.Minute))
	must(t, do("bob", c.approval("r-3"), 481*time.Minute))
	must(t, do("", sweep{}, 720*time.Minute))
	want(t, do("ann", beginActivation{"r-3", "a-3"}, 720*time.Minute), "request_closed")
}

// What has begun can be ended at once; there is no least time.
func TestFailure29NoLeastTime(t *testing.T) {
	c, do := accessCore(t)
	active(t, c, do, "1", 0)
	must(t, do("ann", endActivation{"a-1", ""}, 0))
	active(t, c, do, "2", time.Millisecond)
	must(t, do("dora", endActivation{"a-2", "no"}, time.Millisecond))
	if c.starts("ann", time.Millisecond) {
		t.Error("she holds it")
	}
}

// What moves elsewhere takes no right along: an activation is for its scope, and
// the eligibility is looked up where that lies.
func TestFailure31ScopeMoves(t *testing.T) {
	c, do := accessCore(t)
	active(t, c, do, "1", 0)
	moved := "{kind: Project, name: q}\n---\n{kind: Environment, name: f, project: q, tier: development}"
	c.rules = accessLawOf(t, "{kind: Environment, name: f, project: p, tier: development}", moved)
	now := began.Add(time.Minute)
	if d := c.check("ann", lockkeeper.StartDeployments, "/projects/q/environments/f", now); d.Passed(now) {
		t.Error(d.Sentence)
	}
	// Where the rule and the eligibility move away, nothing is left.
	c.rules = accessLawOf(t, "{kind: Project, name: p}", "{kind: Project, name: p}\n---\n{kind: Project, name: q}", "group:engineers, scope: /projects/p", "group:engineers, scope: /projects/q",
		"role: operator, scope: /projects/p,", "role: operator, scope: /projects/q,")
	if c.starts("ann", time.Minute) {
		t.Error("she holds it where she is not eligible")
	}
}

// An older copy of the journal brings no activation, request or token back.
func TestFailure32BackupRestored(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	text := unmarked(accessRules + forPeople)
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "x")
	must(t, err)
	a := activateUser(t, k, "ann", time.Hour)
	tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	open, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
	must(t, err)
	must(t, k.Close())
	older := t.TempDir()
	copyJournal(t, dir, older)
	options := Options{Dir: dir, Issuer: "https://lockkeeper.example"}
	k, err = Open(ctx, options)
	must(t, err)
	must(t, k.EndActivation(ctx, Caller{User: "dora"}, a.ID, "compromised"))
	must(t, k.Close())
	copyJournal(t, older, dir)
	var broken *journal.Broken
	if _, err := Open(ctx, options); !errors.As(err, &broken) {
		t.Fatalf("the older copy is taken: %v", err)
	}
	_, err = Recover(ctx, options, Recovery{Administrator: "dora", Reason: "the disk failed"})
	must(t, err)
	k, err = Open(ctx, options)
	must(t, err)
	defer k.Close()
	if s := k.read(); len(s.Activations)+len(s.Requests)+len(s.PersonTokens) > 0 {
		t.Errorf("%d activations, %d requests, %d tokens are back", len(s.Activations), len(s.Requests), len(s.PersonTokens))
	}
	if c, err := k.Introspect(ctx, Caller{User: "ann"}, tok.JWT); err != nil || c.Active {
		t.Errorf("the token stands (%v)", err)
	}
	_, err = k.BeginActivation(ctx, Caller{User: "ann"}, open)
	want(t, err, "request_closed")
}

// Two servers on one journal never decide side by side: the second one does not
// start.
func TestFailure33TwoServers(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	_, err := Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"})
	want(t, err, "folder_in_use")
	_, err = k.Invite(ctx, Caller{User: "dora"}, "ann") // and the first one goes on
	must(t, err)
}

// Whoever is elevated and has the file hides nothing: an entry that was changed, or
// is gone, stops the next start.
func TestFailure34AuditTampering(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	text := unmarked(accessRules + forPeople)
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "x")
	must(t, err)
	a := activateUser(t, k, "ann", time.Hour)
	must(t, k.EndActivation(ctx, Caller{User: "ann"}, a.ID, "the deployment is over"))
	size := k.Size()
	must(t, k.Close())
	spoil(t, dir, size-1)
	var broken *journal.Broken
	if _, err := Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"}); !errors.As(err, &broken) {
		t.Errorf("it starts: %v", err)
	}
}

// A role that is gone takes what hangs on it along, in order, and a catalog that
// names a role which is not there is never applied.
func TestFailure35RoleDeleted(t *testing.T) {
	c, do := accessCore(t)
	active(t, c, do, "1", 0)
	must(t, do("ann", asks("r-2"), 0))
	gone := []string{"{kind: Role, name: operator, actions: [deployments/start, deployments/cancel, identities/use<wider>]}\n---\n", ""}
	text := strings.NewReplacer(gone...).Replace(accessRules)
	text = unmarked(text)
	if _, problems := catalog.Read([]catalog.File{{Name: "x.yaml", Data: []byte(text)}}); !strings.Contains(fmt.Sprint(problems), "unknown_role") {
		t.Errorf("the problems are %v", problems)
	}
	i := strings.Index(text, "---\n{kind: Assignment, name: operators")
	c.rules = mustRules(t, text[:i])
	if c.starts("ann", 0) {
		t.Error("she holds a role that is gone")
	}
	want(t, do("ann", beginActivation{"r-2", "a-2"}, 0), "role_unknown")
	must(t, do("", sweep{}, time.Second))
	if len(c.Activations) > 0 {
		t.Error("it did not lapse")
	}
}

// Everybody makes his own activation longer, and nobody that of others in his group.
func TestFailure36OneExtendsForAll(t *testing.T) {
	c, do := accessCore(t, "<longest>", "2h")
	active(t, c, do, "1", 0)
	must(t, do("cat", openRequest{ID: "r-2", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", c.approval("r-2"), 0))
	must(t, do("cat", beginActivation{"r-2", "a-2"}, 0))
	want(t, do("cat", extendActivation{ID: "r-3", Activation: "a-1", For: time.Minute, Reason: "why"}, 0), "activation_over")
	want(t, do("dora", extendActivation{ID: "r-3", Activation: "a-1", For: time.Minute, Reason: "why"}, 0), "activation_over")
	must(t, do("cat", extendActivation{ID: "r-3", Activation: "a-2", For: 30 * time.Minute, Reason: "why"}, 0))
	must(t, do("bob", c.approval("r-3"), 0))
	must(t, do("cat", beginActivation{"r-3", "-"}, 0))
	if !c.starts("cat", 89*time.Minute) || c.starts("ann", 61*time.Minute) {
		t.Errorf("%+v", c.Activations)
	}
}
