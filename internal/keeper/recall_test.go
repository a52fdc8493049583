package keeper

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

func upCheck(name, query, more string) string {
	return fmt.Sprintf("{name: %s, metrics: {prometheus: 'https://prometheus.example', query: %s, above: '0.5', validity: 5m%s}}", name, query, more)
}

// A look back takes what a service said to the very same question, whatever its check
// was called, and where nobody was asked then it says that nothing tells.
func TestWhatIfOutside(t *testing.T) {
	old := &law{rules: mustRules(t, rulesWith("<latest>", checksText(upCheck("up", "up", ""))))}
	s := &core{world: world{State: newState(), rules: old.rules}}
	var records []journal.Record
	var first step
	events := []event{&journalStarted{}}
	for _, user := range []string{"dora", "ann", "ann-admin", "bob", "cat", "eve"} {
		events = append(events, &accountEnrolled{User: user, Credential: "p"}, &accountProven{User: user})
	}
	job := workload(1, "7", "10", "test", "1001", "push", 1, began)
	events = append(events, &artifactRecorded{Project: "payments", Pipeline: "release", Stage: "build", Repository: "8001", Commit: job.Commit.Value, Run: "7", Artifacts: []lockkeeper.Artifact{app}})
	must(t, s.record(&first, Caller{Keeper: true}, "", "", events, began))
	records = append(records, first.records...)
	do := func(by Caller, cmd command, after time.Duration) {
		t.Helper()
		out, err := s.step(by, "", cmd, began.Add(after))
		must(t, err)
		must(t, out.err)
		records = append(records, out.records...)
	}
	h := HandleDigest("one")
	do(Caller{Workload: &job}, openDeployment{ID: "d-1", Job: job, Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: h}, 0)
	do(worker, reportQuestion{About: "deployment/d-1", ID: s.Deployments["d-1"].Questions[0].ID, Outcome: met(true)}, time.Minute)
	do(Caller{Workload: &job}, claimLease{Deployment: "d-1", Lease: "l", Job: job, Handle: h}, 2*time.Minute)
	do(Caller{Workload: &job}, grantToken{Deployment: "d-1", ID: "t", Job: job, Handle: h, Audience: "https://target.example"}, 2*time.Minute)

	for name, c := range map[string]struct {
		checks  []string
		want    []string
		unknown int // and the token hangs on it
	}{
		"the same":             {checks: []string{upCheck("up", "up", "")}},
		"called otherwise":     {checks: []string{upCheck("alive", "up", "")}},
		"twice":                {checks: []string{upCheck("up", "up", ""), upCheck("alive", "up", "")}},
		"another question":     {checks: []string{upCheck("up", "down", "")}, unknown: 1},
		"one more":             {checks: []string{upCheck("up", "up", ""), upCheck("more", "down", "")}, unknown: 1},
		"for longer":           {checks: []string{upCheck("up", "up", ", steady: {for: 1m}")}, unknown: 1},
		"in shadow":            {checks: []string{strings.Replace(upCheck("up", "down", ""), "metrics:", "shadow: true, metrics:", 1)}},
		"and a person besides": {checks: []string{upCheck("up", "down", ""), "{name: person, approval: {count: 1, groups: [managers]}}"}, want: []string{"lease.granted waits approvals_missing"}},
		"a delay, and it":      {checks: []string{upCheck("alive", "up", ""), "{name: soak, delay: {for: 3m}}"}, want: []string{"lease.granted waits delayed"}},
	} {
		out := lookBackAt(t, records, []*law{old}, mustRules(t, rulesWith("<latest>", checksText(c.checks...))))
		var got []string
		for _, d := range out.Differs {
			got = append(got, fmt.Sprintf("%s %s %s", d.Kind, d.Answer, d.Code))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: it differs in %q, want %q", name, got, c.want)
		}
		if out.Unknowable["outside"] != c.unknown || out.Unknowable["follows"] != c.unknown+len(c.want) {
			t.Errorf("%s: unknowable %v", name, out.Unknowable)
		}
	}
}

// A rehearsal says what a service answered to the same question about another ask, and
// says so where only the service knows.
func TestRehearsalRecallsAnswers(t *testing.T) {
	c := waitsOn(t, upCheck("up", "up", ""), service("own", ""), "{name: change, change: {jira: 'https://jira.example', parameter: change, field: customfield_1}}",
		"{name: plain, call: {service: {url: 'https://plain.example', method: GET, criteria: body.ok == true}}}")
	rehearsed := func(at time.Duration) map[string]Awaited {
		t.Helper()
		r, err := c.rehearse(openDeployment{ID: rehearsed, Job: c.job("2", "12", "test", "1001", at), Environment: "test", Artifacts: []lockkeeper.Artifact{app}}, began.Add(at))
		must(t, err)
		out := map[string]Awaited{}
		for _, a := range r.Waits {
			if a.On != OnService {
				t.Errorf("%+v", a)
			}
			out[strings.TrimPrefix(a.Decision.Subject, "check ")] = a
		}
		if r.Sure || len(out) != 4 || r.Gate.Verdict != lockkeeper.Wait {
			t.Errorf("%+v", r)
		}
		return out
	}
	for _, check := range []string{"up", "own", "change", "plain"} {
		if d := rehearsed(time.Second)[check].Decision; d.Code != "call_unknowable" || d.Verdict != lockkeeper.Wait {
			t.Errorf("before any answer, %s: %+v", check, d)
		}
	}
	must(t, c.answers("up", met(true), 2*time.Second))
	must(t, c.answers("own", met(true), 2*time.Second))
	must(t, c.answers("change", met(true), 2*time.Second))
	must(t, c.answers("plain", met(true), 2*time.Second))
	got := rehearsed(3 * time.Second)
	if d := got["up"].Decision; d.Code != "call_recalled" || !strings.Contains(d.Sentence, "[call_good]") || strings.Contains(d.Sentence, "d-t") || d.Verdict != lockkeeper.Wait {
		t.Errorf("%+v", d)
	}
	for _, check := range []string{"own", "change", "plain"} { // an answer about one ask is none about another
		if d := got[check].Decision; d.Code != "call_unknowable" {
			t.Errorf("%s: %+v", check, d)
		}
	}
	must(t, c.answers("up", met(false), 5*time.Minute))
	if d := rehearsed(6 * time.Minute)["up"].Decision; !strings.Contains(d.Sentence, "criteria_unmet") {
		t.Errorf("%+v", d)
	}
}
