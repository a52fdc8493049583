package keeper

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Factors that are being registered and sign-ins that wait for one are kept in
// memory: a server that is started again has forgotten them, and the person begins
// anew.
type factorsUnderway struct {
	mu      sync.Mutex
	begun   map[string]*begunTOTP             // by the factor's id
	tickets map[lockkeeper.Digest]*halfSignIn // by the digest of the ticket
}

// begunTOTP is a secret that its user has not shown a code of yet.
type begunTOTP struct {
	user, name string
	secret     []byte
	ends       time.Time
}

// A halfSignIn is a password that was right, and a factor that is missing.
type halfSignIn struct {
	user, credential string
	ends             time.Time
	tries            int
}

const (
	maxFactorsUnderway = 10_000
	factorPatience     = 10 * time.Minute // for showing the first code
	ticketLife         = 5 * time.Minute
	ticketTries        = 5
	totpKind           = "totp"
	passkeyKind        = "passkey"
)

// perFactor limits how often somebody may guess: a code is one of a million, and
// three hold at once.
var perFactor = pace{5, time.Minute}

// room forgets what is over, and reports whether there is room for one more.
func (u *factorsUnderway) room(now time.Time) bool {
	if u.begun == nil {
		u.begun, u.tickets = map[string]*begunTOTP{}, map[lockkeeper.Digest]*halfSignIn{}
	}
	if len(u.begun)+len(u.tickets) >= maxFactorsUnderway {
		maps.DeleteFunc(u.begun, func(_ string, b *begunTOTP) bool { return !now.Before(b.ends) })
		maps.DeleteFunc(u.tickets, func(_ lockkeeper.Digest, t *halfSignIn) bool { return !now.Before(t.ends) })
	}
	return len(u.begun)+len(u.tickets) < maxFactorsUnderway
}

// A BegunTOTP is the secret of a new factor, shown once.
type BegunTOTP struct {
	ID     string
	Secret string // base32, as people enter it
	URI    string // otpauth://…, as apps read it
}

// BeginTOTP makes the secret of an authenticator app. The factor holds once
// ConfirmTOTP has seen a code of it.
func (k *Keeper) BeginTOTP(by Caller, name string) (BegunTOTP, error) {
	f := Factor{ID: newID("f"), User: by.User, Kind: TOTP, Name: name}
	if err := k.mayRegister(by, f); err != nil {
		return BegunTOTP{}, err
	}
	secret := make([]byte, totpSecret)
	rand.Read(secret)
	now := k.options.Clock()
	k.factors.mu.Lock()
	defer k.factors.mu.Unlock()
	if !k.factors.room(now) {
		return BegunTOTP{}, lockkeeper.Limited.Errorf("too_many_sign_ins", "Too many people sign in at once.").WithNext("Try again in a moment.")
	}
	k.factors.begun[f.ID] = &begunTOTP{by.User, name, secret, now.Add(factorPatience)}
	return BegunTOTP{f.ID, totpEncoding.EncodeToString(secret), totpURI(k.options.Origin, by.User, secret)}, nil
}

// mayRegister refuses early what the decision would refuse.
func (k *Keeper) mayRegister(by Caller, f Factor) error {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if by.Token != "" {
		return errTokenMayNot(registerFactor{})
	}
	if err := w.mayChangeFactors(by, now); err != nil {
		return err
	}
	return w.takesFactor(f)
}

// ConfirmTOTP registers the factor whose code the person shows.
func (k *Keeper) ConfirmTOTP(ctx context.Context, by Caller, id, code string) (Factor, error) {
	if by.Token != "" {
		return Factor{}, errTokenMayNot(registerFactor{})
	}
	if err := k.throttle("factor "+by.User, perFactor); err != nil {
		return Factor{}, err
	}
	now := k.options.Clock()
	k.factors.mu.Lock()
	b := k.factors.begun[id]
	k.factors.mu.Unlock()
	if b == nil || b.user != by.User || !now.Before(b.ends) {
		return Factor{}, lockkeeper.Conflict.Errorf("factor_over", "No factor of yours waits to be confirmed under this id.").WithNext("Begin anew: lockkeeper factors totp")
	}
	step, ok := totpMatch(b.secret, code, now)
	if !ok {
		return Factor{}, errFactorWrong()
	}
	// A crash before the entry leaves a sealed row that no entry names: harmless.
	if err := k.sealed.Put(ctx, totpKind, id, b.secret); err != nil {
		return Factor{}, err
	}
	f, err := do[Factor](ctx, k, by, "", registerFactor{Factor{ID: id, Kind: TOTP, Name: b.name, Counter: step}})
	if err == nil {
		k.factors.mu.Lock()
		delete(k.factors.begun, id)
		k.factors.mu.Unlock()
	}
	return f, err
}

