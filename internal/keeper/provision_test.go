package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// provisionRules: whoever is in red approves and may activate operator; whoever is
// in blue approves nothing.
const provisionRules = `
{kind: User, name: dora}
---
{kind: User, name: eve, signIns: [{directory: corp, subject: s-eve}]}
---
{kind: Group, name: red}
---
{kind: Group, name: blue}
---
{kind: Project, name: p}
---
{kind: Role, name: operator, actions: [deployments/start]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: red, role: release-manager, principal: group:red, scope: /projects/p}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:red, scope: /}
---
{kind: Assignment, name: operators, role: operator, principal: group:red, scope: /projects/p, eligible: true}
---
{kind: Assignment, name: blue, role: release-manager, principal: group:blue, scope: /projects/p, deny: true}
---
{kind: ActivationRule, name: op, role: operator, scope: /projects/p, longest: 8h, patience: 8h, noReason: true, approvals: [{name: red, approval: {count: 1, groups: [red]}}]}
---
{kind: Directory, name: corp, platform: dex, issuer: https://id.example, client: c, admit: true, groupAge: 1h, session: 24h, idle: 24h<scim>, groups: [{id: g1, group: red}, {id: g2, group: blue}]}
`

var (
	writes = ", scim: true"
	corp   = Caller{Directory: "corp", DirectoryToken: "w-0"}
)

func text[T any](v T) *T { return &v }

// provisioning is a core, its mirror that folds what is written, and a model of
// what the documentation says.
type provisioning struct {
	*core
	t      *rapid.T
	mirror *State
	now    lockkeeper.Moment
	n      int
	story  []string

	scim     bool
	users    map[string]string // id → subject, as written
	off      map[string]bool   // subjects
	groups   map[string]*modelGroup
	said     map[string]*modelSaid // by subject
	last     lockkeeper.Moment     // when the last token ends
	token    bool
	requests map[string]*modelAsk
	active   map[string]string // activation → subject
	lapsed   map[string]bool   // activations whose holder was not eligible at some time since
	sessions map[string]string // session → subject
}
type modelGroup struct {
	name    string
	members map[string]bool // subjects
}
type modelSaid struct {
	groups map[string]bool
	at     lockkeeper.Moment
}
type modelAsk struct {
	subject string
	votes   map[string]bool // subjects
}

var subjects = map[string]string{"s-eve": "eve", "s-bob": "bob", "s-cat": "cat"}

func (p *provisioning) do(by Caller, cmd command) error {
	p.t.Helper()
	s, err := p.step(by, "", cmd, p.now)
	if err != nil {
		p.t.Fatalf("%v; %s", err, strings.Join(p.story, "\n"))
	}
	p.story = append(p.story, fmt.Sprintf("%s %s: %s %+v: %v", p.now, by, cmd.name(), cmd, s.err))
	for _, r := range s.records {
		e, ev, err := readEntry(r.Data)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := p.mirror.apply(e, ev); err != nil {
			p.t.Fatal(err)
		}
	}
	return s.err
}

func (p *provisioning) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(p.story, "\n"))
}

func (p *provisioning) id(subject string) string {
	for id, s := range p.users {
		if s == subject {
			return id
		}
	}
	return ""
}

func (p *provisioning) told(group string) *modelGroup {
	for _, g := range p.groups {
		if p.scim && g.name == group {
			return g
		}
	}
	return nil
}

func (p *provisioning) away(subject string) bool { return p.scim && p.off[subject] }

// in is whether somebody is in a group, and whether that may still grant something.
func (p *provisioning) in(subject, group string) (is, grants bool) {
	said := p.said[subject]
	is = said != nil && said.groups[group]
	grants = is && p.now.Before(said.at.Add(time.Hour))
	if g := p.told(group); g != nil {
		grants = g.members[subject] && p.now.Before(p.last.Add(time.Hour))
		is = is || g.members[subject]
	}
	return is, grants
}

// switched is what the model forgets when somebody is off, and when he is on again.
func (p *provisioning) switched(subject string, on bool) {
	if on && !p.off[subject] {
		return
	}
	p.off[subject] = !on
	for id, r := range p.requests {
		if delete(r.votes, subject); r.subject == subject {
			delete(p.requests, id)
		}
	}
	maps.DeleteFunc(p.active, func(_, s string) bool { return s == subject })
	maps.DeleteFunc(p.sessions, func(_, s string) bool { return s == subject })
}

