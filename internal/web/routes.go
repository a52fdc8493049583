package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A Credential is the header that every authenticated request has.
type Credential struct {
	Authorization string `header:"Authorization" doc:"Bearer and a session's secret, a handle, or a CI platform's token"`
}

// A JobCredential is the header of a request that a CI platform's job makes.
type JobCredential struct {
	Credential
	Access string `header:"Lockkeeper-Access-Token" maxLength:"16384" doc:"Azure DevOps: the job's own access token, for one look-up of its run; kept nowhere"`
}

// A Deployment is the path parameter that names one.
type Deployment struct {
	ID string `path:"id" maxLength:"63"`
}

// Resolve refuses what no deployment can be called, without repeating it. It may
// be a secret that stands in the wrong place, and the keeper records what it
// refuses.
func (d *Deployment) Resolve(huma.Context) []error {
	if deploymentID(d.ID) {
		return nil
	}
	return []error{lockkeeper.NotFound.Errorf("deployment_missing", "There is no such deployment.").WithNext("List them: lockkeeper deployments list")}
}

// deploymentID reports whether a deployment can have this id.
func deploymentID(id string) bool {
	return strings.HasPrefix(id, "d-") && lockkeeper.CheckName(id) == nil
}

// A Remote is where a request comes from.
type Remote struct{ source string }

// Resolve takes the address of the other end.
func (r *Remote) Resolve(ctx huma.Context) []error {
	r.source = source(ctx.RemoteAddr())
	return nil
}

type (
	reply[T any] struct{ Body T }
	ask[T any]   struct {
		Credential
		Body T
	}
	keyed[T any] struct {
		JobCredential
		Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
		Body T
	}
	about[T any] struct {
		Credential
		ID   string `path:"id" maxLength:"63"`
		Body T
	}
	aboutDeployment[T any] struct {
		Credential
		Deployment
		Body T
	}
	aboutByJob[T any] struct {
		JobCredential
		Deployment
		Body T
	}
	byJob[T any] struct {
		JobCredential
		Body T
	}
	stranger[T any] struct {
		Remote
		Body T
	}
	nothing struct{}
)

