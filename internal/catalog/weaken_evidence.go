package catalog

import (
	"slices"
	"time"
)

// evidenceCheck reports what a check over evidence demands no more.
func (w *weakening) evidenceCheck(a, b Check) {
	was, _ := a.Evidence()
	is, _ := b.Evidence()
	w.when(is.Age > was.Age, "the check %s takes evidence of %s instead of %s", a.Name, is.Age, was.Age)
	if len(was.From) > 0 {
		w.when(len(is.From) == 0, "the check %s takes evidence of every stage that may bring it", a.Name)
		w.more("the check "+a.Name+" takes evidence of the stage %s", was.From, is.From)
	}
	w.more("the check "+a.Name+" does without %s", is.Names, was.Names)
	switch {
	case a.Tests != nil:
		x, y := *a.Tests, *b.Tests
		w.when(y.LeastPassed() < x.LeastPassed(), "the check %s asks for %d passed cases instead of %d", a.Name, y.LeastPassed(), x.LeastPassed())
		w.when(y.Coverage < x.Coverage, "the check %s asks for %d%% coverage instead of %d%%", a.Name, y.Coverage, x.Coverage)
		w.when(x.Skipped != nil && (y.Skipped == nil || *y.Skipped > *x.Skipped), "the check %s takes more skipped cases", a.Name)
	case a.Scan != nil:
		x, y := *a.Scan, *b.Scan
		w.when(y.Errors > x.Errors || x.Warnings != nil && (y.Warnings == nil || *y.Warnings > *x.Warnings), "the check %s takes more results of the scan", a.Name)
	case a.SBOM != nil:
		x, y := *a.SBOM, *b.SBOM
		w.when(y.LeastComponents() < x.LeastComponents() || y.Identified < x.Identified || y.Versioned < x.Versioned || y.Licensed < x.Licensed, "the check %s takes a bill of materials that says less", a.Name)
	case a.Vulnerabilities != nil:
		w.vulnerabilities(a.Name, *a.Vulnerabilities, *b.Vulnerabilities)
	case a.Provenance != nil:
		x, y := *a.Provenance, *b.Provenance
		w.more("the check "+a.Name+" believes the signer %s", x.Signers, y.Signers)
		w.when(x.Source != y.Source, "the check %s takes what was built from another repository", a.Name)
		w.when(y.LeastLevel() < x.LeastLevel(), "the check %s asks for SLSA build level %d instead of %d", a.Name, y.LeastLevel(), x.LeastLevel())
		w.lists("the check "+a.Name+" takes the builder %s", "the check "+a.Name+" takes every builder of its signers", x.Builders, y.Builders)
		w.lists("the check "+a.Name+" takes the build type %s", "the check "+a.Name+" takes every build type", x.BuildTypes, y.BuildTypes)
	case a.Plan != nil:
		w.plan(a.Name, *a.Plan, *b.Plan)
	case a.Attestation != nil:
		x, y := *a.Attestation, *b.Attestation
		w.more("the check "+a.Name+" believes the signer %s", x.Signers, y.Signers)
		w.when(x.Type != y.Type, "the check %s asks for another statement", a.Name)
		w.when(x.Rule != "" && x.Rule != y.Rule, "the check %s judges another expression, or none", a.Name)
	}
}

// speaks reports whether evidence of a kind can speak against an artifact. Of statements
// one good one is enough, whatever the others say.
func speaks(kind string) bool { return kind != "attestation" }

// unheard reports what the stages of a pipeline may bring no more, as when it is gone: what
// they said against an artifact would be forgotten.
func (w *weakening) unheard(a, b Pipeline) {
	for _, s := range a.Stages {
		var left []string
		for _, o := range b.Stages {
			if o.Name == s.Name {
				left = o.Evidence
			}
		}
		w.more("what the stage "+s.Name+" said against artifacts in %s counts no more", left, slices.DeleteFunc(slices.Clone(s.Evidence), func(kind string) bool { return !speaks(kind) }))
	}
}

// heard reports what the stages of a new pipeline may bring.
func (w *weakening) heard(p Pipeline) {
	for _, s := range p.Stages {
		w.more("the stage "+s.Name+" may bring %s", nil, s.Evidence)
	}
}

// unasked reports the stages whose evidence a check looked at and looks at no more: what
// they said against an artifact would be forgotten.
func (w *weakening) unasked(a, b Environment) {
	for _, c := range a.Checks {
		was, demands := c.Evidence()
		i := slices.IndexFunc(b.Checks, func(o Check) bool { return o.Name == c.Name })
		if c.Shadow || !demands || !speaks(was.Kind) || i < 0 {
			continue
		}
		if is, same := b.Checks[i].Evidence(); same && len(is.From) > 0 && is.Kind == was.Kind {
			w.more("what the stage %s said against artifacts counts no more for the check "+c.Name, is.From, w.old.sources(a.Project, was))
		}
	}
}

// sources are the stages whose evidence is looked at where some is demanded.
func (c *Catalog) sources(project string, want Demanded) []string {
	var out []string
	for _, p := range c.Pipelines {
		for _, s := range p.Stages {
			stage := p.Name + "/" + s.Name
			if p.Project == project && slices.Contains(s.Evidence, want.Kind) && (len(want.From) == 0 || slices.Contains(want.From, stage)) {
				out = append(out, stage)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (w *weakening) vulnerabilities(name string, x, y KnownVulnerabilities) {
	rank := []string{"low", "medium", "high", "critical"}
	w.when(slices.Index(rank, y.LeastSeverity()) > slices.Index(rank, x.LeastSeverity()), "the check %s counts vulnerabilities from %s on instead of %s", name, y.LeastSeverity(), x.LeastSeverity())
	w.when(y.Grace > x.Grace, "the check %s leaves a vulnerability %s instead of %s", name, time.Duration(y.Grace), time.Duration(x.Grace))
	w.when(y.Fixable && !x.Fixable, "the check %s counts only what has a fix", name)
	w.when(longer(x.Database, y.Database), "the check %s takes reports of older knowledge", name)
}

// lists reports what a list of what is admitted has more; an empty one admits all.
func (w *weakening) lists(one, all string, a, b []string) {
	if len(a) == 0 {
		return
	}
	w.when(len(b) == 0, "%s", all)
	w.more(one, a, b)
}

// signer reports that somebody else is believed, or for more.
func (w *weakening) signer(a Signer, was bool, b Signer) {
	if !was {
		w.when(true, "statements that %s signed can be believed", b.Name)
		return
	}
	same := a.Key == b.Key && (a.Keyless == nil) == (b.Keyless == nil) && (a.Keyless == nil || *a.Keyless == *b.Keyless)
	w.when(!same, "somebody else is believed under the name %s", b.Name)
	for _, x := range b.Builders {
		covered := slices.ContainsFunc(a.Builders, func(o Builder) bool { return o.ID == x.ID && o.Level >= x.Level })
		w.when(!covered, "it is trusted for the builder %s at level %d", x.ID, x.Level)
	}
}
