package api

import "github.com/lockkeeper/lockkeeper"

// StartFreeze stops the line at a scope, for a time.
type StartFreeze struct {
	Scope    lockkeeper.Scope `json:"scope" maxLength:"1000" doc:"/, a project, an environment, a pipeline or an identity"`
	Seconds  int64            `json:"seconds" minimum:"60" maximum:"2592000" doc:"how long it holds"`
	Reason   string           `json:"reason" maxLength:"1000" doc:"why, for those whom it stops"`
	Actions  []string         `json:"actions,omitempty" maxItems:"32" doc:"deploy, rollback, tokens (that people take of an identity); default: deploy and rollback"`
	Callers  []string         `json:"callers,omitempty" maxItems:"32" doc:"people, automation; default: both"`
	Exempt   []string         `json:"exempt,omitempty" maxItems:"32" doc:"groups whose members it does not stop, in runs that they started themselves"`
	InFlight string           `json:"in_flight,omitempty" enum:"finish,noTokens,abort" doc:"what happens to what runs; default: finish"`
	Soft     bool             `json:"soft,omitempty" doc:"an override of the environment may waive it"`
}

// FreezeStarted says that a freeze holds.
type FreezeStarted struct {
	ID      string            `json:"id"`
	Until   lockkeeper.Moment `json:"until"`
	Revoked []string          `json:"revoked" doc:"deployments that ran and lost their lease"`
}

// EndFreeze lifts a freeze that was started by hand, before its time.
type EndFreeze struct {
	Reason string `json:"reason" maxLength:"1000" doc:"why it may go on"`
}

// FreezeTime is a time in which a freeze holds, half-open.
type FreezeTime struct {
	From  lockkeeper.Moment `json:"from"`
	Until lockkeeper.Moment `json:"until,omitzero"`
}

// Freeze is one freeze, of the catalog or started by hand, and how it stands.
type Freeze struct {
	Name      string            `json:"name"`
	Scope     lockkeeper.Scope  `json:"scope"`
	Reason    string            `json:"reason"`
	StartedBy string            `json:"started_by,omitempty" doc:"who started it by hand; none: it is of the catalog"`
	From      lockkeeper.Moment `json:"from,omitzero"`
	Until     lockkeeper.Moment `json:"until,omitzero"`
	Zone      string            `json:"zone,omitempty"`
	Recurs    bool              `json:"recurs"`
	Actions   []string          `json:"actions" doc:"what it stops"`
	Callers   []string          `json:"callers" doc:"whom it stops"`
	Exempt    []string          `json:"exempt" doc:"groups whose members it does not stop"`
	InFlight  string            `json:"in_flight" enum:"finish,noTokens,abort" doc:"what happens to what runs"`
	Soft      bool              `json:"soft" doc:"an override may waive it"`
	Holds     bool              `json:"holds" doc:"now"`
	Since     lockkeeper.Moment `json:"since,omitzero" doc:"since when it holds"`
	NextOpen  lockkeeper.Moment `json:"next_open,omitzero" doc:"when that ends; none: no end is known"`
	NextClose lockkeeper.Moment `json:"next_close,omitzero" doc:"when it next begins to hold; none: not within 400 days"`
	Times     []FreezeTime      `json:"times,omitempty" doc:"when it holds, in the days that were asked for"`
	Alone     bool              `json:"alone" doc:"whoever starts one there by hand may end it alone"`
	Unjudged  string            `json:"unjudged,omitempty" doc:"why its times are unknown; nothing passes then"`
}

// Freezes are the freezes that touch a scope, those that hold first.
type Freezes struct {
	Freezes []Freeze `json:"freezes"`
}

// RequestOverride asks to waive soft checks of one ask.
type RequestOverride struct {
	Waives   []string          `json:"waives" maxItems:"20" doc:"names of checks, and freeze:NAME"`
	Reason   string            `json:"reason" maxLength:"1000"`
	Incident string            `json:"incident" maxLength:"200" doc:"what it is for: INC-4711"`
	Digest   lockkeeper.Digest `json:"digest,omitempty" maxLength:"100" doc:"of the ask that was seen; none: whatever it is"`
}

// DecideOverride is a verdict on the override that was seen.
type DecideOverride struct {
	Digest  lockkeeper.Digest `json:"digest" maxLength:"100" doc:"of the override"`
	Comment string            `json:"comment,omitempty" maxLength:"2000"`
}

// EndOverride takes an override back.
type EndOverride struct {
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}

// Override is one override of a deployment.
type Override struct {
	ID          string            `json:"id"`
	Deployment  string            `json:"deployment"`
	Environment lockkeeper.Scope  `json:"environment"`
	Status      string            `json:"status" enum:"waiting,granted,denied,withdrawn,ended,timed_out"`
	User        string            `json:"user" doc:"who asked for it"`
	Waives      []string          `json:"waives"`
	Reason      string            `json:"reason"`
	Incident    string            `json:"incident"`
	Digest      lockkeeper.Digest `json:"digest" doc:"what an approval is for"`
	Revision    int               `json:"catalog_revision"`
	Opened      lockkeeper.Moment `json:"opened"`
	Deadline    lockkeeper.Moment `json:"deadline" doc:"until when it waits for approvals"`
	Approvals   []Approval        `json:"approvals"`
	Needed      int               `json:"needed,omitempty" doc:"distinct persons"`
	Approvers   []string          `json:"approvers" doc:"whose approval would count now"`
	Ends        lockkeeper.Moment `json:"ends,omitzero" doc:"until when it waives"`
	Counts      bool              `json:"counts" doc:"it waives now"`
	Review      string            `json:"review,omitempty" doc:"that is owed for it"`
	ClosedBy    string            `json:"closed_by,omitempty"`
}

// Overrides are those of deployments that have not ended, oldest first.
type Overrides struct {
	Overrides []Override `json:"overrides"`
}
