package keeper

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// applyCatalog puts a catalog in force, whole, if the one that it was planned
// against still is. One that weakens becomes a proposal where a second person could
// decide about it.
type applyCatalog struct {
	Base    int // number of the revision that it was planned against
	Message string
	Rules   *Rules // compiled before, beside the writer
	Issuer  string // the keeper's own
	ID      string // of the proposal that it may become
}

func (applyCatalog) name() string   { return "catalog.apply" }
func (applyCatalog) about() string  { return "catalog" }
func (c applyCatalog) next() *Rules { return c.Rules }

func (c applyCatalog) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	changes, right, err := c.fits(w, by.User, now)
	if err != nil {
		return nil, nil, err
	}
	if len(changes) == 0 {
		return nil, applied{Revision: w.Revision.Number, Digest: w.Revision.Digest}, nil
	}
	if err := w.tokenMayApply(by, c.Rules, changes, now); err != nil {
		return nil, nil, err
	}
	ev := revisionOf(c.Rules.Catalog, w.Revision.Number+1)
	ev.Changes, ev.Message = changesBetween(w.rules.Catalog, c.Rules.Catalog), c.Message
	if weakens, keys := w.weakens(by.User, c.Rules, now); len(weakens) > 0 {
		// Codes of several persons started the session: more than one has decided.
		switch s := w.Sessions[by.Session]; {
		case by.Session != "" && s != nil && s.Recovery != "" && len(s.Behind) >= 2:
			ev.Second = &Second{Recovery: s.Recovery, Persons: s.Behind, Weakens: weakens}
		case w.secondFor(by.User, c.Rules, keys, now):
			return c.propose(w, by, right, weakens, now)
		default:
			ev.Second = &Second{Alone: true, Weakens: weakens}
		}
	}
	if ev.Linked, ev.Unlinked, err = w.linking(by.User, c.Rules.Catalog); err != nil {
		return nil, nil, err
	}
	ev.WaysIn = w.waysIn(c.Rules.Catalog)
	w.alter(ev, c.Rules.Catalog, Alteration{User: by.User, Persons: append(w.persons(by.User), w.behind(by)...)})
	if ev.Second != nil && !ev.Second.Alone {
		ev.Linked = nil // more than one has decided
	}
	return slices.Concat(w.outlasted(now), w.closeProposals(""), []event{ev}, w.endedBy(c.Rules, now)), applied{Revision: ev.Number, Digest: ev.Digest, Changes: ev.Changes}, nil
}

// fits refuses unless a user may make the changes now, and they are what may stand.
func (c applyCatalog) fits(w *world, user string, now lockkeeper.Moment) ([]catalog.Change, lockkeeper.Decision, error) {
	var verdict lockkeeper.Decision
	if c.Base != w.Revision.Number {
		return nil, verdict, lockkeeper.Conflict.Errorf("revision_moved", "The catalog is at revision %d, and this one was planned against %d.", w.Revision.Number, c.Base).
			WithNext("Look at what changed, and apply again.")
	}
	if len(c.Message) > maxComment {
		return nil, verdict, lockkeeper.Invalid.Errorf("comment_long", "The message has %d bytes, more than %d.", len(c.Message), maxComment)
	}
	old, new := w.rules.Catalog, c.Rules.Catalog
	changes := catalog.Diff(old, new)
	if len(changes) == 0 {
		return nil, verdict, nil
	}
	if verdict = w.mayApply(user, c.Rules, changes, now); !verdict.Passed(now) {
		return nil, verdict, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	if err := notOwnIssuer(new, c.Issuer); err != nil {
		return nil, verdict, err
	}
	if err := waiversEnd(old, new, now); err != nil {
		return nil, verdict, err
	}
	if err := w.keepsMembers(new); err != nil {
		return nil, verdict, err
	}
	if err := w.keepsQuarantine(new); err != nil {
		return nil, verdict, err
	}
	if held := c.Rules.ofAccess().HeldTogether(now); len(held) > 0 {
		return nil, verdict, lockkeeper.Invalid.Errorf("duties_not_separated", "%s", held[0]).WithNext("Take one of the two assignments away from one of them.").WithField("Separation " + held[0].Separation)
	}
	if err := w.keepsBudgets(c.Rules, now); err != nil {
		return nil, verdict, err
	}
	return changes, verdict, w.keepsAdministrator(c.Rules.joined(w.State), now)
}

// applied is the answer to applyCatalog.
type applied struct {
	Revision int               `json:"revision"`
	Digest   lockkeeper.Digest `json:"digest"`
	Changes  []ChangedDocument `json:"changes"`
	Proposal string            `json:"proposal,omitempty"` // that it became, and that waits; "": it is in force
	Weakens  []string          `json:"weakens,omitempty"`  // why it waits
}

// writeAction is what one must hold to change a resource of a kind.
var writeAction = map[catalog.Kind]lockkeeper.Action{
	catalog.ProjectKind: lockkeeper.WriteProjects, catalog.UserKind: lockkeeper.WriteAccess, catalog.GroupKind: lockkeeper.WriteAccess,
	catalog.RoleKind: lockkeeper.WriteAccess, catalog.AssignmentKind: lockkeeper.WriteAccess, catalog.ProviderKind: lockkeeper.WritePipelines,
	catalog.PipelineKind: lockkeeper.WritePipelines, catalog.EnvironmentKind: lockkeeper.WriteEnvironments,
	catalog.IdentityKind: lockkeeper.WriteIdentities, catalog.FreezeKind: lockkeeper.WriteFreezes, catalog.ActivationRuleKind: lockkeeper.WriteAccess,
	catalog.DirectoryKind:   lockkeeper.WriteAccess,
	catalog.ProvisionerKind: lockkeeper.WriteAccess,
	catalog.SeparationKind:  lockkeeper.WriteAccess,
	catalog.SignerKind:      lockkeeper.WritePipelines,
	catalog.PolicyKind:      lockkeeper.WriteEnvironments,
	catalog.FreezeRuleKind:  lockkeeper.WriteEnvironments,

	catalog.NotificationKind: lockkeeper.WriteAccess,
}

// notOwnIssuer refuses a catalog under which Lockkeeper's own tokens prove a
// job: whoever holds one could exchange it for others, and for longer.
func notOwnIssuer(c *catalog.Catalog, own string) error {
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		if SameIssuer(c.Providers[name].Issuer, own) {
			return lockkeeper.Conflict.Errorf("issuer_is_own", "The provider %s has this server's own URL as its issuer, so tokens that Lockkeeper handed out would be taken for a CI platform's and be exchanged for new ones.", name).
				WithNext("Write the issuer of the CI platform, as its tokens have it under iss.")
		}
	}
	return nil
}

