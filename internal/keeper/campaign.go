package keeper

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A campaign asks people whether what others hold is still needed. It looks at the
// assignments at a scope and below as they were when it was opened. Reviewers keep or
// remove, never what gives something to themselves; and at its end the keeper takes
// away what was not to stay, by a revision of the catalog that names the campaign.

// A Campaign is one review of assignments.
type Campaign struct {
	ID        string            `json:"id"`
	Title     string            `json:"title,omitempty"`
	Scope     lockkeeper.Scope  `json:"scope"`
	Reviewers []string          `json:"reviewers"` // groups
	By        string            `json:"opened_by"`
	Opened    lockkeeper.Moment `json:"opened"`
	Deadline  lockkeeper.Moment `json:"deadline"`
	Undecided string            `json:"undecided"`        // keep or remove
	Revision  int               `json:"revision"`         // of the catalog that it looks at
	Items     []ReviewItem      `json:"items"`            // by the assignment's name
	Denies    int               `json:"denies,omitempty"` // that lie there and are not reviewed: to remove one gives rights
}

// A ReviewItem is one assignment under review.
type ReviewItem struct {
	Assignment string               `json:"assignment"`
	Digest     lockkeeper.Digest    `json:"digest"` // of its document: another one is not removed
	Role       string               `json:"role"`
	Principal  lockkeeper.Principal `json:"principal"`
	Scope      lockkeeper.Scope     `json:"scope"`
	Eligible   bool                 `json:"eligible,omitempty"`
	Last       lockkeeper.Moment    `json:"last,omitzero"`   // when something that it gives was last used; of what is open, up to now
	Count      int                  `json:"count,omitempty"` // how often, as far as is known

	Verdict string              `json:"verdict,omitempty"` // keep, remove; "": nobody has decided
	User    string              `json:"user,omitempty"`    // who decided
	Persons []lockkeeper.Person `json:"persons,omitempty"` // whom he counted as
	Reason  string              `json:"reason,omitempty"`
	At      lockkeeper.Moment   `json:"at,omitzero"`
}

// The verdicts on an item, and what becomes of the undecided.
const (
	KeepItem   = "keep"
	RemoveItem = "remove"
)

// Bounds of campaigns.
const (
	maxCampaigns      = 20  // that are open
	maxItems          = 500 // of one
	maxReviewers      = 20  // groups of one
	maxCampaignTitle  = 200 // bytes
	maxCampaignDays   = 180
	campaignsSubject  = "campaigns"
	campaignApplied   = "applied"
	campaignDiscarded = "discarded"
)

func campaignSubject(id string) string { return "campaign/" + id }

func (c *Campaign) clone() *Campaign {
	out := *c
	out.Items = slices.Clone(c.Items)
	return &out
}

func (c *Campaign) item(assignment string) (int, bool) {
	return slices.BinarySearchFunc(c.Items, assignment, func(i ReviewItem, name string) int { return cmp.Compare(i.Assignment, name) })
}

// campaignOpened begins a campaign.
type campaignOpened struct {
	one
	Campaign Campaign            `json:"campaign"`
	Right    lockkeeper.Decision `json:"right"`
}

func (*campaignOpened) kind() string { return "campaign.opened" }
func (ev *campaignOpened) subjects() []string {
	return []string{campaignSubject(ev.Campaign.ID), campaignsSubject, "user/" + ev.Campaign.By}
}
func (ev *campaignOpened) apply(s *State, e Entry) error {
	if s.Campaigns[ev.Campaign.ID] != nil {
		return fmt.Errorf("the campaign %s is open already", ev.Campaign.ID)
	}
	c := ev.Campaign.clone()
	c.Opened = e.Time
	s.Campaigns[c.ID] = c
	return nil
}

// campaignDecided is a reviewer's verdict on some of the items. A later one takes its
// place.
type campaignDecided struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user"`
	Persons  []lockkeeper.Person `json:"persons"`
	Groups   []string            `json:"groups"` // of the reviewers that he is in
	Keep     []string            `json:"keep,omitempty"`
	Remove   []string            `json:"remove,omitempty"`
	Reason   string              `json:"reason,omitempty"`
	Revision int                 `json:"revision"`
}

func (*campaignDecided) kind() string { return "campaign.decided" }
func (ev *campaignDecided) subjects() []string {
	return []string{campaignSubject(ev.ID), "user/" + ev.User}
}
func (ev *campaignDecided) apply(s *State, e Entry) error {
	return s.onCampaign(ev.ID, func(c *Campaign) error {
		for verdict, names := range map[string][]string{KeepItem: ev.Keep, RemoveItem: ev.Remove} {
			for _, name := range names {
				i, found := c.item(name)
				if !found {
					return fmt.Errorf("the campaign %s has no assignment %s", ev.ID, name)
				}
				it := &c.Items[i]
				it.Verdict, it.User, it.Persons, it.Reason, it.At = verdict, ev.User, ev.Persons, ev.Reason, e.Time
			}
		}
		return nil
	})
}

// campaignClosed ends the time of a campaign before its deadline.
type campaignClosed struct {
	one
	ID       string              `json:"id"`
	User     string              `json:"user"`
	Reason   string              `json:"reason,omitempty"`
	Right    lockkeeper.Decision `json:"right"`
	Revision int                 `json:"revision"`
}

