package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"pgregory.net/rapid"
)

// one makes facts of an environment with one check more than the usual ones.
func one(c catalog.Check) Facts {
	f := facts()
	f.Environment.Checks = append(f.Environment.Checks, c)
	return f
}

// want finds the decision on a subject.
func want(t *testing.T, name string, d lockkeeper.Decision, subject string, verdict lockkeeper.Verdict, code string) lockkeeper.Decision {
	t.Helper()
	i := slices.IndexFunc(d.Because, func(b lockkeeper.Decision) bool { return b.Subject == subject })
	if i < 0 {
		t.Fatalf("%s: nothing was judged about %s", name, subject)
	}
	b := d.Because[i]
	if b.Verdict != verdict || b.Code != code || b.Sentence == "" || b.Verdict != lockkeeper.Pass && b.Next == "" || b.Verdict == lockkeeper.Pass && b.Until == nil {
		t.Errorf("%s: %+v, want %s %s", name, b, verdict, code)
	}
	if b.Verdict != lockkeeper.Pass && d.Verdict == lockkeeper.Pass {
		t.Errorf("%s: the gate passes all the same", name)
	}
	return b
}

func TestBranches(t *testing.T) {
	for _, c := range []struct {
		allowed  string
		ref      string
		must     bool
		is, code string
	}{
		{"refs/heads/main", "refs/heads/main", false, "", "branch_allowed"},
		{"refs/heads/main", "refs/heads/main2", false, "", "branch_not_allowed"},
		{"refs/heads/main", "refs/heads/refs/heads/main", false, "", "branch_not_allowed"},
		{"refs/heads/main", "refs/tags/main", false, "", "branch_not_allowed"},
		{"refs/heads/main", "refs/heads/Main", false, "", "branch_not_allowed"},
		{"refs/heads/main", "", false, "", "branch_not_allowed"},
		{"refs/heads/release/*", "refs/heads/release/1", false, "", "branch_allowed"},
		{"refs/heads/release/*", "refs/heads/release/1/evil", false, "", "branch_not_allowed"},
		{"refs/heads/release/*", "refs/heads/release", false, "", "branch_not_allowed"},
		{"refs/heads/*-stable", "refs/heads/1-stable", false, "", "branch_allowed"},
		{"refs/heads/*-stable", "refs/heads/1-stable2", false, "", "branch_not_allowed"},
		{"refs/tags/v*.*", "refs/tags/v1.2", false, "", "branch_allowed"},
		{"refs/tags/v*.*", "refs/tags/v12", false, "", "branch_not_allowed"},
		{"refs/heads/a*a", "refs/heads/a", false, "", "branch_not_allowed"},
		{"refs/heads/a.c", "refs/heads/abc", false, "", "branch_not_allowed"},
		{"refs/heads/main", "refs/heads/main", true, lockkeeper.RefIsProtected, "branch_allowed"},
		{"refs/heads/main", "refs/heads/main", true, lockkeeper.RefNotProtected, "branch_not_protected"},
		{"refs/heads/main", "refs/heads/main", true, "", "branch_not_protected"},
	} {
		f := one(catalog.Check{Name: "b", Branches: &catalog.Branches{Allowed: []string{c.allowed}, Protected: c.must}})
		f.Ask.Ref, f.Ask.Protected = c.ref, c.is
		verdict := lockkeeper.Fail
		if c.code == "branch_allowed" {
			verdict = lockkeeper.Pass
			f.Environment.Checks[1].Branches = &catalog.Branches{Allowed: []string{c.allowed}}
		}
		want(t, c.allowed+" and "+c.ref, Judge(f, now), "check b", verdict, c.code)
	}
}

