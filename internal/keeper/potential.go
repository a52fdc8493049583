package keeper

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A catalog that makes a group of a directory a group here gives its rights to people
// whom nobody can name yet: who is in the directory's group is said at their next
// sign-in. So whoever decides about it counts as one of them if he signs in with that
// directory, unless the directory has said of all his accounts there that they are not in
// the group: by writing the group, or at a sign-in that is believed still and was asked
// for its groups in the same place. What the group gives and he holds already is no gain.

// potential are the groups of the catalog, by user, that a directory may put users into
// under other rules: those that it could not under the rules in force, and those that it
// could already.
func (w *world) potential(users []string, next *catalog.Catalog, now lockkeeper.Moment) (fresh, standing map[string][]string) {
	fresh, standing = map[string][]string{}, map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(next.Directories)) {
		d, old := next.Directories[name], w.rules.ofCatalog().Directories[name]
		same := old.Source() == d.Source() && old.ClaimOfGroups() == d.ClaimOfGroups() && old.Scim == d.Scim && old.AttributeOfGroups() == d.AttributeOfGroups()
		for _, user := range users {
			accounts := w.accountsAt(d, user, next)
			for _, mapped := range d.Groups {
				out := fresh
				if same && slices.Contains(old.Groups, mapped) && !w.gainsAccount(accounts, d, user) {
					out = standing
				}
				if slices.ContainsFunc(accounts, func(subject string) bool { return !w.saidWithout(d, subject, mapped.ID, now) }) && !slices.Contains(out[user], mapped.Group) {
					out[user] = append(out[user], mapped.Group)
				}
			}
		}
	}
	return fresh, standing
}

// accountsAt are the accounts of a directory that sign in as a user under a catalog.
func (w *world) accountsAt(d catalog.Directory, user string, next *catalog.Catalog) []string {
	var out []string
	for _, s := range next.Users[user].SignIns {
		if s.Directory == d.Name && !s.None {
			out = append(out, s.Subject)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.Members)) {
		m := w.Members[key]
		_, binds := bindsMember(next, &Member{Directory: m.Directory, Subject: m.Subject, User: m.User})
		if m.Directory == d.Name && m.listedAs(next) == user && binds && !slices.Contains(out, m.Subject) {
			out = append(out, m.Subject)
		}
	}
	return out
}

// gainsAccount reports whether one of the accounts is not the user's under the rules in
// force.
func (w *world) gainsAccount(accounts []string, d catalog.Directory, user string) bool {
	before := w.accountsAt(d, user, w.rules.ofCatalog())
	return slices.ContainsFunc(accounts, func(subject string) bool { return !slices.Contains(before, subject) })
}

// saidWithout reports whether a directory has said of an account that it is not in one
// of its groups, and is believed.
func (w *world) saidWithout(d catalog.Directory, subject, group string, now lockkeeper.Moment) bool {
	m := w.Members[memberKey(d.Name, subject)]
	if m == nil {
		return false
	}
	if told := w.toldGroups(d)[group]; len(told) > 0 {
		return !slices.ContainsFunc(told, func(g *ProvisionedGroup) bool {
			return m.Provision != nil && slices.Contains(g.Members, m.Provision.ID)
		})
	}
	return m.Claim != "" && m.Claim == d.ClaimOfGroups() && m.Source == d.Source() && now.Before(m.Said.Add(d.GroupLimit())) && !slices.Contains(m.Groups, group)
}

// gainsPotentially lists what users gain by other rules if directories put them into the
// groups that they may: into all, and into those alone that they could not before, for
// what is taken for granted on both sides hides what is gained.
func (w *world) gainsPotentially(users []string, next *Rules, now lockkeeper.Moment) []access.Gain {
	fresh, standing := w.potential(users, next.ofCatalog(), now)
	if len(fresh)+len(standing) == 0 {
		return nil
	}
	said := map[string][]string{}
	for _, user := range users {
		for name := range w.rules.Catalog.Groups {
			if _, in := w.rules.Access.InGroup(user, name, now); in {
				said[user] = append(said[user], name)
			}
		}
	}
	joined := next.joined(w.State).Catalog
	gains := func(before, after map[string][]string) []access.Gain {
		return access.New(joining(joined, after)).GainsOf(access.New(joining(w.rules.Catalog, before)), users, now)
	}
	if list := gains(said, together(said, fresh)); len(list) > 0 || len(standing) == 0 {
		return list
	}
	return gains(together(said, standing), together(said, standing, fresh))
}

// together is what several lists by user hold.
func together(lists ...map[string][]string) map[string][]string {
	out := map[string][]string{}
	for _, list := range lists {
		for user, groups := range list {
			out[user] = append(out[user], groups...)
		}
	}
	return out
}

// joining is a catalog in which users are members of groups that it has.
func joining(c *catalog.Catalog, of map[string][]string) *catalog.Catalog {
	out := *c
	out.Groups = maps.Clone(c.Groups)
	for _, user := range slices.Sorted(maps.Keys(of)) {
		for _, name := range of[user] {
			if g, is := out.Groups[name]; is && !slices.Contains(g.Users, user) {
				g.Users = append(slices.Clone(g.Users), user)
				out.Groups[name] = g
			}
		}
	}
	return &out
}
