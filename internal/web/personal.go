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
	people(s, http.MethodPost, "/tokens", "make-token", "Make a personal token", s.makeToken)
	people(s, http.MethodGet, "/tokens", "list-tokens", "Personal tokens that hold: one's own, or those that one may see", s.listTokens)
	people(s, http.MethodDelete, "/tokens/{id}", "revoke-token", "Revoke one's own personal token, or somebody else's", s.revokePersonal)
}

func (s *Server) makeToken(ctx context.Context, by keeper.Caller, in *ask[api.MakeToken]) (*reply[api.MadeToken], error) {
	b := in.Body
	secret, t, err := s.Keeper.MakePersonalToken(ctx, by, keeper.MakePersonal{Name: b.Name, Actions: b.Actions, Scope: b.Scope, For: time.Duration(b.Seconds) * time.Second})
	return &reply[api.MadeToken]{api.MadeToken{PersonalToken: renderToken(t), Secret: secret}}, err
}

func (s *Server) listTokens(_ context.Context, by keeper.Caller, in *struct {
	Credential
	User string `query:"user" maxLength:"63" doc:"whose; default: one's own"`
	All  bool   `query:"all" doc:"everybody's"`
}) (*reply[api.PersonalTokens], error) {
	list, err := s.Keeper.PersonalTokens(by, whose(by, in.User, in.All))
	return &reply[api.PersonalTokens]{api.PersonalTokens{Tokens: rendered(list, renderToken)}}, err
}

func (s *Server) revokePersonal(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.Keeper.EndPersonalToken(ctx, by, in.ID)
}

func renderToken(t keeper.PersonalToken) api.PersonalToken {
	return api.PersonalToken{ID: t.ID, Name: t.Name, User: t.User, Actions: t.Actions, Scope: t.Scope, Made: t.Made, Expires: t.Expires, Used: t.Used}
}
