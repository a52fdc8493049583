package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/spf13/cobra"
)

// A measure is what one number of clients got.
type measure struct {
	Clients int     `json:"clients"`
	Done    int     `json:"done"`
	Failed  int     `json:"failed"`
	Rate    float64 `json:"per_second"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	Error   string  `json:"first_error,omitempty"`
}

func (a *app) benchCommand() *cobra.Command {
	var seconds int
	var clients []int
	parent := &cobra.Command{Use: "bench", Short: "Measure a running server: throughput and percentiles"}
	parent.PersistentFlags().IntVar(&seconds, "seconds", 5, "how long each measure takes, at most 60")
	parent.PersistentFlags().IntSliceVar(&clients, "clients", []int{1, 8, 64}, "numbers of clients at once, each at most 256")

	var f deployFlags
	var audience string
	exchange := &cobra.Command{Use: "exchange ID --handle-file FILE", Short: "Exchange tokens under a running deployment's lease, each durable before it is answered", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper bench exchange d-… --handle-file h"}
	f.shared(exchange)
	exchange.Flags().StringVar(&audience, "audience", "", "what the tokens are for; default: the identity's first audience")
	exchange.MarkFlagRequired("handle-file")
	exchange.RunE = func(c *cobra.Command, args []string) error {
		d, err := a.oldDriver(f)
		if err != nil {
			return err
		}
		d.id = args[0]
		at, err := a.client().With(d.handle).Deployment(c.Context(), d.id, "", 0)
		if err != nil {
			return err
		}
		if at.Lease == nil || len(at.Lease.Audiences) == 0 {
			return lockkeeper.Conflict.Errorf("lease_missing", "The deployment %s is %s; it has no lease.", d.id, at.Status).WithNext("Claim it first: lockkeeper token %s --handle-file …", d.id)
		}
		if audience == "" {
			audience = at.Lease.Audiences[0]
		}
		// One token of the platform serves all: it may come again for this deployment.
		token, err := d.ci.token(c.Context())
		if err != nil {
			return err
		}
		d.ci = ciPlatform{app: a, fixed: token}
		return a.bench(c.Context(), "exchange", clients, seconds, func(ctx context.Context) error {
			_, _, err := d.exchange(ctx, audience)
			return err
		})
	}
	var user, action, scope string
	can := &cobra.Command{Use: "can", Short: "Ask whether a user may do something", Args: cobra.NoArgs, Example: "  lockkeeper bench can --user bob --action deployments/approve --scope /projects/payments"}
	can.Flags().StringVar(&user, "user", "", "user")
	can.Flags().StringVar(&action, "action", string(lockkeeper.ReadDeployments), "action")
	can.Flags().StringVar(&scope, "scope", "/", "scope")
	can.MarkFlagRequired("user")
	can.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		path := "/can?" + url.Values{"user": {user}, "action": {action}, "scope": {scope}}.Encode()
		return a.bench(c.Context(), "can", clients, seconds, func(ctx context.Context) error { return client.Call(ctx, "GET", path, nil, new(lockkeeper.Decision)) })
	}
	return withCommands(parent, exchange, can)
}

func (a *app) bench(ctx context.Context, what string, clients []int, seconds int, ask func(context.Context) error) error {
	if seconds < 1 || seconds > 60 || slices.ContainsFunc(clients, func(n int) bool { return n < 1 || n > 256 }) {
		return lockkeeper.Invalid.Errorf("usage", "Measure for 1 to 60 seconds, with 1 to 256 clients.")
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 256 // the clients keep their connections
	var out []measure
	for _, n := range clients {
		fmt.Fprintf(a.err, "%d clients…\n", n)
		out = append(out, run1(ctx, n, time.Duration(seconds)*time.Second, ask))
	}
	return a.print(map[string]any{"bench": what, "measures": out}, func(w io.Writer) {
		fmt.Fprintf(w, "%8s %10s %8s %9s %9s %9s %9s\n", "clients", what+"/s", "failed", "p50 ms", "p90 ms", "p99 ms", "max ms")
		for _, m := range out {
			fmt.Fprintf(w, "%8d %10.0f %8d %9.2f %9.2f %9.2f %9.2f\n", m.Clients, m.Rate, m.Failed, m.P50, m.P90, m.P99, m.Max)
			if m.Error != "" {
				fmt.Fprintf(w, "         first failure: %s\n", printable(m.Error))
			}
		}
	})
}

// run1 asks with n clients for a time. A failure is no answer: only what was
// done counts.
func run1(ctx context.Context, n int, length time.Duration, ask func(context.Context) error) measure {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var mu sync.Mutex
	var took []float64
	m := measure{Clients: n}
	start := time.Now()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				err := ask(ctx)
				if ctx.Err() != nil {
					return // cut off by the end of the measure
				}
				mu.Lock()
				if err != nil {
					if m.Failed++; m.Error == "" {
						m.Error = err.Error()
					}
				} else {
					took = append(took, float64(time.Since(began).Microseconds())/1000)
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(10 * time.Millisecond) // a server that refuses is not hammered
				}
			}
		})
	}
	all.Wait()
	m.Done, m.Rate = len(took), float64(len(took))/time.Since(start).Seconds()
	slices.Sort(took)
	at := func(p float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return took[min(len(took)-1, int(p*float64(len(took))))]
	}
	m.P50, m.P90, m.P99, m.Max = at(0.5), at(0.9), at(0.99), at(1)
	return m
}
