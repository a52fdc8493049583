package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) activateCommand() *cobra.Command {
	var in api.OpenRequest
	var scope string
	var length, timeout time.Duration
	var later bool
	var start, tokenFile string
	var run bool
	c := &cobra.Command{Use: "activate ROLE --scope SCOPE --for DURATION", Short: "Ask to activate a role that one is eligible for, wait for the approvals, and begin", Args: activateArgs,
		Example: "  lockkeeper activate operator --scope /projects/payments --for 1h --reason 'INC-4711: the queue is stuck'\n  lockkeeper activate operator --scope /projects/payments --for 1h --reason 'tonight' --at 2026-12-01T22:00:00+01:00\n  lockkeeper activate migrator --run --scope /projects/payments/environments/production --for 30m --reason 'migrate'\n  lockkeeper activate contributor --run --scope /projects/payments/environments/production --for 30m --reason 'migrate' -- terraform apply",
		Long: `What you may activate, and what it takes: lockkeeper eligible. The time starts when the
activation begins, not when it is asked for, and it ends by itself. A scope below the
one that you are eligible at, and a shorter time, are always possible.

With --at it is asked for now and begun from then on, with lockkeeper requests begin; the
rules and everybody's rights are looked at again when it begins. With --deployment it ends
with that deployment, if that is sooner. With --uses it gives nothing more once so many
decisions rested on it: an approval, a start, a token.

With --run it is a pipeline's job that asks, with its CI platform's token, for itself: an
environment may demand that (activation: ROLE). It ends with the job's deployment. What it
opens outside is granted before it returns; with -- COMMAND the command runs then, and the
activation ends with it.`}
	c.Flags().StringVar(&scope, "scope", "/", "where")
	c.Flags().DurationVar(&length, "for", time.Hour, "how long")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.Flags().StringVar(&in.Ticket, "ticket", "", "number of the ticket, where the rules ask for one")
	c.Flags().BoolVar(&run, "run", false, "in a pipeline: for the job that this runs in")
	c.Flags().StringVar(&tokenFile, "token-file", "", "with --run: file with the CI platform's token, where it cannot be asked for one")
	c.Flags().StringVar(&start, "at", "", "begin it from this instant on, such as 2026-12-01T22:00:00+01:00; only asks now")
	c.Flags().StringVar(&in.Deployment, "deployment", "", "end it with this deployment")
	c.Flags().IntVar(&in.Uses, "uses", 0, "use it so often at most, 1 to 1000; 0: as often as the rules say")
	c.Flags().BoolVar(&later, "later", false, "only ask; begin it later with `requests begin`")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for the approvals; 0: as long as the request may wait")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := wholeSeconds(length); err != nil {
			return err
		}
		if start != "" {
			t, err := time.Parse(time.RFC3339Nano, start)
			if err != nil {
				return lockkeeper.Invalid.Errorf("moment_malformed", "%.40q is no instant.", start).WithNext("Write it with its zone, as 2026-12-01T22:00:00+01:00.")
			}
			in.At, later = lockkeeper.MomentOf(t), true
		}
		in.Role, in.Scope, in.Seconds = args[0], lockkeeper.Scope(scope), int64(length/time.Second)
		if len(args) > 1 && !run {
			return lockkeeper.Invalid.Errorf("usage", "Only a job's activation lasts as long as a command.").WithNext("Add --run, or leave the command out.")
		}
		if run {
			if later || in.Deployment != "" || in.Uses != 0 {
				return lockkeeper.Invalid.Errorf("usage", "A job activates a role now and for its own deployment.").WithNext("Leave --at, --later, --uses and --deployment out.")
			}
			return a.activateRun(c.Context(), ciPlatform{app: a, file: tokenFile}, in, timeout, args[1:])
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		var r api.Request
		if err := client.Call(c.Context(), "POST", "/requests", in, &r, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.beginOr(c.Context(), client, r, later, timeout)
	}
	return c
}

// activateRun asks for the job that this process runs in, waits and begins.
func (a *app) activateRun(ctx context.Context, ci ciPlatform, in api.OpenRequest, timeout time.Duration, command []string) error {
	client, err := ci.client(ctx)
	if err != nil {
		return err
	}
	handle := api.HandlePrefix + randomText()
	ask := api.OpenRunRequest{Role: in.Role, Scope: in.Scope, Seconds: in.Seconds, Reason: in.Reason, Ticket: in.Ticket, Handle: lockkeeper.HandleDigest(handle)}
	var r api.Request
	if err := client.Call(ctx, "POST", "/requests/run", ask, &r, "Idempotency-Key", randomText()); err != nil {
		return err
	}
	return a.whileActive(ctx, a.client().With(handle), r, timeout, command)
}

