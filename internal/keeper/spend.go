package keeper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An activation may be bounded in how many decisions rest on it, and bound to the
// session that began it.
//
// A use is one command that was permitted, that was recorded, and one of whose rights
// rested on the activation: an approval, a start of a deployment, an end of one, a
// change of the catalog, a token, a credential. It counts in the decision itself, so
// that two commands at once are never one use. What is only looked at leaves no entry
// and counts for none.
//
// An activation without a use left gives nothing new. What it gave already, a
// deployment that it started, a token, an account outside, goes on for its own time;
// once nothing of that is left the activation is over.

// A spend is one use of an activation that has a bound.
type spend struct {
	Activation string `json:"activation"`
	// About is what goes on by virtue of it: "deployment/ID", "token/ID"; "": nothing
	// does, or only as long as the activation does.
	About string `json:"about,omitempty"`
}

const (
	activationSpent     = "spent"      // all its uses were made
	activationSignedOut = "signed_out" // the session that it was bound to has ended
)

// spendable is the part of a decision that names the activation it rests on.
func spendable(a *Activation, end lockkeeper.Moment) lockkeeper.Decision {
	return lockkeeper.Decision{Subject: activationSubject(a.ID), Verdict: lockkeeper.Pass, Code: "activation_live", Until: &end, Sentence: fmt.Sprintf("It is active until %s.", a.Ends)}
}

// restedOn lists the activations that a decision names as giving what it permits.
func (w *world) restedOn(d lockkeeper.Decision, into []string) []string {
	if id, is := strings.CutPrefix(d.Subject, activationSubject("")); is && d.Code == "activation_live" && d.Verdict == lockkeeper.Pass && !slices.Contains(into, id) {
		into = append(into, id)
	}
	for _, b := range d.Because {
		into = w.restedOn(b, into)
	}
	return into
}

// spend notes that the command being decided uses an activation, and what goes on by
// it. One command is one use.
func (w *world) spend(id, about string) {
	a := w.Activations[id]
	if w.spends == nil || a == nil || a.Uses == 0 {
		return
	}
	for i, s := range *w.spends {
		if s.Activation == id {
			if s.About == "" {
				(*w.spends)[i].About = about
			}
			return
		}
	}
	*w.spends = append(*w.spends, spend{id, about})
}

// noteSpends folds the uses that the command of an entry made. An activation that the
// same command ended has nothing more to count.
func (s *State) noteSpends(e Entry) {
	for _, x := range e.Spent {
		if a := s.Activations[x.Activation]; a != nil {
			used := *a // readers may hold the old one
			used.Used++
			if x.About != "" {
				used.Gave = append(slices.Clone(a.Gave), x.About)
			}
			s.Activations[a.ID] = &used
		}
	}
}

// spent reports whether no use is left.
func (a *Activation) spent() bool { return a.Uses > 0 && a.Used >= a.Uses }

// gives reports whether an activation gives anything for what a decision is about, to
// whoever decides: in the session that it is bound to, and with a use left, unless it
// was used for that already.
func (w *world) gives(a *Activation) bool {
	if a.Session != "" && a.Session != w.sitting && !w.atLarge {
		return false
	}
	return !a.spent() || w.going != "" && slices.Contains(a.Gave, w.going)
}

// goesOnFor reports whether something that a spent activation gave is there still: an
// account outside lasts until the activation ends.
func (w *world) goesOnFor(a *Activation, now lockkeeper.Moment) bool {
	if len(a.Opens) > 0 {
		return true
	}
	for _, about := range a.Gave {
		kind, id, _ := strings.Cut(about, "/")
		switch kind {
		case "deployment":
			if w.goesOn(id, now) {
				return true
			}
		case "token":
			if t := w.PersonTokens[id]; t != nil && !t.Revoked && now.Before(t.Expires) {
				return true
			}
		}
	}
	return false
}

// overBy says why an activation with uses or a session has ended before its time; "":
// it has not.
func (w *world) overBy(a *Activation, now lockkeeper.Moment) (status, why string) {
	if a.Session != "" && !w.past {
		if s := w.Sessions[a.Session]; s == nil || s.User != a.User || w.sessionOver(s, now) != "" {
			return activationSignedOut, "The session that began it has ended."
		}
	}
	if a.spent() && !w.goesOnFor(a, now) {
		return activationSpent, fmt.Sprintf("It was used %d times, as often as it may be.", a.Used)
	}
	return "", ""
}

// in is the world as it is decided for a caller: what is bound to his session counts.
func (w *world) in(by Caller) *world { return w.sat(by.Session) }

