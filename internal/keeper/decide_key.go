package keeper

import (
	"fmt"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

const (
	// keyPublished is how long a key is published before it signs: longer than
	// targets keep a key set.
	keyPublished = 24 * time.Hour
	// keyRetires is how long a key is published after it signed last: the longest
	// life of a token, and as long as targets keep a key set.
	keyRetires = 25 * time.Hour
	// keyAge is when a key is replaced by itself.
	keyAge = 90 * 24 * time.Hour
	// maxRetired bounds the keys of one algorithm that are published beside the
	// active and the next one: clouds take few keys.
	maxRetired = 2
)

// keyBegun starts the ring of an algorithm.
type keyBegun struct {
	one
	Algorithm string `json:"algorithm"`
	Active    string `json:"active"`
	Next      string `json:"next"`
}

func (*keyBegun) kind() string       { return "key.begun" }
func (*keyBegun) subjects() []string { return []string{"keys"} }
func (ev *keyBegun) apply(s *State, e Entry) error {
	if s.Keys[ev.Algorithm] != nil {
		return fmt.Errorf("there are keys for %s already", ev.Algorithm)
	}
	s.Keys[ev.Algorithm] = &KeyRing{Active: ev.Active, Next: ev.Next, Since: e.Time}
	return nil
}

// keyRotated makes the next key the active one and publishes another next.
type keyRotated struct {
	one
	Algorithm string            `json:"algorithm"`
	Active    string            `json:"active"`
	Next      string            `json:"next"`
	Retired   string            `json:"retired"`
	Until     lockkeeper.Moment `json:"until"` // when the retired one is published no more
	Reason    string            `json:"reason,omitempty"`
}

func (*keyRotated) kind() string       { return "key.rotated" }
func (*keyRotated) subjects() []string { return []string{"keys"} }
func (ev *keyRotated) apply(s *State, e Entry) error {
	r := s.Keys[ev.Algorithm]
	if r == nil || r.Active != ev.Retired {
		return fmt.Errorf("%s is not the active key for %s", ev.Retired, ev.Algorithm)
	}
	retired := []RetiredKey{{ev.Retired, ev.Until}}
	for _, k := range r.Retired {
		if e.Time.Before(k.Until) {
			retired = append(retired, k)
		}
	}
	s.Keys[ev.Algorithm] = &KeyRing{Active: ev.Active, Next: ev.Next, Since: e.Time, Retired: retired}
	return nil
}

// beginKeys starts the ring of an algorithm, once.
type beginKeys struct{ Algorithm, Active, Next string }

func (beginKeys) name() string  { return "key.begin" }
func (beginKeys) about() string { return "keys" }
func (c beginKeys) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper || w.Keys[c.Algorithm] != nil {
		return nil, nil, nil
	}
	return []event{&keyBegun{Algorithm: c.Algorithm, Active: c.Active, Next: c.Next}}, nil, nil
}

// rotateKey makes the next key sign.
type rotateKey struct {
	Algorithm string
	Made      string // id of the key that becomes the next; it rests in the sealed store already
	Emergency bool   // the active key is in somebody else's hands: it is published no more
	Reason    string
}

func (rotateKey) name() string  { return "key.rotate" }
func (rotateKey) about() string { return "keys" }

// decide refuses to sign with a key that targets may not have seen yet, unless
// the old one is worse.
func (c rotateKey) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if !by.Keeper {
		if _, err := w.may(by, lockkeeper.RotateKeys, lockkeeper.Root, now); err != nil {
			return nil, nil, err
		}
	}
	r := w.Keys[c.Algorithm]
	if r == nil {
		return nil, nil, lockkeeper.Invalid.Errorf("algorithm_unknown", "There are no keys for %.20q.", c.Algorithm).WithNext("Name ES256 or RS256.")
	}
	if len(c.Reason) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The reason has %d bytes, more than %d.", len(c.Reason), maxComment)
	}
	until := now.Add(keyRetires)
	if c.Emergency {
		until = now
	} else {
		if ready := r.Since.Add(keyPublished); now.Before(ready) {
			return nil, nil, lockkeeper.Conflict.Errorf("key_too_fresh", "The next key was published at %s, and targets may not have it before %s.", r.Since, ready).
				WithNext("Rotate after that; if the active key is in somebody else's hands, say --emergency.")
		}
		if n := len(r.published(now)) - 2; n >= maxRetired {
			return nil, nil, lockkeeper.Conflict.Errorf("keys_many", "%d retired keys are published still.", n).WithNext("Rotate when the first of them has ended.")
		}
	}
	return []event{&keyRotated{Algorithm: c.Algorithm, Active: r.Next, Next: c.Made, Retired: r.Active, Until: until, Reason: c.Reason}}, rotated{r.Next, c.Made}, nil
}

// rotated is the answer to rotateKey.
type rotated struct {
	Active string `json:"active"`
	Next   string `json:"next"`
}

// revokeToken ends one token for whoever asks about it.
type revokeToken struct{ Deployment, ID string }

func (revokeToken) name() string    { return "token.revoke" }
func (c revokeToken) about() string { return deploymentSubject(c.Deployment) }

func (c revokeToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d := w.Deployments[c.Deployment]
	if d == nil || d.Lease == nil {
		return nil, nil, nil // it ended with its deployment
	}
	if by.Holder != d.ID {
		if _, err := w.may(by, lockkeeper.CancelDeployments, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment), now); err != nil {
			return nil, nil, err
		}
	}
	for _, id := range d.Lease.Revoked {
		if id == c.ID {
			return nil, nil, nil
		}
	}
	if len(d.Lease.Revoked) >= maxRevoked {
		return nil, nil, lockkeeper.Limited.Errorf("revocations_many", "%d tokens of this lease are revoked.", maxRevoked).WithNext("End them all: lockkeeper deployments cancel %s", d.ID)
	}
	return []event{&tokenRevoked{Deployment: d.ID, ID: c.ID, Revision: w.Revision.Number}}, nil, nil
}
