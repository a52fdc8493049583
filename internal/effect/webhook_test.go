package effect

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

var (
	hookKey    = []byte("0123456789abcdef0123456789abcdef")
	hookSecret = "whsec_" + base64.StdEncoding.EncodeToString(hookKey)
)

// A service is a real HTTP service behind a webhook. how says, for each verb, how it
// goes wrong; "" is well.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	has     map[string]bool // accounts, by provisioner and name
	how     map[string]string
	asks    []string // webhook-id of each
	refused []string // why a signature did not hold
	hold    chan struct{}
}

func serviced(t *testing.T) *service {
	s := &service{has: map[string]bool{}, how: map[string]string{}, hold: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(s.hold) })
	return s
}

func (s *service) set(verb, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.how[verb] = how
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, has := range s.has {
		if has {
			n++
		}
	}
	return n
}

// forget is what somebody does at the service by hand.
func (s *service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.has)
}

func (s *service) asked(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, id := range s.asks {
		if strings.Contains(id, "."+verb+".") {
			n++
		}
	}
	return n
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id, stamp := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	s.mu.Lock()
	if want := "v1," + base64.StdEncoding.EncodeToString(sign(hookKey, id, stamp, body)); err != nil || r.Header.Get("webhook-signature") != want {
		s.refused = append(s.refused, id)
		s.mu.Unlock()
		http.Error(w, "unsigned", http.StatusUnauthorized)
		return
	}
	var ask webhookAsk
	if err := json.Unmarshal(body, &ask); err != nil {
		s.refused = append(s.refused, err.Error())
	}
	s.asks = append(s.asks, id)
	verb := strings.TrimPrefix(ask.Type, "lockkeeper.")
	how, account := s.how[verb], ask.Data.Provisioner+"/"+ask.Data.Account
	if how == "" || how == "happens" {
		switch verb {
		case keeper.GrantVerb:
			s.has[account] = true
		case keeper.RevokeVerb:
			s.has[account] = false
		}
	}
	granted := s.has[account]
	s.mu.Unlock()
	switch how {
	case "", "lies": // it says that it did
		json.NewEncoder(w).Encode(map[string]bool{"granted": granted})
	case "happens", "fails": // and nobody learns of it; and it did not
		http.Error(w, "broken whsec_not-to-be-seen", http.StatusInternalServerError)
	case "elsewhere":
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
	case "much":
		io.WriteString(w, strings.Repeat("x", maxAnswer+1))
	case "nonsense":
		io.WriteString(w, "{}")
	case "silent":
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
	}
}

// TestWebhook lets a person have an account while his activation lives.
func TestWebhook(t *testing.T) {
	h := serviced(t)
	s := staged(t, webhookAt(h.URL))
	s.secret("hook", hookSecret)
	s.runs(s.worker(nil))
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	if h.count() != 1 {
		t.Error("the service does not have it")
	}
	second := s.activate(ann, "/projects/p/environments/e")
	s.until("granted granted")
	s.end(ann, a)
	s.until("granted") // handed over
	if h.count() != 1 || h.asked("revoke") != 0 {
		t.Error("the first of two activations took away what the second gives")
	}
	s.end(ann, second)
	s.until("")
	if h.count() != 0 || h.asked("revoke") == 0 || h.asked("verify") == 0 {
		t.Errorf("the service has it still, or was not asked: %v", h.asks)
	}
	if len(h.refused) > 0 {
		t.Errorf("badly signed: %v", h.refused)
	}
	s.secretless(hookSecret, string(hookKey), base64.StdEncoding.EncodeToString(hookKey))
}

// TestEveryEffectFailsTwice lets each effect fail, and fail though it happened.
func TestEveryEffectFailsTwice(t *testing.T) {
	for _, test := range []struct {
		verb, how string
		code      string // that is recorded
		owed      bool
	}{
		{"grant", "fails", "service_refused", false}, {"grant", "happens", "service_refused", false}, {"grant", "silent", "timed_out", false},
		{"revoke", "fails", "service_refused", true}, {"revoke", "happens", "service_refused", true}, {"revoke", "silent", "timed_out", true},
		{"verify", "fails", "service_refused", true}, {"verify", "nonsense", "answer_unfit", true}, {"verify", "much", "answer_unfit", true}, {"verify", "silent", "timed_out", true},
		{"revoke", "elsewhere", "service_refused", true}, {"revoke", "lies", "still_there", true},
	} {
		t.Run(test.verb+" "+test.how, func(t *testing.T) {
			t.Parallel()
			h := serviced(t)
			s := staged(t, webhookAt(h.URL))
			s.secret("hook", hookSecret)
			s.runs(s.worker(func(o *Options) { o.Longest = 1500 * time.Millisecond }))
			h.set(test.verb, test.how)
			a := s.activate(ann, "/projects/p")
			if test.owed {
				s.until("granted")
				s.end(ann, a)
				s.until("revocation_owed")
				if _, err := s.begin(bob, "/projects/p"); err == nil {
					t.Error("an owed revocation blocks nobody")
				} else {
					s.want(err, "revocation_owed")
				}
			} else {
				s.failed(test.code)
				s.end(ann, a)
			}
			if list, err := s.k.Duties(dora); err != nil || test.owed && (len(list) != 1 || list[0].Code != test.code) {
				t.Errorf("%v %+v", err, list)
			}
			h.set(test.verb, "")
			s.ahead.Add(int64(time.Hour)) // past every pause
			s.until("")
			if h.count() != 0 {
				t.Error("something is left (invariant 12)")
			}
			s.secretless("not-to-be-seen")
		})
	}
}

