package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys is how many keys a set may have: what the clouds keep of one.
const maxKeys = 100

// A KeySet is the public keys of one issuer, by kid. It never changes.
type KeySet struct {
	keys map[string]publicKey
}

type publicKey struct {
	key       crypto.PublicKey
	algorithm string // "" if the key does not say
}

// Len is how many usable keys the set has.
func (s KeySet) Len() int { return len(s.keys) }

// Has reports whether the set has a key of this id.
func (s KeySet) Has(kid string) bool { _, ok := s.keys[kid]; return ok }

// jwkMembers are the private members that no published key may have.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// ParseKeySet reads a JWKS (RFC 7517). Keys without an id, for encryption, or
// of kinds that are not used here are passed over; a key that is weak, private
// or has the id of another makes the whole set an error.
func ParseKeySet(data []byte) (KeySet, error) {
	if len(data) > MaxKeySet {
		return KeySet{}, fmt.Errorf("the key set has more than %d bytes", MaxKeySet)
	}
	top, err := object(data)
	if err != nil {
		return KeySet{}, fmt.Errorf("the key set: %w", err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(top["keys"], &list); err != nil || list == nil {
		return KeySet{}, fmt.Errorf("the key set has no list of keys")
	}
	if len(list) > maxKeys {
		return KeySet{}, fmt.Errorf("the key set has %d keys, more than %d", len(list), maxKeys)
	}
	set := KeySet{map[string]publicKey{}}
	for i, raw := range list {
		kid, key, use, err := parseKey(raw)
		if err != nil {
			return KeySet{}, fmt.Errorf("key %d: %w", i, err)
		}
		if !use {
			continue
		}
		if set.Has(kid) {
			return KeySet{}, fmt.Errorf("key %d has the id of another", i)
		}
		set.keys[kid] = key
	}
	return set, nil
}

// parseKey reads one key; use is false for one that is not for us.
func parseKey(raw json.RawMessage) (kid string, key publicKey, use bool, err error) {
	m, err := object(raw)
	if err != nil {
		return "", key, false, err
	}
	var kty, purpose, algorithm string
	for name, to := range map[string]*string{"kid": &kid, "kty": &kty, "use": &purpose, "alg": &algorithm} {
		if err := text(m, name, to, false); err != nil {
			return "", key, false, err
		}
	}
	for _, name := range privateMembers {
		if _, private := m[name]; private && kty != "oct" {
			return "", key, false, fmt.Errorf("it holds private parts")
		}
	}
	if kid == "" || purpose != "" && purpose != "sig" || kty != "RSA" && kty != "EC" {
		return "", key, false, nil
	}
	if ops, ok := m["key_ops"]; ok {
		var list []string
		if err := json.Unmarshal(ops, &list); err != nil {
			return "", key, false, fmt.Errorf("key_ops is no list")
		}
		if !slices.Contains(list, "verify") {
			return "", key, false, nil
		}
	}
	for _, name := range []string{"n", "e", "x", "y"} { // canonical spelling only
		var s string
		if err := text(m, name, &s, false); err != nil {
			return "", key, false, err
		}
		if _, err := decodeSegment(s); err != nil {
			return "", key, false, fmt.Errorf("%s: %w", name, err)
		}
	}
	delete(m, "x5c") // certificates are not used, so they are not parsed
	delete(m, "x5u")
	lean, err := json.Marshal(m)
	if err != nil {
		return "", key, false, err
	}
	var j jose.JSONWebKey
	if err := j.UnmarshalJSON(lean); err != nil || !j.Valid() || !j.IsPublic() {
		return "", key, false, fmt.Errorf("it is no valid public key")
	}
	if err := strong(j.Key); err != nil {
		return "", key, false, err
	}
	return kid, publicKey{j.Key, algorithm}, true, nil
}

func strong(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("its modulus has %d bits, not 2048 to 8192", n)
		}
		if k.E < 65537 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return fmt.Errorf("its exponent or modulus is unfit")
		}
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil {
			return fmt.Errorf("its point is not on the curve")
		}
	default:
		return fmt.Errorf("a %T is not used here", key)
	}
	return nil
}

// fits reports whether a key can have signed with the algorithm (RFC 7518,
// section 3.1).
func fits(key crypto.PublicKey, algorithm string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, algorithm)
	case *ecdsa.PublicKey:
		return algorithm == "ES256" && k.Curve == elliptic.P256() || algorithm == "ES384" && k.Curve == elliptic.P384() || algorithm == "ES512" && k.Curve == elliptic.P521()
	}
	return false
}
