package identity

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

func of(t *testing.T, v *Verifier, i Issuer, c Credential) (lockkeeper.Workload, error) {
	t.Helper()
	w, err := v.Workload(context.Background(), []Issuer{i}, c, lockkeeper.MomentOf(clock))
	if err != nil && (c.Access != "" && strings.Contains(err.Error(), c.Access) || strings.Contains(err.Error(), c.Token)) {
		t.Errorf("the refusal repeats a credential (D6)")
	}
	return w, err
}

// facts are the known facts of a record, by name.
func facts(w lockkeeper.Workload) map[string]string {
	out := map[string]string{}
	for _, f := range w.Facts() {
		if f.Fact.Known() {
			out[f.Name] = f.Fact.Value
		}
	}
	return out
}

func TestGitLab(t *testing.T) {
	i, v := lktest.NewIssuer(t), NewVerifier(Options{})
	issuer := Issuer{Provider: "gl", Platform: "gitlab", URL: i.URL, Audience: audience, Algorithms: []string{"RS256"}, Longest: time.Hour}
	w, err := of(t, v, issuer, Credential{Token: i.Token(i.GitLabClaims(audience, clock, nil))})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"organisation": "72", "organisation_name": "acme", "repository": "20", "repository_name": "acme/payments", "run": "574", "job": "302", "event": "push",
		"ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "commit": "714a629c0b401fdce83e847fc9589983fc6f46bc", "environment": "production", "environment_protected": "true",
		"runner": "hosted", "definition_path": ".gitlab-ci.yml", "definition_ref": "refs/heads/main", "definition_commit": "714a629c0b401fdce83e847fc9589983fc6f46bc", "actor": "1001", "actor_name": "ann"}
	if d := cmp.Diff(want, facts(w)); d != "" || w.Attempt != 1 {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for name, c := range map[string]struct {
		more map[string]any
		code string // "": taken
		fact string // and then name=value
	}{
		"an older server without ref_path":           {map[string]any{"ref_path": nil}, "", "ref=refs/heads/main"},
		"a branch named refs/heads/main (A8)":        {map[string]any{"ref": "refs/heads/main", "ref_path": nil}, "", "ref=refs/heads/refs/heads/main"},
		"a tag named main (A8)":                      {map[string]any{"ref_type": "tag", "ref_path": "refs/tags/main"}, "", "ref=refs/tags/main"},
		"ref and ref_path differ":                    {map[string]any{"ref_path": "refs/heads/other"}, "claim_malformed", ""},
		"a merge request":                            {map[string]any{"pipeline_source": "merge_request_event", "ref_path": "refs/merge-requests/1/head"}, "", "event=merge_request_event"},
		"a boolean as a boolean (A16)":               {map[string]any{"ref_protected": true}, "claim_type", ""},
		"not protected (A16)":                        {map[string]any{"ref_protected": "false"}, "", "ref_protected=false"},
		"protected in capitals (A16)":                {map[string]any{"ref_protected": "True"}, "claim_malformed", ""},
		"no ref_protected":                           {map[string]any{"ref_protected": nil}, "claim_malformed", ""},
		"an empty environment (A10)":                 {map[string]any{"environment": ""}, "claim_malformed", ""},
		"no environment":                             {map[string]any{"environment": nil, "environment_protected": nil}, "", "environment="},
		"environment as a list (A10)":                {map[string]any{"environment": []string{"production"}}, "claim_type", ""},
		"a project id that is a path (A5)":           {map[string]any{"project_id": "acme/payments"}, "claim_malformed", ""},
		"a project id that is * (A5)":                {map[string]any{"project_id": "*"}, "claim_malformed", ""},
		"a self-hosted runner":                       {map[string]any{"runner_environment": "self-hosted"}, "", "runner=self_hosted"},
		"an unknown runner":                          {map[string]any{"runner_environment": "moon"}, "claim_malformed", ""},
		"a definition of another project (A14)":      {map[string]any{"ci_config_ref_uri": "gitlab.example.com/evil/ci//.gitlab-ci.yml@refs/heads/main"}, "", "definition_path=gitlab.example.com/evil/ci//.gitlab-ci.yml"},
		"a definition of a project with a like name": {map[string]any{"ci_config_ref_uri": "gitlab.example.com/x/acme/payments//.gitlab-ci.yml@refs/heads/main"}, "", "definition_path=gitlab.example.com/x/acme/payments//.gitlab-ci.yml"},
		"no definition":                              {map[string]any{"ci_config_ref_uri": "x"}, "claim_malformed", ""},
		"a token for longer than admitted":           {map[string]any{"exp": clock.Unix() + 3601}, "token_lifetime", ""},
		"no jti (B7)":                                {map[string]any{"jti": nil}, "claim_missing", ""},
	} {
		w, err := of(t, v, issuer, Credential{Token: i.Token(i.GitLabClaims(audience, clock, c.more))})
		if c.code != "" || err != nil {
			if code(err) != c.code {
				t.Errorf("%s: %v, want %s", name, err, c.code)
			}
			continue
		}
		if n, value, _ := strings.Cut(c.fact, "="); facts(w)[n] != value {
			t.Errorf("%s: %s is %q, want %q", name, n, facts(w)[n], value)
		}
	}
}

