package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Signing in with a directory. The server is the directory's client; the command
// line is the server's. The command line listens on a loopback port and opens the
// browser here (RFC 8252); the server sends the browser to the directory and takes
// its answer; the person says that it was he who ran the command line, since any
// page may send a browser here and any program may listen on a loopback port; then
// it sends the browser to that port with a code that the command line alone can turn
// into a session, because it alone knows what the challenge was made of (RFC 7636).
// A machine without a browser shows a code that
// is entered in one elsewhere (RFC 8628, in device.go).
//
// What is under way is kept in memory: a server that is started again has
// forgotten it, and the person begins anew.

// An attempt is a sign-in that is under way.
type attempt struct {
	flow      identity.Flow
	directory string
	cookie    [sha256.Size]byte // of what the browser must send back
	ends      time.Time

	back   *listener // the command line on this machine
	device *device   // a machine without a browser
}

// A listener is where a command line waits.
type listener struct {
	port      int
	state     string
	challenge string // S256 of its verifier
}

// A confirmation asks the person whether a command line is his.
type confirmation struct {
	person identity.Person
	back   listener
	ends   time.Time
}

// A pass is what somebody may turn into a session once.
type pass struct {
	person    identity.Person
	challenge string
	ends      time.Time
}

// Bounds of what is under way.
const (
	maxAttempts = 10_000
	attemptLife = 10 * time.Minute
	passLife    = time.Minute
)

// underway is what is under way. A goroutine holds its lock only to look and to
// put.
type underway struct {
	mu        sync.Mutex
	attempts  map[string]*attempt // by state
	questions map[[sha256.Size]byte]*confirmation
	passes    map[[sha256.Size]byte]*pass
	devices   map[[sha256.Size]byte]*device // by what the machine asks with
	codes     map[string]*device            // by what the person enters
}

func newUnderway() *underway {
	return &underway{attempts: map[string]*attempt{}, questions: map[[sha256.Size]byte]*confirmation{}, passes: map[[sha256.Size]byte]*pass{}, devices: map[[sha256.Size]byte]*device{}, codes: map[string]*device{}}
}

// tidy forgets what is over, and reports whether there is room for one more.
func (u *underway) tidy(now time.Time) bool {
	if u.count() < maxAttempts {
		return true
	}
	maps.DeleteFunc(u.questions, func(_ [sha256.Size]byte, q *confirmation) bool { return !now.Before(q.ends) })
	maps.DeleteFunc(u.attempts, func(_ string, a *attempt) bool { return !now.Before(a.ends) })
	maps.DeleteFunc(u.passes, func(_ [sha256.Size]byte, p *pass) bool { return !now.Before(p.ends) })
	maps.DeleteFunc(u.devices, func(_ [sha256.Size]byte, d *device) bool { return !now.Before(d.ends) })
	maps.DeleteFunc(u.codes, func(_ string, d *device) bool { return !now.Before(d.ends) })
	return u.count() < maxAttempts
}

func (u *underway) count() int {
	return len(u.attempts) + len(u.questions) + len(u.passes) + len(u.devices)
}

// take removes an attempt: its state can be answered once.
func (u *underway) take(state string, now time.Time) *attempt {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.attempts[state]
	delete(u.attempts, state)
	if a == nil || !now.Before(a.ends) {
		return nil
	}
	return a
}

func errTooMany() error {
	return lockkeeper.Limited.Errorf("too_many_sign_ins", "Too many people sign in at once.").WithNext("Try again in a moment.")
}

// toDirectory starts a sign-in with a directory and sends the browser there.
func (s *Server) toDirectory(w http.ResponseWriter, r *http.Request, a *attempt, anew bool) error {
	d, err := s.directory(a.directory)
	if err != nil {
		return err
	}
	cookie := randomText()
	a.flow = identity.Flow{Redirect: s.URL + "/sign-in/callback/" + d.Name, State: randomText(), Nonce: randomText(), Verifier: randomText() + randomText(), Anew: anew}
	a.cookie, a.ends = sha256.Sum256([]byte(cookie)), time.Now().Add(attemptLife)
	to, err := s.SignIns.Begin(r.Context(), d, a.flow)
	if err != nil {
		return err
	}
	s.underway.mu.Lock()
	room := s.underway.tidy(time.Now())
	if room {
		s.underway.attempts[a.flow.State] = a
	}
	s.underway.mu.Unlock()
	if !room {
		return errTooMany()
	}
	http.SetCookie(w, s.cookie(a.flow.State, cookie, attemptLife))
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// cookie binds a sign-in to the browser that began it. The __Host- prefix keeps it
// from being set by another host (RFC 6265bis, section 4.1.3.2).
func (s *Server) cookie(state, value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(state), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(s.URL, "https:"), MaxAge: int(life.Seconds())}
	if life <= 0 {
		c.MaxAge = -1
	}
	return c
}

