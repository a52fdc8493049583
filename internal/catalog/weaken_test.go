package catalog

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// strictRules has every field of every kind, beside base.yaml.
const strictRules = `
kind: Environment
name: strict
project: shop
tier: production
lease: 30m
heartbeat: 2m
patience: 2h
recordAge: 24h
coolingOff: 36h
activation: little
persons: {write: 5, approve: 4}
checks:
  - {name: people, approval: {count: 1, groups: [leads], review: security, checklist: [{item: data, ask: No data leaves}, {item: logs, ask: Logs hold ids}], timeout: 1h, validity: 1h, instructions: look, signedIn: 12h, strong: true, escalate: {after: 30m, groups: [suspended]}}}
  - {name: more, approval: {count: 2, groups: [leads, release-managers], after: [people], review: security}}
  - {name: refs, branches: {allowed: [refs/heads/main]}}
  - {name: form, template: {allowed: [{path: a/b/c.yml, refs: [refs/tags/v1]}]}}
  - {name: rule, expression: {rule: ask.attempt == 1, message: m}}
  - {name: soak, delay: {for: 10m}}
  - {name: office, hours: {zone: UTC, windows: [{days: [monday], from: "09:00", to: "17:00"}], except: ["2026-12-25"]}}
  - {name: one, lock: {mode: sequential}}
---
{kind: Environment, name: waived, project: shop, title: t, tier: preproduction, checks: [{name: prot, branches: {allowed: [refs/heads/main], protected: true}}], waivers: [{demand: approval, owner: ann, until: 2027-02-01T00:00:00Z, reason: why}]}
---
{kind: Environment, name: spare, project: shop, tier: development}
---
{kind: Provisioner, name: database, role: little, scope: /projects/shop, postgresql: {roles: [reading]}}
---
{kind: Provisioner, name: hosts, role: little, scope: /projects/shop, ssh: {principals: [ops], lifetime: 10m, extensions: [permit-pty]}}
---
{kind: Provisioner, name: cloud, role: little, scope: /projects/shop, azure: {tenant: 11111111-1111-4111-8111-111111111111, client: 22222222-2222-4222-8222-222222222222, resource: /subscriptions/33333333-3333-4333-8333-333333333333/resourceGroups/shop, roleDefinition: 0b5fe924-9a61-425c-96af-cfe6e287ca2d, principals: [{user: bob, id: 44444444-4444-4444-8444-444444444444}]}}
---
{kind: Provisioner, name: hook, role: little, scope: /projects/shop, webhook: {url: "https://hook.example.com"}}
---
{kind: Freeze, name: quiet, scope: /projects/shop, from: 2026-12-20T00:00:00Z, until: 2027-01-04T00:00:00Z, reason: r}
---
{kind: Role, name: little, title: t, actions: [deployments/read, catalog/read], notActions: [catalog/read]}
---
{kind: Role, name: forbidden, actions: [deployments/approve, deployments/start]}
---
{kind: Assignment, name: never, role: forbidden, principal: user:bob, scope: /, deny: true, end: 2028-01-01T00:00:00Z}
---
{kind: Assignment, name: suspension, role: forbidden, principal: group:suspended, scope: /, deny: true}
---
{kind: Group, name: suspended, title: t, users: [bob, off, gone], groups: [contractors]}
---
{kind: Group, name: contractors, users: [cid], groups: [juniors]}
---
{kind: Group, name: juniors, users: [two]}
---
{kind: Group, name: left, users: [two], groups: [contractors]}
---
{kind: User, name: sig, signIns: [{directory: corp, subject: s1}]}
---
{kind: User, name: cam}
---
{kind: Directory, name: corp, title: t, platform: keycloak, issuer: "https://id.example.com/realms/a", client: lk, scopes: [profile, groups], claim: uid, groupClaim: teams, groups: [{id: g1, group: leads}, {id: g2, group: contractors}], groupAge: 1h, session: 2h, idle: 30m}
---
{kind: Directory, name: push, platform: okta, issuer: "https://push.example.com", client: c, scim: true, scimSubject: userName, scimGroups: externalId}
---
{kind: User, name: pushed, signIns: [{directory: push, subject: p1}, {directory: push, subject: p2}]}
---
{kind: Directory, name: plain, platform: oidc, issuer: "https://plain.example.com", client: c}
---
{kind: Directory, name: tenant, platform: entra, tenant: 0e7a0b1c-0000-4000-8000-000000000001, client: c}
---
{kind: Directory, name: gmail, platform: google, domain: example.com, client: c}
---
{kind: ActivationRule, name: elevate, role: little, scope: /projects/shop, longest: 1h, patience: 2h, ticket: "CHG[0-9]+", stepUp: 15m, strong: true, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}], extensions: 0, coolingOff: 24h, hours: {zone: UTC, windows: [{days: [tuesday], from: "08:00", to: "12:00"}]}}
---
{kind: ActivationRule, name: elevate-all, role: little, scope: /, longest: 8h, patience: 4h}
---
{kind: ActivationRule, name: asking, role: little, scope: /projects/shop, ticket: "INC[0-9]+", uses: 5, bound: session, ticketCall: {whenAway: {count: 2, groups: [leads]}, call: {url: "https://tickets.example.com/{ticket}", method: GET, criteria: body.ok == true, headers: [{name: Accept, value: text/json}], timeout: 5s, retry: 10s, within: 1m, signed: true, token: {tokenURL: "https://login.example.com/token", client: lk, scope: read, audience: tickets}}}}
---
{kind: ActivationRule, name: glass, role: little, scope: /, breakGlass: {budget: 3, longest: 30m, review: 24h, reviewers: {count: 2, groups: [leads]}}}
---
{kind: Assignment, name: some, role: little, principal: user:bob, scope: /projects/shop, start: 2026-12-01T00:00:00Z, end: 2027-01-01T00:00:00Z}
---
{kind: Signer, name: ci-key, title: t, key: "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAl8lqS/s9UsHNckPfCdS78zwahjtG4y1jtRH/ZrzGeFA=\n-----END PUBLIC KEY-----", builders: [{id: "https://build.example.com/a", level: 3}, {id: "https://build.example.com/b", level: 2}]}
---
{kind: Signer, name: other-key, key: "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAArdU/rZOaBFvi+93iK80IeLxcGFH7tcOabwz03Vd0DI=\n-----END PUBLIC KEY-----", builders: [{id: "https://build.example.com/a", level: 3}]}
---
{kind: Signer, name: hosted, keyless: {issuer: "https://token.example.com", subject: "https://example.com/a.yml@refs/heads/main", root: "sha256:abababababababababababababababababababababababababababababababab"}}
---
{kind: Pipeline, name: facts, project: shop, provider: ci, organisation: 77, repository: 12, definition: f.yml, stages: [{name: all, evidence: [tests, coverage, scan, sbom, vulnerabilities, vex, attestation, plan], trust: {events: [push], refs: [refs/heads/main]}}, {name: most, evidence: [tests, coverage, scan, sbom, vulnerabilities, attestation], trust: {environment: m, events: [push], refs: [refs/heads/main]}}]}
---
kind: Environment
name: proven
project: shop
tier: development
checks:
  - {name: unsure, shadow: true, delay: {for: 9m}}
  - {name: t, tests: {names: [unit, e2e], least: 10, skipped: 5, coverage: 80, from: [facts/all], age: 24h}}
  - {name: s, scan: {names: [sast], errors: 1, warnings: 9, from: [facts/all], age: 25h}}
  - {name: b, sbom: {least: 6, identified: 90, versioned: 91, licensed: 92, from: [facts/all], age: 26h}}
  - {name: v, vulnerabilities: {severity: medium, grace: 48h, database: 47h, from: [facts/all], age: 27h}}
  - {name: p, provenance: {signers: [ci-key], source: "https://git.example.com/a", builders: ["https://build.example.com/a"], buildTypes: ["https://type.example.com/a"], level: 2, from: [facts/all], age: 28h}}
  - {name: model, when: ask.attempt > 3, record: {kind: threat-model, groups: [leads, release-managers], count: 2, longest: 4000h, warn: 500h}}
  - {name: path, delay: {for: 9m30s}, actions: [deploy, rollback]}
  - {name: tf, plan: {kind: terraform, destroys: 2, from: [facts/all], age: 23h}}
  - {name: a, attestation: {type: "https://type.example.com/p", signers: [ci-key], rule: predicate.ok == true, message: mm, from: [facts/all], age: 29h}}
  - {name: c, call: {service: {url: "https://service.example.com/{parameter.x}", criteria: body.fine == true}, validity: 10m, within: 1h}}
  - {name: k, call: {service: {url: "https://service.example.com/k", criteria: body.fine == true, retry: 20s}, steady: {answers: 5, for: 4m}, within: 5h}}
  - {name: l, call: {service: {url: "https://service.example.com/l", criteria: body.fine == true}, callback: true}}
  - {name: m, metrics: {prometheus: "https://prometheus.example.com", query: up, below: "0.5", steady: {answers: 2}, retry: 30s, validity: 11m, within: 2h, token: {audience: prom}}}
  - {name: n, metrics: {prometheus: "https://prometheus.example.com", query: up, above: "0.5"}}
  - {name: o, change: {serviceNow: "https://acme.service-now.com", parameter: change, field: u_digest, state: "-2", retry: 31s, validity: 12m, within: 3h, token: {audience: snow}}}
---
{kind: Pipeline, name: seers, project: shop, provider: ci, organisation: 77, repository: 14, definition: f.yml, stages: [{name: see, running: [proven, first], trust: {events: [push], refs: [refs/heads/main]}}]}
---
kind: Environment
name: preset
project: shop
tier: development
checks:
  - {name: q, call: {service: {url: "https://service.example.com/{parameter.q}", places: [{name: parameter.q, pattern: "Q[0-9]+"}], criteria: body.fine == true}}}
  - {name: az, metrics: {azure: {resource: /subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g, metric: Http5xx, namespace: spaced, aggregation: Total, filter: A eq 'b', over: 6m, endpoint: "https://azure.example.com"}, each: true, below: "0.75"}}
  - {name: al, metrics: {azureAlerts: {subscription: 00000000-0000-0000-0000-000000000002, resourceGroup: alerting, resource: /subscriptions/00000000-0000-0000-0000-000000000002/r, rule: /subscriptions/00000000-0000-0000-0000-000000000002/x, severities: [Sev0, Sev1], endpoint: "https://arm.example.com"}}}
  - {name: js, metrics: {json: {url: "https://json.example.com", number: body.load, time: body.at, fresh: 7m}, below: "0.25"}}
  - {name: jc, change: {jira: "https://jira.example.com", parameter: issue, field: customfield_1, statuses: [Ready], category: done, window: {start: customfield_2, end: customfield_3}}}
  - {name: jd, change: {jira: "https://jira.example.com/dc", dataCenter: true, parameter: issue, field: customfield_4}}
---
{kind: Environment, name: first, project: shop, tier: development}
---
{kind: Environment, name: second, project: shop, tier: development}
---
{kind: Policy, name: strict, title: t, rego: "package a\ndefault allow := false\nallow if input.ask.ref == \"refs/heads/main\"", tests: "package a_test\ntest_a if true"}
---
{kind: Policy, name: other, rego: "package b\nallow := true"}
---
{kind: Environment, name: ruled, project: shop, tier: development, checks: [{name: r, policy: {name: strict, age: 22h, validity: 7m}}]}
---
kind: Environment
name: last
project: shop
tier: development
checks:
  - {name: each, promotion: {environments: [first, second], soak: 2h, age: 48h}}
  - {name: one, promotion: {environments: [first, second], any: true, tests: {names: [smoke, e2e], from: [facts/all], age: 23h}}}
---
{kind: Separation, name: apart, title: t, scope: /projects/shop, mode: hold, actions: [[deployments/start, deployments/cancel], [journal/export]]}
---
{kind: Role, name: local, actions: [deployments/read], scopes: [/projects/shop]}
---
{kind: Assignment, name: if, role: little, principal: user:bob, scope: /projects/shop, condition: tier == "development"}
---
{kind: Assignment, name: maybe, role: little, principal: user:one, scope: /projects/shop, eligible: true}
---
{kind: User, name: off, off: true}
---
{kind: User, name: two, title: t, person: one, ids: [{provider: ci, id: 2002}]}
---
{kind: User, name: one}
---
{kind: Freeze, name: weekends, scope: /projects/shop, from: 2026-01-01T00:00:00Z, reason: w, zone: Europe/Zurich, windows: [{days: [friday], from: "18:00", to: "08:00", nights: 3}, {monthDays: [28, last]}, {dates: ["12-24"]}], except: ["2026-12-25"], exempt: [leads], inFlight: noTokens}
---
{kind: FreezeRule, name: halts, scope: /projects/shop, longest: 24h}
---
{kind: Notification, name: alarm, title: t, via: mail, channel: post, to: [group:leads, user:one], about: [notices, alerts], urgent: [notices], quiet: {zone: UTC, windows: [{days: [sunday]}]}, digest: {at: ["08:00"], zone: UTC}}
---
{kind: Notification, name: often, via: slack, to: [group:leads], about: [alerts, reviews], digest: {every: 30m}}
---
{kind: Environment, name: over, project: shop, tier: development, checks: [{name: talk, approval: {count: 1, groups: [leads]}}, {name: later, delay: {for: 11m}, soft: true}], override: {count: 3, groups: [leads], signedIn: 10m, longest: 30m, patience: 20m, budget: 3, review: 24h, reviewers: {count: 2, groups: [leads]}}}
---
{kind: Pipeline, name: ship, project: shop, provider: ci, organisation: 77, repository: 5, definition: x.yml, stages: [{name: s, trust: {environment: e, events: [push], refs: [refs/heads/main], rule: 'job.attempt == 1'}}]}
---
{kind: Pipeline, name: side, project: shop, provider: ci, organisation: 77, repository: 6, definition: x.yml, stages: [{name: s, trust: {environment: g, events: [push], refs: [refs/heads/main]}}]}
---
{kind: Identity, name: ship, project: shop, environment: strict, audiences: [a], lifetime: 1m, stages: [ship/s]}
---
{kind: Provider, name: cj, platform: github, issuer: 'https://cj.example.com', longest: 10m, algorithms: [RS256]}
---
{kind: Provider, name: hub, platform: github, issuer: 'https://hub.example.com', app: {id: 5}}
---
{kind: Environment, name: stopped, project: shop, heldBy: hub, tier: development}
---
{kind: Provider, name: az, platform: azure, issuer: 'https://az.example.com/1', api: 'https://dev.azure.com/acme'}
---
{kind: Pipeline, name: az, project: shop, provider: az, organisation: 11111111-2222-3333-4444-555555555555, teamProject: 21111111-2222-3333-4444-555555555555, repository: r, definition: 42, stages: [{name: s, trust: {stage: Deploy, events: [manual], refs: [refs/heads/main]}}]}
---
{kind: Provider, name: k8s, platform: kubernetes, issuer: 'https://k8s.example.com'}
---
{kind: Pipeline, name: k8s, project: shop, provider: k8s, repository: jobs, stages: [{name: s, trust: {serviceAccount: 99999999-2222-3333-4444-555555555555}}]}
---
{kind: Provider, name: any, platform: oidc, issuer: 'https://any.example.com', claims: [{fact: repository, claim: r}, {fact: run, claim: n}, {fact: job, claim: j}, {fact: actor, claim: u}, {fact: commit, claim: c}]}
`

