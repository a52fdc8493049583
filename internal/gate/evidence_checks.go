package gate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// A Signer is one that the catalog has now, with the digest that names its trust.
type Signer struct {
	catalog.Signer
	Identity lockkeeper.Digest
}

// tests passes when the newest results of each stage and name have no failure, and
// all of them together as many passed cases as demanded, and coverage too.
func (s search) tests(a lockkeeper.Artifact, t catalog.Tests) lockkeeper.Decision {
	d, good := s.sum(a, evidence.Tests, t.Names, func(e Evidence) string { return broken(e.Summary.Tests) })
	if d.Verdict != lockkeeper.Pass {
		return d
	}
	total, cases, skipped := 0, 0, 0
	for _, e := range good {
		total, cases, skipped = total+e.Summary.Tests.Passed, cases+e.Summary.Tests.Total, skipped+e.Summary.Tests.Skipped
	}
	switch {
	case total < t.LeastPassed():
		return s.decide(a, lockkeeper.Fail, "tests_few", fmt.Sprintf("%d cases passed for %s, and at least %d must.", total, a.Name, t.LeastPassed()), "Bring the results of all tests.")
	case t.Skipped != nil && skipped*100 > *t.Skipped*cases:
		return s.decide(a, lockkeeper.Fail, "tests_skipped", fmt.Sprintf("%d of %d cases were skipped for %s, more than %d%%.", skipped, cases, a.Name, *t.Skipped), "Let them run, or take them out.")
	case t.Coverage == 0:
		return d
	}
	covered, _ := s.sum(a, evidence.Coverage, nil, func(e Evidence) string { return uncovered(t, e.Summary.Coverage) })
	return lockkeeper.All("artifact "+a.Name, d.Sentence, d, covered)
}

// broken says what is wrong with results of tests, or "".
func broken(t *evidence.TestResults) string {
	switch {
	case t == nil || t.Total == 0:
		return "no case ran."
	case t.Failed+t.Erred > 0:
		return fmt.Sprintf("%d of %d cases failed: %s.", t.Failed+t.Erred, t.Total, strings.Join(t.Broken, ", "))
	case t.Passed == 0:
		return fmt.Sprintf("all %d cases were skipped.", t.Total)
	case t.Empty > 0:
		return fmt.Sprintf("%d suites have no case: something did not run.", t.Empty)
	}
	return ""
}

func uncovered(t catalog.Tests, c *evidence.Covered) string {
	switch {
	case c == nil || c.Lines <= 0:
		return "it counts no line."
	case c.Covered*100 < int64(t.Coverage)*c.Lines:
		return fmt.Sprintf("%d of %d lines ran, less than %d%%.", c.Covered, c.Lines, t.Coverage)
	}
	return ""
}

// scanned says what a scan has against it, or "".
func scanned(c catalog.Scan, e Evidence) string {
	r := e.Summary.Scan
	switch {
	case r == nil || r.Runs == 0:
		return "no tool ran."
	case r.Incomplete:
		return "a tool says that it did not finish."
	case r.Errors > c.Errors:
		return fmt.Sprintf("%d errors, and at most %d are let pass: %s.", r.Errors, c.Errors, strings.Join(r.Worst, ", "))
	case c.Warnings != nil && r.Warnings > *c.Warnings:
		return fmt.Sprintf("%d warnings, and at most %d are let pass.", r.Warnings, *c.Warnings)
	}
	return ""
}

// listed says what a bill of materials lacks, or "".
func listed(c catalog.BillOfMaterials, e Evidence) string {
	b := e.Summary.SBOM
	if b == nil || b.Total < c.LeastComponents() {
		n := 0
		if b != nil {
			n = b.Total
		}
		return fmt.Sprintf("it lists %d components, and at least %d are demanded.", n, c.LeastComponents())
	}
	for _, part := range []struct {
		n, percent int
		what       string
	}{{b.Identified, c.Identified, "have a package URL or CPE"}, {b.Versioned, c.Versioned, "have a version"}, {b.Licensed, c.Licensed, "have a licence"}} {
		if part.n*100 < part.percent*b.Total {
			return fmt.Sprintf("%d of %d components %s, less than %d%%: not %s.", part.n, b.Total, part.what, part.percent, strings.Join(b.Incomplete, ", "))
		}
	}
	return ""
}

// severities from least to worst; what is not rated is worse than all.
var severities = []evidence.Severity{evidence.Negligible, evidence.Low, evidence.Medium, evidence.High, evidence.Critical}

func (s search) bad(f evidence.Finding, k catalog.KnownVulnerabilities) bool {
	rank := slices.Index(severities, f.Severity)
	if rank >= 0 && rank < slices.Index(severities, evidence.Severity(k.LeastSeverity())) {
		return false
	}
	if k.Fixable && len(f.Fixed) == 0 {
		return false
	}
	return k.Grace == 0 || f.Published.IsZero() || s.olderThan(f.Published, time.Duration(k.Grace))
}

