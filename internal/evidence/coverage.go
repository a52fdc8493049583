package evidence

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const coverageFormats = "Cobertura XML, JaCoCo XML, LCOV, a cover profile of Go"

func readCoverage(content []byte) (Summary, error) {
	format, read := "", (func([]byte) (Covered, error))(nil)
	switch first, _, _ := bytes.Cut(bytes.TrimLeft(content, " \t\r\n"), []byte("\n")); {
	case isXML(content):
		root, err := rootOf(content)
		if err != nil {
			return Summary{}, err
		}
		switch {
		case root.Space == "" && root.Local == "coverage":
			format, read = "cobertura", cobertura
		case root.Space == "" && root.Local == "report":
			format, read = "jacoco", jacoco
		default:
			return Summary{}, unknownFormat(Coverage, "its root is "+clip(root.Local), coverageFormats)
		}
	case bytes.HasPrefix(first, []byte("mode:")):
		format, read = "go", goProfile
	case bytes.HasPrefix(first, []byte("TN:")), bytes.HasPrefix(first, []byte("SF:")), bytes.HasPrefix(first, []byte("#")):
		format, read = "lcov", lcov
	default:
		return Summary{}, unknownFormat(Coverage, "its first line says none", coverageFormats)
	}
	covered, err := read(content)
	if err != nil {
		return Summary{}, err
	}
	if covered.Lines == 0 {
		return Summary{}, refuse(codeEmpty, "The document names no line of code.").WithNext("Bring the coverage of tests that ran.")
	}
	return Summary{Format: format, Coverage: &covered}, nil
}

// A lineSet holds which lines of which files were run; a line that is named several
// times was run if it was run once. Each mention is one number, so that millions of
// them are small and sorted fast: the file's number, the line, and whether it was run.
type lineSet struct {
	files map[string]int32
	lines []uint64
}

func newLineSet() *lineSet { return &lineSet{files: map[string]int32{}} }

// file is the number of a file, from 0.
func (l *lineSet) file(name string) int32 {
	n, known := l.files[name]
	if !known {
		n = int32(len(l.files))
		l.files[strings.Clone(name)] = n
	}
	return n
}

// add notes a line from 0 to math.MaxInt32.
func (l *lineSet) add(file, line int32, run bool) {
	mention := uint64(file)<<32 | uint64(line)<<1
	if run {
		mention |= 1
	}
	l.lines = append(l.lines, mention)
}

// count counts the distinct lines mentioned from the start-th mention on, which it
// sorts.
func (l *lineSet) count(start int) Covered {
	var c Covered
	list := l.lines[start:]
	slices.Sort(list)
	for i, mention := range list {
		if i+1 < len(list) && list[i+1]>>1 == mention>>1 {
			continue // of equal lines the last says whether one of them was run
		}
		c.Lines++
		c.Covered += int64(mention & 1)
	}
	return c
}

// lines calls f with every line that is not empty, and its number from 1.
func lines(content []byte, f func(number int, line string) error) error {
	for number := 1; len(content) > 0; number++ {
		var line []byte
		line, content, _ = bytes.Cut(content, []byte("\n"))
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			continue
		}
		if number > MaxItems*2 {
			return refuse(codeTooLarge, "The document has more than %d lines.", MaxItems*2)
		}
		if err := f(number, string(line)); err != nil {
			return err
		}
	}
	return nil
}

func badLine(number int, line, want string) error {
	return refuse(codeUnreadable, "The line %.80q is not %s.", line, want).WithField("line " + strconv.Itoa(number))
}

// A record of LCOV: one source file as one test ran it.
type record struct {
	open               bool
	file               int32
	start              int   // of its lines in the set
	hit                int64 // of its lines, as often as they are named
	saysFound, saysHit int64 // LF and LH; -1: it does not say
}

func lcov(content []byte) (Covered, error) {
	set, r := newLineSet(), record{}
	err := lines(content, func(number int, line string) error {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "SF":
			if r.open || value == "" {
				return badLine(number, line, "the first of a record")
			}
			r = record{open: true, file: set.file(value), start: len(set.lines), saysFound: -1, saysHit: -1}
			return nil
		case "end_of_record":
			if !r.open {
				return badLine(number, line, "behind a record")
			}
			r.open = false
			return r.check(number, set)
		case "DA", "LF", "LH":
			if !r.open {
				return badLine(number, line, "in a record that SF begins")
			}
			return r.read(number, line, set)
		case "TN", "VER", "FN", "FNDA", "FNF", "FNH", "FNL", "FNA", "BRDA", "BRF", "BRH", "MCDC", "MCF", "MCH":
			return nil
		}
		if strings.HasPrefix(line, "#") {
			return nil
		}
		return badLine(number, line, "a line of LCOV")
	})
	if err == nil && r.open {
		err = refuse(codeUnreadable, "The last record has no end_of_record: the document is cut.")
	}
	return set.count(0), err
}

