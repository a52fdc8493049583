package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
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
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"go.yaml.in/yaml/v4"
)

// workflow is the repository's pipeline. The demo reads it from the repository
// and runs its steps, as a runner would.
const workflow = `name: release
on: push
permissions:
  id-token: write
jobs:
  build:
    steps:
      - run: |
          git archive --format=tar HEAD app > app.tar
          lockkeeper artifact record app=sha256:$(sha256sum app.tar | cut -d' ' -f1)
  sneaky:
    steps:
      - run: |
          lockkeeper deploy --environment production --artifact app=sha256:$(sha256sum app.tar | cut -d' ' -f1) -- ./deploy.sh
  deploy:
    environment: production
    steps:
      - run: |
          lockkeeper deploy --environment production --artifact app=sha256:$(sha256sum app.tar | cut -d' ' -f1) \
            --handle-file handle --receipt receipt.json -- ./deploy.sh
`

const deployScript = `#!/bin/sh
exec "$DEMO" call "$TARGET"
`

// audience is what the target service wants its tokens to be for.
const audience = "https://payments.example.com"

const governance = `# Who is who
kind: User
name: dora
---
kind: User
name: ann
ids: [{provider: github, id: "1001"}]
---
kind: User
name: bob
ids: [{provider: github, id: "1002"}]
---
kind: User
name: cat
ids: [{provider: github, id: "1003"}]
---
kind: Group
name: developers
users: [ann]
---
kind: Group
name: release-managers
users: [ann, bob, cat]
---
kind: Group
name: security
users: [cat]
---
# Who may do what
kind: Assignment
name: administration
role: organisation-administrator
principal: user:dora
scope: /
---
kind: Assignment
name: payments-developers
role: developer
principal: group:developers
scope: /projects/payments
---
kind: Assignment
name: payments-releases
role: release-manager
principal: group:release-managers
scope: /projects/payments
---
# What nobody holds by himself: ann may ask for it, and bob approves
kind: Role
name: operator
actions: [freezes/write, deployments/cancel]
---
kind: Assignment
name: payments-operators
role: operator
principal: group:developers
scope: /projects/payments
eligible: true
---
kind: Assignment
name: payments-approvers
role: access-approver
principal: group:release-managers
scope: /projects/payments
---
kind: ActivationRule
name: operators
role: operator
scope: /projects/payments
longest: 2h
approvals:
  - name: manager
    approval: {count: 1, groups: [release-managers]}
breakGlass:
  budget: 1
  reviewers: {groups: [security]}
---
kind: Assignment
name: responders
role: incident-responder
principal: group:security
scope: /
---
# What there is
kind: Project
name: payments
---
kind: Provider
name: github
platform: github
issuer: ISSUER
---
kind: Pipeline
name: release
project: payments
provider: github
organisation: "7001"
repository: "8001"
definition: .github/workflows/release.yml
stages:
  - name: build
    evidence: [tests, attestation]
    trust:
      events: [push]
      refs: [refs/heads/main]
  - name: deploy
    trust:
      environment: production
      events: [push]
      refs: [refs/heads/main]
  - name: deploy-staging
    trust:
      environment: staging
      events: [push]
      refs: [refs/heads/main]
---
kind: Environment
name: production
project: payments
tier: production
lease: 10m
heartbeat: 10s
checks:
  - name: main-only
    branches: {allowed: [refs/heads/main]}
  - name: first-attempt
    expression: {rule: ask.attempt == 1, message: Start a new run.}
  - name: manager
    approval: {count: 1, groups: [release-managers], instructions: Look at the change and at the tests.}
  - name: security
    approval: {count: 1, groups: [security], review: security, after: [manager]}
  - name: one-at-a-time
    lock: {mode: sequential}
---
kind: Identity
name: payments-production
project: payments
environment: production
audiences: ["https://payments.example.com"]
lifetime: 3s
stages: [release/deploy]
`

