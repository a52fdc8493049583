package keeper

import (
	"strings"
	"testing"
)

// A subject is one for each identity in its environment, and short enough for
// every cloud.
func TestSubjectOf(t *testing.T) {
	long := strings.Repeat("n", 63)
	seen := map[string]bool{}
	for _, s := range []string{SubjectOf("p", "e", "i"), SubjectOf("p", "e2", "i"), SubjectOf("p2", "e", "i"), SubjectOf("p", "e", "i2"), SubjectOf("p", "i", "e"),
		SubjectOf(long, long, long), SubjectOf(long, long, long[1:]+"m")} {
		if seen[s] || len(s) > 127 || !strings.HasPrefix(s, "lk:") {
			t.Errorf("the subject %q", s)
		}
		seen[s] = true
	}
}
