package web

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/lockkeeper/lockkeeper/api"
)

// browser starts a browser without a screen whose authenticator is a virtual one. A
// test that needs it skips where there is none: apt-get install
// chromium-headless-shell, or name one in LOCKKEEPER_BROWSER.
func browser(t *testing.T) (context.Context, webauthn.AuthenticatorID) {
	t.Helper()
	file := os.Getenv("LOCKKEEPER_BROWSER")
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome", "headless-shell"} {
		if found, err := exec.LookPath(name); err == nil && file == "" {
			file = found
		}
	}
	if file == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs a browser, and there is none")
		}
		t.Skip("NOT TESTED in a browser: none is installed here (apt-get install chromium-headless-shell); TestPasskeys plays the same with a software key")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(file), chromedp.NoSandbox)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(chromedp.Do(ctx))
	_, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	must(err)
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
	must(err)
	return ctx, added.AuthenticatorID
}

// TestPasskeyInBrowser registers and shows a passkey with a real browser, through the
// real page and its script.
func TestPasskeyInBrowser(t *testing.T) {
	ctx, authenticator := browser(t)
	w := newWorld(t)
	origin := w.named()
	d := w.desk(w.people["ann"])

	// The command line's loopback port.
	port, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	back := make(chan url.Values, 1)
	listener := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			back <- r.URL.Query()
		}
	})}
	go listener.Serve(port)
	defer listener.Close()
	show := func(in api.BeginPasskey) (out api.FinishedPasskey, err error) {
		t.Helper()
		in.Port = port.Addr().(*net.TCPAddr).Port
		b, err := d.begin(in)
		w.must(err)
		w.must(chromedp.Do(ctx, chromedp.Navigate(b.Address), chromedp.Click("#go")))
		select {
		case q := <-back:
			if q.Get("state") != d.state {
				t.Fatalf("the browser brought %v", q)
			}
			err = d.client.Call(ctx, "POST", "/passkeys/finish", api.FinishPasskey{Code: q.Get("code"), Verifier: d.verifier}, &out)
		case <-time.After(20 * time.Second):
			said, _ := chromedp.Run(ctx, chromedp.TextContent("#said"))
			t.Fatalf("the browser brings nothing; the page says %q", said)
		}
		return out, err
	}
	out, err := show(api.BeginPasskey{Purpose: "register", Name: "virtual"})
	w.must(err)
	if out.Factor == nil || out.Factor.Kind != "passkey" {
		t.Fatalf("%+v", out)
	}
	_, err = show(api.BeginPasskey{Purpose: "step-up"})
	w.must(err)
	var s api.Session
	w.must(api.Client{Server: w.server.URL}.Call(ctx, "POST", "/sessions", api.SignIn{User: "ann", Password: "a long password"}, &s))
	out, err = show(api.BeginPasskey{Purpose: "sign-in", Ticket: s.FactorNeeded.Ticket})
	w.must(err)
	if out.Session == nil || out.Session.User != "ann" {
		t.Fatalf("%+v", out)
	}

	// Elsewhere, with a code, and without the key.
	b, err := d.begin(api.BeginPasskey{Purpose: "step-up"})
	w.must(err)
	w.must(chromedp.Do(ctx, chromedp.Navigate(origin+"/passkeys"), chromedp.SendKeys("input[name=user_code]", b.UserCode), chromedp.Click("button[name=go]"), chromedp.WaitVisible("#go")))
	_, err = chromedp.Call(ctx, webauthn.ClearCredentials, webauthn.ClearCredentialsParams{AuthenticatorID: authenticator})
	w.must(err)
	w.must(chromedp.Do(ctx, chromedp.Click("#go")))
	said, err := chromedp.Run(ctx, chromedp.Poll[string](`document.getElementById("said").textContent`, chromedp.WithPollingTimeout(2*time.Minute)))
	w.must(err)
	if !strings.HasPrefix(said, "It did not work: ") {
		t.Errorf("without the key the page says %q", said)
	}
}
