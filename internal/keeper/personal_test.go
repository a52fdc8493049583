package keeper

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"pgregory.net/rapid"
)

// tokenCommands says of every command of this package whether a personal token may
// send it. A command that is not here makes the test below red: say no, unless it
// takes nothing that only a person can answer for.
var tokenCommands = map[string]bool{
	"noteGates":     false,
	"reportRuling":  false,
	"queueMessages": false, "reportMessages": false, "testChannel": false,
	"noteHold": false, "openHold": false, "releaseHold": false, "loseHold": false, "tellHold": false,
	"cancelDeployment": true, "revokeLease": true, "revokeToken": true, "applyCatalog": true, "usePersonalToken": true,

	"makeSetupCode": false, "completeSetup": false, "inviteAccount": false, "enrolAccount": false, "challengeAccount": false, "proveAccount": false,
	"startSession": false, "startDirectorySession": false, "useSession": false, "endSession": false, "makePersonal": false, "endPersonal": false,
	"openRequest": false, "decideRequest": false, "beginActivation": false, "withdrawRequest": false, "endActivation": false,
	"openDeployment": false, "vote": false, "delegate": false, "withdrawApproval": false, "endDeployment": false, "claimLease": false, "renewLease": false,
	"grantToken": false, "recordArtifacts": false, "addEvidence": false, "reportRunning": false, "beginKeys": false, "rotateKey": false, "openEpoch": false, "confirmEpoch": false,
	"recordState": false, "sweep": false, "refused": false,
	"approveProposal": false, "denyProposal": false,
	"acknowledge": false, "breakGlass": false, "closeIncident": false, "collectRecovery": false, "extendIncident": false, "judgeReview": false, "makeRecovery": false, "openIncident": false, "useRecovery": false,
	"extendActivation": false, "issueToken": false, "openRunRequest": false, "recallToken": false,
	"driftReport": false, "attestDuty": false, "beginEffect": false, "endEffect": false, "handCredential": false, "reportQuestion": false,
	"makeToken": false, "endToken": false, "createUser": false, "changeUser": false, "removeUser": false, "createGroup": false, "changeGroup": false, "removeGroup": false,
	"openCampaign": false, "decideCampaign": false, "closeCampaign": false, "endCampaign": false, "confirmLinks": false,
	"startFreeze": true, "endFreeze": false, "requestOverride": false, "decideOverride": false, "endOverride": false,
	"proposeRecord": false, "decideRecord": false, "endRecord": false,
	"makeStrike": false, "liftStrike": false,
	"registerFactor": false, "removeFactor": false, "resetFactors": false, "stepUp": false,
}

// declared gives f every function of this package that is not of its tests.
func declared(t *testing.T, f func(receiver string, d *ast.FuncDecl)) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		for _, d := range file.Decls {
			if d, is := d.(*ast.FuncDecl); is {
				receiver := ""
				if d.Recv != nil {
					of := d.Recv.List[0].Type
					if star, pointer := of.(*ast.StarExpr); pointer {
						of = star.X
					}
					receiver = of.(*ast.Ident).Name
				}
				f(receiver, d)
			}
		}
	}
}

// TestTokenMay walks every command that this package declares, and holds the list of
// those that a token may send against it: a new command is refused until somebody
// has thought about it.
func TestTokenMay(t *testing.T) {
	commands, inList := map[string]bool{}, map[string]bool{}
	declared(t, func(receiver string, f *ast.FuncDecl) {
		if receiver != "" && f.Name.Name == "decide" && f.Type.Params.NumFields() == 3 {
			commands[receiver] = true
		}
		if receiver == "" && f.Name.Name == "tokenMay" {
			ast.Inspect(f, func(n ast.Node) bool {
				if c, is := n.(*ast.CaseClause); is {
					for _, x := range c.List {
						inList[x.(*ast.Ident).Name] = true
					}
				}
				return true
			})
		}
	})
	for _, name := range slices.Sorted(maps.Keys(commands)) {
		if may, known := tokenCommands[name]; !known {
			t.Errorf("nobody has said whether a token may send %s", name)
		} else if may != inList[name] {
			t.Errorf("a token may send %s: %v, want %v", name, inList[name], may)
		}
	}
	for name := range tokenCommands {
		if !commands[name] {
			t.Errorf("there is no command %s", name)
		}
	}
	if tokenMay(firstEntry{}) { // a command that nobody has listed
		t.Error("an unknown command is not refused")
	}
}

