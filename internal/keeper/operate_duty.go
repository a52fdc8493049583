package keeper

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Effects lists what workers may set about now, what has to be taken away first,
// then by age. It is a hint: BeginEffect decides.
func (k *Keeper) Effects() []Effect {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	var out []Effect
	all := w.accounts()
	for _, d := range w.Duties {
		if verb := w.next(d, all.others(d), now); verb != "" {
			out = append(out, Effect{*d.clone(), verb})
		}
	}
	slices.SortFunc(out, func(a, b Effect) int {
		return cmp.Or(-cmp.Compare(a.Verb, b.Verb), a.Duty.Taken.Time().Compare(b.Duty.Taken.Time()), cmp.Compare(a.Duty.ID, b.Duty.ID))
	})
	return out
}

// BeginEffect records that a worker sets about an effect that Effects listed, and
// hands it over: it may work until the Duty's Until, and not later. Conflict
// effect_stale: somebody else did, or there is nothing to do any more.
func (k *Keeper) BeginEffect(ctx context.Context, e Effect, deadline time.Duration) (Effect, error) {
	return do[Effect](ctx, k, Caller{Keeper: true}, "", beginEffect{e.Duty.ID, e.Duty.Attempt + 1, e.Verb, deadline})
}

// EndEffect reports what became of it. The report of an attempt that is not the
// last one changes nothing and is refused; reporting twice is no error.
func (k *Keeper) EndEffect(ctx context.Context, e Effect, o Outcome) error {
	_, err := do[any](ctx, k, Caller{Keeper: true}, "", endEffect{e.Duty.ID, e.Duty.Attempt, o, rand.Float64()})
	return err
}

// Changed is closed at the next commit.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.changed
}

// HandCredential allows the caller one credential for what his activation opened at
// a provisioner of a kind (provisioner may be "" if there is only one). It is
// recorded before it returns; key is the fingerprint of the public key that is to
// be certified, where that is the kind.
func (k *Keeper) HandCredential(ctx context.Context, by Caller, activation, provisioner, kind, key string) (Handover, error) {
	return do[Handover](ctx, k, by, "", handCredential{activation, provisioner, kind, key, rand.Uint64()>>1 | 1})
}

