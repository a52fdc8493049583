package forge

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// A GitHub is one GitHub App of Lockkeeper's. It needs the repository permissions
// actions: read, contents: read and deployments: write.
type GitHub struct {
	Provider string // name in the catalog
	Issuer   string // of the provider's tokens
	API      string // https://api.github.com, or HOST/api/v3 of a server of one's own
	App      string // the App's number
	Key      func() ([]byte, error)
	Client   *http.Client // default: one that follows no redirect

	mu     sync.Mutex
	access map[string]access // by installation
}

type access struct {
	token string
	until time.Time
}

// Look reads all that the platform knows of the run: twice the run, so that what is
// between is of one attempt.
func (g *GitHub) Look(ctx context.Context, a Asking) (Look, error) {
	out, run, err := g.follow(ctx, a)
	if err != nil {
		return Look{}, err
	}
	if out.Job, err = g.workload(ctx, a, run); err != nil {
		return Look{}, err
	}
	again, err := g.run(ctx, a)
	if err != nil {
		return Look{}, err
	}
	if again.Attempt != run.Attempt || again.Commit != run.Commit {
		return Look{}, &Problem{"run_moved", "The run became another attempt while it was read.", false}
	}
	return out, nil
}

// Follow reads whether the run is held still and how it went. Of the job it says the
// attempt only.
func (g *GitHub) Follow(ctx context.Context, a Asking) (Look, error) {
	out, _, err := g.follow(ctx, a)
	return out, err
}

func (g *GitHub) follow(ctx context.Context, a Asking) (Look, githubRun, error) {
	run, err := g.run(ctx, a)
	if err != nil {
		return Look{}, run, err
	}
	var pending []struct {
		Environment struct {
			Name string `json:"name"`
		} `json:"environment"`
	}
	if err := g.get(ctx, a, at(a)+"/pending_deployments", &pending); err != nil {
		return Look{}, run, err
	}
	out := Look{Over: run.Status == "completed", Outcome: run.Conclusion, Job: lockkeeper.Workload{Attempt: run.Attempt}}
	for _, p := range pending {
		out.Held = out.Held || p.Environment.Name == a.Environment
	}
	out.Held = out.Held && !out.Over
	return out, run, nil
}

// at is where the API has the run.
func at(a Asking) string { return "/repos/" + a.Place + "/actions/runs/" + url.PathEscape(a.Run) }

// githubRun is what is read of a workflow run (docs.github.com, "Get a workflow run").
type githubRun struct {
	ID         int64  `json:"id"`
	Attempt    int    `json:"run_attempt"`
	Event      string `json:"event"`
	Status     string `json:"status"`
	Conclusion string `json:"conclusion"`
	Branch     string `json:"head_branch"`
	Commit     string `json:"head_sha"`
	Path       string `json:"path"`
	Actor      party  `json:"actor"`
	Triggering party  `json:"triggering_actor"`
	Repository place  `json:"repository"`
	Head       place  `json:"head_repository"`
	Called     []struct {
		Path string `json:"path"`
	} `json:"referenced_workflows"`
}

type party struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

type place struct {
	ID       int64  `json:"id"`
	FullName string `json:"full_name"`
	Owner    party  `json:"owner"`
}

// run reads the run and holds it against what the message said.
func (g *GitHub) run(ctx context.Context, a Asking) (githubRun, error) {
	var r githubRun
	if err := g.get(ctx, a, at(a), &r); err != nil {
		return r, err
	}
	if id(r.ID) != a.Run || id(r.Repository.ID) != a.Repository || id(r.Repository.Owner.ID) != a.Organisation {
		return r, &Problem{"run_differs", "The run that the platform knows by this number is not of the repository that asked.", true}
	}
	if r.Attempt < 1 || !commit(r.Commit) || id(r.Actor.ID) == "" || r.Event == "" {
		return r, &Problem{"answer_malformed", "The platform's answer about the run lacks its attempt, commit, actor or event.", false}
	}
	return r, nil
}

