package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const conditionalAccess = `
{kind: User, name: dora}
---
{kind: User, name: ann}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Environment, name: f, project: p, tier: preproduction}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: operators, role: developer, principal: user:ann, scope: /projects/p, eligible: true, condition: 'tier == "development" && now < timestamp("2026-11-02T09:40:00Z")'}
---
{kind: ActivationRule, name: op, role: developer, scope: /, longest: 8h}
---
{kind: Assignment, name: late, role: developer, principal: user:ann, scope: /projects/p, deny: true, condition: 'environment == "e" && now >= timestamp("<late>")'}
`

// What was activated is judged by the condition of the eligible assignment where it
// is used, and ends where the condition, or that of a deny, says so.
func TestActivatedOnCondition(t *testing.T) {
	for late, ends := range map[string]lockkeeper.Moment{"2026-11-02T09:20:00Z": began.Add(20 * time.Minute), "2026-11-02T11:00:00Z": began.Add(40 * time.Minute)} {
		c := &core{world: world{State: newState(), rules: mustRules(t, strings.Replace(conditionalAccess, "<late>", late, 1))}}
		for i, cmd := range []command{openRequest{ID: "r-1", Role: "developer", Scope: "/projects/p", For: 2 * time.Hour, Reason: "why"}, beginActivation{"r-1", "a-1"}} {
			if s, err := c.step(Caller{User: "ann"}, "", cmd, began); err != nil || s.err != nil {
				t.Fatal(i, err, s.err)
			}
		}
		for _, test := range []struct {
			scope lockkeeper.Scope
			after time.Duration
			want  string
		}{
			{"/projects/p/environments/e", 0, "activated"},
			{"/projects/p/environments/f", 0, "not_granted"},
			{"/projects/p", 0, "not_granted"},
			{"/projects/p/environments/e", 40*time.Minute - time.Millisecond, map[bool]string{true: "activated", false: "denied_by_assignment"}[late > "2026-11-02T10"]},
		} {
			d := c.check("ann", lockkeeper.StartDeployments, test.scope, began.Add(test.after))
			if d.Code != test.want || c.allowed("ann", lockkeeper.StartDeployments, test.scope, began.Add(test.after)) != (test.want == "activated") {
				t.Errorf("%s after %s: %+v, want %s", test.scope, test.after, d, test.want)
			}
			if test.after == 0 && d.Code == "activated" && (d.Until == nil || *d.Until != ends) {
				t.Errorf("deny from %s: until %v, want %s", late, d.Until, ends)
			}
			if d.Code != "activated" && strings.Contains(fmt.Sprint(d.Next), "lockkeeper activate") {
				t.Errorf("%s: activating would not help, and it says %s", test.scope, d.Next)
			}
		}
	}
}
