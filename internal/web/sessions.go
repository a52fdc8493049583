package web

import (
	"context"

	"github.com/lockkeeper/lockkeeper/api"
)

func (s *Server) listSessions(_ context.Context, in *struct {
	Credential
	User string `query:"user" maxLength:"63" doc:"whose; default: one's own"`
	All  bool   `query:"all" doc:"everybody's"`
}) (*reply[api.Sessions], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	user := in.User
	if user == "" && !in.All {
		user = by.User
	}
	list, err := s.Keeper.Sessions(by, user)
	out := api.Sessions{Sessions: []api.SignedIn{}}
	for _, x := range list {
		out.Sessions = append(out.Sessions, api.SignedIn{ID: x.ID, User: x.User, Directory: x.Directory, Started: x.Started, Authenticated: x.Authenticated, Strong: x.Strong,
			Used: x.Used, Expires: x.Expires, Current: x.ID == by.Session})
	}
	return &reply[api.Sessions]{out}, err
}

func (s *Server) endSession(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*struct{}, error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	return nil, s.Keeper.EndSession(ctx, by, in.ID)
}
