package keeper

import (
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/journal"
)

// makeSetupCode replaces the one-time code of the first administrator.
type makeSetupCode struct {
	Code lockkeeper.Digest `json:"code"`
}

func (makeSetupCode) name() string  { return "setup.make_code" }
func (makeSetupCode) about() string { return "setup" }
func (c makeSetupCode) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if w.Setup.Done || !by.Keeper {
		return nil, nil, lockkeeper.Conflict.Errorf("setup_done", "The first administrator has entered already.").
			WithNext("Sign in: lockkeeper login")
	}
	return []event{&setupCodeMade{Code: c.Code}}, nil, nil
}

// completeSetup lets the first administrator in, and puts the catalog in force
// that makes him one.
type completeSetup struct {
	Code       lockkeeper.Digest
	User       string
	Credential string
	First      *Rules
}

func (completeSetup) name() string   { return "setup.complete" }
func (completeSetup) about() string  { return "setup" }
func (c completeSetup) next() *Rules { return c.First }
func (c completeSetup) decide(w *world, _ Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if w.Setup.Done {
		return nil, nil, lockkeeper.Conflict.Errorf("setup_done", "The first administrator has entered already.").
			WithNext("Sign in: lockkeeper login")
	}
	if w.Setup.Code == "" || w.Setup.Code != c.Code {
		return nil, nil, lockkeeper.Unauthenticated.Errorf("setup_code_wrong", "This is not the server's one-time code.").
			WithNext("Read the code that the server printed when it was started last.")
	}
	applied := revisionOf(c.First.Catalog, w.Revision.Number+1)
	applied.Changes = changesBetween(w.rules.Catalog, c.First.Catalog)
	applied.Message = "The first administrator."
	return []event{&setupCompleted{User: c.User, Credential: c.Credential}, applied}, nil, nil
}

// firstCatalog makes one user an organisation administrator.
func firstCatalog(user string) (*Rules, error) {
	doc := "kind: User\nname: " + user + "\n---\nkind: Assignment\nname: first-administrator\nrole: organisation-administrator\nprincipal: user:" + user + "\nscope: /\n"
	c, problems := catalog.Read([]catalog.File{{Name: "first administrator", Data: []byte(doc)}})
	if err := problems.Err(); err != nil {
		return nil, lockkeeper.Invalid.Errorf("user_malformed", "The user cannot be made: %v", err)
	}
	return compileRules(documentsOf(c))
}

// inviteAccount gives a user of the catalog a one-time code to choose a
// password with.
type inviteAccount struct {
	User string            `json:"user"`
	Code lockkeeper.Digest `json:"-"`
}

func (inviteAccount) name() string    { return "account.invite" }
func (c inviteAccount) about() string { return "user/" + c.User }
func (c inviteAccount) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.InviteAccounts, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	u, known := w.rules.Catalog.Users[c.User]
	if !known || u.Off || u.Automation {
		return nil, nil, lockkeeper.Forbidden.Errorf("user_unknown", "The catalog has no user %q who may sign in.", c.User).
			WithNext("Add the user to the catalog and apply it: lockkeeper apply DIR")
	}
	if err := w.mayGiveCredential(by, c.User, now); err != nil {
		return nil, nil, err
	}
	if i := w.quarantined(c.User); i != nil {
		return nil, nil, lockkeeper.Forbidden.Errorf("quarantined", "%s is quarantined by the incident %s.", c.User, i.ID).WithNext("Invite the user once it is closed.")
	}
	return []event{&accountInvited{User: c.User, Code: c.Code, By: by.User, Expires: now.Add(invitationLife), Behind: w.behind(by)}}, nil, nil
}

// mayGiveCredential refuses to put the way into an account into the hand of somebody
// who could make more of it than he has: whoever may not escalate gives nobody's
// credential who may, nor a second one to who signs in with a directory.
func (w *world) mayGiveCredential(by Caller, user string, now lockkeeper.Moment) error {
	if by.User == user || w.checkFor(by, lockkeeper.EscalateAccess, lockkeeper.Root, now).Passed(now) {
		return nil
	}
	if w.everHolds(user, lockkeeper.EscalateAccess, now) {
		return lockkeeper.Forbidden.Errorf("escalation", "%s may give others more than you hold, and whoever makes the credential enters as %s.", user, user).WithNext("Ask an organisation administrator.")
	}
	if len(w.rules.Catalog.Users[user].SignIns) > 0 {
		return lockkeeper.Forbidden.Errorf("escalation", "%s signs in with a directory, and a password beside it would be another way in.", user).WithNext("Ask an organisation administrator.")
	}
	return nil
}

