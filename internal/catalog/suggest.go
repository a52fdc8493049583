package catalog

import (
	"slices"
	"strings"
)

// maxComparisons bounds the work of all suggestions of one report.
const maxComparisons = 100_000

// suggest is "Did you mean …?" with the nearest of known, or otherwise.
func (c *collector) suggest(word string, known []string, otherwise string) string {
	if c.compared += len(known); c.compared > maxComparisons {
		return otherwise
	}
	if near := nearest(word, known); near != "" {
		return `Did you mean "` + near + `"?`
	}
	return otherwise
}

// nearest is the one of known that fewest edits part from word, if they are few
// for its length; "" if none is near. Of equals it is the first by name.
func nearest(word string, known []string) string {
	if len(word) > maxKeyBytes {
		return ""
	}
	best, found := max(1, len(word)/3)+1, ""
	for _, k := range slices.Sorted(slices.Values(known)) {
		if n := len(k) - len(word); n >= best || -n >= best {
			continue
		}
		if d := edits(strings.ToLower(word), strings.ToLower(k)); d < best {
			best, found = d, k
		}
	}
	return found
}

// edits is the optimal string alignment distance: insertions, deletions,
// replacements and swaps of neighbours.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
