package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// moving lets the rules, and a person's mind, move while an ask waits.
func (s *story) moving() error {
	artifact, err := s.run(s.repo, nil, "sh", "-c", "sha256sum app.tar | cut -d' ' -f1")
	if err != nil {
		return err
	}
	job := s.issuer.Job(s.job("9004", "5020", "push", "production"))
	out, err := s.expect(0, job, []string{"deploy", "--environment", "production", "--artifact", "app=sha256:" + artifact.out, "--detach", "--handle-file", "moving"}, "lockkeeper claim d-")
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`d-[a-z0-9]+`).FindString(out)
	claim := []string{"claim", id, "--handle-file", "moving", "--timeout", "1s", "--", "true"}

	file := filepath.Join(s.dir, "governance", "payments.yaml")
	strict, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	review := "  - name: security\n    approval: {count: 1, groups: [security], review: security, after: [manager]}\n"
	waiver := "lease: 10m\nwaivers: [{demand: security-review, owner: dora, until: 2027-02-01T00:00:00Z, reason: in a hurry}]\n"
	loose := strings.Replace(strings.Replace(string(strict), review, "", 1), "lease: 10m\n", waiver, 1)
	if err := os.WriteFile(file, []byte(loose), 0o644); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("dora"), []string{"plan", file}, "weaker"); err != nil {
		return err
	}
	say("Dora would drop the security review. The plan says what that weakens:")
	say("  %s", lineWith(out, "weaker"))
	if _, err = s.expect(0, s.as("dora"), []string{"apply", file, "--message", "in a hurry"}, "is in force"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("bob"), []string{"approve", id}, "Approved."); err != nil {
		return err
	}
	if out, err = s.expect(121, job, claim, "never helps an ask that is open"); err != nil {
		return err
	}
	say("She applies it. The ask that waits already is not helped: %s", lineWith(out, "demanded when"))
	if err := os.WriteFile(file, strict, 0o644); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("dora"), []string{"apply", file, "--message", "the review is back"}, "is in force"); err != nil {
		return err
	}
	for _, step := range []struct {
		user string
		args []string
		says string
	}{{"cat", []string{"approve", id}, "Approved."}, {"bob", []string{"withdraw", id, "--comment", "the tests are red"}, "Withdrawn."}} {
		if _, err = s.expect(0, s.as(step.user), step.args, step.says); err != nil {
			return err
		}
	}
	if _, err = s.expect(121, job, claim, "0 of 1"); err != nil {
		return err
	}
	say("cat reviews it, and bob takes his approval back: the gate waits for a manager again.")
	_, err = s.expect(0, s.as("bob"), []string{"deployments", "cancel", id, "--reason", "not today"}, "cancelled")
	return err
}