func (p *provisioning) unsaid(group string, of ...string) {
	for s, said := range p.said {
		if len(of) == 0 || slices.Contains(of, s) {
			delete(said.groups, group)
		}
	}
}

// write is one thing that a directory writes at random.
func (p *provisioning) write() {
	subject := rapid.SampledFrom(slices.Sorted(maps.Keys(subjects))).Draw(p.t, "subject")
	mayWrite := p.scim && p.token && p.now.Before(p.last)
	id := p.id(subject)
	switch rapid.IntRange(0, 2).Draw(p.t, "user") {
	case 0:
		on := rapid.Bool().Draw(p.t, "on")
		err := p.do(corp, createUser{fmt.Sprint("u-", p.n), UserWrite{text(subjects[subject]), text(subject), &on}})
		if (err == nil) != (mayWrite && id == "") {
			p.fail("created: %v", err)
		}
		if err == nil {
			p.users[fmt.Sprint("u-", p.n)] = subject
			p.switched(subject, on)
		}
	case 1:
		on := rapid.Bool().Draw(p.t, "on")
		err := p.do(corp, changeUser{id, UserWrite{Active: &on}})
		if (err == nil) != (mayWrite && id != "") {
			p.fail("changed: %v", err)
		}
		if err == nil {
			p.switched(subject, on)
		}
	case 2:
		err := p.do(corp, removeUser{id})
		if (err == nil) != (mayWrite && id != "") {
			p.fail("removed: %v", err)
		}
		if err == nil {
			delete(p.users, id)
			p.switched(subject, false)
			for _, g := range p.groups {
				delete(g.members, subject)
			}
		}
	}
}

func (p *provisioning) writeGroup() {
	mayWrite := p.scim && p.token && p.now.Before(p.last)
	name := rapid.SampledFrom([]string{"g1", "g2", "other"}).Draw(p.t, "group")
	var id string
	for k, g := range p.groups {
		if g.name == name {
			id = k
		}
	}
	op := rapid.SampledFrom([]string{AddMembers, RemoveMembers, ReplaceMembers}).Draw(p.t, "op")
	var ids []string
	for _, u := range slices.Sorted(maps.Keys(p.users)) {
		if rapid.Bool().Draw(p.t, u) {
			ids = append(ids, u)
		}
	}
	switch what := rapid.IntRange(0, 6).Draw(p.t, "write"); {
	case id == "":
		id = fmt.Sprint("g-", p.n)
		err := p.do(corp, createGroup{id, GroupWrite{Name: &name, Members: []MemberStep{{AddMembers, ids}}}})
		if (err == nil) != mayWrite {
			p.fail("created: %v", err)
		}
		if err == nil {
			p.groups[id] = &modelGroup{name, map[string]bool{}}
			p.stepped(id, AddMembers, ids)
		}
	case what == 0:
		if err := p.do(corp, removeGroup{id}); (err == nil) != mayWrite {
			p.fail("removed: %v", err)
		} else if err == nil {
			delete(p.groups, id)
			p.unsaid(name)
		}
	case what == 1:
		to := name + "-once"
		if err := p.do(corp, changeGroup{id, GroupWrite{Name: &to}}); err == nil {
			p.unsaid(name)
			p.groups[id].name = to
		} else if mayWrite && codeOf(err) != "already_provisioned" {
			p.fail("renamed: %v", err)
		}
	default:
		if err := p.do(corp, changeGroup{id, GroupWrite{Members: []MemberStep{{op, ids}}}}); (err == nil) != mayWrite {
			p.fail("changed: %v", err)
		} else if err == nil {
			p.stepped(id, op, ids)
		}
	}
}

func (p *provisioning) stepped(id, op string, ids []string) {
	g := p.groups[id]
	was := maps.Clone(g.members)
	if op == ReplaceMembers {
		clear(g.members)
	}
	for _, u := range ids {
		if op == RemoveMembers {
			delete(g.members, p.users[u])
		} else {
			g.members[p.users[u]] = true
		}
	}
	for s := range was {
		if !g.members[s] {
			p.unsaid(g.name, s)
		}
	}
}

