// Package web is the HTTP edge: the REST API, the OAuth endpoints, health and
// metrics. It authenticates who calls, hands the ask to the keeper, and renders
// what the keeper decided. It decides nothing itself.
//
// Five kinds of bearer come to it: a session's secret (lkp_…), a personal token
// (lkt_…), the handle of a deployment (lkh_…), a directory's token (lkd_…, for
// /scim/v2 alone), and a CI platform's OIDC token (anything else).
package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Options are what a server is made of. All but Log are needed.
type Options struct {
	Keeper   *keeper.Keeper
	Verifier *identity.Verifier
	SignIns  *identity.SignIn // default: one that reaches what the catalog names
	// Secret is the client secret of a directory; "": it is a public client. nil:
	// all are.
	Secret  func(directory string) (string, error)
	URL     string // under which targets and pipelines reach it: the issuer
	Version string
	Log     *slog.Logger

	// Policies is what is wrong with the policies of a catalog; nil: the server takes none.
	Policies func(ctx context.Context, c *catalog.Catalog) catalog.Problems

	// Credentials makes what people sign in with outside; nil: this server makes none.
	Credentials Credentials

	// AppSecret is what a provider's platform signs its messages to Lockkeeper's
	// application with; nil: none are taken.
	AppSecret func(provider string) (string, error)
	// ReadHeld reads a run that a platform holds, with the access that its message has
	// brought; nil: no platform can take its answer from the response.
	ReadHeld func(ctx context.Context, a keeper.HoldAsked, access string) (job lockkeeper.Workload, held bool, err error)

	// Exposed says that the listener takes what comes from other machines, though
	// the URL may be a loopback one.
	Exposed bool
	// Proxied says that every request comes through a proxy, which adds the
	// client's address to X-Forwarded-For. Without it that header is anybody's word.
	Proxied bool
}

// Fit refuses a catalog whose providers are asked for their keys, or about their
// runs, in the clear, unless nobody but this machine reaches the server: http is
// for trying it out. It is asked at the start and before a catalog is applied.
func (o Options) Fit(c *catalog.Catalog) error {
	if u, err := url.Parse(o.URL); err == nil && !o.Exposed && loopback(u.Hostname()) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.Directories)) {
		if issuer := c.Directories[name].IssuerURL(); strings.HasPrefix(issuer, "http:") {
			return lockkeeper.Invalid.Errorf("issuer_in_the_clear", "The directory %s is reached in the clear at %s, and this server is no loopback one: whoever sits between could sign in as anybody.", name, issuer).
				WithNext("Write its https address. To try it out, let the server listen, and be reached, on a loopback address only: serve --listen 127.0.0.1:8420, without --url.").
				WithField("Directory " + name + ": issuer")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		field, address := "issuer", c.Providers[name].Issuer
		if !strings.HasPrefix(address, "http:") {
			field, address = "api", c.Providers[name].API
		}
		if strings.HasPrefix(address, "http:") {
			return lockkeeper.Invalid.Errorf("issuer_in_the_clear", "The provider %s is reached in the clear at %s, and this server is no loopback one: whoever sits between could make every token.", name, address).
				WithNext("Write its https address. To try it out, let the server listen, and be reached, on a loopback address only: serve --listen 127.0.0.1:8420, without --url.").
				WithField("Provider " + name + ": " + field)
		}
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A Server serves one keeper.
type Server struct {
	Options
	metrics *metrics
	handler http.Handler
	spec    huma.API

	underway *underway // sign-ins
	shows    *shows    // passkeys

	leaving     context.Context // done when the server stops: whoever only waits is answered
	leave       context.CancelFunc
	revocations revocations
}

// Limits of one request.
const (
	maxBody      = 1 << 20
	maxCatalog   = 24 << 20
	maxHeader    = 64 << 10
	readTimeout  = 30 * time.Second
	longestWait  = 60 * time.Second
	writeTimeout = longestWait + 30*time.Second
)

// New makes a server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{Options: o, metrics: newMetrics(o.Keeper)}
	s.underway, s.shows = newUnderway(), newShows()
	if s.SignIns == nil {
		s.SignIns = identity.NewSignIn(nil)
	}
	s.leaving, s.leave = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	nameErrors()
	config := huma.DefaultConfig("Lockkeeper", o.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/api/v1/openapi", "", ""
	config.CreateHooks = nil // no $schema links in replies
	s.spec = humago.New(mux, config)
	s.register()
	s.registerSignIn(mux)
	s.registerPasskeys(mux)
	s.registerLinks(mux)
	s.registerScim(mux)
	mux.HandleFunc("POST /hooks/{platform}/{provider}", s.hook)
	mux.HandleFunc("POST /oauth/token", s.exchange)
	mux.HandleFunc("POST /oauth/introspect", s.introspect)
	mux.HandleFunc("POST /oauth/revoke", s.revoke)
	mux.HandleFunc("POST /callbacks/{token}", s.callback)
	mux.HandleFunc("GET /api/v1/deployments/{id}/events", s.events)
	s.describeEvents()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.discovery)
	mux.HandleFunc("GET /.well-known/jwks.json", s.keySet)
	mux.HandleFunc("GET /healthz", s.ready) // a keeper that has stopped is mended by a restart only
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.metrics.handler())
	s.handler = s.outer(mux)
	return s
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Spec is the API as OpenAPI 3.1 JSON.
func (s *Server) Spec() ([]byte, error) { return json.MarshalIndent(s.spec.OpenAPI(), "", "  ") }

// HTTP is the server with its time-outs, for a listener.
func (s *Server) HTTP() *http.Server {
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn)}
	h.RegisterOnShutdown(s.leave)
	return h
}

