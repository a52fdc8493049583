package web

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// What directories write, as they write it. Both Entra ID and Okta depart from the
// RFCs: operations are Add and Replace, booleans are "False", members that are to be
// removed stand in the value and not in the path, and attributes of which the server
// said that it has none come all the same. What is not understood about an attribute
// that is kept is refused; every other attribute is passed over, and kept nowhere.

// Bounds of what a directory writes.
const (
	maxFilter     = 1024 // bytes of a filter or a path
	maxTerms      = 10   // comparisons of a filter
	maxOperations = 1000 // of a PATCH
	maxPage       = 200
	defaultPage   = 100
)

// The schemas of RFC 7643 and the messages of RFC 7644.
const (
	userSchema   = "urn:ietf:params:scim:schemas:core:2.0:User"
	groupSchema  = "urn:ietf:params:scim:schemas:core:2.0:Group"
	listSchema   = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	patchSchema  = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	errorSchema  = "urn:ietf:params:scim:api:messages:2.0:Error"
	configSchema = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	typeSchema   = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	schemaSchema = "urn:ietf:params:scim:schemas:core:2.0:Schema"
)

func errSyntax(format string, args ...any) error {
	return lockkeeper.Invalid.Errorf("scim_syntax", format, args...).WithNext("See RFC 7644.")
}
func errValue(attribute, format string, args ...any) error {
	return lockkeeper.Invalid.Errorf("scim_value", format, args...).WithField(attribute)
}
func errFilter(format string, args ...any) error {
	return lockkeeper.Invalid.Errorf("scim_filter", format, args...).WithNext(`Write comparisons such as userName eq "x", joined by and.`)
}
func errPath(format string, args ...any) error {
	return lockkeeper.Invalid.Errorf("scim_path", format, args...)
}

// object reads a JSON object by its names in lower case: SCIM's names have no case.
// A name that comes twice would be read differently by others, and is refused.
func object(raw []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errSyntax("This is no JSON object.")
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, is := t.(string)
		if err != nil || !is {
			return nil, errSyntax("This is no JSON object.")
		}
		name = strings.ToLower(name)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errSyntax("This is no JSON object.")
		}
		if _, twice := out[name]; twice {
			return nil, errSyntax("The attribute %.60q comes twice.", name)
		}
		out[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errSyntax("This is no JSON object.")
	}
	if dec.More() {
		return nil, errSyntax("Something follows the JSON object.")
	}
	return out, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// textOf reads a text; absent or null is nil.
func textOf(attribute string, raw json.RawMessage) (*string, error) {
	if absent(raw) {
		return nil, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, errValue(attribute, "%s is a text.", attribute)
	}
	return &s, nil
}

// truthOf reads a boolean, also one that Entra ID writes as a text; absent or null
// is nil.
func truthOf(attribute string, raw json.RawMessage) (*bool, error) {
	var b bool
	if absent(raw) {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &b); err == nil {
		return &b, nil
	}
	if s, err := textOf(attribute, raw); err == nil {
		if b, is := truth(*s); is {
			return &b, nil
		}
	}
	return nil, errValue(attribute, "%s is true or false.", attribute)
}

