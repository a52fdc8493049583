package keeper

import (
	"fmt"
	"testing"
	"time"
)

// Certificates that have not ended are bounded, so that each can be revoked; what has
// ended makes room, and the list is right before and after anything is swept.
func TestCertificatesAreBounded(t *testing.T) {
	c, do := accessCore(t, "<deny>", "\n---\n{kind: Provisioner, name: hosts, role: operator, scope: /projects/p/environments/e, ssh: {principals: [ops]}}\n")
	activated(t, c, do, "1", "/projects/p/environments/e", 0)
	must(t, do("", beginEffect{"o-1-1", 1, GrantVerb, 30 * time.Second}, 0))
	must(t, do("", endEffect{"o-1-1", 1, Outcome{}, 0.5}, 0))
	hand := func(serial uint64, at time.Duration) error {
		return do("ann", handCredential{Activation: "a-1", Kind: "ssh", Key: "k", Serial: serial}, at)
	}
	must(t, hand(7, 0))
	must(t, hand(8, 10*time.Minute))
	for n := range maxCertificates - 2 {
		c.Certificates[fmt.Sprint(1000+n)] = HandedCertificate{Serial: uint64(1000 + n), Duty: "o-9-1", Provisioner: "others", Until: began.Add(20 * time.Minute)}
	}
	want(t, hand(9, 11*time.Minute), "credentials_many")
	if len(c.Certificates) != maxCertificates {
		t.Fatalf("%d certificates", len(c.Certificates))
	}
	must(t, hand(9, 16*time.Minute)) // the first has ended
	if _, there := c.Certificates["7"]; there {
		t.Error("what has ended is kept")
	}
	at := func(d time.Duration) string { return fmt.Sprint(c.revokedSerials("hosts", began.Add(d))) }
	if got := at(17 * time.Minute); got != "[]" {
		t.Errorf("while it is active: %s", got)
	}
	must(t, do("ann", endActivation{"a-1", ""}, 17*time.Minute))
	for when, list := range map[time.Duration]string{17 * time.Minute: "[8 9]", 25*time.Minute - time.Millisecond: "[8 9]", 25 * time.Minute: "[9]", 31 * time.Minute: "[]"} {
		if got := at(when); got != list {
			t.Errorf("after %s: %s, want %s", when, got, list)
		}
	}
	must(t, do("", sweep{}, 17*time.Minute))
	if got := at(18 * time.Minute); got != "[8 9]" {
		t.Errorf("after the sweep: %s", got)
	}
	if got := fmt.Sprint(c.revokedSerials("others", began.Add(18*time.Minute))); len(got) < 1000 {
		t.Errorf("others: %s", got)
	}
}