func TestKubernetes(t *testing.T) {
	i, v := lktest.NewIssuer(t), NewVerifier(Options{})
	issuer := Issuer{Provider: "k8s", Platform: "kubernetes", URL: i.URL, Audience: audience, Algorithms: []string{"RS256"}, Longest: 15 * time.Minute}
	w, err := of(t, v, issuer, Credential{Token: i.Token(i.KubernetesClaims(audience, clock, nil))})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"repository": "ci", "repository_name": "ci", "namespace": "ci", "service_account": "61111111-2222-3333-4444-555555555555", "service_account_name": "deployer",
		"pod": "51111111-2222-3333-4444-555555555555", "run": "51111111-2222-3333-4444-555555555555", "job": "51111111-2222-3333-4444-555555555555",
		"actor": "61111111-2222-3333-4444-555555555555", "actor_name": "ci/deployer"}
	if d := cmp.Diff(want, facts(w)); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	io := func(change func(map[string]any)) map[string]any {
		c := i.KubernetesClaims(audience, clock, nil)
		change(c["kubernetes.io"].(map[string]any))
		return c
	}
	for name, c := range map[string]map[string]any{
		"not bound to a pod":     io(func(k map[string]any) { delete(k, "pod") }),
		"no service account":     io(func(k map[string]any) { delete(k, "serviceaccount") }),
		"a pod without a uid":    io(func(k map[string]any) { k["pod"] = map[string]any{"name": "x"} }),
		"a name in place of uid": io(func(k map[string]any) { k["serviceaccount"] = map[string]any{"name": "deployer", "uid": "deployer"} }),
		"a pod that is a text":   io(func(k map[string]any) { k["pod"] = "x" }),
		"nothing of kubernetes":  i.KubernetesClaims(audience, clock, map[string]any{"kubernetes.io": nil}),
	} {
		if _, err := of(t, v, issuer, Credential{Token: i.Token(c)}); lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An older API server sends no jti: the token is known by what it says.
	c := i.KubernetesClaims(audience, clock, map[string]any{"jti": nil})
	one, err1 := of(t, v, issuer, Credential{Token: i.Token(c)})
	two, err2 := of(t, v, issuer, Credential{Token: i.Token(c)}) // the same claims, signed again
	c["exp"] = clock.Unix() + 601
	three, err3 := of(t, v, issuer, Credential{Token: i.Token(c)})
	if err1 != nil || err2 != nil || err3 != nil || one.TokenID != two.TokenID || one.TokenID == three.TokenID {
		t.Errorf("ids of tokens without jti: %v %v %v %v %v %v", err1, err2, err3, one.TokenID, two.TokenID, three.TokenID)
	}
}

