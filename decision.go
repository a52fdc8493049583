package lockkeeper

import (
	"slices"
	"time"
)

// A Verdict is the outcome of a decision.
type Verdict string

// The verdicts. Only Pass lets anything through: an Error is neither a reasoned
// refusal nor a pass.
const (
	Pass  Verdict = "pass"
	Fail  Verdict = "fail" // final for this ask
	Wait  Verdict = "wait" // may pass later, without a new ask
	Error Verdict = "error"
)

// A Decision is a verdict that explains itself: it says what was decided, why,
// what to do next, and the decisions it rests on. API replies, terminal tables,
// pages and journal entries are renderings of this one value.
type Decision struct {
	Subject  string     `json:"subject"`           // what was judged: "check two-people", "deployments/start at /projects/p"
	Verdict  Verdict    `json:"verdict"`           //
	Code     string     `json:"code"`              // stable reason code: approvals_missing
	Sentence string     `json:"sentence"`          // why, for a person
	Next     string     `json:"next,omitempty"`    // the way out, when the verdict is not Pass
	Until    *Moment    `json:"until,omitempty"`   // a Pass holds before this moment; nil: until the facts change
	Because  []Decision `json:"because,omitempty"` // every reason, not the first
}

// Passed reports whether the verdict is Pass and still holds at now.
func (d Decision) Passed(now Moment) bool {
	return d.Verdict == Pass && (d.Until == nil || now.Before(*d.Until))
}

// Equal reports whether d and o say the same, in every reason.
func (d Decision) Equal(o Decision) bool {
	return d.Verdict == o.Verdict && d.Code == o.Code && d.Subject == o.Subject && d.Sentence == o.Sentence && d.Next == o.Next &&
		(d.Until == o.Until || d.Until != nil && o.Until != nil && d.Until.t.Equal(o.Until.t)) && slices.EqualFunc(d.Because, o.Because, Decision.Equal)
}

// All joins decisions of which each must pass. The verdict is the worst one
// (Fail, then Error, then Wait, then Pass), its code and way out are those of
// the first decision that has it, and the end of validity is the earliest. No
// decisions at all is a Fail: an empty list of demands never lets anything in.
func All(subject string, sentence string, because ...Decision) Decision {
	d := Decision{Subject: subject, Verdict: Pass, Code: "passed", Sentence: sentence, Because: because}
	if len(because) == 0 {
		d.Verdict, d.Code, d.Sentence = Fail, "nothing_demanded", "Nothing was checked, and nothing checked is nothing passed."
		d.Next = "Give the environment at least one check."
		return d
	}
	for _, b := range because {
		if b.Until != nil && (d.Until == nil || b.Until.Before(*d.Until)) {
			d.Until = b.Until
		}
		if rank(b.Verdict) > rank(d.Verdict) {
			d.Verdict, d.Code, d.Sentence, d.Next = b.Verdict, b.Code, b.Sentence, b.Next
		}
	}
	if d.Verdict != Pass {
		d.Until = nil
	}
	return d
}

func rank(v Verdict) int {
	switch v {
	case Pass:
		return 0
	case Wait:
		return 1
	case Error:
		return 2
	case Fail:
		return 3
	}
	return 4 // an unknown verdict is worse than any
}

// A Moment is an instant in UTC with millisecond precision, the precision of
// the journal. Its zero value is the zero time.
type Moment struct{ t time.Time }

// MomentOf truncates t to a millisecond in UTC.
func MomentOf(t time.Time) Moment { return Moment{t.UTC().Truncate(time.Millisecond).Round(0)} }

// Time is the instant as a time.Time in UTC.
func (m Moment) Time() time.Time { return m.t }

// Before reports whether m lies before o.
func (m Moment) Before(o Moment) bool { return m.t.Before(o.t) }

// Add is m moved by d, truncated to a millisecond.
func (m Moment) Add(d time.Duration) Moment { return MomentOf(m.t.Add(d)) }

// Sub is the time from o to m.
func (m Moment) Sub(o Moment) time.Duration { return m.t.Sub(o.t) }

// IsZero reports whether m is the zero value, which means "not set".
func (m Moment) IsZero() bool { return m.t.IsZero() }

// String is RFC 3339 in UTC with milliseconds.
func (m Moment) String() string { return m.t.Format("2006-01-02T15:04:05.000Z07:00") }

// MarshalText writes RFC 3339 with milliseconds.
func (m Moment) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads RFC 3339.
func (m *Moment) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return err
	}
	*m = MomentOf(t)
	return nil
}