// runJob runs a job's steps as the runner would, in the background.
func (s *story) runJob(name string, env []string) (*exec.Cmd, *output, error) {
	data, err := os.ReadFile(filepath.Join(s.repo, ".github/workflows/release.yml"))
	if err != nil {
		return nil, nil, err
	}
	var definition struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(data, &definition); err != nil {
		return nil, nil, err
	}
	script := ""
	for _, step := range definition.Jobs[name].Steps {
		script += step.Run
	}
	if script == "" {
		return nil, nil, fmt.Errorf("the pipeline has no job %s", name)
	}
	cmd := exec.CommandContext(s.ctx, "sh", "-e", "-c", script)
	cmd.Dir, cmd.Env = s.repo, append(append(s.environment(), "TARGET="+s.targetURL()), env...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = cmd.Stdout
	return cmd, newOutput(pipe), cmd.Start()
}

func (s *story) targetURL() string {
	if s.target == nil {
		return ""
	}
	return s.target.url
}

// output is what a background job prints, line by line.
type output struct {
	lines chan string
	all   []string
}

func newOutput(r io.Reader) *output {
	o := &output{lines: make(chan string, 1000)}
	go func() {
		defer close(o.lines)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			o.lines <- scan.Text()
		}
	}()
	return o
}

// until reads lines until one matches.
func (o *output) until(ctx context.Context, want *regexp.Regexp) (string, error) {
	for {
		select {
		case line, open := <-o.lines:
			if !open {
				return "", fmt.Errorf("the job ended without saying %s:\n%s", want, strings.Join(o.all, "\n"))
			}
			o.all = append(o.all, line)
			if want.MatchString(line) {
				return line, nil
			}
		case <-ctx.Done():
			return "", fmt.Errorf("the job did not say %s in time:\n%s", want, strings.Join(o.all, "\n"))
		}
	}
}

// finish reads the rest, so that the process can be waited for.
func (o *output) finish() string {
	for line := range o.lines {
		o.all = append(o.all, line)
	}
	return strings.Join(o.all, "\n")
}

func (s *story) wholeJob(name string, env []string) (string, int, error) {
	cmd, out, err := s.runJob(name, env)
	if err != nil {
		return "", 0, err
	}
	text := out.finish()
	cmd.Wait() // the exit code is what counts
	return text, cmd.ProcessState.ExitCode(), nil
}

func (s *story) build() error {
	text, code, err := s.wholeJob("build", s.issuer.Job(s.job("9001", "5001", "push", "")))
	if err != nil || code != 0 || !strings.Contains(text, "release/build vouches for app") {
		return fmt.Errorf("the build job ended with %d: %v\n%s", code, err, text)
	}
	say("%s", strings.TrimSpace(text))
	text, code, err = s.wholeJob("sneaky", s.issuer.Job(s.job("9001", "5002", "push", "")))
	if err != nil || code != 120 || !strings.Contains(text, "stage_not_named") {
		return fmt.Errorf("the build stage was not refused the production identity (exit %d): %v\n%s", code, err, text)
	}
	say("A job of the build stage asks for production all the same:")
	say("  %s", strings.SplitN(text, "\n", 2)[0])
	return nil
}

