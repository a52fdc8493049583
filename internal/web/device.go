package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/identity"
)

// A device is a machine without a browser that somebody signs in (RFC 8628). The
// person enters its code in a browser elsewhere, signs in with a directory there,
// and then confirms that the machine is his: somebody else may have sent him the
// code.
type device struct {
	code   string // as the person enters it, without the dash
	anew   bool
	source string
	ends   time.Time
	next   time.Time // before which the machine asks too soon

	person  *identity.Person // who signed in and has not confirmed yet, or has
	confirm [sha256.Size]byte
	allowed bool
	refused bool
}

const (
	deviceInterval = 2 * time.Second
	// codeLetters leaves out vowels and what looks alike (RFC 8628, section 6.1):
	// eight of them are 34 bits, guessed at the pace of strangers, for ten minutes.
	codeLetters = "BCDFGHJKLMNPQRSTVWXZ"
)

func newCode() string {
	b := make([]byte, 8)
	for i := range b {
		for {
			rand.Read(b[i : i+1])
			if n := int(b[i]); n < 256/len(codeLetters)*len(codeLetters) {
				b[i] = codeLetters[n%len(codeLetters)]
				break
			}
		}
	}
	return string(b)
}

func spelled(code string) string { return code[:4] + "-" + code[4:] }

func (s *Server) beginDevice(_ context.Context, in *stranger[api.BeginDevice]) (*reply[api.DeviceSignIn], error) {
	if err := s.Keeper.Admit(in.source); err != nil {
		return nil, err
	}
	if len(s.directories()) == 0 {
		return nil, lockkeeper.NotFound.Errorf("directories_none", "No directory signs people in here.").WithNext("Sign in with a password: lockkeeper login --user NAME")
	}
	secret := randomText()
	d := &device{code: newCode(), anew: in.Body.Anew, source: in.source, ends: time.Now().Add(attemptLife)}
	s.underway.mu.Lock()
	defer s.underway.mu.Unlock()
	if _, taken := s.underway.codes[d.code]; taken || !s.underway.tidy(time.Now()) {
		return nil, errTooMany()
	}
	s.underway.devices[sha256.Sum256([]byte(secret))], s.underway.codes[d.code] = d, d
	return &reply[api.DeviceSignIn]{api.DeviceSignIn{DeviceCode: secret, UserCode: spelled(d.code), VerificationURI: s.URL + "/device",
		ExpiresIn: int(attemptLife.Seconds()), Interval: int(deviceInterval.Seconds())}}, nil
}

// enterDevice is the page on which the code is entered.
func (s *Server) enterDevice(w http.ResponseWriter, _ *http.Request) error {
	p := page{Title: "Sign in a machine", Method: "post", Action: "/device", Ask: "The code that the machine shows", Choice: "directory",
		Lines: []string{"Enter a code only if you yourself started this, on a machine of yours, just now."}}
	for _, d := range s.directories() {
		p.Choices = append(p.Choices, choice{d.Name, "Sign in with " + cmp.Or(d.Title, d.Name)})
	}
	if len(p.Choices) == 0 {
		return lockkeeper.NotFound.Errorf("directories_none", "No directory signs people in here.").WithNext("Sign in with a password: lockkeeper login --user NAME")
	}
	s.page(w, http.StatusOK, p)
	return nil
}

func (s *Server) startDevice(w http.ResponseWriter, r *http.Request) error {
	if err := s.Keeper.Admit(source(r.RemoteAddr)); err != nil {
		return err
	}
	f, err := s.form(w, r, "user_code", "directory")
	if err != nil {
		return err
	}
	code := strings.ToUpper(strings.Map(func(c rune) rune {
		if c == '-' || c == ' ' {
			return -1
		}
		return c
	}, f["user_code"]))
	s.underway.mu.Lock()
	d := s.underway.codes[code]
	fresh := d != nil && time.Now().Before(d.ends) && d.person == nil && !d.refused
	s.underway.mu.Unlock()
	if !fresh {
		return lockkeeper.Unauthenticated.Errorf("device_code_wrong", "No machine shows this code now.").WithNext("Compare it with what the machine shows; a code holds for ten minutes.")
	}
	return s.toDirectory(w, r, &attempt{directory: f["directory"], device: d}, d.anew)
}

