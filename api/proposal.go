package api

import "github.com/lockkeeper/lockkeeper"

// Proposal is a catalog that would weaken something and waits for a second person,
// or how it ended.
type Proposal struct {
	ID       string              `json:"id"`
	User     string              `json:"user" doc:"who proposed it"`
	Base     int                 `json:"base" doc:"the revision that it was planned against; it dies when another comes in force"`
	Catalog  lockkeeper.Digest   `json:"catalog" doc:"of the whole catalog"`
	Message  string              `json:"message,omitempty"`
	Changes  []Change            `json:"changes"`
	Weakens  []string            `json:"weakens" doc:"why it takes a second person"`
	Digest   lockkeeper.Digest   `json:"digest" doc:"what an approval is for"`
	Opened   lockkeeper.Moment   `json:"opened"`
	Deadline lockkeeper.Moment   `json:"deadline" doc:"until when it may be approved"`
	Verdict  lockkeeper.Decision `json:"verdict" doc:"how it stands or ended"`
	End      *ProposalEnd        `json:"end,omitempty"`
}

// ProposalEnd is how a proposal ended.
type ProposalEnd struct {
	At       lockkeeper.Moment `json:"at"`
	Status   string            `json:"status" enum:"approved,denied,withdrawn,timed_out,overtaken"`
	User     string            `json:"user,omitempty" doc:"who ended it"`
	Reason   string            `json:"reason,omitempty"`
	Revision int               `json:"revision,omitempty" doc:"that it became"`
}

// Proposals are those that wait, oldest first.
type Proposals struct {
	Proposals []Proposal `json:"proposals"`
}

// DenyProposal says why a proposal is not to come in force.
type DenyProposal struct {
	Reason string `json:"reason,omitempty" maxLength:"2000"`
}
