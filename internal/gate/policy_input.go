package gate

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// What a policy sees is a contract (docs/policies.md): fields may come, and none goes or
// changes what it means. Each field is always there, with "" or 0 or an empty list for
// what nobody says, because to Rego what is absent is silent. Instants are RFC 3339 in UTC,
// "" for none.

// A PolicyView is what a policy sees of a gate, without what pieces of evidence say.
type PolicyView struct {
	seen  policySeen
	parts map[string]evidence.Summary // by id of a piece
	ends  *lockkeeper.Moment          // when the first fresh piece is fresh no more; nil: none is
}

type policySeen struct {
	Now         string            `json:"now"` // when it is evaluated
	Environment policyEnvironment `json:"environment"`
	Ask         policyAsk         `json:"ask"`
	Initiators  []policyInitiator `json:"initiators"` // who stands behind the run
	Artifacts   []policyArtifact  `json:"artifacts"`  // of the ask
	Releases    []policyRelease   `json:"releases"`   // what was deployed here with success, oldest first, at most 20
}

type policyEnvironment struct {
	Project    string `json:"project"`
	Name       string `json:"name"`
	Tier       string `json:"tier"`
	Production bool   `json:"production"` // it is one of production, or was when the ask was opened
}

type policyAsk struct {
	Digest     string            `json:"digest"`
	Action     string            `json:"action"` // deploy, rollback or redeploy
	Pipeline   string            `json:"pipeline"`
	Stage      string            `json:"stage"`
	Provider   string            `json:"provider"`
	Repository string            `json:"repository"` // its immutable id on the platform
	Run        string            `json:"run"`
	Attempt    int               `json:"attempt"`
	Ref        string            `json:"ref"`
	Commit     string            `json:"commit"`
	Event      string            `json:"event"`
	Protected  string            `json:"protected"` // the ref: yes, no, or "" if the platform does not say
	Detached   bool              `json:"detached"`
	Definition policyDefinition  `json:"definition"`
	Template   policyDefinition  `json:"template"`
	Parameters map[string]string `json:"parameters"`
	Plans      []policyPlan      `json:"plans"`
	Opened     string            `json:"opened"`
	Deadline   string            `json:"deadline"`
}

type policyDefinition struct {
	Path   string `json:"path"`
	Ref    string `json:"ref"`
	Commit string `json:"commit"`
}

type policyPlan struct {
	Kind   string `json:"kind"`
	Digest string `json:"digest"`
}

type policyInitiator struct {
	User       string `json:"user"`    // "": the catalog knows nobody by this account
	Account    string `json:"account"` // on the CI platform
	Automation bool   `json:"automation"`
}

type policyArtifact struct {
	Name     string           `json:"name"`
	Digest   string           `json:"digest"`
	Records  []policyRecord   `json:"records"`  // by whom it is vouched for, oldest first
	Evidence []policyEvidence `json:"evidence"` // that counts for it, oldest first
	Held     []policyEvidence `json:"held"`     // that would count, and whose bringer an incident stops
}

type policyRecord struct {
	Pipeline   string `json:"pipeline"`
	Stage      string `json:"stage"`
	Repository string `json:"repository"`
	Commit     string `json:"commit"`
	Run        string `json:"run"`
	At         string `json:"at"`
}

