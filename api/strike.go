package api

import "github.com/lockkeeper/lockkeeper"

// MakeStrike keeps artifacts out of an environment, or of all of a project.
type MakeStrike struct {
	Scope      lockkeeper.Scope      `json:"scope" maxLength:"1000" doc:"an environment, or a project"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts" maxItems:"64"`
	Reason     string                `json:"reason" maxLength:"1000" doc:"why, for those whom it stops"`
	Deployment string                `json:"deployment,omitempty" maxLength:"63" doc:"that they were found in"`
}

// Struck says that a strike holds.
type Struck struct {
	ID      string             `json:"id"`
	Stands  []lockkeeper.Scope `json:"stands" doc:"environments in which some of it was deployed with success last, or is seen"`
	Revoked []string           `json:"revoked" doc:"deployments that ran and lost their lease"`
}

// LiftStrike lets in again what somebody else struck.
type LiftStrike struct {
	Reason string `json:"reason" maxLength:"1000" doc:"why it may be let in again"`
}

// Strike is one that holds.
type Strike struct {
	ID         string                `json:"id"`
	Scope      lockkeeper.Scope      `json:"scope"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	Reason     string                `json:"reason"`
	By         string                `json:"struck_by"`
	At         lockkeeper.Moment     `json:"at"`
	Deployment string                `json:"deployment,omitempty"`
	Stands     []lockkeeper.Scope    `json:"stands" doc:"environments in which some of it was deployed with success last, or is seen"`
}

// Strikes are the strikes that hold where the caller may read deployments.
type Strikes struct {
	Strikes []Strike `json:"strikes"`
}
