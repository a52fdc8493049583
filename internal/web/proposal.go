package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerProposals is the table of catalogs that wait for a second person.
func (s *Server) registerProposals() {
	people(s, http.MethodGet, "/catalog/proposals", "list-proposals", "The catalogs that wait for a second person", s.proposals)
	people(s, http.MethodGet, "/catalog/proposals/{id}", "proposal", "One proposal, and how it stands or ended", s.proposal)
	people(s, http.MethodPost, "/catalog/proposals/{id}/approve", "approve-proposal", "Put in force what somebody else proposed", s.approveProposal)
	people(s, http.MethodPost, "/catalog/proposals/{id}/deny", "deny-proposal", "End what somebody else proposed", s.denyProposal)
	people(s, http.MethodPost, "/catalog/proposals/{id}/withdraw", "withdraw-proposal", "Take one's proposal back", s.withdrawProposal)
}

func (s *Server) proposals(_ context.Context, by keeper.Caller, _ *Credential) (*reply[api.Proposals], error) {
	list, err := s.Keeper.Proposals(by)
	return &reply[api.Proposals]{api.Proposals{Proposals: rendered(list, renderProposal)}}, err
}

func (s *Server) proposal(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Proposal], error) {
	p, err := s.Keeper.Proposal(ctx, by, in.ID)
	return &reply[api.Proposal]{renderProposal(p)}, err
}

func (s *Server) approveProposal(ctx context.Context, by keeper.Caller, in *about[api.Vote]) (*reply[api.Applied], error) {
	a, err := s.Keeper.ApproveProposal(ctx, by, in.ID, in.Body.Digest, in.Body.Comment)
	return &reply[api.Applied]{renderApplied(a)}, err
}

func (s *Server) denyProposal(ctx context.Context, by keeper.Caller, in *about[api.DenyProposal]) (*struct{}, error) {
	return nil, s.Keeper.DenyProposal(ctx, by, in.ID, in.Body.Reason)
}

func (s *Server) withdrawProposal(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.Keeper.WithdrawProposal(ctx, by, in.ID)
}

func renderApplied(a keeper.Applied) api.Applied {
	return api.Applied{Revision: a.Revision, Digest: a.Digest, Changes: renderChanges(a.Changes), Proposal: a.Proposal, Weakens: a.Weakens}
}

func renderChanges(list []keeper.ChangedDocument) []api.Change {
	out := []api.Change{}
	for _, ch := range list {
		out = append(out, api.Change{Kind: string(ch.Kind), Project: ch.Project, Name: ch.Name, Verb: ch.Verb})
	}
	return out
}

func renderProposal(p keeper.ProposalView) api.Proposal {
	out := api.Proposal{ID: p.ID, User: p.User, Base: p.Base, Catalog: p.Catalog, Message: p.Message, Changes: renderChanges(p.Changes), Weakens: append([]string{}, p.Weakens...),
		Digest: p.Digest, Opened: p.Opened, Deadline: p.Deadline, Verdict: p.Verdict}
	if p.End != nil {
		end := api.ProposalEnd(*p.End)
		out.End = &end
	}
	return out
}