// ownRights are the functions that look at the caller's own rights, or at what is his
// because he is he, and that a token can reach: each of them looks at what the token
// names, too, or is only reached by commands that no token may send.
var ownRights = map[string]string{
	"world.checkFor": "looks", "world.allowedFor": "looks", "world.mine": "looks", "applyCatalog.propose": "refused", "world.decidesProposal": "refused",
	"world.voteOf": "votes", "world.session": "the session's own user", "world.personal": "the token's own user", "world.openedBy": "refused",
	"Keeper.Can": "looks", "Keeper.WhatCan": "looks", "Keeper.Sessions": "looks", "Keeper.PersonalTokens": "looks", "Keeper.Factors": "looks",
	"startFreeze.decide": "counts what its user started", "cancelDeployment.decide": "looks", "Keeper.ConfirmTOTP": "refused", "Keeper.RecoveryCodes": "looks", "Keeper.Notices": "refused", "world.maySeeReview": "looks", "world.maySeeCampaign": "looks", "world.mayGiveCredential": "refused", "world.mayGiveFactor": "refused", "Keeper.introspectPerson": "looks",
}

// TestOwnRights finds whatever asks what the caller himself may, or whether something
// is his: a token must not get past what it names that way.
func TestOwnRights(t *testing.T) {
	caller := func(x ast.Expr) bool {
		s, is := x.(*ast.SelectorExpr)
		if !is || s.Sel.Name != "User" {
			return false
		}
		of, is := s.X.(*ast.Ident)
		return is && of.Name == "by"
	}
	seen := map[string]bool{}
	declared(t, func(receiver string, f *ast.FuncDecl) {
		name := receiver + "." + f.Name.Name
		if may, is := tokenCommands[receiver]; is && !may {
			return // no token sends it
		}
		ast.Inspect(f, func(n ast.Node) bool {
			asks := false
			switch n := n.(type) {
			case *ast.CallExpr:
				s, is := n.Fun.(*ast.SelectorExpr)
				asks = is && slices.Contains([]string{"check", "checkBy", "allowed", "Allowed", "Check", "startedBy", "Contains", "mayReview"}, s.Sel.Name) && slices.ContainsFunc(n.Args, caller)
			case *ast.BinaryExpr:
				literal := func(x ast.Expr) bool { _, is := x.(*ast.BasicLit); return is }
				asks = (n.Op == token.EQL || n.Op == token.NEQ) && (caller(n.X) && !literal(n.Y) || caller(n.Y) && !literal(n.X))
			}
			if asks && ownRights[name] == "" {
				t.Errorf("%s asks for the caller's own rights, or whether something is his, and nobody has said how a token fares there", name)
			}
			seen[name] = seen[name] || asks
			return true
		})
	})
	for name := range ownRights {
		if !seen[name] {
			t.Errorf("%s asks for nothing of the caller's own any more", name)
		}
	}
}

// Every action that exists is either one that a token may hold or one that takes a
// person.
func TestPersonalActions(t *testing.T) {
	takesPerson := []lockkeeper.Action{lockkeeper.EscalateAccess, lockkeeper.InviteAccounts, lockkeeper.RevokeAccounts, lockkeeper.ApproveActivations, lockkeeper.RevokeActivations,
		lockkeeper.ProposeChanges, lockkeeper.ReviewChanges, lockkeeper.LeadChanges, lockkeeper.SecureChanges, lockkeeper.StartDeployments, lockkeeper.ApproveDeployments,
		lockkeeper.DeclareIncidents, lockkeeper.RotateKeys, lockkeeper.UseIdentities, lockkeeper.RecordArtifacts, lockkeeper.AddEvidence}
	for _, a := range lockkeeper.Actions() {
		if slices.Contains(personalActions, a) == slices.Contains(takesPerson, a) {
			t.Errorf("%s stands in both lists, or in neither", a)
		}
	}
	for _, a := range takesPerson {
		if _, err := personalActionsOf([]string{string(a)}); codeOf(err) != "token_may_not" {
			t.Errorf("%s: %v", a, err)
		}
	}
	all, err := personalActionsOf([]string{"*"})
	must(t, err)
	for _, a := range all {
		if slices.Contains(takesPerson, a) {
			t.Errorf("* names %s", a)
		}
	}
	_, err = personalActionsOf([]string{"deployments/fly"})
	want(t, err, "action_unknown")
	_, err = personalActionsOf(nil)
	want(t, err, "actions_missing")
}

