package api

import "github.com/lockkeeper/lockkeeper"

// Holds lists runs that CI platforms hold, or held lately.
type Holds struct {
	Holds []Hold `json:"holds"`
}

// Hold is one run that a platform holds before one of its environments.
type Hold struct {
	ID          string            `json:"id"`
	Provider    string            `json:"provider"`
	Repository  string            `json:"repository" doc:"as the platform's API calls it"`
	Run         string            `json:"run" doc:"empty where the platform holds a job"`
	Job         string            `json:"job,omitempty" doc:"that the platform holds, where it holds jobs"`
	Environment string            `json:"environment" doc:"the platform's name of it"`
	Noted       lockkeeper.Moment `json:"noted"`
	Stands      string            `json:"stands" doc:"in a few words"`
	Deployment  string            `json:"deployment,omitempty" doc:"that it opened"`
	Joined      bool              `json:"joined,omitempty" doc:"the job has come with its own token"`
	Told        string            `json:"told,omitempty" enum:"approved,rejected" doc:"what the platform was told, or must be"`
	Reason      string            `json:"reason,omitempty" doc:"that the platform was told, or must be"`
	Missed      string            `json:"missed,omitempty" doc:"why it was not told yet"`
}
