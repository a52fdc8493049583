package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// ask lets an asker put the questions of rules to services while the server runs, and
// gives what ends it.
func (o serveOptions) ask(ctx context.Context, k *keeper.Keeper, log *slog.Logger) (finish func(), err error) {
	reach, err := effect.ParseReach(o.reach)
	if err != nil {
		return nil, lockkeeper.Invalid.Errorf("reach_unfit", "Calls cannot be let go there: %v.", err).WithNext("Name networks as --reach 10.1.0.0/16, or leave it out: calls go to the public internet only.")
	}
	asker := effect.NewAsker(effect.AskerOptions{Keeper: k, Secrets: o.systems, Reach: reach, Log: log})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		asker.Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
	}, nil
}

// waitsFor says what a request waits for, and who could do something about it.
func waitsFor(r api.Request) string {
	asked := slices.ContainsFunc(r.Verdict.Because, func(d lockkeeper.Decision) bool {
		return d.Verdict == lockkeeper.Wait && d.Code == "ticket_asked"
	})
	persons := slices.ContainsFunc(r.Verdict.Because, func(d lockkeeper.Decision) bool {
		return d.Verdict == lockkeeper.Wait && d.Code != "ticket_asked"
	})
	if asked && !persons {
		return fmt.Sprintf("%s waits for a service that is asked about the ticket.", r.ID)
	}
	return fmt.Sprintf("%s waits. Approvers run: lockkeeper requests approve %s", r.ID, r.ID)
}

// printQuestions shows what a request is bound to, and what services said of it.
func printQuestions(w io.Writer, r api.Request) {
	if r.Uses > 0 {
		fmt.Fprintf(w, "  uses      %d at most\n", r.Uses)
	}
	if r.Bound {
		fmt.Fprintln(w, "  bound     to the session that begins it")
	}
	for _, q := range r.Questions {
		switch {
		case q.Answered.IsZero():
			fmt.Fprintf(w, "  asked     for the rule %s until %s %s\n", q.Rule, q.Deadline, printable(q.Reason))
		case q.Met:
			fmt.Fprintf(w, "  answered  for the rule %s at %s: it is a good ticket\n", q.Rule, q.Answered)
		default:
			fmt.Fprintf(w, "  answered  for the rule %s at %s: it is none, status %d %s\n", q.Rule, q.Answered, q.Status, printable(q.Reason))
		}
	}
}

// boundsOf says how often an activation may be used still, and where.
func boundsOf(x api.Activation) string {
	out := ""
	if x.Uses > 0 {
		out += fmt.Sprintf(", %d of %d uses left", max(0, x.Uses-x.Used), x.Uses)
	}
	if x.Bound {
		out += ", in one session"
	}
	return out
}