// everHolds reports whether a user holds an action anywhere, or may activate it, now or
// later, once he has signed in.
func (w *world) everHolds(user string, action lockkeeper.Action, now lockkeeper.Moment) bool {
	x := w.rules.Access.Believing()
	held, err := x.Holdings(lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}, now)
	return err == nil && slices.ContainsFunc(held, func(p Path) bool {
		return p.Effect != "denies" && p.Effect != "ended" && x.RoleAllows(p.Role, action)
	})
}

// enrolAccount chooses a password with a one-time code.
type enrolAccount struct {
	User       string
	Code       lockkeeper.Digest
	Credential string
}

func (enrolAccount) name() string    { return "account.enrol" }
func (c enrolAccount) about() string { return "user/" + c.User }
func (c enrolAccount) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	a := w.Accounts[c.User]
	if a == nil || a.Invitation == nil || a.Invitation.Code != c.Code || !now.Before(a.Invitation.Expires) {
		return nil, nil, lockkeeper.Unauthenticated.Errorf("invitation_wrong", "This is no invitation that holds now.").
			WithNext("Ask an access administrator for a new one: lockkeeper accounts invite %s", c.User)
	}
	if i := w.quarantined(c.User); i != nil {
		return nil, nil, errQuarantined(i)
	}
	return []event{&accountEnrolled{User: c.User, Credential: c.Credential, Maker: a.Invitation.By, Behind: a.Invitation.Behind}}, nil, nil
}

// challengeAccount asks the owner of an account to prove himself.
type challengeAccount struct {
	Challenge string
}

func (challengeAccount) name() string  { return "account.challenge" }
func (challengeAccount) about() string { return "account" }
func (c challengeAccount) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if w.Accounts[by.User] == nil {
		return nil, nil, lockkeeper.Forbidden.Errorf("person_needed", "Only a person who has signed in may do this.").WithNext("Run: lockkeeper login")
	}
	if err := w.holdsFactor(by); err != nil {
		return nil, nil, err
	}
	if len(w.rules.Catalog.Users[by.User].IDs) == 0 {
		return nil, nil, lockkeeper.Forbidden.Errorf("account_not_linked", "The catalog lists no account of %s on a CI platform, so a run cannot prove anything.", by.User).
			WithNext("Ask an access administrator to list it under ids of the user.")
	}
	var why []string
	for _, id := range w.rules.Catalog.Users[by.User].IDs {
		if reason := w.rules.Catalog.Providers[id.Provider].NoProof(); reason != "" {
			why = append(why, id.Provider+": "+reason)
		}
	}
	if len(why) == len(w.rules.Catalog.Users[by.User].IDs) {
		return nil, nil, lockkeeper.Forbidden.Errorf("proof_impossible", "Nobody can prove himself on the CI platforms on which %s has accounts (%s).", by.User, strings.Join(why, "; ")).
			WithNext("Ask an access administrator to list an account on another platform, too.")
	}
	return []event{&accountChallenged{User: by.User, Challenge: c.Challenge, Expires: now.Add(challengeLife)}}, nil, nil
}

// proveAccount is a run on a CI platform that the owner of the account started
// and whose token's audience carries the challenge. From then on the account
// counts as its owner and no more as whoever made its credential.
type proveAccount struct {
	Challenge string
	Job       lockkeeper.Workload
}

func (proveAccount) name() string  { return "account.prove" }
func (proveAccount) about() string { return "account" }
func (c proveAccount) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.useToken(c.Job, "proof", "", now); err != nil {
		return nil, nil, err
	}
	if reason := w.rules.Catalog.Providers[c.Job.Provider].NoProof(); reason != "" {
		return nil, nil, lockkeeper.Forbidden.Errorf("proof_impossible", "Nobody can prove himself on %s: %s.", c.Job.Provider, reason).
			WithNext("Start a run on another platform: lockkeeper accounts challenge says on which.")
	}
	u, known := w.rules.Catalog.UserOf(c.Job.Provider, c.Job.Actor.Value)
	if !known || !c.Job.Actor.Known() {
		return nil, nil, lockkeeper.Forbidden.Errorf("initiator_unknown", "The account that started this run belongs to no user of the catalog.").
			WithNext("List the account's id under ids of its user.")
	}
	if err := w.unconfirmed(idLink(c.Job.Provider, c.Job.Actor.Value)); err != nil {
		return nil, nil, err
	}
	if err := w.admits(catalog.Pipeline{}, c.Job.Provider, []Origin{w.origin(c.Job, c.Job.Actor, c.Job.ActorName)}); err != nil {
		return nil, nil, err
	}
	a := w.Accounts[u.Name]
	if a == nil || a.Challenge == nil || c.Challenge == "" || a.Challenge.Value != c.Challenge || !now.Before(a.Challenge.Expires) {
		return nil, nil, lockkeeper.Forbidden.Errorf("challenge_wrong", "The user %s was not asked this challenge, or it is over.", u.Name).
			WithNext("Ask for one, signed in as that user: lockkeeper accounts challenge")
	}
	if c.Job.Attempt != 1 || scheduled(c.Job.Event.Value) {
		return nil, nil, lockkeeper.Forbidden.Errorf("rerun_unknown", "Only the first attempt of a run that a person started proves who that person is.").
			WithNext("Start a new run.")
	}
	return []event{&accountProven{User: u.Name, Token: c.Job.TokenID, Expires: c.Job.Expires, Job: c.Job.JobKey()}}, proven{u.Name}, nil
}

