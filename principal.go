package lockkeeper

import (
	"fmt"
	"strings"
)

// A Principal is whom an assignment is made to, written user:NAME or
// group:NAME.
type Principal struct {
	Kind PrincipalKind
	Name string
}

// A PrincipalKind says what a principal is.
type PrincipalKind string

// The kinds of principal that an assignment may name.
const (
	UserPrincipal  PrincipalKind = "user"
	GroupPrincipal PrincipalKind = "group"
)

// ParsePrincipal reads user:NAME or group:NAME.
func ParsePrincipal(s string) (Principal, error) {
	kind, name, ok := strings.Cut(s, ":")
	p := Principal{PrincipalKind(kind), name}
	if !ok || p.Kind != UserPrincipal && p.Kind != GroupPrincipal {
		return Principal{}, fmt.Errorf("the principal %q must be user:NAME or group:NAME", s)
	}
	if err := CheckName(name); err != nil {
		return Principal{}, fmt.Errorf("the principal %q: %w", s, err)
	}
	return p, nil
}

// String is the spelling that ParsePrincipal reads.
func (p Principal) String() string { return string(p.Kind) + ":" + p.Name }

// MarshalText writes the spelling that ParsePrincipal reads.
func (p Principal) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePrincipal.
func (p *Principal) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePrincipal(string(b))
	return err
}

// A Person is the human behind one or more users. Separation of duties compares
// persons, never accounts.
type Person string
