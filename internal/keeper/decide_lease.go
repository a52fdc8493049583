package keeper

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// claimLease is the release: it re-verifies everything and grants the lease, in
// one decision.
type claimLease struct {
	Deployment string              `json:"deployment"`
	Lease      string              `json:"-"`
	Job        lockkeeper.Workload `json:"-"`
	Handle     lockkeeper.Digest   `json:"handle"`
	Plans      []lockkeeper.Plan   `json:"plans,omitempty"` // as the job has them now
}

func (c claimLease) name() string  { return "lease.claim" }
func (c claimLease) about() string { return deploymentSubject(c.Deployment) }

func (c claimLease) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := w.useToken(c.Job, deploymentSubject(d.ID), c.Handle, now); err != nil {
		return nil, nil, err
	}
	if err := w.sameAsk(d, c.Job); err != nil {
		return nil, nil, err
	}
	if err := d.mayClaim(c.Job, c.Handle); err != nil {
		return nil, nil, err
	}
	if err := w.rightWay(d); err != nil {
		return nil, nil, err
	}
	if err := c.samePlans(d.Ask); err != nil {
		return nil, nil, err
	}
	if d.Status == Running {
		if d.Lease.Job == c.Job.JobKey() && d.Lease.Handle == c.Handle && d.leaseLive(now) {
			return nil, opened{d.ID}, nil // the same job asks again: a retry
		}
		return nil, nil, lockkeeper.Conflict.Errorf("lease_taken", "Another job holds this deployment's lease.").
			WithNext("Only one job of the stage may run it.")
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	verdict := w.judge(d, facts, now)
	if !verdict.Passed(now) {
		kind := lockkeeper.Forbidden
		if verdict.Verdict == lockkeeper.Wait {
			kind = lockkeeper.Conflict
		}
		return nil, nil, kind.Errorf(verdict.Code, "%s", verdict.Sentence).WithNext("%s", verdict.Next).WithDecision(verdict)
	}
	limit, beat := untilWaived(verdict, leaseEnd(facts, now.Add(facts.Environment.LeaseLimit()), now)), facts.Environment.Beat()
	if limit.Before(now.Add(beat)) {
		beat = limit.Sub(now)
	}
	return append(w.makeRoom(d, facts.Environment, now), &leaseGranted{Deployment: d.ID, Lease: c.Lease, Digest: d.Digest, Job: c.Job.JobKey(), Handle: c.Handle,
		Identity: facts.Identity.Name, Subject: SubjectOf(d.Ask.Project, d.Ask.Environment, facts.Identity.Name), Ends: now.Add(beat), Limit: limit, Beat: beat,
		Token: c.Job.TokenID, TokenExpires: c.Job.Expires, Gate: verdict, Revision: w.Revision.Number, Artifacts: digests(d.Ask.Artifacts), Catalog: w.Revision.Digest, Evidence: restedOn(facts, verdict),
		Carried: w.carried(d, now), Once: w.shares(d, facts, now)}), opened{d.ID}, nil
}

// mayClaim refuses whoever does not show the handle that the ask was made with,
// and any job but the one that asked, unless the ask said that another one would
// come. Approvers saw that: it is part of the ask.
func (d *Deployment) mayClaim(job lockkeeper.Workload, handle lockkeeper.Digest) error {
	switch {
	case handle != d.Handle:
		return lockkeeper.Forbidden.Errorf("handle_differs", "This is not the handle that the deployment was asked for with.").
			WithNext("Claim with the handle of the job that asked; a later job gets it with --handle-file.").WithField(d.ID)
	case !d.Ask.Detached && job.JobKey() != d.Requester:
		return lockkeeper.Forbidden.Errorf("job_differs", "Another job asked for this deployment, and did not say that a later one would claim it.").
			WithNext("Run it in the job that asked, or ask with --detach.").WithField(d.ID)
	}
	return nil
}

// renewLease is the holder's heartbeat.
type renewLease struct {
	Deployment string            `json:"deployment"`
	Handle     lockkeeper.Digest `json:"handle"`
}

func (c renewLease) name() string  { return "lease.renew" }
func (c renewLease) about() string { return deploymentSubject(c.Deployment) }

// renewed is the answer to renewLease.
type renewed struct {
	Ends lockkeeper.Moment `json:"ends"`
}

