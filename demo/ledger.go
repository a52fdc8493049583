package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/lockkeeper/lockkeeper/internal/lktest"
)

// ledgerRules are what the act about the database adds to the rules.
const ledgerRules = `---
# What no account of the database holds: ann may ask to read the ledger
kind: Role
name: ledger-reader
actions: [deployments/read]
---
kind: Assignment
name: ledger-readers
role: ledger-reader
principal: group:developers
scope: /projects/payments
eligible: true
---
kind: ActivationRule
name: ledger-readers
role: ledger-reader
scope: /projects/payments
longest: 1h
approvals:
  - name: manager
    approval: {count: 1, groups: [release-managers]}
---
kind: Provisioner
name: ledger
role: ledger-reader
scope: /projects/payments/environments/production
postgresql: {roles: [ledger_reading]}
`

// secretsFolder is where the server finds the provisioners' secrets.
func (s *story) secretsFolder() string { return filepath.Join(s.dir, "secrets") }

// ledger lets ann into a real database for as long as her activation lives.
func (s *story) ledger() error {
	dir, err := os.MkdirTemp("", "lockkeeper-demo-database-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	database, err := lktest.StartDatabase(dir)
	if errors.Is(err, lktest.ErrNoDatabase) {
		say("SKIPPED: %v.", err)
		say("Without it, nothing of this act was played.")
		return nil
	}
	if err != nil {
		return err
	}
	defer database.Stop()
	if err := s.furnish(database); err != nil {
		return err
	}
	say("A PostgreSQL server runs. Only Lockkeeper may make logins there; its URL is a file that only the server reads.")
	url, activation, err := s.ledgerLogin()
	if err != nil {
		return err
	}
	return s.readLedger(url, activation)
}

// furnish makes the ledger, and Lockkeeper's own role, which is no superuser.
func (s *story) furnish(d *lktest.Database) error {
	conn, err := pgx.Connect(s.ctx, d.URL("postgres", d.Password, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(s.ctx)
	for _, statement := range []string{"CREATE TABLE ledger(entry text)", "INSERT INTO ledger VALUES ('42 francs, booked twice')", "CREATE ROLE ledger_reading", "GRANT SELECT ON ledger TO ledger_reading",
		"CREATE ROLE lockkeeper LOGIN CREATEROLE PASSWORD 'only-the-server-knows'", "GRANT pg_signal_backend TO lockkeeper", "GRANT ledger_reading TO lockkeeper WITH ADMIN OPTION"} {
		if _, err := conn.Exec(s.ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return os.WriteFile(filepath.Join(s.secretsFolder(), "ledger"), []byte(d.URL("lockkeeper", "only-the-server-knows", "postgres")), 0o600)
}

// ledgerLogin lets ann ask, bob approve, and gives the URL that ann gets.
func (s *story) ledgerLogin() (url, activation string, err error) {
	out, err := s.expect(0, s.as("ann"), []string{"activate", "ledger-reader", "--scope", "/projects/payments", "--for", "30m", "--reason", "INC-4712: compare the books", "--later"}, "opens     ledger (postgresql)")
	if err != nil {
		return "", "", err
	}
	id := regexp.MustCompile(`r-[a-z0-9]+`).FindString(out)
	if _, err = s.expect(0, s.as("bob"), []string{"requests", "approve", id, "--comment", "seen the incident"}, "opens     ledger (postgresql)", "Approved."); err != nil {
		return "", "", err
	}
	if out, err = s.expect(0, s.as("ann"), []string{"requests", "begin", id}, "It opens ledger (postgresql)"); err != nil {
		return "", "", err
	}
	activation = regexp.MustCompile(`a-[a-z0-9]+`).FindString(out)
	say("ann asks, bob approves and sees what it opens. %s", lineWith(out, "It opens"))
	if _, err = s.expect(5, s.as("bob"), []string{"activations", "credential", activation}, "opening_missing"); err != nil {
		return "", "", err
	}
	out, err = s.expect(0, s.as("ann"), []string{"activations", "credential", activation, "--url"}, "postgresql://lk_")
	return out, activation, err
}

// readLedger lets ann read, ends her activation, and expects her to be put out.
func (s *story) readLedger(url, activation string) error {
	conn, err := pgx.Connect(s.ctx, url)
	if err != nil {
		return fmt.Errorf("ann is not let in: %w", err)
	}
	defer conn.Close(context.WithoutCancel(s.ctx))
	var who, entry string
	if err := conn.QueryRow(s.ctx, "SELECT current_user, entry FROM ledger").Scan(&who, &entry); err != nil {
		return err
	}
	say("She is in as %s and reads: %s.", who, entry)
	if _, err := conn.Exec(s.ctx, "DELETE FROM ledger"); err == nil {
		return errors.New("ann may delete what she may only read")
	}
	if _, err := s.expect(0, s.as("ann"), []string{"activations", "end", activation}, "Ended."); err != nil {
		return err
	}
	for { // the workers are quick, and not at once
		if out, err := s.expect(0, s.as("dora"), []string{"duties", "list"}); err != nil {
			return err
		} else if lineWith(out, "Nothing is open") != "" {
			break
		}
		select {
		case <-s.ctx.Done():
			return fmt.Errorf("the login was not taken away in time: %s", s.served)
		case <-time.After(200 * time.Millisecond):
		}
	}
	if err := conn.Ping(s.ctx); err == nil {
		return errors.New("ann's session goes on")
	}
	say("She ends it, and her open session is cut off.")
	if again, err := pgx.Connect(s.ctx, url); err == nil {
		again.Close(s.ctx)
		return errors.New("ann's login is taken after the end")
	}
	say("The same login once more: the database knows no %s.", who)
	return nil
}
