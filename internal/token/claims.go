package token

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Claims are the members of a token's payload, by exact name.
type Claims struct {
	members map[string]json.RawMessage
}

// Has reports whether the claim is there, whatever its type.
func (c Claims) Has(name string) bool { _, ok := c.members[name]; return ok }

// Object is a claim that is an object, as claims of their own.
func (c Claims) Object(name string) (Claims, bool, error) {
	raw, ok := c.members[name]
	if !ok {
		return Claims{}, false, nil
	}
	members, err := object(raw)
	if err != nil {
		return Claims{}, false, fmt.Errorf("the claim %s is no object", name)
	}
	return Claims{members}, true, nil
}

// Text is a claim that is a text or a whole number, as a text: some issuers
// write ids as numbers. Any other type is an error.
func (c Claims) Text(name string) (string, bool, error) {
	raw, ok := c.members[name]
	if ok && len(raw) > 0 && raw[0] != '"' {
		if s := string(raw); strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0') {
			return s, true, nil
		}
	}
	return c.String(name)
}

// Digest is SHA-256 over the canonical JSON (RFC 8785) of all claims: what a
// token without an id is known by, however it was spelt.
func (c Claims) Digest() (lockkeeper.Digest, error) {
	b, err := lockkeeper.Canonical(c.members)
	if err != nil {
		return "", err
	}
	return lockkeeper.DigestOf(b), nil
}

// String is a claim that is a text. A claim that is absent is not an error and
// not "": the second result tells. Any other type is an error.
func (c Claims) String(name string) (string, bool, error) {
	raw, ok := c.members[name]
	if !ok {
		return "", false, nil
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false, fmt.Errorf("the claim %s is no text", name)
	}
	return s, true, nil
}

// Strings is a claim that is a text or a list of texts.
func (c Claims) Strings(name string) ([]string, bool, error) {
	raw, ok := c.members[name]
	if !ok {
		return nil, false, nil
	}
	if raw[0] == '"' {
		s, ok, err := c.String(name)
		return []string{s}, ok, err
	}
	var pointers []*string
	if raw[0] != '[' || json.Unmarshal(raw, &pointers) != nil {
		return nil, false, fmt.Errorf("the claim %s is no list of texts", name)
	}
	out := make([]string, len(pointers))
	for i, p := range pointers {
		if p == nil {
			return nil, false, fmt.Errorf("the claim %s is no list of texts", name)
		}
		out[i] = *p
	}
	return out, true, nil
}

// Time is a claim that is a NumericDate (RFC 7519, section 2): seconds since
// 1970, perhaps with a fraction, from 0 up to the year 9999.
func (c Claims) Time(name string) (time.Time, bool, error) {
	raw, ok := c.members[name]
	if !ok {
		return time.Time{}, false, nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f >= 253402300800 {
		return time.Time{}, false, fmt.Errorf("the claim %s is no time", name)
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true, nil
}
