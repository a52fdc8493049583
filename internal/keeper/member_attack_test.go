package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const memberBase = `
{kind: User, name: dora}
---
{kind: Project, name: p}
---
{kind: Group, name: red}
---
{kind: Group, name: admins}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: admins, role: organisation-administrator, principal: group:admins, scope: /}
---
{kind: Assignment, name: red, role: release-manager, principal: group:red, scope: /projects/p}
`
const memberDirectory = `---
{kind: Directory, name: corp, platform: dex, issuer: 'https://id.example', client: c, admit: true, groupAge: 1h, groups: [{id: g1, group: red}, {id: ga, group: admins}]}
`

func cameIn(t *testing.T, c *core, id, subject, name string, at, said time.Duration, groups ...string) (string, error) {
	t.Helper()
	s, err := c.step(Caller{}, "", startDirectorySession{Session{ID: id, Secret: "x"}, Said{Directory: "corp", Subject: subject, Name: name, Groups: groups, At: began.Add(said)}}, began.Add(at))
	must(t, err)
	if s.err != nil {
		return "", s.err
	}
	return c.Sessions[id].User, nil
}

func memberCore(t *testing.T, rules *Rules) *core {
	c := &core{world: world{State: newState(), rules: rules}}
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}, began))
	return c
}

func putInForce(t *testing.T, c *core, rules *Rules, at time.Duration) {
	t.Helper()
	s := step{rules: rules}
	must(t, c.record(&s, Caller{Keeper: true}, "", "", []event{revisionOf(rules.ofCatalog(), c.Revision.Number+1)}, began.Add(at)))
}

// 1: mallory calls himself what the fallback of dora's directory account will be.
func TestMemberFallbackName(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory))
	victim := Said{Directory: "corp", Subject: "s-victim", Name: "dora"} // a name that is taken
	wish := c.freeName("corp", victim)
	mallory, err := cameIn(t, c, "s-1", "s-mallory", wish, 0, 0)
	must(t, err)
	user, err := cameIn(t, c, "s-2", "s-victim", "dora", time.Minute, time.Minute, "ga")
	must(t, err)
	if user == mallory {
		t.Errorf("two accounts are %s; mallory's session may escalate: %v", user, c.allowed(mallory, lockkeeper.EscalateAccess, "/", began.Add(2*time.Minute)) && c.session(Caller{User: mallory, Session: "s-1"}, began.Add(2*time.Minute)) == nil)
	}
}

// 2: an older statement is redeemed after a newer one.
func TestMemberOlderStatement(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory))
	_, err := cameIn(t, c, "s-1", "s-bob", "bob", 5*time.Minute, 5*time.Minute) // in no group any more
	must(t, err)
	_, err = cameIn(t, c, "s-2", "s-bob", "bob", 6*time.Minute, 0, "ga") // said before, redeemed now
	want(t, err, "sign_in_overtaken")
	if c.allowed("bob", lockkeeper.EscalateAccess, "/", began.Add(50*time.Minute)) {
		t.Error("what was said before counts over what was said after")
	}
}

// 3: the others' groups are too old: whoever is awake is alone.
func TestMemberAloneByAge(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory))
	_, err := cameIn(t, c, "s-1", "s-bob", "bob", 0, 0, "ga")
	must(t, err)
	weaker := mustRules(t, memberBase+memberDirectory+"---\n{kind: User, name: evil, signIns: [{directory: corp, subject: s-evil}]}\n")
	for _, at := range []time.Duration{time.Minute, 61 * time.Minute} {
		s, err := c.step(Caller{User: "dora"}, "", applyCatalog{Rules: weaker, ID: fmt.Sprint("p-", int(at.Minutes()))}, began.Add(at))
		must(t, err)
		must(t, s.err)
		if a := s.answer.(applied); a.Proposal == "" {
			t.Errorf("after %s dora applies it alone: %+v", at, a)
		}
	}
}

// 3b: the same with the last closer.
func TestMemberLastCloserByAge(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory+"---\n{kind: User, name: rita}\n---\n{kind: Assignment, name: rita, role: organisation-administrator, principal: user:rita, scope: /}\n"))
	c.Accounts["rita"] = &Account{User: "rita", Credential: "p", Proven: true}
	_, err := cameIn(t, c, "s-1", "s-bob", "bob", 0, 0, "ga")
	must(t, err)
	for _, at := range []time.Duration{time.Minute, 61 * time.Minute} {
		s, err := c.step(Caller{User: "rita"}, "", openIncident{ID: fmt.Sprint("i-", int(at.Minutes())), Title: "x", Quarantine: quarantines(t, "user:dora")}, began.Add(at))
		must(t, err)
		if s.err != nil {
			t.Errorf("after %s: %v", at, s.err)
		} else {
			s, err = c.step(Caller{Keeper: true}, "", closeIncident{fmt.Sprint("i-", int(at.Minutes())), "x"}, began.Add(at))
			must(t, err)
			must(t, s.err)
		}
	}
}