// act is one thing that somebody does at random.
func (p *provisioning) act() {
	subject := rapid.SampledFrom(slices.Sorted(maps.Keys(subjects))).Draw(p.t, "who")
	by := Caller{User: subjects[subject]}
	var waiting string
	if len(p.requests) > 0 {
		waiting = rapid.SampledFrom(slices.Sorted(maps.Keys(p.requests))).Draw(p.t, "request")
	}
	var err error
	switch what := rapid.IntRange(0, 3).Draw(p.t, "act"); {
	case what == 0:
		groups := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"g1", "g2"}), 0, 2, rapid.ID).Draw(p.t, "groups")
		id := fmt.Sprint("s-", p.n)
		err = p.do(Caller{}, startDirectorySession{Session{ID: id, Secret: "x"}, Said{Directory: "corp", Subject: subject, Name: by.User, Groups: groups, At: p.now}})
		if (err == nil) != !p.away(subject) {
			p.fail("%s signs in: %v", subject, err)
		}
		if err == nil {
			p.sessions[id] = subject
			p.said[subject] = &modelSaid{map[string]bool{}, p.now}
			for _, g := range groups {
				p.said[subject].groups[g] = true
			}
		}
	case what == 1:
		id := fmt.Sprint("r-", p.n)
		if err = p.do(by, openRequest{ID: id, Role: "operator", Scope: "/projects/p", For: time.Hour}); err == nil {
			p.requests[id] = &modelAsk{subject, map[string]bool{}}
		}
	case what == 2 && waiting != "":
		if err = p.do(by, decideRequest{Request: waiting, Approve: true, Digest: p.Requests[waiting].Digest}); err == nil {
			p.requests[waiting].votes[subject] = true
		}
	case what == 3 && waiting != "":
		id := fmt.Sprint("a-", p.n)
		subject = p.requests[waiting].subject
		by.User = subjects[subject]
		if err = p.do(by, beginActivation{waiting, id}); err == nil {
			p.active[id] = p.requests[waiting].subject
			delete(p.requests, waiting)
		}
	default:
		return
	}
	if err == nil && p.away(subject) {
		p.fail("%s is off and did it", by.User)
	}
}

// lapse takes out of the model what was ended because its holder was not eligible, and
// expects of what was not ended yet that it gives nothing, also when he is again.
func (p *provisioning) lapse(active map[string]string) {
	for id, subject := range p.active {
		if _, red := p.in(subject, "g1"); !red || p.away(subject) { // by what it writes, or as the catalog lets it write again
			p.lapsed[id] = true
		}
		if active[id] == "" && p.lapsed[id] {
			delete(p.active, id)
		}
	}
	for id := range p.lapsed {
		a := p.Activations[id]
		if a == nil || !p.now.Before(a.Ends) {
			continue
		}
		if e := p.eligible(a.User, nil, a.Role, a.Scope, p.now); e.Passed(p.now) {
			p.fail("%s had lapsed, and is there again", id)
		}
	}
}

