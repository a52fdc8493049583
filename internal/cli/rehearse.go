package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// rehearseFlags are what `deploy --dry-run` takes besides.
type rehearseFlags struct {
	dry                       bool
	stage, ref, commit, event string
}

const dryHelp = `

With --dry-run nothing is asked, run or recorded: it says what the ask would get now, whom it would wait for, and
when it could go. A job asks about itself, and its token may deploy afterwards. A person who is signed in asks about
a run that he would start himself: --as-stage PIPELINE/STAGE --project P --ref REF --commit COMMIT. The exit code is
0 if the ask would be taken, whether it waits or not, and 120 if it would be refused.`

func (f *rehearseFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.dry, "dry-run", false, "only say what would happen")
	c.Flags().StringVar(&f.stage, "as-stage", "", "with --dry-run: PIPELINE/STAGE whose run a person asks about")
	c.Flags().StringVar(&f.ref, "ref", "", "with --as-stage: the run's ref, such as refs/heads/main")
	c.Flags().StringVar(&f.commit, "commit", "", "with --as-stage: the run's commit")
	c.Flags().StringVar(&f.event, "event", "", "with --as-stage: what starts the run; default: the first event that the stage admits")
}

// fit refuses flags that say nothing together.
func (f rehearseFlags) fit(command []string) error {
	switch named := f.stage + f.ref + f.commit + f.event; {
	case !f.dry && named != "":
		return lockkeeper.Invalid.Errorf("usage", "A run is named only to be rehearsed.").WithNext("Add --dry-run.")
	case f.dry && len(command) > 0:
		return lockkeeper.Invalid.Errorf("usage", "A rehearsal runs no command.").WithNext("Take the command out, or --dry-run.")
	case f.dry && f.stage == "" && named != "":
		return lockkeeper.Invalid.Errorf("usage", "Of which stage is the run?").WithNext("Name it: --as-stage PIPELINE/STAGE.")
	}
	return nil
}

// rehearse asks what the ask would get.
func (a *app) rehearse(ctx context.Context, f rehearseFlags, ask api.OpenDeployment, tokenFile string) error {
	in := api.Rehearse{Action: ask.Action, Project: ask.Project, Environment: ask.Environment, Artifacts: ask.Artifacts, Parameters: ask.Parameters, Detached: ask.Detached,
		AsStage: f.stage, Ref: f.ref, Commit: f.commit, Event: f.event}
	client, err := a.person()
	if f.stage == "" {
		ci := ciPlatform{app: a, file: tokenFile}
		client, err = ci.client(ctx)
	}
	if err != nil {
		return err
	}
	var r api.Rehearsal
	if err := client.Call(ctx, "POST", "/rehearsals", in, &r); err != nil {
		return err
	}
	if err := a.print(r, func(w io.Writer) { printRehearsal(w, r) }); err != nil {
		return err
	}
	if !r.Opens {
		return &exitError{code: exitRefused}
	}
	return nil
}

func printRehearsal(w io.Writer, r api.Rehearsal) {
	for _, s := range r.Assumed {
		fmt.Fprintln(w, "assumed:", printable(s))
	}
	switch {
	case !r.Opens:
		fmt.Fprintf(w, "Asked at %s, it would be refused: %s\n", r.At, printable(r.Gate.Sentence))
	case r.Gate.Verdict == lockkeeper.Pass:
		fmt.Fprintf(w, "Asked at %s, it would go at once.\n", r.At)
	default:
		fmt.Fprintf(w, "Asked at %s, it would wait.\n", r.At)
	}
	if r.Mode == "observe" {
		fmt.Fprintln(w, "The environment only observes: what its checks say is recorded, and stops nothing.")
	}
	printDecision(w, r.Gate, 1)
	for _, x := range r.Waits {
		if x.On == "people" {
			fmt.Fprintf(w, "%s asks %s; who could vote now: %s\n", printable(x.Decision.Subject), strings.Join(x.Groups, ", "), namesOr(x.Users, x.More, "nobody"))
			if len(x.Later) > 0 {
				fmt.Fprintf(w, "  after a time also %s\n", strings.Join(x.Later, ", "))
			}
		} else if x.On == "service" {
			fmt.Fprintf(w, "%s: %s\n", printable(x.Decision.Subject), printable(x.Decision.Sentence))
		} else if x.Decision.Next != "" {
			fmt.Fprintf(w, "%s: %s\n", printable(x.Decision.Subject), printable(x.Decision.Next))
		}
	}
	printEarliest(w, r)
}

func printEarliest(w io.Writer, r api.Rehearsal) {
	switch {
	case !r.Opens || r.Gate.Verdict == lockkeeper.Pass:
	case r.Earliest.IsZero():
		fmt.Fprintf(w, "No window, delay or freeze lets it through before its patience ends, at %s.\n", r.Deadline)
	case r.Sure:
		fmt.Fprintf(w, "The earliest is %s.\n", r.Earliest)
	default:
		fmt.Fprintf(w, "The earliest is %s, and not before all that it waits for is there.\n", r.Earliest)
	}
}

func namesOr(list []string, more int, none string) string {
	switch {
	case len(list) == 0:
		return none
	case more > 0:
		return fmt.Sprintf("%s, and %d more", strings.Join(list, ", "), more)
	}
	return strings.Join(list, ", ")
}