// route registers one operation: a function from request to reply. The errors
// of all of them pass through problem.
func route[In, Out any](s *Server, method, path, id, summary string, f func(context.Context, *In) (*Out, error)) {
	op := huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + path, Summary: summary, MaxBodyBytes: maxBody, BodyReadTimeout: readTimeout}
	if id == "apply-catalog" || id == "add-evidence" {
		op.MaxBodyBytes = maxCatalog
	}
	huma.Register(s.spec, op, func(ctx context.Context, in *In) (*Out, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// register is the table of the API.
func (s *Server) register() {
	s.registerActivations()
	s.registerDuties()
	s.registerProvisioners()
	s.registerReview()
	s.registerMeasures()
	s.registerCampaigns()
	s.registerIncidents()
	s.registerReviews()
	s.registerFreezes()
	s.registerProposals()
	s.registerTokens()
	s.registerFactors()
	s.registerEvidence()
	s.registerRehearsals()
	s.registerObservations()
	s.registerPolicies()
	s.registerRunning()
	s.registerNotifications()
	s.registerHolds()
	s.registerStrikes()
	s.registerRecords()
	route(s, http.MethodGet, "/about", "about", "What this server is", s.about)
	route(s, http.MethodGet, "/keys", "keys", "The keys that vouch for receipts and proofs", s.trust)
	route(s, http.MethodPost, "/setup", "set-up", "Enter as the first administrator", s.setUp)
	route(s, http.MethodPost, "/sessions", "sign-in", "Sign in", s.signIn)
	route(s, http.MethodDelete, "/sessions/current", "sign-out", "Sign out", s.signOut)
	route(s, http.MethodPost, "/accounts/{id}/invitation", "invite", "Invite a user to choose a password", s.invite)
	route(s, http.MethodPost, "/enrolments", "enrol", "Choose a password with an invitation", s.enrol)
	route(s, http.MethodPost, "/accounts/challenge", "challenge", "Ask for a challenge to prove oneself", s.challenge)
	route(s, http.MethodPost, "/accounts/confirm", "confirm-links", "Say that the accounts that somebody listed under one's name are one's own", s.confirmLinks)
	route(s, http.MethodPost, "/accounts/proof", "prove", "Prove oneself by a run on a CI platform", s.prove)
	route(s, http.MethodGet, "/catalog", "catalog", "The catalog in force", s.catalog)
	route(s, http.MethodPut, "/catalog", "apply-catalog", "Put a catalog in force", s.apply)
	route(s, http.MethodGet, "/roles", "roles", "The roles that may be assigned, the built-in ones too", s.roles)
	route(s, http.MethodGet, "/roles/{name}", "role", "One role: what it allows", s.role)
	route(s, http.MethodGet, "/can", "can", "May a user or a group do an action at a scope, and by which paths", s.can)
	route(s, http.MethodGet, "/who-can", "who-can", "Who may do an action at a scope, and by which paths", s.whoCan)
	route(s, http.MethodGet, "/what-can", "what-can", "What a user or a group holds, and what he has activated", s.whatCan)
	route(s, http.MethodPost, "/keys/rotate", "rotate-keys", "Sign tokens with the next key", s.rotate)
	route(s, http.MethodPost, "/recovery/confirm", "confirm-recovery", "Confirm what the catalog allows after the log went on from an older copy", s.confirmRecovery)
	route(s, http.MethodGet, "/journal/entries", "journal-entries", "The journal's entries from a position on, for followers", s.entries)
	route(s, http.MethodPost, "/artifacts", "record-artifacts", "Vouch for artifacts, as a pipeline stage", s.record)
	route(s, http.MethodPost, "/deployments", "open-deployment", "Ask to deploy, as a pipeline stage", s.open)
	route(s, http.MethodGet, "/deployments", "list-deployments", "List deployments", s.list)
	route(s, http.MethodGet, "/deployments/{id}", "deployment", "One deployment, or what next differs from it", s.deployment)
	route(s, http.MethodPost, "/deployments/{id}/approve", "approve", "Approve a deployment", s.vote(true))
	route(s, http.MethodPost, "/deployments/{id}/reject", "reject", "Reject a deployment", s.vote(false))
	route(s, http.MethodPost, "/deployments/{id}/claim", "claim", "Claim the lease, as a pipeline stage", s.claim)
	route(s, http.MethodPost, "/deployments/{id}/delegate", "delegate", "Hand one's place at the gate over to somebody else", s.delegate)
	route(s, http.MethodPost, "/deployments/{id}/withdraw", "withdraw", "Take one's approval back", s.withdraw)
	route(s, http.MethodPost, "/deployments/{id}/revoke", "revoke-lease", "Take the lease of a running deployment away", s.revokeLease)
	route(s, http.MethodPost, "/deployments/{id}/renew", "renew", "The heartbeat of the job that holds the lease", s.renew)
	route(s, http.MethodPost, "/deployments/{id}/end", "end-deployment", "Say how it went, as the job that holds it", s.end)
	route(s, http.MethodPost, "/deployments/{id}/cancel", "cancel-deployment", "Cancel a deployment", s.cancel)
	route(s, http.MethodGet, "/deployments/{id}/receipt", "receipt", "The signed receipt of an ended deployment", s.receipt)
}

func (s *Server) about(_ context.Context, _ *nothing) (*reply[api.About], error) {
	r, _ := s.Keeper.Revision()
	return &reply[api.About]{api.About{Issuer: s.URL, Audience: s.URL, Revision: r.Number, Version: s.Version}}, nil
}

func (s *Server) trust(_ context.Context, _ *nothing) (*reply[api.Keys], error) {
	return &reply[api.Keys]{api.Keys(s.Keeper.Trust())}, nil
}

func (s *Server) setUp(ctx context.Context, in *stranger[api.SetUp]) (*struct{}, error) {
	return nil, s.Keeper.SetUp(ctx, in.Body.Code, in.Body.User, in.Body.Password)
}

func (s *Server) signIn(ctx context.Context, in *stranger[api.SignIn]) (*reply[api.Session], error) {
	secret, session, err := s.Keeper.SignIn(ctx, in.Body.User, in.Body.Password, in.source)
	if needed := new(keeper.FactorNeeded); errors.As(err, &needed) {
		return &reply[api.Session]{api.Session{User: in.Body.User, FactorNeeded: &api.FactorNeeded{Ticket: needed.Ticket, Factors: needed.Factors}}}, nil
	}
	return &reply[api.Session]{api.Session{Secret: secret, User: session.User, Expires: session.Expires}}, err
}

func (s *Server) signOut(ctx context.Context, in *Credential) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.SignOut(ctx, by)
}

func (s *Server) invite(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Invitation], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	code, err := s.Keeper.Invite(ctx, by, in.ID)
	return &reply[api.Invitation]{api.Invitation{User: in.ID, Code: code}}, err
}

