package keeper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A directory may write who is there and who is in which of its groups (SCIM,
// RFC 7643 and 7644), beside what it says at sign-ins. What it writes has no age:
// it pushes, so it is believed until it writes otherwise, as long as it can write
// at all: when the last of its tokens has ended, its groups grant for groupAge more
// and then nothing. Whom it switches off is off however long it is silent.

// Provisioned is what one directory wrote, but for what it wrote about an account,
// which is a Provision of its Member.
type Provisioned struct {
	// Tokens by id. At most maxWriteTokens; evicted when they are revoked, and past
	// their end when another one is made.
	Tokens map[string]*WriteToken `json:"tokens,omitempty"`
	Ended  lockkeeper.Moment      `json:"ended,omitzero"` // when the last of those ended that were evicted
	// Users is the account that each id stands for. Evicted when the directory
	// deletes it; bounded by maxMembers.
	Users map[string]string `json:"users,omitempty"`
	// Groups by id. Evicted when the directory deletes them; at most
	// maxProvisionedGroups, with maxGroupMembers each and maxMemberships together.
	Groups map[string]*ProvisionedGroup `json:"groups,omitempty"`
}

// A WriteToken lets a directory write about itself, and nothing else. Only the
// digest of its secret is kept.
type WriteToken struct {
	ID      string            `json:"id"`
	Secret  lockkeeper.Digest `json:"secret"`
	By      string            `json:"by"` // who made it
	Since   lockkeeper.Moment `json:"since"`
	Expires lockkeeper.Moment `json:"expires"`
}

// A Provision is what a directory wrote about one of its accounts. What the person
// is called there is kept elsewhere: here stands a digest that it is found by.
type Provision struct {
	ID       string            `json:"id"`   // that the directory knows the account by here
	Name     lockkeeper.Digest `json:"name"` // nameDigest of its userName
	External string            `json:"external,omitempty"`
	Off      bool              `json:"off,omitempty"`  // switched off or deleted
	Gone     bool              `json:"gone,omitempty"` // deleted
	// Kept says that the user stays on, though the account is off: nobody else who
	// could sign in administers the organisation.
	Kept    bool              `json:"kept,omitempty"`
	Created lockkeeper.Moment `json:"created"`
	Changed lockkeeper.Moment `json:"changed"`
}

// A ProvisionedGroup is a group of a directory as it wrote it.
type ProvisionedGroup struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	External string            `json:"external,omitempty"`
	Members  []string          `json:"members,omitempty"` // ids of users, sorted; replaced whole, never changed in place
	Created  lockkeeper.Moment `json:"created"`
	Changed  lockkeeper.Moment `json:"changed"`
}

// Bounds of what directories write.
const (
	maxWriteTokens       = 8
	maxProvisionedGroups = 5000
	maxGroupMembers      = 50_000
	maxMemberships       = 500_000
	maxAttribute         = 255 // bytes of a name or an id
)

// provisioningSubject is under what the journal lists what directories wrote.
const provisioningSubject = "provisioning"

// directoriesSubject is under what the journal lists what directories were refused.
const directoriesSubject = "directories"

func directorySubject(name string) string { return "directory/" + name }

// nameDigest finds an account by what the person is called at the directory, which
// no entry holds. Case makes no difference (RFC 7643, section 4.1.1).
func nameDigest(directory, name string) lockkeeper.Digest {
	return lockkeeper.DigestOf([]byte("lockkeeper.user_name.v1\n" + directory + "\n" + strings.ToLower(name)))
}

// written is what a directory wrote; empty if it wrote nothing.
func (s *State) written(directory string) *Provisioned {
	if p := s.Provisioned[directory]; p != nil {
		return p
	}
	return &Provisioned{}
}

func (s *State) writing(directory string) *Provisioned {
	p := s.Provisioned[directory]
	if p == nil {
		if s.Provisioned == nil {
			s.Provisioned = map[string]*Provisioned{}
		}
		p = &Provisioned{}
		s.Provisioned[directory] = p
	}
	if p.Tokens == nil {
		p.Tokens = map[string]*WriteToken{}
	}
	if p.Users == nil {
		p.Users = map[string]string{}
	}
	if p.Groups == nil {
		p.Groups = map[string]*ProvisionedGroup{}
	}
	return p
}

// last is when the last token of the directory ends, or ended.
func (p *Provisioned) last() lockkeeper.Moment {
	last := p.Ended
	for _, t := range p.Tokens {
		if last.Before(t.Expires) {
			last = t.Expires
		}
	}
	return last
}

// end remembers that a token can write no more from then on.
func (p *Provisioned) end(t *WriteToken, at lockkeeper.Moment) {
	if delete(p.Tokens, t.ID); p.Ended.Before(at) {
		p.Ended = at
	}
}

// endTokens takes every directory's tokens away, where a log goes on from an older
// copy: which of them were taken away since is not known.
func (s *State) endTokens(at lockkeeper.Moment) {
	for _, p := range s.Provisioned {
		for _, t := range p.Tokens {
			p.end(t, at)
		}
	}
}