func TestTemplate(t *testing.T) {
	for name, c := range map[string]struct {
		got  lockkeeper.Definition
		code string
	}{
		"at the ref":                 {lockkeeper.Definition{Path: "a/d/x.yml", Ref: "refs/tags/v3", Commit: "1"}, "template_admitted"},
		"at the commit":              {lockkeeper.Definition{Path: "a/d/x.yml", Ref: "refs/heads/x", Commit: "c0"}, "template_admitted"},
		"at another ref":             {lockkeeper.Definition{Path: "a/d/x.yml", Ref: "refs/heads/main", Commit: "1"}, "template_not_pinned"},
		"nobody says at which":       {lockkeeper.Definition{Path: "a/d/x.yml"}, "template_not_pinned"},
		"another one":                {lockkeeper.Definition{Path: "a/e/x.yml", Ref: "refs/tags/v3"}, "template_not_admitted"},
		"none":                       {lockkeeper.Definition{}, "template_missing"},
		"the path as somebody's own": {lockkeeper.Definition{Path: "evil/a/d/x.yml", Ref: "refs/tags/v3"}, "template_not_admitted"},
	} {
		f := one(catalog.Check{Name: "t", Template: &catalog.Template{Allowed: []catalog.TemplateSource{{Path: "a/d/x.yml", Refs: []string{"refs/tags/v3"}, Commits: []string{"c0"}}}}})
		f.Ask.Template = c.got
		verdict := lockkeeper.Fail
		if c.code == "template_admitted" {
			verdict = lockkeeper.Pass
		}
		want(t, name, Judge(f, now), "check t", verdict, c.code)
	}
}

func TestExpression(t *testing.T) {
	f := one(catalog.Check{Name: "x", Expression: &catalog.Expression{Rule: "r", Message: "do this"}})
	want(t, "nothing evaluates it", Judge(f, now), "check x", lockkeeper.Error, "expression_error")
	f.Holds = func(string, lockkeeper.Ask) (bool, error) { return true, errors.New("broken") }
	want(t, "an error beside a true", Judge(f, now), "check x", lockkeeper.Error, "expression_error")
	f.Holds = func(string, lockkeeper.Ask) (bool, error) { return false, nil }
	if d := want(t, "false", Judge(f, now), "check x", lockkeeper.Fail, "expression_false"); d.Next != "do this" {
		t.Errorf("the check's own message is not the way out: %s", d.Next)
	}
	f.Holds = func(string, lockkeeper.Ask) (bool, error) { return true, nil }
	want(t, "true", Judge(f, now), "check x", lockkeeper.Pass, "expression_true")
}

func TestDemandsAndWaivers(t *testing.T) {
	f := facts()
	f.Environment.Checks = f.Environment.Checks[:1]
	f.Environment.Checks[0].Approval.Review = ""
	d := Judge(f, now)
	want(t, "no review", d, "demand security-review", lockkeeper.Fail, "demand_unmet")
	want(t, "no branches", d, "demand branch-control", lockkeeper.Fail, "demand_unmet")
	end := now.Add(time.Minute)
	f.Environment.Waivers = []catalog.Waiver{{Demand: catalog.DemandSecurityReview, Owner: "ann", Until: end, Reason: "r"}, {Demand: catalog.DemandBranchControl, Owner: "ann", Until: end, Reason: "r"}}
	d = Judge(f, now)
	want(t, "waived", d, "demand branch-control", lockkeeper.Pass, "demand_waived")
	if !d.Passed(now) || d.Until == nil || *d.Until != end {
		t.Errorf("the gate: %s until %v, want a pass until the waiver's end", d.Code, d.Until)
	}
	want(t, "the waiver has ended", Judge(f, end), "demand branch-control", lockkeeper.Fail, "demand_unmet")

	// An end may lie 366 days ahead and no further, whatever else is waived.
	furthest := now.Add(366 * 24 * time.Hour)
	long := catalog.Waiver{Demand: catalog.DemandBranchControl, Owner: "ann", Until: furthest.Add(time.Millisecond), Reason: "r"}
	f.Environment.Waivers[1] = long
	d = Judge(f, now)
	want(t, "a waiver too long", d, "demand branch-control", lockkeeper.Fail, "waiver_too_long")
	want(t, "the other one", d, "demand security-review", lockkeeper.Pass, "demand_waived")
	for _, c := range [][]catalog.Waiver{{long, {Demand: long.Demand, Owner: "bob", Until: furthest, Reason: "r"}}, {{Demand: long.Demand, Owner: "bob", Until: furthest, Reason: "r"}, long}} {
		f.Environment.Waivers = append(f.Environment.Waivers[:1:1], c...)
		want(t, "a fit waiver beside it", Judge(f, now), "demand branch-control", lockkeeper.Pass, "demand_waived")
	}
	f.Environment.Tier = catalog.Preproduction
	if d := Judge(f, end); d.Verdict != lockkeeper.Pass {
		t.Errorf("before production nothing is demanded: %s", d.Code)
	}
}

