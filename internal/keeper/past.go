package keeper

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Past is who could do what at an instant that is over, as the journal has it:
// under the catalog that was in force, and with what was active.
type Past struct {
	At       lockkeeper.Moment
	Revision int // of the catalog then; 0: there was none
	w        world
}

// Past reads who could do what at an instant, which may be now but not later. It
// takes access/read at / today.
func (k *Keeper) Past(ctx context.Context, by Caller, at lockkeeper.Moment) (Past, error) {
	now := k.now()
	k.mu.RLock()
	w := world{State: k.state, rules: k.rules}
	_, err := w.may(by, lockkeeper.ReadAccess, lockkeeper.Root, now)
	k.mu.RUnlock()
	if err != nil {
		return Past{}, err
	}
	if now.Before(at) {
		return Past{}, lockkeeper.Invalid.Errorf("moment_ahead", "%s is not over yet.", at).WithNext("Name an instant up to now, such as %s.", now)
	}
	p := Past{At: at, w: world{State: newState(), atLarge: true, past: true}}
	var revision Revision
	err = k.backwards(ctx, "catalog", at, func(e Entry, body event) bool {
		ev, is := body.(*catalogApplied)
		if is {
			revision, p.Revision = Revision{Number: ev.Number, Digest: ev.Digest, Documents: ev.Documents, Seq: e.Seq}, ev.Number
		}
		return !is
	})
	if err == nil {
		p.w.rules, err = k.rulesOf(ctx, revision)
	}
	if err == nil {
		err = k.saidBefore(ctx, p.w.State, at)
		p.w.rules = p.w.rules.joined(p.w.State)
	}
	if err == nil {
		err = k.activeAt(ctx, p.w.Activations, at)
	}
	if err == nil {
		err = k.deploymentsAt(ctx, &p.w, at)
	}
	if err == nil {
		err = k.incidentsAt(ctx, p.w.State, at)
	}
	return p, err
}

// saidBefore folds what directories had said and written at an instant. What they
// said longer before than anything is believed gave nothing any more; what they
// wrote has no age.
func (k *Keeper) saidBefore(ctx context.Context, s *State, at lockkeeper.Moment) error {
	type entry struct {
		entry Entry
		body  event
	}
	var all []entry
	err := k.backwards(ctx, membersSubject, at, func(e Entry, body event) bool {
		all = append(all, entry{e, body})
		return at.Sub(e.Time) <= memberLife // denies do not age
	})
	if err == nil {
		err = k.backwards(ctx, provisioningSubject, at, func(e Entry, body event) bool {
			all = append(all, entry{e, body})
			return true
		})
	}
	if err == nil { // the tokens of directories end with an epoch
		err = k.backwards(ctx, epochSubject, at, func(e Entry, body event) bool {
			all = append(all, entry{e, body})
			return true
		})
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.entry.Seq, b.entry.Seq) })
	for _, x := range all {
		switch x.body.(type) {
		case *epochOpened:
			s.endTokens(x.entry.Time)
		case *memberSaid, *memberProvisioned, *groupProvisioned, *tokenMade, *tokenEnded:
			if err == nil {
				err = x.body.apply(s, x.entry)
			}
		}
	}
	return err
}

// activeAt collects the activations that were alive at an instant.
func (k *Keeper) activeAt(ctx context.Context, into map[string]*Activation, at lockkeeper.Moment) error {
	var began lockkeeper.Moment // the log's epoch: what was active before ended with it
	err := k.backwards(ctx, epochSubject, at, func(e Entry, body event) bool {
		_, is := body.(*epochOpened)
		if is {
			began = e.Time
		}
		return !is
	})
	if err != nil {
		return err
	}
	err = k.backwards(ctx, "activations", at, func(e Entry, body event) bool {
		if ev, is := body.(*activationBegun); is && !e.Time.Before(began) {
			a := ev.Activation
			a.Started, a.Seq = e.Time, e.Seq
			into[a.ID] = &a
		}
		return at.Sub(e.Time) <= maxActivation
	})
	for id, a := range into {
		if err == nil {
			err = k.endAt(ctx, into, a, at)
		}
		if !at.Before(a.Ends) {
			delete(into, id)
		}
	}
	return err
}

