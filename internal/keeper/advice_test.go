package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/access"
)

const adviceRules = `
{kind: User, name: dora}
---
{kind: User, name: ann}
---
{kind: User, name: bob}
---
{kind: User, name: cat}
---
{kind: User, name: eve}
---
{kind: Group, name: leads, users: [bob, cat]}
---
{kind: Group, name: nobody}
---
{kind: Project, name: p}
---
{kind: Environment, name: e, project: p, tier: development, persons: {write: 3}}
---
{kind: Role, name: operator, actions: [deployments/start, freezes/write, leases/revoke]}
---
{kind: Assignment, name: administration, role: organisation-administrator, principal: user:dora, scope: /}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:leads, scope: /}
---
{kind: Assignment, name: bob-decides, role: access-approver, principal: user:bob, scope: /projects/p}
---
{kind: Assignment, name: operators, role: operator, principal: user:ann, scope: /projects/p, eligible: true}
---
{kind: Assignment, name: never, role: operator, principal: user:cat, scope: /projects/p, eligible: true}
---
{kind: Assignment, name: auditors, role: auditor, principal: user:eve, scope: /}
---
{kind: Assignment, name: alone, role: organisation-administrator, principal: user:eve, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: op, role: operator, scope: /projects/p, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}
---
{kind: ActivationRule, name: admin, role: organisation-administrator, scope: /, approvals: [{name: one, approval: {count: 1, groups: [nobody]}}]}
`

// travelled is a keeper of adviceRules since 200 days, and how its clock goes on.
func travelled(t *testing.T) (k *Keeper, later func(days int)) {
	now := time.Now().Add(-200 * 24 * time.Hour).Truncate(time.Second)
	var clock atomic.Pointer[time.Time]
	later = func(days int) {
		now = now.Add(time.Duration(days) * 24 * time.Hour)
		then := now
		clock.Store(&then)
	}
	later(0)
	k, _ = started(t, Options{Clock: func() time.Time { return *clock.Load() }})
	_, err := k.Apply(context.Background(), Caller{User: "dora"}, mustRules(t, adviceRules).Catalog, 2, "")
	must(t, err)
	return k, later
}

// TestAdvice plays a year in which little of what is held is used: what is told is
// exactly what was not, with the entries that show it.
func TestAdvice(t *testing.T) {
	ctx := context.Background()
	k, later := travelled(t)
	dora, ann, bob := Caller{User: "dora"}, Caller{User: "ann"}, Caller{User: "bob"}
	advice, err := k.Recommend(ctx, dora, 90, 4)
	must(t, err)
	// What is young is told nothing about its use.
	if len(advice.List) != 1 || advice.List[0].Kind != access.RedundantAssignment || advice.List[0].Edit.Key.Name != "bob-decides" {
		t.Errorf("%+v", advice.List)
	}
	for range 3 {
		later(50)
		r, err := k.RequestActivation(ctx, ann, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
		must(t, err)
		v, err := k.Request(ctx, bob, r)
		must(t, err)
		must(t, k.DecideRequest(ctx, bob, r, RequestVerdict{Approve: true, Digest: v.Digest}))
		_, err = k.BeginActivation(ctx, ann, r)
		must(t, err)
	}
	later(1)
	if advice, err = k.Recommend(ctx, dora, 90, 4); err != nil {
		t.Fatal(err)
	}
	got := map[string]access.Recommendation{}
	for _, m := range advice.List {
		got[m.Kind+" "+m.Edit.Key.Name+m.Next] = m
	}
	for _, want := range []string{"redundant bob-decides", "never_activated never", "never_activated alone"} {
		if _, is := got[want]; !is {
			t.Errorf("%s is not told: %v", want, got)
		}
	}
	if _, is := got["never_activated operators"]; is {
		t.Error("what ann activates is said to be unused")
	}
	for _, m := range advice.List {
		if m.Kind == access.StandingSeldomUsed && m.Role == "access-approver" && (m.Evidence.Days != 2 || m.Evidence.Count != 3 || len(m.Evidence.Seqs) == 0) {
			t.Errorf("%+v", m.Evidence)
		}
	}
	for _, bad := range [][2]int{{0, 4}, {366, 4}, {90, -1}, {90, 8}} {
		_, err := k.Recommend(ctx, dora, bad[0], bad[1])
		want(t, err, "window_unfit")
	}
	_, err = k.Recommend(ctx, ann, 90, 4)
	want(t, err, "not_granted")
}

func TestAlerts(t *testing.T) {
	ctx := context.Background()
	k, later := travelled(t)
	dora := Caller{User: "dora"}
	kinds := func(th Thresholds) (out []string) {
		list, err := k.Alerts(ctx, dora, th)
		must(t, err)
		for _, a := range list {
			out = append(out, a.Kind+" "+a.Subject)
			if a.Severity == "" || a.Sentence == "" || a.Next == "" {
				t.Errorf("%+v", a)
			}
		}
		return out
	}
	young := kinds(Thresholds{})
	wanted := []string{"quorum_missing activating organisation-administrator at /projects/p", "standing_privileged assignment administration", "duplicate assignment bob-decides", "empty_group group:nobody"}
	if !slices.Equal(young, wanted) {
		t.Errorf("got  %q\nwant %q", young, wanted)
	}
	later(100)
	_, _, err := k.SignIn(ctx, "dora", "a password of dora", "here")
	must(t, err)
	old := strings.Join(kinds(Thresholds{}), ", ")
	for _, want := range []string{"stale_account user:ann", "stale_account user:bob", "unused assignment deciders"} {
		if !strings.Contains(old, want) {
			t.Errorf("no %s: %s", want, old)
		}
	}
	for _, not := range []string{"stale_account user:dora", "unused assignment auditors", "administrators_many", "persons_many"} {
		if strings.Contains(old, not) {
			t.Errorf("%s: %s", not, old)
		}
	}
	if many := strings.Join(kinds(Thresholds{Administrators: -0, Share: 100, Stale: 365, Unused: 365}), ", "); strings.Contains(many, "stale") || strings.Contains(many, "unused") {
		t.Errorf("%s", many)
	}
	for i := range 3 {
		r, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: fmt.Sprint(i)})
		must(t, err)
		v, err := k.Request(ctx, Caller{User: "ann"}, r)
		must(t, err)
		must(t, k.DecideRequest(ctx, Caller{User: "bob"}, r, RequestVerdict{Approve: true, Digest: v.Digest}))
		_, err = k.BeginActivation(ctx, Caller{User: "ann"}, r)
		must(t, err)
	}
	if often := kinds(Thresholds{Often: 3}); !slices.Contains(often, "activated_often user:ann") || slices.Contains(kinds(Thresholds{Often: 4}), "activated_often user:ann") {
		t.Errorf("%q", often)
	}
	counts, err := k.CountAlerts(ctx)
	must(t, err)
	if len(counts) != len(AlertKinds()) || counts["empty_group"] != 1 || counts["duplicate"] != 1 || counts["administrators_many"] != 0 {
		t.Errorf("%v", counts)
	}
	for _, bad := range []Thresholds{{Often: -1}, {Share: 101}, {Stale: 366}} {
		_, err := k.Alerts(ctx, dora, bad)
		want(t, err, "threshold_unfit")
	}
	_, err = k.Alerts(ctx, Caller{User: "ann"}, Thresholds{})
	want(t, err, "not_granted")
}