func (s *Server) enrol(ctx context.Context, in *stranger[api.Enrol]) (*struct{}, error) {
	return nil, s.Keeper.Enrol(ctx, in.Body.User, in.Body.Code, in.Body.Password)
}

// proofSuffix is what stands between the server's audience and a challenge.
const proofSuffix = "/prove/"

func (s *Server) challenge(ctx context.Context, in *Credential) (*reply[api.Challenge], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	c, err := s.Keeper.Challenge(ctx, by)
	if err != nil {
		return nil, err
	}
	out := api.Challenge{Challenge: c, Audience: s.URL + proofSuffix + c, Audiences: []api.ProofAudience{}, NoProof: []api.NoProof{}}
	rules := s.Keeper.Rules().Catalog
	seen := map[string]bool{}
	for _, id := range rules.Users[by.User].IDs {
		p := rules.Providers[id.Provider]
		if seen[p.Name] {
			continue
		}
		seen[p.Name] = true
		if reason := p.NoProof(); reason != "" {
			out.NoProof = append(out.NoProof, api.NoProof{Provider: p.Name, Platform: p.Platform, Reason: reason})
			continue
		}
		out.Audiences = append(out.Audiences, api.ProofAudience{Provider: p.Name, Platform: p.Platform, Audience: s.audienceOf(p) + proofSuffix + c})
	}
	if len(out.Audiences) > 0 {
		out.Audience = out.Audiences[0].Audience
	}
	return &reply[api.Challenge]{out}, nil
}

func (s *Server) prove(ctx context.Context, in *byJob[api.Proof]) (*reply[api.Proven], error) {
	if err := lockkeeper.CheckName(in.Body.Challenge); err != nil {
		return nil, lockkeeper.Invalid.Errorf("challenge_malformed", "The challenge is malformed: %v.", err)
	}
	job, err := s.job(ctx, in.JobCredential, proofSuffix+in.Body.Challenge)
	if err != nil {
		return nil, err
	}
	user, err := s.Keeper.Prove(ctx, job, in.Body.Challenge)
	return &reply[api.Proven]{api.Proven{User: user}}, err
}

func (s *Server) catalog(_ context.Context, in *Credential) (*reply[api.Catalog], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.MayReadCatalog(by); err != nil {
		return nil, err
	}
	revision, rules := s.Keeper.Revision()
	out := api.Catalog{Revision: revision.Number, Digest: revision.Digest, Documents: []any{}}
	for _, d := range rules.Catalog.Documents() {
		out.Documents = append(out.Documents, json.RawMessage(d.Data))
	}
	return &reply[api.Catalog]{out}, nil
}

func (s *Server) apply(ctx context.Context, in *ask[api.Apply]) (*reply[api.Applied], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	var files []catalog.File
	for _, f := range in.Body.Files {
		files = append(files, catalog.File{Name: f.Name, Data: []byte(f.Data)})
	}
	c, problems := catalog.Read(files)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if err := s.Fit(c); err != nil {
		return nil, err
	}
	if err := s.policiesFit(ctx, c); err != nil {
		return nil, err
	}
	a, err := s.Keeper.Apply(ctx, by, c, in.Body.Base, in.Body.Message)
	return &reply[api.Applied]{renderApplied(a)}, err
}

