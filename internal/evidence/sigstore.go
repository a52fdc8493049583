package evidence

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/lockkeeper/lockkeeper"
)

const bundleType = "application/vnd.dev.sigstore.bundle"

// readBundle reads a Sigstore bundle with a DSSE envelope in it. Its content is known
// to be JSON without a member that stands twice.
func readBundle(content []byte, signers []Signer) (Summary, error) {
	b, err := parseBundle(content)
	if err != nil {
		return Summary{}, err
	}
	e := b.GetDsseEnvelope()
	if e == nil {
		return Summary{}, unknownFormat(Attestation, "the bundle signs a file and holds no statement", attestationFormats)
	}
	if len(e.Signatures) != 1 {
		return Summary{}, refuse(codeUnreadable, "The bundle has %d signatures; it must have one.", len(e.Signatures))
	}
	first, err := firstSubject(e.Payload)
	if err != nil {
		return Summary{}, err
	}
	var by []SignedBy
	var why error
	for _, s := range signers {
		id, err := s.Identity()
		if err != nil {
			return Summary{}, err
		}
		at, err := s.signedBundle(b, first)
		if err != nil {
			why = err
			continue
		}
		by = append(by, SignedBy{Signer: s.Name, Key: id, At: at})
	}
	if len(by) == 0 {
		return Summary{}, unbelieved(signers, why.Error())
	}
	return statement("sigstore", e.PayloadType, e.Payload, by)
}

// parseBundle reads a bundle of the versions 0.1 to 0.3.
func parseBundle(content []byte) (b *bundle.Bundle, err error) {
	// A panic of the library on hostile input must not end the server: it is a refusal.
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, refuse(codeUnreadable, "The bundle cannot be read.")
		}
	}()
	b = &bundle.Bundle{}
	if err := b.UnmarshalJSON(content); err != nil {
		return nil, refuse(codeUnreadable, "The bundle cannot be read: %.200s.", err.Error())
	}
	return b, nil
}

// firstSubject is a digest that the statement names: the signature is verified of a
// statement about it.
func firstSubject(payload []byte) (lockkeeper.Digest, error) {
	c, err := newCursor(payload)
	if err != nil {
		return "", err
	}
	var list []lockkeeper.Digest
	err = c.object(func(key string) error {
		if key == "subject" {
			return c.array(func() error { return subject(c, &list) })
		}
		return nil
	})
	if err == nil && len(list) == 0 {
		err = refuse(codeSubject, "The statement names no subject by SHA-256 digest.").WithField("$.subject").
			WithNext("Attest to the artifact's SHA-256 digest.")
	}
	if err != nil {
		return "", err
	}
	return list[0], nil
}

// signedBundle verifies that the signer signed the bundle's content about the
// artifact, and is when, as the log or a time-stamp proves. Nothing is fetched: all
// trust comes from the signer. Keyless, and with a key and a trust root, the
// transparency log must hold the signature; with a key alone the signature of the
// envelope is all that is asked for.
func (s Signer) signedBundle(b *bundle.Bundle, artifact lockkeeper.Digest) (at lockkeeper.Moment, err error) {
	defer func() {
		if p := recover(); p != nil {
			at, err = lockkeeper.Moment{}, errors.New("the bundle cannot be verified")
		}
	}()
	if s.Key != "" && len(s.Root) == 0 {
		return lockkeeper.Moment{}, s.signedPlainly(b)
	}
	trusted, err := trustedRoot(s.Root)
	if err != nil {
		return lockkeeper.Moment{}, err
	}
	var material root.TrustedMaterial = trusted
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	policy := verify.WithKey()
	if s.Key != "" {
		if material, err = s.withKey(trusted); err != nil {
			return lockkeeper.Moment{}, err
		}
	} else {
		if len(trusted.CTLogs()) > 0 {
			options = append(options, verify.WithSignedCertificateTimestamps(1))
		}
		identity, err := verify.NewShortCertificateIdentity(s.Issuer, "", s.Subject, "")
		if err != nil {
			return lockkeeper.Moment{}, err
		}
		policy = verify.WithCertificateIdentity(identity)
	}
	v, err := verify.NewVerifier(material, options...)
	if err != nil {
		return lockkeeper.Moment{}, err
	}
	raw, err := hex.DecodeString(artifact.Hex())
	if err != nil {
		return lockkeeper.Moment{}, err
	}
	result, err := v.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", raw), policy))
	if err != nil {
		return lockkeeper.Moment{}, err
	}
	return earliest(result.VerifiedTimestamps), nil
}

// earliest is the earliest of the times at which the signature was proved to exist.
func earliest(stamps []verify.TimestampVerificationResult) lockkeeper.Moment {
	var at lockkeeper.Moment
	for _, t := range stamps {
		if m := lockkeeper.MomentOf(t.Timestamp); at.IsZero() || m.Before(at) {
			at = m
		}
	}
	return at
}

// signedPlainly verifies the envelope of the bundle by the signer's key.
func (s Signer) signedPlainly(b *bundle.Bundle) error {
	e := b.GetDsseEnvelope()
	if e == nil {
		return errors.New("the bundle holds no envelope")
	}
	plain := envelope{kind: e.PayloadType, payload: e.Payload}
	for _, sig := range e.Signatures {
		plain.signatures = append(plain.signatures, sig.Sig)
	}
	_, err := plain.signedBy([]Signer{s})
	return err
}

// withKey is the trust root with the signer's key, whatever hint the bundle has.
func (s Signer) withKey(trusted *root.TrustedRoot) (root.TrustedMaterial, error) {
	key, err := parseKey(s.Key)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	always := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	return keyed{trusted, always}, nil
}

// keyed is a trust root that answers every hint of a key with one key.
type keyed struct {
	root.TrustedMaterial
	key *root.ExpiringKey
}

func (k keyed) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) { return k.key, nil }

// trustedRoot reads a trust root of Sigstore, as its JSON.
func trustedRoot(data []byte) (r *root.TrustedRoot, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, errors.New("the trust root cannot be read")
		}
	}()
	if len(data) > maxRoot {
		return nil, fmt.Errorf("the trust root has more than %d bytes", maxRoot)
	}
	r, err = root.NewTrustedRootFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("the trust root cannot be read: %.200s", err.Error())
	}
	return r, nil
}
