package effect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

const telling = `{kind: User, name: eve}
---
{kind: Group, name: leads, users: [cat, dora]}
---
{kind: Assignment, name: also, role: access-approver, principal: user:dora, scope: /projects/p}
---
{kind: Role, name: careful, actions: [deployments/cancel]}
---
{kind: Assignment, name: careful-ann, role: careful, principal: user:ann, scope: /projects/p, eligible: true}
---
{kind: ActivationRule, name: careful, role: careful, scope: /projects/p, longest: 4h, patience: 8h, approvals: [{name: lead, approval: {count: 1, groups: [leads]}}]}
---
`

const tellKey = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// A post is a message as somebody outside got it.
type post struct {
	id      string
	body    string
	headers http.Header
	to      string
}

// A postbox keeps what comes to it by HTTP and by mail.
type postbox struct {
	mu     sync.Mutex
	posts  []post
	status int // of answers by HTTP; 0: 200
	refuse bool
	pass   string // that mail takes; "": none is asked
}

func (p *postbox) add(x post) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posts = append(p.posts, x)
}

func (p *postbox) all() []post {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.posts)
}

func (p *postbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	status := p.status
	p.mu.Unlock()
	if status != 0 {
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		io.WriteString(w, "hooks.example/SECRET")
		return
	}
	p.add(post{r.Header.Get("webhook-id"), string(data), r.Header.Clone(), ""})
}

// letter is a session of the mail server of a postbox.
type letter struct {
	box   *postbox
	to    string
	known bool
}

func (l *letter) Reset()        { l.to = "" }
func (l *letter) Logout() error { return nil }
func (l *letter) Mail(string, *smtp.MailOptions) error {
	if l.box.pass != "" && !l.known {
		return smtp.ErrAuthRequired
	}
	return nil
}
func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	if l.to = to; l.box.refuse {
		return &smtp.SMTPError{Code: 550, Message: "no SECRET mailbox"}
	}
	return nil
}
func (l *letter) Data(r io.Reader) error {
	m, err := netmail.ReadMessage(r)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(m.Body)
	l.box.add(post{m.Header.Get("Message-Id"), string(data), http.Header(m.Header), l.to})
	return err
}
func (l *letter) AuthMechanisms() []string { return []string{sasl.Plain} }
func (l *letter) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if l.known = user == "lk" && pass == l.box.pass; !l.known {
			return errors.New("SECRET is wrong")
		}
		return nil
	}), nil
}

// mailServer is a real one; with a certificate it speaks TLS, from the beginning or not.
func mailServer(t *testing.T, box *postbox, config *tls.Config, first bool) (at string) {
	t.Helper()
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &letter{box: box}, nil }))
	s.Domain, s.TLSConfig = "localhost", config
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if first {
		l = tls.NewListener(l, config)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

func certified(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	h := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(h.Close)
	pool := x509.NewCertPool()
	pool.AddCert(h.Certificate())
	return &tls.Config{Certificates: h.TLS.Certificates}, pool
}

func (s *stage) notifier() *Notifier {
	s.Helper()
	reach, err := ParseReach([]string{"127.0.0.0/8"})
	s.must(err)
	return NewNotifier(NotifierOptions{Keeper: s.k, Secrets: s.secrets, Reach: reach, Log: slog.New(slog.NewTextHandler(&s.log, nil))})
}

func (s *stage) wishes(reason string) string {
	s.Helper()
	r, err := s.k.RequestActivation(context.Background(), ann, "", keeper.OpenRequest{Role: "careful", Scope: "/projects/p", For: time.Hour, Reason: reason})
	s.must(err)
	return r
}

func (s *stage) tells(n *Notifier, want func() bool) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		n.Run(ctx)
		close(done)
	}()
	defer func() {
		cancel()
		<-done
	}()
	for end := time.Now().Add(30 * time.Second); !want(); {
		changed := s.k.Changed()
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.Fatalf("nobody was told\n%s", s.log.String())
		}
	}
}

func (s *stage) standing(name string) keeper.NotificationView {
	s.Helper()
	list, err := s.k.Notifications(dora)
	s.must(err)
	i := slices.IndexFunc(list, func(v keeper.NotificationView) bool { return v.Name == name })
	return list[i]
}