// A judgement says what a change of one field can do to protection. It has
// changes that weaken, or says why there is none.
type judgement struct {
	names  string // the field says which resource or entry it is: a change is another one, which …
	none   string // no change weakens, because …
	weaker []edit
	not    []edit // changes that weaken nothing
}

// An edit of strictRules. both: undone it weakens too, or cannot be judged.
type edit struct {
	from, to string
	both     bool
}

const another = "is reported as added or removed whole"

// judgements has one for every field of every kind. A new field needs one.
func judgements() map[string]judgement {
	forPeople := "it is for people and decides nothing"
	return map[string]judgement{
		"Project.Name": {names: another}, "Project.Title": {none: forPeople},

		"User.Name": {names: another}, "User.Title": {none: forPeople, not: []edit{{"name: two, title: t", "name: two", false}}},
		"User.Person":      {weaker: []edit{{", person: one", "", false}, {"person: one", "person: other", false}}},
		"User.IDs":         {weaker: []edit{{"id: 2002}]", "id: 2002}, {provider: ci, id: 2003}]", true}}},
		"User.SignIns":     {weaker: []edit{{"name: cam", "name: cam, signIns: [{directory: corp, subject: s9}]", false}, {", {directory: push, subject: p2}", "", true}}},
		"SignIn.Directory": {weaker: []edit{{"directory: corp, subject: s1", "directory: gmail, subject: s1", true}}},
		"SignIn.Subject":   {weaker: []edit{{"subject: s1", "subject: s2", true}}},
		"User.Off":         {weaker: []edit{{"name: off, off: true", "name: off", false}}},
		"User.Automation":  {weaker: []edit{{"name: two, title: t", "name: two, title: t, automation: true", true}}},

		"PlatformID.Provider": {weaker: []edit{{"provider: ci, id: 2002", "provider: cj, id: 2002", true}}},
		"PlatformID.ID":       {weaker: []edit{{"id: 2002", "id: 2003", true}}},

		"Group.Name": {names: another}, "Group.Title": {none: forPeople, not: []edit{{"name: suspended, title: t", "name: suspended", false}}},
		"Group.Users": {
			weaker: []edit{{"name: left, users: [two]", "name: left, users: [two, bob]", false}, {"users: [bob, off", "users: [off", true}, {"name: juniors, users: [two]", "name: juniors", true}},
			not:    []edit{{"name: left, users: [two], ", "name: left, ", true}}},
		"Group.Groups": {
			weaker: []edit{{"name: left, users: [two], groups: [contractors]", "name: left, users: [two], groups: [contractors, leads]", false}, {", gone], groups: [contractors]", ", gone]", true}, {"users: [cid], groups: [juniors]", "users: [cid]", true}},
			not:    []edit{{"users: [two], groups: [contractors]", "users: [two]", true}}},

		"Role.Name": {names: another}, "Role.Title": {none: forPeople, not: []edit{{"name: little, title: t", "name: little", false}}},
		"Role.Actions":    {weaker: []edit{{"actions: [deployments/read,", "actions: [deployments/read, deployments/start,", false}, {"[deployments/approve, deployments/start]", "[deployments/start]", true}}},
		"Role.NotActions": {weaker: []edit{{", notActions: [catalog/read]", "", false}, {"deployments/start]", "deployments/start], notActions: [deployments/start]", true}}},

		"Separation.Name": {names: another}, "Separation.Title": {none: forPeople, not: []edit{{"name: apart, title: t", "name: apart", false}}},
		"Separation.Scope":   {weaker: []edit{{"scope: /projects/shop, mode", "scope: /projects/shop/environments/strict, mode", false}}, not: []edit{{"scope: /projects/shop, mode", "scope: /, mode", false}}},
		"Separation.Mode":    {weaker: []edit{{"mode: hold, actions: [[deployments/start, deployments/cancel], [journal/export]]", "mode: use, actions: [[deployments/start], [deployments/approve]]", true}}},
		"Separation.Actions": {weaker: []edit{{"[deployments/start, deployments/cancel], [journal", "[deployments/start], [journal", false}}},
		"Role.Scopes": {weaker: []edit{{", scopes: [/projects/shop]", "", false}, {"scopes: [/projects/shop]", "scopes: [/projects/shop, /]", false}},
			not: []edit{{"notActions: [catalog/read]}", "notActions: [catalog/read], scopes: [/projects/shop]}", false}}},
		"Assignment.Condition": {weaker: []edit{{", condition: tier == \"development\"", "", false}, {"tier == \"development\"", "tier != \"production\"", true}, {"scope: /, deny: true, end", "scope: /, deny: true, condition: tier == \"production\", end", false}}},
		"Assignment.Except":    {weaker: []edit{{"scope: /, deny: true, end", "scope: /, deny: true, except: [user:ann], end", false}}},
		"Assignment.Here":      {weaker: []edit{{"scope: /, deny: true, end", "scope: /, deny: true, here: true, end", false}}},
		"Assignment.Name":      {names: another},
		"Assignment.Role":      {weaker: []edit{{"role: little, principal", "role: forbidden, principal", true}, {"name: never, role: forbidden", "name: never, role: little", true}}},
		"Assignment.Principal": {weaker: []edit{{"role: little, principal: user:bob", "role: little, principal: user:cid", true},
			{"role: forbidden, principal: group:suspended", "role: forbidden, principal: group:juniors", true}}},
		"Assignment.Scope":    {weaker: []edit{{"scope: /projects/shop, start", "scope: /projects/shop/environments/strict, start", true}, {"scope: /, deny: true, end", "scope: /projects/shop, deny: true, end", false}}},
		"Assignment.Deny":     {weaker: []edit{{", deny: true, end", ", end", false}}},
		"Assignment.Eligible": {weaker: []edit{{", eligible: true", "", false}}},
		"Assignment.Start":    {weaker: []edit{{"start: 2026-12-01T00:00:00Z, ", "", false}, {"start: 2026-12-01", "start: 2026-11-01", false}, {"scope: /, deny: true, end", "scope: /, deny: true, start: 2027-01-01T00:00:00Z, end", false}}},
		"Assignment.End":      {weaker: []edit{{", end: 2027-01-01T00:00:00Z", "", false}, {"end: 2027-01-01", "end: 2027-01-02", false}, {"end: 2028-01-01", "end: 2027-12-01", false}}},

		"Provider.Name": {names: another}, "Provider.Platform": {weaker: []edit{{"name: cj, platform: github", "name: cj, platform: gitlab", true}}},
		"Provider.Issuer":     {weaker: []edit{{"https://cj.example.com", "https://ck.example.com", true}}},
		"Provider.Audience":   {weaker: []edit{{"'https://cj.example.com'", "'https://cj.example.com', audience: x", true}}},
		"Provider.Longest":    {weaker: []edit{{"longest: 10m", "longest: 11m", false}, {", longest: 10m", "", false}}},
		"Provider.Algorithms": {weaker: []edit{{"algorithms: [RS256]", "algorithms: [RS256, PS256]", false}, {", algorithms: [RS256]", "", false}}},
		"Provider.API":        {weaker: []edit{{"https://dev.azure.com/acme", "https://dev.azure.com/acne", true}}},
		"Provider.Claims":     {weaker: []edit{{", {fact: commit, claim: c}", "", true}}, not: []edit{{"{fact: repository, claim: r}, {fact: run, claim: n}", "{fact: run, claim: n}, {fact: repository, claim: r}", false}}},
		"Provider.App":        {weaker: []edit{{"algorithms: [RS256]}", "algorithms: [RS256], app: {id: 7}}", false}, {"api: 'https://dev.azure.com/acme'}", "api: 'https://dev.azure.com/acme', app: {}}", false}}},
		"App.ID":              {weaker: []edit{{"app: {id: 5}", "app: {id: 6}", true}}},
		"Claim.Fact":          {weaker: []edit{{"fact: commit, claim", "fact: ref, claim", true}}},
		"Claim.Claim":         {weaker: []edit{{"fact: commit, claim: c", "fact: commit, claim: d", true}}},

		"Pipeline.Name": {names: another}, "Pipeline.Project": {names: another},
		"Pipeline.Provider":     {weaker: []edit{{"provider: ci, organisation: 77, repository: 5", "provider: cj, organisation: 77, repository: 5", true}}},
		"Pipeline.Organisation": {weaker: []edit{{"organisation: 77, repository: 5", "organisation: 78, repository: 5", true}}},
		"Pipeline.TeamProject":  {weaker: []edit{{"teamProject: 2", "teamProject: 3", true}}},
		"Pipeline.Repository":   {weaker: []edit{{"repository: 5", "repository: 6", true}}},
		"Pipeline.Definition":   {weaker: []edit{{"definition: x.yml", "definition: y.yml", true}}},
		"Pipeline.Stages":       {weaker: []edit{{"stages: [{name: s, trust: {environment: e", "stages: [{name: t, trust: {environment: f, events: [push], refs: [refs/heads/main]}}, {name: s, trust: {environment: e", false}}},
		"Stage.Name":            {names: another},
		"Stage.Trust":           {none: "it has fields of its own"},
		"Trust.Environment":     {weaker: []edit{{"environment: g, events", "events", true}, {"environment: e, events", "environment: f, events", true}}},
		"Trust.Events":          {weaker: []edit{{"events: [push], refs", "events: [push, schedule], refs", false}}},
		"Trust.Refs":            {weaker: []edit{{"refs: [refs/heads/main], rule", "refs: [refs/heads/main, refs/heads/x], rule", false}}},
		"Trust.Stage":           {weaker: []edit{{"stage: Deploy", "stage: Build", true}}},
		"Trust.Called":          {weaker: []edit{{"environment: e, events", "environment: e, called: a/b/c.yml, events", true}}},
		"Trust.SelfHosted":      {weaker: []edit{{"refs: [refs/heads/main], rule", "refs: [refs/heads/main], selfHosted: true, rule", false}}},
		"Trust.ServiceAccount":  {weaker: []edit{{"serviceAccount: 9", "serviceAccount: 8", true}}},
		"Trust.Rule":            {weaker: []edit{{", rule: 'job.attempt == 1'", "", false}, {"job.attempt == 1", "job.attempt >= 1", true}}},

		"Environment.Name": {names: another}, "Environment.Project": {names: another}, "Environment.Title": {none: forPeople, not: []edit{{"title: t, tier", "tier", false}}},
		"Environment.Mode":       {weaker: []edit{{"tier: production", "tier: production\nmode: observe", false}}, not: []edit{{"tier: production", "tier: production\nmode: enforce", false}}},
		"Environment.Tier":       {weaker: []edit{{"tier: production", "tier: preproduction", true}}},
		"Environment.Automation": {weaker: []edit{{"tier: production", "tier: production\nautomation: true", false}}},
		"Environment.Lease":      {weaker: []edit{{"lease: 30m", "lease: 31m", false}, {"lease: 30m\n", "", false}}},
		"Environment.Heartbeat":  {weaker: []edit{{"heartbeat: 2m", "heartbeat: 3m", false}, {"heartbeat: 2m\n", "", false}}},
		"Environment.Patience":   {weaker: []edit{{"patience: 2h", "patience: 3h", false}, {"patience: 2h\n", "", false}}},
		"Environment.RecordAge":  {weaker: []edit{{"recordAge: 24h", "recordAge: 25h", false}, {"recordAge: 24h\n", "", false}}},
		"Environment.Persons":    {weaker: []edit{{"persons: {write: 5, approve: 4}\n", "", false}}},
		"Persons.Write":          {weaker: []edit{{"persons: {write: 5", "persons: {write: 6", false}, {"persons: {write: 5, ", "persons: {", false}}},
		"Persons.Approve":        {weaker: []edit{{"approve: 4}", "approve: 5}", false}, {", approve: 4}", "}", false}}},
		"Environment.Checks": {weaker: []edit{{"  - {name: one, lock: {mode: sequential}}\n", "", false}},
			not: []edit{{"  - {name: soak, delay: {for: 10m}}\n  - {name: office", "  - {name: later, delay: {for: 10m}}\n  - {name: soak, delay: {for: 10m}}\n  - {name: office", true}}},
		"Environment.Waivers": {weaker: []edit{{"tier: production", "tier: production\nwaivers: [{demand: approval, owner: ann, until: 2027-03-01T00:00:00Z, reason: r}]", false}}},
		"Waiver.Demand":       {weaker: []edit{{"demand: approval, owner: ann, until: 2027-02", "demand: branch-control, owner: ann, until: 2027-02", true}}},
		"Waiver.Owner":        {none: "whoever answers for it, it lets through the same", not: []edit{{"owner: ann, until: 2027-02", "owner: bob, until: 2027-02", false}}},
		"Waiver.Until":        {weaker: []edit{{"until: 2027-02-01", "until: 2027-02-02", false}}},
		"Waiver.Reason":       {none: forPeople, not: []edit{{"reason: why", "reason: because", false}}},

		"Check.Name": {names: another},
		"Check.Shadow": {weaker: []edit{{"{name: soak, delay: {for: 10m}}", "{name: soak, shadow: true, delay: {for: 10m}}", false}, {"{name: t, tests:", "{name: t, shadow: true, tests:", false}},
			not: []edit{{"{name: unsure, shadow: true, delay: {for: 9m}}", "{name: unsure, shadow: true, delay: {for: 1m}}", false}}},
		"Check.Approval":   {weaker: []edit{{"approval: {count: 2, groups: [leads, release-managers], after: [people], review: security}", "delay: {for: 10m}", true}}},
		"Check.Branches":   {weaker: []edit{{"prot, branches: {allowed: [refs/heads/main], protected: true}", "prot, delay: {for: 10m}", true}}},
		"Check.Template":   {weaker: []edit{{"template: {allowed: [{path: a/b/c.yml, refs: [refs/tags/v1]}]}", "delay: {for: 10m}", true}}},
		"Check.Expression": {weaker: []edit{{"expression: {rule: ask.attempt == 1, message: m}", "delay: {for: 10m}", true}}},
		"Check.Delay":      {weaker: []edit{{"{name: soak, delay: {for: 10m}}", "{name: soak, expression: {rule: ask.attempt == 1}}", true}}},
		"Check.Hours":      {weaker: []edit{{"hours: {zone: UTC, windows: [{days: [monday], from: \"09:00\", to: \"17:00\"}], except: [\"2026-12-25\"]}", "delay: {for: 10m}", true}}},
		"Check.Lock":       {weaker: []edit{{"lock: {mode: sequential}", "delay: {for: 10m}", true}}},

		"Approval.Count":        {weaker: []edit{{"name: more, approval: {count: 2", "name: more, approval: {count: 1", false}}},
		"Approval.Groups":       {weaker: []edit{{"{count: 1, groups: [leads], review", "{count: 1, groups: [leads, release-managers], review", false}}},
		"Approval.Review":       {weaker: []edit{{"after: [people], review: security", "after: [people]", false}}},
		"Approval.Instructions": {none: forPeople, not: []edit{{", instructions: look", "", false}}},
		"Approval.After":        {weaker: []edit{{", after: [people]", "", false}}},
		"Approval.Timeout":      {weaker: []edit{{"timeout: 1h", "timeout: 2h", false}, {", timeout: 1h", "", false}}},
		"Approval.Escalate": {weaker: []edit{{"review: security}}\n  - {name: refs", "review: security, escalate: {after: 1h, groups: [suspended]}}}\n  - {name: refs", false}},
			not: []edit{{", escalate: {after: 30m, groups: [suspended]}", "", false}}},
		"Escalation.After":       {weaker: []edit{{"after: 30m", "after: 29m", false}}},
		"Escalation.Groups":      {weaker: []edit{{"groups: [suspended]}}}", "groups: [suspended, left]}}}", false}}},
		"Approval.Validity":      {weaker: []edit{{", validity: 1h", "", false}, {"validity: 1h", "validity: 2h", false}}},
		"Approval.SignedIn":      {weaker: []edit{{", signedIn: 12h", "", false}, {"signedIn: 12h", "signedIn: 13h", false}}},
		"Approval.Checklist":     {weaker: []edit{{"checklist: [{item: data, ask: No data leaves}, {item: logs, ask: Logs hold ids}], ", "", false}, {", {item: logs, ask: Logs hold ids}", "", false}}},
		"Approval.Once":          {weaker: []edit{{"signedIn: 12h, strong: true", "signedIn: 12h, strong: true, once: true", false}}},
		"ChecklistItem.Item":     {weaker: []edit{{"item: data", "item: other", true}}},
		"ChecklistItem.Ask":      {weaker: []edit{{"No data leaves", "Some data leaves", true}}},
		"Approval.Strong":        {weaker: []edit{{"signedIn: 12h, strong: true", "signedIn: 12h", false}}},
		"Branches.Allowed":       {weaker: []edit{{"[refs/heads/main]}}\n  - {name: form", "[refs/heads/main, refs/heads/x]}}\n  - {name: form", false}}},
		"Branches.Protected":     {weaker: []edit{{", protected: true", "", false}}},
		"Template.Allowed":       {weaker: []edit{{"[{path: a/b/c.yml", "[{path: a/b/d.yml, refs: [refs/tags/v1]}, {path: a/b/c.yml", false}}},
		"TemplateSource.Path":    {weaker: []edit{{"path: a/b/c.yml", "path: a/b/d.yml", true}}},
		"TemplateSource.Refs":    {weaker: []edit{{"refs: [refs/tags/v1]", "refs: [refs/tags/v1, refs/tags/v2]", false}}},
		"TemplateSource.Commits": {weaker: []edit{{"refs: [refs/tags/v1]", "refs: [refs/tags/v1], commits: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]", false}}},
		"Expression.Rule":        {weaker: []edit{{"ask.attempt == 1", "ask.attempt >= 1", true}}},
		"Expression.Message":     {none: forPeople, not: []edit{{", message: m", "", false}}},
		"Delay.For":              {weaker: []edit{{"for: 10m", "for: 9m", false}}},
		"Hours.Zone":             {weaker: []edit{{"zone: UTC", "zone: Europe/Zurich", true}}},
		"Hours.Windows":          {weaker: []edit{{"windows: [", "windows: [{days: [friday], from: \"09:00\", to: \"10:00\"}, ", false}}},
		"Hours.Except":           {weaker: []edit{{`, except: ["2026-12-25"]`, "", false}}},
		"Window.Days":            {weaker: []edit{{"days: [monday]", "days: [monday, sunday]", false}}},
		"Window.From":            {weaker: []edit{{`from: "09:00"`, `from: "08:00"`, true}}},
		"Window.To":              {weaker: []edit{{`to: "17:00"`, `to: "18:00"`, true}}},
		"Lock.Mode":              {none: "either lets one run at a time, and which of two waits is no protection", not: []edit{{"mode: sequential", "mode: runLatest", false}}},

		"Check.Tests":           {weaker: []edit{{"tests: {names: [unit, e2e], least: 10, skipped: 5, coverage: 80, from: [facts/all], age: 24h}", "delay: {for: 10m}", true}}},
		"Check.Scan":            {weaker: []edit{{"scan: {names: [sast], errors: 1, warnings: 9, from: [facts/all], age: 25h}", "delay: {for: 10m}", true}}},
		"Check.SBOM":            {weaker: []edit{{"sbom: {least: 6, identified: 90, versioned: 91, licensed: 92, from: [facts/all], age: 26h}", "delay: {for: 10m}", true}}},
		"Check.Vulnerabilities": {weaker: []edit{{"vulnerabilities: {severity: medium, grace: 48h, database: 47h, from: [facts/all], age: 27h}", "delay: {for: 10m}", true}}},
		"Check.Provenance":      {weaker: []edit{{"provenance: {signers: [ci-key], source: \"https://git.example.com/a\", builders: [\"https://build.example.com/a\"], buildTypes: [\"https://type.example.com/a\"], level: 2, from: [facts/all], age: 28h}", "delay: {for: 10m}", true}}},
		"Check.Attestation":     {weaker: []edit{{"attestation: {type: \"https://type.example.com/p\", signers: [ci-key], rule: predicate.ok == true, message: mm, from: [facts/all], age: 29h}", "delay: {for: 10m}", true}}},
		"Stage.Evidence":        {weaker: []edit{{"{name: most, evidence: [tests, coverage,", "{name: most, evidence: [vex, tests, coverage,", true}}},

		"Check.Promotion": {weaker: []edit{{"promotion: {environments: [first, second], soak: 2h, age: 48h}", "delay: {for: 10m}", true}}},
		"Promotion.Environments": {weaker: []edit{{"{environments: [first, second], soak", "{environments: [first], soak", false}, {"{environments: [first, second], soak", "{environments: [first, proven], soak", true}, {"[first, second], any: true", "[first, second, proven], any: true", false}},
			not: []edit{{"[first, second], any: true", "[first], any: true", false}}},
		"Promotion.Any":   {weaker: []edit{{"{environments: [first, second], soak", "{environments: [first, second], any: true, soak", false}}},
		"Promotion.Soak":  {weaker: []edit{{"soak: 2h", "soak: 1h", false}, {"soak: 2h, ", "", false}}},
		"Promotion.Age":   {weaker: []edit{{"age: 48h", "age: 49h", false}, {", age: 48h", "", false}}},
		"Promotion.Tests": {weaker: []edit{{", tests: {names: [smoke, e2e], from: [facts/all], age: 23h}", "", false}, {"{names: [smoke, e2e], from", "{names: [smoke], from", false}}},
		"Stage.Running":   {weaker: []edit{{"running: [proven, first]", "running: [proven, first, second]", false}}},

		"Tests.Names":    {weaker: []edit{{"names: [unit, e2e]", "names: [unit]", false}, {"names: [unit, e2e], ", "", false}}},
		"Tests.Least":    {weaker: []edit{{"least: 10", "least: 9", false}, {"least: 10, ", "", false}}},
		"Tests.Skipped":  {weaker: []edit{{"skipped: 5", "skipped: 6", false}, {"skipped: 5, ", "", false}}},
		"Tests.Coverage": {weaker: []edit{{"coverage: 80", "coverage: 79", false}, {"coverage: 80, ", "", false}}},
		"Tests.From":     {weaker: []edit{{"from: [facts/all], age: 24h", "from: [facts/all, facts/most], age: 24h", true}, {"from: [facts/all], age: 24h", "age: 24h", true}}},
		"Tests.Age":      {weaker: []edit{{"age: 24h", "age: 240h", false}, {", age: 24h", "", false}}},
		"Scan.Names":     {weaker: []edit{{"names: [sast], ", "", false}}},
		"Scan.Errors":    {weaker: []edit{{"errors: 1", "errors: 2", false}}, not: []edit{{"errors: 1, ", "", true}}},
		"Scan.Warnings":  {weaker: []edit{{"warnings: 9", "warnings: 10", false}, {"warnings: 9, ", "", false}}},
		"Scan.From":      {weaker: []edit{{"from: [facts/all], age: 25h", "age: 25h", true}}},
		"Scan.Age":       {weaker: []edit{{"age: 25h", "age: 250h", false}}},

		"BillOfMaterials.Least":      {weaker: []edit{{"least: 6", "least: 5", false}, {"least: 6, ", "", false}}},
		"BillOfMaterials.Identified": {weaker: []edit{{"identified: 90", "identified: 89", false}}},
		"BillOfMaterials.Versioned":  {weaker: []edit{{"versioned: 91", "versioned: 90", false}}},
		"BillOfMaterials.Licensed":   {weaker: []edit{{"licensed: 92", "licensed: 91", false}}},
		"BillOfMaterials.From":       {weaker: []edit{{"from: [facts/all], age: 26h", "age: 26h", true}}},
		"BillOfMaterials.Age":        {weaker: []edit{{"age: 26h", "age: 260h", false}}},

		"KnownVulnerabilities.Severity": {weaker: []edit{{"severity: medium", "severity: critical", false}, {"severity: medium, ", "", false}}},
		"KnownVulnerabilities.Grace":    {weaker: []edit{{"grace: 48h", "grace: 49h", false}}, not: []edit{{"grace: 48h, ", "", true}}},
		"KnownVulnerabilities.Fixable":  {weaker: []edit{{"severity: medium", "severity: medium, fixable: true", false}}},
		"KnownVulnerabilities.Database": {weaker: []edit{{"database: 47h", "database: 48h", false}, {"database: 47h, ", "", false}}},
		"KnownVulnerabilities.From":     {weaker: []edit{{"from: [facts/all], age: 27h", "age: 27h", true}}},
		"KnownVulnerabilities.Age":      {weaker: []edit{{"age: 27h", "age: 270h", false}}},

		"SLSAProvenance.Signers":    {weaker: []edit{{"provenance: {signers: [ci-key]", "provenance: {signers: [ci-key, other-key]", false}}},
		"SLSAProvenance.Source":     {weaker: []edit{{"https://git.example.com/a", "https://git.example.com/b", true}}},
		"SLSAProvenance.Builders":   {weaker: []edit{{"builders: [\"https://build.example.com/a\"], buildTypes", "builders: [\"https://build.example.com/a\", \"https://build.example.com/b\"], buildTypes", false}, {"builders: [\"https://build.example.com/a\"], buildTypes", "buildTypes", false}}},
		"SLSAProvenance.BuildTypes": {weaker: []edit{{"buildTypes: [\"https://type.example.com/a\"], ", "", false}}},
		"SLSAProvenance.Level":      {weaker: []edit{{"level: 2, from", "level: 1, from", false}, {"level: 2, from", "from", false}}},
		"SLSAProvenance.From":       {weaker: []edit{{"from: [facts/all], age: 28h", "age: 28h", false}}},
		"SLSAProvenance.Age":        {weaker: []edit{{"age: 28h", "age: 280h", false}}},
		"AttestationCheck.Type":     {weaker: []edit{{"https://type.example.com/p", "https://type.example.com/q", true}}},
		"AttestationCheck.Signers":  {weaker: []edit{{"type.example.com/p\", signers: [ci-key]", "type.example.com/p\", signers: [other-key, ci-key]", false}}},
		"AttestationCheck.Rule":     {weaker: []edit{{"rule: predicate.ok == true, ", "", false}, {"predicate.ok == true", "predicate.ok != false", true}}},
		"AttestationCheck.Message":  {none: forPeople, not: []edit{{"message: mm", "message: nn", true}}},
		"AttestationCheck.From":     {weaker: []edit{{"from: [facts/all], age: 29h", "age: 29h", false}}},
		"Check.When":                {weaker: []edit{{"when: ask.attempt > 3, ", "when: ask.attempt > 4, ", true}}, not: []edit{{"when: ask.attempt > 3, ", "", false}}},
		"Check.Record":              {weaker: []edit{{"record: {kind: threat-model, groups: [leads, release-managers], count: 2, longest: 4000h, warn: 500h}", "delay: {for: 10m}", true}}},
		"RecordCheck.Kind":          {weaker: []edit{{"kind: threat-model", "kind: design-review", true}}},
		"RecordCheck.Groups":        {weaker: []edit{{"kind: threat-model, groups: [leads, release-managers]", "kind: threat-model, groups: [leads, release-managers, suspended]", false}}},
		"RecordCheck.Count":         {weaker: []edit{{"count: 2, longest", "count: 1, longest", false}, {"count: 2, longest", "longest", false}}},
		"RecordCheck.Longest":       {weaker: []edit{{"longest: 4000h", "longest: 4001h", false}, {"longest: 4000h, ", "", false}}},
		"RecordCheck.Warn":          {weaker: []edit{{"warn: 500h", "warn: 499h", false}}, not: []edit{{"longest: 4000h, warn: 500h", "longest: 4000h", false}}},
		"Check.Actions": {weaker: []edit{{"delay: {for: 9m30s}, actions: [deploy, rollback]", "delay: {for: 9m30s}, actions: [deploy]", false}, {"delay: {for: 9m30s}, actions: [deploy, rollback]", "delay: {for: 9m30s}, actions: [deploy, redeploy]", true}},
			not: []edit{{"delay: {for: 9m30s}, actions: [deploy, rollback]", "delay: {for: 9m30s}", false}}},
		"Check.Plan":           {weaker: []edit{{"plan: {kind: terraform, destroys: 2, from: [facts/all], age: 23h}", "delay: {for: 10m}", true}}},
		"PlanCheck.Kind":       {weaker: []edit{{"kind: terraform, destroys: 2,", "kind: helm,", true}}},
		"PlanCheck.Destroys":   {weaker: []edit{{"destroys: 2, ", "", false}, {"destroys: 2, ", "destroys: 3, ", false}}, not: []edit{{"destroys: 2, ", "destroys: 1, ", false}}},
		"PlanCheck.From":       {weaker: []edit{{"from: [facts/all], age: 23h", "age: 23h", false}}},
		"PlanCheck.Age":        {weaker: []edit{{"age: 23h", "age: 24h", false}, {", age: 23h", "", false}}},
		"AttestationCheck.Age": {weaker: []edit{{"age: 29h", "age: 290h", false}}},

		"Check.Policy":         {weaker: []edit{{"policy: {name: strict, age: 22h, validity: 7m}", "delay: {for: 10m}", true}}},
		"PolicyCheck.Name":     {weaker: []edit{{"policy: {name: strict", "policy: {name: other", true}}},
		"PolicyCheck.Age":      {weaker: []edit{{"age: 22h", "age: 23h", false}, {", age: 22h", "", false}}},
		"PolicyCheck.Validity": {weaker: []edit{{"validity: 7m", "validity: 8m", false}, {", validity: 7m", "", false}}},
		"PolicyCheck.Digest":   {none: "it only says which text of the policy is meant, and that another one weakens is said of the policy"},
		"Policy.Name":          {names: another}, "Policy.Title": {none: forPeople, not: []edit{{"name: strict, title: t", "name: strict", true}}},
		"Policy.Rego":  {weaker: []edit{{"default allow := false", "default allow := true", true}}},
		"Policy.Tests": {weaker: []edit{{", tests: \"package a_test\\ntest_a if true\"", "", false}}, not: []edit{{"test_a if true", "test_b if true", true}}},

		"Signer.Name": {names: another}, "Signer.Title": {none: forPeople, not: []edit{{"name: ci-key, title: t", "name: ci-key", true}}},
		"Signer.Key":      {weaker: []edit{{`-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAl8lqS/s9UsHNckPfCdS78zwahjtG4y1jtRH/ZrzGeFA=\n-----END PUBLIC KEY-----`, `-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEATTYviZ26OmtDrxCmWptjJffu4KAzRfghtf7S5m3r55Q=\n-----END PUBLIC KEY-----`, true}}},
		"Signer.Keyless":  {names: "judged by its own fields"},
		"Signer.Builders": {weaker: []edit{{"builders: [{id: \"https://build.example.com/a\", level: 3}]}", "builders: [{id: \"https://build.example.com/a\", level: 3}, {id: \"https://build.example.com/c\", level: 1}]}", false}}},
		"Builder.ID":      {weaker: []edit{{"https://build.example.com/b\", level: 2", "https://build.example.com/c\", level: 2", true}}},
		"Builder.Level":   {weaker: []edit{{"https://build.example.com/b\", level: 2", "https://build.example.com/b\", level: 3", false}}},
		"Keyless.Issuer":  {weaker: []edit{{"https://token.example.com", "https://tokens.example.com", true}}},
		"Keyless.Subject": {weaker: []edit{{"a.yml@refs/heads/main", "a.yml@refs/heads/next", true}}},
		"Keyless.Root":    {weaker: []edit{{"sha256:abab", "sha256:abac", true}}},

		"Identity.Name": {names: another}, "Identity.Project": {names: another},
		"Identity.Environment":   {weaker: []edit{{"environment: strict, audiences", "environment: spare, audiences", true}}},
		"Identity.Audiences":     {weaker: []edit{{"audiences: [a]", "audiences: [a, b]", false}}},
		"Identity.Lifetime":      {weaker: []edit{{"lifetime: 1m", "lifetime: 2m", false}, {", lifetime: 1m", "", false}}},
		"Environment.CoolingOff": {weaker: []edit{{"coolingOff: 36h", "coolingOff: 35h", false}, {"coolingOff: 36h\n", "", false}}},
		"Environment.HeldBy":     {weaker: []edit{{"heldBy: hub, ", "", true}, {"name: spare, project: shop, ", "name: spare, project: shop, heldBy: hub, ", true}}},
		"Environment.Activation": {weaker: []edit{{"activation: little\n", "", false}}},
		"Identity.People":        {weaker: []edit{{"lifetime: 1m", "lifetime: 1m, people: true", false}}},
		"Identity.Stages":        {weaker: []edit{{"stages: [ship/s]", "stages: [side/s]", true}}},

		"Freeze.Name": {names: another}, "Freeze.Scope": {weaker: []edit{{"name: quiet, scope: /projects/shop", "name: quiet, scope: /projects/shop/environments/strict", false}}},
		"Freeze.From":    {weaker: []edit{{"from: 2026-12-20", "from: 2026-12-21", false}}},
		"Freeze.Until":   {weaker: []edit{{"until: 2027-01-04", "until: 2027-01-03", false}}},
		"Freeze.Reason":  {none: forPeople, not: []edit{{"reason: r}", "reason: s}", false}}},
		"Freeze.Actions": {weaker: []edit{{"reason: r}", "reason: r, actions: [deploy]}", false}}},
		"Directory.Name": {names: another}, "Directory.Title": {none: forPeople, not: []edit{{"name: corp, title: t", "name: corp", false}}},
		"Directory.Platform":    {weaker: []edit{{"name: plain, platform: oidc", "name: plain, platform: entra, tenant: 0e7a0b1c-0000-4000-8000-000000000001", true}}},
		"Directory.Issuer":      {weaker: []edit{{"https://id.example.com/realms/a", "https://id.example.com/realms/b", true}}},
		"Directory.Tenant":      {weaker: []edit{{"tenant: 0e7a0b1c-0000-4000-8000-000000000001", "tenant: 0e7a0b1c-0000-4000-8000-000000000002", true}}},
		"Directory.Domain":      {weaker: []edit{{"domain: example.com", "domain: example.org", true}}},
		"Directory.Client":      {weaker: []edit{{"client: lk", "client: other", true}}},
		"Directory.Scopes":      {weaker: []edit{{"scopes: [profile, groups]", "scopes: [profile]", false}}},
		"SignIn.None":           {weaker: []edit{{"{directory: corp, subject: s1}", "{directory: corp, none: true}", true}}},
		"Directory.Claim":       {weaker: []edit{{"claim: uid", "claim: sub", true}}},
		"Directory.GroupClaim":  {weaker: []edit{{"groupClaim: teams", "groupClaim: groups", true}}},
		"Directory.Groups":      {weaker: []edit{{"groups: [{id: g1, group: leads}", "groups: [{id: g0, group: leads}, {id: g1, group: leads}", false}, {", {id: g2, group: contractors}", "", true}}},
		"DirectoryGroup.ID":     {weaker: []edit{{"id: g1", "id: g3", true}}},
		"DirectoryGroup.Group":  {weaker: []edit{{"id: g1, group: leads", "id: g1, group: left", true}}},
		"Directory.GroupAge":    {weaker: []edit{{"groupAge: 1h", "groupAge: 2h", false}, {", groupAge: 1h", "", false}}},
		"Directory.Admit":       {names: "judged by TestAdmitWeakens: every user must list an account at such a directory"},
		"Directory.Scim":        {weaker: []edit{{"name: plain", "name: plain, scim: true", true}}},
		"Directory.ScimSubject": {weaker: []edit{{", scimSubject: userName", "", true}}},
		"Directory.ScimGroups":  {weaker: []edit{{", scimGroups: externalId", "", true}}},
		"Directory.Session":     {weaker: []edit{{"session: 2h", "session: 3h", false}}},
		"Directory.Idle":        {weaker: []edit{{"idle: 30m", "idle: 40m", false}}},
		"ActivationRule.Name":   {names: another},
		"ActivationRule.Role":   {weaker: []edit{{"name: elevate, role: little", "name: elevate, role: forbidden", true}}},
		"ActivationRule.Scope": {weaker: []edit{{"role: little, scope: /projects/shop, longest", "role: little, scope: /projects/shop/environments/strict, longest", false}},
			not: []edit{{"role: little, scope: /projects/shop, longest", "role: little, scope: /, longest", false}}},
		"ActivationRule.Longest":    {weaker: []edit{{"longest: 1h", "longest: 2h", false}, {", longest: 1h", "", false}}},
		"ActivationRule.NoReason":   {weaker: []edit{{"longest: 1h", "longest: 1h, noReason: true", false}}},
		"ActivationRule.Ticket":     {weaker: []edit{{`, ticket: "CHG[0-9]+"`, "", false}, {"CHG[0-9]+", "CHG[0-9]*", true}}},
		"ActivationRule.Patience":   {weaker: []edit{{"patience: 2h, ticket", "patience: 3h, ticket", false}}},
		"ActivationRule.Approvals":  {weaker: []edit{{", approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]", "", false}, {"approvals: [{name: lead, approval: {count: 1, groups: [leads]", "approvals: [{name: lead, approval: {count: 1, groups: [leads, release-managers]", false}}},
		"ActivationRule.Extensions": {weaker: []edit{{", extensions: 0", "", false}, {"extensions: 0", "extensions: 1", false}}},
		"ActivationRule.CoolingOff": {weaker: []edit{{", coolingOff: 24h", "", false}, {"coolingOff: 24h", "coolingOff: 23h", false}}},
		"ActivationRule.Hours": {weaker: []edit{{`, hours: {zone: UTC, windows: [{days: [tuesday], from: "08:00", to: "12:00"}]}`, "", false},
			{`{days: [tuesday], from: "08:00"`, `{days: [tuesday, friday], from: "08:00"`, false}}},
		"ActivationRule.BreakGlass": {weaker: []edit{{"longest: 8h, patience: 4h}", "longest: 8h, patience: 4h, breakGlass: {reviewers: {groups: [leads]}}}", false}}},
		"BreakGlass.Budget":         {weaker: []edit{{"budget: 3", "budget: 4", false}}, not: []edit{{"budget: 3, ", "", false}}},
		"BreakGlass.Longest":        {weaker: []edit{{"longest: 30m", "longest: 31m", false}, {"longest: 30m, ", "", false}}},
		"BreakGlass.Review":         {weaker: []edit{{"review: 24h", "review: 25h", false}, {"review: 24h, ", "", false}}},
		"BreakGlass.Reviewers":      {names: "judged by its own fields"},
		"Reviewers.Count":           {weaker: []edit{{"reviewers: {count: 2", "reviewers: {count: 1", false}}},
		"Reviewers.Groups":          {weaker: []edit{{"count: 2, groups: [leads]}}}", "count: 2, groups: [leads, release-managers]}}}", false}, {"count: 2, groups: [leads]}}}", "count: 2, groups: [release-managers]}}}", true}}},
		"Freeze.Windows":            {weaker: []edit{{", {monthDays: [28, last]}", "", false}, {"reason: r}", "reason: r, zone: UTC, windows: [{days: [monday]}]}", false}}},
		"Freeze.Zone":               {weaker: []edit{{"zone: Europe/Zurich, windows: [{days: [friday]", "zone: Europe/Berlin, windows: [{days: [friday]", true}}},
		"Freeze.Except":             {weaker: []edit{{`except: ["2026-12-25"], exempt`, `except: ["2026-12-25", "2026-12-26"], exempt`, false}}},
		"Freeze.Exempt":             {weaker: []edit{{"exempt: [leads]", "exempt: [leads, left]", false}, {"reason: r}", "reason: r, exempt: [left]}", false}}},
		"Freeze.InFlight":           {weaker: []edit{{", inFlight: noTokens", "", false}}, not: []edit{{"inFlight: noTokens", "inFlight: abort", false}}},
		"Freeze.Soft":               {weaker: []edit{{"reason: r}", "reason: r, soft: true}", false}}},
		"FreezeWindow.Days":         {weaker: []edit{{"days: [friday], from: \"18:00\"", "days: [thursday], from: \"18:00\"", true}}, not: []edit{{"days: [friday], from: \"18:00\"", "days: [friday, saturday], from: \"18:00\"", false}}},
		"FreezeWindow.MonthDays":    {weaker: []edit{{"monthDays: [28, last]", "monthDays: [28]", false}}},
		"FreezeWindow.Dates":        {weaker: []edit{{`dates: ["12-24"]`, `dates: ["12-23"]`, true}}},
		"FreezeWindow.From":         {weaker: []edit{{`from: "18:00", to: "08:00", nights`, `from: "19:00", to: "08:00", nights`, true}}},
		"FreezeWindow.To":           {weaker: []edit{{`to: "08:00", nights`, `to: "07:00", nights`, true}}},
		"FreezeWindow.Nights":       {weaker: []edit{{"nights: 3", "nights: 2", true}}},
		"Notification.Name":         {names: another}, "Notification.Title": {none: forPeople, not: []edit{{"name: alarm, title: t", "name: alarm", false}}},
		"Notification.Via":          {weaker: []edit{{"via: slack", "via: teams", true}}},
		"Notification.Channel":      {weaker: []edit{{"channel: post", "channel: other", true}}},
		"Notification.To":           {weaker: []edit{{"to: [group:leads, user:one]", "to: [group:leads]", false}}},
		"Notification.About":        {weaker: []edit{{"about: [alerts, reviews]", "about: [reviews]", false}}, not: []edit{{"about: [alerts, reviews]", "about: [alerts]", true}}},
		"Notification.Urgent":       {weaker: []edit{{", urgent: [notices]", "", false}}},
		"Notification.Quiet":        {weaker: []edit{{", digest: {every: 30m}", ", digest: {every: 30m}, quiet: {zone: UTC, windows: [{days: [sunday]}]}", false}}},
		"Notification.Digest":       {weaker: []edit{{", about: [notices, alerts], urgent: [notices], quiet: {zone: UTC, windows: [{days: [sunday]}]}, digest: {at: [\"08:00\"], zone: UTC}", ", about: [notices, alerts], urgent: [notices], quiet: {zone: UTC, windows: [{days: [sunday]}]}, digest: {every: 24h}", true}}},
		"Quiet.Zone":                {weaker: []edit{{"quiet: {zone: UTC", "quiet: {zone: Europe/Zurich", true}}},
		"Quiet.Windows":             {weaker: []edit{{"windows: [{days: [sunday]}]", "windows: [{days: [saturday, sunday]}]", true}}},
		"Digest.Every":              {weaker: []edit{{"every: 30m", "every: 60m", true}}},
		"Digest.At":                 {weaker: []edit{{"at: [\"08:00\"]", "at: [\"09:00\"]", true}}},
		"Digest.Zone":               {weaker: []edit{{"at: [\"08:00\"], zone: UTC", "at: [\"08:00\"], zone: Europe/Zurich", true}}},
		"FreezeRule.Name":           {names: another},
		"FreezeRule.Scope":          {weaker: []edit{{"halts, scope: /projects/shop, longest", "halts, scope: /projects/shop/environments/strict, longest", false}}},
		"FreezeRule.Longest":        {weaker: []edit{{"longest: 24h}", "longest: 23h}", false}}, not: []edit{{"longest: 24h}", "longest: 25h}", false}}},
		"FreezeRule.Alone":          {weaker: []edit{{"longest: 24h}", "longest: 24h, alone: true}", false}}},
		"Check.Soft":                {weaker: []edit{{"name: talk, approval: {count: 1, groups: [leads]}", "name: talk, approval: {count: 1, groups: [leads]}, soft: true", false}}},
		"Environment.Override":      {weaker: []edit{{"tier: production", "tier: production\noverride: {groups: [leads], reviewers: {groups: [leads]}}", false}}},
		"Override.Count":            {weaker: []edit{{"override: {count: 3", "override: {count: 2", false}, {"override: {count: 3, ", "override: {", false}}},
		"Override.Groups":           {weaker: []edit{{"override: {count: 3, groups: [leads]", "override: {count: 3, groups: [leads, left]", false}}},
		"Override.SignedIn":         {weaker: []edit{{"signedIn: 10m", "signedIn: 11m", false}, {"signedIn: 10m, ", "", false}}},
		"Override.Weak":             {weaker: []edit{{"signedIn: 10m", "signedIn: 10m, weak: true", false}}},
		"Override.Longest":          {weaker: []edit{{"longest: 30m, patience: 20m", "longest: 31m, patience: 20m", false}, {"longest: 30m, patience: 20m", "patience: 20m", false}}},
		"Override.Patience":         {weaker: []edit{{"patience: 20m", "patience: 21m", false}, {"patience: 20m, ", "", false}}},
		"Override.Budget":           {weaker: []edit{{"patience: 20m, budget: 3", "patience: 20m, budget: 4", false}}},
		"Override.Review":           {weaker: []edit{{"budget: 3, review: 24h, reviewers: {count: 2, groups: [leads]}}}", "budget: 3, review: 25h, reviewers: {count: 2, groups: [leads]}}}", false}}},
		"Override.Reviewers":        {names: "judged by its own fields"},
		"Freeze.Callers":            {weaker: []edit{{"reason: r}", "reason: r, callers: [people]}", false}}},
		"ActivationRule.StepUp":     {weaker: []edit{{", stepUp: 15m", "", false}, {"stepUp: 15m", "stepUp: 16m", false}}},
		"ActivationRule.TicketCall": {weaker: []edit{{"{whenAway: {count: 2, groups: [leads]}, call: {url: \"https://tickets.example.com/{ticket}\", method: GET, criteria: body.ok == true, headers: [{name: Accept, value: text/json}], timeout: 5s, retry: 10s, within: 1m, signed: true, token: {tokenURL: \"https://login.example.com/token\", client: lk, scope: read, audience: tickets}}}}", "{call: {url: \"https://x.example.com\", criteria: status == 200}}}", true}}},
		"ActivationRule.Uses":       {weaker: []edit{{"uses: 5, ", "", false}, {"uses: 5", "uses: 6", false}}},
		"ActivationRule.Bound":      {weaker: []edit{{"bound: session, ", "", false}}},
		"TicketCall.Call":           {names: "judged by its own fields"},
		"TicketCall.WhenAway":       {weaker: []edit{{"whenAway: {count: 2", "whenAway: {count: 1", false}}, not: []edit{{"whenAway: {count: 2, groups: [leads]}, ", "", false}}},
		"Call.URL":                  {weaker: []edit{{"https://tickets.example.com/{ticket}", "https://other.example.com/{ticket}", true}}},
		"Call.Method":               {weaker: []edit{{"method: GET, ", "", true}}},
		"Call.Headers":              {weaker: []edit{{"headers: [{name: Accept, value: text/json}], ", "", true}}},
		"Header.Name":               {weaker: []edit{{"name: Accept,", "name: X-Tenant,", true}}},
		"Header.Value":              {weaker: []edit{{"value: text/json", "value: text/html", true}}},
		"Call.Criteria":             {weaker: []edit{{"body.ok == true", "body.ok != false", true}}},
		"Call.Timeout":              {none: "how long one waits for an answer changes none", not: []edit{{"timeout: 5s", "timeout: 6s", false}}},
		"Call.Retry":                {none: "how often one asks changes no answer", not: []edit{{"retry: 10s", "retry: 20s", false}}},
		"Call.Within":               {none: "what has not answered by then passes nothing", not: []edit{{"within: 1m", "within: 2m", false}}},
		"Call.Signed":               {weaker: []edit{{"signed: true, ", "", false}}},
		"Call.Token":                {weaker: []edit{{"client: lk, scope: read", "client: lk, scope: write", true}}},
		"CallToken.Audience":        {weaker: []edit{{"audience: tickets", "audience: other", true}}},
		"CallToken.TokenURL":        {weaker: []edit{{"https://login.example.com/token", "https://other.example.com/token", true}}},
		"CallToken.Client":          {weaker: []edit{{"client: lk, scope", "client: other, scope", true}}},
		"CallToken.Scope":           {weaker: []edit{{"scope: read, audience", "scope: all, audience", true}}},
		"CallToken.Secret":          {weaker: []edit{{"scope: read, audience: tickets", "scope: read, secret: true", true}}},
		"ActivationRule.Strong":     {weaker: []edit{{"stepUp: 15m, strong: true", "stepUp: 15m", false}}},
	}
}

