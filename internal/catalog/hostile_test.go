package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// hostile are inputs that try to cost more than they are long, each with the
// code that refuses it ("" where any will do).
func hostile() map[string]struct{ text, code string } {
	fill := func(s string, bytes int) string { return strings.Repeat(s, bytes/len(s)) }
	const doc, file = maxDocumentBytes - 1024, maxFileBytes - 1024
	laughs := new(strings.Builder)
	laughs.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 30; i++ {
		ref := fmt.Sprintf("*a%d", i-1)
		fmt.Fprintf(laughs, "a%d: &a%d [%s]\n", i, i, strings.Join([]string{ref, ref, ref, ref, ref, ref, ref, ref, ref, ref}, ","))
	}
	return map[string]struct{ text, code string }{
		"50 MB":              {fill("a: b\n", 50<<20), "file_too_large"},
		"billion laughs":     {laughs.String(), ""},
		"alias of itself":    {"a: &a [*a]\n", ""},
		"flow 10,000 deep":   {strings.Repeat("[", 10_000), "too_deep"},
		"flow without end":   {fill("[", doc), "too_deep"},
		"maps without end":   {fill("{a: ", doc), "too_deep"},
		"block 10,000 deep":  {strings.Repeat("- ", 10_000) + "x", "too_deep"},
		"block without end":  {fill("- ", doc), "too_deep"},
		"indented deeper":    {deeper(300), "too_deep"},
		"question marks":     {fill("? ", doc), "too_deep"},
		"closing brackets":   {fill("]", doc), ""},
		"colons":             {fill("a: ", doc), ""},
		"long key":           {fill("a", doc) + ": b", ""},
		"long plain text":    {"kind: Project\nname: " + fill("a b ", doc), "value_too_long"},
		"long quoted text":   {"kind: Project\nname: \"" + fill(`\x41`, doc) + "\"", "value_too_long"},
		"never closed quote": {"kind: \"" + fill("a\\\n", doc/2), ""},
		"many values":        {"[" + fill("a,", doc) + "]", "document_too_large"},
		"many empty values":  {fill("- \n", doc), "document_too_large"},
		"many comments":      {"kind: Project\n" + fill("#\n", doc/4) + "name: a\nx: y", ""},
		"wide comments":      {"kind: Project\n" + fill("# "+strings.Repeat("x", 98)+"\n", doc) + "x: y", ""},
		"comments between":   {"kind: Group\nname: g\nusers:\n" + fill("# c\n- u\n", 300_000), ""},
		"many documents":     {fill("---\na\n", file), "too_many_documents"},
		"many ends":          {fill("...\n", doc/8), ""},
		"documents by dots":  {fill("a\n...\n", doc/8), ""},
		"many anchors":       {fill("&a ", doc), ""},
		"many tags":          {fill("!!a ", doc), ""},
		"many directives":    {fill("%TAG !a! a\n", doc), ""},
		"many duplicates":    {fill("a: b\n", doc/4), "duplicate_key"},
		"many unknown":       {"kind: Project\n" + unknown(20_000), "unknown_field"},
		"many dangling":      {"kind: Group\nname: g\nusers:\n" + dangling(30_000), "unknown_user"},
		"spaces":             {fill(" ", file), ""},
		"lines":              {fill("\n", file), ""},
		"tabs":               {fill("\t", doc), ""},
		"NUL":                {"kind: Project\nname: a\x00", "control_character"},
		"not UTF-8":          {"kind: Project\nname: \xff", "not_utf8"},
		"UTF-16":             {"\xff\xfek\x00i\x00", "not_utf8"},
		"surrogate":          {"name: \xed\xa0\x80", "not_utf8"},
		"reordering":         {"kind: Project # \u202e\nname: a", "hidden_character"},
		"odd line end":       {"kind: Project\u2028name: a", "line_end_unfit"},
		"old line end":       {"kind: Project\rname: a\r", "line_end_unfit"},
	}
}

