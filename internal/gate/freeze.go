package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Freeze waits while a freeze that stops this action by this caller covers the
// environment, and a pass holds until the next one begins. All freezes count
// together: what one stops, no other lets through.
func Freeze(f Facts, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "freeze", Verdict: lockkeeper.Pass, Code: "not_frozen", Sentence: "No freeze stops this here now."}
	for _, z := range f.Freezes {
		one, covers := oneFreeze(f, z, now)
		if !covers {
			continue
		}
		if one.Verdict == lockkeeper.Pass {
			d.Until = earlier(d.Until, one.Until)
		}
		if one.Code != "not_frozen" {
			d.Because = append(d.Because, one)
		}
	}
	return worst(d)
}

// oneFreeze judges one freeze at now; false: it does not stop this action by this
// caller, whatever the time.
func oneFreeze(f Facts, z catalog.Freeze, now lockkeeper.Moment) (lockkeeper.Decision, bool) {
	if !z.Stops(f.Ask.Action, callerOf(f)) {
		return lockkeeper.Decision{}, false
	}
	d := lockkeeper.Decision{Subject: "freeze " + z.Name, Verdict: lockkeeper.Pass, Code: "not_frozen"}
	holds, s, err := FrozenAt(z, now, gateHorizon)
	switch {
	case err != nil:
		d.Verdict, d.Code, d.Sentence = lockkeeper.Error, "zone_unknown", fmt.Sprintf("This server knows no time zone %q.", z.Zone)
		d.Next = "Name a zone of the IANA data base in the freeze."
		return d, true
	case !holds:
		o, waived := f.waives(FreezeCheck(z.Name))
		if _, exempt := exempts(f, z); !exempt && !s.From.IsZero() {
			if d.Until = &s.From; waived && z.Soft && f.Environment.Override != nil && s.From.Before(o.Until) {
				d.Until = &o.Until // which may end inside the freeze
			}
		}
		return d, true
	}
	if names, exempt := exempts(f, z); exempt {
		d.Code, d.Sentence = "freeze_exempt", fmt.Sprintf("It does not stop what %s, of %s, started.", names, strings.Join(z.Exempt, ", "))
		return d, true
	}
	d.Verdict, d.Code, d.Sentence = lockkeeper.Wait, "frozen", fmt.Sprintf("%s is frozen %s: %s", z.Scope, s.end(), z.Reason)
	d.Next = "Wait for its end, or ask whoever administers the environment to lift the freeze."
	if z.Soft && f.Environment.Override != nil {
		d.Next = fmt.Sprintf("Wait for its end, or ask for an override: lockkeeper override request ID --waive %s", FreezeCheck(z.Name))
	}
	return f.waived(FreezeCheck(z.Name), z.Soft, d), true
}

// worst joins what freezes say: the first that does not pass gives the verdict.
func worst(d lockkeeper.Decision) lockkeeper.Decision {
	for _, b := range d.Because {
		if b.Verdict != lockkeeper.Pass && d.Verdict == lockkeeper.Pass {
			d.Verdict, d.Code, d.Sentence, d.Next, d.Until = b.Verdict, b.Code, b.Sentence, b.Next, nil
		}
	}
	return d
}

// FreezeCheck is how an override names a freeze among checks: no name of a check has
// a colon.
func FreezeCheck(name string) string { return "freeze:" + name }

func callerOf(f Facts) string {
	if extra(f) > 0 {
		return catalog.AutomationCaller
	}
	return catalog.PeopleCaller
}

// exempts reports whether a freeze spares everybody behind the run, and names them.
func exempts(f Facts, z catalog.Freeze) (string, bool) {
	if len(z.Exempt) == 0 || len(f.Initiators) == 0 || extra(f) > 0 {
		return "", false
	}
	var names []string
	for _, i := range f.Initiators {
		if i.User == "" || !inAny(i.Groups, z.Exempt) {
			return "", false
		}
		names = append(names, i.User)
	}
	return strings.Join(names, " and "), true
}

