package effect

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"golang.org/x/crypto/ssh"
)

// An sshAuthority signs certificates for people's own keys (PROTOCOL.certkeys of
// OpenSSH). Hosts that trust the authority let their holders in as the principals.
//
// Nothing is done at any host, so that there is nothing to take away: a certificate
// ends by arithmetic, at the activation's end or sooner. One that was handed out
// lives to its own end though the activation ends before, and a session that was
// begun lives on; the duty says until when (Outside).
type sshAuthority struct{ secrets secrets }

// Grant looks whether the authority can sign, so that whoever activates the role
// learns at once if it cannot.
func (s *sshAuthority) Grant(_ context.Context, a Account) error {
	_, err := s.signer(a)
	return err
}

// Revoke has nothing to take away.
func (s *sshAuthority) Revoke(context.Context, Account) error { return nil }

// Verify finds nothing that could be taken away.
func (s *sshAuthority) Verify(context.Context, Account) (bool, error) { return false, nil }

func (s *sshAuthority) signer(a Account) (ssh.Signer, error) {
	secret, err := s.secrets.of(a.Provisioner)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey([]byte(secret))
	if err != nil || a.Terms.SSH == nil { // the error's text may hold parts of it
		return nil, &Failure{"secret_unfit", "The file " + a.Provisioner + " holds no private key of SSH without a passphrase.", true}
	}
	return signer, nil
}

// backdated is how long before it was made a certificate counts, for hosts whose
// clocks are behind.
const backdated = time.Minute

// certificate signs a person's public key, in the format of authorized_keys, under a
// handover of the keeper.
func (s *sshAuthority) certificate(h keeper.Handover, key ssh.PublicKey, now time.Time) ([]byte, error) {
	signer, err := s.signer(Account{h.Duty})
	if err != nil {
		return nil, err
	}
	terms := h.Duty.Terms.SSH
	c := &ssh.Certificate{Key: key, CertType: ssh.UserCert, KeyId: h.Duty.Activation, Serial: h.Serial, ValidPrincipals: terms.Principals,
		ValidAfter: uint64(now.Add(-backdated).Unix()), ValidBefore: uint64(h.Until.Time().Unix())}
	c.Extensions = map[string]string{}
	for _, e := range terms.CertificateExtensions() {
		c.Extensions[e] = ""
	}
	if c.ValidBefore <= uint64(now.Unix()) {
		return nil, lockkeeper.Conflict.Errorf("activation_over", "The activation is over in less than a second.")
	}
	if err := c.SignCert(rand.Reader, strongest(signer)); err != nil {
		return nil, err
	}
	return ssh.MarshalAuthorizedKey(c), nil
}

// strongest keeps RSA authorities from signing with SHA-1.
func strongest(s ssh.Signer) ssh.Signer {
	if a, is := s.(ssh.AlgorithmSigner); is && s.PublicKey().Type() == ssh.KeyAlgoRSA {
		if m, err := ssh.NewSignerWithAlgorithms(a, []string{ssh.KeyAlgoRSASHA512}); err == nil {
			return m
		}
	}
	return s
}

// maxPublicKey bounds a public key, in bytes.
const maxPublicKey = 16 << 10

// personalKey reads the public key that somebody wants certified: one, of a kind
// that hosts still take, and no certificate.
func personalKey(text string) (ssh.PublicKey, error) {
	unfit := lockkeeper.Invalid.Errorf("public_key_unfit", "This is no public key of SSH of a kind that is taken.").
		WithNext("Give the file that ends with .pub, of an Ed25519, ECDSA or RSA key of at least 2048 bits: ssh-keygen -t ed25519")
	if len(text) > maxPublicKey {
		return nil, unfit
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, unfit
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return key, nil
	case ssh.KeyAlgoRSA:
		if bits, err := rsaBits(key); err == nil && bits >= 2048 && bits <= 16384 {
			return key, nil
		}
	}
	return nil, unfit
}

func rsaBits(key ssh.PublicKey) (int, error) {
	var wire struct {
		Name string
		E, N []byte
		Rest []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(key.Marshal(), &wire); err != nil {
		return 0, err
	}
	n := bytes.TrimLeft(wire.N, "\x00")
	if len(n) == 0 {
		return 0, fmt.Errorf("the modulus is missing")
	}
	bits := len(n) * 8
	for b := n[0]; b&0x80 == 0; b <<= 1 {
		bits--
	}
	return bits, nil
}
