package web

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
)

// The URNs of RFC 8693, and the one for a deployment's handle, which stands in
// the place of an actor token: it proves that the caller is the job that claimed
// the deployment.
const (
	grantTypeExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypeJWT      = "urn:ietf:params:oauth:token-type:jwt"
	tokenTypeID       = "urn:ietf:params:oauth:token-type:id_token"
	tokenTypeHandle   = "urn:lockkeeper:params:oauth:token-type:handle"
	deploymentURN     = "urn:lockkeeper:deployment:"
)

// exchangeForm is the parameters that the token endpoint knows. Any other, and
// any given twice, is refused. There is no scope to be had: one that is asked for
// is refused with the code that OAuth has for it.
var exchangeForm = []string{"grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "audience", "resource", "requested_token_type", "scope"}

// exchange is the token endpoint: RFC 8693. subject_token is the CI platform's
// token, actor_token the deployment's handle, resource the deployment's URN, and
// audience what the new token is for.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) {
	f, err := s.form(w, r, exchangeForm...)
	if err != nil {
		s.oauthError(w, r, "invalid_request", err)
		return
	}
	if f["grant_type"] != grantTypeExchange {
		s.oauthError(w, r, "unsupported_grant_type", lockkeeper.Invalid.Errorf("grant_type_unknown", "The grant type is not %s.", grantTypeExchange))
		return
	}
	if f["scope"] != "" {
		s.oauthError(w, r, "invalid_scope", lockkeeper.Invalid.Errorf("scope_unknown", "Tokens have no scopes: what an identity may do is the target's to say.").
			WithNext("Leave scope out, and name the target with audience."))
		return
	}
	id, isDeployment := strings.CutPrefix(f["resource"], deploymentURN)
	switch {
	case f["subject_token"] == "" || f["subject_token_type"] != tokenTypeJWT && f["subject_token_type"] != tokenTypeID:
		err = lockkeeper.Invalid.Errorf("subject_token_missing", "subject_token must be the CI platform's token, with the type %s.", tokenTypeJWT)
	case f["actor_token"] == "" || f["actor_token_type"] != tokenTypeHandle:
		err = lockkeeper.Invalid.Errorf("handle_missing", "actor_token must be the deployment's handle, with the type %s.", tokenTypeHandle)
	case !isDeployment || !deploymentID(id):
		err = lockkeeper.Invalid.Errorf("resource_missing", "resource must be %s and the deployment's id.", deploymentURN)
	case f["requested_token_type"] != "" && f["requested_token_type"] != tokenTypeJWT:
		err = lockkeeper.Invalid.Errorf("token_type_unknown", "Only tokens of the type %s are handed out.", tokenTypeJWT)
	}
	if err != nil {
		s.oauthError(w, r, "invalid_request", err)
		return
	}
	job, err := s.workload(r.Context(), identity.Credential{Token: f["subject_token"], Access: r.Header.Get("Lockkeeper-Access-Token")}, "")
	if err != nil {
		s.oauthError(w, r, "invalid_request", err)
		return
	}
	t, err := s.Keeper.Exchange(r.Context(), job, id, f["actor_token"], f["audience"])
	if err != nil {
		s.oauthError(w, r, oauthCode(err), err)
		return
	}
	s.metrics.exchanged()
	writeJSON(w, http.StatusOK, map[string]any{"access_token": t.JWT, "issued_token_type": tokenTypeJWT, "token_type": "N_A", "expires_in": int(t.Life.Seconds())})
}

// form reads a form whose parameters are known and stand once.
func (s *Server) form(w http.ResponseWriter, r *http.Request, known ...string) (map[string]string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxHeader)
	if err := r.ParseForm(); err != nil || len(r.URL.RawQuery) > 0 {
		return nil, lockkeeper.Invalid.Errorf("form_malformed", "The request is no form of at most %d bytes, or has parameters in its URL.", maxHeader)
	}
	out := map[string]string{}
	for name, values := range r.PostForm {
		if !slices.Contains(known, name) {
			return nil, lockkeeper.Invalid.Errorf("parameter_unknown", "%s is unknown.", parameterName(name)).WithNext("Send only: %s.", strings.Join(known, ", "))
		}
		if len(values) != 1 {
			return nil, lockkeeper.Invalid.Errorf("parameter_twice", "The parameter %q stands %d times.", name, len(values))
		}
		out[name] = values[0]
	}
	return out, nil
}

