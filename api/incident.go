package api

import "github.com/lockkeeper/lockkeeper"

// OpenIncident declares an incident.
type OpenIncident struct {
	Title      string             `json:"title" maxLength:"200" doc:"what happened"`
	Mode       string             `json:"mode,omitempty" enum:"strict,best-effort" doc:"strict takes the leases of what runs at once; best-effort lets what runs go on to its end; default: strict"`
	Freeze     []lockkeeper.Scope `json:"freeze,omitempty" maxItems:"200" doc:"scopes in which nothing is deployed"`
	Quarantine []string           `json:"quarantine,omitempty" maxItems:"200" doc:"user:NAME, pipeline:PROJECT/NAME, identity:PROJECT/NAME or provider:NAME"`
}

// ExtendIncident adds to an open incident.
type ExtendIncident struct {
	Strict     bool               `json:"strict,omitempty" doc:"make it strict"`
	Freeze     []lockkeeper.Scope `json:"freeze,omitempty" maxItems:"200"`
	Quarantine []string           `json:"quarantine,omitempty" maxItems:"200"`
	Comment    string             `json:"comment,omitempty" maxLength:"2000"`
}

// CloseIncident lifts an incident that another person opened.
type CloseIncident struct {
	Finding string `json:"finding" maxLength:"2000" doc:"what was found and mended"`
}

// IncidentCut is what opening or extending an incident ended, and what may still be
// alive outside.
type IncidentCut struct {
	ID          string            `json:"id"`
	Revoked     []string          `json:"revoked" doc:"deployments that ran and lost their lease"`
	Ended       []string          `json:"ended" doc:"deployments that waited"`
	Sessions    int               `json:"sessions" doc:"sign-ins that ended"`
	Activations []string          `json:"activations" doc:"that ended"`
	Requests    []string          `json:"requests" doc:"to activate a role, that were closed"`
	Voided      []string          `json:"voided" doc:"deployments and requests that lost approvals"`
	Outside     []IncidentOutside `json:"outside" doc:"what may still be alive outside, what ends last first"`
	OutsideTill lockkeeper.Moment `json:"outside_till,omitzero" doc:"when the last of it ends"`
}

// IncidentOutside is what was handed out under one lease and may be taken until it
// ends, by whoever looks at its expiry only.
type IncidentOutside struct {
	Deployment  string            `json:"deployment,omitempty" doc:"that got the tokens"`
	User        string            `json:"user,omitempty" doc:"the person who got them, where no deployment did"`
	Provisioner string            `json:"provisioner,omitempty" doc:"that gave credentials, where they are no tokens"`
	Project     string            `json:"project"`
	Environment string            `json:"environment"`
	Identity    string            `json:"identity"`
	Tokens      int               `json:"tokens"`
	Till        lockkeeper.Moment `json:"till"`
	Running     bool              `json:"running" doc:"the lease lives on, and may get more tokens until then"`
}

// Incident is one incident.
type Incident struct {
	ID          string             `json:"id"`
	Title       string             `json:"title"`
	Mode        string             `json:"mode" enum:"strict,best-effort"`
	Freeze      []lockkeeper.Scope `json:"freeze"`
	Quarantine  []string           `json:"quarantine"`
	Opened      lockkeeper.Moment  `json:"opened"`
	By          string             `json:"opened_by"`
	Outside     []IncidentOutside  `json:"outside"`
	OutsideTill lockkeeper.Moment  `json:"outside_till,omitzero"`
	Closers     []string           `json:"closers" doc:"who could close it now"`
	Closed      *IncidentEnd       `json:"closed,omitempty"`
}

// IncidentEnd is how an incident was closed.
type IncidentEnd struct {
	At      lockkeeper.Moment `json:"at"`
	User    string            `json:"user,omitempty" doc:"who closed it; none: whoever runs the server's machine"`
	Finding string            `json:"finding"`
}

// Incidents are the open incidents that the caller may see, oldest first.
type Incidents struct {
	Incidents []Incident `json:"incidents"`
}
