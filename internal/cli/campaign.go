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

func (a *app) campaignsCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "campaigns", Short: "Reviews of who holds what: open, list, show, decide, close"},
		a.openCampaignCommand(), a.listCampaignsCommand(), a.showCampaignCommand(), a.decideCampaignCommand(), a.closeCampaignCommand())
}

func (a *app) openCampaignCommand() *cobra.Command {
	var in api.OpenCampaign
	var scope, until string
	var length time.Duration
	c := &cobra.Command{Use: "open --scope SCOPE --reviewers GROUP… --undecided keep|remove", Short: "Ask reviewers whether what others hold at a scope and below is still needed", Args: cobra.NoArgs,
		Example: "  lockkeeper campaigns open --scope /projects/payments --reviewers leads --for 336h --undecided remove --title 'autumn 2026'\n  lockkeeper campaigns open --scope / --reviewers owners,security --until 2026-12-24T12:00:00Z --undecided keep",
		Long: `The assignments are those of now. Nobody decides about what gives something to himself.
At the deadline what was not to stay goes, by a revision of the catalog that names the
campaign; an assignment that reads differently by then stays, and so does the last
administrator. Denies are not reviewed: to remove one gives rights.

It takes access/write at the scope and access/escalate at /, as removing an assignment
does.`}
	c.Flags().StringVar(&scope, "scope", "", "where, and below")
	c.Flags().StringSliceVar(&in.Reviewers, "reviewers", nil, "groups whose members decide, as GROUP or group:GROUP")
	c.Flags().StringVar(&until, "until", "", "the deadline, such as 2026-12-24T12:00:00Z; default: now and --for")
	c.Flags().DurationVar(&length, "for", 14*24*time.Hour, "how long the reviewers have")
	c.Flags().StringVar(&in.Undecided, "undecided", "", "what becomes of what nobody decides: keep or remove")
	c.Flags().StringVar(&in.Title, "title", "", "what it is called")
	for _, f := range []string{"scope", "reviewers", "undecided"} {
		c.MarkFlagRequired(f)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		in.Scope, in.Until = lockkeeper.Scope(scope), lockkeeper.MomentOf(time.Now().Add(length))
		if until != "" {
			if err := in.Until.UnmarshalText([]byte(until)); err != nil {
				return lockkeeper.Invalid.Errorf("moment_malformed", "%.40q is no instant.", until).WithNext("Write it as 2026-12-24T12:00:00Z.")
			}
		}
		for i, g := range in.Reviewers {
			in.Reviewers[i] = strings.TrimPrefix(g, "group:")
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Campaign
		if err := client.Call(c.Context(), "POST", "/campaigns", in, &out, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) { printCampaign(w, out) })
	}
	return c
}

func (a *app) listCampaignsCommand() *cobra.Command {
	var ended bool
	c := &cobra.Command{Use: "list", Short: "List the campaigns that you may see", Args: cobra.NoArgs, Example: "  lockkeeper campaigns list --ended"}
	c.Flags().BoolVar(&ended, "ended", false, "those that have ended, too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Campaigns
		if err := client.Call(c.Context(), "GET", fmt.Sprintf("/campaigns?ended=%t", ended), nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, x := range out.Campaigns {
				fmt.Fprintln(w, campaignLine(x))
			}
			if len(out.Campaigns) == 0 {
				fmt.Fprintln(w, "None.")
			}
		})
	}
	return c
}

func campaignLine(x api.Campaign) string {
	open, goes := 0, 0
	for _, i := range x.Items {
		if i.Verdict == "" {
			open++
		}
		if i.Removed {
			goes++
		}
	}
	line := fmt.Sprintf("%s  %s  %d assignments at %s, %d of them go", x.ID, printable(x.Title), len(x.Items), x.Scope, goes)
	if x.End != nil {
		return line + fmt.Sprintf("; %s at %s", x.End.Status, x.End.At)
	}
	return line + fmt.Sprintf("; %d undecided, until %s", open, x.Deadline)
}

