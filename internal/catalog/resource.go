package catalog

import (
	"slices"
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

	ActivationRuleKind Kind = "ActivationRule"
	DirectoryKind      Kind = "Directory"
	SeparationKind     Kind = "Separation"

	ProvisionerKind Kind = "Provisioner"

	SignerKind     Kind = "Signer"
	PolicyKind     Kind = "Policy"
	FreezeRuleKind Kind = "FreezeRule"

	NotificationKind Kind = "Notification"
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
	// SignIns are the user's accounts at directories, with which he signs in.
	SignIns []SignIn `json:"signIns,omitempty"`
	Off     bool     `json:"off,omitempty"` // switched off: may do nothing
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

// A SignIn is an account at a directory.
type SignIn struct {
	Directory string `json:"directory"`
	// Subject is what the directory calls the account for ever: sub of its tokens, at
	// entra the object id. Left out only with none.
	Subject string `json:"subject,omitempty"`
	// None says that the person has no account there: a directory that admits people
	// must not bring him in as somebody else.
	None bool `json:"none,omitempty"`
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
	// Scopes are where the role may be granted, and below; default: anywhere.
	Scopes []lockkeeper.Scope `json:"scopes,omitempty"`
}

// An Assignment gives a role to a principal at a scope and below it, or, with
// Deny, forbids the role's actions there. A deny always wins.
type Assignment struct {
	Name      string               `json:"name"`
	Role      string               `json:"role"`
	Principal lockkeeper.Principal `json:"principal"`
	Scope     lockkeeper.Scope     `json:"scope"`
	Deny      bool                 `json:"deny,omitempty"`
	// Eligible gives nothing by itself: the principal may activate the role, there
	// or below, for a time and under the rules for it.
	Eligible bool              `json:"eligible,omitempty"`
	Start    lockkeeper.Moment `json:"start,omitzero"` // zero: always
	End      lockkeeper.Moment `json:"end,omitzero"`   // zero: no end; holds before End
	// Condition is CEL over action, scope, project, environment, tier, user and now
	// that must be true of a question for the assignment to hold. A grant whose
	// condition errs does not hold, a deny does. now is the beginning of the minute.
	Condition string                 `json:"condition,omitempty"`
	Except    []lockkeeper.Principal `json:"except,omitempty"` // of a deny: whom it leaves out
	Here      bool                   `json:"here,omitempty"`   // of a deny: it holds at the scope alone, not below
}

// An ActivationRule says what it takes to activate a role at a scope and below.
// All rules that are about the role and whose scope contains the asked one hold
// together, so that a rule further down can only ask for more.
type ActivationRule struct {
	Name     string           `json:"name"`
	Role     string           `json:"role"`
	Scope    lockkeeper.Scope `json:"scope"`
	Longest  Duration         `json:"longest,omitempty"`  // of one activation; default 8h, 5m to 24h
	NoReason bool             `json:"noReason,omitempty"` // nobody has to say why
	Ticket   string           `json:"ticket,omitempty"`   // regular expression (RE2) for the whole ticket number; "": none is asked for
	// Patience is how long a request may wait for approvals, and then to be begun;
	// default 4h, 5m to 168h.
	Patience  Duration `json:"patience,omitempty"`
	Approvals []Check  `json:"approvals,omitempty"` // approvals only; by persons who may approve activations there
	// Extensions is how often one activation may be made longer, each time by a
	// request of its own; in all it lasts no longer than longest. Default 1, at most 10.
	Extensions *int `json:"extensions,omitempty"`
	// CoolingOff is how long after a change of the account's credential (an
	// invitation, an enrolment, a factor, another account of a directory that signs in
	// as the user) nothing may be activated; default none, 1m to 720h.
	CoolingOff Duration `json:"coolingOff,omitempty"`
	// Hours are the windows in which an activation may begin, or be made longer. One
	// that has begun in time lasts on past the window's end.
	Hours *Hours `json:"hours,omitempty"`
	// BreakGlass lets the role be activated at once, without approval and ticket, for
	// a debt: a review. Every rule that holds must allow it.
	BreakGlass *BreakGlass `json:"breakGlass,omitempty"`

	// StepUp is how long ago, when it is begun, its holder may have shown a
	// credential; none: as long as his sign-in holds. 1m to 24h.
	StepUp Duration `json:"stepUp,omitempty"`
	Strong bool     `json:"strong,omitempty"` // he must have shown more than a password

	// TicketCall asks a service about the ticket before the activation begins.
	TicketCall *TicketCall `json:"ticketCall,omitempty"`
	// Uses is how many decisions may rest on one activation; none: as many as there
	// are. 1 to 1000. A job's activation is for one deployment anyhow.
	Uses int `json:"uses,omitempty"`
	// Bound says to what an activation is bound: session, the sign-in that began it. It
	// counts in no other one, and ends with it; none: to its holder.
	Bound string `json:"bound,omitempty"`
}

// BoundToSession is what an activation can be bound to.
const BoundToSession = "session"

// A BreakGlass says how often a role may be activated without approval, and who
// looks at it afterwards.
type BreakGlass struct {
	Budget    int       `json:"budget,omitempty"`  // activations under this rule in a calendar quarter (UTC), by everybody together; default 2, 1 to 20
	Longest   Duration  `json:"longest,omitempty"` // of one of them; default 1h, 5m to 4h
	Review    Duration  `json:"review,omitempty"`  // until when it is reviewed; default 72h, 1h to 720h
	Reviewers Reviewers `json:"reviewers"`
}

// Reviewers are the persons, none of whom took part, who close a review.
type Reviewers struct {
	Count  int      `json:"count,omitempty"` // how many of them; default 1, at most 10
	Groups []string `json:"groups"`          // out of which they are
}

// Defaults of an ActivationRule.
const (
	DefaultActivation      = 8 * time.Hour
	DefaultRequestPatience = 4 * time.Hour
	DefaultExtensions      = 1
)

// ExtensionLimit is how often one activation under the rule may be made longer.
func (r ActivationRule) ExtensionLimit() int {
	if r.Extensions == nil {
		return DefaultExtensions
	}
	return *r.Extensions
}

// LongestActivation is the longest that one activation under the rule may last.
func (r ActivationRule) LongestActivation() time.Duration {
	return orDefault(r.Longest, DefaultActivation)
}

// PatienceLimit is how long a request under the rule may wait.
func (r ActivationRule) PatienceLimit() time.Duration {
	return orDefault(r.Patience, DefaultRequestPatience)
}

// A Separation keeps duties apart at a scope and below: no person has part in two
// of them, with whichever of his accounts.
type Separation struct {
	Name  string           `json:"name"`
	Title string           `json:"title,omitempty"` // why, for those whom it stops
	Scope lockkeeper.Scope `json:"scope"`
	// Actions are the duties, two or more: each a list of actions or patterns, and
	// no action in two of them.
	Actions [][]lockkeeper.ActionPattern `json:"actions"`
	// Mode is hold: nobody holds actions of two duties at one place, or could
	// activate them; or use: nobody uses actions of two duties on one deployment.
	Mode string `json:"mode"`
}

// The modes of a Separation.
const (
	SeparateHolding = "hold" // static separation of duty (ANSI INCITS 359)
	SeparateUse     = "use"  // by what was done, on one deployment
)

// Duty is the duty that an action belongs to, or -1.
func (s Separation) Duty(a lockkeeper.Action) int {
	return slices.IndexFunc(s.Actions, func(list []lockkeeper.ActionPattern) bool {
		return slices.ContainsFunc(list, func(p lockkeeper.ActionPattern) bool { return p.Matches(a) })
	})
}

// A Provider is a CI platform that vouches for workloads with OIDC tokens.
type Provider struct {
	Name     string `json:"name"`
	Platform string `json:"platform"`           // github, gitlab, azure, kubernetes or oidc
	Issuer   string `json:"issuer"`             // exact; https, or http on a loopback address
	Audience string `json:"audience,omitempty"` // the one audience its tokens must have; default: the server's URL, for azure api://AzureADTokenExchange
	// Longest is the longest life that a token of it may be made with; default
	// 15m, for gitlab 1h. A token of GitLab lives as long as its job may.
	Longest    Duration `json:"longest,omitempty"`
	Algorithms []string `json:"algorithms,omitempty"` // what its tokens may be signed with; default: what the platform uses
	API        string   `json:"api,omitempty"`        // azure: https://dev.azure.com/ORGANISATION, where runs are looked up; github, gitlab: the platform's API, default that of the public service, on gitlab that of the issuer
	Claims     []Claim  `json:"claims,omitempty"`     // oidc: which claim carries which fact
	// App is Lockkeeper's own place on the platform, which lets the platform hold runs
	// before environments that name the provider in heldBy; github, gitlab, azure.
	App *App `json:"app,omitempty"`
}

// An App is what Lockkeeper is on a CI platform. Its secrets are files of the server.
type App struct {
	ID string `json:"id,omitempty"` // github: the number of the GitHub App; gitlab: the number of the account that the access token is of; azure: none
}

// A Claim says that a claim of an issuer's tokens carries a fact of the record.
type Claim struct {
	Fact string `json:"fact"` // repository, run, job, actor, ref, …
	// Claim is its name in the token. sub may fill subject and the names
	// only: it is made of names, and a customer of the platform may leave the
	// repository out of it.
	Claim string `json:"claim"`
}

// AzureAudience is the one audience that every pipeline token of Azure DevOps
// has; it cannot be chosen.
const AzureAudience = "api://AzureADTokenExchange"

// AcceptedAlgorithms is what tokens of the provider may be signed with.
func (p Provider) AcceptedAlgorithms() []string {
	if len(p.Algorithms) > 0 {
		return p.Algorithms
	}
	return platforms[p.Platform].algorithms
}

// LongestLife is the longest life that a token of the provider may have been
// made with.
func (p Provider) LongestLife() time.Duration {
	if p.Platform == GitLab {
		return orDefault(p.Longest, time.Hour)
	}
	return orDefault(p.Longest, DefaultLongest)
}

// NoProof says why a run that the provider vouches for proves nobody's account, or
// "" where it does.
func (p Provider) NoProof() string {
	switch p.Platform {
	case Azure:
		return "the audience of its tokens cannot be chosen, so none carries a challenge"
	case Kubernetes:
		return "its tokens name a service account, and no person who started anything"
	}
	return ""
}

// A Pipeline is an automated definition in one repository, with its stages.
type Pipeline struct {
	Name         string  `json:"name"`
	Project      string  `json:"project"`
	Provider     string  `json:"provider"`
	Organisation string  `json:"organisation,omitempty"` // immutable id of the repository's owner on the platform; none on kubernetes
	TeamProject  string  `json:"teamProject,omitempty"`  // azure: immutable id of the team project
	Repository   string  `json:"repository"`             // immutable id on the platform; on kubernetes the namespace
	Definition   string  `json:"definition,omitempty"`   // path of the definition in the repository, on gitlab HOST/GROUP/PROJECT//PATH if it lies in another project; on azure its number; none on kubernetes
	Stages       []Stage `json:"stages"`
}

// A Stage is the unit of identity. A workload is of this stage when every field
// of Trust agrees with its record.
type Stage struct {
	Name  string `json:"name"`
	Trust Trust  `json:"trust"`
	// Evidence are the kinds of evidence that its jobs may bring: tests, coverage, scan,
	// sbom, vulnerabilities, vex, attestation.
	Evidence []string `json:"evidence,omitempty"`
	// Running are the environments of the project of which its jobs may say what runs
	// there (lockkeeper running report).
	Running []string `json:"running,omitempty"`
}

// A Trust rule names a stage's jobs by signed facts. Events is an allow-list:
// anything unnamed is refused.
type Trust struct {
	Environment string   `json:"environment,omitempty"` // the platform's environment that the job names; "": the job must name none
	Events      []string `json:"events,omitempty"`      // push, workflow_dispatch, …; as the platform names them
	Refs        []string `json:"refs,omitempty"`        // full refs, exact: refs/heads/main
	Stage       string   `json:"stage,omitempty"`       // the platform's stage; azure demands its name in the definition, which a look-up of the run must find in progress
	Called      string   `json:"called,omitempty"`      // owner/repo/path of the reusable definition the job must run in; "": none
	SelfHosted  bool     `json:"selfHosted,omitempty"`  // admit self-hosted runners
	// ServiceAccount is the UID of a Kubernetes service account.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Rule is CEL over job that must be true besides all of the above. Names
	// and sub (subject, …_name) may only be compared whole, with ==, != and in;
	// a pattern of matches must be a literal that is anchored as ^(…)$. A rule
	// that names, sub, actor and rerun_actor alone can make true is refused:
	// whoever comes to own a name, or may start a run, would make it true.
	// The pipeline itself is found by immutable ids, so no rule needs a name.
	Rule string `json:"rule,omitempty"`
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
	Mode       string   `json:"mode,omitempty"` // enforce, or observe: its checks are judged and recorded, and stop nothing; default enforce
	Tier       Tier     `json:"tier"`
	Automation bool     `json:"automation,omitempty"` // admit runs that no person started
	Lease      Duration `json:"lease,omitempty"`      // longest lease; default 1h, at most 12h
	Heartbeat  Duration `json:"heartbeat,omitempty"`  // a holder that is silent this long loses its lease; default 5m, 10s to 1h
	Patience   Duration `json:"patience,omitempty"`   // how long an ask may wait at the gate; default 24h, at most 30 days
	RecordAge  Duration `json:"recordAge,omitempty"`  // how old the record that vouches for an artifact may be at the release; default 720h, 1m to 8760h
	// Activation is a role that the very job which asks to deploy must have activated
	// here (lockkeeper activate --run). "": none.
	Activation string   `json:"activation,omitempty"`
	Checks     []Check  `json:"checks,omitempty"`
	Waivers    []Waiver `json:"waivers,omitempty"` // of what production demands
	// Persons is how many persons at most may be able to reach the environment; no
	// catalog is applied under which more can.
	Persons *Persons `json:"persons,omitempty"`
	// Override is what it takes to waive soft checks and soft freezes for one ask; none:
	// nobody can.
	Override *Override `json:"override,omitempty"`
	// CoolingOff is for how long whoever changed what the environment asks, or who is in the
	// groups that it asks, has no vote there; default none, 1m to 720h.
	CoolingOff Duration `json:"coolingOff,omitempty"`
	// HeldBy is the provider whose platform holds each run before this environment until
	// Lockkeeper lets it through, and opens the ask by that; no job opens one then. "":
	// the jobs ask.
	HeldBy string `json:"heldBy,omitempty"`
}

// Persons is a budget of persons, not of accounts. Whoever could by activating a
// role counts, and so does a member of a group that a directory fills.
type Persons struct {
	Write   int `json:"write,omitempty"`   // who may start deployments there, or take tokens of its identity; 0: any number
	Approve int `json:"approve,omitempty"` // who may approve them; 0: any number
}

// A Demand is something that every production environment must have.
type Demand string

// The demands on production.
const (
	DemandApproval       Demand = "approval"        // somebody else than the initiator approves
	DemandSecurityReview Demand = "security-review" // one approval is a security review
	DemandBranchControl  Demand = "branch-control"  // refs are limited
)

// A Waiver lets a production environment go without something that it must
// have, for a time, in the name of somebody who answers for it. The gate fails
// once it has ended.
type Waiver struct {
	Demand Demand            `json:"demand"`
	Owner  string            `json:"owner"`  // the user who answers for it
	Until  lockkeeper.Moment `json:"until"`  // half-open; at most 366 days ahead: no catalog is applied in which a new waiver ends later, and none counts that does
	Reason string            `json:"reason"` //
}

// LongestWaiver is how far ahead the end of a waiver may lie at the moment at
// which it is applied or used. A catalog knows no time: the keeper holds new
// waivers to it, and the gate all.
const LongestWaiver = 366 * 24 * time.Hour

// A Check is one condition of an environment. Exactly one of the kinds is set.
type Check struct {
	Name string `json:"name"`
	// Shadow lets the check be judged, recorded and shown, and stop nothing: to see what
	// it would do before it does. It meets no demand of production; a lock has none.
	Shadow bool `json:"shadow,omitempty"`

	Approval   *Approval   `json:"approval,omitempty"`
	Branches   *Branches   `json:"branches,omitempty"`
	Template   *Template   `json:"template,omitempty"`
	Expression *Expression `json:"expression,omitempty"`
	Delay      *Delay      `json:"delay,omitempty"`
	Hours      *Hours      `json:"hours,omitempty"`
	Lock       *Lock       `json:"lock,omitempty"`

	Tests           *Tests                `json:"tests,omitempty"`
	Scan            *Scan                 `json:"scan,omitempty"`
	SBOM            *BillOfMaterials      `json:"sbom,omitempty"`
	Vulnerabilities *KnownVulnerabilities `json:"vulnerabilities,omitempty"`
	Provenance      *SLSAProvenance       `json:"provenance,omitempty"`
	Attestation     *AttestationCheck     `json:"attestation,omitempty"`
	// Soft lets an override of the environment waive the check. What production
	// demands is met by checks that are not soft; a lock, provenance and an attestation
	// are never soft.
	Soft bool `json:"soft,omitempty"`

	Promotion *Promotion `json:"promotion,omitempty"`
	Plan      *PlanCheck `json:"plan,omitempty"`

	Record *RecordCheck `json:"record,omitempty"`

	// Actions are those of which the check is asked: deploy, rollback (back to what was
	// good there) and redeploy (the last good once more); default: all. A lock, provenance
	// and an attestation are asked of all.
	Actions []string `json:"actions,omitempty"`
	// When is a CEL expression over the ask, as that of an expression check: the check is
	// asked only where it is true or cannot be judged, so that what carries little risk
	// prompts nobody. Such a check meets no demand of production.
	When string `json:"when,omitempty"`

	Call    *CallCheck    `json:"call,omitempty"`
	Metrics *MetricsCheck `json:"metrics,omitempty"`
	Change  *ChangeCheck  `json:"change,omitempty"`

	Policy *PolicyCheck `json:"policy,omitempty"`
}

// An Approval demands that Count distinct persons out of Groups let the ask
// through. Requester and initiator never count, as persons.
type Approval struct {
	Count        int      `json:"count"`
	Groups       []string `json:"groups"`
	Review       string   `json:"review,omitempty"`       // "security": this is the environment's security review
	Instructions string   `json:"instructions,omitempty"` // what an approver should look at
	After        []string `json:"after,omitempty"`        // approval checks of this environment that come first; none: any order
	Timeout      Duration `json:"timeout,omitempty"`      // from when its turn came; then the ask has failed; default: the patience
	Validity     Duration `json:"validity,omitempty"`     // how long before the release a vote counts; default: the patience
	// Escalate lets others fill the places that are still open after a time.
	Escalate *Escalation `json:"escalate,omitempty"`

	// SignedIn is how long before the vote the voter may have shown a credential;
	// none: as long as his sign-in holds. 1m to 168h.
	SignedIn Duration `json:"signedIn,omitempty"`
	Strong   bool     `json:"strong,omitempty"` // the voter must have shown more than a password

	// Checklist is what the reviewer of a security review answers, item by item; a vote
	// without a yes to each does not count. At most 32 items.
	Checklist []ChecklistItem `json:"checklist,omitempty"`

	// Once lets votes that let one deployment through count for later ones of the same
	// run and attempt that ask for the same thing here: action, commit, artifacts, plans
	// and parameters. They go on having to be valid, and their voters to be permitted.
	Once bool `json:"once,omitempty"`
}

// An Escalation says who else may approve once nobody has for long enough.
type Escalation struct {
	After  Duration `json:"after"` // from when the approval's turn came; 1m to its time-out, or to the patience
	Groups []string `json:"groups"`
}

// Asks lists every group whose members may ever approve: those that are asked at
// once, and those that are asked after a time.
func (a Approval) Asks() []string {
	if a.Escalate == nil {
		return a.Groups
	}
	return slices.Concat(a.Groups, a.Escalate.Groups)
}

// SecurityReview marks an approval as the security review that production
// demands.
const SecurityReview = "security"

// Branches limits the refs that may be deployed (Azure Pipelines calls it
// branch control). A pattern is a full ref in which * stands for any text
// without a slash.
type Branches struct {
	Allowed   []string `json:"allowed"`             // full refs or patterns: refs/heads/main, refs/heads/release/*
	Protected bool     `json:"protected,omitempty"` // the platform must vouch that the ref is protected; unknown is no
}

// A Template demands that the deploying job runs in one of these reusable
// definitions.
type Template struct {
	Allowed []TemplateSource `json:"allowed"`
}

// A TemplateSource is a reusable definition at named refs or commits.
type TemplateSource struct {
	Path    string   `json:"path"`              // owner/repo/path
	Refs    []string `json:"refs,omitempty"`    // full refs, exact
	Commits []string `json:"commits,omitempty"` // full commit ids
}

// An Expression is a CEL expression over the ask that must be true.
type Expression struct {
	Rule    string `json:"rule"`              // ask.parameters["change"].startsWith("CHG")
	Message string `json:"message,omitempty"` // what to tell whom it refuses
}

// A Delay lets an ask through no sooner than this after it was opened.
type Delay struct {
	For Duration `json:"for"`
}

// Hours lets asks through in windows of local time only.
type Hours struct {
	Zone    string   `json:"zone"` // IANA: Europe/Zurich
	Windows []Window `json:"windows"`
	Except  []string `json:"except,omitempty"` // local dates without any window: 2026-12-25
}

// A Window is open on these days from From up to To, without To, by the clock
// on the wall. With To not after From it goes on past midnight into the next
// day.
type Window struct {
	Days []string `json:"days"` // monday … sunday
	From string   `json:"from"` // 09:00
	To   string   `json:"to"`   // 17:00; 24:00 is the end of the day
}

// A Lock lets one deployment of the environment run at a time.
type Lock struct {
	Mode string `json:"mode"` // sequential or runLatest
}

// The modes of a lock, named as in Azure Pipelines.
const (
	LockSequential = "sequential" // every ask gets its turn, oldest ticket first
	LockLatest     = "runLatest"  // a newer ask of the same stage and ref that is ready supersedes older ones
)

// An Identity is a workload identity that Lockkeeper can hand out.
type Identity struct {
	Name        string   `json:"name"`
	Project     string   `json:"project"`
	Environment string   `json:"environment"`
	Audiences   []string `json:"audiences"`          // what its tokens may be for
	Lifetime    Duration `json:"lifetime,omitempty"` // of one token; default 5m, or the environment's heartbeat where that is shorter; 1s to 1h, at most the heartbeat
	Stages      []string `json:"stages"`             // PIPELINE/STAGE, all of one pipeline
	People      bool     `json:"people,omitempty"`   // people who hold identities/use may have its tokens, too
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
	DefaultLongest   = 15 * time.Minute // life of a CI platform's token
	DefaultLease     = time.Hour
	DefaultHeartbeat = 5 * time.Minute
	DefaultPatience  = 24 * time.Hour
	DefaultLifetime  = 5 * time.Minute
	DefaultRecordAge = 30 * 24 * time.Hour
)
