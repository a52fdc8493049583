package evidence

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

const vectors = "../../../shared/data/vectors"

// conformance is who signed the bundles of Sigstore's conformance tests.
var conformance = Signer{
	Name:    "beacon",
	Issuer:  "https://token.actions.githubusercontent.com",
	Subject: "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
}

// vector reads a file of the vectors, or skips the test where they are not there.
func vector(t testing.TB, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{vectors}, path...)...))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED, nothing was verified: %s is not there", filepath.Join(path...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// a vectorCase is one directory of the conformance suite.
type vectorCase struct {
	name             string
	bundle, artifact []byte
	signer           Signer
}

func vectorCases(t *testing.T) []vectorCase {
	t.Helper()
	public := vector(t, "sigstore", "trusted-root-public-good.json")
	plain := vector(t, "sigstore", "a.txt")
	dirs, err := filepath.Glob(filepath.Join(vectors, "sigstore", "*", "bundle.sigstore.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no bundle was found: %v", err)
	}
	var cases []vectorCase
	for _, path := range dirs {
		dir := filepath.Dir(path)
		c := vectorCase{name: filepath.Base(dir), artifact: plain, signer: conformance}
		c.signer.Root = public
		c.bundle, _ = os.ReadFile(path)
		if own, err := os.ReadFile(filepath.Join(dir, "trusted_root.json")); err == nil {
			c.signer.Root = own
		}
		if own, err := os.ReadFile(filepath.Join(dir, "artifact")); err == nil {
			c.artifact = own
		}
		if key, err := os.ReadFile(filepath.Join(dir, "key.pub")); err == nil {
			c.signer = Signer{Name: "managed", Key: string(key), Root: c.signer.Root}
		}
		cases = append(cases, c)
	}
	return cases
}

// TestSigstoreVectors verifies the conformance suite's bundles, which mostly sign a
// file, by the very function that attestations are verified with.
func TestSigstoreVectors(t *testing.T) {
	for _, c := range vectorCases(t) {
		t.Run(c.name, func(t *testing.T) {
			b, err := parseBundle(c.bundle)
			if err == nil {
				_, err = c.signer.signedBundle(b, lockkeeper.DigestOf(c.artifact))
			}
			if fails := strings.HasSuffix(c.name, "_fail"); fails == (err == nil) {
				t.Errorf("must fail: %t, but: %v", fails, err)
			}
		})
	}
}

