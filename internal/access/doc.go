// Package access says who may do what where, and why: role-based access control
// over the scope tree.
//
// # Semantics
//
// An assignment gives a role to a user or a group at a scope. It holds there and
// at every scope below, from Start up to and without End, for the user or for
// everybody who is in the group, directly or through other groups. A role allows
// its actions minus its notActions; another role may allow what this one
// subtracts (Azure RBAC). A user may do what at least one assignment grants and
// no deny assignment forbids: a deny wins over every grant, whatever the level
// of either (AWS IAM, Azure RBAC). A user who is off, or automation, holds
// nothing.
//
// A deny may leave out users and groups, and may hold at its scope alone (the
// deny assignments of Azure RBAC). An assignment may have a condition, which is
// judged by the question; one that errs takes a grant away and leaves a deny
// standing. What hangs on a condition's time is known by the minute.
//
// # Guarantees
//
// Check, Explain and Allowed always agree, and so do Allowed and WhoCan, InGroup
// and Holders; Allowed allocates nothing but where a condition settles it. A
// decision that passes says until when it does: the verdict is Pass at every moment
// before Until, and not at Until, or, where it hangs on the time of a condition, not
// known past it. Everything is a pure function of the catalog and the arguments; an
// Index never changes and is safe for use by several goroutines.
//
// # What it does not know
//
// Separation of duties, which hangs on a single ask (package gate), and rights
// that are given for a time by request.
package access
