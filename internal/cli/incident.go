package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/spf13/cobra"
)

func (a *app) incidentCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "incident", Short: "Incidents: open, list, show, extend, close"},
		a.openIncidentCommand(), a.listIncidentsCommand(), a.showIncidentCommand(), a.extendIncidentCommand(), a.closeIncidentCommand())
}

// stopFlags are what an incident stops.
func stopFlags(c *cobra.Command, freeze, quarantine *[]string) {
	c.Flags().StringArrayVar(freeze, "freeze", nil, "scope in which nothing is deployed; as often as needed")
	c.Flags().StringArrayVar(quarantine, "quarantine", nil, "user:NAME, pipeline:PROJECT/NAME, identity:PROJECT/NAME or provider:NAME; as often as needed")
}

func scopesOf(list []string) []lockkeeper.Scope {
	var out []lockkeeper.Scope
	for _, s := range list {
		out = append(out, lockkeeper.Scope(s))
	}
	return out
}

func (a *app) openIncidentCommand() *cobra.Command {
	var in api.OpenIncident
	var freeze, quarantine []string
	c := &cobra.Command{Use: "open --title TITLE", Short: "Declare an incident: freeze scopes and quarantine principals, at once", Args: cobra.NoArgs,
		Example: "  lockkeeper incident open --title 'a deploy key leaked' --freeze /projects/payments --quarantine user:bob\n  lockkeeper incident open --title 'strange runs' --mode best-effort --quarantine pipeline:payments/release",
		Long: `From one entry of the journal on, nothing is deployed to what is frozen, and what is
quarantined obtains nothing: a person has no session, no activation and no vote any more
and cannot sign in; a pipeline, an identity or a CI platform opens no deployment and gets
no token. Under the mode strict, leases are taken from what runs at once; under
best-effort, what runs goes on to its end and nothing new starts.

The answer says what may still be alive outside, and until when: tokens that were handed
out cannot be called back from a target that looks at their expiry only. Another person
closes the incident, and no catalog can loosen it while it is open.`}
	c.Flags().StringVar(&in.Title, "title", "", "what happened")
	c.Flags().StringVar(&in.Mode, "mode", "strict", "strict or best-effort")
	stopFlags(c, &freeze, &quarantine)
	c.MarkFlagRequired("title")
	c.RunE = func(c *cobra.Command, _ []string) error {
		in.Freeze, in.Quarantine = scopesOf(freeze), quarantine
		client, err := a.person()
		if err != nil {
			return err
		}
		var cut api.IncidentCut
		if err := client.Call(c.Context(), "POST", "/incidents", in, &cut, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(cut, func(w io.Writer) {
			fmt.Fprintf(w, "%s is open.\n", cut.ID)
			printCut(w, cut)
			fmt.Fprintf(w, "Another person closes it: lockkeeper incident close %s --finding WHAT\n", cut.ID)
		})
	}
	return c
}

func printCut(w io.Writer, cut api.IncidentCut) {
	for _, l := range []struct {
		what string
		list []string
	}{{"leases revoked", cut.Revoked}, {"asks ended", cut.Ended}, {"activations ended", cut.Activations}, {"requests closed", cut.Requests}, {"approvals void on", cut.Voided}} {
		if len(l.list) > 0 {
			fmt.Fprintf(w, "  %-18s %d: %s\n", l.what, len(l.list), strings.Join(l.list[:min(len(l.list), 10)], ", "))
		}
	}
	if cut.Sessions > 0 {
		fmt.Fprintf(w, "  %-18s %d\n", "sessions ended", cut.Sessions)
	}
	printOutside(w, cut.Outside, cut.OutsideTill)
}

func printOutside(w io.Writer, list []api.IncidentOutside, till lockkeeper.Moment) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Nothing of it is alive outside, as far as the journal knows.")
		return
	}
	fmt.Fprintf(w, "May still be alive outside, until %s at most:\n", till)
	for _, r := range list[:min(len(list), 20)] {
		what := fmt.Sprintf("%d tokens", r.Tokens)
		if r.Running {
			what = "it runs on, with its tokens,"
		}
		if r.Provisioner != "" {
			fmt.Fprintf(w, "  %s  credentials of %s until %s\n", r.User, r.Provisioner, r.Till)
			continue
		}
		fmt.Fprintf(w, "  %s  %s/%s as %s: %s until %s\n", cmp.Or(r.Deployment, r.User), r.Project, r.Environment, r.Identity, what, r.Till)
	}
	if more := len(list) - 20; more > 0 {
		fmt.Fprintf(w, "  and %d more, which end sooner\n", more)
	}
}

