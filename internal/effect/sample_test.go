package effect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// hostile is a service that answers a check as badly as it can.
func hostile(t *testing.T) *httptest.Server {
	t.Helper()
	over := make(chan struct{})
	forever := func(w http.ResponseWriter, r *http.Request, piece string, pause time.Duration) {
		for {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-over:
				return
			case <-r.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusTemporaryRedirect)
		case "/endless":
			forever(w, r, strings.Repeat(" ", 32<<10), 0)
		case "/slow":
			forever(w, r, " ", 20*time.Millisecond)
		case "/deep":
			io.WriteString(w, `{"ok": true, "x": `+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}`)
		case "/million":
			io.WriteString(w, `{"ok": true, "x": [`+strings.Repeat("1,", 1_000_000)+`1]}`)
		case "/many": // below the bytes, above the values
			io.WriteString(w, `{"ok": true, "x": [`+strings.Repeat("1,", 30_000)+`1]}`)
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3})
		default:
			io.WriteString(w, `{"ok": true}`)
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(over) })
	return s
}

func sample(url, criteria string) keeper.OpenQuestion {
	q := keeper.OpenQuestion{Question: keeper.Question{ID: "q-1", Rule: "check", Series: &gate.Series{Answers: 1}}, About: "deployment/d-1", Ask: map[string]string{"digest": "sha256:1"}}
	q.Call.URL, q.Call.Criteria, q.Call.Method = url, criteria, "GET"
	return q
}

// Whatever a service answers to a check, it costs a bounded time and passes nothing.
func TestOutsideHostile(t *testing.T) {
	s := hostile(t)
	for path, code := range map[string]string{
		"/metadata": "redirect_refused", "/endless": "answer_unfit", "/slow": "timed_out", "/deep": "answer_unfit", "/million": "answer_unfit", "/many": "answer_unfit", "/bomb": "answer_unfit",
	} {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			begun := time.Now()
			o := (&caller{reach: reach(t, home...)}).ask(ctx, sample(s.URL+path, ticketOK))
			if o.Missed == nil || o.Missed.Code != code {
				t.Errorf("%+v", o)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
	t.Run("good", func(t *testing.T) { // so that the others do not fail for another reason
		o := (&caller{reach: reach(t, home...)}).ask(context.Background(), sample(s.URL+"/", ticketOK))
		if o.Answer == nil || !o.Answer.Met {
			t.Errorf("%+v", o)
		}
	})
	t.Run("address in a parameter", func(t *testing.T) {
		q := sample(s.URL+"/{parameter.x}", ticketOK)
		for value, want := range map[string]string{"..": "", "": "", "a/../../b": "", `a\..\b`: "", "refs/heads/main": s.URL + "/refs%2Fheads%2Fmain", "@evil.example/": s.URL + "/@evil.example%2F", "{digest}": s.URL + "/%7Bdigest%7D"} {
			q.Ask["parameter.x"] = value
			if got, err := (&caller{}).address(q); got != want || (err != nil) != (want == "") {
				t.Errorf("%q: %q, %v", value, got, err)
			}
		}
	})
}

// A name that leads elsewhere at the second look leads nowhere: what is judged is the
// address of the socket, each time.
func TestOutsideRebound(t *testing.T) {
	s := hostile(t)
	var seen []netip.Addr
	client := outside(func(ip netip.Addr) bool {
		seen = append(seen, ip)
		return len(seen) == 1
	})
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := client.Get(s.URL); !errors.Is(err, errAddress) {
		t.Errorf("the second look was not judged: %v", err)
	}
	if len(seen) != 2 || !seen[0].IsLoopback() {
		t.Errorf("%v", seen)
	}
}

const deploying = `
{kind: User, name: dev, ids: [{provider: ci, id: "1001"}]}
---
{kind: Assignment, name: dev, role: release-manager, principal: user:dev, scope: /projects/p}
---
{kind: Provider, name: ci, platform: github, issuer: "https://ci.example"}
---
{kind: Pipeline, name: ship, project: p, provider: ci, organisation: "7", repository: "8", definition: ship.yml, stages: [{name: deploy, trust: {environment: checked, events: [push], refs: [refs/heads/main]}}]}
---
{kind: Identity, name: checked, project: p, environment: checked, audiences: ["https://target.example"], stages: [ship/deploy]}
---
{kind: Environment, name: checked, project: p, tier: development, checks: [%s]}
`

// deploys opens a deployment to the environment checked.
func (s *stage) deploys(parameters map[string]string) string {
	s.Helper()
	f, now := lockkeeper.SignedFact, lockkeeper.MomentOf(time.Now())
	job := lockkeeper.Workload{Provider: "ci", Platform: "github", Issuer: "https://ci.example", TokenID: lockkeeper.TokenIDOf("https://ci.example", s.Name()), Issued: now, Expires: now.Add(5 * time.Minute),
		Organisation: f("7"), Repository: f("8"), RepositoryName: f("acme/p"), Run: f("1"), Attempt: 1, Job: f("2"), Event: f("push"), Ref: f("refs/heads/main"), RefType: f("branch"),
		Commit: f(strings.Repeat("1", 40)), Runner: f("hosted"), DefinitionPath: f("ship.yml"), DefinitionRef: f("refs/heads/main"), DefinitionCommit: f(strings.Repeat("1", 40)), Actor: f("1001"), Environment: f("checked")}
	id, err := s.k.OpenDeployment(context.Background(), job, "", keeper.OpenDeployment{Environment: "checked", Parameters: parameters, Handle: keeper.HandleDigest("h"),
		Artifacts: []lockkeeper.Artifact{{Name: "app", Digest: lockkeeper.DigestOf([]byte("app"))}}})
	s.must(err)
	return id
}

// gated waits until the gate of a deployment has a code, and gives its sentence.
func (s *stage) gated(id, code string) string {
	s.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		changed := s.k.Changed()
		v, err := s.k.Deployment(context.Background(), dora, id)
		s.must(err)
		if v.Gate != nil {
			for _, d := range v.Gate.Because {
				if d.Code == code {
					return d.Sentence
				}
			}
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s never is %s: %s, %+v", id, code, v.Status, v.Gate)
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *stage) asker(reach Reach) {
	a := NewAsker(AskerOptions{Keeper: s.k, Secrets: s.secrets, Reach: reach})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		a.Run(ctx)
		close(done)
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
}

// The whole way of a check that polls: asked, no at first, then yes.
func TestCheckPolls(t *testing.T) {
	d := deskOf(t)
	d.answers(`{"ok": false}`)
	s := staged(t, fmt.Sprintf(deploying, fmt.Sprintf("{name: errors, call: {service: {url: %q, criteria: body.ok == true && body.ask == ask.digest, retry: 5s, timeout: 1s}, within: 2h}}", d.URL)))
	s.asker(reach(t, home...))
	id := s.deploys(nil)
	if said := s.gated(id, "call_bad"); !strings.Contains(said, "criteria_unmet") {
		t.Error(said)
	}
	req, body := d.last(t)
	v, err := s.k.Deployment(context.Background(), dora, id)
	s.must(err)
	if req.Header.Get("Lockkeeper-Ask-Digest") != string(v.Digest) || !strings.Contains(string(body), `"project":"p"`) || strings.Contains(string(body), "callback") {
		t.Errorf("%v %s", req.Header, body)
	}
	d.answers(fmt.Sprintf(`{"ok": true, "ask": %q}`, v.Digest))
	s.gated(id, "call_good")
}

// The whole way of a check that is answered later: the service is told where, once.
func TestCheckCallsBack(t *testing.T) {
	d := deskOf(t)
	d.answers("202")
	s := staged(t, fmt.Sprintf(deploying, fmt.Sprintf("{name: scan, call: {service: {url: %q, criteria: body.ok == true, retry: 5s, timeout: 1s, signed: true}, callback: true, within: 2h}}", d.URL)))
	s.secret("call@p@checked@scan.key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	s.asker(reach(t, home...))
	id := s.deploys(nil)
	s.gated(id, "call_awaited")
	_, body := d.last(t)
	var asked struct {
		Data struct{ Callback string } `json:"data"`
	}
	s.must(json.Unmarshal(body, &asked))
	signed, found := strings.CutPrefix(asked.Data.Callback, "https://lockkeeper.example/callbacks/")
	if !found {
		t.Fatalf("%s", body)
	}
	if n := d.count(); n != 1 {
		t.Errorf("it was told %d times", n)
	}
	s.must(s.k.Callback(context.Background(), signed, []byte(`{"ok": true}`)))
	s.gated(id, "call_good")
}

// A check has the secrets of its own environment: one of the same name elsewhere, or a
// rule, has others.
func TestCheckSecretsAreItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, where := range [][2]string{{"p", "e"}, {"q", "e"}, {"p", "f"}} {
		q := sample("https://x.example", ticketOK)
		q.Ask["project"], q.Ask["environment"] = where[0], where[1]
		seen[secretFile(q, "key")] = true
	}
	seen[secretFile(keeper.OpenQuestion{Question: keeper.Question{Rule: "check"}}, "key")] = true
	if len(seen) != 4 || !seen["call@p@e@check.key"] || !seen["call@check.key"] {
		t.Errorf("%v", seen)
	}
}

// The presets ask what they say, and take what the systems answer.
func TestPresets(t *testing.T) {
	d := deskOf(t)
	s := staged(t, fmt.Sprintf(deploying, fmt.Sprintf(`{name: errors, metrics: {prometheus: %q, query: 'sum(rate(errors[5m]))', below: "0.01"}}, {name: change, change: {serviceNow: %q, parameter: change, field: u_digest}}`, d.URL, d.URL)))
	s.deploys(map[string]string{"change": "CHG0030001"})
	ask := map[string]string{}
	for _, q := range s.k.Questions() {
		q = s.k.WithFacts(q)
		ask = q.Ask
		for _, c := range presetAnswers(q.Rule, q.Ask) {
			body, err := gate.Document([]byte(c.body))
			s.must(err)
			met, err := gate.Met(q.Call, 200, body, q.Ask)
			if (met && err == nil) != c.met {
				t.Errorf("%s: %s: %v, %v", q.Rule, c.body, met, err)
			}
		}
		address, err := (&caller{}).address(q)
		s.must(err)
		if want := map[string]string{"errors": "/api/v1/query?query=sum%28rate%28errors%5B5m%5D%29%29",
			"change": "/api/now/table/change_request?sysparm_limit=2&sysparm_query=number=CHG0030001&sysparm_fields=number%2Cstate%2Cu_digest%2Cstart_date%2Cend_date"}[q.Rule]; address != d.URL+want {
			t.Errorf("%s asks %s", q.Rule, address)
		}
	}
	if ask["parameter.change"] != "CHG0030001" {
		t.Errorf("%v", ask)
	}
}

type presetAnswer struct {
	body string
	met  bool
}

func presetAnswers(rule string, ask map[string]string) []presetAnswer {
	if rule == "errors" {
		vector := func(values ...string) string {
			for i, v := range values {
				values[i] = fmt.Sprintf(`{"metric": {}, "value": [1.5, %q]}`, v)
			}
			return `{"status": "success", "data": {"resultType": "vector", "result": [` + strings.Join(values, ",") + `]}}`
		}
		return []presetAnswer{{vector("0.001"), true}, {vector("0"), true}, {vector("-1e-3"), true}, {vector("0.01"), false}, {vector("5"), false}, {vector("NaN"), false}, {vector("-Inf"), false}, {vector(), false}, {vector("0", "0"), false},
			{`{"status": "success", "data": {"resultType": "scalar", "result": [1.5, "0.001"]}}`, true}, {`{"status": "error", "error": "x"}`, false}, {`{"status": "success", "data": {"resultType": "matrix", "result": []}}`, false}}
	}
	change := func(number, state, digest, from, to string) string {
		return fmt.Sprintf(`{"result": [{"number": %q, "state": %q, "u_digest": %q, "start_date": %q, "end_date": %q}]}`, number, state, digest, from, to)
	}
	n, d, early, late := "CHG0030001", ask["digest"], "2020-01-01 00:00:00", "2099-01-01 00:00:00"
	return []presetAnswer{{change(n, "-1", d, early, late), true}, {change("CHG0030002", "-1", d, early, late), false}, {change(n, "-2", d, early, late), false}, {change(n, "-1", "sha256:other", early, late), false}, {change(n, "-1", "", early, late), false},
		{change(n, "-1", d, late, late), false}, {change(n, "-1", d, early, early), false}, {change(n, "-1", d, "", late), false}, {change(n, "-1", d, early, "tomorrow"), false}, {`{"result": []}`, false}, {`{"error": {"message": "no"}}`, false}}
}
