package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/forge"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// messages says by platform how its messages are read: whether whoever sent one proves
// that it is the platform, and which run it says it holds. One that asks for nothing is
// no error.
var messages = map[string]func(secret string, head http.Header, body []byte) (a forge.Asking, asks bool, err error){
	catalog.GitHub: githubMessage,
	catalog.GitLab: gitlabMessage,
}

// hook takes what a platform tells the application of a provider. Whoever sends it proves
// that it is the platform, or whoever else knows the secret: what it says is noted, and
// believed by nobody.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	answer, noted, err := s.message(w, r)
	switch {
	case err != nil:
		writeProblem(w, s.problem(r.Context(), err))
	case answer != nil:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		json.NewEncoder(w).Encode(answer)
	case noted:
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// message verifies one message and notes what it asks. answer is what a platform is told
// that waits for it; nil: nothing.
func (s *Server) message(w http.ResponseWriter, r *http.Request) (answer any, noted bool, err error) {
	platform := r.PathValue("platform")
	p, known := s.Keeper.Rules().Catalog.Providers[r.PathValue("provider")]
	read := messages[platform]
	if !known || read == nil && platform != catalog.Azure || p.Platform != platform || !p.Holds() || s.AppSecret == nil {
		return nil, false, lockkeeper.NotFound.Errorf("provider_unknown", "No provider of this name has an application on %.20s.", platform)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		return nil, false, lockkeeper.Limited.Errorf("message_long", "The message has more than %d bytes.", maxBody)
	}
	if err != nil {
		return nil, false, lockkeeper.Invalid.Errorf("message_malformed", "The message breaks off.")
	}
	secret, err := s.AppSecret(p.Name)
	if err != nil {
		return nil, false, err
	}
	if platform == catalog.Azure {
		answer, err = s.azureCheck(r, p, secret)
		return answer, err == nil, err
	}
	a, asks, err := read(secret, r.Header, body)
	if err != nil || !asks {
		return nil, false, err
	}
	_, err = s.Keeper.NoteHold(r.Context(), keeper.HoldAsked{Provider: p.Name, Organisation: a.Organisation, Repository: a.Repository, Place: a.Place, Run: a.Run,
		Environment: a.Environment, Installation: a.Installation, Mark: a.Mark})
	return nil, err == nil, err
}

func githubMessage(secret string, head http.Header, body []byte) (a forge.Asking, asks bool, err error) {
	if !forge.GitHubSigned(secret, head.Get("X-Hub-Signature-256"), body) {
		return a, false, lockkeeper.Unauthenticated.Errorf("signature_wrong", "The message is not signed with the application's secret.").
			WithNext("Write the same secret into the App's webhook and into the server's file.")
	}
	if head.Get("X-GitHub-Event") != "deployment_protection_rule" {
		return a, false, nil
	}
	if a, asks, err = forge.GitHubAsking(body); err != nil {
		err = lockkeeper.Invalid.Errorf("message_malformed", "The message names no run that is held.").WithCause(err)
	}
	return a, asks, err
}

func (s *Server) registerHolds() {
	route(s, http.MethodGet, "/holds", "list-holds", "Runs that CI platforms hold before environments, or held lately", s.holds)
}

func (s *Server) holds(_ context.Context, in *Credential) (*reply[api.Holds], error) {
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	out := api.Holds{Holds: []api.Hold{}}
	for _, h := range s.Keeper.HeldRuns(by) {
		job := ""
		if h.Asked.Run == "" {
			job = h.Asked.Mark
		}
		one := api.Hold{Job: job, ID: h.ID, Provider: h.Asked.Provider, Repository: h.Asked.Place, Run: h.Asked.Run, Environment: h.Asked.Environment, Noted: h.Noted, Stands: h.Stands(),
			Deployment: h.Deployment, Joined: h.Joined}
		if h.Owed != nil {
			if one.Told, one.Reason = "rejected", h.Owed.Reason; h.Owed.Approve {
				one.Told = "approved"
			}
		}
		if h.Missed != nil {
			one.Missed = h.Missed.Reason
		}
		out.Holds = append(out.Holds, one)
	}
	return &reply[api.Holds]{out}, nil
}
