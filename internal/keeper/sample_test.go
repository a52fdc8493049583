package keeper

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// waitsOn is a core with the deployment d-t to the environment test, whose checks are
// given as lines.
func waitsOn(t *testing.T, checks ...string) *deploying {
	t.Helper()
	c := deployCore(t, rulesWith("<latest>", checksText(checks...)))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.open("d-t", c.job("1", "11", "test", "1001", 0), "test", 0))
	return c
}

func checksText(checks ...string) string {
	return "checks:\n  - " + strings.Join(checks, "\n  - ") + "\n"
}

func service(name, more string) string {
	return fmt.Sprintf("{name: %s, call: {service: {url: 'https://%s.example/{digest}', criteria: body.ok == true, retry: 10s, timeout: 5s}%s}}", name, name, more)
}

// answers brings what the service of a check said.
func (c *deploying) answers(check string, o QuestionOutcome, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{Keeper: true}, reportQuestion{About: "deployment/d-t", ID: c.question(check).ID, Outcome: o}, at)
}

func (c *deploying) question(check string) Question {
	if d := c.Deployments["d-t"]; d != nil {
		for i := len(d.Questions) - 1; i >= 0; i-- {
			if d.Questions[i].Rule == check {
				return d.Questions[i]
			}
		}
	}
	return Question{ID: "q-none"}
}

// released asks for the lease, and says why there is none.
func (c *deploying) released(at time.Duration) string {
	c.t.Helper()
	now := began.Add(at)
	d := c.Deployments["d-t"]
	if d == nil {
		return "ended"
	}
	f, err := c.facts(d, now)
	must(c.t, err)
	v := c.judge(d, f, now)
	err = c.claim("d-t", c.job("1", "11", "test", "1001", at), at)
	if (err == nil) != v.Passed(now) {
		c.t.Errorf("at %s the gate says %+v, and the claim %v", at, v, err)
	}
	if err != nil {
		return v.Code
	}
	return ""
}

// Every check must be good at the same instant: two that were good one after the other
// let nothing through.
func TestGates11AllAtOneInstant(t *testing.T) {
	c := waitsOn(t, service("one", ", validity: 40s"), service("two", ", validity: 40s"))
	if n := len(c.Deployments["d-t"].Questions); n != 2 {
		t.Fatalf("%d questions", n)
	}
	must(t, c.answers("one", met(true), time.Second))
	must(t, c.answers("two", met(false), time.Second))
	for _, at := range []time.Duration{2 * time.Second, 41 * time.Second} {
		if code := c.released(at); code != "call_bad" && code != "call_silent" {
			t.Fatalf("at %s: %q", at, code)
		}
	}
	must(t, c.answers("two", met(true), 42*time.Second)) // and one has lapsed a second ago
	if code := c.released(42 * time.Second); code != "call_silent" {
		t.Fatalf("one was good before, two is now: %q", code)
	}
	must(t, c.answers("one", met(true), 43*time.Second))
	if code := c.released(82 * time.Second); code == "" {
		t.Fatal("released at the end of two's validity")
	}
	must(t, c.answers("one", met(true), 90*time.Second))
	must(t, c.answers("two", met(true), 91*time.Second))
	if code := c.released(92 * time.Second); code != "" {
		t.Fatalf("both are good: %q", code)
	}
}

// What is steady is so without a break: one bad answer, or a missing one, and it begins
// anew.
func TestGates12Steady(t *testing.T) {
	c := waitsOn(t, service("one", ", steady: {answers: 3, for: 25s}"))
	good := func(at time.Duration) { t.Helper(); must(t, c.answers("one", met(true), at)) }
	waits := func(at time.Duration, code string) {
		t.Helper()
		if got := c.released(at); got != code {
			t.Fatalf("at %s: %q, want %q", at, got, code)
		}
	}
	for _, at := range []int{0, 10, 20} {
		good(time.Duration(at) * time.Second)
	}
	waits(20*time.Second, "call_unsteady") // three, and for 20s only
	must(t, c.answers("one", missed("service_unreachable"), 25*time.Second))
	good(30 * time.Second)
	waits(30*time.Second, "call_unsteady")
	good(40 * time.Second)
	good(50 * time.Second)
	must(t, c.answers("one", met(false), 55*time.Second))
	waits(56*time.Second, "call_bad")
	good(60 * time.Second)
	good(70 * time.Second)
	good(101 * time.Second) // 31s after: one is missing
	waits(101*time.Second, "call_unsteady")
	good(102 * time.Second) // too soon to be another one
	good(103 * time.Second)
	if n := c.question("one").Series.Good; n != 1 {
		t.Errorf("%d good answers, of two servers that ask at once", n)
	}
	good(111 * time.Second)
	good(121 * time.Second)
	waits(121*time.Second, "call_unsteady")
	good(131 * time.Second)
	waits(131*time.Second, "")
}

