package keeper

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/gate"
)

// eventKinds makes an empty body for every kind and version ever written. A
// meaning is never changed in place: a new version is added.
var eventKinds = map[string]func() event{
	"journal.started/1":    func() event { return new(journalStarted) },
	"running.reported/1":   func() event { return new(runningReported) },
	"state.recorded/1":     func() event { return new(stateRecorded) },
	"epoch.opened/1":       func() event { return new(epochOpened) },
	"epoch.confirmed/1":    func() event { return new(epochConfirmed) },
	"key.begun/1":          func() event { return new(keyBegun) },
	"key.rotated/1":        func() event { return new(keyRotated) },
	"token.revoked/1":      func() event { return new(tokenRevoked) },
	"token.issued/1":       func() event { return new(tokenIssued) },
	"token.recalled/1":     func() event { return new(tokenRecalled) },
	"setup.code_made/1":    func() event { return new(setupCodeMade) },
	"setup.completed/1":    func() event { return new(setupCompleted) },
	"catalog.applied/1":    func() event { return new(catalogApplied) },
	"account.invited/1":    func() event { return new(accountInvited) },
	"account.enrolled/1":   func() event { return new(accountEnrolled) },
	"account.challenged/1": func() event { return new(accountChallenged) },
	"account.proven/1":     func() event { return new(accountProven) },
	"session.started/1":    func() event { return new(sessionStarted) },
	"session.ended/1":      func() event { return new(sessionEnded) },
	"session.used/1":       func() event { return new(sessionUsed) },
	"member.said/1":        func() event { return new(memberSaid) },

	"directory.token_made/1":  func() event { return new(tokenMade) },
	"directory.token_ended/1": func() event { return new(tokenEnded) },
	"member.provisioned/1":    func() event { return new(memberProvisioned) },
	"group.provisioned/1":     func() event { return new(groupProvisioned) },
	"votes.taken/1":           func() event { return new(votesTaken) },

	"artifact.recorded/1":   func() event { return new(artifactRecorded) },
	"evidence.added/1":      func() event { return new(evidenceAdded) },
	"deployment.opened/1":   func() event { return new(deploymentOpened) },
	"deployment.approved/1": func() event { return new(deploymentApproved) },
	"request.opened/1":      func() event { return new(requestOpened) },
	"request.approved/1":    func() event { return new(requestApproved) },
	"request.closed/1":      func() event { return new(requestClosed) },
	"request.trimmed/1":     func() event { return new(requestTrimmed) },
	"activation.extended/1": func() event { return new(activationExtended) },
	"activation.begun/1":    func() event { return new(activationBegun) },
	"activation.ended/1":    func() event { return new(activationEnded) },
	"votes.voided/1":        func() event { return new(votesVoided) },

	"duty.taken/1":        func() event { return new(dutyTaken) },
	"duty.tried/1":        func() event { return new(dutyTried) },
	"duty.granted/1":      func() event { return new(dutyGranted) },
	"duty.failed/1":       func() event { return new(dutyFailed) },
	"duty.revoked/1":      func() event { return new(dutyRevoked) },
	"duty.due/1":          func() event { return new(dutyDue) },
	"duty.ended/1":        func() event { return new(dutyEnded) },
	"duty.attested/1":     func() event { return new(dutyAttested) },
	"credential.handed/1": func() event { return new(credentialHanded) },

	"duty.reopened/1": func() event { return new(dutyReopened) },
	"drift.found/1":   func() event { return new(driftFound) },

	"approval.recalled/1":  func() event { return new(approvalRecalled) },
	"approval.withdrawn/1": func() event { return new(approvalWithdrawn) },
	"approval.delegated/1": func() event { return new(approvalDelegated) },
	"lease.granted/1":      func() event { return new(leaseGranted) },
	"lease.renewed/1":      func() event { return new(leaseRenewed) },
	"token.granted/1":      func() event { return new(tokenGranted) },
	"deployment.ended/1":   func() event { return new(deploymentEnded) },
	"refusal.made/1":       func() event { return new(refusalMade) },
	"incident.opened/1":    func() event { return new(incidentOpened) },
	"incident.extended/1":  func() event { return new(incidentExtended) },
	"incident.closed/1":    func() event { return new(incidentClosed) },
	"approvals.voided/1":   func() event { return new(approvalsVoided) },
	"notice.made/1":        func() event { return new(noticeMade) },
	"notice.seen/1":        func() event { return new(noticeSeen) },
	"review.opened/1":      func() event { return new(reviewOpened) },
	"review.judged/1":      func() event { return new(reviewJudged) },
	"review.closed/1":      func() event { return new(reviewClosed) },
	"recovery.made/1":      func() event { return new(recoveryMade) },
	"recovery.collected/1": func() event { return new(recoveryCollected) },
	"recovery.used/1":      func() event { return new(recoveryUsed) },

	"hold.noted/1":    func() event { return new(holdNoted) },
	"hold.opened/1":   func() event { return new(holdOpened) },
	"hold.refused/1":  func() event { return new(holdRefused) },
	"hold.released/1": func() event { return new(holdReleased) },
	"hold.missed/1":   func() event { return new(holdTellingMissed) },
	"hold.answered/1": func() event { return new(holdAnswered) },
	"lease.joined/1":  func() event { return new(leaseJoined) },

	"record.proposed/1": func() event { return new(recordProposed) },
	"record.approved/1": func() event { return new(recordApproved) },
	"record.closed/1":   func() event { return new(recordClosed) },

	"strike.made/1":   func() event { return new(strikeMade) },
	"strike.lifted/1": func() event { return new(strikeLifted) },

	"freeze.started/1":     func() event { return new(freezeStarted) },
	"freeze.ended/1":       func() event { return new(freezeEnded) },
	"override.requested/1": func() event { return new(overrideRequested) },
	"override.approved/1":  func() event { return new(overrideApproved) },
	"override.granted/1":   func() event { return new(overrideGranted) },
	"override.closed/1":    func() event { return new(overrideClosed) },

	"messages.queued/1": func() event { return new(messagesQueued) },
	"messages.told/1":   func() event { return new(messagesTold) },

	"catalog.proposed/1":        func() event { return new(catalogProposed) },
	"catalog.proposal_closed/1": func() event { return new(proposalClosed) },
	"factor.registered/1":       func() event { return new(factorRegistered) },
	"factor.used/1":             func() event { return new(factorUsed) },
	"factor.removed/1":          func() event { return new(factorRemoved) },
	"factors.reset/1":           func() event { return new(factorsReset) },
	"session.stepped_up/1":      func() event { return new(sessionSteppedUp) },

	"personal_token.made/1":  func() event { return new(personalMade) },
	"personal_token.ended/1": func() event { return new(personalEnded) },
	"personal_token.used/1":  func() event { return new(personalUsed) },
	"links.confirmed/1":      func() event { return new(linksConfirmed) },
	"campaign.opened/1":      func() event { return new(campaignOpened) },
	"campaign.decided/1":     func() event { return new(campaignDecided) },
	"campaign.closed/1":      func() event { return new(campaignClosed) },
	"campaign.ended/1":       func() event { return new(campaignEnded) },

	"question.asked/1":    func() event { return new(questionAsked) },
	"question.missed/1":   func() event { return new(questionMissed) },
	"question.answered/1": func() event { return new(questionAnswered) },
	"gate.moved/1":        func() event { return new(gateMoved) },
	"question.sampled/1":  func() event { return new(questionSampled) },
	"policy.judged/1":     func() event { return new(policyJudged) },
}

