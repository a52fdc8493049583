package token

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMint(t *testing.T) {
	k, err := NewSigningKey(rand.Reader, ES256)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSigningKey(raw)
	if err != nil || again.ID() != k.ID() {
		t.Fatalf("the key reads back as %v, %v", again, err)
	}
	jwt, err := again.Mint(map[string]any{"iss": "https://lockkeeper.example", "sub": "x"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := MarshalKeySet(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(set, []byte(`"d"`)) {
		t.Error("the key set holds the private key")
	}
	keys, err := ParseKeySet(set)
	if err != nil {
		t.Fatal(err)
	}
	u, err := Parse(jwt, []string{"ES256"})
	if err != nil || u.Issuer() != "https://lockkeeper.example" {
		t.Fatal(err)
	}
	c, err := u.Verify(keys)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok, err := c.String("sub"); s != "x" || !ok || err != nil {
		t.Errorf("sub is %q %v %v", s, ok, err)
	}
	if s, ok, err := c.String("SUB"); s != "" || ok || err != nil {
		t.Error("a claim was found under another name")
	}
	other, err := NewSigningKey(rand.Reader, ES256)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := MarshalKeySet(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = ParseKeySet(bytes.Replace(foreign, []byte(other.ID()), []byte(k.ID()), 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Verify(keys); err == nil {
		t.Error("another key under the same id verifies")
	}
}

func TestKeySets(t *testing.T) {
	b := base64.RawURLEncoding.EncodeToString
	modulus := make([]byte, 256)
	modulus[0], modulus[255] = 0x80, 1
	n, e := b(modulus), "AQAB"
	for name, c := range map[string]struct {
		set string
		len int // -1: refused
	}{
		"a good one":        {`{"keys":[{"kty":"RSA","kid":"a","n":"` + n + `","e":"` + e + `"}]}`, 1},
		"for encryption":    {`{"keys":[{"kty":"RSA","kid":"a","use":"enc","n":"` + n + `","e":"` + e + `"}]}`, 0},
		"only to sign":      {`{"keys":[{"kty":"RSA","kid":"a","key_ops":["sign"],"n":"` + n + `","e":"` + e + `"}]}`, 0},
		"no id":             {`{"keys":[{"kty":"RSA","n":"` + n + `","e":"` + e + `"}]}`, 0},
		"another kind":      {`{"keys":[{"kty":"oct","kid":"a","k":"x"}]}`, 0},
		"1024 bits":         {`{"keys":[{"kty":"RSA","kid":"a","n":"` + b(append(modulus[:127:127], 1)) + `","e":"` + e + `"}]}`, -1},
		"exponent 1":        {`{"keys":[{"kty":"RSA","kid":"a","n":"` + n + `","e":"AQ"}]}`, -1},
		"exponent 3":        {`{"keys":[{"kty":"RSA","kid":"a","n":"` + n + `","e":"Aw"}]}`, -1},
		"private":           {`{"keys":[{"kty":"RSA","kid":"a","d":"AQ","n":"` + n + `","e":"` + e + `"}]}`, -1},
		"an id twice":       {`{"keys":[{"kty":"RSA","kid":"a","n":"` + n + `","e":"` + e + `"},{"kty":"RSA","kid":"a","n":"` + n + `","e":"` + e + `"}]}`, -1},
		"off the curve":     {`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"` + b(make([]byte, 32)) + `","y":"` + b(make([]byte, 32)) + `"}]}`, -1},
		"too many":          {`{"keys":[` + strings.TrimSuffix(strings.Repeat(`{"kty":"oct"},`, 101), ",") + `]}`, -1},
		"no list":           {`{"keys":{}}`, -1},
		"members twice":     {`{"keys":[],"keys":[]}`, -1},
		"not canonical":     {`{"keys":[{"kty":"RSA","kid":"a","n":"` + n + `==","e":"` + e + `"}]}`, -1},
		"the list misspelt": {`{"KEYS":[]}`, -1},
	} {
		set, err := ParseKeySet([]byte(c.set))
		if c.len < 0 && err == nil || c.len >= 0 && (err != nil || set.Len() != c.len) {
			t.Errorf("%s: %d keys, %v", name, set.Len(), err)
		}
	}
}

// The JSONTestSuite's n_ files are refused, its y_ files read, and nothing
// crashes. Read more strictly than there: duplicate members and lone
// surrogates.
func TestJSONSuite(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "shared", "data", "vectors", "*", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join("..", "..", "..", "shared", "data", "vectors", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(files, more...) {
		name := filepath.Base(file)
		if !strings.HasPrefix(name, "n_") && !strings.HasPrefix(name, "y_") && !strings.HasPrefix(name, "i_") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		err = checkJSON(data)
		strict := strings.Contains(name, "duplicated") || strings.Contains(name, "surrogate") || strings.Contains(name, "noncharacter")
		if name[0] == 'n' && err == nil || name[0] == 'y' && err != nil && !strict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if seen == 0 {
		t.Skip("the JSON test suite is not beside this checkout")
	}
}

func TestEnvelope(t *testing.T) {
	k, err := NewReceiptKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(`{"hello":"world"}`)
	env, err := SignEnvelope("application/test", payload, k)
	if err != nil {
		t.Fatal(err)
	}
	typ, got, err := OpenEnvelope(env, k.Public())
	if err != nil || typ != "application/test" || !bytes.Equal(got, payload) {
		t.Fatal(typ, string(got), err)
	}
	for i := range env {
		for bit := range 8 {
			changed := bytes.Clone(env)
			changed[i] ^= 1 << bit
			if typ, got, err := OpenEnvelope(changed, k.Public()); err == nil && (typ != "application/test" || !bytes.Equal(got, payload)) {
				t.Fatalf("with byte %d changed it holds %q", i, got)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJ4In0.eA")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := Parse(raw, []string{"RS256", "ES256"})
		if err == nil && u.KeyID() == "" {
			t.Error("a token without a key was read")
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) { ParseKeySet(data) })
}

func BenchmarkMint(b *testing.B) {
	k, err := NewSigningKey(rand.Reader, ES256)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Mint(map[string]any{"iss": "https://lockkeeper.example"}); err != nil {
			b.Fatal(err)
		}
	}
}
