package catalog

import "time"

// A Signer is somebody whose signature on an attestation is believed: by a public
// key, or without one, by what a Sigstore certificate authority certified.
type Signer struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
	// Key is a public key as PEM (PUBLIC KEY): Ed25519, ECDSA P-256 or P-384, RSA of 2048
	// bits or more. Exactly one of key and keyless is there.
	Key     string   `json:"key,omitempty"`
	Keyless *Keyless `json:"keyless,omitempty"`
	// Builders are the builders whose SLSA provenance the signer may sign, and the
	// build level that each is trusted for. None: it signs no provenance.
	Builders []Builder `json:"builders,omitempty"`
}

// A Keyless signer is known by the certificate that a Sigstore authority gave it.
type Keyless struct {
	Issuer  string `json:"issuer"`  // of the identity token behind the certificate, exact
	Subject string `json:"subject"` // subject alternative name of the certificate, exact
	// Root is the digest of the trusted root (the JSON file) under which it is
	// verified; the server is started with the file itself.
	Root string `json:"root"`
}

// A Builder is a build platform that a signer speaks for.
type Builder struct {
	ID    string `json:"id"`    // builder.id of the provenance, exact
	Level int    `json:"level"` // SLSA build level, 1 to 3
}

// Tests demands results of tests of the very commit that is deployed. The newest
// results of each stage and name count, and none of them may have a failure.
type Tests struct {
	Names    []string `json:"names,omitempty"`    // results that must all be there, by the name that they were brought under; default: any
	Least    int      `json:"least,omitempty"`    // cases that passed, in all; default 1
	Skipped  *int     `json:"skipped,omitempty"`  // percent of the cases at most that may have been skipped; default: any
	Coverage int      `json:"coverage,omitempty"` // percent of the lines at least that ran, by the newest coverage of each stage and name; 0: not asked
	From     []string `json:"from,omitempty"`     // PIPELINE/STAGE that bring it; default: each stage of the project that may
	Age      Duration `json:"age,omitempty"`      // how old it may be at the release; default 720h, 1m to 8760h
}

// Scan demands a static analysis of the very commit that is deployed.
type Scan struct {
	Names    []string `json:"names,omitempty"`    // as for tests
	Errors   int      `json:"errors,omitempty"`   // results of level error at most; default 0
	Warnings *int     `json:"warnings,omitempty"` // of level warning at most; default: any number
	From     []string `json:"from,omitempty"`
	Age      Duration `json:"age,omitempty"` // default 720h, 1m to 8760h
}

// BillOfMaterials demands an SBOM of the artifact that says something.
type BillOfMaterials struct {
	Least      int      `json:"least,omitempty"`      // components at least; default 1
	Identified int      `json:"identified,omitempty"` // percent of them at least that have a package URL or CPE; default 0
	Versioned  int      `json:"versioned,omitempty"`  // percent of them at least that have a version; default 0
	Licensed   int      `json:"licensed,omitempty"`   // percent of them at least that have a licence; default 0
	From       []string `json:"from,omitempty"`
	Age        Duration `json:"age,omitempty"` // default 8760h, 1m to 87600h
}

// KnownVulnerabilities demands a report of known vulnerabilities of the artifact, in
// which nothing stands that is bad enough. VEX that stages of the project brought
// for the artifact is applied first.
type KnownVulnerabilities struct {
	// Severity is the least that counts: low, medium, high or critical; default high.
	// What a report does not rate counts always.
	Severity string `json:"severity,omitempty"`
	// Grace is for how long after it became known a vulnerability does not count;
	// default none. One without a date counts at once.
	Grace    Duration `json:"grace,omitempty"`
	Fixable  bool     `json:"fixable,omitempty"`  // only those count for which there is a fix
	Database Duration `json:"database,omitempty"` // how old the report's knowledge may be at the release; default: not asked. A report that does not say is too old
	From     []string `json:"from,omitempty"`
	Age      Duration `json:"age,omitempty"` // default 168h, 1m to 8760h
}