func commit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// workload is what the API proves of the job that waits. It has no runner yet, so it is
// taken for one on anybody's; which reusable definition it runs in is not known where the
// run uses any.
func (g *GitHub) workload(ctx context.Context, a Asking, r githubRun) (lockkeeper.Workload, error) {
	looked := func(s string) lockkeeper.Fact { return lockkeeper.Fact{Value: s, Mark: lockkeeper.LookedUp} }
	path, _, _ := strings.Cut(r.Path, "@")
	w := lockkeeper.Workload{Provider: g.Provider, Platform: "github", Issuer: g.Issuer, Attempt: r.Attempt,
		Organisation: looked(a.Organisation), Repository: looked(a.Repository), RepositoryName: looked(a.Place), Run: looked(a.Run),
		Job: looked("environment/" + a.Environment), Event: looked(r.Event), Commit: looked(r.Commit), Environment: looked(a.Environment),
		Runner: looked("self_hosted"), DefinitionPath: looked(path), DefinitionCommit: looked(r.Commit), Actor: looked(id(r.Actor.ID)), ActorName: looked(r.Actor.Login)}
	if r.Attempt > 1 && id(r.Triggering.ID) != "" {
		w.RerunActor = looked(id(r.Triggering.ID))
	}
	if len(r.Called) > 0 {
		w.CalledPath = looked("not known before the job runs")
	}
	ref, err := g.ref(ctx, a, r)
	if err != nil || ref == "" {
		return w, err
	}
	w.Ref, w.RefType, w.DefinitionRef = looked(ref), looked("branch"), looked(ref)
	return w, nil
}

// branchEvents run the definition of the commit that they name, on a branch of the
// repository itself.
var branchEvents = []string{"push", "workflow_dispatch", "schedule", "repository_dispatch"}

// ref is the branch that the run is of. The API gives a short name, which a tag can have,
// too, and one may be made and taken away: so the run's commit must be on the branch of
// that name, and no tag may have it. Else the ref is not known.
func (g *GitHub) ref(ctx context.Context, a Asking, r githubRun) (string, error) {
	if !slices.Contains(branchEvents, r.Event) || !branchFit(r.Branch) || r.Head.ID != r.Repository.ID {
		return "", nil
	}
	tag, err := g.tip(ctx, a, "tags/"+r.Branch)
	if err != nil || tag != "" {
		return "", err
	}
	tip, err := g.tip(ctx, a, "heads/"+r.Branch)
	if err != nil || tip == "" {
		return "", err
	}
	var between struct {
		Status string `json:"status"`
	}
	// From the commit to the branch: ahead says that the branch holds the commit and more.
	err = g.get(ctx, a, "/repos/"+a.Place+"/compare/"+r.Commit+"..."+tip+"?per_page=1", &between)
	if err != nil || between.Status != "identical" && between.Status != "ahead" {
		return "", err
	}
	return "refs/heads/" + r.Branch, nil
}

// branchFit reports whether a branch can be called so and be a part of an address.
func branchFit(s string) bool {
	return s != "" && len(s) <= 244 && !strings.Contains(s, "..") && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) }) &&
		!strings.HasPrefix(s, "/") && !strings.HasSuffix(s, "/") && !strings.Contains(s, "//")
}

