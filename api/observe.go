package api

import "github.com/lockkeeper/lockkeeper"

// Observations is what would have been stopped, had everything been enforced that was
// judged.
type Observations struct {
	Since        lockkeeper.Moment     `json:"since"`
	Environments []ObservedEnvironment `json:"environments"`
	Left         bool                  `json:"left" doc:"there were more deployments than were looked at"`
}

// ObservedEnvironment is what was observed at one environment.
type ObservedEnvironment struct {
	Project     string          `json:"project"`
	Environment string          `json:"environment"`
	Mode        string          `json:"mode" doc:"that it has now: enforce, observe, or gone"`
	Deployments int             `json:"deployments" doc:"that were let through"`
	Stopped     int             `json:"stopped" doc:"of them, those that something not enforced would have stopped"`
	By          []ObservedCheck `json:"by"`
}

// ObservedCheck is one thing that would have stopped deployments.
type ObservedCheck struct {
	Subject  string   `json:"subject"`
	Waits    int      `json:"waits" doc:"deployments that it would have held up"`
	Refuses  int      `json:"refuses" doc:"deployments that it would have refused"`
	Sentence string   `json:"sentence" doc:"what it said of the last of them"`
	Examples []string `json:"examples" doc:"the last of them"`
}