// beginOr begins what was asked for once it is approved, or only shows it.
func (a *app) beginOr(ctx context.Context, client api.Client, r api.Request, later bool, timeout time.Duration) error {
	if later {
		return a.print(r, func(w io.Writer) {
			printRequest(w, r)
			fmt.Fprintf(w, "Begin it once it is approved: lockkeeper requests begin %s\n", r.ID)
		})
	}
	active, err := a.begin(ctx, client, r, timeout)
	if err != nil {
		return err
	}
	return a.print(active, func(w io.Writer) { printActivation(w, active) })
}

func wholeSeconds(d time.Duration) error {
	if d%time.Second != 0 {
		return lockkeeper.Invalid.Errorf("duration_malformed", "An activation lasts whole seconds, and %s is not.", d).WithNext("Ask for --for 1h.")
	}
	return nil
}

// begin waits for the approvals of a request and begins the activation.
func (a *app) begin(ctx context.Context, client api.Client, r api.Request, timeout time.Duration) (api.Activation, error) {
	var active api.Activation
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	show := a.progress()
	defer show.end()
	if r.Verdict.Verdict == lockkeeper.Wait {
		fmt.Fprintln(a.err, waitsFor(r))
	}
	for r.Verdict.Verdict == lockkeeper.Wait {
		show.gate(r.Verdict)
		path := "/requests/" + pathEscape(r.ID) + "?seen=" + url.QueryEscape(r.Seen) + "&wait=30"
		id := r.ID
		r = api.Request{}
		if err := client.Call(ctx, "GET", path, nil, &r); err != nil {
			if ctx.Err() != nil {
				return active, lockkeeper.Conflict.Errorf("gave_up_waiting", "Nobody approved %s in time.", id).WithNext("It waits on: lockkeeper requests begin %s, or requests withdraw %s", id, id)
			}
			return active, err
		}
	}
	if r.End != nil {
		return active, lockkeeper.Conflict.Errorf(r.Verdict.Code, "%s", r.Verdict.Sentence).WithNext("%s", r.Verdict.Next).WithField(r.ID)
	}
	return active, client.Call(ctx, "POST", "/requests/"+pathEscape(r.ID)+"/begin", nil, &active)
}

func (a *app) eligibleCommand() *cobra.Command {
	return &cobra.Command{Use: "eligible", Short: "List what one may activate, and what that takes", Args: cobra.NoArgs, Example: "  lockkeeper eligible",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Eligibilities
			if err := client.Call(c.Context(), "GET", "/eligibilities", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, e := range out.Eligibilities {
					printEligibility(w, e)
				}
				if len(out.Eligibilities) == 0 {
					fmt.Fprintln(w, "There is nothing that you may activate.")
				}
			})
		}}
}

func printEligibility(w io.Writer, e api.Eligibility) {
	fmt.Fprintf(w, "%s at %s or below, for %s at most", e.Role, e.Scope, time.Duration(e.Seconds)*time.Second)
	if !e.End.IsZero() {
		fmt.Fprintf(w, ", until %s", e.End)
	}
	fmt.Fprintln(w)
	if e.Reason {
		fmt.Fprintln(w, "  a reason")
	}
	if e.Condition != "" {
		fmt.Fprintf(w, "  for what meets the condition %s\n", printable(e.Condition))
	}
	for _, t := range e.Tickets {
		fmt.Fprintf(w, "  a ticket of the form %s\n", printable(t))
	}
	for _, rule := range e.Asked {
		fmt.Fprintf(w, "  a service that says so of the ticket (%s)\n", rule)
	}
	if e.Uses > 0 {
		fmt.Fprintf(w, "  for %d decisions at most that rest on it\n", e.Uses)
	}
	if e.Bound {
		fmt.Fprintln(w, "  it counts in the session that begins it, and ends with that")
	}
	for _, p := range e.Approvals {
		fmt.Fprintf(w, "  approvals of %s: %d (%s) %s\n", strings.Join(p.Groups, ", "), p.Count, p.Name, printable(p.Instructions))
		if len(p.EscalateGroups) > 0 {
			fmt.Fprintf(w, "    after %s also of %s\n", time.Duration(p.EscalateSeconds)*time.Second, strings.Join(p.EscalateGroups, ", "))
		}
	}
	if e.CoolingOff > 0 {
		fmt.Fprintf(w, "  nothing for %s after a change of your credential\n", time.Duration(e.CoolingOff)*time.Second)
	}
	if e.Hours {
		fmt.Fprintln(w, "  to begin in the hours of the rules")
	}
	if e.StepUp > 0 {
		fmt.Fprintf(w, "  a sign-in, or a step-up, within %s\n", time.Duration(e.StepUp)*time.Second)
	}
	if e.Strong {
		fmt.Fprintln(w, "  a second factor")
	}
}

