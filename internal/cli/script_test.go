package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
	"github.com/lockkeeper/lockkeeper/internal/lktest/provider"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lockkeeper": func() { os.Exit(Main(os.Args[1:])) }, "browse": browse, "totp": authenticator, "touch-key": touchKey, "scim": scim})
}

// browse is a browser (BROWSER=browse) in which the person SIGN_IN_AS signs in. With
// USER_CODE it enters that code at the address first, and then says ANSWER.
func browse() {
	b, name := provider.NewBrowser(screen{}), os.Getenv("SIGN_IN_AS")
	address := os.Args[1]
	if code := os.Getenv("USER_CODE"); code == "" {
		b.Answer(b.SignIn(address, name), "/sign-in/confirm", "yes")
		return
	}
	page := b.Enter(address, url.Values{"user_code": {os.Getenv("USER_CODE")}, "directory": {"corp"}}, name)
	if page.Status == http.StatusOK {
		page = b.Answer(page, "/device/confirm", os.Getenv("ANSWER"))
	}
	if page.Status != http.StatusOK {
		screen{}.Fatal(page.Status, page.Body)
	}
}

// A screen shows what went wrong.
type screen struct{}

func (screen) Helper()                   {}
func (screen) Fatal(a ...any)            { fmt.Fprintln(os.Stderr, a...); os.Exit(1) }
func (screen) Fatalf(f string, a ...any) { screen{}.Fatal(fmt.Sprintf(f, a...)) }

// directory starts an OpenID provider that knows anna, who is in the group
// g-managers, and puts its address into the place of DIRECTORY in the files named.
// The secret of its client is put into the folder secrets.
func directory(ts *testscript.TestScript, _ bool, files []string) {
	p, err := provider.Open(ts.Getenv("LOCKKEEPER_SERVER") + "/sign-in/callback/corp")
	ts.Check(err)
	ts.Defer(p.Stop)
	p.Add("id-anna", "anna@example.com", map[string]any{"groups": []string{"g-managers"}})
	p.Add("id-eve", "eve@example.com", nil)
	ts.Check(os.MkdirAll(ts.MkAbs("secrets"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs("secrets/corp"), []byte(p.Secret+"\n"), 0o600))
	for _, name := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(ts.ReadFile(name), "DIRECTORY", p.URL)), 0o644))
	}
}

// TestScripts plays the scripts of testdata with the real command and, where a
// script says `serve`, a real server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("LOCKKEEPER_SESSION_FILE", filepath.Join(e.WorkDir, "session.json"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serve": serve, "halt": halt, "fetch": fetch, "ci": ci, "job": job, "directory": directory, "desk": desk,
			"integrate": integrate, "hub": hub, "hook": hook, "told": told,
			"azure": azure, "azure-at": azureAt, "azure-check": azureCheck, "azure-answered": azureAnswered,
			"lab": lab, "labjob": labJob, "labhook": labHook, "labtold": labTold},
	})
}

// ci starts a CI platform and puts its address into the place of ISSUER in the
// files named.
func ci(ts *testscript.TestScript, _ bool, files []string) {
	i, err := lktest.StartIssuer("127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { i.Close() })
	platforms.Store(ts, i)
	for _, name := range files {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(strings.ReplaceAll(ts.ReadFile(name), "ISSUER", i.URL)), 0o644))
	}
}

var platforms sync.Map // of scripts

// job RUN JOB [ENVIRONMENT [ACTOR]] makes the rest of the script run in a job of
// the platform.
func job(ts *testscript.TestScript, _ bool, args []string) {
	i, _ := platforms.Load(ts)
	j := lktest.GitHubJob{Run: args[0], Job: args[1]}
	if len(args) > 2 && args[2] != "-" {
		j.Environment = args[2]
	}
	if len(args) > 3 {
		j.ActorID = args[3]
	}
	for _, pair := range i.(*lktest.Issuer).Job(j) {
		name, value, _ := strings.Cut(pair, "=")
		ts.Setenv(name, value)
	}
}

var firstCode = regexp.MustCompile(`lks_[a-z0-9]+`)

// serve starts a server on the folder data and sets LOCKKEEPER_SERVER and CODE.
// It is ready once it has printed its one-time code. `serve again` starts one
// whose first administrator has entered before.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	ready := firstCode
	if len(args) > 0 {
		ready = regexp.MustCompile(`serves http`)
	}
	at, host := "127.0.0.1:0", "127.0.0.1"
	if len(args) > 0 && args[0] == "named" { // under a name, as passkeys need it
		ready, host, args = firstCode, "localhost", nil
	}
	if len(args) > 0 {
		at = strings.TrimPrefix(ts.Getenv("LOCKKEEPER_SERVER"), "http://") // where the sign-in that is kept is for
	}
	l, err := net.Listen("tcp", at)
	ts.Check(err)
	address := l.Addr().String()
	ts.Check(l.Close())
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, "lockkeeper", "serve", "--data", ts.MkAbs("data"), "--listen", address, "--directory-secrets", ts.MkAbs("secrets"))
	if secrets := ts.Getenv("PROVISIONERS"); secrets != "" {
		cmd.Args = append(cmd.Args, "--provisioners", secrets)
	}
	if networks := ts.Getenv("REACH"); networks != "" {
		cmd.Args = append(cmd.Args, "--reach", networks)
	}
	cmd.Args = append(cmd.Args, "--url", "http://"+strings.Replace(address, "127.0.0.1", host, 1))
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	cmd.Path = lookIn(ts.Getenv("PATH"))
	cmd.Err = nil
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	end := sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		stop()
	})
	ts.Defer(end)
	servers.Store(ts, end)
	text := ""
	for buffer := make([]byte, 1024); !ready.MatchString(text); {
		n, err := out.Read(buffer)
		text += string(buffer[:n])
		if err != nil {
			ts.Fatalf("the server ended: %s%s", text, log.String())
		}
	}
	ts.Setenv("LOCKKEEPER_SERVER", "http://"+strings.Replace(address, "127.0.0.1", host, 1))
	ts.Setenv("CODE", firstCode.FindString(text))
}

var servers sync.Map // of scripts: what ends the one that runs

// halt ends the server and waits until it has let go of its folder.
func halt(ts *testscript.TestScript, _ bool, _ []string) {
	end, _ := servers.Load(ts)
	end.(func())()
}

// fetch prints what the server serves at a path, and fails unless it answers 200.
func fetch(ts *testscript.TestScript, not bool, args []string) {
	resp, err := http.Get(ts.Getenv("LOCKKEEPER_SERVER") + args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("fetched"), body, 0o644))
	ts.Check(ts.Exec("cat", "fetched"))
	if (resp.StatusCode == http.StatusOK) == not {
		ts.Fatalf("%s answers %s", args[0], resp.Status)
	}
}

func lookIn(path string) string {
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, "lockkeeper"); isFile(file) {
			return file
		}
	}
	return "lockkeeper"
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
