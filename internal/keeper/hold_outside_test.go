package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// heldOn is a core in which run 1 of ann is held, waits as d-a on checks of the
// environment beside its approvals, and has those.
func heldOn(t *testing.T, checks ...string) *deploying {
	t.Helper()
	main := "branches: {allowed: [refs/heads/main]}\n"
	c := deployCore(t, heldRules(main, main+"  - "+strings.Join(checks, "\n  - ")+"\n",
		"  - name: build\n    trust: {events: [push, schedule]", "  - name: build\n    evidence: [tests]\n    trust: {events: [push, schedule]"))
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
	must(t, c.hold("h-a", "1", "501", 0))
	must(t, c.openHeld("h-a", "d-a", looked("1", "1001", 1), 0))
	c.approved()
	return c
}

// said brings what the service of a check of d-a said.
func (c *deploying) said(check string, o QuestionOutcome, called bool, at time.Duration) error {
	c.t.Helper()
	d := c.Deployments["d-a"]
	i := slices.IndexFunc(d.Questions, func(q Question) bool { return q.Rule == check })
	if i < 0 {
		c.t.Fatalf("nobody was asked about %s: %+v", check, d.Questions)
	}
	return c.as(worker, reportQuestion{About: "deployment/d-a", ID: d.Questions[i].ID, Outcome: o, Called: called}, at)
}

const metricsCheck = `{name: out, metrics: {prometheus: "https://prometheus.example", query: up, above: "0.5", validity: 5m}}`

