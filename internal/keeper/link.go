package keeper

import (
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// Whoever may write users could list his own account under somebody else's name: his
// runs would be that person's, who may then approve them, or he would sign in as him.
// So an account that somebody else links to a person who has shown already who he is
// counts for little until that person says that it is his: its runs are the linker's,
// too, it proves nothing, and nobody signs in with it. Where a second person decided
// the change, nothing of this is needed.

// A Link is an account that was linked to a user and that he has not confirmed yet.
type Link struct {
	User string            `json:"user"`
	By   string            `json:"linked_by"`
	At   lockkeeper.Moment `json:"at,omitzero"`
}

// maxLinks bounds the links that nobody has confirmed.
const maxLinks = 10_000

func idLink(provider, id string) string           { return "id " + provider + " " + id }
func signInLink(directory, subject string) string { return "sign-in " + directory + " " + subject }

// linksOf are the accounts that a user lists, as links are kept by.
func linksOf(u catalog.User) []string {
	var out []string
	for _, id := range u.IDs {
		out = append(out, idLink(id.Provider, id.ID))
	}
	for _, s := range u.SignIns {
		out = append(out, signInLink(s.Directory, s.Subject))
	}
	return out
}

// linking lists, by account, what a catalog links to persons who have shown who they
// are, and the links that it takes away. It refuses more than can be kept.
func (w *world) linking(by string, new *catalog.Catalog) (linked map[string]Link, unlinked []string, err error) {
	old := w.rules.ofCatalog()
	met, mine := map[string]bool{}, map[string]bool{} // who signed in with a directory, and with which account
	for _, m := range w.Members {
		if _, binds := bindsMember(old, m); binds {
			met[m.User], mine[m.User+" "+signInLink(m.Directory, m.Subject)] = true, true
		}
	}
	linked = map[string]Link{}
	for name, u := range new.Users {
		a := w.Accounts[name]
		if name == by || !met[name] && (a == nil || !a.Proven && !a.Once) {
			continue
		}
		was := linksOf(old.Users[name])
		for _, key := range linksOf(u) {
			if !slices.Contains(was, key) && !mine[name+" "+key] {
				linked[key] = Link{User: name, By: by}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.Links)) {
		if u, known := new.Users[w.Links[key].User]; !known || !slices.Contains(linksOf(u), key) {
			unlinked = append(unlinked, key)
		}
	}
	if len(w.Links)+len(linked) > maxLinks {
		return nil, nil, lockkeeper.Limited.Errorf("links_many", "%d accounts would be linked to persons who have not confirmed them.", len(w.Links)+len(linked)).
			WithNext("Let them confirm theirs first: lockkeeper accounts confirm")
	}
	return linked, unlinked, nil
}

// linker is who linked an account of a platform that nobody has confirmed, or "".
func (w *world) linker(provider, account string) string {
	return w.Links[idLink(provider, account)].By
}

// linkedBy adds to the persons behind a run whoever linked its account.
func (w *world) linkedBy(provider, account string, persons []lockkeeper.Person) []lockkeeper.Person {
	by := w.linker(provider, account)
	if by == "" {
		return persons
	}
	for _, p := range w.persons(by) {
		if !slices.Contains(persons, p) {
			persons = append(slices.Clone(persons), p)
		}
	}
	return persons
}

// alsoMay is the right to start deployments of a run whose account somebody linked,
// if he may, too.
func (w *world) alsoMay(by string, right lockkeeper.Decision, o Origin, scope lockkeeper.Scope, now lockkeeper.Moment) lockkeeper.Decision {
	if w.check(by, lockkeeper.StartDeployments, scope, now).Passed(now) {
		return right
	}
	r := lockkeeper.RefusalOf(w.unconfirmed(idLink(o.Provider, o.Account)))
	return lockkeeper.Decision{Subject: right.Subject, Verdict: lockkeeper.Fail, Code: r.Code, Sentence: r.Sentence, Next: r.Next}
}

// linksConfirmed says that accounts are the user's own, by his word.
type linksConfirmed struct {
	one
	User     string   `json:"user"`
	Links    []string `json:"links"`
	Revision int      `json:"revision"`
	WayIn    bool     `json:"way_in,omitempty"` // one of them signs in as the user from now on
}

func (*linksConfirmed) kind() string          { return "links.confirmed" }
func (ev *linksConfirmed) subjects() []string { return []string{"user/" + ev.User} }
func (ev *linksConfirmed) apply(s *State, e Entry) error {
	for _, key := range ev.Links {
		delete(s.Links, key)
	}
	if ev.WayIn {
		s.noteWayIn(ev.User, e.Time)
	}
	return nil
}

// confirmLinks says that the accounts that were linked to the caller are his.
type confirmLinks struct{}

func (confirmLinks) name() string  { return "links.confirm" }
func (confirmLinks) about() string { return "account" }
func (confirmLinks) decide(w *world, by Caller, _ lockkeeper.Moment) ([]event, any, error) {
	if by.User == "" {
		return nil, nil, errPersonNeeded()
	}
	if len(w.persons(by.User))+len(w.behind(by)) > 1 {
		return nil, nil, lockkeeper.Forbidden.Errorf("account_unproven", "The account %s counts as whoever made its password still, and confirms nothing.", by.User).
			WithNext("Prove first that it is yours, with an account that was listed before: lockkeeper accounts challenge")
	}
	var links []string
	for _, key := range slices.Sorted(maps.Keys(w.Links)) {
		if w.Links[key].User == by.User {
			links = append(links, key)
		}
	}
	if len(links) == 0 {
		return nil, confirmed{Links: []string{}}, nil
	}
	signsIn := slices.ContainsFunc(links, func(key string) bool { return strings.HasPrefix(key, "sign-in ") })
	return []event{&linksConfirmed{User: by.User, Links: links, WayIn: signsIn, Revision: w.Revision.Number}}, confirmed{links}, nil
}

// confirmed is the answer to confirmLinks.
type confirmed struct {
	Links []string `json:"links"`
}

// unconfirmed refuses an account that somebody else linked to a user.
func (w *world) unconfirmed(key string) error {
	l, is := w.Links[key]
	if !is {
		return nil
	}
	kind, rest, _ := strings.Cut(key, " ")
	where, account, _ := strings.Cut(rest, " ")
	what := map[string]string{"id": "runs of the account", "sign-in": "the account"}[kind]
	return lockkeeper.Forbidden.Errorf("link_unconfirmed", "%s listed %s %s at %s under %s, who has not confirmed yet that it is his.", l.By, what, account, where, l.User).
		WithNext("%s confirms it, signed in as before: lockkeeper accounts confirm", l.User)
}
