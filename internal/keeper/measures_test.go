package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/measure"
)

// checkNoted says that noting gates writes down exactly what had moved: nothing is
// left to note at the same instant, and nothing that is the same is written again.
func (s *simulation) checkNoted(cmd command, out step) {
	c, is := cmd.(noteGates)
	if !is {
		return
	}
	for _, id := range c.IDs {
		if ev := s.core.moved(s.core.Deployments[id], s.now); ev != nil {
			s.t.Fatalf("after the gates were noted, %s has moved: %+v", id, ev)
		}
	}
	for _, ev := range out.events {
		s.outcome[ev.kind()]++
		m := ev.(*gateMoved)
		if d := s.core.Deployments[m.ID]; d.Status != Waiting || !slices.Equal(d.Held, m.Held) || d.Moves > maxMoves {
			s.t.Fatalf("%+v was noted of %+v", m, d)
		}
	}
}

// checkMeasured compares what is measured of the journal of a simulation with what
// a second reader counts in it.
func (s *simulation) checkMeasured() {
	got := map[string]int{}
	var held time.Duration
	f := measure.New(func(m measure.Sample) {
		key := fmt.Sprint(m.Kind, " ", m.Scope.Environment())
		switch m.Kind {
		case measure.Ended:
			key += fmt.Sprint(" ", m.Status, m.Ran, m.Rollback)
		case measure.Voted:
			key += fmt.Sprint(" ", m.Person, m.Approved)
		case measure.Waited, measure.GaveUp, measure.Lead:
			key += fmt.Sprint(" ", m.For)
		case measure.Held:
			if key = ""; m.Alone > m.For || m.For < 0 {
				s.t.Fatalf("%+v", m)
			}
			held += m.For
		case measure.Flapped:
			s.outcome["flapped"]++
			key += " " + m.Check
		case measure.Restored, measure.TakenAway, measure.Prompted:
			return // the model of package measure has them
		}
		if key != "" {
			got[key]++
		}
	})
	want := map[string]int{}
	type ask struct {
		opened   *deploymentOpened
		at       lockkeeper.Moment
		released bool
		gate     []string
		later    []string
	}
	asks, first, good := map[string]*ask{}, map[string]lockkeeper.Moment{}, map[string]bool{}
	count := func(kind measure.Kind, a *ask, more string) {
		want[fmt.Sprint(kind, " ", a.opened.Ask.Environment)+more]++
	}
	for _, r := range s.records {
		e, ev, err := readEntry(r.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		short, little, err := lean(r.Data)
		if err != nil || little != nil && short.Time != e.Time {
			s.t.Fatal(err, short)
		}
		measured(f, short, little, func(user string) string { return user })
		switch ev := ev.(type) {
		case *artifactRecorded:
			if _, known := first[ev.Commit]; !known {
				first[ev.Commit] = e.Time
			}
		case *deploymentOpened:
			a := &ask{opened: ev, at: e.Time}
			for _, d := range ev.Gate.Because {
				if d.Verdict == lockkeeper.Pass {
					continue
				}
				if name := holder(d); d.Code == "lock_later" || d.Code == "approvals_later" {
					a.later = append(a.later, name)
				} else {
					a.gate = append(a.gate, name)
				}
			}
			asks[ev.ID] = a
		case *gateMoved:
			a := asks[ev.ID]
			for _, c := range ev.Held {
				if !slices.Contains(a.gate, c) && !slices.Contains(a.later, c) {
					count(measure.Flapped, a, " "+c)
				}
			}
			a.gate, a.later = ev.Held, ev.Later
		case *deploymentApproved:
			count(measure.Voted, asks[ev.ID], fmt.Sprint(" ", ev.User, true))
		case *leaseGranted:
			a := asks[ev.Deployment]
			a.released = true
			count(measure.Waited, a, fmt.Sprint(" ", e.Time.Sub(a.at)))
		case *deploymentEnded:
			a := asks[ev.ID]
			back := a.opened.Ask.Action == lockkeeper.RollbackAction
			count(measure.Ended, a, fmt.Sprint(" ", ev.End.Status, a.released, back))
			if ev.End.Status == Rejected {
				count(measure.Voted, a, fmt.Sprint(" ", ev.End.By, false))
			}
			key := a.opened.Ask.Environment + a.opened.Ask.Commit
			switch recorded, known := first[a.opened.Ask.Commit]; {
			case !a.released:
				count(measure.GaveUp, a, fmt.Sprint(" ", e.Time.Sub(a.at)))
			case ev.End.Status == Succeeded && !back && !good[key]:
				if good[key] = true; known {
					count(measure.Lead, a, fmt.Sprint(" ", e.Time.Sub(recorded)))
				}
			}
		}
	}
	if !reflect.DeepEqual(got, want) {
		s.t.Fatalf("measured %v\nand there was %v", got, want)
	}
}

// A told is a keeper whose clock the test sets, and what is told to it.
type told struct {
	*Keeper
	t     *testing.T
	start time.Time
	after atomic.Int64
	jobs  int
}

func tell(t *testing.T) *told {
	k := &told{t: t, start: time.Now()}
	k.Keeper, _ = started(t, Options{Clock: func() time.Time { return k.start.Add(time.Duration(k.after.Load())) }})
	return k
}

func (k *told) at(after time.Duration) lockkeeper.Moment {
	k.after.Store(int64(after))
	return lockkeeper.MomentOf(k.start.Add(after))
}

// opened asks for a deployment; the job of it is given, too.
func (k *told) opened(environment, action string, a lockkeeper.Artifact) (string, lockkeeper.Workload) {
	k.t.Helper()
	k.jobs++
	job := workload(k.jobs, fmt.Sprint(k.jobs), "10", environment, "1001", "push", 1, k.now())
	id, err := k.OpenDeployment(context.Background(), job, "", OpenDeployment{Environment: environment, Action: action, Artifacts: []lockkeeper.Artifact{a}, Handle: HandleDigest("h")})
	must(k.t, err)
	return id, job
}

func (k *told) run(id string, job lockkeeper.Workload, exit int) {
	k.t.Helper()
	must(k.t, k.Claim(context.Background(), job, id, "h"))
	must(k.t, k.End(context.Background(), Caller{Holder: id}, id, exit))
}

func (k *told) note(id string) {
	k.t.Helper()
	_, err := do[any](context.Background(), k.Keeper, Caller{Keeper: true}, "", noteGates{[]string{id}})
	must(k.t, err)
}

// TestMeasuresOfAStory tells a story to a keeper and asks it what it was.
func TestMeasuresOfAStory(t *testing.T) {
	ctx, k := context.Background(), tell(t)
	other := lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("other"))}
	begin := k.at(0)
	_, err := k.RecordArtifacts(ctx, workload(100, "1", "1", "", "1001", "push", 1, begin), "", []lockkeeper.Artifact{app})
	must(t, err)
	for _, d := range []struct {
		hour   int
		action string
		of     lockkeeper.Artifact
		exit   int
	}{{1, "deploy", app, 0}, {2, "deploy", other, 1}, {3, "deploy", other, 0}, {5, "rollback", app, 0}} {
		k.at(time.Duration(d.hour) * time.Hour)
		id, job := k.opened("test", d.action, d.of)
		k.run(id, job, d.exit)
	}
	opening := 6 * time.Hour
	k.at(opening)
	id, job := k.opened("production", "deploy", app)
	v, err := k.Deployment(ctx, Caller{Holder: id}, id)
	must(t, err)
	k.at(opening + 5*time.Second)
	must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
	k.note(id)
	k.note(id) // a second look notes nothing
	k.at(opening + 10*time.Minute)
	must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""))
	job = workload(200, job.Run.Value, "10", "production", "1001", "push", 1, k.now())
	k.run(id, job, 0)
	last := k.at(opening + 10*time.Minute + time.Millisecond)

	m, err := k.Measures(ctx, Caller{User: "dora"}, MeasureQuery{Since: begin, Until: last, Project: "payments", Persons: true})
	must(t, err)
	if len(m.Environments) != 2 {
		t.Fatalf("%+v", m.Environments)
	}
	one := func(d time.Duration) measure.Spread { return measure.Spread{Count: 1, P50: d, P90: d, Max: d} }
	prod, test := m.Environments[0], m.Environments[1]
	if test.Successes != 2 || test.Failures != 1 || test.TakenBack != 1 || test.Rollbacks != 1 || test.Lead != one(time.Hour) ||
		test.Restore != (measure.Spread{Count: 2, P50: time.Hour, P90: 2 * time.Hour, Max: 2 * time.Hour}) || !test.Broken.IsZero() {
		t.Errorf("test: %+v", test)
	}
	if prod.Lead != one(opening+10*time.Minute) || prod.Waiting != one(10*time.Minute) || prod.Prompts != 2 || prod.Votes.Voters != 2 || prod.Votes.Hasty != 1 {
		t.Errorf("production: %+v", prod)
	}
	checks := map[string]measure.Check{}
	for _, c := range prod.Checks {
		checks[c.Name] = c
	}
	if c := checks["managers"]; c.Held != one(5*time.Second) || c.Alone != 0 || c.Flaps != 0 || c.Prompts != 1 {
		t.Errorf("managers: %+v", c)
	}
	if c := checks["security"]; c.Held != one(10*time.Minute) || c.Alone != 10*time.Minute-5*time.Second {
		t.Errorf("security: %+v", c)
	}
	if len(m.Persons) != 2 || m.Persons[0].Name != "bob" || m.Persons[0].Votes.Hasty != 1 || m.Persons[1].Votes.Hasty != 0 || m.Persons[1].Votes.Decision != one(10*time.Minute) {
		t.Errorf("persons: %+v", m.Persons)
	}
	if live := k.counted(); !reflect.DeepEqual(live, map[string]uint64{"0 production succeeded": 1, "0 test succeeded": 3, "0 test failed": 1, "1 production": 1, "1 test": 1,
		"2 test": 1, "3 test": 2, "4 production": 1, "4 test": 4, "6 production managers": 1, "6 production security": 1, "8 production managers": 1, "8 production security": 1, "9 production approve": 2}) {
		t.Errorf("counted: %v", live)
	}
	moves := 0
	for _, e := range k.entriesAbout(id) {
		moves += map[bool]int{true: 1}[e.Kind == "gate.moved"]
	}
	if moves != 1 && moves != 2 { // the keeper looks by itself, too: after the second vote
		t.Errorf("%d entries about the gate", moves)
	}
}

