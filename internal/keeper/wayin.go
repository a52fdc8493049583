package keeper

import (
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// An account of a directory that comes to sign in as a user is a credential of his, as a
// password is: whoever put it there must not have, at once, what its owner is eligible for
// or has activated (coolingOff). That is so of one that a catalog lists under the user, of
// all of a directory that becomes another one under its name, of one that the user
// confirms, and of one that a directory brings, at its first sign-in or by writing it.

// wayInLife is how long it is remembered that a user got another way in: longer than any
// coolingOff and any activation.
const wayInLife = 32 * 24 * time.Hour

// noteWayIn remembers that a user got another way in.
func (s *State) noteWayIn(user string, at lockkeeper.Moment) {
	if s.WaysIn == nil {
		s.WaysIn = map[string]lockkeeper.Moment{}
	}
	if n := len(s.WaysIn); n >= 1024 && n&(n-1) == 0 {
		maps.DeleteFunc(s.WaysIn, func(_ string, since lockkeeper.Moment) bool { return at.Sub(since) > wayInLife })
	}
	s.WaysIn[user] = at
}

// waysIn are the users, sorted, who get another way to sign in by other rules: an account
// of a directory that was not theirs, or is of another directory under the same name.
func (w *world) waysIn(new *catalog.Catalog) []string {
	old := w.rules.ofCatalog()
	mine := map[string]bool{} // what directories brought
	for _, m := range w.Members {
		if _, binds := bindsMember(old, m); binds {
			mine[m.User+" "+signInLink(m.Directory, m.Subject)] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(new.Users)) {
		was := old.Users[name].SignIns
		if slices.ContainsFunc(new.Users[name].SignIns, func(s catalog.SignIn) bool {
			a, before := old.Directories[s.Directory]
			same := before && a.Source() == new.Directories[s.Directory].Source()
			return !s.None && !(same && (slices.Contains(was, s) || mine[name+" "+signInLink(s.Directory, s.Subject)]))
		}) {
			out = append(out, name)
		}
	}
	for name, d := range new.Directories { // who was brought by another one under this name
		if a, before := old.Directories[name]; !before || a.Source() == d.Source() {
			continue
		}
		for _, m := range w.Members {
			if _, binds := bindsMember(new, &Member{Directory: name, Subject: m.Subject, User: m.User}); binds && m.Directory == name && m.User != "" {
				out = append(out, m.User)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// binding reports whether an account of a directory, of which the state has m or nil,
// comes to be a user's only now: the catalog does not list it, and it was not his.
func (w *world) binding(directory, subject, user string) bool {
	if _, listed := w.rules.ofCatalog().SignsIn(directory, subject); listed || user == "" {
		return false
	}
	m := w.Members[memberKey(directory, subject)]
	return m == nil || m.User != user
}

// credentialSince is when a user's credential was changed last, or another way to sign in
// as him came to be; zero: never.
func (w *world) credentialSince(user string) lockkeeper.Moment {
	since := w.Accounts[user].changed()
	if at := w.WaysIn[user]; since.Before(at) {
		return at
	}
	return since
}
