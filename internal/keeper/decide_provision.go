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

// makeToken gives a directory a token to write with.
type makeToken struct {
	Directory string
	ID        string
	Secret    lockkeeper.Digest
	Life      time.Duration
}

// Bounds of a directory's token.
const (
	minTokenLife = time.Hour
	maxTokenLife = 366 * 24 * time.Hour
)

func (makeToken) name() string    { return "directory.make_token" }
func (c makeToken) about() string { return directorySubject(c.Directory) }
func (c makeToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.WriteAccess, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	// Whoever writes for a directory puts people into groups, and so grants what he
	// need not hold himself.
	if _, err := w.may(by, lockkeeper.EscalateAccess, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	d, known := w.rules.Catalog.Directories[c.Directory]
	if !known || !d.Scim {
		return nil, nil, lockkeeper.Conflict.Errorf("scim_missing", "The catalog has no directory %.63q that writes.", c.Directory).WithNext("Add scim: true to the Directory and apply it.")
	}
	if c.Life < minTokenLife || c.Life > maxTokenLife {
		return nil, nil, lockkeeper.Invalid.Errorf("duration_out_of_bounds", "A directory's token lasts %s to %s.", minTokenLife, maxTokenLife).WithNext("Ask for --for 4320h.")
	}
	alive := 0
	for _, t := range w.written(d.Name).Tokens {
		if now.Before(t.Expires) {
			alive++
		}
	}
	if alive >= maxWriteTokens {
		return nil, nil, lockkeeper.Limited.Errorf("tokens_many", "The directory %s has %d tokens.", d.Name, alive).WithNext("Take one away: lockkeeper directories revoke-token %s ID", d.Name)
	}
	t := WriteToken{ID: c.ID, Secret: c.Secret, By: by.User, Since: now, Expires: now.Add(c.Life)}
	return []event{&tokenMade{Directory: d.Name, Token: t, Revision: w.Revision.Number}}, t, nil
}

// endToken takes a directory's token away. Nothing stands before it but the right
// to do so, also when the directory is one no more.
type endToken struct{ Directory, ID string }

func (endToken) name() string    { return "directory.end_token" }
func (c endToken) about() string { return directorySubject(c.Directory) }
func (endToken) pressing() bool  { return true }
func (c endToken) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	if _, err := w.may(by, lockkeeper.WriteAccess, lockkeeper.Root, now); err != nil {
		return nil, nil, err
	}
	if w.written(c.Directory).Tokens[c.ID] == nil {
		return nil, nil, lockkeeper.Conflict.Errorf("token_ended", "The directory %.63q has no token %.40q.", c.Directory, c.ID).WithNext("List them: lockkeeper directories list")
	}
	return []event{&tokenEnded{Directory: c.Directory, ID: c.ID, By: by.User, Revision: w.Revision.Number}}, nil, nil
}

// writer is the directory that the caller may write for now.
func (w *world) writer(by Caller, now lockkeeper.Moment) (catalog.Directory, error) {
	t := w.written(by.Directory).Tokens[by.DirectoryToken]
	if by.Directory == "" || t == nil || !now.Before(t.Expires) {
		return catalog.Directory{}, lockkeeper.Unauthenticated.Errorf("directory_token_unknown", "This is no token that a directory may write with now.").
			WithNext("Make one: lockkeeper directories scim-token NAME")
	}
	if err := w.held(""); err != nil {
		return catalog.Directory{}, err
	}
	d, known := w.rules.Catalog.Directories[by.Directory]
	if !known || !d.Scim {
		return d, lockkeeper.Forbidden.Errorf("scim_missing", "The catalog has no directory %.63q that writes.", by.Directory).WithNext("Add scim: true to the Directory and apply it.")
	}
	return d, nil
}

// A UserWrite is what a directory writes about an account; nil: as it is.
type UserWrite struct {
	Name     *string // userName; it stands in no entry
	External *string
	Active   *bool
}

func unfitAttribute(name, value string) error {
	if value != "" && len(value) <= maxAttribute && !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }) {
		return nil
	}
	return lockkeeper.Invalid.Errorf("attribute_unfit", "%s has 1 to %d bytes of text.", name, maxAttribute).WithField(name)
}

func (u UserWrite) fit() error {
	if u.Name != nil {
		if err := unfitAttribute("userName", *u.Name); err != nil {
			return err
		}
	}
	if u.External != nil {
		return unfitAttribute("externalId", *u.External)
	}
	return nil
}

