package keeper

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// Recovery codes are for when nobody can sign in as usual: so many of their holders
// together start a session of one administrator. Each holder collects his own code,
// once, while he is signed in as usual, so that nobody ever sees two of them, not even
// whoever made the set. Only digests are kept; a code is random enough that they say
// nothing about it.

// A RecoverySet is a set of codes.
type RecoverySet struct {
	ID      string            `json:"id"`
	User    string            `json:"user"`   // whose session the codes start
	Needed  int               `json:"needed"` // of the codes, of as many persons
	Holders []RecoveryHolder  `json:"holders"`
	Made    lockkeeper.Moment `json:"made"`
	By      string            `json:"made_by"`
}

// A RecoveryHolder has one code.
type RecoveryHolder struct {
	User      string            `json:"user"`
	Code      lockkeeper.Digest `json:"code,omitempty"` // "": not collected yet
	Collected lockkeeper.Moment `json:"collected,omitzero"`
	Used      lockkeeper.Moment `json:"used,omitzero"` // zero: it can be used
}

// Bounds of recovery codes.
const (
	leastNeeded     = 2
	maxHolders      = 20
	recoverySession = time.Hour
	recoveryReview  = 72 * time.Hour
)

const recoverySubject = "recovery"

// recoveryMade puts a set in force. Those before it are void.
type recoveryMade struct {
	one
	Set      RecoverySet         `json:"set"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*recoveryMade) kind() string { return "recovery.made" }
func (ev *recoveryMade) subjects() []string {
	return []string{recoverySubject, "user/" + ev.Set.User}
}
func (ev *recoveryMade) apply(s *State, e Entry) error {
	set := ev.Set
	set.Made, set.Holders = e.Time, slices.Clone(set.Holders)
	s.Recovery = &set
	return nil
}

// recoveryCollected is when a holder saw his code.
type recoveryCollected struct {
	one
	Set  string            `json:"set"`
	User string            `json:"user"`
	Code lockkeeper.Digest `json:"code"`
}

func (*recoveryCollected) kind() string          { return "recovery.collected" }
func (ev *recoveryCollected) subjects() []string { return []string{recoverySubject, "user/" + ev.User} }
func (ev *recoveryCollected) apply(s *State, e Entry) error {
	return s.onHolders(ev.Set, []string{ev.User}, func(h *RecoveryHolder) { h.Code, h.Collected = ev.Code, e.Time })
}

// recoveryUsed uses codes up. The session that they start stands behind it.
type recoveryUsed struct {
	one
	Set      string   `json:"set"`
	User     string   `json:"user"`
	Holders  []string `json:"holders"` // whose codes were used
	Session  string   `json:"session"`
	Revision int      `json:"revision"`
}

func (*recoveryUsed) kind() string { return "recovery.used" }
func (ev *recoveryUsed) subjects() []string {
	out := []string{recoverySubject, "user/" + ev.User}
	for _, h := range ev.Holders {
		if h != ev.User {
			out = append(out, "user/"+h)
		}
	}
	return out
}
func (ev *recoveryUsed) apply(s *State, e Entry) error {
	return s.onHolders(ev.Set, ev.Holders, func(h *RecoveryHolder) { h.Used = e.Time })
}

// onHolders changes holders of the set in force, which must be the one that is meant.
func (s *State) onHolders(set string, users []string, change func(*RecoveryHolder)) error {
	if s.Recovery == nil || s.Recovery.ID != set {
		return fmt.Errorf("the recovery codes %s are not in force", set)
	}
	next := *s.Recovery
	next.Holders = slices.Clone(next.Holders)
	for i := range next.Holders {
		if slices.Contains(users, next.Holders[i].User) {
			change(&next.Holders[i])
		}
	}
	s.Recovery = &next
	return nil
}

// makeRecovery names who holds the codes of a new set.
type makeRecovery struct {
	ID      string   `json:"-"`
	User    string   `json:"user"`
	Needed  int      `json:"needed"`
	Holders []string `json:"holders"`
}

func (makeRecovery) name() string  { return "recovery.make" }
func (makeRecovery) about() string { return recoverySubject }

func (c makeRecovery) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	right, err := w.may(by, lockkeeper.EscalateAccess, lockkeeper.Root, now)
	if err != nil {
		return nil, nil, err
	}
	if c.Needed < leastNeeded || len(c.Holders) < c.Needed || len(c.Holders) > maxHolders {
		return nil, nil, lockkeeper.Invalid.Errorf("codes_count", "%d codes of %d holders do not fit: at least %d codes are needed of at most %d holders.", c.Needed, len(c.Holders), leastNeeded, maxHolders).
			WithNext("Name --needed 2 or more, and at least as many --holder.")
	}
	set := RecoverySet{ID: c.ID, User: c.User, Needed: c.Needed, Made: now, By: by.User}
	if !w.present(c.User) || !w.rules.Access.Allowed(c.User, lockkeeper.EscalateAccess, lockkeeper.Root, now) {
		return nil, nil, lockkeeper.Invalid.Errorf("recovery_user_unfit", "%.63q is no user who administers the organisation.", c.User).WithNext("Name a user to whom access/escalate at / is assigned.").WithField(c.User)
	}
	seen := []lockkeeper.Person{}
	for _, h := range c.Holders {
		persons := w.persons(h)
		if !w.present(h) || common(persons, seen) {
			return nil, nil, lockkeeper.Invalid.Errorf("holder_unfit", "%.63q is no user who can hold a code, or the same person as another holder.", h).
				WithNext("Name users of distinct persons who may sign in; an account counts as its maker until its owner has proved himself.")
		}
		seen = append(seen, persons...)
		set.Holders = append(set.Holders, RecoveryHolder{User: h})
	}
	told := append(slices.Clone(c.Holders), w.rules.Access.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now)...)
	if w.Recovery != nil {
		for _, h := range w.Recovery.Holders {
			told = append(told, h.User)
		}
	}
	text := fmt.Sprintf("%s made new recovery codes for %s, of which %d are needed; those before are void. Holders collect theirs: lockkeeper recovery collect", by.User, c.User, c.Needed)
	return append(notice(c.ID, aboutRecovery, recoverySubject, text, told), &recoveryMade{Set: set, Right: right, Revision: w.Revision.Number}), opened{c.ID}, nil
}

// present reports whether a user of the catalog may do anything at all.
func (w *world) present(user string) bool {
	u, known := w.rules.Catalog.Users[user]
	return known && !u.Off && !u.Automation && w.quarantined(user) == nil
}

// collectRecovery gives a holder his code.
type collectRecovery struct {
	Code lockkeeper.Digest `json:"-"`
}

func (collectRecovery) name() string  { return "recovery.collect" }
func (collectRecovery) about() string { return recoverySubject }

func (c collectRecovery) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if w.Recovery != nil {
		for _, h := range w.Recovery.Holders {
			switch {
			case h.User != by.User:
			case h.Code != "":
				return nil, nil, lockkeeper.Conflict.Errorf("code_collected", "Your code was collected at %s, and it is shown once.", h.Collected).
					WithNext("If that was not you, or the code is lost, have a new set made: lockkeeper recovery make")
			case len(w.persons(by.User)) > 1:
				return nil, nil, lockkeeper.Forbidden.Errorf("account_unproven", "Your account counts as whoever made it, who might hold a code himself.").WithNext("Prove yourself first: lockkeeper accounts challenge")
			default:
				return []event{&recoveryCollected{Set: w.Recovery.ID, User: by.User, Code: c.Code}}, opened{w.Recovery.ID}, nil
			}
		}
	}
	return nil, nil, lockkeeper.Forbidden.Errorf("no_holder", "You hold no recovery code.").WithNext("Ask an organisation administrator to name you: lockkeeper recovery make")
}

// useRecovery starts a session with codes.
type useRecovery struct {
	Codes   []lockkeeper.Digest
	Session Session
	Review  string
}

func (useRecovery) name() string  { return "recovery.use" }
func (useRecovery) about() string { return recoverySubject }

// errRecovery is the one answer to codes that start nothing, whatever is wrong.
func errRecovery() error {
	return lockkeeper.Unauthenticated.Errorf("recovery_codes_wrong", "These codes start nothing.").
		WithNext("Bring enough codes of the set in force, of distinct holders, none of which was used.")
}

// decide takes the codes all or none: what is short, or has a wrong one in it, uses
// nothing up. Every code is compared with every digest, in the same time.
func (c useRecovery) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	set := w.Recovery
	if set == nil || !w.present(set.User) || !w.rules.Access.Allowed(set.User, lockkeeper.EscalateAccess, lockkeeper.Root, now) || len(c.Codes) > maxHolders {
		return nil, nil, errRecovery()
	}
	if err := w.held(set.User); err != nil {
		return nil, nil, errRecovery()
	}
	found := make([]int, len(c.Codes)) // 1: of somebody
	hit := make([]int, len(set.Holders))
	for i, code := range c.Codes {
		for j, h := range set.Holders {
			same := subtle.ConstantTimeCompare([]byte(code), []byte(h.Code))
			found[i] |= same
			hit[j] |= same
		}
	}
	var holders []string
	var seen []lockkeeper.Person
	for j, h := range set.Holders {
		if hit[j] == 0 {
			continue
		}
		persons := w.persons(h.User)
		if h.Code == "" || !h.Used.IsZero() || !w.present(h.User) || common(persons, seen) {
			return nil, nil, errRecovery()
		}
		holders, seen = append(holders, h.User), append(seen, persons...)
	}
	if slices.Contains(found, 0) || len(holders) < set.Needed {
		return nil, nil, errRecovery()
	}
	s := c.Session
	s.User, s.Started, s.Expires, s.Authenticated, s.Recovery, s.Behind = set.User, now, now.Add(recoverySession), now, c.Review, seen
	reason := fmt.Sprintf("The recovery codes of %s started a session of %s.", strings.Join(holders, ", "), set.User)
	review := Review{ID: c.Review, About: aboutRecovery, User: set.User, Persons: append(w.persons(set.User), seen...), Scope: lockkeeper.Root, Reason: reason,
		Opened: now, Due: now.Add(recoveryReview), Demands: []ReviewDemand{{Count: 1}}}
	told := append(w.rules.Access.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now), w.rules.Access.WhoCan(lockkeeper.ReadJournal, lockkeeper.Root, now)...)
	for _, h := range set.Holders {
		told = append(told, h.User)
	}
	events := notice(c.Review, aboutRecovery, recoverySubject, reason, told)
	return append(events, &recoveryUsed{Set: set.ID, User: set.User, Holders: holders, Session: s.ID, Revision: w.Revision.Number},
		&reviewOpened{Review: review, Revision: w.Revision.Number}, &sessionStarted{Session: s}), s, nil
}

// recovered refuses what a session that codes started may not do. It mends who may
// enter and stops what runs; it approves nothing, deploys nothing and closes nothing,
// for nobody can say which of several persons it is.
func (w *world) recovered(by Caller, cmd command) error {
	s := w.Sessions[by.Session]
	if by.Session == "" || s == nil || s.Recovery == "" {
		return nil
	}
	switch cmd.(type) {
	case applyCatalog, inviteAccount, endSession, useSession, endActivation, openIncident, extendIncident, revokeLease, revokeToken, recallToken, cancelDeployment, rotateKey:
		return nil
	}
	return lockkeeper.Forbidden.Errorf("recovery_session", "A session that recovery codes started may not do this.").
		WithNext("Mend the way in (lockkeeper apply, accounts invite), and sign in as yourself.")
}

// behind are the persons of whom the caller may be any beside his user's own: the
// holders of the codes that started his session.
func (w *world) behind(by Caller) []lockkeeper.Person {
	if s := w.Sessions[by.Session]; by.Session != "" && s != nil {
		return s.Behind
	}
	return nil
}

// MakeRecovery names the holders of new recovery codes for a user's session, of which
// so many are needed. Codes of before are void.
func (k *Keeper) MakeRecovery(ctx context.Context, by Caller, user string, needed int, holders []string) error {
	_, err := do[opened](ctx, k, by, "", makeRecovery{newID("k"), user, needed, holders})
	return err
}

// CollectRecovery gives the caller the code that he holds. It is shown once and kept
// nowhere.
func (k *Keeper) CollectRecovery(ctx context.Context, by Caller) (string, error) {
	code := newSecret("lkr_")
	_, err := do[opened](ctx, k, by, "", collectRecovery{secretDigest(code)})
	if err != nil {
		return "", err
	}
	return code, nil
}

// Attempts to use codes are limited by source as closely as sign-ins of one account,
// and all together. A code has 160 random bits; this keeps the log and the writer free.
var perRecovery = pace{20, time.Second}

// UseRecovery starts a session with enough codes of distinct holders. Every failure has
// the same answer and uses nothing up.
func (k *Keeper) UseRecovery(ctx context.Context, codes []string, source string) (secret string, s Session, err error) {
	if err := k.throttle("recovery of "+source, perAccount); err != nil {
		return "", s, err
	}
	if err := k.throttle("recovery", perRecovery); err != nil {
		return "", s, err
	}
	var digests []lockkeeper.Digest
	for _, c := range codes[:min(len(codes), maxHolders+1)] {
		digests = append(digests, secretDigest(strings.TrimSpace(c)))
	}
	id := newID("s")
	secret = newSecret("lkp_" + strings.TrimPrefix(id, "s-") + "_")
	s, err = do[Session](ctx, k, Caller{}, "", useRecovery{digests, Session{ID: id, Secret: secretDigest(secret)}, newID("v")})
	if err != nil {
		return "", s, err
	}
	return secret, s, nil
}

// RecoveryCodes is the set in force, without its digests, for its holders and for
// whoever may read who holds what at /; empty: there is none.
func (k *Keeper) RecoveryCodes(by Caller) (RecoverySet, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	set := w.Recovery
	if set == nil || !slices.ContainsFunc(set.Holders, func(h RecoveryHolder) bool { return h.User == by.User && by.User != "" && by.Token == "" }) {
		if _, err := w.may(by, lockkeeper.ReadAccess, lockkeeper.Root, now); err != nil || set == nil {
			return RecoverySet{}, err
		}
	}
	out := *set
	out.Holders = slices.Clone(set.Holders)
	for i := range out.Holders {
		out.Holders[i].Code = ""
	}
	return out, nil
}
