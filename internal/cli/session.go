package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// savedSession is a sign-in on disk, mode 0600.
type savedSession struct {
	Server string `json:"server"`
	User   string `json:"user"`
	Secret string `json:"secret"`
}

func (a *app) sessionFile() (string, error) {
	if a.session != "" {
		return a.session, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", lockkeeper.Invalid.Errorf("no_home", "There is no folder for settings: %v.", err).WithNext("Name a file with --session-file.")
	}
	return filepath.Join(dir, "lockkeeper", "session.json"), nil
}

func (a *app) saveSession(s savedSession) error {
	file, err := a.sessionFile()
	if err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return writePrivate(file, b)
}

// writePrivate writes a file of mode 0600 in one step: a reader sees the old
// or the new bytes, never half.
func writePrivate(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".lockkeeper-*") // CreateTemp makes mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// person is a client with the saved sign-in, or with the personal token that stands
// in its place.
func (a *app) person() (api.Client, error) {
	if token := os.Getenv(personalVariable); token != "" {
		return a.client().With(token), nil
	}
	file, err := a.sessionFile()
	if err != nil {
		return api.Client{}, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return api.Client{}, lockkeeper.Unauthenticated.Errorf("not_signed_in", "Nobody is signed in here.").WithNext("Sign in: lockkeeper login")
	}
	if err != nil {
		return api.Client{}, err
	}
	var s savedSession
	if err := json.Unmarshal(b, &s); err != nil {
		return api.Client{}, lockkeeper.Invalid.Errorf("session_file_malformed", "The sign-in in %s cannot be read.", file).WithNext("Sign in again: lockkeeper login")
	}
	if s.Server != a.server {
		return api.Client{}, lockkeeper.Unauthenticated.Errorf("not_signed_in", "The sign-in kept here is for %s, not for %s.", s.Server, a.server).
			WithNext("Name that server with --server, or sign in to this one: lockkeeper login")
	}
	return a.client().With(s.Secret), nil
}

func (a *app) client() api.Client { return api.Client{Server: a.server} }

// password reads a password: from a file, from the terminal without showing
// it, or as the first line of the standard input.
func (a *app) password(file, prompt string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", lockkeeper.Invalid.Errorf("password_file", "The password file cannot be read: %v.", err)
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, prompt+": ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		return string(b), err
	}
	return firstLine(a.in)
}

// firstLine reads one line and nothing behind it: what follows, such as the code of a
// second factor, is read by another call.
func firstLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 4096; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		line = append(line, b[:n]...)
	}
	return strings.TrimRight(string(line), "\r"), nil
}

func (a *app) setupCommand() *cobra.Command {
	var user, code, file string
	c := &cobra.Command{Use: "setup", Short: "Enter as the first administrator, with the server's one-time code", Args: cobra.NoArgs,
		Example: "  lockkeeper setup --user dora --code lks_…"}
	c.Flags().StringVar(&user, "user", "", "your name in the catalog")
	c.Flags().StringVar(&code, "code", "", "the code that the server printed at its start")
	c.Flags().StringVar(&file, "password-file", "", "read the password from a file")
	c.MarkFlagRequired("user")
	c.MarkFlagRequired("code")
	c.RunE = func(c *cobra.Command, _ []string) error {
		password, err := a.password(file, "Choose a password")
		if err != nil {
			return err
		}
		if err := a.client().Call(c.Context(), "POST", "/setup", api.SetUp{Code: code, User: user, Password: password}, nil); err != nil {
			return err
		}
		return a.signIn(c, user, password)
	}
	return c
}

func (a *app) signIn(c *cobra.Command, user, password string) error {
	return a.signInWith(c.Context(), user, password, showing{})
}

// signInWith signs in with a password, and with a second factor if the account has
// one.
func (a *app) signInWith(ctx context.Context, user, password string, f showing) error {
	var s api.Session
	if err := a.client().Call(ctx, "POST", "/sessions", api.SignIn{User: user, Password: password}, &s); err != nil {
		return err
	}
	if s.FactorNeeded != nil {
		var err error
		if s, err = a.secondFactor(ctx, *s.FactorNeeded, f); err != nil {
			return err
		}
	}
	return a.signedIn(s)
}

