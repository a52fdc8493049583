package evidence

import (
	"encoding/xml"
	"math"
	"strconv"
)

// cobertura counts the lines of classes. Lines of methods stand there again and are
// not counted twice.
func cobertura(content []byte) (Covered, error) {
	c := &coberturaReader{set: newLineSet(), says: -1}
	if err := newWalker(content).walk(c); err != nil {
		return Covered{}, err
	}
	if c.says > c.listed {
		return Covered{}, refuse(codeContradictory, "The document says that it has %d lines, but names %d.", c.says, c.listed)
	}
	return c.set.count(0), nil
}

type coberturaReader struct {
	set    *lineSet
	says   int64 // lines-valid
	listed int64
	file   int32
}

func (c *coberturaReader) start(x *walker, e xml.StartElement) (err error) {
	switch e.Name.Local {
	case "coverage":
		c.says, err = x.count(e, "lines-valid")
	case "class":
		name, there := attr(e, "filename")
		if !there || name == "" {
			return x.fail(codeUnreadable, "A class names no file.")
		}
		c.file = c.set.file(name)
	case "line":
		if n := len(x.path); n < 3 || x.path[n-2] != "lines" || x.path[n-3] != "class" {
			return nil
		}
		return c.line(x, e)
	}
	return err
}

func (c *coberturaReader) line(x *walker, e xml.StartElement) error {
	if err := x.item(); err != nil {
		return err
	}
	number, err := x.count(e, "number")
	if err != nil {
		return err
	}
	hits, err := x.count(e, "hits")
	if err != nil {
		return err
	}
	if number < 0 || number > math.MaxInt32 || hits < 0 {
		return x.fail(codeUnreadable, "A line must have a number and hits.")
	}
	c.listed++
	c.set.add(c.file, int32(number), hits > 0)
	return nil
}

func (c *coberturaReader) end(*walker, string) error  { return nil }
func (c *coberturaReader) text(*walker, []byte) error { return nil }

// jacoco reads the report's own counter of lines, which must be the sum of those of
// its packages and groups.
func jacoco(content []byte) (Covered, error) {
	j := &jacocoReader{}
	if err := newWalker(content).walk(j); err != nil {
		return Covered{}, err
	}
	switch {
	case !j.there && j.other:
		return Covered{}, refuse(codeEmpty, "The report counts no lines.").WithNext("Compile with debug information, so that JaCoCo knows lines.")
	case j.parts && j.sum != j.own:
		return Covered{}, refuse(codeContradictory, "The report says %d of %d lines, but its packages and groups %d of %d.",
			j.own.Covered, j.own.Lines, j.sum.Covered, j.sum.Lines)
	}
	return j.own, nil
}

type jacocoReader struct {
	own, sum            Covered
	there, other, parts bool
}

func (j *jacocoReader) start(x *walker, e xml.StartElement) error {
	if err := x.item(); err != nil {
		return err
	}
	if e.Name.Local != "counter" {
		return nil
	}
	depth, kind := len(x.path), ""
	if kind, _ = attr(e, "type"); kind != "LINE" {
		j.other = j.other || depth == 2
		return nil
	}
	missed, err := x.count(e, "missed")
	if err != nil {
		return err
	}
	covered, err := x.count(e, "covered")
	if err != nil {
		return err
	}
	if missed < 0 || covered < 0 || missed > math.MaxInt32 || covered > math.MaxInt32 {
		return x.fail(codeUnreadable, "A counter must say what is missed and covered, each below %s.", strconv.Itoa(math.MaxInt32))
	}
	switch parent := x.parent(); {
	case depth == 2 && j.there:
		return x.fail(codeContradictory, "The report counts its lines twice.")
	case depth == 2:
		j.own, j.there = Covered{Lines: missed + covered, Covered: covered}, true
	case depth == 3 && (parent == "package" || parent == "group"):
		j.parts = true
		j.sum.Lines += missed + covered
		j.sum.Covered += covered
	}
	return nil
}

func (j *jacocoReader) end(*walker, string) error  { return nil }
func (j *jacocoReader) text(*walker, []byte) error { return nil }
