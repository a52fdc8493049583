package keeper

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Member is what a directory last said about one of its accounts, and the user
// that the account signs in as. The catalog says what follows from it: whether the
// directory is believed at all, which of its groups are groups here, for how long,
// and whether it may bring users whom the catalog does not list.
type Member struct {
	Directory string            `json:"directory"`
	Subject   string            `json:"subject"`
	User      string            `json:"user"`
	Groups    []string          `json:"groups,omitempty"` // of the directory, by its ids, whether or not the catalog names them
	Said      lockkeeper.Moment `json:"said"`             // when the directory said so
	// Source is what the directory was then (catalog.Directory.Source): under the same
	// name another one says nothing about this account. "": it wrote the account.
	Source string `json:"source,omitempty"`
	Claim  string `json:"claim,omitempty"` // where it was asked then for the groups; "": it was not, or an earlier release did

	Provision *Provision `json:"provision,omitempty"` // what the directory wrote about it; replaced, never changed
}

// Bounds of members.
const (
	maxMembers      = 50_000
	maxMemberGroups = 1000
	maxGroupID      = 255
	// memberLife is how long an account is remembered of which nothing was heard.
	// Past it the account may come again and gets its user back by its name.
	memberLife = 400 * 24 * time.Hour
)

func memberKey(directory, subject string) string { return directory + " " + subject }

// membersSubject is under what the journal lists what directories said.
const membersSubject = "members"

// memberSaid is what a directory said about an account at a sign-in.
type memberSaid struct {
	one
	Member   Member `json:"member"`
	Revision int    `json:"revision"`
	First    bool   `json:"first,omitempty"` // the account came to be the user's with it
}

func (*memberSaid) kind() string { return "member.said" }
func (ev *memberSaid) subjects() []string {
	return []string{"user/" + ev.Member.User, membersSubject}
}
func (ev *memberSaid) apply(s *State, e Entry) error {
	m := ev.Member
	if old := s.Members[memberKey(m.Directory, m.Subject)]; old != nil {
		m.Provision = old.Provision
	} else {
		s.makeRoom(e.Time)
	}
	s.Members[memberKey(m.Directory, m.Subject)] = &m
	if ev.First {
		s.noteWayIn(m.User, e.Time)
	}
	return nil
}

// rejoins marks what changes who is in which group.
func (*memberSaid) rejoins() {}

// A rejoiner is an event after which the rules are joined anew with what
// directories said.
type rejoiner interface{ rejoins() }

func rejoining(ev event) bool {
	_, is := ev.(rejoiner)
	q, may := ev.(interface{ quiet() bool })
	return is && !(may && q.quiet())
}

// joined are the rules of the catalog together with what directories said.
//
// Of a group that a directory writes it is not asked at sign-ins: what was said
// about it there grants nothing, and denies as what is too old to grant does.
func (r *Rules) joined(s *State) *Rules {
	own := r
	if r.own != nil {
		own = r.own
	}
	told := map[string]map[string][]*ProvisionedGroup{}
	for name, d := range own.Catalog.Directories {
		told[name] = s.toldGroups(d)
	}
	var brought []catalog.User
	var off []string // of the catalog's own
	said := s.writtenMemberships(own.Catalog, told)
	grouped := make(map[string]bool, len(said))
	for _, m := range said {
		grouped[m.User] = true
	}
	for _, key := range slices.Sorted(maps.Keys(s.Members)) {
		m := s.Members[key]
		d, binds := bindsMember(own.Catalog, m)
		if !binds {
			continue
		}
		user, away := m.listedAs(own.Catalog), m.away(d) && !m.Provision.Kept
		// Who was only written, never came and is in no group of the catalog is nobody yet.
		if _, listed := own.Catalog.Users[user]; !listed && (!m.Said.IsZero() || grouped[user]) {
			brought = append(brought, catalog.User{Name: user, Off: away})
		} else if listed && away && !slices.Contains(off, user) {
			off = append(off, user)
		}
		isTold := func(id string) bool { return len(told[d.Name][id]) > 0 }
		if groups := groupsHere(d, slices.DeleteFunc(slices.Clone(m.Groups), isTold)); len(groups) > 0 {
			said = append(said, access.Membership{User: user, Groups: groups, Until: m.Said.Add(d.GroupLimit())})
		}
		if groups := groupsHere(d, slices.DeleteFunc(slices.Clone(m.Groups), func(id string) bool { return !isTold(id) })); len(groups) > 0 {
			said = append(said, access.Membership{User: user, Groups: groups})
		}
	}
	if len(brought) == 0 && len(off) == 0 && len(said) == 0 {
		return own
	}
	j := &Rules{Catalog: r.Catalog, own: own, brought: brought, off: off, bare: r.bare}
	same := func(a, b catalog.User) bool { return a.Name == b.Name && a.Off == b.Off }
	if r.own == nil || !slices.EqualFunc(brought, r.brought, same) || !slices.Equal(off, r.off) {
		j.Catalog, j.bare = own.Catalog.Joined(brought, off), own.Access
		if len(brought) > 0 || len(off) > 0 {
			j.bare = access.New(j.Catalog)
		}
	}
	j.Access = j.bare.With(said)
	return j
}

