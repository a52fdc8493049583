package evidence

import (
	"github.com/lockkeeper/lockkeeper"
)

// A Kind is what a piece of evidence speaks about.
type Kind string

// The kinds of evidence.
const (
	Tests           Kind = "tests"           // results of tests
	Coverage        Kind = "coverage"        // how much of the code the tests ran
	Scan            Kind = "scan"            // results of a static analysis
	SBOM            Kind = "sbom"            // what the artifact is made of
	Vulnerabilities Kind = "vulnerabilities" // known vulnerabilities of what it is made of
	VEX             Kind = "vex"             // which of them matter to it
	Attestation     Kind = "attestation"     // a signed in-toto statement, such as SLSA provenance
)

// Kinds lists every kind of evidence.
func Kinds() []Kind {
	return []Kind{Tests, Coverage, Scan, SBOM, Vulnerabilities, VEX, Attestation, Plan}
}

// Bounds of what is read. Whatever exceeds one is refused, never cut.
const (
	MaxDocument   = 16 << 20  // bytes of a document
	MaxDepth      = 64        // of nested elements, objects and arrays
	MaxItems      = 1_000_000 // test cases, results, components, findings of one document
	MaxFindings   = 2_000     // distinct vulnerabilities that are kept of one report
	MaxStatements = 2_000     // statements of one VEX document
	MaxPredicate  = 64 << 10  // bytes of an attestation's predicate
	MaxSubjects   = 256       // digests that a document says it is about
	MaxText       = 512       // bytes of a text that is kept; longer ones are cut at a rune, with … at the end
	MaxNamed      = 20        // failed tests, results and incomplete components that are named
)

// A Summary is what a document says, without the document. Exactly one of the
// pointers is set, the one of its kind; of VEX it is Statements.
type Summary struct {
	Kind   Kind   `json:"kind"`
	Format string `json:"format"`         // junit, cobertura, sarif-2.1.0, cyclonedx-1.6, spdx-2.3, openvex, dsse, sigstore, …
	Tool   string `json:"tool,omitempty"` // what made it, with its version, as the document says
	// Made is when the document says that it was made; zero: it does not say.
	Made lockkeeper.Moment `json:"made,omitzero"`
	// Subjects are the SHA-256 digests that the document itself says it is about;
	// none: it names none, and speaks for what its bringer says.
	Subjects []lockkeeper.Digest `json:"subjects,omitempty"`

	Tests           *TestResults `json:"tests,omitempty"`
	Coverage        *Covered     `json:"coverage,omitempty"`
	Scan            *ScanResults `json:"scan,omitempty"`
	SBOM            *Components  `json:"sbom,omitempty"`
	Vulnerabilities *Report      `json:"vulnerabilities,omitempty"`
	Statements      []Statement  `json:"statements,omitempty"`
	Attestation     *Attested    `json:"attestation,omitempty"`
	Plan            *Planned     `json:"plan,omitempty"`
}

// TestResults counts the cases of a JUnit document, as its cases say and not its
// totals: Total = Passed + Failed + Erred + Skipped.
type TestResults struct {
	Suites  int `json:"suites"` // that have at least one case of their own
	Total   int `json:"total"`
	Passed  int `json:"passed"`
	Failed  int `json:"failed,omitempty"`
	Erred   int `json:"erred,omitempty"`
	Skipped int `json:"skipped,omitempty"`
	// Empty counts suites without any case, their own or of suites within.
	Empty  int      `json:"empty,omitempty"`
	Broken []string `json:"broken,omitempty"` // names of the first MaxNamed that failed or erred
}

// Covered counts lines (or statements, where the format counts those).
type Covered struct {
	Lines   int64 `json:"lines"` // at least 1
	Covered int64 `json:"covered"`
}

// ScanResults counts the results of a SARIF document that nobody suppressed, by
// level, and those that somebody did.
type ScanResults struct {
	Runs       int      `json:"runs"` // at least 1
	Errors     int      `json:"errors,omitempty"`
	Warnings   int      `json:"warnings,omitempty"`
	Notes      int      `json:"notes,omitempty"`      // notes, and results of level none and kind fail
	Suppressed int      `json:"suppressed,omitempty"` // accepted suppressions only (SARIF 2.1.0 §3.27.23, §3.35.3)
	Incomplete bool     `json:"incomplete,omitempty"` // an invocation says that it was not successful (§3.20.14)
	Worst      []string `json:"worst,omitempty"`      // the first MaxNamed errors: RULE at FILE:LINE
}