// SLSAProvenance demands a signed statement of how the artifact was built, from the
// commit that is deployed (SLSA provenance v0.2 or v1).
type SLSAProvenance struct {
	Signers    []string `json:"signers"`              // any of these signed it
	Source     string   `json:"source"`               // the repository that it was built from, as the provenance writes it: https://github.com/acme/payments
	Builders   []string `json:"builders,omitempty"`   // builder.id, exact; default: each that the signer is trusted for
	BuildTypes []string `json:"buildTypes,omitempty"` // exact; default: any
	Level      int      `json:"level,omitempty"`      // SLSA build level at least that the signer is trusted for with this builder; default 1, 1 to 3
	From       []string `json:"from,omitempty"`
	Age        Duration `json:"age,omitempty"` // default 8760h, 1m to 87600h
}

// AttestationCheck demands a signed in-toto statement about the artifact.
type AttestationCheck struct {
	Type    string   `json:"type"`    // predicateType, exact
	Signers []string `json:"signers"` // any of these signed it
	// Rule is CEL over predicate that must be true; default: the statement is enough.
	// A field that is absent is an error, which passes nothing: has(predicate.x).
	Rule    string   `json:"rule,omitempty"`
	Message string   `json:"message,omitempty"` // what to tell whom it refuses
	From    []string `json:"from,omitempty"`
	Age     Duration `json:"age,omitempty"` // default 8760h, 1m to 87600h
}

// Defaults of checks over evidence.
const (
	DefaultEvidenceAge      = 30 * 24 * time.Hour
	DefaultVulnerabilityAge = 7 * 24 * time.Hour
	DefaultStatementAge     = 365 * 24 * time.Hour // what was built does not change any more
)

// A Demanded is what a check over evidence demands of every kind of it.
type Demanded struct {
	Kind  string        // of evidence
	Names []string      // names it must be there under; none: any
	From  []string      // stages that may bring it; none: each that may
	Age   time.Duration // how old it may be at the release
}

// Evidence says what a check demands of evidence; false if it is of another kind.
func (c Check) Evidence() (Demanded, bool) {
	switch {
	case c.Tests != nil:
		return Demanded{"tests", c.Tests.Names, c.Tests.From, orDefault(c.Tests.Age, DefaultEvidenceAge)}, true
	case c.Scan != nil:
		return Demanded{"scan", c.Scan.Names, c.Scan.From, orDefault(c.Scan.Age, DefaultEvidenceAge)}, true
	case c.SBOM != nil:
		return Demanded{"sbom", nil, c.SBOM.From, orDefault(c.SBOM.Age, DefaultStatementAge)}, true
	case c.Vulnerabilities != nil:
		return Demanded{"vulnerabilities", nil, c.Vulnerabilities.From, orDefault(c.Vulnerabilities.Age, DefaultVulnerabilityAge)}, true
	case c.Provenance != nil:
		return Demanded{"attestation", nil, c.Provenance.From, orDefault(c.Provenance.Age, DefaultStatementAge)}, true
	case c.Attestation != nil:
		return Demanded{"attestation", nil, c.Attestation.From, orDefault(c.Attestation.Age, DefaultStatementAge)}, true
	case c.Plan != nil:
		return Demanded{"plan", nil, c.Plan.From, orDefault(c.Plan.Age, DefaultPlanAge)}, true
	}
	return Demanded{}, false
}

// EvidenceKinds lists the kinds of evidence that a stage may be let bring.
func EvidenceKinds() []string {
	return []string{"tests", "coverage", "scan", "sbom", "vulnerabilities", "vex", "attestation", "plan"}
}

// LeastPassed is how many cases must have passed.
func (t Tests) LeastPassed() int { return max(t.Least, 1) }

// LeastComponents is how many components a bill of materials must list.
func (b BillOfMaterials) LeastComponents() int { return max(b.Least, 1) }

// LeastSeverity is the least severity that counts.
func (k KnownVulnerabilities) LeastSeverity() string {
	if k.Severity == "" {
		return "high"
	}
	return k.Severity
}

// LeastLevel is the SLSA build level that is demanded.
func (p SLSAProvenance) LeastLevel() int { return max(p.Level, 1) }