func (s *story) deploy() error {
	var err error
	if s.target, err = startTarget(s.server); err != nil {
		return err
	}
	cmd, out, err := s.runJob("deploy", s.issuer.Job(s.job("9001", "5003", "push", "production")))
	if err != nil {
		return err
	}
	line, err := out.until(s.ctx, regexp.MustCompile(`lockkeeper approve (d-[a-z0-9]+)`))
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`d-[a-z0-9]+`).FindString(line)
	if line, err = out.until(s.ctx, regexp.MustCompile(`^waiting:.*0 of 1`)); err != nil {
		return err
	}
	say("%s", line)
	text, err := s.expect(4, s.as("ann"), []string{"approve", id}, "own_deployment")
	if err != nil {
		return err
	}
	say("ann started the run, and she is a release manager. She tries to approve it:")
	say("  %s", lineWith(text, "own_deployment"))
	for _, user := range []string{"bob", "cat"} {
		if _, err := s.expect(0, s.as(user), []string{"approve", id, "--comment", "looked at the change"}, "Approved."); err != nil {
			return err
		}
		say("%s approves.", user)
	}
	if line, err = out.until(s.ctx, regexp.MustCompile(`may run until`)); err != nil {
		return err
	}
	say("%s", line)
	if line, err = out.until(s.ctx, regexp.MustCompile(`the target was changed`)); err != nil {
		return err
	}
	say("The deploy script calls the target with its token: %s", line)
	text = out.finish()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the deploy job failed: %w\n%s", err, text)
	}
	say("%s", lineWith(text, "ended at"))
	say("%s", lineWith(text, "alive outside"))
	_, err = s.expect(0, s.as("bob"), []string{"deployments", "list"}, id, "succeeded")
	return err
}