func (r *record) read(number int, line string, set *lineSet) error {
	key, value, _ := strings.Cut(line, ":")
	if key != "DA" {
		n, err := strconv.ParseUint(value, 10, 62)
		if err != nil {
			return badLine(number, line, "a count")
		}
		if key == "LF" {
			r.saysFound = int64(n)
		} else {
			r.saysHit = int64(n)
		}
		return nil
	}
	first, rest, _ := strings.Cut(value, ",")
	second, _, _ := strings.Cut(rest, ",") // a checksum may follow
	at, err := strconv.ParseUint(first, 10, 31)
	count, err2 := strconv.ParseUint(second, 10, 63)
	if err != nil || err2 != nil {
		return badLine(number, line, "DA:LINE,COUNT")
	}
	if count > 0 {
		r.hit++
	}
	set.add(r.file, int32(at), count > 0)
	return nil
}

// check refuses a record whose totals are those neither of its lines nor of its
// mentions of lines.
func (r *record) check(number int, set *lineSet) error {
	named, distinct := int64(len(set.lines)-r.start), set.count(r.start)
	if r.saysFound >= 0 && r.saysFound != distinct.Lines && r.saysFound != named ||
		r.saysHit >= 0 && r.saysHit != distinct.Covered && r.saysHit != r.hit {
		return refuse(codeContradictory, "The record says LF:%d and LH:%d, but names %d lines, %d of them run.", r.saysFound, r.saysHit, distinct.Lines, distinct.Covered).
			WithField("line " + strconv.Itoa(number))
	}
	return nil
}

// A block of a Go profile.
type block struct {
	file       int32
	at         [4]int32 // first line, column, last line, column
	statements int32
	run        bool
	line       int32 // of the profile
}

func (b block) compare(o block) int {
	return cmp.Or(cmp.Compare(b.file, o.file), slices.Compare(b.at[:], o.at[:]), cmp.Compare(b.line, o.line))
}

// goProfile counts statements. A block that several test binaries name counts once.
func goProfile(content []byte) (Covered, error) {
	files, blocks, mode := newLineSet(), []block(nil), ""
	err := lines(content, func(number int, line string) error {
		if m, is := strings.CutPrefix(line, "mode: "); is {
			if m != "set" && m != "count" && m != "atomic" || mode != "" && m != mode {
				return badLine(number, line, "mode: set, count or atomic, the same throughout")
			}
			mode = m
			return nil
		}
		if mode == "" {
			return badLine(number, line, "the mode")
		}
		name, b, ok := goBlock(line)
		if !ok {
			return badLine(number, line, "FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT")
		}
		b.file, b.line = files.file(name), int32(number)
		blocks = append(blocks, b)
		return nil
	})
	if err != nil {
		return Covered{}, err
	}
	return countBlocks(blocks)
}

func countBlocks(blocks []block) (Covered, error) {
	slices.SortFunc(blocks, block.compare)
	var out Covered
	run := false
	for i, b := range blocks {
		run = run || b.run
		if i+1 < len(blocks) && blocks[i+1].file == b.file && blocks[i+1].at == b.at {
			if next := blocks[i+1]; next.statements != b.statements {
				return Covered{}, refuse(codeContradictory, "The block is named twice, with %d and with %d statements.", b.statements, next.statements).
					WithField("line " + strconv.Itoa(int(next.line)))
			}
			continue
		}
		out.Lines += int64(b.statements)
		if run {
			out.Covered += int64(b.statements)
		}
		run = false
	}
	return out, nil
}

func goBlock(line string) (name string, b block, ok bool) {
	colon := strings.LastIndexByte(line, ':')
	if colon <= 0 {
		return "", b, false
	}
	span, rest, _ := strings.Cut(line[colon+1:], " ")
	statements, count, ok1 := strings.Cut(rest, " ")
	from, to, ok2 := strings.Cut(span, ",")
	for i, half := range []string{from, to} {
		l, c, dot := strings.Cut(half, ".")
		at, err := strconv.ParseUint(l, 10, 31)
		column, err2 := strconv.ParseUint(c, 10, 31)
		if !ok1 || !ok2 || !dot || err != nil || err2 != nil {
			return "", b, false
		}
		b.at[2*i], b.at[2*i+1] = int32(at), int32(column)
	}
	n, err := strconv.ParseUint(statements, 10, 31)
	runs, err2 := strconv.ParseUint(count, 10, 63)
	b.statements, b.run = int32(n), runs > 0
	return line[:colon], b, err == nil && err2 == nil
}
