package token

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
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
		err = strict(data)
		agreeOnJSON(t.Errorf, data)
		strict := strings.Contains(name, "duplicated") || strings.Contains(name, "surrogate") || strings.Contains(name, "noncharacter")
		if name[0] == 'n' && err == nil || name[0] == 'y' && err != nil && !strict {
			t.Errorf("%s: %v", name, err)
		}
	}
	if seen == 0 {
		t.Skip("the JSON test suite is not beside this checkout")
	}
}

func strict(data []byte) error {
	s, err := newScan(data)
	if err == nil {
		err = s.value(0)
	}
	return err
}

// reference reads a text token by token with encoding/json.
func reference(data []byte) error {
	if !utf8.Valid(data) || hasLoneSurrogate(data) {
		return errors.New("no characters")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := referenceValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows")
	}
	return nil
}

func referenceValue(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	d, isDelim := t.(json.Delim)
	if err != nil || !isDelim {
		return err
	}
	if depth >= maxDepth {
		return errors.New("too deep")
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			t, err := dec.Token()
			name, isName := t.(string)
			if err != nil || !isName || seen[name] {
				return errors.New("a name is none, or comes twice")
			}
			seen[name] = true
		}
		if err := referenceValue(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func agreeOnJSON(errorf func(string, ...any), data []byte) {
	want, got := reference(data), strict(data)
	if (want == nil) != (got == nil) {
		errorf("%q: %v, and by the reference %v", data, got, want)
		return
	}
	members, err := object(data)
	var all map[string]json.RawMessage
	isObject := want == nil && json.Unmarshal(data, &all) == nil && all != nil
	if isObject != (err == nil) {
		errorf("%q: as an object %v", data, err)
	}
	for name, raw := range all {
		if isObject && (len(members) != len(all) || string(members[name]) != string(raw)) {
			errorf("%q: the member %q is %q", data, name, members[name])
		}
	}
}

// TestStrictJSON compares with the reference on texts that are nearly JSON.
func TestStrictJSON(t *testing.T) {
	pieces := []string{"{", "}", "[", "]", ",", ":", `"a"`, `"\u0061"`, `"b"`, `"\\"`, `"\""`, `""`, "1", "-1.5e3", "true", "null", " ", "\n", `"{"`, `{"a":1}`, `[1,{"a":{}}]`,
		`{"a":1,"a":2}`, `{"a":{"b":1,"\u0062":2}}`, `"\ud83d\ude00"`, `"\ud83d"`, "\xff", "é", "x", "[[[[[[[[", "]]]]]]]]", `{"a":`}
	valid := 0
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 6).Draw(t, "pieces"), "")
			if rapid.Bool().Draw(t, "inside") {
				text = `{"a":[` + text + `],"b":{"c":` + text + `}}`
			}
			if reference([]byte(text)) == nil {
				valid++
			}
			agreeOnJSON(t.Fatalf, []byte(text))
		}
	})
	if valid < 100 {
		t.Errorf("only %d texts were JSON", valid)
	}
	for depth := maxDepth - 1; depth <= maxDepth+1; depth++ {
		agreeOnJSON(t.Errorf, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)))
		agreeOnJSON(t.Errorf, []byte(strings.Repeat("[", depth)+strings.Repeat("]", depth)))
	}
}

func FuzzStrictJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"\u0062"}],"c":null}`))
	f.Fuzz(func(t *testing.T, data []byte) { agreeOnJSON(t.Fatalf, data) })
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
