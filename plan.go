package lockkeeper

import (
	"fmt"
	"sort"
)

// A Plan is what an ask says that its job will carry out: the digest of a plan that a
// stage recorded. Whoever approves the ask approves that plan.
type Plan struct {
	Kind   string `json:"kind"` // terraform or helm
	Digest Digest `json:"digest"`
}

// MaxPlans is how many plans an ask may carry, each of a kind of its own.
const MaxPlans = 4

// NewPlans sorts list by kind and refuses too many, and a kind that stands twice.
func NewPlans(list []Plan) ([]Plan, error) {
	if len(list) > MaxPlans {
		return nil, fmt.Errorf("%d plans are more than %d", len(list), MaxPlans)
	}
	sorted := append([]Plan(nil), list...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Kind < sorted[j].Kind })
	for i, p := range sorted {
		if err := CheckName(p.Kind); err != nil {
			return nil, err
		}
		if _, err := ParseDigest(string(p.Digest)); err != nil {
			return nil, err
		}
		if i > 0 && sorted[i-1].Kind == p.Kind {
			return nil, fmt.Errorf("two plans are of the kind %q", p.Kind)
		}
	}
	return sorted, nil
}
