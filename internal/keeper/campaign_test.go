package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// outcomes spells what became of the items of a campaign.
func outcomes(list []OutcomeOfItem) string {
	var out []string
	for _, o := range list {
		sign := "+"
		if o.Removed {
			sign = "-"
		}
		out = append(out, sign+o.Assignment+" "+o.Why)
	}
	return strings.Join(out, ", ")
}

// TestCampaign plays a review: who may decide what, and what becomes of it at the end.
func TestCampaign(t *testing.T) {
	ctx := context.Background()
	k, later := travelled(t)
	dora, ann, bob, cat := Caller{User: "dora"}, Caller{User: "ann"}, Caller{User: "bob"}, Caller{User: "cat"}
	revision := func() int { r, _ := k.Revision(); return r.Number }
	base := OpenCampaign{Title: "spring", Scope: "/projects/p", Reviewers: []string{"leads"}, Until: k.now().Add(14 * 24 * time.Hour), Undecided: KeepItem}
	with := func(change func(*OpenCampaign)) OpenCampaign {
		o := base
		change(&o)
		return o
	}
	for code, o := range map[string]OpenCampaign{
		"undecided_unfit": with(func(o *OpenCampaign) { o.Undecided = "" }),
		"deadline_unfit":  with(func(o *OpenCampaign) { o.Until = k.now() }),
		"reviewers_unfit": with(func(o *OpenCampaign) { o.Reviewers = []string{"none"} }),
		"campaign_size":   with(func(o *OpenCampaign) { o.Scope = "/projects/p/environments/e" }),
		"title_long":      with(func(o *OpenCampaign) { o.Title = strings.Repeat("x", 201) }),
	} {
		_, err := k.OpenCampaign(ctx, dora, "", o)
		want(t, err, code)
	}
	_, err := k.OpenCampaign(ctx, bob, "", base)
	want(t, err, "not_granted")
	// Who keeps access without escalating removes no assignment, and opens no campaign.
	_, err = k.Apply(ctx, dora, mustRules(t, adviceRules+"---\n{kind: User, name: kay}\n---\n{kind: Assignment, name: keeps, role: access-administrator, principal: user:kay, scope: /}\n").Catalog, 3, "")
	must(t, err)
	_, err = k.OpenCampaign(ctx, Caller{User: "kay"}, "", base)
	want(t, err, "not_granted")
	_, err = k.Apply(ctx, dora, mustRules(t, adviceRules).Catalog, 4, "")
	must(t, err)
	id, err := k.OpenCampaign(ctx, dora, "", base)
	must(t, err)

	v, err := k.Campaign(ctx, bob, id)
	must(t, err)
	if got := outcomes(v.Outcome); got != "+alone undecided, +bob-decides undecided, +never undecided, +operators undecided" || v.Items[0].Digest == "" {
		t.Errorf("%s", got)
	}
	_, err = k.Campaign(ctx, ann, id)
	want(t, err, "campaign_missing")
	if list, err := k.Campaigns(ctx, ann, false); err != nil || len(list) != 0 {
		t.Errorf("ann sees %v %v", list, err)
	}
	want(t, k.DecideCampaign(ctx, ann, id, []string{"operators"}, nil, ""), "no_reviewer")
	want(t, k.DecideCampaign(ctx, dora, id, []string{"operators"}, nil, ""), "no_reviewer")
	want(t, k.DecideCampaign(ctx, bob, id, nil, []string{"administration"}, ""), "item_unknown")
	want(t, k.DecideCampaign(ctx, bob, id, []string{"never"}, []string{"never"}, ""), "item_unknown")
	want(t, k.DecideCampaign(ctx, bob, id, nil, nil, ""), "verdict_missing")
	want(t, k.DecideCampaign(ctx, bob, id, []string{"bob-decides", "operators"}, nil, ""), "own_assignment")
	want(t, k.DecideCampaign(ctx, cat, id, []string{"never"}, nil, ""), "own_assignment")
	must(t, k.DecideCampaign(ctx, bob, id, []string{"operators"}, []string{"never", "alone"}, "nobody needs them"))
	must(t, k.DecideCampaign(ctx, cat, id, []string{"alone"}, []string{"bob-decides"}, "the group has it"))
	want(t, k.CloseCampaign(ctx, bob, id, false, ""), "not_granted")

	later(15)
	want(t, k.DecideCampaign(ctx, cat, id, []string{"operators"}, nil, ""), "campaign_over")
	k.endCampaigns(ctx)
	if revision() != 6 {
		t.Fatalf("revision %d", revision())
	}
	_, rules := k.Revision()
	for name, stays := range map[string]bool{"alone": true, "operators": true, "never": false, "bob-decides": false, "administration": true} {
		if _, is := rules.Catalog.Assignments[name]; is != stays {
			t.Errorf("%s is there: %v", name, is)
		}
	}
	v, err = k.Campaign(ctx, bob, id)
	must(t, err)
	if v.End == nil || v.End.Status != campaignApplied || v.End.Revision != 6 || outcomes(v.Outcome) != "+alone decided, -bob-decides decided, -never decided, +operators decided" || v.Items[2].Reason != "nobody needs them" {
		t.Errorf("%+v", v)
	}
	if list, err := k.Campaigns(ctx, dora, true); err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("%v %v", list, err)
	}
	var applied *catalogApplied
	must(t, k.backwards(ctx, "catalog", k.now(), func(_ Entry, body event) bool {
		applied, _ = body.(*catalogApplied)
		return false
	}))
	if applied == nil || applied.Campaign != id || !strings.Contains(applied.Message, id) || len(applied.Changes) != 2 {
		t.Errorf("%+v", applied)
	}
	k.endCampaigns(ctx) // again changes nothing
	if revision() != 6 {
		t.Errorf("revision %d", revision())
	}
}

