package api

import "github.com/lockkeeper/lockkeeper"

// OpenRequest asks to activate a role.
type OpenRequest struct {
	Role    string           `json:"role" maxLength:"63"`
	Scope   lockkeeper.Scope `json:"scope" maxLength:"600"`
	Seconds int64            `json:"seconds" maximum:"86400" doc:"how long, from when it is begun"`
	Reason  string           `json:"reason,omitempty" maxLength:"1000"`
	Ticket  string           `json:"ticket,omitempty" maxLength:"1000"`

	At         lockkeeper.Moment `json:"at,omitzero" doc:"from when it may be begun, up to 30 days ahead; left out: at once"`
	Deployment string            `json:"deployment,omitempty" maxLength:"63" doc:"the deployment that the activation ends with"`
	Uses       int               `json:"uses,omitempty" minimum:"0" maximum:"1000" doc:"how many decisions may rest on it at most; left out: as many as the rules say"`
}

// OpenRunRequest asks to activate a role for the job that asks, with its CI
// platform's token.
type OpenRunRequest struct {
	Role    string            `json:"role" maxLength:"63"`
	Scope   lockkeeper.Scope  `json:"scope" maxLength:"600"`
	Seconds int64             `json:"seconds" maximum:"86400" doc:"how long, from when it is begun; it ends with the job's deployment"`
	Reason  string            `json:"reason,omitempty" maxLength:"1000"`
	Ticket  string            `json:"ticket,omitempty" maxLength:"1000"`
	Handle  lockkeeper.Digest `json:"handle" doc:"SHA-256 of a secret that the job makes; whoever shows it may read the request and begin it"`
}

// Run is the job that a request or an activation is for.
type Run struct {
	Project  string `json:"project"`
	Pipeline string `json:"pipeline"`
	Stage    string `json:"stage"`
	Provider string `json:"provider"`
	Run      string `json:"run"`
	Attempt  int    `json:"attempt"`
}

// ExtendActivation asks to make one's activation last longer.
type ExtendActivation struct {
	Seconds int64  `json:"seconds" maximum:"86400" doc:"how much longer, past its end"`
	Reason  string `json:"reason,omitempty" maxLength:"1000"`
	Ticket  string `json:"ticket,omitempty" maxLength:"1000"`
}

// IssueToken asks for a token of an identity, as a person.
type IssueToken struct {
	Audience string `json:"audience" maxLength:"1000" doc:"what the token is for: one of the identity's audiences"`
}

// IssuedToken is a token that a person holds.
type IssuedToken struct {
	Token    string            `json:"token"`
	Audience string            `json:"audience"`
	Expires  lockkeeper.Moment `json:"expires" doc:"never after the activation that it rests on"`
	Seconds  int64             `json:"expires_in"`
}

// RequestVote is a verdict on exactly the request that the voter saw. An approval
// may make it smaller first.
type RequestVote struct {
	Digest  lockkeeper.Digest `json:"digest"`
	Comment string            `json:"comment,omitempty" maxLength:"2000"`
	Seconds int64             `json:"seconds,omitempty" minimum:"0" maximum:"86400" doc:"approve a shorter time than was asked for"`
	Scope   lockkeeper.Scope  `json:"scope,omitempty" maxLength:"600" doc:"approve a scope below the one that was asked for"`
}

// Trim is what a request was before an approver made it smaller.
type Trim struct {
	User    string            `json:"user" doc:"who made it smaller"`
	At      lockkeeper.Moment `json:"at"`
	Seconds int64             `json:"seconds" doc:"before"`
	Scope   lockkeeper.Scope  `json:"scope" doc:"before"`
	Digest  lockkeeper.Digest `json:"digest" doc:"before; approvals of it go on counting"`
	Comment string            `json:"comment,omitempty"`
}

// RequestApproval is one person's approval of a request, and of which.
type RequestApproval struct {
	Approval
	Digest lockkeeper.Digest `json:"digest" doc:"of the request as it was approved: as it is, or as it was before a trim"`
}

// Extension is one time that an activation was made longer.
type Extension struct {
	Request string            `json:"request"`
	At      lockkeeper.Moment `json:"at"`
	From    lockkeeper.Moment `json:"from" doc:"when it would have ended"`
}

// Request is a request to activate a role, and how it stands now.
type Request struct {
	ID        string              `json:"id"`
	User      string              `json:"user"`
	Role      string              `json:"role"`
	Actions   []lockkeeper.Action `json:"actions" doc:"that the role allowed when it was asked for; it never gives more"`
	Scope     lockkeeper.Scope    `json:"scope"`
	Seconds   int64               `json:"seconds"`
	Reason    string              `json:"reason,omitempty"`
	Ticket    string              `json:"ticket,omitempty"`
	Digest    lockkeeper.Digest   `json:"digest" doc:"of the whole request; what an approval is for"`
	Opened    lockkeeper.Moment   `json:"opened"`
	Deadline  lockkeeper.Moment   `json:"deadline" doc:"until when it may be approved and begun"`
	Opens     []Opening           `json:"opens,omitempty" doc:"provisioners that it opens, beside the actions"`
	Approvals []RequestApproval   `json:"approvals"`
	Verdict   lockkeeper.Decision `json:"verdict" doc:"how it stands now"`

	At         lockkeeper.Moment `json:"at,omitzero" doc:"from when it may be begun"`
	Extends    string            `json:"extends,omitempty" doc:"the activation that it makes longer"`
	From       lockkeeper.Moment `json:"from,omitzero" doc:"when that ends without it"`
	Deployment string            `json:"deployment,omitempty" doc:"that the activation ends with"`
	Run        *Run              `json:"run,omitempty" doc:"the job that asks, in the place of a user"`
	Trims      []Trim            `json:"trims,omitempty" doc:"what it was before approvers made it smaller"`
	Uses       int               `json:"uses,omitempty" doc:"how many decisions may rest on it; none: any number"`
	Bound      bool              `json:"bound,omitempty" doc:"it will count in the session that begins it alone, and end with that"`
	Questions  []Question        `json:"questions,omitempty" doc:"what services are asked about the ticket"`

	End  *RequestEnd `json:"end,omitempty"`
	Seen string      `json:"seen" doc:"give it back to wait for what differs from this"`
}

