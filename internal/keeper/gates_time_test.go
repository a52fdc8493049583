package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
)

// scanned brings a report of known vulnerabilities of the artifact, whose data base was
// of an instant.
func (c *deploying) scanned(database, at time.Duration, found ...evidence.Finding) {
	c.t.Helper()
	j := c.job(fmt.Sprint("scan", c.n), "10", "", "1001", at)
	must(c.t, c.as(Caller{Workload: &j}, addEvidence{Job: j, Artifacts: []lockkeeper.Artifact{app}, Pieces: []readPiece{{ID: fmt.Sprint("ev-", c.n), Name: "scanner", Content: app.Digest, Size: 1,
		Summary: evidence.Summary{Kind: evidence.Vulnerabilities, Format: "test", Vulnerabilities: &evidence.Report{Database: began.Add(database), Findings: found}}}}}, at))
}

// Evidence grows old, by its own age and by that of the knowledge it was made with; that is
// judged at the release, whatever passed before, and of what runs an alert says so.
func TestGates14EvidenceGrowsOld(t *testing.T) {
	text := rulesWith("  - name: build\n", "  - name: build\n    evidence: [vulnerabilities]\n", "<latest>", "checks: [{name: known, vulnerabilities: {age: 20m, database: 15m}}]\n")
	c := deployCore(t, text)
	must(t, c.open("d-t", c.job("1", "11", "test", "1001", 0), "test", 0))
	c.scanned(0, time.Minute)
	passes := func(at time.Duration) string {
		t.Helper()
		d := c.Deployments["d-t"]
		f, err := c.facts(d, began.Add(at))
		must(t, err)
		v := c.judge(d, f, began.Add(at))
		if v.Passed(began.Add(at)) {
			return ""
		}
		return v.Code
	}
	claims := func(at time.Duration) string {
		return saying(c.claim("d-t", c.job("1", "11", "test", "1001", at), at))
	}
	if got := passes(15*time.Minute - time.Millisecond); got != "" {
		t.Fatalf("fresh: %q", got)
	}
	if got := claims(15 * time.Minute); got != "vulnerabilities_bad" {
		t.Errorf("its data base is old: %q", got)
	}
	c.scanned(15*time.Minute, 16*time.Minute)
	if got := passes(16 * time.Minute); got != "" {
		t.Errorf("anew: %q", got)
	}
	// Younger knowledge in a report that is too old itself helps nothing.
	c.rules = mustRules(t, strings.Replace(text, "age: 20m, database: 15m", "age: 2m, database: 15m", 1))
	if got := claims(18 * time.Minute); got != "evidence_stale" {
		t.Errorf("the report is old: %q", got)
	}
	c.rules = mustRules(t, strings.Replace(text, "age: 20m, database: 15m", "age: 20h, database: 15h", 1))
	if got := claims(31 * time.Minute); got == "" {
		t.Error("released by an age that was raised while it waited")
	}

	// Of what runs: known at the release to be good, and not any more.
	var at time.Duration
	k, _ := startedWith(t, text, Options{Clock: func() time.Time { return began.Add(at).Time() }})
	ctx := context.Background()
	bring := func(found ...evidence.Finding) {
		t.Helper()
		c.n++
		j := workload(c.n, fmt.Sprint(c.n), "10", "", "1001", "push", 1, k.now())
		_, err := do[any](ctx, k, Caller{Workload: &j}, "", addEvidence{Job: j, Artifacts: []lockkeeper.Artifact{app}, Pieces: []readPiece{{ID: fmt.Sprint("ev-", c.n), Name: "scanner", Content: app.Digest, Size: 1,
			Summary: evidence.Summary{Kind: evidence.Vulnerabilities, Format: "test", Vulnerabilities: &evidence.Report{Database: k.now(), Findings: found}}}}})
		must(t, err)
	}
	outdated := func() string {
		t.Helper()
		list, err := k.Alerts(ctx, Caller{User: "dora"}, Thresholds{})
		must(t, err)
		for _, a := range list {
			if a.Kind == "evidence_outdated" {
				return strings.Join(a.Evidence, " ")
			}
		}
		return ""
	}
	bring()
	j := workload(500, "500", "11", "test", "1001", "push", 1, k.now())
	id, err := k.OpenDeployment(ctx, j, "", OpenDeployment{Environment: "test", Artifacts: []lockkeeper.Artifact{app}, Handle: HandleDigest("h")})
	must(t, err)
	must(t, k.Claim(ctx, j, id, "h"))
	must(t, k.End(ctx, Caller{Holder: id}, id, 0))
	if got := outdated(); got != "" {
		t.Errorf("nothing is wrong: %s", got)
	}
	at = time.Minute
	bring(evidence.Finding{ID: "CVE-1", Package: "pkg:x/a@1", Severity: evidence.Critical})
	if got := outdated(); !strings.Contains(got, "vulnerabilities_bad") {
		t.Errorf("a vulnerability became known: %q", got)
	}
	at = 2 * time.Minute
	bring()
	if got := outdated(); got != "" {
		t.Errorf("it is withdrawn: %s", got)
	}
	at = time.Hour
	if got := outdated(); got == "" {
		t.Error("nobody has looked for an hour, and nothing says so")
	}
}

