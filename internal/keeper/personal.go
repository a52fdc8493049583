package keeper

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A PersonalToken lets a program of a person's do what it names, and never more
// than the person may do himself at that moment. It can vouch for nobody: whatever
// takes a person (to approve, to activate, to sign in, to give others something) a
// token may not do. Only the digest of its secret is kept.
type PersonalToken struct {
	ID      string              `json:"id"`
	Name    string              `json:"name"` // the person's own word for it; one of a user's that hold
	User    string              `json:"user"`
	Secret  lockkeeper.Digest   `json:"secret"`
	Actions []lockkeeper.Action `json:"actions"` // never patterns: a release that knows more actions widens no token
	Scope   lockkeeper.Scope    `json:"scope"`
	Made    lockkeeper.Moment   `json:"made"`
	Expires lockkeeper.Moment   `json:"expires"`
	Used    lockkeeper.Moment   `json:"used,omitzero"` // about when it was last used

	// The account at a directory that signed the maker in; the token holds only as
	// long as that account is the user's. "": a password of Lockkeeper's own.
	Directory string `json:"directory,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Source    string `json:"source,omitempty"` // what the directory was then (catalog.Directory.Source)
}

// Bounds of personal tokens.
const (
	maxPersonalTokens = 50 // of one user
	maxPersonalLife   = 366 * 24 * time.Hour
	minPersonalLife   = time.Minute
	personalMark      = time.Hour // between two entries that say that a token is in use
	maxPersonalName   = 63        // bytes
)

// personalActions are those that a token may hold. What is not here, an action of a
// later release too, no token holds.
var personalActions = []lockkeeper.Action{
	lockkeeper.ReadAccess, lockkeeper.WriteAccess, lockkeeper.ReadAccounts, lockkeeper.ReadActivations, lockkeeper.ReadCatalog, lockkeeper.ReadChanges,
	lockkeeper.ReadDeployments, lockkeeper.CancelDeployments, lockkeeper.ReadEnvironments, lockkeeper.WriteEnvironments, lockkeeper.WriteFreezes,
	lockkeeper.ReadIdentities, lockkeeper.WriteIdentities, lockkeeper.ReadIncidents, lockkeeper.ReadJournal, lockkeeper.ExportJournal, lockkeeper.RevokeLeases,
	lockkeeper.ReadPipelines, lockkeeper.WritePipelines, lockkeeper.WriteProjects,
}

// tokenMay is the positive list of what a personal token may send. A command that
// is not here is refused, whatever the token's user may do.
func tokenMay(cmd command) bool {
	switch cmd.(type) {
	case cancelDeployment, revokeLease, revokeToken, startFreeze, // which only take away
		applyCatalog, // which refuses a token what weakens
		usePersonalToken:
		return true
	}
	return false
}

func personalSubject(id string) string { return "token/" + id }

// personalMade is a token that a person made.
type personalMade struct {
	one
	Token PersonalToken `json:"token"`
}

func (*personalMade) kind() string { return "personal_token.made" }
func (ev *personalMade) subjects() []string {
	return []string{personalSubject(ev.Token.ID), "user/" + ev.Token.User}
}
func (ev *personalMade) apply(s *State, e Entry) error {
	t := ev.Token
	if s.PersonalTokens[t.ID] != nil {
		return fmt.Errorf("the token %s is there already", t.ID)
	}
	t.Made = e.Time
	s.PersonalTokens[t.ID] = &t
	return nil
}

// personalEnded ends a token.
type personalEnded struct {
	one
	ID      string `json:"id"`
	User    string `json:"user"`
	Status  string `json:"status"`
	EndedBy string `json:"ended_by,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// How a token ends.
const (
	personalRevoked = "revoked"
	personalExpired = "expired"
	personalLapsed  = "lapsed" // its user may not sign in any more; it does not come back with him
)

func (*personalEnded) kind() string { return "personal_token.ended" }
func (ev *personalEnded) subjects() []string {
	return []string{personalSubject(ev.ID), "user/" + ev.User}
}
func (ev *personalEnded) apply(s *State, _ Entry) error {
	if s.PersonalTokens[ev.ID] == nil {
		return fmt.Errorf("the token %s is not there", ev.ID)
	}
	delete(s.PersonalTokens, ev.ID)
	return nil
}

// personalUsed says that a token was used. There is one in an hour at most.
type personalUsed struct {
	one
	ID   string `json:"id"`
	User string `json:"user"`
}

func (*personalUsed) kind() string { return "personal_token.used" }
func (ev *personalUsed) subjects() []string {
	return []string{personalSubject(ev.ID), "user/" + ev.User}
}
func (ev *personalUsed) apply(s *State, e Entry) error {
	if t := s.PersonalTokens[ev.ID]; t != nil {
		used := *t
		used.Used = e.Time
		s.PersonalTokens[ev.ID] = &used
	}
	return nil
}

// endPersonalTokens forgets the tokens of a user whose credential is another one
// now: whoever made them may not be its owner.
func (s *State) endPersonalTokens(user string) {
	maps.DeleteFunc(s.PersonalTokens, func(_ string, t *PersonalToken) bool { return t.User == user })
}

// personalOver says why a token holds no more at now; "": it holds.
func (w *world) personalOver(t *PersonalToken, now lockkeeper.Moment) (status, why string) {
	u, known := w.rules.Catalog.Users[t.User]
	switch {
	case !now.Before(t.Expires):
		return personalExpired, fmt.Sprintf("The token ended at %s.", t.Expires)
	case !known || u.Off || u.Automation:
		return personalLapsed, fmt.Sprintf("The user %s may not sign in.", t.User)
	case w.quarantined(t.User) != nil:
		return personalLapsed, fmt.Sprintf("The user %s is quarantined by an incident.", t.User)
	case t.Directory == "":
		return "", ""
	}
	if _, binds := bindsMember(w.rules.ofCatalog(), &Member{Directory: t.Directory, Subject: t.Subject, User: t.User, Source: t.Source}); !binds {
		return personalLapsed, "The account that its maker signed in with is the user's no more."
	}
	return "", ""
}

// personal refuses unless the caller's token holds now.
func (w *world) personal(by Caller, now lockkeeper.Moment) error {
	t, why := w.PersonalTokens[by.Token], "The token was revoked or has ended."
	if t != nil && t.User == by.User {
		_, why = w.personalOver(t, now)
	}
	if why != "" {
		return lockkeeper.Unauthenticated.Errorf("token_ended", "%s", why).WithNext("Make another one: lockkeeper tokens make")
	}
	return w.held(by.User)
}

// within reports whether the caller's token, if he comes with one, names the action
// at the scope. Whoever comes himself is within his own rights always.
func (w *world) within(by Caller, action lockkeeper.Action, scope lockkeeper.Scope) bool {
	if by.Token == "" {
		return true
	}
	t := w.PersonalTokens[by.Token]
	return t != nil && t.Scope.Contains(scope) && slices.Contains(t.Actions, action)
}

// checkFor is check for a caller: what his token does not name he may not do with
// it.
func (w *world) checkFor(by Caller, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	if !w.within(by, action, scope) {
		return lockkeeper.Decision{Subject: string(action) + " at " + string(scope), Verdict: lockkeeper.Fail, Code: "token_may_not",
			Sentence: fmt.Sprintf("The token %s does not name %s at %s.", by.Token, action, scope),
			Next:     "Sign in yourself (lockkeeper login), or make a token that names it: lockkeeper tokens make"}
	}
	return w.in(by).check(by.User, action, scope, now)
}

// allowedFor is checkFor without its reasons.
func (w *world) allowedFor(by Caller, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	return w.within(by, action, scope) && w.in(by).allowed(by.User, action, scope, now)
}

func errTokenMayNot(cmd command) error {
	return lockkeeper.Forbidden.Errorf("token_may_not", "A personal token may not send %s: that takes the person.", cmd.name()).WithNext("Sign in yourself: lockkeeper login")
}

// tokenMayApply refuses, to whoever comes with a token, a catalog that changes what the
// token does not name, or that protects less than the one in force: a program may
// tighten the rules, and a person must answer for loosening them.
func (w *world) tokenMayApply(by Caller, next *Rules, changes []catalog.Change, now lockkeeper.Moment) error {
	if by.Token == "" {
		return nil
	}
	var because []lockkeeper.Decision
	for _, ch := range changes {
		if ch.Verb != "added" {
			because = append(because, w.checkFor(by, writeAction[ch.Key.Kind], w.rules.Catalog.ScopeOf(ch.Key), now))
		}
		if ch.Verb != "removed" {
			because = append(because, w.checkFor(by, writeAction[ch.Key.Kind], next.Catalog.ScopeOf(ch.Key), now))
		}
	}
	if weaker, _ := w.weakens(by.User, next, now); len(weaker) > 0 {
		because = append(because, lockkeeper.Decision{Subject: "token", Verdict: lockkeeper.Fail, Code: "token_may_not",
			Sentence: fmt.Sprintf("A personal token may not apply what weakens a rule: %s.", weaker[0]), Next: "Apply it yourself: lockkeeper login, then lockkeeper apply"})
	}
	if verdict := lockkeeper.All("apply the catalog with a token", "The token names all of it.", because...); !verdict.Passed(now) {
		return lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	return nil
}

// makePersonal makes a token for the caller.
type makePersonal struct {
	ID       string
	Secret   lockkeeper.Digest
	Name     string
	Patterns []string
	Scope    lockkeeper.Scope
	For      time.Duration
}

func (makePersonal) name() string  { return "personal_token.make" }
func (makePersonal) about() string { return "tokens" }
func (c makePersonal) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if lockkeeper.CheckName(c.Name) != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("token_name_malformed", "A token is called by lower-case letters, digits and dashes, %d at most.", maxPersonalName).WithNext("Add --name such as ci-reports.").WithField("name")
	}
	if c.For < minPersonalLife || c.For > maxPersonalLife {
		return nil, nil, lockkeeper.Invalid.Errorf("token_life", "A token lasts from %s to 366 days, and this one would last %s.", minPersonalLife, c.For).WithNext("Ask for --for 720h.").WithField("for")
	}
	if _, err := lockkeeper.ParseScope(string(c.Scope)); err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("scope_malformed", "%v.", err).WithNext("Name / or a scope such as /projects/payments.").WithField("scope")
	}
	actions, err := personalActionsOf(c.Patterns)
	if err != nil {
		return nil, nil, err
	}
	own := 0
	for _, t := range w.PersonalTokens {
		if _, over := w.personalOver(t, now); t.User != by.User || over != "" {
			continue
		}
		if own++; t.Name == c.Name {
			return nil, nil, lockkeeper.Conflict.Errorf("token_name_taken", "You have a token %s already (%s).", t.Name, t.ID).WithNext("Revoke it (lockkeeper tokens revoke %s), or choose another name.", t.ID)
		}
	}
	if own >= maxPersonalTokens {
		return nil, nil, lockkeeper.Limited.Errorf("tokens_many", "You have %d tokens.", own).WithNext("Revoke some: lockkeeper tokens list")
	}
	t := PersonalToken{ID: c.ID, Name: c.Name, User: by.User, Secret: c.Secret, Actions: actions, Scope: c.Scope, Made: now, Expires: now.Add(c.For)}
	if s := w.Sessions[by.Session]; s != nil {
		t.Directory, t.Subject, t.Source = s.Directory, s.Subject, s.Source
	}
	return []event{&personalMade{Token: t}}, t, nil
}

