package catalog

import (
	"strings"
	"testing"
)

const strictRules = `
kind: Environment
name: strict
project: shop
tier: production
lease: 30m
heartbeat: 1m
patience: 2h
checks:
  - {name: people, approval: {count: 1, groups: [leads], review: security, timeout: 1h, validity: 1h}}
  - {name: more, approval: {count: 1, groups: [leads, release-managers], after: [people]}}
  - {name: refs, branches: {allowed: [refs/heads/main]}}
  - {name: form, template: {allowed: [{path: a/b/c.yml, refs: [refs/tags/v1]}]}}
  - {name: rule, expression: {rule: ask.attempt == 1}}
  - {name: soak, delay: {for: 10m}}
  - {name: office, hours: {zone: UTC, windows: [{days: [monday], from: "09:00", to: "17:00"}], except: ["2026-12-25"]}}
  - {name: one, lock: {mode: sequential}}
---
{kind: Freeze, name: quiet, scope: /projects/shop, from: 2026-12-20T00:00:00Z, until: 2027-01-04T00:00:00Z, reason: r}
---
{kind: Role, name: little, actions: [deployments/read]}
---
{kind: Assignment, name: never, role: little, principal: user:bob, scope: /, deny: true}
---
{kind: Assignment, name: some, role: little, principal: user:bob, scope: /projects/shop, end: 2027-01-01T00:00:00Z}
---
{kind: User, name: off, off: true}
---
{kind: Pipeline, name: ship, project: shop, provider: ci, organisation: 77, repository: 5, definition: x.yml, stages: [{name: s, trust: {environment: e, events: [push], refs: [refs/heads/main], rule: 'job.attempt == 1'}}]}
---
{kind: Identity, name: ship, project: shop, environment: strict, audiences: [a], lifetime: 1m, stages: [ship/s]}
`

// Each change weakens, and says so about that document alone; undone, it
// strengthens or is neutral, and nothing is said.
func TestWeakens(t *testing.T) {
	read := func(text string) *Catalog { return mustRead(t, base(t), File{"x.yaml", []byte(text)}) }
	old := read(strictRules)
	if d := Explain(old, read(strictRules)); len(d) != 0 {
		t.Fatalf("nothing changed, and Explain says %v", d)
	}
	for _, c := range [][2]string{
		{"tier: production", "tier: preproduction"}, {"lease: 30m", "lease: 31m"}, {"heartbeat: 1m", "heartbeat: 2m"}, {"patience: 2h", "patience: 3h"},
		{"tier: production", "tier: production\nautomation: true"}, {"tier: production", "tier: production\nwaivers: [{demand: approval, owner: ann, until: 2027-03-01T00:00:00Z, reason: r}]"},
		{"{count: 1, groups: [leads], review", "{count: 1, groups: [leads, release-managers], review"}, {"timeout: 1h", "timeout: 2h"}, {", validity: 1h", ""}, {", after: [people]", ""},
		{"[refs/heads/main]}}\n  - {name: form", "[refs/heads/main, refs/heads/x]}}\n  - {name: form"}, {"refs: [refs/tags/v1]", "refs: [refs/tags/v1, refs/tags/v2]"},
		{"ask.attempt == 1", "ask.attempt >= 1"}, {"for: 10m", "for: 9m"}, {`to: "17:00"`, `to: "18:00"`}, {`, except: ["2026-12-25"]`, ""},
		{"  - {name: one, lock: {mode: sequential}}\n", ""}, {"{name: soak, delay: {for: 10m}}", "{name: soak, expression: {rule: ask.attempt == 1}}"},
		{"until: 2027-01-04T00:00:00Z", "until: 2027-01-03T00:00:00Z"}, {"reason: r}", "reason: r, actions: [deploy]}"}, {"reason: r}", "reason: r, callers: [people]}"},
		{"actions: [deployments/read]", "actions: [deployments/read, deployments/start]"}, {"scope: /, deny: true", "scope: /projects/shop, deny: true"},
		{", end: 2027-01-01T00:00:00Z", ""}, {"principal: user:bob, scope: /projects/shop, end", "principal: user:bob, scope: /projects/shop/environments/strict, end"},
		{"name: off, off: true", "name: off"}, {"environment: e, events", "events"}, {"events: [push], refs", "events: [push, schedule], refs"}, {", rule: 'job.attempt == 1'", ""},
		{"refs: [refs/heads/main], rule", "refs: [refs/heads/main], selfHosted: true, rule"}, {"repository: 5", "repository: 6"}, {"definition: x.yml", "definition: y.yml"},
		{"audiences: [a]", "audiences: [a, b]"}, {"lifetime: 1m", "lifetime: 2m"},
	} {
		changed := strings.Replace(strictRules, c[0], c[1], 1)
		if changed == strictRules {
			t.Fatalf("%q does not stand in the rules", c[0])
		}
		new := read(changed)
		there, back := Explain(old, new), Explain(new, old)
		if len(there) != 1 || len(there[0].Weakens) == 0 || len(there[0].Fields) == 0 {
			t.Errorf("%s → %s: %+v", c[0], c[1], there)
			continue
		}
		for _, s := range there[0].Weakens {
			if strings.TrimSpace(s) == "" || strings.Contains(s, "%!") {
				t.Errorf("%s: the reason is %q", c[0], s)
			}
		}
		// These can be judged neither way: both directions ask for a look.
		unclear := strings.Contains(c[0], "attempt == 1") || strings.Contains(c[0], "soak, delay") || strings.Contains(c[0], "environment: e") ||
			strings.HasPrefix(c[0], "repository") || strings.HasPrefix(c[0], "definition") || strings.HasPrefix(c[0], "principal") || strings.Contains(c[0], "17:00")
		if !unclear && len(back) == 1 && len(back[0].Weakens) != 0 {
			t.Errorf("%s → %s, undone, is said to weaken: %v", c[0], c[1], back[0].Weakens)
		}
	}
	// Whole documents.
	for text, weak := range map[string]bool{
		"{kind: Freeze, name: z, scope: /, from: 2026-12-20T00:00:00Z, until: 2027-01-04T00:00:00Z, reason: r}": false,
		"{kind: Assignment, name: z, role: little, principal: user:bob, scope: /}":                              true,
		"{kind: Assignment, name: z, role: little, principal: user:bob, scope: /, deny: true}":                  false,
	} {
		new := read(strictRules + "---\n" + text)
		if d := Explain(old, new); len(d) != 1 || (len(d[0].Weakens) > 0) != weak {
			t.Errorf("adding %s: %+v", text, d)
		}
		if d := Explain(new, old); len(d) != 1 || (len(d[0].Weakens) > 0) == weak {
			t.Errorf("removing %s: %+v", text, d)
		}
	}
}
