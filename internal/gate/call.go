package gate

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Met holds what a service answered against the criteria of a call: its status, its
// decoded JSON (nil: it has none) and the facts of the ask. An error means that it
// cannot be decided, which is never a yes.
func Met(c catalog.Call, status int, body any, ask map[string]string) (bool, error) {
	criteria, err := catalog.CompileCriteria(c.Criteria)
	if err != nil {
		if criteria, err = catalog.CompileCheckCriteria(c.Criteria); err != nil {
			return false, err
		}
	}
	return criteria.Hold(status, body, ask)
}

// Address is a call's URL with the facts of the ask in their places, or the name of one
// that is not there, has another form than the call says, or would lead to another
// path. They are escaped, so that none of them leads to another host.
func Address(c catalog.Call, ask map[string]string) (address, missing string) {
	path, query, asked := strings.Cut(c.URL, "?")
	for _, place := range catalog.Places(c.URL) {
		value := placed(place, ask)
		if value == "" || !formed(c, place, value) || strings.Contains(path, "{"+place+"}") && leadsElsewhere(value) {
			return "", place
		}
		path = strings.ReplaceAll(path, "{"+place+"}", url.PathEscape(value))
		query = strings.ReplaceAll(query, "{"+place+"}", url.QueryEscape(value))
	}
	if asked {
		path += "?" + query
	}
	return path, ""
}

// placed is what stands in a place: a fact of the ask, or an instant before its now.
func placed(place string, ask map[string]string) string {
	if before, past := catalog.PastPlace(place); past {
		now, err := time.Parse(time.RFC3339, ask["now"])
		if err != nil {
			return ""
		}
		return now.Add(-before).Format(time.RFC3339)
	}
	return ask[place]
}

// leadsElsewhere reports whether a value would be read as a way up, also by a server
// that takes an escaped slash for one.
func leadsElsewhere(value string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(value, func(c rune) bool { return c == '/' || c == '\\' }), func(s string) bool { return strings.Trim(s, ".") == "" })
}

// formed reports whether a value has the form that the call says of its place.
func formed(c catalog.Call, place, value string) bool {
	for _, p := range c.Places {
		if p.Name != place {
			continue
		}
		pattern, err := catalog.TicketPattern(p.Pattern)
		if err != nil || !pattern.MatchString(value) {
			return false
		}
	}
	return true
}

// A Series is what a service said about one ask, one answer after another, under the
// terms of when it was first asked. It is a fold: Take adds an answer.
type Series struct {
	Answers  int           `json:"answers"`            // good ones in a row that make it steady
	For      time.Duration `json:"for,omitempty"`      // from the first to the newest of them, in nanoseconds
	Every    time.Duration `json:"every"`              // between two questions
	Gap      time.Duration `json:"gap"`                // without a good answer for longer, one is missing
	Validity time.Duration `json:"validity"`           // how long the newest good one counts
	Callback bool          `json:"callback,omitempty"` // one answer, which the service brings itself

	Good      int               `json:"good,omitempty"`     // good answers in a row that are written down
	Since     lockkeeper.Moment `json:"since,omitzero"`     // the first of them
	Last      lockkeeper.Moment `json:"last,omitzero"`      // the newest of them
	Bad       *Said             `json:"bad,omitempty"`      // the newest that was not good, or why there was none
	Said      *Said             `json:"said,omitempty"`     // the newest good one
	Delivered lockkeeper.Moment `json:"delivered,omitzero"` // when a service that answers later took the question
}

// Said is one answer, by its digest, or why there is none.
type Said struct {
	At     lockkeeper.Moment `json:"at,omitzero"`
	Good   bool              `json:"good,omitempty"`
	Status int               `json:"status,omitempty"`
	Body   lockkeeper.Digest `json:"body,omitempty"`
	Code   string            `json:"code,omitempty"`   // of what was not good
	Reason string            `json:"reason,omitempty"` // a sentence without anything that the service wrote
}

// SeriesOf begins the series of a check.
func SeriesOf(c catalog.CallCheck, patience time.Duration) Series {
	asks := c.Asks()
	s := Series{Every: asks.RetryEvery(), Gap: c.LeastValidity(), Validity: c.ValidityLimit(patience), Callback: c.Callback}
	s.Answers, s.For = c.Steadiness()
	return s
}

// SameTerms reports whether two series take the same for steady, and for as long.
func (s Series) SameTerms(o Series) bool {
	return s.Answers == o.Answers && s.For == o.For && s.Every == o.Every && s.Gap == o.Gap && s.Validity == o.Validity && s.Callback == o.Callback
}

// steady reports whether the good answers are enough, whatever has come since.
func (s Series) steady() bool {
	return s.Good >= s.Answers && s.Good > 0 && s.Last.Sub(s.Since) >= s.For
}

// unbroken reports whether the good answers in a row go on at now: none is missing.
// What is steady is not written down at each answer, so that silence shows in it only
// when its validity is over.
func (s Series) unbroken(now lockkeeper.Moment) bool {
	limit := s.Gap
	if s.steady() {
		limit = s.Validity
	}
	return s.Good > 0 && now.Before(s.Last.Add(limit))
}

