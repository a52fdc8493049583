package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// coolingRules are rules in which ann may activate, not so soon after her credential
// changed.
func coolingRules(t *testing.T, pairs ...string) *Rules {
	text := strings.Replace(lapsingRules, "longest: 8h", "longest: 8h, coolingOff: 1h", 1)
	text = strings.NewReplacer(append(pairs, "<more>", "\n---\n{kind: Assignment, name: anns, role: release-manager, principal: user:ann, scope: /projects/p, eligible: true}")...).Replace(text)
	return mustRules(t, text)
}

// TestAnotherWayInCoolsOff adds accounts of directories that sign in as ann, by every way
// there is: from then on nothing is activated for an hour, and what was active has ended.
func TestAnotherWayInCoolsOff(t *testing.T) {
	other := []string{"signIns: [{directory: corp, subject: ann-1}]", "signIns: [{directory: corp, subject: ann-1}, {directory: corp, subject: mallory-1}]"}
	for _, test := range []struct {
		name  string
		play  func(c *lapsingCore)
		cools bool
	}{
		{"another account in the catalog", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, other...), ID: "p-1"}, time.Minute)
		}, true},
		{"another account in the place of hers", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, "subject: ann-1", "subject: mallory-1"), ID: "p-1"}, time.Minute)
		}, true},
		{"another directory under the name", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, "https://id.example", "https://mallory.example"), ID: "p-1"}, time.Minute)
		}, true},
		{"something else of the directory", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, "groupAge: 1h", "groupAge: 2h"), ID: "p-1"}, time.Minute)
		}, false},
		{"an account of somebody else", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, "name: bob}", "name: bob, signIns: [{directory: corp, subject: bob-1}]}"), ID: "p-1"}, time.Minute)
		}, false},
		{"one account less", func(c *lapsingCore) {
			c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, ", signIns: [{directory: corp, subject: ann-1}]", ""), ID: "p-1"}, time.Minute)
		}, false},
		{"a sign-in with the account that was listed", func(c *lapsingCore) { c.signs(time.Minute) }, false},
	} {
		c := &lapsingCore{core: &core{world: world{State: newState(), rules: coolingRules(t)}}, t: t}
		must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, began.Add(-2*time.Hour)))
		c.active(0)
		test.play(c)
		if c.stands(2*time.Minute) == test.cools {
			t.Errorf("%s: what she had activated stands: %v", test.name, !test.cools)
		}
		ask := func(id string, at time.Duration) error {
			s, err := c.step(Caller{User: "ann"}, "", openRequest{ID: id, Role: "release-manager", Scope: "/projects/p", For: time.Hour, Reason: "why"}, began.Add(at))
			must(t, err)
			return s.err
		}
		if err := ask("r-2", 2*time.Minute); (codeOf(err) == "cooling_off") != test.cools {
			t.Errorf("%s: asked for within the hour: %v", test.name, err)
		}
		must(t, ask("r-3", 62*time.Minute))
	}
}

// TestBroughtAccountsCoolOff lets a directory bring ann by signing her in, and by writing
// her: her first hour activates nothing, later sign-ins and writes change nothing.
func TestBroughtAccountsCoolOff(t *testing.T) {
	rules := mustRules(t, strings.NewReplacer("<scim>", writes, "longest: 8h", "longest: 8h, coolingOff: 1h").Replace(provisionRules))
	for _, written := range []bool{false, true} {
		c := &core{world: world{State: newState(), rules: rules}}
		do := func(by Caller, cmd command, at time.Duration) error {
			s, err := c.step(by, "", cmd, began.Add(at))
			must(t, err)
			return s.err
		}
		must(t, do(Caller{Keeper: true}, firstEntry{}, 0))
		must(t, do(Caller{User: "dora"}, makeToken{"corp", "w-0", "x", 20 * time.Hour}, 0))
		signs := func(id string, at time.Duration) {
			must(t, do(Caller{}, startDirectorySession{Session{ID: id, Secret: "x"}, Said{Directory: "corp", Subject: "s-new", Name: "new", Groups: []string{"g1"}, At: began.Add(at)}}, at))
		}
		ask := func(id string, at time.Duration) error {
			return do(Caller{User: "new"}, openRequest{ID: id, Role: "operator", Scope: "/projects/p", For: time.Hour}, at)
		}
		if written {
			must(t, do(corp, createUser{"u-1", UserWrite{text("new"), text("s-new"), nil}}, 0))
			signs("s-1", 30*time.Minute)
		} else {
			signs("s-1", 0)
			must(t, do(corp, createUser{"u-1", UserWrite{text("new"), text("s-new"), nil}}, 30*time.Minute))
		}
		signs("s-2", 40*time.Minute)
		want(t, ask("r-1", 59*time.Minute), "cooling_off")
		must(t, ask("r-2", 61*time.Minute))
	}
}

// TestConfirmedAccountCoolsOff lets ann confirm an account that was linked to her long
// before: only now somebody can sign in with it.
func TestConfirmedAccountCoolsOff(t *testing.T) {
	c := &lapsingCore{core: &core{world: world{State: newState(), rules: coolingRules(t)}}, t: t}
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, began.Add(-2*time.Hour)))
	c.signs(0)
	c.do("dora", applyCatalog{Base: c.Revision.Number, Rules: coolingRules(t, "subject: ann-1}]", "subject: ann-1}, {directory: corp, subject: ann-2}]"), ID: "p-1"}, time.Minute)
	if len(c.Links) != 1 {
		t.Fatal("nothing waits for her word")
	}
	c.active(2 * time.Hour)
	c.do("ann", confirmLinks{}, 3*time.Hour)
	if c.allowed("ann", lockkeeper.ApproveDeployments, "/projects/p", began.Add(3*time.Hour)) {
		t.Error("whoever has the other account finds what she had activated")
	}
}

// TestProposedWayInCoolsOff lets a second person decide about another account of ann's.
func TestProposedWayInCoolsOff(t *testing.T) {
	second := "name: administration, role: organisation-administrator, principal: user:bob, scope: /}\n---\n{kind: Assignment, name: administration-2,"
	first := coolingRules(t, "name: administration,", second)
	next := coolingRules(t, "name: administration,", second, "coolingOff: 1h", "coolingOff: 50m", "subject: ann-1}]", "subject: ann-1}, {directory: corp, subject: ann-2}]")
	c := &lapsingCore{core: &core{world: world{State: newState(), rules: first}}, t: t}
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"},
		&accountEnrolled{User: "bob", Credential: "p", Maker: "dora"}, &accountProven{User: "bob", Token: lockkeeper.TokenIDOf("x", "bob"), Expires: began}}, began))
	c.do("dora", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, time.Minute)
	if c.Proposals["p-1"] == nil || !c.WaysIn["ann"].IsZero() {
		t.Fatal("it is no proposal, or is in force")
	}
	c.do("bob", approveProposal{Proposal: "p-1", Digest: c.Proposals["p-1"].Digest, Rules: next}, 2*time.Minute)
	if c.WaysIn["ann"] != began.Add(2*time.Minute) {
		t.Errorf("another way in since %v", c.WaysIn)
	}
}
