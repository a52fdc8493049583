package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// incidentRules are rules with two responders beside dora, who administers, and with
// a role that ann may activate.
func incidentRules(pairs ...string) string {
	return rulesWith(append(pairs, "<more>", `---
kind: User
name: rita
---
kind: User
name: rob
---
kind: User
name: rita-2
person: rita
---
kind: Group
name: responders
users: [rita, rob, rita-2]
---
kind: Assignment
name: responding
role: incident-responder
principal: group:responders
scope: /
---
kind: Role
name: operator
actions: [deployments/cancel, freezes/write]
---
kind: Assignment
name: operators
role: operator
principal: group:managers
scope: /projects/payments
eligible: true
---
kind: ActivationRule
name: operators
role: operator
scope: /projects/payments
`)...)
}

var incidentUsers = []string{"dora", "ann", "ann-admin", "bob", "cat", "eve", "rita", "rita-2", "rob"}

// respondingCore is a core in which everybody can sign in and has proved himself.
func respondingCore(t *testing.T, text string) *deploying {
	c := deployCore(t, text)
	c.enrolAll(t)
	return c
}

func (c *core) enrolAll(t interface{ Fatal(...any) }) {
	var events []event
	for _, user := range incidentUsers {
		events = append(events, &accountEnrolled{User: user, Credential: "p-" + user, Maker: "dora"},
			&accountProven{User: user, Token: lockkeeper.TokenIDOf("proof", user), Expires: began})
	}
	if err := c.core().record(&step{}, Caller{Keeper: true}, "", "", events, began); err != nil {
		t.Fatal(err)
	}
}

func (c *core) core() *core { return c }

func (c *deploying) signIn(user, session string, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{}, startSession{Session: Session{ID: session, User: user, Secret: lockkeeper.Digest(session)}, Credential: "p-" + user}, at)
}
func (c *deploying) token(id string, j lockkeeper.Workload, at time.Duration) error {
	c.t.Helper()
	return c.as(Caller{Workload: &j}, grantToken{Deployment: id, ID: fmt.Sprint("t-", c.n), Job: j, Handle: HandleDigest("h"), Audience: "https://target.example"}, at)
}

// running lets d-a run from second 2 on, started by ann, approved by bob and cat.
func (c *deploying) running() {
	c.t.Helper()
	c.waiting("1")
	c.approved()
	must(c.t, c.claim("d-a", c.job("1", "11", "production", "1001", 2*time.Second), 2*time.Second))
}