func (s *Server) whoCan(ctx context.Context, in *struct {
	Credential
	Action string `query:"action" required:"true" maxLength:"100"`
	Scope  string `query:"scope" required:"true" maxLength:"600"`
	Instant
}) (*reply[api.WhoCan], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	action, scope, err := question(in.Action, in.Scope)
	if err != nil {
		return nil, err
	}
	out := api.WhoCan{Users: []api.Permitted{}}
	var list []keeper.Permitted
	if in.At == "" {
		list, err = s.Keeper.WhoCan(by, action, scope)
		out.Missing = s.Keeper.Missing(by, scope)
	} else {
		var past keeper.Past
		if past, out.Then, err = s.past(ctx, by, in.Instant); err == nil {
			list, out.Missing = past.WhoCan(action, scope), past.Missing(scope)
		}
	}
	for _, p := range list {
		out.Users = append(out.Users, api.Permitted(p))
	}
	return &reply[api.WhoCan]{out}, err
}

// question reads an action and a scope.
func question(a, s string) (lockkeeper.Action, lockkeeper.Scope, error) {
	action, err := lockkeeper.ParseAction(a)
	if err != nil {
		return "", "", lockkeeper.Invalid.Errorf("action_unknown", "%v.", err).WithNext("Name one of: %v.", lockkeeper.Actions())
	}
	scope, err := lockkeeper.ParseScope(s)
	if err != nil {
		return "", "", lockkeeper.Invalid.Errorf("scope_malformed", "%v.", err)
	}
	return action, scope, nil
}

func (s *Server) rotate(ctx context.Context, in *ask[api.Rotate]) (*reply[api.Rotated], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	active, next, err := s.Keeper.RotateKey(ctx, by, in.Body.Algorithm, in.Body.Emergency, in.Body.Reason)
	return &reply[api.Rotated]{api.Rotated{Active: active, Next: next}}, err
}

func (s *Server) confirmRecovery(ctx context.Context, in *ask[api.ConfirmRecovery]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.ConfirmEpoch(ctx, by, in.Body.Revision, in.Body.Comment)
}

func (s *Server) entries(ctx context.Context, in *struct {
	Credential
	From  int64 `query:"from" minimum:"0" doc:"position of the first entry"`
	Limit int   `query:"limit" minimum:"0" maximum:"1000"`
	Wait  int   `query:"wait" minimum:"0" maximum:"60" doc:"how many seconds to wait for an entry at most"`
}) (*reply[api.Entries], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.patience(ctx, min(time.Duration(in.Wait)*time.Second, longestWait))
	defer cancel()
	list, err := s.Keeper.Tail(ctx, by, in.From, in.Limit)
	out := api.Entries{Entries: []any{}, Next: in.From + int64(len(list))}
	for _, e := range list {
		out.Entries = append(out.Entries, e)
	}
	return &reply[api.Entries]{out}, err
}

func (s *Server) record(ctx context.Context, in *keyed[api.Artifacts]) (*reply[api.Recorded], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	r, err := s.Keeper.RecordArtifacts(ctx, job, in.Key, in.Body.Artifacts)
	return &reply[api.Recorded]{api.Recorded(r)}, err
}

func (s *Server) open(ctx context.Context, in *keyed[api.OpenDeployment]) (*reply[api.Deployment], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	id, err := s.Keeper.OpenDeployment(ctx, job, in.Key, keeper.OpenDeployment(in.Body))
	if err != nil {
		return nil, err
	}
	return s.show(ctx, keeper.Caller{Holder: id}, id)
}