// endAt moves the end of an activation to where extensions had moved it by then,
// and takes it out if it had ended.
func (k *Keeper) endAt(ctx context.Context, into map[string]*Activation, a *Activation, at lockkeeper.Moment) error {
	return k.backwards(ctx, activationSubject(a.ID), at, func(e Entry, body event) bool {
		for _, x := range e.Spent {
			if x.Activation == a.ID {
				a.Used++
			}
		}
		switch ev := body.(type) {
		case *activationEnded:
			delete(into, a.ID)
			return false
		case *activationExtended: // the last one comes first
			if len(a.Extended) == 0 {
				a.Ends = ev.Ends
			}
			a.Extended = slices.Insert(a.Extended, 0, Extension{Request: ev.Request, At: e.Time, From: ev.From})
		}
		return true
	})
}

// deploymentsAt brings back the deployments that activations were to end with, as
// they stood at an instant.
func (k *Keeper) deploymentsAt(ctx context.Context, w *world, at lockkeeper.Moment) error {
	for _, a := range w.Activations {
		if a.Deployment == "" || w.Deployments[a.Deployment] != nil {
			continue
		}
		stored, err := k.journal.SubjectAll(ctx, deploymentSubject(a.Deployment))
		if err != nil {
			return err
		}
		var entries []Entry
		var bodies []event
		for _, s := range stored {
			e, body, err := readEntry(s.Data)
			if err != nil {
				return fmt.Errorf("entry %d: %w", s.Seq, err)
			}
			if !at.Before(e.Time) {
				entries, bodies = append(entries, e), append(bodies, body)
			}
		}
		if d, err := foldDeployment(entries, bodies); err == nil { // else it was not there yet: the activation gives nothing
			w.Deployments[d.ID] = d
		}
	}
	return nil
}

// maxActivation is how long an activation may last at most, by any rule.
const maxActivation = 24 * time.Hour

// backwards reads the entries about a subject up to an instant, the last one first,
// until f has had enough.
func (k *Keeper) backwards(ctx context.Context, subject string, at lockkeeper.Moment, f func(Entry, event) bool) error {
	const page = 32
	for before := int64(-1); ; {
		stored, err := k.journal.Subject(ctx, subject, before, page)
		if err != nil {
			return err
		}
		for _, s := range stored {
			e, body, err := readEntry(s.Data)
			if err != nil {
				return fmt.Errorf("entry %d: %w", s.Seq, err)
			}
			if !at.Before(e.Time) && !f(e, body) {
				return nil
			}
			before = s.Seq
		}
		if len(stored) < page || before == 0 {
			return nil
		}
	}
}

// Can is Keeper.Can then.
func (p Past) Can(user string, action lockkeeper.Action, scope lockkeeper.Scope) lockkeeper.Decision {
	return p.w.check(user, action, scope, p.At)
}

// Explain is access.Index.Explain then.
func (p Past) Explain(who lockkeeper.Principal, action lockkeeper.Action, scope lockkeeper.Scope) (lockkeeper.Decision, []Path) {
	return p.w.rules.Access.Explain(who, action, scope, p.At)
}

// WhoCan is Keeper.WhoCan then.
func (p Past) WhoCan(action lockkeeper.Action, scope lockkeeper.Scope) []Permitted {
	return p.w.whoCan(action, scope, p.At)
}

// Missing is Keeper.Missing then, for whoever may ask about the past.
func (p Past) Missing(scope lockkeeper.Scope) string { return p.w.rules.Catalog.Missing(scope) }

// WhatCan is Keeper.WhatCan then.
func (p Past) WhatCan(who lockkeeper.Principal) ([]Path, []Activation, error) {
	return p.w.whatCan(who, p.At)
}