func quarantines(t testing.TB, list ...string) []Quarantine {
	t.Helper()
	out, err := parseQuarantines(list)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What an incident stops is over with it, and what cannot be ended is told.
func TestIncidentCutsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		open     openIncident
		revoked  bool
		voided   bool
		sessions int
	}{
		"the environment is frozen":       {openIncident{Freeze: []lockkeeper.Scope{"/projects/payments/environments/production"}}, true, false, 0},
		"the project is":                  {openIncident{Freeze: []lockkeeper.Scope{"/projects/payments"}}, true, false, 0},
		"the pipeline's scope is":         {openIncident{Freeze: []lockkeeper.Scope{"/projects/payments/pipelines/release"}}, true, false, 0},
		"the identity's scope is":         {openIncident{Freeze: []lockkeeper.Scope{"/projects/payments/identities/payments-production"}}, true, false, 0},
		"another environment is":          {openIncident{Freeze: []lockkeeper.Scope{"/projects/payments/environments/test"}}, false, false, 0},
		"the pipeline is quarantined":     {openIncident{Quarantine: quarantines(t, "pipeline:payments/release")}, true, false, 0},
		"the identity is":                 {openIncident{Quarantine: quarantines(t, "identity:payments/payments-production")}, true, false, 0},
		"another identity is":             {openIncident{Quarantine: quarantines(t, "identity:payments/payments-test")}, false, false, 0},
		"the CI platform is":              {openIncident{Quarantine: quarantines(t, "provider:github")}, true, false, 0},
		"whoever started it is":           {openIncident{Quarantine: quarantines(t, "user:ann")}, true, false, 2},
		"his other account is":            {openIncident{Quarantine: quarantines(t, "user:ann-admin")}, true, false, 2},
		"an approver is":                  {openIncident{Quarantine: quarantines(t, "user:bob")}, true, true, 1},
		"somebody who has no part is":     {openIncident{Quarantine: quarantines(t, "user:eve")}, false, false, 0},
		"what runs may end, frozen":       {openIncident{Mode: BestEffort, Freeze: []lockkeeper.Scope{"/"}}, false, false, 0},
		"what runs may end, of ann":       {openIncident{Mode: BestEffort, Quarantine: quarantines(t, "user:ann")}, false, false, 2},
		"what runs may end, of bob":       {openIncident{Mode: BestEffort, Quarantine: quarantines(t, "user:bob")}, false, false, 1},
		"what runs may end, the pipeline": {openIncident{Mode: BestEffort, Quarantine: quarantines(t, "pipeline:payments/release", "provider:github")}, false, false, 0},
	} {
		k := respondingCore(t, incidentRules())
		k.running()
		must(t, k.token("d-a", k.job("1", "11", "production", "1001", 3*time.Second), 3*time.Second))
		for user, s := range map[string]string{"ann": "s-ann", "ann-admin": "s-ann2", "bob": "s-bob"} {
			must(t, k.signIn(user, s, 3*time.Second))
		}
		c.open.ID, c.open.Title = "i-a", "the key was found in a log"
		s, err := k.step(Caller{User: "rita"}, "", c.open, began.Add(4*time.Second))
		must(t, err)
		must(t, s.err)
		cut := s.answer.(Cut)
		if got := len(cut.Revoked) == 1; got != c.revoked || (k.Deployments["d-a"] == nil) != c.revoked {
			t.Errorf("%s: revoked %v, want %v", name, cut.Revoked, c.revoked)
		}
		if (len(cut.Voided) > 0) != c.voided || cut.Sessions != c.sessions || len(k.Sessions) != 3-c.sessions {
			t.Errorf("%s: %+v, %d sessions are left", name, cut, len(k.Sessions))
		}
		token := k.token("d-a", k.job("1", "11", "production", "1001", 5*time.Second), 5*time.Second)
		if (token == nil) == c.revoked {
			t.Errorf("%s: a token: %v", name, token)
		}
		if c.revoked && (len(cut.Outside) != 1 || cut.Outside[0].Tokens != 1 || cut.OutsideTill != began.Add(123*time.Second)) {
			t.Errorf("%s: what lives on outside is %+v until %s", name, cut.Outside, cut.OutsideTill)
		}
		easy := c.open.Mode == BestEffort
		if easy && !strings.HasSuffix(name, "bob") && (len(cut.Outside) != 1 || !cut.Outside[0].Running || cut.Outside[0].Till != began.Add(10*time.Minute+2*time.Second)) {
			t.Errorf("%s: what goes on is %+v", name, cut.Outside)
		}
		if easy {
			must(t, k.as(Caller{}, renewLease{"d-a", HandleDigest("h")}, 3*time.Minute))
			must(t, k.as(Caller{Holder: "d-a"}, endDeployment{"d-a", 0}, 4*time.Minute))
		}
		starts := k.open("d-b", k.job("2", "21", "test", "1001", 5*time.Minute), "test", 5*time.Minute)
		free := map[string]bool{"an approver is": true, "somebody who has no part is": true, "another environment is": false, "the environment is frozen": true, "the identity's scope is": true, "the identity is": true, "another identity is": false, "what runs may end, of bob": true}
		if (starts == nil) != free[name] {
			t.Errorf("%s: a deployment to test is opened: %v", name, starts)
		}
	}
}

