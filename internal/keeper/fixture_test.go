package keeper

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
)

// ruleText is the catalog of the tests. The marks <…> are where simulations
// change it.
const ruleText = `
kind: User
name: dora
---
kind: User
name: ann
ids: [{provider: github, id: "1001"}]
---
kind: User
name: ann-admin
person: ann
ids: [{provider: github, id: "1011"}]
---
kind: User
name: bob
ids: [{provider: github, id: "1002"}]<bob>
---
kind: User
name: cat
ids: [{provider: github, id: "1003"}]
---
kind: User
name: eve
ids: [{provider: github, id: "1004"}]
---
kind: User
name: robot
automation: true
ids: [{provider: github, id: "1099"}]
---
kind: Group
name: managers
users: [ann, ann-admin, bob, cat, eve<managers>]
---
kind: Group
name: security
users: [cat, eve, ann-admin]
---
kind: Assignment
name: administration
role: organisation-administrator
principal: user:dora
scope: /
---
kind: Assignment
name: releases
role: release-manager
principal: group:managers
scope: /projects/payments
---
kind: Project
name: payments
---
kind: Provider
name: github
platform: github
issuer: https://ci.example
---
kind: Pipeline
name: release
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: release.yml
stages:
  - name: build
    trust: {events: [push, schedule], refs: [refs/heads/main]}
  - name: deploy
    trust: {environment: production, events: [push, schedule], refs: [refs/heads/main]}
  - name: deploy-test
    trust: {environment: test, events: [push, schedule], refs: [refs/heads/main]}
---
kind: Environment
name: production
project: payments
tier: production
automation: true
lease: 10m
heartbeat: 4m
patience: 2h
<age>checks:
  - name: managers
    approval: {count: 1, groups: [managers]}
  - name: security
    approval: {count: 1, groups: [security], review: security}
  - name: main
    branches: {allowed: [refs/heads/main]}
<lock>---
kind: Environment
name: test
project: payments
tier: preproduction
lease: 5m
patience: 30m
<latest>---
kind: Identity
name: payments-production
project: payments
environment: production
audiences: ["https://target.example"]
lifetime: 2m
stages: [release/deploy]
---
kind: Identity
name: payments-test
project: payments
environment: test
audiences: ["https://target.example"]
stages: [release/deploy-test]
<more>`

// rulesWith is ruleText with its marks replaced: by pairs, or by nothing.
func rulesWith(pairs ...string) string {
	text := strings.NewReplacer(pairs...).Replace(ruleText)
	return strings.NewReplacer("<bob>", "", "<managers>", "", "<more>", "", "<age>", "", "<lock>", "", "<latest>", "").Replace(text)
}

func readRules(t testing.TB, text string) *catalog.Catalog {
	t.Helper()
	c, problems := catalog.Read([]catalog.File{{Name: "rules.yaml", Data: []byte(listed(text))}})
	if err := problems.Err(); err != nil {
		t.Fatal(err, problems)
	}
	return c
}

var admitting = regexp.MustCompile(`kind: Directory,? ?\n?name: ([a-z]+)(?:[^\n]*|(?:\n[a-z][^\n]*)*)admit: true`)

// listed says of every user who lists no account at the directory that admits people
// that he has none there.
func listed(text string) string {
	found := admitting.FindStringSubmatch(text)
	if found == nil {
		return text
	}
	none := "signIns: [{directory: " + found[1] + ", none: true}]"
	documents := strings.Split(text, "---\n")
	for i, d := range documents {
		switch {
		case strings.Contains(d, "directory: "+found[1]) || strings.Contains(d, "automation: true"):
		case strings.Contains(d, "{kind: User, name: "):
			if j := strings.LastIndex(d, "}"); j >= 0 {
				documents[i] = d[:j] + ", " + none + d[j:]
			}
		case strings.Contains(d, "kind: User\n"):
			documents[i] = strings.TrimRight(d, "\n") + "\n" + none + "\n"
		}
	}
	return strings.Join(documents, "---\n")
}

func mustRules(t testing.TB, text string) *Rules {
	t.Helper()
	rules, err := compileRules(documentsOf(readRules(t, text)))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

var began = lockkeeper.MomentOf(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))

var app = lockkeeper.Artifact{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}

// workload is a job of run run, as the CI platform vouches for it.
func workload(n int, run, job, environment, actor, event string, attempt int, now lockkeeper.Moment) lockkeeper.Workload {
	f := lockkeeper.SignedFact
	w := lockkeeper.Workload{Provider: "github", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", fmt.Sprint(n)),
		Issued: now, Expires: now.Add(5 * time.Minute), Organisation: f("7001"), Repository: f("8001"), RepositoryName: f("acme/payments"), Run: f(run), Attempt: attempt,
		Job: f(job), Event: f(event), Ref: f("refs/heads/main"), RefType: f("branch"), Commit: f("1111111111111111111111111111111111111111"), Runner: f("hosted"),
		DefinitionPath: f("release.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f("1111111111111111111111111111111111111111"), Actor: f(actor)}
	if environment != "" {
		w.Environment = f(environment)
	}
	return w
}
