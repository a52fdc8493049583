package keeper

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// The values of RFC 6238, appendix B, of which six digits are left.
func TestTOTPVectors(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := totpCode(secret, at/30); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
		for drift, taken := range map[int64]bool{0: true, 30: true, -30: true, 60: false, -60: false} {
			if at+drift < 0 {
				continue
			}
			step, ok := totpMatch(secret, want, time.Unix(at+drift, 0))
			if ok != taken || ok && step != at/30 {
				t.Errorf("at %d%+d: %v, step %d", at, drift, ok, step)
			}
		}
	}
	for _, wrong := range []string{"", "28708", "2870822", "287083", "٢٨٧٠٨٢", " 287082"} {
		if _, ok := totpMatch(secret, wrong, time.Unix(59, 0)); ok {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// A person with a clock of the test's, and an app on his phone.
type phone struct {
	k      *Keeper
	clock  *atomic.Int64
	start  time.Time
	secret []byte
}

func (p *phone) now() time.Time { return p.start.Add(time.Duration(p.clock.Load())) }
func (p *phone) later(d time.Duration) {
	p.clock.Add(int64(d))
}
func (p *phone) code() string { return totpCode(p.secret, p.now().Unix()/30) }

func (p *phone) register(t *testing.T, by Caller, name string) (Factor, error) {
	t.Helper()
	b, err := p.k.BeginTOTP(by, name)
	if err != nil {
		return Factor{}, err
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(b.Secret)
	must(t, err)
	if !strings.Contains(b.URI, "secret="+b.Secret) || !strings.HasPrefix(b.URI, "otpauth://totp/") {
		t.Errorf("the address is %q", b.URI)
	}
	p.secret = secret
	return p.k.ConfirmTOTP(context.Background(), by, b.ID, p.code())
}

func phoneOf(t *testing.T) (*phone, Options, string) {
	t.Helper()
	p := &phone{clock: new(atomic.Int64), start: time.Now().Add(-48 * time.Hour).Truncate(30 * time.Second)}
	options := Options{Clock: p.now}
	k, dir := started(t, options)
	p.k = k
	return p, options, dir
}

const dorasPassword = "a password of dora"

// signedIn signs dora in with what she has.
func (p *phone) signedIn(t *testing.T) Caller {
	t.Helper()
	ctx := context.Background()
	p.later(time.Minute) // a fresh code, and a fresh try
	secret, _, err := p.k.SignIn(ctx, "dora", dorasPassword, "here")
	var needed *FactorNeeded
	if errors.As(err, &needed) {
		secret, _, err = p.k.FinishSignIn(ctx, needed.Ticket, p.code())
	}
	must(t, err)
	by, err := p.k.Authenticate(secret)
	must(t, err)
	return by
}

// TestSecondFactor plays a person's life with an authenticator app: a password alone
// opens nothing any more, a code is taken once, guesses are limited, and what rests at
// the server is sealed.
func TestSecondFactor(t *testing.T) {
	ctx := context.Background()
	p, options, dir := phoneOf(t)
	by := p.signedIn(t)
	_, err := p.k.BeginTOTP(Caller{User: "dora"}, "phone")
	want(t, err, "person_needed")
	_, err = p.register(t, by, "My Phone")
	want(t, err, "factor_name_malformed")
	want(t, p.k.StepUp(ctx, by, "123456"), "totp_none")

	b, err := p.k.BeginTOTP(by, "phone")
	must(t, err)
	_, err = p.k.ConfirmTOTP(ctx, by, b.ID, "000000")
	want(t, err, "factor_wrong")
	_, err = p.k.ConfirmTOTP(ctx, by, "f-other", "000000")
	want(t, err, "factor_over")
	if list, _, _ := p.k.Factors(by, "dora"); len(list) != 0 {
		t.Fatalf("an unconfirmed factor holds: %v", list)
	}
	p.later(time.Hour)
	_, err = p.k.ConfirmTOTP(ctx, by, b.ID, "000000")
	want(t, err, "factor_over")
	_, err = p.register(t, by, "phone")
	want(t, err, "step_up_needed") // the sign-in is of an hour ago
	by = p.signedIn(t)
	f, err := p.register(t, by, "phone")
	must(t, err)
	registered := p.code()

	// The password alone opens nothing.
	_, _, err = p.k.SignIn(ctx, "dora", dorasPassword, "here")
	var needed *FactorNeeded
	if want(t, err, "factor_needed"); !errors.As(err, &needed) || !slices.Equal(needed.Factors, []string{TOTP}) {
		t.Fatalf("%v", err)
	}
	_, err = p.k.Authenticate(needed.Ticket)
	want(t, err, "session_unknown")
	_, _, err = p.k.FinishSignIn(ctx, needed.Ticket, registered) // the code that registered it was shown
	want(t, err, "factor_used")
	p.later(30 * time.Second)
	secret, s, err := p.k.FinishSignIn(ctx, needed.Ticket, p.code())
	must(t, err)
	if !s.Strong {
		t.Error("the session is not strong")
	}
	_, _, err = p.k.FinishSignIn(ctx, needed.Ticket, p.code())
	want(t, err, "ticket_over")
	strong, err := p.k.Authenticate(secret)
	must(t, err)

	// One code, one use, also of many at once.
	p.later(5 * time.Minute)
	code := p.code()
	var group sync.WaitGroup
	var taken atomic.Int32
	for range 5 {
		group.Go(func() {
			if p.k.StepUp(ctx, strong, code) == nil {
				taken.Add(1)
			}
		})
	}
	group.Wait()
	if taken.Load() != 1 {
		t.Errorf("one code was taken %d times", taken.Load())
	}
	want(t, p.k.StepUp(ctx, strong, "000000"), "too_many_attempts")

	// A weak session changes no factor, a strong one does for a quarter of an hour.
	_, err = p.k.BeginTOTP(by, "tablet")
	want(t, err, "step_up_needed")
	want(t, p.k.RemoveFactor(ctx, by, f.ID), "step_up_needed")
	must(t, p.k.MayRegister(strong, "tablet"))
	p.later(factorAge + time.Second)
	want(t, p.k.RemoveFactor(ctx, strong, f.ID), "step_up_needed")
	must(t, p.k.StepUp(ctx, by, p.code())) // and a weak one becomes strong
	must(t, p.k.MayRegister(by, "tablet"))
	want(t, p.k.MayRegister(by, "phone"), "factor_name_taken")

	// Nothing of it is in the folder in the clear, and it outlives a start.
	spelled := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(p.secret)
	if found := inFolder(t, dir, []string{spelled, string(p.secret), secret, needed.Ticket}); len(found) > 0 {
		t.Errorf("in the clear: %q", found)
	}
	must(t, p.k.Close())
	p.k, err = openKeeper(ctx, dir, options)
	must(t, err)
	defer p.k.Close()
	_, _, err = p.k.SignIn(ctx, "dora", dorasPassword, "here")
	want(t, err, "factor_needed")
	p.later(time.Minute)
	must(t, p.k.StepUp(ctx, by, p.code()))
	must(t, p.k.RemoveFactor(ctx, by, f.ID))
	if _, err := p.k.sealed.Get(ctx, totpKind, f.ID); lockkeeper.KindOf(err) != lockkeeper.NotFound {
		t.Errorf("the secret is sealed still: %v", err)
	}
	_, _, err = p.k.SignIn(ctx, "dora", dorasPassword, "here")
	must(t, err)
}

// inFolder lists the texts that stand somewhere in the bytes of a folder.
func inFolder(t *testing.T, dir string, texts []string) []string {
	t.Helper()
	var out []string
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(dir, file.Name()))
		must(t, err)
		for _, s := range texts {
			if bytes.Contains(data, []byte(s)) {
				out = append(out, s)
			}
		}
	}
	return out
}

// A ticket is worth a few tries, for a few minutes, and for the password it was made
// for.
func TestTicket(t *testing.T) {
	ctx := context.Background()
	p, _, _ := phoneOf(t)
	_, err := p.register(t, p.signedIn(t), "phone")
	must(t, err)
	ticket := func() string {
		t.Helper()
		p.later(time.Minute)
		_, _, err := p.k.SignIn(ctx, "dora", dorasPassword, "here")
		var needed *FactorNeeded
		if !errors.As(err, &needed) {
			t.Fatal(err)
		}
		return needed.Ticket
	}
	old := ticket()
	p.later(ticketLife)
	_, _, err = p.k.FinishSignIn(ctx, old, p.code())
	want(t, err, "ticket_over")
	guessed := ticket()
	for range ticketTries {
		_, _, err = p.k.FinishSignIn(ctx, guessed, "000000")
		want(t, err, "factor_wrong")
		p.later(30 * time.Second)
	}
	_, _, err = p.k.FinishSignIn(ctx, guessed, p.code())
	want(t, err, "ticket_over")

	// A password that was chosen since voids the ticket, and a factor that was
	// registered between the two steps is asked for.
	stale := ticket()
	_, err = do[any](ctx, p.k, Caller{}, "", recordEvent{&accountEnrolled{User: "dora", Credential: "p-other", Maker: "bob"}})
	must(t, err)
	p.later(time.Minute)
	_, _, err = p.k.FinishSignIn(ctx, stale, p.code())
	want(t, err, "sign_in_failed")
	_, _, err = p.k.begins(ctx, startSession{Session: Session{User: "dora"}, Credential: "p-other"})
	want(t, err, "factor_needed")
}

// Whoever made somebody's account, and registered a factor for it, does not go on
// entering as him once he has proved himself by another way in (invariant 3).
func TestProofTakesFactor(t *testing.T) {
	c := &core{world: world{State: newState(), rules: mustRules(t, rulesWith())}}
	record := func(events ...event) { must(t, c.record(&step{}, Caller{}, "", "", events, began)) }
	send := func(by Caller, cmd command) error {
		t.Helper()
		s, err := c.step(by, "", cmd, began)
		must(t, err)
		return s.err
	}
	record(&accountEnrolled{User: "bob", Credential: "p-bob", Maker: "dora"})
	in := startSession{Session: Session{ID: "s-maker", User: "bob", Secret: "x"}, Credential: "p-bob"}
	must(t, send(Caller{}, in))
	maker := Caller{User: "bob", Session: "s-maker"}
	must(t, send(maker, registerFactor{Factor{ID: "f-makers", Kind: TOTP, Name: "phone", Counter: 1}}))
	record(&sessionStarted{Session: Session{ID: "s-owner", User: "bob", Started: began, Expires: began.Add(time.Hour), Authenticated: began, Strong: true}}) // by another way in
	owner := Caller{User: "bob", Session: "s-owner"}
	want(t, send(owner, challengeAccount{"c-1"}), "step_up_needed")
	must(t, send(owner, stepUp{Shown{"f-makers", 2}})) // it is his after all
	must(t, send(owner, challengeAccount{"c-1"}))
	in.Session.ID, in.Shown = "s-again", Shown{"f-makers", 3}
	must(t, send(Caller{}, in))
	must(t, send(Caller{User: "bob", Session: "s-again"}, challengeAccount{"c-2"}))
	must(t, send(owner, removeFactor{"f-makers"}))
	must(t, send(maker, challengeAccount{"c-3"})) // there is none to show
}

// A factor that was registered or reset just now is a changed credential.
func TestFactorCoolsOff(t *testing.T) {
	for _, ev := range []event{&factorRegistered{Factor: Factor{ID: "f-1", User: "ann", Kind: TOTP, Name: "phone"}}, &factorsReset{User: "ann", By: "dora"}} {
		c := &core{world: world{State: newState(), rules: accessLawOf(t, "patience: 2h", "patience: 2h, coolingOff: 1h")}}
		ask := func(id string, after time.Duration) error {
			t.Helper()
			s, err := c.step(Caller{User: "ann"}, "", openRequest{ID: id, Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}, began.Add(after))
			must(t, err)
			return s.err
		}
		must(t, ask("r-1", 0))
		must(t, c.record(&step{}, Caller{}, "", "", []event{ev}, began))
		want(t, ask("r-2", time.Hour-time.Second), "cooling_off")
		must(t, ask("r-3", time.Hour))
	}
}

// recordEvent is a command of the tests: it records what it is given.
type recordEvent struct{ event event }

func (recordEvent) name() string  { return "record" }
func (recordEvent) about() string { return "" }
func (c recordEvent) decide(*world, Caller, lockkeeper.Moment) ([]event, any, error) {
	return []event{c.event}, nil, nil
}

// TestFactors registers, shows, removes and resets factors at random, and compares
// with a small model who may, whose session is strong, and as whom an account counts
// (invariant 3).
func TestFactors(t *testing.T) {
	rules := mustRules(t, "{kind: User, name: dora}\n---\n{kind: User, name: bob}\n---\n{kind: User, name: ann}\n---\n{kind: Group, name: g, users: [dora, bob]}\n"+
		"---\n{kind: Assignment, name: administration, role: organisation-administrator, principal: 'group:g', scope: /}\n")
	rapid.Check(t, func(t *rapid.T) {
		type signIn struct {
			at     lockkeeper.Moment
			strong bool
		}
		c := &core{world: world{State: newState(), rules: rules}}
		now, session, factors, makers := began, (*signIn)(nil), map[string]int64{}, map[string]bool{}
		var story []string
		tell := func(format string, args ...any) {
			story = append(story, fmt.Sprintf("%s %s", now, fmt.Sprintf(format, args...)))
		}
		record := func(ev event) {
			var s step
			if err := c.record(&s, Caller{}, "", "", []event{ev}, now); err != nil {
				t.Fatal(err)
			}
		}
		ann := Caller{User: "ann", Session: "s-ann"}
		send := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			tell("%s %s %+v: %v", by, cmd.name(), cmd, s.err)
			return s.err
		}
		proven := func() bool {
			return session != nil && now.Sub(session.at) <= factorAge && (len(factors) == 0 || session.strong)
		}
		expect := func(err error, right bool) {
			if (err == nil) != right {
				t.Fatalf("%v, want done %v; %q", err, right, story)
			}
		}
		record(&accountEnrolled{User: "ann", Credential: "p-ann", Maker: "dora"})
		makers["dora"] = true
		for n := range rapid.IntRange(5, 40).Draw(t, "steps") {
			pick := func() string {
				ids := append(slices.Sorted(maps.Keys(factors)), "f-none")
				return rapid.SampledFrom(ids).Draw(t, "factor")
			}
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				now = now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "minutes")) * time.Minute)
			case 1:
				s := startSession{Session: Session{ID: "s-ann", User: "ann", Secret: "x"}, Credential: "p-ann"}
				right := len(factors) == 0
				if rapid.Bool().Draw(t, "shows") {
					s.Shown = Shown{pick(), rapid.Int64Range(1, 9).Draw(t, "counter")}
					last, has := factors[s.Shown.Factor]
					right = right || has && s.Shown.Counter > last
				}
				err := send(Caller{}, s)
				expect(err, right)
				if err == nil {
					session = &signIn{now, len(factors) > 0}
					if len(factors) > 0 {
						factors[s.Shown.Factor] = s.Shown.Counter
					}
				}
			case 2:
				id := fmt.Sprint("f-", n)
				right := proven() && len(factors) < maxFactors
				err := send(ann, registerFactor{Factor{ID: id, Kind: TOTP, Name: id, Counter: 1}})
				expect(err, right)
				if err == nil {
					factors[id] = 1
				}
			case 3:
				id := pick()
				_, has := factors[id]
				right := has && proven()
				err := send(ann, removeFactor{id})
				expect(err, right)
				if err == nil {
					delete(factors, id)
				}
			case 4:
				s := Shown{pick(), rapid.Int64Range(1, 9).Draw(t, "counter")}
				last, has := factors[s.Factor]
				right := session != nil && has && s.Counter > last
				err := send(ann, stepUp{s})
				expect(err, right)
				if err == nil {
					factors[s.Factor], *session = s.Counter, signIn{now, true}
				}
			case 5:
				by := rapid.SampledFrom([]string{"dora", "bob", "ann"}).Draw(t, "by")
				right := by != "ann" && len(factors) > 0
				err := send(Caller{User: by}, resetFactors{"ann", "the phone is lost"})
				expect(err, right)
				if err == nil {
					makers[by], session = true, nil
					clear(factors)
				}
			case 6:
				tell("ann proves herself")
				record(&accountProven{User: "ann"})
				clear(makers)
			case 7:
				expect(send(Caller{User: "bob"}, removeFactor{pick()}), false)
			}
			persons := c.persons("ann")
			want := append([]lockkeeper.Person{"ann"}, sortedPersons(makers)...)
			slices.Sort(persons)
			slices.Sort(want)
			if !slices.Equal(persons, want) {
				t.Fatalf("ann counts as %v, want %v; %q", persons, want, story)
			}
			if got := len(c.factorsOf("ann")); got != len(factors) {
				t.Fatalf("%d factors, want %d; %q", got, len(factors), story)
			}
		}
	})
}

func sortedPersons(m map[string]bool) []lockkeeper.Person {
	var out []lockkeeper.Person
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, lockkeeper.Person(name))
	}
	return out
}

// A passkey that counts may not count backwards; one that does not count says 0.
func TestPasskeyCounter(t *testing.T) {
	for _, x := range []struct {
		last, now int64
		code      string
	}{{0, 0, ""}, {0, 1, ""}, {4, 5, ""}, {5, 5, "passkey_copied"}, {5, 4, "passkey_copied"}, {5, 0, "passkey_copied"}} {
		w := &world{State: newState()}
		w.Factors["f-1"] = &Factor{ID: "f-1", User: "ann", Kind: Passkey, Counter: x.last}
		_, _, err := w.shown("ann", Shown{"f-1", x.now})
		if got := strings.TrimPrefix(codeOf(err), "<nil>"); got != x.code {
			t.Errorf("%d after %d: %q, want %q", x.now, x.last, got, x.code)
		}
		if _, _, err := w.shown("bob", Shown{"f-1", 99}); codeOf(err) != "factor_wrong" {
			t.Errorf("another's: %v", err)
		}
	}
}
