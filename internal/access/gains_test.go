package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// edit makes one random change of everything that decides who may do what. The
// draws are printed when a property fails.
func edit(t *rapid.T, c *catalog.Catalog) {
	assignment := func() (catalog.Assignment, bool) {
		names := slices.Sorted(maps.Keys(c.Assignments))
		if len(names) == 0 {
			return catalog.Assignment{}, false
		}
		return c.Assignments[rapid.SampledFrom(names).Draw(t, "which")], true
	}
	changed := func(f func(a *catalog.Assignment)) {
		if a, is := assignment(); is {
			a.Except = slices.Clone(a.Except)
			f(&a)
			c.Assignments[a.Name] = a
		}
	}
	groups, users := slices.Sorted(maps.Keys(c.Groups)), slices.Sorted(maps.Keys(c.Users))
	switch rapid.SampledFrom([]string{"role", "notActions", "add", "remove", "scope", "condition", "time", "eligible", "deny", "except", "here", "join", "leave", "nest", "unnest", "off"}).Draw(t, "edit") {
	case "role":
		r := c.Roles[fmt.Sprint("r", rapid.IntRange(0, 3).Draw(t, "role"))]
		r.Actions = rapid.SliceOfN(rapid.SampledFrom(patterns), 1, 3).Draw(t, "actions")
		c.Roles[r.Name] = r
	case "notActions":
		r := c.Roles[fmt.Sprint("r", rapid.IntRange(0, 3).Draw(t, "role"))]
		r.NotActions = rapid.SliceOfN(rapid.SampledFrom(patterns[1:]), 0, 1).Draw(t, "notActions")
		c.Roles[r.Name] = r
	case "add":
		if a, is := assignment(); is {
			a.Name = "new"
			a.Principal = user(rapid.SampledFrom(users).Draw(t, "to"))
			c.Assignments[a.Name] = a
		}
	case "remove":
		if a, is := assignment(); is {
			delete(c.Assignments, a.Name)
		}
	case "scope":
		changed(func(a *catalog.Assignment) {
			a.Scope = rapid.SampledFrom([]lockkeeper.Scope{"/", "/projects/p", "/projects/p/environments/e", "/projects/p2"}).Draw(t, "scope")
		})
	case "condition":
		changed(func(a *catalog.Assignment) {
			a.Condition = rapid.SampledFrom(append(slices.Sorted(maps.Keys(conditions)), "", "")).Draw(t, "condition")
		})
	case "time":
		changed(func(a *catalog.Assignment) {
			a.Start, a.End = lockkeeper.Moment{}, at(rapid.IntRange(1, 30).Draw(t, "end"))
		})
	case "eligible":
		changed(func(a *catalog.Assignment) { a.Eligible = !a.Eligible && !a.Deny })
	case "deny":
		changed(func(a *catalog.Assignment) { a.Deny, a.Eligible = !a.Deny, false; a.Except, a.Here = nil, false })
	case "except":
		changed(func(a *catalog.Assignment) {
			if a.Deny {
				a.Except = append(a.Except, user(rapid.SampledFrom(users).Draw(t, "spared")))
			}
		})
	case "here":
		changed(func(a *catalog.Assignment) { a.Here = a.Deny && !a.Here })
	case "off":
		u := c.Users[rapid.SampledFrom(users).Draw(t, "who")]
		u.Off = !u.Off
		c.Users[u.Name] = u
	default:
		regroup(t, c, groups, users)
	}
}

func regroup(t *rapid.T, c *catalog.Catalog, groups, users []string) {
	if len(groups) < 2 {
		return
	}
	g := c.Groups[rapid.SampledFrom(groups[1:]).Draw(t, "group")]
	inner, who := groups[0], rapid.SampledFrom(users).Draw(t, "member")
	g.Users, g.Groups = slices.DeleteFunc(slices.Clone(g.Users), func(u string) bool { return u == who }), slices.DeleteFunc(slices.Clone(g.Groups), func(o string) bool { return o == inner })
	switch rapid.IntRange(0, 2).Draw(t, "how") {
	case 0:
		g.Users = append(g.Users, who)
	case 1:
		g.Groups = append(g.Groups, inner)
	}
	c.Groups[g.Name] = g
}

