package lockkeeper

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strings"
)

// A Digest is the SHA-256 of some bytes, written sha256: and 64 lower-case
// hexadecimal digits.
type Digest string

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// ParseDigest reads sha256: and 64 lower-case hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	h, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		return "", fmt.Errorf("the digest %.80q must begin with \"sha256:\"", s)
	}
	if len(h) != 64 || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("the digest %.80q must have 64 lower-case hexadecimal digits behind its algorithm", s)
	}
	return Digest(s), nil
}

// Hex is the digest without its algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// An Artifact is one thing to deploy, by content.
type Artifact struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// ParseArtifact reads NAME=sha256:HEX.
func ParseArtifact(s string) (Artifact, error) {
	name, digest, ok := strings.Cut(s, "=")
	if !ok {
		return Artifact{}, fmt.Errorf("the artifact %.80q must be NAME=sha256:HEX", s)
	}
	if err := CheckName(name); err != nil {
		return Artifact{}, fmt.Errorf("the artifact %.80q: %w", s, err)
	}
	d, err := ParseDigest(digest)
	return Artifact{name, d}, err
}

// A Definition is the pipeline's own source, as the CI platform vouches for it.
type Definition struct {
	Path   string `json:"path,omitempty"`   // .github/workflows/release.yml
	Ref    string `json:"ref,omitempty"`    // refs/heads/main
	Commit string `json:"commit,omitempty"` // the commit it was read at
}

// An Ask is the whole of what a pipeline stage asks for: put these artifact
// digests of this commit into this environment. Approvals, leases and tokens
// hang on its digest; every field takes part in it, so a different ask is a
// different digest.
type Ask struct {
	Action      string            `json:"action"` // deploy, rollback or redeploy
	Project     string            `json:"project"`
	Environment string            `json:"environment"`
	Pipeline    string            `json:"pipeline"`
	Stage       string            `json:"stage"`
	Provider    string            `json:"provider"`   // the CI platform's name in the catalog
	Repository  string            `json:"repository"` // its immutable id on the platform
	Run         string            `json:"run"`
	Attempt     int               `json:"attempt"`
	Ref         string            `json:"ref"`
	Commit      string            `json:"commit"`
	Definition  Definition        `json:"definition"`
	Event       string            `json:"event,omitempty"`     // that started the run, if the platform says
	Protected   string            `json:"protected,omitempty"` // whether the platform protects the ref: yes, no, "" if it does not say
	Template    Definition        `json:"template,omitzero"`   // the reusable definition that the job runs in, if any
	Artifacts   []Artifact        `json:"artifacts"`           // sorted by name, names distinct
	Parameters  map[string]string `json:"parameters,omitempty"`
	// Detached says that the job which asks will not be the one that runs: another
	// job of the same stage, run and attempt comes back with the ask's handle.
	Detached bool `json:"detached,omitempty"`
	// Plans are what the job will carry out, sorted by kind; an ask without any has the
	// digest that it had before there were plans.
	Plans []Plan `json:"plans,omitempty"`
}

// The actions of an ask.
const (
	DeployAction   = "deploy"
	RollbackAction = "rollback" // back to artifacts that were deployed here with success before
	RedeployAction = "redeploy" // once more what was deployed here with success last
)

// Whether the CI platform protects the ref of an ask.
const (
	RefIsProtected  = "yes"
	RefNotProtected = "no"
)

// Bounds of an ask.
const (
	MaxArtifacts      = 64
	MaxParameters     = 32
	MaxParameterBytes = 1024
)

// NewArtifacts sorts list by name and refuses none at all, too many, and a name
// that stands twice.
func NewArtifacts(list []Artifact) ([]Artifact, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no artifact is named; a deployment is of at least one digest")
	}
	if len(list) > MaxArtifacts {
		return nil, fmt.Errorf("%d artifacts are more than %d", len(list), MaxArtifacts)
	}
	sorted := append([]Artifact(nil), list...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	for i, a := range sorted {
		if err := CheckName(a.Name); err != nil {
			return nil, err
		}
		if _, err := ParseDigest(string(a.Digest)); err != nil {
			return nil, err
		}
		if i > 0 && sorted[i-1].Name == a.Name {
			return nil, fmt.Errorf("the artifact %q is named twice", a.Name)
		}
	}
	return sorted, nil
}

// CheckParameters refuses too many parameters, an unfit name and a value that
// is too long.
func CheckParameters(p map[string]string) error {
	if len(p) > MaxParameters {
		return fmt.Errorf("%d parameters are more than %d", len(p), MaxParameters)
	}
	for k, v := range p {
		if err := CheckName(k); err != nil {
			return fmt.Errorf("parameter: %w", err)
		}
		if len(v) > MaxParameterBytes {
			return fmt.Errorf("the parameter %q has %d bytes, more than %d", k, len(v), MaxParameterBytes)
		}
	}
	return nil
}

// askDomain keeps a digest of an ask from ever being a digest of anything else.
const askDomain = "lockkeeper.ask.v1\n"

// Digest binds the whole ask: SHA-256 over the domain line and the canonical
// JSON (RFC 8785) of every field. It fails only for a string that is not UTF-8.
func (a Ask) Digest() (Digest, error) {
	b, err := Canonical(a)
	if err != nil {
		return "", err
	}
	return DigestOf(append([]byte(askDomain), b...)), nil
}

// subjectDomain keeps a digest of a subject from ever being a digest of anything else.
const subjectDomain = "lockkeeper.subject.v1\n"

// Subject binds what the ask asks for, whichever job or stage of its run and attempt
// asks: every field but the stage, and whether another job will claim it. Nothing is
// approved by it alone: it says which asks are about one thing.
func (a Ask) Subject() (Digest, error) {
	a.Stage, a.Detached = "", false
	b, err := Canonical(a)
	if err != nil {
		return "", err
	}
	return DigestOf(append([]byte(subjectDomain), b...)), nil
}

// HandleDigest is the digest under which a deployment's handle is known: the
// secret that a job makes for itself, and whose digest alone it sends with its
// ask.
func HandleDigest(handle string) Digest { return digestFields("lockkeeper.handle.v1", handle) }
