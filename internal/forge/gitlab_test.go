package forge

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

func labAsked(t *testing.T, g *lktest.GitLabAPI) Asking {
	t.Helper()
	a, asks, err := GitLabAsking("Deployment Hook", g.DeploymentMessage(nil))
	if err != nil || !asks {
		t.Fatal(asks, err)
	}
	return a
}

func lab(g *lktest.GitLabAPI) *GitLab {
	return &GitLab{Provider: "gitlab", Issuer: "https://gitlab.example.com", API: g.URL, App: g.App, Key: func() ([]byte, error) { return append(bytes.Clone(g.Key), '\n'), nil }}
}

// A message proves itself by the secret token, or by a signature where the secret is a
// signing token: then by nothing else, and not for long.
func TestGitLabProven(t *testing.T) {
	g := lktest.NewGitLabAPI(t)
	now := time.Now()
	body := g.DeploymentMessage(nil)
	plain := g.Head("Deployment Hook", body, now)
	token := g.Secret
	g.Secret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32))
	signed := g.Head("Deployment Hook", body, now)
	if !GitLabProven(token, plain, body, now) || !GitLabProven(g.Secret, signed, body, now.Add(4*time.Minute)) {
		t.Fatal("the right secret is not taken")
	}
	changed := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	both := changed(signed, "webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" "+signed.Get("webhook-signature"))
	if !GitLabProven(g.Secret, both, body, now) {
		t.Error("a second signature, of the token of before, hides the right one")
	}
	long, short := g.Secret, "whsec_"+base64.StdEncoding.EncodeToString([]byte("short"))
	g.Secret = short
	shortly := g.Head("Deployment Hook", body, now)
	g.Secret = long
	for name, c := range map[string]struct {
		secret string
		head   http.Header
		body   []byte
		at     time.Time
	}{
		"no secret": {"", plain, body, now}, "no secret and no token": {"", http.Header{}, body, now}, "no token": {token, http.Header{}, body, now},
		"other token": {token, changed(plain, "X-Gitlab-Token", token+"x"), body, now}, "begun token": {token, changed(plain, "X-Gitlab-Token", token[:9]), body, now},
		"the signing token as it is": {g.Secret, changed(http.Header{}, "X-Gitlab-Token", g.Secret), body, now},
		"other body":                 {g.Secret, signed, append(bytes.Clone(body), ' '), now},
		"replayed":                   {g.Secret, signed, body, now.Add(6 * time.Minute)}, "ahead": {g.Secret, signed, body, now.Add(-6 * time.Minute)},
		"other time": {g.Secret, changed(signed, "webhook-timestamp", "1"), body, now}, "no time": {g.Secret, changed(signed, "webhook-timestamp", ""), body, now},
		"other id": {g.Secret, changed(signed, "webhook-id", "other"), body, now}, "no id": {g.Secret, changed(signed, "webhook-id", ""), body, now},
		"no version": {g.Secret, changed(signed, "webhook-signature", strings.TrimPrefix(signed.Get("webhook-signature"), "v1,")), body, now},
		"v1a":        {g.Secret, changed(signed, "webhook-signature", strings.Replace(signed.Get("webhook-signature"), "v1,", "v1a,", 1)), body, now},
		"empty":      {g.Secret, changed(signed, "webhook-signature", "v1,"), body, now}, "a short key": {short, shortly, body, now}, "no base64": {"whsec_%%", signed, body, now},
	} {
		if GitLabProven(c.secret, c.head, c.body, c.at) {
			t.Errorf("%s is taken", name)
		}
	}
}

