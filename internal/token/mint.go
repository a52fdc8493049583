package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"github.com/go-jose/go-jose/v4"
)

// A SigningKey signs tokens with ES256 (RFC 7518, section 3.4).
type SigningKey struct {
	private *ecdsa.PrivateKey
	id      string
	signer  jose.Signer
}

// NewSigningKey makes a key.
func NewSigningKey(rand io.Reader) (*SigningKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, err
	}
	return newSigningKey(private)
}

// ParseSigningKey reads what MarshalBinary wrote.
func ParseSigningKey(data []byte) (*SigningKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(data)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the key is not on P-256")
	}
	return newSigningKey(private)
}

func newSigningKey(private *ecdsa.PrivateKey) (*SigningKey, error) {
	public := jose.JSONWebKey{Key: private.Public()}
	print, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	k := &SigningKey{private: private, id: base64.RawURLEncoding.EncodeToString(print)}
	options := (&jose.SignerOptions{}).WithType("JWT")
	k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: k.id}}, options)
	return k, err
}

// MarshalBinary is the private key as PKCS #8.
func (k *SigningKey) MarshalBinary() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

// ID is the key's id: its RFC 7638 thumbprint.
func (k *SigningKey) ID() string { return k.id }

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

// MarshalKeySet is the public halves as a JWKS.
func MarshalKeySet(keys ...*SigningKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "ES256", Use: "sig"})
	}
	return json.Marshal(set)
}
