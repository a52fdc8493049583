package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// OpenCampaign is what is asked of reviewers.
type OpenCampaign struct {
	Title     string
	Scope     lockkeeper.Scope
	Reviewers []string // groups
	Until     lockkeeper.Moment
	Undecided string // keep or remove
}

// OpenCampaign opens a campaign and returns its id. key, if not "", makes a retry
// give the same campaign. It takes access/write at the scope and access/escalate at /.
func (k *Keeper) OpenCampaign(ctx context.Context, by Caller, key string, o OpenCampaign) (string, error) {
	answer, err := do[opened](ctx, k, by, key, openCampaign{newID("c"), o.Title, o.Scope, o.Reviewers, o.Until, o.Undecided})
	return answer.ID, err
}

// DecideCampaign keeps and removes assignments, as a reviewer.
func (k *Keeper) DecideCampaign(ctx context.Context, by Caller, id string, keep, remove []string, reason string) error {
	_, err := do[opened](ctx, k, by, "", decideCampaign{id, keep, remove, reason})
	return err
}

// CloseCampaign ends the time of a campaign now, or throws it away. It takes
// access/write at its scope and access/escalate at /.
func (k *Keeper) CloseCampaign(ctx context.Context, by Caller, id string, discard bool, reason string) error {
	_, err := do[opened](ctx, k, by, "", closeCampaign{id, discard, reason})
	return err
}

// A CampaignView is a campaign and how it stands, or how it ended.
type CampaignView struct {
	Campaign
	Outcome []OutcomeOfItem // as it would be now, or as it was
	Alone   []string        // assignments that no reviewer may decide: they give something to all of them
	End     *CampaignEnd
}

// A CampaignEnd is how a campaign ended.
type CampaignEnd struct {
	At       lockkeeper.Moment
	Status   string // applied or discarded
	User     string // who discarded it
	Reason   string
	Revision int // of the catalog after it
}

// maxEnded bounds the ended campaigns of one list.
const maxEnded = 50

// Campaigns lists the campaigns that the caller may see, the open ones first and, if
// asked for, those that ended last.
func (k *Keeper) Campaigns(ctx context.Context, by Caller, ended bool) ([]CampaignView, error) {
	if by.User == "" {
		return nil, errPersonNeeded()
	}
	now := k.now()
	k.mu.RLock()
	w := world{State: k.state, rules: k.rules}
	out, uses := []CampaignView{}, w.lastUses()
	for _, c := range w.Campaigns {
		if w.maySeeCampaign(by, c, now) {
			out = append(out, w.campaignView(c, uses, now))
		}
	}
	k.mu.RUnlock()
	slices.SortFunc(out, func(a, b CampaignView) int {
		return cmp.Or(a.Deadline.Time().Compare(b.Deadline.Time()), cmp.Compare(a.ID, b.ID))
	})
	if !ended {
		return out, nil
	}
	var ids []string
	err := k.backwards(ctx, campaignsSubject, now, func(_ Entry, body event) bool {
		if ev, is := body.(*campaignEnded); is {
			ids = append(ids, ev.ID)
		}
		return len(ids) < maxEnded
	})
	for _, id := range ids {
		v, e := k.Campaign(ctx, by, id)
		if e == nil {
			out = append(out, v)
		} else if lockkeeper.KindOf(e) != lockkeeper.NotFound {
			return nil, e
		}
	}
	return out, err
}

