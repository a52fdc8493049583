package web

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

const (
	robot   = "61111111-2222-3333-4444-555555555555"
	another = "91111111-2222-3333-4444-555555555555"
)

// TestAttacksOnNames are A1 to A11: names that change hands, look alike or are
// put together so that they read as others. Ids decide, and whole values.
func TestAttacksOnNames(t *testing.T) {
	a := newArena(t)
	t.Run("A1_re_registered_repository", func(t *testing.T) { reRegistered(t, a) })
	t.Run("A2_renamed_repository_keeps_working", func(t *testing.T) { renamed(t, a) })
	t.Run("A3_old_and_new_sub_are_one_stage", func(t *testing.T) {
		want := a.opensAs(t, "no sub", nil)
		for _, sub := range []string{"repo:acme/payments:environment:production", "repo:acme@7001/payments@8001:environment:production", "repo:acme/payments:ref:refs/heads/main", "production", ""} {
			if got := a.opensAs(t, sub, map[string]any{"sub": sub}); got != want {
				t.Errorf("with sub %q the ask is another: %s", sub, got)
			}
		}
	})
	t.Run("A4_case_variants", func(t *testing.T) {
		shouted := map[string]any{"repository": "Acme/Payments", "repository_owner": "Acme", "workflow_ref": "Acme/Payments/.github/workflows/release.yml@refs/heads/main",
			"job_workflow_ref": "Acme/Payments/.github/workflows/release.yml@refs/heads/main"}
		if a.opensAs(t, "another spelling of the same ids", shouted) != a.opensAs(t, "the usual one", nil) {
			t.Error("the spelling of a repository's name changes the ask")
		}
		shouted["repository_id"] = "8002"
		a.refused(t, inJournal, "another id", "repository_unknown", a.opens(a.github("production", shouted), "production"))
		a.refused(t, inLog, "two spellings in one token", "claim_malformed", a.opens(a.github("production", map[string]any{"repository": "Acme/Payments"}), "production"))
		a.refused(t, inJournal, "the environment's name", "environment_differs", a.opens(a.github("Production", nil), "production"))
		a.refused(t, inJournal, "the branch's name", "ref_not_admitted", a.opens(a.github("production", map[string]any{"ref": "refs/heads/Main"}), "production"))
		a.refused(t, inJournal, "the definition's path", "definition_differs", a.opens(a.github("production", map[string]any{"workflow_ref": "acme/payments/.github/workflows/Release.yml@refs/heads/main"}), "production"))
		a.refused(t, inJournal, "the pod's account, found by its uid", "service_account_differs", a.opens(a.pod("ci", another), "pods"))
	})
	t.Run("A5_wildcards", func(t *testing.T) { wildcards(t, a) })
	t.Run("A6_alternation_and_anchors", func(t *testing.T) { alternation(t, a) })
	t.Run("A7_delimiters_in_names", func(t *testing.T) { delimiters(t, a) })
	t.Run("A8_refs_tags_and_branches", func(t *testing.T) { refs(t, a) })
	t.Run("A9_sub_without_repository", func(t *testing.T) {
		for _, sub := range []string{"environment:production", "ref:refs/heads/main", "repo:acme/payments:environment:production"} {
			a.refused(t, inJournal, "a foreign repository says "+sub, "repository_unknown", a.opens(a.github("production", map[string]any{"sub": sub, "repository_id": "8002"}), "production"))
		}
		a.unfit(t, "a rule over sub alone", overRule(`job.subject == "environment:production"`), "rule_over_names_only")
		a.unfit(t, "a rule over a pattern of sub", overRule(`job.subject.matches("^(repo:acme/.*)$")`), "rule_over_name")
		a.unfit(t, "an issuer whose ids are read from sub", "{kind: Provider, name: p, platform: oidc, issuer: https://p.example, claims: [{fact: repository, claim: sub}, {fact: run, claim: run}, {fact: job, claim: job}, {fact: actor, claim: actor}]}", "claim_is_sub")
		a.unfit(t, "an issuer of which only sub is read", "{kind: Provider, name: p, platform: oidc, issuer: https://p.example, claims: [{fact: subject, claim: sub}]}", "fact_missing")
	})
	t.Run("A10_claims_of_other_shapes", func(t *testing.T) { shapes(t, a) })
	t.Run("A11_claims_that_a_user_chooses", func(t *testing.T) {
		a.refused(t, inJournal, "the initiator's name with another account", "initiator_unknown", a.opens(a.github("production", map[string]any{"actor": "ann", "actor_id": "6666"}), "production"))
		a.refused(t, inJournal, "the workflow's name with another path", "definition_differs",
			a.opens(a.github("production", map[string]any{"workflow": "release", "workflow_ref": "acme/payments/.github/workflows/evil.yml@refs/heads/main"}), "production"))
		a.refused(t, inJournal, "the origin and the ref of another project", "repository_unknown", a.opens(a.circle(map[string]any{"oidc.circleci.com/project-id": "p2"}), "circle"))
		a.takes(t, "the project itself", a.opens(a.circle(nil), "circle"))
		for _, rule := range []string{`job.actor == "1001"`, `job.actor_name == "ann"`, `job.repository_name == "acme/payments"`, `job.attempt == 1 || job.actor_name == "ann"`} {
			a.unfit(t, "a rule over what a user chooses: "+rule, overRule(rule), "rule_over_names_only")
		}
		a.unfit(t, "an issuer of which only what users choose is read",
			"{kind: Provider, name: p, platform: oidc, issuer: https://p.example, claims: [{fact: ref, claim: vcs-ref}, {fact: repository_name, claim: vcs-origin}, {fact: actor_name, claim: login}]}", "fact_missing")
	})
}

