package cli

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// deployFlags are what `deploy` and `claim` take.
type deployFlags struct {
	project, environment string
	artifacts            []string
	parameters           []string
	plans                []string
	tokenFile            string
	handleFile           string
	receipt              string
	detach               bool
	rollback, redeploy   bool
	timeout              time.Duration
	rehearse             rehearseFlags
}

func (f *deployFlags) shared(c *cobra.Command) {
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the CI platform's token, where it cannot be asked for one")
	c.Flags().StringVar(&f.handleFile, "handle-file", "", "where the deployment's handle is kept between `deploy --detach` and `claim`")
	c.Flags().StringVar(&f.receipt, "receipt", "", "write the signed receipt to this file at the end")
	c.Flags().StringArrayVar(&f.plans, "plan", nil, "terraform=FILE or helm=FILE of a plan that plan-for recorded and the command carries out, read anew at the claim; may be given for each kind")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to wait for the gate; 0: as long as the ask may wait")
}

const deployHelp = `The command runs once the gate has let the deployment through, with these variables:

  LOCKKEEPER_TOKEN_FILE            a file with the token for the identity's first audience
  AZURE_FEDERATED_TOKEN_FILE       the same, for the audience api://AzureADTokenExchange
  AWS_WEB_IDENTITY_TOKEN_FILE      the same, for the audience sts.amazonaws.com
  GOOGLE_APPLICATION_CREDENTIALS   a file that names the token's, for a workload identity pool as audience
  LOCKKEEPER_DEPLOYMENT            the deployment's id

The files are kept fresh and the lease is kept alive while the command runs; both are gone afterwards.
Exit codes: the command's own; 120 refused, rejected or cancelled; 121 nobody let it through in time;
122 the server or the CI platform cannot be reached; 123 a newer deployment took its place;
124 a signal ended the wait; 125 the lease ended before the command did. Whoever stops waiting in deploy cancels the ask;
in claim it stays open. A command whose deployment is cancelled or revoked while it runs gets SIGTERM, and then 120.`

func (a *app) deployCommand() *cobra.Command {
	var f deployFlags
	c := &cobra.Command{Use: "deploy --environment E --artifact NAME=sha256:HEX [-- COMMAND…]", Short: "Ask to deploy, wait for the gate, and run a command under the deployment's identity",
		Example: "  lockkeeper deploy --environment production --artifact app=sha256:2c26… -- ./deploy.sh\n  lockkeeper deploy --environment production --artifact app=sha256:2c26… --detach --handle-file handle\n  lockkeeper deploy --environment production --artifact app=sha256:2c26… --dry-run",
		Long:    deployHelp + dryHelp}
	f.shared(c)
	f.rehearse.add(c)
	c.Flags().StringVar(&f.project, "project", "", "project; default: the pipeline's own")
	c.Flags().StringVar(&f.environment, "environment", "", "environment to deploy to")
	c.Flags().StringArrayVar(&f.artifacts, "artifact", nil, "NAME=sha256:HEX, or NAME=PATH of a file or folder to hash; may be given several times")
	c.Flags().BoolVar(&f.rollback, "rollback", false, "go back to artifacts that were deployed here with success before")
	c.Flags().BoolVar(&f.redeploy, "redeploy", false, "deploy once more what was deployed here with success last")
	c.MarkFlagsMutuallyExclusive("rollback", "redeploy")
	c.Flags().StringArrayVar(&f.parameters, "parameter", nil, "NAME=VALUE, part of what is approved; may be given several times")
	c.Flags().BoolVar(&f.detach, "detach", false, "only ask; a later job of this stage claims it")
	c.MarkFlagRequired("environment")
	c.MarkFlagRequired("artifact")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := f.rehearse.fit(args); err != nil {
			return err
		}
		if f.rehearse.dry {
			return deployError(a.deploy(c.Context(), f, nil))
		}
		if f.detach == (len(args) > 0) {
			return lockkeeper.Invalid.Errorf("usage", "Name either a command to run, or --detach.").WithNext("See: lockkeeper deploy --help")
		}
		if f.detach && f.handleFile == "" {
			return lockkeeper.Invalid.Errorf("usage", "Whoever comes back for the deployment needs its handle.").WithNext("Name a file for it: --handle-file FILE, and hand that file to the later job.")
		}
		return deployError(a.deploy(c.Context(), f, args))
	}
	return c
}

