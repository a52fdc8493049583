package access

import (
	"encoding/json"
	"fmt"
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
	c := &catalog.Catalog{Users: map[string]catalog.User{}, Groups: map[string]catalog.Group{}, Roles: map[string]catalog.Role{}, Assignments: map[string]catalog.Assignment{}}
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
		c.Assignments[a.Name] = a
	}
	w.c = c
	return w
}

// TestAgreesWithReference asks every question of small worlds: each user, each
// scope, several actions, every moment at which anything could change.
func TestAgreesWithReference(t *testing.T) {
	asked, passed, denied := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
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
	if !t.Failed() && (asked < 10_000 || passed < asked/100 || denied < asked/200) {
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
	if until != nil {
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
				path, in := x.InGroup(u, g)
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

func big(tb testing.TB) *catalog.Catalog {
	tb.Helper()
	c := &catalog.Catalog{Users: map[string]catalog.User{}, Groups: map[string]catalog.Group{}, Roles: map[string]catalog.Role{}, Assignments: map[string]catalog.Assignment{}}
	for _, r := range catalog.BuiltInRoles() {
		c.Roles[r.Name] = r
	}
	roles := catalog.BuiltInRoles()
	for i := range 1000 {
		u := fmt.Sprint("u", i)
		c.Users[u] = catalog.User{Name: u}
		name := fmt.Sprint("g", i%100)
		g := c.Groups[name]
		g.Name, g.Users = name, append(g.Users, u)
		if i < 99 {
			g.Groups = []string{fmt.Sprint("g", i+1)}
			if i%5 == 4 {
				g.Groups = nil
			}
		}
		c.Groups[name] = g
	}
	for i := range 10_000 {
		a := catalog.Assignment{Name: fmt.Sprint("a", i), Role: roles[i%len(roles)].Name, Deny: i%100 == 99,
			Principal: lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: fmt.Sprint("u", i*7%1000)},
			Scope:     lockkeeper.EnvironmentScope(fmt.Sprint("p", i%200), fmt.Sprint("e", i%3))}
		if i%3 == 0 {
			a.Principal = lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: fmt.Sprint("g", i%100)}
			a.Scope = lockkeeper.ProjectScope(fmt.Sprint("p", i%200))
		}
		c.Assignments[a.Name] = a
	}
	return c
}

func TestAllowedAllocatesNothing(t *testing.T) {
	x := New(big(t))
	if n := testing.AllocsPerRun(100, func() {
		x.Allowed("u7", lockkeeper.ApproveDeployments, "/projects/p7/environments/e1", epoch)
	}); n != 0 {
		t.Errorf("Allowed allocates %v times", n)
	}
}

func questions() (users [64]string, scopes [64]lockkeeper.Scope) {
	for i := range users {
		users[i] = fmt.Sprint("u", i*13)
		scopes[i] = lockkeeper.EnvironmentScope(fmt.Sprint("p", i*3), fmt.Sprint("e", i%3))
	}
	return users, scopes
}

func BenchmarkAllowed(b *testing.B) {
	x := New(big(b))
	users, scopes := questions()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Allowed(users[i%64], lockkeeper.ApproveDeployments, scopes[i/7%64], epoch)
	}
}

func BenchmarkCheck(b *testing.B) {
	x := New(big(b))
	users, scopes := questions()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Check(users[i%64], lockkeeper.ApproveDeployments, scopes[i/7%64], epoch)
	}
}

func BenchmarkNew(b *testing.B) {
	c := big(b)
	b.ReportAllocs()
	for b.Loop() {
		New(c)
	}
}
