package evidence

import "fmt"

// Line says in one line what a document says.
func (s Summary) Line() string {
	switch {
	case s.Tests != nil:
		t := s.Tests
		return fmt.Sprintf("%d passed, %d failed, %d erred, %d skipped in %d suites", t.Passed, t.Failed, t.Erred, t.Skipped, t.Suites)
	case s.Coverage != nil && s.Coverage.Lines > 0:
		return fmt.Sprintf("%d of %d lines (%.1f%%)", s.Coverage.Covered, s.Coverage.Lines, 100*float64(s.Coverage.Covered)/float64(s.Coverage.Lines))
	case s.Scan != nil:
		r := s.Scan
		return fmt.Sprintf("%d errors, %d warnings, %d notes, %d suppressed in %d runs", r.Errors, r.Warnings, r.Notes, r.Suppressed, r.Runs)
	case s.SBOM != nil:
		b := s.SBOM
		return fmt.Sprintf("%d components, %d identified, %d with a version, %d with a licence", b.Total, b.Identified, b.Versioned, b.Licensed)
	case s.Vulnerabilities != nil:
		n := map[Severity]int{}
		for _, f := range s.Vulnerabilities.Findings {
			n[f.Severity]++
		}
		return fmt.Sprintf("%d findings: %d critical, %d high, %d medium, %d low, %d not rated", len(s.Vulnerabilities.Findings), n[Critical], n[High], n[Medium], n[Low], n[Unknown])
	case s.Plan != nil:
		return s.Plan.line()
	case s.Attestation != nil:
		a := s.Attestation
		by := "nobody"
		if len(a.Signers) > 0 {
			by = a.Signers[0].Signer
		}
		line := fmt.Sprintf("%s, signed by %s", a.PredicateType, by)
		if p := a.Provenance; p != nil {
			line += fmt.Sprintf(", built by %s", p.Builder)
			if len(p.Sources) > 0 {
				line += fmt.Sprintf(" from %s at %s", p.Sources[0].Repository, p.Sources[0].Commit)
			}
		}
		return line
	}
	return fmt.Sprintf("%d statements", len(s.Statements))
}