// personalActionsOf are the actions that patterns name, of those that a token may
// hold. One that is named and that no token may hold is refused.
func personalActionsOf(patterns []string) ([]lockkeeper.Action, error) {
	named := map[lockkeeper.Action]bool{}
	for _, p := range patterns {
		pattern, err := lockkeeper.ParseActionPattern(p)
		if err != nil {
			return nil, lockkeeper.Invalid.Errorf("action_unknown", "%v.", err).WithNext("Name actions such as deployments/read, or */read.").WithField("actions")
		}
		fits := 0
		for _, a := range personalActions {
			if pattern.Matches(a) {
				named[a], fits = true, fits+1
			}
		}
		if fits == 0 {
			return nil, lockkeeper.Forbidden.Errorf("token_may_not", "No token may hold %s: that takes the person.", pattern).WithNext("Name others: %v", personalActions)
		}
	}
	if len(named) == 0 {
		return nil, lockkeeper.Invalid.Errorf("actions_missing", "The token names no action.").WithNext("Add --actions deployments/read,….").WithField("actions")
	}
	return slices.Sorted(maps.Keys(named)), nil
}

// endPersonal revokes a token of the caller or, with accounts/revoke, of somebody
// else.
type endPersonal struct{ ID string }

func (endPersonal) name() string    { return "personal_token.end" }
func (c endPersonal) about() string { return personalSubject(c.ID) }
func (c endPersonal) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	t := w.PersonalTokens[c.ID]
	if t == nil || t.User != by.User {
		if _, err := w.may(by, lockkeeper.RevokeAccounts, lockkeeper.Root, now); err != nil {
			return nil, nil, err
		}
	}
	if t == nil {
		return nil, nil, lockkeeper.Conflict.Errorf("token_ended", "The token %.40s does not exist or has ended.", c.ID).WithNext("List them: lockkeeper tokens list")
	}
	return []event{&personalEnded{ID: t.ID, User: t.User, Status: personalRevoked, EndedBy: by.User}}, nil, nil
}

// usePersonalToken writes down that the caller's token is in use.
type usePersonalToken struct{}

func (usePersonalToken) name() string  { return "personal_token.use" }
func (usePersonalToken) about() string { return "" }
func (usePersonalToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if t := w.PersonalTokens[by.Token]; t == nil || !t.unmarked(now) {
		return nil, nil, nil
	}
	return []event{&personalUsed{ID: by.Token, User: by.User}}, nil, nil
}

func (t *PersonalToken) unmarked(now lockkeeper.Moment) bool { return now.Sub(t.Used) >= personalMark }

// overduePersonal writes down the tokens that have ended already.
func (w *world) overduePersonal(now lockkeeper.Moment, room int) []event {
	var over []string
	for id, t := range w.PersonalTokens {
		if status, _ := w.personalOver(t, now); status != "" {
			over = append(over, id)
		}
	}
	slices.Sort(over)
	var out []event
	for _, id := range over[:min(len(over), max(room, 0))] {
		t := w.PersonalTokens[id]
		status, why := w.personalOver(t, now)
		out = append(out, &personalEnded{ID: id, User: t.User, Status: status, Reason: why})
	}
	return out
}