// What was reviewed is what goes: an assignment that reads differently by then stays,
// and a verdict counts only while whoever gave it is a reviewer.
func TestCampaignChangedMeanwhile(t *testing.T) {
	ctx := context.Background()
	k, later := travelled(t)
	dora := Caller{User: "dora"}
	id, err := k.OpenCampaign(ctx, dora, "", OpenCampaign{Scope: "/projects/p", Reviewers: []string{"leads"}, Until: k.now().Add(24 * time.Hour), Undecided: RemoveItem})
	must(t, err)
	must(t, k.DecideCampaign(ctx, Caller{User: "bob"}, id, []string{"operators"}, []string{"alone"}, ""))
	must(t, k.DecideCampaign(ctx, Caller{User: "cat"}, id, nil, []string{"bob-decides"}, ""))
	text := strings.NewReplacer("name: alone, role: organisation-administrator, principal: user:eve", "name: alone, role: organisation-administrator, principal: user:cat",
		"name: leads, users: [bob, cat]", "name: leads, users: [cat]",
		"---\n{kind: Assignment, name: never, role: operator, principal: user:cat, scope: /projects/p, eligible: true}\n", "").Replace(adviceRules)
	_, err = k.Apply(ctx, dora, mustRules(t, text).Catalog, 3, "")
	must(t, err)
	later(2)
	k.endCampaigns(ctx)
	v, err := k.Campaign(ctx, dora, id)
	must(t, err)
	if got := outcomes(v.Outcome); got != "+alone changed, -bob-decides decided, +never gone, -operators reviewer_gone" {
		t.Errorf("%s", got)
	}
}

// The last administrator stays, whatever reviewers say (invariant 8), and nobody
// discards what would take something from himself.
func TestCampaignKeepsAnAdministrator(t *testing.T) {
	ctx := context.Background()
	k, later := travelled(t)
	dora := Caller{User: "dora"}
	id, err := k.OpenCampaign(ctx, dora, "", OpenCampaign{Scope: "/", Reviewers: []string{"leads"}, Until: k.now().Add(24 * time.Hour), Undecided: RemoveItem})
	must(t, err)
	v, err := k.Campaign(ctx, dora, id)
	must(t, err)
	if !slices.Equal(v.Alone, []string{"deciders"}) { // to the reviewers themselves, all of them
		t.Errorf("%v", v.Alone)
	}
	must(t, k.DecideCampaign(ctx, Caller{User: "bob"}, id, []string{"never", "operators"}, []string{"administration"}, ""))
	want(t, k.CloseCampaign(ctx, dora, id, true, "no"), "own_assignment")
	must(t, k.CloseCampaign(ctx, dora, id, false, "all are decided"))
	later(0)
	k.endCampaigns(ctx)
	v, err = k.Campaign(ctx, dora, id)
	must(t, err)
	if got := outcomes(v.Outcome); got != "+administration last_administrator, -alone undecided, -auditors undecided, -bob-decides undecided, -deciders undecided, +never decided, +operators decided" || v.End == nil {
		t.Errorf("%s", got)
	}
	other, err := k.OpenCampaign(ctx, dora, "", OpenCampaign{Scope: "/projects/p", Reviewers: []string{"leads"}, Until: k.now().Add(24 * time.Hour), Undecided: RemoveItem})
	must(t, err)
	must(t, k.CloseCampaign(ctx, dora, other, true, "opened by mistake"))
	if v, err := k.Campaign(ctx, dora, other); err != nil || v.End.Status != campaignDiscarded || v.End.User != "dora" {
		t.Errorf("%+v %v", v.End, err)
	}
}

