package catalog

import (
	"strconv"
	"strings"
)

// A node is one value of a document with its position, whatever syntax it came
// from. Both readers make the same tree of the same meaning, so there is one
// decoder behind them.
type node struct {
	kind   nodeKind
	plain  bool   // a scalar without quotes
	block  bool   // a literal block of YAML
	indent int    // of its lines, in characters
	text   string // a scalar as it is written, quotes and escapes undone
	line   int    // from 1; 0: the source has no positions
	column int
	keys   []*node // of a mapping, beside values
	values []*node // of a mapping or a sequence
}

type nodeKind uint8

const (
	scalar nodeKind = iota
	mapping
	sequence
)

// what names the kind of value for a sentence.
func (n *node) what() string {
	switch n.kind {
	case mapping:
		return "a mapping"
	case sequence:
		return "a list"
	}
	if !n.plain {
		return "a text"
	}
	switch {
	case isNull(n.text):
		return "nothing"
	case n.text == "true" || n.text == "false":
		return "true or false"
	case looksNumeric(n.text):
		return "a number"
	}
	return "a text"
}

// field is the value under key, or nil.
func (n *node) field(key string) *node {
	for i, k := range n.keys {
		if k.text == key {
			return n.values[i]
		}
	}
	return nil
}

// find is the node that a path such as stages[0].trust.events leads to, or the
// last one on the way that exists: what is missing is reported where it should
// have stood.
func (n *node) find(path string) *node {
	for path != "" {
		step := path
		if i := strings.IndexAny(path[1:], ".["); i >= 0 {
			step = path[:i+1]
		}
		path = path[len(step):]
		var next *node
		if step[0] == '[' {
			i, err := strconv.Atoi(strings.Trim(step, "[]"))
			if err == nil && n.kind == sequence && i < len(n.values) {
				next = n.values[i]
			}
		} else {
			next = n.field(strings.TrimPrefix(step, "."))
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func isNull(s string) bool { return s == "" || s == "~" || strings.EqualFold(s, "null") }

// isDigits reports whether s is a natural number in its one plain spelling.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == "" && (s == "0" || s[0] != '0')
}

// looksNumeric reports whether some version of YAML could take s for a number
// or a time: two readers may then see two values.
func looksNumeric(s string) bool {
	t := strings.TrimLeft(s, "+-")
	switch strings.ToLower(t) {
	case ".inf", ".nan":
		return true
	}
	if t == "" {
		return false
	}
	if _, err := strconv.ParseFloat(strings.ReplaceAll(t, "_", ""), 64); err == nil && '0' <= t[0] && t[0] <= '9' || t[0] == '.' && isDigitsOrDot(t) {
		return true
	}
	if _, err := strconv.ParseInt(strings.ReplaceAll(t, "_", ""), 0, 64); err == nil {
		return true
	}
	return sexagesimal(t)
}

func isDigitsOrDot(s string) bool { return len(s) > 1 && strings.Trim(s, ".0123456789") == "" }

// sexagesimal covers 190:20:30 of YAML 1.1, and dates.
func sexagesimal(s string) bool {
	if len(s) >= 10 && s[4] == '-' && s[7] == '-' && strings.Trim(s[:10], "0123456789-") == "" {
		return true
	}
	return strings.Contains(s, ":") && strings.Trim(s, "0123456789:._") == ""
}
