package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"pgregory.net/rapid"
)

// lookBackAt decides recorded entries again: under the laws that were in force, or
// under given rules.
func lookBackAt(t interface{ Fatal(...any) }, records []journal.Record, all []*law, given *Rules) WhatIf {
	h := hindsight{state: newState(), rules: all[0].rules, gone: map[string]bool{}, most: 1000, out: WhatIf{Unknowable: map[string]int{}}}
	h.law = func(rev Revision) (*Rules, error) {
		for _, l := range all {
			if l.rules.Catalog.Digest() == rev.Digest {
				return l.rules, nil
			}
		}
		return nil, fmt.Errorf("no law of revision %d", rev.Number)
	}
	if given != nil {
		h.given, h.rules = true, given
	}
	for _, r := range records {
		e, ev, err := readEntry(r.Data)
		if err == nil {
			err = h.take(e, ev)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := h.done()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestWhatIfNothingChanged decides random pasts again under the rules that were in force
// each time, and pasts under one law again under that law: everything is the same, and
// what cannot be known is only what was refused and who changed the catalog.
func TestWhatIfNothingChanged(t *testing.T) {
	all := watchful(t)
	decided, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		laws, given := all, (*Rules)(nil)
		if rapid.Bool().Draw(rt, "one law") {
			laws = []*law{rapid.SampledFrom(all).Draw(rt, "law")}
			given = laws[0].rules
		}
		s := dressed(rt, laws, func(*simulation, Caller, command) func(step) { return func(step) {} })
		out := lookBackAt(rt, s.records, laws, given)
		unknowable := out.Unknowable["refused_then"] + out.Unknowable["catalog"] + out.Unknowable["caller"]
		if out.Unknowable["caller"] > 1 || len(out.Differs) > 0 || out.Same+unknowable != out.Decided {
			rt.Fatalf("nothing changed, and %s: %+v %v", out, out.Differs, out.Unknowable)
		}
		decided += out.Same
		for _, r := range s.records {
			if _, ev, err := readEntry(r.Data); err != nil {
				rt.Fatal(err)
			} else if r, is := ev.(*refusalMade); is && r.Tried != nil {
				refused++
			}
		}
	})
	if decided < 1000 || refused < 200 {
		t.Errorf("only %d decisions were looked at, and %d refusals", decided, refused)
	}
}

// TestWhatIfAgrees compares what a look back says of each claim with an independent
// reading: under a law that freezes production from 10 to 11, exactly the claims of
// deployments in that hour would wait, and their tokens are unknowable.
func TestWhatIfAgrees(t *testing.T) {
	before := laws(t)[:1]
	frozen := laws(t)[4]
	waits := 0
	rapid.Check(t, func(rt *rapid.T) {
		s := dressed(rt, before, func(*simulation, Caller, command) func(step) { return func(step) {} })
		out := lookBackAt(rt, s.records, before, frozen.rules)
		var want []int64
		stopped := map[string]bool{}
		follows := 0
		asks := map[string]lockkeeper.Ask{}
		for _, r := range s.records {
			e, ev, err := readEntry(r.Data)
			if err != nil {
				rt.Fatal(err)
			}
			switch ev := ev.(type) {
			case *deploymentOpened:
				asks[ev.ID] = ev.Ask
			case *leaseGranted:
				if a := asks[ev.Deployment]; a.Environment == "production" && a.Action == lockkeeper.DeployAction && e.Time.Time().Hour() == 10 {
					want, stopped[ev.Deployment] = append(want, e.Seq), true
				}
			case *tokenGranted:
				if stopped[ev.Deployment] {
					follows++
				}
			case *leaseRenewed:
				if stopped[ev.Deployment] {
					follows++
				}
			case *refusalMade:
				if id, about := strings.CutPrefix(ev.Subject, "deployment/"); about && stopped[id] && ev.Tried != nil {
					follows++
				}
			case *deploymentEnded:
				if stopped[ev.ID] && e.By.User != "" && ev.End.Status == Cancelled {
					follows++
				}
			}
		}
		var got []int64
		for _, d := range out.Differs {
			got = append(got, d.Seq)
			if d.Answer != AgainWaits || !slices.Contains(d.On, "freeze") {
				rt.Fatalf("%+v", d)
			}
		}
		if !slices.Equal(got, want) || out.Waits != len(want) || out.Unknowable["follows"] != follows {
			rt.Fatalf("it differs at %v and should at %v; %d follow, should %d", got, want, out.Unknowable["follows"], follows)
		}
		waits += len(want)
	})
	if waits == 0 {
		t.Error("no claim fell into the freeze")
	}
}

// What other rules would make of one deployment: refused at the vote, waiting at the
// claim, refused at the opening.
func TestWhatIfOtherRules(t *testing.T) {
	old := &law{rules: mustRules(t, rulesWith())}
	s := &core{world: world{State: newState(), rules: old.rules}}
	var records []journal.Record
	add := func(out step) {
		if out.err != nil {
			t.Fatal(out.err)
		}
		records = append(records, out.records...)
	}
	var first step
	events := []event{&journalStarted{}}
	for _, user := range []string{"dora", "ann", "ann-admin", "bob", "cat", "eve"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p"}, &accountProven{User: user})
	}
	job := workload(1, "7", "10", "production", "1001", "push", 1, began)
	events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: job.Commit.Value, Run: "7", Artifacts: []lockkeeper.Artifact{app}})
	if err := s.record(&first, Caller{Keeper: true}, "", "", events, began); err != nil {
		t.Fatal(err)
	}
	add(first)
	do := func(by Caller, cmd command, after time.Duration) {
		out, err := s.step(by, "", cmd, began.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		add(out)
	}
	h := HandleDigest("one")
	do(Caller{Workload: &job}, openDeployment{ID: "d-1", Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: h}, 0)
	digest := s.Deployments["d-1"].Digest
	do(Caller{User: "bob"}, vote{Deployment: "d-1", Approve: true, Digest: digest, Comment: ""}, time.Minute)
	do(Caller{User: "cat"}, vote{Deployment: "d-1", Approve: true, Digest: digest, Comment: ""}, time.Minute)
	do(Caller{Workload: &job}, claimLease{Deployment: "d-1", Lease: "l", Job: job, Handle: h}, 2*time.Minute)
	do(Caller{Workload: &job}, grantToken{Deployment: "d-1", ID: "t", Job: job, Handle: h, Audience: "https://target.example"}, 2*time.Minute)

	for name, c := range map[string]struct {
		rules []string
		want  []string
	}{
		"two of the managers":   {[]string{"count: 1, groups: [managers]", "count: 2, groups: [managers]"}, []string{"lease.granted waits approvals_missing [check security]"}},
		"bob is off":            {[]string{"<bob>", "\noff: true"}, []string{"deployment.approved refused user_off []", "lease.granted waits approvals_missing [check security]"}},
		"another branch":        {[]string{"allowed: [refs/heads/main]}\n", "allowed: [refs/heads/other]}\n"}, []string{"deployment.opened refused branch_not_allowed []"}},
		"a window":              {[]string{"<lock>", "  - {name: day, hours: {zone: UTC, windows: [{days: [friday], from: \"09:00\", to: \"12:00\"}]}}\n"}, []string{"lease.granted waits outside_hours [check day]"}},
		"the same in shadow":    {[]string{"<lock>", "  - {name: day, shadow: true, hours: {zone: UTC, windows: [{days: [friday], from: \"09:00\", to: \"12:00\"}]}}\n"}, nil},
		"no such environment":   {[]string{"name: production", "name: prod", "environment: production\naud", "environment: prod\naud"}, []string{"deployment.opened refused environment_unknown []"}},
		"it only observes":      {[]string{"<age>", "mode: observe\n", "count: 1, groups: [managers]", "count: 2, groups: [managers]"}, nil},
		"another audience":      {[]string{"audiences: [\"https://target.example\"]\nlifetime", "audiences: [\"https://x.example\"]\nlifetime"}, []string{"token.granted refused audience_not_admitted []"}},
		"nothing else than now": {nil, nil},
	} {
		out := lookBackAt(t, records, []*law{old}, mustRules(t, rulesWith(c.rules...)))
		var got []string
		for _, d := range out.Differs {
			got = append(got, fmt.Sprintf("%s %s %s %v", d.Kind, d.Answer, d.Code, d.On))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: it differs in %q, want %q", name, got, c.want)
		}
		if out.Same+out.Refused+out.Waits+out.Unknowable["follows"]+out.Unknowable["caller"] != out.Decided {
			t.Errorf("%s: %s %v", name, out, out.Unknowable)
		}
	}
}

