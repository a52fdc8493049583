package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// A ring holds the private keys that the state names. Which of them signs is the
// state's to say; that a key exists is the sealed store's.
type ring struct {
	sealed *journal.Sealed

	mu   sync.RWMutex
	keys map[string]*token.SigningKey // by id
}

// tokenKeyPrefix is what the sealed rows of token keys begin with.
const tokenKeyPrefix = "token/"

// make makes a key and seals it. A crash after it leaves a key that nothing
// names.
func (r *ring) make(ctx context.Context, algorithm string) (string, error) {
	key, err := token.NewSigningKey(rand.Reader, algorithm)
	if err != nil {
		return "", err
	}
	raw, err := key.MarshalBinary()
	if err != nil {
		return "", err
	}
	if err := r.sealed.Put(ctx, keyKind, tokenKeyPrefix+key.ID(), raw); err != nil {
		return "", err
	}
	r.put(key)
	return key.ID(), nil
}

func (r *ring) put(key *token.SigningKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		r.keys = map[string]*token.SigningKey{}
	}
	r.keys[key.ID()] = key
}

func (r *ring) get(id string) *token.SigningKey {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[id]
}

// load reads the keys that the rings of a state name.
func (r *ring) load(ctx context.Context, rings map[string]*KeyRing) error {
	for algorithm, of := range rings {
		ids := []string{of.Active, of.Next}
		for _, k := range of.Retired {
			ids = append(ids, k.ID)
		}
		for _, id := range ids {
			if r.get(id) != nil {
				continue
			}
			raw, err := r.sealed.Get(ctx, keyKind, tokenKeyPrefix+id)
			if err != nil {
				return lockkeeper.Conflict.Errorf("keys_differ", "The journal names the %s key %s, and the sealed store does not hold it.", algorithm, id).
					WithNext("Put sealed.db and sealed.key back from the back-up that belongs to this journal.").WithCause(err)
			}
			key, err := token.ParseSigningKey(raw)
			if err != nil || key.ID() != id || key.Algorithm() != algorithm {
				return fmt.Errorf("the sealed key %s is not the one that the journal names", id)
			}
			r.put(key)
		}
	}
	return nil
}

// beginRings starts the rings that the state does not have yet. The key that a
// journal began with goes on as the active ES256 key.
func (k *Keeper) beginRings(ctx context.Context) error {
	for _, algorithm := range token.SigningAlgorithms() {
		if k.read().Keys[algorithm] != nil {
			continue
		}
		active := k.keys.token.ID()
		if algorithm == token.ES256 {
			raw, err := k.keys.token.MarshalBinary()
			if err != nil {
				return err
			}
			if err := k.ring.sealed.Put(ctx, keyKind, tokenKeyPrefix+active, raw); err != nil {
				return err
			}
			k.ring.put(k.keys.token)
		} else {
			var err error
			if active, err = k.ring.make(ctx, algorithm); err != nil {
				return err
			}
		}
		next, err := k.ring.make(ctx, algorithm)
		if err != nil {
			return err
		}
		if _, err := do[any](ctx, k, Caller{Keeper: true}, "", beginKeys{algorithm, active, next}); err != nil {
			return err
		}
	}
	return nil
}

// RotateKey makes the next key of an algorithm sign and publishes another next.
// In an emergency the active key is published no more from now on: tokens that
// it signed are refused as soon as targets look at the key set again.
func (k *Keeper) RotateKey(ctx context.Context, by Caller, algorithm string, emergency bool, reason string) (active, next string, err error) {
	// Asked before a key is made, so that nobody fills the sealed store.
	asked := rotateKey{Algorithm: algorithm, Emergency: emergency, Reason: reason}
	k.mu.RLock()
	_, _, err = asked.decide(&world{State: k.state, rules: k.rules}, by, lockkeeper.MomentOf(k.options.Clock()))
	k.mu.RUnlock()
	if err != nil {
		_, err = do[rotated](ctx, k, by, "", refused{asked, err})
		return "", "", err
	}
	made, err := k.ring.make(ctx, algorithm)
	if err != nil {
		return "", "", err
	}
	r, err := do[rotated](ctx, k, by, "", rotateKey{algorithm, made, emergency, reason})
	return r.Active, r.Next, err
}

// refused is a command that was refused at the door, to be recorded.
type refused struct {
	command
	err error
}

func (c refused) decide(*world, Caller, lockkeeper.Moment) ([]event, any, error) {
	return nil, nil, c.err
}