const nasty = "<!channel> *now* [click](https://evil.example) <https://evil.example|Open> & \"x\"\r\nBcc: all@example.com \u202e"

// Every kind of channel, through real servers: what people wrote does nothing there, and
// secrets stay where they are.
func TestChannels(t *testing.T) {
	box, mails := &postbox{}, &postbox{pass: "pass word"}
	h := httptest.NewServer(box)
	t.Cleanup(h.Close)
	config, roots := certified(t)
	at := mailServer(t, mails, config, true)
	s := staged(t, telling+`{kind: Notification, name: hook, via: webhook, to: [group:leads], about: [requests]}
---
{kind: Notification, name: room, via: slack, to: [group:leads], about: [requests]}
---
{kind: Notification, name: team, via: teams, to: [group:leads], about: [requests]}
---
{kind: Notification, name: none, via: slack, to: [user:eve], about: [requests]}
---
{kind: Notification, name: letters, via: mail, channel: company, to: [group:leads, user:ann], about: [requests]}
`)
	s.secret("channel@hook", fmt.Sprintf(`{"url": %q, "key": %q}`, h.URL+"/SECRET-hook", tellKey))
	s.secret("channel@room", fmt.Sprintf(`{"url": %q}`, h.URL+"/SECRET-room"))
	s.secret("channel@team", fmt.Sprintf(`{"url": %q}`, h.URL+"/SECRET-team"))
	s.secret("channel@none", fmt.Sprintf(`{"url": %q}`, h.URL+"/SECRET-none"))
	s.secret("channel@company", fmt.Sprintf(`{"url": "smtps://lk:pass%%20word@%s", "from": "lockkeeper@example.com", "to": "{user}@example.com", "addresses": {"dora": "dora.d@example.org"}}`, at))
	n := s.notifier()
	n.channels.roots = roots
	ctx := context.Background()
	_, err := s.k.Teller().Look(ctx)
	s.must(err)
	r := s.wishes(nasty)
	s.tells(n, func() bool { return len(box.all()) == 3 && len(mails.all()) == 2 && s.standing("letters").Sent == 2 })
	link := "https://lockkeeper.example/open/request/" + r
	for _, p := range box.all() {
		checkChat(t, p, link)
	}
	var to []string
	for _, m := range mails.all() {
		to = append(to, m.to)
		if m.headers["Bcc"] != nil || m.headers.Get("Subject") != "Lockkeeper: an activation waits for approval" || m.headers.Get("Auto-Submitted") == "" || m.headers.Get("Content-Type") != "text/plain; charset=UTF-8" {
			t.Errorf("the mail's headers are %v", m.headers)
		}
		if text := strings.ReplaceAll(m.body, "=\r\n", ""); !strings.Contains(text, link) || strings.Contains(text, "\nBcc") || strings.Contains(text, "\u202e") {
			t.Errorf("the mail says %s", text)
		}
	}
	if slices.Sort(to); !slices.Equal(to, []string{"cat@example.com", "dora.d@example.org"}) {
		t.Errorf("mail went to %s", to)
	}
	s.secretless("SECRET", "pass word", "pass%20word", tellKey, "dora.d@example.org")
	if v := s.standing("none"); v.Sent+int64(v.Waiting) != 0 {
		t.Error("a room was told of what waits for nobody in it")
	}
	id, err := s.k.TestNotification(ctx, dora, "room")
	s.must(err)
	s.tells(n, func() bool {
		return slices.ContainsFunc(box.all(), func(p post) bool { return strings.Contains(p.body, id) })
	})
}