// decide moves the lease's end, up to its limit, while everything that let the
// deployment through still stands. A beat in the first half of the lease's time
// changes nothing and is not recorded.
func (c renewLease) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if d.Lease == nil || d.Lease.Handle != c.Handle {
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_of_another", "This is not the handle of the job that claimed the deployment.").
			WithNext("Renew from the job that claimed it.")
	}
	if !d.leaseLive(now) {
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_ended", "The lease ended at %s.", d.Lease.Ends).WithNext("Start a new run and ask again.")
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	standing := w.standing(d, facts, now)
	if !standing.Passed(now) {
		return nil, nil, lockkeeper.Forbidden.Errorf(standing.Code, "%s", standing.Sentence).WithNext("%s", standing.Next).WithDecision(standing)
	}
	ends := now.Add(d.Lease.Beat)
	if d.Lease.Limit.Before(ends) {
		ends = d.Lease.Limit
	}
	ends = untilFrozen(facts, ends, false, now)
	if d.Lease.Ends.Sub(now) > d.Lease.Beat/2 || !d.Lease.Ends.Before(ends) {
		return nil, renewed{d.Lease.Ends}, nil
	}
	return []event{&leaseRenewed{Deployment: d.ID, Lease: d.Lease.ID, Ends: ends, Revision: w.Revision.Number}}, renewed{ends}, nil
}

// SubjectOf is the subject of an identity's tokens, as the other side must be
// told: one for each identity in its environment, so that an identity which moves
// to another environment leaves its trust behind. It is stable, holds no personal
// data and has at most 127 bytes (the clouds' least limit); nobody should take it
// apart, for a long one is a digest.
func SubjectOf(project, environment, identity string) string {
	s := fmt.Sprintf("lk:%s:%s:%s", project, environment, identity) // a name has no colon
	if len(s) <= 127 {
		return s
	}
	return "lk:" + lockkeeper.DigestOf([]byte(s)).Hex()
}

// sameAsk refuses a job that is not of the run, attempt, stage and commits that
// the ask was made for.
func (w *world) sameAsk(d *Deployment, j lockkeeper.Workload) error {
	pipeline, stage, err := w.stageOf(j)
	if err != nil {
		return err
	}
	a := d.Ask
	differs := func(what, got, want string) error {
		return lockkeeper.Forbidden.Errorf("ask_differs", "This job's %s is %q, and the deployment was asked for with %q.", what, got, want).
			WithNext("Claim from the run, attempt and stage that asked; anything else needs an ask of its own.").WithField(d.ID)
	}
	for _, f := range [][3]string{
		{"project", pipeline.Project, a.Project}, {"pipeline", pipeline.Name, a.Pipeline}, {"stage", stage.Name, a.Stage},
		{"provider", j.Provider, a.Provider}, {"repository", j.Repository.Value, a.Repository}, {"run", j.Run.Value, a.Run},
		{"attempt", fmt.Sprint(j.Attempt), fmt.Sprint(a.Attempt)}, {"ref", j.Ref.Value, a.Ref}, {"commit", j.Commit.Value, a.Commit},
		{"definition", j.DefinitionPath.Value, a.Definition.Path}, {"definition's ref", j.DefinitionRef.Value, a.Definition.Ref},
		{"definition's commit", j.DefinitionCommit.Value, a.Definition.Commit}, {"event", j.Event.Value, a.Event},
		{"template", j.CalledPath.Value, a.Template.Path}, {"template's ref", j.CalledRef.Value, a.Template.Ref}, {"template's commit", j.CalledCommit.Value, a.Template.Commit},
		{"ref's protection", protectionOf(j), a.Protected},
	} {
		if f[1] != f[2] {
			return differs(f[0], f[1], f[2])
		}
	}
	return nil
}

// grantToken decides to hand out one token under a live lease.
type grantToken struct {
	Deployment string              `json:"deployment"`
	ID         string              `json:"-"` // jti
	Job        lockkeeper.Workload `json:"-"`
	Handle     lockkeeper.Digest   `json:"handle"`
	Audience   string              `json:"audience"`
}

func (c grantToken) name() string  { return "token.grant" }
func (c grantToken) about() string { return deploymentSubject(c.Deployment) }

// shortestToken is the least life that a token is worth handing out with.
const shortestToken = time.Second