// Campaign is one campaign, open or ended, for whoever may see it: who opened it, its
// reviewers, and who holds access/read at its scope.
func (k *Keeper) Campaign(ctx context.Context, by Caller, id string) (CampaignView, error) {
	missing := lockkeeper.NotFound.Errorf("campaign_missing", "There is no campaign %.40q that you may see.", id).WithNext("List them: lockkeeper campaigns list")
	if by.User == "" {
		return CampaignView{}, errPersonNeeded()
	}
	if !strings.HasPrefix(id, "c-") || lockkeeper.CheckName(id) != nil {
		return CampaignView{}, missing
	}
	now := k.now()
	k.mu.RLock()
	w := world{State: k.state, rules: k.rules}
	c := w.Campaigns[id]
	var v CampaignView
	seen := false
	if c != nil {
		if seen = w.maySeeCampaign(by, c, now); seen {
			v = w.campaignView(c, w.lastUses(), now)
		}
	}
	k.mu.RUnlock()
	if c != nil {
		if !seen {
			return CampaignView{}, missing
		}
		return v, nil
	}
	v, err := k.endedCampaign(ctx, id)
	if err != nil {
		return CampaignView{}, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	w = world{State: k.state, rules: k.rules}
	if v.ID == "" || !w.maySeeCampaign(by, &v.Campaign, now) {
		return CampaignView{}, missing
	}
	return v, nil
}

func (w *world) maySeeCampaign(by Caller, c *Campaign, now lockkeeper.Moment) bool {
	if by.Token == "" && (c.By == by.User || len(w.reviews(c, by.User, now)) > 0) {
		return true
	}
	return w.allowedFor(by, lockkeeper.ReadAccess, c.Scope, now)
}

func (w *world) campaignView(c *Campaign, uses map[string]ReviewItem, now lockkeeper.Moment) CampaignView {
	v := CampaignView{Campaign: *c.clone(), Outcome: w.outcome(c, now)}
	kin, reviewers := w.kin(), [][]string{} // the accounts of each
	for user := range w.rules.Catalog.Users {
		if len(w.reviews(c, user, now)) > 0 {
			reviewers = append(reviewers, kin.accounts(w.persons(user)))
		}
	}
	for i := range v.Items {
		it := &v.Items[i]
		if now := uses[it.Assignment]; it.Last.Before(now.Last) {
			it.Last, it.Count = now.Last, now.Count
		}
		if !slices.ContainsFunc(reviewers, func(accounts []string) bool { return !kin.own(it.Principal, accounts) }) {
			v.Alone = append(v.Alone, it.Assignment)
		}
	}
	return v
}

// endedCampaign reads a campaign from the journal. It is empty if there is none.
func (k *Keeper) endedCampaign(ctx context.Context, id string) (CampaignView, error) {
	var v CampaignView
	s, err := k.fold(ctx, campaignSubject(id), func(_ *State, e Entry, body event) bool {
		switch ev := body.(type) {
		case *campaignOpened, *campaignDecided, *campaignClosed:
			return true
		case *campaignEnded:
			v.Outcome, v.End = ev.Outcome, &CampaignEnd{At: e.Time, Status: ev.Status, User: ev.User, Reason: ev.Reason, Revision: ev.Revision}
		}
		return false
	})
	if err != nil {
		return v, err
	}
	if c := s.Campaigns[id]; c != nil {
		v.Campaign = *c
		if v.End == nil {
			v.End = &CampaignEnd{Status: campaignDiscarded, Reason: "The campaign fell with the copy of the journal that it stood in."}
		}
	}
	return v, nil
}

// endCampaigns does what campaigns have come to whose time is over. The catalog
// without what goes is compiled here, beside the writer. A crash before the command
// is durable leaves the campaign open, and the next start ends it.
func (k *Keeper) endCampaigns(ctx context.Context) {
	now := k.now()
	k.mu.RLock()
	var due []string
	for _, id := range slices.Sorted(maps.Keys(k.state.Campaigns)) {
		if !now.Before(k.state.Campaigns[id].Deadline) {
			due = append(due, id)
		}
	}
	k.mu.RUnlock()
	for _, id := range due {
		cmd, err := k.outcomeOf(id, now)
		if err == nil {
			_, err = do[any](ctx, k, Caller{Keeper: true}, "", cmd)
		}
		if err != nil && ctx.Err() == nil && k.Fault() == nil {
			k.log.Error("a campaign could not be ended", "campaign", id, "error", err)
		}
	}
}

// outcomeOf is the command that ends a campaign now. It spares, one after another,
// what would take the last administrator (invariant 8), and what would leave whoever
// opened it without a second person who could decide what weakens.
func (k *Keeper) outcomeOf(id string, now lockkeeper.Moment) (command, error) {
	k.mu.RLock()
	w := world{State: k.state, rules: k.rules}
	c := w.Campaigns[id]
	cmd := endCampaign{Campaign: id, Base: w.Revision.Number}
	rules := w.rules
	by := ""
	if c != nil {
		cmd.Outcome, by = w.outcome(c, now), c.By
	}
	k.mu.RUnlock()
	for {
		var edits []catalog.Edit
		for _, o := range cmd.Outcome {
			if key := (catalog.Key{Kind: catalog.AssignmentKind, Name: o.Assignment}); o.Removed {
				edits = append(edits, catalog.Edit{Key: key, Was: rules.ofCatalog().DigestOf(key), Remove: true})
			}
		}
		if len(edits) == 0 {
			return cmd, nil
		}
		next, err := rules.ofCatalog().Edited(edits)
		if err != nil {
			return nil, err
		}
		cmd.Rules = &Rules{Catalog: next, Access: access.New(next)}
		k.mu.RLock()
		live := world{State: k.state, rules: k.rules}
		why := live.holdsOn(by, cmd.Rules, now)
		k.mu.RUnlock()
		spare := slices.IndexFunc(cmd.Outcome, func(o OutcomeOfItem) bool { return o.Removed && spares(rules, o.Assignment, why) })
		if why == "" || spare < 0 {
			return applyCampaign{cmd}, nil
		}
		cmd.Outcome[spare].Removed, cmd.Outcome[spare].Why, cmd.Rules = false, why, nil
	}
}

// holdsOn says what other rules take that must stay, or "".
func (w *world) holdsOn(by string, next *Rules, now lockkeeper.Moment) string {
	switch {
	case w.keepsAdministrator(next.joined(w.State), now) != nil: // whom a directory switched off administers nothing
		return lastAdministrator
	case len(w.losesSecond(by, next, now)) > 0:
		return secondPerson
	}
	return ""
}

// spares reports whether an assignment is one of those whose staying may help.
func spares(rules *Rules, assignment, why string) bool {
	a := rules.ofCatalog().Assignments[assignment]
	if why == lastAdministrator {
		return a.Scope == lockkeeper.Root && rules.Access.RoleAllows(a.Role, lockkeeper.EscalateAccess)
	}
	return slices.ContainsFunc(writeActions, func(action lockkeeper.Action) bool { return rules.Access.RoleAllows(a.Role, action) })
}
