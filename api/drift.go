package api

import "github.com/lockkeeper/lockkeeper"

// Drift is one difference between a target and what activations give.
type Drift struct {
	Kind       string            `json:"kind" enum:"vanished,changed,left_over,assigned_outside"`
	Account    string            `json:"account"`
	Detail     string            `json:"detail,omitempty"`
	Duty       string            `json:"duty,omitempty"`
	Activation string            `json:"activation,omitempty"`
	User       string            `json:"user,omitempty"`
	Since      lockkeeper.Moment `json:"since" doc:"when it was first seen"`
}

// DriftTarget is how a provisioner's target stands.
type DriftTarget struct {
	Provisioner string            `json:"provisioner"`
	Kind        string            `json:"kind"`
	Scope       lockkeeper.Scope  `json:"scope"`
	Action      string            `json:"action" enum:"alert,repair,revoke" doc:"what happens where it differs"`
	Visible     bool              `json:"visible" doc:"a target of this kind can be read"`
	Scanned     lockkeeper.Moment `json:"scanned,omitzero" doc:"when this server last read it; not at all since it began, if it is missing"`
	Failed      lockkeeper.Moment `json:"failed,omitzero" doc:"when reading it failed since"`
	Code        string            `json:"code,omitempty" doc:"why"`
	Reason      string            `json:"reason,omitempty"`
	Found       []Drift           `json:"found"`
}

// DriftTargets are targets, by the names of their provisioners.
type DriftTargets struct {
	Targets []DriftTarget `json:"targets"`
}
