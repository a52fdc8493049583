package catalog

import (
	"slices"

	"github.com/lockkeeper/lockkeeper"
)

// reading is what every built-in role may see. The journal and the list of who
// holds what are left out: they show what everybody did and where the weak
// points are, so they take the auditor's or the access administrator's role.
var reading = []lockkeeper.ActionPattern{
	"catalog/read", "changes/read", "deployments/read", "environments/read",
	"identities/read", "incidents/read", "pipelines/read",
}

// BuiltInRoles lists the roles that every catalog has. A catalog cannot define
// one of their names anew. No one of them lets its holder both start and approve
// the same kind of deployment without a second person: that is the gate's rule
// (requester and initiator never count), not the role's.
func BuiltInRoles() []Role {
	role := func(name, title string, more ...lockkeeper.ActionPattern) Role {
		return Role{Name: name, Title: title, Actions: append(slices.Clone(reading), more...)}
	}
	return []Role{
		role("reader", "Sees the catalog, pipelines, environments, deployments and changes"),
		role("developer", "Proposes changes and starts deployments", "changes/propose", "deployments/start", "deployments/cancel"),
		role("reviewer", "Reviews changes", "changes/review"),
		role("team-lead", "Reviews and leads changes, starts deployments", "changes/review", "changes/lead", "deployments/start", "deployments/cancel"),
		role("release-manager", "Approves, starts and cancels deployments", "deployments/approve", "deployments/start", "deployments/cancel"),
		role("security-reviewer", "Reviews changes for security, approves deployments", "changes/review", "changes/secure", "deployments/approve"),
		role("environment-administrator", "Keeps environments, their checks and freezes", "environments/*", "freezes/*"),
		role("pipeline-administrator", "Keeps pipelines, providers and identities", "pipelines/*", "identities/write"),
		role("access-administrator", "Keeps users, groups, roles and assignments", "access/read", "access/write", "accounts/*", "activations/read", "activations/revoke"),
		role("access-approver", "Decides requests to activate roles, and ends activations", "access/read", "activations/*"),
		{Name: "auditor", Title: "Sees everything, the journal too, and exports it", Actions: []lockkeeper.ActionPattern{"*/read", "journal/export"}},
		role("incident-responder", "Declares incidents, freezes, cancels and revokes", "incidents/*", "deployments/cancel", "leases/revoke", "freezes/write", "activations/read", "activations/revoke", "accounts/read", "accounts/revoke"),
		{Name: "organisation-administrator", Title: "Governs everything and deploys nothing",
			Actions: []lockkeeper.ActionPattern{"*"}, NotActions: []lockkeeper.ActionPattern{"deployments/start", "deployments/approve", "activations/approve", "identities/use"}},
	}
}

// builtIn reports whether name is a built-in role's.
func builtIn(name string) bool {
	return slices.ContainsFunc(BuiltInRoles(), func(r Role) bool { return r.Name == name })
}
