package identity

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
)

// An Issuer is a CI platform as the catalog names it.
type Issuer struct {
	Provider string // name in the catalog
	Platform string // github, gitlab, azure, kubernetes, oidc
	URL      string // exact iss
	Audience string // the one audience that its tokens must have

	Algorithms []string          // what its tokens may be signed with
	Longest    time.Duration     // the longest life that its tokens may be made with
	API        string            // azure: where runs are looked up; "": nowhere
	Claims     map[string]string // oidc: fact → the claim that carries it
}

// A Credential is what a job shows: the CI platform's OIDC token, and perhaps
// the platform's own access token of that job, for one look-up of its run.
type Credential struct {
	Token  string
	Access string
}

// Options of a Verifier; zero values are the safe, working defaults.
type Options struct {
	HTTP *http.Client // default: no redirects, 10 s, no proxy surprises
	Log  *slog.Logger // told of key sets that cannot be had; default: discard
}

// Bounds of time.
const (
	skew       = 30 * time.Second // between the platform's clock and ours
	freshKeys  = 10 * time.Minute // after which a key set is fetched anew
	agedKeys   = time.Hour        // after which it is believed only once that was tried
	staleKeys  = 24 * time.Hour   // for which an old set serves an issuer that is away
	fetchPause = 30 * time.Second // between two fetches from one issuer
)

// A Verifier verifies tokens and keeps the issuers' key sets. It is safe for
// use by many goroutines.
type Verifier struct {
	client *http.Client
	log    *slog.Logger

	mu      sync.Mutex
	issuers map[string]*keys // by URL; bounded by what the catalog configures
}

// maxIssuers bounds the key sets that are kept.
const maxIssuers = 256

// NewVerifier makes a verifier.
func NewVerifier(o Options) *Verifier {
	client := o.HTTP
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: 8 * time.Second}}
	}
	lean := *client
	lean.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Verifier{client: &lean, log: log, issuers: map[string]*keys{}}
}

// adapters read the claims of a platform into the record. They use signed claims
// only, and never sub, which is made of names.
var adapters = map[string]func(*lockkeeper.Workload, token.Claims, Issuer) error{
	"github": github, "gitlab": gitlab, "azure": azure, "kubernetes": kubernetes, "oidc": anyIssuer,
}

// Workload verifies a token of one of the issuers at now and gives the record
// of the job that it vouches for; on Azure DevOps it then looks the run up, if
// it was given the means. Refusals are Unauthenticated with a code of their own,
// or Unavailable issuer_unreachable; none holds a part of a credential.
func (v *Verifier) Workload(ctx context.Context, issuers []Issuer, credential Credential, now lockkeeper.Moment) (lockkeeper.Workload, error) {
	raw := credential.Token
	var none lockkeeper.Workload
	if len(issuers) == 0 {
		return none, lockkeeper.Unauthenticated.Errorf("issuer_unknown", "The catalog has no provider whose tokens are taken.").WithNext("Add a Provider for the CI platform to the catalog.")
	}
	var all []string
	for _, i := range issuers {
		all = append(all, i.Algorithms...)
	}
	u, err := token.Parse(raw, all)
	if err != nil {
		return none, err
	}
	var fitting []Issuer
	var admitted []string
	for _, i := range issuers {
		if i.URL == u.Issuer() {
			fitting, admitted = append(fitting, i), append(admitted, i.Algorithms...)
		}
	}
	if len(fitting) == 0 {
		return none, lockkeeper.Unauthenticated.Errorf("issuer_unknown", "The token's issuer %.120q is no provider of the catalog.", u.Issuer()).
			WithNext("Add a Provider with exactly this issuer to the catalog, or use a platform that it has.")
	}
	if !slices.Contains(admitted, u.Algorithm()) {
		return none, algorithmRefused(admitted)
	}
	keys, err := v.keySet(ctx, fitting[0].URL, u.KeyID(), now)
	if err != nil {
		return none, err
	}
	claims, err := u.Verify(keys)
	if err != nil {
		return none, err
	}
	w, issuer, err := record(fitting, claims, now)
	if err == nil && !slices.Contains(issuer.Algorithms, u.Algorithm()) {
		return none, algorithmRefused(issuer.Algorithms) // another provider over the same issuer admits it
	}
	if err != nil || issuer.API == "" || credential.Access == "" {
		return w, err
	}
	return w, v.azureRun(ctx, &w, issuer, credential.Access)
}

func algorithmRefused(admitted []string) error {
	return lockkeeper.Unauthenticated.Errorf("token_algorithm", "This issuer's tokens are signed with %s; this one is not.", strings.Join(admitted, ", ")).
		WithNext("List the algorithm under the provider's algorithms, if the platform really signs with it.")
}

// record checks what every platform's tokens must have, finds the one provider
// whose audience fits, and lets its platform's adapter read the rest.
func record(fitting []Issuer, c token.Claims, now lockkeeper.Moment) (w lockkeeper.Workload, issuer Issuer, err error) {
	audience, err := onlyAudience(c)
	if err != nil {
		return w, issuer, err
	}
	var wanted []string
	for _, i := range fitting {
		wanted = append(wanted, i.Audience)
		if i.Audience != audience || audience == "" {
			continue
		}
		if issuer.URL != "" {
			return w, Issuer{}, lockkeeper.Unauthenticated.Errorf("provider_ambiguous", "The providers %s and %s have the same issuer and audience, so nothing says which of them the token is of.", issuer.Provider, i.Provider).
				WithNext("Give each provider of the catalog its own audience.")
		}
		issuer = i
	}
	if issuer.URL == "" {
		return w, issuer, lockkeeper.Unauthenticated.Errorf("audience_differs", "The token is for %.120q, not for %s.", audience, strings.Join(wanted, " or ")).
			WithNext("Ask the platform for a token with this server's audience.")
	}
	issued, expires, err := times(c, now, issuer.Longest)
	if err != nil {
		return w, issuer, err
	}
	jti, err := tokenID(c, issuer.Platform)
	if err != nil {
		return w, issuer, err
	}
	w = lockkeeper.Workload{Provider: issuer.Provider, Platform: issuer.Platform, Issuer: issuer.URL, Audience: audience,
		TokenID: lockkeeper.TokenIDOf(issuer.URL, jti), Issued: lockkeeper.MomentOf(issued), Expires: lockkeeper.MomentOf(expires)}
	adapt := adapters[issuer.Platform]
	if adapt == nil {
		return w, issuer, lockkeeper.Unauthenticated.Errorf("platform_unknown", "This server reads no tokens of the platform %q.", issuer.Platform).WithNext("Upgrade the server.")
	}
	return w, issuer, adapt(&w, c, issuer)
}

