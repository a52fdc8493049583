package access

import (
	"testing"

	"pgregory.net/rapid"
)

// lively checks a property again, up to ten times as often as one check does, until
// its random worlds were lively enough for it to mean something.
func lively(t *testing.T, enough func() bool, property func(*rapid.T)) {
	t.Helper()
	for range 10 {
		if rapid.Check(t, property); t.Failed() || enough() {
			return
		}
	}
}