// Whoever is quarantined may do nothing, by no account and on no path.
func TestIncidentQuarantinedPerson(t *testing.T) {
	c := respondingCore(t, incidentRules())
	c.waiting("1") // by ann
	must(t, c.user("bob", openRequest{ID: "r-b", Role: "operator", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
	must(t, c.user("bob", beginActivation{"r-b", "a-b"}, 0))
	must(t, c.user("bob", openRequest{ID: "r-c", Role: "operator", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
	must(t, c.approve("bob", "d-a", time.Second))
	must(t, c.signIn("bob", "s-bob", time.Second))
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "bob's laptop is gone", Quarantine: quarantines(t, "user:bob")}, 2*time.Second))
	if len(c.Sessions)+len(c.Activations)+len(c.Requests) > 0 || len(c.Deployments["d-a"].Votes) > 0 {
		t.Errorf("left: %v %v %v %v", c.Sessions, c.Activations, c.Requests, c.Deployments["d-a"].Votes)
	}
	for what, err := range map[string]error{
		"signs in":      c.signIn("bob", "s-bob2", 3*time.Second),
		"approves":      c.approve("bob", "d-a", 3*time.Second),
		"asks":          c.user("bob", openRequest{ID: "r-d", Role: "operator", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 3*time.Second),
		"closes":        c.user("bob", closeIncident{"i-a", "nothing"}, 3*time.Second),
		"opens":         c.user("bob", openIncident{ID: "i-b", Title: "revenge", Quarantine: quarantines(t, "user:rita")}, 3*time.Second),
		"withdraws":     c.user("bob", withdrawApproval{"d-a", ""}, 3*time.Second),
		"is challenged": c.user("bob", challengeAccount{"c-b"}, 3*time.Second),
		"is invited":    c.user("dora", inviteAccount{"bob", "x"}, 3*time.Second),
		"records":       c.record(c.job("9", "90", "", "1002", 3*time.Second), 3*time.Second),
		"deploys":       c.open("d-c", c.job("9", "91", "test", "1002", 3*time.Second), "test", 3*time.Second),
	} {
		if codeOf(err) != "quarantined" {
			t.Errorf("bob %s: %v", what, err)
		}
	}
	if users := c.whoCan(lockkeeper.ApproveDeployments, "/projects/payments", began.Add(3*time.Second)); slices.ContainsFunc(users, func(p Permitted) bool { return p.User == "bob" }) {
		t.Error("bob is listed as somebody who can approve")
	}
	// Closed, nothing of it comes back but the right to begin anew.
	must(t, c.user("rob", closeIncident{"i-a", "found it"}, 4*time.Second))
	if len(c.Sessions)+len(c.Activations)+len(c.Requests) > 0 || len(c.Deployments["d-a"].Votes) > 0 {
		t.Error("closing brought something back")
	}
	must(t, c.signIn("bob", "s-bob3", 5*time.Second))
	must(t, c.approve("bob", "d-a", 5*time.Second))
}

// An account that counts as somebody who is quarantined is, too; the maker of a
// quarantined account is not.
func TestIncidentUnprovenAccounts(t *testing.T) {
	c := respondingCore(t, incidentRules())
	must(t, c.core.record(&step{}, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "eve", Credential: "p-eve", Maker: "bob"}}, began))
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "bob", Quarantine: quarantines(t, "user:bob")}, time.Second))
	want(t, c.signIn("eve", "s-e", 2*time.Second), "quarantined")
	must(t, c.user("rob", closeIncident{"i-a", "x"}, 3*time.Second))
	must(t, c.user("rita", openIncident{ID: "i-b", Title: "eve", Quarantine: quarantines(t, "user:eve")}, 4*time.Second))
	want(t, c.signIn("eve", "s-e", 5*time.Second), "quarantined")
	must(t, c.signIn("bob", "s-b", 5*time.Second))
}

// What a quarantined person built is not deployed by others either.
func TestIncidentBuiltByQuarantined(t *testing.T) {
	c := respondingCore(t, incidentRules())
	must(t, c.record(c.job("1", "10", "", "1004", 0), 0)) // eve builds it
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "eve", Quarantine: quarantines(t, "user:eve")}, time.Second))
	want(t, c.open("d-a", c.job("2", "11", "test", "1001", 2*time.Second), "test", 2*time.Second), "quarantined")
}

// It takes another person to close one, who may respond wherever it stops something.
func TestIncidentSecondPerson(t *testing.T) {
	c := respondingCore(t, incidentRules("name: dora\n", "name: dora\n"))
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Freeze: []lockkeeper.Scope{"/projects/payments"}}, 0))
	want(t, c.user("rita", closeIncident{"i-a", "x"}, 1), "second_person_needed")
	want(t, c.user("rita-2", closeIncident{"i-a", "x"}, 1), "second_person_needed")
	want(t, c.user("cat", closeIncident{"i-a", "x"}, 1), "not_granted")
	want(t, c.user("rob", closeIncident{"i-a", ""}, 1), "finding_missing")
	want(t, c.as(Caller{}, closeIncident{"i-a", "x"}, 1), "person_needed")
	// Who was rita when she opened it stays so, whatever the catalog says later.
	c.rules = mustRules(t, incidentRules("name: rita-2\nperson: rita", "name: rita-2\nperson: rita", "kind: User\nname: rita\n", "kind: User\nname: rita\nperson: zoe\n"))
	want(t, c.user("rita-2", closeIncident{"i-a", "x"}, 2), "second_person_needed")
	want(t, c.user("rita", closeIncident{"i-a", "x"}, 2), "second_person_needed")
	must(t, c.user("rob", closeIncident{"i-a", "x"}, 3))
	want(t, c.user("rob", closeIncident{"i-a", "x"}, 4), "incident_closed")
}