// A blocked deployment and its manual job ask for the same; other messages ask for
// nothing, and what does not name all is malformed.
func TestGitLabAsking(t *testing.T) {
	g := lktest.NewGitLabAPI(t)
	want := Asking{Repository: "20", Place: "acme/pay/ments", Environment: "production", Mark: "302"}
	job, asks, err := GitLabAsking("Job Hook", g.JobMessage(nil))
	if a := labAsked(t, g); a != want || job != want || !asks || err != nil {
		t.Errorf("read %+v and %+v %v", a, job, err)
	}
	project := func(id any, path string) map[string]any {
		return map[string]any{"project": map[string]any{"id": id, "path_with_namespace": path}}
	}
	for name, c := range map[string]struct {
		event string
		body  []byte
	}{
		"a success": {"Deployment Hook", g.DeploymentMessage(map[string]any{"status": "success"})}, "an approval": {"Deployment Hook", g.DeploymentMessage(map[string]any{"status": "approved"})},
		"a running job": {"Job Hook", g.JobMessage(map[string]any{"build_status": "running"})}, "no environment": {"Job Hook", g.JobMessage(map[string]any{"environment": nil})},
		"a stop":        {"Job Hook", g.JobMessage(map[string]any{"environment": map[string]any{"name": "production", "action": "stop"}})},
		"another event": {"Pipeline Hook", g.JobMessage(nil)}, "another kind": {"Job Hook", g.DeploymentMessage(nil)}, "the kind of another event": {"Deployment Hook", g.JobMessage(nil)}, "no event": {"", g.DeploymentMessage(nil)},
	} {
		if a, asks, err := GitLabAsking(c.event, c.body); asks || err != nil || a != (Asking{}) {
			t.Errorf("%s: %+v %v %v", name, a, asks, err)
		}
	}
	for name, c := range map[string]struct {
		job  bool
		more map[string]any
	}{
		"no job": {false, map[string]any{"deployable_id": nil}}, "no environment": {false, map[string]any{"environment": ""}}, "an environment of another kind": {false, map[string]any{"environment": map[string]any{"name": "production"}}},
		"a long environment": {false, map[string]any{"environment": strings.Repeat("e", 256)}}, "no project": {false, map[string]any{"project": nil}}, "a text as id": {false, project("20", "acme/pay/ments")},
		"a path as a name": {false, project(20, "../../user")}, "one name": {false, project(20, "acme")}, "an empty group": {false, project(20, "acme//ments")}, "a query": {false, project(20, "acme/pay?x=y")},
		"two projects": {true, map[string]any{"project_id": 21}}, "no build": {true, map[string]any{"build_id": 0}}, "a text as environment": {true, map[string]any{"environment": "production"}}, "below zero": {true, map[string]any{"build_id": -302}},
	} {
		event, body := "Deployment Hook", g.DeploymentMessage(c.more)
		if c.job {
			event, body = "Job Hook", g.JobMessage(c.more)
		}
		if _, asks, err := GitLabAsking(event, body); asks || problem(err) != "message_malformed" {
			t.Errorf("%s: %v %v", name, asks, err)
		}
	}
}

func FuzzGitLabAsking(f *testing.F) {
	g := &lktest.GitLabAPI{}
	f.Add(g.DeploymentMessage(nil))
	f.Add(g.JobMessage(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, event := range []string{"Deployment Hook", "Job Hook"} {
			a, asks, err := GitLabAsking(event, body)
			if asks && (err != nil || !pathFit(a.Place) || a.Environment == "" || strings.Trim(a.Repository+a.Mark, "0123456789") != "" || a.Repository == "" || a.Mark == "") {
				t.Errorf("took %+v", a)
			}
		}
	})
}

// What is behind a job is what the API says, each fact marked so.
func TestGitLabLook(t *testing.T) {
	g := lktest.NewGitLabAPI(t)
	look, err := lab(g).Look(context.Background(), labAsked(t, g))
	if err != nil || !look.Held || look.Over {
		t.Fatal(look, err)
	}
	w := look.Job
	for _, f := range w.Facts() {
		if f.Fact.Known() && f.Fact.Mark != lockkeeper.LookedUp {
			t.Errorf("%s is %+v", f.Name, f.Fact)
		}
	}
	if w.Ref.Value != "refs/heads/main" || w.RefProtected.Value != "true" || w.Actor.Value != "1001" || w.DefinitionPath.Value != ".gitlab-ci.yml" || w.DefinitionRef.Value != "refs/heads/main" || w.Commit.Value != g.Commit ||
		w.Attempt != 1 || w.Run.Value != "574" || w.Job.Value != "302" || w.Environment.Value != "production" || w.Runner.Value != "self_hosted" || w.Organisation.Value != "72" || w.Event.Value != "push" || w.QueuedBy.Known() {
		t.Errorf("read %+v", w)
	}
	// The project was renamed, and another account ran the job again.
	g.Set("project", "path_with_namespace", "acme/other")
	g.Set("job", "user", map[string]any{"id": 1002, "username": "bob"})
	if look, err = lab(g).Look(context.Background(), labAsked(t, g)); err != nil || look.Job.RepositoryName.Value != "acme/other" || look.Job.Actor.Value != "1002" || look.Job.QueuedBy.Value != "1001" {
		t.Errorf("run again: %+v %v", look.Job, err)
	}
}