// Many administrators are too many only if they are a large share, too.
func TestAlertAdministrators(t *testing.T) {
	ctx := context.Background()
	k, _ := travelled(t)
	text := adviceRules
	for i := range 4 {
		text += fmt.Sprintf("---\n{kind: User, name: admin%d}\n---\n{kind: Assignment, name: admin%d, role: organisation-administrator, principal: user:admin%d, scope: /}\n", i, i, i)
	}
	_, err := k.Apply(ctx, Caller{User: "dora"}, mustRules(t, text).Catalog, 3, "")
	must(t, err)
	for th, want := range map[Thresholds]bool{{}: true, {Administrators: 5}: false, {Share: 60}: false, {Administrators: 4, Share: 50}: true} {
		list, err := k.Alerts(ctx, Caller{User: "dora"}, th)
		must(t, err)
		if got := slices.ContainsFunc(list, func(a Alert) bool { return a.Kind == "administrators_many" }); got != want {
			t.Errorf("%+v: %v", th, got)
		}
	}
}

// No catalog is applied under which more persons can reach an environment than its
// budget has, also by a directory's word; who joins later is an alert.
func TestBudgetOfPersons(t *testing.T) {
	ctx := context.Background()
	k, _ := travelled(t)
	dora := Caller{User: "dora"}
	text := adviceRules + "---\n{kind: Assignment, name: bob-too, role: operator, principal: user:bob, scope: /projects/p, eligible: true}\n"
	apply := func(text string, base int) error {
		_, err := k.Apply(ctx, dora, mustRules(t, text).Catalog, base, "")
		return err
	}
	must(t, apply(text, 3)) // ann, bob, cat
	text += "---\n{kind: Assignment, name: eve-too, role: operator, principal: user:eve, scope: /}\n"
	want(t, apply(text, 4), "persons_many")
	must(t, apply(strings.Replace(text, "write: 3", "write: 4", 1), 4))
	want(t, apply(text, 5), "persons_many") // smaller than who is there

	filled := text + "---\n{kind: Directory, name: corp, platform: okta, issuer: https://corp.okta.com, client: c, admit: true, groups: [{id: ops, group: ops}]}\n---\n{kind: Group, name: ops}\n---\n{kind: Assignment, name: ops, role: operator, principal: group:ops, scope: /}\n"
	must(t, apply(strings.Replace(filled, "write: 3", "write: 4", 1), 5))
	_, _, err := k.SignInBy(ctx, Said{Directory: "corp", Subject: "f", Name: "fay", Groups: []string{"ops"}, At: k.now()})
	must(t, err)
	list, err := k.Alerts(ctx, dora, Thresholds{})
	must(t, err)
	if !slices.ContainsFunc(list, func(a Alert) bool { return a.Kind == "persons_many" && slices.Contains(a.Evidence, "fay") }) {
		t.Errorf("%+v", list)
	}
	filled = strings.Replace(filled, "write: 3", "write: 4", 1)
	must(t, apply(filled+"---\n{kind: Group, name: more}\n", 6)) // no more than there are
	want(t, apply(filled+"---\n{kind: User, name: gus}\n---\n{kind: Assignment, name: gus, role: operator, principal: user:gus, scope: /}\n", 7), "persons_many")
}
