package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// Tests count only if they were made since the artifacts were deployed there, and a
// failure among them fails.
func TestPromotionWithTests(t *testing.T) {
	at := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	now := at.Add(3 * time.Hour)
	list := []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}
	f := Facts{Ask: lockkeeper.Ask{Artifacts: list, Repository: "1", Commit: "c", Pipeline: "release", Stage: "deploy"},
		Brings: func(string, string, string) bool { return true },
		Stood: func(env string) []Stretch {
			if env != "one" {
				return nil
			}
			return []Stretch{{Deployment: "d-1", Artifacts: list, Since: at, Last: at.Add(time.Hour)}}
		}}
	f.Environment.Checks = []catalog.Check{{Name: "ran", Promotion: &catalog.Promotion{Environments: []string{"one"}, Tests: &catalog.Tests{Names: []string{"smoke"}, Least: 2}}}}
	smoke := func(failed int, when time.Duration) Evidence {
		return Evidence{ID: "e-1", Name: "smoke", Artifacts: list, Pipeline: "release", Stage: "smoke", Repository: "1", Commit: "c", At: at.Add(when),
			Summary: evidence.Summary{Kind: evidence.Tests, Tests: &evidence.TestResults{Total: 3, Passed: 3 - failed, Failed: failed}}}
	}
	older := smoke(0, 2*time.Hour)
	older.Summary.Made = at.Add(30 * time.Minute)
	for name, c := range map[string]struct {
		pieces []Evidence
		want   string
	}{
		"none":                {nil, "evidence_missing"},
		"from before":         {[]Evidence{smoke(0, 30*time.Minute)}, "evidence_missing"},
		"made before":         {[]Evidence{older}, "evidence_missing"},
		"since":               {[]Evidence{smoke(0, 2*time.Hour)}, "passed"},
		"at that very moment": {[]Evidence{smoke(0, time.Hour)}, "passed"},
		"failed":              {[]Evidence{smoke(1, 2*time.Hour)}, "tests_bad"},
		"failed before":       {[]Evidence{smoke(1, 30*time.Minute), smoke(0, 2*time.Hour)}, "passed"},
	} {
		f.Evidence = c.pieces
		if d := promotions(f, now)[0]; d.Code != c.want {
			t.Errorf("%s: %s, want %s (%s)", name, d.Code, c.want, d.Sentence)
		}
	}
	f.Stood = nil
	if d := promotions(f, now)[0]; d.Verdict != lockkeeper.Error {
		t.Errorf("without facts: %v", d)
	}
}

// An environment of several is named by what serves best, and a pass lasts as long as
// the best one does.
func TestPromotionOfAny(t *testing.T) {
	at := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	list := []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}
	last := map[string]lockkeeper.Moment{"one": at, "two": at.Add(time.Hour)}
	f := Facts{Ask: lockkeeper.Ask{Artifacts: list}, Stood: func(env string) []Stretch {
		if last[env].IsZero() {
			return nil
		}
		return []Stretch{{Deployment: "d-" + env, Artifacts: list, Since: last[env], Last: last[env]}}
	}}
	f.Environment.Checks = []catalog.Check{{Name: "ran", Promotion: &catalog.Promotion{Environments: []string{"zero", "one", "two"}, Any: true, Age: catalog.Duration(5 * time.Hour)}}}
	d := promotions(f, at.Add(2*time.Hour))[0]
	if d.Verdict != lockkeeper.Pass || *d.Until != at.Add(6*time.Hour) || !strings.Contains(d.Sentence, "two") {
		t.Errorf("%+v", d)
	}
	if d := promotions(f, at.Add(6*time.Hour))[0]; d.Verdict != lockkeeper.Wait || !strings.Contains(d.Next, "One of zero, one, two is enough") {
		t.Errorf("%+v", d)
	}
	f.Environment.Checks[0].Promotion.Any = false
	if d := promotions(f, at.Add(2*time.Hour))[0]; d.Code != "promotion_missing" {
		t.Errorf("%+v", d)
	}
}

// A freeze of deployments stops one more of the same, and one of rollbacks does not.
func TestFreezeStopsRedeploy(t *testing.T) {
	for action, want := range map[string]bool{lockkeeper.DeployAction: true, lockkeeper.RollbackAction: false} {
		z := catalog.Freeze{Actions: []string{action}}
		if got := z.Stops(lockkeeper.RedeployAction, catalog.PeopleCaller); got != want {
			t.Errorf("a freeze of %s stops a redeployment: %v", action, got)
		}
	}
	if !(catalog.Freeze{}).Stops(lockkeeper.RedeployAction, catalog.AutomationCaller) {
		t.Error("a freeze of everything does not stop a redeployment")
	}
}

// A promotion that is soft waits for an override where it would fail, and is let pass by
// one; one that is not soft is not.
func TestSoftPromotion(t *testing.T) {
	now := lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	list := []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}
	f := Facts{Ask: lockkeeper.Ask{Artifacts: list}, Stood: func(string) []Stretch { return nil }, Overrides: []Override{{ID: "o-1", Waives: []string{"ran"}, Until: now.Add(time.Hour)}}}
	f.Environment.Override = &catalog.Override{}
	for soft, want := range map[bool]lockkeeper.Verdict{true: lockkeeper.Pass, false: lockkeeper.Wait} {
		f.Environment.Checks = []catalog.Check{{Name: "ran", Soft: soft, Promotion: &catalog.Promotion{Environments: []string{"one"}}}}
		if d := f.waiveAll(promotions(f, now))[0]; d.Verdict != want {
			t.Errorf("soft %v: %+v", soft, d)
		}
	}
}
