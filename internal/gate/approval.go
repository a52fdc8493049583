package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A ballot is a vote that may count, or the reason why it does not.
type ballot struct {
	vote   Vote
	reason lockkeeper.Decision // Pass: it may count
}

// A tally is what the approval checks of one environment are judged on.
type tally struct {
	checks  []catalog.Check
	ballots []ballot // oldest first
	asOf    lockkeeper.Moment
	running bool // asOf is the release: nothing grows older any more
	opened  lockkeeper.Moment
	waits   time.Duration // the environment's patience
	extra   int
	voters  []int   // per ballot, who gave it: the first ballot of the same person
	turns   []*turn // per check, when its turn came; nil: not yet
	placed  [][]int // per check, the ballots that fill its places
}

// A turn is when a check began to take votes.
type turn struct {
	at   lockkeeper.Moment
	from int // the first ballot that may count: none of those that brought the turn about
}

// approvals judges every approval check of the environment together: distinct
// persons are matched to the places of all checks at once (a maximum bipartite
// matching), so that one person never fills two places and somebody who could
// fill either of two is not used up by the wrong one.
//
// A vote counts for a check only if it was given after the check's turn came
// (strictly: the vote that completes what comes first counts for that),
// before its time-out, and no longer ago than its validity. Ages count up to
// the release: a vote does not grow too old while the deployment runs.
func approvals(f Facts, now lockkeeper.Moment) []lockkeeper.Decision {
	if list, are := apart(f, now); are {
		return list
	}
	t := newTally(f, now)
	out := make([]lockkeeper.Decision, len(t.checks))
	for i := range t.checks {
		out[i] = t.approval(i)
	}
	if asked := approvalChecks(f.Environment); len(asked) > len(out) {
		out = withWaived(f, asked, out, now)
	}
	return f.waiveAll(out)
}

// withWaived adds, each in its place, the approvals that an override waives.
func withWaived(f Facts, asked []catalog.Check, rest []lockkeeper.Decision, now lockkeeper.Moment) []lockkeeper.Decision {
	plain := f
	plain.Overrides = nil
	out := approvals(plain, now)
	for i, c := range asked {
		if len(rest) > 0 && rest[0].Subject == "check "+c.Name {
			out[i], rest = rest[0], rest[1:]
		} else {
			out[i] = f.waived(c.Name, c.Soft, out[i])
		}
	}
	return out
}

// Needed is how many distinct persons an approval asks for: one more where automation
// has a part.
func Needed(f Facts, c catalog.Check) int { return c.Approval.Count + extra(f) }

// Approvals judges the approvals alone, for what is no deployment: f.About says
// what is approved, f.Initiators whose it is.
func Approvals(f Facts, now lockkeeper.Moment) []lockkeeper.Decision { return approvals(f, now) }

func newTally(f Facts, now lockkeeper.Moment) *tally {
	t := &tally{checks: f.approvalChecks(), asOf: f.asOf(now), running: !f.Released.IsZero(), extra: extra(f), opened: f.Opened, waits: f.Environment.PatienceLimit()}
	for _, v := range f.Votes {
		t.ballots = append(t.ballots, ballot{v, Admissible(f, v, now)})
	}
	slices.SortStableFunc(t.ballots, func(a, b ballot) int { return a.vote.At.Time().Compare(b.vote.At.Time()) })
	t.voters = voters(t.ballots)
	t.turns = make([]*turn, len(t.checks))
	for i, c := range t.checks {
		if len(c.Approval.After) == 0 {
			t.turns[i] = &turn{at: f.Opened}
		}
	}
	for range t.checks { // as many rounds as the longest chain of after may have
		for i, c := range t.checks {
			if t.turns[i] == nil {
				t.turns[i] = t.after(c.Approval.After)
			}
		}
	}
	t.placed = t.match(all(t.checks), len(t.ballots))
	return t
}

func all(checks []catalog.Check) []int {
	out := make([]int, len(checks))
	for i := range checks {
		out[i] = i
	}
	return out
}

// after is the turn that comes when the named checks, and all that come before
// them, are satisfied by votes that still count; nil if they are not.
func (t *tally) after(names []string) *turn {
	var chain []int
	var add func(name string)
	add = func(name string) {
		for i, c := range t.checks {
			if c.Name == name && !slices.Contains(chain, i) {
				chain = append(chain, i)
				for _, before := range c.Approval.After {
					add(before)
				}
			}
		}
	}
	for _, name := range names {
		add(name)
	}
	if len(chain) == 0 {
		return nil
	}
	for _, i := range chain {
		if t.turns[i] == nil {
			return nil
		}
	}
	for n := 1; n <= len(t.ballots); n++ {
		placed := t.match(chain, n)
		if !slices.ContainsFunc(chain, func(i int) bool { return len(placed[i]) < t.need(i) }) {
			at := t.ballots[n-1].vote.At
			if at.Before(t.opened) { // a carried vote counts from the opening on
				at = t.opened
			}
			return &turn{at, n}
		}
	}
	return nil
}

