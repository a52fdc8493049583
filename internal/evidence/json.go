package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockkeeper/lockkeeper"
)

// maxMembers bounds the members of one object.
const maxMembers = 100_000

// maxInterned bounds the names of members that are kept to be shared.
const maxInterned = 1024

// A cursor reads JSON where it lies: what nobody asks for is skipped and never
// copied. The whole text is checked before anything is read, so that the methods
// only meet what the grammar of RFC 8259 allows; members are matched exactly, and a
// member that stands twice is refused wherever it stands. A null is read as the
// zero value, because that is how many tools write what is absent.
type cursor struct {
	data  []byte
	pos   int
	path  []step            // where pos is; its length is the depth
	keys  []string          // the members read so far of the open objects, innermost last
	names map[string]string // shared names of members, at most maxInterned
	items int               // counted by item
}

type step struct {
	key   string
	index int // of an array, where key is empty and isItem
	item  bool
}

// newCursor refuses content that is not one JSON object.
func newCursor(content []byte) (*cursor, error) {
	c := &cursor{data: content, names: map[string]string{}}
	if !json.Valid(content) {
		var syntax *json.SyntaxError
		var raw json.RawMessage
		where, what := "", "it ends too early"
		if err := json.Unmarshal(content, &raw); errors.As(err, &syntax) {
			where, what = lineOf(content, int(syntax.Offset)-1), syntax.Error()
		}
		return nil, refuse(codeUnreadable, "The document is not JSON: %s.", what).WithField(where)
	}
	if c.peek() != '{' {
		return nil, c.wrong("an object")
	}
	return c, nil
}

// lineOf names the line of a place.
func lineOf(content []byte, pos int) string {
	pos = max(0, min(pos, len(content)))
	return fmt.Sprintf("line %d", 1+bytes.Count(content[:pos], []byte("\n")))
}

func (c *cursor) where() string {
	var b strings.Builder
	b.WriteString(lineOf(c.data, c.pos))
	b.WriteString(", $")
	for _, s := range c.path {
		if s.item {
			fmt.Fprintf(&b, "[%d]", s.index)
		} else {
			fmt.Fprintf(&b, ".%.60s", s.key)
		}
	}
	return b.String()
}

func (c *cursor) fail(code, format string, args ...any) *lockkeeper.Refusal {
	return refuse(code, format, args...).WithField(c.where())
}

func (c *cursor) wrong(want string) error {
	return c.fail(codeUnreadable, "This must be %s, but is %s.", want, whatIs(c.peek()))
}

