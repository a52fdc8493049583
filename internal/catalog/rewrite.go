package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lockkeeper/lockkeeper"
)

// Rewrite makes the edits in the files of a whole catalog, and leaves every other
// byte of them as it is: comments, order, the way in which lists are written. It
// returns the files that differ; a file without Data has no document any more. It
// refuses with Conflict what it cannot do, and returns nothing then: a document that
// is not there or reads differently, or files that would say something else than the
// edits afterwards.
func Rewrite(files []File, edits []Edit) ([]File, error) {
	was, problems := Read(files)
	if err := problems.Err(); err != nil {
		return nil, err
	}
	want, err := was.Edited(edits)
	if err != nil {
		return nil, err
	}
	all, changed := slices.Clone(files), []File(nil)
	for i, f := range files {
		data, err := rewriteFile(f, edits)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(data, f.Data) {
			all[i].Data = data
			changed = append(changed, all[i])
		}
	}
	if is, _ := Read(all); is == nil || is.Digest() != want.Digest() {
		return nil, lockkeeper.Conflict.Errorf("rewrite_differs", "The files are written in a way that this cannot change.").WithNext("Make the changes by hand, as they are listed.")
	}
	return changed, nil
}

// A splice puts text in the place of some bytes.
type splice struct {
	from, to int
	text     string
}

func rewriteFile(f File, edits []Edit) ([]byte, error) {
	if strings.HasSuffix(f.Name, ".json") {
		return rewriteJSON(f, edits)
	}
	problems := new(collector)
	t := newText(f.Data)
	var splices []splice
	for _, c := range (&inbox{problems: problems}).chunks(f) {
		roots := (&yamlReader{file: f.Name, line: c.line, problems: problems}).read(c.data)
		for _, root := range roots {
			e, concerns := editOf(f.Name, root, edits)
			if !concerns {
				continue
			}
			if len(roots) > 1 {
				return nil, lockkeeper.Conflict.Errorf("rewrite_differs", "%s stands beside another document that only ... parts from it.", e.Key).WithField(f.Name).
					WithNext("Part them by ---, or make the change by hand.")
			}
			splices = append(splices, t.edit(e, root, c)...)
		}
	}
	data := t.with(splices)
	if len(splices) > 0 && blank(data) {
		data = nil
	}
	return data, nil
}

// editOf is the edit that is about a document, as it reads there.
func editOf(file string, root *node, edits []Edit) (Edit, bool) {
	d := &decoder{file: file, problems: new(collector), written: true}
	r := d.resource(root)
	if r == nil || !r.good {
		return Edit{}, false
	}
	i := slices.IndexFunc(edits, func(e Edit) bool { return e.Key == r.key })
	if i < 0 {
		return Edit{}, false
	}
	return edits[i], true
}

// text is the bytes of a file by line and column.
type text struct {
	data  []byte
	lines []int // where each begins, and the end
}

func newText(data []byte) *text {
	t := &text{data: data, lines: []int{0}}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		t.lines[0] = 3
	}
	for i, b := range data {
		if b == '\n' {
			t.lines = append(t.lines, i+1)
		}
	}
	t.lines = append(t.lines, len(data))
	return t
}

// line is where a line begins, from 1; past the last one, the end.
func (t *text) line(n int) int { return t.lines[min(max(n, 1), len(t.lines))-1] }

// at is where a node begins.
func (t *text) at(n *node) int {
	i := t.line(n.line)
	for range n.column - 1 {
		_, size := utf8.DecodeRune(t.data[i:])
		i += size
	}
	return min(i, len(t.data))
}

func (t *text) with(splices []splice) []byte {
	slices.SortFunc(splices, func(a, b splice) int { return b.from - a.from })
	out := slices.Clone(t.data)
	for _, s := range splices {
		out = slices.Concat(out[:s.from], []byte(s.text), out[s.to:])
	}
	return out
}

// closing is where the bracket that opens at i is closed.
func (t *text) closing(i int) int {
	depth := 0
	for ; i < len(t.data); i++ {
		switch b := t.data[i]; b {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i
			}
		case '"', '\'':
			if strings.IndexByte(" \t\r\n,:[{", t.data[i-1]) < 0 {
				continue // inside of a word
			}
			for i++; i < len(t.data) && t.data[i] != b; i++ {
				if b == '"' && t.data[i] == '\\' {
					i++
				}
			}
		case '#':
			if strings.IndexByte(" \t\n", t.data[i-1]) < 0 {
				continue
			}
			for i+1 < len(t.data) && t.data[i+1] != '\n' {
				i++
			}
		}
	}
	return len(t.data)
}