// structFields lists Type.Field of every field of every kind.
func structFields() []string {
	here := reflect.TypeFor[Project]().PkgPath()
	seen := map[string]bool{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || t.PkgPath() != here {
			return
		}
		for i := range t.NumField() {
			if name := t.Name() + "." + t.Field(i).Name; !seen[name] {
				seen[name] = true
				visit(t.Field(i).Type)
			}
		}
	}
	for _, blank := range blanks {
		visit(reflect.TypeOf(blank()).Elem())
	}
	return slices.Sorted(maps.Keys(seen))
}

// TestFieldsAreJudged fails for a field that nobody has judged, so that a new
// one cannot be forgotten, and for a judgement that says nothing.
func TestFieldsAreJudged(t *testing.T) {
	all, fields := everyJudgement(), structFields()
	for _, field := range fields {
		j, ok := all[field]
		said := 0
		for _, says := range []bool{j.names != "", j.none != "", len(j.weaker) > 0} {
			if says {
				said++
			}
		}
		if !ok || said != 1 {
			t.Errorf("say in judgements whether a change of %s can weaken: which changes do, or why none does", field)
		}
	}
	for field := range all {
		if !slices.Contains(fields, field) {
			t.Errorf("%s is judged and does not exist", field)
		}
	}
}

// TestWeakens makes every change of judgements and looks at what Explain says.
func TestWeakens(t *testing.T) {
	read := func(text string) *Catalog { return mustRead(t, base(t), File{"x.yaml", []byte(text)}) }
	old := read(strictRules)
	if d := Explain(old, read(strictRules)); len(d) != 0 {
		t.Fatalf("nothing changed, and Explain says %v", d)
	}
	all := everyJudgement()
	for _, field := range slices.Sorted(maps.Keys(all)) {
		for _, e := range slices.Concat(all[field].weaker, all[field].not) {
			weak := slices.Contains(all[field].weaker, e)
			changed := strings.Replace(strictRules, e.from, e.to, 1)
			if changed == strictRules {
				t.Fatalf("%s: %q does not stand in the rules", field, e.from)
			}
			next := read(changed)
			there, back := Explain(old, next), Explain(next, old)
			if len(there) != 1 || len(there[0].Fields) == 0 || (len(there[0].Weakens) > 0) != weak {
				t.Errorf("%s: %s → %s: weaker should be %v: %+v", field, e.from, e.to, weak, there)
				continue
			}
			if weak && (len(back[0].Weakens) > 0) != e.both {
				t.Errorf("%s: %s → %s, undone, should be weaker %v: %v", field, e.from, e.to, e.both, back[0].Weakens)
			}
			for _, s := range slices.Concat(there[0].Weakens, back[0].Weakens) {
				if strings.TrimSpace(s) == "" || strings.Contains(s, "%!") {
					t.Errorf("%s: the reason is %q", field, s)
				}
			}
		}
	}
}