// one gives every event the version 1 until it has another.
type one struct{}

func (one) version() int       { return 1 }
func (one) subjects() []string { return nil }

// journalStarted is entry 0.
type journalStarted struct {
	one
	Log Log `json:"log"`
}

func (*journalStarted) kind() string { return "journal.started" }
func (ev *journalStarted) apply(s *State, e Entry) error {
	if e.Seq != 0 {
		return fmt.Errorf("a journal starts only once")
	}
	s.Log = ev.Log
	return nil
}

// setupCodeMade replaces the one-time code of the first administrator.
type setupCodeMade struct {
	one
	Code lockkeeper.Digest `json:"code"`
}

func (*setupCodeMade) kind() string { return "setup.code_made" }
func (ev *setupCodeMade) apply(s *State, _ Entry) error {
	s.Setup.Code = ev.Code
	return nil
}

// setupCompleted makes the first administrator's account.
type setupCompleted struct {
	one
	User       string `json:"user"`
	Credential string `json:"credential"`
}

func (*setupCompleted) kind() string          { return "setup.completed" }
func (ev *setupCompleted) subjects() []string { return []string{"user/" + ev.User} }
func (ev *setupCompleted) apply(s *State, e Entry) error {
	s.Setup = Setup{Done: true}
	s.Accounts[ev.User] = &Account{User: ev.User, Credential: ev.Credential, Proven: true, Since: e.Time}
	return nil
}

