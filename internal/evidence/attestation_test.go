package evidence

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/lockkeeper/lockkeeper"
)

func pemOf(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// pae is the pre-authentication encoding of DSSE, written anew for the tests.
func pae(kind, payload string) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

func envelopeOf(kind, payload string, sigs ...[]byte) []byte {
	type sig struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	}
	e := struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []sig  `json:"signatures"`
	}{kind, []byte(payload), []sig{}}
	for _, s := range sigs {
		e.Signatures = append(e.Signatures, sig{"hint", s})
	}
	out, _ := json.Marshal(e)
	return out
}

const (
	commit = "c0ffee0123456789abcdef0123456789abcdef01"

	hexA = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

	provenanceV1 = `{"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "pay", "digest": {"sha256": "` + hexA + `", "sha1": "00"}}], "predicateType": "https://slsa.dev/provenance/v1",
	 "predicate": {"buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1", "externalParameters": {"workflow": {"ref": "refs/heads/main"}},
	  "resolvedDependencies": [{"uri": "pkg:npm/x", "digest": {"sha1": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}, {"uri": "git+https://github.com/acme/pay@refs/heads/main", "digest": {"gitCommit": "` + commit + `"}}]},
	  "runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}, "metadata": {"invocationId": "https://github.com/acme/pay/actions/runs/1/attempts/1"}}}}`

	provenanceV02 = `{"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"name": "pay", "digest": {"sha256": "` + hexA + `"}}], "predicateType": "https://slsa.dev/provenance/v0.2",
	 "predicate": {"builder": {"id": "https://builder.example"}, "buildType": "https://builder.example/type", "invocation": {"configSource": {"uri": "git+ssh://git@github.com/acme/conf@v1", "digest": {"sha1": "ffffffffffffffffffffffffffffffffffffffff"}}},
	  "metadata": {"buildInvocationId": "42"}%s}}`
)