// AttestDuty is the caller's word that what is owed was removed by hand. It reports
// whether the duty is over by it.
func (k *Keeper) AttestDuty(ctx context.Context, by Caller, id, comment string) (closed bool, err error) {
	if _, err := do[opened](ctx, k, by, "", attestDuty{id, comment}); err != nil {
		return false, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.state.Duties[id] == nil, nil
}

// A DutyView is a duty and how it stands now, or how it ended.
type DutyView struct {
	Duty
	Stands   string // taken, granted, revoked, revocation_owed; undone, force_closed
	Finished bool   // it has to be undone
	End      *DutyEnd
}

// A DutyEnd is how a duty ended.
type DutyEnd struct {
	At       lockkeeper.Moment
	Covered  string // the duty that answers for the account since
	Reason   string
	Attested []Attestation
}

func (w *world) dutyView(d *Duty, now lockkeeper.Moment) DutyView {
	v := DutyView{Duty: *d.clone(), Stands: d.Status, Finished: w.finished(d, now)}
	if w.owed(d, now) {
		v.Stands = DutyOwed
	}
	return v
}

// maySeeDuty lets the holder see his, and whoever may see activations there.
func (w *world) maySeeDuty(by Caller, d *Duty, now lockkeeper.Moment) bool {
	return by.User != "" && (w.mine(by, d.User, d.Terms.Scope) || w.maySee(by, d.Terms.Scope, now) || w.allowedFor(by, lockkeeper.RevokeActivations, d.Terms.Scope, now))
}

// Duties lists the duties that are not over and that the caller holds or may see:
// what is owed first, then by age.
func (k *Keeper) Duties(by Caller) ([]DutyView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	out := []DutyView{}
	for _, d := range w.Duties {
		if w.maySeeDuty(by, d, now) {
			out = append(out, w.dutyView(d, now))
		}
	}
	owed := func(v DutyView) int {
		if v.Stands == DutyOwed {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b DutyView) int {
		return cmp.Or(cmp.Compare(owed(a), owed(b)), a.Taken.Time().Compare(b.Taken.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// ForcedDuties lists the duties that were closed on the word of two persons, newest
// first, at most 200.
func (k *Keeper) ForcedDuties(ctx context.Context, by Caller) ([]DutyView, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	stored, err := k.journal.Subject(ctx, forcedAbout, -1, 200)
	if err != nil {
		return nil, err
	}
	out := []DutyView{}
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		if err != nil {
			return nil, err
		}
		if ev, is := body.(*dutyEnded); is {
			v, err := k.DutyByID(ctx, by, ev.ID)
			if lockkeeper.KindOf(err) == lockkeeper.NotFound {
				continue // not his to see
			}
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// DutyByID is one duty, open or over, for whoever may see it.
func (k *Keeper) DutyByID(ctx context.Context, by Caller, id string) (DutyView, error) {
	missing := lockkeeper.NotFound.Errorf("duty_missing", "There is no duty %.40q that you may see.", id).WithNext("List what is open: lockkeeper duties list")
	if by.User == "" {
		return DutyView{}, errPersonNeeded()
	}
	if !strings.HasPrefix(id, "o-") || lockkeeper.CheckName(id) != nil {
		return DutyView{}, missing
	}
	now := k.now()
	see := func() (v DutyView, there, may bool) {
		k.mu.RLock()
		defer k.mu.RUnlock()
		w := world{State: k.state, rules: k.rules}
		d := w.Duties[id]
		if d == nil {
			return v, false, false
		}
		return w.dutyView(d, now), true, w.maySeeDuty(by, d, now)
	}
	v, there, may := see()
	if !there {
		var err error
		if v, err = k.endedDuty(ctx, id); err != nil {
			return v, err
		}
		k.mu.RLock()
		w := world{State: k.state, rules: k.rules}
		may = v.ID != "" && w.maySeeDuty(by, &v.Duty, now)
		k.mu.RUnlock()
	}
	if !may {
		return DutyView{}, missing
	}
	return v, nil
}

// endedDuty reads a duty from the journal; empty if there is none.
func (k *Keeper) endedDuty(ctx context.Context, id string) (DutyView, error) {
	var v DutyView
	_, err := k.fold(ctx, dutySubject(id), func(s *State, e Entry, body event) bool {
		switch ev := body.(type) {
		case *refusalMade, *driftFound:
			return false
		case *dutyEnded:
			if d := s.Duties[id]; d != nil {
				v = DutyView{Duty: *d, Stands: ev.Status, Finished: true, End: &DutyEnd{At: e.Time, Covered: ev.Covered, Reason: ev.Reason, Attested: ev.Attested}}
				delete(s.Duties, id) // it may be taken anew
			}
			return false
		}
		return true
	})
	return v, err
}

// DutyCounts says how many duties stand how now, for metrics.
func (k *Keeper) DutyCounts() map[string]int {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]int{DutyTaken: 0, DutyGranted: 0, DutyRevoked: 0, DutyOwed: 0}
	w := world{State: k.state, rules: k.rules}
	for _, d := range k.state.Duties {
		if w.owed(d, now) {
			out[DutyOwed]++
		} else {
			out[d.Status]++
		}
	}
	return out
}

// A Credential is how a person reaches a database that his activation opened. Its
// password is nowhere else.
type Credential struct {
	Provisioner string
	Host        string // or the folder of a socket
	Port        int
	Database    string
	User        string
	Password    string
	Until       lockkeeper.Moment // it is worth nothing later
}

// A Certificate is a signed public key, for hosts that trust the authority.
type Certificate struct {
	Provisioner string
	Certificate string // in the format of authorized_keys
	Principals  []string
	Serial      uint64
	Until       lockkeeper.Moment
}

// assertionLife is how long an assertion is taken.
const assertionLife = 5 * time.Minute

// Assertion is a token that proves to a target's identity provider that Lockkeeper
// asks, for the attempt that is at work and for nothing else. Its subject is
// lk:provisioner:NAME.
func (k *Keeper) Assertion(e Effect, audience string) (string, error) {
	now := k.now()
	k.mu.RLock()
	d := k.state.Duties[e.Duty.ID]
	flying := d != nil && d.Attempt == e.Duty.Attempt && d.flying(now)
	k.mu.RUnlock()
	if !flying {
		return "", lockkeeper.Conflict.Errorf("effect_stale", "The attempt is not at work any more.")
	}
	end := now.Add(assertionLife)
	return k.mint(audience, map[string]any{"iss": k.options.Issuer, "sub": "lk:provisioner:" + e.Duty.Provisioner, "aud": audience, "jti": newID("t"),
		"iat": now.Time().Unix(), "nbf": now.Time().Unix(), "exp": end.Time().Unix(), "duty": e.Duty.ID, "attempt": e.Duty.Attempt})
}
