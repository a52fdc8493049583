package gate

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

var now = lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))

var granted = lockkeeper.Decision{Verdict: lockkeeper.Pass, Code: "granted"}

func facts() Facts {
	ask := lockkeeper.Ask{Pipeline: "release", Action: lockkeeper.DeployAction, Stage: "deploy", Repository: "1", Ref: "refs/heads/main", Commit: "c", Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf(nil)}}}
	return Facts{Ask: ask, Environment: catalog.Environment{Name: "production", Project: "p", Tier: catalog.Production, Checks: []catalog.Check{
		{Name: "two", Approval: &catalog.Approval{Count: 2, Groups: []string{"g"}, Review: catalog.SecurityReview}},
		{Name: "main", Branches: &catalog.Branches{Allowed: []string{"refs/heads/main"}}}}},
		Identity:   &catalog.Identity{Name: "i", Stages: []string{"release/deploy"}},
		Initiators: []Initiator{{User: "ann", Persons: []lockkeeper.Person{"ann"}, Right: granted}},
		Records:    []Record{{Artifact: ask.Artifacts[0], Pipeline: "release", Stage: "build", Repository: "1", Commit: "c", Run: "1", At: now}},
		Votes:      []Vote{vote("bob", "g"), vote("cat", "g")}, Opened: now.Add(-time.Minute), Deadline: now.Add(time.Hour)}
}

func vote(user string, groups ...string) Vote {
	return Vote{User: user, Counts: lockkeeper.Person(user), Persons: []lockkeeper.Person{lockkeeper.Person(user)}, Groups: groups, Right: granted, At: now}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Facts)
		verdict lockkeeper.Verdict
		code    string
	}{
		"all is well":                   {func(*Facts) {}, lockkeeper.Pass, "passed"},
		"nobody started it":             {func(f *Facts) { f.Initiators = nil }, lockkeeper.Fail, "initiator_unknown"},
		"an unknown account started it": {func(f *Facts) { f.Initiators[0] = Initiator{Account: "x"} }, lockkeeper.Fail, "initiator_unknown"},
		"an unknown schedule": {func(f *Facts) {
			f.Initiators[0] = Initiator{Account: "x", Automation: true}
			f.Environment.Automation = true
		}, lockkeeper.Fail, "initiator_unknown"},
		"automation is not admitted":   {func(f *Facts) { f.Initiators[0].Automation = true }, lockkeeper.Fail, "automation_not_admitted"},
		"automation asks for one more": {func(f *Facts) { f.Initiators[0].Automation = true; f.Environment.Automation = true }, lockkeeper.Wait, "approvals_missing"},
		"automation with one more": {func(f *Facts) {
			f.Initiators[0].Automation, f.Environment.Automation = true, true
			f.Votes = append(f.Votes, vote("dan", "g"))
		}, lockkeeper.Pass, "passed"},
		"the starter lost the right": {func(f *Facts) { f.Initiators[0].Right = lockkeeper.Decision{Verdict: lockkeeper.Fail} }, lockkeeper.Fail, "initiator_not_permitted"},
		"no right was looked up":     {func(f *Facts) { f.Initiators[0].Right = lockkeeper.Decision{} }, lockkeeper.Fail, "initiator_not_permitted"},
		"no identity":                {func(f *Facts) { f.Identity = nil }, lockkeeper.Fail, "environment_without_identity"},
		"the build stage":            {func(f *Facts) { f.Ask.Stage = "build" }, lockkeeper.Fail, "stage_not_named"},
		"an approver built it":       {func(f *Facts) { f.Records[0].Persons = []lockkeeper.Person{"bob"} }, lockkeeper.Wait, "approvals_missing"},
		"an approver built it again": {func(f *Facts) {
			f.Records = append(f.Records, f.Records[0])
			f.Records[1].Persons = []lockkeeper.Person{"bob"}
		}, lockkeeper.Wait, "approvals_missing"},
		"an approver built it before": {func(f *Facts) {
			f.Ask.Run = "1"
			f.Records = append(f.Records, f.Records[0])
			f.Records[1].Run, f.Records[1].Persons = "2", []lockkeeper.Person{"bob"}
		}, lockkeeper.Wait, "approvals_missing"},
		"an approver built it from another commit": {func(f *Facts) {
			f.Records = append(f.Records, f.Records[0])
			f.Records[1].Commit, f.Records[1].Persons = "d", []lockkeeper.Person{"bob"}
		}, lockkeeper.Wait, "approvals_missing"},
		"an approver built it before it was deployed, and it is put back": {func(f *Facts) {
			f.Ask.Action, f.Good = lockkeeper.RollbackAction, []Release{{Deployment: "d-1", Artifacts: f.Ask.Artifacts}}
			f.Records = append(f.Records, f.Records[0])
			f.Records[1].Commit, f.Records[1].Persons = "d", []lockkeeper.Person{"bob"}
		}, lockkeeper.Pass, "passed"},
		"an approver built something else": {func(f *Facts) {
			f.Records = append(f.Records, f.Records[0])
			f.Records[1].Artifact.Digest, f.Records[1].Persons = lockkeeper.DigestOf([]byte("else")), []lockkeeper.Person{"bob"}
		}, lockkeeper.Pass, "passed"},
		"nobody vouches":                {func(f *Facts) { f.Records = nil }, lockkeeper.Fail, "artifact_claimed"},
		"only the asker vouches":        {func(f *Facts) { f.Records[0].Stage = "deploy" }, lockkeeper.Fail, "artifact_claimed"},
		"vouched for another commit":    {func(f *Facts) { f.Records[0].Commit = "d" }, lockkeeper.Fail, "artifact_claimed"},
		"vouched by another repository": {func(f *Facts) { f.Records[0].Repository = "2" }, lockkeeper.Fail, "artifact_claimed"},
		"vouched by another pipeline":   {func(f *Facts) { f.Records[0].Pipeline = "other" }, lockkeeper.Fail, "artifact_claimed"},
		"claimed, before production":    {func(f *Facts) { f.Records = nil; f.Environment.Tier = catalog.Preproduction }, lockkeeper.Pass, "passed"},
		"no artifact at all":            {func(f *Facts) { f.Ask.Artifacts = nil }, lockkeeper.Fail, "nothing_demanded"},
		"one approval":                  {func(f *Facts) { f.Votes = f.Votes[:1] }, lockkeeper.Wait, "approvals_missing"},
		"the starter approves":          {func(f *Facts) { f.Votes[1] = vote("ann", "g") }, lockkeeper.Wait, "approvals_missing"},
		"the starter's other account":   {func(f *Facts) { f.Votes[1].Persons = append(f.Votes[1].Persons, "ann") }, lockkeeper.Wait, "approvals_missing"},
		"one person twice":              {func(f *Facts) { f.Votes[1].Counts = "bob" }, lockkeeper.Wait, "approvals_missing"},
		"an approver lost the right":    {func(f *Facts) { f.Votes[1].Right = lockkeeper.Decision{Verdict: lockkeeper.Fail} }, lockkeeper.Wait, "approvals_missing"},
		"an approver of another group":  {func(f *Facts) { f.Votes[1].Groups = []string{"h"} }, lockkeeper.Wait, "approvals_missing"},
		"a freeze":                      {func(f *Facts) { f.Freezes = []catalog.Freeze{{From: now, Until: now.Add(time.Second)}} }, lockkeeper.Wait, "frozen"},
		"a freeze that ends now":        {func(f *Facts) { f.Freezes = []catalog.Freeze{{From: now.Add(-time.Hour), Until: now}} }, lockkeeper.Pass, "passed"},
		"a freeze that begins in a ms": {func(f *Facts) {
			f.Freezes = []catalog.Freeze{{From: now.Add(time.Millisecond), Until: now.Add(time.Hour)}}
		}, lockkeeper.Pass, "passed"},
		"out of patience":                {func(f *Facts) { f.Deadline = now }, lockkeeper.Fail, "timed_out"},
		"an unknown verdict is no right": {func(f *Facts) { f.Votes[0].Right.Verdict = "perhaps" }, lockkeeper.Wait, "approvals_missing"},
	} {
		f := facts()
		c.change(&f)
		d := Judge(f, now)
		if d.Verdict != c.verdict || d.Code != c.code {
			t.Errorf("%s: %s %s (%s)", name, d.Verdict, d.Code, d.Sentence)
		}
		if d.Verdict != lockkeeper.Pass && (d.Sentence == "" || d.Next == "") && c.code != "initiator_not_permitted" {
			t.Errorf("%s: no sentence or no way out: %+v", name, d)
		}
	}
}

