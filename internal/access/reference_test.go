package access

import (
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// reference answers the same question as Index by reading the catalog from end
// to end, in the words of the package's documentation. It shares no code with
// the index: scopes are compared as lists of words, patterns as text, groups by
// going down from the group to the users.
func reference(c *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	u, ok := c.Users[user]
	if !ok || u.Off || u.Automation || !slices.Contains(lockkeeper.Actions(), action) {
		return false
	}
	granted := false
	for _, a := range c.Assignments {
		if a.Eligible || !inTime(a, now) || !words(string(scope), string(a.Scope)) || !allows(c.Roles[a.Role], action) {
			continue
		}
		mine := a.Principal.Name == user
		if a.Principal.Kind == lockkeeper.GroupPrincipal {
			mine = contains(c, a.Principal.Name, user, 0)
		}
		if mine && a.Deny {
			return false
		}
		granted = granted || mine
	}
	return granted
}

func inTime(a catalog.Assignment, now lockkeeper.Moment) bool {
	t := now.Time().UnixMilli()
	if !a.Start.IsZero() && t < a.Start.Time().UnixMilli() {
		return false
	}
	return a.End.IsZero() || t < a.End.Time().UnixMilli()
}

func words(inner, outer string) bool {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	}
	i, o := split(inner), split(outer)
	return len(o) <= len(i) && slices.Equal(i[:len(o)], o)
}

func allows(r catalog.Role, action lockkeeper.Action) bool {
	covered := func(list []lockkeeper.ActionPattern) bool {
		for _, p := range list {
			have, want := strings.Split(string(p), "/"), strings.Split(string(action), "/")
			if p == "*" || len(have) == 2 && (have[0] == "*" || have[0] == want[0]) && (have[1] == "*" || have[1] == want[1]) {
				return true
			}
		}
		return false
	}
	return covered(r.Actions) && !covered(r.NotActions)
}

func contains(c *catalog.Catalog, group, user string, depth int) bool {
	if depth > len(c.Groups) {
		return false
	}
	g := c.Groups[group]
	if slices.Contains(g.Users, user) {
		return true
	}
	return slices.ContainsFunc(g.Groups, func(inner string) bool { return contains(c, inner, user, depth+1) })
}
