package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// The algorithms that tokens are signed with (RFC 7518, section 3.1). Azure
// takes RS256 only; everybody else takes ES256, which costs a thirtieth.
const (
	ES256 = "ES256"
	RS256 = "RS256"
)

// SigningAlgorithms lists them.
func SigningAlgorithms() []string { return []string{ES256, RS256} }

// rsaBits is the size of an RS256 key: what every cloud takes.
const rsaBits = 2048

// A SigningKey signs tokens with one algorithm.
type SigningKey struct {
	private   crypto.Signer
	algorithm string
	id        string
	signer    jose.Signer
}

// NewSigningKey makes a key for ES256 or RS256.
func NewSigningKey(rand io.Reader, algorithm string) (*SigningKey, error) {
	switch algorithm {
	case ES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand)
		if err != nil {
			return nil, err
		}
		return newSigningKey(private, algorithm)
	case RS256:
		private, err := rsa.GenerateKey(rand, rsaBits)
		if err != nil {
			return nil, err
		}
		return newSigningKey(private, algorithm)
	}
	return nil, fmt.Errorf("tokens are signed with %v, not with %q", SigningAlgorithms(), algorithm)
}

// ParseSigningKey reads what MarshalBinary wrote.
func ParseSigningKey(data []byte) (*SigningKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(data)
	if err != nil {
		return nil, err
	}
	switch private := key.(type) {
	case *ecdsa.PrivateKey:
		if private.Curve == elliptic.P256() {
			return newSigningKey(private, ES256)
		}
	case *rsa.PrivateKey:
		if private.N.BitLen() >= rsaBits {
			return newSigningKey(private, RS256)
		}
	}
	return nil, fmt.Errorf("the key is neither on P-256 nor RSA with %d bits", rsaBits)
}

func newSigningKey(private crypto.Signer, algorithm string) (*SigningKey, error) {
	public := jose.JSONWebKey{Key: private.Public()}
	print, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	k := &SigningKey{private: private, algorithm: algorithm, id: base64.RawURLEncoding.EncodeToString(print)}
	options := (&jose.SignerOptions{}).WithType("JWT")
	k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: jose.JSONWebKey{Key: private, KeyID: k.id}}, options)
	return k, err
}

// MarshalBinary is the private key as PKCS #8.
func (k *SigningKey) MarshalBinary() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

// ID is the key's id: its RFC 7638 thumbprint.
func (k *SigningKey) ID() string { return k.id }

// Algorithm is ES256 or RS256.
func (k *SigningKey) Algorithm() string { return k.algorithm }

// Mint signs claims as a compact JWS. typ is JWT.
func (k *SigningKey) Mint(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// Public is the public half as a JWK with its use and algorithm.
func (k *SigningKey) Public() json.RawMessage {
	b, err := jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: k.algorithm, Use: "sig"}.MarshalJSON()
	if err != nil {
		panic(err) // a key that was made or parsed here always marshals
	}
	return b
}

// MarshalKeySet is public keys as a JWKS, in the order of their ids, so that the
// set shows nothing of which one signs now.
func MarshalKeySet(public ...json.RawMessage) ([]byte, error) {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{[]json.RawMessage{}}
	set.Keys = append(set.Keys, public...)
	slices.SortFunc(set.Keys, func(a, b json.RawMessage) int { return slices.Compare(a, b) })
	return json.Marshal(set)
}
