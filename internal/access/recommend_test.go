package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

const window = 90 * 24 * time.Hour

var today = epoch.Add(100 * 24 * time.Hour)

// habits are those of a catalog that was as it is for long.
func habits(uses ...Use) Habits {
	return Habits{Now: today, From: today.Add(-window), Observed: epoch, Uses: uses, Seldom: 2, Join: New, SignsIn: func(string) bool { return true }}
}

// used is a use, the given days ago, as the keeper would note it.
func used(c *catalog.Catalog, user string, action lockkeeper.Action, role string, scope lockkeeper.Scope, ago ...int) Use {
	u := Use{User: user, Action: action, Role: role, Scope: scope}
	x := New(c)
	for i, d := range ago {
		when := today.Add(-time.Duration(d) * 24 * time.Hour)
		by := map[string]lockkeeper.Digest{}
		give := func(d lockkeeper.Decision) {
			for _, b := range d.Because {
				if name, is := strings.CutPrefix(b.Subject, "assignment "); is && d.Passed(when) && b.Verdict == lockkeeper.Pass {
					by[name] = c.DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: name})
				}
			}
		}
		if action == Activating {
			give(x.Eligible(user, role, scope, when))
		} else if give(x.Check(user, action, scope, when)); len(by) == 0 {
			for _, a := range x.Activatable(user, action, scope, when) {
				give(x.Eligible(user, a.Role, scope, when))
			}
		}
		u.Note(when, int64(100+i), by)
	}
	return u
}

const team = `
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development}
---
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cid}
---
{kind: Group, name: engineers, users: [ann, bob]}
---
{kind: Group, name: everybody, groups: [engineers]}
---
{kind: Role, name: operator, actions: [deployments/*, freezes/write], notActions: [deployments/read]}
---
{kind: Role, name: starter, actions: [deployments/start]}
---
{kind: ActivationRule, name: operators, role: operator, scope: /}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:ann, scope: /}
---
{kind: Assignment, name: administration-too, role: organisation-administrator, principal: user:bob, scope: /}
`

func brief(list []Recommendation) string {
	var out []string
	for _, m := range list {
		subject := m.Edit.Key.Name
		if subject == "" {
			subject = "(" + m.Role + ")"
		}
		out = append(out, m.Kind+" "+subject)
	}
	return strings.Join(out, ", ")
}