// overRule is a pipeline with a trust rule of its own.
func overRule(rule string) string {
	return `{kind: Pipeline, name: w, project: payments, provider: github, organisation: "7001", repository: "8009", definition: w.yml, stages: [{name: s, trust: {environment: w, events: [push], refs: [refs/heads/main], rule: '` + rule + `'}}]}`
}

// opensAs opens a deployment of run 9001 and gives the digest of its ask.
func (a *arena) opensAs(t *testing.T, what string, more map[string]any) lockkeeper.Digest {
	t.Helper()
	d, err := a.ask(a.client(a.github("production", more)), "production")
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return d.Digest
}

func reRegistered(t *testing.T, a *arena) {
	for what, more := range map[string]map[string]any{
		"another repository of the same name":    {"repository_id": "8002"},
		"the same name under another owner's id": {"repository_owner_id": "7002"},
		"both":                                   {"repository_id": "8002", "repository_owner_id": "7002"},
	} {
		a.refused(t, inJournal, "GitHub, "+what, "repository_unknown", a.opens(a.github("production", more), "production"))
	}
	a.refused(t, inJournal, "GitLab, another project of the same path", "repository_unknown", a.opens(a.gitlab(map[string]any{"project_id": "21"}), "lab"))
	a.refused(t, inJournal, "GitLab, another group of the same path", "repository_unknown", a.opens(a.gitlab(map[string]any{"namespace_id": "73"}), "lab"))
	a.refused(t, inJournal, "Kubernetes, an account that was made again", "service_account_differs", a.opens(a.pod("ci", another), "pods"))
	a.takes(t, "Kubernetes, the account", a.opens(a.pod("ci", robot), "pods"))

	mine := a.azure.Project
	looking := func(more map[string]any) func() error {
		c := a.client(a.devops(more))
		c.Access = a.azure.Access
		return func() error { _, err := a.ask(c, "devops"); return err }
	}
	a.azure.Move(another)
	a.refused(t, inJournal, "Azure DevOps, another team project of the same name", "project_differs", looking(map[string]any{"prj_id": another}))
	a.azure.Move(mine)
	a.azure.Build("definition", map[string]any{"id": 43})
	a.refused(t, inJournal, "Azure DevOps, another definition of the same name", "definition_differs", looking(map[string]any{"def_id": "43"}))
	a.refused(t, inLog, "Azure DevOps, a run of another definition", "azure_run_differs", looking(nil))
	a.azure.Build("definition", map[string]any{"id": 42})
	a.refused(t, inJournal, "Azure DevOps, another repository", "repository_unknown", looking(map[string]any{"rpo_id": another}))
	a.takes(t, "Azure DevOps, the definition", looking(nil))

	// What the old repository was granted is nothing to the one that took its name.
	j := a.job("push", "production")
	d := a.running(j, handle)
	stolen := func() string { return a.token(j, map[string]any{"repository_id": "8002"}) }
	a.refused(t, inJournal, "a claim", "repository_unknown", a.claims(a.client(stolen()), d.ID, handle))
	a.refused(t, inJournal, "an exchange", "repository_unknown", a.exchanges(stolen(), d.ID, nil))
}

