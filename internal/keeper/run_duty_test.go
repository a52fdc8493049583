package keeper

import (
	"strings"
	"testing"
	"time"
)

const (
	runAccount = "55555555-5555-4555-8555-555555555555"
	runCloud   = `---
{kind: Provisioner, name: cloud, role: migrator, scope: /projects/payments/environments/production, azure: {tenant: 11111111-1111-4111-8111-111111111111, client: 22222222-2222-4222-8222-222222222222, resource: /subscriptions/33333333-3333-4333-8333-333333333333, roleDefinition: 0b5fe924-9a61-425c-96af-cfe6e287ca2d, principals: [{user: ann, id: 44444444-4444-4444-8444-444444444444}, {identity: payments/payments-production, id: 55555555-5555-4555-8555-555555555555}, {identity: payments/payments-test, id: 66666666-6666-4666-8666-666666666666}]}}
---
{kind: Provisioner, name: people, role: migrator, scope: /projects/payments/environments/production, postgresql: {roles: [reading]}}
---
{kind: Provisioner, name: others, role: migrator, scope: /projects/payments/environments/production, azure: {tenant: 11111111-1111-4111-8111-111111111111, client: 22222222-2222-4222-8222-222222222222, resource: /subscriptions/33333333-3333-4333-8333-333333333333, roleDefinition: 0b5fe924-9a61-425c-96af-cfe6e287ca2d, principals: [{identity: payments/payments-test, id: 66666666-6666-4666-8666-666666666666}]}}
`
)

// withCloud is withRuns with a provisioner for the account of the production identity,
// and others that are not for its runs.
func withCloud(t *testing.T) *runs {
	return withRuns(t, "{kind: Role, name: migrator", runCloud[4:]+"---\n{kind: Role, name: migrator")
}

// doing is what workers may set about now.
func (r *runs) doing() string {
	var out []string
	for _, e := range r.Effects() {
		out = append(out, e.Verb+" "+e.Duty.Provisioner+" "+e.Duty.Account)
	}
	return strings.Join(out, ", ")
}

// work lets what is to be done go well.
func (r *runs) work() {
	r.Helper()
	for _, e := range r.Effects() {
		begun, err := r.BeginEffect(r.ctx, e, 30*time.Second)
		must(r.T, err)
		must(r.T, r.EndEffect(r.ctx, begun, Outcome{}))
	}
}