// compare compares all that the state says with the model.
func (p *provisioning) compare() {
	asks, active, sessions := map[string]*modelAsk{}, map[string]string{}, map[string]string{}
	subjectOf := map[string]string{}
	for s, user := range subjects {
		subjectOf[user] = s
	}
	for id, r := range p.Requests {
		asks[id] = &modelAsk{subjectOf[r.User], map[string]bool{}}
		for _, v := range r.Votes {
			asks[id].votes[subjectOf[v.User]] = true
		}
	}
	for id, a := range p.Activations {
		active[id] = subjectOf[a.User]
	}
	for id, s := range p.Sessions {
		sessions[id] = s.Subject
	}
	if !maps.EqualFunc(asks, p.requests, func(a, b *modelAsk) bool { return a.subject == b.subject && maps.Equal(a.votes, b.votes) }) {
		p.fail("requests and votes are not as in the model: %v %v", slices.Collect(maps.Values(asks)), slices.Collect(maps.Values(p.requests)))
	}
	p.lapse(active)
	if !maps.Equal(active, p.active) || !maps.Equal(sessions, p.sessions) {
		p.fail("activations %v, want %v; sessions %v, want %v", active, p.active, sessions, p.sessions)
	}
	again := p.rules.joined(p.State) // as at a start
	for subject, user := range subjects {
		_, red := p.in(subject, "g1")
		blue, _ := p.in(subject, "g2")
		known := p.Members[memberKey("corp", subject)] != nil
		want := red && !blue && !p.away(subject) && known
		for _, rules := range []*Rules{p.rules, again} {
			if got := rules.Access.Allowed(user, lockkeeper.ApproveDeployments, "/projects/p", p.now); got != want {
				p.fail("%s may approve: %v, want %v (red %v, blue %v, away %v)", user, got, want, red, blue, p.away(subject))
			}
		}
		if d := p.check(user, lockkeeper.ApproveDeployments, "/projects/p", p.now); want && !d.Passed(p.now) {
			p.fail("%+v", d)
		}
		if p.away(subject) {
			for _, action := range lockkeeper.Actions() {
				if p.allowed(user, action, "/projects/p", p.now) {
					p.fail("%s is off and may %s", user, action)
				}
			}
		}
	}
	one, _ := p.State.Digest()
	if two, _ := p.mirror.Digest(); one != two {
		p.fail("the state is not the fold of the journal")
	}
}

// TestProvisioning lets a directory write, people do what they may, tokens end and
// the catalog change at random. After each step nothing of somebody who is off
// counts, and nothing of it has come back with him (invariants 1, 5 and 6).
func TestProvisioning(t *testing.T) {
	laws := map[bool]*Rules{true: mustRules(t, strings.ReplaceAll(provisionRules, "<scim>", writes)), false: mustRules(t, strings.ReplaceAll(provisionRules, "<scim>", ""))}
	seen := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		p := &provisioning{core: &core{world: world{State: newState(), rules: laws[true]}}, t: rt, mirror: newState(), now: began, scim: true, token: true, last: began.Add(20 * time.Hour),
			users: map[string]string{}, off: map[string]bool{}, groups: map[string]*modelGroup{}, said: map[string]*modelSaid{}, requests: map[string]*modelAsk{}, active: map[string]string{}, lapsed: map[string]bool{}, sessions: map[string]string{}}
		dora := Caller{User: "dora"}
		must(t, p.do(Caller{Keeper: true}, firstEntry{}))
		for _, s := range []*State{p.State, p.mirror} {
			s.Accounts["dora"] = &Account{User: "dora", Credential: "p", Proven: true}
		}
		must(t, p.do(dora, makeToken{"corp", "w-0", "x", 20 * time.Hour}))
		for i, subject := range []string{"s-bob", "s-cat", "s-eve"} {
			id := fmt.Sprint("u-first-", i)
			must(t, p.do(corp, createUser{id, UserWrite{text(subjects[subject]), text(subject), nil}}))
			p.users[id] = subject
		}
		if rapid.IntRange(0, 3).Draw(rt, "all may") > 0 {
			all := slices.Sorted(maps.Keys(p.users))
			must(t, p.do(corp, createGroup{"g-first", GroupWrite{Name: text("g1"), Members: []MemberStep{{AddMembers, all}}}}))
			p.groups["g-first"] = &modelGroup{"g1", map[string]bool{}}
			p.stepped("g-first", AddMembers, all)
		}
		for p.n = range rapid.IntRange(20, 120).Draw(rt, "steps") {
			switch what := rapid.IntRange(0, 19).Draw(rt, "what"); {
			case what < 3:
				p.write()
			case what < 5:
				p.writeGroup()
			case what < 17:
				p.act()
			case what == 17:
				p.now = p.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
			case what == 18:
				p.scim = !p.scim
				must(t, p.do(dora, applyCatalog{Base: p.Revision.Number, Rules: laws[p.scim], ID: "p-1"}))
				maps.DeleteFunc(p.sessions, func(_, subject string) bool { return p.away(subject) })
				p.story = append(p.story, fmt.Sprint("scim is ", p.scim))
			case p.token && rapid.IntRange(0, 3).Draw(rt, "end") == 0:
				must(t, p.do(dora, endToken{"corp", "w-0"}))
				p.token = false
				if p.now.Before(p.last) {
					p.last = p.now
				}
			}
			p.compare()
			for s := range subjects {
				if p.away(s) {
					seen["away"]++
				}
			}
			seen["active"] += len(p.active)
			seen["lapsed"] += len(p.lapsed)
			for _, r := range p.requests {
				seen["votes"] += len(r.votes)
			}
		}
	})
	t.Log(seen)
	for _, must := range []string{"away", "active", "votes", "lapsed"} {
		if seen[must] < 10 {
			t.Errorf("the sequences are too dull: %v", seen)
		}
	}
}