func (a *app) showCampaignCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "show ID", Short: "Show a campaign: what it looks at, when it was last used, and how it stands or ended", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper campaigns show c-…\n  lockkeeper campaigns show c-… --write governance/   # once it has ended: takes out of the documents what went",
		Long:    "What a campaign removed is gone from the catalog in force, and stands in your documents still: applying those\nwould bring it back, which plan calls weaker. --write takes it out of them."}
	c.Flags().StringVar(&dir, "write", "", "take what went out of the governance documents of this folder")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Campaign
		if err := client.Call(c.Context(), "GET", "/campaigns/"+pathEscape(args[0]), nil, &out); err != nil {
			return err
		}
		if dir == "" {
			return a.print(out, func(w io.Writer) { printCampaign(w, out) })
		}
		if out.End == nil {
			return lockkeeper.Conflict.Errorf("campaign_open", "The campaign %s has not ended; nothing has gone yet.", out.ID).WithNext("Wait until %s.", out.Deadline)
		}
		var edits []api.Edit
		for _, i := range out.Items {
			if i.Removed {
				edits = append(edits, api.Edit{Kind: "Assignment", Name: i.Assignment, Was: i.Digest, Remove: true})
			}
		}
		done, err := a.rewrite(dir, edits)
		if err != nil {
			return err
		}
		return a.print(map[string]any{"campaign": out, "written": done.Files, "left": done.Left}, func(w io.Writer) {
			printCampaign(w, out)
			done.print(w, dir)
		})
	}
	return c
}

func printCampaign(w io.Writer, x api.Campaign) {
	fmt.Fprintf(w, "%s\n  opened by %s at %s; %s decide; what nobody decides: %s\n", campaignLine(x), x.OpenedBy, x.Opened, strings.Join(x.Reviewers, ", "), x.Undecided)
	for _, i := range x.Items {
		sign := "keep  "
		if i.Removed {
			sign = "remove"
		}
		fmt.Fprintf(w, "  %s  %-24s %s → %s at %s", sign, i.Assignment, i.Principal, i.Role, i.Scope)
		if i.Eligible {
			fmt.Fprint(w, ", eligible")
		}
		if i.Last.IsZero() {
			fmt.Fprint(w, "; no use known")
		} else {
			fmt.Fprintf(w, "; last used %s, %d times", i.Last, i.Count)
		}
		fmt.Fprintf(w, " [%s]", i.Why)
		if i.User != "" {
			fmt.Fprintf(w, " by %s: %s", i.User, printable(i.Reason))
		}
		if i.Alone && i.Verdict == "" && x.End == nil {
			fmt.Fprint(w, "  ! no reviewer may decide it: it is everybody's own")
		}
		fmt.Fprintln(w)
	}
	if x.Denies > 0 {
		fmt.Fprintf(w, "  %d denies lie there and are not reviewed.\n", x.Denies)
	}
}

func (a *app) decideCampaignCommand() *cobra.Command {
	var in api.DecideCampaign
	c := &cobra.Command{Use: "decide ID", Short: "Keep and remove assignments, as a reviewer", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper campaigns decide c-… --keep on-call,leads --remove old-project --reason 'the project is over'"}
	c.Flags().StringSliceVar(&in.Keep, "keep", nil, "assignments that stay")
	c.Flags().StringSliceVar(&in.Remove, "remove", nil, "assignments that go")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/campaigns/"+pathEscape(args[0])+"/decide", in, nil); err != nil {
			return err
		}
		return a.print(map[string]any{"id": args[0], "keep": in.Keep, "remove": in.Remove}, func(w io.Writer) {
			fmt.Fprintf(w, "Decided: %d stay, %d go.\n", len(in.Keep), len(in.Remove))
		})
	}
	return c
}

func (a *app) closeCampaignCommand() *cobra.Command {
	var in api.CloseCampaign
	c := &cobra.Command{Use: "close ID", Short: "End a campaign now: what is not to stay goes; or throw it away", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper campaigns close c-… --reason 'all are decided'\n  lockkeeper campaigns close c-… --discard --reason 'opened by mistake'"}
	c.Flags().BoolVar(&in.Discard, "discard", false, "do nothing of what was decided")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/campaigns/"+pathEscape(args[0])+"/close", in, nil); err != nil {
			return err
		}
		return a.print(map[string]any{"id": args[0], "discarded": in.Discard}, func(w io.Writer) {
			if in.Discard {
				fmt.Fprintln(w, "Discarded.")
			} else {
				fmt.Fprintln(w, "Closed. What is not to stay goes within seconds: lockkeeper campaigns show", args[0])
			}
		})
	}
	return c
}