// Nobody quarantines the last who could close it; of one person only, the machine's
// owner remains.
func TestIncidentLastCloser(t *testing.T) {
	c := respondingCore(t, incidentRules())
	want(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:rob", "user:dora")}, 0), "last_closer")
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:rob")}, 0))
	want(t, c.user("rita", extendIncident{Incident: "i-a", Quarantine: quarantines(t, "user:dora")}, 1), "last_closer")
	want(t, c.user("dora", extendIncident{Incident: "i-a", Quarantine: quarantines(t, "user:dora")}, 1), "last_closer")
	must(t, c.user("rita", extendIncident{Incident: "i-a", Quarantine: quarantines(t, "user:bob")}, 2))
	must(t, c.user("dora", closeIncident{"i-a", "x"}, 3))

	alone := deployCore(t, rulesWith())
	must(t, alone.core.record(&step{}, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "dora", Credential: "p"}}, began))
	must(t, alone.user("dora", openIncident{ID: "i-a", Title: "x", Freeze: []lockkeeper.Scope{"/"}}, 0))
	want(t, alone.user("dora", openIncident{ID: "i-b", Title: "x", Quarantine: quarantines(t, "user:dora")}, 0), "last_closer")
	want(t, alone.user("dora", closeIncident{"i-a", "x"}, 1), "second_person_needed")
	must(t, alone.as(Caller{Keeper: true}, closeIncident{"i-a", "I am alone here"}, 2))
}

// No catalog takes anything out of an incident.
func TestIncidentCatalogCannotLoosen(t *testing.T) {
	apply := func(c *deploying, text string) error {
		return c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, text)}, 2*time.Second)
	}
	for name, text := range map[string]string{
		"the user is gone":           strings.Replace(strings.ReplaceAll(incidentRules(), "ann-admin, bob, cat, eve", "ann-admin, cat, eve"), "kind: User\nname: bob\nids: [{provider: github, id: \"1002\"}]\n---\n", "", 1),
		"the user is another person": incidentRules("<bob>", "\nperson: robert"),
		"the user's account moves":   strings.Replace(incidentRules(), "name: bob\nids: [{provider: github, id: \"1002\"}]", "name: bob\nids: [{provider: github, id: \"2002\"}]", 1),
		"the pipeline is another":    strings.Replace(incidentRules(), `repository: "8001"`, `repository: "8002"`, 1),
		"the provider is another":    strings.Replace(incidentRules(), "issuer: https://ci.example", "issuer: https://ci2.example", 1),
		"the pipeline is renamed":    strings.NewReplacer("kind: Pipeline\nname: release", "kind: Pipeline\nname: release2", "[release/", "[release2/").Replace(incidentRules()),
		"the environment is renamed": strings.NewReplacer("kind: Environment\nname: test", "kind: Environment\nname: test2", "environment: test\naud", "environment: test2\naud").Replace(incidentRules()),
		"the identity is renamed":    strings.Replace(incidentRules(), "name: payments-test", "name: payments-test2", 1),
		"another account of ann is":  strings.Replace(incidentRules(), "name: ann-admin\nperson: ann", "name: ann-admin", 1),
	} {
		c := respondingCore(t, incidentRules())
		must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Freeze: []lockkeeper.Scope{"/projects/payments/environments/test"},
			Quarantine: quarantines(t, "user:bob", "user:ann", "pipeline:payments/release", "provider:github", "identity:payments/payments-test")}, time.Second))
		if err := apply(c, text); codeOf(err) != "incident_holds" {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := respondingCore(t, incidentRules())
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:bob", "provider:github")}, time.Second))
	must(t, apply(c, incidentRules("<bob>", "\noff: true"))) // tighter is always possible
	// A second document about the same issuer, and a second user of the same person, are no ways around.
	more := strings.Replace(incidentRules("<bob>", ""), "kind: Provider\n", "kind: Provider\nname: again\nplatform: github\nissuer: https://ci.example\naudience: other\n---\nkind: User\nname: bobby\nperson: bob\n---\nkind: Provider\n", 1)
	must(t, apply(c, more))
	if c.quarantined("bobby") == nil {
		t.Error("another user of a quarantined person is free")
	}
	j := c.job("9", "90", "", "1001", 3*time.Second)
	if err := c.admits(c.rules.Catalog.Pipelines["/projects/payments/pipelines/release"], "again", nil); codeOf(err) != "quarantined" {
		t.Errorf("another document about the issuer is free: %v", err)
	}
	want(t, c.record(j, 3*time.Second), "quarantined")
}

