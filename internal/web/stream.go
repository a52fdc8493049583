package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Bounds of one stream. A client that wants more opens another: it says with
// Last-Event-ID what it saw last.
const (
	longestStream = 15 * time.Minute
	streamPulse   = 15 * time.Second
)

// events streams a deployment's progress as server-sent events (WHATWG HTML,
// section 9.2): an event "deployment" with the same JSON as the deployment's own
// address whenever it differs, with what was seen as its id, until it has ended.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !deploymentID(id) {
		id = "" // which nobody has
	}
	by, err := s.reader(r.Context(), r.Header.Get("Authorization"), id)
	if err == nil {
		_, err = s.Keeper.Deployment(r.Context(), by, id)
	}
	if err != nil {
		writeProblem(w, s.problem(r.Context(), err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	ctx, cancel := s.patience(r.Context(), longestStream)
	defer cancel()
	control := http.NewResponseController(w)
	seen := r.Header.Get("Last-Event-ID")
	for ctx.Err() == nil {
		wait, done := context.WithTimeout(ctx, streamPulse)
		v, err := s.Keeper.WaitDeployment(wait, by, id, seen)
		done()
		if err != nil {
			s.send(w, control, "problem", "", s.problem(ctx, err))
			return
		}
		if now := v.Seen(); now != seen {
			seen = now
			err = s.send(w, control, "deployment", seen, s.render(v))
		} else {
			err = s.send(w, control, "", "", nil) // a pulse, so that proxies keep the line open
		}
		if err != nil || v.End != nil {
			return
		}
	}
}

// send writes one event, or a comment where there is none, and flushes it.
func (s *Server) send(w http.ResponseWriter, control *http.ResponseController, event, id string, data any) error {
	if err := control.SetWriteDeadline(time.Now().Add(2 * streamPulse)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	text := ": pulse\n\n"
	if event != "" {
		b, err := json.Marshal(data) // one line: JSON escapes line ends
		if err != nil {
			return err
		}
		text = fmt.Sprintf("event: %s\nid: %s\ndata: %s\n\n", event, id, b)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return control.Flush()
}

// describeEvents puts the stream into the API's description: it is no operation
// of the library's own kind.
func (s *Server) describeEvents() {
	s.spec.OpenAPI().AddOperation(&huma.Operation{OperationID: "deployment-events", Method: http.MethodGet, Path: "/api/v1/deployments/{id}/events",
		Summary: "A deployment's progress as server-sent events",
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}},
			{Name: "Authorization", In: "header", Schema: &huma.Schema{Type: "string"}}, {Name: "Last-Event-ID", In: "header", Description: "what was seen last", Schema: &huma.Schema{Type: "string"}}},
		Responses: map[string]*huma.Response{"200": {Description: "events named deployment, with the JSON of the deployment", Content: map[string]*huma.MediaType{"text/event-stream": {}}}}})
}

// introspect is RFC 7662 for tokens of ours: whoever may read the token's
// deployment, or shows its handle, learns whether the token still stands.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	token, by, err := s.tokenForm(w, r)
	if err != nil {
		s.oauthError(w, r, clientCode(err), err)
		return
	}
	answer, err := s.Keeper.Introspect(r.Context(), by, token)
	if err != nil {
		s.oauthError(w, r, clientCode(err), err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// revoke is RFC 7009: a token that is not ours or has ended is no error.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	token, by, err := s.tokenForm(w, r)
	if err == nil {
		err = s.Keeper.Revoke(r.Context(), by, token)
	}
	if err != nil {
		s.oauthError(w, r, clientCode(err), err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// tokenForm reads the form of both, and who sends it.
func (s *Server) tokenForm(w http.ResponseWriter, r *http.Request) (string, keeper.Caller, error) {
	f, err := s.form(w, r, "token", "token_type_hint")
	if err != nil {
		return "", keeper.Caller{}, err
	}
	if f["token"] == "" {
		return "", keeper.Caller{}, lockkeeper.Invalid.Errorf("token_missing", "The parameter token is missing.")
	}
	by, err := s.reader(r.Context(), r.Header.Get("Authorization"), s.Keeper.TokenDeployment(f["token"]))
	return f["token"], by, err
}
