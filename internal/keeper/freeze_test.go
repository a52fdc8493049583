package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

const production = lockkeeper.Scope("/projects/payments/environments/production")

// mondays is a freeze that holds every Monday from 09:03 to 09:30 by the clock of UTC;
// began is a Monday, 09:00.
func mondays(more string) string {
	return "---\nkind: Freeze\nname: mondays\nscope: /projects/payments/environments/production\nreason: stand-up\nzone: UTC\nwindows: [{days: [monday], from: \"09:03\", to: \"09:30\"}]\n" + more
}

func (c *deploying) renew(at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{}, renewLease{"d-a", HandleDigest("h")}, at)
}

func (c *deploying) tokenA(at time.Duration) error {
	c.t.Helper()
	return c.token("d-a", c.job("1", "11", "production", "1001", at), at)
}

// A pass that a freeze withdraws lets nobody in, and no credential outlives its
// beginning, unless the freeze lets what runs finish (gates.md, invariant 15).
func TestGates15(t *testing.T) {
	for mode, c := range map[string]struct {
		token, lease     time.Duration // when the token and the lease end that are had at 2m30s
		tokenIn, renewIn string        // why there is none while it holds
	}{
		"":         {4*time.Minute + 2*time.Second, 6*time.Minute + 30*time.Second, "", ""}, // with the lease of then
		"finish":   {4*time.Minute + 2*time.Second, 6*time.Minute + 30*time.Second, "", ""},
		"noTokens": {3 * time.Minute, 6*time.Minute + 30*time.Second, "frozen", ""},
		"abort":    {3 * time.Minute, 3 * time.Minute, "lease_ended", "lease_ended"},
	} {
		more := ""
		if mode != "" {
			more = "inFlight: " + mode + "\n"
		}
		k := deployCore(t, rulesWith("<more>", mondays(more)))
		k.running()
		must(t, k.tokenA(150*time.Second))
		l := k.Deployments["d-a"].Lease
		if l.TokensTill != began.Add(c.token) {
			t.Errorf("%q: the token ends at %s", mode, l.TokensTill)
		}
		must(t, k.renew(150*time.Second))
		if l := k.Deployments["d-a"].Lease; l.Ends != began.Add(c.lease) {
			t.Errorf("%q: the lease ends at %s", mode, l.Ends)
		}
		if got := saying(k.tokenA(181 * time.Second)); got != c.tokenIn {
			t.Errorf("%q: a token in the freeze: %q", mode, got)
		}
		if got := saying(k.renew(5 * time.Minute)); got != c.renewIn {
			t.Errorf("%q: a heartbeat in the freeze: %q", mode, got)
		}
	}
	// What has passed and was not claimed yet is not let in.
	k := deployCore(t, rulesWith("<more>", mondays("")))
	k.waiting("1")
	k.approved()
	d := k.Deployments["d-a"]
	facts, err := k.facts(d, began.Add(2*time.Second))
	must(t, err)
	if v := k.judge(d, facts, began.Add(2*time.Second)); v.Verdict != lockkeeper.Pass || *v.Until != began.Add(3*time.Minute) {
		t.Errorf("before it: %s until %v", v.Verdict, v.Until)
	}
	want(t, k.claim("d-a", k.job("1", "11", "production", "1001", 3*time.Minute), 3*time.Minute), "frozen")
	want(t, k.claim("d-a", k.job("1", "11", "production", "1001", 30*time.Minute-time.Millisecond), 30*time.Minute-time.Millisecond), "frozen")
	must(t, k.claim("d-a", k.job("1", "11", "production", "1001", 30*time.Minute), 30*time.Minute))
}

