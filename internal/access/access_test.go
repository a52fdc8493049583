package access

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

var epoch = lockkeeper.MomentOf(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))

// at is a moment n milliseconds after the epoch.
func at(n int) lockkeeper.Moment { return epoch.Add(time.Duration(n) * time.Millisecond) }

func read(t testing.TB, text string) *catalog.Catalog {
	t.Helper()
	c, problems := catalog.Read([]catalog.File{{Name: "test.yaml", Data: []byte(text)}})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

const company = `
{kind: Project, name: p}
---
{kind: Project, name: p2}
---
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cid}
---
{kind: User, name: gone, off: true}
---
{kind: User, name: robot, automation: true}
---
{kind: Group, name: release-managers, users: [ann, gone, robot]}
---
{kind: Group, name: leads, groups: [release-managers], users: [bob]}
---
{kind: Group, name: suspended, users: [bob]}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Assignment, name: leads-release, role: release-manager, principal: "group:leads", scope: /projects/p}
---
{kind: Assignment, name: nobody-suspended, role: organisation-administrator, deny: true, principal: "group:suspended", scope: /}
---
{kind: Assignment, name: suspended-no-approval, role: release-manager, deny: true, principal: "group:suspended", scope: /projects/p/environments/e}
---
{kind: Assignment, name: cid-soon, role: release-manager, principal: "user:cid", scope: /projects/p, start: 2026-03-02T00:00:00Z}
`

func TestCheck(t *testing.T) {
	x := New(read(t, company))
	const env = "/projects/p/environments/e"
	for _, test := range []struct {
		user     string
		action   lockkeeper.Action
		scope    lockkeeper.Scope
		verdict  lockkeeper.Verdict
		code     string
		sentence string // part of sentence, way out or reasons
	}{
		{"ann", lockkeeper.ApproveDeployments, env, lockkeeper.Pass, "granted", "user ann → group release-managers → group leads → role release-manager → at /projects/p."},
		{"bob", lockkeeper.ApproveDeployments, "/projects/p", lockkeeper.Pass, "granted", "user bob → group leads → role release-manager → at /projects/p."},
		{"bob", lockkeeper.ApproveDeployments, env, lockkeeper.Fail, "denied_by_assignment", "user bob → group suspended → denied role release-manager → at " + env},
		{"bob", lockkeeper.ReadDeployments, "/projects/p", lockkeeper.Fail, "denied_by_assignment", "nobody-suspended"},
		{"ann", lockkeeper.ApproveDeployments, "/projects/p2", lockkeeper.Fail, "not_granted", "release-manager, security-reviewer"},
		{"ann", lockkeeper.ApproveDeployments, "/", lockkeeper.Fail, "not_granted", "at /: "},
		{"ann", lockkeeper.ApproveDeployments, "/projects/p-2", lockkeeper.Fail, "not_granted", ""},
		{"ann", lockkeeper.EscalateAccess, env, lockkeeper.Fail, "not_granted", "organisation-administrator"},
		{"cid", lockkeeper.ApproveDeployments, env, lockkeeper.Fail, "not_granted", "from 2026-03-02T00:00:00.000Z"},
		{"gone", lockkeeper.ApproveDeployments, env, lockkeeper.Fail, "user_off", ""},
		{"robot", lockkeeper.ApproveDeployments, env, lockkeeper.Fail, "automation", ""},
		{"eve", lockkeeper.ApproveDeployments, env, lockkeeper.Fail, "user_unknown", ""},
		{"ann", "deployments/eat", env, lockkeeper.Fail, "action_unknown", ""},
		{"ann", lockkeeper.ApproveDeployments, env + "/", lockkeeper.Fail, "scope_malformed", ""},
		{"ann", lockkeeper.ApproveDeployments, "", lockkeeper.Fail, "scope_malformed", ""},
		{"ann", lockkeeper.ApproveDeployments, "/projects/p/nothing/x", lockkeeper.Fail, "scope_malformed", ""},
	} {
		d := x.Check(test.user, test.action, test.scope, epoch)
		if d.Verdict != test.verdict || d.Code != test.code || !strings.Contains(text(t, d), test.sentence) {
			t.Errorf("%s %s at %q: %s, want %s %s with %q", test.user, test.action, test.scope, text(t, d), test.verdict, test.code, test.sentence)
		}
		if d.Verdict != lockkeeper.Pass && d.Next == "" {
			t.Errorf("%s %s at %q: no way out", test.user, test.action, test.scope)
		}
		if got := x.Allowed(test.user, test.action, test.scope, epoch); got != (test.verdict == lockkeeper.Pass) {
			t.Errorf("%s %s at %q: Allowed is %v", test.user, test.action, test.scope, got)
		}
	}
}

func text(t testing.TB, d lockkeeper.Decision) string {
	t.Helper()
	b := new(strings.Builder)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestNotActionsAreNoDeny(t *testing.T) {
	x := New(read(t, `
{kind: Project, name: p}
---
{kind: User, name: ann}
---
{kind: Role, name: most, actions: ["*"], notActions: ["deployments/*"]}
---
{kind: Role, name: starter, actions: [deployments/start]}
---
{kind: Assignment, name: a, role: most, principal: "user:ann", scope: /}
---
{kind: Assignment, name: b, role: starter, principal: "user:ann", scope: /projects/p}
`))
	for action, want := range map[lockkeeper.Action]bool{
		lockkeeper.StartDeployments: true, lockkeeper.ApproveDeployments: false, lockkeeper.WriteProjects: true,
	} {
		if got := x.Allowed("ann", action, "/projects/p", epoch); got != want {
			t.Errorf("%s is %v, want %v", action, got, want)
		}
	}
}

// TestPathsAreBounded gives one user more grants than a decision spells out.
func TestPathsAreBounded(t *testing.T) {
	b := new(strings.Builder)
	b.WriteString("{kind: User, name: ann}\n")
	for i := range 40 {
		fmt.Fprintf(b, "---\n{kind: Assignment, name: a%d, role: reader, principal: \"user:ann\", scope: /}\n", i)
	}
	d := New(read(t, b.String())).Check("ann", lockkeeper.ReadCatalog, "/", epoch)
	if len(d.Because) != maxPaths || d.Verdict != lockkeeper.Pass {
		t.Errorf("%d reasons of a %s, want %d of a pass", len(d.Because), d.Verdict, maxPaths)
	}
}

func TestUntil(t *testing.T) {
	stamp := func(m lockkeeper.Moment) string { return m.String() }
	for _, test := range []struct {
		name        string
		assignments [][3]string // start, end ("" for none), deny
		want        string
	}{
		{"no end", [][3]string{{"", "", ""}}, ""},
		{"one end", [][3]string{{"", stamp(at(50)), ""}}, stamp(at(50))},
		{"the latest end", [][3]string{{"", stamp(at(50)), ""}, {"", stamp(at(90)), ""}}, stamp(at(90))},
		{"one without end", [][3]string{{"", stamp(at(50)), ""}, {"", "", ""}}, ""},
		{"a deny to come", [][3]string{{"", "", ""}, {stamp(at(30)), "", "deny"}}, stamp(at(30))},
		{"a deny after the end", [][3]string{{"", stamp(at(20)), ""}, {stamp(at(30)), "", "deny"}}, stamp(at(20))},
		{"a grant that takes over", [][3]string{{"", stamp(at(20)), ""}, {stamp(at(20)), stamp(at(40)), ""}}, stamp(at(40))},
		{"a grant that comes too late", [][3]string{{"", stamp(at(20)), ""}, {stamp(at(21)), stamp(at(40)), ""}}, stamp(at(20))},
		{"a deny that is over", [][3]string{{"", "", ""}, {"", stamp(at(-1)), "deny"}}, ""},
	} {
		b := new(strings.Builder)
		b.WriteString("{kind: User, name: ann}\n")
		for i, a := range test.assignments {
			fmt.Fprintf(b, "---\nkind: Assignment\nname: a%d\nrole: reader\nprincipal: user:ann\nscope: /\n", i)
			if a[0] != "" {
				fmt.Fprintf(b, "start: %s\n", a[0])
			}
			if a[1] != "" {
				fmt.Fprintf(b, "end: %s\n", a[1])
			}
			if a[2] != "" {
				b.WriteString("deny: true\n")
			}
		}
		d := New(read(t, b.String())).Check("ann", lockkeeper.ReadCatalog, "/projects/p", epoch)
		got := ""
		if d.Until != nil {
			got = d.Until.String()
		}
		if d.Verdict != lockkeeper.Pass || got != test.want {
			t.Errorf("%s: %s until %q, want a pass until %q", test.name, d.Verdict, got, test.want)
		}
	}
}

// A world is a small random catalog together with the values to ask about.
type world struct {
	c      *catalog.Catalog
	users  []string
	groups []string
	scopes []lockkeeper.Scope
}

var patterns = []lockkeeper.ActionPattern{"*", "*/read", "deployments/*", "deployments/approve", "deployments/start", "changes/review", "access/write", "journal/*"}

// drawWorld makes catalogs in which every feature meets every other often:
// few names, short times, nested groups, denies.
func drawWorld(t *rapid.T) world {
	w := world{scopes: []lockkeeper.Scope{"/", "/projects/p", "/projects/p2", "/projects/p/environments/e", "/projects/p/environments/e2",
		"/projects/p/repositories/r", "/projects/p/repositories/r/branches/feature%2Fx", "/projects/p/pipelines/l", "/projects/p/pipelines/l/stages/s", "/projects/p2/environments/e"}}
	c := &catalog.Catalog{Users: map[string]catalog.User{}, Groups: map[string]catalog.Group{}, Roles: map[string]catalog.Role{}, Assignments: map[string]catalog.Assignment{},
		Environments: map[lockkeeper.Scope]catalog.Environment{"/projects/p/environments/e": {Tier: catalog.Production}, "/projects/p/environments/e2": {Tier: catalog.Development}, "/projects/p2/environments/e": {Tier: catalog.Preproduction}}}
	for i := range rapid.IntRange(1, 5).Draw(t, "users") {
		name := fmt.Sprint("u", i)
		w.users = append(w.users, name)
		c.Users[name] = catalog.User{Name: name, Off: rapid.IntRange(0, 9).Draw(t, "off") == 0, Automation: rapid.IntRange(0, 9).Draw(t, "automation") == 0}
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "groups") {
		g := catalog.Group{Name: fmt.Sprint("g", i)}
		for _, u := range w.users {
			if rapid.IntRange(0, 3).Draw(t, "in") == 0 {
				g.Users = append(g.Users, u)
			}
		}
		for _, inner := range w.groups {
			if rapid.IntRange(0, 2).Draw(t, "nested") == 0 {
				g.Groups = append(g.Groups, inner)
			}
		}
		w.groups = append(w.groups, g.Name)
		c.Groups[g.Name] = g
	}
	for i := range 4 {
		r := catalog.Role{Name: fmt.Sprint("r", i), Actions: rapid.SliceOfN(rapid.SampledFrom(patterns), 1, 3).Draw(t, "actions"),
			NotActions: rapid.SliceOfN(rapid.SampledFrom(patterns[1:]), 0, 1).Draw(t, "notActions")}
		c.Roles[r.Name] = r
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "assignments") {
		a := catalog.Assignment{Name: fmt.Sprint("a", i), Role: fmt.Sprint("r", rapid.IntRange(0, 3).Draw(t, "role")),
			Scope: rapid.SampledFrom(w.scopes).Draw(t, "scope"), Deny: rapid.IntRange(0, 4).Draw(t, "deny") == 0,
			Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: rapid.SampledFrom(w.users).Draw(t, "user")}}
		if len(w.groups) > 0 && rapid.Bool().Draw(t, "to group") {
			a.Principal = lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: rapid.SampledFrom(w.groups).Draw(t, "group")}
		}
		if rapid.Bool().Draw(t, "starts") {
			a.Start = at(rapid.IntRange(0, 20).Draw(t, "start"))
		}
		if rapid.Bool().Draw(t, "ends") {
			a.End = at(rapid.IntRange(1, 25).Draw(t, "end"))
		}
		if rapid.IntRange(0, 4).Draw(t, "conditional") == 0 {
			a.Condition = rapid.SampledFrom(slices.Sorted(maps.Keys(conditions))).Draw(t, "condition")
		}
		if a.Deny {
			a.Here = rapid.IntRange(0, 5).Draw(t, "here") == 0
			switch rapid.IntRange(0, 7).Draw(t, "except") {
			case 0:
				a.Except = append(a.Except, user(rapid.SampledFrom(w.users).Draw(t, "spared")))
			case 1:
				if len(w.groups) > 0 {
					a.Except = append(a.Except, group(rapid.SampledFrom(w.groups).Draw(t, "spared group")))
				}
			}
		}
		c.Assignments[a.Name] = a
	}
	w.c = c
	return w
}

