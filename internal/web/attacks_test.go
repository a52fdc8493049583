package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// The attacks of ../shared/research/sts.md, section 3, are tests by number, here
// where they concern a decision and in internal/identity where they concern how a
// token is read or a key fetched. One number runs with
//
//	go test ./... -run 'Attacks/(A1|B7)_'
//
// and attacks_test.go of the module's root fails when a number has no test.
// Every refusal is looked up where it was recorded: see refused.

// An arena is a world whose every output is kept: the log of the server, the
// keeper and the verifier, the replies, the journal.
type arena struct {
	*world
	log     *record
	replies *record // what callers were answered with refusals
	ahead   atomic.Int64
	azure   *lktest.AzureAPI

	secret struct {
		sync.Mutex
		list []string // everything that must appear nowhere
	}
}

// A record keeps what is written to it.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *record) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Len()
}

// lines is what was logged from a position on.
func (r *record) lines(from int) (out []map[string]any, err error) {
	for line := range strings.Lines(r.String()[from:]) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("a line of the log is no JSON: %q", line)
		}
		out = append(out, m)
	}
	return out, nil
}

// newArena is an arena whose first keys have been published for 25 hours.
func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{log: &record{}, replies: &record{}}
	log := slog.New(slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a.world = &world{t: t, issuer: lktest.NewIssuer(t), options: keeper.Options{Dir: t.TempDir(), Log: log, Clock: a.clock}}
	a.azure = lktest.NewAzureAPI(t, time.Now())
	k, err := func() (*keeper.Keeper, error) {
		a.ahead.Store(int64(-25 * time.Hour))
		defer a.ahead.Store(0)
		return keeper.Open(context.Background(), a.options)
	}()
	a.must(err)
	a.must(k.Close())
	a.begin(strings.ReplaceAll(arenaRules, "AZURE", a.azure.URL))
	a.hide(a.azure.Access, "a long password", handle)
	for _, c := range a.people {
		a.hide(c.Bearer)
	}
	a.must(a.as(a.job("push", "")).Call(context.Background(), "POST", "/artifacts", api.Artifacts{Artifacts: []lockkeeper.Artifact{app}}, nil))
	return a
}

func (a *arena) clock() time.Time { return time.Now().Add(time.Duration(a.ahead.Load())) }

// restart stops the keeper and starts it again on its folder.
func (a *arena) restart() {
	a.t.Helper()
	a.must(a.keeper.Close())
	a.open()
}

// hide adds texts that must appear in no output; of a token, its signature too.
func (a *arena) hide(secrets ...string) {
	a.secret.Lock()
	defer a.secret.Unlock()
	for _, s := range secrets {
		a.secret.list = append(a.secret.list, s)
		if parts := strings.Split(s, "."); len(parts) == 3 {
			a.secret.list = append(a.secret.list, parts[1], parts[2])
		}
	}
}

// secrets are the texts that must appear in no output.
func (a *arena) secrets() []string {
	a.hide(a.issued...)
	a.secret.Lock()
	defer a.secret.Unlock()
	return slices.Clone(a.secret.list)
}

func (a *arena) sign(claims map[string]any) string {
	raw := a.issuer.Token(claims)
	a.hide(raw)
	return raw
}

// github is a token of a fresh job of ann's run, with some claims replaced; nil
// takes one out.
func (a *arena) github(environment string, more map[string]any) string {
	return a.token(a.job("push", environment), more)
}

// at is a token of a fresh job that runs a definition of its own at a ref.
func (a *arena) at(definition, ref, environment string) string {
	j := a.job("push", environment)
	j.Workflow, j.Ref = ".github/workflows/"+definition, ref
	return a.token(j, nil)
}

func (a *arena) token(j lktest.GitHubJob, more map[string]any) string {
	c := a.issuer.Claims(j)
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return a.sign(c)
}

func (a *arena) gitlab(more map[string]any) string {
	a.jobs++
	c := a.issuer.GitLabClaims(a.server.URL, time.Now(), map[string]any{"iss": a.issuer.URL + "/gitlab", "job_id": fmt.Sprint(5000 + a.jobs)})
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return a.sign(c)
}

func (a *arena) devops(more map[string]any) string {
	return a.sign(a.issuer.AzureClaims(a.azure, time.Now(), more))
}

