package identity

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lockkeeper/lockkeeper"
	"golang.org/x/oauth2"
)

// A Directory is an identity provider that signs people in, as the catalog names
// it, with what its tokens look like.
type Directory struct {
	Name         string
	Source       string // what makes it the one that it is; goes with whom it vouches for
	Issuer       string // exact iss
	Client       string // client id
	Secret       string // of the client; "": a public one, which PKCE alone protects
	Scopes       []string
	SubjectClaim string // names an account for ever
	GroupClaim   string // where its groups stand; "": nobody asks for them
	Tenant       string // entra: tid must be this; "": any
	Domain       string // google: hd must be this; "": any
	Algorithms   []string
}

// A Flow is what one sign-in must end with: the values that its beginning chose.
type Flow struct {
	Redirect string // where the directory sends the browser
	State    string
	Nonce    string
	Verifier string // RFC 7636
	// Anew asks the person to show a credential now, and refuses a sign-in that
	// rests on an older one.
	Anew bool
}

// A Person is what a directory vouches for.
type Person struct {
	Directory     string
	Source        string // of the directory
	Subject       string
	Name          string            // what he is called there; not to be relied on
	Groups        []string          // ids; nil where nobody asked for them
	Said          lockkeeper.Moment // when the directory said so
	Authenticated lockkeeper.Moment // when he last showed a credential; zero: it does not say
	Strong        bool              // with more than a password
}

// Bounds of a sign-in.
const (
	signInSkew     = time.Minute      // between the directory's clock and ours
	signInAge      = 10 * time.Minute // from when its token was made
	freshDirectory = time.Hour        // after which its settings are read anew
	maxDirectories = 64
	maxAnswer      = 1 << 20 // bytes of one answer of a directory
	maxGroupClaims = 10_000
)

// A SignIn signs people in with OpenID Connect: authorization code with PKCE
// (RFC 6749, 7636, 9700; OpenID Connect Core 1.0). It is safe for use by many
// goroutines.
type SignIn struct {
	client *http.Client

	mu    sync.Mutex
	known map[string]*settings // by issuer
}

// settings are what a directory says of itself.
type settings struct {
	provider *oidc.Provider
	read     time.Time
	iss      bool // its answers name it (RFC 9207)
	basic    bool // it takes a client's secret in a header
}

// NewSignIn makes a SignIn. client may be nil.
func NewSignIn(client *http.Client) *SignIn {
	lean := http.Client{Timeout: 10 * time.Second}
	if client != nil {
		lean = *client
	}
	lean.Transport = bounded{lean.Transport}
	lean.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &SignIn{client: &lean, known: map[string]*settings{}}
}

// bounded cuts answers off that are longer than any that a directory gives.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	next := b.next
	if next == nil {
		next = http.DefaultTransport
	}
	answer, err := next.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	}
	return answer, err
}

// Begin is the address at the directory to which the browser goes.
func (s *SignIn) Begin(ctx context.Context, d Directory, f Flow) (string, error) {
	at, err := s.settings(ctx, d)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if f.Anew {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return s.config(at, d, f).AuthCodeURL(f.State, options...), nil
}

func (s *SignIn) config(at *settings, d Directory, f Flow) *oauth2.Config {
	endpoint := at.provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	if at.basic && d.Secret != "" {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{ClientID: d.Client, ClientSecret: d.Secret, Endpoint: endpoint, RedirectURL: f.Redirect, Scopes: d.Scopes}
}

// settings reads what the directory says of itself, and keeps it for a while.
func (s *SignIn) settings(ctx context.Context, d Directory) (*settings, error) {
	s.mu.Lock()
	at := s.known[d.Issuer]
	s.mu.Unlock()
	if at != nil && time.Since(at.read) < freshDirectory {
		return at, nil
	}
	// The provider goes on to use its context, for the keys.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), s.client), d.Issuer)
	if err != nil {
		return nil, directoryAway(d, err)
	}
	var more struct {
		Iss     bool     `json:"authorization_response_iss_parameter_supported"`
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, directoryAway(d, err)
	}
	for _, address := range []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL} {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" && !strings.HasPrefix(d.Issuer, u.Scheme+"://") {
			return nil, directoryAway(d, fmt.Errorf("its endpoint %.200q is in the clear", address))
		}
	}
	at = &settings{provider: p, read: time.Now(), iss: more.Iss, basic: len(more.Methods) == 0 || slices.Contains(more.Methods, "client_secret_basic")}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxDirectories {
		clear(s.known)
	}
	s.known[d.Issuer] = at
	return at, nil
}