// A steady yes is not an entry for each answer.
func TestSteadyIsQuiet(t *testing.T) {
	c := waitsOn(t, service("one", ", validity: 5m"))
	before := c.Size
	for i := range 100 {
		must(t, c.answers("one", met(true), time.Duration(i)*10*time.Second))
	}
	if n := c.Size - before; n > 8 {
		t.Errorf("%d entries for 1000s of a yes that counts for 300s", n)
	}
	before = c.Size
	for i := range 20 {
		must(t, c.answers("one", met(false), 1000*time.Second+time.Duration(i)*10*time.Second))
	}
	if n := c.Size - before; n != 1 {
		t.Errorf("%d entries for one no", n)
	}
}

// Nothing missing, late or malformed passes.
func TestGates13NoAnswerPassesNothing(t *testing.T) {
	c := waitsOn(t, service("one", ""))
	if code := c.released(0); code != "call_asked" {
		t.Errorf("%q", code)
	}
	want(t, c.answers("one", QuestionOutcome{}, time.Second), "outcome_malformed")
	want(t, c.answers("one", QuestionOutcome{Answer: &Reply{Met: true}, Missed: &Missed{}}, time.Second), "outcome_malformed")
	want(t, c.answers("one", QuestionOutcome{Delivered: true}, time.Second), "outcome_malformed")
	want(t, c.answers("none", met(true), time.Second), "question_over")
	want(t, c.user("dora", reportQuestion{About: "deployment/d-t", ID: c.question("one").ID, Outcome: met(true)}, time.Second), "question_not_yours")
	want(t, c.as(Caller{Keeper: true}, reportQuestion{About: "deployment/d-t", ID: c.question("one").ID, Outcome: met(true), Called: true}, time.Second), "outcome_malformed")
	for _, code := range []string{"timed_out", "answer_unfit", "redirect_refused", "address_refused", "service_refused"} {
		must(t, c.answers("one", missed(code), time.Second))
		if got := c.released(2 * time.Second); got != "call_bad" {
			t.Errorf("%s: %q", code, got)
		}
	}
}

// A time-out is final, has a name, and nothing that comes later brings it back.
func TestGates16TimedOut(t *testing.T) {
	c := waitsOn(t, service("one", ", within: 2m, validity: 30s"))
	must(t, c.answers("one", met(true), 100*time.Second))
	must(t, c.as(Caller{Keeper: true}, sweep{}, 125*time.Second))
	if c.Deployments["d-t"] == nil {
		t.Fatal("ended while the check passes")
	}
	must(t, c.answers("one", met(true), 125*time.Second)) // past two minutes, and it passes still
	if code := c.released(156 * time.Second); code != "call_timed_out" {
		t.Errorf("%q", code)
	}
	want(t, c.answers("one", met(true), 157*time.Second), "question_late")
	if code := c.released(157 * time.Second); code != "call_timed_out" {
		t.Errorf("%q", code)
	}
	must(t, c.as(Caller{Keeper: true}, sweep{}, 158*time.Second))
	if c.Deployments["d-t"] != nil {
		t.Fatal("it waits on")
	}
	want(t, c.answers("one", met(true), 159*time.Second), "question_over")
}

// Terms that change: stricter ones are asked at once, and looser ones help no ask that
// is open.
func TestCallTermsOfThenAndNow(t *testing.T) {
	c := waitsOn(t, service("one", ", steady: {answers: 2}"))
	first := c.question("one").ID
	must(t, c.answers("one", met(true), time.Second))
	must(t, c.answers("one", met(true), 11*time.Second))
	c.rules = mustRules(t, rulesWith("<latest>", checksText(service("one", ""))))
	must(t, c.as(Caller{Keeper: true}, sweep{}, 12*time.Second))
	if c.question("one").ID == first {
		t.Fatal("the check of now was not asked")
	}
	if code := c.released(12 * time.Second); code != "call_asked" {
		t.Errorf("the answer of other terms counts for those of now: %q", code)
	}
	must(t, c.answers("one", met(true), 13*time.Second))
	must(t, c.as(Caller{Keeper: true}, reportQuestion{About: "deployment/d-t", ID: first, Outcome: met(false)}, 14*time.Second))
	if code := c.released(15 * time.Second); code == "" {
		t.Error("released by looser terms")
	}
	c.rules = mustRules(t, rulesWith("<latest>", checksText("{name: soak, delay: {for: 1s}}")))
	if code := c.released(16 * time.Second); code == "" {
		t.Error("released after the check was taken out")
	}
}

const laterCheck = "{name: later, call: {service: {url: 'https://scan.example/', criteria: 'body.verdict == \"pass\" && body.digest == ask.digest'}, callback: true, within: 10m}}"

