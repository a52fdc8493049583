package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// Bounds of evidence.
const (
	maxEvidence       = 20_000   // pieces of one project
	maxEvidenceWeight = 64 << 20 // bytes of the summaries of one project
	maxPieceWeight    = 1 << 20  // bytes of one summary
	maxPieces         = 32       // of one ask
	readingAtOnce     = 2        // documents
	defaultEvidence   = "main"   // the name of a piece that nobody named
)

// For the edges, which know no gate.
type (
	EvidenceKind    = evidence.Kind
	BroughtEvidence = gate.Evidence
)

// A Piece is a document that a stage brings.
type Piece struct {
	Kind    evidence.Kind
	Name    string // which of several of its kind; "": main
	Content []byte
}

// AddEvidence is what a stage brings about artifacts.
type AddEvidence struct {
	Artifacts []lockkeeper.Artifact
	Record    bool // the stage vouches for the artifacts, too
	Pieces    []Piece
	// Environment is what plans are for, of the job's project; other pieces are for any.
	Environment string
}

// AddEvidence reads documents and records what they say about artifacts, all of them
// or none. It is read beside the writer, two asks at a time.
func (k *Keeper) AddEvidence(ctx context.Context, job lockkeeper.Workload, key string, in AddEvidence) (EvidenceAdded, error) {
	if len(in.Pieces) == 0 || len(in.Pieces) > maxPieces {
		return EvidenceAdded{}, lockkeeper.Invalid.Errorf("evidence_count", "%d documents were brought; 1 to %d are taken at once.", len(in.Pieces), maxPieces)
	}
	cmd := addEvidence{Job: job, Artifacts: in.Artifacts, Record: in.Record, Environment: in.Environment}
	for _, p := range in.Pieces {
		cmd.Pieces = append(cmd.Pieces, readPiece{Summary: evidence.Summary{Kind: p.Kind}})
	}
	if !k.welcome(cmd) { // anybody in the world has tokens of a public platform: nothing of his is read
		return do[EvidenceAdded](ctx, k, Caller{Workload: &job}, "", cmd)
	}
	select {
	case k.readings <- struct{}{}:
		defer func() { <-k.readings }()
	case <-ctx.Done():
		return EvidenceAdded{}, ctx.Err()
	}
	k.mu.RLock()
	rules := k.rules.Catalog
	signers := signersOf(rules, k.options.Roots)
	k.mu.RUnlock()
	for i, p := range in.Pieces {
		s, err := evidence.Read(p.Kind, p.Content, signers)
		if r := lockkeeper.RefusalOf(err); r != nil { // of which of them
			return EvidenceAdded{}, r.WithField(fmt.Sprintf("%s:%s: %s", p.Kind, cmp.Or(p.Name, defaultEvidence), r.Field))
		}
		if err != nil {
			return EvidenceAdded{}, err
		}
		if a := s.Attestation; a != nil {
			for i := range a.Signers { // under the name that the catalog has for what was believed
				a.Signers[i].Key = rules.Signers[a.Signers[i].Signer].Trust()
			}
		}
		if p.Name == "" {
			p.Name = defaultEvidence
		}
		cmd.Pieces[i] = readPiece{ID: newID("ev"), Name: p.Name, Summary: s, Content: lockkeeper.DigestOf(p.Content), Size: len(p.Content)}
	}
	out, err := do[EvidenceAdded](ctx, k, Caller{Workload: &job}, key, cmd)
	for i := range out.Evidence { // the same key came with the same documents
		out.Evidence[i].Summary = cmd.Pieces[i].Summary
	}
	return out, err
}

// welcome reports whether the job is of a stage that may bring what it brings.
func (k *Keeper) welcome(c addEvidence) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	pipeline, stage, err := w.stageOf(c.Job)
	return err == nil && w.bring(c.Pieces, pipeline.Project, pipeline.Name, stage.Name) == nil
}