// Components counts what a bill of materials lists, besides the artifact itself.
type Components struct {
	Total      int      `json:"total"`
	Identified int      `json:"identified"`           // with a package URL or CPE
	Versioned  int      `json:"versioned"`            // with a version
	Licensed   int      `json:"licensed"`             // with a licence
	Relations  int      `json:"relations"`            // dependencies that it states
	Incomplete []string `json:"incomplete,omitempty"` // the first MaxNamed without identity or version
}

// A Severity of a vulnerability, from least to worst.
type Severity string

// The severities. What a report does not rate is unknown, which a check treats as
// critical.
const (
	Negligible Severity = "negligible"
	Low        Severity = "low"
	Medium     Severity = "medium"
	High       Severity = "high"
	Critical   Severity = "critical"
	Unknown    Severity = "unknown"
)

// A Report is a vulnerability report.
type Report struct {
	// Database is when the tool's knowledge was last brought up to date; zero: the
	// report does not say.
	Database lockkeeper.Moment `json:"database,omitzero"`
	Findings []Finding         `json:"findings,omitempty"` // distinct by id and package, sorted by both
}

// A Finding is a vulnerability in one package of the artifact.
type Finding struct {
	ID       string   `json:"id"`                // CVE-…, GHSA-…
	Aliases  []string `json:"aliases,omitempty"` // other ids of the same
	Package  string   `json:"package"`           // package URL where the report says it, otherwise name@version
	Severity Severity `json:"severity"`
	Fixed    []string `json:"fixed,omitempty"` // versions that mend it; none: no fix is known
	// Published is when the vulnerability became known; zero: the report does not say.
	Published lockkeeper.Moment `json:"published,omitzero"`
	Status    Status            `json:"status,omitempty"` // what the report's own analysis says of it (CycloneDX)
	Reason    string            `json:"reason,omitempty"` // justification of not_affected
	// At is when that analysis was last changed; zero: the report does not say.
	At lockkeeper.Moment `json:"at,omitzero"`
}

// A Status of VEX.
type Status string

// The statuses of VEX (OpenVEX 0.2.0, "Status Labels").
const (
	NotAffected        Status = "not_affected"
	Affected           Status = "affected"
	FixedStatus        Status = "fixed"
	UnderInvestigation Status = "under_investigation"
)

// A Statement of VEX says how one vulnerability concerns one product. A document's
// statement about several products becomes one for each.
type Statement struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases,omitempty"`
	Products []string `json:"products"` // what names the product: package URLs or sha256:… digests, any of them; at least 1
	// Subcomponents narrow the statement to packages in the product, by package URL;
	// none: it is about the product as a whole.
	Subcomponents []string `json:"subcomponents,omitempty"`
	Status        Status   `json:"status"`
	Reason        string   `json:"reason,omitempty"` // justification or impact statement; not_affected has one
	// At is when the statement was made or last changed; of several about one
	// vulnerability and product the latest counts.
	At lockkeeper.Moment `json:"at,omitzero"`
}

// An Attested is an in-toto statement and who signed it.
type Attested struct {
	PredicateType string `json:"predicateType"`
	// Signers are the given signers whose signature was found good; at least 1.
	Signers []SignedBy `json:"signers"`
	// Predicate is the predicate as compact JSON.
	Predicate  []byte      `json:"predicate"`
	Provenance *Provenance `json:"provenance,omitempty"` // of SLSA provenance v0.2 and v1
}

// SignedBy says by whom a statement is signed, and with which key.
type SignedBy struct {
	Signer string `json:"signer"` // its name in the catalog
	// Key is the digest of the DER of the public key, or of the signer's whole trust
	// (issuer, subject, trust root) where it signs without a key of its own.
	Key lockkeeper.Digest `json:"key"`
	At  lockkeeper.Moment `json:"at,omitzero"` // when it was signed, as a transparency log or time-stamp proves; zero: nothing does
}

// A Provenance says how an artifact was built (SLSA provenance v0.2 and v1).
type Provenance struct {
	Builder   string   `json:"builder"`   // runDetails.builder.id
	BuildType string   `json:"buildType"` //
	Sources   []Source `json:"sources"`   // what it was built from: resolved dependencies or materials that name a git commit, the first is the main one
	Run       string   `json:"run,omitempty"`
}

// A Source is a repository at a commit.
type Source struct {
	Repository string `json:"repository"` // URI without the git+ prefix and the @ref
	Commit     string `json:"commit"`
}
