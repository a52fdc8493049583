package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A person may hold an identity's tokens, too: for a console or a database that
// trusts Lockkeeper's issuer. It takes identities/use at the identity, by an
// assignment or an activation, and an identity that says people: true. None
// outlives the activation, and introspection knows of its end at once
// (invariant 7).

// A PersonToken is one that was handed out to a person and may still be taken.
type PersonToken struct {
	ID         string            `json:"jti"`
	User       string            `json:"user"`
	Identity   lockkeeper.Scope  `json:"identity"`
	Audience   string            `json:"audience"`
	Subject    string            `json:"subject"`
	Activation string            `json:"activation,omitempty"` // that it rests on; "": on what is assigned
	Session    string            `json:"session,omitempty"`    // that it was had in
	Expires    lockkeeper.Moment `json:"expires"`
	Revoked    bool              `json:"revoked,omitempty"`
}

// maxPersonTokens bounds the tokens of one user that may still be taken.
const maxPersonTokens = 100

// PersonSubjectOf is the subject of a person's tokens: no pipeline's token has one
// that begins so. Like SubjectOf it has at most 127 bytes, and nobody should take
// it apart.
func PersonSubjectOf(project, environment, identity, user string) string {
	s := fmt.Sprintf("lk-person:%s:%s:%s:%s", project, environment, identity, user) // a name has no colon
	if len(s) <= 127 {
		return s
	}
	return "lk-person:" + lockkeeper.DigestOf([]byte(s)).Hex()
}