func (a *app) claimCommand() *cobra.Command {
	var f deployFlags
	c := &cobra.Command{Use: "claim ID [-- COMMAND…]", Short: "Come back for a deployment that was asked for with --detach, and run a command", Args: cobra.MinimumNArgs(2),
		Example: "  lockkeeper claim d-… --handle-file handle -- ./deploy.sh", Long: deployHelp}
	f.shared(c)
	c.MarkFlagRequired("handle-file")
	c.RunE = func(c *cobra.Command, args []string) error {
		d, err := a.oldDriver(f)
		if err != nil {
			return err
		}
		d.id, d.later = args[0], true
		return deployError(d.run(c.Context(), args[1:]))
	}
	return c
}

// deployError gives deploy's own exit codes to what is not the command's.
func deployError(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	switch r := lockkeeper.RefusalOf(err); {
	case r == nil, r.Kind == lockkeeper.Invalid:
		return err
	case r.Kind == lockkeeper.Unavailable:
		return &exitError{exitAway, err}
	case r.Code == "timed_out" || r.Code == "approval_timed_out" || r.Code == "gave_up_waiting":
		return &exitError{exitTimedOut, err}
	case r.Code == "interrupted":
		return &exitError{exitInterrupted, err}
	case r.Code == "superseded":
		return &exitError{exitSuperseded, err}
	}
	return &exitError{exitRefused, err}
}

func (a *app) deploy(ctx context.Context, f deployFlags, command []string) error {
	action := ""
	if f.rollback {
		action = lockkeeper.RollbackAction
	}
	if f.redeploy {
		action = lockkeeper.RedeployAction
	}
	ask := api.OpenDeployment{Action: action, Project: f.project, Environment: f.environment, Parameters: map[string]string{}, Detached: f.detach}
	for _, s := range f.artifacts {
		artifact, err := artifactOf(s)
		if err != nil {
			return err
		}
		ask.Artifacts = append(ask.Artifacts, artifact)
	}
	plans, err := plansOf(f.plans)
	if err != nil {
		return err
	}
	ask.Plans = plans
	for _, s := range f.parameters {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return lockkeeper.Invalid.Errorf("parameter_malformed", "The parameter %q is not NAME=VALUE.", s)
		}
		ask.Parameters[name] = value
	}
	if f.rehearse.dry {
		return a.rehearse(ctx, f.rehearse, ask, f.tokenFile)
	}
	d, err := a.newDriver(f)
	if err != nil {
		return err
	}
	ask.Handle = lockkeeper.HandleDigest(d.handle)
	opened, err := d.open(ctx, ask)
	if err != nil {
		return err
	}
	d.id = opened.ID
	if f.detach {
		return a.print(opened, func(w io.Writer) {
			printDeployment(w, opened)
			fmt.Fprintf(w, "Come back from a job of the same stage and run, with the file %s: lockkeeper claim %s --handle-file FILE -- COMMAND\n", f.handleFile, opened.ID)
		})
	}
	fmt.Fprintf(a.err, "%s asks to deploy to %s. Approvers run: lockkeeper approve %s\n", opened.ID, ask.Environment, opened.ID)
	return d.run(ctx, command)
}

// A driver takes one deployment from its ask to its end.
type driver struct {
	app    *app
	flags  deployFlags
	ci     ciPlatform
	handle string
	id     string
	lease  api.Lease
	later  bool      // another job may come back for it
	gone   time.Time // since when the server is away; zero: it is not
}

// oldDriver takes up a deployment by the handle that a file keeps.
func (a *app) oldDriver(f deployFlags) (*driver, error) {
	b, err := os.ReadFile(f.handleFile)
	handle := strings.TrimSpace(string(b))
	if err != nil || !strings.HasPrefix(handle, api.HandlePrefix) {
		return nil, lockkeeper.Invalid.Errorf("handle_file", "The file holds no handle of a deployment.").WithField(f.handleFile).
			WithNext("Hand over the file that `lockkeeper deploy --handle-file` wrote.").WithCause(err)
	}
	return &driver{app: a, flags: f, ci: ciPlatform{app: a, file: f.tokenFile}, handle: handle}, nil
}

// newDriver makes the deployment's handle: a secret of this job, whose digest
// alone goes with the ask. One that the handle file keeps is taken again, so that
// a job that was cut off can ask again.
func (a *app) newDriver(f deployFlags) (*driver, error) {
	if f.handleFile != "" {
		if d, err := a.oldDriver(f); err == nil {
			return d, nil
		}
	}
	d := &driver{app: a, flags: f, ci: ciPlatform{app: a, file: f.tokenFile}}
	d.handle = api.HandlePrefix + randomText()
	if f.handleFile != "" {
		if err := writePrivate(f.handleFile, []byte(d.handle+"\n")); err != nil {
			return nil, lockkeeper.Invalid.Errorf("handle_file", "The handle cannot be kept: %v.", err).WithField(f.handleFile)
		}
	}
	return d, nil
}

