package keeper

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

func firstRules() (*catalog.Catalog, error) {
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(rulesWith())}})
	return c, problems.Err()
}

func dataOf(entries []journal.Entry) [][]byte {
	var out [][]byte
	for _, e := range entries {
		out = append(out, e.Data)
	}
	return out
}

func jtiOf(t *testing.T, jwt string) string {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", jwt)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.ID
}

func started(t *testing.T, o Options) (*Keeper, string) {
	t.Helper()
	dir := t.TempDir()
	k, err := openKeeper(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k, dir
}

func codeOf(err error) string {
	if r := lockkeeper.RefusalOf(err); r != nil {
		return r.Code
	}
	return fmt.Sprint(err)
}

func want(t *testing.T, err error, code string) {
	t.Helper()
	if codeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoSecretAtRest plays the story and then looks for every secret in it in
// every byte of the folder (invariant 11). A restart stands in the middle.
func TestNoSecretAtRest(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	secrets := []string{"a password of dora", "a password of bob", "a handle of the job"}
	session, _, err := k.SignIn(ctx, "dora", "a password of dora", "here")
	must(t, err)
	dora, err := k.Authenticate(session)
	must(t, err)
	for i, user := range []string{"bob", "cat"} {
		code, err := k.Invite(ctx, dora, user)
		must(t, err)
		must(t, k.Enrol(ctx, user, code, "a password of "+user))
		secret, _, err := k.SignIn(ctx, user, "a password of "+user, "here")
		must(t, err)
		by, err := k.Authenticate(secret)
		must(t, err)
		challenge, err := k.Challenge(ctx, by)
		must(t, err)
		_, err = k.Prove(ctx, workload(100+i, "7", "70", "", fmt.Sprint(1002+i), "push", 1, lockkeeper.MomentOf(time.Now())), challenge)
		must(t, err)
		secrets = append(secrets, code, secret)
	}
	now := lockkeeper.MomentOf(time.Now())
	_, err = k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, now), "", []lockkeeper.Artifact{app})
	must(t, err)
	job := workload(2, "1", "11", "production", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("a handle of the job")})
	must(t, err)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	want(t, k.Vote(ctx, Caller{User: "dora"}, id, true, v.Digest, ""), "not_granted")
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, "fine"))

	must(t, k.Close())
	if k, err = Open(ctx, Options{Dir: dir, Issuer: "https://lockkeeper.example"}); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	want(t, k.Claim(ctx, job, id, "a handle of the job"), "approvals_missing")
	must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, "fine"))
	must(t, k.Claim(ctx, job, id, "a handle of the job"))
	must(t, k.Claim(ctx, job, id, "a handle of the job")) // a retry
	token, err := k.Exchange(ctx, job, id, "a handle of the job", "https://target.example")
	must(t, err)
	secrets = append(secrets, session, token.JWT, strings.Split(token.JWT, ".")[2])
	must(t, k.End(ctx, Caller{Holder: id}, id, 0))
	checkReceipt(t, k, id)
	must(t, k.Close())

	err = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		for _, s := range secrets {
			if bytes.Contains(data, []byte(s)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(s)))) {
				t.Errorf("%s holds the secret %.12s…", filepath.Base(name), s)
			}
		}
		return err
	})
	must(t, err)
}

// checkReceipt verifies a receipt, and that no flipped byte of it does.
func checkReceipt(t *testing.T, k *Keeper, id string) {
	t.Helper()
	receipt, err := k.Receipt(context.Background(), Caller{Holder: id}, id)
	must(t, err)
	good, err := VerifyReceipt(receipt, k.Trust())
	must(t, err)
	if len(good.Predicate.Approvals) != 2 || good.Predicate.Status != Succeeded {
		t.Errorf("the receipt says %s", good.Predicate)
	}
	for i := 0; i < len(receipt); i += 1 + len(receipt)/500 {
		flipped := bytes.Clone(receipt)
		flipped[i] ^= 4
		if s, err := VerifyReceipt(flipped, k.Trust()); err == nil && s.String() != good.String() {
			t.Fatalf("with byte %d flipped the receipt says something else and verifies", i)
		}
	}
	other := k.Trust()
	other.ReceiptKey = base64.StdEncoding.EncodeToString(make([]byte, 32))
	if _, err := VerifyReceipt(receipt, other); err == nil {
		t.Error("the receipt verifies with another key")
	}
}