func (t *tally) need(check int) int { return t.checks[check].Approval.Count + t.extra }

// counts reports whether a ballot may fill a place of a check.
func (t *tally) counts(b, check int) bool {
	v, a := t.ballots[b].vote, t.checks[check].Approval
	turn := t.turns[check]
	if t.ballots[b].reason.Verdict != lockkeeper.Pass || turn == nil || b < turn.from || v.From == "" && v.At.Before(turn.at) || !v.mayFill(t.checks[check]) || !t.asks(check, v.Groups, v.At) {
		return false
	}
	if a.Timeout > 0 && !v.At.Before(turn.at.Add(time.Duration(a.Timeout))) {
		return false
	}
	if _, late := v.unproven(*a); late {
		return false
	}
	if v.leavesOpen(*a) != "" {
		return false
	}
	limit := t.validity(v, *a)
	return limit == 0 || t.asOf.Before(v.At.Add(limit))
}

// asks reports whether a check asks a voter in these groups at an instant: of an
// escalation's groups from its time on.
func (t *tally) asks(check int, groups []string, at lockkeeper.Moment) bool {
	a := t.checks[check].Approval
	from, later := t.escalates(check)
	return inAny(groups, a.Groups) || later && !at.Before(from) && inAny(groups, a.Escalate.Groups)
}

// escalates is when others may fill the places of a check, if it says so and its
// turn has come.
func (t *tally) escalates(check int) (lockkeeper.Moment, bool) {
	e, turn := t.checks[check].Approval.Escalate, t.turns[check]
	if e == nil || turn == nil {
		return lockkeeper.Moment{}, false
	}
	return turn.at.Add(time.Duration(e.After)), true
}

// Turns says, for the voter, of which checks he is asked, and which of them take
// his vote at now. A voter who is asked but whose turn has not come is told so.
func Turns(f Facts, v Vote, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "turn of " + v.User, Verdict: lockkeeper.Pass, Code: "turn"}
	t := newTally(f, now)
	var waits, late, unproven, open []string
	for i, c := range t.checks {
		switch turn := t.turns[i]; {
		case !inAny(v.Groups, c.Approval.Asks()):
		case turn == nil:
			waits = append(waits, fmt.Sprintf("%s comes after %s", c.Name, strings.Join(c.Approval.After, " and ")))
		case !t.asks(i, v.Groups, now):
			from, _ := t.escalates(i)
			waits = append(waits, fmt.Sprintf("%s asks you from %s on, if it waits still", c.Name, from))
		case c.Approval.Timeout > 0 && !now.Before(turn.at.Add(time.Duration(c.Approval.Timeout))):
			late = append(late, c.Name)
		case v.mustProve(*c.Approval):
			why, _ := v.unproven(*c.Approval)
			unproven = append(unproven, c.Name+" "+why)
		case v.leavesOpen(*c.Approval) != "":
			open = append(open, c.Name+" "+v.leavesOpen(*c.Approval))
		default:
			d.Sentence = fmt.Sprintf("It is the turn of %s.", c.Name)
			return d
		}
	}
	d.Verdict, d.Code = lockkeeper.Wait, "not_your_turn"
	d.Sentence, d.Next = "It is not your turn yet: "+strings.Join(waits, "; ")+".", "Vote once those that come first are there."
	if len(open) > 0 {
		return unanswered(d, open)
	}
	if len(unproven) > 0 {
		d.Verdict, d.Code = lockkeeper.Fail, "step_up_needed"
		d.Sentence, d.Next = strings.Join(unproven, "; ")+".", "Show a credential again: lockkeeper step-up, or lockkeeper login --anew"
		return d
	}
	if len(waits) == 0 {
		d.Verdict, d.Code = lockkeeper.Fail, "approval_timed_out"
		d.Sentence, d.Next = fmt.Sprintf("%s waited too long.", strings.Join(late, ", ")), "Start a new run and ask again."
	}
	return d
}

