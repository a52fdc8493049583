package web

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/lockkeeper/lockkeeper/internal/lktest/provider"
)

// corp is a directory that lets in whom it knows, and names its groups.
const corp = `
---
kind: Directory
name: corp
platform: oidc
issuer: ISSUER
client: lockkeeper
admit: true
groups: [{id: g-managers, group: managers}]
groupAge: 1h
---
kind: User
name: eve
signIns: [{directory: corp, subject: id-eve}]
`

// directory starts a provider and puts a catalog in force in which it is the
// directory corp.
func (w *world) directory(document string) *provider.Provider {
	w.t.Helper()
	p := provider.Start(w.t, w.server.URL+"/sign-in/callback/corp")
	w.serving.Load().Secret = func(string) (string, error) { return p.Secret, nil }
	p.Add("id-ann", "anna@example.com", map[string]any{"groups": []string{"g-managers", "g-other"}})
	p.Add("id-eve", "eve@example.com", nil)
	w.applied(strings.ReplaceAll(document, "ISSUER", p.URL))
	return p
}

// applied puts the rules, and documents beside them, in force.
func (w *world) applied(documents string) {
	w.t.Helper()
	var now api.Catalog
	w.must(w.people["dora"].Call(context.Background(), "GET", "/catalog", nil, &now))
	w.must(w.people["dora"].Call(context.Background(), "PUT", "/catalog", api.Apply{Base: now.Revision, Files: []api.File{{Name: "rules.yaml", Data: w.rulesBeside(documents)}}}, nil))
}

// rulesBeside are the rules and documents beside them. Where a directory admits
// people, those of the rules have no account there.
func (w *world) rulesBeside(documents string) string {
	text := strings.ReplaceAll(rules, "ISSUER", w.issuer.URL)
	if strings.Contains(documents, "admit: true") {
		for _, user := range []string{"dora", "ann", "bob", "cat"} {
			text = strings.Replace(text, "kind: User\nname: "+user+"\n", "kind: User\nname: "+user+"\nsignIns: [{directory: corp, none: true}]\n", 1)
		}
	}
	return text + documents
}

// A terminal is the command line's part of a sign-in.
type terminal struct {
	w        *world
	browser  *provider.Browser
	verifier string
	state    string
}

const terminalHost = "127.0.0.1:45555"

func (w *world) terminal() *terminal {
	c := &terminal{w, provider.NewBrowser(w.t), randomText(), randomText()}
	c.browser.On = stopAtTerminal
	return c
}

// stopAtTerminal stops the browser where nobody listens in these tests.
func stopAtTerminal(to *url.URL) string {
	if to.Host == terminalHost {
		return ""
	}
	return to.String()
}

// signIn signs in in the browser, and says that the command line is his.
func (c *terminal) signIn(address, name string) provider.Page {
	c.w.t.Helper()
	return c.browser.Answer(c.browser.SignIn(address, name), "/sign-in/confirm", "yes")
}

