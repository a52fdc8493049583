package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) voteCommand(approve bool) *cobra.Command {
	var comment, digest string
	verb, short := "approve", "Approve a deployment, as a person"
	if !approve {
		verb, short = "reject", "Reject a deployment; it ends"
	}
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  lockkeeper " + verb + " d-… --comment 'looked at the change'",
		Long: "The vote is for exactly the ask that is shown: give its digest with --digest if you saw it before."}
	c.Flags().StringVar(&comment, "comment", "", "why")
	var answers []string
	if approve {
		c.Flags().StringArrayVar(&answers, "answer", nil, "answer to an item of the checklist: ITEM=yes|no[:COMMENT]; may be repeated")
		c.Long += checklistHelp
		c.Example += "\n  lockkeeper approve d-… --answer data=yes --answer logs='yes:only ids are logged'"
	}
	c.Flags().StringVar(&digest, "digest", "", "digest of the ask that you saw; default: the one shown now")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		at, err := client.Deployment(c.Context(), args[0], "", 0)
		if err != nil {
			return err
		}
		vote := api.Vote{Digest: at.Digest, Comment: comment}
		if digest != "" {
			vote.Digest = lockkeeper.Digest(digest)
		}
		if vote.Answers, err = answersOf(answers, at.Checklist); err != nil {
			return err
		}
		if a.output == "text" {
			printAsk(a.err, at)
		}
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/"+verb, vote, &at); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) {
			if !approve {
				fmt.Fprintf(w, "Rejected. %s has ended.\n", at.ID)
				return
			}
			fmt.Fprintln(w, "Approved.")
			if at.Gate != nil {
				fmt.Fprintln(w, waitingLine(*at.Gate))
			}
		})
	}
	return c
}

func (a *app) deploymentsCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "deployments", Short: "List, show, watch and cancel deployments"},
		a.listCommand(), a.showCommand(), a.watchCommand(), a.cancelCommand(), a.revokeCommand())
}

func (a *app) listCommand() *cobra.Command {
	var project, environment string
	var alive bool
	var limit int
	c := &cobra.Command{Use: "list", Short: "List deployments, newest first", Args: cobra.NoArgs, Example: "  lockkeeper deployments list --project payments --alive"}
	c.Flags().StringVar(&project, "project", "", "only of this project")
	c.Flags().StringVar(&environment, "environment", "", "only to this environment")
	c.Flags().BoolVar(&alive, "alive", false, "only those that have not ended")
	c.Flags().IntVar(&limit, "limit", 50, "how many at most")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}, "alive": {strconv.FormatBool(alive)}, "project": {project}, "environment": {environment}}
		var list api.Deployments
		if err := client.Call(c.Context(), "GET", "/deployments?"+q.Encode(), nil, &list); err != nil {
			return err
		}
		return a.print(list, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tSTATUS\tTO\tFROM\tCOMMIT\tOPENED")
			for _, d := range list.Deployments {
				fmt.Fprintf(t, "%s\t%s\t%s/%s\t%s/%s\t%.10s\t%s\n", d.ID, d.Status, d.Ask.Project, d.Ask.Environment, d.Ask.Pipeline, d.Ask.Stage, d.Ask.Commit, d.Opened)
			}
			t.Flush()
		})
	}
	return c
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one deployment and how its gate stands", Args: cobra.ExactArgs(1), Example: "  lockkeeper deployments show d-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			at, err := client.Deployment(c.Context(), args[0], "", 0)
			if err != nil {
				return err
			}
			return a.print(at, func(w io.Writer) { printDeployment(w, at) })
		}}
}

func (a *app) watchCommand() *cobra.Command {
	return &cobra.Command{Use: "watch ID", Short: "Follow one deployment until it ends", Args: cobra.ExactArgs(1), Example: "  lockkeeper deployments watch d-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			for seen := ""; ; {
				at, err := client.Deployment(c.Context(), args[0], seen, 30*time.Second)
				if err != nil {
					return err
				}
				if at.Seen != seen {
					if a.output == "json" {
						err = a.json(at)
					} else {
						fmt.Fprintf(a.out, "%s %s\n", lockkeeper.MomentOf(time.Now()), statusLine(at))
					}
				}
				if at.End != nil || err != nil {
					return err
				}
				seen = at.Seen
			}
		}}
}

func statusLine(d api.Deployment) string {
	line := d.ID + " is " + strings.ReplaceAll(d.Status, "_", " ")
	if d.Status == "waiting" && d.Gate != nil {
		line += "; " + waitingLine(*d.Gate)
		if d.Queue != nil {
			line += " " + queueText(*d.Queue)
		}
	}
	return line
}

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "cancel ID", Short: "End a deployment and its lease", Args: cobra.ExactArgs(1), Example: "  lockkeeper deployments cancel d-… --reason 'wrong build'"}
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var at api.Deployment
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/cancel", api.Cancel{Reason: reason}, &at); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) { printEnd(w, at) })
	}
	return c
}

