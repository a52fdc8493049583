package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// Passkeys are made and shown in a browser, and begun by the command line. It gets an
// address; the page there asks the authenticator, and the server checks what was
// signed. Only then does the browser bring a code to the loopback port where the
// command line waits, which alone knows what the challenge was made of: whoever sends
// somebody such an address gets nothing. Without a browser on the machine the person
// enters a code elsewhere, and is told there what for and from where it was begun.
//
// What is under way is kept in memory, as sign-ins are.

// A show is a passkey that is being registered or shown.
type show struct {
	purpose   string
	by        keeper.Caller // whose session began it; none for a sign-in
	user      string
	name      string // of a new passkey
	ticket    string // of a sign-in
	source    string
	challenge string    // S256 of the command line's secret
	back      *listener // nil: a browser elsewhere
	code      string    // which the person enters there
	ends      time.Time

	cookie [sha256.Size]byte // of the browser that has the page open
	opened bool
	begun  []byte                 // what the browser's answer is checked against; nil: nothing is asked now
	own    []keeper.SealedPasskey // that may be shown
	done   *outcomeOfShow
}

// What came of a show: a passkey that was made, or one that was shown.
type outcomeOfShow struct {
	made  identity.NewPasskey
	shown keeper.Shown
	pass  [sha256.Size]byte // of the code that went over the loopback port
}

// shows are those under way, by id. A goroutine holds the lock only to look and to
// put; a show belongs to whoever holds it.
type shows struct {
	mu  sync.Mutex
	all map[string]*show
}

func newShows() *shows { return &shows{all: map[string]*show{}} }

// The purposes of a show.
const (
	toRegister = "register"
	toStepUp   = "step-up"
	toSignIn   = "sign-in"
)

const maxShown = 64 << 10 // bytes of a browser's answer

// with finds a show that is not over and lets f do with it as it likes.
func (x *shows) with(match func(id string, w *show) bool, f func(id string, w *show) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, w := range x.all {
		if match(id, w) && time.Now().Before(w.ends) {
			return f(id, w)
		}
	}
	return lockkeeper.Unauthenticated.Errorf("passkey_over", "Nobody asks for a passkey here now, or it took too long.").WithNext("Begin anew on the command line.")
}

func byID(id string) func(string, *show) bool {
	return func(other string, _ *show) bool { return subtle.ConstantTimeCompare([]byte(id), []byte(other)) == 1 }
}

func (s *Server) beginPasskey(ctx context.Context, in *struct {
	Remote
	Credential
	Body api.BeginPasskey
}) (*reply[api.BegunPasskey], error) {
	if err := s.Keeper.Admit(in.source); err != nil {
		return nil, err
	}
	b := in.Body
	w := &show{purpose: b.Purpose, name: b.Name, ticket: b.Ticket, source: in.source, challenge: b.Challenge, ends: time.Now().Add(attemptLife)}
	if !textual(b.Challenge) || b.Port != 0 && !textual(b.State) {
		return nil, lockkeeper.Invalid.Errorf("passkey_malformed", "The challenge, or the state, is no digest of 32 bytes.").WithNext("Use the command line of this release.")
	}
	if b.Port != 0 {
		w.back = &listener{port: b.Port, state: b.State}
	} else {
		w.code = newCode()
	}
	if err := s.mayShow(ctx, in.Authorization, w); err != nil {
		return nil, err
	}
	if _, err := identity.NewPasskeys(s.URL); err != nil {
		return nil, err
	}
	id := randomText()
	s.shows.mu.Lock()
	defer s.shows.mu.Unlock()
	if len(s.shows.all) >= maxAttempts {
		maps.DeleteFunc(s.shows.all, func(_ string, w *show) bool { return !time.Now().Before(w.ends) })
	}
	if len(s.shows.all) >= maxAttempts {
		return nil, errTooMany()
	}
	s.shows.all[id] = w
	out := api.BegunPasskey{ID: id, Address: s.URL + "/passkeys?ceremony=" + id, ExpiresIn: int(attemptLife.Seconds()), Interval: int(deviceInterval.Seconds())}
	if w.code != "" {
		out.Address, out.UserCode = s.URL+"/passkeys", spelled(w.code)
	}
	return &reply[api.BegunPasskey]{out}, nil
}

// mayShow says whose passkey it is about, and refuses early what would be refused at
// the end.
func (s *Server) mayShow(ctx context.Context, authorization string, w *show) (err error) {
	if w.purpose == toSignIn {
		w.user, err = s.Keeper.TicketUser(w.ticket)
	} else if w.by, err = s.person(authorization); err == nil {
		w.user = w.by.User
	}
	if err != nil {
		return err
	}
	if w.purpose == toRegister {
		return s.Keeper.MayRegister(w.by, w.name)
	}
	own, err := s.Keeper.Passkeys(ctx, w.user)
	if err == nil && len(own) == 0 {
		return lockkeeper.Forbidden.Errorf("passkeys_none", "You have no passkey registered.").WithNext("Show a code of your authenticator app, or register a passkey: lockkeeper factors passkey")
	}
	return err
}