// TestAgreesWithReference asks every question of small worlds: each user, each
// scope, several actions, every moment at which anything could change.
func TestAgreesWithReference(t *testing.T) {
	asked, passed, denied := 0, 0, 0
	lively(t, func() bool { return !(asked < 10_000 || passed < asked/100 || denied < asked/400) }, func(t *rapid.T) {
		w := drawWorld(t)
		x := New(w.c)
		actions := []lockkeeper.Action{lockkeeper.ApproveDeployments, lockkeeper.StartDeployments, lockkeeper.ReadChanges, lockkeeper.ReadJournal, lockkeeper.WriteAccess}
		now := rapid.IntRange(0, 25).Draw(t, "now")
		for _, user := range append(w.users, "nobody") {
			for _, scope := range w.scopes {
				for _, action := range actions {
					want := reference(w.c, user, action, scope, at(now))
					d := x.Check(user, action, scope, at(now))
					asked++
					if (d.Verdict == lockkeeper.Pass) != want || x.Allowed(user, action, scope, at(now)) != want {
						t.Fatalf("%s %s at %s, moment %d: want %v, Check says %+v, Allowed %v", user, action, scope, now, want, d, !want)
					}
					if slices.Contains(x.WhoCan(action, scope, at(now)), user) != want {
						t.Fatalf("%s %s at %s: WhoCan disagrees", user, action, scope)
					}
					if d.Code == "denied_by_assignment" {
						denied++
					}
					if want {
						passed++
						checkUntil(t, w.c, user, action, scope, now, d.Until)
					}
				}
			}
		}
	})
	if !t.Failed() && (asked < 10_000 || passed < asked/100 || denied < asked/400) {
		t.Errorf("%d questions, %d passed, %d denied: the worlds are too dull", asked, passed, denied)
	}
}

