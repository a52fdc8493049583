package api

import (
	"encoding/json"

	"github.com/lockkeeper/lockkeeper"
)

// ReportRunning is what a job sees running in an environment of its project.
type ReportRunning struct {
	Environment string                `json:"environment" maxLength:"63"`
	Artifacts   []lockkeeper.Artifact `json:"artifacts" minItems:"1" maxItems:"64"`
}

// Sighted is what of it nothing that was let in brought there.
type Sighted struct {
	Project     string                `json:"project"`
	Environment string                `json:"environment"`
	Strange     []lockkeeper.Artifact `json:"strange"`
}

// Running is what is known of what runs in environments.
type Running struct {
	Environments []RunningEnvironment `json:"environments"`
}

// RunningEnvironment is what is known of what runs in one environment.
type RunningEnvironment struct {
	Project     string                `json:"project"`
	Environment string                `json:"environment"`
	Let         []LetIn               `json:"let" doc:"what may run there: the last success, and what got a lease since"`
	Seen        *Seen                 `json:"seen,omitempty" doc:"what runs there, as a job says; none: nobody does"`
	Strange     []lockkeeper.Artifact `json:"strange" doc:"what was seen there and nothing that was let in brought"`
	Stood       []Stood               `json:"stood" doc:"since when what stood there without a break, oldest first: what promotions count"`
}

// LetIn is what one deployment brought, or is bringing.
type LetIn struct {
	Deployment string                `json:"deployment"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	At         lockkeeper.Moment     `json:"at"`
}

// Seen is what a job says that it sees running.
type Seen struct {
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
	Since     lockkeeper.Moment     `json:"since"`
	At        lockkeeper.Moment     `json:"at" doc:"when that was said last; once an hour at most, while nothing changes"`
	Pipeline  string                `json:"pipeline"`
	Stage     string                `json:"stage"`
	Run       string                `json:"run"`
}

// Stood is a time in which artifacts stood in an environment without a break.
type Stood struct {
	Deployment string                `json:"deployment" doc:"of the newest success in it"`
	Artifacts  []lockkeeper.Artifact `json:"artifacts"`
	Since      lockkeeper.Moment     `json:"since"`
	Last       lockkeeper.Moment     `json:"last" doc:"the newest success"`
	Until      lockkeeper.Moment     `json:"until,omitzero" doc:"when something else was let in; none: they stand"`
	Again      string                `json:"again,omitempty" doc:"deployment of the same artifacts that runs: nobody knows yet what stands"`
}

// Receipts are the deployments that let an artifact in, newest first.
type Receipts struct {
	Receipts []LetInReceipt `json:"receipts"`
}

// LetInReceipt is one deployment that let an artifact in and runs or has succeeded.
type LetInReceipt struct {
	Deployment  string            `json:"deployment"`
	Project     string            `json:"project"`
	Environment string            `json:"environment"`
	Status      string            `json:"status" enum:"running,succeeded"`
	At          lockkeeper.Moment `json:"at" doc:"when it was let in"`
	Current     bool              `json:"current" doc:"it may run there now: it is the last success, or got its lease since"`
	Summary     json.RawMessage   `json:"summary" doc:"SLSA verification summary, as a signed DSSE envelope"`
}
