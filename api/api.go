// Package api is the wire of Lockkeeper: the requests and replies of its REST
// API under /api/v1, and the Go client for it.
//
// Errors are RFC 9457 problems (see Problem). Times are RFC 3339 in UTC with
// milliseconds. The server describes the same API as OpenAPI 3.1 under
// /api/v1/openapi.json.
package api

import (
	"net/http"

	"github.com/lockkeeper/lockkeeper"
)

// SetUp makes the first administrator with the server's one-time code.
type SetUp struct {
	Code     string `json:"code" doc:"the one-time code that the server printed" maxLength:"100"`
	User     string `json:"user" doc:"name of the first administrator" maxLength:"63"`
	Password string `json:"password" doc:"12 to 256 bytes" maxLength:"1024"`
}

// SignIn asks for a session.
type SignIn struct {
	User     string `json:"user" maxLength:"63"`
	Password string `json:"password" maxLength:"1024"`
}

// Session is a person's sign-in.
type Session struct {
	Secret  string            `json:"secret" doc:"bearer token of the session; shown once"`
	User    string            `json:"user"`
	Expires lockkeeper.Moment `json:"expires"`
	// FactorNeeded: there is no session yet.
	FactorNeeded *FactorNeeded `json:"factor_needed,omitempty" doc:"the password is right, and there is no session before a second factor was shown"`
}

// Invitation lets a user choose a password.
type Invitation struct {
	User string `json:"user"`
	Code string `json:"code" doc:"one-time code; shown once"`
}

// Enrol chooses a password with an invitation's code.
type Enrol struct {
	User     string `json:"user" maxLength:"63"`
	Code     string `json:"code" maxLength:"100"`
	Password string `json:"password" maxLength:"1024"`
}

// Challenge asks a person to prove himself by a run on a CI platform.
type Challenge struct {
	Challenge string          `json:"challenge"`
	Audience  string          `json:"audience" doc:"what the audience of the run's token must be: that of the first of audiences"`
	Audiences []ProofAudience `json:"audiences" doc:"on which platforms a run proves him, and what the audience of its token must be there"`
	NoProof   []NoProof       `json:"no_proof" doc:"on which of his platforms nobody can prove himself"`
}

// ProofAudience is what a token of a provider must be for to prove its owner.
type ProofAudience struct {
	Provider string `json:"provider"`
	Platform string `json:"platform"`
	Audience string `json:"audience"`
}

// NoProof is a provider whose runs prove nobody.
type NoProof struct {
	Provider string `json:"provider"`
	Platform string `json:"platform"`
	Reason   string `json:"reason"`
}

// Proof sends the challenge with the run's token.
type Proof struct {
	Challenge string `json:"challenge" maxLength:"63"`
}

// Proven says who has proved himself.
type Proven struct {
	User string `json:"user"`
}

// File is one governance document file.
type File struct {
	Name string `json:"name" maxLength:"1000"`
	Data string `json:"data"`
}

// Apply puts a catalog in force.
type Apply struct {
	Base    int    `json:"base" doc:"number of the revision that this was planned against"`
	Message string `json:"message,omitempty" maxLength:"2000"`
	Files   []File `json:"files" maxItems:"10000"`
}

// Change is one difference between two revisions.
type Change struct {
	Kind    string `json:"kind"`
	Project string `json:"project,omitempty"`
	Name    string `json:"name"`
	Verb    string `json:"verb" enum:"added,changed,removed"`
}

// Applied is what applying did.
type Applied struct {
	Revision int               `json:"revision"`
	Digest   lockkeeper.Digest `json:"digest"`
	Changes  []Change          `json:"changes"`
	Proposal string            `json:"proposal,omitempty" doc:"what was asked for weakens protection and waits as this proposal; nothing has changed yet"`
	Weakens  []string          `json:"weakens,omitempty" doc:"why it waits for a second person"`
}

// Catalog is the catalog in force.
type Catalog struct {
	Revision  int               `json:"revision"`
	Digest    lockkeeper.Digest `json:"digest"`
	Documents []any             `json:"documents" doc:"every resource, with its kind"`
}

// Role is a named set of actions, Actions minus NotActions, in the words of a
// governance document.
type Role struct {
	Name       string                     `json:"name"`
	Title      string                     `json:"title,omitempty"`
	Actions    []lockkeeper.ActionPattern `json:"actions"`
	NotActions []lockkeeper.ActionPattern `json:"notActions" doc:"what actions would allow, and the role does not"`
	Scopes     []lockkeeper.Scope         `json:"scopes,omitempty" doc:"where it may be granted, and below; none: anywhere"`
	BuiltIn    bool                       `json:"builtIn" doc:"part of the program; no document can change it"`
}

// Roles are the roles of the catalog in force, the built-in ones too, sorted by
// name.
type Roles struct {
	Roles []Role `json:"roles"`
}

