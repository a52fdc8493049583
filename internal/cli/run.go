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
	"sync"
	"syscall"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// command runs the user's command with fresh tokens, and gives its exit code.
// The error is why it could not be run at all.
func (d *driver) command(ctx context.Context, command []string) (int, error) {
	dir, err := os.MkdirTemp("", "lockkeeper-")
	if err != nil {
		return exitInternal, err
	}
	defer os.RemoveAll(dir)
	env := append(os.Environ(), "LOCKKEEPER_DEPLOYMENT="+d.id)
	if os.Getenv("AWS_ROLE_SESSION_NAME") == "" {
		env = append(env, "AWS_ROLE_SESSION_NAME="+d.id) // so that the cloud's own log names the deployment
	}
	next := time.Duration(1<<62 - 1)
	given := map[string]bool{} // variables; the first audience that takes one has it
	for i, audience := range d.lease.Audiences {
		file := filepath.Join(dir, fmt.Sprintf("token-%d", i))
		var life time.Duration
		err := retry(ctx, func() (err error) {
			life, err = d.refresh(ctx, audience, file)
			return err
		})
		if err != nil {
			return exitInternal, deployError(err)
		}
		next = min(next, life)
		if i == 0 {
			env = append(env, "LOCKKEEPER_TOKEN_FILE="+file)
		}
		v := tokenVariable(audience)
		if v == "" || given[v] {
			continue
		}
		given[v] = true
		if pool, is := googlePool(audience); is {
			credentials := filepath.Join(dir, fmt.Sprintf("google-%d.json", i))
			if err := writeGoogle(credentials, pool, file); err != nil {
				return exitInternal, err
			}
			file = credentials
		}
		env = append(env, v+"="+file)
	}
	run, stop := context.WithCancel(context.Background())
	defer stop()
	var kept sync.WaitGroup
	kept.Go(func() { d.keepFresh(run, dir, next) })
	kept.Go(func() { d.beat(run) })
	over := make(chan api.Deployment, 1)
	kept.Go(func() { d.guard(run, over) })
	code, err := d.execute(command, env, over)
	stop()
	kept.Wait()
	return code, err
}

// googlePool is the workload identity provider that an audience names, in the
// form that Google's libraries want.
func googlePool(audience string) (string, bool) {
	pool := strings.TrimPrefix(audience, "https:")
	return pool, strings.HasPrefix(pool, "//iam.googleapis.com/") && strings.Contains(pool, "/workloadIdentityPools/")
}

// writeGoogle writes the configuration with which Google's libraries take the
// token from its file (external_account, AIP-4117). It holds no secret.
func writeGoogle(file, pool, tokenFile string) error {
	b, err := json.MarshalIndent(map[string]any{"universe_domain": "googleapis.com", "type": "external_account", "audience": pool,
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": map[string]any{"file": tokenFile, "format": map[string]string{"type": "text"}}}, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(file, b)
}

// beat keeps the lease alive until the command has ended. A beat that fails is
// tried again soon: the lease bears some silence.
func (d *driver) beat(ctx context.Context) {
	for {
		pause := max(time.Until(d.lease.Ends.Time())/3, time.Second)
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(pause, time.Minute)):
		}
		var renewed api.Renewed
		err := d.app.client().With(d.handle).Call(ctx, "POST", "/deployments/"+pathEscape(d.id)+"/renew", nil, &renewed)
		switch {
		case err == nil:
			d.lease.Ends = renewed.Ends
		case ctx.Err() != nil:
			return
		case lockkeeper.KindOf(err) == lockkeeper.Forbidden || lockkeeper.KindOf(err) == lockkeeper.Conflict:
			fmt.Fprintf(d.app.err, "The lease is not renewed, and ends at %s: %v\n", d.lease.Ends, err)
			return
		default:
			fmt.Fprintf(d.app.err, "No heartbeat went through; the lease ends at %s: %v\n", d.lease.Ends, err)
		}
	}
}

// guard looks after the deployment while its command runs, and tells if somebody
// ends it.
func (d *driver) guard(ctx context.Context, over chan<- api.Deployment) {
	client, seen := d.app.client().With(d.handle), ""
	for {
		at, err := client.Deployment(ctx, d.id, seen, 30*time.Second)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && at.End != nil:
			over <- at
			return
		case err != nil && !d.sleep(ctx, 5*time.Second):
			return
		}
		seen = at.Seen
	}
}

// execute runs the command, passes signals on to it, asks it to end when its
// deployment is over, and waits for its end.
func (d *driver) execute(command, env []string, over <-chan api.Deployment) (int, error) {
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
		case at := <-over:
			fmt.Fprintf(d.app.err, "%v\nThe command is asked to end (SIGTERM).\n", endedError(at))
			cmd.Process.Signal(syscall.SIGTERM)
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
	token, life, err := d.exchange(ctx, audience)
	if err != nil {
		return 0, err
	}
	return life, writePrivate(file, []byte(token))
}

// exchange gives a token and how long it lives.
func (d *driver) exchange(ctx context.Context, audience string) (string, time.Duration, error) {
	subject, err := d.ci.token(ctx)
	if err != nil {
		return "", 0, err
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {subject}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		"actor_token": {d.handle}, "actor_token_type": {"urn:lockkeeper:params:oauth:token-type:handle"},
		"resource": {"urn:lockkeeper:deployment:" + d.id}, "audience": {audience}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(d.app.server, "/")+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if access := d.ci.access(); access != "" {
		req.Header.Set("Lockkeeper-Access-Token", access)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, lockkeeper.Unavailable.Errorf("server_unreachable", "The server %s cannot be reached.", d.app.server).WithCause(err)
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
		return "", 0, lockkeeper.Unavailable.Errorf("server_unreachable", "The server's answer is not of this API: %s.", resp.Status)
	}
	if answer.Token == "" {
		kind := lockkeeper.Forbidden
		if resp.StatusCode >= 500 {
			kind = lockkeeper.Unavailable
		}
		r := kind.Errorf(answer.Code, "%s", answer.Description).WithNext("%s", answer.Next)
		r.Decision = answer.Decision
		return "", 0, r
	}
	return answer.Token, time.Duration(answer.Expires) * time.Second, nil
}