// Malformed and unknown things are refused, with the way out.
func TestIncidentBadInput(t *testing.T) {
	c := respondingCore(t, incidentRules())
	many := make([]lockkeeper.Scope, maxTargets+1)
	for code, cmd := range map[string]openIncident{
		"title_missing":      {Freeze: []lockkeeper.Scope{"/"}},
		"incident_empty":     {Title: "x"},
		"mode_unknown":       {Title: "x", Mode: "gentle", Freeze: []lockkeeper.Scope{"/"}},
		"incident_large":     {Title: "x", Freeze: many},
		"scope_malformed":    {Title: "x", Freeze: []lockkeeper.Scope{"projects", lockkeeper.Scope("/" + strings.Repeat("x", 5000))}},
		"scope_unknown":      {Title: "x", Freeze: []lockkeeper.Scope{"/projects/payments/environments/nowhere"}},
		"quarantine_unknown": {Title: "x", Quarantine: quarantines(t, "user:nobody")},
	} {
		want(t, c.user("rita", cmd, 0), code)
	}
	for _, s := range []string{"", "bob", "user:", "user:a/b", "team:x", "pipeline:release", "pipeline:/x", "identity:payments/", "provider:a b"} {
		if _, err := ParseQuarantine(s); codeOf(err) != "quarantine_malformed" {
			t.Errorf("%q: %v", s, err)
		}
	}
	want(t, c.user("cat", openIncident{ID: "i-a", Title: "x", Freeze: []lockkeeper.Scope{"/"}}, 0), "not_granted")
	for n := range maxIncidents {
		must(t, c.user("rita", openIncident{ID: fmt.Sprint("i-", n), Title: "x", Freeze: []lockkeeper.Scope{"/"}}, 0))
	}
	want(t, c.user("rita", openIncident{ID: "i-x", Title: "x", Freeze: []lockkeeper.Scope{"/"}}, 0), "incidents_many")
	want(t, c.user("rita", extendIncident{Incident: "i-0", Freeze: []lockkeeper.Scope{"/"}}, 0), "incident_empty")
	want(t, c.user("rita", extendIncident{Incident: "i-none", Freeze: []lockkeeper.Scope{"/"}}, 0), "incident_closed")
}

// modelIncident is an incident in the words of the documentation.
type modelIncident struct {
	strict  bool
	opener  string
	frozen  map[string]bool // environments
	persons map[string]bool
	things  map[string]bool // pipeline, provider, identity of production, identity of test
}
type modelDeployment struct {
	env, actor string
	running    bool
	votes      map[string]bool
}

func incidentPerson(user string) string {
	user, _, _ = strings.Cut(user, "-")
	return user
}

type incidentModel map[string]*modelIncident

func (m incidentModel) person(user string, onlyStrict bool) bool {
	for _, i := range m {
		if i.persons[incidentPerson(user)] && (i.strict || !onlyStrict) {
			return true
		}
	}
	return false
}
func (m incidentModel) stops(d *modelDeployment) bool {
	for _, i := range m {
		if (i.strict || !d.running) && (i.frozen[d.env] || i.things["pipeline"] || i.things["provider"] || i.things[d.env] || i.persons[d.actor] || i.persons["ann"]) { // ann built it
			return true
		}
	}
	return false
}