// pod is a token of a fresh pod of the service account uid in a namespace.
func (a *arena) pod(namespace, uid string) string {
	a.jobs++
	return a.sign(a.issuer.KubernetesClaims(a.server.URL, time.Now(), map[string]any{"iss": a.issuer.URL + "/cluster", "kubernetes.io": map[string]any{"namespace": namespace,
		"pod": map[string]any{"name": "x", "uid": fmt.Sprintf("51111111-2222-3333-4444-%012d", a.jobs)}, "serviceaccount": map[string]any{"name": "deployer", "uid": uid}}}))
}

func (a *arena) circle(more map[string]any) string {
	a.jobs++
	c := map[string]any{"iss": a.issuer.URL + "/circle", "aud": a.server.URL, "jti": fmt.Sprint("circle-", a.jobs), "iat": time.Now().Unix(), "exp": time.Now().Unix() + 600,
		"sub": "org/o1/project/p1/user/u1/vcs-origin/github.com/acme/payments/vcs-ref/refs/heads/main", "oidc.circleci.com/project-id": "p1", "oidc.circleci.com/workflow-id": "w1",
		"oidc.circleci.com/job-id": fmt.Sprint(a.jobs), "user": "u1", "oidc.circleci.com/vcs-origin": "https://github.com/acme/payments", "oidc.circleci.com/vcs-ref": "refs/heads/main"}
	for k, v := range more {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return a.sign(c)
}

// client is a client of the API with a bearer. What it is refused with is kept.
func (a *arena) client(bearer string) api.Client {
	return api.Client{Server: a.server.URL, Bearer: bearer, HTTP: &http.Client{Timeout: 20 * time.Second, Transport: keeping{a.replies}}}
}

type keeping struct{ to io.Writer }

func (k keeping) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode < 300 {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	k.to.Write(append(bytes.TrimSpace(body), '\n'))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}

// ask asks to deploy, and hands back the deployment.
func (a *arena) ask(c api.Client, environment string) (d api.Deployment, err error) {
	err = c.Call(context.Background(), "POST", "/deployments", api.OpenDeployment{Environment: environment, Artifacts: []lockkeeper.Artifact{app}, Handle: lockkeeper.HandleDigest(handle)}, &d)
	return d, err
}

// opens is an attempt to deploy with a token.
func (a *arena) opens(raw, environment string) func() error {
	return func() error { _, err := a.ask(a.client(raw), environment); return err }
}

func (a *arena) claims(c api.Client, id, handle string) func() error {
	return func() error {
		return c.Call(context.Background(), "POST", "/deployments/"+id+"/claim", api.Claim{Handle: handle}, nil)
	}
}

// exchanges is an attempt to get a token, with a form that is changed first.
func (a *arena) exchanges(raw, id string, change func(url.Values)) func() error {
	return func() error {
		form := exchangeForm1(raw, id, handle, "https://target.example")
		if change != nil {
			change(form)
		}
		e := a.exchange(form)
		if e.Token != "" {
			a.hide(e.Token)
			return nil
		}
		a.replies.Write([]byte(e.body))
		return lockkeeper.Invalid.Errorf(e.Code, "%s", e.Error)
	}
}

// takes fails unless the attempt succeeds.
func (a *arena) takes(t *testing.T, what string, attempt func() error) {
	t.Helper()
	if err := attempt(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// Where a refusal is recorded.
const (
	inJournal = true  // the caller is known: an entry with all reasons
	inLog     = false // nobody vouches for the caller, or the ask is malformed: the log and the metrics alone
)

// refused fails unless the attempt is refused with the code (or one of several,
// separated by |), and that is recorded once: the request's line in the log and
// the metric have the code, and the journal has one refusal.made with it for a
// caller who is known and nothing for one who is not.
func (a *arena) refused(t *testing.T, recorded bool, what, code string, attempt func() error) {
	t.Helper()
	size, before, line := a.keeper.Size(), a.refusals(), a.log.len()
	got := codeOfAttempt(attempt())
	if !strings.Contains("|"+code+"|", "|"+got+"|") {
		t.Errorf("%s: %s, want %s", what, got, code)
		return
	}
	if n := a.refusals()[got] - before[got]; n != 1 {
		t.Errorf("%s: lockkeeper_refusals_total{code=%q} grew by %v", what, got, n)
	}
	lines, err := a.log.lines(line)
	a.must(err)
	n := 0
	for _, l := range lines {
		if l["msg"] == "request" && l["code"] == got {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%s: %d lines of the log have the code %s", what, n, got)
	}
	entries := a.entries(size)
	var made []refusalEntry
	for _, e := range entries {
		if e.Kind == "refusal.made" {
			made = append(made, e)
		} else if !recorded && !e.By.Keeper {
			t.Errorf("%s: a stranger left the entry %s", what, e.Kind)
		}
	}
	switch {
	case !recorded && len(made) != 0:
		t.Errorf("%s: the journal records a stranger: %+v", what, made)
	case recorded && (len(made) != 1 || made[0].Body.Code != got || made[0].Body.Sentence == "" || made[0].Body.Count != 1 || made[0].By == keeper.Caller{}):
		t.Errorf("%s: the journal records %+v, want one refusal with %s", what, made, got)
	}
}

func codeOfAttempt(err error) string {
	if err == nil {
		return "taken"
	}
	return code(err)
}

// A refusalEntry is an entry of the journal with what a refusal's body has.
type refusalEntry struct {
	Kind string
	By   keeper.Caller
	Body struct {
		Code, Sentence string
		Count          int
		JTI            string
	}
}

// entries are the journal's entries from a position on.
func (a *arena) entries(from int64) []refusalEntry {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what is there, without waiting for more
	list, err := a.keeper.Tail(ctx, keeper.Caller{User: "dora"}, from, 0)
	a.must(err)
	out := make([]refusalEntry, len(list))
	for i, raw := range list {
		a.must(json.Unmarshal(raw, &out[i]))
	}
	return out
}

// refusals are the counts of lockkeeper_refusals_total by code.
func (a *arena) refusals() map[string]float64 {
	a.t.Helper()
	out := map[string]float64{}
	for line := range strings.Lines(a.metrics()) {
		rest, ok := strings.CutPrefix(line, `lockkeeper_refusals_total{code="`)
		if name, count, ok2 := strings.Cut(rest, `"} `); ok && ok2 {
			var n float64
			_, err := fmt.Sscan(count, &n)
			a.must(err)
			out[name] = n
		}
	}
	return out
}

func (a *arena) metrics() string {
	a.t.Helper()
	resp, err := http.Get(a.server.URL + "/metrics")
	a.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	a.must(err)
	return string(b)
}

// apply puts the arena's rules in force with pairs replaced in them.
func (a *arena) apply(pairs ...string) error {
	revision, _ := a.keeper.Revision()
	text := strings.NewReplacer("ISSUER", a.issuer.URL, "AZURE", a.azure.URL).Replace(strings.NewReplacer(pairs...).Replace(arenaRules))
	return a.people["dora"].Call(context.Background(), "PUT", "/catalog", api.Apply{Base: revision.Number, Files: []api.File{{Name: "rules.yaml", Data: text}}}, nil)
}

// unfit fails unless documents beside the arena's rules are refused with a code
// of the catalog's, and the refusal is in the log.
func (a *arena) unfit(t *testing.T, what, documents, code string) {
	t.Helper()
	a.refused(t, inLog, what, "catalog_invalid", func() error {
		err := a.apply("\n---\n{kind: Provider, name: dead,", "\n---\n"+documents+"\n---\n{kind: Provider, name: dead,")
		if err == nil || !strings.Contains(err.Error(), "["+code+"]") {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
		return err
	})
}

// released takes a deployment of an environment without approvals to its lease.
func (a *arena) released(t *testing.T, raw, access, environment string) api.Deployment {
	t.Helper()
	c := a.client(raw)
	c.Access = access
	d, err := a.ask(c, environment)
	if err == nil {
		err = c.Call(context.Background(), "POST", "/deployments/"+d.ID+"/claim", api.Claim{Handle: handle}, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// granted are the ids of the tokens that the journal says were handed out.
func (a *arena) granted() []string {
	var out []string
	for _, e := range a.entries(0) {
		if e.Kind == "token.granted" {
			out = append(out, e.Body.JTI)
		}
	}
	return out
}

// files are all bytes of the data folder.
func (a *arena) files() map[string][]byte {
	a.t.Helper()
	out := map[string][]byte{}
	a.must(filepath.WalkDir(a.options.Dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		out[filepath.Base(name)] = data
		return err
	}))
	return out
}
