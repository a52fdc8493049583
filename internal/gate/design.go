package gate

import (
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A DesignRecord is one version of what people wrote about the design of what is deployed,
// such as a threat model, that covers the environment of the ask.
type DesignRecord struct {
	ID      string
	Kind    string
	Scope   lockkeeper.Scope // the environment, or its project
	Content lockkeeper.Digest
	Opened  lockkeeper.Moment
	Until   lockkeeper.Moment // its own end
	Votes   []RecordVote      // that count, oldest first
}

// A RecordVote is one person's approval of a record.
type RecordVote struct {
	User    string
	Persons []lockkeeper.Person // every person that the account may be, then and now; one person fills one place
	Groups  []string            // that he was in when he gave it
	At      lockkeeper.Moment
	Held    string // why it counts for nothing now, such as an incident that stops who gave it; "": it counts
}

// ApprovedFor reports when a record came to have the approvals that a check demands: with
// the vote that completed them. held says why it would have them, and has not now.
func (r DesignRecord) ApprovedFor(c catalog.RecordCheck) (at lockkeeper.Moment, yes bool, held string) {
	count := func(all bool) (at lockkeeper.Moment, yes bool) {
		var persons []lockkeeper.Person
		n := 0
		for _, v := range r.Votes {
			known := func(p lockkeeper.Person) bool { return slices.Contains(persons, p) }
			if !inAny(v.Groups, c.Groups) || slices.ContainsFunc(v.Persons, known) || v.Held != "" && !all {
				continue
			}
			persons = append(persons, v.Persons...)
			if n++; n == c.Needed() {
				return v.At, true
			}
		}
		return at, false
	}
	if at, yes = count(false); yes {
		return at, true, ""
	}
	if _, would := count(true); would {
		for _, v := range r.Votes {
			if v.Held != "" {
				held = v.Held
			}
		}
	}
	return at, false, held
}

// Ends is when a record that was approved then ends for a check: by its own end, or once
// the check takes it no longer.
func (r DesignRecord) Ends(c catalog.RecordCheck, approved lockkeeper.Moment) lockkeeper.Moment {
	if longest := approved.Add(c.Life()); longest.Before(r.Until) {
		return longest
	}
	return r.Until
}

// designs judges every check of design records.
func designs(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	var out []lockkeeper.Decision
	for _, c := range f.Environment.Checks {
		if c.Record != nil {
			out = append(out, Design(f, c, now))
		}
	}
	return out
}

// Design passes when a record of the kind that covers the environment is approved as the
// check demands and has not ended. Of the versions at one scope the newest that is
// approved takes the place of those before it, also once it has ended; of a project's and
// an environment's own either is enough. What is missing may still come: it waits. A
// record is about what may be built there, so what was good before is not asked.
func Design(f Facts, c catalog.Check, now lockkeeper.Moment) lockkeeper.Decision {
	want := *c.Record
	if f.askedBefore(c.Name) {
		return passed(c, "not_asked_of_"+f.Ask.Action, "These artifacts were deployed here with success before; a %s was asked for then.", want.Kind)
	}
	var best *lockkeeper.Decision
	seen := map[lockkeeper.Scope]bool{} // at which an approved version was found
	for i := len(f.Designs) - 1; i >= 0; i-- {
		r := f.Designs[i]
		if r.Kind != want.Kind || seen[r.Scope] {
			continue
		}
		d, approved := design(c, r, f.asOf(now))
		seen[r.Scope] = approved
		if best == nil || d.Verdict == lockkeeper.Pass && (best.Verdict != lockkeeper.Pass || best.Until.Before(*d.Until)) || approved && best.Verdict != lockkeeper.Pass {
			best = &d
		}
	}
	if best == nil {
		return lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait, Code: "record_missing", Sentence: fmt.Sprintf("There is no %s of %s.", want.Kind, f.Environment.Name), Next: writeOne(f, want)}
	}
	if best.Verdict != lockkeeper.Pass && best.Next == "" {
		best.Next = writeOne(f, want)
	}
	return *best
}

// design judges one version, and says whether it was ever approved as the check demands.
func design(c catalog.Check, r DesignRecord, now lockkeeper.Moment) (d lockkeeper.Decision, approved bool) {
	want := *c.Record
	d = lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Wait}
	at, approved, held := r.ApprovedFor(want)
	ends := r.Ends(want, at)
	switch {
	case held != "":
		d.Code, d.Sentence = "record_held", fmt.Sprintf("An approval of the %s %s counts for nothing now: %s", r.Kind, r.ID, held)
		d.Next = "Have it approved by another person, or wait until the incident is closed."
	case !approved:
		d.Code, d.Sentence = "record_waits", fmt.Sprintf("The %s %s is not approved by %d of %v.", r.Kind, r.ID, want.Needed(), want.Groups)
		d.Next = "One of them looks at it: lockkeeper record show " + r.ID
	case !now.Before(ends):
		d.Code, d.Sentence = "record_ended", fmt.Sprintf("The %s %s of %s ended at %s.", r.Kind, r.ID, r.Scope, ends)
	default:
		d.Verdict, d.Code, d.Until = lockkeeper.Pass, "record_live", &ends
		d.Sentence = fmt.Sprintf("The %s %s of %s counts until %s.", r.Kind, r.ID, r.Scope, ends)
		d.Because = []lockkeeper.Decision{{Subject: "record " + r.ID, Verdict: lockkeeper.Pass, Code: d.Code, Sentence: fmt.Sprintf("It was approved at %s; its document is %s.", at, r.Content)}}
	}
	return d, approved || held != ""
}

func writeOne(f Facts, want catalog.RecordCheck) string {
	return fmt.Sprintf("Write one, and have it approved: lockkeeper record add --kind %s --project %s --environment %s --until … --file …", want.Kind, f.Environment.Project, f.Environment.Name)
}