// Can says whether a principal may do an action at a scope. Each reason of the
// decision has its path, in the same order.
type Can struct {
	lockkeeper.Decision
	Principal string `json:"principal" doc:"user:NAME or group:NAME"`
	Paths     []Path `json:"paths"`
	Missing   string `json:"missing,omitempty" doc:"what of the scope the catalog does not have, for whoever may read that: the answer is what would hold there"`
	Then
}

// Then is the instant that an answer is about, if it is not now.
type Then struct {
	At       lockkeeper.Moment `json:"at,omitzero" doc:"the instant in the past that the answer is about"`
	Revision *int              `json:"revision,omitempty" doc:"of the catalog that was in force then; 0: there was none"`
}

// Path is one assignment that concerns a question, and the way that leads to it.
type Path struct {
	Assignment string            `json:"assignment"`
	Effect     string            `json:"effect" enum:"grants,eligible,denies,not_started,ended,condition_unmet"`
	Groups     []string          `json:"groups" doc:"from the one that lists the user, or the one that was asked about, to the one that the assignment is to; none: it is to the user himself"`
	Role       string            `json:"role"`
	Scope      lockkeeper.Scope  `json:"scope"`
	Start      lockkeeper.Moment `json:"start,omitzero"`
	End        lockkeeper.Moment `json:"end,omitzero"`
	Here       bool              `json:"here,omitempty" doc:"a deny that holds at the scope alone, not below"`
	Condition  string            `json:"condition,omitempty" doc:"CEL that must be true of a question for the assignment to hold; what-can does not judge it"`
	Fault      string            `json:"fault,omitempty" doc:"why the condition could not be judged: then a grant does not hold, and a deny does"`
}

// Permitted is a user who may do something, and by which path.
type Permitted struct {
	User     string              `json:"user"`
	Person   lockkeeper.Person   `json:"person"`
	Decision lockkeeper.Decision `json:"decision"`
}

// WhatCan lists what a principal holds.
type WhatCan struct {
	Principal   string       `json:"principal" doc:"user:NAME or group:NAME"`
	Holds       []Path       `json:"holds" doc:"by assignments, whatever their effect, by scope"`
	Activations []Activation `json:"activations" doc:"what a user has activated besides, and is eligible for still"`
	Then
}

// WhoCan lists everybody who may do an action at a scope.
type WhoCan struct {
	Users   []Permitted `json:"users"`
	Missing string      `json:"missing,omitempty" doc:"what of the scope the catalog does not have, for whoever may read that: the answer is what would hold there"`
	Then
}

// Rotate makes the next key of an algorithm sign.
type Rotate struct {
	Algorithm string `json:"algorithm" enum:"ES256,RS256"`
	Emergency bool   `json:"emergency,omitempty" doc:"the active key is in somebody else's hands: publish it no more"`
	Reason    string `json:"reason,omitempty" maxLength:"2000"`
}

// Rotated names the keys after a rotation.
type Rotated struct {
	Active string `json:"active"`
	Next   string `json:"next"`
}

// ConfirmRecovery says that what the catalog of this revision allows is right.
type ConfirmRecovery struct {
	Revision int    `json:"revision" minimum:"0" doc:"that was looked at"`
	Comment  string `json:"comment,omitempty" maxLength:"2000"`
}

// Entries are entries of the journal as they are stored.
type Entries struct {
	Entries []any `json:"entries"`
	Next    int64 `json:"next" doc:"the position to go on from"`
}

// Artifacts are recorded by a pipeline stage.
type Artifacts struct {
	Artifacts []lockkeeper.Artifact `json:"artifacts" maxItems:"64"`
}

// Recorded is what was recorded, and for which stage.
type Recorded struct {
	Project   string                `json:"project"`
	Pipeline  string                `json:"pipeline"`
	Stage     string                `json:"stage"`
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
}

// OpenDeployment is the ask of a pipeline stage.
type OpenDeployment struct {
	Action      string                `json:"action,omitempty" enum:"deploy,rollback,redeploy" doc:"default: deploy"`
	Project     string                `json:"project,omitempty" maxLength:"63"`
	Environment string                `json:"environment" maxLength:"63"`
	Artifacts   []lockkeeper.Artifact `json:"artifacts" maxItems:"64"`
	Parameters  map[string]string     `json:"parameters,omitempty"`
	Handle      lockkeeper.Digest     `json:"handle" doc:"digest of the handle that the job made for itself"`
	Detached    bool                  `json:"detached,omitempty" doc:"another job of the same stage and run will claim it, with the same handle"`
	Plans       []lockkeeper.Plan     `json:"plans,omitempty" maxItems:"4" doc:"digests of the recorded plans that the job will carry out"`
}

