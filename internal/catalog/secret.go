package catalog

import (
	"math"
	"regexp"
	"strings"
)

// secretShapes are spellings that nothing but a secret has.
var secretShapes = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY|\bPuTTY-User-Key-File-` +
	`|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}` + // GitHub
	`|\bGR1348941[A-Za-z0-9_-]{20}` + // GitLab, older
	`|\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}` + // AWS, Google
	`|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bxapp-[0-9]-[A-Za-z0-9-]{20,}|\bhooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}` + // Slack
	`|\bsk_(?:live|test)_[A-Za-z0-9]{16,}|\bnpm_[A-Za-z0-9]{30,}|\bdop_v1_[a-f0-9]{32,}|\bhvs\.[A-Za-z0-9_-]{24,}|\bdckr_pat_[A-Za-z0-9_-]{20,}` +
	`|\b[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}\b` + // Azure DevOps
	`|\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}` + // Microsoft Entra, an application's secret
	`|\blk[his]_[a-z2-7]{32}\b|\blk[pd]_[a-z2-7]{16}_[a-z2-7]{32}\b` + // Lockkeeper's own
	`|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*` + // signed tokens
	`|\beyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.`) // encrypted ones

// gitlabToken is a token of GitLab, if its first group is not words in lower
// case, as in the name glrt-production-runners.
var gitlabToken = regexp.MustCompile(`\bgl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|wt|soat|ffct)-([A-Za-z0-9_-]{16,})`)

// secretValues are places where a secret is given by name. The first group of
// a match that is not empty is the value.
var secretValues = []*regexp.Regexp{
	regexp.MustCompile(`(?i)(?:password|passwd|client[_-]?secret)["']?\s*=["']?([^\s;,&"'=][^\s;,&"']{2,})` +
		`|(?i)(?:password|passwd|client[_-]?secret)["']?\s*=\s+["']?([^\s;,&"'=][^\s;,&"']{2,})["']?\s*(?:;|$)`), // what follows a blank may be code or prose
	regexp.MustCompile(`(?i);\s*pwd\s*=\s*["']?([^\s;"'=][^\s;"']{2,})|\bpwd\s*=\s*["']?([^\s;"'=][^\s;"']{2,})["']?\s*;`),
	regexp.MustCompile(`(?i)(?:Account|SharedAccess)Key\s*=\s*([A-Za-z0-9+/]{20,})|\bsig=([A-Za-z0-9+/%_-]{32,})`), // Azure
	regexp.MustCompile(`(?i)secret[ _-]?(?:access[ _-]?)?key["']?\s*[:=]\s*["']?([A-Za-z0-9+/]{40})\b`),            // AWS
}

// urlPassword is user information with a password in a URL, and what follows it.
var urlPassword = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://[^\s/?#@:"']*:([^\s/?#@"']+)@(\S{0,8})`)

// placeholder is what stands for a secret that is elsewhere: <password>,
// ${PASSWORD}, $(password), {password}, %PASSWORD%, ***, and words that are
// none.
var placeholder = regexp.MustCompile(`^(?:<.*|\$\{.*|\$\(.*|\$[A-Za-z_]\w*|#?\{.*|%\w+%|@\w+\.?\w*\(.*|\*+|[xX]+|\.+|…|(?i:true|false|yes|no|none|null|required|optional))$`)

// secret reports whether s looks like a secret: one of the known shapes, a value
// that is given as one, or, unless the field holds ids, a long run of characters
// that no person chose. It cannot know a short password or one made of words,
// and it lets hexadecimal digits pass, because commits and digests look the
// same.
func secret(s string, id bool) bool {
	if secretShapes.MatchString(s) || givenSecret(s) {
		return true
	}
	for _, m := range gitlabToken.FindAllStringSubmatch(s, -1) {
		if strings.Trim(m[1], "abcdefghijklmnopqrstuvwxyz_-") != "" {
			return true
		}
	}
	if id {
		return false
	}
	if len(s) == 40 && mixed(s, "+/=") && entropy(s) >= 4.5 {
		return true
	}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !wordRune(r, "+=_-") }) {
		if len(word) >= 32 && mixed(word, "+=_-") && entropy(word) >= 4.2 && !ofWords(word) || base32Secret(word) {
			return true
		}
	}
	return false
}

// givenSecret reports whether s gives a secret by name: Password=…; of a
// connection string, a key of Azure or AWS, a password in a URL.
func givenSecret(s string) bool {
	if !strings.ContainsAny(s, "=:") { // most values: spare them the searches
		return false
	}
	for _, shape := range secretValues {
		for _, m := range shape.FindAllStringSubmatch(s, -1) {
			if !placeholder.MatchString(strings.Join(m[1:], "")) {
				return true
			}
		}
	}
	for _, m := range urlPassword.FindAllStringSubmatch(s, -1) {
		image := strings.HasPrefix(m[2], "sha256:") || strings.HasPrefix(m[2], "sha512:") // docker://alpine:3.20@sha256:…
		if !image && !placeholder.MatchString(m[1]) {
			return true
		}
	}
	return false
}

// base32Secret reports whether a word is an older personal access token of Azure
// DevOps: 52 lower-case letters and digits of base32, digits among them.
func base32Secret(word string) bool {
	return len(word) == 52 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz234567") == "" && strings.ContainsAny(word, "234567") && entropy(word) >= 3.8
}

// chosenPart is a part between dashes that a person chose, and chosenRun a run
// of letters of one: of JIRA-1234_MainCore1Pool, Main and Core and Pool.
var (
	chosenPart = regexp.MustCompile(`^(?:[A-Z]?[a-z]+|[A-Z]+|[0-9]+)$`)
	chosenRun  = regexp.MustCompile(`[A-Z]?[a-z]{3,}|[A-Z]{4,}`)
)

// ofWords reports whether most letters and digits of a word stand as in names
// that people choose. Of random ones a quarter does.
func ofWords(word string) bool {
	chosen, all := 0, 0
	for _, part := range strings.FieldsFunc(word, func(r rune) bool { return !wordRune(r, "") }) {
		all += len(part)
		if chosenPart.MatchString(part) {
			chosen += len(part)
			continue
		}
		for _, run := range chosenRun.FindAllString(part, -1) {
			chosen += len(run)
		}
	}
	return 100*chosen >= 65*all
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
