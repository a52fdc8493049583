package effect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A database gives each activation a login role of its own (lk_…), member of the
// roles that the terms name.
//
// The login has no password until its holder asks for one; each asking replaces
// it, and only the verifier of SCRAM-SHA-256 goes to the server. VALID UNTIL bounds
// the password by the activation's end, also if nobody takes the login away.
//
// Grant is one transaction. Revoke makes the role NOLOGIN first, and commits that;
// then it ends its sessions until there is none, hands what it owns in any database
// to the first of the granted roles, drops its rights, and drops it. A crash
// between any two of these leaves a login that nobody can use, and Revoke goes on
// from there. Both take one lock per login, so that a Grant that is late is either
// before the Revoke or finds no time left: the server ends every statement at the
// deadline.
type database struct{ secrets secrets }

// mark is what the comment on a login says, so that no other role is ever touched.
func mark(a Account) string { return "lockkeeper " + a.ID }

// connect reaches the database of a provisioner, or another one of its server.
func (d *database) connect(ctx context.Context, a Account, database string) (*pgx.Conn, error) {
	if a.Terms.PostgreSQL == nil {
		return nil, &Failure{"kind_unknown", "The provisioner is no database.", true}
	}
	config, err := d.config(a)
	if err != nil {
		return nil, err
	}
	if database != "" {
		config.Database = database
	}
	left := time.Minute
	if deadline, bounded := ctx.Deadline(); bounded {
		left = max(time.Until(deadline), time.Millisecond)
	}
	limit := strconv.FormatInt(max(left.Milliseconds(), 1), 10)
	config.RuntimeParams["statement_timeout"] = limit
	config.RuntimeParams["idle_in_transaction_session_timeout"] = limit
	config.RuntimeParams["application_name"] = "lockkeeper"
	config.RuntimeParams["search_path"] = "pg_catalog" // nothing in any schema stands in for what is called here
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return nil, &Failure{"database_refused", fmt.Sprintf("The database does not let Lockkeeper in (SQLSTATE %s).", refused.Code), true}
		}
		return nil, &Failure{"database_unreachable", "The database cannot be reached.", true}
	}
	return conn, nil
}

func (d *database) config(a Account) (*pgx.ConnConfig, error) {
	secret, err := d.secrets.of(a.Provisioner)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(secret)
	if err != nil { // its text may hold the password
		return nil, &Failure{"secret_unfit", "The file " + a.Provisioner + " holds no URL of a PostgreSQL database.", true}
	}
	return config, nil
}

// sqlFailure keeps the code of what the database refused, and the sentence that it
// says with it; statements and their values are in neither.
func sqlFailure(ctx context.Context, what string, err error) error {
	var refused *pgconn.PgError
	var known *Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return &Failure{"database_refused", fmt.Sprintf("The database refused to %s: %s (SQLSTATE %s).", what, refused.Message, refused.Code), false}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &Failure{"database_broke_off", "The database broke off while it was to " + what + ".", false}
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a text for a statement that takes no parameters.
func literal(s string) string {
	out := []byte{'\''}
	for i := range len(s) {
		if s[i] == '\'' {
			out = append(out, '\'')
		}
		out = append(out, s[i])
	}
	return string(append(out, '\''))
}

// A login is how an account stands in the database.
type login struct {
	there bool
	oid   uint32
	mark  string
}

func (d *database) login(ctx context.Context, tx pgx.Tx, a Account) (login, error) {
	var l login
	// Two attempts about one login come one after the other.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(7105, hashtext($1))`, a.Account); err != nil {
		return l, err
	}
	err := tx.QueryRow(ctx, `SELECT oid, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = $1`, a.Account).Scan(&l.oid, &l.mark)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, nil
	}
	l.there = true
	if err == nil && l.mark != mark(a) {
		err = &Failure{"account_foreign", "The database has a role " + a.Account + " that Lockkeeper did not make for this.", false}
	}
	return l, err
}

// Grant makes the login, or brings it to what the terms say.
func (d *database) Grant(ctx context.Context, a Account) error {
	conn, err := d.connect(ctx, a, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return sqlFailure(ctx, "make the login", pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		l, err := d.login(ctx, tx, a)
		if err != nil {
			return err
		}
		if err := fitRoles(ctx, tx, a.Terms.PostgreSQL.Roles); err != nil {
			return err
		}
		name, verb := quoted(a.Account), "CREATE"
		if l.there {
			verb = "ALTER"
		}
		statements := []string{
			verb + " ROLE " + name + " LOGIN NOCREATEDB NOCREATEROLE INHERIT CONNECTION LIMIT 20 VALID UNTIL " + literal(a.Ends.Time().UTC().Format("2006-01-02 15:04:05.000+00")),
			"COMMENT ON ROLE " + name + " IS " + literal(mark(a)),
		}
		for _, role := range a.Terms.PostgreSQL.Roles {
			statements = append(statements, "GRANT "+quoted(role)+" TO "+name)
		}
		return execAll(ctx, tx, statements...)
	}))
}