// sat is the world in which a session decides; "": none does.
func (w *world) sat(session string) *world {
	if w.sitting == session {
		return w
	}
	other := *w
	other.sitting = session
	return &other
}

// everywhere is the world in which it is asked who could: a reader of the answer must
// not be told less than there is because he sits in another session.
func (w *world) everywhere() *world {
	other := *w
	other.atLarge = true
	return &other
}

// on is the world in which a decision is about something that may go on by virtue of
// a use that was made for it.
func (w *world) on(about string) *world {
	other := *w
	other.going = about
	return &other
}

// usesLimit is how often what is asked for may be used: as the rules of now say and
// as was asked for, whichever is less; 0: as often as one likes.
func (d demands) usesLimit(asked int) int {
	if d.uses > 0 && (asked == 0 || d.uses < asked) {
		return d.uses
	}
	return asked
}

// bind gives a new activation its bounds, or refuses where they cannot be kept.
func (w *world) bind(a *Activation, r *Request, by Caller) error {
	d := w.demandsOn(a.Role, a.Scope)
	if a.Run != nil {
		return nil // it is for one job and one deployment
	}
	a.Uses = d.usesLimit(r.Uses)
	if !d.bound && !r.Bound {
		return nil
	}
	if by.Session == "" {
		return lockkeeper.Forbidden.Errorf("session_needed", "%s is active in the session that begins it, and you come with none.", a.Role).WithNext("Sign in: lockkeeper login")
	}
	a.Session = by.Session
	return nil
}

// bindsAs refuses to make an activation longer from another session than its own.
func (w *world) bindsAs(r *Request, by Caller) error {
	a := w.Activations[r.Extends]
	if a == nil || r.Run != nil {
		return nil
	}
	if bound := r.Bound || w.demandsOn(r.Role, r.Scope).bound; (bound || a.Session != "") && a.Session != by.Session {
		return lockkeeper.Forbidden.Errorf("session_other", "The activation %s can be made longer only in the session that began it, and that is bound to it.", a.ID).WithNext("Make it longer where you began it, or activate the role here.")
	}
	return nil
}

// usesFit judges how many uses were asked for.
func (d demands) usesFit(r *Request) (lockkeeper.Decision, bool) {
	if r.Uses == 0 || d.uses == 0 || r.Uses <= d.uses {
		return lockkeeper.Decision{}, true
	}
	return lockkeeper.Decision{Subject: "rules", Verdict: lockkeeper.Fail, Code: "uses_many", Sentence: fmt.Sprintf("%s may be used %d times in one activation, and %d were asked for.", r.Role, d.uses, r.Uses),
		Next: fmt.Sprintf("Ask for --uses %d or less.", d.uses)}, false
}

// maxAskedUses bounds the uses that can be asked for.
const maxAskedUses = 1000

// boundsOf adds to the demands what a rule says of uses and session.
func (d *demands) boundsOf(r catalog.ActivationRule) {
	if r.Uses > 0 && (d.uses == 0 || r.Uses < d.uses) {
		d.uses = r.Uses
	}
	d.bound = d.bound || r.Bound == catalog.BoundToSession
	if t := r.TicketCall; t != nil {
		d.calls = append(d.calls, RuleCall{Rule: r.Name, Call: t.Call, WhenAway: t.WhenAway})
	}
}

// ratherThan reports whether a right is rather rested on a than on b: on one whose uses
// nobody counts, then on one that ends later.
func (a *Activation) ratherThan(b *Activation) bool {
	if (a.Uses == 0) != (b.Uses == 0) {
		return a.Uses == 0
	}
	return b.Ends.Before(a.Ends) || a.Ends == b.Ends && a.ID < b.ID
}

// credentialLeft counts the credential of an account as a use of the activation that
// opened it, or refuses: no use is left, or this is another session than the one that
// it is bound to.
func (w *world) credentialLeft(d *Duty, by Caller) error {
	a := w.Activations[d.Activation]
	switch {
	case a == nil:
		return nil // which finished says
	case a.Session != "" && a.Session != by.Session:
		return lockkeeper.Forbidden.Errorf("session_other", "The activation %s is bound to the session that began it, and this is another one.", a.ID).WithNext("Ask where you began it, or activate the role here.")
	case a.spent():
		return lockkeeper.Forbidden.Errorf("uses_spent", "The activation %s was used %d times, as often as it may be.", a.ID, a.Used).WithNext("Activate the role anew: lockkeeper eligible")
	}
	w.spend(a.ID, "")
	return nil
}
