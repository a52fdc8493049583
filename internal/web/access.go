package web

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

func (s *Server) roles(_ context.Context, in *Credential) (*reply[api.Roles], error) {
	list, err := s.readRoles(*in)
	return &reply[api.Roles]{api.Roles{Roles: list}}, err
}

func (s *Server) role(_ context.Context, in *struct {
	Credential
	Name string `path:"name" maxLength:"63"`
}) (*reply[api.Role], error) {
	list, err := s.readRoles(in.Credential)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		if r.Name == in.Name {
			return &reply[api.Role]{r}, nil
		}
	}
	return nil, lockkeeper.NotFound.Errorf("role_unknown", "The catalog has no role %.60q.", in.Name).WithNext("List them: GET /api/v1/roles, or lockkeeper catalog roles")
}

// readRoles lists the roles in force, for whoever may read the catalog.
func (s *Server) readRoles(c Credential) ([]api.Role, error) {
	by, err := s.person(c.Authorization)
	if err != nil {
		return nil, err
	}
	if err := s.Keeper.MayReadCatalog(by); err != nil {
		return nil, err
	}
	builtIn := map[string]bool{}
	for _, r := range catalog.BuiltInRoles() {
		builtIn[r.Name] = true
	}
	roles := s.Keeper.Rules().Catalog.Roles
	out := []api.Role{}
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		r := roles[name]
		out = append(out, api.Role{Name: name, Title: r.Title, Actions: r.Actions, NotActions: append([]lockkeeper.ActionPattern{}, r.NotActions...), Scopes: r.Scopes, BuiltIn: builtIn[name]})
	}
	return out, nil
}

// can answers about a user or a group. The keeper says whether the caller may
// ask: about himself he may; about others, and about a group, it takes access/read.
func (s *Server) can(ctx context.Context, in *struct {
	Credential
	Principal string `query:"principal" maxLength:"69" doc:"user:NAME or group:NAME"`
	User      string `query:"user" maxLength:"63" doc:"a user's name, in the place of principal"`
	Action    string `query:"action" required:"true" maxLength:"100"`
	Scope     string `query:"scope" required:"true" maxLength:"600"`
	Instant
}) (*reply[api.Can], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	who, user, err := principal(in.Principal, in.User)
	if err != nil {
		return nil, err
	}
	action, scope, err := question(in.Action, in.Scope)
	if err != nil {
		return nil, err
	}
	if in.At != "" {
		past, then, err := s.past(ctx, by, in.Instant)
		if err != nil {
			return nil, err
		}
		d, paths := past.Explain(who, action, scope)
		if user != "" {
			d = past.Can(user, action, scope)
		}
		return &reply[api.Can]{api.Can{Decision: d, Principal: who.String(), Paths: renderPaths(paths), Missing: past.Missing(scope), Then: then}}, nil
	}
	verdict, err := s.Keeper.Can(by, user, action, scope)
	if err != nil {
		return nil, err
	}
	d, paths := s.Keeper.Rules().Access.Explain(who, action, scope, lockkeeper.MomentOf(time.Now()))
	if user != "" {
		d = verdict // which knows what he has activated, too
	}
	return &reply[api.Can]{api.Can{Decision: d, Principal: who.String(), Paths: renderPaths(paths), Missing: s.Keeper.Missing(by, scope)}}, nil
}

// Instant is the parameter of a question about the past.
type Instant struct {
	At string `query:"at" maxLength:"40" doc:"an instant in the past that is asked about, such as 2026-11-24T21:00:00Z; it takes access/read at /"`
}

// past answers questions about an instant.
func (s *Server) past(ctx context.Context, by keeper.Caller, in Instant) (keeper.Past, api.Then, error) {
	t, err := time.Parse(time.RFC3339Nano, in.At)
	if err != nil {
		return keeper.Past{}, api.Then{}, lockkeeper.Invalid.Errorf("moment_malformed", "%.40q is no instant.", in.At).WithNext("Write it as 2026-11-24T21:00:00Z.")
	}
	p, err := s.Keeper.Past(ctx, by, lockkeeper.MomentOf(t))
	return p, api.Then{At: p.At, Revision: &p.Revision}, err
}

func renderPaths(paths []keeper.Path) []api.Path {
	out := []api.Path{}
	for _, p := range paths {
		if p.Groups == nil {
			p.Groups = []string{}
		}
		out = append(out, api.Path(p))
	}
	return out
}

func (s *Server) whatCan(ctx context.Context, in *struct {
	Credential
	Principal string `query:"principal" required:"true" maxLength:"69" doc:"user:NAME or group:NAME"`
	Instant
}) (*reply[api.WhatCan], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	who, _, err := principal(in.Principal, "")
	if err != nil {
		return nil, err
	}
	var past keeper.Past
	var then api.Then
	ask := func() ([]keeper.Path, []keeper.Activation, error) { return s.Keeper.WhatCan(by, who) }
	if in.At != "" {
		if past, then, err = s.past(ctx, by, in.Instant); err != nil {
			return nil, err
		}
		ask = func() ([]keeper.Path, []keeper.Activation, error) { return past.WhatCan(who) }
	}
	held, active, err := ask()
	if err != nil {
		return nil, err
	}
	out := api.WhatCan{Principal: who.String(), Holds: renderPaths(held), Activations: []api.Activation{}, Then: then}
	for _, a := range active {
		out.Activations = append(out.Activations, renderActivation(a))
	}
	return &reply[api.WhatCan]{out}, nil
}

// principal reads whom a question is about, and gives his name if it is a user.
func principal(who, user string) (p lockkeeper.Principal, name string, err error) {
	if (who == "") == (user == "") {
		return p, "", lockkeeper.Invalid.Errorf("principal_missing", "The question must name a principal, once.").WithNext("Name it: principal=user:NAME or principal=group:NAME.")
	}
	if user != "" {
		return lockkeeper.Principal{Kind: lockkeeper.UserPrincipal, Name: user}, user, nil
	}
	if p, err = lockkeeper.ParsePrincipal(who); err != nil {
		return p, "", lockkeeper.Invalid.Errorf("principal_malformed", "%v.", err).WithNext("Name user:NAME or group:NAME.")
	}
	if p.Kind == lockkeeper.UserPrincipal {
		name = p.Name
	}
	return p, name, nil
}
