package keeper

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// What goes wrong with privileged access elsewhere, by its number: while it is asked
// for. failures_ending_test.go has what goes wrong once it is active.

// asks opens a request of ann for an hour as operator at /projects/p.
func asks(id string) openRequest {
	return openRequest{ID: id, Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"}
}

func (c *core) approval(id string) decideRequest {
	return decideRequest{Request: id, Approve: true, Digest: c.Requests[id].Digest}
}

// An approver who is taken out of the group while others still vote counts no more,
// and another one fills his place.
func TestFailure02ApproverRemovedWhilePending(t *testing.T) {
	c, do := accessCore(t, "count: 1", "count: 2")
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	c.rules = accessLawOf(t, "count: 1", "count: 2", "users: [ann2, bob, cat", "users: [ann2, cat")
	must(t, do("cat", c.approval("r-1"), 0))
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "approvals_missing")
	must(t, do("dora", c.approval("r-1"), 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
}

// A requester who is not eligible any more begins nothing, whatever came first.
func TestFailure03RequesterLosesEligibilityWhilePending(t *testing.T) {
	gone := []string{"users: [ann, <bob>cat]", "users: [<bob>cat]"}
	for _, early := range []bool{true, false} {
		c, do := accessCore(t)
		must(t, do("ann", asks("r-1"), 0))
		if early {
			c.rules = accessLawOf(t, gone...)
		}
		must(t, do("bob", c.approval("r-1"), 0))
		c.rules = accessLawOf(t, gone...)
		want(t, do("ann", beginActivation{"r-1", "a-1"}, time.Second), "not_eligible")
		if len(c.Activations) > 0 {
			t.Error("something is active")
		}
	}
}

// Approvals of one person at once fill one place; those of others all count.
func TestFailure05ApprovalsAtOnce(t *testing.T) {
	ctx := context.Background()
	k, _, apply := withConsole(t)
	apply("count: 1", "count: 3")
	id, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
	must(t, err)
	v, err := k.Request(ctx, Caller{User: "ann"}, id)
	must(t, err)
	var group sync.WaitGroup
	for i := range 100 {
		by := Caller{User: []string{"bob", "cat", "dora", "ann2"}[i%4]}
		group.Go(func() {
			err := k.DecideRequest(ctx, by, id, RequestVerdict{Approve: true, Digest: v.Digest})
			if code := codeOf(err); err != nil && code != "already_approved" && (code != "own_deployment" || by.User != "ann2") {
				t.Errorf("%s: %v", by.User, err)
			}
		})
	}
	group.Wait()
	v, err = k.Request(ctx, Caller{User: "ann"}, id)
	must(t, err)
	if len(v.Votes) != 3 {
		t.Errorf("%d votes are recorded, and three persons may vote", len(v.Votes))
	}
	_, err = k.BeginActivation(ctx, Caller{User: "ann"}, id)
	must(t, err)
}

// An approval and a denial at once: one of them comes second, is told so, and what
// was denied never begins.
func TestFailure06ApproveAndDenyAtOnce(t *testing.T) {
	ctx := context.Background()
	k, _, _ := withConsole(t)
	denied := 0
	for range 20 {
		id, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
		must(t, err)
		v, err := k.Request(ctx, Caller{User: "ann"}, id)
		must(t, err)
		var group sync.WaitGroup
		var approved, denial, begun error
		group.Go(func() {
			approved = k.DecideRequest(ctx, Caller{User: "bob"}, id, RequestVerdict{Approve: true, Digest: v.Digest})
			_, begun = k.BeginActivation(ctx, Caller{User: "ann"}, id)
		})
		group.Go(func() {
			denial = k.DecideRequest(ctx, Caller{User: "cat"}, id, RequestVerdict{Digest: v.Digest})
		})
		group.Wait()
		v, err = k.Request(ctx, Caller{User: "ann"}, id)
		must(t, err)
		switch {
		case denial == nil && begun == nil || denial != nil && begun != nil:
			t.Fatalf("denied: %v, begun: %v", denial, begun)
		case denial == nil:
			denied++
			if v.End == nil || v.End.Status != requestDenied || approved != nil && codeOf(approved) != "request_closed" {
				t.Errorf("denied, and it is %+v (the approval: %v)", v.End, approved)
			}
			want(t, begun, "request_closed")
		default:
			want(t, denial, "request_closed")
			must(t, k.EndActivation(ctx, Caller{User: "ann"}, v.End.Activation, ""))
		}
	}
	t.Logf("%d of 20 were denied first", denied)
}

// Nobody approves his own by another account of his, or by being in a group inside
// the group that is asked.
func TestFailure07OwnApprovalByASecondAccount(t *testing.T) {
	inner := "{kind: Group, name: inner, users: [ann, ann2]}\n---\n{kind: Group, name: leads, groups: [inner], users: [bob"
	c, do := accessCore(t, "{kind: Group, name: leads, users: [ann2, bob", inner)
	must(t, do("ann", asks("r-1"), 0))
	for _, own := range []string{"ann", "ann2"} {
		want(t, do(own, c.approval("r-1"), 0), "own_deployment")
	}
	// An account whose credential ann made counts as her until its owner proves himself.
	c.Accounts["bob"] = &Account{User: "bob", Credential: "c", Maker: "ann2"}
	want(t, do("bob", c.approval("r-1"), 0), "own_deployment")
	c.Accounts["bob"].Proven = true
	must(t, do("bob", c.approval("r-1"), 0))
}

// A voter whose account turns out to be the requester's has approved his own.
func TestFailure08VoterBecomesTheRequester(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	c.rules = accessLawOf(t, "{kind: User, name: bob}", "{kind: User, name: bob, person: ann}")
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "approvals_missing")
	c.rules = accessLawOf(t)
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
}

// Of a rule that is changed while a request waits what is stricter holds at once,
// and what is easier helps nobody.
func TestFailure16RuleEditedMidFlight(t *testing.T) {
	night := "approvals: [{name: lead, approval: {count: 1, groups: [leads]}}], hours: {zone: UTC, windows: [{days: [monday], from: '20:00', to: '22:00'}]}}"
	plain := "approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}"
	for name, test := range map[string]struct {
		before, after []string
		code          string // of the begin with one approval, at monday 09:01
	}{
		"two approvals":           {nil, []string{"count: 1", "count: 2"}, "approvals_missing"},
		"two approvals no more":   {[]string{"count: 1", "count: 2"}, nil, "approvals_missing"},
		"no approvals any more":   {[]string{"count: 1", "count: 2"}, []string{", approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]", ""}, "approvals_missing"},
		"a shorter time":          {nil, []string{"<longest>", "30m"}, "activation_long"},
		"other hours":             {nil, []string{plain, night}, "outside_hours"},
		"other hours no more":     {[]string{plain, night}, nil, "outside_hours"},
		"a cooling-off":           {nil, []string{"patience: 2h", "patience: 2h, coolingOff: 1h"}, "cooling_off"},
		"another ticket":          {nil, []string{"patience: 2h", "patience: 2h, ticket: 'X[0-9]'"}, "ticket_unfit"},
		"a shorter patience":      {nil, []string{"patience: 2h", "patience: 5m"}, "<nil>"},
		"a shorter cooling-off":   {[]string{"patience: 2h", "patience: 2h, coolingOff: 10m"}, nil, "cooling_off"},
		"nothing":                 {nil, nil, "<nil>"},
		"more extensions, longer": {nil, []string{"<longest>", "4h", "patience: 2h", "patience: 2h, extensions: 5"}, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			c, do := accessCore(t, test.before...)
			must(t, do("ann", asks("r-1"), 0))
			must(t, do("bob", c.approval("r-1"), 0))
			c.Accounts["ann"] = &Account{User: "ann", Since: began.Add(30 * time.Second)} // a new password
			c.rules = accessLawOf(t, test.after...)
			want(t, do("ann", beginActivation{"r-1", "a-1"}, time.Minute), test.code)
		})
	}
}