// 4: an epoch keeps what the older copy believed.
func TestMemberEpoch(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory+"---\n{kind: User, name: bob, signIns: [{directory: corp, subject: s-bob}]}\n"))
	c.Accounts["bob"] = &Account{User: "bob", Credential: "p", Proven: true}
	_, err := cameIn(t, c, "s-1", "s-bob", "bob", 0, 0, "ga")
	must(t, err)
	must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&epochOpened{Number: 2, Confirmer: "dora"}, &epochConfirmed{User: "dora"}}, began.Add(time.Minute)))
	s, err := c.step(Caller{}, "", startSession{Session: Session{ID: "s-2", User: "bob"}, Credential: "p"}, began.Add(2*time.Minute))
	must(t, err)
	must(t, s.err)
	if c.allowed("bob", lockkeeper.EscalateAccess, "/", began.Add(2*time.Minute)) {
		t.Error("a group said before the epoch gives a right after it, to a password")
	}
}

// 5: to take a user out of the catalog makes somebody else of him, or switches him on.
func TestMemberRemovedUser(t *testing.T) {
	two := "---\n{kind: User, name: bob, signIns: [{directory: corp, subject: s-bob}]}\n"
	linked := two + "---\n{kind: User, name: bob-admin, person: bob, signIns: [{directory: corp, subject: s-bob2}]}\n"
	off := two + "---\n{kind: User, name: carl, off: true, signIns: [{directory: corp, subject: s-carl}]}\n"
	ada := "---\n{kind: User, name: ada}\n---\n{kind: Assignment, name: ada, role: access-administrator, principal: user:ada, scope: /}\n"
	{
		c := memberCore(t, mustRules(t, memberBase+memberDirectory+ada+linked))
		c.Accounts["ada"] = &Account{User: "ada", Credential: "p", Proven: true}
		_, err := cameIn(t, c, "s-1", "s-bob2", "bob-admin", 0, 0, "g1")
		must(t, err)
		s, err := c.step(Caller{User: "ada"}, "", applyCatalog{Rules: mustRules(t, memberBase+memberDirectory+ada+two), ID: "p-1"}, began)
		must(t, err)
		if s.err == nil && s.answer.(applied).Proposal == "" {
			t.Errorf("ada, without escalate and without a second person: bob-admin is %v and holds: %v, session %v", c.persons("bob-admin"), c.allowed("bob-admin", lockkeeper.ApproveDeployments, "/projects/p", began), c.session(Caller{User: "bob-admin", Session: "s-1"}, began))
		}
	}
	{
		c := memberCore(t, mustRules(t, memberBase+memberDirectory+ada+off))
		c.Accounts["ada"] = &Account{User: "ada", Credential: "p", Proven: true}
		_, err := cameIn(t, c, "s-1", "s-carl", "carl", 0, 0, "ga")
		want(t, err, "user_off")
		s, err := c.step(Caller{User: "ada"}, "", applyCatalog{Rules: mustRules(t, memberBase+memberDirectory+ada+two), ID: "p-1"}, began)
		must(t, err)
		if s.err == nil && s.answer.(applied).Proposal == "" {
			user, err := cameIn(t, c, "s-2", "s-carl", "carl", 0, 0, "ga")
			t.Errorf("ada alone takes carl, who is off, out; he signs in as %q %v and may escalate: %v", user, err, c.allowed("carl", lockkeeper.EscalateAccess, "/", began))
		}
	}
}

// 6: another issuer under the same name: sessions and groups of the old one live on.
func TestMemberOtherIssuer(t *testing.T) {
	c := memberCore(t, mustRules(t, memberBase+memberDirectory))
	_, err := cameIn(t, c, "s-1", "7", "mallory", 0, 0, "ga")
	must(t, err)
	putInForce(t, c, mustRules(t, memberBase), time.Minute)
	if c.session(Caller{User: "mallory", Session: "s-1"}, began.Add(time.Minute)) == nil {
		t.Error("a session goes on without its directory")
	}
	other := "---\n{kind: Directory, name: corp, platform: dex, issuer: 'https://other.example', client: d, admit: true, groupAge: 1h, groups: [{id: ga, group: admins}]}\n"
	putInForce(t, c, mustRules(t, memberBase+other), 2*time.Minute)
	if c.session(Caller{User: "mallory", Session: "s-1"}, began.Add(2*time.Minute)) == nil && c.allowed("mallory", lockkeeper.EscalateAccess, "/", began.Add(2*time.Minute)) {
		t.Error("a session and a group of the issuer before are alive again under another issuer")
	}
	user, err := cameIn(t, c, "s-2", "7", "ann", 3*time.Minute, 3*time.Minute)
	must(t, err)
	if user == "mallory" {
		t.Error("the account 7 of another issuer is mallory")
	}
}

