package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

func asked(t *testing.T, g *lktest.GitHubAPI) Asking {
	t.Helper()
	body, _ := g.Message(nil)
	a, asks, err := GitHubAsking(body)
	if err != nil || !asks {
		t.Fatal(asks, err)
	}
	return a
}

func client(g *lktest.GitHubAPI) *GitHub {
	return &GitHub{Provider: "github", Issuer: "https://ci.example", API: g.URL, App: g.App, Key: func() ([]byte, error) { return g.Key, nil }}
}

func problem(err error) string {
	if p := new(Problem); errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// A message is taken only with its signature, byte by byte.
func TestGitHubSigned(t *testing.T) {
	g := lktest.NewGitHubAPI(t)
	body, signature := g.Message(nil)
	if !GitHubSigned(g.Secret, signature, body) {
		t.Fatal("the right signature is not taken")
	}
	for name, c := range map[string]struct {
		secret, signature string
		body              []byte
	}{
		"other secret": {g.Secret + "x", signature, body}, "no secret": {"", signature, body}, "no signature": {g.Secret, "", body}, "sha1": {g.Secret, strings.Replace(signature, "sha256", "sha1", 1), body},
		"no name": {g.Secret, strings.TrimPrefix(signature, "sha256="), body}, "short": {g.Secret, signature[:60], body}, "empty": {g.Secret, "sha256=", body},
		"other body": {g.Secret, signature, append(bytes.Clone(body), ' ')}, "no hex": {g.Secret, "sha256=" + strings.Repeat("z", 64), body},
	} {
		if GitHubSigned(c.secret, c.signature, c.body) {
			t.Errorf("%s is taken", name)
		}
	}
}

// What a message must name is there and is of one repository, or it is none.
func TestGitHubAsking(t *testing.T) {
	g := lktest.NewGitHubAPI(t)
	if a := asked(t, g); a != (Asking{Organisation: "7001", Repository: "8001", Place: "acme/payments", Run: "30433642", Environment: "production", Installation: "9", Mark: "501"}) {
		t.Errorf("read %+v", a)
	}
	body, _ := g.Message(map[string]any{"action": "other"})
	if _, asks, err := GitHubAsking(body); asks || err != nil {
		t.Errorf("another action: %v %v", asks, err)
	}
	const runs = "https://api.github.com/repos/acme/payments/actions/runs/"
	for name, more := range map[string]map[string]any{
		"no environment": {"environment": ""}, "long environment": {"environment": strings.Repeat("e", 256)}, "no deployment": {"deployment": nil}, "no installation": {"installation": nil},
		"no repository": {"repository": nil}, "no callback": {"deployment_callback_url": ""},
		"another repository's run": {"deployment_callback_url": "https://api.github.com/repos/acme/other/actions/runs/1/deployment_protection_rule"},
		"no run":                   {"deployment_callback_url": runs + "x/deployment_protection_rule"}, "spelled run": {"deployment_callback_url": runs + "030433642/deployment_protection_rule"},
		"another call":     {"deployment_callback_url": runs + "30433642/cancel"},
		"a path as a name": {"repository": map[string]any{"id": 8001, "full_name": "../../x", "owner": map[string]any{"id": 7001}}},
		"a text as id":     {"repository": map[string]any{"id": "8001", "full_name": "acme/payments", "owner": map[string]any{"id": 7001}}},
	} {
		body, _ := g.Message(more)
		if _, asks, err := GitHubAsking(body); asks || problem(err) != "message_malformed" {
			t.Errorf("%s: %v %v", name, asks, err)
		}
	}
}

func FuzzGitHubAsking(f *testing.F) {
	f.Add([]byte(`{"action":"requested","environment":"e","deployment_callback_url":"https://x/repos/a/b/actions/runs/1/deployment_protection_rule","deployment":{"id":1},"repository":{"id":1,"full_name":"a/b","owner":{"id":1}},"installation":{"id":1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, asks, err := GitHubAsking(body)
		if asks && (err != nil || !placeFit(a.Place) || strings.Trim(a.Run+a.Repository+a.Organisation+a.Mark+a.Installation, "0123456789") != "") {
			t.Errorf("took %+v", a)
		}
	})
}

// What is behind a run is what the API says, each fact marked so.
func TestGitHubLook(t *testing.T) {
	g := lktest.NewGitHubAPI(t)
	look, err := client(g).Look(context.Background(), asked(t, g))
	if err != nil || !look.Held || look.Over {
		t.Fatal(look, err)
	}
	w := look.Job
	for _, f := range w.Facts() {
		if f.Fact.Known() && f.Fact.Mark != lockkeeper.LookedUp {
			t.Errorf("%s is %+v", f.Name, f.Fact)
		}
	}
	if w.Ref.Value != "refs/heads/main" || w.Actor.Value != "1001" || w.DefinitionPath.Value != ".github/workflows/release.yml" || w.Commit.Value != g.Commit || w.Attempt != 1 || w.RerunActor.Known() ||
		w.Environment.Value != "production" || w.CalledPath.Known() || w.Runner.Value != "self_hosted" || w.Organisation.Value != "7001" || w.Event.Value != "push" {
		t.Errorf("read %+v", w)
	}
	g.Run("run_attempt", 2)
	g.Run("triggering_actor", map[string]any{"id": 1002, "login": "bob"})
	if look, err = client(g).Look(context.Background(), asked(t, g)); err != nil || look.Job.Attempt != 2 || look.Job.RerunActor.Value != "1002" || look.Job.Actor.Value != "1001" {
		t.Errorf("run again: %+v %v", look.Job, err)
	}
	g.Waits("staging")
	if look, err = client(g).Look(context.Background(), asked(t, g)); err != nil || look.Held {
		t.Errorf("it waits for another environment: %+v %v", look, err)
	}
}

// A ref counts only if a tag could not have its name, and its branch holds the commit.
func TestGitHubRef(t *testing.T) {
	fork := map[string]any{"id": 9001, "full_name": "eve/payments", "owner": map[string]any{"id": 1004}}
	for name, c := range map[string]struct {
		change func(g *lktest.GitHubAPI)
		ref    string
	}{
		"the branch's tip": {func(*lktest.GitHubAPI) {}, "refs/heads/main"},
		"further back":     {func(g *lktest.GitHubAPI) { g.Ref("heads/main", strings.Repeat("b", 40)); g.Compares("ahead") }, "refs/heads/main"},
		"not on it":        {func(g *lktest.GitHubAPI) { g.Compares("diverged") }, ""},
		"beyond it":        {func(g *lktest.GitHubAPI) { g.Compares("behind") }, ""},
		"a tag, too":       {func(g *lktest.GitHubAPI) { g.Ref("tags/main", g.Commit) }, ""},
		"no branch":        {func(g *lktest.GitHubAPI) { g.Ref("heads/main", "") }, ""},
		"a fork":           {func(g *lktest.GitHubAPI) { g.Run("head_repository", fork) }, ""},
		"a pull request":   {func(g *lktest.GitHubAPI) { g.Run("event", "pull_request") }, ""},
		"a target":         {func(g *lktest.GitHubAPI) { g.Run("event", "pull_request_target") }, ""},
		"a path":           {func(g *lktest.GitHubAPI) { g.Run("head_branch", "../../../../user") }, ""},
		"a query":          {func(g *lktest.GitHubAPI) { g.Run("head_branch", "main?x=y") }, ""},
		"none":             {func(g *lktest.GitHubAPI) { g.Run("head_branch", nil) }, ""},
	} {
		g := lktest.NewGitHubAPI(t)
		c.change(g)
		look, err := client(g).Look(context.Background(), asked(t, g))
		if err != nil || look.Job.Ref.Value != c.ref || look.Job.Ref.Known() != (c.ref != "") {
			t.Errorf("%s: %+v %v", name, look.Job.Ref, err)
		}
	}
	g := lktest.NewGitHubAPI(t)
	g.Run("referenced_workflows", []any{map[string]any{"path": "acme/delivery/.github/workflows/deploy.yml@main", "sha": g.Commit}})
	if look, err := client(g).Look(context.Background(), asked(t, g)); err != nil || !look.Job.CalledPath.Known() || strings.Contains(look.Job.CalledPath.Value, "/") {
		t.Errorf("with a reusable definition: %+v %v", look.Job.CalledPath, err)
	}
}

// What the platform says of another run, malformed or not at all is no look.
func TestGitHubProblems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *lktest.GitHubAPI)
		code   string
	}{
		"another repository": {func(g *lktest.GitHubAPI) {
			g.Run("repository", map[string]any{"id": 8002, "full_name": "acme/payments", "owner": map[string]any{"id": 7001}})
		}, "run_differs"},
		"another owner": {func(g *lktest.GitHubAPI) {
			g.Run("repository", map[string]any{"id": 8001, "full_name": "acme/payments", "owner": map[string]any{"id": 7002}})
		}, "run_differs"},
		"another run":    {func(g *lktest.GitHubAPI) { g.Run("id", 1) }, "run_differs"},
		"no actor":       {func(g *lktest.GitHubAPI) { g.Run("actor", nil) }, "answer_malformed"},
		"short commit":   {func(g *lktest.GitHubAPI) { g.Run("head_sha", "1111111") }, "answer_malformed"},
		"no attempt":     {func(g *lktest.GitHubAPI) { g.Run("run_attempt", 0) }, "answer_malformed"},
		"attempt a text": {func(g *lktest.GitHubAPI) { g.Run("run_attempt", "1") }, "answer_malformed"},
		"away":           {func(g *lktest.GitHubAPI) { g.Fails("GET", 502) }, "platform_refused"},
		"forbidden":      {func(g *lktest.GitHubAPI) { g.Fails("GET", 403) }, "platform_refused"},
		"redirect":       {func(g *lktest.GitHubAPI) { g.Fails("GET", 301) }, "platform_refused"},
	} {
		g := lktest.NewGitHubAPI(t)
		a := asked(t, g)
		c.change(g)
		if _, err := client(g).Look(context.Background(), a); problem(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	g := lktest.NewGitHubAPI(t)
	c := client(g)
	c.Key = func() ([]byte, error) { return []byte("no key"), nil }
	if _, err := c.Look(context.Background(), asked(t, g)); problem(err) != "key_unfit" {
		t.Errorf("no key: %v", err)
	}
	c = client(g)
	c.App = "78"
	if _, err := c.Look(context.Background(), asked(t, g)); problem(err) != "platform_refused" {
		t.Errorf("another App: %v", err)
	}
}

// Answers and status lines are what GitHub takes, whatever is said in them.
func TestGitHubTell(t *testing.T) {
	g := lktest.NewGitHubAPI(t)
	c, a, ctx := client(g), asked(t, g), context.Background()
	if err := c.Status(ctx, a, strings.Repeat("ä", 2000)+"\n"); err != nil {
		t.Error(err)
	}
	if err := c.Tell(ctx, a, true, "line\nline"); err != nil {
		t.Error(err)
	}
	answers := g.Reviews(true)
	if len(answers) != 1 || answers[0] != (lktest.GitHubReview{Environment: "production", State: "approved", Comment: "line line"}) || len(g.Reviews(false)) != 1 {
		t.Errorf("%+v", answers)
	}
	err := c.Tell(ctx, a, false, "no")
	if p := new(Problem); !errors.As(err, &p) || !p.Final {
		t.Errorf("a second answer: %v", err)
	}
	if b, _ := json.Marshal(err.Error()); bytes.Contains(b, []byte("pending")) {
		t.Error("the error repeats what the platform wrote")
	}
	if n := g.Calls(); n != 4 {
		t.Errorf("%d calls; the access is not kept", n)
	}
}