func deeper(n int) string {
	b := new(strings.Builder)
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func unknown(n int) string {
	b := new(strings.Builder)
	for i := range n {
		fmt.Fprintf(b, "titel%d: x\n", i)
	}
	return b.String()
}

func dangling(n int) string {
	b := new(strings.Builder)
	for i := range n {
		fmt.Fprintf(b, "  - user-%d\n", i)
	}
	return b.String()
}

// TestHostileInput reads each hostile text as YAML and as JSON (invariant 14). The bound on the
// time is far above what each takes, so that a busy machine does not fail it,
// and far below what an unbounded reader would take.
func TestHostileInput(t *testing.T) {
	for name, h := range hostile() {
		for _, ending := range []string{".yaml", ".json"} {
			t.Run(name+ending, func(t *testing.T) {
				start := time.Now()
				c, problems := Read([]File{{"x" + ending, []byte(h.text)}})
				if took := time.Since(start); took > 15*time.Second {
					t.Errorf("took %s", took)
				}
				if c != nil || len(problems) == 0 || len(problems) > maxProblems+1 {
					t.Fatalf("catalog %v, %d problems", c != nil, len(problems))
				}
				if ending == ".yaml" && h.code != "" && problems[0].Code != h.code {
					t.Errorf("first problem is %.300s, want %s", problems[0], h.code)
				}
				for _, p := range problems {
					if len(p.String()) > 2000 || strings.ContainsRune(p.String(), '\x00') {
						t.Errorf("a problem has %d bytes: %.200q", len(p.String()), p.String())
					}
				}
			})
		}
	}
}

// TestBoundsOfAllFiles counts all files of a folder together (invariant 14).
func TestBoundsOfAllFiles(t *testing.T) {
	var files []File
	for i := range 6 {
		files = append(files, File{fmt.Sprint(i, ".yaml"), bytes.Repeat([]byte("# nothing at all\n"), 200_000)})
	}
	if _, p := Read(files); len(p) == 0 || p[len(p)-1].Code != "files_too_large" {
		t.Errorf("got %v, want files_too_large", p)
	}
	var small []File
	for i := range maxDocuments + 1 {
		small = append(small, File{fmt.Sprint(i, ".yaml"), fmt.Appendf(nil, "kind: Project\nname: p%d", i)})
	}
	if _, p := Read(small); len(p) != 1 || p[0].Code != "too_many_documents" {
		t.Errorf("got %v, want too_many_documents", p)
	}
	if c, p := Read(small[:maxDocuments]); p != nil || len(c.Documents()) != maxDocuments {
		t.Errorf("got %v, want none", p)
	}
	if _, p := Read(nil); len(p) != 1 || p[0].Code != "nothing_read" {
		t.Errorf("got %v, want nothing_read", p)
	}
}

// TestSecretsAreNotRepeated puts a secret in every place that a document has and
// looks for it in everything that Read says.
func TestSecretsAreNotRepeated(t *testing.T) {
	text := string(base(t).Data)
	for _, secret := range []string{"ghp_0123456789abcdefghijABCDEFGHIJ012345", "AKIAIOSFODNN7EXAMPLE", "glpat-abcdefghij0123456789",
		"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", "Password=hunter2;x", "https://ann:hunter2@host", "mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2t", "Zk3Qp9Lx7Rt2Wm5Vb8Nc4Hj6Ys1Dg0FaUeOi"} {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			for _, changed := range places(line, secret) {
				lines[i] = changed
				c, problems := Read([]File{{"x.yaml", []byte(strings.Join(lines, "\n"))}})
				lines[i] = line
				if c != nil {
					t.Errorf("line %d, %q was accepted", i+1, changed)
				}
				for _, p := range problems {
					if strings.Contains(fmt.Sprintf("%+v", p), secret) {
						t.Errorf("line %d repeats the secret: %s", i+1, p)
					}
				}
			}
		}
	}
}

// places are the line with the secret as value and as key.
func places(line, secret string) []string {
	key, _, ok := strings.Cut(line, ": ")
	if !ok || strings.HasPrefix(line, "#") || strings.Contains(line, "{") {
		return nil
	}
	lead := key[:len(key)-len(strings.TrimLeft(key, " -"))]
	out := []string{lead + secret + ": x"}
	if field := strings.TrimLeft(key, " -"); field != "organisation" && field != "repository" && field != "id" {
		out = append(out, key+": "+secret)
	}
	return out
}
