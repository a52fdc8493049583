package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

var errTooDeep = errors.New("too deep")

// A yamlReader turns the documents of one YAML file into nodes. Anchors,
// aliases, tags, merge keys and duplicate keys are problems: none of them is
// needed, and each lets a document say something else than it seems to say.
type yamlReader struct {
	file     string
	line     int // added to the parser's
	data     []byte
	lines    [][]byte // of data, once a literal block needs them
	problems *collector
}

// read returns the root nodes of the documents in data; there is more than one
// only where "..." parts them.
func (y *yamlReader) read(data []byte) []*node {
	y.data = data
	limits := loaderlimits.New(loaderlimits.DepthFunc(func(depth int, _ *yaml.DepthContext) error {
		if depth > maxDepth {
			return errTooDeep
		}
		return nil
	}))
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(limits), yaml.WithUniqueKeys(false))
	if err != nil {
		y.broken(err)
		return nil
	}
	var out []*node
	for {
		var doc yaml.Node
		if err := loader.Load(&doc); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			y.broken(err)
			return out
		}
		before := y.problems.count
		for _, root := range doc.Content {
			n := y.node(root, 1)
			if y.problems.count == before {
				out = append(out, n)
			}
		}
	}
}

// broken reports what the parser could not read.
func (y *yamlReader) broken(err error) {
	p := Problem{File: y.file, Line: y.line + 1, Column: 1, Code: "yaml_broken",
		Mend: "Check the indentation, the quotes and the brackets around this place."}
	message := "the parser gives no reason"
	var le *yaml.LoadError
	if errors.As(err, &le) {
		message = le.Message
		mark := le.Mark
		if mark.Line == 0 {
			mark = le.ContextMark
		}
		if mark.Line > 0 {
			p.Line, p.Column = y.line+mark.Line, max(mark.Column, 1)
		}
	}
	if errors.Is(err, errTooDeep) || message == errTooDeep.Error() || bytes.Contains([]byte(err.Error()), []byte("too deep")) {
		p.Code, p.Sentence = "too_deep", fmt.Sprintf("Values are nested more than %d deep.", maxDepth)
		p.Mend = "No resource needs that; look for brackets that are never closed."
		y.problems.add(p)
		return
	}
	if secret(message, false) {
		message = "the parser's reason is withheld, because it repeats a value that looks like a secret"
	}
	p.Sentence = "This is not readable as YAML: " + clip(message, 200) + "."
	y.problems.add(p)
}

func (y *yamlReader) add(n *yaml.Node, code, sentence, mend string) {
	y.problems.add(Problem{File: y.file, Line: y.line + n.Line, Column: n.Column, Code: code, Sentence: sentence, Mend: mend})
}

func (y *yamlReader) node(n *yaml.Node, depth int) *node {
	out := &node{line: y.line + n.Line, column: n.Column}
	switch {
	case depth > maxDepth:
		y.add(n, "too_deep", fmt.Sprintf("Values are nested more than %d deep.", maxDepth), "No resource needs that.")
		return out
	case n.Kind == yaml.AliasNode:
		y.add(n, "alias_refused", "There is an alias (*).", "Write the value out; governance files are read by people.")
		return out
	case n.Anchor != "":
		y.add(n, "anchor_refused", "There is an anchor (&).", "Take it out; aliases are not read, so it has no use.")
	case n.Style&yaml.TaggedStyle != 0:
		y.add(n, "tag_refused", "There is a tag (!).", "Take it out; the field already says what type it has.")
	}
	switch n.Kind {
	case yaml.MappingNode:
		out.kind = mapping
		y.mapping(out, n, depth)
	case yaml.SequenceNode:
		out.kind = sequence
		for _, e := range n.Content {
			out.values = append(out.values, y.node(e, depth+1))
		}
	default:
		out.text = n.Value
		if out.block = n.Style&yaml.LiteralStyle != 0; out.block {
			out.indent = y.indent(n)
		}
		out.plain = n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	}
	return out
}

// indent is by how much the lines of a literal block are moved in.
func (y *yamlReader) indent(n *yaml.Node) int {
	if y.lines == nil {
		y.lines = bytes.Split(y.data, []byte("\n"))
	}
	blank := func(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
	for i, line := range bytes.Split([]byte(n.Value), []byte("\n")) {
		if at := n.Line + i; len(bytes.TrimSpace(line)) > 0 && at < len(y.lines) {
			return max(blank(y.lines[at])-blank(line), 0)
		}
	}
	return 0
}

func (y *yamlReader) mapping(out *node, n *yaml.Node, depth int) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind != yaml.ScalarNode:
			y.add(k, "key_unfit", "A key must be a plain name.", "Write the field's name.")
			continue
		case len(k.Value) > maxKeyBytes:
			y.add(k, "key_too_long", fmt.Sprintf("A key has %d bytes, more than %d.", len(k.Value), maxKeyBytes), "Write the field's name.")
			continue
		case k.Value == "<<" && k.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0:
			y.add(k, "merge_refused", "There is a merge key (<<).", "Write the fields out; governance files are read by people.")
			continue
		}
		key := y.node(k, depth+1)
		if first, dup := seen[k.Value]; dup {
			y.add(k, "duplicate_key", fmt.Sprintf("The field %s is already set in line %d.", name(k.Value), first), "Keep one of the two.")
			continue
		}
		seen[k.Value] = key.line
		out.keys = append(out.keys, key)
		out.values = append(out.values, y.node(n.Content[i+1], depth+1))
	}
}