func randomText() string {
	b := make([]byte, 20)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b))
}

// tries is how often an ask is sent again when the server cannot be reached;
// the same key makes it one ask. A job that waits at the gate already bears a
// longer absence: an approval takes hours, and a server may start anew meanwhile.
const (
	tries       = 4
	longestAway = 10 * time.Minute
)

func (d *driver) open(ctx context.Context, ask api.OpenDeployment) (api.Deployment, error) {
	var opened api.Deployment
	key := randomText()
	err := retry(ctx, func() error {
		client, err := d.ci.client(ctx)
		if err != nil {
			return err
		}
		return client.Call(ctx, "POST", "/deployments", ask, &opened, "Idempotency-Key", key)
	})
	return opened, err
}

// retry calls f again while the server is unavailable, a few times and each
// time later.
func retry(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if lockkeeper.KindOf(err) != lockkeeper.Unavailable || try+1 == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second << try):
		}
	}
}

// run waits for the gate, claims the lease, runs the command, and ends the
// deployment with its exit code.
func (d *driver) run(ctx context.Context, command []string) error {
	if err := d.await(ctx); err != nil {
		// Nobody but this job has the handle, unless a file keeps it for another.
		// A refusal that could mend leaves no ask behind that would take others' turn.
		code := lockkeeper.RefusalOf(err)
		if !d.later && code != nil && (code.Code == "interrupted" || code.Code == "gave_up_waiting" || code.Code == "plan_differs" || code.Kind == lockkeeper.Forbidden && code.Decision != nil) {
			d.cancel(code.Sentence)
		}
		return err
	}
	fmt.Fprintf(d.app.err, "%s may run until %s as %s.\n", d.id, d.lease.Limit, d.lease.Identity)
	code, runErr := d.command(ctx, command)
	end, err := d.end(code)
	if err != nil {
		fmt.Fprintf(d.app.err, "The end of %s could not be told: %v\n", d.id, err)
	} else {
		printEnd(d.app.err, end)
		err = d.keepReceipt()
	}
	switch {
	case runErr != nil:
		return runErr
	case err == nil && endedOtherwise(end, code) != nil:
		return endedOtherwise(end, code)
	case code != 0:
		return &exitError{code: code}
	}
	return err
}

// await watches the gate and claims as soon as it passes.
func (d *driver) await(ctx context.Context) error {
	if d.flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.flags.timeout)
		defer cancel()
	}
	for {
		var claimed api.Deployment
		err := retry(ctx, func() error {
			client, err := d.ci.client(ctx)
			if err != nil {
				return err
			}
			plans, err := plansOf(d.flags.plans) // as they are now, and not as they were at the ask
			if err != nil {
				return err
			}
			return client.Call(ctx, "POST", "/deployments/"+pathEscape(d.id)+"/claim", api.Claim{Handle: d.handle, Plans: plans}, &claimed)
		})
		if err == nil {
			d.lease = *claimed.Lease
			return nil
		}
		if d.bears(ctx, err) {
			continue
		}
		if ctx.Err() != nil {
			return stoppedWaiting(ctx, d.id, nil)
		}
		r := lockkeeper.RefusalOf(err)
		if r == nil || r.Kind != lockkeeper.Conflict || r.Decision == nil || r.Decision.Verdict != lockkeeper.Wait {
			return err
		}
		if err := d.watch(ctx, r.Decision); err != nil {
			return err
		}
	}
}

// watch shows how the gate stands until it passes, fails, or the deployment
// ends. The deployment's handle lets it look, so that no CI token is needed.
func (d *driver) watch(ctx context.Context, last *lockkeeper.Decision) error {
	client := d.app.client().With(d.handle)
	seen, show := "", d.app.progress()
	defer show.end()
	for {
		at, err := client.Deployment(ctx, d.id, seen, 30*time.Second)
		if err != nil {
			show.end()
		}
		if d.bears(ctx, err) {
			continue
		}
		if ctx.Err() != nil {
			return stoppedWaiting(ctx, d.id, last)
		}
		if err != nil {
			return err
		}
		if at.End != nil {
			return endedError(at)
		}
		if at.Gate != nil {
			last = at.Gate
			show.gate(*at.Gate)
			if at.Gate.Verdict != lockkeeper.Wait {
				return nil
			}
		}
		seen = at.Seen
	}
}

