// Command demo plays Lockkeeper's main job from beginning to end in a temporary
// folder, with real parts: a real git repository with a pipeline definition, a
// real OIDC issuer in the place of the CI platform, the real server and command,
// and a target service that accepts only Lockkeeper's tokens, checked through
// discovery as a cloud does. It exits with 0 only if every expectation held.
package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// limit bounds the whole story.
const limit = 90 * time.Second

func main() {
	if len(os.Args) > 2 && os.Args[1] == "call" {
		os.Exit(call(os.Args[2]))
	}
	if len(os.Args) > 2 && os.Args[1] == "browse" {
		browse(os.Args[2])
		return
	}
	bin := flag.String("bin", "bin/lockkeeper", "the lockkeeper binary")
	keep := flag.Bool("keep", false, "keep the temporary folder")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := play(ctx, *bin, *keep); err != nil {
		fmt.Fprintf(os.Stderr, "\nThe demo failed: %v\n", err)
		cancel()
		os.Exit(1)
	}
}

// A story is what the acts share.
type story struct {
	ctx     context.Context
	bin     string
	dir     string // temporary folder
	repo    string
	self    string // this program, for the deploy script
	server  string
	issuer  *lktest.Issuer
	target  *target
	serving *exec.Cmd
	served  *bytes.Buffer
	code    string
	commit  string
	began   time.Time
	builder ed25519.PrivateKey // signs what the build platform built
}

func play(ctx context.Context, bin string, keep bool) (err error) {
	s := &story{ctx: ctx, began: time.Now()}
	if s.bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "lockkeeper-demo-"); err != nil {
		return err
	}
	defer func() {
		if keep {
			fmt.Println("The folder is kept:", s.dir)
		} else {
			os.RemoveAll(s.dir)
		}
	}()
	defer s.stop()
	for _, act := range []struct {
		title string
		play  func() error
	}{
		{"A repository with a pipeline, and a CI platform that vouches for its jobs", s.platform},
		{"The server starts; its first administrator enters with a one-time code", s.start},
		{"The rules are applied as code; a mistake in them is refused with its line", s.govern},
		{"People get accounts, and prove by a run of their own that they are who they are", s.people},
		{"The build stage vouches for what it built, and cannot have the production identity", s.build},
		{"A rule of one's own is tested before anybody is held to it", s.ruled},
		{"Staging demands tests and provenance: missing, red, brought, and accepted", s.evidence},
		{"The deploy stage asks, waits at the gate, is let through by two people, and runs", s.deploy},
		{"The deployment is over: no new token, and the old one dies by the clock", s.after},
		{"Waiting without an agent: one job asks, a later one claims; and a rejection", s.detached},
		{"Rules and minds move while an ask waits: nothing helps it, and an approval can be taken back", s.moving},
		{"The line is stopped: one does it, nothing gets past, and another lets it go on", s.stopped},
		{"Nobody holds a privileged right by himself: one is asked for, approved, and ends", s.privileged},
		{"The same for a real database: a login for as long as the activation lives", s.ledger},
		{"Who still needs what: others are asked, and what nobody needs goes", s.reviewed},
		{"People sign in with the organisation's directory, and hold what their groups give", s.signedIn},
		{"Something goes wrong: the glass is broken, an incident stops it all, and another person closes it", s.incident},
		{"The receipt is verified offline, the journal too, and one flipped byte is caught", s.proof},
		{"An older copy of the database comes back, and brings nothing back", s.recovery},
	} {
		fmt.Printf("\n== %s\n", act.title)
		if err := act.play(); err != nil {
			return err
		}
	}
	fmt.Printf("\nEvery expectation held, in %.1f seconds.\n", time.Since(s.began).Seconds())
	return nil
}

func (s *story) stop() {
	s.stopServer()
	if s.issuer != nil {
		s.issuer.Close()
	}
	if s.target != nil {
		s.target.close()
	}
}