// TestIncidents drives the core with random incidents and uses, and compares what
// each obtains with the model: nothing that is quarantined or frozen obtains
// anything, and nothing else is refused for an incident's sake.
func TestIncidents(t *testing.T) {
	rules := mustRules(t, incidentRules())
	seen := map[string]int{}
	for range 3 { // so that what is rare comes, too
		rapid.Check(t, func(rt *rapid.T) {
			c := &core{world: world{State: newState(), rules: rules}}
			now, mirror, m, ds := began, newState(), incidentModel{}, map[string]*modelDeployment{}
			var said []string
			step := func(by Caller, cmd command) error {
				s, err := c.step(by, "", cmd, now)
				if err != nil {
					rt.Fatal(err, said)
				}
				for i := range s.entries {
					read, ev, err := readEntry(s.records[i].Data)
					if err == nil {
						err = mirror.apply(read, ev)
					}
					if err != nil {
						rt.Fatal(err)
					}
				}
				said = append(said, fmt.Sprintf("%s %s %+v: %v", by, cmd.name(), cmd, s.err))
				seen[fmt.Sprint(cmd.name(), " ", s.err == nil)]++
				return s.err
			}
			must := func(what string, got, want bool) {
				rt.Helper()
				if got != want {
					rt.Fatalf("%s: %v, the model says %v, after\n%s", what, got, want, strings.Join(said, "\n"))
				}
			}
			stopped := func(err error) bool { return slices.Contains([]string{"quarantined", "incident_frozen"}, codeOf(err)) }
			if err := step(Caller{Keeper: true}, firstEntry{}); err != nil {
				rt.Fatal(err)
			}
			c.enrolAll(rt)
			mirror = newState()
			n := 0
			job := func(run, env, actor string) lockkeeper.Workload {
				n++
				ids := map[string]string{"ann": "1001", "bob": "1002", "cat": "1003"}
				return workload(n, run, "1"+run, env, ids[actor], "push", 1, now)
			}
			build := job("1", "", "ann")
			if s, err := c.step(Caller{Workload: &build}, "", recordArtifacts{build, []lockkeeper.Artifact{app}}, now); err != nil || s.err != nil {
				rt.Fatal(err, s.err)
			}
			b, _ := marshal(c.State)
			if err := unmarshalStrict(b, mirror); err != nil {
				rt.Fatal(err)
			}
			mirror.indexRecords()
			var incidents, deployments []string
			pick := func(name string, of []string) string {
				if len(of) == 0 {
					return "none"
				}
				return rapid.SampledFrom(of[max(0, len(of)-4):]).Draw(rt, name)
			}
			targets := []string{"user:ann", "user:ann-admin", "user:bob", "user:cat", "user:eve", "user:rita", "pipeline:payments/release", "provider:github", "identity:payments/payments-production", "identity:payments/payments-test"}
			scopes := map[lockkeeper.Scope][]string{"/projects/payments/environments/production": {"production"}, "/projects/payments/environments/test": {"test"},
				"/projects/payments": {"production", "test"}, "/projects/payments/identities/payments-test": {"test"}}
			draw := func(i *modelIncident) ([]lockkeeper.Scope, []Quarantine) {
				var freeze []lockkeeper.Scope
				var list []string
				for _, s := range rapid.SliceOfN(rapid.SampledFrom([]lockkeeper.Scope{"/projects/payments", "/projects/payments/environments/production", "/projects/payments/environments/test", "/projects/payments/identities/payments-test"}), 0, 1).Draw(rt, "freeze") {
					freeze = append(freeze, s)
					for _, e := range scopes[s] {
						i.frozen[e] = true
					}
				}
				for _, q := range rapid.SliceOfN(rapid.SampledFrom(targets), 0, 2).Draw(rt, "quarantine") {
					list = append(list, q)
					kind, name, _ := strings.Cut(q, ":")
					switch kind {
					case "user":
						i.persons[incidentPerson(name)] = true
					case "identity":
						i.things[strings.TrimPrefix(name, "payments/payments-")] = true
					default:
						i.things[kind] = true
					}
				}
				out, err := parseQuarantines(list)
				if err != nil {
					rt.Fatal(err)
				}
				return freeze, out
			}
			// cut is what the model ends once an incident is open.
			cut := func() {
				for id, d := range ds {
					for user := range d.votes {
						if m.person(user, d.running) {
							delete(d.votes, user)
						}
					}
					broken := d.running && d.env == "production" && (len(d.votes) < 2 || !d.votes["cat"] && !d.votes["eve"])
					if m.stops(d) || broken {
						delete(ds, id)
					}
				}
			}
			for step1 := range rapid.IntRange(10, 60).Draw(rt, "steps") {
				switch rapid.IntRange(0, 9).Draw(rt, "what") {
				case 0:
					i := &modelIncident{strict: rapid.Bool().Draw(rt, "strict"), frozen: map[string]bool{}, persons: map[string]bool{}, things: map[string]bool{}}
					freeze, list := draw(i)
					user := rapid.SampledFrom([]string{"rita", "rita-2", "rob", "dora", "bob"}).Draw(rt, "by")
					i.opener = incidentPerson(user)
					id, mode := fmt.Sprint("i-", step1), BestEffort
					if i.strict {
						mode = Strict
					}
					err := step(Caller{User: user}, openIncident{ID: id, Title: "x", Mode: mode, Freeze: freeze, Quarantine: list})
					must("opening", err == nil, user != "bob" && !m.person(user, false) && len(freeze)+len(list) > 0 && len(m) < maxIncidents)
					if err == nil {
						m[id] = i
						incidents = append(incidents, id)
						cut()
					}
				case 1:
					id := pick("incident", incidents)
					old := m[id]
					more := &modelIncident{frozen: map[string]bool{}, persons: map[string]bool{}, things: map[string]bool{}}
					freeze, list := draw(more)
					strict := rapid.Bool().Draw(rt, "strict")
					user := rapid.SampledFrom([]string{"rita", "rob", "dora"}).Draw(rt, "by")
					err := step(Caller{User: user}, extendIncident{Incident: id, Strict: strict, Freeze: freeze, Quarantine: list})
					if err != nil {
						must("extending", old != nil && !m.person(user, false) && codeOf(err) != "incident_empty", false)
						continue
					}
					must("extending", old != nil && !m.person(user, false), true)
					old.strict = old.strict || strict
					for from, to := range map[*map[string]bool]map[string]bool{&more.frozen: old.frozen, &more.persons: old.persons, &more.things: old.things} {
						for k := range *from {
							to[k] = true
						}
					}
					cut()
				case 2:
					id := pick("incident", incidents)
					user := rapid.SampledFrom(incidentUsers).Draw(rt, "by")
					err := step(Caller{User: user}, closeIncident{id, "mended"})
					i := m[id]
					must("closing", err == nil, i != nil && slices.Contains([]string{"rita", "rita-2", "rob", "dora"}, user) && incidentPerson(user) != i.opener && !m.person(user, false))
					if err == nil {
						delete(m, id)
					}
				case 3:
					env := rapid.SampledFrom([]string{"production", "test"}).Draw(rt, "env")
					d := &modelDeployment{env: env, actor: rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(rt, "actor"), votes: map[string]bool{}}
					id, j := fmt.Sprint("d-", step1), job(fmt.Sprint("5", step1), env, d.actor)
					err := step(Caller{Workload: &j}, openDeployment{ID: id, Job: j, Environment: env, Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
					must("opening a deployment", err == nil, !m.stops(d))
					must("opening is refused for an incident", stopped(err), m.stops(d))
					if err == nil {
						ds[id] = d
						deployments = append(deployments, id)
					}
				case 4, 5:
					id := pick("deployment", deployments)
					user := rapid.SampledFrom([]string{"bob", "cat", "eve"}).Draw(rt, "voter")
					digest := lockkeeper.Digest("x")
					if d := c.Deployments[id]; d != nil {
						digest = d.Digest
					}
					err := step(Caller{User: user}, vote{Deployment: id, Approve: true, Digest: digest})
					must("a vote is refused for an incident", codeOf(err) == "quarantined", m.person(user, false))
					if d := ds[id]; err == nil {
						d.votes[user] = true
					}
				case 6, 7:
					id := pick("deployment", deployments)
					d := ds[id]
					if d == nil {
						must("it is over", c.Deployments[id] == nil, true)
						continue
					}
					run := strings.Replace(id, "d-", "5", 1)
					j := job(run, d.env, d.actor)
					if !d.running {
						err := step(Caller{Workload: &j}, claimLease{Deployment: id, Lease: "l-" + id, Job: j, Handle: HandleDigest("h")})
						if err == nil {
							must("claiming", m.stops(d), false)
							d.running = true
						}
						must("claiming is refused for an incident", stopped(err), m.stops(d))
						continue
					}
					err := step(Caller{Workload: &j}, grantToken{Deployment: id, ID: fmt.Sprint("t-", n), Job: j, Handle: HandleDigest("h"), Audience: "https://target.example"})
					if err == nil {
						must("a token", m.stops(d), false)
						if len(m) > 0 {
							seen["token while another incident is open"]++
						}
					}
					must("a token is refused for an incident", stopped(err), m.stops(d))
				case 8:
					user := rapid.SampledFrom(incidentUsers).Draw(rt, "user")
					err := step(Caller{}, startSession{Session: Session{ID: fmt.Sprint("s-", step1), User: user, Secret: "x"}, Credential: "p-" + user})
					must("signing in", err == nil, !m.person(user, false))
				case 9:
					now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second}).Draw(rt, "later"))
				}
				for _, user := range incidentUsers {
					d := c.check(user, lockkeeper.DeclareIncidents, "/", now)
					must("the right of "+user, d.Code == "quarantined", m.person(user, false))
				}
				for _, s := range c.Sessions {
					must("a session of "+s.User, m.person(s.User, false), false)
				}
				for id, d := range c.Deployments {
					must(id+" lives", ds[id] != nil, true)
					must(id+" runs", d.Status == Running, ds[id].running)
				}
				must("all live that should", len(c.Deployments) == len(ds), true)
			}
			one, _ := c.Digest()
			if two, _ := mirror.Digest(); one != two {
				rt.Fatal("the state is not the fold of the journal (invariant 1)")
			}
		})
	}
	for _, must := range []string{"incident.open true", "incident.open false", "incident.extend true", "incident.close true", "incident.close false", "deployment.open true", "deployment.open false", "lease.claim true", "lease.claim false", "token.grant true", "token while another incident is open", "session.start true", "session.start false"} {
		if seen[must] == 0 {
			t.Errorf("never saw %s (saw %v)", must, seen)
		}
	}
}