func lineWith(text, word string) string {
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func (s *story) after() error {
	handle, err := os.ReadFile(filepath.Join(s.repo, "handle"))
	if err != nil {
		return err
	}
	out, err := s.expect(0, s.as("bob"), []string{"deployments", "list", "--output", "json"})
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`"id": "(d-[a-z0-9]+)"`).FindStringSubmatch(out)[1]
	job := s.job("9001", "5003", "push", "production")
	job.Audience = s.server
	resp, err := http.PostForm(s.server+"/oauth/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {s.issuer.JobToken(job)}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		"actor_token": {strings.TrimSpace(string(handle))}, "actor_token_type": {"urn:lockkeeper:params:oauth:token-type:handle"},
		"resource": {"urn:lockkeeper:deployment:" + id}, "audience": {audience}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var refused struct {
		Code        string `json:"code"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&refused); err != nil || resp.StatusCode != 400 || refused.Code != "deployment_ended" {
		return fmt.Errorf("the ended deployment got an answer %s %+v %v", resp.Status, refused, err)
	}
	say("The same job asks for another token: %s", refused.Description)
	kept, err := os.ReadFile(filepath.Join(s.repo, "token-kept-by-a-thief"))
	if err != nil {
		return err
	}
	for {
		status, _, err := post(s.target.url, string(kept))
		if err != nil {
			return err
		}
		if status == http.StatusUnauthorized {
			say("A copy of the token that somebody kept: the target refuses it, its time is over.")
			return nil
		}
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("the token outlived its time")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// detached lets one job ask and a later job of the same run and stage claim.
func (s *story) detached() error {
	digest, err := s.run(s.repo, nil, "sh", "-c", "sha256sum app.tar | cut -d' ' -f1")
	if err != nil {
		return err
	}
	ask := []string{"deploy", "--environment", "production", "--artifact", "app=sha256:" + digest.out}
	id := regexp.MustCompile(`d-[a-z0-9]+`)
	first := s.issuer.Job(s.job("9002", "5010", "push", "production"))
	out, err := s.expect(0, first, append(ask, "--detach", "--handle-file", "later"), "lockkeeper claim d-")
	if err != nil {
		return err
	}
	asked := id.FindString(out)
	say("A job asks and ends: %s", lineWith(out, "Come back"))
	for _, user := range []string{"bob", "cat"} {
		if _, err := s.expect(0, s.as(user), []string{"approve", asked}, "Approved."); err != nil {
			return err
		}
	}
	later := s.issuer.Job(s.job("9002", "5011", "push", "production"))
	if err := os.WriteFile(filepath.Join(s.repo, "another"), []byte("lkh_somethingelse\n"), 0o600); err != nil {
		return err
	}
	if out, err = s.expect(120, later, []string{"claim", asked, "--handle-file", "another", "--", "true"}, "handle_differs"); err != nil {
		return err
	}
	say("Another job of the run, without the handle of the one that asked: %s", lineWith(out, "handle_differs"))
	if out, err = s.expect(7, later, []string{"claim", asked, "--handle-file", "later", "--timeout", "10s", "--", "sh", "-c", "test -s $LOCKKEEPER_TOKEN_FILE && exit 7"}, "may run until", "failed"); err != nil {
		return err
	}
	say("A later job claims it and runs; its command fails with 7, and so does claim: %s", lineWith(out, "ended at"))
	other := s.issuer.Job(s.job("9003", "5012", "push", "production"))
	if _, err = s.expect(120, other, []string{"claim", asked, "--handle-file", "later", "--", "true"}, "deployment_ended"); err != nil {
		return err
	}
	if out, err = s.expect(0, other, append(ask, "--detach", "--handle-file", "unwanted"), "claim d-"); err != nil {
		return err
	}
	unwanted := id.FindString(out)
	if _, err = s.expect(0, s.as("cat"), []string{"reject", unwanted, "--comment", "not on a Friday"}, "has ended"); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("cat"), []string{"deployments", "watch", unwanted}, "rejected"); err != nil {
		return err
	}
	say("Another one cat rejects: %s", lineWith(out, "rejected"))
	return nil
}

func (s *story) proof() error {
	data, keys := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "keys.json")
	out, err := s.expect(0, nil, []string{"keys"})
	if err != nil {
		return err
	}
	if err := os.WriteFile(keys, []byte(out), 0o644); err != nil {
		return err
	}
	s.serving.Process.Signal(os.Interrupt)
	if err := s.serving.Wait(); err != nil {
		return fmt.Errorf("the server did not stop well: %w\n%s", err, s.served)
	}
	say("The server is stopped. The receipt needs only its public keys:")
	if out, err = s.expect(0, nil, []string{"receipt", "verify", "receipt.json", "--keys", keys}, "The receipt holds", "approved by bob", "approved by cat"); err != nil {
		return err
	}
	say("  %s", strings.SplitN(out, "\n", 2)[0])
	if out, err = s.expect(0, nil, []string{"journal", "verify", "--data", data, "--keys", keys}, "holds"); err != nil {
		return err
	}
	say("  %s", out)
	copied := filepath.Join(s.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		return err
	}
	if err := flip(copied, []byte("looked at the change")); err != nil {
		return err
	}
	if out, err = s.expect(6, nil, []string{"journal", "verify", "--data", copied, "--keys", keys}, "journal_broken"); err != nil {
		return err
	}
	say("One byte of a copy is flipped, in what bob wrote:")
	say("  %s", strings.SplitN(out, "\n", 2)[0])
	return nil
}

// flip changes one bit of the first place where text stands in the journal of a
// folder.
func flip(dir string, text []byte) error {
	for _, name := range []string{"journal.db-wal", "journal.db"} {
		file := filepath.Join(dir, name)
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if i := bytes.Index(data, text); i >= 0 {
			data[i] ^= 1
			return os.WriteFile(file, data, 0o600)
		}
	}
	return fmt.Errorf("%q stands nowhere in the journal", text)
}

// A target is a service that accepts only Lockkeeper's tokens. It finds the
// keys through discovery and checks them with an OpenID library, as a cloud
// does; it knows nothing else of Lockkeeper.
type target struct {
	url    string
	server *http.Server
}

func startTarget(issuer string) (*target, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", issuer, err)
	}
	verifier := provider.VerifierContext(context.Background(), &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{"ES256"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil || token.Subject != "lk:payments:production:payments-production" {
			http.Error(w, "not by this token", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "the target was changed by %s", token.Subject)
	})
	t := &target{"http://" + l.Addr().String(), &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}}
	go t.server.Serve(l)
	return t, nil
}

func (t *target) close() { t.server.Close() }

func post(address, token string) (int, string, error) {
	req, err := http.NewRequest(http.MethodPost, address, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	return resp.StatusCode, string(body), err
}