// bears reports whether the job goes on waiting after err: the server, or what it
// needs, is away, and has not been for too long. It pauses before it says so.
func (d *driver) bears(ctx context.Context, err error) bool {
	if lockkeeper.KindOf(err) != lockkeeper.Unavailable || ctx.Err() != nil {
		if !d.gone.IsZero() && err == nil {
			d.gone = time.Time{}
			fmt.Fprintln(d.app.err, "The server is back.")
		}
		return false
	}
	if d.gone.IsZero() {
		d.gone = time.Now()
		fmt.Fprintf(d.app.err, "%v\n%s goes on waiting for it, at most %s.\n", err, d.id, longestAway)
	}
	return time.Since(d.gone) < longestAway && d.sleep(ctx, 2*time.Second)
}

// sleep reports whether it slept to the end.
func (d *driver) sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// stoppedWaiting says why a job waits no more: its own time is up, or a signal came.
func stoppedWaiting(ctx context.Context, id string, last *lockkeeper.Decision) error {
	r := lockkeeper.Conflict.Errorf("gave_up_waiting", "The job gave up waiting for %s, as it was told to (--timeout).", id)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r = lockkeeper.Conflict.Errorf("interrupted", "The job was interrupted while it waited for %s.", id)
	}
	if last == nil {
		return r.WithNext("Run the job again.")
	}
	r.Sentence += " The gate said: " + last.Sentence
	return r.WithNext("%s", last.Next).WithDecision(*last)
}

func waitingLine(g lockkeeper.Decision) string {
	var parts []string
	for _, b := range g.Because {
		if b.Verdict != lockkeeper.Pass && b.Code != "lock_later" {
			parts = append(parts, printable(b.Subject+": "+b.Sentence))
		}
	}
	if len(parts) == 0 {
		return "The gate has passed."
	}
	return "waiting: " + strings.Join(parts, "; ")
}

func endedError(at api.Deployment) error {
	kind, code := lockkeeper.Forbidden, at.Status
	r := kind.Errorf(code, "The deployment %s is %s.", at.ID, strings.ReplaceAll(at.Status, "_", " "))
	if at.End.Reason != "" {
		r.Sentence += " " + at.End.Reason
	}
	if at.End.By != "" {
		r.Sentence += fmt.Sprintf(" (by %s)", at.End.By)
	}
	return r.WithNext("Look at it: lockkeeper deployments show %s", at.ID)
}

func (d *driver) end(code int) (api.Deployment, error) {
	var at api.Deployment
	// The job may be stopping: its end is told all the same, within bounds.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := retry(ctx, func() error {
		return d.app.client().With(d.handle).Call(ctx, "POST", "/deployments/"+pathEscape(d.id)+"/end", api.EndDeployment{ExitCode: code}, &at)
	})
	if lockkeeper.KindOf(err) == lockkeeper.Conflict { // told before, or ended by somebody else: say how
		at, err = d.app.client().With(d.handle).Deployment(ctx, d.id, "", 0)
	}
	return at, err
}

// endedOtherwise is nil if the deployment ended as a command that ended with the
// code makes it end.
func endedOtherwise(at api.Deployment, code int) error {
	switch {
	case at.End == nil || at.Status == "succeeded" && code == 0 || at.Status == "failed" && at.End.ExitCode == code:
		return nil
	case at.Status == "indeterminate":
		return &exitError{exitUnknown, endedError(at)}
	}
	return &exitError{exitRefused, endedError(at)}
}

func (d *driver) cancel(reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.app.client().With(d.handle).Call(ctx, "POST", "/deployments/"+pathEscape(d.id)+"/cancel", api.Cancel{Reason: reason}, nil); err != nil {
		fmt.Fprintf(d.app.err, "The deployment %s could not be cancelled: %v\n", d.id, err)
	}
}

func (d *driver) keepReceipt() error {
	if d.flags.receipt == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var receipt []byte
	if err := d.app.client().With(d.handle).Call(ctx, "GET", "/deployments/"+pathEscape(d.id)+"/receipt", nil, &receipt); err != nil {
		return err
	}
	if err := os.WriteFile(d.flags.receipt, receipt, 0o644); err != nil {
		return lockkeeper.Invalid.Errorf("receipt_file", "The receipt cannot be written: %v.", err).WithField(filepath.Clean(d.flags.receipt))
	}
	return nil
}