// subject is what the directory's sign-ins call the account that is written; ""
// where that attribute is not.
func (u UserWrite) subject(d catalog.Directory) string {
	value := u.External
	if d.AttributeOfSubject() == catalog.UserNameAttribute {
		value = u.Name
	}
	if value == nil {
		return ""
	}
	return *value
}

// createUser writes an account that the directory has not written before, or has
// deleted since.
type createUser struct {
	ID    string
	Write UserWrite
}

func (createUser) name() string     { return "scim.create_user" }
func (createUser) about() string    { return directoriesSubject }
func (c createUser) pressing() bool { return c.Write.Active != nil && !*c.Write.Active }
func (c createUser) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	if c.Write.Name == nil {
		return nil, nil, lockkeeper.Invalid.Errorf("attribute_unfit", "A user has a userName.").WithField("userName")
	}
	if err := c.Write.fit(); err != nil {
		return nil, nil, err
	}
	subject := c.Write.subject(d)
	if reason := d.SubjectUnfit(subject); reason != "" {
		return nil, nil, lockkeeper.Invalid.Errorf("subject_unfit", "The directory %s signs people in by what it writes as %s, and that %s.", d.Name, d.AttributeOfSubject(), reason).
			WithNext("Map to %s what the directory's tokens have as %s.", d.AttributeOfSubject(), d.SubjectClaim()).WithField(d.AttributeOfSubject())
	}
	m := w.Members[memberKey(d.Name, subject)]
	if m != nil && m.Provision != nil && !m.Provision.Gone {
		return nil, nil, errWritten("user", d.AttributeOfSubject())
	}
	p := Provision{ID: c.ID, Name: nameDigest(d.Name, *c.Write.Name), Created: now, Changed: now, Off: c.Write.Active != nil && !*c.Write.Active}
	if c.Write.External != nil {
		p.External = *c.Write.External
	}
	if err := w.nameFree(d, c.ID, p.Name); err != nil {
		return nil, nil, err
	}
	user, err := w.writtenAs(d, Said{Directory: d.Name, Subject: subject, Name: *c.Write.Name, At: now})
	if err != nil {
		return nil, nil, err
	}
	return w.provision(by, &memberProvisioned{Directory: d.Name, Subject: subject, User: user, Provision: p, still: !p.Off && (m == nil || m.Provision == nil)}, now)
}

func errWritten(what, attribute string) error {
	return lockkeeper.Conflict.Errorf("already_provisioned", "There is a %s with this %s already.", what, attribute).WithField(attribute)
}

// nameFree refuses a userName that another account of the directory has.
func (w *world) nameFree(d catalog.Directory, id string, name lockkeeper.Digest) error {
	for other, subject := range w.written(d.Name).Users {
		if m := w.Members[memberKey(d.Name, subject)]; other != id && m != nil && m.Provision.Name == name {
			return errWritten("user", "userName")
		}
	}
	return nil
}

// writtenAs is the user that an account is which a directory writes: the one who
// lists it, the one that it signed in as, a new one if the directory may bring
// some, or nobody yet ("").
func (w *world) writtenAs(d catalog.Directory, said Said) (string, error) {
	m := w.Members[memberKey(d.Name, said.Subject)]
	if u, listed := w.rules.Catalog.SignsIn(d.Name, said.Subject); listed {
		return u.Name, nil
	}
	if m == nil && len(w.Members) >= maxMembers && !w.forgettable(said.At) {
		return "", lockkeeper.Limited.Errorf("members_many", "Directories have brought %d accounts, and no more are taken.", len(w.Members)).
			WithNext("Let the directory provision only those who are assigned to Lockkeeper there.")
	}
	if m != nil && m.User != "" {
		return m.User, nil
	}
	if !d.Admit {
		return "", nil
	}
	return w.freeName(d.Name, said), nil
}

// changeUser writes an account that the directory has written before.
type changeUser struct {
	ID    string
	Write UserWrite
}

