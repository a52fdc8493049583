package keeper

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/journal"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"golang.org/x/mod/sumdb/note"
)

// A log that lost its end, because an older copy was put back, no longer knows
// what was revoked since. Going on from it is a decision of whoever runs the
// machine, it is an entry, and it brings nothing back to life: every deployment,
// lease, session, invitation and signing key of the older copy ends with it, and
// one administrator, whom the machine's owner names, must confirm what the older
// catalog allows before anybody else enters or anything is deployed.

// epochOpened begins an epoch.
type epochOpened struct {
	one
	Number    int                 `json:"number"`
	Kept      int64               `json:"kept"`           // entries that the older copy has
	Lost      int64               `json:"lost"`           // entries that the last checkpoint was signed over beyond these; -1: not known
	Last      string              `json:"last,omitempty"` // that checkpoint
	Confirmer string              `json:"confirmer"`      // the user who alone may enter
	Reason    string              `json:"reason"`         //
	Keys      map[string]FreshKey `json:"keys"`           // by algorithm; all others are published no more
	Revision  int                 `json:"revision"`       // of the catalog in the older copy
	// Log, if the sealed store was lost, names the keys that vouch from now on.
	// Nobody has a password any more; Invitation is how the confirmer gets one.
	Log        *Log        `json:"log,omitempty"`
	Invitation *Invitation `json:"invitation,omitempty"`
}

// A FreshKey is what a ring begins with again.
type FreshKey struct {
	Active string `json:"active"`
	Next   string `json:"next"`
}

const epochSubject = "epoch"

func (*epochOpened) kind() string       { return "epoch.opened" }
func (*epochOpened) rejoins()           {}
func (*epochOpened) subjects() []string { return []string{epochSubject, "keys"} }
func (ev *epochOpened) apply(s *State, e Entry) error {
	if ev.Number != max(s.Epoch.Number, 1)+1 {
		return fmt.Errorf("the epoch %d does not follow %d", ev.Number, max(s.Epoch.Number, 1))
	}
	if len(s.Deployments) > 0 {
		return fmt.Errorf("%d deployments are alive when an epoch begins", len(s.Deployments))
	}
	s.Epoch = Epoch{Number: ev.Number, Since: e.Time, Held: ev.Confirmer}
	clear(s.Sessions)
	clear(s.Requests)
	clear(s.Shared)
	clear(s.Proposals)
	clear(s.Activations)
	clear(s.PersonTokens)
	s.forgetStretches() // what stood may have gone since
	clear(s.Campaigns)  // verdicts may be lost, and what was to be kept must not go
	if !s.Observed.IsZero() {
		s.Observed = e.Time // so may uses
	}
	s.Recovery = nil // the older copy does not know which codes were used since
	clear(s.PersonalTokens)
	s.Answers, s.AnswerOrder = map[string]Answer{}, nil
	for key, m := range s.Members { // what was said since may be lost: it grants nothing until it is said again
		older := *m
		older.Said = lockkeeper.Moment{}
		s.Members[key] = &older
	}
	for _, a := range s.Accounts {
		a.Invitation, a.Challenge = nil, nil
	}
	s.endTokens(e.Time)
	if ev.Log != nil {
		s.Log = *ev.Log
		for _, a := range s.Accounts {
			a.Credential = ""
		}
		clear(s.Factors) // what they are checked with is lost, too
		a := s.Accounts[ev.Confirmer]
		if a == nil {
			return fmt.Errorf("there is no account %s", ev.Confirmer)
		}
		a.Invitation = ev.Invitation
	}
	s.Setup.Code = ""
	for algorithm, k := range ev.Keys {
		s.Keys[algorithm] = &KeyRing{Active: k.Active, Next: k.Next, Since: e.Time}
	}
	return nil
}

// epochConfirmed lets everybody in again.
type epochConfirmed struct {
	one
	User     string `json:"user"`
	Comment  string `json:"comment,omitempty"`
	Revision int    `json:"revision"` // of the catalog that was confirmed
}

func (*epochConfirmed) kind() string          { return "epoch.confirmed" }
func (ev *epochConfirmed) subjects() []string { return []string{epochSubject, "user/" + ev.User} }
func (ev *epochConfirmed) apply(s *State, _ Entry) error {
	if s.Epoch.Held != ev.User {
		return fmt.Errorf("it was not for %s to confirm the epoch", ev.User)
	}
	s.Epoch.Held = ""
	return nil
}