// away reports whether the directory switched the account off.
func (m *Member) away(d catalog.Directory) bool {
	return m != nil && d.Scim && m.Provision != nil && m.Provision.Off
}

// listedAs is the user that an account of a directory is, by the catalog.
func (m *Member) listedAs(c *catalog.Catalog) string {
	if u, listed := c.SignsIn(m.Directory, m.Subject); listed {
		return u.Name
	}
	return m.User
}

// key is what a group is known by among the groups of the catalog's document.
func (g *ProvisionedGroup) key(d catalog.Directory) string {
	if d.AttributeOfGroups() == catalog.DisplayNameAttribute {
		return g.Name
	}
	return g.External
}

// writtenGroups are the groups of a directory, by what they are known by, that it
// wrote an account into.
func (s *State) writtenGroups(d catalog.Directory, m *Member) []string {
	if !d.Scim || m.Provision == nil {
		return nil
	}
	var out []string
	for _, g := range s.written(d.Name).Groups {
		if _, in := slices.BinarySearch(g.Members, m.Provision.ID); in {
			out = append(out, g.key(d))
		}
	}
	slices.Sort(out)
	return out
}

// toldGroups are the groups of a directory that it writes: of these it is not asked
// at sign-ins.
func (s *State) toldGroups(d catalog.Directory) map[string][]*ProvisionedGroup {
	told := map[string][]*ProvisionedGroup{}
	if d.Scim {
		for _, g := range s.written(d.Name).Groups {
			told[g.key(d)] = append(told[g.key(d)], g)
		}
	}
	return told
}

// writtenMemberships are who is in which group by what directories wrote.
func (s *State) writtenMemberships(c *catalog.Catalog, told map[string]map[string][]*ProvisionedGroup) []access.Membership {
	var out []access.Membership
	for name, groups := range told {
		d, p := c.Directories[name], s.written(name)
		until, of := p.last().Add(d.GroupLimit()), map[string][]string{}
		for _, mapped := range d.Groups {
			for _, g := range groups[mapped.ID] {
				for _, id := range g.Members {
					m := s.Members[memberKey(name, p.Users[id])]
					if m == nil {
						continue
					}
					if _, binds := bindsMember(c, m); binds && !slices.Contains(of[m.listedAs(c)], mapped.Group) {
						user := m.listedAs(c)
						of[user] = append(of[user], mapped.Group)
					}
				}
			}
		}
		for user, groups := range of {
			out = append(out, access.Membership{User: user, Groups: groups, Until: until})
		}
	}
	return out
}

// tokenMade is a token with which a directory may write.
type tokenMade struct {
	one
	Directory string     `json:"directory"`
	Token     WriteToken `json:"token"`
	Revision  int        `json:"revision"`
}

func (*tokenMade) kind() string { return "directory.token_made" }
func (ev *tokenMade) subjects() []string {
	return []string{directorySubject(ev.Directory), "user/" + ev.Token.By, provisioningSubject}
}
func (ev *tokenMade) apply(s *State, e Entry) error {
	p := s.writing(ev.Directory)
	for _, t := range p.Tokens {
		if !e.Time.Before(t.Expires) {
			p.end(t, t.Expires)
		}
	}
	t := ev.Token
	p.Tokens[t.ID] = &t
	return nil
}

// rejoins marks what changes for how long what a directory wrote is believed.
func (*tokenMade) rejoins() {}

// tokenEnded takes a directory's token away.
type tokenEnded struct {
	one
	Directory string `json:"directory"`
	ID        string `json:"id"`
	By        string `json:"ended_by"`
	Revision  int    `json:"revision"`
}

func (*tokenEnded) kind() string { return "directory.token_ended" }
func (ev *tokenEnded) subjects() []string {
	return []string{directorySubject(ev.Directory), "user/" + ev.By, provisioningSubject}
}
func (ev *tokenEnded) apply(s *State, e Entry) error {
	p := s.writing(ev.Directory)
	t := p.Tokens[ev.ID]
	if t == nil {
		return fmt.Errorf("the directory %s has no token %s", ev.Directory, ev.ID)
	}
	at := e.Time
	if t.Expires.Before(at) {
		at = t.Expires
	}
	p.end(t, at)
	return nil
}
func (*tokenEnded) rejoins() {}

// memberProvisioned is what a directory wrote about one of its accounts. One that
// is off has no session any more.
type memberProvisioned struct {
	one
	Directory string    `json:"directory"`
	Subject   string    `json:"subject"`
	User      string    `json:"user,omitempty"` // that the account is; "": nobody yet
	Provision Provision `json:"provision"`
	Sessions  []string  `json:"sessions,omitempty"` // that end with it
	Revision  int       `json:"revision"`
	First     bool      `json:"first,omitempty"` // the account came to be the user's with it

	still bool // it changes nobody's rights
}

