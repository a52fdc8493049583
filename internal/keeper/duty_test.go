package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// provisioned are the provisioners of the duty tests, in the place of <deny>.
const provisioned = "\n---\n{kind: Provisioner, name: database, role: operator, scope: /projects/p/environments/e, postgresql: {roles: [reading]}}\n" +
	"---\n{kind: Provisioner, name: hook, role: operator, scope: /projects/p/environments/f, webhook: {url: 'https://hook.example.com'}}\n"

// A farTarget is what stands behind provisioners: who has an account there, and
// what was sent to it and has not happened yet.
type farTarget struct {
	has  map[lockkeeper.Digest]bool
	late []lateEffect
}
type lateEffect struct {
	at     lockkeeper.Moment
	target lockkeeper.Digest
	has    bool
}

func (f *farTarget) pass(now lockkeeper.Moment) {
	f.late = slices.DeleteFunc(f.late, func(e lateEffect) bool {
		if now.Before(e.at) {
			return false
		}
		f.has[e.target] = e.has
		return true
	})
}

// dutyWorld is a core, a target, and workers that may crash.
type dutyWorld struct {
	t      *rapid.T
	c      *core
	mirror *State
	far    *farTarget
	now    lockkeeper.Moment
	seen   map[string]int
	ran    []Effect // whose outcome is not reported
	ids    []string // of activations
}

func (w *dutyWorld) step(by string, cmd command) (step, error) {
	s, err := w.c.step(Caller{User: by, Keeper: by == ""}, "", cmd, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, e := range s.entries {
		read, ev, err := readEntry(s.records[i].Data)
		if err != nil || w.mirror.apply(read, ev) != nil {
			w.t.Fatalf("entry %d: %v", e.Seq, err)
		}
		w.seen[e.Kind]++
	}
	return s, s.err
}

func (w *dutyWorld) later(d time.Duration) {
	w.now = w.now.Add(d)
	w.far.pass(w.now)
}

// activate gives a user the role at a scope, if nothing is in the way.
func (w *dutyWorld) activate(n int, user string, scope lockkeeper.Scope, length time.Duration) {
	id := fmt.Sprint(n)
	if _, err := w.step(user, openRequest{ID: "r-" + id, Role: "operator", Scope: scope, For: length, Reason: "why"}); err != nil {
		return
	}
	if _, err := w.step("dora", decideRequest{Request: "r-" + id, Approve: true, Digest: w.c.Requests["r-"+id].Digest, Comment: ""}); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.step(user, beginActivation{"r-" + id, "a-" + id})
	switch {
	case err == nil:
		w.ids = append(w.ids, "a-"+id)
	case codeOf(err) == "revocation_owed":
		w.seen["blocked"]++
		if !slices.ContainsFunc(slices.Collect(maps.Values(w.c.Duties)), func(d *Duty) bool { return d.Owed(w.now) }) {
			w.t.Fatal("nothing is owed, and it blocks")
		}
		_, _ = w.step(user, withdrawRequest{"r-" + id})
	default:
		_, _ = w.step(user, withdrawRequest{"r-" + id})
	}
}

// work lets a worker do one thing that is to be done. how it goes is drawn.
func (w *dutyWorld) work(well bool) bool {
	var ids []string
	all := w.c.accounts()
	for _, id := range slices.Sorted(maps.Keys(w.c.Duties)) {
		if d := w.c.Duties[id]; w.c.next(d, all.others(d), w.now) != "" {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return false
	}
	id := ids[0]
	if !well {
		id = rapid.SampledFrom(ids).Draw(w.t, "duty")
	}
	d := w.c.Duties[id]
	verb := w.c.next(d, all.others(d), w.now)
	s, err := w.step("", beginEffect{id, d.Attempt + 1, verb, 30 * time.Second})
	if err != nil {
		w.t.Fatalf("%s of %s was to be done: %v", verb, id, err)
	}
	e := s.answer.(Effect)
	if well {
		w.far.has[e.Duty.Target] = verb == GrantVerb
		w.report(e, Outcome{})
		return true
	}
	switch rapid.IntRange(0, 7).Draw(w.t, "how it goes") {
	case 0, 1: // it happens, and is reported
		w.far.has[e.Duty.Target] = verb == GrantVerb
		w.report(e, Outcome{})
	case 2: // it fails, and nothing happened
		w.report(e, Outcome{Code: "target_failed", Untouched: rapid.Bool().Draw(w.t, "untouched")})
	case 3: // it fails, and happened all the same
		w.far.has[e.Duty.Target] = verb == GrantVerb
		w.report(e, Outcome{Code: "target_failed"})
	case 4: // it fails, and happens later, within its deadline
		w.far.late = append(w.far.late, lateEffect{w.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(w.t, "seconds")) * time.Second), e.Duty.Target, verb == GrantVerb})
		w.report(e, Outcome{Code: "timed_out"})
	case 5: // the worker dies after it, and another one that has the outcome comes back late
		w.far.has[e.Duty.Target] = verb == GrantVerb
		w.ran = append(w.ran, e)
	case 7: // the worker dies, and it happens later
		w.far.late = append(w.far.late, lateEffect{w.now.Add(time.Duration(rapid.IntRange(1, 30).Draw(w.t, "seconds")) * time.Second), e.Duty.Target, verb == GrantVerb})
	case 6: // the worker dies before it
		w.ran = append(w.ran, Effect{})
	}
	return true
}

