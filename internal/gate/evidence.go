package gate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// Evidence is what a pipeline stage brought about artifacts.
type Evidence struct {
	ID         string                `json:"id"`
	Name       string                `json:"name"` // which of several of a kind, such as unit
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	Summary    evidence.Summary      `json:"summary"`
	Content    lockkeeper.Digest     `json:"content"` // of the document that was read
	Pipeline   string                `json:"pipeline"`
	Stage      string                `json:"stage"`
	Repository string                `json:"repository"`
	Commit     string                `json:"commit"`
	Run        string                `json:"run"`
	At         lockkeeper.Moment     `json:"at"` // when it was brought

	// Held says which open incident stops whoever brought it, so that it lets nothing
	// through, and holds up what it held up before; "": none.
	Held string `json:"-"`

	Environment string `json:"environment,omitempty"` // that a plan is for
}

// made is from when on a piece ages: when its document was made, if that says so
// and lies before, or when it was brought.
func (e Evidence) made() lockkeeper.Moment {
	if m := e.Summary.Made; !m.IsZero() && m.Before(e.At) {
		return m
	}
	return e.At
}

// from is whose piece it is, among several of a kind.
func (e Evidence) from() string { return e.Pipeline + "/" + e.Stage + " " + e.Name }

func (e Evidence) String() string {
	return fmt.Sprintf("%s %q (%s, brought by %s/%s at %s)", e.Summary.Kind, e.Name, e.ID, e.Pipeline, e.Stage, e.At)
}

func (e Evidence) about(a lockkeeper.Artifact) bool {
	return slices.ContainsFunc(e.Artifacts, func(o lockkeeper.Artifact) bool { return o.Digest == a.Digest })
}

// evidenceChecks judges every check over evidence.
func evidenceChecks(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if _, is := c.Evidence(); is {
			out = append(out, evidenceCheck(f, c, now))
		}
	}
	return out
}

// evidenceCheck passes when for each artifact of the ask there is evidence that says
// what the check demands. What is missing or too old may still be brought: it
// waits. What says the contrary fails. What is put back was good before: only who signed
// it is looked at, and how old that is does not matter.
func evidenceCheck(f Facts, c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	s := search{f: f, c: c, now: now}
	s.want, _ = c.Evidence()
	signed := c.Provenance != nil || c.Attestation != nil
	if f.askedBefore(c.Name) && !signed && c.Plan == nil { // what a plan is for changes under it
		return passed(c, "not_asked_of_"+f.Ask.Action, "These artifacts were deployed here with success before; %s were asked for then.", s.want.Kind)
	}
	s.ageless = f.again() && signed || !f.Released.IsZero()
	var because []lockkeeper.Decision
	for _, a := range f.Ask.Artifacts {
		because = append(because, s.judge(a))
	}
	return lockkeeper.All("check "+c.Name, "Each artifact has the evidence that the check demands.", because...)
}

// A search looks for the evidence of one check.
type search struct {
	f       Facts
	c       catalog.Check
	want    catalog.Demanded
	now     lockkeeper.Moment
	ageless bool // age does not matter
}

func (s search) judge(a lockkeeper.Artifact) lockkeeper.Decision {
	switch {
	case s.c.Tests != nil:
		return s.tests(a, *s.c.Tests)
	case s.c.Scan != nil:
		return s.newest(a, func(e Evidence) string { return scanned(*s.c.Scan, e) })
	case s.c.SBOM != nil:
		return s.newest(a, func(e Evidence) string { return listed(*s.c.SBOM, e) })
	case s.c.Vulnerabilities != nil:
		return s.newest(a, func(e Evidence) string { return s.vulnerable(a, *s.c.Vulnerabilities, e) })
	case s.c.Provenance != nil:
		return s.any(a, evidence.Attestation, func(e Evidence) (string, bool) { return s.built(*s.c.Provenance, e) })
	case s.c.Plan != nil:
		return s.planned(a, *s.c.Plan)
	}
	return s.any(a, evidence.Attestation, func(e Evidence) (string, bool) { return s.attested(*s.c.Attestation, e) })
}