// A receipt of a deployment with thousands of tokens stays small, says what it
// leaves out, and verifies.
func TestReceiptOfManyTokens(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	now := lockkeeper.MomentOf(time.Now())
	job := workload(2, "1", "11", "test", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
	must(t, k.Claim(ctx, job, id, "h"))
	for range 2*everyOther + 7 {
		_, err := k.Exchange(ctx, job, id, "h", "https://target.example")
		must(t, err)
	}
	must(t, k.End(ctx, Caller{Holder: id}, id, 0))
	receipt, err := k.Receipt(ctx, Caller{Holder: id}, id)
	must(t, err)
	s, err := VerifyReceipt(receipt, k.Trust())
	must(t, err)
	if p := s.Predicate; p.Omitted != 7 || len(p.Proofs) != 2*everyOther+3 || p.End.TokensOutside != 2*everyOther+7 {
		t.Errorf("it omits %d and has %d proofs; %d tokens are outside", p.Omitted, len(p.Proofs), p.End.TokensOutside)
	}
}

// Whoever built it, and whoever queued the run in somebody else's name, stand
// behind the deployment as much as the one who triggered its job (invariant 3).
func TestWhoElseStandsBehindARun(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	now := lockkeeper.MomentOf(time.Now())
	for i, user := range []string{"bob", "cat", "eve"} {
		prove(t, k, user, fmt.Sprint(1002+i), 100+i, now)
	}
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1002", "push", 1, now), "", []lockkeeper.Artifact{app}) // bob's push
	must(t, err)
	job := workload(2, "1", "11", "production", "1001", "push", 1, now) // ann runs the job again
	job.QueuedBy = lockkeeper.SignedFact("1003")                        // cat queued it for ann
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	want(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""), "own_change")
	want(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""), "own_deployment")
	must(t, k.Vote(ctx, Caller{User: "eve"}, id, true, v.Digest, ""))
	// A service that queues for whoever pushed stands behind nothing.
	other := workload(3, "2", "12", "production", "1001", "push", 1, now)
	other.QueuedBy = lockkeeper.SignedFact("4040")
	_, err = k.OpenDeployment(ctx, other, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
}

// An approval that is taken back while the deployment runs ends its lease, and
// whoever may revoke leases ends one whatever stands (gates, invariant 9).
func TestWithdrawAndRevoke(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	now := lockkeeper.MomentOf(time.Now())
	for i, user := range []string{"bob", "cat", "eve"} {
		prove(t, k, user, fmt.Sprint(1002+i), 100+i, now)
	}
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, now), "", []lockkeeper.Artifact{app})
	must(t, err)
	running := func(n int, voters ...string) (lockkeeper.Workload, string) {
		job := workload(n, fmt.Sprint(n), "11", "production", "1001", "push", 1, now)
		id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
		must(t, err)
		v, err := k.Deployment(ctx, Caller{Holder: id}, id)
		must(t, err)
		if v.Phase() != Evaluating {
			t.Errorf("the phase is %s", v.Phase())
		}
		want(t, k.Withdraw(ctx, Caller{User: "bob"}, id, ""), "nothing_to_withdraw")
		for _, user := range voters {
			must(t, k.Vote(ctx, Caller{User: user}, id, true, v.Digest, ""))
		}
		if v, err = k.Deployment(ctx, Caller{Holder: id}, id); err != nil || v.Phase() != Ready {
			t.Errorf("the phase is %s: %v", v.Phase(), err)
		}
		return job, id
	}
	status := func(id string) Status {
		v, err := k.Deployment(ctx, Caller{Holder: id}, id)
		must(t, err)
		return v.Status
	}
	job, id := running(2, "bob", "cat")
	must(t, k.Withdraw(ctx, Caller{User: "bob"}, id, "wait"))
	want(t, k.Claim(ctx, job, id, "h"), "approvals_missing")
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, "after all"))
	must(t, k.Claim(ctx, job, id, "h"))
	want(t, k.RevokeLease(ctx, Caller{User: "bob"}, id, "no"), "not_granted")
	want(t, k.RevokeLease(ctx, Caller{User: "dora"}, id, ""), "reason_missing")
	must(t, k.Withdraw(ctx, Caller{User: "bob"}, id, "stop"))
	if s := status(id); s != Revoked {
		t.Errorf("without the approval it is %s", s)
	}
	_, err = k.Exchange(ctx, job, id, "h", "https://target.example")
	want(t, err, "deployment_ended")

	// One approval more than is needed may go.
	job, id = running(3, "bob", "cat", "eve")
	must(t, k.Claim(ctx, job, id, "h"))
	must(t, k.Withdraw(ctx, Caller{User: "eve"}, id, ""))
	if s := status(id); s != Running {
		t.Errorf("with enough approvals left it is %s", s)
	}
	must(t, k.RevokeLease(ctx, Caller{User: "dora"}, id, "compromised"))
	if s := status(id); s != Revoked {
		t.Errorf("revoked, it is %s", s)
	}
}

