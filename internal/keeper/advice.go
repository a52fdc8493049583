package keeper

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An Advice is what could be made smaller without taking what is used.
type Advice struct {
	At       lockkeeper.Moment
	Revision int
	From     lockkeeper.Moment // where the window starts
	Observed lockkeeper.Moment // since when all uses are known; zero: none was recorded yet
	List     []access.Recommendation
	Skipped  int // candidates that were not looked at
}

// Bounds of what is asked about use.
const (
	maxDays   = 365
	maxSeldom = access.MaxUseDays - 1
)

// Recommend lists what could be made smaller, by what was used in the last days. A
// right that was used on up to seldom days is used seldom. It takes access/read
// at /.
func (k *Keeper) Recommend(ctx context.Context, by Caller, days, seldom int) (Advice, error) {
	if days < 1 || days > maxDays || seldom < 0 || seldom > maxSeldom {
		return Advice{}, lockkeeper.Invalid.Errorf("window_unfit", "The window has 1 to %d days, and seldom is up to %d of them.", maxDays, maxSeldom)
	}
	if err := k.mayReadAccess(by); err != nil {
		return Advice{}, err
	}
	f, err := k.survey(ctx, days)
	if err != nil {
		return Advice{}, err
	}
	f.habits.Seldom = seldom
	a := Advice{At: f.habits.Now, Revision: f.revision, From: f.habits.From, Observed: f.habits.Observed}
	a.List, a.Skipped = access.Recommend(f.rules.ofCatalog(), f.habits)
	return a, nil
}

func (k *Keeper) mayReadAccess(by Caller) error {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	_, err := w.may(by, lockkeeper.ReadAccess, lockkeeper.Root, now)
	return err
}

// A survey is a copy of what is known about who uses what, so that nothing waits
// while it is looked at.
type survey struct {
	rules    *Rules
	revision int
	habits   access.Habits
	signedIn map[string]lockkeeper.Moment
	accounts map[string]lockkeeper.Moment // since when each has its account
	drifted  map[string][]Drift           // what differs at targets, by provisioner
	channels map[string]Standing          // how it goes with notifications
}

func (k *Keeper) survey(ctx context.Context, days int) (survey, error) {
	now := k.now()
	s := survey{signedIn: map[string]lockkeeper.Moment{}, accounts: map[string]lockkeeper.Moment{}}
	k.mu.RLock()
	said := k.state.said()
	for user, at := range k.state.SignedIn {
		s.signedIn[user] = at
	}
	s.drifted = maps.Clone(k.state.Drifted)
	if k.state.Outbox != nil {
		s.channels = maps.Clone(k.state.Outbox.Channels)
	}
	enters := map[string]bool{}
	for user, a := range k.state.Accounts {
		enters[user], s.accounts[user] = a.Credential != "", a.Since
	}
	s.rules, s.revision = k.rules, k.state.Revision.Number
	s.habits = access.Habits{Now: now, From: now.Add(-time.Duration(days) * 24 * time.Hour), Observed: k.state.Observed, Young: map[catalog.Key]bool{}}
	for _, u := range k.state.Uses {
		s.habits.Uses = append(s.habits.Uses, u.Clone())
	}
	k.mu.RUnlock()
	s.habits.SignsIn = func(user string) bool { return enters[user] }
	s.habits.Join = func(c *catalog.Catalog) *access.Index {
		return (&Rules{Catalog: c, Access: access.New(c)}).joined(said).Access
	}
	err := k.backwards(ctx, "catalog", now, func(e Entry, body event) bool {
		if ev, is := body.(*catalogApplied); is && !e.Time.Before(s.habits.From) {
			for _, ch := range ev.Changes {
				s.habits.Young[catalog.Key{Kind: ch.Kind, Project: ch.Project, Name: ch.Name}] = true
			}
		}
		return !e.Time.Before(s.habits.From)
	})
	slices.SortFunc(s.habits.Uses, func(a, b access.Use) int { return b.Last.Time().Compare(a.Last.Time()) })
	return s, err
}
