package access

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

func user(name string) lockkeeper.Principal {
	return lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: name}
}

func group(name string) lockkeeper.Principal {
	return lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: name}
}

func TestExplain(t *testing.T) {
	x := New(read(t, company))
	const env = "/projects/p/environments/e"
	for _, test := range []struct {
		who      lockkeeper.Principal
		scope    lockkeeper.Scope
		code     string
		sentence string
		paths    []Path
	}{
		{user("ann"), env, "granted", "user ann → group release-managers → group leads → role release-manager → at /projects/p.",
			[]Path{{Assignment: "leads-release", Effect: "grants", Groups: []string{"release-managers", "leads"}, Role: "release-manager", Scope: "/projects/p"}}},
		{group("release-managers"), env, "granted", "group release-managers → group leads → role release-manager → at /projects/p.",
			[]Path{{Assignment: "leads-release", Effect: "grants", Groups: []string{"release-managers", "leads"}, Role: "release-manager", Scope: "/projects/p"}}},
		{group("leads"), env, "granted", "group leads → role release-manager → at /projects/p.",
			[]Path{{Assignment: "leads-release", Effect: "grants", Groups: []string{"leads"}, Role: "release-manager", Scope: "/projects/p"}}},
		{group("leads"), "/", "not_granted", "No role of the group leads allows deployments/approve at /.", nil},
		{group("suspended"), env, "denied_by_assignment", "A deny forbids the group suspended to deployments/approve at " + env + ": group suspended → denied role release-manager",
			[]Path{{Assignment: "suspended-no-approval", Effect: "denies", Groups: []string{"suspended"}, Role: "release-manager", Scope: env}}},
		{user("cid"), env, "not_granted", "No role of cid",
			[]Path{{Assignment: "cid-soon", Effect: "not_started", Role: "release-manager", Scope: "/projects/p", Start: epoch.Add(24 * 3600e9)}}},
		{group("ann"), env, "group_unknown", "The catalog has no group of that name.", nil}, // a user's name is no group's
		{user("leads"), env, "user_unknown", "The catalog has no user of that name.", nil},
		{group("leads"), env + "/", "scope_malformed", "", nil},
	} {
		d, paths := x.Explain(test.who, lockkeeper.ApproveDeployments, test.scope, epoch)
		if d.Code != test.code || !strings.Contains(text(t, d), test.sentence) || (d.Verdict == lockkeeper.Pass) != (test.code == "granted") {
			t.Errorf("%s at %s: %s, want %s with %q", test.who, test.scope, text(t, d), test.code, test.sentence)
		}
		if diff := cmp.Diff(test.paths, paths, cmp.Comparer(func(a, b lockkeeper.Moment) bool { return a == b })); diff != "" {
			t.Errorf("%s at %s (-want +got):\n%s", test.who, test.scope, diff)
		}
	}
}

// A group may do exactly what somebody may who is in it and in nothing else, by
// the reference's own reading of the catalog; and each reason has its path.
func TestExplainAgreesWithReference(t *testing.T) {
	granted, denied, long := 0, 0, 0
	lively(t, func() bool { return !(granted < 100 || denied < 50 || long < 100) }, func(t *rapid.T) {
		w := drawWorld(t)
		x := New(w.c)
		now := at(rapid.IntRange(0, 25).Draw(t, "now"))
		asked := []lockkeeper.Principal{user(w.users[0]), user("nobody"), group("nobody")}
		for _, g := range w.groups {
			asked = append(asked, group(g))
		}
		for _, who := range asked {
			c, probe := w.c, who.Name
			if who.Kind == lockkeeper.GroupPrincipal {
				c, probe = with(w.c, "probe", who.Name), "probe"
			}
			for _, scope := range w.scopes {
				for _, action := range []lockkeeper.Action{lockkeeper.ApproveDeployments, lockkeeper.ReadJournal} {
					d, paths := x.Explain(who, action, scope, now)
					if want := reference(c, probe, action, scope, now); (d.Verdict == lockkeeper.Pass) != want {
						t.Fatalf("%s %s at %s: want %v, Explain says %+v", who, action, scope, want, d)
					}
					checkPaths(t, w.c, who, d, paths)
					granted, denied = granted+count(d.Code == "granted"), denied+count(d.Code == "denied_by_assignment")
					for _, p := range paths {
						long += count(len(p.Groups) > 1)
					}
				}
			}
		}
	})
	if !t.Failed() && (granted < 100 || denied < 50 || long < 100) {
		t.Errorf("%d granted, %d denied, %d ways over several groups: the worlds are too dull", granted, denied, long)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// with is c with one user more, who is in one group only.
func with(c *catalog.Catalog, name, in string) *catalog.Catalog {
	more := *c
	more.Users, more.Groups = maps.Clone(c.Users), maps.Clone(c.Groups)
	more.Users[name] = catalog.User{Name: name}
	if g, known := more.Groups[in]; known {
		g.Users = append(slices.Clone(g.Users), name)
		more.Groups[in] = g
	}
	return &more
}

// checkPaths holds each path against the catalog and against the reason that it
// belongs to.
func checkPaths(t *rapid.T, c *catalog.Catalog, who lockkeeper.Principal, d lockkeeper.Decision, paths []Path) {
	if len(paths) != len(d.Because) {
		t.Fatalf("%d reasons and %d paths: %+v", len(d.Because), len(paths), d)
	}
	for i, p := range paths {
		a, known := c.Assignments[p.Assignment]
		if !known || p.Role != a.Role || p.Scope != a.Scope || p.Start != a.Start || p.End != a.End || (p.Effect == "denies") != a.Deny {
			t.Fatalf("%+v is not of the assignment %+v", p, a)
		}
		if b := d.Because[i]; b.Subject != "assignment "+p.Assignment || b.Code != p.Effect {
			t.Fatalf("the path %+v stands beside %+v", p, b)
		}
		if a.Principal.Kind == lockkeeper.UserPrincipal {
			if a.Principal != who || len(p.Groups) > 0 {
				t.Fatalf("%+v leads from %s to an assignment to %s", p, who, a.Principal)
			}
			continue
		}
		if len(p.Groups) == 0 || p.Groups[len(p.Groups)-1] != a.Principal.Name {
			t.Fatalf("%+v does not lead to %s", p, a.Principal)
		}
		if first := p.Groups[0]; who.Kind == lockkeeper.GroupPrincipal && first != who.Name || who.Kind == lockkeeper.UserPrincipal && !slices.Contains(c.Groups[first].Users, who.Name) {
			t.Fatalf("%+v does not begin at %s", p, who)
		}
		for j := 1; j < len(p.Groups); j++ {
			if !slices.Contains(c.Groups[p.Groups[j]].Groups, p.Groups[j-1]) {
				t.Fatalf("%+v: %s does not hold %s", p, p.Groups[j], p.Groups[j-1])
			}
		}
	}
}
