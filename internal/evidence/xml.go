package evidence

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxAttributes bounds the attributes of one element.
const maxAttributes = 64

// A visitor is told what a document of XML holds, in its order.
type visitor interface {
	start(x *walker, e xml.StartElement) error
	end(x *walker, name string) error
	text(x *walker, data []byte) error
}

// A walker goes through XML: one root, no deeper than MaxDepth, no entities but the
// five of XML itself, and no DTD of its own. A DOCTYPE that only names one is let
// pass, because Cobertura and JaCoCo write it; it is never fetched.
type walker struct {
	dec   *xml.Decoder
	path  []string // names of the open elements
	items int
}

func newWalker(content []byte) *walker {
	dec := xml.NewDecoder(bytes.NewReader(content))
	dec.Entity = map[string]string{}
	dec.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if c := strings.ToLower(charset); c == "us-ascii" || c == "ascii" {
			return in, nil // part of UTF-8, which the content was checked for
		}
		return nil, fmt.Errorf("the encoding %.40q is not read; write it as UTF-8", charset)
	}
	return &walker{dec: dec}
}

func (x *walker) where() string {
	line, _ := x.dec.InputPos()
	return fmt.Sprintf("line %d, /%s", line, strings.Join(x.path, "/"))
}

func (x *walker) fail(code, format string, args ...any) *lockkeeper.Refusal {
	return refuse(code, format, args...).WithField(x.where())
}

// parent is the name of the element that holds the innermost open one.
func (x *walker) parent() string {
	if len(x.path) < 2 {
		return ""
	}
	return x.path[len(x.path)-2]
}

func (x *walker) item() error {
	if x.items++; x.items > MaxItems {
		return x.fail(codeTooLarge, "The document has more than %d entries.", MaxItems)
	}
	return nil
}

// walk goes through the whole document.
func (x *walker) walk(v visitor) error {
	for roots := 0; ; {
		token, err := x.dec.Token()
		if errors.Is(err, io.EOF) && roots == 1 {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return x.fail(codeUnreadable, "The document has no element.")
		}
		if err != nil {
			return x.syntax(err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(x.path) == 0 {
				roots++
			}
			if roots > 1 {
				return x.fail(codeUnreadable, "The document has more than one root.")
			}
			err = x.open(t, v)
		case xml.EndElement:
			err = v.end(x, t.Name.Local)
			x.path = x.path[:len(x.path)-1]
		case xml.CharData:
			err = x.chars(t, v)
		case xml.Directive:
			err = x.directive(t)
		}
		if err != nil {
			return err
		}
	}
}

func (x *walker) syntax(err error) error {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return x.fail(codeUnreadable, "The document is not XML: %.200s.", syntax.Msg)
	}
	return x.fail(codeUnreadable, "The document is not XML: %.200s.", strings.TrimPrefix(err.Error(), "xml: "))
}

func (x *walker) open(e xml.StartElement, v visitor) error {
	if len(x.path) >= MaxDepth {
		return x.fail(codeTooLarge, "The document nests deeper than %d.", MaxDepth)
	}
	x.path = append(x.path, e.Name.Local)
	if len(e.Attr) > maxAttributes {
		return x.fail(codeTooLarge, "An element has more than %d attributes.", maxAttributes)
	}
	for i, a := range e.Attr {
		for _, b := range e.Attr[:i] {
			if a.Name == b.Name {
				return x.fail(codeUnreadable, "The attribute %.80q stands twice in one element.", a.Name.Local)
			}
		}
	}
	return v.start(x, e)
}

func (x *walker) chars(data []byte, v visitor) error {
	if len(x.path) > 0 {
		return v.text(x, data)
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return x.fail(codeUnreadable, "There is text outside the root.")
	}
	return nil
}

func (x *walker) directive(d []byte) error {
	if len(x.path) == 0 && bytes.HasPrefix(d, []byte("DOCTYPE")) && !bytes.ContainsAny(d, "[]<>") {
		return nil
	}
	return x.fail(codeUnreadable, "The document defines a DTD or entities of its own.").
		WithNext("Leave the DTD out; no evidence needs one.")
}

// attr is an attribute without a namespace.
func attr(e xml.StartElement, name string) (string, bool) {
	for _, a := range e.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value, true
		}
	}
	return "", false
}

// count reads an attribute that is a whole number from 0; -1 where it is absent.
func (x *walker) count(e xml.StartElement, name string) (int64, error) {
	s, there := attr(e, name)
	if !there || s == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return 0, x.fail(codeUnreadable, "The attribute %s must be a whole number from 0, but is %.40q.", name, s)
	}
	return int64(n), nil
}

// rootOf is the name of the root of XML.
func rootOf(content []byte) (xml.Name, error) {
	r := &rootName{}
	if err := newWalker(content).walk(r); err != nil && !errors.Is(err, errRoot) {
		return xml.Name{}, err
	}
	return r.name, nil
}

var errRoot = errors.New("the root was found")

type rootName struct{ name xml.Name }

func (r *rootName) start(_ *walker, e xml.StartElement) error { r.name = e.Name; return errRoot }
func (r *rootName) end(*walker, string) error                 { return nil }
func (r *rootName) text(*walker, []byte) error                { return nil }

// isXML says whether the content means to be XML.
func isXML(content []byte) bool {
	content = bytes.TrimLeft(content, " \t\r\n")
	return len(content) > 0 && content[0] == '<'
}

// isJSON says whether the content means to be JSON.
func isJSON(content []byte) bool {
	content = bytes.TrimLeft(content, " \t\r\n")
	return len(content) > 0 && (content[0] == '{' || content[0] == '[')
}

// unknownFormat refuses what is of no format that is read for the kind.
func unknownFormat(kind Kind, what, formats string) error {
	return refuse(codeFormat, "The document is of no format that is read as %s: %s.", kind, what).WithNext("What is read: %s.", formats)
}
