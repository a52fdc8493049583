package effect

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// delivery has a pipeline whose stage is eligible for operator and may obtain an
// identity, for whose account in Azure the provisioner assigns the role.
const delivery = `{kind: User, name: starter, ids: [{provider: ci, id: "1001"}]}
---
{kind: Provider, name: ci, platform: github, issuer: "https://ci.example"}
---
{kind: Pipeline, name: release, project: p, provider: ci, organisation: "7001", repository: "8001", definition: release.yml, stages: [{name: deploy, trust: {events: [push], refs: [refs/heads/main]}}]}
---
{kind: Identity, name: deployer, project: p, environment: e, audiences: ["https://target.example"], stages: [release/deploy]}
---
{kind: Assignment, name: runs, role: operator, principal: "workload:p/release/deploy", scope: /projects/p/environments/e, eligible: true}
---
`

// TestAzureRun assigns the role to the service principal of a run's identity for as long
// as the run has activated it (the published example with the principalType
// ServicePrincipal), and takes it away when the job says that it has ended, and when the
// clock says so.
func TestAzureRun(t *testing.T) {
	for _, how := range []string{"the job ends it", "the clock"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := clouded(t)
			c.kind = "ServicePrincipal"
			s := staged(t, delivery+strings.Replace(azureProvisioner, "user: ann", "identity: p/deployer", 1))
			c.keys = func() []byte {
				set, err := s.k.KeySet()
				if err != nil {
					t.Error(err)
				}
				return set
			}
			s.scans(func(o *Options) { o.Azure, o.Longest = AzureCloud{c.URL, c.URL}, 4*time.Second })
			ctx := context.Background()
			f, now := lockkeeper.SignedFact, lockkeeper.MomentOf(time.Now())
			job := lockkeeper.Workload{Provider: "ci", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", "1"), Issued: now, Expires: now.Add(5 * time.Minute),
				Organisation: f("7001"), Repository: f("8001"), RepositoryName: f("acme/p"), Run: f("1"), Attempt: 1, Job: f("11"), Event: f("push"), Ref: f("refs/heads/main"), RefType: f("branch"),
				Commit: f("1111111111111111111111111111111111111111"), Runner: f("hosted"), DefinitionPath: f("release.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f("1111111111111111111111111111111111111111"), Actor: f("1001")}
			id, err := s.k.RequestRunActivation(ctx, job, "", keeper.RunRequest{Role: "operator", Scope: "/projects/p/environments/e", For: 20 * time.Minute, Reason: "migrate", Handle: keeper.HandleDigest("h")})
			s.must(err)
			by := keeper.Caller{Holder: id}
			a, err := s.k.BeginActivation(ctx, by, id)
			s.must(err)
			s.until("granted")
			if d := s.k.Openings(a.ID)["cloud"]; d.Status != "granted" || c.ours() == "" || a.Run == nil {
				t.Errorf("%+v %+v", d, a)
			}
			s.drifts("cloud", "")
			if how == "the clock" {
				s.ahead.Add(int64(21 * time.Minute))
			} else {
				s.must(s.k.EndRunActivation(ctx, by))
			}
			s.until("")
			if c.count() != 0 || len(c.wrong) > 0 {
				t.Errorf("%d assignments are left; wrongly asked: %v", c.count(), c.wrong)
			}
		})
	}
}
