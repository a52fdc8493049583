package catalog

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Defaults and bounds of a BreakGlass.
const (
	DefaultBreakGlass       = time.Hour
	DefaultBreakGlassBudget = 2
	DefaultReview           = 72 * time.Hour

	mostBreakGlass = 20
	mostReviewers  = 10
)

// BudgetLimit is how often the glass may be broken in a quarter.
func (b BreakGlass) BudgetLimit() int { return cmp.Or(b.Budget, DefaultBreakGlassBudget) }

// LongestActivation is the longest that one activation may last.
func (b BreakGlass) LongestActivation() time.Duration {
	return orDefault(b.Longest, DefaultBreakGlass)
}

// ReviewTime is how long a review may stay open before it is overdue.
func (b BreakGlass) ReviewTime() time.Duration { return orDefault(b.Review, DefaultReview) }

// Needed is how many persons close a review.
func (r Reviewers) Needed() int { return cmp.Or(r.Count, 1) }

func (v *rules) breakGlass(r *resource, rule *ActivationRule) {
	b := rule.BreakGlass
	if b == nil {
		return
	}
	for _, n := range []struct {
		path               string
		value, least, most Duration // a number stands as one
	}{
		{"breakGlass.longest", b.Longest, Duration(5 * time.Minute), Duration(4 * time.Hour)}, {"breakGlass.review", b.Review, Duration(time.Hour), Duration(720 * time.Hour)},
		{"breakGlass.budget", Duration(b.Budget), 1, mostBreakGlass}, {"breakGlass.reviewers.count", Duration(b.Reviewers.Count), 1, mostReviewers},
	} {
		if !r.says(n.path) || n.value >= n.least && n.value <= n.most {
			continue
		}
		if n.least == 1 {
			v.add(r, n.path, "count_out_of_bounds", fmt.Sprintf("The field %s is %d; it must be from 1 to %d.", n.path, n.value, n.most), "Choose a number within these, or leave the field out for the default.")
		} else {
			v.add(r, n.path, "duration_out_of_bounds", fmt.Sprintf("The field %s is %s; it must be from %s to %s.", n.path, time.Duration(n.value), time.Duration(n.least), time.Duration(n.most)), "Choose a length within these, or leave the field out for the default.")
		}
	}
	if len(b.Reviewers.Groups) == 0 {
		v.add(r, "breakGlass.reviewers.groups", "groups_missing", "Nobody reviews what is done under broken glass.", "Name the groups whose members review it.")
	}
	for i, g := range b.Reviewers.Groups {
		v.reference(r, fmt.Sprintf("breakGlass.reviewers.groups[%d]", i), Key{Kind: GroupKind, Name: g})
	}
}

// says reports whether a document has the field at a path of names.
func (r *resource) says(path string) bool {
	n := r.root
	for part := range strings.SplitSeq(path, ".") {
		if n = n.field(part); n == nil {
			return false
		}
	}
	return true
}

// breakGlass reports what becomes possible without approval, and what is looked at
// later, by fewer or by others.
func (w *weakening) breakGlass(a, b *BreakGlass) {
	switch {
	case b == nil:
		return
	case a == nil:
		w.when(true, "the role may be activated without approval, by breaking the glass")
		return
	}
	w.when(b.BudgetLimit() > a.BudgetLimit(), "the glass may be broken %d times a quarter instead of %d", b.BudgetLimit(), a.BudgetLimit())
	w.when(b.LongestActivation() > a.LongestActivation(), "an activation by breaking the glass may last %s instead of %s", b.LongestActivation(), a.LongestActivation())
	w.when(b.ReviewTime() > a.ReviewTime(), "it may be reviewed after %s instead of %s", b.ReviewTime(), a.ReviewTime())
	w.when(b.Reviewers.Needed() < a.Reviewers.Needed(), "%d instead of %d persons review it", b.Reviewers.Needed(), a.Reviewers.Needed())
	w.more("members of %s may review it", a.Reviewers.Groups, b.Reviewers.Groups)
}
