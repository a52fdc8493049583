package api

import "github.com/lockkeeper/lockkeeper"

// BreakGlass activates a role without approval.
type BreakGlass struct {
	Role    string           `json:"role" maxLength:"63"`
	Scope   lockkeeper.Scope `json:"scope" maxLength:"1000"`
	Seconds int64            `json:"seconds" minimum:"1" maximum:"86400"`
	Reason  string           `json:"reason" maxLength:"1000"`
}

// Notice tells somebody what happened that concerns him.
type Notice struct {
	ID      string            `json:"id"`
	About   string            `json:"about" doc:"break-glass, incident, recovery or override"`
	Subject string            `json:"subject" doc:"what it is about, as the journal's entries are found by it"`
	Text    string            `json:"text"`
	At      lockkeeper.Moment `json:"at"`
}

// Notices are what one was told and has not acknowledged, newest first.
type Notices struct {
	Notices []Notice `json:"notices"`
}

// Review is what persons who took no part look at afterwards.
type Review struct {
	ID         string            `json:"id"`
	About      string            `json:"about" doc:"break-glass, recovery or override"`
	User       string            `json:"user" doc:"whose deeds are reviewed"`
	Role       string            `json:"role,omitempty"`
	Scope      lockkeeper.Scope  `json:"scope"`
	Activation string            `json:"activation,omitempty"`
	Override   string            `json:"override,omitempty"`
	Deployment string            `json:"deployment,omitempty" doc:"of the override"`
	Reason     string            `json:"reason"`
	Opened     lockkeeper.Moment `json:"opened"`
	Due        lockkeeper.Moment `json:"due"`
	Overdue    bool              `json:"overdue"`
	Demands    []ReviewDemand    `json:"demands" doc:"all of them must be met"`
	Findings   []Finding         `json:"findings"`
	Reviewers  []string          `json:"reviewers" doc:"who could review it now"`
	Closed     lockkeeper.Moment `json:"closed,omitzero"`
}

// ReviewDemand asks for a number of persons.
type ReviewDemand struct {
	Rule   string   `json:"rule,omitempty"`
	Count  int      `json:"count"`
	Groups []string `json:"groups" doc:"out of which they are; none: who may read the journal"`
}

// Finding is what one person found.
type Finding struct {
	User        string            `json:"user"`
	At          lockkeeper.Moment `json:"at"`
	Text        string            `json:"text"`
	Unjustified bool              `json:"unjustified"`
}

// Reviews are the open reviews that concern the caller, those due first before the
// others.
type Reviews struct {
	Reviews []Review `json:"reviews"`
}

// CloseReview is what a reviewer found.
type CloseReview struct {
	Finding     string `json:"finding" maxLength:"2000"`
	Unjustified bool   `json:"unjustified,omitempty" doc:"it should not have been done"`
}

// ReviewOutcome says whether a finding was the last one that was asked for.
type ReviewOutcome struct {
	ID     string `json:"id"`
	Closed bool   `json:"closed"`
}

// MakeRecovery names the holders of new recovery codes.
type MakeRecovery struct {
	User    string   `json:"user" maxLength:"63" doc:"the administrator whose session the codes start"`
	Needed  int      `json:"needed" minimum:"2" maximum:"20" doc:"how many codes are needed, of as many persons"`
	Holders []string `json:"holders" maxItems:"20"`
}

// RecoveryCode is one holder's code.
type RecoveryCode struct {
	Code string `json:"code" doc:"shown once"`
}

// UseRecovery starts a session with codes.
type UseRecovery struct {
	Codes []string `json:"codes" maxItems:"20"`
}

// RecoveryCodes is the set of recovery codes in force, without the codes.
type RecoveryCodes struct {
	ID      string            `json:"id" doc:"empty: there is none"`
	User    string            `json:"user"`
	Needed  int               `json:"needed"`
	Made    lockkeeper.Moment `json:"made,omitzero"`
	By      string            `json:"made_by"`
	Holders []RecoveryHolder  `json:"holders"`
}

// RecoveryHolder holds one code.
type RecoveryHolder struct {
	User      string            `json:"user"`
	Collected lockkeeper.Moment `json:"collected,omitzero"`
	Used      lockkeeper.Moment `json:"used,omitzero"`
}
