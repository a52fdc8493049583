package web

import (
	"context"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) listSessions(_ context.Context, by keeper.Caller, in *struct {
	Credential
	User string `query:"user" maxLength:"63" doc:"whose; default: one's own"`
	All  bool   `query:"all" doc:"everybody's"`
}) (*reply[api.Sessions], error) {
	list, err := s.Keeper.Sessions(by, whose(by, in.User, in.All))
	out := api.Sessions{Sessions: []api.SignedIn{}}
	for _, x := range list {
		out.Sessions = append(out.Sessions, api.SignedIn{ID: x.ID, User: x.User, Directory: x.Directory, Started: x.Started, Authenticated: x.Authenticated, Strong: x.Strong,
			Used: x.Used, Expires: x.Expires, Current: x.ID == by.Session})
	}
	return &reply[api.Sessions]{out}, err
}

func (s *Server) endSession(ctx context.Context, by keeper.Caller, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.Keeper.EndSession(ctx, by, in.ID)
}