func (w *dutyWorld) report(e Effect, o Outcome) {
	_, err := w.step("", endEffect{e.Duty.ID, e.Duty.Attempt, o, rapid.Float64Range(0, 1).Draw(w.t, "jitter")})
	if err != nil && codeOf(err) != "effect_stale" && codeOf(err) != "duty_over" {
		w.t.Fatal(err)
	}
}

// check holds invariant 12 against the world.
func (w *dutyWorld) check() {
	answered := map[lockkeeper.Digest]bool{}
	for _, d := range w.c.Duties {
		answered[d.Target] = true
	}
	for target, has := range w.far.has {
		if has && !answered[target] {
			w.t.Fatalf("an account is there, and no duty answers for it (invariant 12)")
		}
	}
	for _, e := range w.far.late {
		if e.has && !answered[e.target] {
			w.t.Fatalf("an account is still to come, and no duty answers for it (invariant 12)")
		}
	}
	for _, d := range w.c.Duties { // whoever is told that he has it, has it
		if d.Status == DutyGranted && !w.c.finished(d, w.now) && !w.far.has[d.Target] {
			w.t.Fatalf("%s is granted, and the account is not there", d.ID)
		}
	}
	one, _ := w.c.Digest()
	if two, _ := w.mirror.Digest(); one != two {
		w.t.Fatal("the state is not the fold of the journal (invariant 1)")
	}
}

// TestInvariant12 lets people activate, end and overlap, targets fail in every way,
// and workers die between each pair of steps: whatever is granted has a duty, and
// when everything is over and the target answers again, nothing is left.
func TestInvariant12(t *testing.T) {
	laws := []*Rules{accessLawOf(t, "<deny>", provisioned), accessLawOf(t, "<deny>", strings.ReplaceAll(provisioned, "reading", "writing")), accessLawOf(t), accessLawOf(t, "<deny>", provisioned, "engineers, users: [ann, ", "engineers, users: [")}
	seen := map[string]int{}
	unseen := func() []string {
		return slices.DeleteFunc([]string{"duty.taken", "duty.tried", "duty.granted", "duty.failed", "duty.revoked", "duty.due", "duty.ended", "blocked"}, func(must string) bool { return seen[must] > 0 })
	}
	for range 10 { // until what is rare has come, too
		rapid.Check(t, func(rt *rapid.T) { dutySequence(rt, laws, seen) })
		if len(unseen()) == 0 {
			return
		}
	}
	t.Errorf("never saw %v (saw %v)", unseen(), seen)
}