// checkUntil compares the end of a pass with the reference at every later
// moment of the world, which ends at 30.
func checkUntil(t *rapid.T, c *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope, now int, until *lockkeeper.Moment) {
	for n := now; n <= 30; n++ {
		if reference(c, user, action, scope, at(n)) {
			continue
		}
		if until == nil || *until != at(n) {
			t.Fatalf("%s %s at %s passes from %d before %d, but Until is %v", user, action, scope, now, n, until)
		}
		return
	}
	timed := slices.ContainsFunc(slices.Collect(maps.Values(c.Assignments)), func(a catalog.Assignment) bool { return strings.Contains(a.Condition, "now") })
	if until != nil && !(timed && !until.Before(at(60_000))) {
		t.Fatalf("%s %s at %s passes for good, but Until is %v", user, action, scope, until)
	}
}

func TestMembershipAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		x := New(w.c)
		for _, g := range append(w.groups, "none") {
			var want []string
			for _, u := range w.users {
				path, in := x.InGroup(u, g, at(0))
				if in != contains(w.c, g, u, 0) {
					t.Fatalf("InGroup(%s, %s) is %v", u, g, in)
				}
				if !in {
					continue
				}
				want = append(want, u)
				if path[len(path)-1] != g || !slices.Contains(w.c.Groups[path[0]].Users, u) {
					t.Fatalf("InGroup(%s, %s) goes %v", u, g, path)
				}
				for i := 1; i < len(path); i++ {
					if !slices.Contains(w.c.Groups[path[i]].Groups, path[i-1]) {
						t.Fatalf("InGroup(%s, %s) goes %v, but %s does not hold %s", u, g, path, path[i], path[i-1])
					}
				}
			}
			if d := cmp.Diff(want, x.Holders(g)); d != "" {
				t.Fatalf("Holders(%s) (-want +got):\n%s", g, d)
			}
		}
	})
}

