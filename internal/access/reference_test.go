package access

import (
	"errors"
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
	return granted(c, user, action, scope, now) && !forbidden(c, c, user, action, scope, now)
}

func granted(c *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	for _, a := range c.Assignments {
		if !a.Deny && concerns(c, c, a, user, action, scope, now) {
			return true
		}
	}
	return false
}

// forbidden takes whom denies leave out from another catalog, whose groups may have
// other members.
func forbidden(c, spared *catalog.Catalog, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	for _, a := range c.Assignments {
		if a.Deny && concerns(c, spared, a, user, action, scope, now) {
			return true
		}
	}
	return false
}

func concerns(c, spared *catalog.Catalog, a catalog.Assignment, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) bool {
	is := func(c *catalog.Catalog, p lockkeeper.Principal) bool {
		return p.Kind == lockkeeper.UserPrincipal && p.Name == user || p.Kind == lockkeeper.GroupPrincipal && contains(c, p.Name, user, 0)
	}
	if a.Eligible || !inTime(a, now) || !words(string(scope), string(a.Scope)) || !allows(c.Roles[a.Role], action) || !is(c, a.Principal) || a.Here && a.Scope != scope {
		return false
	}
	if slices.ContainsFunc(a.Except, func(p lockkeeper.Principal) bool { return is(spared, p) }) {
		return false
	}
	if a.Condition == "" {
		return true
	}
	holds, err := meets(c, a.Condition, user, action, scope, now)
	return holds || err != nil && a.Deny
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

// conditions are what assignments of the tests hang on, and what each means, said
// a second time in Go. errs is for what CEL cannot judge.
var conditions = map[string]func(q circumstance) (holds, errs bool){
	`tier == "production"`:                           func(q circumstance) (bool, bool) { return q.tier == "production", false },
	`environment == "e" && action != "journal/read"`: func(q circumstance) (bool, bool) { return q.environment == "e" && q.action != "journal/read", false },
	`user == "u0"`:                                   func(q circumstance) (bool, bool) { return q.user == "u0", q.user == "" },
	`project == "p2" || scope == "/"`:                func(q circumstance) (bool, bool) { return q.project == "p2" || q.scope == "/", false },
	`{"e": true, "e2": false}[environment]`:          func(q circumstance) (bool, bool) { return q.environment == "e", q.environment == "" },
	`user == "u1" || {"e": true}[environment]`: func(q circumstance) (bool, bool) {
		return q.user == "u1" || q.environment == "e", q.user != "u1" && q.environment != "e"
	},
	`1 / (size(project) - 1) > 0`:                         func(q circumstance) (bool, bool) { return len(q.project) == 2, len(q.project) == 1 },
	`now < timestamp("2026-03-01T00:10:00Z")`:             func(q circumstance) (bool, bool) { return q.minute < 10, false },
	`now.getMinutes() % 7 != 3 && action.startsWith("d")`: func(q circumstance) (bool, bool) { return q.minute%60%7 != 3 && q.action[0] == 'd', false },
}

type circumstance struct {
	action, scope, project, environment, tier, user string
	minute                                          int // since the epoch of the tests
}

// meets reads the place of a question from the words of its scope.
func meets(c *catalog.Catalog, condition, user string, action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment) (bool, error) {
	q := circumstance{action: string(action), scope: string(scope), user: user, minute: int(now.Sub(epoch).Milliseconds() / 60_000)}
	if user == "probe" { // stands for a group, of which nobody knows who he is
		q.user = ""
	}
	if parts := strings.Split(string(scope), "/"); len(parts) > 2 {
		q.project = parts[2]
		if len(parts) == 5 && parts[3] == "environments" {
			q.environment, q.tier = parts[4], string(c.Environments[scope].Tier)
		}
	}
	holds, errs := conditions[condition](q)
	if errs {
		return false, errors.New("it cannot be judged")
	}
	return holds, nil
}