// TestAttest ends what is owed by the word of two persons, which stays in sight.
func TestAttest(t *testing.T) {
	h := serviced(t)
	s := staged(t, webhookAt(h.URL))
	s.secret("hook", hookSecret)
	s.runs(s.worker(nil))
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	h.set("revoke", "fails")
	s.end(ann, a)
	owed := s.until("revocation_owed")[0]
	s.ahead.Add(int64(time.Second * 10)) // the attempt's deadline is past
	ctx := context.Background()
	for by, want := range map[keeper.Caller]string{ann: "not_granted", bob: "not_granted", {}: "person_needed"} {
		_, err := s.k.AttestDuty(ctx, by, owed.ID, "it is away")
		s.want(err, want)
	}
	s.attest(dora, owed.ID, false)
	s.attest(keeper.Caller{User: "cat"}, owed.ID, true)
	forced, err := s.k.ForcedDuties(ctx, dora)
	if err != nil || len(forced) != 1 || forced[0].Stands != "force_closed" || len(forced[0].End.Attested) != 2 {
		t.Errorf("%v %+v", err, forced)
	}
	if hidden, err := s.k.ForcedDuties(ctx, bob); err != nil || len(hidden) > 0 {
		t.Errorf("bob sees %v %+v", err, hidden)
	}
	h.set("revoke", "")
	s.activate(ann, "/projects/p")
	s.until("granted")
}

// attest gives somebody's word as soon as no attempt is at work.
func (s *stage) attest(by keeper.Caller, id string, last bool) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		closed, err := s.k.AttestDuty(context.Background(), by, id, "it is away, I looked")
		if err == nil && closed == last {
			return
		}
		if r := lockkeeper.RefusalOf(err); r == nil || r.Code != "effect_unsettled" || time.Now().After(deadline) {
			s.Fatalf("closed %v: %v", closed, err)
		}
		s.ahead.Add(int64(7 * time.Second))
	}
}

// failed waits until the only duty says that its last attempt failed.
func (s *stage) failed(code string) {
	s.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		changed := s.k.Changed()
		list, err := s.k.Duties(dora)
		s.must(err)
		if len(list) == 1 && list[0].Code == code {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("no failure %s: %+v", code, list)
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestWebhookUntouched knows what never left this machine: nothing is owed then.
func TestWebhookUntouched(t *testing.T) {
	h := serviced(t)
	for name, change := range map[string]func(s *stage, o *Options) (code string){
		"no secret":    func(*stage, *Options) string { return "secret_missing" },
		"no folder":    func(_ *stage, o *Options) string { o.Secrets = ""; return "secret_missing" },
		"a bad secret": func(s *stage, _ *Options) string { s.secret("hook", "whsec_tooshort"); return "secret_unfit" },
		"a public one": func(s *stage, _ *Options) string {
			s.secret("hook", hookSecret)
			chmod(s, "hook", 0o644)
			return "secret_unfit"
		},
		"no loopback": func(s *stage, o *Options) string {
			s.secret("hook", hookSecret)
			o.Local = false
			return "address_refused"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := staged(t, webhookAt(h.URL))
			var code string
			s.runs(s.worker(func(o *Options) { code = change(s, o) }))
			a := s.activate(ann, "/projects/p")
			s.failed(code)
			s.end(ann, a)
			s.until("")
			s.secretless(hookSecret, "tooshort")
		})
	}
	if len(h.asks)+len(h.refused) > 0 {
		t.Error("something left the machine")
	}
}

func TestReachable(t *testing.T) {
	for _, c := range []struct {
		ip                string
		private, loopback bool
		want              bool
	}{
		{"93.184.216.34", false, false, true}, {"2606:2800:220:1::1", false, false, true},
		{"127.0.0.1", false, false, false}, {"127.0.0.1", true, false, false}, {"127.0.0.1", false, true, true}, {"::1", false, true, true}, {"93.184.216.34", false, true, false},
		{"10.0.0.1", false, false, false}, {"10.0.0.1", true, false, true}, {"192.168.1.1", false, false, false}, {"fd00::1", false, false, false}, {"fd00::1", true, false, true},
		{"100.64.0.1", false, false, false}, {"100.64.0.1", true, false, true},
		{"169.254.169.254", true, false, false}, {"fe80::1", true, false, false}, {"0.0.0.0", true, false, false}, {"::", true, false, false},
		{"224.0.0.1", true, false, false}, {"255.255.255.255", true, false, false}, {"64:ff9b::a9fe:a9fe", true, false, false}, {"2002:7f00:1::", true, false, false},
		{"::ffff:169.254.169.254", true, false, false}, {"::ffff:127.0.0.1", true, false, false},
	} {
		if got := reachable(netip.MustParseAddr(c.ip).Unmap(), c.private, c.loopback); got != c.want {
			t.Errorf("%s private %v loopback %v: %v", c.ip, c.private, c.loopback, got)
		}
	}
}

// A name that leads to this machine is refused before anything is sent.
func TestWebhookNameToLoopback(t *testing.T) {
	h := serviced(t)
	w := newWebhook(secrets{}, true)
	for _, address := range []string{"https://localhost.localdomain", "https://ip6-localhost", strings.Replace(h.URL, "http", "https", 1)} {
		client, err := w.client(address, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		req, _ := http.NewRequestWithContext(ctx, "POST", address, nil)
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("%s answered", address)
		}
		cancel()
	}
	if len(h.asks)+len(h.refused) > 0 {
		t.Error("something left the machine")
	}
}
