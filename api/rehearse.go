package api

import "github.com/lockkeeper/lockkeeper"

// Rehearse asks what an ask to deploy would get now. A job asks about itself; a person
// names the stage and the run that he asks about.
type Rehearse struct {
	Action      string                `json:"action,omitempty" enum:"deploy,rollback,redeploy" doc:"default: deploy"`
	Project     string                `json:"project,omitempty" maxLength:"63" doc:"of a person's question it is needed"`
	Environment string                `json:"environment" maxLength:"63"`
	Artifacts   []lockkeeper.Artifact `json:"artifacts" maxItems:"64"`
	Parameters  map[string]string     `json:"parameters,omitempty"`
	Detached    bool                  `json:"detached,omitempty"`

	AsStage string `json:"as_stage,omitempty" maxLength:"127" doc:"PIPELINE/STAGE: a person asks about a run of it that he started himself"`
	Ref     string `json:"ref,omitempty" maxLength:"300" doc:"of that run"`
	Commit  string `json:"commit,omitempty" maxLength:"64" doc:"of that run"`
	Event   string `json:"event,omitempty" maxLength:"63" doc:"of that run; default: the first that the stage's trust admits"`
}

// Rehearsal is what an ask would get. Nothing of it is recorded.
type Rehearsal struct {
	At          lockkeeper.Moment   `json:"at"`
	Revision    int                 `json:"revision"`
	Project     string              `json:"project"`
	Environment string              `json:"environment"`
	Pipeline    string              `json:"pipeline,omitempty"`
	Stage       string              `json:"stage,omitempty"`
	Mode        string              `json:"mode,omitempty" doc:"enforce or observe"`
	Opens       bool                `json:"opens" doc:"the ask would be taken; else it would be refused"`
	Gate        lockkeeper.Decision `json:"gate" doc:"how its gate would stand, or why it would be refused"`
	Waits       []Awaited           `json:"waits"`
	Earliest    lockkeeper.Moment   `json:"earliest,omitzero" doc:"when it could go, by what time alone decides; none: not before its patience ends"`
	Sure        bool                `json:"sure" doc:"it waits for nothing but time; else it goes no sooner"`
	Deadline    lockkeeper.Moment   `json:"deadline,omitzero" doc:"when its patience would end"`
	Assumed     []string            `json:"assumed,omitempty" doc:"of a person's question: what no token vouches for"`
}

// Awaited is one thing that stands between an ask and its lease.
type Awaited struct {
	On       string              `json:"on" doc:"people, time, turn, service, other or never"`
	Decision lockkeeper.Decision `json:"decision"`
	Groups   []string            `json:"groups,omitempty" doc:"of an approval: who is asked"`
	Later    []string            `json:"later,omitempty" doc:"who is asked besides after a time"`
	Users    []string            `json:"users,omitempty" doc:"whose votes would count now"`
	More     int                 `json:"more,omitempty" doc:"how many more could vote"`
}
