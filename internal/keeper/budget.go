package keeper

import (
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/access"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// keepsBudgets refuses a catalog under which more persons can reach an environment
// than its budget has. Whom directories put in the groups counts as they are now;
// who joins one later exceeds it nonetheless, and is an alert. What is exceeded
// already and not by more stands in nobody's way: taking rights away must be
// possible then, too.
func (w *world) keepsBudgets(rules *Rules, now lockkeeper.Moment) error {
	if !slices.ContainsFunc(slices.Collect(maps.Values(rules.Catalog.Environments)), func(e catalog.Environment) bool { return e.Persons != nil }) {
		return nil
	}
	over := rules.joined(w.State).Access.Exceeded(now)
	if len(over) == 0 {
		return nil
	}
	was := w.rules.Access.Exceeded(now)
	over = slices.DeleteFunc(over, func(b access.Budget) bool {
		return slices.ContainsFunc(was, func(o access.Budget) bool {
			return o.Environment == b.Environment && o.Of == b.Of && o.Budget == b.Budget && o.Persons >= b.Persons
		})
	})
	if len(over) == 0 {
		return nil
	}
	return lockkeeper.Conflict.Errorf("persons_many", "%s", over[0]).WithField(string(over[0].Environment)).
		WithNext("Take an assignment or a member away, or raise the budget in persons:, which weakens it.")
}
