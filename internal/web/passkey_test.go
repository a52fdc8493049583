package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// A key is an authenticator of the test's.
type key struct {
	*lktest.Key
	t *testing.T
}

func newKey(t *testing.T, origin string) key {
	k, err := lktest.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	return key{k, t}
}

func (k key) make(options string) map[string]any { return k.answer(k.Make(options)) }
func (k key) sign(options string) map[string]any { return k.answer(k.Sign(options)) }

func (k key) answer(answer map[string]any, err error) map[string]any {
	if err != nil {
		k.t.Fatal(err)
	}
	return answer
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// A desk is a command line and a browser on one machine.
type desk struct {
	w        *world
	client   api.Client
	browser  *http.Client
	verifier string
	state    string
}

func (w *world) desk(client api.Client) *desk {
	jar, err := cookiejar.New(nil)
	w.must(err)
	return &desk{w, client, &http.Client{Jar: jar}, randomText(), randomText()}
}

// named lets the world's server be reached under a name, as passkeys need it.
func (w *world) named() string {
	at := strings.Replace(w.server.URL, "127.0.0.1", "localhost", 1)
	w.serving.Load().URL = at
	return at
}

func (d *desk) begin(in api.BeginPasskey) (api.BegunPasskey, error) {
	sum := sha256.Sum256([]byte(d.verifier))
	in.Challenge, in.State = b64(sum[:]), d.state
	var b api.BegunPasskey
	err := d.client.Call(context.Background(), "POST", "/passkeys", in, &b)
	return b, err
}

var (
	asksOptions  = regexp.MustCompile(`data-options="([^"]*)"`)
	asksCeremony = regexp.MustCompile(`data-ceremony="([^"]*)"`)
)

// page opens the page in the browser.
func (d *desk) page(address string, form url.Values) (options, ceremony, body string) {
	d.w.t.Helper()
	var resp *http.Response
	var err error
	if form == nil {
		resp, err = d.browser.Get(address)
	} else {
		resp, err = d.browser.PostForm(address, form)
	}
	d.w.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	d.w.must(err)
	if o, c := asksOptions.FindSubmatch(b), asksCeremony.FindSubmatch(b); o != nil && c != nil {
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe") {
			d.w.t.Errorf("the page's policy is %q", policy)
		}
		return html.UnescapeString(string(o[1])), html.UnescapeString(string(c[1])), string(b)
	}
	return "", "", string(b)
}

