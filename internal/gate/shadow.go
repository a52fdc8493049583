package gate

import (
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A check in shadow, and what an environment in the mode observe demands by itself,
// are judged like everything else and hold up nothing: in the place of each verdict
// stands a pass that says what it would have done, and rests on it.
//
// What an environment that only observes demands by itself are its checks, what its
// tier demands, and the role that its job must have activated. Everything else is the
// floor, which no mode and no shadow takes away: who stands behind the run, the stage,
// the artifacts, freezes, the ask's patience, the lock, and the incidents that the
// keeper adds. A decision that nobody listed here is enforced.

// The codes of what is judged and not enforced.
const (
	ObservedPass  = "observed_pass"  // it would have passed
	ObservedWait  = "observed_wait"  // it would have held the deployment up
	ObservedFail  = "observed_fail"  // it would have refused it
	ObservedError = "observed_error" // it could not be judged, and would have refused it
)

// Observed reports whether a decision is one of what is not enforced, and whether
// enforced it would have stopped the deployment there.
func Observed(d lockkeeper.Decision) (is, stops bool) {
	switch d.Code {
	case ObservedPass:
		return true, false
	case ObservedWait, ObservedFail, ObservedError:
		return true, true
	}
	return false, false
}

// unenforced puts, in the place of each decision that is only observed, a pass that
// says so.
func unenforced(f Facts, list []lockkeeper.Decision) []lockkeeper.Decision {
	if !f.Environment.Observes() && !slices.ContainsFunc(f.Environment.Checks, func(c catalog.Check) bool { return c.Shadow }) {
		return list
	}
	out := slices.Clone(list)
	for i, d := range list {
		switch shadow, own := f.demanded(d.Subject); {
		case shadow:
			out[i] = observed("In shadow", d)
		case own && f.Environment.Observes():
			out[i] = observed("Only observed", d)
		}
	}
	return out
}

// demanded reports whether the subject of a decision is a check in shadow, and whether
// it is something that the environment demands by itself.
func (f Facts) demanded(subject string) (shadow, own bool) {
	if name, is := strings.CutPrefix(subject, "check "); is {
		i := slices.IndexFunc(f.Environment.Checks, func(c catalog.Check) bool { return c.Name == name })
		if i < 0 || f.Environment.Checks[i].Lock != nil {
			return false, false
		}
		return f.Environment.Checks[i].Shadow, true
	}
	return false, strings.HasPrefix(subject, "demand ") || strings.HasPrefix(subject, "activation of ")
}

func observed(how string, d lockkeeper.Decision) lockkeeper.Decision {
	out := lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Because: []lockkeeper.Decision{d}}
	switch d.Verdict {
	case lockkeeper.Pass:
		out.Code, how = ObservedPass, how+", it would pass: "
	case lockkeeper.Wait:
		out.Code, how = ObservedWait, how+", it would wait: "
	case lockkeeper.Fail:
		out.Code, how = ObservedFail, how+", it would refuse: "
	default:
		out.Code, how = ObservedError, how+", it could not be judged: "
	}
	out.Sentence = how + d.Sentence
	return out
}

// apart judges approvals of which some are in shadow: those that are enforced as if
// the others were not there, and the others as if all were enforced. So nothing in
// shadow takes a person's place from an approval that counts.
func apart(f Facts, now lockkeeper.Moment) (list []lockkeeper.Decision, are bool) {
	asked := approvalChecks(f.Environment)
	if !slices.ContainsFunc(asked, func(c catalog.Check) bool { return c.Shadow }) {
		return nil, false
	}
	without, with := f, f
	without.Environment.Checks, with.Environment.Checks = nil, nil
	for _, c := range f.Environment.Checks {
		if !c.Shadow {
			without.Environment.Checks = append(without.Environment.Checks, c)
		}
		c.Shadow = false
		with.Environment.Checks = append(with.Environment.Checks, c)
	}
	enforced, all := approvals(without, now), approvals(with, now)
	for i, c := range asked {
		if c.Shadow {
			list = append(list, all[i])
		} else {
			list, enforced = append(list, enforced[0]), enforced[1:]
		}
	}
	return list, true
}