// Tokens are made by whoever could grant everything himself, within bounds, and
// write for their directory alone.
func TestDirectoryTokens(t *testing.T) {
	other := "---\n{kind: Directory, name: other, platform: dex, issuer: 'https://other.example', client: c, scim: true}\n---\n{kind: Directory, name: mute, platform: dex, issuer: 'https://mute.example', client: c}\n" +
		"---\n{kind: User, name: adam}\n---\n{kind: Assignment, name: adam, role: access-administrator, principal: 'user:adam', scope: /}\n"
	c := &core{world: world{State: newState(), rules: mustRules(t, strings.ReplaceAll(provisionRules, "<scim>", writes)+other)}}
	at := began
	do := func(by Caller, cmd command) error {
		t.Helper()
		s, err := c.step(by, "", cmd, at)
		must(t, err)
		return s.err
	}
	dora := Caller{User: "dora"}
	must(t, do(Caller{Keeper: true}, firstEntry{}))
	want(t, do(Caller{User: "eve"}, makeToken{"corp", "w-0", "x", time.Hour}), "not_granted")
	want(t, do(Caller{User: "adam"}, makeToken{"corp", "w-0", "x", time.Hour}), "not_granted")
	want(t, do(dora, makeToken{"mute", "w-0", "x", time.Hour}), "scim_missing")
	want(t, do(dora, makeToken{"corp", "w-0", "x", time.Minute}), "duration_out_of_bounds")
	want(t, do(dora, makeToken{"corp", "w-0", "x", 400 * 24 * time.Hour}), "duration_out_of_bounds")
	for i := range maxWriteTokens {
		must(t, do(dora, makeToken{"corp", fmt.Sprint("w-", i), "x", time.Hour}))
	}
	want(t, do(dora, makeToken{"corp", "w-9", "x", time.Hour}), "tokens_many")
	must(t, do(dora, makeToken{"other", "w-other", "x", time.Hour}))
	must(t, do(corp, createUser{"u-1", UserWrite{Name: text("bob"), External: text("s-bob")}}))
	stranger := Caller{Directory: "other", DirectoryToken: "w-other"}
	for _, cmd := range []command{changeUser{"u-1", UserWrite{Active: text(false)}}, removeUser{"u-1"}, createGroup{"g-1", GroupWrite{Name: text("g1"), Members: []MemberStep{{AddMembers, []string{"u-1"}}}}}} {
		if code := codeOf(do(stranger, cmd)); code != "resource_missing" && code != "member_unknown" {
			t.Errorf("%s: %s", cmd.name(), code)
		}
	}
	want(t, do(Caller{Directory: "corp", DirectoryToken: "w-other"}, removeUser{"u-1"}), "directory_token_unknown")
	must(t, do(Caller{User: "adam"}, endToken{"corp", "w-0"}))
	want(t, do(corp, removeUser{"u-1"}), "directory_token_unknown")
	at = began.Add(time.Hour)
	want(t, do(Caller{Directory: "corp", DirectoryToken: "w-1"}, removeUser{"u-1"}), "directory_token_unknown")
	must(t, do(dora, makeToken{"corp", "w-9", "x", time.Hour}))
	if n := len(c.Provisioned["corp"].Tokens); n != 1 {
		t.Errorf("%d tokens are kept", n)
	}
}