// dutySequence is one random sequence of TestInvariant12.
func dutySequence(rt *rapid.T, laws []*Rules, seen map[string]int) {
	w := &dutyWorld{t: rt, c: &core{world: world{State: newState(), rules: laws[0]}}, mirror: newState(), far: &farTarget{has: map[lockkeeper.Digest]bool{}}, now: began, seen: seen}
	if _, err := w.step("", firstEntry{}); err != nil {
		rt.Fatal(err)
	}
	scopes := []lockkeeper.Scope{"/projects/p", "/projects/p/environments/e", "/projects/p/environments/f"}
	for n := range rapid.IntRange(10, 80).Draw(rt, "steps") {
		switch rapid.IntRange(0, 12).Draw(rt, "what") {
		case 0, 1, 2:
			w.activate(n, rapid.SampledFrom([]string{"ann", "bob"}).Draw(rt, "user"), rapid.SampledFrom(scopes).Draw(rt, "scope"), rapid.SampledFrom([]time.Duration{2 * time.Minute, time.Hour}).Draw(rt, "length"))
		case 3:
			if len(w.ids) > 0 {
				_, _ = w.step("dora", endActivation{rapid.SampledFrom(w.ids).Draw(rt, "activation"), "enough"})
			}
		case 4, 5, 6, 7:
			w.work(false)
		case 8:
			if len(w.ran) > 0 {
				e := rapid.SampledFrom(w.ran).Draw(rt, "late report")
				w.report(e, Outcome{})
			}
		case 9:
			w.later(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Minute, 10 * time.Minute}).Draw(rt, "later"))
		case 10:
			_, _ = w.step("", sweep{})
		case 12:
			if len(w.ids) > 0 { // made longer, however that comes about
				id := rapid.SampledFrom(w.ids).Draw(rt, "activation")
				for _, s := range []*State{w.c.State, w.mirror} {
					if a := s.Activations[id]; a != nil {
						a.Ends = a.Ends.Add(10 * time.Minute)
					}
				}
			}
		case 11:
			w.c.rules = rapid.SampledFrom(laws).Draw(rt, "law")
		}
		w.check()
	}
	w.quiet()
}

// quiet lets everything end and the target answer, and expects that nothing is left.
func (w *dutyWorld) quiet() {
	w.later(2 * time.Hour)
	for range 100 {
		if len(w.c.Duties) == 0 {
			break
		}
		_, _ = w.step("", sweep{})
		for w.work(true) {
			w.check()
		}
		w.later(time.Minute)
	}
	w.check()
	for _, d := range w.c.Duties {
		w.t.Fatalf("a duty is left: %+v", d)
	}
	for _, has := range w.far.has {
		if has {
			w.t.Fatal("an account is left (invariant 12)")
		}
	}
}

// dutyCore is a core under provisioned rules, with ann's activation a-1 of the scope
// begun, and a function that makes an attempt without reporting it.
func dutyCore(t *testing.T, scope lockkeeper.Scope) (*core, func(by string, cmd command, at time.Duration) error, func(id string, at time.Duration) string) {
	c, do := accessCore(t, "<deny>", provisioned)
	activated(t, c, do, "1", scope, 0)
	return c, do, func(id string, at time.Duration) string {
		t.Helper()
		d := c.Duties[id]
		if d == nil {
			return ""
		}
		verb := c.next(d, c.accounts().others(d), began.Add(at))
		if verb != "" {
			must(t, do("", beginEffect{id, d.Attempt + 1, verb, 30 * time.Second}, at))
		}
		return verb
	}
}

