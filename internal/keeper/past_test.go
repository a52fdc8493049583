package keeper

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// TestPast writes down after random acts who may do what, and asks for all of it
// again at the end, from the journal: also after a restart, and beyond the pages
// in which the journal is read.
func TestPast(t *testing.T) {
	ctx := context.Background()
	now := time.Now().Add(-1000 * time.Hour).Truncate(time.Second)
	var clock atomic.Pointer[time.Time]
	later := func(d time.Duration) {
		t := now.Add(d)
		now = t
		clock.Store(&t)
	}
	later(0)
	options := Options{Clock: func() time.Time { return *clock.Load() }}
	k, dir := started(t, options)
	laws := accessLaws(t)
	r := rand.New(rand.NewPCG(1, 7))
	users, scopes := []string{"ann", "bob", "cat", "dora"}, []lockkeeper.Scope{"/", "/projects/p", "/projects/p/environments/e", "/projects/p/environments/f"}
	actions := []lockkeeper.Action{lockkeeper.StartDeployments, lockkeeper.ApproveDeployments, lockkeeper.WriteAccess}
	type answer struct {
		at       lockkeeper.Moment
		revision int
		can      []lockkeeper.Decision
		who      [][]Permitted
		held     [][]Path
		active   [][]Activation
	}
	ask := func(at lockkeeper.Moment, revision int, can func(string, lockkeeper.Action, lockkeeper.Scope) lockkeeper.Decision,
		who func(lockkeeper.Action, lockkeeper.Scope) []Permitted, what func(lockkeeper.Principal) ([]Path, []Activation, error)) answer {
		out := answer{at: at, revision: revision}
		for _, s := range scopes {
			for _, a := range actions {
				for _, u := range users {
					out.can = append(out.can, can(u, a, s))
				}
				out.who = append(out.who, who(a, s))
			}
		}
		for _, u := range users {
			held, active, err := what(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: u})
			if err != nil { // he is off
				held = nil
			}
			out.held, out.active = append(out.held, held), append(out.active, active)
		}
		return out
	}
	dora := Caller{User: "dora"}
	revision, passed, began, longer := 2, 0, 0, 0
	var answers []answer
	for range 150 {
		later([]time.Duration{time.Second, time.Minute, 20 * time.Minute}[r.IntN(3)])
		user := Caller{User: users[r.IntN(3)]}
		switch r.IntN(6) {
		case 0:
			a, err := k.Apply(ctx, dora, laws[r.IntN(len(laws))].rules.Catalog, revision, "another law")
			must(t, err)
			revision = a.Revision
		case 1:
			if list, _ := k.Activations(user); len(list) > 0 {
				must(t, k.EndActivation(ctx, dora, list[0].ID, "over"))
			}
		case 2:
			if list, _ := k.Activations(user); len(list) > 0 {
				id, err := k.ExtendActivation(ctx, user, "", list[0].ID, time.Duration(1+r.IntN(20))*time.Minute, "why", "")
				if err != nil {
					continue
				}
				v, err := k.Request(ctx, user, id)
				must(t, err)
				for _, by := range []string{"bob", "cat", "dora"} {
					k.DecideRequest(ctx, Caller{User: by}, id, RequestVerdict{Approve: true, Digest: v.Digest})
				}
				if _, err := k.BeginActivation(ctx, user, id); err == nil {
					longer++
				}
			}
		default:
			id, err := k.RequestActivation(ctx, user, "", OpenRequest{Role: "operator", Scope: scopes[1+r.IntN(3)], For: time.Duration(1+r.IntN(60)) * time.Minute, Reason: "why"})
			if err != nil {
				continue
			}
			v, err := k.Request(ctx, user, id)
			must(t, err)
			for _, by := range []string{"bob", "cat", "dora"} {
				k.DecideRequest(ctx, Caller{User: by}, id, RequestVerdict{Approve: true, Digest: v.Digest, Comment: ""})
			}
			if _, err := k.BeginActivation(ctx, user, id); err == nil {
				began++
			}
		}
		k.mu.RLock()
		w := world{State: k.state, rules: k.rules}
		answers = append(answers, ask(lockkeeper.MomentOf(now), revision, func(u string, a lockkeeper.Action, s lockkeeper.Scope) lockkeeper.Decision {
			return w.check(u, a, s, lockkeeper.MomentOf(now))
		}, func(a lockkeeper.Action, s lockkeeper.Scope) []Permitted {
			return w.whoCan(a, s, lockkeeper.MomentOf(now))
		},
			func(p lockkeeper.Principal) ([]Path, []Activation, error) {
				return w.whatCan(p, lockkeeper.MomentOf(now))
			}))
		k.mu.RUnlock()
	}
	must(t, k.Close())
	later(time.Hour)
	options.Dir, options.Issuer = dir, "https://lockkeeper.example"
	k, err := Open(ctx, options)
	must(t, err)
	defer k.Close()
	for _, was := range answers {
		past, err := k.Past(ctx, dora, was.at)
		must(t, err)
		got := ask(past.At, past.Revision, past.Can, past.WhoCan, past.WhatCan)
		if !reflect.DeepEqual(got, was) {
			t.Fatalf("at %s it was\n%+v\nand from the journal it is\n%+v", was.at, was, got)
		}
		for _, d := range was.can {
			if d.Code == "activated" {
				passed++
			}
		}
	}
	if passed < 50 || began < 30 || longer < 5 || len(answers) < 80 {
		t.Errorf("%d answers, %d activations, %d made longer, %d passes by one: too few", len(answers), began, longer, passed)
	}
	_, err = k.Past(ctx, dora, lockkeeper.MomentOf(now.Add(time.Hour)))
	want(t, err, "moment_ahead")
	_, err = k.Past(ctx, Caller{User: "ann"}, answers[0].at)
	want(t, err, "not_granted")
	past, err := k.Past(ctx, dora, lockkeeper.MomentOf(now.Add(-2000*time.Hour)))
	must(t, err)
	if past.Revision != 0 || past.Can("dora", lockkeeper.WriteAccess, "/").Passed(past.At) {
		t.Errorf("before everything: revision %d", past.Revision)
	}
}
