package lktest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrNoDatabase says that PostgreSQL's server is not installed on this machine.
var ErrNoDatabase = errors.New("PostgreSQL's server is not installed here (apt-get install postgresql)")

// A Database is a real PostgreSQL server in a folder of its own, on a loopback
// port. It ends with Stop.
type Database struct {
	Port     int
	Password string // of the superuser postgres
	server   *exec.Cmd
	log      bytes.Buffer
}

// URL is how a role reaches a database of the server.
func (d *Database) URL(role, password, database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", role, password, d.Port, database)
}

// DatabaseProgram finds a program of PostgreSQL: in the path, or where Debian puts
// those of the server.
func DatabaseProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is well formed
	if len(found) == 0 {
		return "", ErrNoDatabase
	}
	return found[len(found)-1], nil
}

// StartDatabase makes and starts a server in an empty folder, directly below one that
// everybody may enter. PostgreSQL refuses to run as root: then it runs as postgres,
// or as nobody, and the folder is his.
func StartDatabase(dir string) (*Database, error) {
	initdb, err := DatabaseProgram("initdb")
	if err != nil {
		return nil, err
	}
	server, err := DatabaseProgram("postgres")
	if err != nil {
		return nil, err
	}
	as, err := notRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &Database{Password: "password-of-the-tests"}
	pwfile := filepath.Join(dir, "password")
	if err := os.WriteFile(pwfile, []byte(d.Password), 0o644); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	run := exec.Command(initdb, "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", pwfile, "-N", "-E", "UTF8", "--locale=C")
	run.Dir, run.SysProcAttr = dir, as
	if out, err := run.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for range 3 { // somebody else may take the port in between
		if d.Port, err = freePort(); err != nil {
			return nil, err
		}
		d.server = exec.Command(server, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(d.Port), "-k", dir, "-F", "-c", "max_connections=50")
		d.server.Dir, d.server.SysProcAttr, d.server.Stdout, d.server.Stderr = dir, as, &d.log, &d.log
		if err := d.server.Start(); err != nil {
			return nil, err
		}
		if err = d.ready(filepath.Join(data, "postmaster.pid")); err == nil {
			return d, nil
		}
		d.Stop()
	}
	return nil, fmt.Errorf("the database does not start: %w\n%s", err, d.log.String())
}

// notRoot gives the folder to somebody who is not root, if we are.
func notRoot(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// ready waits until the server says that it takes connections.
func (d *Database) ready(pidFile string) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		data, err := os.ReadFile(pidFile) // its eighth line says how it stands
		if lines := bytes.Split(data, []byte("\n")); err == nil && len(lines) > 7 && bytes.HasPrefix(lines[7], []byte("ready")) {
			return nil
		}
		if d.server.ProcessState != nil || d.server.Process.Signal(syscall.Signal(0)) != nil {
			return errors.New("the server has ended")
		}
	}
	return errors.New("the server is not ready in time")
}

// Stop ends the server at once.
func (d *Database) Stop() {
	if d.server != nil && d.server.Process != nil {
		d.server.Process.Signal(syscall.SIGQUIT)
		d.server.Wait()
	}
}