// policyEvidence is one piece. Beside these it has one member, named as its kind, with
// what the document says.
type policyEvidence struct {
	ID         string `json:"id"`
	Kind       string `json:"kind"`
	Name       string `json:"name"` // which of several of a kind
	Pipeline   string `json:"pipeline"`
	Stage      string `json:"stage"`
	Repository string `json:"repository"`
	Commit     string `json:"commit"`
	Run        string `json:"run"`
	Content    string `json:"content"` // digest of the document
	Format     string `json:"format"`
	Tool       string `json:"tool"`
	At         string `json:"at"`     // when it was brought
	Made       string `json:"made"`   // from when on it ages
	Fresh      bool   `json:"fresh"`  // it is not older than the check's age
	Newest     bool   `json:"newest"` // of those of its kind, stage and name
	// Signers are those who signed it and whom the catalog believes now; an attestation
	// without any does not count.
	Signers []policySigner `json:"signers"`

	Tests           *policyTests       `json:"tests,omitempty"`
	Coverage        *policyCoverage    `json:"coverage,omitempty"`
	Scan            *policyScan        `json:"scan,omitempty"`
	SBOM            *policySBOM        `json:"sbom,omitempty"`
	Vulnerabilities *policyReport      `json:"vulnerabilities,omitempty"`
	VEX             *policyStatements  `json:"vex,omitempty"`
	Attestation     *policyAttestation `json:"attestation,omitempty"`
	Plan            *policyPlanned     `json:"plan,omitempty"`
}

type policyRelease struct {
	Deployment string        `json:"deployment"`
	Commit     string        `json:"commit"`
	At         string        `json:"at"`
	Artifacts  []policyThing `json:"artifacts"`
	Waived     []string      `json:"waived"` // checks that an override waived for it
}

type policyThing struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// PolicyView is what the policy of a check sees of these facts at now.
func (f Facts) PolicyView(c catalog.Check, now lockkeeper.Moment) PolicyView {
	a, digest := f.Ask, ""
	if d, err := a.Digest(); err == nil {
		digest = string(d)
	}
	v := PolicyView{parts: map[string]evidence.Summary{}, seen: policySeen{
		Environment: policyEnvironment{f.Environment.Project, f.Environment.Name, string(f.Environment.Tier), f.isProduction()},
		Ask: policyAsk{Digest: digest, Action: a.Action, Pipeline: a.Pipeline, Stage: a.Stage, Provider: a.Provider, Repository: a.Repository, Run: a.Run, Attempt: a.Attempt, Ref: a.Ref, Commit: a.Commit,
			Event: a.Event, Protected: a.Protected, Detached: a.Detached, Definition: policyDefinition(a.Definition), Template: policyDefinition(a.Template), Parameters: map[string]string{}, Plans: []policyPlan{},
			Opened: instant(f.Opened), Deadline: instant(f.Deadline)},
		Initiators: []policyInitiator{}, Artifacts: []policyArtifact{}, Releases: []policyRelease{}}}
	maps.Copy(v.seen.Ask.Parameters, a.Parameters)
	for _, p := range a.Plans {
		v.seen.Ask.Plans = append(v.seen.Ask.Plans, policyPlan{p.Kind, string(p.Digest)})
	}
	for _, i := range f.Initiators {
		v.seen.Initiators = append(v.seen.Initiators, policyInitiator{i.User, i.Account, i.Automation})
	}
	for _, g := range f.Good {
		v.seen.Releases = append(v.seen.Releases, policyRelease{g.Deployment, g.Commit, instant(g.At), things(g.Artifacts), append([]string{}, g.Waived...)})
	}
	s := search{f: f, c: c, now: now, want: catalog.Demanded{Age: c.Policy.AgeLimit()}}
	for _, one := range a.Artifacts {
		v.seen.Artifacts = append(v.seen.Artifacts, v.artifact(s, one))
	}
	return v
}

func things(list []lockkeeper.Artifact) []policyThing {
	out := []policyThing{}
	for _, a := range list {
		out = append(out, policyThing{a.Name, string(a.Digest)})
	}
	return out
}

