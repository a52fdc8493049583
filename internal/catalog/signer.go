package catalog

import (
	"crypto/x509"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// Trust names what is believed of the signer: the digest of its public key, or of
// issuer, subject and trusted root. Whoever signed under another trust is no more
// believed under the signer's name.
func (s Signer) Trust() lockkeeper.Digest {
	if s.Keyless != nil {
		return lockkeeper.DigestOf([]byte("lockkeeper.keyless.v1\n" + s.Keyless.Issuer + "\n" + s.Keyless.Subject + "\n" + s.Keyless.Root))
	}
	key, err := publicKey(s.Key)
	if err != nil {
		return "" // of a catalog that was never read
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	return lockkeeper.DigestOf(der)
}

// Brings reports whether a stage may bring a kind of evidence.
func (c *Catalog) Brings(project, pipeline, stage, kind string) bool {
	for _, s := range c.Pipelines[lockkeeper.PipelineScope(project, pipeline)].Stages {
		if s.Name == stage {
			return slices.Contains(s.Evidence, kind)
		}
	}
	return false
}