// held refuses everybody but the one who must confirm what an older copy of the
// log allows.
func (w *world) held(user string) error {
	if w.Epoch.Held == "" || w.Epoch.Held == user {
		return nil
	}
	return lockkeeper.Unavailable.Errorf("recovery_unconfirmed", "This log went on from an older copy at %s, and %s has not confirmed yet what that allows; until then nobody else enters and nothing is deployed.", w.Epoch.Since, w.Epoch.Held).
		WithNext("Ask %s to look at the catalog, mend it, and run: lockkeeper recover confirm --revision N", w.Epoch.Held)
}

// openEpoch begins an epoch on an older copy of the log.
type openEpoch struct {
	Number    int
	Lost      journal.Lost
	Restored  bool // the last checkpoint is as old as the copy
	Confirmer string
	Reason    string
	Keys      map[string]FreshKey
	Log       *Log              // if the sealed store was lost
	Code      lockkeeper.Digest // of the confirmer's invitation then
}

func (openEpoch) name() string  { return "epoch.open" }
func (openEpoch) about() string { return epochSubject }
func (c openEpoch) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	invalid := lockkeeper.Invalid
	switch a := w.Accounts[c.Confirmer]; {
	case !by.Keeper:
		return nil, nil, lockkeeper.Forbidden.Errorf("machine_only", "Only whoever runs the server's machine may do this.")
	case c.Reason == "" || len(c.Reason) > maxComment:
		return nil, nil, invalid.Errorf("reason_missing", "Say why, in 1 to %d bytes: it stands in the log for ever.", maxComment).WithNext("Add --reason.")
	case a == nil || a.Credential == "" && c.Log == nil || w.quarantined(c.Confirmer) != nil || !w.rules.Access.Allowed(c.Confirmer, lockkeeper.EscalateAccess, lockkeeper.Root, now):
		return nil, nil, invalid.Errorf("administrator_unfit", "%.63q is nobody who can sign in and administers the organisation, by the older copy.", c.Confirmer).
			WithNext("Name one of: %v.", w.administrators(now)).WithField("administrator")
	}
	var out []event
	for _, id := range slices.Sorted(maps.Keys(w.Deployments)) {
		out = append(out, w.forgotten(w.Deployments[id], now))
	}
	ev := &epochOpened{Number: c.Number, Kept: w.Size, Lost: -1, Confirmer: c.Confirmer, Reason: c.Reason, Keys: c.Keys, Revision: w.Revision.Number}
	if c.Log != nil {
		ev.Log, ev.Invitation = c.Log, &Invitation{Code: c.Code, By: c.Confirmer, Expires: now.Add(invitationLife)}
	}
	if c.Lost.Known && !c.Restored && c.Lost.Size >= w.Size {
		ev.Lost, ev.Last = c.Lost.Size-w.Size, string(c.Lost.Checkpoint)
	}
	return append(out, ev), *ev, nil
}

// forgotten ends a deployment whose later life the log does not know.
func (w *world) forgotten(d *Deployment, now lockkeeper.Moment) event {
	end := End{Status: Cancelled, At: now, Reason: "The log went on from an older copy."}
	if d.Status == Running {
		end.Status, end.Reason = Indeterminate, "The log went on from an older copy, and does not know how this went."
	}
	end.TokensOutside, end.OutsideTill = d.residue(now)
	return w.ended(d, end)
}

// administrators are the users who can sign in and administer the organisation.
func (w *world) administrators(now lockkeeper.Moment) []string {
	return slices.DeleteFunc(w.rules.Access.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now), func(user string) bool {
		return w.Accounts[user] == nil || w.Accounts[user].Credential == "" || w.quarantined(user) != nil
	})
}

// confirmEpoch says that what the older copy allows is right.
type confirmEpoch struct {
	Revision int    `json:"revision"` // that the administrator looked at
	Comment  string `json:"comment,omitempty"`
}

func (confirmEpoch) name() string  { return "epoch.confirm" }
func (confirmEpoch) about() string { return epochSubject }
func (c confirmEpoch) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.EscalateAccess, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	switch {
	case w.Epoch.Held == "":
		return nil, nil, lockkeeper.Conflict.Errorf("nothing_to_confirm", "Nothing waits for a confirmation.")
	case c.Revision != w.Revision.Number:
		return nil, nil, lockkeeper.Conflict.Errorf("revision_moved", "The catalog is at revision %d, and you looked at %d.", w.Revision.Number, c.Revision).
			WithNext("Look at it again: lockkeeper catalog show")
	case len(c.Comment) > maxComment:
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The comment has %d bytes, more than %d.", len(c.Comment), maxComment)
	}
	return []event{&epochConfirmed{User: by.User, Comment: c.Comment, Revision: c.Revision}}, nil, nil
}

