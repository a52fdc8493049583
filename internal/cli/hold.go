package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/web"
	"github.com/spf13/cobra"
)

// hold lets a worker read the runs that platforms hold, and answer for them, while the
// server runs, and gives what ends it.
func (o serveOptions) hold(ctx context.Context, k *keeper.Keeper, options *web.Options, log *slog.Logger) (finish func()) {
	worker := effect.NewHoldWorker(k, o.systems, log)
	options.AppSecret, options.ReadHeld = worker.Secret, worker.ReadHeld
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		worker.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (a *app) holdsCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the runs that CI platforms hold before environments, and what they were told", Args: cobra.NoArgs, Example: "  lockkeeper holds list"}
	list.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Holds
		if err := client.Call(c.Context(), "GET", "/holds", nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, h := range out.Holds {
				what := "run " + h.Run
				if h.Job != "" {
					what = "job " + h.Job
				}
				fmt.Fprintf(w, "%s  %s %s %s: %s\n", h.ID, printable(h.Repository), printable(what), printable(h.Environment), h.Stands)
				for _, line := range []string{h.Deployment, h.Reason, h.Missed} {
					if line != "" {
						fmt.Fprintf(w, "  %s\n", printable(line))
					}
				}
			}
			if len(out.Holds) == 0 {
				fmt.Fprintln(w, "No platform holds a run.")
			}
		})
	}
	return withCommands(&cobra.Command{Use: "holds", Short: "Runs that CI platforms hold: list"}, list)
}
