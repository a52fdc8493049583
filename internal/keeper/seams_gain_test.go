package keeper

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// 18: closing an incident brings a token back.
func TestSeam18TokenComesBack(t *testing.T) {
	ctx := context.Background()
	k, later, apply := withConsole(t)
	apply("<deny>", "<deny>"+responders, "name: users, role: user, principal: group:engineers, scope: /projects/p, eligible: true}", "name: users, role: user, principal: group:engineers, scope: /projects/p}")
	tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	later(time.Second)
	_, err = do[Cut](ctx, k, Caller{User: "rita"}, "", openIncident{ID: "i-1", Title: "stolen", Quarantine: quarantines(t, "user:ann")})
	must(t, err)
	later(time.Second)
	_, err = do[opened](ctx, k, Caller{User: "rob"}, "", closeIncident{"i-1", "mended"})
	must(t, err)
	seen, err := k.Introspect(ctx, Caller{User: "dora"}, tok.JWT)
	must(t, err)
	if seen.Active {
		t.Error("ann's token from before the incident stands again")
	}
}

// 31: the second person gains by a provisioner.
func TestSeam31ProposalAndProvisioner(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat")
	c := respondingCore(t, text)
	next := mustRules(t, text+"---\n{kind: Provisioner, name: ledger, role: operator, scope: /projects/payments/environments/production, postgresql: {roles: [owner]}}\n")
	s, err := c.core.step(Caller{User: "dora"}, "", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, began)
	must(t, err)
	must(t, s.err)
	t.Logf("%+v", s.answer)
	p := c.Proposals["p-1"]
	if p == nil {
		t.Fatal("a provisioner for what managers are eligible for is no weakening")
	}
	if err := c.user("cat", approveProposal{Proposal: "p-1", Digest: p.Digest, Rules: next}, time.Minute); codeOf(err) != "proposal_gains" {
		t.Errorf("cat is eligible for operator, and lets herself into the database: %v", err)
	}
}

// 32: access administrator without escalate adds a provisioner for himself.
func TestSeam32GainsAndProvisioner(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: access-administrator\nprincipal: user:bob")
	c := respondingCore(t, text)
	next := mustRules(t, text+"---\n{kind: Provisioner, name: ledger, role: operator, scope: /projects/payments/environments/production, postgresql: {roles: [owner]}}\n")
	s, err := c.core.step(Caller{User: "bob"}, "", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, began)
	must(t, err)
	if s.err == nil {
		t.Errorf("bob, eligible for operator, gives it a database: %+v", s.answer)
	}
	t.Log(s.err)
}

// 33: people: true on an identity, whose use operators are eligible for, and the writer of identities.
func TestSeam33IdentityForPeople(t *testing.T) {
	text := incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat\nscope: /\n---\nkind: Assignment\nname: idents\nrole: pipeline-administrator\nprincipal: user:bob",
		"actions: [deployments/cancel, freezes/write]", "actions: [deployments/cancel, freezes/write]")
	text = strings.Replace(text, "actions: [deployments/cancel, freezes/write]", "actions: [deployments/cancel, freezes/write, identities/use]", 1)
	c := respondingCore(t, text)
	next := mustRules(t, strings.Replace(text, "lifetime: 2m\n", "lifetime: 2m\npeople: true\n", 1))
	s, err := c.core.step(Caller{User: "bob"}, "", applyCatalog{Rules: next, ID: "p-1", Base: c.Revision.Number}, began)
	must(t, err)
	if s.err == nil && c.Proposals["p-1"] == nil {
		t.Errorf("bob opens production's identity to people, himself one, alone: %+v", s.answer)
		must(t, c.user("bob", openRequest{ID: "r-1", Role: "operator", Scope: "/projects/payments", For: time.Hour, Reason: "x"}, 0))
		must(t, c.user("bob", beginActivation{"r-1", "a-1"}, 0))
		t.Log(c.user("bob", issueToken{"t-1", "payments", "payments-production", "https://target.example"}, time.Second))
	} else {
		t.Log(s.err, c.Proposals["p-1"] != nil)
	}
	_ = lockkeeper.Root
}