func cloned(c *catalog.Catalog) *catalog.Catalog {
	out := *c
	out.Users, out.Groups, out.Roles, out.Assignments = maps.Clone(c.Users), maps.Clone(c.Groups), maps.Clone(c.Roles), maps.Clone(c.Assignments)
	return &out
}

// activated is c as if everybody had activated all that he may.
func activated(c *catalog.Catalog) *catalog.Catalog {
	out := cloned(c)
	for name, a := range out.Assignments {
		a.Eligible = false
		out.Assignments[name] = a
	}
	return out
}

// TestGainsAgainstModel edits catalogs at random. Where Gains finds nothing beyond
// what the granter holds, the reference must find nothing either: of nobody, of no
// action, nowhere, and at no moment to come.
func TestGainsAgainstModel(t *testing.T) {
	held, quiet, told := 0, 0, 0
	actions := []lockkeeper.Action{lockkeeper.ApproveDeployments, lockkeeper.StartDeployments, lockkeeper.ReadChanges, lockkeeper.ReviewChanges, lockkeeper.ReadJournal, lockkeeper.WriteAccess}
	lively(t, func() bool { return !(quiet < 10 || told < 10 || held < 100) }, func(t *rapid.T) {
		w := drawWorld(t)
		for name, a := range w.c.Assignments {
			a.Eligible = !a.Deny && rapid.IntRange(0, 4).Draw(t, "eligible") == 0
			w.c.Assignments[name] = a
		}
		next, now, granter := cloned(w.c), rapid.IntRange(0, 25).Draw(t, "now"), w.users[0]
		for range rapid.IntRange(1, 8).Draw(t, "edits") {
			edit(t, next)
		}
		if gains := New(next).Gains(New(w.c), granter, at(now)); len(gains) > 0 {
			told++
			return
		}
		quiet++
		could, can := activated(w.c), activated(next)
		for _, who := range w.users {
			for _, scope := range w.scopes {
				for _, action := range actions {
					for _, n := range []int{now, now + 1, 10, 20, 29, 40} {
						m := at(n)
						if n < now || reference(w.c, granter, action, scope, m) && reference(w.c, granter, action, scope, at(now)) {
							held++
							continue
						}
						if reference(next, who, action, scope, m) && !reference(w.c, who, action, scope, m) {
							t.Fatalf("%s gains %s at %s, moment %d, which %s does not hold, and Gains says nothing", who, action, scope, n, granter)
						}
						if reference(can, who, action, scope, m) && !reference(could, who, action, scope, m) {
							t.Fatalf("%s may come to gain %s at %s, moment %d, which %s does not hold, and Gains says nothing", who, action, scope, n, granter)
						}
					}
				}
			}
		}
	})
	if !t.Failed() && (quiet < 10 || told < 10 || held < 100) {
		t.Errorf("%d edits gave nobody anything, %d did, %d questions were the granter's own: too dull", quiet, told, held)
	}
}

