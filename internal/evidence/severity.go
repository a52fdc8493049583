package evidence

import (
	"strconv"
	"strings"
)

var severityRank = map[Severity]int{Negligible: 1, Low: 2, Medium: 3, High: 4, Critical: 5}

func (s Severity) rank() int {
	if r, known := severityRank[s]; known {
		return r
	}
	return 6
}

// AtLeast says whether s is as bad as o or worse. What is unknown is worse than
// critical, for nobody has said that it is not.
func (s Severity) AtLeast(o Severity) bool { return s.rank() >= o.rank() }

// severityOf reads how tools spell a severity, in any case; Unknown for the rest.
func severityOf(s string) Severity {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "negligible", "none", "info", "informational":
		return Negligible
	case "low":
		return Low
	case "medium", "moderate":
		return Medium
	case "high", "important":
		return High
	case "critical":
		return Critical
	}
	return Unknown
}

// severityOfScore is the band of a CVSS v3 or v4 base score (CVSS v3.1, section 5).
// The bands of v2 end at high; a score of v2 from 9.0 counts as critical all the same.
func severityOfScore(score float64) Severity {
	switch {
	case score < 0 || score > 10 || score != score:
		return Unknown
	case score == 0:
		return Negligible
	case score < 4:
		return Low
	case score < 7:
		return Medium
	case score < 9:
		return High
	}
	return Critical
}

// worse is the worse of two severities that are known; one that is known is taken
// before one that is not. The zero value is "not rated yet".
func worse(a, b Severity) Severity {
	switch {
	case a == "" || a == Unknown && b != "":
		return b
	case b == "" || b == Unknown:
		return a
	case b.AtLeast(a):
		return b
	}
	return a
}

// scoreOf reads a score that is written as a text.
func scoreOf(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f >= 0 && f <= 10
}
