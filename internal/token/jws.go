package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/lockkeeper/lockkeeper"
)

// Unverified is a token that was read and not believed yet.
type Unverified struct {
	raw       string
	algorithm string
	keyID     string
	claims    Claims
}

// headerMembers are the members that a header may have. x5t and x5t#S256 name a
// certificate; some platforms send them, and they are not used.
var headerMembers = []string{"alg", "kid", "typ", "x5t", "x5t#S256"}

func malformed(format string, args ...any) error {
	return lockkeeper.Unauthenticated.Errorf("token_malformed", "The token is malformed: "+format+".", args...).
		WithNext("Send the token exactly as the CI platform gave it.")
}

// Parse reads a compact JWS (RFC 7515) strictly, and refuses any algorithm that
// is not listed. Errors are Unauthenticated, with the codes token_malformed and
// token_algorithm; they never hold a part of the token.
func Parse(raw string, algorithms []string) (Unverified, error) {
	if len(raw) > MaxToken {
		return Unverified{}, malformed("it has %d bytes, more than %d", len(raw), MaxToken)
	}
	if strings.Count(raw, ".") != 2 {
		return Unverified{}, malformed("it does not have three parts")
	}
	parts := strings.Split(raw, ".")
	var decoded [3][]byte
	for i, p := range parts {
		b, err := decodeSegment(p)
		if err != nil || len(b) == 0 {
			return Unverified{}, malformed("part %d is not canonical base64url", i+1)
		}
		decoded[i] = b
	}
	header, err := object(decoded[0])
	if err != nil {
		return Unverified{}, malformed("its header: %v", err)
	}
	for name := range header {
		if !slices.Contains(headerMembers, name) {
			return Unverified{}, malformed("its header has a member that is not admitted")
		}
	}
	u := Unverified{raw: raw}
	var typ string
	if err := text(header, "alg", &u.algorithm, true); err != nil {
		return u, malformed("its header: %v", err)
	}
	if err := text(header, "kid", &u.keyID, true); err != nil || u.keyID == "" || len(u.keyID) > 256 {
		return u, malformed("its header names no key")
	}
	if err := text(header, "typ", &typ, false); err != nil || typ != "" && !strings.EqualFold(typ, "JWT") {
		return u, malformed("its type is not JWT")
	}
	if !slices.Contains(algorithms, u.algorithm) || strings.HasPrefix(u.algorithm, "HS") || strings.EqualFold(u.algorithm, "none") {
		return u, lockkeeper.Unauthenticated.Errorf("token_algorithm", "The token's algorithm is not one of %s.", strings.Join(algorithms, ", ")).
			WithNext("Use a CI platform that signs with one of them.")
	}
	members, err := object(decoded[1])
	if err != nil {
		return u, malformed("its claims: %v", err)
	}
	u.claims = Claims{members}
	return u, nil
}

func text(m map[string]json.RawMessage, name string, to *string, needed bool) error {
	raw, ok := m[name]
	if !ok {
		if needed {
			return fmt.Errorf("%s is missing", name)
		}
		return nil
	}
	if len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("%s is no text", name)
	}
	return json.Unmarshal(raw, to)
}

// Issuer is the iss that the token claims, for choosing among issuers that are
// known; "" if it claims none. It is not to be believed.
func (u Unverified) Issuer() string {
	iss, _, err := u.claims.String("iss")
	if err != nil {
		return ""
	}
	return iss
}

// Algorithm is what the token says that it is signed with.
func (u Unverified) Algorithm() string { return u.algorithm }

// KeyID is the key that the token names.
func (u Unverified) KeyID() string { return u.keyID }

// Verify checks the signature with the one key of the set that the token names.
// Errors are Unauthenticated, with the codes token_key_unknown and
// token_signature.
func (u Unverified) Verify(keys KeySet) (Claims, error) {
	k, ok := keys.keys[u.keyID]
	if !ok {
		return Claims{}, lockkeeper.Unauthenticated.Errorf("token_key_unknown", "The token names a key that its issuer does not publish.").
			WithNext("Fetch a fresh token; if it goes on, the issuer's key set is not what signs.")
	}
	bad := lockkeeper.Unauthenticated.Errorf("token_signature", "The token's signature does not hold.").WithNext("Send the token exactly as the CI platform gave it.")
	if k.algorithm != "" && k.algorithm != u.algorithm || !fits(k.key, u.algorithm) {
		return Claims{}, bad
	}
	signed, err := jose.ParseSignedCompact(u.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(u.algorithm)})
	if err != nil {
		return Claims{}, bad
	}
	if _, err := signed.Verify(k.key); err != nil {
		return Claims{}, bad
	}
	return u.claims, nil
}
