package gate

import "github.com/lockkeeper/lockkeeper/internal/catalog"

// Met holds what a service answered against the criteria of a call: its status, its
// decoded JSON (nil: it has none) and the facts of the ask. An error means that it
// cannot be decided, which is never a yes.
func Met(c catalog.Call, status int, body any, ask map[string]string) (bool, error) {
	criteria, err := catalog.CompileCriteria(c.Criteria)
	if err != nil {
		return false, err
	}
	return criteria.Hold(status, body, ask)
}