// catalogApplied puts a catalog in force.
type catalogApplied struct {
	one
	Number    int                 `json:"number"`
	Digest    lockkeeper.Digest   `json:"digest"`
	Documents []lockkeeper.Digest `json:"documents"`
	Changes   []ChangedDocument   `json:"changes,omitempty"`
	Message   string              `json:"message,omitempty"`
	Second    *Second             `json:"second,omitempty"`   // where it weakens; none: it does not, or an earlier release applied it
	Campaign  string              `json:"campaign,omitempty"` // whose outcome it is
	Linked    map[string]Link     `json:"linked,omitempty"`   // accounts that were linked to persons who have not confirmed them
	Unlinked  []string            `json:"unlinked,omitempty"` // and such that are theirs no more
	WaysIn    []string            `json:"ways_in,omitempty"`  // users as whom another account of a directory signs in
	Altered   *Altered            `json:"altered,omitempty"`  // gates that ask something else, or of others
}

// A ChangedDocument is one difference between two revisions of the catalog.
type ChangedDocument struct {
	Kind    catalog.Kind `json:"kind"`
	Project string       `json:"project,omitempty"`
	Name    string       `json:"name"`
	Verb    string       `json:"verb"` // added, changed, removed
}

func (*catalogApplied) kind() string { return "catalog.applied" }
func (ev *catalogApplied) subjects() []string {
	if ev.Second != nil && ev.Second.Proposal != "" {
		return []string{"catalog", proposalSubject(ev.Second.Proposal), "proposals", "user/" + ev.Second.Proposer, "user/" + ev.Second.Approver}
	}
	return []string{"catalog"}
}
func (ev *catalogApplied) apply(s *State, e Entry) error {
	if ev.Number != s.Revision.Number+1 {
		return fmt.Errorf("revision %d does not follow %d", ev.Number, s.Revision.Number)
	}
	if ev.Second != nil {
		delete(s.Proposals, ev.Second.Proposal)
	}
	s.Revision = Revision{Number: ev.Number, Digest: ev.Digest, Documents: ev.Documents, Seq: e.Seq}
	if two := ev.Second; two != nil && two.Activation != "" { // whoever gained by broken glass reviews it not
		s.partTaken([]Vote{{Activation: two.Activation, Persons: two.Persons}}, two.Behind, lockkeeper.Moment{})
	}
	for _, user := range ev.WaysIn {
		s.noteWayIn(user, e.Time)
	}
	s.rememberAltered(ev.Altered, e.Time)
	for _, key := range ev.Unlinked {
		delete(s.Links, key)
	}
	for key, l := range ev.Linked {
		l.At = e.Time
		s.Links[key] = l
	}
	return nil
}

// accountInvited gives a user a one-time code to choose a password with.
type accountInvited struct {
	one
	User    string              `json:"user"`
	Code    lockkeeper.Digest   `json:"code"`
	By      string              `json:"invited_by"`
	Behind  []lockkeeper.Person `json:"behind,omitempty"`
	Expires lockkeeper.Moment   `json:"expires"`
}

func (*accountInvited) kind() string          { return "account.invited" }
func (ev *accountInvited) subjects() []string { return []string{"user/" + ev.User} }
func (ev *accountInvited) apply(s *State, _ Entry) error {
	a := s.Accounts[ev.User]
	if a == nil {
		a = &Account{User: ev.User}
		s.Accounts[ev.User] = a
	}
	a.Invitation = &Invitation{Code: ev.Code, By: ev.By, Expires: ev.Expires, Behind: ev.Behind}
	return nil
}

// accountEnrolled gives the account a password. Until its owner proves himself
// the account counts as whoever made the invitation.
type accountEnrolled struct {
	one
	User       string              `json:"user"`
	Credential string              `json:"credential"`
	Maker      string              `json:"maker"`
	Behind     []lockkeeper.Person `json:"behind,omitempty"`
}

func (*accountEnrolled) kind() string          { return "account.enrolled" }
func (ev *accountEnrolled) subjects() []string { return []string{"user/" + ev.User} }
func (ev *accountEnrolled) apply(s *State, e Entry) error {
	once := s.Accounts[ev.User] != nil && (s.Accounts[ev.User].Proven || s.Accounts[ev.User].Once)
	first := ev.Maker
	if old := s.Accounts[ev.User]; old != nil && old.Credential != "" {
		first = old.First
	}
	s.Accounts[ev.User] = &Account{User: ev.User, Credential: ev.Credential, Maker: ev.Maker, Since: e.Time, Behind: ev.Behind, Once: once, First: first}
	for id, session := range s.Sessions {
		if session.User == ev.User {
			delete(s.Sessions, id) // a new password ends what the old one opened
		}
	}
	s.endPersonalTokens(ev.User)
	return nil
}

