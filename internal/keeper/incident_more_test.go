package keeper

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// responders may declare incidents beside dora, who administers.
const responders = `
---
{kind: User, name: rita}
---
{kind: User, name: rob}
---
{kind: Group, name: responders, users: [rita, rob]}
---
{kind: Assignment, name: responding, role: incident-responder, principal: "group:responders", scope: /}
`

// A person's tokens stand no more once he, the identity or what it is in is stopped;
// what a target that does not ask may still take is told, and no new one is had.
func TestIncidentPersonTokens(t *testing.T) {
	ctx := context.Background()
	for name, stop := range map[string]func(*openIncident){
		"the person":          func(c *openIncident) { c.Quarantine = quarantines(t, "user:ann") },
		"the identity":        func(c *openIncident) { c.Quarantine = quarantines(t, "identity:p/console") },
		"the environment":     func(c *openIncident) { c.Freeze = []lockkeeper.Scope{"/projects/p/environments/e"} },
		"another person":      func(c *openIncident) { c.Quarantine = quarantines(t, "user:cat") },
		"another environment": func(c *openIncident) { c.Freeze = []lockkeeper.Scope{"/projects/p/environments/f"} },
		"person, best effort": func(c *openIncident) { c.Quarantine, c.Mode = quarantines(t, "user:ann"), BestEffort },
	} {
		t.Run(name, func(t *testing.T) {
			k, later, apply := withConsole(t)
			apply("<deny>", "<deny>"+responders)
			a := activateUser(t, k, "ann", 10*time.Minute)
			tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
			must(t, err)
			later(time.Second)
			c := openIncident{ID: "i-1", Title: "stolen"}
			stop(&c)
			stopped := name != "another person" && name != "another environment"
			cut, err := do[Cut](ctx, k, Caller{User: "rita"}, "", c)
			must(t, err)
			told := slices.ContainsFunc(cut.Outside, func(r Residue) bool {
				return r.User == "ann" && r.Identity == "console" && r.Tokens == 1 && r.Till == tok.Expires
			})
			if told != stopped {
				t.Errorf("what lives outside: %+v", cut.Outside)
			}
			seen, err := k.Introspect(ctx, Caller{User: "dora"}, tok.JWT)
			must(t, err)
			if seen.Active == stopped {
				t.Errorf("the token stands: %v", seen.Active)
			}
			_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
			if (err != nil) != stopped {
				t.Errorf("a new one: %v", err)
			}
			if alive := k.state.Activations[a.ID] != nil; alive == (c.Quarantine != nil && c.Quarantine[0].Name == "ann") {
				t.Errorf("the activation is alive: %v", alive)
			}
		})
	}
}

// What a job has activated, and what it asks for, ends with its pipeline.
func TestIncidentRunActivations(t *testing.T) {
	r := withRuns(t, "<more>", "")
	r.apply("kind: Role, name: migrator", "kind: User, name: rita}\n---\n{kind: User, name: rob}\n---\n{kind: Group, name: responders, users: [rita, rob]}\n---\n{kind: Assignment, name: responding, role: incident-responder, principal: 'group:responders', scope: /}\n---\n{kind: Role, name: migrator")
	a := r.active("1", "11")
	waits, err := r.ask(r.job("1", "12", "1001"))
	must(t, err)
	cut, err := do[Cut](r.ctx, r.Keeper, Caller{User: "rita"}, "", openIncident{ID: "i-1", Title: "stolen", Quarantine: quarantines(t, "pipeline:payments/release")})
	must(t, err)
	if !slices.Equal(cut.Activations, []string{a.ID}) || !slices.Equal(cut.Requests, []string{waits}) {
		t.Errorf("%+v", cut)
	}
	_, err = r.ask(r.job("1", "13", "1001"))
	want(t, err, "quarantined")
	_, err = r.open(r.job("1", "11", "1001"))
	want(t, err, "quarantined")
}

// What an incident takes from somebody is taken from where it was provisioned, too.
func TestIncidentMakesDutiesDue(t *testing.T) {
	c, do := accessCore(t, "<deny>", provisioned+responders)
	activated(t, c, do, "1", "/projects/p/environments/f", 0)
	if len(c.Duties) == 0 {
		t.Fatal("nothing is provisioned")
	}
	must(t, do("rita", openIncident{ID: "i-1", Title: "stolen", Quarantine: quarantines(t, "user:ann")}, time.Second))
	for id, d := range c.Duties {
		if verb := c.next(d, c.accounts().others(d), began.Add(2*time.Second)); verb != RevokeVerb && d.Attempt > 0 {
			t.Errorf("the duty %s is to %q", id, verb)
		} else if d.Attempt == 0 && verb == GrantVerb {
			t.Errorf("%s is still granted", id)
		}
	}
}

// A credential that has just been changed breaks no glass: whoever resets it would.
func TestFailure25GlassAndCredentials(t *testing.T) {
	c := deployCore(t, strings.Replace(glassRules(), "longest: 2h\n", "longest: 2h\ncoolingOff: 24h\n", 1))
	must(t, c.core.record(&step{}, Caller{Keeper: true}, "", "", []event{&accountEnrolled{User: "ann", Credential: "p", Maker: "dora"}}, began))
	want(t, c.breaks("ann", "1", time.Hour), "cooling_off")
	must(t, c.breaks("bob", "2", time.Hour))

}

// In a session that codes of several persons started, more than one has decided what
// weakens; they mend the way in though nobody else could sign in to approve it.
func TestRecoverySessionWeakens(t *testing.T) {
	c := respondingCore(t, incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat"))
	weaker := mustRules(t, strings.Replace(incidentRules("principal: user:dora", "principal: user:dora\nscope: /\n---\nkind: Assignment\nname: second\nrole: organisation-administrator\nprincipal: user:cat"), "count: 1, groups: [managers]", "count: 1, groups: [managers, security]", 1))
	apply := func(by Caller, id string, at time.Duration) (*catalogApplied, bool) {
		t.Helper()
		s, err := c.core.step(by, "", applyCatalog{Rules: weaker, ID: id, Base: c.Revision.Number}, began.Add(at))
		must(t, err)
		must(t, s.err)
		for _, ev := range s.events {
			if a, is := ev.(*catalogApplied); is {
				return a, true
			}
		}
		return nil, false
	}
	c.collected("rita", "rob", "bob")
	must(t, c.signIn("dora", "s-d", time.Second))
	if _, inForce := apply(Caller{User: "dora", Session: "s-d"}, "c-1", time.Second); inForce {
		t.Fatal("dora weakens it alone")
	}
	must(t, c.recovers("1", 2*time.Second, "1 rita", "1 rob"))
	a, inForce := apply(Caller{User: "dora", Session: "s-1"}, "c-2", 3*time.Second)
	if !inForce || a.Second == nil || a.Second.Recovery != "v-1" || !slices.Equal(a.Second.Persons, []lockkeeper.Person{"rita", "rob"}) || len(a.Second.Weakens) == 0 {
		t.Errorf("%v %+v", inForce, a)
	}
}