// 7: off and on, unlisted and listed: the session that ended lives.
func TestMemberSessionBack(t *testing.T) {
	bob := "---\n{kind: User, name: bob, signIns: [{directory: corp, subject: s-bob}]}\n"
	c := memberCore(t, mustRules(t, memberBase+memberDirectory+bob))
	_, err := cameIn(t, c, "s-1", "s-bob", "bob", 0, 0)
	must(t, err)
	for i, in := range []string{"---\n{kind: User, name: bob, off: true, signIns: [{directory: corp, subject: s-bob}]}\n", "---\n{kind: User, name: bob}\n"} {
		putInForce(t, c, mustRules(t, memberBase+memberDirectory+in), time.Duration(2*i+1)*time.Minute)
		if c.session(Caller{User: "bob", Session: "s-1"}, began.Add(time.Minute)) == nil {
			t.Error("holds")
		}
		_, err := c.step(Caller{Keeper: true}, "", sweep{}, began.Add(time.Duration(2*i+1)*time.Minute))
		must(t, err)
		putInForce(t, c, mustRules(t, memberBase+memberDirectory+bob), time.Duration(2*i+2)*time.Minute)
		if c.session(Caller{User: "bob", Session: "s-1"}, began.Add(2*time.Minute)) == nil {
			t.Errorf("a session that ended is back: %q", in)
		}
	}
}

// 13: one scope less, and a deny is escaped; nobody else is asked.
func TestMemberScopes(t *testing.T) {
	deny := "---\n{kind: Assignment, name: no, role: release-manager, principal: group:red, scope: /, deny: true}\n---\n{kind: User, name: ada}\n---\n{kind: Assignment, name: ada, role: access-administrator, principal: user:ada, scope: /}\n"
	c := memberCore(t, mustRules(t, memberBase+memberDirectory+deny))
	c.Accounts["ada"] = &Account{User: "ada", Credential: "p", Proven: true}
	less := "---\n{kind: Directory, name: corp, platform: dex, issuer: 'https://id.example', client: c, admit: true, scopes: [profile], groupAge: 1h, groups: [{id: g1, group: red}, {id: ga, group: admins}]}\n"
	s, err := c.step(Caller{User: "ada"}, "", applyCatalog{Rules: mustRules(t, memberBase+less+deny), ID: "p-1"}, began)
	must(t, err)
	if s.err == nil && s.answer.(applied).Proposal == "" {
		t.Error("groups are not asked for any more, and nobody else decided it")
	}
}

// S: a personal token made by an account of another issuer.
func TestMemberTokenOtherIssuer(t *testing.T) {
	bob := "---\n{kind: User, name: bob, signIns: [{directory: corp, subject: \"7\"}]}\n"
	c := memberCore(t, mustRules(t, memberBase+memberDirectory+bob))
	_, err := cameIn(t, c, "s-1", "7", "bob", 0, 0, "ga")
	must(t, err)
	s, err := c.step(Caller{User: "bob", Session: "s-1"}, "", makePersonal{ID: "k-1", Secret: "x", Name: "n", Patterns: []string{"*/read"}, Scope: "/", For: 300 * 24 * time.Hour}, began)
	must(t, err)
	must(t, s.err)
	putInForce(t, c, mustRules(t, memberBase+strings.Replace(memberDirectory, "https://id.example", "https://other.example", 1)+bob), time.Minute)
	_, err = c.step(Caller{Keeper: true}, "", sweep{}, began.Add(100*24*time.Hour))
	must(t, err)
	if c.personal(Caller{User: "bob", Token: "k-1"}, began.Add(100*24*time.Hour)) == nil {
		t.Error("the token that an account of the issuer before made holds under another issuer")
	}
}

// Whoever may not escalate makes nobody's way in who may, and none beside a directory's.
func TestMemberInvitationsDoNotEscalate(t *testing.T) {
	text := memberBase + strings.Replace(memberDirectory, ", admit: true", "", 1) + "---\n{kind: User, name: ada}\n---\n{kind: User, name: eva}\n---\n{kind: User, name: bob, signIns: [{directory: corp, subject: s-bob}]}\n---\n{kind: User, name: cat}\n" +
		"---\n{kind: Assignment, name: ada, role: access-administrator, principal: user:ada, scope: /}\n---\n{kind: Assignment, name: eva, role: organisation-administrator, principal: user:eva, scope: /projects/p, eligible: true}\n---\n{kind: ActivationRule, name: r, role: organisation-administrator, scope: /}\n"
	c := memberCore(t, mustRules(t, text))
	c.Accounts["ada"] = &Account{User: "ada", Credential: "p", Proven: true}
	for user, code := range map[string]string{"dora": "escalation", "eva": "escalation", "bob": "escalation", "cat": "", "ada": ""} {
		for by, free := range map[string]bool{"ada": false, "dora": true} {
			s, err := c.step(Caller{User: by}, "", inviteAccount{user, "sha256:x"}, began)
			must(t, err)
			if s.err != nil && (free || codeOf(s.err) != code) || s.err == nil && !free && code != "" {
				t.Errorf("%s invites %s: %v", by, user, s.err)
			}
		}
	}
}
