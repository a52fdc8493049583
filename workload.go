package lockkeeper

// A Mark says how a fact about a workload is known.
type Mark string

// The marks. An absent fact is not an empty one: a rule that needs it refuses.
const (
	Absent   Mark = ""
	Signed   Mark = "signed"    // a claim of the platform's token
	LookedUp Mark = "looked_up" // read from the platform's API
)

// A Fact is one value of a workload's record and how it is known.
type Fact struct {
	Value string `json:"value,omitempty"`
	Mark  Mark   `json:"mark,omitempty"`
}

// SignedFact is a fact that the platform's token states.
func SignedFact(v string) Fact { return Fact{v, Signed} }

// Known reports whether the fact is known at all.
func (f Fact) Known() bool { return f.Mark != Absent }

// Is reports whether the fact is known and equal to v; v may be empty.
func (f Fact) Is(v string) bool { return f.Known() && f.Value == v }

// A Workload is the closed record of a job that a CI platform vouches for,
// normalised from its OIDC token. Rules see only this record, never the token.
// Ids are the platform's immutable ones; names are for people.
type Workload struct {
	Provider string `json:"provider"` // name of the provider in the catalog
	Platform string `json:"platform"` // github, gitlab, azure, kubernetes, oidc
	Issuer   string `json:"issuer"`

	TokenID  Digest `json:"token_id"` // digest of (issuer, jti): what single use hangs on
	Audience string `json:"audience"` // the one audience of the token
	Issued   Moment `json:"issued"`
	Expires  Moment `json:"expires"`

	Organisation     Fact `json:"organisation,omitzero"`      // immutable id
	OrganisationName Fact `json:"organisation_name,omitzero"` //
	Project          Fact `json:"project,omitzero"`           // immutable id of the platform's project, where it has such
	ProjectName      Fact `json:"project_name,omitzero"`      //
	Repository       Fact `json:"repository,omitzero"`        // immutable id
	RepositoryName   Fact `json:"repository_name,omitzero"`   //
	Pipeline         Fact `json:"pipeline,omitzero"`          // immutable id of the pipeline's definition, where it has one
	PipelineName     Fact `json:"pipeline_name,omitzero"`     //
	Run              Fact `json:"run,omitzero"`               // immutable id of the run
	Attempt          int  `json:"attempt"`                    // 1 for the first; 0 if the platform does not say
	Stage            Fact `json:"stage,omitzero"`             // the platform's stage that the job is of
	Job              Fact `json:"job,omitzero"`               // id of this job in this attempt
	Event            Fact `json:"event,omitzero"`             // push, workflow_dispatch, …
	Ref              Fact `json:"ref,omitzero"`               // refs/heads/main
	RefType          Fact `json:"ref_type,omitzero"`          // branch or tag
	RefProtected     Fact `json:"ref_protected,omitzero"`     // true or false
	Commit           Fact `json:"commit,omitzero"`
	Environment      Fact `json:"environment,omitzero"` // the platform's own environment that the job names
	// EnvironmentProtected says that the platform's environment is protected: true or false.
	EnvironmentProtected Fact `json:"environment_protected,omitzero"`

	Runner           Fact `json:"runner,omitzero"` // hosted or self_hosted
	DefinitionPath   Fact `json:"definition_path,omitzero"`
	DefinitionRef    Fact `json:"definition_ref,omitzero"`
	DefinitionCommit Fact `json:"definition_commit,omitzero"`
	CalledPath       Fact `json:"called_path,omitzero"` // reusable definition that the job runs in, if it differs
	CalledRef        Fact `json:"called_ref,omitzero"`
	CalledCommit     Fact `json:"called_commit,omitzero"`
	Actor            Fact `json:"actor,omitzero"`       // immutable id of the account that started the run
	ActorName        Fact `json:"actor_name,omitzero"`  //
	RerunActor       Fact `json:"rerun_actor,omitzero"` // id of the account that re-ran it; many platforms do not say
	QueuedBy         Fact `json:"queued_by,omitzero"`   // id of the account that queued the run for Actor, where the platform tells them apart

	// Kubernetes: the pod that the token is bound to.
	Namespace          Fact `json:"namespace,omitzero"`
	ServiceAccount     Fact `json:"service_account,omitzero"` // uid
	ServiceAccountName Fact `json:"service_account_name,omitzero"`
	Pod                Fact `json:"pod,omitzero"` // uid

	Connection Fact `json:"connection,omitzero"` // Azure DevOps: immutable id of the service connection
	Subject    Fact `json:"subject,omitzero"`    // sub, of issuers that say nothing else
}

// A NamedFact is a fact with its name in the record's JSON.
type NamedFact struct {
	Name string
	Fact Fact
}

// Facts lists the facts of the record in their order, known or not.
func (w Workload) Facts() []NamedFact {
	return []NamedFact{{"organisation", w.Organisation}, {"organisation_name", w.OrganisationName}, {"project", w.Project}, {"project_name", w.ProjectName},
		{"repository", w.Repository}, {"repository_name", w.RepositoryName}, {"pipeline", w.Pipeline}, {"pipeline_name", w.PipelineName},
		{"run", w.Run}, {"stage", w.Stage}, {"job", w.Job},
		{"event", w.Event}, {"ref", w.Ref}, {"ref_type", w.RefType}, {"ref_protected", w.RefProtected}, {"commit", w.Commit},
		{"environment", w.Environment}, {"environment_protected", w.EnvironmentProtected}, {"runner", w.Runner},
		{"definition_path", w.DefinitionPath}, {"definition_ref", w.DefinitionRef}, {"definition_commit", w.DefinitionCommit},
		{"called_path", w.CalledPath}, {"called_ref", w.CalledRef}, {"called_commit", w.CalledCommit},
		{"actor", w.Actor}, {"actor_name", w.ActorName}, {"rerun_actor", w.RerunActor}, {"queued_by", w.QueuedBy},
		{"namespace", w.Namespace}, {"service_account", w.ServiceAccount}, {"service_account_name", w.ServiceAccountName}, {"pod", w.Pod},
		{"connection", w.Connection}, {"subject", w.Subject}}
}

// JobKey names the job for good: issuer, run, attempt and job. Two tokens with
// the same key come from the same job.
func (w Workload) JobKey() Digest {
	return digestFields("lockkeeper.job.v1", w.Issuer, w.Run.Value, itoa(w.Attempt), w.Job.Value)
}

// TokenIDOf is the digest that single use of a token hangs on, from what was
// decoded and never from the token's spelling.
func TokenIDOf(issuer, jti string) Digest {
	return digestFields("lockkeeper.token.v1", issuer, jti)
}
