package api

import "github.com/lockkeeper/lockkeeper"

// Recommendations are what could be made smaller without taking what was used.
type Recommendations struct {
	At       lockkeeper.Moment `json:"at"`
	Revision int               `json:"revision" doc:"of the catalog that they are about"`
	From     lockkeeper.Moment `json:"from" doc:"where the window of use starts"`
	Observed lockkeeper.Moment `json:"observed,omitzero" doc:"since when all uses are known; absent: none was recorded yet. Before it nothing is said about use"`

	Recommendations []Recommendation `json:"recommendations"`
	Skipped         int              `json:"skipped" doc:"candidates that were not looked at; ask again once some are followed"`
}

// Recommendation makes rights smaller: none that was used in the window goes.
type Recommendation struct {
	Kind       string              `json:"kind" enum:"ended,redundant,never_activated,standing,unused_actions"`
	Role       string              `json:"role"`
	Principal  string              `json:"principal,omitempty"`
	Scope      lockkeeper.Scope    `json:"scope"`
	Sentence   string              `json:"sentence"`
	Next       string              `json:"next,omitempty" doc:"what must be there before"`
	Actions    []lockkeeper.Action `json:"actions" doc:"that go; of a standing assignment, that take an activation then"`
	Unobserved []lockkeeper.Action `json:"unobserved" doc:"actions among them whose use leaves no entry, so that nobody knows whether they are used"`
	Evidence   Evidence            `json:"evidence"`
	Edit       *Edit               `json:"edit,omitempty" doc:"of one document; absent: something must be there before"`
}

// Evidence is what a recommendation rests on.
type Evidence struct {
	Since   lockkeeper.Moment `json:"since"`
	Days    int               `json:"days" doc:"on which it was used since"`
	Count   int               `json:"count" doc:"how often it was used ever, as far as is known"`
	Last    lockkeeper.Moment `json:"last,omitzero" doc:"absent: never, as far as is known"`
	Entries []int64           `json:"entries" doc:"of the journal, about the last uses"`
	By      []string          `json:"by" doc:"assignments that give the same"`
}

// Edit makes one document of the catalog smaller.
type Edit struct {
	Kind     string                     `json:"kind"`
	Name     string                     `json:"name"`
	Was      lockkeeper.Digest          `json:"was" doc:"of the document that it is about"`
	Remove   bool                       `json:"remove,omitempty"`
	Eligible bool                       `json:"eligible,omitempty" doc:"the assignment becomes eligible"`
	Actions  []lockkeeper.ActionPattern `json:"actions,omitempty" doc:"what the role's actions become"`
}

// Alerts are what somebody should look at.
type Alerts struct {
	Alerts []Alert `json:"alerts"`
}

// Alert is something about who may do what.
type Alert struct {
	Kind     string   `json:"kind"`
	Severity string   `json:"severity" enum:"high,medium,low"`
	Subject  string   `json:"subject"`
	Sentence string   `json:"sentence"`
	Next     string   `json:"next"`
	Evidence []string `json:"evidence"`
}

// Confirmed are the accounts that a person has confirmed to be his.
type Confirmed struct {
	Links []string `json:"links" doc:"id PROVIDER ID, or sign-in DIRECTORY SUBJECT"`
}