// A run opens the account of the identity that its stage may obtain, and nothing that is
// for people or other identities; and whatever takes the run, the eligibility, the
// identity or a person behind it takes the account (invariants 6, 7 and 12).
func TestRunOpensTheAccountOfItsIdentity(t *testing.T) {
	for how, end := range map[string]func(r *runs, a Activation){
		"its deployment ends": func(r *runs, _ Activation) {
			id := r.running("1", "11")
			if got := r.doing(); got != "" {
				r.Errorf("while it deploys: %s", got)
			}
			must(r.T, r.End(r.ctx, Caller{Holder: id}, id, 0))
		},
		"the job ends it": func(r *runs, a Activation) { must(r.T, r.EndRunActivation(r.ctx, Caller{Holder: a.Request})) },
		"it is revoked":   func(r *runs, a Activation) { must(r.T, r.EndActivation(r.ctx, Caller{User: "dora"}, a.ID, "no")) },
		"the clock":       func(r *runs, _ Activation) { r.clock.Store(int64(21 * time.Minute)) },
		"the eligibility": func(r *runs, _ Activation) {
			r.apply("{kind: Role, name: migrator", runCloud[4:]+"---\n{kind: Role, name: migrator", "release/deploy\", scope", "release/build\", scope")
		},
		"another identity": func(r *runs, _ Activation) {
			r.apply("{kind: Role, name: migrator", runCloud[4:]+"---\n{kind: Role, name: migrator", "stages: [release/deploy]", "stages: [release/deploy-test]")
		},
		"another account": func(r *runs, _ Activation) {
			r.apply("{kind: Role, name: migrator", strings.ReplaceAll(runCloud[4:], "55555555-5555", "77777777-5555")+"---\n{kind: Role, name: migrator")
		},
		"who started it": func(r *runs, _ Activation) {
			r.apply("{kind: Role, name: migrator", runCloud[4:]+"---\n{kind: Role, name: migrator", "name: ann\n", "name: ann\noff: true\n")
		},
		"an incident": func(r *runs, _ Activation) {
			_, err := r.DeclareIncident(r.ctx, Caller{User: "dora"}, "", OpenIncident{Title: "x", Quarantine: []string{"pipeline:payments/release"}})
			must(r.T, err)
		},
	} {
		t.Run(how, func(t *testing.T) {
			r := withCloud(t)
			id, err := r.ask(r.job("1", "11", "1001"))
			must(t, err)
			if v, err := r.Request(r.ctx, Caller{User: "eve"}, id); err != nil || len(v.Opens) != 1 || v.Opens[0].Provisioner != "cloud" || v.Opens[0].Kind != "azure" {
				t.Fatalf("whoever approves does not see what it opens: %v %+v", err, v.Opens)
			}
			if got := r.doing(); got != "" {
				t.Errorf("before it is begun: %s", got)
			}
			must(t, r.approve("cat", id))
			a, err := r.BeginActivation(r.ctx, Caller{Holder: id}, id)
			must(t, err)
			if got := r.doing(); got != "grant cloud "+runAccount {
				t.Fatalf("it is to %q", got)
			}
			r.work()
			if d := r.read().Duties; len(d) != 1 {
				t.Fatalf("%+v", d)
			}
			end(r, a)
			if got := r.doing(); got != "revoke cloud "+runAccount {
				t.Fatalf("after the end it is to %q", got)
			}
			r.work()
			r.clock.Add(int64(time.Minute))
			r.work()
			_, err = do[any](r.ctx, r.Keeper, Caller{Keeper: true}, "", sweep{})
			must(t, err)
			if d := r.read().Duties; len(d) != 0 {
				t.Errorf("a duty is left: %+v", d)
			}
		})
	}
}

// Two runs that have the account at once are counted, and nobody behind a run attests
// that its account was removed.
func TestRunAccountIsCounted(t *testing.T) {
	r := withCloud(t)
	a, b := r.active("1", "11"), r.active("2", "21")
	r.work()
	r.work()
	must(t, r.EndActivation(r.ctx, Caller{User: "dora"}, a.ID, "no"))
	r.clock.Add(int64(time.Minute))
	if got := r.doing(); got != "" {
		t.Errorf("the first end is to %s", got)
	}
	must(t, r.EndRunActivation(r.ctx, Caller{Holder: b.Request}))
	must(t, r.EndRunActivation(r.ctx, Caller{Holder: b.Request})) // again
	must(t, r.EndRunActivation(r.ctx, Caller{Holder: "r-other"}))
	_, err := do[any](r.ctx, r.Keeper, Caller{Keeper: true}, "", sweep{})
	must(t, err)
	e := r.Effects()[0]
	begun, err := r.BeginEffect(r.ctx, e, 30*time.Second)
	must(t, err)
	must(t, r.EndEffect(r.ctx, begun, Outcome{Code: "target_failed"}))
	r.clock.Add(int64(time.Minute))
	r.apply("{kind: Role, name: migrator", runCloud[4:]+"---\n{kind: Role, name: migrator", "role: access-approver, principal: group:security", "role: access-administrator, principal: group:managers")
	_, err = r.AttestDuty(r.ctx, Caller{User: "ann"}, e.Duty.ID, "it is gone")
	want(t, err, "own_duty")
	_, err = r.AttestDuty(r.ctx, Caller{User: "cat"}, e.Duty.ID, "it is gone")
	must(t, err)
	if err := r.EndRunActivation(r.ctx, Caller{}); err != nil {
		t.Errorf("nobody's handle: %v", err)
	}
}
