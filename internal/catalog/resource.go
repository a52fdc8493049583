package catalog

import (
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A Kind is a kind of resource, as the field "kind" of a document spells it.
type Kind string

// The kinds of resource.
const (
	ProjectKind     Kind = "Project"
	UserKind        Kind = "User"
	GroupKind       Kind = "Group"
	RoleKind        Kind = "Role"
	AssignmentKind  Kind = "Assignment"
	ProviderKind    Kind = "Provider"
	PipelineKind    Kind = "Pipeline"
	EnvironmentKind Kind = "Environment"
	IdentityKind    Kind = "Identity"
	FreezeKind      Kind = "Freeze"
)

// A Key names one resource of a catalog. Project is "" for the kinds that
// belong to the organisation (Project, User, Group, Role, Provider, Assignment,
// Freeze).
type Key struct {
	Kind    Kind
	Project string
	Name    string
}

// A Project is a scope that pipelines, environments and identities belong to.
type Project struct {
	Name  string `json:"name"`
	Title string `json:"title,omitempty"`
}

// A User is one account of a person.
type User struct {
	Name   string            `json:"name"`
	Title  string            `json:"title,omitempty"`  // how pages name the user
	Person lockkeeper.Person `json:"person,omitempty"` // default: the user's name; one person may have several users
	IDs    []PlatformID      `json:"ids,omitempty"`    // the user's accounts on CI platforms
	Off    bool              `json:"off,omitempty"`    // switched off: may do nothing
	// Automation marks an account that no person stands behind. It can never
	// sign in, approve, or be an initiator where an environment does not admit
	// automation.
	Automation bool `json:"automation,omitempty"`
}

// A PlatformID is an account on a CI platform, by its immutable id there.
type PlatformID struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
}

// A Group is a set of users and of other groups.
type Group struct {
	Name   string   `json:"name"`
	Title  string   `json:"title,omitempty"`
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// A Role is a named set of actions: Actions minus NotActions. NotActions is no
// deny: another role may grant what this one subtracts (Azure RBAC).
type Role struct {
	Name       string                     `json:"name"`
	Title      string                     `json:"title,omitempty"`
	Actions    []lockkeeper.ActionPattern `json:"actions"`
	NotActions []lockkeeper.ActionPattern `json:"notActions,omitempty"`
}

// An Assignment gives a role to a principal at a scope and below it, or, with
// Deny, forbids the role's actions there. A deny always wins.
type Assignment struct {
	Name      string               `json:"name"`
	Role      string               `json:"role"`
	Principal lockkeeper.Principal `json:"principal"`
	Scope     lockkeeper.Scope     `json:"scope"`
	Deny      bool                 `json:"deny,omitempty"`
	Start     lockkeeper.Moment    `json:"start,omitzero"` // zero: always
	End       lockkeeper.Moment    `json:"end,omitzero"`   // zero: no end; holds before End
}

// A Provider is a CI platform that vouches for workloads with OIDC tokens.
type Provider struct {
	Name     string `json:"name"`
	Platform string `json:"platform"`           // github
	Issuer   string `json:"issuer"`             // exact; https, or http on a loopback address
	Audience string `json:"audience,omitempty"` // the one audience its tokens must have; default: the server's URL
}

// A Pipeline is an automated definition in one repository, with its stages.
type Pipeline struct {
	Name         string  `json:"name"`
	Project      string  `json:"project"`
	Provider     string  `json:"provider"`
	Organisation string  `json:"organisation"` // immutable id of the repository's owner on the platform
	Repository   string  `json:"repository"`   // immutable id on the platform
	Definition   string  `json:"definition"`   // path of the definition in the repository
	Stages       []Stage `json:"stages"`
}

// A Stage is the unit of identity. A workload is of this stage when every field
// of Trust agrees with its record.
type Stage struct {
	Name  string `json:"name"`
	Trust Trust  `json:"trust"`
}

// A Trust rule names a stage's jobs by signed facts. Events is an allow-list:
// anything unnamed is refused.
type Trust struct {
	Environment string   `json:"environment,omitempty"` // the platform's environment that the job names; "": the job must name none
	Events      []string `json:"events"`                // push, workflow_dispatch, …
	Refs        []string `json:"refs"`                  // full refs, exact: refs/heads/main
	Called      string   `json:"called,omitempty"`      // owner/repo/path of the reusable definition the job must run in; "": none
	SelfHosted  bool     `json:"selfHosted,omitempty"`  // admit self-hosted runners
}

// A Tier says how much an environment matters.
type Tier string

// The tiers.
const (
	Production    Tier = "production"
	Preproduction Tier = "preproduction"
	Development   Tier = "development"
)

// An Environment is where deployments go.
type Environment struct {
	Name       string   `json:"name"`
	Project    string   `json:"project"`
	Title      string   `json:"title,omitempty"`
	Tier       Tier     `json:"tier"`
	Automation bool     `json:"automation,omitempty"` // admit runs that no person started
	Lease      Duration `json:"lease,omitempty"`      // longest lease; default 1h, at most 12h
	Patience   Duration `json:"patience,omitempty"`   // how long an ask may wait at the gate; default 24h, at most 30 days
	Checks     []Check  `json:"checks,omitempty"`
}

// A Check is one condition of an environment. Exactly one of the kinds is set.
type Check struct {
	Name     string    `json:"name"`
	Approval *Approval `json:"approval,omitempty"`
}

// An Approval demands that Count distinct persons out of Groups let the ask
// through. Requester and initiator never count, as persons.
type Approval struct {
	Count        int      `json:"count"`
	Groups       []string `json:"groups"`
	Instructions string   `json:"instructions,omitempty"` // what an approver should look at
}

// An Identity is a workload identity that Lockkeeper can hand out.
type Identity struct {
	Name        string   `json:"name"`
	Project     string   `json:"project"`
	Environment string   `json:"environment"`
	Audiences   []string `json:"audiences"`          // what its tokens may be for
	Lifetime    Duration `json:"lifetime,omitempty"` // of one token; default 5m, 1s to 1h
	Stages      []string `json:"stages"`             // PIPELINE/STAGE, all of one pipeline
}

// A Freeze stops deployments at a scope and below it for a time.
type Freeze struct {
	Name   string            `json:"name"`
	Scope  lockkeeper.Scope  `json:"scope"`
	From   lockkeeper.Moment `json:"from"`
	Until  lockkeeper.Moment `json:"until"` // half-open: frozen before Until
	Reason string            `json:"reason"`
}

// A Duration is a length of time, written as in Go: 1h30m. Zero means the
// default.
type Duration time.Duration

// MarshalText writes 1h30m0s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads 1h30m.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Defaults for what an environment or identity leaves open.
const (
	DefaultLease    = time.Hour
	DefaultPatience = 24 * time.Hour
	DefaultLifetime = 5 * time.Minute
)