// What a directory wrote is asked for at a past instant as it was then, and is the
// same after a start.
func TestPastProvisioning(t *testing.T) {
	ctx := context.Background()
	var clock time.Duration
	start := time.Now().Add(-1500 * time.Hour).Truncate(time.Second)
	options := Options{Clock: func() time.Time { return start.Add(clock) }}
	k, dir := started(t, options)
	dora := Caller{User: "dora"}
	revision, _ := k.Revision()
	_, err := k.Apply(ctx, dora, readRules(t, strings.ReplaceAll(provisionRules, "<scim>", writes)), revision.Number, "")
	must(t, err)
	secret, _, err := k.MakeDirectoryToken(ctx, dora, "corp", 1200*time.Hour)
	must(t, err)
	var by Caller
	for n := range perToken.burst + 1 {
		if by, err = k.Writer(secret, "here"); (err == nil) != (n < perToken.burst) {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	_, _, err = k.SignInBy(ctx, Said{Directory: "corp", Subject: "s-bob", Name: "bob", Groups: []string{"g1"}, At: k.now()})
	must(t, err)
	instants := map[string]lockkeeper.Moment{}
	then := func(name string) {
		instants[name] = k.now()
		clock += time.Minute
	}
	then("said")
	u, err := k.CreateUser(ctx, by, UserWrite{Name: text("Bob@example.com"), External: text("s-bob")})
	must(t, err)
	if u.User != "bob" || u.UserName != "Bob@example.com" {
		t.Errorf("%+v", u)
	}
	g, err := k.CreateGroup(ctx, by, GroupWrite{Name: text("g1")})
	must(t, err)
	then("not a member")
	clock += 800 * time.Hour
	_, err = k.ChangeGroup(ctx, by, g.ID, GroupWrite{Members: []MemberStep{{AddMembers, []string{u.ID}}}})
	must(t, err)
	then("member")
	_, err = k.ChangeUser(ctx, by, u.ID, UserWrite{Active: text(false)})
	must(t, err)
	then("off")
	_, err = k.ChangeUser(ctx, by, u.ID, UserWrite{Active: text(true)})
	must(t, err)
	then("on again")
	clock = 1200*time.Hour + 59*time.Minute
	then("nobody can write any more")
	clock = 1201*time.Hour + time.Minute
	then("believed no more")
	wanted := map[string]bool{"said": true, "member": true, "on again": true, "nobody can write any more": true}
	for range 2 {
		for name, at := range instants {
			p, err := k.Past(ctx, dora, at)
			must(t, err)
			if d := p.Can("bob", lockkeeper.ApproveDeployments, "/projects/p"); d.Passed(at) != wanted[name] {
				t.Errorf("%s: %+v", name, d)
			}
		}
		must(t, k.Close())
		if k, err = openKeeper(ctx, dir, options); err != nil {
			t.Fatal(err)
		}
	}
	k.Close()
}

// What a person is called is found by, shown and changed, and stands in no entry.
func TestUserNameStandsInNoEntry(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	dora := Caller{User: "dora"}
	revision, _ := k.Revision()
	_, err := k.Apply(ctx, dora, readRules(t, strings.ReplaceAll(provisionRules, "<scim>", writes)), revision.Number, "")
	must(t, err)
	secret, _, err := k.MakeDirectoryToken(ctx, dora, "corp", time.Hour)
	must(t, err)
	by, err := k.Writer(secret, "here")
	must(t, err)
	if _, err := k.Writer(secret[:len(secret)-1], "here"); codeOf(err) != "directory_token_unknown" {
		t.Error(err)
	}
	u, err := k.CreateUser(ctx, by, UserWrite{Name: text("Robert@Example.com"), External: text("s-bob")})
	must(t, err)
	_, err = k.ChangeUser(ctx, by, u.ID, UserWrite{Name: text("bobby@example.com")})
	must(t, err)
	for name, total := range map[string]int{"BOBBY@example.com": 1, "robert@example.com": 0} {
		list, n, err := k.ProvisionedUsers(ctx, by, []Match{{"userName", name}}, Page{Limit: 10})
		must(t, err)
		if n != total || len(list) != total || total == 1 && (list[0].UserName != "bobby@example.com" || list[0].User != "robert") {
			t.Errorf("%s: %d %+v", name, n, list)
		}
	}
	must(t, k.RemoveUser(ctx, by, u.ID))
	for stored, err := range k.journal.Entries(ctx, 0, 0) {
		must(t, err)
		if s := strings.ToLower(string(stored.Data)); strings.Contains(s, "example.com") || strings.Contains(s, strings.ToLower(secret)) {
			t.Errorf("%s", s)
		}
	}
	if _, err := k.sealed.Get(ctx, userNameKind, u.ID); lockkeeper.KindOf(err) != lockkeeper.NotFound {
		t.Errorf("the name is kept: %v", err)
	}
}

// BenchmarkProvisioning is what one write costs where a directory wrote many users.
func BenchmarkProvisioning(b *testing.B) {
	for _, n := range []int{1000, 5000, 20_000} {
		c := &core{world: world{State: newState(), rules: mustRules(b, strings.ReplaceAll(provisionRules, "<scim>", writes))}}
		write := func(cmd command) {
			if s, err := c.step(corp, "", cmd, began); err != nil || s.err != nil {
				b.Fatal(err, s.err)
			}
		}
		if s, err := c.step(Caller{User: "dora"}, "", makeToken{"corp", "w-0", "x", time.Hour}, began); err != nil || s.err != nil {
			b.Fatal(err, s.err)
		}
		p, all := c.writing("corp"), []string{}
		for i := range n {
			id, subject := fmt.Sprint("u-", i), fmt.Sprint("s-", i)
			p.Users[id] = subject
			c.Members[memberKey("corp", subject)] = &Member{Directory: "corp", Subject: subject, User: fmt.Sprint("user-", i), Provision: &Provision{ID: id, Name: nameDigest("corp", id)}}
			all = append(all, id)
		}
		write(createGroup{"g-1", GroupWrite{Name: text("g1"), Members: []MemberStep{{AddMembers, all}}}})
		b.Run(fmt.Sprint("user-", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				write(createUser{fmt.Sprint("u-new-", n, "-", i), UserWrite{Name: text(fmt.Sprint("new-", n, "-", i)), External: text(fmt.Sprint("new-", n, "-", i))}})
			}
		})
		b.Run(fmt.Sprint("off-", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				write(changeUser{"u-1", UserWrite{Active: text(i%2 == 0)}})
			}
		})
		b.Run(fmt.Sprint("group-", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				write(changeGroup{"g-1", GroupWrite{Members: []MemberStep{{[]string{AddMembers, RemoveMembers}[i%2], []string{"u-2"}}}}})
			}
		})
	}
}