// Freezes are enforced where leases and tokens are granted, whoever asks and by
// whichever scope they cover it (gates.md, invariant 26).
func TestGates26(t *testing.T) {
	for name, c := range map[string]struct {
		freeze startFreeze
		actor  string // who starts the run
		code   string
	}{
		"everywhere":                    {startFreeze{Scope: "/"}, "1001", "frozen"},
		"the project":                   {startFreeze{Scope: "/projects/payments"}, "1001", "frozen"},
		"the environment":               {startFreeze{Scope: production}, "1001", "frozen"},
		"the pipeline":                  {startFreeze{Scope: "/projects/payments/pipelines/release"}, "1001", "frozen"},
		"the identity":                  {startFreeze{Scope: "/projects/payments/identities/payments-production"}, "1001", "frozen"},
		"another environment":           {startFreeze{Scope: "/projects/payments/environments/test"}, "1001", ""},
		"another identity":              {startFreeze{Scope: "/projects/payments/identities/payments-test"}, "1001", ""},
		"automation, a person":          {startFreeze{Scope: production, Callers: []string{"automation"}}, "1001", ""},
		"automation, a robot":           {startFreeze{Scope: production, Callers: []string{"automation"}}, "1099", "frozen"},
		"people, a robot":               {startFreeze{Scope: production, Callers: []string{"people"}}, "1099", ""},
		"rollbacks":                     {startFreeze{Scope: production, Actions: []string{"rollback"}}, "1001", ""},
		"tokens of people":              {startFreeze{Scope: production, Actions: []string{"tokens"}}, "1001", ""},
		"all but managers, one of them": {startFreeze{Scope: production, Exempt: []string{"managers"}}, "1001", ""},
		"all but managers, a robot":     {startFreeze{Scope: production, Exempt: []string{"managers"}}, "1099", "frozen"},
		"all but security":              {startFreeze{Scope: production, Exempt: []string{"security"}}, "1001", "frozen"},
	} {
		k := deployCore(t, rulesWith())
		must(t, k.record(k.job("1", "10", "", "1001", 0), 0))
		must(t, k.open("d-a", k.job("1", "11", "production", c.actor, 0), "production", 0))
		for _, by := range []string{"bob", "cat", "eve"} {
			_ = k.approve(by, "d-a", time.Second) // a robot needs one more of each
		}
		c.freeze.ID, c.freeze.For, c.freeze.Reason = "f-a", time.Hour, "why"
		must(t, k.user("dora", c.freeze, 2*time.Second))
		d := k.Deployments["d-a"]
		facts, err := k.facts(d, began.Add(3*time.Second))
		must(t, err)
		verdict := k.judge(d, facts, began.Add(3*time.Second))
		frozen := slices.ContainsFunc(verdict.Because, func(d lockkeeper.Decision) bool { return d.Code == "frozen" })
		if frozen != (c.code == "frozen") {
			t.Errorf("%s: frozen %v, want %q", name, frozen, c.code)
		}
		err = k.claim("d-a", k.job("1", "11", "production", c.actor, 3*time.Second), 3*time.Second)
		if c.actor == "1001" && saying(err) != c.code || c.actor == "1099" && err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rollback may have a lighter rule of its own, and still needs its approvals and its
// binding to what was good (gates.md, invariant 27).
func TestGates27(t *testing.T) {
	k := deployCore(t, rulesWith())
	k.running()
	must(t, k.as(Caller{Holder: "d-a"}, endDeployment{"d-a", 0}, time.Minute))
	must(t, k.user("dora", startFreeze{ID: "f-a", Scope: "/projects/payments", For: time.Hour, Reason: "why", Actions: []string{"deploy"}}, 2*time.Minute))
	back := func(id string, artifact lockkeeper.Artifact) error {
		j := k.job("2", "21", "production", "1001", 2*time.Minute)
		return k.as(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Action: lockkeeper.RollbackAction, Environment: "production", Artifacts: []lockkeeper.Artifact{artifact}, Handle: HandleDigest("h")}, 2*time.Minute)
	}
	want(t, back("d-x", lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("never deployed"))}), "rollback_unknown")
	must(t, back("d-b", app))
	want(t, k.claim("d-b", k.job("2", "21", "production", "1001", 2*time.Minute), 2*time.Minute), "approvals_missing")
	must(t, k.approve("bob", "d-b", 3*time.Minute))
	must(t, k.approve("cat", "d-b", 3*time.Minute))
	must(t, k.claim("d-b", k.job("2", "21", "production", "1001", 4*time.Minute), 4*time.Minute))
	// A deployment waits beside it.
	must(t, k.open("d-c", k.job("3", "31", "production", "1001", 4*time.Minute), "production", 4*time.Minute))
	must(t, k.approve("bob", "d-c", 5*time.Minute))
	must(t, k.approve("cat", "d-c", 5*time.Minute))
	want(t, k.claim("d-c", k.job("3", "31", "production", "1001", 5*time.Minute), 5*time.Minute), "frozen")
}

