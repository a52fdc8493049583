package web

import (
	"context"
	"net/http"
	"time"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// registerTokens is the table of personal tokens.
func (s *Server) registerTokens() {
	route(s, http.MethodPost, "/tokens", "make-token", "Make a personal token", s.makeToken)
	route(s, http.MethodGet, "/tokens", "list-tokens", "Personal tokens that hold: one's own, or those that one may see", s.listTokens)
	route(s, http.MethodDelete, "/tokens/{id}", "revoke-token", "Revoke one's own personal token, or somebody else's", s.revokePersonal)
}

func (s *Server) makeToken(ctx context.Context, in *ask[api.MakeToken]) (*reply[api.MadeToken], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	b := in.Body
	secret, t, err := s.Keeper.MakePersonalToken(ctx, by, keeper.MakePersonal{Name: b.Name, Actions: b.Actions, Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second})
	return &reply[api.MadeToken]{api.MadeToken{PersonalToken: renderToken(t), Secret: secret}}, err
}

func (s *Server) listTokens(_ context.Context, in *struct {
	Credential
	User string `query:"user" maxLength:"63" doc:"whose; default: one's own"`
	All  bool   `query:"all" doc:"everybody's"`
}) (*reply[api.PersonalTokens], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	user := in.User
	if user == "" && !in.All {
		user = by.User
	}
	list, err := s.Keeper.PersonalTokens(by, user)
	out := api.PersonalTokens{Tokens: []api.PersonalToken{}}
	for _, t := range list {
		out.Tokens = append(out.Tokens, renderToken(t))
	}
	return &reply[api.PersonalTokens]{out}, err
}

func (s *Server) revokePersonal(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndPersonalToken(ctx, by, in.ID)
}

func renderToken(t keeper.PersonalToken) api.PersonalToken {
	return api.PersonalToken{ID: t.ID, Name: t.Name, User: t.User, Actions: t.Actions, Scope: t.Scope, Made: t.Made, Expires: t.Expires, Used: t.Used}
}
