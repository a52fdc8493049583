package effect

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/gate"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A desk is a real service that knows tickets, over HTTP. how says how it goes wrong,
// or what it answers.
type desk struct {
	*httptest.Server
	mu     sync.Mutex
	how    string
	asks   []*http.Request
	bodies [][]byte
	tokens []url.Values // what was shown at /token
	hold   chan struct{}
}

func deskOf(t *testing.T) *desk {
	d := &desk{hold: make(chan struct{})}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	t.Cleanup(func() { close(d.hold) })
	return d
}

func (d *desk) answers(how string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.how = how
}

func (d *desk) last(t *testing.T) (*http.Request, []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asks) == 0 {
		t.Fatal("nobody asked")
	}
	return d.asks[len(d.asks)-1], d.bodies[len(d.bodies)-1]
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asks)
}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	how := d.how
	if r.URL.Path == "/token" {
		form, _ := url.ParseQuery(string(body))
		d.tokens = append(d.tokens, form)
		d.mu.Unlock()
		io.WriteString(w, `{"access_token": "given-by-the-desk", "token_type": "bearer", "expires_in": 60}`)
		return
	}
	d.asks, d.bodies = append(d.asks, r), append(d.bodies, body)
	d.mu.Unlock()
	switch how {
	case "silent":
		select {
		case <-d.hold:
		case <-r.Context().Done():
		}
	case "elsewhere":
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
	case "much":
		io.WriteString(w, `{"ok": true, "x": "`+strings.Repeat("x", maxAnswer)+`"}`)
	case "deep":
		io.WriteString(w, `{"ok": true, "x": `+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`)
	case "digest": // of the ask, in a field
		fmt.Fprintf(w, `{"ok": true, "digest": %q}`, r.Header.Get("Lockkeeper-Ask-Digest"))
	default:
		var status int
		text, code, found := strings.Cut(how, " ")
		if n, err := fmt.Sscan(text, &status); n == 1 && err == nil {
			w.WriteHeader(status)
			if found {
				io.WriteString(w, code)
			}
			return
		}
		io.WriteString(w, how)
	}
}

const ticketOK = "body.ok == true"

// ticketRule is a rule that asks a desk.
func ticketRule(at, criteria, more string) string {
	return fmt.Sprintf("{kind: ActivationRule, name: tickets, role: operator, scope: /projects/p, ticket: 'INC-[0-9.]+', ticketCall: {call: {url: %q, criteria: %q, retry: 5s, timeout: 1s, within: 30s%s}}}\n", at, criteria, more)
}

func reach(t *testing.T, list ...string) Reach {
	t.Helper()
	r, err := ParseReach(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// asks lets an asker run, and opens a request of ann with a ticket.
func (s *stage) asks(reach Reach, ticket string) string {
	s.Helper()
	a := NewAsker(AskerOptions{Keeper: s.k, Secrets: s.secrets, Reach: reach})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		a.Run(ctx)
		close(done)
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
	return s.opens(ticket)
}

func (s *stage) opens(ticket string) string {
	s.Helper()
	r, err := s.k.RequestActivation(context.Background(), ann, "", keeper.OpenRequest{Role: "operator", Scope: "/projects/p", For: time.Hour, Reason: "why", Ticket: ticket})
	s.must(err)
	return r
}

// stands waits until the request's question was answered, or an attempt was missed.
func (s *stage) stands(id string) keeper.Question {
	s.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		changed := s.k.Changed()
		v, err := s.k.Request(context.Background(), ann, id)
		s.must(err)
		if len(v.Questions) == 1 && (v.Questions[0].Answer != nil || v.Questions[0].Missed != nil) {
			return v.Questions[0]
		}
		if time.Now().After(deadline) {
			s.Fatalf("nothing came of %s: %+v", id, v.Questions)
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var home = []string{"127.0.0.1/32", "::1/128"}

// TestTicketCall asks a desk with all that a call can carry.
func TestTicketCall(t *testing.T) {
	d := deskOf(t)
	d.answers(`{"ok": true}`)
	s := staged(t, ticketRule(d.URL+"/tickets", ticketOK, ", signed: true, headers: [{name: X-Tenant, value: payments}], token: {audience: 'https://tickets.example'}"))
	s.secret("call@tickets.key", hookSecret)
	id := s.asks(reach(t, home...), "INC-7")
	q := s.stands(id)
	if q.Answer == nil || !q.Answer.Met || q.Answer.Status != 200 || q.Answer.Body != lockkeeper.DigestOf([]byte(`{"ok": true}`)) {
		t.Fatalf("%+v", q)
	}
	r, body := d.last(t)
	var got askBody
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	v, err := s.k.Request(context.Background(), ann, id)
	s.must(err)
	if a := got.Data.Ask; got.Type != "lockkeeper.question" || got.Data.Question != q.ID || a["ticket"] != "INC-7" || a["digest"] != string(v.Digest) || a["user"] != "ann" || a["role"] != "operator" || a["scope"] != "/projects/p" {
		t.Errorf("the desk was told %+v", got)
	}
	h := r.Header
	if r.Method != "POST" || h.Get("X-Tenant") != "payments" || h.Get("Lockkeeper-Ask-Digest") != string(v.Digest) || h.Get("webhook-id") != q.ID {
		t.Errorf("%s %v", r.Method, h)
	}
	if want := "v1," + base64.StdEncoding.EncodeToString(sign(hookKey, q.ID, h.Get("webhook-timestamp"), body)); h.Get("webhook-signature") != want {
		t.Error("the signature does not hold")
	}
	claims := claimsOf(t, strings.TrimPrefix(h.Get("Authorization"), "Bearer "))
	if claims["sub"] != "lk:call:tickets" || claims["aud"] != "https://tickets.example" || claims["question"] != q.ID || claims["iss"] != "https://lockkeeper.example" {
		t.Errorf("the token says %v", claims)
	}
	if _, err := s.k.BeginActivation(context.Background(), ann, id); err != nil {
		t.Error(err)
	}
	s.secretless(hookSecret, strings.TrimPrefix(h.Get("Authorization"), "Bearer "))
	if _, err := s.k.QuestionAssertion(keeper.OpenQuestion{Question: q, About: "request/" + id}, "x"); err == nil {
		t.Error("a token for a question that is over")
	}
}

func claimsOf(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", jwt)
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A ticket stands in the address escaped, and leads to no other path.
func TestTicketInTheAddress(t *testing.T) {
	d := deskOf(t)
	d.answers("digest")
	s := staged(t, ticketRule(d.URL+"/tickets/{ticket}?ask={digest}", "body.ok == true && body.digest == ask.digest", ", method: GET"))
	id := s.asks(reach(t, home...), "INC-1..2")
	if q := s.stands(id); q.Answer == nil || !q.Answer.Met {
		t.Fatalf("%+v", q)
	}
	r, body := d.last(t)
	v, err := s.k.Request(context.Background(), ann, id)
	s.must(err)
	if r.Method != "GET" || len(body) != 0 || r.URL.Path != "/tickets/INC-1..2" || r.URL.Query().Get("ask") != string(v.Digest) {
		t.Errorf("%s %s %q", r.Method, r.URL, body)
	}
	c := caller{}
	for ticket, want := range map[string]string{"a/b": "https://x.example/a%2Fb?t=a%2Fb", "a/../b": "", "a?b#c&d": "https://x.example/a%3Fb%23c&d?t=a%3Fb%23c%26d", "..": "", "": "", ".": ""} {
		q := keeper.OpenQuestion{Ask: map[string]string{"ticket": ticket}}
		q.Call.URL = "https://x.example/{ticket}?t={ticket}"
		if got, err := c.address(q); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v", ticket, got, err)
		}
	}
}

// What a desk may answer, and what becomes of it: nothing passes that does not meet the
// criteria, and what cannot be read is no answer.
func TestAnswers(t *testing.T) {
	d := deskOf(t)
	for _, c := range []struct {
		name, how, criteria string
		want                string // met, no, or the code of what is missing
	}{
		{"yes", `{"ok": true}`, ticketOK, "met"},
		{"no", `{"ok": false}`, ticketOK, "no"},
		{"another type", `{"ok": "true"}`, ticketOK, "no"},
		{"without the field", `{"state": "x"}`, ticketOK, "no"},
		{"a list", `[true]`, ticketOK, "no"},
		{"null", `null`, ticketOK, "no"},
		{"not found", `404 {"ok": true}`, ticketOK, "no"},
		{"not found, which is looked at", `404 {"ok": true}`, "status == 404", "met"},
		{"created", `201 {"ok": true}`, ticketOK, "met"},
		{"no JSON", "<html>", ticketOK, "answer_unfit"},
		{"no JSON, and only the status counts", "<html>", "status == 200", "met"},
		{"empty", "204", ticketOK, "no"},
		{"two members", `{"ok": false, "ok": true}`, ticketOK, "answer_unfit"},
		{"something behind", `{"ok": true} {"ok": false}`, ticketOK, "answer_unfit"},
		{"half", `{"ok": true`, ticketOK, "answer_unfit"},
		{"no UTF-8", "{\"ok\": true, \"x\": \"\xff\"}", ticketOK, "answer_unfit"},
		{"deep", "deep", ticketOK, "answer_unfit"},
		{"much", "much", ticketOK, "answer_unfit"},
		{"elsewhere", "elsewhere", ticketOK, "redirect_refused"},
		{"broken", `500 {"ok": true}`, "status == 500 || body.ok == true", "service_refused"},
		{"who are you", `401 {"ok": true}`, "body.ok == true || status == 401", "service_refused"},
		{"later", `429 {"ok": true}`, ticketOK, "service_refused"},
		{"silent", "silent", ticketOK, "timed_out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.answers(c.how)
			q := keeper.OpenQuestion{Question: keeper.Question{ID: "q-1", Rule: "tickets"}, About: "request/r-1", Ask: map[string]string{"ticket": "INC-1", "digest": "sha256:1"}}
			q.Call.URL, q.Call.Criteria = d.URL, c.criteria
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			if c.how != "silent" {
				ctx, cancel = context.WithTimeout(context.Background(), 20*time.Second)
			}
			defer cancel()
			o := (&caller{reach: reach(t, home...)}).ask(ctx, q)
			got := "no"
			switch {
			case o.Missed != nil:
				got = o.Missed.Code
			case o.Answer.Met:
				got = "met"
			}
			if got != c.want {
				t.Errorf("got %s, want %s: %+v", got, c.want, o)
			}
		})
	}
}

// Criteria that would take minutes over an answer are given up, and are no yes.
func TestDearCriteria(t *testing.T) {
	numbers := strings.TrimSuffix(strings.Repeat("1,", 9000), ",")
	q := keeper.OpenQuestion{}
	q.Call.Criteria = "body.all(a, body.all(b, body.all(c, a + b + c > 0.0)))"
	begun := time.Now()
	r, err := judge(q, 200, []byte("["+numbers+"]"))
	if err != nil || r.Met {
		t.Errorf("%+v, %v", r, err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	q.Call.Criteria = `body.x.matches("(a*)*b")`
	if r, err := judge(q, 200, []byte(`{"x": "`+strings.Repeat("a", 60_000)+`"}`)); err != nil || r.Met {
		t.Errorf("%+v, %v", r, err)
	}
}

// Without the server's word a call goes nowhere but to the internet, and to what tells
// a machine its credentials never.
func TestReach(t *testing.T) {
	none, all := Reach{}, reach(t, "0.0.0.0/0", "::/0", "10.0.0.0/8", "127.0.0.1/32")
	for _, c := range []struct {
		ip        string
		none, all bool
	}{
		{"93.184.216.34", true, true}, {"2606:2800:220:1::1", true, true},
		{"127.0.0.1", false, true}, {"::1", false, true}, {"10.1.2.3", false, true}, {"192.168.1.1", false, true}, {"172.16.0.1", false, true}, {"fd00::1", false, true}, {"100.64.0.1", false, true},
		{"0.1.2.3", false, true}, {"198.18.0.1", false, true}, {"240.0.0.1", false, true}, {"2001:db8::1", false, true}, {"192.0.2.1", false, true},
		{"169.254.169.254", false, false}, {"169.254.170.2", false, false}, {"fe80::1", false, false}, {"fe80::1%eth0", false, false}, {"fd00:ec2::254", false, false}, {"100.100.100.200", false, false}, {"168.63.129.16", false, false}, {"192.0.0.192", false, false},
		{"0.0.0.0", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"ff02::1", false, false},
		{"64:ff9b::a9fe:a9fe", false, false}, {"2002:7f00:1::", false, false}, {"2001::1", false, false}, {"::7f00:1", false, false},
		{"::ffff:169.254.169.254", false, false}, {"::ffff:10.0.0.1", false, true},
	} {
		ip := netip.MustParseAddr(c.ip).Unmap()
		if got := none.admits(ip); got != c.none {
			t.Errorf("%s: %v", c.ip, got)
		}
		if got := all.admits(ip); got != c.all {
			t.Errorf("%s, with all networks allowed: %v", c.ip, got)
		}
	}
	if reach(t, "fd00::/8").admits(netip.MustParseAddr("fd00::1%eth0")) || none.admits(netip.MustParseAddr("2606:2800:220:1::1%eth0")) {
		t.Error("an address of one interface is gone to")
	}
	for _, bad := range []string{"", "10.0.0.1", "10.0.0.1/8", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "::ffff:10.0.0.0/104", "example.com", "10.0.0.0/33"} {
		if _, err := ParseReach([]string{bad}); err == nil {
			t.Errorf("%q is taken for a network", bad)
		}
	}
}

// A desk on this machine is not asked unless the server lets calls go there; neither is
// one whose name leads there.
func TestCallsStayOutside(t *testing.T) {
	d := deskOf(t)
	d.answers(`{"ok": true}`)
	for address, c := range map[string]caller{
		d.URL: {},
		strings.Replace(d.URL, "127.0.0.1", "localhost", 1):                {reach: reach(t, "10.0.0.0/8")},
		strings.Replace(d.URL, "http://127.0.0.1", "https://localhost", 1): {},
		"http://tickets.example.com":                                       {reach: reach(t, home...)},
		"ftp://127.0.0.1/x":                                                {reach: reach(t, home...)},
	} {
		q := keeper.OpenQuestion{Question: keeper.Question{ID: "q-1", Rule: "tickets"}, Ask: map[string]string{"ticket": "INC-1"}}
		q.Call.URL, q.Call.Criteria = address, ticketOK
		if o := c.ask(context.Background(), q); o.Missed == nil || o.Missed.Code != "address_refused" {
			t.Errorf("%s: %+v", address, o)
		}
	}
	if d.count() > 0 {
		t.Error("something left")
	}
}

// A proxy of the environment sees nothing of a call.
func TestNoProxy(t *testing.T) {
	d, proxy := deskOf(t), deskOf(t)
	d.answers(`{"ok": true}`)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	if outside(func(netip.Addr) bool { return true }).Transport.(*http.Transport).Proxy != nil || (AzureCloud{Login: d.URL}).client().Transport.(*http.Transport).Proxy != nil {
		t.Error("a client looks for a proxy")
	}
}

// OAuth: a client shows a sealed secret, or Lockkeeper's own token.
func TestCallToken(t *testing.T) {
	for _, c := range []struct{ name, token string }{{"secret", "secret: true"}, {"assertion", "audience: 'https://login.example'"}} {
		t.Run(c.name, func(t *testing.T) {
			d := deskOf(t)
			d.answers(`{"ok": true}`)
			s := staged(t, ticketRule(d.URL, ticketOK, fmt.Sprintf(", token: {tokenURL: %q, client: lk, scope: read, %s}", d.URL+"/token", c.token)))
			if c.name == "secret" {
				id := s.asks(reach(t, home...), "INC-1")
				if q := s.stands(id); q.Missed == nil || q.Missed.Code != "secret_missing" {
					t.Fatalf("without the file: %+v", q)
				}
				if d.count() > 0 {
					t.Error("the desk was asked without a token")
				}
				s.secret("call@tickets.secret", "a secret of the client")
				if q := s.stands(s.opens("INC-2")); q.Answer == nil || !q.Answer.Met {
					t.Fatalf("%+v", q)
				}
			} else if q := s.stands(s.asks(reach(t, home...), "INC-1")); q.Answer == nil || !q.Answer.Met {
				t.Fatalf("%+v", q)
			}
			r, _ := d.last(t)
			form := d.tokens[len(d.tokens)-1]
			if r.Header.Get("Authorization") != "Bearer given-by-the-desk" || form.Get("grant_type") != "client_credentials" || form.Get("client_id") != "lk" || form.Get("scope") != "read" {
				t.Errorf("%v %v", r.Header, form)
			}
			if c.name == "secret" && form.Get("client_secret") != "a secret of the client" {
				t.Errorf("%v", form)
			}
			if c.name == "assertion" && (form.Get("client_assertion_type") != assertionOAuth || claimsOf(t, form.Get("client_assertion"))["sub"] != "lk:call:tickets") {
				t.Errorf("%v", form)
			}
			s.secretless("a secret of the client", "given-by-the-desk")
		})
	}
}

// A desk that is down is asked again; one that comes back in time lets the activation
// begin, and one that does not lets nothing (failure 19). A restart in between loses
// neither the question nor its deadline.
func TestFailure19DeskDown(t *testing.T) {
	d := deskOf(t)
	d.answers(`503 {"ok": true}`)
	s := staged(t, ticketRule(d.URL, ticketOK, ""))
	id := s.asks(reach(t, home...), "INC-1")
	if q := s.stands(id); q.Answer != nil || q.Missed.Code != "service_refused" {
		t.Fatalf("%+v", q)
	}
	_, err := s.k.BeginActivation(context.Background(), ann, id)
	s.want(err, "ticket_asked")
	d.answers(`{"ok": true}`)
	deadline := time.Now().Add(20 * time.Second)
	for {
		v, err := s.k.Request(context.Background(), ann, id)
		s.must(err)
		if v.Questions[0].Answer != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it was not asked again")
		}
		changed := s.k.Changed()
		select {
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		}
	}
	if d.count() < 2 {
		t.Errorf("asked %d times", d.count())
	}
	_, err = s.k.BeginActivation(context.Background(), ann, id)
	s.must(err)

	d.answers("500")
	lost := s.opens("INC-2")
	s.stands(lost)
	s.ahead.Add(int64(time.Minute))
	_, err = s.k.BeginActivation(context.Background(), ann, lost)
	s.want(err, "ticket_service_away")
	d.answers(`{"ok": true}`)
	q, err := s.k.Request(context.Background(), ann, lost)
	s.must(err)
	late := s.k.ReportQuestion(context.Background(), keeper.OpenQuestion{Question: q.Questions[0], About: "request/" + lost}, keeper.QuestionOutcome{Answer: &keeper.Reply{Met: true, Status: 200}})
	s.want(late, "question_late")
	_, err = s.k.BeginActivation(context.Background(), ann, lost)
	s.want(err, "ticket_service_away")
}

// FuzzAnswer reads what a service may answer: without a panic, and never as something
// that JSON would read otherwise.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{`{"ok": true}`, `{"a": {"a": [1, null, "x"]}}`, `{"a": 1, "a": 2}`, `[[[[`, `nul`, `"\ud800"`, `1e999`, ` `, `{} {}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := gate.Document(data)
		if err != nil || v == nil {
			return
		}
		var want any
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("%q is read, and is no JSON: %v", data, err)
		}
		a, _ := json.Marshal(v)
		if b, _ := json.Marshal(want); string(a) != string(b) {
			t.Fatalf("%q reads as %s, and is %s", data, a, b)
		}
	})
}