// SameIssuer reports whether two URLs are one issuer, however they are spelled;
// "" is none.
func SameIssuer(a, b string) bool {
	plain := func(url string) string { return strings.ToLower(strings.TrimRight(url, "/")) }
	return a != "" && plain(a) == plain(b)
}

// waiversEnd refuses a waiver that is new, or that reads differently, while its
// end lies further ahead than any may. The gate would not count it now and, after
// some waiting, it would: nobody would have applied that then.
func waiversEnd(old, new *catalog.Catalog, now lockkeeper.Moment) error {
	furthest := now.Add(catalog.LongestWaiver)
	for _, scope := range slices.Sorted(maps.Keys(new.Environments)) {
		e := new.Environments[scope]
		for i, waiver := range e.Waivers {
			if !furthest.Before(waiver.Until) || slices.Contains(old.Environments[scope].Waivers, waiver) {
				continue
			}
			return lockkeeper.Invalid.Errorf("waiver_too_long", "%s waives %s for %s/%s until %s, and a waiver may end %d days ahead at most.", waiver.Owner, waiver.Demand, e.Project, e.Name, waiver.Until, int(catalog.LongestWaiver.Hours()/24)).
				WithNext("Set the waiver's end to %s or sooner, and renew it when it is due.", furthest).
				WithField(fmt.Sprintf("Environment %s/%s: waivers[%d].until", e.Project, e.Name, i))
		}
	}
	return nil
}

// keepsAdministrator refuses a catalog under which nobody who can sign in could
// ever change it again. Who administers for a time, on a condition, or once he has
// activated it does not count: nothing of that may be there when it is needed.
func (w *world) keepsAdministrator(rules *Rules, now lockkeeper.Moment) error {
	for _, user := range rules.Access.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now) {
		lasts := func(action lockkeeper.Action) bool {
			return rules.Access.Lasting(user, action, lockkeeper.Root, now)
		}
		if a := w.Accounts[user]; a != nil && a.Credential != "" && lasts(lockkeeper.EscalateAccess) && lasts(lockkeeper.WriteAccess) {
			return nil
		}
	}
	return lockkeeper.Conflict.Errorf("last_administrator", "Under this catalog nobody who can sign in administers the organisation.").
		WithNext("Keep an assignment of organisation-administrator at / to a user with an account: active, without an end, without a condition.")
}

func changesBetween(old, new *catalog.Catalog) []ChangedDocument {
	var out []ChangedDocument
	for _, c := range catalog.Diff(old, new) {
		out = append(out, ChangedDocument{c.Key.Kind, c.Key.Project, c.Key.Name, c.Verb})
	}
	return out
}
