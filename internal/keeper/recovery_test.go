package keeper

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

func (c *deploying) collected(users ...string) {
	c.t.Helper()
	must(c.t, c.user("dora", makeRecovery{"k-1", "dora", 2, users}, 0))
	for _, u := range users {
		must(c.t, c.user(u, collectRecovery{secretDigest("1 " + u)}, 0))
	}
}

func (c *deploying) recovers(id string, at time.Duration, codes ...string) error {
	c.t.Helper()
	var digests []lockkeeper.Digest
	for _, code := range codes {
		digests = append(digests, secretDigest(code))
	}
	return c.as(Caller{}, useRecovery{digests, Session{ID: "s-" + id, Secret: "x"}, "v-" + id}, at)
}

// Codes of enough distinct persons start one short, loud, bounded session.
func TestFailure25RecoveryCodes(t *testing.T) {
	c := respondingCore(t, incidentRules())
	c.collected("rita", "rob", "bob")
	for what, codes := range map[string][]string{
		"nothing":                  {},
		"one":                      {"1 rita"},
		"one twice":                {"1 rita", "1 rita"},
		"two and a wrong one":      {"1 rita", "1 rob", "guess"},
		"one and a wrong one":      {"1 rita", "guess"},
		"one and an empty one":     {"1 rita", ""},
		"too many":                 slices.Repeat([]string{"1 rita", "1 rob"}, 11),
		"a digest instead of code": {string(secretDigest("1 rita")), string(secretDigest("1 rob"))},
	} {
		if err := c.recovers("x", time.Second, codes...); codeOf(err) != "recovery_codes_wrong" || len(c.Sessions)+len(c.Reviews) > 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"))
	s := c.Sessions["s-1"]
	if s == nil || s.User != "dora" || s.Expires != began.Add(2*time.Second+recoverySession) || s.Recovery != "v-1" {
		t.Fatalf("the session is %+v", s)
	}
	if n := c.Notices["n-v-1"]; n == nil || !slices.Equal(n.For, []string{"bob", "dora", "rita", "rob"}) {
		t.Errorf("told: %+v", n)
	}
	if r := c.Reviews["v-1"]; r.About != aboutRecovery || !slices.Equal(r.Persons, []lockkeeper.Person{"dora", "rita", "rob"}) {
		t.Errorf("the review is %+v", r)
	}
	// Each is used once, also beside one that was not.
	want(t, c.recovers("2", 3*time.Second, "1 rita", "1 rob"), "recovery_codes_wrong")
	want(t, c.recovers("2", 3*time.Second, "1 rita", "1 bob"), "recovery_codes_wrong")

	// What the session may do, and what not.
	as := Caller{User: "dora", Session: "s-1"}
	must(t, c.as(as, inviteAccount{"cat", "x"}, 4*time.Second))
	must(t, c.as(as, openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:eve")}, 4*time.Second))
	for name, cmd := range map[string]command{
		"approves a request": decideRequest{Request: "r-x"}, "votes": vote{Deployment: "d-x"}, "breaks the glass": breakGlass{Role: "x"}, "reviews": judgeReview{Review: "v-1", Finding: "x"},
		"closes an incident": closeIncident{"i-a", "x"}, "makes codes": makeRecovery{"k-2", "dora", 2, []string{"rita", "rob"}}, "collects": collectRecovery{"x"}, "asks": openRequest{},
	} {
		if err := c.as(as, cmd, 5*time.Second); codeOf(err) != "recovery_session" {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(t, c.as(as, inviteAccount{"cat", "x"}, 2*time.Second+recoverySession), "session_ended")
	// dora may have been rita or rob: what they did as her is theirs, too.
	want(t, c.user("rita", closeIncident{"i-a", "x"}, time.Hour), "second_person_needed")
	want(t, c.user("rob", closeIncident{"i-a", "x"}, time.Hour), "second_person_needed")
	must(t, c.as(Caller{}, enrolAccount{"cat", "x", "p"}, time.Hour))
	if got := c.persons("cat"); !slices.Equal(got, []lockkeeper.Person{"cat", "rita", "rob", "dora"}) {
		t.Errorf("cat, whom they invited, counts as %v", got)
	}
	want(t, c.user("dora", judgeReview{Review: "v-1", Finding: "x"}, time.Hour), "review_of_own")
	want(t, c.user("rita", judgeReview{Review: "v-1", Finding: "x"}, time.Hour), "review_of_own")
	want(t, c.user("bob", judgeReview{Review: "v-1", Finding: "x"}, time.Hour), "not_a_reviewer")
}

// Codes stop with their set, with their holder, and with the older copy of a log.
func TestRecoveryVoid(t *testing.T) {
	fresh := func() *deploying {
		c := respondingCore(t, incidentRules())
		c.collected("rita", "rob", "bob")
		return c
	}
	c := fresh()
	must(t, c.user("dora", makeRecovery{"k-2", "dora", 2, []string{"rita", "rob"}}, time.Second))
	want(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"), "recovery_codes_wrong")
	must(t, c.user("rita", collectRecovery{secretDigest("2 rita")}, time.Second))
	want(t, c.user("rita", collectRecovery{secretDigest("3 rita")}, time.Second), "code_collected")
	want(t, c.user("bob", collectRecovery{secretDigest("2 bob")}, time.Second), "no_holder")
	want(t, c.recovers("1", 2*time.Second, "2 rita", "1 rob"), "recovery_codes_wrong")
	want(t, c.recovers("1", 2*time.Second, "2 rita", ""), "recovery_codes_wrong") // rob has not collected his

	c = fresh()
	must(t, c.user("rob", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:rita")}, time.Second))
	want(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"), "recovery_codes_wrong")
	must(t, c.recovers("1", 2*time.Second, "1 bob", "1 rob"))

	c = fresh()
	c.rules = mustRules(t, incidentRules("<bob>", "\noff: true"))
	want(t, c.recovers("1", 2*time.Second, "1 bob", "1 rob"), "recovery_codes_wrong")
	must(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"))

	c = fresh() // two holders turn out to be one person
	c.rules = mustRules(t, incidentRules("<bob>", "\nperson: rob"))
	want(t, c.recovers("1", 2*time.Second, "1 bob", "1 rob"), "recovery_codes_wrong")

	c = fresh()
	must(t, (&epochOpened{Number: 2, Confirmer: "dora"}).apply(c.State, Entry{Time: began}))
	want(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"), "recovery_codes_wrong")
}

// A set names an administrator and distinct persons; whoever made an account does not
// collect its code.
func TestRecoveryMake(t *testing.T) {
	c := respondingCore(t, incidentRules())
	for code, cmd := range map[string]makeRecovery{
		"codes_count":         {"k", "dora", 1, []string{"rita", "rob"}},
		"recovery_user_unfit": {"k", "rita", 2, []string{"rita", "rob"}},
		"holder_unfit":        {"k", "dora", 2, []string{"rita", "rita-2"}},
	} {
		want(t, c.user("dora", cmd, 0), code)
	}
	want(t, c.user("dora", makeRecovery{"k", "dora", 3, []string{"rita", "rob"}}, 0), "codes_count")
	want(t, c.user("dora", makeRecovery{"k", "dora", 2, []string{"rita", "nobody"}}, 0), "holder_unfit")
	want(t, c.user("dora", makeRecovery{"k", "dora", 2, []string{"rita", "robot"}}, 0), "holder_unfit")
	want(t, c.user("rita", makeRecovery{"k", "dora", 2, []string{"rita", "rob"}}, 0), "not_granted")
	c.collected("rita", "rob", "bob")
	must(t, c.user("dora", makeRecovery{"k-3", "dora", 2, []string{"rita", "rob"}}, time.Second))
	must(t, c.core.record(&step{}, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "rita", Credential: "p", Maker: "dora"}}, began.Add(time.Second)))
	want(t, c.user("rita", collectRecovery{"x"}, 2*time.Second), "account_unproven")
}

// TestRecovery compares random making, collecting and using, with reveals of some
// codes, with a model.
func TestRecovery(t *testing.T) {
	rules := mustRules(t, incidentRules())
	users := []string{"rita", "rob", "bob", "cat", "eve"}
	seen := map[string]int{}
	untilSeen(t, seen, []string{"recovery.make true", "recovery.collect true", "recovery.collect false", "recovery.use true", "recovery.use false"}, func(rt *rapid.T) {
		c := &core{world: world{State: newState(), rules: rules}}
		if err := c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{Log: Log{Origin: "x"}}}, began); err != nil {
			rt.Fatal(err)
		}
		c.enrolAll(rt)
		do := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, began)
			if err != nil {
				rt.Fatal(err)
			}
			seen[fmt.Sprint(cmd.name(), " ", s.err == nil)]++
			return s.err
		}
		var all []string             // codes that ever were
		good := map[string]string{}  // code → holder, of the set in force
		used := map[string]bool{}    // codes
		holds := map[string]string{} // holder → code
		var holders []string
		needed := 0
		for n := range rapid.IntRange(5, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				list := rapid.SliceOfNDistinct(rapid.SampledFrom(users), 2, 4, func(s string) string { return s }).Draw(rt, "holders")
				m := rapid.IntRange(1, 4).Draw(rt, "needed")
				err := do(Caller{User: "dora"}, makeRecovery{fmt.Sprint("k-", n), "dora", m, list})
				if (err == nil) != (m >= 2 && m <= len(list)) {
					rt.Fatalf("%d of %v: %v", m, list, err)
				}
				if err == nil {
					holders, needed = list, m
					clear(good)
					clear(holds)
				}
			case 1, 2:
				u, code := rapid.SampledFrom(users).Draw(rt, "user"), fmt.Sprint("code ", n)
				err := do(Caller{User: u}, collectRecovery{secretDigest(code)})
				if (err == nil) != (slices.Contains(holders, u) && holds[u] == "") {
					rt.Fatalf("%s collects: %v", u, err)
				}
				if err == nil {
					good[code], holds[u], all = u, code, append(all, code)
				}
			default:
				if len(all) == 0 {
					continue
				}
				some := rapid.SliceOfN(rapid.SampledFrom(append(all[max(0, len(all)-5):], "guess")), 0, 4).Draw(rt, "codes")
				var digests []lockkeeper.Digest
				who, valid := map[string]bool{}, true
				for _, code := range some {
					digests = append(digests, secretDigest(code))
					valid = valid && good[code] != "" && !used[code]
					who[good[code]] = true
				}
				err := do(Caller{}, useRecovery{digests, Session{ID: fmt.Sprint("s-", n), Secret: "x"}, fmt.Sprint("v-", n)})
				if (err == nil) != (valid && needed > 0 && len(who) >= needed) {
					rt.Fatalf("%v of %v, %d needed, used %v: %v", some, good, needed, used, err)
				}
				if err == nil {
					for _, code := range some {
						used[code] = true
					}
				}
			}
		}
	})
}

// Strangers are held to a pace, and no code rests anywhere.
func TestRecoveryGuessing(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	limited := 0
	for range 12 {
		switch _, _, err := k.UseRecovery(ctx, []string{"lkr_guess", "lkr_other"}, "here"); codeOf(err) {
		case "too_many_attempts":
			limited++
		case "recovery_codes_wrong":
		default:
			t.Fatal(err)
		}
	}
	if limited < 6 { // five at once, then one in ten seconds
		t.Errorf("%d of 12 guesses were held back", limited)
	}
	if _, _, err := k.UseRecovery(ctx, nil, "elsewhere"); codeOf(err) != "recovery_codes_wrong" {
		t.Errorf("another source: %v", err)
	}
	size := k.Size()
	k.UseRecovery(ctx, []string{"x"}, "there")
	if k.Size() != size {
		t.Error("a stranger's guess stands in the journal")
	}
}
