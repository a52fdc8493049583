package effect

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/token"
	"golang.org/x/crypto/ssh"
)

// TestRevokedKeys lets a real sshd refuse a certificate whose activation was ended, and
// no other, once it has fetched the list.
func TestRevokedKeys(t *testing.T) {
	list := filepath.Join(t.TempDir(), "lockkeeper.krl")
	authority, secret := privateKey(t)
	s := staged(t, hosts)
	fetch := func() {
		t.Helper()
		serials, version, at, err := s.k.RevokedCertificates("hosts")
		s.must(err)
		s.must(os.WriteFile(list, token.KRL(version, at.Time(), "lockkeeper hosts", serials), 0o644))
	}
	fetch()
	h := hosted(t, authority.PublicKey(), "RevokedKeys "+list+"\n")
	s.secret("hosts", string(secret))
	w := s.worker(nil)
	s.runs(w)
	ctx := context.Background()
	mine, _ := privateKey(t)
	public := string(ssh.MarshalAuthorizedKey(mine.PublicKey()))
	handed := func(by keeper.Caller, a string) string {
		t.Helper()
		c, err := w.Certificate(ctx, by, a, "", public)
		s.must(err)
		return c.Certificate
	}
	a, b := s.activate(ann, "/projects/p"), s.activate(bob, "/projects/p")
	s.until("granted granted")
	first, second, other := handed(ann, a), handed(ann, a), handed(bob, b)
	enters := func(want bool, which ...string) {
		t.Helper()
		for i, c := range which {
			if out, err := h.enter(mine, c); (err == nil && out == "inside\n") != want {
				t.Errorf("certificate %d: let in is not %v: %v\n%s", i, want, err, h.log.String())
			}
		}
	}
	enters(true, first, second, other)
	s.end(ann, a)
	fetch() // before any worker or sweep has done anything about it
	enters(false, first, second)
	enters(true, other)
	s.until("granted")
	fetch()
	enters(false, first, second)
	again := s.activate(ann, "/projects/p")
	s.until("granted granted")
	third := handed(ann, again)
	fetch()
	enters(true, third, other)
	enters(false, first, second)
	s.ahead.Add(int64(6 * time.Minute)) // their own end: they drop out
	if serials, _, _, err := s.k.RevokedCertificates("hosts"); err != nil || len(serials) != 0 {
		t.Errorf("%v %v are listed past their end", err, serials)
	}
	_, _, _, err := s.k.RevokedCertificates("elsewhere")
	s.want(err, "provisioner_missing")
}

// ssh-keygen reads the list as we mean it, also an empty one and a long one.
func TestKRLAsOpenSSHReadsIt(t *testing.T) {
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs ssh-keygen, and there is none")
		}
		t.Skip("NOT TESTED: ssh-keygen is not installed here (apt-get install openssh-client)")
	}
	dir := t.TempDir()
	authority, _ := privateKey(t)
	mine, _ := privateKey(t)
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	certificate := func(serial uint64) string {
		c := &ssh.Certificate{Key: mine.PublicKey(), CertType: ssh.UserCert, Serial: serial, ValidPrincipals: []string{"ops"}, ValidBefore: ssh.CertTimeInfinity, KeyId: "a-x"}
		if err := c.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		return write("mine-cert.pub", ssh.MarshalAuthorizedKey(c))
	}
	var many []uint64
	for n := range uint64(20_000) {
		many = append(many, 1<<62+3*n)
	}
	key := write("mine.pub", ssh.MarshalAuthorizedKey(mine.PublicKey()))
	for _, test := range []struct {
		serials []uint64
		serial  uint64
		revoked bool
	}{
		{nil, 7, false}, {[]uint64{0}, 7, false}, {[]uint64{0, 9, 7, 7}, 7, true}, {[]uint64{9, 7}, 8, false}, {[]uint64{1<<63 - 1}, 1<<63 - 1, true}, {many, 1<<62 + 3*777, true}, {many, 1<<62 + 1, false},
	} {
		data := token.KRL(3, time.Now(), "a comment", test.serials)
		if len(data) > 200_000 {
			t.Errorf("%d bytes", len(data))
		}
		list := write("list", data)
		out, err := exec.Command("ssh-keygen", "-Q", "-f", list, certificate(test.serial)).CombinedOutput()
		if (err != nil) != test.revoked || strings.Contains(string(out), "REVOKED") != test.revoked {
			t.Errorf("%d serials, %d: %v %s", len(test.serials), test.serial, err, out)
		}
		if out, err := exec.Command("ssh-keygen", "-Q", "-f", list, key).CombinedOutput(); err != nil {
			t.Errorf("the key itself is revoked: %s", out)
		}
	}
}
