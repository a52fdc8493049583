package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// openCampaign asks reviewers about the assignments at a scope and below.
type openCampaign struct {
	ID        string            `json:"-"`
	Title     string            `json:"title,omitempty"`
	Scope     lockkeeper.Scope  `json:"scope"`
	Reviewers []string          `json:"reviewers"`
	Until     lockkeeper.Moment `json:"until"`
	Undecided string            `json:"undecided"`
}

func (openCampaign) name() string  { return "campaign.open" }
func (openCampaign) about() string { return campaignsSubject }

func (c openCampaign) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := c.fits(w, now); err != nil {
		return nil, nil, err
	}
	right, err := w.mayRunCampaign(by, c.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	if len(w.Campaigns) >= maxCampaigns {
		return nil, nil, lockkeeper.Limited.Errorf("campaigns_many", "%d campaigns are open.", len(w.Campaigns)).WithNext("Close some: lockkeeper campaigns list")
	}
	out := Campaign{ID: c.ID, Title: c.Title, Scope: c.Scope, Reviewers: c.Reviewers, By: by.User, Opened: now, Deadline: c.Until, Undecided: c.Undecided, Revision: w.Revision.Number}
	uses := w.lastUses()
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Assignments)) {
		a := w.rules.Catalog.Assignments[name]
		switch {
		case !c.Scope.Contains(a.Scope) || !a.End.IsZero() && !now.Before(a.End):
			continue
		case a.Deny:
			out.Denies++
			continue
		}
		out.Items = append(out.Items, ReviewItem{Assignment: name, Digest: w.rules.ofCatalog().DigestOf(catalog.Key{Kind: catalog.AssignmentKind, Name: name}),
			Role: a.Role, Principal: a.Principal, Scope: a.Scope, Eligible: a.Eligible, Last: uses[name].Last, Count: uses[name].Count})
	}
	if n := len(out.Items); n == 0 || n > maxItems {
		return nil, nil, lockkeeper.Conflict.Errorf("campaign_size", "%d assignments lie at %s and below, and a campaign has 1 to %d.", n, c.Scope, maxItems).
			WithNext("Open one for each project: --scope /projects/NAME")
	}
	return []event{&campaignOpened{Campaign: out, Right: right}}, opened{c.ID}, nil
}

// mayRunCampaign refuses unless the caller could take any assignment at a scope himself:
// what a campaign comes to is a change of the catalog like any other, and whoever may
// not escalate removes nobody's.
func (w *world) mayRunCampaign(by Caller, scope lockkeeper.Scope, now lockkeeper.Moment) (lockkeeper.Decision, error) {
	if d, err := w.may(by, lockkeeper.EscalateAccess, lockkeeper.Root, now); err != nil {
		return d, err
	}
	return w.may(by, lockkeeper.WriteAccess, scope, now)
}

func (c openCampaign) fits(w *world, now lockkeeper.Moment) error {
	longest := now.Add(maxCampaignDays * 24 * time.Hour)
	switch {
	case len(c.Title) > maxCampaignTitle:
		return lockkeeper.Invalid.Errorf("title_long", "The title has %d bytes, more than %d.", len(c.Title), maxCampaignTitle)
	case c.Undecided != KeepItem && c.Undecided != RemoveItem:
		return lockkeeper.Invalid.Errorf("undecided_unfit", "What nobody decides is kept or removed.").WithNext("Write keep or remove.")
	case !now.Before(c.Until) || longest.Before(c.Until):
		return lockkeeper.Invalid.Errorf("deadline_unfit", "The deadline %s does not lie between now and %s.", c.Until, longest)
	case len(c.Reviewers) == 0 || len(c.Reviewers) > maxReviewers:
		return lockkeeper.Invalid.Errorf("reviewers_unfit", "A campaign has 1 to %d groups of reviewers.", maxReviewers)
	}
	for i, g := range c.Reviewers {
		if _, known := w.rules.Catalog.Groups[g]; !known || slices.Contains(c.Reviewers[:i], g) {
			return lockkeeper.Invalid.Errorf("reviewers_unfit", "There is no group %.63q, or it is named twice.", g).WithNext("Name groups of the catalog.")
		}
	}
	return nil
}

// openedCampaign finds a campaign whose time is not over.
func (w *world) openedCampaign(id string, now lockkeeper.Moment) (*Campaign, error) {
	c := w.Campaigns[id]
	if c == nil || !now.Before(c.Deadline) {
		return nil, lockkeeper.Conflict.Errorf("campaign_over", "The campaign %.40s does not exist or is over.", id).WithNext("List them: lockkeeper campaigns list").WithField(id)
	}
	return c, nil
}

// decideCampaign is a reviewer's verdict on some of the items.
type decideCampaign struct {
	Campaign string
	Keep     []string
	Remove   []string
	Reason   string
}

func (decideCampaign) name() string    { return "campaign.decide" }
func (c decideCampaign) about() string { return campaignSubject(c.Campaign) }