func TestRecommend(t *testing.T) {
	admins := func(c *catalog.Catalog) []Use {
		return []Use{used(c, "ann", lockkeeper.WriteAccess, "", "/", 1, 2, 3, 4), used(c, "bob", lockkeeper.WriteAccess, "", "/", 1, 2, 3, 4)}
	}
	for _, test := range []struct {
		name, more string
		uses       func(c *catalog.Catalog) []Use
		want       string
	}{
		{"nothing to say", "", nil, ""},
		{"seldom used", "---\n{kind: Assignment, name: ops, role: operator, principal: group:engineers, scope: /projects/p}", func(c *catalog.Catalog) []Use {
			return []Use{used(c, "ann", lockkeeper.StartDeployments, "", "/projects/p/environments/e", 40, 3)}
		}, "standing ops, unused_actions operator"},
		{"used on days enough, of both together", "---\n{kind: Assignment, name: ops, role: operator, principal: group:engineers, scope: /projects/p}", func(c *catalog.Catalog) []Use {
			return []Use{used(c, "ann", lockkeeper.StartDeployments, "", "/projects/p/environments/e", 40, 3), used(c, "bob", lockkeeper.StartDeployments, "", "/projects/p/environments/e", 39)}
		}, "unused_actions operator"},
		{"used before the window only", "---\n{kind: Assignment, name: ops, role: operator, principal: user:ann, scope: /projects/p}", func(c *catalog.Catalog) []Use {
			return []Use{used(c, "ann", lockkeeper.StartDeployments, "", "/projects/p/environments/e", 99, 98, 97, 96)}
		}, "standing ops"},
		{"no rule to activate it by", "---\n{kind: Assignment, name: s, role: starter, principal: user:ann, scope: /projects/p}", nil, "standing (starter)"},
		{"given twice", "---\n{kind: Assignment, name: wide, role: operator, principal: group:everybody, scope: /}\n---\n{kind: Assignment, name: narrow, role: starter, principal: user:ann, scope: /projects/p}", nil, "redundant narrow"},
		{"given twice, but not for as long", "---\n{kind: Assignment, name: wide, role: starter, principal: group:everybody, scope: /, end: 2027-01-01T00:00:00Z}\n---\n{kind: Assignment, name: narrow, role: starter, principal: group:engineers, scope: /projects/p}", nil, "standing (starter), standing (starter)"},
		{"two that give each other's", "---\n{kind: Assignment, name: a1, role: starter, principal: group:engineers, scope: /}\n---\n{kind: Assignment, name: a2, role: starter, principal: group:engineers, scope: /}", nil, "redundant a2"},
		{"over", "---\n{kind: Assignment, name: over, role: starter, principal: user:ann, scope: /, end: 2026-03-02T00:00:00Z}", nil, "ended over"},
		{"never activated", "---\n{kind: Assignment, name: may, role: operator, principal: user:ann, scope: /projects/p, eligible: true}", nil, "never_activated may"},
		{"never activated, for it is for emergencies", "---\n{kind: Assignment, name: may, role: starter, principal: user:ann, scope: /projects/p, eligible: true}\n---\n{kind: ActivationRule, name: glass, role: starter, scope: /, breakGlass: {reviewers: {groups: [engineers]}}}", nil, ""},
		{"activated and then little used", "---\n{kind: Assignment, name: may, role: operator, principal: user:cid, scope: /projects/p, eligible: true}", func(c *catalog.Catalog) []Use {
			return []Use{used(c, "cid", Activating, "operator", "/projects/p", 5), used(c, "cid", lockkeeper.WriteFreezes, "", "/projects/p", 5)}
		}, "unused_actions operator"},
		{"a deny uses the role", "---\n{kind: Assignment, name: ops, role: operator, principal: user:ann, scope: /projects/p}\n---\n{kind: Assignment, name: not, role: operator, principal: user:bob, scope: /projects/p, deny: true}", func(c *catalog.Catalog) []Use {
			return []Use{used(c, "ann", lockkeeper.WriteFreezes, "", "/projects/p", 1, 2, 3)}
		}, ""},
	} {
		c := read(t, team+test.more)
		uses := admins(c)
		if test.uses != nil {
			uses = append(uses, test.uses(c)...)
		}
		list, skipped := Recommend(c, habits(uses...))
		// Who administers is no matter here.
		list = slices.DeleteFunc(list, func(m Recommendation) bool { return m.Role == "organisation-administrator" })
		if got := brief(list); got != test.want || skipped > 0 {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// What is young, and what was not observed for long enough, says nothing.
func TestRecommendKnowsWhatItDoesNotKnow(t *testing.T) {
	c := read(t, team+"---\n{kind: Assignment, name: ops, role: operator, principal: group:engineers, scope: /projects/p}")
	h := habits(used(c, "ann", lockkeeper.StartDeployments, "", "/projects/p/environments/e", 3))
	for _, k := range []catalog.Key{{Kind: catalog.AssignmentKind, Name: "ops"}, {Kind: catalog.RoleKind, Name: "operator"}, {Kind: catalog.GroupKind, Name: "engineers"}} {
		h.Young = map[catalog.Key]bool{k: true}
		if list, _ := Recommend(c, h); strings.Contains(brief(list), "ops") || strings.Contains(brief(list), "operator") {
			t.Errorf("%s is young: %s", k, brief(list))
		}
	}
	h.Young = nil
	for _, observed := range []lockkeeper.Moment{{}, h.From.Add(time.Millisecond)} {
		h.Observed = observed
		if list, _ := Recommend(c, h); len(list) > 0 {
			t.Errorf("observed since %s: %s", observed, brief(list))
		}
	}
	h.Observed = h.From
	list, _ := Recommend(c, h)
	i := slices.IndexFunc(list, func(m Recommendation) bool { return m.Kind == UnusedActions })
	if i < 0 || !slices.Equal(list[i].Edit.Actions, []lockkeeper.ActionPattern{"deployments/start"}) {
		t.Fatalf("%+v", list)
	}
	if e := list[i].Evidence; e.Days != 1 || e.Count != 1 || !slices.Equal(e.Seqs, []int64{100}) || e.Last != today.Add(-3*24*time.Hour) {
		t.Errorf("%+v", e)
	}
}

// The last administrator who can sign in stays, though nobody administers anything.
func TestRecommendKeepsAnAdministrator(t *testing.T) {
	c := read(t, team+"---\n{kind: ActivationRule, name: admins, role: organisation-administrator, scope: /}")
	h := habits()
	if list, _ := Recommend(c, h); brief(list) != "standing administration" {
		t.Errorf("%s", brief(list))
	}
	h.SignsIn = func(user string) bool { return user == "ann" }
	if list, _ := Recommend(c, h); brief(list) != "standing administration-too" {
		t.Errorf("%s", brief(list))
	}
}

// drawTeam is a random catalog as a text, with users, groups, roles and scopes that
// meet often.
func drawTeam(t *rapid.T) *catalog.Catalog {
	b := new(strings.Builder)
	b.WriteString("{kind: Project, name: p}\n---\n{kind: Project, name: q}\n---\n{kind: Environment, name: e, project: p, tier: development}\n")
	users, groups := []string{"u0", "u1", "u2"}, []string{"g0", "g1", "g2"}
	for _, u := range users {
		fmt.Fprintf(b, "---\n{kind: User, name: %s}\n", u)
	}
	for i, g := range groups {
		var in, inner []string
		for _, u := range users {
			if rapid.Bool().Draw(t, "in") {
				in = append(in, u)
			}
		}
		if i > 0 && rapid.Bool().Draw(t, "nested") {
			inner = groups[i-1 : i]
		}
		fmt.Fprintf(b, "---\n{kind: Group, name: %s, users: [%s], groups: [%s]}\n", g, strings.Join(in, ", "), strings.Join(inner, ", "))
	}
	for i := range 3 {
		list := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"'*'", "deployments/*", "deployments/approve", "deployments/start", "access/write", "'*/write'", "journal/*"}), 1, 3, rapid.ID[string]).Draw(t, "actions")
		not := rapid.SampledFrom([]string{"", "", "deployments/read", "deployments/*"}).Draw(t, "not")
		fmt.Fprintf(b, "---\n{kind: Role, name: r%d, actions: [%s], notActions: [%s]}\n", i, strings.Join(list, ", "), not)
		if rapid.IntRange(0, 2).Draw(t, "rule") > 0 {
			fmt.Fprintf(b, "---\n{kind: ActivationRule, name: rule%d, role: r%d, scope: /}\n", i, i)
		}
	}
	for i := range rapid.IntRange(1, 8).Draw(t, "assignments") {
		to := "user:" + rapid.SampledFrom(users).Draw(t, "user")
		if rapid.Bool().Draw(t, "to group") {
			to = "group:" + rapid.SampledFrom(groups).Draw(t, "group")
		}
		r := rapid.IntRange(0, 2).Draw(t, "role")
		more := ""
		switch effect := rapid.IntRange(0, 7).Draw(t, "effect"); {
		case effect == 0:
			more = ", deny: true"
		case effect < 3 && strings.Contains(b.String(), fmt.Sprintf("name: rule%d,", r)):
			more = ", eligible: true"
		}
		if rapid.IntRange(0, 3).Draw(t, "starts") == 0 {
			more += ", start: " + today.Add(time.Duration(rapid.IntRange(-120, 5).Draw(t, "start"))*24*time.Hour).String()
		}
		if rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
			more += ", end: " + today.Add(time.Duration(rapid.IntRange(6, 9).Draw(t, "end"))*24*time.Hour).String()
		}
		fmt.Fprintf(b, "---\n{kind: Assignment, name: a%d, role: r%d, principal: %s, scope: %s%s}\n", i, r, to, rapid.SampledFrom(teamScopes).Draw(t, "scope"), more)
	}
	c, problems := catalog.Read([]catalog.File{{Name: "team.yaml", Data: []byte(b.String())}})
	if err := problems.Err(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return c
}

