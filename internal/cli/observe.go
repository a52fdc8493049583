package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) observeCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "observe", Short: "What checks in shadow, and environments that observe, would have stopped"}, a.observeReportCommand())
}

func (a *app) observeReportCommand() *cobra.Command {
	var since, project, environment string
	c := &cobra.Command{Use: "report", Short: "The deployments that went through and would have been stopped, and by what", Args: cobra.NoArgs,
		Example: "  lockkeeper observe report --since 30d\n  lockkeeper observe report --since 7d --project payments --environment production --output json",
		Long: `Counts, for every environment that you may read, the deployments that were let through since
then, and those of them that something judged and not enforced would have stopped: a check in
shadow (shadow: true), or anything of an environment that observes (mode: observe).`}
	c.Flags().StringVar(&since, "since", "30d", "how far back: 30d, 12h, or an instant")
	c.Flags().StringVar(&project, "project", "", "only this project")
	c.Flags().StringVar(&environment, "environment", "", "only this environment of the project")
	c.RunE = func(c *cobra.Command, _ []string) error {
		from, err := instantBefore(since, time.Now())
		if err != nil {
			return err
		}
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Observations
		q := url.Values{"since": {from.String()}, "project": {project}, "environment": {environment}}
		if err := client.Call(c.Context(), "GET", "/observations?"+q.Encode(), nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) { printObservations(w, out) })
	}
	return c
}

func printObservations(w io.Writer, out api.Observations) {
	for _, e := range out.Environments {
		fmt.Fprintf(w, "%s/%s (%s): of %d deployments, %d would have stopped.\n", e.Project, e.Environment, e.Mode, e.Deployments, e.Stopped)
		for _, c := range e.By {
			fmt.Fprintf(w, "  %s: would have waited %d times, refused %d times; such as %s\n    %s\n", printable(c.Subject), c.Waits, c.Refuses, strings.Join(c.Examples, ", "), printable(c.Sentence))
		}
	}
	if len(out.Environments) == 0 {
		fmt.Fprintf(w, "Nothing was let through since %s.\n", out.Since)
	}
	if out.Left {
		fmt.Fprintln(w, "There were more deployments than are looked at; ask for a shorter time, or one environment.")
	}
}