func TestAnyIssuer(t *testing.T) {
	i, v := lktest.NewIssuer(t), NewVerifier(Options{})
	issuer := Issuer{Provider: "bk", Platform: "oidc", URL: i.URL, Audience: audience, Algorithms: []string{"RS256"}, Longest: 15 * time.Minute,
		Claims: map[string]string{"organisation": "organization_id", "repository": "oidc.circleci.com/project-id", "run": "build_number", "job": "job_id", "actor": "user", "ref": "vcs_ref"}}
	claims := func(more map[string]any) map[string]any {
		c := map[string]any{"iss": i.URL, "aud": audience, "sub": "whatever", "iat": clock.Unix(), "exp": clock.Unix() + 300, "jti": "1",
			"organization_id": "o1", "oidc.circleci.com/project-id": "p1", "build_number": 12, "job_id": "j1", "user": "u1"}
		for k, x := range more {
			if c[k] = x; x == nil {
				delete(c, k)
			}
		}
		return c
	}
	w, err := of(t, v, issuer, Credential{Token: i.Token(claims(nil))})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"organisation": "o1", "repository": "p1", "run": "12", "job": "j1", "actor": "u1"}, facts(w)); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for name, more := range map[string]map[string]any{
		"no run": {"build_number": nil}, "a run with a fraction": {"build_number": 1.5}, "no repository": {"oidc.circleci.com/project-id": nil}, "an empty job": {"job_id": ""},
		"an actor that is a list": {"user": []string{"u1"}}, "a short ref": {"vcs_ref": "main"},
	} {
		if _, err := of(t, v, issuer, Credential{Token: i.Token(claims(more))}); lockkeeper.KindOf(err) != lockkeeper.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Only what the issuer is said to sign with is taken (B1).
	if err := i.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	if _, err := of(t, NewVerifier(Options{}), issuer, Credential{Token: i.Token(claims(nil))}); code(err) != "token_algorithm" {
		t.Errorf("another algorithm: %v", err)
	}
}