func (c *terminal) address(more string) string {
	sum := sha256.Sum256([]byte(c.verifier))
	q := url.Values{"port": {"45555"}, "state": {c.state}, "challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	return c.w.server.URL + "/sign-in?" + q.Encode() + more
}

// redeem turns what the browser brought back into a session.
func (c *terminal) redeem(p provider.Page) (api.Session, error) {
	c.w.t.Helper()
	if p.URL.Host != terminalHost || p.URL.Query().Get("state") != c.state {
		c.w.t.Fatalf("the browser is at %s: %d %s", p.URL, p.Status, p.Body)
	}
	var s api.Session
	err := api.Client{Server: c.w.server.URL}.Call(context.Background(), "POST", "/sign-in/session", api.RedeemSignIn{Code: p.URL.Query().Get("code"), Verifier: c.verifier}, &s)
	return s, err
}

// signedIn signs in as the user of that name at the provider.
func (w *world) signedIn(name string) (api.Session, api.Client) {
	w.t.Helper()
	c := w.terminal()
	s, err := c.redeem(c.signIn(c.address(""), name))
	w.must(err)
	return s, api.Client{Server: w.server.URL, Bearer: s.Secret}
}

func TestSignInWithDirectory(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.directory(corp)
	s, anna := w.signedIn("anna@example.com")
	if s.User != "anna" {
		t.Errorf("signed in as %s", s.User)
	}
	// The group that the directory names gives what is assigned to it.
	var can api.Can
	w.must(anna.Call(ctx, "GET", "/can?user=anna&action=deployments/approve&scope=/projects/payments", nil, &can))
	if can.Decision.Verdict != lockkeeper.Pass || !strings.Contains(can.Decision.Sentence, "group managers") || can.Decision.Until == nil {
		t.Errorf("anna: %+v", can.Decision)
	}
	if hour := can.Decision.Until.Sub(lockkeeper.MomentOf(time.Now())); hour > time.Hour || hour < 59*time.Minute {
		t.Errorf("it is believed for %s", hour)
	}
	// Whoever lists the account is its user; the same account comes back as the same user.
	if s, _ := w.signedIn("eve@example.com"); s.User != "eve" {
		t.Errorf("signed in as %s", s.User)
	}
	if s, _ := w.signedIn("anna@example.com"); s.User != "anna" {
		t.Errorf("signed in as %s the second time", s.User)
	}
	var list api.Sessions
	w.must(anna.Call(ctx, "GET", "/sessions", nil, &list))
	if len(list.Sessions) != 2 || list.Sessions[0].Directory != "corp" || list.Sessions[0].Authenticated.IsZero() || list.Sessions[0].Strong || !slices.ContainsFunc(list.Sessions, func(s api.SignedIn) bool { return s.Current }) {
		t.Errorf("sessions: %+v", list)
	}
	if err := anna.Call(ctx, "GET", "/sessions?all=true", nil, nil); code(err) != "not_granted" {
		t.Errorf("anna sees everybody's sessions: %v", err)
	}
	// One is ended without the other.
	other := list.Sessions[slices.IndexFunc(list.Sessions, func(s api.SignedIn) bool { return !s.Current })]
	w.must(anna.Call(ctx, "DELETE", "/sessions/"+other.ID, nil, nil))
	w.must(anna.Call(ctx, "GET", "/sessions", nil, &list))
	if len(list.Sessions) != 1 {
		t.Errorf("sessions: %+v", list)
	}
	w.must(w.people["dora"].Call(ctx, "DELETE", "/sessions/"+list.Sessions[0].ID, nil, nil))
	if err := anna.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("the session goes on: %v", err)
	}
}

// Nobody comes to bear the name of somebody who is there already.
func TestNamesOfMembers(t *testing.T) {
	w := newWorld(t)
	p := w.directory(corp)
	p.Add("id-1", "dora@elsewhere.example", nil)
	p.Add("id-2", "ANNA", nil)
	p.Add("id-3", "../..", nil)
	_, dora := w.signedIn("dora@elsewhere.example")
	first, _ := w.signedIn("anna@example.com")
	for _, name := range []string{"ANNA", "../.."} {
		s, _ := w.signedIn(name)
		if s.User == first.User || !strings.HasPrefix(s.User, "corp-") {
			t.Errorf("%q signed in as %s", name, s.User)
		}
	}
	if err := dora.Call(context.Background(), "GET", "/catalog", nil, nil); code(err) != "not_granted" {
		t.Errorf("a stranger called dora reads the catalog: %v", err)
	}
	// A catalog cannot give the name of somebody who is there to somebody else.
	err := w.people["dora"].Call(context.Background(), "PUT", "/catalog", api.Apply{Base: 3, Files: []api.File{{Name: "rules.yaml", Data: w.rulesBeside(
		strings.ReplaceAll(corp, "ISSUER", p.URL) + "---\nkind: User\nname: anna\nsignIns: [{directory: corp, none: true}]\n")}}}, nil)
	if code(err) != "user_name_taken" {
		t.Errorf("the catalog takes the name of a member: %v", err)
	}
	err = w.people["dora"].Call(context.Background(), "PUT", "/catalog", api.Apply{Base: 3, Files: []api.File{{Name: "rules.yaml", Data: w.rulesBeside(
		strings.ReplaceAll(corp, "ISSUER", p.URL) + "---\nkind: User\nname: other\nsignIns: [{directory: corp, subject: id-ann}]\n")}}}, nil)
	if code(err) != "sign_in_bound" {
		t.Errorf("the catalog gives a member's account to another user: %v", err)
	}
}