// TestLineage holds the scopes that are judged against those that the root
// package reads.
func TestLineage(t *testing.T) {
	words := []string{"", "projects", "p", "environments", "repositories", "branches", "pipelines", "stages", "identities", "x%2Fy", "%2f", "P", ".."}
	rapid.Check(t, func(t *rapid.T) {
		s := lockkeeper.Scope("/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 8).Draw(t, "words"), "/"))
		agree(t.Fatalf, s)
	})
}

func FuzzLineage(f *testing.F) {
	for _, s := range []string{"/", "", "/projects/p", "/projects/p/repositories/r/branches/a%2Fb", "/projects/p/pipelines/l/stages/s", "//", "/projects/p/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { agree(t.Fatalf, lockkeeper.Scope(s)) })
}

func agree(fatalf func(string, ...any), s lockkeeper.Scope) {
	var levels [maxLevels]lockkeeper.Scope
	n := lineage(s, &levels)
	_, err := lockkeeper.ParseScope(string(s))
	if (n > 0) != (err == nil) {
		fatalf("lineage(%q) has %d levels, ParseScope says %v", s, n, err)
	}
	for i := n - 1; i >= 0; i-- {
		if levels[i] != s || !levels[i].Contains(levels[n-1]) {
			fatalf("level %d of %q is %q, want %q", i, levels[n-1], levels[i], s)
		}
		s = s.Parent()
	}
}

// A size is how much a large catalog has of everything.
type size struct{ users, groups, projects, roles, assignments, denies int }

// full is what docs/performance.md speaks of: with 99 projects there are 10,000
// scopes, and each user stands for about fifteen principals.
var full = size{users: 10_000, groups: 1000, projects: 99, roles: 200, assignments: 100_000, denies: 100}

// small has scopes with many grants and can be asked about by the slow way.
var small = size{users: 300, groups: 130, projects: 2, roles: 40, assignments: 1000, denies: 8}

// large makes a catalog: groups nested five deep, roles with wildcards, grants
// at every level of the scope tree, four in ten of them to groups, one in
// so many a deny, one in ten with a time.
func large(z size) (*catalog.Catalog, []lockkeeper.Scope) {
	r := rand.New(rand.NewPCG(1, 2))
	c := &catalog.Catalog{Users: map[string]catalog.User{}, Groups: map[string]catalog.Group{}, Roles: map[string]catalog.Role{},
		Assignments: map[string]catalog.Assignment{}}
	scopes := []lockkeeper.Scope{"/"}
	for p := range z.projects {
		project := fmt.Sprint("p", p)
		scopes = append(scopes, lockkeeper.ProjectScope(project))
		for e := range 10 {
			repository := lockkeeper.Scope(fmt.Sprintf("/projects/%s/repositories/r%d", project, e))
			scopes = append(scopes, lockkeeper.EnvironmentScope(project, fmt.Sprint("e", e)), repository)
			for b := range 8 {
				scopes = append(scopes, repository+lockkeeper.Scope(fmt.Sprint("/branches/b", b)))
			}
		}
	}
	all := lockkeeper.Actions()
	for i := range z.roles {
		role := catalog.Role{Name: fmt.Sprint("r", i)}
		for range 1 + r.IntN(3) {
			resource, verb, _ := strings.Cut(string(all[r.IntN(len(all))]), "/")
			role.Actions = append(role.Actions, lockkeeper.ActionPattern([]string{resource + "/" + verb, resource + "/" + verb, resource + "/*", "*/" + verb}[r.IntN(4)]))
		}
		if i%10 == 0 {
			role.Actions, role.NotActions = []lockkeeper.ActionPattern{"*"}, role.Actions
		}
		c.Roles[role.Name] = role
	}
	for i := range z.groups {
		g := catalog.Group{Name: fmt.Sprint("g", i)}
		if level := i % 5; level > 0 { // a group of the level below in one of each
			g.Groups = append(g.Groups, fmt.Sprint("g", r.IntN(z.groups/5)*5+level-1))
		}
		for range z.users * 5 / z.groups {
			g.Users = append(g.Users, fmt.Sprint("u", r.IntN(z.users)))
		}
		c.Groups[g.Name] = g
	}
	for i := range z.users {
		name := fmt.Sprint("u", i)
		c.Users[name] = catalog.User{Name: name, Off: i%100 == 99, Automation: i%10 == 7}
	}
	for i := range z.assignments {
		a := catalog.Assignment{Name: fmt.Sprint("a", i), Role: fmt.Sprint("r", r.IntN(z.roles)), Deny: r.IntN(z.denies) == 0,
			Scope: scopes[r.IntN(len(scopes))], Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: fmt.Sprint("u", r.IntN(z.users))}}
		if r.IntN(10) < 4 {
			a.Principal = lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: fmt.Sprint("g", r.IntN(z.groups))}
		}
		if r.IntN(z.assignments) < 80 { // some for the whole of the company or a project
			a.Scope = scopes[r.IntN(8)/7]
		}
		if r.IntN(10) == 0 {
			a.Start, a.End = at(r.IntN(40)), at(40+r.IntN(40))
		}
		c.Assignments[a.Name] = a
	}
	return c, scopes
}