func (a *app) listIncidentsCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the open incidents", Args: cobra.NoArgs, Example: "  lockkeeper incident list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Incidents
			if err := client.Call(c.Context(), "GET", "/incidents", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, i := range out.Incidents {
					fmt.Fprintf(w, "%s  %-11s by %s at %s: %s\n", i.ID, i.Mode, i.By, i.Opened, printable(i.Title))
				}
				if len(out.Incidents) == 0 {
					fmt.Fprintln(w, "No incident is open that you may see.")
				}
			})
		}}
}

func (a *app) showIncidentCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show an incident: what it stops, what is alive outside, who could close it", Args: cobra.ExactArgs(1), Example: "  lockkeeper incident show i-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var i api.Incident
			if err := client.Call(c.Context(), "GET", "/incidents/"+pathEscape(args[0]), nil, &i); err != nil {
				return err
			}
			return a.print(i, func(w io.Writer) { printIncident(w, i) })
		}}
}

func printIncident(w io.Writer, i api.Incident) {
	fmt.Fprintf(w, "%s: %s\n  opened       by %s at %s, %s\n", i.ID, printable(i.Title), i.By, i.Opened, i.Mode)
	for _, s := range i.Freeze {
		fmt.Fprintf(w, "  freezes      %s\n", s)
	}
	for _, q := range i.Quarantine {
		fmt.Fprintf(w, "  quarantines  %s\n", q)
	}
	if i.Closed != nil {
		who := i.Closed.User
		if who == "" {
			who = "whoever runs the server's machine"
		}
		fmt.Fprintf(w, "  closed       by %s at %s: %s\n", who, i.Closed.At, printable(i.Closed.Finding))
		return
	}
	closers := strings.Join(i.Closers, ", ")
	if closers == "" {
		closers = "nobody but whoever runs the server's machine: lockkeeper recover incident " + i.ID
	}
	fmt.Fprintf(w, "  can close    %s\n", closers)
	printOutside(w, i.Outside, i.OutsideTill)
}

func (a *app) extendIncidentCommand() *cobra.Command {
	var in api.ExtendIncident
	var freeze, quarantine []string
	c := &cobra.Command{Use: "extend ID", Short: "Add to an open incident, or make it strict", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper incident extend i-… --quarantine identity:payments/payments-production\n  lockkeeper incident extend i-… --strict"}
	c.Flags().BoolVar(&in.Strict, "strict", false, "make it strict: the leases of what runs are taken")
	c.Flags().StringVar(&in.Comment, "comment", "", "why")
	stopFlags(c, &freeze, &quarantine)
	c.RunE = func(c *cobra.Command, args []string) error {
		in.Freeze, in.Quarantine = scopesOf(freeze), quarantine
		client, err := a.person()
		if err != nil {
			return err
		}
		var cut api.IncidentCut
		if err := client.Call(c.Context(), "POST", "/incidents/"+pathEscape(args[0])+"/extend", in, &cut); err != nil {
			return err
		}
		return a.print(cut, func(w io.Writer) {
			fmt.Fprintln(w, "Extended.")
			printCut(w, cut)
		})
	}
	return c
}

func (a *app) closeIncidentCommand() *cobra.Command {
	var in api.CloseIncident
	c := &cobra.Command{Use: "close ID --finding WHAT", Short: "Close an incident that another person opened", Args: cobra.ExactArgs(1), Example: "  lockkeeper incident close i-… --finding 'the key is replaced; two deployments were looked at'",
		Long: "What the incident ended stays ended: whoever was quarantined signs in again, and everything is asked for anew."}
	c.Flags().StringVar(&in.Finding, "finding", "", "what was found and mended")
	c.MarkFlagRequired("finding")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/incidents/"+pathEscape(args[0])+"/close", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Closed.") })
	}
	return c
}

// recoverIncidentCommand is for whoever runs the machine, where there is no second
// person.
func (a *app) recoverIncidentCommand() *cobra.Command {
	var data, outside, finding string
	c := &cobra.Command{Use: "incident ID --finding WHAT", Short: "Close an incident from the server's machine, where nobody else could", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper recover incident i-… --data ./data --finding 'a false alarm; I am alone here'",
		Long:    "No server may use the folder meanwhile. The journal says that the machine's owner did it, and not which user."}
	c.Flags().StringVar(&data, "data", "lockkeeper-data", "data folder; no server may use it")
	c.Flags().StringVar(&outside, "checkpoint", "", "file that the server keeps its last checkpoint in; default: checkpoint in the data folder")
	c.Flags().StringVar(&finding, "finding", "", "what was found and mended; it stands in the journal")
	c.MarkFlagRequired("finding")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := keeper.CloseIncidentHere(c.Context(), keeper.Options{Dir: data, Outside: outside}, args[0], finding); err != nil {
			return brokenError(err)
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Closed. Start the server.") })
	}
	return c
}
