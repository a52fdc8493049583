package keeper

import (
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// separating is dutyRules with one separation of use more.
func separating(actions string, pairs ...string) string {
	checks := "checks: [{name: two, approval: {count: 2, groups: [managers, on-duty]}}]\n"
	return rulesWith(append(pairs, "<latest>", checks, "<more>", dutyMore+"---\n{kind: Separation, name: sep, scope: /projects/payments, mode: use, actions: ["+actions+"]}\n")...)
}

// TestBuildersDoNotStart keeps recording and starting apart, whichever comes first, and
// in the queue of the environment, too.
func TestBuildersDoNotStart(t *testing.T) {
	text := separating("[artifacts/record], [deployments/start]")
	c := deployCore(t, text)
	must(t, c.record(c.job("1", "10", "", "1001", 0), 0)) // ann's run builds
	if err := c.open("d-a", c.job("2", "11", "test", "1011", 0), "test", 0); codeOf(err) != "duties_not_separated" {
		t.Errorf("ann built it, and her other account starts it: %v", err)
	}
	bob := c.job("3", "12", "test", "1002", 0)
	must(t, c.open("d-b", bob, "test", 0))
	must(t, c.approve("cat", "d-b", time.Second))
	must(t, c.approve("eve", "d-b", time.Second))
	must(t, c.record(c.job("4", "13", "", "1002", 2*time.Second), 2*time.Second)) // bob records it, too
	if err := c.claim("d-b", bob, 3*time.Second); codeOf(err) != "duties_not_separated" {
		t.Errorf("bob started it and then recorded it: %v", err)
	}
	free := deployCore(t, strings.Replace(text, "[artifacts/record], [deployments/start]", "[artifacts/record], [leases/revoke]", 1))
	must(t, free.record(free.job("1", "10", "", "1001", 0), 0))
	must(t, free.open("d-a", free.job("2", "11", "test", "1011", 0), "test", 0))
}

// TestBringersDoNotApprove keeps bringing evidence and approving apart, where a separation
// says so, whoever's account the run was started by.
func TestBringersDoNotApprove(t *testing.T) {
	for actions, code := range map[string]string{"[evidence/add], [deployments/approve]": "duties_not_separated", "[evidence/add], [deployments/cancel]": ""} {
		text := separating(actions, "  - name: build\n", "  - name: build\n    evidence: [tests]\n")
		c := deployCore(t, text)
		must(t, c.bring("1002", 0)) // bob
		must(t, c.open("d-a", c.job("2", "11", "test", "1004", 0), "test", 0))
		if got := saying(c.approve("bob", "d-a", time.Second)); got != code {
			t.Errorf("%s: bob votes: %q, want %q", actions, got, code)
		}
		must(t, c.approve("cat", "d-a", time.Second))
	}
}

// TestEndsCrossAndStand lets people cancel and revoke what they approved: it ends, and
// the record says that they crossed a separation.
func TestEndsCrossAndStand(t *testing.T) {
	for _, test := range []struct {
		actions, by string
		revoke      bool
		crossed     string
	}{
		{"[deployments/approve], [deployments/cancel]", "bob", false, "The separation sep keeps deployments/cancel and deployments/approve"},
		{"[deployments/approve], [deployments/cancel]", "ann", false, ""},
		{"[deployments/approve], [leases/revoke]", "bob", true, "The separation sep keeps leases/revoke and deployments/approve"},
		{"[deployments/start], [leases/revoke]", "bob", true, ""},
	} {
		c := deployCore(t, separating(test.actions)+"---\n{kind: Role, name: ender, actions: [deployments/cancel, leases/revoke]}\n---\n{kind: Assignment, name: ender, role: ender, principal: group:managers, scope: /projects/payments}\n")
		j := c.job("2", "11", "test", "1004", 0)
		must(t, c.open("d-a", j, "test", 0))
		must(t, c.approve("bob", "d-a", time.Second))
		must(t, c.approve("cat", "d-a", time.Second))
		must(t, c.claim("d-a", j, 2*time.Second))
		var cmd command = cancelDeployment{"d-a", "stop"}
		if test.revoke {
			cmd = revokeLease{"d-a", "stop"}
		}
		s, err := c.step(Caller{User: test.by}, "", cmd, began.Add(3*time.Second))
		must(t, err)
		must(t, s.err)
		got := s.events[0].(*deploymentEnded).End.Crossed
		if (got == "") != (test.crossed == "") || !strings.HasPrefix(got, test.crossed) {
			t.Errorf("%s by %s: crossed %q, want %q", test.actions, test.by, got, test.crossed)
		}
		if c.Deployments["d-a"] != nil {
			t.Errorf("%s: it goes on", test.actions)
		}
	}
}

// TestWhoTakesVotesGivesNone lets bob revoke what fay activated, and vote in her place.
func TestWhoTakesVotesGivesNone(t *testing.T) {
	for actions, want := range map[string]string{"[activations/revoke], [deployments/approve]": "duties_not_separated", "[activations/revoke], [deployments/cancel]": ""} {
		c := deployCore(t, separating(actions)+"---\n{kind: Role, name: revoker, actions: [activations/revoke]}\n---\n{kind: Assignment, name: revoker, role: revoker, principal: user:bob, scope: /projects/payments}\n")
		must(t, c.open("d-a", c.job("2", "11", "test", "1004", 0), "test", 0))
		must(t, c.user("fay", openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
		must(t, c.user("cat", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
		must(t, c.user("fay", beginActivation{"r-1", "a-1"}, 0))
		must(t, c.approve("fay", "d-a", time.Second))
		must(t, c.user("bob", endActivation{"a-1", "no"}, 2*time.Second))
		if err := c.approve("bob", "d-a", 3*time.Second); codeOf(err) != want && (want != "" || err != nil) {
			t.Errorf("%s: bob votes: %v, want %q", actions, err, want)
		}
		must(t, c.approve("ann", "d-a", 3*time.Second))
	}
}

// TestDelegatedPlaceIsKeptApart lets bob, who approved what fay activated and voted
// under, hand his own place to somebody else.
func TestDelegatedPlaceIsKeptApart(t *testing.T) {
	c := deployCore(t, separating("[activations/approve], [deployments/approve]"))
	must(t, c.open("d-a", c.job("2", "11", "test", "1004", 0), "test", 0))
	must(t, c.user("fay", openRequest{ID: "r-1", Role: "release-manager", Scope: "/projects/payments", For: time.Hour, Reason: "why"}, 0))
	must(t, c.user("bob", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, 0))
	must(t, c.user("fay", beginActivation{"r-1", "a-1"}, 0))
	must(t, c.approve("fay", "d-a", time.Second))
	if err := c.user("bob", delegate{"d-a", "cat", ""}, 2*time.Second); codeOf(err) != "duties_not_separated" {
		t.Errorf("bob hands over a place that he may not fill: %v", err)
	}
	must(t, c.user("cat", delegate{"d-a", "ann", ""}, 2*time.Second))
}

// TestPartsWithoutVotes keeps starting and letting somebody start apart, where nobody
// votes at all.
func TestPartsWithoutVotes(t *testing.T) {
	text := separating("[deployments/start], [activations/approve]", "checks: [{name: two, approval: {count: 2, groups: [managers, on-duty]}}]\n", "")
	c := deployCore(t, text)
	f, err := c.facts(&Deployment{Ask: lockkeeper.Ask{Project: "payments", Environment: "test"}}, began)
	must(t, err)
	d := &Deployment{Ask: lockkeeper.Ask{Project: "payments", Environment: "test", Repository: "8001", Run: "9", Attempt: 1, Provider: "github"}, Initiators: []Origin{{Provider: "github", Account: "1002", Persons: []lockkeeper.Person{"bob"}}}}
	f.Initiators = c.initiators(d, began)
	if why := c.together(d, f); why != "" {
		t.Fatal(why)
	}
	c.Activations["a-9"] = &Activation{ID: "a-9", Role: "release-manager", Scope: "/projects/payments", Started: began, Ends: began.Add(time.Hour), Approvers: []lockkeeper.Person{"bob"},
		Run: &Run{Project: "payments", Provider: "github", Repository: "8001", Run: "9", Attempt: 1}}
	if why := c.together(d, f); !strings.Contains(why, "one person") {
		t.Errorf("bob started the run and approved what it activated: %q", why)
	}
}
