package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A lease falls in the decision that switches off whoever voted for it, whoever
// handed his place over, and whoever began the run; and nothing comes back with him.
func TestDepartureEndsLeases(t *testing.T) {
	directory := "---\n{kind: Directory, name: corp, platform: dex, issuer: 'https://id.example', client: c, scim: true}\n"
	listing := func(user string) string {
		return strings.ReplaceAll(apart()+directory, "name: "+user+"\n", "name: "+user+"\nsignIns: [{directory: corp, subject: s-1}]\n")
	}
	for name, test := range map[string]struct {
		who   string
		votes func(c *deploying)
		falls bool
	}{
		"voter":     {"bob", (*deploying).approved, true},
		"initiator": {"ann", (*deploying).approved, true},
		"bystander": {"eve", (*deploying).approved, false},
		"place handed over": {"bob", func(c *deploying) {
			must(t, c.user("bob", delegate{"d-a", "eve", ""}, time.Second))
			must(t, c.approve("eve", "d-a", time.Second))
			must(t, c.approve("cat", "d-a", time.Second))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := deployCore(t, listing(test.who))
			must(t, c.user("dora", makeToken{"corp", "w-0", "x", 24 * time.Hour}, 0))
			must(t, c.as(corp, createUser{"u-1", UserWrite{Name: text("x"), External: text("s-1")}}, 0))
			c.waiting("1")
			test.votes(c)
			j := c.job("1", "11", "production", "1001", 2*time.Second)
			must(t, c.claim("d-a", j, 2*time.Second))
			before := c.Size
			must(t, c.as(corp, changeUser{"u-1", UserWrite{Active: text(false)}}, 3*time.Second))
			if fell := c.Deployments["d-a"] == nil; fell != test.falls {
				t.Fatalf("the lease fell: %v", fell)
			}
			if test.falls && c.Size-before > 3 {
				t.Errorf("%d entries", c.Size-before)
			}
		})
	}
	// One that waits loses the vote, and does not get it back.
	c := deployCore(t, listing("bob"))
	must(t, c.user("dora", makeToken{"corp", "w-0", "x", 24 * time.Hour}, 0))
	must(t, c.as(corp, createUser{"u-1", UserWrite{Name: text("x"), External: text("s-1")}}, 0))
	c.waiting("1")
	c.approved()
	must(t, c.as(corp, removeUser{"u-1"}, 2*time.Second))
	want(t, c.approve("bob", "d-a", 3*time.Second), "user_off")
	must(t, c.as(corp, createUser{"u-2", UserWrite{Name: text("x"), External: text("s-1")}}, 4*time.Second))
	want(t, c.claim("d-a", c.job("1", "11", "production", "1001", 5*time.Second), 5*time.Second), "approvals_missing")
	must(t, c.approve("bob", "d-a", 6*time.Second))
	must(t, c.claim("d-a", c.job("1", "11", "production", "1001", 7*time.Second), 7*time.Second))
}

// A place that somebody handed over comes back with him no more than his votes.
func TestDepartureTakesPlacesHandedOver(t *testing.T) {
	for _, who := range []string{"bob", "eve"} {
		directory := "---\n{kind: Directory, name: corp, platform: dex, issuer: 'https://id.example', client: c, scim: true}\n"
		c := deployCore(t, strings.ReplaceAll(apart()+directory, "name: "+who+"\n", "name: "+who+"\nsignIns: [{directory: corp, subject: s-1}]\n"))
		must(t, c.user("dora", makeToken{"corp", "w-0", "x", 24 * time.Hour}, 0))
		must(t, c.as(corp, createUser{"u-1", UserWrite{Name: text("x"), External: text("s-1")}}, 0))
		c.waiting("1")
		must(t, c.user("bob", delegate{"d-a", "eve", ""}, time.Second))
		if who == "bob" {
			must(t, c.approve("eve", "d-a", time.Second))
		}
		must(t, c.as(corp, changeUser{"u-1", UserWrite{Active: text(false)}}, 2*time.Second))
		must(t, c.as(corp, changeUser{"u-1", UserWrite{Active: text(true)}}, 3*time.Second))
		if who == "eve" {
			must(t, c.approve("eve", "d-a", 4*time.Second))
		}
		must(t, c.approve("cat", "d-a", 4*time.Second))
		want(t, c.claim("d-a", c.job("1", "11", "production", "1001", 5*time.Second), 5*time.Second), "approvals_missing")
	}
}