type question struct {
	user   string
	action lockkeeper.Action
	scope  lockkeeper.Scope
	now    lockkeeper.Moment
}

// questions about a large catalog: half of them at random, half about the
// principal, place and time of some assignment, so that many pass.
func questions(c *catalog.Catalog, scopes []lockkeeper.Scope, n int) []question {
	r := rand.New(rand.NewPCG(3, 4))
	all := lockkeeper.Actions()
	out := make([]question, n)
	for i := range out {
		q := question{fmt.Sprint("u", r.IntN(len(c.Users))), all[r.IntN(len(all))], scopes[r.IntN(len(scopes))], at(r.IntN(80))}
		if a := c.Assignments[fmt.Sprint("a", r.IntN(len(c.Assignments)))]; i%2 == 0 {
			q.scope = a.Scope
			if q.user = a.Principal.Name; a.Principal.Kind == lockkeeper.GroupPrincipal {
				q.user = c.Groups[a.Principal.Name].Users[0]
			}
		}
		out[i] = q
	}
	return out
}

// TestLargeAgreesWithReference asks ten thousand questions of a catalog whose
// scopes hold more grants than are looked at one by one.
func TestLargeAgreesWithReference(t *testing.T) {
	c, scopes := large(small)
	x := New(c)
	passed, denied := 0, 0
	for _, q := range questions(c, scopes, 10_000) {
		want := reference(c, q.user, q.action, q.scope, q.now)
		d := x.Check(q.user, q.action, q.scope, q.now)
		if (d.Verdict == lockkeeper.Pass) != want || x.Allowed(q.user, q.action, q.scope, q.now) != want {
			t.Fatalf("%+v: want %v, Check says %+v", q, want, d)
		}
		if want {
			passed++
		}
		if d.Code == "denied_by_assignment" {
			denied++
		}
	}
	if len(x.marks) == 0 || passed < 2000 || denied < 100 {
		t.Errorf("%d scopes with many grants, %d passed, %d denied: too dull", len(x.marks), passed, denied)
	}
}

