package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// tellingAll tells each user for himself of all that waits for him.
const tellingAll = `---
{kind: Notification, name: all, via: mail, to: [user:dora, user:ann, user:bob, user:cat, user:eve, user:rev, user:rex, user:oz, user:oz-2, user:una], about: [requests, overrides, reviews, proposals, campaigns, notices]}
`

// TestToldOfEach has every kind of thing wait that a notification can be about, looks who
// is told, and that nobody is any more once it is decided.
func TestToldOfEach(t *testing.T) {
	known := func(text string) string { // only users that the rules have
		for _, u := range []string{"oz", "oz-2", "una", "rev", "rex"} {
			if !strings.Contains(text, "{kind: User, name: "+u) && !strings.Contains(text, "name: "+u+"\n") {
				text = strings.Replace(text, ", user:"+u+",", ",", 1)
				text = strings.Replace(text, ", user:"+u+"]", "]", 1)
			}
		}
		return text
	}
	glass := known(glassRules("users: [ann, ann-admin, bob, cat, eve<managers>]", "users: [ann, ann-admin, bob, cat, eve]") + tellingAll)
	for name, test := range map[string]struct {
		rules        string
		make, decide func(c *deploying)
		about, want  string
	}{
		"a request": {glass, func(c *deploying) {
			must(t, c.user("ann", openRequest{ID: "r-1", Role: "emergency", Scope: "/projects/payments", For: time.Hour, Reason: "why", Ticket: "INC-1"}, time.Second))
		}, func(c *deploying) { must(t, c.user("ann", withdrawRequest{"r-1"}, 2*time.Minute)) }, "request/r-1", "cat eve"},
		"broken glass": {glass, func(c *deploying) { must(t, c.breaks("ann", "1", time.Second)) }, func(c *deploying) {
			for _, user := range []string{"rev", "rex"} {
				must(t, c.user(user, judgeReview{Review: "v-1", Finding: "well"}, 2*time.Minute))
			}
		}, "review/v-1", "bob cat eve rev rex"},
		"the notice of it": {glass, func(c *deploying) { must(t, c.breaks("ann", "1", time.Second)) }, func(c *deploying) {
			for _, user := range []string{"ann-admin", "bob", "cat", "dora", "eve", "rev", "rex"} {
				must(t, c.user(user, acknowledge{"n-v-1"}, 2*time.Minute))
			}
		}, "notice/n-v-1", "bob cat dora eve rev rex"},
		"a campaign": {glass, func(c *deploying) {
			c.Accounts["dora"] = &Account{User: "dora", Credential: "x"}
			must(t, c.user("dora", openCampaign{ID: "c-1", Scope: "/projects/payments", Reviewers: []string{"auditors"}, Until: began.Add(time.Hour), Undecided: KeepItem}, time.Second))
		}, func(c *deploying) {
			must(t, c.user("dora", closeCampaign{Campaign: "c-1", Discard: true, Reason: "x"}, 2*time.Minute))
		}, "campaign/c-1", "bob cat eve rev rex"},
		"a proposal": {glass, func(c *deploying) {
			c.Proposals["p-1"] = &Proposal{ID: "p-1", User: "ann", Persons: []lockkeeper.Person{"ann"}, Deadline: began.Add(time.Hour), Weakens: []string{"x"}, Changes: []ChangedDocument{{Kind: catalog.ProjectKind, Name: "payments"}}}
		}, func(c *deploying) { delete(c.Proposals, "p-1") }, "proposal/p-1", "dora"},
		"an override": {known(overrideRules() + tellingAll), func(c *deploying) {
			c.waiting("1")
			for _, user := range []string{"ann", "oz", "una"} {
				c.shown(user, true, 0)
			}
			must(t, c.asks("ann", "o-a", all, time.Second))
		}, func(c *deploying) { must(t, c.says("oz", "o-a", false, 2*time.Minute)) }, "override/o-a", "oz-2 oz una"},
	} {
		c := deployCore(t, test.rules)
		c.look(t, began)
		test.make(c)
		told := func(at time.Duration) string {
			c.look(t, began.Add(at))
			var out []string
			for _, line := range c.told(began.Add(at)) {
				if fields := strings.Fields(line); slices.Contains(fields[2:], test.about) {
					out = append(out, strings.TrimSuffix(fields[1], ":"))
				}
			}
			return strings.Join(out, " ")
		}
		if got := told(time.Minute); got != test.want {
			t.Errorf("%s: told are %q, want %q: %v", name, got, test.want, c.told(began.Add(time.Minute)))
		}
		test.decide(c)
		if got := told(3 * time.Minute); got != "" {
			t.Errorf("%s: it is decided, and %q are told", name, got)
		}
	}
}