// said is a copy of what directories said and wrote, to be looked at while the state
// goes on. Members are never changed in place.
func (s *State) said() *State {
	out := &State{Members: maps.Clone(s.Members), Provisioned: make(map[string]*Provisioned, len(s.Provisioned))}
	for name, p := range s.Provisioned {
		c := &Provisioned{Tokens: make(map[string]*WriteToken, len(p.Tokens)), Ended: p.Ended, Users: maps.Clone(p.Users), Groups: make(map[string]*ProvisionedGroup, len(p.Groups))}
		for id, t := range p.Tokens {
			own := *t
			c.Tokens[id] = &own
		}
		for id, g := range p.Groups {
			own := *g
			own.Members = slices.Clone(g.Members)
			c.Groups[id] = &own
		}
		out.Provisioned[name] = c
	}
	return out
}

// bindsMember reports whether an account of a directory is the user's that it
// signs in as, by the catalog: the user lists it, or there is no such user in the
// catalog and the directory may bring some. One that was written before it was
// anybody's is the user's who lists it since.
func bindsMember(c *catalog.Catalog, m *Member) (catalog.Directory, bool) {
	d, known := c.Directories[m.Directory]
	if !known || m.Source != "" && m.Source != d.Source() {
		return d, false
	}
	if u, listed := c.SignsIn(m.Directory, m.Subject); listed {
		return d, u.Name == m.User || m.User == ""
	}
	_, taken := c.Users[m.User]
	return d, d.Admit && !taken && m.User != ""
}

// groupsHere are the groups of the catalog that the groups of a directory are.
func groupsHere(d catalog.Directory, ids []string) []string {
	var out []string
	for _, g := range d.Groups {
		if slices.Contains(ids, g.ID) && !slices.Contains(out, g.Group) {
			out = append(out, g.Group)
		}
	}
	return out
}

func errAway(directory string) error {
	return lockkeeper.Unauthenticated.Errorf("account_away", "The directory %s has switched the account off.", directory).
		WithNext("Ask whoever runs the directory to assign the account to Lockkeeper again.")
}

// A Said is what a directory vouches for at a sign-in.
type Said struct {
	Directory     string
	Source        string            // what the directory was (catalog.Directory.Source)
	Subject       string            // what it calls the account for ever
	Name          string            // what the person is called there; only a wish
	Groups        []string          // ids of its groups
	At            lockkeeper.Moment // when it said so
	Authenticated lockkeeper.Moment // when the person last showed a credential there
	Strong        bool              // with more than a password
}

// startDirectorySession signs a person in for whom a directory vouches.
type startDirectorySession struct {
	Session Session
	Said    Said
}

func (startDirectorySession) name() string { return "session.start" }
func (c startDirectorySession) about() string {
	return "member/" + memberKey(c.Said.Directory, c.Said.Subject)
}

