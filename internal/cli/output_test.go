package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wrong is, for every command that can be run, how it goes wrong beyond its
// flags: with a server that is not there, a folder that is empty, nobody signed
// in, and no CI platform.
var wrong = map[string][]string{
	"accounts challenge": {}, "accounts enrol": {"--user", "bob", "--code", "lki_x"}, "accounts invite": {"bob"}, "accounts prove": {"--challenge", "c-x"},
	"apply": {"NOTHING"}, "approve": {"d-x"}, "artifact digest": {"app=NOTHING"}, "artifact record": {"app=sha256:" + strings.Repeat("0", 64)},
	"plan-for":     {"--environment", "test", "--artifact", "app=sha256:" + strings.Repeat("0", 64), "terraform=NOTHING"},
	"evidence add": {"tests=NOTHING", "--artifact", "app=sha256:" + strings.Repeat("0", 64)}, "evidence list": {"--project", "nothing"}, "evidence read": {"tests=NOTHING"},
	"holds list": {},
	"bench can":  {"--user", "bob"}, "bench exchange": {"d-x", "--handle-file", "NOTHING/h"}, "can": {"bob", "deployments/approve", "/"},
	"catalog roles": {"nobody"}, "catalog show": {}, "claim": {"d-x", "--", "true"},
	"completion bash": {"x"}, "completion fish": {"x"}, "completion powershell": {"x"}, "completion zsh": {"x"},
	"delegate": {"d-x", "--to", "eve"}, "deploy": {"--environment", "test", "--artifact", "app=sha256:" + strings.Repeat("0", 64), "--", "true"},
	"accounts confirm": {}, "access recommend": {}, "access alerts": {},
	"campaigns open": {"--scope", "/", "--reviewers", "leads", "--undecided", "keep"}, "campaigns list": {}, "campaigns show": {"c-x"},
	"campaigns decide": {"c-x", "--keep", "a"}, "campaigns close": {"c-x"},
	"activate": {"operator"}, "eligible": {}, "requests list": {}, "requests show": {"r-x"}, "requests approve": {"r-x"}, "requests deny": {"r-x"}, "requests withdraw": {"r-x"},
	"provisioners drift": {}, "provisioners krl": {"hosts", "--out", "NOTHING/krl"},
	"duties list": {}, "duties show": {"o-x"}, "duties attest": {"o-x"}, "activations credential": {"a-x"}, "activations ssh": {"a-x", "--public-key", "NOTHING"},
	"directories list": {}, "directories scim-token": {"corp"}, "directories revoke-token": {"corp", "w-x"},
	"requests begin": {"r-x"}, "activations list": {}, "activations end": {"a-x"}, "activations extend": {"a-x"},
	"deployments cancel": {"d-x"}, "deployments revoke": {"d-x", "--reason", "r"}, "withdraw": {"d-x"}, "deployments list": {}, "deployments show": {"d-x"}, "deployments watch": {"d-x"},
	"end": {"d-x", "--handle-file", "NOTHING/h", "--exit-code", "0"}, "help": {"elephant"},
	"journal checkpoint": {"--data", "NOTHING"}, "journal export": {"--data", "NOTHING"}, "journal prove": {"--data", "NOTHING", "1"}, "journal show": {"--data", "NOTHING"}, "journal verify": {"--data", "NOTHING"},
	"keys": {}, "keys rotate": {}, "login": {"--user", "bob"}, "logout": {}, "sessions list": {}, "sessions end": {"s-x"}, "plan": {"NOTHING"},
	"proposals list": {}, "proposals show": {"p-x"}, "proposals approve": {"p-x"}, "proposals deny": {"p-x"}, "proposals withdraw": {"p-x"},
	"receipt find": {"--digest", "sha256:" + strings.Repeat("0", 64)}, "receipt key": {"--keys", "NOTHING"},
	"running report": {"--environment", "test", "--artifact", "app=NOTHING"}, "running show": {},
	"receipt show": {"d-x"}, "receipt verify": {"NOTHING"}, "recover": {"--data", "NOTHING", "--administrator", "dora", "--reason", "r"}, "recover confirm": {"--revision", "1"},
	"reject": {"d-x"}, "schema": {"x"}, "serve": {"--listen", "nowhere"}, "setup": {"--user", "dora", "--code", "lks_x"},
	"token": {"d-x", "--handle-file", "NOTHING/h"}, "trust": {"vault", "--identity", "payments/test"}, "validate": {"NOTHING"}, "version": {"x"},
	"freeze list": {"--scope", "/projects/x y"}, "freeze show": {"nowhere"}, "freeze when": {"--days", "401"}, "freeze start": {"--scope", "/", "--for", "1h", "--reason", "x"}, "freeze end": {"f-x", "--reason", "x"},
	"override request": {"d-x", "--waive", "x", "--reason", "x", "--incident", "x"}, "override list": {}, "override show": {"o-x"}, "override approve": {"o-x"}, "override deny": {"o-x"}, "override end": {"o-x"},
	"incident open": {"--title", "x", "--freeze", "/"}, "incident list": {}, "incident show": {"i-x"}, "incident extend": {"i-x", "--strict"}, "incident close": {"i-x", "--finding", "x"},
	"recover incident": {"i-x", "--data", "NOTHING", "--finding", "x"},
	"recovery make":    {"--user", "dora", "--holder", "a", "--holder", "b"}, "recovery collect": {}, "recovery show": {}, "recovery use": {"--codes-file", "NOTHING/codes"},
	"break-glass": {"operator", "--reason", "x"}, "notices list": {}, "notices acknowledge": {"n-x"}, "reviews list": {}, "reviews show": {"v-x"}, "reviews close": {"v-x", "--finding", "x"},
	"factors list": {}, "factors totp": {}, "factors passkey": {}, "factors confirm": {"f-x", "--code", "1"}, "factors remove": {"f-x"}, "factors reset": {"bob", "--reason", "r"}, "step-up": {"--code", "1"},
	"tokens make": {"--name", "ci", "--actions", "catalog/read"}, "tokens list": {}, "tokens revoke": {"k-x"},
	"measures":   {},
	"record add": {"--kind", "x", "--project", "p", "--until", "2027-01-01", "--file", "none", "--summary", "x"}, "record list": {}, "record show": {"r-x"}, "record approve": {"r-x"}, "record reject": {"r-x"}, "record end": {"r-x", "--reason", "x"},
	"strike add": {"d-x", "--reason", "x"}, "strike list": {}, "strike lift": {"x-x", "--reason", "x"},
	"what-if": {"--data", "NOTHING"}, "observe report": {},
	"policy test": {"NOTHING"}, "policy eval": {"p", "NOTHING", "--input", "NOTHING"}, "policy input": {"d-x"}, "policy schema": {"x"}, "policy worker": {"x"},
	"notifications list": {}, "notifications test": {"mail"},
	"what-can": {"bob"}, "who-can": {"deployments/approve", "/"},
}

