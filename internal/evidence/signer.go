package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxRoot bounds the JSON of a trust root, and maxKey the PEM of a key.
const (
	maxRoot = 1 << 20
	maxKey  = 16 << 10
)

// Identity is what of the signer is believed: the digest of the DER of its public
// key, or, keyless, that of issuer, subject and trust root. It changes whenever
// somebody else could sign. It refuses a signer that can verify nothing: a key that
// is none, or too weak, or a keyless signer without one of the three.
func (s Signer) Identity() (lockkeeper.Digest, error) {
	if s.Key != "" {
		if s.Issuer != "" || s.Subject != "" {
			return "", s.unfit("it has a key and an issuer or subject; it must have one or the other")
		}
		key, err := parseKey(s.Key)
		if err != nil {
			return "", s.unfit(err.Error())
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return "", s.unfit(err.Error())
		}
		return lockkeeper.DigestOf(der), nil
	}
	if s.Issuer == "" || s.Subject == "" || len(s.Root) == 0 {
		return "", s.unfit("without a key it needs an issuer, a subject and a trust root")
	}
	if _, err := trustedRoot(s.Root); err != nil {
		return "", s.unfit(err.Error())
	}
	var b strings.Builder
	b.WriteString("lockkeeper.signer.v1")
	for _, field := range []string{s.Issuer, s.Subject, string(s.Root)} {
		fmt.Fprintf(&b, "\n%d:%s", len(field), field)
	}
	return lockkeeper.DigestOf([]byte(b.String())), nil
}

func (s Signer) unfit(why string) error {
	return refuse(codeSigner, "The signer %.80q cannot be believed: %.300s.", s.Name, why).
		WithNext("Give it a public key in PEM (Ed25519, ECDSA P-256 or P-384, RSA of 2048 to 8192 bits), or an issuer, a subject and the trust root of Sigstore.")
}

// parseKey reads one PEM block PUBLIC KEY and refuses what is too weak.
func parseKey(text string) (crypto.PublicKey, error) {
	if len(text) > maxKey {
		return nil, fmt.Errorf("the key has more than %d bytes", maxKey)
	}
	block, rest := pem.Decode([]byte(strings.TrimSpace(text) + "\n"))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("the key is not a PEM block PUBLIC KEY")
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("there is something beside the key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read")
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
		return k, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, fmt.Errorf("the curve %s is not taken", k.Curve.Params().Name)
		}
		return k, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return nil, fmt.Errorf("an RSA key of %d bits is not taken", bits)
		}
		if k.E < 65537 {
			return nil, fmt.Errorf("an RSA key with the exponent %d is not taken", k.E)
		}
		return k, nil
	}
	return nil, fmt.Errorf("a key of the type %T is not taken", key)
}

// signed says whether sig is key's signature of message. ECDSA as ASN.1 or as r and
// s one after the other (DSSE leaves it open), with the hash of the curve, or SHA-256
// with P-384 as cosign signs; RSA as PSS or PKCS #1 v1.5 with SHA-256.
func signed(key crypto.PublicKey, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, sum[:], sig, nil) == nil || rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
	case *ecdsa.PublicKey:
		if signedECDSA(k, sum[:], sig) {
			return true
		}
		sum := sha512.Sum384(message)
		return k.Curve == elliptic.P384() && signedECDSA(k, sum[:], sig)
	}
	return false
}

func signedECDSA(k *ecdsa.PublicKey, sum, sig []byte) bool {
	if ecdsa.VerifyASN1(k, sum, sig) {
		return true
	}
	n := (k.Curve.Params().BitSize + 7) / 8
	if len(sig) != 2*n {
		return false
	}
	return ecdsa.Verify(k, sum, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
}