func (c startDirectorySession) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, known := w.rules.Catalog.Directories[c.Said.Directory]
	if !known {
		return nil, nil, lockkeeper.Unauthenticated.Errorf("directory_unknown", "The catalog has no directory %.63q.", c.Said.Directory).WithNext("Choose another one: lockkeeper login")
	}
	m, err := c.Said.member(d, now)
	if err != nil {
		return nil, nil, err
	}
	if old := w.Members[memberKey(d.Name, m.Subject)]; old != nil && m.Said.Before(old.Said) {
		return nil, nil, lockkeeper.Unauthenticated.Errorf("sign_in_overtaken", "The directory %s has said something newer about this account since.", d.Name).WithNext("Sign in again: lockkeeper login")
	}
	if m.User, err = w.userOf(d, c.Said); err != nil {
		return nil, nil, err
	}
	if w.Members[memberKey(d.Name, m.Subject)].away(d) {
		return nil, nil, errAway(d.Name)
	}
	if u := w.rules.Catalog.Users[m.User]; u.Off || u.Automation {
		return nil, nil, lockkeeper.Unauthenticated.Errorf("user_off", "The user %s may not sign in.", m.User).
			WithNext("Ask an access administrator to switch the user on in the catalog.")
	}
	if err := w.held(m.User); err != nil {
		return nil, nil, err
	}
	if err := w.unconfirmed(signInLink(d.Name, m.Subject)); err != nil {
		return nil, nil, err
	}
	if i := w.quarantined(m.User); i != nil {
		return nil, nil, errQuarantined(i)
	}
	s := c.Session
	s.User, s.Directory, s.Subject, s.Source, s.Strong = m.User, d.Name, m.Subject, m.Source, c.Said.Strong
	s.Started, s.Expires, s.Used, s.Idle = now, now.Add(d.LongestSession()), now, d.IdleLimit()
	if s.Authenticated = c.Said.Authenticated; now.Before(s.Authenticated) {
		s.Authenticated = now
	}
	return []event{&memberSaid{Member: m, Revision: w.Revision.Number, First: w.binding(d.Name, m.Subject, m.User)}, &sessionStarted{Session: s}}, s, nil
}

// member is what is remembered of what a directory said.
func (c Said) member(d catalog.Directory, now lockkeeper.Moment) (Member, error) {
	m := Member{Directory: d.Name, Subject: c.Subject, Said: c.At, Source: d.Source()}
	if c.Source != "" && c.Source != m.Source {
		return m, lockkeeper.Unauthenticated.Errorf("directory_changed", "The directory %s has become another one since it vouched for this sign-in.", d.Name).WithNext("Sign in again: lockkeeper login")
	}
	if now.Before(m.Said) {
		m.Said = now
	}
	if d.ClaimOfGroups() == "" {
		return m, nil
	}
	m.Claim = d.ClaimOfGroups()
	m.Groups = slices.Compact(slices.Sorted(slices.Values(c.Groups)))
	if len(m.Groups) > maxMemberGroups || slices.ContainsFunc(m.Groups, func(g string) bool { return len(g) > maxGroupID }) {
		return m, lockkeeper.Unauthenticated.Errorf("groups_many", "The directory %s names more than %d groups of the account, or one of more than %d bytes.", d.Name, maxMemberGroups, maxGroupID).
			WithNext("Ask an administrator to let the directory send only the groups that are assigned to Lockkeeper there.")
	}
	return m, nil
}

