package keeper

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A rule may ask that whoever activates a role, or approves, has shown a credential
// not long ago, and more than a password: a sign-in of this morning says little about
// who sits before the machine now.

// signedIn is when the person of a session last showed a credential, and whether with
// more than a password. Zero: nobody says.
func (s *Session) signedIn() (at lockkeeper.Moment, strong bool) {
	switch {
	case s == nil:
		return lockkeeper.Moment{}, false
	case s.Authenticated.IsZero() && s.Directory == "":
		return s.Started, s.Strong // of a release that did not write it down
	}
	return s.Authenticated, s.Strong
}

// A proof is what a rule asks of a sign-in. The zero value asks for nothing.
type proof struct {
	age    time.Duration // how old it may be; 0: as old as it likes
	strong bool
}

func (p proof) asks() bool { return p != proof{} }

// and is what two rules ask together.
func (p proof) and(o proof) proof {
	if p.age == 0 || o.age > 0 && o.age < p.age {
		p.age = o.age
	}
	p.strong = p.strong || o.strong
	return p
}

// judge decides whether the caller's sign-in is what is asked for at now.
func (p proof) judge(w *world, by Caller, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: "sign-in", Verdict: lockkeeper.Fail, Code: "step_up_needed",
		Next: "Show a credential again: lockkeeper step-up, or lockkeeper login --anew"}
	at, strong := w.Sessions[by.Session].signedIn()
	switch {
	case at.IsZero():
		d.Sentence = "Nobody says when you last showed a credential."
	case p.age > 0 && now.Sub(at) > p.age:
		d.Sentence = fmt.Sprintf("You last showed a credential at %s, and this takes one within %s.", at, p.age)
	case p.strong && !strong:
		d.Sentence = "You signed in with a password alone, and this takes a second factor."
	default:
		d.Verdict, d.Code, d.Next = lockkeeper.Pass, "signed_in", ""
		d.Sentence = fmt.Sprintf("You showed a credential at %s.", at)
	}
	return d
}

// stepUp is what all rules ask of the sign-in with which an activation is begun.
func (d demands) stepUp() proof {
	var p proof
	for _, r := range d.rules {
		p = p.and(proof{time.Duration(r.StepUp), r.Strong})
	}
	return p
}

// steppedUp judges the sign-in with which a request is begun: by what the rules ask
// now, and by what they asked when it was made. It passes, with nothing to say, where
// neither asks.
func (w *world) steppedUp(r *Request, by Caller, now lockkeeper.Moment) (d lockkeeper.Decision, asked bool) {
	p := w.demandsOn(r.Role, r.Scope).stepUp().and(proof{r.StepUp, r.Strong})
	if !p.asks() {
		return lockkeeper.Decision{}, false
	}
	d = p.judge(w, by, now)
	if r.Run != nil && !d.Passed(now) {
		d.Sentence, d.Next = "The rules ask for a person's sign-in, and a job has none.", "Take stepUp and strong out of the rules for this role, or let a person activate it"
	}
	return d, true
}
