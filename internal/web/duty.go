package web

import (
	"context"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Credentials makes what people sign in with on systems that their activations
// opened. The keeper has allowed and recorded each before it is made.
type Credentials interface {
	Credential(ctx context.Context, by keeper.Caller, activation, provisioner string) (keeper.Credential, error)
	Certificate(ctx context.Context, by keeper.Caller, activation, provisioner, publicKey string) (keeper.Certificate, error)
}

// registerDuties is the table of what is opened outside, and has to be undone.
func (s *Server) registerDuties() {
	route(s, http.MethodGet, "/duties", "list-duties", "What is opened outside and has to be undone: one's own, and what one may see", s.duties)
	route(s, http.MethodGet, "/duties/{id}", "duty", "One duty, open or over", s.duty)
	route(s, http.MethodPost, "/duties/{id}/attest", "attest-duty", "Give one's word that what is owed was removed by hand", s.attest)
	route(s, http.MethodPost, "/activations/{id}/credential", "credential", "A new login to the database that one's activation opened", s.credential)
	route(s, http.MethodPost, "/activations/{id}/certificate", "certificate", "A certificate for the hosts that one's activation opened", s.certificate)
}

func (s *Server) duties(ctx context.Context, in *struct {
	Credential
	Forced bool `query:"forced" doc:"those that were closed on the word of two persons, newest first, at most 200"`
}) (*reply[api.Duties], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	var list []keeper.DutyView
	if in.Forced {
		list, err = s.Keeper.ForcedDuties(ctx, by)
	} else {
		list, err = s.Keeper.Duties(by)
	}
	out := api.Duties{Duties: []api.Duty{}}
	for _, d := range list {
		out.Duties = append(out.Duties, renderDuty(d))
	}
	return &reply[api.Duties]{out}, err
}

func (s *Server) duty(ctx context.Context, in *struct {
	Credential
	ID string `path:"id" maxLength:"63"`
}) (*reply[api.Duty], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	v, err := s.Keeper.DutyByID(ctx, by, in.ID)
	return &reply[api.Duty]{renderDuty(v)}, err
}

func (s *Server) attest(ctx context.Context, in *about[api.Attest]) (*reply[api.Attested], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	closed, err := s.Keeper.AttestDuty(ctx, by, in.ID, in.Body.Comment)
	return &reply[api.Attested]{api.Attested{ID: in.ID, Closed: closed}}, err
}

func (s *Server) credential(ctx context.Context, in *about[api.AskCredential]) (*reply[api.Credential], error) {
	by, err := s.person(in.Authorization)
	if err == nil {
		err = s.makes()
	}
	if err != nil {
		return nil, err
	}
	c, err := s.Credentials.Credential(ctx, by, in.ID, in.Body.Provisioner)
	return &reply[api.Credential]{api.Credential(c)}, err
}

func (s *Server) certificate(ctx context.Context, in *about[api.AskCertificate]) (*reply[api.Certificate], error) {
	by, err := s.person(in.Authorization)
	if err == nil {
		err = s.makes()
	}
	if err != nil {
		return nil, err
	}
	c, err := s.Credentials.Certificate(ctx, by, in.ID, in.Body.Provisioner, in.Body.PublicKey)
	return &reply[api.Certificate]{api.Certificate(c)}, err
}

// makes refuses on a server without workers.
func (s *Server) makes() error {
	if s.Credentials == nil {
		return lockkeeper.Unavailable.Errorf("workers_missing", "This server runs without provisioners, so it makes no credentials.").WithNext("Ask whoever runs it to name the folder of their secrets: serve --provisioners DIR")
	}
	return nil
}

func renderDuty(v keeper.DutyView) api.Duty {
	d := api.Duty{ID: v.ID, Activation: v.Activation, User: v.User, Provisioner: v.Provisioner, Kind: v.Terms.Kind(), Scope: v.Terms.Scope, Account: v.Account, Status: v.Stands,
		Taken: v.Taken, Ends: v.Ends, Over: v.Over, Attempts: v.Attempt, Failures: v.Failures, Code: v.Code, Reason: v.Reason, Retry: v.Retry, Credentials: v.Credentials, Outside: v.Outside, Attested: []api.Attestation{}}
	attested := v.Attested
	if v.End != nil {
		d.Ended, d.Covered, attested = v.End.At, v.End.Covered, v.End.Attested
	}
	for _, a := range attested {
		d.Attested = append(d.Attested, api.Attestation{User: a.User, At: a.At, Comment: a.Comment})
	}
	return d
}

func renderOpenings(list []keeper.Opening) (out []api.Opening) {
	for _, o := range list {
		out = append(out, api.Opening{Provisioner: o.Provisioner, Kind: o.Kind})
	}
	return out
}