func activated(t *testing.T, c *core, do func(by string, cmd command, at time.Duration) error, n string, scope lockkeeper.Scope, at time.Duration) {
	t.Helper()
	must(t, do("ann", openRequest{ID: "r-" + n, Role: "operator", Scope: scope, For: time.Hour, Reason: "why"}, at))
	must(t, do("bob", decideRequest{Request: "r-" + n, Approve: true, Digest: c.Requests["r-"+n].Digest, Comment: ""}, at))
	must(t, do("ann", beginActivation{"r-" + n, "a-" + n}, at))
}

// An account that a grant may still bring is not handed to an heir, who could be
// rid of it before it comes.
func TestDutyHeirOfWhatMayCome(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/f")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{Code: "timed_out"}, 0.5}, time.Second))
	activated(t, c, do, "2", "/projects/p/environments/f", 2*time.Second)
	must(t, do("ann", endActivation{"a-1", ""}, 3*time.Second))
	must(t, do("", sweep{}, 4*time.Second))
	if c.Duties["o-1-1"] == nil {
		t.Fatal("handed over while the grant may still come")
	}
	must(t, do("", sweep{}, 31*time.Second))
	if c.Duties["o-1-1"] != nil || c.Duties["o-2-1"].Maybe != 1 {
		t.Errorf("not handed over: %+v", c.Duties)
	}
	must(t, do("ann", endActivation{"a-2", ""}, 32*time.Second))
	if verb := try("o-2-1", 33*time.Second); verb != RevokeVerb {
		t.Errorf("the heir does %q", verb)
	}
}

// What is granted while its activation ends is taken away at once, read again when
// nothing can be under way, and over only then.
func TestDutyReadAgainAfterTheDeadline(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{Code: "timed_out"}, 0.5}, 10*time.Second))
	must(t, do("ann", endActivation{"a-1", ""}, 11*time.Second))
	must(t, do("", sweep{}, 11*time.Second))
	if verb := try("o-1-1", 12*time.Second); verb != RevokeVerb {
		t.Fatalf("it waits, or does %q", verb)
	}
	must(t, do("", endEffect{"o-1-1", 2, Outcome{}, 0.5}, 13*time.Second))
	if d := c.Duties["o-1-1"]; d == nil || d.Status != DutyRevoked || try("o-1-1", 29*time.Second) != "" {
		t.Fatalf("%+v", d)
	}
	if verb := try("o-1-1", 30*time.Second); verb != RevokeVerb {
		t.Fatalf("it does %q", verb)
	}
	must(t, do("", endEffect{"o-1-1", 3, Outcome{}, 0.5}, 31*time.Second))
	if c.Duties["o-1-1"] != nil {
		t.Error("it is not over")
	}
}

// The target is down at the end: a removal that fails is owed: it blocks, it is tried for ever, and only two others
// end it with their word.
func TestFailure12TargetDownAtTheEnd(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, time.Second))
	want(t, do("bob", attestDuty{"o-1-1", "I looked"}, 2*time.Second), "duty_not_owed")
	at := time.Hour
	must(t, do("", sweep{}, at))
	for n := 2; n < 40; n++ { // two days
		if verb := try("o-1-1", at); verb != RevokeVerb {
			t.Fatalf("after %s it does %q", at, verb)
		}
		must(t, do("", endEffect{"o-1-1", n, Outcome{Code: "target_failed", Reason: "\x1b[2J down"}, 0.5}, at+time.Second))
		d := c.Duties["o-1-1"]
		if !d.Owed(began.Add(at)) || d.Status != DutyOwed || d.Reason != " [2J down" {
			t.Fatalf("%+v", d)
		}
		wait := d.Retry.Sub(began.Add(at + time.Second))
		if wait < firstRetry/2 || wait > slowRetry*3/2 || n > slowAfter+2 && wait != slowRetry {
			t.Fatalf("failure %d waits %s", d.Failures, wait)
		}
		at += time.Second + max(wait, 30*time.Second)
	}
	must(t, do("ann", openRequest{ID: "r-2", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, at))
	must(t, do("bob", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest, Comment: ""}, at))
	want(t, do("ann", beginActivation{"r-2", "a-2"}, at), "revocation_owed")
	activated(t, c, do, "3", "/projects/p/environments/f", at) // another provisioner
	want(t, do("ann", attestDuty{"o-1-1", "it is away"}, at), "not_granted")
	want(t, do("bob", attestDuty{"o-1-1", " "}, at), "comment_missing")
	want(t, do("ann2", attestDuty{"o-1-1", "it is away"}, at), "own_duty")
	must(t, do("bob", attestDuty{"o-1-1", "dropped by hand"}, at))
	must(t, do("bob", attestDuty{"o-1-1", "dropped by hand"}, at))
	must(t, do("cat", attestDuty{"o-1-1", "seen"}, at+attestedFor)) // his word came too late for bob's
	if c.Duties["o-1-1"] == nil {
		t.Fatal("one person ended it")
	}
	must(t, do("dora", attestDuty{"o-1-1", "seen"}, at+attestedFor+time.Hour))
	if c.Duties["o-1-1"] != nil {
		t.Fatal("two persons do not end it")
	}
	activated(t, c, do, "4", "/projects/p/environments/e", at+attestedFor+time.Hour)
}