// RegisterPasskey registers a passkey whose ceremony was checked: its name, counter
// and the digest of its credential id. sealed is what its signatures are checked with.
func (k *Keeper) RegisterPasskey(ctx context.Context, by Caller, f Factor, sealed []byte) (Factor, error) {
	f.ID, f.User, f.Kind = newID("f"), by.User, Passkey
	if err := k.mayRegister(by, f); err != nil {
		return Factor{}, err
	}
	if err := k.sealed.Put(ctx, passkeyKind, f.ID, sealed); err != nil {
		return Factor{}, err
	}
	return do[Factor](ctx, k, by, "", registerFactor{f})
}

// MayRegister refuses who may not register a passkey of this name now.
func (k *Keeper) MayRegister(by Caller, name string) error {
	return k.mayRegister(by, Factor{User: by.User, Kind: Passkey, Name: name})
}

// Factors lists the factors of a user, and since when they are as they are. Those of
// others take accounts/read.
func (k *Keeper) Factors(by Caller, user string) ([]Factor, lockkeeper.Moment, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if user != by.User || by.Token != "" {
		if _, err := w.may(by, lockkeeper.ReadAccounts, lockkeeper.Root, now); err != nil {
			return nil, lockkeeper.Moment{}, err
		}
	}
	out := []Factor{}
	for _, f := range w.factorsOf(user) {
		out = append(out, *f)
	}
	return out, w.FactorSince[user], nil
}

// RemoveFactor takes one of the caller's factors away.
func (k *Keeper) RemoveFactor(ctx context.Context, by Caller, id string) error {
	if _, err := do[any](ctx, k, by, "", removeFactor{id}); err != nil {
		return err
	}
	return k.unseal(ctx, id)
}

// unseal erases what a factor was checked with. A crash before it leaves a row that
// nothing names.
func (k *Keeper) unseal(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	if err := k.sealed.Delete(ctx, totpKind, id); err != nil {
		return err
	}
	return k.sealed.Delete(ctx, passkeyKind, id)
}

// ResetFactors takes all factors of somebody else away, who has lost them.
func (k *Keeper) ResetFactors(ctx context.Context, by Caller, user, reason string) error {
	k.mu.RLock()
	had := k.state.factorsOf(user)
	k.mu.RUnlock()
	if _, err := do[any](ctx, k, by, "", resetFactors{user, reason}); err != nil {
		return err
	}
	for _, f := range had {
		if err := k.unseal(ctx, f.ID); err != nil {
			return err
		}
	}
	return nil
}

// StepUp takes a code of an authenticator app on the caller's session.
func (k *Keeper) StepUp(ctx context.Context, by Caller, code string) error {
	if by.Token != "" { // nor may it use up the tries
		return errTokenMayNot(stepUp{})
	}
	s, err := k.showCode(ctx, by.User, code)
	if err != nil {
		return err
	}
	return k.StepUpShown(ctx, by, s)
}

// StepUpShown takes a factor that was checked, on the caller's session.
func (k *Keeper) StepUpShown(ctx context.Context, by Caller, s Shown) error {
	_, err := do[any](ctx, k, by, "", stepUp{s})
	return err
}

// showCode finds the factor of a user whose code it is.
func (k *Keeper) showCode(ctx context.Context, user, code string) (Shown, error) {
	if user == "" {
		return Shown{}, errPersonNeeded()
	}
	if err := k.throttle("factor "+user, perFactor); err != nil {
		return Shown{}, err
	}
	k.mu.RLock()
	own := k.state.factorsOf(user)
	k.mu.RUnlock()
	var out Shown
	any := false
	for _, f := range own {
		if f.Kind != TOTP {
			continue
		}
		any = true
		secret, err := k.sealed.Get(ctx, totpKind, f.ID)
		if lockkeeper.KindOf(err) == lockkeeper.NotFound {
			continue // erased: nothing can be checked with it any more
		}
		if err != nil {
			return Shown{}, err
		}
		if step, ok := totpMatch(secret, code, k.options.Clock()); ok {
			out = Shown{f.ID, step}
		}
	}
	if !any {
		return Shown{}, lockkeeper.Forbidden.Errorf("totp_none", "You have no authenticator app registered.").WithNext("Register one (lockkeeper factors totp), or show a passkey: lockkeeper step-up --passkey")
	}
	if out.Factor == "" {
		return Shown{}, errFactorWrong()
	}
	return out, nil
}