// renamed lets a repository be renamed, and its owner too, while a deployment
// runs. The journal tells under which name each step was taken.
func renamed(t *testing.T, a *arena) {
	now := map[string]any{"repository": "acme-new/billing", "repository_owner": "acme-new", "sub": "repo:acme-new@7001/billing@8001:environment:production",
		"workflow_ref": "acme-new/billing/.github/workflows/release.yml@refs/heads/main", "job_workflow_ref": "acme-new/billing/.github/workflows/release.yml@refs/heads/main"}
	from := a.keeper.Size()
	j := a.job("push", "production")
	d := a.running(j, handle)
	a.takes(t, "an exchange after the renaming", a.exchanges(a.token(j, now), d.ID, nil))
	a.takes(t, "an ask after the renaming", a.opens(a.github("production", now), "production"))
	names := map[string]string{}
	for _, e := range a.entries(from) {
		if e.By.Workload != nil {
			names[e.Kind] = e.By.Workload.OrganisationName.Value + " " + e.By.Workload.RepositoryName.Value
		}
	}
	for kind, want := range map[string]string{"lease.granted": "acme acme/payments", "token.granted": "acme-new acme-new/billing", "deployment.opened": "acme-new acme-new/billing"} {
		if names[kind] != want {
			t.Errorf("the entry %s names %q, want %q", kind, names[kind], want)
		}
	}
}

func wildcards(t *testing.T, a *arena) {
	pipeline := "{kind: Pipeline, name: w, project: payments, provider: github, organisation: %o, repository: %r, definition: w.yml, stages: [{name: s, trust: {environment: w, events: [%e], refs: [%f]}}]}"
	with := func(pairs ...string) string {
		return strings.NewReplacer("%o", `"7001"`, "%r", `"8009"`, "%e", "push", "%f", "refs/heads/main").Replace(strings.NewReplacer(pairs...).Replace(pipeline))
	}
	a.unfit(t, "a repository's id that is *", with("%r", `"*"`), "id_unfit")
	a.unfit(t, "an owner's id that is *", with("%o", `"*"`), "id_unfit")
	a.unfit(t, "a repository's id that is a name with *", with("%r", `"acme/*"`), "id_unfit")
	a.unfit(t, "an event that is *", with("%e", `"*"`), "event_unfit")
	a.unfit(t, "a ref with *", with("%f", "refs/heads/*"), "ref_wildcard")
	a.unfit(t, "a ref with ?", with("%f", `"refs/heads/mai?"`), "ref_wildcard")
	a.unfit(t, "an account's id that is *", `{kind: User, name: u, ids: [{provider: github, id: "*"}]}`, "id_unfit")
	a.unfit(t, "a rule over a part of a name", overRule(`job.ref_protected == "true" && job.repository_name.startsWith("acme/")`), "rule_over_name")
	for _, claim := range []string{"repository_id", "repository_owner_id", "run_id", "actor_id"} {
		a.refused(t, inLog, "a token whose "+claim+" is *", "claim_malformed", a.opens(a.github("production", map[string]any{claim: "*"}), "production"))
	}
	a.refused(t, inJournal, "a token whose environment is *", "environment_differs", a.opens(a.github("*", nil), "production"))
	a.refused(t, inJournal, "a token whose ref is refs/heads/*", "ref_not_admitted", a.opens(a.github("production", map[string]any{"ref": "refs/heads/*"}), "production"))
	// In a check's branches, * does not cross a slash.
	odd := func(ref string) string { return a.at("shared.yml", ref, "odd") }
	a.takes(t, "a branch that the pattern admits", a.opens(odd("refs/heads/release/1"), "odd"))
	a.refused(t, inJournal, "a branch below the one that it admits", "branch_not_allowed", a.opens(odd("refs/heads/release/1/x"), "odd"))
}

