package catalog

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// directory reports who is let in who was not, and what is believed for longer.
func (w *weakening) directory(a Directory, was bool, b Directory, is bool) {
	for _, g := range a.Groups {
		if !slices.Contains(b.Groups, g) {
			w.unmapped(g)
		}
	}
	w.when(a.Scim && !b.Scim, "whom the directory switched off is on again")
	if !is {
		return
	}
	w.when(b.Scim && !a.Scim, "the directory may write who is in which group, and is believed until it writes otherwise")
	w.when(!was, "people may sign in with %s", b.IssuerURL())
	w.when(b.Admit && !(was && a.Admit), "everybody whom the directory signs in is let in")
	for _, g := range b.Groups {
		w.when(!slices.Contains(a.Groups, g), "whoever is in %s there is in the group %s", g.ID, g.Group)
	}
	if !was {
		return
	}
	w.when(a.IssuerURL() != b.IssuerURL(), "another issuer, %s, says who somebody is", b.IssuerURL())
	w.when(a.Client != b.Client, "tokens for another client, %s, are taken", b.Client)
	w.when(a.Domain != b.Domain, "accounts of another domain, %s, are let in", b.Domain)
	for _, s := range a.AskedScopes() {
		w.when(a.ClaimOfGroups() != "" && !slices.Contains(b.AskedScopes(), s), "the directory is not asked for %s any more: groups that denies are for may go unsaid", s)
	}
	w.when(a.SubjectClaim() != b.SubjectClaim(), "another claim, %s, says whose account it is", b.SubjectClaim())
	w.when(a.ClaimOfGroups() != b.ClaimOfGroups() && b.ClaimOfGroups() != "", "groups are read from another claim, %s", b.ClaimOfGroups())
	if a.Scim && b.Scim {
		w.when(a.AttributeOfSubject() != b.AttributeOfSubject(), "another attribute, %s, says whose account the directory writes", b.AttributeOfSubject())
		w.when(a.AttributeOfGroups() != b.AttributeOfGroups(), "another attribute, %s, says which group the directory writes", b.AttributeOfGroups())
	}
	w.when(b.GroupLimit() > a.GroupLimit(), "it is believed for %s, and no longer for %s only, that somebody is in a group", b.GroupLimit(), a.GroupLimit())
	w.when(b.LongestSession() > a.LongestSession(), "a sign-in lasts up to %s, not %s", b.LongestSession(), a.LongestSession())
	w.when(b.IdleLimit() > a.IdleLimit(), "a sign-in that is not used lasts %s, not %s", b.IdleLimit(), a.IdleLimit())
}

// unmapped reports each deny that whoever is in a group of a directory escapes, as
// that group is none here any more.
func (w *weakening) unmapped(g DirectoryGroup) {
	d := w.facts()
	for _, above := range slices.Sorted(maps.Keys(d.were.groupsOf(lockkeeper.Principal{Kind: lockkeeper.GroupPrincipal, Name: g.Group}, true))) {
		for _, deny := range d.ofGroup[above] {
			w.when(true, "whoever is in %s there escapes the deny %s of %s at %s", g.ID, deny.Name, deny.Role, deny.Scope)
		}
	}
}

// signIns reports the accounts that a user may sign in with and could not before,
// and those that could be switched off and the user with them.
func (w *weakening) signIns(a, b User) {
	for _, s := range a.SignIns {
		if !slices.Contains(b.SignIns, s) && b.Name != "" {
			w.when(w.old.Directories[s.Directory].Scim, "if the directory %s switched the account %s off, the user is on again", s.Directory, s.Subject)
		}
	}
	for _, s := range b.SignIns {
		if s.None {
			w.when(!slices.Contains(a.SignIns, s), "whoever signs in at %s is taken for somebody else than the user", s.Directory)
			continue
		}
		w.when(!slices.Contains(a.SignIns, s), "the account %s at %s may sign in as the user", s.Subject, s.Directory)
	}
}
