// Package provider is a real OpenID provider for tests: the certified library of
// the Zitadel project with its example store, on a loopback address, and a browser
// that signs in with it. Tests import it, nothing else.
package provider

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Password is everybody's.
const Password = "correct horse battery staple"

// A Provider signs in the users that Add made.
type Provider struct {
	URL    string
	Secret string // of its one client, whose id is Client

	store  *store
	server *http.Server
}

// Client is the id of the one client.
const Client = "lockkeeper"

// Start is Open for a test, which the provider ends with.
func Start(t testing.TB, redirects ...string) *Provider {
	t.Helper()
	p, err := Open(redirects...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// Open starts a provider whose client may be sent back to redirects.
func Open(redirects ...string) (*Provider, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Provider{URL: "http://" + l.Addr().String(), Secret: "secret of the client"}
	users := &people{all: map[string]*account{}}
	p.store = &store{Storage: storage.NewStorageWithClients(users, map[string]*storage.Client{Client: storage.WebClient(Client, p.Secret, redirects...)}), people: users}
	made, err := op.NewProvider(&op.Config{CryptoKey: sha256.Sum256([]byte("test")), CryptoKeyId: "key1", CodeMethodS256: true, AuthMethodPost: true}, p.store, op.StaticIssuer(p.URL),
		op.WithAllowInsecure(), op.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/username", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<form method="post" action="/login/username"><input name="id" value="`+url.QueryEscape(r.FormValue("authRequestID"))+`"></form>`)
	})
	callback := op.AuthCallbackURL(made)
	mux.Handle("POST /login/username", op.NewIssuerInterceptor(made.IssuerFromRequest).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.store.CheckUsernamePassword(r.FormValue("username"), r.FormValue("password"), r.FormValue("id")); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, callback(r.Context(), r.FormValue("id")), http.StatusFound)
	}))
	mux.Handle("/", made)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go p.server.Serve(l)
	return p, nil
}

// Stop takes the provider away.
func (p *Provider) Stop() { p.server.Close() }

// Add makes a user, or gives one other claims. The id is sub.
func (p *Provider) Add(id, name string, claims map[string]any) {
	p.store.people.mu.Lock()
	defer p.store.people.mu.Unlock()
	p.store.people.all[id] = &account{storage.User{ID: id, Username: name, Password: Password}, claims}
}

// AMR is how the users are said to have shown who they are; none: pwd.
func (p *Provider) AMR(amr ...string) {
	p.store.people.mu.Lock()
	defer p.store.people.mu.Unlock()
	p.store.people.amr = amr
}

// Age lets the users have shown a credential so long ago.
func (p *Provider) Age(d time.Duration) {
	p.store.people.mu.Lock()
	defer p.store.people.mu.Unlock()
	p.store.people.age = d
}

// Forget lets the provider take no more the codes that it gave.
func (p *Provider) Forget() {
	p.store.people.mu.Lock()
	defer p.store.people.mu.Unlock()
	p.store.people.forgotten = true
}

type account struct {
	storage.User
	claims map[string]any
}

type people struct {
	mu        sync.Mutex
	all       map[string]*account
	amr       []string
	age       time.Duration
	forgotten bool
}

func (p *people) GetUserByID(id string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.all[id]; a != nil {
		return &a.User
	}
	return nil
}

func (p *people) GetUserByUsername(name string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.all {
		if a.Username == name {
			return &a.User
		}
	}
	return nil
}

func (*people) ExampleClientID() string { return "service" }

// store is the example's store with claims of the test's own.
type store struct {
	*storage.Storage
	people *people
}

func (s *store) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	if err := s.Storage.SetUserinfoFromRequest(ctx, info, request, scopes); err != nil {
		return err
	}
	s.people.mu.Lock()
	defer s.people.mu.Unlock()
	a := s.people.all[request.GetSubject()]
	info.PreferredUsername = a.Username
	for name, value := range a.claims {
		info.AppendClaims(name, value)
	}
	return nil
}