// What ends what a directory gave.
func TestDirectoryTakenAway(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	p := w.directory(corp)
	_, anna := w.signedIn("anna@example.com")
	_, eve := w.signedIn("eve@example.com")
	approve := func() lockkeeper.Verdict {
		var can api.Can
		w.must(w.people["dora"].Call(ctx, "GET", "/can?user=anna&action=deployments/approve&scope=/projects/payments", nil, &can))
		return can.Decision.Verdict
	}
	if approve() != lockkeeper.Pass {
		t.Fatal("anna may not approve")
	}
	// The next sign-in without the group takes what it gave.
	p.Add("id-ann", "anna@example.com", map[string]any{"groups": []string{"g-other"}})
	w.signedIn("anna@example.com")
	if approve() != lockkeeper.Fail {
		t.Error("anna approves by a group that she is in no more")
	}
	// A directory that admits nobody any more ends whom it brought, and nobody else.
	w.applied(strings.ReplaceAll(strings.Replace(corp, "admit: true\n", "", 1), "ISSUER", p.URL))
	if err := anna.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("whom the directory brought goes on: %v", err)
	}
	w.must(eve.Call(ctx, "GET", "/sessions", nil, nil))
	c := w.terminal()
	if _, err := c.redeem(c.signIn(c.address(""), "anna@example.com")); code(err) != "sign_in_unknown" || !strings.Contains(lockkeeper.RefusalOf(err).Next, `signIns: [{directory: corp, subject: "id-ann"}]`) {
		t.Errorf("anna signs in: %v", err)
	}
	// So does the user's own list.
	w.applied(strings.ReplaceAll(strings.Replace(corp, "subject: id-eve", "subject: id-other", 1), "ISSUER", p.URL))
	if err := eve.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("an account that is nobody's goes on: %v", err)
	}
	// What ended does not come back with what it rested on.
	w.applied(strings.ReplaceAll(corp, "ISSUER", p.URL))
	if err := eve.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("a session that ended is back: %v", err)
	}
	_, eve = w.signedIn("eve@example.com")
	w.applied("")
	if err := eve.Call(ctx, "GET", "/sessions", nil, nil); code(err) != "session_unknown" {
		t.Errorf("a session goes on without its directory: %v", err)
	}
}

// What the directory said outlives the server, and a sign-in under way does not.
func TestSignInOverRestart(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	p := w.directory(corp)
	_, anna := w.signedIn("anna@example.com")
	c := w.terminal()
	c.browser.On = func(to *url.URL) string {
		if strings.HasPrefix(to.Path, "/sign-in/callback/") {
			w.must(w.keeper.Close())
			w.open()
			w.serving.Load().Secret = func(string) (string, error) { return p.Secret, nil }
		}
		return stopAtTerminal(to)
	}
	if page := c.signIn(c.address(""), "anna@example.com"); page.Status != http.StatusUnauthorized || !strings.Contains(page.Body, "state_wrong") {
		t.Errorf("%d %s", page.Status, page.Body)
	}
	var can api.Can
	w.must(anna.Call(ctx, "GET", "/can?user=anna&action=deployments/approve&scope=/projects/payments", nil, &can))
	if can.Decision.Verdict != lockkeeper.Pass {
		t.Errorf("anna: %+v", can.Decision)
	}
}

