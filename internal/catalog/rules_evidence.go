package catalog

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Bounds of checks over evidence.
const (
	maxEvidenceNames = 32
	maxSources       = 64
	maxSigners       = 32
	maxBuilders      = 64
	maxCounted       = 10_000_000
	maxStatementAge  = 10 * 365 * 24 * time.Hour
	leastRSABits     = 2048
	mostRSABits      = 8192
	leastRSAExponent = 65537
)

// evidenceCheck checks what all checks over evidence have, and then its own.
func (v *rules) evidenceCheck(r *resource, at string, e *Environment, c Check) {
	d, _ := c.Evidence()
	most := time.Duration(maxRecordAge)
	switch {
	case c.Tests != nil:
		at += ".tests"
		v.count(r, at+".least", c.Tests.Least, maxCounted)
		v.percent(r, at+".coverage", c.Tests.Coverage)
		if c.Tests.Skipped != nil {
			v.percent(r, at+".skipped", *c.Tests.Skipped)
		}
		v.within(r, at+".age", c.Tests.Age, time.Minute, most)
	case c.Scan != nil:
		at += ".scan"
		v.count(r, at+".errors", c.Scan.Errors, maxCounted)
		if c.Scan.Warnings != nil {
			v.count(r, at+".warnings", *c.Scan.Warnings, maxCounted)
		}
		v.within(r, at+".age", c.Scan.Age, time.Minute, most)
	case c.SBOM != nil:
		at += ".sbom"
		v.count(r, at+".least", c.SBOM.Least, maxCounted)
		v.percent(r, at+".identified", c.SBOM.Identified)
		v.percent(r, at+".versioned", c.SBOM.Versioned)
		v.percent(r, at+".licensed", c.SBOM.Licensed)
		v.within(r, at+".age", c.SBOM.Age, time.Minute, maxStatementAge)
	case c.Vulnerabilities != nil:
		at += ".vulnerabilities"
		v.vulnerabilities(r, at, *c.Vulnerabilities)
	case c.Provenance != nil:
		at += ".provenance"
		v.provenance(r, at, *c.Provenance)
	case c.Attestation != nil:
		at += ".attestation"
		v.attestation(r, at, *c.Attestation)
	case c.Plan != nil:
		at += ".plan"
		v.plan(r, at, *c.Plan)
	}
	if len(d.Names) > maxEvidenceNames {
		v.bounded(r, at+".names", len(d.Names), maxEvidenceNames)
	}
	for i, n := range d.Names {
		if err := lockkeeper.CheckName(n); err != nil {
			v.add(r, fmt.Sprintf("%s.names[%d]", at, i), "name_unfit", "The name of results is unfit: "+clip(err.Error(), 200)+".", "Choose a name such as unit, and bring them under it: lockkeeper evidence add tests:unit=FILE")
		}
	}
	if len(d.From) > maxSources {
		v.bounded(r, at+".from", len(d.From), maxSources)
	}
	for i, s := range d.From {
		v.bringer(r, fmt.Sprintf("%s.from[%d]", at, i), e, s, d.Kind)
	}
	if len(d.From) == 0 {
		v.someBringer(r, at, e, d.Kind)
	}
	if c.Tests != nil && c.Tests.Coverage > 0 && len(d.From) == 0 {
		v.someBringer(r, at+".coverage", e, "coverage")
	}
}

func (v *rules) vulnerabilities(r *resource, at string, k KnownVulnerabilities) {
	if known := []string{"low", "medium", "high", "critical"}; k.Severity != "" && !slices.Contains(known, k.Severity) {
		v.add(r, at+".severity", "value_unknown", name(k.Severity)+" is none of "+strings.Join(known, ", ")+".", v.problems.suggest(k.Severity, known, "Write one of them."))
	}
	v.within(r, at+".grace", k.Grace, time.Minute, maxRecordAge)
	v.within(r, at+".database", k.Database, time.Minute, maxRecordAge)
	v.within(r, at+".age", k.Age, time.Minute, maxRecordAge)
}