// ConfirmEpoch says, for the user who alone may, that what the older copy of the
// log allows at a revision of the catalog is right, and lets everybody in.
func (k *Keeper) ConfirmEpoch(ctx context.Context, by Caller, revision int, comment string) error {
	_, err := do[any](ctx, k, by, "", confirmEpoch{revision, comment})
	return err
}

// A Recovery is what Recover asks for.
type Recovery struct {
	Administrator string // the user who alone may enter until he has confirmed
	Reason        string
	Restored      bool // everything is an older copy, the checkpoint outside too
	// LostKeys is the public keys of the log up to here, if the sealed store with
	// the private ones and with everybody's passwords is lost.
	LostKeys *Trust
}

// Recovered says what Recover did.
type Recovered struct {
	Epoch    int    `json:"epoch"`
	Kept     int64  `json:"kept"`           // entries that the older copy has
	Lost     int64  `json:"lost"`           // entries beyond these that were signed; -1: not known
	Ended    int    `json:"ended"`          // deployments that were alive in the older copy
	Revision int    `json:"revision"`       // of the catalog in it
	Log      string `json:"log"`            // name of the log from now on
	Code     string `json:"code,omitempty"` // the administrator's invitation, if the passwords are lost
}

// Recover lets the log of a folder that no server uses go on from an older copy:
// it begins an epoch that ends all that was active. It refuses a log that lost
// nothing, and one that was tampered with.
func Recover(ctx context.Context, o Options, r Recovery) (out Recovered, err error) {
	if err := journal.Exists(o.Dir); err != nil {
		return out, err
	}
	k := &Keeper{options: o.filled()}
	defer k.release()
	if k.lock, err = journal.LockFolder(o.Dir); err != nil {
		return out, err
	}
	if k.sealed, err = journal.OpenSealed(ctx, o.Dir); err != nil {
		return out, err
	}
	if k.keys, err = openKeys(ctx, k.sealed, k.options.Origin, r.LostKeys != nil); err != nil {
		return out, err
	}
	k.ring.sealed = k.sealed
	var was note.Verifier
	if r.LostKeys != nil {
		if was, err = r.LostKeys.Verifier(); err != nil {
			return out, err
		}
	}
	_, err = journal.Recover(ctx, k.journalOptions(), was, r.Restored, func(j *journal.Journal, lost journal.Lost) (journal.Batch, error) {
		batch, done, err := k.openEpoch(ctx, j, lost, r)
		out = done
		return batch, err
	})
	return out, err
}

// openEpoch decides the first batch of an epoch on the journal's own fold.
func (k *Keeper) openEpoch(ctx context.Context, j *journal.Journal, lost journal.Lost, r Recovery) (journal.Batch, Recovered, error) {
	k.journal = j
	defer func() { k.journal = nil }()
	if err := k.reload(ctx); err != nil {
		return journal.Batch{}, Recovered{}, err
	}
	mine := k.keys.log(k.options.Origin)
	if lostKeys := r.LostKeys != nil; k.work.Size == 0 || lostKeys == (k.work.Log == mine) {
		return journal.Batch{}, Recovered{}, lockkeeper.Conflict.Errorf("keys_differ", "Whether the sealed store holds the keys that the journal names is not as you say.").
			WithNext("If sealed.db and sealed.key are there, recover without --lost-keys; if they are lost, move what is left of them away and say --lost-keys.")
	}
	c := openEpoch{Number: j.Epoch() + 1, Lost: lost, Restored: r.Restored, Confirmer: r.Administrator, Reason: r.Reason, Keys: map[string]FreshKey{}}
	code := ""
	if r.LostKeys != nil {
		code = newSecret("lki_")
		c.Log, c.Code = &mine, secretDigest(code)
	}
	for _, algorithm := range token.SigningAlgorithms() {
		active, err := k.ring.make(ctx, algorithm)
		if err != nil {
			return journal.Batch{}, Recovered{}, err
		}
		next, err := k.ring.make(ctx, algorithm)
		if err != nil {
			return journal.Batch{}, Recovered{}, err
		}
		c.Keys[algorithm] = FreshKey{active, next}
	}
	now := lockkeeper.MomentOf(k.options.Clock())
	if now.Before(k.work.Now) {
		now = k.work.Now
	}
	alive, batch := len(k.work.Deployments), journal.Batch{Size: k.work.Size}
	s, err := k.work.step(Caller{Keeper: true}, "", c, now)
	if err = cmp.Or(err, s.err); err != nil {
		return batch, Recovered{}, err
	}
	batch.Records = s.records
	ev := s.answer.(epochOpened)
	return batch, Recovered{Epoch: ev.Number, Kept: ev.Kept, Lost: ev.Lost, Ended: alive, Revision: ev.Revision,
		Log: journal.EpochOrigin(k.options.Origin, ev.Number), Code: code}, nil
}
