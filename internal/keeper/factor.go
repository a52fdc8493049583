package keeper

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Factor is what a person shows beside a password, or again while he is signed in:
// a code of an authenticator app (RFC 6238), or a passkey (WebAuthn level 3). What it
// is checked with rests in the sealed store under its id.
type Factor struct {
	ID    string            `json:"id"`
	User  string            `json:"user"`
	Kind  string            `json:"kind"` // totp or passkey
	Name  string            `json:"name"` // the person's own word for it
	Since lockkeeper.Moment `json:"since"`
	// Counter is the largest that was shown: of a code the time step, so that each is
	// taken once; of a passkey its own counter, which a copy of it would repeat.
	Counter int64 `json:"counter"`
	// Credential is the digest of a passkey's credential id. No two factors have one.
	Credential lockkeeper.Digest `json:"credential,omitempty"`
}

// The kinds of factor.
const (
	TOTP    = "totp"
	Passkey = "passkey"
)

// Bounds of factors.
const (
	maxFactors = 10 // of one user
	// factorProof is what registering or removing a factor asks of the sign-in, once
	// there is one: whoever finds an open session must not be able to make it his.
	factorAge = 15 * time.Minute
)

var factorProof = proof{age: factorAge, strong: true}

func factorSubject(id string) string { return "factor/" + id }

// factorRegistered is a factor that its user has shown once.
type factorRegistered struct {
	one
	Factor Factor `json:"factor"`
}

func (*factorRegistered) kind() string { return "factor.registered" }
func (ev *factorRegistered) subjects() []string {
	return []string{factorSubject(ev.Factor.ID), "user/" + ev.Factor.User}
}
func (ev *factorRegistered) apply(s *State, e Entry) error {
	f := ev.Factor
	if s.Factors[f.ID] != nil {
		return fmt.Errorf("the factor %s is there already", f.ID)
	}
	f.Since = e.Time
	s.Factors[f.ID] = &f
	s.FactorSince[f.User] = e.Time
	return nil
}

// factorUsed says that a factor was shown.
type factorUsed struct {
	one
	ID      string `json:"id"`
	User    string `json:"user"`
	Counter int64  `json:"counter"`
}

func (*factorUsed) kind() string          { return "factor.used" }
func (ev *factorUsed) subjects() []string { return []string{factorSubject(ev.ID), "user/" + ev.User} }
func (ev *factorUsed) apply(s *State, _ Entry) error {
	f := s.Factors[ev.ID]
	if f == nil {
		return fmt.Errorf("the factor %s is not there", ev.ID)
	}
	used := *f
	used.Counter = ev.Counter
	s.Factors[ev.ID] = &used
	return nil
}

// factorRemoved is a factor that its user takes away.
type factorRemoved struct {
	one
	ID   string `json:"id"`
	User string `json:"user"`
}

func (*factorRemoved) kind() string { return "factor.removed" }
func (ev *factorRemoved) subjects() []string {
	return []string{factorSubject(ev.ID), "user/" + ev.User}
}
func (ev *factorRemoved) apply(s *State, e Entry) error {
	if s.Factors[ev.ID] == nil {
		return fmt.Errorf("the factor %s is not there", ev.ID)
	}
	delete(s.Factors, ev.ID)
	s.FactorSince[ev.User] = e.Time
	return nil
}

// factorsReset takes all factors of a user away, for somebody who has lost them. From
// then on the account counts as whoever did it, too, until its owner has proved
// himself anew.
type factorsReset struct {
	one
	User   string `json:"user"`
	By     string `json:"reset_by"`
	Reason string `json:"reason,omitempty"`
}

func (*factorsReset) kind() string          { return "factors.reset" }
func (ev *factorsReset) subjects() []string { return []string{"user/" + ev.User, "user/" + ev.By} }
func (ev *factorsReset) apply(s *State, e Entry) error {
	maps.DeleteFunc(s.Factors, func(_ string, f *Factor) bool { return f.User == ev.User })
	maps.DeleteFunc(s.Sessions, func(_ string, session *Session) bool { return session.User == ev.User })
	s.endPersonalTokens(ev.User)
	s.FactorSince[ev.User] = e.Time
	a := Account{User: ev.User, Proven: true}
	if old := s.Accounts[ev.User]; old != nil {
		a = *old
	}
	if a.Proven {
		a.Proven, a.Maker, a.Makers, a.Behind = false, "", nil, nil
	}
	if a.Maker == "" {
		a.Maker = ev.By
	} else if a.Maker != ev.By && !slices.Contains(a.Makers, ev.By) {
		a.Makers = append(slices.Clone(a.Makers), ev.By)
	}
	s.Accounts[ev.User] = &a
	return nil
}

