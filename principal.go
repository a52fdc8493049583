package lockkeeper

import (
	"fmt"
	"strings"
)

// A Principal is whom an assignment is made to, written user:NAME, group:NAME or,
// for one that is eligible, workload:PROJECT/PIPELINE/STAGE.
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

	WorkloadPrincipal PrincipalKind = "workload" // a stage of a pipeline
)

// ParsePrincipal reads user:NAME, group:NAME or workload:PROJECT/PIPELINE/STAGE.
func ParsePrincipal(s string) (Principal, error) {
	kind, name, ok := strings.Cut(s, ":")
	p := Principal{PrincipalKind(kind), name}
	if p.Kind == WorkloadPrincipal {
		parts := strings.Split(name, "/")
		for _, part := range parts {
			if err := CheckName(part); err != nil || len(parts) != 3 {
				return Principal{}, fmt.Errorf("the principal %q must be workload:PROJECT/PIPELINE/STAGE", s)
			}
		}
		return p, nil
	}
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