// accountChallenged asks the owner to prove himself.
type accountChallenged struct {
	one
	User      string            `json:"user"`
	Challenge string            `json:"challenge"`
	Expires   lockkeeper.Moment `json:"expires"`
}

func (*accountChallenged) kind() string          { return "account.challenged" }
func (ev *accountChallenged) subjects() []string { return []string{"user/" + ev.User} }
func (ev *accountChallenged) apply(s *State, _ Entry) error {
	a := s.Accounts[ev.User]
	if a == nil {
		return fmt.Errorf("there is no account %s", ev.User)
	}
	a.Challenge = &Challenge{Value: ev.Challenge, Expires: ev.Expires}
	return nil
}

// accountProven says that the owner started a run that carried the challenge.
type accountProven struct {
	one
	User    string            `json:"user"`
	Token   lockkeeper.Digest `json:"token"`
	Expires lockkeeper.Moment `json:"token_expires"`
	Job     lockkeeper.Digest `json:"job"`
}

func (*accountProven) kind() string          { return "account.proven" }
func (ev *accountProven) subjects() []string { return []string{"user/" + ev.User} }
func (ev *accountProven) apply(s *State, e Entry) error {
	a := s.Accounts[ev.User]
	if a == nil {
		return fmt.Errorf("there is no account %s", ev.User)
	}
	a.Proven, a.Challenge, a.Makers = true, nil, nil
	s.bindToken(ev.Token, TokenUse{For: "proof", Job: ev.Job, Expires: ev.Expires.Add(tokenGrace)}, e.Time)
	return nil
}

// sessionStarted is a person's sign-in.
type sessionStarted struct {
	one
	Session Session `json:"session"`
}

func (*sessionStarted) kind() string          { return "session.started" }
func (ev *sessionStarted) subjects() []string { return []string{"user/" + ev.Session.User} }
func (ev *sessionStarted) apply(s *State, e Entry) error {
	var oldest *Session
	n := 0
	for id, other := range s.Sessions {
		if !e.Time.Before(other.Expires) {
			delete(s.Sessions, id)
			continue
		}
		if other.User != ev.Session.User {
			continue
		}
		n++
		if oldest == nil || other.Started.Before(oldest.Started) || other.Started == oldest.Started && other.ID < oldest.ID {
			oldest = other
		}
	}
	if n >= maxSessions {
		delete(s.Sessions, oldest.ID)
	}
	session := ev.Session
	s.Sessions[session.ID] = &session
	s.noteSignIn(session.User, e.Time)
	return nil
}

// sessionEnded is a sign-out.
type sessionEnded struct {
	one
	ID      string `json:"id"`
	User    string `json:"user"`
	EndedBy string `json:"ended_by,omitempty"` // "": himself
}

func (*sessionEnded) kind() string          { return "session.ended" }
func (ev *sessionEnded) subjects() []string { return []string{"user/" + ev.User} }
func (ev *sessionEnded) apply(s *State, _ Entry) error {
	delete(s.Sessions, ev.ID)
	return nil
}

// artifactRecorded says that a stage vouched for digests.
type artifactRecorded struct {
	one
	Project      string                `json:"project"`
	Pipeline     string                `json:"pipeline"`
	Stage        string                `json:"stage"`
	Repository   string                `json:"repository"`
	Commit       string                `json:"commit"`
	Run          string                `json:"run"`
	Artifacts    []lockkeeper.Artifact `json:"artifacts"`
	Token        lockkeeper.Digest     `json:"token"`
	TokenExpires lockkeeper.Moment     `json:"token_expires"`
	Job          lockkeeper.Digest     `json:"job"`
	Initiator    Origin                `json:"initiator,omitzero"` // who started the run
	Others       []Origin              `json:"others,omitempty"`   // who stands behind it besides
	Revision     int                   `json:"revision"`
}