func (k *told) counted() map[string]uint64 {
	out := map[string]uint64{}
	counts, _ := k.MeasureCounts()
	for _, c := range counts {
		key := fmt.Sprint(c.Kind, " ", c.Scope.Environment())
		for _, more := range []string{c.Check, c.Status} {
			if more != "" {
				key += " " + more
			}
		}
		out[key] += c.N
	}
	return out
}

func (k *told) entriesAbout(id string) (list []Entry) {
	k.t.Helper()
	stored, err := k.journal.SubjectAll(context.Background(), deploymentSubject(id))
	must(k.t, err)
	for _, s := range stored {
		e, _, err := readEntry(s.Data)
		must(k.t, err)
		list = append(list, e)
	}
	return list
}

// TestMeasuresRights: deployments/read where one asks, journal/export for persons, and
// who may read one environment sees that one.
func TestMeasuresRights(t *testing.T) {
	ctx, k := context.Background(), tell(t)
	k.at(time.Hour)
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(rulesWith("<more>", `---
{kind: User, name: fay}
---
{kind: User, name: gus}
---
{kind: User, name: hal}
---
{kind: Assignment, name: fay, role: reader, principal: "user:fay", scope: /projects/payments/environments/test}
---
{kind: Assignment, name: gus, role: auditor, principal: "user:gus", scope: /}
`))}})
	must(t, problems.Err())
	_, err := k.Apply(ctx, Caller{User: "dora"}, c, 2, "test")
	must(t, err)
	for _, q := range []struct {
		user string
		in   MeasureQuery
		code string
		rows int
	}{
		{"hal", MeasureQuery{}, "not_granted", 0},
		{"hal", MeasureQuery{Project: "payments"}, "not_granted", 0},
		{"hal", MeasureQuery{Project: "nothing"}, "not_granted", 0},
		{"", MeasureQuery{}, "person_needed", 0},
		{"fay", MeasureQuery{}, "", 1},
		{"fay", MeasureQuery{Project: "payments"}, "", 1},
		{"fay", MeasureQuery{Project: "payments", Environment: "test"}, "", 1},
		{"fay", MeasureQuery{Project: "payments", Environment: "production"}, "not_granted", 0},
		{"fay", MeasureQuery{Persons: true}, "not_granted", 0},
		{"bob", MeasureQuery{Persons: true}, "not_granted", 0},
		{"bob", MeasureQuery{}, "", 2},
		{"gus", MeasureQuery{Persons: true}, "", 2},
		{"gus", MeasureQuery{Project: "nothing"}, "environment_unknown", 0},
		{"gus", MeasureQuery{Project: "payments", Environment: "moon"}, "environment_unknown", 0},
		{"gus", MeasureQuery{Environment: "test"}, "project_missing", 0},
		{"gus", MeasureQuery{Project: "../x"}, "name_malformed", 0},
		{"gus", MeasureQuery{Until: k.now().Add(time.Second)}, "moment_ahead", 0},
		{"gus", MeasureQuery{Since: k.now(), Until: k.now()}, "window_empty", 0},
		{"gus", MeasureQuery{Since: k.now().Add(-500 * 24 * time.Hour)}, "window_long", 0},
		{"gus", MeasureQuery{Hasty: -time.Second}, "duration_malformed", 0},
	} {
		m, err := k.Measures(ctx, Caller{User: q.user}, q.in)
		if q.code != "" {
			want(t, err, q.code)
			continue
		}
		if must(t, err); len(m.Environments) != q.rows || (m.Persons != nil) != q.in.Persons {
			t.Errorf("%s, %+v: %+v", q.user, q.in, m)
		}
		for _, e := range m.Environments {
			if e.Lead.Count != 0 || e.Changes() != 0 {
				t.Errorf("nothing happened, and %+v", e)
			}
		}
		if m.Since.Before(m.From) != true {
			t.Errorf("the journal begins after %s, and knows since %s", m.Since, m.From)
		}
	}
}

