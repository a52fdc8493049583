package access

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// A Budget is how many persons may be able to reach an environment, and who can.
type Budget struct {
	Environment lockkeeper.Scope `json:"environment"`
	Of          string           `json:"of"` // write or approve
	Budget      int              `json:"budget"`
	Persons     int              `json:"persons"` // that there are
	Users       []string         `json:"users"`   // of those persons, sorted
	// Open are groups among those that can, whose members directories say: the
	// catalog alone does not know all of them.
	Open []string `json:"open,omitempty"`
}

// Exceeded reports whether there are more persons than the budget has.
func (b Budget) Exceeded() bool { return b.Persons > b.Budget }

// String says it in one sentence.
func (b Budget) String() string {
	what := map[string]string{"write": "deploy to", "approve": "approve deployments to"}[b.Of]
	return fmt.Sprintf("%d persons can %s %s, and its budget is %d: %s.", b.Persons, what, b.Environment, b.Budget, shortList(b.Users))
}

// budgeted are the actions that a budget of persons is about.
var budgeted = []struct {
	of     string
	action lockkeeper.Action
	limit  func(catalog.Persons) int
}{
	{"write", lockkeeper.StartDeployments, func(p catalog.Persons) int { return p.Write }},
	{"approve", lockkeeper.ApproveDeployments, func(p catalog.Persons) int { return p.Approve }},
}

// Budgets lists the budgets of all environments, by scope. Whoever can, now or
// later, by an assignment that is not over, counts: also by one that he has to
// activate, and by a group that a directory put him in. Whom a deny without an end
// or a condition keeps from it does not.
func (x *Index) Budgets(now lockkeeper.Moment) []Budget {
	var out []Budget
	members := map[string][]string{}
	for _, scope := range slices.Sorted(maps.Keys(x.c.Environments)) {
		env := x.c.Environments[scope]
		if env.Persons == nil {
			continue
		}
		for _, k := range budgeted {
			b := Budget{Environment: scope, Of: k.of, Budget: k.limit(*env.Persons)}
			if b.Budget == 0 {
				continue
			}
			b.Users, b.Open = x.reaching(k.action, scope, now, members)
			if id, has := x.c.IdentityOf(scope); has && id.People && k.action == lockkeeper.StartDeployments {
				users, open := x.reaching(lockkeeper.UseIdentities, lockkeeper.IdentityScope(id.Project, id.Name), now, members)
				b.Users, b.Open = both(b.Users, users), both(b.Open, open)
			}
			persons := map[lockkeeper.Person]bool{}
			for _, u := range b.Users {
				persons[x.c.PersonOf(u)] = true
			}
			b.Persons = len(persons)
			out = append(out, b)
		}
	}
	return out
}

// both is everything in two sorted lists, once.
func both(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// Exceeded are the budgets that more persons exceed.
func (x *Index) Exceeded(now lockkeeper.Moment) []Budget {
	return slices.DeleteFunc(x.Budgets(now), func(b Budget) bool { return !b.Exceeded() })
}

// reaching lists the users who can do an action at a scope, now or later, and the
// groups among them that directories fill.
func (x *Index) reaching(action lockkeeper.Action, scope lockkeeper.Scope, now lockkeeper.Moment, members map[string][]string) (users, open []string) {
	can, never := map[string]bool{}, map[string]bool{}
	for _, a := range x.c.Assignments {
		if !a.Scope.Contains(scope) || !x.RoleAllows(a.Role, action) || !a.End.IsZero() && !now.Before(a.End) {
			continue
		}
		of := []string{a.Principal.Name}
		if a.Principal.Kind == lockkeeper.GroupPrincipal {
			if members[a.Principal.Name] == nil {
				members[a.Principal.Name] = append([]string{}, x.Holders(a.Principal.Name)...)
			}
			of = members[a.Principal.Name]
			if !a.Deny && x.c.Open(a.Principal.Name) && !slices.Contains(open, a.Principal.Name) {
				open = append(open, a.Principal.Name)
			}
		}
		into := can
		if a.Deny {
			if a.Deny = false; !a.End.IsZero() || now.Before(a.Start) || !plain(a) {
				continue
			}
			into = never
		}
		for _, u := range of {
			into[u] = true
		}
	}
	for u := range can {
		if n, known := x.users[u]; known && !never[u] {
			if _, holds := x.row(n); holds {
				users = append(users, u)
			}
		}
	}
	slices.Sort(users)
	slices.Sort(open)
	return users, open
}