func (c grantToken) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	d, err := w.alive(c.Deployment)
	if err != nil {
		return nil, nil, err
	}
	if err := w.useToken(c.Job, deploymentSubject(d.ID), c.Handle, now); err != nil {
		return nil, nil, err
	}
	if err := w.sameAsk(d, c.Job); err != nil {
		return nil, nil, err
	}
	switch {
	case d.Status != Running || d.Lease == nil:
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_missing", "The deployment %s is %s; it has no lease.", d.ID, d.Status).
			WithNext("Claim it once its gate has passed: lockkeeper claim %s", d.ID)
	case d.Lease.Job != c.Job.JobKey() || d.Lease.Handle != c.Handle:
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_of_another", "The lease belongs to the job that claimed it, and this is not that job with its handle.").
			WithNext("Exchange from the job that claimed the deployment.")
	case !d.leaseLive(now):
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_ended", "The lease ended at %s.", d.Lease.Ends).
			WithNext("Start a new run and ask again.")
	}
	facts, err := w.facts(d, now)
	if err != nil {
		return nil, nil, err
	}
	standing := w.standing(d, facts, now)
	if !standing.Passed(now) {
		return nil, nil, lockkeeper.Forbidden.Errorf(standing.Code, "%s", standing.Sentence).WithNext("%s", standing.Next).WithDecision(standing)
	}
	if err := thawed(facts, now); err != nil {
		return nil, nil, err
	}
	if facts.Identity.Name != d.Lease.Identity {
		return nil, nil, lockkeeper.Forbidden.Errorf("identity_changed", "The environment's identity is %s now, and the lease is for %s.", facts.Identity.Name, d.Lease.Identity).
			WithNext("Start a new run and ask again.")
	}
	if !slices.Contains(facts.Identity.Audiences, c.Audience) {
		return nil, nil, lockkeeper.Forbidden.Errorf("audience_not_admitted", "The identity %s hands out no token for the audience %.100q.", facts.Identity.Name, c.Audience).
			WithNext("Ask for one of: %v.", facts.Identity.Audiences)
	}
	expires := now.Add(facts.Identity.TokenLifetime())
	if d.Lease.Ends.Before(expires) {
		expires = d.Lease.Ends
	}
	expires = untilFrozen(facts, untilActivated(facts, expires), true, now)
	// A JWT counts in whole seconds: rounding down keeps it inside the lease.
	expires = lockkeeper.MomentOf(expires.Time().Truncate(time.Second))
	if expires.Sub(now) < shortestToken && d.Lease.Ends.Sub(now) < 2*shortestToken {
		return nil, nil, lockkeeper.Forbidden.Errorf("lease_ended", "The lease ends at %s, too soon for a token.", d.Lease.Ends).
			WithNext("Start a new run and ask again.")
	}
	digest, err := w.digestOf(d.ID, standing)
	if err != nil {
		return nil, nil, err
	}
	ev := &tokenGranted{Deployment: d.ID, Lease: d.Lease.ID, ID: c.ID, Audience: c.Audience, Subject: d.Lease.Subject, Expires: expires,
		Token: c.Job.TokenID, TokenExpires: c.Job.Expires, Job: c.Job.JobKey(), Handle: c.Handle, StandingDigest: digest, Revision: w.Revision.Number}
	if ev.StandingDigest != d.Lease.Standing {
		ev.Standing = &standing
	}
	return []event{ev},
		granted{ID: c.ID, Deployment: d.ID, Subject: d.Lease.Subject, Audience: c.Audience, At: now, Expires: expires, Revision: w.Revision.Number, Ask: d.Ask, Digest: d.Digest}, nil
}

// granted is what the token is minted from, after the commit.
type granted struct {
	ID, Deployment, Subject, Audience string
	At, Expires                       lockkeeper.Moment
	Revision                          int
	Ask                               lockkeeper.Ask
	Digest                            lockkeeper.Digest
}

// recordArtifacts lets a stage vouch for digests.
type recordArtifacts struct {
	Job       lockkeeper.Workload   `json:"-"`
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
}

func (c recordArtifacts) name() string  { return "artifact.record" }
func (c recordArtifacts) about() string { return "artifacts" }

func (c recordArtifacts) decide(w *world, _ Caller, now lockkeeper.Moment) ([]event, any, error) {
	if err := w.useToken(c.Job, "artifacts", "", now); err != nil {
		return nil, nil, err
	}
	artifacts, err := lockkeeper.NewArtifacts(c.Artifacts)
	if err != nil {
		return nil, nil, lockkeeper.Invalid.Errorf("artifacts_malformed", "%v.", err).WithNext("Name each artifact once as NAME=sha256:HEX.")
	}
	pipeline, stage, err := w.stageOf(c.Job)
	if err != nil {
		return nil, nil, err
	}
	origins, err := w.origins(c.Job)
	if err == nil {
		err = w.admits(pipeline, c.Job.Provider, origins)
	}
	if err != nil {
		return nil, nil, err
	}
	return []event{&artifactRecorded{Project: pipeline.Project, Pipeline: pipeline.Name, Stage: stage.Name, Repository: c.Job.Repository.Value,
			Commit: c.Job.Commit.Value, Run: c.Job.Run.Value, Artifacts: artifacts, Token: c.Job.TokenID, TokenExpires: c.Job.Expires,
			Job: c.Job.JobKey(), Initiator: origins[0], Others: origins[1:], Revision: w.Revision.Number}},
		recorded{Project: pipeline.Project, Pipeline: pipeline.Name, Stage: stage.Name, Artifacts: artifacts}, nil
}

// recorded is the answer to recordArtifacts.
type recorded struct {
	Project   string                `json:"project"`
	Pipeline  string                `json:"pipeline"`
	Stage     string                `json:"stage"`
	Artifacts []lockkeeper.Artifact `json:"artifacts"`
}
