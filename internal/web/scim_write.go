package web

import (
	"encoding/json"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// patchUser is what a PATCH writes about a user.
func patchUser(body []byte) (keeper.UserWrite, error) {
	var w keeper.UserWrite
	operations, err := readPatch(body)
	for _, o := range operations {
		if err == nil {
			err = o.targets(userSchema, func(t target, value json.RawMessage) error {
				switch t.attribute {
				case "username", "externalid", "active":
					if err := t.settable(o, value); err != nil {
						return err
					}
				}
				return setUser(&w, t.attribute, value)
			})
		}
	}
	return w, err
}

// settable refuses what cannot be done to an attribute that has one value.
func (t target) settable(o operation, value json.RawMessage) error {
	switch {
	case !t.whole:
		return errPath("The attribute has no parts.")
	case o.op == keeper.RemoveMembers || absent(value):
		return lockkeeper.Invalid.Errorf("scim_mutability", "The attribute cannot be taken away.")
	}
	return nil
}

// patchGroup is what a PATCH writes about a group.
func patchGroup(body []byte) (keeper.GroupWrite, error) {
	var w keeper.GroupWrite
	operations, err := readPatch(body)
	for _, o := range operations {
		if err == nil {
			err = o.targets(groupSchema, func(t target, value json.RawMessage) error {
				switch {
				case t.attribute == "members":
					return patchMembers(&w, o, t, value)
				case t.attribute == "displayname" || t.attribute == "externalid":
					if err := t.settable(o, value); err != nil {
						return err
					}
				}
				return setGroup(&w, t.attribute, o.op, value)
			})
		}
	}
	return w, err
}

// patchMembers takes an operation on members. A remove names whom in its path or, as
// Entra ID does, in its value; one that has no value removes all.
func patchMembers(w *keeper.GroupWrite, o operation, t target, value json.RawMessage) error {
	step := keeper.MemberStep{Op: o.op}
	switch {
	case t.member != nil && o.op == keeper.RemoveMembers:
		step.Users = []string{*t.member}
	case !t.whole:
		return errPath("Members are added and replaced as a whole.")
	case o.op == keeper.RemoveMembers && absent(value):
		step.Op = keeper.ReplaceMembers
	case absent(value):
		return errValue("members", "The operation says nobody.")
	default:
		var err error
		if step.Users, err = membersOf(value); err != nil {
			return err
		}
	}
	w.Members = append(w.Members, step)
	return nil
}