// tokenLaw is one state of the catalog about ann.
func tokenLaw(there, off bool, roles map[string]string) string {
	text := "kind: User\nname: dora\n---\nkind: Project\nname: p\n---\nkind: Project\nname: q\n" +
		"---\n{kind: Assignment, name: administration, role: organisation-administrator, principal: 'user:dora', scope: /}\n" +
		"---\n{kind: Role, name: looks, actions: [deployments/read, catalog/read]}\n---\n{kind: Role, name: stops, actions: [deployments/cancel, leases/revoke]}\n"
	if !there {
		return text
	}
	text += fmt.Sprintf("---\n{kind: User, name: ann, off: %v}\n", off)
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		text += fmt.Sprintf("---\n{kind: Assignment, name: %s, role: %s, principal: 'user:ann', scope: %s}\n", role, role, roles[role])
	}
	return text
}

// TestPersonalTokens lets a person make and revoke tokens while his rights, his
// account and the clock change at random, and compares what each token may do with a
// small model: what it names, within what its user may at that moment, while it and
// he hold. It prints the sequence where they differ.
func TestPersonalTokens(t *testing.T) {
	type law struct {
		there, off bool
		roles      map[string]string
	}
	laws := []law{{true, false, map[string]string{"looks": "/projects/p", "stops": "/projects/p"}}, {true, false, map[string]string{"looks": "/"}},
		{true, false, map[string]string{"stops": "/projects/q"}}, {true, true, map[string]string{"looks": "/", "stops": "/"}}, {false, false, nil}, {true, false, nil}}
	var rules []*Rules
	for _, l := range laws {
		rules = append(rules, mustRules(t, tokenLaw(l.there, l.off, l.roles)))
	}
	of := map[string][]lockkeeper.Action{"looks": {lockkeeper.ReadDeployments, lockkeeper.ReadCatalog}, "stops": {lockkeeper.CancelDeployments, lockkeeper.RevokeLeases}}
	patterns := map[string][]lockkeeper.Action{"deployments/read": {lockkeeper.ReadDeployments}, "deployments/*": {lockkeeper.ReadDeployments, lockkeeper.CancelDeployments},
		"leases/revoke": {lockkeeper.RevokeLeases}, "catalog/read": {lockkeeper.ReadCatalog}}
	scopes := []lockkeeper.Scope{"/", "/projects/p", "/projects/q"}
	asked := []lockkeeper.Action{lockkeeper.ReadDeployments, lockkeeper.ReadCatalog, lockkeeper.CancelDeployments, lockkeeper.RevokeLeases, lockkeeper.ApproveDeployments}
	below := func(outer, inner lockkeeper.Scope) bool { return outer == "/" || outer == inner }
	rapid.Check(t, func(t *rapid.T) {
		type made struct {
			actions []lockkeeper.Action
			scope   lockkeeper.Scope
			expires lockkeeper.Moment
			gone    bool
		}
		c := &core{world: world{State: newState(), rules: rules[0]}}
		in, now, tokens := 0, began, map[string]*made{}
		var story []string
		tell := func(format string, args ...any) {
			story = append(story, fmt.Sprintf("%s %s", now, fmt.Sprintf(format, args...)))
		}
		holds := func(m *made) bool {
			return !m.gone && now.Before(m.expires) && laws[in].there && !laws[in].off
		}
		send := func(by Caller, cmd command) error {
			s, err := c.step(by, "", cmd, now)
			if err != nil {
				t.Fatal(err)
			}
			return s.err
		}
		for n := range rapid.IntRange(5, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				id := fmt.Sprint("k-", n)
				names := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Sorted(maps.Keys(patterns))), 1, 3, rapid.ID).Draw(t, "actions")
				m := &made{scope: rapid.SampledFrom(scopes).Draw(t, "scope"), expires: now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)}
				for _, p := range names {
					m.actions = append(m.actions, patterns[p]...)
				}
				tell("ann makes %s of %v at %s until %s", id, names, m.scope, m.expires)
				if err := send(Caller{User: "ann"}, makePersonal{ID: id, Name: "n" + fmt.Sprint(n), Secret: "x", Patterns: names, Scope: m.scope, For: m.expires.Sub(now)}); err != nil {
					t.Fatal(err)
				}
				tokens[id] = m
			case 1:
				d := time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute
				now = now.Add(d)
				tell("%s pass", d)
			case 2:
				in = rapid.IntRange(0, len(laws)-1).Draw(t, "law")
				tell("the law %d is in force: %+v", in, laws[in])
				s := step{rules: rules[in]}
				if err := c.record(&s, Caller{Keeper: true}, "", "", []event{revisionOf(rules[in].ofCatalog(), c.Revision.Number+1)}, now); err != nil {
					t.Fatal(err)
				}
			case 3:
				tell("the keeper sweeps")
				send(Caller{Keeper: true}, sweep{})
				for _, m := range tokens {
					m.gone = m.gone || !holds(m) // for good, though its user may come back
				}
			case 4:
				for id, m := range tokens {
					if rapid.Bool().Draw(t, "revoke") {
						tell("ann revokes %s", id)
						if send(Caller{User: "ann"}, endPersonal{id}) == nil {
							m.gone = true
						}
						break
					}
				}
			case 5:
				tell("ann gets another password")
				s := step{}
				if err := c.record(&s, Caller{}, "", "", []event{&accountEnrolled{User: "ann", Credential: fmt.Sprint(n), Maker: "dora"}}, now); err != nil {
					t.Fatal(err)
				}
				for _, m := range tokens {
					m.gone = true
				}
			}
			for id, m := range tokens {
				by := Caller{User: "ann", Token: id}
				if got := c.personal(by, now) == nil; got != holds(m) {
					t.Fatalf("%s holds: %v, want %v; %q", id, got, holds(m), story)
				}
				if send(by, makePersonal{ID: "k-no", Name: "no", Secret: "x", Patterns: []string{"*"}, Scope: "/", For: time.Hour}) == nil {
					t.Fatalf("%s made a token; %q", id, story)
				}
				for _, action := range asked {
					for _, scope := range scopes {
						right := false
						for role, at := range laws[in].roles {
							right = right || slices.Contains(of[role], action) && below(lockkeeper.Scope(at), scope)
						}
						want := holds(m) && slices.Contains(m.actions, action) && below(m.scope, scope) && right
						_, err := c.may(by, action, scope, now)
						got := err == nil && c.personal(by, now) == nil
						if got != want {
							t.Fatalf("%s may %s at %s: %v, want %v; %q", id, action, scope, got, want, story)
						}
					}
				}
			}
		}
	})
}

