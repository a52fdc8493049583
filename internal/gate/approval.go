package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Ballot is a vote that may count, or the reason why it does not.
type ballot struct {
	vote   Vote
	reason lockkeeper.Decision // Pass: it may count
}

// approvals judges every approval check of the environment together: distinct
// persons are matched to the places of all checks at once (a maximum bipartite
// matching), so that one person never fills two places and somebody who could
// fill either of two is not used up by the wrong one.
func approvals(f Facts) []lockkeeper.Decision {
	ballots := make([]ballot, len(f.Votes))
	for i, v := range f.Votes {
		ballots[i] = ballot{v, Admissible(f, v)}
	}
	checks := approvalChecks(f.Environment)
	placed := match(checks, ballots, extra(f))
	out := make([]lockkeeper.Decision, len(checks))
	for i, c := range checks {
		out[i] = approval(c, ballots, placed[i], extra(f))
	}
	return out
}

func approvalChecks(e catalog.Environment) []catalog.Check {
	var out []catalog.Check
	for _, c := range e.Checks {
		if c.Approval != nil {
			out = append(out, c)
		}
	}
	return out
}

// extra is how many approvers more each check asks for: one when automation
// started the run.
func extra(f Facts) int {
	for _, i := range f.Initiators {
		if i.Automation {
			return 1
		}
	}
	return 0
}

// Admissible says whether v may count for any check at all: the voter may
// approve here, is asked by at least one check, and is nobody who stands behind
// the run.
func Admissible(f Facts, v Vote) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "approval by " + v.User, Verdict: lockkeeper.Fail}
	for _, i := range f.Initiators {
		for _, p := range i.Persons {
			if slices.Contains(v.Persons, p) {
				d.Code = "own_deployment"
				d.Sentence = fmt.Sprintf("%s stands behind this run (as %s), and nobody approves what is theirs.", v.User, p)
				d.Next = "Ask another person of the groups that the check names."
				return d
			}
		}
	}
	if v.Right.Verdict != lockkeeper.Pass {
		d.Code, d.Because = "approver_not_permitted", []lockkeeper.Decision{v.Right}
		d.Sentence = fmt.Sprintf("%s may not approve deployments to %s: %s", v.User, f.Environment.Name, v.Right.Sentence)
		d.Next = v.Right.Next
		return d
	}
	var asked []string
	for _, c := range approvalChecks(f.Environment) {
		if inAny(v.Groups, c.Approval.Groups) {
			return lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "approved",
				Sentence: fmt.Sprintf("%s approved at %s.", v.User, v.At), Because: []lockkeeper.Decision{v.Right}}
		}
		asked = append(asked, c.Approval.Groups...)
	}
	d.Code = "not_asked"
	d.Sentence = fmt.Sprintf("%s is in none of the groups that the checks of %s ask.", v.User, f.Environment.Name)
	d.Next = fmt.Sprintf("Ask somebody of: %s.", orNobody(asked))
	return d
}

// match assigns ballots to places; the result holds, per check, the indices of
// the ballots that fill its places. Two ballots of one person never both stand.
func match(checks []catalog.Check, ballots []ballot, extra int) [][]int {
	type place struct{ check int }
	var places []place
	for c, check := range checks {
		for range check.Approval.Count + extra {
			places = append(places, place{c})
		}
	}
	byPerson := map[lockkeeper.Person]int{} // person → place
	voter := make([]int, len(places))       // place → ballot, -1: open
	for i := range voter {
		voter[i] = -1
	}
	var try func(b int, seen []bool) bool
	try = func(b int, seen []bool) bool {
		for p := range places {
			if seen[p] || !inAny(ballots[b].vote.Groups, checks[places[p].check].Approval.Groups) {
				continue
			}
			seen[p] = true
			if voter[p] < 0 || try(voter[p], seen) {
				voter[p] = b
				return true
			}
		}
		return false
	}
	for b := range ballots {
		person := ballots[b].vote.Counts
		if _, twice := byPerson[person]; twice || ballots[b].reason.Verdict != lockkeeper.Pass {
			continue
		}
		if try(b, make([]bool, len(places))) {
			byPerson[person] = b
		}
	}
	out := make([][]int, len(checks))
	for p, b := range voter {
		if b >= 0 {
			c := places[p].check
			out[c] = append(out[c], b)
		}
	}
	return out
}

func approval(c catalog.Check, ballots []ballot, placed []int, extra int) lockkeeper.Decision {
	need := c.Approval.Count + extra
	d := lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Pass, Code: "approved"}
	slices.Sort(placed)
	var names []string
	for _, b := range placed {
		d.Because = append(d.Because, ballots[b].reason)
		names = append(names, ballots[b].vote.User)
	}
	for _, b := range ballots {
		if b.reason.Verdict != lockkeeper.Pass {
			d.Because = append(d.Because, b.reason)
		}
	}
	if len(placed) >= need && need > 0 {
		d.Sentence = fmt.Sprintf("%d of %d approvals are there: %s.", len(placed), need, strings.Join(names, ", "))
		return d
	}
	d.Verdict, d.Code = lockkeeper.Wait, "approvals_missing"
	d.Sentence = fmt.Sprintf("%d of %d approvals are there (%s).", len(placed), need, orNobody(names))
	if extra > 0 {
		d.Sentence += " Automation started the run, so one more is asked for."
	}
	d.Next = fmt.Sprintf("Ask %d more of %s to run: lockkeeper approve", need-len(placed), strings.Join(c.Approval.Groups, ", "))
	return d
}

func inAny(have, want []string) bool {
	return slices.ContainsFunc(have, func(g string) bool { return slices.Contains(want, g) })
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