// A pass says until when it holds: to the next freeze or the end of patience.
func TestPassHoldsUntil(t *testing.T) {
	f := facts()
	f.Freezes = []catalog.Freeze{{From: now.Add(2 * time.Hour), Until: now.Add(3 * time.Hour)}, {From: now.Add(30 * time.Minute), Until: now.Add(time.Hour)}}
	d := Judge(f, now)
	if d.Until == nil || *d.Until != now.Add(30*time.Minute) {
		t.Fatalf("the pass holds until %v", d.Until)
	}
	if !d.Passed(d.Until.Add(-time.Millisecond)) || d.Passed(*d.Until) {
		t.Error("Passed does not end where Until says")
	}
	if late := Judge(f, *d.Until); late.Verdict != lockkeeper.Wait {
		t.Errorf("at its end the gate says %s", late.Verdict)
	}
}

// fillable tries every way of putting distinct persons into all places.
func fillable(places [][]string, people []Vote, used map[lockkeeper.Person]bool) bool {
	if len(places) == 0 {
		return true
	}
	for _, v := range people {
		if used[v.Counts] || !inAny(v.Groups, places[0]) {
			continue
		}
		used[v.Counts] = true
		if fillable(places[1:], people, used) {
			return true
		}
		delete(used, v.Counts)
	}
	return false
}

// The gate passes exactly when some way of filling every place with distinct
// persons exists, and one more vote never turns a pass into anything else.
func TestQuorumAgainstBruteForce(t *testing.T) {
	groups := []string{"a", "b", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		f := facts()
		f.Environment.Checks, f.Votes, f.Environment.Tier = nil, nil, catalog.Development
		var places [][]string
		for i := range rapid.IntRange(1, 3).Draw(rt, "checks") {
			a := &catalog.Approval{Count: rapid.IntRange(1, 2).Draw(rt, "count"), Groups: rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 1, 2, rapid.ID[string]).Draw(rt, "asked")}
			f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: fmt.Sprint(i), Approval: a})
			for range a.Count {
				places = append(places, a.Groups)
			}
		}
		for i := range rapid.IntRange(0, 6).Draw(rt, "votes") {
			v := vote(fmt.Sprint("u", i), rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 0, 3, rapid.ID[string]).Draw(rt, "in")...)
			// Some users are one person; all of a person's users are in the same groups here.
			f.Votes = append(f.Votes, v)
		}
		want := fillable(places, f.Votes, map[lockkeeper.Person]bool{})
		got := Judge(f, now).Verdict == lockkeeper.Pass
		if got != want {
			rt.Fatalf("the gate passes: %v, places can be filled: %v", got, want)
		}
		f.Votes = append(slices.Clone(f.Votes), vote("late", groups...))
		if got && Judge(f, now).Verdict != lockkeeper.Pass {
			rt.Fatal("one more vote undid the pass")
		}
	})
}
