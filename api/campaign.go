package api

import "github.com/lockkeeper/lockkeeper"

// OpenCampaign asks reviewers about the assignments at a scope and below.
type OpenCampaign struct {
	Title     string            `json:"title,omitempty" maxLength:"200"`
	Scope     lockkeeper.Scope  `json:"scope"`
	Reviewers []string          `json:"reviewers" minItems:"1" maxItems:"20" doc:"groups whose members decide"`
	Until     lockkeeper.Moment `json:"until" doc:"what is not to stay goes then"`
	Undecided string            `json:"undecided" enum:"keep,remove" doc:"what becomes of what nobody decides"`
}

// Campaign is a review of assignments, and how it stands or ended.
type Campaign struct {
	ID        string            `json:"id"`
	Title     string            `json:"title,omitempty"`
	Scope     lockkeeper.Scope  `json:"scope"`
	Reviewers []string          `json:"reviewers"`
	OpenedBy  string            `json:"opened_by"`
	Opened    lockkeeper.Moment `json:"opened"`
	Deadline  lockkeeper.Moment `json:"deadline"`
	Undecided string            `json:"undecided"`
	Revision  int               `json:"revision" doc:"of the catalog that it looks at"`
	Denies    int               `json:"denies" doc:"that lie there and are not reviewed: to remove one gives rights"`
	Items     []CampaignItem    `json:"items"`
	End       *CampaignEnd      `json:"end,omitempty"`
}

// CampaignItem is one assignment under review.
type CampaignItem struct {
	Assignment string            `json:"assignment"`
	Digest     lockkeeper.Digest `json:"digest" doc:"of its document; another one is not removed"`
	Role       string            `json:"role"`
	Principal  string            `json:"principal"`
	Scope      lockkeeper.Scope  `json:"scope"`
	Eligible   bool              `json:"eligible"`
	Last       lockkeeper.Moment `json:"last,omitzero" doc:"when something that it gives was last used, reading aside; absent: never, as far as is known"`
	Count      int               `json:"count" doc:"how often, as far as is known"`
	Verdict    string            `json:"verdict,omitempty" enum:"keep,remove" doc:"absent: nobody has decided"`
	User       string            `json:"user,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	At         lockkeeper.Moment `json:"at,omitzero"`
	Removed    bool              `json:"removed" doc:"it goes, as it stands, or went"`
	Why        string            `json:"why" doc:"decided, undecided, reviewer_gone, own_assignment, changed, gone, last_administrator, second_person, discarded"`
	Alone      bool              `json:"alone" doc:"no reviewer may decide it: it gives something to all of them"`
}

// CampaignEnd is how a campaign ended.
type CampaignEnd struct {
	At       lockkeeper.Moment `json:"at"`
	Status   string            `json:"status" enum:"applied,discarded"`
	User     string            `json:"user,omitempty" doc:"who discarded it"`
	Reason   string            `json:"reason,omitempty"`
	Revision int               `json:"revision" doc:"of the catalog after it"`
}

// Campaigns is a list of campaigns.
type Campaigns struct {
	Campaigns []Campaign `json:"campaigns"`
}

// DecideCampaign is a reviewer's verdict on some of the assignments.
type DecideCampaign struct {
	Keep   []string `json:"keep,omitempty" maxItems:"500"`
	Remove []string `json:"remove,omitempty" maxItems:"500"`
	Reason string   `json:"reason,omitempty" maxLength:"1000"`
}

// CloseCampaign ends the time of a campaign, or throws it away.
type CloseCampaign struct {
	Discard bool   `json:"discard,omitempty" doc:"nothing of it is done"`
	Reason  string `json:"reason,omitempty" maxLength:"1000"`
}
