package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

func (a *app) proposalsCommand() *cobra.Command {
	return withCommands(&cobra.Command{Use: "proposals", Short: "Catalogs that would weaken something and wait for a second person: list, show, approve, deny, withdraw"},
		a.listProposalsCommand(), a.showProposalCommand(), a.approveProposalCommand(), a.denyProposalCommand(), a.withdrawProposalCommand())
}

func (a *app) listProposalsCommand() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the proposals that wait", Args: cobra.NoArgs, Example: "  lockkeeper proposals list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var out api.Proposals
			if err := client.Call(c.Context(), "GET", "/catalog/proposals", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				for _, p := range out.Proposals {
					fmt.Fprintf(w, "%s  %-12s %d changes of revision %d, until %s: %s\n", p.ID, p.User, len(p.Changes), p.Base, p.Deadline, printable(p.Message))
				}
				if len(out.Proposals) == 0 {
					fmt.Fprintln(w, "Nothing waits.")
				}
			})
		}}
}

func (a *app) oneProposal(c *cobra.Command, id string) (api.Client, api.Proposal, error) {
	var p api.Proposal
	client, err := a.person()
	if err == nil {
		err = client.Call(c.Context(), "GET", "/catalog/proposals/"+pathEscape(id), nil, &p)
	}
	return client, p, err
}

func (a *app) showProposalCommand() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show a proposal: what it changes and weakens, and how it stands or ended", Args: cobra.ExactArgs(1), Example: "  lockkeeper proposals show p-…",
		RunE: func(c *cobra.Command, args []string) error {
			_, p, err := a.oneProposal(c, args[0])
			if err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { printProposal(w, p) })
		}}
}

func printProposal(w io.Writer, p api.Proposal) {
	fmt.Fprintf(w, "%s: %s proposes to change revision %d: %s\n", p.ID, p.User, p.Base, printable(p.Message))
	printChanges(w, p.Changes)
	for _, why := range p.Weakens {
		fmt.Fprintf(w, "! weaker: %s\n", printable(why))
	}
	printDecision(w, p.Verdict, 1)
	if p.Verdict.Next != "" {
		fmt.Fprintln(w, "  next:", printable(p.Verdict.Next))
	}
}

func printChanges(w io.Writer, changes []api.Change) {
	for _, ch := range changes {
		fmt.Fprintf(w, "%-8s %s %s\n", ch.Verb, ch.Kind, strings.TrimPrefix(ch.Project+"/"+ch.Name, "/"))
	}
}

func (a *app) approveProposalCommand() *cobra.Command {
	var vote api.Vote
	var digest string
	c := &cobra.Command{Use: "approve ID", Short: "Put in force what somebody else proposed", Args: cobra.ExactArgs(1), Example: "  lockkeeper proposals approve p-… --comment 'agreed with ann'",
		Long: "It takes the right to write everything that the proposal changes, another person than the proposer, and somebody\nwho gains nothing by it. The approval is of exactly what is shown: give its digest with --digest if you saw it before."}
	c.Flags().StringVar(&vote.Comment, "comment", "", "why")
	c.Flags().StringVar(&digest, "digest", "", "digest of the proposal that you saw; default: the one shown now")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, p, err := a.oneProposal(c, args[0])
		if err != nil {
			return err
		}
		vote.Digest = p.Digest
		if digest != "" {
			vote.Digest = lockkeeper.Digest(digest)
		}
		var applied api.Applied
		if err := client.Call(c.Context(), "POST", "/catalog/proposals/"+pathEscape(p.ID)+"/approve", vote, &applied); err != nil {
			return err
		}
		return a.print(applied, func(w io.Writer) { printApplied(w, applied) })
	}
	return c
}

func printApplied(w io.Writer, applied api.Applied) {
	printChanges(w, applied.Changes)
	if applied.Proposal == "" {
		fmt.Fprintf(w, "Revision %d is in force, with %d changes. Digest %s\n", applied.Revision, len(applied.Changes), applied.Digest)
		return
	}
	for _, why := range applied.Weakens {
		fmt.Fprintf(w, "! weaker: %s\n", printable(why))
	}
	fmt.Fprintf(w, "Revision %d stays in force: this weakens protection and waits for another person, who runs: lockkeeper proposals approve %s\n", applied.Revision, applied.Proposal)
}

func (a *app) denyProposalCommand() *cobra.Command {
	var in api.DenyProposal
	c := &cobra.Command{Use: "deny ID", Short: "End what somebody else proposed", Args: cobra.ExactArgs(1), Example: "  lockkeeper proposals deny p-… --reason 'not before the audit'"}
	c.Flags().StringVar(&in.Reason, "reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error { return a.endProposal(c, args[0], "deny", in, "Denied.") }
	return c
}

func (a *app) withdrawProposalCommand() *cobra.Command {
	return &cobra.Command{Use: "withdraw ID", Short: "Take one's own proposal back", Args: cobra.ExactArgs(1), Example: "  lockkeeper proposals withdraw p-…",
		RunE: func(c *cobra.Command, args []string) error {
			return a.endProposal(c, args[0], "withdraw", nil, "Withdrawn.")
		}}
}

func (a *app) endProposal(c *cobra.Command, id, verb string, body any, done string) error {
	client, err := a.person()
	if err != nil {
		return err
	}
	if err := client.Call(c.Context(), "POST", "/catalog/proposals/"+pathEscape(id)+"/"+verb, body, nil); err != nil {
		return err
	}
	return a.print(map[string]string{"id": id, "done": verb}, func(w io.Writer) { fmt.Fprintln(w, done) })
}
