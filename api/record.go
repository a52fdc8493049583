package api

import "github.com/lockkeeper/lockkeeper"

// ProposeRecord is a version of a design record that somebody wrote. The document stays
// where it is; its name, size and digest are recorded.
type ProposeRecord struct {
	Kind     string            `json:"kind" maxLength:"63" doc:"threat-model, security-design-review, or another that a check asks for"`
	Scope    lockkeeper.Scope  `json:"scope" maxLength:"1000" doc:"a project or an environment"`
	Summary  string            `json:"summary" maxLength:"4000" doc:"what was found and decided"`
	Document string            `json:"document" maxLength:"200" doc:"name of the file"`
	Content  lockkeeper.Digest `json:"content" doc:"SHA-256 digest of the file"`
	Size     int64             `json:"size" minimum:"1" doc:"bytes of the file"`
	Link     string            `json:"link,omitempty" maxLength:"500" doc:"https address at which it can be read; nobody fetches it"`
	Until    lockkeeper.Moment `json:"until" doc:"when it counts no more"`
}

// DesignRecord is one version that waits for approvals or counts.
type DesignRecord struct {
	ID string `json:"id"`
	ProposeRecord
	Author   string            `json:"author"`
	Digest   lockkeeper.Digest `json:"digest" doc:"of all that is approved"`
	Opened   lockkeeper.Moment `json:"opened"`
	Deadline lockkeeper.Moment `json:"deadline" doc:"until when approvals are taken"`
	Status   string            `json:"status" enum:"waiting,approved,ended,timed_out"`
	Votes    []RecordVote      `json:"votes"`
	Checks   []RecordStand     `json:"checks" doc:"that ask for its kind where it counts"`
}

// RecordVote is one person's approval of a record.
type RecordVote struct {
	User    string            `json:"user"`
	At      lockkeeper.Moment `json:"at"`
	Comment string            `json:"comment,omitempty"`
}

// RecordStand is how a record stands with one check.
type RecordStand struct {
	Environment string             `json:"environment"`
	Check       string             `json:"check"`
	Groups      []string           `json:"groups" doc:"of which persons approve it"`
	Needed      int                `json:"needed"`
	Approved    bool               `json:"approved"`
	Ends        *lockkeeper.Moment `json:"ends,omitempty" doc:"when the check takes it no more"`
}

// DesignRecords are those of a project, or of all that the caller may read, oldest first.
type DesignRecords struct {
	Records []DesignRecord `json:"records"`
}

// DecideRecord is a verdict on exactly the record that the caller saw.
type DecideRecord struct {
	Digest  lockkeeper.Digest `json:"digest"`
	Comment string            `json:"comment,omitempty" maxLength:"4000"`
}

// EndRecord takes a record out before its end.
type EndRecord struct {
	Reason string `json:"reason" maxLength:"1000"`
}
