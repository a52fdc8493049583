package catalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// Missing says, as a sentence, what of a scope the catalog does not have, the
// outermost first; "": it has all that it can have. Repositories and branches are no
// resources of the catalog, so only their project is looked for.
func (c *Catalog) Missing(scope lockkeeper.Scope) string {
	if scope == lockkeeper.Root {
		return ""
	}
	parts := strings.Split(strings.TrimPrefix(string(scope), "/"), "/")
	project := scope.Project()
	if _, is := c.Projects[project]; !is {
		return fmt.Sprintf("The catalog has no project %s.", project)
	}
	if len(parts) < 4 {
		return ""
	}
	name, is := parts[3], true
	switch at := lockkeeper.Scope("/" + strings.Join(parts[:4], "/")); parts[2] {
	case "environments":
		_, is = c.Environments[at]
	case "pipelines":
		var p Pipeline
		if p, is = c.Pipelines[at]; is && len(parts) == 6 && !slices.ContainsFunc(p.Stages, func(s Stage) bool { return s.Name == parts[5] }) {
			return fmt.Sprintf("The pipeline %s of the project %s has no stage %s.", name, project, parts[5])
		}
	case "identities":
		_, is = c.Identities[at]
	}
	if is {
		return ""
	}
	kind := map[string]string{"environments": "environment", "pipelines": "pipeline", "identities": "identity"}[parts[2]]
	return fmt.Sprintf("The project %s has no %s %s.", project, kind, name)
}