// errFactorNeeded says that a password does not suffice.
func errFactorNeeded(user string) *lockkeeper.Refusal {
	return lockkeeper.Unauthenticated.Errorf("factor_needed", "The password is right, and this account takes a second factor.").
		WithNext("Show it: lockkeeper login --user %s", user)
}

// FactorNeeded says that a password was right and does not suffice. The ticket, with
// a factor, opens the session.
type FactorNeeded struct {
	*lockkeeper.Refusal
	Ticket  string
	Factors []string // kinds of those that the user has
}

// Unwrap is the refusal.
func (e *FactorNeeded) Unwrap() error { return e.Refusal }

// factorNeeded makes the ticket of a user whose password was right.
func (k *Keeper) factorNeeded(user, credential string, own []*Factor) error {
	ticket := newSecret("lkf_")
	now := k.options.Clock()
	k.factors.mu.Lock()
	defer k.factors.mu.Unlock()
	if !k.factors.room(now) {
		return lockkeeper.Limited.Errorf("too_many_sign_ins", "Too many people sign in at once.").WithNext("Try again in a moment.")
	}
	k.factors.tickets[secretDigest(ticket)] = &halfSignIn{user: user, credential: credential, ends: now.Add(ticketLife)}
	kinds := map[string]bool{}
	for _, f := range own {
		kinds[f.Kind] = true
	}
	e := &FactorNeeded{Ticket: ticket, Refusal: errFactorNeeded(user)}
	for _, kind := range []string{TOTP, Passkey} {
		if kinds[kind] {
			e.Factors = append(e.Factors, kind)
		}
	}
	return e
}

// ticket is the sign-in that a ticket is of, one try of it taken.
func (k *Keeper) ticket(ticket string) (user, credential string, err error) {
	k.factors.mu.Lock()
	defer k.factors.mu.Unlock()
	t := k.factors.tickets[secretDigest(ticket)]
	if t == nil || !k.options.Clock().Before(t.ends) || t.tries >= ticketTries {
		return "", "", lockkeeper.Unauthenticated.Errorf("ticket_over", "This sign-in is over.").WithNext("Begin anew: lockkeeper login")
	}
	t.tries++
	return t.user, t.credential, nil
}

// TicketUser is whose sign-in a ticket is of. Each look takes one of its tries.
func (k *Keeper) TicketUser(ticket string) (string, error) {
	user, _, err := k.ticket(ticket)
	return user, err
}

// FinishSignIn takes a code for a sign-in whose password was right.
func (k *Keeper) FinishSignIn(ctx context.Context, ticket, code string) (secret string, s Session, err error) {
	user, credential, err := k.ticket(ticket)
	if err != nil {
		return "", s, err
	}
	shown, err := k.showCode(ctx, user, code)
	if err != nil {
		return "", s, err
	}
	return k.finishSignIn(ctx, ticket, startSession{Session: Session{User: user}, Credential: credential, Shown: shown})
}

// FinishSignInShown takes a factor that was checked, for a sign-in whose password was
// right.
func (k *Keeper) FinishSignInShown(ctx context.Context, ticket string, shown Shown) (secret string, s Session, err error) {
	user, credential, err := k.ticket(ticket)
	if err != nil {
		return "", s, err
	}
	return k.finishSignIn(ctx, ticket, startSession{Session: Session{User: user}, Credential: credential, Shown: shown})
}

func (k *Keeper) finishSignIn(ctx context.Context, ticket string, c startSession) (secret string, s Session, err error) {
	secret, s, err = k.begins(ctx, c)
	if err == nil {
		k.factors.mu.Lock()
		delete(k.factors.tickets, secretDigest(ticket))
		k.factors.mu.Unlock()
	}
	return secret, s, err
}

// A SealedPasskey is what a passkey's signatures are checked with.
type SealedPasskey struct {
	Factor string
	Data   []byte
}

// Passkeys are those of a user. Whoever asks checks signatures with them, and shows
// them to nobody.
func (k *Keeper) Passkeys(ctx context.Context, user string) ([]SealedPasskey, error) {
	k.mu.RLock()
	own := k.state.factorsOf(user)
	k.mu.RUnlock()
	var out []SealedPasskey
	for _, f := range own {
		if f.Kind != Passkey {
			continue
		}
		data, err := k.sealed.Get(ctx, passkeyKind, f.ID)
		if lockkeeper.KindOf(err) == lockkeeper.NotFound {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the passkey %s: %w", f.ID, err)
		}
		out = append(out, SealedPasskey{f.ID, data})
	}
	return out, nil
}
