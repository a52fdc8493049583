package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
)

// How long a sign-in may take in the browser.
const loginPatience = 10 * time.Minute

// login is the flags of `login`.
type login struct {
	user, file string // with a password
	directory  string
	device     bool
	anew       bool
	noBrowser  bool
	factor     showing // beside a password
}

func (a *app) loginCommand() *cobra.Command {
	var l login
	c := &cobra.Command{Use: "login", Short: "Sign in, with a directory or with a password", Args: cobra.NoArgs,
		Example: "  lockkeeper login\n  lockkeeper login --directory entra\n  lockkeeper login --device\n  lockkeeper login --user ann\n  lockkeeper login --user ann --code 123456",
		Long: `Without --user a browser opens, and one of the organisation's directories signs you in.
On a machine without a browser, --device shows a code to enter in a browser elsewhere.
With --user, a password of Lockkeeper's own does, and then a second factor if you have one.`}
	c.Flags().StringVar(&l.user, "user", "", "your name in the catalog, to sign in with a password of Lockkeeper's own")
	c.Flags().StringVar(&l.file, "password-file", "", "read the password from a file")
	c.Flags().StringVar(&l.directory, "directory", "", "the directory to sign in with, where there are several")
	c.Flags().BoolVar(&l.device, "device", false, "show a code to enter in a browser elsewhere")
	c.Flags().BoolVar(&l.anew, "anew", false, "show a credential now, though the directory knows you")
	c.Flags().BoolVar(&l.noBrowser, "no-browser", false, "print the address instead of opening a browser")
	c.MarkFlagsMutuallyExclusive("user", "directory")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if l.user == "" {
			return a.signInBy(c.Context(), l)
		}
		password, err := a.password(l.file, "Password")
		if err != nil {
			return err
		}
		l.factor.device, l.factor.noBrowser = l.device, l.noBrowser
		return a.signInWith(c.Context(), l.user, password, l.factor)
	}
	l.factor.flags(c)
	return c
}

// signInBy signs in with a directory.
func (a *app) signInBy(ctx context.Context, l login) error {
	var all api.Directories
	if err := a.client().Call(ctx, "GET", "/directories", nil, &all); err != nil {
		return err
	}
	if len(all.Directories) == 0 {
		return lockkeeper.Invalid.Errorf("directories_none", "No directory signs people in on this server.").WithNext("Sign in with a password: lockkeeper login --user NAME")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loginPatience, lockkeeper.Unauthenticated.Errorf("sign_in_slow", "Nobody signed in within %s.", loginPatience).WithNext("Begin anew: lockkeeper login"))
	defer cancel()
	var s api.Session
	var err error
	if l.device {
		s, err = a.deviceSignIn(ctx, l)
	} else {
		s, err = a.browserSignIn(ctx, l)
	}
	if cause := context.Cause(ctx); cause != nil && lockkeeper.RefusalOf(cause) != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return a.signedIn(s)
}

// browserSignIn listens on a loopback port for what the browser brings back (RFC
// 8252, section 7.3).
func (a *app) browserSignIn(ctx context.Context, l login) (s api.Session, err error) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return s, lockkeeper.Unavailable.Errorf("listen_failed", "No loopback port can be listened on: %v.", err).WithNext("Sign in with a browser elsewhere: lockkeeper login --device")
	}
	defer port.Close()
	verifier, state := randomVerifier(), randomVerifier()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{"port": {strconv.Itoa(port.Addr().(*net.TCPAddr).Port)}, "state": {state}, "challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	if l.directory != "" {
		q.Set("directory", l.directory)
	}
	if l.anew {
		q.Set("anew", "true")
	}
	back := make(chan url.Values, 1)
	server := &http.Server{Handler: broughtBack(state, back), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go server.Serve(port)
	defer server.Close()
	address := a.server + "/sign-in?" + q.Encode()
	fmt.Fprintf(a.err, "Sign in in the browser. If none opens, go to:\n  %s\n", address)
	if !l.noBrowser {
		openBrowser(address)
	}
	brought, err := whatCame(ctx, server, back)
	if err != nil {
		return s, err
	}
	if code := brought.Get("error"); code != "" {
		status, _ := strconv.Atoi(brought.Get("status"))
		p := api.Problem{Status: cmp.Or(status, http.StatusUnauthorized), Code: printable(code), Detail: printable(brought.Get("detail")), Next: printable(brought.Get("next"))}
		return s, p.Refusal()
	}
	return s, a.client().Call(ctx, "POST", "/sign-in/session", api.RedeemSignIn{Code: brought.Get("code"), Verifier: verifier}, &s)
}

