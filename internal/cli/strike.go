package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

func (a *app) strikeCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "strike", Short: "Artifacts that are kept out, also where they were good before: add, list, lift"},
		a.addStrikeCommand(), a.listStrikesCommand(), a.liftStrikeCommand())
}

func (a *app) addStrikeCommand() *cobra.Command {
	var in api.MakeStrike
	var project, environment string
	var artifacts, only []string
	var everywhere bool
	c := &cobra.Command{Use: "add [DEPLOYMENT] --reason WHY", Short: "Keep artifacts out of an environment or a project, and stop what deploys them", Args: cobra.MaximumNArgs(1),
		Example: "  lockkeeper strike add d-… --only app --everywhere --reason 'INC-4711: a back door'\n  lockkeeper strike add --project payments --environment production --artifact app=sha256:… --reason 'INC-4711: a back door'",
		Long: `What is struck passes no gate there any more: neither as new, nor by going back to it, nor once more,
whatever vouches for it. A deployment of it that runs loses its lease. It takes leases/revoke there; another
person lifts it. Of a deployment all artifacts are struck, or those that --only names.`}
	c.Flags().StringVar(&project, "project", "", "project, without a deployment")
	c.Flags().StringVar(&environment, "environment", "", "environment, without a deployment; default: all of the project")
	c.Flags().StringArrayVar(&artifacts, "artifact", nil, "NAME=sha256:HEX or NAME=PATH, without a deployment; may be repeated")
	c.Flags().StringSliceVar(&only, "only", nil, "names of the deployment's artifacts")
	c.Flags().BoolVar(&everywhere, "everywhere", false, "in all environments of the deployment's project")
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			err = struckOf(c, client, args[0], only, everywhere, &in)
		} else {
			err = struckNamed(project, environment, artifacts, &in)
		}
		if err != nil {
			return err
		}
		var out api.Struck
		if err := client.Call(c.Context(), "POST", "/strikes", in, &out, "Idempotency-Key", randomText()); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) { printStruck(w, in, out) })
	}
	return c
}

// struckOf fills in what is struck of a deployment.
func struckOf(c *cobra.Command, client api.Client, id string, only []string, everywhere bool, in *api.MakeStrike) error {
	d, err := client.Deployment(c.Context(), id, "", 0)
	if err != nil {
		return err
	}
	in.Deployment, in.Scope = d.ID, lockkeeper.EnvironmentScope(d.Ask.Project, d.Ask.Environment)
	if everywhere {
		in.Scope = lockkeeper.ProjectScope(d.Ask.Project)
	}
	for _, name := range only {
		if !slices.ContainsFunc(d.Ask.Artifacts, func(x lockkeeper.Artifact) bool { return x.Name == name }) {
			return lockkeeper.Invalid.Errorf("artifacts_malformed", "%s has no artifact %.63q.", d.ID, name).WithNext("Look at it: lockkeeper deployments show %s", d.ID).WithField(name)
		}
	}
	for _, x := range d.Ask.Artifacts {
		if len(only) == 0 || slices.Contains(only, x.Name) {
			in.Artifacts = append(in.Artifacts, x)
		}
	}
	return nil
}

func struckNamed(project, environment string, artifacts []string, in *api.MakeStrike) error {
	if project == "" || len(artifacts) == 0 {
		return lockkeeper.Invalid.Errorf("artifacts_malformed", "Nothing says what is struck.").WithNext("Name a deployment, or --project and --artifact NAME=sha256:HEX.")
	}
	in.Scope = lockkeeper.ProjectScope(project)
	if environment != "" {
		in.Scope = lockkeeper.EnvironmentScope(project, environment)
	}
	list, err := artifactsOf(artifacts)
	in.Artifacts = list.Artifacts
	return err
}

func printStruck(w io.Writer, in api.MakeStrike, out api.Struck) {
	fmt.Fprintf(w, "%s holds at %s: %s\n", out.ID, in.Scope, artifactsText(in.Artifacts))
	for _, id := range out.Revoked {
		fmt.Fprintf(w, "%s lost its lease.\n", id)
	}
	for _, env := range out.Stands {
		fmt.Fprintf(w, "It stands in %s: deploy something else there, or go back to what was good before.\n", env)
	}
}

func (a *app) listStrikesCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List what is kept out, and where some of it stands", Args: cobra.NoArgs, Example: "  lockkeeper strike list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Strikes
			if err := client.Call(c.Context(), "GET", "/strikes", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, x := range out.Strikes {
					fmt.Fprintf(w, "%s  %s  by %s at %s: %s\n    %s\n", x.ID, x.Scope, x.By, x.At, printable(x.Reason), printable(artifactsText(x.Artifacts)))
					for _, env := range x.Stands {
						fmt.Fprintf(w, "    ✗ stands in %s\n", env)
					}
				}
				if len(out.Strikes) == 0 {
					fmt.Fprintln(w, "Nothing that you may see is struck.")
				}
			})
		}}
}

func (a *app) liftStrikeCommand() *cobra.Command {
	var in api.LiftStrike
	c := &cobra.Command{Use: "lift ID --reason WHY", Short: "Let in again what somebody else struck", Args: cobra.ExactArgs(1), Example: "  lockkeeper strike lift x-… --reason 'the finding was of another image'"}
	c.Flags().StringVar(&in.Reason, "reason", "", "why it may be let in again")
	if err := c.MarkFlagRequired("reason"); err != nil {
		panic(err)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "POST", "/strikes/"+pathEscape(args[0])+"/lift", in, nil); err != nil {
			return err
		}
		return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Lifted.") })
	}
	return c
}