// alternation: values are compared whole. Nothing in a trust rule's lists is a
// pattern.
func alternation(t *testing.T, a *arena) {
	odd := func(ref string) string { return a.at("shared.yml", ref, "odd") }
	for _, ref := range []string{"refs/heads/a", "refs/heads/b", "refs/heads/b-evil", "refs/heads/a|refs/heads/b|refs/heads/c"} {
		a.refused(t, inJournal, ref+" against the ref with | in its name", "ref_not_admitted", a.opens(odd(ref), "odd"))
	}
	a.takes(t, "the ref with | in its name", a.opens(odd("refs/heads/a|refs/heads/b"), "odd"))
	for _, ref := range []string{"refs/heads/main-evil", "refs/heads/main/x", "refs/heads/evil/refs/heads/main", "refs/heads/main ", "refs/heads/(?m)main", "refs/heads/main$"} {
		a.refused(t, inJournal, ref, "ref_not_admitted", a.opens(a.github("production", map[string]any{"ref": ref}), "production"))
	}
	for what, more := range map[string]map[string]any{
		"a line end behind the ref":         {"ref": "refs/heads/main\n"},
		"a line end before the ref":         {"ref": "\nrefs/heads/main"},
		"a second line in the ref":          {"ref": "refs/heads/evil\nrefs/heads/main"},
		"a line end behind the environment": {"environment": "production\n"},
		"a line end behind the definition":  {"workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/main\n"},
		"an id with an alternative":         {"repository_id": "8001|8002"},
		"a ref that is an expression":       {"ref": "(?m)^refs/heads/main$"},
	} {
		a.refused(t, inLog, what, "claim_malformed", a.opens(a.github("production", more), "production"))
	}
	for _, rule := range []string{`job.ref.matches("^refs/heads/a|refs/heads/b$")`, `job.ref.matches("refs/heads/main")`, `job.ref.matches("(?m)^refs/heads/main$")`, `job.ref.matches("^refs/heads/main")`} {
		a.unfit(t, "the rule "+rule, overRule(rule), "rule_pattern_open")
	}
	a.refused(t, inLog, "a line end behind the issuer", "issuer_unknown", a.opens(a.github("production", map[string]any{"iss": a.issuer.URL + "\n"}), "production"))
	a.refused(t, inLog, "a line end behind the audience", "audience_differs", a.opens(a.github("production", map[string]any{"aud": a.server.URL + "\n"}), "production"))
	for _, sub := range []string{"repo:good/a:ref:refs/heads/main-evil", "repo:evil/x:environment:repo:good/b:ref:refs/heads/main"} {
		a.refused(t, inJournal, "the sub "+sub, "repository_unknown", a.opens(a.github("production", map[string]any{"sub": sub, "repository_id": "8002"}), "production"))
	}
}

func delimiters(t *testing.T, a *arena) {
	for _, environment := range []string{"production:ref:refs/heads/main", "x:environment:production", "production%3A", "production%00", "repo:acme/payments:environment:production", "production@8001"} {
		a.refused(t, inJournal, "the environment "+environment, "environment_differs", a.opens(a.github(environment, nil), "production"))
	}
	for _, ref := range []string{"refs/heads/x:environment:production", "refs/heads/main:environment:production", "refs/heads/main%3Aenvironment%3Aproduction", "refs/heads/x@refs/heads/main", "refs/heads/main@8001"} {
		a.refused(t, inJournal, "the branch "+ref+" without an environment", "ref_not_admitted", a.opens(a.github("", map[string]any{"ref": ref, "sub": "repo:acme/payments:ref:" + ref}), "production"))
		a.refused(t, inJournal, "the branch "+ref+" with the environment", "ref_not_admitted", a.opens(a.github("production", map[string]any{"ref": ref}), "production"))
	}
	for _, owner := range []string{"acme-7001", "acme@7001", "acme_7001", "acme:payments"} {
		full := owner + "/payments"
		a.refused(t, inJournal, "the owner "+owner, "repository_unknown", a.opens(a.github("production", map[string]any{"repository": full, "repository_owner": owner, "repository_owner_id": "7002",
			"sub": "repo:acme@7001/payments@8001:environment:production", "workflow_ref": full + "/.github/workflows/release.yml@refs/heads/main", "job_workflow_ref": nil}), "production"))
	}
	// A branch whose name holds the end of another definition's address.
	a.refused(t, inJournal, "a branch that continues the definition's path", "definition_differs", a.opens(a.github("production", map[string]any{
		"ref": "refs/heads/x@refs/heads/main", "workflow_ref": "acme/payments/.github/workflows/release.yml@refs/heads/x@refs/heads/main"}), "production"))
}