// TestGainsExactly: where nothing hangs on time, conditions or denies, Gains lists
// exactly who gains which kind of action where, those that do not exist yet too.
func TestGainsExactly(t *testing.T) {
	some, none := 0, 0
	gives := func(c *catalog.Catalog, who string, kind lockkeeper.Action, scope lockkeeper.Scope) bool {
		u := c.Users[who]
		return !u.Off && !u.Automation && slices.ContainsFunc(slices.Collect(maps.Values(c.Assignments)), func(a catalog.Assignment) bool {
			mine := a.Principal.Name == who || a.Principal.Kind == lockkeeper.GroupPrincipal && contains(c, a.Principal.Name, who, 0)
			return mine && words(string(scope), string(a.Scope)) && allows(c.Roles[a.Role], kind)
		})
	}
	plain := func(c *catalog.Catalog) {
		for name, a := range c.Assignments {
			c.Assignments[name] = catalog.Assignment{Name: name, Role: a.Role, Principal: a.Principal, Scope: a.Scope}
		}
	}
	lively(t, func() bool { return some >= 10 && none >= 10 }, func(t *rapid.T) {
		w := drawWorld(t)
		plain(w.c)
		next, granter := cloned(w.c), rapid.SampledFrom([]string{"", w.users[0]}).Draw(t, "granter")
		for range 4 {
			edit(t, next)
		}
		plain(next)
		want := map[string]bool{}
		for _, who := range w.users {
			for _, scope := range w.scopes {
				for _, kind := range actionKinds {
					if gives(next, who, kind, scope) && !gives(w.c, who, kind, scope) && !gives(w.c, granter, kind, scope) {
						want[fmt.Sprint(who, kind)] = true
					}
				}
			}
		}
		got := map[string]bool{}
		gains := New(next).Gains(New(w.c), granter, at(0))
		for _, g := range gains {
			got[fmt.Sprint(g.User, g.Action)] = true
		}
		full := len(gains) >= MaxGains // and then there may be more
		for g := range got {
			if !want[g] {
				t.Fatalf("%s is no gain", g)
			}
		}
		if !maps.Equal(want, got) && !full {
			t.Fatalf("gains of %v, want %v", got, want)
		}
		some, none = some+count(len(want) > 0), none+count(len(want) == 0)
	})
	if !t.Failed() && (some < 10 || none < 10) {
		t.Errorf("%d edits gave something and %d nothing: too dull", some, none)
	}
}

const gainRules = `
{kind: User, name: ann}
---
{kind: User, name: bob<bob>}
---
{kind: User, name: off<off>}
---
{kind: Group, name: team, users: [ann<team>]}
---
{kind: Group, name: leads, users: [ann<leads>]<nest>}
---
{kind: Group, name: held, users: [bob<held>]}
---
{kind: Group, name: spared, users: [ann<spared>]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: <tier>, checks: [{name: c, approval: {count: 1, groups: [leads]}}]}
---
{kind: Role, name: doer, actions: [deployments/start, <actions>deployments/cancel], notActions: [deployments/cancel<notActions>]}
---
{kind: Role, name: wide, actions: [<wide>]}
---
{kind: Assignment, name: doers, role: doer, principal: group:team, scope: <scope><condition>}
---
{kind: Assignment, name: wider, role: wide, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: conditional, role: wide, principal: user:bob, scope: /projects/p, condition: tier == "development"}
---
{kind: Assignment, name: maybe, role: doer, principal: user:bob, scope: /projects/p<eligible>}
---
{kind: ActivationRule, name: rule, role: doer, scope: /, longest: <longest>}
---
{kind: Assignment, name: not, role: wide, principal: group:held, scope: /projects/p, deny: true, except: [group:spared<except>]<deny>}
---
{kind: Assignment, name: ann-release, role: release-manager, principal: user:ann, scope: /projects/p<ann>}
<more>`