// send is what the page's script does.
func (d *desk) send(ceremony string, answer any, headers ...string) (location, code string) {
	d.w.t.Helper()
	b, err := json.Marshal(map[string]any{"ceremony": ceremony, "answer": answer})
	d.w.must(err)
	req, err := http.NewRequest("POST", d.w.serving.Load().URL+"/passkeys/shown", bytes.NewReader(b))
	d.w.must(err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := d.browser.Do(req)
	d.w.must(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	d.w.must(err)
	var out struct{ Location, Code string }
	if json.Unmarshal(raw, &out) != nil {
		out.Code = strings.TrimSpace(string(raw))
	}
	return out.Location, out.Code
}

func (d *desk) finish(location string) (out api.FinishedPasskey, err error) {
	d.w.t.Helper()
	u, err := url.Parse(location)
	d.w.must(err)
	if u.Host != "127.0.0.1:45555" || u.Query().Get("state") != d.state {
		d.w.t.Fatalf("the browser goes to %q", location)
	}
	err = d.client.Call(context.Background(), "POST", "/passkeys/finish", api.FinishPasskey{Code: u.Query().Get("code"), Verifier: d.verifier}, &out)
	return out, err
}

// registered registers a passkey.
func (d *desk) registered(k key, name string) (api.Factor, error) {
	d.w.t.Helper()
	b, err := d.begin(api.BeginPasskey{Purpose: "register", Name: name, Port: 45555})
	if err != nil {
		return api.Factor{}, err
	}
	options, ceremony, _ := d.page(b.Address, nil)
	location, code := d.send(ceremony, k.make(options))
	if code != "" {
		d.w.t.Fatalf("the passkey is refused: %s", code)
	}
	out, err := d.finish(location)
	if err != nil {
		return api.Factor{}, err
	}
	return *out.Factor, nil
}

// TestPasskeys plays a passkey's life with an authenticator of the test's: it is
// registered, asked for at the sign-in, shown again, and its copy is noticed.
func TestPasskeys(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	origin := w.named()
	k := newKey(t, origin)
	ann := w.desk(w.people["ann"])
	_, err := ann.begin(api.BeginPasskey{Purpose: "step-up", Port: 45555})
	if code(err) != "passkeys_none" {
		t.Errorf("stepping up without one: %v", err)
	}
	f, err := ann.registered(k, "key")
	w.must(err)
	var list api.Factors
	w.must(w.people["ann"].Call(ctx, "GET", "/factors", nil, &list))
	if len(list.Factors) != 1 || list.Factors[0] != f || f.Kind != "passkey" || list.Since.IsZero() {
		t.Fatalf("%+v, %+v", list, f)
	}
	if _, err := ann.begin(api.BeginPasskey{Purpose: "register", Name: "more", Port: 45555}); code(err) != "step_up_needed" {
		t.Errorf("a password alone registers a second one: %v", err)
	}

	// The password alone opens nothing.
	var s api.Session
	anybody := api.Client{Server: w.server.URL}
	w.must(anybody.Call(ctx, "POST", "/sessions", api.SignIn{User: "ann", Password: "a long password"}, &s))
	if s.Secret != "" || s.FactorNeeded == nil || len(s.FactorNeeded.Factors) != 1 || s.FactorNeeded.Factors[0] != "passkey" {
		t.Fatalf("%+v", s)
	}
	enters := w.desk(anybody)
	b, err := enters.begin(api.BeginPasskey{Purpose: "sign-in", Ticket: s.FactorNeeded.Ticket, Port: 45555})
	w.must(err)
	options, ceremony, _ := enters.page(b.Address, nil)
	if !strings.Contains(options, b64(k.ID)) {
		t.Errorf("the page does not ask for the key: %s", options)
	}
	location, refused := enters.send(ceremony, k.sign(options))
	if refused != "" {
		t.Fatal(refused)
	}
	out, err := enters.finish(location)
	w.must(err)
	strong := anybody.With(out.Session.Secret)
	var sessions api.Sessions
	w.must(strong.Call(ctx, "GET", "/sessions", nil, &sessions))
	for _, x := range sessions.Sessions {
		if x.Current && !x.Strong {
			t.Errorf("the session is %+v", x)
		}
	}
	if _, err := enters.finish(location); code(err) != "passkey_over" {
		t.Errorf("a code twice: %v", err)
	}

	// With it she steps up an older sign-in, and registers more.
	step := func() (string, error) {
		b, err := ann.begin(api.BeginPasskey{Purpose: "step-up", Port: 45555})
		w.must(err)
		options, ceremony, _ := ann.page(b.Address, nil)
		location, refused := ann.send(ceremony, k.sign(options))
		if refused != "" {
			return refused, nil
		}
		_, err = ann.finish(location)
		return "", err
	}
	refused, err = step()
	if w.must(err); refused != "" {
		t.Fatal(refused)
	}
	if _, err := ann.registered(k, "again"); code(err) != "passkey_known" {
		t.Errorf("a key twice: %v", err)
	}
	_, err = ann.registered(newKey(t, origin), "second")
	w.must(err)

	// A copy that counts from before is noticed, and nothing is stepped up.
	k.Counter -= 2
	if refused, err := step(); code(err) != "passkey_copied" {
		t.Errorf("a copy: %s %v", refused, err)
	}
}

// TestPasskeyAttacks lets each thing be wrong that a ceremony hangs on.
func TestPasskeyAttacks(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	origin := w.named()
	k := newKey(t, origin)
	ann := w.desk(w.people["ann"])
	_, err := ann.registered(k, "key")
	w.must(err)
	asked := func() (options, ceremony string) {
		t.Helper()
		b, err := ann.begin(api.BeginPasskey{Purpose: "step-up", Port: 45555})
		w.must(err)
		options, ceremony, _ = ann.page(b.Address, nil)
		return options, ceremony
	}
	refuses := func(what, want string, f func(options, ceremony string) (string, string)) {
		t.Helper()
		options, ceremony := asked()
		if location, got := f(options, ceremony); got != want || location != "" {
			t.Errorf("%s: %q, want %q; goes to %q", what, got, want, location)
		}
	}
	with := func(change func(k *lktest.Key)) func(string, string) (string, string) {
		return func(options, ceremony string) (string, string) {
			other := *k.Key
			change(&other)
			return ann.send(ceremony, key{&other, t}.sign(options))
		}
	}
	refuses("another page's signature", "passkey_wrong", with(func(k *lktest.Key) { k.Origin = "http://evil.example" }))
	refuses("another server's name", "passkey_wrong", with(func(k *lktest.Key) { k.RP = "evil.example" }))
	refuses("nobody was there", "passkey_wrong", with(func(k *lktest.Key) { k.Flags = 0 }))
	refuses("another key under the id", "passkey_wrong", with(func(k *lktest.Key) { k.Private = newKey(t, origin).Private }))
	refuses("a key that is nobody's", "passkey_wrong", with(func(k *lktest.Key) { k.ID = newKey(t, origin).ID }))
	refuses("an old challenge", "passkey_wrong", func(_, ceremony string) (string, string) {
		old, _ := asked()
		return ann.send(ceremony, k.sign(old))
	})
	refuses("no signature", "passkey_wrong", func(_, ceremony string) (string, string) { return ann.send(ceremony, map[string]any{}) })
	refuses("another browser", "browser_differs", func(options, ceremony string) (string, string) {
		return w.desk(w.people["ann"]).send(ceremony, k.sign(options))
	})
	refuses("an unknown ceremony", "passkey_over", func(options, _ string) (string, string) { return ann.send(randomText(), k.sign(options)) })
	options, ceremony := asked()
	if location, got := ann.send(ceremony, k.sign(options), "Sec-Fetch-Site", "cross-site"); location != "" || !strings.Contains(got, "cross-origin") {
		t.Errorf("from another page: %q %q", location, got)
	}
	if _, got := ann.send(ceremony, map[string]any{}); got != "passkey_wrong" {
		t.Errorf("%q", got)
	}
	if _, got := ann.send(ceremony, k.sign(options)); got != "browser_differs" { // the challenge was answered
		t.Errorf("a challenge twice: %q", got)
	}

	// What the browser brings is of use to the command line that began it alone, in
	// the sign-in that it was begun for.
	options, ceremony = asked()
	location, _ := ann.send(ceremony, k.sign(options))
	thief := *ann
	thief.verifier = randomText()
	if _, err := thief.finish(location); code(err) != "passkey_over" {
		t.Errorf("without the secret: %v", err)
	}
	bob := *ann
	bob.client = w.people["bob"]
	if _, err := bob.finish(location); code(err) != "session_differs" {
		t.Errorf("in another's sign-in: %v", err)
	}
	if _, err := ann.finish(location); code(err) != "passkey_over" { // it is spent
		t.Errorf("afterwards: %v", err)
	}

	// Bob's key steps nobody else up.
	bobs := newKey(t, origin)
	_, err = w.desk(w.people["bob"]).registered(bobs, "key")
	w.must(err)
	refuses("another's key", "passkey_wrong", func(options, ceremony string) (string, string) { return ann.send(ceremony, bobs.sign(options)) })

	// A ticket that is none, and a server without a name.
	if _, err := w.desk(api.Client{Server: w.server.URL}).begin(api.BeginPasskey{Purpose: "sign-in", Ticket: "lkf_x", Port: 45555}); code(err) != "ticket_over" {
		t.Errorf("a wrong ticket: %v", err)
	}
	w.serving.Load().URL = w.server.URL
	if _, err := ann.begin(api.BeginPasskey{Purpose: "step-up", Port: 45555}); code(err) != "passkeys_unfit" {
		t.Errorf("a server without a name: %v", err)
	}
	var sessions api.Sessions
	w.must(w.people["ann"].Call(ctx, "GET", "/sessions", nil, &sessions))
	for _, s := range sessions.Sessions {
		if s.Strong {
			t.Errorf("a session was stepped up: %+v", s)
		}
	}
}

// TestPasskeyElsewhere shows a passkey for a machine that has no browser.
func TestPasskeyElsewhere(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	origin := w.named()
	ann := w.desk(w.people["ann"])
	b, err := ann.begin(api.BeginPasskey{Purpose: "register", Name: "key"})
	w.must(err)
	if b.Address != origin+"/passkeys" || b.UserCode == "" {
		t.Fatalf("%+v", b)
	}
	finish := func(id string) (out api.FinishedPasskey, err error) {
		err = ann.client.Call(ctx, "POST", "/passkeys/finish", api.FinishPasskey{ID: id, Verifier: ann.verifier}, &out)
		return out, err
	}
	if _, err := finish(b.ID); code(err) != "authorization_pending" {
		t.Errorf("too soon: %v", err)
	}
	if _, _, body := ann.page(origin+"/passkeys?ceremony="+b.ID, nil); !strings.Contains(body, "passkey_over") { // the code is asked for
		t.Errorf("by its id: %s", body)
	}
	if _, _, body := ann.page(b.Address, url.Values{"user_code": {"BBBB-BBBB"}, "go": {"on"}}); !strings.Contains(body, "passkey_over") {
		t.Errorf("a wrong code: %s", body)
	}
	form := url.Values{"user_code": {strings.ToLower(b.UserCode)}, "go": {"on"}}
	options, ceremony, body := ann.page(b.Address, form)
	if !strings.Contains(body, b.UserCode) || !strings.Contains(body, "close this page") || !strings.Contains(body, "For the user ann") {
		t.Errorf("the page does not say what for: %s", body)
	}
	if _, _, body := w.desk(api.Client{}).page(b.Address, form); !strings.Contains(body, "passkey_over") {
		t.Errorf("a code twice: %s", body)
	}
	location, refused := ann.send(ceremony, newKey(t, origin).make(options))
	if location != "" || refused != "" {
		t.Errorf("%q %q", location, refused)
	}
	out, err := finish(b.ID)
	w.must(err)
	if out.Factor == nil || out.Factor.Name != "key" {
		t.Errorf("%+v", out)
	}
	if _, err := finish(b.ID); code(err) != "passkey_over" {
		t.Errorf("twice: %v", err)
	}
}
