package catalog

import (
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// commentsOf reads the comments of the types of resources and of their fields.
func commentsOf(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range []string{"resource.go", "directory.go", "resource_provisioner.go", "resource_evidence.go", "resource_call.go", "resource_outside.go", "resource_metrics.go", "resource_change.go"} {
		readComments(t, file, out)
	}
	return out
}

func readComments(t *testing.T, file string, out map[string]string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	flat := func(groups ...*ast.CommentGroup) string {
		var parts []string
		for _, g := range groups {
			parts = append(parts, strings.Fields(g.Text())...)
		}
		return strings.Join(parts, " ")
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			ts := spec.(*ast.TypeSpec)
			s, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			if text := flat(g.Doc); text != "" {
				out[ts.Name.Name] = text
			}
			for _, field := range s.Fields.List {
				if text := flat(field.Doc, field.Comment); text != "" && len(field.Names) == 1 {
					out[ts.Name.Name+"."+field.Names[0].Name] = text
				}
			}
		}
	}
}

func TestSchemaComments(t *testing.T) {
	want := commentsOf(t)
	if flag.Lookup("update").Value.String() == "true" {
		b, err := json.MarshalIndent(want, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("schema_comments.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, comments()); d != "" {
		t.Errorf("schema_comments.json is not what the resources say; go test -update rewrites it (-want +got):\n%s", d)
	}
}

// Every document that Read takes fits the schema, and a field that the schema
// does not have is one that Read refuses.
func TestSchemaFitsDocuments(t *testing.T) {
	schema := Schema()
	definitions := schema["$defs"].(map[string]any)
	then := map[string]map[string]any{}
	for _, b := range schema["allOf"].([]any) {
		object := b.(map[string]any)["then"].(map[string]any)
		then[object["properties"].(map[string]any)["kind"].(map[string]any)["const"].(string)] = object
	}
	var fit func(path string, v any, s map[string]any)
	fit = func(path string, v any, s map[string]any) {
		if ref, ok := s["$ref"].(string); ok {
			s = definitions[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		switch v := v.(type) {
		case map[string]any:
			properties := s["properties"].(map[string]any)
			for k, x := range v {
				p, ok := properties[k].(map[string]any)
				if !ok {
					t.Errorf("the schema has no %s.%s", path, k)
					continue
				}
				fit(path+"."+k, x, p)
			}
			for _, k := range s["required"].([]string) {
				if _, ok := v[k]; !ok {
					t.Errorf("%s.%s is required by the schema, and Read takes it without", path, k)
				}
			}
		case []any:
			for _, x := range v {
				fit(path+"[]", x, s["items"].(map[string]any))
			}
		case string:
			if values, ok := s["enum"].([]string); ok && !strings.Contains(" "+strings.Join(values, " ")+" ", " "+v+" ") {
				t.Errorf("%s: %q is not one of %v", path, v, values)
			}
		}
	}
	n := 0
	for _, d := range mustRead(t, base(t), File{"x.yaml", []byte(strictRules)}).Documents() {
		var v map[string]any
		if err := json.Unmarshal(d.Data, &v); err != nil {
			t.Fatal(err)
		}
		fit(d.Key.String(), v, then[string(d.Key.Kind)])
		n++
	}
	if n < 20 {
		t.Errorf("only %d documents were compared", n)
	}
}
