package api

import "github.com/lockkeeper/lockkeeper"

// Measures say how changes reached the environments in a window. docs/measures.md
// defines each of them. Durations are in seconds.
type Measures struct {
	Since lockkeeper.Moment `json:"since" doc:"belongs to the window"`
	Until lockkeeper.Moment `json:"until" doc:"does not belong to it"`
	From  lockkeeper.Moment `json:"from" doc:"since when the journal knows of the window: its own first entry, if that is later than since"`
	Scope lockkeeper.Scope  `json:"scope"`
	Hasty float64           `json:"hasty" doc:"an approval given within so many seconds of the opening counts as hasty"`

	Environments []MeasuredEnvironment `json:"environments"`
	Exceptions   []MeasuredException   `json:"exceptions" doc:"how often the glass was broken or checks were waived, by scope"`
	Persons      []MeasuredPerson      `json:"persons,omitempty" doc:"only if they were asked for"`
}

// Spread says how durations spread. With count 0 there are none, and the rest is
// absent. A percentile is the nearest rank: one of the durations.
type Spread struct {
	Count int      `json:"count"`
	P50   *float64 `json:"p50,omitempty" doc:"seconds"`
	P90   *float64 `json:"p90,omitempty" doc:"seconds"`
	Max   *float64 `json:"max,omitempty" doc:"seconds"`
}

// MeasuredEnvironment is what was measured of one environment.
type MeasuredEnvironment struct {
	Project string           `json:"project"`
	Name    string           `json:"name"`
	Scope   lockkeeper.Scope `json:"scope"`

	Lead          Spread            `json:"lead" doc:"from the first record of a commit's artifact to its first success here"`
	Successes     int               `json:"successes" doc:"deployments that succeeded, without rollbacks"`
	PerWeek       *float64          `json:"per_week,omitempty" doc:"successes in seven days of the part of the window that the journal knows; absent: that is less than a day"`
	Days          int               `json:"days" doc:"days of UTC on which at least one succeeded"`
	Failures      int               `json:"failures" doc:"deployments that ended otherwise after they were let through, without rollbacks"`
	TakenBack     int               `json:"taken_back" doc:"of the successes, those that a rollback took back within a day"`
	FailureShare  *float64          `json:"failure_share,omitempty" doc:"failures and those taken back, of all that were let through, 0 to 1; absent: none was"`
	Restore       Spread            `json:"restore" doc:"from the first failure to the next success"`
	BrokenSince   lockkeeper.Moment `json:"broken_since,omitzero" doc:"the last deployment had failed at the end of the window, and this is since when; absent: it had not"`
	Rollbacks     int               `json:"rollbacks"`
	RollbacksFail int               `json:"rollbacks_failed"`

	Waiting   Spread         `json:"waiting" doc:"from the opening until it was let through"`
	Abandoned Spread         `json:"abandoned" doc:"from the opening to the end, of asks that were never let through"`
	Ends      map[string]int `json:"ends" doc:"asks by how they ended"`
	Checks    []CheckTime    `json:"checks"`
	Votes     MeasuredVotes  `json:"votes"`
	Prompts   int            `json:"prompts" doc:"times that an approval check began to ask people for a deployment"`
	PerVoter  *float64       `json:"prompts_per_voter,omitempty" doc:"absent: nobody voted"`
	Weeks     []MeasuredWeek `json:"weeks"`
}

// CheckTime is what was measured of one check.
type CheckTime struct {
	Name    string  `json:"name" doc:"of the check; what is no check of the catalog stands in parentheses"`
	Held    Spread  `json:"held" doc:"for how long it held up each ask that it held up at all"`
	Alone   float64 `json:"alone" doc:"seconds of all that in which nothing else held the ask up"`
	Flaps   int     `json:"flaps" doc:"times that it held up an ask that it had let pass before"`
	Prompts int     `json:"prompts"`
}

// MeasuredVotes are people's verdicts on deployments.
type MeasuredVotes struct {
	Approvals  int    `json:"approvals"`
	Rejections int    `json:"rejections"`
	Voters     int    `json:"voters,omitempty" doc:"persons who voted"`
	Hasty      int    `json:"hasty" doc:"approvals given so soon after the opening that nobody can have looked"`
	Decision   Spread `json:"decision" doc:"from the opening to the vote"`
}

// MeasuredWeek is a week of ISO 8601 in UTC.
type MeasuredWeek struct {
	Week      string            `json:"week" doc:"such as 2026-W48"`
	From      lockkeeper.Moment `json:"from"`
	Whole     bool              `json:"whole" doc:"the window has all of it"`
	Successes int               `json:"successes,omitempty"`
	Failures  int               `json:"failures,omitempty"`
	Approvals int               `json:"approvals,omitempty"`
}

// MeasuredException is how often rules were passed over at a scope.
type MeasuredException struct {
	Kind  string           `json:"kind" enum:"break_glass,override"`
	Scope lockkeeper.Scope `json:"scope"`
	Count int              `json:"count"`
}

// MeasuredPerson is how one person voted on deployments and activations.
type MeasuredPerson struct {
	Person  string         `json:"person"`
	Votes   MeasuredVotes  `json:"votes"`
	Access  int            `json:"access" doc:"of the votes, those on activations"`
	PerWeek *float64       `json:"approvals_per_week,omitempty"`
	Weeks   []MeasuredWeek `json:"weeks"`
}