// vulnerable says what a report has against the artifact once VEX is applied, or "".
func (s search) vulnerable(a lockkeeper.Artifact, k catalog.KnownVulnerabilities, e Evidence) string {
	r := e.Summary.Vulnerabilities
	if r == nil {
		return "it is no report."
	}
	if age := time.Duration(k.Database); age > 0 && !s.ageless {
		switch {
		case r.Database.IsZero():
			return "it does not say how old its knowledge is."
		case s.olderThan(r.Database, age):
			return fmt.Sprintf("its knowledge is of %s, older than %s.", r.Database, age)
		}
	}
	var said []evidence.Statement
	for _, v := range s.f.Evidence {
		if s.exempts(v, a) {
			said = append(said, v.statements()...)
		}
	}
	var open []string
	for _, f := range evidence.Open(*r, said, []lockkeeper.Digest{a.Digest}) {
		if s.bad(f, k) {
			open = append(open, fmt.Sprintf("%s in %s (%s)", f.ID, f.Package, f.Severity))
		}
	}
	if n := len(open); n > 0 {
		more := ""
		if n > evidence.MaxNamed {
			more = fmt.Sprintf(" and %d more", n-evidence.MaxNamed)
		}
		return fmt.Sprintf("%d vulnerabilities of severity %s or worse: %s%s.", n, k.LeastSeverity(), strings.Join(open[:min(n, evidence.MaxNamed)], ", "), more)
	}
	return ""
}

// statements are those of a piece of VEX that count: of one that is held back, none that
// closes anything.
func (e Evidence) statements() []evidence.Statement {
	if e.Held == "" {
		return e.Summary.Statements
	}
	return slices.DeleteFunc(slices.Clone(e.Summary.Statements), func(s evidence.Statement) bool {
		return s.Status == evidence.NotAffected || s.Status == evidence.FixedStatus
	})
}

// exempts reports whether a piece is VEX that counts: of a stage that may bring it,
// whatever stages the report may come from.
func (s search) exempts(e Evidence, a lockkeeper.Artifact) bool {
	return e.Summary.Kind == evidence.VEX && e.about(a) && s.f.Brings != nil && s.f.Brings(e.Pipeline, e.Stage, string(evidence.VEX)) &&
		!(s.f.isProduction() && e.Pipeline == s.f.Ask.Pipeline && e.Stage == s.f.Ask.Stage)
}

// signer is the first of the named signers that signed the statement and whose key
// or trust is still what it was then.
func (s search) signer(names []string, a evidence.Attested) (catalog.Signer, bool) {
	for _, name := range names {
		now, known := s.f.Signers[name]
		if known && slices.ContainsFunc(a.Signers, func(by evidence.SignedBy) bool { return by.Signer == name && by.Key == now.Identity }) {
			return now.Signer, true
		}
	}
	return catalog.Signer{}, false
}

// built says what a statement of provenance lacks. Other statements are not relevant.
func (s search) built(c catalog.SLSAProvenance, e Evidence) (why string, relevant bool) {
	a := e.Summary.Attestation
	if a == nil || a.Provenance == nil {
		return "", false
	}
	p := *a.Provenance
	by, signed := s.signer(c.Signers, *a)
	if !signed {
		return fmt.Sprintf("none of the signers that count signed it (%s).", strings.Join(c.Signers, ", ")), true
	}
	trusted := slices.IndexFunc(by.Builders, func(b catalog.Builder) bool { return b.ID == p.Builder })
	switch {
	case trusted < 0:
		return fmt.Sprintf("the signer %s is not trusted for the builder %q.", by.Name, p.Builder), true
	case by.Builders[trusted].Level < c.LeastLevel():
		return fmt.Sprintf("the builder %s is trusted for SLSA build level %d, and %d is demanded.", p.Builder, by.Builders[trusted].Level, c.LeastLevel()), true
	case len(c.Builders) > 0 && !slices.Contains(c.Builders, p.Builder):
		return fmt.Sprintf("it was built by %s, which the check does not name.", p.Builder), true
	case len(c.BuildTypes) > 0 && !slices.Contains(c.BuildTypes, p.BuildType):
		return fmt.Sprintf("it was built as %q, which the check does not name.", p.BuildType), true
	case len(p.Sources) == 0:
		return "it names no source.", true
	case p.Sources[0].Repository != c.Source:
		return fmt.Sprintf("it was built from %s, and the check demands %s.", p.Sources[0].Repository, c.Source), true
	case !s.f.again() && (p.Sources[0].Commit == "" || p.Sources[0].Commit != s.f.Ask.Commit):
		return fmt.Sprintf("it was built from the commit %q, and %s is deployed.", p.Sources[0].Commit, s.f.Ask.Commit), true
	}
	return "", true
}

// attested says what a statement lacks. Those of other types are not relevant.
func (s search) attested(c catalog.AttestationCheck, e Evidence) (why string, relevant bool) {
	a := e.Summary.Attestation
	if a == nil || a.PredicateType != c.Type {
		return "", false
	}
	if _, signed := s.signer(c.Signers, *a); !signed {
		return fmt.Sprintf("none of the signers that count signed it (%s).", strings.Join(c.Signers, ", ")), true
	}
	if c.Rule == "" {
		return "", true
	}
	var predicate map[string]any
	if err := json.Unmarshal(a.Predicate, &predicate); err != nil || predicate == nil {
		return "its predicate is no object.", true
	}
	if s.f.Says == nil {
		return "nothing evaluates the expression.", true
	}
	holds, err := s.f.Says(c.Rule, predicate)
	switch {
	case err != nil:
		return fmt.Sprintf("the expression %s cannot be judged: %v.", clip(c.Rule), err), true
	case !holds && c.Message != "":
		return c.Message, true
	case !holds:
		return fmt.Sprintf("the expression %s is not true of it.", clip(c.Rule)), true
	}
	return "", true
}
