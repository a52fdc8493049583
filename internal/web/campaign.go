package web

import (
	"context"
	"net/http"
	"slices"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerCampaigns is the table of access reviews.
func (s *Server) registerCampaigns() {
	route(s, http.MethodPost, "/campaigns", "open-campaign", "Ask reviewers whether what others hold is still needed", s.openCampaign)
	route(s, http.MethodGet, "/campaigns", "list-campaigns", "The campaigns that one may see", s.campaigns)
	route(s, http.MethodGet, "/campaigns/{id}", "campaign", "One campaign: what it looks at, and how it stands or ended", s.campaign)
	route(s, http.MethodPost, "/campaigns/{id}/decide", "decide-campaign", "Keep and remove assignments, as a reviewer", s.decideCampaign)
	route(s, http.MethodPost, "/campaigns/{id}/close", "close-campaign", "End a campaign before its deadline, or throw it away", s.closeCampaign)
}

func (s *Server) openCampaign(ctx context.Context, in *struct {
	Credential
	Key  string `header:"Idempotency-Key" maxLength:"200" doc:"a retry with the same key gives the same answer"`
	Body api.OpenCampaign
}) (*reply[api.Campaign], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	id, err := s.Keeper.OpenCampaign(ctx, by, in.Key, keeper.OpenCampaign{Title: b.Title, Scope: b.Scope, Reviewers: b.Reviewers, Until: b.Until, Undecided: b.Undecided})
	if err != nil {
		return nil, err
	}
	return s.showCampaign(ctx, by, id)
}

func (s *Server) showCampaign(ctx context.Context, by keeper.Caller, id string) (*reply[api.Campaign], error) {
	v, err := s.Keeper.Campaign(ctx, by, id)
	if err != nil {
		return nil, err
	}
	return &reply[api.Campaign]{renderCampaign(v)}, nil
}

func (s *Server) campaigns(ctx context.Context, in *struct {
	Credential
	Ended bool `query:"ended" doc:"those that have ended, too"`
}) (*reply[api.Campaigns], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	list, err := s.Keeper.Campaigns(ctx, by, in.Ended)
	out := api.Campaigns{Campaigns: []api.Campaign{}}
	for _, v := range list {
		out.Campaigns = append(out.Campaigns, renderCampaign(v))
	}
	return &reply[api.Campaigns]{out}, err
}

func (s *Server) campaign(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Campaign], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return s.showCampaign(ctx, by, in.ID)
}

func (s *Server) decideCampaign(ctx context.Context, in *about[api.DecideCampaign]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.DecideCampaign(ctx, by, in.ID, in.Body.Keep, in.Body.Remove, in.Body.Reason)
}

func (s *Server) closeCampaign(ctx context.Context, in *about[api.CloseCampaign]) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.CloseCampaign(ctx, by, in.ID, in.Body.Discard, in.Body.Reason)
}

func renderCampaign(v keeper.CampaignView) api.Campaign {
	out := api.Campaign{ID: v.ID, Title: v.Title, Scope: v.Scope, Reviewers: v.Reviewers, OpenedBy: v.By, Opened: v.Opened, Deadline: v.Deadline,
		Undecided: v.Undecided, Revision: v.Campaign.Revision, Denies: v.Denies, Items: []api.CampaignItem{}}
	if e := v.End; e != nil {
		out.End = &api.CampaignEnd{At: e.At, Status: e.Status, User: e.User, Reason: e.Reason, Revision: e.Revision}
	}
	outcome := map[string]keeper.OutcomeOfItem{}
	for _, o := range v.Outcome {
		outcome[o.Assignment] = o
	}
	for _, it := range v.Items {
		o, known := outcome[it.Assignment]
		if !known {
			o.Why = "discarded"
		}
		out.Items = append(out.Items, api.CampaignItem{Assignment: it.Assignment, Digest: it.Digest, Role: it.Role, Principal: it.Principal.String(), Scope: it.Scope, Eligible: it.Eligible,
			Last: it.Last, Count: it.Count, Verdict: it.Verdict, User: it.User, Reason: it.Reason, At: it.At, Removed: o.Removed, Why: o.Why, Alone: slices.Contains(v.Alone, it.Assignment)})
	}
	return out
}