// The gate is judged and the lease granted in one decision: a freeze, a revocation, another
// catalog stand before it in the journal, or behind it, and never within.
func TestGates17OneDecision(t *testing.T) {
	ctx := context.Background()
	k, _ := started(t, Options{})
	artifacts := []lockkeeper.Artifact{app}
	_, err := k.RecordArtifacts(ctx, workload(1, "1", "10", "", "1001", "push", 1, k.now()), "", artifacts)
	must(t, err)
	revision, _ := k.Revision()
	const rounds, claims = 12, 6
	for round := range rounds {
		var ids []string
		var jobs []lockkeeper.Workload
		for n := range claims {
			no := 100 + round*claims + n
			j := workload(no, fmt.Sprint(no), "11", "production", "1001", "push", 1, k.now())
			id, err := k.OpenDeployment(ctx, j, "", OpenDeployment{Environment: "production", Artifacts: artifacts, Handle: HandleDigest("h")})
			must(t, err)
			v, err := k.Deployment(ctx, Caller{Holder: id}, id)
			must(t, err)
			must(t, k.Vote(ctx, Caller{User: "bob"}, id, true, v.Digest, ""))
			must(t, k.Vote(ctx, Caller{User: "cat"}, id, true, v.Digest, ""))
			ids, jobs = append(ids, id), append(jobs, j)
		}
		var all sync.WaitGroup
		for i, id := range ids {
			all.Go(func() { _ = k.Claim(ctx, jobs[i], id, "h") })
		}
		all.Go(func() {
			switch round % 3 {
			case 0:
				f, err := k.StartFreeze(ctx, Caller{User: "dora"}, "", StartFreeze{Scope: "/projects/payments", For: time.Minute, Reason: "stop", InFlight: "abort"})
				if err == nil {
					defer func() { _, _ = do[any](ctx, k, Caller{Keeper: true}, "", planted{&freezeEnded{ID: f.ID}}) }()
				}
			case 1:
				text := rulesWith("<bob>", "\noff: true")
				if applied, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, text), revision.Number, "off"); err == nil {
					back, err := k.Apply(ctx, Caller{User: "dora"}, readRules(t, rulesWith()), applied.Revision, "on")
					if err != nil {
						t.Error(err)
					}
					revision.Number = back.Revision
				}
			case 2:
				for _, id := range ids {
					_ = k.Withdraw(ctx, Caller{User: "bob"}, id, "no")
				}
			}
		})
		all.Wait()
		for _, id := range ids {
			_ = k.Cancel(ctx, Caller{User: "dora"}, id, "next")
		}
	}

	// The journal, read by itself: no lease while it is frozen, bob is off, or has taken back.
	frozen, off, withdrawn, leases, stopped := 0, false, map[string]bool{}, 0, 0
	catalogs := map[lockkeeper.Digest]bool{readRules(t, rulesWith("<bob>", "\noff: true")).Digest(): true}
	for stored, err := range k.journal.Entries(ctx, 0, 0) {
		must(t, err)
		e, body, err := readEntry(stored.Data)
		must(t, err)
		switch ev := body.(type) {
		case *freezeStarted:
			frozen, stopped = frozen+1, stopped+1
		case *freezeEnded:
			frozen--
		case *catalogApplied:
			off = catalogs[ev.Digest]
			stopped++
		case *approvalWithdrawn:
			withdrawn[ev.ID] = true
			stopped++
		case *leaseGranted:
			leases++
			if frozen > 0 || off || withdrawn[ev.Deployment] {
				t.Errorf("entry %d grants a lease: frozen %d, bob off %v, withdrawn %v", e.Seq, frozen, off, withdrawn[ev.Deployment])
			}
		}
	}
	if leases == 0 || stopped < rounds {
		t.Errorf("%d leases, %d stops: nothing was raced", leases, stopped)
	}
}

