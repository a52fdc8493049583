package keeper

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// migration demands of the deploying job of production that it has activated the
// role migrator, which the security people approve.
const migration = `---
{kind: Role, name: migrator, actions: [deployments/read]}
---
{kind: Assignment, name: migrations, role: migrator, principal: "workload:payments/release/deploy", scope: /projects/payments/environments/production, eligible: true}
---
{kind: Assignment, name: deciders, role: access-approver, principal: group:security, scope: /projects/payments}
---
{kind: ActivationRule, name: migrating, role: migrator, scope: /projects/payments, longest: 30m, approvals: [{name: one, approval: {count: 1, groups: [security]}}]}
`

type runs struct {
	*testing.T
	*Keeper
	ctx   context.Context
	clock *atomic.Int64
	start time.Time
	n     int
}

func withRuns(t *testing.T, pairs ...string) *runs {
	t.Helper()
	r := &runs{T: t, ctx: context.Background(), clock: new(atomic.Int64), start: time.Now(), n: 1000}
	r.Keeper, _ = started(t, Options{Clock: func() time.Time { return r.start.Add(time.Duration(r.clock.Load())) }})
	r.apply(pairs...)
	for i, user := range []string{"bob", "cat", "eve"} {
		prove(t, r.Keeper, user, []string{"1002", "1003", "1004"}[i], 100+i, r.now())
	}
	_, err := r.RecordArtifacts(r.ctx, workload(1, "1", "10", "", "1001", "push", 1, r.now()), "", []lockkeeper.Artifact{app})
	must(t, err)
	return r
}

func (r *runs) apply(pairs ...string) {
	r.Helper()
	text := strings.Replace(rulesWith("<more>", migration), "patience: 2h\n", "patience: 2h\nactivation: migrator\n", 1)
	revision, _ := r.Revision()
	_, err := r.Apply(r.ctx, Caller{User: "dora"}, readRules(r.T, strings.NewReplacer(pairs...).Replace(text)), revision.Number, "x")
	must(r.T, err)
}

// job is a token of a job of a run that an account started.
func (r *runs) job(run, job, actor string) lockkeeper.Workload {
	r.n++
	return workload(r.n, run, job, "production", actor, "push", 1, r.now())
}

func (r *runs) ask(job lockkeeper.Workload) (string, error) {
	return r.RequestRunActivation(r.ctx, job, "", RunRequest{Role: "migrator", Scope: "/projects/payments/environments/production", For: 20 * time.Minute, Reason: "migrate", Handle: HandleDigest("h")})
}

func (r *runs) approve(by, id string) error {
	r.Helper()
	v, err := r.Request(r.ctx, Caller{User: "eve"}, id)
	must(r.T, err)
	return r.DecideRequest(r.ctx, Caller{User: by}, id, RequestVerdict{Approve: true, Digest: v.Digest})
}

