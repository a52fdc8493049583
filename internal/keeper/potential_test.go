package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// mappingRules have two administrators, of whom cat signs in with a directory.
const mappingRules = `
{kind: User, name: dora}
---
{kind: User, name: cat, signIns: [{directory: corp, subject: cat-1}]}
---
{kind: User, name: ann}
---
{kind: Group, name: few, users: [ann]}
---
{kind: Group, name: deployers, users: [ann]}
---
{kind: Group, name: outer, groups: [few]}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: Directory, name: corp, platform: oidc, issuer: 'https://id.example', client: lockkeeper, groupAge: 1h<scim>, groups: [{id: g-old, group: outer}<mapped>]}
---
{kind: Directory, name: other, platform: oidc, issuer: 'https://other.example', client: lockkeeper, groups: [{id: o-old, group: outer}<other>]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: second, role: access-administrator, principal: user:cat, scope: /}
---
{kind: Assignment, name: cats, role: auditor, principal: user:cat, scope: /}
---
{kind: Assignment, name: few, role: auditor, principal: group:few, scope: /projects/p}
---
{kind: Assignment, name: deployers, role: release-manager, principal: group:deployers, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: any, role: release-manager, scope: /projects/p, longest: <longest>}
`

func mapping(t *testing.T, pairs ...string) *Rules {
	return mustRules(t, strings.NewReplacer(append(pairs, "<scim>", "", "<mapped>", "", "<other>", "", "<longest>", "1h")...).Replace(mappingRules))
}

// TestMappedGroupsMayBeTheApproversGain lets cat decide about a catalog that weakens, and
// that makes a group of a directory a group here.
func TestMappedGroupsMayBeTheApproversGain(t *testing.T) {
	deployers, few := ", {id: g-new, group: deployers}", ", {id: g-new, group: few}"
	signs := func(at time.Duration, groups ...string) func(c *lapsingCore) {
		return func(c *lapsingCore) {
			now := began.Add(at)
			c.do("", startDirectorySession{Session{ID: "s-1", Secret: "x"}, Said{Directory: "corp", Subject: "cat-1", Name: "cat", Groups: groups, At: now, Authenticated: now}}, at)
		}
	}
	writes := func(members ...string) func(c *lapsingCore) {
		return func(c *lapsingCore) {
			c.do("dora", makeToken{"corp", "w-0", "x", 20 * time.Hour}, 0)
			for _, cmd := range []command{createUser{"u-1", UserWrite{text("cat"), text("cat-1"), nil}}, createUser{"u-2", UserWrite{text("x"), text("x-1"), nil}},
				createGroup{"g-1", GroupWrite{Name: text("g-new"), Members: []MemberStep{{AddMembers, members}}}}} {
				s, err := c.step(corp, "", cmd, began)
				must(t, err)
				must(t, s.err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		before func(c *lapsingCore)
		pairs  []string // of the catalog that is proposed
		scim   string
		want   string
	}{
		{"nothing was said of cat yet", nil, []string{"<mapped>", deployers}, "", "proposal_gains"},
		{"she holds all that the group gives", nil, []string{"<mapped>", few}, "", ""},
		{"a directory that she does not sign in with", nil, []string{"<other>", ", {id: o-new, group: deployers}"}, "", ""},
		{"she signed in of late, without it", signs(0), []string{"<mapped>", deployers}, "", ""},
		{"she signed in of late, with it", signs(0, "g-new"), []string{"<mapped>", deployers}, "", "proposal_gains"},
		{"what she signed in with is old", signs(-2 * time.Hour), []string{"<mapped>", deployers}, "", "proposal_gains"},
		{"other groups are asked for from now on", signs(0), []string{"<mapped>", deployers, "groupAge: 1h", "groupAge: 1h, groupClaim: roles"}, "", "proposal_gains"},
		{"a claim that changes alone", signs(0), []string{"groupAge: 1h", "groupAge: 1h, groupClaim: roles"}, "", ""},
		{"the directory wrote the group without her", writes("u-2"), []string{"<mapped>", deployers}, ", scim: true", ""},
		{"the directory wrote the group with her", writes("u-1"), []string{"<mapped>", deployers}, ", scim: true", "proposal_gains"},
		{"a group that holds the mapped one", signs(-2 * time.Hour), []string{"name: deployers, users: [ann]", "name: deployers, users: [ann], groups: [outer]"}, "", "proposal_gains"},
		{"the same, and of late she was not in it", signs(0), []string{"name: deployers, users: [ann]", "name: deployers, users: [ann], groups: [outer]"}, "", ""},
		{"what the mapped one would have given her hides nothing", signs(-2 * time.Hour), []string{"<mapped>", deployers, "<longest>", "3h"}, "", "proposal_gains"},
		{"an account more", signs(0), []string{"subject: cat-1}", "subject: cat-1}, {directory: corp, subject: cat-2}", "<mapped>", deployers}, "", "proposal_gains"},
	} {
		c := &lapsingCore{core: &core{world: world{State: newState(), rules: mapping(t, "<scim>", test.scim)}}, t: t}
		must(t, c.record(&step{}, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"},
			&accountEnrolled{User: "cat", Credential: "p", Maker: "dora"}, &accountProven{User: "cat", Token: lockkeeper.TokenIDOf("x", "cat"), Expires: began}}, began.Add(-3*time.Hour)))
		if test.before != nil {
			test.before(c)
		}
		next := mapping(t, append(test.pairs, "<scim>", test.scim, "<longest>", "2h")...)
		at := 10 * time.Minute
		c.do("dora", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, at)
		if c.Proposals["p-1"] == nil {
			t.Fatalf("%s: it is no proposal", test.name)
		}
		s, err := c.step(Caller{User: "cat"}, "", approveProposal{Proposal: "p-1", Digest: c.Proposals["p-1"].Digest, Rules: next}, began.Add(at))
		must(t, err)
		if codeOf(s.err) != test.want && (test.want != "" || s.err != nil) {
			t.Errorf("%s: %v, want %q", test.name, s.err, test.want)
		}
	}
}