// TestWaysOfGrantingMore walks the ways of granting more than one holds. The
// granter is nobody, or ann, who holds what a release manager does.
func TestWaysOfGrantingMore(t *testing.T) {
	base := []string{"<tier>", "preproduction", "<wide>", "deployments/read", "<scope>", "/projects/p", "<eligible>", ", eligible: true", "<longest>", "1h"}
	text := func(pairs ...string) *Index {
		out := strings.NewReplacer(append(slices.Clone(pairs), base...)...).Replace(gainRules)
		for _, mark := range []string{"bob", "off", "team", "leads", "nest", "held", "spared", "actions", "notActions", "condition", "except", "deny", "ann", "more"} {
			out = strings.ReplaceAll(out, "<"+mark+">", "")
		}
		return New(read(t, out))
	}
	barred := func(action, scope string) string {
		return "---\n{kind: Role, name: barred, actions: [" + action + "]}\n---\n{kind: Assignment, name: bar, role: barred, principal: group:team, scope: " + scope + ", deny: true}"
	}
	calls := func(users string) string { return "---\n{kind: Group, name: calls, users: [" + users + "]}\n" }
	overriding := func(users string) string {
		return calls(users) + "---\n{kind: Environment, name: o, project: p, tier: development, override: {groups: [calls], reviewers: {groups: [leads]}}}"
	}
	with := func(document string) func(string) string {
		return func(users string) string { return calls(users) + "---\n" + document }
	}
	later := with("{kind: Environment, name: o, project: p, tier: development, checks: [{name: c, approval: {count: 1, groups: [leads], escalate: {after: 30m, groups: [calls]}}}]}")
	reviewing := with("{kind: ActivationRule, name: r, role: release-manager, scope: /, breakGlass: {budget: 1, review: 24h, reviewers: {count: 1, groups: [calls]}}}")
	away := with("{kind: ActivationRule, name: r, role: release-manager, scope: /, ticket: 'INC-[0-9]+', ticketCall: {whenAway: {count: 1, groups: [calls]}, call: {url: 'https://t.example.com/{ticket}', method: GET, criteria: body.ok == true}}}")
	sparing := func(users string) string {
		return calls(users) + "---\n{kind: Freeze, name: z, scope: /projects/p, from: 2026-03-02T00:00:00Z, until: 2026-03-03T00:00:00Z, reason: r, exempt: [calls]}"
	}
	directory := func(group string) string {
		return "---\n{kind: Group, name: dir}\n---\n{kind: Directory, name: sso, platform: dex, issuer: 'https://dex.example.com', client: c, groups: [{id: x, group: " + group + "}]}"
	}
	for _, test := range []struct {
		name     string
		old, new []string
		granter  string
		gains    string // what Why or String holds; "": none
	}{
		{"nothing", nil, nil, "", ""},
		{"1 role edit", nil, []string{"<actions>", "freezes/write, "}, "ann", "ann gains freezes/write at /projects/p"},
		{"1 role edit, held", nil, []string{"<actions>", "deployments/approve, "}, "ann", ""},
		{"1 role edit, smaller", []string{"<actions>", "freezes/write, "}, nil, "", ""},
		{"2 notActions removed", []string{"<notActions>", ", deployments/start"}, nil, "", "gains deployments/start"},
		{"3 assignment", nil, []string{"<more>", "---\n{kind: Assignment, name: n, role: auditor, principal: user:off, scope: /}"}, "ann", "off gains journal/read at /"},
		{"3 assignment, held", nil, []string{"<more>", "---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /projects/p/environments/e}"}, "ann", ""},
		{"3 assignment, further up", nil, []string{"<more>", "---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /}"}, "ann", "off gains"},
		{"3 assignment, longer than the granter's", []string{"<ann>", ", end: 2026-04-01T00:00:00Z"}, []string{"<ann>", ", end: 2026-04-01T00:00:00Z", "<more>", "---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /projects/p}"}, "ann", "off gains"},
		{"3 assignment, as long as the granter's", []string{"<ann>", ", end: 2026-04-01T00:00:00Z"}, []string{"<ann>", ", end: 2026-04-01T00:00:00Z", "<more>", "---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /projects/p, end: 2026-03-20T00:00:00Z}"}, "ann", ""},
		{"3 assignment of what one is only eligible for", []string{"<ann>", ", eligible: true", "<more>", "---\n{kind: ActivationRule, name: r, role: release-manager, scope: /}"}, []string{"<ann>", ", eligible: true", "<more>", "---\n{kind: ActivationRule, name: r, role: release-manager, scope: /}\n---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /projects/p, eligible: true}"}, "ann", "off gains"},
		{"4 group membership", nil, []string{"<team>", ", bob"}, "", "bob gains deployments/start"},
		{"4 group membership, held", nil, []string{"<team>", ", bob"}, "ann", ""},
		{"4 group whose approvals count", nil, []string{"<leads>", ", bob"}, "bob", "bob comes into the group leads"},
		{"4 group whose approvals count, one's own", nil, []string{"<leads>", ", bob"}, "ann", ""},
		{"4 group that overrides", []string{"<more>", overriding("ann")}, []string{"<more>", overriding("ann, bob")}, "bob", "bob comes into the group calls"},
		{"4 group that is asked later", []string{"<more>", later("ann")}, []string{"<more>", later("ann, bob")}, "bob", "bob comes into the group calls"},
		{"4 group that reviews broken glass", []string{"<more>", reviewing("ann")}, []string{"<more>", reviewing("ann, bob")}, "bob", "bob comes into the group calls"},
		{"4 group that stands in for a service", []string{"<more>", away("ann")}, []string{"<more>", away("ann, bob")}, "bob", "bob comes into the group calls"},
		{"4 group that a freeze spares", []string{"<more>", sparing("ann")}, []string{"<more>", sparing("ann, bob")}, "bob", "bob comes into the group calls"},
		{"5 group nesting", nil, []string{"<nest>", ", groups: [held]"}, "bob", "bob comes into the group leads"},
		{"6 deny removed", nil, []string{"deny: true", "deny: true, end: 2026-03-02T00:00:00Z"}, "", "bob gains deployments/read"},
		{"6 deny's exclusions", nil, []string{"<spared>", ", bob"}, "", "the deny not stands no more before it"},
		{"6 deny here alone", nil, []string{"<deny>", ", here: true"}, "", "bob gains deployments/read"},
		{"6 deny on a condition", nil, []string{"<deny>", ", condition: tier == \"production\""}, "", "bob gains deployments/read"},
		{"6 deny escaped by leaving the group", []string{"<held>", ", ann"}, []string{}, "", ""}, // ann is spared
		{"6 deny widened", []string{"<deny>", ", here: true"}, nil, "", ""},
		{"7 longer activation", nil, []string{"<longest>", "2h"}, "ann", "the rule rule asks for less"},
		{"7 shorter activation", []string{"<longest>", "2h"}, nil, "", ""},
		{"7 from eligible to active", nil, []string{"<eligible>", ""}, "", "bob gains deployments/start"},
		{"7 from active to eligible", []string{"<eligible>", ""}, nil, "", ""},
		{"8 condition loosened", []string{"<actions>", "freezes/write, ", "<condition>", ", condition: tier == \"development\""}, []string{"<actions>", "freezes/write, "}, "", "ann gains freezes/write"},
		{"8 condition added", nil, []string{"<condition>", ", condition: tier == \"development\""}, "", ""},
		{"8 tier that conditions hang on", nil, []string{"<tier>", "development"}, "ann", "conditions of assignments hang on the tier"},
		{"9 scope moved up", nil, []string{"<scope>", "/"}, "ann", "ann gains deployments/start at /"},
		{"9 scope moved down", []string{"<scope>", "/"}, nil, "", ""},
		{"10 wildcard for all that there is", []string{"<wide>", "leases/revoke"}, []string{"<wide>", "leases/*"}, "", "bob gains leases/~"},
		{"10 wildcard narrowed", []string{"<wide>", "leases/*"}, []string{"<wide>", "leases/revoke"}, "", ""},
		{"1 role of a deny", []string{"<more>", barred("deployments/start", "/projects/p")}, []string{"<more>", barred("deployments/read", "/projects/p")}, "", "ann gains deployments/start"},
		{"3 assignment, where the granter is denied below", []string{"<more>", barred("deployments/start", "/projects/p/environments/e")},
			[]string{"<more>", barred("deployments/start", "/projects/p/environments/e") + "\n---\n{kind: Assignment, name: n, role: release-manager, principal: user:off, scope: /projects/p}"}, "ann", "off gains deployments/start"},
		{"4 what a directory's group is given", []string{"<more>", directory("dir")}, []string{"<more>", directory("dir") + "\n---\n{kind: Assignment, name: n, role: auditor, principal: group:dir, scope: /}"}, "ann", "members of dir at a directory gains journal/read"},
		{"4 what a directory's group is given, held", []string{"<more>", directory("dir")}, []string{"<more>", directory("dir") + "\n---\n{kind: Assignment, name: n, role: release-manager, principal: group:dir, scope: /projects/p}"}, "ann", ""},
		{"5 a directory's group in another", []string{"<more>", directory("dir")}, []string{"<more>", directory("dir"), "<nest>", ", groups: [dir]"}, "bob", "members of dir at a directory comes into the group leads"},
		{"6 a deny of a directory's group", []string{"<more>", directory("held")}, []string{"<more>", directory("held"), "deny: true", "deny: true, end: 2026-03-02T00:00:00Z"}, "", "bob gains deployments/read"},
		{"a directory's group that is another here", []string{"<more>", directory("dir")}, []string{"<more>", directory("team")}, "ann", "the directory sso lets in more"},
		{"an account at a directory", []string{"<more>", directory("dir")}, []string{"<more>", directory("dir"), "<bob>", ", signIns: [{directory: sso, subject: s}]"}, "ann", "the user bob stands for another person, or is another account's"},
		{"an account more", nil, []string{"<more>", "---\n{kind: User, name: eve}"}, "ann", "the user eve is new"},
		{"another person", nil, []string{"<bob>", ", person: somebody"}, "ann", "the user bob stands for another person"},
		{"switched on", []string{"<team>", ", off", "<off>", ", off: true"}, []string{"<team>", ", off"}, "", "off gains deployments/start"},
		{"switched off", nil, []string{"<bob>", ", off: true"}, "", ""},
	} {
		got := fmt.Sprint(text(test.new...).Gains(text(test.old...), test.granter, epoch))
		if (test.gains == "") != (got == "[]") || !strings.Contains(got, test.gains) {
			t.Errorf("%s: %s, want %q", test.name, got, test.gains)
		}
	}
}