func whatIs(b byte) string {
	switch b {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a text"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// peek is the first byte of what comes next.
func (c *cursor) peek() byte {
	for c.pos < len(c.data) {
		switch c.data[c.pos] {
		case ' ', '\t', '\n', '\r':
			c.pos++
		default:
			return c.data[c.pos]
		}
	}
	return 0
}

// null steps over a null and says whether there was one.
func (c *cursor) null() bool {
	if c.peek() != 'n' {
		return false
	}
	c.pos += len("null")
	return true
}

// into goes one level down and reads what f leaves unread.
func (c *cursor) into(s step, f func() error) error {
	if len(c.path) >= MaxDepth {
		return c.fail(codeTooLarge, "The document nests deeper than %d.", MaxDepth)
	}
	c.path = append(c.path, s)
	c.peek()
	before := c.pos
	if err := f(); err != nil {
		return err
	}
	if c.pos == before {
		if err := c.skip(); err != nil {
			return err
		}
	}
	c.path = c.path[:len(c.path)-1]
	return nil
}

// object calls f at the value of every member; f may leave it unread.
func (c *cursor) object(f func(key string) error) error {
	if c.null() {
		return nil
	}
	if c.peek() != '{' {
		return c.wrong("an object")
	}
	c.pos++
	start, many := len(c.keys), map[string]struct{}(nil)
	for c.peek() != '}' {
		if c.data[c.pos] == ',' {
			c.pos++
			c.peek()
		}
		key := c.intern(c.raw())
		c.peek()
		c.pos++ // the colon
		if c.seen(start, key, &many) {
			return c.fail(codeUnreadable, "The member %.80q stands twice in one object.", key)
		}
		if len(c.keys)-start > maxMembers {
			return c.fail(codeTooLarge, "An object has more than %d members.", maxMembers)
		}
		if err := c.into(step{key: key}, func() error { return f(key) }); err != nil {
			return err
		}
	}
	c.pos++
	clear(c.keys[start:])
	c.keys = c.keys[:start]
	return nil
}

// seen notes a member and says whether it was there before. Few members are
// compared one by one, many by a map.
func (c *cursor) seen(start int, key string, many *map[string]struct{}) bool {
	const few = 16
	open := c.keys[start:]
	if *many == nil && len(open) == few {
		*many = make(map[string]struct{}, 4*few)
		for _, k := range open {
			(*many)[k] = struct{}{}
		}
	}
	if *many != nil {
		if _, twice := (*many)[key]; twice {
			return true
		}
		(*many)[key] = struct{}{}
	} else {
		for _, k := range open {
			if k == key {
				return true
			}
		}
	}
	c.keys = append(c.keys, key)
	return false
}

// array calls f at every element; f may leave it unread.
func (c *cursor) array(f func() error) error {
	if c.null() {
		return nil
	}
	if c.peek() != '[' {
		return c.wrong("an array")
	}
	c.pos++
	for i := 0; c.peek() != ']'; i++ {
		if c.data[c.pos] == ',' {
			c.pos++
		}
		if err := c.into(step{index: i, item: true}, f); err != nil {
			return err
		}
	}
	c.pos++
	return nil
}

// item counts what a document has many of.
func (c *cursor) item() error {
	if c.items++; c.items > MaxItems {
		return c.fail(codeTooLarge, "The document has more than %d entries.", MaxItems)
	}
	return nil
}

func (c *cursor) skip() error {
	switch c.peek() {
	case '{':
		return c.object(func(string) error { return nil })
	case '[':
		return c.array(func() error { return nil })
	case '"':
		c.raw()
	default:
		c.scalar()
	}
	return nil
}

// again reads once more what stood at pos, under the member key.
func (c *cursor) again(pos int, key string, f func() error) error {
	back := c.pos
	c.pos = pos
	err := c.into(step{key: key}, f)
	if err == nil {
		c.pos = back
	}
	return err
}

// raw steps over a text and is its bytes with the quotes.
func (c *cursor) raw() []byte {
	start := c.pos
	for c.pos++; c.data[c.pos] != '"'; c.pos++ {
		if c.data[c.pos] == '\\' {
			c.pos++
		}
	}
	c.pos++
	return c.data[start:c.pos]
}

// scalar steps over a number, true, false or null.
func (c *cursor) scalar() string {
	start := c.pos
	for c.pos < len(c.data) && !strings.ContainsRune(" \t\r\n,]}", rune(c.data[c.pos])) {
		c.pos++
	}
	return string(c.data[start:c.pos])
}

// decoded is a text of JSON without its quotes and escapes. Half a surrogate pair
// becomes U+FFFD.
func decoded(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(inner)
	}
	return s
}

func (c *cursor) intern(raw []byte) string {
	if s, known := c.names[string(raw)]; known {
		return s
	}
	s := decoded(raw)
	if len(c.names) < maxInterned {
		c.names[string(raw)] = s
	}
	return s
}

// text reads a text; "" for null.
func (c *cursor) text(into *string) error {
	if c.null() {
		return nil
	}
	if c.peek() != '"' {
		return c.wrong("a text")
	}
	*into = decoded(c.raw())
	return nil
}

// short reads a text that is kept, cut to MaxText.
func (c *cursor) short(into *string) error {
	var s string
	if err := c.text(&s); err != nil {
		return err
	}
	*into = clip(s)
	return nil
}

// texts reads an array of texts that are kept.
func (c *cursor) texts(into *[]string) error {
	return c.array(func() error {
		var s string
		if err := c.short(&s); err != nil {
			return err
		}
		if len(*into) >= MaxFindings {
			return c.fail(codeTooLarge, "The list has more than %d entries.", MaxFindings)
		}
		*into = append(*into, s)
		return nil
	})
}

// time reads an instant; zero for what is not one.
func (c *cursor) time(into *lockkeeper.Moment) error {
	var s string
	err := c.text(&s)
	if m := moment(s); !m.IsZero() {
		*into = m
	}
	return err
}

// truth reads true or false.
func (c *cursor) truth(into *bool) error {
	if c.null() {
		return nil
	}
	if b := c.peek(); b != 't' && b != 'f' {
		return c.wrong("true or false")
	}
	*into = c.scalar() == "true"
	return nil
}

// number reads a number, or a text that is one.
func (c *cursor) number(into *float64) error {
	if c.null() {
		return nil
	}
	start, text := c.pos, ""
	switch b := c.peek(); {
	case b == '"':
		text = decoded(c.raw())
	case b == '-' || b >= '0' && b <= '9':
		text = c.scalar()
	default:
		return c.wrong("a number")
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != f || strings.ContainsAny(text, "xXpP_") || strings.ContainsAny(text, "iI") {
		c.pos = start
		return c.fail(codeUnreadable, "The number %.40q cannot be read.", text)
	}
	*into = f
	return nil
}

// index reads a whole number from -1.
func (c *cursor) index(into *int) error {
	f := float64(*into)
	start := c.pos
	if err := c.number(&f); err != nil {
		return err
	}
	if f < -1 || f > MaxDocument || f != float64(int(f)) {
		c.pos = start
		return c.fail(codeUnreadable, "This must be a whole number from -1 to %d.", MaxDocument)
	}
	*into = int(f)
	return nil
}

// members are the names of the document's own members, with a text each where it
// is one: by what a format is told from another.
func (c *cursor) members() (map[string]string, error) {
	found := map[string]string{}
	err := c.object(func(key string) error {
		found[key] = ""
		if c.peek() != '"' {
			return nil
		}
		var s string
		err := c.short(&s)
		found[key] = s
		return err
	})
	c.pos = 0
	return found, err
}