// TestCampaignsOnlyTake plays random verdicts, changes of the catalog and deadlines
// against a small model: what goes are assignments that were reviewed as they are, by
// whoever is a reviewer still and not for himself, and nothing else changes.
func TestCampaignsOnlyTake(t *testing.T) {
	const rules = adviceRules + "---\n{kind: Assignment, name: not, role: operator, principal: user:cat, scope: /projects/p, deny: true}\n" +
		"---\n{kind: Group, name: ops, users: [eve]}\n---\n{kind: Assignment, name: ops, role: operator, principal: group:ops, scope: /projects/p, eligible: true}\n"
	laws := []*Rules{mustRules(t, rules), mustRules(t, strings.Replace(rules, "users: [bob, cat]", "users: [cat, ann]", 1)), mustRules(t, strings.Replace(rules, "users: [eve]", "users: [eve, bob]", 1)),
		mustRules(t, strings.Replace(rules, "principal: user:ann, scope: /projects/p, eligible", "principal: user:eve, scope: /projects/p, eligible", 1))}
	removed := 0
	rapid.Check(t, func(t *rapid.T) {
		c := &core{world: world{State: newState(), rules: laws[0]}}
		mirror := newState()
		now := began
		c.Accounts["dora"], mirror.Accounts["dora"] = &Account{User: "dora", Credential: "x"}, &Account{User: "dora", Credential: "x"}
		do := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range s.entries {
				if err := mirror.apply(e, s.events[i]); err != nil {
					t.Fatal(err)
				}
			}
			return s.err
		}
		_ = do(Caller{Keeper: true}, firstEntry{})
		undecided := rapid.SampledFrom([]string{KeepItem, RemoveItem}).Draw(t, "undecided")
		scope := rapid.SampledFrom([]lockkeeper.Scope{"/", "/projects/p"}).Draw(t, "scope")
		if err := do(Caller{User: "dora"}, openCampaign{ID: "c-1", Scope: scope, Reviewers: []string{"leads"}, Until: now.Add(time.Hour), Undecided: undecided}); err != nil {
			t.Fatal(err)
		}
		opened := c.rules
		type said struct{ user, verdict string }
		model := map[string]said{}
		for range rapid.IntRange(0, 20).Draw(t, "acts") {
			now = now.Add(time.Minute)
			if rapid.IntRange(0, 4).Draw(t, "act") == 0 {
				c.rules = rapid.SampledFrom(laws).Draw(t, "law")
				continue
			}
			user := rapid.SampledFrom([]string{"ann", "bob", "cat", "dora"}).Draw(t, "user")
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(c.rules.Catalog.Assignments))).Draw(t, "assignment")
			verdict := rapid.SampledFrom([]string{KeepItem, RemoveItem}).Draw(t, "verdict")
			cmd := decideCampaign{Campaign: "c-1", Keep: []string{name}}
			if verdict == RemoveItem {
				cmd.Keep, cmd.Remove = nil, []string{name}
			}
			fits := scope.Contains(opened.Catalog.Assignments[name].Scope) && !opened.Catalog.Assignments[name].Deny &&
				slices.Contains(c.rules.Catalog.Groups["leads"].Users, user) && !gets(c.rules.Catalog, opened.Catalog.Assignments[name].Principal, user)
			if err := do(Caller{User: user}, cmd); (err == nil) != fits {
				t.Fatalf("%s %s %s: %v", user, verdict, name, err)
			}
			if fits {
				model[name] = said{user, verdict}
			}
		}
		now = began.Add(2 * time.Hour)
		before := c.rules.Catalog
		k := &Keeper{state: c.State, rules: c.rules, options: Options{Clock: func() time.Time { return now.Time() }}}
		cmd, err := k.outcomeOf("c-1", now)
		if err != nil {
			t.Fatal(err)
		}
		if err := do(Caller{Keeper: true}, cmd); err != nil || c.Campaigns["c-1"] != nil {
			t.Fatalf("%v, and the campaign is open: %v", err, c.Campaigns["c-1"] != nil)
		}
		for name, a := range opened.Catalog.Assignments {
			s := model[name]
			goes := undecided == RemoveItem
			if s.user != "" && slices.Contains(before.Groups["leads"].Users, s.user) && !gets(before, a.Principal, s.user) {
				goes = s.verdict == RemoveItem
			}
			key := catalog.Key{Kind: catalog.AssignmentKind, Name: name}
			goes = goes && !a.Deny && scope.Contains(a.Scope) && before.DigestOf(key) == opened.Catalog.DigestOf(key) && name != "administration"
			if _, is := c.rules.Catalog.Assignments[name]; is == goes {
				t.Fatalf("%s goes: %v, and is there: %v", name, goes, is)
			}
			if goes {
				removed++
			}
		}
		for _, d := range catalog.Explain(before, c.rules.Catalog) {
			if d.Verb != "removed" || d.Key.Kind != catalog.AssignmentKind || len(d.Weakens) > 0 {
				t.Fatalf("%v %s: %v", d.Key, d.Verb, d.Weakens)
			}
		}
		if a, b := fmt.Sprint(c.Digest()), fmt.Sprint(mirror.Digest()); a != b {
			t.Fatal("the fold differs from the state")
		}
	})
	if removed == 0 {
		t.Error("nothing ever went")
	}
}