func (c decideCampaign) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	open, err := w.openedCampaign(c.Campaign, now)
	if err != nil {
		return nil, nil, err
	}
	groups := w.reviews(open, by.User, now)
	if len(groups) == 0 {
		return nil, nil, lockkeeper.Forbidden.Errorf("no_reviewer", "%s is in none of the groups that review here: %s.", by.User, strings.Join(open.Reviewers, ", "))
	}
	if len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_long", "The reason has at most %d bytes.", maxReason)
	}
	names := slices.Concat(c.Keep, c.Remove)
	if len(names) == 0 || len(names) > len(open.Items) {
		return nil, nil, lockkeeper.Invalid.Errorf("verdict_missing", "Name 1 to %d assignments, each once.", len(open.Items)).WithNext("See them: lockkeeper campaigns show %s", open.ID)
	}
	slices.Sort(names)
	persons, kin := append(w.persons(by.User), w.behind(by)...), w.kin()
	accounts := kin.accounts(persons)
	var mine []string
	for i, name := range names {
		at, found := open.item(name)
		if !found || i > 0 && names[i-1] == name {
			return nil, nil, lockkeeper.Invalid.Errorf("item_unknown", "The campaign has no assignment %.63q, or it is named twice.", name).WithNext("See them: lockkeeper campaigns show %s", open.ID)
		}
		if kin.own(open.Items[at].Principal, accounts) {
			mine = append(mine, name)
		}
	}
	if len(mine) > 0 {
		return nil, nil, lockkeeper.Forbidden.Errorf("own_assignment", "%s give something to you yourself, and nobody reviews what is his own. Nothing was decided.", strings.Join(mine, ", ")).
			WithNext("Leave them to another reviewer. If your account still counts as whoever invited you, prove first that it is yours alone: lockkeeper accounts challenge")
	}
	return []event{&campaignDecided{ID: open.ID, User: by.User, Persons: persons, Groups: groups, Keep: c.Keep, Remove: c.Remove, Reason: c.Reason, Revision: w.Revision.Number}}, opened{open.ID}, nil
}

// closeCampaign ends the time of a campaign, or throws it away. Nobody throws away
// what would take something from himself.
type closeCampaign struct {
	Campaign string
	Discard  bool
	Reason   string
}

func (closeCampaign) name() string    { return "campaign.close" }
func (c closeCampaign) about() string { return campaignSubject(c.Campaign) }

func (c closeCampaign) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	open, err := w.openedCampaign(c.Campaign, now)
	if err != nil {
		return nil, nil, err
	}
	if len(c.Reason) > maxReason {
		return nil, nil, lockkeeper.Invalid.Errorf("reason_long", "The reason has at most %d bytes.", maxReason)
	}
	right, err := w.mayRunCampaign(by, open.Scope, now)
	if err != nil {
		return nil, nil, err
	}
	if !c.Discard {
		return []event{&campaignClosed{ID: open.ID, User: by.User, Reason: c.Reason, Right: right, Revision: w.Revision.Number}}, opened{open.ID}, nil
	}
	kin := w.kin()
	accounts := kin.accounts(append(w.persons(by.User), w.behind(by)...))
	for i, o := range w.outcome(open, now) {
		if o.Removed && kin.own(open.Items[i].Principal, accounts) {
			return nil, nil, lockkeeper.Forbidden.Errorf("own_assignment", "The campaign would take %s, which gives something to you yourself.", o.Assignment).
				WithNext("Ask another access administrator to discard it.")
		}
	}
	return []event{&campaignEnded{ID: open.ID, Status: campaignDiscarded, User: by.User, Reason: c.Reason, Revision: w.Revision.Number}}, opened{open.ID}, nil
}

// endCampaign does what a campaign has come to once its time is over. Rules are the
// catalog without what goes, compiled beside the writer for one revision: if that
// moved, or the outcome did, nothing happens and the keeper comes again.
type endCampaign struct {
	Campaign string
	Base     int
	Outcome  []OutcomeOfItem
	Rules    *Rules // nil: nothing goes
}

func (endCampaign) name() string    { return "campaign.end" }
func (c endCampaign) about() string { return campaignSubject(c.Campaign) }

func (c endCampaign) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	open := w.Campaigns[c.Campaign]
	if open == nil || now.Before(open.Deadline) || c.Base != w.Revision.Number || !slices.EqualFunc(c.Outcome, w.outcome(open, now), sameOrSpared) {
		return nil, nil, nil
	}
	ended := &campaignEnded{ID: open.ID, Status: campaignApplied, Outcome: c.Outcome, Revision: w.Revision.Number}
	if c.Rules == nil {
		return []event{ended}, nil, nil
	}
	if w.holdsOn(open.By, c.Rules, now) != "" {
		return nil, nil, nil
	}
	new := c.Rules.Catalog
	ev := revisionOf(new, w.Revision.Number+1)
	ev.Changes, ev.Campaign = changesBetween(w.rules.Catalog, new), open.ID
	ev.Message = fmt.Sprintf("Campaign %s: %d assignments at %s and below were not to stay.", open.ID, len(ev.Changes), open.Scope)
	ended.Revision = ev.Number
	return append(w.closeProposals(""), ev, ended), nil, nil
}

// sameOrSpared reports whether an outcome is what it should be, or spares what must
// stay.
func sameOrSpared(done, due OutcomeOfItem) bool {
	return done == due || done.Assignment == due.Assignment && due.Removed && !done.Removed && (done.Why == lastAdministrator || done.Why == secondPerson)
}

// Why something stays that was not to.
const (
	lastAdministrator = "last_administrator"
	secondPerson      = "second_person"
)

// applyCampaign is an endCampaign that puts other rules in force.
type applyCampaign struct{ endCampaign }

func (c applyCampaign) next() *Rules { return c.Rules }