// What a token can and cannot reach, through the front door.
func TestPersonalTokenReaches(t *testing.T) {
	ctx := context.Background()
	k, dir := started(t, Options{})
	dora := Caller{User: "dora"}
	secret, made, err := k.MakePersonalToken(ctx, dora, MakePersonal{Name: "ci", Actions: []string{"*"}, Scope: "/", For: time.Hour})
	must(t, err)
	if !strings.HasPrefix(secret, "lkt_") || made.ID == "" {
		t.Fatalf("%q %+v", secret, made)
	}
	_, _, err = k.MakePersonalToken(ctx, dora, MakePersonal{Name: "ci", Actions: []string{"*"}, Scope: "/", For: time.Hour})
	want(t, err, "token_name_taken")
	for name, m := range map[string]MakePersonal{"token_life": {Name: "x", Actions: []string{"*"}, Scope: "/", For: 367 * 24 * time.Hour}, "scope_malformed": {Name: "x", Actions: []string{"*"}, Scope: "x", For: time.Hour},
		"token_name_malformed": {Name: "X y", Actions: []string{"*"}, Scope: "/", For: time.Hour}, "token_may_not": {Name: "x", Actions: []string{"deployments/approve"}, Scope: "/", For: time.Hour}} {
		_, _, err := k.MakePersonalToken(ctx, dora, m)
		want(t, err, name)
	}
	by, err := k.Authenticate(secret)
	must(t, err)
	if by.Token != made.ID || by.Session != "" {
		t.Fatalf("it is %+v", by)
	}
	for _, wrong := range []string{secret[:len(secret)-1], secret + "a", "lkt_" + strings.TrimPrefix(made.ID, "k-") + "_", "lkt_", "lkt_x_y"} {
		_, err := k.Authenticate(wrong)
		want(t, err, "token_unknown")
	}

	// Reading is within it; what takes the person is not.
	must(t, k.MayReadCatalog(by))
	_, err = k.Invite(ctx, by, "bob")
	want(t, err, "token_may_not")
	_, _, err = k.RotateKey(ctx, by, "ES256", true, "r")
	want(t, err, "token_may_not")
	want(t, k.EndSession(ctx, by, "s-x"), "token_may_not")
	want(t, k.EndPersonalToken(ctx, by, by.Token), "token_may_not")
	want(t, k.StepUp(ctx, by, "123456"), "token_may_not")
	_, err = k.BeginTOTP(by, "phone")
	want(t, err, "token_may_not")
	_, err = k.RequestActivation(ctx, by, "", OpenRequest{Role: "reader", Scope: "/", For: time.Hour})
	want(t, err, "token_may_not")

	// It applies what tightens and not what loosens.
	revision, _ := k.Revision()
	freeze := "---\n{kind: Freeze, name: year-end, scope: /projects/payments, from: 2026-12-20T00:00:00Z, until: 2027-01-03T00:00:00Z, reason: rest}\n"
	_, err = k.Apply(ctx, by, readRules(t, rulesWith("<more>", freeze)), revision.Number, "")
	must(t, err)
	_, err = k.Apply(ctx, by, readRules(t, rulesWith()), revision.Number+1, "")
	want(t, err, "token_may_not")

	// Its use is written down, and it is listed without its digest.
	must(t, waitUntil(k, func() bool {
		list, _ := k.PersonalTokens(dora, "dora")
		return len(list) == 1 && !list[0].Used.IsZero() && list[0].Secret == ""
	}))
	narrow, _, err := k.MakePersonalToken(ctx, dora, MakePersonal{Name: "narrow", Actions: []string{"deployments/read"}, Scope: "/projects/payments", For: time.Hour})
	must(t, err)
	small, err := k.Authenticate(narrow)
	must(t, err)
	want(t, k.MayReadCatalog(small), "token_may_not")
	_, err = k.Sessions(small, "dora")
	want(t, err, "token_may_not")
	_, err = k.PersonalTokens(small, "dora")
	want(t, err, "token_may_not")
	_, err = k.Can(small, "dora", lockkeeper.ReadCatalog, "/")
	want(t, err, "token_may_not")

	// It survives a start and dies at once with its revocation.
	must(t, k.Close())
	k, err = openKeeper(ctx, dir, Options{})
	must(t, err)
	defer k.Close()
	_, err = k.Authenticate(secret)
	must(t, err)
	must(t, k.EndPersonalToken(ctx, dora, made.ID))
	_, err = k.Authenticate(secret)
	want(t, err, "token_unknown")
	want(t, k.EndPersonalToken(ctx, dora, made.ID), "token_ended")
	_, err = k.Apply(ctx, by, readRules(t, rulesWith()), revision.Number+1, "")
	want(t, err, "token_ended")
}

// waitUntil looks after every commit until it is so, for a few seconds.
func waitUntil(k *Keeper, so func() bool) error {
	late := time.After(5 * time.Second)
	for {
		k.mu.RLock()
		changed := k.changed
		k.mu.RUnlock()
		if so() {
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return fmt.Errorf("it is not so after 5s")
		}
	}
}

// A log that goes on from an older copy knows no token, and without the sealed store
// no factor either.
func TestEpochEndsTokensAndFactors(t *testing.T) {
	for _, lost := range []bool{false, true} {
		s := newState()
		s.Accounts["dora"] = &Account{User: "dora", Proven: true}
		s.PersonalTokens["k-1"] = &PersonalToken{ID: "k-1", User: "dora"}
		s.Factors["f-1"] = &Factor{ID: "f-1", User: "dora", Kind: TOTP}
		ev := &epochOpened{Number: 2, Confirmer: "dora"}
		if lost {
			ev.Log, ev.Invitation = &Log{}, &Invitation{}
		}
		must(t, ev.apply(s, Entry{Time: began}))
		if len(s.PersonalTokens) != 0 || (len(s.Factors) == 0) != lost {
			t.Errorf("keys lost %v: %v, %v", lost, s.PersonalTokens, s.Factors)
		}
	}
}