func directoryAway(d Directory, err error) error {
	return lockkeeper.Unavailable.Errorf("directory_away", "The directory %s cannot be used now.", d.Name).
		WithNext("Try again in a moment; with a password of Lockkeeper's own: lockkeeper login --user NAME").WithCause(err)
}

// An Answer is what the directory sends with the browser.
type Answer struct {
	Code  string
	State string
	Iss   string // RFC 9207; "": it names nobody
	Error string // RFC 6749, section 4.1.2.1
}

// Finish takes the directory's answer and returns whom it vouches for. The state
// has been compared by the caller, who found the flow by it; Finish compares it
// again.
func (s *SignIn) Finish(ctx context.Context, d Directory, f Flow, a Answer, now lockkeeper.Moment) (Person, error) {
	at, err := s.settings(ctx, d)
	if err != nil {
		return Person{}, err
	}
	switch {
	case f.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(f.State)) != 1:
		return Person{}, refuse("state_wrong", "This is not the answer to a sign-in that was begun here.")
	case a.Iss != d.Issuer && (a.Iss != "" || at.iss): // RFC 9207, section 2.4
		return Person{}, refuse("issuer_mixed_up", "The answer is not the directory's that was asked, %s.", d.Name)
	case a.Error != "":
		return Person{}, refuse("directory_refused", "The directory %s did not sign anybody in (%s).", d.Name, errorName(a.Error))
	case a.Code == "":
		return Person{}, refuse("code_missing", "The directory's answer has no code.")
	}
	config := s.config(at, d, f)
	tokens, err := config.Exchange(oidc.ClientContext(ctx, s.client), a.Code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Person{}, exchangeError(d, err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" {
		return Person{}, refuse("id_token_missing", "The directory %s gave no ID token.", d.Name)
	}
	verifier := at.provider.Verifier(&oidc.Config{ClientID: d.Client, SupportedSigningAlgs: d.Algorithms, Now: func() time.Time { return now.Time().Add(-signInSkew) }})
	id, err := verifier.Verify(oidc.ClientContext(ctx, s.client), raw)
	if err != nil {
		return Person{}, verifyError(d, err)
	}
	return read(d, f, id, now)
}

func refuse(code, format string, args ...any) *lockkeeper.Refusal {
	return lockkeeper.Unauthenticated.Errorf(code, format, args...).WithNext("Sign in again: lockkeeper login")
}

// errorName is an error of OAuth as its own list spells it, not what somebody put
// into an address.
func errorName(s string) string {
	if len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "for a reason of its own"
	}
	return s
}

func exchangeError(d Directory, err error) error {
	var told *oauth2.RetrieveError
	if errors.As(err, &told) && told.Response != nil && told.Response.StatusCode < 500 {
		if told.ErrorCode == "invalid_client" || told.ErrorCode == "unauthorized_client" {
			return lockkeeper.Unavailable.Errorf("client_refused", "The directory %s does not take Lockkeeper's own credential.", d.Name).
				WithNext("Ask an administrator to compare client and secret of the directory with what it is registered with.").WithCause(errors.New(told.ErrorCode))
		}
		return refuse("code_refused", "The directory %s does not take the code of this sign-in (%s): it is used, too old, or of another sign-in.", d.Name, errorName(told.ErrorCode))
	}
	return directoryAway(d, err)
}

func verifyError(d Directory, err error) error {
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return clocks(d)
	case strings.Contains(err.Error(), "fetching keys"):
		return directoryAway(d, err)
	}
	return refuse("id_token_unfit", "The ID token of the directory %s cannot be believed.", d.Name).WithCause(err)
}

func clocks(d Directory) error {
	return refuse("clock_skew", "By this server's clock the ID token of the directory %s is not of now.", d.Name).
		WithNext("Sign in again; if that does not help, ask an administrator to compare the clocks.")
}