// Every way in which a sign-in can be tampered with, or go wrong, ends without a
// session and says why.
func TestSignInGoesWrong(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		name string
		do   func(w *world, p *provider.Provider, c *terminal)
		code string
		page bool // the browser shows it; otherwise the terminal does
	}{
		{"another nonce", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAsk(func(q url.Values) { q.Set("nonce", "another") })
		}, "nonce_wrong", false},
		{"no nonce", func(_ *world, _ *provider.Provider, c *terminal) { c.onAsk(func(q url.Values) { q.Del("nonce") }) }, "nonce_wrong", false},
		{"another state", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAsk(func(q url.Values) { q.Set("state", randomText()) })
		}, "state_wrong", true},
		{"no state", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Del("state") })
		}, "state_wrong", true},
		{"another challenge", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAsk(func(q url.Values) { q.Set("code_challenge", randomText()) })
		}, "code_refused", false},
		{"another code", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Set("code", "made-up") })
		}, "code_refused", false},
		{"the code twice", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Add("code", q.Get("code")) })
		}, "sign_in_malformed", true},
		{"no code", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Del("code") })
		}, "code_missing", false},
		{"an expired code", func(_ *world, p *provider.Provider, _ *terminal) { p.Forget() }, "code_refused", false},
		{"another issuer", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Set("iss", "https://attacker.example") })
		}, "issuer_mixed_up", false},
		{"another directory's address", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { u.Path = "/sign-in/callback/other" })
		}, "state_wrong", true},
		{"another browser", func(w *world, _ *provider.Provider, c *terminal) {
			c.browser.On = func(to *url.URL) string {
				if strings.HasPrefix(to.Path, "/sign-in/callback/") {
					page := provider.NewBrowser(w.t).Get(to.String())
					if page.Status != http.StatusUnauthorized || !strings.Contains(page.Body, "browser_differs") {
						w.t.Errorf("another browser: %d %s", page.Status, page.Body)
					}
				}
				return stopAtTerminal(to)
			}
		}, "state_wrong", true},
		{"the directory says no", func(_ *world, _ *provider.Provider, c *terminal) {
			c.onAnswer(func(u *url.URL, q url.Values) { q.Del("code"); q.Set("error", "access_denied") })
		}, "directory_refused", false},
		{"the directory goes away", func(_ *world, p *provider.Provider, c *terminal) {
			c.onAnswer(func(*url.URL, url.Values) { p.Stop() })
		}, "directory_away", false},
		{"the directory is away", func(_ *world, p *provider.Provider, _ *terminal) { p.Stop() }, "directory_away", true},
		{"a wrong secret", func(w *world, _ *provider.Provider, _ *terminal) {
			w.serving.Load().Secret = func(string) (string, error) { return "wrong", nil }
		}, "client_refused", false},
		{"a group overage", func(_ *world, p *provider.Provider, _ *terminal) {
			p.Add("id-ann", "anna@example.com", map[string]any{"_claim_names": map[string]string{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example/"}}})
		}, "groups_overage", false},
		{"an overage of the implicit kind", func(_ *world, p *provider.Provider, _ *terminal) {
			p.Add("id-ann", "anna@example.com", map[string]any{"hasgroups": true})
		}, "groups_overage", false},
		{"groups that are none", func(_ *world, p *provider.Provider, _ *terminal) {
			p.Add("id-ann", "anna@example.com", map[string]any{"groups": []any{"g-managers", 7}})
		}, "groups_unfit", false},
		{"no credential just now", func(_ *world, p *provider.Provider, c *terminal) {
			p.Age(time.Hour)
			c.state += "&anew=true"
		}, "not_anew", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := w.directory(corp)
			defer p.Stop()
			c := w.terminal()
			test.do(w, p, c)
			state, more := c.state, ""
			if i := strings.Index(c.state, "&"); i > 0 {
				c.state, more = state[:i], state[i:]
			}
			page := c.signIn(c.address(more), "anna@example.com")
			if test.page {
				if page.Status < 400 || !strings.Contains(page.Body, test.code) || page.URL.Host == terminalHost {
					t.Fatalf("at %s: %d %s", page.URL, page.Status, page.Body)
				}
				return
			}
			q := page.URL.Query()
			if page.URL.Host != terminalHost || q.Get("error") != test.code || q.Get("code") != "" || q.Get("detail") == "" || q.Get("state") != c.state {
				t.Fatalf("at %s: %d %s", page.URL, page.Status, page.Body)
			}
			if n := len(w.keeperSessions("anna")); n != 0 {
				t.Errorf("anna has %d sessions", n)
			}
		})
	}
}

