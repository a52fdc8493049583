package keeper

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
)

// WhoCan lists, with the path of each, the users who may do an action at a scope
// now. It takes access/read there.
func (k *Keeper) WhoCan(by Caller, action lockkeeper.Action, scope lockkeeper.Scope) ([]Permitted, error) {
	now := k.now()
	k.mu.RLock()
	rules := k.rules
	w := world{State: k.state, rules: rules}
	_, err := w.may(by, lockkeeper.ReadAccess, scope, now)
	k.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	w = world{State: k.state, rules: rules, atLarge: true}
	return w.whoCan(action, scope, now), nil
}

func (w *world) whoCan(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) []Permitted {
	out := []Permitted{}
	users := w.rules.Access.WhoCan(action, scope, now)
	for _, a := range w.Activations {
		if !slices.Contains(users, a.User) && w.check(a.User, action, scope, now).Passed(now) {
			users = append(users, a.User)
		}
	}
	slices.Sort(users)
	for _, user := range users {
		if d := w.check(user, action, scope, now); d.Passed(now) { // not so for whom an incident quarantines
			out = append(out, Permitted{user, w.rules.Catalog.PersonOf(user), d})
		}
	}
	return out
}

// Missing says what of a scope the catalog does not have, to whoever may read the
// catalog or who may do what there; "": nothing, or the caller may not know.
func (k *Keeper) Missing(by Caller, scope lockkeeper.Scope) string {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" || !w.allowedFor(by, lockkeeper.ReadAccess, scope, now) && !w.allowedFor(by, lockkeeper.ReadCatalog, lockkeeper.Root, now) {
		return ""
	}
	return w.rules.Catalog.Missing(scope)
}

// A Path is the way from a principal to what an assignment gives.
type Path = access.Path

// WhatCan lists what a principal holds by assignments, and what a user has
// activated besides. Everybody may ask about himself; about others, and about a
// group, it takes access/read at /.
func (k *Keeper) WhatCan(by Caller, who lockkeeper.Principal) ([]Path, []Activation, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if who.Kind != lockkeeper.UserPrincipal || by.User == "" || by.User != who.Name || by.Token != "" {
		if _, err := w.may(by, lockkeeper.ReadAccess, lockkeeper.Root, now); err != nil {
			return nil, nil, err
		}
	}
	return w.whatCan(who, now)
}

func (w *world) whatCan(who lockkeeper.Principal, now lockkeeper.Moment) ([]Path, []Activation, error) {
	held, err := w.rules.Access.Holdings(who, now)
	active := []Activation{}
	for _, a := range w.Activations {
		if who.Kind == lockkeeper.UserPrincipal && a.User == who.Name && w.lives(a, now) && w.rules.Access.Eligible(a.User, a.Role, a.Scope, now).Passed(now) {
			active = append(active, *a)
		}
	}
	sortActivations(active)
	return held, active, err
}

// A Permitted user and the path that permits him.
type Permitted struct {
	User     string              `json:"user"`
	Person   lockkeeper.Person   `json:"person"`
	Decision lockkeeper.Decision `json:"decision"`
}

// maxTail bounds the entries of one answer to a follower.
const maxTail = 1000

// Tail gives the journal's entries from a position on, as they are stored, for
// followers: at once if there are any, else as soon as there are or ctx ends. It
// takes journal/export at /. A follower that keeps the position behind the last
// entry misses none and gets none twice.
func (k *Keeper) Tail(ctx context.Context, by Caller, from int64, limit int) ([]json.RawMessage, error) {
	if err := k.mayExport(by); err != nil {
		return nil, err
	}
	if from < 0 {
		return nil, lockkeeper.Invalid.Errorf("position_malformed", "The position %d lies before the journal.", from).WithNext("Begin at 0.")
	}
	if limit <= 0 || limit > maxTail {
		limit = maxTail
	}
	for {
		k.mu.RLock()
		size, changed := k.state.Size, k.changed
		k.mu.RUnlock()
		if err := k.mayExport(by); err != nil { // who waited may have lost the right meanwhile
			return nil, err
		}
		if from < size {
			return k.slice(context.WithoutCancel(ctx), from, min(size, from+int64(limit)))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return []json.RawMessage{}, nil
		case <-k.done:
			return nil, k.Fault()
		}
	}
}

func (k *Keeper) mayExport(by Caller) error {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	_, err := w.may(by, lockkeeper.ExportJournal, lockkeeper.Root, now)
	return err
}

func (k *Keeper) slice(ctx context.Context, from, to int64) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for e, err := range k.journal.Entries(ctx, from, to) {
		if err != nil {
			return nil, err
		}
		out = append(out, json.RawMessage(e.Data))
	}
	return out, nil
}

// TokenDeployment is the deployment that a token of ours was handed out for, or
// "" if the token is not ours. Whoever shows that deployment's handle may ask
// about the token.
func (k *Keeper) TokenDeployment(raw string) string {
	c, err := k.ownToken(raw)
	if err != nil {
		return ""
	}
	return c.Deployment
}
