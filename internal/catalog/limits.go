package catalog

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Bounds of what is read. They hold before the parser sees a byte, so that a
// hostile document costs one pass over it at most.
const (
	maxFileBytes     = 4 << 20
	maxTotalBytes    = 16 << 20
	maxDocuments     = 10_000
	maxDocumentBytes = 1 << 20
	maxDepth         = 32
	maxKeyBytes      = 128
	maxTextBytes     = 4096
	maxLines         = 1_000_000 // commas and line ends of all files: what bounds the number of values
	maxDocumentLines = 100_000   // the same of one document
)

// A chunk is one document of a file, with the line that it begins on.
type chunk struct {
	data []byte
	line int // from 0
}

// An inbox counts what all files together hold.
type inbox struct {
	problems  *collector
	bytes     int
	documents int
	lines     int
}

// chunks checks the bounds and the bytes of one file and cuts it at the lines
// that begin with ---, where YAML ends a document in whatever context it
// stands. Each document is parsed alone: a broken one hides no other.
func (in *inbox) chunks(f File) []chunk {
	in.bytes += len(f.Data)
	switch {
	case len(f.Data) > maxFileBytes:
		in.problems.add(Problem{File: f.Name, Code: "file_too_large",
			Sentence: fmt.Sprintf("The file has %d bytes, more than %d.", len(f.Data), maxFileBytes),
			Mend:     "Split it into several files."})
		return nil
	case in.bytes > maxTotalBytes:
		in.problems.add(Problem{File: f.Name, Code: "files_too_large",
			Sentence: fmt.Sprintf("The files together have more than %d bytes.", maxTotalBytes),
			Mend:     "A catalog of this size is not supported; leave out what is not governance."})
		return nil
	}
	data := bytes.TrimPrefix(f.Data, []byte("\xef\xbb\xbf"))
	if p, bad := unfitBytes(data); bad {
		p.File = f.Name
		in.problems.add(p)
		return nil
	}
	return in.split(f.Name, data)
}

func (in *inbox) split(name string, data []byte) []chunk {
	var out []chunk
	start, startLine, line, values := 0, 0, 0, 0
	flush := func(end int) bool {
		doc := chunk{data[start:end], startLine}
		start, startLine = end, line
		n := values
		values = 0
		if blank(doc.data) {
			return true
		}
		in.documents++
		in.lines += n
		p := Problem{File: name, Line: doc.line + 1, Column: 1}
		switch {
		case in.documents > maxDocuments:
			p.Code, p.Sentence = "too_many_documents", fmt.Sprintf("There are more than %d documents.", maxDocuments)
			p.Mend = "Leave out what nothing refers to."
		case in.lines > maxLines:
			p.Code, p.Sentence = "too_many_values", "The files together hold too many values."
			p.Mend = "Leave out what nothing refers to."
		case len(doc.data) > maxDocumentBytes || n > maxDocumentLines:
			p.Code = "document_too_large"
			p.Sentence = fmt.Sprintf("The document has %d bytes in %d lines and list entries; %d and %d are allowed.", len(doc.data), n, maxDocumentBytes, maxDocumentLines)
			p.Mend = "Divide the resource, a large group into nested ones for instance."
			in.problems.add(p)
			return true
		default:
			out = append(out, doc)
			return true
		}
		in.problems.add(p)
		return false
	}
	for i := 0; i < len(data); {
		end := len(data)
		if j := bytes.IndexByte(data[i:], '\n'); j >= 0 {
			end = i + j + 1
		}
		row := data[i:end]
		if i > start && bytes.HasPrefix(row, []byte("---")) && (len(row) == 3 || bytes.IndexByte([]byte(" \t\r\n"), row[3]) >= 0) && !flush(i) {
			return out
		}
		values += 1 + bytes.Count(row, []byte{','})
		line++
		i = end
	}
	flush(len(data))
	return out
}

// blank reports whether a document holds nothing but comments and its marker.
func blank(data []byte) bool {
	for row := range bytes.Lines(data) {
		row = bytes.TrimSpace(row)
		if len(row) > 0 && row[0] != '#' && !bytes.Equal(row, []byte("---")) && !bytes.HasPrefix(row, []byte("--- #")) {
			return false
		}
	}
	return true
}

// unfitBytes finds the first byte that may not stand in a file: what is not
// UTF-8, control characters, line ends that only some readers know, and marks
// that reorder what a reviewer sees.
func unfitBytes(data []byte) (Problem, bool) {
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		at := Problem{Line: line, Column: column}
		switch {
		case r == utf8.RuneError && size == 1:
			at.Code, at.Sentence, at.Mend = "not_utf8", "The file is not valid UTF-8.", "Save it as UTF-8."
			return at, true
		case r == '\r' && (i+1 == len(data) || data[i+1] != '\n'), r == 0x85, r == 0x2028, r == 0x2029:
			at.Code, at.Sentence, at.Mend = "line_end_unfit", "A line ends in a character that not every reader takes for a line end.", "End lines with a line feed."
			return at, true
		case r < 0x20 && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0:
			at.Code, at.Sentence, at.Mend = "control_character", fmt.Sprintf("There is a control character (U+%04X).", r), "Take it out."
			return at, true
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			at.Code, at.Sentence, at.Mend = "hidden_character", fmt.Sprintf("There is a hidden character (U+%04X) that makes the text look other than it is.", r), "Take it out."
			return at, true
		}
		i += size
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return Problem{}, false
}
