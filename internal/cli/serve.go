package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/evidence"
	"github.com/lockkeeper/lockkeeper/internal/identity"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/web"
	"github.com/spf13/cobra"
)

// serveOptions are the settings of `serve`. Every zero value is safe.
type serveOptions struct {
	data    string        // data folder
	outside string        // file with the last checkpoint
	listen  string        // address to listen on
	url     string        // address under which others reach the server; its issuer
	cert    string        // TLS certificate file
	key     string        // TLS key file
	proxied bool          // TLS ends before the server
	secrets string        // folder with the client secrets of directories
	roots   []string      // files with trusted roots of Sigstore
	systems string        // folder with the secrets of provisioners and calls
	reach   []string      // networks beyond the public internet to which calls may go
	linger  time.Duration // how long the key set is served once the store cannot be used

	tls *tls.Config // of cert and key; nil: the server ends no TLS
}

func (a *app) serveCommand() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{Use: "serve", Short: "Run the server", Args: cobra.NoArgs,
		Example: "  lockkeeper serve --data ./data\n  lockkeeper serve --data /var/lib/lockkeeper --listen :8443 --url https://lockkeeper.example.com --tls-cert cert.pem --tls-key key.pem"}
	c.Flags().StringVar(&o.data, "data", "lockkeeper-data", "data folder; made if there is none")
	c.Flags().StringVar(&o.outside, "checkpoint", "", "file in which the journal's last checkpoint is kept, best on another disk; default: checkpoint in the data folder")
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8420", "address to listen on")
	c.Flags().StringVar(&o.url, "url", "", "address under which others reach it; default: the listening address, https with TLS")
	c.Flags().StringVar(&o.cert, "tls-cert", "", "TLS certificate file")
	c.Flags().StringVar(&o.key, "tls-key", "", "TLS key file")
	c.Flags().StringArrayVar(&o.roots, "sigstore-root", nil, "file with a trusted root of Sigstore (trusted_root.json) that keyless signers of the catalog name by its digest; may be repeated")
	c.Flags().StringVar(&o.systems, "provisioners", "", "folder with the secrets of the catalog's provisioners: for each a file of its name, readable by this account only; without it nothing is granted outside. The calls of rules have call@RULE.key and call@RULE.secret there, and the channels of notifications channel@NAME")
	c.Flags().StringSliceVar(&o.reach, "reach", nil, "network to which the calls of rules may go beyond the public internet, such as 10.1.0.0/16 or 127.0.0.1/32; may be given more than once")
	c.Flags().DurationVar(&o.linger, "keys-linger", 30*time.Second, "how long the key set is still served once the store cannot be used, before the server ends")
	c.Flags().StringVar(&o.secrets, "directory-secrets", "", "folder with the client secret of each directory, in a file of its name; one without a file is a public client")
	c.Flags().BoolVar(&o.proxied, "behind-proxy", false, "a proxy before the server ends TLS, and adds the address of its client to X-Forwarded-For, whose last one is believed")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), o) }
	return c
}

func (a *app) serve(ctx context.Context, o serveOptions) error {
	if err := o.readTLS(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return lockkeeper.Unavailable.Errorf("listen_failed", "The address %s cannot be listened on: %v.", o.listen, err).WithNext("Name another with --listen.")
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr)
	if err := o.finish(at); err != nil {
		return err
	}
	if err := closeFolder(o.data); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(a.err, nil))
	roots, err := o.readRoots()
	if err != nil {
		return err
	}
	k, err := keeper.Open(ctx, keeper.Options{Dir: o.data, Outside: o.outside, Issuer: o.url, Log: log, Roots: roots})
	if err != nil {
		return a.keysOnly(ctx, l, o, brokenError(err))
	}
	defer k.Close()
	options := o.web(k, at, log)
	if err := options.Fit(k.Rules().Catalog); err != nil {
		return err
	}
	if err := a.welcome(ctx, k, o); err != nil {
		return err
	}
	defer o.hold(ctx, k, &options, log)()
	finish, err := o.work(ctx, k, &options)
	if err != nil {
		return err
	}
	defer finish()
	asked, err := o.ask(ctx, k, log)
	if err != nil {
		return err
	}
	defer asked()
	judged, err := o.referee(ctx, k, &options)
	if err != nil {
		return err
	}
	defer judged()
	told, err := o.tell(ctx, k, log)
	if err != nil {
		return err
	}
	defer told()
	go rotateKeys(ctx, k, log)
	go keepKeySet(ctx, k, o.keySetFile(), log)
	return run(ctx, web.New(options).HTTP(), l, k, o)
}

// web is how the server is reached, in the words of its HTTP edge.
func (o serveOptions) web(k *keeper.Keeper, at *net.TCPAddr, log *slog.Logger) web.Options {
	return web.Options{Keeper: k, Verifier: identity.NewVerifier(identity.Options{Log: log}), URL: o.url, Version: Version, Log: log, Exposed: !at.IP.IsLoopback(), Proxied: o.proxied, Secret: o.secret}
}

