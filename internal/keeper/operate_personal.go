package keeper

import (
	"cmp"
	"context"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// PersonalPrefix begins the secret of every personal token.
const PersonalPrefix = "lkt_"

// MakePersonal is what a person asks a token for.
type MakePersonal struct {
	Name    string
	Actions []string // or patterns of them
	Scope   lockkeeper.Scope
	For     time.Duration
}

// MakePersonalToken makes a token for the caller. The secret goes to him and is kept
// nowhere else.
func (k *Keeper) MakePersonalToken(ctx context.Context, by Caller, m MakePersonal) (secret string, t PersonalToken, err error) {
	id := newID("k")
	secret = newSecret(PersonalPrefix + strings.TrimPrefix(id, "k-") + "_")
	t, err = do[PersonalToken](ctx, k, by, "", makePersonal{ID: id, Secret: secretDigest(secret), Name: m.Name, Patterns: m.Actions, Scope: m.Scope, For: m.For})
	return secret, t, err
}

// EndPersonalToken revokes a token of the caller or, with accounts/revoke, of
// somebody else.
func (k *Keeper) EndPersonalToken(ctx context.Context, by Caller, id string) error {
	_, err := do[any](ctx, k, by, "", endPersonal{id})
	return err
}

// PersonalTokens lists the tokens of a user that hold now, or everybody's (""),
// without their digests, the newest first. Those of others take accounts/read, and so
// do all to whoever comes with a token.
func (k *Keeper) PersonalTokens(by Caller, user string) ([]PersonalToken, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if user != by.User || user == "" || by.Token != "" {
		if _, err := w.may(by, lockkeeper.ReadAccounts, lockkeeper.Root, now); err != nil {
			return nil, err
		}
	}
	out := []PersonalToken{}
	for _, t := range w.PersonalTokens {
		if _, over := w.personalOver(t, now); over == "" && (user == "" || t.User == user) {
			listed := *t
			listed.Secret = ""
			out = append(out, listed)
		}
	}
	slices.SortFunc(out, func(a, b PersonalToken) int {
		return cmp.Or(b.Made.Time().Compare(a.Made.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// authenticatePersonal is the person whose token the secret is, bound to that token.
func (k *Keeper) authenticatePersonal(secret string) (Caller, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(secret, PersonalPrefix), "_")
	k.mu.RLock()
	defer k.mu.RUnlock()
	t := k.state.PersonalTokens["k-"+id]
	if t == nil || subtle.ConstantTimeCompare([]byte(t.Secret), []byte(secretDigest(secret))) != 1 {
		return Caller{}, lockkeeper.Unauthenticated.Errorf("token_unknown", "This is no personal token that holds now.").WithNext("Make another one: lockkeeper tokens make")
	}
	by := Caller{User: t.User, Token: t.ID}
	w := world{State: k.state, rules: k.rules}
	now := lockkeeper.MomentOf(k.options.Clock())
	if err := w.personal(by, now); err != nil {
		return Caller{}, err
	}
	if t.unmarked(now) {
		k.mark(by, usePersonalToken{})
	}
	return by, nil
}
