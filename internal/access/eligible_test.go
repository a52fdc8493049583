package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

const eligibleRules = `
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: User, name: off, off: true}
---
{kind: Group, name: inner, users: [bob, off]}
---
{kind: Group, name: outer, groups: [inner]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: ActivationRule, name: rule, role: release-manager, scope: /}
---
{kind: ActivationRule, name: rule-auditor, role: auditor, scope: /}
---
{kind: Assignment, name: one, role: release-manager, principal: user:ann, scope: /projects/p, eligible: true, START}
---
{kind: Assignment, name: two, role: release-manager, principal: group:outer, scope: /projects/p/environments/e, eligible: true}
---
{kind: Assignment, name: three, role: auditor, principal: user:ann, scope: /, eligible: true}
`

// Eligible says what walking the catalog by hand says, and an eligible assignment
// gives nothing by itself.
func TestEligible(t *testing.T) {
	c := read(t, strings.Replace(eligibleRules, "START", fmt.Sprintf("start: %s, end: %s", at(10), at(20)), 1))
	x := New(c)
	users := []string{"ann", "bob", "off", "nobody"}
	scopes := []lockkeeper.Scope{"/", "/projects/p", "/projects/p/environments/e", "/projects/p/environments/f", "/projects/q"}
	rapid.Check(t, func(rt *rapid.T) {
		user := rapid.SampledFrom(users).Draw(rt, "user")
		role := rapid.SampledFrom([]string{"release-manager", "auditor", "reader", "nothing"}).Draw(rt, "role")
		scope := rapid.SampledFrom(scopes).Draw(rt, "scope")
		now := at(rapid.IntRange(0, 30).Draw(rt, "now"))
		want := false
		for _, a := range c.Assignments {
			mine := a.Principal.Name == user || a.Principal.Kind == lockkeeper.GroupPrincipal && contains(c, a.Principal.Name, user, 0)
			want = want || mine && a.Eligible && a.Role == role && words(string(scope), string(a.Scope)) && inTime(a, now) && user != "off"
		}
		d := x.Eligible(user, role, scope, now)
		if d.Passed(now) != want {
			rt.Errorf("%s %s at %s: %v %s", user, role, scope, d.Verdict, d.Sentence)
		}
		if d.Until != nil && x.Eligible(user, role, scope, *d.Until).Verdict == lockkeeper.Pass {
			rt.Errorf("it holds past its end: %+v", d)
		}
		for _, action := range lockkeeper.Actions() {
			if x.Allowed(user, action, scope, now) {
				rt.Errorf("%s may %s at %s by being eligible only", user, action, scope)
			}
			could := len(x.Activatable(user, action, scope, now)) > 0
			some := false
			for _, r := range []string{"release-manager", "auditor"} {
				some = some || user != "off" && x.RoleAllows(r, action) && x.Eligible(user, r, scope, now).Passed(now)
			}
			if user != "off" && could != some {
				rt.Errorf("%s could do %s at %s: %v, %v", user, action, scope, could, some)
			}
		}
	})
}

// TestHoldingsSuffice answers every question from what Holdings lists alone, and
// must agree with Allowed.
func TestHoldingsSuffice(t *testing.T) {
	granted := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		x := New(w.c)
		now := at(rapid.IntRange(0, 26).Draw(t, "now"))
		for _, user := range w.users {
			held, err := x.Holdings(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}, now)
			if u := w.c.Users[user]; (err != nil) != (u.Off || u.Automation) {
				t.Fatalf("%s: %v", user, err)
			}
			for _, scope := range w.scopes {
				for _, action := range []lockkeeper.Action{"deployments/approve", "deployments/start", "journal/read", "access/write"} {
					may := false
					for _, p := range held {
						if !p.Scope.Contains(scope) || p.Here && p.Scope != scope || !x.RoleAllows(p.Role, action) {
							continue
						}
						if p.Condition != "" {
							holds, err := meets(w.c, p.Condition, user, action, scope, now)
							if !holds && (err == nil || p.Effect != "denies") {
								continue
							}
						}
						if p.Effect == "denies" {
							may = false
							break
						}
						may = may || p.Effect == "grants"
					}
					if may != x.Allowed(user, action, scope, now) {
						t.Fatalf("%s %s at %s: %v by %v", user, action, scope, may, held)
					}
					if may {
						granted++
					}
				}
			}
		}
	})
	if granted < 100 {
		t.Errorf("only %d questions passed", granted)
	}
}
