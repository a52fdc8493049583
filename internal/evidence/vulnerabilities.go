package evidence

import (
	"cmp"
	"slices"
	"strings"
)

const vulnerabilityFormats = "CycloneDX 1.4 to 1.7 with vulnerabilities, and the JSON of Trivy (schema 2), Grype and OSV-Scanner"

func readVulnerabilities(content []byte) (Summary, error) {
	if !isJSON(content) {
		return Summary{}, unknownFormat(Vulnerabilities, "it is not JSON", vulnerabilityFormats)
	}
	c, err := newCursor(content)
	if err != nil {
		return Summary{}, err
	}
	members, err := c.members()
	if err != nil {
		return Summary{}, err
	}
	has := func(key string) bool { _, there := members[key]; return there }
	switch {
	case members["bomFormat"] == "CycloneDX":
		return cyclonedxReport(c, members)
	case has("SchemaVersion") && has("ArtifactName"):
		return trivy(c)
	case has("matches") && has("descriptor"):
		return grype(c)
	case has("results") && !has("runs"):
		return osv(c)
	case has("runs"):
		return Summary{}, unknownFormat(Vulnerabilities, "SARIF does not say which package a vulnerability is in", vulnerabilityFormats)
	}
	return Summary{}, unknownFormat(Vulnerabilities, "none of their members is there", vulnerabilityFormats)
}

func cyclonedxReport(c *cursor, members map[string]string) (Summary, error) {
	d, err := cyclonedx(c, Vulnerabilities, members)
	if err != nil {
		return Summary{}, err
	}
	if _, there := d.places["vulnerabilities"]; !there {
		return Summary{}, refuse(codeEmpty, "The document has no vulnerabilities, not even an empty list of them.").
			WithNext("A bill of materials alone is evidence of the kind sbom.")
	}
	list, refs, err := d.vulnerabilities()
	if err != nil {
		return Summary{}, err
	}
	found := newFindings()
	for _, v := range list {
		if len(v.affected) == 0 {
			v.finding.Package = d.root.label()
			if err := found.add(c, v.finding); err != nil {
				return Summary{}, err
			}
		}
		for _, a := range v.affected {
			f := v.finding
			f.Package, _ = d.named(a.ref, refs)
			f.Fixed = a.fixed
			if err := found.add(c, f); err != nil {
				return Summary{}, err
			}
		}
	}
	d.s.Vulnerabilities = &Report{Findings: found.sorted()}
	return d.s, nil
}

// findings are distinct by id and package.
type findings struct {
	at   map[[2]string]int
	list []Finding
}

func newFindings() *findings { return &findings{at: map[[2]string]int{}} }

// add keeps a finding. One that is there already is merged with it: the worse
// severity, all aliases, a fix only if both know one, and the worse analysis.
func (l *findings) add(c *cursor, f Finding) error {
	if f.Severity == "" {
		f.Severity = Unknown
	}
	if f.Package = clip(f.Package); f.Package == "" {
		f.Package = "unknown"
	}
	if f.ID == "" {
		return c.fail(codeUnreadable, "A vulnerability has no id.")
	}
	f.Aliases = distinct(f.Aliases, f.ID)
	key := [2]string{f.ID, f.Package}
	i, twice := l.at[key]
	if !twice {
		if len(l.list) >= MaxFindings {
			return c.fail(codeTooLarge, "The report has more than %d vulnerabilities of packages.", MaxFindings).
				WithNext("Mend or leave out what cannot matter; so many cannot be judged.")
		}
		l.at[key] = len(l.list)
		l.list = append(l.list, f)
		return nil
	}
	g := &l.list[i]
	g.Severity = worse(g.Severity, f.Severity)
	g.Aliases = distinct(append(slices.Clone(g.Aliases), f.Aliases...), f.ID)
	if len(g.Aliases) > MaxNamed {
		return c.fail(codeTooLarge, "A vulnerability has more than %d aliases.", MaxNamed)
	}
	if len(g.Fixed) == 0 || len(f.Fixed) == 0 {
		g.Fixed = nil
	}
	if g.Published.IsZero() || !f.Published.IsZero() && f.Published.Before(g.Published) {
		g.Published = f.Published
	}
	g.analysis(f)
	return nil
}

// analysis keeps the worse of two. None at all is between what leaves a finding open
// and what closes it.
func (f *Finding) analysis(o Finding) {
	rank := func(f Finding) int {
		if f.Status == "" {
			return 1
		}
		if b := (verdict{status: f.Status, reason: f.Reason}).badness(); b > 1 {
			return b
		}
		return 0
	}
	if rank(o) > rank(*f) || rank(o) == rank(*f) && f.At.Before(o.At) {
		f.Status, f.Reason, f.At = o.Status, o.Reason, o.At
	}
}

// distinct sorts names and takes out those that stand twice, and the id itself.
func distinct(names []string, id string) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == id || n == "" })
}

func (l *findings) sorted() []Finding {
	slices.SortFunc(l.list, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Package, b.Package))
	})
	return l.list
}

// versions reads a list of versions in one text, with commas between.
func versions(s string) []string {
	var list []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" && len(list) < MaxNamed {
			list = append(list, clip(v))
		}
	}
	return list
}