// checkChat reads a message by HTTP as the service would.
func checkChat(t *testing.T, p post, link string) {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(p.body), &body); err != nil {
		t.Fatal(err)
	}
	var walk func(v any, kind string)
	walk = func(v any, kind string) {
		switch v := v.(type) {
		case map[string]any:
			k, _ := v["type"].(string)
			for _, x := range v {
				walk(x, k)
			}
		case []any:
			for _, x := range v {
				walk(x, kind)
			}
		case string:
			if strings.Contains(v, "evil") && kind != "plain_text" && kind != "TextRun" && p.id == "" {
				t.Errorf("what people wrote stands in %s: %s", kind, v)
			}
			if strings.ContainsAny(v, "\r\n\u202e") {
				t.Errorf("a line was broken, or turned: %q", v)
			}
		}
	}
	walk(body, "")
	if !strings.Contains(p.body, link) || !strings.Contains(p.body, "evil") {
		t.Errorf("it says %s", p.body)
	}
	if p.id == "" {
		return
	}
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(tellKey, webhookTag))
	if want := "v1," + base64.StdEncoding.EncodeToString(sign(key, p.id, p.headers.Get("webhook-timestamp"), []byte(p.body))); p.headers.Get("webhook-signature") != want || !strings.Contains(p.body, p.id) {
		t.Error("the webhook is not signed, or says another id")
	}
}

// TestChannelFailures has each way in which a channel does not work, with the code that
// says so, and no secret in what is said.
func TestChannelFailures(t *testing.T) {
	box, mails := &postbox{}, &postbox{pass: "right"}
	h := httptest.NewServer(box)
	t.Cleanup(h.Close)
	config, roots := certified(t)
	start, clear := mailServer(t, mails, config, false), mailServer(t, &postbox{}, nil, false)
	from := `, "from": "a@example.com", "to": "{user}@example.com"}`
	for _, c := range []struct {
		via, file, code string
		status          int
	}{
		{"slack", "", "secret_missing", 0}, {"slack", "https://SECRET.example", "channel_unfit", 0}, {"slack", `{"url": "https://x.example", "surl": "SECRET"}`, "channel_unfit", 0}, {"slack", `{"url": "/SECRET"}`, "channel_unfit", 0},
		{"slack", `{"url": "http://SECRET.example/x"}`, "address_refused", 0}, {"slack", `{"url": "ftp://127.0.0.1/SECRET"}`, "address_refused", 0}, {"slack", `{"url": "https://169.254.169.254/SECRET"}`, "address_refused", 0}, {"slack", `{"url": "https://10.0.0.1/SECRET"}`, "address_refused", 0},
		{"slack", `{"url": "http://127.0.0.1:1/SECRET"}`, "service_unreachable", 0}, {"slack", `{"url": "` + h.URL + `/SECRET"}`, "service_refused", 500}, {"teams", `{"url": "` + h.URL + `/SECRET"}`, "service_refused", 302},
		{"webhook", `{"url": "` + h.URL + `", "key": "SECRET"}`, "secret_unfit", 0}, {"pigeon", `{"url": "` + h.URL + `"}`, "kind_unknown", 0},
		{"mail", `{"url": "` + h.URL + `"` + from, "channel_unfit", 0}, {"mail", `{"url": "smtp://127.0.0.1:1"` + from, "service_unreachable", 0}, {"mail", `{"url": "smtp://10.0.0.1"` + from, "address_refused", 0},
		{"mail", `{"url": "smtp://` + clear + `", "from": "a@example.com"}`, "address_unknown", 0}, {"mail", `{"url": "smtp://` + clear + `", "to": "{user}@example.com"}`, "channel_unfit", 0}, {"mail", `{"url": "smtp://` + clear + `", "from": "a@example.com", "addresses": {"cat": "cat@example.com, all@example.com"}}`, "address_unknown", 0},
		{"mail", `{"url": "smtp://lk:SECRET@` + start + `"` + from, "service_unreachable", 0}, // the wrong password
		{"mail", `{"url": "smtp://lk:SECRET@` + clear + `"` + from, "service_unreachable", 0}, // never in the clear
		{"mail", `{"url": "smtp://lk:right@` + start + `"` + from, "", 0}, {"mail", `{"url": "smtp://` + clear + `"` + from, "", 0},
	} {
		s := &stage{T: t, secrets: t.TempDir()}
		if c.file != "" {
			s.secret("channel@x", c.file)
		}
		reach, _ := ParseReach([]string{"127.0.0.0/8"})
		box.mu.Lock()
		box.status = c.status
		box.mu.Unlock()
		ch := channels{secrets: secrets{s.secrets}, reach: reach, address: "https://lockkeeper.example", roots: roots}
		err := ch.send(t.Context(), keeper.Delivery{ID: "m-1", Rule: "x", Via: c.via, Channel: "x", User: "cat", Items: []keeper.DeliveryItem{{ID: "m-1", About: "requests", Subject: "request/r-1", Text: "text"}}})
		if (err == nil) != (c.code == "") {
			t.Errorf("%s %s: %v", c.via, c.file, err)
			continue
		}
		if err != nil {
			if o := outcomeOf(err); o.Code != c.code || strings.Contains(o.Reason, "SECRET") {
				t.Errorf("%s %s: %+v, want %s", c.via, c.file, o, c.code)
			}
		}
	}
	mails.refuse = true
	s := &stage{T: t, secrets: t.TempDir()}
	s.secret("channel@x", `{"url": "smtp://lk:right@`+start+`"`+from)
	reach, _ := ParseReach([]string{"127.0.0.0/8"})
	err := channels{secrets: secrets{s.secrets}, reach: reach, roots: roots}.send(t.Context(), keeper.Delivery{ID: "m-1", Via: "mail", Channel: "x", User: "cat", Items: []keeper.DeliveryItem{{About: "requests"}}})
	if o := outcomeOf(err); o.Code != "service_refused" || !strings.Contains(o.Reason, "550") || strings.Contains(o.Reason, "SECRET") {
		t.Errorf("a mailbox that is refused: %v", err)
	}
}