func (a *app) requestsCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "requests", Short: "Requests to activate roles: list, show, approve, deny, withdraw, begin"},
		a.listRequestsCommand(), a.showRequestCommand(), a.decideRequestCommand(true), a.decideRequestCommand(false), a.withdrawRequestCommand(), a.beginCommand())
}

func (a *app) listRequestsCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the requests that wait: your own, and those that you may decide", Args: cobra.NoArgs, Example: "  lockkeeper requests list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Requests
			if err := client.Call(c.Context(), "GET", "/requests", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, r := range out.Requests {
					fmt.Fprintf(w, "%s  %-12s %s at %s for %s: %s\n", r.ID, r.User, r.Role, r.Scope, time.Duration(r.Seconds)*time.Second, waitingLine(r.Verdict))
				}
				if len(out.Requests) == 0 {
					fmt.Fprintln(w, "Nothing waits.")
				}
			})
		}}
}

func (a *app) oneRequest(c *cobra.Command, id string) (api.Client, api.Request, error) {
	var r api.Request
	client, err := a.person()
	if err == nil {
		err = client.Call(c.Context(), "GET", "/requests/"+pathEscape(id), nil, &r)
	}
	return client, r, err
}

func (a *app) showRequestCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a request: what it asks for, and how it stands or ended", Args: cobra.ExactArgs(1), Example: "  lockkeeper requests show r-…",
		RunE: func(c *cobra.Command, args []string) error {
			_, r, err := a.oneRequest(c, args[0])
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printRequest(w, r) })
		}}
}

func printRequest(w io.Writer, r api.Request) {
	fmt.Fprintf(w, "%s: %s asks to activate %s at %s for %s\n", r.ID, r.User, r.Role, r.Scope, time.Duration(r.Seconds)*time.Second)
	if r.Run != nil {
		fmt.Fprintf(w, "  run       %s, attempt %d, of %s/%s/%s on %s\n", printable(r.Run.Run), r.Run.Attempt, r.Run.Project, r.Run.Pipeline, r.Run.Stage, r.Run.Provider)
	}
	if r.Extends != "" {
		fmt.Fprintf(w, "  extends   %s past its end at %s\n", r.Extends, r.From)
	}
	if !r.At.IsZero() {
		fmt.Fprintf(w, "  begins    from %s on\n", r.At)
	}
	if r.Deployment != "" {
		fmt.Fprintf(w, "  ends      with %s, if that is sooner\n", r.Deployment)
	}
	if r.Reason != "" {
		fmt.Fprintf(w, "  reason    %s\n", printable(r.Reason))
	}
	if r.Ticket != "" {
		fmt.Fprintf(w, "  ticket    %s\n", printable(r.Ticket))
	}
	printQuestions(w, r)
	fmt.Fprintf(w, "  allows    %s\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Actions), " ", ", "), "[]"))
	for _, o := range r.Opens {
		fmt.Fprintf(w, "  opens     %s (%s)\n", o.Provisioner, o.Kind)
	}
	if r.End == nil {
		fmt.Fprintf(w, "  waits     until %s\n", r.Deadline)
	}
	for _, t := range r.Trims {
		fmt.Fprintf(w, "  trimmed   by %s at %s, from %s for %s\n", t.User, t.At, t.Scope, time.Duration(t.Seconds)*time.Second)
	}
	for _, v := range r.Approvals {
		larger := ""
		if v.Digest != r.Digest {
			larger = "(as it was then) "
		}
		fmt.Fprintf(w, "  approved  by %s at %s %s%s\n", v.User, v.At, larger, printable(v.Comment)+glassMark(v.BreakGlass))
	}
	printDecision(w, r.Verdict, 1)
}

func (a *app) decideRequestCommand(approve bool) *cobra.Command {
	var comment, digest, scope string
	var length time.Duration
	verb, short, done := "approve", "Approve somebody else's request", "Approved."
	if !approve {
		verb, short, done = "deny", "Deny somebody else's request; it ends", "Denied."
	}
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  lockkeeper requests " + verb + " r-… --comment 'seen the incident'",
		Long: "The verdict is on exactly the request that is shown: give its digest with --digest if you saw it before."}
	c.Flags().StringVar(&comment, "comment", "", "why")
	c.Flags().StringVar(&digest, "digest", "", "digest of the request that you saw; default: the one shown now")
	if approve {
		c.Example += "\n  lockkeeper requests approve r-… --for 30m --scope /projects/payments/environments/test"
		c.Long += "\nWith --for and --scope you approve less than was asked for: the request becomes that. Who approved it before approved this, too."
		c.Flags().DurationVar(&length, "for", 0, "approve a shorter time than was asked for")
		c.Flags().StringVar(&scope, "scope", "", "approve a scope below the one that was asked for")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, r, err := a.oneRequest(c, args[0])
		if err != nil {
			return err
		}
		if err := wholeSeconds(length); err != nil {
			return err
		}
		vote := api.RequestVote{Digest: r.Digest, Comment: comment, Seconds: int64(length / time.Second), Scope: lockkeeper.Scope(scope)}
		if digest != "" {
			vote.Digest = lockkeeper.Digest(digest)
		}
		if a.output == "text" {
			printRequest(a.err, r)
		}
		if err := client.Call(c.Context(), "POST", "/requests/"+pathEscape(r.ID)+"/"+verb, vote, nil); err != nil {
			return err
		}
		return a.print(map[string]any{"id": r.ID, "approved": approve}, func(w io.Writer) { fmt.Fprintln(w, done) })
	}
	return c
}