var teamScopes = []lockkeeper.Scope{"/", "/projects/p", "/projects/q", "/projects/p/environments/e"}

// possible is by reading the catalog from end to end whether a user holds an action,
// or may activate a role that gives it.
func possible(c *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	if reference(c, user, action, scope, now) {
		return true
	}
	may := false
	for _, a := range c.Assignments {
		if !inTime(a, now) || !words(string(scope), string(a.Scope)) || !allows(c.Roles[a.Role], action) {
			continue
		}
		if mine := a.Principal.Kind == lockkeeper.UserPrincipal && a.Principal.Name == user || a.Principal.Kind == lockkeeper.GroupPrincipal && contains(c, a.Principal.Name, user, 0); mine {
			if a.Deny {
				return false
			}
			may = may || a.Eligible && len(c.RulesOf(a.Role, scope)) > 0
		}
	}
	return may
}

// activatable is the same for activating a role.
func activatable(c *catalog.Catalog, user, role string, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	for _, a := range c.Assignments {
		mine := a.Principal.Kind == lockkeeper.UserPrincipal && a.Principal.Name == user || a.Principal.Kind == lockkeeper.GroupPrincipal && contains(c, a.Principal.Name, user, 0)
		if mine && a.Eligible && a.Role == role && inTime(a, now) && words(string(scope), string(a.Scope)) {
			return len(c.RulesOf(role, scope)) > 0
		}
	}
	return false
}

