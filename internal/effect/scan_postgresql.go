package effect

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lockkeeper/lockkeeper"
	"github.com/lockkeeper/lockkeeper/internal/keeper"
)

// A databaseRole is a role of the database that bears our mark or name, or is a member
// of what a provisioner grants.
type databaseRole struct {
	Name     string
	Mark     string
	Login    bool
	Powers   bool     // it is superuser, or makes roles or databases, replicates, or passes by the security of rows
	Ends     string   // of the password, in milliseconds since 1970
	In       []string // roles that it is a member of
	Members  []string // of it, but us
	Provides bool     // it is a member of a granted role
}

// Scan compares the logins that Lockkeeper made, and who else is a member of the
// granted roles, with what the duties say. Who is a member through another role is not
// looked for: that one is seen.
func (d *database) Scan(ctx context.Context, s keeper.Scan) ([]keeper.Seen, error) {
	var like keeper.Duty
	like.Provisioner, like.Terms = s.Provisioner, s.Terms
	conn, err := d.connect(ctx, Account{like}, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	roles, err := readRoles(ctx, conn, s.Terms.PostgreSQL.Roles)
	if err != nil {
		return nil, sqlFailure(ctx, "read its roles", err)
	}
	if len(roles) > maxSeen {
		return nil, &Failure{"target_large", fmt.Sprintf("The database has more than %d roles that would have to be looked at.", maxSeen), true}
	}
	var seen []keeper.Seen
	expected := map[string]bool{}
	for _, duty := range s.Duties {
		expected[duty.Account] = true
		i := slices.IndexFunc(roles, func(r databaseRole) bool { return r.Name == duty.Account })
		if i < 0 {
			seen = append(seen, keeper.Seen{Kind: keeper.Vanished, Account: duty.Account, Duty: duty.ID, Detail: "The login is not there."})
		} else if detail := roles[i].differs(duty); detail != "" {
			seen = append(seen, keeper.Seen{Kind: keeper.Changed, Account: duty.Account, Duty: duty.ID, Detail: detail})
		}
	}
	for _, r := range roles {
		id, marked := strings.CutPrefix(r.Mark, "lockkeeper ")
		switch {
		case expected[r.Name]:
		case marked && strings.HasPrefix(r.Name, "lk_"):
			seen = append(seen, keeper.Seen{Kind: keeper.LeftOver, Account: r.Name, Duty: id, Idle: !r.Provides})
		case r.Provides:
			seen = append(seen, keeper.Seen{Kind: keeper.AssignedOutside, Account: r.Name, Detail: "It is a member of " + strings.Join(r.In, ", ") + "."})
		}
	}
	return seen, nil
}

func readRoles(ctx context.Context, conn *pgx.Conn, granted []string) ([]databaseRole, error) {
	rows, err := conn.Query(ctx, `SELECT r.rolname::text, coalesce(shobj_description(r.oid, 'pg_authid'), ''), r.rolcanlogin,
			r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
			CASE WHEN isfinite(r.rolvaliduntil) THEN round((extract(epoch FROM r.rolvaliduntil) * 1000)::numeric)::text ELSE 'never' END,
			ARRAY(SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1),
			ARRAY(SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.member WHERE m.roleid = r.oid AND g.rolname <> current_user ORDER BY 1),
			EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = ANY($1))
		FROM pg_roles r WHERE r.rolname <> current_user AND (r.rolname LIKE 'lk\_%'
			OR EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = ANY($1)))
		ORDER BY 1 LIMIT $2`, granted, maxSeen+1)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[databaseRole])
}

// differs says what of a login is not as it was granted; "" for nothing.
func (r databaseRole) differs(d keeper.Duty) string {
	var out []string
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(r.Mark != mark(Account{d}), "its comment, Lockkeeper's mark, is another")
	add(!r.Login, "it may not sign in")
	add(r.Powers, "it may do what no login of Lockkeeper may: superuser, createrole, createdb, replication or bypassrls")
	add(r.Ends != strconv.FormatInt(d.Ends.Time().UnixMilli(), 10), "its password does not end with the activation")
	for _, role := range d.Terms.PostgreSQL.Roles {
		add(!slices.Contains(r.In, role), "it is no member of %s", role)
	}
	for _, role := range r.In {
		add(!slices.Contains(d.Terms.PostgreSQL.Roles, role), "it is a member of %s", role)
	}
	for _, role := range r.Members {
		add(true, "%s is a member of it", role)
	}
	if len(out) == 0 {
		return ""
	}
	return "The login is not as it was made: " + strings.Join(out, "; ") + "."
}

func momentOf(t time.Time) lockkeeper.Moment { return lockkeeper.MomentOf(t) }