// artifact is what is known of one artifact. Evidence is what counts for it by the same
// rules as for the checks over evidence, of any kind and stage.
func (v *PolicyView) artifact(s search, a lockkeeper.Artifact) policyArtifact {
	out := policyArtifact{Name: a.Name, Digest: string(a.Digest), Records: []policyRecord{}, Evidence: []policyEvidence{}, Held: []policyEvidence{}}
	for _, r := range s.f.Records {
		if r.vouches(s.f.Ask, a) {
			out.Records = append(out.Records, policyRecord{r.Pipeline, r.Stage, r.Repository, r.Commit, r.Run, instant(r.At)})
		}
	}
	newest := map[string]int{}
	for _, e := range s.f.Evidence { // oldest first
		if !s.counts(e, a, e.Summary.Kind) {
			continue
		}
		signers := s.f.believed(e)
		if e.Summary.Attestation != nil && len(signers) == 0 {
			continue
		}
		ends, fresh := s.fresh(e)
		if fresh {
			v.ends = earlier(v.ends, &ends)
		}
		v.parts[e.ID] = e.Summary
		p := policyEvidence{ID: e.ID, Kind: string(e.Summary.Kind), Name: e.Name, Pipeline: e.Pipeline, Stage: e.Stage, Repository: e.Repository, Commit: e.Commit, Run: e.Run,
			Content: string(e.Content), Format: e.Summary.Format, Tool: e.Summary.Tool, At: instant(e.At), Made: instant(e.made()), Fresh: fresh, Signers: signers}
		if e.Held != "" {
			out.Held = append(out.Held, p)
			continue
		}
		from := p.Kind + " " + e.from()
		if i, was := newest[from]; was {
			out.Evidence[i].Newest = false
		}
		newest[from], p.Newest = len(out.Evidence), true
		out.Evidence = append(out.Evidence, p)
	}
	return out
}

// believed are the signers of a piece that the catalog believes now, under the same trust.
func (f Facts) believed(e Evidence) []policySigner {
	out := []policySigner{}
	if e.Summary.Attestation == nil {
		return out
	}
	for _, by := range e.Summary.Attestation.Signers {
		if now, known := f.Signers[by.Signer]; known && by.Key == now.Identity {
			out = append(out, policySigner{by.Signer, string(by.Key), instant(by.At)})
		}
	}
	return out
}

// instant is RFC 3339, or "" for none.
func instant(m lockkeeper.Moment) string {
	if m.IsZero() {
		return ""
	}
	return m.Time().UTC().Format(time.RFC3339Nano)
}

// Key is equal for views of which policies see the same, whenever they look: the pieces
// of evidence stand in it by their ids, and what a piece says never changes.
func (v PolicyView) Key() (lockkeeper.Digest, error) {
	b, err := json.Marshal(v.seen)
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(append([]byte("lockkeeper.policy.v1\n"), b...)), nil
}

// Input is what the policy sees, as JSON. It is the same for the same view and instant.
func (v PolicyView) Input(now lockkeeper.Moment) ([]byte, error) {
	seen := v.seen
	seen.Now = instant(now)
	seen.Artifacts = slices.Clone(seen.Artifacts)
	for i := range seen.Artifacts {
		a := &seen.Artifacts[i]
		a.Evidence, a.Held = v.whole(a.Evidence), v.whole(a.Held)
	}
	b, err := json.Marshal(seen)
	if err == nil && len(b) > MaxPolicyInput {
		err = lockkeeper.Invalid.Errorf("policy_input_large", "What a policy would see has %d bytes, more than %d.", len(b), MaxPolicyInput)
	}
	return b, err
}

func (v PolicyView) whole(list []policyEvidence) []policyEvidence {
	out := slices.Clone(list)
	for i := range out {
		out[i].fill(v.parts[out[i].ID])
	}
	return out
}

// PolicySchema is the JSON Schema of what a policy sees. A policy that refers to
// anything else does not compile.
func PolicySchema() map[string]any {
	s := schemaOf(reflect.TypeFor[policySeen]())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	return s
}

func schemaOf(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for i := range t.NumField() {
			name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			properties[name] = schemaOf(t.Field(i).Type)
			if options == "" {
				required = append(required, name)
			}
		}
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		if t == reflect.TypeFor[json.RawMessage]() {
			return map[string]any{} // whatever the predicate is
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	panic(fmt.Sprintf("what a policy sees has a %s", t))
}