// drawUses are uses that were possible when they happened.
func drawUses(t *rapid.T, c *catalog.Catalog) (out []Use) {
	x := New(c)
	for range rapid.IntRange(0, 6).Draw(t, "uses") {
		user := rapid.SampledFrom([]string{"u0", "u1", "u2"}).Draw(t, "who")
		scope := rapid.SampledFrom(teamScopes).Draw(t, "where")
		var ago []int
		for range rapid.IntRange(1, 4).Draw(t, "days") {
			ago = append(ago, rapid.IntRange(0, 99).Draw(t, "ago"))
		}
		slices.SortFunc(ago, func(a, b int) int { return b - a })
		if rapid.IntRange(0, 3).Draw(t, "activates") == 0 {
			role := rapid.SampledFrom([]string{"r0", "r1", "r2"}).Draw(t, "which")
			ago = slices.DeleteFunc(ago, func(d int) bool {
				return !x.Eligible(user, role, scope, today.Add(-time.Duration(d)*24*time.Hour)).Passed(today.Add(-time.Duration(d) * 24 * time.Hour))
			})
			if len(ago) > 0 {
				out = append(out, used(c, user, Activating, role, scope, ago...))
			}
			continue
		}
		action := rapid.SampledFrom(observed).Draw(t, "what")
		ago = slices.DeleteFunc(ago, func(d int) bool {
			return !possible(c, user, action, scope, today.Add(-time.Duration(d)*24*time.Hour))
		})
		if len(ago) > 0 {
			out = append(out, used(c, user, action, "", scope, ago...))
		}
	}
	return out
}