// prove gives a user an account and lets its owner prove himself.
func prove(t *testing.T, k *Keeper, user, account string, n int, now lockkeeper.Moment) {
	t.Helper()
	ctx := context.Background()
	code, err := k.Invite(ctx, Caller{User: "dora"}, user)
	must(t, err)
	must(t, k.Enrol(ctx, user, code, "a password of "+user))
	challenge, err := k.Challenge(ctx, Caller{User: user})
	must(t, err)
	_, err = k.Prove(ctx, workload(n, "7", "70", "", account, "push", 1, now), challenge)
	must(t, err)
}

func (s Statement) String() string { b, _ := json.Marshal(s); return string(b) }

// An account counts as whoever invited it until its owner has proved himself
// (invariant 3).
func TestUnprovenAccountCountsAsItsMaker(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	for _, user := range []string{"bob", "cat"} {
		code, err := k.Invite(ctx, Caller{User: "dora"}, user)
		must(t, err)
		must(t, k.Enrol(ctx, user, code, "a password of "+user))
	}
	now := lockkeeper.MomentOf(time.Now())
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, now), "", []lockkeeper.Artifact{app})
	must(t, err)
	job := workload(2, "1", "11", "production", "1001", "push", 1, now)
	id, err := k.OpenDeployment(ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
	want(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""), "already_approved")
}

func TestSignIn(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	_, _, wrong := k.SignIn(ctx, "dora", "a wrong password", "a")
	_, _, nobody := k.SignIn(ctx, "nobody", "a wrong password", "a")
	if codeOf(wrong) != "sign_in_failed" || wrong.Error() != nobody.Error() {
		t.Errorf("a wrong password and an unknown user differ: %v / %v", wrong, nobody)
	}
	last := error(nil)
	for range 6 {
		_, _, last = k.SignIn(ctx, "dora", "a wrong password", "a")
	}
	want(t, last, "too_many_attempts")
	size := k.Size()
	for range 20 {
		k.SignIn(ctx, "stranger", "a wrong password", "b")
	}
	if k.Size() != size {
		t.Error("strangers fill the journal")
	}
	want(t, k.Enrol(ctx, "bob", "lki_guess", "a password of bob"), "invitation_wrong")
	want(t, k.SetUp(ctx, "lks_guess", "eve", "a password of eve"), "setup_done")
	if _, err := k.Authenticate("lkp_x_y"); codeOf(err) != "session_unknown" {
		t.Error(err)
	}
}

func TestCatalogRules(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	c, err := firstRules()
	must(t, err)
	_, err = k.Apply(ctx, Caller{User: "dora"}, c, 1, "")
	want(t, err, "revision_moved")
	same, err := k.Apply(ctx, Caller{User: "dora"}, c, 2, "")
	must(t, err)
	if same.Revision != 2 || len(same.Changes) != 0 {
		t.Errorf("an equal catalog changes %+v", same)
	}
	_, err = k.Apply(ctx, Caller{User: "bob"}, readRules(t, rulesWith("user:dora", "user:bob")), 2, "")
	want(t, err, "not_granted")
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, rulesWith("user:dora", "user:bob")), 2, "")
	want(t, err, "last_administrator")
}

// A provider whose tokens are Lockkeeper's own would let whoever holds one
// exchange it for others without end.
func TestOwnIssuerIsNoProvider(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	for _, issuer := range []string{"https://lockkeeper.example", "https://lockkeeper.example/CI"} {
		c := readRules(t, rulesWith("issuer: https://ci.example", "issuer: "+issuer))
		_, err := k.Apply(ctx, Caller{User: "dora"}, c, 2, "")
		if issuer == k.options.Issuer {
			want(t, err, "issuer_is_own")
		} else {
			must(t, err)
		}
	}
}