func (a *app) withdrawRequestCommand() *cobra.Command {
	return &cobra.Command{Use: "withdraw ID", Short: "Take one's request back", Args: cobra.ExactArgs(1), Example: "  lockkeeper requests withdraw r-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "POST", "/requests/"+pathEscape(args[0])+"/withdraw", nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Withdrawn.") })
		}}
}

func (a *app) beginCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{Use: "begin ID", Short: "Wait for the approvals of one's request, and begin: the time starts", Args: cobra.ExactArgs(1), Example: "  lockkeeper requests begin r-…"}
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for the approvals; 0: as long as the request may wait")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, r, err := a.oneRequest(c, args[0])
		if err != nil {
			return err
		}
		active, err := a.begin(c.Context(), client, r, timeout)
		if err != nil {
			return err
		}
		return a.print(active, func(w io.Writer) { printActivation(w, active) })
	}
	return c
}

func printActivation(w io.Writer, x api.Activation) {
	fmt.Fprintf(w, "%s has activated %s at %s until %s%s.\nEnd it sooner: lockkeeper activations end %s\n", x.User, x.Role, x.Scope, x.Ends, boundsOf(x), x.ID)
	for _, o := range x.Opens {
		how := map[string]string{"postgresql": ": lockkeeper activations credential " + x.ID, "ssh": ": lockkeeper activations ssh " + x.ID + " --public-key FILE"}[o.Kind]
		fmt.Fprintf(w, "It opens %s (%s)%s\n", o.Provisioner, o.Kind, how)
	}
}

func (a *app) activationsCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List what is active now: your own, and what you may see", Args: cobra.NoArgs, Example: "  lockkeeper activations list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Activations
			if err := client.Call(c.Context(), "GET", "/activations", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, x := range out.Activations {
					fmt.Fprintf(w, "%s  %-12s %s at %s until %s%s  %s%s\n", x.ID, x.User, x.Role, x.Scope, x.Ends, boundsOf(x), printable(strconv.Quote(x.Reason)), glassMark(x.BreakGlass)+modifiedMark(x))
				}
				if len(out.Activations) == 0 {
					fmt.Fprintln(w, "Nothing is active.")
				}
			})
		}}
	var in api.EndActivation
	end := &cobra.Command{Use: "end ID", Short: "End one's activation, or somebody else's", Args: cobra.ExactArgs(1), Example: "  lockkeeper activations end a-…\n  lockkeeper activations end a-… --reason 'the account is compromised'",
		Long: "What was approved by virtue of an activation that somebody else ends counts no more."}
	end.Flags().StringVar(&in.Reason, "reason", "", "why")
	end.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/activations/"+pathEscape(args[0])+"/end", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Ended.") })
	}
	return withCommands(&cobra.Command{Use: "activations", Short: "What is active now, what it opens, making it longer, and ending it"}, list, end, a.extendCommand(), a.credentialCommand(), a.sshCommand())
}

func (a *app) extendCommand() *cobra.Command {
	var in api.ExtendActivation
	var length, timeout time.Duration
	var later bool
	c := &cobra.Command{Use: "extend ID --for DURATION", Short: "Ask to make one's activation last longer, wait for the approvals, and do it", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper activations extend a-… --for 30m --reason 'the queue is still stuck'",
		Long: `It is asked for and approved as the activation was, and must be begun before that ends. The
rules say how often one activation may be made longer, and how long it lasts in all.`}
	c.Flags().DurationVar(&length, "for", 30*time.Minute, "how much longer, past its end")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.Flags().StringVar(&in.Ticket, "ticket", "", "number of the ticket, where the rules ask for one")
	c.Flags().BoolVar(&later, "later", false, "only ask; begin it later with `requests begin`")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for the approvals; 0: as long as the request may wait")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := wholeSeconds(length); err != nil {
			return err
		}
		in.Seconds = int64(length / time.Second)
		client, err := a.person()
		if err != nil {
			return err
		}
		var r api.Request
		if err := client.Call(c.Context(), "POST", "/activations/"+pathEscape(args[0])+"/extend", in, &r, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.beginOr(c.Context(), client, r, later, timeout)
	}
	return c
}
