package effect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lockkeeper/lockkeeper/internal/catalog"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// server is one real PostgreSQL for the tests of the package.
var server = sync.OnceValues(func() (*lktest.Database, error) {
	dir, err := os.MkdirTemp("", "lockkeeper-database")
	if err != nil {
		return nil, err
	}
	folders = append(folders, dir)
	return lktest.StartDatabase(dir)
})

var folders []string

func TestMain(m *testing.M) {
	code := m.Run()
	if len(folders) > 0 {
		if d, err := server(); err == nil {
			d.Stop()
		}
		for _, dir := range folders {
			os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// A databaseStage is a stage with a database that a provisioner makes logins in. Lockkeeper is no
// superuser there: it may create roles, end sessions, and grant reading.
type databaseStage struct {
	*stage
	d     *lktest.Database
	admin *pgx.Conn
	name  string // of the database, and of the roles of this test
}

func provisionedDatabase(t *testing.T, name string) *databaseStage {
	t.Helper()
	d, err := server()
	if errors.Is(err, lktest.ErrNoDatabase) && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &databaseStage{d: d, name: name}
	s.stage = staged(t, fmt.Sprintf("{kind: Provisioner, name: database, role: operator, scope: /projects/p/environments/e, postgresql: {roles: [%s_reading]}}\n", name))
	s.admin = s.connect("postgres", d.Password, "postgres")
	s.exec("CREATE DATABASE " + name)
	s.exec("CREATE ROLE " + name + "_reading")
	s.exec("CREATE ROLE " + name + "_keeper LOGIN CREATEROLE PASSWORD 'k-secret'")
	s.exec("GRANT pg_signal_backend TO " + name + "_keeper")
	inside := s.connect("postgres", d.Password, name)
	for _, statement := range []string{"CREATE TABLE payments(n int)", "INSERT INTO payments VALUES (42)", "GRANT SELECT ON payments TO " + name + "_reading", "GRANT CREATE ON SCHEMA public TO " + name + "_reading", "GRANT CREATE ON DATABASE " + name + " TO " + name + "_reading"} {
		if _, err := inside.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s.secret("database", d.URL(name+"_keeper", "k-secret", name))
	return s
}

func (s *databaseStage) connect(role, password, database string) *pgx.Conn {
	s.Helper()
	conn, err := pgx.Connect(context.Background(), s.d.URL(role, password, database))
	s.must(err)
	s.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (s *databaseStage) exec(statement string) {
	s.Helper()
	_, err := s.admin.Exec(context.Background(), statement)
	s.must(err)
}

// logins are the logins that Lockkeeper made and that are there.
func (s *databaseStage) logins() []string {
	s.Helper()
	rows, err := s.admin.Query(context.Background(), "SELECT rolname FROM pg_roles r WHERE rolname LIKE 'lk\\_%' AND EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = $1)", s.name+"_reading")
	s.must(err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	s.must(err)
	return names
}

func (s *databaseStage) credential(w *Worker, a string) keeper.Credential {
	s.Helper()
	c, err := w.Credential(context.Background(), ann, a, "")
	s.must(err)
	return c
}

// TestPostgreSQL gives a person a login for as long as the activation lives: one of
// his own, with the rights of the granted roles and a password that only he has.
func TestPostgreSQL(t *testing.T) {
	s := provisionedDatabase(t, "story")
	w := s.worker(nil)
	s.runs(w)
	ctx := context.Background()
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	if _, err := w.Credential(ctx, bob, a, ""); err == nil {
		t.Error("bob has ann's login")
	}
	first, c := s.credential(w, a), s.credential(w, a)
	if _, err := pgx.Connect(ctx, s.d.URL(first.User, first.Password, "story")); err == nil {
		t.Error("a password that was replaced is taken")
	}
	session := s.connect(c.User, c.Password, "story")
	var n int
	s.must(session.QueryRow(ctx, "SELECT n FROM payments").Scan(&n))
	if n != 42 || c.Database != "story" || c.Until.IsZero() {
		t.Errorf("read %d, %+v", n, c)
	}
	for _, forbidden := range []string{"DELETE FROM payments", "CREATE ROLE lk_other LOGIN", "ALTER ROLE " + c.User + " VALID UNTIL 'infinity'", "SET ROLE story_keeper", "COPY payments TO PROGRAM 'true'"} {
		if _, err := session.Exec(ctx, forbidden); err == nil {
			t.Errorf("the login may %s", forbidden)
		}
	}
	var until string
	s.must(s.admin.QueryRow(ctx, "SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = $1", c.User).Scan(&until))
	if end := c.Until.Time().UTC().Format("2006-01-02 15:04:05"); !strings.HasPrefix(until, end) {
		t.Errorf("the password is valid until %s, not %s", until, end)
	}
	// What he makes is not lost, and keeps him from nothing: here, and in another database.
	s.must(execIn(session, "CREATE SCHEMA mine", "CREATE TABLE mine.notes AS SELECT 'kept' AS text", "GRANT SELECT ON mine.notes TO PUBLIC"))
	s.exec("CREATE DATABASE other_of_story")
	s.exec("GRANT CREATE ON DATABASE other_of_story TO story_reading")
	elsewhere := s.connect(c.User, c.Password, "other_of_story")
	s.must(execIn(elsewhere, "CREATE SCHEMA his_own"))
	s.end(ann, a)
	s.until("")
	if got := s.logins(); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
	for _, open := range []*pgx.Conn{session, elsewhere} {
		if err := open.QueryRow(ctx, "SELECT 1").Scan(&n); err == nil {
			t.Error("a session goes on")
		}
	}
	if _, err := pgx.Connect(ctx, s.d.URL(c.User, c.Password, "story")); err == nil {
		t.Error("the login is taken after the end")
	}
	var kept, owner string
	inside := s.connect("postgres", s.d.Password, "story")
	s.must(inside.QueryRow(ctx, "SELECT text, (SELECT tableowner FROM pg_tables WHERE tablename = 'notes') FROM mine.notes").Scan(&kept, &owner))
	if kept != "kept" || owner != "story_reading" {
		t.Errorf("%s, of %s", kept, owner)
	}
	if _, err := w.Credential(ctx, ann, a, ""); err == nil {
		t.Error("a credential after the end")
	}
	s.secretless(c.Password, first.Password, "k-secret")
}

func execIn(conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Expiry is arithmetic for the password, and whoever was in is put out.
func TestPostgreSQLExpires(t *testing.T) {
	s := provisionedDatabase(t, "expiry")
	w := s.worker(nil)
	s.runs(w)
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	c := s.credential(w, a)
	session := s.connect(c.User, c.Password, "expiry")
	s.ahead.Add(int64(61 * time.Minute))
	s.until("")
	if err := session.Ping(context.Background()); err == nil || len(s.logins()) > 0 {
		t.Errorf("a session goes on, or %v are left", s.logins())
	}
}

// A database that does not let Lockkeeper in leaves the removal owed until it does.
func TestPostgreSQLOwed(t *testing.T) {
	s := provisionedDatabase(t, "owed")
	w := s.worker(nil)
	s.runs(w)
	a := s.activate(ann, "/projects/p")
	s.until("granted")
	s.exec("ALTER ROLE owed_keeper PASSWORD 'another'")
	s.end(ann, a)
	list := s.until("revocation_owed")
	if list[0].Code != "database_refused" || !strings.Contains(list[0].Reason, "28P01") {
		t.Errorf("%+v", list[0])
	}
	if !strings.Contains(s.log.String(), "level=ERROR") {
		t.Error("nobody is woken")
	}
	_, err := s.begin(bob, "/projects/p")
	s.want(err, "revocation_owed")
	s.exec("ALTER ROLE owed_keeper PASSWORD 'k-secret'")
	s.ahead.Add(int64(time.Minute))
	s.until("")
	if got := s.logins(); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
}

// What would outlive the activation is not granted, and what is not ours is not
// touched.
func TestPostgreSQLRefuses(t *testing.T) {
	for _, test := range []struct{ name, statement, code string }{
		{"makers", "GRANT makers_keeper TO makers_reading", "role_unfit"},
		{"shell", "GRANT pg_execute_server_program TO shell_reading", "role_unfit"},
		{"gone", "DROP OWNED BY gone_reading; DROP ROLE gone_reading", "role_missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := provisionedDatabase(t, test.name)
			if test.name == "gone" {
				s.must(execIn(s.connect("postgres", s.d.Password, test.name), "DROP OWNED BY gone_reading"))
			}
			s.must(execIn(s.admin, strings.Split(test.statement, "; ")...))
			s.runs(s.worker(nil))
			a := s.activate(ann, "/projects/p")
			s.failed(test.code)
			s.end(ann, a)
			s.until("")
		})
	}
	t.Run("foreign", func(t *testing.T) {
		s := provisionedDatabase(t, "foreign_")
		ctx := context.Background()
		d := &database{secrets{s.secrets}}
		account := Account{keeper.Duty{ID: "o-x-1", Account: "lk_foreign", Provisioner: "database"}}
		account.Terms.PostgreSQL = &catalog.PostgreSQL{Roles: []string{"foreign__reading"}}
		s.exec("CREATE ROLE lk_foreign LOGIN")
		for _, err := range []error{d.Grant(ctx, account), d.Revoke(ctx, account)} {
			var f *Failure
			if !errors.As(err, &f) || f.Code != "account_foreign" {
				t.Errorf("it touched a role of somebody else: %v", err)
			}
		}
	})
}

// Each effect may come again, after itself and after it broke off in the middle.
func TestPostgreSQLIdempotent(t *testing.T) {
	s := provisionedDatabase(t, "again")
	ctx := context.Background()
	d := &database{secrets{s.secrets}}
	account := s.account()
	for range 3 {
		s.must(d.Grant(ctx, account))
	}
	there, err := d.Verify(ctx, account)
	if err != nil || !there || len(s.logins()) != 1 {
		t.Fatal(there, err)
	}
	s.exec("ALTER ROLE " + account.Account + " NOLOGIN") // a removal that broke off
	for range 3 {
		s.must(d.Revoke(ctx, account))
	}
	if there, err := d.Verify(ctx, account); err != nil || there {
		t.Error(there, err)
	}
	over, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	if err := d.Grant(over, account); err == nil || len(s.logins()) > 0 {
		t.Error("it acts after its deadline")
	}
}

func (s *databaseStage) account() Account {
	s.Helper()
	s.activate(ann, "/projects/p")
	return Account{s.until("taken")[0].Duty}
}
