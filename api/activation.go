package api

import "github.com/lockkeeper/lockkeeper"

// OpenRequest asks to activate a role.
type OpenRequest struct {
	Role    string           `json:"role" maxLength:"63"`
	Scope   lockkeeper.Scope `json:"scope" maxLength:"600"`
	Seconds int64            `json:"seconds" maximum:"86400" doc:"how long, from when it is begun"`
	Reason  string           `json:"reason,omitempty" maxLength:"1000"`
	Ticket  string           `json:"ticket,omitempty" maxLength:"1000"`
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
	Approvals []Approval          `json:"approvals"`
	Verdict   lockkeeper.Decision `json:"verdict" doc:"how it stands now"`
	End       *RequestEnd         `json:"end,omitempty"`
	Seen      string              `json:"seen" doc:"give it back to wait for what differs from this"`
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
}

// AskedApproval is an approval that an activation takes.
type AskedApproval struct {
	Name         string   `json:"name"`
	Count        int      `json:"count"`
	Groups       []string `json:"groups"`
	After        []string `json:"after,omitempty"`
	Instructions string   `json:"instructions,omitempty"`
}

// Eligibilities is what one may activate.
type Eligibilities struct {
	Eligibilities []Eligibility `json:"eligibilities"`
}