// Documents that are added or removed whole.
func TestWholeDocumentsWeaken(t *testing.T) {
	read := func(text string) *Catalog { return mustRead(t, base(t), File{"x.yaml", []byte(text)}) }
	old := read(strictRules)
	judged := map[Kind][]struct {
		text           string
		added, removed bool // weaken
	}{
		ProjectKind:     {{"{kind: Project, name: z}", false, false}},
		ProvisionerKind: {{"{kind: Provisioner, name: z, role: little, scope: /, webhook: {url: 'https://z.example.com'}}", true, false}},
		UserKind: {{"{kind: User, name: z}", false, false}, {"{kind: User, name: z, person: one}", false, false}, {"{kind: User, name: z, automation: true, off: true}", false, false},
			{"{kind: User, name: z, ids: [{provider: ci, id: 9}]}", true, true}},
		GroupKind:      {{"{kind: Group, name: z}", false, false}, {"{kind: Group, name: z, users: [one]}", true, false}},
		RoleKind:       {{"{kind: Role, name: z, actions: [deployments/read]}", false, false}}, // nothing until it is assigned
		AssignmentKind: {{"{kind: Assignment, name: z, role: little, principal: user:bob, scope: /}", true, false}, {"{kind: Assignment, name: z, role: little, principal: user:bob, scope: /, deny: true}", false, true}},
		ProviderKind:   {{"{kind: Provider, name: z, platform: github, issuer: 'https://z.example.com'}", true, false}},
		PipelineKind: {{"{kind: Pipeline, name: z, project: shop, provider: ci, organisation: 77, repository: 9, definition: x.yml, stages: [{name: s, trust: {events: [push], refs: [refs/heads/main]}}]}", false, false},
			{"{kind: Pipeline, name: z, project: shop, provider: ci, organisation: 77, repository: 9, definition: x.yml, stages: [{name: s, evidence: [tests], trust: {events: [push], refs: [refs/heads/main]}}]}", true, true},
			{"{kind: Pipeline, name: z, project: shop, provider: ci, organisation: 77, repository: 9, definition: x.yml, stages: [{name: s, evidence: [attestation], trust: {events: [push], refs: [refs/heads/main]}}]}", true, false}},
		EnvironmentKind: {{"{kind: Environment, name: z, project: shop, tier: development}", false, false}, // nothing until it has an identity
			{"{kind: Environment, name: z, project: shop, tier: development, waivers: [{demand: approval, owner: ann, until: 2027-02-01T00:00:00Z, reason: why}]}", true, false}},
		DirectoryKind:      {{"{kind: Directory, name: z, platform: dex, issuer: 'https://dex.example.com', client: c}", true, false}, {"{kind: Directory, name: z, platform: dex, issuer: 'https://dex.example.com', client: c, groups: [{id: x, group: suspended}]}", true, true}},
		SignerKind:         {{"{kind: Signer, name: z, keyless: {issuer: 'https://t.example.com', subject: s, root: 'sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd'}}", true, false}},
		PolicyKind:         {{"{kind: Policy, name: z, rego: 'package z'}", false, false}}, // nothing until a check names it
		SeparationKind:     {{"{kind: Separation, name: z, scope: /, mode: hold, actions: [[deployments/start], [journal/export]]}", false, true}},
		ActivationRuleKind: {{"{kind: ActivationRule, name: z, role: little, scope: /}", false, true}},
		IdentityKind:       {{"{kind: Identity, name: z, project: shop, environment: spare, audiences: [a], stages: [ship/s]}", true, false}},
		NotificationKind:   {{"{kind: Notification, name: z, via: mail, to: [user:one], about: [reviews]}", false, false}, {"{kind: Notification, name: z, via: mail, to: [user:one], about: [alerts]}", false, true}},
		FreezeRuleKind:     {{"{kind: FreezeRule, name: z, scope: /}", false, true}, {"{kind: FreezeRule, name: z, scope: /, alone: true}", true, false}},
		FreezeKind:         {{"{kind: Freeze, name: z, scope: /, from: 2026-12-20T00:00:00Z, until: 2027-01-04T00:00:00Z, reason: r}", false, true}},
	}
	for _, documents := range judged {
		for _, d := range documents {
			next := read(strictRules + "---\n" + d.text)
			if e := Explain(old, next); len(e) != 1 || (len(e[0].Weakens) > 0) != d.added {
				t.Errorf("adding %s: %+v", d.text, e)
			}
			if e := Explain(next, old); len(e) != 1 || (len(e[0].Weakens) > 0) != d.removed {
				t.Errorf("removing %s: %+v", d.text, e)
			}
		}
	}
	for kind := range blanks {
		if len(judged[kind]) == 0 {
			t.Errorf("nothing says whether a new %s weakens", kind)
		}
	}
}