// AuthRequestByCode is where the provider reads what it puts into a token.
func (s *store) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.people.mu.Lock()
	forgotten, amr, age := s.people.forgotten, s.people.amr, s.people.age
	s.people.mu.Unlock()
	if forgotten {
		return nil, oidc.ErrInvalidGrant()
	}
	r, err := s.Storage.AuthRequestByCode(ctx, code)
	if err != nil {
		return nil, err
	}
	return &authRequest{r, amr, age}, nil
}

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

type authRequest struct {
	op.AuthRequest
	amr []string
	age time.Duration
}

func (r *authRequest) GetAMR() []string {
	if len(r.amr) > 0 {
		return r.amr
	}
	return r.AuthRequest.GetAMR()
}
func (r *authRequest) GetAuthTime() time.Time { return r.AuthRequest.GetAuthTime().Add(-r.age) }

// A T is told what went wrong; a testing.TB is one.
type T interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// A Browser keeps cookies and follows where it is sent, one step at a time.
type Browser struct {
	t      T
	client *http.Client
	// On, if set, may change each address before the browser goes there; "" stops.
	On func(*url.URL) string
}

// NewBrowser makes a browser without any cookies.
func NewBrowser(t T) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, client: &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// A Page is where a browser has come to.
type Page struct {
	URL    *url.URL
	Status int
	Body   string
	Header http.Header
}

var loginID = regexp.MustCompile(`name="id" value="([^"]*)"`)

// SignIn goes to an address and, where a provider asks, signs in as the user of that
// name, until a page comes that is none of a provider.
func (b *Browser) SignIn(address, name string) Page {
	b.t.Helper()
	return b.login(b.Get(address), name)
}

// Enter is SignIn from a form that is sent to an address.
func (b *Browser) Enter(address string, form url.Values, name string) Page {
	b.t.Helper()
	return b.login(b.Post(address, form), name)
}

func (b *Browser) login(p Page, name string) Page {
	b.t.Helper()
	if !strings.HasSuffix(p.URL.Path, "/login/username") {
		return p
	}
	found := loginID.FindStringSubmatch(p.Body)
	if found == nil {
		b.t.Fatalf("the provider's page at %s has no form: %s", p.URL, p.Body)
	}
	id, err := url.QueryUnescape(found[1])
	if err != nil {
		b.t.Fatal(err)
	}
	return b.Post(p.URL.Scheme+"://"+p.URL.Host+"/login/username", url.Values{"id": {id}, "username": {name}, "password": {Password}})
}

var questionSecret = regexp.MustCompile(`name="secret" value="([^"]*)"`)

// Answer answers the question of a page of Lockkeeper's, if it asks one.
func (b *Browser) Answer(p Page, path, answer string) Page {
	b.t.Helper()
	found := questionSecret.FindStringSubmatch(p.Body)
	if p.Status != http.StatusOK || found == nil {
		return p
	}
	return b.Post(p.URL.Scheme+"://"+p.URL.Host+path, url.Values{"secret": {found[1]}, "answer": {answer}})
}

// Get goes to an address and on to where it is sent.
func (b *Browser) Get(address string) Page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.follow(r)
}

// Post sends a form, as a page of the same origin would, and goes on to where it is
// sent.
func (b *Browser) Post(address string, form url.Values) Page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.follow(r)
}

func (b *Browser) follow(r *http.Request) Page {
	b.t.Helper()
	for range 20 {
		answer, err := b.client.Do(r)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		answer.Body.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		p := Page{r.URL, answer.StatusCode, string(body), answer.Header}
		to, err := answer.Location()
		if err != nil {
			return p
		}
		next := to.String()
		if b.On != nil {
			if next = b.On(to); next == "" {
				p.URL = to
				return p
			}
		}
		if r, err = http.NewRequest(http.MethodGet, next, nil); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Fatalf("the browser is sent on and on, last to %s", r.URL)
	return Page{}
}