func escaped(ref string) string {
	parts := strings.Split(ref, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return strings.Join(parts, "/")
}

// tip is what a ref of exactly this name points to; "": there is none.
func (g *GitHub) tip(ctx context.Context, a Asking, ref string) (string, error) {
	var found struct {
		Ref    string `json:"ref"`
		Object struct {
			SHA string `json:"sha"`
		} `json:"object"`
	}
	status, err := g.call(ctx, a, http.MethodGet, "/repos/"+a.Place+"/git/ref/"+escaped(ref), nil, &found)
	switch {
	case status == http.StatusNotFound:
		return "", nil
	case err == nil && (found.Ref != "refs/"+ref || !commit(found.Object.SHA)):
		return "", &Problem{"answer_malformed", "The platform answered about another ref than the one that it was asked for.", false}
	}
	return found.Object.SHA, err
}

// Bounds of what the platform is told.
const (
	MaxStatuses   = 10 // of one held run
	maxStatusText = 1024
)

// Tell answers for a run that is held.
func (g *GitHub) Tell(ctx context.Context, a Asking, approve bool, comment string) error {
	state := "rejected"
	if approve {
		state = "approved"
	}
	return g.review(ctx, a, map[string]any{"environment_name": a.Environment, "state": state, "comment": clip(comment)})
}

// Status tells those who look at the run what it waits for. The platform takes
// MaxStatuses of them.
func (g *GitHub) Status(ctx context.Context, a Asking, line string) error {
	return g.review(ctx, a, map[string]any{"environment_name": a.Environment, "comment": clip(line)})
}

func (g *GitHub) review(ctx context.Context, a Asking, body map[string]any) error {
	_, err := g.call(ctx, a, http.MethodPost, at(a)+"/deployment_protection_rule", body, nil)
	return err
}

func clip(s string) string { return clipTo(s, maxStatusText) }

// clipTo makes one line of at most so many bytes.
func clipTo(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-3], "") + "…"
	}
	return s
}

func (g *GitHub) get(ctx context.Context, a Asking, path string, into any) error {
	_, err := g.call(ctx, a, http.MethodGet, path, nil, into)
	return err
}

// call makes one call as the installation that the message came from.
func (g *GitHub) call(ctx context.Context, a Asking, method, path string, body, into any) (int, error) {
	token, err := g.token(ctx, a.Installation)
	if err != nil {
		return 0, err
	}
	status, err := send(ctx, g.Client, call{method, strings.TrimSuffix(g.API, "/") + path, githubHead(token), body, into})
	if status == http.StatusUnauthorized {
		g.mu.Lock()
		delete(g.access, a.Installation)
		g.mu.Unlock()
	}
	return status, err
}

func githubHead(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token, "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
}

// token is the installation's access, fetched with the App's own proof when there is none
// that lasts another five minutes.
func (g *GitHub) token(ctx context.Context, installation string) (string, error) {
	now := time.Now()
	g.mu.Lock()
	known := g.access[installation]
	g.mu.Unlock()
	if now.Add(5 * time.Minute).Before(known.until) {
		return known.token, nil
	}
	proof, err := g.proof(now)
	if err != nil {
		return "", err
	}
	var granted struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	if _, err := send(ctx, g.Client, call{http.MethodPost, strings.TrimSuffix(g.API, "/") + "/app/installations/" + url.PathEscape(installation) + "/access_tokens", githubHead(proof), nil, &granted}); err != nil {
		return "", err
	}
	if granted.Token == "" || len(granted.Token) > 4096 || strings.ContainsFunc(granted.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", &Problem{"answer_malformed", "The platform granted the application no access that can be used.", false}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.access == nil || len(g.access) >= 1000 {
		g.access = map[string]access{}
	}
	g.access[installation] = access{granted.Token, granted.Expires}
	return granted.Token, nil
}

// proof is the JWT with which the App proves itself: RS256, nine minutes, begun a minute
// ago (docs.github.com, "Generating a JSON Web Token for a GitHub App").
func (g *GitHub) proof(now time.Time) (string, error) {
	file, err := g.Key()
	if err != nil {
		return "", err
	}
	key, err := rsaKey(file)
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iat": now.Unix() - 60, "exp": now.Unix() + 9*60, "iss": g.App})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign as the application: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func rsaKey(file []byte) (*rsa.PrivateKey, error) {
	unfit := &Problem{"key_unfit", "The application's key file holds no RSA private key in PEM of at least 2048 bits.", true}
	block, _ := pem.Decode(file)
	if block == nil {
		return nil, unfit
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		other, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, unfit
		}
		key, _ = other.(*rsa.PrivateKey)
	}
	if key == nil || key.N.BitLen() < 2048 {
		return nil, unfit
	}
	return key, nil
}