// Whoever leaves a group under a deny and stays under it by another way, or
// leaves the catalog, escapes nothing. What is reported names the deny.
func TestEscapes(t *testing.T) {
	text := func(pairs ...string) *Catalog {
		return mustRead(t, base(t), File{"x.yaml", []byte(strings.NewReplacer(pairs...).Replace(strictRules))})
	}
	for _, c := range []struct {
		name     string
		old, new []string
		want     string // every reason of every document
	}{
		{"leaves", nil, []string{"users: [cid], groups: [juniors]", "groups: [juniors]"}, "[user:cid escapes the deny suspension of forbidden at /]"},
		{"leaves with a group", nil, []string{", gone], groups: [contractors]", ", gone]"}, "[group:contractors escapes the deny suspension of forbidden at /]"},
		{"stays by another group", []string{"[bob, off, gone]", "[cid, bob, off, gone]"}, []string{"[bob, off, gone]", "[cid, bob, off, gone]", "users: [cid], groups: [juniors]", "groups: [juniors]"}, ""},
		{"stays under the deny for himself", []string{"principal: group:suspended", "principal: user:cid"}, []string{"principal: group:suspended", "principal: user:cid", "users: [cid], groups: [juniors]", "groups: [juniors]"}, ""},
		{"the deny is gone too", nil, []string{"users: [cid], groups: [juniors]", "groups: [juniors]", ", scope: /, deny: true}", ", scope: /projects/shop, deny: true}"},
			"[a deny covers less][user:cid escapes the deny suspension of forbidden at /projects/shop]"},
		{"the user is gone", []string{"{kind: User, name: off, off: true}", "{kind: User, name: off, off: true}\n---\n{kind: User, name: z}", "[bob, off, gone]", "[z, bob, off, gone]"}, nil, ""},
	} {
		got := ""
		for _, d := range Explain(text(c.old...), text(c.new...)) {
			if len(d.Weakens) > 0 {
				got += fmt.Sprint(d.Weakens)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// To let in whoever is not listed weakens; not to do so any more does not.
func TestAdmitWeakens(t *testing.T) {
	read := func(admit string) *Catalog {
		return mustRead(t, File{"x.yaml", []byte("{kind: User, name: ann, signIns: [{directory: d, none: true}]}\n---\n{kind: Directory, name: d, platform: dex, issuer: 'https://dex.example.com', client: c" + admit + "}\n")})
	}
	closed, open := read(""), read(", admit: true")
	if there, back := Explain(closed, open), Explain(open, closed); len(there) != 1 || len(there[0].Weakens) != 1 || len(back[0].Weakens) != 0 {
		t.Errorf("%+v, undone %+v", there, back)
	}
}
