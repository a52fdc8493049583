package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/effect"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/rego"
	"github.com/lockkeeper/lockkeeper/internal/web"
	"github.com/spf13/cobra"
)

// referee starts what evaluates policies, and lets the server refuse those that do not
// compile.
func (o serveOptions) referee(ctx context.Context, k *keeper.Keeper, options *web.Options) (finish func(), err error) {
	path, err := os.Executable()
	if err != nil {
		return nil, lockkeeper.Unavailable.Errorf("program_unknown", "This program's own file is not to be found: %v.", err)
	}
	isolated := rego.NewIsolated(path, os.Args[0], "policy", "worker")
	options.Policies = isolated.Problems
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		effect.NewReferee(k, isolated, options.Log).Run(ctx)
		close(done)
	}()
	return func() {
		cancel()
		<-done
		isolated.Close()
	}, nil
}

func (a *app) policyCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "policy", Short: "Policies in Rego: test them, try them, see what they see"},
		a.policyTestCommand(), a.policyEvalCommand(), a.policyInputCommand(), a.policySchemaCommand(), policyWorkerCommand())
}

// policyWorkerCommand is the process in which a server evaluates policies.
func policyWorkerCommand() *cobra.Command {
	return &cobra.Command{Use: "worker", Hidden: true, Short: "The process in which a server evaluates policies", Args: cobra.NoArgs, Example: "  lockkeeper policy worker", RunE: func(*cobra.Command, []string) error { return rego.Serve(os.Stdin, os.Stdout) }}
}

// A policyReport is what the tests of one policy say.
type policyReport struct {
	Policy string            `json:"policy"`
	Digest lockkeeper.Digest `json:"digest"` // what digest: of a check means
	rego.Report
}

func (a *app) policyTestCommand() *cobra.Command {
	var least float64
	c := &cobra.Command{Use: "test [PATH…]", Short: "Run the tests of the policies in governance documents; needs no server", Example: "  lockkeeper policy test governance/\n  lockkeeper policy test governance/ --coverage 80 --output json",
		Long: `Runs each rule test_… of tests: of every Policy, and says how much of the policy's lines they ran.
The exit code is 4 if a test fails or cannot be decided, or if a policy's coverage is below --coverage.
Without PATH the documents of this folder are read.`}
	c.Flags().Float64Var(&least, "coverage", 0, "percent of the lines of each policy that its tests must run")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			args = []string{"."}
		}
		next, _, err := a.readCatalog(args)
		if err != nil {
			return err
		}
		reports, failed := []policyReport{}, false
		for _, name := range slices.Sorted(maps.Keys(next.Policies)) {
			p := next.Policies[name]
			report, problems := rego.RunTests(c.Context(), string(p.Rego), string(p.Tests))
			if len(problems) > 0 {
				return lockkeeper.Invalid.Errorf(problems[0].Code, "The tests of the policy %s cannot be run. %s", name, problems[0].Sentence).WithField(name)
			}
			reports = append(reports, policyReport{name, next.PolicyOf(name), report})
			failed = failed || report.Failed > 0 || report.Coverage < least
		}
		err = a.print(map[string]any{"policies": reports}, func(w io.Writer) { printPolicyTests(w, reports) })
		if err == nil && failed {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

func printPolicyTests(w io.Writer, reports []policyReport) {
	for _, r := range reports {
		if len(r.Tests) == 0 {
			fmt.Fprintf(w, "%s: no tests\n  %s\n", r.Policy, r.Digest)
			continue
		}
		fmt.Fprintf(w, "%s: %d passed, %d failed, %.1f%% of its lines\n  %s\n", r.Policy, r.Passed, r.Failed, r.Coverage, r.Digest)
		for _, t := range r.Tests {
			if !t.Passed {
				fmt.Fprintf(w, "  ✗ %s, in line %d of the tests", printable(t.Name), t.Line)
				if t.Error != "" {
					fmt.Fprintf(w, ": %s", printable(t.Error))
				}
				fmt.Fprintln(w)
			}
		}
		for _, u := range r.Uncovered {
			if u[0] == u[1] {
				fmt.Fprintf(w, "  no test runs line %d\n", u[0])
				continue
			}
			fmt.Fprintf(w, "  no test runs the lines %d to %d\n", u[0], u[1])
		}
	}
	if len(reports) == 0 {
		fmt.Fprintln(w, "There is no policy here.")
	}
}

func (a *app) policyEvalCommand() *cobra.Command {
	var input, now string
	c := &cobra.Command{Use: "eval POLICY PATH…", Short: "Evaluate a policy of governance documents over an input; needs no server", Args: cobra.MinimumNArgs(2),
		Example: "  lockkeeper policy eval tested governance/ --input input.json\n  lockkeeper policy input d-7c1fq2m5ka0v9x3e > input.json\n  lockkeeper policy eval tested governance/ --input input.json --output json",
		Long:    "Says what a gate would say. The exit code is 4 unless the policy passes. The input's own now is the time that it sees, unless --now names another."}
	c.Flags().StringVar(&input, "input", "", "file with the input as JSON; - reads it from the standard input")
	c.Flags().StringVar(&now, "now", "", "an instant that the policy sees as now")
	_ = c.MarkFlagRequired("input") // the flag is there
	c.RunE = func(c *cobra.Command, args []string) error {
		next, _, err := a.readCatalog(args[1:])
		if err != nil {
			return err
		}
		p, known := next.Policies[args[0]]
		if !known {
			return lockkeeper.NotFound.Errorf("policy_unknown", "There is no policy %.63q in these documents.", args[0]).WithNext("Name one of: %v.", slices.Sorted(maps.Keys(next.Policies)))
		}
		data, err := policyInputFrom(input, now)
		if err != nil {
			return err
		}
		out := rego.NewEvaluator().Evaluate(c.Context(), string(p.Rego), data)
		says := policySays{p.Name, next.PolicyOf(p.Name), rego.Version, lockkeeper.DigestOf(data), out.Verdict, out.Code, out.Sentence, append([]string{}, out.Sentences...), out.More}
		err = a.print(says, func(w io.Writer) { printPolicySays(w, says) })
		if err == nil && out.Verdict != lockkeeper.Pass {
			return &exitError{code: exitCodes[lockkeeper.Forbidden]}
		}
		return err
	}
	return c
}

// policySays is what came of a policy.
type policySays struct {
	Policy    string             `json:"policy"`
	Digest    lockkeeper.Digest  `json:"digest"`
	Evaluator string             `json:"evaluator"`
	Input     lockkeeper.Digest  `json:"input"`
	Verdict   lockkeeper.Verdict `json:"verdict"`
	Code      string             `json:"code"`
	Sentence  string             `json:"sentence,omitempty"`
	Sentences []string           `json:"sentences"`
	More      int                `json:"more"`
}

func printPolicySays(w io.Writer, s policySays) {
	fmt.Fprintf(w, "%s: %s [%s]\n", s.Policy, s.Verdict, s.Code)
	if s.Sentence != "" {
		fmt.Fprintf(w, "  %s\n", printable(s.Sentence))
	}
	for _, t := range s.Sentences {
		fmt.Fprintf(w, "  %s\n", printable(t))
	}
	if s.More > 0 {
		fmt.Fprintf(w, "  … and %d more\n", s.More)
	}
}

func policyInputFrom(path, now string) (data []byte, err error) {
	if path == "-" {
		data, err = io.ReadAll(io.LimitReader(os.Stdin, gate.MaxPolicyInput+1))
	} else {
		data, err = readBounded(path, gate.MaxPolicyInput)
	}
	if err != nil {
		return nil, err
	}
	if now == "" {
		return data, nil
	}
	var m lockkeeper.Moment
	if err := m.UnmarshalText([]byte(now)); err != nil {
		return nil, lockkeeper.Invalid.Errorf("moment_malformed", "--now is no instant.").WithNext("Write it as 2026-11-24T03:00:00Z.")
	}
	var in map[string]json.RawMessage
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, lockkeeper.Invalid.Errorf("input_unreadable", "The input is no JSON object.").WithField(path)
	}
	if in["now"], err = json.Marshal(m); err != nil {
		return nil, err
	}
	return json.Marshal(in)
}

