package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// stagingRules are an environment that wants to see tests and provenance first.
const stagingRules = `---
kind: Signer
name: build-platform
key: |
  KEY
builders:
  - {id: https://build.example.com/hosted, level: 3}
---
kind: Environment
name: staging
project: payments
tier: preproduction
checks:
  - name: tests
    tests: {names: [unit], least: 2, from: [release/build]}
  - name: built-from-source
    provenance: {signers: [build-platform], source: "https://git.example.com/acme/payments", level: 3}
---
kind: Identity
name: payments-staging
project: payments
environment: staging
audiences: ["https://staging.example.com"]
stages: [release/deploy-staging]
`

// makeBuilder makes the key with which the build platform signs what it built, and
// puts the public one into the rules.
func (s *story) makeBuilder(rules string) (string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	s.builder = private
	key := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return strings.Replace(rules, "  KEY\n", "  "+strings.ReplaceAll(key, "\n", "\n  ")+"\n", 1), nil
}

// provenance writes what the build platform signs about an artifact.
func (s *story) provenance(file, digest string) error {
	payload, err := json.Marshal(map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
		"subject": []any{map[string]any{"name": "app", "digest": map[string]string{"sha256": digest}}},
		"predicate": map[string]any{
			"buildDefinition": map[string]any{"buildType": "https://build.example.com/type/v1", "externalParameters": map[string]any{"ref": "refs/heads/main"},
				"resolvedDependencies": []any{map[string]any{"uri": "git+https://git.example.com/acme/payments@refs/heads/main", "digest": map[string]string{"gitCommit": s.commit}}}},
			"runDetails": map[string]any{"builder": map[string]string{"id": "https://build.example.com/hosted"}}}})
	if err != nil {
		return err
	}
	const kind = "application/vnd.in-toto+json"
	sig := ed25519.Sign(s.builder, dsse.PAE(kind, payload))
	b, err := json.Marshal(map[string]any{"payloadType": kind, "payload": base64.StdEncoding.EncodeToString(payload),
		"signatures": []any{map[string]string{"sig": base64.StdEncoding.EncodeToString(sig)}}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.repo, file), b, 0o644)
}

// evidence demands tests and provenance, misses them, and accepts them once a stage
// that may has brought them.
func (s *story) evidence() error {
	sum, err := s.run(s.repo, nil, "sh", "-c", "sha256sum app.tar | cut -d' ' -f1")
	if err != nil {
		return err
	}
	artifact := "app=sha256:" + sum.out
	deploy := []string{"deploy", "--environment", "staging", "--artifact", artifact, "--timeout", "1s", "--", "true"}
	out, err := s.expect(121, s.issuer.Job(s.job("9200", "5200", "push", "staging")), deploy, "evidence_missing")
	if err != nil {
		return err
	}
	say("Staging wants tests and provenance, and nobody brought any:")
	say("  %s", lineWith(out, "evidence add tests:unit"))
	for name, text := range map[string]string{
		"red.xml":   `<testsuite name="pay"><testcase name="charge"/><testcase name="refund"><failure message="9 is not 10"/></testcase></testsuite>`,
		"green.xml": `<testsuite name="pay"><testcase name="charge"/><testcase name="refund"/></testsuite>`,
	} {
		if err := os.WriteFile(filepath.Join(s.repo, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if _, err := s.expect(0, s.issuer.Job(s.job("9201", "5201", "push", "")), []string{"evidence", "add", "tests:unit=red.xml", "--artifact", artifact}, "1 failed"); err != nil {
		return err
	}
	if out, err = s.expect(120, s.issuer.Job(s.job("9202", "5202", "push", "staging")), deploy, "tests_bad"); err != nil {
		return err
	}
	say("The build stage brings the results, and one test failed: %s", lineWith(out, "tests_bad"))
	if err := s.provenance("provenance.json", sum.out); err != nil {
		return err
	}
	if out, err = s.expect(0, s.issuer.Job(s.job("9203", "5203", "push", "")), []string{"evidence", "add", "tests:unit=green.xml", "attestation=provenance.json", "--artifact", artifact}, "signed by build-platform"); err != nil {
		return err
	}
	say("It is mended, and the build platform signs how it was built:")
	for _, line := range strings.Split(out, "\n") {
		say("  %s", line)
	}
	if _, err = s.expect(0, s.issuer.Job(s.job("9204", "5204", "push", "staging")), deploy, "succeeded"); err != nil {
		return err
	}
	say("The same digest is let through now, and the journal says on what.")
	return s.struck(artifact)
}

// struck keeps the artifact out once it turns out to be bad, also where it was good.
func (s *story) struck(artifact string) error {
	out, err := s.expect(0, s.as("dora"), []string{"strike", "add", "--project", "payments", "--environment", "staging", "--artifact", artifact, "--reason", "INC-4711: a back door"}, "It stands in")
	if err != nil {
		return err
	}
	say("A back door is found in it. Dora strikes it: %s", lineWith(out, "It stands in"))
	back := []string{"deploy", "--environment", "staging", "--artifact", artifact, "--rollback", "--timeout", "1s", "--", "true"}
	if out, err = s.expect(120, s.issuer.Job(s.job("9205", "5205", "push", "staging")), back, "artifact_struck"); err != nil {
		return err
	}
	say("Nobody goes back to it there, though it was good: %s", lineWith(out, "artifact_struck"))
	return nil
}

// ruled tests a policy before anybody is held to it.
func (s *story) ruled() error {
	folder := filepath.Join(s.dir, "policies")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "small.yaml"), []byte(smallPolicy), 0o644); err != nil {
		return err
	}
	out, err := s.expect(0, nil, []string{"policy", "test", folder}, "small: 2 passed, 0 failed")
	if err != nil {
		return err
	}
	say("A rule that no check has is written in Rego, with its tests: %s", lineWith(out, "small: 2 passed"))
	return nil
}

const smallPolicy = `kind: Policy
name: small
title: One deployment, one artifact
rego: |
  package small

  deny contains sprintf("%d artifacts at once are too many.", [count(input.artifacts)]) if count(input.artifacts) > 1

tests: |
  package small_test

  import data.small

  test_one if count(small.deny) == 0 with input as {"artifacts": [{"name": "a"}]}

  test_two if count(small.deny) == 1 with input as {"artifacts": [{"name": "a"}, {"name": "b"}]}
`
