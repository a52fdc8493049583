// Package cli is the command line: one file a noun. It reads flags, calls the
// server through package api, runs the commands of pipelines, and renders what
// came back. `serve` wires the server together.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Version is what `lockkeeper version` prints. The build sets it.
var Version = "0.1.0-dev"

// Exit codes. Those of `deploy` and `claim` stand apart, so that they are not
// taken for the command's own.
const (
	exitInternal = 1
	exitRefused  = 120 // deploy: refused, rejected or cancelled
	exitTimedOut = 121 // deploy: nobody let it through in time
	exitAway     = 122 // deploy: the server or the CI platform cannot be reached

	exitSuperseded  = 123 // deploy: a newer deployment took its place
	exitInterrupted = 124 // deploy: a signal ended the wait
	exitUnknown     = 125 // deploy: the lease ended before the job said how it went
)

// exitCodes is the one table from kinds of error to exit codes.
var exitCodes = map[lockkeeper.Kind]int{
	lockkeeper.Invalid: 2, lockkeeper.Unauthenticated: 3, lockkeeper.Forbidden: 4, lockkeeper.NotFound: 5,
	lockkeeper.Conflict: 6, lockkeeper.Unavailable: 7, lockkeeper.Limited: 8,
}

// exitError carries an exit code that is not an error's own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// app is one run of the command line.
type app struct {
	server  string
	output  string
	session string
	in      io.Reader
	out     io.Writer
	err     io.Writer
}

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !root.PersistentFlags().Changed("output") { // what was wrong stood before it
		a.output = outputOf(args)
	}
	// The command library makes this one itself, without a type.
	if text := err.Error(); strings.HasPrefix(text, "required flag") {
		err = lockkeeper.Invalid.Errorf("usage", "%s.", text).WithNext("See: %s --help", c.CommandPath())
	}
	return a.fail(err)
}

// outputOf is the --output of a command line that could not be read to its end.
func outputOf(args []string) string {
	output := "text"
	for i, arg := range args {
		if arg == "--" {
			break // what follows is somebody else's
		}
		if value, is := strings.CutPrefix(arg, "--output="); is {
			output = value
		} else if arg == "--output" && i+1 < len(args) {
			output = args[i+1]
		}
	}
	return output
}

// fail says what went wrong, why, and what to do next, and gives the exit code.
func (a *app) fail(err error) int {
	code := exitInternal
	var exit *exitError
	if errors.As(err, &exit) {
		if code = exit.code; exit.err == nil {
			return code
		}
	}
	r := lockkeeper.RefusalOf(err)
	if r != nil && exit == nil {
		code = exitCodes[r.Kind]
	}
	if a.output == "json" {
		p := api.ProblemOf(err, "")
		if r == nil {
			p.Detail, p.Next = err.Error(), ""
		}
		a.json(p)
		return code
	}
	if r == nil {
		fmt.Fprintf(a.err, "error: %v\n", err)
		return code
	}
	fmt.Fprintf(a.err, "%s [%s]\n", strings.TrimSuffix(r.Kind.String()+": "+r.Sentence, "\n"), r.Code)
	if r.Field != "" {
		fmt.Fprintf(a.err, "  about: %s\n", r.Field)
	}
	if r.Decision != nil {
		printDecision(a.err, *r.Decision, 1)
	}
	if r.Next != "" {
		fmt.Fprintf(a.err, "  next: %s\n", r.Next)
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "lockkeeper",
		Short:         "The gate between CI/CD and production",
		Long:          "Lockkeeper proves who a pipeline is, holds it at an environment's gate until the right people\nhave let it through, hands it a short-lived identity for exactly that deployment, and can prove\nafterwards what happened.",
		Example:       "  lockkeeper serve --data ./data\n  lockkeeper deploy --environment production --artifact app=sha256:… -- ./deploy.sh",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", envOr("LOCKKEEPER_SERVER", "http://127.0.0.1:8420"), "address of the server (LOCKKEEPER_SERVER)")
	f.StringVar(&a.output, "output", "text", "text or json")
	f.StringVar(&a.session, "session-file", envOr("LOCKKEEPER_SESSION_FILE", ""), "where the sign-in is kept (LOCKKEEPER_SESSION_FILE)")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "text" && a.output != "json" {
			bad := a.output
			a.output = "text"
			return lockkeeper.Invalid.Errorf("output_unknown", "There is no output %q.", bad).WithNext("Use --output text or --output json.")
		}
		return nil
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if words := c.Flags().Args(); c.HasSubCommands() && len(words) > 0 { // the flag is one of the command that was meant
			return unknownCommand(c, words[0])
		}
		return lockkeeper.Invalid.Errorf("usage", "%v.", err).WithNext("See: %s --help", c.CommandPath())
	})
	root.AddCommand(a.directoriesCommand())
	root.AddCommand(a.serveCommand(), a.setupCommand(), a.loginCommand(), a.logoutCommand(), a.sessionsCommand(), a.accountsCommand(),
		a.validateCommand(), a.planCommand(), a.applyCommand(), a.catalogCommand(), a.schemaCommand(), a.canCommand(), a.whoCanCommand(), a.whatCanCommand(), a.eligibleCommand(), a.activateCommand(), a.requestsCommand(), a.activationsCommand(), a.artifactCommand(), a.evidenceCommand(), a.planForCommand(),
		a.deployCommand(), a.claimCommand(), a.tokenCommand(), a.endCommand(), a.voteCommand(true), a.voteCommand(false), a.withdrawCommand(), a.delegateCommand(), a.deploymentsCommand(),
		a.receiptCommand(), a.keysCommand(), a.trustCommand(), a.journalCommand(), a.recoverCommand(), a.benchCommand(), a.completionCommand(), a.versionCommand())
	root.AddCommand(a.dutiesCommand())
	root.AddCommand(a.holdsCommand())
	root.AddCommand(a.provisionersCommand())
	root.AddCommand(a.measuresCommand())
	root.AddCommand(a.runningCommand())
	root.AddCommand(a.accessCommand(), a.campaignsCommand())
	root.AddCommand(a.incidentCommand(), a.breakGlassCommand(), a.noticesCommand(), a.reviewsCommand(), a.recoveryCommand())
	root.AddCommand(a.proposalsCommand())
	root.AddCommand(a.notificationsCommand())
	root.AddCommand(a.freezeCommand(), a.overrideCommand())
	root.AddCommand(a.tokensCommand(), a.factorsCommand(), a.stepUpCommand())
	root.AddCommand(a.whatIfCommand(), a.observeCommand())
	root.AddCommand(a.strikeCommand())
	root.AddCommand(a.recordCommand())
	root.AddCommand(a.policyCommand())
	root.SetHelpCommand(a.helpCommand())
	root.InitDefaultHelpCmd()
	// A parent is no command to run, though it has something to say when it is.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", `{{if and .Runnable (not (index .Annotations "parent"))}}`, 1))
	a.finish(root)
	return root
}

