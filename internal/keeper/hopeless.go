package keeper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// An ask may wait for people who are not there: nobody is in the groups that are asked, or
// everybody who is stands behind the run. plan and the alerts say so of the catalog; this
// says so of one ask, so that nobody waits out its patience for nothing.

// hopeless says that the approvals which a waiting ask lacks cannot all be given, even if
// everybody voted at once who may or could activate the right to; nil: they can, or nobody
// can tell, since a directory says who is in a group. It is no verdict: the catalog may
// change while the ask waits.
func (w *world) hopeless(d *Deployment, f gate.Facts, verdict lockkeeper.Decision, now lockkeeper.Moment) *lockkeeper.Decision {
	if d.Status != Waiting || verdict.Verdict != lockkeeper.Wait {
		return nil
	}
	if none := w.shortOf(d, f, now); none != nil {
		return none
	}
	if then, differs := gate.Under(f, d.Terms); differs && !d.Observed {
		return w.shortOf(d, then, now)
	}
	return nil
}

// shortOf is hopeless for the checks of the facts.
func (w *world) shortOf(d *Deployment, f gate.Facts, now lockkeeper.Moment) *lockkeeper.Decision {
	if f.Environment.Observes() {
		return nil
	}
	var names, groups []string
	f.Environment.Checks, names, groups = w.atBest(f)
	if len(names) == 0 {
		return nil
	}
	f.Overrides = nil
	f.Votes = w.everybodysVotes(d, f, groups, now)
	for _, one := range gate.Approvals(f, now) {
		if one.Verdict == lockkeeper.Pass {
			continue
		}
		var could []string
		for _, v := range f.Votes {
			if gate.Admissible(f, v, now).Verdict == lockkeeper.Pass {
				could = append(could, v.User)
			}
		}
		who := "nobody could"
		if len(could) > 0 {
			who = fmt.Sprintf("only %d could (%s)", len(could), strings.Join(could[:min(len(could), 8)], ", "))
		}
		return &lockkeeper.Decision{Subject: "approvers", Verdict: lockkeeper.Wait, Code: "approvers_missing",
			Sentence: fmt.Sprintf("There are not persons enough to approve this: by %s, %s who does not stand behind the run, one place each.", strings.Join(names, " and "), who),
			Next:     "Put more persons in the groups that are asked, give them the right to approve, or let somebody else start the run."}
	}
	return nil
}

// atBest are the approvals of an environment as they are easiest: in any order, of whoever
// is asked sooner or later, and at any time. Those that an override may still waive, that
// are in shadow, or that ask a group which a directory fills, are left out.
func (w *world) atBest(f gate.Facts) (checks []catalog.Check, names, groups []string) {
	for _, c := range f.Environment.Checks {
		if c.Approval == nil || c.Shadow || c.Soft && f.Environment.Override != nil || slices.ContainsFunc(c.Approval.Asks(), w.rules.Catalog.Open) {
			continue
		}
		asks := c.Approval.Asks()
		checks = append(checks, catalog.Check{Name: c.Name, Approval: &catalog.Approval{Count: c.Approval.Count, Groups: asks}})
		names, groups = append(names, c.Name), append(groups, asks...)
	}
	return checks, names, groups
}

// everybodysVotes are the votes of everybody in the groups who may approve, or could
// activate the right to.
func (w *world) everybodysVotes(d *Deployment, f gate.Facts, groups []string, now lockkeeper.Moment) []gate.Vote {
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	asked := *d
	asked.Votes, asked.Delegated = nil, nil // what others did already keeps nobody apart who has not voted
	var users []string
	for _, g := range groups {
		users = append(users, w.rules.Access.Holders(g)...)
	}
	slices.Sort(users)
	var out []gate.Vote
	for _, user := range slices.Compact(users) {
		if u := w.rules.Catalog.Users[user]; u.Off || u.Automation {
			continue
		}
		v := w.ballot(&asked, f, Vote{User: user, Approve: true, Digest: d.Digest, At: now, Persons: w.persons(user)}, now)
		if v.Right.Verdict != lockkeeper.Pass && len(w.rules.Access.Activatable(user, lockkeeper.ApproveDeployments, scope, now)) > 0 {
			v.Right = lockkeeper.Decision{Subject: v.Right.Subject, Verdict: lockkeeper.Pass, Code: "activatable"}
		}
		out = append(out, v)
	}
	return out
}