// decide fills a decision about one artifact.
func (s search) decide(a lockkeeper.Artifact, v lockkeeper.Verdict, code, sentence, next string) lockkeeper.Decision {
	return lockkeeper.Decision{Subject: "artifact " + a.Name, Verdict: v, Code: code, Sentence: sentence, Next: next}
}

func (s search) missing(a lockkeeper.Artifact, kind, name string) lockkeeper.Decision {
	what, label := kind, kind
	if name != "" {
		what, label = fmt.Sprintf("%s named %s", kind, name), kind+":"+name
	}
	from := "a stage of the project that may"
	if len(s.want.From) > 0 {
		from = "the stage " + strings.Join(s.want.From, " or ")
	}
	return s.decide(a, lockkeeper.Wait, "evidence_missing", fmt.Sprintf("Nobody brought %s of %s.", what, a.Name),
		fmt.Sprintf("Bring them from %s: lockkeeper evidence add %s=FILE --artifact %s=%s", from, label, a.Name, a.Digest))
}

func (s search) held(a lockkeeper.Artifact, e Evidence) lockkeeper.Decision {
	return s.decide(a, lockkeeper.Wait, "evidence_held", fmt.Sprintf("%s counts for nothing now: %s", e, e.Held), "Bring it from another stage that may, or wait until the incident is closed.")
}

// counts reports whether a piece may count for an artifact at all, whatever it says
// and however old it is: whoever brought it may bring it now, it is about the
// artifact, and what is about code is about the code that is deployed.
func (s search) counts(e Evidence, a lockkeeper.Artifact, kind evidence.Kind) bool {
	stage := e.Pipeline + "/" + e.Stage
	named := slices.Contains(s.want.From, stage)
	switch {
	case e.Summary.Kind != kind || !e.about(a):
		return false
	case len(s.want.From) > 0 && !named:
		return false
	case s.f.Brings == nil || !s.f.Brings(e.Pipeline, e.Stage, string(kind)):
		return false
	case !named && s.f.isProduction() && stage == s.f.Ask.Pipeline+"/"+s.f.Ask.Stage:
		return false // in production nobody vouches for himself
	}
	switch kind {
	case evidence.Tests, evidence.Coverage, evidence.Scan, evidence.Plan:
		return e.Repository == s.f.Ask.Repository && e.Commit == s.f.Ask.Commit
	}
	return true
}

// fresh says when a piece begins to be too old, and whether it is not yet.
func (s search) fresh(e Evidence) (ends lockkeeper.Moment, yes bool) {
	ends = e.made().Add(s.want.Age)
	return ends, s.ageless || s.now.Before(ends)
}

// latest are the newest pieces of a kind about an artifact, of each stage and name,
// sorted by these.
func (s search) latest(a lockkeeper.Artifact, kind evidence.Kind) []Evidence {
	newest := map[string]Evidence{}
	for _, e := range s.f.Evidence { // oldest first
		if s.counts(e, a, kind) {
			newest[e.from()] = e
		}
	}
	var out []Evidence
	for _, e := range newest {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Evidence) int { return cmp.Compare(a.from(), b.from()) })
	return out
}

// newest passes when the newest pieces of each stage and name that are not too old
// all say nothing against it, and those that the check names are there.
func (s search) newest(a lockkeeper.Artifact, against func(Evidence) string) lockkeeper.Decision {
	d, _ := s.sum(a, evidence.Kind(s.want.Kind), s.want.Names, against)
	return d
}