func TestEnvelopes(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	message := pae(statementType, provenanceV1)
	sum, sum384 := sha256.Sum256(message), sha512.Sum384(message)
	asn1, _ := ecdsa.SignASN1(rand.Reader, p256, sum[:])
	r, s, _ := ecdsa.Sign(rand.Reader, p256, sum[:])
	raw := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	asn384, _ := ecdsa.SignASN1(rand.Reader, p384, sum384[:])
	asn384as256, _ := ecdsa.SignASN1(rand.Reader, p384, sum[:])
	pss, _ := rsa.SignPSS(rand.Reader, rsaKey, crypto.SHA256, sum[:], nil)
	pkcs, _ := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
	good := ed25519.Sign(priv, message)
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		sigs [][]byte
		ok   bool
	}{
		"Ed25519":                    {pub, [][]byte{good}, true},
		"P-256":                      {&p256.PublicKey, [][]byte{asn1}, true},
		"P-256, r and s":             {&p256.PublicKey, [][]byte{raw}, true},
		"P-384":                      {&p384.PublicKey, [][]byte{asn384}, true},
		"P-384 with SHA-256":         {&p384.PublicKey, [][]byte{asn384as256}, true},
		"RSA PSS":                    {&rsaKey.PublicKey, [][]byte{pss}, true},
		"RSA PKCS #1 v1.5":           {&rsaKey.PublicKey, [][]byte{pkcs}, true},
		"the second signature":       {pub, [][]byte{pss, good}, true},
		"another key":                {other, [][]byte{good}, false},
		"another kind of key":        {&p256.PublicKey, [][]byte{good}, false},
		"no signature":               {pub, nil, false},
		"an empty signature":         {pub, [][]byte{nil}, false},
		"a cut signature":            {pub, [][]byte{good[:63]}, false},
		"r and s of zero":            {&p256.PublicKey, [][]byte{make([]byte, 64)}, false},
		"a signature of the payload": {pub, [][]byte{ed25519.Sign(priv, []byte(provenanceV1))}, false},
		"of another type":            {pub, [][]byte{ed25519.Sign(priv, pae("text/plain", provenanceV1))}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Read(Attestation, envelopeOf(statementType, provenanceV1, c.sigs...), []Signer{{Name: "ci", Key: pemOf(t, c.key)}})
			if !c.ok {
				if refusal(t, err).Code != codeUnsigned {
					t.Error(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			der, _ := x509.MarshalPKIXPublicKey(c.key)
			want := []SignedBy{{Signer: "ci", Key: lockkeeper.DigestOf(der)}}
			if by := s.Attestation.Signers; len(by) != 1 || by[0] != want[0] || s.Format != "dsse" {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestProvenance(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	signers := []Signer{{Name: "ci", Key: pemOf(t, pub)}}
	read := func(payload string) (Summary, error) {
		return Read(Attestation, envelopeOf(statementType, payload, ed25519.Sign(priv, pae(statementType, payload))), signers)
	}
	materials := `, "materials": [{"uri": "git+https://github.com/acme/pay.git@refs/tags/v1#x", "digest": {"sha1": "` + commit + `"}}, {"uri": "https://x/y.tgz", "digest": {"sha1": "` + commit + `"}}]`
	for name, c := range map[string]struct{ payload, want string }{
		"v1":                   {provenanceV1, "{https://github.com/actions/runner/github-hosted https://actions.github.io/buildtypes/workflow/v1 [{https://github.com/acme/pay " + commit + "}] https://github.com/acme/pay/actions/runs/1/attempts/1}"},
		"v0.2":                 {fmt.Sprintf(provenanceV02, materials), "{https://builder.example https://builder.example/type [{https://github.com/acme/pay.git " + commit + "}] 42}"},
		"v0.2 by its config":   {fmt.Sprintf(provenanceV02, ""), "{https://builder.example https://builder.example/type [{ssh://git@github.com/acme/conf ffffffffffffffffffffffffffffffffffffffff}] 42}"},
		"a short commit":       {strings.Replace(provenanceV1, commit, "0123456", 1), "{https://github.com/actions/runner/github-hosted https://actions.github.io/buildtypes/workflow/v1 [] https://github.com/acme/pay/actions/runs/1/attempts/1}"},
		"an upper-case commit": {strings.Replace(provenanceV1, commit, strings.ToUpper(commit), 1), "{https://github.com/actions/runner/github-hosted https://actions.github.io/buildtypes/workflow/v1 [] https://github.com/acme/pay/actions/runs/1/attempts/1}"},
	} {
		s, err := read(c.payload)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := fmt.Sprint(*s.Attestation.Provenance); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	s, err := read(provenanceV1)
	if err != nil || len(s.Subjects) != 1 || s.Subjects[0] != "sha256:"+hexA || bytes.ContainsAny(s.Attestation.Predicate, "\n\t") || !json.Valid(s.Attestation.Predicate) {
		t.Errorf("%+v, %v", s, err)
	}
	other := strings.Replace(provenanceV1, slsaV1, "https://acme.example/review/v1", 1)
	if s, err := read(other); err != nil || s.Attestation.Provenance != nil || s.Attestation.PredicateType != "https://acme.example/review/v1" {
		t.Errorf("another predicate: %+v, %v", s, err)
	}
	for name, c := range map[string]struct{ old, new, code string }{
		"a statement of another type":  {"Statement/v1", "Statement/v2", codeFormat},
		"no predicate type":            {`"predicateType": "https://slsa.dev/provenance/v1"`, `"x": 1`, codeUnreadable},
		"no predicate":                 {`"predicate":`, `"predicat":`, codeUnreadable},
		"a predicate of null":          {`"predicate": {`, `"predicate": null, "x": {`, codeUnreadable},
		"no subject":                   {`"subject": [{"name"`, `"subject": [], "x": [{"name"`, codeSubject},
		"another algorithm":            {`"sha256"`, `"sha512"`, codeSubject},
		"upper-case digits":            {hexA, strings.ToUpper(hexA), codeSubject},
		"a short digest":               {hexA, hexA[:40], codeSubject},
		"a member twice":               {`"predicateType":`, `"subject": [], "predicateType":`, codeUnreadable},
		"a member twice in predicate":  {`"buildDefinition":`, `"runDetails": {}, "buildDefinition":`, codeUnreadable},
		"no builder":                   {`"builder": {"id"`, `"builder": {"di"`, codeUnreadable},
		"a predicate that is too long": {`"externalParameters": {`, `"x": "` + strings.Repeat("a", MaxPredicate) + `", "externalParameters": {`, codeTooLarge},
	} {
		payload := strings.Replace(provenanceV1, c.old, c.new, 1)
		if payload == provenanceV1 {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := read(payload); refusal(t, err).Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(Attestation, envelopeOf("text/plain", provenanceV1, ed25519.Sign(priv, pae("text/plain", provenanceV1))), signers); refusal(t, err).Code != codeFormat {
		t.Errorf("another payload: %v", err)
	}
	if _, err := Read(Attestation, []byte(provenanceV1), signers); refusal(t, err).Code != codeUnsigned {
		t.Errorf("a bare statement: %v", err)
	}
	many := envelopeOf(statementType, provenanceV1, make([][]byte, maxSignatures+1)...)
	if _, err := Read(Attestation, many, signers); refusal(t, err).Code != codeTooLarge {
		t.Errorf("many signatures: %v", err)
	}
	odd := bytes.Replace(envelopeOf(statementType, provenanceV1), []byte(`"payload":"`), []byte(`"payload":"!`), 1)
	if _, err := Read(Attestation, odd, signers); refusal(t, err).Code != codeUnreadable {
		t.Errorf("no base64: %v", err)
	}
}

// TestTamperedEnvelope changes every byte of a signed envelope, one after the other.
func TestTamperedEnvelope(t *testing.T) {
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	signers := []Signer{{Name: "ci", Key: pemOf(t, pub)}}
	good := envelopeOf(statementType, provenanceV1, ed25519.Sign(priv, pae(statementType, provenanceV1)))
	want, err := Read(Attestation, good, signers)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if s, err := Read(Attestation, bad, signers); err == nil && (!bytes.Equal(s.Attestation.Predicate, want.Attestation.Predicate) || s.Subjects[0] != want.Subjects[0]) {
			t.Fatalf("a changed byte %d gave another statement", i)
		}
	}
}

func TestWeakKeys(t *testing.T) {
	pub, _, _ := ed25519.GenerateKey(rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	modulus := func(bits uint) *big.Int { n := new(big.Int).Lsh(big.NewInt(1), bits-1); return n.SetBit(n, 0, 1) }
	good := pemOf(t, pub)
	for name, s := range map[string]Signer{
		"P-224":               {Key: pemOf(t, &p224.PublicKey)},
		"P-521":               {Key: pemOf(t, &p521.PublicKey)},
		"RSA of 2047 bits":    {Key: pemOf(t, &rsa.PublicKey{N: modulus(2047), E: 65537})},
		"RSA of 8193 bits":    {Key: pemOf(t, &rsa.PublicKey{N: modulus(8193), E: 65537})},
		"RSA of exponent 3":   {Key: pemOf(t, &rsa.PublicKey{N: modulus(2048), E: 3})},
		"two keys":            {Key: good + good},
		"something behind":    {Key: good + "x"},
		"something before":    {Key: "x\n" + good},
		"a private key":       {Key: strings.ReplaceAll(good, "PUBLIC", "PRIVATE")},
		"no PEM":              {Key: "ssh-ed25519 AAAA"},
		"bad DER":             {Key: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}))},
		"a long key":          {Key: strings.Repeat(" ", maxKey) + good},
		"a key and an issuer": {Key: good, Issuer: "https://issuer"},
		"nothing":             {},
	} {
		s.Name = "ci"
		if _, err := s.Identity(); refusal(t, err).Code != codeSigner {
			t.Errorf("%s: %v", name, err)
		}
		if s.Key == "" {
			continue
		}
		if _, err := Read(Attestation, envelopeOf(statementType, provenanceV1), []Signer{s}); refusal(t, err).Code != codeSigner {
			t.Errorf("%s, reading: %v", name, err)
		}
	}
	for _, key := range []string{good, "\n" + good + "\n", pemOf(t, &rsa.PublicKey{N: modulus(2048), E: 65537})} {
		if _, err := (Signer{Key: key}).Identity(); err != nil {
			t.Error(err)
		}
	}
}

// TestVectorOfDSSE verifies the example of the DSSE protocol: ECDSA as r and s.
func TestVectorOfDSSE(t *testing.T) {
	text := string(vector(t, "dsse", "protocol.md"))
	number := func(name string) *big.Int {
		n, ok := new(big.Int).SetString(regexp.MustCompile(`(?m)^` + name + `: (\d+)$`).FindStringSubmatch(text)[1], 10)
		if !ok {
			t.Fatal(name)
		}
		return n
	}
	point := append([]byte{4}, number("X").FillBytes(make([]byte, 32))...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(point, number("Y").FillBytes(make([]byte, 32))...))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(regexp.MustCompile(`"sig": "([^"]+)"`).FindStringSubmatch(text)[1])
	if err != nil {
		t.Fatal(err)
	}
	e := envelope{kind: "http://example.com/HelloWorld", payload: []byte("hello world"), signatures: [][]byte{sig}}
	if _, err := e.signedBy([]Signer{{Name: "example", Key: pemOf(t, key)}}); err != nil {
		t.Error(err)
	}
	e.payload = []byte("hello worlD")
	if _, err := e.signedBy([]Signer{{Name: "example", Key: pemOf(t, key)}}); refusal(t, err).Code != codeUnsigned {
		t.Errorf("another payload: %v", err)
	}
}