// RotateAged rotates the keys that have signed for long enough. Whoever serves
// the keeper calls it now and then.
func (k *Keeper) RotateAged(ctx context.Context) error {
	now := k.now()
	for _, algorithm := range token.SigningAlgorithms() {
		if r := k.keyRing(algorithm); r.Active != "" && now.Sub(r.Since) >= keyAge {
			if _, _, err := k.RotateKey(ctx, Caller{Keeper: true}, algorithm, false, "age"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Keeper) keyRing(algorithm string) KeyRing {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if r := k.state.Keys[algorithm]; r != nil {
		return *r
	}
	return KeyRing{}
}

// algorithmFor is what a target of an audience takes: Azure takes RS256 only.
func algorithmFor(audience string) string {
	if strings.HasPrefix(audience, "api://AzureADTokenExchange") {
		return token.RS256
	}
	return token.ES256
}

// AlgorithmFor is what tokens for an audience are signed with, for whoever tells
// the target what to expect.
func AlgorithmFor(audience string) string { return algorithmFor(audience) }

// mint signs claims for an audience with the key that is active now.
func (k *Keeper) mint(audience string, claims map[string]any) (string, error) {
	algorithm := algorithmFor(audience)
	key := k.ring.get(k.keyRing(algorithm).Active)
	if key == nil {
		return "", fmt.Errorf("there is no active key for %s", algorithm)
	}
	return key.Mint(claims)
}

// KeySet is the JWKS under which targets verify tokens. It needs no store: it is
// served while the journal is down.
func (k *Keeper) KeySet() ([]byte, error) {
	now := k.now()
	var public []json.RawMessage
	for _, algorithm := range token.SigningAlgorithms() {
		for _, id := range k.published(algorithm, now) {
			if key := k.ring.get(id); key != nil {
				public = append(public, key.Public())
			}
		}
	}
	return token.MarshalKeySet(public...)
}

func (k *Keeper) published(algorithm string, now lockkeeper.Moment) []string {
	r := k.keyRing(algorithm)
	if r.Active == "" {
		return nil
	}
	return r.published(now)
}

// An Introspected token is what RFC 7662 tells of a token that is active.
type Introspected struct {
	Active     bool              `json:"active"`
	Issuer     string            `json:"iss,omitempty"`
	Subject    string            `json:"sub,omitempty"`
	Audience   string            `json:"aud,omitempty"`
	ID         string            `json:"jti,omitempty"`
	Issued     int64             `json:"iat,omitempty"`
	Expires    int64             `json:"exp,omitempty"`
	Deployment string            `json:"deployment,omitempty"`
	User       string            `json:"user,omitempty"` // of a person's token
	Activation string            `json:"activation,omitempty"`
	Project    string            `json:"project,omitempty"`
	Env        string            `json:"environment,omitempty"`
	Ends       lockkeeper.Moment `json:"lease_ends,omitzero"`
}

// Introspect says whether a token of ours still stands: signed with a published
// key, in its time, handed out under a lease that lives, and not revoked. It
// tells that to whoever may read the deployment, and inactive without a reason
// to everybody else.
func (k *Keeper) Introspect(ctx context.Context, by Caller, raw string) (Introspected, error) {
	c, err := k.ownToken(raw)
	if err != nil {
		return Introspected{}, nil
	}
	if c.Deployment == "" {
		return k.introspectPerson(by, c), nil
	}
	v, err := k.Deployment(ctx, by, c.Deployment)
	switch {
	case lockkeeper.KindOf(err) == lockkeeper.Unavailable:
		return Introspected{}, err
	case err != nil || !v.leaseLive(k.now()) || k.now().Time().Unix() >= c.Expires || k.revoked(c):
		return Introspected{}, nil
	}
	handedOut, err := k.handedOut(ctx, c)
	if err != nil || !handedOut {
		return Introspected{}, err
	}
	c.Active, c.Project, c.Env, c.Ends = true, v.Ask.Project, v.Ask.Environment, v.Lease.Ends
	return c, nil
}

func (k *Keeper) revoked(c Introspected) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	d := k.state.Deployments[c.Deployment]
	if d == nil || d.Lease == nil {
		return true
	}
	for _, id := range d.Lease.Revoked {
		if id == c.ID {
			return true
		}
	}
	return false
}

// handedOut looks for the token in the journal: a signature alone is not enough.
func (k *Keeper) handedOut(ctx context.Context, c Introspected) (bool, error) {
	stored, err := k.journal.SubjectAll(ctx, deploymentSubject(c.Deployment))
	if err != nil {
		return false, err
	}
	for _, s := range stored {
		_, body, err := readEntry(s.Data)
		if err != nil {
			return false, err
		}
		if ev, is := body.(*tokenGranted); is && ev.ID == c.ID {
			return true, nil
		}
	}
	return false, nil
}

// ownToken reads a token of ours whose signature holds.
func (k *Keeper) ownToken(raw string) (Introspected, error) {
	var c Introspected
	u, err := token.Parse(raw, token.SigningAlgorithms())
	if err != nil {
		return c, err
	}
	data, err := k.KeySet()
	if err != nil {
		return c, err
	}
	keys, err := token.ParseKeySet(data)
	if err != nil {
		return c, err
	}
	claims, err := u.Verify(keys)
	if err != nil {
		return c, err
	}
	for name, to := range map[string]*string{"iss": &c.Issuer, "sub": &c.Subject, "aud": &c.Audience, "jti": &c.ID, "deployment": &c.Deployment} {
		if *to, _, err = claims.String(name); err != nil {
			return c, err
		}
	}
	issued, _, err1 := claims.Time("iat")
	expires, _, err2 := claims.Time("exp")
	if err1 != nil || err2 != nil || c.Issuer != k.options.Issuer {
		return c, fmt.Errorf("it is no token of this issuer")
	}
	c.Issued, c.Expires = issued.Unix(), expires.Unix()
	return c, nil
}

// Revoke ends one token for whoever introspects it (RFC 7009). A cloud that has
// taken the token knows nothing of that; only its short life ends it there. A
// token that is not ours, or has ended, is no error.
func (k *Keeper) Revoke(ctx context.Context, by Caller, raw string) error {
	c, err := k.ownToken(raw)
	if err != nil {
		return nil
	}
	if c.Deployment == "" {
		_, err = do[any](ctx, k, by, "", recallToken{c.ID})
		return err
	}
	handedOut, err := k.handedOut(ctx, c)
	if err != nil || !handedOut {
		return err
	}
	_, err = do[any](ctx, k, by, "", revokeToken{c.Deployment, c.ID})
	return err
}