// readRoots reads the trusted roots of Sigstore, by their digest.
func (o serveOptions) readRoots() (map[lockkeeper.Digest][]byte, error) {
	out := map[lockkeeper.Digest][]byte{}
	for _, path := range o.roots {
		b, err := readBounded(path, 4<<20)
		if err != nil {
			return nil, err
		}
		if _, err := (evidence.Signer{Name: path, Issuer: "any", Subject: "any", Root: b}).Identity(); err != nil {
			return nil, err
		}
		out[lockkeeper.DigestOf(b)] = b
	}
	return out, nil
}

// secret reads the client secret of a directory, each time: it may be replaced
// while the server runs.
func (o serveOptions) secret(directory string) (string, error) {
	if o.secrets == "" {
		return "", nil
	}
	b, err := os.ReadFile(filepath.Join(o.secrets, directory)) // a catalog's name has no slash
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", lockkeeper.Unavailable.Errorf("directory_secret", "The server cannot read its secret for the directory %s.", directory).WithNext("Ask whoever runs it to look at its log.").WithCause(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// rotateKeys lets aged keys rotate while the server runs.
func rotateKeys(ctx context.Context, k *keeper.Keeper, log *slog.Logger) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := k.RotateAged(ctx); err != nil && ctx.Err() == nil {
			log.Error("keys were not rotated", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.Done():
			return
		case <-tick.C:
		}
	}
}

// readTLS reads the certificate and its key, both or none.
func (o *serveOptions) readTLS() error {
	switch {
	case o.cert == "" && o.key == "":
		return nil
	case o.cert == "" || o.key == "":
		missing := "--tls-key"
		if o.cert == "" {
			missing = "--tls-cert"
		}
		return lockkeeper.Invalid.Errorf("tls_incomplete", "TLS takes a certificate and its key, and %s is missing.", missing).
			WithNext("Name both --tls-cert and --tls-key, or neither.")
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	var file *fs.PathError
	if errors.As(err, &file) {
		return lockkeeper.Invalid.Errorf("tls_unreadable", "The TLS certificate or its key cannot be read: %v.", err).
			WithNext("Name files that this account can read.").WithField(file.Path)
	}
	if err != nil {
		return lockkeeper.Invalid.Errorf("tls_unfit", "The certificate %s and the key %s are no pair that TLS can be served with: %v.", o.cert, o.key, err).
			WithNext("Name two files in PEM: the certificate with its chain, and the private key that belongs to it.")
	}
	o.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return nil
}

// closeFolder makes the data folder for this account alone, and refuses one that
// others can enter: it holds every key.
func closeFolder(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(dir, 0o700)
	} else if err == nil && info.IsDir() && info.Mode().Perm()&0o077 != 0 {
		return lockkeeper.Invalid.Errorf("folder_open_to_others", "Others than this account can read or write the data folder %s (mode %04o), and it holds every key.", dir, info.Mode().Perm()).
			WithNext("Close it: chmod 700 %s", dir).WithField(dir)
	}
	if err != nil {
		return lockkeeper.Unavailable.Errorf("folder_unusable", "The data folder %s cannot be used: %v.", dir, err).WithNext("Name a folder that this account can write to.").WithField(dir)
	}
	return nil
}