// Adds reports whether v, given at now, does what an earlier vote of the same
// person was too early for, or has grown too old for: then he may vote again.
// Anybody else has voted.
func Adds(f Facts, v Vote, now lockkeeper.Moment) bool {
	v.At = now
	before := len(f.Votes)
	f.Votes = append(slices.Clone(f.Votes), v)
	t := newTally(f, now)
	same := func(o Vote) bool {
		return o.User == v.User || v.SamePerson(o)
	}
	for i, c := range t.checks {
		asked, counts := false, false
		for b := range before {
			if o := t.ballots[b].vote; same(o) && inAny(o.Groups, c.Approval.Asks()) {
				asked, counts = true, counts || t.counts(b, i)
			}
		}
		if asked && !counts && t.counts(before, i) {
			return true
		}
	}
	return false
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

// Admissible says whether v may count for any check at all, at now: the voter may
// approve here, is asked by at least one check, and is nobody who stands behind
// the run.
func Admissible(f Facts, v Vote, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "approval by " + v.User, Verdict: lockkeeper.Fail}
	for _, i := range f.Initiators {
		for _, p := range i.Persons {
			if slices.Contains(v.Persons, p) {
				d.Code = "own_deployment"
				d.Sentence = fmt.Sprintf("%s stands behind this run (as %s), and nobody approves what is theirs.", v.User, p)
				if f.About != "" {
					d.Sentence = fmt.Sprintf("%s asked for this (as %s), and nobody approves what is theirs.", v.User, p)
				}
				d.Next = "Ask another person of the groups that the check names."
				return d
			}
		}
	}
	if p, builder := f.built(v.Persons); builder {
		d.Code = "own_change"
		d.Sentence = fmt.Sprintf("%s started the run that built this (as %s), and nobody approves what is theirs.", v.User, p)
		d.Next = "Ask another person of the groups that the check names."
		return d
	}
	if v.Cooling != "" {
		d.Code, d.Sentence, d.Next = "gate_changed", v.Cooling, "Ask another person of the groups that the check names."
		return d
	}
	if v.Apart != "" {
		d.Code, d.Sentence, d.Next = "duties_not_separated", v.Apart, "Ask another person of the groups that the check names."
		return d
	}
	if v.Right.Verdict != lockkeeper.Pass {
		d.Code, d.Because = "approver_not_permitted", []lockkeeper.Decision{v.Right}
		d.Sentence = fmt.Sprintf("%s may not approve %s: %s", v.User, f.about(), v.Right.Sentence)
		d.Next = v.Right.Next
		return d
	}
	var asked []string
	for _, c := range f.approvalChecks() {
		if inAny(v.Groups, c.Approval.Asks()) {
			return lockkeeper.Decision{Subject: d.Subject, Verdict: lockkeeper.Pass, Code: "approved",
				Sentence: fmt.Sprintf("%s approved at %s%s%s.", v.User, v.At, carriedFrom(v), standsFor(v)), Because: []lockkeeper.Decision{v.Right}}
		}
		asked = append(asked, c.Approval.Asks()...)
	}
	d.Code = "not_asked"
	d.Sentence = fmt.Sprintf("%s is in none of the groups that the checks of %s ask.", v.User, f.Environment.Name)
	d.Next = fmt.Sprintf("Ask somebody of: %s.", orNobody(asked))
	return d
}

// about is what approvers approve.
func (f Facts) about() string {
	if f.About != "" {
		return f.About
	}
	return "deployments to " + f.Environment.Name
}

// built finds one of the persons among those who started the runs that recorded the
// ask's artifacts, all of them and from whichever commit: a later record does not unmake
// an earlier one. Whoever triggers the deploying job need not be he: somebody else may
// have run that job again, or started it by hand. What is put back was approved by
// somebody else when it was deployed, so there only records of the ask's commit count.
func (f Facts) built(persons []lockkeeper.Person) (lockkeeper.Person, bool) {
	for _, r := range f.Records {
		made := r
		if !f.again() {
			made.Commit = f.Ask.Commit
		}
		if !slices.ContainsFunc(f.Ask.Artifacts, func(a lockkeeper.Artifact) bool { return made.vouches(f.Ask, a) }) {
			continue
		}
		for _, p := range r.Persons {
			if slices.Contains(persons, p) {
				return p, true
			}
		}
	}
	return "", false
}

// SamePerson reports whether two votes are one person's: he counts as the same, or
// has been the same.
func (v Vote) SamePerson(o Vote) bool {
	return v.Counts == o.Counts || slices.ContainsFunc(v.Persons, func(p lockkeeper.Person) bool { return slices.Contains(o.Persons, p) })
}

// voters names, for each ballot, the first ballot of the same person. Two that
// were given as different persons are one person's if both have one in common by
// now, since accounts may turn out to be one person's.
func voters(ballots []ballot) []int {
	out := make([]int, len(ballots))
	for b := range ballots {
		out[b] = b
		for other := range b {
			v, o := ballots[b].vote, ballots[other].vote
			if !v.SamePerson(o) {
				continue
			}
			same, was := out[other], out[b]
			for i := range out[:b+1] {
				if out[i] == was || out[i] == same {
					out[i] = min(same, was)
				}
			}
		}
	}
	return out
}