// planted are events that a test records as they are.
type planted []event

func (planted) name() string  { return "planted" }
func (planted) about() string { return "" }
func (p planted) decide(*world, Caller, lockkeeper.Moment) ([]event, any, error) {
	return p, nil, nil
}

// What the catalog demanded at the opening goes on being demanded, what it demands now is
// demanded, too, and the lease says under which revision that was.
func TestGates18ThenAndNow(t *testing.T) {
	plain := rulesWith()
	two := strings.Replace(plain, "approval: {count: 1, groups: [managers]}", "approval: {count: 2, groups: [managers]}", 1)
	for name, c := range map[string]struct{ then, now, code string }{
		"the same":              {plain, plain, ""},
		"stricter since":        {plain, two, "approvals_missing"},
		"looser since":          {two, plain, "approvals_missing"},
		"one check more":        {plain, strings.Replace(plain, "  - name: main\n", "  - {name: soak, delay: {for: 1h}}\n  - name: main\n", 1), "delayed"},
		"one check less":        {strings.Replace(plain, "  - name: main\n", "  - {name: soak, delay: {for: 1h}}\n  - name: main\n", 1), plain, "delayed"},
		"only observed since":   {two, strings.Replace(plain, "patience: 2h\n", "patience: 2h\nmode: observe\n", 1), "approvals_missing"},
		"the branch is barred":  {plain, strings.Replace(plain, "allowed: [refs/heads/main]}", "allowed: [refs/heads/release]}", 1), "branch_not_allowed"},
		"the stage is unnamed":  {plain, strings.Replace(plain, "stages: [release/deploy]", "stages: [release/deploy-test]", 1), "stage_not_named"},
		"less patience":         {plain, strings.Replace(plain, "patience: 2h", "patience: 1m", 1), "timed_out"},
		"more patience":         {strings.Replace(plain, "patience: 2h", "patience: 1m", 1), plain, "timed_out"},
		"the environment went":  {plain, plain[:strings.Index(plain, "kind: Environment\nname: production")] + plain[strings.Index(plain, "kind: Environment\nname: test"):strings.Index(plain, "kind: Identity\nname: payments-production")] + plain[strings.Index(plain, "kind: Identity\nname: payments-test"):], "environment_unknown"},
		"younger records asked": {plain, strings.Replace(plain, "patience: 2h\n", "patience: 2h\nrecordAge: 1m\n", 1), "artifact_stale"},
	} {
		k := deployCore(t, c.then)
		k.waiting("1")
		k.approved()
		k.rules, k.Revision.Number = mustRules(t, c.now), 7
		if got := saying(k.claimA(2 * time.Minute)); got != c.code {
			t.Errorf("%s: %q, want %q", name, got, c.code)
		}
		if l := deploymentLease(k); c.code == "" && (l == nil || l.Limit.Sub(l.Started) != 10*time.Minute) || c.code != "" && l != nil {
			t.Errorf("%s: the lease %+v", name, l)
		}
	}
	k := deployCore(t, plain)
	k.waiting("1")
	k.approved()
	k.Revision.Number = 7
	j := k.job("1", "11", "production", "1001", 2*time.Second)
	s, err := k.step(Caller{Workload: &j}, "", claimLease{Deployment: "d-a", Lease: "l", Job: j, Handle: HandleDigest("h")}, began.Add(2*time.Second))
	must(t, err)
	if i := slices.IndexFunc(s.events, func(ev event) bool { l, is := ev.(*leaseGranted); return is && l.Revision == 7 }); i < 0 {
		t.Errorf("no lease says that it was granted under revision 7: %v %v", s.err, s.events)
	}
}

func deploymentLease(c *deploying) *Lease {
	if d := c.Deployments["d-a"]; d != nil {
		return d.Lease
	}
	return nil
}
