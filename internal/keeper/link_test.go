package keeper

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// An administrator lists his own account of the CI platform under somebody else, who
// holds the right to deploy, and would approve what he himself has started.
func TestLinkOwnAccountToAnother(t *testing.T) {
	// dora may approve here, and her account is 1005.
	rules := strings.Replace(rulesWith("<managers>", ", dora"), "name: dora\n", "name: dora\nids: [{provider: github, id: \"1005\"}]\n", 1)
	moved := strings.Replace(strings.Replace(rules, "\nids: [{provider: github, id: \"1005\"}]", "", 1), `id: "1002"}]`, `id: "1002"}, {provider: github, id: "1005"}]`, 1)
	for name, test := range map[string]struct {
		before  func(c *deploying)
		counts  bool // whoever linked it is told to be behind it
		confirm string
	}{
		"to somebody who has proved himself": {func(c *deploying) { c.Accounts["bob"] = &Account{User: "bob", Credential: "b", Proven: true} }, true, ""},
		"whose password she has reset before": {func(c *deploying) {
			c.Accounts["bob"] = &Account{User: "bob", Credential: "b", Once: true, Maker: "dora"}
		}, true, "account_unproven"},
		"to somebody whom nobody has met":      {func(*deploying) {}, false, ""},
		"and he says that it is his own":       {func(c *deploying) { c.Accounts["bob"] = &Account{User: "bob", Credential: "b", Proven: true} }, false, "now"},
		"to somebody whom a directory knows":   {func(c *deploying) { c.Members["corp s"] = &Member{Directory: "corp", Subject: "s", User: "bob"} }, true, ""},
		"whose directory is none any more":     {func(c *deploying) { c.Members["gone s"] = &Member{Directory: "gone", Subject: "s", User: "bob"} }, false, ""},
		"to herself, under another of her own": {func(c *deploying) { c.Accounts["bob"] = &Account{User: "bob", Credential: "b"} }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			corp := "\n---\n{kind: Directory, name: corp, platform: okta, issuer: https://corp.okta.com, client: c}\n"
			was := strings.Replace(rules, `id: "1002"}]`, `id: "1002"}]`+"\nsignIns: [{directory: corp, subject: s}]", 1) + corp
			is := strings.Replace(moved, `{provider: github, id: "1005"}]`, `{provider: github, id: "1005"}]`+"\nsignIns: [{directory: corp, subject: s}]", 1) + corp
			c := deployCore(t, was)
			c.Accounts["dora"] = &Account{User: "dora", Credential: "x", Proven: true}
			test.before(c)
			must(t, c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, is)}, 0))
			if got := len(c.Links) == 1; got != (test.counts || test.confirm == "now") {
				t.Errorf("%v", c.Links)
			}
			if test.confirm == "now" {
				must(t, c.user("bob", confirmLinks{}, 0))
			} else if test.confirm != "" {
				want(t, c.user("bob", confirmLinks{}, 0), test.confirm)
			}
			job := c.job("1", "12", "test", "1005", 0)
			o := c.origin(job, job.Actor, job.ActorName)
			if got := strings.Contains(strings.Join(names(o.Persons), " "), "dora"); got != (test.counts || strings.Contains(strings.Join(names(c.persons("bob")), " "), "dora")) {
				t.Errorf("dora stands behind it: %v (%v)", got, o.Persons)
			}
		})
	}
}

func names(list []lockkeeper.Person) (out []string) {
	for _, p := range list {
		out = append(out, string(p))
	}
	return out
}

