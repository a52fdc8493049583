package keeper

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// untilSeen checks a property on random sequences, up to ten times as many as one
// check has, until each of what must come in them has come: a property is not held
// against what its sequences never reach.
func untilSeen(t *testing.T, seen map[string]int, must []string, property func(*rapid.T)) {
	t.Helper()
	missing := func() []string {
		return slices.DeleteFunc(slices.Clone(must), func(what string) bool { return seen[what] > 0 })
	}
	for range 10 {
		if rapid.Check(t, property); t.Failed() || len(missing()) == 0 {
			return
		}
	}
	t.Errorf("never saw %q (saw %v)", missing(), seen)
}