func (a *app) policyInputCommand() *cobra.Command {
	var check string
	c := &cobra.Command{Use: "input DEPLOYMENT", Short: "What the policies of a waiting deployment see", Args: cobra.ExactArgs(1),
		Example: "  lockkeeper policy input d-7c1fq2m5ka0v9x3e\n  lockkeeper policy input d-7c1fq2m5ka0v9x3e --check tested > input.json",
		Long:    "Prints the input as JSON, as policy eval takes it. Where several checks name policies, which may call other evidence fresh, --check\nsays of which; with --output json all are printed, with what a ruling is bound to."}
	c.Flags().StringVar(&check, "check", "", "the check whose policy's input is meant; default: the only one")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.PolicyInputs
		if err := client.Call(c.Context(), "GET", "/deployments/"+url.PathEscape(args[0])+"/policy-inputs?"+url.Values{"check": {check}}.Encode(), nil, &out); err != nil {
			return err
		}
		if a.output != "json" && len(out.Inputs) > 1 {
			return lockkeeper.Invalid.Errorf("check_needed", "%d checks name policies.", len(out.Inputs)).WithNext("Say which is meant: --check %s", out.Inputs[0].Check)
		}
		return a.print(out, func(w io.Writer) {
			for _, i := range out.Inputs {
				var v any
				if json.Unmarshal(i.Input, &v) == nil {
					printJSON(w, v)
				}
			}
		})
	}
	return c
}

func printJSON(w io.Writer, v any) {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // to a terminal, or a pipe that has gone
}

func (a *app) policySchemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "The JSON Schema of what policies see; needs no server", Args: cobra.NoArgs, Example: "  lockkeeper policy schema > schemas/input.json",
		RunE: func(*cobra.Command, []string) error {
			return a.print(gate.PolicySchema(), func(w io.Writer) { printJSON(w, gate.PolicySchema()) })
		}}
}

// policyProblems is what is wrong with the policies of a catalog that is read here.
func policyProblems(c *catalog.Catalog) catalog.Problems { return rego.Problems(c) }

// evaluatePolicy lets what-if evaluate policies that nobody evaluated then.
func evaluatePolicy(ctx context.Context, text string, input []byte) gate.Ruling {
	out := policyEvaluator.Evaluate(ctx, text, input)
	return gate.Ruling{Evaluator: rego.Version, Verdict: out.Verdict, Code: out.Code, Sentences: out.Sentences, More: out.More}
}

var policyEvaluator = rego.NewEvaluator()
