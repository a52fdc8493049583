package web

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Paths and filters (RFC 7644, sections 3.4.2.2 and 3.5.2). Only what the services of
// Entra ID and Okta send is read: attributes, members by their value, and comparisons
// by eq that are joined by and. There is no recursion in it.

// A target is what a path names.
type target struct {
	attribute string  // in lower case, without its schema; of another schema with it
	whole     bool    // the attribute, not a part of it
	member    *string // of members: the one whose value it is
}

// readPath reads attribute, attribute.part, attribute[filter] and
// attribute[filter].part (RFC 7644, section 3.5.2), with or without its schema.
func readPath(s, schema string) (target, error) {
	if len(s) > maxFilter {
		return target{}, errPath("A path has at most %d bytes.", maxFilter)
	}
	unfit := errPath("This is no path.")
	if cut, is := cutFold(s, schema+":"); is {
		s = cut
	} else if i := strings.IndexAny(s, ":["); i >= 0 && s[i] == ':' {
		// Of an extension nothing is kept. But what may mean that somebody is off is
		// never passed over.
		t := target{attribute: strings.ToLower(s)}
		if strings.EqualFold(s, schema) || strings.HasSuffix(t.attribute, ":active") || strings.HasSuffix(t.attribute, ".active") {
			return target{}, unfit
		}
		return t, nil
	}
	name, rest := attributeName(s)
	if name == "" {
		return target{}, unfit
	}
	t := target{attribute: strings.ToLower(name), whole: rest == ""}
	if inside, is := strings.CutPrefix(rest, "["); is {
		filter, after, closed := cutBracket(inside)
		if !closed {
			return target{}, unfit
		}
		rest = after
		if t.attribute == "members" {
			terms, err := readFilter(filter, "")
			if err != nil || len(terms) != 1 || terms[0].attribute != "value" || rest != "" {
				return target{}, errPath(`The path of a member is members[value eq "ID"].`)
			}
			t.member = &terms[0].value
		}
	}
	if part, is := strings.CutPrefix(rest, "."); is {
		if name, more := attributeName(part); name == "" || more != "" {
			return target{}, unfit
		}
	} else if rest != "" {
		return target{}, unfit
	}
	return t, nil
}

// cutFold cuts a prefix without regard to case.
func cutFold(s, prefix string) (rest string, found bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// attributeName cuts the name of an attribute from the beginning.
func attributeName(s string) (name, rest string) {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || i > 0 && (s[i] >= '0' && s[i] <= '9' || s[i] == '_' || s[i] == '-') || i == 0 && s[i] == '$') {
		i++
	}
	return s[:i], s[i:]
}

// cutBracket cuts up to the bracket that closes, which stands in no text.
func cutBracket(s string) (inside, after string, closed bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ']' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

// A term is one comparison of a filter: that an attribute has a value.
type term struct{ attribute, value string }

// readFilter reads comparisons by eq that are joined by and: all that Entra ID and
// Okta ask. Attributes come back in lower case.
func readFilter(s, schema string) ([]term, error) {
	if len(s) > maxFilter {
		return nil, errFilter("A filter has at most %d bytes.", maxFilter)
	}
	var out []term
	for {
		s = strings.TrimLeft(s, " ")
		if schema != "" {
			s, _ = cutFold(s, schema+":")
		}
		name, rest := attributeName(s)
		if part, is := strings.CutPrefix(rest, "."); is {
			var sub string
			sub, rest = attributeName(part)
			name += "." + sub
		}
		op, rest := word(rest)
		value, rest, err := literal(strings.TrimLeft(rest, " "))
		if name == "" || !strings.EqualFold(op, "eq") || err != nil {
			return nil, errFilter("This filter is not understood.")
		}
		if out = append(out, term{strings.ToLower(name), value}); len(out) > maxTerms {
			return nil, errFilter("A filter has at most %d comparisons.", maxTerms)
		}
		if strings.Trim(rest, " ") == "" {
			return out, nil
		}
		op, s = word(rest)
		if !strings.EqualFold(op, "and") {
			return nil, errFilter("This filter is not understood.")
		}
	}
}

// word cuts a word that stands between blanks.
func word(s string) (w, rest string) {
	trimmed := strings.TrimLeft(s, " ")
	if trimmed == s {
		return "", s
	}
	w, _, _ = strings.Cut(trimmed, " ")
	return w, trimmed[len(w):]
}

// literal cuts a text in quotes, true or false.
func literal(s string) (value, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return value, s[i+1:], json.Unmarshal([]byte(s[:i+1]), &value)
			}
		}
		return "", "", strconv.ErrSyntax
	}
	name, rest := attributeName(s)
	if b, is := truth(name); is {
		return strconv.FormatBool(b), rest, nil
	}
	return "", "", strconv.ErrSyntax
}
