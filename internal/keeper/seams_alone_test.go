package keeper

import (
	"strings"
	"testing"
	"time"
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
