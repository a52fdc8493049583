package keeper

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A MemberStep is one change of who is in a group that a directory writes.
type MemberStep struct {
	Op    string   // add, remove or replace
	Users []string // ids
}

// The steps there are.
const (
	AddMembers     = "add"
	RemoveMembers  = "remove"
	ReplaceMembers = "replace"
)

// A GroupWrite is what a directory writes about a group; nil: as it is. The steps
// are taken one after another.
type GroupWrite struct {
	Name     *string // displayName
	External *string
	Members  []MemberStep
}

// createGroup writes a new group.
type createGroup struct {
	ID    string
	Write GroupWrite
}

func (createGroup) name() string  { return "scim.create_group" }
func (createGroup) about() string { return directoriesSubject }
func (c createGroup) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	if c.Write.Name == nil {
		return nil, nil, lockkeeper.Invalid.Errorf("attribute_unfit", "A group has a displayName.").WithField("displayName")
	}
	if len(w.written(d.Name).Groups) >= maxProvisionedGroups {
		return nil, nil, lockkeeper.Limited.Errorf("groups_many", "The directory %s has written %d groups, and no more are taken.", d.Name, maxProvisionedGroups).
			WithNext("Let it provision only the groups that are assigned to Lockkeeper there.")
	}
	return w.writeGroup(d, ProvisionedGroup{ID: c.ID, Created: now}, c.Write, now)
}

// changeGroup writes a group that there is.
type changeGroup struct {
	ID    string
	Write GroupWrite
}

func (changeGroup) name() string  { return "scim.change_group" }
func (changeGroup) about() string { return directoriesSubject }
func (c changeGroup) pressing() bool {
	return slices.ContainsFunc(c.Write.Members, func(m MemberStep) bool { return m.Op != AddMembers })
}
func (c changeGroup) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	g, err := w.writtenGroup(d, c.ID)
	if err != nil {
		return nil, nil, err
	}
	return w.writeGroup(d, *g, c.Write, now)
}

func (w *world) writtenGroup(d catalog.Directory, id string) (*ProvisionedGroup, error) {
	if g := w.written(d.Name).Groups[id]; g != nil {
		return g, nil
	}
	return nil, lockkeeper.NotFound.Errorf("resource_missing", "The directory %s has written no group of this id.", d.Name)
}

// writeGroup is g with what was written, as one event; none if that changes nothing.
func (w *world) writeGroup(d catalog.Directory, g ProvisionedGroup, write GroupWrite, now lockkeeper.Moment) ([]event, any, error) {
	was := g
	if write.Name != nil {
		g.Name = *write.Name
	}
	if write.External != nil {
		g.External = *write.External
	}
	if err := unfitAttribute("displayName", g.Name); err != nil {
		return nil, nil, err
	}
	if g.External != "" {
		if err := unfitAttribute("externalId", g.External); err != nil {
			return nil, nil, err
		}
	}
	for id, o := range w.written(d.Name).Groups {
		if id != g.ID && g.key(d) != "" && o.key(d) == g.key(d) {
			return nil, nil, errWritten("group", d.AttributeOfGroups())
		}
	}
	ev := &groupProvisioned{Directory: d.Name, ID: g.ID, Name: g.Name, External: g.External, Revision: w.Revision.Number, still: !mapped(d, was.key(d), g.key(d))}
	var err error
	if ev.Added, ev.Removed, err = w.stepped(d, was.Members, write.Members); err != nil {
		return nil, nil, err
	}
	g.Members, g.Changed = merge(was.Members, ev.Added, ev.Removed), now
	if !was.Changed.IsZero() && was.Name == g.Name && was.External == g.External && len(ev.Added)+len(ev.Removed) == 0 {
		return nil, was, nil
	}
	return []event{ev}, g, nil
}

// stepped is what the steps change in the members of a group. Whoever is added must
// have been written, so that nobody is lost; whoever is removed may be gone.
func (w *world) stepped(d catalog.Directory, members []string, steps []MemberStep) (added, removed []string, err error) {
	p := w.written(d.Name)
	in := make(map[string]bool, len(members))
	for _, id := range members {
		in[id] = true
	}
	for _, s := range steps {
		if s.Op == ReplaceMembers {
			clear(in)
		}
		for _, id := range s.Users {
			if s.Op == RemoveMembers {
				delete(in, id)
				continue
			}
			if _, known := p.Users[id]; !known {
				return nil, nil, lockkeeper.Invalid.Errorf("member_unknown", "The directory %s has written no user of the id %.40q.", d.Name, id).
					WithNext("Create the user first. A group in a group is no member: list groups in groups of the catalog.").WithField("members")
			}
			in[id] = true
		}
	}
	for _, id := range members {
		if !in[id] {
			removed = append(removed, id)
		}
		delete(in, id)
	}
	for id := range in {
		added = append(added, id)
	}
	slices.Sort(added)
	total := 0
	for _, g := range p.Groups {
		total += len(g.Members)
	}
	if grown := len(added) - len(removed); len(members)+grown > maxGroupMembers || grown > 0 && total+grown > maxMemberships {
		return nil, nil, lockkeeper.Limited.Errorf("group_members_many", "A group has at most %d members, and all of a directory %d.", maxGroupMembers, maxMemberships).
			WithNext("Let the directory provision only the groups that the catalog names.")
	}
	return added, removed, nil
}

// removeGroup deletes a group.
type removeGroup struct{ ID string }

func (removeGroup) name() string   { return "scim.remove_group" }
func (removeGroup) about() string  { return directoriesSubject }
func (removeGroup) pressing() bool { return true }
func (c removeGroup) decide(w *world, by Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.writer(by, now)
	if err != nil {
		return nil, nil, err
	}
	g, err := w.writtenGroup(d, c.ID)
	if err != nil {
		return nil, nil, err
	}
	return []event{&groupProvisioned{Directory: d.Name, ID: g.ID, Name: g.Name, External: g.External, Gone: true, Revision: w.Revision.Number, still: !mapped(d, g.key(d))}}, nil, nil
}

// mapped reports whether any of these is a group of the catalog.
func mapped(d catalog.Directory, keys ...string) bool {
	return slices.ContainsFunc(d.Groups, func(g catalog.DirectoryGroup) bool { return slices.Contains(keys, g.ID) })
}