// Whoever becomes the quarantined person while it is open, by the catalog, is stopped
// where he runs.
func TestIncidentBecomesTarget(t *testing.T) {
	c := respondingCore(t, incidentRules())
	must(t, c.record(c.job("1", "10", "", "1004", 0), 0)) // eve builds, ann starts
	must(t, c.open("d-a", c.job("2", "11", "test", "1001", 0), "test", 0))
	must(t, c.claim("d-a", c.job("2", "11", "test", "1001", time.Second), time.Second))
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:bob")}, 2*time.Second))
	must(t, c.as(Caller{Workload: &lockkeeper.Workload{}}, renewLease{"d-a", HandleDigest("h")}, 3*time.Second))
	c.rules = mustRules(t, strings.Replace(incidentRules(), "kind: User\nname: eve", "kind: User\nname: eve\nperson: bob", 1))
	want(t, c.as(Caller{Workload: &lockkeeper.Workload{}}, renewLease{"d-a", HandleDigest("h")}, 4*time.Second), "quarantined")
}

// Whom a directory brought is quarantined as anybody else, and comes by no other
// document about the same directory.
func TestIncidentDirectory(t *testing.T) {
	corp := "---\n{kind: Directory, name: corp, platform: dex, issuer: 'https://id.example', client: c, admit: true}\n"
	c := respondingCore(t, incidentRules()+corp)
	said := Said{Directory: "corp", Subject: "s-zoe", Name: "zoe", At: began}
	must(t, c.as(Caller{}, startDirectorySession{Session{ID: "s-1", Secret: "x"}, said}, 0))
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Quarantine: quarantines(t, "user:zoe")}, time.Second))
	if len(c.Sessions) > 0 {
		t.Error("her session lives on")
	}
	want(t, c.as(Caller{}, startDirectorySession{Session{ID: "s-2", Secret: "x"}, said}, 2*time.Second), "quarantined")
	for name, text := range map[string]string{
		"another of the same": corp + strings.NewReplacer("name: corp", "name: again", "client: c, admit: true", "client: d").Replace(corp),
		"renamed":             strings.Replace(corp, "name: corp", "name: again", 1),
		"gone":                "",
		"another claim":       strings.Replace(corp, "client: c", "client: c, claim: uuid", 1),
	} {
		cmd := applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, incidentRules()+text)}
		if err := c.user("dora", cmd, 3*time.Second); codeOf(err) != "incident_holds" {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, incidentRules()+strings.Replace(corp, "admit: true", "admit: false", 1))}, 3*time.Second))
}