func TestAllowedAllocatesNothing(t *testing.T) {
	c, scopes := large(small)
	x, qs := New(c), questions(c, scopes, 1000)
	if n := testing.AllocsPerRun(10, func() {
		for _, q := range qs {
			x.Allowed(q.user, q.action, q.scope, q.now)
		}
	}); n != 0 {
		t.Errorf("a thousand questions allocate %v times", n)
	}
}

// BenchmarkAllowed asks few questions again and again, as a busy company does,
// and many different ones, which no processor's cache holds.
func BenchmarkAllowed(b *testing.B) {
	c, scopes := large(full)
	x := New(c)
	for _, n := range []int{2000, 20_000, 1 << 20} {
		qs := questions(c, scopes, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				q := &qs[i%len(qs)]
				x.Allowed(q.user, q.action, q.scope, q.now)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	c, scopes := large(full)
	x, qs := New(c), questions(c, scopes, 20_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q := &qs[i%len(qs)]
		x.Check(q.user, q.action, q.scope, q.now)
	}
}

func BenchmarkWhoCan(b *testing.B) {
	c, scopes := large(full)
	x := New(c)
	for i := 0; b.Loop(); i++ {
		x.WhoCan(lockkeeper.ApproveDeployments, scopes[i%len(scopes)], at(i%80))
	}
}

// BenchmarkNew loads the large catalog; heap-MB is what the index keeps alive.
func BenchmarkNew(b *testing.B) {
	c, _ := large(full)
	var x *Index
	b.ReportAllocs()
	for b.Loop() {
		x = New(c)
	}
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	with := live()
	runtime.KeepAlive(x)
	x = nil
	b.ReportMetric(float64(with-live())/1e6, "heap-MB")
	runtime.KeepAlive(c)
}

// BenchmarkFloor is what a question costs at least: one look-up of the user and
// one of the scope by their names.
func BenchmarkFloor(b *testing.B) {
	c, scopes := large(full)
	x := New(c)
	for _, n := range []int{2000, 20_000, 1 << 20} {
		qs := questions(c, scopes, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sum := int32(0)
			for i := 0; b.Loop(); i++ {
				q := &qs[i%len(qs)]
				sum += x.users[q.user] + x.scopes[q.scope]
			}
			runtime.KeepAlive(sum)
		})
	}
}
