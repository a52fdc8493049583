package api

import "github.com/lockkeeper/lockkeeper"

// AddEvidence is what a pipeline stage brings about artifacts.
type AddEvidence struct {
	Artifacts []lockkeeper.Artifact `json:"artifacts" maxItems:"64"`
	Record    bool                  `json:"record,omitempty" doc:"the stage vouches for the artifacts, too, as with /artifacts"`
	Evidence  []Document            `json:"evidence" minItems:"1" maxItems:"32" doc:"all of them are taken, or none"`

	Environment string `json:"environment,omitempty" maxLength:"63" doc:"that plans are for; needed for them"`
}

// A Document is one piece of evidence as a tool wrote it.
type Document struct {
	Kind    string `json:"kind" enum:"tests,coverage,scan,sbom,vulnerabilities,vex,attestation,plan"`
	Name    string `json:"name,omitempty" maxLength:"63" doc:"which of several of its kind, such as unit; default: main"`
	Content []byte `json:"content" doc:"the document itself, as base64; at most 16 MiB"`
}

// BroughtEvidence is what a document says about artifacts, and who brought it.
type BroughtEvidence struct {
	ID        string                `json:"id"`
	Kind      string                `json:"kind"`
	Name      string                `json:"name"`
	Line      string                `json:"line" doc:"what it says, in one line"`
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
	Content   lockkeeper.Digest     `json:"content" doc:"of the document"`
	Pipeline  string                `json:"pipeline"`
	Stage     string                `json:"stage"`
	Commit    string                `json:"commit"`
	Run       string                `json:"run"`
	At        lockkeeper.Moment     `json:"at" doc:"when it was brought"`
	Summary   any                   `json:"summary" doc:"what the document says: counts, findings, statements"`
}

// EvidenceAdded is what was recorded, and for which stage.
type EvidenceAdded struct {
	Project  string            `json:"project"`
	Pipeline string            `json:"pipeline"`
	Stage    string            `json:"stage"`
	Evidence []BroughtEvidence `json:"evidence"`
}

// EvidenceList is evidence, newest first.
type EvidenceList struct {
	Evidence []BroughtEvidence `json:"evidence"`
}