// TestRecommendationsTakeNothingUsed replays all that was used against the catalog
// that following recommendations makes, one alone and all together: whoever could
// still do it can still do it. Each takes something; a redundant assignment changes
// no answer at all; and none weakens anything.
func TestRecommendationsTakeNothingUsed(t *testing.T) {
	told := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		c := drawTeam(t)
		uses := drawUses(t, c)
		list, _ := Recommend(c, habits(uses...))
		var all []Recommendation
		for _, m := range list {
			if m.Edit.Key.Name == "" {
				continue
			}
			all = append(all, m)
			told[m.Kind]++
			next := follow(t, c, m)
			replay(t, c, next, uses, m.Sentence)
			same := answers(c) == answers(next)
			switch m.Kind {
			case RedundantAssignment, EndedAssignment:
				if !same {
					t.Fatalf("%s: some answer changes", m.Sentence)
				}
			case UnusedActions:
				if role, was := next.Roles[m.Role], c.Roles[m.Role]; len(m.Actions) == 0 || slices.ContainsFunc(lockkeeper.Actions(), func(a lockkeeper.Action) bool {
					return allows(role, a) != (allows(was, a) && !slices.Contains(m.Actions, a))
				}) {
					t.Fatalf("%s: %v becomes %v", m.Sentence, was, role)
				}
			}
		}
		replay(t, c, follow(t, c, all...), uses, "all together")
	})
	for _, kind := range []string{RedundantAssignment, NeverActivated, StandingSeldomUsed, UnusedActions} {
		if told[kind] == 0 {
			t.Errorf("nothing was ever %s: %v", kind, told)
		}
	}
}

func follow(t *rapid.T, c *catalog.Catalog, list ...Recommendation) *catalog.Catalog {
	next, err := c.Edited(editsOf(nil, list))
	if err != nil {
		t.Fatal(err)
	}
	diff := catalog.Explain(c, next)
	if len(diff) != len(list) {
		t.Fatalf("%d recommendations change %v", len(list), diff)
	}
	for _, d := range diff {
		if len(d.Weakens) > 0 {
			t.Fatalf("%v weakens: %v", d.Key, d.Weakens)
		}
	}
	return next
}

func replay(t *rapid.T, was, is *catalog.Catalog, uses []Use, what string) {
	could := func(c *catalog.Catalog, u Use) bool {
		if u.Action == Activating {
			return activatable(c, u.User, u.Role, u.Scope, today)
		}
		return possible(c, u.User, u.Action, u.Scope, today)
	}
	for _, u := range uses {
		if !u.Last.Before(today.Add(-window)) && could(was, u) && !could(is, u) {
			t.Fatalf("%s: %s can %s %s at %s no more, and did on %v", what, u.User, u.Action, u.Role, u.Scope, u.Days)
		}
	}
}

// answers are all answers that a catalog gives, now and later.
func answers(c *catalog.Catalog) string {
	b := new(strings.Builder)
	for _, days := range []int{0, 2, 6, 8, 10} {
		now := today.Add(time.Duration(days) * 24 * time.Hour)
		for _, user := range []string{"u0", "u1", "u2"} {
			for _, scope := range teamScopes {
				for _, action := range lockkeeper.Actions() {
					fmt.Fprint(b, count(reference(c, user, action, scope, now)), count(possible(c, user, action, scope, now)))
				}
				for _, role := range []string{"r0", "r1", "r2"} {
					fmt.Fprint(b, count(activatable(c, user, role, scope, now)))
				}
			}
		}
	}
	return b.String()
}

// BenchmarkRecommend is a catalog of about as many documents as there may be.
func BenchmarkRecommend(b *testing.B) {
	text := new(strings.Builder)
	text.WriteString(team)
	for i := range 2000 {
		fmt.Fprintf(text, "---\n{kind: User, name: u%d}\n", i)
	}
	for i := range 300 {
		fmt.Fprintf(text, "---\n{kind: Group, name: g%d, users: [u%d, u%d, u%d]}\n---\n{kind: Project, name: p%d}\n", i, i, i+1, i+2, i)
	}
	var uses []Use
	for i := range 6000 {
		fmt.Fprintf(text, "---\n{kind: Assignment, name: a%d, role: %s, principal: user:u%d, scope: /projects/p%d}\n", i, []string{"operator", "starter", "developer"}[i%3], i%2000, i%300)
		uses = append(uses, Use{User: fmt.Sprint("u", i%2000), Action: lockkeeper.StartDeployments, Scope: lockkeeper.ProjectScope(fmt.Sprint("p", i%300)), Last: today, Count: 1})
	}
	c := read(b, text.String())
	for b.Loop() {
		list, skipped := Recommend(c, habits(uses...))
		if len(list) == 0 {
			b.Fatal(skipped)
		}
	}
}