func refs(t *testing.T, a *arena) {
	at := func(ref, kind string) string {
		return a.github("production", map[string]any{"ref": ref, "ref_type": kind, "workflow_ref": "acme/payments/.github/workflows/release.yml@" + ref})
	}
	a.refused(t, inJournal, "an environment named like a branch", "environment_differs", a.opens(a.github("refs/heads/main", nil), "production"))
	a.refused(t, inJournal, "a branch named like an environment", "ref_not_admitted", a.opens(at("refs/heads/production", "branch"), "production"))
	a.refused(t, inJournal, "a branch named refs/heads/main", "ref_not_admitted", a.opens(at("refs/heads/refs/heads/main", "branch"), "production"))
	a.refused(t, inJournal, "a tag named main", "ref_not_admitted", a.opens(at("refs/tags/main", "tag"), "production"))
	a.refused(t, inJournal, "a tag named refs/heads/main", "ref_not_admitted", a.opens(at("refs/tags/refs/heads/main", "tag"), "production"))
	a.refused(t, inLog, "a tag that claims a branch's ref", "claim_malformed", a.opens(at("refs/heads/main", "tag"), "production"))
	a.refused(t, inLog, "a branch that claims a tag's ref", "claim_malformed", a.opens(at("refs/tags/main", "branch"), "production"))
	a.refused(t, inLog, "a short ref", "claim_malformed", a.opens(at("main", "branch"), "production"))
	a.refused(t, inJournal, "GitLab, a tag named main", "ref_not_admitted", a.opens(a.gitlab(map[string]any{"ref_type": "tag", "ref_path": nil}), "lab"))
	a.refused(t, inJournal, "GitLab, a branch named refs/heads/main", "ref_not_admitted", a.opens(a.gitlab(map[string]any{"ref": "refs/heads/main", "ref_path": nil}), "lab"))
	a.refused(t, inLog, "GitLab, ref and ref_path that differ", "claim_malformed", a.opens(a.gitlab(map[string]any{"ref_type": "tag"}), "lab"))
	a.takes(t, "GitLab, the branch", a.opens(a.gitlab(nil), "lab"))
}

func shapes(t *testing.T, a *arena) {
	for what, c := range map[string]struct {
		claim string
		value any
		code  string
	}{
		"an id that is a list":          {"repository_id", []string{"8001"}, "claim_type"},
		"an id that is a number":        {"repository_id", 8001, "claim_type"},
		"an id that is an object":       {"repository_id", map[string]any{"id": "8001"}, "claim_type"},
		"an id that is empty":           {"repository_id", "", "claim_malformed"},
		"no id":                         {"repository_id", nil, "claim_malformed"},
		"an environment that is a list": {"environment", []string{"production"}, "claim_type"},
		"an environment that is true":   {"environment", true, "claim_type"},
		"a ref that is a list":          {"ref", []string{"refs/heads/main"}, "claim_type"},
		"no event":                      {"event_name", nil, "claim_malformed"},
		"no jti":                        {"jti", nil, "claim_missing"},
		"an empty jti":                  {"jti", "", "claim_missing"},
	} {
		a.refused(t, inLog, what, c.code, a.opens(a.github("production", map[string]any{c.claim: c.value}), "production"))
	}
	// Absent and empty are both no environment, so neither is the deploying stage.
	a.refused(t, inJournal, "no environment", "stage_not_named", a.opens(a.github("production", map[string]any{"environment": nil}), "production"))
	a.refused(t, inJournal, "an empty environment", "stage_not_named", a.opens(a.github("production", map[string]any{"environment": ""}), "production"))
	a.refused(t, inJournal, "an environment under another name", "stage_not_named", a.opens(a.github("", map[string]any{"Environment": "production"}), "production"))
	signed := func(from, to string) string {
		payload, err := json.Marshal(a.issuer.Claims(a.job("push", "production")))
		a.must(err)
		raw := a.issuer.Sign([]byte(strings.Replace(string(payload), from, to, 1)), nil)
		a.hide(raw)
		return raw
	}
	a.takes(t, "a token that is signed by hand", a.opens(signed("", ""), "production"))
	for _, twice := range []string{`"environment":"staging","environment":"production"`, `"environment":"staging","\u0065nvironment":"production"`} {
		a.refused(t, inLog, "a member twice: "+twice, "token_malformed", a.opens(signed(`"environment":"production"`, twice), "production"))
	}
	a.refused(t, inLog, "null for an environment", "claim_type", a.opens(signed(`"environment":"production"`, `"environment":null`), "production"))
	a.refused(t, inLog, "half a character", "token_malformed", a.opens(signed(`"environment":"production"`, `"environment":"\ud800"`), "production"))
}