// TestToldDespiteCrashes lets server and notifier die between any two steps, at random:
// everybody is told of what waits for him at least once, and always under one id.
func TestToldDespiteCrashes(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			box := &postbox{}
			h := httptest.NewServer(box)
			t.Cleanup(h.Close)
			s := staged(t, telling+`{kind: Notification, name: hook, via: webhook, to: [group:leads], about: [requests]}
---
{kind: Notification, name: later, via: webhook, channel: hook, to: [user:cat], about: [requests], digest: {every: 10m}}
`)
			s.secret("channel@hook", fmt.Sprintf(`{"url": %q, "key": %q}`, h.URL, tellKey))
			random, ctx := rand.New(rand.NewPCG(seed, 1)), context.Background()
			n, teller := s.notifier(), s.k.Teller()
			look := func() {
				for more := true; more; {
					var err error
					more, err = teller.Look(ctx)
					s.must(err)
				}
			}
			look()
			var asked []string
			step := func(dies bool) {
				look()
				for _, d := range s.k.Deliveries() {
					if dies && random.IntN(3) == 0 {
						break
					}
					s.must(n.channels.send(ctx, d))
					if dies && random.IntN(3) == 0 {
						break // between the message and the report
					}
					s.must(s.k.ReportDeliveries(ctx, []keeper.DeliveryOutcome{{Rule: d.Rule, IDs: d.IDs()}}))
				}
			}
			for range 4 {
				for range min(random.IntN(3), 5-len(asked)) {
					asked = append(asked, s.wishes("why"))
				}
				s.ahead.Add(int64(time.Duration(random.IntN(400)) * time.Second))
				if random.IntN(4) > 0 {
					step(true)
				}
				s.must(s.k.Close())
				s.open()
				n, teller = s.notifier(), s.k.Teller()
			}
			step(false)
			s.ahead.Add(int64(11 * time.Minute))
			step(false)
			ids := map[string]map[string]bool{}
			for _, p := range box.all() {
				var b hookBody
				s.must(json.Unmarshal([]byte(p.body), &b))
				for _, i := range b.Data.Items {
					key := b.Data.Notification + " " + strings.TrimPrefix(i.Subject, "request/")
					if ids[key] == nil {
						ids[key] = map[string]bool{}
					}
					ids[key][i.ID+" "+p.id] = true
				}
			}
			for _, r := range asked {
				for _, rule := range []string{"hook", "later"} {
					if got := ids[rule+" "+r]; len(got) != 1 {
						t.Errorf("%s was told of %s under %v", rule, r, got)
					}
				}
			}
		})
	}
}
