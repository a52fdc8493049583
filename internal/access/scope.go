package access

import (
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxLevels is the depth of the scope tree: Root, a project, what lies in it,
// and what lies in that.
const maxLevels = 4

// lineage fills levels with the scopes that contain scope, from Root down to
// scope itself, and returns how many there are: 0 if scope is malformed. What it
// accepts is what lockkeeper.ParseScope accepts: a malformed scope has no
// ancestors to look denies up at, so it must never be judged.
func lineage(scope lockkeeper.Scope, levels *[maxLevels]lockkeeper.Scope) int {
	levels[0] = lockkeeper.Root
	if scope == lockkeeper.Root {
		return 1
	}
	s := string(scope)
	if s == "" || s[0] != '/' {
		return 0
	}
	parent, n := "", 1
	for i := 0; i < len(s); {
		collection, rest, ok := strings.Cut(s[i+1:], "/")
		if !ok || n == maxLevels || !below(parent, collection) {
			return 0
		}
		name, _, _ := strings.Cut(rest, "/")
		if collection != "branches" {
			if lockkeeper.CheckName(name) != nil {
				return 0
			}
		} else if _, err := lockkeeper.ParseScope(s); err != nil {
			return 0
		}
		i += 1 + len(collection) + 1 + len(name)
		levels[n] = scope[:i]
		parent = collection
		n++
	}
	return n
}

func below(parent, collection string) bool {
	switch collection {
	case "projects":
		return parent == ""
	case "environments", "repositories", "pipelines", "identities":
		return parent == "projects"
	case "branches":
		return parent == "repositories"
	case "stages":
		return parent == "pipelines"
	}
	return false
}
