package keeper

import (
	"cmp"
	"context"
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// pressing is a command that may be a revocation: nothing may stand before one.
type pressing interface{ pressing() bool }

// perToken limits what a directory asks: two hundred at once, then fifty a second.
// Entra ID wants to be able to ask twenty-five times a second.
var perToken = pace{200, 20 * time.Millisecond}

// userNameKind is the sealed row of what a person is called at a directory. Losing
// it loses a name that the directory writes again, and nothing else.
const userNameKind = "user-name"

// A ProvisionedUser is an account as its directory wrote it.
type ProvisionedUser struct {
	Provision
	UserName string // as the directory wrote it, or the user's own where that is lost
	User     string // here; "": nobody yet
}

// MakeDirectoryToken gives a directory a token to write with. The secret goes to
// the directory and is kept nowhere else.
func (k *Keeper) MakeDirectoryToken(ctx context.Context, by Caller, directory string, life time.Duration) (secret string, t WriteToken, err error) {
	id := newID("w")
	secret = newSecret("lkd_" + strings.TrimPrefix(id, "w-") + "_")
	t, err = do[WriteToken](ctx, k, by, "", makeToken{directory, id, secretDigest(secret), life})
	return secret, t, err
}

// EndDirectoryToken takes a directory's token away.
func (k *Keeper) EndDirectoryToken(ctx context.Context, by Caller, directory, id string) error {
	_, err := do[any](ctx, k, by, "", endToken{directory, id})
	return err
}

// A DirectoryView is a directory and what it wrote.
type DirectoryView struct {
	catalog.Directory
	Tokens   []WriteToken      // the one that ends last, last; without their secrets
	Users    int               // that it wrote and has not deleted
	Off      int               // of these, and of those that it deleted
	Groups   int               // that it wrote
	Believed lockkeeper.Moment // until when what it wrote about groups grants; zero: it wrote none
}

// Directories lists the directories and what they wrote. It takes access/read at /.
func (k *Keeper) Directories(by Caller) ([]DirectoryView, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	if _, err := w.may(by, lockkeeper.ReadAccess, lockkeeper.Root, now); err != nil {
		return nil, err
	}
	out := []DirectoryView{}
	for _, name := range slices.Sorted(maps.Keys(w.rules.Catalog.Directories)) {
		d, p := w.rules.Catalog.Directories[name], w.written(name)
		v := DirectoryView{Directory: d, Users: len(p.Users), Groups: len(p.Groups)}
		for _, t := range p.Tokens {
			if now.Before(t.Expires) {
				shown := *t
				shown.Secret = ""
				v.Tokens = append(v.Tokens, shown)
			}
		}
		slices.SortFunc(v.Tokens, func(a, b WriteToken) int {
			return cmp.Or(a.Expires.Time().Compare(b.Expires.Time()), cmp.Compare(a.ID, b.ID))
		})
		if d.Scim && len(p.Groups) > 0 {
			v.Believed = p.last().Add(d.GroupLimit())
		}
		for _, m := range w.Members {
			if m.Directory == name && m.away(d) {
				v.Off++
			}
		}
		out = append(out, v)
	}
	return out, nil
}

// WriteEnds is, for each directory that may write, when the last of its tokens ends,
// or ended.
func (k *Keeper) WriteEnds() map[string]lockkeeper.Moment {
	k.mu.RLock()
	defer k.mu.RUnlock()
	out := map[string]lockkeeper.Moment{}
	for name, d := range k.rules.Catalog.Directories {
		if d.Scim {
			out[name] = k.state.written(name).last()
		}
	}
	return out
}

// Writer is the directory whose token this is. source is where it comes from, for
// the limit of those that are wrong.
func (k *Keeper) Writer(secret, source string) (Caller, error) {
	by, err := k.writer(secret)
	if err != nil {
		if limited := k.throttle("source "+source, perSource); limited != nil {
			return Caller{}, limited
		}
		return Caller{}, err
	}
	return by, k.throttle("directory token "+by.DirectoryToken, perToken)
}

func (k *Keeper) writer(secret string) (Caller, error) {
	rest, ours := strings.CutPrefix(secret, "lkd_")
	id, _, _ := strings.Cut(rest, "_")
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	var by Caller
	for name, p := range w.Provisioned {
		if t := p.Tokens["w-"+id]; ours && t != nil && subtle.ConstantTimeCompare([]byte(t.Secret), []byte(secretDigest(secret))) == 1 {
			by = Caller{Directory: name, DirectoryToken: t.ID}
		}
	}
	_, err := w.writer(by, now)
	return by, err
}

// CreateUser writes an account that the directory has not written before.
func (k *Keeper) CreateUser(ctx context.Context, by Caller, write UserWrite) (ProvisionedUser, error) {
	u, err := do[ProvisionedUser](ctx, k, by, "", createUser{newID("u"), write})
	return k.named(ctx, by, u, write, err)
}

// ChangeUser writes an account that the directory has written before.
func (k *Keeper) ChangeUser(ctx context.Context, by Caller, id string, write UserWrite) (ProvisionedUser, error) {
	u, err := do[ProvisionedUser](ctx, k, by, "", changeUser{id, write})
	return k.named(ctx, by, u, write, err)
}

// named seals what a person is called, after the decision is durable: a crash in
// between leaves a name that does not fit its digest and is not shown, until the
// directory writes it again.
func (k *Keeper) named(ctx context.Context, by Caller, u ProvisionedUser, write UserWrite, err error) (ProvisionedUser, error) {
	if err == nil && write.Name != nil {
		err = k.sealed.Put(ctx, userNameKind, u.ID, []byte(*write.Name))
	}
	if err != nil {
		return ProvisionedUser{}, err
	}
	return k.withName(ctx, by, u)
}

// withName adds what a person is called at the directory.
func (k *Keeper) withName(ctx context.Context, by Caller, u ProvisionedUser) (ProvisionedUser, error) {
	name, err := k.sealed.Get(ctx, userNameKind, u.ID)
	if err != nil && lockkeeper.KindOf(err) != lockkeeper.NotFound {
		return ProvisionedUser{}, err
	}
	if u.UserName = string(name); nameDigest(by.Directory, u.UserName) != u.Provision.Name {
		u.UserName = cmp.Or(u.User, u.ID)
	}
	return u, nil
}

// RemoveUser deletes an account of the directory, and erases what the person was
// called there.
func (k *Keeper) RemoveUser(ctx context.Context, by Caller, id string) error {
	if _, err := do[ProvisionedUser](ctx, k, by, "", removeUser{id}); err != nil {
		return err
	}
	return k.sealed.Delete(ctx, userNameKind, id)
}

// CreateGroup writes a new group of the directory.
func (k *Keeper) CreateGroup(ctx context.Context, by Caller, write GroupWrite) (ProvisionedGroup, error) {
	return do[ProvisionedGroup](ctx, k, by, "", createGroup{newID("g"), write})
}

// ChangeGroup writes a group that there is.
func (k *Keeper) ChangeGroup(ctx context.Context, by Caller, id string, write GroupWrite) (ProvisionedGroup, error) {
	return do[ProvisionedGroup](ctx, k, by, "", changeGroup{id, write})
}

// RemoveGroup deletes a group.
func (k *Keeper) RemoveGroup(ctx context.Context, by Caller, id string) error {
	_, err := do[any](ctx, k, by, "", removeGroup{id})
	return err
}

// A Match asks for what has a value: id, externalId, userName or active (true,
// false) of a user; id, externalId, displayName or members (an id) of a group. Names
// are compared without regard to case.
type Match struct{ Attribute, Value string }

// A Page is a part of a list.
type Page struct {
	Skip, Limit int
}

// cut gives the part of a list that the page is.
func cut[T any](list []T, p Page) []T {
	from := min(max(p.Skip, 0), len(list))
	return list[from:min(from+max(p.Limit, 0), len(list))]
}

// ProvisionedUsers lists the accounts that the directory wrote and that fit all of
// the matches, the oldest first, and how many there are.
func (k *Keeper) ProvisionedUsers(ctx context.Context, by Caller, matches []Match, page Page) (list []ProvisionedUser, total int, err error) {
	found, err := k.findUsers(by, matches)
	if err != nil {
		return nil, 0, err
	}
	list = cut(found, page)
	for i := range list {
		if list[i], err = k.withName(ctx, by, list[i]); err != nil {
			return nil, 0, err
		}
	}
	return list, len(found), nil
}

func (k *Keeper) findUsers(by Caller, matches []Match) ([]ProvisionedUser, error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	d, err := w.writer(by, now)
	if err != nil {
		return nil, err
	}
	var out []ProvisionedUser
	for _, subject := range w.written(d.Name).Users {
		m := w.Members[memberKey(d.Name, subject)]
		if m != nil && m.Provision != nil && !slices.ContainsFunc(matches, func(x Match) bool { return !m.Provision.fits(d.Name, x) }) {
			out = append(out, ProvisionedUser{Provision: *m.Provision, User: m.listedAs(w.rules.ofCatalog())})
		}
	}
	slices.SortFunc(out, func(a, b ProvisionedUser) int {
		return cmp.Or(a.Created.Time().Compare(b.Created.Time()), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (p *Provision) fits(directory string, x Match) bool {
	switch x.Attribute {
	case "id":
		return p.ID == x.Value
	case "externalId":
		return p.External == x.Value
	case "userName":
		return p.Name == nameDigest(directory, x.Value)
	case "active":
		return strconv.FormatBool(!p.Off) == x.Value
	}
	return false
}

// ProvisionedGroups lists the groups that the directory wrote and that fit all of
// the matches, the oldest first, and how many there are.
func (k *Keeper) ProvisionedGroups(by Caller, matches []Match, page Page) (list []ProvisionedGroup, total int, err error) {
	now := k.now()
	k.mu.RLock()
	defer k.mu.RUnlock()
	w := world{State: k.state, rules: k.rules}
	d, err := w.writer(by, now)
	if err != nil {
		return nil, 0, err
	}
	for _, g := range w.written(d.Name).Groups {
		if !slices.ContainsFunc(matches, func(x Match) bool { return !g.fits(x) }) {
			list = append(list, *g)
		}
	}
	slices.SortFunc(list, func(a, b ProvisionedGroup) int {
		return cmp.Or(a.Created.Time().Compare(b.Created.Time()), cmp.Compare(a.ID, b.ID))
	})
	return cut(list, page), len(list), nil
}

func (g *ProvisionedGroup) fits(x Match) bool {
	switch x.Attribute {
	case "id":
		return g.ID == x.Value
	case "externalId":
		return g.External == x.Value
	case "displayName":
		return strings.EqualFold(g.Name, x.Value)
	case "members":
		_, in := slices.BinarySearch(g.Members, x.Value)
		return in
	}
	return false
}