func (*campaignClosed) kind() string { return "campaign.closed" }
func (ev *campaignClosed) subjects() []string {
	return []string{campaignSubject(ev.ID), "user/" + ev.User}
}
func (ev *campaignClosed) apply(s *State, e Entry) error {
	return s.onCampaign(ev.ID, func(c *Campaign) error {
		c.Deadline = e.Time
		return nil
	})
}

// campaignEnded says what became of a campaign. The revision of the catalog without
// what it removed comes in the same command, before it.
type campaignEnded struct {
	one
	ID       string          `json:"id"`
	Status   string          `json:"status"`         // applied or discarded
	User     string          `json:"user,omitempty"` // who discarded it
	Reason   string          `json:"reason,omitempty"`
	Outcome  []OutcomeOfItem `json:"outcome,omitempty"`
	Revision int             `json:"revision"` // of the catalog after it
}

// An OutcomeOfItem is what became of one item.
type OutcomeOfItem struct {
	Assignment string `json:"assignment"`
	Removed    bool   `json:"removed,omitempty"`
	Why        string `json:"why"` // a code: decided, undecided, reviewer_gone, own_assignment, changed, gone, last_administrator, second_person
}

func (*campaignEnded) kind() string { return "campaign.ended" }
func (ev *campaignEnded) subjects() []string {
	return []string{campaignSubject(ev.ID), campaignsSubject}
}
func (ev *campaignEnded) apply(s *State, _ Entry) error {
	if s.Campaigns[ev.ID] == nil {
		return fmt.Errorf("the campaign %s is not open", ev.ID)
	}
	delete(s.Campaigns, ev.ID)
	return nil
}

func (s *State) onCampaign(id string, change func(*Campaign) error) error {
	c := s.Campaigns[id]
	if c == nil {
		return fmt.Errorf("the campaign %s is not open", id)
	}
	return change(c)
}

// A kin tells which accounts are of one person, or may be, by one look at all users.
type kin struct {
	w  *world
	of map[lockkeeper.Person][]string // accounts that may be this person's
}

func (w *world) kin() kin {
	k := kin{w, map[lockkeeper.Person][]string{}}
	for user := range w.rules.Catalog.Users {
		for _, p := range w.persons(user) {
			k.of[p] = append(k.of[p], user)
		}
	}
	return k
}

// accounts are all that may be of one of the persons.
func (k kin) accounts(persons []lockkeeper.Person) []string {
	var out []string
	for _, p := range persons {
		out = append(out, k.of[p]...)
	}
	return out
}

// own reports whether an assignment is to one of the accounts, by name or by a group,
// also one that a directory has not named him in lately: he would have it again.
func (k kin) own(to lockkeeper.Principal, accounts []string) bool {
	return slices.ContainsFunc(accounts, func(user string) bool {
		if to.Kind == lockkeeper.GroupPrincipal {
			return k.w.rules.Access.Lies(user, to.Name)
		}
		return to.Kind == lockkeeper.UserPrincipal && to.Name == user
	})
}

// reviews are the groups of a campaign's reviewers that a user is in now.
func (w *world) reviews(c *Campaign, user string, now lockkeeper.Moment) []string {
	var out []string
	if u, known := w.rules.Catalog.Users[user]; !known || u.Off || u.Automation || w.quarantined(user) != nil {
		return nil
	}
	for _, g := range c.Reviewers {
		if _, in := w.rules.Access.InGroup(user, g, now); in {
			out = append(out, g)
		}
	}
	return out
}

// outcome is what a campaign comes to at now. A verdict counts only while whoever gave
// it is a reviewer and has nothing of it himself; an assignment that reads differently
// than when it was reviewed is another one, and stays.
func (w *world) outcome(c *Campaign, now lockkeeper.Moment) []OutcomeOfItem {
	kin := w.kin()
	out := make([]OutcomeOfItem, 0, len(c.Items))
	for _, it := range c.Items {
		o := OutcomeOfItem{Assignment: it.Assignment, Removed: it.Verdict == RemoveItem, Why: "decided"}
		switch digest := w.rules.ofCatalog().DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: it.Assignment}); {
		case digest == "":
			o.Removed, o.Why = false, "gone"
		case digest != it.Digest:
			o.Removed, o.Why = false, "changed"
		case it.Verdict == "":
			o.Removed, o.Why = c.Undecided == RemoveItem, "undecided"
		case len(w.reviews(c, it.User, now)) == 0:
			o.Removed, o.Why = c.Undecided == RemoveItem, "reviewer_gone"
		case kin.own(it.Principal, kin.accounts(w.everybody(it.User, it.Persons))):
			o.Removed, o.Why = c.Undecided == RemoveItem, "own_assignment"
		}
		out = append(out, o)
	}
	return out
}

// lastUses is when something that each assignment gives was last used, and how often.
func (s *State) lastUses() map[string]ReviewItem {
	out := map[string]ReviewItem{}
	for _, u := range s.Uses {
		for name, g := range u.By {
			it := out[name]
			it.Count += g.Count
			if it.Last.Before(g.Last) {
				it.Last = g.Last
			}
			out[name] = it
		}
	}
	return out
}