// Approval is somebody's approval of an ask.
type Approval struct {
	User    string            `json:"user"`
	Comment string            `json:"comment,omitempty"`
	At      lockkeeper.Moment `json:"at"`

	BreakGlass string `json:"break_glass,omitempty" doc:"the right to it was had by breaking the glass: the review of that"`

	SignedIn lockkeeper.Moment `json:"signed_in,omitzero" doc:"when the voter had last shown a credential; none: nobody says"`
	Strong   bool              `json:"strong,omitempty" doc:"with more than a password"`

	Answers []ReviewAnswer `json:"answers,omitempty" doc:"to the checklist of a security review"`

	From string `json:"from,omitempty" doc:"the earlier deployment of the same run that the vote was given for, and that it is carried from"`
}

// Queue is the place of a deployment to which only the lock is missing.
type Queue struct {
	Place int               `json:"place" doc:"1: it is next once nobody holds the lock"`
	Start lockkeeper.Moment `json:"estimated_start,omitzero" doc:"an estimate, not a promise: when its turn comes if all before it take median_seconds; none if nothing is known"`
	Took  float64           `json:"median_seconds,omitempty" doc:"how long half of the environment's last leases took at most"`
	Of    int               `json:"leases,omitempty" doc:"how many leases that is the median of"`
}

// Initiator is who stands behind a run.
type Initiator struct {
	Account    string              `json:"account" doc:"id on the CI platform"`
	Name       string              `json:"name,omitempty"`
	Automation bool                `json:"automation,omitempty"`
	Persons    []lockkeeper.Person `json:"persons,omitempty"`
}

// Lease is the right of one job to obtain tokens.
type Lease struct {
	Identity   string            `json:"identity"`
	Subject    string            `json:"subject"`
	Started    lockkeeper.Moment `json:"started"`
	Ends       lockkeeper.Moment `json:"ends" doc:"unless it is renewed before"`
	Limit      lockkeeper.Moment `json:"limit,omitzero" doc:"beyond which it is never renewed"`
	Tokens     int               `json:"tokens" doc:"handed out so far"`
	TokensTill lockkeeper.Moment `json:"tokens_till,omitzero" doc:"when the last of them ends"`
	Audiences  []string          `json:"audiences,omitempty" doc:"what its tokens may be for"`
}

// End says how a deployment ended and what of it may live on outside.
type End struct {
	At            lockkeeper.Moment `json:"at"`
	Reason        string            `json:"reason,omitempty"`
	By            string            `json:"by,omitempty"`
	ExitCode      int               `json:"exit_code"`
	Crossed       string            `json:"crossed,omitempty" doc:"the separation of duties that whoever ended it crossed by that; it refuses no end"`
	TokensOutside int               `json:"tokens_outside" doc:"tokens that cannot be called back"`
	OutsideTill   lockkeeper.Moment `json:"outside_till,omitzero" doc:"until when a target may still take them"`
}

// Deployment is one ask and what became of it.
type Deployment struct {
	ID          string               `json:"id"`
	Status      string               `json:"status" enum:"waiting,running,succeeded,failed,rejected,cancelled,timed_out,superseded,indeterminate,revoked"`
	Phase       string               `json:"phase" doc:"while it waits: evaluating, queued (only the lock is missing) or ready; else the status"`
	Ask         lockkeeper.Ask       `json:"ask"`
	Digest      lockkeeper.Digest    `json:"digest" doc:"of the whole ask; what an approval is for"`
	Opened      lockkeeper.Moment    `json:"opened"`
	Deadline    lockkeeper.Moment    `json:"deadline"`
	Entry       int64                `json:"entry" doc:"position of its first journal entry"`
	Initiators  []Initiator          `json:"initiators"`
	Approvals   []Approval           `json:"approvals"`
	Delegations []Delegation         `json:"delegations,omitempty"`
	Gate        *lockkeeper.Decision `json:"gate,omitempty" doc:"how the gate stands now"`
	Plans       []PlannedFor         `json:"plans,omitempty" doc:"what stages recorded of the plans that the ask carries"`
	Checklist   []ChecklistItem      `json:"checklist,omitempty" doc:"while it waits: what security reviewers must answer with yes, item by item"`
	Queue       *Queue               `json:"queue,omitempty" doc:"its place in the queue of the lock, while nothing but that is missing"`
	Lease       *Lease               `json:"lease,omitempty"`
	End         *End                 `json:"end,omitempty"`
	Seen        string               `json:"seen" doc:"give it back to wait for what differs from this"`
}

// Deployments is a list, newest first.
type Deployments struct {
	Deployments []Deployment `json:"deployments"`
}

// Withdraw takes one's approval back.
type Withdraw struct {
	Comment string `json:"comment,omitempty" maxLength:"2000"`
}

// Revoke takes the lease of a running deployment away.
type Revoke struct {
	Reason string `json:"reason" minLength:"1" maxLength:"2000"`
}

