package evidence

import (
	"bytes"
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

// A place is a line of a file, the file by its number in the document.
type place struct{ file, line int32 }

// lineSet holds which lines were run; a line that is named several times was run if
// it was run once.
type lineSet struct {
	files map[string]int32
	run   map[place]bool
}

func newLineSet() *lineSet { return &lineSet{map[string]int32{}, map[place]bool{}} }

func (l *lineSet) file(name string) int32 {
	n, known := l.files[name]
	if !known {
		n = int32(len(l.files))
		l.files[strings.Clone(name)] = n
	}
	return n
}

// add says whether the line is new and whether it was not known to be run.
func (l *lineSet) add(p place, run bool) (isNew, newlyRun bool) {
	before, known := l.run[p]
	if !known || run && !before {
		l.run[p] = before || run
	}
	return !known, run && !before
}

func (l *lineSet) covered() Covered {
	c := Covered{Lines: int64(len(l.run))}
	for _, run := range l.run {
		if run {
			c.Covered++
		}
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
	open                bool
	file                int32
	lines, found, hit   int64 // DA lines; of them distinct; of those, run
	saysFound, saysHit  int64 // LF and LH; -1: it does not say
	seen                map[int32]bool
	rawHit, number, end int64
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
			r = record{open: true, file: set.file(value), saysFound: -1, saysHit: -1, seen: map[int32]bool{}}
			return nil
		case "end_of_record":
			if !r.open {
				return badLine(number, line, "behind a record")
			}
			r.open = false
			return r.check(number)
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
	return set.covered(), err
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
	parts := strings.SplitN(value, ",", 3)
	if len(parts) < 2 {
		return badLine(number, line, "DA:LINE,COUNT")
	}
	at, err := strconv.ParseUint(parts[0], 10, 31)
	count, err2 := strconv.ParseUint(parts[1], 10, 63)
	if err != nil || err2 != nil {
		return badLine(number, line, "DA:LINE,COUNT")
	}
	r.lines++
	was, known := r.seen[int32(at)]
	if !known {
		r.found++
	}
	if count > 0 {
		r.rawHit++
		if !was {
			r.hit++
		}
	}
	r.seen[int32(at)] = was || count > 0
	set.add(place{r.file, int32(at)}, count > 0)
	return nil
}

// check refuses a record whose totals are not those of its lines.
func (r *record) check(number int) error {
	if r.saysFound >= 0 && r.saysFound != r.found && r.saysFound != r.lines ||
		r.saysHit >= 0 && r.saysHit != r.hit && r.saysHit != r.rawHit {
		return refuse(codeContradictory, "The record says %d lines, %d of them run, but names %d and %d.", r.saysFound, r.saysHit, r.found, r.hit).
			WithField("line " + strconv.Itoa(number))
	}
	return nil
}

// A block of a Go profile.
type block struct {
	file int32
	at   [4]int32 // first line, column, last line, column
}

// goProfile counts statements. A block that several test binaries name counts once.
func goProfile(content []byte) (Covered, error) {
	type state struct {
		statements int32
		run        bool
	}
	files, blocks, out := newLineSet(), map[block]state{}, Covered{}
	mode := ""
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
		name, b, statements, count, ok := goBlock(line)
		if !ok {
			return badLine(number, line, "FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT")
		}
		b.file = files.file(name)
		was, known := blocks[b]
		if known && was.statements != statements {
			return refuse(codeContradictory, "The block is named twice, with %d and with %d statements.", was.statements, statements).
				WithField("line " + strconv.Itoa(number))
		}
		if !known {
			out.Lines += int64(statements)
		}
		if count > 0 && !was.run {
			out.Covered += int64(statements)
		}
		blocks[b] = state{statements, was.run || count > 0}
		return nil
	})
	return out, err
}

func goBlock(line string) (name string, b block, statements int32, count uint64, ok bool) {
	colon := strings.LastIndexByte(line, ':')
	if colon <= 0 {
		return
	}
	fields := strings.Split(line[colon+1:], " ")
	if len(fields) != 3 {
		return
	}
	from, to, ok1 := strings.Cut(fields[0], ",")
	for i, half := range []string{from, to} {
		l, c, ok2 := strings.Cut(half, ".")
		ln, err := strconv.ParseUint(l, 10, 31)
		cn, err2 := strconv.ParseUint(c, 10, 31)
		if !ok1 || !ok2 || err != nil || err2 != nil {
			return
		}
		b.at[2*i], b.at[2*i+1] = int32(ln), int32(cn)
	}
	n, err := strconv.ParseUint(fields[1], 10, 31)
	count, err2 := strconv.ParseUint(fields[2], 10, 63)
	return line[:colon], b, int32(n), count, err == nil && err2 == nil
}