// finish fills in what was left open and refuses what would send secrets in
// the clear.
func (o *serveOptions) finish(at *net.TCPAddr) error {
	if o.url == "" && o.tls != nil && at.IP.IsUnspecified() {
		return lockkeeper.Invalid.Errorf("url_missing", "Nobody can tell under which address others reach a server that listens on %s.", at).WithNext("Name it: --url https://HOST")
	}
	if o.url == "" {
		o.url = "http://" + at.String()
		if o.tls != nil {
			o.url = "https://" + at.String()
		}
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.HasSuffix(o.url, "/") || u.RawQuery != "" || u.User != nil {
		return lockkeeper.Invalid.Errorf("url_malformed", "The server's URL %q must be https://HOST, without a slash at its end.", o.url).WithNext("Mend --url.")
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "http" && (!local || o.tls != nil) {
		return lockkeeper.Invalid.Errorf("url_in_the_clear", "The server's URL %s would send secrets in the clear.", o.url).WithNext("Name the address under which others reach it: --url https://HOST.")
	}
	if !at.IP.IsLoopback() && o.tls == nil && !o.proxied {
		return lockkeeper.Invalid.Errorf("listen_in_the_clear", "Listening on %s without TLS would send secrets in the clear.", at).
			WithNext("Name --tls-cert and --tls-key, listen on a loopback address, or say --behind-proxy.")
	}
	return nil
}

// welcome writes the public keys beside the journal and prints what a person
// needs at the first start.
func (a *app) welcome(ctx context.Context, k *keeper.Keeper, o serveOptions) error {
	b, err := json.MarshalIndent(k.Trust(), "", "  ")
	if err != nil {
		return err
	}
	if err := writePrivate(filepath.Join(o.data, "keys.json"), append(b, '\n')); err != nil {
		return err
	}
	code, err := k.MakeSetupCode(ctx)
	if err != nil {
		return err
	}
	if within(o.outside, o.data) {
		fmt.Fprintln(a.err, "warning: the journal's last checkpoint lies in the data folder, so a folder that is put back as a whole from a back-up\n  is not noticed, and what was revoked since comes back. Keep it on another disk: serve --checkpoint FILE")
	}
	return a.print(started{Version, o.url, o.data, code}, func(w io.Writer) {
		fmt.Fprintf(w, "Lockkeeper %s serves %s from %s\n", Version, o.url, o.data)
		if code != "" {
			fmt.Fprintf(w, "Nobody administers it yet. Enter as the first administrator:\n  lockkeeper setup --server %s --user NAME --code %s\n", o.url, code)
		}
	})
}

// started is what `serve` tells once it listens.
type started struct {
	Version string `json:"version"`
	URL     string `json:"url"`
	Data    string `json:"data"`
	Code    string `json:"setup_code,omitempty"` // until the first administrator has entered
}

// within reports whether a file lies in a folder, where "" does.
func within(file, dir string) bool {
	if file == "" {
		return true
	}
	at, err := filepath.Abs(file)
	folder, err2 := filepath.Abs(dir)
	if err != nil || err2 != nil {
		return true
	}
	rel, err := filepath.Rel(folder, at)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// keySetFile is where the key set is kept for when the store cannot be used.
func (o serveOptions) keySetFile() string { return filepath.Join(o.data, "jwks.json") }

// keepKeySet writes the key set down whenever it differs.
func keepKeySet(ctx context.Context, k *keeper.Keeper, file string, log *slog.Logger) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	var last []byte
	for {
		set, err := k.KeySet()
		if err == nil && !bytes.Equal(set, last) {
			if err = writePrivate(file, set); err == nil {
				last = set
			}
		}
		if err != nil {
			log.Error("the key set was not written down", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.Done():
			return
		case <-tick.C:
		}
	}
}

// keysOnly serves the key set of the last start for a while when the store cannot
// be used, so that what runs elsewhere can still be verified. A supervisor then
// starts the server again, which tries the store again.
func (a *app) keysOnly(ctx context.Context, l net.Listener, o serveOptions, cause error) error {
	set, err := os.ReadFile(o.keySetFile())
	if r := lockkeeper.RefusalOf(cause); err != nil || o.linger <= 0 || r != nil && r.Code == "folder_in_use" {
		return cause // never served before, or another server serves it
	}
	code := a.fail(cause)
	fmt.Fprintf(a.err, "Only the key set is served, for %s more.\n", o.linger)
	ctx, cancel := context.WithTimeout(ctx, o.linger)
	defer cancel()
	s := web.KeysOnly(o.url, set, cause)
	context.AfterFunc(ctx, func() { s.Close() })
	if s.TLSConfig = o.tls; o.tls != nil {
		s.ServeTLS(l, "", "") // the pair was read before
	} else {
		s.Serve(l)
	}
	return &exitError{code: code} // it is said already
}

// run serves until ctx ends or the keeper stops, then lets requests finish.
func run(ctx context.Context, s *http.Server, l net.Listener, k *keeper.Keeper, o serveOptions) error {
	failed := make(chan error, 1)
	go func() {
		if s.TLSConfig = o.tls; o.tls != nil {
			failed <- s.ServeTLS(l, "", "") // the pair was read before
		} else {
			failed <- s.Serve(l)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-k.Done():
		// It decides nothing more. The key set is served a little longer, so that
		// what runs elsewhere can still be verified; then a supervisor starts anew.
		select {
		case <-time.After(o.linger):
		case <-ctx.Done():
		}
		s.Close()
		return k.Fault()
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) { // somebody waits on a deployment
		return s.Close()
	}
	return err
}

func (a *app) keysCommand() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "Print the public keys that vouch for receipts and proofs", Args: cobra.NoArgs, Example: "  lockkeeper keys > keys.json",
		Long: "Keep them: with them, receipts and proofs can be verified without the server, and a server that was\nreplaced by another shows.",
		RunE: func(c *cobra.Command, _ []string) error {
			var out json.RawMessage
			if err := a.client().Call(c.Context(), "GET", "/keys", nil, &out); err != nil {
				return err
			}
			var t keeper.Trust
			if err := json.Unmarshal(out, &t); err != nil {
				return err
			}
			return a.json(t)
		}}
	c.AddCommand(a.rotateCommand())
	return c
}

// trust reads what `keys` printed.
func trust(file string) (keeper.Trust, error) {
	var t keeper.Trust
	b, err := os.ReadFile(file)
	if err != nil {
		return t, lockkeeper.Invalid.Errorf("keys_unreadable", "The public keys cannot be read: %v.", err).
			WithNext("Fetch them from the server: lockkeeper keys > keys.json, and name the file with --keys.").WithField(file)
	}
	if err := json.Unmarshal(b, &t); err != nil || t.CheckpointKey == "" {
		return t, lockkeeper.Invalid.Errorf("keys_malformed", "The file %s holds no public keys.", file).WithNext("Fetch them from the server: lockkeeper keys > keys.json").WithField(file)
	}
	return t, nil
}