// finish gives every command below c, and c, what all have in common: a wrong
// word or a wrong number of arguments is a refusal like any other, and a parent
// that is called bare shows its help and refuses, so that a script notices.
func (a *app) finish(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.finish(sub)
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Annotations, c.RunE = map[string]string{"parent": "yes"}, a.bare
	}
	if c.HasSubCommands() && c.Example == "" {
		c.Example = examplesBelow(c)
	}
	// The library would take what stands in backquotes for the value's name.
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", `"`) })
	c.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", `"`) })
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if c.HasSubCommands() && len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		if check != nil {
			if err := check(c, args); err != nil {
				return lockkeeper.Invalid.Errorf("usage", "%v.", err).WithNext("See: %s --help", c.CommandPath())
			}
		}
		return nil
	}
}

// examplesBelow is the first example of each command of c.
func examplesBelow(c *cobra.Command) string {
	var lines []string
	for _, sub := range c.Commands() {
		if first, _, _ := strings.Cut(sub.Example, "\n"); sub.IsAvailableCommand() && first != "" {
			lines = append(lines, first)
		}
	}
	return strings.Join(lines, "\n")
}

// bare is what a parent does that was given no command.
func (a *app) bare(c *cobra.Command, _ []string) error {
	if a.output != "json" {
		c.SetOut(a.err)
		if err := c.Help(); err != nil {
			return err
		}
		fmt.Fprintln(a.err)
	}
	return lockkeeper.Invalid.Errorf("usage", "%s needs a command.", c.CommandPath()).WithNext("Name one of: %s.", strings.Join(commandsOf(c), ", "))
}

// unknownCommand refuses a word in the place of a command, and names what may
// have been meant.
func unknownCommand(c *cobra.Command, word string) error {
	r := lockkeeper.Invalid.Errorf("usage", "%s has no command %.40q.", c.CommandPath(), word)
	if near := nearCommands(c, word); len(near) > 0 {
		return r.WithNext("Did you mean: %s? See: %s --help", strings.Join(near, " or "), c.CommandPath())
	}
	return r.WithNext("Name one of: %s. See: %s --help", strings.Join(commandsOf(c), ", "), c.CommandPath())
}

// nearCommands are the commands of c that fewest edits part from word, if they are
// few for its length, or that begin with it; or else those of that very name
// anywhere in the tree.
func nearCommands(c *cobra.Command, word string) []string {
	for c.SuggestionsMinimumDistance = 1; c.SuggestionsMinimumDistance <= max(1, min(len(word)/3, 3)); c.SuggestionsMinimumDistance++ {
		if near := c.SuggestionsFor(word); len(near) > 0 {
			for i := range near {
				near[i] = c.CommandPath() + " " + near[i]
			}
			return near
		}
	}
	return named(c.Root(), word)
}

func named(c *cobra.Command, word string) (paths []string) {
	for _, sub := range c.Commands() {
		if sub.Name() == word && sub.IsAvailableCommand() {
			paths = append(paths, sub.CommandPath())
		}
		paths = append(paths, named(sub, word)...)
	}
	return paths
}

func commandsOf(c *cobra.Command) (names []string) {
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Example: "  lockkeeper version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return a.print(map[string]string{"version": Version}, func(w io.Writer) { fmt.Fprintln(w, "lockkeeper", Version) })
	}}
}

// print renders v as JSON or as text.
func (a *app) print(v any, text func(io.Writer)) error {
	if a.output == "json" {
		return a.json(v)
	}
	text(a.out)
	return nil
}

func (a *app) json(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// printDecision renders a decision as a tree: one line a reason.
func printDecision(w io.Writer, d lockkeeper.Decision, depth int) {
	mark := map[lockkeeper.Verdict]string{lockkeeper.Pass: "✓", lockkeeper.Fail: "✗", lockkeeper.Wait: "…", lockkeeper.Error: "!"}[d.Verdict]
	fmt.Fprintf(w, "%s%s %s: %s [%s]\n", strings.Repeat("  ", depth), mark, printable(d.Subject), printable(d.Sentence), d.Code)
	for _, b := range d.Because {
		printDecision(w, b, depth+1)
	}
}

// printable replaces what could steer a terminal: texts come from outside.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}
