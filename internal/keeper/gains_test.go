package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// adminRules has an administrator, and one who may write access and not escalate.
const adminRules = `
{kind: User, name: dora}
---
{kind: User, name: ada}
---
{kind: User, name: bob}
---
{kind: Group, name: team, users: [ada<team>]}
---
{kind: Project, name: payments}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /<admin>}
---
{kind: Assignment, name: access, role: access-administrator, principal: user:ada, scope: /<ada>}
---
{kind: Assignment, name: releases, role: release-manager, principal: group:team, scope: /projects/payments}
---
{kind: ActivationRule, name: any, role: organisation-administrator, scope: /, longest: 8h}
---
{kind: ActivationRule, name: access, role: access-administrator, scope: /, longest: 8h}
---
{kind: Provider, name: github, platform: github, issuer: 'https://ci.example'}
---
{kind: Pipeline, name: release, project: payments, provider: github, organisation: "7001", repository: "<repository>", definition: release.yml, stages: [{name: deploy, trust: {events: [push], refs: [refs/heads/main]}}]}
---
{kind: Environment, name: e, project: payments, tier: development}
---
{kind: Identity, name: i, project: payments, environment: e, audiences: [a], stages: [release/deploy]}
<more>`

func adminWith(t *testing.T, pairs ...string) *Rules {
	text := strings.NewReplacer(append(pairs, "<team>", "", "<admin>", "", "<ada>", "", "<repository>", "8001", "<more>", "")...).Replace(adminRules)
	return mustRules(t, text)
}

// administered is a core in which dora, ada and bob can sign in.
func administered(t *testing.T, rules *Rules) *core {
	t.Helper()
	c := &core{world: world{State: newState(), rules: rules}}
	events := []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}
	if err := c.record(&step{}, Caller{Keeper: true}, "", "", events, began); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ada", "bob"} {
		c.Accounts[user] = &Account{User: user, Credential: "p", Proven: true}
	}
	return c
}

// TestMayApply goes over who may make which changes, by what they do and not by the
// kind of document.
func TestMayApply(t *testing.T) {
	eligible := ", eligible: true"
	one := func(more string) []string { return []string{"<more>", "---\n" + more} }
	for _, test := range []struct {
		name     string
		old, new []string
		by, code string
		activate string // what he activates before
	}{
		{"a member of the group that one is in", nil, []string{"<team>", ", bob"}, "ada", "", ""},
		{"what one holds", nil, one("{kind: Assignment, name: n, role: release-manager, principal: user:bob, scope: /projects/payments}"), "ada", "", ""},
		{"an empty group", nil, one("{kind: Group, name: n}"), "ada", "", ""},
		{"a role nobody has", nil, one(`{kind: Role, name: n, actions: ["*"]}`), "ada", "", ""},
		{"a deny", nil, one("{kind: Assignment, name: n, role: release-manager, principal: user:bob, scope: /, deny: true}"), "ada", "", ""},
		{"less", []string{"<team>", ", bob"}, nil, "ada", "", ""},
		{"more than one holds", nil, one("{kind: Assignment, name: n, role: auditor, principal: user:bob, scope: /}"), "ada", "escalation", ""},
		{"a new account", nil, one("{kind: User, name: n}"), "ada", "escalation", ""},
		{"the same by the administrator", nil, one("{kind: User, name: n}"), "dora", "", ""},
		{"without the right to write", nil, one("{kind: Group, name: n}"), "bob", "not_granted", ""},
		{"the right to write, activated", []string{"<ada>", eligible}, []string{"<ada>", eligible, "<team>", ", bob"}, "ada", "", "access-administrator"},
		{"what one has activated is not passed on", []string{"<ada>", eligible}, []string{"<ada>", eligible, "<more>", "---\n{kind: Assignment, name: n, role: access-administrator, principal: user:bob, scope: /}"}, "ada", "escalation", "access-administrator"},
		{"another repository for a stage with an identity", []string{"<more>", "---\n{kind: Role, name: wirer, actions: [pipelines/write]}\n---\n{kind: Assignment, name: n, role: wirer, principal: user:bob, scope: /}"},
			[]string{"<repository>", "8002", "<more>", "---\n{kind: Role, name: wirer, actions: [pipelines/write]}\n---\n{kind: Assignment, name: n, role: wirer, principal: user:bob, scope: /}"}, "bob", "not_granted", ""},
		{"the same with the right to write it", []string{"<more>", "---\n{kind: Assignment, name: n, role: pipeline-administrator, principal: user:bob, scope: /}"},
			[]string{"<repository>", "8002", "<more>", "---\n{kind: Assignment, name: n, role: pipeline-administrator, principal: user:bob, scope: /}"}, "bob", "", ""},
		{"the last administrator", nil, []string{"<admin>", ", end: 2099-01-01T00:00:00Z"}, "dora", "last_administrator", ""},
		{"the last administrator", nil, []string{"<admin>", eligible}, "dora", "last_administrator", ""},
		{"the last administrator", nil, []string{"<admin>", `, condition: 'user == "dora"'`}, "dora", "last_administrator", ""},
		{"the last administrator", nil, one("{kind: Assignment, name: n, role: organisation-administrator, principal: user:dora, scope: /, deny: true, start: 2099-01-01T00:00:00Z}"), "dora", "last_administrator", ""},
	} {
		c := administered(t, adminWith(t, test.old...))
		if test.activate != "" {
			for i, cmd := range []command{openRequest{ID: "r-1", Role: test.activate, Scope: "/", For: time.Hour, Reason: "why"}, beginActivation{"r-1", "a-1"}} {
				if s, err := c.step(Caller{User: test.by}, "", cmd, began); err != nil || s.err != nil {
					t.Fatal(test.name, i, err, s.err)
				}
			}
		}
		out, err := c.step(Caller{User: test.by}, "", applyCatalog{Rules: adminWith(t, test.new...), ID: "p-1"}, began)
		if err != nil || codeOf(out.err) != test.code && (test.code != "" || out.err != nil) {
			t.Errorf("%s: %v %v, want %q", test.name, err, out.err, test.code)
		}
		if r := lockkeeper.RefusalOf(out.err); r != nil && r.Next == "" {
			t.Errorf("%s: no way out: %+v", test.name, r)
		}
	}
}