// match gives the places of some checks to the persons behind the first n
// ballots; the result holds, per check, the ballots that fill its places. A person
// fills one place, by whichever of his ballots may.
func (t *tally) match(checks []int, n int) [][]int {
	var places []int // place → check
	for _, c := range checks {
		for range t.need(c) {
			places = append(places, c)
		}
	}
	var persons []int // in the order of their first ballots
	of := map[int][]int{}
	for b := range t.ballots[:n] {
		person := t.voters[b]
		if of[person] == nil {
			persons = append(persons, person)
		}
		of[person] = append(of[person], b)
	}
	voter := make([]int, len(places)) // place → ballot, -1: open
	for i := range voter {
		voter[i] = -1
	}
	var try func(person int, seen []bool) bool
	try = func(person int, seen []bool) bool {
		for p, check := range places {
			i := slices.IndexFunc(of[person], func(b int) bool { return t.counts(b, check) })
			if seen[p] || i < 0 {
				continue
			}
			seen[p] = true
			if voter[p] < 0 || try(t.voters[voter[p]], seen) {
				voter[p] = of[person][i]
				return true
			}
		}
		return false
	}
	for _, person := range persons {
		try(person, make([]bool, len(places)))
	}
	out := make([][]int, len(t.checks))
	for p, b := range voter {
		if b >= 0 {
			out[places[p]] = append(out[places[p]], b)
		}
	}
	return out
}

func (t *tally) approval(i int) lockkeeper.Decision {
	c, placed, need := t.checks[i], t.placed[i], t.need(i)
	d := lockkeeper.Decision{Subject: "check " + c.Name, Verdict: lockkeeper.Pass, Code: "approved"}
	slices.Sort(placed)
	var names []string
	for _, b := range placed {
		d.Because = append(d.Because, t.ballots[b].reason)
		names = append(names, t.ballots[b].vote.User+carriedFrom(t.ballots[b].vote))
		if limit := t.validity(t.ballots[b].vote, *c.Approval); limit > 0 && !t.running {
			old := t.ballots[b].vote.At.Add(limit)
			d.Until = earlier(d.Until, &old)
		}
		d.Until = earlier(d.Until, t.ballots[b].vote.Right.Until)
	}
	for _, b := range t.ballots {
		if b.reason.Verdict != lockkeeper.Pass {
			d.Because = append(d.Because, b.reason)
		}
	}
	what := "approvals"
	if c.Approval.Review != "" {
		what = c.Approval.Review + " reviews"
	}
	if len(placed) >= need && need > 0 {
		d.Sentence = fmt.Sprintf("%d of %d %s are there: %s.", len(placed), need, what, strings.Join(names, ", "))
		return d
	}
	d.Until = nil
	if t.turns[i] == nil {
		d.Verdict, d.Code = lockkeeper.Wait, "approvals_later"
		d.Sentence = fmt.Sprintf("Its turn comes after %s.", strings.Join(c.Approval.After, " and "))
		d.Next = "Wait for those that come first."
		return d
	}
	if end := t.turns[i].at.Add(time.Duration(c.Approval.Timeout)); c.Approval.Timeout > 0 && !t.asOf.Before(end) {
		d.Verdict, d.Code = lockkeeper.Fail, "approval_timed_out"
		d.Sentence = fmt.Sprintf("%d of %d %s were there (%s) when its time ended, at %s.", len(placed), need, what, orNobody(names), end)
		d.Next = "Start a new run and ask again."
		return d
	}
	d.Verdict, d.Code = lockkeeper.Wait, "approvals_missing"
	d.Sentence = fmt.Sprintf("%d of %d %s are there (%s).", len(placed), need, what, orNobody(names))
	if t.extra > 0 {
		d.Sentence += " Automation has a part in the run, so one more is asked for."
	}
	if c.Approval.Instructions != "" {
		d.Sentence += " Approvers are asked: " + c.Approval.Instructions
	}
	d.Sentence += checklist(*c.Approval)
	ask := c.Approval.Groups
	if from, later := t.escalates(i); later && t.asOf.Before(from) {
		d.Sentence += fmt.Sprintf(" From %s on it asks %s, too.", from, strings.Join(c.Approval.Escalate.Groups, ", "))
	} else if later {
		ask = c.Approval.Asks()
	}
	d.Next = fmt.Sprintf("Ask %d more of %s to run: lockkeeper approve", need-len(placed), strings.Join(ask, ", "))
	return d
}

func standsFor(v Vote) string {
	if v.For == "" {
		return ""
	}
	return ", in the place of " + v.For
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