// sum is newest, with the pieces that it rests on.
func (s search) sum(a lockkeeper.Artifact, kind evidence.Kind, names []string, against func(Evidence) string) (lockkeeper.Decision, []Evidence) {
	pieces := s.latest(a, kind)
	var because []lockkeeper.Decision
	var good []Evidence
	old := map[string]lockkeeper.Decision{} // by name, what is too old
	for _, e := range pieces {
		ends, fresh := s.fresh(e)
		one := lockkeeper.Decision{Subject: "evidence " + e.ID, Verdict: lockkeeper.Pass, Code: "evidence_good", Sentence: fmt.Sprintf("%s says what is demanded.", e)}
		if why := against(e); why != "" { // what was bad stays bad until its bringer says otherwise
			one.Verdict, one.Code, one.Sentence = lockkeeper.Fail, string(kind)+"_bad", fmt.Sprintf("%s: %s", e, why)
			one.Next = "Mend it, build anew, and bring the new evidence; or, if it is wrong, bring it anew for this artifact."
			because = append(because, one)
			continue
		}
		if e.Held != "" {
			old[e.Name] = s.held(a, e)
			continue
		}
		if !fresh {
			old[e.Name] = s.decide(a, lockkeeper.Wait, "evidence_stale", fmt.Sprintf("%s is of %s, and counts for %s.", e, e.made(), s.want.Age),
				fmt.Sprintf("Bring it anew: lockkeeper evidence add %s:%s=FILE --artifact %s=%s", kind, e.Name, a.Name, a.Digest))
			continue
		}
		if !s.ageless {
			one.Until = &ends
		}
		good, because = append(good, e), append(because, one)
	}
	for _, n := range names {
		stale, tooOld := old[n]
		switch {
		case slices.ContainsFunc(good, func(e Evidence) bool { return e.Name == n }):
		case tooOld:
			because = append(because, stale)
		case !slices.ContainsFunc(pieces, func(e Evidence) bool { return e.Name == n }):
			because = append(because, s.missing(a, string(kind), n))
		}
	}
	if len(because) == 0 && len(old) > 0 {
		return old[slices.Min(slices.Collect(maps.Keys(old)))], nil
	}
	if len(because) == 0 {
		return s.missing(a, string(kind), ""), nil
	}
	return lockkeeper.All("artifact "+a.Name, fmt.Sprintf("The %s of %s are as the check demands.", kind, a.Name), because...), good
}

// any passes when one piece, whichever, says what is demanded. relevant pieces that
// do not are named.
func (s search) any(a lockkeeper.Artifact, kind evidence.Kind, against func(Evidence) (why string, relevant bool)) lockkeeper.Decision {
	var best *lockkeeper.Decision
	for i := len(s.f.Evidence) - 1; i >= 0; i-- { // newest first
		e := s.f.Evidence[i]
		if !s.counts(e, a, kind) {
			continue
		}
		why, relevant := against(e)
		if !relevant {
			continue
		}
		ends, fresh := s.fresh(e)
		var d lockkeeper.Decision
		switch {
		case why != "":
			d = s.decide(a, lockkeeper.Fail, s.code()+"_bad", fmt.Sprintf("%s: %s", e, why), "Build it as the check demands, and bring the new statement.")
		case e.Held != "":
			d = s.held(a, e)
		case !fresh:
			d = s.decide(a, lockkeeper.Wait, "evidence_stale", fmt.Sprintf("%s is of %s, and counts for %s.", e, e.made(), s.want.Age), "Bring a new one.")
		default:
			d = s.decide(a, lockkeeper.Pass, "evidence_good", fmt.Sprintf("%s says what is demanded.", e), "")
			d.Because = []lockkeeper.Decision{{Subject: "evidence " + e.ID, Verdict: lockkeeper.Pass, Code: d.Code, Sentence: d.Sentence}}
			if !s.ageless {
				d.Until = &ends
			}
			return d
		}
		if best == nil {
			best = &d
		}
	}
	if best != nil {
		return *best
	}
	return s.missing(a, string(kind), "")
}

func (s search) code() string {
	switch {
	case s.c.Provenance != nil:
		return "provenance"
	case s.c.Plan != nil:
		return "plan"
	}
	return "attestation"
}

func (f Facts) isProduction() bool {
	return f.Production || f.Environment.Tier == catalog.Production
}

// olderThan reports whether an instant is longer ago than an age, at the moment at
// which ages count.
func (s search) olderThan(m lockkeeper.Moment, age time.Duration) bool {
	return !s.f.asOf(s.now).Before(m.Add(age))
}
