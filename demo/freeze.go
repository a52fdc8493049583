package main

import "regexp"

// stopped lets cat freeze the project while an ask waits, and dora lift that.
func (s *story) stopped() error {
	const at = "/projects/payments"
	artifact, err := s.run(s.repo, nil, "sh", "-c", "sha256sum app.tar | cut -d' ' -f1")
	if err != nil {
		return err
	}
	job := s.issuer.Job(s.job("9005", "5030", "push", "production"))
	out, err := s.expect(0, job, []string{"deploy", "--environment", "production", "--artifact", "app=sha256:" + artifact.out, "--detach", "--handle-file", "stopped"}, "lockkeeper claim d-")
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`d-[a-z0-9]+`).FindString(out)
	for _, user := range []string{"bob", "cat"} {
		if _, err = s.expect(0, s.as(user), []string{"approve", id}, "Approved."); err != nil {
			return err
		}
	}
	if out, err = s.expect(0, s.as("cat"), []string{"freeze", "start", "--scope", at, "--for", "2h", "--reason", "orders are lost, we look for why"}, "is frozen until"); err != nil {
		return err
	}
	freeze := regexp.MustCompile(`f-[a-z0-9]+`).FindString(out)
	say("Orders are lost. Cat stops the line: %s", lineWith(out, "is frozen until"))
	claim := []string{"claim", id, "--handle-file", "stopped", "--timeout", "1s", "--", "true"}
	if out, err = s.expect(121, job, claim, "orders are lost"); err != nil {
		return err
	}
	say("Everybody has approved, and still nothing gets past: %s", lineWith(out, "is frozen"))
	if _, err = s.expect(0, s.as("bob"), []string{"freeze", "when", "--scope", at, "--days", "1"}, "orders are lost"); err != nil {
		return err
	}
	if out, err = s.expect(4, s.as("cat"), []string{"freeze", "end", freeze, "--reason", "the queue is mended"}, "second_person_needed"); err != nil {
		return err
	}
	if _, err = s.expect(0, s.as("dora"), []string{"freeze", "end", freeze, "--reason", "the queue is mended"}, "Ended."); err != nil {
		return err
	}
	claim[5] = "20s"
	if _, err = s.expect(0, job, claim, "succeeded"); err != nil {
		return err
	}
	say("Cat cannot lift it alone: %s Dora does, and the deployment goes on.", lineWith(out, "second_person_needed"))
	return nil
}
