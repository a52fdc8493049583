package keeper

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/crypto/argon2"
	"golang.org/x/time/rate"
)

// Argon2id (RFC 9106) with the parameters that OWASP names as the least: 19 MiB
// of memory, two passes, one lane.
const (
	argonMemory = 19 * 1024 // KiB
	argonPasses = 2
	argonLanes  = 1
	saltBytes   = 16
	hashBytes   = 32

	minPassword = 12
	maxPassword = 256

	passwordKind = "password"
)

// Attempts are limited per account: five at once, then one in ten seconds; and
// per source, behind which a whole office may sit: sixty, then one a second.
var (
	perAccount = pace{5, 10 * time.Second}
	perSource  = pace{60, time.Second}
)

const maxLimiters = 10_000

type pace struct {
	burst int
	every time.Duration
}

// SignIn checks a password and starts a session, or refuses with *FactorNeeded if the
// user has a second factor. source is where the attempt
// comes from, for the limit. Every failure has the same answer and takes about
// as long. The secret goes to the person and is kept nowhere else.
func (k *Keeper) SignIn(ctx context.Context, user, password, source string) (secret string, s Session, err error) {
	if err := k.throttle("user "+user, perAccount); err != nil {
		return "", s, err
	}
	if err := k.throttle("source "+source, perSource); err != nil {
		return "", s, err
	}
	credential := ""
	var own []*Factor
	k.mu.RLock()
	if a := k.state.Accounts[user]; a != nil {
		credential, own = a.Credential, k.state.factorsOf(user)
	}
	k.mu.RUnlock()
	hash := decoy
	if credential != "" {
		stored, err := k.sealed.Get(ctx, passwordKind, credential)
		if err != nil && lockkeeper.KindOf(err) != lockkeeper.NotFound {
			return "", s, err
		}
		if err == nil {
			hash = string(stored)
		}
	}
	ok, err := k.matches(ctx, password, hash)
	if err != nil {
		return "", s, err
	}
	if !ok || credential == "" || hash == decoy {
		return "", s, errSignIn()
	}
	if len(own) > 0 {
		return "", s, k.factorNeeded(user, credential, own)
	}
	return k.begins(ctx, startSession{Session: Session{User: user}, Credential: credential})
}

// begins starts the session of somebody whose credentials were checked.
func (k *Keeper) begins(ctx context.Context, c startSession) (secret string, s Session, err error) {
	id := newID("s")
	secret = newSecret("lkp_" + strings.TrimPrefix(id, "s-") + "_")
	c.Session.ID, c.Session.Secret = id, secretDigest(secret)
	s, err = do[Session](ctx, k, Caller{}, "", c)
	return secret, s, err
}

// Authenticate is the person whose session or personal token the secret opens.
func (k *Keeper) Authenticate(secret string) (Caller, error) {
	if strings.HasPrefix(secret, PersonalPrefix) {
		return k.authenticatePersonal(secret)
	}
	rest, ok := strings.CutPrefix(secret, "lkp_")
	id, _, ok2 := strings.Cut(rest, "_")
	k.mu.RLock()
	defer k.mu.RUnlock()
	s := k.state.Sessions["s-"+id]
	if !ok || !ok2 || s == nil || subtle.ConstantTimeCompare([]byte(s.Secret), []byte(secretDigest(secret))) != 1 {
		return Caller{}, lockkeeper.Unauthenticated.Errorf("session_unknown", "This is no session that holds now.").WithNext("Sign in again: lockkeeper login")
	}
	by := Caller{User: s.User, Session: s.ID}
	w := world{State: k.state, rules: k.rules}
	now := lockkeeper.MomentOf(k.options.Clock())
	if now.Before(k.state.Now) {
		now = k.state.Now // a clock that is set back brings no session back
	}
	if err := w.session(by, now); err != nil {
		return Caller{}, err
	}
	if s.unmarked(now) {
		k.mark(by, useSession{})
	}
	return by, nil
}

// Admit limits what strangers from one source may begin.
func (k *Keeper) Admit(source string) error { return k.throttle("source "+source, perSource) }

// mark lets the writer write down that a session or a token is in use, if it has time: the
// next request asks again. Nobody waits for it.
func (k *Keeper) mark(by Caller, use command) {
	if len(k.queue) < queueLength/2 {
		select {
		case k.queue <- &request{by: by, cmd: use, reply: make(chan step, 1)}:
		default:
		}
	}
}

// decoy is hashed against when there is no such user, so that the time of an
// answer tells nothing.
const decoy = "argon2id$19456$2$1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// sealPassword hashes a password and seals the hash under a new id. An id that
// no entry names afterwards is harmless.
func (k *Keeper) sealPassword(ctx context.Context, password string) (id string, err error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", lockkeeper.Invalid.Errorf("password_length", "A password has %d to %d bytes.", minPassword, maxPassword).WithNext("Choose another one.")
	}
	if err := k.enter(ctx); err != nil {
		return "", err
	}
	defer k.leave()
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	hash := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonLanes, hashBytes)
	enc := base64.RawStdEncoding
	id = newID("p")
	row := fmt.Sprintf("argon2id$%d$%d$%d$%s$%s", argonMemory, argonPasses, argonLanes, enc.EncodeToString(salt), enc.EncodeToString(hash))
	return id, k.sealed.Put(ctx, passwordKind, id, []byte(row))
}

func (k *Keeper) matches(ctx context.Context, password, row string) (bool, error) {
	var memory, passes uint32
	var lanes uint8
	parts := strings.Split(row, "$")
	if len(parts) != 6 || parts[0] != "argon2id" {
		return false, fmt.Errorf("the sealed password is of an unknown form")
	}
	if _, err := fmt.Sscan(parts[1], &memory); err != nil {
		return false, err
	}
	if _, err := fmt.Sscan(parts[2], &passes); err != nil {
		return false, err
	}
	if _, err := fmt.Sscan(parts[3], &lanes); err != nil {
		return false, err
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, err
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		password = password[:maxPassword+1] // never equal to one that was accepted
	}
	if err := k.enter(ctx); err != nil {
		return false, err
	}
	defer k.leave()
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// enter waits for a place to hash a password: each costs memory, and strangers
// may ask for it.
func (k *Keeper) enter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	select {
	case k.signIns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return lockkeeper.Limited.Errorf("too_many_sign_ins", "Too many people sign in at once.").WithNext("Try again in a moment.")
	}
}

func (k *Keeper) leave() { <-k.signIns }

// throttle limits attempts by name.
func (k *Keeper) throttle(name string, p pace) error {
	k.limiters.Lock()
	defer k.limiters.Unlock()
	now := k.options.Clock()
	l := k.limits[name]
	if l == nil {
		if len(k.limits) >= maxLimiters {
			for other, old := range k.limits {
				if old.TokensAt(now) >= float64(old.Burst()) {
					delete(k.limits, other) // a full limiter is as good as a new one
				}
			}
		}
		if len(k.limits) >= maxLimiters {
			return errThrottled(p)
		}
		l = rate.NewLimiter(rate.Every(p.every), p.burst)
		k.limits[name] = l
	}
	if !l.AllowN(now, 1) {
		return errThrottled(p)
	}
	return nil
}

func errThrottled(p pace) error {
	return lockkeeper.Limited.Errorf("too_many_attempts", "Too many attempts.").WithNext("Wait %s and try again.", p.every)
}
