package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// leftover is a right that nobody remembers.
const leftover = "{kind: Assignment, name: left-over, role: developer, principal: user:cat, scope: /projects/payments}\n"

// reviewed asks whether what people hold is still needed, and takes it away.
func (s *story) reviewed() error {
	dir := filepath.Join(s.dir, "governance")
	if err := os.WriteFile(filepath.Join(dir, "old.yaml"), []byte(leftover), 0o644); err != nil {
		return err
	}
	if _, err := s.expect(0, s.as("dora"), []string{"apply", dir}, "is in force"); err != nil {
		return err
	}
	out, err := s.expect(0, s.as("dora"), []string{"campaigns", "open", "--scope", "/projects/payments", "--reviewers", "release-managers", "--undecided", "keep", "--title", "autumn"}, "left-over", "no use known")
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`c-[a-z0-9]+`).FindString(out)
	say("Dora asks the release managers who still needs what: %s", lineWith(out, "left-over"))
	if _, err = s.expect(4, s.as("cat"), []string{"campaigns", "decide", id, "--keep", "left-over"}, "own_assignment"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("bob"), []string{"campaigns", "decide", id, "--remove", "left-over", "--reason", "the project is over"}, "1 go"); err != nil {
		return err
	}
	say("Cat would keep her own, and may not say so; bob removes it.")
	if _, err = s.expect(0, s.as("dora"), []string{"campaigns", "close", id, "--reason", "the managers are done"}, "Closed"); err != nil {
		return err
	}
	if err := s.applied(id); err != nil {
		return err
	}
	if out, err = s.expect(4, s.as("dora"), []string{"plan", dir, "--fail-on-weaker"}, "+ Assignment left-over"); err != nil {
		return err
	}
	say("It is gone. The documents would bring it back: %s", lineWith(out, "weaker:"))
	if _, err = s.expect(0, s.as("dora"), []string{"campaigns", "show", id, "--write", dir}, "old.yaml"); err != nil {
		return err
	}
	_, err = s.expect(0, s.as("dora"), []string{"plan", dir}, "Nothing differs")
	say("So they are made to follow, and nothing differs any more.")
	return err
}

// applied waits until a campaign has done what it came to.
func (s *story) applied(id string) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := s.expect(0, s.as("dora"), []string{"campaigns", "show", id}, id)
		if err != nil || strings.Contains(out, "; applied at") {
			return err
		}
		if time.Now().After(end) {
			_, err := s.expect(0, s.as("dora"), []string{"campaigns", "show", id}, "; applied at")
			return err
		}
	}
}
