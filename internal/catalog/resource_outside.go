package catalog

import (
	"slices"
	"strings"
	"time"
)

// A CallCheck asks a service about an ask, again and again while the ask waits, and
// passes as long as the service says yes. No answer is no yes.
type CallCheck struct {
	// Service is the call. Its criteria see ask with the fields of check calls and, as
	// ask["parameter.NAME"], the parameters; retry, 1m by default, is the time between
	// two questions. within stands beside it and not in it.
	Service Call `json:"service"`
	// Steady is for how long the service must have said yes without a break; default:
	// one yes is enough.
	Steady *Steady `json:"steady,omitempty"`
	// Validity is how long a yes counts after which none came; default 5m, or twice
	// what the next one may take. With callback: the patience.
	Validity Duration `json:"validity,omitempty"`
	// Within is how long the service has: an ask whose check does not pass by then has
	// failed. Default and most: the patience.
	Within Duration `json:"within,omitempty"`
	// Callback lets the service answer once, later, at a signed address that the
	// question names. What it posts there is held against the criteria; a no is final.
	Callback bool `json:"callback,omitempty"`
}

// A Steady time is one without a bad answer and without a missing one.
type Steady struct {
	Answers int      `json:"answers,omitempty"` // good ones in a row; default 1, at most 100
	For     Duration `json:"for,omitempty"`     // from the first to the newest of them; default: not asked, at most 24h
}

// Defaults and bounds of checks that ask services.
const (
	DefaultCheckRetry    = time.Minute
	DefaultCheckValidity = 5 * time.Minute
	mostAnswers          = 100
	mostSteady           = 24 * time.Hour
	mostQuestions        = 5000 // of one check about one ask
)

// CheckFacts are the fields of ask in the criteria of a check's call, and the places of
// its URL: {digest}. Parameters are parameter.NAME in both. now is RFC 3339, and utc is
// the same instant as 2026-11-25 09:00:00, which sorts as text.
func CheckFacts() []string {
	return []string{"id", "digest", "action", "project", "environment", "pipeline", "stage", "repository", "run", "ref", "commit", "now", "utc"}
}

// PastPlace is how long before now a place such as {now-5m} is.
func PastPlace(name string) (time.Duration, bool) {
	text, is := strings.CutPrefix(name, "now-")
	d, err := time.ParseDuration(text)
	return d, is && err == nil && d > 0 && d <= 7*24*time.Hour && d%time.Second == 0
}

// ParameterFact is the name of a parameter among the facts of an ask.
func ParameterFact(name string) string { return "parameter." + name }

// Outside is the check as a call to a service; false if it asks none.
func (c Check) Outside() (CallCheck, bool) {
	switch {
	case c.Call != nil:
		return *c.Call, true
	case c.Metrics != nil:
		return c.Metrics.call(), true
	case c.Change != nil:
		return c.Change.call(), true
	}
	return CallCheck{}, false
}

// Asks is the call with all that it leaves open, as it is recorded.
func (c CallCheck) Asks() Call {
	out := c.Service
	out.Retry, out.Within = Duration(orDefault(out.Retry, DefaultCheckRetry)), 0
	return out
}

// LeastValidity is the least for which a yes must count, so that the next one can come
// in time.
func (c CallCheck) LeastValidity() time.Duration {
	a := c.Asks()
	return 2 * (a.RetryEvery() + a.TimeoutLimit())
}

// ValidityLimit is how long a yes counts.
func (c CallCheck) ValidityLimit(patience time.Duration) time.Duration {
	if c.Callback {
		return orDefault(c.Validity, patience)
	}
	return orDefault(c.Validity, max(DefaultCheckValidity, c.LeastValidity()))
}

// Places are the names that a URL leaves open, in braces.
func Places(text string) []string {
	var out []string
	for {
		_, rest, found := strings.Cut(text, "{")
		if !found {
			return out
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return append(out, rest)
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
		text = after
	}
}
