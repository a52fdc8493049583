package lockkeeper

import (
	"fmt"
	"strings"
)

// An Action is something that a role allows, written collection/verb, such as
// deployments/approve. Roles hold actions and patterns of them.
type Action string

// The actions that exist. A role that names any other is refused when the
// catalog is read, so that a misspelt right is never silently no right.
const (
	ReadAccess         Action = "access/read"
	WriteAccess        Action = "access/write"    // users, groups, roles, assignments
	EscalateAccess     Action = "access/escalate" // grant what one does not hold
	InviteAccounts     Action = "accounts/invite"
	ReadAccounts       Action = "accounts/read"       // sign-ins of others
	RevokeAccounts     Action = "accounts/revoke"     // end sign-ins of others
	ReadActivations    Action = "activations/read"    // requests and activations of others
	ApproveActivations Action = "activations/approve" // decide requests of others
	RevokeActivations  Action = "activations/revoke"  // end activations of others
	RecordArtifacts    Action = "artifacts/record"    // the part of whoever starts a run that vouches for artifacts; a Separation names it
	AddEvidence        Action = "evidence/add"        // the part of whoever starts a run that brings evidence; a Separation names it
	ReadCatalog        Action = "catalog/read"
	ProposeChanges     Action = "changes/propose"
	ReadChanges        Action = "changes/read"
	ReviewChanges      Action = "changes/review"
	LeadChanges        Action = "changes/lead"
	SecureChanges      Action = "changes/secure"
	ReadDeployments    Action = "deployments/read"
	StartDeployments   Action = "deployments/start"
	ApproveDeployments Action = "deployments/approve"
	CancelDeployments  Action = "deployments/cancel"
	ReadEnvironments   Action = "environments/read"
	WriteEnvironments  Action = "environments/write" // environments and their checks
	WriteFreezes       Action = "freezes/write"
	ReadIdentities     Action = "identities/read"
	WriteIdentities    Action = "identities/write"
	UseIdentities      Action = "identities/use" // obtain tokens of an identity that is for people, too
	ReadIncidents      Action = "incidents/read"
	DeclareIncidents   Action = "incidents/declare"
	ReadJournal        Action = "journal/read"
	ExportJournal      Action = "journal/export"
	RotateKeys         Action = "keys/rotate"
	RevokeLeases       Action = "leases/revoke"
	ReadPipelines      Action = "pipelines/read"
	WritePipelines     Action = "pipelines/write" // pipelines, stages, providers
	WriteProjects      Action = "projects/write"
)

var actions = []Action{
	ReadAccess, WriteAccess, EscalateAccess, InviteAccounts, ReadAccounts, RevokeAccounts, ReadActivations, ApproveActivations, RevokeActivations, RecordArtifacts, AddEvidence, ReadCatalog,
	ProposeChanges, ReadChanges, ReviewChanges, LeadChanges, SecureChanges,
	ReadDeployments, StartDeployments, ApproveDeployments, CancelDeployments,
	ReadEnvironments, WriteEnvironments, WriteFreezes, ReadIdentities, WriteIdentities, UseIdentities,
	ReadIncidents, DeclareIncidents, ReadJournal, ExportJournal, RotateKeys, RevokeLeases,
	ReadPipelines, WritePipelines, WriteProjects,
}

// Actions lists every action that exists, in alphabetical order of collection.
func Actions() []Action { return append([]Action(nil), actions...) }

// ParseAction returns the action that s names; an unknown one is an error.
func ParseAction(s string) (Action, error) {
	for _, a := range actions {
		if string(a) == s {
			return a, nil
		}
	}
	return "", fmt.Errorf("there is no action %q", s)
}

// An ActionPattern is an action or a wildcard over actions: * (every action),
// deployments/* (every verb of a collection), */read (a verb of every
// collection).
type ActionPattern string

// ParseActionPattern reads a pattern; one that matches no existing action is an
// error.
func ParseActionPattern(s string) (ActionPattern, error) {
	p := ActionPattern(s)
	for _, a := range actions {
		if p.Matches(a) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%q matches no action", s)
}

// Matches reports whether p covers a.
func (p ActionPattern) Matches(a Action) bool {
	if p == "*" || string(p) == string(a) {
		return true
	}
	pc, pv, ok := strings.Cut(string(p), "/")
	if !ok {
		return false
	}
	ac, av, _ := strings.Cut(string(a), "/")
	return (pc == "*" || pc == ac) && (pv == "*" || pv == av)
}
