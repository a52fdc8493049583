package keeper

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// listedReview is a security review with a checklist.
const listedReview = "{count: 1, groups: [security], review: security, checklist: [{item: data, ask: No data leaves.}, {item: logs, ask: Logs hold ids only.}]}"

// leadsApart takes security people out of those who are asked for the other approval.
var leadsApart = []string{"{count: 1, groups: [managers]}", "{count: 1, groups: [leads]}", "<more>", "\n---\n{kind: Group, name: leads, users: [bob]}\n"}

// reviewed is a core with a deployment that waits, under a checklist.
func reviewed(t *testing.T) *core {
	c := &core{world: world{State: newState(), rules: mustRules(t, rulesWith(append(slices.Clip(leadsApart), "{count: 1, groups: [security], review: security}", listedReview)...))}}
	c.await(t)
	return c
}

// await opens a deployment.
func (c *core) await(t *testing.T) {
	for _, s := range []struct {
		by  Caller
		cmd command
	}{
		{Caller{Keeper: true}, firstEntry{}},
		{Caller{}, recordArtifacts{workload(1, "1", "10", "", "1001", "push", 1, began), []lockkeeper.Artifact{app}}},
		{Caller{}, openDeployment{ID: "d-1", Job: workload(2, "1", "11", "production", "1001", "push", 1, began), Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}},
	} {
		done, err := c.step(s.by, "", s.cmd, began)
		must(t, err)
		must(t, done.err)
	}
}

func (c *core) answer(t *testing.T, user string, at time.Duration, answers ...ReviewAnswer) error {
	t.Helper()
	done, err := c.step(Caller{User: user}, "", vote{Deployment: "d-1", Approve: true, Digest: c.Deployments["d-1"].Digest, Answers: answers}, began.Add(at))
	must(t, err)
	return done.err
}

var (
	dataYes = ReviewAnswer{Item: "data", Ask: "No data leaves.", Yes: true, Comment: "the schema is unchanged"}
	logsYes = ReviewAnswer{Item: "logs", Ask: "Logs hold ids only.", Yes: true}
)

// A review counts with a yes to each item, in the words that are asked, and its
// answers stay in the vote.
func TestChecklist(t *testing.T) {
	c := reviewed(t)
	no := logsYes
	no.Yes = false
	other := logsYes
	other.Ask = "Logs hold names."
	long := logsYes
	long.Comment = strings.Repeat("x", maxReviewAnswer+1)
	want(t, c.answer(t, "cat", 1), "checklist_open")
	want(t, c.answer(t, "cat", 1, dataYes), "checklist_open")
	want(t, c.answer(t, "cat", 1, dataYes, no), "checklist_open")
	want(t, c.answer(t, "cat", 1, dataYes, other), "question_differs")
	want(t, c.answer(t, "cat", 1, dataYes, logsYes, logsYes), "answered_twice")
	want(t, c.answer(t, "cat", 1, dataYes, logsYes, no), "answered_twice")
	want(t, c.answer(t, "cat", 1, dataYes, long), "comment_long")
	want(t, c.answer(t, "cat", 1, slices.Repeat([]ReviewAnswer{dataYes}, maxReviewAnswers+1)...), "answers_many")
	must(t, c.answer(t, "cat", 1, dataYes, logsYes))
	if v := c.Deployments["d-1"].Votes; len(v) != 1 || !slices.Equal(v[0].Answers, []ReviewAnswer{dataYes, logsYes}) {
		t.Errorf("the votes are %+v", v)
	}
	text, err := json.Marshal(c.Deployments["d-1"].approvals())
	if must(t, err); !strings.Contains(string(text), "the schema is unchanged") {
		t.Errorf("a receipt would say %s", text)
	}
}

// A checklist that changes while an ask waits is asked beside the old one: answers to
// the words of before are none to those of now.
func TestChecklistChanges(t *testing.T) {
	c := reviewed(t)
	must(t, c.answer(t, "cat", 1, dataYes, logsYes))
	c.rules = mustRules(t, rulesWith(append(slices.Clip(leadsApart), "{count: 1, groups: [security], review: security}", strings.Replace(listedReview, "Logs hold ids only.", "Logs hold nothing.", 1))...))
	d := c.Deployments["d-1"]
	facts, err := c.facts(d, began.Add(2))
	must(t, err)
	if v := c.judge(d, facts, began.Add(2)); v.Passed(began.Add(2)) || !strings.Contains(string(mustJSON(t, v)), "0 of 1 security reviews") {
		t.Errorf("the gate says %s", mustJSON(t, v))
	}
	if items := reviewItems(d, facts.Environment); len(items) != 3 {
		t.Errorf("it asks %v", items)
	}
	want(t, c.answer(t, "cat", 3, dataYes, logsYes), "checklist_open")
	anew := logsYes
	anew.Ask = "Logs hold nothing."
	must(t, c.answer(t, "cat", 3, dataYes, logsYes, anew))
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}

// Whoever is asked for another approval, too, gives that; it is no review.
func TestChecklistBeside(t *testing.T) {
	c := &core{world: world{State: newState(), rules: mustRules(t, rulesWith("{count: 1, groups: [security], review: security}", listedReview))}}
	c.await(t)
	must(t, c.answer(t, "cat", 1))
	must(t, c.answer(t, "bob", 2))
	d := c.Deployments["d-1"]
	facts, err := c.facts(d, began.Add(3))
	must(t, err)
	if v := c.judge(d, facts, began.Add(3)); !strings.Contains(string(mustJSON(t, v)), "0 of 1 security reviews are there (nobody). Each answers with yes: data, logs.") {
		t.Errorf("the gate says %s", mustJSON(t, v))
	}
	must(t, c.answer(t, "cat", 4, dataYes, logsYes))
	facts, err = c.facts(d, began.Add(5))
	must(t, err)
	if v := c.judge(d, facts, began.Add(5)); !v.Passed(began.Add(5)) {
		t.Errorf("the gate says %s", mustJSON(t, v))
	}
}

// However a reviewer answers, his vote is taken exactly if every item has a yes.
func TestChecklistModel(t *testing.T) {
	taken := map[bool]int{}
	rapid.Check(t, func(r *rapid.T) {
		c := reviewed(t)
		said := map[string]bool{}
		var answers []ReviewAnswer
		for _, q := range []ReviewAnswer{dataYes, logsYes} {
			switch rapid.IntRange(0, 4).Draw(r, q.Item) {
			case 0:
			case 1:
				q.Yes = false
				answers = append(answers, q)
			default:
				answers, said[q.Item] = append(answers, q), true
			}
		}
		if rapid.Bool().Draw(r, "turned") {
			slices.Reverse(answers)
		}
		full := len(slices.Collect(maps.Keys(said))) == 2
		if err := c.answer(t, "cat", 1, answers...); (err == nil) != full {
			r.Fatalf("with %v: %v", answers, err)
		}
		taken[full]++
	})
	if taken[true] == 0 || taken[false] == 0 {
		t.Errorf("it saw %v only", taken)
	}
}
