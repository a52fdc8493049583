package keeper

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

// forPeople adds to accessRules an identity that people may use, and a role that
// engineers may activate for it.
const forPeople = `
---
{kind: User, name: eve}
---
{kind: Provider, name: ci, platform: github, issuer: 'https://ci.example'}
---
{kind: Pipeline, name: l, project: p, provider: ci, organisation: 7, repository: 8, definition: a.yml, stages: [{name: s, trust: {events: [push], refs: [refs/heads/main]}}]}
---
{kind: Identity, name: console, project: p, environment: e, audiences: ["https://console.example"], lifetime: 5m, stages: [l/s], people: true}
---
{kind: Identity, name: robots, project: p, environment: f, audiences: ["https://console.example"], stages: [l/s]}
---
{kind: Role, name: user, actions: [identities/use]}
---
{kind: Assignment, name: users, role: user, principal: group:engineers, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: use, role: user, scope: /projects/p}
`

const console = "https://console.example"

// withConsole is a keeper under accessRules and forPeople, at an instant that later
// moves.
func withConsole(t *testing.T) (k *Keeper, later func(time.Duration), apply func(pairs ...string)) {
	t.Helper()
	var mu sync.Mutex
	now := began.Time()
	k, _ = started(t, Options{Clock: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	later = func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	apply = func(pairs ...string) {
		t.Helper()
		r, _ := k.Revision()
		text := strings.NewReplacer(pairs...).Replace(accessRules + forPeople)
		text = unmarked(text)
		_, err := k.Apply(context.Background(), Caller{User: "dora"}, readRules(t, text), r.Number, "x")
		must(t, err)
	}
	apply()
	return k, later, apply
}

func activateUser(t *testing.T, k *Keeper, user string, length time.Duration) Activation {
	t.Helper()
	ctx := context.Background()
	r, err := k.RequestActivation(ctx, Caller{User: user}, "", OpenRequest{Role: "user", Scope: "/projects/p", For: length, Reason: "why"})
	must(t, err)
	a, err := k.BeginActivation(ctx, Caller{User: user}, r)
	must(t, err)
	return a
}

func claimsOf(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	var out map[string]any
	must(t, json.Unmarshal(b, &out))
	return out
}

// A person's token needs the right, an identity for people and one of its
// audiences; it ends with the activation, and introspection with every end of it
// (invariant 7).
func TestInvariant7PersonToken(t *testing.T) {
	ctx := context.Background()
	k, later, apply := withConsole(t)
	ann, dora := Caller{User: "ann"}, Caller{User: "dora"}
	issue := func(identity, audience string) (Token, error) { return k.IssueToken(ctx, ann, "p", identity, audience) }
	active := func(by Caller, tok Token) bool {
		t.Helper()
		c, err := k.Introspect(ctx, by, tok.JWT)
		must(t, err)
		return c.Active
	}
	_, err := issue("console", console)
	want(t, err, "not_granted")
	_, err = k.IssueToken(ctx, dora, "p", "console", console) // who governs everything uses nothing
	want(t, err, "not_granted")
	_, err = k.IssueToken(ctx, Caller{}, "p", "console", console)
	want(t, err, "person_needed")
	a := activateUser(t, k, "ann", 10*time.Minute)
	for identity, code := range map[string]string{"robots": "identity_not_for_people", "nothing": "identity_unknown", "No Such": "identity_malformed"} {
		_, err = issue(identity, console)
		want(t, err, code)
	}
	_, err = issue("console", "https://other.example")
	want(t, err, "audience_not_admitted")

	tok, err := issue("console", console)
	must(t, err)
	c := claimsOf(t, tok.JWT)
	if c["sub"] != "lk-person:p:e:console:ann" || c["activation"] != a.ID || c["user"] != "ann" || c["aud"] != console || tok.Life != 5*time.Minute || c["deployment"] != nil {
		t.Errorf("for %s: %v", tok.Life, c)
	}
	if !active(ann, tok) || !active(dora, tok) || active(Caller{User: "eve"}, tok) {
		t.Error("who is told that it stands is wrong")
	}
	later(8 * time.Minute)
	if active(ann, tok) {
		t.Error("it stands past its time")
	}
	tok, err = issue("console", console)
	must(t, err)
	if a.Ends.Before(tok.Expires) {
		t.Errorf("it ends at %s, the activation at %s", tok.Expires, a.Ends)
	}
	want(t, k.Revoke(ctx, Caller{User: "eve"}, tok.JWT), "not_granted")
	must(t, k.Revoke(ctx, ann, tok.JWT))
	must(t, k.Revoke(ctx, ann, tok.JWT)) // again is no error (RFC 7009)
	if active(ann, tok) {
		t.Error("it stands though it is revoked")
	}
	for name, end := range map[string]func(a Activation){
		"ended":          func(a Activation) { must(t, k.EndActivation(ctx, ann, a.ID, "")) },
		"revoked":        func(a Activation) { must(t, k.EndActivation(ctx, dora, a.ID, "no")) },
		"not eligible":   func(Activation) { apply("users: [ann, <bob>cat]", "users: [<bob>cat]") },
		"not for people": func(Activation) { apply(", people: true", "") },
		"another's right": func(a Activation) {
			activateUser(t, k, "ann", time.Hour) // gives the right still, but not to this token
			must(t, k.EndActivation(ctx, dora, a.ID, "no"))
		},
	} {
		a := activateUser(t, k, "ann", time.Hour)
		tok, err := issue("console", console)
		must(t, err)
		id := k.state.PersonTokens[claimsOf(t, tok.JWT)["jti"].(string)].Activation
		if !active(ann, tok) {
			t.Fatalf("%s: it never stood", name)
		}
		a.ID = id
		end(a)
		if active(ann, tok) {
			t.Errorf("%s: it stands still", name)
		}
		for _, x := range k.state.Activations {
			if x.User == "ann" {
				must(t, k.EndActivation(ctx, ann, x.ID, ""))
			}
		}
		apply()
	}
}

// At most so many tokens of one user are alive, and each issue forgets those that
// have ended.
func TestPersonTokensAreBounded(t *testing.T) {
	ctx := context.Background()
	k, later, _ := withConsole(t)
	activateUser(t, k, "ann", time.Hour)
	var err error
	for range maxPersonTokens {
		_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
		must(t, err)
	}
	_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	want(t, err, "tokens_many")
	later(6 * time.Minute)
	_, err = k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
	must(t, err)
	if n := len(k.state.PersonTokens); n != 1 {
		t.Errorf("%d tokens are remembered", n)
	}
	if s := PersonSubjectOf("p", "e", strings.Repeat("i", 63), strings.Repeat("u", 63)); len(s) > 127 || !strings.HasPrefix(s, "lk-person:") || s == PersonSubjectOf("p", "e", strings.Repeat("i", 63), strings.Repeat("v", 63)) {
		t.Errorf("the subject is %s", s)
	}
	if strings.HasPrefix(SubjectOf("person", "e", "i"), "lk-person:") {
		t.Error("a pipeline's subject begins as a person's")
	}
}

// Revoking races issuing: nothing is issued once the revocation has been answered,
// and nothing that was issued before stands (failure 9).
func TestFailure09RevokeRacesIssue(t *testing.T) {
	ctx := context.Background()
	k, _, _ := withConsole(t)
	for range 5 {
		a := activateUser(t, k, "ann", time.Hour)
		var mu sync.Mutex
		var got []Token
		var over bool
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 4 {
					mu.Lock()
					after := over
					mu.Unlock()
					tok, err := k.IssueToken(ctx, Caller{User: "ann"}, "p", "console", console)
					if after && err == nil {
						t.Error("issued after the revocation")
					}
					if err == nil {
						mu.Lock()
						got = append(got, tok)
						mu.Unlock()
					} else if codeOf(err) != "not_granted" && codeOf(err) != "tokens_many" {
						t.Error(err)
					}
				}
			})
		}
		group.Go(func() {
			if err := k.EndActivation(ctx, Caller{User: "dora"}, a.ID, "no"); err != nil {
				t.Error(err)
			}
			mu.Lock()
			over = true
			mu.Unlock()
		})
		group.Wait()
		for _, tok := range got {
			if c, err := k.Introspect(ctx, Caller{User: "ann"}, tok.JWT); err != nil || c.Active {
				t.Errorf("a token stands after the revocation (%v)", err)
			}
		}
	}
	// The order in the journal says the same: no issue stands behind the end.
	last := map[string]bool{}
	stored, err := k.journal.SubjectAll(ctx, "user/ann")
	must(t, err)
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		must(t, err)
		switch ev := body.(type) {
		case *activationEnded:
			last[ev.ID] = true
		case *tokenIssued:
			if last[ev.Token.Activation] {
				t.Errorf("%s was issued under %s after its end", ev.Token.ID, ev.Token.Activation)
			}
		}
	}
	if len(last) != 5 {
		t.Errorf("%d ends", len(last))
	}
}