// confirmDevice asks the person who signed in whether the machine is his.
func (s *Server) confirmDevice(w http.ResponseWriter, d *device, p identity.Person) error {
	secret := randomText()
	s.underway.mu.Lock()
	taken := d.person != nil || d.refused
	if !taken {
		d.person, d.confirm = &p, sha256.Sum256([]byte(secret))
	}
	s.underway.mu.Unlock()
	if taken {
		return lockkeeper.Conflict.Errorf("device_taken", "Somebody signs this machine in already.").WithNext("Begin anew on the machine: lockkeeper login --device")
	}
	s.page(w, http.StatusOK, page{Title: "Is this machine yours?", Code: spelled(d.code), Method: "post", Action: "/device/confirm", Choice: "answer",
		Lines: []string{fmt.Sprintf("A machine at %s shows this code. Whoever sits before it will be signed in as you (%s).", d.source, cmp.Or(p.Name, p.Subject)),
			"If somebody sent you the code, say no."},
		Hidden: []hidden{{"secret", secret}}, Choices: []choice{{"yes", "Yes, I started this"}, {"no", "No"}}})
	return nil
}

// allowDevice takes the person's answer.
func (s *Server) allowDevice(w http.ResponseWriter, r *http.Request) error {
	f, err := s.form(w, r, "secret", "answer")
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(f["secret"]))
	s.underway.mu.Lock()
	defer s.underway.mu.Unlock()
	for _, d := range s.underway.codes {
		if d.person == nil || d.confirm != sum || d.allowed || d.refused || !time.Now().Before(d.ends) {
			continue
		}
		p := page{Title: "Signed in", Lines: []string{"The machine is signed in. You may close this page."}}
		if d.allowed = f["answer"] == "yes"; !d.allowed {
			d.refused = true
			p = page{Title: "Refused", Lines: []string{"The machine is not signed in. If somebody sent you the code, tell your security team."}}
		}
		s.page(w, http.StatusOK, p)
		return nil
	}
	return lockkeeper.Unauthenticated.Errorf("device_code_wrong", "No machine waits for this answer.").WithNext("Begin anew on the machine: lockkeeper login --device")
}

// redeemDevice answers the machine that asks.
func (s *Server) redeemDevice(ctx context.Context, in *stranger[api.RedeemDevice]) (*reply[api.Session], error) {
	sum, now := sha256.Sum256([]byte(in.Body.DeviceCode)), time.Now()
	s.underway.mu.Lock()
	d := s.underway.devices[sum]
	state := ""
	switch {
	case d == nil || !now.Before(d.ends):
		state = "expired"
	case now.Before(d.next):
		state = "soon"
	case d.refused:
		state = "refused"
	case !d.allowed:
		state = "pending"
	}
	if d != nil {
		d.next = now.Add(deviceInterval / 2)
		if state == "" || state == "refused" || state == "expired" {
			delete(s.underway.devices, sum)
			delete(s.underway.codes, d.code)
		}
	}
	s.underway.mu.Unlock()
	switch state { // the words of RFC 8628, section 3.5
	case "expired":
		return nil, lockkeeper.Unauthenticated.Errorf("expired_token", "Nobody confirmed this sign-in in time.").WithNext("Begin anew: lockkeeper login --device")
	case "soon":
		return nil, lockkeeper.Limited.Errorf("slow_down", "The machine asks too often.").WithNext("Ask again in %s.", deviceInterval)
	case "refused":
		return nil, lockkeeper.Forbidden.Errorf("access_denied", "The person at the browser said that this machine is not his.").WithNext("Begin anew: lockkeeper login --device")
	case "pending":
		return nil, lockkeeper.Conflict.Errorf("authorization_pending", "Nobody has confirmed this sign-in yet.").WithNext("Ask again in %s.", deviceInterval)
	}
	return s.sessionOf(ctx, *d.person)
}