// gets reports by the documents whether a principal is or contains a user.
func gets(c *catalog.Catalog, p lockkeeper.Principal, user string) bool {
	return p.Name == user && p.Kind == lockkeeper.UserPrincipal || p.Kind == lockkeeper.GroupPrincipal && slices.Contains(c.Groups[p.Name].Users, user)
}

// A log that goes on from an older copy may have lost verdicts and uses: no campaign
// goes on, and use is known from then on only.
func TestCampaignsFallWithTheCopy(t *testing.T) {
	c, do := accessCore(t)
	c.Accounts["dora"] = &Account{User: "dora", Credential: "c"}
	must(t, do("dora", openCampaign{ID: "c-1", Scope: "/", Reviewers: []string{"leads"}, Until: began.Add(time.Hour), Undecided: RemoveItem}, 0))
	if c.Observed != began || c.Campaigns["c-1"] == nil {
		t.Fatalf("%s %v", c.Observed, c.Campaigns)
	}
	must(t, do("", openEpoch{Number: 2, Confirmer: "dora", Reason: "restored"}, time.Minute))
	if len(c.Campaigns) > 0 || c.Observed != began.Add(time.Minute) {
		t.Errorf("%s %v", c.Observed, c.Campaigns)
	}
}

// Nobody takes away by a review who would have to decide with him.
func TestCampaignKeepsTheSecondPerson(t *testing.T) {
	for name, third := range map[string]bool{"the only other one": false, "one of two others": true} {
		t.Run(name, func(t *testing.T) {
			c, do := accessCore(t, "{kind: User, name: bob}", "{kind: User, name: bob}\n---\n{kind: User, name: zed}\n---\n{kind: User, name: yan}\n---\n{kind: Assignment, name: zeds, role: organisation-administrator, principal: user:zed, scope: /}\n---\n{kind: Assignment, name: yans, role: organisation-administrator, principal: user:yan, scope: /}")
			for _, user := range []string{"dora", "zed", "yan"} {
				if user != "yan" || third {
					c.Accounts[user] = &Account{User: user, Credential: "x", Proven: true}
				}
			}
			must(t, do("dora", openCampaign{ID: "c-1", Scope: "/", Reviewers: []string{"leads"}, Until: began.Add(time.Hour), Undecided: KeepItem}, 0))
			must(t, do("bob", decideCampaign{Campaign: "c-1", Remove: []string{"zeds"}}, 0))
			now := began.Add(time.Hour)
			k := &Keeper{state: c.State, rules: c.rules, options: Options{Clock: func() time.Time { return now.Time() }}}
			cmd, err := k.outcomeOf("c-1", now)
			must(t, err)
			must(t, do("", cmd, time.Hour))
			if _, is := c.rules.Catalog.Assignments["zeds"]; is == third || c.Campaigns["c-1"] != nil {
				t.Errorf("zed administers: %v, open: %v", is, c.Campaigns["c-1"] != nil)
			}
		})
	}
}
