package keeper

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Whoever could change the gate, or the groups that it asks, does not do so alone where
// somebody else could decide about it; what he proposes he does not decide, nor does
// anybody whom it makes an approver; and what stands further up is loosened by nothing
// below it. (That whoever changed a gate lately gives no vote at it is not built: with two
// persons behind each such change, docs/design/0007 and the proposals stand in its place.)
func TestGates08ChangingTheGate(t *testing.T) {
	two := []string{"principal: user:dora\nscope: /\n", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: administration-2\nrole: organisation-administrator\nprincipal: user:eve\nscope: /\n"}
	plain := incidentRules(two...)
	changed := func(from, to string) string {
		t.Helper()
		if !strings.Contains(plain, from) {
			t.Fatalf("the rules have no %q", from)
		}
		return strings.Replace(plain, from, to, 1)
	}
	for name, c := range map[string]struct {
		rules string
		waits bool
	}{
		"a check admits more":             {changed("allowed: [refs/heads/main]", "allowed: [refs/heads/main, refs/heads/any]"), true},
		"its groups get another":          {changed("groups: [managers]}", "groups: [managers, responders]}"), true},
		"dora joins those who are asked":  {changed("users: [ann, ann-admin, bob, cat, eve]", "users: [ann, ann-admin, bob, cat, eve, dora]"), true},
		"rob does":                        {changed("users: [ann, ann-admin, bob, cat, eve]", "users: [ann, ann-admin, bob, cat, eve, rob]"), true},
		"a group of theirs joins":         {changed("users: [cat, eve, ann-admin]", "users: [cat, eve, ann-admin]\ngroups: [responders]"), true},
		"dora may approve by a new role":  {changed("kind: Project\n", "kind: Assignment\nname: more\nrole: release-manager\nprincipal: user:dora\nscope: /projects/payments\n---\nkind: Project\n"), true},
		"one person more is asked":        {changed("approval: {count: 1, groups: [managers]}", "approval: {count: 2, groups: [managers]}"), false},
		"somebody leaves who was asked":   {changed("users: [ann, ann-admin, bob, cat, eve]", "users: [ann, ann-admin, cat, eve]"), false},
		"one check more":                  {changed("  - name: main\n", "  - {name: soak, delay: {for: 1h}}\n  - name: main\n"), false},
		"a shorter time to wait for them": {changed("patience: 2h", "patience: 1h"), false},
	} {
		k := respondingCore(t, plain)
		k.waiting("1")
		must(t, k.approve("bob", "d-a", time.Second))
		rules := mustRules(t, c.rules)
		s, err := k.step(Caller{User: "dora"}, "", applyCatalog{Base: k.Revision.Number, Rules: rules, ID: "p-a"}, began.Add(2*time.Second))
		must(t, err)
		must(t, s.err)
		if got := s.answer.(applied).Proposal != ""; got != c.waits {
			t.Errorf("%s: it waits for somebody else: %v", name, got)
		}
		if !c.waits {
			continue
		}
		if k.claimA(3*time.Second) == nil || k.approve("dora", "d-a", 3*time.Second) == nil || k.approve("rob", "d-a", 3*time.Second) == nil {
			t.Errorf("%s: what is only proposed counts", name)
		}
		if err := k.user("dora", approveProposal{Proposal: "p-a", Digest: k.Proposals["p-a"].Digest, Rules: rules}, 4*time.Second); err == nil {
			t.Errorf("%s: dora decides what she has proposed", name)
		}
	}

	// What stands above holds below: a freeze, a denial, the strictest rule.
	above := map[string]string{
		"a freeze of everything": "---\nkind: Freeze\nname: all\nscope: /\nfrom: 2026-11-02T08:00:00Z\nuntil: 2026-11-02T12:00:00Z\nreason: quiet\n---\nkind: FreezeRule\nname: below\nscope: /projects/payments/environments/production\nalone: true\n",
		"a denial at the top":    "---\n{kind: Assignment, name: none, role: release-manager, principal: user:bob, scope: /, deny: true}\n---\n{kind: Assignment, name: below, role: release-manager, principal: user:bob, scope: /projects/payments/environments/production}\n",
	}
	for name, more := range above {
		c := deployCore(t, rulesWith())
		c.waiting("1")
		c.approved()
		c.rules = mustRules(t, rulesWith("<more>", more))
		if err := c.claimA(2 * time.Second); err == nil {
			t.Errorf("%s is undone further down", name)
		}
	}
	alone := func(scope, more string) string {
		return fmt.Sprintf("---\nkind: FreezeRule\nname: r%d\nscope: %s\n%s", len(scope), scope, more)
	}
	c := respondingCore(t, incidentRules()+alone("/", "")+alone(string(production), "alone: true\n"))
	must(t, c.user("rita", startFreeze{ID: "f-a", Scope: production, For: time.Hour, Reason: "why"}, time.Second))
	want(t, c.user("rita", endFreeze{"f-a", "all is well"}, 2*time.Second), "second_person_needed")
}
