package api

import "github.com/lockkeeper/lockkeeper"

// PlannedFor is a plan that an ask carries, as a stage recorded it.
type PlannedFor struct {
	Kind     string            `json:"kind" doc:"terraform or helm"`
	Digest   lockkeeper.Digest `json:"digest"`
	Evidence string            `json:"evidence,omitempty" doc:"the piece that says it; none: nobody recorded this plan"`
	Line     string            `json:"line,omitempty"`
	Stage    string            `json:"stage,omitempty" doc:"PIPELINE/STAGE that recorded it"`
	At       lockkeeper.Moment `json:"at,omitzero"`
	Changes  []PlannedChange   `json:"changes,omitempty" doc:"the first 200: destroys, replacements, changes, adds"`
	Total    int               `json:"total,omitempty" doc:"how many there are"`
}

// PlannedChange is one thing that would happen.
type PlannedChange struct {
	Action  string `json:"action" doc:"destroy, replace, change, forget, add or apply"`
	Address string `json:"address"`
}