func TestDelay(t *testing.T) {
	f := one(catalog.Check{Name: "d", Delay: &catalog.Delay{For: catalog.Duration(time.Minute)}})
	f.Opened = now.Add(-time.Minute + time.Millisecond)
	want(t, "a millisecond too soon", Judge(f, now), "check d", lockkeeper.Wait, "delayed")
	f.Opened = now.Add(-time.Minute)
	want(t, "on time", Judge(f, now), "check d", lockkeeper.Pass, "delay_over")
}

func TestRollback(t *testing.T) {
	f := facts()
	f.Ask.Action, f.Records = lockkeeper.RollbackAction, nil
	want(t, "never deployed", Judge(f, now), "artifacts", lockkeeper.Fail, "rollback_unknown")
	f.Good = []Release{{Deployment: "d-1", Artifacts: f.Ask.Artifacts}}
	want(t, "was good", Judge(f, now), "artifacts", lockkeeper.Pass, "passed")
	f.Ask.Artifacts = append(slices.Clone(f.Ask.Artifacts), lockkeeper.Artifact{Name: "more", Digest: lockkeeper.DigestOf(nil)})
	want(t, "with one more", Judge(f, now), "artifacts", lockkeeper.Fail, "rollback_unknown")
	f.Ask.Action = lockkeeper.DeployAction
	want(t, "deployed as if new", Judge(f, now), "artifacts", lockkeeper.Fail, "artifact_claimed")
}

func TestFreezeOfSome(t *testing.T) {
	for name, c := range map[string]struct {
		freeze  catalog.Freeze
		change  func(*Facts)
		verdict lockkeeper.Verdict
	}{
		"of deployments":                {catalog.Freeze{Actions: []string{"deploy"}}, nil, lockkeeper.Wait},
		"of rollbacks":                  {catalog.Freeze{Actions: []string{"rollback"}}, nil, lockkeeper.Pass},
		"of automation, a person comes": {catalog.Freeze{Callers: []string{"automation"}}, nil, lockkeeper.Pass},
		"of automation, a schedule comes": {catalog.Freeze{Callers: []string{"automation"}}, func(f *Facts) {
			f.Initiators = append(f.Initiators, Initiator{User: "bot", Automation: true})
		}, lockkeeper.Wait},
		"of people, a schedule comes": {catalog.Freeze{Callers: []string{"people"}}, func(f *Facts) { f.Initiators[0].Automation = true }, lockkeeper.Pass},
		"of people and deployments":   {catalog.Freeze{Callers: []string{"people"}, Actions: []string{"deploy"}}, nil, lockkeeper.Wait},
	} {
		f := facts()
		c.freeze.From, c.freeze.Until = now, now.Add(time.Hour)
		f.Freezes = []catalog.Freeze{c.freeze}
		if c.change != nil {
			c.change(&f)
		}
		if d := Freeze(f, now); d.Verdict != c.verdict {
			t.Errorf("%s: %s", name, d.Verdict)
		}
	}
}