// tokenIssued is the decision to hand out one token to a person. The token is
// signed only after this entry is durable.
type tokenIssued struct {
	one
	Token    PersonToken         `json:"token"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*tokenIssued) kind() string          { return "token.issued" }
func (ev *tokenIssued) subjects() []string { return ev.Token.subjects() }
func (t PersonToken) subjects() []string {
	out := []string{"user/" + t.User, "identity/" + t.Subject}
	if t.Activation != "" {
		out = append(out, activationSubject(t.Activation))
	}
	return out
}
func (ev *tokenIssued) apply(s *State, e Entry) error {
	for id, t := range s.PersonTokens { // bounded by the users who issue; each issue forgets what nobody takes any more
		if !e.Time.Before(t.Expires) {
			delete(s.PersonTokens, id)
		}
	}
	t := ev.Token
	s.PersonTokens[t.ID] = &t
	return nil
}

// tokenRecalled says that a person's token must not be taken any more.
type tokenRecalled struct {
	one
	Token    PersonToken `json:"token"`
	By       string      `json:"recalled_by"`
	Revision int         `json:"revision"`
}

func (*tokenRecalled) kind() string          { return "token.recalled" }
func (ev *tokenRecalled) subjects() []string { return ev.Token.subjects() }
func (ev *tokenRecalled) apply(s *State, _ Entry) error {
	t := s.PersonTokens[ev.Token.ID]
	if t == nil {
		return fmt.Errorf("the token %s is not there", ev.Token.ID)
	}
	revoked := *t // readers may hold the old one
	revoked.Revoked = true
	s.PersonTokens[t.ID] = &revoked
	return nil
}

// issueToken hands out a token to the person who asks.
type issueToken struct {
	ID       string `json:"-"` // jti
	Project  string `json:"project"`
	Identity string `json:"identity"`
	Audience string `json:"audience"`
}

func (issueToken) name() string { return "token.issue" }
func (c issueToken) about() string {
	return "identity/" + string(lockkeeper.IdentityScope(c.Project, c.Identity))
}

func (c issueToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	scope := lockkeeper.IdentityScope(c.Project, c.Identity)
	right, activation, err := w.mayUse(by.User, scope, now)
	if err != nil {
		return nil, nil, err
	}
	w.spend(activation, tokenAbout(c.ID))
	id := w.rules.Catalog.Identities[scope]
	if !slices.Contains(id.Audiences, c.Audience) {
		return nil, nil, lockkeeper.Forbidden.Errorf("audience_not_admitted", "The identity %s hands out no token for the audience %.100q.", id.Name, c.Audience).
			WithNext("Ask for one of: %v.", id.Audiences)
	}
	own := 0
	for _, t := range w.PersonTokens {
		if t.User == by.User && now.Before(t.Expires) {
			own++
		}
	}
	if own >= maxPersonTokens {
		return nil, nil, lockkeeper.Limited.Errorf("tokens_many", "%d tokens of yours may still be taken.", own).WithNext("Use those that you have, or wait for their end.")
	}
	frozen, err := w.personFrozen(by.User, id, now)
	if err != nil {
		return nil, nil, err
	}
	expires := w.tokenEnd(by, id, right, now)
	if frozen != nil && frozen.Before(expires) {
		expires = lockkeeper.MomentOf(frozen.Time().Truncate(time.Second))
	}
	if expires.Sub(now) < shortestToken {
		return nil, nil, lockkeeper.Forbidden.Errorf("activation_ends", "Your right to use %s ends at %s, too soon for a token.", id.Name, expires).WithNext("Make the activation longer: lockkeeper activations extend ID")
	}
	t := PersonToken{ID: c.ID, User: by.User, Identity: scope, Audience: c.Audience, Subject: PersonSubjectOf(c.Project, id.Environment, id.Name, by.User), Activation: activation, Session: by.Session, Expires: expires}
	w.rest(by.User, lockkeeper.UseIdentities, "", scope, right)
	return []event{&tokenIssued{Token: t, Right: right, Revision: w.Revision.Number}}, issued{t, id, now, w.Revision.Number}, nil
}

// tokenEnd is when a person's token ends: after the identity's lifetime, with the
// right that it rests on, or with the session. A JWT counts in whole seconds:
// rounding down keeps it inside all of them.
func (w *world) tokenEnd(by Caller, id catalog.Identity, right lockkeeper.Decision, now lockkeeper.Moment) lockkeeper.Moment {
	end := now.Add(id.TokenLifetime())
	if right.Until != nil && right.Until.Before(end) {
		end = *right.Until
	}
	if s := w.Sessions[by.Session]; s != nil && s.Expires.Before(end) {
		end = s.Expires
	}
	return lockkeeper.MomentOf(end.Time().Truncate(time.Second))
}

// issued is what a person's token is minted from, after the commit.
type issued struct {
	Token    PersonToken
	Identity catalog.Identity
	At       lockkeeper.Moment
	Revision int
}

// mayUse decides whether a user may have an identity's tokens now, and by which
// activation. An identity that is not there and one that is not for people are
// told apart only for those who may see it: everybody may read the refusal.
func (w *world) mayUse(user string, scope lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, string, error) {
	right, activation := w.checkBy(user, lockkeeper.UseIdentities, scope, now)
	if !right.Passed(now) {
		return right, "", lockkeeper.Forbidden.Errorf(right.Code, "%s", right.Sentence).WithNext("%s", right.Next).WithDecision(right)
	}
	id, known := w.rules.Catalog.Identities[scope]
	switch {
	case !known:
		return right, "", lockkeeper.NotFound.Errorf("identity_unknown", "There is no identity %s.", scope).WithNext("Name one as PROJECT/NAME: lockkeeper catalog show")
	case !id.People:
		return right, "", lockkeeper.Forbidden.Errorf("identity_not_for_people", "The identity %s is for pipelines only.", id.Name).WithNext("Ask for people: true in the Identity, if people are to have its tokens.")
	}
	for _, d := range w.locks(w.placeOfToken(user, scope, id)) {
		return right, "", lockkeeper.Forbidden.Errorf(d.Code, "%s", d.Sentence).WithNext("%s", d.Next).WithDecision(d)
	}
	return right, activation, nil
}

// placeOfToken is where a person's token is used: what an incident may stop.
func (w *world) placeOfToken(user string, scope lockkeeper.Scope, id catalog.Identity) place {
	return place{project: id.Project, identity: id.Name, persons: w.persons(user), scopes: []lockkeeper.Scope{lockkeeper.EnvironmentScope(id.Project, id.Environment), scope}}
}

// tokenStands reports whether a person's token is to be taken now: in its time, not
// recalled, what it rested on not over, and the right still there.
func (w *world) tokenStands(t *PersonToken, now lockkeeper.Moment) bool {
	if t == nil || t.Revoked || !now.Before(t.Expires) {
		return false
	}
	if a := w.Activations[t.Activation]; t.Activation != "" && (a == nil || !w.lives(a, now)) {
		return false
	}
	if s := w.Sessions[t.Session]; t.Session != "" && (s == nil || w.sessionOver(s, now) != "" && now.Before(s.Expires)) {
		return false
	}
	_, _, err := w.sat(t.Session).on(tokenAbout(t.ID)).mayUse(t.User, t.Identity, now)
	return err == nil
}

// tokenAbout is a person's token as what an activation gave.
func tokenAbout(id string) string { return "token/" + id }

// residue says in the end of an activation what of it may live on outside.
func (w *world) residue(ev *activationEnded, now lockkeeper.Moment) *activationEnded {
	for _, t := range w.PersonTokens {
		if t.Activation == ev.ID && now.Before(t.Expires) {
			if ev.TokensOutside++; ev.OutsideTill.Before(t.Expires) {
				ev.OutsideTill = t.Expires
			}
		}
	}
	return ev
}

// recallToken ends one token of a person for whoever introspects it: his own, or,
// with activations/revoke at the identity, somebody else's.
type recallToken struct{ ID string }

func (recallToken) name() string  { return "token.recall" }
func (recallToken) about() string { return "tokens" }
func (c recallToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	t := w.PersonTokens[c.ID]
	if t == nil || t.Revoked || !now.Before(t.Expires) {
		return nil, nil, nil // it is over
	}
	if by.User != t.User {
		if _, err := w.may(by, lockkeeper.RevokeActivations, t.Identity, now); err != nil {
			return nil, nil, err
		}
	}
	return []event{&tokenRecalled{Token: *t, By: by.User, Revision: w.Revision.Number}}, nil, nil
}

// IssueToken hands out a token of an identity to the caller, a person. The decision
// is durable before the token is signed.
func (k *Keeper) IssueToken(ctx context.Context, by Caller, project, identity, audience string) (Token, error) {
	if lockkeeper.CheckName(project) != nil || lockkeeper.CheckName(identity) != nil {
		return Token{}, lockkeeper.Invalid.Errorf("identity_malformed", "No identity can be called that.").WithNext("Name it as PROJECT/NAME.")
	}
	g, err := do[issued](ctx, k, by, "", issueToken{newID("t"), project, identity, audience})
	if err != nil {
		return Token{}, err
	}
	claims := map[string]any{
		"iss": k.options.Issuer, "sub": g.Token.Subject, "aud": g.Token.Audience, "jti": g.Token.ID,
		"iat": g.At.Time().Unix(), "nbf": g.At.Time().Unix(), "exp": g.Token.Expires.Time().Unix(),
		"project": project, "environment": g.Identity.Environment, "identity": identity, "user": g.Token.User, "catalog_revision": g.Revision,
	}
	if g.Token.Activation != "" {
		claims["activation"] = g.Token.Activation
	}
	jwt, err := k.mint(g.Token.Audience, claims)
	if err != nil {
		return Token{}, err
	}
	return Token{jwt, g.Token.Expires, g.Token.Expires.Sub(g.At)}, nil
}

// introspectPerson is Introspect for a person's token: he himself and whoever may
// read identities there learn whether it stands.
func (k *Keeper) introspectPerson(by Caller, c Introspected) Introspected {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	t := w.PersonTokens[c.ID]
	if !w.tokenStands(t, now) || by.User == "" ||
		!(by.User == t.User && w.within(by, lockkeeper.ReadIdentities, t.Identity)) && !w.allowedFor(by, lockkeeper.ReadIdentities, t.Identity, now) {
		return Introspected{}
	}
	c.Active, c.User, c.Activation = true, t.User, t.Activation
	if id, known := w.rules.Catalog.Identities[t.Identity]; known {
		c.Project, c.Env = id.Project, id.Environment
	}
	return c
}