func (s *Server) show(ctx context.Context, by keeper.Caller, id string) (*reply[api.Deployment], error) {
	v, err := s.Keeper.Deployment(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return &reply[api.Deployment]{s.render(v)}, nil
}

func (s *Server) list(ctx context.Context, in *struct {
	Credential
	Project     string `query:"project" maxLength:"63"`
	Environment string `query:"environment" maxLength:"63"`
	Alive       bool   `query:"alive" doc:"only those that have not ended"`
	Before      int64  `query:"before" doc:"only those opened before this entry"`
	Limit       int    `query:"limit" minimum:"0" maximum:"200"`
}) (*reply[api.Deployments], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	views, err := s.Keeper.Deployments(ctx, by, keeper.Filter{Project: in.Project, Environment: in.Environment, Alive: in.Alive, Before: in.Before, Limit: in.Limit})
	out := api.Deployments{Deployments: []api.Deployment{}}
	for _, v := range views {
		out.Deployments = append(out.Deployments, s.render(v))
	}
	return &reply[api.Deployments]{out}, err
}

func (s *Server) deployment(ctx context.Context, in *struct {
	Credential
	Deployment
	Seen string `query:"seen" maxLength:"64" doc:"what the caller saw; the reply waits until something differs"`
	Wait int    `query:"wait" minimum:"0" maximum:"60" doc:"how many seconds to wait at most"`
}) (*reply[api.Deployment], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	if in.Seen == "" || in.Wait == 0 {
		return s.show(ctx, by, in.ID)
	}
	ctx, cancel := s.patience(ctx, min(time.Duration(in.Wait)*time.Second, longestWait))
	defer cancel()
	v, err := s.Keeper.WaitDeployment(ctx, by, in.ID, in.Seen)
	if err != nil {
		return nil, err
	}
	return &reply[api.Deployment]{s.render(v)}, nil
}

func (s *Server) vote(approve bool) func(context.Context, *aboutDeployment[api.Vote]) (*reply[api.Deployment], error) {
	return func(ctx context.Context, in *aboutDeployment[api.Vote]) (*reply[api.Deployment], error) {
		by, err := s.person(in.Authorization)
		if err != nil {
			return nil, err
		}
		if err := s.Keeper.Answer(ctx, by, in.ID, ballotOf(approve, in.Body)); err != nil {
			return nil, err
		}
		return s.show(ctx, by, in.ID)
	}
}

func (s *Server) claim(ctx context.Context, in *aboutByJob[api.Claim]) (*reply[api.Deployment], error) {
	job, err := s.job(ctx, in.JobCredential, "")
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.Claim(ctx, job, in.ID, in.Body.Handle, in.Body.Plans...); err != nil {
		return nil, err
	}
	return s.show(ctx, keeper.Caller{Holder: in.ID}, in.ID)
}

func (s *Server) delegate(ctx context.Context, in *aboutDeployment[api.Delegate]) (*reply[api.Deployment], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.Delegate(ctx, by, in.ID, in.Body.To, in.Body.Comment); err != nil {
		return nil, err
	}
	return s.show(ctx, by, in.ID)
}

func (s *Server) withdraw(ctx context.Context, in *aboutDeployment[api.Withdraw]) (*reply[api.Deployment], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.Withdraw(ctx, by, in.ID, in.Body.Comment); err != nil {
		return nil, err
	}
	return s.show(ctx, by, in.ID)
}

func (s *Server) revokeLease(ctx context.Context, in *aboutDeployment[api.Revoke]) (*reply[api.Deployment], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.RevokeLease(ctx, by, in.ID, in.Body.Reason); err != nil {
		return nil, err
	}
	return s.show(ctx, by, in.ID)
}

func (s *Server) renew(ctx context.Context, in *struct {
	Credential
	Deployment
}) (*reply[api.Renewed], error) {
	handle, err := bearer(in.Authorization)
	if err != nil {
		return nil, err
	}
	ends, err := s.Keeper.Renew(ctx, in.ID, handle)
	return &reply[api.Renewed]{api.Renewed{Ends: ends}}, err
}

func (s *Server) end(ctx context.Context, in *aboutDeployment[api.EndDeployment]) (*reply[api.Deployment], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.End(ctx, by, in.ID, in.Body.ExitCode); err != nil {
		return nil, err
	}
	return s.show(ctx, by, in.ID)
}

func (s *Server) cancel(ctx context.Context, in *aboutDeployment[api.Cancel]) (*reply[api.Deployment], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.Cancel(ctx, by, in.ID, in.Body.Reason); err != nil {
		return nil, err
	}
	return s.show(ctx, by, in.ID)
}

func (s *Server) receipt(ctx context.Context, in *struct {
	Credential
	Deployment
}) (*reply[json.RawMessage], error) {
	by, err := s.reader(ctx, in.Authorization, in.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.Keeper.Receipt(ctx, by, in.ID)
	return &reply[json.RawMessage]{r}, err
}

// render is a view on the wire.
func (s *Server) render(v keeper.View) api.Deployment {
	d := api.Deployment{ID: v.ID, Status: string(v.Status), Phase: string(v.Phase()), Ask: v.Ask, Digest: v.Digest, Opened: v.Opened, Deadline: v.Deadline,
		Entry: v.OpenedSeq, Initiators: []api.Initiator{}, Approvals: []api.Approval{}, Gate: v.Gate, Seen: v.Seen()}
	for _, o := range v.Initiators {
		d.Initiators = append(d.Initiators, api.Initiator{Account: o.Account, Name: o.Name, Automation: o.Automation, Persons: o.Persons})
	}
	for _, o := range v.Delegated {
		d.Delegations = append(d.Delegations, api.Delegation{From: o.From, To: o.To, Comment: o.Comment, At: o.At})
	}
	for _, a := range v.Votes {
		d.Approvals = append(d.Approvals, api.Approval{User: a.User, Comment: a.Comment, At: a.At, BreakGlass: a.BreakGlass, SignedIn: a.SignedIn, Strong: a.Strong, Answers: answersOf(a.Answers), From: a.From})
	}
	d.Plans = plansOf(s.Keeper.Plans(v))
	d.Checklist = checklistOf(s.Keeper.Checklist(v))
	if q := v.Queue; q != nil {
		d.Queue = &api.Queue{Place: q.Place, Start: q.Start, Took: q.Took.Seconds(), Of: q.Of}
	}
	if l := v.Lease; l != nil {
		d.Lease = &api.Lease{Identity: l.Identity, Subject: l.Subject, Started: l.Started, Ends: l.Ends, Limit: l.Limit, Tokens: l.Tokens, TokensTill: l.TokensTill}
		if i, ok := s.Keeper.Rules().Catalog.Identities[lockkeeper.IdentityScope(v.Ask.Project, l.Identity)]; ok {
			d.Lease.Audiences = i.Audiences
		}
	}
	if e := v.End; e != nil {
		d.End = &api.End{At: e.At, Reason: e.Reason, By: e.By, ExitCode: e.ExitCode, Crossed: e.Crossed, TokensOutside: e.TokensOutside, OutsideTill: e.OutsideTill}
	}
	return d
}

// nameErrors makes huma's own refusals (a malformed body, a value out of its
// bounds) problems like ours. They name what is wrong and never repeat the
// value: it may be a secret. The library takes this only as a variable of its
// own, so it is set once for the process; the request's context leads to the line
// that the code belongs in.
var nameErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		p := &api.Problem{Type: "about:blank", Title: "invalid", Status: status, Detail: "The request is malformed: " + message + ".", Code: "request_malformed",
			Next: "Compare it with /api/v1/openapi.json."}
		var fields []string
		for _, err := range errs {
			if lockkeeper.RefusalOf(err) != nil {
				return api.ProblemOf(err, "")
			}
			var d *huma.ErrorDetail
			if errors.As(err, &d) && len(fields) < 20 {
				message := d.Message
				if strings.HasPrefix(message, "json: cannot unmarshal") { // encoding/json repeats numbers
					message = "a value of another type, or a number that is too large"
				}
				fields = append(fields, fmt.Sprintf("%.100s: %.200s", d.Location, message))
			}
		}
		p.Field = plain(strings.Join(fields, "; "), false)
		return p
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		err := huma.NewError(status, message, errs...)
		if p, ok := err.(*api.Problem); ok {
			refused(ctx.Context(), p.Code)
		}
		return err
	}
})