// The lock: nobody is let in beside a holder, the oldest ready ask goes first
// for a while, and runLatest gives way to newer ones of the same line only.
func TestLock(t *testing.T) {
	const me = "release/deploy refs/heads/main"
	for name, c := range map[string]struct {
		mode    string
		rivals  []Rival
		freed   time.Duration // ago
		verdict lockkeeper.Verdict
		code    string
	}{
		"free":                         {catalog.LockSequential, nil, time.Hour, lockkeeper.Pass, "lock_free"},
		"held":                         {catalog.LockSequential, []Rival{{ID: "d-1", Running: true}}, time.Hour, lockkeeper.Wait, "locked"},
		"an older one is not ready":    {catalog.LockSequential, []Rival{{ID: "d-1", Ticket: 1}}, 0, lockkeeper.Pass, "lock_free"},
		"an older one is ready":        {catalog.LockSequential, []Rival{{ID: "d-1", Ticket: 1, Ready: true}}, 0, lockkeeper.Wait, "not_its_turn"},
		"an older one never comes":     {catalog.LockSequential, []Rival{{ID: "d-1", Ticket: 1, Ready: true}}, turnGrace, lockkeeper.Pass, "lock_free"},
		"a newer one is ready":         {catalog.LockSequential, []Rival{{ID: "d-9", Ticket: 9, Ready: true, Line: me}}, 0, lockkeeper.Pass, "lock_free"},
		"newest: a newer one is ready": {catalog.LockLatest, []Rival{{ID: "d-9", Ticket: 9, Ready: true, Line: me}}, 0, lockkeeper.Fail, "superseded"},
		"newest: a newer one waits":    {catalog.LockLatest, []Rival{{ID: "d-9", Ticket: 9, Line: me}}, 0, lockkeeper.Pass, "lock_free"},
		"newest: of another line":      {catalog.LockLatest, []Rival{{ID: "d-9", Ticket: 9, Ready: true, Line: "other"}}, 0, lockkeeper.Pass, "lock_free"},
		"newest: I am newer":           {catalog.LockLatest, []Rival{{ID: "d-1", Ticket: 1, Ready: true, Line: me}}, 0, lockkeeper.Pass, "lock_free"},
		"newest: I am newer, it runs":  {catalog.LockLatest, []Rival{{ID: "d-1", Ticket: 1, Running: true, Line: me}}, 0, lockkeeper.Wait, "locked"},
	} {
		f := one(catalog.Check{Name: "l", Lock: &catalog.Lock{Mode: c.mode}})
		f.Ticket, f.Freed = 5, now.Add(-c.freed)
		f.Rivals = func() []Rival { return c.rivals }
		want(t, name, Judge(f, now), "check l", c.verdict, c.code)
	}
	f := one(catalog.Check{Name: "l", Lock: &catalog.Lock{Mode: catalog.LockSequential}})
	want(t, "nobody says who holds it", Judge(f, now), "check l", lockkeeper.Error, "lock_unknown")
	f.Votes = nil
	f.Rivals = func() []Rival { t.Error("the queue is looked at before the other checks have passed"); return nil }
	want(t, "others first", Judge(f, now), "check l", lockkeeper.Wait, "lock_later")
}

func sequence() Facts {
	f := facts()
	f.Environment.Checks = []catalog.Check{
		{Name: "first", Approval: &catalog.Approval{Count: 1, Groups: []string{"a"}, Review: catalog.SecurityReview}},
		{Name: "then", Approval: &catalog.Approval{Count: 1, Groups: []string{"b"}, After: []string{"first"}, Timeout: catalog.Duration(10 * time.Minute)}},
		{Name: "main", Branches: &catalog.Branches{Allowed: []string{"refs/heads/main"}}}}
	f.Votes, f.Opened = nil, now.Add(-2*time.Hour)
	return f
}

func at(v Vote, minutes int) Vote {
	v.At = now.Add(time.Duration(minutes) * time.Minute)
	return v
}

func TestApprovalsInSequence(t *testing.T) {
	f := sequence()
	want(t, "nobody", Judge(f, now), "check then", lockkeeper.Wait, "approvals_later")
	// A vote that came before its turn does not count, not even later.
	f.Votes = []Vote{at(vote("bob", "b"), -5), at(vote("ann2", "a"), -3)}
	want(t, "too early", Judge(f, now), "check then", lockkeeper.Wait, "approvals_missing")
	if !Adds(f, vote("bob", "b"), now) || Adds(f, vote("ann2", "a"), now) {
		t.Error("who may vote again is wrong")
	}
	f.Votes = append(f.Votes, at(vote("bob", "b"), -1))
	want(t, "in turn", Judge(f, now), "check then", lockkeeper.Pass, "approved")
	// The first one loses his right: the second one's turn has not come either.
	f.Votes[1].Right = lockkeeper.Decision{Verdict: lockkeeper.Fail}
	want(t, "the first is gone", Judge(f, now), "check then", lockkeeper.Wait, "approvals_later")
	if d := Turns(f, at(vote("dan", "b"), 0), now); d.Verdict != lockkeeper.Wait || d.Code != "not_your_turn" {
		t.Errorf("turn: %+v", d)
	}
	if d := Turns(f, at(vote("dan", "a"), 0), now); d.Verdict != lockkeeper.Pass {
		t.Errorf("turn of the first: %+v", d)
	}
	// The time-out runs from the turn, not from the opening.
	f.Votes = []Vote{at(vote("ann2", "a"), -9)}
	want(t, "a minute left", Judge(f, now), "check then", lockkeeper.Wait, "approvals_missing")
	want(t, "out of time", Judge(f, now.Add(time.Minute)), "check then", lockkeeper.Fail, "approval_timed_out")
	f.Votes = append(f.Votes, at(vote("bob", "b"), 1))
	want(t, "a vote at the end of its time", Judge(f, now.Add(2*time.Minute)), "check then", lockkeeper.Fail, "approval_timed_out")
}