// Vote approves or rejects the ask with this digest.
type Vote struct {
	Digest  lockkeeper.Digest `json:"digest"`
	Comment string            `json:"comment,omitempty" maxLength:"2000"`
	Answers []ReviewAnswer    `json:"answers,omitempty" maxItems:"64" doc:"to the checklist of the deployment, each with the text that was answered"`
}

// Delegation is a place at the gate that one person handed over to another.
type Delegation struct {
	From    string            `json:"from"`
	To      string            `json:"to"`
	Comment string            `json:"comment,omitempty"`
	At      lockkeeper.Moment `json:"at"`
}

// Delegate hands the caller's place at the gate over.
type Delegate struct {
	To      string `json:"to" maxLength:"63"`
	Comment string `json:"comment,omitempty" maxLength:"2000"`
}

// Renewed is when a lease ends if no other heartbeat follows.
type Renewed struct {
	Ends lockkeeper.Moment `json:"ends"`
}

// Claim asks for the lease.
type Claim struct {
	Handle string            `json:"handle" maxLength:"200"`
	Plans  []lockkeeper.Plan `json:"plans,omitempty" maxItems:"4" doc:"as the job has them now; they must be those that the ask carries"`
}

// EndDeployment is the job's own word on how it went.
type EndDeployment struct {
	ExitCode int `json:"exit_code"`
}

// Cancel ends a deployment.
type Cancel struct {
	Reason string `json:"reason,omitempty" maxLength:"2000"`
}

// Keys are what somebody outside needs to verify receipts and proofs.
type Keys struct {
	Origin        string `json:"origin"`
	CheckpointKey string `json:"checkpoint_key"`
	ReceiptKey    string `json:"receipt_key"`
}

// About says what the server is.
type About struct {
	Issuer   string `json:"issuer"`
	Audience string `json:"audience" doc:"what CI tokens for this server are for"`
	Revision int    `json:"revision" doc:"of the catalog in force"`
	Version  string `json:"version"`
}

// HandlePrefix begins every handle, so that one is told apart from a session
// and from a CI platform's token.
const HandlePrefix = "lkh_"

// A Problem is an error as RFC 9457 writes it, with a stable code, the way out,
// and the decision behind it.
type Problem struct {
	Type     string               `json:"type"`
	Title    string               `json:"title"`
	Status   int                  `json:"status"`
	Detail   string               `json:"detail"`
	Instance string               `json:"instance,omitempty" doc:"id under which the server's log has the cause"`
	Code     string               `json:"code"`
	Next     string               `json:"next,omitempty"`
	Field    string               `json:"field,omitempty"`
	Decision *lockkeeper.Decision `json:"decision,omitempty"`
}

// Error is the detail with the way out.
func (p *Problem) Error() string { return p.Refusal().Error() }

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is application/problem+json, as RFC 9457 asks.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// statuses maps the kinds of error to HTTP statuses, in both directions.
var statuses = map[lockkeeper.Kind]int{
	lockkeeper.Invalid: http.StatusUnprocessableEntity, lockkeeper.Unauthenticated: http.StatusUnauthorized,
	lockkeeper.Forbidden: http.StatusForbidden, lockkeeper.NotFound: http.StatusNotFound, lockkeeper.Conflict: http.StatusConflict,
	lockkeeper.Unavailable: http.StatusServiceUnavailable, lockkeeper.Limited: http.StatusTooManyRequests,
}

// ProblemOf renders a refusal. An error without a kind becomes "internal
// error" under the given id; its text stays inside.
func ProblemOf(err error, id string) *Problem {
	r := lockkeeper.RefusalOf(err)
	if r == nil {
		return &Problem{Type: "about:blank", Title: "internal", Status: http.StatusInternalServerError, Code: "internal_error", Instance: id,
			Detail: "Internal error.", Next: "Look for " + id + " in the server's log."}
	}
	return &Problem{Type: "about:blank", Title: r.Kind.String(), Status: statuses[r.Kind], Detail: r.Sentence, Code: r.Code,
		Next: r.Next, Field: r.Field, Decision: r.Decision}
}

// Refusal is the problem as the error that it was made from.
func (p *Problem) Refusal() *lockkeeper.Refusal {
	kind := lockkeeper.Unavailable
	for k, status := range statuses {
		if status == p.Status {
			kind = k
		}
	}
	if p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusUnsupportedMediaType ||
		p.Status == http.StatusMethodNotAllowed {
		kind = lockkeeper.Invalid
	}
	code := p.Code
	if code == "" {
		code = "http_" + http.StatusText(p.Status)
	}
	return &lockkeeper.Refusal{Kind: kind, Code: code, Sentence: p.Detail, Next: p.Next, Field: p.Field, Decision: p.Decision}
}
