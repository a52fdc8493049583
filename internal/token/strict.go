package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	s, err := newScan(data)
	if err != nil {
		return nil, err
	}
	s.members = map[string]json.RawMessage{}
	if s.next() != '{' {
		return nil, fmt.Errorf("it is no JSON object")
	}
	return s.members, s.value(0)
}

// A scan walks once over a text that is known to be JSON.
type scan struct {
	data    []byte
	at      int
	members map[string]json.RawMessage // of the outermost object; nil: nobody asks
}

func newScan(data []byte) (*scan, error) {
	switch {
	case !utf8.Valid(data):
		return nil, fmt.Errorf("it is not UTF-8")
	case hasLoneSurrogate(data):
		return nil, fmt.Errorf("it has half a character")
	case !json.Valid(data):
		return nil, fmt.Errorf("it is no JSON, or something follows it")
	}
	return &scan{data: data}, nil
}

// next passes over blanks and gives the byte behind them.
func (s *scan) next() byte {
	for {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
}

// value passes over a value and refuses what encoding/json would let pass.
func (s *scan) value(depth int) error {
	switch s.next() {
	case '{', '[':
		if depth >= maxDepth {
			return fmt.Errorf("it is nested deeper than %d", maxDepth)
		}
		return s.nested(depth)
	case '"':
		s.text()
	default: // a number or a word
		for s.at < len(s.data) && !strings.ContainsRune(" \t\r\n,]}", rune(s.data[s.at])) {
			s.at++
		}
	}
	return nil
}

// nested passes over an object or an array.
func (s *scan) nested(depth int) error {
	isObject := s.data[s.at] == '{'
	var seen map[string]json.RawMessage
	if seen = s.members; isObject && (depth > 0 || seen == nil) {
		seen = map[string]json.RawMessage{}
	}
	for s.at++; ; {
		switch s.next() {
		case '}', ']':
			s.at++
			return nil
		case ',':
			s.at++
			continue
		}
		if !isObject {
			if err := s.value(depth + 1); err != nil {
				return err
			}
			continue
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		if _, twice := seen[name]; twice {
			return fmt.Errorf("it has a member twice")
		}
		s.next()
		from := s.at
		if err := s.value(depth + 1); err != nil {
			return err
		}
		seen[name] = s.data[from:s.at:s.at]
	}
}

// name reads the name of a member and passes over the colon.
func (s *scan) name() (name string, err error) {
	from := s.at
	s.text()
	if raw := s.data[from:s.at]; bytes.IndexByte(raw, '\\') < 0 {
		name = string(raw[1 : len(raw)-1])
	} else {
		err = json.Unmarshal(raw, &name)
	}
	s.next()
	s.at++ // the colon
	return name, err
}

// text passes over a text.
func (s *scan) text() {
	for s.at++; s.data[s.at] != '"'; s.at++ {
		if s.data[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
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