// A request opens what it said it would, and nothing that was added since.
func TestDutyOpensWhatWasApproved(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest, Comment: ""}, 0))
	c.rules = accessLawOf(t, "<deny>", provisioned)
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "role_widened")
	must(t, do("ann", openRequest{ID: "r-2", Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, 0))
	must(t, do("bob", decideRequest{Request: "r-2", Approve: true, Digest: c.Requests["r-2"].Digest, Comment: ""}, 0))
	c.rules = accessLawOf(t, "<deny>", strings.ReplaceAll(provisioned, "reading", "writing"))
	want(t, do("ann", beginActivation{"r-2", "a-2"}, 0), "role_widened")
	c.rules = accessLawOf(t)
	must(t, do("ann", beginActivation{"r-2", "a-2"}, 0))
	if len(c.Duties) != 0 {
		t.Errorf("it opened %+v", c.Duties)
	}
}

// A provisioner that is not what it was takes away what it gave, by what it was.
func TestDutyFollowsTheCatalog(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, time.Second))
	c.rules = accessLawOf(t, "<deny>", strings.ReplaceAll(provisioned, "reading", "writing"))
	must(t, do("", sweep{}, 2*time.Second))
	if verb := try("o-1-1", 3*time.Second); verb != RevokeVerb || c.Duties["o-1-1"].Terms.PostgreSQL.Roles[0] != "reading" {
		t.Errorf("it does %q", verb)
	}
	c.rules = accessLawOf(t, "<deny>", provisioned)
	if !c.finished(c.Duties["o-1-1"], began.Add(4*time.Second)) {
		t.Error("it comes back with the catalog")
	}
}

// Credentials are the holder's, while he may have them.
func TestDutyCredentials(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p")
	ask := handCredential{Activation: "a-1", Kind: "postgresql"}
	want(t, do("ann", ask, 0), "not_granted_yet")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, time.Second))
	want(t, do("bob", ask, 0), "opening_missing")
	want(t, do("ann2", ask, 0), "opening_missing")
	want(t, do("ann", handCredential{Activation: "a-1", Kind: "ssh"}, 0), "opening_missing")
	for range maxCredentials {
		must(t, do("ann", ask, time.Second))
	}
	want(t, do("ann", ask, time.Second), "credentials_many")
	want(t, do("ann", ask, time.Hour), "activation_over")
	if got := c.Duties["o-1-1"].Outside; !got.IsZero() {
		t.Errorf("a password of the database outlives until %s", got)
	}
}