// TestAzure: a pipeline token of Azure DevOps names no stage; the look-up does,
// and refuses whenever the token could be of another stage or job (A13, A15).
func TestAzure(t *testing.T) {
	i, v := lktest.NewIssuer(t), NewVerifier(Options{})
	at := func(minutes int) string { return clock.Add(time.Duration(minutes) * time.Minute).Format(time.RFC3339) }
	start := func() (*lktest.AzureAPI, Issuer) {
		a := lktest.NewAzureAPI(t, clock)
		return a, Issuer{Provider: "az", Platform: "azure", URL: i.URL + "/" + a.Organisation, Audience: "api://AzureADTokenExchange", Algorithms: []string{"RS256"}, Longest: 15 * time.Minute, API: a.URL}
	}
	a, issuer := start()
	raw := i.Token(i.AzureClaims(a, clock, nil))
	w, err := of(t, v, issuer, Credential{Token: raw})
	if err != nil {
		t.Fatal(err)
	}
	if w.Stage.Known() || w.Job.Known() || w.Actor.Known() || w.Attempt != 0 {
		t.Errorf("without a look-up: %v", facts(w))
	}
	w, err = of(t, v, issuer, Credential{Token: raw, Access: a.Access})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"organisation": a.Organisation, "project": a.Project, "pipeline": "42", "repository": "71111111-2222-3333-4444-555555555555",
		"repository_name": "https://dev.azure.com/acme/payments/_git/payments", "run": "1234", "stage": "Deploy", "job": "j2", "event": "individualCI", "queued_by": "00000002-0000-8888-8000-000000000000", "ref": "refs/heads/main", "commit": a.Commit,
		"actor": "a1111111-2222-3333-4444-555555555555", "actor_name": "ann@example.com"}
	if d := cmp.Diff(want, facts(w)); d != "" || w.Attempt != 1 || w.Stage.Mark != lockkeeper.LookedUp || w.Run.Mark != lockkeeper.Signed {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for name, c := range map[string]struct {
		change func(*lktest.AzureAPI)
		code   string
	}{
		"the build stage is still at work":       {func(a *lktest.AzureAPI) { a.Record("s1", "state", "inProgress") }, "azure_stage_ambiguous"},
		"the build stage ended after the token":  {func(a *lktest.AzureAPI) { a.Record("s1", "finishTime", at(1)) }, "azure_stage_ambiguous"},
		"the deploy stage began after the token": {func(a *lktest.AzureAPI) { a.Record("s2", "startTime", at(1)) }, "azure_stage_ambiguous"},
		"no stage is at work":                    {func(a *lktest.AzureAPI) { a.Record("s2", "state", "pending"); a.Record("s2", "startTime", nil) }, "azure_stage_ambiguous"},
		"a second job of the stage is at work": {func(a *lktest.AzureAPI) {
			a.Record("j3", "parentId", "p2")
			a.Record("j3", "state", "inProgress")
			a.Record("j3", "startTime", at(-1))
		}, "azure_job_ambiguous"},
		"another job of the stage ended after the token": {func(a *lktest.AzureAPI) { a.Record("j1", "parentId", "p2"); a.Record("j1", "finishTime", at(0)) }, "azure_job_ambiguous"},
		"the job began after the token":                  {func(a *lktest.AzureAPI) { a.Record("j2", "startTime", at(1)) }, "azure_job_ambiguous"},
		"the run is over":                                {func(a *lktest.AzureAPI) { a.Build("status", "completed") }, "azure_run_over"},
		"the run is of another commit":                   {func(a *lktest.AzureAPI) { a.Build("sourceVersion", strings.Repeat("0", 40)) }, "azure_run_differs"},
		"the run is of another branch":                   {func(a *lktest.AzureAPI) { a.Build("sourceBranch", "refs/heads/evil") }, "azure_run_differs"},
		"the run is of another definition":               {func(a *lktest.AzureAPI) { a.Build("definition", map[string]any{"id": 43}) }, "azure_run_differs"},
		"nobody started it":                              {func(a *lktest.AzureAPI) { a.Build("requestedFor", nil) }, "azure_run_unknown"},
		"the job may not look":                           {func(a *lktest.AzureAPI) { a.SetStatus(http.StatusForbidden) }, "azure_lookup_refused"},
		"the API is away":                                {func(a *lktest.AzureAPI) { a.SetStatus(http.StatusBadGateway) }, "platform_unreachable"},
		"the API sends elsewhere":                        {func(a *lktest.AzureAPI) { a.SetStatus(http.StatusFound) }, "platform_unreachable"},
	} {
		a, issuer := start()
		c.change(a)
		if w, err := of(t, v, issuer, Credential{Token: i.Token(i.AzureClaims(a, clock, nil)), Access: a.Access}); code(err) != c.code {
			t.Errorf("%s: %v %v, want %s", name, err, facts(w), c.code)
		}
	}
	for name, c := range map[string]struct {
		more map[string]any
		code string
	}{
		"another organisation's token under this issuer (A1)": {map[string]any{"org_id": "91111111-2222-3333-4444-555555555555"}, "claim_malformed"},
		"another organisation's issuer":                       {map[string]any{"iss": i.URL + "/91111111-2222-3333-4444-555555555555"}, "issuer_unknown"},
		"a service connection's token":                        {map[string]any{"run_id": nil, "def_id": nil, "sub": "sc://acme/payments/production"}, "azure_connection_token"},
		"a display name in place of the project":              {map[string]any{"prj_id": "payments"}, "claim_malformed"},
		"a path in the run's number":                          {map[string]any{"run_id": "1234/../../evil"}, "claim_malformed"},
	} {
		if _, err := of(t, v, issuer, Credential{Token: i.Token(i.AzureClaims(a, clock, c.more)), Access: a.Access}); code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := of(t, v, issuer, Credential{Token: raw, Access: "another"}); code(err) != "azure_lookup_refused" {
		t.Errorf("with another access token: %v", err)
	}
	if _, err := of(t, v, issuer, Credential{Token: raw, Access: "a\r\nHost: evil"}); code(err) != "access_token_malformed" {
		t.Errorf("with a header in the access token: %v", err)
	}
}
