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
// against still is.
type applyCatalog struct {
	Base    int // number of the revision that it was planned against
	Message string
	Rules   *Rules // compiled before, beside the writer
	Issuer  string // the keeper's own
}

func (applyCatalog) name() string   { return "catalog.apply" }
func (applyCatalog) about() string  { return "catalog" }
func (c applyCatalog) next() *Rules { return c.Rules }

func (c applyCatalog) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if c.Base != w.Revision.Number {
		return nil, nil, lockkeeper.Conflict.Errorf("revision_moved", "The catalog is at revision %d, and this one was planned against %d.", w.Revision.Number, c.Base).
			WithNext("Look at what changed, and apply again.")
	}
	if len(c.Message) > maxComment {
		return nil, nil, lockkeeper.Invalid.Errorf("comment_long", "The message has %d bytes, more than %d.", len(c.Message), maxComment)
	}
	old, new := w.rules.Catalog, c.Rules.Catalog
	changes := catalog.Diff(old, new)
	if len(changes) == 0 {
		return nil, applied{Revision: w.Revision.Number, Digest: w.Revision.Digest}, nil
	}
	var because []lockkeeper.Decision
	for _, ch := range changes {
		because = append(because, w.mayChange(by, ch, old, new, now)...)
	}
	verdict := lockkeeper.All("apply the catalog", "Every change is permitted.", because...)
	if !verdict.Passed(now) {
		return nil, nil, lockkeeper.Forbidden.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	if err := notOwnIssuer(new, c.Issuer); err != nil {
		return nil, nil, err
	}
	if err := waiversEnd(old, new, now); err != nil {
		return nil, nil, err
	}
	if err := w.keepsMembers(new); err != nil {
		return nil, nil, err
	}
	if err := w.keepsQuarantine(new); err != nil {
		return nil, nil, err
	}
	if err := w.keepsAdministrator(c.Rules, now); err != nil {
		return nil, nil, err
	}
	ev := revisionOf(new, w.Revision.Number+1)
	ev.Changes, ev.Message = changesBetween(old, new), c.Message
	return []event{ev}, applied{Revision: ev.Number, Digest: ev.Digest, Changes: ev.Changes}, nil
}

// applied is the answer to applyCatalog.
type applied struct {
	Revision int               `json:"revision"`
	Digest   lockkeeper.Digest `json:"digest"`
	Changes  []ChangedDocument `json:"changes"`
}

// writeAction is what one must hold to change a resource of a kind.
var writeAction = map[catalog.Kind]lockkeeper.Action{
	catalog.ProjectKind: lockkeeper.WriteProjects, catalog.UserKind: lockkeeper.WriteAccess, catalog.GroupKind: lockkeeper.WriteAccess,
	catalog.RoleKind: lockkeeper.WriteAccess, catalog.AssignmentKind: lockkeeper.WriteAccess, catalog.ProviderKind: lockkeeper.WritePipelines,
	catalog.PipelineKind: lockkeeper.WritePipelines, catalog.EnvironmentKind: lockkeeper.WriteEnvironments,
	catalog.IdentityKind: lockkeeper.WriteIdentities, catalog.FreezeKind: lockkeeper.WriteFreezes, catalog.ActivationRuleKind: lockkeeper.WriteAccess,
	catalog.DirectoryKind:   lockkeeper.WriteAccess,
	catalog.ProvisionerKind: lockkeeper.WriteAccess,
}

// mayChange judges one change. A resource that moves is a change at its old
// scope and at its new one. Whoever may not escalate grants only what he holds.
func (w *world) mayChange(by Caller, ch catalog.Change, old, new *catalog.Catalog, now lockkeeper.Moment) []lockkeeper.Decision {
	var scopes []lockkeeper.Scope
	if ch.Verb != "added" {
		scopes = append(scopes, old.ScopeOf(ch.Key))
	}
	if s := new.ScopeOf(ch.Key); ch.Verb != "removed" && !slices.Contains(scopes, s) {
		scopes = append(scopes, s)
	}
	var out []lockkeeper.Decision
	for _, s := range scopes {
		out = append(out, w.check(by.User, writeAction[ch.Key.Kind], s, now))
	}
	if writeAction[ch.Key.Kind] != lockkeeper.WriteAccess || w.allowed(by.User, lockkeeper.EscalateAccess, lockkeeper.Root, now) {
		return out
	}
	return append(out, w.grantsOnlyHeld(by, ch, new, now))
}

// grantsOnlyHeld passes for adding an assignment of nothing that by does not
// hold himself there. Everything else that decides who may do what, the
// removal of a deny included, needs access/escalate.
func (w *world) grantsOnlyHeld(by Caller, ch catalog.Change, new *catalog.Catalog, now lockkeeper.Moment) lockkeeper.Decision {
	d := lockkeeper.Decision{Subject: string(ch.Key.Kind) + " " + ch.Key.Name, Verdict: lockkeeper.Fail, Code: "escalation",
		Sentence: "This may give somebody more than you hold.", Next: "Ask an organisation administrator to apply it."}
	a, is := new.Assignments[ch.Key.Name]
	if ch.Key.Kind != catalog.AssignmentKind || ch.Verb != "added" || !is || a.Deny {
		return d
	}
	role := new.Roles[a.Role]
	for _, action := range lockkeeper.Actions() {
		if grants(role, action) && !w.rules.Access.Allowed(by.User, action, a.Scope, now) {
			return d
		}
	}
	d.Verdict, d.Code, d.Sentence, d.Next = lockkeeper.Pass, "held", "You hold everything that this grants.", ""
	return d
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
// ever change it again.
func (w *world) keepsAdministrator(rules *Rules, now lockkeeper.Moment) error {
	for _, user := range rules.Access.WhoCan(lockkeeper.EscalateAccess, lockkeeper.Root, now) {
		if a := w.Accounts[user]; a != nil && a.Credential != "" && rules.Access.Allowed(user, lockkeeper.WriteAccess, lockkeeper.Root, now) {
			return nil
		}
	}
	return lockkeeper.Conflict.Errorf("last_administrator", "Under this catalog nobody who can sign in administers the organisation.").
		WithNext("Keep an assignment of organisation-administrator at / to a user with an account.")
}

func changesBetween(old, new *catalog.Catalog) []ChangedDocument {
	var out []ChangedDocument
	for _, c := range catalog.Diff(old, new) {
		out = append(out, ChangedDocument{c.Key.Kind, c.Key.Project, c.Key.Name, c.Verb})
	}
	return out
}

// grants reports whether a role holds an action.
func grants(r catalog.Role, action lockkeeper.Action) bool {
	covers := func(p lockkeeper.ActionPattern) bool { return p.Matches(action) }
	return slices.ContainsFunc(r.Actions, covers) && !slices.ContainsFunc(r.NotActions, covers)
}
