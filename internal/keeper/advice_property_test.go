package keeper

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// TestAdviceServesWhatWasDone lets people ask, approve, begin, end and apply at random
// for months, follows all that is recommended, and replays every right that a command
// of the window rested on: whoever could still use it can still use it, or activate it.
func TestAdviceServesWhatWasDone(t *testing.T) {
	law := accessLawOf(t, "<wider>", ", leases/revoke, freezes/write", "<bob>", "bob, ", "<deny>",
		"---\n{kind: Assignment, name: cat-decides, role: access-approver, principal: user:cat, scope: /}\n---\n{kind: Assignment, name: ann-too, role: operator, principal: user:ann, scope: /projects/p/environments/e, eligible: true}\n"+
			"---\n{kind: ActivationRule, name: admins, role: organisation-administrator, scope: /}\n---\n{kind: Assignment, name: bob-administers, role: organisation-administrator, principal: user:bob, scope: /}\n")
	followed, kept := map[string]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		c := &core{world: world{State: newState(), rules: law}}
		c.Accounts["dora"] = &Account{User: "dora", Credential: "x"}
		now := began
		var done []Entry
		do := func(by string, cmd command) {
			s, err := c.step(Caller{User: by, Keeper: by == ""}, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			done = append(done, s.entries...)
		}
		do("", firstEntry{})
		users := []string{"ann", "bob", "cat", "dora"}
		for i := range rapid.IntRange(5, 25).Draw(t, "acts") {
			now = now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "hours")) * time.Hour)
			user := rapid.SampledFrom(users).Draw(t, "user")
			do("", sweep{})
			switch rapid.IntRange(0, 2).Draw(t, "act") {
			case 0:
				r := fmt.Sprint("r-", i)
				do(user, openRequest{ID: r, Role: "operator", Scope: rapid.SampledFrom([]lockkeeper.Scope{"/projects/p", "/projects/p/environments/e"}).Draw(t, "scope"), For: time.Hour, Reason: "why"})
				if c.Requests[r] == nil {
					continue
				}
				do(rapid.SampledFrom(users).Draw(t, "approver"), decideRequest{Request: r, Approve: true, Digest: c.Requests[r].Digest})
				do(user, beginActivation{r, "a-" + r})
			case 1:
				for _, id := range slices.Sorted(maps.Keys(c.Activations)) {
					do(user, endActivation{Activation: id})
				}
			case 2:
				do(user, inviteAccount{User: "cat", Code: lockkeeper.DigestOf([]byte{byte(i)})})
			}
		}
		now = now.Add(time.Hour)
		h := access.Habits{Now: now, From: now.Add(-45 * 24 * time.Hour), Observed: c.Observed, Seldom: rapid.IntRange(0, 7).Draw(t, "seldom"), SignsIn: func(u string) bool { return u == "dora" }, Join: access.New}
		for _, key := range slices.Sorted(maps.Keys(c.Uses)) {
			h.Uses = append(h.Uses, c.Uses[key].Clone())
		}
		list, _ := access.Recommend(law.Catalog, h)
		var edits []catalog.Edit
		for _, m := range list {
			if m.Edit.Key.Name != "" {
				edits = append(edits, m.Edit)
				followed[m.Kind]++
			}
		}
		next, err := law.Catalog.Edited(edits)
		if err != nil {
			t.Fatal(err)
		}
		x := access.New(next)
		for _, e := range done {
			for _, u := range e.Used {
				if e.Time.Before(h.From) {
					continue
				}
				kept++
				ok := u.Action == access.Activating && x.Eligible(u.User, u.Role, u.Scope, now).Passed(now) ||
					u.Action != access.Activating && (x.Allowed(u.User, u.Action, u.Scope, now) || len(x.Activatable(u.User, u.Action, u.Scope, now)) > 0)
				if !ok {
					t.Fatalf("entry %d: %s used %s %s at %s, and cannot after %v", e.Seq, u.User, u.Action, u.Role, u.Scope, edits)
				}
			}
		}
		if len(x.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now)) == 0 {
			t.Fatal("nobody administers")
		}
	})
	if kept == 0 || followed[access.RedundantAssignment]+followed[access.StandingSeldomUsed]+followed[access.NeverActivated] == 0 {
		t.Errorf("%d uses, followed %v", kept, followed)
	}
	t.Log(kept, followed)
}