// signedIn keeps a sign-in for the commands that follow.
func (a *app) signedIn(s api.Session) error {
	if err := a.saveSession(savedSession{a.server, s.User, s.Secret}); err != nil {
		return err
	}
	return a.print(map[string]any{"user": s.User, "expires": s.Expires}, func(w io.Writer) {
		fmt.Fprintf(w, "Signed in as %s until %s.\n", s.User, s.Expires)
	})
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "Sign out", Args: cobra.NoArgs, Example: "  lockkeeper logout", RunE: func(c *cobra.Command, _ []string) error {
		client, err := a.person()
		if err != nil {
			return err
		}
		if err := client.Call(c.Context(), "DELETE", "/sessions/current", nil, nil); err != nil {
			return err
		}
		file, err := a.sessionFile()
		if err != nil {
			return err
		}
		if err := os.Remove(file); err != nil {
			return err
		}
		return a.print(map[string]any{"signed_out": true, "server": a.server}, func(w io.Writer) { fmt.Fprintf(w, "Signed out of %s.\n", a.server) })
	}}
}

func (a *app) accountsCommand() *cobra.Command {
	c := &cobra.Command{Use: "accounts", Short: "Local accounts: invite, enrol, prove"}
	invite := &cobra.Command{Use: "invite USER", Short: "Make a one-time code with which a user chooses a password", Args: cobra.ExactArgs(1), Example: "  lockkeeper accounts invite bob",
		RunE: func(c *cobra.Command, args []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var i api.Invitation
			if err := client.Call(c.Context(), "POST", "/accounts/"+pathEscape(args[0])+"/invitation", nil, &i); err != nil {
				return err
			}
			return a.print(i, func(w io.Writer) {
				fmt.Fprintf(w, "Give this to %s, and to nobody else: lockkeeper accounts enrol --user %s --code %s\n", i.User, i.User, i.Code)
				fmt.Fprintf(w, "Until %s has proved himself by a run on the CI platform, the account counts as you.\n", i.User)
			})
		}}
	var user, code, file string
	enrol := &cobra.Command{Use: "enrol", Short: "Choose a password with an invitation's code", Args: cobra.NoArgs, Example: "  lockkeeper accounts enrol --user bob --code lki_…",
		RunE: func(c *cobra.Command, _ []string) error {
			password, err := a.password(file, "Choose a password")
			if err != nil {
				return err
			}
			if err := a.client().Call(c.Context(), "POST", "/enrolments", api.Enrol{User: user, Code: code, Password: password}, nil); err != nil {
				return err
			}
			return a.signIn(c, user, password)
		}}
	enrol.Flags().StringVar(&user, "user", "", "your name in the catalog")
	enrol.Flags().StringVar(&code, "code", "", "the invitation's code")
	enrol.Flags().StringVar(&file, "password-file", "", "read the password from a file")
	enrol.MarkFlagRequired("user")
	enrol.MarkFlagRequired("code")
	challenge := &cobra.Command{Use: "challenge", Short: "Ask for a challenge to prove yourself with", Args: cobra.NoArgs, Example: "  lockkeeper accounts challenge",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := a.person()
			if err != nil {
				return err
			}
			var ch api.Challenge
			if err := client.Call(c.Context(), "POST", "/accounts/challenge", nil, &ch); err != nil {
				return err
			}
			return a.print(ch, func(w io.Writer) {
				fmt.Fprintf(w, "Start a run on your CI platform yourself, and let it run:\n  lockkeeper accounts prove --challenge %s\n", ch.Challenge)
				fmt.Fprintln(w, "The audience of its token must be:")
				for _, p := range ch.Audiences {
					fmt.Fprintf(w, "  on %s (%s) %s\n", p.Provider, p.Platform, p.Audience)
				}
				for _, p := range ch.NoProof {
					fmt.Fprintf(w, "Nobody can prove himself on %s (%s): %s.\n", p.Provider, p.Platform, p.Reason)
				}
			})
		}}
	return withCommands(c, invite, enrol, challenge, a.proveCommand(), a.confirmLinksCommand())
}

func (a *app) proveCommand() *cobra.Command {
	var challenge, tokenFile string
	c := &cobra.Command{Use: "prove", Short: "Prove whose account it is, from a run that its owner started", Args: cobra.NoArgs, Example: "  lockkeeper accounts prove --challenge c-…"}
	c.Flags().StringVar(&challenge, "challenge", "", "what `accounts challenge` printed")
	c.Flags().StringVar(&tokenFile, "token-file", "", "file with the CI platform's token")
	c.MarkFlagRequired("challenge")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ci := ciPlatform{app: a, file: tokenFile, suffix: "/prove/" + challenge}
		token, err := ci.token(c.Context())
		if err != nil {
			return err
		}
		var p api.Proven
		if err := a.client().With(token).Call(c.Context(), "POST", "/accounts/proof", api.Proof{Challenge: challenge}, &p); err != nil {
			return err
		}
		return a.print(p, func(w io.Writer) {
			fmt.Fprintf(w, "%s has proved himself; the account counts as nobody else any more.\n", p.User)
		})
	}
	return c
}

func withCommands(c *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	c.AddCommand(sub...)
	return c
}