// userOf is the user that an account of a directory signs in as: the one who lists
// it; or, where the directory may bring users, the one that it signed in as before,
// or a new one.
func (w *world) userOf(d catalog.Directory, said Said) (string, error) {
	if u, listed := w.rules.Catalog.SignsIn(d.Name, said.Subject); listed {
		return u.Name, nil
	}
	if !d.Admit {
		return "", lockkeeper.Unauthenticated.Errorf("sign_in_unknown", "The account %s at %s is no user's.", said.Subject, d.Name).
			WithNext("Ask an access administrator to list it under the user: signIns: [{directory: %s, subject: %q}]", d.Name, said.Subject)
	}
	m := w.Members[memberKey(d.Name, said.Subject)]
	if m != nil {
		if _, binds := bindsMember(w.rules.ofCatalog(), m); binds {
			return m.User, nil
		}
	}
	if m == nil && len(w.Members) >= maxMembers && !w.forgettable(said.At) {
		return "", lockkeeper.Limited.Errorf("members_many", "Directories have brought %d accounts, and no more are taken.", len(w.Members)).
			WithNext("Let the directory sign in only those who are assigned to Lockkeeper there.")
	}
	return w.freeName(d.Name, said), nil
}

func (w *world) forgettable(now lockkeeper.Moment) bool {
	for _, m := range w.Members {
		if m.forgettable(now) {
			return true
		}
	}
	return false
}

// freeName is a name for a new user: what the person is called at the directory,
// if nobody here is or was called so, or one made of the account's own name for
// ever.
func (w *world) freeName(directory string, said Said) string {
	wish, _, _ := strings.Cut(strings.ToLower(said.Name), "@")
	wish = strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			return c
		case c == '.' || c == '_' || c == '-' || c == ' ':
			return '-'
		}
		return -1
	}, wish), "-")
	if lockkeeper.CheckName(wish) == nil && !w.nameTaken(wish) {
		return wish
	}
	for n := 0; ; n++ { // somebody may have wished for this name, too
		sum := lockkeeper.DigestOf(fmt.Appendf(nil, "lockkeeper.member.v1\n%d\n%s", n, memberKey(directory, said.Subject)))
		if name := fmt.Sprintf("%.40s-%s", directory, sum.Hex()[:20]); !w.nameTaken(name) {
			return name
		}
	}
}

// nameTaken reports whether somebody else is called so: a user, a person, an
// account, or a member, also one that counts for nobody now.
func (w *world) nameTaken(name string) bool {
	if _, is := w.rules.Catalog.Users[name]; is || w.Accounts[name] != nil {
		return true
	}
	for _, u := range w.rules.Catalog.Users {
		if string(u.Who()) == name {
			return true
		}
	}
	for _, m := range w.Members {
		if m.User == name {
			return true
		}
	}
	return false
}

// keepsMembers refuses a catalog that gives the name of somebody whom a directory
// brought to somebody else, or his account to a user of another name: what is open
// in his name would be another person's, or his own twice.
func (w *world) keepsMembers(new *catalog.Catalog) error {
	old := w.rules.ofCatalog()
	for _, name := range slices.Sorted(maps.Keys(old.Users)) {
		if _, stays := new.Users[name]; stays {
			continue
		}
		for _, s := range old.Users[name].SignIns {
			if _, listed := new.SignsIn(s.Directory, s.Subject); !listed && new.Directories[s.Directory].Admit && !s.None {
				return lockkeeper.Conflict.Errorf("user_would_return", "The directory %s admits whoever is not listed, so %s would come in again, as somebody new.", s.Directory, name).
					WithNext("Leave the user in and switch him off: off: true").WithField("User " + name)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.Members)) {
		m := w.Members[key]
		if _, own := w.rules.ofCatalog().Users[m.User]; own || m.User == "" {
			continue
		}
		lists, listed := new.SignsIn(m.Directory, m.Subject)
		_, taken := new.Users[m.User]
		switch {
		case listed && lists.Name != m.User:
			return lockkeeper.Conflict.Errorf("sign_in_bound", "The account %s at %s signs in as %s already, and this catalog gives it to %s.", m.Subject, m.Directory, m.User, lists.Name).
				WithNext("Call the user %s.", m.User).WithField("User " + lists.Name + ": signIns")
		case taken && !listed:
			return lockkeeper.Conflict.Errorf("user_name_taken", "The user %s is somebody whom the directory %s brought, and this catalog gives the name to a user who does not list that account.", m.User, m.Directory).
				WithNext("Choose another name, or list the account: signIns: [{directory: %s, subject: %q}]", m.Directory, m.Subject).WithField("User " + m.User)
		}
	}
	return nil
}

// sessionUsed says that a session was used: its idle time begins anew. A session
// has one such entry in a quarter of its idle time at most.
type sessionUsed struct {
	one
	ID   string `json:"id"`
	User string `json:"user"`
}

func (*sessionUsed) kind() string          { return "session.used" }
func (ev *sessionUsed) subjects() []string { return []string{"user/" + ev.User} }
func (ev *sessionUsed) apply(s *State, e Entry) error {
	if session := s.Sessions[ev.ID]; session != nil {
		used := *session
		used.Used = e.Time
		s.Sessions[ev.ID] = &used
		s.noteSignIn(ev.User, e.Time)
	}
	return nil
}

// useSession writes down that the caller's session is in use.
type useSession struct{}

func (useSession) name() string  { return "session.use" }
func (useSession) about() string { return "" }
func (useSession) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if s := w.Sessions[by.Session]; s == nil || !s.unmarked(now) {
		return nil, nil, nil
	}
	return []event{&sessionUsed{ID: by.Session, User: by.User}}, nil, nil
}