// Callbacks: signed, for one question about one ask, once. Late, double, forged and for
// another ask they change nothing.
func TestGates19Callbacks(t *testing.T) {
	ctx := context.Background()
	k, err := openKeeper(ctx, t.TempDir(), Options{})
	must(t, err)
	t.Cleanup(func() { k.Close() })
	r, _ := k.Revision()
	_, err = k.Apply(ctx, Caller{User: "dora"}, readRules(t, rulesWith("<latest>", checksText(laterCheck))), r.Number, "")
	must(t, err)
	deployment := func(run string) OpenQuestion {
		t.Helper()
		now := k.now()
		j := workload(len(run)*1000+int(run[0]), run, "11", "test", "1001", "push", 1, now)
		if _, err := k.OpenDeployment(ctx, j, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h" + run)}); err != nil {
			t.Fatal(err)
		}
		list := k.Questions()
		return list[len(list)-1]
	}
	one, two := deployment("1"), deployment("2")
	if one.About == two.About {
		one = k.Questions()[0]
	}
	address := func(q OpenQuestion) string {
		t.Helper()
		a, err := k.CallbackAddress(q)
		must(t, err)
		return a[strings.LastIndexByte(a, '/')+1:]
	}
	answer := func(q OpenQuestion, verdict string) []byte {
		return fmt.Appendf(nil, `{"verdict": %q, "digest": %q}`, verdict, q.Digest)
	}
	signed := address(one)
	size := func() int64 { k.mu.RLock(); defer k.mu.RUnlock(); return k.state.Size }
	before := size()
	forged := signed[:len(signed)-4] + "AAAA"
	own, err := k.QuestionAssertion(one, k.callbackAudience()) // ours, for something else
	must(t, err)
	for name, token := range map[string]string{"forged": forged, "empty": "", "nonsense": "x.y.z", "an assertion": own} {
		if err := k.Callback(ctx, token, answer(one, "pass")); lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if size() != before {
		t.Error("strangers write into the journal")
	}
	for _, body := range []string{"", "{", `{"verdict": "pass", "verdict": "pass"}`, strings.Repeat("[", 100)} {
		want(t, k.Callback(ctx, signed, []byte(body)), "answer_unfit")
	}
	must(t, k.ReportQuestion(ctx, one, QuestionOutcome{Delivered: true}))
	if len(k.Questions()) != 1 {
		t.Error("what was delivered is asked again")
	}
	must(t, k.Callback(ctx, signed, answer(one, "pass")))
	before = size()
	must(t, k.Callback(ctx, signed, answer(one, "pass"))) // again
	if size() != before {
		t.Error("the same answer again is an entry")
	}
	want(t, k.Callback(ctx, signed, answer(one, "fail")), "question_answered")
	if v := question(t, k, one); v.Series.Answered() == nil || !v.Series.Answered().Good {
		t.Errorf("%+v", v.Series)
	}
	// The address of one ask with the answer for another, and the other's own no.
	second := address(two)
	must(t, k.Callback(ctx, second, answer(one, "pass")))
	if v := question(t, k, two); v.Series.Answered() == nil || v.Series.Answered().Good {
		t.Errorf("an answer about another ask passes: %+v", v.Series)
	}
}

func question(t *testing.T, k *Keeper, q OpenQuestion) Question {
	t.Helper()
	k.mu.RLock()
	defer k.mu.RUnlock()
	got := k.state.questionAbout(q.About, q.ID)
	if got == nil {
		t.Fatalf("%s has no %s", q.About, q.ID)
	}
	return *got
}

// A late callback of an ask that has ended is a refusal, and no more.
func TestGates19LateCallback(t *testing.T) {
	c := waitsOn(t, laterCheck)
	q := c.question("later")
	called := func(yes bool, at time.Duration) error {
		return c.as(Caller{Keeper: true}, reportQuestion{About: "deployment/d-t", ID: q.ID, Outcome: met(yes), Called: true}, at)
	}
	must(t, c.answers("later", QuestionOutcome{Delivered: true}, time.Second))
	want(t, called(true, 10*time.Minute), "question_late")
	if code := c.released(10 * time.Minute); code != "call_timed_out" {
		t.Errorf("%q", code)
	}
	must(t, c.as(Caller{Keeper: true}, sweep{}, 10*time.Minute))
	want(t, called(true, 11*time.Minute), "question_over")

	c = waitsOn(t, laterCheck)
	q = c.question("later")
	must(t, c.answers("later", missed("service_unreachable"), time.Second))
	must(t, called(false, 2*time.Second)) // it answers though the delivery was lost
	if code := c.released(3 * time.Second); code != "call_refused" {
		t.Errorf("%q", code)
	}
	must(t, c.as(Caller{Keeper: true}, sweep{}, 4*time.Second))
	if c.Deployments["d-t"] != nil {
		t.Error("a final no is waited for")
	}
}
