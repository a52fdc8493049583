package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// everything lets dora do each thing that is observed, and hands out an identity to
// people.
func everything() string {
	all := rulesWith("<more>", "---\n{kind: Role, name: all, actions: ['*']}\n---\n{kind: Assignment, name: all, role: all, principal: user:dora, scope: /}\n---\n"+
		"{kind: Role, name: operator, actions: [freezes/write]}\n---\n{kind: Assignment, name: operators, role: operator, principal: user:ann, scope: /, eligible: true}\n---\n"+
		"{kind: ActivationRule, name: op, role: operator, scope: /, approvals: [{name: one, approval: {count: 1, groups: [owners]}}]}\n---\n{kind: Group, name: owners, users: [dora]}\n",
		"groups: [managers]}\n  - name: security", "groups: [managers, owners]}\n  - name: security")
	return strings.Replace(all, "name: payments-test\n", "name: payments-test\npeople: true\n", 1)
}

// TestObservedActionsAreRecorded uses every action of which the recommendations say
// that its use is always recorded. One that left no entry would be called unused, and
// be taken from whoever needs it.
func TestObservedActionsAreRecorded(t *testing.T) {
	const at, test = "/projects/payments/environments/production", "/projects/payments/environments/test"
	c := deployCore(t, everything())
	c.Accounts["dora"] = &Account{User: "dora", Credential: "x"}
	apply := func(old, new string) func() error {
		return func() error {
			text := strings.Replace(everything(), old, new, 1)
			err := c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, text)}, time.Second)
			c.rules = mustRules(t, everything())
			return err
		}
	}
	running := func(id, run string) {
		must(t, c.record(c.job(run, run+"0", "", "1001", 0), 0))
		must(t, c.open(id, c.job(run, run+"1", "test", "1001", 0), "test", 0))
	}
	running("d-1", "1")
	running("d-2", "2")
	c.Activations["a-1"] = &Activation{ID: "a-1", User: "ann", Role: "operator", Scope: "/", Ends: began.Add(time.Hour)}
	c.Sessions["s-1"] = &Session{ID: "s-1", User: "ann", Expires: began.Add(time.Hour)}
	c.Keys[token.ES256] = &KeyRing{Active: "k1", Next: "k2", Since: began.Add(-1000 * time.Hour)}
	job := c.job("2", "21", "test", "1001", 0)
	tried := map[lockkeeper.Action]bool{}
	for action, use := range map[lockkeeper.Action]struct {
		scope lockkeeper.Scope
		do    func() error
	}{
		lockkeeper.WriteAccess:       {"/", apply("name: owners, users: [dora]", "name: owners, users: [dora, bob]")},
		lockkeeper.EscalateAccess:    {"/", apply("name: owners, users: [dora]", "name: owners, users: [dora, cat]")},
		lockkeeper.WriteEnvironments: {test, apply("patience: 30m", "patience: 20m")},
		lockkeeper.WriteIdentities:   {"/projects/payments/identities/payments-production", apply("lifetime: 2m", "lifetime: 1m")},
		lockkeeper.WritePipelines:    {"/projects/payments/pipelines/release", apply("events: [push, schedule]", "events: [push]")},
		lockkeeper.WriteProjects:     {"/projects/payments", apply("kind: Project\nname: payments", "kind: Project\nname: payments\ntitle: x")},
		lockkeeper.WriteFreezes:      {at, apply("kind: Project\n", "kind: Freeze\nname: f\nscope: "+at+"\nfrom: 2026-12-01T00:00:00Z\nuntil: 2026-12-02T00:00:00Z\nreason: r\n---\nkind: Project\n")},
		lockkeeper.InviteAccounts:    {"/", func() error { return c.user("dora", inviteAccount{User: "bob"}, time.Second) }},
		lockkeeper.RevokeAccounts:    {"/", func() error { return c.user("dora", endSession{"s-1"}, time.Second) }},
		lockkeeper.ApproveActivations: {"/", func() error {
			must(t, c.user("ann", openRequest{ID: "r-1", Role: "operator", Scope: "/", For: time.Hour, Reason: "why"}, time.Second))
			return c.user("dora", decideRequest{Request: "r-1", Approve: true, Digest: c.Requests["r-1"].Digest}, time.Second)
		}},
		lockkeeper.RevokeActivations: {"/", func() error { return c.user("dora", endActivation{Activation: "a-1"}, time.Second) }},
		lockkeeper.StartDeployments: {at, func() error { // by ann
			must(t, c.record(c.job("9", "90", "", "1001", time.Second), time.Second))
			return c.open("d-9", c.job("9", "91", "production", "1001", time.Second), "production", time.Second)
		}},
		lockkeeper.ApproveDeployments: {at, func() error {
			must(t, c.record(c.job("8", "80", "", "1001", time.Second), time.Second))
			must(t, c.open("d-8", c.job("8", "81", "production", "1001", time.Second), "production", time.Second))
			return c.approve("dora", "d-8", time.Second)
		}},
		lockkeeper.CancelDeployments: {test, func() error { return c.user("dora", cancelDeployment{Deployment: "d-1"}, time.Second) }},
		lockkeeper.RevokeLeases: {test, func() error {
			must(t, c.as(Caller{Workload: &job}, claimLease{Deployment: "d-2", Lease: "l-2", Job: job, Handle: HandleDigest("h")}, time.Second))
			return c.user("dora", revokeLease{"d-2", "why"}, time.Second)
		}},
		lockkeeper.RotateKeys: {"/", func() error {
			return c.user("dora", rotateKey{Algorithm: token.ES256, Made: "k3", Reason: "why"}, time.Second)
		}},
		lockkeeper.UseIdentities: {"/projects/payments/identities/payments-test", func() error {
			return c.user("dora", issueToken{ID: "t-1", Project: "payments", Identity: "payments-test", Audience: "https://target.example"}, time.Second)
		}},
	} {
		clear(c.Uses)
		if err := use.do(); err != nil {
			t.Errorf("%s: %v", action, err)
			continue
		}
		user := map[bool]string{true: "ann", false: "dora"}[action == lockkeeper.StartDeployments]
		u := c.Uses[useKey(used{User: user, Action: action, Scope: use.scope})]
		if u == nil || len(u.By) == 0 {
			t.Errorf("%s left nothing: %v", action, c.Uses)
			continue
		}
		for name, g := range u.By {
			if g.Digest != c.rules.Catalog.DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: name}) || g.Digest == "" {
				t.Errorf("%s: %s %+v", action, name, g)
			}
		}
		tried[action] = true
	}
	for _, action := range access.Observed() {
		if !tried[action] {
			t.Errorf("nobody tried whether %s is recorded", action)
		}
	}
	if i := slices.IndexFunc(access.Observed(), func(a lockkeeper.Action) bool { return strings.HasSuffix(string(a), "/read") }); i >= 0 {
		t.Error("reading leaves no entry")
	}
}