// A waiver that ends too far ahead is not applied, lest it begin to count by
// waiting; one that is in force already stops nobody's other changes.
func TestWaiversEnd(t *testing.T) {
	furthest := began.Add(catalog.LongestWaiver)
	with := func(until lockkeeper.Moment, reason string, pairs ...string) *Rules {
		return mustRules(t, rulesWith(append(pairs, "<more>", fmt.Sprintf(`---
kind: Environment
name: waived
project: payments
tier: preproduction
waivers: [{demand: branch-control, owner: dora, until: %s, reason: %s}]
`, until, reason))...))
	}
	long := furthest.Add(time.Millisecond)
	for _, test := range []struct {
		name     string
		old, new *Rules
		code     string
	}{
		{"new, and just inside", mustRules(t, rulesWith()), with(furthest, "r"), ""},
		{"new, and a millisecond too long", mustRules(t, rulesWith()), with(long, "r"), "waiver_too_long"},
		{"lengthened", with(began, "r"), with(long, "r"), "waiver_too_long"},
		{"as it was", with(long, "r"), with(long, "r", "<bob>", "\noff: true"), ""},
		{"shortened too little", with(long.Add(time.Hour), "r"), with(long, "r"), "waiver_too_long"},
		{"shortened enough", with(long, "r"), with(furthest, "r"), ""},
		{"for another reason", with(long, "r"), with(long, "s"), "waiver_too_long"},
	} {
		c := &core{world: world{State: newState(), rules: test.old}}
		if err := c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, began); err != nil {
			t.Fatal(err)
		}
		out, err := c.step(Caller{User: "dora"}, "", applyCatalog{Rules: test.new}, began)
		if err != nil || codeOf(out.err) != test.code && (test.code != "" || out.err != nil) {
			t.Errorf("%s: %v %v, want %q", test.name, err, out.err, test.code)
		}
		if r := lockkeeper.RefusalOf(out.err); r != nil && (r.Next == "" || r.Field != "Environment payments/waived: waivers[0].until") {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

// Refusals of one kind are recorded once in a minute, with a count at its end.
func TestRefusalsAreCoalesced(t *testing.T) {
	c := &core{world: world{State: newState(), rules: laws(t)[0].rules}}
	n := 0
	for range 1000 {
		out, err := c.step(Caller{User: "bob"}, "", cancelDeployment{Deployment: "d-x"}, began)
		if err != nil || codeOf(out.err) != "deployment_ended" {
			t.Fatal(err, out.err)
		}
		n += len(out.records)
	}
	if n != 1 {
		t.Errorf("1000 equal refusals made %d entries", n)
	}
	out, err := c.step(Caller{Keeper: true}, "", sweep{}, began.Add(61*time.Second))
	if err != nil || len(out.events) != 1 || out.events[0].(*refusalMade).Count != 999 {
		t.Errorf("after the minute: %v %+v", err, out.events)
	}
}

// A clock that does not fit the journal refuses before anything is appended.
func TestWrongClock(t *testing.T) {
	var back atomic.Int64
	k, _ := started(t, Options{Clock: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }})
	size := k.Size()
	back.Store(int64(time.Hour))
	_, err := k.Invite(context.Background(), Caller{User: "dora"}, "bob")
	want(t, err, "clock_wrong")
	if k.Size() != size {
		t.Error("something was appended under a wrong clock")
	}
	back.Store(0)
	_, err = k.Invite(context.Background(), Caller{User: "dora"}, "bob")
	must(t, err)
}

func TestSecondServerOnOneFolder(t *testing.T) {
	_, dir := started(t, Options{})
	_, err := Open(context.Background(), Options{Dir: dir})
	want(t, err, "folder_in_use")
}

func TestUnknownEntryStopsTheFold(t *testing.T) {
	for _, data := range []string{
		`{"seq":0,"time":"2026-11-02T09:00:00.000Z","kind":"journal.started","version":2,"by":{},"body":{}}`,
		`{"seq":0,"time":"2026-11-02T09:00:00.000Z","kind":"journal.begun","version":1,"by":{},"body":{}}`,
		`{"seq":0,"time":"2026-11-02T09:00:00.000Z","kind":"journal.started","version":1,"by":{},"body":{"later":1}}`,
		`{"seq":0,"time":"2026-11-02T09:00:00.000Z","kind":"journal.started","version":1,"by":{},"body":{},"later":1}`,
	} {
		if _, _, err := readEntry([]byte(data)); err == nil {
			t.Errorf("%s was read", data)
		}
	}
}

// After Close everything is refused, and nothing hangs.
func TestClosed(t *testing.T) {
	k, _ := started(t, Options{})
	must(t, k.Close())
	_, err := k.Invite(context.Background(), Caller{User: "dora"}, "bob")
	want(t, err, "stopping")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("gone"))
	_, err = k.Invite(ctx, Caller{User: "dora"}, "bob")
	if lockkeeper.KindOf(err) != lockkeeper.Unavailable {
		t.Error(err)
	}
}