// A role that has come to allow more is not begun: nobody approved that.
func TestFailure17RoleWidens(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", asks("r-1"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	c.rules = accessLawOf(t, "<wider>", ", deployments/approve")
	want(t, do("ann", beginActivation{"r-1", "a-1"}, 0), "role_widened")
	c.rules = accessLawOf(t)
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
	c.rules = accessLawOf(t, "<wider>", ", deployments/approve") // and what is active gives what was asked for
	if d := c.check("ann", lockkeeper.ApproveDeployments, "/projects/p", began); d.Passed(began) {
		t.Error(d.Sentence)
	}
	// Nor does making it longer give more.
	c.rules = accessLawOf(t, "<wider>", ", deployments/approve", "<longest>", "4h")
	want(t, do("ann", extendActivation{ID: "r-2", Activation: "a-1", For: time.Minute, Reason: "why"}, 0), "role_widened")
}

// That nobody could approve is known before anybody asks; whoever is asked after a
// time ends the wait.
func TestFailure18NoReachableApprover(t *testing.T) {
	lonely := []string{"users: [ann2, bob, cat, dora<leads>]", "users: [ann2]"}
	list := accessLawOf(t, lonely...).Access.Shortages(began)
	if !strings.Contains(fmt.Sprint(list), "activating operator at /projects/p: when ann asks") {
		t.Errorf("the shortages are %v", list)
	}
	escalating := append(lonely, "count: 1, groups: [leads]", "count: 1, groups: [leads], escalate: {after: 10m, groups: [chiefs]}",
		"<deny>", "\n---\n{kind: Group, name: chiefs, users: [dora]}\n---\n{kind: Assignment, name: chief, role: access-approver, principal: group:chiefs, scope: /}\n")
	if list := accessLawOf(t, escalating...).Access.Shortages(began); len(list) > 0 {
		t.Errorf("the shortages are %v", list)
	}
	c, do := accessCore(t, escalating...)
	must(t, do("ann", asks("r-1"), 0))
	want(t, do("dora", c.approval("r-1"), 10*time.Minute-time.Millisecond), "not_your_turn")
	must(t, do("dora", c.approval("r-1"), 10*time.Minute))
	want(t, do("cat", c.approval("r-1"), 10*time.Minute), "approver_not_permitted")
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 11*time.Minute))
}