func TestLasting(t *testing.T) {
	for fields, want := range map[string]bool{"": true, ", start: 2026-02-01T00:00:00Z": true, ", start: 2026-03-02T00:00:00Z": false, ", end: 2099-01-01T00:00:00Z": false, `, condition: user == "ann"`: false} {
		for deny, stands := range map[string]bool{"": true, ", end: 2026-02-01T00:00:00Z": true, ", start: 2099-01-01T00:00:00Z": false, ", here: true": false, ", except: [user:ann]": true, `, condition: user == "bob"`: false} {
			text := "{kind: User, name: ann}\n---\n{kind: Assignment, name: a, role: auditor, principal: user:ann, scope: /" + fields + "}\n"
			if deny != "" {
				text += "---\n{kind: Assignment, name: b, role: auditor, principal: user:ann, scope: /, deny: true" + deny + "}\n"
			}
			if got := New(read(t, text)).Lasting("ann", lockkeeper.ReadJournal, lockkeeper.Root, epoch); got != (want && stands) {
				t.Errorf("granted%s, denied%s: %v", fields, deny, got)
			}
		}
	}
}

func BenchmarkGains(b *testing.B) {
	z := full
	z.assignments = 10_000 // as many documents as a catalog may have
	c, _ := large(z)
	next := cloned(c)
	r := next.Roles["r1"]
	r.Actions = append(slices.Clone(r.Actions), "journal/read")
	next.Roles["r1"] = r
	old, is := New(c), New(next)
	for b.Loop() {
		is.Gains(old, "u1", at(20))
	}
}