// patience bounds how long a request waits for something to differ: it ends when
// the caller goes, after d, and when the server stops.
func (s *Server) patience(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d)
	stop := context.AfterFunc(s.leaving, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// outer is what every request passes: headers that keep a browser from doing
// anything with a reply, a count, and a line in the log without any secret. A
// refusal is counted, and its code stands in that line: for callers whom nobody
// vouches for, that is the only record.
func (s *Server) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if s.Proxied {
			r.RemoteAddr = forwarded(r)
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		seen := &outcome{}
		r = r.WithContext(context.WithValue(r.Context(), outcomeKey{}, seen))
		sw := &statusWriter{ResponseWriter: w, request: r, status: http.StatusOK}
		next.ServeHTTP(sw, r)
		route := r.Pattern
		if route == "" {
			route = "unmatched"
		}
		took := time.Since(start)
		s.metrics.request(route, sw.status, took)
		line := []any{"route", route, "status", sw.status, "took", took}
		if seen.code != "" {
			s.metrics.refusal(seen.code)
			line = append(line, "code", seen.code)
		}
		s.Log.Info("request", line...)
	})
}

// An outcome is what a request leaves for its line in the log. The goroutine
// that serves the request fills it in.
type outcome struct{ code string } // of the refusal; "": there was none

type outcomeKey struct{}

// refused leaves the code of a refusal for the line of the request. Codes are
// constants of ours, never a caller's text.
func refused(ctx context.Context, code string) {
	if seen, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		seen.code = code
	}
}