func (s *story) stopServer() {
	if s.serving != nil && s.serving.ProcessState == nil {
		s.serving.Process.Signal(os.Interrupt)
		s.serving.Wait()
	}
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// result is what a command printed and how it ended.
type result struct {
	out  string
	code int
}

// run runs a program and returns what it printed.
func (s *story) run(dir string, env []string, program string, args ...string) (result, error) {
	cmd := exec.CommandContext(s.ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(s.environment(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return result{strings.TrimSpace(out.String()), cmd.ProcessState.ExitCode()}, err
}

func (s *story) environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "LOCKKEEPER_") && !strings.HasPrefix(v, "ACTIONS_") && !strings.HasPrefix(v, "GIT_") {
			env = append(env, v)
		}
	}
	return append(env, "PATH="+filepath.Dir(s.bin)+":"+os.Getenv("PATH"), "LOCKKEEPER_SERVER="+s.server, "DEMO="+s.self, "HOME="+s.dir)
}

// expect runs lockkeeper and fails the story unless it ends with the code and
// prints all of the words.
func (s *story) expect(code int, env []string, args []string, words ...string) (string, error) {
	r, err := s.run(s.repo, env, s.bin, args...)
	if err != nil {
		return r.out, err
	}
	if r.code != code {
		return r.out, fmt.Errorf("lockkeeper %s ended with %d, not %d:\n%s", strings.Join(args, " "), r.code, code, r.out)
	}
	for _, w := range words {
		if !strings.Contains(r.out, w) {
			return r.out, fmt.Errorf("lockkeeper %s does not say %q:\n%s", strings.Join(args, " "), w, r.out)
		}
	}
	return r.out, nil
}

// as is the environment in which a person's commands run.
func (s *story) as(user string) []string {
	return []string{"LOCKKEEPER_SESSION_FILE=" + filepath.Join(s.dir, user+".session")}
}

func (s *story) password(user string) (string, error) {
	file := filepath.Join(s.dir, user+".password")
	return file, os.WriteFile(file, []byte("a long password of "+user), 0o600)
}

func (s *story) platform() error {
	var err error
	if s.issuer, err = lktest.StartIssuer("127.0.0.1:0"); err != nil {
		return err
	}
	s.repo = filepath.Join(s.dir, "payments")
	for name, text := range map[string]string{".github/workflows/release.yml": workflow, "deploy.sh": deployScript, "app/main.txt": "the payments service\n"} {
		file := filepath.Join(s.repo, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=ann", "-c", "user.email=ann@example.com", "commit", "-q", "-m", "payments: ship it"}} {
		if r, err := s.run(s.repo, nil, "git", args...); err != nil || r.code != 0 {
			return fmt.Errorf("git %v: %v %s", args, err, r.out)
		}
	}
	r, err := s.run(s.repo, nil, "git", "rev-parse", "HEAD")
	s.commit = r.out
	say("The repository acme/payments stands at commit %.12s, with .github/workflows/release.yml.", s.commit)
	say("The CI platform signs its jobs' tokens at %s.", s.issuer.URL)
	return err
}

var (
	servesAt = regexp.MustCompile(`serves (http://\S+) from`)
	setUp    = regexp.MustCompile(`lks_[a-z0-9]+`)
)

func (s *story) start() error {
	if err := s.serve("127.0.0.1:0"); err != nil {
		return err
	}
	file, err := s.password("dora")
	if err != nil {
		return err
	}
	say("It listens on %s and printed a one-time code. Dora uses it.", s.server)
	if _, err := s.expect(0, s.as("dora"), []string{"setup", "--user", "dora", "--code", s.code, "--password-file", file}, "Signed in as dora"); err != nil {
		return err
	}
	say("The code works once: a second use is refused.")
	_, err = s.expect(6, nil, []string{"setup", "--user", "eve", "--code", s.code, "--password-file", file}, "setup_done")
	return err
}

// serve starts the server and waits until it says where it listens.
func (s *story) serve(listen string) error { return s.serveUntil(listen, setUp) }

// serveAgain starts a server that has an administrator already.
func (s *story) serveAgain(listen string) error { return s.serveUntil(listen, servesAt) }

func (s *story) serveUntil(listen string, ready *regexp.Regexp) error {
	s.served = &bytes.Buffer{}
	if err := os.MkdirAll(s.secretsFolder(), 0o700); err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	s.serving = exec.Command(s.bin, "serve", "--data", filepath.Join(s.dir, "data"), "--listen", listen, "--provisioners", s.secretsFolder(), "--directory-secrets", s.secretsFolder())
	s.serving.Env, s.serving.Stdout, s.serving.Stderr = s.environment(), in, s.served
	if err := s.serving.Start(); err != nil {
		return err
	}
	in.Close()
	text := ""
	for buffer := make([]byte, 4096); !servesAt.MatchString(text) || !ready.MatchString(text); {
		n, err := out.Read(buffer)
		text += string(buffer[:n])
		if err != nil {
			s.serving.Wait()
			return fmt.Errorf("the server ended: %s%s", text, s.served)
		}
	}
	s.server, s.code = servesAt.FindStringSubmatch(text)[1], setUp.FindString(text)
	return nil
}

func (s *story) govern() error {
	dir := filepath.Join(s.dir, "governance")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	staging, err := s.makeBuilder(stagingRules)
	if err != nil {
		return err
	}
	good := strings.ReplaceAll(governance+ledgerRules+staging, "ISSUER", s.issuer.URL)
	file := filepath.Join(dir, "payments.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(good, "{count: 1", "{cuont: 1", 1)), 0o644); err != nil {
		return err
	}
	out, err := s.expect(2, s.as("dora"), []string{"apply", dir}, "payments.yaml:", "cuont")
	if err != nil {
		return err
	}
	say("With a slip of the pen nothing is applied: %s", strings.TrimPrefix(lineWith(out, "cuont"), s.dir+"/"))
	if err := os.WriteFile(file, []byte(good), 0o644); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("dora"), []string{"apply", dir, "--message", "payments goes under governance"}, "is in force"); err != nil {
		return err
	}
	out, err = s.expect(0, s.as("dora"), []string{"can", "bob", "deployments/approve", "/projects/payments/environments/production"}, "bob")
	say("May bob approve? %s", strings.TrimSpace(strings.SplitN(out, "\n", 2)[0]))
	return err
}

func (s *story) people() error {
	code := regexp.MustCompile(`lki_[a-z0-9]+`)
	challenge := regexp.MustCompile(`c-[a-z0-9]+`)
	for i, user := range []string{"ann", "bob", "cat"} {
		out, err := s.expect(0, s.as("dora"), []string{"accounts", "invite", user}, user)
		if err != nil {
			return err
		}
		file, err := s.password(user)
		if err != nil {
			return err
		}
		if _, err := s.expect(0, s.as(user), []string{"accounts", "enrol", "--user", user, "--code", code.FindString(out), "--password-file", file}, "Signed in as "+user); err != nil {
			return err
		}
		if out, err = s.expect(0, s.as(user), []string{"accounts", "challenge"}, "prove"); err != nil {
			return err
		}
		job := s.job(fmt.Sprint(9100+i), "5100", "workflow_dispatch", "")
		job.Actor, job.ActorID = user, fmt.Sprint(1001+i)
		if _, err := s.expect(0, s.issuer.Job(job), []string{"accounts", "prove", "--challenge", challenge.FindString(out)}, user+" has proved himself"); err != nil {
			return err
		}
	}
	say("ann, bob and cat chose passwords. Dora made their invitations, so their accounts counted as hers")
	say("until each started a run on the CI platform that carried a challenge.")
	return nil
}

// job is one job of a run that ann started by pushing to main.
func (s *story) job(run, job, event, environment string) lktest.GitHubJob {
	return lktest.GitHubJob{Run: run, Job: job, Event: event, Environment: environment, Commit: s.commit}
}

func call(address string) int {
	token, err := os.ReadFile(os.Getenv("LOCKKEEPER_TOKEN_FILE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status, body, err := post(address, string(token))
	if err != nil || status != http.StatusOK {
		fmt.Fprintln(os.Stderr, "the target refuses:", status, body, err)
		return 1
	}
	if err := os.WriteFile("token-kept-by-a-thief", token, 0o600); err != nil { // what somebody might keep
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(body)
	return 0
}