func (*artifactRecorded) kind() string { return "artifact.recorded" }
func (ev *artifactRecorded) subjects() []string {
	out := []string{"project/" + ev.Project}
	for _, a := range ev.Artifacts {
		out = append(out, "artifact/"+string(a.Digest))
	}
	return out
}
func (ev *artifactRecorded) apply(s *State, e Entry) error {
	persons := ev.Initiator.Persons
	var others []string
	for _, o := range ev.Others {
		others, persons = append(others, o.Account), slices.Concat(persons, o.Persons)
	}
	for _, a := range ev.Artifacts {
		s.addRecord(ev.Project, gate.Record{Artifact: a, Pipeline: ev.Pipeline, Stage: ev.Stage,
			Repository: ev.Repository, Commit: ev.Commit, Run: ev.Run, At: e.Time,
			Provider: ev.Initiator.Provider, Account: ev.Initiator.Account, Persons: persons, Others: others})
	}
	s.bindToken(ev.Token, TokenUse{For: "artifacts", Job: ev.Job, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return nil
}

// deploymentOpened is an ask that may wait at the gate.
type deploymentOpened struct {
	one
	ID           string               `json:"id"`
	Ask          lockkeeper.Ask       `json:"ask"`
	Digest       lockkeeper.Digest    `json:"digest"`
	Deadline     lockkeeper.Moment    `json:"deadline"`
	Handle       lockkeeper.Digest    `json:"handle"`
	Job          lockkeeper.Digest    `json:"job"`
	Token        lockkeeper.Digest    `json:"token"`
	TokenExpires lockkeeper.Moment    `json:"token_expires"`
	Initiators   []Origin             `json:"initiators"`
	Gate         lockkeeper.Decision  `json:"gate"`                 // how the gate stood at the opening
	Terms        []catalog.Check      `json:"terms,omitempty"`      // what the environment demanded then, of what can still change
	Apart        []catalog.Separation `json:"apart,omitempty"`      // the separations of use that held then
	RecordAge    time.Duration        `json:"record_age,omitempty"` // how old a record might be then, in nanoseconds
	Production   bool                 `json:"production,omitempty"` // the environment was one of production then
	Activation   string               `json:"activation,omitempty"` // role that the environment demanded of the job then
	Observed     bool                 `json:"observed,omitempty"`   // the environment only observed then
	Override     *catalog.Override    `json:"override,omitempty"`   // what it took to override it then
	Revision     int                  `json:"revision"`
}

func (*deploymentOpened) kind() string { return "deployment.opened" }
func (ev *deploymentOpened) subjects() []string {
	return []string{deploymentSubject(ev.ID), "deployments", "deployments/" + ev.Ask.Project, "deployments/" + ev.Ask.Project + "/" + ev.Ask.Environment}
}
func (ev *deploymentOpened) apply(s *State, e Entry) error {
	if s.Deployments[ev.ID] != nil {
		return fmt.Errorf("the deployment %s is open already", ev.ID)
	}
	s.Deployments[ev.ID] = ev.deployment(e)
	s.bindToken(ev.Token, TokenUse{For: deploymentSubject(ev.ID), Job: ev.Job, Handle: ev.Handle, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return nil
}

func (ev *deploymentOpened) deployment(e Entry) *Deployment {
	return &Deployment{ID: ev.ID, Status: Waiting, Ask: ev.Ask, Digest: ev.Digest, Opened: e.Time, OpenedSeq: e.Seq,
		Deadline: ev.Deadline, Requester: ev.Job, Handle: ev.Handle, Initiators: ev.Initiators, Terms: ev.Terms, Apart: ev.Apart, RecordAge: ev.RecordAge, Production: ev.Production, Activation: ev.Activation,
		Held: heldAt(ev.Gate), Observed: ev.Observed, Override: ev.Override}
}

// deploymentApproved is one person's approval. A rejection ends the deployment
// and is a deploymentEnded.
type deploymentApproved struct {
	one
	ID      string              `json:"id"`
	User    string              `json:"user"`
	Digest  lockkeeper.Digest   `json:"digest"`
	Comment string              `json:"comment,omitempty"`
	Persons []lockkeeper.Person `json:"persons"`
	Right   lockkeeper.Decision `json:"right"`
	// Activation is what the voter's right rested on, and Role what that is of.
	Activation string `json:"activation,omitempty"`
	Role       string `json:"role,omitempty"`
	BreakGlass string `json:"break_glass,omitempty"` // review of the activation, if nobody approved that
	Revision   int    `json:"revision"`
	// Through are the persons who had approved that activation.
	Through []lockkeeper.Person `json:"through,omitempty"`

	SignedIn lockkeeper.Moment `json:"signed_in,omitzero"` // when the voter last showed a credential
	Strong   bool              `json:"strong,omitempty"`   // with more than a password

	Answers []ReviewAnswer `json:"answers,omitempty"` // to the checklist of a security review
}

func (*deploymentApproved) kind() string { return "deployment.approved" }
func (ev *deploymentApproved) subjects() []string {
	return []string{deploymentSubject(ev.ID), "user/" + ev.User}
}
func (ev *deploymentApproved) apply(s *State, e Entry) error {
	return s.onDeployment(ev.ID, func(d *Deployment) { ev.on(d, e) })
}
func (ev *deploymentApproved) on(d *Deployment, e Entry) {
	d.Votes = append(d.Votes, Vote{User: ev.User, Approve: true, Digest: ev.Digest, Comment: ev.Comment,
		Persons: ev.Persons, At: e.Time, Seq: e.Seq, Right: ev.Right, Activation: ev.Activation, Role: ev.Role, BreakGlass: ev.BreakGlass, Through: ev.Through,
		SignedIn: ev.SignedIn, Strong: ev.Strong, Answers: ev.Answers})
}

// approvalDelegated hands a person's place over to another one, for one ask.
type approvalDelegated struct {
	one
	ID       string              `json:"id"`
	From     string              `json:"from"`
	To       string              `json:"to"`
	Comment  string              `json:"comment,omitempty"`
	Right    lockkeeper.Decision `json:"right"` // of the one who hands over
	Revision int                 `json:"revision"`
}

func (*approvalDelegated) kind() string { return "approval.delegated" }
func (ev *approvalDelegated) subjects() []string {
	return []string{deploymentSubject(ev.ID), "user/" + ev.From, "user/" + ev.To}
}
func (ev *approvalDelegated) apply(s *State, e Entry) error {
	return s.onDeployment(ev.ID, func(d *Deployment) { ev.on(d, e) })
}
func (ev *approvalDelegated) on(d *Deployment, e Entry) {
	d.Delegated = slices.DeleteFunc(d.Delegated, func(o Delegation) bool { return o.From == ev.From })
	d.Delegated = append(d.Delegated, Delegation{From: ev.From, To: ev.To, Comment: ev.Comment, At: e.Time})
}

// leaseGranted is the re-verification, the release and the grant, in one.
type leaseGranted struct {
	one
	Deployment   string              `json:"deployment"`
	Lease        string              `json:"lease"`
	Digest       lockkeeper.Digest   `json:"digest"` // of the ask
	Job          lockkeeper.Digest   `json:"job"`
	Handle       lockkeeper.Digest   `json:"handle"`
	Identity     string              `json:"identity"`
	Subject      string              `json:"subject"`
	Ends         lockkeeper.Moment   `json:"ends"`
	Limit        lockkeeper.Moment   `json:"limit,omitzero"`
	Beat         time.Duration       `json:"beat,omitempty"` // nanoseconds
	Token        lockkeeper.Digest   `json:"token"`
	TokenExpires lockkeeper.Moment   `json:"token_expires"`
	Gate         lockkeeper.Decision `json:"gate"`
	Revision     int                 `json:"revision"`

	Artifacts []lockkeeper.Digest `json:"artifacts,omitempty"` // of the ask
	Catalog   lockkeeper.Digest   `json:"catalog,omitempty"`   // of the revision
	Evidence  []RestedOn          `json:"evidence,omitempty"`  // that the gate's checks rested on; at most maxRestedOn

	Carried []Vote  `json:"carried,omitempty"` // votes on earlier deployments that count for this one
	Once    *Shared `json:"once,omitempty"`    // what of its votes counts for later ones
}

func (*leaseGranted) kind() string { return "lease.granted" }
func (ev *leaseGranted) subjects() []string {
	out := []string{deploymentSubject(ev.Deployment), "identity/" + ev.Subject}
	for _, d := range ev.Artifacts {
		out = append(out, deployedSubject(d))
	}
	return out
}
func (ev *leaseGranted) apply(s *State, e Entry) error {
	s.bindToken(ev.Token, TokenUse{For: deploymentSubject(ev.Deployment), Job: ev.Job, Handle: ev.Handle, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return s.onDeployment(ev.Deployment, func(d *Deployment) {
		ev.on(d, e)
		s.letIn(d, e.Time)
		var behind []lockkeeper.Person
		for _, o := range d.Initiators {
			behind = append(behind, o.Persons...)
		}
		s.partTaken(d.allVotes(), behind, d.Opened)
		s.overrideTook(d)
		s.share(ev.Once, e.Time)
	})
}
func (ev *leaseGranted) on(d *Deployment, e Entry) {
	d.Votes = append(d.Votes, ev.Carried...)
	d.Status = Running
	d.Lease = &Lease{ID: ev.Lease, Job: ev.Job, Handle: ev.Handle, Identity: ev.Identity, Subject: ev.Subject,
		Started: e.Time, Ends: ev.Ends, Limit: ev.Limit, Beat: ev.Beat, Seq: e.Seq, Gate: ev.Gate}
}

// leaseRenewed says that the holder is still there. There is one for every half
// heartbeat at most.
type leaseRenewed struct {
	one
	Deployment string            `json:"deployment"`
	Lease      string            `json:"lease"`
	Ends       lockkeeper.Moment `json:"ends"`
	Revision   int               `json:"revision"`
}

func (*leaseRenewed) kind() string          { return "lease.renewed" }
func (ev *leaseRenewed) subjects() []string { return []string{deploymentSubject(ev.Deployment)} }
func (ev *leaseRenewed) apply(s *State, _ Entry) error {
	return s.onDeployment(ev.Deployment, ev.on)
}
func (ev *leaseRenewed) on(d *Deployment) { d.Lease.Ends = ev.Ends }

// tokenGranted is the decision to hand out one token. The token is signed only
// after this entry is durable.
type tokenGranted struct {
	one
	Deployment   string            `json:"deployment"`
	Lease        string            `json:"lease"`
	ID           string            `json:"jti"`
	Audience     string            `json:"audience"`
	Subject      string            `json:"subject"`
	Expires      lockkeeper.Moment `json:"expires"`
	Token        lockkeeper.Digest `json:"token"`
	TokenExpires lockkeeper.Moment `json:"token_expires"`
	Job          lockkeeper.Digest `json:"job"`
	Handle       lockkeeper.Digest `json:"handle"`
	Revision     int               `json:"revision"`

	// What still stood. It is written out when it is another than at the last
	// token of this lease, whose entry names the same digest.
	Standing       *lockkeeper.Decision `json:"standing,omitempty"`
	StandingDigest lockkeeper.Digest    `json:"standing_digest"`
}

func (*tokenGranted) kind() string { return "token.granted" }
func (ev *tokenGranted) subjects() []string {
	return []string{deploymentSubject(ev.Deployment), "identity/" + ev.Subject}
}
func (ev *tokenGranted) apply(s *State, e Entry) error {
	s.bindToken(ev.Token, TokenUse{For: deploymentSubject(ev.Deployment), Job: ev.Job, Handle: ev.Handle, Expires: ev.TokenExpires.Add(tokenGrace)}, e.Time)
	return s.onDeployment(ev.Deployment, func(d *Deployment) { ev.on(d) })
}
func (ev *tokenGranted) on(d *Deployment) {
	d.Lease.Tokens++
	d.Lease.Standing = ev.StandingDigest
	if d.Lease.TokensTill.Before(ev.Expires) {
		d.Lease.TokensTill = ev.Expires
	}
}

// tokenRevoked says that a token must not be taken any more, by whoever asks.
type tokenRevoked struct {
	one
	Deployment string `json:"deployment"`
	ID         string `json:"jti"`
	Revision   int    `json:"revision"`
}

func (*tokenRevoked) kind() string          { return "token.revoked" }
func (ev *tokenRevoked) subjects() []string { return []string{deploymentSubject(ev.Deployment)} }
func (ev *tokenRevoked) apply(s *State, _ Entry) error {
	return s.onDeployment(ev.Deployment, ev.on)
}
func (ev *tokenRevoked) on(d *Deployment) {
	if d.Lease != nil && len(d.Lease.Revoked) < maxRevoked {
		d.Lease.Revoked = append(d.Lease.Revoked, ev.ID)
	}
}

// deploymentEnded ends a deployment and its lease, for whatever reason.
type deploymentEnded struct {
	one
	ID       string              `json:"id"`
	End      End                 `json:"end"`
	Digest   lockkeeper.Digest   `json:"digest"`
	Decision lockkeeper.Decision `json:"decision,omitzero"` // why it was allowed, or why it had to be
	Revision int                 `json:"revision"`
}

func (*deploymentEnded) kind() string          { return "deployment.ended" }
func (ev *deploymentEnded) subjects() []string { return []string{deploymentSubject(ev.ID)} }
func (ev *deploymentEnded) apply(s *State, e Entry) error {
	d := s.Deployments[ev.ID]
	if d == nil {
		return fmt.Errorf("the deployment %s is not open", ev.ID)
	}
	s.letOut(d, ev.End.Status, e.Time)
	scope := lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	if d.Lease != nil {
		s.Freed[scope] = e.Time
		s.leaves(d, ev.End, e.Time)
	}
	if ev.End.Status == Succeeded {
		s.Good[scope] = remember(s.Good[scope], gate.Release{Deployment: d.ID, Artifacts: d.Ask.Artifacts, Commit: d.Ask.Commit, At: e.Time, Waived: waivedChecks(d)})
	}
	s.finishRuns(d, e.Time)
	s.shareEnded(d, ev.End.Status)
	s.holdEnded(d, ev.End, e.Time)
	delete(s.Deployments, ev.ID)
	return nil
}

// remember adds a release as the newest, and keeps each set of artifacts once.
func remember(list []gate.Release, r gate.Release) []gate.Release {
	out := slices.DeleteFunc(slices.Clone(list), func(o gate.Release) bool { return slices.Equal(o.Artifacts, r.Artifacts) })
	out = append(out, r)
	return out[max(0, len(out)-maxGood):]
}
func (ev *deploymentEnded) on(d *Deployment, e Entry) {
	end := ev.End
	d.Status, d.End, d.EndedSeq = end.Status, &end, e.Seq
}

// refusalMade records that an authenticated caller was refused. Count is 1 for
// the first, and how many more came for one that repeats.
type refusalMade struct {
	one
	Command  string               `json:"command"`
	Subject  string               `json:"subject,omitempty"`
	Code     string               `json:"code"`
	Sentence string               `json:"sentence"`
	Decision *lockkeeper.Decision `json:"decision,omitempty"`
	Caller   string               `json:"caller,omitempty"` // of refusals that came again
	Count    int                  `json:"count"`
	Revision int                  `json:"revision"`
	Tried    json.RawMessage      `json:"tried,omitempty"` // the command, if rules refused it and a look back can make it again
}

func (*refusalMade) kind() string { return "refusal.made" }
func (ev *refusalMade) subjects() []string {
	if ev.Subject == "" {
		return nil
	}
	return []string{ev.Subject}
}
func (*refusalMade) apply(*State, Entry) error { return nil }

func deploymentSubject(id string) string { return "deployment/" + id }

func (s *State) onDeployment(id string, change func(*Deployment)) error {
	d := s.Deployments[id]
	if d == nil {
		return fmt.Errorf("the deployment %s is not open", id)
	}
	change(d)
	return nil
}

// foldDeployment rebuilds one deployment from the entries about it, oldest
// first. It is how ended deployments are read back.
func foldDeployment(entries []Entry, bodies []event) (*Deployment, error) {
	var d *Deployment
	for i, e := range entries {
		if ev, ok := bodies[i].(*deploymentOpened); ok {
			d = ev.deployment(e)
			continue
		}
		if d == nil {
			continue // a refusal before the opening
		}
		switch ev := bodies[i].(type) {
		case *deploymentApproved:
			ev.on(d, e)
		case *approvalDelegated:
			ev.on(d, e)
		case *overrideRequested:
			ev.on(d, e)
		case *overrideApproved:
			ev.on(d, e)
		case *overrideGranted:
			ev.on(d, e)
		case *overrideClosed:
			ev.on(d)
		case *approvalWithdrawn:
			ev.on(d)
		case *activationEnded:
			if ev.voids() {
				d.void(ev.ID)
			}
		case *votesVoided:
			d.void(ev.Activation)
		case *approvalsVoided:
			ev.on(d)
		case *votesTaken:
			d.without(ev.User)
		case *leaseGranted:
			ev.on(d, e)
		case *leaseRenewed:
			ev.on(d)
		case *leaseJoined:
			ev.on(d)
		case *tokenGranted:
			ev.on(d)
		case *tokenRevoked:
			ev.on(d)
		case *deploymentEnded:
			ev.on(d, e)
		case *gateMoved:
			ev.on(d)
		case *policyJudged:
			ev.on(d)
		case *questionAsked:
			ev.on(&d.Questions, e)
		case *questionSampled:
			if i := slices.IndexFunc(d.Questions, func(q Question) bool { return q.ID == ev.ID }); i >= 0 {
				ev.on(&d.Questions[i], e)
			}
		}
	}
	if d == nil {
		return nil, fmt.Errorf("no entry opens this deployment")
	}
	return d, nil
}