func truth(s string) (value, is bool) {
	switch strings.ToLower(s) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// ofSchema refuses a resource or message that says it is of other schemas.
func ofSchema(o map[string]json.RawMessage, schema string) error {
	if absent(o["schemas"]) {
		return nil
	}
	var list []string
	if err := json.Unmarshal(o["schemas"], &list); err != nil {
		return errSyntax("The schemas are a list of texts.")
	}
	for _, s := range list {
		if strings.EqualFold(s, schema) {
			return nil
		}
	}
	return errSyntax("The schemas do not name %s.", schema)
}

// readUser reads a whole user.
func readUser(body []byte) (keeper.UserWrite, error) {
	var w keeper.UserWrite
	o, err := object(body)
	if err == nil {
		err = ofSchema(o, userSchema)
	}
	for _, name := range []string{"username", "externalid", "active"} {
		if err == nil {
			err = setUser(&w, name, o[name])
		}
	}
	return w, err
}

// setUser takes one attribute of a user, by its name in lower case; one that is kept
// nowhere is passed over.
func setUser(w *keeper.UserWrite, name string, raw json.RawMessage) (err error) {
	switch name {
	case "username":
		w.Name, err = keep(w.Name)(textOf("userName", raw))
	case "externalid":
		w.External, err = keep(w.External)(textOf("externalId", raw))
	case "active":
		w.Active, err = keep(w.Active)(truthOf("active", raw))
	}
	return err
}

// keep gives the new value where there is one, and else the one that was.
func keep[T any](was *T) func(*T, error) (*T, error) {
	return func(is *T, err error) (*T, error) {
		if is == nil {
			is = was
		}
		return is, err
	}
}

// readGroup reads a whole group. Its members replace those that it has, if it names
// any.
func readGroup(body []byte) (keeper.GroupWrite, error) {
	var w keeper.GroupWrite
	o, err := object(body)
	if err == nil {
		err = ofSchema(o, groupSchema)
	}
	for _, name := range []string{"displayname", "externalid", "members"} {
		if err == nil {
			err = setGroup(&w, name, keeper.ReplaceMembers, o[name])
		}
	}
	return w, err
}

// setGroup takes one attribute of a group, by its name in lower case.
func setGroup(w *keeper.GroupWrite, name, op string, raw json.RawMessage) (err error) {
	switch name {
	case "displayname":
		w.Name, err = keep(w.Name)(textOf("displayName", raw))
	case "externalid":
		w.External, err = keep(w.External)(textOf("externalId", raw))
	case "members":
		if absent(raw) {
			return nil
		}
		var ids []string
		if ids, err = membersOf(raw); err == nil {
			w.Members = append(w.Members, keeper.MemberStep{Op: op, Users: ids})
		}
	}
	return err
}

// membersOf reads members: a list of objects with a value, or one of them.
func membersOf(raw json.RawMessage) ([]string, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		list = []json.RawMessage{raw}
	}
	ids := make([]string, 0, len(list))
	for _, m := range list {
		o, err := object(m)
		if err != nil {
			return nil, errValue("members", "A member is an object with the id of a user as its value.")
		}
		id, err := textOf("members.value", o["value"])
		if err != nil || id == nil {
			return nil, errValue("members", "A member is an object with the id of a user as its value.")
		}
		ids = append(ids, *id)
	}
	return ids, nil
}

// An operation is one of a PATCH.
type operation struct {
	op    string // add, replace or remove
	path  string // "": the resource itself
	value json.RawMessage
}

func readPatch(body []byte) ([]operation, error) {
	o, err := object(body)
	if err == nil {
		err = ofSchema(o, patchSchema)
	}
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(o["operations"], &list); err != nil || len(list) == 0 || len(list) > maxOperations {
		return nil, errSyntax("A PATCH has 1 to %d Operations.", maxOperations)
	}
	var out []operation
	for _, raw := range list {
		o, err := object(raw)
		if err != nil {
			return nil, err
		}
		op, err := textOf("op", o["op"])
		if err != nil || op == nil {
			return nil, errSyntax("An operation has an op.")
		}
		path, err := textOf("path", o["path"])
		if err != nil {
			return nil, errPath("A path is a text.")
		}
		one := operation{op: strings.ToLower(*op), value: o["value"]}
		if path != nil {
			one.path = *path
		}
		if one.op != keeper.AddMembers && one.op != keeper.ReplaceMembers && one.op != keeper.RemoveMembers {
			return nil, errSyntax("The op is add, replace or remove.")
		}
		out = append(out, one)
	}
	return out, nil
}

// targets gives what an operation is about: each attribute with its value. One
// without a path is about the members of its value.
func (o operation) targets(schema string, f func(target, json.RawMessage) error) error {
	if o.path != "" {
		t, err := readPath(o.path, schema)
		if err != nil {
			return err
		}
		return f(t, o.value)
	}
	if o.op == keeper.RemoveMembers {
		return lockkeeper.Invalid.Errorf("scim_no_target", "A remove has a path.")
	}
	values, err := object(o.value)
	if err != nil {
		return errValue("value", "Without a path the value is an object.")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		t, err := readPath(name, schema)
		if err != nil {
			return err
		}
		if err := f(t, values[name]); err != nil {
			return err
		}
	}
	return nil
}
