package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) overrideCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "override", Short: "Overrides of soft checks: request, list, show, approve, deny, end"},
		a.requestOverrideCommand(), a.listOverridesCommand(), a.showOverrideCommand(), a.decideOverrideCommand(true), a.decideOverrideCommand(false), a.endOverrideCommand())
}

func (a *app) requestOverrideCommand() *cobra.Command {
	var in api.RequestOverride
	var digest string
	c := &cobra.Command{Use: "request DEPLOYMENT --waive CHECK[,CHECK] --reason WHY --incident REF", Short: "Ask to waive soft checks of one deployment that waits", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper override request d-… --waive office-hours,freeze:weekends --incident INC-4711 --reason 'the fix of the outage'",
		Long: `Only checks that the catalog calls soft can be waived, for this one ask, by persons of the
group that the environment names; nobody who stands behind the run counts, nor whoever
asks. Everybody whom it concerns is told before it counts, it ends by itself, and a review
opens that persons close who took no part.`}
	c.Flags().StringSliceVar(&in.Waives, "waive", nil, "names of checks, and freeze:NAME")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.Flags().StringVar(&in.Incident, "incident", "", "what it is for: INC-4711")
	c.Flags().StringVar(&digest, "digest", "", "of the ask that you saw; default: whatever it is")
	for _, f := range []string{"waive", "reason", "incident"} {
		c.MarkFlagRequired(f)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		in.Digest = lockkeeper.Digest(digest)
		client, err := a.person()
		if err != nil {
			return err
		}
		var o api.Override
		if err := client.Call(c.Context(), "POST", "/deployments/"+pathEscape(args[0])+"/overrides", in, &o, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(o, func(w io.Writer) {
			printOverride(w, o)
			fmt.Fprintf(w, "Approvers run: lockkeeper override approve %s\n", o.ID)
		})
	}
	return c
}

func printOverride(w io.Writer, o api.Override) {
	fmt.Fprintf(w, "%s %s: waive %s of %s to %s\n", o.ID, strings.ReplaceAll(o.Status, "_", " "), printable(strings.Join(o.Waives, ", ")), o.Deployment, o.Environment)
	fmt.Fprintf(w, "  asked     by %s at %s, for %s: %s\n", o.User, o.Opened, printable(o.Incident), printable(o.Reason))
	for _, v := range o.Approvals {
		fmt.Fprintf(w, "  approved  by %s at %s %s\n", v.User, v.At, printable(v.Comment)+glassMark(v.BreakGlass))
	}
	switch {
	case o.Status == "waiting":
		fmt.Fprintf(w, "  waits     until %s; %d of %d are there; can approve: %s\n", o.Deadline, len(o.Approvals), o.Needed, strings.Join(o.Approvers, ", "))
	case o.Status == "granted" && !o.Counts:
		fmt.Fprintln(w, "  counts    no more: the rules or its approvers' rights have changed")
	case o.ClosedBy != "":
		fmt.Fprintf(w, "  closed    by %s\n", o.ClosedBy)
	}
	if !o.Ends.IsZero() {
		fmt.Fprintf(w, "  waives    until %s; the review is %s\n", o.Ends, o.Review)
	}
	fmt.Fprintf(w, "  digest    %s\n", o.Digest)
}

func (a *app) listOverridesCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the overrides of deployments that have not ended", Args: cobra.NoArgs, Example: "  lockkeeper override list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Overrides
			if err := client.Call(c.Context(), "GET", "/overrides", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, o := range out.Overrides {
					fmt.Fprintf(w, "%s  %-9s %s of %s, by %s: %s\n", o.ID, strings.ReplaceAll(o.Status, "_", " "), printable(strings.Join(o.Waives, ", ")), o.Deployment, o.User, printable(o.Reason))
				}
				if len(out.Overrides) == 0 {
					fmt.Fprintln(w, "No deployment that you may see has an override.")
				}
			})
		}}
}

// seenOverride fetches an override.
func (a *app) seenOverride(c *cobra.Command, id string) (o api.Override, err error) {
	client, err := a.person()
	if err == nil {
		err = client.Call(c.Context(), "GET", "/overrides/"+pathEscape(id), nil, &o)
	}
	return o, err
}

func (a *app) showOverrideCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show an override: what it waives, why, and who approved it", Args: cobra.ExactArgs(1), Example: "  lockkeeper override show o-…",
		RunE: func(c *cobra.Command, args []string) error {
			o, err := a.seenOverride(c, args[0])
			if err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) { printOverride(w, o) })
		}}
}

func (a *app) decideOverrideCommand(approve bool) *cobra.Command {
	verb, short := "deny", "Deny an override"
	if approve {
		verb, short = "approve", "Approve an override that somebody else asked for"
	}
	var in api.DecideOverride
	var digest string
	c := &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), Example: "  lockkeeper override " + verb + " o-… --comment 'seen the outage'"}
	c.Flags().StringVar(&in.Comment, "comment", "", "what you looked at")
	c.Flags().StringVar(&digest, "digest", "", "of the override that you saw; default: what it is now, which is shown")
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := a.seenOverride(c, args[0])
		if err != nil {
			return err
		}
		if in.Digest = lockkeeper.Digest(digest); digest == "" {
			in.Digest = o.Digest
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/overrides/"+pathEscape(args[0])+"/"+verb, in, &o); err != nil {
			return err
		}
		return a.print(o, func(w io.Writer) { printOverride(w, o) })
	}
	return c
}

func (a *app) endOverrideCommand() *cobra.Command {
	var in api.EndOverride
	c := &cobra.Command{Use: "end ID", Short: "Take an override back; what runs by it loses its lease", Args: cobra.ExactArgs(1), Example: "  lockkeeper override end o-… --reason 'it was another cause'"}
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/overrides/"+pathEscape(args[0])+"/end", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Ended.") })
	}
	return c
}