func (s *Server) cookieName(state string) string {
	name := "lockkeeper-sign-in-" + state[:min(len(state), 8)]
	if strings.HasPrefix(s.URL, "https:") {
		name = "__Host-" + name
	}
	return name
}

// randomText is 256 random bits, fit for a URL.
func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// directory is a directory of the catalog in force as package identity takes it.
func (s *Server) directory(name string) (identity.Directory, error) {
	d, known := s.Keeper.Rules().Catalog.Directories[name]
	if !known {
		return identity.Directory{}, lockkeeper.NotFound.Errorf("directory_unknown", "The catalog has no such directory.").WithNext("Choose another one: lockkeeper login")
	}
	out := identity.Directory{Name: d.Name, Source: d.Source(), Issuer: d.IssuerURL(), Client: d.Client, Scopes: d.AskedScopes(), SubjectClaim: d.SubjectClaim(), GroupClaim: d.ClaimOfGroups(),
		Tenant: d.Tenant, Domain: d.Domain}
	if s.Secret == nil {
		return out, nil
	}
	var err error
	out.Secret, err = s.Secret(d.Name)
	return out, err
}

// directories are those that a person may choose from, by name.
func (s *Server) directories() []catalog.Directory {
	all := s.Keeper.Rules().Catalog.Directories
	out := make([]catalog.Directory, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

func (s *Server) listDirectories(context.Context, *nothing) (*reply[api.Directories], error) {
	out := api.Directories{Directories: []api.Directory{}}
	for _, d := range s.directories() {
		out.Directories = append(out.Directories, api.Directory{Name: d.Name, Title: cmp.Or(d.Title, d.Name), Platform: d.Platform})
	}
	return &reply[api.Directories]{out}, nil
}

// startSignIn is where a command line sends the browser.
func (s *Server) startSignIn(w http.ResponseWriter, r *http.Request) error {
	if err := s.Keeper.Admit(source(r.RemoteAddr)); err != nil {
		return err
	}
	q := r.URL.Query()
	port, err := strconv.Atoi(q.Get("port"))
	back := &listener{port, q.Get("state"), q.Get("challenge")}
	if err != nil || port < 1 || port > 65535 || !textual(back.state) || !textual(back.challenge) {
		return lockkeeper.Invalid.Errorf("sign_in_malformed", "This is no address that lockkeeper login makes.").WithNext("Run: lockkeeper login")
	}
	name := q.Get("directory")
	if all := s.directories(); name == "" && len(all) != 1 {
		return s.chooseDirectory(w, q, all)
	} else if name == "" {
		name = all[0].Name
	}
	return s.toDirectory(w, r, &attempt{directory: name, back: back}, q.Get("anew") == "true")
}

// textual reports whether s is such a text as randomText or a SHA-256 makes.
func textual(s string) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && len(b) == 32
}

func (s *Server) chooseDirectory(w http.ResponseWriter, q url.Values, all []catalog.Directory) error {
	if len(all) == 0 {
		return lockkeeper.NotFound.Errorf("directories_none", "No directory signs people in here.").WithNext("Sign in with a password: lockkeeper login --user NAME")
	}
	p := page{Title: "Sign in", Method: "get", Action: "/sign-in", Choice: "directory", Lines: []string{"Where do you have your account?"}}
	for _, d := range all {
		p.Choices = append(p.Choices, choice{d.Name, cmp.Or(d.Title, d.Name)})
	}
	for _, name := range []string{"port", "state", "challenge", "anew"} {
		p.Hidden = append(p.Hidden, hidden{name, q.Get(name)})
	}
	s.page(w, http.StatusOK, p)
	return nil
}

// finishSignIn takes the directory's answer.
func (s *Server) finishSignIn(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	for _, name := range []string{"code", "state", "iss", "error"} {
		if len(q[name]) > 1 || len(q.Get(name)) > 8192 {
			return lockkeeper.Invalid.Errorf("sign_in_malformed", "The directory's answer has a value twice, or one that is too long.").WithNext("Run: lockkeeper login")
		}
	}
	state := q.Get("state")
	a := s.underway.take(state, time.Now())
	if a == nil || a.directory != r.PathValue("directory") {
		return lockkeeper.Unauthenticated.Errorf("state_wrong", "This is not the answer to a sign-in that was begun here, or it took too long.").WithNext("Run: lockkeeper login")
	}
	if !s.sameBrowser(r, state, a) {
		return lockkeeper.Unauthenticated.Errorf("browser_differs", "The sign-in was begun in another browser.").WithNext("Run: lockkeeper login")
	}
	http.SetCookie(w, s.cookie(state, "", 0))
	person, err := s.vouched(r, a, identity.Answer{Code: q.Get("code"), State: state, Iss: q.Get("iss"), Error: q.Get("error")})
	if a.device != nil {
		if err != nil {
			return err
		}
		return s.confirmDevice(w, a.device, person)
	}
	if err != nil {
		a.back.refuse(w, r, s.problem(r.Context(), err))
		return nil
	}
	secret := randomText()
	s.underway.mu.Lock()
	s.underway.questions[sha256.Sum256([]byte(secret))] = &confirmation{person, *a.back, time.Now().Add(attemptLife)}
	s.underway.mu.Unlock()
	s.page(w, http.StatusOK, page{Title: "Sign in the command line?", Method: "post", Action: "/sign-in/confirm", Choice: "answer",
		Lines:  []string{fmt.Sprintf("A command line on this machine will be signed in as you (%s).", cmp.Or(person.Name, person.Subject)), "Say yes only if you have just run lockkeeper login."},
		Hidden: []hidden{{"secret", secret}}, Choices: []choice{{"yes", "Yes, I ran it"}, {"no", "No"}}})
	return nil
}

// confirmSignIn takes the person's answer.
func (s *Server) confirmSignIn(w http.ResponseWriter, r *http.Request) error {
	f, err := s.form(w, r, "secret", "answer")
	if err != nil {
		return err
	}
	sum, code := sha256.Sum256([]byte(f["secret"])), randomText()
	s.underway.mu.Lock()
	q := s.underway.questions[sum]
	delete(s.underway.questions, sum)
	open := q != nil && time.Now().Before(q.ends)
	if open && f["answer"] == "yes" {
		s.underway.passes[sha256.Sum256([]byte(code))] = &pass{q.person, q.back.challenge, time.Now().Add(passLife)}
	}
	s.underway.mu.Unlock()
	switch {
	case !open:
		return lockkeeper.Unauthenticated.Errorf("state_wrong", "No command line waits for this answer.").WithNext("Run: lockkeeper login")
	case f["answer"] != "yes":
		q.back.refuse(w, r, s.problem(r.Context(), lockkeeper.Forbidden.Errorf("access_denied", "The person at the browser said that this command line is not his.").WithNext("Run: lockkeeper login")))
	default:
		q.back.send(w, r, url.Values{"code": {code}})
	}
	return nil
}

// send sends the browser to the command line.
func (l listener) send(w http.ResponseWriter, r *http.Request, values url.Values) {
	values.Set("state", l.state)
	http.Redirect(w, r, "http://127.0.0.1:"+strconv.Itoa(l.port)+"/?"+values.Encode(), http.StatusSeeOther)
}

// refuse lets the command line say why nobody is signed in.
func (l listener) refuse(w http.ResponseWriter, r *http.Request, p *api.Problem) {
	l.send(w, r, url.Values{"error": {p.Code}, "detail": {p.Detail}, "next": {p.Next}, "status": {strconv.Itoa(p.Status)}})
}

func (s *Server) sameBrowser(r *http.Request, state string, a *attempt) bool {
	c, err := r.Cookie(s.cookieName(state))
	if err != nil {
		return false
	}
	sum := sha256.Sum256([]byte(c.Value))
	return subtle.ConstantTimeCompare(sum[:], a.cookie[:]) == 1
}

func (s *Server) vouched(r *http.Request, a *attempt, answer identity.Answer) (identity.Person, error) {
	d, err := s.directory(a.directory)
	if err != nil {
		return identity.Person{}, err
	}
	return s.SignIns.Finish(r.Context(), d, a.flow, answer, lockkeeper.MomentOf(time.Now()))
}

// redeem turns the code that came over the loopback port into a session.
func (s *Server) redeem(ctx context.Context, in *stranger[api.RedeemSignIn]) (*reply[api.Session], error) {
	if err := s.Keeper.Admit(in.source); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(in.Body.Code))
	s.underway.mu.Lock()
	p := s.underway.passes[sum]
	delete(s.underway.passes, sum)
	s.underway.mu.Unlock()
	made := sha256.Sum256([]byte(in.Body.Verifier))
	if p == nil || !time.Now().Before(p.ends) || subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(made[:])), []byte(p.challenge)) != 1 {
		return nil, lockkeeper.Unauthenticated.Errorf("sign_in_code_wrong", "The code of this sign-in is used, too old, or of another one.").WithNext("Run: lockkeeper login")
	}
	return s.sessionOf(ctx, p.person)
}

