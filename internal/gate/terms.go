package gate

import (
	"reflect"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A catalog that changes while an ask waits may demand more of it at once, and
// never less: what the environment demanded when the ask was opened goes on
// being demanded beside what it demands now. Whoever wants the easier gate asks
// again.

// Terms are those checks of an environment whose verdicts can still change while
// an ask waits: evidence, approvals, delays, hours, policies and what services say. What the ask itself says was judged
// for good when it was opened; a lock protects deployments from each other, not
// the environment.
func Terms(e catalog.Environment) []catalog.Check {
	var out []catalog.Check
	for _, c := range e.Checks {
		_, evidence := c.Evidence()
		if _, outside := c.Outside(); outside || evidence || c.Promotion != nil || c.Record != nil || c.Policy != nil || c.Approval != nil || c.Delay != nil || c.Hours != nil {
			out = append(out, c)
		}
	}
	return out
}

// Under is f with the terms in the place of the environment's checks; nothing is
// different if these are the environment's terms of now.
func Under(f Facts, terms []catalog.Check) (Facts, bool) {
	if reflect.DeepEqual(terms, Terms(f.Environment)) || len(terms) == 0 {
		return f, false
	}
	f.Environment.Checks = terms
	return f, true
}

// AsOpened judges what the environment demanded when the ask was opened, given by
// Under: at the release all of it, and while the deployment runs the approvals.
func AsOpened(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	because := approvals(f, now)
	if f.Released.IsZero() {
		because = append(because, f.waiveAll(evidenceChecks(f, now))...)
		because = append(because, f.waiveAll(promotions(f, now))...)
		because = append(because, f.waiveAll(designs(f, now))...)
		because = append(because, f.waiveAll(times(f, now))...)
		because = append(because, f.waiveAll(calls(f, now))...)
		because = append(because, f.waiveAll(policies(f, now))...)
	}
	because = unenforced(f, because)
	d := lockkeeper.Decision{Verdict: lockkeeper.Pass, Code: "passed", Because: because}
	if len(because) > 0 {
		d = lockkeeper.All("", "", because...)
	}
	d.Subject = "what was demanded when the ask was opened"
	if d.Verdict == lockkeeper.Pass {
		d.Sentence = "It holds, too."
	} else {
		d.Sentence = "The catalog has changed since, and a change never helps an ask that is open: " + d.Sentence
	}
	return d
}

// Also joins a gate's verdict with one decision more.
func Also(verdict, d lockkeeper.Decision) lockkeeper.Decision {
	return lockkeeper.All(verdict.Subject, verdict.Sentence, append(verdict.Because[:len(verdict.Because):len(verdict.Because)], d)...)
}
