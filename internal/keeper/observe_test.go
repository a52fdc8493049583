package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"pgregory.net/rapid"
)

// gateOpened sets up a core whose artifact is recorded, with everybody enrolled.
func gateOpened(t testing.TB, rules *Rules) *core {
	c := &core{world: world{State: newState(), rules: rules}}
	events := []event{&journalStarted{}, &setupCompleted{User: "dora", Credential: "p"}}
	for _, user := range []string{"ann", "ann-admin", "bob", "cat", "eve"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p"}, &accountProven{User: user})
	}
	events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: strings.Repeat("1", 40), Run: "7", Artifacts: []lockkeeper.Artifact{app}})
	if err := c.record(&step{}, Caller{Keeper: true}, "", "", events, began); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestObserveNeverHelpsAnOpenAsk changes the mode while an ask waits: to observe it
// helps no ask that was opened before, and to enforce it holds at once.
func TestObserveNeverHelpsAnOpenAsk(t *testing.T) {
	enforce, observe := mustRules(t, rulesWith()), mustRules(t, rulesWith("<age>", "mode: observe\n"))
	for name, c := range map[string]struct {
		first, then *Rules
		code        string // of the claim; "": it goes through
	}{
		"enforce":                 {enforce, enforce, "approvals_missing"},
		"enforce, then observe":   {enforce, observe, "approvals_missing"},
		"observe":                 {observe, observe, ""},
		"observe, then enforce":   {observe, enforce, "approvals_missing"},
		"observe, then no branch": {observe, mustRules(t, rulesWith("<age>", "mode: observe\n", "allowed: [refs/heads/main]}\n", "allowed: [refs/heads/x]}\n")), ""},
		"and without identity":    {observe, mustRules(t, rulesWith("<age>", "mode: observe\n", "stages: [release/deploy]\n", "stages: [release/deploy-test]\n")), "stage_not_named"},
		"and a freeze": {observe, mustRules(t, rulesWith("<age>", "mode: observe\n", "<more>",
			"---\nkind: Freeze\nname: stop\nscope: /\nfrom: 2026-11-02T00:00:00Z\nuntil: 2026-11-03T00:00:00Z\nreason: quiet\n")), "frozen"},
		"and the starter is off": {observe, mustRules(t, rulesWith("<age>", "mode: observe\n", "name: ann\n", "name: ann\noff: true\n")), "initiator_not_permitted"},
	} {
		s := gateOpened(t, c.first)
		job := workload(1, "7", "10", "production", "1001", "push", 1, began)
		h := HandleDigest("one")
		out, err := s.step(Caller{Workload: &job}, "", openDeployment{ID: "d-1", Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: h}, began)
		if err != nil || out.err != nil {
			t.Fatal(name, err, out.err)
		}
		s.rules = c.then
		out, err = s.step(Caller{Workload: &job}, "", claimLease{Deployment: "d-1", Lease: "l", Job: job, Handle: h}, began.Add(time.Minute))
		code := ""
		if r := lockkeeper.RefusalOf(out.err); r != nil {
			code = r.Code
		}
		if err != nil || code != c.code {
			t.Errorf("%s: the claim says %q, want %q: %v", name, code, c.code, out.err)
		}
	}
}

// TestIncidentHoldsWhatObserves declares an incident where an environment observes:
// neither a claim nor a token passes it.
func TestIncidentHoldsWhatObserves(t *testing.T) {
	s := gateOpened(t, mustRules(t, rulesWith("<age>", "mode: observe\n")))
	job := workload(1, "7", "10", "production", "1001", "push", 1, began)
	h := HandleDigest("one")
	do := func(by Caller, cmd command) error {
		out, err := s.step(by, "", cmd, began.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return out.err
	}
	ask := openDeployment{ID: "d-1", Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: h}
	if err := do(Caller{Workload: &job}, ask); err != nil {
		t.Fatal(err)
	}
	if err := do(Caller{User: "dora"}, openIncident{ID: "i-1", Title: "t", Mode: Strict, Freeze: []lockkeeper.Scope{"/projects/payments"}}); err != nil {
		t.Fatal(err)
	}
	if err := do(Caller{Workload: &job}, claimLease{Deployment: "d-1", Lease: "l", Job: job, Handle: h}); lockkeeper.RefusalOf(err) == nil {
		t.Errorf("a claim passes an incident: %v", err)
	}
}

// TestObservedLeases reads every lease of random histories whose environments observe,
// have shadows, or enforce: what was only observed is so by the catalog of the opening
// and of now, and every decision of the floor has passed.
func TestObservedLeases(t *testing.T) {
	all := watchful(t)
	all = all[len(all)-2:] // one observes, one has shadows
	shadows := map[string]bool{"check more": true, "check quick": true, "check day": true}
	stopped := map[bool]int{}
	one := func(rt *rapid.T) {
		observed := map[string]bool{} // deployments that were opened while production observed
		dressed(rt, all, func(s *simulation, _ Caller, _ command) func(step) {
			observes := s.core.rules.Catalog.Environments[lockkeeper.EnvironmentScope("payments", "production")].Observes()
			return func(out step) {
				for _, ev := range out.events {
					switch ev := ev.(type) {
					case *deploymentOpened:
						observed[ev.ID] = observes && ev.Ask.Environment == "production"
					case *leaseGranted:
						floor := map[string]bool{}
						for _, d := range ev.Gate.Because {
							is, stops := gate.Observed(d)
							if is && !shadows[d.Subject] && !(observed[ev.Deployment] && observes) {
								rt.Fatalf("%s was only observed, where the environment enforces: %s", d.Subject, d.Sentence)
							}
							if stops {
								stopped[shadows[d.Subject]]++
							}
							floor[d.Subject] = !is && d.Verdict == lockkeeper.Pass
						}
						for _, subject := range []string{"initiator", "stage", "artifacts", "freeze", "patience", "check one"} {
							if production := strings.HasSuffix(ev.Gate.Subject, "production"); !floor[subject] && (production || subject != "check one") {
								rt.Fatalf("%s did not pass, and there is a lease: %+v", subject, ev.Gate)
							}
						}
					}
				}
			}
		})
	}
	for range 10 { // until what is rare has come, too
		if rapid.Check(t, one); stopped[true] > 0 && stopped[false] > 0 {
			return
		}
	}
	if !t.Failed() {
		t.Errorf("in shadow %d, observed %d would have stopped", stopped[true], stopped[false])
	}
}