// A statusWriter keeps the status, and puts a problem in the place of the text
// that the mux answers where no route takes the request.
type statusWriter struct {
	http.ResponseWriter
	request *http.Request
	status  int
	done    bool // a problem was written; what follows is the mux's text
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	h := w.Header()
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="lockkeeper"`) // RFC 9110, section 15.5.2
	}
	if w.request.Pattern != "" || status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	p := unrouted(status, h.Get("Allow"))
	refused(w.request.Context(), p.Code)
	w.done = true
	writeProblem(w.ResponseWriter, p)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.done {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}

// unrouted is the problem of an address that is none, or of a method that it
// does not take.
func unrouted(status int, allow string) *api.Problem {
	p := &api.Problem{Type: "about:blank", Title: lockkeeper.NotFound.String(), Status: status, Code: "route_unknown",
		Detail: "There is nothing at this address.", Next: "Compare it with /api/v1/openapi.json."}
	if status == http.StatusMethodNotAllowed {
		p.Title, p.Code, p.Detail, p.Next = lockkeeper.Invalid.String(), "method_not_allowed", "This address does not take the method.", "Use one of: "+allow+"."
	}
	return p
}

// writeProblem answers with a problem (RFC 9457).
func writeProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the caller has gone if this fails
}

// Unwrap lets http.ResponseController reach the real writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.Keeper.Fault(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ready\n"))
}

// problem renders an error for the caller, logs its cause, and leaves its code
// for the line of the request.
func (s *Server) problem(ctx context.Context, err error) *api.Problem {
	id := ""
	if r := lockkeeper.RefusalOf(err); r == nil {
		b := make([]byte, 8)
		rand.Read(b)
		id = hex.EncodeToString(b)
		s.Log.Error("internal error", "id", id, "error", err)
	} else if r.Cause != nil {
		s.Log.Warn("refused", "code", r.Code, "cause", r.Cause)
	}
	p := api.ProblemOf(err, id)
	lines := errors.As(err, new(catalog.Problems)) // a report of its own lines
	for _, text := range []*string{&p.Detail, &p.Next, &p.Field} {
		*text = plain(*text, lines)
	}
	refused(ctx, p.Code)
	return p
}

// plain replaces what would steer a terminal, break a line or turn a text round
// where somebody prints it: a caller chose parts of it.
func plain(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control) && !(lines && r == '\n') {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// bearer is the token of an Authorization header.
func bearer(header string) (string, error) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", lockkeeper.Unauthenticated.Errorf("credential_missing", "The request has no bearer token.").
			WithNext("Sign in (lockkeeper login), or send the CI platform's token.")
	}
	return token, nil
}

// person is the person whose session the header carries.
func (s *Server) person(header string) (keeper.Caller, error) {
	token, err := bearer(header)
	if err != nil {
		return keeper.Caller{}, err
	}
	return s.Keeper.Authenticate(token)
}

// reader is whoever may look at a deployment: a person or its holder.
func (s *Server) reader(ctx context.Context, header, id string) (keeper.Caller, error) {
	token, err := bearer(header)
	if err != nil {
		return keeper.Caller{}, err
	}
	if strings.HasPrefix(token, api.HandlePrefix) {
		return s.Keeper.Holder(ctx, id, token)
	}
	return s.Keeper.Authenticate(token)
}

// job is the workload that a CI platform's token vouches for. suffix is what
// the token's audience must have behind the server's own.
func (s *Server) job(ctx context.Context, c JobCredential, suffix string) (lockkeeper.Workload, error) {
	token, err := bearer(c.Authorization)
	if err != nil {
		return lockkeeper.Workload{}, err
	}
	return s.workload(ctx, identity.Credential{Token: token, Access: c.Access}, suffix)
}

func (s *Server) workload(ctx context.Context, c identity.Credential, suffix string) (lockkeeper.Workload, error) {
	return s.Verifier.Workload(ctx, s.issuers(suffix), c, lockkeeper.MomentOf(time.Now()))
}

// issuers are the CI platforms of the catalog in force. The server itself is none
// of them: no such catalog is applied, but a server may have got another URL since,
// or the catalog may be of an older release.
func (s *Server) issuers(suffix string) []identity.Issuer {
	var out []identity.Issuer
	for _, p := range s.Keeper.Rules().Catalog.Providers {
		if keeper.SameIssuer(p.Issuer, s.URL) {
			continue
		}
		i := identity.Issuer{Provider: p.Name, Platform: p.Platform, URL: p.Issuer, Audience: s.audienceOf(p) + suffix,
			Algorithms: p.AcceptedAlgorithms(), Longest: p.LongestLife(), API: p.API, Claims: map[string]string{}}
		for _, c := range p.Claims {
			i.Claims[c.Fact] = c.Claim
		}
		out = append(out, i)
	}
	return out
}

// audienceOf is what a provider's tokens must be for.
func (s *Server) audienceOf(p catalog.Provider) string {
	switch {
	case p.Audience != "":
		return p.Audience
	case p.Platform == catalog.Azure:
		return catalog.AzureAudience
	}
	return s.URL
}

// forwarded is the address that the proxy before the server saw: the last one of
// X-Forwarded-For. What stands before it was sent by the client, who may write
// what he likes. Where the proxy adds none, it is the proxy's own.
func forwarded(r *http.Request) string {
	all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	last := strings.TrimSpace(all[len(all)-1])
	if ip, err := netip.ParseAddr(strings.Trim(last, "[]")); err == nil {
		return ip.Unmap().String()
	}
	if at, err := netip.ParseAddrPort(last); err == nil { // some add the port
		return at.Addr().Unmap().String()
	}
	return r.RemoteAddr
}

// source is where a request comes from, for limits.
func source(r string) string {
	host, _, err := net.SplitHostPort(r)
	if err != nil {
		return r
	}
	return host
}
