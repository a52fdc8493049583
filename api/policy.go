package api

import (
	"encoding/json"

	"github.com/lockkeeper/lockkeeper"
)

// PolicyInputs are what the policies of a waiting deployment see now.
type PolicyInputs struct {
	Inputs []PolicyInput `json:"inputs"`
}

// PolicyInput is what one policy sees.
type PolicyInput struct {
	Check  string            `json:"check"`
	Policy string            `json:"policy" doc:"its name in the catalog"`
	Digest lockkeeper.Digest `json:"digest" doc:"of the policy's document"`
	Facts  lockkeeper.Digest `json:"facts" doc:"what a ruling is bound to"`
	Input  json.RawMessage   `json:"input" doc:"as docs/policies.md describes it"`
}
