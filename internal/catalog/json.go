package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// A jsonReader turns JSON into nodes. YAML readers take most JSON, but not
// every escape of it, so files named .json and the journal's documents are read
// by this one.
type jsonReader struct {
	file      string
	data      []byte
	positions bool // whether nodes get a line and a column
	problems  *collector
	dec       *json.Decoder
	line      int // of offset seen
	column    int
	seen      int
}

func newJSONReader(file string, data []byte, positions bool, problems *collector) *jsonReader {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return &jsonReader{file: file, data: data, positions: positions, problems: problems, dec: dec, line: 1, column: 1}
}

// read returns the root of every document in the data.
func (j *jsonReader) read() []*node {
	var out []*node
	for {
		before := j.problems.count
		n, err := j.value(1)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			at := j.here()
			j.problems.add(Problem{File: j.file, Line: at.line, Column: at.column, Code: "json_broken",
				Sentence: "This is not readable as JSON: " + jsonReason(err) + ".", Mend: "Check the quotes, the commas and the brackets around this place."})
			return out
		}
		if j.problems.count == before {
			out = append(out, n)
		}
	}
}

// errTooDeepJSON ends a read before it goes deeper.
var errTooDeepJSON = fmt.Errorf("values are nested more than %d deep", maxDepth)

func jsonReason(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle of a value"
	}
	if errors.Is(err, errTooDeepJSON) {
		return err.Error()
	}
	var se *json.SyntaxError
	if errors.As(err, &se) {
		return clip(se.Error(), 100)
	}
	return "it is malformed"
}

// here is an empty node at the next token.
func (j *jsonReader) here() *node {
	if !j.positions {
		return &node{}
	}
	to := int(j.dec.InputOffset())
	for to < len(j.data) && bytes.IndexByte([]byte(" \t\r\n,:"), j.data[to]) >= 0 {
		to++
	}
	for j.seen < to {
		r, size := utf8.DecodeRune(j.data[j.seen:])
		j.seen += size
		j.column++
		if r == '\n' {
			j.line, j.column = j.line+1, 1
		}
	}
	return &node{line: j.line, column: j.column}
}

func (j *jsonReader) value(depth int) (*node, error) {
	n := j.here()
	t, err := j.dec.Token()
	if err != nil {
		return n, err
	}
	if depth > maxDepth {
		return n, errTooDeepJSON
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			n.kind = mapping
			return n, j.mapping(n, depth)
		}
		n.kind = sequence
		for j.dec.More() {
			e, err := j.value(depth + 1)
			if err != nil {
				return n, unexpected(err)
			}
			n.values = append(n.values, e)
		}
		_, err = j.dec.Token()
		return n, unexpected(err)
	case string:
		n.text = t
	case json.Number:
		n.text, n.plain = t.String(), true
	case bool:
		n.text, n.plain = fmt.Sprint(t), true
	case nil:
		n.text, n.plain = "null", true
	}
	return n, nil
}

func (j *jsonReader) mapping(n *node, depth int) error {
	seen := map[string]int{}
	for j.dec.More() {
		key := j.here()
		t, err := j.dec.Token()
		if err != nil {
			return unexpected(err)
		}
		key.text, _ = t.(string)
		v, err := j.value(depth + 1)
		if err != nil {
			return unexpected(err)
		}
		p := Problem{File: j.file, Line: key.line, Column: key.column}
		if first, dup := seen[key.text]; dup {
			p.Code, p.Sentence = "duplicate_key", fmt.Sprintf("The field %s is already set in line %d.", name(key.text), first)
			p.Mend = "Keep one of the two."
			j.problems.add(p)
			continue
		}
		if len(key.text) > maxKeyBytes {
			p.Code, p.Sentence = "key_too_long", fmt.Sprintf("A key has %d bytes, more than %d.", len(key.text), maxKeyBytes)
			p.Mend = "Write the field's name."
			j.problems.add(p)
			continue
		}
		seen[key.text] = key.line
		n.keys, n.values = append(n.keys, key), append(n.values, v)
	}
	_, err := j.dec.Token()
	return unexpected(err)
}

// unexpected keeps an end inside a value apart from the end of the data.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