func (w *world) keeperSessions(user string) []api.SignedIn {
	w.t.Helper()
	var list api.Sessions
	w.must(w.people["dora"].Call(context.Background(), "GET", "/sessions?user="+user, nil, &list))
	return list.Sessions
}

// onAsk changes what the browser asks the provider.
func (c *terminal) onAsk(change func(url.Values)) {
	c.browser.On = func(to *url.URL) string {
		if q := to.Query(); q.Get("code_challenge") != "" && q.Get("port") == "" {
			change(q)
			to.RawQuery = q.Encode()
		}
		return stopAtTerminal(to)
	}
}

// onAnswer changes what the browser brings from the provider.
func (c *terminal) onAnswer(change func(*url.URL, url.Values)) {
	c.browser.On = func(to *url.URL) string {
		if q := to.Query(); strings.HasPrefix(to.Path, "/sign-in/callback/") {
			change(to, q)
			to.RawQuery = q.Encode()
		}
		return stopAtTerminal(to)
	}
}

// The code that comes over the loopback port is good once, with the verifier, for
// whoever began.
func TestRedeemOnce(t *testing.T) {
	w := newWorld(t)
	w.directory(corp)
	c := w.terminal()
	page := c.signIn(c.address(""), "anna@example.com")
	thief := *c
	thief.verifier = randomText()
	if _, err := thief.redeem(page); code(err) != "sign_in_code_wrong" {
		t.Errorf("without the verifier: %v", err)
	}
	// It is used up by the attempt: somebody else had the code.
	if _, err := c.redeem(page); code(err) != "sign_in_code_wrong" {
		t.Errorf("after a wrong one: %v", err)
	}
	page = c.signIn(c.address(""), "anna@example.com")
	if _, err := c.redeem(page); err != nil {
		t.Fatal(err)
	}
	if _, err := c.redeem(page); code(err) != "sign_in_code_wrong" {
		t.Errorf("the second time: %v", err)
	}
	// An answer counts once, too.
	if again := c.browser.Get(w.server.URL + "/sign-in/callback/corp?code=x&state=" + randomText()); again.Status != http.StatusUnauthorized {
		t.Errorf("%d %s", again.Status, again.Body)
	}
}

// Nobody is signed in by an address alone: the person says so, on the server's own
// page, once.
func TestConfirmSignIn(t *testing.T) {
	w := newWorld(t)
	w.directory(corp)
	c := w.terminal()
	page := c.browser.SignIn(c.address(""), "anna@example.com")
	if page.Status != http.StatusOK || !strings.Contains(page.Body, "anna@example.com") || page.URL.Host == terminalHost {
		t.Fatalf("at %s: %d %s", page.URL, page.Status, page.Body)
	}
	secret := secretField.FindStringSubmatch(page.Body)[1]
	r, err := http.NewRequest(http.MethodPost, w.server.URL+"/sign-in/confirm", strings.NewReader(url.Values{"secret": {secret}, "answer": {"yes"}}.Encode()))
	w.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://attacker.example")
	resp, err := http.DefaultClient.Do(r)
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", resp.StatusCode)
	}
	if no := c.browser.Answer(page, "/sign-in/confirm", "no"); no.URL.Query().Get("error") != "access_denied" {
		t.Errorf("at %s: %d %s", no.URL, no.Status, no.Body)
	}
	if again := c.browser.Answer(page, "/sign-in/confirm", "yes"); again.Status != http.StatusUnauthorized || !strings.Contains(again.Body, "state_wrong") {
		t.Errorf("after no: %d %s", again.Status, again.Body)
	}
}

