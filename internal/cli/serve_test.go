package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// certificate writes a certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, pool = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: public}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(public)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return cert, key, pool
}

// What is wrong with TLS is said before anything is made or listened on.
func TestServeRefusesUnfitTLS(t *testing.T) {
	cert, key, _ := certificate(t)
	_, other, _ := certificate(t)
	data := filepath.Join(t.TempDir(), "data")
	for _, test := range []struct{ flags, code, next string }{
		{"--tls-cert " + cert, "tls_incomplete", "--tls-key"},
		{"--tls-key " + key, "tls_incomplete", "--tls-cert"},
		{"--tls-cert nope --tls-key " + key, "tls_unreadable", "nope"},
		{"--tls-cert " + cert + " --tls-key nope", "tls_unreadable", "nope"},
		{"--tls-cert " + cert + " --tls-key " + other, "tls_unfit", "does not match"},
		{"--tls-cert " + key + " --tls-key " + cert, "tls_unfit", "PEM"},
		{"--tls-cert " + cert + " --tls-key " + key + " --url http://127.0.0.1:1", "url_in_the_clear", "https"},
		{"--tls-cert " + cert + " --tls-key " + key + " --listen :0", "url_missing", "--url https://HOST"},
	} {
		args := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, strings.Fields(test.flags)...)
		code, out, stderr := play(t, args...)
		if code != 2 || out != "" || !strings.Contains(stderr, "["+test.code+"]") || !strings.Contains(stderr, test.next) || !strings.Contains(stderr, "next: ") {
			t.Errorf("%s: exit %d, %q, %q", test.flags, code, out, stderr)
		}
		if _, err := os.Stat(data); err == nil {
			t.Fatalf("%s: the folder was made", test.flags)
		}
	}
}

func TestServeTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	said := serving(t, "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	found := regexp.MustCompile(`serves (https://127\.0\.0\.1:\d+) from`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("it says %q", said)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp, err := client.Get(found[1] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("it answers %s", resp.Status)
	}
}

// The data folder is this account's alone: made so, and refused otherwise.
func TestServeClosesItsFolder(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, mode := range []os.FileMode{0o755, 0o750, 0o710, 0o701, 0o702, 0o770} {
		os.Mkdir(data, 0o700)
		if err := os.Chmod(data, mode); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := play(t, "serve", "--data", data, "--listen", "127.0.0.1:0")
		if code != 2 || !strings.Contains(stderr, "[folder_open_to_others]") || !strings.Contains(stderr, "chmod 700 "+data) {
			t.Errorf("%04o: exit %d, %q", mode, code, stderr)
		}
		if list, err := os.ReadDir(data); err != nil || len(list) > 0 {
			t.Errorf("%04o: %d files were made, %v", mode, len(list), err)
		}
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	serving(t, "--data", data, "--listen", "127.0.0.1:0")
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("it was made with %v, %v", info.Mode(), err)
	}
}

// The HTTP edge is told how it is reached: it believes nothing of a proxy where
// there is none.
func TestServeTellsHowItIsReached(t *testing.T) {
	for _, test := range []struct {
		proxied bool
		at      net.IP
		exposed bool
	}{{false, net.IPv4(127, 0, 0, 1), false}, {true, net.IPv4(10, 0, 0, 1), true}, {true, net.IPv6loopback, false}, {false, net.IPv6zero, true}} {
		o := serveOptions{url: "https://lockkeeper.example.com", proxied: test.proxied}.web(nil, &net.TCPAddr{IP: test.at}, nil)
		if o.Proxied != test.proxied || o.Exposed != test.exposed || o.URL != "https://lockkeeper.example.com" {
			t.Errorf("%+v: %+v", test, o)
		}
	}
}