// startPasskey shows what the authenticator is asked for, with a challenge of its own
// each time, or asks for the code of a machine without a browser.
func (s *Server) startPasskey(w http.ResponseWriter, r *http.Request) error {
	if err := s.Keeper.Admit(source(r.RemoteAddr)); err != nil {
		return err
	}
	if id := r.URL.Query().Get("ceremony"); id != "" {
		return s.openShow(w, r, func(other string, x *show) bool { return x.back != nil && byID(id)(other, x) })
	}
	s.page(w, http.StatusOK, page{Title: "Show a passkey", Method: "post", Action: "/passkeys", Ask: "The code that the machine shows", Choice: "go",
		Choices: []choice{{"on", "Go on"}}, Lines: []string{"Enter a code only if you yourself started this, on a machine of yours, just now."}})
	return nil
}

// enterPasskey takes the code of a machine without a browser.
func (s *Server) enterPasskey(w http.ResponseWriter, r *http.Request) error {
	if err := s.Keeper.Admit(source(r.RemoteAddr)); err != nil {
		return err
	}
	f, err := s.form(w, r, "user_code", "go")
	if err != nil {
		return err
	}
	code := strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(f["user_code"]))
	return s.openShow(w, r, func(_ string, x *show) bool { return x.code != "" && x.code == code && !x.opened })
}

// openShow opens the page of a show. What was asked on a page before is void.
func (s *Server) openShow(w http.ResponseWriter, r *http.Request, match func(string, *show) bool) error {
	var p passkeyPage
	var user, purpose string
	if err := s.shows.with(match, func(id string, x *show) error {
		user, purpose = x.user, x.purpose
		p = passkeyPage{Ceremony: id, Purpose: x.purpose, Title: map[string]string{toRegister: "Register a passkey", toStepUp: "Show your passkey", toSignIn: "Sign in with your passkey"}[x.purpose],
			Lines: []string{fmt.Sprintf("For the user %s at %s.", x.user, s.URL)}}
		if x.back != nil {
			p.Lines = append(p.Lines, "Go on only if you yourself have just started this on the command line of this machine.")
		} else {
			p.Lines = append(p.Lines, fmt.Sprintf("A machine at %s asked for it, and shows the code %s. If somebody sent you that code, close this page.", x.source, spelled(x.code)))
		}
		return nil
	}); err != nil {
		return err
	}
	own, err := s.Keeper.Passkeys(r.Context(), user)
	if err != nil {
		return err
	}
	c, err := s.asked(purpose, user, own)
	if err != nil {
		return err
	}
	cookie := randomText()
	if err := s.shows.with(byID(p.Ceremony), func(_ string, x *show) error {
		if x.done != nil {
			return lockkeeper.Conflict.Errorf("passkey_done", "This is done.").WithNext("Close the page.")
		}
		x.begun, x.own, x.cookie, x.opened = c.Begun, own, sha256.Sum256([]byte(cookie)), true
		return nil
	}); err != nil {
		return err
	}
	h := s.cookie(p.Ceremony, cookie, attemptLife)
	h.SameSite = http.SameSiteStrictMode
	http.SetCookie(w, h)
	p.Options = string(c.Options)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
	return passkeyTemplate.Execute(w, p)
}

func (s *Server) asked(purpose, user string, own []keeper.SealedPasskey) (identity.Ceremony, error) {
	passkeys, err := identity.NewPasskeys(s.URL)
	if err != nil {
		return identity.Ceremony{}, err
	}
	if purpose == toRegister {
		return passkeys.Register(user, dataOf(own))
	}
	return passkeys.Show(user, dataOf(own))
}

func dataOf(own []keeper.SealedPasskey) [][]byte {
	var out [][]byte
	for _, p := range own {
		out = append(out, p.Data)
	}
	return out
}