func (r *runs) open(job lockkeeper.Workload) (string, error) {
	return r.OpenDeployment(r.ctx, job, "", OpenDeployment{Environment: "production", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
}

// active activates the role for a job that ann started.
func (r *runs) active(run, job string) Activation {
	r.Helper()
	id, err := r.ask(r.job(run, job, "1001"))
	must(r.T, err)
	must(r.T, r.approve("cat", id))
	a, err := r.BeginActivation(r.ctx, Caller{Holder: id}, id)
	must(r.T, err)
	return a
}

// running deploys from a job that ann started, with all approvals.
func (r *runs) running(run, job string) string {
	r.Helper()
	id, err := r.open(r.job(run, job, "1001"))
	must(r.T, err)
	for _, by := range []string{"bob", "cat"} {
		v, err := r.Deployment(r.ctx, Caller{Holder: id}, id)
		must(r.T, err)
		must(r.T, r.Vote(r.ctx, Caller{User: by}, id, true, v.Digest, ""))
	}
	must(r.T, r.Claim(r.ctx, r.tokenOf(run, job), id, "h"))
	return id
}

func (r *runs) tokenOf(run, job string) lockkeeper.Workload { return r.job(run, job, "1001") }

// A stage that is eligible holds nothing: its job deploys only while it has the role
// by a request of its own, which nobody behind the run approves.
func TestRunActivation(t *testing.T) {
	r := withRuns(t)
	_, err := r.open(r.job("1", "11", "1001"))
	want(t, err, "activation_missing")
	if next := lockkeeper.RefusalOf(err).Next; !strings.Contains(next, "lockkeeper activate migrator --run --scope /projects/payments/environments/production") {
		t.Errorf("the way out is %s", next)
	}
	id, err := r.ask(r.job("1", "11", "1003")) // cat started it
	must(t, err)
	want(t, r.approve("cat", id), "own_deployment")
	want(t, r.approve("bob", id), "approver_not_permitted")
	_, err = r.BeginActivation(r.ctx, Caller{Holder: id}, id)
	want(t, err, "approvals_missing")
	must(t, r.approve("eve", id))
	for name, by := range map[string]Caller{"a person": {User: "cat"}, "nobody": {}, "another's handle": {Holder: "r-other"}, "a deployment's": {Holder: "d-other"}} {
		if _, err := r.BeginActivation(r.ctx, by, id); err == nil {
			t.Errorf("%s begins it", name)
		}
		if err := r.WithdrawRequest(r.ctx, by, id); err == nil {
			t.Errorf("%s withdraws it", name)
		}
	}
	_, err = r.RequestHolder(r.ctx, id, "another handle")
	want(t, err, "handle_unknown")
	by, err := r.RequestHolder(r.ctx, id, "h")
	must(t, err)
	a, err := r.BeginActivation(r.ctx, by, id)
	must(t, err)
	again, err := r.BeginActivation(r.ctx, by, id)
	must(t, err)
	if again.ID != a.ID || a.User != "workload:payments/release/deploy" || a.Run == nil || a.Run.Run != "1" {
		t.Errorf("%+v", a)
	}
	if _, err := r.RequestHolder(r.ctx, id, "h"); err != nil {
		t.Errorf("once it has begun: %v", err)
	}
	if _, err := r.ExtendActivation(r.ctx, by, "", a.ID, time.Minute, "why", ""); err == nil {
		t.Error("a job makes it longer")
	}
	for name, job := range map[string]lockkeeper.Workload{"another job": r.job("1", "12", "1003"), "another run": r.job("2", "11", "1003"), "another attempt": workload(2, "1", "11", "production", "1003", "push", 2, r.now())} {
		job.RerunActor = lockkeeper.SignedFact("1003")
		if _, err = r.open(job); codeOf(err) != "activation_missing" {
			t.Errorf("%s asks to deploy: %v", name, err)
		}
	}
	_, err = r.open(r.job("1", "11", "1003"))
	must(t, err)
}

// What a stage is not eligible for, a stage that is not told, and a run behind which
// nobody stands get nothing.
func TestRunActivationRefused(t *testing.T) {
	r := withRuns(t)
	_, err := r.RequestRunActivation(r.ctx, r.job("1", "11", "1001"), "", RunRequest{Role: "migrator", Scope: "/projects/payments", For: time.Minute, Reason: "x", Handle: HandleDigest("h")})
	want(t, err, "not_eligible")
	_, err = r.RequestRunActivation(r.ctx, r.job("1", "11", "1001"), "", RunRequest{Role: "organisation-administrator", Scope: "/", For: time.Minute, Reason: "x", Handle: HandleDigest("h")})
	want(t, err, "not_eligible")
	_, err = r.RequestRunActivation(r.ctx, r.job("1", "11", "1001"), "", RunRequest{Role: "migrator", Scope: "nowhere", For: time.Minute, Reason: "x", Handle: HandleDigest("h")})
	want(t, err, "scope_malformed")
	_, err = r.RequestRunActivation(r.ctx, r.job("1", "11", "1001"), "", RunRequest{Role: "migrator", Handle: "h"})
	want(t, err, "handle_malformed")
	_, err = r.ask(workload(3, "1", "11", "test", "1001", "push", 1, r.now()))
	want(t, err, "not_eligible") // the stage deploy-test
	_, err = r.ask(r.job("1", "11", "7777"))
	want(t, err, "initiator_unknown")
	job := r.job("1", "11", "1001")
	_, err = r.ask(job)
	must(t, err)
	_, err = r.ask(job)
	want(t, err, "token_replayed")
	_, err = r.open(job)
	want(t, err, "token_replayed")
	// Automation asks for one approver more.
	id, err := r.ask(r.job("2", "21", "1099"))
	must(t, err)
	must(t, r.approve("cat", id))
	_, err = r.BeginActivation(r.ctx, Caller{Holder: id}, id)
	want(t, err, "approvals_missing")
	must(t, r.approve("eve", id))
	_, err = r.BeginActivation(r.ctx, Caller{Holder: id}, id)
	must(t, err)
}

// It ends with the job's deployment, and takes the lease along when it is revoked or
// lapses; neither lease nor token outlives it (invariants 6 and 7).
func TestRunActivationEnds(t *testing.T) {
	for how, status := range map[string]Status{"done": Succeeded, "revoked": Revoked, "not eligible": Revoked, "its time": Indeterminate, "demanded no more": Running} {
		t.Run(how, func(t *testing.T) {
			r := withRuns(t)
			a := r.active("1", "11")
			r.clock.Store(int64(18 * time.Minute))
			id := r.running("1", "11")
			d, err := r.Deployment(r.ctx, Caller{Holder: id}, id)
			must(t, err)
			if a.Ends.Before(d.Lease.Ends) || a.Ends.Before(d.Lease.Limit) {
				t.Errorf("the lease ends at %s, %s at most, the activation at %s", d.Lease.Ends, d.Lease.Limit, a.Ends)
			}
			r.clock.Add(int64(30 * time.Second))
			tok, err := r.Exchange(r.ctx, r.tokenOf("1", "11"), id, "h", "https://target.example")
			must(t, err)
			if a.Ends.Before(tok.Expires) {
				t.Errorf("a token ends at %s, the activation at %s", tok.Expires, a.Ends)
			}
			switch how {
			case "done":
				must(t, r.End(r.ctx, Caller{Holder: id}, id, 0))
				_, err = r.open(r.job("1", "11", "1001"))
				want(t, err, "activation_missing")
			case "revoked":
				must(t, r.EndActivation(r.ctx, Caller{User: "dora"}, a.ID, "no"))
			case "not eligible":
				r.apply("release/deploy\", scope", "release/build\", scope")
			case "its time":
				r.clock.Store(int64(20*time.Minute + time.Millisecond))
			case "demanded no more":
				r.apply("activation: migrator\n", "") // easier: the ask goes on being held to it
				must(t, r.EndActivation(r.ctx, Caller{User: "dora"}, a.ID, "no"))
				status = Revoked
			}
			_, err = do[any](r.ctx, r.Keeper, Caller{Keeper: true}, "", sweep{})
			must(t, err)
			d, err = r.Deployment(r.ctx, Caller{Holder: id}, id)
			must(t, err)
			if d.Status != status {
				t.Errorf("it is %s, want %s: %+v", d.Status, status, d.End)
			}
			if _, err := r.Exchange(r.ctx, r.tokenOf("1", "11"), id, "h", "https://target.example"); err == nil {
				t.Error("another token")
			}
			if list := r.read().Activations; len(list) > 0 {
				t.Errorf("%d activations are left", len(list))
			}
		})
	}
}

// A lease that the clock has ended ends the activation at that moment, before
// anything is written down.
func TestRunActivationEndsWithTheLease(t *testing.T) {
	r := withRuns(t)
	r.active("1", "11")
	r.running("1", "11")
	for _, at := range []time.Duration{3 * time.Minute, 5 * time.Minute} {
		r.clock.Store(int64(at))
		_, err := r.open(r.job("1", "11", "1001"))
		if over := at > 4*time.Minute; over != (codeOf(err) == "activation_missing") {
			t.Errorf("after %s: %v", at, err)
		}
	}
}
