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
	c := &cobra.Command{Use: "activate ROLE --scope SCOPE --for DURATION", Short: "Ask to activate a role that one is eligible for, wait for the approvals, and begin", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper activate operator --scope /projects/payments --for 1h --reason 'INC-4711: the queue is stuck'\n  lockkeeper activate operator --scope /projects/payments --for 1h --reason 'tonight' --later",
		Long: `What you may activate, and what it takes: lockkeeper eligible. The time starts when the
activation begins, not when it is asked for, and it ends by itself. A scope below the
one that you are eligible at, and a shorter time, are always possible.`}
	c.Flags().StringVar(&scope, "scope", "/", "where")
	c.Flags().DurationVar(&length, "for", time.Hour, "how long")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.Flags().StringVar(&in.Ticket, "ticket", "", "number of the ticket, where the rules ask for one")
	c.Flags().BoolVar(&later, "later", false, "only ask; begin it later with `requests begin`")
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for the approvals; 0: as long as the request may wait")
	c.RunE = func(c *cobra.Command, args []string) error {
		if length%time.Second != 0 {
			return lockkeeper.Invalid.Errorf("duration_malformed", "An activation lasts whole seconds, and %s is not.", length).WithNext("Ask for --for 1h.")
		}
		in.Role, in.Scope, in.Seconds = args[0], lockkeeper.Scope(scope), int64(length/time.Second)
		client, err := a.person()
		if err != nil {
			return err
		}
		var r api.Request
		if err := client.Call(c.Context(), "POST", "/requests", in, &r, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		if later {
			return a.print(r, func(w io.Writer) {
				printRequest(w, r)
				fmt.Fprintf(w, "Begin it once it is approved: lockkeeper requests begin %s\n", r.ID)
			})
		}
		active, err := a.begin(c.Context(), client, r, timeout)
		if err != nil {
			return err
		}
		return a.print(active, func(w io.Writer) { printActivation(w, active) })
	}
	return c
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
		fmt.Fprintf(a.err, "%s waits. Approvers run: lockkeeper requests approve %s\n", r.ID, r.ID)
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
	for _, t := range e.Tickets {
		fmt.Fprintf(w, "  a ticket of the form %s\n", printable(t))
	}
	for _, p := range e.Approvals {
		fmt.Fprintf(w, "  approvals of %s: %d (%s) %s\n", strings.Join(p.Groups, ", "), p.Count, p.Name, printable(p.Instructions))
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
	if r.Reason != "" {
		fmt.Fprintf(w, "  reason    %s\n", printable(r.Reason))
	}
	if r.Ticket != "" {
		fmt.Fprintf(w, "  ticket    %s\n", printable(r.Ticket))
	}
	fmt.Fprintf(w, "  allows    %s\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Actions), " ", ", "), "[]"))
	for _, o := range r.Opens {
		fmt.Fprintf(w, "  opens     %s (%s)\n", o.Provisioner, o.Kind)
	}
	if r.End == nil {
		fmt.Fprintf(w, "  waits     until %s\n", r.Deadline)
	}
	for _, v := range r.Approvals {
		fmt.Fprintf(w, "  approved  by %s at %s %s\n", v.User, v.At, printable(v.Comment))
	}
	printDecision(w, r.Verdict, 1)
}

func (a *app) decideRequestCommand(approve bool) *cobra.Command {
	var comment, digest string
	verb, short, done := "approve", "Approve somebody else's request", "Approved."
	if !approve {
		verb, short, done = "deny", "Deny somebody else's request; it ends", "Denied."
	}
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  lockkeeper requests " + verb + " r-… --comment 'seen the incident'",
		Long: "The verdict is on exactly the request that is shown: give its digest with --digest if you saw it before."}
	c.Flags().StringVar(&comment, "comment", "", "why")
	c.Flags().StringVar(&digest, "digest", "", "digest of the request that you saw; default: the one shown now")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, r, err := a.oneRequest(c, args[0])
		if err != nil {
			return err
		}
		vote := api.Vote{Digest: r.Digest, Comment: comment}
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
	fmt.Fprintf(w, "%s has activated %s at %s until %s.\nEnd it sooner: lockkeeper activations end %s\n", x.User, x.Role, x.Scope, x.Ends, x.ID)
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
					fmt.Fprintf(w, "%s  %-12s %s at %s until %s  %s\n", x.ID, x.User, x.Role, x.Scope, x.Ends, printable(strconv.Quote(x.Reason)))
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
	return withCommands(&cobra.Command{Use: "activations", Short: "What is active now, what it opens, and ending it"}, list, end, a.credentialCommand(), a.sshCommand())
}
