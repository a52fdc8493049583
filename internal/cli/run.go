package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lockkeeper/lockkeeper"
)

// tokenVariables are what the clouds' SDKs read by themselves, by audience.
var tokenVariables = map[string]string{
	"api://AzureADTokenExchange": "AZURE_FEDERATED_TOKEN_FILE",
	"sts.amazonaws.com":          "AWS_WEB_IDENTITY_TOKEN_FILE",
}

// command runs the user's command with fresh tokens, and gives its exit code.
// The error is why it could not be run at all.
func (d *driver) command(ctx context.Context, command []string) (int, error) {
	dir, err := os.MkdirTemp("", "lockkeeper-")
	if err != nil {
		return exitInternal, err
	}
	defer os.RemoveAll(dir)
	env := append(os.Environ(), "LOCKKEEPER_DEPLOYMENT="+d.id)
	next := time.Duration(1<<62 - 1)
	for i, audience := range d.lease.Audiences {
		file := filepath.Join(dir, fmt.Sprintf("token-%d", i))
		life, err := d.refresh(ctx, audience, file)
		if err != nil {
			return exitInternal, deployError(err)
		}
		next = min(next, life)
		if i == 0 {
			env = append(env, "LOCKKEEPER_TOKEN_FILE="+file)
		}
		if v := tokenVariables[audience]; v != "" {
			env = append(env, v+"="+file)
		}
	}
	run, stop := context.WithCancel(context.Background())
	defer stop()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		d.keepFresh(run, dir, next)
	}()
	code, err := d.execute(command, env)
	stop()
	<-kept
	return code, err
}

// execute runs the command, passes signals on to it, and waits for its end.
func (d *driver) execute(command, env []string) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, d.app.in, d.app.out, d.app.err
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 127, lockkeeper.Invalid.Errorf("command_failed", "The command cannot be run: %v.", err).WithField(command[0])
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			cmd.Process.Signal(s) // it may have ended just now
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return 128 + int(status.Signal()), nil
				}
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}

// keepFresh exchanges again before the tokens end, until the command does.
func (d *driver) keepFresh(ctx context.Context, dir string, life time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(life/2, 500*time.Millisecond)):
		}
		for i, audience := range d.lease.Audiences {
			fresh, err := d.refresh(ctx, audience, filepath.Join(dir, fmt.Sprintf("token-%d", i)))
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				fmt.Fprintf(d.app.err, "No fresh token for %s: %v\n", audience, err)
				life = 20 * time.Second
				continue
			}
			life = fresh
		}
	}
}

// refresh exchanges the CI platform's token for one of the identity (RFC 8693)
// and puts it into file.
func (d *driver) refresh(ctx context.Context, audience, file string) (time.Duration, error) {
	subject, err := d.ci.token(ctx)
	if err != nil {
		return 0, err
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		"actor_token": {d.handle}, "actor_token_type": {"urn:lockkeeper:params:oauth:token-type:handle"},
		"resource": {"urn:lockkeeper:deployment:" + d.id}, "audience": {audience}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(d.app.server, "/")+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, lockkeeper.Unavailable.Errorf("server_unreachable", "The server %s cannot be reached.", d.app.server).WithCause(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token       string               `json:"access_token"`
		Expires     int                  `json:"expires_in"`
		Error       string               `json:"error"`
		Description string               `json:"error_description"`
		Code        string               `json:"code"`
		Next        string               `json:"next"`
		Decision    *lockkeeper.Decision `json:"decision"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&answer); err != nil {
		return 0, lockkeeper.Unavailable.Errorf("server_unreachable", "The server's answer is not of this API: %s.", resp.Status)
	}
	if answer.Token == "" {
		kind := lockkeeper.Forbidden
		if resp.StatusCode >= 500 {
			kind = lockkeeper.Unavailable
		}
		r := kind.Errorf(answer.Code, "%s", answer.Description).WithNext("%s", answer.Next)
		r.Decision = answer.Decision
		return 0, r
	}
	return time.Duration(answer.Expires) * time.Second, writePrivate(file, []byte(answer.Token))
}
