package gate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"pgregory.net/rapid"
)

const (
	builder = "https://build.example.com/a"
	source  = "https://git.example.com/app"
)

// piece is evidence about the ask's artifact that the stage build brought an hour ago.
func piece(id string, s evidence.Summary) Evidence {
	return Evidence{ID: id, Name: "main", Artifacts: facts().Ask.Artifacts, Summary: s, Pipeline: "release", Stage: "build", Repository: "1", Commit: "c", Run: "1", At: now.Add(-time.Hour)}
}

func testsOf(passed, failed, skipped int) evidence.Summary {
	return evidence.Summary{Kind: evidence.Tests, Tests: &evidence.TestResults{Suites: 1, Total: passed + failed + skipped, Passed: passed, Failed: failed, Skipped: skipped}}
}

func attestation(kind string, p *evidence.Provenance) evidence.Summary {
	return evidence.Summary{Kind: evidence.Attestation, Attestation: &evidence.Attested{PredicateType: kind, Predicate: []byte(`{"ok":true}`), Provenance: p,
		Signers: []evidence.SignedBy{{Signer: "ci", Key: lockkeeper.DigestOf([]byte("ci"))}}}}
}

func provenance() *evidence.Provenance {
	return &evidence.Provenance{Builder: builder, BuildType: "t", Sources: []evidence.Source{{Repository: source, Commit: "c"}}}
}

// proven makes facts of an environment that demands every kind of evidence and has it.
func proven() Facts {
	f := facts()
	ten := 10
	f.Environment.Checks = append(f.Environment.Checks,
		catalog.Check{Name: "tests", Tests: &catalog.Tests{Names: []string{"main"}, Least: 10, Skipped: &ten, Coverage: 80}},
		catalog.Check{Name: "scan", Scan: &catalog.Scan{Warnings: &ten}},
		catalog.Check{Name: "sbom", SBOM: &catalog.BillOfMaterials{Least: 2, Versioned: 50}},
		catalog.Check{Name: "vulnerabilities", Vulnerabilities: &catalog.KnownVulnerabilities{Grace: catalog.Duration(48 * time.Hour), Database: catalog.Duration(24 * time.Hour)}},
		catalog.Check{Name: "provenance", Provenance: &catalog.SLSAProvenance{Signers: []string{"ci"}, Source: source, Level: 2}},
		catalog.Check{Name: "attestation", Attestation: &catalog.AttestationCheck{Type: "t:x", Signers: []string{"ci"}, Rule: "predicate.ok"}})
	f.Signers = map[string]Signer{"ci": {Signer: catalog.Signer{Name: "ci", Builders: []catalog.Builder{{ID: builder, Level: 2}}}, Identity: lockkeeper.DigestOf([]byte("ci"))}}
	f.Brings = func(pipeline, stage, kind string) bool { return pipeline == "release" && stage != "stranger" }
	f.Says = func(rule string, p map[string]any) (bool, error) {
		ok, is := p["ok"].(bool)
		if rule != "predicate.ok" || !is {
			return false, fmt.Errorf("no such key")
		}
		return ok, nil
	}
	f.Evidence = []Evidence{
		piece("tests", testsOf(10, 0, 1)),
		piece("coverage", evidence.Summary{Kind: evidence.Coverage, Coverage: &evidence.Covered{Lines: 10, Covered: 8}}),
		piece("scan", evidence.Summary{Kind: evidence.Scan, Scan: &evidence.ScanResults{Runs: 1, Warnings: 10}}),
		piece("sbom", evidence.Summary{Kind: evidence.SBOM, SBOM: &evidence.Components{Total: 2, Versioned: 1}}),
		piece("vulnerabilities", evidence.Summary{Kind: evidence.Vulnerabilities, Vulnerabilities: &evidence.Report{Database: now.Add(-2 * time.Hour), Findings: []evidence.Finding{
			{ID: "CVE-1", Package: "pkg:x/a@1", Severity: evidence.Medium},
			{ID: "CVE-2", Package: "pkg:x/a@1", Severity: evidence.Critical, Published: now.Add(-47 * time.Hour)}}}}),
		piece("attestation", attestation("t:x", nil)),
		piece("provenance", attestation("https://slsa.dev/provenance/v1", provenance())),
	}
	return f
}