// oneProblem checks that what was printed is one JSON value that says what is
// wrong.
func oneProblem(t *testing.T, args []string) {
	t.Helper()
	code, out, stderr := play(t, args...)
	var problem struct {
		Code     string            `json:"code"`
		Detail   string            `json:"detail"`
		Problems []json.RawMessage `json:"problems"`
	}
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(&problem); err != nil || problem.Code == "" || problem.Detail == "" {
		t.Errorf("%v: exit %d, %v, stdout %q, stderr %q", args, code, err, out, stderr)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("%v: something follows the JSON: %q", args, out)
	}
	if code == 0 {
		t.Errorf("%v: exit 0", args)
	}
	if strings.Contains(stderr, problem.Detail) {
		t.Errorf("%v says it twice: %q", args, stderr)
	}
}

// Whatever goes wrong in whichever command, --output json says it as JSON.
func TestProblemsAreJSON(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, value := range map[string]string{"LOCKKEEPER_SERVER": "http://127.0.0.1:1", "LOCKKEEPER_SESSION_FILE": filepath.Join(dir, "session.json"),
		"LOCKKEEPER_AUDIENCE": "https://lockkeeper.example", "LOCKKEEPER_ID_TOKEN": "", "ACTIONS_ID_TOKEN_REQUEST_URL": "", "SYSTEM_OIDCREQUESTURI": ""} {
		t.Setenv(name, value)
	}
	seen := 0
	for _, c := range everyCommand() {
		words := wordsOf(c)
		oneProblem(t, slices.Concat(words, []string{"--nope", "--output", "json"})) // the flag before was wrong
		if c.Annotations["parent"] != "" {
			oneProblem(t, append(words, "--output=json"))
			oneProblem(t, append(words, "elephant", "--output", "json"))
			continue
		}
		args, known := wrong[strings.Join(words, " ")]
		if !known {
			t.Errorf("%s can be run, and this test does not know how it goes wrong", c.CommandPath())
			continue
		}
		seen++
		oneProblem(t, slices.Concat(words, []string{"--output", "json"}, args))
	}
	if seen != len(wrong) {
		t.Errorf("%d of %d commands are there", seen, len(wrong))
	}
}

// The output of a command that is run is none of ours.
func TestOutputOf(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"journal verfy --output json", "json"}, {"x --output=json", "json"}, {"--output json --output text", "text"},
		{"deploy --nope -- jq --output json", "text"}, {"x --output", "text"}, {"", "text"},
	} {
		if got := outputOf(strings.Fields(test.line)); got != test.want {
			t.Errorf("%q: %s", test.line, got)
		}
	}
}

// What `serve` tells at its start is for scripts, too.
func TestServeSpeaksJSON(t *testing.T) {
	var at started
	if err := json.Unmarshal([]byte(serving(t, "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--output", "json")), &at); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(at.URL, "http://127.0.0.1:") || !strings.HasPrefix(at.Code, "lks_") || at.Version != Version {
		t.Errorf("it started as %+v", at)
	}
}

// serving runs the server until the test ends, and gives what it printed at its
// start.
func serving(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var log bytes.Buffer
	a := &app{in: strings.NewReader(""), out: w, err: &log}
	ended := make(chan int, 1)
	go func() {
		ended <- a.run(ctx, append([]string{"serve"}, args...))
		w.Close()
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("serve ended with %d: %s", code, log.String())
		}
	})
	first := make([]byte, 4096) // it prints once
	n, err := r.Read(first)
	if err != nil {
		t.Fatalf("serve printed nothing: %v %s", err, log.String())
	}
	go io.Copy(io.Discard, r)
	return string(first[:n])
}