// A job is held while its deployment is blocked for want of an approval, and by nothing
// else.
func TestGitLabHeld(t *testing.T) {
	summary := func(given ...any) map[string]any {
		return map[string]any{"rules": []any{map[string]any{"required_approvals": 1, "deployment_approvals": given}}}
	}
	yes, no := map[string]any{"user": map[string]any{"id": 5}, "status": "approved"}, map[string]any{"user": map[string]any{"id": 6}, "status": "rejected"}
	for name, c := range map[string]struct {
		change     func(g *lktest.GitLabAPI)
		held, over bool
		outcome    string
	}{
		"blocked":           {func(*lktest.GitLabAPI) {}, true, false, ""},
		"in a crowd":        {func(g *lktest.GitLabAPI) { g.Crowd(250) }, true, false, ""},
		"a manual job only": {func(g *lktest.GitLabAPI) { g.Requires(0) }, false, false, ""},
		"by a rule":         {func(g *lktest.GitLabAPI) { g.Requires(0); g.Set("deployment", "approval_summary", summary(no)) }, true, false, ""},
		"a rule satisfied":  {func(g *lktest.GitLabAPI) { g.Requires(0); g.Set("deployment", "approval_summary", summary(yes)) }, false, false, ""},
		"approved":          {func(g *lktest.GitLabAPI) { g.Set("deployment", "status", "created") }, false, false, ""},
		"played":            {func(g *lktest.GitLabAPI) { g.Plays("running", "running") }, false, false, ""},
		"failed":            {func(g *lktest.GitLabAPI) { g.Plays("failed", "failed") }, false, true, "failure"},
		"done":              {func(g *lktest.GitLabAPI) { g.Plays("success", "success") }, false, true, "success"},
		"canceled":          {func(g *lktest.GitLabAPI) { g.Plays("canceled", "blocked") }, false, true, "cancelled"},
		"skipped":           {func(g *lktest.GitLabAPI) { g.Plays("skipped", "skipped") }, false, true, "cancelled"},
		"another environment": {func(g *lktest.GitLabAPI) {
			g.Set("deployment", "environment", map[string]any{"id": 8, "name": "staging"})
		}, false, false, ""},
		"another job's": {func(g *lktest.GitLabAPI) { g.Set("deployment", "deployable", map[string]any{"id": 303}) }, false, false, ""},
	} {
		g := lktest.NewGitLabAPI(t)
		c.change(g)
		look, err := lab(g).Follow(context.Background(), labAsked(t, g))
		if err != nil || look.Held != c.held || look.Over != c.over || look.Outcome != c.outcome || look.Job.Attempt != 1 {
			t.Errorf("%s: %+v %v", name, look, err)
		}
		if look, err = lab(g).Look(context.Background(), labAsked(t, g)); err != nil || look.Held != c.held || look.Over != c.over {
			t.Errorf("%s: looked at: %+v %v", name, look, err)
		}
	}
}

