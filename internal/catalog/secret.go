package catalog

import (
	"math"
	"regexp"
	"strings"
)

// secretShapes are spellings that nothing but a secret has.
var secretShapes = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY` +
	`|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}` +
	`|\bgl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{16,}` +
	`|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}` +
	`|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bsk_(?:live|test)_[A-Za-z0-9]{16,}` +
	`|\bnpm_[A-Za-z0-9]{30,}|\bdop_v1_[a-f0-9]{32,}` +
	`|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)

// secret reports whether s looks like a secret: one of the known shapes, or,
// unless the field holds ids, a long run of characters that no person chose.
// It cannot know a short password or one made of words, and it lets hexadecimal
// digits pass, because commits and digests look the same.
func secret(s string, id bool) bool {
	if secretShapes.MatchString(s) {
		return true
	}
	if id {
		return false
	}
	if len(s) == 40 && mixed(s, "+/=") && entropy(s) >= 4.5 {
		return true
	}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !wordRune(r, "+=_-") }) {
		if len(word) >= 32 && mixed(word, "+=_-") && entropy(word) >= 4.2 {
			return true
		}
	}
	return false
}

// mixed reports whether s holds letters of both cases and digits, and beyond
// them only characters of others.
func mixed(s, others string) bool {
	var lower, upper, digit bool
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z':
			lower = true
		case 'A' <= r && r <= 'Z':
			upper = true
		case '0' <= r && r <= '9':
			digit = true
		case !strings.ContainsRune(others, r):
			return false
		}
	}
	return lower && upper && digit
}

func wordRune(r rune, others string) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(others, r)
}

// entropy is the Shannon entropy of s in bits for each byte.
func entropy(s string) float64 {
	var counts [256]float64
	for i := range len(s) {
		counts[s[i]]++
	}
	h := 0.0
	for _, c := range counts {
		if c > 0 {
			p := c / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return h
}