// shown takes the browser's answer, and says where the browser goes next.
func (s *Server) shown(w http.ResponseWriter, r *http.Request) {
	to, err := s.takeShown(w, r)
	if err != nil {
		writeProblem(w, s.problem(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"location": to}) // the caller has gone if this fails
}

func (s *Server) takeShown(w http.ResponseWriter, r *http.Request) (location string, err error) {
	if err := s.Keeper.Admit(source(r.RemoteAddr)); err != nil {
		return "", err
	}
	var in struct {
		Ceremony string          `json:"ceremony"`
		Answer   json.RawMessage `json:"answer"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxShown)).Decode(&in); err != nil {
		return "", lockkeeper.Invalid.Errorf("passkey_malformed", "This is not what the page sends.").WithNext("Load the page again.")
	}
	var x show
	if err := s.shows.with(byID(in.Ceremony), func(id string, w *show) error {
		c, err := r.Cookie(s.cookieName(id))
		if err != nil || w.begun == nil {
			return lockkeeper.Unauthenticated.Errorf("browser_differs", "The passkey was asked for in another browser, or not at all.").WithNext("Begin anew on the command line.")
		}
		if sum := sha256.Sum256([]byte(c.Value)); subtle.ConstantTimeCompare(sum[:], w.cookie[:]) != 1 {
			return lockkeeper.Unauthenticated.Errorf("browser_differs", "The passkey was asked for in another browser, or not at all.").WithNext("Begin anew on the command line.")
		}
		x, w.begun = *w, nil // a challenge is answered once
		return nil
	}); err != nil {
		return "", err
	}
	done, err := s.checkShown(x, in.Answer)
	if err != nil {
		return "", err
	}
	code := randomText()
	done.pass = sha256.Sum256([]byte(code))
	http.SetCookie(w, s.cookie(in.Ceremony, "", 0))
	if err := s.shows.with(byID(in.Ceremony), func(_ string, w *show) error { w.done = done; return nil }); err != nil {
		return "", err
	}
	if x.back == nil {
		return "", nil
	}
	return "http://127.0.0.1:" + strconv.Itoa(x.back.port) + "/?" + url.Values{"state": {x.back.state}, "code": {code}}.Encode(), nil
}

func (s *Server) checkShown(x show, answer []byte) (*outcomeOfShow, error) {
	passkeys, err := identity.NewPasskeys(s.URL)
	if err != nil {
		return nil, err
	}
	if x.purpose == toRegister {
		made, err := passkeys.Registered(x.user, x.begun, answer)
		return &outcomeOfShow{made: made}, err
	}
	i, counter, err := passkeys.Shown(x.user, dataOf(x.own), x.begun, answer)
	if err != nil {
		return nil, err
	}
	return &outcomeOfShow{shown: keeper.Shown{Factor: x.own[i].Factor, Counter: counter}}, nil
}

// finishPasskey does what the passkey was shown for, for the command line that began
// it: on this machine with the code that the browser brought, and without one as soon
// as the person has shown it.
func (s *Server) finishPasskey(ctx context.Context, in *struct {
	Remote
	Credential
	Body api.FinishPasskey
}) (*reply[api.FinishedPasskey], error) {
	made := sha256.Sum256([]byte(in.Body.Verifier))
	challenge := base64.RawURLEncoding.EncodeToString(made[:])
	pass := sha256.Sum256([]byte(in.Body.Code))
	var x show
	if err := s.shows.with(func(id string, w *show) bool {
		if w.back == nil {
			return byID(in.Body.ID)(id, w)
		}
		return w.done != nil && subtle.ConstantTimeCompare(w.done.pass[:], pass[:]) == 1
	}, func(id string, w *show) error {
		if subtle.ConstantTimeCompare([]byte(challenge), []byte(w.challenge)) != 1 {
			return lockkeeper.Unauthenticated.Errorf("passkey_over", "This was begun by another command line.").WithNext("Begin anew.")
		}
		if w.done == nil {
			return lockkeeper.Conflict.Errorf("authorization_pending", "Nobody has shown the passkey yet.").WithNext("Ask again in %s.", deviceInterval)
		}
		x = *w
		delete(s.shows.all, id)
		return nil
	}); err != nil {
		return nil, err
	}
	if x.purpose == toSignIn {
		secret, session, err := s.Keeper.FinishSignInShown(ctx, x.ticket, x.done.shown)
		return &reply[api.FinishedPasskey]{api.FinishedPasskey{Session: &api.Session{Secret: secret, User: session.User, Expires: session.Expires}}}, err
	}
	by, err := s.person(in.Authorization)
	if err != nil {
		return nil, err
	}
	if by != x.by {
		return nil, lockkeeper.Forbidden.Errorf("session_differs", "The passkey was asked for by another sign-in.").WithNext("Begin anew.")
	}
	if x.purpose == toStepUp {
		return &reply[api.FinishedPasskey]{}, s.Keeper.StepUpShown(ctx, by, x.done.shown)
	}
	credential := lockkeeper.DigestOf(append([]byte("lockkeeper.passkey.id.v1\n"), x.done.made.ID...))
	f, err := s.Keeper.RegisterPasskey(ctx, by, keeper.Factor{Name: x.name, Credential: credential, Counter: x.done.made.Counter}, x.done.made.Data)
	factor := renderFactor(f)
	return &reply[api.FinishedPasskey]{api.FinishedPasskey{Factor: &factor}}, err
}

// A passkeyPage is what the browser shows while it asks the authenticator.
type passkeyPage struct {
	Title, Ceremony, Purpose, Options string
	Lines                             []string
}

//go:embed pages/passkey.html
var passkeyText string

//go:embed pages/passkey.js
var passkeyScript []byte

var passkeyTemplate = template.Must(template.New("passkey").Parse(passkeyText))

func script(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(passkeyScript)
}

// registerPasskeys is the table of the browser's part.
func (s *Server) registerPasskeys(mux *http.ServeMux) {
	same := http.NewCrossOriginProtection()
	mux.HandleFunc("GET /passkeys", s.browsed(s.startPasskey))
	mux.Handle("POST /passkeys", same.Handler(s.browsed(s.enterPasskey)))
	mux.Handle("POST /passkeys/shown", same.Handler(http.HandlerFunc(s.shown)))
	mux.HandleFunc("GET /assets/passkey.js", script)
}