// Whoever is asked reads what to look at; once he has, nobody needs it.
func TestInstructions(t *testing.T) {
	f := facts()
	f.Environment.Checks[0].Approval.Instructions = "Compare the migration with the back-up."
	if d := Judge(f, now); strings.Contains(fmt.Sprint(d), "migration") {
		t.Error("a check that has passed still asks")
	}
	f.Votes = f.Votes[:1]
	i := slices.IndexFunc(Judge(f, now).Because, func(d lockkeeper.Decision) bool { return d.Subject == "check two" })
	if d := Judge(f, now).Because[i]; !strings.HasSuffix(d.Sentence, "Approvers are asked: Compare the migration with the back-up.") {
		t.Errorf("an approver reads: %s", d.Sentence)
	}
}

func TestApprovalsGrowOld(t *testing.T) {
	f := facts()
	f.Opened = now.Add(-2 * time.Hour)
	f.Environment.Checks[0].Approval.Validity = catalog.Duration(30 * time.Minute)
	f.Votes = []Vote{at(vote("bob", "g"), -29), at(vote("cat", "g"), -10)}
	d := Judge(f, now)
	if d.Until == nil || *d.Until != now.Add(time.Minute) {
		t.Errorf("the pass holds until %v, want until the older vote's end", d.Until)
	}
	want(t, "one is too old", Judge(f, now.Add(time.Minute)), "check two", lockkeeper.Wait, "approvals_missing")
	f.Released = now
	if d := Standing(f, now.Add(time.Hour)); !d.Passed(now.Add(time.Hour)) {
		t.Errorf("a vote grew too old after the release: %s until %v", d.Sentence, d.Until)
	}
}

// With any chain of approvals, at any moment: who has passed is exactly what a
// replay of the votes one by one, each taken only in its turn, says.
func TestSequenceAgainstReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := facts()
		n := rapid.IntRange(1, 3).Draw(rt, "checks")
		f.Environment.Tier, f.Environment.Checks, f.Votes = catalog.Development, nil, nil
		for i := range n {
			// Each check has a group of its own here, so that no matching is needed to replay.
			a := &catalog.Approval{Count: rapid.IntRange(1, 2).Draw(rt, "count"), Groups: []string{fmt.Sprint("g", i)}}
			if i > 0 && rapid.Bool().Draw(rt, "after") {
				a.After = []string{fmt.Sprint("c", rapid.IntRange(0, i-1).Draw(rt, "which"))}
			}
			f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: fmt.Sprint("c", i), Approval: a})
		}
		have := map[string]int{}
		full := func(name string) bool {
			i := slices.IndexFunc(f.Environment.Checks, func(c catalog.Check) bool { return c.Name == name })
			return have[name] >= f.Environment.Checks[i].Approval.Count
		}
		for i := range rapid.IntRange(0, 8).Draw(rt, "votes") {
			g := rapid.IntRange(0, n-1).Draw(rt, "group")
			c := f.Environment.Checks[g]
			f.Votes = append(f.Votes, Vote{User: fmt.Sprint("u", i), Counts: lockkeeper.Person(fmt.Sprint("u", i)), Groups: []string{fmt.Sprint("g", g)}, Right: granted, At: now.Add(time.Duration(i) * time.Second)})
			if !slices.ContainsFunc(c.Approval.After, func(name string) bool { return !full(name) }) {
				have[c.Name]++
			}
		}
		d := Judge(f, now.Add(time.Minute))
		for _, c := range f.Environment.Checks {
			i := slices.IndexFunc(d.Because, func(b lockkeeper.Decision) bool { return b.Subject == "check "+c.Name })
			if got := d.Because[i].Verdict == lockkeeper.Pass; got != full(c.Name) {
				rt.Fatalf("%s: passed %v, by the replay %v (%d)", c.Name, got, full(c.Name), have[c.Name])
			}
		}
	})
}