// Question is what a service is asked about a request.
type Question struct {
	ID       string            `json:"id"`
	Rule     string            `json:"rule" doc:"that asks"`
	Asked    lockkeeper.Moment `json:"asked"`
	Deadline lockkeeper.Moment `json:"deadline" doc:"what has not answered by then is away"`
	Answered lockkeeper.Moment `json:"answered,omitzero"`
	Met      bool              `json:"met,omitempty" doc:"the answer met the criteria"`
	Status   int               `json:"status,omitempty" doc:"of the answer"`
	Reason   string            `json:"reason,omitempty" doc:"why the answer does not meet them, or why there is none yet"`
}

// RequestEnd is how a request ended.
type RequestEnd struct {
	At         lockkeeper.Moment `json:"at"`
	Status     string            `json:"status" enum:"begun,denied,withdrawn,timed_out"`
	User       string            `json:"user,omitempty" doc:"who ended it"`
	Reason     string            `json:"reason,omitempty"`
	Activation string            `json:"activation,omitempty" doc:"that was begun"`
}

// Requests is a list, oldest first.
type Requests struct {
	Requests []Request `json:"requests"`
}

// Activation is a role that somebody holds for a time.
type Activation struct {
	ID      string              `json:"id"`
	Request string              `json:"request"`
	User    string              `json:"user"`
	Role    string              `json:"role"`
	Actions []lockkeeper.Action `json:"actions"`
	Scope   lockkeeper.Scope    `json:"scope"`
	Reason  string              `json:"reason,omitempty"`
	Ticket  string              `json:"ticket,omitempty"`
	Opens   []Opening           `json:"opens,omitempty" doc:"provisioners that it opens, beside the actions"`
	Started lockkeeper.Moment   `json:"started"`
	Ends    lockkeeper.Moment   `json:"ends"`

	Deployment string      `json:"deployment,omitempty" doc:"that it ends with, if that is sooner"`
	Extended   []Extension `json:"extended,omitempty"`
	Run        *Run        `json:"run,omitempty" doc:"the job that holds it, in the place of a user"`
	BreakGlass string      `json:"break_glass,omitempty" doc:"nobody approved it: the review that is owed for it"`
	Uses       int         `json:"uses,omitempty" doc:"how many decisions may rest on it; none: any number"`
	Used       int         `json:"used,omitempty" doc:"how many did, where that is counted"`
	Bound      bool        `json:"bound,omitempty" doc:"it counts in the session that began it alone, and ends with that"`

	Modified lockkeeper.Moment `json:"externally_modified,omitzero" doc:"when it was first seen that what it opened was changed at the target, past Lockkeeper; it stays"`
}

// Activations is a list, those that end first before the others.
type Activations struct {
	Activations []Activation `json:"activations"`
}

// EndActivation ends one's own activation, or somebody else's.
type EndActivation struct {
	Reason string `json:"reason,omitempty" maxLength:"1000"`
}

// Eligibility is what one may activate, and what that takes.
type Eligibility struct {
	Assignment string            `json:"assignment"`
	Role       string            `json:"role"`
	Scope      lockkeeper.Scope  `json:"scope" doc:"there or below"`
	End        lockkeeper.Moment `json:"end,omitzero"`
	Seconds    int64             `json:"longest_seconds"`
	Reason     bool              `json:"reason" doc:"one has to say why"`
	Tickets    []string          `json:"tickets,omitempty" doc:"what a ticket must match"`
	Approvals  []AskedApproval   `json:"approvals"`
	Condition  string            `json:"condition,omitempty" doc:"CEL that must be true of what the role is then used for"`
	Extensions int               `json:"extensions" doc:"how often one activation may be made longer"`
	CoolingOff int64             `json:"cooling_off_seconds,omitempty" doc:"after a change of the credential nothing may be activated for so long"`
	Hours      bool              `json:"hours,omitempty" doc:"it may be begun in windows of time only"`
	StepUp     int64             `json:"step_up_seconds,omitempty" doc:"how long ago one may have shown a credential when it is begun; none: as long as the sign-in holds"`
	Strong     bool              `json:"strong,omitempty" doc:"one must have shown more than a password"`
	Uses       int               `json:"uses,omitempty" doc:"how many decisions may rest on one activation; none: any number"`
	Bound      bool              `json:"bound,omitempty" doc:"it counts in the session that begins it alone, and ends with that"`
	Asked      []string          `json:"asked,omitempty" doc:"rules that ask a service about the ticket"`
}

// AskedApproval is an approval that an activation takes.
type AskedApproval struct {
	Name         string   `json:"name"`
	Count        int      `json:"count"`
	Groups       []string `json:"groups"`
	After        []string `json:"after,omitempty"`
	Instructions string   `json:"instructions,omitempty"`

	EscalateSeconds int64    `json:"escalate_seconds,omitempty" doc:"after which others are asked, too"`
	EscalateGroups  []string `json:"escalate_groups,omitempty"`
}

// Eligibilities is what one may activate.
type Eligibilities struct {
	Eligibilities []Eligibility `json:"eligibilities"`
}
