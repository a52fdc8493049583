package keeper

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"pgregory.net/rapid"
)

const smallPlan = `{"format_version":"1.2","terraform_version":"1.9.0","variables":{"p":{"value":"hunter2-hidden"}},"resource_changes":[
{"address":"db.main","change":{"actions":[ACTION],"before":{"password":"hunter2-hidden"},"after":null,"before_sensitive":{"password":true},"after_sensitive":false}}]}`

func planOf(t testing.TB, action string) (lockkeeper.Plan, readPiece) {
	t.Helper()
	s, err := evidence.Read(evidence.Plan, []byte(strings.Replace(smallPlan, "ACTION", action, 1)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return lockkeeper.Plan{Kind: s.Plan.Kind, Digest: s.Plan.Digest}, readPiece{ID: newID("ev"), Name: s.Plan.Kind, Summary: s, Content: lockkeeper.DigestOf([]byte(action)), Size: 1}
}

// planned is a core whose environment test demands a plan that destroys nothing.
func planned(t *testing.T) (*core, func(cmd command, at time.Duration) error) {
	rules := rulesWith("  - name: build\n", "  - name: build\n    evidence: [plan]\n", "patience: 30m\n<latest>", "patience: 30m\nchecks: [{name: plan, plan: {kind: terraform, destroys: 0, age: 20m}}]\n<latest>")
	if !strings.Contains(rules, "evidence: [plan]") || !strings.Contains(rules, "destroys: 0") {
		t.Fatal("the rules of this test do not fit")
	}
	c := &core{world: world{State: newState(), rules: mustRules(t, rules)}}
	do := func(cmd command, at time.Duration) error {
		t.Helper()
		by := Caller{}
		if _, first := cmd.(firstEntry); first {
			by.Keeper = true
		}
		done, err := c.step(by, "", cmd, began.Add(at))
		must(t, err)
		return done.err
	}
	must(t, do(firstEntry{}, 0))
	return c, do
}

// numbered gives the job of each run a token of its own.
func numbered(run string) int {
	n, _ := strconv.Atoi(run)
	return n
}

func brings(run string, environment string, p ...readPiece) addEvidence {
	return addEvidence{Job: workload(numbered(run), run, "10", "", "1001", "push", 1, began), Artifacts: []lockkeeper.Artifact{app}, Pieces: p, Environment: environment}
}

func asksWith(id, run string, plans ...lockkeeper.Plan) openDeployment {
	return openDeployment{ID: id, Job: workload(numbered(run), run, "11", "test", "1001", "push", 1, began), Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h"), Plans: plans}
}

// The ask carries the plan, the gate looks at what was recorded of it, and a claim with
// another plan, or none, is refused.
func TestPlanBinds(t *testing.T) {
	c, do := planned(t)
	good, goodPiece := planOf(t, `"create"`)
	bad, badPiece := planOf(t, `"create","delete"`)
	want(t, do(brings("101", "nowhere", goodPiece), 0), "plan_for_nothing")
	want(t, do(brings("102", "", goodPiece), 0), "plan_for_nothing")
	misnamed := goodPiece
	misnamed.Name = "helm"
	want(t, do(brings("103", "test", misnamed), 0), "plan_kind")
	must(t, do(brings("104", "production", goodPiece), 0))
	must(t, do(brings("105", "test", badPiece), 0))
	want(t, do(asksWith("d-none", "201"), time.Second), "plan_missing")
	want(t, do(asksWith("d-bad", "202", bad), time.Second), "plan_bad")
	want(t, do(asksWith("d-two", "203", good, good), time.Second), "plans_malformed")

	must(t, do(asksWith("d-1", "1", good), time.Second))
	claim := claimLease{Deployment: "d-1", Lease: "l-1", Job: workload(1, "1", "11", "test", "1001", "push", 1, began), Handle: HandleDigest("h"), Plans: []lockkeeper.Plan{good}}
	want(t, do(claim, 2*time.Second), "evidence_missing") // recorded for another environment only
	must(t, do(brings("106", "test", goodPiece), 3*time.Second))
	other, none := claim, claim
	other.Plans, none.Plans = []lockkeeper.Plan{bad}, nil
	want(t, do(other, 4*time.Second), "plan_differs")
	want(t, do(none, 4*time.Second), "plan_missing")
	must(t, do(asksWith("d-2", "2", good), 4*time.Second))
	must(t, do(claim, time.Minute))
	want(t, do(other, 2*time.Minute), "plan_differs")
	late := claim
	late.Deployment, late.Lease, late.Job = "d-2", "l-2", workload(3, "2", "11", "test", "1001", "push", 1, began.Add(20*time.Minute))
	want(t, do(late, 20*time.Minute+3*time.Second), "evidence_stale")

	b, err := json.Marshal(c.State)
	must(t, err)
	if strings.Contains(string(b), "hidden") {
		t.Error("the state keeps a secret of the plan")
	}
}

// An ask without plans has the digest that it had before there were any; and each plan
// makes another ask.
func TestPlanInDigest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		ask := lockkeeper.Ask{Action: "deploy", Project: rapid.StringMatching("[a-z]{1,8}").Draw(r, "project"), Artifacts: []lockkeeper.Artifact{app}}
		plain, err := ask.Digest()
		if err != nil {
			r.Fatal(err)
		}
		ask.Plans = []lockkeeper.Plan{}
		if empty, _ := ask.Digest(); empty != plain {
			r.Fatal("no plans at all are another ask")
		}
		text, _ := lockkeeper.Canonical(ask)
		if strings.Contains(string(text), "plans") {
			r.Fatalf("the canonical ask is %s", text)
		}
		seen := map[lockkeeper.Digest]bool{plain: true}
		for _, p := range rapid.SliceOfNDistinct(rapid.StringMatching("[a-z]{1,8}"), 1, 4, rapid.ID).Draw(r, "plans") {
			ask.Plans = []lockkeeper.Plan{{Kind: "terraform", Digest: lockkeeper.DigestOf([]byte(p))}}
			d, err := ask.Digest()
			if err != nil || seen[d] {
				r.Fatalf("the ask with %s is that of another: %v", p, err)
			}
			seen[d] = true
		}
	})
}