// With overlapping groups, too: who has passed is what trying every assignment of
// distinct votes to places says, where a check that comes after others takes only
// votes given after a beginning of the votes that fills those others.
func TestSequenceAgainstEveryAssignment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := facts()
		n := rapid.IntRange(1, 3).Draw(rt, "checks")
		f.Environment.Tier, f.Environment.Checks, f.Votes = catalog.Development, nil, nil
		groups := []string{"a", "b", "c"}
		for i := range n {
			a := &catalog.Approval{Count: rapid.IntRange(1, 2).Draw(rt, "count"), Groups: rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 1, 2, rapid.ID[string]).Draw(rt, "groups")}
			if i > 0 {
				a.After = rapid.SampledFrom([][]string{nil, {fmt.Sprint("c", i-1)}, {"c0"}}).Draw(rt, "after")
			}
			if rapid.Bool().Draw(rt, "escalates") {
				a.Escalate = &catalog.Escalation{After: catalog.Duration(rapid.IntRange(1, 2).Draw(rt, "seconds")) * catalog.Duration(time.Second), Groups: []string{rapid.SampledFrom(groups).Draw(rt, "escalation")}}
			}
			f.Environment.Checks = append(f.Environment.Checks, catalog.Check{Name: fmt.Sprint("c", i), Approval: a})
		}
		for i := range rapid.IntRange(0, 6).Draw(rt, "votes") {
			v := vote(fmt.Sprint("u", i), rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 1, 3, rapid.ID[string]).Draw(rt, "member")...)
			v.At = now.Add(time.Duration(i/2) * time.Second) // two of one moment
			v.Counts = lockkeeper.Person(fmt.Sprint("p", rapid.IntRange(0, 4).Draw(rt, "person")))
			f.Votes = append(f.Votes, v)
		}
		f.Opened = now
		from := make([]int, n) // per check, the first vote that it takes; past all: none
		asked := func(v Vote, c int) bool {
			a, turn := f.Environment.Checks[c].Approval, f.Opened
			if len(a.After) > 0 {
				turn = f.Votes[from[c]-1].At // of the vote that brought the turn about
			}
			return inAny(v.Groups, a.Groups) || a.Escalate != nil && !v.At.Before(turn.Add(time.Duration(a.Escalate.After))) && inAny(v.Groups, a.Escalate.Groups)
		}
		type persons map[lockkeeper.Person]bool
		var fills func(checks []int, votes, place int, used persons) bool
		fills = func(checks []int, votes, place int, used persons) bool {
			var c, nth int
			for i := range checks {
				if count := f.Environment.Checks[checks[i]].Approval.Count; place < nth+count {
					c = checks[i]
					break
				} else if nth += count; i == len(checks)-1 {
					return true
				}
			}
			for v := from[c]; v < votes; v++ {
				who := f.Votes[v].Counts
				if used[who] || !asked(f.Votes[v], c) {
					continue
				}
				used[who] = true
				if fills(checks, votes, place+1, used) {
					return true
				}
				used[who] = false
			}
			return false
		}
		for i, c := range f.Environment.Checks {
			var chain []int
			for before := c.Approval.After; len(before) > 0; before = f.Environment.Checks[chain[0]].Approval.After {
				chain = append([]int{int(before[0][1] - '0')}, chain...)
			}
			if len(chain) == 0 {
				continue
			}
			for from[i] = 0; from[i] <= len(f.Votes) && !fills(chain, from[i], 0, persons{}); from[i]++ {
			}
		}
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		want := fills(all, len(f.Votes), 0, persons{})
		if d := Judge(f, now.Add(time.Minute)); (d.Verdict == lockkeeper.Pass) != want {
			rt.Fatalf("the gate says %s (%s), every assignment %v; turns %v", d.Verdict, d.Sentence, want, from)
		}
	})
}