// bring refuses pieces that a stage may not bring.
func (w *world) bring(pieces []readPiece, project, pipeline, stage string) error {
	for _, p := range pieces {
		if kind := p.Summary.Kind; !w.rules.Catalog.Brings(project, pipeline, stage, string(kind)) {
			return lockkeeper.Forbidden.Errorf("evidence_not_admitted", "The stage %s/%s may not bring %.63s.", pipeline, stage, kind).
				WithNext("Bring it from a stage that may, or add evidence: [%.63s] to this stage of the pipeline in the catalog.", kind)
		}
	}
	return nil
}

// signersOf are the signers of a catalog that can be verified here: those with a key,
// and the keyless ones whose trusted root the server has.
func signersOf(c *catalog.Catalog, roots map[lockkeeper.Digest][]byte) []evidence.Signer {
	var out []evidence.Signer
	for _, name := range slices.Sorted(maps.Keys(c.Signers)) {
		s := evidence.Signer{Name: name, Key: c.Signers[name].Key}
		if k := c.Signers[name].Keyless; k != nil {
			s.Issuer, s.Subject, s.Root = k.Issuer, k.Subject, roots[lockkeeper.Digest(k.Root)]
			if s.Root == nil {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// A readPiece is a document that was read.
type readPiece struct {
	ID      string            `json:"-"`
	Name    string            `json:"name"`
	Summary evidence.Summary  `json:"summary"`
	Content lockkeeper.Digest `json:"content"` // "": it was not read, only its kind is known
	Size    int               `json:"size"`
}

// addEvidence lets a stage bring what documents say about artifacts.
type addEvidence struct {
	Job       lockkeeper.Workload   `json:"-"`
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
	Record    bool                  `json:"record,omitempty"`
	Pieces    []readPiece           `json:"pieces"`

	Environment string `json:"environment,omitempty"`
}

func (c addEvidence) name() string  { return "evidence.add" }
func (c addEvidence) about() string { return "artifacts" }

// EvidenceAdded is the answer to AddEvidence. What the documents say is not in the answer
// that is kept for a retry.
type EvidenceAdded struct {
	Project  string          `json:"project"`
	Pipeline string          `json:"pipeline"`
	Stage    string          `json:"stage"`
	Evidence []gate.Evidence `json:"evidence"`
}

func (c addEvidence) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	records, answer, err := recordArtifacts{Job: c.Job, Artifacts: c.Artifacts}.decide(w, by, now)
	if err != nil {
		return nil, nil, err
	}
	from := answer.(recorded)
	out := EvidenceAdded{Project: from.Project, Pipeline: from.Pipeline, Stage: from.Stage}
	var events []event
	if c.Record {
		events = records
	}
	said := records[0].(*artifactRecorded)
	if err := w.bring(c.Pieces, from.Project, from.Pipeline, from.Stage); err != nil {
		return nil, nil, err
	}
	for _, p := range c.Pieces {
		if p.Content == "" {
			return nil, nil, lockkeeper.Conflict.Errorf("catalog_moved", "The catalog changed while the evidence was looked at.").WithNext("Bring it again.")
		}
		artifacts, err := p.fits(from.Artifacts, now)
		if err != nil {
			return nil, nil, err
		}
		environment, err := c.planFor(w, said.Project, p)
		if err != nil {
			return nil, nil, err
		}
		weight, err := marshal([]any{p.Summary, artifacts})
		if err != nil {
			return nil, nil, err
		}
		if len(weight) > maxPieceWeight {
			return nil, nil, lockkeeper.Invalid.Errorf("evidence_too_large", "What is kept of the %s %q has %d bytes, more than %d.", p.Summary.Kind, p.Name, len(weight), maxPieceWeight).
				WithNext("Bring it in parts, or let the tool leave out what does not matter.").WithField(p.Name)
		}
		events = append(events, &evidenceAdded{ID: p.ID, Project: said.Project, Pipeline: said.Pipeline, Stage: said.Stage, Repository: said.Repository, Commit: said.Commit,
			Run: said.Run, Artifacts: artifacts, Name: p.Name, Summary: p.Summary, Content: p.Content, Size: p.Size, Weight: len(weight),
			Token: said.Token, TokenExpires: said.TokenExpires, Job: said.Job, Initiator: said.Initiator, Others: said.Others, Revision: said.Revision, Environment: environment})
		added := events[len(events)-1].(*evidenceAdded).piece(now)
		added.Summary = evidence.Summary{}
		out.Evidence = append(out.Evidence, added)
	}
	return events, out, nil
}

// fits gives the artifacts that a piece is about: all that its bringer names, or of
// those the ones that its document names.
func (p readPiece) fits(artifacts []lockkeeper.Artifact, now lockkeeper.Moment) ([]lockkeeper.Artifact, error) {
	if err := lockkeeper.CheckName(p.Name); err != nil {
		return nil, lockkeeper.Invalid.Errorf("name_unfit", "The name of a piece of evidence is unfit: %v.", err).WithNext("Choose one such as unit.").WithField(p.Name)
	}
	if last := newest(p.Summary); now.Add(clockSlack).Before(last) {
		return nil, lockkeeper.Invalid.Errorf("evidence_from_future", "The %s %q says that it, or something in it, is of %s, and now is %s.", p.Summary.Kind, p.Name, last, now).
			WithNext("Set the clock of the machine that makes it.").WithField(p.Name)
	}
	if len(p.Summary.Subjects) == 0 {
		return artifacts, nil
	}
	var out []lockkeeper.Artifact
	for _, a := range artifacts {
		if slices.Contains(p.Summary.Subjects, a.Digest) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, lockkeeper.Invalid.Errorf("evidence_about_another", "The %s %q is about %s, and none of the artifacts is that.", p.Summary.Kind, p.Name, p.Summary.Subjects[0]).
			WithNext("Name the artifact that the document is about, by its digest.").WithField(p.Name)
	}
	return out, nil
}

// newest is the newest instant that a document names. One that lies ahead would never
// grow old, and no statement of VEX would ever be later.
func newest(s evidence.Summary) lockkeeper.Moment {
	all := []lockkeeper.Moment{s.Made}
	for _, said := range s.Statements {
		all = append(all, said.At)
	}
	if r := s.Vulnerabilities; r != nil {
		all = append(all, r.Database)
		for _, f := range r.Findings {
			all = append(all, f.Published, f.At)
		}
	}
	return slices.MaxFunc(all, func(a, b lockkeeper.Moment) int { return a.Time().Compare(b.Time()) })
}

// evidenceAdded says what a document says about artifacts, and who brought it.
type evidenceAdded struct {
	one
	ID           string                `json:"id"`
	Project      string                `json:"project"`
	Pipeline     string                `json:"pipeline"`
	Stage        string                `json:"stage"`
	Repository   string                `json:"repository"`
	Commit       string                `json:"commit"`
	Run          string                `json:"run"`
	Artifacts    []lockkeeper.Artifact `json:"artifacts"`
	Name         string                `json:"name"`
	Summary      evidence.Summary      `json:"summary"`
	Content      lockkeeper.Digest     `json:"content"` // of the document
	Size         int                   `json:"size"`    // its bytes
	Weight       int                   `json:"weight"`  // bytes of the summary
	Token        lockkeeper.Digest     `json:"token"`
	TokenExpires lockkeeper.Moment     `json:"token_expires"`
	Job          lockkeeper.Digest     `json:"job"`
	Initiator    Origin                `json:"initiator,omitzero"`
	Others       []Origin              `json:"others,omitempty"`
	Revision     int                   `json:"revision"`

	Environment string `json:"environment,omitempty"` // that a plan is for
}

func (*evidenceAdded) kind() string { return "evidence.added" }
func (ev *evidenceAdded) subjects() []string {
	out := []string{"project/" + ev.Project, "evidence/" + ev.ID}
	for _, a := range ev.Artifacts {
		out = append(out, "artifact/"+string(a.Digest))
	}
	return out
}

func (ev *evidenceAdded) piece(at lockkeeper.Moment) gate.Evidence {
	return gate.Evidence{ID: ev.ID, Name: ev.Name, Artifacts: ev.Artifacts, Summary: ev.Summary, Content: ev.Content, Pipeline: ev.Pipeline, Stage: ev.Stage,
		Repository: ev.Repository, Commit: ev.Commit, Run: ev.Run, At: at, Environment: ev.Environment}
}

func (ev *evidenceAdded) apply(s *State, e Entry) error {
	s.addEvidence(ev.Project, Kept{Evidence: ev.piece(e.Time), Weight: ev.Weight, Behind: append([]Origin{ev.Initiator}, ev.Others...)})
	s.bindToken(ev.Token, TokenUse{For: "artifacts", Job: ev.Job, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return nil
}

// Kept is a piece of evidence in the state, with what it weighs there.
type Kept struct {
	gate.Evidence
	Weight int      `json:"weight"`
	Behind []Origin `json:"behind,omitempty"` // the run that brought it
}

// stage is whose share of the bounds a piece takes, and how much of it.
func (k *Kept) stage() (name string, share int) {
	return k.Pipeline + "/" + k.Stage, k.Weight + maxEvidenceWeight/maxEvidence
}

// An evidenceIndex finds the evidence about a digest.
type evidenceIndex struct {
	weight   int
	shares   map[string]int                // of the bounds, by stage
	byDigest map[lockkeeper.Digest][]*Kept // oldest first
}

// heaviest is the stage that takes most of the bounds.
func (x *evidenceIndex) heaviest() string {
	return slices.MaxFunc(slices.Sorted(maps.Keys(x.shares)), func(a, b string) int { return cmp.Compare(x.shares[a], x.shares[b]) })
}

// without is a list without one piece; readers may hold the old one.
func without(list []*Kept, piece *Kept) []*Kept {
	if list[0] == piece {
		return list[1:]
	}
	i := slices.Index(list, piece)
	return slices.Concat(list[:i], list[i+1:])
}

// addEvidence adds a piece to those of a project. Past the bounds the oldest of the
// stage that takes most of them goes: no stage makes the gate forget what others said.
func (s *State) addEvidence(project string, piece Kept) {
	x := s.evidence[project]
	if x == nil {
		x = &evidenceIndex{shares: map[string]int{}, byDigest: map[lockkeeper.Digest][]*Kept{}}
		s.evidence[project] = x
	}
	kept := &piece
	list := append(s.Evidence[project], kept)
	x.weight += kept.Weight
	stage, share := kept.stage()
	x.shares[stage] += share
	for _, d := range digestsOf(kept.Artifacts) {
		x.byDigest[d] = append(x.byDigest[d], kept)
	}
	for len(list) > maxEvidence || x.weight > maxEvidenceWeight {
		heaviest := x.heaviest()
		oldest := list[slices.IndexFunc(list, func(k *Kept) bool { name, _ := k.stage(); return name == heaviest })]
		_, share := oldest.stage()
		list, x.weight = without(list, oldest), x.weight-oldest.Weight
		if x.shares[heaviest] -= share; x.shares[heaviest] == 0 {
			delete(x.shares, heaviest)
		}
		for _, d := range digestsOf(oldest.Artifacts) {
			if x.byDigest[d] = without(x.byDigest[d], oldest); len(x.byDigest[d]) == 0 {
				delete(x.byDigest, d)
			}
		}
	}
	s.Evidence[project] = list
}

// digestsOf lists each digest of the artifacts once.
func digestsOf(artifacts []lockkeeper.Artifact) []lockkeeper.Digest {
	var out []lockkeeper.Digest
	for _, a := range artifacts {
		if !slices.Contains(out, a.Digest) {
			out = append(out, a.Digest)
		}
	}
	return out
}

// indexEvidence makes the index of a state that was read.
func (s *State) indexEvidence() {
	for project, list := range s.Evidence {
		s.Evidence[project] = nil
		for _, piece := range list {
			s.addEvidence(project, *piece)
		}
	}
}

// evidenceOf lists the evidence about an ask's digests in its project, oldest first.
func (s *State) evidenceOf(ask lockkeeper.Ask) []Kept {
	x := s.evidence[ask.Project]
	if x == nil {
		return nil
	}
	var found []*Kept
	for _, d := range digestsOf(ask.Artifacts) {
		for _, k := range x.byDigest[d] {
			if !slices.Contains(found, k) {
				found = append(found, k)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b *Kept) int { return a.At.Time().Compare(b.At.Time()) })
	var out []Kept
	for _, k := range found {
		out = append(out, *k)
	}
	return out
}

// weigh fills in what a gate needs to judge evidence: for the environment's checks, and
// for those of when the ask was opened.
func (w *world) weigh(f *gate.Facts, terms []catalog.Check) {
	project := f.Ask.Project
	for _, e := range w.evidenceOf(f.Ask) {
		if f.Released.IsZero() || !f.Released.Before(e.At) {
			e.Held = w.holdsBack(project, e)
			f.Evidence = append(f.Evidence, e.Evidence)
		}
	}
	f.Brings = func(pipeline, stage, kind string) bool { return w.rules.Catalog.Brings(project, pipeline, stage, kind) }
	f.Says = w.rules.Catalog.PredicateHolds
	f.Signers = map[string]gate.Signer{}
	for _, c := range slices.Concat(f.Environment.Checks, terms) {
		if c.Policy != nil { // a policy may ask for any of them
			for name, s := range w.rules.Catalog.Signers {
				f.Signers[name] = gate.Signer{Signer: s, Identity: s.Trust()}
			}
		}
		for _, name := range signersAsked(c) {
			if s, known := w.rules.Catalog.Signers[name]; known {
				f.Signers[name] = gate.Signer{Signer: s, Identity: s.Trust()}
			}
		}
	}
}

// bringers are the persons behind the run that brought a piece.
func (w *world) bringers(k Kept) []lockkeeper.Person {
	var out []lockkeeper.Person
	for _, o := range k.Behind {
		out = append(out, w.personsOf(o.Provider, o.Account, o.Persons)...)
	}
	return out
}

// holdsBack says by which incident the pipeline, the platform or somebody behind the run
// that brought a piece is stopped; "": by none.
func (w *world) holdsBack(project string, k Kept) string {
	if len(w.Incidents) == 0 {
		return ""
	}
	at := place{project: project, pipeline: k.Pipeline, persons: w.bringers(k)}
	for _, o := range k.Behind {
		at.provider = o.Provider
	}
	for _, d := range w.locks(at) {
		return d.Sentence
	}
	return ""
}

func signersAsked(c catalog.Check) []string {
	switch {
	case c.Provenance != nil:
		return c.Provenance.Signers
	case c.Attestation != nil:
		return c.Attestation.Signers
	}
	return nil
}

// EvidenceFilter chooses pieces of evidence.
type EvidenceFilter struct {
	Project string
	Digest  lockkeeper.Digest // of an artifact; "": of any
	Kind    evidence.Kind     // "": any
	Limit   int               // at most; default and most 200
}

// Evidence lists what is kept of a project's evidence, newest first.
func (k *Keeper) Evidence(ctx context.Context, by Caller, f EvidenceFilter) ([]gate.Evidence, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if _, err := w.may(by, lockkeeper.ReadDeployments, lockkeeper.ProjectScope(f.Project), now); err != nil {
		return nil, err
	}
	if _, known := w.rules.Catalog.Projects[f.Project]; !known {
		return nil, lockkeeper.NotFound.Errorf("project_unknown", "There is no project %.63q.", f.Project).WithNext("Name a project of the catalog.")
	}
	if f.Limit <= 0 || f.Limit > 200 {
		f.Limit = 200
	}
	list := w.State.Evidence[f.Project]
	if x := w.evidence[f.Project]; f.Digest != "" && x != nil {
		list = x.byDigest[f.Digest]
	}
	var out []gate.Evidence
	for i := len(list) - 1; i >= 0 && len(out) < f.Limit; i-- {
		if e := list[i].Evidence; f.Kind == "" || e.Summary.Kind == f.Kind {
			out = append(out, e)
		}
	}
	return out, nil
}
