package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lockkeeper/lockkeeper/internal/lktest/provider"
)

// corporate is the organisation's directory, and a user of it.
const corporate = `kind: Directory
name: corp
platform: oidc
issuer: %s
client: lockkeeper
groups: [{id: g-release, group: release-managers}]
---
kind: User
name: anna
signIns: [{directory: corp, subject: id-anna}]
`

// signedIn lets a person in whom the organisation's directory vouches for.
func (s *story) signedIn() error {
	p, err := provider.Open(s.server + "/sign-in/callback/corp")
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := os.WriteFile(filepath.Join(s.secretsFolder(), "corp"), []byte(p.Secret), 0o600); err != nil {
		return err
	}
	p.Add("id-anna", "anna@example.com", map[string]any{"groups": []string{"g-release"}})
	dir := filepath.Join(s.dir, "governance")
	if err := os.WriteFile(filepath.Join(dir, "corp.yaml"), fmt.Appendf(nil, corporate, p.URL), 0o644); err != nil {
		return err
	}
	if _, err := s.expect(0, s.as("dora"), []string{"apply", dir}, "is in force"); err != nil {
		return err
	}
	browser := filepath.Join(s.dir, "browser.sh")
	if err := os.WriteFile(browser, fmt.Appendf(nil, "#!/bin/sh\nexec %q browse \"$1\"\n", s.self), 0o755); err != nil {
		return err
	}
	out, err := s.expect(0, append(s.as("anna"), "BROWSER="+browser), []string{"login"}, "Signed in as anna")
	if err != nil {
		return err
	}
	say("Anna signs in in the browser with the organisation's directory. %s", lineWith(out, "Signed in"))
	const may = "deployments/approve"
	if out, err = s.expect(0, s.as("anna"), []string{"can", "anna", may, "/projects/payments/environments/production"}, "group release-managers"); err != nil {
		return err
	}
	say("Her group there is a group here: %s", lineWith(out, "release-managers"))
	p.Add("id-anna", "anna@example.com", nil)
	if _, err = s.expect(0, append(s.as("anna"), "BROWSER="+browser), []string{"login"}, "Signed in as anna"); err != nil {
		return err
	}
	if _, err = s.expect(4, s.as("anna"), []string{"can", "anna", may, "/projects/payments/environments/production"}, "not_granted"); err != nil {
		return err
	}
	say("The directory takes her out of the group, and says so at the next sign-in: the right is gone.")
	if err := os.Remove(filepath.Join(dir, "corp.yaml")); err != nil {
		return err
	}
	_, err = s.expect(0, s.as("dora"), []string{"apply", dir}, "is in force")
	if err == nil {
		_, err = s.expect(3, s.as("anna"), []string{"sessions", "list"}, "session_unknown")
	}
	return err
}

// browse is the browser of the story: a person's who signs in, and says that the
// command line is his.
func browse(address string) {
	b := provider.NewBrowser(screen{})
	b.Answer(b.SignIn(address, "anna@example.com"), "/sign-in/confirm", "yes")
}

// A screen shows what went wrong.
type screen struct{}

func (screen) Helper() {}
func (screen) Fatal(a ...any) {
	fmt.Fprintln(os.Stderr, a...)
	os.Exit(1)
}
func (screen) Fatalf(f string, a ...any) { screen{}.Fatal(fmt.Sprintf(f, a...)) }
