package access

import (
	"fmt"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// records looks for design records that an environment demands and that there are not
// persons enough to approve: members of the groups who hold the right there, without the
// one who writes it.
func (q *quorum) records(scope lockkeeper.Scope, e catalog.Environment) {
	for _, c := range e.RecordChecks("") {
		ask := catalog.Check{Name: c.Name, Shadow: c.Shadow, Approval: &catalog.Approval{Count: c.Record.Needed(), Groups: c.Record.Groups}}
		q.gate(gateOf{of: fmt.Sprintf("a %s of the environment %s/%s", c.Record.Kind, e.Project, e.Name), scope: scope, right: lockkeeper.SecureChanges, checks: []catalog.Check{ask}},
			func(user string) bool { return q.could(user, lockkeeper.ProposeChanges, scope) })
	}
}