// So neither of the two approves what such a run asks for, and it starts only what
// both may.
func TestLinkedRunIsNobodysToApprove(t *testing.T) {
	rules := rulesWith("<managers>", ", dora")
	linked := strings.Replace(rules, `id: "1002"}]`, `id: "1002"}, {provider: github, id: "1005"}]`, 1)
	play := func(t *testing.T, rules, linked string) *deploying {
		c := deployCore(t, rules)
		c.Accounts["dora"], c.Accounts["bob"] = &Account{User: "dora", Credential: "x", Proven: true}, &Account{User: "bob", Credential: "b", Proven: true}
		must(t, c.user("dora", applyCatalog{Base: c.Revision.Number, Rules: mustRules(t, linked)}, 0))
		must(t, c.record(c.job("1", "10", "", "1001", 0), 0))
		return c
	}
	c := play(t, rules, linked)
	must(t, c.open("d-a", c.job("2", "21", "production", "1005", 0), "production", 0))
	for _, by := range []string{"dora", "bob"} {
		want(t, c.approve(by, "d-a", time.Second), "own_deployment")
	}
	must(t, c.approve("cat", "d-a", time.Second))
	must(t, c.user("bob", confirmLinks{}, 2*time.Second))
	// Who stood behind it when it was asked for stands behind it.
	want(t, c.approve("dora", "d-a", 3*time.Second), "own_deployment")

	c = play(t, strings.Replace(rules, ", dora", "", 1), strings.Replace(linked, ", dora", "", 1)) // who may not deploy
	want(t, c.open("d-b", c.job("2", "21", "production", "1005", 0), "production", 0), "initiator_not_permitted")
	must(t, c.user("bob", confirmLinks{}, time.Second))
	must(t, c.open("d-b", c.job("2", "21", "production", "1005", time.Second), "production", time.Second))
}

// A linked account proves nobody and lets nobody in until its owner has said that it
// is his; and it is gone with the catalog that lists it.
func TestLinkSignsNobodyIn(t *testing.T) {
	ctx := context.Background()
	k, _ := travelled(t)
	dora := Caller{User: "dora"}
	const corp = "---\n{kind: Directory, name: corp, platform: okta, issuer: https://corp.okta.com, client: c}\n"
	code, err := k.Invite(ctx, dora, "bob")
	must(t, err)
	must(t, k.Enrol(ctx, "bob", code, "a password of bob"))
	k.mu.Lock()
	for _, s := range []*State{k.state, k.work.State} { // he proved himself long ago
		s.Accounts["bob"].Proven = true
	}
	k.mu.Unlock()
	linked := strings.Replace(adviceRules, "{kind: User, name: bob}", "{kind: User, name: bob, signIns: [{directory: corp, subject: dora-there}]}", 1) + corp
	_, err = k.Apply(ctx, dora, mustRules(t, linked).Catalog, 3, "")
	must(t, err)
	said := Said{Directory: "corp", Subject: "dora-there", Name: "dora", At: k.now(), Authenticated: k.now()}
	_, _, err = k.SignInBy(ctx, said)
	want(t, err, "link_unconfirmed")
	if links, err := k.ConfirmLinks(ctx, dora); err != nil || len(links) > 0 {
		t.Errorf("dora confirms %v %v", links, err)
	}
	_, _, err = k.SignInBy(ctx, said)
	want(t, err, "link_unconfirmed")
	secret, _, err := k.SignIn(ctx, "bob", "a password of bob", "here")
	must(t, err)
	bob, err := k.Authenticate(secret)
	must(t, err)
	if links, err := k.ConfirmLinks(ctx, bob); err != nil || len(links) != 1 || links[0] != "sign-in corp dora-there" {
		t.Errorf("bob confirms %v %v", links, err)
	}
	_, s, err := k.SignInBy(ctx, said)
	must(t, err)
	if s.User != "bob" {
		t.Errorf("%+v", s)
	}
	// Taken away and given back it is a new link.
	_, err = k.Apply(ctx, dora, mustRules(t, adviceRules+corp).Catalog, 4, "")
	must(t, err)
	_, err = k.Apply(ctx, dora, mustRules(t, linked).Catalog, 5, "")
	must(t, err)
	_, _, err = k.SignInBy(ctx, said)
	want(t, err, "link_unconfirmed")
	_, err = k.Apply(ctx, dora, mustRules(t, adviceRules+corp).Catalog, 6, "")
	must(t, err)
	if n := len(k.read().Links); n > 0 {
		t.Errorf("%d links are left", n)
	}
}