// find is the piece of an id, to change.
func find(f *Facts, id string) *Evidence {
	for i := range f.Evidence {
		if f.Evidence[i].ID == id {
			return &f.Evidence[i]
		}
	}
	panic(id)
}

func TestEvidence(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Facts)
		check   string // which judges otherwise; "": none
		verdict lockkeeper.Verdict
		code    string
	}{
		"all is there": {func(*Facts) {}, "", lockkeeper.Pass, ""},

		"nobody brought results":        {func(f *Facts) { f.Evidence = f.Evidence[1:] }, "tests", lockkeeper.Wait, "evidence_missing"},
		"results of another commit":     {func(f *Facts) { find(f, "tests").Commit = "d" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"results of another repository": {func(f *Facts) { find(f, "tests").Repository = "2" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"results about another artifact": {func(f *Facts) {
			find(f, "tests").Artifacts = []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("x"))}}
		}, "tests", lockkeeper.Wait, "evidence_missing"},
		"the artifact by another name": {func(f *Facts) {
			find(f, "tests").Artifacts = []lockkeeper.Artifact{{Name: "other", Digest: f.Ask.Artifacts[0].Digest}}
		}, "", lockkeeper.Pass, ""},
		"results by another name":           {func(f *Facts) { find(f, "tests").Name = "e2e" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"results of a stage that may not":   {func(f *Facts) { find(f, "tests").Stage = "stranger" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"nobody says who may":               {func(f *Facts) { f.Brings = nil }, "tests", lockkeeper.Wait, "evidence_missing"},
		"the deploying stage's own results": {func(f *Facts) { find(f, "tests").Stage = "deploy" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"its own, and the check names it": {func(f *Facts) {
			find(f, "tests").Stage, find(f, "coverage").Stage = "deploy", "deploy"
			f.Environment.Checks[2].Tests.From = []string{"release/deploy"}
		}, "", lockkeeper.Pass, ""},
		"its own, before production":           {func(f *Facts) { find(f, "tests").Stage, f.Environment.Tier = "deploy", catalog.Preproduction }, "", lockkeeper.Pass, ""},
		"a stage that the check does not name": {func(f *Facts) { f.Environment.Checks[2].Tests.From = []string{"release/other"} }, "tests", lockkeeper.Wait, "evidence_missing"},
		"a failure":                            {func(f *Facts) { find(f, "tests").Summary = testsOf(10, 1, 0) }, "tests", lockkeeper.Fail, "tests_bad"},
		"nothing ran":                          {func(f *Facts) { find(f, "tests").Summary = testsOf(0, 0, 0) }, "tests", lockkeeper.Fail, "tests_bad"},
		"all skipped":                          {func(f *Facts) { find(f, "tests").Summary = testsOf(0, 0, 50) }, "tests", lockkeeper.Fail, "tests_bad"},
		"an empty suite":                       {func(f *Facts) { find(f, "tests").Summary.Tests.Empty = 1 }, "tests", lockkeeper.Fail, "tests_bad"},
		"no results in it":                     {func(f *Facts) { find(f, "tests").Summary.Tests = nil }, "tests", lockkeeper.Fail, "tests_bad"},
		"too few":                              {func(f *Facts) { find(f, "tests").Summary = testsOf(9, 0, 0) }, "tests", lockkeeper.Fail, "tests_few"},
		"too many skipped":                     {func(f *Facts) { find(f, "tests").Summary = testsOf(17, 0, 2) }, "tests", lockkeeper.Fail, "tests_skipped"},
		"just so many skipped":                 {func(f *Facts) { find(f, "tests").Summary = testsOf(18, 0, 2) }, "", lockkeeper.Pass, ""},
		"too little covered":                   {func(f *Facts) { find(f, "coverage").Summary.Coverage.Covered = 7 }, "tests", lockkeeper.Fail, "coverage_bad"},
		"no line at all":                       {func(f *Facts) { find(f, "coverage").Summary.Coverage = &evidence.Covered{} }, "tests", lockkeeper.Fail, "coverage_bad"},
		"no coverage":                          {func(f *Facts) { find(f, "coverage").Summary.Kind = "other" }, "tests", lockkeeper.Wait, "evidence_missing"},
		"old results":                          {func(f *Facts) { find(f, "tests").At = now.Add(-30 * 24 * time.Hour) }, "tests", lockkeeper.Wait, "evidence_stale"},
		"old results, just not":                {func(f *Facts) { find(f, "tests").At = now.Add(-30*24*time.Hour + time.Second) }, "", lockkeeper.Pass, ""},
		"made long ago":                        {func(f *Facts) { find(f, "tests").Summary.Made = now.Add(-31 * 24 * time.Hour) }, "tests", lockkeeper.Wait, "evidence_stale"},
		"made in the future": {func(f *Facts) {
			find(f, "tests").Summary.Made = now.Add(time.Hour)
			find(f, "tests").At = now.Add(-31 * 24 * time.Hour)
		}, "tests", lockkeeper.Wait, "evidence_stale"},
		"newer ones that failed": {func(f *Facts) { f.Evidence = append(f.Evidence, piece("again", testsOf(9, 1, 0))) }, "tests", lockkeeper.Fail, "tests_bad"},
		"older ones that failed": {func(f *Facts) { f.Evidence = append([]Evidence{piece("before", testsOf(9, 1, 0))}, f.Evidence...) }, "", lockkeeper.Pass, ""},
		"another stage's failed": {func(f *Facts) {
			e := piece("side", testsOf(9, 1, 0))
			e.Stage = "side"
			f.Evidence = append([]Evidence{e}, f.Evidence...)
		}, "tests", lockkeeper.Fail, "tests_bad"},
		"another name's failed": {func(f *Facts) {
			e := piece("e2e", testsOf(9, 1, 0))
			e.Name = "e2e"
			f.Evidence = append([]Evidence{e}, f.Evidence...)
		}, "tests", lockkeeper.Fail, "tests_bad"},
		"a stranger's failed": {func(f *Facts) {
			e := piece("side", testsOf(9, 1, 0))
			e.Stage = "stranger"
			f.Evidence = append(f.Evidence, e)
		}, "", lockkeeper.Pass, ""},

		"errors of the scan":    {func(f *Facts) { find(f, "scan").Summary.Scan.Errors = 1 }, "scan", lockkeeper.Fail, "scan_bad"},
		"too many warnings":     {func(f *Facts) { find(f, "scan").Summary.Scan.Warnings = 11 }, "scan", lockkeeper.Fail, "scan_bad"},
		"a scan that broke off": {func(f *Facts) { find(f, "scan").Summary.Scan.Incomplete = true }, "scan", lockkeeper.Fail, "scan_bad"},
		"a scan without a run":  {func(f *Facts) { find(f, "scan").Summary.Scan.Runs = 0 }, "scan", lockkeeper.Fail, "scan_bad"},

		"too short a list":         {func(f *Facts) { find(f, "sbom").Summary.SBOM.Total = 1 }, "sbom", lockkeeper.Fail, "sbom_bad"},
		"no versions":              {func(f *Facts) { find(f, "sbom").Summary.SBOM.Versioned = 0 }, "sbom", lockkeeper.Fail, "sbom_bad"},
		"no list":                  {func(f *Facts) { find(f, "sbom").Summary.SBOM = nil }, "sbom", lockkeeper.Fail, "sbom_bad"},
		"a list by another commit": {func(f *Facts) { find(f, "sbom").Commit = "d" }, "", lockkeeper.Pass, ""},

		"a high one": {func(f *Facts) {
			find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[0].Severity = evidence.High
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"one that nobody rated": {func(f *Facts) {
			find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[0].Severity = evidence.Unknown
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"one of an odd rating": {func(f *Facts) { find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[0].Severity = "none" }, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"the grace is over": {func(f *Facts) {
			find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[1].Published = now.Add(-48 * time.Hour)
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"known for nobody says how long": {func(f *Facts) {
			find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[1].Published = lockkeeper.Moment{}
		}, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"without a fix, and only fixable count": {func(f *Facts) {
			find(f, "vulnerabilities").Summary.Vulnerabilities.Findings[1].Published = lockkeeper.Moment{}
			f.Environment.Checks[5].Vulnerabilities.Fixable = true
		}, "", lockkeeper.Pass, ""},
		"old knowledge":     {func(f *Facts) { find(f, "vulnerabilities").Summary.Vulnerabilities.Database = now.Add(-24 * time.Hour) }, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"unknown knowledge": {func(f *Facts) { find(f, "vulnerabilities").Summary.Vulnerabilities.Database = lockkeeper.Moment{} }, "vulnerabilities", lockkeeper.Fail, "vulnerabilities_bad"},
		"an old report":     {func(f *Facts) { find(f, "vulnerabilities").At = now.Add(-7 * 24 * time.Hour) }, "vulnerabilities", lockkeeper.Wait, "evidence_stale"},

		"another key by that name":  {func(f *Facts) { f.Signers["ci"] = Signer{Signer: f.Signers["ci"].Signer, Identity: "sha256:x"} }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"the signer is gone":        {func(f *Facts) { delete(f.Signers, "ci") }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"a builder nobody trusts":   {func(f *Facts) { find(f, "provenance").Summary.Attestation.Provenance.Builder += "x" }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"too low a level":           {func(f *Facts) { f.Environment.Checks[6].Provenance.Level = 3 }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"a builder not named":       {func(f *Facts) { f.Environment.Checks[6].Provenance.Builders = []string{"x"} }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"a type not named":          {func(f *Facts) { f.Environment.Checks[6].Provenance.BuildTypes = []string{"x"} }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"another source":            {func(f *Facts) { find(f, "provenance").Summary.Attestation.Provenance.Sources[0].Repository += "x" }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"built from another commit": {func(f *Facts) { find(f, "provenance").Summary.Attestation.Provenance.Sources[0].Commit = "d" }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"the right source second": {func(f *Facts) {
			p := find(f, "provenance").Summary.Attestation.Provenance
			p.Sources = append([]evidence.Source{{Repository: "evil", Commit: "c"}}, p.Sources...)
		}, "provenance", lockkeeper.Fail, "provenance_bad"},
		"no source":     {func(f *Facts) { find(f, "provenance").Summary.Attestation.Provenance.Sources = nil }, "provenance", lockkeeper.Fail, "provenance_bad"},
		"no provenance": {func(f *Facts) { find(f, "provenance").Summary.Attestation.Provenance = nil }, "provenance", lockkeeper.Wait, "evidence_missing"},
		"a bad one, newer than the good": {func(f *Facts) {
			bad := provenance()
			bad.Builder = "x"
			f.Evidence = append(f.Evidence, piece("bad", attestation("https://slsa.dev/provenance/v1", bad)))
		}, "", lockkeeper.Pass, ""},
		"another type":       {func(f *Facts) { find(f, "attestation").Summary.Attestation.PredicateType = "t:y" }, "attestation", lockkeeper.Wait, "evidence_missing"},
		"the rule is false":  {func(f *Facts) { find(f, "attestation").Summary.Attestation.Predicate = []byte(`{"ok":false}`) }, "attestation", lockkeeper.Fail, "attestation_bad"},
		"the rule errs":      {func(f *Facts) { find(f, "attestation").Summary.Attestation.Predicate = []byte(`{}`) }, "attestation", lockkeeper.Fail, "attestation_bad"},
		"no object":          {func(f *Facts) { find(f, "attestation").Summary.Attestation.Predicate = []byte(`null`) }, "attestation", lockkeeper.Fail, "attestation_bad"},
		"nothing evaluates":  {func(f *Facts) { f.Says = nil }, "attestation", lockkeeper.Fail, "attestation_bad"},
		"nobody signed it":   {func(f *Facts) { find(f, "attestation").Summary.Attestation.Signers = nil }, "attestation", lockkeeper.Fail, "attestation_bad"},
		"an old attestation": {func(f *Facts) { find(f, "attestation").At = now.Add(-365 * 24 * time.Hour) }, "attestation", lockkeeper.Wait, "evidence_stale"},
	} {
		f := proven()
		c.change(&f)
		d := Judge(f, now)
		for _, check := range []string{"tests", "scan", "sbom", "vulnerabilities", "provenance", "attestation"} {
			if check == c.check {
				if b := want(t, name, d, "check "+check, c.verdict, c.code); !strings.Contains(b.Sentence, "app") && !strings.Contains(b.Sentence, "brought by") {
					t.Errorf("%s: the sentence names neither the artifact nor the piece: %s", name, b.Sentence)
				}
			} else if c.check == "" {
				for _, b := range d.Because {
					if b.Verdict != lockkeeper.Pass {
						t.Errorf("%s: %s is %s: %s", name, b.Subject, b.Verdict, b.Sentence)
					}
				}
			}
		}
	}
}

// A pass ends when the first piece that it rests on grows too old (invariant 10).
func TestEvidenceEnds(t *testing.T) {
	f := proven()
	f.Environment.Checks[2].Tests.Age = catalog.Duration(70 * time.Minute)
	d := Judge(f, now)
	if want := now.Add(10 * time.Minute); d.Until == nil || *d.Until != want {
		t.Fatalf("it holds until %v, want %s", d.Until, want)
	}
	if !d.Passed(now) || Judge(f, *d.Until).Passed(*d.Until) {
		t.Error("it does not end there")
	}
}

// A rollback needs the signatures still, and nothing of tests and scans.
func TestEvidenceOfRollback(t *testing.T) {
	f := proven()
	f.Ask.Action = lockkeeper.RollbackAction
	f.Good = []Release{{Deployment: "d-1", Artifacts: f.Ask.Artifacts, At: now.Add(-time.Hour)}}
	f.Ask.Commit = "another" // that of the pipeline that rolls back
	for i := range f.Evidence {
		f.Evidence[i].At = now.Add(-1000 * 24 * time.Hour)
	}
	f.Evidence = f.Evidence[5:]
	if d := Judge(f, now); !d.Passed(now) {
		t.Errorf("%+v", d)
	}
	delete(f.Signers, "ci")
	want(t, "the key was revoked", Judge(f, now), "check provenance", lockkeeper.Fail, "provenance_bad")
}

// TestInvariant10 compares the check over tests with a model: the newest piece of each
// stage and name, of the right artifact, commit and bringer, none of them with a
// failure, none too old, and enough cases in all.
func TestInvariant10(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := proven()
		c := catalog.Tests{Least: rapid.IntRange(1, 6).Draw(t, "least"), Age: catalog.Duration(5 * time.Hour)}
		if rapid.Bool().Draw(t, "named") {
			c.Names = []string{"a"}
		}
		f.Environment.Checks = append(f.Environment.Checks[:2:2], catalog.Check{Name: "tests", Tests: &c})
		f.Evidence = nil
		n := rapid.IntRange(0, 6).Draw(t, "n")
		for i := range n {
			e := piece(fmt.Sprint(i), testsOf(rapid.IntRange(0, 3).Draw(t, "passed"), rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "failed"), 0))
			e.Name = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
			e.Stage = rapid.SampledFrom([]string{"build", "check", "deploy", "stranger"}).Draw(t, "stage")
			e.Commit = rapid.SampledFrom([]string{"c", "c", "d"}).Draw(t, "commit")
			e.At = now.Add(-time.Duration(rapid.IntRange(1, 8).Draw(t, "age")) * time.Hour)
			f.Evidence = append(f.Evidence, e)
		}
		for i := range f.Evidence { // oldest first
			for j := range i {
				if f.Evidence[i].At.Before(f.Evidence[j].At) {
					f.Evidence[i], f.Evidence[j] = f.Evidence[j], f.Evidence[i]
				}
			}
		}
		newest := map[[2]string]Evidence{}
		for _, e := range f.Evidence {
			if (e.Stage == "build" || e.Stage == "check") && e.Commit == "c" {
				newest[[2]string{e.Stage, e.Name}] = e
			}
		}
		passed, named, clean := 0, false, true
		for _, e := range newest {
			r := e.Summary.Tests
			clean = clean && r.Failed == 0 && r.Passed > 0
			if now.Before(e.At.Add(5 * time.Hour)) {
				passed, named = passed+r.Passed, named || e.Name == "a"
			}
		}
		want := clean && passed >= c.Least && (named || len(c.Names) == 0)
		if d := Judge(f, now); d.Passed(now) != want {
			t.Fatalf("the gate says %s (%s), the model %v\n%+v", d.Verdict, d.Sentence, want, f.Evidence)
		}
	})
}