func execAll(ctx context.Context, tx pgx.Tx, statements ...string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// fitRoles refuses roles through which a login could make others, or undo what is
// taken from it: they would outlive the activation.
func fitRoles(ctx context.Context, tx pgx.Tx, roles []string) error {
	rows, err := tx.Query(ctx, `WITH RECURSIVE reach(oid) AS (
			SELECT oid FROM pg_roles WHERE rolname = ANY($1)
			UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON reach.oid = m.member)
		SELECT r.rolname, r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') FROM pg_roles r JOIN reach USING (oid) ORDER BY 1`, roles)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	var name string
	var unfit bool
	bad := ""
	if _, err := pgx.ForEachRow(rows, []any{&name, &unfit}, func() error {
		found[name] = true
		if unfit {
			bad = name
		}
		return nil
	}); err != nil {
		return err
	}
	if bad != "" {
		return &Failure{"role_unfit", "Through the granted roles one becomes " + bad + ", who may make logins of his own or reaches the machine; those could not be taken back.", true}
	}
	for _, r := range roles {
		if !found[r] {
			return &Failure{"role_missing", "The database has no role " + r + ".", true}
		}
	}
	return nil
}

// Revoke takes the login, its sessions and its rights away.
func (d *database) Revoke(ctx context.Context, a Account) error {
	conn, err := d.connect(ctx, a, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var l login
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if l, err = d.login(ctx, tx, a); err != nil || !l.there {
			return err
		}
		// Only a member of a role may end its sessions and give away what it owns.
		return execAll(ctx, tx, "ALTER ROLE "+quoted(a.Account)+" NOLOGIN PASSWORD NULL CONNECTION LIMIT 0", "GRANT "+quoted(a.Account)+" TO CURRENT_USER")
	})
	if err == nil && l.there {
		err = endSessions(ctx, conn, l.oid)
	}
	if err == nil && l.there {
		err = d.disown(ctx, conn, a, l)
	}
	if err == nil && l.there {
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if l, err = d.login(ctx, tx, a); err != nil || !l.there {
				return err
			}
			return execAll(ctx, tx, "DROP ROLE "+quoted(a.Account))
		})
	}
	return sqlFailure(ctx, "take the login away", err)
}

// endSessions ends the sessions of a role until there is none. Nobody can begin one
// any more: the role is NOLOGIN before, and who was let in just before that shows
// up here.
func endSessions(ctx context.Context, conn *pgx.Conn, role uint32) error {
	for quiet := 0; quiet < 2; {
		var alive int
		err := conn.QueryRow(ctx, `SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = $1 AND pid <> pg_backend_pid()) AS ended`, role).Scan(&alive)
		if err != nil {
			return err
		}
		if quiet++; alive > 0 {
			quiet = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// disown hands over what the role owns, and drops the rights that it has and gave,
// in every database where there is any.
func (d *database) disown(ctx context.Context, conn *pgx.Conn, a Account, l login) error {
	rows, err := conn.Query(ctx, `SELECT DISTINCT b.datname::text FROM pg_shdepend s JOIN pg_database b ON b.oid = s.dbid OR s.dbid = 0 AND b.datname = current_database()
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 AND b.datallowconn`, l.oid)
	if err != nil {
		return err
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range databases {
		err := func() error {
			there, err := d.connect(ctx, a, name)
			if err != nil {
				return err
			}
			defer there.Close(context.WithoutCancel(ctx))
			return pgx.BeginFunc(ctx, there, func(tx pgx.Tx) error {
				return execAll(ctx, tx, "REASSIGN OWNED BY "+quoted(a.Account)+" TO "+quoted(a.Terms.PostgreSQL.Roles[0]), "DROP OWNED BY "+quoted(a.Account))
			})
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// Verify reports whether the login is there, or a session of a role that is not
// there any more.
func (d *database) Verify(ctx context.Context, a Account) (bool, error) {
	conn, err := d.connect(ctx, a, "")
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	there := false
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)
		OR EXISTS (SELECT FROM pg_stat_activity s WHERE s.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = s.usesysid))`, a.Account).Scan(&there)
	return there, sqlFailure(ctx, "read the login", err)
}

// password sets a new random password, and gives what one signs in with. The
// statement holds only the verifier.
func (d *database) password(ctx context.Context, a Account) (keeper.Credential, error) {
	config, err := d.config(a)
	if err != nil {
		return keeper.Credential{}, err
	}
	conn, err := d.connect(ctx, a, "")
	if err != nil {
		return keeper.Credential{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	password := newPassword()
	verifier, err := scramVerifier(password)
	if err != nil {
		return keeper.Credential{}, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		l, err := d.login(ctx, tx, a)
		if err == nil && !l.there {
			err = &Failure{"account_gone", "The login is not there any more.", true}
		}
		if err != nil {
			return err
		}
		return execAll(ctx, tx, "ALTER ROLE "+quoted(a.Account)+" PASSWORD "+literal(verifier))
	})
	if err != nil {
		return keeper.Credential{}, sqlFailure(ctx, "set a password", err)
	}
	return keeper.Credential{Host: config.Host, Port: int(config.Port), Database: config.Database, User: a.Account, Password: password}, nil
}