// InFlight judges the freezes that reach what runs already: those that take leases
// or, for tokens, also those that let none be handed out. A pass holds until the next
// of them begins; false: there is none such.
func InFlight(f Facts, tokens bool, now lockkeeper.Moment) (lockkeeper.Decision, bool) {
	d := lockkeeper.Decision{Subject: "freeze", Verdict: lockkeeper.Pass, Code: "not_frozen", Sentence: "No freeze reaches what runs here now."}
	found := false
	for _, z := range f.Freezes {
		if z.Running() == catalog.InFlightFinish || !tokens && z.Running() == catalog.InFlightNoTokens {
			continue
		}
		one, covers := oneFreeze(f, z, now)
		if !covers {
			continue
		}
		found = true
		if one.Verdict == lockkeeper.Pass {
			d.Until = earlier(d.Until, one.Until)
		}
		// What runs was exempt or waived when it began: the next beginning is of no interest to it.
		if one.Code != "not_frozen" {
			if one.Verdict == lockkeeper.Wait {
				one.Verdict, one.Next = lockkeeper.Fail, "Start a new run once the freeze is over."
			}
			d.Because = append(d.Because, one)
		}
	}
	return worst(d), found
}

// An Override is one that was granted for this very ask and counts now.
type Override struct {
	ID     string
	Waives []string // names of checks, and FreezeCheck of freezes
	By     []string // users who approved it
	Reason string
	Until  lockkeeper.Moment
}

// waives finds the override that waives a check.
func (f Facts) waives(check string) (Override, bool) {
	for _, o := range f.Overrides {
		if slices.Contains(o.Waives, check) {
			return o, true
		}
	}
	return Override{}, false
}

// waived is a decision on a check or, if that does not pass, is soft and an override
// names it, the override in its place, with the decision beneath it. Where an override
// may still come, what fails only waits: else the ask would be over before anybody
// could be asked.
func (f Facts) waived(check string, soft bool, d lockkeeper.Decision) lockkeeper.Decision {
	if d.Verdict == lockkeeper.Pass || !soft || f.Environment.Override == nil {
		return d
	}
	o, is := f.waives(check)
	if !is {
		if d.Verdict == lockkeeper.Fail {
			d.Verdict, d.Next = lockkeeper.Wait, "Ask for an override: lockkeeper override request ID --waive "+check
		}
		return d
	}
	until := o.Until
	return lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "waived", Until: &until, Because: []lockkeeper.Decision{d},
		Sentence: fmt.Sprintf("waived by override %s (%s) until %s: %s", o.ID, strings.Join(o.By, ", "), until, o.Reason)}
}

// waiveAll puts overrides in the place of the environment's checks that do not pass.
func (f Facts) waiveAll(list []lockkeeper.Decision) []lockkeeper.Decision {
	if f.Environment.Override == nil {
		return list
	}
	for i, d := range list {
		for _, c := range f.Environment.Checks {
			if c.Soft && d.Subject == "check "+c.Name {
				list[i] = f.waived(c.Name, c.Soft, d)
			}
		}
	}
	return list
}

// approvalChecks are the approvals that an environment asks for, without those that an
// override waives: nobody fills a place there, and nothing comes after them.
func (f Facts) approvalChecks() []catalog.Check {
	if len(f.Overrides) == 0 {
		return approvalChecks(f.Environment)
	}
	var out []catalog.Check
	gone := func(name string) bool {
		i := slices.IndexFunc(f.Environment.Checks, func(c catalog.Check) bool { return c.Name == name })
		_, waived := f.waives(name)
		return waived && i >= 0 && f.Environment.Checks[i].Soft
	}
	for _, c := range approvalChecks(f.Environment) {
		if gone(c.Name) {
			continue
		}
		a := *c.Approval
		a.After = slices.DeleteFunc(slices.Clone(a.After), gone)
		c.Approval = &a
		out = append(out, c)
	}
	return out
}