// A ref and a definition count only where the pipeline runs the project's own.
func TestGitLabRef(t *testing.T) {
	both := func(g *lktest.GitLabAPI, field string, value any) {
		g.Set("pipeline", field, value)
		g.Set("job", field, value)
	}
	ref := func(g *lktest.GitLabAPI, name string) {
		both(g, "ref", name)
		g.Set("deployment", "ref", name)
	}
	for name, c := range map[string]struct {
		change          func(g *lktest.GitLabAPI)
		ref, definition string
		protected       string
	}{
		"a branch":                     {func(*lktest.GitLabAPI) {}, "refs/heads/main", ".gitlab-ci.yml", "true"},
		"of two parts":                 {func(g *lktest.GitLabAPI) { ref(g, "feature/x y"); g.Ref("branches/feature/x y", true) }, "", "", ""},
		"a path":                       {func(g *lktest.GitLabAPI) { ref(g, "../../../user") }, "", "", ""},
		"a slash":                      {func(g *lktest.GitLabAPI) { ref(g, "feature/x"); g.Ref("branches/feature/x", false) }, "refs/heads/feature/x", ".gitlab-ci.yml", "false"},
		"a tag":                        {func(g *lktest.GitLabAPI) { ref(g, "v1"); both(g, "tag", true); g.Ref("tags/v1", true) }, "refs/tags/v1", ".gitlab-ci.yml", "true"},
		"a branch called like a tag":   {func(g *lktest.GitLabAPI) { ref(g, "v1"); g.Ref("tags/v1", true) }, "", "", ""},
		"no branch any more":           {func(g *lktest.GitLabAPI) { g.Ref("branches/main", nil) }, "", "", ""},
		"a merge request":              {func(g *lktest.GitLabAPI) { g.Set("pipeline", "source", "merge_request_event") }, "", "", ""},
		"a full name":                  {func(g *lktest.GitLabAPI) { ref(g, "refs/heads/main"); g.Ref("branches/refs/heads/main", true) }, "", "", ""},
		"a generated definition":       {func(g *lktest.GitLabAPI) { g.Set("pipeline", "source", "parent_pipeline") }, "", "", ""},
		"a policy's":                   {func(g *lktest.GitLabAPI) { g.Set("pipeline", "source", "security_orchestration_policy") }, "", "", ""},
		"by hand":                      {func(g *lktest.GitLabAPI) { g.Set("pipeline", "source", "web") }, "refs/heads/main", ".gitlab-ci.yml", "true"},
		"the default, as null":         {func(g *lktest.GitLabAPI) { g.Set("project", "ci_config_path", nil) }, "refs/heads/main", ".gitlab-ci.yml", "true"},
		"a file of its own":            {func(g *lktest.GitLabAPI) { g.Set("project", "ci_config_path", "ci/deploy.yml") }, "refs/heads/main", "ci/deploy.yml", "true"},
		"of another project":           {func(g *lktest.GitLabAPI) { g.Set("project", "ci_config_path", "deploy.yml@acme/delivery:main") }, "refs/heads/main", "", "true"},
		"of the web":                   {func(g *lktest.GitLabAPI) { g.Set("project", "ci_config_path", "https://example.com/deploy.yml") }, "refs/heads/main", "", "true"},
		"a definition that is untold":  {func(g *lktest.GitLabAPI) { g.Omit("project", "ci_config_path") }, "refs/heads/main", "", "true"},
		"a definition of another kind": {func(g *lktest.GitLabAPI) { g.Set("project", "ci_config_path", 7) }, "refs/heads/main", "", "true"},
	} {
		g := lktest.NewGitLabAPI(t)
		c.change(g)
		look, err := lab(g).Look(context.Background(), labAsked(t, g))
		if w := look.Job; err != nil || w.Ref.Value != c.ref || w.Ref.Known() != (c.ref != "") || w.DefinitionPath.Value != c.definition || w.DefinitionPath.Known() != (c.definition != "") || w.RefProtected.Value != c.protected {
			t.Errorf("%s: %+v %+v %+v %v", name, w.Ref, w.DefinitionPath, w.RefProtected, err)
		}
	}
}

