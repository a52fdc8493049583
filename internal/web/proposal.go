package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerProposals is the table of catalogs that wait for a second person.
func (s *Server) registerProposals() {
	route(s, http.MethodGet, "/catalog/proposals", "list-proposals", "The catalogs that wait for a second person", s.proposals)
	route(s, http.MethodGet, "/catalog/proposals/{id}", "proposal", "One proposal, and how it stands or ended", s.proposal)
	route(s, http.MethodPost, "/catalog/proposals/{id}/approve", "approve-proposal", "Put in force what somebody else proposed", s.approveProposal)
	route(s, http.MethodPost, "/catalog/proposals/{id}/deny", "deny-proposal", "End what somebody else proposed", s.denyProposal)
	route(s, http.MethodPost, "/catalog/proposals/{id}/withdraw", "withdraw-proposal", "Take one's proposal back", s.withdrawProposal)
}

func (s *Server) proposals(_ context.Context, in *Credential) (*reply[api.Proposals], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Proposals(by)
	out := api.Proposals{Proposals: []api.Proposal{}}
	for _, p := range list {
		out.Proposals = append(out.Proposals, renderProposal(p))
	}
	return &reply[api.Proposals]{out}, err
}

func (s *Server) proposal(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Proposal], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	p, err := s.Keeper.Proposal(ctx, by, in.ID)
	return &reply[api.Proposal]{renderProposal(p)}, err
}

func (s *Server) approveProposal(ctx context.Context, in *about[api.Vote]) (*reply[api.Applied], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	a, err := s.Keeper.ApproveProposal(ctx, by, in.ID, in.Body.Digest, in.Body.Comment)
	return &reply[api.Applied]{renderApplied(a)}, err
}

func (s *Server) denyProposal(ctx context.Context, in *about[api.DenyProposal]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.DenyProposal(ctx, by, in.ID, in.Body.Reason)
}

func (s *Server) withdrawProposal(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
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
