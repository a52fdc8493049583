package gate

import "github.com/lockkeeper/lockkeeper"

// Outdated judges anew what lets artifacts run that were let in before: signatures,
// bills of materials and known vulnerabilities, as of now. It lists what would not
// pass any more. Tests and scans speak of code that has not changed since, and what
// concerned the release alone is over.
func Outdated(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if c.Shadow || c.Vulnerabilities == nil && c.Provenance == nil && c.Attestation == nil && c.SBOM == nil {
			continue
		}
		if d := evidenceCheck(f, c, now); !d.Passed(now) {
			out = append(out, d)
		}
	}
	return out
}
