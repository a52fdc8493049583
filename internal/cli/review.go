package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) breakGlassCommand() *cobra.Command {
	var in api.BreakGlass
	var scope string
	var length time.Duration
	c := &cobra.Command{Use: "break-glass ROLE --scope SCOPE --reason WHY", Short: "Activate a role at once, without approval, and owe a review for it", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper break-glass operator --scope /projects/payments --reason 'production is down, nobody answers'",
		Long: `Where every rule for the role lets the glass be broken, the role is yours at once, for a
short time. Everybody whom it concerns is told before it holds; the budget of the quarter
has one less; and a review opens, which persons who took no part close. Until then nobody
breaks the glass for this role again.`}
	c.Flags().StringVar(&scope, "scope", "/", "where")
	c.Flags().DurationVar(&length, "for", time.Hour, "how long")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		if length%time.Second != 0 {
			return lockkeeper.Invalid.Errorf("duration_malformed", "An activation lasts whole seconds, and %s is not.", length).WithNext("Ask for --for 1h.")
		}
		in.Role, in.Scope, in.Seconds = args[0], lockkeeper.Scope(scope), int64(length/time.Second)
		client, err := a.person()
		if err != nil {
			return err
		}
		var active api.Activation
		if err := client.Call(c.Context(), "POST", "/break-glass", in, &active, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(active, func(w io.Writer) {
			printActivation(w, active)
			fmt.Fprintf(w, "Everybody whom it concerns was told. The review is %s.\n", active.BreakGlass)
		})
	}
	return c
}

// glassMark marks what rests on broken glass.
func glassMark(review string) string {
	if review == "" {
		return ""
	}
	return " [by breaking the glass: " + review + "]"
}

func (a *app) noticesCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List what you were told and have not acknowledged", Args: cobra.NoArgs, Example: "  lockkeeper notices list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Notices
			if err := client.Call(c.Context(), "GET", "/notices", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, n := range out.Notices {
					fmt.Fprintf(w, "%s  %s  %-11s %s\n", n.ID, n.At, n.About, printable(n.Text))
				}
				if len(out.Notices) == 0 {
					fmt.Fprintln(w, "There is nothing that you have not acknowledged.")
				}
			})
		}}
	seen := &cobra.Command{Use: "acknowledge ID…", Short: "Take notices off your list", Args: cobra.MinimumNArgs(1), Example: "  lockkeeper notices acknowledge n-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			for _, id := range args {
				if err := client.Call(c.Context(), "POST", "/notices/"+pathEscape(id)+"/acknowledge", nil, nil); err != nil {
					return err
				}
			}
			return a.print(map[string]any{"acknowledged": args}, func(w io.Writer) { fmt.Fprintln(w, "Acknowledged.") })
		}}
	return withCommands(&cobra.Command{Use: "notices", Short: "What you were told: list, acknowledge"}, list, seen)
}

func (a *app) reviewsCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the open reviews that concern you", Args: cobra.NoArgs, Example: "  lockkeeper reviews list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Reviews
			if err := client.Call(c.Context(), "GET", "/reviews", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, r := range out.Reviews {
					fmt.Fprintf(w, "%s  %-12s %s %s at %s, %s\n", r.ID, r.User, r.About, r.Role, r.Scope, dueText(r))
				}
				if len(out.Reviews) == 0 {
					fmt.Fprintln(w, "No review is open that concerns you.")
				}
			})
		}}
	show := &cobra.Command{Use: "show ID", Short: "Show a review: what was done, why, and who is asked", Args: cobra.ExactArgs(1), Example: "  lockkeeper reviews show v-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var r api.Review
			if err := client.Call(c.Context(), "GET", "/reviews/"+pathEscape(args[0]), nil, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { printReview(w, r) })
		}}
	return withCommands(&cobra.Command{Use: "reviews", Short: "Reviews of what nobody approved: list, show, close"}, list, show, a.closeReviewCommand())
}

func (a *app) closeReviewCommand() *cobra.Command {
	var in api.CloseReview
	c := &cobra.Command{Use: "close ID --finding WHAT", Short: "Say what you found; the last of those who are asked closes the review", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper reviews close v-… --finding 'the journal shows one deployment, which mended the outage'\n  lockkeeper reviews close v-… --unjustified --finding 'two approvers were there'"}
	c.Flags().StringVar(&in.Finding, "finding", "", "what you found")
	c.Flags().BoolVar(&in.Unjustified, "unjustified", false, "it should not have been done")
	c.MarkFlagRequired("finding")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.ReviewOutcome
		if err := client.Call(c.Context(), "POST", "/reviews/"+pathEscape(args[0])+"/close", in, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			if out.Closed {
				fmt.Fprintln(w, "Closed.")
			} else {
				fmt.Fprintln(w, "Recorded; more persons are asked.")
			}
		})
	}
	return c
}

func dueText(r api.Review) string {
	switch {
	case !r.Closed.IsZero():
		return "closed at " + r.Closed.String()
	case r.Overdue:
		return "OVERDUE since " + r.Due.String()
	}
	return "due at " + r.Due.String()
}

func printReview(w io.Writer, r api.Review) {
	fmt.Fprintf(w, "%s: %s, by %s at %s, %s\n  reason     %s\n", r.ID, r.About, r.User, r.Opened, dueText(r), printable(r.Reason))
	if r.Role != "" {
		fmt.Fprintf(w, "  held       %s at %s (%s)\n", r.Role, r.Scope, r.Activation)
	}
	if r.Override != "" {
		fmt.Fprintf(w, "  waived     %s of %s, at %s\n", r.Override, r.Deployment, r.Scope)
	}
	for _, d := range r.Demands {
		who := "who may read the journal"
		if len(d.Groups) > 0 {
			who = strings.Join(d.Groups, ", ")
		}
		fmt.Fprintf(w, "  asks       %d of %s\n", d.Count, who)
	}
	for _, f := range r.Findings {
		verdict := "justified"
		if f.Unjustified {
			verdict = "NOT justified"
		}
		fmt.Fprintf(w, "  found      by %s at %s, %s: %s\n", f.User, f.At, verdict, printable(f.Text))
	}
	if r.Closed.IsZero() {
		fmt.Fprintf(w, "  can review %s\n", strings.Join(r.Reviewers, ", "))
	}
	if r.Activation != "" {
		fmt.Fprintf(w, "See what was done: lockkeeper journal show --subject user/%s\n", r.User)
	}
}
