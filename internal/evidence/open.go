package evidence

import (
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// Open is what VEX leaves open of a report: the findings that no statement closes
// for the product of these digests, in the report's order.
//
// A statement speaks about a finding if it names the same vulnerability, by id or
// by alias on either side, and either names the product by digest and, if it names
// subcomponents, the finding's package among them; or names the package itself as
// its product, without subcomponents. A package URL without a version names every
// version; one with qualifiers only packages that have them all (OpenVEX 0.2.0,
// "Product Matching"). A product that is named in any other way is not this one.
//
// Of all statements about a finding the latest count, with those that have no time,
// which may be as late; the report's own analysis is one of them, with its own time.
// Of those that count the worst decides: affected, then under investigation, then
// fixed, then not affected. So of two at one instant, the worse wins. Only fixed,
// and not affected with a reason, close a finding.
func Open(report Report, statements []Statement, product []lockkeeper.Digest) []Finding {
	about := report.about(statements)
	var open []Finding
	for _, f := range report.Findings {
		v := verdict{status: f.Status, reason: f.Reason, at: f.At}
		said := []verdict{}
		if f.Status != "" {
			said = append(said, v)
		}
		pkg, isPURL := parsePURL(f.Package)
		tried := map[int]bool{}
		for _, id := range append([]string{f.ID}, f.Aliases...) {
			for _, i := range about[fold(id)] {
				if s := statements[i]; !tried[i] && s.speaksOf(pkg, isPURL, product) {
					said = append(said, verdict{s.Status, s.Reason, s.At})
				}
				tried[i] = true
			}
		}
		if !closed(said) {
			open = append(open, f)
		}
	}
	return open
}

// about finds the statements about each id that the report's findings have: there may be
// many more statements than these, of other artifacts.
func (r Report) about(statements []Statement) map[string][]int {
	about := map[string][]int{}
	for _, f := range r.Findings {
		about[fold(f.ID)] = nil
		for _, id := range f.Aliases {
			about[fold(id)] = nil
		}
	}
	add := func(id string, i int) {
		id = fold(id)
		if list, asked := about[id]; asked {
			about[id] = append(list, i)
		}
	}
	for i, s := range statements {
		add(s.ID, i)
		for _, id := range s.Aliases {
			add(id, i)
		}
	}
	return about
}

// fold makes ids comparable: CVE-2024-1 and cve-2024-1 are one.
func fold(id string) string { return strings.ToUpper(strings.TrimSpace(id)) }

type verdict struct {
	status Status
	reason string
	at     lockkeeper.Moment
}

// badness orders statuses; what is no status is as bad as affected.
func (v verdict) badness() int {
	switch {
	case v.status == NotAffected && v.reason != "":
		return 0
	case v.status == FixedStatus:
		return 1
	case v.status == NotAffected || v.status == UnderInvestigation:
		return 2
	}
	return 3
}

func closed(said []verdict) bool {
	var latest lockkeeper.Moment
	for _, v := range said {
		if latest.Before(v.at) {
			latest = v.at
		}
	}
	worst := -1
	for _, v := range said {
		if v.at.IsZero() || v.at == latest {
			worst = max(worst, v.badness())
		}
	}
	return worst == 0 || worst == 1
}

// speaksOf says whether the statement is about this package of this product.
func (s Statement) speaksOf(pkg purl, isPURL bool, product []lockkeeper.Digest) bool {
	inPackage := func(name string) bool {
		p, ok := parsePURL(name)
		return ok && isPURL && p.covers(pkg)
	}
	for _, name := range s.Products {
		if d, ok := digestIn(name); ok && slices.Contains(product, d) {
			return len(s.Subcomponents) == 0 || slices.ContainsFunc(s.Subcomponents, inPackage)
		}
	}
	return len(s.Subcomponents) == 0 && slices.ContainsFunc(s.Products, inPackage)
}
