package main

import "regexp"

// incident lets ann break the glass, cat stop everything, and dora close it.
func (s *story) incident() error {
	const at = "/projects/payments/environments/production"
	out, err := s.expect(0, s.as("ann"), []string{"break-glass", "operator", "--scope", at, "--for", "30m", "--reason", "production is down, nobody answers"}, "The review is v-")
	if err != nil {
		return err
	}
	review := regexp.MustCompile(`v-[a-z0-9]+`).FindString(out)
	say("Nobody answers, so ann breaks the glass. %s", lineWith(out, "has activated"))
	if out, err = s.expect(0, s.as("bob"), []string{"notices", "list"}, "ann broke the glass"); err != nil {
		return err
	}
	say("Bob was told before it held: %s", lineWith(out, "broke the glass"))
	if _, err = s.expect(4, s.as("ann"), []string{"break-glass", "operator", "--scope", at, "--reason", "again"}, "review_open"); err != nil {
		return err
	}
	if out, err = s.expect(0, s.as("cat"), []string{"incident", "open", "--title", "ann's laptop is gone", "--freeze", "/projects/payments", "--quarantine", "user:ann"}, "is open."); err != nil {
		return err
	}
	id := regexp.MustCompile(`i-[a-z0-9]+`).FindString(out)
	say("Was that ann? Cat opens an incident. %s", lineWith(out, "activations ended"))
	if _, err = s.expect(3, s.as("ann"), []string{"eligible"}, "session"); err != nil {
		return err
	}
	if _, err = s.expect(4, s.as("cat"), []string{"incident", "close", id, "--finding", "found"}, "second_person_needed"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("dora"), []string{"incident", "close", id, "--finding", "the laptop was under the sofa"}, "Closed."); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("cat"), []string{"reviews", "close", review, "--finding", "it was ann, and she was right"}, "Closed."); err != nil {
		return err
	}
	say("Ann is out at once. Cat cannot close it alone: dora does. Cat took no part in what ann did, and reviews it.")
	secret, err := s.password("ann")
	if err != nil {
		return err
	}
	_, err = s.expect(0, s.as("ann"), []string{"login", "--user", "ann", "--password-file", secret}, "Signed in as ann")
	return err
}