func TestStepUp(t *testing.T) {
	w := newWorld(t)
	p := w.directory(corp)
	p.AMR("pwd", "mfa")
	c := w.terminal()
	_, err := c.redeem(c.signIn(c.address("&anew=true"), "anna@example.com"))
	w.must(err)
	list := w.keeperSessions("anna")
	if len(list) != 1 || !list[0].Strong || time.Since(list[0].Authenticated.Time()) > time.Minute {
		t.Errorf("%+v", list)
	}
}

var secretField = regexp.MustCompile(`name="secret" value="([^"]*)"`)

func TestDeviceSignIn(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.directory(corp)
	anybody := api.Client{Server: w.server.URL}
	begin := func() (d api.DeviceSignIn) {
		w.must(anybody.Call(ctx, "POST", "/sign-in/device", api.BeginDevice{}, &d))
		return d
	}
	ask := func(d api.DeviceSignIn) (s api.Session, err error) {
		u := w.serving.Load().underway
		u.mu.Lock()
		for _, o := range u.devices {
			o.next = time.Time{} // a second is over
		}
		u.mu.Unlock()
		err = anybody.Call(ctx, "POST", "/sign-in/device/session", api.RedeemDevice{DeviceCode: d.DeviceCode}, &s)
		return s, err
	}
	enter := func(code string) provider.Page {
		b := provider.NewBrowser(t)
		page := b.Post(w.server.URL+"/device", url.Values{"user_code": {code}, "directory": {"corp"}})
		if page.Status != http.StatusOK {
			return page
		}
		return b.SignIn(page.URL.String(), "anna@example.com")
	}
	answer := func(page provider.Page, yes string) provider.Page {
		found := secretField.FindStringSubmatch(page.Body)
		if found == nil {
			t.Fatalf("no question: %d %s", page.Status, page.Body)
		}
		return provider.NewBrowser(t).Post(w.server.URL+"/device/confirm", url.Values{"secret": {found[1]}, "answer": {yes}})
	}
	d := begin()
	if _, err := ask(d); code(err) != "authorization_pending" {
		t.Errorf("before anybody: %v", err)
	}
	page := enter(strings.ToLower(strings.ReplaceAll(d.UserCode, "-", " ")))
	if !strings.Contains(page.Body, d.UserCode) || !strings.Contains(page.Body, "anna@example.com") {
		t.Errorf("the question: %s", page.Body)
	}
	if _, err := ask(d); code(err) != "authorization_pending" {
		t.Errorf("signed in and not confirmed: %v", err)
	}
	if second := enter(d.UserCode); second.Status != http.StatusUnauthorized {
		t.Errorf("a second person: %d %s", second.Status, second.Body)
	}
	if done := answer(page, "yes"); done.Status != http.StatusOK {
		t.Errorf("%d %s", done.Status, done.Body)
	}
	if s, err := ask(d); err != nil || s.User != "anna" {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := ask(d); code(err) != "expired_token" {
		t.Errorf("the second time: %v", err)
	}
	d = begin()
	answer(enter(d.UserCode), "no")
	if _, err := ask(d); code(err) != "access_denied" {
		t.Errorf("the person said no: %v", err)
	}
	if page := enter("BCDF-GHJK"); page.Status != http.StatusUnauthorized {
		t.Errorf("a code that is none: %d", page.Status)
	}
	// A page elsewhere cannot answer for the person.
	r, err := http.NewRequest(http.MethodPost, w.server.URL+"/device/confirm", strings.NewReader("secret=x&answer=yes"))
	w.must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(r)
	w.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", resp.StatusCode)
	}
}
