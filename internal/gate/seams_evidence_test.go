package gate

import (
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// A soft freeze that begins while the override of it lasts still reaches what runs at
// the override's end: no token is handed out that lasts longer.
func TestOverrideEndsInsideFreeze(t *testing.T) {
	for name, c := range map[string]struct{ from, override, until time.Duration }{
		"the override ends inside the freeze": {10 * time.Minute, 30 * time.Minute, 30 * time.Minute},
		"the override ends before it":         {10 * time.Minute, 5 * time.Minute, 10 * time.Minute},
	} {
		f := facts()
		f.Environment.Override = &catalog.Override{Groups: []string{"o"}}
		f.Freezes = []catalog.Freeze{{Name: "quiet", From: now.Add(c.from), Until: now.Add(time.Hour), Soft: true, InFlight: catalog.InFlightAbort}}
		f.Overrides = []Override{{ID: "o-1", Waives: []string{"freeze:quiet"}, Until: now.Add(c.override)}}
		if d, _ := InFlight(f, true, now); d.Verdict != lockkeeper.Pass || d.Until == nil || *d.Until != now.Add(c.until) {
			t.Errorf("%s: %s until %v", name, d.Verdict, d.Until)
		}
	}
}

// What an incident holds back lets nothing through, and what it said against an artifact
// goes on to be said.
func TestEvidenceHeldBack(t *testing.T) {
	vex := func(status evidence.Status) Evidence {
		return piece("vex", evidence.Summary{Kind: evidence.VEX, Statements: []evidence.Statement{{ID: "CVE-3", Products: []string{string(facts().Ask.Artifacts[0].Digest)}, Status: status, Reason: "r", At: now}}})
	}
	reported := func(f *Facts) { // a vulnerability that an older statement closes
		r := find(f, "vulnerabilities").Summary.Vulnerabilities
		r.Findings = append(r.Findings, evidence.Finding{ID: "CVE-3", Package: "pkg:x/a@1", Severity: evidence.Critical})
	}
	for name, c := range map[string]struct {
		change  func(*Facts)
		check   string
		verdict lockkeeper.Verdict
		code    string
	}{
		"good tests":     {func(f *Facts) { find(f, "tests").Held = "h" }, "tests", lockkeeper.Wait, "evidence_held"},
		"bad tests":      {func(f *Facts) { *find(f, "tests") = piece("tests", testsOf(10, 1, 0)); find(f, "tests").Held = "h" }, "tests", lockkeeper.Fail, "tests_bad"},
		"coverage":       {func(f *Facts) { find(f, "coverage").Held = "h" }, "tests", lockkeeper.Wait, "evidence_held"},
		"an attestation": {func(f *Facts) { find(f, "attestation").Held = "h" }, "attestation", lockkeeper.Wait, "evidence_held"},
		"beside another's": {func(f *Facts) {
			e := piece("t2", testsOf(10, 0, 0))
			e.Stage, e.Held = "other", "h"
			f.Evidence = append(f.Evidence, e)
		}, "tests", lockkeeper.Pass, ""},
		"a statement, not held": {func(f *Facts) { reported(f); f.Evidence = append(f.Evidence, vex(evidence.NotAffected)) }, "vulnerabilities", lockkeeper.Pass, ""},
		"a statement that closes": {func(f *Facts) {
			reported(f)
			e := vex(evidence.NotAffected)
			e.Held = "h"
			f.Evidence = append(f.Evidence, e)
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"a statement that opens": {func(f *Facts) {
			reported(f)
			e, old := vex(evidence.Affected), vex(evidence.NotAffected)
			e.Held, old.Stage, old.Summary.Statements[0].At = "h", "other", now.Add(-time.Hour)
			f.Evidence = append(f.Evidence, old, e)
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
	} {
		f := proven()
		c.change(&f)
		for _, b := range Judge(f, now).Because {
			if b.Subject == "check "+c.check && (b.Verdict != c.verdict || c.code != "" && b.Code != c.code) {
				t.Errorf("%s: %s %s %s, want %s %s", name, b.Verdict, b.Code, b.Sentence, c.verdict, c.code)
			}
		}
	}
}

// An override waives for one ask: what it let in is asked again when it is put back, and
// what was asked of the artifacts then is not.
func TestWaivedIsAskedWhenPutBack(t *testing.T) {
	for _, action := range []string{lockkeeper.RollbackAction, lockkeeper.RedeployAction} {
		for _, waived := range []bool{false, true} {
			f := proven()
			f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: "staged", Promotion: &catalog.Promotion{Environments: []string{"staging"}}})
			f.Stood = func(string) []Stretch { return nil }
			f.Evidence = f.Evidence[1:] // the tests
			f.Ask.Action = action
			f.Good = []Release{{Deployment: "d-1", Artifacts: f.Ask.Artifacts, At: now.Add(-time.Hour)}}
			codes := map[string]string{"check tests": "not_asked_of_" + action, "check staged": "not_asked_of_" + action, "check scan": "not_asked_of_" + action}
			if waived {
				f.Good[0].Waived = []string{"tests", "staged"}
				codes["check tests"], codes["check staged"] = "evidence_missing", "promotion_missing"
			}
			for _, b := range Judge(f, now).Because {
				if code, asked := codes[b.Subject]; asked && b.Code != code {
					t.Errorf("%s, waived %v: %s: %s", action, waived, b.Subject, b.Code)
				}
			}
		}
	}
}