// parameterName names a parameter that is unknown, unless it reads like a value: a
// token that was sent without its name must not come back.
func parameterName(s string) string {
	if len(s) > 30 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "A parameter"
	}
	return "The parameter " + s
}

// oauthCode is the error of RFC 8693, section 2.2.2, and RFC 6749, section 5.2,
// that a refusal becomes: a token that does not fit or that policy refuses is
// invalid_request, a target that may not be had invalid_target.
func oauthCode(err error) string {
	r := lockkeeper.RefusalOf(err)
	switch {
	case r == nil || r.Kind == lockkeeper.Unavailable:
		return "temporarily_unavailable"
	case r.Code == "audience_not_admitted":
		return "invalid_target"
	}
	return "invalid_request"
}

// clientCode is oauthCode where callers authenticate for themselves: who shows no
// credential that holds is answered 401 invalid_client (RFC 6749, section 5.2;
// RFC 7662, section 2.3).
func clientCode(err error) string {
	if lockkeeper.KindOf(err) == lockkeeper.Unauthenticated {
		return "invalid_client"
	}
	return oauthCode(err)
}

func (s *Server) oauthError(w http.ResponseWriter, r *http.Request, code string, err error) {
	p := s.problem(r.Context(), err)
	status := http.StatusBadRequest
	switch {
	case p.Status >= 500:
		status, code = p.Status, "temporarily_unavailable"
	case code == "invalid_client":
		status = http.StatusUnauthorized
	}
	body := map[string]any{"error": code, "error_description": p.Detail, "code": p.Code}
	for k, v := range map[string]string{"next": p.Next, "field": p.Field, "instance": p.Instance} {
		if v != "" {
			body[k] = v
		}
	}
	if p.Decision != nil {
		body["decision"] = p.Decision
	}
	writeJSON(w, status, body)
}

// wellKnownCache lets caches serve the key set for a day while the server is
// away (RFC 5861). A key is published for as long before it signs.
const wellKnownCache = "public, max-age=300, stale-if-error=86400"

// discovery is the OpenID discovery document: what targets need to verify our
// tokens, and no more.
func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) { discovery(w, s.URL) }

func discovery(w http.ResponseWriter, url string) {
	w.Header().Set("Cache-Control", wellKnownCache)
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": url, "jwks_uri": url + "/.well-known/jwks.json", "token_endpoint": url + "/oauth/token",
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256", "RS256"}, "grant_types_supported": []string{grantTypeExchange},
		"introspection_endpoint": url + "/oauth/introspect", "revocation_endpoint": url + "/oauth/revoke",
	})
}

func (s *Server) keySet(w http.ResponseWriter, r *http.Request) {
	set, err := s.Keeper.KeySet()
	if err != nil {
		writeProblem(w, s.problem(r.Context(), err))
		return
	}
	keySet(w, set)
}

func keySet(w http.ResponseWriter, set []byte) {
	w.Header().Set("Cache-Control", wellKnownCache)
	w.Header().Set("Content-Type", "application/json")
	w.Write(set)
}

// KeysOnly serves discovery and a key set that was written down before, while the
// store cannot be used: tokens that were handed out can still be verified.
// Everything else is Unavailable, for the cause.
func KeysOnly(url string, set []byte, cause error) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { discovery(w, url) })
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { keySet(w, set) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p := api.ProblemOf(lockkeeper.Unavailable.Errorf("store_down", "The server cannot use its store and decides nothing; only its key set is served.").
			WithNext("Look at the server's log: it says why.").WithCause(cause), "")
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(p.Status)
		json.NewEncoder(w).Encode(p) // the caller has gone if this fails
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: readTimeout, WriteTimeout: readTimeout, MaxHeaderBytes: maxHeader}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // the caller has gone if this fails
}