// Whom a directory takes out of a group is denied no more what a sign-in before said
// he was denied; that the directory begins to write the group lets nobody through.
func TestRemovalTakesOlderWords(t *testing.T) {
	c := &core{world: world{State: newState(), rules: mustRules(t, strings.ReplaceAll(provisionRules, "<scim>", writes))}}
	do := func(by Caller, cmd command) {
		t.Helper()
		s, err := c.step(by, "", cmd, began)
		must(t, err)
		must(t, s.err)
	}
	may := func(want bool, when string) {
		t.Helper()
		if got := c.rules.Access.Allowed("bob", lockkeeper.ApproveDeployments, "/projects/p", began); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	do(Caller{Keeper: true}, firstEntry{})
	do(Caller{User: "dora"}, makeToken{"corp", "w-0", "x", time.Hour})
	do(corp, createUser{"u-1", UserWrite{Name: text("bob"), External: text("s-bob")}})
	do(Caller{}, startDirectorySession{Session{ID: "s-1", Secret: "x"}, Said{Directory: "corp", Subject: "s-bob", Name: "bob", Groups: []string{"g2"}, At: began}})
	do(corp, createGroup{"g-1", GroupWrite{Name: text("g1"), Members: []MemberStep{{AddMembers, []string{"u-1"}}}}})
	may(false, "said to be denied")
	do(corp, createGroup{"g-2", GroupWrite{Name: text("g2")}})
	may(false, "the group is written, and nobody in it yet")
	do(corp, changeGroup{"g-2", GroupWrite{Members: []MemberStep{{AddMembers, []string{"u-1"}}}}})
	may(false, "written to be denied")
	do(corp, changeGroup{"g-2", GroupWrite{Members: []MemberStep{{RemoveMembers, []string{"u-1"}}}}})
	may(true, "taken out")
}
