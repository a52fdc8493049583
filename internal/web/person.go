package web

import (
	"context"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (c Credential) credential() string { return c.Authorization }

// people registers an operation that is for people: whoever calls has signed in, or is
// refused before anything of the request is looked at.
func people[In, Out any, P interface {
	*In
	credential() string
}](s *Server, method, path, id, summary string, f func(context.Context, keeper.Caller, *In) (*Out, error)) {
	route(s, method, path, id, summary, func(ctx context.Context, in *In) (*Out, error) {
		by, err := s.person(P(in).credential())
		if err != nil {
			return nil, err
		}
		return f(ctx, by, in)
	})
}

// rendered is a list as the API shows it, [] if it is empty.
func rendered[A, B any](list []A, render func(A) B) []B {
	out := make([]B, 0, len(list))
	for _, x := range list {
		out = append(out, render(x))
	}
	return out
}

// whose is the user that a list is asked for: the one who is named, everybody (""), or
// the caller.
func whose(by keeper.Caller, user string, all bool) string {
	if user == "" && !all {
		return by.User
	}
	return user
}