// Whoever waits for something of his own, and for the journal, gets nothing more once
// he is quarantined; and he is not whom a recovery waits for.
func TestIncidentWaiting(t *testing.T) {
	ctx := t.Context()
	k, _ := started(t, Options{})
	text := rulesWith("<more>", "---\nkind: User\nname: aud\n---\n{kind: Assignment, name: audit, role: auditor, principal: user:aud, scope: /}\n---\n{kind: Role, name: little, actions: [freezes/write]}\n---\n{kind: Assignment, name: little, role: little, principal: user:aud, scope: /, eligible: true}\n---\n{kind: ActivationRule, name: little, role: little, scope: /}\n")
	_, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), 2, "")
	must(t, err)
	aud := Caller{User: "aud"}
	id, err := k.RequestActivation(ctx, aud, "", OpenRequest{Role: "little", Scope: "/", For: time.Hour, Reason: "x"})
	must(t, err)
	v, err := k.Request(ctx, aud, id)
	must(t, err)
	size, errs := k.Size(), make(chan error, 2)
	go func() {
		_, err := k.Tail(ctx, aud, size, 10)
		errs <- err
	}()
	go func() {
		_, err := k.WaitRequest(ctx, aud, id, v.Seen())
		errs <- err
	}()
	_, err = k.DeclareIncident(ctx, Caller{User: "dora"}, "", OpenIncident{Title: "x", Quarantine: []string{"user:aud"}})
	must(t, err)
	for range 2 {
		want(t, <-errs, "quarantined")
	}
	c := respondingCore(t, incidentRules())
	must(t, c.core.record(&step{}, Caller{Keeper: true}, "", "", []event{&incidentOpened{Incident: Incident{ID: "i-a", Mode: Strict, Quarantine: quarantines(t, "user:dora")}}}, began))
	want(t, c.as(Caller{Keeper: true}, openEpoch{Number: 2, Confirmer: "dora", Reason: "x"}, 1), "administrator_unfit")
}

// A frozen pipeline is known by what makes it up, as a quarantined one is.
func TestIncidentFrozenPipeline(t *testing.T) {
	c := respondingCore(t, incidentRules())
	must(t, c.user("rita", openIncident{ID: "i-a", Title: "x", Freeze: []lockkeeper.Scope{"/projects/payments/pipelines/release"}}, 0))
	renamed := strings.NewReplacer("kind: Pipeline\nname: release", "kind: Pipeline\nname: release2", "[release/", "[release2/").Replace(incidentRules())
	want(t, c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, renamed)}, 1), "incident_holds")
}