func (v *rules) provenance(r *resource, at string, p SLSAProvenance) {
	v.signers(r, at, p.Signers)
	v.within(r, at+".age", p.Age, time.Minute, maxStatementAge)
	if p.Source == "" || strings.ContainsAny(p.Source, " \t\n@") || strings.HasPrefix(p.Source, "git+") {
		v.add(r, at+".source", "source_unfit", "The source "+name(p.Source)+" is no repository.", "Write it as the provenance names it, without git+ and without @ref: https://github.com/acme/payments.")
	}
	if p.Level < 0 || p.Level > 3 {
		v.add(r, at+".level", "level_unknown", fmt.Sprintf("The level is %d; SLSA has build levels 1 to 3.", p.Level), "Write 1, 2 or 3, or leave it out.")
	}
	for i, b := range p.Builders {
		trusted := slices.ContainsFunc(p.Signers, func(s string) bool {
			return slices.ContainsFunc(v.c.Signers[s].Builders, func(o Builder) bool { return o.ID == b && o.Level >= p.LeastLevel() })
		})
		if !trusted {
			v.add(r, fmt.Sprintf("%s.builders[%d]", at, i), "builder_untrusted", fmt.Sprintf("None of the signers is trusted for the builder %s at level %d.", name(b), p.LeastLevel()), "List it under builders of one of them, with its level.")
		}
	}
	for i, s := range p.Signers {
		signer, known := v.c.Signers[s]
		if known && !slices.ContainsFunc(signer.Builders, func(b Builder) bool { return b.Level >= p.LeastLevel() }) {
			v.add(r, fmt.Sprintf("%s.signers[%d]", at, i), "builder_untrusted", fmt.Sprintf("The signer %s is trusted for no builder at level %d, so nothing that it signed could pass.", name(s), p.LeastLevel()), "List the builder under builders of the signer, or name another signer.")
		}
	}
}

func (v *rules) attestation(r *resource, at string, a AttestationCheck) {
	v.signers(r, at, a.Signers)
	v.within(r, at+".age", a.Age, time.Minute, maxStatementAge)
	if a.Type == "" || strings.ContainsAny(a.Type, " \t\n") || !strings.Contains(a.Type, ":") {
		v.add(r, at+".type", "type_unfit", "The type "+name(a.Type)+" is no URI.", "Write the predicateType of the statement, such as https://slsa.dev/verification_summary/v1.")
	}
	if a.Rule != "" {
		v.expression(r, at+".rule", predicateVariable, a.Rule)
	}
}

func (v *rules) signers(r *resource, at string, list []string) {
	v.bounded(r, at+".signers", len(list), maxSigners)
	for i, s := range list {
		v.reference(r, fmt.Sprintf("%s.signers[%d]", at, i), Key{Kind: SignerKind, Name: s})
	}
}

func (v *rules) count(r *resource, at string, n, most int) {
	if n < 0 || n > most {
		v.add(r, at, "count_out_of_bounds", fmt.Sprintf("The number is %d; it must be from 0 to %d.", n, most), "Choose a number within these.")
	}
}

func (v *rules) percent(r *resource, at string, n int) {
	if n < 0 || n > 100 {
		v.add(r, at, "percent_out_of_bounds", fmt.Sprintf("%d is no percentage.", n), "Write a number from 0 to 100.")
	}
}

// bringer checks that a stage exists and may bring the kind of evidence.
func (v *rules) bringer(r *resource, at string, e *Environment, s, kind string) {
	pipeline, stage, ok := strings.Cut(s, "/")
	if !ok || stage == "" {
		v.add(r, at, "stage_unfit", name(s)+" names no stage.", "Write PIPELINE/STAGE.")
		return
	}
	key := Key{Kind: PipelineKind, Project: e.Project, Name: pipeline}
	if !v.reference(r, at, key) {
		return
	}
	if p := v.known[key]; p != nil && v.stage(r, at, p, stage) && p.good && !v.brings(p.value.(*Pipeline), stage, kind) {
		v.add(r, at, "evidence_not_admitted", fmt.Sprintf("The stage %s may not bring %s.", name(s), kind), "Add evidence: ["+kind+"] to that stage of the pipeline.")
	}
}

