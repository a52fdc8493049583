package lockkeeper

import (
	"errors"
	"fmt"
)

// A Kind says what the caller can do about an error. One table in the edges
// maps it to an HTTP status and an exit code.
type Kind uint8

// The kinds of error. An error without a kind is a fault of ours: the caller
// sees "internal error" and an id, the log has the cause.
const (
	Invalid         Kind = iota + 1 // the request is malformed; mend it
	Unauthenticated                 // nobody vouches for the caller
	Forbidden                       // the caller is known and may not
	NotFound                        // what is named does not exist, or not for this caller
	Conflict                        // the state has moved; look again
	Unavailable                     // try again later; nothing was decided
	Limited                         // too many attempts; wait
)

var kindNames = [...]string{"", "invalid", "unauthenticated", "forbidden", "not_found", "conflict", "unavailable", "limited"}

// String is the name of the kind as the API shows it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// A Refusal is an error made for the caller's eyes: a stable code, a sentence,
// the way out, and the decision behind it if there is one.
type Refusal struct {
	Kind     Kind
	Code     string // stable: token_expired
	Sentence string
	Next     string    // what to do, a sentence
	Field    string    // the file, line, field or id that is meant, if any
	Decision *Decision // the reasons, when the refusal is a verdict
	Cause    error     // for the log only, never shown
}

// Errorf makes a refusal of kind k with a stable code and a sentence.
func (k Kind) Errorf(code, format string, args ...any) *Refusal {
	return &Refusal{Kind: k, Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// Error is the sentence with what it is about and the way out.
func (r *Refusal) Error() string {
	s := r.Sentence
	if r.Field != "" {
		s = r.Field + ": " + s
	}
	if r.Next != "" {
		s += " " + r.Next
	}
	return s + " [" + r.Code + "]"
}

// Unwrap is the cause that only the log may show.
func (r *Refusal) Unwrap() error { return r.Cause }

// WithNext adds the way out.
func (r *Refusal) WithNext(format string, args ...any) *Refusal {
	r.Next = fmt.Sprintf(format, args...)
	return r
}

// WithField names the file, line, field or id that is meant.
func (r *Refusal) WithField(field string) *Refusal { r.Field = field; return r }

// WithCause keeps the cause for the log.
func (r *Refusal) WithCause(err error) *Refusal { r.Cause = err; return r }

// WithDecision attaches the reasons.
func (r *Refusal) WithDecision(d Decision) *Refusal { r.Decision = &d; return r }

// RefusalOf returns the refusal in err's chain, or nil if err is a fault of
// ours.
func RefusalOf(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// KindOf is the kind of err, or 0 if it has none.
func KindOf(err error) Kind {
	if r := RefusalOf(err); r != nil {
		return r.Kind
	}
	return 0
}