// read turns an ID token, whose signature, issuer, audience and end are right,
// into a person (OpenID Connect Core 1.0, section 3.1.3.7).
func read(d Directory, f Flow, id *oidc.IDToken, now lockkeeper.Moment) (Person, error) {
	var c struct {
		Azp       string         `json:"azp"`
		AuthTime  int64          `json:"auth_time"`
		Acr       string         `json:"acr"`
		Amr       []string       `json:"amr"`
		Name      string         `json:"preferred_username"`
		Email     string         `json:"email"`
		Hd        string         `json:"hd"`
		Tid       string         `json:"tid"`
		Elsewhere map[string]any `json:"_claim_names"`
		HasGroups bool           `json:"hasgroups"`
	}
	var all map[string]any
	if id.Claims(&c) != nil || id.Claims(&all) != nil {
		return Person{}, refuse("id_token_unfit", "The ID token of the directory %s has claims of another form than they must have.", d.Name)
	}
	said := lockkeeper.MomentOf(id.IssuedAt)
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 || f.Nonce == "":
		return Person{}, refuse("nonce_wrong", "The ID token of the directory %s is of another sign-in.", d.Name)
	case len(id.Audience) != 1 && c.Azp == "" || c.Azp != "" && c.Azp != d.Client:
		return Person{}, refuse("id_token_of_other", "The ID token of the directory %s is for another client.", d.Name)
	case now.Add(signInSkew).Before(said) || now.Sub(said) > signInAge:
		return Person{}, clocks(d)
	case d.Tenant != "" && c.Tid != d.Tenant:
		return Person{}, refuse("tenant_differs", "The account is of another tenant than the one of the directory %s.", d.Name)
	case d.Domain != "" && c.Hd != d.Domain:
		return Person{}, refuse("domain_differs", "The account is of another domain than %s.", d.Domain)
	}
	p := Person{Directory: d.Name, Source: d.Source, Name: c.Name, Said: said, Strong: slices.Contains(c.Amr, "mfa") || c.Acr == "phr" || c.Acr == "phrh"}
	if p.Name == "" {
		p.Name = c.Email
	}
	if c.AuthTime > 0 {
		p.Authenticated = lockkeeper.MomentOf(time.Unix(c.AuthTime, 0))
	}
	if f.Anew && (p.Authenticated.IsZero() || now.Sub(p.Authenticated) > signInAge) {
		return Person{}, refuse("not_anew", "The directory %s does not vouch that a credential was shown just now.", d.Name)
	}
	p.Subject, _ = all[d.SubjectClaim].(string)
	if p.Subject == "" || len(p.Subject) > 255 {
		return Person{}, refuse("subject_missing", "The ID token of the directory %s does not say, under %s, whose it is.", d.Name, d.SubjectClaim)
	}
	var err error
	if d.GroupClaim != "" {
		_, elsewhere := c.Elsewhere[d.GroupClaim]
		if p.Groups, err = groupsOf(d, all[d.GroupClaim], elsewhere || c.HasGroups); err != nil {
			return Person{}, err
		}
	}
	return p, nil
}

// groupsOf reads the claim with the groups. A directory that says that there are
// more than its token holds (Entra ID, above 200) is refused: to go on without
// them would take rights from a person, and denies too.
func groupsOf(d Directory, claim any, elsewhere bool) ([]string, error) {
	if elsewhere {
		return nil, refuse("groups_overage", "The account is in more groups than the directory %s puts into a token.", d.Name).
			WithNext("Ask an administrator to let the directory send only the groups that are assigned to Lockkeeper there (Entra ID: token configuration, groups assigned to the application).")
	}
	unfit := refuse("groups_unfit", "The groups that the directory %s names are no list of texts.", d.Name)
	switch v := claim.(type) {
	case nil:
		return []string{}, nil
	case string:
		return []string{v}, nil
	case []any:
		if len(v) > maxGroupClaims {
			return nil, unfit
		}
		out := make([]string, 0, len(v))
		for _, g := range v {
			s, is := g.(string)
			if !is {
				return nil, unfit
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, unfit
}