// sessionSteppedUp says that the person of a session showed a factor again.
type sessionSteppedUp struct {
	one
	ID     string `json:"id"`
	User   string `json:"user"`
	Factor string `json:"factor"`
	Method string `json:"method"` // totp or passkey
}

func (*sessionSteppedUp) kind() string          { return "session.stepped_up" }
func (ev *sessionSteppedUp) subjects() []string { return []string{"user/" + ev.User} }
func (ev *sessionSteppedUp) apply(s *State, e Entry) error {
	session := s.Sessions[ev.ID]
	if session == nil {
		return fmt.Errorf("the session %s is not there", ev.ID)
	}
	up := *session
	up.Authenticated, up.Strong, up.Factor = e.Time, true, ev.Factor
	s.Sessions[ev.ID] = &up
	return nil
}

// factorsOf are the factors of a user, the oldest first.
func (s *State) factorsOf(user string) []*Factor {
	var out []*Factor
	for _, f := range s.Factors {
		if f.User == user {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *Factor) int {
		return cmp.Or(a.Since.Time().Compare(b.Since.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// mayChangeFactors refuses unless the caller may register or remove factors of his
// own: the first one with any sign-in, further ones only with what he has already.
func (w *world) mayChangeFactors(by Caller, now lockkeeper.Moment) error {
	if by.User == "" || by.Session == "" {
		return errPersonNeeded()
	}
	if len(w.factorsOf(by.User)) == 0 {
		return w.entered(by, now)
	}
	if d := factorProof.judge(w, by, now); !d.Passed(now) {
		return lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("Show a factor that you have: lockkeeper step-up").WithDecision(d)
	}
	return nil
}

// entered refuses a sign-in that is not of now: whoever finds an older one must not
// make it a strong one with a factor of his own.
func (w *world) entered(by Caller, now lockkeeper.Moment) error {
	s := w.Sessions[by.Session]
	since := lockkeeper.Moment{}
	if s != nil {
		if since = s.Authenticated; since.IsZero() { // the directory does not say
			since = s.Started
		}
	}
	if s == nil || now.Sub(since) > factorAge {
		return lockkeeper.Forbidden.Errorf("step_up_needed", "The first factor takes a sign-in of the last %s.", factorAge).WithNext("Sign in again (lockkeeper login --anew, or login --user NAME), and register it then.")
	}
	return nil
}

// holdsFactor refuses to take a proof of whose an account is from a sign-in that has
// not shown one of its factors: whoever made the account may have registered them,
// and would go on entering as its owner.
func (w *world) holdsFactor(by Caller) error {
	s, own := w.Sessions[by.Session], w.factorsOf(by.User)
	if len(own) == 0 || s != nil && slices.ContainsFunc(own, func(f *Factor) bool { return f.ID == s.Factor }) {
		return nil
	}
	return lockkeeper.Forbidden.Errorf("step_up_needed", "The account has second factors, and this sign-in has shown none of them.").
		WithNext("Show one: lockkeeper step-up. If they are not yours, ask another access administrator to reset them: lockkeeper factors reset %s", by.User)
}

// registerFactor takes a factor that its user has shown: what it is checked with is
// sealed already.
type registerFactor struct{ Factor Factor }

func (registerFactor) name() string    { return "factor.register" }
func (c registerFactor) about() string { return "factors" }
func (c registerFactor) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.mayChangeFactors(by, now); err != nil {
		return nil, nil, err
	}
	f := c.Factor
	f.User, f.Since = by.User, now
	if err := w.takesFactor(f); err != nil {
		return nil, nil, err
	}
	return []event{&factorRegistered{Factor: f}}, f, nil
}

// takesFactor refuses a factor that is one too many or that is there already.
func (w *world) takesFactor(f Factor) error {
	if lockkeeper.CheckName(f.Name) != nil {
		return lockkeeper.Invalid.Errorf("factor_name_malformed", "A factor is called by lower-case letters, digits and dashes, 63 at most.").WithNext("Add --name such as phone.").WithField("name")
	}
	own := w.factorsOf(f.User)
	if len(own) >= maxFactors {
		return lockkeeper.Limited.Errorf("factors_many", "You have %d factors.", len(own)).WithNext("Remove some: lockkeeper factors list")
	}
	for _, o := range own {
		if o.Name == f.Name {
			return lockkeeper.Conflict.Errorf("factor_name_taken", "You have a factor %s already.", f.Name).WithNext("Choose another name, or remove it: lockkeeper factors remove %s", o.ID)
		}
	}
	for _, o := range w.Factors {
		if f.Credential != "" && o.Credential == f.Credential {
			return lockkeeper.Conflict.Errorf("passkey_known", "This passkey is registered already.").WithNext("Use another one.")
		}
	}
	return nil
}

// removeFactor takes one of the caller's factors away.
type removeFactor struct{ ID string }

func (removeFactor) name() string    { return "factor.remove" }
func (c removeFactor) about() string { return factorSubject(c.ID) }
func (c removeFactor) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	f := w.Factors[c.ID]
	if f == nil || f.User != by.User {
		return nil, nil, lockkeeper.Conflict.Errorf("factor_unknown", "You have no factor %.40s.", c.ID).WithNext("List them: lockkeeper factors list")
	}
	if err := w.mayChangeFactors(by, now); err != nil {
		return nil, nil, err
	}
	return []event{&factorRemoved{ID: f.ID, User: f.User}}, nil, nil
}

// resetFactors takes all factors of somebody else away.
type resetFactors struct{ User, Reason string }

func (resetFactors) name() string    { return "factors.reset" }
func (c resetFactors) about() string { return "user/" + c.User }
func (c resetFactors) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.InviteAccounts, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	if err := w.mayGiveFactor(by, c.User, now); err != nil {
		return nil, nil, err
	}
	switch {
	case c.User == by.User:
		return nil, nil, lockkeeper.Forbidden.Errorf("factors_own", "Nobody resets his own factors.").WithNext("Remove them one by one (lockkeeper factors remove), or ask another access administrator.")
	case c.Reason == "" || len(c.Reason) > maxReason:
		return nil, nil, lockkeeper.Invalid.Errorf("reason_missing", "Say why, in 1 to %d bytes.", maxReason).WithNext("Add --reason.")
	case len(w.factorsOf(c.User)) == 0:
		return nil, nil, lockkeeper.Conflict.Errorf("factors_none", "%.63q has no factor.", c.User).WithNext("Nothing: there is nothing to reset.")
	}
	return []event{&factorsReset{User: c.User, By: by.User, Reason: c.Reason}}, nil, nil
}

// mayGiveFactor is mayGiveCredential for what stands beside a credential.
func (w *world) mayGiveFactor(by Caller, user string, now lockkeeper.Moment) error {
	if by.User == user || w.checkFor(by, lockkeeper.EscalateAccess, lockkeeper.Root, now).Passed(now) || !w.everHolds(user, lockkeeper.EscalateAccess, now) {
		return nil
	}
	return lockkeeper.Forbidden.Errorf("escalation", "%s may give others more than you hold, and without his factors a password alone enters as %s.", user, user).WithNext("Ask an organisation administrator.")
}

// A Shown factor is one whose code or signature was checked, outside the decision.
// The decision checks that it is the user's still, and that it was not shown before.
type Shown struct {
	Factor  string
	Counter int64
}

// shown takes a factor of a user.
func (w *world) shown(user string, s Shown) (*Factor, event, error) {
	f := w.Factors[s.Factor]
	if f == nil || f.User != user {
		return nil, nil, errFactorWrong()
	}
	// Most passkeys count nothing, and say 0 for ever (WebAuthn, section 6.1.1).
	if counts := f.Kind == TOTP || s.Counter != 0 || f.Counter != 0; counts && s.Counter <= f.Counter {
		if f.Kind == TOTP {
			return nil, nil, lockkeeper.Unauthenticated.Errorf("factor_used", "This code was used already.").WithNext("Wait for the next one.")
		}
		return nil, nil, lockkeeper.Unauthenticated.Errorf("passkey_copied", "The passkey %s counts backwards: there is a copy of it.", f.Name).
			WithNext("Show another factor, remove this one, and tell your security team.")
	}
	return f, &factorUsed{ID: f.ID, User: user, Counter: s.Counter}, nil
}

func errFactorWrong() error {
	return lockkeeper.Unauthenticated.Errorf("factor_wrong", "This is not what the factor shows now.").WithNext("Try the next code; if the clock of your device is wrong, set it.")
}

// stepUp says that the person of the caller's session showed a factor.
type stepUp struct{ Shown Shown }

func (stepUp) name() string  { return "session.step_up" }
func (stepUp) about() string { return "session" }
func (c stepUp) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if w.Sessions[by.Session] == nil {
		return nil, nil, errPersonNeeded()
	}
	f, used, err := w.shown(by.User, c.Shown)
	if err != nil {
		return nil, nil, err
	}
	return []event{used, &sessionSteppedUp{ID: by.Session, User: by.User, Factor: f.ID, Method: f.Kind}}, nil, nil
}