func (*memberProvisioned) kind() string { return "member.provisioned" }
func (ev *memberProvisioned) subjects() []string {
	out := []string{directorySubject(ev.Directory), provisioningSubject}
	if ev.User != "" {
		out = append(out, "user/"+ev.User)
	}
	return out
}
func (*memberProvisioned) rejoins() {}

// quiet reports that the rules joined anew would be as they are. Most of what a
// directory writes when it begins is so, and to join costs time where it writes many.
func (ev *memberProvisioned) quiet() bool { return ev.still }

func (ev *memberProvisioned) apply(s *State, e Entry) error {
	key, p, written := memberKey(ev.Directory, ev.Subject), s.writing(ev.Directory), ev.Provision
	m := &Member{Directory: ev.Directory, Subject: ev.Subject}
	if old := s.Members[key]; old != nil {
		*m = *old
	} else {
		s.makeRoom(e.Time)
	}
	if ev.User != "" {
		m.User = ev.User
	}
	m.Provision = &written
	s.Members[key] = m
	p.Users[written.ID] = ev.Subject
	if written.Gone {
		delete(p.Users, written.ID)
		for _, g := range p.Groups {
			if at, in := slices.BinarySearch(g.Members, written.ID); in {
				g.Members = slices.Delete(slices.Clone(g.Members), at, at+1)
			}
		}
	}
	for _, id := range ev.Sessions {
		delete(s.Sessions, id)
	}
	if ev.First {
		s.noteWayIn(ev.User, e.Time)
	}
	if written.Off && ev.User != "" {
		s.uninvite(ev.User)
	}
	return nil
}

// makeRoom forgets accounts of which nothing was heard for long, if there is no room
// for another one. What a directory wrote is never forgotten: an account that it
// deleted stays off until it writes it again.
func (s *State) makeRoom(now lockkeeper.Moment) {
	if len(s.Members) < maxMembers {
		return
	}
	for key, m := range s.Members {
		if m.forgettable(now) {
			delete(s.Members, key)
		}
	}
}

func (m *Member) forgettable(now lockkeeper.Moment) bool {
	return m.Provision == nil && now.Sub(m.Said) > memberLife
}

// groupProvisioned is what a directory wrote about one of its groups.
type groupProvisioned struct {
	one
	Directory string   `json:"directory"`
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	External  string   `json:"external,omitempty"`
	Added     []string `json:"added,omitempty"`   // ids of users
	Removed   []string `json:"removed,omitempty"` // the same
	Gone      bool     `json:"gone,omitempty"`
	Revision  int      `json:"revision"`

	still bool // it changes nobody's rights
}

func (*groupProvisioned) kind() string { return "group.provisioned" }
func (ev *groupProvisioned) subjects() []string {
	return []string{directorySubject(ev.Directory), provisioningSubject}
}
func (*groupProvisioned) rejoins()       {}
func (ev *groupProvisioned) quiet() bool { return ev.still }

func (ev *groupProvisioned) apply(s *State, e Entry) error {
	p := s.writing(ev.Directory)
	g := p.Groups[ev.ID]
	if g == nil {
		g = &ProvisionedGroup{ID: ev.ID, Name: ev.Name, External: ev.External, Created: e.Time}
		p.Groups[ev.ID] = g
	}
	var unnamed []string // what the group was known by, and is no more
	for _, was := range []string{g.Name, g.External} {
		if was != "" && (ev.Gone || was != ev.Name && was != ev.External) {
			unnamed = append(unnamed, was)
		}
	}
	if len(unnamed) > 0 {
		for key, m := range s.Members {
			if m.Directory == ev.Directory {
				s.Members[key] = m.unsaid(unnamed)
			}
		}
	}
	for _, id := range ev.Removed {
		key := memberKey(ev.Directory, p.Users[id])
		if m := s.Members[key]; m != nil {
			s.Members[key] = m.unsaid([]string{g.Name, g.External})
		}
	}
	if ev.Gone {
		delete(p.Groups, ev.ID)
		return nil
	}
	g.Name, g.External, g.Changed = ev.Name, ev.External, e.Time
	g.Members = merge(g.Members, ev.Added, ev.Removed)
	return nil
}

// unsaid is the member without what a sign-in said about groups: the directory has
// written otherwise since.
func (m *Member) unsaid(groups []string) *Member {
	in := func(g string) bool { return slices.Contains(groups, g) }
	if !slices.ContainsFunc(m.Groups, in) {
		return m
	}
	without := *m
	without.Groups = slices.DeleteFunc(slices.Clone(m.Groups), in)
	return &without
}

// merge is a sorted list with some more and without others, as a new list.
func merge(list, added, removed []string) []string {
	gone := make(map[string]bool, len(removed))
	for _, id := range removed {
		gone[id] = true
	}
	out := make([]string, 0, len(list)+len(added))
	for _, id := range list {
		if !gone[id] {
			out = append(out, id)
		}
	}
	out = append(out, added...)
	slices.Sort(out)
	return slices.Compact(out)
}