// After its time an approval takes votes of others too, counted from when its turn
// came, and not one that was given before.
func TestEscalation(t *testing.T) {
	f := sequence()
	f.Environment.Checks[1].Approval.Timeout = 0
	f.Environment.Checks[1].Approval.Escalate = &catalog.Escalation{After: catalog.Duration(5 * time.Minute), Groups: []string{"chiefs"}}
	f.Votes = []Vote{at(vote("ann2", "a"), -3)} // brings the turn about
	eve := vote("eve", "chiefs")
	d := Turns(f, eve, now)
	if d.Verdict != lockkeeper.Wait || d.Code != "not_your_turn" || !strings.Contains(d.Sentence, now.Add(2*time.Minute).String()) {
		t.Errorf("before its time: %+v", d)
	}
	if d := want(t, "before its time", Judge(f, now), "check then", lockkeeper.Wait, "approvals_missing"); !strings.Contains(d.Sentence, "it asks chiefs, too") || strings.Contains(d.Next, "chiefs") {
		t.Errorf("before its time: %s %s", d.Sentence, d.Next)
	}
	if d := Turns(f, eve, now.Add(2*time.Minute)); d.Verdict != lockkeeper.Pass {
		t.Errorf("at its time: %+v", d)
	}
	if d := want(t, "at its time", Judge(f, now.Add(2*time.Minute)), "check then", lockkeeper.Wait, "approvals_missing"); !strings.Contains(d.Next, "chiefs") {
		t.Errorf("at its time: %s", d.Next)
	}
	f.Votes = append(f.Votes, at(eve, 0))
	want(t, "a vote that came too early", Judge(f, now.Add(3*time.Minute)), "check then", lockkeeper.Wait, "approvals_missing")
	if !Adds(f, eve, now.Add(3*time.Minute)) {
		t.Error("she may not vote again")
	}
	f.Votes = append(f.Votes, at(eve, 2))
	want(t, "in time", Judge(f, now.Add(3*time.Minute)), "check then", lockkeeper.Pass, "approved")
	if d := Admissible(f, vote("dan", "nobody"), now); d.Code != "not_asked" {
		t.Errorf("whoever is never asked: %+v", d)
	}
}

// The vote that completes what comes first does not count for what comes after,
// even if its voter is asked there too.
func TestSequenceTakesNoVoteTwice(t *testing.T) {
	f := facts()
	f.Environment.Tier = catalog.Development
	f.Environment.Checks = []catalog.Check{{Name: "manager", Approval: &catalog.Approval{Count: 1, Groups: []string{"managers"}}},
		{Name: "security", Approval: &catalog.Approval{Count: 1, Groups: []string{"security"}, After: []string{"manager"}}}}
	cat, bob, eve := vote("cat", "managers", "security"), vote("bob", "managers"), vote("eve", "security")
	bob.At, eve.At = now.Add(2*time.Second), now.Add(3*time.Second)
	f.Votes = []Vote{cat, bob}
	if d := Judge(f, now.Add(time.Minute)); d.Verdict != lockkeeper.Wait || d.Code != "approvals_missing" {
		t.Errorf("the review came before what it follows: %s %s", d.Code, d.Sentence)
	}
	// Bob fills the manager's place, so Cat may review, by another vote.
	if !Adds(f, cat, now.Add(time.Minute)) || Adds(f, bob, now.Add(time.Minute)) {
		t.Error("who may vote again is wrong")
	}
	again := cat
	again.At = now.Add(time.Minute)
	f.Votes = append(f.Votes, again)
	if d := Judge(f, now.Add(2*time.Minute)); d.Verdict != lockkeeper.Pass {
		t.Errorf("reviewed after it: %s %s", d.Code, d.Sentence)
	}
	f.Votes = f.Votes[:2]
	f.Votes = append(f.Votes, eve)
	if d := Judge(f, now.Add(time.Minute)); d.Verdict != lockkeeper.Pass {
		t.Errorf("and after: %s %s", d.Code, d.Sentence)
	}
}

