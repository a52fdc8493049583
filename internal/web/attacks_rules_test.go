package web

import "strings"

// elsewhere is what stands beside the rules of a world: a pipeline on each
// platform, and stages that run in reusable definitions.
const elsewhere = `
---
{kind: Provider, name: gitlab, platform: gitlab, issuer: ISSUER/gitlab, longest: 2h}
---
{kind: Provider, name: azure, platform: azure, issuer: ISSUER/11111111-2222-3333-4444-555555555555, api: AZURE}
---
{kind: Provider, name: cluster, platform: kubernetes, issuer: ISSUER/cluster}
---
{kind: Provider, name: dead, platform: gitlab, issuer: "http://127.0.0.1:1"}
---
kind: Provider
name: circle
platform: oidc
issuer: ISSUER/circle
claims:
  - {fact: repository, claim: oidc.circleci.com/project-id}
  - {fact: run, claim: oidc.circleci.com/workflow-id}
  - {fact: job, claim: oidc.circleci.com/job-id}
  - {fact: actor, claim: user}
  - {fact: repository_name, claim: oidc.circleci.com/vcs-origin}
  - {fact: ref, claim: oidc.circleci.com/vcs-ref}
---
{kind: User, name: robot, automation: true, ids: [{provider: cluster, id: 61111111-2222-3333-4444-555555555555}]}
---
kind: Pipeline
name: lab
project: payments
provider: gitlab
organisation: "72"
repository: "20"
definition: .gitlab-ci.yml
stages:
  - {name: deploy, trust: {environment: production, events: [push], refs: [refs/heads/main], rule: 'job.environment_protected == "true"'}}
---
kind: Pipeline
name: devops
project: payments
provider: azure
organisation: 11111111-2222-3333-4444-555555555555
teamProject: 21111111-2222-3333-4444-555555555555
repository: 71111111-2222-3333-4444-555555555555
definition: "42"
stages:
  - {name: build, trust: {stage: Build, events: [individualCI], refs: [refs/heads/main]}}
  - {name: deploy, trust: {stage: Deploy, events: [individualCI], refs: [refs/heads/main]}}
---
kind: Pipeline
name: pods
project: payments
provider: cluster
repository: ci
stages:
  - {name: deploy, trust: {serviceAccount: 61111111-2222-3333-4444-555555555555}}
---
kind: Pipeline
name: circle
project: payments
provider: circle
repository: p1
stages:
  - {name: deploy, trust: {refs: [refs/heads/main], rule: 'job.repository_name == "https://github.com/acme/payments" && job.ref == "refs/heads/main"'}}
---
kind: Pipeline
name: shared
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: .github/workflows/shared.yml
stages:
  - {name: pinned, trust: {environment: pinned, called: acme/shared/.github/workflows/deploy.yml, events: [push], refs: [refs/heads/main]}}
  - {name: odd, trust: {environment: odd, events: [push], refs: ["refs/heads/a|refs/heads/b", refs/heads/release/1, refs/heads/release/1/x]}}
---
kind: Pipeline
name: tagged
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: .github/workflows/tagged.yml
stages:
  - {name: deploy, trust: {environment: tagged, called: acme/shared/.github/workflows/deploy.yml, events: [push], refs: [refs/heads/main]}}
---
{kind: Environment, name: lab, project: payments, tier: preproduction, checks: [{name: main, branches: {allowed: [refs/heads/main], protected: true}}]}
---
{kind: Environment, name: devops, project: payments, tier: preproduction}
---
{kind: Environment, name: pods, project: payments, tier: preproduction, automation: true}
---
{kind: Environment, name: circle, project: payments, tier: development}
---
{kind: Environment, name: odd, project: payments, tier: preproduction, checks: [{name: refs, branches: {allowed: ["refs/heads/a|refs/heads/b", refs/heads/release/*]}}]}
---
kind: Environment
name: pinned
project: payments
tier: preproduction
checks: [{name: template, template: {allowed: [{path: acme/shared/.github/workflows/deploy.yml, commits: ["2222222222222222222222222222222222222222"]}]}}]
---
kind: Environment
name: tagged
project: payments
tier: preproduction
checks: [{name: template, template: {allowed: [{path: acme/shared/.github/workflows/deploy.yml, refs: [refs/tags/v1]}]}}]
---
{kind: Identity, name: lab, project: payments, environment: lab, audiences: ["https://target.example"], stages: [lab/deploy]}
---
{kind: Identity, name: devops, project: payments, environment: devops, audiences: ["https://target.example"], stages: [devops/deploy]}
---
{kind: Identity, name: pods, project: payments, environment: pods, audiences: ["https://target.example"], stages: [pods/deploy]}
---
{kind: Identity, name: circle, project: payments, environment: circle, audiences: ["https://target.example"], stages: [circle/deploy]}
---
{kind: Identity, name: odd, project: payments, environment: odd, audiences: ["https://target.example"], stages: [shared/odd]}
---
{kind: Identity, name: pinned, project: payments, environment: pinned, audiences: ["https://target.example"], stages: [shared/pinned]}
---
{kind: Identity, name: tagged, project: payments, environment: tagged, audiences: ["https://target.example"], stages: [tagged/deploy]}
`

// arenaRules are the rules of a world and what stands elsewhere. A platform's
// token may live for a day: the keeper's clock is moved under it.
var arenaRules = strings.NewReplacer("platform: github\n", "platform: github\nlongest: 24h\n",
	`ids: [{provider: github, id: "1001"}]`, `ids: [{provider: github, id: "1001"}, {provider: gitlab, id: "1001"}, {provider: azure, id: a1111111-2222-3333-4444-555555555555}, {provider: circle, id: u1}]`).Replace(rules) + elsewhere