// The same approval again is none, and the same begin again gives no second time.
func TestFailure21ReplayedApproval(t *testing.T) {
	c, do := accessCore(t)
	must(t, do("ann", asks("r-1"), 0))
	yes := c.approval("r-1")
	must(t, do("bob", yes, 0))
	want(t, do("bob", yes, time.Minute), "already_approved")
	must(t, do("ann", beginActivation{"r-1", "a-1"}, time.Minute))
	ends := c.Activations["a-1"].Ends
	want(t, do("bob", yes, time.Minute), "request_closed")
	must(t, do("ann", beginActivation{"r-1", "a-2"}, 30*time.Minute)) // the answer again
	if len(c.Activations) != 1 || c.Activations["a-1"].Ends != ends {
		t.Errorf("%+v", c.Activations)
	}
	must(t, do("ann", endActivation{"a-1", ""}, 31*time.Minute))
	want(t, do("ann", beginActivation{"r-1", "a-3"}, 32*time.Minute), "request_closed")
	// An approval of one request is none of another that reads the same.
	must(t, do("ann", asks("r-2"), 33*time.Minute))
	yes.Request = "r-2"
	want(t, do("bob", yes, 34*time.Minute), "ask_differs")
}

// Whoever resets the password of somebody who is eligible can activate nothing for
// as long as the rule says, nor approve as him what is his own.
func TestFailure23PasswordResetByTheHelpDesk(t *testing.T) {
	ctx := context.Background()
	k, later, apply := withConsole(t)
	apply("patience: 2h", "patience: 2h, coolingOff: 24h")
	ask := func() error {
		id, err := k.RequestActivation(ctx, Caller{User: "ann"}, "", OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why"})
		if err == nil {
			must(t, k.WithdrawRequest(ctx, Caller{User: "ann"}, id))
		}
		return err
	}
	must(t, ask()) // no account was ever changed
	code, err := k.Invite(ctx, Caller{User: "dora"}, "ann")
	must(t, err)
	want(t, ask(), "cooling_off") // by the invitation alone: who holds it may use it at any time
	later(23 * time.Hour)
	must(t, k.Enrol(ctx, "ann", code, "the help desk's password"))
	later(2 * time.Hour)
	want(t, ask(), "cooling_off")
	later(22 * time.Hour)
	must(t, ask())
}

// Whoever may write access rules, and no more, lets nobody in by them.
func TestFailure26AdministratorLetsHimselfIn(t *testing.T) {
	ctx := context.Background()
	k, _, apply := withConsole(t)
	admin := "---\n{kind: Assignment, name: desk, role: access-administrator, principal: user:eve, scope: /}\n---\n{kind: Assignment, name: administration"
	apply("---\n{kind: Assignment, name: administration", admin)
	r, _ := k.Revision()
	for name, change := range map[string][2]string{
		"an eligible assignment":   {"<deny>", "\n---\n{kind: Assignment, name: mine, role: operator, principal: user:eve, scope: /projects/p, eligible: true}"},
		"into the eligible group":  {"users: [ann, <bob>cat]", "users: [ann, <bob>cat, eve]"},
		"into the approvers":       {"dora<leads>", "dora, eve"},
		"a rule without approvals": {", approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]", ""},
		"a wider role":             {"<wider>", ", deployments/approve"},
	} {
		text := strings.NewReplacer(change[0], change[1]).Replace(strings.Replace(accessRules+forPeople, "---\n{kind: Assignment, name: administration", admin, 1))
		text = unmarked(text)
		if _, err := k.Apply(ctx, Caller{User: "eve"}, readRules(t, text), r.Number, name); err == nil {
			t.Errorf("eve applies %s", name)
		} else if !strings.Contains(fmt.Sprint(lockkeeper.RefusalOf(err).Decision), "escalation") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nobody floods approvers: so many wait, of each user, and refused ones are not told
// one by one.
func TestFailure27RequestFlood(t *testing.T) {
	c, do := accessCore(t)
	for i := range maxRequests {
		must(t, do("ann", asks(fmt.Sprint("r-", i)), 0))
	}
	size := c.Size
	for range 200 {
		want(t, do("ann", asks("r-x"), 0), "requests_many")
	}
	if c.Size > size+1 {
		t.Errorf("200 refusals make %d entries", c.Size-size)
	}
	must(t, do("cat", asks("r-cat"), 0)) // others ask as before
	must(t, do("ann", withdrawRequest{"r-0"}, 0))
	must(t, do("ann", asks("r-y"), 0))
	must(t, do("bob", c.approval("r-1"), 0))
	must(t, do("ann", beginActivation{"r-1", "a-1"}, 0))
}
