package gate

import (
	"encoding/json"

	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// What pieces of evidence say to a policy, by kind: what was read of them, with each
// field there.

type policyTests struct {
	Suites  int      `json:"suites"`
	Total   int      `json:"total"`
	Passed  int      `json:"passed"`
	Failed  int      `json:"failed"`
	Erred   int      `json:"erred"`
	Skipped int      `json:"skipped"`
	Empty   int      `json:"empty"`  // suites without a case
	Broken  []string `json:"broken"` // the first 20 that failed or erred
}

type policyCoverage struct {
	Lines   int64 `json:"lines"`
	Covered int64 `json:"covered"`
}

type policyScan struct {
	Runs       int      `json:"runs"`
	Errors     int      `json:"errors"`
	Warnings   int      `json:"warnings"`
	Notes      int      `json:"notes"`
	Suppressed int      `json:"suppressed"`
	Incomplete bool     `json:"incomplete"`
	Worst      []string `json:"worst"` // the first 20 errors
}

type policySBOM struct {
	Total      int      `json:"total"`
	Identified int      `json:"identified"`
	Versioned  int      `json:"versioned"`
	Licensed   int      `json:"licensed"`
	Relations  int      `json:"relations"`
	Incomplete []string `json:"incomplete"`
}

type policyReport struct {
	Database string          `json:"database"` // how old the tool's knowledge is; "": it does not say
	Findings []policyFinding `json:"findings"`
}

type policyFinding struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Package   string   `json:"package"`
	Severity  string   `json:"severity"` // negligible, low, medium, high, critical or unknown
	Fixed     []string `json:"fixed"`
	Published string   `json:"published"`
	Status    string   `json:"status"` // of the report's own analysis
	Reason    string   `json:"reason"`
	At        string   `json:"at"`
}

type policyStatements struct {
	Statements []policyStatement `json:"statements"`
}

type policyStatement struct {
	ID            string   `json:"id"`
	Aliases       []string `json:"aliases"`
	Products      []string `json:"products"`
	Subcomponents []string `json:"subcomponents"`
	Status        string   `json:"status"`
	Reason        string   `json:"reason"`
	At            string   `json:"at"`
}

type policyAttestation struct {
	PredicateType string            `json:"predicateType"`
	Predicate     json.RawMessage   `json:"predicate"`            // as its maker wrote it
	Provenance    *policyProvenance `json:"provenance,omitempty"` // of SLSA provenance only
}

type policySigner struct {
	Signer string `json:"signer"` // its name in the catalog
	Key    string `json:"key"`
	At     string `json:"at"`
}

type policyProvenance struct {
	Builder   string         `json:"builder"`
	BuildType string         `json:"buildType"`
	Sources   []policySource `json:"sources"`
	Run       string         `json:"run"`
}

type policySource struct {
	Repository string `json:"repository"`
	Commit     string `json:"commit"`
}

type policyPlanned struct {
	Kind     string         `json:"kind"`
	Digest   string         `json:"digest"`
	Adds     int            `json:"adds"`
	Changes  int            `json:"changes"`
	Destroys int            `json:"destroys"`
	Replaces int            `json:"replaces"`
	Objects  int            `json:"objects"`
	Shown    []policyChange `json:"shown"`
}

type policyChange struct {
	Action  string `json:"action"`
	Address string `json:"address"`
}

func texts(list []string) []string { return append([]string{}, list...) }

// fill writes what a piece says into the member of its kind.
func (p *policyEvidence) fill(s evidence.Summary) {
	switch {
	case s.Tests != nil:
		t := s.Tests
		p.Tests = &policyTests{t.Suites, t.Total, t.Passed, t.Failed, t.Erred, t.Skipped, t.Empty, texts(t.Broken)}
	case s.Coverage != nil:
		p.Coverage = &policyCoverage{s.Coverage.Lines, s.Coverage.Covered}
	case s.Scan != nil:
		t := s.Scan
		p.Scan = &policyScan{t.Runs, t.Errors, t.Warnings, t.Notes, t.Suppressed, t.Incomplete, texts(t.Worst)}
	case s.SBOM != nil:
		t := s.SBOM
		p.SBOM = &policySBOM{t.Total, t.Identified, t.Versioned, t.Licensed, t.Relations, texts(t.Incomplete)}
	case s.Vulnerabilities != nil:
		p.Vulnerabilities = &policyReport{instant(s.Vulnerabilities.Database), []policyFinding{}}
		for _, x := range s.Vulnerabilities.Findings {
			p.Vulnerabilities.Findings = append(p.Vulnerabilities.Findings, policyFinding{x.ID, texts(x.Aliases), x.Package, string(x.Severity), texts(x.Fixed), instant(x.Published), string(x.Status), x.Reason, instant(x.At)})
		}
	case s.Attestation != nil:
		p.Attestation = attestationOf(*s.Attestation)
	case s.Plan != nil:
		t := s.Plan
		p.Plan = &policyPlanned{t.Kind, string(t.Digest), t.Adds, t.Changes, t.Destroys, t.Replaces, t.Objects, []policyChange{}}
		for _, x := range t.Shown {
			p.Plan.Shown = append(p.Plan.Shown, policyChange{x.Action, x.Address})
		}
	case s.Kind == evidence.VEX:
		p.VEX = &policyStatements{[]policyStatement{}}
		for _, x := range s.Statements {
			p.VEX.Statements = append(p.VEX.Statements, policyStatement{x.ID, texts(x.Aliases), texts(x.Products), texts(x.Subcomponents), string(x.Status), x.Reason, instant(x.At)})
		}
	}
}

func attestationOf(a evidence.Attested) *policyAttestation {
	out := &policyAttestation{PredicateType: a.PredicateType, Predicate: json.RawMessage("null")}
	if json.Valid(a.Predicate) {
		out.Predicate = a.Predicate
	}
	if p := a.Provenance; p != nil {
		out.Provenance = &policyProvenance{p.Builder, p.BuildType, []policySource{}, p.Run}
		for _, s := range p.Sources {
			out.Provenance.Sources = append(out.Provenance.Sources, policySource{s.Repository, s.Commit})
		}
	}
	return out
}
