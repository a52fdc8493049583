package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/spf13/cobra"
)

const planHelp = `terraform=FILE is what terraform show -json says of a saved plan; helm=FILE are rendered Kubernetes manifests.
Kept are addresses, what happens to each, and a digest; values, variables, and the data of Secrets are not.`

func (a *app) planForCommand() *cobra.Command {
	var tokenFile, environment string
	var artifacts []string
	c := &cobra.Command{Use: "plan-for --environment E --artifact NAME=sha256:HEX|PATH KIND=FILE…", Short: "Record what would be done to an environment, from the stage that planned it", Args: cobra.MinimumNArgs(1),
		Example: "  terraform plan -out=tfplan && terraform show -json tfplan > plan.json\n  lockkeeper plan-for --environment production --artifact app=app.tar terraform=plan.json\n  lockkeeper deploy --environment production --artifact app=app.tar --plan terraform=plan.json -- terraform apply tfplan",
		Long:    "Records plans for an environment and the commit of this run, for approvers to see while no runner waits. The stage\nmust be one that the catalog lets bring them: evidence: [plan]. An ask carries them with deploy --plan.\n\n" + planHelp,
		RunE: func(c *cobra.Command, args []string) error {
			body := api.AddEvidence{Environment: environment}
			for _, s := range args {
				kind, content, err := planFile(s)
				if err != nil {
					return err
				}
				body.Evidence = append(body.Evidence, api.Document{Kind: string(evidence.Plan), Name: kind, Content: content})
			}
			r, err := a.bring(c.Context(), tokenFile, artifacts, body)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				for _, e := range r.Evidence {
					fmt.Fprintf(w, "%s for %s: %s\n", e.ID, environment, e.Line)
				}
			})
		}}
	c.Flags().StringVar(&environment, "environment", "", "environment that the plan is for")
	c.Flags().StringArrayVar(&artifacts, "artifact", nil, "what is deployed, as NAME=sha256:HEX or NAME=PATH; may be repeated")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the CI platform's token, where it cannot be asked for one")
	for _, f := range []string{"environment", "artifact"} {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err)
		}
	}
	return c
}

// planFile reads KIND=FILE.
func planFile(s string) (kind string, content []byte, err error) {
	kind, path, ok := strings.Cut(s, "=")
	if !ok || path == "" || kind != evidence.TerraformPlan && kind != evidence.HelmPlan {
		return "", nil, lockkeeper.Invalid.Errorf("plan_malformed", "The argument %.80q is no KIND=FILE.", s).WithNext("Write terraform=plan.json or helm=rendered.yaml.").WithField(s)
	}
	content, err = readBounded(path, evidence.MaxDocument)
	return kind, content, err
}

// plansOf reads the files as they are now, and says which plans they hold.
func plansOf(files []string) ([]lockkeeper.Plan, error) {
	var out []lockkeeper.Plan
	for _, s := range files {
		kind, content, err := planFile(s)
		if err != nil {
			return nil, err
		}
		said, err := evidence.Read(evidence.Plan, content, nil)
		if err != nil {
			return nil, err
		}
		if said.Plan.Kind != kind {
			return nil, lockkeeper.Invalid.Errorf("plan_kind", "The file holds a %s plan.", said.Plan.Kind).WithNext("Write it as %s=FILE.", said.Plan.Kind).WithField(s)
		}
		out = append(out, lockkeeper.Plan{Kind: kind, Digest: said.Plan.Digest})
	}
	return out, nil
}

func printPlans(w io.Writer, list []api.PlannedFor) {
	for _, p := range list {
		fmt.Fprintf(w, "  plan      %s\n", cmp.Or(printable(p.Line), p.Kind+" "+string(p.Digest)+", which nobody recorded for this environment and commit"))
		for _, c := range p.Changes {
			fmt.Fprintf(w, "            %-7s %s\n", c.Action, printable(c.Address))
		}
		if more := p.Total - len(p.Changes); more > 0 {
			fmt.Fprintf(w, "            and %d more\n", more)
		}
	}
}