// An activation that is made longer is granted anew, until the new end.
func TestDutyOfALongerActivation(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, time.Second))
	if verb := try("o-1-1", 2*time.Second); verb != "" {
		t.Fatalf("it does %q", verb)
	}
	end := began.Add(3 * time.Hour)
	c.Activations["a-1"].Ends = end
	if verb := try("o-1-1", 40*time.Minute); verb != GrantVerb || c.Duties["o-1-1"].Ends != end {
		t.Fatalf("it does %q until %s", verb, c.Duties["o-1-1"].Ends)
	}
	want(t, do("ann", handCredential{Activation: "a-1", Kind: "postgresql"}, 40*time.Minute), "not_granted_yet")
	must(t, do("", endEffect{"o-1-1", 2, Outcome{Code: "target_failed", Untouched: true}, 0.5}, 41*time.Minute))
	if verb := try("o-1-1", 42*time.Minute); verb != GrantVerb {
		t.Fatalf("after a failure it does %q", verb)
	}
	must(t, do("", endEffect{"o-1-1", 3, Outcome{}, 0.5}, 42*time.Minute))
	must(t, do("ann", handCredential{Activation: "a-1", Kind: "postgresql"}, 90*time.Minute))
	if verb := try("o-1-1", 2*time.Hour); verb != "" {
		t.Fatalf("it does %q before the new end", verb)
	}
	if verb := try("o-1-1", 3*time.Hour); verb != RevokeVerb {
		t.Fatalf("it does %q at the new end", verb)
	}
}

// An epoch ends activations; what they opened is undone all the same.
func TestDutyOutlivesAnEpoch(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	c.Accounts["dora"] = &Account{User: "dora", Credential: "c"}
	must(t, do("", openEpoch{Number: 2, Confirmer: "dora", Reason: "restored"}, time.Second))
	if d := c.Duties["o-1-1"]; d == nil || !c.finished(d, began.Add(time.Second)) {
		t.Error("nothing takes it away")
	}
	must(t, do("", sweep{}, 31*time.Second))
	if verb := try("o-1-1", 32*time.Second); verb != RevokeVerb {
		t.Errorf("it does %q", verb)
	}
}

// What opens at one place and not at another is told apart, and taken away at both:
// also where it failed, since it may have happened.
func TestFailure30PartialSuccess(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p")
	if len(c.Duties) != 2 {
		t.Fatalf("%d duties", len(c.Duties))
	}
	for _, id := range []string{"o-1-1", "o-1-2"} {
		if verb := try(id, 0); verb != GrantVerb {
			t.Fatalf("%s is to %q", id, verb)
		}
	}
	for id, o := range map[string]Outcome{"o-1-1": {}, "o-1-2": {Code: "target_failed", Reason: "down"}} {
		must(t, do("", endEffect{id, 1, o, 0.5}, time.Second))
	}
	if at := began.Add(2 * time.Second); c.dutyView(c.Duties["o-1-1"], at).Stands != DutyGranted || c.dutyView(c.Duties["o-1-2"], at).Stands == DutyGranted || c.Duties["o-1-2"].Failures != 1 {
		t.Errorf("%+v and %+v", c.Duties["o-1-1"], c.Duties["o-1-2"])
	}
	must(t, do("ann", endActivation{"a-1", ""}, 3*time.Second))
	revoked := map[string]bool{}
	for n := range 20 {
		at := time.Duration(10+n) * time.Minute
		must(t, do("", sweep{}, at))
		for _, id := range []string{"o-1-1", "o-1-2"} {
			if verb := try(id, at); verb != "" {
				if verb == GrantVerb {
					t.Errorf("%s is granted after the end", id)
				}
				revoked[id] = revoked[id] || verb == RevokeVerb
				must(t, do("", endEffect{id, c.Duties[id].Attempt, Outcome{}, 0.5}, at))
			}
		}
	}
	if len(c.Duties) > 0 || !revoked["o-1-1"] || !revoked["o-1-2"] {
		t.Errorf("%d duties are left; taken away: %v", len(c.Duties), revoked)
	}
}