// TestMovesAreBounded: however often a gate changes, an ask has maxMoves entries.
func TestMovesAreBounded(t *testing.T) {
	laws := laws(t)
	c := &core{world: world{State: newState(), rules: laws[0].rules, spelled: map[string]spelling{}}}
	now := began.Add(59 * time.Minute)
	first := step{}
	build := workload(-1, "1", "1", "", "1001", "push", 1, now)
	must(t, c.record(&first, Caller{Keeper: true}, "", "", []event{&journalStarted{}, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001",
		Commit: build.Commit.Value, Run: "1", Artifacts: []lockkeeper.Artifact{app}, Token: build.TokenID, TokenExpires: build.Expires}}, now))
	job := workload(1, "1", "10", "production", "1001", "push", 1, now)
	s, err := c.step(Caller{Workload: &job}, "", openDeployment{ID: "d-1", Job: job, Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")}, now)
	if err != nil || s.err != nil {
		t.Fatal(err, s.err)
	}
	moved, digest := 0, c.Deployments["d-1"].Digest
	for i := range 2*maxMoves + 40 {
		var cmd command = vote{Deployment: "d-1", Approve: true, Digest: digest}
		if i%2 == 1 {
			cmd = withdrawApproval{Deployment: "d-1"}
		}
		if s, err := c.step(Caller{User: "bob"}, "", cmd, now); err != nil || s.err != nil {
			t.Fatal(i, err, s.err)
		}
		s, err := c.step(Caller{Keeper: true}, "", noteGates{[]string{"d-1", "d-1", "d-none"}}, now)
		if err != nil || s.err != nil {
			t.Fatal(err, s.err)
		}
		moved += min(1, len(s.entries))
	}
	if moved != maxMoves || c.Deployments["d-1"].Moves != maxMoves {
		t.Errorf("%d entries, %d moves", moved, c.Deployments["d-1"].Moves)
	}
	s, err = c.step(Caller{User: "dora"}, "", noteGates{[]string{"d-1"}}, now)
	if err != nil || len(s.entries) != 0 {
		t.Errorf("somebody else than the keeper notes: %v %v", err, s.entries)
	}
}

// TestKindOf tells kinds apart as decoding does.
func TestKindOf(t *testing.T) {
	now := began
	for key, make := range eventKinds {
		data, e, err := record(Entry{Seq: 1 << 60, Time: now, By: Caller{User: `"kind":"x"`}, Key: "k"}, make())
		if err != nil {
			t.Fatal(err)
		}
		if got := kindOf(data); got != e.Kind {
			t.Errorf("%s is told as %q", key, got)
		}
	}
	for kind := range measuredKinds {
		if eventKinds[kind+"/1"] == nil {
			t.Errorf("there is no kind %s", kind)
		}
	}
	if kindOf(nil) != "" || kindOf([]byte("{}")) != "" {
		t.Error("nothing has a kind")
	}
}

// TestLean reads the entries of an earlier release leanly and wholly: both measure the
// same. The simulation does so with its own.
func TestLean(t *testing.T) {
	lines, err := os.ReadFile("testdata/recorded.jsonl")
	must(t, err)
	of := func(read func([]byte) (Entry, event, error)) (out []string) {
		f := measure.New(func(s measure.Sample) { out = append(out, fmt.Sprintf("%+v", s)) })
		for line := range bytes.Lines(lines) {
			e, ev, err := read(bytes.TrimSuffix(line, []byte("\n")))
			must(t, err)
			measured(f, e, ev, func(user string) string { return user })
		}
		return out
	}
	whole, little := of(readEntry), of(lean)
	if !slices.Equal(whole, little) || len(whole) < 10 {
		t.Errorf("wholly %v\nleanly %v", whole, little)
	}
}

// FuzzLean: what is no entry is an error or nothing, and never a crash.
func FuzzLean(f *testing.F) {
	for _, s := range []string{`{"seq":1,"time":"2026-11-02T09:00:00.000Z","kind":"deployment.opened","version":1,"by":{},"body":{"id":"d-1","ask":{"artifacts":[]},"terms":[{"name":"a\\","approval":{}}],"gate":{"because":[{"subject":"x\""}]}}}`,
		`{"kind":"lease.granted","version":1,"body":{`, `{"kind":"gate.moved","version":1,"time":3,"body":[]}`, `{"kind":"deployment.ended","version":2`, `{"kind":"epoch.opened",:,}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, ev, err := lean(data); err == nil && ev != nil && !measuredKinds[e.Kind] {
			t.Errorf("%+v", e)
		}
	})
}

// BenchmarkMeasures measures 30 days of a journal of LOCKKEEPER_ENTRIES entries
// (default 100,000), a quarter of them each an opening, a lease, a token and an end.
func BenchmarkMeasures(b *testing.B) {
	n := 100_000
	if s := os.Getenv("LOCKKEEPER_ENTRIES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	ctx, dir := context.Background(), b.TempDir()
	grow(b, dir, n)
	k, err := Open(ctx, Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	b.Run("measures", func(b *testing.B) {
		for b.Loop() {
			m, err := k.Measures(ctx, Caller{User: "dora"}, MeasureQuery{})
			if err != nil || len(m.Environments) != 2 || m.Environments[1].Successes < n/5 {
				b.Fatal(err, m)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("reading", func(b *testing.B) { // the floor: every entry's bytes, undecoded
		for b.Loop() {
			size := 0
			for e, err := range k.journal.Entries(ctx, 0, 0) {
				if err != nil {
					b.Fatal(err)
				}
				size += len(e.Data)
			}
			if size == 0 {
				b.Fatal("nothing")
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	})
}
