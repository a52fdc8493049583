package effect

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"golang.org/x/crypto/ssh"
)

// A host is a real sshd on a loopback port, which trusts one authority and lets in
// as the account of this test whoever has a certificate for the principal ops.
type host struct {
	address string
	account string
	key     ssh.PublicKey
	log     lockedBuffer
}

func privateKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func hosted(t *testing.T, authority ssh.PublicKey, more ...string) *host {
	t.Helper()
	program := "/usr/sbin/sshd"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("sshd is not installed")
		}
		t.Skip("NOT TESTED: sshd is not installed here (apt-get install openssh-server)")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	signer, text := privateKey(t)
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	config := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nHostKey %s\nTrustedUserCAKeys %s\nAuthorizedPrincipalsFile %s\nAuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nStrictModes no\nLogLevel VERBOSE\n%s",
		port, write("host", text), write("authority", ssh.MarshalAuthorizedKey(authority)), write("principals", []byte("ops\n")), strings.Join(more, ""))
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // it separates its privileges there; without it, it says so
	}
	h := &host{address: fmt.Sprintf("127.0.0.1:%d", port), account: me.Username, key: signer.PublicKey()}
	cmd := exec.Command(program, "-D", "-e", "-f", write("config", []byte(config)))
	cmd.Stdout, cmd.Stderr = &h.log, &h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for {
		conn, err := net.Dial("tcp", h.address)
		if err == nil {
			conn.Close()
			return h
		}
		select {
		case <-ended:
			t.Fatalf("sshd ended: %s", h.log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// enter runs a command on the host with a certificate for a key.
func (h *host) enter(key ssh.Signer, certificate string) (string, error) {
	signers := []ssh.Signer{key}
	if certificate != "" {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(certificate))
		if err != nil {
			return "", err
		}
		c, is := public.(*ssh.Certificate)
		if !is {
			return "", errors.New("this is no certificate")
		}
		signer, err := ssh.NewCertSigner(c, key)
		if err != nil {
			return "", err
		}
		signers = []ssh.Signer{signer}
	}
	client, err := ssh.Dial("tcp", h.address, &ssh.ClientConfig{User: h.account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)}, HostKeyCallback: ssh.FixedHostKey(h.key), Timeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	var out bytes.Buffer
	session.Stdout = &out
	err = session.Run("echo inside")
	return out.String(), err
}

const hosts = "{kind: Provisioner, name: hosts, role: operator, scope: /projects/p/environments/e, ssh: {principals: [ops], lifetime: 5m}}\n"

// TestSSH lets a person onto a real host with a certificate for his own key, and
// nobody else, and not without the activation.
func TestSSH(t *testing.T) {
	authority, secret := privateKey(t)
	h := hosted(t, authority.PublicKey())
	s := staged(t, hosts)
	s.secret("hosts", string(secret))
	w := s.worker(nil)
	s.runs(w)
	ctx := context.Background()
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	mine, _ := privateKey(t)
	public := string(ssh.MarshalAuthorizedKey(mine.PublicKey()))
	if _, err := h.enter(mine, ""); err == nil {
		t.Fatal("the host lets in without a certificate")
	}
	c, err := w.Certificate(ctx, ann, a, "", public)
	s.must(err)
	out, err := h.enter(mine, c.Certificate)
	if err != nil || out != "inside\n" {
		t.Fatalf("the host does not let in: %q %v\n%s", out, err, h.log.String())
	}
	if !strings.Contains(h.log.String(), a) {
		t.Error("the host does not log the activation")
	}
	other, _ := privateKey(t)
	if _, err := h.enter(other, c.Certificate); err == nil {
		t.Error("somebody else's key is let in with it")
	}
	if left := time.Until(c.Until.Time()); left > 5*time.Minute || left < 4*time.Minute {
		t.Errorf("it lasts %s", left)
	}
	_, err = w.Certificate(ctx, bob, a, "", public)
	s.want(err, "opening_missing")
	for name, text := range map[string]string{"nothing": "", "a private key": string(secret), "two": public + public, "options": "no-pty " + public, "a certificate": c.Certificate, "much": strings.Repeat("x", maxPublicKey+1),
		"dsa": "ssh-dss AAAAB3NzaC1kc3MAAAAAAAAAAAAAAAAAAA=="} {
		if _, err = w.Certificate(ctx, ann, a, "", text); err == nil {
			t.Errorf("%s is certified", name)
		} else {
			s.want(err, "public_key_unfit")
		}
	}
	s.end(ann, a)
	s.until("")
	_, err = w.Certificate(ctx, ann, a, "", public)
	s.want(err, "opening_missing")
	if d, err := s.k.DutyByID(ctx, dora, "o-"+strings.TrimPrefix(a, "a-")+"-1"); err != nil || d.Outside != c.Until || d.Stands != "undone" {
		t.Errorf("what lives outside is not told: %v %+v", err, d)
	}
	lines := strings.Split(strings.TrimSpace(string(secret)), "\n")
	s.secretless(lines[1], lines[len(lines)/2])
}

// A certificate is worth nothing past its end, and past the activation's.
func TestCertificateEnds(t *testing.T) {
	authority, secret := privateKey(t)
	s := staged(t, hosts)
	s.secret("hosts", string(secret))
	w := s.worker(nil)
	s.runs(w)
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	mine, _ := privateKey(t)
	s.ahead.Add(int64(57 * time.Minute))
	h, err := s.k.HandCredential(context.Background(), ann, a, "", "ssh", ssh.FingerprintSHA256(mine.PublicKey()))
	s.must(err)
	now := time.Now().Add(57 * time.Minute)
	data, err := w.ssh.certificate(h, mine.PublicKey(), now)
	s.must(err)
	public, _, _, _, err := ssh.ParseAuthorizedKey(data)
	s.must(err)
	c := public.(*ssh.Certificate)
	end := time.Unix(int64(c.ValidBefore), 0)
	if end.After(h.Duty.Ends.Time()) || end.Before(now.Add(2*time.Minute)) {
		t.Errorf("it ends at %s, the activation at %s", end, h.Duty.Ends)
	}
	for at, want := range map[time.Duration]bool{-2 * time.Minute: false, time.Second: true, 4 * time.Minute: false} {
		checker := &ssh.CertChecker{Clock: func() time.Time { return now.Add(at) }, SupportedCriticalOptions: nil, IsUserAuthority: func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), authority.PublicKey().Marshal()) }}
		if err := checker.CheckCert("ops", c); (err == nil) != want {
			t.Errorf("after %s: %v", at, err)
		}
		if checker.CheckCert("root", c) == nil {
			t.Error("it is for another principal")
		}
	}
	if c.KeyId != a || c.CertType != ssh.UserCert || c.Serial != h.Serial || len(c.Extensions) != 1 {
		t.Errorf("%+v", c)
	}
	if _, err := w.ssh.certificate(keeper.Handover{Duty: h.Duty, Until: h.Duty.Taken}, mine.PublicKey(), now); err == nil {
		t.Error("a certificate that is over is signed")
	}
}