// tokenID is what single use of a token hangs on: its jti or, for platforms
// whose tokens may have none, a digest of what was decoded.
func tokenID(c token.Claims, platform string) (string, error) {
	if c.Has("jti") || platform != "kubernetes" && platform != "oidc" {
		return needed(c, "jti")
	}
	d, err := c.Digest()
	if err != nil {
		return "", lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's claims have no canonical form.").WithNext("Use a platform whose tokens carry a jti.")
	}
	return "claims " + string(d), nil
}

func onlyAudience(c token.Claims) (string, error) {
	list, ok, err := c.Strings("aud")
	if err != nil || !ok || len(list) == 0 {
		return "", lockkeeper.Unauthenticated.Errorf("claim_missing", "The token names no audience.").WithNext("Ask the platform for a token with this server's audience.")
	}
	if len(list) > 1 {
		return "", lockkeeper.Unauthenticated.Errorf("audience_differs", "The token is for %d audiences; it must be for this server alone.", len(list)).
			WithNext("Ask the platform for a token with this server's audience only.")
	}
	return list[0], nil
}

// times checks exp, iat and nbf (RFC 7519, section 4.1) against now.
func times(c token.Claims, now lockkeeper.Moment, longest time.Duration) (issued, expires time.Time, err error) {
	fresh := "Fetch a fresh token and ask again; if it goes on, compare the clocks."
	read := func(name string, must bool) (time.Time, bool) {
		t, ok, e := c.Time(name)
		if err == nil && (e != nil || must && !ok) {
			err = lockkeeper.Unauthenticated.Errorf("claim_missing", "The token has no fit claim %s.", name).WithNext("Use a platform whose tokens carry it.")
		}
		return t, ok
	}
	issued, _ = read("iat", true)
	expires, _ = read("exp", true)
	notBefore, has := read("nbf", false)
	if err != nil {
		return issued, expires, err
	}
	at := now.Time()
	switch {
	case !at.Before(expires.Add(skew)):
		err = lockkeeper.Unauthenticated.Errorf("token_expired", "The token ended at %s, and it is %s.", lockkeeper.MomentOf(expires), now).WithNext("%s", fresh)
	case issued.After(at.Add(skew)) || has && notBefore.After(at.Add(skew)):
		err = lockkeeper.Unauthenticated.Errorf("token_not_yet_valid", "The token is of a time that has not come; it is %s here.", now).WithNext("%s", fresh)
	case expires.Sub(issued) > longest || !expires.After(issued):
		err = lockkeeper.Unauthenticated.Errorf("token_lifetime", "The token was made to live %s; at most %s is taken.", expires.Sub(issued), longest).WithNext("Ask the platform for short-lived tokens, or set longest on the provider.")
	case at.Sub(issued) > longest+skew:
		err = lockkeeper.Unauthenticated.Errorf("token_too_old", "The token was made at %s, too long ago.", lockkeeper.MomentOf(issued)).WithNext("%s", fresh)
	}
	return issued, expires, err
}

// needed is a text claim that must be there, short and free of control
// characters.
func needed(c token.Claims, name string) (string, error) {
	f, err := fact(c, name)
	if err != nil {
		return "", err
	}
	if f.Value == "" {
		return "", lockkeeper.Unauthenticated.Errorf("claim_missing", "The token has no claim %s.", name).WithNext("Use a platform whose tokens carry it.")
	}
	return f.Value, nil
}

// maxValue bounds one value of a record.
const maxValue = 1024

// fact is a text claim, or absent.
func fact(c token.Claims, name string) (lockkeeper.Fact, error) {
	return factOf(name, c.String)
}

// numeric is a claim that is a text or a whole number, or absent.
func numeric(c token.Claims, name string) (lockkeeper.Fact, error) { return factOf(name, c.Text) }

func factOf(name string, read func(string) (string, bool, error)) (lockkeeper.Fact, error) {
	s, ok, err := read(name)
	if err != nil {
		return lockkeeper.Fact{}, lockkeeper.Unauthenticated.Errorf("claim_type", "The token's claim %s is not a text.", name).WithNext("Use a platform whose tokens have it as a text.")
	}
	if !ok {
		return lockkeeper.Fact{}, nil
	}
	if unfit(s) {
		return lockkeeper.Fact{}, lockkeeper.Unauthenticated.Errorf("claim_malformed", "The token's claim %s is too long or has control characters.", name).WithNext("Rename what it names on the platform.")
	}
	return lockkeeper.SignedFact(s), nil
}

// unfit values are too long, or hold what breaks a line, steers a terminal or
// turns the direction of a text round: they are shown in logs and to people.
func unfit(s string) bool {
	return len(s) > maxValue || strings.ContainsFunc(s, func(r rune) bool {
		return r == unicode.ReplacementChar || unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
	})
}