// proven is the answer to proveAccount.
type proven struct {
	User string `json:"user"`
}

// startSession signs a person in whose password was checked before.
type startSession struct {
	Session    Session
	Credential string // the credential that was checked; another one in force refuses
	Shown      Shown  // the factor that was checked beside it, if any
}

func (startSession) name() string    { return "session.start" }
func (c startSession) about() string { return "user/" + c.Session.User }
func (c startSession) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	a := w.Accounts[c.Session.User]
	u, known := w.rules.Catalog.Users[c.Session.User]
	if a == nil || a.Credential != c.Credential || !known || u.Off || u.Automation {
		return nil, nil, errSignIn()
	}
	if err := w.held(c.Session.User); err != nil {
		return nil, nil, err
	}
	if i := w.quarantined(c.Session.User); i != nil {
		return nil, nil, errQuarantined(i)
	}
	s := c.Session
	s.Started, s.Expires, s.Authenticated = now, now.Add(sessionLife), now
	s.Used, s.Idle = now, sessionIdle
	// Whoever registered a factor since the password was checked must show it.
	if len(w.factorsOf(s.User)) == 0 {
		return []event{&sessionStarted{Session: s}}, s, nil
	}
	if c.Shown == (Shown{}) {
		return nil, nil, errFactorNeeded(s.User)
	}
	_, used, err := w.shown(s.User, c.Shown)
	if err != nil {
		return nil, nil, err
	}
	s.Strong, s.Factor = true, c.Shown.Factor
	return []event{used, &sessionStarted{Session: s}}, s, nil
}

// errSignIn is the one answer to a failed sign-in, whatever failed.
func errSignIn() error {
	return lockkeeper.Unauthenticated.Errorf("sign_in_failed", "The user or the password is wrong.").
		WithNext("Try again, or ask an access administrator for an invitation.")
}

// endSession ends one's own sign-in, or somebody else's.
type endSession struct {
	ID string `json:"id"`
}

func (endSession) name() string    { return "session.end" }
func (c endSession) about() string { return "session/" + c.ID }
func (c endSession) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	s := w.Sessions[c.ID]
	mine := s != nil && s.User == by.User
	if !mine {
		if _, err := w.may(by, lockkeeper.RevokeAccounts, lockkeeper.Root, now); err != nil {
			return nil, nil, err
		}
	}
	if s == nil {
		return nil, nil, lockkeeper.Conflict.Errorf("session_ended", "The sign-in %.40s does not exist or has ended.", c.ID).WithNext("List them: lockkeeper sessions list")
	}
	ev := &sessionEnded{ID: s.ID, User: s.User}
	if !mine {
		ev.EndedBy = by.User
	}
	return []event{ev}, nil, nil
}

// documentsOf are the canonical documents of a catalog.
func documentsOf(c *catalog.Catalog) [][]byte {
	var out [][]byte
	for _, d := range c.Documents() {
		out = append(out, d.Data)
	}
	return out
}

func revisionOf(c *catalog.Catalog, number int) *catalogApplied {
	ev := &catalogApplied{Number: number, Digest: c.Digest()}
	for _, d := range c.Documents() {
		ev.Documents = append(ev.Documents, d.Digest)
	}
	return ev
}

func journalDocuments(c *catalog.Catalog) []journal.Document {
	var out []journal.Document
	for _, d := range c.Documents() {
		out = append(out, journal.Document{Digest: d.Digest, Data: d.Data})
	}
	return out
}