// sessionOver says why a session holds no more at now by its own bounds and by whoever
// vouched for it; "": it holds.
func (w *world) sessionOver(s *Session, now lockkeeper.Moment) string {
	expires, idle := s.Expires, s.Idle
	if d, known := w.rules.Catalog.Directories[s.Directory]; known { // which may have become stricter
		if sooner := s.Started.Add(d.LongestSession()); sooner.Before(expires) {
			expires = sooner
		}
		idle = min(idle, d.IdleLimit())
	}
	switch {
	case !now.Before(expires):
		return "The session has ended."
	case idle > 0 && !now.Before(s.Used.Add(idle)):
		return fmt.Sprintf("The session was not used for %s.", idle)
	case s.Directory == "":
		return ""
	}
	d, binds := bindsMember(w.rules.ofCatalog(), &Member{Directory: s.Directory, Subject: s.Subject, User: s.User, Source: s.Source})
	switch {
	case !binds:
		return "The account that signed in is the user's no more."
	case w.Members[memberKey(s.Directory, s.Subject)].away(d):
		return fmt.Sprintf("The directory %s has switched the account off.", s.Directory)
	}
	return ""
}

// endedBy are the sessions that other rules end: with them, not within a second, so
// that none is alive again when the rules change back.
func (w *world) endedBy(next *Rules, now lockkeeper.Moment) []event {
	after := &world{State: w.State, rules: next.joined(w.State)}
	return after.overdueSessions(now, maxSwept)
}

// overdueSessions writes down which sessions are over though their time is not, so
// that none comes back with what it rested on.
func (w *world) overdueSessions(now lockkeeper.Moment, room int) []event {
	var over []string
	for id, s := range w.Sessions {
		u := w.rules.Catalog.Users[s.User]
		if now.Before(s.Expires) && (w.sessionOver(s, now) != "" || u.Name == "" || u.Off || u.Automation) {
			over = append(over, id)
		}
	}
	slices.Sort(over)
	var out []event
	for _, id := range over[:min(len(over), max(room, 0))] {
		out = append(out, &sessionEnded{ID: id, User: w.Sessions[id].User, EndedBy: "(its end)"})
	}
	return out
}

// unmarked reports whether the use of a session is to be written down.
func (s *Session) unmarked(now lockkeeper.Moment) bool {
	return s.Idle > 0 && now.Sub(s.Used) >= s.Idle/4
}

// SignInBy starts a session for a person for whom a directory vouches. The secret
// goes to the person and is kept nowhere else.
func (k *Keeper) SignInBy(ctx context.Context, said Said) (secret string, s Session, err error) {
	id := newID("s")
	secret = newSecret("lkp_" + strings.TrimPrefix(id, "s-") + "_")
	s, err = do[Session](ctx, k, Caller{}, "", startDirectorySession{Session{ID: id, Secret: secretDigest(secret)}, said})
	return secret, s, err
}