// The last administrator who can sign in keeps his rights, and loses what is open.
func TestDepartureOfLastAdministrator(t *testing.T) {
	rules := mustRules(t, strings.NewReplacer("<scim>", writes, "{kind: User, name: dora}", "{kind: User, name: dora, signIns: [{directory: corp, subject: s-dora}]}").Replace(provisionRules))
	c := &core{world: world{State: newState(), rules: rules}}
	do := func(by Caller, cmd command) error {
		t.Helper()
		s, err := c.step(by, "", cmd, began)
		must(t, err)
		return s.err
	}
	must(t, do(Caller{Keeper: true}, firstEntry{}))
	var s step
	must(t, c.record(&s, Caller{Keeper: true}, "", "", []event{&setupCompleted{User: "dora", Credential: "p"}}, began))
	must(t, do(Caller{User: "dora"}, makeToken{"corp", "w-0", "x", 24 * time.Hour}))
	signIn := startDirectorySession{Session{ID: "s-1", Secret: "x"}, Said{Directory: "corp", Subject: "s-dora", At: began}}
	must(t, do(Caller{}, signIn))
	must(t, do(corp, createUser{"u-1", UserWrite{text("dora"), text("s-dora"), text(false)}}))
	if len(c.Sessions) != 0 {
		t.Error("the session lives on")
	}
	want(t, do(Caller{}, signIn), "account_away")
	if !c.allowed("dora", lockkeeper.EscalateAccess, "/", began) {
		t.Error("nobody administers the organisation any more")
	}
	must(t, do(Caller{}, startSession{Session: Session{ID: "s-2", User: "dora"}, Credential: "p"}))
	// And a catalog that keeps only whom a directory switched off is refused.
	both := strings.NewReplacer("<scim>", writes, "{kind: User, name: dora}", "{kind: User, name: dora}\n---\n{kind: Assignment, name: second, role: organisation-administrator, principal: 'user:eve', scope: /}").Replace(provisionRules)
	c.rules = mustRules(t, both)
	must(t, c.record(&s, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "eve", Credential: "p", Maker: "dora"}}, began))
	must(t, do(corp, createUser{"u-2", UserWrite{text("eve"), text("s-eve"), text(false)}}))
	want(t, do(Caller{User: "eve"}, makeToken{"corp", "w-1", "x", 24 * time.Hour}), "user_off")
	only := mustRules(t, strings.ReplaceAll(both, "{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}\n---\n", ""))
	want(t, do(Caller{User: "dora"}, applyCatalog{Base: c.Revision.Number, Rules: only}), "last_administrator")
}

// Who is off has given his word about nothing, and holds no token that is taken.
func TestDepartureTakesAttestations(t *testing.T) {
	c, do, try := dutyCore(t, "/projects/p/environments/e")
	try("o-1-1", 0)
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, time.Second))
	at := time.Hour
	must(t, do("", sweep{}, at))
	try("o-1-1", at)
	must(t, do("", endEffect{"o-1-1", 2, Outcome{Code: "target_failed"}, 0.5}, at+time.Second))
	at += 2 * time.Minute
	must(t, do("bob", attestDuty{"o-1-1", "dropped by hand"}, at))
	now, s := began.Add(at), step{}
	must(t, c.record(&s, Caller{Keeper: true}, "", "", []event{&tokenIssued{Token: PersonToken{ID: "t-1", User: "bob", Expires: now.Add(time.Hour)}}, &tokenIssued{Token: PersonToken{ID: "t-2", User: "cat", Expires: now.Add(time.Hour)}}, &personalMade{Token: PersonalToken{ID: "t-3", User: "bob"}}, &personalMade{Token: PersonalToken{ID: "t-4", User: "cat"}}, &catalogProposed{Proposal: Proposal{ID: "p-1", User: "bob"}}, &catalogProposed{Proposal: Proposal{ID: "p-2", User: "cat"}}}, now))
	must(t, c.record(&s, Caller{Keeper: true}, "", "", c.departs(Caller{Keeper: true}, "bob", "He left.", c.rules, now), now))
	if c.PersonalTokens["t-3"] != nil || c.PersonalTokens["t-4"] == nil {
		t.Error("his personal tokens are there still, or those of others no more")
	}
	if c.Proposals["p-1"] != nil || c.Proposals["p-2"] == nil {
		t.Error("what he proposed waits still, or what others did no more")
	}
	if !c.PersonTokens["t-1"].Revoked || c.PersonTokens["t-2"].Revoked {
		t.Error("his tokens are taken still, or those of others no more")
	}
	must(t, do("cat", attestDuty{"o-1-1", "seen"}, at+time.Second))
	if d := c.Duties["o-1-1"]; d == nil || len(d.Attested) != 1 {
		t.Errorf("%+v", d)
	}
}