func (s *Server) sessionOf(ctx context.Context, p identity.Person) (*reply[api.Session], error) {
	secret, session, err := s.Keeper.SignInBy(ctx, keeper.Said{Directory: p.Directory, Source: p.Source, Subject: p.Subject, Name: p.Name, Groups: p.Groups, At: p.Said, Authenticated: p.Authenticated, Strong: p.Strong})
	return &reply[api.Session]{api.Session{Secret: secret, User: session.User, Expires: session.Expires}}, err
}

// A page is what a browser shows while somebody signs in.
type page struct {
	Title   string
	Lines   []string
	Code    string
	Method  string
	Action  string
	Ask     string // label of the field for a code; "": none
	Hidden  []hidden
	Choice  string // name of the choice
	Choices []choice
	Refusal string
}

type hidden struct{ Name, Value string }

type choice struct{ Value, Label string }

//go:embed pages/page.html
var pageText string

//go:embed pages/page.css
var pageStyle []byte

var pageTemplate = template.Must(template.New("page").Parse(pageText))

func (s *Server) page(w http.ResponseWriter, status int, p page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// form-action is left out: browsers hold it against where a form's answer
	// redirects to, too, and that is the directory.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	pageTemplate.Execute(w, p) // the caller has gone if this fails
}

func style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(pageStyle)
}