// Whoever stops the line does it alone; to lift it takes another person, or the clock.
func TestStopTheLine(t *testing.T) {
	k := respondingCore(t, incidentRules())
	k.running()
	must(t, k.tokenA(3*time.Second))
	freeze := startFreeze{ID: "f-a", Scope: "/projects/payments", For: time.Hour, Reason: "orders are lost", InFlight: catalog.InFlightAbort}
	want(t, k.user("bob", freeze, 4*time.Second), "not_granted")
	s, err := k.step(Caller{User: "rita"}, "", freeze, began.Add(4*time.Second))
	must(t, err)
	must(t, s.err)
	if got := s.answer.(startedFreeze); !slices.Equal(got.Revoked, []string{"d-a"}) || k.Deployments["d-a"] != nil || len(s.entries) != 2 || s.entries[0].Kind != "freeze.started" {
		t.Errorf("it took %v in %d entries, and d-a is %v", got.Revoked, len(s.entries), k.Deployments["d-a"])
	}
	must(t, k.open("d-b", k.job("2", "21", "test", "1001", 5*time.Second), "test", 5*time.Second))
	want(t, k.claim("d-b", k.job("2", "21", "test", "1001", 5*time.Second), 5*time.Second), "frozen")
	want(t, k.user("rita", endFreeze{"f-a", "all is well"}, 6*time.Second), "second_person_needed")
	want(t, k.user("rita-2", endFreeze{"f-a", "all is well"}, 6*time.Second), "second_person_needed") // the same person
	want(t, k.user("bob", endFreeze{"f-a", "all is well"}, 6*time.Second), "not_granted")
	want(t, k.user("rob", endFreeze{"f-a", ""}, 6*time.Second), "reason_missing")
	must(t, k.user("rob", endFreeze{"f-a", "all is well"}, 6*time.Second))
	want(t, k.user("rob", endFreeze{"f-a", "all is well"}, 6*time.Second), "freeze_over")
	must(t, k.claim("d-b", k.job("2", "21", "test", "1001", 7*time.Second), 7*time.Second))

	// By a rule, he lifts his own; the strictest of all rules that touch it counts.
	rule := func(name, scope, more string) string {
		return "---\nkind: FreezeRule\nname: " + name + "\nscope: " + scope + "\n" + more
	}
	for name, c := range map[string]struct {
		rules string
		code  string
	}{
		"alone above":               {rule("a", "/", "alone: true\n"), ""},
		"alone there":               {rule("a", "/projects/payments", "alone: true\n"), ""},
		"alone there, not above":    {rule("a", "/projects/payments", "alone: true\n") + rule("b", "/", ""), "second_person_needed"},
		"alone above, not below":    {rule("a", "/", "alone: true\n") + rule("b", string(production), ""), "second_person_needed"},
		"alone in a part of it":     {rule("a", string(production), "alone: true\n"), "second_person_needed"},
		"alone somewhere else":      {rule("a", "/projects/payments/pipelines/release", "alone: true\n"), "second_person_needed"},
		"shorter than is asked for": {rule("a", "/projects/payments", "longest: 59m\n"), "freeze_long"},
	} {
		k := respondingCore(t, incidentRules()+c.rules)
		err := k.user("rita", startFreeze{ID: "f-a", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0)
		if err == nil {
			err = k.user("rita", endFreeze{"f-a", "well"}, time.Second)
		}
		if saying(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}

	// The clock ends it, whether somebody writes that down or not.
	must(t, k.user("rita", startFreeze{ID: "f-c", Scope: "/", For: time.Minute, Reason: "why"}, time.Minute))
	must(t, k.open("d-c", k.job("3", "31", "test", "1001", time.Minute), "test", time.Minute))
	must(t, k.as(Caller{Holder: "d-b"}, endDeployment{"d-b", 0}, time.Minute))
	want(t, k.claim("d-c", k.job("3", "31", "test", "1001", 2*time.Minute-time.Millisecond), 2*time.Minute-time.Millisecond), "frozen")
	must(t, k.claim("d-c", k.job("3", "31", "test", "1001", 2*time.Minute), 2*time.Minute))
	must(t, k.as(Caller{Keeper: true}, sweep{}, 3*time.Minute))
	if len(k.Freezes) > 0 {
		t.Errorf("left: %v", k.Freezes)
	}
}

// What is no freeze is refused with what to do.
func TestFreezesOfNoUse(t *testing.T) {
	k := respondingCore(t, incidentRules())
	whole := startFreeze{ID: "f-a", Scope: "/", For: time.Hour, Reason: "why"}
	for code, change := range map[string]func(*startFreeze){
		"scope_unknown":      func(f *startFreeze) { f.Scope = "/projects/nowhere" },
		"scope_malformed":    func(f *startFreeze) { f.Scope = "nowhere" },
		"reason_missing":     func(f *startFreeze) { f.Reason = " " },
		"duration_malformed": func(f *startFreeze) { f.For = time.Second },
		"freeze_long":        func(f *startFreeze) { f.For = catalog.DefaultFreeze + time.Second },
		"action_unknown":     func(f *startFreeze) { f.Actions = []string{"deploys"} },
		"caller_unknown":     func(f *startFreeze) { f.Callers = []string{"robots"} },
		"in_flight_unknown":  func(f *startFreeze) { f.InFlight = "stop" },
		"group_unknown":      func(f *startFreeze) { f.Exempt = []string{"nobody"} },
		"freeze_large":       func(f *startFreeze) { f.Exempt = make([]string, maxFreezeLists+1) },
	} {
		f := whole
		change(&f)
		err := k.user("rita", f, 0)
		if codeOf(err) != code || lockkeeper.RefusalOf(err).Sentence == "" {
			t.Errorf("%s: %v", code, err)
		}
	}
	for i := range maxFreezesEach {
		f := whole
		f.ID = fmt.Sprint("f-", i)
		must(t, k.user("rita", f, 0))
	}
	want(t, k.user("rita", whole, 0), "freezes_many")
	for _, f := range k.Freezes { // they are somebody else's: she may stop the line still
		f.By = "dora"
	}
	must(t, k.user("rita", whole, 0))
	for i := len(k.Freezes); i < maxFreezes; i++ {
		k.Freezes[fmt.Sprint("f-", i)] = &StartedFreeze{ID: fmt.Sprint("f-", i), By: "dora", Until: began.Add(time.Hour)}
	}
	want(t, k.user("rita", whole, 0), "freezes_many")
}

// A person takes no token of an identity while tokens are frozen, and none that lasts
// into a freeze which does not let what runs end; groups that it spares do.
func TestFrozenTokensOfPeople(t *testing.T) {
	text := func(more string) string {
		return rulesWith("stages: [release/deploy]\n", "stages: [release/deploy]\npeople: true\n", "<more>",
			"---\nkind: Role\nname: user\nactions: [identities/use]\n---\nkind: Assignment\nname: users\nrole: user\nprincipal: group:managers\nscope: /projects/payments\n"+mondays(more))
	}
	for name, c := range map[string]struct {
		more    string
		expires time.Duration
		code    string
	}{
		"of tokens":                     {"actions: [tokens]\n", 4*time.Minute + 30*time.Second, "frozen"},
		"of tokens, none that lasts":    {"actions: [tokens]\ninFlight: noTokens\n", 3 * time.Minute, "frozen"},
		"of deployments":                {"inFlight: abort\n", 4*time.Minute + 30*time.Second, ""},
		"of tokens for automation only": {"actions: [tokens]\ncallers: [automation]\n", 4*time.Minute + 30*time.Second, ""},
		"it spares him":                 {"actions: [tokens]\ninFlight: abort\nexempt: [managers]\n", 4*time.Minute + 30*time.Second, ""},
		"it spares others":              {"actions: [tokens]\ninFlight: abort\nexempt: [security]\n", 3 * time.Minute, "frozen"},
	} {
		k := deployCore(t, text(c.more))
		ask := issueToken{ID: "t-1", Project: "payments", Identity: "payments-production", Audience: "https://target.example"}
		must(t, k.user("bob", ask, 150*time.Second))
		if got := k.PersonTokens["t-1"].Expires; got != began.Add(c.expires) {
			t.Errorf("%s: it ends at %s", name, got)
		}
		ask.ID = "t-2"
		if got := saying(k.user("bob", ask, 4*time.Minute)); got != c.code {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A sweep writes down what a freeze of the catalog took already.
func TestSweepOfFrozen(t *testing.T) {
	k := deployCore(t, rulesWith())
	k.running()
	k.rules = mustRules(t, rulesWith("<more>", mondays("inFlight: abort\n"))) // the lease of before lasts until 4m2s
	must(t, k.as(Caller{Keeper: true}, sweep{}, 2*time.Minute))
	if k.Deployments["d-a"] == nil {
		t.Fatal("it ended before the freeze")
	}
	want(t, k.tokenA(3*time.Minute), "frozen")
	want(t, k.renew(3*time.Minute), "frozen")
	s, err := k.step(Caller{Keeper: true}, "", sweep{}, began.Add(3*time.Minute))
	must(t, err)
	if k.Deployments["d-a"] != nil || len(s.events) != 1 || s.events[0].(*deploymentEnded).End.Status != Revoked {
		t.Errorf("swept: %v", s.events)
	}
}

// The list says how each freeze stands and when it holds.
func TestFreezeViews(t *testing.T) {
	k, _ := started(t, Options{})
	w := world{State: newState(), rules: mustRules(t, rulesWith("<more>", mondays("exempt: [managers]\n")))}
	f := w.rules.Catalog.Freezes["mondays"]
	v := w.freezeView(f, "", 30, began)
	if v.Holds || v.NextClose != began.Add(3*time.Minute) || len(v.Times) != 5 || v.Times[1].From != began.Add(7*24*time.Hour+3*time.Minute) {
		t.Errorf("before: %+v", v)
	}
	v = w.freezeView(f, "", 0, began.Add(5*time.Minute))
	if !v.Holds || v.Since != began.Add(3*time.Minute) || v.NextOpen != began.Add(30*time.Minute) || v.NextClose != began.Add(7*24*time.Hour+3*time.Minute) || v.Times != nil {
		t.Errorf("in it: %+v", v)
	}
	f.Zone = "Europe/Zuerich"
	if v = w.freezeView(f, "", 5, began); !strings.Contains(v.Unjudged, "Zuerich") {
		t.Errorf("a zone that nobody knows: %+v", v)
	}
	if _, err := k.Freezes(Caller{User: "nobody"}, "/", 0); codeOf(err) == "" {
		t.Error("whoever may read nothing sees freezes")
	}
	if _, err := k.Freezes(Caller{User: "dora"}, "/", mostFreezeDays+1); codeOf(err) != "days_unfit" {
		t.Errorf("too far ahead: %v", err)
	}
}

// saying is the code of a refusal; "" where there is none.
func saying(err error) string {
	if err == nil {
		return ""
	}
	return codeOf(err)
}
