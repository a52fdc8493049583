package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every invariant that docs/gate-invariants.md lists has a test that carries its number,
// and every such test is of one that it lists.
func TestEveryGateInvariantIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, folder := range []string{".", "../web", "../gate"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		must(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			must(t, err)
			for _, m := range regexp.MustCompile(`(?m)^func TestGates(\d\d)`).FindAllStringSubmatch(string(data), -1) {
				tested[strings.TrimPrefix(m[1], "0")] = true
			}
		}
	}
	page, err := os.ReadFile("../../docs/gate-invariants.md")
	must(t, err)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(string(page), -1) {
		listed[m[1]] = true
	}
	for n := 1; n <= 33; n++ {
		if number := fmt.Sprint(n); !listed[number] || !tested[number] {
			t.Errorf("invariant %d: listed %v, tested %v", n, listed[number], tested[number])
		}
	}
	if len(tested) != len(listed) {
		t.Errorf("%d are listed, and %d tested", len(listed), len(tested))
	}
}
