package catalog

import (
	"cmp"
	"fmt"
	"time"
)

// An Override lets several persons, none of whom stands behind the run, waive soft
// checks of one ask, for a time and for a debt: a review.
type Override struct {
	Count  int      `json:"count,omitempty"` // distinct persons who must approve it; default 2, 2 to 10
	Groups []string `json:"groups"`          // out of which they are; they hold deployments/approve, too
	// SignedIn is how long before the approval its giver may have shown a credential;
	// default 15m, 1m to 24h.
	SignedIn Duration `json:"signedIn,omitempty"`
	Weak     bool     `json:"weak,omitempty"`     // a password alone is enough; without, more must have been shown
	Longest  Duration `json:"longest,omitempty"`  // how long what it waives is waived, and the lease that it lets through lasts; default 1h, 5m to 4h
	Patience Duration `json:"patience,omitempty"` // how long it may wait for approvals; default 1h, 5m to 24h
	Budget   int      `json:"budget,omitempty"`   // of the environment in a calendar quarter (UTC); default 2, 1 to 20
	Review   Duration `json:"review,omitempty"`   // until when it is reviewed; default 72h, 1h to 720h
	// Reviewers take part in nothing of it, and close its review.
	Reviewers Reviewers `json:"reviewers"`
}

// Defaults and bounds of an Override.
const (
	DefaultOverride         = time.Hour
	DefaultOverridePersons  = 2
	DefaultOverrideBudget   = 2
	DefaultOverrideSignedIn = 15 * time.Minute
)

// Needed is how many persons approve an override.
func (o Override) Needed() int { return cmp.Or(o.Count, DefaultOverridePersons) }

// BudgetLimit is how often the environment may be overridden in a quarter.
func (o Override) BudgetLimit() int { return cmp.Or(o.Budget, DefaultOverrideBudget) }

// LongestOverride is how long it waives.
func (o Override) LongestOverride() time.Duration { return orDefault(o.Longest, DefaultOverride) }

// PatienceLimit is how long it may wait for approvals.
func (o Override) PatienceLimit() time.Duration { return orDefault(o.Patience, DefaultOverride) }

// ReviewTime is how long its review may stay open before it is overdue.
func (o Override) ReviewTime() time.Duration { return orDefault(o.Review, DefaultReview) }

// Approval is what it takes, as a check.
func (o Override) Approval() Check {
	return Check{Name: "override", Approval: &Approval{Count: o.Needed(), Groups: o.Groups, SignedIn: Duration(orDefault(o.SignedIn, DefaultOverrideSignedIn)), Strong: !o.Weak}}
}

func (v *rules) override(r *resource, e *Environment) {
	o := e.Override
	if o == nil {
		return
	}
	for _, n := range []struct {
		path               string
		value, least, most Duration // a number stands as one
	}{
		{"override.longest", o.Longest, Duration(5 * time.Minute), Duration(4 * time.Hour)}, {"override.patience", o.Patience, Duration(5 * time.Minute), Duration(24 * time.Hour)},
		{"override.signedIn", o.SignedIn, Duration(time.Minute), Duration(24 * time.Hour)}, {"override.review", o.Review, Duration(time.Hour), Duration(720 * time.Hour)},
		{"override.budget", Duration(o.Budget), 1, mostBreakGlass}, {"override.count", Duration(o.Count), 2, mostReviewers}, {"override.reviewers.count", Duration(o.Reviewers.Count), 1, mostReviewers},
	} {
		if !r.says(n.path) || n.value >= n.least && n.value <= n.most {
			continue
		}
		if n.most < Duration(time.Second) {
			v.add(r, n.path, "count_out_of_bounds", fmt.Sprintf("The field %s is %d; it must be from %d to %d.", n.path, n.value, n.least, n.most), "Choose a number within these, or leave the field out for the default.")
		} else {
			v.add(r, n.path, "duration_out_of_bounds", fmt.Sprintf("The field %s is %s; it must be from %s to %s.", n.path, time.Duration(n.value), time.Duration(n.least), time.Duration(n.most)), "Choose a length within these, or leave the field out for the default.")
		}
	}
	for path, groups := range map[string][]string{"override.groups": o.Groups, "override.reviewers.groups": o.Reviewers.Groups} {
		if len(groups) == 0 {
			v.add(r, path, "groups_missing", "The field "+path+" names nobody.", "Name the groups whose members may.")
		}
		for i, g := range groups {
			v.reference(r, fmt.Sprintf("%s[%d]", path, i), Key{Kind: GroupKind, Name: g})
		}
	}
}

// softUnfit refuses a soft check that no override may waive: no person's word stands in
// for a signature, nor for the order in which deployments run.
func (v *rules) softUnfit(r *resource, at string, c Check) {
	switch {
	case !c.Soft:
	case c.Lock != nil:
		v.add(r, at+".soft", "soft_unfit", "A lock is never soft: two deployments at once are no exception that persons could approve.", "Take soft out.")
	case c.Provenance != nil || c.Attestation != nil:
		v.add(r, at+".soft", "soft_unfit", "What a signature proves is never soft: who approves an exception cannot vouch for what was built.", "Take soft out.")
	}
}

// override reports what becomes possible past soft checks, and what is looked at
// later, by fewer or by others.
func (w *weakening) override(a, b *Override) {
	switch {
	case b == nil:
		return
	case a == nil:
		w.when(true, "soft checks may be waived by an override")
		return
	}
	w.when(b.Needed() < a.Needed(), "an override takes %d persons instead of %d", b.Needed(), a.Needed())
	w.more("members of %s may approve an override", a.Groups, b.Groups)
	w.when(orDefault(b.SignedIn, DefaultOverrideSignedIn) > orDefault(a.SignedIn, DefaultOverrideSignedIn), "an override takes approvals of an older sign-in")
	w.when(b.Weak && !a.Weak, "an override takes approvals without a second factor")
	w.when(b.LongestOverride() > a.LongestOverride(), "an override holds for %s instead of %s", b.LongestOverride(), a.LongestOverride())
	w.when(b.PatienceLimit() > a.PatienceLimit(), "an override and its approvals may wait %s instead of %s", b.PatienceLimit(), a.PatienceLimit())
	w.when(b.BudgetLimit() > a.BudgetLimit(), "there may be %d overrides a quarter instead of %d", b.BudgetLimit(), a.BudgetLimit())
	w.when(b.ReviewTime() > a.ReviewTime(), "an override may be reviewed after %s instead of %s", b.ReviewTime(), a.ReviewTime())
	w.when(b.Reviewers.Needed() < a.Reviewers.Needed(), "%d instead of %d persons review an override", b.Reviewers.Needed(), a.Reviewers.Needed())
	w.more("members of %s may review an override", a.Reviewers.Groups, b.Reviewers.Groups)
}
