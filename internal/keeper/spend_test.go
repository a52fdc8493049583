package keeper

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// signs puts a session of a user into the journal.
func (c *core) signs(t testing.TB, user, id string, at time.Duration) {
	t.Helper()
	var s step
	now := began.Add(at)
	must2(t, c.record(&s, Caller{}, "", "", []event{&sessionStarted{Session: Session{ID: id, User: user, Started: now, Expires: now.Add(12 * time.Hour), Authenticated: now}}}, now))
}

func must2(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sitsAs sends a command in a session.
func (c *core) sitsAs(t *testing.T, user, session string, cmd command, at time.Duration) error {
	t.Helper()
	s, err := c.step(Caller{User: user, Session: session}, "", cmd, began.Add(at))
	must(t, err)
	return s.err
}

const usesRule = "patience: 2h, uses: 2, approvals"

// An activation with two uses gives two decisions, whatever comes at once, and is over
// then; who sees the right only looks.
func TestUsesOfOneActivation(t *testing.T) {
	c, do := accessCore(t, "patience: 2h, approvals", usesRule)
	must(t, do("ann", asks("r-1"), 0))
	if r := c.Requests["r-1"]; r.Uses != 2 {
		t.Errorf("%d uses were asked for", r.Uses)
	}
	must(t, do("bob", c.approval("r-1"), 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	may := func(at time.Duration) bool {
		return c.check("ann", lockkeeper.CancelDeployments, "/projects/p/environments/e", began.Add(at)).Passed(began.Add(at))
	}
	using := uses{}
	for i := range 2 {
		if !may(time.Second) {
			t.Fatalf("nothing is given after %d uses", i)
		}
		must(t, do("ann", using, time.Second))
	}
	if a := c.Activations["a-1"]; a.Used != 2 || may(time.Second) {
		t.Errorf("after %d uses of 2 it gives more", a.Used)
	}
	want(t, do("ann", using, time.Second), "not_granted")
	if c.lives(c.Activations["a-1"], began.Add(time.Second)) {
		t.Error("it lives, without a use and without anything that it gave")
	}
	s, err := c.step(Caller{Keeper: true}, "", sweep{}, began.Add(2*time.Second))
	must(t, err)
	if len(s.events) != 1 || s.events[0].(*activationEnded).Status != activationSpent {
		t.Errorf("the sweep writes %v", s.events)
	}
}

// uses is a command that rests on deployments/cancel at e, twice.
type uses struct{}

func (uses) name() string  { return "uses" }
func (uses) about() string { return "" }
func (uses) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	for range 2 { // one command is one use
		if _, err := w.may(by, lockkeeper.CancelDeployments, "/projects/p/environments/e", now); err != nil {
			return nil, nil, err
		}
	}
	return []event{&refusalMade{Command: "uses"}}, nil, nil
}

// refuses rests on the same right, and is refused then.
type refuses struct{ uses }

func (refuses) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, _, err := (uses{}).decide(w, by, now); err != nil {
		return nil, nil, err
	}
	return nil, nil, lockkeeper.Conflict.Errorf("no", "No.")
}

// What is refused, and what changes nothing, is no use.
func TestUsesOfRefusals(t *testing.T) {
	c, do := accessCore(t, "patience: 2h, approvals", usesRule)
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	for range 5 {
		want(t, do("ann", refuses{}, time.Second), "no")
	}
	if n := c.Activations["a-1"].Used; n != 0 {
		t.Errorf("refusals made %d uses", n)
	}
}

// The asker may ask for fewer, never for more; a rule that became stricter holds when
// it begins, and one that became easier helps nothing.
func TestUsesAsked(t *testing.T) {
	c, do := accessCore(t, "patience: 2h, approvals", usesRule)
	asked := func(id string, n int) openRequest {
		r := asks(id)
		r.Uses = n
		return r
	}
	want(t, do("ann", asked("r-0", 3), 0), "uses_many")
	want(t, do("ann", asked("r-0", -1), 0), "uses_malformed")
	want(t, do("ann", asked("r-0", 1001), 0), "uses_malformed")
	must(t, do("ann", asked("r-1", 1), 0))
	must(t, do("ann", asked("r-2", 0), 0))
	for name, change := range map[string]func(*Request){"uses": func(r *Request) { r.Uses = 2 }, "bound": func(r *Request) { r.Bound = true }} {
		other := c.Requests["r-1"].clone()
		change(other)
		if digest, err := other.digest(); err != nil || digest == c.Requests["r-1"].Digest {
			t.Errorf("the digest does not hold %s", name)
		}
	}
	for _, id := range []string{"r-1", "r-2"} {
		must(t, do("bob", c.approval(id), 0))
	}
	c.rules = accessLawOf(t, "patience: 2h, approvals", "patience: 2h, uses: 1, approvals")
	want(t, do("ann", beginActivation{"r-2", "a-2"}, 0), "uses_many")
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	c.rules = accessLawOf(t)
	must(t, do("ann", beginActivation{"r-2", "a-2"}, 0))
	for id, n := range map[string]int{"a-1": 1, "a-2": 2} {
		if a := c.Activations[id]; a.Uses != n {
			t.Errorf("%s has %d uses, want %d", id, a.Uses, n)
		}
	}
}

// A token that was the last use goes on for its time, and nothing new comes.
func TestLastUseGivesAToken(t *testing.T) {
	ctx := context.Background()
	k, later, apply := withConsole(t)
	apply("name: use, role: user, scope: /projects/p", "name: use, role: user, scope: /projects/p, uses: 1")
	a := activateUser(t, k, "ann", time.Hour)
	token, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	stands := func(want bool) {
		t.Helper()
		if c, err := k.Introspect(ctx, Caller{User: "ann"}, token.JWT); err != nil || c.Active != want {
			t.Errorf("the token stands: %v, %v", c.Active, err)
		}
	}
	stands(true)
	_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	want(t, err, "not_granted")
	if list, _ := k.Activations(Caller{User: "ann"}); len(list) != 1 || list[0].Used != 1 {
		t.Errorf("active: %+v", list)
	}
	later(4 * time.Minute)
	stands(true)
	must(t, k.EndActivation(ctx, Caller{User: "ann"}, a.ID, ""))
	stands(false)

	activateUser(t, k, "ann", time.Hour)
	_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	later(6 * time.Minute)
	if list, _ := k.Activations(Caller{User: "ann"}); len(list) != 0 {
		t.Errorf("active after the token's end: %+v", list)
	}
}

// Many at once never make more uses than there are (invariant 2).
func TestUsesAtOnce(t *testing.T) {
	ctx := context.Background()
	k, _, apply := withConsole(t)
	apply("name: use, role: user, scope: /projects/p", "name: use, role: user, scope: /projects/p, uses: 3")
	activateUser(t, k, "ann", time.Hour)
	var got atomic.Int32
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			_, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
			if err == nil {
				got.Add(1)
			} else if codeOf(err) != "not_granted" {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got.Load() != 3 {
		t.Errorf("%d tokens of 3", got.Load())
	}
}

// A deployment that was the one use goes on being started by who may: at the release
// and at each token; a second one is not.
func TestUseStartsADeployment(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", `---
{kind: User, name: fay, ids: [{provider: github, id: "1005"}]}
---
{kind: Role, name: starter, actions: [deployments/start]}
---
{kind: Assignment, name: fay, role: starter, principal: user:fay, scope: /projects/payments, eligible: true}
---
{kind: ActivationRule, name: starters, role: starter, scope: /projects/payments, uses: 1}
`))
	must(t, c.user("fay", openRequest{ID: "r-1", Role: "starter", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
	must(t, c.user("fay", beginActivation{"r-1", "a-1"}, 0))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	first := c.job("2", "11", "production", "1005", 0)
	must(t, c.open("d-1", first, "production", 0))
	if a := c.Activations["a-1"]; a.Used != 1 || len(a.Gave) != 1 || a.Gave[0] != "deployment/d-1" {
		t.Errorf("%+v", a)
	}
	if err := c.open("d-2", c.job("3", "12", "production", "1005", 0), "production", 0); err == nil {
		t.Error("a second deployment was started with one use")
	}
	for _, by := range []string{"bob", "cat"} {
		must(t, c.approve(by, "d-1", time.Second))
	}
	must(t, c.as(Caller{Keeper: true}, sweep{}, time.Second))
	if c.Activations["a-1"] == nil {
		t.Fatal("the activation ended under the deployment that it started")
	}
	must(t, c.claim("d-1", first, 2*time.Second))
	must(t, c.user("dora", cancelDeployment{Deployment: "d-1"}, 3*time.Second))
	must(t, c.as(Caller{Keeper: true}, sweep{}, 4*time.Second))
	if c.Activations["a-1"] != nil {
		t.Error("the activation outlives all that it gave")
	}
}

// An activation that is bound to a session counts in no other one, not with a token of
// the same user, not on a CI platform; and it ends with the session (failure 22).
func TestFailure22UsedFromAnotherDevice(t *testing.T) {
	c, do := accessCore(t, "patience: 2h, approvals", "patience: 2h, bound: session, approvals")
	c.signs(t, "ann", "s-clean", 0)
	c.signs(t, "ann", "s-dirty", 0)
	must(t, c.sitsAs(t, "ann", "s-clean", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "session_needed")
	must(t, c.sitsAs(t, "ann", "s-clean", beginActivation{"r-1", "a-1"}, 0))
	if c.Activations["a-1"].Session != "s-clean" {
		t.Fatalf("bound to %q", c.Activations["a-1"].Session)
	}
	at := began.Add(time.Second)
	see := func(by Caller) bool {
		return c.allowedFor(by, lockkeeper.CancelDeployments, "/projects/p/environments/e", at)
	}
	c.PersonalTokens["t-1"] = &PersonalToken{ID: "t-1", User: "ann", Actions: []lockkeeper.Action{lockkeeper.CancelDeployments}, Scope: "/", Expires: began.Add(time.Hour)}
	for name, by := range map[string]Caller{"another session": {User: "ann", Session: "s-dirty"}, "no session": {User: "ann"}, "a token": {User: "ann", Token: "t-1"},
		"somebody else with her session's id": {User: "cat", Session: "s-clean"}} {
		if see(by) {
			t.Errorf("it counts for %s", name)
		}
	}
	if !see(Caller{User: "ann", Session: "s-clean"}) {
		t.Error("it does not count in its own session")
	}
	want(t, c.sitsAs(t, "ann", "s-dirty", uses{}, time.Second), "not_granted")
	must(t, c.sitsAs(t, "ann", "s-clean", uses{}, time.Second))

	// It is made longer only where it was begun.
	longer := beginActivation{"r-2", ""}
	must(t, c.sitsAs(t, "ann", "s-clean", endActivation{"a-1", ""}, time.Second))
	short := asks("r-3")
	short.For = 10 * time.Minute
	must(t, c.sitsAs(t, "ann", "s-clean", short, time.Second))
	must(t, do("bob", c.approval("r-3"), time.Second))
	must(t, c.sitsAs(t, "ann", "s-clean", beginActivation{"r-3", "a-1"}, time.Second))
	must(t, c.sitsAs(t, "ann", "s-dirty", extendActivation{ID: "r-2", Activation: "a-1", For: time.Minute, Reason: "why"}, time.Second))
	must(t, do("bob", c.approval("r-2"), time.Second))
	want(t, c.sitsAs(t, "ann", "s-dirty", longer, time.Second), "session_other")
	must(t, c.sitsAs(t, "ann", "s-clean", longer, time.Second))

	// With the session it ends, at once, and no session brings it back.
	must(t, c.sitsAs(t, "ann", "s-clean", endSession{"s-clean"}, 2*time.Second))
	if c.lives(c.Activations["a-1"], began.Add(2*time.Second)) {
		t.Error("it lives without its session")
	}
	must(t, do("", sweep{}, 3*time.Second))
	if c.Activations["a-1"] != nil {
		t.Error("the sweep leaves it")
	}
	want(t, do("ann", uses{}, 3*time.Second), "not_granted")
}

// A token that was had in the session stands in it, and with it.
func TestBoundToken(t *testing.T) {
	c := &core{world: world{State: newState(), rules: mustRules(t, unmarked(strings.Replace(accessRules+forPeople, "name: use, role: user", "name: use, bound: session, role: user", 1)))}}
	s, err := c.step(Caller{Keeper: true}, "", firstEntry{}, began)
	if must(t, err); s.err != nil {
		t.Fatal(s.err)
	}
	c.signs(t, "ann", "s-1", 0)
	c.signs(t, "ann", "s-2", 0)
	must(t, c.sitsAs(t, "ann", "s-1", openRequest{ID: "r-1", Role: "user", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, c.sitsAs(t, "ann", "s-1", beginActivation{"r-1", "a-1"}, 0))
	issue := func(session, id string) error {
		return c.sitsAs(t, "ann", session, issueToken{ID: id, Project: "p", Identity: "console", Audience: console}, time.Second)
	}
	want(t, issue("s-2", "t-0"), "not_granted")
	must(t, issue("s-1", "t-1"))
	at := began.Add(2 * time.Second)
	if !c.tokenStands(c.PersonTokens["t-1"], at) {
		t.Error("the token does not stand in its session")
	}
	other := *c.PersonTokens["t-1"]
	if other.Session = "s-2"; c.tokenStands(&other, at) {
		t.Error("a token of another session stands")
	}
	must(t, c.sitsAs(t, "ann", "s-2", endSession{"s-1"}, 2*time.Second))
	if c.tokenStands(c.PersonTokens["t-1"], at) {
		t.Error("the token stands after its session")
	}
}

// A rule that counts uses and one that does not: the one that does not is used first,
// so that nobody loses a use for what he has anyhow.
func TestUncountedFirst(t *testing.T) {
	c, do := accessCore(t)
	for i, n := range []int{1, 0} {
		id := fmt.Sprint("r-", i)
		r := asks(id)
		r.Uses = n
		must(t, do("ann", r, 0))
		must(t, do("bob", c.approval(id), 0))
		must(t, do("ann", beginActivation{id, fmt.Sprint("a-", i)}, time.Duration(i)*-0))
	}
	for range 3 {
		must(t, do("ann", uses{}, time.Second))
	}
	if n := c.Activations["a-0"].Used; n != 0 {
		t.Errorf("%d uses were spent for nothing", n)
	}
	must(t, do("ann", endActivation{"a-1", ""}, time.Second))
	must(t, do("ann", uses{}, time.Second))
	want(t, do("ann", uses{}, time.Second), "not_granted")
	if d := c.check("ann", lockkeeper.CancelDeployments, "/projects/p", began.Add(time.Second)); !strings.Contains(d.Next, "lockkeeper activate operator") {
		t.Errorf("the way out is %q", d.Next)
	}
}

// TestBoundSessions lets ann sign in and out, activate, and use what she has from any of
// her sessions, under rules that bind and that do not, and compares with a small model
// where each activation counts.
func TestBoundSessions(t *testing.T) {
	const free = "{kind: ActivationRule, name: op, role: operator, scope: /projects/p}"
	text := func(more string) *Rules {
		return mustRules(t, unmarked(accessRules[:strings.Index(accessRules, "{kind: ActivationRule, name: op")]+strings.Replace(free, "/projects/p}", "/projects/p"+more+"}", 1)))
	}
	rules := []*Rules{text(""), text(", bound: session")}
	seen := map[string]int{}
	untilSeen(t, seen, []string{"uses <nil>", "uses not_granted", "uses session_ended", "activation.begin <nil>", "activation.begin session_needed", "session.end <nil>"}, func(rt *rapid.T) {
		now, law := began, 0
		c := &core{world: world{State: newState(), rules: rules[0]}}
		send := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				rt.Fatal(err)
			}
			seen[cmd.name()+" "+codeOf(s.err)]++
			return s.err
		}
		if err := send(Caller{Keeper: true}, firstEntry{}); err != nil {
			rt.Fatal(err)
		}
		type active struct {
			session string // "": any
			ends    lockkeeper.Moment
		}
		ends := map[string]lockkeeper.Moment{} // of sessions
		activations := map[string]active{}
		bound := map[string]bool{} // requests
		var sessions, requests []string
		alive := func(session string) bool { return now.Before(ends[session]) }
		may := func(session string) bool {
			for _, a := range activations {
				if now.Before(a.ends) && (a.session == "" || a.session == session && alive(session)) {
					return true
				}
			}
			return false
		}
		for n := range rapid.IntRange(5, 40).Draw(rt, "steps") {
			session := ""
			if len(sessions) > 0 {
				session = rapid.SampledFrom(append([]string{""}, sessions...)).Draw(rt, "session")
			}
			by := Caller{User: "ann", Session: session}
			signedIn := session == "" || alive(session)
			switch rapid.IntRange(0, 7).Draw(rt, "step") {
			case 0:
				id, length := fmt.Sprint("s-", n), rapid.SampledFrom([]time.Duration{20 * time.Minute, 12 * time.Hour}).Draw(rt, "length")
				var s step
				if err := c.record(&s, Caller{}, "", "", []event{&sessionStarted{Session: Session{ID: id, User: "ann", Started: now, Expires: now.Add(length), Authenticated: now}}}, now); err != nil {
					rt.Fatal(err)
				}
				sessions, ends[id] = append(sessions, id), now.Add(length)
			case 1:
				if session != "" && alive(session) {
					if err := send(by, endSession{session}); err != nil {
						rt.Fatal(err)
					}
					ends[session] = now
				}
			case 2:
				law = 1 - law
				c.rules = rules[law]
			case 3:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute, 30 * time.Minute}).Draw(rt, "later"))
				if rapid.Bool().Draw(rt, "swept") {
					if err := send(Caller{Keeper: true}, sweep{}); err != nil {
						rt.Fatal(err)
					}
				}
			case 4, 5:
				id := fmt.Sprint("r-", n)
				if err := send(by, openRequest{ID: id, Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}); err == nil {
					requests, bound[id] = append(requests, id), law == 1
				} else if signedIn && codeOf(err) != "requests_many" {
					rt.Fatal(err)
				}
			case 6:
				if len(requests) == 0 {
					continue
				}
				r := requests[len(requests)-1]
				if requests = requests[:len(requests)-1]; c.Requests[r] == nil {
					continue // out of patience
				}
				binds := bound[r] || law == 1
				err := send(by, beginActivation{r, "a-" + r})
				want := signedIn && !(binds && session == "")
				if (err == nil) != want && codeOf(err) != "timed_out" && codeOf(err) != "activations_many" {
					rt.Fatalf("begun in %q, bound %v: %v, want %v", session, binds, err, want)
				}
				if err == nil {
					a := active{ends: now.Add(time.Hour)}
					if binds {
						a.session = session
					}
					activations["a-"+r] = a
				}
			default:
				if err := send(by, uses{}); (err == nil) != (signedIn && may(session)) {
					rt.Fatalf("used in %q (alive %v): %v, want %v; %+v", session, alive(session), err, may(session), activations)
				}
			}
			for id, a := range activations {
				lives := now.Before(a.ends) && (a.session == "" || alive(a.session))
				if is := c.Activations[id]; (is != nil && c.lives(is, now)) != lives {
					rt.Fatalf("%s lives: %v, want %v", id, !lives, lives)
				}
			}
		}
	})
}

// Whoever asks who can is told of what is bound to a session, and of how often it was
// used, now and about the past.
func TestBoundIsSeen(t *testing.T) {
	ctx := context.Background()
	k, later, apply := withConsole(t)
	apply("name: use, role: user, scope: /projects/p", "name: use, role: user, scope: /projects/p, bound: session, uses: 2")
	code, err := k.Invite(ctx, Caller{User: "dora"}, "ann")
	must(t, err)
	must(t, k.Enrol(ctx, "ann", code, "a long password of ann"))
	secret, _, err := k.SignIn(ctx, "ann", "a long password of ann", "")
	must(t, err)
	sat, err := k.Authenticate(secret)
	must(t, err)
	r, err := k.RequestActivation(ctx, sat, "", OpenRequest{Role: "user", Scope: "/projects/p", For: time.Hour, Reason: "why"})
	must(t, err)
	_, err = k.BeginActivation(ctx, sat, r)
	must(t, err)
	seen := func(n int) {
		t.Helper()
		list, err := k.WhoCan(Caller{User: "dora"}, lockkeeper.UseIdentities, consoleScope)
		must(t, err)
		p, err := k.Past(ctx, Caller{User: "dora"}, k.now())
		must(t, err)
		then := p.WhoCan(lockkeeper.UseIdentities, consoleScope)
		if len(list) != n || len(then) != n {
			t.Errorf("%d and %d of %d are told: %v %v", len(list), len(then), n, list, then)
		}
		d, err := k.Can(Caller{User: "dora"}, "ann", lockkeeper.UseIdentities, consoleScope)
		if must(t, err); d.Passed(k.now()) != (n > 0) {
			t.Errorf("dora is told %s", d.Sentence)
		}
		d, err = k.Can(Caller{User: "ann"}, "ann", lockkeeper.UseIdentities, consoleScope)
		if must(t, err); d.Passed(k.now()) {
			t.Errorf("ann is told elsewhere: %s", d.Sentence)
		}
	}
	seen(1)
	for range 2 {
		later(time.Second)
		_, err = k.IssueToken(ctx, sat, "p", "console", console)
		must(t, err)
	}
	later(time.Second)
	seen(0)
}

// A credential is a use, and the account that it opens lasts until the activation ends:
// after the last one there is no other, and nothing is taken away.
func TestCredentialIsAUse(t *testing.T) {
	c, do := accessCore(t, "patience: 2h, approvals", "patience: 2h, uses: 1, approvals", "<deny>", provisioned)
	activated(t, c, do, "1", "/projects/p", 0)
	for id, d := range c.Duties {
		if d.Terms.Kind() != "postgresql" {
			continue
		}
		must(t, do("", beginEffect{id, 1, GrantVerb, 30 * time.Second}, 0))
		must(t, do("", endEffect{Duty: id, Attempt: 1}, time.Second))
	}
	ask := handCredential{Activation: "a-1", Kind: "postgresql"}
	must(t, do("ann", ask, 2*time.Second))
	want(t, do("ann", ask, 3*time.Second), "uses_spent")
	want(t, do("ann", uses{}, 3*time.Second), "not_granted")
	must(t, do("", sweep{}, 4*time.Second))
	if a := c.Activations["a-1"]; a == nil || !c.lives(a, began.Add(4*time.Second)) {
		t.Error("the account's activation is over with its last use")
	}
}

// To make an activation longer gives it no more uses.
func TestLongerIsNoMoreUses(t *testing.T) {
	c, do := accessCore(t, "longest: <longest>, patience: 2h, approvals", "longest: 2h, patience: 2h, uses: 2, approvals")
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	must(t, do("ann", uses{}, time.Second))
	must(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: 10 * time.Minute, Reason: "why"}, time.Second))
	must(t, do("bob", c.approval("r-2"), time.Second))
	must(t, do("ann", beginActivation{"r-2", ""}, time.Second))
	if a := c.Activations["a-1"]; a.Uses != 2 || a.Used != 1 || len(a.Extended) != 1 {
		t.Errorf("%+v", a)
	}
	must(t, do("ann", uses{}, time.Second))
	want(t, do("ann", uses{}, time.Second), "not_granted")
}

// A rule that binds since makes no activation longer that is bound to nothing, and
// breaking the glass keeps to the same bounds.
func TestBoundSince(t *testing.T) {
	c, do := accessCore(t, "longest: <longest>", "longest: 2h")
	c.signs(t, "ann", "s-1", 0)
	must(t, c.sitsAs(t, "ann", "s-1", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	must(t, c.sitsAs(t, "ann", "s-1", beginActivation{"r-1", "a-1"}, 0))
	c.rules = accessLawOf(t, "longest: <longest>", "longest: 2h, bound: session")
	must(t, c.sitsAs(t, "ann", "s-1", extendActivation{ID: "r-2", Activation: "a-1", For: 10 * time.Minute, Reason: "why"}, time.Second))
	must(t, do("bob", c.approval("r-2"), time.Second))
	want(t, c.sitsAs(t, "ann", "s-1", beginActivation{"r-2", ""}, time.Second), "session_other")

	glass := accessLawOf(t, "longest: <longest>", "longest: 2h, uses: 1, bound: session, breakGlass: {reviewers: {groups: [leads]}}")
	c.rules = glass
	broken := breakGlass{Request: "r-9", Activation: "a-9", Review: "v-9", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "fire"}
	want(t, do("ann", broken, time.Second), "session_needed")
	must(t, c.sitsAs(t, "ann", "s-1", broken, time.Second))
	if a := c.Activations["a-9"]; a.Session != "s-1" || a.Uses != 1 {
		t.Errorf("%+v", a)
	}
}

// A run on a CI platform is in nobody's session, also while its initiator sits in his
// and decides about it.
func TestRunsAreInNoSession(t *testing.T) {
	c := deployCore(t, rulesWith("<more>", `---
{kind: User, name: fay, ids: [{provider: github, id: "1005"}]}
---
{kind: Role, name: starter, actions: [deployments/start]}
---
{kind: Assignment, name: fay, role: starter, principal: user:fay, scope: /projects/payments, eligible: true}
---
{kind: ActivationRule, name: starters, role: starter, scope: /projects/payments, bound: session}
`))
	c.signs(t, "fay", "s-1", 0)
	must(t, c.sitsAs(t, "fay", "s-1", openRequest{ID: "r-1", Role: "starter", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
	must(t, c.sitsAs(t, "fay", "s-1", beginActivation{"r-1", "a-1"}, 0))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	if err := c.open("d-1", c.job("2", "11", "production", "1005", 0), "production", 0); err == nil {
		t.Error("a run started with what is bound to a session")
	}
	must(t, c.open("d-2", c.job("3", "12", "production", "1001", 0), "production", 0))
	d := c.Deployments["d-2"].clone()
	d.Initiators[0].Account = "1005"
	for _, i := range c.sat("s-1").initiators(d, began.Add(time.Second)) {
		if i.User != "fay" || i.Right.Passed(began.Add(time.Second)) {
			t.Errorf("%s: %s", i.User, i.Right.Sentence)
		}
	}
}

// An approval is a use, and so is a denial; what was approved stays approved when no use
// is left.
func TestVoteIsAUse(t *testing.T) {
	for _, more := range []string{"", ", bound: session"} {
		c, do := accessCore(t, "role: access-approver, principal: group:leads, scope: /}", "role: access-approver, principal: group:leads, scope: /, eligible: true}",
			"<strict>", "---\n{kind: ActivationRule, name: deciders, role: access-approver, scope: /, uses: 2"+more+"}\n")
		c.signs(t, "bob", "s-bob", 0)
		bob := func(cmd command, at time.Duration) error { return c.sitsAs(t, "bob", "s-bob", cmd, at) }
		must(t, bob(openRequest{ID: "r-b", Role: "access-approver", Scope: "/", For: time.Hour, Reason: "why"}, 0))
		must(t, bob(beginActivation{"r-b", "a-b"}, 0))
		for _, id := range []string{"r-1", "r-2", "r-3"} {
			must(t, do("ann", asks(id), time.Second))
		}
		must(t, bob(c.approval("r-1"), time.Second))
		deny := c.approval("r-2")
		deny.Approve = false
		must(t, bob(deny, time.Second))
		if a := c.Activations["a-b"]; a.Used != 2 || c.lives(a, began.Add(time.Second)) {
			t.Errorf("after two verdicts: %+v", a)
		}
		if err := bob(c.approval("r-3"), time.Second); err == nil {
			t.Error("a third verdict with two uses")
		}
		must(t, do("", sweep{}, 2*time.Second))
		must(t, do("ann", beginActivation{"r-1", "a-1"}, 2*time.Second))
	}
}