// recovery puts an older copy of the journal back.
func (s *story) recovery() error {
	data, older := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "older")
	if err := os.CopyFS(older, os.DirFS(data)); err != nil {
		return err
	}
	address := strings.TrimPrefix(s.server, "http://")
	if err := s.serveAgain(address); err != nil {
		return err
	}
	file := filepath.Join(s.dir, "governance", "payments.yaml")
	rules, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	without := bytes.ReplaceAll(rules, []byte("users: [ann, bob, cat]"), []byte("users: [ann, cat]"))
	if err := os.WriteFile(file, without, 0o644); err != nil {
		return err
	}
	if _, err := s.expect(0, s.as("dora"), []string{"apply", file, "--message", "bob has left"}, "is in force"); err != nil {
		return err
	}
	s.stopServer()
	for _, name := range []string{"journal.db", "journal.db-wal", "journal.db-shm"} {
		copied, err := os.ReadFile(filepath.Join(older, name))
		if os.IsNotExist(err) {
			os.Remove(filepath.Join(data, name))
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(data, name), copied, 0o600)
		}
		if err != nil {
			return err
		}
	}
	out, err := s.expect(6, nil, []string{"serve", "--data", data, "--listen", address, "--keys-linger", "0s"}, "journal_broken")
	if err != nil {
		return err
	}
	say("Bob's right is taken away, and then yesterday's copy of the database is put back. The server does not start:")
	say("  %s", lineWith(out, "journal_broken"))
	if out, err = s.expect(0, nil, []string{"recover", "--data", data, "--administrator", "dora", "--reason", "the disk failed"}, "epoch-2"); err != nil {
		return err
	}
	say("  %s", strings.SplitN(out, "\n", 2)[0])
	if err := s.serveAgain(address); err != nil {
		return err
	}
	secret, err := s.password("bob")
	if err != nil {
		return err
	}
	if out, err = s.expect(7, s.as("bob"), []string{"login", "--user", "bob", "--password-file", secret}, "recovery_unconfirmed"); err != nil {
		return err
	}
	say("Nobody enters before Dora has looked at it: %s", lineWith(out, "recovery_unconfirmed"))
	if secret, err = s.password("dora"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("dora"), []string{"login", "--user", "dora", "--password-file", secret}, "Signed in as dora"); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("dora"), []string{"apply", file, "--message", "bob has left, still"}, "is in force"); err != nil {
		return err
	}
	revision := regexp.MustCompile(`Revision (\d+) is in force`).FindStringSubmatch(out)[1]
	if _, err = s.expect(0, s.as("dora"), []string{"recover", "confirm", "--revision", revision}, "Confirmed"); err != nil {
		return err
	}
	say("She takes bob's right away again, and confirms revision %s. The log goes on as another epoch.", revision)
	return nil
}

// privileged lets ann have a right for an hour that nobody holds by himself.
func (s *story) privileged() error {
	const stop, at = "freezes/write", "/projects/payments/environments/production"
	out, err := s.expect(4, s.as("ann"), []string{"can", "ann", stop, at}, "lockkeeper activate operator")
	if err != nil {
		return err
	}
	say("May ann freeze production? Not now. %s", lineWith(out, "You may activate"))
	ask := []string{"activate", "operator", "--scope", at, "--for", "1h", "--reason", "INC-4711: payments are booked twice", "--later"}
	if out, err = s.expect(0, s.as("ann"), ask, "waits"); err != nil {
		return err
	}
	id := regexp.MustCompile(`r-[a-z0-9]+`).FindString(out)
	if _, err = s.expect(4, s.as("ann"), []string{"requests", "approve", id}, "own"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("bob"), []string{"requests", "approve", id, "--comment", "seen the incident"}, "Approved."); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("ann"), []string{"requests", "begin", id}, "has activated operator"); err != nil {
		return err
	}
	say("She asks; bob approves, she cannot. %s", lineWith(out, "has activated"))
	if _, err = s.expect(0, s.as("ann"), []string{"can", "ann", stop, at}, "[activated]"); err != nil {
		return err
	}
	active := regexp.MustCompile(`a-[a-z0-9]+`).FindString(out)
	if out, err = s.expect(0, s.as("ann"), []string{"activations", "extend", active, "--for", "30m", "--reason", "the next run is due", "--later"}, "extends"); err != nil {
		return err
	}
	longer := regexp.MustCompile(`r-[a-z0-9]+`).FindString(out)
	if _, err = s.expect(0, s.as("bob"), []string{"requests", "approve", longer, "--for", "10m", "--comment", "ten minutes will do"}, "Approved."); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("ann"), []string{"requests", "begin", longer}, "has activated operator"); err != nil {
		return err
	}
	say("She asks for half an hour more; bob gives ten minutes of it. %s", lineWith(out, "has activated"))
	if _, err = s.expect(0, s.as("dora"), []string{"activations", "end", active, "--reason", "the incident is over"}, "Ended."); err != nil {
		return err
	}
	_, err = s.expect(4, s.as("ann"), []string{"can", "ann", stop, at}, "not_granted")
	say("Dora ends it sooner, and ann may no more. Left alone, it would have ended by the clock.")
	return err
}
