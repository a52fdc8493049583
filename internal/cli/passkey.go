package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
)

// inBrowser lets a browser register or show a passkey, and finishes what that was
// for: with what the browser brings to a loopback port, or, with a browser elsewhere,
// by asking until it is done.
func (a *app) inBrowser(ctx context.Context, client api.Client, in api.BeginPasskey, s showing) (api.FinishedPasskey, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginPatience, lockkeeper.Unauthenticated.Errorf("passkey_slow", "Nobody showed a passkey within %s.", loginPatience).WithNext("Begin anew."))
	defer cancel()
	verifier := randomVerifier()
	sum := sha256.Sum256([]byte(verifier))
	in.Challenge = base64.RawURLEncoding.EncodeToString(sum[:])
	finish := a.shownHere
	if s.device {
		finish = a.shownElsewhere
	}
	out, err := finish(ctx, client, in, verifier, s)
	if cause := context.Cause(ctx); err != nil && cause != nil && lockkeeper.RefusalOf(cause) != nil {
		return out, cause
	}
	return out, err
}

func (a *app) shownHere(ctx context.Context, client api.Client, in api.BeginPasskey, verifier string, s showing) (out api.FinishedPasskey, err error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return out, lockkeeper.Unavailable.Errorf("listen_failed", "No loopback port can be listened on: %v.", err).WithNext("Use a browser elsewhere: --device")
	}
	defer port.Close()
	in.Port, in.State = port.Addr().(*net.TCPAddr).Port, randomVerifier()
	var b api.BegunPasskey
	if err := client.Call(ctx, "POST", "/passkeys", in, &b); err != nil {
		return out, err
	}
	back := make(chan url.Values, 1)
	server := &http.Server{Handler: broughtBack(in.State, back), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go server.Serve(port)
	defer server.Close()
	fmt.Fprintf(a.err, "Go on in the browser. If none opens, go to:\n  %s\n", b.Address)
	if !s.noBrowser {
		openBrowser(b.Address)
	}
	brought, err := whatCame(ctx, server, back)
	if err != nil {
		return out, err
	}
	err = client.Call(ctx, "POST", "/passkeys/finish", api.FinishPasskey{Code: brought.Get("code"), Verifier: verifier}, &out)
	return out, err
}

func (a *app) shownElsewhere(ctx context.Context, client api.Client, in api.BeginPasskey, verifier string, _ showing) (out api.FinishedPasskey, err error) {
	var b api.BegunPasskey
	if err := client.Call(ctx, "POST", "/passkeys", in, &b); err != nil {
		return out, err
	}
	fmt.Fprintf(a.err, "In a browser, go to %s and enter:\n  %s\n", b.Address, b.UserCode)
	pause := time.NewTicker(time.Duration(max(b.Interval, 1)) * time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return out, context.Cause(ctx)
		case <-pause.C:
		}
		err := client.Call(ctx, "POST", "/passkeys/finish", api.FinishPasskey{ID: b.ID, Verifier: verifier}, &out)
		if r := lockkeeper.RefusalOf(err); r == nil || r.Code != "authorization_pending" && r.Kind != lockkeeper.Unavailable {
			return out, err
		}
	}
}