func (a *app) revokeCommand() *cobra.Command {
	var in api.Revoke
	c := &cobra.Command{Use: "revoke ID --reason WHY", Short: "Take the lease of a running deployment away", Args: cobra.ExactArgs(1), Example: "  lockkeeper deployments revoke d-… --reason 'the runner is compromised'",
		Long: "No token is handed out from then on. Tokens that are out cannot be called back; the answer says until when a target that\nonly looks at their expiry may take them."}
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.MarkFlagRequired("reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var at api.Deployment
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/revoke", in, &at); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) { printEnd(w, at) })
	}
	return c
}

func (a *app) withdrawCommand() *cobra.Command {
	var in api.Withdraw
	c := &cobra.Command{Use: "withdraw ID", Short: "Take one's approval of a deployment back", Args: cobra.ExactArgs(1), Example: "  lockkeeper withdraw d-… --comment 'the migration is wrong'",
		Long: "It works until the deployment has ended. One that runs already, and does not stand without the approval, loses its lease."}
	c.Flags().StringVar(&in.Comment, "comment", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var at api.Deployment
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/withdraw", in, &at); err != nil {
			return err
		}
		return a.print(at, func(w io.Writer) {
			fmt.Fprintln(w, "Withdrawn.")
			printEnd(w, at)
		})
	}
	return c
}

func printAsk(w io.Writer, d api.Deployment) {
	a := d.Ask
	fmt.Fprintf(w, "%s asks to %s to %s of %s\n", d.ID, a.Action, a.Environment, a.Project)
	fmt.Fprintf(w, "  from      %s/%s, run %s attempt %d\n", a.Pipeline, a.Stage, a.Run, a.Attempt)
	fmt.Fprintf(w, "  commit    %s (%s)\n", a.Commit, printable(a.Ref))
	for _, x := range a.Artifacts {
		fmt.Fprintf(w, "  artifact  %s %s\n", x.Name, x.Digest)
	}
	for _, k := range slices.Sorted(maps.Keys(a.Parameters)) {
		fmt.Fprintf(w, "  parameter %s=%s\n", k, printable(a.Parameters[k]))
	}
	if a.Detached {
		fmt.Fprintln(w, "  detached  a later job of the stage runs it")
	}
	for _, i := range d.Initiators {
		fmt.Fprintf(w, "  started   by %s (account %s)\n", printable(i.Name), i.Account)
	}
	printPlans(w, d.Plans)
	for _, q := range d.Checklist {
		fmt.Fprintf(w, "  asks      %s: %s\n", q.Item, printable(q.Ask))
	}
	fmt.Fprintf(w, "  digest    %s\n", d.Digest)
}

func printDeployment(w io.Writer, d api.Deployment) {
	printAsk(w, d)
	fmt.Fprintf(w, "  status    %s, asked at %s\n", strings.ReplaceAll(cmp.Or(d.Phase, d.Status), "_", " "), d.Opened)
	for _, v := range d.Approvals {
		fmt.Fprintf(w, "  approved  by %s at %s %s\n", v.User, v.At, printable(v.Comment)+glassMark(v.BreakGlass)+carriedMark(v.From))
		printAnswers(w, v.Answers)
	}
	for _, o := range d.Delegations {
		fmt.Fprintf(w, "  delegated by %s to %s at %s %s\n", o.From, o.To, o.At, printable(o.Comment))
	}
	if d.Queue != nil {
		fmt.Fprintf(w, "  queue     %s\n", queueText(*d.Queue))
	}
	if d.Lease != nil {
		fmt.Fprintf(w, "  lease     %s until %s, %d tokens\n", d.Lease.Identity, d.Lease.Ends, d.Lease.Tokens)
	}
	if d.Gate != nil {
		printDecision(w, *d.Gate, 1)
	}
	if d.End != nil {
		printEnd(w, d)
	}
}

// carriedMark says that a vote was given for another deployment.
func carriedMark(from string) string {
	if from == "" {
		return ""
	}
	return " (carried from " + printable(from) + ")"
}

// queueText says the place in the queue and, as an estimate, when its turn comes.
func queueText(q api.Queue) string {
	text := fmt.Sprintf("place %d", q.Place)
	if q.Of == 0 {
		return text + "; nothing says for how long those before it run"
	}
	return text + fmt.Sprintf("; about %s (an estimate: half of the last %d leases took %s or less)", q.Start, q.Of, time.Duration(q.Took*float64(time.Second)).Round(time.Second))
}

// printEnd says how it ended, and what may still be alive outside.
func printEnd(w io.Writer, d api.Deployment) {
	if d.End == nil {
		return
	}
	fmt.Fprintf(w, "%s ended at %s: %s. %s\n", d.ID, d.End.At, strings.ReplaceAll(d.Status, "_", " "), printable(d.End.Reason))
	if d.End.Crossed != "" {
		fmt.Fprintln(w, printable(d.End.Crossed))
	}
	if d.End.TokensOutside == 0 {
		fmt.Fprintln(w, "Nothing of it is alive outside: no token that was handed out is valid any more.")
		return
	}
	fmt.Fprintf(w, "Still alive outside: up to %d tokens, the last until %s. No new one is handed out.\n", d.End.TokensOutside, d.End.OutsideTill)
}
