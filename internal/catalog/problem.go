package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// A Problem is one thing wrong with the documents, where it stands, and how to
// mend it. It never repeats a value that may be a secret.
type Problem struct {
	File     string `json:"file"`
	Line     int    `json:"line"`           // from 1; 0: the file as a whole
	Column   int    `json:"column"`         // from 1, in characters
	Path     string `json:"path,omitempty"` // stages[0].trust.events
	Code     string `json:"code"`           // stable
	Sentence string `json:"sentence"`
	Mend     string `json:"mend,omitempty"`
}

// String is file:line:column: sentence mend [code].
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Sentence)
	if p.Mend != "" {
		b.WriteString(" " + p.Mend)
	}
	return b.String() + " [" + p.Code + "]"
}

// Problems is everything that is wrong, sorted by file, line and column. Empty
// means that nothing is.
type Problems []Problem

// maxProblems bounds a report: past this many, one more says how many there
// are beyond it.
const maxProblems = 200

// Error lists every problem on a line of its own.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there is no problem, and otherwise p as the cause of a refusal
// for the caller's eyes.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return lockkeeper.Invalid.Errorf("catalog_invalid", "%s", p.Error()).
		WithNext("Mend every line above and try again.").WithCause(p)
}

// A collector gathers problems in bounded memory.
type collector struct {
	list     Problems
	count    int
	compared int // words, for suggestions
}

// maxKept is how many problems are kept for sorting before only their number
// is.
const maxKept = 20 * maxProblems

func (c *collector) add(p Problem) {
	c.count++
	if len(c.list) < maxKept {
		c.list = append(c.list, p)
	}
}

// sorted is the report: by file, line and column, at most maxProblems of them.
func (c *collector) sorted() Problems {
	if c.count == 0 {
		return nil
	}
	p := c.list
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Sentence, b.Sentence))
	})
	if c.count > maxProblems {
		last := p[maxProblems-1]
		p = append(p[:maxProblems:maxProblems], Problem{File: last.File, Line: last.Line, Column: last.Column,
			Code: "more_problems", Sentence: fmt.Sprintf("There are %d problems more.", c.count-maxProblems),
			Mend: "Mend these first."})
	}
	return p
}
