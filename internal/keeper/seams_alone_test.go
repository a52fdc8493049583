package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// 36: the quarantine is opened by an accomplice; and by who can only declare (no writer).
func TestSeam36EndedIncidentStillAlone(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat")
	c := respondingCore(t, text)
	gone := mustRules(t, strings.Replace(text, "---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat\nscope: /\n", "", 1))
	must(t, c.user("dora", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, "user:cat")}, 0))
	must(t, c.user("dora", applyCatalog{Rules: gone, ID: "p-3", Base: c.Revision.Number}, 0))
	must(t, c.user("rob", closeIncident{"i-1", "a false alarm"}, time.Minute))
	if d := c.check("cat", "access/write", "/", began.Add(2*time.Minute)); !d.Passed(began.Add(2 * time.Minute)) {
		t.Errorf("the false alarm is over within a minute, and cat administers nothing any more: %s", d.Sentence)
	}
}

// 37: break-glass is shut by what is owed.
func TestSeam37GlassAndOwed(t *testing.T) {
	c := deployCore(t, glassRules()+"---\n{kind: Provisioner, name: hook, role: emergency, scope: /projects/payments/environments/production, webhook: {url: 'https://hook.example.com'}}\n")
	must(t, c.breaks("ann", "1", 0))
	must(t, c.as(Caller{Keeper: true}, beginEffect{"o-1-1", 1, GrantVerb, 30 * time.Second}, 0))
	must(t, c.as(Caller{Keeper: true}, endEffect{Duty: "o-1-1", Attempt: 1}, 0))
	must(t, c.user("ann", endActivation{"a-1", "done"}, time.Minute))
	must(t, c.user("rev", judgeReview{Review: "v-1", Finding: "f"}, time.Minute))
	must(t, c.user("rex", judgeReview{Review: "v-1", Finding: "f"}, time.Minute))
	if err := c.breaks("bob", "2", 10*time.Minute); err != nil {
		t.Errorf("the hook is down, and nobody gets the emergency role: %v", err)
	}
}

// aloneRules have responders who must activate their right, which deciders approve.
func aloneRules(more string, deciders string) string {
	return incidentRules("principal: user:dora", "principal: user:dora") + "---\n{kind: Group, name: deciders, users: [" + deciders + "]}\n---\n" +
		"{kind: Assignment, name: deciding, role: access-approver, principal: group:deciders, scope: /}\n---\n" +
		"{kind: Assignment, name: eligible-responder, role: incident-responder, principal: user:cat, scope: /, eligible: true}\n---\n" +
		"{kind: ActivationRule, name: responding, role: incident-responder, scope: /, approvals: [{name: d, approval: {count: 1, groups: [deciders]}}]" + more + "}\n"
}

// TestNobodyLeftToApproveACloser quarantines who would have to approve the only closer's
// activation.
func TestNobodyLeftToApproveACloser(t *testing.T) {
	only := func(text string) string { // rita alone responds without activating
		return strings.Replace(text, "users: [rita, rob, rita-2]", "users: [rita, rita-2]", 1)
	}
	noAdministrator := func(text string) string { // who holds incidents/declare, too
		return strings.Replace(text, "role: organisation-administrator", "role: access-administrator", 1)
	}
	chain := aloneRules("", "bob, ann")
	chain = strings.Replace(chain, "principal: group:deciders, scope: /}", "principal: user:ann, scope: /}\n---\n{kind: Group, name: helpers, users: [rob]}\n---\n"+
		"{kind: Assignment, name: helping, role: access-approver, principal: group:helpers, scope: /}\n---\n{kind: Assignment, name: bobs, role: access-approver, principal: user:bob, scope: /, eligible: true}\n---\n"+
		"{kind: ActivationRule, name: deciding, role: access-approver, scope: /, approvals: [{name: d, approval: {count: 1, groups: [helpers]}}]}", 1)
	glass := ", breakGlass: {reviewers: {groups: [security], count: 1}}"
	for _, test := range []struct {
		name, text, quarantine, want string
	}{
		{"another decider is left", aloneRules("", "eve, bob"), "user:eve", ""},
		{"the only decider", aloneRules("", "eve"), "user:eve", "last_closer"},
		{"the only other decider is the closer himself", aloneRules("", "eve, cat"), "user:eve", "last_closer"},
		{"of two deciders who are one person both go", aloneRules("", "ann, ann-admin"), "user:ann", "last_closer"},
		{"somebody else, who decides nothing", aloneRules("", "eve"), "user:bob", ""},
		{"the opener decides", aloneRules("", "eve, rita"), "user:eve", ""},
		{"one of two whose approvals it takes", strings.Replace(aloneRules("", "eve, bob"), "count: 1, groups: [deciders]", "count: 2, groups: [deciders]", 1), "user:eve", "last_closer"},
		{"it can be broken out", aloneRules(glass, "eve"), "user:eve", ""},
		{"deciders who would have to approve each other", strings.Replace(aloneRules("", "eve, bob"), "principal: group:deciders, scope: /}", "principal: user:bob, scope: /, eligible: true}\n---\n{kind: Assignment, name: eves, role: access-approver, principal: user:eve, scope: /}\n---\n"+
			"{kind: ActivationRule, name: deciding, role: access-approver, scope: /, approvals: [{name: d, approval: {count: 1, groups: [deciders]}}]}", 1), "user:eve", "last_closer"},
		{"a decider whom somebody lets activate that", chain, "user:ann", ""},
		{"a decider whom nobody lets activate that", chain, "user:ann user:rob", "last_closer"},
	} {
		c := respondingCore(t, noAdministrator(only(test.text)))
		err := c.user("rita", openIncident{ID: "i-1", Title: "x", Quarantine: quarantines(t, strings.Fields(test.quarantine)...)}, 0)
		if codeOf(err) != test.want && (test.want != "" || err != nil) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if test.want == "" {
			continue
		}
		if r := lockkeeper.RefusalOf(err); r != nil && !strings.Contains(r.Next, strings.Fields(test.quarantine)[0]) {
			t.Errorf("%s: the way out does not name %s: %s", test.name, test.quarantine, r.Next)
		}
	}
}