func (changeUser) name() string     { return "scim.change_user" }
func (changeUser) about() string    { return directoriesSubject }
func (c changeUser) pressing() bool { return c.Write.Active != nil && !*c.Write.Active }
func (c changeUser) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	m, err := w.writtenUser(d, c.ID)
	if err != nil {
		return nil, nil, err
	}
	if err := c.Write.fit(); err != nil {
		return nil, nil, err
	}
	if subject := c.Write.subject(d); subject != "" && subject != m.Subject {
		return nil, nil, lockkeeper.Conflict.Errorf("subject_fixed", "%s says whose account it is, and does not change.", d.AttributeOfSubject()).
			WithNext("Delete the user, and create the other one.").WithField(d.AttributeOfSubject())
	}
	p := *m.Provision
	if c.Write.Name != nil {
		p.Name = nameDigest(d.Name, *c.Write.Name)
		if err := w.nameFree(d, c.ID, p.Name); err != nil {
			return nil, nil, err
		}
	}
	if c.Write.External != nil {
		p.External = *c.Write.External
	}
	if c.Write.Active != nil {
		p.Off = !*c.Write.Active
	}
	user := m.listedAs(w.rules.ofCatalog())
	if user == "" && c.Write.Name != nil {
		if user, err = w.writtenAs(d, Said{Directory: d.Name, Subject: m.Subject, Name: *c.Write.Name, At: now}); err != nil {
			return nil, nil, err
		}
	}
	if p == *m.Provision && user == m.User && !(p.Off && w.open(user)) {
		return nil, ProvisionedUser{Provision: p, User: user}, nil
	}
	p.Changed = now
	return w.provision(by, &memberProvisioned{Directory: d.Name, Subject: m.Subject, User: user, Provision: p, still: p.Off == m.Provision.Off && !p.Off && user == m.User}, now)
}

// writtenUser is the member that an id stands for at a directory.
func (w *world) writtenUser(d catalog.Directory, id string) (*Member, error) {
	subject, known := w.written(d.Name).Users[id]
	m := w.Members[memberKey(d.Name, subject)]
	if !known || m == nil || m.Provision == nil {
		return nil, lockkeeper.NotFound.Errorf("resource_missing", "The directory %s has written no user of this id.", d.Name)
	}
	return m, nil
}

// removeUser deletes an account. It stays off until it is created again.
type removeUser struct{ ID string }

func (removeUser) name() string   { return "scim.remove_user" }
func (removeUser) about() string  { return directoriesSubject }
func (removeUser) pressing() bool { return true }
func (c removeUser) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	m, err := w.writtenUser(d, c.ID)
	if err != nil {
		return nil, nil, err
	}
	p := *m.Provision
	p.Off, p.Gone, p.Changed = true, true, now
	return w.provision(by, &memberProvisioned{Directory: d.Name, Subject: m.Subject, User: m.listedAs(w.rules.ofCatalog()), Provision: p}, now)
}

// provision is what follows from what a directory wrote about an account. One that
// it switches off loses at once all that is open in its user's name; and one that it
// switches on again, what was opened in between.
func (w *world) provision(by Caller, ev *memberProvisioned, now lockkeeper.Moment) ([]event, any, error) {
	ev.Revision, ev.Provision.Kept, ev.First = w.Revision.Number, false, w.binding(ev.Directory, ev.Subject, ev.User)
	was := w.Members[memberKey(ev.Directory, ev.Subject)]
	if wasOff := was != nil && was.Provision != nil && was.Provision.Off; ev.User == "" || !ev.Provision.Off && !wasOff {
		return []event{ev}, ProvisionedUser{Provision: ev.Provision, User: ev.User}, nil
	}
	next := w.rules.joined(w.after(ev))
	if w.keepsAdministrator(next, now) != nil && w.keepsAdministrator(w.rules, now) == nil {
		ev.Provision.Kept = true
		next = w.rules.joined(w.after(ev))
	}
	for _, s := range w.Sessions {
		if s.User == ev.User {
			ev.Sessions = append(ev.Sessions, s.ID)
		}
	}
	slices.Sort(ev.Sessions)
	reason := fmt.Sprintf("The directory %s switched the account of %s off.", ev.Directory, ev.User)
	if !ev.Provision.Off {
		reason = fmt.Sprintf("The directory %s had switched the account of %s off.", ev.Directory, ev.User)
	}
	return append([]event{ev}, w.departs(by, ev.User, reason, next, now)...), ProvisionedUser{Provision: ev.Provision, User: ev.User}, nil
}

// after is the state as an event will leave its members.
func (w *world) after(ev *memberProvisioned) *State {
	s, key := *w.State, memberKey(ev.Directory, ev.Subject)
	s.Members = maps.Clone(w.Members)
	m := &Member{Directory: ev.Directory, Subject: ev.Subject}
	if old := w.Members[key]; old != nil {
		*m = *old
	}
	m.User, m.Provision = ev.User, &ev.Provision
	s.Members[key] = m
	return &s
}