// TestWhatIfOfActivations looks back at a request, its approval, its beginning and a
// token under it: under the same rules all is the same, and under stricter ones the
// activation waits and the token hangs on it.
func TestWhatIfOfActivations(t *testing.T) {
	laws := accessLaws(t)
	loose, strict := laws[3], laws[0] // one approval, and at e two
	c := &core{world: world{State: newState(), rules: loose.rules}}
	var records []journal.Record
	now := began
	var first step
	events := []event{&journalStarted{}}
	for _, user := range []string{"dora", "ann", "ann2", "bob", "cat"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p"}, &accountProven{User: user})
	}
	if err := c.record(&first, Caller{Keeper: true}, "", "", events, now); err != nil {
		t.Fatal(err)
	}
	records = append(records, first.records...)
	do := func(user string, cmd command) {
		now = now.Add(time.Minute)
		out, err := c.step(Caller{User: user}, "", cmd, now)
		if err != nil || out.err != nil {
			t.Fatal(cmd.name(), err, out.err)
		}
		records = append(records, out.records...)
	}
	const scope = "/projects/p/environments/e"
	do("ann", openRequest{ID: "r-1", Role: "operator", Scope: scope, For: 30 * time.Minute, Reason: "why"})
	do("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest})
	do("ann", beginActivation{Request: "r-1", ID: "a-1"})
	do("ann", openRequest{ID: "r-2", Role: "operator", Scope: scope, For: 30 * time.Minute, Reason: "why"})
	do("cat", decideRequest{Request: "r-2", Digest: c.Requests["r-2"].Digest, Comment: "no"})

	old := []*law{{rules: loose.rules}}
	for name, test := range map[string]struct {
		given *Rules
		want  string
	}{
		"then":       {nil, "[]"},
		"the same":   {loose.rules, "[]"},
		"two leads":  {strict.rules, "[activation.begun waits]"},
		"cat is off": {laws[2].rules, "[activation.begun waits request.closed refused]"},
	} {
		out := lookBackAt(t, records, old, test.given)
		got := []string{}
		for _, d := range out.Differs {
			got = append(got, d.Kind+" "+d.Answer)
		}
		if fmt.Sprint(got) != test.want || out.Decided != 5 {
			t.Errorf("%s: of %d it differs in %v, want %s: %+v", name, out.Decided, got, test.want, out.Differs)
		}
	}
}
