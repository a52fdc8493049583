package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of what is read.
const (
	MaxToken  = 16 << 10  // bytes of a compact token
	MaxKeySet = 512 << 10 // bytes of a JWKS
	maxDepth  = 16
)

// decodeSegment reads canonical, unpadded base64url: a text that does not
// encode back to itself is refused, so that a token has one spelling.
func decodeSegment(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("it is not canonical base64url")
	}
	return b, nil
}

// object reads a JSON object into its members by exact name. Duplicate members
// at any depth, nesting deeper than 16, invalid UTF-8 and anything behind the
// object are refused.
func object(data []byte) (map[string]json.RawMessage, error) {
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil || m == nil {
		return nil, fmt.Errorf("it is no JSON object")
	}
	return m, nil
}

// checkJSON walks the whole text once.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("it is not UTF-8")
	}
	if hasLoneSurrogate(data) {
		return fmt.Errorf("it has half a character")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkValue(dec, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON")
	}
	return nil
}

func checkValue(dec *json.Decoder, depth int) error {
	t, err := dec.Token()
	if err != nil {
		return fmt.Errorf("it is no JSON")
	}
	d, isDelim := t.(json.Delim)
	if !isDelim {
		return nil
	}
	if depth >= maxDepth {
		return fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	seen := map[string]bool{}
	for dec.More() {
		if d == '{' {
			t, err := dec.Token()
			name, isName := t.(string)
			if err != nil || !isName {
				return fmt.Errorf("it is no JSON")
			}
			if seen[name] {
				return fmt.Errorf("it has a member twice")
			}
			seen[name] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("it is no JSON")
	}
	return nil
}

// hasLoneSurrogate finds \uD800 to \uDFFF escapes that are no pair:
// encoding/json would quietly replace them, and two names become one.
func hasLoneSurrogate(data []byte) bool {
	for i := 0; i+1 < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		if data[i+1] != 'u' {
			i++
			continue
		}
		unit, ok := hex4(data, i+2)
		switch {
		case !ok || unit < 0xD800 || unit > 0xDFFF:
			i += 5
		case unit >= 0xDC00:
			return true
		default:
			if i+7 >= len(data) || data[i+6] != '\\' || data[i+7] != 'u' {
				return true
			}
			if low, ok := hex4(data, i+8); !ok || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		}
	}
	return false
}

func hex4(data []byte, at int) (int, bool) {
	if at+4 > len(data) {
		return 0, false
	}
	n := 0
	for _, c := range data[at : at+4] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