// Passes reports whether the check passes at now, and until when it does by itself.
func (s Series) Passes(now lockkeeper.Moment) (until lockkeeper.Moment, yes bool) {
	return s.Last.Add(s.Validity), s.steady() && now.Before(s.Last.Add(s.Validity))
}

// Take is the series with one answer more, of the instant at.
func (s Series) Take(a Said, at lockkeeper.Moment) Series {
	a.At = at
	switch {
	case !a.Good:
		s.Good, s.Since, s.Last, s.Bad = 0, lockkeeper.Moment{}, lockkeeper.Moment{}, &a
	case !s.unbroken(at):
		s.Good, s.Since, s.Last, s.Said = 1, at, at, &a
	default:
		s.Good, s.Last, s.Said = s.Good+1, at, &a
	}
	return s
}

// Tells reports whether an answer of the instant at says anything that the series does
// not know: two thousand answers a minute are not two thousand entries. An answer that
// comes too soon after another counts as that one, so that asking twice, as two servers
// may, makes nothing steady sooner.
func (s Series) Tells(a Said, at lockkeeper.Moment) bool {
	switch {
	case !a.Good:
		return s.Good > 0 || s.Bad == nil || s.Bad.Code != a.Code
	case !s.unbroken(at):
		return true
	case s.steady():
		return at.Sub(s.Last) >= s.Validity/2
	}
	return at.Sub(s.Last) >= s.Every/2
}

// Over reports whether nothing that a service says counts any more: it answered what it
// answers once, or its time is over and the check does not pass.
func (s Series) Over(deadline, now lockkeeper.Moment) bool {
	if s.Callback && s.answered() != nil {
		return true
	}
	_, passes := s.Passes(now)
	return !passes && !now.Before(deadline)
}

// answered is the one answer of a service that answers later.
func (s Series) answered() *Said {
	if s.Callback && s.Good > 0 {
		return s.Said
	}
	if s.Callback && s.Bad != nil && s.Bad.Status != 0 {
		return s.Bad
	}
	return nil
}

// Answered is the one answer of a service that answers later; nil: it has not yet.
func (s Series) Answered() *Said { return s.answered() }

// Outside is what is known of a check that asks a service.
type Outside struct {
	Series   Series
	Asked    lockkeeper.Moment // zero: nobody was asked yet
	Deadline lockkeeper.Moment
}

// calls judges the checks that ask services. All of them are judged at one instant: each
// pass is one of now, whenever it was said.
func calls(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if _, is := c.Outside(); !is {
			continue
		}
		if f.Outside == nil {
			out = append(out, lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Error, Code: "call_unknown", Sentence: "Nothing says what the service answered.", Next: "Ask again."})
			continue
		}
		out = append(out, Called(c, f.Outside(c), now))
	}
	return out
}

// Called judges one check by what is known of it.
func Called(c catalog.Check, o Outside, now lockkeeper.Moment) lockkeeper.Decision {
	s := o.Series
	wait := func(code, format string, args ...any) lockkeeper.Decision {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: code, Sentence: fmt.Sprintf(format, args...), Next: "Wait; the service is asked by itself."}
	}
	until, passes := s.Passes(now)
	switch {
	case o.Asked.IsZero():
		return wait("call_not_asked", "The service is about to be asked.")
	case passes:
		d := passed(c, "call_good", "The service said so at %s, %s.", s.Last, s.progress())
		d.Until = &until
		return d
	case s.Callback && s.Good > 0:
		return failed(c, "call_stale", fmt.Sprintf("The service said so at %s, which counts for %s.", s.Last, s.Validity), "Ask again in a new run.")
	case s.Callback && s.answered() != nil:
		return failed(c, "call_refused", "The service answered no"+s.lastBad(), "See what the service says about it, and ask again in a new run.")
	case !now.Before(o.Deadline):
		return failed(c, "call_timed_out", fmt.Sprintf("The service had until %s, and did not say so steadily by then%s", o.Deadline, s.lastBad()), "See what the service says about it, and ask again in a new run.")
	case s.Callback && s.Delivered.IsZero():
		return wait("call_asked", "The service is asked until %s%s", o.Deadline, s.lastBad())
	case s.Callback:
		return wait("call_awaited", "The service took the question at %s and answers until %s.", s.Delivered, o.Deadline)
	case s.unbroken(now):
		return wait("call_unsteady", "%s%s", s.progress(), s.lastBad())
	case s.Good > 0:
		return wait("call_silent", "The service said so at %s last, and nothing since; what went before counts no more%s", s.Last, s.lastBad())
	case s.Bad != nil:
		return wait("call_bad", "The service does not say so%s", s.lastBad())
	}
	return wait("call_asked", "The service is asked, and has not answered yet.")
}

// progress is how much of the steady time there is.
func (s Series) progress() string {
	out := fmt.Sprintf("%d good answers of %d in a row", s.Good, s.Answers)
	if s.For > 0 {
		out += fmt.Sprintf(", for %s of %s", s.Last.Sub(s.Since).Truncate(time.Second), s.For)
	}
	return out
}

// lastBad says since when the service has not said so, and ends a sentence.
func (s Series) lastBad() string {
	if s.Bad == nil {
		return "."
	}
	return fmt.Sprintf("; the last bad answer was of %s: %s [%s]", s.Bad.At, s.Bad.Reason, s.Bad.Code)
}