// What the platform says of another job, malformed or not at all is no look.
func TestGitLabProblems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *lktest.GitLabAPI)
		code   string
	}{
		"another job": {func(g *lktest.GitLabAPI) { g.Set("job", "id", 303) }, "run_differs"},
		"another project's job": {func(g *lktest.GitLabAPI) {
			g.Set("job", "pipeline", map[string]any{"id": 574, "project_id": 21, "sha": g.Commit})
		}, "run_differs"},
		"another commit": {func(g *lktest.GitLabAPI) { g.Set("deployment", "sha", strings.Repeat("2", 40)) }, "run_differs"},
		"another ref":    {func(g *lktest.GitLabAPI) { g.Set("deployment", "ref", "other") }, "run_differs"},
		"another deployment": {func(g *lktest.GitLabAPI) {
			g.Set("deployment", "id", 41)
			g.Set("pipeline", "sha", strings.Repeat("2", 40))
		}, "run_differs"},
		"another pipeline":       {func(g *lktest.GitLabAPI) { g.Set("pipeline", "project_id", 21) }, "run_differs"},
		"a tag's pipeline":       {func(g *lktest.GitLabAPI) { g.Set("pipeline", "tag", true) }, "run_differs"},
		"another project":        {func(g *lktest.GitLabAPI) { g.Set("project", "id", 21) }, "run_differs"},
		"no namespace":           {func(g *lktest.GitLabAPI) { g.Set("project", "namespace", nil) }, "answer_malformed"},
		"no user":                {func(g *lktest.GitLabAPI) { g.Set("job", "user", nil) }, "answer_malformed"},
		"nobody's pipeline":      {func(g *lktest.GitLabAPI) { g.Set("pipeline", "user", nil) }, "answer_malformed"},
		"no source":              {func(g *lktest.GitLabAPI) { g.Omit("pipeline", "source") }, "answer_malformed"},
		"short commit":           {func(g *lktest.GitLabAPI) { g.Set("job", "commit", map[string]any{"id": "714a629c"}) }, "answer_malformed"},
		"a text as id":           {func(g *lktest.GitLabAPI) { g.Set("job", "id", "302") }, "answer_malformed"},
		"a ref untold protected": {func(g *lktest.GitLabAPI) { g.Ref("branches/main", "yes") }, "answer_malformed"},
		"another account":        {func(g *lktest.GitLabAPI) { g.Set("user", "id", 78) }, "account_differs"},
		"too many":               {func(g *lktest.GitLabAPI) { g.Crowd(1000) }, "deployments_many"},
		"away":                   {func(g *lktest.GitLabAPI) { g.Fails("GET", 502) }, "platform_refused"},
		"forbidden":              {func(g *lktest.GitLabAPI) { g.Fails("GET", 403) }, "platform_refused"},
		"redirect":               {func(g *lktest.GitLabAPI) { g.Fails("GET", 301) }, "platform_refused"},
	} {
		g := lktest.NewGitLabAPI(t)
		a := labAsked(t, g)
		c.change(g)
		if _, err := lab(g).Look(context.Background(), a); problem(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	g := lktest.NewGitLabAPI(t)
	for _, key := range []string{"", "two words", "line\nline", strings.Repeat("k", 2000)} {
		l := lab(g)
		l.Key = func() ([]byte, error) { return []byte(key), nil }
		if _, err := l.Look(context.Background(), labAsked(t, g)); problem(err) != "key_unfit" {
			t.Errorf("the key %.20q: %v", key, err)
		}
	}
	l := lab(g)
	l.Key = func() ([]byte, error) { return []byte("glpat-other"), nil }
	if _, err := l.Look(context.Background(), labAsked(t, g)); problem(err) != "platform_refused" || strings.Contains(err.Error(), "glpat") {
		t.Errorf("another token: %v", err)
	}
}

// An answer is what GitLab takes, whatever is said in it, and is not given twice.
func TestGitLabTell(t *testing.T) {
	g := lktest.NewGitLabAPI(t)
	c, a, ctx := lab(g), labAsked(t, g), context.Background()
	g.Requires(2) // somebody else's yes is needed, too
	for range 3 {
		if err := c.Tell(ctx, a, true, "line\n"+strings.Repeat("ä", 300)); err != nil {
			t.Error(err)
		}
	}
	if got := g.Approvals(); len(got) != 1 || got[0].Status != "approved" || !strings.HasPrefix(got[0].Comment, "line ä") {
		t.Errorf("%+v", got)
	}
	g.Set("deployment", "status", "created")
	err := c.Tell(ctx, a, false, "no")
	if p := new(Problem); !errors.As(err, &p) || !p.Final || p.Code != "nothing_waits" {
		t.Errorf("with nothing blocked: %v", err)
	}
	for status, final := range map[int]bool{400: true, 404: true, 401: false, 403: false, 502: false} {
		g := lktest.NewGitLabAPI(t)
		g.Fails("POST", status)
		if p := new(Problem); !errors.As(lab(g).Tell(ctx, a, true, "yes"), &p) || p.Final != final {
			t.Errorf("%d: %+v", status, p)
		}
	}
	other := lktest.NewGitLabAPI(t)
	other.Set("user", "id", 78)
	if err := lab(other).Tell(ctx, a, true, "yes"); problem(err) != "account_differs" || len(other.Approvals()) != 0 {
		t.Errorf("by another account: %v", err)
	}
	for said, want := range map[string]string{"short": "short", "short [h-1]": "short [h-1]", strings.Repeat("a", 300) + " [sha256:1 h-1]": strings.Repeat("a", 237) + "… [sha256:1 h-1]",
		strings.Repeat("b", 200) + " [" + strings.Repeat("c", 200) + "]": strings.Repeat("b", 200) + " [" + strings.Repeat("c", 50) + "…"} {
		if got := gitlabComment(said); got != want || len(got) > 255 {
			t.Errorf("%q is said as %q (%d)", said, got, len(got))
		}
	}
	if err := c.Status(ctx, a, "waits"); err != nil || len(g.Approvals()) != 1 {
		t.Error("a status line is an answer")
	}
}