func (v *rules) brings(p *Pipeline, stage, kind string) bool {
	return slices.ContainsFunc(p.Stages, func(s Stage) bool {
		return (stage == "" || s.Name == stage) && slices.Contains(s.Evidence, kind)
	})
}

// someBringer refuses a check that nobody could ever satisfy. A catalog in a journal
// stays readable: there the gate waits instead.
func (v *rules) someBringer(r *resource, at string, e *Environment, kind string) {
	if !v.written {
		return
	}
	for k, p := range v.known {
		if pipeline, ok := p.value.(*Pipeline); ok && k.Project == e.Project && (!p.good || v.brings(pipeline, "", kind)) {
			return
		}
	}
	v.add(r, at, "evidence_unreachable", fmt.Sprintf("No stage of the project %s may bring %s, so the check could never pass.", name(e.Project), kind), "Add evidence: ["+kind+"] to the stage of the pipeline that makes it.")
}

func (v *rules) signer(r *resource, s *Signer) {
	switch {
	case (s.Key == "") == (s.Keyless == nil):
		v.add(r, "name", "signer_unfit", "The signer "+name(s.Name)+" needs a key, or keyless with issuer, subject and root; and one of the two only.", "Write key: | with the public key as PEM.")
	case s.Key != "":
		if why := keyUnfit(s.Key); why != "" {
			v.add(r, "key", "key_unfit", "The key "+why+".", "Write the public key as PEM, between BEGIN PUBLIC KEY and END PUBLIC KEY.")
		}
	default:
		if reason := issuerUnfit(s.Keyless.Issuer); reason != "" {
			v.add(r, "keyless.issuer", "issuer_unfit", "The issuer "+reason+".", "Write it as the certificate has it, such as https://token.actions.githubusercontent.com.")
		}
		if s.Keyless.Subject == "" {
			v.add(r, "keyless.subject", "field_missing", "The signer's certificate may be anybody's.", "Write the subject alternative name, such as https://github.com/acme/build/.github/workflows/build.yml@refs/heads/main.")
		}
		if _, err := lockkeeper.ParseDigest(s.Keyless.Root); err != nil {
			v.add(r, "keyless.root", "digest_unfit", name(s.Keyless.Root)+" is no digest.", "Write sha256: and the SHA-256 of the trusted root's file: lockkeeper artifact digest root=trusted_root.json")
		}
	}
	if len(s.Builders) > maxBuilders {
		v.bounded(r, "builders", len(s.Builders), maxBuilders)
	}
	seen := map[string]bool{}
	for i, b := range s.Builders {
		at := fmt.Sprintf("builders[%d]", i)
		if b.ID == "" || strings.ContainsAny(b.ID, " \t\n") || seen[b.ID] {
			v.add(r, at+".id", "builder_unfit", name(b.ID)+" is no builder, or stands here twice.", "Write builder.id of the provenance, such as https://github.com/actions/runner/github-hosted.")
		}
		seen[b.ID] = true
		if b.Level < 1 || b.Level > 3 {
			v.add(r, at+".level", "level_unknown", fmt.Sprintf("The level is %d; SLSA has build levels 1 to 3.", b.Level), "Write 1, 2 or 3.")
		}
	}
}

// keyUnfit says why a text is no public key that a signature may be believed of, or "".
func keyUnfit(text string) string {
	key, err := publicKey(text)
	if err != nil {
		return "cannot be read: " + clip(err.Error(), 160)
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return "is of the curve " + k.Curve.Params().Name + ", and must be of P-256 or P-384"
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < leastRSABits || bits > mostRSABits || k.E < leastRSAExponent {
			return fmt.Sprintf("has %d bits and the exponent %d; it must have %d to %d bits, and an exponent of %d or more", bits, k.E, leastRSABits, mostRSABits, leastRSAExponent)
		}
	default:
		return "is of a kind that is not supported"
	}
	return ""
}

// publicKey reads one public key as PEM, and nothing else.
func publicKey(text string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" || !strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return nil, fmt.Errorf("it is not one PUBLIC KEY in PEM")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}