// browsed serves what a browser shows: a refusal is a page.
func (s *Server) browsed(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		p := s.problem(r.Context(), err)
		lines := []string{p.Detail}
		if p.Next != "" {
			lines = append(lines, p.Next)
		}
		s.page(w, p.Status, page{Title: "Not signed in", Lines: lines, Refusal: strings.TrimSpace(p.Code + " " + p.Instance)})
	}
}

// registerSignIn is the table of signing in with a directory.
func (s *Server) registerSignIn(mux *http.ServeMux) {
	same := http.NewCrossOriginProtection()
	mux.HandleFunc("GET /sign-in", s.browsed(s.startSignIn))
	mux.HandleFunc("GET /sign-in/callback/{directory}", s.browsed(s.finishSignIn))
	mux.Handle("POST /sign-in/confirm", same.Handler(s.browsed(s.confirmSignIn)))
	mux.HandleFunc("GET /device", s.browsed(s.enterDevice))
	mux.Handle("POST /device", same.Handler(s.browsed(s.startDevice)))
	mux.Handle("POST /device/confirm", same.Handler(s.browsed(s.allowDevice)))
	mux.HandleFunc("GET /assets/page.css", style)
	route(s, http.MethodGet, "/directories", "directories", "The directories that sign people in here", s.listDirectories)
	route(s, http.MethodPost, "/sign-in/session", "redeem-sign-in", "Turn the code of a sign-in into a session", s.redeem)
	route(s, http.MethodPost, "/sign-in/device", "begin-device-sign-in", "Begin a sign-in for a machine without a browser", s.beginDevice)
	route(s, http.MethodPost, "/sign-in/device/session", "redeem-device-sign-in", "Ask whether the sign-in of a machine was confirmed", s.redeemDevice)
	people(s, http.MethodGet, "/sessions", "list-sessions", "Sign-ins that hold: one's own, or those that one may see", s.listSessions)
	people(s, http.MethodDelete, "/sessions/{id}", "end-session", "End one's own sign-in, or somebody else's", s.endSession)
}