// A run that its platform holds waits for what services say, as every other ask does:
// the question is begun when the hold is opened, and a bad or a missing answer, and one
// whose time is over, let nothing through.
func TestHoldWaitsOnServices(t *testing.T) {
	for name, check := range map[string]string{
		"call":    service("out", ", validity: 5m"),
		"metrics": metricsCheck,
		"azure":   `{name: out, metrics: {azure: {resource: /subscriptions/00000000-0000-0000-0000-000000000001/r, metric: m}, below: "1", validity: 5m}}`,
		"alerts":  `{name: out, metrics: {azureAlerts: {subscription: 00000000-0000-0000-0000-000000000001}, validity: 5m}}`,
		"json":    `{name: out, metrics: {json: {url: "https://m.example", number: body.x}, below: "1", validity: 5m}}`,
		"change":  `{name: out, change: {serviceNow: "https://acme.example", parameter: change, field: u_digest, validity: 5m}}`,
		"jira":    `{name: out, change: {jira: "https://jira.example", parameter: change, field: customfield_1, validity: 5m}}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := heldOn(t, check)
			if work := c.holdWork(c.Holds["h-a"], began.Add(2*time.Second)); work.Verb != FollowHold || !strings.Contains(work.Waits, "asked") {
				t.Errorf("before an answer there is to do: %+v", work)
			}
			want(t, c.letThrough("h-a", "1", 2*time.Second), "hold_waits")
			must(t, c.said("out", missed("service_unreachable"), false, 10*time.Second))
			want(t, c.letThrough("h-a", "1", 11*time.Second), "hold_waits")
			must(t, c.said("out", met(false), false, 60*time.Second))
			want(t, c.letThrough("h-a", "1", 61*time.Second), "hold_waits")
			must(t, c.said("out", met(true), false, 2*time.Minute))
			if work := c.holdWork(c.Holds["h-a"], began.Add(3*time.Minute)); work.Verb != ReleaseHold {
				t.Errorf("while it is good there is to do: %+v", work)
			}
			want(t, c.letThrough("h-a", "1", 8*time.Minute), "hold_waits") // its validity is over
			must(t, c.said("out", met(true), false, 9*time.Minute))
			must(t, c.letThrough("h-a", "1", 10*time.Minute))
			if h := c.Holds["h-a"]; !h.Owed.Approve || c.Deployments["d-a"].Status != Running {
				t.Errorf("%+v", h)
			}
		})
	}
}

// A service that answers later is told of a held run, too, and its one answer counts.
func TestHoldWaitsOnCallback(t *testing.T) {
	for _, good := range []bool{true, false} {
		c := heldOn(t, service("out", ", callback: true"))
		must(t, c.said("out", QuestionOutcome{Delivered: true}, false, 2*time.Second))
		want(t, c.letThrough("h-a", "1", 3*time.Second), "hold_waits")
		must(t, c.said("out", met(good), true, 4*time.Second))
		if err := c.letThrough("h-a", "1", 5*time.Second); (err == nil) != good {
			t.Errorf("after %v: %v", good, err)
		}
	}
}

// A held run waits for evidence of its artifact, which may come after it.
func TestHoldWaitsOnEvidence(t *testing.T) {
	c := heldOn(t, "{name: tests, tests: {names: [unit], least: 2}}")
	want(t, c.letThrough("h-a", "1", 2*time.Second), "hold_waits")
	must(t, c.bring("1001", 3*time.Second))
	must(t, c.letThrough("h-a", "1", 4*time.Second))
}

// A check that time ran out for ends a held ask, and its platform is owed a no. One that
// comes into force while a run is held is asked, too.
func TestHoldOutlastsService(t *testing.T) {
	c := heldOn(t, service("out", ", within: 10m"))
	must(t, c.said("out", missed("service_unreachable"), false, 10*time.Second))
	must(t, c.as(worker, sweep{}, 11*time.Minute))
	h := c.Holds["h-a"]
	if c.Deployments["d-a"] != nil || h.Owed == nil || h.Owed.Approve || !h.Over {
		t.Errorf("%+v owes %+v", h, h.Owed)
	}
	c = heldWaiting(t)
	c.approved()
	main := "branches: {allowed: [refs/heads/main]}\n"
	c.rules = mustRules(t, heldRules(main, main+"  - "+metricsCheck+"\n"))
	want(t, c.letThrough("h-a", "1", 2*time.Second), "hold_waits")
	must(t, c.as(worker, sweep{}, 3*time.Second))
	must(t, c.said("out", met(true), false, 4*time.Second))
	must(t, c.letThrough("h-a", "1", 5*time.Second))
}

// However answers come, a held run is let through at an instant exactly if the newest
// answer of each service is a yes that still counts then.
func TestHoldServicesProperty(t *testing.T) {
	seen := map[bool]int{}
	rapid.Check(t, func(r *rapid.T) {
		c := heldOn(t, service("one", ", validity: 60s"), service("two", ", validity: 90s"))
		validity := map[string]time.Duration{"one": 60 * time.Second, "two": 90 * time.Second}
		good := map[string]time.Duration{} // until when the newest answer counts
		at := 2 * time.Second
		for range rapid.IntRange(1, 8).Draw(r, "steps") {
			at += time.Duration(rapid.IntRange(6, 70).Draw(r, "pause")) * time.Second
			check := rapid.SampledFrom([]string{"one", "two"}).Draw(r, "check")
			switch rapid.SampledFrom([]string{"yes", "yes", "no", "away"}).Draw(r, "said") {
			case "yes":
				// A yes that comes before half of the time for which the last one counts says
				// nothing new, and lengthens nothing.
				if until := good[check]; until == 0 || at >= until-validity[check]/2 {
					good[check] = at + validity[check]
				}
				must(t, c.said(check, met(true), false, at))
			case "no":
				good[check] = 0
				must(t, c.said(check, met(false), false, at))
			case "away":
				good[check] = 0
				must(t, c.said(check, missed("timed_out"), false, at))
			}
			all := at < good["one"] && at < good["two"]
			seen[all]++
			err := c.letThrough("h-a", "1", at)
			if (err == nil) != all {
				r.Fatalf("at %s, good until %v: %v", at, good, err)
			}
			if err == nil {
				return
			}
		}
	})
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("only %v was reached", seen)
	}
}