// TestSigstoreStatements reads the bundles that hold statements from the front.
func TestSigstoreStatements(t *testing.T) {
	read := 0
	for _, c := range vectorCases(t) {
		if !bytes.Contains(c.bundle, []byte("dsseEnvelope")) {
			_, err := Read(Attestation, c.bundle, []Signer{c.signer})
			if code := refusal(t, err).Code; code != codeFormat && code != codeUnreadable {
				t.Errorf("%s: a bundle without a statement: %v", c.name, err)
			}
			continue
		}
		s, err := Read(Attestation, c.bundle, []Signer{c.signer})
		if strings.HasSuffix(c.name, "_fail") {
			if code := refusal(t, err).Code; code != codeUnsigned && code != codeUnreadable {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		read++
		a := s.Attestation
		if a == nil || a.PredicateType != slsaV1 || a.Provenance == nil || len(a.Signers) != 1 || a.Signers[0].At.IsZero() {
			t.Fatalf("%s: %+v", c.name, s)
		}
		if s.Subjects[0] != lockkeeper.DigestOf(c.artifact) || s.Made != a.Signers[0].At {
			t.Errorf("%s: subjects %v, made %v", c.name, s.Subjects, s.Made)
		}
		for what, wrong := range map[string]func(*Signer){
			"issuer":  func(s *Signer) { s.Issuer = "https://example.org" },
			"subject": func(s *Signer) { s.Subject += "x" },
			"prefix":  func(s *Signer) { s.Subject = s.Subject[:len(s.Subject)-1] },
			"pattern": func(s *Signer) { s.Subject = ".*" },
		} {
			other := c.signer
			wrong(&other)
			if _, err := Read(Attestation, c.bundle, []Signer{other}); refusal(t, err).Code != codeUnsigned {
				t.Errorf("%s: a wrong %s: %v", c.name, what, err)
			}
			if both, err := Read(Attestation, c.bundle, []Signer{other, c.signer}); err != nil || len(both.Attestation.Signers) != 1 {
				t.Errorf("%s: the right signer beside one with a wrong %s: %v", c.name, what, err)
			}
		}
	}
	if read < 2 {
		t.Errorf("only %d statements were read", read)
	}
}

// TestSigstoreTampered changes bytes all over a good bundle: none may verify with
// another statement.
func TestSigstoreTampered(t *testing.T) {
	good := vector(t, "sigstore", "happy-path-intoto-in-dsse-v3", "bundle.sigstore.json")
	signer := conformance
	signer.Root = vector(t, "sigstore", "trusted-root-public-good.json")
	want, err := Read(Attestation, good, []Signer{signer})
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(good); at += 97 {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		s, err := Read(Attestation, bad, []Signer{signer})
		if err == nil && (!bytes.Equal(s.Attestation.Predicate, want.Attestation.Predicate) || s.Subjects[0] != want.Subjects[0]) {
			t.Errorf("a changed byte %d gave another statement", at)
		}
	}
}

// TestSigstoreTransparency takes from a trust root what proves that a certificate or a
// signature was logged: without it nothing verifies, nor with other keys in its place.
func TestSigstoreTransparency(t *testing.T) {
	good := vector(t, "sigstore", "happy-path-intoto-in-dsse-v3", "bundle.sigstore.json")
	public := vector(t, "sigstore", "trusted-root-public-good.json")
	for what, change := range map[string]func(root map[string]any){
		"other certificate logs": func(root map[string]any) { root["ctlogs"] = root["tlogs"] },
		"no transparency log":    func(root map[string]any) { root["tlogs"] = []any{} },
		"other transparency log": func(root map[string]any) { root["tlogs"] = root["ctlogs"] },
		"no authority":           func(root map[string]any) { root["certificateAuthorities"] = []any{} },
	} {
		var root map[string]any
		if err := json.Unmarshal(public, &root); err != nil {
			t.Fatal(err)
		}
		change(root)
		signer := conformance
		signer.Root, _ = json.Marshal(root)
		if _, err := Read(Attestation, good, []Signer{signer}); refusal(t, err).Code != codeUnsigned {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSignerIdentity(t *testing.T) {
	keyless := conformance
	keyless.Root = vector(t, "sigstore", "trusted-root-public-good.json")
	id, err := keyless.Identity()
	if err != nil {
		t.Fatal(err)
	}
	renamed := keyless
	renamed.Name = "other"
	if same, _ := renamed.Identity(); same != id {
		t.Error("the name of a signer is no part of what is believed")
	}
	for what, change := range map[string]func(*Signer){
		"issuer":  func(s *Signer) { s.Issuer += "x" },
		"subject": func(s *Signer) { s.Subject += "x" },
		"root":    func(s *Signer) { s.Root = append(bytes.Clone(s.Root), ' ') },
	} {
		other := keyless
		change(&other)
		if is, err := other.Identity(); err != nil || is == id {
			t.Errorf("another %s: %s, %v", what, is, err)
		}
	}
	for what, change := range map[string]func(*Signer){
		"no issuer":  func(s *Signer) { s.Issuer = "" },
		"no subject": func(s *Signer) { s.Subject = "" },
		"no root":    func(s *Signer) { s.Root = nil },
		"bad root":   func(s *Signer) { s.Root = []byte("{}") },
		"long root":  func(s *Signer) { s.Root = bytes.Repeat([]byte(" "), maxRoot+1) },
	} {
		other := keyless
		change(&other)
		if _, err := other.Identity(); refusal(t, err).Code != codeSigner {
			t.Errorf("%s: %v", what, err)
		}
	}
}