// NextChange agrees with a look at every minute, also where clocks change.
func TestHoursAgainstEveryMinute(t *testing.T) {
	days := catalog.Weekdays()
	rapid.Check(t, func(rt *rapid.T) {
		clock := func(label string) string {
			return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(rt, label), rapid.SampledFrom([]int{0, 15, 30, 59}).Draw(rt, label))
		}
		h := catalog.Hours{Zone: rapid.SampledFrom([]string{"UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia"}).Draw(rt, "zone")}
		for range rapid.IntRange(1, 3).Draw(rt, "windows") {
			w := catalog.Window{Days: rapid.SliceOfNDistinct(rapid.SampledFrom(days), 1, 7, rapid.ID[string]).Draw(rt, "days"), From: clock("from"), To: clock("to")}
			if rapid.Bool().Draw(rt, "to the end") {
				w.To = "24:00"
			}
			if w.From != w.To && w.To != "00:00" {
				h.Windows = append(h.Windows, w)
			}
		}
		zone, err := time.LoadLocation(h.Zone)
		if err != nil {
			rt.Fatal(err)
		}
		// Around the days on which clocks change in 2026, and Samoa's missing day.
		start := rapid.SampledFrom([]time.Time{time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC),
			time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2011, 12, 29, 0, 0, 0, 0, time.UTC)}).Draw(rt, "start")
		from := start.Add(time.Duration(rapid.IntRange(0, 3*24*60).Draw(rt, "minute")) * time.Minute)
		if rapid.Bool().Draw(rt, "except") {
			h.Except = []string{from.AddDate(0, 0, rapid.IntRange(0, 2).Draw(rt, "day")).Format(time.DateOnly)}
		}
		was := open(h, from.In(zone))
		var byMinute time.Time
		for m := 1; m < 5*24*60; m++ {
			if at := from.Add(time.Duration(m) * time.Minute); open(h, at.In(zone)) != was {
				byMinute = at
				break
			}
		}
		change, found := NextChange(h, zone, lockkeeper.MomentOf(from))
		if byMinute.IsZero() {
			if found && change.Time().Before(from.Add(5*24*time.Hour-time.Minute)) {
				rt.Fatalf("%+v: NextChange says %s, no minute does", h, change)
			}
			return
		}
		if !found || !change.Time().Equal(byMinute) {
			rt.Fatalf("%+v from %s: NextChange says %s (%v), by the minute it is %s", h, from.In(zone), change, found, byMinute.In(zone))
		}
	})
}

func TestHours(t *testing.T) {
	c := catalog.Check{Name: "h", Hours: &catalog.Hours{Zone: "Europe/Zurich", Windows: []catalog.Window{{Days: []string{"monday"}, From: "09:00", To: "17:00"}}}}
	at := func(hour, minute int) lockkeeper.Moment { // Monday 2 November, in Zurich
		return lockkeeper.MomentOf(time.Date(2026, 11, 2, hour-1, minute, 0, 0, time.UTC))
	}
	for _, x := range []struct {
		at      lockkeeper.Moment
		verdict lockkeeper.Verdict
	}{{at(8, 59), lockkeeper.Wait}, {at(9, 0), lockkeeper.Pass}, {at(16, 59), lockkeeper.Pass}, {at(17, 0), lockkeeper.Wait}} {
		if d := hours(c, x.at); d.Verdict != x.verdict {
			t.Errorf("%s: %s %s", x.at, d.Verdict, d.Sentence)
		}
	}
	if d := hours(c, at(9, 0)); d.Until == nil || *d.Until != at(17, 0) {
		t.Errorf("the pass holds until %v", d.Until)
	}
	c.Hours.Except = []string{"2026-11-02"}
	if d := hours(c, at(10, 0)); d.Verdict != lockkeeper.Wait {
		t.Errorf("on an exception: %s", d.Verdict)
	}
	c.Hours.Zone = "Nowhere/At_All"
	if d := hours(c, at(10, 0)); d.Verdict != lockkeeper.Error {
		t.Errorf("in no zone: %s", d.Verdict)
	}
}