func (t *text) edit(e Edit, root *node, c chunk) []splice {
	switch {
	case e.Remove:
		from := t.line(c.line + 1)
		end := from + len(c.data)
		return []splice{{from + preamble(c), end, ""}}
	case e.Eligible:
		return t.set(root, "eligible", "true", "scope")
	case len(e.Actions) > 0:
		return t.list(root.field("actions"), e.Actions)
	}
	return nil
}

// preamble is how much of the first document of a file is a comment about the whole
// file: lines of comments before an empty one.
func preamble(c chunk) int {
	n := 0
	if c.line > 0 {
		return 0
	}
	for row := range bytes.Lines(c.data) {
		if len(bytes.TrimSpace(row)) == 0 && n > 0 {
			return n + len(row)
		}
		if row[0] != '#' {
			break
		}
		n += len(row)
	}
	return 0
}

// set gives a field of a document a value: in its place, or, in a line of its own,
// after another field.
func (t *text) set(root *node, field, value, after string) []splice {
	if old := root.field(field); old != nil {
		i := t.at(old)
		return []splice{{i, i + len(old.text), value}}
	}
	if i := t.at(root); i < len(t.data) && t.data[i] == '{' {
		end := t.closing(i)
		before := len(bytes.TrimRight(t.data[:end], " \t\r\n"))
		comma := ", "
		if t.data[before-1] == ',' {
			comma = " "
		}
		return []splice{{before, before, comma + field + ": " + value}}
	}
	at := root.field(after)
	if at == nil || len(root.keys) == 0 {
		return nil
	}
	i := t.line(at.line + 1)
	row := strings.Repeat(" ", root.keys[0].column-1) + field + ": " + value + "\n"
	if t.data[i-1] != '\n' {
		row = "\n" + strings.TrimSuffix(row, "\n")
	}
	return []splice{{i, i, row}}
}

// list makes a list of patterns another one: what stays is left as it is written,
// and what comes stands in the place of the pattern that it is a part of.
func (t *text) list(old *node, patterns []lockkeeper.ActionPattern) []splice {
	if i := t.at(old); t.data[i] == '[' {
		var out []string
		for _, p := range patterns {
			out = append(out, written(p))
		}
		return []splice{{i, t.closing(i) + 1, "[" + strings.Join(out, ", ") + "]"}}
	}
	var had []lockkeeper.ActionPattern
	for _, n := range old.values {
		had = append(had, lockkeeper.ActionPattern(n.text))
	}
	var out []splice
	next := 0 // of patterns
	for i, n := range old.values {
		if at := slices.Index(patterns, had[i]); at >= 0 {
			next = at + 1
			continue
		}
		from, to := t.line(n.line), t.line(n.line+1)
		rows := ""
		for ; next < len(patterns) && !slices.Contains(had, patterns[next]); next++ {
			rows += string(t.data[from:t.at(n)]) + written(patterns[next]) + "\n"
		}
		out = append(out, splice{from, to, rows})
	}
	return out
}

// written is a pattern as YAML: a star alone would be an alias.
func written(p lockkeeper.ActionPattern) string {
	if strings.HasPrefix(string(p), "*") {
		return `"` + string(p) + `"`
	}
	return string(p)
}

// rewriteJSON writes the documents that change anew, indented, and leaves the others.
func rewriteJSON(f File, edits []Edit) ([]byte, error) {
	problems := new(collector)
	data := bytes.TrimPrefix(f.Data, []byte("\xef\xbb\xbf"))
	roots := newJSONReader(f.Name, data, true, problems).read()
	dec := json.NewDecoder(bytes.NewReader(data))
	var out []byte
	end, touched := 0, false
	for _, root := range roots {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		between, now := data[end:int(dec.InputOffset())-len(raw)], []byte(raw)
		end = int(dec.InputOffset())
		if e, concerns := editOf(f.Name, root, edits); concerns {
			touched = true
			if e.Remove {
				continue
			}
			edited, err := e.apply(raw)
			if err != nil {
				return nil, err
			}
			var b bytes.Buffer
			if err := json.Indent(&b, edited, "", "  "); err != nil {
				return nil, err
			}
			now = b.Bytes()
		}
		out = append(append(out, between...), now...)
	}
	if !touched {
		return f.Data, nil
	}
	if len(bytes.TrimSpace(out)) == 0 {
		return nil, nil
	}
	return append(out, data[end:]...), nil
}