// whatCame waits for the browser, and lets it have its page.
func whatCame(ctx context.Context, server *http.Server, back <-chan url.Values) (url.Values, error) {
	select {
	case brought := <-back:
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		server.Shutdown(stop)
		return brought, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// randomVerifier is 256 random bits as RFC 7636 spells them.
func randomVerifier() string {
	sum := sha256.Sum256([]byte(randomText() + randomText()))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// broughtBack takes the one request that carries the state; any other program or
// page that finds the port gets nothing.
func broughtBack(state string, back chan<- url.Values) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Method != http.MethodGet || r.URL.Path != "/" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.Error(w, "There is nothing here.", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("Referrer-Policy", "no-referrer")
		io.WriteString(w, "<!doctype html><title>Lockkeeper</title><p>You may close this page and go back to the terminal.</p>")
		select {
		case back <- q:
		default:
		}
	})
}

// openBrowser opens an address, as the user's BROWSER or as the system does it. A
// browser that does not open is no error: the address was printed.
func openBrowser(address string) {
	var c *exec.Cmd
	switch own := os.Getenv("BROWSER"); {
	case own != "":
		c = exec.Command(own, address)
	case runtime.GOOS == "darwin":
		c = exec.Command("open", address)
	case runtime.GOOS == "windows":
		c = exec.Command("rundll32", "url.dll,FileProtocolHandler", address)
	default:
		c = exec.Command("xdg-open", address)
	}
	if c.Start() == nil {
		go c.Wait()
	}
}

// deviceSignIn shows a code and asks until somebody has confirmed it.
func (a *app) deviceSignIn(ctx context.Context, l login) (s api.Session, err error) {
	var d api.DeviceSignIn
	if err := a.client().Call(ctx, "POST", "/sign-in/device", api.BeginDevice{Anew: l.anew}, &d); err != nil {
		return s, err
	}
	fmt.Fprintf(a.err, "In a browser, go to %s and enter:\n  %s\n", d.VerificationURI, d.UserCode)
	pause := time.NewTicker(time.Duration(max(d.Interval, 1)) * time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-pause.C:
		}
		err := a.client().Call(ctx, "POST", "/sign-in/device/session", api.RedeemDevice{DeviceCode: d.DeviceCode}, &s)
		if r := lockkeeper.RefusalOf(err); r == nil || r.Code != "authorization_pending" && r.Code != "slow_down" && r.Kind != lockkeeper.Unavailable {
			return s, err
		}
	}
}

func (a *app) sessionsCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the sign-ins that hold: your own, or those that you may see", Args: cobra.NoArgs, Example: "  lockkeeper sessions list\n  lockkeeper sessions list --user ann"}
	path := whose(list, "/sessions")
	list.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		var out api.Sessions
		if err := client.Call(c.Context(), "GET", path(), nil, &out); err != nil {
			return err
		}
		return a.print(out, func(w io.Writer) {
			for _, s := range out.Sessions {
				mark := " "
				if s.Current {
					mark = "*"
				}
				fmt.Fprintf(w, "%s %s  %-12s by %-12s since %s until %s\n", mark, s.ID, s.User, cmp.Or(s.Directory, "password"), s.Started, s.Expires)
			}
		})
	}
	end := &cobra.Command{Use: "end ID", Short: "End one's own sign-in, or somebody else's", Args: cobra.ExactArgs(1), Example: "  lockkeeper sessions end s-…",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			if err := client.Call(c.Context(), "DELETE", "/sessions/"+pathEscape(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(map[string]string{"id": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "Ended.") })
		}}
	return withCommands(&cobra.Command{Use: "sessions", Short: "Sign-ins that hold, and ending them"}, list, end)
}
